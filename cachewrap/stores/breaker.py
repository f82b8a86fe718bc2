"""The breaker: a place that kept a caller waiting in vain is left alone for a while, by all."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from cachewrap import systems
from cachewrap.errors import StoreError
from cachewrap.systems import clock

T = TypeVar("T")


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

    Attributes:
        error: why it is open; None where it is closed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.error: Exception | None = None
        self._next = 0.0  # on the monotonic clock: when somebody may try

    def admit(self, seconds: float) -> bool:
        """Whether the caller tries for all; False if the breaker is closed.

        Raises:
            LeftAlone: the caller must not ask.
        """
        if self.error is None:
            return False
        with self._lock:
            if self.error is None:
                return False
            left = self._next - clock.now()
            if left > 0:
                raise LeftAlone(time.time() + left, self.error)
            self._next = clock.now() + seconds
            return True

    def failed(self, error: Exception, seconds: float) -> None:
        """Open it: the place could not be reached, retries included."""
        kind = type(error)
        kept = kind.__new__(kind, *error.args)  # the traceback would keep the caller's values
        kept.__dict__.update(error.__dict__)  # without which some versions of redis-py show nothing
        with self._lock:
            self.error = kept
            self._next = clock.now() + seconds

    def worked(self) -> None:
        """Close it: the place has answered."""
        if self.error is not None:
            with self._lock:
                self.error = None

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


def is_any_open() -> bool:
    """Whether a place could not be reached when this process asked it last."""
    return any(breaker.error is not None for breaker in list(_breakers.values()))


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


class Watched:
    """A store that does not look after its waits, for the calls of one cache.

    What took longer than it may opens a breaker of the store: one for reads, one for leases, and
    one for writes, as what a write holds was paid for. For async callers that counts only where it
    failed: an event loop that was kept busy says nothing about the store.

    Args:
        store: the store; whatever is not guarded here is its own.
        seconds: how long an operation may take.
        breaker_seconds: for how long the store is left alone.
    """

    def __init__(self, store: Any, seconds: float, breaker_seconds: float) -> None:
        self.store = store
        self._seconds = seconds
        self._breaker_seconds = breaker_seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def get(self, *args: Any, **options: Any) -> Any:
        """`Store.get`."""
        return self._do("read", self.store.get, args, options)

    def add(self, *args: Any, **options: Any) -> Any:
        """`Store.add`."""
        return self._do("write", self.store.add, args, options)

    def set(self, *args: Any, **options: Any) -> Any:
        """`Store.set`."""
        return self._do("write", self.store.set, args, options)

    def acquire(self, *args: Any, **options: Any) -> Any:
        """`Leases.acquire`."""
        return self._do("take a lease in", self.store.acquire, args, options)

    def release(self, *args: Any, **options: Any) -> Any:
        """`Leases.release`. What is left alone keeps its lease until that ends."""
        return self._do("take a lease in", self.store.release, args, options)

    def acquire_and_get(self, *args: Any, **options: Any) -> Any:
        """`Pairs.acquire_and_get`."""
        return self._do("take a lease in", self.store.acquire_and_get, args, options)

    def add_and_release(self, *args: Any, **options: Any) -> Any:
        """`Pairs.add_and_release`."""
        return self._do("write", self.store.add_and_release, args, options)

    async def aget(self, *args: Any, **options: Any) -> Any:
        """`Store.aget`."""
        return await self._ado("read", self.store.aget, args, options)

    async def aadd(self, *args: Any, **options: Any) -> Any:
        """`Store.aadd`."""
        return await self._ado("write", self.store.aadd, args, options)

    async def aset(self, *args: Any, **options: Any) -> Any:
        """`Store.aset`."""
        return await self._ado("write", self.store.aset, args, options)

    async def aacquire(self, *args: Any, **options: Any) -> Any:
        """`Leases.aacquire`."""
        return await self._ado("take a lease in", self.store.aacquire, args, options)

    async def arelease(self, *args: Any, **options: Any) -> Any:
        """`Leases.arelease`."""
        return await self._ado("take a lease in", self.store.arelease, args, options)

    async def aacquire_and_get(self, *args: Any, **options: Any) -> Any:
        """`Pairs.aacquire_and_get`."""
        return await self._ado("take a lease in", self.store.aacquire_and_get, args, options)

    async def aadd_and_release(self, *args: Any, **options: Any) -> Any:
        """`Pairs.aadd_and_release`."""
        return await self._ado("write", self.store.aadd_and_release, args, options)

    def _do(self, doing: str, work: Callable[..., T], args: Any, options: Any) -> T:
        with self._timed(doing, counts=True):
            return work(*args, **options)

    async def _ado(
        self, doing: str, work: Callable[..., Awaitable[T]], args: Any, options: Any
    ) -> T:
        with self._timed(doing, counts=False):
            return await work(*args, **options)

    @contextmanager
    def _timed(self, doing: str, counts: bool) -> Iterator[None]:
        place = self.store.url
        breaker = breaker_of(f"{doing} {place}")
        try:
            trying = breaker.admit(self._breaker_seconds)
        except LeftAlone as left:
            raise left_alone(f"cannot {doing} {place}: it is", left, "it was slow") from left.error
        began = clock.now()
        try:
            yield
        except Exception as error:
            if clock.now() - began > self._seconds:
                breaker.failed(error, self._breaker_seconds)
            elif trying:
                breaker.undecided()
            raise
        except BaseException:
            if trying:
                breaker.undecided()
            raise
        took = clock.now() - began
        if counts and took > self._seconds:
            breaker.failed(TimeoutError(f"it took {took:.1f} s"), self._breaker_seconds)
        else:
            breaker.worked()


def unwatched(store: Any) -> Any:
    """The store itself, for what is no call's: a search through all of its entries."""
    return store.store if isinstance(store, Watched) else store


@systems.in_forked_child
def _after_fork_in_child() -> None:
    for breaker in list(_breakers.values()):  # another thread of the parent may have held the lock
        breaker._renew_lock()
