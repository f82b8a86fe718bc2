"""The operations of a store, sync and async, and what the tests of every store ask with."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from cachewrap.stores.base import Claim, Leases, Many, Operation, Pairs, Store

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


_EVERY: Final = ("get", "add", "set", "delete", "clear", "close")
_OF_LEASES: Final = ("acquire", "renew", "release")
_OF_PAIRS: Final = ("acquire_and_get", "add_and_release")
_OF_MANY: Final = ("do_many",)


class Calls:
    """A store's operations in one colour, called as if they were sync.

    Those of leases, pairs and many are there where the store has them.
    """

    get: Callable[[str], bytes | None]
    add: Callable[..., bytes]
    set: Callable[..., None]
    delete: Callable[[str], bool]
    clear: Callable[[], int]
    acquire: Callable[[str, str, float], Claim]
    renew: Callable[[str, str, float], bool]
    release: Callable[..., None]
    acquire_and_get: Callable[[str, str, float], tuple[Claim, bytes | None]]
    add_and_release: Callable[..., tuple[bytes, bool]]
    do_many: Callable[[list[Operation]], list[Any]]
    close: Callable[[], None]

    def __init__(self, store: Store, runner: asyncio.Runner | None = None) -> None:
        self.store = store
        self._runner = runner
        some = _OF_LEASES * isinstance(store, Leases) + _OF_PAIRS * isinstance(store, Pairs)
        some += _OF_MANY * isinstance(store, Many)
        for name in _EVERY + some:
            sync = getattr(store, name)
            setattr(
                self, name, sync if runner is None else _run(runner, getattr(store, f"a{name}"))
            )

    def of(self, store: Store) -> Calls:
        """The same colour on another store."""
        return type(self)(store, self._runner)

    def keys(self) -> list[str]:
        if self._runner is None:
            return list(self.store.keys())
        return self._runner.run(_listed(self.store.akeys()))


class SyncCalls(Calls):
    """The sync operations."""


class AsyncCalls(Calls):
    """The async operations, each run to its end on one event loop."""


def _run(
    runner: asyncio.Runner, operation: Callable[..., Coroutine[Any, Any, _T]]
) -> Callable[..., _T]:
    return lambda *values, **options: runner.run(operation(*values, **options))


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


def in_forked_child(work: Callable[[], object]) -> None:
    """Do the work in a forked child, and fail where it fails there."""
    child = FORK()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@contextmanager
def partition(calls: Calls, seed: str) -> Iterator[Calls]:
    """The partition of another seed in the same place and colour, cleared afterwards."""
    other = calls.of(calls.store.reseed(seed))
    try:
        yield other
    finally:
        other.clear()
        other.close()
