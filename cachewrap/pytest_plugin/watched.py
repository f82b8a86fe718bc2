"""A cache on a cassette that notes which entries a test used, and which requests it missed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any, Final, TypeVar

from cachewrap.cache import Cache
from cachewrap.call.serve import Watching
from cachewrap.call.terms import Absent, Exchange, Reply, Seen
from cachewrap.entry import Outcome
from cachewrap.errors import CachewrapError, ReplayMissError, StoreError
from cachewrap.explain import Explanation
from cachewrap.policy import Policy
from cachewrap.pytest_plugin.cassettes import COMMAND
from cachewrap.stores.base import Store
from cachewrap.stores.jsonl import JsonlStore

R = TypeVar("R")

_SHOWN: Final = 3  # differences to the nearest request; the error itself has more


class Journal:
    """The journal of what happened to the entries of one cassette in one test.

    Attributes:
        before: the seed and key of the entries that were there when the test began.
        used: the seed and key of entries that were served or stored.
        counts: how many calls were ``replayed``, ``recorded`` and ``refreshed``.
        missed: each request that was refused in mode replay, how the nearest one differs, and the
            command that records it; "" where none does.

    Args:
        test: the test, as it is named on a command line.
    """

    def __init__(self, test: str) -> None:
        self._test = test
        self.before: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._quiet = 0
        self.used: set[tuple[str, str]] = set()
        self.counts: Counter[str] = Counter()
        self.missed: dict[str, tuple[str, str]] = {}

    def note(self, cache: Cache, key: str, reply: Reply[Any]) -> None:
        """Note how a call was answered."""
        if reply.entry is None or self._quiet:
            return
        name = (cache.seed or "", key)
        with self._lock:
            self.used.add(name)
            if reply.outcome is not Outcome.MISS:
                self.counts["replayed"] += 1
            elif reply.own:
                self.counts["refreshed" if name in self.before else "recorded"] += 1

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note a request that is missed inside."""
        try:
            yield
        except ReplayMissError as miss:
            if not self._quiet:
                nothing = "nothing like it is stored" if miss.key else "it is never stored"
                differs = "; ".join(miss.diff[:_SHOWN]) or nothing
                command = ""
                if miss.remedy:
                    command = f"{COMMAND}{miss.remedy} {self._test}"
                    miss.advise(command)
                told = f"{miss.source}: {differs}"
                self.missed.setdefault(miss.key or miss.source, (told, command))
            raise

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Note nothing inside: no call is made, one is only explained."""
        self._quiet += 1
        try:
            yield
        finally:
            self._quiet -= 1


class WatchedStore(JsonlStore):
    """A cassette with a journal, and others that are read behind it.

    A copy in another process is a plain one.
    """

    def __init__(
        self, path: str, seed: str, journal: Journal, reads: Sequence[JsonlStore] = ()
    ) -> None:
        super().__init__(path, seed)
        self.journal = journal
        self.reads = reads

    def reseed(self, seed: str) -> WatchedStore:
        reads = [store.reseed(seed) for store in self.reads]
        return WatchedStore(self.path, seed, self.journal, reads)

    def __reduce__(self) -> tuple[type[JsonlStore], tuple[str, str]]:
        return JsonlStore, (self.path, self._seed)

    def get(self, key: str) -> bytes | None:
        raw = super().get(key)
        return self.read_behind(key) if raw is None and self.reads else raw

    async def aget(self, key: str) -> bytes | None:
        raw = await super().aget(key)
        return self.read_behind(key) if raw is None and self.reads else raw

    def read_behind(self, key: str) -> bytes | None:
        """What the first of the others has for a key."""
        found = (store.get(key) for store in self.reads)
        return next((raw for raw in found if raw is not None), None)

    def keys(self) -> Iterator[str]:
        return chain(super().keys(), *(store.keys() for store in self.reads))


class WatchedCache(Cache):
    """A cache on a `WatchedStore`."""

    def _set_up(self, store: Store, seed: str | None, policy: Policy) -> None:
        super()._set_up(store, seed, policy)
        # Every call comes by here, none is served at a front door.
        self._hits_by_key = self._unheard = False

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild, (_, *rest) = super().__reduce__()
        return rebuild, (Cache, *rest)

    @property
    def journal(self) -> Journal:
        """What happened."""
        store = self._store
        assert isinstance(store, WatchedStore)
        return store.journal

    def _look(self, exchange: Exchange[R], *seen: Seen) -> Reply[R] | Absent:
        with self.journal.watching():
            return super()._look(exchange, *(seen or self._behind(exchange)))

    async def _alook(self, exchange: Exchange[R], *seen: Seen) -> Reply[R] | Absent:
        with self.journal.watching():
            return await super()._alook(exchange, *(seen or self._behind(exchange)))

    def _behind(self, exchange: Exchange[Any]) -> tuple[bytes, ...]:
        """In mode refresh, what is only read: the tests that record it make it anew."""
        store, own = self._store, self.journal.before
        if self.policy.mode != "refresh" or (self.seed or "", exchange.key) in own:
            return ()
        assert isinstance(store, WatchedStore)
        with suppress(StoreError):  # as if it were not there
            if (raw := store.read_behind(exchange.key)) is not None:
                return (raw,)
        return ()

    def bypass(
        self,
        source: str,
        reason: str,
        *,
        asks_model: bool = True,
        fault: CachewrapError | None = None,
        host: str = "",
    ) -> None:
        with self.journal.watching():
            super().bypass(source, reason, asks_model=asks_model, fault=fault, host=host)

    def finish(self, reply: Reply[R], exchange: Exchange[Any], watch: Watching | None) -> Reply[R]:
        self.journal.note(self, exchange.key, reply)
        return super().finish(reply, exchange, watch)

    def explain(
        self, call: Callable[..., Any] | Mapping[str, Any], /, *args: Any, **kwargs: Any
    ) -> Explanation:
        with self.journal.quiet():
            return super().explain(call, *args, **kwargs)
