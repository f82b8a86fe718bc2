"""The effects of a call: what a driver does for the flow that yields them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Generic, TypeAlias, TypeVar

from cachewrap.call.flight import Flight, Landing, Reader
from cachewrap.call.lease import Lease
from cachewrap.call.terms import Seen
from cachewrap.stores.base import Claim, Store

T = TypeVar("T")


class Effect(Generic[T]):
    """A thing that a driver does for a flow: ``result = yield from Lookup(key)`` is typed."""

    __slots__ = ()

    def __iter__(self) -> Generator[Effect[Any], Any, T]:
        result: T = yield self
        return result


Flow: TypeAlias = Generator[Effect[Any], Any, T]


@dataclass(slots=True)
class Lookup(Effect[bytes | None]):
    """A read of the key from the store."""

    key: str


@dataclass(slots=True)
class Save(Effect[bytes]):
    """A write of the value if the key is absent (or holds ``over``); the result is what is there.

    With ``replace`` the value is stored whatever the key holds. A ``lease`` is given back behind
    it; one that stays held was not.
    """

    key: str
    value: bytes
    expires: float
    over: bytes | None
    replace: bool = False
    lease: Lease | None = field(default=None, compare=False)


@dataclass(slots=True)
class Call(Effect[Any]):
    """A call upstream, as the leader of a flight or alone; ``given`` is what the call is told.

    A call for several requests leads ``others`` as well, and each of them took its share of the
    time: it was asked ``among`` so many.
    """

    flight: Flight | None = None
    given: tuple[Any, ...] = ()
    others: tuple[Flight, ...] = field(default=(), compare=False)
    among: int = field(default=1, compare=False)


@dataclass(slots=True)
class Wait(Effect[Landing]):
    """A wait until a flight lands, see `Flight.wait`."""

    flight: Flight
    seconds: float = field(default=inf, compare=False)
    stopped_seconds: float = field(default=inf, compare=False)


@dataclass(slots=True)
class WaitForAny(Effect[list[Landing | None]]):
    """A wait until one of several flights lands, see `flight.wait_for_any`."""

    flights: Sequence[Flight]
    seconds: float = field(compare=False)
    stopped_seconds: float = field(default=inf, compare=False)


@dataclass(slots=True)
class Leave(Effect[None]):
    """The end of reading an open response."""

    reader: Reader


@dataclass(slots=True)
class Acquire(Effect[tuple[Claim, Seen]]):
    """A try to take a lease, which is renewed while it is held, and behind it a read of the key.

    See `lease.hold`.
    """

    key: str
    lease: Lease
    seconds: float
    most: float = inf
    host: Any = None


@dataclass(slots=True)
class Release(Effect[None]):
    """The return of the lease."""

    key: str
    token: str
    failed: bool


@dataclass(slots=True)
class Sleep(Effect[None]):
    """A pause, in which a ``flight`` is led."""

    seconds: float
    flight: Flight | None = field(default=None, compare=False)


@dataclass(slots=True)
class Search(Effect[T]):
    """A walk through the store's entries, which takes a while."""

    search: Callable[[Store], T]


@dataclass(slots=True)
class Together(Effect[list[tuple[Any, Exception | None]]]):
    """Effects of several flows, none of which waits for others; of each its result or its error."""

    effects: Sequence[Effect[Any]]
