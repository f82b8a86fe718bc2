"""The steps of one cached call, as a generator of effects with no I/O in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from cachewrap.entry import Entry, Outcome
from cachewrap.envelope import unseal
from cachewrap.errors import CachewrapError, CodecError, MissingTypeError, StoreError

T = TypeVar("T")
R = TypeVar("R")


class Effect(Generic[T]):
    """Something that a driver does for a flow: ``result = yield from Lookup(key)`` is typed."""

    __slots__ = ()

    def __iter__(self) -> Generator[Effect[Any], Any, T]:
        return (yield self)


Flow: TypeAlias = Generator[Effect[Any], Any, T]


@dataclass(frozen=True, slots=True)
class Lookup(Effect[bytes | None]):
    """Read the key from the store."""

    key: str


@dataclass(frozen=True, slots=True)
class Save(Effect[bytes]):
    """Add the value under the key if it is absent (or holds ``over``); the result is what is there."""

    key: str
    value: bytes
    expires: float
    over: bytes | None


@dataclass(frozen=True, slots=True)
class Call(Effect[Any]):
    """Go upstream."""


class Exchange(Protocol[R]):
    """One request, and how its result becomes an entry and an entry its result."""

    @property
    def key(self) -> str:
        """The key of the request."""

    @property
    def source(self) -> str:
        """What is called, for messages: a function's name or an endpoint."""

    def load(self, entry: Entry) -> R:
        """The result that the entry holds. Raises `CodecError` if it cannot be read."""

    def dump(self, result: R, seconds: float) -> tuple[bytes, float] | None:
        """The result's envelope and its expiry, or None where it is not to be stored.

        Raises `UnsupportedTypeError` where no codec takes it. ``seconds`` is how long upstream took.
        """


Report: TypeAlias = Callable[[CachewrapError, str], None]
"""Told of every fault that a call survives, with the source of the call."""


@dataclass(frozen=True, slots=True)
class Reply(Generic[R]):
    """How a call was answered.

    Args:
        outcome: hit, miss, joined or bypassed.
        value: the result.
        entry: the entry it was read from; None where nothing is stored.
        own: on a miss, whether the stored answer is this call's own (False: an earlier one won).
    """

    outcome: Outcome
    value: R
    entry: Entry | None = None
    own: bool = False


@dataclass(frozen=True, slots=True)
class Absent:
    """Nothing to serve under the key. ``stale``: the bytes that a new entry may replace."""

    stale: bytes | None = None


_ABSENT = Absent()


def look(exchange: Exchange[R], report: Report) -> Flow[Reply[R] | Absent]:
    """Look the request up. A store or an entry that cannot be read is reported, and absent."""
    try:
        raw = yield from Lookup(exchange.key)
    except StoreError as error:
        report(error, exchange.source)
        return _ABSENT
    if raw is None:
        return _ABSENT
    try:
        entry = unseal(raw)
        if entry.expires and not entry.fresh(time.time()):
            return Absent(raw)
        return Reply(Outcome.HIT, exchange.load(entry), entry)
    except MissingTypeError as error:
        report(error, exchange.source)
        return _ABSENT
    except CodecError as error:
        report(error, exchange.source)
        return Absent(raw)


def keep(
    exchange: Exchange[R], result: R, seconds: float, absent: Absent, report: Report
) -> Flow[Reply[R]]:
    """Store a result that came from upstream; the reply holds the answer that won.

    What was paid for is never lost: where it cannot be encoded, stored or read back, the fault is
    reported and the reply holds the result as it came.
    """
    try:
        sealed = exchange.dump(result, seconds)
    except CodecError as error:
        report(error, exchange.source)
        return Reply(Outcome.MISS, result)
    if sealed is None:
        return Reply(Outcome.MISS, result)
    raw, expires = sealed
    stored = True
    try:
        won = yield from Save(exchange.key, raw, expires, absent.stale)
    except StoreError as error:
        report(error, exchange.source)
        won, stored = raw, False
    try:
        entry = unseal(won)
        value = exchange.load(entry)
    except CodecError as error:
        report(error, exchange.source)
        return Reply(Outcome.MISS, result)
    return Reply(Outcome.MISS, value, entry if stored else None, own=won == raw)


def fetch(exchange: Exchange[R], report: Report) -> Flow[Reply[R]]:
    """The one flow of a cached call: look, else call and keep. Upstream's errors pass through."""
    found = yield from look(exchange, report)
    if isinstance(found, Reply):
        return found
    started = time.perf_counter()
    result: R = yield from Call()
    return (yield from keep(exchange, result, time.perf_counter() - started, found, report))
