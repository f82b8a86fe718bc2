"""Requests that are stored and nearest to one that is asked, and why it is a hit or a miss."""

from __future__ import annotations

import heapq
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from contextvars import copy_context
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import msgspec

from cachewrap.entry import same_source
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
from cachewrap.explain.texts import common_prefix
from cachewrap.format.aliases import alias_in
from cachewrap.format.envelope import read_record
from cachewrap.format.sealing import Guard
from cachewrap.policy import Policy
from cachewrap.request.canonical import canonical_body
from cachewrap.request.key import decode_request, encode, is_scrubbed, readable, stored
from cachewrap.secrets import HIDDEN, KEYED
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
        apart: whether they differ in what ``keyed=`` names, by which callers are kept apart.
    """

    key: str
    request: dict[str, Any]
    diff: tuple[str, ...]
    apart: bool = False


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
        alias: the key of the entry that answers the request by an alias; "" for its own.
    """

    source: str
    key: str
    stored: bool
    nearest: tuple[Near, ...]
    place: str
    served: bool = True
    looked: bool = True
    alias: str = ""

    def __str__(self) -> str:
        if not self.served:
            return (
                f"nothing was asked that {self.place} serves; it serves decorated functions, and"
                " models that are asked by an SDK that is patched"
            )
        name = self.source or "the request"
        key = f" (key {self.key[:12]}…)" if self.key else ""
        if self.stored:
            by = f", as an alias of {self.alias[:12]}…" if self.alias else ""
            return f"{name}{key} is stored in {self.place}{by}"
        lines = [f"{name}{key} is not stored in {self.place}"]
        if not self.looked:
            lines.append("what is stored there was not compared with it")
        elif not self.nearest:
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
                if is_scrubbed(near.request):
                    lines.append("  (or it differs in what scrub= takes out, which is not stored)")
                if HIDDEN in str(near.request):
                    lines.append("  (or it differs in a credential, which is never stored)")
                if names := _hidden_names(near.request):
                    lines.append(
                        f"  (or in what is stored as {HIDDEN}: {', '.join(names)}; what only tracks"
                        " a request is left out by unkeyed=)"
                    )
        return "\n".join(lines)

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
        if len(best) < COMPARED:
            heapq.heappush(best, (likeness, -number, key, encoded))
        elif likeness > best[0][0]:
            heapq.heapreplace(best, (likeness, -number, key, encoded))
    new = decode_request(asked)
    marks = dict(_marks(new))
    found = []
    for _, number, key, encoded in best:
        try:
            old = decode_request(encoded)
            if not isinstance(old, dict) or part not in ("", *old):
                continue
            diff = differences({part: old[part]}, {part: new}) if part else differences(old, new)
            shown = readable(covered(old))
            apart = dict(_marks(old.get(part) if part else old)) != marks
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
            continue
        weight = sum(difference.weight for difference in diff)
        lines = tuple(printable(difference.line, 400) for difference in diff)
        found.append((weight, -number, Near(key, shown, lines, apart)))
    return tuple(near for _, _, near in sorted(found, key=lambda row: row[:2])[:count])


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
    store: Store, guard: Guard, source: str, most: int | None
) -> Iterator[tuple[str, bytes]]:
    for key, raw in islice(scan(store), most):
        try:
            record = read_record(guard.open(key, raw))
        except CorruptEntryError:
            continue
        if record["request"] and (not source or same_source(record["source"], source)):
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
    counted = _counted(request, names[1]) if whole else canonical_body(request, *names)
    near = nearest(store, guard, encode(counted), source=source, part=part, count=3)
    if not near or near[0].diff:
        return Explanation(source, "", False, near, place)
    key, alias = near[0].key, None
    with suppress(CorruptEntryError):
        raw = store.get(key)
        alias = None if raw is None else alias_in(guard.unseal(key, raw))
    led = alias is None or bool(alias.kept) or store.get(alias.target) is not None
    return Explanation(source, key, led, near, place, alias=alias.target if alias and led else "")


def _counted(request: Mapping[str, Any], unkeyed: frozenset[str]) -> dict[str, Any]:
    """A canonical request without what its cache leaves out."""
    counted = dict(request)
    for part in ("headers", "query", "body"):
        if unkeyed and isinstance(inside := counted.get(part), Mapping):
            counted[part] = {n: value for n, value in inside.items() if n.lower() not in unkeyed}
            if not counted[part] and part != "body":
                del counted[part]
    return counted
