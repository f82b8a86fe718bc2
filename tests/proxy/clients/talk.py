"""A server of `Connection`s on a free port of the loopback, and clients that write raw bytes."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

pytest.importorskip("h11")

from cachewrap.proxy.clients import Connection
from cachewrap.proxy.messages import Pairs, Request, Response
from cachewrap.proxy.settings import Limits

Handler = Callable[[Request, Response], Awaitable[None]]
SECONDS = 10.0


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in a loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **keywords: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **keywords), 60))

    return run


def limits(**changed: Any) -> Limits:
    """Those of the proxy, with short times."""
    times = {"header_seconds": 5.0, "keep_seconds": 5.0, "idle_seconds": 5.0}
    return Limits(**{**times, **changed})


def headed(first: str, *headers: str, body: bytes = b"") -> bytes:
    """A request, with a ``Host``."""
    lines = [f"{first} HTTP/1.1", "Host: here", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def chunked(*pieces: bytes, trailers: bytes = b"") -> bytes:
    """A body in chunks."""
    return (
        b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])[:-2]
        + trailers
        + b"\r\n"
    )


def pieces_of(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The bytes, split there."""
    ends = [0, *places, len(data)]
    return [data[start:end] for start, end in itertools.pairwise(ends)]


@dataclass
class Answer:
    """An answer, as it was on the wire."""

    status: int
    reason: str
    headers: Pairs
    body: bytes = b""
    pieces: list[bytes] = field(default_factory=list)
    trailers: Pairs = field(default_factory=list)

    def get(self, name: str) -> list[str]:
        """The values of a header."""
        wanted = name.lower().encode()
        return [value.decode() for found, value in self.headers if found.lower() == wanted]


class Client:
    """A connection to the server.

    Attributes:
        reader: what comes from the server.
        writer: the way to it.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        """Send pieces, so that each comes by itself."""
        for number, piece in enumerate(pieces):
            if number:
                for _ in range(4):
                    await asyncio.sleep(0)
            self.writer.write(piece)
            await self.writer.drain()

    async def line(self) -> bytes:
        line = await asyncio.wait_for(self.reader.readuntil(b"\r\n"), SECONDS)
        return line[:-2]

    async def pairs(self) -> Pairs:
        found: Pairs = []
        while line := await self.line():
            name, _, value = line.partition(b": ")
            found.append((name, value))
        return found

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer."""
        version, status, reason = (await self.line()).split(b" ", 2)
        assert version == b"HTTP/1.1"
        answer = Answer(int(status), reason.decode("latin-1"), await self.pairs())
        if answer.status < 200 or answer.status in (204, 304) or method == "HEAD":
            return answer
        if answer.get("transfer-encoding"):
            while size := int(await self.line(), 16):
                answer.pieces.append(await self.reader.readexactly(size))
                assert await self.line() == b""
            answer.body = b"".join(answer.pieces)
            answer.trailers = await self.pairs()
        elif answer.get("content-length"):
            answer.body = await self.reader.readexactly(int(answer.get("content-length")[0]))
        else:
            answer.body = await self.reader.read()
        return answer

    async def ask(self, *pieces: bytes) -> Answer:
        """Send, and give the answer."""
        await self.send(*pieces)
        return await self.answer(b"".join(pieces).partition(b" ")[0].decode("latin-1"))

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        return await asyncio.wait_for(self.reader.read(), SECONDS)

    async def closed(self) -> bool:
        """Whether the server closes now, and sends nothing before."""
        with suppress(ConnectionError):
            return await self.rest() == b""
        return True

    def half_close(self) -> None:
        self.writer.write_eof()

    def leave(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Close without a word of farewell."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.close()


class Server:
    """A server on the loopback.

    Attributes:
        connections: the living ones.
        failures: what handlers raised.
        seen: whatever a test's handler puts there.
        troubles: what was logged, or told to the loop, that should not have been.
    """

    def __init__(self) -> None:
        self.port = 0
        self.connections: set[Connection] = set()
        self.failures: list[Exception] = []
        self.seen: list[Any] = []
        self.troubles: list[str] = []
        self._clients: list[Client] = []

    async def connect(self, *, buffer: int = 0) -> Client:
        sock = socket.socket()
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", self.port))
        client = Client(*await asyncio.open_connection(sock=sock))
        self._clients.append(client)
        return client

    async def ask(self, *pieces: bytes) -> Answer:
        """Send over a new connection, and give the answer."""
        return await (await self.connect()).ask(*pieces)

    async def empty(self, seconds: float = SECONDS) -> bool:
        """Whether nothing of any connection is left in time."""
        for _ in range(int(seconds / 0.01)):
            if not self.connections:
                return True
            await asyncio.sleep(0.01)
        return False

    async def end(self) -> None:
        for client in self._clients:
            client.leave()
        assert await self.empty(3), "a connection outlives its client"


class Troubles(logging.Handler):
    """Warnings, and what is worse, that are logged."""

    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        self._found.append(record.getMessage())


@asynccontextmanager
async def serving(
    handler: Handler | None = None, bounds: Limits | None = None
) -> AsyncIterator[Server]:
    """A server, of which nothing may be left, and that may log nothing."""
    loop = asyncio.get_running_loop()
    server = Server()
    before = asyncio.all_tasks()
    loop.set_exception_handler(lambda _, told: server.troubles.append(repr(told)))
    log = Troubles(server.troubles)
    logging.getLogger().addHandler(log)

    def connect() -> Connection:
        return Connection(
            handler or echo,
            bounds or limits(),
            server.connections,
            failed=server.failures.append,
        )

    listener = await loop.create_server(connect, "127.0.0.1", 0)
    try:
        server.port = listener.sockets[0].getsockname()[1]
        yield server
        await server.end()
        assert asyncio.all_tasks() == before
        assert server.troubles == []
    finally:
        logging.getLogger().removeHandler(log)
        listener.close()
        for connection in list(server.connections):
            connection.cut()


async def echo(request: Request, response: Response) -> None:
    """Answer with what was asked."""
    pieces = [piece async for piece in request]
    text = [request.method, request.target, request.version]
    text += [f"{name.decode()}={value.decode('latin-1')}" for name, value in request.headers]
    text += ["", b"".join(pieces).decode("latin-1")]
    text += [f"{name.decode()}={value.decode('latin-1')}" for name, value in request.trailers]
    await response.whole(200, b"OK", [], "\n".join(text).encode("latin-1"))


class Memory(asyncio.Transport):
    """A connection that ends in this process.

    Attributes:
        sent: what the server wrote.
        ended: whether it sends no more.
        closed: whether it closed.
        unsent: bytes that it keeps back.
    """

    def __init__(self, handler: Handler, bounds: Limits | None = None) -> None:
        super().__init__()
        self.sent = b""
        self.ended = self.closed = False
        self.unsent = 0
        self.connections: set[Connection] = set()
        self.failures: list[Exception] = []
        self.connection = Connection(
            handler, bounds or limits(), self.connections, failed=self.failures.append
        )
        self.connection.connection_made(self)

    async def feed(self, *pieces: bytes) -> bytes:
        """Let pieces come one by one: what was sent."""
        for piece in pieces:
            await self.rest()
            if not self.closed:
                self.connection.data_received(piece)
        await self.rest()
        return self.sent

    async def rest(self) -> None:
        """Wait until nothing runs."""
        for _ in range(4):
            await asyncio.sleep(0)

    def end(self) -> None:
        """Let the client leave."""
        self.connection.connection_lost(None)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True
        self.unsent = 0

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass
