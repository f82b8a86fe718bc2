"""The memory store: entries live in this process and end with it."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Iterator

from cachewrap import systems
from cachewrap.stores.base import Scans, Store

_lock = threading.Lock()
systems.renew_in_child(globals(), _lock=threading.Lock)
_numbers = itertools.count(1)  # an address may be another store's soon: what is told once names it


class _Place:
    """The entries of one seed, and when those go that do not stay for ever."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self._until: dict[str, float] = {}
        self._ends: list[tuple[float, str]] = []  # a heap; may hold keys that went before

    def put(self, key: str, value: bytes, expires: float) -> None:
        self.entries[key] = value
        if expires:
            self._until[key] = expires
            heapq.heappush(self._ends, (expires, key))
        else:
            self._until.pop(key, None)
        while self._ends and self._ends[0][0] < time.time():
            end, gone = heapq.heappop(self._ends)
            if self._until.get(gone) == end:
                self.remove(gone)

    def remove(self, key: str) -> bool:
        self._until.pop(key, None)
        return self.entries.pop(key, None) is not None

    def clear(self) -> int:
        count = len(self.entries)
        self.entries.clear()
        self._until.clear()
        self._ends.clear()
        return count


class MemoryStore(Store, Scans):
    """Entries in dictionaries of this process, one for each seed.

    Expired entries are dropped when others are written.

    A copy that is unpickled in another process starts empty.
    """

    bounded = True

    def __init__(self, seed: str = "41") -> None:
        self._seed = seed
        self._number = next(_numbers)
        self._places: dict[str, _Place] = {}
        self._enter(seed)

    def _enter(self, seed: str) -> None:
        with _lock:
            self._place = self._places.setdefault(seed, _Place())
        self._entries = self._place.entries

    def __reduce__(self) -> tuple[type[MemoryStore], tuple[str]]:
        return MemoryStore, (self._seed,)

    @property
    def url(self) -> str:
        return f"memory://{self._number}/{self._seed}"

    def reseed(self, seed: str) -> MemoryStore:
        other = MemoryStore.__new__(MemoryStore)
        other._seed = seed
        other._number = self._number
        other._places = self._places
        other._enter(seed)
        return other

    def get(self, key: str) -> bytes | None:
        return self._entries.get(key)

    def add(
        self, key: str, value: bytes, *, expires: float = 0.0, over: bytes | None = None
    ) -> bytes:
        with _lock:
            present = self._entries.get(key)
            if present is None or present == over:
                self._place.put(key, value, expires)
                present = value
            return present

    def set(self, key: str, value: bytes, *, expires: float = 0.0) -> None:
        with _lock:
            self._place.put(key, value, expires)

    def delete(self, key: str) -> bool:
        with _lock:
            return self._place.remove(key)

    def keys(self) -> Iterator[str]:
        with _lock:
            return iter(list(self._entries))

    def scan(self) -> Iterator[tuple[str, bytes]]:
        with _lock:
            return iter(list(self._entries.items()))

    def clear(self) -> int:
        with _lock:
            return self._place.clear()

    def close(self) -> None:
        """Nothing to release: closing a memory store keeps its entries."""

    async def aadd(
        self, key: str, value: bytes, *, expires: float = 0.0, over: bytes | None = None
    ) -> bytes:
        return self.add(key, value, expires=expires, over=over)

    async def aset(self, key: str, value: bytes, *, expires: float = 0.0) -> None:
        self.set(key, value, expires=expires)

    async def adelete(self, key: str) -> bool:
        return self.delete(key)

    async def aclear(self) -> int:
        return self.clear()

    async def aclose(self) -> None:
        self.close()
