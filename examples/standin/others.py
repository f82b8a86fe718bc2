"""How the stand-in upstream answers in the ways of Google, Ollama and Cohere."""

from __future__ import annotations

from typing import Any

from standin.wire import Answer, Draw, Request, dump, fault, morsels, plain

Body = dict[str, Any]


def google(request: Request, body: Body, draw: Draw) -> Answer:
    """``POST v1beta/models/{model}:generateContent`` and its like."""
    model, _, method = request.path.rpartition("/")[2].partition(":")
    if method == "countTokens":
        return plain({"totalTokens": draw.number})
    if method in ("embedContent", "batchEmbedContents"):
        one = {"values": [draw.number / 1000, 0.5]}
        many = [one for _ in body.get("requests") or ()]
        return plain({"embedding": one} if method == "embedContent" else {"embeddings": many})
    head = {"modelVersion": model, "responseId": draw.token}

    def part(text: str, reason: str | None) -> Body:
        candidate: Body = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
        return {**head, "candidates": [candidate | ({"finishReason": reason} if reason else {})]}

    reason = "STOP" if draw.finish else None
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 9, "totalTokenCount": 12}
    if method == "generateContent":
        return plain(part(draw.text(), reason) | {"usageMetadata": usage})
    if method != "streamGenerateContent":
        return fault(404, f"Unknown request URL: POST {request.path}")
    steps = [part(piece, None) for piece in morsels(draw.text())] + [part("", reason)]
    return Answer("text/event-stream", events=tuple(("", dump(step)) for step in steps))


def ollama(endpoint: str, body: Body, draw: Draw) -> Answer:
    """``POST api/chat``, ``api/generate`` and ``api/embed``: streams are lines of JSON."""
    head = {
        "model": body.get("model", "stand-in"),
        "created_at": f"2025-01-01T00:00:{draw.number % 60:02}Z",
    }
    if endpoint == "embed":
        return plain({**head, "embeddings": [[draw.number / 1000, 0.5]], "prompt_eval_count": 3})

    def line(text: str, done: bool) -> Body:
        said: Body = {"message": {"role": "assistant", "content": text}}
        if endpoint == "generate":
            said = {"response": text}
        ending = {"done_reason": "stop", "prompt_eval_count": 3, "eval_count": 9} if done else {}
        return {**head, **said, "done": done, **ending}

    if not body.get("stream", True):
        return plain(line(draw.text(), True))
    lines = [line(piece, False) for piece in morsels(draw.text())]
    lines += [line("", True)] if draw.finish else []
    return Answer("application/x-ndjson", pieces=tuple(f"{dump(one)}\n".encode() for one in lines))


def cohere(body: Body, draw: Draw) -> Answer:
    """``POST v2/chat``."""
    usage = {"tokens": {"input_tokens": 3, "output_tokens": 9}}
    if not body.get("stream"):
        message = {"role": "assistant", "content": [{"type": "text", "text": draw.text()}]}
        reply = {"id": draw.token, "finish_reason": "COMPLETE", "message": message, "usage": usage}
        return plain(reply)
    opening = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": []}
    empty = {"message": {"content": {"type": "text", "text": ""}}}
    steps: list[Body] = [
        {"type": "message-start", "id": draw.token, "delta": {"message": opening}},
        {"type": "content-start", "index": 0, "delta": empty},
    ]
    for piece in morsels(draw.text()):
        delta = {"message": {"content": {"text": piece}}}
        steps.append({"type": "content-delta", "index": 0, "delta": delta})
    steps.append({"type": "content-end", "index": 0})
    ending = {"finish_reason": "COMPLETE", "usage": usage}
    steps.append({"type": "message-end", "delta": ending})
    return Answer("text/event-stream", events=tuple((step["type"], dump(step)) for step in steps))
