"""Other tools that wrap the SDK's methods see every call, hit or miss, whichever came first."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

import openai
import pytest
import wrapt
from openai._base_client import AsyncAPIClient, SyncAPIClient
from openai.resources.chat.completions import AsyncCompletions, Completions
from standin import Upstream

from cachewrap import (
    Cache,
    CacheWarning,
    ReplayMissError,
    no_cache,
    patch_openai,
    unpatch_openai,
)
from cachewrap.telemetry import events
from sdk.openai.asking import Colour
from sdk.openai.shapes import BY_NAME, INSTALLED, chat

pytestmark = pytest.mark.usefixtures("unpatched")

CALLS = 5
Wrap = Callable[[Any, list[str]], Any]


@pytest.fixture
def unpatched() -> Iterator[None]:
    """Each test patches for itself."""
    unpatch_openai()
    yield
    unpatch_openai()


# -- the ways in which tools wrap -----------------------------------------------------------------


def by_wrapt(method: Any, seen: list[str]) -> Any:
    def note(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append("call")
        return wrapped(*args, **kwargs)

    return wrapt.FunctionWrapper(method, note)


def by_wraps(method: Any, seen: list[str]) -> Any:
    @functools.wraps(method)
    def noting(*args: Any, **kwargs: Any) -> Any:
        seen.append("call")
        return method(*args, **kwargs)

    return noting


def by_closure(method: Any, seen: list[str]) -> Any:
    def noting(*args: Any, **kwargs: Any) -> Any:
        seen.append("call")
        return method(*args, **kwargs)

    return noting


WRAPS = [by_wrapt, by_wraps, by_closure]
METHODS = [
    "create",
    "request",
    "post",
    "_process_response",
    "_maybe_override_cast_to",
    "request of the class itself",
]


def place(colour: Colour, method: str) -> tuple[Any, str]:
    """The class that has a method, or is given it, and the method's name."""
    is_async = colour.name == "async"
    if method == "create":
        return (AsyncCompletions if is_async else Completions), "create"
    if method.endswith("itself"):
        return (openai.AsyncOpenAI if is_async else openai.OpenAI), "request"
    return (AsyncAPIClient if is_async else SyncAPIClient), method


@contextmanager
def wrapping(owner: Any, name: str, wrap: Wrap, seen: list[str]) -> Iterator[None]:
    """A tool that wraps a method, and takes its wrapper out as tools do."""
    own = vars(owner).get(name)
    setattr(owner, name, wrap(own or getattr(owner, name), seen))
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


@contextmanager
def posts() -> Iterator[list[str]]:
    """The calls that go through the SDK's own ``post``, which the door spares."""
    seen: list[str] = []

    def note(frame: Any, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_name == "post" and "_base_client" in code.co_filename:
            seen.append("post")

    sys.setprofile(note)
    try:
        yield seen
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("order", ["tool first", "patch first", "after some calls"])
@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("method", METHODS)
def test_a_tool_sees_every_call(
    up: Upstream, client: Any, colour: Colour, cache: Cache, method: str, wrap: Wrap, order: str
) -> None:
    seen: list[str] = []
    owner, name = place(colour, method)
    if order != "tool first":
        patch_openai()
    if order == "after some calls":
        with cache:
            for _ in range(3):
                colour.ask(client, BY_NAME["chat"])
    with wrapping(owner, name, wrap, seen):
        patch_openai()
        with cache:
            # Resources keep the `post` that was there when they were made.
            client = client.with_options()
            asked = [colour.ask(client, BY_NAME["chat"]) for _ in range(CALLS)]
    assert (up.calls, len(seen)) == (1, CALLS)
    assert all(one["value"] == asked[0]["value"] for one in asked)


@pytest.mark.skipif(INSTALLED < (1, 109), reason="this version's models are left to the SDK")
@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("method", METHODS[1:])
def test_when_it_has_gone_the_door_is_used_again(
    up: Upstream, cache: Cache, method: str, wrap: Wrap
) -> None:
    seen: list[str] = []
    client, colour = openai.OpenAI(api_key="k", base_url=up.base_url), Colour("sync")
    with wrapping(*place(colour, method), wrap, seen):
        patch_openai()
        with cache, posts() as long:
            for _ in range(3):
                client.chat.completions.create(**chat(1))
        assert len(long) >= 3
    client = client.with_options()
    with cache:
        client.chat.completions.create(**chat(1))
        with posts() as long:
            client.chat.completions.create(**chat(1))
    assert (long, up.calls) == ([], 1)


@pytest.mark.parametrize("method", ["request", "post", "_process_response"])
def test_what_is_set_on_a_client_sees_every_call(
    up: Upstream, client: Any, colour: Colour, cache: Cache, method: str
) -> None:
    patch_openai()
    seen: list[str] = []
    with cache:
        for _ in range(3):
            colour.ask(client, BY_NAME["chat"])
        setattr(client, method, by_closure(getattr(client, method), seen))
        if method == "post":
            client.chat.completions._post = client.post
        for _ in range(CALLS):
            colour.ask(client, BY_NAME["chat"])
    assert (up.calls, len(seen)) == (1, CALLS)


def test_what_is_set_on_a_resource_sees_every_call(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    patch_openai()
    seen: list[str] = []
    with cache:
        for _ in range(3):
            colour.ask(client, BY_NAME["chat"])
        client.chat.completions._post = by_closure(client.chat.completions._post, seen)
        for _ in range(CALLS):
            colour.ask(client, BY_NAME["chat"])
    assert (up.calls, len(seen)) == (1, CALLS)


@pytest.mark.parametrize("shape", ["chat-stream", "responses", "embeddings"])
@pytest.mark.parametrize("order", ["tool first", "patch first"])
def test_other_calls_are_seen_as_well(
    up: Upstream, client: Any, colour: Colour, cache: Cache, shape: str, order: str
) -> None:
    if shape not in BY_NAME:
        pytest.skip("this version has no such call")
    seen: list[str] = []
    if order == "patch first":
        patch_openai()
    with wrapping(*place(colour, "request"), by_wrapt, seen), cache:
        patch_openai()
        for _ in range(CALLS):
            colour.ask(client, BY_NAME[shape])
    assert (up.calls, len(seen)) == (1, CALLS)


@pytest.mark.parametrize("name", ["__stream__", "_iter_events", "iter_bytes", "decode"])
def test_what_wraps_the_events_of_streams_sees_all_of_them(
    up: Upstream,
    client: Any,
    colour: Colour,
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    is_async = colour.name == "async"
    kind: Any = openai.AsyncStream if is_async else openai.Stream
    if name == "iter_bytes":
        name = "aiter_bytes" if is_async else name
    if not hasattr(kind, name):
        kind = sys.modules["openai._streaming"].SSEDecoder
    own, seen = getattr(kind, name), []

    def noted(*args: Any) -> Any:
        seen.append(name)
        return own(*args)

    def ask() -> int:
        before = len(seen)
        colour.ask(client, BY_NAME["chat-stream"])
        return len(seen) - before

    patch_openai()
    with cache:
        for _ in range(3):
            ask()
        monkeypatch.setattr(kind, name, noted)
        counts = {ask() for _ in range(3)}
    assert len(counts) == 1
    assert counts != {0}
    assert up.calls == 1


# -- a request of a client's own ------------------------------------------------------------------


def sending(kind: type) -> Any:
    """A client whose own ``request`` sends by itself what comes, in each colour."""

    def request(self: Any, cast_to: Any, options: Any, **rest: Any) -> Any:
        built = self._build_request(options)
        return cast_to.construct(**self._client.send(built).json())

    async def arequest(self: Any, cast_to: Any, options: Any, **rest: Any) -> Any:
        built = self._build_request(options)
        response = await self._client.send(built)
        return cast_to.construct(**response.json())

    is_async = issubclass(kind, AsyncAPIClient)
    return type("Own", (kind,), {"request": arequest if is_async else request})


def forwarding(kind: type) -> Any:
    """A client whose own ``request`` ends in the SDK's."""

    def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        return kind.request(self, *args, **kwargs)  # type: ignore[attr-defined]

    return type("Forwarding", (kind,), {"request": request})


def kinds(colour: Colour) -> type:
    return openai.AsyncOpenAI if colour.name == "async" else openai.OpenAI


def made(colour: Colour, up: Upstream, kind: Any) -> Any:
    client = colour.client(up)
    return kind(api_key="k", base_url=up.base_url, http_client=client._client, max_retries=0)


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was warned of yet."""
    monkeypatch.setattr(events, "_told", set())


ASKS: dict[str, Any] = {
    "chat": lambda client: client.chat.completions.create(**chat(1)),
    "chat with a seed": lambda client: client.chat.completions.create(**chat(1), cache_seed=7),
    "parse": lambda client: client.chat.completions.parse(**chat(1)),
    "embeddings": lambda client: client.embeddings.create(model="m", input="a"),
}


@pytest.mark.usefixtures("untold")
@pytest.mark.parametrize("ask", ["chat", "chat with a seed", "embeddings"])
def test_a_call_that_never_arrives_is_told_of(
    up: Upstream, colour: Colour, cache: Cache, ask: str
) -> None:
    patch_openai()
    client = made(colour, up, sending(kinds(colour)))
    with cache:
        with pytest.warns(CacheWarning, match=r"not cached, because Own .*super\(\).request"):
            colour.wait(ASKS[ask](client))
        for _ in range(2):
            colour.wait(ASKS[ask](client))
    assert (up.calls, cache.stats.bypass_reasons) == (3, {"own request": 3})
    assert not [name for sent in up.requests for name in sent.headers if "cachewrap" in name]


@pytest.mark.usefixtures("untold")
def test_it_is_told_of_once(up: Upstream, colour: Colour, cache: Cache) -> None:
    patch_openai()
    client = made(colour, up, sending(kinds(colour)))
    with cache, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(3):
            colour.wait(ASKS["chat"](client))
    assert len(told) == 1


@pytest.mark.usefixtures("untold")
@pytest.mark.parametrize("around", ["no block", "no cache", "no seed", "mode off"])
def test_where_nothing_is_cached_nothing_is_told(
    up: Upstream, colour: Colour, cache: Cache, around: str
) -> None:
    patch_openai()
    client = made(colour, up, sending(kinds(colour)))
    blocks: dict[str, Any] = {
        "no block": nullcontext(),
        "no cache": no_cache(),
        "no seed": cache,
        "mode off": cache.mode("off"),
    }
    more: Any = {"cache_seed": None} if around == "no seed" else {}
    with blocks[around], warnings.catch_warnings():
        warnings.simplefilter("error")
        colour.wait(client.chat.completions.create(**chat(1), **more))
    assert up.calls == 1


@pytest.mark.parametrize("ask", ASKS)
def test_in_replay_it_is_refused_before_anything_leaves(
    up: Upstream, colour: Colour, cache: Cache, ask: str
) -> None:
    patch_openai()
    client = made(colour, up, sending(kinds(colour)))
    if ask == "parse" and not hasattr(client.chat.completions, "parse"):
        pytest.skip("this version has no such call")
    with cache.mode("replay"), pytest.raises(ReplayMissError):
        colour.wait(ASKS[ask](client))
    assert up.calls == 0


@pytest.mark.usefixtures("untold")
@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("order", ["class first", "patch first"])
def test_a_request_that_ends_in_the_sdks_is_cached(
    up: Upstream, colour: Colour, cache: Cache, ask: str, order: str
) -> None:
    if order == "patch first":
        patch_openai()
    client = made(colour, up, forwarding(kinds(colour)))
    if ask == "parse" and not hasattr(client.chat.completions, "parse"):
        pytest.skip("this version has no such call")
    patch_openai()
    with cache, warnings.catch_warnings():
        warnings.simplefilter("error", CacheWarning)
        for _ in range(3):
            colour.wait(ASKS[ask](client))
    assert (up.calls, cache.stats.hits, cache.stats.misses) == (1, 2, 1)


@pytest.mark.usefixtures("untold")
@pytest.mark.parametrize("where", ["a task of its own", "a thread with its context", "a thread"])
def test_a_request_that_is_made_elsewhere_has_arrived(
    up: Upstream, cache: Cache, where: str
) -> None:
    class Elsewhere(openai.OpenAI):
        def request(self, *args: Any, **kwargs: Any) -> Any:
            context, ask = contextvars.copy_context(), super().request
            with ThreadPoolExecutor(1) as pool:
                if where == "a thread":
                    return pool.submit(ask, *args, **kwargs).result()
                return pool.submit(context.run, ask, *args, **kwargs).result()

    class AsyncElsewhere(openai.AsyncOpenAI):
        async def request(self, *args: Any, **kwargs: Any) -> Any:
            return await asyncio.create_task(super().request(*args, **kwargs))

    patch_openai()
    colour = Colour("async" if where.startswith("a task") else "sync")
    client = made(colour, up, AsyncElsewhere if colour.name == "async" else Elsewhere)
    with cache, warnings.catch_warnings():
        warnings.simplefilter("error", CacheWarning)
        for _ in range(3):
            colour.wait(ASKS["chat"](client))
    assert (up.calls, cache.stats.hits, cache.stats.bypassed) == (1, 2, 0)


@pytest.mark.usefixtures("untold")
@pytest.mark.parametrize("ask", ["chat", "chat with a seed", "embeddings"])
def test_a_call_during_which_the_patch_is_undone_is_not_told_of(
    up: Upstream, colour: Colour, cache: Cache, ask: str
) -> None:
    kind: Any = kinds(colour)

    class Undoing(kind):  # type: ignore[misc]
        def post(self, *args: Any, **kwargs: Any) -> Any:
            unpatch_openai()
            return super().post(*args, **kwargs)

    patch_openai()
    client = made(colour, up, Undoing)
    with cache, warnings.catch_warnings():
        warnings.simplefilter("error", CacheWarning)
        colour.wait(ASKS[ask](client))
    assert (up.calls, cache.stats.bypassed) == (1, 0)
    assert not [name for name in up.last.headers if "cachewrap" in name.lower()]


@pytest.mark.usefixtures("untold")
def test_what_fails_before_it_is_sent_is_its_own_error(
    client: Any, colour: Colour, cache: Cache
) -> None:
    patch_openai()
    with cache, pytest.raises(TypeError, match="Missing required"):
        colour.wait(client.chat.completions.create(model="m"))
    assert cache.stats.bypassed == 0


@pytest.mark.usefixtures("untold")
@pytest.mark.parametrize("ask", ["chat", "chat with a seed", "embeddings"])
def test_a_call_that_never_began_is_dropped_as_the_sdks_own(
    up: Upstream, cache: Cache, ask: str
) -> None:
    patch_openai()
    client = made(Colour("async"), up, openai.AsyncOpenAI)

    async def drop() -> None:
        ASKS[ask](client).close()
        task = asyncio.create_task(ASKS[ask](client))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    gc.collect()  # what other tests dropped
    with cache, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        asyncio.run(drop())
        gc.collect()
        assert not told
        ASKS[ask](client)
        gc.collect()
    assert [str(one.message).endswith("was never awaited") for one in told] == [True]
    assert (up.calls, cache.stats.bypassed) == (0, 0)


@pytest.mark.usefixtures("untold")
def test_lazy_results_are_no_missed_calls(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    patch_openai()
    with cache, warnings.catch_warnings():
        warnings.simplefilter("error", CacheWarning)
        client.chat.completions.with_streaming_response.create(**chat(1))
        if hasattr(client.chat.completions, "stream"):
            client.chat.completions.stream(**chat(1))
    assert (up.calls, cache.stats.bypassed) == (0, 0)
