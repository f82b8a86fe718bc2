"""Times rows against their floor, in turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import median
from typing import Any

_WARM = 12

SLICE = 0.002
"""Seconds that one row's turn should take: less than what a busy system gives a process at once."""


@dataclass(frozen=True)
class Row:
    """One thing to time.

    Args:
        name: what it is, in a few words.
        call: the thing; it returns something, for a read that finds nothing is not what is timed.
        around: makes the block that its turns are timed in; entering and leaving is not timed.
        target: how many times the floor it may cost at most, or None where nothing is promised.
    """

    name: str
    call: Callable[[], Any]
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    target: float | None = None


@dataclass(frozen=True)
class Result:
    """What a row cost.

    Args:
        group: the title of its group.
        row: its name.
        microseconds: the median time of a call.
        ratio: the median, over the rounds, of its time to the floor's in the same round.
        target: what the ratio may be at most, or None.
        best: the ratio of the shortest times, which on a busy machine is the steadier one.
    """

    group: str
    row: str
    microseconds: float
    ratio: float
    target: float | None
    best: float = 0.0

    @property
    def missed(self) -> bool:
        """Whether it costs more than was promised, by both ratios."""
        ratio = min(self.ratio, self.best) if self.best else self.ratio
        return self.target is not None and ratio > self.target


def measure(group: str, rows: Sequence[Row], rounds: int) -> list[Result]:
    """Time the rows of a group, of which the first is the floor, in turns.

    The ratio is taken within each round, and its median over all of them.
    """
    gc.collect()
    numbers = [_calls_in_a_slice(row) for row in rows]
    seconds: list[list[float]] = [[] for _ in rows]
    for turn in range(rounds):
        order = range(len(rows)) if turn % 2 else reversed(range(len(rows)))
        for index in order:
            seconds[index].append(_time(rows[index], numbers[index]))
    return [
        Result(
            group,
            row.name,
            median(own) * 1e6,
            median(mine / floor for mine, floor in zip(own, seconds[0], strict=True)),
            row.target,
            min(own) / min(seconds[0]),
        )
        for row, own in zip(rows, seconds, strict=True)
    ]


def _calls_in_a_slice(row: Row) -> int:
    number = 1
    while (each := _time(row, number)) * number < SLICE / 2:
        number *= 2
    return max(1, round(SLICE / each))


def _time(row: Row, number: int) -> float:
    call = row.call
    turns = [None] * number
    with row.around():
        # The first call also opens what the block has closed. Where a block puts other code in,
        # the interpreter takes the next few to get used to it, as no program does at each turn.
        for _ in range(1 if row.around is nullcontext else _WARM):
            if call() is None:
                raise RuntimeError(f"{row.name} found nothing")
        gc.disable()
        try:
            start = time.perf_counter()
            for _ in turns:
                call()
            return (time.perf_counter() - start) / number
        finally:
            gc.enable()
