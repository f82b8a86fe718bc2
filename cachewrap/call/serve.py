"""What a cache does with a call: it serves it from its store, keeps its answer, counts it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from cachewrap.call import lease
from cachewrap.call.drivers import arun, run
from cachewrap.call.flow import Board, fetch, found_in, keep, look, unread
from cachewrap.call.stats import Stats
from cachewrap.call.terms import Absent, Exchange, Reply, Terms
from cachewrap.entry import Entry, Outcome
from cachewrap.errors import CachewrapError, CorruptEntryError, StoreError
from cachewrap.format.sealing import make_guard
from cachewrap.policy import Policy
from cachewrap.stores.base import Leases, Store
from cachewrap.telemetry import events
from cachewrap.telemetry.events import Watch, tell_bypass
from cachewrap.telemetry.faults import survive

R = TypeVar("R")

Seen: TypeAlias = bytes | StoreError | None
"""What a store gave for a key: its bytes, None, or the fault that it raised."""

_UNWATCHED: Final = nullcontext()


class Serving:
    """The answers of one seed in one store, for decorators, patches and integrations."""

    _store: Store
    _seed: str | None
    policy: Policy
    stats: Stats

    def _set_up(self, store: Store, seed: str | None, policy: Policy) -> None:
        self._store = store
        self._seed = seed
        self.policy = policy
        self.stats = Stats()
        self._guard = make_guard(policy.encryption_keys, seed)
        # Callers of one request share its answer with those alone who want the same done with it.
        self._url = store.url
        self._place = self._url if policy.mode == "normal" else f"{self._url}#{policy.mode}"
        self._terms = Terms(
            place=self._place,
            report=self.survive,
            mode=policy.mode,
            single_flight=policy.single_flight,
            guard=self._guard,
        )
        # Nobody waits for an answer that will not be stored.
        if isinstance(store, Leases) and policy.mode != "read_only":
            give_up = partial(lease.give_up, store)
            self._terms = replace(self._terms, lease_seconds=policy.lease_seconds, give_up=give_up)
        self._quiet = replace(self._terms, report=_tell_nobody)
        self._idle = seed is None or policy.mode == "off"
        self._reads = policy.mode in ("normal", "read_only")

    @property
    def seed(self) -> str | None:
        """The seed as text, or None for a cache that caches nothing."""
        return self._seed

    @property
    def url(self) -> str:
        """Where the entries are, without credentials."""
        return self._url

    @property
    def store(self) -> Store:
        """Where the entries live, as bytes, for tools: in envelopes, encrypted with a key."""
        return self._store

    def serve(self, exchange: Exchange[R], call: Callable[[], R], *seen: Seen) -> Reply[R]:
        """Answer one request: from the store, else by ``call`` whose answer is stored.

        Only errors of ``call`` come out; faults of the store and of entries are survived.

        Args:
            exchange: the request.
            call: asks upstream.
            seen: what the store gave for the key, or raised, where it has just been asked.
        """
        watch = self.watch(exchange)
        with watch or _UNWATCHED:
            found = self._found(exchange, *seen) if seen else self._look(exchange)
            if not isinstance(found, Reply):
                found = run(fetch(exchange, self._terms, found), self._store, call)
        return self.finish(found, exchange, watch)

    async def aserve(
        self, exchange: Exchange[R], call: Callable[[], Awaitable[R]], *seen: Seen
    ) -> Reply[R]:
        """`serve` for async callers."""
        watch = self.watch(exchange)
        with watch or _UNWATCHED:
            found = self._found(exchange, *seen) if seen else await self._alook(exchange)
            if not isinstance(found, Reply):
                found = await arun(fetch(exchange, self._terms, found), self._store, call)
        return self.finish(found, exchange, watch)

    def open(
        self, exchange: Exchange[R], call: Callable[[Absent, Any], R | None], join: Board
    ) -> Reply[Any]:
        """`serve` for a response that stays open, which is kept and counted when it was read.

        Args:
            exchange: the request.
            call: asks upstream, see `fetch`.
            join: boards the open response of the request.
        """
        watch = self.watch(exchange)
        with watch or _UNWATCHED:
            found = self._look(exchange)
        if not isinstance(found, Reply):
            found = run(fetch(exchange, self._terms, found, join), self._store, call)
        return found if found.opened else self.finish(found, exchange, watch)

    async def aopen(
        self, exchange: Exchange[R], call: Callable[[Absent, Any], Awaitable[R | None]], join: Board
    ) -> Reply[Any]:
        """`open` for async callers."""
        watch = self.watch(exchange)
        with watch or _UNWATCHED:
            found = await self._alook(exchange)
        if not isinstance(found, Reply):
            found = await arun(fetch(exchange, self._terms, found, join), self._store, call)
        return found if found.opened else self.finish(found, exchange, watch)

    def _found(self, exchange: Exchange[R], seen: Seen) -> Reply[R] | Absent:
        if isinstance(seen, StoreError):
            return unread(exchange, seen, self._terms)
        return found_in(exchange, seen, self._terms)

    def look(self, exchange: Exchange[R]) -> Reply[R] | Absent:
        """The first half of `serve`, for streams: what is stored, if anything."""
        watch = self.watch(exchange)
        with watch or _UNWATCHED:
            found = self._look(exchange)
        return self.finish(found, exchange, watch) if isinstance(found, Reply) else found

    async def alook(self, exchange: Exchange[R]) -> Reply[R] | Absent:
        """`look` for async callers."""
        watch = self.watch(exchange)
        with watch or _UNWATCHED:
            found = await self._alook(exchange)
        return self.finish(found, exchange, watch) if isinstance(found, Reply) else found

    # A hit needs no flow and no driver: these two are `flow.look`, in a straight line, for the
    # modes in which it takes that.

    def _look(self, exchange: Exchange[R]) -> Reply[R] | Absent:
        if not self._reads:
            return run(look(exchange, self._terms), self._store)
        try:
            raw = self._store.get(exchange.key)
        except StoreError as error:
            return unread(exchange, error, self._terms)
        return found_in(exchange, raw, self._terms)

    async def _alook(self, exchange: Exchange[R]) -> Reply[R] | Absent:
        if not self._reads:
            return await arun(look(exchange, self._terms), self._store)
        try:
            raw = await self._store.aget(exchange.key)
        except StoreError as error:
            return unread(exchange, error, self._terms)
        return found_in(exchange, raw, self._terms)

    def peek(self, exchange: Exchange[R]) -> Reply[R] | None:
        """What `look` would find, told to nobody: None where it is anything but a plain hit.

        Whoever serves it says so with `told`; else the request takes its usual way.
        """
        try:
            raw = self._store.get(exchange.key)
        except StoreError:
            return None
        return self._seen(exchange, raw)

    async def apeek(self, exchange: Exchange[R]) -> Reply[R] | None:
        """`peek` for async callers."""
        try:
            raw = await self._store.aget(exchange.key)
        except StoreError:
            return None
        return self._seen(exchange, raw)

    def _seen(self, exchange: Exchange[R], raw: bytes | None) -> Reply[R] | None:
        found = found_in(exchange, raw, self._quiet)
        return found if isinstance(found, Reply) else None

    def keep(self, exchange: Exchange[R], result: R, seconds: float, absent: Absent) -> Reply[R]:
        """The second half of `serve`, for streams: store an answer that took ``seconds``."""
        watch = self.watch(exchange, seconds)
        reply, _ = run(keep(exchange, result, seconds, absent, self._terms), self._store)
        return self.finish(reply, exchange, watch)

    async def akeep(
        self, exchange: Exchange[R], result: R, seconds: float, absent: Absent
    ) -> Reply[R]:
        """`keep` for async callers."""
        watch = self.watch(exchange, seconds)
        reply, _ = await arun(keep(exchange, result, seconds, absent, self._terms), self._store)
        return self.finish(reply, exchange, watch)

    def watch(self, exchange: Exchange[Any], seconds: float = 0.0) -> Watch | None:
        """Time one call, ``seconds`` of which are over; None where nobody hears of it."""
        hook = self.policy.on_event
        if hook is None and (
            events.remembered(logging.DEBUG) is False or not events.log.isEnabledFor(logging.DEBUG)
        ):
            return None
        seed, place = self._seed or "", self._url
        return Watch(hook, exchange.source, exchange.model, exchange.key, seed, place, seconds)

    def finish(self, reply: Reply[R], exchange: Exchange[R], watch: Watch | None) -> Reply[R]:
        """The reply, counted, and told to those who hear of it."""
        self.stats.count(reply, exchange)
        if watch is not None:
            stored = reply.own and reply.entry is not None
            watch.tell(reply.outcome, reply.entry, stored=stored)
        return reply

    def bypass(self, source: str, reason: str) -> None:
        """Count a call that goes past the cache, and tell those who hear of it why."""
        self.stats.count_bypass(reason)
        tell_bypass(self.policy.on_event, source, self._seed or "", self._url, reason)

    @property
    def shared_place(self) -> str | None:
        """Where callers of one request at one time share its stream; None if they do not."""
        return self._place if self.policy.single_flight else None

    def count_joined(self, entry: Entry | None) -> None:
        """Count a call that read another caller's stream; ``entry`` is what was stored of it."""
        self.stats.count(Reply(Outcome.JOINED, None, entry))

    def discard(self, key: str) -> bool:
        """Remove the entry under a key; whether there was one. Raises `StoreError`."""
        return self._seed is not None and self._store.delete(key)

    def survive(self, error: CachewrapError, source: str) -> None:
        """Count a fault that does not stop the call of ``source``, and warn of it once.

        A cache with ``on_error="raise"`` raises faults of the store and of entries.
        """
        self.stats.count_error()
        if self.policy.raise_errors and isinstance(error, (StoreError, CorruptEntryError)):
            raise error
        survive(error, source, self._url)


def _tell_nobody(error: CachewrapError, source: str) -> None:
    """Whoever reads the same entry next tells of it."""
