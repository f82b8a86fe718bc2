"""Connections of a Redis store to its server: clients of each colour, one breaker, one error."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import nullcontext, suppress
from functools import partial
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
from cachewrap.stores.breaker import LeftAlone, breaker_of, left_alone
from cachewrap.stores.redis.budget import LARGE, Budget, TooSlowError, budget
from cachewrap.stores.redis.commands import Batches, Command, Operation, pack
from cachewrap.stores.redis.servers import Server, server_of

_ERRORS = (redis.RedisError, RedisClusterException, OSError)

_UNREACHABLE = (
    redis.ConnectionError,  # refused, lost, or still loading; no sentinel knows a master
    redis.TimeoutError,
    ClusterDownError,
    RedisClusterException,  # no node answers, or some slots have none
    OSError,
    TooSlowError,
)
_SLOW = (redis.TimeoutError, TimeoutError, TooSlowError)
_ANSWERS = (
    redis.AuthenticationError,  # to be mended by an operator, and answered at once
    AuthorizationError,
    MaxConnectionsError,  # a limit that the URL sets to ourselves
)


class Connections:
    """The clients of one server: one for sync callers, and one for each running event loop.

    What the URL does not say is set here: connecting and reading may take half of ``store_seconds``
    each, a lost connection is tried once more after 50 milliseconds, and an event loop has 100
    connections at most, for which its other callers wait.

    Args:
        url: as `server_of` reads it.
        breaker_seconds: the seconds for which the server is left alone when it cannot be reached.
        store_seconds: the seconds that an operation may take, other attempts and nodes included.

    Raises:
        ConfigurationError: the URL cannot be read.
    """

    def __init__(self, url: str, breaker_seconds: float, store_seconds: float) -> None:
        self.url = url
        self.breaker_seconds = breaker_seconds
        self.store_seconds = store_seconds
        self.server: Server = server_of(url, store_seconds)
        self.place = self.server.place
        self.seconds = self.server.seconds
        self._breaker = breaker_of(url)
        # On a slow line a large value takes too long, and nothing else does.
        self._large = breaker_of(f"large {url}")
        self._start()
        _all.add(self)

    def _start(self) -> None:
        self._making = threading.Lock()
        self._client: Any = None if self.server.asks_at_once else self.server.client()
        self._loops: dict[asyncio.AbstractEventLoop, Loop] = {}
        self.idle: list[tuple[Any, float]] = []  # of sync callers, beside their client's pool

    def _leave_behind(self) -> None:
        """Begin anew in a forked child."""
        _inherited.append((self._client, self._loops, self.idle))
        for pool in self.server.pools(self._client) if self._client is not None else ():
            for name in ("_lock", "_fork_lock"):  # an interpreter that ends collects all the same
                if hasattr(pool, name):
                    setattr(pool, name, threading.RLock())
        self._start()

    def using(self, size: int = 0) -> _Use:
        """The client of sync callers, for one operation, whose errors become `StoreError`.

        Args:
            size: bytes of the value that is to be written.
        """
        return _Use(self, size >= LARGE)

    def asking(self, size: int = 0) -> _Asking:
        """`using`, for an operation that takes its connection from `idle`."""
        return _Asking(self, size >= LARGE)

    async def ask(self, commands: Sequence[Command], size: int = 0) -> list[Any]:
        """The answers to commands of an async caller, as `Server.ask` gives them.

        What other tasks of the event loop ask at this moment is sent with them.

        Args:
            commands: the commands.
            size: bytes of the value that is to be written.
        """
        if size >= LARGE or not self.server.batches:
            async with self.running(size) as client:
                return await self.server.aask(client, commands)
        mine = await self.loop()
        try:
            return await mine.batches.ask(
                partial(self._exchange, mine), pack(commands), len(commands)
            )
        except StoreError as error:  # one for all of a batch
            raise StoreError(*error.args) from error.__cause__
        except Exception as error:
            raise self.error(error) from error

    async def _exchange(self, mine: Loop, batch: deque[Operation]) -> None:
        """Answer the operations of a batch."""
        async with mine.turns:
            client = await self.aclient(mine)
            trying, failure = self.admit(), None
            if trying:  # one tries, and not all
                mine.batches.put_back(partial(self._exchange, mine), batch, keep=1)
            budget.set(Budget(self.seconds))
            try:
                await self.server.exchange(client, batch, mine.idle)
            except BaseException as error:
                failure = error
                raise
            finally:
                self.note(failure, trying)

    def running(self, size: int = 0) -> _AsyncUse:
        """The client of the running event loop, made at the loop's first call, likewise."""
        return _AsyncUse(self, size >= LARGE)

    def close(self) -> None:
        """Close the idle connections of sync callers; one in use is another thread's."""
        if self._client is not None:
            with self.told():
                self.hand_back(self._client)
                self.server.release(self._client)

    async def aclose(self) -> None:
        """Close the idle connections of the running event loop."""
        known = self._loops.get(asyncio.get_running_loop())
        if known is None:
            return
        for client in known.clients:
            with self.told():
                await known.hand_back(client)
                await self.server.arelease(client)

    def hand_back(self, client: Any) -> None:
        """Give the idle connections back to their pool, where whoever is next finds them."""
        with suppress(IndexError):  # other threads take and leave them meanwhile
            while self.idle:  # never with a cluster, whose client has no pool of its own
                client.connection_pool.release(self.idle.pop()[0])

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

    def admit(self, large: bool = False) -> bool:
        """Whether this operation tries a server that is left alone, for all.

        Args:
            large: whether a large value is to be written.

        Raises:
            StoreError: it is left alone.
        """
        why = "writing one took too long"
        try:
            if large:
                self._large.admit(self.breaker_seconds)
            why = "it could not be reached"
            return self._breaker.admit(self.breaker_seconds)
        except LeftAlone as left:
            what = f"Redis at {self.place} is"
            if why != "it could not be reached":
                what = f"large values are not written: {what}"
            raise left_alone(what, left, why) from left.error

    def note(self, error: BaseException | None, trying: bool, large: bool = False) -> None:
        """Tell the breaker how an operation went."""
        if large and isinstance(error, _SLOW):
            self._large.failed(error, self.breaker_seconds)
            if trying:
                self._breaker.undecided()
            return
        if large:
            self._large.worked()
        if error is None or isinstance(error, _ANSWERS):
            self._breaker.worked()
        elif isinstance(error, _UNREACHABLE):
            self._breaker.failed(error, self.breaker_seconds)
        elif isinstance(error, _ERRORS):
            self._breaker.worked()
        elif trying:
            self._breaker.undecided()

    def error(self, error: Exception) -> StoreError:
        """The error as callers of a store know it."""
        return StoreError(
            f"Redis at {self.place} did not do its work: {type(error).__name__}: {error}"
        )

    def told(self) -> _Told:
        """Raise errors as callers of a store know them."""
        return _Told(self)


class _Told:
    """A block whose errors callers of a store are told; `StopIteration` is none."""

    __slots__ = ("_connections",)

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            raise self._connections.error(error) from error


class _Watch:
    """One operation: refused, counted for the breaker, and its errors told.

    A class, as this is the way of every hit, and a generator costs more than the rest of it.
    """

    __slots__ = ("_connections", "_large", "_trying")

    _interrupted = False  # whether an interrupt may come between a command and its answer

    def __init__(self, connections: Connections, large: bool = False) -> None:
        self._connections = connections
        self._large = large

    def __enter__(self) -> None:
        self._trying = self._connections.admit()
        budget.set(Budget(self._connections.seconds))

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._connections.note(error, self._trying, self._large)
        # While a cluster changes, redis-py closes connections that other callers use, and lets
        # whatever comes of it escape: TypeError from asyncio, RuntimeError from a dictionary.
        if isinstance(error, Exception):
            raise self._connections.error(error) from error
        if error is not None and self._interrupted:
            # An answer that is on its way would be taken for that to the next command.
            with suppress(StoreError):
                self._connections.close()


class _Asking(_Watch):
    """One operation of a sync caller whose commands are sent together."""

    __slots__ = ()

    _interrupted = True

    def __enter__(self) -> Any:
        connections = self._connections
        client = connections._client or connections.client()
        self._trying = connections.admit(self._large)
        budget.set(Budget(connections.seconds))
        return client


class _Use(_Asking):
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
            self._trying = connections.admit(self._large)
            budget.set(Budget(connections.seconds))
            if mine.idle:
                await mine.hand_back(client)
        except BaseException:
            mine.turns.release()
            raise
        return client

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._turns.release()
        self.__exit__(kind, error, trace)


class Loop:
    """The share of one event loop: a client, once it is made, turns to use it, and batches."""

    def __init__(self, server: Server) -> None:
        self.clients: list[Any] = []
        self.turns = asyncio.Semaphore(server.limit)
        self.making = asyncio.Lock()
        self.batches = Batches(server.limit)
        self.idle: list[Any] = []  # connections of batches, beside their client's pool
        self.end = _until_shutdown(server, self.clients)

    async def hand_back(self, client: Any) -> None:
        """Give the connections of batches back to their pool, where whoever is next finds them."""
        while self.idle:
            await client.connection_pool.release(self.idle.pop())


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


_inherited: list[Any] = []
"""What the parent of a forked child had. It is never collected here, as that takes its locks."""


@systems.in_forked_child
def _after_fork_in_child() -> None:
    # Another thread of the parent may have held a lock of a client's, and its sockets are the
    # parent's: the child makes clients of its own, and never closes those.
    for connections in list(_all):
        connections._leave_behind()
