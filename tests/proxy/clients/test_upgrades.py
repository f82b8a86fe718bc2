"""Connections that change to another protocol."""

from __future__ import annotations

import asyncio

import pytest

from cachewrap.proxy.messages import ClientGone, Request, Response
from proxy.clients.talk import echo, headed, in_loop, limits, serving

ASKED = headed("GET /", "Connection: keep-alive, Upgrade", "Upgrade: WebSocket")


async def shout(request: Request, response: Response) -> None:
    """Change, and send all back in capitals."""
    raw = await response.upgraded(b"Switching Protocols", [(b"X-a", b"b")])
    while data := await raw.read():
        await raw.write(data.upper())
    await raw.write(b"")
    await raw.write(b"END")
    raw.close()


@pytest.mark.parametrize(
    ("head", "upgrade"),
    [
        pytest.param(ASKED, "websocket", id="asked"),
        pytest.param(headed("GET /", "Upgrade: websocket"), "", id="not of the connection"),
        pytest.param(headed("GET /", "Connection: Upgrade"), "", id="to nothing"),
        pytest.param(headed("GET /", "Connection: upgrade", "Upgrade: a, b"), "a", id="the first"),
        pytest.param(ASKED.replace(b"HTTP/1.1", b"HTTP/1.0"), "", id="1.0"),
    ],
)
@in_loop
async def test_it_is_known_what_is_asked_for(head: bytes, upgrade: str) -> None:
    async def handler(request: Request, response: Response) -> None:
        server.seen.append(request.upgrade)
        await echo(request, response)

    async with serving(handler) as server:
        client = await server.connect()
        assert (await client.ask(head)).status == 200
        assert server.seen == [upgrade]
        if b"HTTP/1.1" in head:
            assert (await client.ask(headed("GET /"))).status == 200


@in_loop
async def test_the_head_says_so() -> None:
    async with serving(shout) as server:
        answer = await server.ask(ASKED)
        assert (answer.status, answer.reason) == (101, "Switching Protocols")
        assert answer.headers == [
            (b"X-a", b"b"),
            (b"Connection", b"Upgrade"),
            (b"Upgrade", b"websocket"),
        ]


@in_loop
async def test_what_the_upstream_says_of_it_is_kept() -> None:
    async def handler(request: Request, response: Response) -> None:
        (await response.upgraded(b"", [(b"upgrade", b"WebSocket/13")])).close()

    async with serving(handler) as server:
        assert (await server.ask(ASKED)).get("upgrade") == ["WebSocket/13"]


@in_loop
async def test_bytes_go_both_ways() -> None:
    async with serving(shout) as server:
        client = await server.connect()
        await client.ask(ASKED + b"behind the head")
        assert await client.reader.readexactly(15) == b"BEHIND THE HEAD"
        for word in (b"one", b"two", bytes(300_000)):
            await client.send(word)
            assert await client.reader.readexactly(len(word)) == word.upper()
        client.half_close()
        assert await client.rest() == b"END"


@in_loop
async def test_a_body_comes_before() -> None:
    async with serving(shout) as server:
        client = await server.connect()
        head = headed("GET /", "Connection: Upgrade", "Upgrade: a", "Content-Length: 5")
        await client.ask(head + b"hello" + b"raw")
        assert await client.reader.readexactly(3) == b"RAW"


@in_loop
async def test_bytes_wait_outside() -> None:
    go = asyncio.Event()

    async def handler(request: Request, response: Response) -> None:
        raw = await response.upgraded(b"", [])
        await go.wait()
        size = 0
        while data := await raw.read():
            size += len(data)
        server.seen.append(size)

    async with serving(handler) as server:
        client = await server.connect()
        await client.ask(ASKED)
        sending = asyncio.create_task(client.send(bytes(20 * 2**20)))
        await asyncio.sleep(0.2)
        (connection,) = server.connections
        assert connection.raw is not None
        assert connection.raw.held <= 512 * 1024
        go.set()
        await sending
        client.half_close()
        assert await client.closed()
        assert server.seen == [20 * 2**20]


@pytest.mark.parametrize("way", ["closes", "resets"])
@in_loop
async def test_a_client_that_leaves_ends_it(way: str) -> None:
    async with serving(shout) as server:
        client = await server.connect()
        await client.ask(ASKED)
        client.leave() if way == "closes" else client.reset()
        assert await server.empty(1)
        assert server.failures == []


@in_loop
async def test_nothing_can_be_written_to_one_who_left() -> None:
    async def handler(request: Request, response: Response) -> None:
        raw = await response.upgraded(b"", [])
        while await raw.read():
            pass
        while True:
            await raw.write(b"hello")
            await asyncio.sleep(0.01)

    async with serving(handler) as server:
        client = await server.connect()
        await client.ask(ASKED)
        client.reset()
        assert await server.empty(1)
        assert server.failures == []


@in_loop
async def test_a_client_that_does_not_read_is_cut() -> None:
    async def handler(request: Request, response: Response) -> None:
        raw = await response.upgraded(b"", [])
        try:
            while True:
                await raw.write(bytes(65536))
        except ClientGone:
            server.seen.append("gone")

    async with serving(handler, limits(idle_seconds=0.3)) as server:
        client = await server.connect(buffer=4096)
        await client.send(ASKED)
        assert await server.empty()
        assert server.seen == ["gone"]


@in_loop
async def test_a_handler_that_ends_closes_it() -> None:
    async def handler(request: Request, response: Response) -> None:
        await (await response.upgraded(b"", [])).write(b"hello")

    async with serving(handler) as server:
        client = await server.connect()
        assert (await client.ask(ASKED)).status == 101
        assert await client.rest() == b"hello"


@in_loop
async def test_a_handler_that_fails_closes_it_and_is_told() -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.upgraded(b"", [])
        raise ValueError("odd")

    async with serving(handler) as server:
        client = await server.connect()
        await client.ask(ASKED)
        assert await client.closed()
        assert [str(error) for error in server.failures] == ["odd"]


@in_loop
async def test_it_stays_open_at_the_end_until_it_is_cut() -> None:
    async with serving(shout) as server:
        client = await server.connect()
        await client.ask(ASKED)
        (connection,) = server.connections
        connection.wind_down()
        await client.send(b"hello")
        assert await client.reader.readexactly(5) == b"HELLO"
        connection.cut()
        assert await server.empty(1)
