"""Requests on the wire: where a head and a body end, read strictly, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable

import h11

from cachewrap.proxy.messages import BadBody, Pairs
from cachewrap.proxy.settings import Limits

_HTTPS = "This is no HTTPS: the base URL begins with http://."
_TARGET_BYTES = 16 * 1024
_CHUNK_LINE_BYTES = 4 * 1024
_TRAILER_BYTES = 16 * 1024
_BARE_LF = re.compile(rb"(?<!\r)\n")
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]*")
_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"(?:[^\x00\s]+(?:[ \t]+[^\x00\s]+)*)?")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
# Of the connection, or of the head: they say nothing behind a body, and may deceive there.
_NO_TRAILERS = frozenset(
    b"connection content-length host keep-alive te trailer transfer-encoding upgrade".split()
)


class Refused(Exception):
    """A request that goes no further.

    Args:
        status: that tells the client so.
        message: the same in words, with nothing of the request in it.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def sendable(headers: Iterable[tuple[bytes, bytes]]) -> Pairs:
    """Those of the headers that HTTP allows."""
    stripped = ((name, value.strip(b" \t")) for name, value in headers)
    return [pair for pair in stripped if _valid(*pair)]


def sendable_trailers(trailers: Iterable[tuple[bytes, bytes]]) -> Pairs:
    """Those of the headers that HTTP allows behind a body."""
    return [pair for pair in sendable(trailers) if pair[0].lower() not in _NO_TRAILERS]


def _valid(name: bytes, value: bytes) -> bool:
    return bool(_NAME.fullmatch(name) and _VALUE.fullmatch(value))


def find_head(waiting: bytearray, seen: int, limits: Limits) -> int:
    """Where the head ends with which the bytes begin: 0 while it has not all come.

    Args:
        waiting: the bytes, at least one.
        seen: how many of them were looked at before.
        limits: how long it may be.

    Raises `Refused`, as soon as it is clear that no head will come.
    """
    end = waiting.find(b"\r\n\r\n", max(0, seen - 3))
    size = end + 4 if end >= 0 else len(waiting)
    longest = min(_TARGET_BYTES, limits.header_bytes)
    if size > longest and waiting.find(b"\r\n", 0, longest) < 0:
        raise Refused(414, f"The first line of the request is longer than {longest} bytes.")
    if size > limits.header_bytes:
        raise Refused(431, f"The request's headers are longer than {limits.header_bytes} bytes.")
    if end >= 0:
        return size
    if (waiting[0] < 0x21 and waiting != b"\r") or _BARE_LF.search(waiting, seen):
        raise Refused(400, _HTTPS if is_https(waiting) else "The request is not valid HTTP.")
    return 0


def is_https(waiting: bytes | bytearray) -> bool:
    """Whether bytes begin as a client does who means to speak TLS."""
    return waiting.startswith(b"\x16\x03")


def parse_head(head: bytes, limits: Limits) -> tuple[h11.Connection, h11.Request, int | None]:
    """The request of a head, and its body's length: None where it comes in chunks.

    Args:
        head: all of it, with its empty line.
        limits: how much it may ask for.

    Raises `Refused`.
    """
    lines = head.count(b"\r\n")
    # The rest of what is not allowed is known to h11.
    if lines != head.count(b"\n") or b"\n " in head or b"\n\t" in head:
        raise Refused(400, "The request is not valid HTTP.")
    if lines - 2 > limits.headers:
        raise Refused(431, f"The request has more than {limits.headers} headers.")
    state = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
    state.receive_data(head)
    try:
        request = state.next_event()
    except h11.RemoteProtocolError:
        raise Refused(400, "The request is not valid HTTP.") from None
    if not isinstance(request, h11.Request):
        raise Refused(400, "The request is not valid HTTP.")
    if request.http_version not in (b"1.1", b"1.0"):
        raise Refused(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    _check_target(request)
    return state, request, _length(request, limits)


def _check_target(request: h11.Request) -> None:
    target = request.target
    if not target.startswith(b"/") and not (target == b"*" and request.method == b"OPTIONS"):
        raise Refused(400, "This is no forward proxy: ask for a path, as /openai/v1/models.")
    if b"#" in target:
        raise Refused(400, "The path of a request has no part behind #.")


def _length(request: h11.Request, limits: Limits) -> int | None:
    length = 0
    chunked = measured = False
    for name, value in request.headers:
        if name == b"content-length":
            measured = True
            length = int(value)
        elif name == b"transfer-encoding":
            chunked = True
        elif name == b"host" and not _HOST.fullmatch(value):
            raise Refused(400, "The Host header of the request is not valid.")
    if chunked:
        if measured or request.http_version == b"1.0":
            raise Refused(400, "The length of the request's body is not clear.")
        return None
    if length > limits.body_bytes:
        raise Refused(413, f"The request's body is longer than {limits.body_bytes} bytes.")
    return length


class Chunked:
    """A body in chunks as it comes.

    Attributes:
        ended: whether all of it came.
        trailers: the headers behind it.
        rest: what came after it.
    """

    __slots__ = ("_held", "_left", "_limits", "_part", "ended", "rest", "trailers")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = b""
        self._left = 0
        self._part = "line"
        self.ended = False
        self.trailers: Pairs = []
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take what came: the part of the body that is in it. Raises `BadBody`."""
        if self._held:
            data = self._held + data
            self._held = b""
        pieces: list[bytes] = []
        at = 0
        while not self.ended:
            if self._part == "data":
                piece = data[at : at + self._left]
                if not piece:
                    break
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._part = "end"
                continue
            step = self._step(data, at)
            if not step:
                self._held = data[at:]
                break
            at += step
        if self.ended:
            self.rest = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _step(self, data: bytes, at: int) -> int:
        """How many bytes the next element between the chunks takes; 0 while it is not whole."""
        if self._part == "end":
            found = data[at : at + 2]
            if found == b"\r\n":
                self._part = "line"
                return 2
            if found not in (b"", b"\r"):
                raise _bad_chunks()
            return 0
        if self._part == "line":
            end = data.find(b"\r\n", at, at + _CHUNK_LINE_BYTES)
            if end < 0:
                if len(data) - at >= _CHUNK_LINE_BYTES or _BARE_LF.search(data, at):
                    raise _bad_chunks()
                return 0
            match = _CHUNK_LINE.fullmatch(data, at, end)
            if not match:
                raise _bad_chunks()
            self._left = int(match[1], 16)
            self._part = "data" if self._left else "trailers"
            return end + 2 - at
        if data.startswith(b"\r\n", at):
            self.ended = True
            return 2
        end = data.find(b"\r\n\r\n", at, at + _TRAILER_BYTES)
        if end < 0:
            if len(data) - at >= _TRAILER_BYTES:
                raise BadBody(431, f"The trailers are longer than {_TRAILER_BYTES} bytes.")
            if _BARE_LF.search(data, at):
                raise _bad_chunks()
            return 0
        self.trailers = self._read_trailers(data[at:end])
        self.ended = True
        return end + 4 - at

    def _read_trailers(self, block: bytes) -> Pairs:
        lines = block.split(b"\r\n")
        if len(lines) > self._limits.headers:
            raise BadBody(431, f"The request has more than {self._limits.headers} trailers.")
        pairs: Pairs = []
        for line in lines:
            name, colon, value = line.partition(b":")
            value = value.strip(b" \t")
            if not colon or not _valid(name, value):
                raise _bad_chunks()
            if name.lower() not in _NO_TRAILERS:
                pairs.append((name, value))
        return pairs


def _bad_chunks() -> BadBody:
    return BadBody(400, "The chunks of the request's body are not valid HTTP.")
