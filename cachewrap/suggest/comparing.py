"""Differences of two requests of a family, each with the rule that would take it away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from cachewrap.same.orders import CALL_IDS
from cachewrap.same.paths import Path
from cachewrap.suggest.masks import Span, anchored
from cachewrap.suggest.outlines import (
    ORDERS,
    Piece,
    Zone,
    dotted,
    is_tag,
    pieces,
    settled,
    spans_of,
)
from cachewrap.suggest.wording import Proposed


class Difference(NamedTuple):
    """The difference in one place, and what would make it equal.

    Attributes:
        rule: takes it away.
        path: where it is.
        one: what stands there in one request; None for nothing.
        other: what stands there in the other.
        doubtful: whether it may be what is asked.
    """

    rule: Proposed
    path: str
    one: Any
    other: Any
    doubtful: bool


class Settled:
    """A request with its orders settled, by which rules it was, and its pieces.

    Args:
        request: the canonical request.
        raw: the same, encoded.
    """

    __slots__ = ("asked", "pieces", "rests")

    def __init__(self, request: dict[str, Any], raw: bytes) -> None:
        self.asked = request
        request, self.rests = settled(request, raw)
        self.pieces = pieces(request)


def differences(one: Settled, other: Settled) -> list[Difference]:
    """How two requests of one outline differ. Raises `ValueError` where they are of none."""
    return [*_of_orders(one, other), *_of_pieces(one.pieces, other.pieces)]


_SHOWN: Final = ("order of tool results", "order of tools", "ids of tool calls")


def _of_orders(one: Settled, other: Settled) -> Iterator[Difference]:
    for rule, shown, mine, theirs in zip(ORDERS, _SHOWN, one.rests, other.rests, strict=True):
        if mine == theirs:
            continue
        kind = rule.form[0]
        if kind == "renumber":
            ids = next(((a, b) for a, b in zip(mine, theirs, strict=False) if a != b), ("", ""))
            paths = tuple(path for path in CALL_IDS if _has(path, one.asked))
            yield Difference(Proposed(kind, paths), shown, ids[0], ids[1], False)
        else:
            orders = _order(kind, mine), _order(kind, theirs)
            yield Difference(Proposed(kind), shown, orders[0], orders[1], False)


def _order(kind: str, moved: list[Any]) -> str:
    if moved:
        return "another one"
    return "by name" if kind == "sorted_by_name" else "as they were called"


def _has(path: str, request: dict[str, Any]) -> bool:
    found: list[Any] = []

    def keep(value: Any) -> Any:
        found.append(value)
        return value

    Path(path).rewrite(request, keep)
    return bool(found)


_OF_TRACKS: Final = frozenset({Zone.TRACKS, Zone.MAY_TRACK})


def _of_pieces(one: list[Piece], other: list[Piece]) -> Iterator[Difference]:
    yield from _of_tracks(one, other)
    mine = [piece for piece in one if piece.zone not in _OF_TRACKS]
    theirs = [piece for piece in other if piece.zone not in _OF_TRACKS]
    for (path, zone, value), (_, _, second) in zip(mine, theirs, strict=True):
        if zone is not Zone.EXACT and value != second:
            yield from _of_texts(path, zone, value, second, ())


def _of_tracks(one: list[Piece], other: list[Piece]) -> Iterator[Difference]:
    mine = {piece.path: piece for piece in one if piece.zone in _OF_TRACKS}
    theirs = {piece.path: piece for piece in other if piece.zone in _OF_TRACKS}
    for path in mine | theirs:
        first, second = mine.get(path), theirs.get(path)
        one_value: Any = first.value if first else None
        other_value: Any = second.value if second else None
        if one_value == other_value and first and second:
            continue
        piece = first or second
        doubtful = piece is not None and piece.zone is Zone.MAY_TRACK
        names = _members(one_value, other_value)
        for name in names:
            inside = dotted(path, name)
            values = one_value.get(name), other_value.get(name)
            yield Difference(Proposed("ignore", (inside,)), inside, values[0], values[1], doubtful)
        if not names:
            yield Difference(Proposed("ignore", (path,)), path, one_value, other_value, doubtful)


_MOST_NAMED: Final = 2


def _members(one: Any, other: Any) -> list[str]:
    """The members that differ in two objects; empty where the objects are named as a whole."""
    if type(one) is not dict or type(other) is not dict:
        return []
    names = [n for n in sorted(one | other) if n not in one or n not in other or one[n] != other[n]]
    # Without its last member an object would still be told from none at all.
    return names if len(names) <= _MOST_NAMED and not any(map(is_tag, names)) else []


def _of_texts(
    path: str, zone: Zone, one: Any, other: Any, names: tuple[str, ...]
) -> Iterator[Difference]:
    if type(one) is dict and type(other) is dict:
        for name in one:
            yield from _of_texts(path, zone, one[name], other.get(name), (*names, name))
    elif type(one) is list and type(other) is list:
        for first, second in zip(one, other, strict=True):
            yield from _of_texts(path, zone, first, second, names)
    elif type(one) is str and type(other) is str and one != other:
        yield from _of_text(_where(path, zone, names), zone, one, other)


def _of_text(where: str, zone: Zone, one: str, other: str) -> Iterator[Difference]:
    mine, theirs = spans_of(zone, one), spans_of(zone, other)
    for at, (span, second) in enumerate(zip(mine, theirs, strict=True)):
        values = one[span.start : span.end], other[second.start : second.end]
        if values[0] != values[1]:
            proposed = Proposed("replace", (*anchored(one, mine, at), where))
            shown = _around(one, span), _around(other, second)
            yield Difference(proposed, where, shown[0], shown[1], span.doubtful)


def _around(text: str, span: Span) -> str:
    start, end = max(0, span.start - _AROUND), span.end + _AROUND
    return "…" * (start > 0) + text[start:end] + "…" * (end < len(text))


_AROUND: Final = 16
"""Characters around what differs that are shown."""


def _where(path: str, zone: Zone, names: tuple[str, ...]) -> str:
    """The path for texts in a piece: no deeper than what is in it, as a rule goes on by itself."""
    if not names:
        return path
    if zone is Zone.DESCRIBES:
        short = tuple(name for name in names if not is_tag(name))
        deep = len(short) != len(names) or short.count("description") != 1 or len(short) > 2
        return path if deep else ".".join((f"{path}[*]", *short))
    return path if is_tag(names[0]) else dotted(path, names[0])
