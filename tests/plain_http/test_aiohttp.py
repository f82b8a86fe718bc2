"""Sessions of aiohttp, patched or with a middleware of ours."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

aiohttp = pytest.importorskip("aiohttp")

from cachewrap import (
    Cache,
    CachedMiddleware,
    ConfigurationError,
    codec,
    no_cache,
    patch_aiohttp,
    patch_httpx,
    unpatch_aiohttp,
)
from cachewrap.envelope import unseal
from cachewrap.errors import CacheWarning
from cachewrap.patch.aiohttp import AIOHTTP
from cachewrap.stores.memory import MemoryStore
from cachewrap.testing.upstream import SECRET_HEADERS, Upstream

LOOPBACK = ["127.0.0.1:*"]
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Question 1"}]}
STREAM = {**CHAT, "stream": True}

Take = Callable[[Any], Awaitable[Any]]


class Web:
    """A session of aiohttp, made before any patch, on an event loop of its own."""

    def __init__(self, up: Upstream) -> None:
        self.up = up
        self._runner = asyncio.Runner()
        self.session = self.make()

    def run(self, coroutine: Any) -> Any:
        """Run in the caller's own context."""
        return self._runner.run(coroutine, context=contextvars.copy_context())

    def make(self, **options: Any) -> Any:
        async def make() -> Any:
            return aiohttp.ClientSession(headers={"x-api-key": "top-secret"}, **options)

        return self.run(make())

    def inject(self, **options: Any) -> None:
        """Use a middleware of ours from now on."""
        self.remake(middlewares=[CachedMiddleware(**options)])

    def remake(self, **options: Any) -> None:
        self.close()
        self.session = self.make(**options)

    def close(self) -> None:
        self.run(self.session.close())

    def end(self) -> None:
        """Close the session, and the event loop."""
        self.close()
        self._runner.close()

    def take(
        self,
        take: Take,
        body: Any = CHAT,
        path: str = "/v1/chat/completions",
        **more: Any,
    ) -> Any:
        """What is read of a response."""
        given = more if "data" in more else {"json": body, **more}

        async def ask() -> Any:
            response = await self.session.post(self.up.root_url + path, **given)
            try:
                return await take(response)
            finally:
                response.release()

        return self.run(ask())

    def post(self, *args: Any, **more: Any) -> Any:
        """The status of a response, its body, and the mark of a hit."""
        return self.take(told, *args, **more)


async def told(response: Any) -> Any:
    return response.status, await response.read(), response.headers.get("x-cachewrap")


@pytest.fixture
def web(up: Upstream) -> Iterator[Web]:
    web = Web(up)
    yield web
    web.end()


def patched(web: Web) -> None:
    patch_aiohttp(hosts=LOOPBACK)


def injected(web: Web) -> None:
    web.inject()


def both(web: Web) -> None:
    patched(web)
    injected(web)


ways = pytest.mark.parametrize("way", [patched, injected, both])
bodies = pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
manners = pytest.mark.parametrize(
    "manner",
    [{}, {"gzip": True}, {"awkward": True}],
    ids=lambda manner: "-".join(manner) or "plain",
)


async def seen(response: Any) -> dict[str, Any]:
    """What can be seen of a response, but for the mark of a hit."""
    found = {
        "type": type(response),
        "status": (response.status, response.ok, response.reason, response.version),
        "headers": [p for p in response.headers.items() if p[0] != "x-cachewrap"],
        "raw headers": [p for p in response.raw_headers if p[0] != b"x-cachewrap"],
        "content type": (response.content_type, response.charset, response.content_length),
        "url": (response.url, response.real_url, response.host, response.method),
        "request": (response.request_info.method, response.request_info.real_url),
        "history": (response.history, response.links, response.content_disposition),
        "content": isinstance(response.content, aiohttp.StreamReader),
        "stream": type(response.content).__name__,
    }
    response.raise_for_status()
    return {**found, "body": await response.read(), "closed": response.closed}


async def read(response: Any) -> Any:
    return [await response.read() for _ in range(2)], response.closed, response.connection


async def text(response: Any) -> Any:
    return await response.text(), response.get_encoding()


async def any_size(response: Any) -> Any:
    return b"".join([piece async for piece in response.content.iter_any()])


async def chunked(response: Any) -> Any:
    return b"".join([piece async for piece in response.content.iter_chunked(7)])


async def chunks(response: Any) -> Any:
    return [piece async for piece in response.content.iter_chunks()]


async def lines(response: Any) -> Any:
    return [line async for line in response.content], response.content.at_eof()


async def by_line(response: Any) -> Any:
    found = [await response.content.readline() for _ in range(3)]
    return found, await response.content.read()


async def exactly(response: Any) -> Any:
    content = response.content
    found = await content.readexactly(9), await content.readuntil(b":"), await content.read(3)
    return found, await content.read(), content.total_bytes, content.is_eof()


async def too_much(response: Any) -> Any:
    with pytest.raises(asyncio.IncompleteReadError) as error:
        await response.content.readexactly(10**6)
    return error.value.partial


async def block(response: Any) -> Any:
    async with response as inside:
        found = await inside.read()
    return found, response.closed, response.connection


TAKES = [read, text, any_size, chunked, chunks, lines, by_line, exactly, too_much, block]
takes = pytest.mark.parametrize("take", TAKES, ids=lambda take: take.__name__)


# -- two identical requests -----------------------------------------------------------------------


@ways
@bodies
def test_two_identical_requests_make_one_upstream_call(
    web: Web, cache: Cache, way: Callable[[Web], None], body: dict[str, Any]
) -> None:
    way(web)
    with cache:
        first, second = web.post(body), web.post(body)
        web.post({**body, "seed": 2})
    assert web.up.calls == 2
    assert (first[2], second[2]) == (None, "hit")
    assert first[:2] == second[:2]
    assert (cache.stats.misses, cache.stats.hits, cache.stats.stored) == (2, 1, 2)


@manners
@bodies
def test_a_hit_shows_what_its_miss_showed(
    web: Web, cache: Cache, manner: dict[str, Any], body: dict[str, Any]
) -> None:
    web.up.behave(**manner)
    patched(web)
    with cache:
        first, second = web.take(seen, body), web.take(seen, body)
    assert (web.up.calls, second) == (1, first)


@takes
@manners
@bodies
def test_a_hit_is_read_as_its_miss(
    web: Web, cache: Cache, take: Take, manner: dict[str, Any], body: dict[str, Any]
) -> None:
    web.up.behave(**manner)
    patched(web)
    with cache:
        first, second = web.take(take, body), web.take(take, body)
    assert (web.up.calls, second) == (1, first)


@takes
@manners
@bodies
def test_a_miss_is_read_as_without_the_patch(
    web: Web, cache: Cache, take: Take, manner: dict[str, Any], body: dict[str, Any]
) -> None:
    web.up.behave(**manner)
    plain = outline(web.take(take, body))
    patched(web)
    with cache:
        assert outline(web.take(take, body)) == plain


def outline(value: Any) -> Any:
    """What was read, without what differs between two answers, or with when its pieces came."""
    if isinstance(value, bytes | str | int):
        return type(value), bool(value)
    if isinstance(value, list | tuple):
        return [outline(item) for item in value] if len(value) < 5 else [outline(value[0]), "more"]
    return value


@bodies
@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
def test_who_decompresses_himself_is_given_what_can_be_decompressed(
    web: Web, cache: Cache, gzip: bool, body: dict[str, Any]
) -> None:
    web.up.behave(gzip=gzip)
    patched(web)

    async def decompressed(response: Any) -> Any:
        found = await response.read()
        assert ("content-encoding" in response.headers) == gzip
        return zlib.decompress(found, 31) if gzip else found

    with cache:
        found = [web.take(decompressed, body, auto_decompress=False) for _ in range(2)]
        found.append(web.take(any_size, body))
        web.remake(auto_decompress=False)
        found.append(web.take(decompressed, body))
    assert (web.up.calls, cache.stats.hits) == (1, 3)
    assert len(set(found)) == 1


@bodies
def test_aiohttp_and_httpx_share_their_answers(
    web: Web, cache: Cache, body: dict[str, Any]
) -> None:
    httpx = pytest.importorskip("httpx2")
    patched(web)
    for manner in ({}, {"gzip": True}):
        web.up.behave(**manner)
        asked = {**body, "seed": len(manner)}
        with patch_httpx(hosts=LOOPBACK), cache:
            first = httpx.post(f"{web.up.base_url}/chat/completions", json=asked).content
            assert web.post(asked)[1:] == (first, "hit")


# -- streams --------------------------------------------------------------------------------------


def test_events_pass_as_they_come_and_a_cancelled_read_loses_nothing(
    web: Web, cache: Cache
) -> None:
    pause = threading.Event()
    web.up.behave(pause=pause, pause_after=2)
    patched(web)

    async def patient(response: Any) -> Any:
        found = b""
        for _ in range(2):
            found += await response.content.readany()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(response.content.readany(), 0.05)
        pause.set()
        return found + await response.content.read()

    with cache:
        first = web.take(patient, STREAM)
        assert web.post(STREAM) == (200, first, "hit")
    assert web.up.calls == 1


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
def test_a_stream_is_stored_at_its_mark_even_if_it_is_left_there(
    web: Web, cache: Cache, gzip: bool
) -> None:
    web.up.behave(gzip=gzip)
    patched(web)

    async def until_done(response: Any) -> None:
        async with response:
            async for line in response.content:
                if line.startswith(b"data: [DONE]"):
                    return

    with cache:
        web.take(until_done, STREAM)
        assert web.post(STREAM)[2] == "hit"


async def nothing(response: Any) -> None:
    """Drop the response unread."""


async def a_line(response: Any) -> None:
    await response.content.readline()


@pytest.mark.parametrize("take", [nothing, a_line])
@pytest.mark.parametrize("closes", [True, False], ids=["released", "dropped"])
def test_a_stream_that_is_given_up_is_not_stored(
    web: Web, cache: Cache, take: Take, closes: bool
) -> None:
    patched(web)

    async def ask() -> None:
        response = await web.session.post(f"{web.up.base_url}/chat/completions", json=STREAM)
        await take(response)
        if closes:
            response.close()
        del response
        gc.collect()
        for _ in range(10):  # turns of the loop in which it is left
            await asyncio.sleep(0)

    with cache:
        web.run(ask())
        assert cache.stats.stored == 0
        assert web.post(STREAM)[2] is None
    assert (web.up.calls, cache.stats.stored) == (2, 1)


@pytest.mark.parametrize(
    "manner",
    [{"cut_after": 3}, {"error_after": 3}, {"finish": False}, {"status": 500}],
    ids=lambda manner: next(iter(manner)),
)
def test_a_stream_that_is_not_whole_is_not_stored(
    web: Web, cache: Cache, manner: dict[str, Any]
) -> None:
    patched(web)
    web.up.once(**manner)
    with cache:
        if "cut_after" in manner:
            with pytest.raises(aiohttp.ClientPayloadError):
                web.post(STREAM)
        else:
            web.post(STREAM)
        web.post(STREAM)
    assert (web.up.calls, cache.stats.stored) == (2, 1)


def test_a_timeout_is_raised_as_without_the_patch(web: Web, cache: Cache) -> None:
    web.up.behave(pause=threading.Event(), pause_after=2)
    patched(web)
    for timeout in (aiohttp.ClientTimeout(total=0.1), aiohttp.ClientTimeout(sock_read=0.1)):
        with cache, pytest.raises(TimeoutError):
            web.post(STREAM, timeout=timeout)
    assert cache.stats.stored == 0


@bodies
def test_tasks_that_ask_at_the_same_time_share_one_request(
    web: Web, cache: Cache, body: dict[str, Any]
) -> None:
    patched(web)

    async def one() -> bytes:
        async with web.session.post(f"{web.up.base_url}/chat/completions", json=body) as response:
            return b"".join([piece async for piece in response.content.iter_any()])

    async def ask() -> list[bytes]:
        return list(await asyncio.gather(*(one() for _ in range(5))))

    with cache:
        answers = web.run(ask())
    assert (web.up.calls, len(set(answers))) == (1, 1)


# -- what a session does around a request ---------------------------------------------------------


def test_a_hit_sets_no_cookie(web: Web, cache: Cache) -> None:
    web.up.behave(headers=(("set-cookie", "a=1"),))
    patched(web)

    async def cookies(response: Any) -> Any:
        await response.read()
        return {name: morsel.value for name, morsel in response.cookies.items()}

    with cache:
        assert [web.take(cookies), web.take(cookies)] == [{"a": "1"}, {}]


def test_other_middlewares_see_hits_and_misses(web: Web, cache: Cache) -> None:
    found: list[Any] = []

    async def listen(request: Any, handler: Any) -> Any:
        response = await handler(request)
        found.append(response.headers.get("x-cachewrap"))
        return response

    patched(web)
    with cache:
        web.remake(middlewares=[listen])
        web.post()
        web.post()
        web.post(middlewares=[listen])
    assert (web.up.calls, found) == (1, [None, "hit", "hit"])


def test_a_redirected_question_is_stored_where_it_is_answered(web: Web, cache: Cache) -> None:
    patched(web)

    async def way(response: Any) -> Any:
        await response.read()
        return [r.status for r in response.history], response.headers.get("x-cachewrap")

    with cache:
        for mark in (None, "hit"):
            web.up.once(status=307, headers=(("location", "/v1/chat/completions"),))
            assert web.take(way, path="/v1/completions") == ([307], mark)
    assert web.up.calls == 3  # the redirection is asked each time


def test_a_session_that_raises_for_status_does_so(web: Web, cache: Cache) -> None:
    patched(web)
    web.up.once(status=429)
    web.remake(raise_for_status=True)
    with cache:
        with pytest.raises(aiohttp.ClientResponseError):
            web.post()
        web.post()
        assert web.post()[2] == "hit"


def test_a_connection_that_fails_raises_what_it_raised(web: Web, cache: Cache) -> None:
    patched(web)
    web.up.behave(drop=True)
    with cache, pytest.raises(aiohttp.ClientConnectionError):
        web.post()
    assert cache.stats.stored == 0


# -- what is not stored ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "manner",
    [{"status": 429}, {"body": b'{"error": {"message": "busy"}}'}, {"body": b'{"cut'}],
    ids=["status", "error body", "no JSON"],
)
def test_what_fails_is_handed_on_and_not_stored(
    web: Web, cache: Cache, manner: dict[str, Any]
) -> None:
    patched(web)
    web.up.once(**manner)
    with cache:
        status, body, _ = web.post()
        web.post()
    assert status == manner.get("status", 200)
    assert body == manner.get("body", body)
    assert (web.up.calls, cache.stats.stored) == (2, 1)


async def upload() -> AsyncIterator[bytes]:
    yield b'{"model": "m"}'


@pytest.mark.parametrize(
    ("request_of", "reason"),
    [
        (lambda: {"body": {**CHAT, "background": True}}, "background"),
        (lambda: {"body": {**CHAT, "conversation": "c"}}, "conversation"),
        (lambda: {"data": b"no json"}, "raw body"),
        (lambda: {"data": upload()}, "raw body"),
        (lambda: {"data": {"file": "sound"}}, "raw body"),
    ],
    ids=["background", "conversation", "no JSON", "generator", "form"],
)
def test_what_is_left_alone(web: Web, cache: Cache, request_of: Any, reason: str) -> None:
    patched(web)
    with cache:
        for _ in range(2):
            web.post(**request_of())
    assert (web.up.calls, cache.stats.bypass_reasons) == (2, {reason: 2})


def test_only_posts_are_cached(web: Web, cache: Cache) -> None:
    patch_aiohttp(hosts=LOOPBACK, paths=["*"])

    async def get() -> None:
        async with web.session.get(f"{web.up.base_url}/models") as response:
            await response.read()

    with cache:
        for _ in range(2):
            web.run(get())
    assert web.up.calls == 2


@bodies
def test_no_credential_is_stored_or_told_apart(web: Web, body: dict[str, Any]) -> None:
    store = MemoryStore()
    patched(web)
    web.up.behave(headers=SECRET_HEADERS)
    with Cache(store):
        for number in range(2):
            path = f"/v1/chat/completions?key=top-secret-{number}&tier=1"
            bearer = {"authorization": f"Bearer top-secret-{number}"}
            web.post({**body, "api_key": f"top-secret-{number}"}, path, headers=bearer)
    assert web.up.calls == 1
    [key] = store.keys()
    entry = unseal(store.get(key) or b"")
    stored = f"{entry.read_record()} {codec.decode(entry.kind, entry.answer)}"
    assert "tier" in stored
    assert "top-secret" not in stored
    assert "upstream-secret" not in stored


# -- where it is active ---------------------------------------------------------------------------


def test_unpatching_leaves_the_library_as_it_was() -> None:
    before = vars(aiohttp.ClientSession)["_request"]
    outer, inner = patch_aiohttp(), patch_aiohttp()
    assert vars(aiohttp.ClientSession)["_request"] is not before
    inner.undo()
    assert (outer.active, inner.active) == (True, False)
    unpatch_aiohttp()
    assert vars(aiohttp.ClientSession)["_request"] is before


def test_a_version_without_middlewares_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(aiohttp.client, "build_client_middlewares")
    before = vars(aiohttp.ClientSession)["_request"]
    with pytest.raises(ConfigurationError, match=r"aiohttp \d.* its requests are not cached"):
        patch_aiohttp()
    assert AIOHTTP.patches == ()
    monkeypatch.delitem(sys.modules, "aiohttp.client")
    patch_aiohttp()
    with pytest.warns(CacheWarning, match="its requests are not cached"):
        AIOHTTP._imported(aiohttp.client)
    assert vars(aiohttp.ClientSession)["_request"] is before


@pytest.mark.parametrize("active", ["no block", "no cache"])
def test_outside_a_block_everything_goes_straight_through(web: Web, active: str) -> None:
    patched(web)
    for _ in range(2):
        if active == "no cache":
            with no_cache():
                web.post()
        else:
            web.post()
    assert web.up.calls == 2


@pytest.mark.parametrize("way", ["patch", "middleware"])
def test_a_default_cache_serves_requests_outside_any_block(
    web: Web, cache: Cache, way: str
) -> None:
    if way == "patch":
        patch_aiohttp(cache, hosts=LOOPBACK)
    else:
        web.inject(cache=cache)
    web.post()
    web.post()
    assert web.up.calls == 1


@pytest.mark.parametrize(
    ("given", "calls"),
    [
        ({}, 2),
        ({"hosts": ["api.mistral.ai"]}, 2),
        ({"hosts": ["127.0.0.1"]}, 1),
        ({"hosts": LOOPBACK, "paths": ["/v1/completions"]}, 2),
        ({"hosts": LOOPBACK, "paths": ["*/chat/*"]}, 1),
    ],
    ids=str,
)
def test_hosts_and_paths_say_what_is_cached(
    web: Web, cache: Cache, given: dict[str, Any], calls: int
) -> None:
    patch_aiohttp(**given)
    with cache:
        web.post()
        web.post()
    assert web.up.calls == calls


@pytest.mark.parametrize("make", [patch_aiohttp, CachedMiddleware])
@pytest.mark.parametrize("given", [{"cache": "disk"}, {"when": "always"}], ids=str)
def test_what_is_no_cache_or_no_function_is_an_error(make: Any, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="got"):
        make(**given)


# -- an SDK that speaks aiohttp -------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_google_genai_is_served(web: Web, cache: Cache, streamed: bool) -> None:
    genai = pytest.importorskip("google.genai")
    patched(web)

    async def ask() -> list[Any]:
        options = {"base_url": web.up.root_url}
        client = genai.Client(api_key="top-secret", http_options=options).aio
        asked = {"model": "gemini-x", "contents": "Question 1"}
        if streamed:
            stream = await client.models.generate_content_stream(**asked)
            found = [chunk.text async for chunk in stream]
        else:
            found = [(await client.models.generate_content(**asked)).text]
        await client.aclose()
        return found

    with cache:
        first, second = web.run(ask()), web.run(ask())
    assert (web.up.calls, second) == (1, first)
    assert (cache.stats.misses, cache.stats.hits) == (1, 1)
