"""Bedrock's binary event streams: what is in them, and when one is whole."""

from __future__ import annotations

import pytest
from standin.manner import Manner, frames
from standin.text import messages
from standin.wire import Draw

from cachewrap.entry import HttpAnswer
from cachewrap.http.answer import read_answer
from cachewrap.http.events import CONTENT_TYPE, read_frames, shows_error
from cachewrap.http.exchange import Endpoint
from cachewrap.telemetry.usage import Usage

REPLY = messages({"model": "m", "messages": [{"role": "user", "content": "hi"}]}, Draw(1), True)
WHOLE = b"".join(frames(REPLY, Manner()))
BROKEN = b"".join(frames(REPLY, Manner(error_after=3)))
SPOILED = WHOLE[:20] + b"\x00" + WHOLE[21:]


def told(body: bytes) -> Usage | None:
    answer = HttpAnswer(200, [("content-type", CONTENT_TYPE)], [body], [0.0], streamed=True)
    endpoint = Endpoint("v1/messages")
    return read_answer(endpoint, answer, stream=True, ended=True, framed=True)


def test_every_event_is_read_in_order() -> None:
    kinds = [event and event["type"] for event in read_frames(WHOLE)]
    assert kinds == [name for name, _ in REPLY.events]


def test_a_whole_stream_tells_its_usage() -> None:
    usage = told(WHOLE)
    assert usage is not None
    assert (usage.model, usage.tokens_in) == ("m", 1)
    assert usage.tokens_out > 1


@pytest.mark.parametrize(
    "body",
    [b"", WHOLE[:-1], WHOLE[: len(WHOLE) // 2], BROKEN, SPOILED, b"\x00\x00\x00\x05abc", b"junk"],
    ids=["empty", "a byte short", "half", "an error", "spoiled", "too short a frame", "no frame"],
)
def test_what_is_not_whole_is_not_stored(body: bytes) -> None:
    assert told(body) is None


def test_an_error_shows_before_the_stream_is_whole() -> None:
    assert shows_error(BROKEN, frames=True)
    assert not shows_error(WHOLE[:-5], frames=True)
