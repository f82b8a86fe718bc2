"""What a cache has done so far, counted."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any, Final

from cachewrap.entry import Outcome
from cachewrap.flow import Reply

_HIT: Final = Outcome.HIT
_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


# Another thread may have held the lock at the fork; in the child nobody would release it.
os.register_at_fork(after_in_child=_renew_lock)


class Stats:
    """Counters of one cache, from its creation on. Safe to read at any time.

    Attributes:
        hits: calls answered from the store.
        misses: calls that went upstream and came back.
        joined: calls that were given the answer of another caller's call under way.
        stored: answers written to the store.
        bypassed: calls that a cache does not serve, such as a file upload.
        errors: faults of the store or of entries that a call survived.
        tokens_saved: prompt and completion tokens of the answers served, as upstream reported them.
        seconds_saved: seconds that upstream had taken for the answers served.
        bypass_reasons: how many calls were bypassed for which reason.
    """

    __slots__ = (
        "bypass_reasons",
        "bypassed",
        "errors",
        "hits",
        "joined",
        "misses",
        "seconds_saved",
        "stored",
        "tokens_saved",
    )

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.joined = 0
        self.stored = 0
        self.bypassed = 0
        self.errors = 0
        self.tokens_saved = 0
        self.seconds_saved = 0.0
        self.bypass_reasons: dict[str, int] = {}

    def count(self, reply: Reply[Any]) -> None:
        """Count one served call."""
        entry = reply.entry
        with _lock:
            if reply.outcome is _HIT:
                self.hits += 1
            elif reply.outcome is Outcome.MISS:
                self.misses += 1
                if reply.own and entry is not None:
                    self.stored += 1
                return
            else:
                self.joined += 1
            if entry is not None:
                self.tokens_saved += entry.tokens_in + entry.tokens_out
                self.seconds_saved += entry.seconds

    def count_bypass(self, reason: str) -> None:
        """Count one call that went past the cache."""
        with _lock:
            self.bypassed += 1
            self.bypass_reasons[reason] = self.bypass_reasons.get(reason, 0) + 1

    def count_error(self) -> None:
        """Count one fault that a call survived."""
        with _lock:
            self.errors += 1

    def as_dict(self) -> Mapping[str, int | float | dict[str, int]]:
        """The counters as a plain dictionary."""
        with _lock:
            return {
                "hits": self.hits,
                "misses": self.misses,
                "joined": self.joined,
                "stored": self.stored,
                "bypassed": self.bypassed,
                "errors": self.errors,
                "tokens_saved": self.tokens_saved,
                "seconds_saved": self.seconds_saved,
                "bypass_reasons": dict(self.bypass_reasons),
            }

    def __repr__(self) -> str:
        shown = {name: value for name, value in self.as_dict().items() if value}
        inside = ", ".join(
            f"{name}={value:.3f}" if isinstance(value, float) else f"{name}={value}"
            for name, value in shown.items()
        )
        return f"Stats({inside})"
