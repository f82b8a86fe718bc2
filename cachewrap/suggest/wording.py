"""Rules as they are proposed: what each is made of, and how it is written in Python and TOML."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from cachewrap.same import Rule, ignore, in_call_order, renumber, replace, sorted_by_name


class Proposed(NamedTuple):
    """One thing that a rule has to do, so that two requests are equal.

    Attributes:
        kind: the rule's name.
        given: its arguments; of `replace` the pattern, the replacement and the path.
    """

    kind: str
    given: tuple[str, ...] = ()


_ORDER: Final = ("in_call_order", "sorted_by_name", "renumber", "ignore", "replace")
_TOGETHER: Final = frozenset({"renumber", "ignore"})


def combined(proposed: Iterable[Proposed]) -> list[Proposed]:
    """The rules of several proposals: fields that are left out, and ids, are one rule each."""
    found: dict[str, list[Proposed]] = {}
    for one in sorted(set(proposed)):
        found.setdefault(one.kind, []).append(one)
    rules: list[Proposed] = []
    for kind in _ORDER:
        ones = found.get(kind, [])
        if kind in _TOGETHER and ones:
            paths = dict.fromkeys(path for one in ones for path in one.given)
            rules.append(Proposed(kind, tuple(_outermost(paths))))
        else:  # what takes most at once comes first: a shorter one leaves it nothing to find
            rules += sorted(ones, key=lambda one: (-sum(map(len, one.given[:1])), one))
    return rules


def _outermost(paths: Iterable[str]) -> list[str]:
    """Paths without those that lie in another one."""
    all_paths = list(paths)
    return [
        path
        for path in all_paths
        if not any(path.startswith((f"{other}.", f"{other}[")) for other in all_paths)
    ]


def made(proposed: Proposed) -> Rule:
    """The rule itself. Raises `ConfigurationError` for one that cannot be."""
    kind, given = proposed
    if kind == "ignore":
        return ignore(*given)
    if kind == "renumber":
        return renumber(*given)
    if kind == "replace":
        return replace(given[0], given[1], where=given[2])
    return in_call_order if kind == "in_call_order" else sorted_by_name


def python_text(proposed: Iterable[Proposed]) -> str:
    """The rules as Python that is pasted into a program."""
    rules = combined(proposed)
    names = ", ".join(sorted({rule.kind for rule in rules}))
    lines = [f"from cachewrap.same import {names}", "", "cache = Cache.disk(same=["]
    lines += [f"    {made(rule).label}," for rule in rules]
    return "\n".join([*lines, "])"])


def toml_text(proposed: Iterable[Proposed]) -> str:
    """The rules as the file that ``cachewrap run --same`` takes."""
    return "\n\n".join(_table(rule) for rule in combined(proposed))


def _table(rule: Proposed) -> str:
    kind, given = rule
    lines = ["[[rule]]"]
    if kind == "replace":
        lines.append(f"replace = {_literal(given[0])}")
        lines.append(f"with = {_text(given[1])}")
        lines.append(f"where = {_literal(given[2])}")
    elif kind in _TOGETHER:
        lines.append(f"{kind} = [{', '.join(map(_literal, given))}]")
    else:
        lines.append(f"{kind} = true")
    return "\n".join(lines)


def _literal(text: str) -> str:
    """A text in single quotes, in which TOML knows no escapes, where it can be written so."""
    return f"'{text}'" if "'" not in text and text.isprintable() else _text(text)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def facts(rule: Proposed) -> dict[str, Any]:
    """A rule, for machines."""
    kind, given = rule
    told: dict[str, Any] = {"python": made(rule).label}
    if kind == "replace":
        return {**told, "replace": given[0], "with": given[1], "where": given[2]}
    return {**told, kind: list(given) if kind in _TOGETHER else True}
