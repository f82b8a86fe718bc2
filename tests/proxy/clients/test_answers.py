"""Answers: how they are framed, and what of them cannot be sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from cachewrap.proxy.messages import ClientGone, Pairs, Request, Response
from proxy.clients.talk import Answer, headed, in_loop, serving

GET = headed("GET /")
PLAIN: Pairs = [(b"Content-Type", b"text/plain")]
Steps = Callable[[Response], Awaitable[None]]


async def whole(response: Response) -> None:
    await response.whole(200, b"Fine", PLAIN, b"hello")


async def whole_with_length(response: Response) -> None:
    await response.whole(200, b"Fine", [(b"CONTENT-LENGTH", b"5")], b"hello")


async def whole_with_wrong_length(response: Response) -> None:
    await response.whole(200, b"Fine", [(b"Content-Length", b"4")], b"hello")


async def whole_with_two_lengths(response: Response) -> None:
    lengths = [(b"Content-Length", b"4"), (b"content-length", b"7")]
    await response.whole(200, b"Fine", lengths, b"hello")


async def whole_and_empty(response: Response) -> None:
    await response.whole(200, b"Fine", [], b"")


async def whole_and_long(response: Response) -> None:
    await response.whole(200, b"Fine", [], b"hello" * 100_000)


async def pieces(response: Response) -> None:
    await response.start(200, b"Fine", PLAIN)
    for piece in (b"he", b"", b"llo"):
        await response.send(piece)
    await response.finish()


async def pieces_with_length(response: Response) -> None:
    await response.start(200, b"Fine", [(b"Content-Length", b"5")])
    await response.send(b"he")
    await response.send(b"llo")
    await response.finish()


async def pieces_at_once(response: Response) -> None:
    await response.pieces(200, b"Fine", PLAIN, [b"he", b"", b"llo"])


async def pieces_at_once_with_length(response: Response) -> None:
    await response.pieces(200, b"Fine", [(b"Content-Length", b"5")], [b"he", b"llo"])


async def many_pieces_at_once(response: Response) -> None:
    await response.pieces(200, b"Fine", PLAIN, [b"hello" * 1_000] * 100)


async def trailers_at_once(response: Response) -> None:
    given = [(b"X-Sum", b"1"), (b"Content-Length", b"9")]
    await response.pieces(200, b"Fine", [(b"Trailer", b"X-Sum")], [b"hello"], given)


async def no_pieces(response: Response) -> None:
    await response.start(200, b"Fine", PLAIN)
    await response.finish()


async def trailers(response: Response) -> None:
    await response.start(200, b"Fine", [(b"Trailer", b"X-Sum")])
    await response.send(b"hello")
    await response.finish([(b"X-Sum", b"1"), (b"Content-Length", b"9"), (b"bad", b"a\r\nb: c")])


async def trailers_with_length(response: Response) -> None:
    await response.start(200, b"Fine", [(b"Content-Length", b"5")])
    await response.send(b"hello")
    await response.finish([(b"X-Sum", b"1")])


async def chunked_already(response: Response) -> None:
    own: Pairs = [(b"Transfer-Encoding", b"gzip, chunked"), (b"Connection", b"close")]
    await response.start(200, b"Fine", [*own, (b"Keep-Alive", b"timeout=5"), *PLAIN])
    await response.send(b"hello")
    await response.finish()


async def answered(
    steps: Steps, request: bytes = GET, *, further: bool = True
) -> tuple[Answer, bytes]:
    """The answer, and what comes behind it."""

    async def handler(asked: Request, response: Response) -> None:
        if asked.target == "/next":
            await response.whole(200, b"", [], b"next")
            return
        await steps(response)

    async with serving(handler) as server:
        client = await server.connect()
        answer = await client.ask(request)
        assert server.failures == []
        rest = b""
        if further:
            rest = (await client.ask(headed("GET /next"))).body
        return answer, rest


@pytest.mark.parametrize(
    ("steps", "headers", "body"),
    [
        pytest.param(whole, [*PLAIN, (b"content-length", b"5")], b"hello", id="whole"),
        pytest.param(whole_with_length, [(b"CONTENT-LENGTH", b"5")], b"hello", id="its length"),
        pytest.param(
            whole_with_wrong_length, [(b"content-length", b"5")], b"hello", id="wrong length"
        ),
        pytest.param(
            whole_with_two_lengths, [(b"content-length", b"5")], b"hello", id="two lengths"
        ),
        pytest.param(whole_and_empty, [(b"content-length", b"0")], b"", id="whole and empty"),
        pytest.param(
            whole_and_long, [(b"content-length", b"500000")], b"hello" * 100_000, id="long"
        ),
        pytest.param(
            pieces_with_length, [(b"Content-Length", b"5")], b"hello", id="pieces, length"
        ),
        pytest.param(
            pieces_at_once_with_length, [(b"Content-Length", b"5")], b"hello", id="at once, length"
        ),
        pytest.param(
            trailers_with_length,
            [(b"Content-Length", b"5")],
            b"hello",
            id="a length allows no trailers",
        ),
    ],
)
@in_loop
async def test_a_length_frames_it(steps: Steps, headers: Pairs, body: bytes) -> None:
    answer, rest = await answered(steps)
    assert (answer.status, answer.reason, answer.headers) == (200, "Fine", headers)
    assert answer.body == body
    assert rest == b"next"


@pytest.mark.parametrize(
    ("steps", "chunks"),
    [
        pytest.param(pieces, [b"he", b"llo"], id="each piece is a chunk"),
        pytest.param(pieces_at_once, [b"he", b"llo"], id="at once"),
        pytest.param(many_pieces_at_once, [b"hello" * 1_000] * 100, id="many at once"),
        pytest.param(no_pieces, [], id="none"),
        pytest.param(chunked_already, [b"hello"], id="headers of the connection are not passed on"),
    ],
)
@in_loop
async def test_without_a_length_it_comes_in_chunks(steps: Steps, chunks: list[bytes]) -> None:
    answer, rest = await answered(steps)
    assert answer.headers == [*PLAIN, (b"Transfer-Encoding", b"chunked")]
    assert answer.pieces == chunks
    assert rest == b"next"


@pytest.mark.parametrize("steps", [trailers, trailers_at_once])
@in_loop
async def test_trailers_stand_behind_chunks(steps: Steps) -> None:
    answer, rest = await answered(steps)
    assert answer.trailers == [(b"X-Sum", b"1")]
    assert rest == b"next"


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", id="1.0"),
        pytest.param(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", id="1.0, kept alive"),
    ],
)
@pytest.mark.parametrize(
    ("steps", "headers"),
    [
        pytest.param(whole, [*PLAIN, (b"content-length", b"5")], id="whole"),
        pytest.param(pieces, PLAIN, id="pieces"),
        pytest.param(pieces_at_once, PLAIN, id="at once"),
        pytest.param(trailers, [(b"Trailer", b"X-Sum")], id="trailers"),
    ],
)
@in_loop
async def test_http_1_0_knows_no_chunks(steps: Steps, headers: Pairs, request_: bytes) -> None:
    answer, _ = await answered(steps, request_, further=False)
    assert answer.headers == [*headers, (b"Connection", b"close")]
    assert answer.body == b"hello"


@pytest.mark.parametrize(
    ("steps", "headers"),
    [
        pytest.param(whole, [*PLAIN, (b"content-length", b"5")], id="whole"),
        pytest.param(whole_and_empty, [(b"Transfer-Encoding", b"chunked")], id="unknown"),
        pytest.param(pieces, [*PLAIN, (b"Transfer-Encoding", b"chunked")], id="pieces"),
        pytest.param(pieces_with_length, [(b"Content-Length", b"5")], id="length"),
        pytest.param(
            trailers,
            [(b"Trailer", b"X-Sum"), (b"Transfer-Encoding", b"chunked")],
            id="trailers",
        ),
    ],
)
@in_loop
async def test_head_has_no_body(steps: Steps, headers: Pairs) -> None:
    answer, rest = await answered(steps, headed("HEAD /"))
    assert answer.headers == headers
    assert rest == b"next"


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("manner", ["whole", "pieces"])
@in_loop
async def test_an_empty_status_has_no_body(status: int, manner: str) -> None:
    given: Pairs = [(b"ETag", b'"a"')]

    async def steps(response: Response) -> None:
        if manner == "whole":
            await response.whole(status, b"", given, b"nothing of this")
        else:
            await response.start(status, b"", given)
            await response.send(b"nothing of this")
            await response.finish()

    answer, rest = await answered(steps)
    assert answer.headers == given
    assert rest == b"next"


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        pytest.param(b"", "", id="none"),
        pytest.param(b"Not  quite\tso", "Not  quite\tso", id="blanks"),
        pytest.param("Schön".encode("latin-1"), "Schön", id="beyond ASCII"),
        pytest.param(b"OK\r\nSet-Cookie: a=b", "OKSet-Cookie: a=b", id="a line of its own"),
        pytest.param(b"OK\0", "OK", id="NUL"),
    ],
)
@in_loop
async def test_the_reason_is_kept(reason: bytes, sent: str) -> None:
    answer, _ = await answered(lambda response: response.whole(200, reason, [], b""))
    assert answer.reason == sent


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        pytest.param((b"a", b"b\r\nSet-Cookie: c=d"), None, id="two lines"),
        pytest.param((b"a", b"b\nc"), None, id="LF"),
        pytest.param((b"a", b"b\rc"), None, id="CR"),
        pytest.param((b"a", b"b\0c"), None, id="NUL"),
        pytest.param((b"a b", b"c"), None, id="blank in a name"),
        pytest.param((b"a:", b"c"), None, id="colon in a name"),
        pytest.param((b"", b"c"), None, id="no name"),
        pytest.param((b"a\r\nb", b"c"), None, id="line in a name"),
        pytest.param((b"A-b", b" c\t"), (b"A-b", b"c"), id="blanks around"),
        pytest.param((b"A-b", b""), (b"A-b", b""), id="empty"),
        pytest.param((b"A-b", b"\xe4\x01"), (b"A-b", b"\xe4\x01"), id="odd but allowed"),
        pytest.param((b"Content-Length", b"5x"), None, id="no length"),
        pytest.param((b"Content-Length", b"-5"), None, id="less than none"),
        pytest.param((b"Content-Length", b"5, 6"), None, id="two lengths"),
    ],
)
@in_loop
async def test_a_header_that_cannot_be_sent_is_left_out(
    given: tuple[bytes, bytes], sent: tuple[bytes, bytes] | None
) -> None:
    async def steps(response: Response) -> None:
        await response.start(200, b"Fine", [*PLAIN, given])
        await response.send(b"hello")
        await response.finish()

    answer, rest = await answered(steps)
    kept = [sent] if sent else []
    assert answer.headers == [*PLAIN, *kept, (b"Transfer-Encoding", b"chunked")]
    assert (answer.body, rest) == (b"hello", b"next")


@in_loop
async def test_headers_keep_their_order_case_and_number() -> None:
    given: Pairs = [(b"sEt-Cookie", b"a=b"), (b"X", b"1"), (b"Set-Cookie", b"c=d"), (b"host", b"h")]
    answer, _ = await answered(lambda response: response.whole(200, b"", given, b""))
    assert sorted(answer.headers) == sorted([*given, (b"content-length", b"0")])
    assert [pair for pair in answer.headers if pair[0] != b"host"] == [
        *given[:3],
        (b"content-length", b"0"),
    ]


@pytest.mark.parametrize(
    ("length", "sent"),
    [pytest.param(b"9", b"hello", id="short"), pytest.param(b"3", b"hello", id="long")],
)
@in_loop
async def test_an_answer_that_belies_its_length_is_cut(length: bytes, sent: bytes) -> None:
    errors: list[type[Exception]] = []

    async def handler(request: Request, response: Response) -> None:
        await response.start(200, b"", [(b"Content-Length", length)])
        try:
            await response.send(sent)
            await response.finish()
        except ClientGone as error:
            errors.append(type(error))
            raise

    async with serving(handler) as server:
        client = await server.connect()
        await client.send(GET)
        got = await client.rest()
        assert got.startswith(b"HTTP/1.1 200 \r\nContent-Length: " + length)
        assert errors == [ClientGone]
        assert server.failures == []


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@in_loop
async def test_an_answer_that_broke_off_is_seen_to_be_broken(version: str) -> None:
    async def handler(request: Request, response: Response) -> None:
        await response.start(200, b"", [])
        await response.send(b"hello")
        response.abort()

    async with serving(handler) as server:
        client = await server.connect()
        await client.send(f"GET / HTTP/{version}\r\nHost: here\r\n\r\n".encode())
        if version == "1.1":
            assert (await client.rest()).endswith(b"5\r\nhello\r\n")
        else:
            with pytest.raises(ConnectionResetError):
                await client.rest()
        assert server.failures == []


@in_loop
async def test_what_comes_before_an_answer_is_passed_on() -> None:
    async def steps(response: Response) -> None:
        await response.inform(100, b"Continue", [])
        await response.inform(103, b"Early Hints", [(b"Link", b"</a>"), (b"bad\n", b"")])
        await response.inform(102, b"Processing", [])
        await whole(response)
        await response.inform(103, b"Too Late", [])

    async def handler(request: Request, response: Response) -> None:
        await steps(response)

    async with serving(handler) as server:
        client = await server.connect()
        hints = await client.ask(GET)
        assert (hints.status, hints.headers) == (103, [(b"Link", b"</a>")])
        assert (await client.answer()).status == 102
        assert (await client.answer()).body == b"hello"
        assert (await client.ask(b"GET / HTTP/1.0\r\n\r\n")).status == 200


@in_loop
async def test_a_small_answer_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []

    async def handler(request: Request, response: Response) -> None:
        (connection,) = server.connections
        monkeypatch.setattr(connection, "write", writes.append)
        await whole(response)
        monkeypatch.undo()
        connection.write(b"".join(writes))

    async with serving(handler) as server:
        assert (await server.ask(GET)).body == b"hello"
    assert len(writes) == 1


async def fails(response: Response) -> None:
    raise ValueError("a secret")


async def forgets(response: Response) -> None:
    pass


async def fails_late(response: Response) -> None:
    await response.start(200, b"", [])
    await response.send(b"hello")
    raise ValueError("a secret")


async def forgets_late(response: Response) -> None:
    await response.start(200, b"", [])
    await response.send(b"hello")


@pytest.mark.parametrize("steps", [fails, forgets])
@in_loop
async def test_a_handler_that_failed_is_told_and_answered_for(steps: Steps) -> None:
    async def handler(request: Request, response: Response) -> None:
        await steps(response)

    async with serving(handler) as server:
        client = await server.connect()
        answer = await client.ask(GET)
        assert (answer.status, answer.get("x-cachewrap")) == (500, ["bypass"])
        assert answer.get("content-type") == ["application/json"]
        assert b"secret" not in answer.body and b"Traceback" not in answer.body
        assert len(server.failures) == 1
        assert (await client.ask(GET)).status == 500


@pytest.mark.parametrize("steps", [fails_late, forgets_late])
@in_loop
async def test_a_handler_that_failed_late_is_told_and_the_answer_cut(steps: Steps) -> None:
    async def handler(request: Request, response: Response) -> None:
        await steps(response)

    async with serving(handler) as server:
        client = await server.connect()
        await client.send(GET)
        assert (await client.rest()).endswith(b"5\r\nhello\r\n")
        assert len(server.failures) == 1
