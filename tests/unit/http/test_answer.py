"""Which answers are stored, and what the others lack."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cachewrap.entry import HttpAnswer
from cachewrap.http.exchange import Endpoint, read_answer
from cachewrap.telemetry.usage import Usage

CHAT = Endpoint("chat/completions")
RESPONSES = Endpoint("responses")
SPEECH = Endpoint("audio/speech", media=True)
WIRE = Endpoint("v1/chat/completions", wire=True)
UNKNOWN = Endpoint("ask", wire=True)
PARTS = Endpoint("v1beta/models/gemini-pro:streamGenerateContent", wire=True)
EVENTS = "text/event-stream"
SAID = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "hi"}}]}
DONE = b'data: {"choices": [{"finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


def read(
    endpoint: Endpoint, body: Any, kind: str = "application/json", status: int = 200, **how: bool
) -> Usage | str:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = HttpAnswer(status, [("Content-Type", kind)] if kind else [], [raw], [])
    return read_answer(endpoint, answer, **{"stream": False, "ended": True, "framed": True, **how})


def part(finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"candidates": [{"content": {}, "finishReason": finish, "index": index}]}


def events(*told: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in told)


STORED: list[tuple[Endpoint, Any, str, dict[str, bool]]] = [
    (CHAT, SAID, "application/json", {}),
    (CHAT, SAID, "application/json; charset=utf-8", {}),
    (CHAT, SAID, "application/vnd.api+json", {}),
    (CHAT, {**SAID, "error": None}, "application/json", {}),
    (CHAT, SAID, "application/json", {"framed": False}),
    (RESPONSES, {"status": "completed", "output": []}, "application/json", {}),
    (RESPONSES, {"status": "incomplete", "output": [], "error": None}, "application/json", {}),
    (SPEECH, b"\x00\x01", "audio/mpeg", {}),
    (SPEECH, b"words", "text/plain; charset=utf-8", {}),
    (SPEECH, b'"words"', "application/json", {}),
    (CHAT, DONE, "text/event-stream", {"stream": True}),
    (CHAT, DONE, "text/event-stream", {"stream": True, "ended": False}),
    (WIRE, DONE, "text/event-stream", {"stream": True}),
    (UNKNOWN, b"text", "text/plain", {}),
    (UNKNOWN, [1], "application/json", {}),
    (UNKNOWN, b'{"distance": NaN}', "application/json", {}),
    (UNKNOWN, 0, "application/json", {}),
    (UNKNOWN, b"{it is no JSON}", "text/plain", {}),
    (SPEECH, b'{"text": "hi"}', "text/plain", {}),
    (WIRE, SAID, "text/plain", {}),
    (WIRE, SAID, "", {}),
    (WIRE, DONE, "text/plain", {}),
    (WIRE, b": wait\n\n" + DONE, "application/octet-stream", {}),
    (PARTS, [part(), part("STOP")], "application/json", {}),
    (PARTS, [part(), part("STOP"), {"usageMetadata": {}}], "application/json", {}),
    (PARTS, [{"promptFeedback": {"blockReason": "SAFETY"}}], "application/json", {}),
    (PARTS, events(part(), part("STOP")), EVENTS, {}),
    (PARTS, events({"promptFeedback": {"blockReason": "SAFETY"}}), EVENTS, {}),
]
NOT_STORED: list[tuple[Endpoint, Any, str, dict[str, bool], str]] = [
    (CHAT, {"error": {"message": "no"}}, "application/json", {}, "error"),
    (CHAT, {"choices": [{"error": {"code": 502}}]}, "application/json", {}, "error"),
    (CHAT, b"{cut", "application/json", {}, "no JSON"),
    (CHAT, b"", "application/json", {}, "empty answer"),
    (CHAT, [1], "application/json", {}, "unknown form"),
    (CHAT, SAID, "application/json", {"ended": False}, "cut off"),
    (CHAT, SAID, "application/json", {"stream": True}, "no stream"),
    (CHAT, b"<html>login</html>", "text/html", {}, "no JSON"),
    (CHAT, b"text", "text/plain", {}, "no JSON"),
    (CHAT, b"text", "", {}, "no JSON"),
    (CHAT, DONE, "text/event-stream", {}, "a stream"),
    (RESPONSES, {"status": "failed", "output": []}, "application/json", {}, "error"),
    (RESPONSES, {"status": "queued", "output": []}, "application/json", {}, "not completed"),
    (RESPONSES, {"output": []}, "application/json", {}, "not completed"),
    (RESPONSES, {"status": "completed"}, "application/json", {}, "no output"),
    (SPEECH, b"\x00", "audio/mpeg", {"ended": False}, "cut off"),
    (SPEECH, b"\x00", "audio/mpeg", {"framed": False}, "no length"),
    (SPEECH, b"", "audio/mpeg", {}, "empty answer"),
    (SPEECH, b"<html>login</html>", "text/html", {}, "no JSON"),
    (SPEECH, {"message": "later"}, "application/json", {}, "no audio"),
    (UNKNOWN, b"", "application/json", {}, "empty answer"),
    (UNKNOWN, b"{}", "application/json", {"framed": False}, "no length"),
    (UNKNOWN, [{"error": "busy"}], "application/json", {}, "error"),
    (UNKNOWN, [], "application/json", {}, "empty answer"),
    (UNKNOWN, None, "application/json", {}, "empty answer"),
    (UNKNOWN, "", "application/json", {}, "empty answer"),
    (UNKNOWN, {"error": "busy"}, "text/plain", {}, "error"),
    (SPEECH, {"detail": "Not Found"}, "text/plain", {}, "error"),
    (SPEECH, {"code": 500, "msg": "busy"}, "audio/mpeg", {}, "error"),
    (WIRE, [1], "application/json", {}, "unknown form"),
    (WIRE, "busy", "application/json", {}, "unknown form"),
    (WIRE, [], "application/json", {}, "empty answer"),
    (WIRE, b"busy", "text/plain", {}, "no JSON"),
    (WIRE, {"error": "busy"}, "application/octet-stream", {}, "error"),
    (WIRE, events({"error": "busy"}), "text/plain", {}, "error"),
    (PARTS, [part()], "application/json", {}, "no finish reason"),
    (PARTS, [part("STOP"), part(index=1)], "application/json", {}, "no finish reason"),
    (PARTS, [part("STOP"), {"error": {"code": 503}}], "application/json", {}, "error"),
    (PARTS, [{"usageMetadata": {}}], "application/json", {}, "no candidates"),
    (PARTS, {"usageMetadata": {}}, "application/json", {}, "no candidates"),
    (PARTS, events({"usageMetadata": {}}), EVENTS, {}, "no candidates"),
    (PARTS, events(part()), EVENTS, {}, "no finish reason"),
    (WIRE, b"data: [DONE]\n\n", "text/event-stream", {"stream": True}, "no choices"),
    (WIRE, b'data: {"choices":[]}\n\n', "text/event-stream", {"stream": True}, "cut off"),
]


@pytest.mark.parametrize(("endpoint", "body", "kind", "how"), STORED)
def test_stored(endpoint: Endpoint, body: Any, kind: str, how: dict[str, bool]) -> None:
    assert isinstance(read(endpoint, body, kind, **how), Usage)


@pytest.mark.parametrize(("endpoint", "body", "kind", "how", "reason"), NOT_STORED)
def test_not_stored(
    endpoint: Endpoint, body: Any, kind: str, how: dict[str, bool], reason: str
) -> None:
    assert read(endpoint, body, kind, **how) == reason


@pytest.mark.parametrize("status", [201, 202, 204, 206, 302, 400, 429, 500])
def test_only_200_is_stored(status: int) -> None:
    assert read(CHAT, SAID, status=status) == f"status {status}"


def test_what_an_answer_reports() -> None:
    body = {**SAID, "model": "m", "usage": {"prompt_tokens": 2, "completion_tokens": 3}}
    assert read(CHAT, body) == Usage("m", 2, 3)


# -- what an answer of each endpoint has ----------------------------------------------------------


def chat(finish: Any = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "hi"}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish, **more}]}


def text(finish: Any = "stop") -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": "", "finish_reason": finish}]}


def gemini(finish: Any = "STOP") -> dict[str, Any]:
    return {"candidates": [{"content": {}, "finishReason": finish}]}


def claude(stop: Any = "end_turn", **more: Any) -> dict[str, Any]:
    return {"type": "message", "content": [], "stop_reason": stop, **more}


VECTOR = {"embedding": [0.1], "index": 0}
CALLS = {"message": {"content": None, "tool_calls": [{"id": "call_1"}]}}
GEMINI = "v1beta/models/gemini-pro:"
MODEL = "v1/projects/p/locations/l/publishers/"
WHOLE: list[tuple[str, dict[str, Any]]] = [
    *(("chat/completions", chat(finish)) for finish in ("stop", "length", "content_filter", "eos")),
    ("chat/completions", chat("tool_calls", **CALLS)),
    ("openai/deployments/d/chat/completions", chat()),
    ("api/v1/chat/completions", chat()),
    ("v1/fim/completions", chat()),
    ("completions", text()),
    ("completions", text("length")),
    ("completions", {"content": "of llama.cpp", "stop": True}),
    ("completion", {"content": "of llama.cpp", "stop": True}),
    ("infill", {"content": "of llama.cpp", "stop": True}),
    ("classify", {"object": "list", "data": [{"label": "sad", "probs": [0.9, 0.1]}]}),
    ("classify", {"classifications": [{"prediction": "sad"}]}),
    ("v1/score", {"object": "list", "data": [{"index": 0, "score": 0.5}]}),
    ("foundationModels/v1/completion", {"result": {"alternatives": [{}]}}),
    ("chat/completions", chat("length", message={"role": "assistant"})),
    ("responses", {"object": "response", "status": "completed", "output": [{"type": "message"}]}),
    ("openai/v1/responses", {"status": "incomplete", "output": []}),
    ("responses/input_tokens", {"object": "response.input_tokens", "input_tokens": 0}),
    ("embeddings", {"data": [VECTOR, VECTOR]}),
    ("embeddings", {"data": [{"embedding": "AACAPw=="}]}),
    ("moderations", {"results": [{"flagged": False}]}),
    ("images/generations", {"data": [{"b64_json": "AA=="}]}),
    ("images/edits", {"data": [{"url": "https://example.org/1"}]}),
    ("audio/transcriptions", {"text": ""}),
    ("audio/translations", {"text": "hi", "segments": []}),
    ("v1/messages", claude()),
    ("v1/messages", claude("refusal")),
    ("messages", {"content": [{"type": "text"}], "stop_reason": "max_tokens"}),
    ("v1/messages/count_tokens", {"input_tokens": 0}),
    ("v1/complete", {"completion": " hi", "stop_reason": "stop_sequence"}),
    ("v1/threads/thread_1/messages", {"id": "msg_1", "object": "thread.message"}),
    (GEMINI + "generateContent", gemini()),
    (GEMINI + "generateContent", gemini("SAFETY")),
    (GEMINI + "generateContent", {"promptFeedback": {"blockReason": "SAFETY"}}),
    (GEMINI + "countTokens", {"totalTokens": 3}),
    (GEMINI + "embedContent", {"embedding": {"values": [1.0]}}),
    (GEMINI + "batchEmbedContents", {"embeddings": [{"values": [1.0]}]}),
    (MODEL + "google/models/m:predict", {"predictions": [{}]}),
    (MODEL + "anthropic/models/m:rawPredict", claude()),
    (MODEL + "mistralai/models/m:rawPredict", chat()),
    ("api/chat", {"message": {"content": "hi"}, "done": True}),
    ("api/generate", {"response": "", "done": True}),
    ("api/chat", {"reply": "of an API that is not Ollama's"}),
    ("v1/models/m:predict", {"outputs": [[1]]}),
    ("ask", {"choices": 3}),
    ("ask", {"choices": ["a", "b"]}),
    ("api/embed", {"embeddings": [[0.1]]}),
    ("api/embeddings", {"embedding": [0.1]}),
    ("v2/chat", {"message": {"content": []}, "finish_reason": "COMPLETE"}),
    ("v1/chat", {"text": "hi"}),
    ("v2/embed", {"embeddings": {"float": [[0.1]]}}),
    ("v2/rerank", {"results": [{"index": 0}]}),
    ("rerank", {"data": [{"index": 0}]}),
    ("v1/ocr", {"pages": [{}]}),
    ("ask", {"message": "hi"}),
    ("ask", {"code": 200, "message": "ok", "data": {"text": "hi"}}),
    ("ask", {"code": 500, "text": "the answer"}),
    ("ask", {"code": 0, "message": "the answer"}),
    ("ask", {"code": 10, "msg": "the answer"}),
    ("ask", {"code": "OK", "message": "the answer"}),
    ("ask", {"id": "1", "status": "completed", "message": "the answer"}),
    ("ask", {"status": 200, "message": "the answer"}),
    ("ask", {"status": "ok", "error": None, "errors": []}),
    ("ask", {"detail": "much", "answer": "hi"}),
]


@pytest.mark.parametrize(("path", "value"), WHOLE)
@pytest.mark.parametrize("wire", [False, True], ids=["an SDK", "plain HTTP"])
def test_an_answer_with_all_that_its_endpoint_has_is_stored(
    path: str, value: dict[str, Any], wire: bool
) -> None:
    assert isinstance(read(Endpoint(path, wire=wire), value), Usage)


LACKING: list[tuple[str, Any, str]] = [
    *(
        (path, value, "error")
        for path in ("chat/completions", "v1/messages", "responses", "embeddings", "ask")
        for value in (
            {"object": "error", "message": "overloaded"},
            {"object": "error"},
            {"code": 500, "msg": "busy"},
            {"code": "500", "message": "busy", "request_id": "r", "data": None},
            {"code": "InvalidParameter", "message": "no such model"},
            {"code": -1, "msg": "busy"},
            {"status": 503, "message": "busy"},
            {"statusCode": 503, "message": "busy"},
            {"error_code": 18, "error_msg": "limit reached"},
            {"detail": "Not Found"},
            {"detail": [{"loc": ["body"], "msg": "field required"}]},
            {"title": "Bad Gateway", "status": 502, "detail": "no upstream"},
            {"error": "busy"},
            {"errors": [{"message": "busy"}]},
            {"type": "error", "request_id": "r"},
            {"success": False, "result": None},
            {"status": "error", "hint": "later"},
            {"status": "failed"},
        )
    ),
    ("chat/completions", {}, "no choices"),
    ("chat/completions", {"choices": None}, "no choices"),
    ("chat/completions", {"choices": []}, "no choices"),
    ("chat/completions", {"choices": {}}, "no choices"),
    ("chat/completions", {"choices": [None]}, "no choices"),
    ("chat/completions", {"choices": ["hi"]}, "no choices"),
    ("chat/completions", chat(None), "no finish reason"),
    ("chat/completions", chat(""), "no finish reason"),
    ("chat/completions", {"choices": [{"message": {"content": "hi"}}]}, "no finish reason"),
    (
        "chat/completions",
        {"choices": [*chat()["choices"], *chat(None)["choices"]]},
        "no finish reason",
    ),
    ("chat/completions", chat("error"), "error"),
    ("chat/completions", chat("abort"), "error"),
    ("chat/completions", chat("insufficient_system_resource"), "error"),
    ("chat/completions", chat(error={"code": 502}), "error"),
    ("chat/completions", chat(message=None), "no message"),
    ("chat/completions", chat(message={}), "no message"),
    ("chat/completions", chat(message="hi"), "no message"),
    ("chat/completions", {**chat(), "error": {"message": "broke off"}}, "error"),
    ("fim/completions", {"choices": []}, "no choices"),
    ("completions", {}, "no choices"),
    ("completions", text(None), "no finish reason"),
    ("completions", {"content": "hi", "stop": False}, "no finish reason"),
    ("responses", {}, "not completed"),
    ("responses", {"status": "in_progress", "output": []}, "not completed"),
    ("responses", {"status": "completed", "output": None}, "no output"),
    ("responses/input_tokens", {}, "no input_tokens"),
    ("embeddings", {}, "no embeddings"),
    ("embeddings", {"data": []}, "no embeddings"),
    ("embeddings", {"data": None}, "no embeddings"),
    ("embeddings", {"data": [VECTOR, {"index": 1}]}, "no embeddings"),
    ("embeddings", {"data": [{"embedding": []}]}, "no embeddings"),
    ("embeddings", {"data": [None]}, "unknown form"),
    ("moderations", {"results": []}, "no results"),
    ("images/generations", {"data": []}, "no data"),
    ("images/edits", {"created": 1}, "no data"),
    ("images/edits", {"data": [{}]}, "no data"),
    ("images/generations", {"data": [{"b64_json": None, "url": None}]}, "no data"),
    ("images/generations", {"data": [{"url": "", "revised_prompt": "a cat"}]}, "no data"),
    ("completion", {"content": "h", "stop": False}, "no finish reason"),
    ("audio/transcriptions", {}, "no text"),
    ("v1/messages", {}, "no content"),
    ("v1/messages", claude(None), "no finish reason"),
    ("v1/messages", claude(content=None), "no content"),
    ("v1/messages", claude(type="completion"), "no content"),
    ("v1/messages/count_tokens", {}, "no input_tokens"),
    (GEMINI + "generateContent", {}, "no candidates"),
    (GEMINI + "generateContent", {"candidates": []}, "no candidates"),
    (GEMINI + "generateContent", gemini(None), "no finish reason"),
    (GEMINI + "embedContent", {}, "no embedding"),
    (MODEL + "google/models/m:predict", {"predictions": []}, "no predictions"),
    (MODEL + "anthropic/models/m:rawPredict", claude(None), "no finish reason"),
    (MODEL + "mistralai/models/m:rawPredict", chat(None), "no finish reason"),
    ("api/chat", {"message": {"content": "h"}, "done": False}, "no finish reason"),
    ("api/chat", {}, "empty answer"),
    ("ask", {"choices": [{"error": {"code": 502}}]}, "error"),
    ("api/chat", {"done": True}, "no message"),
    ("v2/chat", {"message": {"content": []}}, "no finish reason"),
    ("v2/chat", {"message": {"content": []}, "finish_reason": "ERROR"}, "error"),
    ("rerank", {"results": []}, "no results"),
    ("ask", {}, "empty answer"),
]


@pytest.mark.parametrize(("path", "value", "reason"), LACKING)
@pytest.mark.parametrize("wire", [False, True], ids=["an SDK", "plain HTTP"])
def test_an_answer_that_lacks_something_is_not_stored(
    path: str, value: Any, reason: str, wire: bool
) -> None:
    assert read(Endpoint(path, wire=wire), value) == reason
