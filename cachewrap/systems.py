"""Systems, where they differ: forks, files that several processes use; and the clock of waits.

POSIX systems lock files with `fcntl`. Windows locks bytes with `msvcrt`, which keeps others from
reading them: so what is locked lies behind everything that is read. A system that has neither
locks nothing. Only POSIX systems replace or remove a file that somebody has open.
"""

from __future__ import annotations

import errno
import io
import os
import stat as modes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, BinaryIO, Final, TypeVar

C = TypeVar("C", bound=Callable[..., Any])
F = TypeVar("F", bound=Callable[[], object])


def _module(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        return None


_fcntl: Final = _module("fcntl")
_msvcrt: Final = None if _fcntl else _module("msvcrt")
_system: Final = _module(os.name)  # `posix` or `nt`, where the functions of `os` are from
_register: Final[Any] = getattr(os, "register_at_fork", None)

HAS_FORKS: Final = _register is not None
"""Whether a process can be forked, or take the place of another."""

HAS_LOCKS: Final = bool(_fcntl or _msvcrt)
"""Whether one process can keep another from a file."""

REPLACES_OPEN: Final = bool(_fcntl)
"""Whether a file that is open can be replaced and removed."""

_BINARY: Final[int] = getattr(os, "O_BINARY", 0)  # else Windows writes two bytes for a line break
_NOFOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
_NONBLOCK: Final[int] = getattr(os, "O_NONBLOCK", 0)  # else a FIFO waits for its other end

_WHOLE_AT: Final = 2**31 - 2
"""The byte that stands for a whole file where bytes are locked: the last one that can be."""

_PAUSES: Final = (0.0005, 0.01)
"""Seconds between two attempts to lock a file: at first, and at last."""

LOCK_SECONDS: Final = 2.0
"""Seconds for which a lock on a file is waited for, where nothing else is said."""

# -- time ------------------------------------------------------------------------------------


class Clock:
    """The clock of waits. It stays out of modules, where tools that freeze the time look."""

    def __init__(self) -> None:
        self.now = time.monotonic


clock: Final = Clock()
"""Seconds that pass, whatever happens to the time of day."""


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


_PIECE: Final = 2**16

_MOST_LINKS: Final = 40
"""Links in one path that are followed: others lead in a circle."""


def _own(name: str, here: C) -> C:
    """A function of `os`, past whoever has put another one in its place."""
    own: C = getattr(_system, name, here)
    return own


class Files:
    """The files of the system, whatever a test puts in the place of `open` and of parts of `os`.

    The functions are the system's own, from where `os` has them as well, or else those of the time
    of the import. They are the attributes of an object and not of a module, where tools that fake a
    file system look for them.
    """

    def __init__(self) -> None:
        self.access = _own("access", os.access)
        self.chmod = _own("chmod", os.chmod)
        self.close = _own("close", os.close)
        self.expanduser = os.path.expanduser
        self.expandvars = os.path.expandvars
        self.fstat = _own("fstat", os.fstat)
        self.fsync = _own("fsync", os.fsync)
        self.ftruncate = _own("ftruncate", os.ftruncate)
        self.getcwd = _own("getcwd", os.getcwd)
        self.listdir = _own("listdir", os.listdir)
        self.lseek = _own("lseek", os.lseek)
        self.lstat = _own("lstat", os.lstat)
        self.mkdir = _own("mkdir", os.mkdir)
        self.open = _own("open", os.open)
        self.read = _own("read", os.read)
        self.readlink = _own("readlink", os.readlink)
        self.replace = _own("replace", os.replace)
        self.rmdir = _own("rmdir", os.rmdir)
        self._realpath = os.path.realpath
        self.stat = _own("stat", os.stat)
        self.stream = io.open
        self.unlink = _own("unlink", os.unlink)
        self.user: Callable[[], int] | None = getattr(os, "geteuid", None)
        self.write = _own("write", os.write)

    def real_path(self, path: str) -> str:
        """An absolute path without links."""
        if os.name == "nt":
            return self._realpath(path)
        found, rest, links = "/", path.split("/")[::-1], 0
        while rest:
            part = rest.pop()
            if part == "..":
                found = found.rpartition("/")[0] or "/"
            elif part not in ("", "."):
                here = f"{found.rstrip('/')}/{part}"
                try:
                    target = self.readlink(here) if links < _MOST_LINKS else here
                except OSError:
                    target = here
                if target == here:
                    found = here
                    continue
                links += 1
                found = "/" if target.startswith("/") else found
                rest += target.split("/")[::-1]
        return found

    def exists(self, path: str, *, follows: bool = True) -> bool:
        """Whether something is there; a link that leads nowhere only if it is not followed."""
        with suppress(OSError, ValueError):
            _ = self.stat(path) if follows else self.lstat(path)
            return True
        return False

    def is_file(self, path: str) -> bool:
        """Whether a file is there."""
        with suppress(OSError, ValueError):
            return modes.S_ISREG(self.stat(path).st_mode)
        return False

    def is_folder(self, path: str) -> bool:
        """Whether a folder is there."""
        with suppress(OSError, ValueError):
            return modes.S_ISDIR(self.stat(path).st_mode)
        return False

    def make_folders(self, path: str, mode: int = 0o755) -> None:
        """Make a folder, and those above it that are missing. What is there may stay."""
        try:
            self.mkdir(path, mode)
        except FileExistsError:
            if not self.is_folder(path):
                raise
        except FileNotFoundError:
            above = os.path.dirname(path)
            if above in ("", path):
                raise
            self.make_folders(above, mode)
            self.make_folders(path, mode)

    def contents(self, path: str, most: int = -1, *, follows: bool = True) -> bytes:
        """The bytes of a file, or so many of its first ones: see `open_file`."""
        file = open_file(path, os.O_RDONLY, 0, follows=follows)
        try:
            return self.read_all(file, most)
        finally:
            self.close(file)

    def read_all(self, file: int, most: int = -1) -> bytes:
        """The bytes of an open file from its position on, or so many of them."""
        pieces: list[bytes] = []
        left = self.fstat(file).st_size + 1 if most < 0 else most
        while left and (piece := self.read(file, left)):
            pieces.append(piece)
            left = max(left - len(piece), _PIECE if most < 0 else 0)
        return b"".join(pieces)

    def reader(self, path: str, *, follows: bool = True) -> BinaryIO:
        """A file, open to be read: see `open_file`."""
        file = open_file(path, os.O_RDONLY, 0, follows=follows)
        return self.stream(file, "rb")


files: Final = Files()
"""The files of the cache's own: its folders, cassettes, leases and logs."""

NO_DIRECTORY: Final = (
    "the working directory was deleted: give an absolute path, or change to a folder that there is"
)
_NOWHERE: Final = os.path.join(os.devnull, "deleted-working-directory")
"""In the place of a working directory that was deleted. Nothing can be made there."""


def absolute(path: str | os.PathLike[str]) -> str:
    """An absolute path, which does not change with the working directory."""
    path = os.fspath(path)
    if os.name == "nt":  # which has a working directory for each drive
        return os.path.abspath(path)
    if not os.path.isabs(path):
        try:
            path = os.path.join(files.getcwd(), path)
        except FileNotFoundError:
            return os.path.join(_NOWHERE, path)
    return os.path.normpath(path)


def is_nowhere(path: str) -> bool:
    """Whether a path was a relative one, and there was no working directory: `NO_DIRECTORY`."""
    return path.startswith(_NOWHERE)


class NotAFile(OSError):
    """The error where a link, a FIFO, a device or a folder stands in the place of a file."""


_SORTS: Final = (
    (modes.S_ISLNK, "a link, which is not followed here"),
    (modes.S_ISDIR, "a folder"),
    (modes.S_ISFIFO, "a FIFO"),
    (modes.S_ISSOCK, "a socket"),
    (lambda mode: True, "a device"),
)


def check_file(path: str, *, follows: bool = False) -> None:
    """Raise `NotAFile` where something stands that is no file; nothing may stand there."""
    with suppress(FileNotFoundError):
        _check_mode(path, (files.stat if follows else files.lstat)(path).st_mode)


def _check_mode(path: str, mode: int = 0o755) -> None:
    if not modes.S_ISREG(mode):
        sort = next(text for is_it, text in _SORTS if is_it(mode))
        raise NotAFile(errno.EINVAL, f"it is {sort}: move it away, or choose another path", path)


def open_file(path: str, flags: int, mode: int, *, follows: bool = True) -> int:
    """Open a file as `os.open` does, for bytes that are written as they are.

    What is no file is neither read nor waited for: a FIFO would keep who opens it for ever.

    Args:
        path: the file.
        flags: as `os.open` takes them.
        mode: its permissions, if it is made now, where the system has such.
        follows: whether the file may be a link to another, which is none of another user's.

    Raises `NotAFile`, and what `os.open` does.
    """
    follows = follows and not is_strange_link(path)
    if not (_NOFOLLOW and _NONBLOCK):
        check_file(path, follows=follows)
    try:
        flags |= _BINARY | _NONBLOCK | (0 if follows else _NOFOLLOW)
        file = files.open(path, flags, mode)
    except FileNotFoundError:
        raise
    except OSError:  # of a link, a folder, a socket, or a FIFO without a reader
        check_file(path, follows=follows)
        raise
    try:
        _check_mode(path, files.fstat(file).st_mode)
    except BaseException:
        files.close(file)
        raise
    return file


OWNERS: Final = "CACHEWRAP_TRUSTED_OWNERS"
"""Other users whose cache folders are used: their numbers, divided by commas, or ``any``."""


def stranger(status: os.stat_result) -> int | None:
    """The owner of a file, where that is neither this user nor root, nor one of `OWNERS`.

    Root is not kept from the files of others. None where the system has no owners.
    """
    user = None if files.user is None else files.user()
    if not user or status.st_uid in (user, 0):
        return None
    trusted = {name.strip() for name in os.environ.get(OWNERS, "").split(",")}
    return None if trusted & {"any", str(status.st_uid)} else status.st_uid


def is_strange_link(path: str) -> bool:
    """Whether another user, see `stranger`, has put a link there."""
    with suppress(OSError, ValueError):
        status = files.lstat(path)
        return modes.S_ISLNK(status.st_mode) and stranger(status) is not None
    return False


def open_to_all(status: os.stat_result) -> bool:
    """Whether every user may put files in a folder, and remove those of others."""
    return files.user is not None and status.st_mode & (modes.S_IWOTH | modes.S_ISVTX) == 0o002


def append(path: str, data: bytes, *, follows: bool = True) -> None:
    """Add bytes to the end of a file, in one piece. It is made for its owner alone.

    Raises `OSError`, also where another process keeps the file locked for `LOCK_SECONDS`.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    file = open_file(path, flags, 0o600, follows=follows)
    try:
        # One write is whole where the system itself appends.
        with nullcontext() if _fcntl else locked(file, alone=True):
            files.write(file, data)
    finally:
        files.close(file)


@contextmanager
def locked(file: int, *, alone: bool, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """The lock on a whole open file: others that lock it wait.

    Args:
        file: the open file.
        alone: whether others who lock it, but not alone, wait as well. On Windows everybody does.
        seconds: how long to wait for it.

    Raises:
        TimeoutError: others kept it for so long.
    """
    if HAS_LOCKS and not _take(file, alone):
        _wait_for(file, alone, seconds)
    try:
        yield
    finally:
        # Not by closing alone: a child forked meanwhile has the open file as well.
        if _fcntl:
            _fcntl.flock(file, _fcntl.LOCK_UN)
        elif _msvcrt:
            lock_bytes(file, FREE, 1, _WHOLE_AT)


def _take(file: int, alone: bool) -> bool:
    """Whether the lock is had now. No system can be told how long it may take to give it."""
    try:
        if _fcntl:
            _fcntl.flock(file, (_fcntl.LOCK_EX if alone else _fcntl.LOCK_SH) | _fcntl.LOCK_NB)
        else:
            lock_bytes(file, TAKE, 1, _WHOLE_AT)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _wait_for(file: int, alone: bool, seconds: float) -> None:
    end, (pause, longest) = clock.now() + seconds, _PAUSES
    while True:
        time.sleep(min(pause, max(0.0, end - clock.now())))
        if _take(file, alone):
            return
        if clock.now() >= end:
            raise TimeoutError(f"another process kept it locked for longer than {seconds:.3g} s")
        pause = min(2 * pause, longest)


def _lock_bytes(file: int, how: int, size: int, at: int) -> None:
    if _msvcrt:
        with _standing(file, at):
            _msvcrt.locking(file, how, size)


def _read_at(file: int, size: int, at: int) -> bytes:
    with _standing(file, at):
        return files.read(file, size)


def _write_at(file: int, data: bytes, at: int) -> int:
    with _standing(file, at):
        return files.write(file, data)


@contextmanager
def _standing(file: int, at: int) -> Iterator[None]:
    # The way back lets the garbage collector come in between, with a lease of its own to end.
    before = files.lseek(file, 0, os.SEEK_CUR)
    files.lseek(file, at, os.SEEK_SET)
    try:
        yield
    finally:
        files.lseek(file, before, os.SEEK_SET)


TAKE: Final[int] = _fcntl.LOCK_EX | _fcntl.LOCK_NB if _fcntl else getattr(_msvcrt, "LK_NBLCK", 0)
FREE: Final[int] = _fcntl.LOCK_UN if _fcntl else getattr(_msvcrt, "LK_UNLCK", 0)

# The functions of the system itself, where it has them: they are in the way of every miss on disk.
lock_bytes: Final[Callable[[int, int, int, int], object]] = getattr(_fcntl, "lockf", _lock_bytes)
"""Take or free (`TAKE`, `FREE`) so many bytes of an open file from a position on, without waiting.

Where another process has them, `BlockingIOError` or `PermissionError` is raised. The lock ends with
its process. On POSIX systems it is the process's: closing any descriptor of the file ends it.
Elsewhere it is the descriptor's.
"""

read_at: Final[Callable[[int, int, int], bytes]] = _own("pread", getattr(os, "pread", _read_at))
"""Up to so many bytes of an open file from a position on. Its own position stays."""

write_at: Final[Callable[[int, bytes, int], int]] = _own("pwrite", getattr(os, "pwrite", _write_at))
"""Write a few bytes at a position of an open file. Its own position stays."""
