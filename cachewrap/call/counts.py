"""The counts of one function or endpoint and of one model, and what their answers cost."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from cachewrap import systems
from cachewrap.telemetry.usage import PROVIDER, SHORT, Details, Usages

# Reentrant: the garbage collector may end an abandoned stream, which is counted, at any moment.
lock = threading.RLock()
systems.renew_in_child(globals(), lock=threading.RLock)


@dataclass(slots=True)
class Counts:
    """The counts of one function or endpoint, and of one model.

    Tokens and seconds are those that upstream reported and took. Of what was spent, only answers
    that are in the store are known.

    Args:
        hits: calls answered from the store.
        misses: calls that went upstream and came back.
        joined: calls that were given the answer of another caller's call under way.
        stored: answers written to the store.
        tokens_in_saved: prompt tokens of the answers served.
        tokens_out_saved: completion tokens of the answers served.
        seconds_saved: seconds that upstream had taken for the answers served.
        tokens_in_spent: prompt tokens of the calls that went upstream.
        tokens_out_spent: completion tokens of the calls that went upstream.
        seconds_spent: seconds that upstream took for them.
    """

    hits: int = 0
    misses: int = 0
    joined: int = 0
    stored: int = 0
    tokens_in_saved: int = 0
    tokens_out_saved: int = 0
    seconds_saved: float = 0.0
    tokens_in_spent: int = 0
    tokens_out_spent: int = 0
    seconds_spent: float = 0.0

    @property
    def calls(self) -> int:
        """Calls that the cache served, one way or another."""
        return self.hits + self.misses + self.joined

    def add(self, other: Counts | Mapping[str, Any]) -> None:
        """Add other counts, or those of `dataclasses.asdict`."""
        values = other if isinstance(other, Mapping) else asdict(other)
        for name in COUNTED:
            setattr(self, name, getattr(self, name) + values.get(name, 0))

    def _repr_html_(self) -> str:
        from cachewrap import notebook

        return notebook.of_counts(self)


COUNTED: Final = tuple(field.name for field in fields(Counts))


class Group(Counts):
    """The counts of one source and model, and the name under which upstream knows the model.

    Hits are told before they are added up: to append is one step, which no other thread and no
    interrupt comes between.
    """

    __slots__ = ("reported", "saved", "spent", "told")

    def __init__(self, reported: str) -> None:
        super().__init__()
        self.reported = reported
        self.saved = Usages()
        self.spent = Usages()
        self.told: list[tuple[int, int, float, Details]] = []

    def add_up(self) -> None:
        """Add up the hits that were told: of each its prompt and completion tokens, and seconds."""
        with lock:
            self._add_up()

    def _add_up(self) -> None:
        # Python 3.13.0 leaves a `with` without its exit where it is interrupted in the jump back
        # of a `while` that is the last of it. In a function of its own the loop is safe.
        told, add = self.told, self.saved.add
        hits = asked = answered = short = short_asked = short_answered = 0
        seconds = 0.0
        detailed: list[Details] = []
        try:
            while told:
                tokens_in, tokens_out, took, details = told.pop()
                hits += 1
                seconds += took
                if tokens_in > SHORT or len(details) > PROVIDER:
                    asked += tokens_in
                    answered += tokens_out
                    add(tokens_in, tokens_out, details)
                elif tokens_in or tokens_out or details:  # the most: they are added up before
                    short += 1
                    short_asked += tokens_in
                    short_answered += tokens_out
                    if details:
                        detailed.append(details)
        finally:
            self.hits += hits
            self.tokens_in_saved += asked + short_asked
            self.tokens_out_saved += answered + short_answered
            self.seconds_saved += seconds
            self.saved.add_short(short, short_asked, short_answered, detailed)
