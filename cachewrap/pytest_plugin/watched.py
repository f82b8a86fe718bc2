"""A cache on a cassette that notes which entries a test used, and which requests it missed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from cachewrap.cache import Cache
from cachewrap.call.terms import Absent, Exchange, Reply, Seen
from cachewrap.entry import Outcome
from cachewrap.errors import CachewrapError, ReplayMissError
from cachewrap.explain import Explanation
from cachewrap.policy import Policy
from cachewrap.stores.base import Store
from cachewrap.stores.jsonl import JsonlStore
from cachewrap.telemetry.events import Watch

R = TypeVar("R")

_SHOWN: Final = 3  # differences to the nearest request; the error itself has more


class Journal:
    """The journal of what happened to the entries of one cassette in one test.

    Attributes:
        before: the seed and key of the entries that were there when the test began.
        used: the seed and key of entries that were served or stored.
        counts: how many calls were ``replayed``, ``recorded`` and ``refreshed``.
        missed: each request that was refused in mode replay, and how the nearest one differs.
    """

    def __init__(self) -> None:
        self.before: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._quiet = 0
        self.used: set[tuple[str, str]] = set()
        self.counts: Counter[str] = Counter()
        self.missed: dict[str, str] = {}

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
                self.missed.setdefault(miss.key or miss.source, f"{miss.source}: {differs}")
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
    """A cassette with a journal. A copy in another process is a plain one."""

    def __init__(self, path: str, seed: str, journal: Journal) -> None:
        super().__init__(path, seed)
        self.journal = journal

    def reseed(self, seed: str) -> WatchedStore:
        return WatchedStore(self.path, seed, self.journal)

    def __reduce__(self) -> tuple[type[JsonlStore], tuple[str, str]]:
        return JsonlStore, (self.path, self._seed)


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
            return super()._look(exchange, *seen)

    async def _alook(self, exchange: Exchange[R], *seen: Seen) -> Reply[R] | Absent:
        with self.journal.watching():
            return await super()._alook(exchange, *seen)

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

    def finish(self, reply: Reply[R], exchange: Exchange[Any], watch: Watch | None) -> Reply[R]:
        self.journal.note(self, exchange.key, reply)
        return super().finish(reply, exchange, watch)

    def explain(
        self, call: Callable[..., Any] | Mapping[str, Any], /, *args: Any, **kwargs: Any
    ) -> Explanation:
        with self.journal.quiet():
            return super().explain(call, *args, **kwargs)
