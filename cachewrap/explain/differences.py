"""Differences of two requests, field by field, in words."""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final

from cachewrap.errors import printable
from cachewrap.explain.texts import SHOWN, kind_of, size, telling
from cachewrap.request.key import SCRUBBED
from cachewrap.secrets import HIDDEN, is_named, is_secret_constant, search

_ALIGNED: Final = 1_000_000
"""Lists whose lengths multiply to more than this are compared element by element, in place."""

_LONG_NAME: Final = 20
"""Characters from which on a name may be a credential."""

_ALIKE: Final = 20_000
"""Lists with more pairs of equal elements than this are compared in the same way."""

_MOVED: Final = 0.7
"""The weight of an element that is somewhere else."""

_NAMES: Final = ("name", "role", "type")
"""Fields by which people know an object, the most telling first."""

_HEADS: Final = ("arguments", "body")
"""Parts of a request whose fields people know without the part's name."""

_NAMED_TAGS: Final = frozenset(
    "!pydantic !dataclass !attrs !struct !object !namedtuple !subclass !type".split()
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which two requests differ.

    Args:
        line: what a person reads: ``temperature: 0.2 → 0.7``.
        weight: how much of a difference it is; a changed number is 1.
    """

    line: str
    weight: float


def differences(old: Any, new: Any) -> list[Difference]:
    """How a request differs from an older one, field by field.

    >>> old = {"body": {"messages": [{"content": "The rain in Spain"}], "temperature": 0.2}}
    >>> new = {"body": {"messages": [{"content": "The snow in Spain"}], "temperature": 0.7}}
    >>> for found in differences(old, new):
    ...     print(found.line)
    messages[0].content: 4 characters differ at 4: 'rain' → 'snow'
    temperature: 0.2 → 0.7

    Values that look like a credential, by their own form or by the name of their field, are never
    shown.
    """
    found: list[Difference] = []
    if isinstance(old, dict) and isinstance(new, dict):
        found += _code(old.get("code"), new.get("code"))
        found += _constants(old.get("constants", {}), new.get("constants", {}))
        old, new = _without_code(old), _without_code(new)
    found += _compare("", old, new)
    # A request tells whether it is a stream beside its body as well.
    return list({difference.line: difference for difference in found}.values())


def _without_code(request: dict[str, Any]) -> dict[str, Any]:
    apart = ("code", "constants", SCRUBBED)
    return {name: value for name, value in request.items() if name not in apart}


def _code(old: Any, new: Any) -> Iterator[Difference]:
    """How the code of a function differs; the place of neither may be taken by a version."""
    if old is None or new is None or old == new:
        return
    changed = "the function's code changed"
    one, other = (value.get("begins") if isinstance(value, dict) else value for value in (old, new))
    if isinstance(one, str) and isinstance(other, str) and one != other:
        yield _texts(changed, one, other)
    else:
        yield Difference(changed, 1.0)


def _constants(old: Any, new: Any) -> Iterator[Difference]:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return
    for found in _objects("constants", old, new):
        head, colon, tail = found.line.removeprefix("constants.").partition(": ")
        name, space, rest = head.partition(" ")
        changed = f" changed: {tail}" if colon and not space else f"{space}{rest}{colon}{tail}"
        yield Difference(f"`{name}`{changed}", found.weight)


def covered(request: Any, path: str = "") -> Any:
    """The request with ``(hidden)`` in place of every value that looks like a credential."""
    if isinstance(request, dict):
        return {name: covered(value, _below(path, name)) for name, value in request.items()}
    if isinstance(request, list):
        return [covered(value, f"{path}[{at}]") for at, value in enumerate(request)]
    return HIDDEN if _is_hidden(path, request) else request


def _is_hidden(path: str, value: object) -> bool:
    """Whether a value is not shown, by the names on the way to it or by its form."""
    if value is None or value == "" or isinstance(value, bool):
        return False
    if any(is_named(name.partition("[")[0]) for name in path.split(".")):
        return True
    return isinstance(value, str) and (is_secret_constant("", value) or bool(search(value)))


def _compare(path: str, old: Any, new: Any) -> Iterator[Difference]:
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _objects(path, old, new)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _lists(path, old, new)
    elif type(old) is type(new) and old == new:
        return
    elif isinstance(old, str) and isinstance(new, str):
        yield from _objects_in_texts(path, old, new) or [_texts(path, old, new)]
    else:
        yield Difference(f"{path or 'the request'}: {_shown(path, old)} → {_shown(path, new)}", 1.0)


def _objects(path: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Difference]:
    one, other = _in_order(old), _in_order(new)
    if one is not None or other is not None:
        yield from _members(path, old if one is None else one, new if other is None else other)
        return
    if len(old) == len(new) == 1 and (tag := next(iter(old))) == next(iter(new)):
        one, other = old[tag], new[tag]
        lists = isinstance(one, list) and isinstance(other, list)
        if tag in _NAMED_TAGS and lists and one[:1] == other[:1]:
            for inner, outer in zip(one[1:], other[1:], strict=False):
                yield from _compare(path, inner, outer)
            return
        if str(tag).startswith("!"):
            yield from _compare(path, one, other)
            return
    for name in [*old, *(name for name in new if name not in old)]:
        inner = _below(path, name)
        if name not in new:
            yield Difference(f"{inner} removed{_note(inner, old[name])}", _size(old[name]))
        elif name not in old:
            yield Difference(f"{inner} added{_note(inner, new[name])}", _size(new[name]))
        else:
            yield from _compare(inner, old[name], new[name])


def _in_order(value: dict[str, Any]) -> dict[str, Any] | None:
    """The members of an object whose order counts; None for any other."""
    pairs = value.get("!members") if len(value) == 1 else None
    return {str(name): inner for name, inner in pairs} if isinstance(pairs, list) else None


def _members(path: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Difference]:
    yield from _objects(path, old, new)
    one, other = [name for name in old if name in new], [name for name in new if name in old]
    if one != other:
        count = sum(a != b for a, b in zip(one, other, strict=True))
        named = f"{_listed(one)} → {_listed(other)}"
        yield Difference(f"{path} in another order: {named}", 0.5 + count / 10)


def _listed(names: list[str]) -> str:
    text = ", ".join(map(_field, names))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _lists(path: str, old: list[Any], new: list[Any]) -> Iterator[Difference]:
    # What elements are is all that matters here, so their text stands for them.
    one, other = [repr(value) for value in old], [repr(value) for value in new]
    if one == other:
        return
    counts, others = Counter(one), Counter(other)
    alike = sum(count * others[value] for value, count in counts.items())
    if len(one) * len(other) > _ALIGNED or alike > _ALIKE:
        count = sum(a != b for a, b in zip(one, other, strict=False)) + abs(len(one) - len(other))
        at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
        yield Difference(f"{path}: {count} elements differ from [{at}] on", _size(one))
        return
    steps = [
        bounds
        for step, *bounds in SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
        if step != "equal"
    ]
    moved = _moved(
        one,
        other,
        [at for a, b, _, _ in steps for at in range(a, b)],
        [at for _, _, c, d in steps for at in range(c, d)],
    )
    here = set(moved.values())
    for a, b, c, d in steps:
        went = [at for at in range(a, b) if at not in moved]
        came = [at for at in range(c, d) if at not in here]
        for at in range(a, b):
            if moved.get(at, at) != at:
                yield Difference(
                    f"{path}[{at}] moved to [{moved[at]}]{_note(path, old[at])}", _MOVED
                )
        yield from _elements(path, old, new, went, came)


def _moved(one: list[str], other: list[str], went: list[int], came: list[int]) -> dict[int, int]:
    """The elements that went from one place and came to another, by where they were."""
    places: dict[str, deque[int]] = defaultdict(deque)
    for at in came:
        places[other[at]].append(at)
    return {at: places[one[at]].popleft() for at in went if places[one[at]]}


def _elements(
    path: str, old: list[Any], new: list[Any], went: list[int], came: list[int]
) -> Iterator[Difference]:
    """How some elements of a list became others: those of one role, name or type are compared."""
    one, other = [_who(old[at]) for at in went], [_who(new[at]) for at in came]
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    for step, a, b, c, d in matcher.get_opcodes():
        pairs = min(b - a, d - c) if step in ("equal", "replace") else 0
        for at, to in zip(went[a : a + pairs], came[c : c + pairs], strict=True):
            yield from _compare(f"{path}[{to}]", old[at], new[to])
        for at in went[a + pairs : b]:
            inner = f"{path}[{at}]"
            yield Difference(f"{inner} removed{_note(inner, old[at])}", _size(old[at]))
        for at in came[c + pairs : d]:
            inner = f"{path}[{at}]"
            yield Difference(f"{inner} added{_note(inner, new[at])}", _size(new[at]))


def _who(value: Any) -> str:
    """What an element of a list is known by, beside its place."""
    if not isinstance(value, dict):
        return type(value).__name__
    inner = _described(value)
    return str([inner.get(name) for name in _NAMES])


def _described(value: dict[str, Any]) -> dict[str, Any]:
    """What describes an element: of a tool its function."""
    function = value.get("function")
    return function if isinstance(function, dict) else value


def _objects_in_texts(path: str, old: str, new: str) -> list[Difference]:
    """How two texts differ that are JSON objects, such as what a tool was called with."""
    if not (old.startswith("{") and new.startswith("{") and len(old) + len(new) <= _ALIGNED):
        return []
    try:
        one, other = json.loads(old), json.loads(new)
    except (ValueError, RecursionError):
        return []
    return list(_compare(path, one, other))


def _texts(path: str, old: str, new: str) -> Difference:
    # Two edits far apart leave most words as they are.
    words, others = set(old.split()), set(new.split())
    apart = 1 - len(words & others) / (len(words | others) or 1)
    weight = 0.5 + 3.5 * min(size(old, new) / max(len(old), len(new)), apart)
    hidden = _is_hidden(path, old) or _is_hidden(path, new)
    if max(len(old), len(new)) <= SHOWN and (" " not in old + new or kind_of(old, new)):
        kind = "" if hidden else kind_of(old, new)
        what = f": {kind} differs" if kind else ""
        return Difference(f"{path}{what}: {_shown(path, old)} → {_shown(path, new)}", weight)
    what, shown = telling(old, new)
    return Difference(f"{path}: {what}" if hidden else f"{path}: {what}: {shown}", weight)


def _below(path: str, name: str) -> str:
    name = _field(name)
    return f"{path}.{name}" if path and path not in _HEADS else name


def _field(name: str) -> str:
    """A name for people; of one that may be data, as none of an API's is as long."""
    if len(name) >= _LONG_NAME and _is_hidden("", name):
        return HIDDEN
    return name if name.isprintable() else printable(name)


def _shown(path: str, value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if _is_hidden(path, value):
        return HIDDEN
    text = repr(value)
    return text if len(text) <= SHOWN + 2 else f"{text[:SHOWN]}…"


def _note(path: str, value: Any) -> str:
    """What was added or removed, where that is short; of an object its name, or role and text."""
    if isinstance(value, dict):
        inner = _described(value)
        name = next((name for name in _NAMES if isinstance(inner.get(name), str)), "")
        parts = [f"{name} {_shown(name, inner[name])}"] if name else []
        if isinstance(text := value.get("content", value.get("text")), str) and text:
            parts.append(_shown(_below(path, "content"), text))
        return f" ({', '.join(parts)})" if parts else ""
    if isinstance(value, list):
        return ""
    shown = _shown(path, value)
    return f" {shown}" if shown == HIDDEN else f" ({shown})"


def _size(value: Any) -> float:
    return 1.0 + min(3.0, len(str(value)) / 200)
