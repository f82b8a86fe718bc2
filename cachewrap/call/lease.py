"""Leases held by this process, renewed by one thread for as long as their calls are under way."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from cachewrap import systems
from cachewrap.errors import StoreError
from cachewrap.stores.base import Leases

_RENEWALS = 3
"""How often a lease is renewed in the time that it may outlive its last renewal."""


@dataclass(slots=True)
class _Held:
    store: Leases
    key: str
    seconds: float
    due: float
    given_up: bool = False


_held: dict[str, _Held] = {}
# Taken by itself: an interrupt may come in the condition's own `__enter__`, which is Python's.
_lock = threading.RLock()
_changed = threading.Condition(_lock)
_thread: threading.Thread | None = None


def hold(store: Leases, key: str, token: str, seconds: float) -> None:
    """Renew a lease that was just taken, until `drop` or `give_up`, where the store wants that."""
    if not store.renews:
        return
    global _thread
    with _lock:
        _held[token] = _Held(store, key, seconds, time.monotonic() + seconds / _RENEWALS)
        if _thread is None:
            thread = threading.Thread(target=_renew, name="cachewrap-leases", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter ends: the lease may end before its call does
                return
            _thread = thread
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
    global _thread
    while True:
        with _lock:
            while not (due := _due()):
                if not _held:
                    _thread = None
                    return
                _changed.wait(min(held.due for held in _held.values()) - time.monotonic())
        for token, held in due:
            # A store that is down renews nothing; the lease then ends by itself.
            with suppress(StoreError):
                if held.given_up:
                    drop(token)
                    held.store.release(held.key, token)
                else:
                    held.due = time.monotonic() + held.seconds / _RENEWALS
                    if not held.store.renew(held.key, token, held.seconds):
                        drop(token)  # it ended, or its owner was interrupted in giving it back


def _due() -> list[tuple[str, _Held]]:
    now = time.monotonic()
    return [(token, held) for token, held in _held.items() if held.due <= now]


@systems.in_forked_child
def _forget() -> None:
    """In a forked child: the leases are the parent's, and its thread does not exist."""
    global _lock, _changed, _thread
    _lock = threading.RLock()
    _changed = threading.Condition(_lock)
    _thread = None
    _held.clear()
