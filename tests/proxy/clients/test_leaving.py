"""Clients that leave in every phase, half or wholly, and a server that ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cachewrap.proxy.messages import ClientGone, Request, Response
from proxy.clients.talk import Client, Server, chunked, echo, headed, in_loop, limits, serving

GET = headed("GET /")
POST = headed("POST /", "Content-Length: 10", body=b"hello")
MANY = headed("GET /" + "a" * 1000) * 1000
CHUNKS = headed("POST /", "Transfer-Encoding: chunked")
LEAVES = [
    pytest.param(Client.leave, id="closes"),
    pytest.param(Client.reset, id="resets"),
]
Leave = Callable[[Client], None]


async def hang(request: Request, response: Response) -> None:
    await asyncio.sleep(60)


async def read(request: Request, response: Response) -> None:
    await request.read(100)


async def iterate(request: Request, response: Response) -> None:
    async for _ in request:
        pass


async def stall(request: Request, response: Response) -> None:
    await response.start(200, b"", [])
    await response.send(b"hello")
    await asyncio.sleep(60)


async def stream(request: Request, response: Response) -> None:
    await response.start(200, b"", [])
    while True:
        await response.send(b"hello")
        await asyncio.sleep(0.01)


async def flood(request: Request, response: Response) -> None:
    await response.start(200, b"", [])
    while True:
        await response.send(bytes(65536))


async def flood_at_once(request: Request, response: Response) -> None:
    await response.whole(200, b"", [], bytes(64 * 2**20))


async def ignore(request: Request, response: Response) -> None:
    await response.whole(200, b"", [], b"done")


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\r\n", id="an empty line"),
        pytest.param(GET[:5], id="a part of the first line"),
        pytest.param(GET[:-2], id="a part of the headers"),
    ],
)
@in_loop
async def test_it_leaves_before_it_asked(sent: bytes, leave: Leave) -> None:
    async with serving(hang) as server:
        client = await server.connect()
        await client.send(sent)
        await asyncio.sleep(0.02)
        leave(client)
        assert await server.empty(1)


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize(
    ("request_", "work"),
    [
        pytest.param(GET, hang, id="while it waits for the answer"),
        pytest.param(POST, hang, id="amid its body, that nobody reads"),
        pytest.param(POST, read, id="amid its body, that is read"),
        pytest.param(POST, iterate, id="amid its body, that is iterated"),
        pytest.param(CHUNKS + b"5\r\nhe", iterate, id="amid a chunk"),
        pytest.param(CHUNKS + b"5\r\nhello\r\n0\r\nX: ", read, id="amid trailers"),
        pytest.param(headed("POST /", "Content-Length: 9", "Expect: 100-continue"), read, id="100"),
        pytest.param(POST, stream, id="amid its body and the answer"),
        pytest.param(GET, stream, id="amid the answer"),
        pytest.param(GET, flood, id="amid an answer that it does not read"),
        pytest.param(GET + GET, hang, id="with another request sent"),
        pytest.param(GET + GET[:9], stream, id="with a part of another request sent"),
    ],
)
@in_loop
async def test_it_leaves_while_it_is_answered(
    request_: bytes, work: Callable[[Request, Response], object], leave: Leave
) -> None:
    ends: list[type[BaseException]] = []
    begun = asyncio.Event()

    async def handler(request: Request, response: Response) -> None:
        begun.set()
        try:
            await work(request, response)  # type: ignore[misc]
        except BaseException as error:
            ends.append(type(error))
            raise

    async with serving(handler) as server:
        client = await server.connect()
        await client.send(request_)
        await begun.wait()
        await asyncio.sleep(0.05)
        leave(client)
        assert await server.empty(3)
        assert len(ends) == 1 and issubclass(ends[0], (ClientGone, asyncio.CancelledError))
        assert server.failures == []


@in_loop
async def test_it_resets_amid_an_answer_at_which_nothing_happens() -> None:
    async with serving(stall) as server:
        client = await server.connect()
        await client.send(GET)
        await client.line()
        client.reset()
        assert await server.empty(1)


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize(
    ("request_", "handler"),
    [
        pytest.param(GET, echo, id="with its answer"),
        pytest.param(GET, flood_at_once, id="without its answer"),
        pytest.param(POST, ignore, id="amid a body that is dropped"),
        pytest.param(headed("POST /", f"Content-Length: {2**20}"), ignore, id="linger"),
        pytest.param(b"\0\r\n", echo, id="refused"),
    ],
)
@in_loop
async def test_it_leaves_once_it_was_answered(
    request_: bytes, handler: Callable[[Request, Response], object], leave: Leave
) -> None:
    async with serving(handler) as server:  # type: ignore[arg-type]
        client = await server.connect()
        await client.send(request_)
        await client.line()
        leave(client)
        assert await server.empty(1)
        assert server.failures == []


@in_loop
async def test_what_is_done_behind_an_answer_outlives_the_client() -> None:
    ends: list[str] = []

    async def handler(request: Request, response: Response) -> None:
        await echo(request, response)
        await asyncio.sleep(0.1)
        ends.append("done")

    async with serving(handler) as server:
        client = await server.connect()
        await client.ask(GET)
        client.reset()
        await asyncio.sleep(0.03)
        assert len(server.connections) == 1
        assert await server.empty(1)
        assert ends == ["done"]


@in_loop
async def test_nothing_can_be_sent_to_or_read_of_one_who_left() -> None:
    ends: list[str] = []

    async def attempt(name: str, attempt: object) -> None:
        try:
            await attempt  # type: ignore[misc]
        except ClientGone:
            ends.append(name)

    async def handler(request: Request, response: Response) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await attempt("read", request.read(100))
            await attempt("iterate", iterate(request, response))
            await attempt("inform", response.inform(102, b"", []))
            await attempt("start", response.start(200, b"", []))
            await attempt("send", response.send(b"hello"))
            await attempt("finish", response.finish())
            response.abort()

    async with serving(handler) as server:
        client = await server.connect()
        await client.send(POST)
        await asyncio.sleep(0.02)
        client.reset()
        assert await server.empty(1)
        assert ends == ["read", "iterate", "inform", "start", "send", "finish"]
        assert server.failures == []


@in_loop
async def test_an_answer_to_one_who_left_can_be_broken_off() -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.start(200, b"", [])
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.02)
            response.abort()

    async with serving(handler) as server:
        client = await server.connect()
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        await client.line()
        client.reset()
        assert await server.empty(1)
        assert server.failures == []


@in_loop
async def test_a_body_that_came_is_read_though_its_client_left() -> None:
    async def handler(request: Request, response: Response) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            server.seen.append(await request.read(100))

    async with serving(handler) as server:
        client = await server.connect()
        await client.send(headed("POST /", "Content-Length: 5", body=b"hello"))
        await asyncio.sleep(0.02)
        client.reset()
        assert await server.empty(1)
        assert server.seen == [b"hello"]


# A client that sends no more, and still reads.


@pytest.mark.parametrize("slow", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        pytest.param(GET, 1, id="one"),
        pytest.param(headed("POST /", "Content-Length: 5", body=b"hello"), 1, id="length"),
        pytest.param(CHUNKS + chunked(b"hello"), 1, id="chunks"),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", 1, id="1.0"),
        pytest.param(GET + CHUNKS + chunked(b"hello") + GET, 3, id="pipelined"),
        pytest.param(GET + GET[:9], 1, id="a part of another"),
        pytest.param(GET + POST, 1, id="another without its body"),
    ],
)
@in_loop
async def test_it_closes_one_way_and_is_answered(sent: bytes, answers: int, slow: bool) -> None:
    async def handler(request: Request, response: Response) -> None:
        if slow:
            await asyncio.sleep(0.4)
        await echo(request, response)

    async with serving(handler) as server:
        client = await server.connect()
        await client.send(sent)
        client.half_close()
        for _ in range(answers):
            answer = await client.answer()
            while answer.status == 102:
                answer = await client.answer()
            assert answer.status == 200
        assert await client.closed()
        assert server.failures == []


@in_loop
async def test_it_closes_one_way_and_reads_a_stream() -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.start(200, b"", [])
        for _ in range(5):
            await response.send(b"a")
            await asyncio.sleep(0.1)
        await response.finish()

    async with serving(handler) as server:
        client = await server.connect()
        await client.send(GET)
        client.half_close()
        assert (await client.answer()).body == b"aaaaa"
        assert await client.closed()


@in_loop
async def test_it_closes_one_way_and_leaves_before_its_second_answer() -> None:
    half = asyncio.Event()

    async def handler(request: Request, response: Response) -> None:
        if request.target == "/1":
            await half.wait()
            await echo(request, response)
        else:
            await asyncio.sleep(60)

    async with serving(handler) as server:
        client = await server.connect()
        await client.send(headed("GET /1") + headed("GET /2"))
        client.half_close()
        await asyncio.sleep(0.05)
        half.set()
        await client.answer()
        client.leave()
        assert await server.empty(3)


@in_loop
async def test_it_closes_one_way_amid_its_body_and_has_left() -> None:
    async with serving(read) as server:
        client = await server.connect()
        await client.send(POST)
        client.half_close()
        assert await server.empty(1)


@in_loop
async def test_an_early_answer_reaches_one_who_closes_one_way_amid_its_body() -> None:
    async def handler(request: Request, response: Response) -> None:
        await ignore(request, response)
        await asyncio.sleep(0.1)

    async with serving(handler) as server:
        client = await server.connect()
        await client.send(POST)
        await asyncio.sleep(0.02)
        client.half_close()
        assert (await client.answer()).body == b"done"
        assert await client.closed()


# The server ends.


async def wound(server: Server) -> None:
    for connection in list(server.connections):
        connection.wind_down()


@pytest.mark.parametrize("asked", [False, True], ids=["fresh", "used"])
@in_loop
async def test_an_idle_connection_closes_at_once(asked: bool) -> None:
    async with serving() as server:
        client = await server.connect()
        if asked:
            await client.ask(GET)
        else:
            await asyncio.sleep(0.02)
        await wound(server)
        assert await client.closed()


@in_loop
async def test_a_request_that_has_come_is_answered() -> None:
    async with serving() as server:
        client = await server.connect()
        await client.ask(GET)
        client.writer.write(GET)  # and the server has not read it yet
        await wound(server)
        answer = await client.answer()
        assert (answer.status, answer.get("connection")) == (200, ["close"])
        assert await client.closed()


@pytest.mark.parametrize("begun", [False, True], ids=["before its head", "behind its head"])
@in_loop
async def test_an_answer_under_way_is_finished(begun: bool) -> None:
    go = asyncio.Event()
    there = asyncio.Event()

    async def handler(request: Request, response: Response) -> None:
        if begun:
            await response.start(200, b"", [])
        there.set()
        await go.wait()
        if not begun:
            await response.start(200, b"", [])
        await response.send(b"hello")
        await response.finish()

    async with serving(handler) as server:
        client = await server.connect()
        await client.send(GET + GET)
        await there.wait()
        await wound(server)
        await asyncio.sleep(0.02)
        go.set()
        answer = await client.answer()
        assert answer.body == b"hello"
        assert answer.get("connection") == ([] if begun else ["close"])
        assert await client.closed()


@in_loop
async def test_a_request_that_began_is_answered() -> None:
    async with serving() as server:
        client = await server.connect()
        await client.send(GET[:9])
        await asyncio.sleep(0.02)
        await wound(server)
        answer = await client.ask(GET[9:])
        assert (answer.status, answer.get("connection")) == (200, ["close"])
        assert await client.closed()


@in_loop
async def test_a_body_that_nobody_read_does_not_hold_the_end_up() -> None:
    async with serving(ignore, limits(keep_seconds=60)) as server:
        client = await server.connect()
        await client.ask(POST)
        await wound(server)
        await asyncio.sleep(0.02)
        await client.send(b"world")
        assert await client.closed()


@pytest.mark.parametrize(
    "sent", [b"", GET[:9], GET, POST, GET + MANY], ids=["idle", "head", "answer", "body", "many"]
)
@in_loop
async def test_a_connection_can_be_cut(sent: bytes) -> None:
    async with serving(stall) as server:
        client = await server.connect()
        await client.send(sent)
        await asyncio.sleep(0.05)
        for connection in list(server.connections):
            connection.wind_down()
            connection.cut()
        assert await server.empty(1)
        assert server.failures == []


@in_loop
async def test_a_task_that_is_cancelled_from_outside_cuts_the_connection() -> None:
    tasks: list[asyncio.Task[None] | None] = []

    async def handler(request: Request, response: Response) -> None:
        tasks.append(asyncio.current_task())
        await asyncio.sleep(60)

    async with serving(handler) as server:
        client = await server.connect()
        await client.send(GET)
        await asyncio.sleep(0.05)
        assert tasks[0] is not None
        tasks[0].cancel()
        assert await client.closed()
        assert server.failures == []


@in_loop
async def test_many_clients_that_leave_leave_nothing() -> None:
    async with serving(stream, limits()) as server:
        for round_ in range(5):
            clients = [await server.connect() for _ in range(40)]
            for client in clients:
                await client.send(GET)
            await asyncio.sleep(0.02)
            for number, client in enumerate(clients):
                (client.reset if number % 2 else client.leave)()
            assert await server.empty(3), round_
        assert server.failures == []
