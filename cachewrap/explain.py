"""Explanations of a miss: the nearest requests that are stored, and how they differ from it."""

from __future__ import annotations

import heapq
import inspect
from collections.abc import Callable, Iterator
from contextlib import closing
from contextvars import copy_context
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec

from cachewrap.errors import (
    REMEDIES,
    CachewrapError,
    CorruptEntryError,
    MissingTypeError,
    ReplayMissError,
    printable,
)
from cachewrap.format.envelope import read_record
from cachewrap.format.sealing import Guard
from cachewrap.request.key import decode_request, readable, stored
from cachewrap.secrets import HIDDEN, is_named, is_secret_constant, search
from cachewrap.stores.base import Store, scan


def attempt(call: Callable[[], Any]) -> None:
    """Make a call: a coroutine runs to its end, a generator to its first item.

    What is async runs in a thread, on an event loop of its own: the caller's may be running.
    """
    result = call()
    if inspect.isgenerator(result):
        with closing(result):
            next(result, None)
    elif inspect.isasyncgen(result) or inspect.isawaitable(result):
        import asyncio  # which takes a while, as what it imports does
        from concurrent.futures import ThreadPoolExecutor

        context = copy_context()
        with ThreadPoolExecutor(1) as thread:
            thread.submit(context.run, asyncio.run, _first(result)).result()


async def _first(result: Any) -> None:
    if not inspect.isasyncgen(result):
        await result
        return
    try:
        await anext(result, None)
    finally:
        await result.aclose()


_COMPARED: Final = 32
"""Stored requests that are compared field by field, after a quick look at all of them."""

_LINES: Final = 12
"""Differences that a message names."""

_HEAD, _TAIL = 2048, 1024  # bytes of a request that the quick look takes words from


@dataclass(frozen=True, slots=True)
class Near:
    """A stored request that is nearly the one that was asked for.

    Attributes:
        key: the key of its entry.
        request: the canonical request as it is stored, but for what looks like a credential.
        diff: how the request that was asked for differs from it, one line for each field.
    """

    key: str
    request: dict[str, Any]
    diff: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The reason why a request is a hit or a miss. As text it is a message for people.

    Attributes:
        source: the function or endpoint; "" where it is not known.
        key: the key of the request; "" where it is not known.
        stored: whether an answer to the request is there.
        nearest: the nearest stored requests of the same function or endpoint, nearest first.
        place: where was looked, as a URL without credentials.
    """

    source: str
    key: str
    stored: bool
    nearest: tuple[Near, ...]
    place: str

    def __str__(self) -> str:
        name = self.source or "the request"
        key = f" (key {self.key[:12]}…)" if self.key else ""
        if self.stored:
            return f"{name}{key} is stored in {self.place}"
        lines = [f"{name}{key} is not stored in {self.place}"]
        if not self.nearest:
            lines.append("nothing comparable is stored there")
        for near in self.nearest[:1]:
            entry = f"key {near.key[:12]}…"
            if near.diff:
                lines.append(f"the nearest stored request ({entry}) is different:")
                lines += [f"  {line}" for line in near.diff[:_LINES]]
                if len(near.diff) > _LINES:
                    lines.append(f"  … and {len(near.diff) - _LINES} more")
            else:
                lines.append(f"the very request is stored as another sample or seed ({entry})")
                if HIDDEN in str(near.request):
                    lines.append("  (or it differs in a credential, which is never stored)")
                if names := _hidden_names(near.request):
                    lines.append(
                        f"  (or in what is stored as {HIDDEN}: {', '.join(names)}; what only tracks"
                        " a request is left out by unkeyed=)"
                    )
        return "\n".join(lines)

    def error(self, why: CachewrapError | None = None) -> ReplayMissError:
        """The error that mode ``"replay"`` raises.

        Args:
            why: the fault because of which what is stored cannot be served, if that is so.
        """
        nearest = self.nearest[0] if self.nearest else None
        remedy = "normal"
        message = f"{self}\n(mode replay asks no model; {REMEDIES[remedy]})"
        if why is not None:
            # What is only not imported is whole.
            remedy = "" if isinstance(why, MissingTypeError) else "refresh"
            message = f"{self.source}: mode replay cannot serve what may be stored: {why}"
            message += f"\n({REMEDIES[remedy]})" if remedy else ""
        error = ReplayMissError(
            message,
            key=self.key,
            source=self.source,
            nearest=nearest.request if nearest else None,
            diff=nearest.diff if nearest else (),
        )
        error.explanation, error.remedy = self, remedy
        return error


def _hidden_names(request: dict[str, Any]) -> list[str]:
    """The headers and query parameters whose values are stored as hidden."""
    parts = [request.get(part) for part in ("headers", "query")]
    return [
        printable(name)
        for part in parts
        if isinstance(part, dict)
        for name, value in part.items()
        if HIDDEN in str(value)
    ]


def nearest(
    store: Store,
    guard: Guard,
    asked: bytes,
    *,
    source: str = "",
    part: str = "",
    count: int = 1,
    most: int | None = None,
) -> tuple[Near, ...]:
    """The stored requests that are nearest to one, nearest first.

    Every entry is read once, a batch at a time. Entries that cannot be read, and those without a
    request, are passed over.

    Args:
        store: where to look.
        guard: stands between envelopes and the store.
        asked: the canonical request, encoded.
        source: look at entries of this function or endpoint alone; "" looks at all.
        part: ``asked`` is only this part of a request; "" is all of it.
        count: how many to find.
        most: look at no more entries than this; None looks at all.

    Raises `StoreError`.
    """
    asked = stored(asked) or asked
    words = _words(asked)
    best: list[tuple[float, int, str, bytes]] = []
    for number, (key, encoded) in enumerate(_requests(store, guard, source, most)):
        likeness = _likeness(asked, words, encoded)
        if len(best) < _COMPARED:
            heapq.heappush(best, (likeness, -number, key, encoded))
        elif likeness > best[0][0]:
            heapq.heapreplace(best, (likeness, -number, key, encoded))
    new = decode_request(asked)
    found = []
    for _, number, key, encoded in best:
        try:
            old = decode_request(encoded)
            if not isinstance(old, dict) or part not in ("", *old):
                continue
            diff = differences({part: old[part]}, {part: new}) if part else differences(old, new)
            shown = readable(covered(old))
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
            continue
        weight = sum(difference.weight for difference in diff)
        lines = tuple(printable(difference.line, 300) for difference in diff)
        found.append((weight, -number, Near(key, shown, lines)))
    return tuple(near for _, _, near in sorted(found, key=lambda row: row[:2])[:count])


def _requests(
    store: Store, guard: Guard, source: str, most: int | None
) -> Iterator[tuple[str, bytes]]:
    for key, raw in islice(scan(store), most):
        try:
            record = read_record(guard.open(key, raw))
        except CorruptEntryError:
            continue
        if record["request"] and (not source or record["source"] == source):
            yield key, record["request"]


def _words(request: bytes) -> set[bytes]:
    if len(request) > _HEAD + _TAIL:
        request = request[:_HEAD] + request[-_TAIL:]
    return set(request.split())


def _likeness(one: bytes, words: set[bytes], other: bytes) -> float:
    """From 0 for nothing in common to 2 for equal requests; quick rather than exact."""
    others = _words(other)
    shared = len(words & others)
    head = common_prefix(one, other)
    tail = common_prefix(one[head:][::-1], other[head:][::-1])
    return shared / (len(words) + len(others) - shared) + (head + tail) / max(len(one), len(other))


# -- differences of two requests ---------------------------------------------------------------


T = TypeVar("T", str, bytes)

_SHOWN: Final = 40
"""Characters of a value that a line shows."""

_ALIGNED: Final = 1_000_000
"""Lists whose lengths multiply to more than this are compared element by element, in place."""

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
    return [*found, *_compare("", old, new)]


def _without_code(request: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name not in ("code", "constants")}


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
        yield _texts(path, old, new)
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
    text = ", ".join(names)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


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
    if not (_is_hidden(path, old) or _is_hidden(path, new)):
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


def _shown(path: str, value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if _is_hidden(path, value):
        return HIDDEN
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
    return f" {shown}" if shown == HIDDEN else f" ({shown})"


def _size(value: Any) -> float:
    return 1.0 + min(3.0, len(str(value)) / 200)
