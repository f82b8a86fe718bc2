"""Requests: what of them the handler gets, and when the next one's turn comes."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from cachewrap.proxy.messages import BadBody, Request, Response
from proxy.clients.talk import Memory, chunked, echo, headed, in_loop, limits, pieces_of, serving

HELLO = headed("POST /", "Content-Length: 5", body=b"hello")


async def nothing(request: Request, response: Response) -> None:
    """Answer without a look at the body."""
    await response.whole(200, b"", [], b"done")


@in_loop
async def test_the_handler_gets_all_of_it() -> None:
    found: list[Request] = []

    async def handler(request: Request, response: Response) -> None:
        found.append(request)
        await nothing(request, response)

    async with serving(handler) as server:
        await server.ask(
            b"pOST /a/../b%2Fc?d=e&f HTTP/1.1\r\n"
            b"Host: here:1\r\nX-a:  b c \r\nx-A: \xe4\r\nE:\r\n\r\n"
        )
    (request,) = found
    assert (request.method, request.target, request.version) == (
        "pOST",
        "/a/../b%2Fc?d=e&f",
        "1.1",
    )
    assert request.headers == [
        (b"Host", b"here:1"),
        (b"X-a", b"b c"),
        (b"x-A", b"\xe4"),
        (b"E", b""),
    ]
    assert (request.trailers, request.peer, request.upgrade) == ([], "127.0.0.1", "")


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(headed("GET /"), id="no body"),
        pytest.param(headed("POST /", "Content-Length: 0"), id="length 0"),
        pytest.param(HELLO, id="length"),
        pytest.param(headed("POST /", "Content-Length: 05", body=b"hello"), id="length 05"),
        pytest.param(
            headed("POST /", "Content-Length: 5, 5", body=b"hello"), id="the same length twice"
        ),
        pytest.param(
            headed("POST /", "Transfer-Encoding: Chunked", body=chunked(b"he", b"llo")),
            id="chunks",
        ),
        pytest.param(
            headed("POST /", "Transfer-Encoding: chunked", body=chunked()), id="no chunks"
        ),
        pytest.param(
            headed(
                "POST /",
                "Transfer-Encoding: chunked",
                body=b'5;a=b;c="d"\r\nhello\r\n0005 \r\nworld\r\n000\r\n\r\n',
            ),
            id="what chunks say besides",
        ),
        pytest.param(
            headed(
                "POST /",
                "Transfer-Encoding: chunked",
                body=chunked(b"hello", trailers=b"X-Sum: 1\r\nContent-Length: 3\r\nY:\r\n"),
            ),
            id="trailers",
        ),
        pytest.param(b"\r\n" + headed("GET /"), id="an empty line before"),
        pytest.param(headed("OPTIONS *"), id="of the server"),
        pytest.param(headed("GET /", "Upgrade: h2c", "Connection: Upgrade"), id="upgrade"),
    ],
)
@in_loop
async def test_it_is_the_same_however_it_is_split(request_: bytes) -> None:
    plain = await Memory(echo).feed(request_)
    assert plain.startswith(b"HTTP/1.1 200 OK")
    for at in range(1, len(request_)):
        assert await Memory(echo).feed(*pieces_of(request_, [at])) == plain
    assert await Memory(echo).feed(*pieces_of(request_, range(1, len(request_)))) == plain


@in_loop
async def test_trailers_are_there_behind_the_body() -> None:
    body = chunked(b"hello", trailers=b"X-Sum: 1\r\nHost: there\r\nTransfer-Encoding: x\r\n")
    async with serving() as server:
        answer = await server.ask(headed("POST /", "Transfer-Encoding: chunked", body=body))
        assert answer.body.split(b"\n")[-2:] == [b"hello", b"X-Sum=1"]


@in_loop
async def test_pipelined_requests_are_answered_one_after_another() -> None:
    running: list[str] = []

    async def handler(request: Request, response: Response) -> None:
        running.append(request.target)
        await asyncio.sleep(0.02 if request.target == "/1" else 0)
        assert running == [request.target]
        await echo(request, response)
        running.remove(request.target)

    async with serving(handler) as server:
        client = await server.connect()
        await client.send(
            headed("POST /1", "Content-Length: 5", body=b"hello")
            + b"\r\n"
            + headed("POST /2", "Transfer-Encoding: chunked", body=chunked(b"a", b"b"))
            + headed("GET /3")
            + headed("GET /4", "Connection: close")
            + headed("GET /5")
        )
        for number in range(1, 5):
            answer = await client.answer()
            assert answer.body.split(b"\n")[1] == b"/%d" % number
        assert answer.get("connection") == ["close"]
        assert await client.closed()
        assert server.failures == []


@in_loop
async def test_pipelined_requests_wait_outside() -> None:
    go = asyncio.Event()
    many = headed("GET /" + "a" * 1000) * 1_000

    async def handler(request: Request, response: Response) -> None:
        await go.wait()
        await nothing(request, response)

    async with serving(handler) as server:
        client = await server.connect()
        client.writer.write(many)
        await asyncio.sleep(0.2)
        (connection,) = server.connections
        assert len(connection._waiting) < 512 * 1024
        go.set()
        for _ in range(1_000):
            await client.answer()
        assert (await client.ask(headed("GET /"))).status == 200


@in_loop
async def test_a_body_waits_outside() -> None:
    go = asyncio.Event()
    size = 20 * 1024 * 1024

    async def handler(request: Request, response: Response) -> None:
        await go.wait()
        count = 0
        async for piece in request:
            count += len(piece)
        await response.whole(200, b"", [], b"%d" % count)

    async with serving(handler) as server:
        client = await server.connect()
        client.writer.write(headed("POST /", f"Content-Length: {size}", body=bytes(size)))
        await asyncio.sleep(0.2)
        (connection,) = server.connections
        assert connection._exchange is not None
        assert 256 * 1024 < connection._exchange[0].held <= 512 * 1024
        go.set()
        assert (await client.answer()).body == b"%d" % size


@in_loop
async def test_a_body_comes_piece_by_piece() -> None:
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def handler(request: Request, response: Response) -> None:
        async for piece in request:
            got.put_nowait(piece)
        await nothing(request, response)

    async with serving(handler) as server:
        client = await server.connect()
        await client.send(headed("POST /", "Transfer-Encoding: chunked"))
        for piece in (b"he", b"llo"):
            await client.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            assert await got.get() == piece
        await client.send(b"0\r\n\r\n")
        assert (await client.answer()).body == b"done"


@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize(
    ("most", "read"),
    [
        pytest.param(9, None, id="too long"),
        pytest.param(10, b"hello" * 2, id="just short enough"),
        pytest.param(99, b"hello" * 2, id="shorter"),
    ],
)
@in_loop
async def test_what_was_read_of_a_long_body_comes_again(
    framing: str, most: int, read: bytes | None
) -> None:
    async def handler(request: Request, response: Response) -> None:
        server.seen.append(await request.read(most))
        server.seen.append(b"".join([piece async for piece in request]))
        await nothing(request, response)

    async with serving(handler) as server:
        client = await server.connect()
        if framing == "length":
            pieces = [headed("POST /", "Content-Length: 10"), b"hello", b"hello"]
        else:
            head = headed("POST /", "Transfer-Encoding: chunked")
            pieces = [head, b"5\r\nhello\r\n", b"5\r\nhello\r\n0\r\n\r\n"]
        await client.ask(*pieces)
        assert server.seen == [read, b"" if read else b"hello" * 2]


@in_loop
async def test_what_was_read_until_a_timeout_comes_again() -> None:
    async def handler(request: Request, response: Response) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(request.read(100), 0.1)
        await client.send(b"world")
        server.seen.append(await request.read(100))
        await nothing(request, response)

    async with serving(handler) as server:
        client = await server.connect()
        await client.ask(headed("POST /", "Content-Length: 10", body=b"hello"))
        assert server.seen == [b"helloworld"]


@in_loop
async def test_a_client_that_waits_is_asked_for_its_body_once_that_is_read() -> None:
    go = asyncio.Event()

    async def handler(request: Request, response: Response) -> None:
        await go.wait()
        await echo(request, response)

    async with serving(handler) as server:
        client = await server.connect()
        await client.send(headed("POST /", "Expect: 100-Continue", "Content-Length: 5"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.readexactly(1), 0.1)
        go.set()
        assert (await client.answer()).status == 100
        assert (await client.ask(b"hello")).body.endswith(b"hello")
        assert (await client.ask(HELLO)).status == 200


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(
            headed("POST /", "Expect: 100-continue", "Content-Length: 5", body=b"hello"),
            id="a body that came unasked",
        ),
        pytest.param(
            headed("POST /", "Expect: 100-continue", "Content-Length: 0"), id="an empty body"
        ),
        pytest.param(headed("POST /", "Expect: 100-continue"), id="no body"),
    ],
)
@in_loop
async def test_a_client_is_not_asked_for_what_is_there(request_: bytes) -> None:
    async with serving() as server:
        client = await server.connect()
        assert (await client.ask(request_)).status == 200
        assert (await client.ask(HELLO)).status == 200


@in_loop
async def test_a_client_of_http_1_0_is_not_asked() -> None:
    async with serving() as server:
        head = b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        assert (await server.ask(head, b"hello")).status == 200


@in_loop
async def test_a_client_whose_body_is_not_wanted_is_told_at_once() -> None:
    async with serving(nothing) as server:
        client = await server.connect()
        answer = await client.ask(headed("POST /", "Expect: 100-continue", "Content-Length: 5"))
        assert (answer.status, answer.get("connection")) == (200, ["close"])
        assert await client.closed()


@in_loop
async def test_a_long_body_is_not_asked_for_by_one_who_wants_a_short_one() -> None:
    async def handler(request: Request, response: Response) -> None:
        server.seen.append(await request.read(4))
        await nothing(request, response)

    async with serving(handler) as server:
        answer = await server.ask(headed("POST /", "Expect: 100-continue", "Content-Length: 5"))
        assert (answer.status, server.seen) == (200, [None])


@pytest.mark.parametrize("framing", ["length", "chunks"])
@in_loop
async def test_a_short_body_that_nobody_read_does_not_end_the_connection(framing: str) -> None:
    if framing == "length":
        pieces = [headed("POST /", "Content-Length: 10"), b"hello"]
        end = b"hello"
    else:
        pieces = [headed("POST /", "Transfer-Encoding: chunked"), b"5\r\nhello\r\n"]
        end = b"5\r\nhello\r\n0\r\n\r\n"
    async with serving(nothing) as server:
        client = await server.connect()
        answer = await client.ask(*pieces)
        assert answer.get("connection") == []
        assert (await client.ask(end + HELLO)).status == 200
        assert (await client.ask(HELLO)).status == 200


@in_loop
async def test_a_long_body_that_nobody_read_ends_the_connection() -> None:
    async with serving(nothing) as server:
        client = await server.connect()
        answer = await client.ask(headed("POST /", f"Content-Length: {2**20}"))
        assert answer.get("connection") == ["close"]
        assert await client.closed()


@in_loop
async def test_long_chunks_that_nobody_read_end_the_connection() -> None:
    async with serving(nothing) as server:
        client = await server.connect()
        answer = await client.ask(headed("POST /", "Transfer-Encoding: chunked"))
        assert answer.get("connection") == []
        await client.send(b"80000\r\n" + bytes(0x80000))
        assert await client.closed()


@in_loop
async def test_a_body_that_nobody_read_and_that_does_not_come_ends_the_connection() -> None:
    async with serving(nothing) as server:
        client = await server.connect()
        assert (await client.ask(headed("POST /", "Content-Length: 10"))).status == 200
        assert await client.closed()


@in_loop
async def test_an_early_answer_reaches_a_client_that_still_sends() -> None:
    async with serving(nothing) as server:
        client = await server.connect()
        size = 8 * 2**20
        sending = asyncio.create_task(
            client.send(headed("POST /", f"Content-Length: {size}"), bytes(size))
        )
        assert (await client.answer()).body == b"done"
        await asyncio.wait_for(sending, 5)


@in_loop
async def test_an_answer_may_begin_before_the_body_has_come() -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.start(200, b"", [])
        async for piece in request:
            await response.send(piece)
        await response.finish()

    async with serving(handler) as server:
        client = await server.connect()
        await client.send(headed("POST /", "Transfer-Encoding: chunked"))
        assert await client.line() == b"HTTP/1.1 200 "
        assert await client.pairs() == [(b"Transfer-Encoding", b"chunked")]
        for piece in (b"1", b"2"):
            await client.send(b"1\r\n%s\r\n" % piece)
            assert [await client.line(), await client.line()] == [b"1", piece]
        await client.send(b"0\r\n\r\n")
        assert [await client.line(), await client.line()] == [b"0", b""]
        assert (await client.ask(headed("GET /"))).status == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"x\r\n", 400, id="no number"),
        pytest.param(b"\r\n", 400, id="no line"),
        pytest.param(b"-1\r\n", 400, id="less than none"),
        pytest.param(b"+1\r\na\r\n", 400, id="sign"),
        pytest.param(b"0x1\r\na\r\n", 400, id="0x"),
        pytest.param(b"1_0\r\na\r\n", 400, id="underscore"),
        pytest.param(b" 1\r\na\r\n", 400, id="blank before"),
        pytest.param(b"1\na\r\n", 400, id="LF behind the size"),
        pytest.param(b"1\na\n0\n\n", 400, id="only LF"),
        pytest.param(b"1\ra\r\n", 400, id="CR in the size"),
        pytest.param(b"1;a\nb\r\na\r\n0\r\n\r\n", 400, id="LF in an extension"),
        pytest.param(b"1;a\rb\r\na\r\n0\r\n\r\n", 400, id="CR in an extension"),
        pytest.param(b"1;a\0b\r\na\r\n0\r\n\r\n", 400, id="NUL in an extension"),
        pytest.param(b"f" * 17 + b"\r\n", 400, id="size of 17 digits"),
        pytest.param(b"1;" + b"a" * 5000 + b"\r\n", 400, id="long extension"),
        pytest.param(b"1;" + b"a" * 5000, 400, id="endless extension"),
        pytest.param(b"1\r\nab\r\n", 400, id="longer than its size"),
        pytest.param(b"1\r\na\n0\r\n\r\n", 400, id="LF behind a chunk"),
        pytest.param(b"1\r\na0\r\n\r\n", 400, id="nothing behind a chunk"),
        pytest.param(b"0\r\nX: 1\n\r\n", 400, id="LF in trailers"),
        pytest.param(b"0\r\nX: 1\n\n", 400, id="only LF in trailers"),
        pytest.param(b"0\r\nX: 1\r\n Y: 2\r\n\r\n", 400, id="folded trailer"),
        pytest.param(b"0\r\nX : 1\r\n\r\n", 400, id="blank before a trailer's colon"),
        pytest.param(b"0\r\nX\r\n\r\n", 400, id="trailer without a colon"),
        pytest.param(b"0\r\nX: \0\r\n\r\n", 400, id="NUL in a trailer"),
        pytest.param(b"0\r\n" + b"X: 1\r\n" * 300 + b"\r\n", 431, id="many trailers"),
        pytest.param(b"0\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431, id="long trailer"),
        pytest.param(b"0\r\nX: " + b"a" * 20_000, 431, id="endless trailer"),
        pytest.param(b"400\r\n" + bytes(0x400) + b"\r\n1\r\na\r\n0\r\n\r\n", 413, id="too long"),
    ],
)
@pytest.mark.parametrize("reading", ["reads", "iterates", "does not look"])
@in_loop
async def test_chunks_that_are_none_are_refused(body: bytes, status: int, reading: str) -> None:
    async def handler(request: Request, response: Response) -> None:
        try:
            if reading == "reads":
                await request.read(4096)
            elif reading == "iterates":
                async for _ in request:
                    pass
            else:
                await asyncio.sleep(0.02)
        except BadBody as error:
            server.seen.append(error.status)
            raise
        await nothing(request, response)

    async with serving(handler, limits(body_bytes=1024)) as server:
        client = await server.connect()
        head = headed("POST /", "Transfer-Encoding: chunked")
        answer = await client.ask(head, body, headed("GET /smuggled"))
        if reading == "does not look":
            assert answer.status == 200
        else:
            assert (answer.status, server.seen) == (status, [status])
        assert answer.get("connection") == ["close"]
        assert await client.closed()
        assert server.failures == []


@in_loop
async def test_chunks_that_are_none_end_the_connection_though_nobody_read_them() -> None:
    go = asyncio.Event()

    async def handler(request: Request, response: Response) -> None:
        await response.start(200, b"", [])
        await go.wait()
        await response.finish()

    memory = Memory(handler)
    await memory.feed(headed("POST /", "Transfer-Encoding: chunked"), b"x\r\n")
    go.set()
    await memory.rest()
    assert memory.ended
