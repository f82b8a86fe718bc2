"""Sessions of aiohttp, patched or with a middleware of ours."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import zlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

aiohttp = pytest.importorskip("aiohttp")

from standin import Upstream

from cachewrap import Cache, ConfigurationError, patch_aiohttp
from cachewrap.errors import CacheWarning
from cachewrap.http.aiohttp import AIOHTTP
from http_libraries.web import LOOPBACK, STREAM, Aiohttp, bodies, manners, outline

Take = Callable[[Any], Awaitable[Any]]


@pytest.fixture
def web(up: Upstream) -> Iterator[Aiohttp]:
    web = Aiohttp(up, aiohttp)
    yield web
    web.end()


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


@manners
@bodies
def test_a_hit_shows_what_its_miss_showed(
    web: Aiohttp, cache: Cache, manner: dict[str, Any], body: dict[str, Any]
) -> None:
    web.up.behave(**manner)
    web.patch(hosts=LOOPBACK)
    with cache:
        first, second = web.take(seen, body), web.take(seen, body)
    assert (web.up.calls, second) == (1, first)


@takes
@manners
@bodies
def test_a_hit_is_read_as_its_miss(
    web: Aiohttp, cache: Cache, take: Take, manner: dict[str, Any], body: dict[str, Any]
) -> None:
    web.up.behave(**manner)
    web.patch(hosts=LOOPBACK)
    with cache:
        first, second = web.take(take, body), web.take(take, body)
    assert (web.up.calls, second) == (1, first)


@takes
@manners
@bodies
def test_a_miss_is_read_as_without_the_patch(
    web: Aiohttp, cache: Cache, take: Take, manner: dict[str, Any], body: dict[str, Any]
) -> None:
    web.up.behave(**manner)
    plain = outline(web.take(take, body))
    web.patch(hosts=LOOPBACK)
    with cache:
        assert outline(web.take(take, body)) == plain


@bodies
@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
def test_who_decompresses_himself_is_given_what_can_be_decompressed(
    web: Aiohttp, cache: Cache, gzip: bool, body: dict[str, Any]
) -> None:
    web.up.behave(gzip=gzip)
    web.patch(hosts=LOOPBACK)

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


# -- streams --------------------------------------------------------------------------------------


def test_events_pass_as_they_come_and_a_cancelled_read_loses_nothing(
    web: Aiohttp, cache: Cache
) -> None:
    pause = threading.Event()
    web.up.behave(pause=pause, pause_after=2)
    web.patch(hosts=LOOPBACK)

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
        told = web.ask(STREAM)
        assert (told.status, told.body, told.mark) == (200, first, "hit")
    assert web.up.calls == 1


async def nothing(response: Any) -> None:
    """Drop the response unread."""


async def a_line(response: Any) -> None:
    await response.content.readline()


@pytest.mark.parametrize("take", [nothing, a_line])
@pytest.mark.parametrize("closes", [True, False], ids=["released", "dropped"])
def test_a_stream_that_is_given_up_is_not_stored(
    web: Aiohttp, cache: Cache, take: Take, closes: bool
) -> None:
    web.patch(hosts=LOOPBACK)

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
        assert web.ask(STREAM).mark is None
    assert (web.up.calls, cache.stats.stored) == (2, 1)


def test_a_timeout_is_raised_as_without_the_patch(web: Aiohttp, cache: Cache) -> None:
    web.up.behave(pause=threading.Event(), pause_after=2)
    web.patch(hosts=LOOPBACK)
    for timeout in (aiohttp.ClientTimeout(total=0.1), aiohttp.ClientTimeout(sock_read=0.1)):
        with cache, pytest.raises(TimeoutError):
            web.ask(STREAM, timeout=timeout)
    assert cache.stats.stored == 0


# -- what a session does around a request ---------------------------------------------------------


def test_other_middlewares_see_hits_and_misses(web: Aiohttp, cache: Cache) -> None:
    found: list[Any] = []

    async def listen(request: Any, handler: Any) -> Any:
        response = await handler(request)
        found.append(response.headers.get("x-cachewrap"))
        return response

    web.patch(hosts=LOOPBACK)
    with cache:
        web.remake(middlewares=[listen])
        web.ask()
        web.ask()
        web.ask(middlewares=[listen])
    assert (web.up.calls, found) == (1, [None, "hit", "hit"])


def test_a_session_that_raises_for_status_does_so(web: Aiohttp, cache: Cache) -> None:
    web.patch(hosts=LOOPBACK)
    web.up.once(status=429)
    web.remake(raise_for_status=True)
    with cache:
        with pytest.raises(aiohttp.ClientResponseError):
            web.ask()
        web.ask()
        assert web.ask().mark == "hit"


# -- where it is active ---------------------------------------------------------------------------


def test_a_version_without_middlewares_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(aiohttp.client, "build_client_middlewares")
    before = vars(aiohttp.ClientSession)["_request"].__code__
    with pytest.raises(ConfigurationError, match=r"aiohttp \d.* its requests are not cached"):
        patch_aiohttp()
    assert not AIOHTTP.patches
    monkeypatch.delitem(sys.modules, "aiohttp.client")
    patch_aiohttp()
    with pytest.warns(CacheWarning, match="its requests are not cached"):
        AIOHTTP._imported(aiohttp.client)
    assert vars(aiohttp.ClientSession)["_request"].__code__ is before


# -- an SDK that speaks aiohttp -------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_google_genai_is_served(web: Aiohttp, cache: Cache, streamed: bool) -> None:
    genai = pytest.importorskip("google.genai")
    web.patch(hosts=LOOPBACK)

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
