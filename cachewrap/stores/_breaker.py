"""A breaker: a server that does not answer is left alone for a while, and then asked once."""

from __future__ import annotations

import time

from cachewrap.errors import StoreError


class Breaker:
    """Open while its server is left alone; shared by all who talk to that server.

    It needs no lock: two operations that probe at one time do no harm.

    Args:
        place: the server, for messages.
        seconds: how long the server is left alone after an operation that it did not answer.
        probe_seconds: how long one operation may take to probe the server afterwards, while the
            others still leave it alone.
    """

    def __init__(self, place: str, seconds: float, probe_seconds: float) -> None:
        self._place = place
        self._seconds = seconds
        self._probe_seconds = probe_seconds
        self._open_until = 0.0

    def enter(self) -> None:
        """Begin an operation. Raises `StoreError` at once while the breaker is open."""
        if self._open_until:
            now = time.monotonic()
            if now < self._open_until:
                raise StoreError(
                    f"Redis at {self._place} did not answer; it is left alone for"
                    f" {self._seconds:g} seconds at a time"
                )
            self._open_until = now + self._probe_seconds

    def answered(self) -> None:
        """The server answered: every operation may go on."""
        self._open_until = 0.0

    def unanswered(self) -> None:
        """The server could not be reached, or took too long."""
        self._open_until = time.monotonic() + self._seconds
