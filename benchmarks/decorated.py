"""Hits of a decorated function, on each store, beside a raw read of the same bytes."""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cachetools
import diskcache
import redis
import wrapt

from benchmarks.harness import Row
from benchmarks.requests import SMALL, Size
from cachewrap import Cache, llm_cached, no_cache
from cachewrap.request.key import encode
from cachewrap.stores.disk import DiskStore
from cachewrap.testing.servers import redis_server

Messages = list[dict[str, Any]]


class Completion:
    """A completion function that answers once, so that whatever returns afterwards is a hit."""

    def __init__(self, size: Size, cache: Cache) -> None:
        answers = iter([size.answer()])

        def complete(messages: Messages, *, model: str, temperature: float = 0.0) -> str:
            return next(answers)

        decorated = llm_cached(complete)
        messages = size.conversation()
        with cache:
            decorated(messages, model="gpt-4o-mini")
        self.hit: Callable[[], str] = lambda: decorated(messages, model="gpt-4o-mini")
        self.key = decorated.cache_key(messages, model="gpt-4o-mini")


@contextmanager
def disk(size: Size) -> Iterator[list[Row]]:
    """On disk, beside `diskcache.Cache.get` of the bytes that the entry is."""
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
        cache = Cache.disk(cache_path_root=ours)
        completion = Completion(size, cache)
        sealed = DiskStore(Path(ours), "41").get(completion.key)
        request = encode({"messages": size.conversation(), "model": "gpt-4o-mini"})
        with diskcache.Cache(theirs) as raw:
            raw.set(completion.key, sealed)
            yield [
                Row("diskcache get", lambda: raw.get(completion.key)),
                Row("SHA-256 of the request", lambda: hashlib.sha256(request).hexdigest()),
                Row("hit", completion.hit, lambda: cache, target=2.5 if size is SMALL else 8.0),
            ]
        cache.close()


@contextmanager
def misses(size: Size) -> Iterator[list[Row]]:
    """What a miss adds to a call that costs nothing, beside `diskcache.Cache.set` of the entry."""
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
        cache = Cache.disk(cache_path_root=ours)
        completion = Completion(size, cache)
        sealed = DiskStore(Path(ours), "41").get(completion.key)
        answers = itertools.repeat(size.answer())  # a text would belong to the request
        number = itertools.count()

        def complete(messages: Messages, *, model: str, n: int) -> str:
            return next(answers)

        def hashed() -> str:
            return hashlib.sha256(b"%d" % next(number)).hexdigest()

        decorated = llm_cached(complete)
        messages = size.conversation()
        # Both stay open: a log that is begun anew for a few misses costs as much as they do.
        with diskcache.Cache(theirs, eviction_policy="none") as raw, cache:
            yield [
                Row("diskcache set", lambda: raw.set(f"{next(number):064d}", sealed)),
                Row("the same, no key beside the last", lambda: raw.set(hashed(), sealed)),
                Row(
                    "miss",
                    lambda: decorated(messages, model="gpt-4o-mini", n=next(number)),
                    target=2.5,
                ),
            ]


@contextmanager
def memory(size: Size) -> Iterator[list[Row]]:
    """In memory, beside `cachetools.cached` with a lock, keyed by the arguments as sorted JSON."""
    answer = size.answer()
    messages = size.conversation()
    cache = Cache.memory()

    def as_json(messages: Messages, *, model: str) -> str:
        return json.dumps([messages, model], sort_keys=True)

    @cachetools.cached(cachetools.LRUCache(1000), key=as_json, lock=threading.Lock())
    def theirs(messages: Messages, *, model: str) -> str:
        return answer

    yield [
        Row("cachetools with a lock", lambda: theirs(messages, model="gpt-4o-mini")),
        Row(
            "hit", Completion(size, cache).hit, lambda: cache, target=1.0 if size is SMALL else None
        ),
    ]


@contextmanager
def off(size: Size) -> Iterator[list[Row]]:
    """With caching off, beside a wrapper of wrapt's that does nothing."""
    answer = size.answer()
    messages = size.conversation()

    def complete(messages: Messages, *, model: str, temperature: float = 0.0) -> str:
        return answer

    def nothing(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        return wrapped(*args, **kwargs)

    wrapped: Any = wrapt.FunctionWrapper(complete, nothing)
    uncached = llm_cached(seed=None)(complete)
    waiting = llm_cached(cache="blocks")(complete)
    cached = llm_cached(complete)
    yield [
        Row("wrapt alone", lambda: wrapped(messages, model="gpt-4o-mini")),
        Row("seed=None", lambda: uncached(messages, model="gpt-4o-mini")),
        Row('cache="blocks", outside of them', lambda: waiting(messages, model="gpt-4o-mini")),
        Row("no_cache()", lambda: cached(messages, model="gpt-4o-mini"), no_cache),
    ]


@contextmanager
def on_redis(size: Size) -> Iterator[list[Row]]:
    """On a Redis server on loopback, beside a GET of the bytes that the entry is."""
    with redis_server() as server, redis.Redis.from_url(server.url) as raw:
        cache = Cache.redis(redis_url=server.url, namespace="benchmarks")
        completion = Completion(size, cache)
        (name,) = [name for name in raw.scan_iter("*") if completion.key.encode() in name]
        yield [
            Row("redis GET", lambda: raw.get(name)),
            Row("hit", completion.hit, lambda: cache, target=1.2),
        ]
        cache.clear()
        cache.close()
