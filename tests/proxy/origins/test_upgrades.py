"""Connections that change their protocol."""

from __future__ import annotations

import asyncio

import pytest

from cachewrap.proxy.messages import UpstreamError
from proxy.origins.scripts import OK, Talk, asking, pieces, run, until

SWITCH = b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


async def echo(talk: Talk) -> None:
    await talk.request()
    await talk.send(SWITCH + b"hello")
    while data := await talk.reader.read(1000):
        await talk.send(data.upper())


def test_connection_speaks_something_else() -> None:
    async def main() -> None:
        async with asking(echo) as client:
            answer = await client.send(upgrade="websocket")
            assert (answer.status, answer.reason) == (101, b"Go")
            assert answer.headers == [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")]
            raw = answer.raw()
            assert await raw.read() == b"hello"
            for _ in range(2):
                await raw.write(b"abc")
                assert await raw.read() == b"ABC"
            raw.close()
            assert await raw.read() == b""
            seen = dict(client.upstream.seen[0].headers)
            assert (seen["Connection"], seen["Upgrade"]) == ("Upgrade", "websocket")

    run(main)


def test_upstream_closes_it() -> None:
    async def script(talk: Talk) -> None:
        await talk.answer(SWITCH + b"bye")

    async def main() -> None:
        async with asking(script) as client:
            raw = (await client.send(upgrade="websocket")).raw()
            await asyncio.sleep(0.01)
            assert [await raw.read() for _ in range(3)] == [b"bye", b"", b""]
            with pytest.raises(UpstreamError, match="closed"):
                await raw.write(b"abc")
            raw.close()

    run(main)


def test_silence_is_no_fault() -> None:
    async def script(talk: Talk) -> None:
        await talk.answer(SWITCH)
        await asyncio.sleep(0.2)
        await talk.send(b"late")

    async def main() -> None:
        async with asking(script, upstream_seconds=0.05) as client:
            raw = (await client.send(upgrade="websocket")).raw()
            assert await raw.read() == b"late"

    run(main)


def test_both_sides_are_waited_for() -> None:
    async def script(talk: Talk) -> None:
        await talk.answer(SWITCH)
        for _ in range(200):
            await talk.send(b"a" * 100_000)
        left = 20_000_000
        while left:
            left -= len(await talk.reader.read(100_000))
        await talk.send(b"b")

    async def main() -> None:
        async with asking(script) as client:
            raw = (await client.send(upgrade="websocket")).raw()
            await asyncio.sleep(0.05)
            (connection,) = client.origins.connections
            assert len(connection._raw or b"") <= 2 * 256 * 1024
            left = 20_000_000
            while left:
                left -= len(await raw.read())
            for _ in range(200):
                await raw.write(b"a" * 100_000)
                assert connection.transport.get_write_buffer_size() < 200_000
            assert await raw.read() == b"b"

    run(main)


def test_upstream_does_not_want_to() -> None:
    async def script(talk: Talk) -> None:
        await talk.answer(OK.replace(b"200", b"426"))
        await talk.answer()

    async def main() -> None:
        async with asking(script) as client:
            answer = await client.send(upgrade="websocket")
            with pytest.raises(UpstreamError, match="not changed"):
                answer.raw()
            assert (answer.status, await pieces(answer)) == (426, [b"ok"])
            assert await client.read() == b"ok"
            assert len(client.upstream.talks) == 1

    run(main)


@pytest.mark.parametrize("is_taken", [False, True], ids=["untaken", "taken"])
def test_close_of_the_answer_closes_it(is_taken: bool) -> None:
    async def main() -> None:
        async with asking(echo) as client:
            answer = await client.send(upgrade="websocket")
            if is_taken:
                assert await answer.raw().read() == b"hello"
            await answer.aclose()
            await until(lambda: not client.origins.connections)

    run(main)


def test_cancelled_reader_closes_it() -> None:
    async def main() -> None:
        async with asking(echo) as client:
            raw = (await client.send(upgrade="websocket")).raw()
            await raw.read()
            task = asyncio.ensure_future(raw.read())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await until(lambda: not client.origins.connections)

    run(main)
