"""Clients that are slow: each wait for them has an end, and what waits for them is little."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from cachewrap.proxy.messages import BadBody, ClientGone, Request, Response
from proxy.clients.talk import Memory, echo, headed, in_loop, limits, serving

GET = headed("GET /")
POST = headed("POST /", "Content-Length: 10", body=b"hello")


async def never(request: Request, response: Response) -> None:
    raise AssertionError(f"{request.method} {request.target}")


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([GET[:5]], id="first line"),
        pytest.param([GET[:-2]], id="headers"),
        pytest.param([GET[at : at + 1] for at in range(len(GET) - 1)], id="one by one"),
        pytest.param([b"\r\n", GET[:3]], id="an empty line before"),
        pytest.param([b"\r"], id="half an empty line"),
    ],
)
@in_loop
async def test_a_head_has_its_time(pieces: list[bytes]) -> None:
    async with serving(never, limits(header_seconds=0.3)) as server:
        client = await server.connect()
        start = time.monotonic()
        for piece in pieces[:20]:
            client.writer.write(piece)
            await asyncio.sleep(0.02)
        answer = await client.answer()
        assert (answer.status, answer.get("connection")) == (408, ["close"])
        assert 0.2 < time.monotonic() - start < 2
        assert await client.closed()


@in_loop
async def test_the_head_of_the_next_request_has_its_time() -> None:
    async with serving(echo, limits(header_seconds=0.2)) as server:
        client = await server.connect()
        assert (await client.ask(GET + GET[:5])).status == 200
        assert (await client.answer()).status == 408
        assert await client.closed()


@pytest.mark.parametrize("asked", [False, True], ids=["fresh", "used"])
@in_loop
async def test_a_connection_without_a_request_is_closed_in_time(asked: bool) -> None:
    async with serving(echo, limits(keep_seconds=0.3)) as server:
        client = await server.connect()
        start = time.monotonic()
        if asked:
            await asyncio.sleep(0.1)
            await client.ask(GET)
        assert await client.closed()
        assert (0.35 if asked else 0.25) < time.monotonic() - start < 2


@in_loop
async def test_a_request_under_way_is_not_without_a_request() -> None:
    async def handler(request: Request, response: Response) -> None:
        await asyncio.sleep(0.3)
        await echo(request, response)

    async with serving(handler, limits(keep_seconds=0.1, header_seconds=0.1)) as server:
        assert (await server.ask(GET)).status == 200


@pytest.mark.parametrize("reading", ["reads", "iterates"])
@pytest.mark.parametrize("caught", [False, True], ids=["passes on", "answers"])
@in_loop
async def test_a_body_that_does_not_come_on_is_given_up(reading: str, caught: bool) -> None:
    async def handler(request: Request, response: Response) -> None:
        try:
            if reading == "reads":
                await request.read(100)
            else:
                async for _ in request:
                    pass
        except BadBody as error:
            if not caught:
                raise
            await response.whole(error.status, b"", [], str(error).encode())

    async with serving(handler, limits(idle_seconds=0.2)) as server:
        client = await server.connect()
        answer = await client.ask(POST)
        assert (answer.status, answer.get("connection")) == (408, ["close"])
        assert await client.closed()
        assert server.failures == []


@in_loop
async def test_a_body_that_comes_on_slowly_is_not() -> None:
    async with serving(echo, limits(idle_seconds=0.3)) as server:
        client = await server.connect()
        await client.send(POST)
        for _ in range(5):
            await asyncio.sleep(0.1)
            await client.send(b"a")
        assert (await client.answer()).body.endswith(b"helloaaaaa")


@in_loop
async def test_a_chunk_that_comes_on_slowly_is_not() -> None:
    async with serving(echo, limits(idle_seconds=0.3)) as server:
        client = await server.connect()
        await client.send(headed("POST /", "Transfer-Encoding: chunked"))
        for byte in b"1;abcdef\r\nx\r\n0\r\n\r\n":
            await asyncio.sleep(0.05)
            await client.send(bytes([byte]))
        assert (await client.answer()).status == 200


@in_loop
async def test_a_body_that_nobody_waits_for_may_take_its_time() -> None:
    async def handler(request: Request, response: Response) -> None:
        await asyncio.sleep(0.4)
        await echo(request, response)

    async with serving(handler, limits(idle_seconds=0.3)) as server:
        client = await server.connect()
        await client.send(POST)
        await asyncio.sleep(0.5)
        assert (await client.ask(b"world")).status == 200


@pytest.mark.parametrize("manner", ["pieces", "whole"])
@in_loop
async def test_a_client_that_does_not_read_is_cut(manner: str) -> None:
    ends: list[str] = []

    async def handler(request: Request, response: Response) -> None:
        try:
            if manner == "whole":
                await response.whole(200, b"", [], bytes(32 * 2**20))
            else:
                await response.start(200, b"", [])
                while True:
                    await response.send(bytes(65536))
        except ClientGone:
            ends.append("gone")
            raise
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async with serving(handler, limits(idle_seconds=0.3)) as server:
        client = await server.connect(buffer=4096)
        await client.send(GET)
        assert await server.empty()
        assert ends == (["gone"] if manner == "whole" else ["cancelled"])
        assert server.failures == []


@in_loop
async def test_pieces_for_a_slow_client_wait_with_their_sender() -> None:
    sent = 0

    async def handler(request: Request, response: Response) -> None:
        nonlocal sent
        await response.start(200, b"", [])
        for _ in range(1024):
            await response.send(bytes(16384))
            sent += 16384
        await response.finish()

    async with serving(handler) as server:
        client = await server.connect(buffer=4096)
        await client.send(GET)
        await asyncio.sleep(0.2)
        before = sent
        await asyncio.sleep(0.1)
        assert sent == before < 15 * 2**20
        (connection,) = server.connections
        assert connection._transport.get_write_buffer_size() < 128 * 1024
        assert len((await client.answer()).body) == 1024 * 16384


@in_loop
async def test_a_client_that_reads_slowly_is_not_cut() -> None:
    size = 8 * 2**20

    async with serving(
        lambda _, response: response.whole(200, b"", [], bytes(size)), limits(idle_seconds=0.5)
    ) as server:
        client = await server.connect(buffer=4096)
        await client.send(GET)
        assert await client.line() == b"HTTP/1.1 200 "
        await client.pairs()
        got = 0
        start = time.monotonic()
        while time.monotonic() - start < 1.5:
            got += len(await client.reader.read(65536))
            await asyncio.sleep(0.02)
        assert 0 < got < size
        while got < size:
            got += len(await client.reader.read(2**20))


async def fill(response: Response) -> int:
    """Send until the client has to take something: how much it was."""
    sent = 0
    with suppress(TimeoutError):
        while True:
            sent += 16384
            await asyncio.wait_for(response.send(bytes(16384)), 0.2)
    return sent


@in_loop
async def test_a_client_that_reads_nothing_does_not_keep_a_closed_connection() -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.start(200, b"", [])
        await fill(response)
        response.abort()

    async with serving(handler, limits(idle_seconds=0.5)) as server:
        client = await server.connect(buffer=4096)
        await client.send(GET)
        assert await server.empty()


@in_loop
async def test_a_client_that_stops_reading_does_not_keep_a_closed_connection() -> None:
    memory = Memory(echo, limits(idle_seconds=0.1))
    await memory.feed(GET)
    memory.unsent = 100_000
    memory.connection.pause_writing()
    memory.connection.end()
    memory.unsent = 10_000
    memory.connection.resume_writing()
    await asyncio.sleep(0.3)
    assert memory.unsent == 0


@pytest.mark.parametrize("way", ["breaks off", "belies its length"])
@in_loop
async def test_what_was_sent_before_an_answer_was_cut_arrives(way: str) -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.start(200, b"", [(b"content-length", b"100000000")])
        server.seen.append(await fill(response))
        if way == "breaks off":
            response.abort()
        else:
            await response.finish()

    async with serving(handler) as server:
        client = await server.connect(buffer=4096)
        await client.send(GET)
        while not server.seen:
            await asyncio.sleep(0.02)
        await client.line()
        await client.pairs()
        assert len(await client.rest()) == server.seen[0]
        assert server.failures == []


@pytest.mark.parametrize("begun", [False, True], ids=["before", "amid"])
@in_loop
async def test_a_request_has_its_time(begun: bool) -> None:
    ends: list[str] = []

    async def handler(request: Request, response: Response) -> None:
        if begun:
            await response.start(200, b"", [])
            await response.send(b"hello")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async with serving(handler, limits(total_seconds=0.2)) as server:
        client = await server.connect()
        await client.send(GET)
        if begun:
            assert (await client.rest()).endswith(b"5\r\nhello\r\n")
        else:
            assert (await client.answer()).status == 504
            assert (await client.ask(GET)).status == 504
        assert set(ends) == {"cancelled"}
        assert server.failures == []


@in_loop
async def test_what_is_done_behind_an_answer_may_take_longer() -> None:
    ends: list[str] = []

    async def handler(request: Request, response: Response) -> None:
        await echo(request, response)
        await asyncio.sleep(0.3)
        ends.append("done")

    async with serving(handler, limits(total_seconds=0.1)) as server:
        assert (await server.ask(GET)).status == 200
        await asyncio.sleep(0.5)
        assert ends == ["done"]


@in_loop
async def test_a_long_row_of_pieces_leaves_others_their_turn() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def handler(request: Request, response: Response) -> None:
        nonlocal turns
        await response.start(200, b"", [])
        turns = 0
        for _ in range(1000):
            await response.send(b"a")
        server.seen.append(turns)
        await response.finish()

    async with serving(handler) as server:
        task = asyncio.create_task(others())
        await server.ask(GET)
        task.cancel()
        await asyncio.sleep(0)
        assert server.seen[0] > 10
