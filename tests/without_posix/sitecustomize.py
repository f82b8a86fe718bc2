"""A Python without what Windows lacks: put this folder on `PYTHONPATH`.

What is taken away is gone before anything else is imported, in every sub-process as well. Locks are
`msvcrt`'s instead, files that are open cannot be replaced or removed, and `os.write` makes two
bytes of a line break, unless the file was opened with `os.O_BINARY`.
"""

from __future__ import annotations

import errno
import fcntl
import importlib.abc

# These ask at their import what there is, or take a Python that has `msvcrt` for Windows.
import multiprocessing.context
import multiprocessing.popen_spawn_posix
import os
import posix
import shutil
import signal
import struct
import subprocess
import sys
import types
from typing import Any

GONE = """
    O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_SYNC chown chroot fchdir fchmod fchown fork
    forkpty getegid geteuid getgid getgroups getlogin getpgid getpgrp getsid getuid initgroups
    killpg lchown lockf mkfifo mknod openpty posix_fadvise posix_fallocate pread preadv pwrite
    pwritev register_at_fork setegid seteuid setgid setsid setuid statvfs sync
"""
SIGNALS = "SIGALRM SIGHUP SIGKILL SIGPIPE SIGQUIT SIGUSR1 SIGUSR2 SIGXCPU SIGXFSZ alarm setitimer"
MODULES = frozenset({"fcntl", "grp", "pwd", "pty", "resource", "syslog", "termios", "tty"})


class Missing(importlib.abc.MetaPathFinder):
    """Finds none of the modules that Windows has not."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def open_here(path: str) -> bool:
    """Whether this process has a file open."""
    try:
        wanted = stat(path)
    except OSError:
        return False
    for name in listdir("/proc/self/fd"):
        try:
            here = stat(int(name))
            if (wanted.st_ino, wanted.st_dev) == (here.st_ino, here.st_dev):
                return True
        except OSError:
            pass
    return False


def refuse_open(path: Any) -> None:
    """Raise what Windows raises for a file that is open, unless it lets others remove it."""
    if isinstance(path, (str, bytes, os.PathLike)) and open_here(os.fsdecode(path)):
        raise PermissionError(errno.EACCES, "the file is open", os.fsdecode(path))


def whole(name: str) -> Any:
    """The function of `os`, refusing what is open."""
    real = getattr(os, name)

    def guarded(*paths: Any, **given: Any) -> Any:
        for path in paths:
            refuse_open(path)
        return real(*paths, **given)

    return guarded


BINARY = 1 << 30
texts: dict[int, Any] = {}
"""Descriptors that were opened for text, as `os.open` does on Windows, and what they were of."""


def open_file(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    """`os.open`, which opens for text unless it is told otherwise."""
    file = real_open(path, flags & ~BINARY, mode, dir_fd=dir_fd)
    texts.pop(file, None)
    if not flags & BINARY:
        texts[file] = stat(file)
    return file


def write(file: int, data: Any) -> int:
    """`os.write`, with two bytes for a line break where the file was opened for text."""
    if file in texts and os.path.samestat(texts[file], stat(file)):
        real_write(file, bytes(data).replace(b"\n", b"\r\n"))
        return len(data)
    return real_write(file, data)


# In C, where nothing that a test puts in its place is seen.
_lseek = os.lseek


def locking(file: int, how: int, size: int) -> None:
    """`msvcrt.locking`: a lock of the descriptor's, from its position on."""
    reads = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    kind = fcntl.F_UNLCK if how == 0 else fcntl.F_RDLCK if reads else fcntl.F_WRLCK
    at = _lseek(file, 0, os.SEEK_CUR)
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, 0, at, size, 0))
    except BlockingIOError as error:
        raise PermissionError(errno.EACCES, "the file is locked") from error


real_open, real_write, stat, listdir = os.open, os.write, os.stat, os.listdir
os.O_BINARY = BINARY
os.open, os.write = open_file, write
for _name in ("remove", "rename", "replace", "unlink"):
    setattr(os, _name, whole(_name))
for _name in ("open", "write", "remove", "rename", "replace", "unlink"):
    setattr(posix, _name, getattr(os, _name))  # where `os` has them from

_msvcrt = types.ModuleType("msvcrt")
_msvcrt.__dict__.update(locking=locking, LK_UNLCK=0, LK_LOCK=1, LK_NBLCK=2)
sys.modules["msvcrt"] = _msvcrt

# Only `multiprocessing` and `subprocess` keep the signals, by which they end what they started.
subprocess.signal = multiprocessing.popen_fork.signal = types.SimpleNamespace(**vars(signal))
os.supports_dir_fd.clear()
importlib.reload(shutil)  # it chooses by that how it removes a folder
for _name in GONE.split():
    for _module in (os, posix):
        if hasattr(_module, _name):
            delattr(_module, _name)
for _name in SIGNALS.split():
    delattr(signal, _name)
for _name in MODULES:
    sys.modules.pop(_name, None)
sys.meta_path.insert(0, Missing())

for _name in ("fork", "forkserver"):
    del multiprocessing.context._concrete_contexts[_name]
multiprocessing.context._default_context._default_context = (
    multiprocessing.context._concrete_contexts["spawn"]
)
