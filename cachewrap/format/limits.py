"""What is slow to make again, and therefore neither stored nor made: patterns, fractions, sets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection
from fractions import Fraction
from typing import Any, Final

from cachewrap.errors import CorruptEntryError
from cachewrap.request.values import LOADERS

HEAVY: Final = frozenset({"!pattern", "!fraction"})
"""The tags of what is weighed before it is made."""
WEIGHED: Final = frozenset({re.Pattern, Fraction})
"""What is made of these."""


def weighed(tagged: Any) -> Any:
    """A tagged form with its patterns and fractions made.

    Raises `CorruptEntryError` where these may be slow to make.
    """
    if are_slow(tagged):
        raise CorruptEntryError("patterns or fractions that are slow to make")
    root = [tagged]
    ahead: list[Any] = [root]
    while ahead:
        plain = ahead.pop()
        for at, item in plain.items() if type(plain) is dict else enumerate(plain):
            kind = type(item)
            if kind is dict and len(item) == 1 and (make := _MAKERS.get(*item)) is not None:
                plain[at] = make(*item.values())
            elif kind is dict or kind is list:
                ahead.append(item)
    return root[0]


def _leaf(plain: Any) -> Any:
    """A text, bytes or a number in a tagged form."""
    if type(plain) is dict and len(plain) == 1:
        ((tag, inner),) = plain.items()
        return LOADERS[tag](inner)
    return plain


def _load_pattern(inner: Any) -> re.Pattern[Any]:
    pattern, flags = map(_leaf, inner)
    if type(pattern) not in (str, bytes) or type(flags) is not int:
        raise CorruptEntryError("a pattern that is none")
    if flags & re.DEBUG or is_slow(pattern, flags):
        raise CorruptEntryError("a pattern that is not to be compiled")
    return re.compile(pattern, flags)


_MAKERS: Final[dict[str, Callable[[Any], Any]]] = {
    "!fraction": LOADERS["!fraction"],
    "!pattern": _load_pattern,
}


_WIDE: Final = re.compile(r"-(?:[^\0-\x7f]|\\[uUN])")
_MOST_OF_A_PATTERN: Final = 10_000
_MOST_WIDE_RANGES: Final = 100


def is_slow(pattern: str | bytes, flags: int) -> bool:
    """Whether a pattern may be slow to compile, for its length or its ranges of characters."""
    return _slowness(pattern, flags) > 1


def _slowness(pattern: str | bytes, flags: int) -> float:
    """How slow a pattern may be to compile, of what a single one may be: some 0.3 seconds.

    Every character of a range is looked at where case is ignored.
    """
    length = len(pattern) / _MOST_OF_A_PATTERN
    if isinstance(pattern, bytes):
        return length
    wide = len(_WIDE.findall(pattern))
    ignores_case = flags & re.IGNORECASE or re.search(r"\(\?[a-zA-Z]*i", pattern)
    return max(length, wide * 2 if ignores_case else wide / _MOST_WIDE_RANGES)


def are_slow(tagged: Any) -> bool:
    """Whether the patterns in a tagged form may together be slower than five single ones may be.

    Or its fractions: Python keeps their hashes by parts of them, of which many may have one hash.
    """
    spent = 0.0
    ahead = [tagged]
    while ahead:
        plain = ahead.pop()
        if type(plain) is dict:
            if type(inner := plain.get("!pattern")) is list and len(inner) == 2:
                pattern, flags = map(_leaf, inner)
                spent += _slowness(pattern, flags)
            elif type(inner := plain.get("!fraction")) is list:
                spent += any(len(part) > _UNIQUE for part in inner) * _FRACTION
            ahead += plain.values()
        elif type(plain) is list:
            ahead += plain
    return spent > _MOST


_MOST: Final = 5
_FRACTION: Final = _MOST / 1024
_UNIQUE: Final = 17  # hexadecimal digits, with what stands in front, whose hashes are their own


MOST_OF_ONE_HASH: Final = 32
"""Members of a set that may have one hash: each is compared with all others of it."""


def check_hashes(members: Collection[Any]) -> None:
    """Raise `CorruptEntryError` where so many members of a set have one hash that it is slow.

    The hashes of text and bytes are others in each process, so that nobody can choose them.
    """
    if len(members) <= MOST_OF_ONE_HASH:
        return
    hashes = [hash(one) for one in members if type(one) is not str and type(one) is not bytes]
    if max(Counter(hashes).values(), default=0) > MOST_OF_ONE_HASH:
        raise CorruptEntryError(
            f"more than {MOST_OF_ONE_HASH} members of a set, or keys of a dictionary, have one hash"
        )
