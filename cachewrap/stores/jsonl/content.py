"""The content of a cassette: its lines in memory, and how its file is read and written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from math import inf
from typing import Final, TypeAlias

from cachewrap import systems
from cachewrap.errors import StoreError, printable
from cachewrap.policy import STORE_SECONDS
from cachewrap.stores.jsonl.lines import HEAD, VERSION, Name, head_of, name_of
from cachewrap.systems import clock, files
from cachewrap.telemetry.events import warn_once

Lines: TypeAlias = dict[Name | int, bytes]
"""The lines by their names; those that cannot be read, by their numbers."""

Stamp: TypeAlias = tuple[int, int, int]
"""What changes whenever a file is written, or another one takes its place."""

_MOST_TOLD: Final = 10
"""Lines of a file, at most, that cannot be read and are told one by one."""

SMALL: Final = 2**16
"""Bytes of a file that is read as a whole whenever others have changed it."""

_TAIL: Final = 4096
"""Bytes that must stand where they stood, for a file to have grown and not to be another one."""

_TRUST: Final = 1.0, 1e-7
"""Seconds after which the whole of a file that others append to is read again, and more for each
byte: a hundredth of the time is spent on it."""

_PIECE: Final = 2**20


def stamp_of(status: os.stat_result) -> Stamp:
    """The stamp of a file: its number, its size, and when it was written last."""
    return status.st_ino, status.st_size, status.st_mtime_ns


class Content:
    """The lines of a file as it was read last.

    Where others have only appended, and that is what they do, their lines alone are read. That is
    told by the end of what was read, which still stands in its place. It does not tell of an edit
    that leaves all in its place: so a moment later the whole file is read again.

    Attributes:
        lines: the lines; None before the file is read.
        stamp: of the file then; None where there was none.
        ends: whether the file ends with a line break.
        size: bytes that were read, or written by this process.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.forget()

    def forget(self) -> None:
        """Keep nothing of what was read."""
        self.lines: Lines | None = None
        self.stamp: Stamp | None = None
        self.ends = True
        self._tail = b""
        self.size = 0
        self._until = inf  # when lines that were read alone are no longer trusted
        self._trusted = 0.0  # until when lines may be read alone

    def current(self, stamp: Stamp | None) -> Lines | None:
        """The lines, where a file of this stamp holds them; None where it is to be read."""
        if stamp != self.stamp or (self._until != inf and clock.now() >= self._until):
            return None
        return self.lines

    def follow(self, file: int, most: float = inf, *, locked: bool = False) -> Lines | None:
        """The lines of an open file that is as it was, or has grown by whole lines alone.

        None where it is to be read as a whole, or has grown by more than so many bytes.

        Args:
            file: the open file.
            most: so many bytes.
            locked: whether the caller has locked it: to ask who has would give that lock back.
        """
        stamp = stamp_of(files.fstat(file))
        lines = self.current(stamp)
        if lines is not None or self.lines is None or self.stamp is None:
            return lines
        number, size, _ = self.stamp
        grown = stamp[1] - size
        if not (
            number == stamp[0]
            and size == self.size >= SMALL
            and 0 < grown <= most
            and self.ends
            and clock.now() < self._trusted
        ):
            return None
        tail = self._tail
        files.lseek(file, size - len(tail), os.SEEK_SET)
        data = files.read_all(file, len(tail) + grown)
        # A network file system may show zeros where the bytes of others are still on their way.
        if len(data) < len(tail) + grown or not data.startswith(tail) or b"\0" in data:
            return None
        if not data.endswith(b"\n"):
            if locked or not _is_locked(file):
                return None
            # Whoever has locked it writes the rest of the last line, which is read the next time.
            data = data[: data.rindex(b"\n") + 1]
            grown = len(data) - len(tail)
            stamp = number, size + grown, -1
            if not grown:
                return self.lines
        new: Lines = {}
        try:
            for line in data[len(tail) : -1].split(b"\n"):
                name = name_of(line)
                if name is None:
                    return None
                new[name] = line
        except ValueError:
            return None
        self.lines.update(new)
        self.stamp = stamp
        self.size += grown
        self._tail = data[-_TAIL:]
        self._until = self._trusted
        return self.lines

    def read(self, file: int) -> bool:
        """Read an open file to which others may be appending.

        False where it has lines that are none, or not yet: whoever locks it can tell.
        """
        self.forget()
        stamp = stamp_of(files.fstat(file))
        lines: Lines = {}
        for line in self._lines_of(file, stamp[1]):
            if line := line.strip():
                try:
                    name = name_of(line)
                except ValueError:
                    return False
                if name is None:
                    self._check_version(line)
                else:
                    lines[name] = line
        if self.size != stamp[1] or not self._tail.endswith(b"\n"):
            return False
        self.lines, self.stamp = lines, stamp
        self._trust()
        return True

    def load(self, file: int, *, whole: bool = False) -> Lines:
        """The lines of an open file that its caller has locked.

        Args:
            file: the open file.
            whole: whether lines that others have appended are not trusted yet.
        """
        stamp = stamp_of(files.fstat(file))
        if whole:
            known = self.current(stamp) if self.is_sure() else None
        else:
            known = self.follow(file, locked=True)
        if known is not None:
            return known
        self.forget()
        lines: Lines = {}
        skipped = 0
        for number, line in enumerate(self._lines_of(file), 1):
            if not (line := line.strip()):
                continue
            try:
                name = name_of(line)
            except ValueError as error:
                skipped += 1
                if skipped <= _MOST_TOLD:
                    warn_once(
                        ("cassette", self._path, hash(line)),
                        f"{self._path}, line {number}: not an entry of a cassette, and skipped:"
                        f" {printable(str(error))}",
                    )
                lines[number] = line
            else:
                if name is None:
                    self._check_version(line)
                else:
                    lines[name] = line
        if skipped > _MOST_TOLD:
            warn_once(
                ("cassette", self._path),
                f"{self._path}: {skipped - _MOST_TOLD} more lines are no entries of a cassette, and"
                " skipped",
            )
        self.lines, self.stamp = lines, stamp
        self.ends = not self._tail or self._tail.endswith(b"\n")
        self._trust()
        return lines

    def append(self, file: int, lines: Mapping[Name, bytes]) -> None:
        """Append lines to a file that was loaded under its lock, in one write."""
        assert self.lines is not None
        size = files.fstat(file).st_size
        start = (b"" if self.ends else b"\n") if size else HEAD + b"\n"
        data = b"".join((start, b"\n".join(lines.values()), b"\n"))
        files.lseek(file, 0, os.SEEK_END)
        try:
            _write(file, data)
        except BaseException:
            files.ftruncate(file, size)  # the disk is full: half a line helps nobody
            raise
        self.lines.update(lines.items())
        self._tail = (self._tail + data)[-_TAIL:]
        self.size += len(data)
        stamp = stamp_of(files.fstat(file))
        # Somebody may write without a lock: then all is read again.
        self.stamp, self.ends = stamp if stamp[1] == self.size else None, True
        if self.is_sure():
            self._trust()

    def write_all(self, file: int, lines: Lines) -> None:
        """Put a new file in the place of the old one, under whose lock this is called."""
        if not systems.REPLACES_OPEN:
            self._write_over(file, lines)
            return
        if not lines:
            files.unlink(self._path)
            self.replaced({}, None)
            return
        draft = self.draft(lines)
        stamp = stamp_of(files.stat(draft))
        self.put(draft)
        self.replaced(lines, stamp, b"\n".join((*lines.values(), b""))[-_TAIL:])

    def draft(self, lines: Lines) -> str:
        """Write lines to a new file beside the old one; its path."""
        base = os.path.basename(self._path)
        draft = f"{self._path.removesuffix(base)}.{base[:100]}.{os.urandom(8).hex()}.tmp"
        self._add_to(draft, b"\n".join((HEAD, *lines.values(), b"")), os.O_CREAT | os.O_EXCL)
        return draft

    def complete(self, draft: str, file: int, size: int) -> bool:
        """Add to a draft what others have appended to the file since it had so many bytes.

        False where that is not all that they have done.
        """
        if self.follow(file, locked=True) is None:
            return False
        more = self.size - size
        if more:
            files.lseek(file, size, os.SEEK_SET)
            self._add_to(draft, files.read_all(file, more), os.O_APPEND)
        return True

    def put(self, draft: str) -> None:
        """Put a draft in the place of the file, with the same permissions."""
        try:
            files.chmod(draft, files.stat(self._path).st_mode & 0o7777)
            files.replace(draft, self._path)
        except BaseException:
            with suppress(OSError):
                files.unlink(draft)
            raise

    def _add_to(self, draft: str, data: bytes, flags: int) -> None:
        made = systems.open_file(draft, os.O_WRONLY | flags, 0o600, follows=False)
        try:
            try:
                _write(made, data)
                if flags & os.O_CREAT:  # what others have appended is no safer in their file
                    files.fsync(made)
            finally:
                files.close(made)
        except BaseException:
            with suppress(OSError):
                files.unlink(draft)
            raise

    def _write_over(self, file: int, lines: Lines) -> None:
        # What is cut off comes last: a process that is killed in between leaves lines twice.
        files.lseek(file, 0, os.SEEK_SET)
        data = b"\n".join((HEAD, *lines.values(), b"")) if lines else b""
        _write(file, data)
        files.ftruncate(file, files.lseek(file, 0, os.SEEK_CUR))
        self.replaced(lines, stamp_of(files.fstat(file)), data)

    def remove_empty(self) -> None:
        """Remove a file that could not be removed while it was open."""
        with suppress(OSError):  # it is gone, or another process has it open
            if not files.stat(self._path).st_size:
                files.unlink(self._path)

    def replaced(self, lines: Lines, stamp: Stamp | None, last: bytes = b"") -> None:
        """Take note of what the whole file holds now, and with which bytes it ends."""
        self.lines, self.stamp, self.ends = lines, stamp, True
        self._tail, self.size = last[-_TAIL:], 0 if stamp is None else stamp[1]
        self._trust()

    def is_sure(self) -> bool:
        """Whether the whole file was read, or is this process's work, as it is now."""
        return self._until == inf

    def _trust(self) -> None:
        least, each = _TRUST
        self._until, self._trusted = inf, clock.now() + least + each * self.size

    def _lines_of(self, file: int, most: float = inf) -> Iterator[bytes]:
        """The lines in so many bytes of a file, which is never in memory twice."""
        parts: list[bytes] = []
        files.lseek(file, 0, os.SEEK_SET)
        while piece := files.read_all(file, int(min(_PIECE, most - self.size))):
            self._tail = (self._tail + piece[-_TAIL:])[-_TAIL:]
            first, *more = piece.split(b"\n")
            parts.append(first if self.size else first.removeprefix(b"\xef\xbb\xbf"))
            self.size += len(piece)
            if more:
                yield b"".join(parts)
                parts = [more.pop()]
                yield from more
        yield b"".join(parts)

    def _check_version(self, line: bytes) -> None:
        version = head_of(line).version
        if version != VERSION:
            raise StoreError(
                f"{self._path} is a cassette of version {version}; this cachewrap reads version"
                f" {VERSION}: use the cachewrap that wrote it, or a newer one"
            )


def _write(file: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += files.write(file, data[written:])


def _is_locked(file: int) -> bool:
    """Whether somebody who writes to a file has it locked now."""
    try:
        with systems.locked(file, alone=False, seconds=0.0):
            return False
    except TimeoutError:
        return True


@contextmanager
def open_alone(
    path: str, flags: int, mode: int, seconds: float = STORE_SECONDS, *, follows: bool = True
) -> Iterator[int]:
    """A file as `systems.open_file` opens it, locked for this writer alone.

    Raises `OSError`: also where others kept it locked for so many seconds, or put another file in
    its place again and again.
    """
    end = clock.now() + seconds
    while True:
        file = systems.open_file(path, flags, mode, follows=follows)
        try:
            left = max(0.0, end - clock.now())
            with systems.locked(file, alone=True, seconds=left):
                if _is_at(file, path):
                    yield file
                    return
        finally:
            files.close(file)
        if clock.now() >= end:
            raise TimeoutError(f"others put files in its place for longer than {seconds:g} s")


def _is_at(file: int, path: str) -> bool:
    """Whether an open file still has its name, and was not replaced by a tidier one meanwhile."""
    try:
        here, there = files.fstat(file), files.stat(path)
    except FileNotFoundError:
        return False
    return (here.st_ino, here.st_dev) == (there.st_ino, there.st_dev)
