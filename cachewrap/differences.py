"""Differences between two canonical requests, for people: one short line for each field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final, TypeVar

T = TypeVar("T", str, bytes)

_SHOWN: Final = 40
"""Characters of a value that a line shows."""

_HIDDEN: Final = "(hidden)"

_ALIGNED: Final = 1_000_000
"""Lists whose lengths multiply to more than this are compared element by element, in place."""

_HEADS: Final = ("arguments", "body")
"""Parts of a request whose fields people know without the part's name."""

_NAMED_TAGS: Final = frozenset({"!pydantic", "!dataclass", "!object", "!namedtuple", "!subclass"})

# Hiding a value that is no secret costs a word in a message; showing one that is costs more.
_SECRET_NAME: Final = re.compile(
    r"[^a-z]key$|(^|[^a-z])(token|passwd|passphrase|pwd|auth|bearer|cookie|signature)$"
    r"|authorization|api[-_]?key|access[-_]?key|secret|password|credential",
    re.IGNORECASE,
)
_SECRET_VALUE: Final = re.compile(
    r"\b(bearer|basic)\s+[-\w.~+/]{16}|\b(sk|pk|rk|ghp|gho|github_pat|glpat|xox[a-z]|hf|gsk|AKIA|AIza)[-_A-Z0-9]"
    r"[-\w]{8}|\beyJ[\w-]{8}|-----BEGIN|://[^/\s:@]+:[^/\s@]+@",
    re.IGNORECASE,
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
    return list(_compare("", old, new))


def without_secrets(request: Any, path: str = "") -> Any:
    """The request with ``(hidden)`` in place of every value that looks like a credential."""
    if isinstance(request, dict):
        return {name: without_secrets(value, _below(path, name)) for name, value in request.items()}
    if isinstance(request, list):
        return [without_secrets(value, f"{path}[{at}]") for at, value in enumerate(request)]
    return _HIDDEN if _hidden(path, request) else request


def _compare(path: str, old: Any, new: Any) -> Iterator[Difference]:
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _objects(path, old, new)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _lists(path, old, new)
    elif type(old) is type(new) and old == new:
        return
    elif isinstance(old, str) and isinstance(new, str):
        yield _texts(path, old, new)
    else:
        yield Difference(f"{path or 'the request'}: {_shown(path, old)} → {_shown(path, new)}", 1.0)


def _objects(path: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Difference]:
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


def _lists(path: str, old: list[Any], new: list[Any]) -> Iterator[Difference]:
    # What elements are is all that matters here, so their text stands for them.
    one, other = [repr(value) for value in old], [repr(value) for value in new]
    if one == other:
        return
    if len(one) * len(other) > _ALIGNED:
        count = sum(a != b for a, b in zip(one, other, strict=False)) + abs(len(one) - len(other))
        at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
        yield Difference(f"{path}: {count} elements differ from [{at}] on", _size(one))
        return
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    for step, start, end, first, last in matcher.get_opcodes():
        if step == "equal":
            continue
        common = min(end - start, last - first)
        for at in range(common):
            yield from _compare(f"{path}[{first + at}]", old[start + at], new[first + at])
        for at in range(start + common, end):
            inner = f"{path}[{at}]"
            yield Difference(f"{inner} removed{_note(inner, old[at])}", _size(old[at]))
        for at in range(first + common, last):
            inner = f"{path}[{at}]"
            yield Difference(f"{inner} added{_note(inner, new[at])}", _size(new[at]))


def _texts(path: str, old: str, new: str) -> Difference:
    head = common_prefix(old, new)
    tail = common_prefix(old[head:][::-1], new[head:][::-1])
    one, other = old[head : len(old) - tail], new[head : len(new) - tail]
    count = max(len(one), len(other))
    # Two edits far apart leave most words as they are.
    words, others = set(old.split()), set(new.split())
    apart = 1 - len(words & others) / (len(words | others) or 1)
    weight = 0.5 + 3.5 * min(count / max(len(old), len(new)), apart)
    if max(len(old), len(new)) <= _SHOWN and " " not in old + new:
        return Difference(f"{path}: {_shown(path, old)} → {_shown(path, new)}", weight)
    line = f"{path}: {count} character{' differs' if count == 1 else 's differ'} at {head}"
    if not (_hidden(path, old) or _hidden(path, new)):
        line += f": {_excerpt(one)} → {_excerpt(other)}"
    return Difference(line, weight)


def common_prefix(one: T, other: T) -> int:
    """The length of what two texts, or two strings of bytes, begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path and path not in _HEADS else name


def _hidden(path: str, value: Any) -> bool:
    if value is None or value == "" or isinstance(value, bool):
        return False
    named = any(_SECRET_NAME.search(name.partition("[")[0]) for name in path.split("."))
    return named or (isinstance(value, str) and _SECRET_VALUE.search(value) is not None)


def _shown(path: str, value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if _hidden(path, value):
        return _HIDDEN
    text = repr(value)
    return text if len(text) <= _SHOWN + 2 else f"{text[:_SHOWN]}…"


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")


def _note(path: str, value: Any) -> str:
    """What was added or removed, where that is short; of an object its name or role."""
    if isinstance(value, dict):
        function = value.get("function")
        inner = function if isinstance(function, dict) else value
        for name in ("name", "role", "type"):
            if isinstance(inner.get(name), str):
                return f" ({name} {_shown(name, inner[name])})"
        return ""
    if isinstance(value, list):
        return ""
    shown = _shown(path, value)
    return f" {shown}" if shown == _HIDDEN else f" ({shown})"


def _size(value: Any) -> float:
    return 1.0 + min(3.0, len(str(value)) / 200)
