"""What a flow is given, and what it gives: a request, the terms of its cache, a reply."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

from cachewrap.entry import Entry, Kind, Outcome
from cachewrap.errors import CachewrapError, CodecError, CorruptEntryError, StoreError
from cachewrap.format.codec import decode
from cachewrap.format.envelope import unseal
from cachewrap.format.sealing import UNSEALED, Guard
from cachewrap.policy import Mode

R = TypeVar("R")


class Exchange(Protocol[R]):
    """One request, and how its result becomes an entry and an entry its result."""

    @property
    def key(self) -> str:
        """The key of the request."""
        ...

    @property
    def source(self) -> str:
        """What is called, for messages: a function's name or an endpoint."""
        ...

    @property
    def model(self) -> str | None:
        """The model that is asked, for counting; None where only the answer tells."""
        ...

    @property
    def asked(self) -> bytes:
        """The canonical request, encoded."""
        ...

    def load(self, entry: Entry) -> R:
        """The result that the entry holds. Raises `CodecError` if it cannot be read."""
        ...

    def dump(self, result: R, seconds: float) -> tuple[bytes, Entry] | None:
        """The result's envelope and what is in it, or None where it is not to be stored.

        Raises `UnsupportedTypeError` where no codec takes it. ``seconds`` is how long upstream
        took.
        """


Report: TypeAlias = Callable[[CachewrapError, str], None]
"""Told of every fault that a call survives, with the source of the call."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the calls of one cache have in common.

    Args:
        place: the partition, as its store's URL, apart for each mode.
        report: told of every fault that a call survives.
        mode: what is done with a call, see `CacheOptions`; ``"off"`` never comes here.
        single_flight: whether callers of one request at one time share one upstream call.
        lease_seconds: how long a lease may outlive its last renewal; None where the store is
            reached by this process alone.
        give_up: releases a lease, given its key and token, where the flow cannot any more.
        guard: stands between envelopes and the store.
    """

    place: str
    report: Report
    mode: Mode = "normal"
    single_flight: bool = True
    lease_seconds: float | None = None
    give_up: Callable[[str, str], None] = lambda key, token: None
    guard: Guard = UNSEALED


@dataclass(slots=True)
class Reply(Generic[R]):
    """How a call was answered.

    Args:
        outcome: hit, miss, joined or bypassed.
        value: the result.
        entry: the entry it was read from; None where nothing is stored.
        own: on a miss, whether the stored answer is this call's own (False: an earlier one won).
        opened: whether it is a response that stays open, of which nothing can be said yet.
    """

    outcome: Outcome
    value: R
    entry: Entry | None = None
    own: bool = False
    opened: bool = False


@dataclass(slots=True)
class Absent:
    """Nothing to serve under the key.

    Args:
        stale: the bytes that a new entry may replace.
        why: in mode replay, what kept the entry from being served.
    """

    stale: bytes | None = None
    why: CachewrapError | None = None


Seen: TypeAlias = bytes | StoreError | None
"""What a store gave for a key: its bytes, None, or the fault that it raised."""

Peeked: TypeAlias = tuple[Any, Entry] | StoreError | CodecError | None
"""A result and its entry; None where there is none, or none that is fresh; or what is wrong."""

_TEXT: Final = Kind.TEXT


def peek(
    key: str,
    seen: Seen,
    guard: Guard,
    load: Callable[[Entry], Any] | None = None,
    *,
    late: bool = False,
) -> Peeked:
    """What a store gave comes to, told to nobody.

    Args:
        key: under which it is stored.
        seen: what the store gave, or raised.
        guard: opens the entry.
        load: makes the result of an entry; None decodes the value in it.
        late: whether what has expired is served.
    """
    if type(seen) is not bytes and (seen is None or isinstance(seen, StoreError)):
        return seen
    try:
        entry = unseal(seen) if guard is UNSEALED else guard.unseal(key, seen)
        if entry.expires and not late and not entry.fresh(time.time()):
            return None
        if load is not None:
            return load(entry), entry
        if entry.kind is _TEXT:
            return entry.answer.decode(), entry
        return decode(entry.kind, entry.answer), entry
    except UnicodeDecodeError as error:
        return CorruptEntryError(f"the answer cannot be read: {error!r}")
    except CodecError as error:
        return error
