"""When a recorded stream of events is whole, and what it reports: text, and Bedrock's frames."""

from __future__ import annotations

import json
from typing import Any

import pytest
from standin.manner import Manner, frames
from standin.text import messages
from standin.wire import Draw

from cachewrap.entry import HttpAnswer
from cachewrap.http.encodings import FRAMES, read_frames
from cachewrap.http.events import read_stream, shows_error, why_unreadable
from cachewrap.http.exchange import Endpoint, read_answer
from cachewrap.telemetry.usage import Usage


def sse(*events: Any) -> bytes:
    """Events on the wire; a pair is a name and its data."""
    out = []
    for event in events:
        name, data = event if isinstance(event, tuple) else ("", event)
        text = data if isinstance(data, str) else json.dumps(data)
        out.append((f"event: {name}\n" if name else "") + f"data: {text}\n\n")
    return "".join(out).encode()


def choice(index: int = 0, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {}, "finish_reason": finish}]}


ERROR = {"error": {"message": "overloaded"}}
WHOLE_AT_ONCE = [
    sse(choice(), choice(finish="stop"), "[DONE]"),
    sse(("response.created", {"type": "response.created"}), {"type": "response.completed"}),
    sse({"type": "response.incomplete"}),
    sse({"type": "message_stop"}),
    sse({"type": "transcript.text.done"}),
    sse({"type": "speech.audio.done"}),
    sse(("message_stop", {})),
    sse(
        {"type": "message_start"},
        {"type": "message_delta", "delta": {"stop_reason": "refusal"}},
        {"type": "message_stop"},
    ),
    sse(choice(finish="stop"), "[DONE]").replace(b"\n", b"\r\n"),
    sse(choice(finish="stop"), "[DONE]").replace(b"\n", b"\r"),
    sse(choice(finish="stop"), "[DONE]").removesuffix(b"\n\n"),
    sse({"type": "image_generation.completed"}, "[DONE]"),
]
WHOLE_AT_ITS_END = [
    sse(choice(), choice(finish="stop")),
    sse({"content": "of", "stop": False}, {"content": " llama.cpp", "stop": True}),
    sse(choice(0), choice(1), choice(1, "stop"), choice(0, "length")),
    sse(choice(finish="stop"), {"choices": [], "usage": {"prompt_tokens": 1}}),
    sse({"type": "image_generation.completed"}, {"type": "image_generation.completed"}),
    sse({"type": "image_edit.completed"}),
]
NEVER_WHOLE: list[tuple[bytes, str]] = [
    (sse("[DONE]"), "no choices"),
    (sse({"choices": []}, "[DONE]"), "no choices"),
    (sse({"choices": [], "usage": {"prompt_tokens": 1}}), "cut off"),
    (sse(choice(), "[DONE]"), "no finish reason"),
    (sse(choice(0, "stop"), choice(1), "[DONE]"), "no finish reason"),
    (sse(choice(finish=""), "[DONE]"), "no finish reason"),
    (b"", "cut off"),
    (b": only a comment\n\n", "cut off"),
    (sse(choice()), "no finish reason"),
    (sse({"content": "of", "stop": False}), "cut off"),
    (sse(choice(0, "stop"), choice(1)), "no finish reason"),
    (sse(choice(), ERROR, "[DONE]"), "error"),
    (sse(choice(), {"object": "error", "message": "x"}, "[DONE]"), "error"),
    (sse({"code": 500, "msg": "busy"}, "[DONE]"), "error"),
    (sse({"detail": "Not Found"}), "error"),
    (sse(choice(finish="stop"), ("error", {"message": "x"}), "[DONE]"), "error"),
    (
        sse({"choices": [{"index": 0, "error": {"code": 502}, "finish_reason": "x"}]}, "[DONE]"),
        "error",
    ),
    (sse(choice(finish="error"), "[DONE]"), "error"),
    (sse({"type": "response.failed"}, "[DONE]"), "error"),
    (sse({"type": "error"}), "error"),
    (sse({"type": "message_start"}, {"type": "error", "error": {"type": "overloaded"}}), "error"),
    (sse({"type": "message_start"}, {"type": "message_stop"}), "no finish reason"),
    (
        sse(
            {"type": "message_start", "message": {"stop_reason": None}},
            {"type": "message_delta", "delta": {"stop_reason": None}},
            {"type": "message_stop"},
        ),
        "no finish reason",
    ),
    (sse({"type": "response.created"}), "cut off"),
    (sse("{not json", "[DONE]"), "no JSON"),
    (sse(choice(finish="stop"))[:-20], "no JSON"),
]


@pytest.mark.parametrize("body", WHOLE_AT_ONCE)
@pytest.mark.parametrize("ended", [True, False])
def test_a_stream_with_its_last_event_is_whole(body: bytes, ended: bool) -> None:
    assert isinstance(read_stream(body, ended=ended), Usage)


@pytest.mark.parametrize("body", WHOLE_AT_ITS_END)
def test_a_stream_without_one_is_whole_where_it_ended_by_itself(body: bytes) -> None:
    assert isinstance(read_stream(body, ended=True), Usage)
    assert read_stream(body, ended=False) == "cut off"


@pytest.mark.parametrize(("body", "reason"), NEVER_WHOLE)
def test_a_stream_that_failed_or_was_cut_is_not_whole(body: bytes, reason: str) -> None:
    assert read_stream(body, ended=True) == reason


UNREADABLE: list[tuple[bytes, str]] = [
    (sse(choice(), "[DONE]"), ""),
    (sse("[DONE]"), ""),
    (b": a comment\n\n" + sse(choice()), ""),
    (sse(choice(), ERROR), ""),
    (sse({"text": "x" * 20_000}), ""),
    (sse("{not json", {"text": "x" * 20_000}), "no JSON"),
    (sse(choice(), "{not json"), ""),
    (b": " + b"x" * 20_000 + b"\n\n", ""),
    (b"", "no events"),
    (b"\x00\x01 spoiled", "no events"),
    (sse("{not json", choice()), "no JSON"),
    (sse(ERROR, "[DONE]"), "error"),
    (sse(("error", {"message": "x"})), "error"),
]


@pytest.mark.parametrize(("body", "reason"), UNREADABLE, ids=range(len(UNREADABLE)))
def test_the_first_event_of_what_is_stored_shows_whether_it_can_be_read(
    body: bytes, reason: str
) -> None:
    assert why_unreadable(body) == reason


def test_null_errors_are_no_errors() -> None:
    body = sse({**choice(finish="stop"), "error": None})
    assert isinstance(read_stream(body, ended=True), Usage)


USAGE = [
    (
        sse(
            {**choice(finish="stop"), "model": "m-1", "usage": None},
            {"choices": [], "model": "m-1", "usage": {"prompt_tokens": 5, "completion_tokens": 7}},
            "[DONE]",
        ),
        Usage("m-1", 5, 7),
    ),
    (
        sse(
            {
                "type": "response.completed",
                "response": {"model": "m-2", "usage": {"input_tokens": 3, "output_tokens": 4}},
            }
        ),
        Usage("m-2", 3, 4),
    ),
    (
        sse(
            {
                "type": "message_start",
                "message": {"model": "m-3", "usage": {"input_tokens": 9, "output_tokens": 1}},
            },
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn"},
                "usage": {"output_tokens": 12},
            },
            {"type": "message_stop"},
        ),
        Usage("m-3", 9, 12),
    ),
    (sse(choice(finish="stop"), "[DONE]"), Usage()),
]


@pytest.mark.parametrize(("body", "usage"), USAGE)
def test_the_usage_that_a_stream_reports(body: bytes, usage: Usage) -> None:
    assert read_stream(body, ended=True) == usage


# -- frames ----------------------------------------------------------------------------------------

REPLY = messages({"model": "m", "messages": [{"role": "user", "content": "hi"}]}, Draw(1), True)
WHOLE = b"".join(frames(REPLY, Manner()))
BROKEN = b"".join(frames(REPLY, Manner(error_after=3)))
SPOILED = WHOLE[:20] + b"\x00" + WHOLE[21:]


def told(body: bytes) -> Usage | str:
    answer = HttpAnswer(200, [("content-type", FRAMES)], [body], [0.0], streamed=True)
    endpoint = Endpoint("v1/messages")
    return read_answer(endpoint, answer, stream=True, ended=True, framed=True)


def test_every_event_is_read_in_order() -> None:
    kinds = [event and event["type"] for event in read_frames(WHOLE)]
    assert kinds == [name for name, _ in REPLY.events]


def test_a_whole_stream_tells_its_usage() -> None:
    usage = told(WHOLE)
    assert isinstance(usage, Usage)
    assert (usage.model, usage.tokens_in) == ("m", 1)
    assert usage.tokens_out > 1


@pytest.mark.parametrize(
    "body",
    [b"", WHOLE[:-1], WHOLE[: len(WHOLE) // 2], BROKEN, SPOILED, b"\x00\x00\x00\x05abc", b"junk"],
    ids=["empty", "a byte short", "half", "an error", "spoiled", "too short a frame", "no frame"],
)
def test_what_is_not_whole_is_not_stored(body: bytes) -> None:
    assert isinstance(told(body), str)


def test_an_error_shows_before_the_stream_is_whole() -> None:
    assert shows_error(BROKEN, frames=True)
    assert not shows_error(WHOLE[:-5], frames=True)
