"""Upstreams that take too long, and what counts as that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cachewrap.proxy.messages import Origin, Pairs, UpstreamError
from cachewrap.proxy.origins import Origins
from cachewrap.proxy.settings import Limits
from proxy.origins.scripts import CHUNKED, OK, Talk, asking, pieces, playing, run, until

SHORT = 0.15
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param([], id="nothing"),
        pytest.param([b"HTTP/1.1 200 OK\r\n"], id="half-a-head"),
        pytest.param([b"HTTP/1.1 103 E\r\n\r\n"], id="103"),
        pytest.param([LENGTH], id="head"),
        pytest.param([LENGTH, b"ab"], id="half-a-body"),
        pytest.param([CHUNKED, b"1\r\na\r\n"], id="half-of-the-chunks"),
        pytest.param([CHUNKED, b"1\r\na\r\n0\r\n"], id="all-but-the-end"),
        pytest.param([b"HTTP/1.0 200 OK\r\n\r\na"], id="old"),
    ],
)
def test_upstream_that_stalls(sent: list[bytes]) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        for piece in sent:
            await talk.send(piece)
        assert await talk.is_left()

    async def main() -> None:
        async with asking(script, upstream_seconds=SHORT) as client:
            with pytest.raises(UpstreamError, match=r"sent nothing for 0\.15 seconds") as error:
                await client.read("POST", body=b"a")
            assert error.value.status == 504
            assert client.upstream.origin.authority in str(error.value)

    run(main)


def test_upstream_that_takes_nothing() -> None:
    async def script(talk: Talk) -> None:
        await talk.head()
        talk.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(10)

    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b"a" * 100_000

    async def main() -> None:
        async with asking(script, upstream_seconds=SHORT) as client:
            with pytest.raises(UpstreamError, match="taken nothing for") as error:
                await client.send("POST", body=body())
            assert error.value.status == 504

    run(main)


def test_each_byte_begins_the_time_anew() -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        for byte in CHUNKED[-20:].join([CHUNKED[:-20], b""]) + b"1\r\na\r\n0\r\n\r\n":
            await asyncio.sleep(SHORT / 10)
            await talk.send(bytes([byte]))

    async def main() -> None:
        async with asking(script, upstream_seconds=SHORT) as client:
            assert await client.read() == b"a"

    run(main)


def test_client_that_is_slow_to_send_is_not_the_upstream() -> None:
    async def script(talk: Talk) -> None:
        await talk.answer()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(2):
            yield b"a"
            await asyncio.sleep(2.5 * SHORT)

    async def main() -> None:
        async with asking(script, upstream_seconds=SHORT) as client:
            assert await client.read("POST", body=body()) == b"ok"
            assert client.upstream.seen[0].body == b"aa"

    run(main)


def test_client_that_is_slow_to_read_is_not_the_upstream() -> None:
    async def script(talk: Talk) -> None:
        await talk.answer(CHUNKED + b"1\r\na\r\n")
        await asyncio.sleep(2.5 * SHORT)
        await talk.send(b"1\r\nb\r\n0\r\n\r\n")

    async def main() -> None:
        async with asking(script, upstream_seconds=SHORT) as client:
            answer = await client.send()
            await asyncio.sleep(2.2 * SHORT)
            found = []
            async for piece in answer:
                found.append(piece)
                await asyncio.sleep(2.2 * SHORT)
            assert found == [b"a", b"b"]

    run(main)


def test_client_that_is_slow_to_be_informed_is_not_the_upstream() -> None:
    async def script(talk: Talk) -> None:
        await talk.answer(b"HTTP/1.1 103 E\r\n\r\n" + OK)

    async def inform(status: int, reason: bytes, headers: Pairs) -> None:
        await asyncio.sleep(2.5 * SHORT)

    async def main() -> None:
        async with asking(script, upstream_seconds=SHORT) as client:
            assert await client.read(inform=inform) == b"ok"

    run(main)


def test_large_body_that_goes_on_is_not_too_slow() -> None:
    size = 30_000_000

    async def script(talk: Talk) -> None:
        seen = await talk.head()
        left = int(seen.value("content-length") or 0)
        while left:
            await asyncio.sleep(0.05)
            for _ in range(20):
                left -= len(await talk.reader.read(min(left, 65536)))
        await talk.send(OK)

    async def main() -> None:
        async with asking(script, upstream_seconds=0.4) as client:
            assert await client.read("POST", body=b"a" * size) == b"ok"

    run(main)


def test_no_body_is_read_ahead_without_end() -> None:
    sent = 0

    async def script(talk: Talk) -> None:
        nonlocal sent
        await talk.answer(CHUNKED)
        while sent < 64_000_000:
            await talk.send(b"10000\r\n" + b"a" * 65536 + b"\r\n")
            sent += 65536
        await talk.send(b"0\r\n\r\n")

    async def main() -> None:
        async with asking(script) as client:
            answer = await client.send()
            last = -1
            while sent != last:
                last = sent
                await asyncio.sleep(0.1)
            # What the system holds, and ours.
            assert last < 16_000_000
            (connection,) = client.origins.connections
            assert len(connection._h11.trailing_data[0]) <= 2 * 256 * 1024
            assert sum(map(len, await pieces(answer))) == sent

    run(main)


def test_pieces_come_as_soon_as_they_are_there() -> None:
    read = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.answer(CHUNKED)
        for number in range(5):
            await talk.send(b"1\r\n%d\r\n" % number)
            await read.wait()
            read.clear()
        await talk.send(b"5\r\nab")
        await read.wait()
        await talk.send(b"cde\r\n0\r\n\r\n")

    async def main() -> None:
        async with asking(script) as client:
            found = []
            async for piece in await client.send():
                found.append(piece)
                read.set()
            assert found == [b"0", b"1", b"2", b"3", b"4", b"ab", b"cde"]

    run(main)


def test_others_have_their_turn_beside_many_small_chunks() -> None:
    async def script(talk: Talk) -> None:
        await talk.answer(CHUNKED + b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n")

    async def main() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with asking(script) as client:
            task = asyncio.ensure_future(other())
            assert len(await pieces(await client.send())) == 10_000
            assert turns > 100
            task.cancel()
            await asyncio.wait([task])

    run(main)


def test_200_at_once() -> None:
    async def script(talk: Talk) -> None:
        while True:
            seen = await talk.request()
            await talk.send(CHUNKED)
            for _ in range(10):
                await talk.send(b"%x\r\n%b\r\n" % (len(seen.body), seen.body))
                await asyncio.sleep(0.001)
            await talk.send(b"0\r\n\r\n")

    async def main() -> None:
        async with asking(script) as client:

            async def ask(number: int) -> bytes:
                body = str(number).encode()
                return await client.read("POST", body=body if number % 2 else _once(body))

            for _ in range(2):
                found = await asyncio.gather(*map(ask, range(200)))
                assert found == [str(number).encode() * 10 for number in range(200)]
            await until(lambda: len(client.origins.connections) <= 100)

    run(main)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


@pytest.mark.parametrize(
    ("origin", "told", "status"),
    [
        pytest.param(Origin("http", "127.0.0.1", 9), "127.0.0.1:9 refused", 502, id="nobody"),
        pytest.param(
            Origin("http", "nowhere.invalid", 80), "nowhere.invalid cannot be found", 502, id="name"
        ),
        pytest.param(Origin("http", "a" * 80 + ".test", 80), "cannot be", 502, id="long-name"),
        pytest.param(Origin("http", ".test", 80), "cannot be", 502, id="empty-label"),
        pytest.param(Origin("https", ".test", 443), "cannot be", 502, id="empty-label-tls"),
    ],
)
def test_upstream_that_cannot_be_reached(origin: Origin, told: str, status: int) -> None:
    async def main() -> None:
        origins = Origins(Limits())
        with pytest.raises(UpstreamError, match=told) as error:
            await origins.send(origin, "GET", "/", [], None)
        assert error.value.status == status
        await origins.aclose()

    run(main)


def test_upstream_that_is_too_slow_to_connect() -> None:
    async def silent(talk: Talk) -> None:
        await talk.reader.read()

    async def main() -> None:
        origins = Origins(Limits(connect_seconds=0.1))
        async with playing(silent) as upstream:
            # It takes the connection, but does not begin with TLS.
            origin: Any = Origin("https", "127.0.0.1", upstream.origin.port)
            with pytest.raises(UpstreamError, match=r"not be reached within 0\.1 s") as error:
                await origins.send(origin, "GET", "/", [], None)
            assert error.value.status == 504
        await origins.aclose()

    run(main)
