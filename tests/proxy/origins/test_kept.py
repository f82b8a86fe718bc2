"""Connections that are kept for the next request."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from cachewrap.proxy import origins as module
from cachewrap.proxy.messages import UpstreamError
from proxy.origins.scripts import CHUNKED, OK, Talk, asking, pieces, run, stream, until

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"


async def answering(talk: Talk) -> None:
    while True:
        await talk.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % talk.number)


def test_last_one_serves_the_next_request() -> None:
    async def main() -> None:
        async with asking(answering) as client:
            answers = [await client.send() for _ in range(3)]
            assert [await pieces(answer) for answer in answers] == [[b"0"], [b"1"], [b"2"]]
            assert [await client.read() for _ in range(3)] == [b"2", b"2", b"2"]
            assert len(client.origins.connections) == 3

    run(main)


@pytest.mark.parametrize(
    ("sent", "is_kept"),
    [
        pytest.param(OK, True, id="all-is-there"),
        pytest.param(OK[:-2], False, id="body-is-not"),
        pytest.param(OK[:-1], False, id="nor-its-end"),
        pytest.param(CHUNKED + b"0\r\n\r\n", True, id="empty-chunked"),
        pytest.param(CHUNKED, False, id="no-chunk-yet"),
        pytest.param(b"HTTP/1.1 204 None\r\n\r\n", True, id="204"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n", False, id="old"),
    ],
)
def test_answer_that_nobody_reads(sent: bytes, is_kept: bool) -> None:
    async def script(talk: Talk) -> None:
        await talk.answer(sent)
        assert await talk.is_left()

    async def main() -> None:
        async with asking(script) as client:
            answer = await client.send()
            await answer.aclose()
            await answer.aclose()
            assert [piece async for piece in answer] == []
            await until(lambda: bool(client.origins.connections) == is_kept)

    run(main)


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
def test_one_that_the_upstream_closed_is_forgotten(is_reset: bool) -> None:
    async def script(talk: Talk) -> None:
        await talk.answer()
        if is_reset:
            talk.reset()

    async def main() -> None:
        async with asking(script) as client:
            assert await client.read() == b"ok"
            await until(lambda: not client.origins.connections)
            assert await client.read("POST", body=stream(b"a")) == b"ok"

    run(main)


def test_one_on_which_something_came_is_forgotten() -> None:
    async def script(talk: Talk) -> None:
        await talk.answer()
        await asyncio.sleep(0.02)
        await talk.send(b"HTTP/1.1 408 Time-out\r\n\r\n")
        assert await talk.is_left()

    async def main() -> None:
        async with asking(script) as client:
            assert await client.read() == b"ok"
            await until(lambda: not client.origins.connections)

    run(main)


def test_idle_ones_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.04)

    async def main() -> None:
        async with asking(answering) as client:
            await client.read()
            await until(lambda: not client.origins.connections)
            await client.read()
            await until(lambda: not client.origins.connections)
            assert len(client.upstream.talks) == 2

    run(main)


def test_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDLE_MOST", 3)

    async def main() -> None:
        async with asking(answering) as client:
            answers = [await client.send() for _ in range(8)]
            assert len(client.origins.connections) == 8
            for answer in answers:
                await pieces(answer)
            await until(lambda: len(client.origins.connections) == 3)

    run(main)


@pytest.mark.parametrize("body", [None, b"abc", b""], ids=["nothing", "bytes", "empty"])
def test_request_on_a_kept_one_that_is_closed_is_sent_again(body: bytes | None) -> None:
    async def script(talk: Talk) -> None:
        await talk.answer()
        await talk.request()

    async def main() -> None:
        async with asking(script) as client:
            assert await client.read() == b"ok"
            assert await client.read("POST", body=body) == b"ok"
            assert [seen.body for seen in client.upstream.seen] == [b"", body or b"", body or b""]
            assert len(client.upstream.talks) == 2

    run(main)


def test_request_is_sent_again_once_only() -> None:
    async def script(talk: Talk) -> None:
        if talk.number == 0:
            await talk.answer()
        await talk.request()

    async def main() -> None:
        async with asking(script) as client:
            assert await client.read() == b"ok"
            with pytest.raises(UpstreamError, match="without an answer"):
                await client.read("POST", body=b"abc")
            assert len(client.upstream.talks) == 2

    run(main)


@pytest.mark.parametrize(
    ("body", "sent", "told"),
    [
        pytest.param((b"a",), b"", "without an answer", id="stream"),
        pytest.param(b"a", b"H", "before its answer was whole", id="behind-a-byte"),
        pytest.param(
            b"a", b"HTTP/1.1 103 E\r\n\r\n", "before its answer was whole", id="behind-103"
        ),
        pytest.param(b"a", b"nothing\r\n\r\n", "not HTTP", id="no-http"),
    ],
)
def test_request_is_not_sent_again(body: Any, sent: bytes, told: str) -> None:
    async def script(talk: Talk) -> None:
        await talk.answer()
        await talk.answer(sent)

    async def main() -> None:
        async with asking(script) as client:
            assert await client.read() == b"ok"
            given = stream(*body) if isinstance(body, tuple) else body
            with pytest.raises(UpstreamError, match=told):
                await client.read("POST", body=given)
            assert len(client.upstream.talks) == 1

    run(main)


def test_request_that_took_too_long_is_not_sent_again() -> None:
    async def script(talk: Talk) -> None:
        await talk.answer()
        await talk.request()
        assert await talk.is_left()

    async def main() -> None:
        async with asking(script, upstream_seconds=0.05) as client:
            assert await client.read() == b"ok"
            with pytest.raises(UpstreamError) as error:
                await client.read()
            assert error.value.status == 504
            assert len(client.upstream.talks) == 1

    run(main)


def test_stream_goes_on_one_that_was_just_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with asking(answering) as client:
            await client.read()
            assert await client.read("POST", body=stream(b"a")) == b"0"
            monkeypatch.setattr(module, "_SURE_SECONDS", 0.0)
            await asyncio.sleep(0.01)
            assert await client.read("POST", body=stream(b"a")) == b"1"

    run(main)


def test_stream_does_not_go_on_one_that_ended_just_now() -> None:
    async def main() -> None:
        async with asking(answering) as client:
            await client.read()
            place = client.upstream.talks[0].writer.get_extra_info("socket")
            place.shutdown(socket.SHUT_RDWR)
            assert await client.read("POST", body=stream(b"a")) == b"1"

    run(main)


def test_close_of_all() -> None:
    async def script(talk: Talk) -> None:
        await talk.answer(LENGTH, b"ab")
        assert await talk.is_left()

    async def main() -> None:
        async with asking(script) as client:
            answer = await client.send()
            body = aiter(answer)
            assert await anext(body) == b"ab"
            waits = asyncio.ensure_future(anext(body))
            await asyncio.sleep(0)
            await client.origins.aclose()
            assert not client.origins.connections
            with pytest.raises(UpstreamError, match="ends"):
                await waits
            with pytest.raises(UpstreamError, match="ends"):
                await client.send()

    run(main)
