"""How the stand-in upstream answers everything but text: vectors, images, audio, files, lists."""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import replace
from typing import Any

from standin.wire import Answer, Draw, Request, dump, fault, morsels, plain

Body = dict[str, Any]

CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)


def _numbers(draw: Draw, index: int, count: int) -> list[float]:
    """Numbers between 0 and 1 that 32 bits hold exactly, unlike those of any other draw."""
    seed = hashlib.shake_128(f"{draw.token}/{index}".encode()).digest(2 * count)
    return [number / 65536 for number in struct.unpack(f"<{count}H", seed)]


def elements_of(request: Request) -> list[Any]:
    """What a request asks vectors or moderations for; nothing for other requests."""
    if request.endpoint.rpartition("/")[2] not in ("embeddings", "moderations"):
        return []
    return _elements(request.fields().get("input"))


def _elements(asked: Any) -> list[Any]:
    """The elements of an input: a list of tokens, or of parts of several kinds, is one of them."""
    single = not isinstance(asked, list) or all(isinstance(item, (int, dict)) for item in asked)
    return [asked] if single else list(asked)


def _own(draw: Draw, body: Body, element: Any, index: int, count: int) -> list[float]:
    """The numbers of one element: those of the draw, or those that this element always has."""
    if not draw.steady:
        return _numbers(draw, index, count)
    told = {name: value for name, value in body.items() if name not in ("input", "encoding_format")}
    return _numbers(replace(draw, token=dump([element, sorted(told.items())])), 0, count)


def embeddings(body: Body, draw: Draw) -> Answer:
    """``POST embeddings``, as floats or as base64 of little-endian 32-bit floats."""
    data: list[Body] = []
    elements = _elements(body.get("input"))
    for index, element in enumerate(elements):
        vector: Any = _own(draw, body, element, index, int(body.get("dimensions") or 8))
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    used = sum(len(dump(element)) for element in elements) if draw.steady else draw.number
    usage = {"prompt_tokens": used, "total_tokens": used}
    model = body.get("model", "stand-in")
    head = {"id": f"embd-{draw.token}", "object": "list"}
    if draw.shuffled:
        data = data[1:] + data[:1]
    return plain({**head, "data": data, "model": model, "usage": usage})


def moderations(body: Body, draw: Draw) -> Answer:
    """``POST moderations``."""
    results = [
        {
            "flagged": False,
            "categories": dict.fromkeys(CATEGORIES, False),
            "category_scores": dict(
                zip(CATEGORIES, _own(draw, body, element, index, len(CATEGORIES)), strict=True)
            ),
            "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
        }
        for index, element in enumerate(_elements(body.get("input")))
    ]
    model = body.get("model", "omni-moderation-latest")
    return plain({"id": f"modr-{draw.token}", "model": model, "results": results})


def _picture(draw: Draw, index: int) -> bytes:
    """Bytes with the signature of a PNG, unlike those of any other draw."""
    return b"\x89PNG\r\n\x1a\n" + f"{draw.token}/{index}".encode()


def images(fields: Body, draw: Draw, edit: bool, streamed: bool) -> Answer:
    """``POST images/generations`` and ``POST images/edits``."""
    pictures = [_picture(draw, index) for index in range(int(fields.get("n") or 1))]
    if streamed:
        name = "image_edit" if edit else "image_generation"
        picture = {"b64_json": base64.b64encode(pictures[0]).decode(), "created_at": draw.created}
        partial = {"type": f"{name}.partial_image", "partial_image_index": 0, **picture}
        steps = [partial, {"type": f"{name}.completed", **picture}]
        events = tuple((str(step["type"]), dump(step)) for step in steps)
        return Answer("text/event-stream", events=events)
    data = [
        {"url": f"http://stand-in.invalid/{draw.token}/{index}.png"}
        if fields.get("response_format") == "url"
        else {"b64_json": base64.b64encode(picture).decode()}
        for index, picture in enumerate(pictures)
    ]
    return plain({"created": draw.created, "data": data})


def speech(draw: Draw) -> Answer:
    """``POST audio/speech``: bytes, sent in four pieces."""
    sound = b"ID3\x04" + hashlib.shake_128(draw.token.encode()).digest(4092)
    pieces = tuple(sound[start : start + 1024] for start in range(0, len(sound), 1024))
    return Answer("audio/mpeg", pieces=pieces)


def transcript(request: Request, draw: Draw, streamed: bool) -> Answer:
    """``POST audio/transcriptions`` and ``POST audio/translations``."""
    files = [part for part in request.parts() if part.filename] if request.multipart else []
    if not files:
        return fault(400, "Missing required parameter: 'file'.", "missing_required_parameter")
    text = draw.text(files[0].filename or "")
    if streamed:
        name = "transcript.text"
        steps: list[Body] = [{"type": f"{name}.delta", "delta": piece} for piece in morsels(text)]
        steps.append({"type": f"{name}.done", "text": text})
        events = tuple((step["type"], dump(step)) for step in steps)
        return Answer("text/event-stream", events=events, done=True)
    form = request.fields().get("response_format", "json")
    if form in ("text", "srt", "vtt"):
        stamp = "" if form == "text" else "1\n00:00:00,000 --> 00:00:02,000\n"
        return Answer("text/plain; charset=utf-8", pieces=(f"{stamp}{text}\n".encode(),))
    document: Body = {"text": text}
    if form == "verbose_json":
        document |= {"task": "transcribe", "language": "english", "duration": 2.0, "segments": []}
    return plain(document)


def files(request: Request, draw: Draw) -> Answer:
    """``files``: an upload, a list, one of them, or its removal. Nothing is kept."""
    name = request.endpoint.removeprefix("files").strip("/")
    document: Body = {
        "id": name or f"file-{draw.token}",
        "object": "file",
        "bytes": len(request.body),
        "created_at": draw.created,
        "filename": f"{draw.token}.jsonl",
        "purpose": "batch",
        "status": "processed",
    }
    if request.method == "DELETE":
        return plain({"id": name, "object": "file", "deleted": True})
    if request.method == "GET" and not name:
        return plain({"object": "list", "data": [document], "has_more": False})
    return plain(document)


def models(request: Request, draw: Draw) -> Answer:
    """``GET models``: a list of one, or the one asked for."""
    name = request.endpoint.removeprefix("models").strip("/")
    document = {"object": "model", "created": draw.created, "owned_by": draw.token}
    if name:
        return plain({"id": name, **document})
    return plain({"object": "list", "data": [{"id": "stand-in", **document}]})


def rerank(body: dict[str, Any], draw: Draw) -> Answer:
    """``POST rerank``, as Together and Cohere have it: the documents in the order given."""
    count = len(body.get("documents") or ())
    score = draw.number / 1000
    results = [{"index": index, "relevance_score": score / (index + 1)} for index in range(count)]
    head = {"id": f"rr-{draw.token}", "object": "rerank", "model": body.get("model", "stand-in")}
    return plain({**head, "results": results})
