"""The totals of a run: what its calls came to, by function, model and block, and what stands out.

Everything is worked out of calls alone, so it holds for a run, a block of one, or any list of them.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Final

from cachewrap.ledger.calls import BYPASSED, FAILED, HIT, JOINED, MISS, Call, Rows
from cachewrap.telemetry.usage import provider_saved

REPEATED: Final = 5
"""How often a request is asked at most, before it is said that it is asked often."""

POLLED: Final = 10
"""How often a request is asked in a row, at least, by what is a loop that polls."""

_COUNTED: Final = {HIT: "hits", MISS: "misses", **{one: one for one in (JOINED, BYPASSED, FAILED)}}
_ANSWERED: Final = frozenset((HIT, MISS, JOINED))

ORDERS: Final[dict[str, Callable[[Call], float]]] = {
    "seconds": lambda call: call.seconds,
    "tokens": lambda call: call.tokens_in + call.tokens_out,
}
"""By what calls are put in order."""


@dataclass(slots=True)
class Sum:
    """The sum of some calls.

    What is saved is of hits and of joined calls, what is spent of misses. Money is in US dollars,
    and None where no price of any of them is known.

    Attributes:
        calls: all of them.
        hits: those answered from the store.
        joined: those given the answer of another caller's call.
        misses: those that went upstream and came back.
        bypassed: those let go past the cache.
        failed: those that raised.
        hits_by_rule: those that were given, by a rule of equality, what was stored for another
            request; they are among the hits and the joined calls.
        seconds: how long their callers waited, added up.
        seconds_saved: how long upstream had taken for what was served.
        tokens_in_saved: prompt tokens of the answers served.
        tokens_out_saved: completion tokens of the answers served.
        tokens_in_spent: prompt tokens of the misses.
        tokens_out_spent: completion tokens of the misses.
        saved: what the answers served would have cost.
        spent: what the misses cost.
        provider_saved: what the provider's own prompt cache took off what the misses cost; less
            than nothing where what was written to it costs more than what was read saved.
        unpriced: answers with tokens of which no price is known.
    """

    calls: int = 0
    hits: int = 0
    joined: int = 0
    misses: int = 0
    bypassed: int = 0
    failed: int = 0
    hits_by_rule: int = 0
    seconds: float = 0.0
    seconds_saved: float = 0.0
    tokens_in_saved: int = 0
    tokens_out_saved: int = 0
    tokens_in_spent: int = 0
    tokens_out_spent: int = 0
    saved: Decimal | None = None
    spent: Decimal | None = None
    provider_saved: Decimal | None = None
    unpriced: int = 0

    @property
    def tokens_saved(self) -> int:
        """Tokens of the answers served, prompt and completion."""
        return self.tokens_in_saved + self.tokens_out_saved

    @property
    def tokens_spent(self) -> int:
        """Tokens of the misses, prompt and completion."""
        return self.tokens_in_spent + self.tokens_out_spent

    def merge(self, other: Sum) -> None:
        """Add what other calls add up to."""
        for name in _NAMES:
            if (more := getattr(other, name)) is not None:
                setattr(self, name, (getattr(self, name) or 0) + more)

    def as_dict(self) -> dict[str, Any]:
        """The sums as plain values."""
        return {name: getattr(self, name) for name in _NAMES}


_NAMES: Final = tuple(one.name for one in fields(Sum))


@dataclass(slots=True)
class Group:
    """The calls of one function or endpoint, and of one model.

    Attributes:
        source: the function or endpoint.
        model: the model, or ``""``.
        sum: what they add up to.
    """

    source: str
    model: str
    sum: Sum = field(default_factory=Sum)

    def as_dict(self) -> dict[str, Any]:
        """The group as plain values: a row of a table."""
        return {"source": self.source, "model": self.model, **self.sum.as_dict()}


@dataclass(slots=True)
class Block:
    """The calls that were made in one block inside a run.

    Attributes:
        path: the block; ``""`` for what was made in none.
        sum: what they add up to.
    """

    path: str
    sum: Sum = field(default_factory=Sum)

    def as_dict(self) -> dict[str, Any]:
        """The block as plain values: a row of a table."""
        return {"path": self.path, **self.sum.as_dict()}


@dataclass(slots=True)
class Totals:
    """The totals of some calls.

    Attributes:
        sum: of all of them.
        groups: by function or endpoint and model; those with the most calls first.
        blocks: by the block that they were made in, in the order in which blocks began; what is
            made in a block inside counts in that alone.
    """

    sum: Sum
    groups: Rows[Group]
    blocks: Rows[Block]


def totals(calls: Iterable[Call]) -> Totals:
    """What some calls come to: all, by function and model, and by block."""
    groups: dict[tuple[str, str], Group] = {}
    blocks: dict[str, Block] = {}
    for call in calls:
        group = groups.get((call.source, call.model))
        if group is None:
            group = groups[call.source, call.model] = Group(call.source, call.model)
        block = blocks.get(call.path)
        if block is None:
            block = blocks[call.path] = Block(call.path)
        money, less = _money(call)
        _add(group.sum, call, money, less)
        _add(block.sum, call, money, less)
    whole = Sum()
    for block in blocks.values():
        whole.merge(block.sum)
    ordered = sorted(groups.values(), key=lambda one: (-one.sum.calls, one.source, one.model))
    return Totals(whole, Rows(ordered), Rows(blocks.values()))


def _add(sums: Sum, call: Call, money: Decimal | None, less: Decimal | None) -> None:
    sums.calls += 1
    sums.seconds += call.seconds
    name = _COUNTED[call.outcome]
    setattr(sums, name, getattr(sums, name) + 1)
    if call.served:
        sums.hits_by_rule += bool(call.rules)
        sums.seconds_saved += call.upstream_seconds
        sums.tokens_in_saved += call.tokens_in
        sums.tokens_out_saved += call.tokens_out
        sums.saved = _plus(sums.saved, money)
    elif call.outcome == MISS:
        sums.tokens_in_spent += call.tokens_in
        sums.tokens_out_spent += call.tokens_out
        sums.spent = _plus(sums.spent, money)
        sums.provider_saved = _plus(sums.provider_saved, less)
    if money is None and call.outcome in _ANSWERED and (call.tokens_in or call.tokens_out):
        sums.unpriced += 1


def _plus(amount: Decimal | None, more: Decimal | None) -> Decimal | None:
    return amount if more is None else more if amount is None else amount + more


def _money(call: Call) -> tuple[Decimal | None, Decimal | None]:
    """What a call's answer costs, and what the provider's own cache took off of it."""
    money = call.money
    if money is None or call.outcome != MISS or not call.details:
        return money, None
    return money, provider_saved(call.usage, call.started)


def by_rule(calls: Iterable[Call]) -> dict[str, int]:
    """How many calls needed which rule of equality, the most needed first."""
    counted = Counter(rule for call in calls for rule in call.rules)
    return dict(counted.most_common())


def most(calls: Iterable[Call], order: str = "seconds", count: int = 10) -> Rows[Call]:
    """The calls that took the longest, or the most tokens: one of `ORDERS`."""
    value = ORDERS[order]
    return Rows(heapq.nlargest(count, (call for call in calls if value(call)), key=value))


@dataclass(slots=True)
class Repeat:
    """A request that was asked many times.

    Attributes:
        call: the first call of it that was answered.
        count: how often it was asked, and answered.
        hits: how often it was answered from the store.
        joined: how often it was given the answer of another caller's call.
        misses: how often upstream was asked.
        in_a_row: how often, at most, one thread or task asked it and nothing else in between.
        lane: that thread or task.
        process: the process that it is in.
    """

    call: Call
    count: int = 0
    hits: int = 0
    joined: int = 0
    misses: int = 0
    in_a_row: int = 0
    lane: str = ""
    process: int = 0

    @property
    def polls(self) -> bool:
        """Whether it looks like a loop that waits for another answer, which never comes."""
        return self.in_a_row >= POLLED

    def as_dict(self) -> dict[str, Any]:
        """The request as plain values: a row of a table."""
        return {
            "key": self.call.key,
            "seed": self.call.seed,
            "source": self.call.source,
            "model": self.call.model,
            "count": self.count,
            "hits": self.hits,
            "joined": self.joined,
            "misses": self.misses,
            "in_a_row": self.in_a_row,
            "lane": self.lane,
            "process": self.process,
            "polls": self.polls,
        }


def repeated(calls: Iterable[Call], times: int = REPEATED) -> Rows[Repeat]:
    """The requests that were answered more than so many times, the most often asked first.

    Calls that a cache does not serve have no key, and cannot be told apart: they are left out. So
    are calls that failed, which are tried again for a reason.
    """
    found: dict[tuple[str, str, str], Repeat] = {}
    row: dict[tuple[int, str], tuple[Repeat, int]] = {}
    for call in calls:
        if call.outcome not in _ANSWERED:
            if call.outcome == BYPASSED:
                row.pop((call.process, call.lane), None)
            continue
        if not call.key:
            continue
        key = (call.key, call.seed, call.place)
        one = found.get(key)
        if one is None:
            one = found[key] = Repeat(call)
        one.count += 1
        name = _COUNTED[call.outcome]
        setattr(one, name, getattr(one, name) + 1)
        lane = (call.process, call.lane)
        before, length = row.get(lane, (None, 0))
        length = length + 1 if before is one else 1
        row[lane] = one, length
        if length > one.in_a_row:
            one.in_a_row, one.process, one.lane = length, *lane
    often = [one for one in found.values() if one.count > times]
    return Rows(sorted(often, key=lambda one: (-one.count, one.call.number)))


@dataclass(slots=True)
class Reason:
    """Calls that went past the cache, were not kept or failed, for the same reason.

    Attributes:
        outcome: that of the calls.
        source: the function or endpoint.
        reason: why; of what failed the type of the error.
        count: how many calls.
        first: the first of them.
    """

    outcome: str
    source: str
    reason: str
    count: int
    first: Call

    def as_dict(self) -> dict[str, Any]:
        """The reason as plain values: a row of a table."""
        return {
            "outcome": self.outcome,
            "source": self.source,
            "reason": self.reason,
            "count": self.count,
            "first": self.first.number,
        }


def reasons(calls: Sequence[Call], *outcomes: str) -> Rows[Reason]:
    """Why calls went past the cache, were not kept, or failed, the most frequent first.

    Args:
        calls: the calls.
        outcomes: those of which it is told: ``"bypassed"``, ``"failed"``, or ``"miss"`` for what
            upstream answered and was not kept.
    """
    counted: Counter[tuple[str, str, str]] = Counter()
    first: dict[tuple[str, str, str], Call] = {}
    for call in calls:
        if call.outcome not in outcomes or not (call.reason or call.outcome in (BYPASSED, FAILED)):
            continue
        why = (call.outcome, call.source, call.reason)
        counted[why] += 1
        first.setdefault(why, call)
    return Rows(Reason(*why, count, first[why]) for why, count in counted.most_common())
