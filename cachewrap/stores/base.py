"""What a store must do: keep bytes under keys, for sync and for async callers."""

from __future__ import annotations

import enum
import itertools
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from cachewrap import forks, loops

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")


_writers: ThreadPoolExecutor | None = None


async def in_thread(work: Callable[..., T], *args: Any, **options: Any) -> T:
    """Do blocking work in a thread of the package's own.

    The event loop's default executor may be full of callers who wait for this very work.
    """
    global _writers
    if _writers is None:
        from concurrent.futures import ThreadPoolExecutor  # not when an interpreter ends

        _writers = ThreadPoolExecutor(8, thread_name_prefix="cachewrap")
    return await loops.in_thread(_writers, partial(work, *args, **options))


_process = uuid.uuid4().hex
_owners = itertools.count(1)


@forks.in_child
def _begin_anew() -> None:
    global _process, _writers
    _process = uuid.uuid4().hex
    _writers = None  # its threads do not exist in a forked child


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
    """What became of an attempt to take a lease."""

    TAKEN = "taken"
    """The lease is the caller's now."""

    HELD = "held"
    """Another owner has it, and lives."""

    FAILED = "failed"
    """The last owner's call failed moments ago, or what is held is a leftover of this process:
    whoever waited for it goes upstream itself."""


class Store(ABC):
    """One partition: the entries of one seed in one place.

    Keys are 64 lower-case hexadecimal characters, values are bytes. A store is cheap to make: it
    opens its file or connection at the first operation, opens it again after `close`, and may be
    used from several threads and event loops at once, and after a fork.

    Every method raises `StoreError` (with the client library's error as its cause) when the store
    cannot do its work, and nothing else.

    The async methods of this class suit a store whose reads take microseconds: reads stay inline,
    writes hop to a thread. A store that waits on a network overrides them all.

    Attributes:
        renews: whether a lease ends unless `renew` keeps it; False where it ends with its process.
    """

    renews = True

    @property
    @abstractmethod
    def url(self) -> str:
        """Where the entries are, as a URL without credentials; equal for equal places."""

    @abstractmethod
    def reseed(self, seed: str) -> Self:
        """The partition of another seed in the same place, sharing connections where it can."""

    def beside(self, name: str) -> str | None:
        """The path of a file that goes with the partition; None where files have no place."""
        return None

    def check(self) -> None:
        """Raise `StoreError` if it can be told, without writing, that the store will not work."""

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

    def scan(self) -> Iterator[tuple[str, bytes]]:
        """Every key of this partition with its value, as `keys` lists them.

        A store that can read several values at once does better than this.
        """
        for key in self.keys():
            value = self.get(key)
            if value is not None:
                yield key, value

    @abstractmethod
    def clear(self) -> int:
        """Remove every entry of this partition and nothing else; how many there were."""

    def seeds(self) -> list[str] | None:
        """The seeds that have entries in the same place, sorted; None where that cannot be told."""
        return None

    def last_used(self, key: str) -> float | None:
        """When the entry was last read, in seconds since the epoch; None where nobody notes it."""
        return None

    def acquire(self, key: str, token: str, seconds: float) -> Claim:
        """Try to take the lease of a key, without waiting.

        A lease says that its owner is asking upstream. It ends when it is released, when its owner
        dies, and at the latest ``seconds`` after it was taken or renewed last. A store that no
        other process can reach needs none: here every attempt succeeds.

        Args:
            key: the key.
            token: names the owner, as `new_token` makes it: unique for each call.
            seconds: how long the lease may outlive its last renewal.
        """
        return Claim.TAKEN

    def renew(self, key: str, token: str, seconds: float) -> bool:
        """Keep a lease for ``seconds`` from now on; False if it is no longer this owner's."""
        return True

    def release(self, key: str, token: str, *, failed: bool = False) -> None:
        """Give a lease back, if it is still this owner's.

        Args:
            key: the key.
            token: the owner.
            failed: the call failed: for a moment (2 seconds) `acquire` tells others so.
        """

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
        for key in self.keys():
            yield key

    async def aclear(self) -> int:
        """`clear` for async callers."""
        return await in_thread(self.clear)

    async def aacquire(self, key: str, token: str, seconds: float) -> Claim:
        """`acquire` for async callers."""
        return self.acquire(key, token, seconds)

    async def arenew(self, key: str, token: str, seconds: float) -> bool:
        """`renew` for async callers."""
        return self.renew(key, token, seconds)

    async def arelease(self, key: str, token: str, *, failed: bool = False) -> None:
        """`release` for async callers."""
        self.release(key, token, failed=failed)

    async def aclose(self) -> None:
        """`close` for async callers: in a thread, as it may wait for one that writes."""
        await in_thread(self.close)
