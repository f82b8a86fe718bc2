"""Steps through the values of a request, whatever form they have in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import is_
from typing import Any, Final, TypeAlias

import msgspec

Change: TypeAlias = Callable[[Any], Any]
"""Gives what takes the place of a value: the value itself to leave it, `GONE` to take it out."""

GONE: Final = object()
"""In place of a value that is taken out."""


@dataclass(slots=True)
class Taken:
    """A value that a rule is done with, at its place until the rule has gone all its ways.

    It is to be taken out, or has taken the place of another.
    """

    value: Any


@dataclass(frozen=True, slots=True)
class Named:
    """A step to the member of an object."""

    name: str


@dataclass(frozen=True, slots=True)
class Every:
    """A step to all items, or all members."""


@dataclass(frozen=True, slots=True)
class At:
    """A step to the item of a list."""

    index: int


@dataclass(frozen=True, slots=True)
class Having:
    """A step to the items that have a member of one of these values, or of none of them."""

    names: tuple[str, ...]
    values: frozenset[str]
    absent: bool = False
    is_usual: bool = field(init=False, compare=False)
    """Whether it is one member that has one of some texts, which are of no other value."""

    def __post_init__(self) -> None:
        words = all(one[:1].isalpha() and one not in _WORDS for one in self.values)
        object.__setattr__(self, "is_usual", len(self.names) == 1 and words and not self.absent)

    def fits(self, item: Any) -> bool:
        """Whether an item has it."""
        for name in self.names:
            item = member(item, name)
        return (_text(item) in self.values) is not self.absent


_WORDS: Final = frozenset({"true", "false", "null", "NaN", "Infinity"})

Step: TypeAlias = Named | Every | At | Having

EVERY: Final = Every()
ANY: Final = Having((), frozenset(), absent=True)
"""All items of a list; of an object, the object itself."""


def _text(value: Any) -> str | None:
    """A scalar as a condition has it."""
    if type(value) is str:
        return value
    if value is None or type(value) in (bool, int, float):
        return json.dumps(value)
    return _text(value.value) if type(value) is Taken else None


# How objects, and what JSON has no form for, stand in a canonical request: behind which of its
# parts the fields or items are, and whether they are pairs of a name and a value.
_PAIRED: Final = frozenset({"!members", "!dict", "!ordered"})
_BARE: Final = frozenset({"!tuple", "!namespace", "!mappingproxy"})
_BEHIND: Final = {
    **dict.fromkeys(("!pydantic", "!dataclass", "!attrs", "!struct", "!object", "!namedtuple"), 1),
    "!subclass": 1,
    "!deque": 0,
}


def _tag(value: Any) -> str:
    """The tag of a tagged value; "" for any other."""
    if type(value) is dict and len(value) == 1:
        for name in value:
            if name[:1] == "!":
                return name if type(name) is str else ""
    return ""


def opened(value: Any) -> Any:
    """A value that was encoded already, decoded, or that a rule is done with; else as it is."""
    if type(value) is msgspec.Raw:
        return msgspec.msgpack.decode(value)
    return value.value if type(value) is Taken else value


def whole(value: Any) -> Any:
    """A value as it was before a rule was done with anything in it."""
    if type(value) is dict:
        return {name: whole(inner) for name, inner in value.items()}
    if type(value) is list:
        return [whole(inner) for inner in value]
    return whole(value.value) if type(value) is Taken else value


def member(value: Any, name: str) -> Any:
    """The member of an object, whatever form it has; None where there is none."""
    if type(value) is not dict:
        value = opened(value)
        if type(value) is not dict:
            return None
    if len(value) != 1 or not (tag := _tag(value)):
        return value.get(name)
    held = value[tag]
    if tag in _PAIRED:
        pairs = held if type(held) is list else ()
        return next((pair[1] for pair in pairs if pair[0] == name), None)
    if tag in _BARE:
        return member(held, name)
    at = _BEHIND.get(tag)
    return None if at is None or len(held) <= at else member(held[at], name)


def items(value: Any) -> list[Any]:
    """The items of a list, whatever form it has; none of anything else."""
    value = opened(value)
    if type(value) is list:
        return value
    tag = _tag(value)
    if tag in _BARE:
        return items(value[tag])
    at = _BEHIND.get(tag)
    return [] if at is None or len(value[tag]) <= at else items(value[tag][at])


def with_items(value: Any, new: list[Any]) -> Any:
    """A list, whatever form it has, with other items."""
    value = opened(value)
    tag = _tag(value)
    if not tag:
        return new
    held = value[tag]
    if tag in _BARE:
        return {tag: with_items(held, new)}
    at = _BEHIND[tag]
    return {tag: [*held[:at], with_items(held[at], new), *held[at + 1 :]]}


def with_member(value: Any, name: str, new: Any) -> Any:
    """An object, whatever form it has, with another value for a member that it has."""
    return rewritten(value, (Named(name),), 0, lambda old: new)


def put(value: dict[str, Any], name: str, new: Any) -> dict[str, Any]:
    copied = value.copy()
    if new is not GONE:
        copied[name] = new
        return copied
    del copied[name]
    return _untagged(copied)


def _untagged(left: dict[str, Any]) -> dict[str, Any]:
    """What is left of an object, which is to be taken for no tagged value."""
    if len(left) == 1 and (tag := _tag(left)):
        return {"!dict": [[tag, left[tag]]]}
    return left


def rewritten(value: Any, steps: tuple[Step, ...], at: int, change: Change) -> Any:
    if at == len(steps):
        return change(value)
    kind = type(value)
    if kind is msgspec.Raw:
        plain = msgspec.msgpack.decode(value)
        found = rewritten(plain, steps, at, change)
        return value if found is plain else found
    step = steps[at]
    if kind is dict:
        if len(value) == 1 and (tag := _tag(value)):
            return _in_tagged(value, tag, steps, at, change)
        if type(step) is Named:
            name = step.name
            if name not in value:
                return value
            old = value[name]
            new = rewritten(old, steps, at + 1, change)
            return value if new is old else put(value, name, new)
        if type(step) is Having:
            return rewritten(value, steps, at + 1, change) if step.fits(value) else value
        if step is EVERY:
            found = value
            for name in sorted(value):  # what comes first is no part of a request
                old = value[name]
                new = rewritten(old, steps, at + 1, change)
                if new is not old:
                    if found is value:
                        found = value.copy()
                    if new is GONE:
                        del found[name]
                    else:
                        found[name] = new
            return found if len(found) == len(value) else _untagged(found)
        return value
    if kind is list:
        return _in_list(value, step, steps, at, change)
    return rewritten(value, steps, at + 1, change) if step is ANY else value


def _in_list(
    value: list[Any], step: Step, steps: tuple[Step, ...], at: int, change: Change
) -> list[Any]:
    if type(step) is At:
        index = step.index + len(value) if step.index < 0 else step.index
        chosen: Iterable[int] = [index] if 0 <= index < len(value) else []
    elif step is EVERY:
        chosen = _going_on(value, steps, at + 1)
    elif type(step) is Having:
        chosen = _fitting(value, step)
    else:
        return value
    found, taken = value, False
    for index in chosen:
        old = value[index]
        new = rewritten(old, steps, at + 1, change)
        if new is not old:
            if found is value:
                found = value[:]
            found[index] = new
            taken = taken or new is GONE
    return [item for item in found if item is not GONE] if taken else found


def _fitting(value: list[Any], step: Having) -> Iterable[int]:
    """The places of the items that fit."""
    if step.is_usual:
        (name,), values = step.names, step.values
        try:
            return [i for i, item in enumerate(value) if item[name] in values]
        except (KeyError, TypeError):
            pass  # one that has no such member, or is another thing
    return [i for i, item in enumerate(value) if step.fits(item)]


def _going_on(value: list[Any], steps: tuple[Step, ...], at: int) -> Iterable[int]:
    """The places of the items in which a path may go on: a quick look, since most are passed."""
    step = steps[at] if at < len(steps) else None
    if type(step) is not Named:
        return range(len(value))
    name, ends = step.name, at + 1 == len(steps)
    return [
        i
        for i, item in enumerate(value)
        if type(item) is not dict
        or len(item) == 1
        or (name in item if ends else type(item.get(name)) in _HOLDING)
    ]


_HOLDING: Final = frozenset({dict, list, msgspec.Raw})
"""The types of what a path goes on in."""


def _in_tagged(
    value: dict[str, Any], tag: str, steps: tuple[Step, ...], at: int, change: Change
) -> Any:
    """A path goes on in what an object or a container of Python's holds."""
    held = value[tag]
    if tag in _PAIRED and type(held) is list:
        return _in_pairs(value, tag, steps, at, change)
    if tag in _BARE:
        new = rewritten(held, steps, at, change)
        return value if new is held else GONE if new is GONE else {tag: new}
    place = _BEHIND.get(tag)
    if place is None or type(held) is not list or len(held) <= place:
        return value
    new = rewritten(held[place], steps, at, change)
    if new is held[place] or new is GONE:
        return value if new is not GONE else GONE
    return {tag: [*held[:place], new, *held[place + 1 :]]}


def _in_pairs(
    value: dict[str, Any], tag: str, steps: tuple[Step, ...], at: int, change: Change
) -> Any:
    step, pairs = steps[at], value[tag]
    if type(step) is Having:
        return rewritten(value, steps, at + 1, change) if step.fits(value) else value
    found: list[Any] = []
    for pair in pairs:
        name, old = pair
        if step is EVERY or (type(step) is Named and step.name == name):
            new = rewritten(old, steps, at + 1, change)
            if new is GONE:
                continue
            pair = pair if new is old else [name, new]
        found.append(pair)
    if len(found) == len(pairs):
        return value if all(map(_is, found, pairs)) else {tag: found}
    if not found:
        return {}
    if tag == "!members" and len(found) == 1 and type(found[0][0]) is str:  # it has no order
        return _untagged(dict(found))
    return {tag: found}


def _is(one: Any, other: Any) -> bool:
    return one is other


def find(
    value: Any,
    steps: tuple[Step, ...],
    at: int,
    way: list[int | str],
    found: list[list[int | str]],
) -> None:
    """Collect the ways on which steps lead somewhere, as far as they could be others."""
    if at == len(steps):
        found.append(way)
        return
    value, step = opened(value), steps[at]
    if type(value) is dict:
        tag = _tag(value)
        held = value.get(tag)
        if tag in _BARE:
            find(held, steps, at, way, found)
        elif tag in _BEHIND:
            if type(held) is list and len(held) > _BEHIND[tag]:
                find(held[_BEHIND[tag]], steps, at, way, found)
        elif type(step) is Having:
            if step.fits(value):
                find(value, steps, at + 1, way, found)
        else:
            paired = tag in _PAIRED and type(held) is list
            members: Any = held if paired else sorted(value.items(), key=_name)
            for name, inner in members:
                if step is EVERY or (type(step) is Named and step.name == name):
                    find(inner, steps, at + 1, [*way, name] if step is EVERY else way, found)
    elif type(value) is list:
        for index, item in enumerate(value):
            if type(step) is At:
                if index == step.index % len(value) and -len(value) <= step.index < len(value):
                    find(item, steps, at + 1, way, found)
            elif step is EVERY or (type(step) is Having and step.fits(item)):
                find(item, steps, at + 1, [*way, index], found)


def _name(member: tuple[str, Any]) -> str:
    return member[0]


def texts_before(old: Any, new: Any, way: list[int | str], found: list[Any]) -> None:
    """Collect the texts that were changed, as they were, with the way to each.

    Args:
        old: a value.
        new: the same, as `texts_changed` gave it.
        way: to the value.
        found: takes them.
    """
    if old is new:
        return
    old = opened(old)
    if type(old) is dict:
        for name in sorted(old):
            if old[name] is not new[name]:
                texts_before(old[name], new[name], [*way, name], found)
    elif type(old) is list:
        for index, kept in enumerate(map(is_, old, new)):
            if not kept:
                texts_before(old[index], new[index], [*way, index], found)
    elif old != new:
        found.append([way, old])


def texts_changed(
    value: Any, change: Callable[[str], str], skipped: frozenset[str], settled: bool = False
) -> Any:
    """A value with every text in it changed, but for names; the very value if none was.

    Args:
        value: the value.
        change: gives a text in place of a text.
        skipped: names of members whose texts are left as they are.
        settled: whether members are looked at in the order of their names: their own is no part of
            a request.
    """
    kind = type(value)
    if kind is str:
        return change(value)
    if kind is list:
        found = value
        for index, old in enumerate(value):
            inner = type(old)
            if inner is str or inner is dict or inner is list or inner is msgspec.Raw:
                new = texts_changed(old, change, skipped, settled)
                if new is not old:
                    if found is value:
                        found = value[:]
                    found[index] = new
        return found
    if kind is dict:
        if len(value) == 1 and (tag := _tag(value)):
            return _tagged_texts(value, tag, change, skipped, settled)
        members = value
        for name in sorted(value) if settled else value:
            old = value[name]
            inner = type(old)
            if (
                inner is str or inner is dict or inner is list or inner is msgspec.Raw
            ) and name not in skipped:
                new = texts_changed(old, change, skipped, settled)
                if new is not old:
                    if members is value:
                        members = value.copy()
                    members[name] = new
        return members
    if kind is msgspec.Raw:
        plain = msgspec.msgpack.decode(value)
        new = texts_changed(plain, change, skipped, settled)
        return value if new is plain else new
    return value


def _tagged_texts(
    value: dict[str, Any],
    tag: str,
    change: Callable[[str], str],
    skipped: frozenset[str],
    settled: bool,
) -> Any:
    held = value[tag]
    if tag in _PAIRED and type(held) is list:
        pairs = [
            pair
            if type(pair[0]) is str and pair[0] in skipped
            else [pair[0], texts_changed(pair[1], change, skipped, settled)]
            for pair in held
        ]
        same = all(new[1] is old[1] for new, old in zip(pairs, held, strict=True))
        return value if same else {tag: pairs}
    if tag in _BARE:
        new = texts_changed(held, change, skipped, settled)
        return value if new is held else {tag: new}
    place = _BEHIND.get(tag)
    if place is None or type(held) is not list or len(held) <= place:
        return value
    new = texts_changed(held[place], change, skipped, settled)
    return value if new is held[place] else {tag: [*held[:place], new, *held[place + 1 :]]}
