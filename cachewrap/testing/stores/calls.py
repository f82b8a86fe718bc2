"""The operations of a store in both colours, and what the tests of every store ask with."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from cachewrap.stores.base import Claim, Leases, Store

_T = TypeVar("_T")

FORK: Any = getattr(os, "fork", None)
"""Forks this process; None where none can be."""

VALUES = {
    "empty": b"",
    "one zero byte": b"\0",
    "not text": bytes(range(256)),
    "8 KB": os.urandom(2**13),
    "1 MiB and around": b"x" * 2**20,
    "5 MB": os.urandom(5_000_000),
}
"""Values that a store must hand back as they were."""


def key_of(name: object) -> str:
    """A store's key for anything: 64 hexadecimal characters."""
    return hashlib.sha256(str(name).encode()).hexdigest()


class Calls(Protocol):
    """A store's operations in one colour, called as if they were sync.

    Those of leases are there where the store has them.
    """

    store: Store

    def of(self, store: Store) -> Calls:
        """The same colour on another store."""
        ...

    def get(self, key: str) -> bytes | None: ...
    def add(
        self, key: str, value: bytes, *, expires: float = 0.0, over: bytes | None = None
    ) -> bytes: ...
    def set(self, key: str, value: bytes, *, expires: float = 0.0) -> None: ...
    def delete(self, key: str) -> bool: ...
    def keys(self) -> list[str]: ...
    def clear(self) -> int: ...
    def acquire(self, key: str, token: str, seconds: float) -> Claim: ...
    def renew(self, key: str, token: str, seconds: float) -> bool: ...
    def release(self, key: str, token: str, *, failed: bool = False) -> None: ...
    def close(self) -> None: ...


class SyncCalls:
    """The sync operations."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.get = store.get
        self.add = store.add
        self.set = store.set
        self.delete = store.delete
        self.clear = store.clear
        self.close = store.close
        if isinstance(store, Leases):
            self.acquire = store.acquire
            self.renew = store.renew
            self.release = store.release

    def of(self, store: Store) -> SyncCalls:
        return SyncCalls(store)

    def keys(self) -> list[str]:
        return list(self.store.keys())


class AsyncCalls:
    """The async operations, each run to its end on one event loop."""

    def __init__(self, store: Store, runner: asyncio.Runner) -> None:
        self.store = store
        self._runner = runner
        self.get = self._run(store.aget)
        self.add = self._run(store.aadd)
        self.set = self._run(store.aset)
        self.delete = self._run(store.adelete)
        self.clear = self._run(store.aclear)
        self.close = self._run(store.aclose)
        if isinstance(store, Leases):
            self.acquire = self._run(store.aacquire)
            self.renew = self._run(store.arenew)
            self.release = self._run(store.arelease)

    def of(self, store: Store) -> AsyncCalls:
        return AsyncCalls(store, self._runner)

    def keys(self) -> list[str]:
        return self._runner.run(_listed(self.store.akeys()))

    def _run(self, operation: Callable[..., Coroutine[Any, Any, _T]]) -> Callable[..., _T]:
        return lambda *values, **options: self._runner.run(operation(*values, **options))


async def _listed(keys: AsyncIterator[str]) -> list[str]:
    return [key async for key in keys]


def at_once(count: int, work: Callable[[int], _T]) -> list[_T]:
    """Run the work in so many threads that start together; what each returned."""
    start = threading.Barrier(count)

    def run(number: int) -> _T:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


@contextmanager
def partition(calls: Calls, seed: str) -> Iterator[Calls]:
    """The partition of another seed in the same place and colour, cleared afterwards."""
    other = calls.of(calls.store.reseed(seed))
    try:
        yield other
    finally:
        other.clear()
        other.close()
