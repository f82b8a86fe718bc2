"""What the tests of a library have in common: ways of asking, each asked twice."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
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


def ask_twice(upstream: Upstream, ask: Way, same: Any = None) -> tuple[Any, int, Any, int, Cache]:
    """Ask twice inside a block: each answer, and the upstream calls until then."""
    with patch_openai(), Cache.memory(same=same) as cache, asyncio.Runner() as runner:

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


def check_rules_are_named(
    upstream: Upstream, ask: Way, caplog: pytest.LogCaptureFixture, *rules: str
) -> None:
    """The second run asks again, and the log names the rules of AGENTS with which it would not."""
    with caplog.at_level(logging.DEBUG, "cachewrap"):
        _, made, _, after, _ = ask_twice(upstream, ask)
    assert after > made
    (told,) = (line for line in caplog.text.splitlines() if "same=[*AGENTS]" in line)
    assert told.endswith(f": {', '.join(rules)}")


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


Embed: TypeAlias = Callable[[Upstream, list[str]], Any]
"""Gives the vectors of texts, or a coroutine of them."""

TEXTS = [f"text {number}" for number in range(100)]


def check_the_missing_one_is_asked(upstream: Upstream, embed: Embed) -> None:
    """Of a hundred texts of which 99 are stored one is asked for, and all have their own vector."""

    def once(texts: list[str]) -> Any:
        found = embed(upstream, texts)
        return runner.run(found) if inspect.iscoroutine(found) else found

    upstream.behave(steady=True)
    with patch_openai(split=True), asyncio.Runner() as plain:
        found = embed(upstream, TEXTS)
        wanted = plain.run(found) if inspect.iscoroutine(found) else found
        asked = list(map(str, upstream.elements))
        upstream.requests.clear()
        with Cache.memory(), asyncio.Runner() as runner:
            first = once(TEXTS[:40] + TEXTS[41:])
            assert (first, upstream.calls) == (wanted[:40] + wanted[41:], 1)
            assert (once(TEXTS), once(TEXTS)) == (wanted, wanted)
    assert (upstream.calls, len(upstream.elements)) == (2, 100)
    assert str(upstream.elements[-1]) == asked[40]


def calls_of(*names: str) -> bytes:
    """The body of an answer that calls several tools at once, with no arguments."""
    calls = [
        {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": "{}"}}
        for name in names
    ]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls", "logprobs": None}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return json.dumps({**head, "choices": [choice], "usage": usage}).encode()


class Turns:
    """Two tools that are called at once, of which one ends before the other: each in its turn."""

    def __init__(self) -> None:
        self.first = "one"

    async def wait(self, name: str) -> str:
        """Return at once for the one that is first, and for the other when that has ended."""
        if name != self.first:
            for _ in range(50):  # rounds of the loop, in which the first one's result is taken
                await asyncio.sleep(0)
        return name.upper()
