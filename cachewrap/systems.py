"""Systems, where they differ: forks, which Windows has not, and files that several processes use.

POSIX systems lock files with `fcntl`. Windows locks bytes with `msvcrt`, which keeps others from
reading them: so what is locked lies behind everything that is read. A system that has neither
locks nothing. Only POSIX systems replace or remove a file that somebody has open.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final, TypeVar

F = TypeVar("F", bound=Callable[[], object])


def _module(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        return None


_fcntl: Final = _module("fcntl")
_msvcrt: Final = None if _fcntl else _module("msvcrt")
_register: Final[Any] = getattr(os, "register_at_fork", None)

HAS_FORKS: Final = _register is not None
"""Whether a process can be forked, or take the place of another."""

HAS_LOCKS: Final = bool(_fcntl or _msvcrt)
"""Whether one process can keep another from a file."""

REPLACES_OPEN: Final = bool(_fcntl)
"""Whether a file that is open can be replaced and removed."""

_BINARY: Final[int] = getattr(os, "O_BINARY", 0)  # else Windows writes two bytes for a line break
_NOFOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)

_WHOLE_AT: Final = 2**31 - 2
"""The byte that stands for a whole file where bytes are locked: the last one that can be."""

_PAUSE: Final = 0.005
"""Seconds between two attempts to lock, where the system itself waits a second."""

# -- forks ------------------------------------------------------------------------------------


def in_forked_child(work: F) -> F:
    """Call a function first of all in every forked child; also a decorator."""
    if _register is not None:
        _register(after_in_child=work)
    return work


def around_fork(
    before: Callable[[], object], in_parent: Callable[[], object], in_child: Callable[[], object]
) -> None:
    """Call one function before every fork, in the thread that forks, and one on each side after."""
    if _register is not None:
        _register(before=before, after_in_parent=in_parent, after_in_child=in_child)


def renew_in_child(module: dict[str, Any], **makers: Callable[[], object]) -> None:
    """Make globals of a module anew in every forked child: locks, above all.

    Another thread may have held a lock at the fork, and in the child nobody would release it. It is
    replaced and not freed: the code that forks may be inside it. To all others it is a plain global
    that costs what any other does.

    Args:
        module: the ``globals()`` of the module.
        makers: what makes each of them, by its name.
    """
    in_forked_child(lambda: module.update({name: make() for name, make in makers.items()}))


# -- files ------------------------------------------------------------------------------------


def open_file(path: str, flags: int, mode: int, *, follows: bool = True) -> int:
    """Open a file as `os.open` does, for bytes that are written as they are.

    Args:
        path: the file.
        flags: as `os.open` takes them.
        mode: its permissions, if it is made now, where the system has such.
        follows: whether the file may be a link to another.
    """
    return os.open(path, flags | _BINARY | (0 if follows else _NOFOLLOW), mode)


def append(path: str, data: bytes, *, follows: bool = True) -> None:
    """Add bytes to the end of a file, in one piece. It is made for its owner alone."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    file = open_file(path, flags, 0o600, follows=follows)
    try:
        # One write is whole where the system itself appends.
        with nullcontext() if _fcntl else locked(file, alone=True):
            os.write(file, data)
    finally:
        os.close(file)


@contextmanager
def locked(file: int, *, alone: bool) -> Iterator[None]:
    """The lock on a whole open file: others that lock it wait.

    Args:
        file: the open file.
        alone: whether others who lock it, but not alone, wait as well. On Windows everybody does.
    """
    if _fcntl:
        _fcntl.flock(file, _fcntl.LOCK_EX if alone else _fcntl.LOCK_SH)
    elif _msvcrt:
        while not _is_taken(file):
            time.sleep(_PAUSE)
    try:
        yield
    finally:
        # Not by closing alone: a child forked meanwhile has the open file as well.
        if _fcntl:
            _fcntl.flock(file, _fcntl.LOCK_UN)
        elif _msvcrt:
            lock_bytes(file, FREE, 1, _WHOLE_AT)


def _is_taken(file: int) -> bool:
    try:
        lock_bytes(file, TAKE, 1, _WHOLE_AT)
    except PermissionError:
        return False
    return True


def _lock_bytes(file: int, how: int, size: int, at: int) -> None:
    if _msvcrt:
        with _standing(file, at):
            _msvcrt.locking(file, how, size)


def _read_at(file: int, size: int, at: int) -> bytes:
    with _standing(file, at):
        return os.read(file, size)


def _write_at(file: int, data: bytes, at: int) -> int:
    with _standing(file, at):
        return os.write(file, data)


@contextmanager
def _standing(file: int, at: int) -> Iterator[None]:
    # The way back lets the garbage collector come in between, with a lease of its own to end.
    before = os.lseek(file, 0, os.SEEK_CUR)
    os.lseek(file, at, os.SEEK_SET)
    try:
        yield
    finally:
        os.lseek(file, before, os.SEEK_SET)


TAKE: Final[int] = _fcntl.LOCK_EX | _fcntl.LOCK_NB if _fcntl else getattr(_msvcrt, "LK_NBLCK", 0)
FREE: Final[int] = _fcntl.LOCK_UN if _fcntl else getattr(_msvcrt, "LK_UNLCK", 0)

# The functions of the system itself, where it has them: they are in the way of every miss on disk.
lock_bytes: Final[Callable[[int, int, int, int], object]] = getattr(_fcntl, "lockf", _lock_bytes)
"""Take or free (`TAKE`, `FREE`) so many bytes of an open file from a position on, without waiting.

Where another process has them, `BlockingIOError` or `PermissionError` is raised. The lock ends with
its process. On POSIX systems it is the process's: closing any descriptor of the file ends it.
Elsewhere it is the descriptor's.
"""

read_at: Final[Callable[[int, int, int], bytes]] = getattr(os, "pread", _read_at)
"""Up to so many bytes of an open file from a position on. Its own position stays."""

write_at: Final[Callable[[int, bytes, int], int]] = getattr(os, "pwrite", _write_at)
"""Write a few bytes at a position of an open file. Its own position stays."""
