"""Answers that are none, or that break off."""

from __future__ import annotations

import pytest

from cachewrap.proxy.messages import UpstreamError
from proxy.origins.scripts import CHUNKED, OK, Talk, asking, run

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
NO_HTTP = "answered what is not HTTP/1.1"
CUT = "closed the connection before its answer was whole"
NOTHING = "closed the connection without an answer"


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        pytest.param(b"", NOTHING, id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-", CUT, id="cut-head"),
        pytest.param(b"HTTP/1.1 103 Early\r\n\r\n", CUT, id="cut-behind-103"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", NO_HTTP, id="ssh"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x50\r\n\r\n", NO_HTTP, id="tls-alert"),
        pytest.param(b"HTTP/2 200 OK\r\n\r\n", NO_HTTP, id="http-2"),
        pytest.param(b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", NO_HTTP, id="no-header"),
        pytest.param(b"HTTP/1.1 200 OK\r\na : b\r\n\r\n", NO_HTTP, id="blank-behind-name"),
        pytest.param(b"HTTP/1.1 200 OK\r\na: b\x00\r\n\r\n", NO_HTTP, id="null-in-value"),
        pytest.param(b"HTTP/1.1 20 OK\r\n\r\n", NO_HTTP, id="short-status"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            NO_HTTP,
            id="two-lengths",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", NO_HTTP, id="minus-length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            NO_HTTP,
            id="gzipped",
        ),
        pytest.param(b"HTTP/1.1 101 Switch\r\n\r\n", NO_HTTP, id="101-that-nobody-asked-for"),
        pytest.param(b"HTTP/1.1 200 OK\r\na: " + b"b" * 200_000, NO_HTTP, id="endless-head"),
        pytest.param(b"HTTP/1.1 103 E\r\n\r\n" * 101 + OK, NO_HTTP, id="endless-103"),
    ],
)
def test_head_that_is_none(sent: bytes, told: str) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(sent)
        if told == NO_HTTP:
            assert await talk.is_left()

    async def main() -> None:
        async with asking(script) as client:
            with pytest.raises(UpstreamError) as error:
                await client.send("POST", body=b"a")
            assert error.value.status == 502
            assert str(error.value) == f"{client.upstream.origin.authority} {told}"
            assert len(client.upstream.talks) == 1

    run(main)


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param([LENGTH, b"abc"], [b"abc"], id="length"),
        pytest.param([LENGTH], [], id="length-none"),
        pytest.param([CHUNKED, b"1\r\na\r\n"], [b"a"], id="between-chunks"),
        pytest.param([CHUNKED, b"1\r\na\r\n2\r\nb"], [b"a", b"b"], id="in-a-chunk"),
        pytest.param([CHUNKED, b"1\r\na\r\n0\r\n"], [b"a"], id="before-the-last-line"),
        pytest.param([CHUNKED, b"1\r\na\r\n0\r\nx-sum: 1\r\n"], [b"a"], id="in-trailers"),
    ],
)
def test_body_that_is_cut(sent: list[bytes], expected: list[bytes], is_reset: bool) -> None:
    async def script(talk: Talk) -> None:
        await talk.answer(*sent)
        await talk.reader.readexactly(0)
        if is_reset:
            talk.reset()

    async def main() -> None:
        async with asking(script) as client:
            found = []
            with pytest.raises(UpstreamError, match=CUT) as error:  # noqa: PT012
                async for piece in await client.send():
                    found.append(piece)
            assert error.value.status == 502
            assert b"".join(found) in b"".join(expected)

    run(main)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(b"1\r\na\r\nzz\r\n", [b"a"], id="no-size"),
        pytest.param(b"1\r\na\r\n-1\r\n", [b"a"], id="negative-size"),
        pytest.param(b"1\r\nabc\r\n", [b"a"], id="longer-than-its-size"),
        pytest.param(b"1\r\na\r\n" + b"1" * 30 + b"\r\n", [b"a"], id="huge-size"),
        pytest.param(b"1\r\na\r\n0\r\n: x\r\n\r\n", [b"a"], id="bad-trailer"),
        pytest.param(b"1\r\na\r\n0\r\nx: " + b"b" * 200_000, [b"a"], id="endless-trailers"),
    ],
)
def test_chunks_that_are_none(sent: bytes, expected: list[bytes]) -> None:
    async def script(talk: Talk) -> None:
        await talk.answer(CHUNKED, sent)
        assert await talk.is_left()

    async def main() -> None:
        async with asking(script) as client:
            found = []
            answer = await client.send()
            with pytest.raises(UpstreamError, match=NO_HTTP):  # noqa: PT012
                async for piece in answer:
                    found.append(piece)
            assert found == expected
            with pytest.raises(UpstreamError, match=NO_HTTP):
                await anext(aiter(answer))
            await answer.aclose()

    run(main)


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        pytest.param("GET", "/a b", [], id="blank-in-target"),
        pytest.param("GET", "/\r\nx: y", [], id="line-in-target"),
        pytest.param("G ET", "/", [], id="blank-in-method"),
        pytest.param("GET", "/", [(b"a b", b"secret")], id="blank-in-name"),
        pytest.param("GET", "/", [(b"a", b"secret\r\nb: c")], id="line-in-value"),
        pytest.param("GET", "/", [(b"Host", b"secret")], id="second-host"),
    ],
)
def test_request_that_cannot_be_sent(
    method: str, target: str, headers: list[tuple[bytes, bytes]]
) -> None:
    async def script(talk: Talk) -> None:
        await talk.answer()

    async def main() -> None:
        async with asking(script) as client:
            with pytest.raises(UpstreamError, match=r"not HTTP/1\.1") as error:
                await client.send(method, target, headers)
            assert "secret" not in str(error.value)
            assert client.upstream.talks == []

    run(main)


def test_connect_is_not_passed_on() -> None:
    async def script(talk: Talk) -> None:
        await talk.answer()

    async def main() -> None:
        async with asking(script) as client:
            with pytest.raises(UpstreamError) as error:
                await client.send("CONNECT", "a:1")
            assert error.value.status == 501

    run(main)
