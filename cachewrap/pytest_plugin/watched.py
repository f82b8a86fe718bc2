"""A cache on a cassette that notes which entries a test used, and which requests it missed."""

from __future__ import annotations

import functools
import inspect
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from typing import Any, Final, TypeVar

import pytest

from cachewrap.cache import Cache
from cachewrap.call.terms import Absent, Exchange, Reply, Seen
from cachewrap.call.watching import Watching
from cachewrap.entry import Entry, Outcome
from cachewrap.errors import (
    CachewrapError,
    CodecError,
    CorruptEntryError,
    ReplayMissError,
    StoreError,
)
from cachewrap.explain import Explanation, sets_of
from cachewrap.format.envelope import ENCRYPTED
from cachewrap.ledger.recorder import Section
from cachewrap.ledger.recording import NAME_VARIABLE, standing
from cachewrap.options import active_cache
from cachewrap.policy import Policy
from cachewrap.pytest_plugin.cassettes import COMMAND
from cachewrap.stores.base import Logs, Store
from cachewrap.stores.jsonl import JsonlStore
from cachewrap.stores.jsonl.lines import Name

R = TypeVar("R")

# As `cachewrap run` has them.
_URL_VARIABLE: Final = "CACHEWRAP_URL"
_USUAL_URL: Final = "disk:.cache"

_SHOWN: Final = 3  # differences to the nearest request; the error itself has more


def run_of_environment() -> Section | None:
    """The run that the environment names, in the cache of `cachewrap run`; None where it does not.

    Beside a cassette none is kept: that lies with the code. Raises `CachewrapError`.
    """
    if not os.environ.get(NAME_VARIABLE):
        return None
    cache = Cache.from_url(os.environ.get(_URL_VARIABLE) or _USUAL_URL)
    if not cache.policy.ledger or not isinstance(cache.store, Logs):
        return None
    run = standing(cache.store, cache.url)
    return Section(run) if run and run.name else None


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
        replaced: under seed and key what was there before an answer was made anew, None for
            nothing; it is added to, and what is there counts.
        run: the run that is told of the calls; None for none.
    """

    def __init__(
        self,
        test: str,
        replaced: dict[Name, bytes | None] | None = None,
        run: Section | None = None,
    ) -> None:
        self._test = test
        self.replaced = {} if replaced is None else replaced
        self.run = run
        self.before: set[Name] = set()
        self._lock = threading.Lock()
        self._quiet = 0
        self.used: set[Name] = set()
        self.counts: Counter[str] = Counter()
        self.missed: dict[str, tuple[str, str]] = {}

    def note(self, cache: Cache, key: str, reply: Reply[Any]) -> None:
        """Note how a call was answered."""
        if reply.entry is None or self._quiet:
            return
        name = (cache.seed or "", key)
        with self._lock:
            self.used.add(name)
            if reply.alias:
                self.used.add((name[0], reply.alias))
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
                if miss.rules:
                    told += f" (equal with {', '.join(sets_of(miss.rules))} in llm_cache_same)"
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

    def own(self, name: Name) -> bytes | None:
        """What the cassette itself has, whatever the seed. Raises `StoreError`."""
        seed, key = name
        return JsonlStore(self.path, seed).get(key)

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
        if self._recorder is not None and self.journal.run is not None:
            self._recorder.tell(self.journal.run)

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
        if self.policy.mode != "refresh":
            return ()
        store, journal, name = self._store, self.journal, (self.seed or "", exchange.key)
        assert isinstance(store, WatchedStore)
        if name in journal.before:
            if name not in journal.replaced:
                try:
                    journal.replaced[name] = store.own(name)
                except StoreError:
                    journal.replaced[name] = b""  # which nobody can read
            return ()
        with suppress(StoreError):  # as if it were not there
            if (raw := store.read_behind(exchange.key)) is not None:
                return (raw,)
        journal.replaced.setdefault(name, None)
        return ()

    def refreshed(self) -> Iterator[tuple[Name, Entry | CorruptEntryError | None, Entry, bool]]:
        """The answers that were made anew and stored: each with the one before it.

        They are the name, what was there before, what is there now, and whether it is encrypted.
        """
        journal, store = self.journal, self._store
        assert isinstance(store, WatchedStore)
        for name in [name for name in journal.replaced if name in journal.used]:
            guard, key = self.sibling(name[0])._guard, name[1]
            before: Entry | CorruptEntryError | None = None
            try:
                raw = store.own(name)
                if raw is None:
                    continue
                entry = guard.unseal(key, raw)
            except (StoreError, CodecError):
                continue  # a call has told of it
            old = journal.replaced[name]
            if old is not None:
                try:
                    before = guard.unseal(key, old)
                except CorruptEntryError as error:
                    before = error
            yield name, before, entry, raw.startswith(ENCRYPTED)

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


def activate_inside(item: pytest.Item, cache: WatchedCache, block: ExitStack) -> None:
    """Activate the cache in an async test's own context, which its runner has made or keeps."""
    function = getattr(item, "obj", None)
    if inspect.iscoroutinefunction(function):
        item.obj = inside(function, cache)  # type: ignore[attr-defined]
        block.callback(setattr, item, "obj", function)
    # unittest.IsolatedAsyncioTestCase copies the context when it is made: at the collection.
    context = getattr(getattr(item, "instance", None), "_asyncioTestContext", None)
    if context is not None:
        context.run(cache.__enter__)
        block.callback(context.run, cache.__exit__, None, None, None)


def inside(function: Callable[..., Any], cache: WatchedCache) -> Callable[..., Any]:
    """An async function, or one that makes an async generator, in the block of a cache."""
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def generate(*args: Any, **kwargs: Any) -> Any:
            async with cache:
                async for item in function(*args, **kwargs):
                    yield item

        return generate

    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> Any:
        if active_cache() is cache:
            return await function(*args, **kwargs)
        async with cache:
            return await function(*args, **kwargs)

    return run
