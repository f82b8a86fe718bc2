"""Answers of runs: where a call's is now, also when another has taken its place since."""

from __future__ import annotations

from typing import Any, Self

from cachewrap.ledger.calls import Call, Place


class Answers:
    """The answers of the calls of one place.

    Args:
        cache: a cache of the place.
    """

    def __init__(self, cache: Place) -> None:
        self._cache = cache

    @classmethod
    def of(cls, cache: Place) -> Self:
        """Those of a cache's place."""
        return cls(cache)

    def raw(self, call: Call) -> bytes | None:
        """The stored bytes of the answer that a call was given; None where they are gone."""
        store: Any = self._cache.reseed(call.seed).store
        return store.get(call.key) if call.key else None


def sweep(cache: Place) -> None:
    """Remove the answers that were kept for runs, and that no run has any more."""
