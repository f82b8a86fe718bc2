"""One call as a run has it, and lists of such plain objects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Protocol, TypeVar

from cachewrap.format.sealing import Guard
from cachewrap.policy import Policy
from cachewrap.stores.base import Store
from cachewrap.telemetry.usage import NO_DETAILS, Details, Usage, cost_of


class Place(Protocol):
    """A cache, as far as runs know it: where answers are, and what opens them."""

    policy: Policy
    _guard: Guard

    @property
    def store(self) -> Store: ...

    @property
    def url(self) -> str: ...

    @property
    def seed(self) -> str | None: ...

    def reseed(self, cache_seed: Any) -> Place: ...

    def close(self) -> None: ...


HIT: Final = "hit"
MISS: Final = "miss"
JOINED: Final = "joined"
BYPASSED: Final = "bypassed"
FAILED: Final = "failed"

OUTCOMES: Final = (HIT, MISS, JOINED, BYPASSED, FAILED)
"""The ways in which calls end. What is stored are their numbers here: they are never reused."""


@dataclass(slots=True)
class Call:
    """One call of a run.

    Attributes:
        number: its place in the run, from 0: calls are in the order in which they began.
        key: the key of the request; ``""`` of a call that a cache does not serve.
        outcome: ``"hit"``, ``"miss"``, ``"joined"`` (given the answer of another caller's call),
            ``"bypassed"`` (let go past the cache) or ``"failed"``.
        source: the function (``module:name``) or the endpoint (``POST /chat/completions``).
        model: the model that was asked, else the one that answered; or ``""``.
        seed: the seed of the cache.
        sample: which sample of its request it is, from 0.
        started: when it began, in seconds since the epoch.
        seconds: how long its caller waited.
        upstream_seconds: how long upstream took for the answer, now or when it was stored.
        tokens_in: prompt tokens of the answer, all of them.
        tokens_out: completion tokens of the answer.
        details: what is special about the tokens, as in `Usage`.
        answered: when the answer was stored, in seconds since the epoch, which tells one answer to
            a request from a later one; 0.0 where none was stored.
        lane: the thread, or the task of an event loop, that made it.
        process: the number of the process that made it.
        path: the blocks inside the run that it was made in, outermost first, with ``/`` between.
        place: the URL of the cache that served it; ``""`` for that of the run.
        reason: why it went past the cache, or its answer was not stored, or the type of the error
            that it raised; of a hit that an alias led to ``"alias"``.
        rules: of an answer that was stored for another request, the rules of equality without
            which it were not this one's.
    """

    number: int
    key: str
    outcome: str
    source: str
    model: str
    seed: str
    sample: int
    started: float
    seconds: float
    upstream_seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    details: Details = NO_DETAILS
    answered: float = 0.0
    lane: str = ""
    process: int = 0
    path: str = ""
    place: str = ""
    reason: str = ""
    rules: tuple[str, ...] = ()

    @property
    def served(self) -> bool:
        """Whether nothing was asked upstream for it."""
        return self.outcome in (HIT, JOINED)

    @property
    def usage(self) -> Usage:
        """The usage that its answer reports."""
        return Usage(self.model, self.tokens_in, self.tokens_out, self.details)

    @property
    def money(self) -> Decimal | None:
        """What its answer costs upstream, in US dollars, at the price of its time.

        It is what a miss has cost, and what a hit or a joined call has saved. None where no price
        is known, and for what was neither.
        """
        if self.outcome in (BYPASSED, FAILED):
            return None
        return cost_of(self.usage, self.started)

    def as_dict(self) -> dict[str, Any]:
        """The call as plain values: a row of a table."""
        return {
            "number": self.number,
            "key": self.key,
            "outcome": self.outcome,
            "source": self.source,
            "model": self.model,
            "seed": self.seed,
            "sample": self.sample,
            "started": datetime.fromtimestamp(self.started, UTC),
            "seconds": round(self.seconds, 6),
            "upstream_seconds": round(self.upstream_seconds, 6),
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            **self.usage.detailed(),
            "money": self.money,
            "lane": self.lane,
            "process": self.process,
            "path": self.path,
            "place": self.place,
            "reason": self.reason,
            "rules": list(self.rules),
        }


class Row(Protocol):
    """Anything that can be a row of a table."""

    def as_dict(self) -> dict[str, Any]: ...


R = TypeVar("R", bound=Row)


class Rows(list[R]):
    """A list of plain objects. ``pandas.DataFrame(rows.to_dicts())`` is a table of them."""

    def to_dicts(self) -> list[dict[str, Any]]:
        """Each as a dictionary of plain values."""
        return [row.as_dict() for row in self]
