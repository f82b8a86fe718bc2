"""A connection to an upstream: a request sent on it, its answer read, and kept for the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Final, Protocol

import h11

from cachewrap.proxy.asked import Asked
from cachewrap.proxy.dialing import is_readable, unread
from cachewrap.proxy.messages import Inform, Origin, Pairs, UpstreamError

_UNREAD_BYTES: Final = 256 * 1024
_JOINED_BYTES: Final = 64 * 1024
_HEAD_BYTES: Final = 128 * 1024
_CONTINUE_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 1.0
_EVENTS_AT_ONCE: Final = 64
_INFORMED_MOST: Final = 100


class Unheard(UpstreamError):
    """A connection that ended before a byte of an answer came."""


class Keeper(Protocol):
    """The keeper of all connections, and of those that wait for a request."""

    def opened(self, connection: Connection) -> None:
        """Know a connection."""
        ...

    def keep(self, connection: Connection) -> None:
        """Keep a connection for the next request."""
        ...

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""
        ...


class Connection(asyncio.Protocol):
    """A connection to an upstream: one request and its answer at a time.

    What came is parsed only when it is asked for, so that a reader has all the chunks one by one.
    After an upgrade it is a `Raw`.

    Attributes:
        origin: to which it leads.
        since: when it was last used, or began to wait, by the clock of the loop.
        gone: done when it is closed.
    """

    transport: asyncio.Transport

    def __init__(self, keeper: Keeper, origin: Origin, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.origin = origin
        self.since = 0.0
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._keeper = keeper
        self._seconds = seconds
        self._h11 = h11.Connection(h11.CLIENT, _HEAD_BYTES)
        self._failure: Exception | None = None
        self._is_lost = self._is_ended = False
        self._is_kept = self._is_heard = False
        # What came.
        self._raw: bytearray | None = None
        self._unread = 0
        self._at_once = 0
        self._is_paused = False
        self._waiter: asyncio.Future[None] | None = None
        # What goes.
        self._pump: asyncio.Task[None] | None = None
        self._go_on: asyncio.Future[None] | None = None
        self._is_full = False
        self._drained: asyncio.Future[None] | None = None
        self._queued = 0
        self._timer: asyncio.TimerHandle | None = None
        self._context = copy_context()  # of nobody: it goes on from one request to the next

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._keeper.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._is_kept or self._failure or self._is_ended:
            # Nobody asked for it.
            self.abort()
            return
        self._is_heard = True
        if self._raw is None:
            self._h11.receive_data(data)
        else:
            self._raw += data
        self._unread += len(data)
        if self._unread > _UNREAD_BYTES and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if exc and not self._failure and (data := unread(self.transport)):
            self.data_received(data)
        self._is_lost = True
        if not self._failure:
            if exc:
                self._failure = self._broken()
            else:
                self._end()
        if self._timer:
            self._timer.cancel()
        self._wake()
        self.resume_writing()
        self._keeper.lost(self)
        if not self.gone.done():
            self.gone.set_result(None)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        if self._drained and not self._drained.done():
            self._drained.set_result(None)

    def _end(self) -> None:
        if self._is_kept:
            self.abort()
        elif not self._is_ended:
            self._is_ended = True
            self._h11.receive_data(b"")
            self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    # A request

    async def ask(self, asked: Asked, inform: Inform | None) -> Answer:
        """Send a request: its answer. Raises `UpstreamError`, and what its body raises."""
        self._is_kept = self._is_heard = False
        self.since = self._loop.time()
        try:
            self._send(asked)
            return Answer(self, await self._head(asked, inform))
        except BaseException:
            self.abort()
            await self._stop_pump()
            raise

    async def _head(
        self, asked: Asked, inform: Inform | None
    ) -> h11.Response | h11.InformationalResponse:
        for _ in range(_INFORMED_MOST):
            event = await self._event()
            if type(event) is h11.Response:
                if self._go_on and not self._go_on.done() and self._pump:
                    # Nobody wants the body any more.
                    pump, self._pump = self._pump, None
                    pump.cancel()
                return event
            assert type(event) is h11.InformationalResponse
            if event.status_code == 101:
                self._raw = bytearray(self._h11.trailing_data[0])
                return event
            if event.status_code == 100:
                if not asked.expects:
                    continue
                self._let_go_on()
            if inform:
                await inform(event.status_code, event.reason, event.headers.raw_items())
        raise self._broken()

    def _send(self, asked: Asked) -> None:
        data = self._h11.send(asked.head) or b""
        if asked.is_streamed:
            self.transport.write(data)
            self._go_on = self._loop.create_future() if asked.expects else None
            self._pump = self._loop.create_task(self._stream(asked))
            return
        body = asked.body
        if isinstance(body, bytes) and body:
            if len(body) > _JOINED_BYTES:
                self._h11.send_with_data_passthrough(h11.Data(data=body))
                self.transport.write(data)
                data = body
            else:
                data += self._h11.send(h11.Data(data=body)) or b""
        end = self._h11.send(h11.EndOfMessage())
        self.transport.write(data + end if end else data)
        self._queued = self.transport.get_write_buffer_size()

    async def _stream(self, asked: Asked) -> None:
        """Send a body as it comes, while the answer is read."""
        body: Any = asked.body
        try:
            if self._go_on:
                # Some never say that they wait for the body.
                await asyncio.wait([self._go_on], timeout=_CONTINUE_SECONDS)
                self._let_go_on()
            async for piece in body:
                await self._write(h11.Data(data=piece))
            await self._write(h11.EndOfMessage(headers=asked.trailers()))
            self._pump = None
        except h11.LocalProtocolError:
            told = "The request cannot be sent: its body is not as long as its length, or its"
            self._break(UpstreamError(f"{told} trailers are not HTTP/1.1"))
        except Exception as error:
            self._break(error)
        except BaseException:
            if self._pump:
                self._break(UpstreamError("The body of the request broke off"))
            raise
        finally:
            if hasattr(body, "aclose"):
                with suppress(Exception):
                    await body.aclose()

    def _break(self, failure: Exception) -> None:
        self._pump = None
        self.fail(failure)

    async def _write(self, event: h11.Event) -> None:
        data = self._h11.send(event)
        if is_readable(self.transport):
            # A write that fails would lose what an upstream said before it closed the connection.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        if self._is_lost:
            return
        if data:
            self.since = self._loop.time()
            self.transport.write(data)
        await self._drain()

    async def _drain(self) -> None:
        if not self._is_full:
            return
        self._drained = self._loop.create_future()
        self._watch()
        try:
            await self._drained
        finally:
            self._drained = None

    def _let_go_on(self) -> None:
        if self._go_on and not self._go_on.done():
            self._go_on.set_result(None)

    async def _stop_pump(self) -> None:
        pump = self._pump
        if pump:
            pump.cancel()
            await asyncio.wait([pump], timeout=_STOP_SECONDS)

    # An answer

    async def piece(self) -> h11.Data | h11.EndOfMessage:
        """The next piece of an answer's body, or its end."""
        self._at_once += 1
        if self._at_once > _EVENTS_AT_ONCE:
            self._at_once = 0
            await asyncio.sleep(0)
        event = await self._event()
        assert isinstance(event, h11.Data | h11.EndOfMessage)
        if type(event) is h11.Data:
            self._unread -= len(event.data)
        return event

    async def _event(self) -> h11.Event:
        """The next event. Raises `UpstreamError`, and what the request's body raised."""
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError:
                raise self.fail(self._broken()) from None
            if event is h11.NEED_DATA:
                self._unread = 0
                if self._failure:
                    raise self._failure
                self._resume()
                await self._wait()
            elif isinstance(event, h11.Event):
                return event
            else:
                raise self.fail(self._broken())

    async def _wait(self) -> None:
        self._at_once = 0
        self._waiter = self._loop.create_future()
        self.since = self._loop.time()
        self._watch()
        try:
            await self._waiter
        except BaseException:
            self.abort()
            raise
        finally:
            self._waiter = None

    def _resume(self) -> None:
        if self._is_paused and not self._is_lost:
            self._is_paused = False
            self._context.copy().run(self.transport.resume_reading)

    def _watch(self) -> None:
        if not self._timer and self._raw is None and not self._is_lost:
            self._timer = self._loop.call_later(self._seconds, self._look, context=self._context)

    def _look(self) -> None:
        """Look whether the upstream is waited for too long."""
        self._timer = None
        if self._raw is not None or not (self._waiter or self._drained):
            return
        now = self._loop.time()
        queued = self.transport.get_write_buffer_size()
        if queued < self._queued or (self._pump and not self._drained):
            # The upstream takes what it is sent, or the client is waited for.
            self.since = now
        self._queued = queued
        due = self.since + self._seconds
        if now < due:
            self._timer = self._loop.call_at(due, self._look)
            return
        told = f"{self.origin.authority} has sent nothing for {self._seconds:g} seconds"
        if self._drained:
            told = f"{self.origin.authority} has taken nothing for {self._seconds:g} seconds"
        self.fail(UpstreamError(told, status=504))

    def _broken(self) -> UpstreamError:
        name = self.origin.authority
        if not self._is_ended and not self._is_lost:
            return UpstreamError(f"{name} answered what is not HTTP/1.1")
        if not self._is_heard:
            return Unheard(f"{name} closed the connection without an answer")
        return UpstreamError(f"{name} closed the connection before its answer was whole")

    # The end

    @property
    def is_usable(self) -> bool:
        """Whether it may be asked again."""
        return not (self._is_lost or self._is_ended or self.transport.is_closing())

    @property
    def is_sent(self) -> bool:
        """Whether all of the request was sent."""
        return not self._pump

    def finish(self) -> None:
        """Be kept where both sides are done, else be closed."""
        sides = self._h11
        is_done = sides.our_state is h11.DONE and sides.their_state is h11.DONE
        if not is_done or self._failure or sides.trailing_data[0] or not self.is_usable:
            self.abort()
            return
        sides.start_next_cycle()
        self._unread = 0
        self._resume()
        self._is_kept = True
        self.since = self._loop.time()
        self._keeper.keep(self)

    async def leave(self) -> None:
        """Be kept if all has come, else be closed."""
        if self.is_sent and self._raw is None:
            with suppress(h11.RemoteProtocolError):
                is_read = self._h11.their_state is h11.DONE
                if is_read or type(self._h11.next_event()) is h11.EndOfMessage:
                    self.finish()
                    return
        self.abort()
        await self._stop_pump()

    def fail(self, failure: Exception) -> Exception:
        """Close the connection, and let who reads know why."""
        self._failure = self._failure or failure
        self.abort()
        self._wake()
        return self._failure

    def abort(self) -> None:
        """Close the connection at once."""
        if not self._failure:
            told = f"The connection to {self.origin.authority} is closed"
            self._failure = UpstreamError(told)
        if self._pump:
            self._pump.cancel()
        self.transport.abort()

    def drop(self) -> None:
        """Close the connection, from whatever thread finds that nobody reads it any more."""
        if not self._is_lost:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.abort)

    def close(self) -> None:
        """Close the connection, once what was sent is on its way."""
        self.transport.close()

    # An upgraded connection

    async def read(self) -> bytes:
        """What came, as soon as anything did; b"" at its end."""
        while not self._raw:
            if self._is_ended or self._is_lost:
                return b""
            self._unread = 0
            self._resume()
            await self._wait()
        data, self._raw = bytes(self._raw), bytearray()
        return data

    async def write(self, data: bytes) -> None:
        """Send, and wait while too much is on its way."""
        if self._is_lost or self.transport.is_closing():
            raise UpstreamError(f"{self.origin.authority} has closed the connection")
        self.transport.write(data)
        await self._drain()


class Answer:
    """An upstream's answer, whose body may still be on its way; see `Incoming`."""

    __slots__ = ("_connection", "_is_read", "headers", "reason", "status", "trailers", "version")

    def __init__(
        self, connection: Connection, head: h11.Response | h11.InformationalResponse
    ) -> None:
        self._connection: Connection | None = connection
        self._is_read = False
        self.status = head.status_code
        self.reason = head.reason
        self.version = head.http_version.decode()
        self.headers: Pairs = head.headers.raw_items()
        self.trailers: Pairs = []
        if any(name == b"transfer-encoding" for name, _ in head.headers):
            # Chunks overrule a length, and who passes both on would be misunderstood: RFC 9112 6.3.
            self.headers = [pair for pair in self.headers if pair[0].lower() != b"content-length"]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        connection = self._connection
        if connection is None or self._is_read:
            raise StopAsyncIteration
        event = await connection.piece()
        if type(event) is h11.Data:
            return bytes(event.data)
        self._is_read = True
        self.trailers = event.headers.raw_items()  # type: ignore[union-attr]
        if connection.is_sent:
            self._connection = None
            connection.finish()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Be done with it. A connection of which all was read serves the next request."""
        connection, self._connection = self._connection, None
        if connection:
            await connection.leave()

    def raw(self) -> Connection:
        """The connection of an answer of status 101."""
        connection = self._connection
        if connection is None or self.status != 101:
            raise UpstreamError("The connection has not changed its protocol")
        return connection

    def __del__(self) -> None:
        connection = self._connection
        if connection and self.status != 101:
            connection.drop()
