"""The budget of one operation on a server: its time and its bytes, whatever the server does."""

from __future__ import annotations

import asyncio
import functools
from contextvars import ContextVar
from typing import Any, Final

import redis
import redis.cluster

from cachewrap.systems import clock

_redis: Any = redis  # typed differently in every version, and in parts not at all

_PACE: Final = 2**20
"""Bytes that an answer brings in a second, at least: for so many it may take a second longer."""

_LONGEST: Final = 5
"""An operation whose answer is large takes so many times as long as another, at most."""

MOST_BYTES: Final = 2**28
"""Bytes that the answers to one operation may have: a server can promise any number."""


class TooSlowError(redis.RedisError):
    """Raised in the midst of an operation that has taken too long. It is not tried again."""


class TooLargeError(redis.RedisError):
    """Raised in the midst of answers that are larger than those to one operation may be."""


class Budget:
    """The time and the bytes that one operation has, attempts and other nodes included.

    redis-py gives each attempt, each node and each piece of an answer its time anew.

    Args:
        seconds: the time, to which is added what a large answer takes.
    """

    __slots__ = ("_bytes", "_end", "_last")

    def __init__(self, seconds: float) -> None:
        now = clock.now()
        self._end = now + seconds
        self._last = now + seconds * _LONGEST
        self._bytes = 0

    def spend(self, count: int = 0) -> None:
        """Count bytes that came. Raises `TooSlowError` and `TooLargeError`."""
        self._bytes += count
        now = clock.now()
        if now > self._end and now > min(self._end + self._bytes / _PACE, self._last):
            raise TooSlowError("the server took too long for one operation")
        if self._bytes > MOST_BYTES:
            raise TooLargeError(f"the server answers with more than {MOST_BYTES} bytes")


_NONE: Final = Budget(float("inf"))
budget: Final[ContextVar[Budget]] = ContextVar("budget", default=_NONE)
"""What the operation under way has."""


class _Socket:
    """A socket whose operations spend their budget."""

    __slots__ = ("_recv", "_recv_into", "_socket", "sendall", "settimeout")

    def __init__(self, connected: Any) -> None:
        self._socket = connected
        self._recv = connected.recv
        self._recv_into = connected.recv_into
        self.sendall = connected.sendall
        self.settimeout = connected.settimeout

    def recv(self, *args: Any) -> bytes:
        data: bytes = self._recv(*args)
        budget.get().spend(len(data))
        return data

    def recv_into(self, *args: Any) -> int:
        count: int = self._recv_into(*args)
        budget.get().spend(count)
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


class _Stream(asyncio.StreamReader):
    """A stream of which so many bytes are taken until the next command, and no more."""

    _left = MOST_BYTES

    def feed_data(self, data: Any) -> None:
        self._left -= len(data)
        if self._left < 0:
            self.set_exception(
                TooLargeError(f"the server answers with more than {MOST_BYTES} bytes")
            )
        else:
            super().feed_data(data)


@functools.cache
def bounded(kind: Any) -> Any:
    """A class of connections of redis-py, with the budget of the operation under way."""
    connect, send = kind._connect, kind.send_packed_command
    if not asyncio.iscoroutinefunction(connect):

        def _connect(self: Any) -> Any:
            budget.get().spend()
            return _Socket(connect(self))

        return type(kind.__name__, (kind,), {"_connect": _connect})

    async def _aconnect(self: Any) -> None:
        budget.get().spend()
        await connect(self)
        if type(self._reader) is asyncio.StreamReader:
            self._reader.__class__ = _Stream

    async def send_packed_command(self: Any, *args: Any, **options: Any) -> None:
        budget.get().spend()
        if type(self._reader) is _Stream:
            self._reader._left = MOST_BYTES
        await send(self, *args, **options)

    return type(
        kind.__name__,
        (kind,),
        {"_connect": _aconnect, "send_packed_command": send_packed_command},
    )


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
