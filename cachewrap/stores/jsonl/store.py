"""The JSONL store: entries live in one text file, a line each, that people read and review."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Any, Final

from cachewrap import systems
from cachewrap.errors import StoreError, printable
from cachewrap.policy import BREAKER_SECONDS, STORE_SECONDS
from cachewrap.stores.base import Checks, Scans, Seeds, Store, in_thread
from cachewrap.stores.jsonl import lines
from cachewrap.stores.jsonl.cassette import MOST_AT_ONCE, cassette
from cachewrap.stores.jsonl.changes import Change
from cachewrap.stores.log_files import FileLogs, LogFiles
from cachewrap.systems import files
from cachewrap.urls import absolute, obstacle, url_of, url_of_path

_SHORT: Final = 2**14
"""Bytes of an envelope that takes no time to be written as a line."""


class JsonlStore(Store, Scans, Seeds, FileLogs, Checks):
    """Entries of every seed in one file: a cassette, to be kept beside the tests that use it.

    The file, and folders that are missing, are made at the first write. A line is one entry as
    JSON: see `cachewrap.stores.jsonl.lines`. It may be edited by hand; a line that cannot be read
    is left as it is, and costs a `CacheWarning` or a `StoreError` that names it. What was deleted
    from the file is absent, and the last of two lines of one key and seed counts.

    The order of lines is kept: an answer that is replaced stays in its place, and new ones stand
    behind, in the order in which their requests were first looked up. The file is brought into that
    order when the store is closed. An answer that is replaced by one that says the same is left as
    it is: see `cachewrap.stores.jsonl.lines.Parts.says`.

    A new file is for its owner alone; one that is there keeps its permissions, and where it is a
    link, what it leads to when the store is made is the file. Git keeps no such permissions: who
    checks a cassette out may read it as any other file.

    Expired entries are left to their callers, and no other process waits for an answer under way.
    Logs are files in the folder ``.<name of the file>.runs`` beside it, for their owner alone.

    Args:
        path: the file; ``~`` and ``$NAME`` are expanded.
        seed: the partition.
        store_seconds: how long a write waits for a lock that another process has on the file; a
            read waits half of it.
        breaker_seconds: for how long the file is left alone after such a lock did not come: all
            that would wait for it fails at once, in every store of the file.
    """

    bounded = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        seed: str = "41",
        *,
        store_seconds: float = STORE_SECONDS,
        breaker_seconds: float = BREAKER_SECONDS,
    ) -> None:
        self._path = absolute(path)
        self._seed = seed
        self._waits: dict[str, Any] = {
            "store_seconds": store_seconds,
            "breaker_seconds": breaker_seconds,
        }
        self._cassette = cassette(self._path)
        self._cassette.store_seconds = store_seconds  # of several stores the newest says it
        self._cassette.breaker_seconds = breaker_seconds
        folder, name = os.path.split(self._cassette.path)
        self._log_files = LogFiles(
            folder, f".{name}.runs", store_seconds, trusts=True, found=self._cassette.found
        )

    def __reduce__(self) -> tuple[Callable[..., JsonlStore], tuple[str, str]]:
        return functools.partial(type(self), **self._waits), (self._path, self._seed)

    @property
    def url(self) -> str:
        return url_of("jsonl", self._cassette.path, self._seed)

    @property
    def logs_url(self) -> str:
        return url_of_path("jsonl", self._cassette.path)

    @property
    def path(self) -> str:
        """The file, as an absolute path."""
        return self._path

    def reseed(self, seed: str) -> JsonlStore:
        return JsonlStore(self._path, seed, **self._waits)

    def check(self) -> None:
        """Raise `StoreError` if the file cannot be made, or read and written; nothing is written.

        A file that can be read but not written fails this check, and can still be read.
        """
        if systems.is_strange_link(self._path):
            raise StoreError(
                f"the cassette {self._path} is a link of another user, which is not followed:"
                " choose another path"
            )
        if files.exists(self._path):
            if not files.is_file(self._path):
                raise StoreError(f"the cassette {self._path} is not a file: choose another path")
            if not files.access(self._path, os.R_OK | os.W_OK):
                raise StoreError(
                    f"the cassette {self._path} cannot be read and written by this user"
                )
            return
        wrong = obstacle(os.path.dirname(self._path))
        if wrong is not None:
            raise StoreError(f"the cassette {self._path} cannot be made: {wrong}")

    def get(self, key: str) -> bytes | None:
        line = self._cassette.get((self._seed, key))
        return None if line is None else self._envelope(key, line)

    async def aget(self, key: str) -> bytes | None:
        name = self._seed, key
        lines = self._cassette.read_before()
        if lines is None:
            lines = self._cassette.read_on(MOST_AT_ONCE)
        if lines is None:
            self._cassette.ask(name)
            return await in_thread(self.get, key)  # the whole file is read
        line = self._cassette.get(name, lines)
        return None if line is None else self._envelope(key, line)

    def add(
        self, key: str, value: bytes, *, expires: float = 0.0, over: bytes | None = None
    ) -> bytes:
        addition = _Addition(self, key, value, over)
        self._cassette.change(addition)
        return addition.won

    async def aadd(
        self, key: str, value: bytes, *, expires: float = 0.0, over: bytes | None = None
    ) -> bytes:
        addition = _Addition(self, key, value, over)
        await self._cassette.achange(addition)
        return addition.won

    def set(self, key: str, value: bytes, *, expires: float = 0.0) -> None:
        self._cassette.change(_Replacement(self, key, value))

    async def aset(self, key: str, value: bytes, *, expires: float = 0.0) -> None:
        await self._cassette.achange(_Replacement(self, key, value))

    def delete(self, key: str) -> bool:
        return self._cassette.remove(lambda name: name == (self._seed, key)) == 1

    def keys(self) -> Iterator[str]:
        return iter([key for seed, key in self._cassette.names() if seed == self._seed])

    def scan(self) -> Iterator[tuple[str, bytes]]:
        """Every key with its value. Lines that cannot be read are passed over."""
        for key in self.keys():
            with suppress(StoreError):
                value = self.get(key)
                if value is not None:
                    yield key, value

    def seeds(self) -> list[str]:
        return self._cassette.seeds()

    def clear(self) -> int:
        return self._cassette.remove(lambda name: name[0] == self._seed)

    def names(self) -> list[tuple[str, str]]:
        """The seed and the key of every line, of all seeds, in the order of the file."""
        return self._cassette.names()

    def prune(self, names: Collection[tuple[str, str]]) -> int:
        """Remove lines of any seed by seed and key; how many there were."""
        return self._cassette.remove(names.__contains__)

    def close(self) -> None:
        """Bring the file into its order."""
        self._cassette.tidy()

    def _envelope(self, key: str, line: bytes) -> bytes:
        try:
            return self._cassette.envelopes.of((self._seed, key), line)
        except ValueError as error:
            place = self._cassette.place_of((self._seed, key))
            raise StoreError(
                f"{place}: the entry cannot be read: {printable(str(error))}. Mend the line, or"
                " delete it."
            ) from error


class _Replacement(Change):
    """A line in the place of the one that is there, unless that says the same."""

    def __init__(self, store: JsonlStore, key: str, value: bytes) -> None:
        super().__init__((store._seed, key), short=len(value) < _SHORT)
        self._store = store
        self._value = value
        self._written = b""

    def prepare(self) -> None:
        if not self._written:
            seed, key = self.name
            self._written = lines.write(key, seed, self._value)
            self._store._cassette.envelopes.keep(self.name, self._written, self._value)

    def decide(self, present: bytes | None) -> bytes | None:
        if present is not None:
            try:
                if lines.same(lines.read(present), self._value):
                    return present
            except ValueError:
                pass  # it goes, whatever it was
        return self._written


class _Addition(_Replacement):
    """A line where none is, or in the place of one that counts as absent.

    Attributes:
        won: the envelope that is there then.
    """

    def __init__(self, store: JsonlStore, key: str, value: bytes, over: bytes | None) -> None:
        super().__init__(store, key, value)
        self._over = over
        self.won = value

    def decide(self, present: bytes | None) -> bytes | None:
        if present is not None:
            there = self._store._envelope(self.name[1], present)
            if self._over is None or not lines.equal(there, self._over):
                self.won = there
                return None
        return self._written
