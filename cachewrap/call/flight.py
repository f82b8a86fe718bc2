"""Flights: the upstream calls under way in this process, which later callers of a request join."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol

from cachewrap import systems
from cachewrap.loops import signal


@dataclass(frozen=True, slots=True)
class Landing:
    """The end of a flight.

    Args:
        raw: the entry that answers every caller; None if there is none.
        again: whether callers who waited look and board anew (the leader was cancelled, or found
            the answer stored), in place of going upstream themselves.
        opened: whether the response has come and stays open, for every caller to read.
    """

    raw: bytes | None = None
    again: bool = False
    opened: bool = False


FAILED: Final = Landing()
AGAIN: Final = Landing(again=True)
OPENED: Final = Landing(opened=True)


class Flight:
    """One upstream call under way. Its leader lands it, whatever happens."""

    __slots__ = ("_callbacks", "_landed", "_lock", "_place", "_thread", "landing", "waits_for")

    def __init__(self, place: tuple[str, str]) -> None:
        self._place = place
        self._thread = threading.get_ident()
        self._landed = False
        # Reentrant: the garbage collector may land an abandoned flight at any moment.
        self._lock = threading.RLock()
        self._callbacks: list[Callable[[], None]] = []
        self.landing: Landing = FAILED
        # Several at once, where its call asks for several things at once.
        self.waits_for: list[Flight] = []

    def is_led_here(self) -> bool:
        """Whether this call was made inside the leader's: it would wait for itself."""
        return self in leading.get()

    def wait(self) -> Landing:
        """Wait for the landing, unless it could never come.

        That is so for a sync caller on the leader's own thread, and where the leader waits, be it
        through others, for a call that this one is made inside of.
        """
        if self._thread == threading.get_ident() and not self._landed:
            return FAILED
        inside = leading.get()
        if not self._announce(inside):
            return FAILED
        landed = threading.Event()
        try:
            if self._calls(landed.set):
                landed.wait()
        finally:
            self._stop_waiting(inside)
        return self.landing

    async def await_landing(self) -> Landing:
        """`wait` for async callers; cancelling one of them touches nobody else."""
        inside = leading.get()
        if not self._announce(inside):
            return FAILED
        wake, woken = signal()
        try:
            if self._calls(wake):
                await woken()
        finally:
            self._stop_waiting(inside)
        return self.landing

    def _calls(self, wake: Callable[[], None]) -> bool:
        """Whether the landing is still to come, and calls this."""
        with self._lock:
            if not self._landed:
                self._callbacks.append(wake)
            return not self._landed

    def _announce(self, inside: tuple[Flight, ...]) -> bool:
        """Say that the flights we are inside of wait for this one; False if it waits for them."""
        if not inside:
            return True
        with _lock:
            if self._waits_for_any(inside):
                return False
            for flight in inside:
                flight.waits_for.append(self)
        return True

    def _waits_for_any(self, flights: tuple[Flight, ...]) -> bool:
        # A function of its own: in Python 3.13.0 an interrupt in the jump back of a loop under
        # `with` can leave the lock held.
        ahead: list[Flight] = [self]
        known: set[Flight] = {self}
        while ahead:
            flight = ahead.pop()
            if flight in flights:
                return True
            ahead += [other for other in flight.waits_for if other not in known]
            known.update(ahead)
        return False

    def _stop_waiting(self, inside: tuple[Flight, ...]) -> None:
        with _lock:
            for flight in inside:
                flight.waits_for.remove(self)

    def land(self, landing: Landing) -> None:
        """End the flight: everybody who waits goes on."""
        with _lock:
            if _flights.get(self._place) is self:
                del _flights[self._place]
        with self._lock:
            self.landing = landing
            self._landed = True
            callbacks, self._callbacks = self._callbacks, []
        for wake in callbacks:
            wake()


class Reader(Protocol):
    """One caller's place in a response that stays open, from the moment that it is asked for."""

    @property
    def flight(self) -> Flight:
        """Lands when the response has come, or when it will not."""
        ...

    def land(self, landing: Landing) -> None:
        """The leader's call is over: where no response came of it, the flight lands."""
        ...

    def begin(self) -> bool:
        """Begin to read what has come; False where a new caller does better to ask anew."""
        ...

    def drop(self) -> None:
        """Leave without closing anything, where nothing can be waited for any more."""
        ...

    def close(self) -> None:
        """Leave; the last reader closes the response."""
        ...

    async def aclose(self) -> None:
        """`close` for async callers."""
        ...


leading: ContextVar[tuple[Flight, ...]] = ContextVar("cachewrap_leading", default=())
"""The flights whose upstream call the current code runs inside of."""

_flights: dict[tuple[str, str], Flight] = {}
_lock = threading.RLock()


def board(place: str, key: str) -> tuple[Flight, bool] | None:
    """The flight of a key, and whether the caller leads it: a new one if there was none.

    It is None for a call made inside the leader's: it would wait for itself.

    Args:
        place: the partition, as its store's URL.
        key: the key of the request.
    """
    name = (place, key)
    new = Flight(name)
    with _lock:
        flight = _flights.setdefault(name, new)
    if flight is new:
        return flight, True
    return None if flight.is_led_here() else (flight, False)


@systems.in_forked_child
def _ground() -> None:
    """In a forked child the leaders do not exist, and another thread may have held the lock."""
    global _lock
    _lock = threading.RLock()
    _flights.clear()
