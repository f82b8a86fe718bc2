"""Connections of clients: their requests one after another, and the answers to them."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import TypeAlias, cast

from cachewrap.proxy.exchanges import (
    DROPPED_BYTES,
    ClientRaw,
    ClientRequest,
    ClientResponse,
    error_body,
)
from cachewrap.proxy.framing import Refused, find_head, is_https, parse_head
from cachewrap.proxy.messages import OVERDUE, BadBody, ClientGone, Raw, Request, Response
from cachewrap.proxy.settings import Limits
from cachewrap.telemetry.events import warn_once

if sys.platform == "linux":
    import fcntl
    import termios

Handler: TypeAlias = Callable[[Request, Response], Awaitable[None]]
"""Answers a request."""

_HELD_BYTES = 256 * 1024  # of a body that nobody reads yet, before the client has to wait
_AHEAD_BYTES = 64 * 1024  # of requests behind the one that is answered
_SENT_BYTES = 64 * 1024  # on their way to a client, before senders have to wait
_DROP_SECONDS = 1.0
_LINGER_BYTES = 16 * 1024 * 1024  # that a client still sends while it is told why not
_PROBE_SECONDS = (0.25, 5.0)  # first and longest wait between looks for a client that half-closed
_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 3}
_RESET = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # linger on, for no time
_PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"


class Connection(asyncio.Protocol):
    """The connection of a client.

    Args:
        handler: answers a request.
        limits: what the client may ask for.
        connections: has it from its beginning until nothing of it is left.
        failed: is told what a handler raised.
    """

    def __init__(
        self,
        handler: Handler,
        limits: Limits,
        connections: set[Connection],
        *,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        self.limits = limits
        self.peer = ""
        self.winding = False
        self.half_closed = False
        self.raw: ClientRaw | None = None
        self._handler = handler
        self._failed = failed
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._gone = False
        self._waiting = bytearray()
        self._seen = 0
        self._skipped = False
        self._exchange: tuple[ClientRequest, ClientResponse] | None = None
        self._task: asyncio.Task[None] | None = None
        self._overdue = False
        self._lingering = False
        self._dropped = 0
        self._reading = True
        self._full: asyncio.Future[None] | None = None
        self._unsent = 0
        self._probe_seconds = 0.0
        self._deadlines: dict[Callable[[], None], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    # What the loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_SENT_BYTES)
        _keep_alive(transport.get_extra_info("socket"))
        name = transport.get_extra_info("peername")
        self.peer = str(name[0]) if isinstance(name, tuple) else ""
        self._connections.add(self)
        self.arm(self.end, self.limits.keep_seconds)

    def data_received(self, data: bytes) -> None:
        if self.raw is not None:
            self.raw.feed(data)
            return
        if self._lingering:
            self._dropped += len(data)
            if self._dropped > _LINGER_BYTES:
                self.end()
            return
        if self._exchange is None:
            self._waiting += data
            self._begin()
            return
        request, _ = self._exchange
        if request.failure is not None:
            return
        if not request.ended:
            data = request.feed(data)
            if request.ended and self._task is None:
                self._waiting += data
                self._next()
                return
        self._waiting += data
        self.balance()

    def eof_received(self) -> bool:
        self.half_closed = True
        if self.raw is not None:
            self.raw.leave()
            return self._transport.can_write_eof()
        if self._exchange is None or self._task is None:
            self.end()
            return False
        request, response = self._exchange
        if response.finished:
            return self._transport.can_write_eof()
        if not request.ended:
            self.cut()
            return False
        # It may have closed one way only, and wait for its answer.
        self._watch()
        return self._transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._deadlines.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._full is not None and not self._full.done():
            self._full.set_result(None)
        if self.raw is not None:
            self.raw.leave()
        if self._exchange is not None and self._task is not None:
            request, response = self._exchange
            request.leave()
            if not response.finished:
                self._task.cancel()
        if self._task is None:
            self._connections.discard(self)

    def pause_writing(self) -> None:
        self._full = self._loop.create_future()
        self._unsent = self._count_unsent()
        self.arm(self._expect_room, self.limits.idle_seconds)

    def resume_writing(self) -> None:
        if not self._transport.is_closing():
            self.disarm(self._expect_room)
        if self._full is not None and not self._full.done():
            self._full.set_result(None)
        self._full = None

    # What the service tells.

    def wind_down(self) -> None:
        """End with the answer under way; at once where there is none."""
        self.winding = True
        self.arm(self._end_idle, 0)  # what has come by now is answered

    def cut(self) -> None:
        """Close hard."""
        self._transport.abort()

    # What requests and answers need.

    def last(self) -> bool:
        """Whether no request is answered behind the one under way."""
        return self.winding or (self.half_closed and not self._waiting)

    def gone(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._gone or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send without waiting. Raises `ClientGone`."""
        if self.gone():
            raise ClientGone("the client has left")
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait while too much is on its way. Raises `ClientGone`."""
        while self._full is not None:
            await asyncio.shield(self._full)
            if self._gone:
                raise ClientGone("the client has left")

    def balance(self) -> None:
        """Read on, or let the client wait, by how much of it waits here."""
        if self._lingering:
            much = False
        elif self.raw is not None:
            much = self.raw.held > _HELD_BYTES
        else:
            much = len(self._waiting) > _AHEAD_BYTES or (
                self._exchange is not None and self._exchange[0].held > _HELD_BYTES
            )
        if much == self._reading and not self.gone():
            self._reading = not much
            if much:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def change(self) -> Raw:
        """Make of it a connection that speaks HTTP no more."""
        self.raw = ClientRaw(self, bytes(self._waiting), self.half_closed)
        self._waiting.clear()
        self.disarm(self._probe)
        self.balance()
        return self.raw

    def give_up(self) -> None:
        """Answer no more."""
        self._linger()

    def break_off(self, framed: bool) -> None:
        """Close amid an answer: what was written goes out, and the client sees that it is not all.

        Args:
            framed: whether the client knows by itself how long the answer should be.
        """
        if self.gone():
            return
        if not framed:
            sock = self._transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.end()

    def arm(self, expire: Callable[[], None], seconds: float) -> None:
        """Call after a time, in place of an earlier call of the same."""
        at = self._loop.time() + seconds
        self._deadlines[expire] = at
        self._wake_at(at)

    def disarm(self, expire: Callable[[], None]) -> None:
        """Do not call."""
        self._deadlines.pop(expire, None)

    # Deadlines.

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        for expire, at in list(self._deadlines.items()):
            if at <= now and self._deadlines.get(expire) == at:
                del self._deadlines[expire]
                expire()
        if self._deadlines:
            self._wake_at(min(self._deadlines.values()))

    def _wake_at(self, at: float) -> None:
        if self._timer is None or at < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(at, self._tick)

    def _end_idle(self) -> None:
        if self._exchange is None and not self._waiting and not self._lingering:
            self.end()

    def _expect_head(self) -> None:
        seconds = self.limits.header_seconds
        self._refuse(Refused(408, f"The request's headers did not come within {seconds:g} s."))

    def _expect_room(self) -> None:
        unsent = self._count_unsent()
        if unsent < self._unsent:
            self._unsent = unsent
            self.arm(self._expect_room, self.limits.idle_seconds)
        else:
            self.cut()

    def _count_unsent(self) -> int:
        """Bytes that the client has not taken yet, here and in the system."""
        unsent = self._transport.get_write_buffer_size()
        sock = self._transport.get_extra_info("socket")
        if sys.platform == "linux" and sock is not None:
            with suppress(OSError):
                told = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
                unsent += int.from_bytes(told, sys.byteorder)
        return unsent

    def _expect_end(self) -> None:
        if self._exchange is not None and self._task is not None:
            _, response = self._exchange
            if not response.finished:
                self._overdue = True
                self._task.cancel(OVERDUE)

    def _watch(self) -> None:
        self._probe_seconds = _PROBE_SECONDS[0]
        self.arm(self._probe, self._probe_seconds)

    def _probe(self) -> None:
        """Find out whether a client that sends no more still listens: one that left resets."""
        if self._exchange is None or self.gone():
            return
        request, response = self._exchange
        sock = self._transport.get_extra_info("socket")
        if sock is not None and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.cut()
            return
        if not response.started and request.version == "1.1":
            self._transport.write(_PROCESSING)
        self._probe_seconds = min(self._probe_seconds * 2, _PROBE_SECONDS[1])
        self.arm(self._probe, self._probe_seconds)

    # One request after another.

    def _begin(self) -> None:
        waiting = self._waiting
        if not self._skipped and waiting.startswith(b"\r\n"):
            del waiting[:2]  # some send one behind a body
            self._skipped = True
        if not waiting:
            return
        try:
            end = find_head(waiting, self._seen, self.limits)
            if not end:
                if not self._seen:
                    self.disarm(self.end)
                    self.arm(self._expect_head, self.limits.header_seconds)
                self._seen = len(waiting)
                if self.half_closed:
                    self.end()
                return
            head = bytes(waiting[:end])
            del waiting[:end]
            state, parsed, length = parse_head(head, self.limits)
        except Refused as refused:
            if is_https(waiting):  # it can read no answer
                warn_once(
                    ("https",),
                    "a client speaks HTTPS to the proxy, which speaks HTTP: its base URL is to"
                    " begin with http://",
                )
            self._refuse(refused)
            return
        self._seen = 0
        self._skipped = False
        self.disarm(self.end)
        self.disarm(self._expect_head)
        request = ClientRequest(self, parsed, length)
        response = ClientResponse(self, state, request)
        self._exchange = (request, response)
        if waiting and not request.ended:
            self._waiting = bytearray(request.feed(bytes(waiting)))
        if self.half_closed:
            if not request.ended:
                self.end()
                return
            self._watch()
        self._overdue = False
        self._task = self._loop.create_task(self._answer(request, response))
        if self.limits.total_seconds:
            self.arm(self._expect_end, self.limits.total_seconds)
        self.balance()

    async def _answer(self, request: ClientRequest, response: ClientResponse) -> None:
        try:
            await self._handle(request, response)
        except BaseException:
            self.cut()
            raise
        finally:
            self._task = None
            if self._gone:
                self._connections.discard(self)
        self._settle(request, response)

    async def _handle(self, request: ClientRequest, response: ClientResponse) -> None:
        try:
            await self._handler(request, response)
            if not response.finished and not self.gone():
                raise RuntimeError("a request was not answered to its end")
        except ClientGone:
            if not self.gone():
                self.cut()
        except BadBody as error:
            await response.fail(error.status, str(error))
        except asyncio.CancelledError:
            if not self._overdue or self.gone():
                raise
            seconds = self.limits.total_seconds
            await response.fail(504, f"The request took longer than {seconds:g} s.")
        except Exception as error:
            self._tell(error)
            await response.fail(500, "The proxy failed. Its log says how.")

    def _tell(self, error: Exception) -> None:
        if self._failed is not None:
            self._failed(error)
        else:
            told = {"message": "a request could not be answered", "exception": error}
            self._loop.call_exception_handler(told)

    def _settle(self, request: ClientRequest, response: ClientResponse) -> None:
        self.disarm(self._expect_end)
        self.disarm(self._probe)
        if self.gone():
            return
        if self.raw is not None or (self.half_closed and not request.ended):
            self.end()
        elif not response.reusable or request.failure is not None or self.winding:
            self._linger()
        elif request.ended:
            self._next()
        else:
            request.drop(DROPPED_BYTES)
            self.arm(self._linger, _DROP_SECONDS)
            self.balance()

    def _next(self) -> None:
        self.disarm(self._linger)
        self._exchange = None
        if self.winding:
            self._linger()
            return
        if self.half_closed and not self._waiting:
            self.end()
            return
        self.arm(self.end, self.limits.keep_seconds)
        if self._waiting:
            self._begin()
        self.balance()

    def _refuse(self, refused: Refused) -> None:
        body = error_body(str(refused))
        phrase = HTTPStatus(refused.status).phrase
        head = (
            f"HTTP/1.1 {refused.status} {phrase}\r\nconnection: close\r\nx-cachewrap: bypass\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)
        self._linger()

    def _linger(self) -> None:
        """Close so that the client can read the answer, though more of it may come.

        To close with something unread resets the connection, and takes the answer with it.
        """
        self._deadlines.clear()
        self._lingering = True
        self._exchange = None
        self._waiting.clear()
        transport = self._transport
        if self.half_closed or not transport.can_write_eof() or transport.get_write_buffer_size():
            self.end()
            return
        try:
            transport.write_eof()
        except OSError:
            transport.abort()
            return
        self.balance()
        self.arm(self.end, _DROP_SECONDS)

    def end(self) -> None:
        """Close once all was sent, or the client takes no more."""
        self._deadlines.clear()
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._unsent = self._count_unsent()
            self.arm(self._expect_room, self.limits.idle_seconds)


def _keep_alive(sock: socket.socket | None) -> None:
    """Let the system find out about clients that vanish, while nothing is sent to them."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _ALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
