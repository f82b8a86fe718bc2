"""The binary event stream in which Amazon Bedrock answers, read as far as the cache needs it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any, Final

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
