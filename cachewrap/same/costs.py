"""Costs of regular expressions, and their bound: a rule never holds up a call.

Python's `re` tries one way after another and cannot be stopped. So a pattern is looked at when it
is declared: how many ways there are to read a text with it, and what all of them cost, follows from
its parts. One for which that grows too fast with the text is refused, such as ``(\\w+\\s?)+``,
whose parts can be told apart in more than one way. What is accepted does exactly what `re` does,
or nothing: before a text is searched, an upper bound of the time is computed, from the text alone
and never from a clock, so that every process comes to the same.

- A text whose bound is above two tenths of a second is left as it is, and a request whose texts
  come to more than four. Bounds are generous: what is searched takes a fraction of that. It
  costs a miss and one warning, never a wrong answer.
- Data in base64 (``data:`` URLs, 4,096 characters without anything else) is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeAlias

from cachewrap.errors import ConfigurationError
from cachewrap.patterns import later
from cachewrap.same.characters import ALL, Chars, chars_of, table_of
from cachewrap.telemetry.events import warn_once

try:
    from re import _constants, _parser  # type: ignore[attr-defined]

    _parse: Callable[[str, int], Any] | None = _parser.parse
    _UNBOUNDED: Any = _constants.MAXREPEAT
except (ImportError, AttributeError):  # of a Python that has them elsewhere
    _parse = _UNBOUNDED = None

# Nanoseconds, generously: of one character that is compared, of one that a repeat counts, of one
# way that is tried, of one place where a search begins, and of one match.
_CHARACTER: Final = 5.0
_COUNTED: Final = 2.0
_TRIED: Final = 25.0
_BEGUN: Final = 30.0
_MATCHED: Final = 600.0

_FOR_TEXT: Final = 2e8
_FOR_REQUEST: Final = 4e8
_STEEPEST: Final = 2e7
"""Nanoseconds at one place, with repeats of `_LOOKED_AT`, beyond which a pattern is refused."""

_CHEAP: Final = 500.0
"""Nanoseconds at one place that any text may cost."""

_LOOKED_AT: Final = 64
_SIZES: Final = 32
_MOST: Final = 1e30

_DATA: Final = later(r"data:[\w.+/;=-]{0,200};base64,|[A-Za-z0-9+/_-]{4096}")
_LONG: Final = 4096


Search: TypeAlias = Callable[[str], Iterable[re.Match[str]]]
"""What finds all matches in a text, in order."""


class TooDear(Exception):  # it is no error
    """The bound of what a request may cost is reached."""


# -- ways --------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """A part of a pattern.

    Args:
        first: the characters that it may begin with.
        empty: whether it may match nothing.
        cost: gives, of the characters that may follow and the longest run that a repeat may match,
            in how many ways it matches at one place, and what trying all of them takes.
        held: all characters that it may match.
        repeated: those of each repeat in it of more rounds than a few.
        entry: gives, of the longest run, what it takes at a place where it cannot begin.
    """

    first: int
    empty: bool
    cost: Callable[[int, int], tuple[float, float]]
    held: int
    repeated: tuple[int, ...] = ()
    entry: Callable[[int], float] = lambda run: _CHARACTER


def _capped(ways: float, taken: float) -> tuple[float, float]:
    return min(ways, _MOST), min(taken, _MOST)


def _single(chars: Chars) -> _Part:
    return _Part(chars.may, False, lambda follow, run: (1.0, _CHARACTER), chars.may)


def _nothing(taken: float = _CHARACTER, repeated: tuple[int, ...] = ()) -> _Part:
    return _Part(0, True, lambda follow, run: (1.0, taken), 0, repeated)


def _sequence(parts: list[_Part]) -> _Part:
    first, empty, held = 0, True, 0
    for part in parts:
        if empty:
            first |= part.first
        empty = empty and part.empty
        held |= part.held

    def cost(follow: int, run: int) -> tuple[float, float]:
        ways, taken = 1.0, 0.0
        for part in reversed(parts):
            own, steps = part.cost(follow, run)
            ways, taken = _capped(own * ways, steps + own * taken)
            follow = part.first | (follow if part.empty else 0)
        return ways, taken

    leading = [*parts]
    for at, part in enumerate(parts):
        if not part.empty:
            leading = parts[: at + 1]
            break
    repeated = tuple(one for part in parts for one in part.repeated)
    return _Part(first, empty, cost, held, repeated, _sum_of(leading))


def _sum_of(parts: list[_Part], more: float = 0.0) -> Callable[[int], float]:
    return lambda run: min(sum(part.entry(run) for part in parts) + more, _MOST)


def _branches(parts: list[_Part]) -> _Part:
    first = held = 0
    apart = True
    for part in parts:
        apart = apart and not part.empty and not part.first & first
        first |= part.first
        held |= part.held

    def cost(follow: int, run: int) -> tuple[float, float]:
        found = [part.cost(follow, run) for part in parts]
        ways = (max if apart else sum)(own for own, _ in found)
        return _capped(ways, _TRIED + sum(taken + _CHARACTER for _, taken in found))

    repeated = tuple(one for part in parts for one in part.repeated)
    empty = any(part.empty for part in parts)
    return _Part(first, empty, cost, held, repeated, _sum_of(parts, _TRIED))


def _counted(chars: Chars, least: int, most: int | None) -> _Part:
    """A repeat of one character."""

    def cost(follow: int, run: int) -> tuple[float, float]:
        longest = run if most is None else most if most <= _LOOKED_AT else min(run, most)
        ends = max(longest - least, 0) + 1
        ways = ends if chars.may & follow else 1
        return _capped(ways, longest * _COUNTED + ends * (_TRIED if ends > 1 else _CHARACTER))

    long = most is None or most > _LOOKED_AT
    entry = _sum_of([], _TRIED)
    return _Part(chars.may, not least, cost, chars.may, (chars.may,) if long else (), entry)


def _repeat(body: _Part, least: int, most: int | None) -> _Part:
    def cost(follow: int, run: int) -> tuple[float, float]:
        times = run if most is None else most if most <= _LOOKED_AT else min(run, most)
        own, taken = body.cost(body.first | follow, run)
        own += body.empty
        taken += _TRIED
        meets = body.empty or body.first & follow
        if own <= 1:
            ends = max(times - least, 0) + 1
            return _capped(ends if meets else 1, times * taken + _TRIED)
        if times == 1:
            return _capped(own + 1 if meets and not least else own, taken)
        try:
            ways = own ** min(times, 1000)
        except OverflowError:
            ways = _MOST
        ways = ways * 2 if least != times else ways  # those of fewer rounds
        return _capped(ways, ways * taken)

    long = most is None or most > _LOOKED_AT
    repeated = (*body.repeated, body.held) if long else body.repeated
    entry = _sum_of([body], _TRIED)
    return _Part(body.first, body.empty or not least, cost, body.held, repeated, entry)


def _alone(part: _Part, taken: float = _TRIED) -> Callable[[int, int], tuple[float, float]]:
    """The cost of a part that is never come back to."""
    return lambda follow, run: (1.0, part.cost(ALL, run)[1] + taken)


class _Unknown(Exception):
    """A part that this version does not know."""


def _part(op: str, of: Any, flags: int) -> _Part:
    chars = chars_of(op, of, flags)
    if chars is not None:
        return _single(chars)
    if op in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, most, inner = of[0], None if of[1] is _UNBOUNDED else int(of[1]), list(of[2])
        single = chars_of(str(inner[0][0]), inner[0][1], flags) if len(inner) == 1 else None
        if single is not None:
            found = _counted(single, least, most)
        else:
            found = _repeat(_parts(inner, flags), least, most)
        return found._replace(cost=_alone(found)) if op == "POSSESSIVE_REPEAT" else found
    if op == "SUBPATTERN":
        return _parts(of[3], (flags | of[1]) & ~of[2])
    if op == "BRANCH":
        return _branches([_parts(one, flags) for one in of[1]])
    if op == "ATOMIC_GROUP":
        inside = _parts(of, flags)
        return inside._replace(cost=_alone(inside))
    if op in ("ASSERT", "ASSERT_NOT"):
        inside = _parts(of[1], flags)
        alone = _alone(inside)
        return _Part(0, True, alone, 0, inside.repeated, lambda run: alone(ALL, run)[1])
    if op == "GROUPREF":
        return _Part(ALL, True, lambda follow, run: (1.0, run * _COUNTED), ALL, (ALL,))
    if op == "GROUPREF_EXISTS":
        return _branches([_parts(one or [], flags) for one in of[1:]])
    if op in ("AT", "FAILURE"):
        return _nothing()
    raise _Unknown(op)


def _parts(parsed: Iterable[Any], flags: int) -> _Part:
    return _sequence([_part(str(name), of, flags) for name, of in parsed])


def _begins(parsed: Iterable[tuple[str, Any]], flags: int) -> str:
    """The text that every match begins with, as far as it is one."""
    found: list[str] = []
    for name, of in parsed:
        if name == "AT" and not found:
            continue
        if name != "LITERAL" or flags & re.IGNORECASE:
            break
        found.append(chr(of))
    return "".join(found)


def _look_into(text: str, flags: int) -> _Seen:
    if _parse is None:
        raise _Unknown("re")
    parsed = _parse(text, flags)
    flags = parsed.state.flags
    items = [(str(name), of) for name, of in parsed]
    parts = [_part(name, of, flags) for name, of in items]
    once = False
    if items and items[-1][0] == "MAX_REPEAT":
        least, most, inner = items[-1][1]
        chars = chars_of(str(inner[0][0]), inner[0][1], flags) if len(inner) == 1 else None
        if chars is not None and most is _UNBOUNDED and least <= _LOOKED_AT:
            # Nothing behind it fails: what it counts is matched, and not looked at again.
            once = True
            parts[-1] = _counted(chars, least, least)
    return _Seen(_sequence(parts), _begins(items, flags), once, parsed.getwidth()[0])


# -- what is searched --------------------------------------------------------------------------


class Bounded:
    """A regular expression whose search takes a bounded time.

    Args:
        pattern: the expression.

    Raises `ConfigurationError` for one that may take too long, and for one that matches nothing.
    """

    __slots__ = (
        *("_at", "_begins", "_entry", "_finditer", "_first", "_once", "_runs", "_shortest"),
        "_text",
    )

    def __init__(self, pattern: re.Pattern[str]) -> None:
        text, flags = pattern.pattern, pattern.flags
        seen = _looked_into(text, flags)
        part = seen.part
        self._at = [part.cost(ALL, 1 << size)[1] + _BEGUN for size in range(_SIZES)]
        if self._at[_LOOKED_AT.bit_length() - 1] > _STEEPEST:
            raise ConfigurationError(_refused(text, flags))
        if not seen.shortest:
            raise ConfigurationError(
                f"replace(): the pattern {text!r} also matches where nothing is, which is at "
                "every place of a text: write + in place of *"
            )
        self._begins = seen.begins
        self._shortest = seen.shortest
        self._entry = [part.entry(1 << size) + _BEGUN for size in range(_SIZES)]
        self._once = _COUNTED if seen.once else 0.0
        self._finditer = pattern.finditer
        self._first = table_of(ALL if part.empty else part.first)
        self._runs = [table_of(chars) for chars in dict.fromkeys(part.repeated)]
        self._text = text

    def quickly(self) -> Search:
        """What finds all matches in the texts of one request, in order, with the coarsest bounds.

        It raises `TooDear` where these are not good enough: then `closely` is to be asked.
        """
        spent = 0.0
        at, entry, begins, find = self._at, self._entry, self._begins, self._finditer
        matched = _MATCHED / self._shortest

        def search(text: str) -> Iterable[re.Match[str]]:
            nonlocal spent
            size = len(text)
            if size >= _LONG and _DATA.match(text):
                return ()
            per_place = at[size.bit_length()]
            bound = size * (per_place + matched)
            if bound > 1e6 and begins:
                places = text.count(begins)
                bound = places * (per_place + _MATCHED) + size * entry[size.bit_length()]
            spent += bound
            if spent > _FOR_TEXT:
                raise TooDear
            return find(text)

        return search

    def closely(self) -> Search:
        """The same, with bounds that look at each text. It raises `TooDear` for the request."""
        spent = 0.0

        def search(text: str) -> Iterable[re.Match[str]]:
            nonlocal spent
            if len(text) >= _LONG and _DATA.match(text):
                return ()
            bound = self.bound(text)
            if bound > _FOR_TEXT:
                self.tell()
                return ()
            spent += bound
            if spent > _FOR_REQUEST:
                raise TooDear
            return self._finditer(text)

        return search

    def tell(self) -> None:
        """Warn that something is left as it is."""
        warn_once(
            ("same", "cost", self._text),
            f"replace(): the pattern {self._text!r} might take too long on a text, which is left "
            "as it is",
        )

    def bound(self, text: str) -> float:
        """Nanoseconds that a search takes at most."""
        size = len(text)
        # Everything beyond ASCII is a question mark here, which the tables know.
        plain = text.encode("ascii", "replace")
        longest = 1
        for table in self._runs:
            marked = plain.translate(table)
            while longest <= size and b"x" * longest in marked:
                longest *= 2
        if self._begins:
            places = text.count(self._begins)
        else:
            places = plain.translate(self._first).count(b"x")
        run = longest.bit_length() - 1
        matches = min(places, size // self._shortest)
        return places * self._at[run] + matches * _MATCHED + size * (self._once + self._entry[run])


class _Seen(NamedTuple):
    """A pattern, as it is seen to be.

    Args:
        part: all of it.
        begins: the text that every match begins with.
        once: whether what is last in it is counted just once.
        shortest: characters of its shortest match.
    """

    part: _Part
    begins: str
    once: bool
    shortest: int


def _looked_into(text: str, flags: int) -> _Seen:
    try:
        return _look_into(text, flags)
    except _Unknown as error:
        raise ConfigurationError(
            f"replace(): what {text!r} costs cannot be told, since this Python's re has {error} "
            "that is not known: write it without"
        ) from None
    except RecursionError:
        raise ConfigurationError(f"replace(): {text!r} is nested too deeply") from None


_HOW: Final = (
    "write it so that a text can be read in one way only: with what the repeated part cannot hold "
    r"between its rounds, as in (?:\w+ )+, or with few rounds, as in {1,3}"
)


def _refused(text: str, flags: int) -> str:
    part = _part_refused(text, flags)
    where = "" if part == text else f", for its part {part}"
    return f"replace(): the pattern {text!r} may take for ever{where}: {_HOW}"


def _part_refused(text: str, flags: int) -> str:
    """The shortest part, a group with its repeat, that would be refused by itself."""
    found = text
    opened: list[int] = []
    for token in re.finditer(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[()]", text, re.DOTALL):
        if token.group() == "(":
            opened.append(token.start())
        elif token.group() == ")" and opened:
            begin = opened.pop()
            behind = re.compile(r"(?:[*+?]|\{\d*,?\d*\})?[?+]?").match(text, token.end())
            one = text[begin : behind.end() if behind else token.end()]
            if len(one) < len(found) and _is_refused(one, flags):
                found = one
    return found


def _is_refused(text: str, flags: int) -> bool:
    try:
        part = _parts(_parse(text, flags), flags) if _parse is not None else None
    except (re.error, _Unknown, RecursionError, OverflowError):
        return False
    return part is not None and part.cost(ALL, _LOOKED_AT)[1] > _STEEPEST


def is_cheap(parsed: Any, flags: int) -> bool:
    """Whether parsed parts are quickly looked for in any text, however long."""
    try:
        return _parts(parsed, flags).cost(ALL, 1 << _SIZES)[1] < _CHEAP
    except _Unknown:
        return False


def bounded(pattern: re.Pattern[str]) -> Bounded:
    """A search for it. Raises `ConfigurationError` for one that may take too long."""
    return Bounded(pattern)
