"""What the tests of a library have in common: ways of asking, each asked twice."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pytest
from standin import Upstream

from cachewrap import Cache, patch_openai

Way: TypeAlias = Callable[[Upstream], Any]
"""Asks once, and gives what is to be equal the second time, or a coroutine of it."""


def each(ways: Sequence[tuple[Way, int]]) -> pytest.MarkDecorator:
    """A test over a table of ways, with the upstream calls that each makes the first time."""
    return pytest.mark.parametrize(("ask", "calls"), ways, ids=[way.__name__ for way, _ in ways])


def ask_twice(upstream: Upstream, ask: Way) -> tuple[Any, int, Any, int, Cache]:
    """Ask twice inside a block: each answer, and the upstream calls until then."""
    with patch_openai(), Cache.memory() as cache, asyncio.Runner() as runner:

        def once() -> Any:
            found = ask(upstream)
            return runner.run(found) if inspect.iscoroutine(found) else found

        first = once()
        made = upstream.calls
        return first, made, once(), upstream.calls, cache


def check_second_run_is_free(upstream: Upstream, ask: Way, calls: int) -> None:
    """The first run makes so many calls, the second none, and answers the same."""
    first, made, second, after, cache = ask_twice(upstream, ask)
    assert made == calls
    assert after == calls
    assert second == first
    assert cache.stats.errors == 0


def check_uncached_runs_differ(upstream: Upstream, ask: Way) -> None:
    """Outside any block every run goes upstream: the library keeps no cache of its own."""
    with patch_openai(), asyncio.Runner() as runner:
        for _ in range(2):
            found = ask(upstream)
            if inspect.iscoroutine(found):
                runner.run(found)
    counts = upstream.calls
    assert counts
    assert counts % 2 == 0
