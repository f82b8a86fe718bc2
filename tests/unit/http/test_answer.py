"""Which answers are stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cachewrap.entry import HttpAnswer
from cachewrap.http.exchange import Endpoint, read_answer
from cachewrap.telemetry.usage import Usage

CHAT = Endpoint("chat/completions")
RESPONSES = Endpoint("responses", status=frozenset({"completed", "incomplete"}))
SPEECH = Endpoint("audio/speech", media=True)
DONE = b'data: {"choices": [{"finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


def read(
    endpoint: Endpoint, body: Any, kind: str = "application/json", status: int = 200, **how: bool
) -> Usage | None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = HttpAnswer(status, [("Content-Type", kind)] if kind else [], [raw], [])
    return read_answer(endpoint, answer, **{"stream": False, "ended": True, "framed": True, **how})


STORED: list[tuple[Endpoint, Any, str, dict[str, bool]]] = [
    (CHAT, {"choices": []}, "application/json", {}),
    (CHAT, {"choices": []}, "application/json; charset=utf-8", {}),
    (CHAT, {"choices": []}, "application/vnd.api+json", {}),
    (CHAT, {"error": None}, "application/json", {}),
    (CHAT, {}, "application/json", {"framed": False}),
    (RESPONSES, {"status": "completed"}, "application/json", {}),
    (RESPONSES, {"status": "incomplete", "error": None}, "application/json", {}),
    (SPEECH, b"\x00\x01", "audio/mpeg", {}),
    (SPEECH, b"words", "text/plain; charset=utf-8", {}),
    (SPEECH, b'"words"', "application/json", {}),
    (CHAT, DONE, "text/event-stream", {"stream": True}),
    (CHAT, DONE, "text/event-stream", {"stream": True, "ended": False}),
]
NOT_STORED: list[tuple[Endpoint, Any, str, dict[str, bool]]] = [
    (CHAT, {"error": {"message": "no"}}, "application/json", {}),
    (CHAT, {"choices": [{"error": {"code": 502}}]}, "application/json", {}),
    (CHAT, b"{cut", "application/json", {}),
    (CHAT, b"", "application/json", {}),
    (CHAT, [1], "application/json", {}),
    (CHAT, {}, "application/json", {"ended": False}),
    (CHAT, {}, "application/json", {"stream": True}),
    (CHAT, b"<html>login</html>", "text/html", {}),
    (CHAT, b"text", "text/plain", {}),
    (CHAT, b"text", "", {}),
    (CHAT, DONE, "text/event-stream", {}),
    (RESPONSES, {"status": "failed"}, "application/json", {}),
    (RESPONSES, {"status": "queued"}, "application/json", {}),
    (RESPONSES, {}, "application/json", {}),
    (SPEECH, b"\x00", "audio/mpeg", {"ended": False}),
    (SPEECH, b"\x00", "audio/mpeg", {"framed": False}),
    (SPEECH, b"", "audio/mpeg", {}),
    (SPEECH, b"<html>login</html>", "text/html", {}),
]


@pytest.mark.parametrize(("endpoint", "body", "kind", "how"), STORED)
def test_stored(endpoint: Endpoint, body: Any, kind: str, how: dict[str, bool]) -> None:
    assert read(endpoint, body, kind, **how) is not None


@pytest.mark.parametrize(("endpoint", "body", "kind", "how"), NOT_STORED)
def test_not_stored(endpoint: Endpoint, body: Any, kind: str, how: dict[str, bool]) -> None:
    assert read(endpoint, body, kind, **how) is None


@pytest.mark.parametrize("status", [201, 202, 204, 206, 302, 400, 429, 500])
def test_only_200_is_stored(status: int) -> None:
    assert read(CHAT, {}, status=status) is None


def test_what_an_answer_reports() -> None:
    body = {"model": "m", "usage": {"prompt_tokens": 2, "completion_tokens": 3}}
    assert read(CHAT, body) == Usage("m", 2, 3)
