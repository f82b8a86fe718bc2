"""Rules that make two requests equal: those of a cache, and those of ready sets that it lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final, TypeAlias

import msgspec

from cachewrap.entry import By, Declared, Entry, rules_between
from cachewrap.errors import CorruptEntryError, printable
from cachewrap.explain.differences import Difference, differences
from cachewrap.request.key import decode_request, encode, stored
from cachewrap.same.applied import Rules, check_rules
from cachewrap.same.rules import Rule, ignore
from cachewrap.same.sets import AGENTS, STEERING

Equal: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]
"""Rules, each with what it makes equal, one line for each field."""


def _each(rules: Iterable[Rule]) -> Iterator[Rule]:
    """The rules of a set, a rule for each field that it leaves out: one is told, not all."""
    for rule in rules:
        if rule.form[0] == "ignore":
            yield from map(ignore, rule.form[1])
        else:
            yield rule


_SETS: Final = {"AGENTS": (*_each(AGENTS),), "STEERING": (*_each(STEERING),)}

UNREADABLE: Final = (
    *(msgspec.MsgspecError, ValueError, TypeError, LookupError, AttributeError),
    RecursionError,
)
"""What a request may raise that somebody has put into a store."""

_SPACES_APART: Final = 16
"""Spaces that differ at most: ids have none, but lengths may be written with such a byte."""

_LONGEST: Final = 400
"""Characters of a line, at most."""

_LONGEST_RULE: Final = 120


def counted(rules: Rules | None, request: dict[str, Any]) -> dict[str, Any]:
    """A request as it counts in a cache."""
    return request if rules is None else rules.apply(request).request


def lines_of(found: Iterable[Difference]) -> tuple[str, ...]:
    """Differences as people read them."""
    return tuple(printable(difference.line, _LONGEST) for difference in found)


def made_equal(rules: Rules | None, old: dict[str, Any], new: dict[str, Any]) -> Equal:
    """What differs between two requests as they were asked, and no longer by a rule of a cache.

    A field of which a rule makes a part equal, and which is different all the same, is told as one.
    """
    found: list[tuple[str, tuple[str, ...]]] = []
    before: list[Difference] | None = None
    for rule in rules or ():
        (one, rest), (other, others) = rule.apply(old), rule.apply(new)
        if rest != others:
            before = differences(old, new) if before is None else before
            after = differences(one, other)
            if lines := tuple(_gone(before, after)):
                found.append((printable(rule.label, _LONGEST_RULE), lines))
            before = after
        elif rest:
            before = None
        old, new = one, other
    return tuple(found)


def _gone(before: list[Difference], after: list[Difference]) -> Iterator[str]:
    left = {difference.line for difference in after}
    fields = {_field(line) for line in left}
    for difference in before:
        line = difference.line
        if line in left:
            continue
        if (field := _field(line)) in fields:
            line = f"{field}, in part"
        yield printable(line, _LONGEST)


def _field(line: str) -> str:
    return line.partition(": ")[0]


def needed(rules: Rules | None, entry: Entry, asked: bytes, by: By) -> Equal:
    """The rules without which a stored answer would be none for a request, with what differs.

    What differs in a credential, or in a request that was not stored, is not told.

    Args:
        rules: those of the cache.
        entry: the stored answer.
        asked: the request, encoded.
        by: the rules that changed it, as for `Declared`.
    """
    found = rules_between(by, () if entry.declared is None else entry.declared.by)
    if not found:
        return ()
    lines: dict[str, tuple[str, ...]] = {}
    with suppress(*UNREADABLE, CorruptEntryError):
        request = entry.read_record()["request"]
        lines.update(made_equal(rules, decode_request(request), decode_request(stored(asked))))
    labels = (printable(label, _LONGEST_RULE) for label in found)
    return tuple((label, lines.get(label, ())) for label in labels)


def of_size(asked: bytes) -> Callable[[bytes], float | None]:
    """What takes an encoded request and gives how far it is from one in size and in spaces.

    None for one that is too far to be equal by rules that change order, ids and addresses.
    """
    size, spaces = len(asked), asked.count(b" ")
    slack = 64 + size // 32

    def apart(other: bytes) -> float | None:
        longer = abs(len(other) - size)
        if longer > slack or (more := abs(other.count(b" ") - spaces)) > _SPACES_APART:
            return None
        return more + longer / 8

    return apart


class Lacking:
    """The rules of ready sets that a cache has not, as far as they make a request equal to others.

    Args:
        rules: those that the cache has.
        asked: the request.
    """

    def __init__(self, rules: Rules | None, asked: dict[str, Any]) -> None:
        own: tuple[Rule, ...] = () if rules is None else tuple(rules)
        more = [rule for ready in _SETS.values() for rule in ready if rule not in own]
        self._own = frozenset(rule.label for rule in own)
        self._rules = check_rules([*own, *more])
        self._asked = asked
        self._counted: tuple[bytes, By] | None = None

    def between(self, old: dict[str, Any]) -> tuple[str, ...]:
        """The rules that the cache would need to serve it with a stored one's answer.

        None where they are equal without, or different all the same.
        """
        if self._rules is None:
            return ()
        if self._counted is None:
            self._counted = self._count(self._rules, self._asked)
        form, by = self._counted
        other, others = self._count(self._rules, old)
        if form != other:
            return ()
        return tuple(rule for rule in rules_between(by, others) if rule not in self._own)

    def _count(self, rules: Rules, request: dict[str, Any]) -> tuple[bytes, By]:
        found, by = rules.apply(request)
        return encode(found), by


def sets_of(rules: Iterable[str]) -> list[str]:
    """The names of the ready sets that rules are of."""
    wanted = set(rules)
    return [name for name, ready in _SETS.items() if any(rule.label in wanted for rule in ready)]


def elsewhere(rules: Rules | None, element: bool, declared: Declared | None) -> str:
    """Why a stored answer is none for a request, whatever that asks; "" where it may be one.

    Args:
        rules: those of the cache.
        element: whether the request is for one element of a list.
        declared: what was declared of the stored one.
    """
    declared = declared or _EXACT
    if declared.element is not element:
        return "as an element of a list" if declared.element else "as a whole, not by its elements"
    if declared.rules == ("" if rules is None else rules.digest):
        return ""
    if not declared.rules:
        return "without rules"
    return "with rules (same=)" if rules is None else "with other rules"


_EXACT: Final = Declared()
