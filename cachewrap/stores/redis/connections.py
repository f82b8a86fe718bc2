"""Connections of a Redis store to its server: clients of each colour, one breaker, one error."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import redis
from redis.exceptions import (
    AuthorizationError,
    ClusterDownError,
    MaxConnectionsError,
    RedisClusterException,
    ResponseError as ResponseError,
)

from cachewrap import systems
from cachewrap.errors import StoreError
from cachewrap.stores.redis.servers import Server, server_of

_ERRORS = (redis.RedisError, RedisClusterException, OSError)

_UNREACHABLE = (
    redis.ConnectionError,  # refused, lost, or still loading; no sentinel knows a master
    redis.TimeoutError,
    ClusterDownError,
    RedisClusterException,  # no node answers, or some slots have none
    OSError,
)
_ANSWERS = (
    redis.AuthenticationError,  # to be mended by an operator, and answered at once
    AuthorizationError,
    MaxConnectionsError,  # a limit that the URL sets to ourselves
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
        self._loops: dict[asyncio.AbstractEventLoop, Loop] = {}
        self._start()
        _all.add(self)

    def _start(self) -> None:
        self._making = threading.Lock()
        self.idle: list[Any] = []  # of sync callers, beside their client's pool

    def using(self) -> _Use:
        """The client of sync callers, for one operation, whose errors become `StoreError`."""
        return _Use(self)

    def reading(self) -> _Read:
        """`using`, for an operation that takes its connection from `idle`."""
        return _Read(self)

    def running(self) -> _AsyncUse:
        """The client of the running event loop, made at the loop's first call, likewise."""
        return _AsyncUse(self)

    def close(self) -> None:
        """Close the idle connections of sync callers; one in use is another thread's."""
        if self._client is not None:
            with self._told():
                self.hand_back(self._client)
                self.server.release(self._client)

    async def aclose(self) -> None:
        """Close the idle connections of the running event loop."""
        known = self._loops.get(asyncio.get_running_loop())
        for client in known.clients if known else ():
            with self._told():
                await self.server.arelease(client)

    def hand_back(self, client: Any) -> None:
        """Give the idle connections back to their pool, where whoever is next finds them."""
        with suppress(IndexError):  # other threads take and leave them meanwhile
            while self.idle:  # never with a cluster, whose client has no pool of its own
                client.connection_pool.release(self.idle.pop())

    def client(self) -> Any:
        """The client of sync callers; of the threads that want it at first, one makes it."""
        if self._client is None:
            with self._making:
                if self._client is None:
                    with _Watch(self):
                        self._client = self.server.client()
        return self._client

    async def aclient(self, mine: Loop) -> Any:
        """The client of an event loop."""
        if not mine.clients:
            async with mine.making:
                if not mine.clients:
                    with _Watch(self) if self.server.asks_at_once else nullcontext():
                        mine.clients.append(await self.server.aclient())
        return mine.clients[0]

    async def loop(self) -> Loop:
        """What the running event loop has."""
        loop = asyncio.get_running_loop()
        known = self._loops.get(loop)
        if known is None:
            known = Loop(self.server)
            for other in list(self._loops):  # other threads' loops come and go meanwhile
                if other.is_closed():
                    self._loops.pop(other, None)
            self._loops[loop] = known
            await anext(known.end)
        return known

    def admit(self) -> bool:
        """Whether this operation tries a server that is left alone, for all.

        Raises:
            StoreError: it is left alone.
        """
        try:
            return self._breaker.admit(self.breaker_seconds)
        except LeftAlone as left:
            until = time.strftime("%H:%M:%S", time.localtime(left.until))
            raise StoreError(
                f"Redis at {self.place} is left alone until {until}, because it could not be"
                f" reached: {type(left.error).__name__}: {left.error}"
            ) from left.error

    def note(self, error: BaseException | None, trying: bool) -> None:
        """Tell the breaker how an operation went."""
        if error is None or isinstance(error, _ANSWERS):
            self._breaker.worked()
        elif isinstance(error, _UNREACHABLE):
            self._breaker.failed(error, self.breaker_seconds)
        elif isinstance(error, _ERRORS):
            self._breaker.worked()
        elif trying:
            self._breaker.undecided()

    def told(self, error: Exception) -> StoreError:
        """The error as callers of a store know it."""
        return StoreError(
            f"Redis at {self.place} did not do its work: {type(error).__name__}: {error}"
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise self.told(error) from error


class _Watch:
    """One operation: refused, counted for the breaker, and its errors told.

    A class, as this is the way of every hit, and a generator costs more than the rest of it.
    """

    __slots__ = ("_connections", "_trying")

    _interrupted = False  # whether an interrupt may come between a command and its answer

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def __enter__(self) -> None:
        self._trying = self._connections.admit()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._connections.note(error, self._trying)
        # While a cluster changes, redis-py closes connections that other callers use, and lets
        # whatever comes of it escape: TypeError from asyncio, RuntimeError from a dictionary.
        if isinstance(error, Exception):
            raise self._connections.told(error) from error
        if error is not None and self._interrupted:
            # An answer that is on its way would be taken for that to the next command.
            with suppress(StoreError):
                self._connections.close()


class _Read(_Watch):
    """One read of a sync caller."""

    __slots__ = ()

    _interrupted = True

    def __enter__(self) -> Any:
        connections = self._connections
        client = connections.client()
        self._trying = connections.admit()
        return client


class _Use(_Read):
    """One operation of a sync caller."""

    __slots__ = ()

    def __enter__(self) -> Any:
        client = super().__enter__()
        if self._connections.idle:
            self._connections.hand_back(client)
        return client


class _AsyncUse(_Watch):
    """One operation of an async caller, in its turn."""

    __slots__ = ("_turns",)

    async def __aenter__(self) -> Any:
        connections = self._connections
        mine = await connections.loop()
        self._turns = mine.turns
        await mine.turns.acquire()
        try:
            client = await connections.aclient(mine)
            self._trying = connections.admit()
        except BaseException:
            mine.turns.release()
            raise
        return client

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._turns.release()
        self.__exit__(kind, error, trace)


class Loop:
    """The share of one event loop: a client, once it is made, and turns to use it."""

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


# -- the breaker -------------------------------------------------------------------------------


class LeftAlone(Exception):
    """The server is not to be asked now.

    Attributes:
        until: when it may be asked again, in seconds since the epoch.
        error: what the client library said when it was asked last, without its traceback.
    """

    def __init__(self, until: float, error: Exception) -> None:
        super().__init__(until, error)
        self.until = until
        self.error = error


class Breaker:
    """The health of one server as this process knows it; every client of the server shares it.

    It is closed at first. `failed` opens it, and nobody is admitted until ``seconds`` seconds
    have passed. Then one caller is, to try for all: `worked` closes the breaker, `failed` opens it
    for as long again, and `undecided` lets the next caller try.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: Exception | None = None
        self._next = 0.0  # on the monotonic clock: when somebody may try

    def admit(self, seconds: float) -> bool:
        """Whether the caller tries for all; False if the breaker is closed.

        Raises:
            LeftAlone: the caller must not ask the server.
        """
        if self._error is None:
            return False
        with self._lock:
            if self._error is None:
                return False
            left = self._next - time.monotonic()
            if left > 0:
                raise LeftAlone(time.time() + left, self._error)
            self._next = time.monotonic() + seconds
            return True

    def failed(self, error: Exception, seconds: float) -> None:
        """Open it: the server could not be reached, retries included."""
        kind = type(error)
        kept = kind.__new__(kind, *error.args)  # the traceback would keep the caller's values
        kept.__dict__.update(error.__dict__)  # without which some versions of redis-py show nothing
        with self._lock:
            self._error = kept
            self._next = time.monotonic() + seconds

    def worked(self) -> None:
        """Close it: the server has answered."""
        if self._error is not None:
            with self._lock:
                self._error = None

    def undecided(self) -> None:
        """Let the next caller try: the one that tried for all was cancelled."""
        with self._lock:
            self._next = 0.0

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()


_breakers: dict[str, Breaker] = {}


def breaker_of(server: str) -> Breaker:
    """The breaker of a server, by any name that tells it from others."""
    return _breakers.setdefault(server, Breaker())


def forget() -> None:
    """Close every breaker of this process."""
    for breaker in list(_breakers.values()):
        breaker.worked()


@systems.in_forked_child
def _after_fork_in_child() -> None:
    # Another thread of the parent may have held the locks.
    for breaker in _breakers.values():
        breaker._renew_lock()
    for connections in list(_all):
        connections._start()
