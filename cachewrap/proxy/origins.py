"""The connections to upstreams: requests sent on them, answers read, and kept for the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Final

import h11

from cachewrap.proxy.dialing import Dialer
from cachewrap.proxy.messages import Inform, Origin, Pairs, UpstreamError
from cachewrap.proxy.settings import Limits

_IDLE_SECONDS: Final = 30.0
_IDLE_MOST: Final = 100
_UNREAD_BYTES: Final = 256 * 1024
_JOINED_BYTES: Final = 64 * 1024
_HEAD_BYTES: Final = 128 * 1024
_CONTINUE_SECONDS: Final = 1.0
_EVENTS_AT_ONCE: Final = 64


class Unheard(UpstreamError):
    """A connection that ended before a byte of an answer came."""


class Origins:
    """Upstreams, and the connections to them that are kept.

    Args:
        limits: how long an upstream is waited for.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._dialer = Dialer(limits.connect_seconds)
        self._idle: dict[Origin, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

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
    ) -> Answer:
        """Send a request: its answer, as soon as its head is there; see `Senders`."""
        if method == "CONNECT":
            raise UpstreamError("CONNECT is for proxies of another kind", status=501)
        forwarder = self._dialer.forwarder(origin)
        if forwarder:
            headers = [*forwarder.headers(), *headers]
            target = f"http://{origin.authority}{target if target != '*' else ''}"
        asked = _Asked(origin, method, target, headers, body, trailers, upgrade)
        kept = self._take(origin)
        connection = kept or await self._connect(origin)
        try:
            return await connection.ask(asked, inform)
        except Unheard:
            if not kept or asked.is_streamed:
                raise
        # The upstream closed what it had kept just when it was asked.
        connection = await self._connect(origin)
        return await connection.ask(asked, inform)

    async def aclose(self) -> None:
        """Close all connections, also those in use."""
        self._is_closed = True
        if self._sweeper:
            self._sweeper.cancel()
        self._idle.clear()
        gone = [connection.gone for connection in self._open]
        for connection in list(self._open):
            connection.fail(UpstreamError("The proxy ends"))
        if gone:
            await asyncio.wait(gone, timeout=1.0)

    async def _connect(self, origin: Origin) -> Connection:
        def build() -> Connection:
            return Connection(self, origin, self._limits.upstream_seconds)

        if self._is_closed:
            raise UpstreamError("The proxy ends")
        return await self._dialer.dial(origin, build)

    def _take(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.is_usable:
                return connection
        return None

    def opened(self, connection: Connection) -> None:
        """Know a connection."""
        self._open.add(connection)

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""
        self._open.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)

    def keep(self, connection: Connection) -> None:
        """Keep a connection for the next request."""
        if self._is_closed:
            connection.close()
            return
        idle = self._idle.setdefault(connection.origin, [])
        idle.append(connection)
        if len(idle) > _IDLE_MOST:
            idle.pop(0).close()
        if not self._sweeper:
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(_IDLE_SECONDS / 2, self._sweep)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - _IDLE_SECONDS
        for origin, idle in list(self._idle.items()):
            for connection in idle[:]:
                if connection.since <= oldest:
                    idle.remove(connection)
                    connection.close()
            if not idle:
                del self._idle[origin]
        self._sweeper = loop.call_later(_IDLE_SECONDS / 2, self._sweep) if self._idle else None


class _Asked:
    """A request as it is sent.

    Attributes:
        head: with its framing.
        body: what is behind it.
        end: what ends it, where the body is not streamed.
        is_streamed: whether it can be sent but once.
    """

    __slots__ = ("body", "end", "expects", "head", "is_chunked", "is_streamed", "trailers")

    def __init__(
        self,
        origin: Origin,
        method: str,
        target: str,
        headers: Pairs,
        body: bytes | AsyncIterator[bytes] | None,
        trailers: Callable[[], Pairs] | None,
        upgrade: str,
    ) -> None:
        self.body = body
        self.trailers = trailers
        self.is_streamed = is_streamed = body is not None and not isinstance(body, bytes)
        pairs: Pairs = [(b"Host", origin.authority.encode())]
        length: bytes | None = None
        self.expects = False
        for pair in headers:
            name = pair[0].lower()
            if name == b"content-length":
                length = pair[1]
                if isinstance(body, bytes):
                    length = str(len(body)).encode()
                    pair = (pair[0], length)
                elif body is None and length != b"0":
                    continue
            elif name == b"expect":
                self.expects = is_streamed and pair[1].lower() == b"100-continue"
            pairs.append(pair)
        if upgrade:
            pairs += [(b"Connection", b"Upgrade"), (b"Upgrade", upgrade.encode())]
        self.end: Pairs = []
        self.is_chunked = is_streamed and length is None
        if isinstance(body, bytes) and length is None:
            self.end = trailers() if trailers else []
            self.is_chunked = bool(self.end)
            if not self.is_chunked:
                pairs.append((b"Content-Length", str(len(body)).encode()))
        if self.is_chunked:
            pairs.append((b"Transfer-Encoding", b"chunked"))
        try:
            self.head = h11.Request(method=method, target=target, headers=pairs)
        except h11.LocalProtocolError:
            told = "The request cannot be sent: its method, target or headers are not HTTP/1.1"
            raise UpstreamError(told) from None


class Connection(asyncio.Protocol):
    """A connection to an upstream: one request and its answer at a time.

    What came is parsed only when it is asked for, so that a reader has all the chunks one by one.
    """

    transport: asyncio.Transport

    def __init__(self, pool: Origins, origin: Origin, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self.origin = origin
        self.since = 0.0
        self._pool = pool
        self._seconds = seconds
        self._h11 = h11.Connection(h11.CLIENT, _HEAD_BYTES)
        self._failure: Exception | None = None
        self._is_lost = False
        self._is_kept = False
        self._is_heard = False
        self._is_ended = False
        self._raw: bytearray | None = None
        self._is_paused = False
        self._unread = 0
        self._at_once = 0
        self._pump: asyncio.Task[None] | None = None
        self._go_on: asyncio.Future[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._is_full = False
        self._queued = 0
        self._timer: asyncio.TimerHandle | None = None

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._is_kept or self._failure:
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
        self._is_lost = True
        if exc is None:
            self._end()
        elif not self._failure:
            self._failure = self._broken()
        if self._timer:
            self._timer.cancel()
        self._wake()
        self.resume_writing()
        if not self.gone.done():
            self.gone.set_result(None)
        self._pool.lost(self)

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

    async def ask(self, asked: _Asked, inform: Inform | None) -> Answer:
        """Send a request: its answer. Raises `UpstreamError`, and what its body raises."""
        self._is_kept = self._is_heard = False
        self.since = self._loop.time()
        try:
            self._send(asked)
            while True:
                event = await self._event()
                if type(event) is h11.Response:
                    break
                if type(event) is h11.InformationalResponse:
                    if event.status_code == 101:
                        self._raw = bytearray(self._h11.trailing_data[0])
                        break
                    if event.status_code == 100:
                        self._let_go_on()
                        if not asked.expects:
                            continue
                    if inform:
                        await inform(event.status_code, event.reason, event.headers.raw_items())
            return Answer(self, event)
        except BaseException:
            self.abort()
            await self._stop_pump()
            raise

    def _send(self, asked: _Asked) -> None:
        data = self._h11.send(asked.head) or b""
        body = asked.body
        if asked.is_streamed:
            self.transport.write(data)
            if asked.expects:
                self._go_on = self._loop.create_future()
            self._pump = self._loop.create_task(self._stream(asked))
            return
        if body:
            assert isinstance(body, bytes)
            if len(body) > _JOINED_BYTES and not asked.is_chunked:
                self._h11.send_with_data_passthrough(h11.Data(data=body))
                self.transport.write(data)
                data = body
            else:
                data += self._h11.send(h11.Data(data=body)) or b""
        end = self._h11.send(h11.EndOfMessage(headers=asked.end))
        self.transport.write(data + end if end else data)

    async def _stream(self, asked: _Asked) -> None:
        body: Any = asked.body
        try:
            if self._go_on:
                # Some never say that they wait for the body.
                await asyncio.wait([self._go_on], timeout=_CONTINUE_SECONDS)
            async for piece in body:
                await self._write(h11.Data(data=piece))
            trailers = asked.trailers() if asked.trailers and asked.is_chunked else []
            await self._write(h11.EndOfMessage(headers=trailers))
        except h11.LocalProtocolError:
            self._pump = None
            self.fail(UpstreamError("The body of the request is not as long as its length says"))
        except Exception as error:
            self._pump = None
            self.fail(error)
        finally:
            self._pump = None
            if hasattr(body, "aclose"):
                with suppress(Exception):
                    await body.aclose()

    async def _write(self, event: h11.Event) -> None:
        if self._is_lost:
            return
        data = self._h11.send(event)
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
            await asyncio.wait([pump], timeout=1.0)

    # An answer

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
            elif event is h11.PAUSED:
                raise self.fail(self._broken())
            else:
                return event  # type: ignore[return-value]

    async def piece(self) -> h11.Data | h11.EndOfMessage:
        """The next piece of an answer's body, or its end."""
        self._at_once += 1
        if self._at_once > _EVENTS_AT_ONCE:
            self._at_once = 0
            await asyncio.sleep(0)
        event = await self._event()
        if type(event) is h11.Data:
            self._unread -= len(event.data)
        return event  # type: ignore[return-value]

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
            self.transport.resume_reading()

    def _watch(self) -> None:
        if not self._timer and self._raw is None:
            self._timer = self._loop.call_later(self._seconds, self._look)

    def _look(self) -> None:
        """Look whether the upstream is waited for too long."""
        self._timer = None
        if not self._waiter and not self._drained:
            return
        now = self._loop.time()
        queued = self.transport.get_write_buffer_size()
        is_theirs = self._drained or not self._pump
        if not is_theirs or queued < self._queued:
            # The client is waited for, or the upstream takes what it is sent.
            self.since = now
        self._queued = queued
        due = self.since + self._seconds
        if now < due:
            self._timer = self._loop.call_at(due, self._look)
            return
        told = f"{self.origin.authority} has sent nothing for {self._seconds:g} seconds"
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
        return not self._is_lost and not self._is_ended and not self.transport.is_closing()

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
        self._go_on = None
        self._unread = 0
        self._resume()
        self._is_kept = True
        self.since = self._loop.time()
        self._pool.keep(self)

    async def leave(self) -> None:
        """Be kept if all has come, else be closed."""
        if self.is_sent and self._raw is None:
            with suppress(h11.RemoteProtocolError):
                if type(self._h11.next_event()) is h11.EndOfMessage:
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
        self._failure = self._failure or UpstreamError(
            f"The connection to {self.origin.authority} is closed"
        )
        if self._pump:
            self._pump.cancel()
        self.transport.abort()

    def close(self) -> None:
        """Close the connection as friends do."""
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

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        connection = self._connection
        if connection is None or self._is_read:
            raise StopAsyncIteration
        event = await connection.piece()
        if type(event) is h11.Data:
            return bytes(event.data)
        assert type(event) is h11.EndOfMessage
        self.trailers = event.headers.raw_items()
        self._is_read = True
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
        if connection is None:
            raise UpstreamError("The answer is closed")
        return connection
