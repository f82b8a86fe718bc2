"""All that the page of a report shows, gathered in memory that does not grow with a store."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

from cachewrap.cli.entries import Row, read_row
from cachewrap.cli.places import Place
from cachewrap.cli.stats import Sum, Total
from cachewrap.cli.talk import NAME, Talk
from cachewrap.cli.text import one_line
from cachewrap.entries.stored import Samples
from cachewrap.entry import Kind
from cachewrap.errors import CorruptEntryError
from cachewrap.telemetry.usage import cost_of

_MINUTE: Final = 60
# Minutes, hours, days, weeks, and lots of 52 weeks: each a multiple of the one before.
_STEPS: Final = tuple(
    _MINUTE * minutes
    for minutes in (1, 5, 15, 30, 60, 180, 360, 720, 1440, 10_080, 40_320, 524_160)
) + (314_496_000, 3_144_960_000)
_LAST: Final = 253_402_300_800.0  # the year 10000, which no calendar of a browser's has
_KEPT: Final = 4000
_MOST_STEPS: Final = 64


class Timeline:
    """A count in steps of time. It holds some thousand numbers, whatever it is given.

    Args:
        kinds: how many kinds of things are counted.

    Attributes:
        undated: how many came with a time that is none.
    """

    def __init__(self, kinds: int = 1) -> None:
        self._kinds = kinds
        self._step = 0
        self._counts: dict[int, list[int]] = {}
        self.undated = 0

    def add(self, moment: float, *counts: int) -> None:
        """Count things of each kind, at a time in seconds since the epoch.

        Args:
            moment: the time.
            counts: how many of each kind; without any, one of the first.
        """
        counts = counts or (1,)
        if not 0 < moment < _LAST:
            self.undated += sum(counts)
            return
        self._put(int(moment // _STEPS[self._step]), counts)
        if len(self._counts) > _KEPT:
            self._coarsen()

    def _put(self, index: int, counts: Iterable[int]) -> None:
        known = self._counts.setdefault(index, [0] * self._kinds)
        for kind, count in enumerate(counts):
            known[kind] += count

    def _coarsen(self) -> None:
        length, counted = _STEPS[self._step], self._counts
        self._step, self._counts = self._step + 1, {}
        for index, counts in counted.items():
            self._put(index * length // _STEPS[self._step], counts)

    def steps(self) -> tuple[int, list[list[int]]]:
        """The length of a step in seconds; of each step its beginning and counts, without gaps.

        They are as fine as they can be while all of them are shown.
        """
        if not self._counts:
            return _STEPS[self._step], []
        while len(whole := self._whole()) > _MOST_STEPS and self._step < len(_STEPS) - 1:
            self._coarsen()
        length, none = _STEPS[self._step], [0] * self._kinds
        return length, [[i * length, *self._counts.get(i, none)] for i in whole]

    def _whole(self) -> range:
        return range(min(self._counts), max(self._counts) + 1)


TOP: Final = 10
"""How many of the slowest requests are listed, and of the most expensive ones."""

_KEY: Final = 12
_GROUPS: Final = 24
_ALIASES: Final = 100
"""Aliases that are listed, the newest first."""


class Best:
    """The entries of the highest rank among all that are offered.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[float, int, Place, str]] = []
        self._offered = 0

    def offer(self, rank: float, row: Row) -> None:
        """Keep the entry if it is among the best; of equals, the first that came."""
        self._offered += 1
        heapq.heappush(self._heap, (_finite(rank), -self._offered, row.place, row.key))
        if len(self._heap) > self._most:
            heapq.heappop(self._heap)

    def names(self) -> list[tuple[Place, str]]:
        """Their places and keys, the best first."""
        return [(place, key) for *_, place, key in sorted(self._heap, reverse=True)]


class Survey:
    """All that is counted of the entries, and which of them are to be shown.

    Args:
        limit: how many of the newest are shown.
    """

    def __init__(self, limit: int) -> None:
        self.total = Total()
        self.timeline = Timeline()
        self.newest = Best(limit)
        self.slowest = Best(TOP)
        self.costliest = Best(TOP)
        self.aliases = Best(_ALIASES)

    def add(self, row: Row) -> None:
        """Count an entry."""
        entry = row.entry
        money = self.total.add(row)
        if entry.kind is Kind.ALIAS:
            self.aliases.offer(entry.created, row)
            return
        self.timeline.add(entry.created)
        self.newest.offer(entry.created, row)
        if entry.seconds > 0:
            self.slowest.offer(entry.seconds, row)
        if money:
            self.costliest.offer(float(money), row)

    def shown(self) -> list[tuple[Place, str]]:
        """The entries whose conversations are shown: the newest, and those that are listed."""
        listed = itertools.chain(self.newest.names(), self.slowest.names(), self.costliest.names())
        return list({(place.seed, key): (place, key) for place, key in listed}.values())

    def figures(self) -> dict[str, Any]:
        """What was counted, as the page reads it."""
        length, steps = self.timeline.steps()
        total = self.total
        return {
            "total": _sums(total),
            "models": _folded(total, lambda name: name[1]),
            "sources": _folded(total, lambda name: name[0]),
            "oldest": _finite(total.oldest),
            "newest": _finite(total.newest),
            "timeline": {"step": length, "steps": steps, "undated": self.timeline.undated},
        }


def read_again(names: Iterable[tuple[Place, str]]) -> Iterator[Row]:
    """The entries under these names; those that are gone, or cannot be read, are left out."""
    samples = Samples()
    for place, key in names:
        if (raw := place.get(key)) is not None:
            with suppress(CorruptEntryError):
                yield read_row(place, key, raw, samples)


def line(row: Row, talk: Talk | None) -> list[Any]:
    """An entry as a line of the table; without its conversation, without a word of it either."""
    entry = row.entry
    money = cost_of(row.usage)
    return [
        row.key if talk else "",
        row.place.seed if talk else "",
        _finite(entry.created),
        row.source[:NAME],
        row.model[:NAME],
        _finite(entry.seconds),
        entry.tokens_in,
        entry.tokens_out,
        None if money is None else float(money),
        row.size,
        talk is not None and "pieces" in talk.told,
        talk.title if talk else "",
        talk.sample if talk else 0,
        bool(row.rules),
        row.element,
    ]


def alias_pairs(survey: Survey) -> list[list[str]]:
    """What is asked by each alias that is listed, and what for the entry that answers it.

    The beginning of a key stands for a prompt that is not known, "" for an entry that is gone.
    """
    found = []
    for row in read_again(survey.aliases.names()):
        with suppress(CorruptEntryError):
            target = next(read_again([(row.place, row.alias_of)]), None)
            told = row.prompt or row.key[:_KEY], target and (target.prompt or target.key[:_KEY])
            found.append([one_line(text or "", NAME) for text in told])
    return found


def _sums(one: Sum) -> list[Any]:
    return [
        one.entries,
        one.tokens_in,
        one.tokens_out,
        _finite(one.seconds),
        None if one.money is None else float(one.money),
        one.bytes,
    ]


def _folded(total: Total, name_of: Callable[[tuple[str, str]], str]) -> dict[str, Any]:
    """Sums by one part of a group's name: the largest groups, and what the others add up to."""
    sums: dict[str, Sum] = {}
    for name, group in total.groups.items():
        sums.setdefault(name_of(name), Sum()).merge(group)
    ranked = sorted(sums.items(), key=lambda item: -item[1].entries)
    rest = Sum()
    for _, group in ranked[_GROUPS:]:
        rest.merge(group)
    return {
        "groups": [[name[:NAME], *_sums(group)] for name, group in ranked[:_GROUPS]],
        "others": max(0, len(ranked) - _GROUPS),
        "rest": _sums(rest),
    }


def _finite(number: float) -> float:
    return number if math.isfinite(number) else 0.0
