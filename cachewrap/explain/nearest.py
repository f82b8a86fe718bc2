"""Requests that are stored and nearest to one that is asked, and why it is a hit or a miss."""

from __future__ import annotations

import heapq
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from contextvars import copy_context
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from cachewrap.entry import Declared
from cachewrap.errors import (
    REMEDIES,
    CachewrapError,
    ConfigurationError,
    CorruptEntryError,
    MissingTypeError,
    ReplayMissError,
    printable,
)
from cachewrap.explain.differences import covered, differences
from cachewrap.explain.equal import (
    UNREADABLE,
    Equal,
    Lacking,
    counted,
    elsewhere,
    lines_of,
    made_equal,
    sets_of,
)
from cachewrap.explain.texts import common_prefix
from cachewrap.format.envelope import read_declared, read_record
from cachewrap.format.sealing import Guard
from cachewrap.patterns import later
from cachewrap.policy import Policy
from cachewrap.request.canonical import canonical_body
from cachewrap.request.key import decode_request, encode, is_scrubbed, readable, stored
from cachewrap.same.applied import Rules
from cachewrap.secrets import HIDDEN, KEYED
from cachewrap.stores.base import Store, scan

_VERSION: Final = later(r"POST (?:/[^/ ]+)*/v[0-9][a-z0-9]*")
"""What stands in front of an endpoint's path where the base URL of its SDK has a version."""


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


COMPARED: Final = 32
"""Stored requests that are compared field by field, after a quick look at all of them."""

_LINES: Final = 12
"""Differences that a message names."""

_EQUAL_LINES: Final = 4
"""Lines of what each rule makes equal that a message has."""

_OF_SIZE: Final = 16
"""Further requests, of the same size and as many spaces: one may be equal but for its order."""

_SPACES_APART: Final = 16
"""Spaces that differ at most: ids have none, but lengths may be written with such a byte."""

_HERE: Final = 0.5
"""How much more alike a request counts that may be a hit at all."""

_ELSEWHERE: Final = 3.0
"""The weight of being stored where it can be no hit."""

_HEAD, _TAIL = 2048, 1024  # bytes of a request that the quick look takes words from


@dataclass(frozen=True, slots=True)
class Near:
    """A stored request that is nearly the one that was asked for.

    Attributes:
        key: the key of its entry.
        request: the canonical request as it is stored, but for what looks like a credential.
        diff: how the request that was asked for differs from it, one line for each field. What a
            rule of equality makes equal is not among them.
        apart: whether they differ in what ``keyed=`` names, by which callers are kept apart.
        by: the rules of the cache that make something equal, each with what that is.
        elsewhere: why it could not be served, whatever is asked: it is stored "without rules",
            "with other rules", "as an element of a list"; "" where it could be.
        lacks: the rules of ready sets (`cachewrap.same`), which the cache has not, that would make
            it equal; none where they would not.
    """

    key: str
    request: dict[str, Any]
    diff: tuple[str, ...]
    apart: bool = False
    by: Equal = ()
    elsewhere: str = ""
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """The reason why a request is a hit or a miss. As text it is a message for people.

    Attributes:
        source: the function or endpoint; "" where it is not known.
        key: the key of the request; "" where it is not known.
        stored: whether an answer to the request is there.
        nearest: the nearest stored requests of the same function or endpoint, nearest first.
        place: where was looked, as a URL without credentials.
        served: whether anything was asked that the cache serves. What a call asks by an SDK that is
            not patched goes upstream, also where it is to be explained.
        looked: whether the nearest ones could be looked for.
        by: of a hit, the rules of equality without which it would be none, each with what differs
            between the request and the one that is stored. Of a miss `nearest` has them.
    """

    source: str
    key: str
    stored: bool
    nearest: tuple[Near, ...]
    place: str
    served: bool = True
    looked: bool = True
    by: Equal = ()

    def __str__(self) -> str:
        if not self.served:
            return (
                f"nothing was asked that {self.place} serves; it serves decorated functions, and"
                " models that are asked by an SDK that is patched"
            )
        name = self.source or "the request"
        key = f" (key {self.key[:12]}…)" if self.key else ""
        if self.stored:
            told = f"{name}{key} is stored in {self.place}"
            if not self.by:
                return told
            return "\n".join((f"{told}, for a request that is equal by rules", *_equal(self.by)))
        lines = [f"{name}{key} is not stored in {self.place}"]
        if not self.looked:
            lines.append("what is stored there was not compared with it")
        elif not self.nearest:
            lines.append("nothing comparable is stored there")
        for near in self.nearest[:1]:
            lines += _told(near)
        if wanted := self.wanted:
            lines += _advice(wanted)
        return "\n".join(lines)

    @property
    def wanted(self) -> Near | None:
        """The nearest stored request that a ready set of rules would make equal, if there is one.

        Its `lacks` are the rules.
        """
        return next((near for near in self.nearest if near.lacks), None)

    def __repr__(self) -> str:
        first, *others = str(self).split("\n")
        more = f"; print it for {len(others)} lines more" if others else ""
        return f"<Explanation: {first}{more}>"

    def _repr_html_(self) -> str:
        from cachewrap import notebook

        return notebook.of_text(str(self))

    def error(self, why: CachewrapError | None = None) -> ReplayMissError:
        """The error that mode ``"replay"`` raises.

        Args:
            why: the fault because of which what is stored cannot be served, if that is so.
        """
        nearest, wanted = self.nearest[0] if self.nearest else None, self.wanted
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
            rules=wanted.lacks if wanted else (),
        )
        error.explanation, error.remedy = self, remedy
        return error


def _told(near: Near) -> Iterator[str]:
    entry = f"key {near.key[:12]}…"
    if near.diff:
        where = f", which is stored {near.elsewhere}," if near.elsewhere else ""
        yield f"the nearest stored request ({entry}){where} is different:"
        yield from _listed(near.diff, _LINES)
    elif near.elsewhere:
        equal = "an equal" if near.by else "the very"
        where = f"{near.elsewhere} ({entry}), where this cache does not look"
        yield f"{equal} request is stored {where}"
    else:
        equal = "an equal" if near.by else "the very"
        yield f"{equal} request is stored as another sample or seed ({entry})"
        if is_scrubbed(near.request):
            yield "  (or it differs in what scrub= takes out, which is not stored)"
        if HIDDEN in str(near.request):
            yield "  (or it differs in a credential, which is never stored)"
        if names := _hidden_names(near.request):
            yield (
                f"  (or in what is stored as {HIDDEN}: {', '.join(names)}; what only tracks"
                " a request is left out by unkeyed=)"
            )
    yield from _equal(near.by)


def _listed(lines: tuple[str, ...], most: int) -> Iterator[str]:
    for line in lines[:most]:
        yield f"  {line}"
    if len(lines) > most:
        yield f"  … and {len(lines) - most} more"


def _equal(by: Equal) -> Iterator[str]:
    for rule, lines in by:
        yield f"equal by {rule}:" if lines else f"equal by {rule}"
        yield from _listed(lines, _EQUAL_LINES)


def _advice(wanted: Near) -> Iterator[str]:
    names = ", ".join(f"*{name}" for name in sets_of(wanted.lacks))
    rules = ", ".join(printable(rule, 120) for rule in wanted.lacks)
    yield (
        f"same=[{names}] (from cachewrap.same) would have made it equal to key"
        f" {wanted.key[:12]}…: {rules}"
    )
    yield "  (what is stored without it is asked once more)"


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
    but: str = "",
    rules: Rules | None = None,
    element: bool = False,
) -> tuple[Near, ...]:
    """The stored requests that are nearest to one, nearest first.

    Behind them come, if none of them is one: where callers are kept apart the nearest that is of
    none other, and the nearest that a ready set of rules would make equal.

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
        but: the key of an entry that is passed over: that of the request itself.
        rules: the rules of equality of the cache.
        element: the request is for one element of a list that is asked element by element.

    Raises `StoreError`.
    """
    asked = stored(asked) or asked
    best = _candidates(_requests(store, guard, source, most, but), asked, rules, element)
    new = decode_request(asked)
    marks = dict(_marks(new))
    lacking = None if part else Lacking(rules, new)
    found: list[tuple[float, int, Near, dict[str, Any]]] = []
    for key, encoded, where, is_near in best:
        try:
            old = decode_request(encoded)
            if not isinstance(old, dict) or part not in ("", *old):
                continue
            whole = {**old, part: new} if part else new
            lacks = (lacking or Lacking(rules, whole)).between(old)
            if not (lacks or is_near):
                continue
            apart = dict(_marks(old.get(part) if part else old)) != marks
            diff = differences(counted(rules, old), counted(rules, whole))
        except UNREADABLE:
            continue
        weight = sum(difference.weight for difference in diff) + _ELSEWHERE * bool(where)
        near = Near(key, old, lines_of(diff), apart, (), where, () if apart else lacks)
        found.append((weight, len(found), near, whole))
    found.sort(key=lambda row: row[:2])
    told = found[:count]
    if told and all(row[2].apart for row in told):
        told += [row for row in found[count:] if not row[2].apart][:1]
    if not any(row[2].lacks for row in told):
        told += [row for row in found[count:] if row[2].lacks][:1]
    return tuple(_shown(near, rules, whole) for _, _, near, whole in told)


def _shown(near: Near, rules: Rules | None, asked: dict[str, Any]) -> Near:
    """A stored request as it is told, with what rules make equal."""
    old = near.request
    return replace(near, request=readable(covered(old)), by=made_equal(rules, old, asked))


def _candidates(
    requests: Iterator[tuple[str, bytes, Declared | None]],
    asked: bytes,
    rules: Rules | None,
    element: bool,
) -> list[tuple[str, bytes, str, bool]]:
    """Those that are to be compared with one, after a quick look at all of them.

    They are the most alike, and those of the same size and as many spaces, which rules may make
    equal however their order and their ids differ. Each is its key, its request, why it could not
    be served, and whether it is one of the former.
    """
    words, size = _words(asked), len(asked)
    slack, spaces = 64 + size // 32, asked.count(b" ")
    best: list[tuple[float, int, str, bytes, str]] = []
    sized: list[tuple[float, int, str, bytes, str]] = []
    for number, (key, encoded, declared) in enumerate(requests):
        where = elsewhere(rules, element, declared)
        likeness = _likeness(asked, words, encoded) + (0.0 if where else _HERE)
        _keep(best, COMPARED, (likeness, -number, key, encoded, where))
        longer = abs(len(encoded) - size)
        if longer <= slack and (apart := abs(encoded.count(b" ") - spaces)) <= _SPACES_APART:
            _keep(sized, _OF_SIZE, (-apart - longer / 8, -number, key, encoded, where))
    best.sort(reverse=True)
    seen = {row[2] for row in best}
    others = [row for row in sorted(sized, reverse=True) if row[2] not in seen]
    return [
        (key, encoded, where, is_near)
        for rows, is_near in ((best, True), (others, False))
        for _, _, key, encoded, where in rows
    ]


def _keep(
    heap: list[tuple[float, int, str, bytes, str]],
    most: int,
    row: tuple[float, int, str, bytes, str],
) -> None:
    if len(heap) < most:
        heapq.heappush(heap, row)
    elif row[0] > heap[0][0]:
        heapq.heapreplace(heap, row)


def _marks(value: Any, *path: str | int) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The hashes in a request that stand for what ``keyed=`` names, and where they are."""
    if isinstance(value, str):
        if value.startswith(KEYED):
            yield path, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _marks(inner, *path, name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _marks(inner, *path, number)


def _requests(
    store: Store, guard: Guard, source: str, most: int | None, but: str
) -> Iterator[tuple[str, bytes, Declared | None]]:
    for key, raw in islice(scan(store), most):
        if key == but:
            continue
        try:
            opened = guard.open(key, raw)
            record, declared = read_record(opened), read_declared(opened)
        except CorruptEntryError:
            continue
        if record["request"] and (not source or _is_alike(record["source"], source)):
            yield key, record["request"], declared


def _is_alike(one: str, other: str) -> bool:
    """Whether two sources are the same: of SDKs an endpoint is without what their base URL has."""
    if one == other:
        return True
    longer, shorter = sorted((one, other), key=len, reverse=True)
    path = shorter.removeprefix("POST ")
    return path[:1] == "/" and _VERSION.fullmatch(longer.removesuffix(path)) is not None


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


def explain_request(
    store: Store, guard: Guard, policy: Policy, request: Mapping[str, Any], place: str
) -> Explanation:
    """`Cache.explain` of a canonical request, or of the JSON body of one."""
    if not isinstance(request, Mapping):
        raise ConfigurationError(
            "explain takes a function and the arguments of a call, as in"
            ' `cache.explain(ask, "What is a cache?")`, or a request as a dict; got'
            f" {type(request).__name__}"
        )
    whole = "url" in request or "function" in request
    source = str(request.get("function", ""))
    part = "" if whole else "body"
    names = policy.keyed, policy.unkeyed
    asked = _without(request, names[1]) if whole else canonical_body(request, *names)
    near = nearest(
        store, guard, encode(asked), source=source, part=part, count=3, rules=policy.same
    )
    first = near[0] if near else None
    if first is None or first.diff or first.elsewhere:
        return Explanation(source, "", False, near, place)
    return Explanation(source, first.key, True, near, place, by=first.by)


def _without(request: Mapping[str, Any], unkeyed: frozenset[str]) -> dict[str, Any]:
    """A canonical request without what its cache leaves out."""
    found = dict(request)
    for part in ("headers", "query", "body"):
        if unkeyed and isinstance(inside := found.get(part), Mapping):
            found[part] = {n: value for n, value in inside.items() if n.lower() not in unkeyed}
            if not found[part] and part != "body":
                del found[part]
    return found
