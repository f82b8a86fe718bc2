"""SDKs of the same family as OpenAI's: one upstream call for two identical calls, equal results."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from standin import Upstream
from working import count

import cachewrap
from cachewrap import Cache, CacheWarning, ConfigurationError
from cachewrap.telemetry import hints
from sdk.matrix import each
from sdk.openai.asking import Colour, anatomy, http

PACKAGES = {
    "groq": ("Groq", "AsyncGroq"),
    "together": ("Together", "AsyncTogether"),
    "cerebras.cloud.sdk": ("Cerebras", "AsyncCerebras"),
}
"""Each SDK and the names of its clients."""
KNOWN = ("groq", "together")
"""Those that are known by name."""


@dataclass(frozen=True)
class Shape:
    """One way to call one SDK: its package, the method, and the arguments of the n-th variant."""

    package: str
    method: str
    ask: Callable[[int], dict[str, Any]]
    colours: ClassVar[tuple[str, ...]] = ("sync", "async")

    @property
    def name(self) -> str:
        streamed = "-stream" if self.ask(0).get("stream") else ""
        return f"{self.package}-{self.method}{streamed}"


def chat(n: int) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": f"Question {n}"}]}


def streamed(n: int) -> dict[str, Any]:
    return {**chat(n), "stream": True}


def embed(n: int) -> dict[str, Any]:
    return {"model": "m", "input": f"text {n}"}


def transcribe(n: int) -> dict[str, Any]:
    return {"model": "m", "file": ("a.wav", b"RIFF" + bytes([n]))}


CHAT = "chat.completions.create"
SHAPES = (
    *(Shape(package, CHAT, ask) for package in PACKAGES for ask in (chat, streamed)),
    *(Shape(package, "chat.completions.with_raw_response.create", chat) for package in KNOWN),
    *(Shape(package, "embeddings.create", embed) for package in KNOWN),
    Shape("groq", "audio.transcriptions.create", transcribe),
    Shape("together", "images.generate", lambda n: {"model": "m", "prompt": f"A cat {n}"}),
    Shape(
        "together",
        "rerank.create",
        lambda n: {"model": "m", "query": f"q {n}", "documents": ["a", "b"]},
    ),
    Shape("together", "completions.create", lambda n: {"model": "m", "prompt": f"Go {n}"}),
    Shape(
        "cerebras.cloud.sdk", "completions.create", lambda n: {"model": "m", "prompt": f"Go {n}"}
    ),
)


def make(colour: Colour, package: str, up: Upstream, **options: Any) -> Any:
    module = pytest.importorskip(package)
    options = {"max_retries": 0, **options}
    if package.startswith("cerebras"):
        options["warm_tcp_connection"] = False
    cls = getattr(module, PACKAGES[package][colour.name == "async"])
    client = cls(api_key="top-secret", base_url=up.root_url, **options)
    colour._clients.append(client)
    return client


async def aseen(result: Any) -> Any:
    result = await result if inspect.isawaitable(result) else result
    if hasattr(result, "__aiter__"):
        return [anatomy(item) async for item in result], http(result.response)
    if hasattr(result, "http_response"):
        value = result.parse()
        return anatomy(await value if inspect.isawaitable(value) else value), http(
            result.http_response
        )
    return anatomy(result)


def seen(result: Any) -> Any:
    if hasattr(result, "response") and hasattr(result, "__next__"):
        return [anatomy(item) for item in result], http(result.response)
    if hasattr(result, "http_response"):
        return anatomy(result.parse()), http(result.http_response)
    return anatomy(result)


def ask(colour: Colour, client: Any, shape: Shape, n: int = 1, **more: Any) -> Any:
    """What a call shows, without the mark of a hit."""
    method = client
    for name in shape.method.split("."):
        method = getattr(method, name)
    result = method(**shape.ask(n), **more)
    found = seen(result) if colour.name == "sync" else colour.wait(aseen(result))
    if isinstance(found, tuple):
        found[1].pop("mark")
    return found


@dataclass
class Outcome:
    """What the calls of one shape in one colour showed.

    Args:
        miss: the first call in a block.
        hit: an identical one.
        calls: how many calls reached upstream at each step.
        stored: how many answers were stored, where `when` takes all of them and where none.
        own: two identical calls with a cache of their own, where the SDK is known by name.
    """

    miss: Any
    hit: Any
    calls: dict[str, int]
    stored: dict[bool, int]
    own: list[Any]


@pytest.fixture(scope="module")
def outcome(request: pytest.FixtureRequest) -> Outcome:
    """All calls of one shape, made once."""
    shape, name = request.param
    package, calls, stored, own = shape.package, {}, {}, []
    with Upstream() as up, closing(Colour(name)) as colour:
        client = make(colour, package, up)

        @contextmanager
        def counted(step: str) -> Iterator[None]:
            before = up.calls
            yield
            calls[step] = up.calls - before

        with cachewrap.patch(package):
            with Cache.memory():
                with counted("twice"):
                    miss, hit = ask(colour, client, shape), ask(colour, client, shape)
                with counted("another variant"):
                    ask(colour, client, shape, 2)
            if package in KNOWN:
                alone = Cache.memory()
                with counted("twice with its own cache"):
                    own = [ask(colour, client, shape, cache=alone) for _ in range(2)]
                with counted("without a seed"):
                    ask(colour, client, shape, cache_seed=None)
        for stores in (True, False):
            cache = Cache.memory()
            with (
                counted(f"twice, when {stores}"),
                cachewrap.patch(package, when=lambda answer: stores),
                cache,
            ):
                for _ in range(2):
                    ask(colour, client, shape)
            stored[stores] = cache.stats.stored
    return Outcome(miss, hit, calls, stored, own)


@each(SHAPES)
def test_a_hit_equals_its_miss_and_makes_no_call(outcome: Outcome) -> None:
    assert (outcome.calls["twice"], outcome.hit) == (1, outcome.miss)


@each(SHAPES)
def test_two_different_calls_make_two_upstream_calls(outcome: Outcome) -> None:
    assert (outcome.calls["twice"], outcome.calls["another variant"]) == (1, 1)


@each(shape for shape in SHAPES if shape.package in KNOWN)
def test_a_call_can_bring_its_own_cache(outcome: Outcome) -> None:
    first, second = outcome.own
    assert (outcome.calls["twice with its own cache"], second) == (1, first)
    assert outcome.calls["without a seed"] == 1


@each(SHAPES)
@pytest.mark.parametrize("stores", [True, False])
def test_when_says_what_is_stored(outcome: Outcome, stores: bool) -> None:
    found = outcome.calls[f"twice, when {stores}"], outcome.stored[stores]
    assert found == ((1, 1) if stores else (2, 0))


@pytest.mark.parametrize("package", PACKAGES)
def test_sync_and_async_callers_share_their_answers(
    up: Upstream, cache: Cache, package: str
) -> None:
    with cachewrap.patch(package), cache:
        for name in ("sync", "async"):
            colour = Colour(name)
            ask(colour, make(colour, package, up), Shape(package, CHAT, streamed))
            colour.close()
    assert up.calls == 1


@pytest.mark.parametrize("manner", [{"cut_after": 2}, {"error_after": 2}, {"finish": False}])
@pytest.mark.parametrize("package", PACKAGES)
def test_a_stream_that_is_not_whole_is_not_stored(
    up: Upstream, colour: Colour, cache: Cache, package: str, manner: dict[str, Any]
) -> None:
    up.behave(**manner)
    client = make(colour, package, up)
    with cachewrap.patch(package), cache:
        for _ in range(2):
            try:
                ask(colour, client, Shape(package, CHAT, streamed))
            except Exception as error:
                assert "finish" not in manner, error  # noqa: PT017
    assert (up.calls, cache.stats.stored) == (2, 0)


@pytest.mark.parametrize("package", PACKAGES)
def test_an_error_is_raised_and_not_stored(
    up: Upstream, colour: Colour, cache: Cache, package: str
) -> None:
    shape = Shape(package, CHAT, chat)
    client = make(colour, package, up)
    up.fail(500)
    with cachewrap.patch(package), cache:
        with pytest.raises(importlib.import_module(package).InternalServerError):
            ask(colour, client, shape)
        ask(colour, client, shape)
    assert (up.calls, cache.stats.stored) == (2, 1)


@pytest.mark.parametrize("package", KNOWN)
def test_a_hit_is_served_at_the_front_door(
    package: str, cache: Cache, up: Upstream, colour: Colour
) -> None:
    client, shape = make(colour, package, up), Shape(package, "chat.completions.create", chat)
    with cachewrap.patch(package), cache:
        assert count(lambda: ask(colour, client, shape), f"{package}._base_client") <= 6


@pytest.mark.parametrize("package", [*PACKAGES, "openai", "anthropic"])
def test_unpatching_leaves_the_sdk_as_it_was(package: str) -> None:
    client = pytest.importorskip(f"{package}._base_client").SyncAPIClient
    before = vars(client)["request"].__code__
    handle = cachewrap.patch(package)
    assert vars(client)["request"].__code__ is not before
    cachewrap.unpatch(package)
    assert vars(client)["request"].__code__ is before
    assert not handle.active


@pytest.mark.parametrize(
    ("package", "patch"),
    [("groq", cachewrap.patch_groq), ("together", cachewrap.patch_together)],
)
def test_each_patch_of_its_own_takes_when(
    up: Upstream, cache: Cache, colour: Colour, package: str, patch: Any
) -> None:
    client = make(colour, package, up)
    with patch(cache, when=lambda answer: False):
        ask(colour, client, Shape(package, CHAT, chat))
    assert (cache.stats.misses, cache.stats.stored) == (1, 0)


def test_patch_all_patches_every_known_sdk(cache: Cache, up: Upstream) -> None:
    colour = Colour("sync")
    clients = [make(colour, package, up) for package in ("groq", "together")]
    clients.append(colour.client(up))
    with cachewrap.patch_all() as handle:
        with cache:
            for _ in range(2):
                for n, client in enumerate(clients):
                    client.chat.completions.create(**chat(n))
        assert (handle.active, up.calls) == (True, 3)
    with cache:
        clients[0].chat.completions.create(**chat(0))
    assert (handle.active, up.calls) == (False, 4)
    colour.close()


def test_one_hint_names_every_sdk_that_a_block_does_not_reach(
    colour: Colour, cache: Cache, up: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = [colour.client(up), *(make(colour, package, up) for package in KNOWN)]

    def run() -> None:
        with cache:
            for client in clients:
                asked = client.chat.completions.create(**chat(0))
                colour.wait(asked)

    monkeypatch.delenv(hints.SETTING)
    hints.seen.forget()
    try:
        with pytest.warns(CacheWarning) as warned:
            run()
    finally:
        hints.seen.forget()
    (told,) = [str(one.message) for one in warned]
    assert told.startswith("calls of openai and groq and together inside a block were not cached")
    calls = " and ".join(f"`cachewrap.patch_{name}()`" for name in ("openai", "groq", "together"))
    assert f"{calls} before the block" in told


LAZY = """
import sys, cachewrap
from cachewrap import patch
cachewrap.patch_all()
patch("groq")
print(sorted({"openai", "anthropic", "groq", "together"} & sys.modules.keys()))
from groq import Groq
with cachewrap.Cache.memory():
    client = Groq(base_url=sys.argv[1], api_key="k")
    for _ in range(2):
        client.chat.completions.create(model="m", messages=[], cache_seed=7)
"""


def test_patching_imports_nothing_and_waits_for_the_import(up: Upstream) -> None:
    pytest.importorskip("groq")
    command = [sys.executable, "-c", LAZY, up.root_url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout.strip(), up.calls) == ("[]", 1)


@pytest.mark.parametrize(
    ("package", "reason"),
    [("no_such_sdk", "no package 'no_such_sdk'"), ("json", "not of the family")],
)
def test_what_cannot_be_patched_is_an_error(package: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        cachewrap.patch(package)


def test_further_paths_can_be_named(up: Upstream, cache: Cache) -> None:
    colour = Colour("sync")
    client = make(colour, "groq", up)
    with cachewrap.patch("groq", paths=["/v1/conversations"]), cache:
        answers = [client.post("/v1/conversations", cast_to=object, body={}) for _ in range(2)]
    assert (up.calls, answers[0]) == (1, answers[1])
    colour.close()


def test_paths_of_an_sdk_that_is_known_in_full_are_an_error() -> None:
    with pytest.raises(ConfigurationError, match="paths="):
        cachewrap.patch("openai", paths=["x"])


@pytest.mark.parametrize("threads", [True, False])
def test_a_patch_carries_the_block_into_threads_unless_told_not_to(threads: bool) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with cachewrap.patch("openai", threads=threads), Cache.memory(), ThreadPoolExecutor(1) as pool:
        carried = pool.submit(cachewrap.active_cache).result() is not None
    assert carried is threads
