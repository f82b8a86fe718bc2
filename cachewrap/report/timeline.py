"""How many answers were stored when, counted in steps that grow with the time they cover."""

from __future__ import annotations

from collections import Counter
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
        most: steps that are shown at most.

    Attributes:
        undated: how many came with a time that is none.
    """

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self._step = 0
        self._counts: Counter[int] = Counter()
        self.undated = 0

    def add(self, moment: float) -> None:
        """Count one, at a time in seconds since the epoch."""
        if not 0 < moment < _LAST:
            self.undated += 1
            return
        self._counts[int(moment // _STEPS[self._step])] += 1
        if len(self._counts) > _KEPT:
            self._coarsen()

    def _coarsen(self) -> None:
        before, self._step = _STEPS[self._step], self._step + 1
        counts: Counter[int] = Counter()
        for index, count in self._counts.items():
            counts[index * before // _STEPS[self._step]] += count
        self._counts = counts

    def steps(self) -> tuple[int, list[tuple[int, int]]]:
        """The length of a step in seconds, and of each step its beginning and count, without gaps.

        They are as fine as they can be while all of them are shown.
        """
        while self._counts and self._width() > self._most and self._step < len(_STEPS) - 1:
            self._coarsen()
        length = _STEPS[self._step]
        if not self._counts:
            return length, []
        first, last = min(self._counts), max(self._counts)
        return length, [(i * length, self._counts[i]) for i in range(first, last + 1)]

    def _width(self) -> int:
        return max(self._counts) - min(self._counts) + 1
