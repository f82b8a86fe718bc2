"""Hostile requests: refused with a word, whoever else asks is served, and nobody is reached."""

from __future__ import annotations

import gzip
import re
import socket
import time
from contextlib import suppress

import pytest

from cachewrap.proxy import wire
from cachewrap.proxy.settings import Limits
from proxy.conftest import Serve
from proxy.raw import Client, Ended, chunked, eventually, request
from proxy.running import Within
from proxy.upstream import Upstream, answer, chat, completion

GET = "GET {} HTTP/1.1\r\nHost: a\r\n\r\n"
SMUGGLED = b"GET /openai/v1/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def post(*headers: str, body: bytes = b"", target: str = "/openai/v1/files") -> bytes:
    lines = [f"POST {target} HTTP/1.1", "Host: a", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


NOT_HTTP = [
    pytest.param(
        post("Content-Length: 4", "Content-Length: 5", body=b"abcd" + SMUGGLED), id="CL.CL"
    ),
    pytest.param(post("Content-Length: 4, 5", body=b"abcd" + SMUGGLED), id="a list of lengths"),
    pytest.param(
        post("Content-Length: 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
        id="CL.TE",
    ),
    pytest.param(
        post("Transfer-Encoding: chunked", "Content-Length: 5", body=b"0\r\n\r\n" + SMUGGLED),
        id="TE.CL",
    ),
    pytest.param(
        post("Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + SMUGGLED), id="TE list"
    ),
    pytest.param(
        post("Transfer-Encoding: chunked", "Transfer-Encoding: x", body=b"0\r\n\r\n" + SMUGGLED),
        id="TE.TE",
    ),
    pytest.param(post("Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + SMUGGLED), id="xchunked"),
    pytest.param(
        post("Transfer-Encoding:\x0bchunked", "Content-Length: 5", body=b"0\r\n\r\n" + SMUGGLED),
        id="TE with VT",
    ),
    pytest.param(
        post("Transfer-Encoding : chunked", body=b"0\r\n\r\n"), id="space before the colon"
    ),
    pytest.param(post("X-A: b", " folded: c"), id="a folded header"),
    pytest.param(post("Content-Length: +4", body=b"abcd"), id="+4"),
    pytest.param(post("Content-Length: 0x4", body=b"abcd"), id="0x4"),
    pytest.param(post("Content-Length: -1"), id="-1"),
    pytest.param(post("Content-Length: 4_0", body=b"a" * 40), id="4_0"),
    pytest.param(post("Content-Length: ", body=b""), id="an empty length"),
    pytest.param(post("Content-Length: \xb2"), id="a digit that is none"),
    pytest.param(post("Content-Length: " + "9" * 5000), id="a length of 5,000 digits"),
    pytest.param(post("Transfer-Encoding: chunked", body=b"-1\r\n\r\n"), id="chunk of -1"),
    pytest.param(
        post("Transfer-Encoding: chunked", body=b"0x1\r\na\r\n0\r\n\r\n"), id="chunk of 0x1"
    ),
    pytest.param(
        post("Transfer-Encoding: chunked", body=b"3\r\nabcXX0\r\n\r\n"), id="a chunk without an end"
    ),
    pytest.param(
        post("Transfer-Encoding: chunked", body=b"f" * 5000 + b"\r\n"), id="a size of 5,000 digits"
    ),
    pytest.param(post("X-A: a\x00b"), id="NUL in a value"),
    pytest.param(post("X-\x00A: ab"), id="NUL in a name"),
    pytest.param(post("X-A: a\nX-B: c", ""), id="LF in a value"),
    pytest.param(post("X-A: a\rX-B: c", ""), id="CR in a value"),
    pytest.param(post(": no name"), id="no name"),
    pytest.param(post("no colon"), id="no colon"),
    pytest.param(b"GET /openai/v1/models HTTP/1.1\r\n\r\n", id="no host"),
    pytest.param(b"GET /openai/v1/models HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two hosts"),
    pytest.param(b"GET  /openai/v1/models  HTTP/1.1\r\nHost: a\r\n\r\n", id="two spaces"),
    pytest.param(b"GET /openai/v1/models\r\n\r\n", id="HTTP/0.9"),
    pytest.param(b"GET /openai/v1/models HTTP/2.0\r\nHost: a\r\n\r\n", id="HTTP/2.0"),
    pytest.param(b"GET /openai/v1/models HTTP/1.9\r\nHost: a\r\n\r\n", id="HTTP/1.9"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2 preface"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
    pytest.param(b"\x00" * 500, id="NULs"),
    pytest.param(b"G\xc3\x89T /openai/v1/models HTTP/1.1\r\nHost: a\r\n\r\n", id="a method of é"),
    pytest.param(b"GET /openai/v1/m\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", id="é in the target"),
    pytest.param(b"GET /openai/v1/a b HTTP/1.1\r\nHost: a\r\n\r\n", id="a space in the target"),
    pytest.param(b"GET /openai/v1/a\x00 HTTP/1.1\r\nHost: a\r\n\r\n", id="NUL in the target"),
    pytest.param(b"GET /openai/v1/" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n", id="a long target"),
    pytest.param(b"A" * 200_000, id="a long method"),
    pytest.param(post(*(f"X-{n}: {n}" for n in range(10_000))), id="10,000 headers"),
    pytest.param(post("X-A: " + "a" * 1_000_000), id="a header of 1 MB"),
    pytest.param(post("a" * 1_000_000 + ": a"), id="a name of 1 MB"),
]


def said(client: Client, data: bytes) -> bytes:
    """All that is said to some bytes, until the connection ends or nothing more comes."""
    with suppress(OSError):  # it may end before all was sent
        client.send(data)
    client.socket.settimeout(1)
    with suppress(OSError):
        while client.more():
            if b"\r\n\r\n" in client.held:
                client.socket.settimeout(0.02)
    return client.held


@pytest.mark.parametrize("data", NOT_HTTP)
def test_what_is_no_request_is_refused(proxy: Within, upstream: Upstream, data: bytes) -> None:
    """In one answer, behind which nothing is answered: what follows may be anything."""
    with proxy.client() as client:
        told = said(client, data)
        assert told == b"" or told.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
        assert len(re.findall(rb"HTTP/1\.1 \d{3} ", told)) <= 1
    assert not any(b"smuggled" in asked.head for asked in upstream.asked)
    assert not [asked for asked in upstream.asked if asked.whole]
    assert proxy.ask(request("/openai/v1/models")).status == 200


TRICKS = [
    *("/openai/../../x", "/openai/../v1/models", "/openai/v1/../../../etc/passwd"),
    *("/openai/%2e%2e/x", "/openai/..%2f..%2fx", "/openai/%2e%2e%2f%2e%2e%2fx", "/openai/.%2e/x"),
    *("/openai/v1/./models", "/openai/..\\..\\x", "/openai/%5c..%5cx", "/openai/v1/%00"),
    *("//evil.example/v1/models", "/openai//evil.example/x", "/openai/@evil.example/"),
    *("/openai@evil.example/v1", "/openai:80@evil.example/v1", "/openai.evil.example/v1"),
    *("/%6fpenai/v1/models", "/OPENAI/v1/models", "/openai%2fv1/models", "/", "", "/openai"),
    *("/unknown/v1/models", "/openai/v1/models#@evil.example/", "/openai?x=/v1"),
    *("http://evil.example/v1/models", "https://evil.example/openai/v1/models", "evil.example:443"),
    *("http://127.0.0.1/openai/v1/models", "*", "http://openai/v1/models"),
    "/openai/v1/%0d%0aX-Injected:%20a",
]


@pytest.mark.parametrize("target", TRICKS)
def test_a_path_reaches_no_other_place(proxy: Within, upstream: Upstream, target: str) -> None:
    """What gets to the upstream, if anything does, stays below its base and is as written."""
    for method in ("CONNECT", "GET", "POST", "TRACE", "OPTIONS"):
        with proxy.client() as client:
            told = said(
                client, request(target, chat() if method == "POST" else None, method=method)
            )
        assert told == b"" or told.startswith((b"HTTP/1.1 4", b"HTTP/1.1 2", b"HTTP/1.1 5"))
        assert not told.startswith(b"HTTP/1.1 500")
        assert method != "CONNECT" or not upstream.asked
    for asked in upstream.asked:
        assert asked.target.startswith("/")
        assert not asked.target.startswith("//")
        assert ".." not in asked.target.lower().replace("%2e", ".").replace("%2f", "/").split("/")
        assert asked.get("x-injected") is None
        assert asked.get("host") == f"127.0.0.1:{upstream.port}"


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("x-cachewrap-mode: nonsense", id="mode"),
        pytest.param("x-cachewrap-sample: -1", id="sample"),
        pytest.param("x-cachewrap-ttl: soon", id="ttl"),
        pytest.param("x-cachewrap-unknown: 1", id="unknown"),
        pytest.param("x-cachewrap-seed: " + "s" * 5000, id="a long seed"),
        pytest.param("x-cachewrap-seed: ../../x", id="a path"),
        pytest.param("x-cachewrap-refresh: perhaps", id="refresh"),
    ],
)
def test_a_bad_control_is_told_or_harmless(proxy: Within, upstream: Upstream, given: str) -> None:
    told = proxy.ask(request("/openai/v1/chat/completions", chat(), given))
    assert told.status in (200, 400)
    if told.status == 400:
        assert not upstream.asked
        assert b'"error"' in told.body


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="no JSON"),
        pytest.param(b"[" * 100_000, id="nested 100,000 deep"),
        pytest.param(b'{"messages":' * 5000, id="nested objects"),
        pytest.param(b"\xff\xfe\x00", id="no UTF-8"),
        pytest.param(b'{"model":"m","model":"n"}', id="a name twice"),
        pytest.param(b'{"a":' + b"9" * 100_000 + b"}", id="a number of 100,000 digits"),
        pytest.param(b'{"a":NaN,"b":1e999}', id="no numbers"),
        pytest.param(b'{"a":"\\ud800"}', id="a lone surrogate"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"text"', id="a text"),
    ],
)
@pytest.mark.parametrize("path", ["chat/completions", "messages", "responses", "embeddings"])
def test_a_body_that_is_no_question_passes(
    proxy: Within, upstream: Upstream, body: bytes, path: str
) -> None:
    upstream.usual = answer(b'{"error":{"message":"bad"}}', status="400 Bad Request")
    told = proxy.ask(request(f"/openai/v1/{path}", body))
    assert (told.status, told.body) == (400, b'{"error":{"message":"bad"}}')
    assert upstream.last.body == body


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate", "x-unknown", "gzip, gzip"])
def test_a_body_in_a_broken_coding_passes(proxy: Within, upstream: Upstream, coding: str) -> None:
    asked = request("/openai/v1/chat/completions", b"\x00broken", f"Content-Encoding: {coding}")
    told = proxy.ask(asked)
    assert told.status in (200, 400, 415)
    assert all(seen.body == b"\x00broken" for seen in upstream.asked)


def test_a_compressed_body_that_becomes_huge_is_not_opened(
    proxy: Within, upstream: Upstream
) -> None:
    bomb = gzip.compress(bytes(600_000_000), 1)
    for _ in range(3):
        bomb = gzip.compress(bomb)
    asked = request("/openai/v1/chat/completions", bomb, "Content-Encoding: gzip, gzip, gzip, gzip")
    start = time.monotonic()
    assert proxy.ask(asked).status in (200, 400, 413, 415)
    assert time.monotonic() - start < 2


QUICK = Limits(
    header_seconds=0.3, keep_seconds=0.4, idle_seconds=0.4, body_bytes=10_000, held_bytes=5_000
)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET", id="half a line"),
        pytest.param(b"GET /openai/v1/models HTTP/1.1\r\nHost: a\r\nX-A: ", id="half a head"),
        pytest.param(post("Content-Length: 100", body=b"abc"), id="half a body, passed"),
        pytest.param(
            post("Content-Length: 100", body=b"abc", target="/openai/v1/chat/completions"),
            id="half a body, held",
        ),
        pytest.param(post("Transfer-Encoding: chunked", body=b"ff\r\nabc"), id="half a chunk"),
    ],
)
def test_a_connection_that_says_no_more_is_ended(
    serve: Serve, upstream: Upstream, sent: bytes
) -> None:
    proxy = serve(upstreams={"openai": upstream.url}, limits=QUICK)
    with proxy.client() as client:
        client.send(sent)
        client.socket.settimeout(5)
        with suppress(OSError):
            while client.more():
                pass
        assert client.held == b"" or client.held.startswith(b"HTTP/1.1 408")
    assert eventually(lambda: upstream.open == 0 or upstream.connections == 1)


def test_a_head_that_comes_drop_by_drop_is_ended(serve: Serve, upstream: Upstream) -> None:
    proxy = serve(upstreams={"openai": upstream.url}, limits=QUICK)
    start = time.monotonic()
    with proxy.client() as client, suppress(OSError):
        client.send(b"GET /openai/v1/models HTTP/1.1\r\nHost: a\r\n")
        while not client.held and time.monotonic() - start < 5:
            client.send(b"X-A: b\r\n")
            time.sleep(0.05)
            if not client.is_silent(0.001) and not client.more():
                break
    assert time.monotonic() - start < 3


def test_500_slow_heads_hold_nobody_up(serve: Serve, upstream: Upstream) -> None:
    proxy = serve(upstreams={"openai": upstream.url})
    slow = [proxy.client() for _ in range(500)]
    try:
        for client in slow:
            client.send(b"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: a\r\nX-")
        start = time.monotonic()
        assert proxy.ask(request("/openai/v1/models")).status == 200
        assert time.monotonic() - start < 0.5
    finally:
        for client in slow:
            client.close()


@pytest.mark.parametrize("how", ["a length", "chunks"])
@pytest.mark.parametrize("path", ["files", "chat/completions"])
def test_a_body_that_is_too_large_is_refused(
    serve: Serve, upstream: Upstream, how: str, path: str
) -> None:
    proxy = serve(upstreams={"openai": upstream.url}, limits=QUICK)
    data = bytes(200_000)
    if how == "chunks":
        asked = request(f"/openai/v1/{path}", chunked(data), "Transfer-Encoding: chunked")
    else:
        asked = request(f"/openai/v1/{path}", data)
    with proxy.client() as client:
        told = said(client, asked)
    assert told.startswith(b"HTTP/1.1 413") or told == b""
    assert not [asked for asked in upstream.asked if asked.whole]
    assert proxy.ask(request("/openai/v1/models")).status == 200


@pytest.mark.parametrize("how", ["a length", "chunks"])
def test_more_large_bodies_than_can_be_held_pass(
    serve: Serve, upstream: Upstream, how: str
) -> None:
    """Ten that do not come on are more than eight; who asks beside them is answered."""
    proxy = serve(upstreams={"openai": upstream.url}, limits=Limits(held_bytes=1_200_000))
    target, large = "/openai/v1/chat/completions", chat("a" * 1_100_000)
    framed = "Transfer-Encoding: chunked" if how == "chunks" else f"Content-Length: {len(large)}"
    begun = chunked(large[:-50], large[-50:])[:-30] if how == "chunks" else large[:-100]
    upstream.usual = answer(completion())
    slow = [proxy.client() for _ in range(10)]
    for client in slow:
        client.send(post(framed, body=begun, target=target))
    assert eventually(lambda: upstream.heads == 2)
    assert proxy.ask(request(target, large)).mark == "bypass"
    assert upstream.last.body == large
    assert proxy.ask(request(target, chat())).mark == "miss"
    for client in slow:
        client.close()
    assert eventually(lambda: proxy.ask(request(target, large)).mark != "bypass")
    assert proxy.ask(request(target, large)).mark == "hit"


@pytest.mark.parametrize("coding", ["", "gzip"])
def test_an_answer_that_is_too_long_to_be_held_passes(
    serve: Serve, upstream: Upstream, coding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it comes, and is not stored; nor is what becomes too long without its coding."""
    monkeypatch.setattr(wire, "_MOST", 1_000_000)
    proxy = serve(upstreams={"openai": upstream.url})
    body = completion("a" * 3_000_000)
    sent = gzip.compress(body) if coding else body
    upstream.usual = answer(sent, *([f"Content-Encoding: {coding}"] if coding else []))
    for _ in range(2):
        asked = request("/openai/v1/chat/completions", chat(), "Accept-Encoding: gzip")
        told = proxy.ask(asked)
        assert (told.status, told.mark, told.body) == (200, "miss", sent)
    assert len(upstream.asked) == 2


def test_json_of_very_many_parts_keeps_nobody_waiting(proxy: Within, upstream: Upstream) -> None:
    body = b'{"model":"m","messages":[' + b",".join([b"{}"] * 2_000_000) + b"]}"
    upstream.usual = answer(completion())
    assert proxy.ask(request("/openai/v1/chat/completions", body)).mark == "bypass"
    few = b'{"model":"m","messages":[' + b",".join([b"{}"] * 20_000) + b"]}"
    assert proxy.ask(request("/openai/v1/chat/completions", few)).mark == "miss"


def test_a_client_that_does_not_read_is_left(serve: Serve, upstream: Upstream) -> None:
    proxy = serve(upstreams={"openai": upstream.url}, limits=QUICK)
    upstream.on("/v1/large", answer(bytes(60_000_000)))
    before = proxy.tasks()
    client = proxy.client()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.send(request("/openai/v1/large"))
    assert eventually(lambda: upstream.asked)
    assert eventually(lambda: proxy.tasks() <= before, 5)
    client.close()


def test_a_page_of_another_site_gets_nothing(proxy: Within, upstream: Upstream) -> None:
    """A browser on this machine is made to ask by pages that it shows."""
    for given in ({"host": "evil.example"}, {"host": "127.0.0.1.evil.example"}):
        told = proxy.ask(request("/openai/v1/chat/completions", chat(), **given))
        assert told.status in (403, 421)
    asked = request("/openai/v1/chat/completions", chat(), "Origin: https://evil.example")
    assert proxy.ask(asked).status == 403
    # Of an image, a script or a link there is no origin.
    asked = request("/openai/v1/models", None, "Sec-Fetch-Site: cross-site")
    assert proxy.ask(asked).status == 403
    assert not upstream.asked
    for given in ("Sec-Fetch-Site: none", "Sec-Fetch-Site: same-origin"):
        assert proxy.ask(request("/openai/v1/models", None, given)).status == 200
    own = ("Sec-Fetch-Site: cross-site", "Origin: http://localhost:3000")
    assert proxy.ask(request("/openai/v1/models", None, *own)).status == 200


class TestToken:
    """Who may use a proxy that has a token."""

    TOKEN = "t0ken-With/slash"

    @pytest.fixture
    def guarded(self, serve: Serve, upstream: Upstream) -> Within:
        return serve(upstreams={"openai": upstream.url}, token=self.TOKEN)

    @pytest.mark.parametrize(
        ("target", "headers"),
        [
            pytest.param("/openai/v1/models", [], id="none"),
            pytest.param("/openai/v1/models", ["x-cachewrap-token: wrong"], id="wrong"),
            pytest.param("/openai/v1/models", ["x-cachewrap-token:"], id="empty"),
            pytest.param("/wrong/openai/v1/models", [], id="wrong in the path"),
            pytest.param("//openai/v1/models", [], id="empty in the path"),
            pytest.param("/metrics", [], id="metrics"),
            pytest.param("/", [], id="front"),
            pytest.param("/openai/v1/t0ken-With%2Fslash", [], id="elsewhere in the path"),
            pytest.param("/openai/v1/models", ["x-cachewrap-token: t0ken"], id="part of it"),
            pytest.param(
                "/openai/v1/models", ["Authorization: Bearer t0ken-With/slash"], id="as a key"
            ),
        ],
    )
    def test_without_it_nothing_is_told(
        self, guarded: Within, upstream: Upstream, target: str, headers: list[str]
    ) -> None:
        told = guarded.ask(request(target, None, *headers))
        assert told.status == 401
        assert self.TOKEN.encode() not in told.head + told.body
        assert not upstream.asked

    @pytest.mark.parametrize(
        ("target", "headers"),
        [
            pytest.param("/openai/v1/models", [f"x-cachewrap-token: {TOKEN}"], id="a header"),
            pytest.param("/t0ken-With%2Fslash/openai/v1/models", [], id="in the path"),
        ],
    )
    def test_with_it_all_is_as_without(
        self, guarded: Within, upstream: Upstream, target: str, headers: list[str]
    ) -> None:
        assert guarded.ask(request(target, None, *headers)).status == 200
        assert upstream.last.target == "/v1/models"
        assert b"t0ken" not in upstream.last.head

    def test_the_front_page_names_no_token(self, guarded: Within) -> None:
        told = guarded.ask(request("/t0ken-With%2Fslash/", host="cache:8141"))
        assert told.status == 200
        assert b"OPENAI_BASE_URL=http://cache:8141/TOKEN/openai/v1\n" in told.body
        assert b"t0ken" not in told.body

    def test_health_is_told_without(self, guarded: Within) -> None:
        assert guarded.ask(request("/healthz")).status == 200


def test_a_connection_ends_without_a_word_at_any_byte(proxy: Within, upstream: Upstream) -> None:
    """Half-open connections, cut everywhere, are no fault of the proxy."""
    whole = request("/openai/v1/chat/completions", chat("cut"))
    before = proxy.tasks()
    for end in range(0, len(whole), 5):
        client = proxy.client()
        client.send(whole[:end])
        client.reset()
    assert eventually(lambda: proxy.tasks() <= before)
    with proxy.client() as client, suppress(Ended):
        assert client.ask(whole).status == 200
