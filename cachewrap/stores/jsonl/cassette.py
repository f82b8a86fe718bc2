"""The file of a cassette: its lines in memory, appended under a lock, put in order at the end."""

from __future__ import annotations

import atexit
import itertools
import json
import os
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeAlias

import msgspec

from cachewrap import systems
from cachewrap.errors import StoreError, printable
from cachewrap.policy import BREAKER_SECONDS, STORE_SECONDS
from cachewrap.stores.breaker import (
    Breaker,
    LeftAlone,
    breaker_of,
    left_alone,
)
from cachewrap.stores.jsonl.lines import HEAD, VERSION
from cachewrap.stores.jsonl.shown import TOO_DEEP, is_deep
from cachewrap.systems import clock, files
from cachewrap.telemetry.events import warn_once

Name: TypeAlias = tuple[str, str]
"""The seed and the key of a line."""

Lines: TypeAlias = dict[Name | int, bytes]
"""The lines by their names; those that cannot be read, by their numbers."""

_KEY: Final = re.compile("[0-9a-f]{64}")
_MOST_ASKED: Final = 10_000
_MOST_TOLD: Final = 10
"""Lines of a file, at most, that cannot be read and are told one by one."""
_WRITING: Final = os.O_RDWR | os.O_CREAT | (os.O_APPEND if systems.REPLACES_OPEN else 0)


class Head(msgspec.Struct):
    """The head of a line: what names it, or tells that it is the first one."""

    key: str | None = None
    seed: str | None = None
    cachewrap: str | None = None
    version: int = VERSION


_head_decoder = msgspec.json.Decoder(Head)


class Cassette:
    """One file of lines, shared by every store of it in this process.

    What is recorded is appended at once, in one write, so that a process that is killed loses
    nothing. A line that replaces another is appended as well: of two lines of one name the last one
    counts. `tidy` then brings the file into its order, with a new file that takes the place of the
    old: a replaced line stands where the old one stood, and new lines in the order in which their
    requests were first looked up, whichever answer came first. On Windows, where no file that is
    open can be replaced, the file is written over.

    Every write holds a lock on the file, against threads and processes, and begins with reading
    again what others have changed. Lines that cannot be read are left as they are.

    A lock that another process keeps for too long opens a breaker of the file.

    Attributes:
        store_seconds: how long a write waits for the lock; a read waits half of it.
        breaker_seconds: for how long the file is left alone after one that did not come.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.store_seconds = STORE_SECONDS
        self.breaker_seconds = BREAKER_SECONDS
        # A write is tried although a read has waited in vain: what it holds was paid for.
        self._reads = breaker_of(f"read {path}")
        self._writes = breaker_of(f"write {path}")
        self._lock = threading.RLock()
        self._lines: Lines | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._ends = True  # whether the file ends with a line break
        self._untidy = False
        self._numbers = itertools.count()
        self._asked: dict[Name, int] = {}
        self._new: dict[Name, int] = {}
        self._last = -1  # the highest number of a new line

    # -- reading ------------------------------------------------------------------------------

    def get(self, name: Name, lines: Lines | None = None) -> bytes | None:
        """The line of a name, among what was `read_before` if that is given.

        An absent one is remembered: there its line will stand.
        """
        line = (self._read() if lines is None else lines).get(name)
        if line is None:
            self.ask(name)
        elif self._asked:
            self._asked.pop(name, None)
        return line

    def ask(self, name: Name) -> None:
        """Keep the place of a name that is looked up now."""
        if name not in self._asked and len(self._asked) < _MOST_ASKED:
            self._asked[name] = next(self._numbers)

    def read_before(self) -> Lines | None:
        """The lines, where the file is as it was read; None where it is to be read."""
        try:
            stamp = _stamp_of(files.stat(self.path))
        except FileNotFoundError:
            stamp = None
        except OSError as error:
            raise self._failed("read", error) from error
        lines = self._lines
        return lines if lines is not None and stamp == self._stamp else None

    def names(self) -> list[Name]:
        """The names of all lines, in the order of the file."""
        with self._lock:
            return [name for name in self._read() if isinstance(name, tuple)]

    def seeds(self) -> list[str]:
        """The seeds that have lines, sorted."""
        with self._lock:
            return sorted({name[0] for name in self._read() if isinstance(name, tuple)})

    def place_of(self, name: Name) -> str:
        """Where the line of a name is, for an error: the file and the number of the line."""
        with suppress(OSError), files.reader(self.path, follows=False) as file:
            for number, line in reversed(list(enumerate(file, 1))):
                with suppress(ValueError):  # an empty line, or one that is no entry
                    if name_of(line) == name:
                        return f"{self.path}, line {number}"
        return self.path

    def _read(self) -> Lines:
        lines = self.read_before()
        if lines is not None:
            return lines
        with self._lock:
            try:
                with self._watched(self._reads, "read"):
                    file = systems.open_file(self.path, os.O_RDONLY, 0, follows=False)
                    try:
                        with systems.locked(file, alone=False, seconds=self.store_seconds / 2):
                            return self._load(file)
                    finally:
                        files.close(file)
            except FileNotFoundError:
                return self._loaded({}, None, ends=True)
            except (OSError, MemoryError) as error:
                raise self._failed("read", error) from error

    @contextmanager
    def _watched(self, breaker: Breaker, doing: str) -> Iterator[None]:
        """A use of the file's lock, unless it is left alone because the lock did not come."""
        try:
            trying = breaker.admit(self.breaker_seconds)
        except LeftAlone as left:
            why = "its lock did not come"
            raise left_alone(f"cannot {doing} {self.path}: it is", left, why) from left.error
        try:
            yield
        except TimeoutError as error:
            breaker.failed(error, self.breaker_seconds)
            raise
        except BaseException:
            if trying:
                breaker.undecided()
            raise
        breaker.worked()

    def _failed(self, doing: str, error: OSError | MemoryError) -> StoreError:
        if isinstance(error, MemoryError):
            return StoreError(f"cannot {doing} {self.path}: there is no memory for all of it")
        why = systems.NO_DIRECTORY if systems.is_nowhere(self.path) else error
        return StoreError(f"cannot {doing} {self.path}: {why}")

    def _load(self, file: int) -> Lines:
        status = files.fstat(file)
        if self._lines is not None and self._stamp == _stamp_of(status):
            return self._lines
        files.lseek(file, 0, os.SEEK_SET)
        data = files.read_all(file)
        lines: Lines = {}
        skipped = 0
        for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
            if not (line := line.strip()):
                continue
            try:
                name = name_of(line)
            except ValueError as error:
                skipped += 1
                if skipped <= _MOST_TOLD:
                    warn_once(
                        ("cassette", self.path, hash(line)),
                        f"{self.path}, line {number}: not an entry of a cassette, and skipped:"
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
                ("cassette", self.path),
                f"{self.path}: {skipped - _MOST_TOLD} more lines are no entries of a cassette, and"
                " skipped",
            )
        return self._loaded(lines, _stamp_of(status), ends=not data or data.endswith(b"\n"))

    def _loaded(self, lines: Lines, stamp: tuple[int, int, int] | None, *, ends: bool) -> Lines:
        self._lines, self._stamp, self._ends = lines, stamp, ends
        return lines

    def _check_version(self, line: bytes) -> None:
        version = head_of(line).version
        if version != VERSION:
            raise StoreError(
                f"{self.path} is a cassette of version {version}; this cachewrap reads version"
                f" {VERSION}: use the cachewrap that wrote it, or a newer one"
            )

    # -- writing ------------------------------------------------------------------------------

    def change(self, name: Name, decide: Callable[[bytes | None], bytes | None]) -> bytes | None:
        """Write the line that ``decide`` gives for the one that is there; what is there then.

        Where it gives None, or the line that is there, nothing is written.
        """
        with self._writing() as file:
            lines = self._load(file)
            present = lines.get(name)
            line = decide(present)
            if line is None or line == present:
                return present
            self._append(file, lines, line)
            if present is None:
                number = self._asked.pop(name, None)
                number = next(self._numbers) if number is None else number
                self._untidy |= number < self._last
                self._last = max(number, self._last)
                self._new[name] = number
            else:
                self._untidy = True
            lines[name] = line
            if self._untidy:
                _untidy.add(self)
            return line

    def remove(self, goes: Callable[[Name], bool]) -> int:
        """Remove the lines of names; how many there were. A file without lines is removed."""
        if not files.exists(self.path):
            return 0
        with self._writing() as file:
            lines = self._load(file)
            gone = [name for name in lines if isinstance(name, tuple) and goes(name)]
            for name in gone:
                del lines[name]
                self._new.pop(name, None)
            if gone:
                self._write_all(file, lines)
        if gone and not lines and not systems.REPLACES_OPEN:
            self._remove_empty()
        return len(gone)

    def tidy(self) -> None:
        """Bring the lines into their order, and forget what was read of them."""
        with self._lock:
            if self._untidy and files.exists(self.path):
                with self._writing() as file:
                    self._write_all(file, self._in_order(self._load(file)))
            self._untidy = False
            _untidy.discard(self)
            self._lines = None
            self._asked.clear()
            self._new.clear()
            self._last = -1

    def _in_order(self, lines: Lines) -> Lines:
        """The new lines change places among each other alone."""
        new = iter(sorted((name for name in self._new if name in lines), key=self._new.__getitem__))
        names = [next(new) if name in self._new else name for name in lines]
        return {name: lines[name] for name in names}

    @contextmanager
    def _writing(self) -> Iterator[int]:
        """The file, open and locked; it is made where it is missing."""
        with self._lock:
            try:
                with self._watched(self._writes, "write"):
                    files.make_folders(os.path.dirname(self.path), 0o700)
                    with open_alone(
                        self.path, _WRITING, 0o600, self.store_seconds, follows=False
                    ) as file:
                        yield file
            except (OSError, MemoryError) as error:
                raise self._failed("write", error) from error

    def _append(self, file: int, lines: Lines, line: bytes) -> None:
        size = files.fstat(file).st_size
        start = (b"" if self._ends else b"\n") if size else HEAD + b"\n"
        files.lseek(file, 0, os.SEEK_END)
        try:
            _write(file, start + line + b"\n")
        except BaseException:
            files.ftruncate(file, size)  # the disk is full: half a line helps nobody
            raise
        self._stamp, self._ends = _stamp_of(files.fstat(file)), True

    def _write_all(self, file: int, lines: Lines) -> None:
        """Put a new file in the place of the old one, under whose lock this is called."""
        if not systems.REPLACES_OPEN:
            self._write_over(file, lines)
            return
        if not lines:
            files.unlink(self.path)
            self._loaded({}, None, ends=True)
            return
        base = os.path.basename(self.path)
        draft = f"{self.path.removesuffix(base)}.{base[:100]}.{os.urandom(8).hex()}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        made = systems.open_file(draft, flags, 0o600, follows=False)
        try:
            try:
                _write(made, b"\n".join((HEAD, *lines.values(), b"")))
                files.fsync(made)
                files.chmod(draft, files.stat(self.path).st_mode & 0o7777)
                stamp = _stamp_of(files.fstat(made))
            finally:
                files.close(made)
            files.replace(draft, self.path)
        except BaseException:
            files.unlink(draft)
            raise
        self._loaded(lines, stamp, ends=True)

    def _write_over(self, file: int, lines: Lines) -> None:
        # What is cut off comes last: a process that is killed in between leaves lines twice.
        files.lseek(file, 0, os.SEEK_SET)
        if lines:
            _write(file, b"\n".join((HEAD, *lines.values(), b"")))
        files.ftruncate(file, files.lseek(file, 0, os.SEEK_CUR))
        self._loaded(lines, _stamp_of(files.fstat(file)), ends=True)

    def _remove_empty(self) -> None:
        """Remove a file that could not be removed while it was open."""
        with suppress(OSError):  # it is gone, or another process has it open
            if not files.stat(self.path).st_size:
                files.unlink(self.path)

    def _begin_anew(self) -> None:
        """In a forked child: another thread may have held the lock, in the midst of a change."""
        self._lock = threading.RLock()
        self._lines = None


def head_of(line: bytes) -> Head:
    """What names a line. Raises `ValueError` for what is no line of a cassette."""
    try:
        try:
            return _head_decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if isinstance(error, msgspec.ValidationError):
                raise ValueError(str(error)) from error
            try:  # half of a surrogate pair is JSON for Python alone
                return msgspec.convert(json.loads(line), Head)
            except (ValueError, msgspec.ValidationError):
                raise ValueError(str(error)) from error
    except RecursionError:
        if not is_deep(line):
            raise  # it is the caller who has no room left
        raise ValueError(TOO_DEEP) from None


def name_of(line: bytes) -> Name | None:
    """The name of a line, None for a head. Raises `ValueError` for what is neither."""
    head = head_of(line)
    if head.cachewrap is not None and head.key is None:
        return None
    if head.key is None or head.seed is None:
        raise ValueError("it has no key and seed")
    if _KEY.fullmatch(head.key) is None:
        raise ValueError(f"{head.key[:80]!r} is no key")
    return head.seed, head.key


def _write(file: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += files.write(file, data[written:])


def _stamp_of(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


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


_cassettes: weakref.WeakValueDictionary[str, Cassette] = weakref.WeakValueDictionary()
_untidy: set[Cassette] = set()
_opening = threading.Lock()


def cassette(path: str) -> Cassette:
    """The cassette of a file, the same one for every way to write its path."""
    path = path if systems.is_strange_link(path) else files.real_path(path)
    name = os.path.normcase(path)
    with _opening:
        known = _cassettes.get(name)
        if known is None:
            known = _cassettes[name] = Cassette(path)
        return known


@atexit.register
def _tidy_all() -> None:
    for untidy in list(_untidy):
        with suppress(StoreError):  # nothing is lost, only out of order
            untidy.tidy()


@systems.in_forked_child
def _begin_anew() -> None:
    global _opening
    _opening = threading.Lock()
    _untidy.clear()  # the parent's to do
    for known in list(_cassettes.values()):
        known._begin_anew()
