"""Requests as upstreams get them, and answers that come before all was sent."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cachewrap.proxy import upstream
from cachewrap.proxy.messages import Origin, Pairs, UpstreamError
from cachewrap.proxy.origins import Origins
from cachewrap.proxy.settings import Limits
from proxy.origins.scripts import CHUNKED, OK, Talk, asking, pieces, run, stream

TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EXPECT = [(b"Expect", b"100-continue")]


async def answering(talk: Talk) -> None:
    while True:
        await talk.answer()


@pytest.mark.parametrize(
    ("headers", "body", "framing", "expected"),
    [
        pytest.param([], None, {}, b"", id="nothing"),
        pytest.param(
            [(b"content-length", b"0")], None, {"content-length": "0"}, b"", id="nothing-0"
        ),
        pytest.param([(b"content-length", b"7")], None, {}, b"", id="nothing-with-length"),
        pytest.param([], b"", {"Content-Length": "0"}, b"", id="empty"),
        pytest.param([], b"abc", {"Content-Length": "3"}, b"abc", id="bytes"),
        pytest.param(
            [(b"CONTENT-length", b"7")], b"abc", {"CONTENT-length": "3"}, b"abc", id="other-length"
        ),
        pytest.param([], b"a" * 100_000, {"Content-Length": "100000"}, b"a" * 100_000, id="large"),
        pytest.param([], (b"a", b"", b"bc"), {"Transfer-Encoding": "chunked"}, b"abc", id="stream"),
        pytest.param([], (), {"Transfer-Encoding": "chunked"}, b"", id="empty-stream"),
        pytest.param(
            [(b"Content-length", b"3")],
            (b"a", b"bc"),
            {"Content-length": "3"},
            b"abc",
            id="stream-with-length",
        ),
    ],
)
def test_framing(headers: Pairs, body: Any, framing: dict[str, str], expected: bytes) -> None:
    async def main() -> None:
        async with asking(answering) as client:
            for _ in range(2):
                given = stream(*body) if isinstance(body, tuple) else body
                assert await client.read("POST", "/", headers, given) == b"ok"
            assert len(client.upstream.talks) == 1
            for seen in client.upstream.seen:
                assert dict(seen.headers) == {
                    "Host": client.upstream.origin.authority,
                    **framing,
                }
                assert seen.body == expected

    run(main)


def test_request_is_as_it_was_written() -> None:
    headers = [(b"x-B", b"1"), (b"X-a", b"caf\xe9"), (b"x-B", b"2"), (b"Accept-Encoding", b"br")]

    async def main() -> None:
        async with asking(answering) as client:
            await client.read("OPTIONS", "/a%2Fb/../c?d=e&f=%20;g", headers)
            (seen,) = client.upstream.seen
            assert seen.line == "OPTIONS /a%2Fb/../c?d=e&f=%20;g HTTP/1.1"
            assert seen.headers[1:] == [(a.decode(), b.decode("latin-1")) for a, b in headers]

    run(main)


def test_pieces_go_as_chunks_at_once() -> None:
    arrived = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.head()
        for expected in (b"one", b"two", b""):
            assert await talk.chunk() == expected
            arrived.set()
        await talk.reader.readline()
        await talk.send(OK)

    async def body() -> AsyncIterator[bytes]:
        for piece in (b"one", b"two"):
            yield piece
            await arrived.wait()
            arrived.clear()

    async def main() -> None:
        async with asking(script) as client:
            assert await client.read("POST", body=body()) == b"ok"

    run(main)


def test_trailers_of_a_request() -> None:
    async def main() -> None:
        async with asking(answering) as client:
            trailers = [(b"X-Sum", b"1")]
            await client.read("POST", body=stream(b"a"), trailers=lambda: trailers)
            (seen,) = client.upstream.seen
            assert (seen.body, seen.trailers) == (b"a", [("X-Sum", "1")])
            assert seen.value("content-length") is None

    run(main)


def test_trailers_are_asked_for_behind_the_body() -> None:
    order: list[str] = []

    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        order.append("body")

    def trailers() -> Pairs:
        order.append("trailers")
        return []

    async def main() -> None:
        async with asking(answering) as client:
            await client.read("POST", body=body(), trailers=trailers)
            assert order == ["body", "trailers"]

    run(main)


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "open"])
def test_answer_before_the_body_was_sent(is_closed: bool) -> None:
    ends: list[str] = []

    async def script(talk: Talk) -> None:
        await talk.head()
        await talk.send(TOO_LARGE)
        if not is_closed:
            assert await talk.reader.read() != b"nothing"

    async def body() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"a" * 1000
                await asyncio.sleep(0.001)
        finally:
            ends.append("body")

    async def main() -> None:
        async with asking(script) as client:
            answer = await client.send("POST", body=body())
            assert (answer.status, await pieces(answer)) == (413, [b"big"])
            assert ends == ["body"]
            assert not client.origins.connections or not is_closed

    run(main)


@pytest.mark.parametrize("is_seen", [True, False], ids=["seen", "unseen"])
def test_answer_of_an_upstream_that_closes_what_it_has_not_read(
    is_seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_seen:
        # It came between the look and the write.
        monkeypatch.setattr(upstream, "is_readable", lambda transport: False)

    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)

        async def body() -> AsyncIterator[bytes]:
            yield b"a" * 1000
            accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
            accepted.send(TOO_LARGE)
            accepted.close()
            for _ in range(10):
                yield b"a" * 1000

        origins = Origins(Limits())
        origin = Origin("http", *listener.getsockname())
        answer = await origins.send(origin, "POST", "/", [], body())
        assert (answer.status, await pieces(answer)) == (413, [b"big"])
        await origins.aclose()
        listener.close()

    run(main)


def test_answer_is_read_while_the_body_goes_on() -> None:
    async def script(talk: Talk) -> None:
        await talk.head()
        await talk.send(CHUNKED)
        while piece := await talk.chunk():
            await talk.send(b"%x\r\n%b\r\n" % (len(piece), piece.upper()))
        await talk.reader.readline()
        await talk.send(b"0\r\n\r\n")
        await talk.answer()

    async def main() -> None:
        turn = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            for piece in (b"one", b"two", b"three"):
                yield piece
                await turn.wait()
                turn.clear()

        async with asking(script) as client:
            found = []
            async for piece in await client.send("POST", body=body()):
                found.append(piece)
                turn.set()
            assert found == [b"ONE", b"TWO", b"THREE"]
            assert await client.read() == b"ok"
            assert len(client.upstream.talks) == 1

    run(main)


@pytest.mark.parametrize("piece", [b"a" * 10_000, b"a" * 1_000_000], ids=["pieces", "blocks"])
def test_upload_waits_for_an_upstream_that_is_slow(piece: bytes) -> None:
    given = 0

    async def script(talk: Talk) -> None:
        await talk.head()
        await asyncio.sleep(0.2)
        assert given < 8_000_000
        await talk.send(TOO_LARGE)
        await talk.is_left()

    async def body() -> AsyncIterator[bytes]:
        nonlocal given
        while given < 50_000_000:
            yield piece
            given += len(piece)

    async def main() -> None:
        async with asking(script) as client:
            assert await client.read("POST", body=body()) == b"big"

    run(main)


@pytest.mark.parametrize("is_early", [True, False], ids=["behind-the-head", "before-it"])
def test_what_a_body_raises_passes_through(is_early: bool) -> None:
    async def script(talk: Talk) -> None:
        await talk.head()
        if is_early:
            await talk.send(CHUNKED + b"1\r\na\r\n")
        while await talk.chunk():
            pass
        raise AssertionError

    async def main() -> None:
        go_on = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b"a"
            if is_early:
                await go_on.wait()
            raise LookupError("a")

        async with asking(script) as client:
            with pytest.raises(LookupError):  # noqa: PT012
                answer = await client.send("POST", body=body())
                async for _ in answer:
                    go_on.set()
            assert len(client.upstream.talks) == 1

    run(main)


@pytest.mark.parametrize(
    "body", [pytest.param((b"a",), id="short"), pytest.param((b"a", b"bcd"), id="long")]
)
def test_body_that_is_not_as_long_as_its_length(body: tuple[bytes, ...]) -> None:
    async def script(talk: Talk) -> None:
        await talk.head()
        assert await talk.reader.read() in (b"a", b"")

    async def main() -> None:
        async with asking(script) as client:
            with pytest.raises(UpstreamError, match="not as long as its length"):
                await client.send("POST", "/", [(b"Content-Length", b"3")], stream(*body))

    run(main)


def test_body_waits_until_the_upstream_wants_it() -> None:
    order: list[object] = []

    async def script(talk: Talk) -> None:
        seen = await talk.head()
        assert seen.value("expect") == "100-continue"
        await asyncio.sleep(0.05)
        order.append("continue")
        await talk.send(CONTINUE)
        assert await talk.chunk() == b"a"
        assert await talk.chunk() == b""
        await talk.reader.readline()
        await talk.send(OK)

    async def inform(status: int, reason: bytes, headers: Pairs) -> None:
        order.append(status)

    async def body() -> AsyncIterator[bytes]:
        order.append("body")
        yield b"a"

    async def main() -> None:
        async with asking(script) as client:
            assert await client.read("POST", "/", EXPECT, body(), inform=inform) == b"ok"
            assert order == ["continue", 100, "body"]

    run(main)


def test_body_that_the_upstream_does_not_want_is_not_asked_for() -> None:
    async def script(talk: Talk) -> None:
        await talk.head()
        await talk.send(TOO_LARGE[:-3])
        await asyncio.sleep(0.02)
        await talk.send(b"big")
        assert await talk.is_left()

    async def body() -> AsyncIterator[bytes]:
        raise AssertionError
        yield b""

    async def main() -> None:
        async with asking(script) as client:
            answer = await client.send("POST", "/", EXPECT, body())
            await asyncio.sleep(0.05)
            assert await pieces(answer) == [b"big"]

    run(main)


def test_body_goes_to_an_upstream_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "_CONTINUE_SECONDS", 0.05)

    async def main() -> None:
        async with asking(answering) as client:
            assert await client.read("POST", "/", EXPECT, stream(b"a")) == b"ok"
            assert client.upstream.seen[0].body == b"a"

    run(main)


def test_continue_is_of_no_use_behind_bytes() -> None:
    async def script(talk: Talk) -> None:
        await talk.answer(CONTINUE + OK)

    async def inform(status: int, reason: bytes, headers: Pairs) -> None:
        raise AssertionError

    async def main() -> None:
        async with asking(script) as client:
            assert await client.read("POST", "/", EXPECT, b"a", inform=inform) == b"ok"

    run(main)
