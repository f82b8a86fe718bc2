"""The contract of a store: what every one must do, and in segments what some can do more."""

from __future__ import annotations

import atexit
import enum
import itertools
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeAlias, TypeVar, runtime_checkable

from cachewrap import systems
from cachewrap.loops import Workers

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

Operation: TypeAlias = tuple[str, tuple[Any, ...], dict[str, Any]]
"""The name of a store's method, and the arguments that it is called with."""


_workers = Workers()

_AT_THE_END: Final = 10.0
"""Seconds for which an interpreter that ends waits for what is written."""


async def in_thread(work: Callable[..., T], *args: Any, **options: Any) -> T:
    """Do blocking work in a thread of the package's own.

    The event loop's default executor may be full of callers who wait for this very work.
    """
    return await _of_now().do(partial(work, *args, **options))


def begin_in_thread(loop: asyncio.AbstractEventLoop, work: Callable[[], object]) -> None:
    """Have blocking work of callers on a loop done in such a thread, which tells them itself."""
    _of_now().begin(loop, work)


def _of_now() -> Workers:
    global _workers
    if _workers.made_by is not threading.Lock:
        _workers = Workers()
    return _workers


@atexit.register
def _finish() -> None:
    _workers.finish(_AT_THE_END)


_LISTED: Final = 500
"""Keys that `Store.akeys` lists in a thread at once."""

_process = uuid.uuid4().hex
_owners = itertools.count(1)


@systems.in_forked_child
def _begin_anew() -> None:
    global _process, _workers
    _process = uuid.uuid4().hex
    _workers = Workers()  # the threads of the parent do not exist in a forked child


def new_token() -> str:
    """The name of an owner of a lease: this process and, behind a dash, a call of its own."""
    return f"{_process}-{next(_owners)}"


def of_one_process(token: str, other: str) -> bool:
    """Whether two calls of one process own the tokens.

    The calls of a process share what they ask by themselves, so that the lease which keeps one of
    them out is left over: it could not be given back.
    """
    return token.partition("-")[0] == other.partition("-")[0]


class Claim(enum.Enum):
    """The outcome of an attempt to take a lease."""

    TAKEN = "taken"
    """The lease is the caller's now."""

    HELD = "held"
    """Another owner has it, and lives."""

    FAILED = "failed"
    """The last owner's call failed moments ago, or what is held is a leftover of this process:
    whoever waited for it goes upstream itself."""


class Store(ABC):
    """One partition: the entries of one seed in one place. This much every store must do.

    Keys are 64 lower-case hexadecimal characters, values are bytes. A store is cheap to make: it
    opens its file or connection at the first operation, opens it again after `close`, and may be
    used from several threads and event loops at once, and after a fork.

    `add` decides which of several answers stands, so it is one atomic step for everybody who
    reaches the place. What has no put-if-absent of its own, nor a lock that all of them share, can
    be no store.

    Every method raises `StoreError` (with the client library's error as its cause) when the store
    cannot do its work, and nothing else.

    The async methods of this class suit a store whose reads take microseconds: reads stay inline,
    writes hop to a thread. A store that waits on a network overrides them all.

    What a store can do more is said by the segments below, each of them a protocol of its own:
    `Leases`, `Pairs`, `Many`, `Scans`, `Seeds`, `Uses`, `Logs` and `Checks`. A store has a segment
    that its class derives from, and also one whose methods its class or the object itself has
    without that, so that it may depend on the platform, or on another store behind this one.
    """

    bounded: bool = False
    """Whether the store itself bounds each wait, and leaves its place alone after one in vain.

    A cache times the operations of others, and leaves a store alone that was slow. It cannot end an
    operation that does not end.
    """

    @property
    @abstractmethod
    def url(self) -> str:
        """Where the entries are, as a URL without credentials; equal for equal places."""

    @abstractmethod
    def reseed(self, seed: str) -> Self:
        """The partition of another seed in the same place, sharing connections where it can."""

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """The value under the key, or None."""

    @abstractmethod
    def add(
        self, key: str, value: bytes, *, expires: float = 0.0, over: bytes | None = None
    ) -> bytes:
        """Store the value if the key is absent, in one atomic step; return what is there then.

        Args:
            key: the key.
            value: the bytes to store.
            expires: when the store may drop the value by itself, in seconds since the epoch; 0.0
                is never.
            over: bytes that count as absent (a damaged or expired entry): if exactly they are
                there, they are replaced.
        """

    @abstractmethod
    def set(self, key: str, value: bytes, *, expires: float = 0.0) -> None:
        """Store the value, replacing what is there."""

    @abstractmethod
    def delete(self, key: str) -> bool:
        """Remove the key; whether it was there."""

    @abstractmethod
    def keys(self) -> Iterator[str]:
        """Every key of this partition, in no particular order, without loading them all at once."""

    @abstractmethod
    def clear(self) -> int:
        """Remove every entry of this partition and nothing else; how many there were."""

    @abstractmethod
    def close(self) -> None:
        """Release files and connections. The next operation opens them again."""

    async def aget(self, key: str) -> bytes | None:
        """`get` for async callers."""
        return self.get(key)

    async def aadd(
        self, key: str, value: bytes, *, expires: float = 0.0, over: bytes | None = None
    ) -> bytes:
        """`add` for async callers."""
        return await in_thread(self.add, key, value, expires=expires, over=over)

    async def aset(self, key: str, value: bytes, *, expires: float = 0.0) -> None:
        """`set` for async callers."""
        await in_thread(self.set, key, value, expires=expires)

    async def adelete(self, key: str) -> bool:
        """`delete` for async callers."""
        return await in_thread(self.delete, key)

    async def akeys(self) -> AsyncIterator[str]:
        """`keys` for async callers."""
        keys = self.keys()

        def some() -> list[str]:
            return list(itertools.islice(keys, _LISTED))

        while listed := await in_thread(some):
            for key in listed:
                yield key

    async def aclear(self) -> int:
        """`clear` for async callers."""
        return await in_thread(self.clear)

    async def aclose(self) -> None:
        """`close` for async callers: in a thread, as it may wait for one that writes."""
        await in_thread(self.close)


@runtime_checkable
class Leases(Protocol):
    """The leases of a store that other processes reach: of several, one asks upstream.

    A lease says that its owner is asking upstream. It ends when it is released, when its owner
    dies, and at the latest ``seconds`` after it was taken or renewed last. It is no entry: it is
    not listed, counted or cleared, and stays when the store is closed. A forked child has none of
    its parent's. Without this segment every process that misses asks upstream itself.

    The async methods of this class suit a store whose leases take microseconds: they stay inline.
    """

    renews: bool = True
    """Whether a lease ends unless `renew` keeps it; False where it ends with its process."""

    @abstractmethod
    def acquire(self, key: str, token: str, seconds: float) -> Claim:
        """Try to take the lease of a key, without waiting.

        Args:
            key: the key.
            token: names the owner, as `new_token` makes it: unique for each call.
            seconds: how long the lease may outlive its last renewal.
        """

    @abstractmethod
    def renew(self, key: str, token: str, seconds: float) -> bool:
        """Keep a lease for ``seconds`` from now on; False if it is no longer this owner's."""

    @abstractmethod
    def release(self, key: str, token: str, *, failed: bool = False) -> None:
        """Give a lease back, if it is still this owner's.

        Args:
            key: the key.
            token: the owner.
            failed: the call failed: for a moment (2 seconds) `acquire` tells others so.
        """

    async def aacquire(self, key: str, token: str, seconds: float) -> Claim:
        """`acquire` for async callers."""
        return self.acquire(key, token, seconds)

    async def arenew(self, key: str, token: str, seconds: float) -> bool:
        """`renew` for async callers."""
        return self.renew(key, token, seconds)

    async def arelease(self, key: str, token: str, *, failed: bool = False) -> None:
        """`release` for async callers."""
        self.release(key, token, failed=failed)


@runtime_checkable
class Pairs(Protocol):
    """The steps of a miss two at once, by a store with `Leases` that waits on a network.

    Without this segment each step waits by itself.
    """

    @abstractmethod
    def acquire_and_get(self, key: str, token: str, seconds: float) -> tuple[Claim, bytes | None]:
        """`Leases.acquire`, and behind it `Store.get` of the same key: what both give.

        Nothing was taken where it raises, as far as can be told.
        """

    @abstractmethod
    def add_and_release(
        self,
        key: str,
        token: str,
        value: bytes,
        *,
        expires: float = 0.0,
        over: bytes | None = None,
    ) -> tuple[bytes, bool]:
        """`Store.add`, and behind it `Leases.release` of the same key.

        The result is what is there then, and whether the lease was given back: where it was not,
        or this raises, `Leases.release` is asked.
        """

    @abstractmethod
    async def aacquire_and_get(
        self, key: str, token: str, seconds: float
    ) -> tuple[Claim, bytes | None]:
        """`acquire_and_get` for async callers."""

    @abstractmethod
    async def aadd_and_release(
        self,
        key: str,
        token: str,
        value: bytes,
        *,
        expires: float = 0.0,
        over: bytes | None = None,
    ) -> tuple[bytes, bool]:
        """`add_and_release` for async callers."""


@runtime_checkable
class Many(Protocol):
    """Operations on several keys at once, by a store that waits on a network.

    A list that is asked element by element looks for all its elements so, and stores what was
    missing. Without this segment it does one after the other.
    """

    @abstractmethod
    def do_many(self, operations: Sequence[Operation]) -> list[Any]:
        """What each of the operations gives, or the `StoreError` that it raises.

        They are on different keys, and may be done in any order.

        Args:
            operations: each the name of a method, and its arguments: of `Store.get`, `Store.add`,
                `Store.set`, and where the store has them `Leases.acquire`, `Leases.release`,
                `Pairs.acquire_and_get` and `Pairs.add_and_release`.
        """

    @abstractmethod
    async def ado_many(self, operations: Sequence[Operation]) -> list[Any]:
        """`do_many` for async callers."""


@runtime_checkable
class Scans(Protocol):
    """The reading of a whole partition, by a store that reads several values at once."""

    @abstractmethod
    def scan(self) -> Iterator[tuple[str, bytes]]:
        """Every key of this partition with its value, as `Store.keys` lists them.

        What goes away meanwhile may be left out; not all values are held at once.
        """


@runtime_checkable
class Seeds(Protocol):
    """The list of the partitions, by a store that can tell which ones its place holds."""

    @abstractmethod
    def seeds(self) -> list[str]:
        """The seeds that have entries in the same place, sorted."""


@runtime_checkable
class Uses(Protocol):
    """The times at which entries were read last, by a store that notes them."""

    @abstractmethod
    def last_used(self, key: str) -> float | None:
        """When the entry was last read, in seconds since the epoch; None where it is not known."""


@dataclass(frozen=True, slots=True)
class LogFacts:
    """The facts about one log.

    Args:
        name: its name.
        size: bytes that it takes.
        changed: when a piece was added last, in seconds since the epoch; 0.0 where not known.
    """

    name: str
    size: int
    changed: float


MOST_PIECE: Final = 2**24
"""Bytes of a piece of a log, at most."""


@runtime_checkable
class Logs(Protocol):
    """Logs beside the entries: each is made of pieces that are added, and never changed.

    The runs of a place are kept in them (`Cache.run`, `Cache.runs`). All partitions of a place have
    the same logs. A log is no entry: it is not listed, counted or cleared with those.

    Names are 1 to 200 characters out of ``a-z0-9._%-``, and begin with a letter. Pieces are 1 to
    16,777,216 bytes. Whoever is killed while he adds loses the pieces that he was adding, and
    nobody else's; a piece that is damaged is left out when it is read.
    """

    logs_last: bool = True
    """Whether the logs outlive this process. Where not, runs are only kept that were named."""

    logs_hold: bool = False
    """Whether what is written or read of logs may stay open until `Store.close`."""

    @property
    @abstractmethod
    def logs_url(self) -> str:
        """Where the logs are, as a URL without credentials; equal for all partitions of a place."""

    def logs_alone(self) -> Logs:
        """What has the same logs, and keeps nothing else of the store: it is held to the end."""
        return self

    @abstractmethod
    def append_to_log(self, name: str, pieces: Sequence[bytes]) -> None:
        """Add pieces to the end of a log, which is made where there is none.

        Others may add to the same log at the same time, from other processes and hosts: the pieces
        of each stay whole and in their order.
        """

    @abstractmethod
    def read_log(self, name: str) -> Iterator[bytes]:
        """The pieces of a log, in the order in which they were added; nothing of one not there."""

    @abstractmethod
    def logs(self) -> list[LogFacts]:
        """Every log of the place, in no particular order."""

    @abstractmethod
    def remove_log(self, name: str) -> bool:
        """Remove a log; whether it was there."""


@runtime_checkable
class Checks(Protocol):
    """A look ahead, by a store that can tell without writing that a write would fail."""

    @abstractmethod
    def check(self) -> None:
        """Raise `StoreError` if it can be told that the store will not work."""


def scan(store: Store) -> Iterator[tuple[str, bytes]]:
    """Every key of a partition with its value: several at once where the store reads so."""
    if isinstance(store, Scans):
        yield from store.scan()
        return
    for key in store.keys():
        value = store.get(key)
        if value is not None:
            yield key, value
