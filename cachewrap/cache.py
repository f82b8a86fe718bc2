"""`Cache`: the answers of one seed in one store, made, entered as a block, and explained."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack

from cachewrap import blocks, plugins, systems
from cachewrap.call.flight import leading
from cachewrap.call.terms import Exchange
from cachewrap.errors import (
    ConfigurationError,
    CorruptEntryError,
    ReplayMissError,
)
from cachewrap.keyvalue import KeyValue
from cachewrap.ledger.recording import flush
from cachewrap.policy import (
    CacheOptions,
    Mode,
    Policy,
    Seed,
    check_mode,
    check_names,
    make_policy,
    seed_text,
    store_waits,
)
from cachewrap.request.states import forget
from cachewrap.stores.base import Checks, Logs, Store, in_thread
from cachewrap.telemetry import hints
from cachewrap.telemetry.events import Hook
from cachewrap.urls import call_meant, check_folder, check_server, parse_url

if TYPE_CHECKING:
    from cachewrap.explain import Explanation

C = TypeVar("C", bound="Cache")

_OFF: Final = "off"
_SIBLINGS: Final = 32  # each may hold files or connections open

_lock = threading.Lock()
systems.renew_in_child(globals(), _lock=threading.Lock)


class Cache(KeyValue):
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

    numbering: blocks.Numbering  # of calls that this cache serves without having been entered

    def __init__(
        self,
        store: Store = None,  # type: ignore[assignment]  # so that its absence is explained
        *,
        cache_seed: Seed | None = 41,
        **options: Unpack[CacheOptions],
    ) -> None:
        if not isinstance(store, Store):
            is_cache = isinstance(store, Cache)
            told = "that is one already" if is_cache else f"write {call_meant(store)}"
            raise ConfigurationError(
                f"Cache() takes a Store, got {type(store).__name__}; to make a cache, {told}"
            )
        seed = None if cache_seed is None else seed_text(cache_seed)
        self._set_up(store, seed, make_policy(options))

    def _set_up(self, store: Store, seed: str | None, policy: Policy) -> None:
        super()._set_up(store, seed, policy)
        self.numbering = blocks.Numbering()
        self._entered = [0]
        self._hits_by_key = policy.hits_by_key and seed is not None
        self._unheard = self._hits_by_key and policy.on_event is None
        # Where nothing will be written, it does not matter whether anything could be.
        writes = seed is not None and policy.mode in ("normal", "refresh")
        self._checked = store if writes and isinstance(store, Checks) else None
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
        check_folder("cache_path_root", cache_path_root, 'Cache.disk(cache_path_root=".cache")')
        check_names(options, "cache_path_root")
        hints.look_at_seed(cache_seed, "disk", call_meant)
        from cachewrap.stores.disk import DiskStore

        store = DiskStore(
            Path(cache_path_root),
            _partition(cache_seed),
            max_bytes=max_bytes,
            **store_waits(options),
        )
        return cls(store, cache_seed=cache_seed, **options)

    @classmethod
    def redis(
        cls,
        cache_seed: Seed | None = 41,
        redis_url: str = "redis://localhost:6379/0",
        *,
        namespace: str = "default",
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
            options: see `CacheOptions`.
        """
        check_server(redis_url)
        check_names(options, "redis_url")
        hints.look_at_seed(cache_seed, "redis", call_meant)
        from cachewrap.stores.redis import RedisStore

        store = RedisStore(
            redis_url,
            _partition(cache_seed),
            namespace=namespace,
            **store_waits(options),
        )
        return cls(store, cache_seed=cache_seed, **options)

    @classmethod
    def memory(
        cls,
        cache_seed: Seed | None = 41,
        *,
        max_bytes: int | None = None,
        **options: Unpack[CacheOptions],
    ) -> Self:
        """A cache in this process. A copy pickled to another process starts empty there.

        Args:
            cache_seed: the seed; None is a cache that caches nothing.
            max_bytes: evict the least recently used entries above this size, over all seeds that
                are made of it by `reseed`; None evicts nothing. What counts is each entry as it is
                stored, compressed, and 512 bytes beside. An answer that is larger than all of it
                is returned and not stored, with a `CacheWarning`.
            options: see `CacheOptions`.
        """
        from cachewrap.stores.memory import BoundedMemoryStore, MemoryStore

        seed = _partition(cache_seed)
        if max_bytes is None:
            return cls(MemoryStore(seed), cache_seed=cache_seed, **options)
        store = BoundedMemoryStore(seed, max_bytes=max_bytes)
        return cls(store, cache_seed=cache_seed, **options)

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
        check_folder("path", path, 'Cache.jsonl("answers.jsonl", cache_seed=41)')
        check_names(options, "path")
        from cachewrap.stores.jsonl import JsonlStore

        store = JsonlStore(path, _partition(cache_seed), **store_waits(options))
        return cls(store, cache_seed=cache_seed, **options)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """A cache from one line of configuration.

        ``disk:///absolute/folder``, ``disk:relative/folder``, ``redis://…``, ``rediss://…``,
        ``unix://…``, ``redis+cluster://…``, ``redis+sentinel://…``, ``jsonl:relative/file.jsonl``
        or ``memory://``, with ``cache_seed`` and the `CacheOptions` in the query, ``max_bytes``
        for disk and memory, and ``namespace`` for Redis. An installed package may plug in
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

    def __bool__(self) -> bool:
        """Always true, even when empty: code in the field asks ``if cache:``."""
        return True

    def check(self) -> None:
        """Raise `StoreError` if it can be told, without writing, that the cache will not work."""
        if self._checked is not None:
            self._checked.check()

    # -- as a block ---------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.hold()
        blocks.push(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        blocks.pop(self)
        self.release(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        blocks.pop(self)
        if self._was_last():
            await self.aclose()
        hints.seen.left(error)

    def hold(self) -> None:
        """Keep it open until `release`, as a block does. Raises `StoreError`, see `check`."""
        self.check()
        with _lock:
            self._entered[0] += 1
        hints.seen.entered(leading.get)

    def release(self, error: BaseException | None = None) -> None:
        """Give up what `hold` was for: the last one closes it."""
        if self._was_last():
            self.close()
        hints.seen.left(error)

    def _was_last(self) -> bool:
        with _lock:
            self._entered[0] -= 1
            return self._entered[0] == 0

    def close(self) -> None:
        """Release files and connections. The next use opens them again."""
        forget()
        self._write_down()
        self._store.close()
        for other in self._others():
            other.close()

    async def aclose(self) -> None:
        """`close` for async callers, which also closes the connections of their event loop."""
        forget()
        await in_thread(self._write_down)
        await self._store.aclose()
        for other in self._others():
            await other.aclose()

    def _write_down(self) -> None:
        """Have the ledger written while the store is open, where that would open it again."""
        store = self._store
        if isinstance(store, Logs) and store.logs_hold:
            flush(store)

    def _others(self) -> list[Cache]:
        others = list(self._siblings.values())
        for view in list(self._views.values()):
            others += view._others()
        return others

    # -- as what explains ---------------------------------------------------------------------

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

        Raises `StoreError`, what the call raises before it asks upstream, and `ReplayMissError` for
        one that is never stored, such as a batch.
        """
        from cachewrap.explain import Explanation, attempt, explain_request

        if not callable(call):
            return explain_request(self._store, self._guard, self.policy, call, self.url)
        explain: Any = getattr(call, "explain", None)
        with self.mode("replay"):
            if explain is not None:
                explained: Explanation = explain(*args, **kwargs)
                return explained
            absent, hits = self.stats.absent, self.stats.hits
            needed = dict(self.stats.by_rule)
            try:
                attempt(lambda: call(*args, **kwargs))
            except ReplayMissError as miss:
                self.stats.absent = absent  # no call was made
                if isinstance(miss.explanation, Explanation):
                    return miss.explanation
                raise
        served = self.stats.hits > hits
        counts = self.stats.by_rule.items()
        by = tuple((rule, ()) for rule, count in counts if count > needed.get(rule, 0))
        return Explanation("", "", served, (), self.url, served, by=by)

    def explain_exchange(self, exchange: Exchange[Any]) -> Explanation:
        """`explain` for decorators and integrations. Raises `StoreError`."""
        from cachewrap.explain import Explanation, explain_hit, explain_miss

        key = exchange.key
        with suppress(CorruptEntryError):
            by = self._served_by(key)
            if by is not None and by != key:
                return Explanation(exchange.source, key, True, (), self.url, alias=by)
            if by is not None and (raw := self._store.get(key)) is not None:
                return explain_hit(self._guard.unseal(key, raw), exchange, self.url)
        return explain_miss(self._store, self._guard, exchange, self.url, count=3)


def _partition(cache_seed: Seed | None) -> str:
    return _OFF if cache_seed is None else seed_text(cache_seed)


def _rebuild(cls: type[C], store: Store, seed: str | None, policy: Policy) -> C:
    cache = cls.__new__(cls)
    cache._set_up(store, seed, policy)
    return cache
