"""How the stand-in upstream behaves: what it can be told, and what that does to its streams."""

from __future__ import annotations

import base64
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from standin.wire import Answer, dump

SECRET_HEADERS = (
    ("set-cookie", "session=upstream-secret; Path=/; HttpOnly"),
    ("set-cookie", "__cf_bm=upstream-secret"),
    ("authorization", "Bearer upstream-secret"),
    ("x-api-key", "upstream-secret"),
    ("openai-organization", "org-upstream-secret"),
)
"""Headers that no store may keep; every value contains ``upstream-secret``."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a request is answered. The defaults are a well-behaved upstream.

    Args:
        delay: seconds between the request and its answer.
        gate: nothing is answered until this event is set.
        status: anything but 200 is answered with an error body of the API's form.
        retry_after: seconds that an error asks the client to wait; the SDK takes values above 0.
        body: sent as it is, in place of the answer.
        content_type: of that body.
        drop: close the connection without a word.
        stream: False answers ``stream=True`` with plain JSON.
        gap: seconds between the pieces of a stream.
        pause: a stream stops until this event is set ...
        pause_after: ... when this many of its pieces are sent.
        cut_after: close the socket when this many pieces of a stream are sent.
        error_after: a stream of events goes on with an error event after this many, and ends.
        done: False leaves out the ``[DONE]`` of streams that have one.
        finish: False leaves out the finish reason, or the terminal event.
        awkward: lines end in CRLF, and pieces break inside events, characters and line ends.
        gzip: compress bodies, if the client accepts that.
        headers: more headers of the answer.
        response_status: the status of Responses: completed, incomplete, failed, queued, ...
        says: what is said to the last message; where it gives None, a sentence unlike every other.
        steady: whether vectors and moderations follow from what is asked for alone, as those of a
            model do, and not from the draw.
        shuffled: whether the vectors of an answer come in another order than that of the list.
    """

    delay: float = 0.0
    gate: threading.Event | None = None
    status: int = 200
    retry_after: float | None = None
    body: bytes | None = None
    content_type: str = "application/json"
    drop: bool = False
    stream: bool = True
    gap: float = 0.0
    pause: threading.Event | None = None
    pause_after: int = 1
    cut_after: int | None = None
    error_after: int | None = None
    done: bool = True
    finish: bool = True
    awkward: bool = False
    gzip: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    response_status: str = "completed"
    says: Callable[[str], str | None] | None = None
    steady: bool = False
    shuffled: bool = False


def sse(reply: Answer, manner: Manner) -> list[bytes]:
    """Server-sent events as the pieces in which they are written to the socket."""
    end = "\r\n" if manner.awkward else "\n"
    events = reply.events
    if manner.error_after is not None:
        error = {"message": "It broke.", "type": "server_error", "param": None, "code": None}
        events = (*events[: manner.error_after], ("error", dump({"error": error})))
    texts = [
        (f"event: {name}{end}" if name else "") + f"data: {data}{end}{end}" for name, data in events
    ]
    if reply.done and manner.done and manner.error_after is None:
        texts.append(f"data: [DONE]{end}{end}")
    pieces = [text.encode() for text in texts]
    return _break_up(b"".join(pieces)) if manner.awkward else pieces


def frames(reply: Answer, manner: Manner) -> list[bytes]:
    """The events of an answer in the binary frames of Amazon Bedrock, one piece each."""
    events = reply.events
    if manner.error_after is not None:
        events = events[: manner.error_after]
    chunk = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    pieces = []
    for _, data in events:
        payload = dump({"bytes": base64.b64encode(data.encode()).decode()})
        pieces.append(_frame(chunk, payload.encode()))
    if manner.error_after is not None:
        kind = {":exception-type": "internalServerException", ":content-type": "application/json"}
        told = dump({"message": "It broke."}).encode()
        pieces.append(_frame({**kind, ":message-type": "exception"}, told))
    return _break_up(b"".join(pieces)) if manner.awkward else pieces


def _frame(headers: dict[str, str], payload: bytes) -> bytes:
    packed = b""
    for name, value in headers.items():
        packed += bytes([len(name)]) + name.encode() + b"\x07"  # 7: the value is text
        packed += len(value).to_bytes(2) + value.encode()
    prelude = (len(packed) + len(payload) + 16).to_bytes(4) + len(packed).to_bytes(4)
    message = prelude + zlib.crc32(prelude).to_bytes(4) + packed + payload
    return message + zlib.crc32(message).to_bytes(4)


def _break_up(data: bytes, size: int = 50) -> list[bytes]:
    """The data in pieces that end inside every CRLF, inside every character beyond ASCII, and else
    after ``size`` bytes wherever that falls."""
    pieces, start = [], 0
    for index, byte in enumerate(data, 1):
        if byte == 0x0D or byte >= 0xC0 or index - start == size or index == len(data):
            pieces.append(data[start:index])
            start = index
    return pieces


def zipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces compressed one by one, so that each can be read when it arrives."""
    packer = zlib.compressobj(wbits=31)
    held: bytes | None = None
    for piece in pieces:
        if held is not None:
            yield held
        held = packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)
    yield (held or b"") + packer.flush()
