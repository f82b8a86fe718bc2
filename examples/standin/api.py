"""Which request gets which answer from the stand-in upstream."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from standin import media, others, text
from standin.wire import Answer, Draw, Request, fault, plain


def answer(request: Request, draw: Draw, *, may_stream: bool = True) -> Answer:
    """The answer to one request, as OpenAI, Azure or Anthropic would give it.

    Args:
        request: the request.
        draw: what makes the answer unique.
        may_stream: False to give a plain answer even where a stream was asked for.
    """
    endpoint = request.endpoint
    first = endpoint.split("/")[0]
    if first == "files":
        return media.files(request, draw)
    if first == "models" and request.method == "GET":
        return media.models(request, draw)
    if request.method != "POST":
        if first == "responses" and request.method == "GET":
            return text.responses({"input": endpoint}, draw, streamed=False)
        return fault(404, f"Unknown request URL: {request.method} {request.path}")
    try:
        fields = request.fields()
    except ValueError as error:
        return fault(400, f"We could not parse the body of your request: {error}")
    if first == "models" or request.path.startswith("/v1beta/models/"):
        return others.google(request, fields, draw)
    streamed = may_stream and str(fields.get("stream", False)).lower() == "true"
    match endpoint:
        case "chat/completions":
            return text.chat(fields, draw, streamed)
        case "completions":
            return text.completions(fields, draw, streamed)
        case "responses":
            return text.responses(fields, draw, streamed)
        case "messages":
            if request.path.startswith("/model/"):
                return _bedrock(request, fields, draw)
            return text.messages(fields, draw, streamed)
        case "api/chat" | "api/generate" | "api/embed":
            return others.ollama(endpoint.removeprefix("api/"), fields, draw)
        case "v2/chat":
            return others.cohere(fields, draw)
        case "v2/rerank":
            return media.rerank(fields, draw)
        case "messages/count_tokens" | "responses/input_tokens":
            return text.count_tokens(fields, draw)
        case "embeddings":
            return media.embeddings(fields, draw)
        case "rerank":
            return media.rerank(fields, draw)
        case "moderations":
            return media.moderations(fields, draw)
        case "images/generations" | "images/edits" | "images/variations":
            return media.images(fields, draw, endpoint.endswith("edits"), streamed)
        case "audio/speech":
            return media.speech(draw)
        case "audio/transcriptions" | "audio/translations":
            return media.transcript(request, draw, streamed)
        case "conversations":
            return plain({"id": f"conv_{draw.token}", "object": "conversation", "metadata": {}})
        case _:
            return fault(404, f"Unknown request URL: POST {request.path}")


def _bedrock(request: Request, fields: dict[str, Any], draw: Draw) -> Answer:
    """Messages as Bedrock has them: model and manner in the path, streams in binary frames."""
    _, model, manner = request.path.strip("/").split("/")
    reply = text.messages({**fields, "model": unquote(model)}, draw, manner != "invoke")
    if not reply.events:
        return reply
    return replace(reply, content_type="application/vnd.amazon.eventstream", binary=True)
