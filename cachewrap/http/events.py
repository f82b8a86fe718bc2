"""Recorded event streams: whether they are whole, their model and their usage."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from cachewrap.telemetry.usage import Usage, usage_of

# After these nothing follows that a caller would see.
_CLOSING: Final = frozenset(
    {
        "message_stop",
        "response.completed",
        "response.incomplete",
        "speech.audio.done",
        "transcript.text.done",
    }
)
# One comes for each of several results: the stream is whole when it also ends properly.
_COMPLETE: Final = frozenset({"image_generation.completed", "image_edit.completed"})
_FAILED: Final = frozenset({"error", "response.failed", "response.error", "response.cancelled"})


def read_stream(body: bytes, *, ended: bool) -> Usage | None:
    """The usage that a recorded event stream reports, or None if it is not whole.

    Args:
        body: the decoded bytes that were recorded.
        ended: whether the stream came to its own end, rather than being closed by its reader.

    A stream is whole when its closing event was seen. One of an API that has none is whole when
    every choice has a finish reason (pictures are complete), and it then ended by itself or with
    ``[DONE]``. One with an error in it is never whole.
    """
    usage = Usage()
    closed = finished = False
    unfinished: dict[Any, bool] = {}
    for name, data in _events(body):
        if data.startswith("[DONE]"):
            ended = True
            break
        try:
            event = json.loads(data)
        except ValueError:
            return None
        if not isinstance(event, Mapping):
            continue
        kind = event.get("type") or name
        if _is_error(name, event):
            return None
        closed = closed or kind in _CLOSING
        finished = finished or kind in _COMPLETE
        usage = _updated(usage, event)
        for choice in event.get("choices") or ():
            if choice.get("error"):
                return None
            index = choice.get("index", 0)
            unfinished[index] = unfinished.get(index, True) and not choice.get("finish_reason")
    if unfinished:
        finished = not any(unfinished.values())
    return usage if closed or (finished and ended) else None


def read_events(body: bytes) -> list[Any]:
    """The data of every event of a stream that has JSON in it, in order."""
    found = []
    for _, data in _events(body):
        try:
            found.append(json.loads(data))
        except ValueError:
            continue
    return found


def read_binary_stream(body: bytes) -> Usage | None:
    """The usage that a recorded stream of binary frames reports, or None if it is not whole.

    It is whole when its closing event was seen and no error.
    """
    usage, closed = Usage(), False
    for event in read_frames(body):
        if event is None or _is_error("", event):
            return None
        closed = closed or event.get("type") in _CLOSING
        usage = _updated(usage, event)
    return usage if closed else None


def read_any_stream(body: bytes, *, ended: bool) -> Usage | None:
    """The usage that an event stream of an unknown API reports, or None if it is not whole.

    It is whole when it has come to its end, or to a closing event, without an error. Where it tells
    of choices or candidates, each of them must have told why it finished.
    """
    usage = Usage()
    finished: dict[Any, bool] = {}
    events = 0
    for name, data in _events(body):
        if data.startswith("[DONE]"):
            ended = True
            break
        event = json.loads(data)
        if not isinstance(event, Mapping):
            continue
        if _is_error(name, event):
            return None
        events += 1
        ended = ended or (event.get("type") or name) in _CLOSING
        usage = _updated(usage, event)
        for kind, reason in (("choices", "finish_reason"), ("candidates", "finishReason")):
            for part in event.get(kind) or ():
                place = kind, part.get("index", 0)
                finished[place] = finished.get(place, False) or bool(part.get(reason))
    return usage if events and ended and all(finished.values()) else None


def read_lines(body: bytes) -> Usage | None:
    """The usage that a stream of JSON lines reports, or None if an error or the end shows it bad.

    Raises `ValueError` for a line that is not JSON.
    """
    usage, done = Usage(), True
    for line in body.splitlines():
        if not line.strip():
            continue
        event = json.loads(line)
        if not isinstance(event, Mapping):
            continue
        if _is_error("", event):
            return None
        usage = _updated(usage, event)
        done = event.get("done", True) is not False
    return usage if done else None


def shows_error(body: bytes, *, frames: bool = False) -> bool:
    """Whether an event stream, which may not be whole yet, has an event that tells of an error.

    Args:
        body: the decoded bytes that have come.
        frames: whether it is a stream of binary frames.
    """
    if frames:
        return any(event is None or _is_error("", event) for event in read_frames(body))
    for name, data in _events(body):
        try:
            event = json.loads(data)
        except ValueError:
            continue
        if isinstance(event, Mapping) and _is_error(name, event):
            return True
    return False


def _is_error(name: str, event: Mapping[str, Any]) -> bool:
    kind = event.get("type") or name
    return kind in _FAILED or name == "error" or bool(event.get("error"))


def _updated(usage: Usage, event: Mapping[str, Any]) -> Usage:
    # Some events wrap what they tell of: ``response.completed``, ``message_start``.
    for part in (event, event.get("response"), event.get("message")):
        told = usage_of(part)
        usage = Usage(
            model=told.model or usage.model,
            tokens_in=told.tokens_in or usage.tokens_in,
            tokens_out=told.tokens_out or usage.tokens_out,
        )
    return usage


def _events(body: bytes) -> Iterator[tuple[str, str]]:
    """The name and data of each event, https://html.spec.whatwg.org/multipage/server-sent-events.html."""
    name = ""
    data: list[str] = []
    text = body.decode("utf-8", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    for line in text.split("\n"):
        if not line:
            if data:
                yield name, "\n".join(data)
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
    if data:
        yield name, "\n".join(data)


CONTENT_TYPE: Final = "application/vnd.amazon.eventstream"

_PRELUDE: Final = 12  # length of the message, length of its headers, and their checksum
_CHECKSUM: Final = 4


def read_frames(body: bytes) -> Iterator[dict[str, Any] | None]:
    """The JSON event in each whole frame of the stream, None for a frame without a sound one.

    Each frame carries its lengths and checksums, big-endian; the payload is JSON with an event of
    the model's own API in its ``bytes``. An error comes as a frame without them.
    """
    start = 0
    while start < len(body):
        size = int.from_bytes(body[start : start + 4])
        frame = body[start : start + size]
        if len(frame) < size or size < _PRELUDE + _CHECKSUM:
            return
        start += size
        yield _event(frame)


def _event(frame: bytes) -> dict[str, Any] | None:
    if binascii.crc32(frame[:-_CHECKSUM]) != int.from_bytes(frame[-_CHECKSUM:]):
        return None
    headers = int.from_bytes(frame[4:8])
    try:
        payload = json.loads(frame[_PRELUDE + headers : -_CHECKSUM])
        event = json.loads(base64.b64decode(payload["bytes"], validate=True))
    except (ValueError, LookupError, TypeError):
        return None
    return event if isinstance(event, dict) else None
