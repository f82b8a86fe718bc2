"""Logs as files, one for each in a folder of their own: records that are added, never changed.

A record is 4 bytes that begin it, the length of its piece and a CRC-32 of the length and the piece,
4 bytes each with the lowest first, and the piece. What is no whole record is passed over: it was
left by a writer who was killed, or by a full disk. The next record is found by its first bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from stat import S_ISREG
from struct import Struct
from typing import Final
from zlib import crc32

from cachewrap import systems
from cachewrap.errors import StoreError
from cachewrap.patterns import later
from cachewrap.policy import STORE_SECONDS
from cachewrap.stores.base import LogFacts, Logs
from cachewrap.stores.seed_folders import check_owners, make
from cachewrap.systems import files

MAGIC: Final = b"\x8aCW\x01"
MOST: Final = 2**24
"""Bytes of a piece, at most."""

_HEAD: Final = len(MAGIC) + 8
_FACTS: Final = Struct("<II")
_LENGTH: Final = Struct("<I")
_READ: Final = 2**18
_IN_VAIN: Final = 2**30
"""Bytes that are looked through for records which are none, before the rest is left out."""

_ATTEMPTS: Final = 10
"""Attempts to open a file that others remove."""

_NAME: Final = later(r"[a-z][a-z0-9._%-]{0,199}")
# What no system takes for a device or shortens, whatever the name of the log.
_BEGINS, _ENDS = "log-", ".bin"


def record(piece: bytes) -> bytes:
    """A piece as it stands in a file. Raises `StoreError` for one that no log takes."""
    if not 0 < len(piece) <= MOST:
        raise StoreError(f"a piece of a log has 1 to {MOST:,} bytes, not {len(piece):,}")
    length = _LENGTH.pack(len(piece))
    return b"%b%b%b%b" % (MAGIC, length, _LENGTH.pack(crc32(piece, crc32(length))), piece)


def pieces_of(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """The pieces in the records of a file, of which no more is held than one piece.

    Args:
        read: reads up to so many bytes more of it; none at its end.
    """
    data, at, in_vain, ended = b"", 0, 0, False

    def reach(count: int) -> bool:
        nonlocal data, at, ended
        left = len(data) - at
        if left < count and not ended:
            chunks = [data[at:]]
            while left < count and not ended:
                chunks.append(read(max(_READ, count - left)))
                left += len(chunks[-1])
                ended = not chunks[-1]
            data, at = b"".join(chunks), 0
        return left >= count

    while reach(_HEAD) and in_vain < _IN_VAIN:
        after = at
        if data.startswith(MAGIC, at):
            length, check = _FACTS.unpack_from(data, at + len(MAGIC))
            if 0 < length <= MOST and reach(_HEAD + length):
                told = data[at + len(MAGIC) : at + len(MAGIC) + _LENGTH.size]
                piece = data[at + _HEAD : at + _HEAD + length]
                if crc32(piece, crc32(told)) == check:
                    at += _HEAD + length
                    yield piece
                    continue
                in_vain += length
            after = at + 1
        found = data.find(MAGIC, after)
        at = found if found >= 0 else max(after, len(data) - len(MAGIC) + 1)


class LogFiles:
    """The files of the logs of one place.

    The folder is made at the first write, for its owner alone, with a ``.gitignore``. Another
    user's is refused, as is a link; see `check_owners`. A root that was removed is not made again:
    what is added then is dropped.

    Args:
        root: the folder that theirs is made in.
        name: the name of their folder.
        seconds: how long a write waits for those of other processes.
        trusts: whether anybody may own the root, as the logs go with a file in it that he may have.
        found: has something in it once the root was there.
    """

    def __init__(
        self,
        root: str,
        name: str,
        seconds: float = STORE_SECONDS,
        *,
        trusts: bool = False,
        found: Sequence[str] = (),
    ) -> None:
        self.folder = os.path.join(root, name)
        self._root = root
        self._seconds = seconds
        self._trusts = trusts
        self._found = found
        self._seen = False

    def append(self, log: str, pieces: Iterable[bytes]) -> None:
        """Add pieces to a log, all of them or none. Raises `StoreError`."""
        data = b"".join(map(record, pieces))
        if not data:
            return
        with self._told("write"):
            path = self._path(log)
            for _ in range(_ATTEMPTS):
                file = self._opened(path)
                if file is None:
                    return
                self._seen = True
                try:
                    with systems.locked(file, alone=True, seconds=self._seconds):
                        if _is_at(path, file):
                            _write(file, data)
                            return
                finally:
                    files.close(file)
        raise StoreError(f"cannot write {path}: others remove it again and again")

    def _opened(self, path: str) -> int | None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with suppress(FileNotFoundError):
            return systems.open_file(path, flags, 0o600, follows=False)
        if (self._seen or self._found) and not files.exists(self._root):
            return None
        make(self._root, self.folder)
        self._check()
        return systems.open_file(path, flags, 0o600, follows=False)

    def read(self, log: str) -> Iterator[bytes]:
        """The pieces of a log. Raises `StoreError`."""
        with self._told("read"):
            path = self._path(log)
            try:
                file = systems.open_file(path, os.O_RDONLY, 0, follows=False)
            except FileNotFoundError:
                return
        try:
            left = files.fstat(file).st_size  # what is added from now on is not waited for

            def read(count: int) -> bytes:
                nonlocal left
                with self._told("read"):
                    data = files.read(file, min(count, left))
                left -= len(data)
                return data

            yield from pieces_of(read)
        finally:
            files.close(file)

    def all(self) -> list[LogFacts]:
        """Every log. Raises `StoreError`."""
        found = []
        with self._told("list"):
            self._check()
            try:
                names = files.listdir(self.folder)
            except FileNotFoundError:
                return []
            for name in names:
                log = name.removeprefix(_BEGINS).removesuffix(_ENDS)
                if name == f"{_BEGINS}{log}{_ENDS}" and _NAME.fullmatch(log):
                    with suppress(FileNotFoundError):  # it has gone since
                        status = files.lstat(os.path.join(self.folder, name))
                        if S_ISREG(status.st_mode):
                            found.append(LogFacts(log, status.st_size, status.st_mtime))
        return found

    def remove(self, log: str) -> bool:
        """Remove a log; whether it was there. Raises `StoreError`."""
        with self._told("remove"):
            try:
                files.unlink(self._path(log))
            except FileNotFoundError:
                return False
        return True

    def _path(self, log: str) -> str:
        if not _NAME.fullmatch(log):
            raise StoreError(f"{log!r:.250} is no name of a log")
        self._check()
        return os.path.join(self.folder, f"{_BEGINS}{log}{_ENDS}")

    def _check(self) -> None:
        check_owners(None if self._trusts else self._root, self.folder)

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = systems.NO_DIRECTORY if systems.is_nowhere(self.folder) else error
            raise StoreError(f"cannot {doing} the runs in {self.folder}: {why}") from error


def _is_at(path: str, file: int) -> bool:
    """Whether an open file is the one that is there, and was not removed meanwhile."""
    with suppress(FileNotFoundError):
        there, mine = files.lstat(path), files.fstat(file)
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)
    return False


def _write(file: int, data: bytes) -> None:
    """Write to the end of a file that is locked: all of it, or nothing."""
    size = files.fstat(file).st_size
    left = memoryview(data)
    try:
        while left:
            left = left[files.write(file, left) :]
    except BaseException:
        if systems.HAS_LOCKS:  # without which others may have written behind it
            with suppress(OSError):
                files.ftruncate(file, size)
        raise


class FileLogs(Logs):
    """The segment `Logs` of a store that keeps them in files."""

    _log_files: LogFiles

    def logs_alone(self) -> Logs:
        return _LogsAlone(self.logs_url, self._log_files)

    def append_to_log(self, name: str, pieces: Sequence[bytes]) -> None:
        self._log_files.append(name, pieces)

    def read_log(self, name: str) -> Iterator[bytes]:
        return self._log_files.read(name)

    def logs(self) -> list[LogFacts]:
        return self._log_files.all()

    def remove_log(self, name: str) -> bool:
        return self._log_files.remove(name)


class _LogsAlone(FileLogs):
    """The logs of a store without the store."""

    def __init__(self, url: str, files: LogFiles) -> None:
        self._url = url
        self._log_files = files

    @property
    def logs_url(self) -> str:
        return self._url
