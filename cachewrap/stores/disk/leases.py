"""Leases of one folder: byte locks on a file, which the system drops when their owner dies.

An owner that is stopped keeps its locks. So it stamps a lease whenever it renews it, and one whose
stamp stays the same for too long is not waited for. Whoever waits measures that by his own clock:
those of other hosts, and jumps of the time, do not matter.
"""

from __future__ import annotations

import itertools
import os
import struct
import threading
import time
from contextlib import suppress

from cachewrap import systems
from cachewrap.stores.base import Claim, of_one_process
from cachewrap.systems import clock, files

SUPPORTED = systems.HAS_LOCKS
"""Whether this system has such locks."""

_FAILED_FOR = 2.0
"""Seconds for which a failure is told."""

_MARK = struct.Struct("<dQ")  # when the call failed, and whose key it was
_MARKS = 2**12
"""Places for marks: a later failure may take the place of an earlier one."""

_STAMP = struct.Struct("<QQ")  # another one at each renewal, and whose key it is
_STAMPS_AT, _STAMPS = 2**16, 2**13
"""Places for stamps, behind the marks: the lease of another key may take the place of one."""

_WATCHED = 2**12
"""Callers who wait, of whom it is remembered what they saw."""

_LOCKS_AT, _LOCKS = 2**20, 2**30
"""The bytes that are locked lie behind all that: they need not exist, and take no room."""

_KEPT = 64
"""Files that stay open although this process holds no lease in them."""


class _File:
    """The leases of one file that this process holds.

    A process loses all its locks on a file when it closes any descriptor of it, so it opens each
    file once, and closes it only while it holds none of its leases.
    """

    __slots__ = ("descriptor", "held", "watched")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.held: dict[int, str] = {}
        self.watched: dict[str, tuple[bytes, float]] = {}

    def take(self, number: int, token: str, seconds: float) -> Claim:
        lock = _LOCKS_AT + number % _LOCKS
        owner = self.held.get(lock)
        if owner is not None:  # the kernel keeps out other processes, and not ourselves
            if of_one_process(owner, token):
                return Claim.FAILED
            return self._watch(number, token, seconds)
        try:
            systems.lock_bytes(self.descriptor, systems.TAKE, 1, lock)
        except (BlockingIOError, PermissionError):
            if self._failed(number):
                return Claim.FAILED
            return self._watch(number, token, seconds)
        if self._failed(number):  # the mark is made before the lock is dropped
            systems.lock_bytes(self.descriptor, systems.FREE, 1, lock)
            return Claim.FAILED
        self.held[lock] = token
        return Claim.TAKEN

    def stamp(self, number: int) -> None:
        """Say that the owner of a lease lives."""
        stamp = _STAMP.pack(next(_process.stamps), number)
        at = _STAMPS_AT + number % _STAMPS * _STAMP.size
        with suppress(OSError):  # the disk is full: then it looks like one that is not renewed
            systems.write_at(self.descriptor, stamp, at)

    def _watch(self, number: int, token: str, seconds: float) -> Claim:
        """Whether a lease of another owner is renewed, by what this caller saw of it so far."""
        at = _STAMPS_AT + number % _STAMPS * _STAMP.size
        stamp, now = systems.read_at(self.descriptor, _STAMP.size, at), clock.now()
        seen, since = self.watched.pop(token, (stamp, now))
        if stamp != seen and stamp[8:] == number.to_bytes(8, "little"):
            seen, since = stamp, now
        if now - since >= seconds:
            return Claim.FAILED
        if len(self.watched) >= _WATCHED:  # the first of them has waited longest, or has gone
            del self.watched[next(iter(self.watched))]
        self.watched[token] = seen, since
        return Claim.HELD

    def give(self, number: int, failed: bool) -> None:
        lock = _LOCKS_AT + number % _LOCKS
        self.held.pop(lock, None)
        try:
            if failed:
                mark = _MARK.pack(time.time(), number)
                systems.write_at(self.descriptor, mark, number % _MARKS * _MARK.size)
        finally:
            systems.lock_bytes(self.descriptor, systems.FREE, 1, lock)

    def _failed(self, number: int) -> bool:
        mark = systems.read_at(self.descriptor, _MARK.size, number % _MARKS * _MARK.size)
        if len(mark) < _MARK.size:
            return False
        when, whose = _MARK.unpack(mark)
        return whose == number and bool(0 <= time.time() - when < _FAILED_FOR)


class _Process:
    """Every lease of this process. A forked child starts with none."""

    def __init__(self) -> None:
        # Reentrant: the garbage collector may end an abandoned call, and its lease, at any moment.
        self.lock = threading.RLock()
        self.files: dict[tuple[int, int], _File] = {}
        self.owners: dict[tuple[str, str, str], _File] = {}
        self.stamps = itertools.count(int.from_bytes(os.urandom(4), "big"))

    def file(self, path: str) -> _File:
        """The file at the path, by its identity: it may have other names, or be a new one."""
        try:
            status = files.lstat(path)
        except FileNotFoundError:
            pass
        else:
            if known := self.files.get((status.st_dev, status.st_ino)):
                return known
        if len(self.files) >= _KEPT:
            self.close_idle()
        descriptor = systems.open_file(path, os.O_RDWR | os.O_CREAT, 0o600, follows=False)
        status = files.fstat(descriptor)
        return self.files.setdefault((status.st_dev, status.st_ino), _File(descriptor))

    def close_idle(self, only: tuple[int, int] | None = None) -> None:
        for identity, file in list(self.files.items()):
            if not file.held and only in (None, identity):
                del self.files[identity]
                files.close(file.descriptor)


_process = _Process()


def take(path: str, key: str, token: str, seconds: float) -> Claim:
    """Try to take the lease of a key; `FileNotFoundError` if its folder does not exist.

    What another owner holds, and has not renewed in ``seconds`` for which this one asks for it, has
    `FAILED`.
    """
    with _process.lock:
        if (path, key, token) in _process.owners:
            return Claim.TAKEN
        file = _process.file(path)
        claim = file.take(int(key[:16], 16), token, seconds)
        if claim is Claim.TAKEN:
            _process.owners[path, key, token] = file
        return claim


def renew(path: str, key: str, token: str) -> bool:
    """Say that the owner of a lease lives; whether it is his."""
    with _process.lock:
        file = _process.owners.get((path, key, token))
        if file is not None:
            file.stamp(int(key[:16], 16))
        return file is not None


def give(path: str, key: str, token: str, *, failed: bool) -> None:
    """Give the lease back, if it is this owner's."""
    with _process.lock:
        file = _process.owners.pop((path, key, token), None)
        if file is not None:
            file.give(int(key[:16], 16), failed)


def close(path: str) -> None:
    """Close the file at the path, unless this process holds a lease in it."""
    with _process.lock, suppress(OSError):  # the folder is gone, or something else by now
        status = files.lstat(path)
        _process.close_idle((status.st_dev, status.st_ino))


@systems.in_forked_child
def _after_fork_in_child() -> None:
    """Locks do not cross a fork. Closing what the parent has open leaves the parent's alone."""
    global _process
    inherited, _process = _process, _Process()
    for file in inherited.files.values():
        with suppress(OSError):
            files.close(file.descriptor)
