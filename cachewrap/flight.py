"""Flights: the upstream calls under way in this process, which later callers of a request join."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Landing:
    """How a flight ended.

    Args:
        raw: the entry that answers every caller; None if there is none.
        again: whether callers who waited look and board anew (the leader was cancelled, or found
            the answer stored), in place of going upstream themselves.
    """

    raw: bytes | None = None
    again: bool = False


FAILED: Final = Landing()
AGAIN: Final = Landing(again=True)


class Flight:
    """One upstream call under way. Its leader lands it, whatever happens."""

    __slots__ = ("_callbacks", "_landed", "_lock", "_place", "_thread", "landing")

    def __init__(self, place: tuple[str, str]) -> None:
        self._place = place
        self._thread = threading.get_ident()
        self._landed = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self.landing: Landing = FAILED

    def is_led_here(self) -> bool:
        """Whether this call was made inside the leader's: it would wait for itself."""
        return self in leading.get()

    def wait(self) -> Landing:
        """Wait for the landing; a sync caller on the leader's own thread is not to wait for it."""
        if self._thread == threading.get_ident() and not self._landed.is_set():
            return FAILED
        self._landed.wait()
        return self.landing

    async def await_landing(self) -> Landing:
        """`wait` for async callers; cancelling one of them touches nobody else."""
        loop = asyncio.get_running_loop()
        landed: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            # A caller whose loop has ended waits no more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_finish, landed)

        with self._lock:
            waiting = not self._landed.is_set()
            if waiting:
                self._callbacks.append(wake)
        if waiting:
            await landed
        return self.landing

    def land(self, landing: Landing) -> None:
        """End the flight: everybody who waits goes on."""
        with _lock:
            if _flights.get(self._place) is self:
                del _flights[self._place]
        with self._lock:
            self.landing = landing
            self._landed.set()
            callbacks, self._callbacks = self._callbacks, []
        for wake in callbacks:
            wake()


def _finish(landed: asyncio.Future[None]) -> None:
    if not landed.done():
        landed.set_result(None)


leading: ContextVar[tuple[Flight, ...]] = ContextVar("cachewrap_leading", default=())
"""The flights whose upstream call the current code runs inside of."""

_flights: dict[tuple[str, str], Flight] = {}
_lock = threading.Lock()


def board(place: str, key: str) -> tuple[Flight, bool]:
    """The flight of a key, and whether the caller leads it: a new one if there was none.

    Args:
        place: the partition, as its store's URL.
        key: the key of the request.
    """
    name = (place, key)
    with _lock:
        flight = _flights.get(name)
        if flight is not None:
            return flight, False
        flight = _flights[name] = Flight(name)
        return flight, True


def _ground() -> None:
    """In a forked child the leaders do not exist, and another thread may have held the lock."""
    global _lock
    _lock = threading.Lock()
    _flights.clear()


os.register_at_fork(after_in_child=_ground)
