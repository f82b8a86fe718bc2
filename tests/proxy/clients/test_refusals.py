"""Requests that go no further: those that could be read in two ways, and too large ones."""

from __future__ import annotations

import json

import pytest

from cachewrap.proxy.messages import Request, Response
from proxy.clients.talk import Memory, echo, headed, in_loop, limits, serving

SMUGGLED = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: here\r\n\r\n"


def lines(*given: str) -> bytes:
    return "\r\n".join([*given, "", ""]).encode("latin-1")


def lengths(*headers: str) -> bytes:
    return headed("POST /", *headers, body=SMUGGLED)


NO_HTTP = {
    # Where the body ends.
    "length and chunks": lengths("Content-Length: 6", "Transfer-Encoding: chunked"),
    "chunks and length": lengths("Transfer-Encoding: chunked", "Content-Length: 6"),
    "two lengths": lengths("Content-Length: 5", "Content-Length: 6"),
    "two lengths in one": lengths("Content-Length: 5, 6"),
    "length with a sign": lengths("Content-Length: +5"),
    "length below none": lengths("Content-Length: -5"),
    "length in hex": lengths("Content-Length: 0x5"),
    "length with an underscore": lengths("Content-Length: 1_0"),
    "length with a point": lengths("Content-Length: 5.0"),
    "no length": lengths("Content-Length:"),
    "length of other digits": lengths("Content-Length: \xb2"),
    "length of 21 digits": lengths("Content-Length: " + "9" * 21),
    "unknown coding": lengths("Transfer-Encoding: xchunked"),
    "coding in quotes": lengths('Transfer-Encoding: "chunked"'),
    "chunked twice": lengths("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "chunked, chunked": lengths("Transfer-Encoding: chunked, chunked"),
    "chunked, identity": lengths("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
    "identity": lengths("Transfer-Encoding: identity"),
    "gzip, chunked": lengths("Transfer-Encoding: gzip, chunked"),
    "coding behind a vertical tab": lengths("Transfer-Encoding:\x0bchunked"),
    "no coding": lengths("Transfer-Encoding:"),
    "chunks in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + SMUGGLED,
    "coding behind a blank": lengths("Transfer-Encoding : chunked"),
    "length behind a blank": lengths("Content-Length : 5"),
    "length behind a tab": lengths("Content-Length\t: 5"),
    # Where a line ends, and what it holds.
    "folded": lengths("X: a\r\n b"),
    "folded with a tab": lengths("X: a\r\n\tb"),
    "coding folded": lengths("Transfer-Encoding:\r\n chunked"),
    "first header folded": b"GET / HTTP/1.1\r\n Host: here\r\n\r\n",
    "LF alone": b"GET / HTTP/1.1\nHost: here\n\n",
    "LF alone at the end": b"GET / HTTP/1.1\r\nHost: here\n\n",
    "LF alone in between": b"GET / HTTP/1.1\r\nHost: here\nX: a\r\n\r\n",
    "LF alone behind the first line": b"GET / HTTP/1.1\nHost: here\r\n\r\n",
    "LF, CRLF": b"GET / HTTP/1.1\r\nHost: here\r\nX: a\n\r\n",
    "CR alone": b"GET / HTTP/1.1\r\nHost: here\rX: a\r\n\r\n",
    "CR in a value": lengths("X: a\rTransfer-Encoding: chunked"),
    "CR before the end": b"GET / HTTP/1.1\r\nHost: here\r\r\n\r\n",
    "NUL in a value": lengths("X: a\0b"),
    "NUL in a name": lengths("X\0: a"),
    "NUL in the path": headed("GET /a\0b"),
    "form feed in a value": lengths("X: a\x0cb"),
    "no colon": lengths("X"),
    "no name": lengths(": a"),
    "blank in a name": lengths("X Y: a"),
    "name beyond ASCII": lengths("X\xe4: a"),
    "name in brackets": lengths("X(a): a"),
    "two empty lines before": b"\r\n\r\n" + headed("GET /"),
    "LF before": b"\n" + headed("GET /"),
    "blank before": b" " + headed("GET /"),
    # The first line.
    "no version": b"GET /\r\nHost: here\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "blank in the path": headed("GET /a b"),
    "two blanks": b"GET  / HTTP/1.1\r\nHost: here\r\n\r\n",
    "tab": b"GET\t/ HTTP/1.1\r\nHost: here\r\n\r\n",
    "blank at the end": b"GET / HTTP/1.1 \r\nHost: here\r\n\r\n",
    "version of two digits": b"GET / HTTP/1.10\r\nHost: here\r\n\r\n",
    "version in small letters": b"GET / http/1.1\r\nHost: here\r\n\r\n",
    "path beyond ASCII": headed("GET /\xe4"),
    "odd method": headed("G(T /"),
    "no method": b"/ HTTP/1.1\r\nHost: here\r\n\r\n",
    "part behind #": headed("GET /a#b"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    # What is asked for.
    "URL": headed("GET http://elsewhere/"),
    "URL of https": headed("GET https://elsewhere/"),
    "URL of a file": headed("GET file:///etc/passwd"),
    "host alone": headed("GET elsewhere:80"),
    "CONNECT": headed("CONNECT elsewhere:443"),
    "CONNECT to a path": headed("CONNECT *"),
    "star": headed("GET *"),
    "no slash": headed("GET ../x"),
    "query alone": headed("GET ?a"),
    # Who is asked.
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": headed("GET /", "Host: there"),
    "the same host twice": headed("GET /", "Host: here"),
    "two hosts in 1.0": b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    "blank in the host": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "path in the host": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "user in the host": b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "host beyond ASCII": b"GET / HTTP/1.1\r\nHost: \xe4\r\n\r\n",
}


async def never(request: Request, response: Response) -> None:
    raise AssertionError(f"{request.method} {request.target}")


@pytest.mark.parametrize(
    "request_", [pytest.param(request, id=name) for name, request in NO_HTTP.items()]
)
@in_loop
async def test_what_is_not_clear_is_refused(request_: bytes) -> None:
    async with serving(never) as server:
        client = await server.connect()
        answer = await client.ask(request_)
        assert answer.status == 400
        assert answer.get("connection") == ["close"]
        assert answer.get("content-type") == ["application/json"]
        assert answer.get("x-cachewrap") == ["bypass"]
        assert json.loads(answer.body)["error"]["message"].endswith(".")
        assert await client.closed()
        assert server.failures == []


@pytest.mark.parametrize(
    "request_", [pytest.param(request, id=name) for name, request in NO_HTTP.items()]
)
@in_loop
async def test_it_is_refused_byte_by_byte_as_well(request_: bytes) -> None:
    memory = Memory(never)
    sent = await memory.feed(*(bytes([byte]) for byte in request_))
    assert sent.startswith(b"HTTP/1.1 400 ")
    assert sent.count(b"HTTP/1.1") == 1
    assert memory.failures == []


@pytest.mark.parametrize(
    "version",
    [
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="preface of HTTP/2"),
        pytest.param(b"GET / HTTP/2.0\r\nHost: here\r\n\r\n", id="2.0"),
        pytest.param(b"GET / HTTP/1.2\r\nHost: here\r\n\r\n", id="1.2"),
        pytest.param(b"GET / HTTP/0.9\r\nHost: here\r\n\r\n", id="0.9"),
    ],
)
@in_loop
async def test_other_versions_are_refused(version: bytes) -> None:
    async with serving(never) as server:
        client = await server.connect()
        assert (await client.ask(version)).status == 505
        assert await client.closed()


@in_loop
async def test_who_speaks_https_is_told_of_by_whoever_started_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client cannot read what it is told."""
    told: list[str] = []
    monkeypatch.setattr("cachewrap.proxy.clients.warn_once", lambda _, text: told.append(text))
    sent = await Memory(never).feed(NO_HTTP["TLS"])
    assert b"This is no HTTPS" in sent
    assert ["HTTPS" in text for text in told] == [True]
    await Memory(never).feed(NO_HTTP["LF alone"])
    assert len(told) == 1


LARGE = {
    "headers in number": (431, headed("GET /", *(f"X{number}: a" for number in range(20)))),
    "headers in bytes": (431, headed("GET /", "X: " + "a" * 1000)),
    "headers without an end": (431, headed("GET /", "X: " + "a" * 1000)[:-4]),
    "path": (414, headed("GET /" + "a" * 1000)),
    "path without an end": (414, b"GET /" + b"a" * 1000),
    "method without an end": (414, b"A" * 1000),
    "body": (413, headed("POST /", "Content-Length: 2000")),
    "body of 20 digits": (413, headed("POST /", "Content-Length: " + "9" * 20)),
    "body that is to be asked for": (
        413,
        headed("POST /", "Content-Length: 2000", "Expect: 100-continue"),
    ),
}


@pytest.mark.parametrize(
    ("status", "request_"), [pytest.param(*given, id=name) for name, given in LARGE.items()]
)
@in_loop
async def test_what_is_too_large_is_refused(status: int, request_: bytes) -> None:
    async with serving(never, limits(header_bytes=500, headers=16, body_bytes=1024)) as server:
        client = await server.connect()
        answer = await client.ask(request_)
        assert (answer.status, answer.get("connection")) == (status, ["close"])
        assert await client.closed()


@in_loop
async def test_what_is_just_not_too_large_is_answered() -> None:
    path = headed("GET /" + "a" * 400)
    filled = path[:-2] + b"X: " + b"a" * (500 - len(path) - 5) + b"\r\n\r\n"
    assert len(filled) == 500
    async with serving(echo, limits(header_bytes=500, headers=16, body_bytes=1024)) as server:
        client = await server.connect()
        for request in (
            filled,
            headed("GET /", *(f"X{number}: a" for number in range(15))),
            headed("POST /", "Content-Length: 1024", body=bytes(1024)),
        ):
            assert (await client.ask(request)).status == 200


@in_loop
async def test_ten_thousand_headers_are_refused() -> None:
    async with serving(never) as server:
        answer = await server.ask(headed("GET /", *(f"X{number}: a" for number in range(10_000))))
        assert answer.status == 431


@in_loop
async def test_a_path_of_usual_length_is_answered() -> None:
    async with serving() as server:
        assert (await server.ask(headed("GET /" + "a" * 16_000))).status == 200
        assert (await server.ask(headed("GET /" + "a" * 17_000))).status == 414


@pytest.mark.parametrize("size", [2000, 8 * 2**20], ids=["short", "long"])
@in_loop
async def test_a_client_that_sends_on_reads_why_it_was_refused(size: int) -> None:
    async with serving(never, limits(body_bytes=1024)) as server:
        client = await server.connect()
        client.writer.write(headed("POST /", f"Content-Length: {size}") + bytes(size))
        assert (await client.answer()).status == 413
        assert await client.closed()


@in_loop
async def test_what_was_asked_before_is_answered_first() -> None:
    async with serving() as server:
        client = await server.connect()
        await client.send(headed("GET /1") + b"\0" + headed("GET /2"))
        assert (await client.answer()).status == 200
        assert (await client.answer()).status == 400
        assert await client.closed()


@in_loop
async def test_nothing_of_the_request_is_told() -> None:
    async with serving(never) as server:
        answer = await server.ask(headed("GET /", "Authorization: Bearer secret\0"))
        assert b"secret" not in answer.body


@in_loop
async def test_a_client_that_sends_on_and_on_is_not_heard_for_long() -> None:
    memory = Memory(never)
    await memory.feed(b"\0\r\n\r\n")
    assert memory.ended and not memory.closed
    await memory.feed(*[bytes(2**20)] * 17)
    assert memory.closed
