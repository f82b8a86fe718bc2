"""Answers that may be stored, and what they report of themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from cachewrap.entry import HttpAnswer
from cachewrap.http.events import (
    CONTENT_TYPE as FRAMES,
    read_any_stream,
    read_binary_stream,
    read_lines,
    read_stream,
)
from cachewrap.http.exchange import Endpoint
from cachewrap.http.response import value_of
from cachewrap.telemetry.usage import Usage, usage_of

_EVENTS: Final = "text/event-stream"
_LINES: Final = frozenset({"application/x-ndjson", "application/stream+json", "application/jsonl"})
_PAGE: Final = frozenset({"text/html", "application/xhtml+xml"})


def read_answer(
    endpoint: Endpoint, answer: HttpAnswer, *, stream: bool, ended: bool, framed: bool
) -> Usage | None:
    """What an answer that may be stored reports, None for one that may not.

    Args:
        endpoint: what was called.
        answer: what upstream answered, decoded.
        stream: whether a stream was asked for.
        ended: whether the body came to its own end, rather than being closed by its reader.
        framed: whether the transport would have noticed a body that was cut off.
    """
    try:
        if endpoint.wire:
            return _read_wire(endpoint, answer, ended, framed)
        return _read(endpoint, answer, stream, ended, framed)
    except (AttributeError, TypeError, ValueError):
        # The SDK made something of it, but it is not of a shape that any API documents.
        return None


def _read(
    endpoint: Endpoint, answer: HttpAnswer, stream: bool, ended: bool, framed: bool
) -> Usage | None:
    if answer.status != 200:
        return None
    body = b"".join(answer.chunks)
    kind = _content_type(answer)
    if kind == _EVENTS:
        return read_stream(body, ended=ended) if stream else None
    if kind == FRAMES:
        return read_binary_stream(body) if stream else None
    if not ended:
        return None
    if kind.endswith("json"):
        # A stream that was answered with plain JSON is read as an empty stream by the SDK.
        return None if stream else _read_json(endpoint, body)
    if endpoint.media and framed and body and kind not in _PAGE:
        return Usage()
    return None


def _read_wire(endpoint: Endpoint, answer: HttpAnswer, ended: bool, framed: bool) -> Usage | None:
    """The same for an API of which only the wire is known: what came to its end is whole."""
    body = b"".join(answer.chunks)
    if answer.status != 200 or not body:
        return None
    kind = _content_type(answer)
    if kind == _EVENTS:
        return read_any_stream(body, ended=ended and framed)
    if not (ended and framed):
        return None
    if kind in _LINES:
        return read_lines(body)
    if kind.endswith("json"):
        value = json.loads(body)
        parts = value if isinstance(value, list) else [value]
        if any(isinstance(part, Mapping) and part.get("error") for part in parts):
            return None
        return usage_of(value)
    return None if kind in _PAGE else Usage()


def _read_json(endpoint: Endpoint, body: bytes) -> Usage | None:
    try:
        value = json.loads(body)
    except ValueError:
        return None
    if not isinstance(value, Mapping):
        # A transcription asked for as text is a JSON string for some servers.
        return Usage() if endpoint.media else None
    if value.get("error") or (endpoint.status and value.get("status") not in endpoint.status):
        return None
    choices = value.get("choices")
    if isinstance(choices, list) and any(
        isinstance(choice, Mapping) and choice.get("error") for choice in choices
    ):
        return None
    return usage_of(value)


def _content_type(answer: HttpAnswer) -> str:
    kind = value_of(answer.headers, "content-type") or ""
    return kind.partition(";")[0].strip().lower()
