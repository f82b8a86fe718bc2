"""The pairing of the calls of two runs: by key, by request, and by what requests have in common.

Requests of which no other has the key, nor is equal but for what is ignored, for the model or for
settings, are compared by their words. Those that many requests have, as of a prompt's template,
count for little. What has most in common is compared field by field, and so paired one to one.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from cachewrap.explain.differences import differences
from cachewrap.ledger.asked import Asked, Ignored, Read, Request, place_of
from cachewrap.ledger.calls import Call

LIKE: Final = 0.35
"""The share of what two requests say, weighed, that they have in common at least to be a pair."""

_BACKGROUND: Final = 200
"""Requests, at most, by which it is judged what many have."""

_BUCKETS: Final = 2**20
_RAREST: Final = 32
"""Words of a request by which others find it."""

_LOOKED: Final = 3000
"""Others, at most, that are looked at for one request."""

_CLOSEST: Final = 8
"""Requests whose words are compared with those of one."""

_COMPARED: Final = 3
"""Requests that are compared with one field by field."""

_NEARLY: Final = 0.1
"""Likenesses that are no further apart leave the choice to the fields."""

_ROUNDS: Final = 6


class Pair(NamedTuple):
    """A request that both runs made, or one of them; None stands for the other.

    Attributes:
        old: as the baseline made it.
        new: as the candidate made it.
        near: whether the two may differ in more than in what is ignored.
    """

    old: Asked | None
    new: Asked | None
    near: bool = False

    @property
    def asked(self) -> Asked:
        """As the candidate made it; what it did not make, as the baseline did."""
        asked = self.new or self.old
        assert asked is not None
        return asked


def pairs(
    old: Iterable[Call], new: Iterable[Call], old_request: Read, new_request: Read, skip: Ignored
) -> Iterator[Pair]:
    """Pair what two runs asked, one to one. The order of their calls makes no difference.

    Args:
        old: the calls of the baseline.
        new: the calls of the candidate.
        old_request: reads the request of a call of the baseline.
        new_request: reads the request of a call of the candidate.
        skip: what makes no difference.
    """
    keyed, loose = _gathered(old)
    others, free = _gathered(new)
    yield from _in_order(loose, free)
    paired: list[Pair] = []
    for name in [name for name in keyed if name in others]:
        paired.append(Pair(keyed.pop(name), others.pop(name)))
    for one, other in _matched(keyed.values(), others.values(), lambda asked: asked.call.key):
        paired.append(Pair(one, other))
        del keyed[_name(one.call)], others[_name(other.call)]
    yield from paired
    if not keyed or not others:
        yield from (Pair(one, None) for one in keyed.values())
        yield from (Pair(None, other) for other in others.values())
        return
    sides = [
        [Request(asked, read, skip) for asked in found.values()]
        for found, read in ((keyed, old_request), (others, new_request))
    ]
    known = sorted(paired, key=lambda pair: _name(pair.new.call) if pair.new else ("", ""))
    some = [pair.new.call for pair in known[:_BACKGROUND] if pair.new]
    yield from _by_request(sides[0], sides[1], (skip.words(new_request(call)) for call in some))


def _name(call: Call) -> tuple[str, str]:
    return call.key, call.seed


def _gathered(calls: Iterable[Call]) -> tuple[dict[tuple[str, str], Asked], list[Asked]]:
    """The requests with a key, and the calls without one."""
    keyed: dict[tuple[str, str], Asked] = {}
    loose = []
    for call in calls:
        if not call.key:
            loose.append(Asked(call, 1, call.number))
        elif (asked := keyed.get(name := (call.key, call.seed))) is None:
            keyed[name] = Asked(call, 1, call.number)
        else:
            asked.add(call)
    return keyed, loose


def _in_order(old: list[Asked], new: list[Asked]) -> Iterator[Pair]:
    """Calls without a key: those that ended alike first, then the others of a source."""

    def ended(asked: Asked) -> Any:
        return asked.call.source, asked.call.outcome, asked.call.reason

    left, right = dict.fromkeys(map(id, old)), dict.fromkeys(map(id, new))
    for kind in (ended, lambda asked: asked.call.source):
        one = [asked for asked in old if id(asked) in left]
        other = [asked for asked in new if id(asked) in right]
        for was, now in _matched(one, other, kind, in_order=True):
            del left[id(was)], right[id(now)]
            yield Pair(was, now)
    yield from (Pair(asked, None) for asked in old if id(asked) in left)
    yield from (Pair(None, asked) for asked in new if id(asked) in right)


def _matched(
    old: Iterable[Any],
    new: Iterable[Any],
    kind: Callable[[Any], Any],
    *,
    in_order: bool = False,
    alone: bool = False,
) -> list[tuple[Any, Any]]:
    """What is of one kind on both sides, two by two.

    Args:
        old: on one side.
        new: on the other.
        kind: tells the kind; None is none.
        in_order: as they come; else as their seeds and keys are in order.
        alone: only where there is one of the kind on each side.
    """
    found: dict[Any, tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
    for side, some in enumerate((old, new)):
        for one in some:
            if (name := kind(one)) is not None:
                found[name][side].append(one)
    matched: list[tuple[Any, Any]] = []
    for was, now in found.values():
        if was and now and not (alone and (len(was) > 1 or len(now) > 1)):
            if not in_order:
                was.sort(key=place_of)
                now.sort(key=place_of)
            matched += zip(was, now, strict=False)
    return matched


# -- by what is asked ----------------------------------------------------------------------------


def _by_request(
    old: list[Request], new: list[Request], others: Iterable[array[int]]
) -> Iterator[Pair]:
    """Pair requests that are not of one key."""
    for name, alone in (("whole", False), ("bare", False), ("said", True)):

        def kind(one: Request, name: str = name) -> Any:
            return (one.kind, found) if (found := getattr(one, name)) else None

        for one, other in _matched(old, new, kind, alone=alone):
            yield Pair(one.asked, other.asked, near=name != "whole")
            one.whole = other.whole = _PAIRED
        old = [one for one in old if one.whole is not _PAIRED]
        new = [one for one in new if one.whole is not _PAIRED]
    left, right = {id(one): one for one in old}, {id(one): one for one in new}
    if old and new:
        weights = _Weights([one.words for one in (*old, *new)], others)
        for one, other in _near(old, new, weights):
            yield Pair(one.asked, other.asked, near=True)
            del left[id(one)], right[id(other)]
    yield from (Pair(one.asked, None) for one in left.values())
    yield from (Pair(None, one.asked) for one in right.values())


_PAIRED: Final = b"paired"


class _Weights:
    """The weights of words: the fewer requests have one, the more it weighs.

    Args:
        asked: the words of the requests that are to be paired.
        others: the words of some that are paired.
    """

    def __init__(self, asked: list[array[int]], others: Iterable[array[int]]) -> None:
        self.counts = array("I", bytes(4 * _BUCKETS))
        whole = 0
        background = iter(others) if len(asked) < _BACKGROUND else ()
        for words in (*asked, *background):
            whole += 1
            for word in words:
                self.counts[word % _BUCKETS] += 1
        self._by_count = [0.0, *(math.log((whole + 1) / n) for n in range(1, whole + 1))]

    def count(self, word: int) -> int:
        """How many requests have a word."""
        return self.counts[word % _BUCKETS]

    def of(self, words: Iterable[int]) -> float:
        """What some words weigh together."""
        counts, weights = self.counts, self._by_count
        most = len(weights) - 1
        return sum(weights[min(most, counts[word % _BUCKETS])] for word in words)


def _near(
    old: list[Request], new: list[Request], weights: _Weights
) -> Iterator[tuple[Request, Request]]:
    """Pair those that have much in common, the closest first."""
    kinds: dict[Any, tuple[list[Request], list[Request]]] = defaultdict(lambda: ([], []))
    for side, some in enumerate((old, new)):
        for one in some:
            if one.words:
                kinds[one.kind][side].append(one)
    for was, now in kinds.values():
        if not was or not now:
            continue
        was.sort(key=_order)
        now.sort(key=_order)
        # Which side looks for the other must not matter.
        turned = [(one.whole, *place_of(one)) for one in was] > [
            (one.whole, *place_of(one)) for one in now
        ]
        found = _closest(now, was, weights) if turned else _closest(was, now, weights)
        for one, other in found:
            yield (other, one) if turned else (one, other)


def _order(one: Request) -> tuple[bytes, str, str]:
    return one.whole, *place_of(one)


def _closest(
    seeking: Sequence[Request], sought: Sequence[Request], weights: _Weights
) -> Iterator[tuple[Request, Request]]:
    free, open_ = set(range(len(sought))), list(range(len(seeking)))
    heavy = [weights.of(one.words) for one in sought]
    seen: dict[tuple[int, int], float] = {}
    for _ in range(_ROUNDS):
        found = _Index(sought, free, weights)
        edges = []
        for at in open_:
            near = list(found.near(seeking[at], heavy))
            best = near[0][0] if near else 0.0
            asked = None
            for likeness, to in near[:_COMPARED]:
                if likeness < best - _NEARLY:
                    break
                if (at, to) not in seen:
                    asked = seeking[at].request() if asked is None else asked
                    seen[at, to] = _apart(asked, sought[to].request())
                edges.append((seen[at, to], -likeness, at, to))
        edges.sort()
        taken: set[int] = set()
        for _, _, at, to in edges:
            if to in free and at not in taken:
                taken.add(at)
                free.discard(to)
                yield seeking[at], sought[to]
        if not taken:
            return
        open_ = [at for at in open_ if at not in taken]


def _apart(old: Any, new: Any) -> float:
    """How far two requests are from each other, field by field."""
    try:
        return sum(found.weight for found in differences(old, new))
    except (ValueError, TypeError, RecursionError):
        return math.inf


class _Index:
    """The requests of one side, found by their rarest words.

    Args:
        sought: all of them.
        free: the places of those that are to be found.
        weights: what words weigh.
    """

    def __init__(self, sought: Sequence[Request], free: set[int], weights: _Weights) -> None:
        self._sought = sought
        self._weights = weights
        self._places: dict[int, array[int]] = {}
        for at in sorted(free):
            for word in self._rarest(sought[at].words):
                if (places := self._places.get(word)) is None:
                    places = self._places[word] = array("I")
                places.append(at)

    def _rarest(self, words: array[int]) -> list[int]:
        counts = self._weights.counts
        found = [(counts[word % _BUCKETS], word) for word in words]
        shared = sorted(one for one in found if one[0] > 1)  # what one alone has finds none
        return [word for _, word in shared[:_RAREST]]

    def near(self, one: Request, heavy: Sequence[float]) -> Iterator[tuple[float, int]]:
        """Those that have most in common with a request, with how much that is, the most first."""
        found: dict[int, float] = defaultdict(float)
        looked = 0
        for word in self._rarest(one.words):
            places = self._places.get(word)
            if places is None:
                continue
            looked += len(places)
            if looked > _LOOKED and found:
                break
            weight = self._weights.of((word,))
            for at in places[:_LOOKED]:
                found[at] += weight
        best = heapq.nsmallest(_CLOSEST, ((-weight, at) for at, weight in found.items()))
        words, own = set(one.words), self._weights.of(one.words)
        like = []
        for _, at in best:
            shared = self._weights.of(words.intersection(self._sought[at].words))
            both = own + heavy[at]
            likeness = 2 * shared / both if both else 1.0
            if likeness >= LIKE:
                like.append((likeness, at))
        like.sort(key=lambda row: (-row[0], row[1]))
        return iter(like)
