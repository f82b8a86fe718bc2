"""The breaker: a place that kept a caller waiting in vain is left alone for a while, by all."""

from __future__ import annotations

import threading
import time

from cachewrap import systems
from cachewrap.errors import StoreError


class LeftAlone(Exception):
    """The place is not to be asked now.

    Attributes:
        until: when it may be asked again, in seconds since the epoch.
        error: what was raised when it was asked last, without its traceback.
    """

    def __init__(self, until: float, error: Exception) -> None:
        super().__init__(until, error)
        self.until = until
        self.error = error


class Breaker:
    """The health of one place as this process knows it; all that use the place share it.

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
            LeftAlone: the caller must not ask.
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
        """Open it: the place could not be reached, retries included."""
        kind = type(error)
        kept = kind.__new__(kind, *error.args)  # the traceback would keep the caller's values
        kept.__dict__.update(error.__dict__)  # without which some versions of redis-py show nothing
        with self._lock:
            self._error = kept
            self._next = time.monotonic() + seconds

    def worked(self) -> None:
        """Close it: the place has answered."""
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


def breaker_of(place: str) -> Breaker:
    """The breaker of a place, by any name that tells it from others."""
    return _breakers.setdefault(place, Breaker())


def forget() -> None:
    """Close every breaker of this process."""
    for breaker in list(_breakers.values()):
        breaker.worked()


def left_alone(what: str, left: LeftAlone, why: str) -> StoreError:
    """The error of whoever may not ask now, whose cause is what was raised then.

    Args:
        what: what is left alone.
        left: until when.
        why: what was wrong with it.
    """
    until = time.strftime("%H:%M:%S", time.localtime(left.until))
    return StoreError(
        f"{what} left alone until {until}, because {why}: {type(left.error).__name__}: {left.error}"
    )


@systems.in_forked_child
def _after_fork_in_child() -> None:
    for breaker in list(_breakers.values()):  # another thread of the parent may have held the lock
        breaker._renew_lock()
