"""What passes through the proxy: the same, byte for byte, as without it."""

from __future__ import annotations

import gzip
import random
import socket
import threading
import time
import zlib
from base64 import b64encode
from hashlib import sha1
from typing import Any

import pytest

from proxy.raw import Message, Wire, ask, chunk, chunked, request
from proxy.running import Within
from proxy.upstream import Upstream, answer, chat, early, json_of, slowly, stream, stream_head

OURS = ("x-cachewrap", "transfer-encoding", "connection", "keep-alive")
NOISE = random.Random(1).randbytes(100_000)


def both(
    proxy: Within, upstream: Upstream, target: str, *rest: Any, **more: Any
) -> tuple[Any, Any]:
    """The answers to a request without the proxy and through it; the upstream saw the same."""
    direct = ask(upstream.port, request(target, *rest, **more))
    through = ask(proxy.port, request(f"/openai{target}", *rest, **more))
    return direct, through


def same(direct: Message, through: Message) -> None:
    """Nothing but what is of the connection differs."""
    assert through.status == direct.status
    assert through.reason == direct.reason
    assert through.without(*OURS) == direct.without(*OURS)
    assert (
        through.framing != "chunks" or direct.framing != "chunks" or through.pieces == direct.pieces
    )
    assert through.body == direct.body
    assert through.trailers == direct.trailers
    assert through.whole is direct.whole is True
    told = [[one.status, one.reason, one.headers] for one in direct.informs]
    assert [[one.status, one.reason, one.headers] for one in through.informs] == told


def same_asked(upstream: Upstream) -> tuple[Message, Message]:
    """The two requests that the upstream saw, which are the same."""
    direct, through = upstream.asked[-2:]
    assert through.start == direct.start
    assert through.without("host", *OURS) == direct.without("host", *OURS)
    assert through.body == direct.body
    assert through.trailers == direct.trailers
    return direct, through


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def packed(name: str, data: bytes) -> bytes:
    """The data in a coding of HTTP."""
    if name == "gzip":
        return gzip.compress(data, mtime=0)
    if name == "deflate":
        return zlib.compress(data)
    if name == "br":
        return pytest.importorskip("brotli").compress(data)  # type: ignore[no-any-return]
    return pytest.importorskip("zstandard").compress(data)  # type: ignore[no-any-return]


ANSWERS = [
    pytest.param(answer(b'{"a":1}'), id="plain"),
    pytest.param(answer(b""), id="empty"),
    pytest.param(
        answer(b"{}", "X-B: 1", "x-a: 2", "X-b: 3", "X-A: 4", 'ETag: W/"a"', "Date: now"),
        id="case, order, duplicates",
    ),
    pytest.param(
        answer(b"{}", "Set-Cookie: a=1; Path=/, b", "set-cookie: b=2", "Set-Cookie: a=3"),
        id="cookies",
    ),
    pytest.param(
        answer(b"{}", "X-Latin: caf\xe9 \xff", "X-Empty:", "X-Tab: a\tb", "X-Colon: a: b :c"),
        id="values",
    ),
    pytest.param(answer(b"{}", status="200 Fine, thanks"), id="reason"),
    pytest.param(answer(b"{}", status="200 "), id="no reason"),
    pytest.param(answer(b"{}", *(f"X-{n}: {'v' * 900}" for n in range(50))), id="50 headers"),
    pytest.param(answer(b"{}", f"X-Long: {'v' * 30_000}"), id="a long header"),
    pytest.param(answer(NOISE * 10, "Content-Type: application/octet-stream"), id="1 MB"),
    pytest.param(stream(b"a", b"bc" * 1000, b"\x00\r\n\r\n0\r\n\r\n"), id="chunks"),
    pytest.param(stream(b"a", trailers=b"X-Sum: 1\r\nx-sum: 2\r\n"), id="trailers"),
    pytest.param(stream(b"a", b"b", headers=("Trailer: X-Sum",)), id="trailers not sent"),
    pytest.param(
        stream_head() + chunk(b"abc", b";name=value") + chunk(b"d", b';a="b;c"') + b"0;x\r\n\r\n",
        id="extensions of chunks",
    ),
    pytest.param(
        stream_head() + b"00a\r\n0123456789\r\nA\r\n9876543210\r\n000\r\n\r\n", id="sizes"
    ),
    pytest.param(stream_head() + b"0\r\n\r\n", id="no chunk"),
    pytest.param(
        head("HTTP/1.1 200 OK", "Content-Length: 2", "Connection: close") + b"{}", id="close"
    ),
    pytest.param(
        head("HTTP/1.1 200 OK", "Connection: close") + b"until the end", id="until closed"
    ),
    pytest.param(head("HTTP/1.0 200 OK", "X-A: 1") + b"until the end", id="1.0 until closed"),
    pytest.param(head("HTTP/1.0 200 OK", "Content-Length: 2") + b"{}", id="1.0 with a length"),
    pytest.param(
        head("HTTP/1.1 103 Early Hints", "Link: </a>; rel=preload")
        + head("HTTP/1.1 102 Processing")
        + answer(b"{}"),
        id="1xx",
    ),
    pytest.param(head("HTTP/1.1 204 No Content", "X-A: 1"), id="204"),
    pytest.param(head("HTTP/1.1 304 Not Modified", 'ETag: "a"'), id="304"),
    pytest.param(head("HTTP/1.1 302 Found", "Location: /elsewhere", "Content-Length: 0"), id="302"),
    *(
        pytest.param(answer(b'{"error":{"message":"m"}}', status=f"{status} Some"), id=str(status))
        for status in (201, 202, 206, 307, 400, 401, 404, 409, 418, 422, 429, 499, 500, 529, 599)
    ),
    *(
        pytest.param(
            answer(
                packed(name, b'{"a":1}' * 99), f"Content-Encoding: {name}", "Vary: accept-encoding"
            ),
            id=name,
        )
        for name in ("gzip", "deflate", "br", "zstd")
    ),
]


@pytest.mark.parametrize("script", ANSWERS)
@pytest.mark.parametrize("way", ["get", "cached", "not cached"])
def test_an_answer_is_the_same(proxy: Within, upstream: Upstream, script: bytes, way: str) -> None:
    upstream.usual = script
    accepts = "Accept-Encoding: gzip, deflate, br, zstd"
    if way == "get":
        direct, through = both(proxy, upstream, "/v1/models", None, accepts)
    else:
        path = "/v1/chat/completions" if way == "cached" else "/v1/files"
        direct, through = both(proxy, upstream, path, chat(), accepts)
    if way == "cached":
        # It is read to its end before the client gets it, who then learns its length, unless there
        # are trailers.
        assert through.mark == "miss"
        through.informs = direct.informs
        if (
            not direct.trailers
            and direct.get("content-length") is None
            and direct.framing != "none"
        ):
            assert through.get("content-length") == str(len(direct.body))
            through.headers = through.without("content-length")
    else:
        assert through.mark == "bypass"
    same(direct, through)
    same_asked(upstream)


REQUESTS = [
    *(
        pytest.param({"method": method}, id=method)
        for method in ("GET", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "POST", "PURGE", "QUERY")
    ),
    *(
        pytest.param({"method": method, "body": b"some"}, id=f"{method} with a body")
        for method in ("GET", "DELETE", "PUT", "PATCH", "POST", "PURGE")
    ),
    pytest.param({"target": "/v1/files/a%2Fb%20c?x=%20&y=a+b&z&x=2"}, id="escapes and query"),
    pytest.param({"target": "/v1/files?after=%C3%A9&limit=%"}, id="broken escape in the query"),
    pytest.param({"target": "/v1/files;a=b/c,d@e:f'(g)*!~$"}, id="signs in the path"),
    pytest.param({"headers": ["X-B: 1", "x-a: 2", "X-b: 3", "X-A: 4"]}, id="case and order"),
    pytest.param({"headers": ["Cookie: a=1", "cookie: b=2", "X-E:", "X-L: \xe9"]}, id="values"),
    pytest.param({"headers": ["Authorization: Bearer sk-x", "x-api-key: k"]}, id="credentials"),
    pytest.param({"headers": ["Accept-Encoding: gzip;q=0.5, x-unknown"]}, id="accept-encoding"),
    pytest.param(
        {"headers": ["User-Agent: a/1 (b)", "Via: 1.1 me", "X-Forwarded-For: 1"]}, id="via"
    ),
    pytest.param({"body": b""}, id="an empty body"),
    pytest.param({"body": bytes(range(256)) * 1000}, id="bytes of all kinds"),
    pytest.param(
        {"body": gzip.compress(b'{"a":1}', mtime=0), "headers": ["Content-Encoding: gzip"]},
        id="a compressed body",
    ),
    pytest.param(
        {
            "body": chunked(b"a", b"bc" * 5000, trailers=b"X-Sum: 1\r\nx-other: 2\r\n"),
            "headers": ["Transfer-Encoding: chunked", "Trailer: X-Sum"],
        },
        id="chunks and trailers",
    ),
    pytest.param({"version": "1.0", "headers": ["Connection: keep-alive"]}, id="HTTP/1.0"),
]


@pytest.mark.parametrize("given", REQUESTS)
def test_a_request_is_the_same(proxy: Within, upstream: Upstream, given: dict[str, Any]) -> None:
    def head_or_whole(wire: Wire, asked: Message) -> None:
        told = answer(b"{}")
        wire.send(told.partition(b"{}")[0] if asked.method == "HEAD" else told)

    upstream.usual = head_or_whole
    given = {"target": "/v1/things", "body": None, "headers": [], **given}
    target, body, headers = given.pop("target"), given.pop("body"), given.pop("headers")
    direct, through = both(proxy, upstream, target, body, *headers, **given)
    through.start = through.start.replace(b"HTTP/1.0", b"HTTP/1.1")
    same(direct, through)
    upstream.asked[-2].start = upstream.asked[-2].start.replace(b"HTTP/1.0", b"HTTP/1.1")
    same_asked(upstream)


def test_the_host_is_the_upstreams(proxy: Within, upstream: Upstream) -> None:
    proxy.ask(request("/openai/v1/models", host="127.0.0.1"))
    assert upstream.last.get("host") == f"127.0.0.1:{upstream.port}"


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["Connection: x-secret, keep-alive", "X-Secret: 1"], id="named by Connection"),
        pytest.param(["Keep-Alive: timeout=5"], id="Keep-Alive"),
        pytest.param(["Proxy-Authorization: Basic eA==", "Proxy-Connection: close"], id="Proxy-*"),
        pytest.param(["TE: trailers", "Connection: TE"], id="TE"),
        pytest.param(["x-cachewrap-seed: 1", "X-Cachewrap-Mode: refresh"], id="of the cache"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions"])
def test_what_is_of_the_connection_goes_no_further(
    proxy: Within, upstream: Upstream, names: list[str], path: str
) -> None:
    body = chat() if path.endswith("completions") else None
    proxy.ask(request(f"/openai{path}", body, *names, "X-Kept: 1"))
    seen = {name.lower() for name, _ in upstream.last.headers}
    assert b"x-kept" in seen
    sent = {name.partition(":")[0].lower().encode() for name in names} - {b"connection"}
    assert not sent & seen


def test_what_is_of_the_upstreams_connection_comes_no_further(
    proxy: Within, upstream: Upstream
) -> None:
    upstream.usual = answer(
        b"{}", "Connection: x-hop", "X-Hop: 1", "Keep-Alive: timeout=5", "Proxy-Authenticate: Basic"
    )
    through = proxy.ask(request("/openai/v1/models"))
    seen = {name.lower() for name, _ in through.headers}
    assert not seen & {b"x-hop", b"keep-alive", b"proxy-authenticate"}


@pytest.mark.parametrize(
    "head_says",
    [
        pytest.param(["Content-Length: 12345"], id="a length"),
        pytest.param(["Transfer-Encoding: chunked"], id="chunks"),
        pytest.param([], id="nothing"),
    ],
)
def test_an_answer_to_head_has_no_body(
    proxy: Within, upstream: Upstream, head_says: list[str]
) -> None:
    upstream.usual = head("HTTP/1.1 200 OK", "X-A: 1", *head_says)
    with proxy.client() as client:
        for _ in range(2):
            through = client.ask(request("/openai/v1/models", method="HEAD"))
            assert through.get("content-length") == (
                "12345" if head_says[:1] == ["Content-Length: 12345"] else None
            )
        assert client.is_silent(0.05)


def test_a_client_of_http_1_0_gets_no_chunks(proxy: Within, upstream: Upstream) -> None:
    upstream.usual = stream(b"ab", b"cd")
    with proxy.client() as client:
        through = client.ask(request("/openai/v1/models", version="1.0"))
        assert through.framing == "close"
        assert through.body == b"abcd"


def test_no_chunk_is_held_back(proxy: Within, upstream: Upstream) -> None:
    """Each piece comes while the next one is not yet sent."""
    for path, body in (("models", None), ("chat/completions", chat(stream=True))):
        with proxy.client() as client:
            pieces = [f"data: {number}\n\n".encode() for number in range(5)]
            steps = [threading.Semaphore(0) for _ in pieces]
            upstream.usual = slowly(*pieces, gate=lambda index: steps[index].acquire(timeout=9))
            client.send(request(f"/openai/v1/{path}", body))
            message = client.answer(read=False)
            reading = client.reading(message)
            for step, piece in zip(steps, pieces, strict=True):
                assert client.is_silent(0.005)
                step.release()
                assert next(reading) == piece
            assert list(reading) == []


def test_no_piece_of_a_body_is_held_back(proxy: Within, upstream: Upstream) -> None:
    """An upload arrives as it is sent, and is answered before its end where the upstream does."""
    seen: list[bytes] = []

    @early
    def echo(wire: Wire, asked: Message) -> None:
        wire.send(stream_head())
        for piece in wire.reading(asked):
            seen.append(piece)
            wire.send(chunk(piece))
        wire.send(b"0\r\n\r\n")

    upstream.usual = echo
    with proxy.client() as client:
        client.send(request("/openai/v1/files", b"", "Transfer-Encoding: chunked"))
        message = client.answer(read=False)
        reading = client.reading(message)
        for piece in (b"one", b"two", b"three"):
            client.send(chunk(piece))
            assert next(reading) == piece
        client.send(b"0\r\n\r\n")
        assert list(reading) == []
        assert seen == [b"one", b"two", b"three"]


def test_the_client_is_told_to_continue_when_the_upstream_says_so(
    proxy: Within, upstream: Upstream
) -> None:
    seen: list[bytes] = []

    @early
    def script(wire: Wire, asked: Message) -> None:
        assert asked.get("expect") == "100-continue"
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        seen.append(wire.exactly(4))
        wire.send(answer(b"{}"))

    upstream.usual = script
    with proxy.client() as client:
        client.send(request("/openai/v1/files", b"", "Content-Length: 4", "Expect: 100-continue"))
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        client.send(b"some")
        assert client.answer().status == 200
    assert seen == [b"some"]


def test_the_client_sends_no_body_that_the_upstream_refuses(
    proxy: Within, upstream: Upstream
) -> None:
    upstream.usual = early(
        lambda wire, asked: wire.send(answer(b"{}", status="413 Too Large"))  # by its head alone
    )
    with proxy.client() as client:
        ask = request("/openai/v1/files", b"", "Content-Length: 4", "Expect: 100-continue")
        told = client.ask(ask)
    assert (told.status, told.informs) == (413, [])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/openai/v1/files", b"some", id="body-with-the-head"),
        pytest.param("/openai/v1/embeddings", json_of({"model": "m", "input": "x"}), id="cached"),
    ],
)
def test_the_upstream_is_not_asked_for_what_is_here(
    proxy: Within, upstream: Upstream, path: str, body: bytes
) -> None:
    with proxy.client() as client:
        assert client.ask(request(path, body, "Expect: 100-continue")).status == 200
    assert upstream.last.get("expect") is None


def test_an_early_refusal_of_an_upload_comes_through(proxy: Within, upstream: Upstream) -> None:
    @early
    def refuse(wire: Wire, asked: Message) -> bool:
        wire.send(answer(b'{"error":1}', "Connection: close", status="413 Too Large"))
        wire.socket.shutdown(socket.SHUT_WR)
        while wire.more():
            wire.held = b""
        return False

    upstream.usual = refuse
    with proxy.client() as client:
        client.send(request("/openai/v1/files", b"", f"Content-Length: {10**7}"))
        client.send(bytes(10**5))
        through = client.answer()
        assert (through.status, through.body) == (413, b'{"error":1}')


def test_keep_alive(proxy: Within, upstream: Upstream) -> None:
    with proxy.client() as client:
        for number in range(20):
            body = chat(str(number)) if number % 2 else None
            path = "chat/completions" if number % 2 else "models"
            assert client.ask(request(f"/openai/v1/{path}", body)).status == 200
    assert len(upstream.asked) == 20
    assert upstream.connections == 1


def test_pipelined_requests_are_answered_in_order(proxy: Within, upstream: Upstream) -> None:
    upstream.usual = lambda wire, asked: wire.send(answer(asked.target.encode() + asked.body))
    asked = [
        request(f"/openai/v1/{number}", b"b" * number if number % 3 else None)
        for number in range(40)
    ]
    with proxy.client() as client:
        client.send(b"".join(asked))
        for number in range(40):
            body = b"b" * number if number % 3 else b""
            assert client.answer().body == f"/v1/{number}".encode() + body


@pytest.mark.parametrize("body", [None, b"some"], ids=["answer", "request"])
def test_what_is_sent_in_several_writes_is_no_slower(
    proxy: Within, upstream: Upstream, body: bytes | None
) -> None:
    """No write waits for the other side's word about the one before, which takes 40 ms."""
    upstream.usual = answer(b"{}")
    with proxy.client() as client:
        start = time.monotonic()
        for _ in range(40):
            client.ask(request("/openai/v1/files", body))
        assert time.monotonic() - start < 1.2


def test_requests_byte_by_byte(proxy: Within, upstream: Upstream) -> None:
    with proxy.client() as client:
        for byte in request("/openai/v1/files", b"some"):
            client.send(bytes([byte]))
        assert client.answer().status == 200
    assert upstream.last.body == b"some"


def websocket(wire: Wire, asked: Message) -> bool:
    """Accept an upgrade, and echo what comes, in upper case."""
    key = (asked.get("sec-websocket-key") or "").encode()
    accept = b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    wire.send(
        head(
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept}",
        )
    )
    while wire.held or wire.more():
        wire.send(wire.held.upper())
        wire.held = b""
    return False


def upgrade(path: str = "/openai/v1/realtime?model=m") -> bytes:
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    ask = ["Upgrade: websocket", "Connection: keep-alive, Upgrade", key]
    return request(path, None, *ask, "Sec-WebSocket-Version: 13")


def test_websockets_pass(proxy: Within, upstream: Upstream) -> None:
    upstream.usual = websocket
    with proxy.client() as client:
        client.send(upgrade() + b"with the head")
        told = client.answer()
        assert told.status == 101
        assert told.get("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert (told.get("upgrade") or "").lower() == "websocket"
        assert client.exactly(13) == b"WITH THE HEAD"
        for size in (1, 100, 200_000):
            client.send(b"x" * size)
            assert client.exactly(size) == b"X" * size


def test_a_refused_upgrade_is_an_answer(proxy: Within, upstream: Upstream) -> None:
    upstream.usual = answer(b'{"error":{}}', status="403 Forbidden")
    with proxy.client() as client:
        assert client.ask(upgrade()).status == 403


@pytest.mark.parametrize("who", ["client", "upstream"])
def test_the_end_of_a_websocket_is_told(proxy: Within, upstream: Upstream, who: str) -> None:
    upstream.usual = websocket if who == "client" else lambda w, a: websocket_that_ends(w, a)
    with proxy.client() as client:
        client.send(upgrade())
        assert client.answer().status == 101
        if who == "upstream":
            client.send(b"x")
            assert client.exactly(1) == b"X"
            assert client.is_closed()
    for _ in range(500):
        if not upstream.open:
            break
        time.sleep(0.01)
    assert upstream.open == 0


def websocket_that_ends(wire: Wire, asked: Message) -> bool:
    wire.send(head("HTTP/1.1 101 Switching", "Upgrade: websocket", "Connection: Upgrade"))
    wire.more()
    wire.send(wire.held.upper())
    return False
