"""The memory store: entries live in this process and end with it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

from cachewrap.stores.base import Store

_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


# Another thread may have held the lock at the fork; in the child nobody would release it.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class MemoryStore(Store):
    """Entries in dictionaries of this process, one for each seed.

    A copy that is unpickled in another process starts empty.
    """

    def __init__(self, seed: str = "41") -> None:
        self._seed = seed
        self._places: dict[str, dict[str, bytes]] = {}
        self._entries = self._places.setdefault(seed, {})

    def __reduce__(self) -> tuple[type[MemoryStore], tuple[str]]:
        return MemoryStore, (self._seed,)

    @property
    def url(self) -> str:
        return f"memory://{id(self._places):x}/{self._seed}"

    def reseed(self, seed: str) -> MemoryStore:
        other = MemoryStore.__new__(MemoryStore)
        other._seed = seed
        other._places = self._places
        with _lock:
            other._entries = self._places.setdefault(seed, {})
        return other

    def get(self, key: str) -> bytes | None:
        return self._entries.get(key)

    def add(
        self, key: str, value: bytes, *, expires: float = 0.0, over: bytes | None = None
    ) -> bytes:
        with _lock:
            present = self._entries.get(key)
            if present is None or present == over:
                self._entries[key] = present = value
            return present

    def set(self, key: str, value: bytes, *, expires: float = 0.0) -> None:
        with _lock:
            self._entries[key] = value

    def delete(self, key: str) -> bool:
        with _lock:
            return self._entries.pop(key, None) is not None

    def keys(self) -> Iterator[str]:
        with _lock:
            return iter(list(self._entries))

    def clear(self) -> int:
        with _lock:
            count = len(self._entries)
            self._entries.clear()
            return count

    def close(self) -> None:
        """Nothing to release: closing a memory store keeps its entries."""

    async def aadd(
        self, key: str, value: bytes, *, expires: float = 0.0, over: bytes | None = None
    ) -> bytes:
        return self.add(key, value, over=over)

    async def aset(self, key: str, value: bytes, *, expires: float = 0.0) -> None:
        self.set(key, value)

    async def adelete(self, key: str) -> bool:
        return self.delete(key)

    async def aclear(self) -> int:
        return self.clear()

    async def aclose(self) -> None:
        self.close()
