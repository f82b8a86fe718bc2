"""Misses of a function that returns a completion, which costs nothing: what each store adds.

Peers stand beside them where they are installed: dogpile.cache and cashews on Redis.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import diskcache
import redis

from benchmarks.harness import Row
from benchmarks.requests import BIG, SMALL, Size
from cachewrap import Cache, llm_cached
from cachewrap.testing.servers import redis_server

_numbers = itertools.count()


def groups() -> dict[str, Callable[[], AbstractContextManager[list[Row]]]]:
    """The groups of this file, by title."""
    kinds = {"in memory": memory, "on disk": disk, "on redis": on_redis}
    return {
        f"miss of a completion {where}, {size.name}": partial(rows, size)
        for where, rows in kinds.items()
        for size in (SMALL, BIG)
    }


@contextmanager
def memory(size: Size) -> Iterator[list[Row]]:
    """In memory, beside the request hashed and the answer encoded and decoded by pydantic."""
    answer, messages = _completion(size), size.conversation()
    kind = type(answer)

    def floor() -> Any:
        _hashed(messages)
        return kind.model_validate_json(answer.model_dump_json())

    cache = Cache.memory()
    yield [Row("hashed, encoded, decoded", floor), Row("miss", _miss(size), lambda: cache)]


@contextmanager
def disk(size: Size) -> Iterator[list[Row]]:
    """On disk, beside what `diskcache.Cache.memoize` needs for a miss."""
    answer, messages = _completion(size), size.conversation()
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
        cache = Cache.disk(cache_path_root=ours)
        with diskcache.Cache(theirs, eviction_policy="none") as peer, cache:

            @peer.memoize()
            def complete(messages: str, model: str, n: int) -> Any:
                return answer

            def memoized() -> Any:
                return complete(json.dumps(messages), "gpt-4o-mini", next(_numbers))

            yield [
                Row("diskcache memoize", memoized),
                Row("miss", _miss(size), target=1.0 if size is SMALL else None),
            ]


@contextmanager
def on_redis(size: Size) -> Iterator[list[Row]]:
    """On a Redis server on loopback, beside three round trips: GET, SET with GET, and SET."""
    answer, messages = _completion(size), size.conversation()
    sealed = answer.model_dump_json().encode()
    with ExitStack() as stack:
        server = stack.enter_context(redis_server())
        raw = stack.enter_context(redis.Redis.from_url(server.url))
        cache = stack.enter_context(Cache.redis(redis_url=server.url, namespace="misses"))
        loop = stack.enter_context(asyncio.Runner())

        def floor() -> Any:
            key = _hashed(messages)
            raw.get(key)
            pipeline = raw.pipeline(transaction=False)
            pipeline.set(f"{key}:lease", "mine", nx=True, px=10_000).get(key)
            pipeline.execute()
            return raw.set(key, sealed)

        yield [
            Row("three round trips", floor),
            Row("miss", _miss(size), target=1.2 if size is SMALL else None),
            Row("miss, async", partial(_awaited, loop, _amiss(size))),
            *_peers(size, server.url, loop),
        ]
        loop.run(cache.aclose())


def _miss(size: Size) -> Callable[[], Any]:
    answer, messages = _completion(size), size.conversation()

    @llm_cached
    def complete(messages: list[dict[str, Any]], *, model: str, n: int) -> Any:
        return answer

    return lambda: complete(messages, model="gpt-4o-mini", n=next(_numbers))


def _amiss(size: Size) -> Callable[[], Any]:
    answer, messages = _completion(size), size.conversation()

    @llm_cached
    async def complete(messages: list[dict[str, Any]], *, model: str, n: int) -> Any:
        return answer

    return lambda: complete(messages, model="gpt-4o-mini", n=next(_numbers))


def _awaited(runner: asyncio.Runner, call: Callable[[], Any]) -> Any:
    return runner.get_loop().run_until_complete(call())


def _peers(size: Size, url: str, runner: asyncio.Runner) -> Iterator[Row]:
    """What others need for a miss, each keyed by the request as JSON, the answer pickled."""
    answer, messages = _completion(size), size.conversation()
    try:
        from dogpile.cache import make_region
    except ImportError:
        pass
    else:
        region = make_region()
        region.configure(
            "dogpile.cache.redis",
            arguments={
                "url": url,
                "distributed_lock": True,
                "lock_timeout": 10,
                "thread_local_lock": False,
            },
        )
        yield Row(
            "dogpile with a lock", lambda: region.get_or_create(_hashed(messages), lambda: answer)
        )
    try:
        from cashews import cache
    except ImportError:
        return
    cache.setup(url, pickle_type="default")

    @cache(ttl="1h", key="{key}")
    async def complete(key: str) -> Any:
        return answer

    yield Row("cashews", lambda: _awaited(runner, lambda: complete(_hashed(messages))))


def _hashed(messages: Any) -> str:
    asked = json.dumps([messages, "gpt-4o-mini", next(_numbers)])
    return hashlib.sha256(asked.encode()).hexdigest()


def _completion(size: Size) -> Any:
    from openai.types.chat import ChatCompletion

    message = {"role": "assistant", "content": size.answer()}
    return ChatCompletion.model_validate(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4o-mini",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 250, "completion_tokens": 300, "total_tokens": 550},
        }
    )
