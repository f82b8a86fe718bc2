"""Streams of every shape: as they come, and the same from the cache, chunk by chunk."""

from __future__ import annotations

import select
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from proxy.conftest import KINDS, Serve
from proxy.raw import Client, Message, Wire, chunk, request
from proxy.running import Within
from proxy.upstream import Upstream, answer, chat, completion, events, slowly, stream, stream_head

TARGET = "/openai/v1/chat/completions"
TEXTS = ("Grüße", " an", " die 世界", " 🌍")


def packer(name: str) -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    """What compresses pieces so that each can be read at once, and its end."""
    if name == "gzip":
        one = zlib.compressobj(wbits=31)
        return (
            lambda data: one.compress(data) + one.flush(zlib.Z_SYNC_FLUSH),
            one.flush,
        )
    if name == "br":
        brotli = pytest.importorskip("brotli").Compressor()
        return (lambda data: brotli.process(data) + brotli.flush()), brotli.finish
    zstd = pytest.importorskip("zstandard")
    each = zstd.ZstdCompressor().compressobj()
    return (
        lambda data: each.compress(data) + each.flush(zstd.COMPRESSOBJ_FLUSH_BLOCK),
        lambda: each.flush(zstd.COMPRESSOBJ_FLUSH_FINISH),
    )


def packed(name: str, pieces: list[bytes]) -> list[bytes]:
    """The pieces, compressed one by one."""
    pack, end = packer(name)
    found = [pack(piece) for piece in pieces]
    return [*found, last] if (last := end()) else found


def broken_up(pieces: list[bytes], size: int) -> list[bytes]:
    """The same bytes in pieces that end anywhere."""
    whole = b"".join(pieces)
    return [whole[start : start + size] for start in range(0, len(whole), size)]


SHAPES = [
    pytest.param(events(*TEXTS), id="LF"),
    pytest.param(events(*TEXTS, end="\r\n"), id="CRLF"),
    pytest.param(events(*TEXTS, comment=": ping"), id="a comment first"),
    pytest.param([b": OPENROUTER PROCESSING\n\n", *events(*TEXTS, comment=": a")], id="comments"),
    pytest.param(events(*TEXTS, done=False), id="no [DONE]"),
    pytest.param(broken_up(events(*TEXTS), 7), id="broken anywhere"),
    pytest.param(broken_up(events(*TEXTS, end="\r\n"), 1), id="byte by byte"),
    pytest.param([b"".join(events(*TEXTS))], id="in one piece"),
    pytest.param([*events(*TEXTS * 200)], id="many events"),
]


@pytest.mark.parametrize("pieces", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_the_same_from_the_cache(
    serve: Serve,
    place: Callable[[str], str],
    upstream: Upstream,
    pieces: list[bytes],
    kind: str,
) -> None:
    proxy = serve(place(kind), upstreams={"openai": upstream.url})

    def each(wire: Wire, asked: Message) -> None:
        wire.send(stream_head("X-Request-Id: r1", "openai-processing-ms: 3"))
        for piece in pieces:
            wire.send(chunk(piece))
            time.sleep(0.0005 if len(pieces) < 50 else 0)
        wire.send(b"0\r\n\r\n")

    upstream.usual = each
    asked = request(TARGET, chat(stream=True))
    with proxy.client() as client:
        first, second = client.ask(asked), client.ask(asked)
    assert (first.mark, second.mark) == ("miss", "hit")
    assert first.body == second.body == b"".join(pieces)
    assert first.pieces == second.pieces == pieces
    assert first.get("content-type") == second.get("content-type") == "text/event-stream"
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
@pytest.mark.parametrize("accepts", ["gzip, br, zstd", "identity", None])
def test_a_compressed_stream(
    proxy: Within, upstream: Upstream, coding: str, accepts: str | None
) -> None:
    """It comes as it is, and the events of it are stored: a hit is for whoever asks."""
    pieces = events(*TEXTS)
    coded = packed(coding, pieces)
    upstream.usual = stream(*coded, headers=(f"Content-Encoding: {coding}",))
    ask = [] if accepts is None else [f"Accept-Encoding: {accepts}"]
    first = proxy.ask(request(TARGET, chat(stream=True), *ask))
    assert (first.mark, first.pieces) == ("miss", coded)
    assert first.get("content-encoding") == coding
    for more in (ask, [], ["Accept-Encoding: gzip"]):
        again = proxy.ask(request(TARGET, chat(stream=True), *more))
        assert (again.mark, again.body) == ("hit", b"".join(pieces))
        assert again.get("content-encoding") is None


@pytest.mark.parametrize("coding", [None, "gzip", "br", "zstd"])
def test_an_event_comes_before_the_next_is_sent(
    proxy: Within, upstream: Upstream, coding: str | None
) -> None:
    pieces = events(*TEXTS)
    sent = pieces if coding is None else packed(coding, pieces)
    gates = [threading.Semaphore(0) for _ in sent]

    def each(wire: Wire, asked: Message) -> None:
        wire.send(stream_head(*([] if coding is None else [f"Content-Encoding: {coding}"])))
        for gate, piece in zip(gates, sent, strict=True):
            gate.acquire(timeout=10)
            wire.send(chunk(piece))
        wire.send(b"0\r\n\r\n")

    upstream.usual = each
    with proxy.client() as client:
        client.send(request(TARGET, chat(stream=True), "Accept-Encoding: gzip, br, zstd"))
        reading = client.reading(client.answer(read=False))
        for gate, piece in zip(gates, sent, strict=True):
            gate.release()
            assert next(reading) == piece
        assert list(reading) == []


def test_a_stored_stream_comes_at_its_pace_where_that_is_asked(
    proxy: Within, upstream: Upstream
) -> None:
    pieces = events("a", "b", "c")
    upstream.usual = slowly(*pieces, gate=lambda index: time.sleep(0.05 * (index in (1, 2))))
    proxy.ask(request(TARGET, chat(stream=True)))
    with proxy.client() as client:
        start = time.monotonic()
        client.ask(request(TARGET, chat(stream=True)))
        assert time.monotonic() - start < 0.09
        start = time.monotonic()
        paced = client.ask(request(TARGET, chat(stream=True), "x-cachewrap-pace: true"))
        assert time.monotonic() - start >= 0.09
    assert (paced.mark, paced.pieces) == ("hit", pieces)


def read_all(clients: list[Client], within: float = 20.0) -> list[bytes]:
    """What each of many connections says until its answer has ended, read as it comes."""
    waiting = {client.socket: client for client in clients}
    end = time.monotonic() + within
    while waiting and time.monotonic() < end:
        ready, _, _ = select.select(list(waiting), [], [], 1)
        for one in ready:
            client = waiting[one]
            if not client.more() or client.held.endswith(b"0\r\n\r\n"):
                del waiting[one]
    return [client.held for client in clients]


@pytest.mark.parametrize("which", ["misses", "hits", "passed"])
def test_200_streams_at_once(proxy: Within, upstream: Upstream, which: str) -> None:
    """None ends before all have begun, and each has its own answer."""
    number = 200
    all_there = threading.Event()

    def each(wire: Wire, asked: Message) -> None:
        wire.send(stream_head())
        if upstream.heads >= number:
            all_there.set()
        if which != "hits":
            all_there.wait(20)
        for piece in events(asked.body.decode()[-40:].partition('"content":"')[2][:4]):
            wire.send(chunk(piece))
        wire.send(b"0\r\n\r\n")

    upstream.usual = each
    path = "/openai/v1/other" if which == "passed" else TARGET
    asked = [
        request(
            path, b'{"model":"m","stream":true,"messages":[{"role":"user","content":"%04d"}]}' % n
        )
        for n in range(number)
    ]
    if which == "hits":
        for one in asked:
            proxy.ask(one)
    clients = [proxy.client() for _ in range(number)]
    try:
        for client, one in zip(clients, asked, strict=True):
            client.send(one)
        told = read_all(clients)
    finally:
        for client in clients:
            client.close()
    mark = {"misses": b"miss", "hits": b"hit", "passed": b"bypass"}[which]
    for index, one in enumerate(told):
        assert b"HTTP/1.1 200" in one
        assert b"x-cachewrap: " + mark in one
        assert one.endswith(b"0\r\n\r\n"), one
        assert b'"content":"%04d"' % index in one
    assert len(upstream.asked) == number


class TestOnce:
    """Many clients of one stream, which the upstream is asked for once."""

    def ask_all(self, proxy: Within, upstream: Upstream, number: int, script: Any) -> list[Client]:
        upstream.usual = script
        clients = [proxy.client() for _ in range(number)]
        clients[0].send(request(TARGET, chat(stream=True)))
        upstream.wait_for(1)
        for client in clients[1:]:
            client.send(request(TARGET, chat(stream=True)))
        return clients

    @pytest.mark.parametrize("kind", KINDS)
    def test_16_clients(
        self, serve: Serve, place: Callable[[str], str], upstream: Upstream, kind: str
    ) -> None:
        proxy = serve(place(kind), upstreams={"openai": upstream.url})
        pieces, go = events(*TEXTS), threading.Event()
        script = slowly(*pieces, gate=lambda index: index < 2 or go.wait(10))
        clients = self.ask_all(proxy, upstream, 16, script)
        heads = [client.answer(read=False) for client in clients]
        readings = [client.reading(head) for client, head in zip(clients, heads, strict=True)]
        for reading in readings:  # all see what there is of it while it is on its way
            assert [next(reading), next(reading)] == pieces[:2]
        go.set()
        for reading in readings:
            assert list(reading) == pieces[2:]
        assert len(upstream.asked) == 1
        assert [head.mark for head in heads] == ["miss"] + ["joined"] * 15
        assert proxy.ask(request(TARGET, chat(stream=True))).mark == "hit"
        for client in clients:
            client.close()

    def test_a_slow_client_delays_nobody(self, proxy: Within, upstream: Upstream) -> None:
        """Neither where it was the first, nor where it joined; in its own time it gets all."""
        pieces = events(*["x" * 50_000] * 300)  # far more than sockets hold
        whole = b"".join(pieces)
        clients = self.ask_all(proxy, upstream, 4, stream(*pieces))
        slow = [clients[0], clients[3]]
        for client in clients[1:3]:
            assert client.answer().body == whole
        for client in slow:
            assert client.answer().body == whole
        assert len(upstream.asked) == 1
        for client in clients:
            client.close()

    @pytest.mark.parametrize("who", ["the first", "one that joined", "all but the last"])
    def test_who_leaves_harms_nobody(self, proxy: Within, upstream: Upstream, who: str) -> None:
        pieces, go = events(*TEXTS), threading.Event()
        script = slowly(*pieces, gate=lambda index: index < 2 or go.wait(10))
        clients = self.ask_all(proxy, upstream, 6, script)
        heads = [client.answer(read=False) for client in clients]
        readings = [client.reading(head) for client, head in zip(clients, heads, strict=True)]
        for reading in readings:
            next(reading)
        gone = {"the first": [0], "one that joined": [2], "all but the last": range(5)}[who]
        for index in gone:
            clients[index].reset()
        time.sleep(0.02)
        go.set()
        for index in set(range(6)) - set(gone):
            assert list(readings[index]) == pieces[1:]
        assert len(upstream.asked) == 1
        assert proxy.ask(request(TARGET, chat(stream=True))).mark == "hit"

    def test_a_stream_that_breaks_breaks_for_all(self, proxy: Within, upstream: Upstream) -> None:
        go = threading.Event()
        pieces = events(*TEXTS)

        def breaks(wire: Wire, asked: Message) -> bool:
            wire.send(stream_head() + chunk(pieces[0]))
            go.wait(10)
            wire.reset()
            return False

        clients = self.ask_all(proxy, upstream, 5, breaks)
        heads = [client.answer(read=False) for client in clients]
        for client, head in zip(clients, heads, strict=True):
            assert next(client.reading(head)) == pieces[0]
        go.set()
        for client, head in zip(clients, heads, strict=True):
            with pytest.raises(ConnectionError):
                list(client.reading(head))
        upstream.usual = stream(*pieces)
        assert proxy.ask(request(TARGET, chat(stream=True))).mark == "miss"

    def test_plain_answers_are_asked_for_once_too(self, proxy: Within, upstream: Upstream) -> None:
        go = threading.Event()

        def waits(wire: Wire, asked: Message) -> None:
            go.wait(10)
            wire.send(answer(completion()))

        upstream.usual = waits
        clients = [proxy.client() for _ in range(16)]
        for client in clients:
            client.send(request(TARGET, chat("plain")))
        upstream.wait_for(1)
        time.sleep(0.1)
        go.set()
        told = [client.answer() for client in clients]
        assert {one.body for one in told} == {completion()}
        assert len(upstream.asked) == 1
        assert sorted(one.mark or "" for one in told)[-1] == "miss"
        assert [one.mark for one in told].count("miss") == 1
