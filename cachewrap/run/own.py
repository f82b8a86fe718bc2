"""Caches of a program's own: what they served is told at its end beside what `run`'s cache did."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cachewrap.call.stats import Stats

_COUNTED = ("bypassed", "absent", "errors", "bypass_reasons", "unknown_hosts", "unstored_reasons")


class OwnCaches:
    """The counts of the caches that are made in this process, also of those that are gone."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._live: dict[int, tuple[str, Stats]] = {}  # shrinks at any time: go through copies
        self._sums: dict[str, Stats] = {}

    def saw(self, cache: object, url: str, stats: Stats) -> None:
        """Know of a cache that was made just now.

        Args:
            cache: the cache.
            url: where its entries are.
            stats: its counts.
        """
        from weakref import finalize

        number = next(self._numbers)
        self._live[number] = url, stats
        finalize(cache, self._end, number).atexit = False

    def _end(self, number: int) -> None:
        if (gone := self._live.pop(number, None)) is not None:
            self._add(gone[0], gone[1].as_dict())

    def _add(self, url: str, counted: Mapping[str, Any]) -> None:
        if not counted["groups"] and not any(counted[name] for name in _COUNTED):
            return
        from cachewrap.call.stats import Stats

        self._sums.setdefault(url, Stats()).add(counted)

    def forget(self, stats: Stats) -> None:
        """Leave out a cache that is not the program's own."""
        for number, (_, one) in self._live.copy().items():
            if one is stats:
                self._live.pop(number, None)

    def counts(self) -> dict[str, Stats]:
        """What was counted, by the URL; nothing is counted any more."""
        for number in self._live.copy():
            self._end(number)
        return self._sums

    def renew(self) -> None:
        """In a forked child: count from now on what was counted in the parent until now."""
        self._sums = {}
        for url, stats in self._live.copy().values():
            self._add(url, _negated(stats.as_dict()))


def _negated(counted: Any) -> Any:
    if isinstance(counted, dict):
        return {name: _negated(value) for name, value in counted.items()}
    if isinstance(counted, list):
        return [_negated(value) for value in counted]
    return -counted if isinstance(counted, (int, float)) else counted
