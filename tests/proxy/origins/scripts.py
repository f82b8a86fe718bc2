"""Upstreams that play a script on each connection, and origins that are asked about them."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import struct
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from cachewrap.proxy.messages import Incoming, Origin, Pairs
from cachewrap.proxy.origins import Origins
from cachewrap.proxy.settings import Limits

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Seen:
    """A request as an upstream saw it."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def value(self, name: str) -> str | None:
        """The value of a header."""
        return next((value for key, value in self.headers if key.lower() == name), None)


@dataclass
class Talk:
    """A connection as an upstream has it, the nth."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    seen: list[Seen]

    async def head(self) -> Seen:
        """The head of the next request."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.rstrip("\r\n").split("\r\n")
        request = Seen(line, [_pair(each) for each in lines])
        self.seen.append(request)
        return request

    async def request(self) -> Seen:
        """The next request."""
        request = await self.head()
        if request.value("transfer-encoding") == "chunked":
            while piece := await self.chunk():
                request.body += piece
            while line := (await self.reader.readline()).rstrip():
                request.trailers.append(_pair(line.decode()))
        else:
            request.body = await self.reader.readexactly(int(request.value("content-length") or 0))
        return request

    async def chunk(self) -> bytes:
        """The next chunk of a request's body, b"" behind the last."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        data = await self.reader.readexactly(size)
        if size:
            await self.reader.readline()
        return data

    async def send(self, data: bytes) -> None:
        """Send, and wait until it is on its way."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *data: bytes) -> None:
        """Answer the next request."""
        await self.request()
        for piece in data or (OK,):
            await self.send(piece)

    async def is_left(self) -> bool:
        """Whether the other side closes the connection, and sends nothing more."""
        with suppress(ConnectionError, ssl.SSLError):
            return await self.reader.read(1) == b""
        return True

    def reset(self) -> None:
        """Close the connection as a program does that ends."""
        place = self.writer.get_extra_info("socket")
        place.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script: TypeAlias = Callable[[Talk], Awaitable[object]]


@dataclass
class Upstream:
    """A server on loopback.

    Args:
        origin: where it is.
        seen: the requests that it read.
        talks: its connections, in their order.
    """

    origin: Origin
    seen: list[Seen] = field(default_factory=list)
    talks: list[Talk] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)


@asynccontextmanager
async def playing(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Upstream]:
    """A server that plays a script on each connection, and closes it then."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = Talk(reader, writer, len(upstream.talks), upstream.seen)
        upstream.talks.append(talk)
        tasks.add(asyncio.current_task())
        try:
            await script(talk)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        except Exception as error:
            upstream.errors.append(error)
        finally:
            writer.close()

    tasks: set[Any] = set()
    server = await asyncio.start_server(play, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    upstream = Upstream(Origin("https" if tls else "http", "127.0.0.1", port))
    try:
        yield upstream
    finally:
        # What is on its way to it arrives.
        await asyncio.sleep(0.005)
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for talk in upstream.talks:
            talk.writer.transport.abort()
        await asyncio.sleep(0)
    assert not upstream.errors, upstream.errors


@dataclass
class Asking:
    """Origins, and an upstream to ask."""

    origins: Origins
    upstream: Upstream

    async def send(
        self,
        method: str = "GET",
        target: str = "/",
        headers: Pairs = [],  # noqa: B006 -- it is not changed
        body: Any = None,
        **options: Any,
    ) -> Incoming:
        """The answer to a request."""
        return await self.origins.send(
            self.upstream.origin, method, target, headers, body, **options
        )

    async def read(self, *arguments: Any, **options: Any) -> bytes:
        """The body of the answer to a request."""
        answer = await self.send(*arguments, **options)
        return b"".join(await pieces(answer))


@asynccontextmanager
async def asking(
    script: Script, tls: ssl.SSLContext | None = None, **limits: Any
) -> AsyncIterator[Asking]:
    """Origins and an upstream that plays a script; nothing is left of them behind the block."""
    origins = Origins(replace(Limits(), **limits))
    async with playing(script, tls) as upstream:
        try:
            yield Asking(origins, upstream)
        finally:
            await origins.aclose()
            assert not origins.connections


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test, of which no task is left and no error that nobody saw."""
    told: list[dict[str, Any]] = []

    async def watched() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context))
        await asyncio.wait_for(main(), 20)
        # A server's own tasks end a moment later.
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
        gc.collect()

    with warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always", ResourceWarning)
        asyncio.run(watched())
        gc.collect()
    assert not told, told
    unclosed = [str(each.message) for each in left if each.category is ResourceWarning]
    assert not unclosed, unclosed


async def pieces(answer: Incoming) -> list[bytes]:
    """The body of an answer, and be done with it."""
    found = [piece async for piece in answer]
    await answer.aclose()
    return found


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that is about to happen."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def stream(*given: bytes | Exception) -> AsyncIterator[bytes]:
    """A body piece by piece."""
    for piece in given:
        if isinstance(piece, Exception):
            raise piece
        yield piece
        await asyncio.sleep(0)


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value.strip()
