"""Lists of a hundred texts asked element by element, beside the same list as one request."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

from benchmarks.harness import Row
from cachewrap import Cache, llm_cached
from cachewrap.testing.servers import redis_server

_TEXTS = [f"The {number}th of a hundred texts." for number in range(100)]
_VECTOR = [number / 256 for number in range(256)]


def groups() -> dict[str, Callable[[], AbstractContextManager[list[Row]]]]:
    """The groups of this file, by title."""
    return {
        f"list of 100 {where}": partial(rows, where)
        for where in ("in memory", "on disk", "on redis")
    }


def _cache(where: str, stack: ExitStack) -> Cache:
    if where == "in memory":
        return Cache.memory()
    if where == "on disk":
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        return Cache.disk(cache_path_root=folder)
    server = stack.enter_context(redis_server())
    return Cache.redis(redis_url=server.url, namespace="benchmarks")


@contextmanager
def rows(where: str) -> Iterator[list[Row]]:
    """A hit of the whole list, and lists of which all, all but one, and no element is stored."""
    numbers = itertools.count()

    @llm_cached
    def whole(texts: list[str]) -> list[list[float]]:
        return [_VECTOR for _ in texts]

    @llm_cached(each="texts")
    def embed(texts: list[str]) -> list[list[float]]:
        return [_VECTOR for _ in texts]

    @llm_cached(each="texts")
    async def aembed(texts: list[str]) -> list[list[float]]:
        return [_VECTOR for _ in texts]

    def new(count: int) -> list[str]:
        return [f"new {next(numbers)}" for _ in range(count)]

    with ExitStack() as stack:
        cache = stack.enter_context(_cache(where, stack))
        runner = stack.enter_context(asyncio.Runner())  # it keeps the blocks that it is made in
        embed(_TEXTS)
        runner.run(_awaited(aembed, _TEXTS))
        yield [
            Row("the list as one request, a hit", lambda: whole(_TEXTS)),
            Row("100 stored", lambda: embed(_TEXTS)),
            Row("99 stored", lambda: embed([*_TEXTS[1:], *new(1)])),
            Row("none stored", lambda: embed(new(100))),
            Row("99 stored, async", lambda: runner.run(_awaited(aembed, _TEXTS[1:] + new(1)))),
            Row("none stored, async", lambda: runner.run(_awaited(aembed, new(100)))),
        ]
        runner.run(cache.aclose())
        cache.clear()


async def _awaited(call: Callable[[list[str]], Any], texts: list[str]) -> Any:
    return await call(texts)
