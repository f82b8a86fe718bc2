"""Modes, seeds, samples and the like by headers of one request, and what an answer says of it."""

from __future__ import annotations

import json
import threading

import pytest

from proxy.conftest import Serve
from proxy.raw import Message, Wire, chunk, request
from proxy.running import Within
from proxy.upstream import Upstream, answer, chat, completion, events, slowly
from proxy.whole.test_streams import TARGET, packed

MESSAGES = "/anthropic/v1/messages"


@pytest.fixture
def counting(upstream: Upstream) -> Upstream:
    """An upstream whose every answer is another one."""
    upstream.usual = lambda wire, asked: wire.send(
        answer(completion(f"answer {len(upstream.asked)}"), "Content-Type: application/json")
    )
    return upstream


def said(body: bytes) -> str:
    return str(json.loads(body)["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    ("controls", "marks"),
    [
        pytest.param(([], []), ("miss", "hit"), id="nothing"),
        pytest.param(([], ["seed: 7"]), ("miss", "miss"), id="another-seed"),
        pytest.param((["seed: 7"], ["seed: 7"]), ("miss", "hit"), id="one-seed"),
        pytest.param(([], ["sample: 0"]), ("miss", "hit"), id="first-sample"),
        pytest.param(([], ["sample: 1"]), ("miss", "miss"), id="another-sample"),
        pytest.param((["sample: 2"], ["sample: 2"]), ("miss", "hit"), id="one-sample"),
        pytest.param(([], ["refresh: true"]), ("miss", "miss"), id="refresh"),
        pytest.param(([], ["mode: refresh"]), ("miss", "miss"), id="mode-refresh"),
        pytest.param(([], ["mode: off"]), ("miss", "bypass"), id="mode-off"),
        pytest.param(([], ["seed: none"]), ("miss", "bypass"), id="no-seed"),
        pytest.param(([], ["mode: replay"]), ("miss", "hit"), id="mode-replay"),
        pytest.param((["mode: read_only"], []), ("miss", "miss"), id="read-only-stores-nothing"),
        pytest.param(([], ["mode: read_only"]), ("miss", "hit"), id="read-only-reads"),
    ],
)
def test_a_second_request(
    proxy: Within,
    counting: Upstream,
    controls: tuple[list[str], list[str]],
    marks: tuple[str, str],
) -> None:
    found = [
        proxy.ask(request(TARGET, chat(), *(f"x-cachewrap-{one}" for one in each)))
        for each in controls
    ]
    assert tuple(one.mark for one in found) == marks
    assert len(counting.asked) == sum(mark != "hit" for mark in marks)
    for asked in counting.asked:
        assert not [name for name, _ in asked.headers if name.lower().startswith(b"x-cachewrap")]


def test_what_was_asked_anew_is_what_is_stored(proxy: Within, counting: Upstream) -> None:
    proxy.ask(request(TARGET, chat()))
    proxy.ask(request(TARGET, chat(), "x-cachewrap-refresh: 1"))
    assert said(proxy.ask(request(TARGET, chat())).body) == "answer 2"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_one_proxy_behind_another(
    serve: Serve, proxy: Within, upstream: Upstream, stream: bool
) -> None:
    """Each answer has one mark, that of the proxy which was asked."""
    pieces = events("a") if stream else [completion()]
    kind = "text/event-stream" if stream else "application/json"
    upstream.usual = lambda wire, asked: wire.send(
        answer(b"".join(pieces), f"Content-Type: {kind}")
    )
    near = serve(upstreams={"openai": f"{proxy.url}/openai/v1"})
    asked = [request(TARGET, chat(text, stream=stream)) for text in ("a", "b")]
    proxy.ask(asked[0])
    found = [near.ask(each) for each in (*asked, *asked)]
    marks = [[v for name, v in one.headers if name.lower() == b"x-cachewrap"] for one in found]
    assert marks == [[b"miss"], [b"miss"], [b"hit"], [b"hit"]]
    assert len(upstream.asked) == 2
    passed = near.ask(request("/openai/v1/models"))
    assert [v for name, v in passed.headers if name.lower() == b"x-cachewrap"] == [b"bypass"]


class TestReplay:
    """What is not stored is not asked for, and the answer says what would have been near."""

    def test_a_miss_in_openais_shape(self, proxy: Within, counting: Upstream) -> None:
        proxy.ask(request(TARGET, chat("hi")))
        found = proxy.ask(request(TARGET, chat("ho"), "x-cachewrap-mode: replay"))
        assert (found.status, found.mark) == (404, "miss")
        told = json.loads(found.body)
        assert told["error"]["code"] == "replay_miss"
        assert "messages[0].content: 'hi' → 'ho'" in told["error"]["message"]
        near = told["cachewrap"]["nearest"]
        assert near["request"]["body"]["messages"] == [{"role": "user", "content": "hi"}]
        assert told["cachewrap"]["differences"] == ["messages[0].content: 'hi' → 'ho'"]
        assert len(counting.asked) == 1

    def test_a_miss_in_anthropics_shape(self, serve: Serve, counting: Upstream) -> None:
        proxy = serve("memory:?mode=replay", upstreams={"anthropic": counting.url})
        told = json.loads(proxy.ask(request(MESSAGES, chat())).body)
        assert (told["type"], told["error"]["type"]) == ("error", "not_found_error")
        assert told["cachewrap"]["nearest"] is None

    def test_callers_that_are_kept_apart_see_nothing_of_each_other(
        self, serve: Serve, counting: Upstream
    ) -> None:
        """What the nearest request is, is told to the caller who asked it, and to no other."""
        place = "memory:?keyed=authorization"
        proxy = serve(place, upstreams={"openai": counting.url})

        def ask(who: str, text: str, *more: str) -> bytes:
            asked = request(TARGET, chat(text), f"Authorization: Bearer {who}", *more)
            return proxy.ask(asked).body

        ask("anna", "a plan of Anna's")
        for text in ("a plan", "a plan of Anna's"):
            told = json.loads(ask("bert", text, "x-cachewrap-mode: replay"))
            assert "of Anna's" not in json.dumps(told).replace(text, "")
            assert told["cachewrap"]["nearest"] is None
            assert told["cachewrap"]["differences"] == []
            assert "(key" in told["error"]["message"]
            assert "nothing comparable of this caller is stored" in told["error"]["message"]
        ask("bert", "tea")
        told = json.loads(ask("bert", "a plan", "x-cachewrap-mode: replay"))
        [line] = told["cachewrap"]["differences"]
        assert line.endswith("'tea' → 'a plan'")
        assert line in told["error"]["message"]

    @pytest.mark.parametrize(
        ("method", "path", "reached"),
        [
            pytest.param("GET", "/openai/v1/models", True, id="a-list"),
            pytest.param("POST", "/openai/v1/files", True, id="an-upload"),
            pytest.param("DELETE", "/openai/v1/files/f1", True, id="a-removal"),
            pytest.param("POST", "/openai/v1/batches", False, id="a-batch"),
            pytest.param("POST", "/openai/v1/something/new", False, id="unknown"),
            pytest.param("POST", "/openai/v1/audio/transcriptions", False, id="no-form"),
        ],
    )
    def test_what_is_not_cached(
        self, serve: Serve, counting: Upstream, method: str, path: str, reached: bool
    ) -> None:
        proxy = serve("memory:?mode=replay", upstreams={"openai": counting.url})
        found = proxy.ask(request(path, b"{}", method=method))
        assert (found.status, len(counting.asked)) == ((200, 1) if reached else (404, 0))
        assert found.mark == ("bypass" if reached else "miss")

    def test_a_websocket(self, serve: Serve, counting: Upstream) -> None:
        proxy = serve("memory:?mode=replay", upstreams={"openai": counting.url})
        found = proxy.ask(
            request(
                "/openai/v1/realtime?model=m",
                None,
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                method="GET",
            )
        )
        assert (found.status, counting.asked) == (404, [])


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_who_joins_gets_what_he_can_read(proxy: Within, upstream: Upstream, coding: str) -> None:
    """The first has asked for a compressed stream, the second for a plain one."""
    pieces = events("a", "b", "c")
    go = threading.Event()

    def gate(number: int) -> object:
        return number < 1 or go.wait(10)

    sent = packed(coding, pieces)
    upstream.usual = slowly(*sent, gate=gate, headers=(f"Content-Encoding: {coding}",))
    with proxy.client() as first, proxy.client() as second, proxy.client() as third:
        first.send(request(TARGET, chat(stream=True), f"Accept-Encoding: {coding}"))
        leading = first.answer(read=False)
        second.send(request(TARGET, chat(stream=True)))
        third.send(request(TARGET, chat(stream=True), f"Accept-Encoding: identity, {coding};q=1"))
        plain, coded = second.answer(read=False), third.answer(read=False)
        go.set()
        assert b"".join(first.reading(leading)) == b"".join(sent)
        assert (plain.mark, plain.get("content-encoding")) == ("joined", None)
        assert b"".join(second.reading(plain)) == b"".join(pieces)
        assert (coded.mark, coded.get("content-encoding")) == ("joined", coding)
        assert b"".join(third.reading(coded)) == b"".join(sent)
    assert len(upstream.asked) == 1


def test_sound_is_heard_while_it_comes(proxy: Within, upstream: Upstream) -> None:
    pieces = [b"RIFF", b"some", b"sound"]
    gates = [threading.Semaphore(0) for _ in pieces]

    def each(wire: Wire, asked: Message) -> None:
        wire.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for gate, piece in zip(gates, pieces, strict=True):
            gate.acquire(timeout=10)
            wire.send(chunk(piece))
        wire.send(b"0\r\n\r\n")

    upstream.usual = each
    asked = request("/openai/v1/audio/speech", b'{"model": "m", "input": "a", "voice": "b"}')
    with proxy.client() as client:
        client.send(asked)
        reading = client.reading(client.answer(read=False))
        for gate, piece in zip(gates, pieces, strict=True):
            gate.release()
            assert next(reading) == piece
        assert list(reading) == []
    again = proxy.ask(asked)
    assert (again.mark, again.pieces, again.get("content-type")) == ("hit", pieces, "audio/wav")
