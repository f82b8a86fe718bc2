"""Callers that leave in every phase: nothing is left of what they asked."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cachewrap.proxy.messages import Origin, Pairs, UpstreamError
from cachewrap.proxy.origins import Origins
from cachewrap.proxy.settings import Limits
from proxy.origins.scripts import CHUNKED, OK, Asking, Talk, asking, playing, run, until


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b"a" * 100_000


async def _waiting() -> AsyncIterator[bytes]:
    yield b"a"
    await asyncio.Event().wait()


async def _never(status: int, reason: bytes, headers: Pairs) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("sent", "options"),
    [
        pytest.param(b"", {}, id="before-the-head"),
        pytest.param(b"", {"body": b"a" * 30_000_000}, id="while-bytes-are-sent"),
        pytest.param(b"", {"body": _endless}, id="while-a-stream-is-sent"),
        pytest.param(b"", {"body": _waiting}, id="while-the-stream-waits"),
        pytest.param(
            b"",
            {"body": _waiting, "headers": [(b"Expect", b"100-continue")]},
            id="while-the-upstream-is-to-want-it",
        ),
        pytest.param(b"HTTP/1.1 200", {}, id="in-the-head"),
        pytest.param(b"HTTP/1.1 103 E\r\n\r\n", {"inform": _never}, id="while-informed"),
        pytest.param(CHUNKED, {}, id="behind-the-head"),
        pytest.param(CHUNKED + b"1\r\na\r\n2\r\nb", {}, id="in-the-body"),
        pytest.param(CHUNKED + b"1\r\na\r\n", {"body": _waiting}, id="on-both-sides"),
        pytest.param(CHUNKED + b"1\r\na\r\n", {"body": _endless}, id="on-both-sides-in-full"),
    ],
)
@pytest.mark.parametrize("is_kept", [False, True], ids=["first", "second"])
def test_cancelled(sent: bytes, options: dict[str, Any], is_kept: bool) -> None:
    is_reading = asyncio.Event()

    async def script(talk: Talk) -> None:
        if is_kept:
            await talk.answer()
        await talk.head()
        await talk.send(sent)
        is_reading.set()
        await asyncio.sleep(0.03)
        while await talk.reader.read(1_000_000):
            pass

    async def main() -> None:
        given = dict(options)
        if callable(given.get("body")):
            given["body"] = given["body"]()
        async with asking(script) as client:
            if is_kept:
                await client.read()
            task = asyncio.ensure_future(client.read("POST", **given))
            await is_reading.wait()
            await asyncio.sleep(0.01)
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: not client.origins.connections)
            assert len(client.upstream.talks) == 1

    run(main)


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5, 8, 13, 21])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_cancelled_while_the_upstream_is_reached(host: str, after: int) -> None:
    async def script(talk: Talk) -> None:
        await talk.answer()

    async def main() -> None:
        origins = Origins(Limits())
        async with playing(script) as upstream:
            origin = Origin("http", host, upstream.origin.port)
            task = asyncio.ensure_future(origins.send(origin, "GET", "/", [], None))
            for _ in range(after):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                await task.result().aclose()
            await asyncio.sleep(0.01)
            assert len(origins.connections) <= 1
            await origins.aclose()

    run(main)


@pytest.mark.parametrize("is_begun", [False, True], ids=["unread", "begun"])
def test_answer_that_is_dropped(is_begun: bool) -> None:
    async def script(talk: Talk) -> None:
        await talk.answer(CHUNKED + b"1\r\na\r\n")
        assert await talk.is_left()

    async def main() -> None:
        async with asking(script) as client:
            await _drop(client, is_begun)
            gc.collect()
            await until(lambda: not client.origins.connections)

    run(main)


async def _drop(client: Asking, is_begun: bool) -> None:
    answer = await client.send()
    if is_begun:
        assert await anext(aiter(answer)) == b"a"


def test_reader_that_stops() -> None:
    async def script(talk: Talk) -> None:
        await talk.answer(CHUNKED + b"1\r\na\r\n1\r\nb\r\n")
        assert await talk.is_left()

    async def main() -> None:
        async with asking(script) as client:
            answer = await client.send()
            async for piece in answer:
                assert piece == b"a"
                break
            await answer.aclose()
            await until(lambda: not client.origins.connections)

    run(main)


def test_error_of_who_is_informed_passes_through() -> None:
    async def script(talk: Talk) -> None:
        await talk.answer(b"HTTP/1.1 103 E\r\n\r\n" + OK)
        assert await talk.is_left()

    async def inform(status: int, reason: bytes, headers: Pairs) -> None:
        raise LookupError

    async def main() -> None:
        async with asking(script) as client:
            with pytest.raises(LookupError):
                await client.send(inform=inform)
            await until(lambda: not client.origins.connections)

    run(main)


def test_body_that_gives_up() -> None:
    async def script(talk: Talk) -> None:
        await talk.head()
        while await talk.reader.read(100):
            pass

    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        raise asyncio.CancelledError

    async def main() -> None:
        async with asking(script) as client:
            with pytest.raises(UpstreamError, match="broke off"):
                await client.send("POST", body=body())
            await until(lambda: not client.origins.connections)

    run(main)
