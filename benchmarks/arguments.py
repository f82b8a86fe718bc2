"""What it costs to come from arguments to a key, in hits of decorated functions.

The floor is a hit of diskcache's `memoize` with the same arguments, which it pickles.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import diskcache
from pydantic import BaseModel

from benchmarks.harness import Row
from benchmarks.requests import BIG, SMALL, text
from cachewrap import Cache, llm_cached

Ask = Callable[[], Any]


class Message(BaseModel):
    """A message of a conversation, as a model."""

    role: str
    content: str


def arguments() -> dict[str, tuple[Any, float]]:
    """What functions are called with, by title, and what a hit may cost of the floor."""
    big = BIG.conversation()
    return {
        "argument: a text": ("Hello", 0.8),
        "argument: 40 messages": (big, 0.1),
        "argument: 40 pydantic messages": ([Message(**one) for one in big], 0.2),
        "argument: 1 MB of bytes": (random.Random(1).randbytes(1_000_000), 3.0),
        "argument: a text of 1 MB": (text(1_000_000, 1), 3.0),
    }


def groups() -> dict[str, Callable[[], AbstractContextManager[list[Row]]]]:
    """The rows of every kind of argument, by title."""
    found = {title: partial(_beside, *each) for title, each in arguments().items()}
    return {**found, "closing over text": closing, "a conversation that grows": growing}


def _ask(messages: Any, *, model: str = "m") -> str:
    return _ANSWERS[0]


_ANSWERS = [SMALL.answer()]  # a text would belong to the request


@contextmanager
def _beside(argument: Any, target: float) -> Iterator[list[Row]]:
    """A hit, beside `memoize`."""
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
        disk = Cache.disk(cache_path_root=ours)
        cached = llm_cached(_ask)
        with diskcache.Cache(theirs) as raw:
            memoized = raw.memoize()(_ask)
            yield [
                Row("diskcache memoize", lambda: memoized(argument)),
                Row("hit", lambda: cached(argument), lambda: disk, target=target),
            ]
        disk.close()


@contextmanager
def closing() -> Iterator[list[Row]]:
    """A function that closes over text, beside one that does not."""
    with tempfile.TemporaryDirectory() as folder:
        disk = Cache.disk(cache_path_root=folder)
        rules = text(4_000, 7)

        def closes(argument: str) -> str:
            return _ANSWERS[0] if rules else ""

        alone, closed = llm_cached(_ask), llm_cached(closes)
        yield [
            Row("closes over nothing", lambda: alone("Hello"), lambda: disk),
            Row("closes over text", lambda: closed("Hello"), lambda: disk, target=1.12),
        ]
        disk.close()


@contextmanager
def growing() -> Iterator[list[Row]]:
    """An agent's run again, in memory: each hit has a message more; beside as long ones apart."""
    turns = BIG.conversation()
    grown = [turns[:count] for count in range(1, len(turns) + 1)]
    # As long, but of which none begins like another; more of them than are remembered.
    first = [{"role": "user", "content": text(1_000, 50 + number)} for number in range(len(turns))]
    apart = [[other, *one[1:]] for other, one in zip(first, grown, strict=True)]
    memory = Cache.memory()
    cached = llm_cached(_ask)

    def run(conversations: list[Any]) -> Any:
        return [cached(messages) for messages in conversations]

    yield [
        Row("40 conversations apart", lambda: run(apart), lambda: memory),
        Row("one that grows, 40 hits", lambda: run(grown), lambda: memory, target=0.8),
    ]
