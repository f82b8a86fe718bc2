"""Hits and misses as programs recorded them, for the page of `cachewrap report`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any, Final

from cachewrap.cli._open import Place
from cachewrap.cli.rows import Filter
from cachewrap.history import Minute
from cachewrap.prices import price
from cachewrap.report.timeline import Timeline

_COUNTED: Final = (
    *("hits", "joined", "misses", "errors", "bypassed"),
    *("tokens_in", "tokens_out", "seconds"),
)


class Calls:
    """What a history of calls adds up to: how many were answered from where, and what that saved.

    Args:
        minutes: the history.
        places: the caches whose calls count.
        wanted: which of their calls; text and size are not known of them.
    """

    def __init__(self, minutes: Iterable[Minute], places: Iterable[Place], wanted: Filter) -> None:
        self._timeline = Timeline(2)
        self._sums: dict[str, Minute] = {}
        self._elsewhere = 0
        here, now = {place.store.url for place in places}, time.time()
        for minute in minutes:
            if minute.place in here:
                if wanted.fits(minute.model, minute.source, minute.start, now):
                    self._add(minute)
            else:
                self._elsewhere += minute.hits + minute.joined + minute.misses

    def _add(self, minute: Minute) -> None:
        self._timeline.add(minute.start, minute.hits + minute.joined, minute.misses)
        model = self._sums.setdefault(minute.model, Minute(0, "", "", minute.model))
        for name in _COUNTED:
            setattr(model, name, getattr(model, name) + getattr(minute, name))

    def figures(self) -> dict[str, Any]:
        """What was counted, as the page reads it."""
        length, steps = self._timeline.steps()
        models = self._sums.values()
        seconds = sum(model.seconds for model in models)
        money = [saved for model in models if (saved := _saved(model)) is not None]
        return {
            "hits": sum(model.hits + model.joined for model in models),
            "misses": sum(model.misses for model in models),
            "errors": sum(model.errors for model in models),
            "bypassed": sum(model.bypassed for model in models),
            "tokens_in": sum(model.tokens_in for model in models),
            "tokens_out": sum(model.tokens_out for model in models),
            "seconds": seconds if math.isfinite(seconds) else 0.0,
            "money": sum(money) if money else None,
            "elsewhere": self._elsewhere,
            "timeline": {"step": length, "steps": steps, "undated": 0},
        }


def _saved(model: Minute) -> float | None:
    """What the answers served cost: the price of the average one, for each."""
    calls = model.hits + model.joined
    if not calls:
        return None
    one = price(model.model, int(model.tokens_in // calls), int(model.tokens_out // calls))
    return None if one is None else one * calls
