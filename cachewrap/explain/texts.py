"""Differences of two texts: where they are, of what kind, and what stands around them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Final, NamedTuple, TypeVar

from cachewrap.patterns import later

T = TypeVar("T", str, bytes)

SHOWN: Final = 40
"""Characters of a value that a line shows."""

_BEFORE: Final = 18
_BEHIND: Final = 12
"""Characters around what differs that are shown, at most."""

_PLACES: Final = 2
"""Places of a text that a line shows; the others it counts."""

_NEAR: Final = 8
"""Characters between two places, at most, that are shown as one."""

_BEGUN: Final = 60
"""Characters of a text that another one is unlike which are shown."""

_LIKE: Final = 0.3
"""The share of words, of those of either, which two texts have in common that are alike."""

_MARGIN: Final = 40
"""Characters on both sides of what differs that may belong to a date, an address and their like."""

_WORDS: Final = 1_000
_LINES: Final = 5_000
"""Words, and lines, of a text that are aligned with those of the other one, at most."""


class _Kind(NamedTuple):
    """A name for something that often differs from run to run, and what it looks like."""

    one: str
    many: str
    pattern: str


_MONTH: Final = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?"
    r"|Sep(?:t(?:ember)?)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
_KINDS: Final = {
    "uuid": _Kind(
        "a uuid",
        "uuids",
        r"(?<![0-9a-fA-F])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![0-9a-fA-F])",
    ),
    "address": _Kind("an address", "addresses", r"\b0x[0-9a-fA-F]{4,16}\b"),
    "moment": _Kind(
        "a date and time",
        "dates and times",
        r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?"
        r"(?: ?(?:Z\b|UTC\b|[+-]\d\d:?\d\d\b))?",
    ),
    "date": _Kind(
        "a date",
        "dates",
        r"\b\d{4}-\d\d-\d\d\b|\b\d{4}/\d\d?/\d\d?\b|\b\d\d?[./]\d\d?[./]\d{4}\b"
        rf"|\b\d\d?(?:st|nd|rd|th)? {_MONTH}(?: \d{{4}}\b)?"
        rf"|\b{_MONTH} \d\d?(?:st|nd|rd|th)?\b(?:,? \d{{4}}\b)?",
    ),
    "time": _Kind(
        "a time of day",
        "times of day",
        r"\b\d\d?:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?[AaPp][Mm]\b)?(?![\w:])",
    ),
    "stamp": _Kind(
        "a time stamp", "time stamps", r"\b1[5-9]\d{8}(?:\d{3}|\d{6}|\d{9})?(?:\.\d+)?\b"
    ),
    "path": _Kind(
        "a temporary path",
        "temporary paths",
        r"(?:/private)?/(?:var/)?(?:tmp|folders)/[^\s\"'<>()\[\]{},;]+"
        r"|\b[A-Za-z]:\\[^\s\"'<>|:]*\\Temp\\[^\s\"'<>|,;]+",
    ),
    "id": _Kind(
        "an id",
        "ids",
        r"\b(?=[0-9A-Z]{0,25}\d)[0-9A-HJKMNP-TV-Z]{26}\b|\b(?=[a-f]*\d)[0-9a-f]{16,64}\b"
        r"|\b[A-Za-z]+[_-](?=[A-Za-z]*\d)[0-9A-Za-z]{8,64}\b",
    ),
    "number": _Kind("a number", "numbers", r"(?<![\w.])[+-]?\d+(?:[.,]\d+)*\b"),
}
_WORD: Final = r"[^\W⺀-\U0003ffff]+|\s+|."  # what is written without spaces, one by one
_PIECE: Final = later(
    "|".join(f"(?P<{name}>{kind.pattern})" for name, kind in _KINDS.items()) + f"|{_WORD}", re.S
)


class _Change(NamedTuple):
    """A place in which two texts differ: where it begins and ends in each, and its kind."""

    start: int
    end: int
    first: int
    last: int
    kind: str = ""


def telling(old: str, new: str) -> tuple[str, str]:
    """What differs between two texts, for people: what it is, and the places themselves.

    >>> telling("The rain in Spain", "The snow in Spain")
    ('4 characters differ at 4', "'The rain in Spain' → 'The snow in Spain'")
    """
    head = common_prefix(old, new)
    found = _joined(_changes(old, new, head))
    shown = [
        f"{_window(old, change.start, change.end)} → {_window(new, change.first, change.last)}"
        for change in found[:_PLACES]
    ]
    if more := len(found) - len(shown):
        shown.append(f"and {more} more")
    return _what(old, new, head, found), ", ".join(shown)


def places(old: str, new: str, most: int) -> list[str]:
    """The places in which two texts differ, one by one; of unlike texts how both begin.

    >>> places("The rain in Spain", "The snow in Spain", 2)
    ["'The rain in Spain' → 'The snow in Spain'"]
    """
    words, others = set(old.split()), set(new.split())
    if len(words & others) < _LIKE * len(words | others):
        return [f"{_begun(old)} → {_begun(new)}"]
    found = _joined(_changes(old, new, common_prefix(old, new)))
    shown = [
        f"{_window(old, change.start, change.end)} → {_window(new, change.first, change.last)}"
        for change in found[:most]
    ]
    return [*shown, f"and {len(found) - most} more"] if len(found) > most else shown


def _begun(text: str) -> str:
    text = " ".join(text[: 3 * _BEGUN].split())
    return repr(text if len(text) <= _BEGUN else f"{text[:_BEGUN]}…")


def kind_of(old: str, new: str) -> str:
    """What two whole texts both are, such as "a date"; "" where that has no name."""
    one, other = _PIECE.fullmatch(old), _PIECE.fullmatch(new)
    if one is None or other is None or one.lastgroup != other.lastgroup:
        return ""
    # A number is known for what it is.
    kind = one.lastgroup or "number"
    return "" if kind == "number" else _KINDS[kind].one


def size(old: str, new: str) -> int:
    """The characters from the first that differs to the last."""
    head = common_prefix(old, new)
    tail = common_prefix(old[head:][::-1], new[head:][::-1])
    return max(len(old), len(new)) - head - tail


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


def _what(old: str, new: str, head: int, found: list[_Change]) -> str:
    where = f" at {head}" if len(found) == 1 else f", the first at {head}"
    if all(change.kind for change in found):
        kinds = Counter(change.kind for change in found)
        named = [
            _KINDS[kind].one if count == 1 else f"{count} {_KINDS[kind].many}"
            for kind, count in kinds.items()
        ]
        listed = ", ".join(named[:-1]) + " and " * (len(named) > 1) + named[-1]
        return f"{listed} differ{'s' if len(found) == 1 else ''}{where}"
    if "".join(old.split()) == "".join(new.split()):
        return f"white space differs{where}"
    if old.casefold() == new.casefold():
        return f"upper and lower case differ{where}"
    if unicodedata.normalize("NFKC", old) == unicodedata.normalize("NFKC", new):
        return f"letters that look alike differ{where}"
    count = sum(
        size(old[change.start : change.end], new[change.first : change.last]) for change in found
    )
    differ = "character differs" if count == 1 else "characters differ"
    return (
        f"{count} {differ}{where}"
        if len(found) == 1
        else (f"{count} {differ} in {len(found)} places{where}")
    )


def _changes(old: str, new: str, head: int) -> list[_Change]:
    """The places in which two texts differ, in their order; ``head`` is what both begin with."""
    tail = common_prefix(old[head:][::-1], new[head:][::-1])
    start = old.rfind(" ", 0, max(0, head - _MARGIN)) + 1
    rest = max(0, tail - _MARGIN)
    if rest:  # up to a space that is the same in both
        rest = max(0, rest - 1 - old[len(old) - rest :].find(" "))
    one, other = old[start : len(old) - rest], new[start : len(new) - rest]
    found = _aligned(one, other) or _aligned_lines(one, other)
    moved = [
        _Change(a + start, b + start, c + start, d + start, kind) for a, b, c, d, kind in found
    ]
    return moved or [_Change(head, len(old) - tail, head, len(new) - tail)]


def _aligned(old: str, new: str) -> list[_Change]:
    """What differs word by word; nothing where there are too many words."""
    one, other = list(_PIECE.finditer(old)), list(_PIECE.finditer(new))
    if max(len(one), len(other)) > _WORDS:
        return []
    found = []
    for a, b, c, d in _unequal([piece[0] for piece in one], [piece[0] for piece in other]):
        if named := _named(one[a:b], other[c:d]):
            found += named
            continue
        start, end = _span(one, a, b, len(old))
        first, last = _span(other, c, d, len(new))
        if max(end - start, last - first) > SHOWN:  # a long word: what differs in it
            head = common_prefix(old[start:end], new[first:last])
            tail = common_prefix(old[start + head : end][::-1], new[first + head : last][::-1])
            start, end, first, last = start + head, end - tail, first + head, last - tail
        found.append(_Change(start, end, first, last))
    return found


def _named(one: list[re.Match[str]], other: list[re.Match[str]]) -> list[_Change]:
    """Things of one kind that differ pair by pair; nothing where anything else does."""
    found = []
    for piece, another in zip(one, other, strict=False):
        if piece.lastgroup and piece.lastgroup == another.lastgroup:
            if piece[0] != another[0]:
                found.append(_Change(*piece.span(), *another.span(), piece.lastgroup))
        elif piece[0] != another[0]:
            return []
    return found if len(one) == len(other) else []


def _span(pieces: list[re.Match[str]], start: int, end: int, length: int) -> tuple[int, int]:
    """Where some pieces of a text begin and end."""
    at = pieces[start].start() if start < len(pieces) else length
    return at, pieces[end - 1].end() if end > start else at


def _aligned_lines(old: str, new: str) -> list[_Change]:
    """What differs in a long text, line by line and in each of them word by word."""
    one, other = old.splitlines(keepends=True), new.splitlines(keepends=True)
    if len(one) + len(other) == 2 or max(len(one), len(other)) > _LINES:
        return []
    ends, others = _ends(one), _ends(other)
    found = []
    for a, b, c, d in _unequal(one, other):
        start, first = ends[a], others[c]
        inner, outer = old[start : ends[b]], new[first : others[d]]
        for change in _aligned(inner, outer) or [_Change(0, len(inner), 0, len(outer))]:
            found.append(
                _Change(
                    change.start + start,
                    change.end + start,
                    change.first + first,
                    change.last + first,
                    change.kind,
                )
            )
    return found


def _ends(lines: list[str]) -> list[int]:
    """Where each line begins, and where the last one ends."""
    found = [0]
    for line in lines:
        found.append(found[-1] + len(line))
    return found


def _unequal(one: list[str], other: list[str]) -> Iterator[tuple[int, int, int, int]]:
    for step, *bounds in SequenceMatcher(None, one, other).get_opcodes():
        if step != "equal":
            yield bounds[0], bounds[1], bounds[2], bounds[3]


def _joined(changes: list[_Change]) -> list[_Change]:
    """The places, those that are next to each other as one unless they have a name."""
    found = changes[:1]
    for before, change in pairwise(changes):
        near = change.start - before.end <= _NEAR and change.first - before.last <= _NEAR
        if near and not change.kind and not before.kind:
            last = found.pop()
            change = _Change(last.start, change.end, last.first, change.last)
        found.append(change)
    return found


def _window(text: str, start: int, end: int) -> str:
    """What differs, with a few words before and behind it."""
    before, behind = text[max(0, start - _BEFORE) : start], text[end : end + _BEHIND]
    if start > _BEFORE:
        before = "…" + (before.partition(" ")[2] if " " in before.rstrip() else before)
    if end - start > SHOWN:
        return repr(f"{before}{text[start : start + SHOWN - 1]}…")
    if end + _BEHIND < len(text):
        behind = (behind.rpartition(" ")[0] if " " in behind.lstrip() else behind) + "…"
    return repr(before + text[start:end] + behind)
