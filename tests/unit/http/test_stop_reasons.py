"""When a stream has told why it stopped: whoever leaves it then has all that it says."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

import pytest
from standin.manner import Manner, frames
from standin.wire import Answer

from cachewrap.http.body import stopped

EVENTS = "text/event-stream; charset=utf-8"
LINES = "application/x-ndjson"
FRAMES = "application/vnd.amazon.eventstream"


def events(*told: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in told)


def named(*told: tuple[str, Any]) -> bytes:
    return b"".join(
        f"event: {name}\ndata: {json.dumps(event)}\n\n".encode() for name, event in told
    )


def lines(*told: Any) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in told)


def framed(*told: Any) -> bytes:
    reply = Answer(FRAMES, events=tuple(("", json.dumps(event)) for event in told))
    return b"".join(frames(reply, Manner()))


def choice(reason: str | None, index: int = 0) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": "a"}, "finish_reason": reason}]}


def candidate(reason: str | None) -> dict[str, Any]:
    return {"candidates": [{"content": {}, **({"finishReason": reason} if reason else {})}]}


BEGUN = {"type": "message_start", "message": {"stop_reason": None}}
STOPPED = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}}

COME = {
    "chat": (events(choice(None), choice("stop")), EVENTS),
    "usage behind it": (events(choice("stop"), {"choices": [], "usage": {"a": 1}}), EVENTS),
    "mark behind it": (events(choice("stop")) + b"data: [DONE]\n\n", EVENTS),
    "line ends of CRLF": (events(choice("stop")).replace(b"\n", b"\r\n"), EVENTS),
    "half of the next event": (events(choice("length")) + b'data: {"cho', EVENTS),
    "message": (named(("message_start", BEGUN), ("message_delta", STOPPED)), EVENTS),
    "message in frames": (framed(BEGUN, STOPPED), FRAMES),
    "half of the next frame": (framed(BEGUN, STOPPED) + framed(BEGUN)[:20], FRAMES),
    "responses": (events({"type": "response.completed", "response": {}}), EVENTS),
    "gemini": (events(candidate(None), candidate("MAX_TOKENS")), EVENTS),
    "cohere 2": (events({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}), EVENTS),
    "cohere 1": (lines({"event_type": "stream-end", "finish_reason": "COMPLETE"}), LINES),
    "ollama": (lines({"done": False}, {"done": True, "done_reason": "stop"}), LINES),
    "half of the next line": (lines({"done": True}) + b'{"do', LINES),
    "llama.cpp": (events({"content": "a", "stop": False}, {"content": "", "stop": True}), EVENTS),
}


@pytest.mark.parametrize(("body", "kind"), COME.values(), ids=COME)
def test_it_has_come(body: bytes, kind: str) -> None:
    assert stopped(body, kind)


NOT_COME = {
    "nothing": (b"", EVENTS),
    "no reason": (events(choice(None)), EVENTS),
    "its own event is cut": (events(choice("stop"))[:-1], EVENTS),
    "its own line is cut": (lines({"done": True})[:-1], LINES),
    "one of two choices": (events(choice("stop"), choice(None, 1)), EVENTS),
    "message": (named(("message_start", BEGUN)), EVENTS),
    "message in frames": (framed(BEGUN), FRAMES),
    "a broken frame": (framed(STOPPED)[:-1] + b"x" + framed(STOPPED), FRAMES),
    "responses": (events({"type": "response.output_text.done"}), EVENTS),
    "gemini": (events(candidate(None)), EVENTS),
    "ollama": (lines({"done": False}), LINES),
    "an error": (events(choice("stop"), {"error": {"message": "It broke."}}), EVENTS),
    "a named error": (events(choice("stop")) + named(("error", {"a": 1})), EVENTS),
    "no JSON": (b"data: stop\n\n" + events(choice("stop")), EVENTS),
    "no object": (events(["stop"], "stop", None), EVENTS),
    "choices of another form": (events({"choices": ["stop"]}), EVENTS),
    "sound": (base64.b64decode("//uQxAAA"), "audio/mpeg"),
}


@pytest.mark.parametrize(("body", "kind"), NOT_COME.values(), ids=NOT_COME)
def test_it_has_not_come(body: bytes, kind: str) -> None:
    assert not stopped(body, kind)


@pytest.mark.parametrize(
    ("told", "come"), [([0], False), ([0, 0], False), ([0, 1], True)], ids=["one", "twice", "two"]
)
def test_of_several_results_each_must_have_stopped(told: Iterable[int], come: bool) -> None:
    body = events(*(choice("stop", index) for index in told))
    assert stopped(body, EVENTS, 2) is come
