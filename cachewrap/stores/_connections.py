"""Where a Redis store meets its server: clients of each colour, one breaker, errors told alike."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any

import redis
from redis.exceptions import RedisClusterException

from cachewrap.errors import StoreError
from cachewrap.stores._breaker import LeftAlone, breaker_of
from cachewrap.stores._servers import Server, server_of

_ERRORS = (redis.RedisError, RedisClusterException, OSError)

_UNREACHABLE = (
    redis.ConnectionError,  # refused, lost, or still loading; no sentinel knows a master
    redis.TimeoutError,
    redis.exceptions.ClusterDownError,
    RedisClusterException,  # no node answers, or some slots have none
    OSError,
)
_ANSWERS = (
    redis.AuthenticationError,  # to be mended by an operator, and answered at once
    redis.exceptions.AuthorizationError,
    redis.exceptions.MaxConnectionsError,  # a limit that the URL sets to ourselves
)


class Connections:
    """The clients of one server: one for sync callers, and one for each running event loop.

    What the URL does not say is set here: connecting and reading may take 1 second each, a lost
    connection is tried once more after 50 milliseconds, and an event loop has 100 connections at
    most, for which its other callers wait.

    Args:
        url: as `server_of` reads it.
        breaker_seconds: the seconds for which the server is left alone when it cannot be reached.

    Raises:
        ConfigurationError: the URL cannot be read.
    """

    def __init__(self, url: str, breaker_seconds: float) -> None:
        self.url = url
        self.breaker_seconds = breaker_seconds
        self.server: Server = server_of(url)
        self.place = self.server.place
        self._breaker = breaker_of(url)
        self._client: Any = None if self.server.asks_at_once else self.server.client()
        self._loops: dict[asyncio.AbstractEventLoop, _Loop] = {}
        self._start()
        _all.add(self)

    def _start(self) -> None:
        self._making = threading.Lock()

    @contextmanager
    def using(self) -> Iterator[Any]:
        """The client of sync callers, for one operation, whose errors become `StoreError`."""
        client = self._client or self._make()
        with self._watched():
            yield client

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Any]:
        """The client of the running event loop, made at the loop's first call, likewise."""
        mine = await self._loop()
        async with mine.turns:
            client = mine.clients[0] if mine.clients else await self._amake(mine)
            with self._watched():
                yield client

    def close(self) -> None:
        """Close the idle connections of sync callers; one in use is another thread's."""
        if self._client is not None:
            with self._told():
                self.server.release(self._client)

    async def aclose(self) -> None:
        """Close the idle connections of the running event loop."""
        known = self._loops.get(asyncio.get_running_loop())
        for client in known.clients if known else ():
            with self._told():
                await self.server.arelease(client)

    def _make(self) -> Any:
        """Make the client; of the threads that want it at once, one asks, and tells the others."""
        with self._making:
            if self._client is None:
                with self._watched():
                    self._client = self.server.client()
            return self._client

    async def _amake(self, mine: _Loop) -> Any:
        async with mine.making:
            if not mine.clients:
                with self._watched() if self.server.asks_at_once else nullcontext():
                    mine.clients.append(await self.server.aclient())
            return mine.clients[0]

    async def _loop(self) -> _Loop:
        loop = asyncio.get_running_loop()
        known = self._loops.get(loop)
        if known is None:
            known = _Loop(self.server)
            for other in list(self._loops):  # other threads' loops come and go meanwhile
                if other.is_closed():
                    self._loops.pop(other, None)
            self._loops[loop] = known
            await anext(known.end)
        return known

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """One operation: refused, counted for the breaker, and its errors told."""
        try:
            trying = self._breaker.admit(self.breaker_seconds)
        except LeftAlone as left:
            until = time.strftime("%H:%M:%S", time.localtime(left.until))
            raise StoreError(
                f"Redis at {self.place} is left alone until {until}, because it could not be"
                f" reached: {type(left.error).__name__}: {left.error}"
            ) from left.error
        try:
            with self._told():
                yield
        except StoreError as error:
            cause = error.__cause__
            if isinstance(cause, _UNREACHABLE) and not isinstance(cause, _ANSWERS):
                self._breaker.failed(cause, self.breaker_seconds)
            elif isinstance(cause, _ERRORS):
                self._breaker.worked()
            elif trying:
                self._breaker.undecided()
            raise
        except BaseException:
            if trying:
                self._breaker.undecided()
            raise
        self._breaker.worked()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        # While a cluster changes, redis-py closes connections that other callers use, and lets
        # whatever comes of it escape: TypeError from asyncio, RuntimeError from a dictionary.
        except Exception as error:
            raise StoreError(
                f"Redis at {self.place} did not do its work: {type(error).__name__}: {error}"
            ) from error


class _Loop:
    """What one event loop has: a client, once it is made, and turns to use it."""

    def __init__(self, server: Server) -> None:
        self.clients: list[Any] = []
        self.turns = asyncio.Semaphore(server.limit)
        self.making = asyncio.Lock()
        self.end = _until_shutdown(server, self.clients)


async def _until_shutdown(server: Server, clients: list[Any]) -> AsyncGenerator[None, None]:
    """Close a loop's connections at the last moment at which that can be done properly.

    A loop closes the asynchronous generators that were started in it when it shuts down, and when
    they are dropped. It must not refer to its owner: collected as a cycle, it would come too late.
    """
    try:
        yield
    finally:
        for client in clients:
            await server.shut(client)


_all: weakref.WeakSet[Connections] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for connections in list(_all):  # another thread of the parent may have held the lock
        connections._start()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
