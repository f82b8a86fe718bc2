"""`Cache`: the answers of one seed in one store, as a block, as a server of calls, as a mapping."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, TypeVar, Unpack

import msgspec

from cachewrap import blocks, codec, events, leases, plugins
from cachewrap.drivers import arun, run
from cachewrap.entry import Entry, Facts, Items, Outcome
from cachewrap.envelope import seal
from cachewrap.errors import (
    CachewrapError,
    ConfigurationError,
    CorruptEntryError,
    ReplayMissError,
    StoreError,
)
from cachewrap.events import Hook, Watch, tell_bypass
from cachewrap.faults import survive
from cachewrap.flow import Absent, Exchange, Reply, Terms, fetch, found_in, keep, look, unread
from cachewrap.guard import make_guard
from cachewrap.key import canonical, canonical_json, decode_request, encode, key_of, salted
from cachewrap.nearest import Explanation, nearest
from cachewrap.policy import (
    UNSET,
    CacheOptions,
    Mode,
    Policy,
    Seed,
    Ttl,
    Unset,
    check_mode,
    kept_until,
    make_policy,
    seed_text,
    ttl_seconds,
)
from cachewrap.stats import Stats
from cachewrap.stores.base import Store
from cachewrap.stores.memory import MemoryStore
from cachewrap.trial import attempt
from cachewrap.urls import parse_url

R = TypeVar("R")
C = TypeVar("C", bound="Cache")

Seen: TypeAlias = bytes | StoreError | None
"""What a store gave for a key: its bytes, None, or the fault that it raised."""

_UNWATCHED: Final = nullcontext()
_OFF: Final = "off"
_SIBLINGS: Final = 32  # each may hold files or connections open

_PLAIN_KEY: Final = salted("key")
_KEY: Final = re.compile("[0-9a-f]{64}")
_SET: Final = "cache.set"

_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


# Another thread may have held the lock at the fork; in the child nobody would release it.
os.register_at_fork(after_in_child=_renew_lock)


class Cache:
    """The answers of one seed in one store.

    Make one with `Cache.disk`, `Cache.redis`, `Cache.memory`, `Cache.jsonl` or `Cache.from_url`,
    and enter it: every decorated function and every patched SDK called inside the block, in code
    that knows nothing of cachewrap, is served from it. Blocks nest (the innermost wins), a cache
    may be entered again inside its own block and from several threads at once, and ``async with``
    does the same. Leaving the last block closes the store; the next use opens it again.

    >>> with Cache.memory() as cache:
    ...     cache.set("greeting", "hello")
    ...     cache.get("greeting")
    'hello'

    Args:
        store: where the entries live; any `Store`.
        cache_seed: the seed whose answers these are; None is a cache that caches nothing.
        options: see `CacheOptions`.

    Raises `ConfigurationError` for a seed or an option that cannot be.
    """

    _store: Store
    _seed: str | None
    policy: Policy
    stats: Stats
    numbering: blocks.Numbering  # of calls that this cache serves without having been entered

    def __init__(
        self, store: Store, *, cache_seed: Seed | None = 41, **options: Unpack[CacheOptions]
    ) -> None:
        self._set_up(store, None if cache_seed is None else seed_text(cache_seed), options)

    def _set_up(self, store: Store, seed: str | None, options: CacheOptions | Policy) -> None:
        policy = options if isinstance(options, Policy) else make_policy(options)
        # Nobody waits for an answer that will not be stored.
        shared = type(store).acquire is not Store.acquire and policy.mode != "read_only"
        self._store = store
        self._seed = seed
        self.policy = policy
        self.stats = Stats()
        self.numbering = blocks.Numbering()
        self._guard = make_guard(policy.encryption_keys, seed)
        # Callers of one request share its answer with those alone who want the same done with it.
        self._url = store.url
        self._place = self._url if policy.mode == "normal" else f"{self._url}#{policy.mode}"
        self._terms = Terms(
            place=self._place,
            report=self.survive,
            mode=policy.mode,
            single_flight=policy.single_flight,
            lease_seconds=policy.lease_seconds if shared else None,
            give_up=partial(leases.give_up, store),
            guard=self._guard,
        )
        self._idle = seed is None or policy.mode == "off"
        self._entered = [0]
        self._plain = policy.plain and seed is not None
        self._unheard = self._plain and policy.on_event is None
        self._straight = policy.mode in ("normal", "read_only")
        self._quiet = replace(self._terms, report=_tell_nobody)
        self._siblings: dict[str | None, Cache] = {}
        self._views: dict[Policy, Self] = {}

    # -- making one ---------------------------------------------------------------------------

    @classmethod
    def disk(
        cls,
        cache_seed: Seed | None = 41,
        cache_path_root: str | os.PathLike[str] = ".cache",
        *,
        max_bytes: int | None = None,
        **options: Unpack[CacheOptions],
    ) -> Self:
        """A cache on disk, in the folder ``<cache_path_root>/<cache_seed>/``.

        Nothing is written before the first call. The folder is readable by its owner alone.

        Args:
            cache_seed: the seed; None is a cache that caches nothing.
            cache_path_root: the folder that holds one folder for each seed.
            max_bytes: evict the least recently used entries above this size; None evicts nothing.
            options: see `CacheOptions`.
        """
        from cachewrap.stores.disk import DiskStore

        store = DiskStore(Path(cache_path_root), _partition(cache_seed), max_bytes=max_bytes)
        return cls(store, cache_seed=cache_seed, **options)

    @classmethod
    def redis(
        cls,
        cache_seed: Seed | None = 41,
        redis_url: str = "redis://localhost:6379/0",
        *,
        namespace: str = "default",
        breaker_seconds: float = 30.0,
        **options: Unpack[CacheOptions],
    ) -> Self:
        """A cache on a Redis or Valkey server, shared by every process that reaches it.

        Args:
            cache_seed: the seed; None is a cache that caches nothing.
            redis_url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, with the options that
                redis-py reads from it; ``redis+cluster://host:port,host:port`` of a cluster;
                ``redis+sentinel://host:port,host:port/service/0`` of a master with sentinels
                (with ``rediss+`` in front for TLS).
            namespace: keeps applications on one server apart.
            breaker_seconds: how long a server that cannot be reached is left alone.
            options: see `CacheOptions`.
        """
        from cachewrap.stores.redis import RedisStore

        store = RedisStore(
            redis_url,
            _partition(cache_seed),
            namespace=namespace,
            breaker_seconds=breaker_seconds,
        )
        return cls(store, cache_seed=cache_seed, **options)

    @classmethod
    def memory(cls, cache_seed: Seed | None = 41, **options: Unpack[CacheOptions]) -> Self:
        """A cache in this process. A copy pickled to another process starts empty there.

        Args:
            cache_seed: the seed; None is a cache that caches nothing.
            options: see `CacheOptions`.
        """
        return cls(MemoryStore(_partition(cache_seed)), cache_seed=cache_seed, **options)

    @classmethod
    def jsonl(
        cls,
        path: str | os.PathLike[str],
        cache_seed: Seed | None = 41,
        **options: Unpack[CacheOptions],
    ) -> Self:
        """A cache in one text file, a line for each answer: a cassette, to be kept with the code.

        The file and its folder are made at the first answer that is stored. Every seed has its
        lines in the one file. Leaving the block puts the lines in order, so that a recording made
        anew can be reviewed as a diff.

        Args:
            path: the file.
            cache_seed: the seed; None is a cache that caches nothing.
            options: see `CacheOptions`.
        """
        from cachewrap.stores.jsonl import JsonlStore

        return cls(JsonlStore(path, _partition(cache_seed)), cache_seed=cache_seed, **options)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """A cache from one line of configuration.

        ``disk:///absolute/folder``, ``disk:relative/folder``, ``redis://…``, ``rediss://…``,
        ``unix://…``, ``redis+cluster://…``, ``redis+sentinel://…``, ``jsonl:relative/file.jsonl``
        or ``memory://``, with ``cache_seed`` and the `CacheOptions` in the query, ``max_bytes``
        for disk, ``namespace`` and ``breaker_seconds`` for Redis. An installed package may plug in
        stores for other schemes. An encryption key has no place in a URL: it is taken from the
        environment.

        >>> Cache.from_url("memory://?cache_seed=7").seed
        '7'

        Raises `ConfigurationError` for another scheme, an unknown option or a value that does not
        fit.
        """
        kind, place, options = parse_url(url)
        if kind == "memory":
            return cls.memory(**options)
        if kind == "disk":
            return cls.disk(cache_path_root=place, **options)
        if kind == "jsonl":
            return cls.jsonl(place, **options)
        if kind == "redis":
            return cls.redis(redis_url=place, **options)
        seed = options.pop("cache_seed", 41)
        store = plugins.make_store(kind, place, _partition(seed))
        if not isinstance(store, Store):
            raise ConfigurationError(
                f"the plug-in for {kind}: made a {type(store).__qualname__}, which is no Store"
            )
        return cls(store, cache_seed=seed, **options)

    def reseed(self, cache_seed: Seed | None) -> Self:
        """A cache on the same store with another seed, and counters of its own.

        Raises `ConfigurationError` for a seed that cannot be.
        """
        seed = None if cache_seed is None else seed_text(cache_seed)
        return _rebuild(type(self), self._store.reseed(seed or _OFF), seed, self.policy)

    def mode(self, mode: Mode) -> Self:
        """This cache in another mode: the same entries, seed and counters.

        Use it as a block, ``with cache.mode("refresh"):``, or as the ``cache=`` of one call. For
        the modes see `CacheOptions`. Raises `ConfigurationError` for a mode that there is not.
        """
        return self._view(replace(self.policy, mode=check_mode(mode)))

    def samples(self) -> Self:
        """This cache, in whose blocks the n-th occurrence of a request is a sample of its own.

        The first run of ``with cache.samples():`` asks upstream for every occurrence; every later
        run gets the same answers. Each entering of the block counts anew, and threads and tasks
        that are started inside count together. The first occurrence is what is stored without
        samples; a call that raises leaves its number to the next one; a call with ``sample=`` of
        its own is not counted. What a sampled call of a decorated function asks itself is counted
        in that call alone.

        >>> import itertools
        >>> dice = itertools.cycle([3, 1, 6])
        >>> from cachewrap import llm_cached
        >>> @llm_cached
        ... def roll(prompt: str) -> int:
        ...     return next(dice)
        >>> cache = Cache.memory()
        >>> for _ in range(2):
        ...     with cache.samples():
        ...         [roll("a die"), roll("a die"), roll("a die")]
        [3, 1, 6]
        [3, 1, 6]
        """
        return self._view(replace(self.policy, samples=True))

    def telling(self, on_event: Hook) -> Self:
        """This cache, which tells a hook of every call: the same entries, seed and counters.

        Args:
            on_event: as in `CacheOptions`.
        """
        return self._view(replace(self.policy, on_event=on_event))

    def _view(self, policy: Policy) -> Self:
        """The same entries under another policy."""
        if policy == self.policy:
            return self
        view = self._views.get(policy)
        if view is None:
            view = _rebuild(type(self), self._store, self._seed, policy)
            view.stats, view.numbering, view._entered = self.stats, self.numbering, self._entered
            view = self._views.setdefault(policy, view)
        return view

    def sibling(self, cache_seed: Seed | None) -> Cache:
        """The cache that serves a call with a seed of its own: counted with this cache's calls."""
        seed = None if cache_seed is None else seed_text(cache_seed)
        if seed == self._seed:
            return self
        other = self._siblings.get(seed)
        if other is None:
            other = self.reseed(cache_seed)
            other.stats = self.stats
            other = self._siblings.setdefault(seed, other)
            # Other threads add and remove as well: each of the oldest is closed by one of them.
            for oldest in list(self._siblings)[:-_SIBLINGS]:
                if (gone := self._siblings.pop(oldest, None)) is not None:
                    gone.close()
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._store, self._seed, self.policy)

    def __repr__(self) -> str:
        return f"<Cache {self._url} seed={self._seed}>"

    def __bool__(self) -> bool:
        """Always true, even when empty: code in the field asks ``if cache:``."""
        return True

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

    def check(self) -> None:
        """Raise `StoreError` if it can be told, without writing, that the cache will not work."""
        # Where nothing will be written, it does not matter whether anything could be.
        if self._seed is not None and self.policy.mode in ("normal", "refresh"):
            self._store.check()

    # -- as a block ---------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.check()
        with _lock:
            self._entered[0] += 1
        blocks.push(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._leave():
            self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._leave():
            await self.aclose()

    def _leave(self) -> bool:
        blocks.pop(self)
        with _lock:
            self._entered[0] -= 1
            return self._entered[0] == 0

    def close(self) -> None:
        """Release files and connections. The next use opens them again."""
        self._store.close()
        for other in self._others():
            other.close()

    async def aclose(self) -> None:
        """`close` for async callers, which also closes the connections of their event loop."""
        await self._store.aclose()
        for other in self._others():
            await other.aclose()

    def _others(self) -> list[Cache]:
        others = list(self._siblings.values())
        for view in list(self._views.values()):
            others += view._others()
        return others

    # -- as the server of calls: for decorators, patches and integrations ------------------------

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
        return self.told(found, exchange, watch)

    async def aserve(
        self, exchange: Exchange[R], call: Callable[[], Awaitable[R]], *seen: Seen
    ) -> Reply[R]:
        """`serve` for async callers."""
        watch = self.watch(exchange)
        with watch or _UNWATCHED:
            found = self._found(exchange, *seen) if seen else await self._alook(exchange)
            if not isinstance(found, Reply):
                found = await arun(fetch(exchange, self._terms, found), self._store, call)
        return self.told(found, exchange, watch)

    def _found(self, exchange: Exchange[R], seen: Seen) -> Reply[R] | Absent:
        if isinstance(seen, StoreError):
            return unread(exchange, seen, self._terms)
        return found_in(exchange, seen, self._terms)

    def look(self, exchange: Exchange[R]) -> Reply[R] | Absent:
        """The first half of `serve`, for streams: what is stored, if anything."""
        watch = self.watch(exchange)
        with watch or _UNWATCHED:
            found = self._look(exchange)
        return self.told(found, exchange, watch) if isinstance(found, Reply) else found

    async def alook(self, exchange: Exchange[R]) -> Reply[R] | Absent:
        """`look` for async callers."""
        watch = self.watch(exchange)
        with watch or _UNWATCHED:
            found = await self._alook(exchange)
        return self.told(found, exchange, watch) if isinstance(found, Reply) else found

    # A hit needs no flow and no driver: these two are `flow.look`, in a straight line, for the
    # modes in which it takes that.

    def _look(self, exchange: Exchange[R]) -> Reply[R] | Absent:
        if not self._straight:
            return run(look(exchange, self._terms), self._store)
        try:
            raw = self._store.get(exchange.key)
        except StoreError as error:
            return unread(exchange, error, self._terms)
        return found_in(exchange, raw, self._terms)

    async def _alook(self, exchange: Exchange[R]) -> Reply[R] | Absent:
        if not self._straight:
            return await arun(look(exchange, self._terms), self._store)
        try:
            raw = await self._store.aget(exchange.key)
        except StoreError as error:
            return unread(exchange, error, self._terms)
        return found_in(exchange, raw, self._terms)

    def glance(self, exchange: Exchange[R]) -> Reply[R] | None:
        """What `look` would find, told to nobody: None where it is anything but a plain hit.

        Whoever serves it says so with `told`; else the request takes its usual way.
        """
        try:
            raw = self._store.get(exchange.key)
        except StoreError:
            return None
        return self._seen(exchange, raw)

    async def aglance(self, exchange: Exchange[R]) -> Reply[R] | None:
        """`glance` for async callers."""
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
        reply = run(keep(exchange, result, seconds, absent, self._terms), self._store)
        return self.told(reply, exchange, watch)

    async def akeep(
        self, exchange: Exchange[R], result: R, seconds: float, absent: Absent
    ) -> Reply[R]:
        """`keep` for async callers."""
        watch = self.watch(exchange, seconds)
        reply = await arun(keep(exchange, result, seconds, absent, self._terms), self._store)
        return self.told(reply, exchange, watch)

    def watch(self, exchange: Exchange[Any], seconds: float = 0.0) -> Watch | None:
        """Time one call, ``seconds`` of which are over; None where nobody hears of it."""
        hook = self.policy.on_event
        if hook is None and (
            events.remembered(logging.DEBUG) is False or not events.log.isEnabledFor(logging.DEBUG)
        ):
            return None
        seed, place = self._seed or "", self._url
        return Watch(hook, exchange.source, exchange.model, exchange.key, seed, place, seconds)

    def told(self, reply: Reply[R], exchange: Exchange[R], watch: Watch | None) -> Reply[R]:
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

    def explain(
        self, call: Callable[..., Any] | Mapping[str, Any], /, *args: Any, **kwargs: Any
    ) -> Explanation:
        """Why a call is a hit or a miss: whether it is stored, and what is nearest to it.

        Every entry is read, which takes some seconds for 100,000 of them. A call that a cache
        serves goes no further than that cache; one that none serves is made.

        Args:
            call: what would be called: a decorated function, a method of a patched SDK, or any
                function, of which the first request that is not stored is explained. Or a mapping:
                a canonical request, or the JSON body of one.
            args: the call's arguments.
            kwargs: the call's keywords.

        >>> from cachewrap import llm_cached
        >>> @llm_cached
        ... def complete(prompt: str, *, temperature: float = 0.0) -> str:
        ...     return "sunny"
        >>> with Cache.memory() as cache:
        ...     answer = complete("How is the weather?", temperature=0.2)
        >>> cache.explain(complete, "How is the weather?", temperature=0.7).nearest[0].diff
        ('temperature: 0.2 → 0.7',)

        Raises `StoreError`, and what the call raises before it asks upstream.
        """
        if not callable(call):
            return self._explain_request(call)
        explain: Any = getattr(call, "explain", None)
        with self.mode("replay"):
            if explain is not None:
                explained: Explanation = explain(*args, **kwargs)
                return explained
            try:
                attempt(lambda: call(*args, **kwargs))
            except ReplayMissError as miss:
                if isinstance(miss.explanation, Explanation):
                    return miss.explanation
                raise
        return Explanation("", "", True, (), self.url)

    def _explain_request(self, request: Mapping[str, Any]) -> Explanation:
        whole = "url" in request or "function" in request
        source = str(request.get("function", ""))
        part = "" if whole else "body"
        asked = encode(dict(request) if whole else canonical_json(request))
        near = nearest(self._store, self._guard, asked, source=source, part=part, count=3)
        stored = bool(near) and not near[0].diff
        return Explanation(source, near[0].key if stored else "", stored, near, self.url)

    def explain_exchange(self, exchange: Exchange[Any]) -> Explanation:
        """`explain` for decorators and integrations. Raises `StoreError`."""
        key, source = exchange.key, exchange.source
        raw = self._store.get(key)
        if raw is not None and self._serves(key, raw):
            return Explanation(source, key, True, (), self.url)
        near = nearest(self._store, self._guard, exchange.asked, source=source, count=4)
        others = tuple(other for other in near if other.key != key)
        return Explanation(source, key, False, others[:3], self.url)

    def _serves(self, key: str, raw: bytes) -> bool:
        try:
            entry = self._guard.unseal(key, raw)
        except CorruptEntryError:
            return False
        return self.policy.mode == "replay" or entry.fresh(time.time())

    # -- as a plain key-value cache ----------------------------------------------------------

    def get(self, key: Any, default: Any = None) -> Any:
        """The value under the key, or the default.

        Args:
            key: any string, or another value that has a canonical form; the key of a cached call
                (64 hexadecimal characters, as ``f.cache_key(...)`` gives it) finds its answer.
            default: what to return where nothing fresh is stored.

        In the modes ``"refresh"`` and ``"off"`` nothing is found, in ``"replay"`` also what has
        expired. A plain cache knows no upstream: a miss gives the default in every mode. A store
        or an entry that cannot be read costs a `CacheWarning` and gives the default.

        Raises `MissingTypeError` for a value whose type this process has not imported, and
        `UnkeyableError` for a key without a canonical form.
        """
        mode = self.policy.mode
        if self._idle or mode == "refresh":
            return default
        stored = _store_key(key)
        try:
            raw = self._store.get(stored)
            if raw is None:
                return default
            entry = self._guard.unseal(stored, raw)
            return _value(entry) if mode == "replay" or entry.fresh(time.time()) else default
        except (StoreError, CorruptEntryError) as error:
            self.survive(error, "cache.get")
            return default

    def set(self, key: Any, value: object, ttl: Ttl | None | Unset = UNSET) -> None:
        """Store a value under a key, in place of what is there.

        Args:
            key: any string, or another value that has a canonical form.
            value: anything that the codec takes.
            ttl: how long it stays fresh, in seconds or as a `timedelta`; None is for ever;
                the cache's own by default.

        In the modes ``"replay"``, ``"read_only"`` and ``"off"`` nothing is stored. A store that
        cannot be written costs a `CacheWarning`. Raises `UnsupportedTypeError` for a value that no
        codec takes, and `UnkeyableError` for a key without a canonical form.
        """
        if self._idle or self.policy.mode in ("replay", "read_only"):
            return
        now = time.time()
        policy = self.policy if isinstance(ttl, Unset) else Policy(ttl=ttl_seconds(ttl))
        expires = policy.expires(now)
        kind, answer = codec.encode(value)
        request = _plain_request(key) if self.policy.store_requests else b""
        facts = Facts(created=now, seconds=0.0, expires=expires, source=_SET)
        stored = _store_key(key)
        raw = self._guard.close(stored, seal(kind, answer, request, facts))
        try:
            self._store.set(stored, raw, expires=kept_until(expires, now))
        except StoreError as error:
            self.survive(error, _SET)

    def delete(self, key: Any) -> bool:
        """Remove a key; whether it was there. Raises `StoreError`, and `UnkeyableError`."""
        return self.discard(_store_key(key))

    def clear(self) -> int:
        """Remove every entry of this seed and nothing else; how many there were.

        Raises `StoreError`.
        """
        return 0 if self._seed is None else self._store.clear()

    def keys(self) -> Iterator[str]:
        """Every key, one by one: what was given to `set`, and the keys of cached calls.

        What has expired is left out. A key that is no text, or was given to a cache with
        ``store_requests=False``, comes as 64 hexadecimal characters. Each of them works with `get`
        and `delete`. Reads every entry. Raises `StoreError`.
        """
        if self._seed is None:
            return
        now = time.time()
        for key, raw in self._store.scan():
            try:
                entry = self._guard.unseal(key, raw)
                if not entry.fresh(now):
                    continue
                record = entry.read_record()
            except CorruptEntryError:
                continue
            yield _given(record["request"], key) if record["source"] == _SET else key


def _tell_nobody(error: CachewrapError, source: str) -> None:
    """Whoever reads the same entry next tells of it."""


def _value(entry: Entry) -> Any:
    value = codec.decode(entry.kind, entry.answer)
    return [codec.decode(*item) for item in value.values] if isinstance(value, Items) else value


def _plain_request(key: Any) -> bytes:
    return encode({"key": canonical(key, where="the key")})


def _given(request: bytes, stored: str) -> str:
    """The text under which something was stored; the stored key where that is not known."""
    try:
        given = decode_request(request)["key"]
    except (
        msgspec.MsgspecError,
        RecursionError,
        KeyError,
        TypeError,
    ):  # it was left out, or edited by hand
        return stored
    return given if isinstance(given, str) else stored


def _store_key(key: Any) -> str:
    return key if _is_key(key) else key_of(_PLAIN_KEY, _plain_request(key))


def _is_key(key: object) -> bool:
    return isinstance(key, str) and _KEY.fullmatch(key) is not None


def _partition(cache_seed: Seed | None) -> str:
    return _OFF if cache_seed is None else seed_text(cache_seed)


def _rebuild(cls: type[C], store: Store, seed: str | None, policy: Policy) -> C:
    cache = cls.__new__(cls)
    cache._set_up(store, seed, policy)
    return cache
