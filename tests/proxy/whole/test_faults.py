"""Upstreams that stall, cut and send nonsense: a client learns of it, and nothing is stored."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from stalling import Listener

from cachewrap.proxy.journal import Journal
from cachewrap.proxy.settings import Limits, Served
from proxy.conftest import Serve
from proxy.raw import Message, Wire, chunk, eventually, request
from proxy.running import Within, within
from proxy.upstream import Script, Upstream, answer, chat, completion, events, stream, stream_head

PIECES = events("a", "b")


def cut(data: bytes, *, reset: bool = False) -> Callable[[Wire, Message], bool]:
    """Send this, and end the connection there."""

    def run(wire: Wire, asked: Message) -> bool:
        wire.send(data)
        if reset:
            wire.reset()
        return False

    return run


def long_head(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nX-Long: " + b"v" * size + b"\r\nContent-Length: 0\r\n\r\n"


BEFORE = [
    pytest.param(cut(b""), id="closes"),
    pytest.param(cut(b"", reset=True), id="resets"),
    pytest.param(cut(b"SSH-2.0-OpenSSH_9\r\n\r\n"), id="speaks something else"),
    pytest.param(cut(b"\x16\x03\x01\x02\x00\x01"), id="speaks TLS"),
    pytest.param(cut(b"HTTP/1.1 200 OK\r\nContent-Le"), id="cut in the head"),
    pytest.param(cut(b"HTTP/1.1 200 OK\r\n no name\r\n\r\n"), id="no header"),
    pytest.param(cut(b"HTTP/1.1 2000 OK\r\n\r\n"), id="no status"),
    pytest.param(
        cut(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        id="two lengths",
    ),
    pytest.param(cut(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), id="a negative length"),
    pytest.param(
        cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, foo\r\n\r\nab"), id="an unknown coding"
    ),
    pytest.param(cut(long_head(2_000_000)), id="a head of 2 MB"),
    pytest.param(cut(b"HTTP/1.1 103 Early\r\n\r\n"), id="only 103"),
]

WITHIN = [
    pytest.param(cut(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"), id="cut in the body"),
    pytest.param(
        cut(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", reset=True), id="reset in the body"
    ),
    pytest.param(cut(stream_head()), id="cut before the first chunk"),
    pytest.param(cut(stream_head() + chunk(PIECES[0])), id="cut between chunks"),
    pytest.param(cut(stream_head() + chunk(PIECES[0])[:-9]), id="cut in a chunk"),
    pytest.param(cut(stream_head() + chunk(PIECES[0]) + b"ff"), id="cut in the size of a chunk"),
    pytest.param(
        cut(stream_head() + chunk(PIECES[0]) + b"0\r\nX-Tr", reset=True), id="reset in the trailers"
    ),
    pytest.param(cut(stream_head() + chunk(PIECES[0]) + b"zz\r\n"), id="no size of a chunk"),
    pytest.param(cut(stream_head() + b"5\r\nabcdefgh\r\n"), id="a chunk that is longer"),
    pytest.param(cut(stream_head() + b"-5\r\nabcde\r\n"), id="a negative size of a chunk"),
]

WAYS = [
    pytest.param("/openai/v1/models", None, id="passed"),
    pytest.param("/openai/v1/chat/completions", chat("x"), id="cached"),
    pytest.param("/openai/v1/chat/completions", chat("x", stream=True), id="cached stream"),
]


def works_again(proxy: Within, upstream: Upstream, target: str, body: bytes | None) -> None:
    """The same request is then answered by the upstream: nothing of the fault was stored."""
    upstream.usual = answer(completion("whole"))
    count = len(upstream.asked)
    again = proxy.ask(request(target, body))
    assert (again.status, again.body) == (200, completion("whole"))
    assert len(upstream.asked) == count + 1


@pytest.mark.parametrize("script", BEFORE)
@pytest.mark.parametrize(("target", "body"), WAYS)
def test_a_fault_before_the_answer_is_told(
    proxy: Within, upstream: Upstream, script: Script, target: str, body: bytes | None
) -> None:
    upstream.usual = script
    told = proxy.ask(request(target, body))
    assert told.status == 502
    assert b'"error"' in told.body
    assert told.whole
    works_again(proxy, upstream, target, body)


@pytest.mark.parametrize("script", WITHIN)
@pytest.mark.parametrize(("target", "body"), WAYS)
def test_an_answer_that_breaks_is_seen_to_break(
    proxy: Within, upstream: Upstream, script: Script, target: str, body: bytes | None
) -> None:
    upstream.usual = script
    told = proxy.ask(request(target, body))
    assert told.status == 502 or not told.whole
    works_again(proxy, upstream, target, body)


def stall(data: bytes, end: threading.Event) -> Callable[[Wire, Message], bool]:
    """Send this, and nothing more."""

    def run(wire: Wire, asked: Message) -> bool:
        wire.send(data)
        end.wait(20)
        return False

    return run


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="before the head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-A", id="in the head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", id="in the body"),
        pytest.param(stream_head(), id="before the first chunk"),
        pytest.param(stream_head() + chunk(PIECES[0]), id="between chunks"),
        pytest.param(stream_head() + chunk(PIECES[0])[:-9], id="in a chunk"),
        pytest.param(stream_head() + chunk(PIECES[0]) + b"0\r\n", id="before the trailers"),
    ],
)
@pytest.mark.parametrize(("target", "body"), WAYS)
def test_an_upstream_that_stalls_is_left(
    serve: Serve, upstream: Upstream, data: bytes, target: str, body: bytes | None
) -> None:
    proxy = serve(
        upstreams={"openai": upstream.url}, limits=Limits(upstream_seconds=0.3, end_seconds=1)
    )
    end = threading.Event()
    upstream.usual = stall(data, end)
    told = proxy.ask(request(target, body))
    assert told.status == 504 or (told.status == 200 and not told.whole)
    end.set()
    works_again(proxy, upstream, target, body)
    assert eventually(lambda: proxy.tasks() <= 8)


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("http://127.0.0.1:1", id="refused"),
        pytest.param("http://nowhere.invalid", id="no such host"),
        pytest.param("https://127.0.0.1:{port}", id="no TLS there"),
    ],
)
def test_an_upstream_that_cannot_be_reached_is_told(serve: Serve, place: str) -> None:
    plain = Listener(lambda connection: connection.recv(9) and connection.sendall(b"HTTP/1.1 400 "))
    with plain:
        proxy = serve(upstreams={"local": place.format(port=plain.port)})
        told = proxy.ask(request("/local/v1/chat/completions", chat(), "Authorization: Bearer k9"))
        assert told.status == 502
        assert b"k9" not in told.head + told.body


def test_a_connection_that_the_upstream_has_closed_is_not_used_again(
    proxy: Within, upstream: Upstream
) -> None:
    """Where it was kept and is closed just then, the request is sent anew, and no one sees it."""
    closing = answer(b"{}")

    def once_then_close(wire: Wire, asked: Message) -> bool:
        wire.send(closing)  # says nothing of it
        return False

    upstream.usual = once_then_close
    for number in range(20):
        assert proxy.ask(request("/openai/v1/models")).status == 200
        body = chat(str(number))
        assert proxy.ask(request("/openai/v1/chat/completions", body)).status == 200


def test_what_stands_behind_an_answer_is_no_answer(proxy: Within, upstream: Upstream) -> None:
    forged = answer(b'{"forged":1}')
    upstream.usual = answer(b"{}") + forged
    for _ in range(4):
        assert proxy.ask(request("/openai/v1/models")).body == b"{}"


def test_many_faults_leave_nothing_behind(serve: Serve, upstream: Upstream) -> None:
    proxy = serve(upstreams={"openai": upstream.url})
    scripts: list[Any] = [given.values[0] for given in (*BEFORE, *WITHIN)]
    proxy.ask(request("/openai/v1/models"))
    before = proxy.tasks()
    for number in range(60):
        upstream.usual = scripts[number % len(scripts)]
        proxy.ask(request("/openai/v1/chat/completions", chat(str(number), stream=number % 2 == 0)))
    assert eventually(lambda: proxy.tasks() <= before)
    assert eventually(lambda: upstream.open <= 1)


def test_a_slow_upload_to_a_slow_upstream_is_whole(proxy: Within, upstream: Upstream) -> None:
    """What cannot be sent on is not read either: it is not held."""
    size = 30_000_000
    start = threading.Event()

    def slow(wire: Wire, asked: Message) -> None:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        start.wait(10)
        wire.body(asked)
        wire.send(answer(str(len(asked.body)).encode()))

    slow.early = True  # type: ignore[attr-defined]
    upstream.usual = slow
    with proxy.client() as client:
        sent = threading.Event()

        def send() -> None:
            client.send(request("/openai/v1/files", b"", f"Content-Length: {size}"))
            client.send(bytes(size))
            sent.set()

        threading.Thread(target=send, daemon=True).start()
        assert not sent.wait(0.3)
        start.set()
        assert client.answer().body == str(size).encode()


def test_a_stream_after_its_fault_is_whole(proxy: Within, upstream: Upstream) -> None:
    upstream.once(cut(stream_head() + chunk(PIECES[0])), stream(*PIECES))
    body = chat("again", stream=True)
    assert not proxy.ask(request("/openai/v1/chat/completions", body)).whole
    for mark in ("miss", "hit"):
        told = proxy.ask(request("/openai/v1/chat/completions", body))
        assert (told.mark, told.pieces) == (mark, PIECES)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files"], ids=["cached", "passed"])
def test_a_request_that_takes_too_long(
    path: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Served] = []
    monkeypatch.setattr(Journal, "add", lambda self, served: told.append(served))
    upstream.usual = lambda wire, asked: wire.more()
    upstreams, limits = {"openai": upstream.url}, Limits(total_seconds=0.2)
    with within(upstreams=upstreams, limits=limits) as proxy:
        assert proxy.ask(request(f"/openai{path}", chat())).status == 504
    assert [one.error for one in told] == ["took too long"]
