"""Hits of a decorated function, on each store, beside a raw read of the same bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diskcache
import redis

from benchmarks.harness import Row
from benchmarks.requests import SMALL, Size
from cachewrap import Cache, llm_cached
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
        with diskcache.Cache(theirs) as raw:
            raw.set(completion.key, sealed)
            yield [
                Row("diskcache get", lambda: raw.get(completion.key)),
                # A long conversation costs its hash beside the store's read.
                Row("hit", completion.hit, lambda: cache, target=4.0 if size is SMALL else 8.0),
            ]
        cache.close()


@contextmanager
def memory(size: Size) -> Iterator[list[Row]]:
    """In memory, beside the plain function with nothing around it."""
    answer = size.answer()
    messages = size.conversation()
    cache = Cache.memory()

    def complete(messages: Messages, *, model: str, temperature: float = 0.0) -> str:
        return answer

    uncached = llm_cached(seed=None)(complete)
    yield [
        Row("plain call", lambda: complete(messages, model="gpt-4o-mini")),
        Row("decorated, seed=None", lambda: uncached(messages, model="gpt-4o-mini")),
        Row("hit", Completion(size, cache).hit, lambda: cache),
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
            Row("hit", completion.hit, lambda: cache),
        ]
        cache.clear()
        cache.close()
