"""Exchanges with a client: a request as it comes in, and its answer as it goes out."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import Protocol, TypeVar

import h11

from cachewrap.proxy.framing import Chunked, sendable, sendable_trailers
from cachewrap.proxy.messages import BadBody, ClientGone, Pairs, Raw
from cachewrap.proxy.settings import Limits

_JOINED_BYTES = 64 * 1024  # of a body that goes out in one piece with its head
DROPPED_BYTES = 256 * 1024  # of a body that nobody wanted, so that the connection lives on
_SENDS_IN_A_ROW = 32  # before others have their turn
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NO_REASON = re.compile(rb"[^\t\x20-\x7e\x80-\xff]")
_OWN = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding"))
_EMPTY = (204, 304)
_Head = TypeVar("_Head", h11.Response, h11.InformationalResponse)


class Line(Protocol):
    """Connection, as an exchange needs it: see `cachewrap.proxy.clients.Connection`."""

    limits: Limits
    peer: str

    def last(self) -> bool: ...
    def gone(self) -> bool: ...
    def write(self, data: bytes) -> None: ...
    async def drain(self) -> None: ...
    def balance(self) -> None: ...
    def arm(self, expire: Callable[[], None], seconds: float) -> None: ...
    def disarm(self, expire: Callable[[], None]) -> None: ...
    def change(self) -> Raw: ...
    def break_off(self, framed: bool) -> None: ...
    def give_up(self) -> None: ...
    def end(self) -> None: ...


class ClientRequest:
    """A request of a client: see `cachewrap.proxy.messages.Request`.

    Attributes:
        ended: whether all of its body came.
        held: bytes of the body that wait here.
        failure: what is wrong with the body.
        expects: whether the client sends the body only when it is asked for it.
        left: bytes of the body that are to come; None where that is not known.
    """

    __slots__ = (
        "_chunks",
        "_droppable",
        "_gone",
        "_line",
        "_pieces",
        "_received",
        "_waiter",
        "ended",
        "expects",
        "failure",
        "headers",
        "held",
        "left",
        "method",
        "peer",
        "target",
        "trailers",
        "upgrade",
        "version",
    )

    def __init__(self, line: Line, head: h11.Request, length: int | None) -> None:
        self._line = line
        self.method = head.method.decode("ascii")
        self.target = head.target.decode("ascii")
        self.version = head.http_version.decode("ascii")
        self.headers: Pairs = head.headers.raw_items()
        self.trailers: Pairs = []
        self.peer = line.peer
        self.upgrade = ""
        self.expects = False
        self.left = length
        self.ended = length == 0
        self.held = 0
        self.failure: BadBody | None = None
        self._chunks = Chunked(line.limits) if length is None else None
        self._received = 0
        self._pieces: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._droppable = -1
        self._gone = False
        if self.version == "1.1":
            upgrade = b""
            changes = False
            for name, value in head.headers:
                if name == b"upgrade" and not upgrade:
                    upgrade = value.partition(b",")[0].strip()
                elif name == b"connection":
                    changes = changes or b"upgrade" in _tokens(value)
                elif name == b"expect" and b"100-continue" in _tokens(value):
                    self.expects = not self.ended
            if changes:
                self.upgrade = upgrade.decode("latin-1").lower()

    async def read(self, most: int) -> bytes | None:
        if self.left is not None and self.left + self.held > most:
            return None
        pieces: list[bytes] = []
        size = 0
        try:
            while (piece := await self._piece()) is not None:
                pieces.append(piece)
                size += len(piece)
                if size > most:
                    break
            else:
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        except BaseException:
            self._give_back(pieces, size)
            raise
        self._give_back(pieces, size)
        return None

    def __aiter__(self) -> ClientRequest:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._piece()
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def _piece(self) -> bytes | None:
        while not self._pieces:
            if self._gone and not self.ended:
                raise ClientGone("the client has left")
            if self.failure is not None:
                raise BadBody(self.failure.status, str(self.failure))
            if self.ended:
                return None
            await self._wait()
        piece = self._pieces.popleft()
        self.held -= len(piece)
        self._line.balance()
        return piece

    async def _wait(self) -> None:
        line = self._line
        if self.expects:
            self.expects = False
            line.write(_CONTINUE)
        if self._waiter is not None:
            raise RuntimeError("the body of a request is read twice at the same time")
        self._waiter = asyncio.get_running_loop().create_future()
        line.arm(self._expect_more, line.limits.idle_seconds)
        try:
            await self._waiter
        finally:
            self._waiter = None
            line.disarm(self._expect_more)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _expect_more(self) -> None:
        seconds = self._line.limits.idle_seconds
        self._fail(BadBody(408, f"The request's body did not come on for {seconds:g} s."))

    def _fail(self, failure: BadBody) -> None:
        self.failure = failure
        self._wake()

    def _give_back(self, pieces: list[bytes], size: int) -> None:
        self._pieces.extendleft(reversed(pieces))
        self.held += size
        self._line.balance()

    def feed(self, data: bytes) -> bytes:
        """Take what came: what of it belongs to the next request."""
        self.expects = False
        if self._chunks is None:
            assert self.left is not None
            piece = data[: self.left] if len(data) > self.left else data
            self.left -= len(piece)
            ended = not self.left
            rest = data[len(piece) :]
        else:
            try:
                piece = self._chunks.feed(data)
            except BadBody as failure:
                self._fail(failure)
                return b""
            ended = self._chunks.ended
            rest = self._chunks.rest
            self.trailers = self._chunks.trailers
        most = self._line.limits.body_bytes
        self._received += len(piece)
        if self._received > most:
            self._fail(BadBody(413, f"The request's body is longer than {most} bytes."))
            return b""
        if self._droppable >= 0:
            self._droppable -= len(piece)
            if self._droppable < 0:
                self._line.give_up()
                return b""
        elif piece:
            self._pieces.append(piece)
            self.held += len(piece)
        self.ended = ended
        if piece or ended:
            self._wake()
        elif self._waiter is not None:
            self._line.arm(self._expect_more, self._line.limits.idle_seconds)
        return rest

    def drop(self, most: int) -> None:
        """Forget the body, and what of it is still to come."""
        self._pieces.clear()
        self.held = 0
        self._droppable = most

    def leave(self) -> None:
        """Know that the client has left."""
        self._gone = True
        self._wake()


class ClientResponse:
    """The answer to a client: see `cachewrap.proxy.messages.Response`.

    Attributes:
        finished: whether all of it was sent, or the connection speaks HTTP no more.
    """

    __slots__ = (
        "_chunked",
        "_empty",
        "_framed",
        "_head",
        "_line",
        "_request",
        "_sends",
        "_state",
        "finished",
        "started",
    )

    def __init__(self, line: Line, state: h11.Connection, request: ClientRequest) -> None:
        self._line = line
        self._state = state
        self._request = request
        self._empty = self._chunked = self._framed = False
        self._head = b""
        self._sends = 0
        self.started = False
        self.finished = False

    @property
    def reusable(self) -> bool:
        """Whether another request may follow."""
        return self._state.our_state is h11.DONE

    async def inform(self, status: int, reason: bytes, headers: Pairs) -> None:
        # The client is asked for its body here, when somebody wants it.
        if self.started or status in (100, 101) or self._request.version == "1.0":
            return
        event = _head(h11.InformationalResponse, status, reason, _without_own(headers))
        self._line.write(self._state.send(event))
        await self._line.drain()

    async def start(self, status: int, reason: bytes, headers: Pairs) -> None:
        if self._line.gone():
            raise ClientGone("the client has left")
        # A first piece that is there goes out with it.
        self._head = self._begin(status, reason, headers)
        asyncio.get_running_loop().call_soon(self._send_head)
        await self._line.drain()

    def _send_head(self) -> None:
        if self._head:
            with suppress(ClientGone):
                self._line.write(self._behind_head(b""))

    def _behind_head(self, data: bytes) -> bytes:
        if self._head:
            data, self._head = self._head + data, b""
        return data

    async def send(self, data: bytes) -> None:
        if not data or self._empty:
            return
        self._line.write(self._behind_head(self._encode(h11.Data(data=data))))
        self._sends += 1
        if not self._sends % _SENDS_IN_A_ROW:
            await asyncio.sleep(0)
        await self._line.drain()

    async def finish(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        if data := self._behind_head(self._end(trailers)):
            self._line.write(data)
        self.finished = True
        await self._line.drain()

    async def whole(self, status: int, reason: bytes, headers: Pairs, body: bytes) -> None:
        if self._request.method == "HEAD":
            if body and not any(name.lower() == b"content-length" for name, _ in headers):
                headers = _with_length(headers, len(body))
        elif status not in _EMPTY:
            headers = _with_length(headers, len(body))
        data = self._begin(status, reason, headers)
        end = h11.EndOfMessage()
        if self._empty or not body:
            self._line.write(data + self._encode(end))
        elif len(body) <= _JOINED_BYTES:
            self._line.write(data + self._encode(h11.Data(data=body)) + self._encode(end))
        else:
            self._line.write(data)
            self._line.write(self._encode(h11.Data(data=body)) + self._encode(end))
        self.finished = True
        await self._line.drain()

    async def pieces(
        self,
        status: int,
        reason: bytes,
        headers: Pairs,
        pieces: Iterable[bytes],
        trailers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        data = bytearray(self._begin(status, reason, headers))
        for piece in pieces:
            if piece and not self._empty:
                data += self._encode(h11.Data(data=piece))
            if len(data) > _JOINED_BYTES:
                self._line.write(bytes(data))
                data.clear()
                await asyncio.sleep(0)
                await self._line.drain()
        self._line.write(bytes(data) + self._end(trailers))
        self.finished = True
        await self._line.drain()

    def abort(self) -> None:
        self._send_head()
        self._line.break_off(self._framed)

    async def upgraded(self, reason: bytes, headers: Pairs) -> Raw:
        headers = _without_own(headers)
        headers.append((b"Connection", b"Upgrade"))
        if all(name.lower() != b"upgrade" for name, _ in headers):
            headers.append((b"Upgrade", self._request.upgrade.encode("latin-1")))
        event = _head(h11.InformationalResponse, 101, reason, headers)
        self._line.write(self._state.send(event))
        self.started = self.finished = True
        return self._line.change()

    async def fail(self, status: int, message: str) -> None:
        """Tell the client so, or break off where the answer has begun."""
        if self.finished:
            return
        if self.started:
            self.abort()
            return
        headers = [(b"content-type", b"application/json"), (b"x-cachewrap", b"bypass")]
        with suppress(ClientGone):
            reason = HTTPStatus(status).phrase.encode()
            await self.whole(status, reason, headers, error_body(message))

    def _begin(self, status: int, reason: bytes, headers: Pairs) -> bytes:
        request = self._request
        headers = _without_own(headers)
        if (
            self._line.last()
            or request.expects
            or request.failure is not None
            or (request.left or 0) > DROPPED_BYTES
        ):
            headers.append((b"Connection", b"close"))
        event = _head(h11.Response, status, reason, headers)
        measured = any(name == b"content-length" for name, _ in event.headers)
        self._empty = status in _EMPTY or request.method == "HEAD"
        self._chunked = not (self._empty or measured) and request.version == "1.1"
        self._framed = self._chunked or measured
        data = self._state.send(event)
        self.started = True
        return data

    def _end(self, trailers: Iterable[tuple[bytes, bytes]]) -> bytes:
        pairs = sendable_trailers(trailers) if self._chunked else []
        return self._encode(h11.EndOfMessage(headers=pairs))

    def _encode(self, event: h11.Data | h11.EndOfMessage) -> bytes:
        try:
            return self._state.send(event)
        except h11.LocalProtocolError:
            self.abort()
            raise ClientGone("the answer is not as long as its head says") from None


class ClientRaw:
    """A connection that speaks HTTP no more: see `cachewrap.proxy.messages.Raw`.

    Attributes:
        held: bytes that wait here.
    """

    __slots__ = ("_ended", "_line", "_pieces", "_waiter", "held")

    def __init__(self, line: Line, data: bytes, ended: bool) -> None:
        self._line = line
        self._pieces = [data] if data else []
        self._ended = ended
        self._waiter: asyncio.Future[None] | None = None
        self.held = len(data)

    async def read(self) -> bytes:
        while not self._pieces and not self._ended:
            if self._waiter is None:
                self._waiter = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._waiter)
        data = b"".join(self._pieces)
        self._pieces.clear()
        self.held = 0
        self._line.balance()
        return data

    async def write(self, data: bytes) -> None:
        if data:
            self._line.write(data)
            await self._line.drain()

    def close(self) -> None:
        self._line.end()

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self._pieces.append(data)
        self.held += len(data)
        self._wake()
        self._line.balance()

    def leave(self) -> None:
        """Know that nothing more comes."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
            self._waiter = None


def error_body(message: str) -> bytes:
    """The JSON that tells of an error."""
    return json.dumps({"error": {"message": message, "type": "cachewrap"}}).encode()


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip() for token in value.lower().split(b",")]


def _without_own(headers: Pairs) -> Pairs:
    return [pair for pair in headers if pair[0].lower() not in _OWN]


def _with_length(headers: Pairs, length: int) -> Pairs:
    number = b"%d" % length
    given = [value for name, value in headers if name.lower() == b"content-length"]
    if given == [number]:
        return headers
    kept = [pair for pair in headers if pair[0].lower() != b"content-length"] if given else headers
    return [*kept, (b"content-length", number)]


def _head(kind: type[_Head], status: int, reason: bytes, headers: Pairs) -> _Head:
    """The head, without headers that cannot be sent."""
    if _NO_REASON.search(reason):
        reason = _NO_REASON.sub(b"", reason)
    try:
        return kind(status_code=status, reason=reason, headers=headers)
    except h11.LocalProtocolError:
        headers = sendable(headers)
        try:
            return kind(status_code=status, reason=reason, headers=headers)
        except h11.LocalProtocolError:
            headers = [pair for pair in headers if pair[0].lower() != b"content-length"]
            return kind(status_code=status, reason=reason, headers=headers)
