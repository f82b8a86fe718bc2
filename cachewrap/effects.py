"""What a flow asks its driver to do: the I/O that it has not in itself."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from cachewrap.flight import Flight, Landing
from cachewrap.stores.base import Claim, Store

T = TypeVar("T")


class Effect(Generic[T]):
    """Something that a driver does for a flow: ``result = yield from Lookup(key)`` is typed."""

    __slots__ = ()

    def __iter__(self) -> Generator[Effect[Any], Any, T]:
        result: T = yield self
        return result


Flow: TypeAlias = Generator[Effect[Any], Any, T]


@dataclass(slots=True)
class Lookup(Effect[bytes | None]):
    """Read the key from the store."""

    key: str


@dataclass(slots=True)
class Save(Effect[bytes]):
    """Add the value if the key is absent (or holds ``over``); the result is what is there.

    With ``replace`` the value is stored whatever the key holds.
    """

    key: str
    value: bytes
    expires: float
    over: bytes | None
    replace: bool = False


@dataclass(slots=True)
class Call(Effect[Any]):
    """Go upstream, as the leader of a flight or alone."""

    flight: Flight | None = None


@dataclass(slots=True)
class Wait(Effect[Landing]):
    """Wait for a flight to land."""

    flight: Flight


@dataclass(slots=True)
class Acquire(Effect[Claim]):
    """Try to take the lease of the key, and renew it while it is held."""

    key: str
    token: str
    seconds: float


@dataclass(slots=True)
class Release(Effect[None]):
    """Give the lease back."""

    key: str
    token: str
    failed: bool


@dataclass(slots=True)
class Sleep(Effect[None]):
    """Let time pass."""

    seconds: float


@dataclass(slots=True)
class Search(Effect[T]):
    """Go through the store's entries, which takes a while."""

    search: Callable[[Store], T]
