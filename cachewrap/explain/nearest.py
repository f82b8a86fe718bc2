"""Requests that are stored and nearest to one that is asked, and why it is a hit or a miss."""

from __future__ import annotations

import heapq
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from contextvars import copy_context
from dataclasses import replace
from itertools import islice
from typing import Any, Final, Protocol

from cachewrap.entry import By, Declared, Entry, same_source
from cachewrap.errors import (
    ConfigurationError,
    CorruptEntryError,
)
from cachewrap.explain.differences import covered, differences
from cachewrap.explain.equal import (
    UNREADABLE,
    Lacking,
    counted,
    elsewhere,
    lines_of,
    made_equal,
    needed,
    of_size,
)
from cachewrap.explain.explanation import Explanation, Near
from cachewrap.explain.texts import common_prefix
from cachewrap.format.aliases import alias_in
from cachewrap.format.envelope import read_declared, read_record
from cachewrap.format.sealing import Guard
from cachewrap.policy import Policy
from cachewrap.request.canonical import canonical_body
from cachewrap.request.key import decode_request, encode, readable, stored
from cachewrap.same.applied import Rules
from cachewrap.secrets import KEYED
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


COMPARED: Final = 32
"""Stored requests that are compared field by field, after a quick look at all of them."""

_OF_SIZE: Final = 16
"""Further requests, of the same size and as many spaces: one may be equal but for its order."""

_HERE: Final = 0.5
"""How much more alike a request counts that may be a hit at all."""

_ELSEWHERE: Final = 3.0
"""The weight of being stored where it can be no hit."""

_HEAD, _TAIL = 2048, 1024  # bytes of a request that the quick look takes words from


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
    words = _words(asked)
    is_alike = of_size(asked)
    best: list[tuple[float, int, str, bytes, str]] = []
    sized: list[tuple[float, int, str, bytes, str]] = []
    for number, (key, encoded, declared) in enumerate(requests):
        where = elsewhere(rules, element, declared)
        likeness = _likeness(asked, words, encoded) + (0.0 if where else _HERE)
        _keep(best, COMPARED, (likeness, -number, key, encoded, where))
        if (apart := is_alike(encoded)) is not None:
            _keep(sized, _OF_SIZE, (-apart, -number, key, encoded, where))
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
        if record["request"] and (not source or same_source(record["source"], source)):
            yield key, record["request"], declared


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


class Asked(Protocol):
    """A request, as `call.terms.Exchange` has it."""

    key: str
    by: By
    element: bool

    @property
    def source(self) -> str:
        """What is called."""
        ...

    @property
    def policy(self) -> Policy:
        """Of the cache that serves it."""
        ...

    def compared(self) -> bytes:
        """The canonical request as it is compared with those that are stored, encoded."""
        ...


def explain_hit(entry: Entry, asked: Asked, place: str) -> Explanation:
    """The explanation of a request to which there is an answer in a place."""
    by = needed(asked.policy.same, entry, asked.compared(), asked.by)
    return Explanation(asked.source, asked.key, True, (), place, by=by)


def explain_miss(
    store: Store,
    guard: Guard,
    asked: Asked,
    place: str,
    *,
    count: int = 1,
    most: int | None = None,
) -> Explanation:
    """The explanation of a request to which there is none, see `nearest`. Raises `StoreError`."""
    source, key = asked.source, asked.key
    near = nearest(
        store,
        guard,
        asked.compared(),
        source=source,
        count=count,
        most=most,
        but=key,
        rules=asked.policy.same,
        element=asked.element,
    )
    return Explanation(source, key, False, near, place)


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
    alias = None
    with suppress(CorruptEntryError):
        raw = store.get(first.key)
        alias = None if raw is None else alias_in(guard.unseal(first.key, raw))
    if alias is None:
        return Explanation(source, first.key, True, near, place, by=first.by)
    # One that leads nowhere any more answers with what it has kept, if it has.
    led = bool(alias.kept) or store.get(alias.target) is not None
    return Explanation(source, first.key, led, near, place, alias=alias.target if led else "")


def _without(request: Mapping[str, Any], unkeyed: frozenset[str]) -> dict[str, Any]:
    """A canonical request without what its cache leaves out."""
    found = dict(request)
    for part in ("headers", "query", "body"):
        if unkeyed and isinstance(inside := found.get(part), Mapping):
            found[part] = {n: value for n, value in inside.items() if n.lower() not in unkeyed}
            if not found[part] and part != "body":
                del found[part]
    return found
