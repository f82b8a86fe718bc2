"""Leases held by this process, renewed by one thread for as long as their calls are under way."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import Any
from weakref import WeakValueDictionary

from cachewrap import systems
from cachewrap.errors import StoreError
from cachewrap.loops import runs
from cachewrap.stores.base import Leases
from cachewrap.systems import clock

_RENEWALS = 3
"""How often a lease is renewed in the time that it may outlive its last renewal."""


@dataclass(slots=True)
class Lease:
    """The lease of a flight's leader.

    Args:
        key: its key.
        token: its owner.
        paired: whether what is stored under its key is read and written with it.
        held: whether it is to be given back.
        opened: whether a response that stays open has it by now, and gives it back.
    """

    key: str
    token: str
    paired: bool
    held: bool = False
    opened: bool = False


class Pulse:
    """The pulse of an open response: what runs its reader, and whether he reads.

    Attributes:
        idle_for: gives what tells for how many seconds he does not; None once that is gone.
    """

    __slots__ = ("_host", "idle_for")

    def __init__(self, host: Any) -> None:
        self._host = host
        self.idle_for: Callable[[], Callable[[], float] | None] | None = None

    def is_running(self) -> bool:
        """See `loops.runs`."""
        return runs(self._host)

    def is_idle(self, seconds: float) -> bool:
        """Whether nothing was read for as long, or nobody can read any more."""
        if self.idle_for is None:  # it is still to come
            return False
        idle_for = self.idle_for()
        return idle_for is None or idle_for() >= seconds


@dataclass(slots=True, weakref_slot=True)
class OpenLease(Lease):
    """The lease of a response that stays open: it goes with that, where nobody closes it.

    Args:
        give_up: releases it, given its key and token, without waiting for it.
        pulse: of the response.
        over: whether upstream has ended the response, in whatever way. Where nothing is stored of
            it, who waits then asks at once; else one of them takes the place of who left.
    """

    give_up: Callable[[str, str], None] = lambda key, token: None
    pulse: Pulse = field(default_factory=lambda: Pulse(None))
    over: bool = False

    def __post_init__(self) -> None:
        _open[self.token] = self

    def drop(self) -> None:
        """Give it up. A finaliser does so too."""
        if self.held:
            self.held = False
            self.give_up(self.key, self.token)

    def __del__(self) -> None:
        self.drop()


_open: WeakValueDictionary[str, OpenLease] = WeakValueDictionary()


@dataclass(slots=True)
class _Held:
    store: Leases
    key: str
    seconds: float
    due: float
    until: float
    host: Any
    given_up: bool = False


_held: dict[str, _Held] = {}
# Taken by itself: an interrupt may come in the condition's own `__enter__`, which is Python's.
_lock = threading.RLock()
_changed = threading.Condition(_lock)
_made_by: object = threading.Lock  # `RLock` stays what it is, and gives others
_thread: threading.Thread | None = None
_wakes = 0.0
"""When the thread looks again by itself."""


def hold(
    store: Leases, key: str, token: str, seconds: float, most: float = inf, host: Any = None
) -> None:
    """Renew a lease that was just taken, until `drop` or `give_up`, where the store wants that.

    Args:
        store: has the lease.
        key: its key.
        token: its owner.
        seconds: how long it may outlive its last renewal.
        most: how long it is renewed: others do not wait for ever.
        host: what runs its owner, see `loops.runs`, or its `Pulse`. While that is stopped it is not
            renewed; of an open response that nobody reads it is released.
    """
    if not store.renews:
        return
    global _thread
    if _made_by is not threading.Lock:
        _make_anew()
    now = clock.now()
    held = _Held(store, key, seconds, now + seconds / _RENEWALS, now + most, host)
    with _lock:
        _held[token] = held
        if _thread is None:
            thread = threading.Thread(target=_renew, name="cachewrap-leases", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter ends: the lease may end before its call does
                return
            _thread = thread
        elif held.due < _wakes:
            _changed.notify()


def drop(token: str) -> None:
    """Renew a lease no more: its owner releases it."""
    if token not in _held:  # its store wants none renewed
        return
    with _lock:
        _held.pop(token, None)


def give_up(store: Leases, key: str, token: str) -> None:
    """Release a lease whose owner can do nothing any more, without waiting for it."""
    with _lock:
        held = _held.get(token)
        if held is not None:
            held.given_up, held.due = True, 0.0
            _changed.notify()
            return
    with suppress(StoreError):
        store.release(key, token)


def _renew() -> None:
    while (due := _next_due()) is not None:
        for token, held in due:
            # A store that is down renews nothing; the lease then ends by itself.
            with suppress(StoreError):
                if held.given_up or _is_idle(held):
                    drop(token)
                    held.store.release(held.key, token)
                    continue
                now = clock.now()
                held.due = now + held.seconds / _RENEWALS
                if now >= held.until:
                    drop(token)
                elif runs(held.host) and not held.store.renew(held.key, token, held.seconds):
                    drop(token)  # it ended, or its owner was interrupted in giving it back


def _is_idle(held: _Held) -> bool:
    return isinstance(held.host, Pulse) and held.host.is_idle(held.seconds)


def _next_due() -> list[tuple[str, _Held]] | None:
    """Wait for leases that are due, and give them; None where none is held any more."""
    global _thread, _wakes
    with _lock:
        while not (due := _due()):
            if not _held:
                _thread = None
                return None
            _wakes = min(held.due for held in _held.values())
            _changed.wait(min(_wakes - clock.now(), threading.TIMEOUT_MAX))
        return due


def _due() -> list[tuple[str, _Held]]:
    now = clock.now()
    return [(token, held) for token, held in _held.items() if held.due <= now]


def _end_idle_thread() -> None:
    """Before a fork: a process of one thread is forked as one."""
    with _lock:
        thread = None if _held else _thread
        _changed.notify()
    if thread is not None:
        thread.join(1.0)


def _forget() -> None:
    """In a forked child: the leases are the parent's, and its thread does not exist."""
    _make_anew()
    _held.clear()
    for lease in list(_open.values()):
        lease.held = False


@atexit.register
def _finish() -> None:
    """An interpreter that ends gives up the leases of responses that nobody has closed."""
    for lease in list(_open.values()):
        lease.drop()
    with _lock:
        given_up = [(token, held) for token, held in _held.items() if held.given_up]
    for token, held in given_up:
        drop(token)
        with suppress(StoreError):
            held.store.release(held.key, token)


def _make_anew() -> None:
    """Begin with a lock of the kind that there is by now.

    Greenlets do not keep each other out of one from before `gevent.monkey.patch_all()`.
    """
    global _lock, _changed, _made_by, _thread
    _made_by = threading.Lock
    _lock = threading.RLock()
    _changed = threading.Condition(_lock)
    _thread = None


systems.around_fork(_end_idle_thread, lambda: None, _forget)
