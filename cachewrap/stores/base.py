"""What a store must do: keep bytes under keys, for sync and for async callers."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from typing import Self


class Store(ABC):
    """One partition: the entries of one seed in one place.

    Keys are 64 lower-case hexadecimal characters, values are bytes. A store is cheap to make: it
    opens its file or connection at the first operation, opens it again after `close`, and may be
    used from several threads and event loops at once, and after a fork.

    Every method raises `StoreError` (with the client library's error as its cause) when the store
    cannot do its work, and nothing else.

    The async methods of this class suit a store whose reads take microseconds: reads stay inline,
    writes hop to a thread. A store that waits on a network overrides them all.
    """

    @property
    @abstractmethod
    def url(self) -> str:
        """Where the entries are, as a URL without credentials; equal for equal places."""

    @abstractmethod
    def reseed(self, seed: str) -> Self:
        """The partition of another seed in the same place, sharing connections where it can."""

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
        return await asyncio.to_thread(self.add, key, value, expires=expires, over=over)

    async def aset(self, key: str, value: bytes, *, expires: float = 0.0) -> None:
        """`set` for async callers."""
        await asyncio.to_thread(self.set, key, value, expires=expires)

    async def adelete(self, key: str) -> bool:
        """`delete` for async callers."""
        return await asyncio.to_thread(self.delete, key)

    async def akeys(self) -> AsyncIterator[str]:
        """`keys` for async callers."""
        for key in self.keys():
            yield key

    async def aclear(self) -> int:
        """`clear` for async callers."""
        return await asyncio.to_thread(self.clear)

    async def aclose(self) -> None:
        """`close` for async callers."""
        self.close()
