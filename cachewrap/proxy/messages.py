"""Messages of HTTP as they pass through the proxy: what clients ask, what upstreams answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

Pairs: TypeAlias = list[tuple[bytes, bytes]]
"""Headers in their order, their names as they were written."""

PORTS: Final = {"http": 80, "https": 443}
"""The port of each scheme where a URL names none."""

Inform: TypeAlias = Callable[[int, bytes, Pairs], Awaitable[None]]
"""Takes what comes before an answer: status (1xx), reason, headers."""


OVERDUE: Final = "took too long"
"""What a task is cancelled with whose request has taken its time; else its client has left."""


class ClientGone(ConnectionError):
    """The client has left: nothing can be read of it or sent to it any more."""


class BadBody(Exception):
    """The body of a request is not what its head says, is too large, or does not come on.

    Args:
        status: that tells the client so.
        message: the same in words.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class UpstreamError(Exception):
    """An upstream that cannot be reached, that answers no HTTP, or that broke off.

    Args:
        message: what happened, for people, without credentials.
        status: 502, or 504 where it took too long.
    """

    def __init__(self, message: str, status: int = 502) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Origin:
    """The place of a server.

    Args:
        scheme: ``http`` or ``https``; ``unix`` for HTTP on a socket of this machine.
        host: its name or address, IPv6 without brackets; the path of the socket.
        port: its port.
    """

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """Host and port as a ``Host`` header has them; the name of a socket's file."""
        if self.scheme == "unix":
            return self.host.rpartition("/")[2]
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = PORTS[self.scheme] == self.port
        return host if usual else f"{host}:{self.port}"


class Raw(Protocol):
    """A connection that speaks HTTP no more, after an upgrade."""

    async def read(self) -> bytes:
        """What came, as soon as anything did; b"" at its end."""
        ...

    async def write(self, data: bytes) -> None:
        """Send, and wait while too much is on its way."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class Request(Protocol):
    """A request of a client, whose body may still be on its way.

    Attributes:
        method: as it was written.
        target: as it was written, in ASCII.
        version: ``1.1`` or ``1.0``.
        headers: all of them.
        trailers: those behind the body, once it was read.
        peer: the client's address, for the log.
        upgrade: the protocol that it wants to change to, in lower case; ``""`` for none.
        expects: whether the client sends the body only when it is asked for it.
    """

    method: str
    target: str
    version: str
    headers: Pairs
    trailers: Pairs
    peer: str
    upgrade: str
    expects: bool

    async def read(self, most: int) -> bytes | None:
        """The whole body, None where it is longer; what was read then comes again by iterating.

        Raises `ClientGone` and `BadBody`.
        """
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body piece by piece as it comes, not held. Raises `ClientGone` and `BadBody`."""
        ...


class Response(Protocol):
    """The answer to a client. All of it raises `ClientGone`.

    Headers are given without those of the connection: framing is decided here, by a
    ``content-length`` that is given, else in chunks.

    Attributes:
        started: whether its head was sent.
    """

    started: bool

    async def inform(self, status: int, reason: bytes, headers: Pairs) -> None:
        """Send what comes before the answer."""
        ...

    async def start(self, status: int, reason: bytes, headers: Pairs) -> None:
        """Send the head."""
        ...

    async def send(self, data: bytes) -> None:
        """Send a piece of the body, as one chunk, and wait while the client is slow."""
        ...

    async def finish(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Send the end."""
        ...

    async def whole(self, status: int, reason: bytes, headers: Pairs, body: bytes) -> None:
        """Send an answer at one go."""
        ...

    async def pieces(
        self,
        status: int,
        reason: bytes,
        headers: Pairs,
        pieces: Iterable[bytes],
        trailers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Send an answer of which all is there, a chunk for each piece, in few writes."""
        ...

    def abort(self) -> None:
        """Cut the connection, so that the client knows that the answer is not whole."""
        ...

    async def upgraded(self, reason: bytes, headers: Pairs) -> Raw:
        """Send the head of status 101, and give the connection."""
        ...


class Incoming(Protocol):
    """An upstream's answer, whose body may still be on its way.

    Attributes:
        status: its status.
        reason: what it says about it.
        version: ``1.1`` or ``1.0``.
        headers: all of them.
        trailers: those behind the body, once it was read.
    """

    status: int
    reason: bytes
    version: str
    headers: Pairs
    trailers: Pairs

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body piece by piece as it comes, encoded as it is. Raises `UpstreamError`."""
        ...

    async def aclose(self) -> None:
        """Be done with it. A connection of which all was read serves the next request."""
        ...

    def raw(self) -> Raw:
        """The connection of an answer of status 101."""
        ...


class Senders(Protocol):
    """The way to upstreams."""

    async def send(
        self,
        origin: Origin,
        method: str,
        target: str,
        headers: Pairs,
        body: bytes | AsyncIterator[bytes] | None,
        *,
        trailers: Callable[[], Pairs] | None = None,
        inform: Inform | None = None,
        upgrade: str = "",
    ) -> Incoming:
        """Send a request: its answer, as soon as its head is there.

        Args:
            origin: where to.
            method: as the client wrote it.
            target: path and query.
            headers: without ``Host`` and those of the connection. Framing is decided here: a body
                of bytes has its length, another the ``content-length`` that is given, else chunks.
            body: all of it, or its pieces as they come; what they raise passes through.
            trailers: gives those behind the pieces, once they were sent.
            inform: is told of answers of status 1xx.
            upgrade: the protocol to change to.

        Raises `UpstreamError`.
        """
        ...
