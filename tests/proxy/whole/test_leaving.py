"""Clients that leave, in every phase: the upstream is let go, and nothing stays behind."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable

import pytest

from proxy.raw import Client, Message, Wire, chunk, eventually, request
from proxy.running import Within
from proxy.upstream import Upstream, answer, chat, completion, early, events, stream, stream_head

TARGET = "/openai/v1/chat/completions"
PIECES = events("a", "b", "c")


def in_the_head(client: Client, upstream: Upstream) -> None:
    client.send(request(TARGET, chat())[:40])


def before_the_body(client: Client, upstream: Upstream) -> None:
    client.send(request(TARGET, b"", "Content-Length: 100"))


def in_the_body(client: Client, upstream: Upstream) -> None:
    client.send(request(TARGET, b"", "Content-Length: 1000000") + bytes(5_000))


def in_an_upload(client: Client, upstream: Upstream) -> None:
    client.send(request("/openai/v1/files", b"", "Content-Length: 1000000") + bytes(5_000))
    assert eventually(lambda: upstream.heads)


def in_a_chunk_of_an_upload(client: Client, upstream: Upstream) -> None:
    client.send(request("/openai/v1/files", b"", "Transfer-Encoding: chunked") + b"ff\r\nabc")
    assert eventually(lambda: upstream.heads)


def before_the_answer(client: Client, upstream: Upstream) -> None:
    client.send(request(TARGET, chat()))
    upstream.wait_for(1)


def before_a_passed_answer(client: Client, upstream: Upstream) -> None:
    client.send(request("/openai/v1/models"))
    upstream.wait_for(1)


def in_a_stream(client: Client, upstream: Upstream) -> None:
    client.send(request(TARGET, chat(stream=True)))
    assert next(client.reading(client.answer(read=False))) == PIECES[0]


def in_a_passed_stream(client: Client, upstream: Upstream) -> None:
    client.send(request("/openai/v1/events"))
    assert next(client.reading(client.answer(read=False))) == PIECES[0]


def in_an_answer_that_it_does_not_read(client: Client, upstream: Upstream) -> None:
    client.send(request("/openai/v1/large"))
    client.answer(read=False)


def between_requests(client: Client, upstream: Upstream) -> None:
    client.ask(request("/openai/v1/quick"))


def at_once(client: Client, upstream: Upstream) -> None:
    return


PHASES = [
    *(at_once, in_the_head, before_the_body, in_the_body, in_an_upload, in_a_chunk_of_an_upload),
    *(before_the_answer, before_a_passed_answer, in_a_stream, in_a_passed_stream),
    *(in_an_answer_that_it_does_not_read, between_requests),
]


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__.replace("_", " "))
@pytest.mark.parametrize("how", ["closes", "resets", "half closes"])
def test_a_client_that_leaves_leaves_nothing_behind(
    proxy: Within,
    upstream: Upstream,
    phase: Callable[[Client, Upstream], None],
    how: str,
) -> None:
    gone = threading.Event()

    def waits(wire: Wire, asked: Message) -> bool:
        if asked.target.endswith("events") or b'"stream":true' in asked.body:
            wire.send(stream_head() + chunk(PIECES[0]))
        streams = "stream" in phase.__name__
        while not gone.is_set():
            if wire.is_closed(0.02):
                gone.set()
            elif streams:  # whether one who says no more still listens is seen by what is sent
                wire.send(chunk(PIECES[1]))
        return False

    upstream.usual = waits
    upstream.on("/v1/large", answer(bytes(40_000_000)))
    upstream.on("/v1/quick", answer(b"{}"))
    upstream.on("/v1/warm", answer(b"{}"))
    proxy.ask(request("/openai/v1/warm"))
    before = proxy.tasks()
    client = proxy.client()
    phase(client, upstream)
    if how == "resets":
        client.reset()
    elif how == "closes":
        client.close()
    else:
        client.socket.shutdown(1)
        time.sleep(0.05)
        client.close()
    assert eventually(lambda: proxy.tasks() <= before), "a task is left"
    assert eventually(lambda: upstream.open <= 1), "a connection to the upstream is left"
    gone.set()
    # What it has asked is asked anew by the next one, who gets all of it.
    upstream.usual = stream(*PIECES)
    for body in (chat(), chat(stream=True)):
        assert proxy.ask(request(TARGET, body)).body == b"".join(PIECES)


def test_an_upload_that_is_not_whole_is_no_request(proxy: Within, upstream: Upstream) -> None:
    """The upstream sees the end of its connection, and not that of the body."""
    ended: list[str] = []

    @early
    def read(wire: Wire, asked: Message) -> bool:
        try:
            wire.body(asked)
            ended.append("whole")
        except OSError:
            ended.append("broken")
        return False

    upstream.usual = read
    for how in ("Content-Length: 1000", "Transfer-Encoding: chunked"):
        client = proxy.client()
        client.send(request("/openai/v1/files", b"", how) + b"5\r\nabcde\r\n")
        assert eventually(lambda: upstream.asked)
        client.close()
        assert eventually(lambda: ended)
        assert ended == ["broken"]
        ended.clear()
        upstream.asked.clear()


def test_a_client_that_sends_its_end_early_still_gets_its_answer(
    proxy: Within, upstream: Upstream
) -> None:
    """As ``nc`` does: no more is sent, and the answer is read."""
    go = threading.Event()

    def waits(wire: Wire, asked: Message) -> None:
        go.wait(0.2)
        wire.send(answer(b"{}"))

    upstream.usual = waits
    client = proxy.client()
    client.send(request(TARGET, chat("half")))
    client.socket.shutdown(1)
    assert client.answer().body == b"{}"


def test_a_request_that_is_over_is_kept_by_nobody(proxy: Within, upstream: Upstream) -> None:
    """Neither by the connection that was made for it, nor by itself: bodies may be large."""

    def kept() -> list[str]:
        names = (type(one).__name__ for one in gc.get_objects())
        return [name for name in names if name in ("ProxyWire", "SdkExchange")]

    gc.collect()
    before = len(kept())
    gc.disable()
    try:
        with proxy.client() as client:
            upstream.once(answer(completion()), stream(*events("a")), answer(b"x" * 3_000_000))
            for number in range(3):
                body = chat(f"question {number}", stream=number == 1)
                assert client.ask(request("/openai/v1/chat/completions", body)).mark == "miss"
            assert client.ask(request("/openai/v1/models")).mark == "bypass"
        assert upstream.connections == 1
        assert eventually(lambda: len(kept()) <= before), kept()
    finally:
        gc.enable()
