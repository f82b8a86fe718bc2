"""The memory store: entries live in this process and end with it."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final, Self

from cachewrap import systems
from cachewrap.errors import ConfigurationError, StoreError
from cachewrap.stores.base import LogFacts, Logs, Scans, Store

_lock = threading.Lock()
systems.renew_in_child(globals(), _lock=threading.Lock)
_SLACK: Final = 64
"""Ends of entries that went before, which a place keeps beside as many as it has."""

_BESIDE: Final = 512
"""Bytes that an entry takes beside its value: its key, and what Python needs to hold the two."""

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
            if len(self._ends) > 2 * len(self._until) + _SLACK:
                self._ends = [(end, name) for name, end in self._until.items()]
                heapq.heapify(self._ends)
        else:
            self._until.pop(key, None)
        while self._ends and self._ends[0][0] < time.time():
            end, gone = heapq.heappop(self._ends)
            if self._until.get(gone) == end:
                self.remove(gone)

    def use(self, key: str) -> None:
        """The entry is read."""

    def remove(self, key: str) -> bool:
        self._until.pop(key, None)
        return self.entries.pop(key, None) is not None

    def clear(self) -> int:
        count = len(self.entries)
        self.entries.clear()
        self._until.clear()
        self._ends.clear()
        return count


class _Bound:
    """The bytes that the places of a store may take together, and what was used for longest."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken = 0
        self._sizes: OrderedDict[tuple[_BoundedPlace, str], int] = OrderedDict()

    def check(self, value: bytes) -> None:
        """Raise `StoreError` for a value that is larger than all may be."""
        size = len(value) + _BESIDE
        if size > self.most:
            raise StoreError(
                f"an entry of {size:,} bytes is not stored, as the cache holds no more than"
                f" max_bytes={self.most:,}"
            )

    # A fork or an interrupt may have come between two steps: nothing here relies on the other half.

    def use(self, place: _BoundedPlace, key: str) -> None:
        if (place, key) in self._sizes:
            self._sizes.move_to_end((place, key))

    def give(self, place: _BoundedPlace, key: str, value: bytes) -> None:
        """An entry is there, for which others have to go until all fit."""
        self._sizes[place, key] = size = len(value) + _BESIDE
        self._taken += size
        while self._taken > self.most and self._sizes:
            (oldest, name), size = self._sizes.popitem(last=False)
            self._taken -= size
            _Place.remove(oldest, name)

    def take(self, place: _BoundedPlace, key: str) -> None:
        self._taken -= self._sizes.pop((place, key), 0)


class _BoundedPlace(_Place):
    """The entries of one seed, of which those that were not used for longest go."""

    def __init__(self, bound: _Bound) -> None:
        super().__init__()
        self._bound = bound

    def put(self, key: str, value: bytes, expires: float) -> None:
        self._bound.check(value)
        self.remove(key)
        super().put(key, value, expires)
        if key in self.entries:  # unless it has expired already
            self._bound.give(self, key, value)

    def use(self, key: str) -> None:
        self._bound.use(self, key)

    def remove(self, key: str) -> bool:
        present = super().remove(key)
        if present:
            self._bound.take(self, key)
        return present

    def clear(self) -> int:
        for key in self.entries:
            self._bound.take(self, key)
        return super().clear()


class MemoryStore(Store, Scans, Logs):
    """Entries in dictionaries of this process, one for each seed.

    Expired entries are dropped when others are written.

    A copy that is unpickled in another process starts empty.
    """

    bounded = True
    logs_last = False

    def __init__(self, seed: str = "41") -> None:
        self._seed = seed
        self._number = next(_numbers)
        self._logs: dict[str, tuple[list[bytes], list[float]]] = {}
        self._places: dict[str, _Place] = {}
        self._enter(seed)

    def _enter(self, seed: str) -> None:
        with _lock:
            self._place = self._places.get(seed) or self._places.setdefault(seed, self._new_place())
        self._entries = self._place.entries

    def _new_place(self) -> _Place:
        return _Place()

    def __reduce__(self) -> tuple[Any, ...]:
        return MemoryStore, (self._seed,)

    @property
    def url(self) -> str:
        return f"memory://{self._number}/{self._seed}"

    def reseed(self, seed: str) -> Self:
        other = type(self).__new__(type(self))
        vars(other).update(vars(self))
        other._seed = seed
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
            else:
                self._place.use(key)
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

    @property
    def logs_url(self) -> str:
        return f"memory://{self._number}"

    def append_to_log(self, name: str, pieces: Sequence[bytes]) -> None:
        with _lock:
            held, changed = self._logs.setdefault(name, ([], [0.0]))
            held += pieces
            changed[0] = time.time()

    def read_log(self, name: str) -> Iterator[bytes]:
        with _lock:
            return iter(list(self._logs[name][0]) if name in self._logs else [])

    def logs(self) -> list[LogFacts]:
        with _lock:
            return [
                LogFacts(name, sum(map(len, held)), changed[0])
                for name, (held, changed) in self._logs.items()
            ]

    def remove_log(self, name: str) -> bool:
        with _lock:
            return self._logs.pop(name, None) is not None

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


class BoundedMemoryStore(MemoryStore):
    """Entries in memory that take no more than so many bytes, all seeds of the store together.

    A write that makes them more removes what was not read or written for longest. Each step takes
    the same time, however many entries there are.

    Args:
        seed: the seed.
        max_bytes: as many bytes may be taken. An entry takes those of its value, which is
            compressed, and 512 beside them. One that is larger than all may be is not stored.

    Raises `ConfigurationError` for a bound that is no positive number.
    """

    def __init__(self, seed: str = "41", *, max_bytes: int) -> None:
        if type(max_bytes) is not int or max_bytes <= 0:
            raise ConfigurationError(f"max_bytes is {max_bytes!r}: give a positive number, or None")
        self._bound = _Bound(max_bytes)
        super().__init__(seed)

    def _new_place(self) -> _Place:
        return _BoundedPlace(self._bound)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(BoundedMemoryStore, max_bytes=self._bound.most), (self._seed,)

    def get(self, key: str) -> bytes | None:
        with _lock:
            value = self._entries.get(key)
            if value is not None:
                self._place.use(key)
            return value
