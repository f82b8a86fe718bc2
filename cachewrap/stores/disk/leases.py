"""Leases of one folder: byte locks on a file, which the system drops when their owner dies."""

from __future__ import annotations

import os
import struct
import threading
import time
from contextlib import suppress

from cachewrap import systems
from cachewrap.stores.base import Claim
from cachewrap.systems import files

SUPPORTED = systems.HAS_LOCKS
"""Whether this system has such locks."""

_FAILED_FOR = 2.0
"""Seconds for which a failure is told."""

_MARK = struct.Struct("<dQ")  # when the call failed, and whose key it was
_MARKS = 2**12
"""Places for marks: a later failure may take the place of an earlier one."""

_LOCKS_AT, _LOCKS = 2**20, 2**30
"""The bytes that are locked lie behind the marks: they need not exist, and take no room."""

_KEPT = 64
"""Files that stay open although this process holds no lease in them."""


class _File:
    """The leases of one file that this process holds.

    A process loses all its locks on a file when it closes any descriptor of it, so it opens each
    file once, and closes it only while it holds none of its leases.
    """

    __slots__ = ("descriptor", "held")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.held: set[int] = set()

    def take(self, number: int) -> Claim:
        lock = _LOCKS_AT + number % _LOCKS
        if lock in self.held:  # the kernel keeps out other processes, and not ourselves
            return Claim.HELD
        try:
            systems.lock_bytes(self.descriptor, systems.TAKE, 1, lock)
        except (BlockingIOError, PermissionError):
            return Claim.FAILED if self._failed(number) else Claim.HELD
        if self._failed(number):  # the mark is made before the lock is dropped
            systems.lock_bytes(self.descriptor, systems.FREE, 1, lock)
            return Claim.FAILED
        self.held.add(lock)
        return Claim.TAKEN

    def give(self, number: int, failed: bool) -> None:
        lock = _LOCKS_AT + number % _LOCKS
        self.held.discard(lock)
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


def take(path: str, key: str, token: str) -> Claim:
    """Try to take the lease of a key; `FileNotFoundError` if its folder does not exist."""
    with _process.lock:
        if (path, key, token) in _process.owners:
            return Claim.TAKEN
        file = _process.file(path)
        claim = file.take(_number(key))
        if claim is Claim.TAKEN:
            _process.owners[path, key, token] = file
        return claim


def owns(path: str, key: str, token: str) -> bool:
    """Whether the lease is this owner's."""
    return (path, key, token) in _process.owners


def give(path: str, key: str, token: str, *, failed: bool) -> None:
    """Give the lease back, if it is this owner's."""
    with _process.lock:
        file = _process.owners.pop((path, key, token), None)
        if file is not None:
            file.give(_number(key), failed)


def close(path: str) -> None:
    """Close the file at the path, unless this process holds a lease in it."""
    with _process.lock, suppress(OSError):  # the folder is gone, or something else by now
        status = files.lstat(path)
        _process.close_idle((status.st_dev, status.st_ino))


def _number(key: str) -> int:
    return int(key[:16], 16)


@systems.in_forked_child
def _after_fork_in_child() -> None:
    """Locks do not cross a fork. Closing what the parent has open leaves the parent's alone."""
    global _process
    inherited, _process = _process, _Process()
    for file in inherited.files.values():
        with suppress(OSError):
            files.close(file.descriptor)
