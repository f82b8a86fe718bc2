"""Leases among the processes of one machine: locks of single bytes that the kernel gives back."""

from __future__ import annotations

import os
import struct
import sys
import threading
import time
from typing import Final

from cachewrap.stores.base import Claim

if sys.platform != "win32":
    import fcntl

_PLACES: Final = 2**20
_MARK: Final = struct.Struct("<d")
_FAILED_FOR: Final = 2.0
"""Seconds for which a failed call is told to those who waited for it."""


class Locks:
    """The leases of one folder, as locks of single bytes in one file of it.

    The kernel gives a lock back when its process dies, whatever killed it, and does not hand it to
    a forked child. One key in a million shares its byte with a given other one: a call then waits
    for that one, too.

    A process loses every lock of a file when it closes any descriptor of it, so each file is
    opened once in a process, and stays open.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()
        self._held: dict[int, str] = {}

    def acquire(self, key: str, token: str) -> Claim:
        """Try to take the lock of a key."""
        place = _place(key)
        with self._lock:
            # The kernel's locks are the process's: they do not keep its own threads apart, and
            # a call may be made inside the one that has the lock, and must not wait for it.
            if place in self._held:
                return Claim.FAILED
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except (BlockingIOError, PermissionError):
                return Claim.HELD
            mark = os.pread(self._file, _MARK.size, place)
            if len(mark) == _MARK.size and 0 <= time.time() - _MARK.unpack(mark)[0] < _FAILED_FOR:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)
                return Claim.FAILED
            self._held[place] = token
            return Claim.TAKEN

    def release(self, key: str, token: str, failed: bool) -> None:
        """Give the lock of a key back, if this owner has it."""
        place = _place(key)
        with self._lock:
            if self._held.get(place) != token:
                return
            if failed:
                os.pwrite(self._file, _MARK.pack(time.time()), place)
            del self._held[place]
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)


def _place(key: str) -> int:
    return int(key[:15], 16) % _PLACES * _MARK.size


_open: dict[str, Locks] = {}
_opening = threading.Lock()


def locks(folder: str) -> Locks | None:
    """The leases of a folder that exists; None on a system without such locks."""
    if sys.platform == "win32":
        return None
    path = os.path.join(os.path.realpath(folder), "leases")
    with _opening:
        known = _open.get(path)
        if known is None or not os.path.exists(path):  # the folder may have been deleted
            known = _open[path] = Locks(path)
        return known


def _begin_anew() -> None:
    """In a forked child: the locks are the parent's, and another thread may have held ours."""
    global _opening
    _opening = threading.Lock()
    for known in _open.values():
        known._lock = threading.Lock()
        known._held = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
