"""How much happened when, counted in steps that grow with the time they cover."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_MINUTE: Final = 60
# Minutes, hours, days, weeks, and lots of 52 weeks: each a multiple of the one before.
_STEPS: Final = tuple(
    _MINUTE * minutes
    for minutes in (1, 5, 15, 30, 60, 180, 360, 720, 1440, 10_080, 40_320, 524_160)
) + (314_496_000, 3_144_960_000)
_LAST: Final = 253_402_300_800.0  # the year 10000, which no calendar of a browser's has
_KEPT: Final = 4000


class Timeline:
    """Counts in steps of time. It holds some thousand numbers, whatever it is given.

    Args:
        kinds: how many kinds of things are counted.
        most: steps that are shown at most.

    Attributes:
        undated: how many came with a time that is none.
    """

    def __init__(self, kinds: int = 1, *, most: int = 64) -> None:
        self._kinds = kinds
        self._most = most
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
        while self._counts and self._width() > self._most and self._step < len(_STEPS) - 1:
            self._coarsen()
        length = _STEPS[self._step]
        if not self._counts:
            return length, []
        none = [0] * self._kinds
        whole = range(min(self._counts), max(self._counts) + 1)
        return length, [[i * length, *self._counts.get(i, none)] for i in whole]

    def _width(self) -> int:
        return max(self._counts) - min(self._counts) + 1
