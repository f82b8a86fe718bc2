"""Families of stored requests, and the rules that would make each of them one request.

All entries are read once, of each of which a digest of its outline is kept. Those of families are
read again, a family at a time, and what is proposed is tried on them: only what holds is told.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple

from cachewrap.entries.stored import StoredEntry
from cachewrap.entry import Kind
from cachewrap.errors import CachewrapError
from cachewrap.request.key import decode_request, encode
from cachewrap.same.applied import Rules
from cachewrap.secrets import hidden
from cachewrap.suggest.comparing import Difference, Settled, differences
from cachewrap.suggest.outlines import ODD, outline, scope_of
from cachewrap.suggest.wording import Proposed, combined, made
from cachewrap.telemetry.usage import cost_of

EXAMPLES: Final = 3
"""Examples that are kept of each proposal."""

_EXACT: Final = 12  # bytes of a digest


class Stored(NamedTuple):
    """A stored entry, as it is remembered: its key, and a digest of its request as it was asked."""

    key: bytes
    exact: bytes


class Example(NamedTuple):
    """Two stored requests by their keys, how they differ, and what was asked."""

    one: str
    other: str
    differs: tuple[Difference, ...]
    asked: str = ""


@dataclass(slots=True)
class Saved:
    """Calls that would not have been made, and what they took."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    money: Decimal | None = None

    def add(self, other: Saved) -> None:
        """Count those of another as well."""
        self.calls += other.calls
        self.tokens_in += other.tokens_in
        self.tokens_out += other.tokens_out
        if other.money is not None:
            self.money = (self.money or Decimal(0)) + other.money


@dataclass(slots=True)
class Proposal:
    """Rules that would join stored requests, and what speaks for and against them.

    Attributes:
        rules: the rules, each of which is needed.
        doubtful: whether what they leave out may be what is asked.
        families: how many requests are left of those that are joined.
        requests: how many requests are joined.
        differing: in how many families the answers differ.
        saved: what would have been saved.
        pools: examples, those of a family in each.
    """

    rules: list[Proposed]
    doubtful: bool
    families: int = 0
    requests: int = 0
    differing: int = 0
    saved: Saved = field(default_factory=Saved)
    pools: list[list[Example]] = field(default_factory=list)

    @property
    def examples(self) -> list[Example]:
        """Some of the requests, of as many families as there are."""
        turns = itertools.zip_longest(*self.pools)
        return [one for turn in turns for one in turn if one is not None][:EXAMPLES]


Load = Callable[[Any, str], StoredEntry | None]
"""Reads an entry again, of its place and its key; None for one that is gone."""


class Families:
    """Stored requests, by their outlines.

    Attributes:
        entries: how many entries were looked at.
        unknown: how many of them were stored without their request, or have one of no known form.
    """

    def __init__(self) -> None:
        self.entries = 0
        self.unknown = 0
        self._sure: dict[tuple[Any, bytes], list[Stored]] = {}
        self._whole: dict[tuple[Any, bytes], dict[bytes, Stored]] = {}

    def add(self, place: Any, entry: StoredEntry) -> None:
        """Look at an entry.

        Args:
            place: requests in different places are not joined. It is given back to who reads the
                entry again.
            entry: the entry.
        """
        if entry._entry.kind is Kind.ALIAS:
            return
        self.entries += 1
        raw = entry._raw_request
        told, scope = None, b""
        try:
            request = decode_request(raw) if raw else None
            told = outline(request, raw) if type(request) is dict else None
            scope = scope_of(entry).encode()
        except ODD:
            told = None
        if told is None:
            self.unknown += 1
            return
        exact = hashlib.blake2b(raw, digest_size=_EXACT).digest()
        stored = Stored(bytes.fromhex(entry.key), exact)
        self._sure.setdefault((place, told.sure + scope), []).append(stored)
        if told.whole != told.sure:
            self._whole.setdefault((place, told.whole + scope), {}).setdefault(told.sure, stored)

    def proposals(self, load: Load, *, doubtful: bool = False) -> list[Proposal]:
        """The rules that would join some of them, those first that save most.

        Args:
            load: reads an entry again.
            doubtful: what is proposed: what leaves out noise, or what may leave out what is asked.
        """
        found: dict[tuple[Proposed, ...], Proposal] = {}
        for place, family in self._doubtful() if doubtful else self._certain():
            rules, examples = _examined(place, family, load)
            if not rules:
                continue
            proposal = found.setdefault(tuple(rules), Proposal(rules, doubtful))
            if _count(proposal, place, family, load) and len(proposal.pools) < EXAMPLES:
                proposal.pools.append(_shown(place, examples, load))
        held = [proposal for proposal in found.values() if proposal.saved.calls]
        return sorted(held, key=lambda one: (-one.saved.calls, str(one.rules)))

    def _certain(self) -> Iterator[tuple[Any, list[Stored]]]:
        for (place, _), family in self._sure.items():
            if len(family) > 1 and len({one.exact for one in family}) > 1:
                yield place, family

    def _doubtful(self) -> Iterator[tuple[Any, list[Stored]]]:
        """One request of each family, where some of them may be one."""
        for (place, _), families in self._whole.items():
            if len(families) > 1:
                yield place, list(families.values())

    @property
    def doubtful(self) -> int:
        """How many requests may be equal to another one, if what is asked does not matter."""
        return sum(len(families) - 1 for families in self._whole.values() if len(families) > 1)


def _examined(place: Any, family: list[Stored], load: Load) -> tuple[list[Proposed], list[Example]]:
    """What joins a family, and examples of how its requests differ."""
    proposed: set[Proposed] = set()
    examples: list[Example] = []
    first: tuple[str, Settled] | None = None
    for key, request, raw in _requests(place, family, load):
        try:
            settled = Settled(request, raw)
            if first is None:
                first = key, settled
                continue
            found = differences(first[1], settled)
        except ODD:
            continue
        new = {difference.rule for difference in found} - proposed
        proposed |= new
        if found and (new or len(examples) < EXAMPLES):
            by_rule = {difference.rule: difference for difference in reversed(found)}
            shown = tuple(reversed(by_rule.values()))
            examples.insert(0 if new else len(examples), Example(first[0], key, shown))
            del examples[EXAMPLES:]
    return combined(proposed), examples


def _shown(place: Any, examples: list[Example], load: Load) -> list[Example]:
    """Examples with what was asked, and without credentials."""
    found: list[Example] = []
    for example in examples:
        entry = load(place, example.one)
        try:
            asked = entry.prompt if entry else ""
        except ODD:
            asked = ""
        differs = tuple(
            difference._replace(one=hidden(difference.one), other=hidden(difference.other))
            for difference in example.differs
        )
        found.append(Example(example.one, example.other, differs, hidden(asked)))
    return found


def _requests(
    place: Any, family: Iterable[Stored], load: Load
) -> Iterator[tuple[str, dict[str, Any], bytes]]:
    """The distinct requests of a family, with their keys."""
    seen: set[bytes] = set()
    for one in family:
        if one.exact in seen:
            continue
        seen.add(one.exact)
        entry = load(place, one.key.hex())
        if entry is None:
            continue
        try:
            request = decode_request(entry._raw_request)
        except ODD:
            continue
        if type(request) is dict:
            yield one.key.hex(), request, entry._raw_request


# -- counting ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Asked:
    """A request as it was asked, with all of its samples."""

    created: float
    answer: bytes
    samples: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    money: Decimal | None = None


def _count(proposal: Proposal, place: Any, family: list[Stored], load: Load) -> int:
    """Try the rules of a proposal on a family, and count what they join; how many calls."""
    try:
        rules = Rules([made(rule) for rule in proposal.rules])
    except CachewrapError:
        return 0
    joined: dict[bytes, dict[bytes, _Asked]] = {}
    for one in family:
        entry = load(place, one.key.hex())
        if entry is None:
            continue
        try:
            request = decode_request(entry._raw_request)
            result = encode(rules.apply(request).request)
            answer, usage = entry.answer, entry.usage
        except ODD:
            continue
        group = joined.setdefault(hashlib.blake2b(result, digest_size=16).digest(), {})
        told = hashlib.blake2b(answer.encode(errors="replace"), digest_size=8).digest()
        asked = group.setdefault(one.exact, _Asked(entry.stored_at, told))
        asked.samples += 1
        asked.tokens_in += usage.tokens_in
        asked.tokens_out += usage.tokens_out
        if (money := cost_of(usage)) is not None:
            asked.money = (asked.money or Decimal(0)) + money
    calls = 0
    for group in joined.values():
        if len(group) > 1:
            saved = _saved(list(group.values()))
            calls += saved.calls
            proposal.saved.add(saved)
            proposal.families += 1
            proposal.requests += len(group)
            proposal.differing += len({asked.answer for asked in group.values()}) > 1
    return calls


def _saved(requests: list[_Asked]) -> Saved:
    """What is saved where several requests are one: the one with most samples is asked."""
    kept = min(requests, key=lambda asked: (-asked.samples, asked.created))
    saved = Saved()
    for asked in requests:
        if asked is not kept:
            saved.add(Saved(asked.samples, asked.tokens_in, asked.tokens_out, asked.money))
    return saved
