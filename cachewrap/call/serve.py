"""The service of a cache for a call: from its store, else upstream, kept and counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from dataclasses import fields, replace
from functools import partial
from typing import Any, Final, TypeVar, cast

from cachewrap import blocks
from cachewrap.call import lease
from cachewrap.call.aliases import found_by
from cachewrap.call.drivers import arun, run
from cachewrap.call.flow import Board, fetch, keep, look
from cachewrap.call.many import aserve_many, serve_many
from cachewrap.call.stats import Stats
from cachewrap.call.telling import FOR_OTHERS, Telling
from cachewrap.call.terms import (
    Absent,
    Exchange,
    Reply,
    Seen,
    Terms,
    found_in,
    frameless,
    peek,
)
from cachewrap.call.watching import Watching, began_of, forget
from cachewrap.entry import Outcome, kept_until
from cachewrap.errors import (
    CodecError,
    MissingTypeError,
    StoreError,
)
from cachewrap.format.sealing import answer_under, make_guard
from cachewrap.ledger.recorder import Recorder
from cachewrap.policy import Policy
from cachewrap.stores.base import Leases, Logs, Pairs, Store
from cachewrap.stores.breaker import Watched

R = TypeVar("R")

_UNWATCHED: Final = nullcontext()


class Serving(Telling):
    """The answers of one seed in one store, for decorators, patches and integrations."""

    _store: Store
    _watched: Store
    _seed: str | None
    policy: Policy
    stats: Stats

    def _set_up(self, store: Store, seed: str | None, policy: Policy) -> None:
        self._store = store
        waits = policy.store_seconds, policy.breaker_seconds
        self._watched = store if store.bounded else cast(Store, Watched(store, *waits))
        self._seed = seed
        self.policy = policy
        self.stats = Stats()
        self._guard = make_guard(policy.encryption_keys, seed, policy.max_entry_bytes, policy.types)
        # Callers of one request share its answer with those alone who want the same done with it.
        self._url = store.url
        if blocks.made is not None:
            blocks.made(self, self._url, self.stats)
        self._place = self._url if policy.mode == "normal" else f"{self._url}#{policy.mode}"
        self._terms = Terms(
            place=self._place,
            report=self.survive,
            mode=policy.mode,
            single_flight=policy.single_flight,
            guard=self._guard,
            wait_seconds=policy.wait_seconds,
            stopped_seconds=policy.lease_seconds,
            refused=self.refused,
        )
        # Nobody waits for an answer that will not be stored.
        if isinstance(store, Leases) and policy.mode != "read_only":
            give_up = partial(lease.give_up, store)
            self._terms = replace(
                self._terms,
                lease_seconds=policy.lease_seconds,
                give_up=give_up,
                pairs=isinstance(store, Pairs),
                stream_leases=policy.stream_leases,
            )
        self._idle = seed is None or policy.mode == "off"
        self._recorder: Recorder | None = None
        if policy.ledger and seed is not None:
            writes = policy.mode in ("normal", "refresh")
            self._recorder = Recorder(store, self._url, seed, writes=writes)
            if writes and isinstance(store, Logs):
                self._terms = replace(self._terms, replaced=self._replaced)
        self._reads = policy.mode in ("normal", "read_only")

    def __repr__(self) -> str:
        policy = self.policy
        changed = [
            f"{one.name}={getattr(policy, one.name)!r}"
            for one in fields(policy)
            if one.repr and getattr(policy, one.name) != one.default
        ]
        off = ["caches nothing, as its seed is None"] if self._seed is None else []
        return f"<Cache {', '.join([self._url, *off, *changed])}>"

    def _repr_html_(self) -> str:
        from cachewrap import notebook

        return notebook.of_cache(self)

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in FOR_OTHERS]

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

    def serve(
        self,
        exchange: Exchange[R],
        call: Callable[[], R],
        *seen: Seen,
        use: Callable[[Reply[R]], bool] | None = None,
    ) -> Reply[R]:
        """Answer one request: from the store, else by ``call`` whose answer is stored.

        Only errors of ``call`` come out; faults of the store and of entries are survived.

        Args:
            exchange: the request.
            call: asks upstream.
            seen: what the store gave for the key, or raised, where it has just been asked.
            use: makes what the caller gets of a reply, before it is counted; False where that
                cannot be: the exchange then loads what is stored no more, and all begins anew.
        """
        watch = exchange.begun = self.watch(exchange)
        with watch or _UNWATCHED:
            found = self._look(exchange, *seen)
            while True:
                if not isinstance(found, Reply):
                    found = run(fetch(exchange, self._terms, found), self._watched, call)
                if use is None or use(found):
                    break
                found = self._look(exchange)
        return self.finish(found, exchange, watch)

    async def aserve(
        self,
        exchange: Exchange[R],
        call: Callable[[], Awaitable[R]],
        *seen: Seen,
        use: Callable[[Reply[R]], Awaitable[bool]] | None = None,
    ) -> Reply[R]:
        """`serve` for async callers."""
        watch = exchange.begun = self.watch(exchange)
        with watch or _UNWATCHED:
            found = await self._alook(exchange, *seen)
            while True:
                if not isinstance(found, Reply):
                    found = await arun(fetch(exchange, self._terms, found), self._watched, call)
                if use is None or await use(found):
                    break
                found = await self._alook(exchange)
        return self.finish(found, exchange, watch)

    serve_many = serve_many
    aserve_many = aserve_many

    def open(
        self,
        exchange: Exchange[R],
        call: Callable[[Absent, Any], R | None],
        join: Board,
        *seen: Seen,
        use: Callable[[Reply[Any]], bool],
    ) -> Reply[Any]:
        """`serve` for a response that stays open, which is kept and counted when it was read.

        Args:
            exchange: the request.
            call: asks upstream, see `fetch`.
            join: boards the open response of the request.
            seen: as for `serve`.
            use: as for `serve`.
        """
        watch = exchange.begun = self.watch(exchange)
        with watch or _UNWATCHED:
            found = self._look(exchange, *seen)
            while True:
                if not isinstance(found, Reply):
                    found = run(fetch(exchange, self._terms, found, join), self._watched, call)
                if use(found):
                    break
                found = self._look(exchange)
        return self._opened(found, exchange, watch)

    async def aopen(
        self,
        exchange: Exchange[R],
        call: Callable[[Absent, Any], Awaitable[R | None]],
        join: Board,
        *seen: Seen,
        use: Callable[[Reply[Any]], Awaitable[bool]],
        away: Callable[[], Awaitable[bool]] | None = None,
    ) -> Reply[Any]:
        """`open` for async callers.

        Args:
            exchange: the request.
            call: asks upstream, see `fetch`.
            join: boards the open response of the request.
            seen: as for `serve`.
            use: as for `serve`.
            away: whether somebody else has answered what is not stored.
        """
        watch = exchange.begun = self.watch(exchange)
        with watch or _UNWATCHED:
            found = await self._alook(exchange, *seen)
            if away is not None and not isinstance(found, Reply) and await away():
                forget(watch)
                return Reply(Outcome.JOINED, None, opened=True)
            while True:
                if not isinstance(found, Reply):
                    found = await arun(
                        fetch(exchange, self._terms, found, join), self._watched, call
                    )
                if await use(found):
                    break
                found = await self._alook(exchange)
        return self._opened(found, exchange, watch)

    def _opened(
        self, found: Reply[Any], exchange: Exchange[Any], watch: Watching | None
    ) -> Reply[Any]:
        if not found.opened:
            return self.finish(found, exchange, watch)
        if found.outcome is Outcome.JOINED and found.value is not None:
            found.value.begun = watch  # it is counted when it was read
            found.value.by = exchange.by
            if (began := began_of(watch)) is not None:
                began.left = Outcome.JOINED
        return found

    def look(self, exchange: Exchange[R]) -> Reply[R] | Absent:
        """The first half of `serve`, for streams: what is stored, if anything.

        A call may look once more, as it goes on by itself.
        """
        watch = exchange.begun = getattr(exchange, "begun", None) or self.watch(exchange)
        with watch or _UNWATCHED:
            found = self._look(exchange)
        return self.finish(found, exchange, watch) if isinstance(found, Reply) else found

    async def alook(self, exchange: Exchange[R]) -> Reply[R] | Absent:
        """`look` for async callers."""
        watch = exchange.begun = getattr(exchange, "begun", None) or self.watch(exchange)
        with watch or _UNWATCHED:
            found = await self._alook(exchange)
        return self.finish(found, exchange, watch) if isinstance(found, Reply) else found

    # A hit needs no flow and no driver: these two are `flow.look`, in a straight line, for the
    # modes in which it takes that.

    def _look(self, exchange: Exchange[R], *seen: Seen) -> Reply[R] | Absent:
        if not (seen or self._reads):
            return run(look(exchange, self._terms), self._watched)
        found = found_in(exchange, seen[0] if seen else self.read(exchange.key), self._terms)
        if found.alias and isinstance(found, Absent):  # a call less for what is none
            return found_by(exchange, found, self.read(found.alias.target), self._terms)
        return found

    async def _alook(self, exchange: Exchange[R], *seen: Seen) -> Reply[R] | Absent:
        if not (seen or self._reads):
            return await arun(look(exchange, self._terms), self._watched)
        there = seen[0] if seen else await self.aread(exchange.key)
        found = found_in(exchange, there, self._terms)
        if found.alias and isinstance(found, Absent):  # a call less for what is none
            there = await self.aread(found.alias.target)
            return found_by(exchange, found, there, self._terms)
        return found

    def read(self, key: str) -> Seen:
        """What the store gives for a key, or raises."""
        try:
            return self._watched.get(key)
        except StoreError as error:
            return error

    async def aread(self, key: str) -> Seen:
        """`read` for async callers."""
        try:
            return await self._watched.aget(key)
        except StoreError as error:
            return error

    def peek(self, exchange: Exchange[R], seen: Seen) -> Reply[R] | None:
        """What a plain hit `look` would find, told to nobody; None where it is anything else.

        Whoever serves it says so with `finish`; else the request takes its usual way, with
        ``seen``.
        """
        if seen is None:
            return None
        if isinstance(seen, StoreError):
            frameless(seen)
            return None
        try:
            found = peek(exchange.key, seen, self._guard, exchange.load)
        except CodecError:
            return None
        return None if found is None else Reply(Outcome.HIT, *found)

    def keep(self, exchange: Exchange[R], result: R, seconds: float, absent: Absent) -> Reply[R]:
        """The second half of `serve`, for streams: store an answer that took ``seconds``."""
        watch = self._begun(exchange, seconds)
        reply, _ = run(keep(exchange, result, seconds, absent, self._terms), self._watched)
        return self.finish(reply, exchange, watch)

    async def akeep(
        self, exchange: Exchange[R], result: R, seconds: float, absent: Absent
    ) -> Reply[R]:
        """`keep` for async callers."""
        watch = self._begun(exchange, seconds)
        reply, _ = await arun(keep(exchange, result, seconds, absent, self._terms), self._watched)
        return self.finish(reply, exchange, watch)

    @property
    def shared_place(self) -> str | None:
        """Where callers of one request at one time share its stream; None if they do not."""
        return self._place if self.policy.single_flight else None

    def discard(self, key: str) -> bool:
        """Remove the entry under a key; whether there was one. Raises `StoreError`."""
        return self._seed is not None and self._store.delete(key)

    def damaged(self, exchange: Exchange[Any], error: CodecError) -> None:
        """An entry cannot be read on, of which the caller has had a part: the next answer stands.

        Where an alias led to it, what the alias keeps is back. Raises `ReplayMissError` in mode
        replay, which asks nobody for the rest.
        """
        if self._gives_way(exchange, error):
            key = exchange.key
            with suppress(StoreError):
                before = self._before(key, raw := self._store.get(key))
                if before is None:
                    self._store.delete(key)
                else:
                    self._store.add(key, before[0], expires=before[1], over=raw)

    async def adamaged(self, exchange: Exchange[Any], error: CodecError) -> None:
        """`damaged` for async callers."""
        if self._gives_way(exchange, error):
            key = exchange.key
            with suppress(StoreError):
                before = self._before(key, raw := await self._store.aget(key))
                if before is None:
                    await self._store.adelete(key)
                else:
                    await self._store.aadd(key, before[0], expires=before[1], over=raw)

    def _before(self, key: str, raw: bytes | None) -> tuple[bytes, float] | None:
        """What an alias under a key keeps of before it, and until when; None for no alias."""
        if raw is None:
            return None
        try:
            own, entry = answer_under(key, raw, self._guard)
        except CodecError:
            return None
        return None if own is raw else (own, kept_until(entry.expires, entry.created))

    def _gives_way(self, exchange: Exchange[Any], error: CodecError) -> bool:
        self.survive(error, exchange.source)
        exchange.begun = None  # it was a hit, and is told as another call from here on
        if self.policy.mode == "replay":
            from cachewrap.explain import Explanation

            why = Explanation(exchange.source, exchange.key, False, (), self._url)
            raise why.error(error) from error
        return self.policy.mode != "read_only" and not isinstance(error, MissingTypeError)


FOR_OTHERS.update(
    name
    for name in (*vars(Serving), *vars(Telling))
    if not name.startswith("_") and name not in ("seed", "store", "url")
)
