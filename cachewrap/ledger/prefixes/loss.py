"""The loss by prompts that could have been read from a provider's cache, in tokens and money."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final, NamedTuple

from cachewrap.ledger.calls import BYPASSED, FAILED, MISS, Call, Rows
from cachewrap.ledger.prefixes.lineage import Numbered
from cachewrap.ledger.prefixes.prompts import CHAT, RESPONSES, Parts
from cachewrap.patterns import later
from cachewrap.telemetry.usage import Details, cost_of

_LEAST: Final = (
    (later(r"opus-4-[56]|haiku-4-5|gemini-(?:[3-9]|1\.5)"), 4096),
    (later(r"opus-4-7|haiku-3|3-5-haiku|3-haiku|gemini-2"), 2048),
    (later(r"opus-5|fable|mythos-5"), 512),
    (later(r"deepseek"), 64),
)
"""Tokens below which nothing is cached: "minimum cacheable prompt length" (Anthropic, "Prompt
caching"), "1024 tokens or longer" (OpenAI, "Prompt caching"), "Min token limit" (Gemini API,
"Context caching"), DeepSeek's "Context Caching"."""

_USUAL: Final = 1024
_STEP: Final = 128
"""OpenAI's "Prompt Caching 201": "in 128 token blocks"."""

_MOST: Final = 0.9
"""The share of what could be read from which on all of it was, as far as is known."""

_CHARS: Final = 4
"""Characters of a token, where no answer has told."""


class Loss(NamedTuple):
    """Tokens that could have been read from the provider's cache, and were not.

    Attributes:
        chars: characters behind the first difference that had been sent before.
        tokens: tokens of these, as far as a provider caches them; about.
        money: what reading them would have saved, in US dollars; None where that is not known.
        read: whether they were read all the same, as the answer reports.
    """

    chars: int
    tokens: int
    money: Decimal | None
    read: bool = False


def least_tokens(model: str) -> int:
    """Tokens that a prompt needs to be cached."""
    return next((least for pattern, least in _LEAST if pattern.search(model)), _USUAL)


def lost(
    call: Call,
    new: Numbered,
    old: Numbered,
    parts: Parts,
    start: int,
    before: float,
    behind: float,
    end: int,
    *,
    nothing_kept: bool = False,
) -> Loss:
    """What a call lost whose prompt differs from an older one.

    Tokens are where their characters are: each part has its share of the tokens that the answer
    reports. What the answer reports as read was read.

    Args:
        call: the call.
        new: its prompt.
        old: the older one.
        parts: what their parts are.
        start: the first part that differs.
        before: the share of that part that is the same before the difference.
        behind: the share of it that is the same behind.
        end: the part at which ends what could have been read.
        nothing_kept: whether nothing could be read, though it does not differ.
    """
    size, shape = parts.size, parts.shape
    ids = new.ids
    whole = max(1, sum(size[number] for number in ids))
    if new.kept > start and not nothing_kept:
        start, before, behind = new.kept, 0.0, 0.0
    known, shapes = set(old.ids), {shape[number] for number in old.ids if shape[number]}
    more = 0.0
    kept = float(sum(size[number] for number in ids[:start]))
    for at in range(start, min(end, len(ids))):
        number = ids[at]
        if number in known:
            more += size[number]
        elif at == start and (before or behind):
            kept += size[number] * before
            more += size[number] * behind
        elif shape[number] in shapes:
            more += size[number]
    asked = call.tokens_in or whole // _CHARS
    model = call.model or new.head.model
    could = _usable(asked * (kept + more) / whole, model, new.head.api)
    did = _usable(asked * kept / whole, model, new.head.api)
    reads = call.details[0] if call.details else 0
    tokens = max(0, could - max(did, reads))
    return Loss(round(more), tokens, _price(call, tokens), reads > did and reads > _MOST * could)


def _usable(tokens: float, model: str, api: str) -> int:
    """How many tokens of a common beginning a provider reads from its cache."""
    least = least_tokens(model)
    if tokens < least:
        return 0
    if api in (CHAT, RESPONSES) and least == _USUAL:
        return least + int(tokens - least) // _STEP * _STEP
    return int(tokens)


def _price(call: Call, tokens: int) -> Decimal | None:
    if call.outcome in (BYPASSED, FAILED) or not call.tokens_in:
        return None
    was = cost_of(call.usage, call.started)
    if was is None or not tokens:
        return was and Decimal(0)
    reads, writes, long = (*call.details, 0, 0, 0)[:3]
    less = min(tokens, writes)
    details: Details = (
        min(call.tokens_in, reads + tokens),
        writes - less,
        min(long, writes - less),
        *call.details[3:],
    )
    now = cost_of(replace(call.usage, details=details), call.started)
    return None if now is None else max(Decimal(0), was - now)


@dataclass(slots=True)
class Break:
    """A difference by which calls of a run missed the provider's cache.

    Attributes:
        kind: what differs: ``"time"``, ``"id"``, ``"order"``, ``"counter"``, ``"white space"``,
            ``"definition"``, ``"added"``, ``"removed"``, ``"text"``, ``"picture"``, ``"address"``,
            ``"model"``, ``"setting"``, ``"window"``, ``"summary"``, ``"pause"``, ``"lookback"``,
            ``"unread"``.
        where: the field in which the first of the calls differs.
        text: what differs, for people, in the first of the calls.
        calls: the calls that it struck.
        since: the number of the call that the first of them should have begun as.
        tokens: prompt tokens that could have been read from the provider's cache; about.
        money: what that would have saved, in US dollars; None where no price is known.
        paid_calls: how many of the calls were asked upstream in this run: misses.
        paid_tokens: the same of the calls that were.
        paid_money: the same of the calls that were.
    """

    kind: str
    where: str
    text: str
    since: int
    calls: Rows[Call] = field(default_factory=Rows)
    tokens: int = 0
    money: Decimal | None = None
    paid_calls: int = 0
    paid_tokens: int = 0
    paid_money: Decimal | None = None

    def add(self, call: Call, loss: Loss) -> None:
        """Count a call that it struck."""
        self.calls.append(call)
        self.tokens += loss.tokens
        self.money = _sum(self.money, loss.money)
        if call.outcome == MISS:
            self.paid_calls += 1
            self.paid_tokens += loss.tokens
            self.paid_money = _sum(self.paid_money, loss.money)

    def as_dict(self) -> dict[str, Any]:
        """The difference as plain values: a row of a table."""
        return {
            "kind": self.kind,
            "where": self.where,
            "text": self.text,
            "calls": len(self.calls),
            "first": self.calls[0].number if self.calls else -1,
            "since": self.since,
            "tokens": self.tokens,
            "money": self.money,
            "paid_calls": self.paid_calls,
            "paid_tokens": self.paid_tokens,
            "paid_money": self.paid_money,
        }


def _sum(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return one if other is None else other + (one or 0)


@dataclass(slots=True)
class Prefixes:
    """The beginnings of a run's prompts: how many are as they should be, and why others are not.

    Attributes:
        calls: how many prompts were compared.
        conversations: how many conversations they are of.
        shared: how many should have begun as one before them did.
        kept: how many of these did.
        read_tokens: prompt tokens that were read from the provider's cache, as it reports.
        breaks: why the others did not, what cost most first.
        notes: what also differs, and seems to be meant or costs next to nothing.
        unread: how many calls could not be compared, by the reason.
    """

    calls: int = 0
    conversations: int = 0
    shared: int = 0
    kept: int = 0
    read_tokens: int = 0
    breaks: Rows[Break] = field(default_factory=Rows)
    notes: Rows[Break] = field(default_factory=Rows)
    unread: dict[str, int] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Prompt tokens that could have been read from the provider's cache, about."""
        return sum(one.tokens for one in self.breaks)

    @property
    def money(self) -> Decimal | None:
        """What that would have saved, in US dollars; None where no price is known."""
        found = [one.money for one in self.breaks if one.money is not None]
        return sum(found, Decimal(0)) if found else None

    def to_dicts(self) -> list[dict[str, Any]]:
        """The breaks, each as a dictionary of plain values."""
        return self.breaks.to_dicts()
