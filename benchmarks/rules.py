"""What rules of equality cost a hit, beside the same hit of a cache without any."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace as with_changes
from typing import Any

from benchmarks.harness import Result, Row, measure
from benchmarks.patched import client, patched
from benchmarks.requests import BIG
from cachewrap import Cache, llm_cached
from cachewrap.same import AGENTS, STEERING, Rule, ignore, replace

MOST = 30.0
"""Microseconds that one `ignore` and one `replace` of the system prompt may add to a hit."""

_DAY = r"Today is \d{4}-\d\d-\d\d"
_OF_SYSTEM = replace(_DAY, "Today is …", where="messages[role=system].content")
KINDS: dict[str, tuple[Rule, ...]] = {
    "no rules": (),
    "ignore": (ignore("metadata"),),
    "ignore and replace": (ignore("metadata"), _OF_SYSTEM),
    "replace in all texts": (replace(_DAY, "Today is …"),),
    "AGENTS and STEERING": (*AGENTS, *STEERING),
}
_PROMISED = "ignore and replace"

Ask = Callable[[int], Any]
Asking = Callable[[], AbstractContextManager[Ask]]


def _conversation(day: int) -> list[dict[str, Any]]:
    """The conversation of one day: 40 messages, 40 KB."""
    order = {"role": "system", "content": f"You are a guide. Today is 2026-11-{10 + day}."}
    return [order, *BIG.conversation()[1:]]


@contextmanager
def function() -> Iterator[Ask]:
    """Ask a decorated function, on one of two days."""
    days = [_conversation(day) for day in range(2)]

    @llm_cached
    def complete(messages: Any, *, model: str, metadata: Any) -> str:
        return BIG.answer()

    yield lambda day: complete(days[day], model="gpt-4o-mini", metadata={"day": str(day)})


@contextmanager
def create() -> Iterator[Ask]:
    """Ask the patched SDK, on one of two days."""
    days: list[Any] = [_conversation(day) for day in range(2)]
    with client(BIG) as asked:
        yield lambda day: asked.chat.completions.create(
            model="gpt-4o-mini", messages=days[day], metadata={"day": str(day)}
        )


def hits(rounds: int) -> list[Result]:
    """Hits of one day, and by turns of two days, which are one request by the rules."""
    found: list[Result] = []
    ways: dict[str, tuple[Asking, Callable[[Cache], AbstractContextManager[Any]]]] = {
        "function": (function, lambda cache: cache),
        "openai create": (create, patched),
    }
    for way, (asking, around) in ways.items():
        found += _of(f"rules, {way}, big", asking, around, rounds)
    return found


def _of(
    title: str,
    asking: Asking,
    around: Callable[[Cache], AbstractContextManager[Any]],
    rounds: int,
) -> list[Result]:
    with asking() as ask, tempfile.TemporaryDirectory() as folder:
        rows = []
        for name, rules in KINDS.items():
            cache = Cache.disk(cache_path_root=folder, same=rules)
            with around(cache):
                for day in (0, 1) * 3:
                    ask(day)
            rows.append(Row(name, lambda: ask(0), lambda cache=cache: around(cache)))
            if name in ("no rules", _PROMISED):
                rows.append(
                    Row(
                        f"{name}, two days by turns",
                        _by_turns(ask),
                        lambda cache=cache: around(cache),
                    )
                )
        results = measure(title, rows, rounds)
    floor = results[0].microseconds
    allowed = (floor + MOST) / floor
    return [with_changes(one, target=allowed) if one.row == _PROMISED else one for one in results]


def _by_turns(ask: Ask) -> Callable[[], Any]:
    days = itertools.cycle((0, 1))
    return lambda: ask(next(days))
