"""HTTP/1.1 as it is on the wire: what a socket reads, byte for byte, and a client on it."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

PATIENCE = 15.0
"""Seconds that a test waits for bytes."""

BODILESS = (204, 304)


class Ended(ConnectionError):
    """The other side has closed the connection where more was to come."""


@dataclass(slots=True)
class Message:
    """A request or an answer, as it came.

    Args:
        start: its first line.
        headers: names and values as they were written.
        pieces: the body, in the chunks in which it was framed.
        extensions: what stands behind the sizes of the chunks.
        trailers: the headers behind the body.
        framing: ``length``, ``chunks``, ``close`` or ``none``.
        whole: whether its end has come.
        informs: the messages of status 1xx that came before.
        head: the bytes of all that comes before the body.
        times: when each piece came.
    """

    start: bytes
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    extensions: list[bytes] = field(default_factory=list)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    framing: str = "none"
    whole: bool = False
    informs: list[Message] = field(default_factory=list)
    head: bytes = b""
    times: list[float] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        """All of the body that has come."""
        return b"".join(self.pieces)

    @property
    def status(self) -> int:
        """The status of an answer."""
        return int(self.start.split()[1])

    @property
    def reason(self) -> bytes:
        """What an answer says about its status."""
        return b" ".join(self.start.split(b" ")[2:])

    @property
    def method(self) -> str:
        """The method of a request."""
        return self.start.split()[0].decode()

    @property
    def target(self) -> str:
        """The target of a request."""
        return self.start.split()[1].decode("latin-1")

    def get(self, name: str) -> str | None:
        """The values of a header with a comma between them, or None."""
        found = [value for key, value in self.headers if key.lower() == name.lower().encode()]
        return b", ".join(found).decode("latin-1") if found else None

    @property
    def mark(self) -> str | None:
        """What the proxy says of the answer."""
        return self.get("x-cachewrap")

    def without(self, *names: str) -> list[tuple[bytes, bytes]]:
        """The headers but these."""
        left_out = {name.lower().encode() for name in names}
        return [pair for pair in self.headers if pair[0].lower() not in left_out]


class Wire:
    """A connected socket, read message by message.

    Args:
        connection: the socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.held = b""

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)

    def more(self) -> bool:
        """Whether more has come; it is held then."""
        data = self.socket.recv(2**18)
        self.held += data
        return bool(data)

    def exactly(self, count: int) -> bytes:
        """So many bytes. Raises `Ended`."""
        while len(self.held) < count:
            if not self.more():
                raise Ended(f"{len(self.held)} of {count} bytes came")
        data, self.held = self.held[:count], self.held[count:]
        return data

    def until(self, end: bytes) -> bytes:
        """All up to there, and that. Raises `Ended`."""
        while (found := self.held.find(end)) < 0:
            if not self.more():
                raise Ended(f"no {end!r} after {self.held[-80:]!r}")
        return self.exactly(found + len(end))

    def line(self) -> bytes:
        """A line without its end."""
        return self.until(b"\r\n")[:-2]

    def pairs(self) -> list[tuple[bytes, bytes]]:
        """The headers up to an empty line."""
        found = []
        while line := self.line():
            name, _, value = line.partition(b":")
            found.append((name, value.strip(b" \t")))
        return found

    def request(self) -> Message:
        """The next request, with its body. Raises `Ended`."""
        message = self.request_head()
        self.body(message)
        return message

    def request_head(self) -> Message:
        """The next request, whose body is read by `body`."""
        message = self._head()
        if message.get("transfer-encoding"):
            message.framing = "chunks"
        elif message.get("content-length"):
            message.framing = "length"
        return message

    def answer(self, method: str = "GET", *, read: bool = True) -> Message:
        """The next answer, with its body; where the connection ends before, with what came."""
        informs = []
        while True:
            message = self._head()
            if message.status >= 200 or message.status == 101:
                break
            informs.append(message)
        message.informs = informs
        if method == "HEAD" or message.status in BODILESS or message.status == 101:
            message.framing = "none"
        elif "chunked" in (message.get("transfer-encoding") or ""):
            message.framing = "chunks"
        elif message.get("content-length") is not None:
            message.framing = "length"
        else:
            message.framing = "close"
        if read:
            with suppress(Ended, ConnectionError):
                self.body(message)
        return message

    def _head(self) -> Message:
        head = self.until(b"\r\n\r\n")
        start, *lines = head[:-4].split(b"\r\n")
        message = Message(start, head=head)
        for line in lines:
            name, _, value = line.partition(b":")
            message.headers.append((name, value.strip(b" \t")))
        return message

    def body(self, message: Message) -> None:
        """Read the body of a message whose head was read. Raises `Ended`."""
        for _ in self.reading(message):
            pass

    def reading(self, message: Message) -> Iterator[bytes]:
        """The pieces of a message's body, one by one as they come."""
        if message.framing == "chunks":
            while True:
                size, _, extension = self.line().partition(b";")
                if not int(size, 16):
                    break
                message.extensions.append(extension)
                piece = self.exactly(int(size, 16) + 2)
                assert piece.endswith(b"\r\n")
                yield self._note(message, piece[:-2])
            message.trailers = self.pairs()
        elif message.framing == "length":
            left = int((message.get("content-length") or "0").split(",")[0])
            while left:
                if not self.held and not self.more():
                    raise Ended(f"{left} bytes are lacking")
                piece = self.exactly(min(left, len(self.held)))
                left -= len(piece)
                yield self._note(message, piece)
        elif message.framing == "close":
            while self.held or self.more():
                yield self._note(message, self.exactly(len(self.held)))
        message.whole = True

    def _note(self, message: Message, piece: bytes) -> bytes:
        message.pieces.append(piece)
        message.times.append(time.monotonic())
        return piece

    def is_closed(self, within: float = PATIENCE) -> bool:
        """Whether the other side closes the connection, and says nothing more."""
        self.socket.settimeout(within)
        try:
            return not self.held and self.socket.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long, not even an end."""
        return not self.held and not select.select([self.socket], [], [], seconds)[0]

    def close(self) -> None:
        """Close it in the usual way."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def reset(self) -> None:
        """Break it off, so that the other side sees an error."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Client(Wire):
    """A client of a server on loopback, on one connection.

    Args:
        port: the server's.
        patience: seconds that it waits for bytes.
    """

    def __init__(self, port: int, patience: float = PATIENCE) -> None:
        super().__init__(socket.create_connection(("127.0.0.1", port), timeout=patience))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, data: bytes) -> Message:
        """Send a request, and read its answer."""
        self.send(data)
        return self.answer(data.split(b" ", 1)[0].decode())


def request(
    target: str,
    body: bytes | None = None,
    *headers: str,
    method: str = "",
    host: str = "127.0.0.1",
    version: str = "1.1",
) -> bytes:
    """The bytes of a request, a POST of JSON where it has a body."""
    lines = [f"{method or ('GET' if body is None else 'POST')} {target} HTTP/{version}"]
    lines.append(f"Host: {host}")
    lines += headers
    named = {line.partition(":")[0].lower() for line in headers}
    if body is not None:
        if "content-type" not in named:
            lines.append("Content-Type: application/json")
        if not named & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    """A chunk of the transfer coding; an empty one is the last, without trailers and end."""
    size = b"%x%b\r\n" % (len(data), extension)
    return size + data + b"\r\n" if data else size


def chunked(*pieces: bytes, trailers: bytes = b"") -> bytes:
    """A whole body in chunks."""
    return b"".join(map(chunk, pieces)) + b"0\r\n" + trailers + b"\r\n"


def ask(port: int, data: bytes) -> Message:
    """The answer to one request, on a connection of its own."""
    with Client(port) as client:
        return client.ask(data)


def eventually(true: Callable[[], object], within: float = PATIENCE) -> bool:
    """Whether something becomes true."""
    end = time.monotonic() + within
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
