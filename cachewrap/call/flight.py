"""Flights: the upstream calls under way in this process, which later callers of a request join."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from math import inf
from typing import Any, Final, Protocol

from cachewrap import systems
from cachewrap.loops import host, runs, signal
from cachewrap.systems import clock


@dataclass(frozen=True, slots=True)
class Landing:
    """The end of a flight.

    Args:
        raw: the entry that answers every caller; None if there is none.
        again: whether callers who waited look and board anew (the leader was cancelled, or found
            the answer stored), in place of going upstream themselves.
        opened: whether the response has come and stays open, for every caller to read.
        late: whether it is still to come, and this caller has waited for long enough.
    """

    raw: bytes | None = None
    again: bool = False
    opened: bool = False
    late: bool = False


FAILED: Final = Landing()
AGAIN: Final = Landing(again=True)
OPENED: Final = Landing(opened=True)
LATE: Final = Landing(late=True)

_LONGEST_SLICE: Final = 3600.0
"""Seconds that are waited at once: not every system takes any number."""

_LOOKS: Final = 4
"""How often a wait looks at the leader's event loop in the time for which that may stand still."""


class Flight:
    """One upstream call under way. Its leader lands it, whatever happens.

    Attributes:
        host: what runs the leader, see `loops.runs`.
    """

    __slots__ = (
        *("_callbacks", "_landed", "_lock", "_place", "_thread"),
        *("host", "landing", "waits_for"),
    )

    def __init__(self, place: tuple[str, str]) -> None:
        self._place = place
        self._thread = threading.get_ident()
        self.host: Any = host()
        self._landed = False
        # Reentrant: the garbage collector may land an abandoned flight at any moment.
        self._lock = threading.RLock()
        self._callbacks: dict[Callable[[], None], None] = {}
        self.landing: Landing = FAILED
        # Several at once, where its call asks for several things at once.
        self.waits_for: list[Flight] = []

    def is_led_here(self) -> bool:
        """Whether this call was made inside the leader's: it would wait for itself."""
        return self in leading.get()

    def wait(self, seconds: float = inf, stopped_seconds: float = inf) -> Landing:
        """Wait for the landing, unless it could never come.

        That is so for a sync caller on the leader's own thread, and where the leader waits, be it
        through others, for a call that this one is made inside of.

        Args:
            seconds: how long to wait at most; then it is `LATE`.
            stopped_seconds: how long the leader's event loop may be stopped, while others wait;
                then one of them takes the leader's place.
        """
        if self._thread == threading.get_ident() and not self._landed:
            return FAILED
        inside = leading.get()
        if not self._announce(inside):
            return FAILED
        landed = threading.Event()
        try:
            if self._calls(landed.set):
                watch = _Watch(self, seconds, stopped_seconds)
                while not landed.wait(watch.pause()) and watch.goes_on():
                    pass
        finally:
            self._stop_waiting(inside, landed.set)
        return self.landing if self._landed else LATE

    async def await_landing(self, seconds: float = inf, stopped_seconds: float = inf) -> Landing:
        """`wait` for async callers; cancelling one of them touches nobody else."""
        if self._thread == threading.get_ident() and self.host is not host() and not self._landed:
            # While the caller's event loop runs, nothing else does on its thread.
            if runs(self.host):
                return FAILED
            self.land(AGAIN)
            return AGAIN
        inside = leading.get()
        if not self._announce(inside):
            return FAILED
        wake, woken = signal()
        try:
            if self._calls(wake):
                watch = _Watch(self, seconds, stopped_seconds)
                while not await woken(watch.pause()) and watch.goes_on():
                    pass
        finally:
            self._stop_waiting(inside, wake)
        return self.landing if self._landed else LATE

    def _calls(self, wake: Callable[[], None]) -> bool:
        """Whether the landing is still to come, and calls this."""
        with self._lock:
            if not self._landed:
                self._callbacks[wake] = None
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

    def _stop_waiting(self, inside: tuple[Flight, ...], wake: Callable[[], None]) -> None:
        if not self._landed:
            with self._lock:
                self._callbacks.pop(wake, None)
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
            callbacks, self._callbacks = self._callbacks, {}
        for wake in callbacks:
            wake()


def wait_for_any(
    flights: Sequence[Flight], seconds: float = inf, stopped_seconds: float = inf
) -> list[Landing | None]:
    """Wait until one of several flights lands, or for so long; see `Flight.wait`.

    The result has the landing of each: None where that is still to come, `FAILED` where it could
    never come while this caller waits.
    """
    landed = threading.Event()
    here = threading.get_ident()
    waiting = _WaitForSeveral(
        flights, [one for one in flights if one._thread == here], landed.set, stopped_seconds
    )
    try:
        while waiting.goes_on(seconds) and not landed.wait(waiting.pause()):
            pass
    finally:
        waiting.end()
    return waiting.landings()


async def await_any(
    flights: Sequence[Flight], seconds: float = inf, stopped_seconds: float = inf
) -> list[Landing | None]:
    """`wait_for_any` for async callers."""
    wake, woken = signal()
    here, mine = threading.get_ident(), host()
    never = []
    for one in flights:
        if one._thread == here and one.host is not mine and not one._landed:
            if runs(one.host):
                never.append(one)
            else:
                one.land(AGAIN)
    waiting = _WaitForSeveral(flights, never, wake, stopped_seconds)
    try:
        while waiting.goes_on(seconds) and not await woken(waiting.pause()):
            pass
    finally:
        waiting.end()
    return waiting.landings()


class _WaitForSeveral:
    """One caller's wait for several flights.

    Args:
        flights: the flights.
        never: those of them that cannot land while he waits.
        wake: ends the wait.
        stopped_seconds: see `Flight.wait`.
    """

    __slots__ = ("_end", "_flights", "_inside", "_never", "_stopped", "_wake", "_watches")

    def __init__(
        self,
        flights: Sequence[Flight],
        never: Sequence[Flight],
        wake: Callable[[], None],
        stopped_seconds: float,
    ) -> None:
        self._flights = flights
        self._never = set(never)
        self._wake = wake
        self._stopped = stopped_seconds
        self._inside = leading.get()
        self._watches: list[tuple[Flight, _Watch]] | None = None
        self._end = 0.0

    def goes_on(self, seconds: float) -> bool:
        """Whether there is something to wait for, and time; the first time it begins to wait."""
        if self._watches is not None:
            # All of them: those of one event loop that was stopped land together.
            going = [watch.goes_on() for _, watch in self._watches]
            return all(going) and clock.now() < self._end
        self._end = clock.now() + seconds
        self._watches, ready = [], False
        for one in self._flights:
            if one in self._never:
                continue
            if not one._announce(self._inside):
                self._never.add(one)
                continue
            self._watches.append((one, _Watch(one, inf, self._stopped)))
            ready |= not one._calls(self._wake)
        return not (ready or self._never) and seconds > 0

    def pause(self) -> float:
        """Seconds until the next look."""
        watches = self._watches or ()
        pauses = [watch.pause() for _, watch in watches]
        return max(0.0, min([self._end - clock.now(), *pauses]))

    def end(self) -> None:
        """Wait no more."""
        for one, _ in self._watches or ():
            one._stop_waiting(self._inside, self._wake)

    def landings(self) -> list[Landing | None]:
        """The landing of each flight, as far as it is known."""
        return [
            one.landing if one._landed else FAILED if one in self._never else None
            for one in self._flights
        ]


class _Watch:
    """The watch of one who waits for a flight: over his time, and over the leader's event loop."""

    __slots__ = ("_end", "_flight", "_ran", "_stopped_seconds")

    def __init__(self, flight: Flight, seconds: float, stopped_seconds: float) -> None:
        self._flight = flight
        self._ran = clock.now()  # when the loop was last seen to run
        self._end = self._ran + seconds
        self._stopped_seconds = stopped_seconds

    def pause(self) -> float:
        """Seconds until the next look."""
        left = min(self._end - clock.now(), _LONGEST_SLICE)
        if self._flight.host is not None:
            left = min(left, self._stopped_seconds / _LOOKS)
        return max(left, 0.0)

    def goes_on(self) -> bool:
        """Whether to wait on. A flight whose leader cannot land it any more is landed."""
        now = clock.now()
        if runs(self._flight.host):
            self._ran = now
        elif now - self._ran >= self._stopped_seconds:
            self._flight.land(AGAIN)
        return now < self._end and not self._flight._landed


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
