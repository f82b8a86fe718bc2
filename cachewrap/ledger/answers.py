"""Answers of runs: where a call's is now, also when another has taken its place since."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from tempfile import SpooledTemporaryFile
from typing import Any, Final, NamedTuple, Self

from cachewrap.entries.stored import Samples, StoredEntry, raw_entries
from cachewrap.entry import Entry, Kind
from cachewrap.errors import CachewrapError, CorruptEntryError, StoreError
from cachewrap.format.aliases import unpacked
from cachewrap.format.envelope import ENCRYPTED
from cachewrap.format.sealing import Guard, make_guard
from cachewrap.ledger import names
from cachewrap.ledger.calls import MISS, Call, Place
from cachewrap.ledger.pieces import Replaced, read
from cachewrap.ledger.runs import Contents, Run, runs_of
from cachewrap.stores.base import Logs, Store
from cachewrap.stores.disk import DiskStore
from cachewrap.telemetry.usage import NO_DETAILS
from cachewrap.urls import parse_url

CLOSE: Final = 2.5e-6
"""Seconds by which a time of the ledger may miss the time in an entry."""

_IN_MEMORY: Final = 8 * 2**20
"""Bytes of answers that are held; what is more is put on the disk until `close`."""

_LATELY: Final = 10.0
"""Seconds after which what was replaced is known to every run that had it."""

_HERE: Final = ("disk", "jsonl")
"""Kinds of other places that are read: no server is asked because a log names it."""


class _Partition(NamedTuple):
    """The entries of one seed, and what opens them."""

    store: Store
    guard: Guard
    plain: Guard

    def opened(self, key: str, raw: bytes) -> Entry | None:
        """An entry, encrypted or not; None for one that cannot be read."""
        try:
            return self._guard_of(raw).unseal(key, raw)
        except CorruptEntryError:
            return None

    def _guard_of(self, raw: bytes) -> Guard:
        return self.guard if raw.startswith(ENCRYPTED) else self.plain

    def answers(self, key: str, raw: bytes) -> Iterator[tuple[bytes, Entry]]:
        """What may be an answer under a key: what is there; of an alias what it leads to, and what
        it keeps of before it.
        """
        entry = self.opened(key, raw)
        if entry is None or entry.kind is not Kind.ALIAS:
            if entry is not None:
                yield raw, entry
            return
        try:
            alias = unpacked(entry.answer)
        except CorruptEntryError:
            return
        kept = self._guard_of(raw).close(key, alias.kept) if alias.kept else None
        for name, found in ((alias.target, self.store.get(alias.target)), (key, kept)):
            led = None if found is None else self.opened(name, found)
            if found is not None and led is not None:
                yield found, led


def partition_of(cache: Place, seed: str) -> _Partition:
    """The entries of a seed in the place of a cache."""
    store = cache.store if seed in ("", cache.seed) else cache.store.reseed(seed)
    keys, most = cache.policy.encryption_keys, cache.policy.max_entry_bytes
    return _Partition(store, make_guard(keys, seed, most), make_guard((), seed, most))


class Answers:
    """The answers of the calls of one place.

    Args:
        cache: a cache of the place.
        others: caches of other places that calls name, by their URL.
    """

    def __init__(self, cache: Place, others: Iterable[Place] = ()) -> None:
        self._cache = cache
        self._places: dict[str, Place | None] = {"": cache, cache.url: cache}
        self._places |= {other.url: other for other in others}
        self._given = set(self._places)
        self._partitions: dict[tuple[str, str], _Partition | None] = {}
        self._kept: _Kept | None = None

    @classmethod
    def of(cls, cache: Place) -> Self:
        """Those of a cache's place."""
        return cls(cache)

    def raw(self, call: Call) -> bytes | None:
        """The stored bytes of the answer that a call was given; None where they are gone.

        Raises `StoreError`.
        """
        found = self._found(call)
        return None if found is None else found[0]

    def entry(self, call: Call) -> Entry | None:
        """The same, opened; None also for what cannot be read. Raises `StoreError`."""
        found = self._found(call)
        return None if found is None else found[1]

    def lack(self, call: Call) -> str:
        """Why there is no answer to be read, for people. Raises `StoreError`."""
        raw, partition = self._stored(call), self.partition(call)
        if partition is None or raw is None or partition.opened(call.key, raw) is not None:
            return "is no longer stored"
        lacks_key = partition.guard.lacks_key(raw)
        return "is encrypted, with a key that is not here" if lacks_key else "cannot be read"

    def request(self, call: Call) -> bytes:
        """The request of a call, encoded; empty where it is gone or was not stored.

        It is that of any answer to it, also of a later one. Raises `StoreError`.
        """
        if not call.key:
            return b""
        raw, partition = self._stored(call), self.partition(call)
        if partition is None:
            return b""
        entry = None if raw is None else partition.opened(call.key, raw)
        if entry is None:
            found = self._found(call)
            entry = None if found is None else found[1]
        try:
            return b"" if entry is None else entry.read_record()["request"]
        except CorruptEntryError:
            return b""

    def close(self) -> None:
        """Let go of the files of other places and seeds, and of what was held."""
        for partition in self._partitions.values():
            if partition is None or partition.store is self._cache.store:
                continue
            if isinstance(partition.store, DiskStore):  # others share what is open
                partition.store.close()
        for url, cache in self._places.items():
            if url not in self._given and cache is not None:
                cache.close()
        if self._kept is not None:
            self._kept.close()
        self._partitions, self._kept = {}, None

    def _found(self, call: Call) -> tuple[bytes, Entry] | None:
        if not call.key or not call.answered:
            return None
        raw, partition = self._stored(call), self.partition(call)
        if partition is None:
            return None
        if raw is not None:
            for found in partition.answers(call.key, raw):
                if abs(found[1].created - call.answered) < CLOSE:
                    return found
        raw = self._replaced(call)
        entry = None if raw is None else partition.opened(call.key, raw)
        return None if raw is None or entry is None else (raw, entry)

    def _stored(self, call: Call) -> bytes | None:
        """What is stored now for a request; nothing of a place that only the call names, where
        that cannot be read. Raises `StoreError`.
        """
        partition = self.partition(call)
        try:
            return None if partition is None else partition.store.get(call.key)
        except StoreError:
            if call.place in self._given:
                raise
            if isinstance(partition, _Partition):
                partition.store.close()
            self._partitions[call.place, call.seed] = None
            return None

    def _replaced(self, call: Call) -> bytes | None:
        if self._kept is None:
            self._kept = _Kept(self._cache.store)
        return self._kept.get(call)

    def partition(self, call: Call) -> _Partition | None:
        """The entries that a call belongs to; None of a place that cannot be opened."""
        name = call.place, call.seed
        if name not in self._partitions:
            self._partitions[name] = self._opened(*name)
        return self._partitions[name]

    def _opened(self, place: str, seed: str) -> _Partition | None:
        if place not in self._places:
            self._places[place] = self._other(place)
        cache = self._places[place]
        return None if cache is None else partition_of(cache, seed)

    def _other(self, place: str) -> Place | None:
        try:
            if parse_url(place)[0] in _HERE:
                whole: Any = type(self._cache)
                found: Place = whole.from_url(place)
                return found
        except (CachewrapError, ValueError):
            pass  # a place of another host, or of a plug-in that is not installed
        return None


class _Kept:
    """The answers of a place that others have replaced, and that were kept for runs.

    Args:
        store: the place.
    """

    def __init__(self, store: Store) -> None:
        self._file = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # until `close`
        self._where: dict[str, list[tuple[str, float, int, int]]] = defaultdict(list)
        at = 0
        for _, part in _replaced(store):
            self._where[part.key].append((part.seed, part.created, at, len(part.value)))
            self._file.write(part.value)
            at += len(part.value)

    def get(self, call: Call) -> bytes | None:
        for seed, created, at, size in self._where.get(call.key, ()):
            if seed == call.seed and abs(created - call.answered) < CLOSE:
                self._file.seek(at)
                return self._file.read(size)
        return None

    def close(self) -> None:
        self._file.close()


def _replaced(store: Any, log: str = "") -> Iterator[tuple[str, Replaced]]:
    """What was replaced in the runs of a place, or in one: the log that it is in, and itself."""
    if not isinstance(store, Logs):
        return
    found = [log] if log else [facts.name for facts in store.logs()]
    for name in found:
        if name.startswith(names.REPLACED):
            for part in read(store.read_log(name)):
                if isinstance(part, Replaced):
                    yield name, part


def sweep(cache: Place) -> None:
    """Remove the answers that were kept for runs, and that no run has any more.

    Raises `StoreError`.
    """
    store: Any = cache.store
    if not isinstance(store, Logs):
        return
    changed = {facts.name: facts.changed for facts in store.logs()}
    kept = {name for name in changed if name.startswith(names.REPLACED)}
    if not kept:
        return
    had: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    for name in kept:
        for _, part in _replaced(store, name):
            had[part.key, part.seed].append((part.created, name))
    now = time.time()
    for run in runs_of(cache):
        if not kept:
            return
        try:
            calls = run.calls()
        except StoreError:  # it cannot be told what that one has
            return
        for call in calls:
            for created, name in had.get((call.key, call.seed), ()):
                if abs(created - call.answered) < CLOSE:
                    kept.discard(name)
        if run.ended is None:  # it may not have told of its last calls yet
            kept -= {name for name in kept if now - changed[name] < _LATELY}
        run.reload()
    for name in kept:
        store.remove_log(name)


# -- whole caches --------------------------------------------------------------------------------


class EntriesRun(Run):
    """All entries of one or several caches, each as a call: to compare whole caches.

    Args:
        caches: whose entries they are, each of one seed; one at least.
        label: what it is called.
    """

    def __init__(self, *caches: Place, label: str = "") -> None:
        label = label or caches[0].url.partition("?")[0]
        super().__init__(caches[0], names.LogName("", label, 0))
        self.caches = caches

    def _whole(self) -> Contents:
        if self._read is None:
            whole = Contents((), "")
            for cache in self.caches:
                whole.calls += _entries(cache, "" if cache is self.cache else cache.url)
            whole.calls.sort(key=lambda call: (call.started, call.key))
            for number, call in enumerate(whole.calls):
                call.number = number
            whole.started = min((call.started for call in whole.calls), default=0.0)
            self._read = whole
        return self._read

    def raw_answer(self, call: Call) -> bytes | None:
        return answers_of(self).raw(call)


def _entries(cache: Place, place: str) -> Iterator[Call]:
    """The entries of a cache as calls; those that cannot be read are left out."""
    samples = Samples()
    seed = cache.seed or ""
    partition = partition_of(cache, seed)
    for key, raw in raw_entries(partition.store):
        entry = next((entry for _, entry in partition.answers(key, raw)), None)
        try:
            found = None if entry is None else StoredEntry(key, seed, len(raw), entry, samples)
        except CorruptEntryError:
            continue
        if found is None:
            continue
        yield Call(
            number=0,
            key=key,
            outcome=MISS,
            source=found.source,
            model=found.model,
            seed=seed,
            sample=found.sample or 0,
            started=found.stored_at,
            seconds=found.seconds,
            upstream_seconds=found.seconds,
            tokens_in=found.tokens_in,
            tokens_out=found.tokens_out,
            details=getattr(found, "details", NO_DETAILS),
            answered=found.stored_at,
            place=place,
        )


def answers_of(run: Run) -> Answers:
    """The answers of a run's calls."""
    others = run.caches if isinstance(run, EntriesRun) else ()
    return Answers(run.cache, others)
