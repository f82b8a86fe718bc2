"""Putting the patch in and taking it out again."""

from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any
from unittest import mock

import openai
import pytest
import wrapt
from openai import OpenAI
from openai._base_client import AsyncAPIClient, SyncAPIClient
from openai.resources.chat.completions import AsyncCompletions, Completions
from standin import Upstream

from cachewrap import threads
from cachewrap.cache import Cache
from cachewrap.errors import ConfigurationError
from cachewrap.sdk.openai import OPENAI, patch_openai, unpatch_openai

MESSAGES: Any = [{"role": "user", "content": "hello"}]
TARGETS = [
    (SyncAPIClient, "request"),
    (SyncAPIClient, "_process_response"),
    (AsyncAPIClient, "request"),
    (AsyncAPIClient, "_process_response"),
    (Completions, "create"),
    (AsyncCompletions, "create"),
]
ORIGINALS = [vars(owner)[name] for owner, name in TARGETS]
CODES = [(function.__code__, dict(vars(function))) for function in ORIGINALS]


def now() -> list[Any]:
    return [vars(owner)[name] for owner, name in TARGETS]


def codes() -> list[Any]:
    return [(function.__code__, dict(vars(function))) for function in now()]


def originals() -> bool:
    return now() == ORIGINALS and codes() == CODES


@pytest.fixture(autouse=True)
def patched() -> Iterator[None]:
    """Each test patches for itself, and leaves the SDK as it was."""
    yield
    unpatch_openai()
    assert originals()


def chat(client: OpenAI, **more: Any) -> Any:
    create: Any = client.chat.completions.create
    return create(model="m", messages=MESSAGES, **more)


def test_unpatching_gives_the_very_originals_back() -> None:
    patch_openai()
    assert now() == ORIGINALS
    assert not any(one[0] is other[0] for one, other in zip(codes(), CODES, strict=True))
    unpatch_openai()
    assert originals()


def test_unpatching_what_is_not_patched_does_nothing() -> None:
    unpatch_openai()
    assert originals()


def test_patching_again_wraps_nothing_again() -> None:
    patch_openai()
    once = codes()
    patch_openai()
    assert codes() == once


def test_the_handle_is_a_block() -> None:
    with patch_openai() as handle:
        assert handle.active
        assert not originals()
    assert not handle.active
    assert originals()


def test_an_inner_handle_leaves_the_outer_one_in_place() -> None:
    outer = patch_openai()
    with patch_openai():
        pass
    assert outer.active
    assert not originals()
    outer.undo()
    outer.undo()
    assert originals()


def test_handles_may_be_undone_in_any_order() -> None:
    one, two = patch_openai(), patch_openai()
    one.undo()
    assert two.active
    assert not originals()
    two.undo()
    assert originals()


def test_unpatching_undoes_every_handle() -> None:
    one, two = patch_openai(), patch_openai()
    unpatch_openai()
    assert (one.active, two.active) == (False, False)


def test_the_default_cache_serves_calls_outside_any_block(up: Upstream, client: OpenAI) -> None:
    with patch_openai(cache=Cache.memory()):
        assert chat(client).id == chat(client).id
    assert chat(client).id != chat(client).id


def test_the_newest_default_counts_and_the_older_one_comes_back(
    up: Upstream, client: OpenAI
) -> None:
    outer, inner = Cache.memory(), Cache.memory()
    with patch_openai(outer):
        with patch_openai(inner), patch_openai():
            chat(client)
        chat(client)
    assert (outer.stats.misses, inner.stats.misses) == (1, 1)


def test_a_block_comes_before_the_default(up: Upstream, client: OpenAI) -> None:
    default, block = Cache.memory(), Cache.memory()
    with patch_openai(default), block:
        chat(client)
    assert (default.stats.misses, block.stats.misses) == (0, 1)


def test_a_default_that_is_no_cache_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="got str"):
        patch_openai("disk")  # type: ignore[arg-type]
    assert originals()


def test_a_missing_target_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(AsyncAPIClient, "_process_response")
    version = openai.__version__
    with pytest.raises(ConfigurationError, match=rf"{version}.*AsyncAPIClient._process_response"):
        patch_openai()
    monkeypatch.undo()
    assert originals()


def test_what_others_wrap_around_the_patch_stays_and_the_patch_in_it_does_nothing(
    up: Upstream, client: OpenAI, cache: Cache
) -> None:
    def theirs(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        return wrapped(*args, **kwargs)

    patch_openai()
    inner = vars(SyncAPIClient)["request"]
    outer = wrapt.FunctionWrapper(inner, theirs)
    SyncAPIClient.request = outer  # type: ignore[method-assign]
    try:
        unpatch_openai()
        assert vars(SyncAPIClient)["request"] is outer
        with cache:
            chat(client)
        assert cache.stats.misses == 0
    finally:
        SyncAPIClient.request = ORIGINALS[0]  # type: ignore[method-assign]


@pytest.mark.parametrize("name", ["request", "_process_response"])
def test_a_patch_that_was_left_in_what_others_wrapped_stays_without_effect(
    up: Upstream, client: OpenAI, name: str
) -> None:
    def theirs(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        return wrapped(*args, **kwargs)

    block, own = Cache.memory(), Cache.memory()
    original = vars(SyncAPIClient)[name]
    patch_openai()
    setattr(SyncAPIClient, name, wrapt.FunctionWrapper(vars(SyncAPIClient)[name], theirs))
    unpatch_openai()
    try:
        with patch_openai(), block:
            for _ in range(2):
                chat(client, cache_seed=None)
            for _ in range(2):
                list(chat(client, stream=True, cache=own))
    finally:
        setattr(SyncAPIClient, name, original)
    assert up.calls == 3
    assert (block.stats.misses, own.stats.misses, own.stats.hits) == (0, 1, 1)


# -- what another tool takes out ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "name"), TARGETS, ids=lambda target: getattr(target, "__name__", target)
)
def test_patching_again_repairs_what_another_tool_put_back(owner: type, name: str) -> None:
    function: Any = vars(owner)[name]
    code = function.__code__
    patch_openai()
    ours = function.__code__
    function.__code__ = code
    patch_openai()
    assert function.__code__ is ours


@pytest.mark.parametrize("first", ["mock", "patch"])
def test_a_mock_that_ends_leaves_the_patch_in_place(
    up: Upstream, client: OpenAI, cache: Cache, first: str
) -> None:
    if first == "patch":
        patch_openai()
    with mock.patch.object(Completions, "create"):
        patch_openai()
        assert isinstance(chat(client), mock.MagicMock)
    patch_openai()
    for _ in range(2):
        chat(client, cache=cache)
    assert (up.calls, cache.stats.hits) == (1, 1)


def test_an_older_attribute_that_comes_back_is_still_patched(
    up: Upstream, client: OpenAI, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patching:
        saved: Any = SyncAPIClient.request
        patching.setattr(SyncAPIClient, "request", lambda *args, **kwargs: saved(*args, **kwargs))
        patch_openai()
    with cache:
        chat(client)
        chat(client)
    assert (up.calls, cache.stats.hits) == (1, 1)


# -- many handles ---------------------------------------------------------------------------------

MANY = 2_000


def held() -> int:
    """How many things the patch of the SDK and that of threads hold."""
    gc.collect()
    return len(OPENAI.patches) + len(OPENAI._dropped) + threads._holders


def test_handles_that_are_dropped_cost_nothing() -> None:
    cache = Cache.memory()
    for _ in range(3):
        patch_openai(cache, when=bool)
        patch_openai()
    before = held()
    tracemalloc.start()
    for _ in range(MANY // 2):
        patch_openai()
        patch_openai(cache, when=bool)
    patch_openai()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held() <= before + 1
    assert size < 50_000
    unpatch_openai()
    assert (held(), OPENAI._topics, OPENAI._permanent) == (0, {}, {})


def test_handles_that_are_kept_cost_each_call_the_same() -> None:
    def steps() -> int:
        taken = 0

        def count(frame: Any, event: str, _: Any) -> None:
            nonlocal taken
            taken += 1

        sys.setprofile(count)
        try:
            kept.append(patch_openai())
        finally:
            sys.setprofile(None)
        return taken

    kept = [patch_openai(), patch_openai()]
    few = steps()
    kept += [patch_openai() for _ in range(2000)]
    assert steps() == few
    for handle in kept:
        handle.undo()
    assert originals()


class TestWhatDroppedHandlesSaid:
    """It holds until all is undone, and a newer one comes before it."""

    def test_the_default_of_one_holds(self, up: Upstream, client: OpenAI) -> None:
        cache = Cache.memory()
        patch_openai(cache)
        patch_openai()
        with patch_openai(Cache.memory()) as newer:
            chat(client)
            assert newer.cache is not None
            assert (newer.cache.stats.misses, cache.stats.misses) == (1, 0)
        chat(client)
        assert cache.stats.misses == 1

    def test_the_newest_default_counts(self, up: Upstream, client: OpenAI) -> None:
        caches = [Cache.memory() for _ in range(3)]
        for cache in caches:
            patch_openai(cache)
        chat(client)
        assert [cache.stats.misses for cache in caches] == [0, 0, 1]

    def test_an_older_one_that_is_kept_does_not_come_back_before_a_newer(
        self, up: Upstream, client: OpenAI
    ) -> None:
        older, newer = Cache.memory(), Cache.memory()
        handle = patch_openai(older)
        patch_openai(newer)
        handle.undo()
        del handle
        patch_openai()
        chat(client)
        assert (older.stats.misses, newer.stats.misses) == (0, 1)

    def test_the_cache_and_the_rule_may_be_those_of_two(self, up: Upstream, client: OpenAI) -> None:
        cache = Cache.memory()
        patch_openai(cache)
        patch_openai(when=lambda answer: False)
        patch_openai()
        for _ in range(2):
            chat(client)
        assert (up.calls, cache.stats.stored) == (2, 0)

    def test_a_kept_one_is_undone_by_itself(self, up: Upstream, client: OpenAI) -> None:
        patch_openai(threads=False)
        handle = patch_openai()
        assert threads._holders == 1
        handle.undo()
        assert threads._holders == 0
        assert not originals()

    def test_a_handle_that_a_loop_holds_is_dropped_as_well(self) -> None:
        for _ in range(5):
            handle: Any = patch_openai()
            handle.itself = handle
        del handle
        gc.collect()
        patch_openai()
        assert len(OPENAI.patches) <= 2


METHODS = ["chat.completions.create", "embeddings.create", "images.edit", "audio.speech.create"]


def method(client: Any, path: str) -> Any:
    for name in path.split("."):
        client = getattr(client, name)
    return client


@pytest.mark.parametrize("path", METHODS)
def test_introspection_sees_the_original(path: str) -> None:
    plain = OpenAI(api_key="k")
    before = method(plain, path)
    told = (inspect.signature(before), before.__name__, before.__doc__, before.__module__)
    with patch_openai():
        after = method(OpenAI(api_key="k"), path)
        assert told == (
            inspect.signature(after),
            after.__name__,
            after.__doc__,
            after.__module__,
        )


@pytest.mark.parametrize("path", METHODS)
def test_whether_it_is_a_coroutine_function_does_not_change(path: str) -> None:
    client = openai.AsyncOpenAI(api_key="k")
    before = inspect.iscoroutinefunction(method(client, path))
    with patch_openai():
        assert inspect.iscoroutinefunction(method(client, path)) is before


def test_a_missing_argument_is_still_the_sdks_own_error(client: OpenAI) -> None:
    create: Any = client.chat.completions.create
    with patch_openai(), pytest.raises(TypeError, match="Missing required arguments"):
        create(model="m")


BEFORE = """
import sys
from cachewrap.cache import Cache
from cachewrap.sdk.openai import patch_openai, unpatch_openai
patch_openai()
assert "openai" not in sys.modules
import openai
client = openai.OpenAI(api_key="k", base_url=sys.argv[1])
def ask(**more):
    return client.chat.completions.create(model="m", messages=[], **more).id
with Cache.memory() as cache:
    assert ask() == ask() == ask(cache=cache)
unpatch_openai()
from openai._base_client import SyncAPIClient
code = SyncAPIClient.request.__code__
patch_openai()
assert code is not SyncAPIClient.request.__code__
unpatch_openai()
assert code is SyncAPIClient.request.__code__
"""

UNPATCHED_BEFORE = """
import sys
from cachewrap.sdk.openai import patch_openai, unpatch_openai
patch_openai()
unpatch_openai()
from openai._base_client import SyncAPIClient
code = SyncAPIClient.request.__code__
patch_openai()
assert code is not SyncAPIClient.request.__code__
unpatch_openai()
assert code is SyncAPIClient.request.__code__
"""


@pytest.mark.parametrize("program", [BEFORE, UNPATCHED_BEFORE], ids=["patched", "unpatched"])
def test_before_the_sdk_is_imported(up: Upstream, program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program, up.base_url], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_clients_made_before_patching(up: Upstream, cache: Cache) -> None:
    async def ask() -> tuple[str, str]:
        client = openai.AsyncOpenAI(api_key="k", base_url=up.base_url)
        create: Any = client.chat.completions.create
        with patch_openai(), cache:
            one, two = [await create(model="m", messages=MESSAGES) for _ in range(2)]
        await client.close()
        return one.id, two.id

    one, two = asyncio.run(ask())
    assert one == two
