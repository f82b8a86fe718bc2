"""Characters that the parts of a regular expression match, as sets that can be compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

# A set of characters is a number with a bit for each of ASCII, and one for each kind of all others:
# letters, digits, spaces, anything else. Where a set may have some of a kind, it "may" have it;
# where it has all of it, it "must".
_LETTER, _DIGIT, _SPACE, _OTHER = (1 << at for at in range(128, 132))
_BEYOND: Final = _LETTER | _DIGIT | _SPACE | _OTHER
ALL: Final = (1 << 132) - 1
_NEWLINE: Final = 1 << 10


def _ascii(kept: Callable[[str], bool]) -> int:
    return sum(1 << code for code in range(128) if kept(chr(code)))


_CATEGORIES: Final = {
    "DIGIT": (_ascii(str.isdigit), _DIGIT),
    "SPACE": (_ascii(str.isspace), _SPACE),
    "WORD": (_ascii(lambda one: one.isalnum() or one == "_"), _LETTER | _DIGIT),
}
_LETTERS: Final = _ascii(str.isalpha)


class Chars(NamedTuple):
    """A set of characters: those that it may have, and those that it has for sure."""

    may: int
    must: int


def _one(code: int, flags: int) -> Chars:
    if code < 128:
        bit = 1 << code
        if not flags & re.IGNORECASE or not bit & _LETTERS:
            return Chars(bit, bit)
        both = bit | 1 << ord(chr(code).swapcase())
        return Chars(both | (_LETTER | _OTHER), both)
    return Chars(_BEYOND | (_LETTERS if flags & re.IGNORECASE else 0), 0)


def _some(low: int, high: int, flags: int) -> Chars:
    may = must = sum(1 << code for code in range(low, min(high, 127) + 1))
    if flags & re.IGNORECASE and may & _LETTERS:
        must |= sum(1 << ord(chr(c).swapcase()) for c in range(128) if may & _LETTERS & 1 << c)
        may = must | _BEYOND
    if high > 127:
        may |= _BEYOND | (_LETTERS if flags & re.IGNORECASE else 0)
    return Chars(may, must)


def _category(name: str, flags: int) -> Chars:
    own, beyond = _CATEGORIES[name.removeprefix("CATEGORY_").removeprefix("NOT_")]
    found = own if flags & re.ASCII else own | beyond
    if "NOT_" in name:
        found = ALL & ~found
    return Chars(found, found)


def chars_of(op: str, of: Any, flags: int) -> Chars | None:
    """The characters that a part of one character has; None for any other part."""
    if op == "LITERAL":
        return _one(of, flags)
    if op == "NOT_LITERAL":
        one = _one(of, flags)
        return Chars(ALL & ~one.must, ALL & ~one.may)
    if op == "ANY":
        found = ALL if flags & re.DOTALL else ALL & ~_NEWLINE
        return Chars(found, found)
    if op == "IN":
        return _one_of(of, flags)
    return None


def _one_of(parts: Iterable[Any], flags: int) -> Chars:
    may = must = 0
    negated = False
    for name, of in parts:
        op = str(name)
        if op == "NEGATE":
            negated = True
            continue
        if op == "RANGE":
            more = _some(of[0], of[1], flags)
        elif op == "CATEGORY":
            more = _category(str(of), flags)
        else:
            more = _one(of, flags)
        may, must = may | more.may, must | more.must
    return Chars(ALL & ~must, ALL & ~may) if negated else Chars(may, must)


def table_of(may: int) -> bytes:
    """Marks these characters with an x, in bytes that have a question mark for all beyond ASCII."""
    if may & _BEYOND:
        may |= 1 << ord("?")
    return bytes(120 if code < 128 and may & 1 << code else 32 for code in range(256))
