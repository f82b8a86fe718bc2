"""The budget of one operation on a server: its time and its bytes, whatever the server does."""

from __future__ import annotations

import asyncio
import functools
from contextvars import ContextVar
from typing import Any, Final

import redis
import redis.cluster

from cachewrap.entry import MAX_ENTRY_BYTES
from cachewrap.systems import clock

_redis: Any = redis  # typed differently in every version, and in parts not at all

_PACE: Final = 2**20
"""Bytes that come or go in a second, at least: for so many an operation may take a second longer.
"""

LARGE: Final = _PACE
"""Bytes of a value from which on it is written piece by piece, and has more time."""

_PIECE: Final = 2**18
_SILENT: Final = 3
"""So many times what an answer may take nothing of a large value needs to go: a system has a large
buffer, and tells that there is room in it when much of it is free."""

_LONGEST: Final = 5
"""An operation on what is large takes so many times as long as another, at most."""

MOST_BYTES: Final = MAX_ENTRY_BYTES
"""Bytes that the answers to one operation may have: a server can promise any number."""


class TooSlowError(redis.RedisError):
    """Raised in the midst of an operation that has taken too long. It is not tried again."""


class TooLargeError(redis.RedisError):
    """Raised in the midst of answers that are larger than those to one operation may be."""

    def __init__(self) -> None:
        super().__init__(f"the server answers with more than {MOST_BYTES} bytes")


class Budget:
    """The time and the bytes that one operation has, attempts and other nodes included.

    redis-py gives each attempt, each node and each piece of an answer its time anew.

    Args:
        seconds: the time, to which is added what a large answer takes, or a large value.

    Attributes:
        large: whether a large value was sent: its answer may be late.
    """

    __slots__ = ("_bytes", "_end", "_last", "large")

    def __init__(self, seconds: float) -> None:
        now = clock.now()
        self._end = now + seconds
        self._last = now + seconds * _LONGEST
        self._bytes = 0
        self.large = False

    def left(self) -> float:
        """Seconds until the end, for what has sent as much as it will."""
        return min(self._end - clock.now(), _LONGEST_SLICE)

    def begin(self) -> None:
        """Begin with another connection, which was sent nothing yet."""
        self.spend()
        self.large = False

    def send(self, count: int) -> None:
        """Count bytes of a large value that are to go."""
        self.large = True
        self._end = min(self._end + count / _PACE, self._last)

    def came(self, count: int) -> None:
        """Count bytes that came."""
        self._bytes += count

    def spend(self, count: int = 0) -> None:
        """Count bytes that came. Raises `TooSlowError` and `TooLargeError`."""
        self._bytes += count
        now = clock.now()
        if now > self._end and now > min(self._end + self._bytes / _PACE, self._last):
            raise TooSlowError("the server took too long for one operation")
        if self._bytes > MOST_BYTES:
            raise TooLargeError


_LONGEST_SLICE: Final = 3600.0
"""Seconds that are waited at once: not every system takes any number."""

_NONE: Final = Budget(float("inf"))
budget: Final[ContextVar[Budget]] = ContextVar("budget", default=_NONE)
"""What the operation under way has."""


class _Socket:
    """A socket whose operations spend their budget."""

    __slots__ = ("_recv", "_recv_into", "_sendall", "_socket", "settimeout")

    def __init__(self, connected: Any) -> None:
        self._socket = connected
        self._recv = connected.recv
        self._recv_into = connected.recv_into
        self._sendall = connected.sendall
        self.settimeout = connected.settimeout

    def sendall(self, data: Any) -> None:
        if len(data) < LARGE:
            self._sendall(data)
            return
        mine, whole, own = budget.get(), memoryview(data), self._socket.gettimeout()
        mine.send(len(whole))
        self.settimeout(own and own * _SILENT)
        try:
            for at in range(0, len(whole), _PIECE):
                self._sendall(whole[at : at + _PIECE])
                mine.spend()
        finally:
            self.settimeout(own)

    def recv(self, *args: Any) -> bytes:
        data: bytes
        try:
            data = self._recv(*args)
        except TimeoutError:
            data = self._late(self._recv, *args)
        budget.get().spend(len(data))
        return data

    def recv_into(self, *args: Any) -> int:
        count: int
        try:
            count = self._recv_into(*args)
        except TimeoutError:
            count = self._late(self._recv_into, *args)
        budget.get().spend(count)
        return count

    def _late(self, receive: Any, *args: Any) -> Any:
        """The answer to a large value, of which a part may still be on its way."""
        mine, own = budget.get(), self._socket.gettimeout()
        left = mine.left()
        if not (mine.large and own and left > 0):
            raise
        self.settimeout(left)
        try:
            return receive(*args)
        finally:
            self.settimeout(own)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


class _Stream(asyncio.StreamReader):
    """A stream of which so many bytes are taken until the next command, and no more."""

    _left = MOST_BYTES

    def feed_data(self, data: Any) -> None:
        self._left -= len(data)
        if self._left < 0:
            self.set_exception(TooLargeError())
        else:
            super().feed_data(data)


def _unsent(connection: Any) -> int:
    """Bytes that wait for their way to the server."""
    writer = connection._writer
    return 0 if writer is None else writer.transport.get_write_buffer_size()


@functools.cache
def bounded(kind: Any) -> Any:
    """A class of connections of redis-py, with the budget of the operation under way."""
    connect, send, read = kind._connect, kind.send_packed_command, kind.read_response
    if not asyncio.iscoroutinefunction(connect):

        def _connect(self: Any) -> Any:
            budget.get().begin()
            return _Socket(connect(self))

        return type(kind.__name__, (kind,), {"_connect": _connect})

    async def _aconnect(self: Any) -> None:
        budget.get().begin()
        await connect(self)
        if type(self._reader) is asyncio.StreamReader:
            self._reader.__class__ = _Stream

    async def send_packed_command(self: Any, command: Any, check_health: bool = True) -> None:
        budget.get().spend()
        if type(self._reader) is _Stream:
            self._reader._left = MOST_BYTES
        size = sum(map(len, command)) if type(command) is list else 0
        if size < LARGE:
            await send(self, command, check_health)
            return
        if not self.is_connected:
            await self.connect()
        if check_health:
            await self.check_health()
        await _send_large(self, send, command, size)

    async def read_response(self: Any, *args: Any, **options: Any) -> Any:
        patience = self.socket_timeout
        if not patience or len(args) > 1 or options.get("timeout") is not None:
            return await read(self, *args, **options)
        stream, mine, silent = self._reader, budget.get(), 0
        while True:
            left, began = getattr(stream, "_left", 0), clock.now()
            ahead = _unsent(self) if mine.large else 0
            # With a time-out of its caller's redis-py gives None for what has not come, and goes on
            # where it was; with its own one it would hang up.
            answer = await read(self, *args, timeout=patience, **options)
            if answer is not None or clock.now() - began < patience:
                return answer
            came = left - getattr(stream, "_left", 0)
            silent = silent + 1 if _unsent(self) >= ahead > 0 else 0
            try:
                # Of a large value a part may still be on its way, also where none is seen here.
                late = mine.large and mine.left() > 0 and silent < _SILENT
                if came <= 0 and not late:
                    raise redis.TimeoutError("Timeout reading from the server")
                mine.spend(max(came, 0))
            except redis.RedisError:
                await self.disconnect(nowait=True)
                raise

    return type(
        kind.__name__,
        (kind,),
        {
            "_connect": _aconnect,
            "read_response": read_response,
            "send_packed_command": send_packed_command,
        },
    )


async def _send_large(connection: Any, send: Any, command: list[bytes], size: int) -> None:
    """Send a large value for as long as some of it goes on its way."""
    own, mine = connection.socket_timeout, budget.get()
    mine.send(size)
    connection.socket_timeout = mine.left()
    sending, ahead = asyncio.ensure_future(send(connection, command, False)), size + 1
    silence = own and own * _SILENT
    try:
        while not (await asyncio.wait((sending,), timeout=silence))[0]:
            before, ahead = ahead, _unsent(connection)
            if ahead >= before:
                raise redis.TimeoutError("Timeout writing to the server")
        await sending
    except BaseException:
        sending.cancel()
        await asyncio.wait((sending,))
        await connection.disconnect(nowait=True)
        raise
    finally:
        connection.socket_timeout = own


def bind(pool: Any) -> None:
    """Let the connections that a pool makes from now on be `bounded`."""
    pool.connection_class = bounded(pool.connection_class)


class BoundedCluster(_redis.RedisCluster):  # type: ignore[misc]
    """A cluster's client, whose first connections are made before its nodes are known."""

    def on_connect(self, connection: Any) -> None:
        if type(connection._sock) is not _Socket:
            connection._sock = _Socket(connection._sock)
        budget.get().spend()
        super().on_connect(connection)
