"""Paths to the places of a request: names, ``*``, indices and conditions.

====================================== ===========================================================
``metadata.request_id``                a member of a member
``messages[0]``, ``messages[-1]``      an item, from the front or the back
``messages[*].content``, ``metadata.*`` every item, every member
``messages[role=system].content``      items with this member; ``|`` between several values, ``!=``
                                       for those without; of a single object: if it has it
``metadata["a.b"]``                    a name with dots or brackets
``headers.x-build``                    a header of a request over HTTP
``$.query.version``, ``$.url``         begins at the request itself, as ``cachewrap show`` prints it
====================================== ===========================================================

Else a path begins in the JSON body, or in the arguments of a function. What objects, tuples and
ordered members are in a request, such as ``{"!members": […]}``, is passed through: a path names
their fields and items.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from cachewrap.errors import ConfigurationError

Change: TypeAlias = Callable[[Any], Any]
"""Gives what takes the place of a value: the value itself to leave it, `GONE` to take it out."""

GONE: Final = object()
"""In place of a value that is taken out."""

_TOKEN: Final = re.compile(
    r"""
      \.?(?P<name>[^.\[\]"'=*$\s|]+)
    | \.?(?P<every>\*)
    | \[(?P<all>\*)\]
    | \[(?P<index>-?\d{1,9})\]
    | \[(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\]
    | \[(?P<member>[^\[\]"'=!*$\s|]+)(?P<not>!?)=(?P<value>"(?:[^"\\]|\\.)*"|[^\[\]"']*)\]
    """,
    re.VERBOSE,
)

_PARTS: Final = ("body", "arguments", "key")
"""The parts of a request that differ from call to call; the first that is there has the fields."""


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

    def fits(self, item: Any) -> bool:
        """Whether an item has it."""
        for name in self.names:
            item = member(item, name)
        return (_text(item) in self.values) is not self.absent


Step: TypeAlias = Named | Every | At | Having

_EVERY: Final = Every()


def _text(value: Any) -> str | None:
    """A scalar as a condition has it."""
    if type(value) is str:
        return value
    if value is None or type(value) in (bool, int, float):
        return json.dumps(value)
    return None


class Path:
    """A path, read.

    Args:
        text: the path as it is written.

    Raises `ConfigurationError` for one that cannot be read.
    """

    __slots__ = ("_in_headers", "_root", "_steps", "text")

    text: str

    def __init__(self, text: Any) -> None:
        if not isinstance(text, str) or not text:
            raise ConfigurationError(f'a path is text such as "metadata.request_id", got {text!r}')
        self.text = text
        rooted = text == "$" or text.startswith(("$.", "$["))
        steps = _read(text, 1 if rooted else 0)
        self._root = "$" if rooted else ""
        self._steps = self._in_headers = tuple(steps)
        if len(steps) > 1 and steps[0] == Named("headers"):
            self._root = self._root or "headers"
            if isinstance(steps[1], Named):
                self._in_headers = (steps[0], Named(steps[1].name.lower()), *steps[2:])

    def rewrite(self, request: dict[str, Any], change: Change) -> dict[str, Any]:
        """A request with what stands at the path changed; the very request if nothing was.

        Args:
            request: the request. It is left as it is.
            change: is given each value there, in order.
        """
        if not self._root or (self._root == "headers" and "method" not in request):
            part = part_of(request)
            held: Any = request if part is None else request[part]
            new: Any = _rewritten(held, self._steps, 0, change)
            if part is None:
                return new if type(new) is dict else {}
            return request if new is held else _put(request, part, new)
        found: Any = _rewritten(request, self._in_headers, 0, change)
        if found is request or type(found) is not dict:
            return request
        for name in ("headers", "query"):  # a request that has none does not say so
            if found.get(name) == {}:
                found = _put(found, name, GONE)
        changed: dict[str, Any] = found
        return changed

    @property
    def first(self) -> str:
        """The name that it begins with; ``$.name`` of one that begins at the request itself."""
        step = self._steps[0] if self._steps else None
        name = step.name if isinstance(step, Named) else "*" if step else ""
        return f"$.{name}".rstrip(".") if self._root == "$" else name

    @property
    def is_short(self) -> bool:
        """Whether it names no more than a field of the outermost object."""
        return len(self._steps) < 2

    def __repr__(self) -> str:
        return self.text


def part_of(request: dict[str, Any]) -> str | None:
    """The name of the part of a request that has its fields; None for one that has none."""
    for name in _PARTS:
        if name in request:
            return name
    return None


def _read(text: str, at: int) -> list[Step]:
    steps: list[Step] = []
    while at < len(text):
        token = _TOKEN.match(text, at)
        if (
            token is None
            or (not steps and text[at] == "." and at == 0)
            or (steps and text[at] not in ".[")
        ):
            raise ConfigurationError(
                f"the path {text!r} cannot be read at {text[at:]!r}: write names with dots, [*], "
                '[0], [role=system], or ["a name"]'
            )
        steps.append(_step(token))
        at = token.end()
    return steps


def _step(token: re.Match[str]) -> Step:
    if (name := token["name"]) is not None:
        return Named(name)
    if token["every"] or token["all"]:
        return _EVERY
    if token["index"]:
        return At(int(token["index"]))
    if token["quoted"]:
        return Named(_unquoted(token["quoted"]))
    value = token["value"]
    values = [_unquoted(value)] if value[:1] == '"' else value.split("|")
    names = tuple(token["member"].split("."))
    return Having(names, frozenset(one.strip() for one in values), bool(token["not"]))


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


# -- values ------------------------------------------------------------------------------------

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
    """A value that was encoded already, decoded; any other as it is."""
    return msgspec.msgpack.decode(value) if type(value) is msgspec.Raw else value


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
    return _rewritten(value, (Named(name),), 0, lambda old: new)


def _put(value: dict[str, Any], name: str, new: Any) -> dict[str, Any]:
    copied = value.copy()
    if new is GONE:
        del copied[name]
    else:
        copied[name] = new
    return copied


def _rewritten(value: Any, steps: tuple[Step, ...], at: int, change: Change) -> Any:
    if at == len(steps):
        return change(value)
    kind = type(value)
    if kind is msgspec.Raw:
        plain = msgspec.msgpack.decode(value)
        found = _rewritten(plain, steps, at, change)
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
            new = _rewritten(old, steps, at + 1, change)
            return value if new is old else _put(value, name, new)
        if type(step) is Having:
            return _rewritten(value, steps, at + 1, change) if step.fits(value) else value
        if step is _EVERY:
            found = value
            for name, old in value.items():
                new = _rewritten(old, steps, at + 1, change)
                if new is not old:
                    found = _put(found, name, new)
            return found
        return value
    if kind is list:
        return _in_list(value, step, steps, at, change)
    return value


def _in_list(
    value: list[Any], step: Step, steps: tuple[Step, ...], at: int, change: Change
) -> list[Any]:
    if type(step) is At:
        index = step.index + len(value) if step.index < 0 else step.index
        chosen: Iterable[int] = [index] if 0 <= index < len(value) else []
    elif step is _EVERY:
        chosen = _going_on(value, steps, at + 1)
    elif type(step) is Having:
        if len(step.names) == 1 and not step.absent:  # as most are
            (name,), values, fits = step.names, step.values, step.fits
            chosen = [
                i
                for i, item in enumerate(value)
                if (
                    held in values
                    if type(item) is dict and type(held := item.get(name)) is str
                    else fits(item)
                )
            ]
        else:
            chosen = [i for i, item in enumerate(value) if step.fits(item)]
    else:
        return value
    found, taken = value, False
    for index in chosen:
        old = value[index]
        new = _rewritten(old, steps, at + 1, change)
        if new is not old:
            if found is value:
                found = value[:]
            found[index] = new
            taken = taken or new is GONE
    return [item for item in found if item is not GONE] if taken else found


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
        new = _rewritten(held, steps, at, change)
        return value if new is held else GONE if new is GONE else {tag: new}
    place = _BEHIND.get(tag)
    if place is None or type(held) is not list or len(held) <= place:
        return value
    new = _rewritten(held[place], steps, at, change)
    if new is held[place] or new is GONE:
        return value if new is not GONE else GONE
    return {tag: [*held[:place], new, *held[place + 1 :]]}


def _in_pairs(
    value: dict[str, Any], tag: str, steps: tuple[Step, ...], at: int, change: Change
) -> Any:
    step, pairs = steps[at], value[tag]
    if type(step) is Having:
        return _rewritten(value, steps, at + 1, change) if step.fits(value) else value
    found: list[Any] = []
    for pair in pairs:
        name, old = pair
        if step is _EVERY or (type(step) is Named and step.name == name):
            new = _rewritten(old, steps, at + 1, change)
            if new is GONE:
                continue
            pair = pair if new is old else [name, new]
        found.append(pair)
    same = len(found) == len(pairs) and all(map(_is, found, pairs))
    return value if same else {tag: found}


def _is(one: Any, other: Any) -> bool:
    return one is other


def texts_changed(value: Any, change: Callable[[str], str], skipped: frozenset[str]) -> Any:
    """A value with every text in it changed, but for names; the very value if none was.

    Args:
        value: the value.
        change: gives a text in place of a text.
        skipped: names of members whose texts are left as they are.
    """
    kind = type(value)
    if kind is str:
        return change(value)
    if kind is list:
        found = value
        for index, old in enumerate(value):
            inner = type(old)
            if inner is str or inner is dict or inner is list or inner is msgspec.Raw:
                new = texts_changed(old, change, skipped)
                if new is not old:
                    if found is value:
                        found = value[:]
                    found[index] = new
        return found
    if kind is dict:
        if len(value) == 1 and (tag := _tag(value)):
            return _tagged_texts(value, tag, change, skipped)
        members = value
        for name, old in value.items():
            inner = type(old)
            if (
                inner is str or inner is dict or inner is list or inner is msgspec.Raw
            ) and name not in skipped:
                new = texts_changed(old, change, skipped)
                if new is not old:
                    members = _put(members, name, new)
        return members
    if kind is msgspec.Raw:
        plain = msgspec.msgpack.decode(value)
        new = texts_changed(plain, change, skipped)
        return value if new is plain else new
    return value


def _tagged_texts(
    value: dict[str, Any], tag: str, change: Callable[[str], str], skipped: frozenset[str]
) -> Any:
    held = value[tag]
    if tag in _PAIRED and type(held) is list:
        pairs = [
            pair if pair[0] in skipped else [pair[0], texts_changed(pair[1], change, skipped)]
            for pair in held
        ]
        same = all(new[1] is old[1] for new, old in zip(pairs, held, strict=True))
        return value if same else {tag: pairs}
    if tag in _BARE:
        new = texts_changed(held, change, skipped)
        return value if new is held else {tag: new}
    place = _BEHIND.get(tag)
    if place is None or type(held) is not list or len(held) <= place:
        return value
    new = texts_changed(held[place], change, skipped)
    return value if new is held[place] else {tag: [*held[:place], new, *held[place + 1 :]]}
