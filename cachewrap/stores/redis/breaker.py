"""A breaker: a server that cannot be reached is left alone for a while, then asked again, once."""

from __future__ import annotations

import threading
import time

from cachewrap import systems


class LeftAlone(Exception):
    """The server is not to be asked now.

    Attributes:
        until: when it may be asked again, in seconds since the epoch.
        error: what the client library said when it was asked last, without its traceback.
    """

    def __init__(self, until: float, error: Exception) -> None:
        super().__init__(until, error)
        self.until = until
        self.error = error


class Breaker:
    """The health of one server as this process knows it; every client of the server shares it.

    It is closed at first. `failed` opens it, and nobody is admitted until ``seconds`` seconds
    have passed. Then one caller is, to try for all: `worked` closes the breaker, `failed` opens it
    for as long again, and `undecided` lets the next caller try.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: Exception | None = None
        self._next = 0.0  # on the monotonic clock: when somebody may try

    def admit(self, seconds: float) -> bool:
        """Whether the caller tries for all; False if the breaker is closed.

        Raises:
            LeftAlone: the caller must not ask the server.
        """
        if self._error is None:
            return False
        with self._lock:
            if self._error is None:
                return False
            left = self._next - time.monotonic()
            if left > 0:
                raise LeftAlone(time.time() + left, self._error)
            self._next = time.monotonic() + seconds
            return True

    def failed(self, error: Exception, seconds: float) -> None:
        """Open it: the server could not be reached, retries included."""
        kind = type(error)
        kept = kind.__new__(kind, *error.args)  # the traceback would keep the caller's values
        kept.__dict__.update(error.__dict__)  # without which some versions of redis-py show nothing
        with self._lock:
            self._error = kept
            self._next = time.monotonic() + seconds

    def worked(self) -> None:
        """Close it: the server has answered."""
        if self._error is not None:
            with self._lock:
                self._error = None

    def undecided(self) -> None:
        """Let the next caller try: the one that tried for all was cancelled."""
        with self._lock:
            self._next = 0.0

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()


_breakers: dict[str, Breaker] = {}


def breaker_of(server: str) -> Breaker:
    """The breaker of a server, by any name that tells it from others."""
    return _breakers.setdefault(server, Breaker())


def forget() -> None:
    """Close every breaker of this process."""
    for breaker in list(_breakers.values()):
        breaker.worked()


@systems.in_forked_child
def _after_fork_in_child() -> None:
    for breaker in _breakers.values():  # another thread of the parent may have held the lock
        breaker._renew_lock()
