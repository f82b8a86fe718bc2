"""Answers as upstreams may give them."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from cachewrap.proxy.messages import Pairs
from proxy.origins.scripts import CHUNKED, OK, Talk, asking, pieces, run, until

ZIPPED = gzip.compress(b"hello")


@pytest.mark.parametrize(
    ("method", "sent", "status", "expected", "is_kept"),
    [
        pytest.param("GET", OK, 200, [b"ok"], True, id="length"),
        pytest.param("GET", OK.replace(b"2\r\n\r\nok", b"0\r\n\r\n"), 200, [], True, id="empty"),
        pytest.param(
            "GET",
            CHUNKED + b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
            200,
            [b"a", b"bc"],
            True,
            id="chunks",
        ),
        pytest.param(
            "GET", CHUNKED + b"1;q=1\r\na\r\n0;z\r\n\r\n", 200, [b"a"], True, id="extensions"
        ),
        pytest.param(
            "GET", CHUNKED + b"001\r\na\r\n000\r\n\r\n", 200, [b"a"], True, id="leading-zeros"
        ),
        pytest.param("GET", b"HTTP/1.1 200 OK\r\n\r\nto end", 200, [b"to end"], False, id="end"),
        pytest.param("GET", b"HTTP/1.0 200 OK\r\n\r\nold", 200, [b"old"], False, id="old"),
        pytest.param(
            "GET",
            b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold",
            200,
            [b"old"],
            False,
            id="old-length",
        ),
        pytest.param("GET", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, [], True, id="bare"),
        pytest.param("GET", b"HTTP/1.1 204 None\r\n\r\n", 204, [], True, id="204"),
        pytest.param(
            "GET", b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n", 304, [], True, id="304"
        ),
        pytest.param(
            "HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 200, [], True, id="head"
        ),
        pytest.param("HEAD", CHUNKED, 200, [], True, id="head-chunked"),
        pytest.param(
            "GET",
            OK.replace(b"\r\nContent", b"\r\nConnection: close\r\nContent"),
            200,
            [b"ok"],
            False,
            id="closing",
        ),
        pytest.param("GET", OK + b"HTTP/1.1 200 O", 200, [b"ok"], False, id="more-than-asked"),
        pytest.param("GET", OK.replace(b"\r\n", b"\n"), 200, [b"ok"], True, id="line-feeds"),
        pytest.param(
            "GET", OK.replace(b"200", b"599"), 599, [b"ok"], True, id="status-that-nobody-knows"
        ),
    ],
)
def test_answer_is_read(
    method: str, sent: bytes, status: int, expected: list[bytes], is_kept: bool
) -> None:
    async def script(talk: Talk) -> None:
        await talk.answer(sent)
        if is_kept:
            await talk.answer()
        elif not sent.endswith(b"end") and b"1.0" not in sent:
            assert await talk.is_left()

    async def main() -> None:
        async with asking(script) as client:
            answer = await client.send(method)
            assert (answer.status, await pieces(answer)) == (status, expected)
            if is_kept:
                assert await client.read() == b"ok"
                assert len(client.upstream.talks) == 1
            else:
                await until(lambda: not client.origins.connections)

    run(main)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(b"X-REQUEST-id", b"1", id="case"),
        pytest.param(b"x-latin", b"caf\xe9 \xff", id="bytes"),
        pytest.param(b"x-empty", b"", id="empty"),
        pytest.param(b"x-inner", b"a \t b", id="blanks"),
        pytest.param(b"Content-Encoding", b"br", id="encoding"),
    ],
)
def test_header_is_as_it_came(name: bytes, value: bytes) -> None:
    async def script(talk: Talk) -> None:
        head = b"HTTP/1.1 200 Fine, thanks\r\nb: 1\r\n" + name + b": " + value
        await talk.answer(head + b"\r\nA: 2\r\nb: 3\r\nContent-Length: 0\r\n\r\n")

    async def main() -> None:
        async with asking(script) as client:
            answer = await client.send()
            assert (answer.reason, answer.version) == (b"Fine, thanks", "1.1")
            assert answer.headers == [
                (b"b", b"1"),
                (name, value),
                (b"A", b"2"),
                (b"b", b"3"),
                (b"Content-Length", b"0"),
            ]

    run(main)


def test_body_stays_compressed() -> None:
    async def script(talk: Talk) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
        await talk.answer(head % len(ZIPPED) + ZIPPED)

    async def main() -> None:
        async with asking(script) as client:
            assert await client.read() == ZIPPED

    run(main)


def test_version_tells_a_body_whose_end_is_the_end_of_its_connection() -> None:
    async def script(talk: Talk) -> None:
        await talk.answer(b"HTTP/1.0 200 OK\r\n\r\nold")

    async def main() -> None:
        async with asking(script) as client:
            answer = await client.send()
            assert (answer.version, answer.headers) == ("1.0", [])

    run(main)


def test_chunks_overrule_a_length() -> None:
    async def script(talk: Talk) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
        await talk.answer(head + b"2\r\nab\r\n0\r\n\r\n")

    async def main() -> None:
        async with asking(script) as client:
            answer = await client.send()
            assert answer.headers == [(b"Transfer-Encoding", b"chunked")]
            assert await pieces(answer) == [b"ab"]

    run(main)


def test_trailers_of_an_answer() -> None:
    async def script(talk: Talk) -> None:
        await talk.answer(CHUNKED + b"1\r\na\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n")
        await talk.answer()

    async def main() -> None:
        async with asking(script) as client:
            answer = await client.send()
            assert answer.trailers == []
            assert await pieces(answer) == [b"a"]
            assert answer.trailers == [(b"X-Sum", b"1"), (b"x-sum", b"2")]
            assert await client.read() == b"ok"

    run(main)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", [], id="nobody-asked-to-go-on"),
        pytest.param(
            b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n",
            [(103, b"Early", [(b"Link", b"</a>")])],
            id="103",
        ),
        pytest.param(
            b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 102 P\r\n\r\n",
            [(102, b"P", []), (102, b"P", [])],
            id="several",
        ),
    ],
)
@pytest.mark.parametrize("is_told", [True, False], ids=["told", "untold"])
def test_what_comes_before_the_answer(sent: bytes, expected: list[Any], is_told: bool) -> None:
    async def script(talk: Talk) -> None:
        await talk.answer(sent + OK)

    async def main() -> None:
        told: list[Any] = []

        async def inform(status: int, reason: bytes, headers: Pairs) -> None:
            told.append((status, reason, headers))

        async with asking(script) as client:
            assert await client.read(inform=inform if is_told else None) == b"ok"
            assert told == (expected if is_told else [])

    run(main)


def test_end_may_be_read_again() -> None:
    async def script(talk: Talk) -> None:
        await talk.answer()

    async def main() -> None:
        async with asking(script) as client:
            answer = await client.send()
            assert [piece async for piece in answer] == [b"ok"]
            assert [piece async for piece in answer] == []
            assert await pieces(answer) == []
            await answer.aclose()

    run(main)
