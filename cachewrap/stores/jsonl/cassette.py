"""The file of a cassette: its lines in memory, appended under a lock, put in order at the end."""

from __future__ import annotations

import atexit
import itertools
import os
import threading
import weakref
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from typing import Final

from cachewrap import systems
from cachewrap.errors import StoreError
from cachewrap.policy import BREAKER_SECONDS, STORE_SECONDS
from cachewrap.stores.base import in_thread
from cachewrap.stores.breaker import (
    Breaker,
    LeftAlone,
    breaker_of,
    left_alone,
)
from cachewrap.stores.jsonl.changes import Change, Changes, fail
from cachewrap.stores.jsonl.content import SMALL, Content, Lines, open_alone, stamp_of
from cachewrap.stores.jsonl.lines import Envelopes, Name, name_of
from cachewrap.systems import files

_MOST_ASKED: Final = 10_000
MOST_AT_ONCE: Final = 2**21
"""Bytes that others have appended, at most, for them to be read on an event loop."""

_WRITING: Final = os.O_RDWR | os.O_CREAT | (os.O_APPEND if systems.REPLACES_OPEN else 0)


class Cassette(Changes):
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
        envelopes: of lines that were read or written.
        store_seconds: how long a write waits for the lock; a read waits half of it.
        breaker_seconds: for how long the file is left alone after one that did not come.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.store_seconds = STORE_SECONDS
        self.breaker_seconds = BREAKER_SECONDS
        # A write is tried although a read has waited in vain: what it holds was paid for.
        self._reads = breaker_of(f"read {path}")
        self._writes = breaker_of(f"write {path}")
        self.envelopes = Envelopes()
        self._content = Content(path)
        self.found: list[str] = []  # the path, once it was written
        self._begin_anew()
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
            stamp = stamp_of(files.stat(self.path))
        except FileNotFoundError:
            stamp = None
        except OSError as error:
            raise self._failed("read", error) from error
        return self._content.current(stamp)

    def read_on(self, most: float = inf) -> Lines | None:
        """The lines, where others have only appended some; nobody is waited for.

        None where the file is to be read as a whole, or more than so many bytes of it, and where
        another thread is at it.
        """
        # What is appended is whole up to its last line break, whoever may be appending more; only
        # where a file is written over is there anything to wait for.
        if not systems.REPLACES_OPEN or not self._lock.acquire(blocking=False):
            return None
        try:
            file = systems.open_file(self.path, os.O_RDONLY, 0, follows=False)
            try:
                lines = self._content.follow(file, most)
                if lines is None and files.fstat(file).st_size < SMALL:
                    return self._content.lines if self._content.read(file) else None
                return lines
            finally:
                files.close(file)
        except (OSError, MemoryError):
            return None  # who reads all of it is told
        finally:
            self._lock.release()

    def _read_anew(self) -> Lines | None:
        """The lines of the whole file, for which nobody has to wait; None where they may not be."""
        if not systems.REPLACES_OPEN:
            return None
        content = Content(self.path)
        try:
            file = systems.open_file(self.path, os.O_RDONLY, 0, follows=False)
            try:
                if not content.read(file):
                    return None
            finally:
                files.close(file)
        except (OSError, MemoryError):
            return None
        with self._lock:
            self._content = content
        return content.lines

    def names(self) -> list[Name]:
        """The names of all lines, in the order of the file."""
        lines = self._read()
        with self._lock:
            return [name for name in lines if isinstance(name, tuple)]

    def seeds(self) -> list[str]:
        """The seeds that have lines, sorted."""
        return sorted({seed for seed, _ in self.names()})

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
        if lines is None:
            with self._reading:  # one reads for all who wait
                lines = self.read_before() or self.read_on() or self._read_anew()
        if lines is not None:
            return lines
        with self._file:
            try:
                with self._watched(self._reads, "read"):
                    file = systems.open_file(self.path, os.O_RDONLY, 0, follows=False)
                    try:
                        seconds = self.store_seconds / 2
                        with systems.locked(file, alone=False, seconds=seconds), self._lock:
                            return self._content.load(file)
                    finally:
                        files.close(file)
            except FileNotFoundError:
                lines = {}
                with self._lock:
                    self._content.replaced(lines, None)
                return lines
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

    # -- writing ------------------------------------------------------------------------------

    async def catch_up(self) -> None:
        if self.read_before() is None and self.read_on(MOST_AT_ONCE) is None:
            await in_thread(self._read)

    def make_changes(self) -> None:
        with self._file, self.taken() as changes:
            if not changes:
                return
            try:
                for change in changes:
                    change.prepare()
            except OSError as error:
                raise self._failed("write", error) from error
            with suppress(StoreError):  # before others are kept from appending more
                if self.read_before() is None and self.read_on() is None:
                    self._read_anew()
            with self._writing() as file, self._lock:
                self._make(file, self._content.load(file), changes)

    def make_at_once(self) -> bool | None:
        if self._writes.error is not None:
            return False
        if not self._file.acquire(blocking=False):
            return None
        try:
            with open_alone(self.path, _WRITING, 0o600, 0.0, follows=False) as file, self._lock:
                lines = self._content.follow(file, MOST_AT_ONCE, locked=True)
                if lines is None:
                    return None
                if not self.are_short():
                    return False
                with self.taken() as changes:
                    try:
                        self._make(file, lines, changes)
                    except (OSError, MemoryError) as error:
                        fail(changes, self._failed("write", error), error)
        except TimeoutError:
            return None
        except (OSError, MemoryError):
            return False  # whoever tries again is told
        finally:
            self._file.release()
        return True

    def _make(self, file: int, lines: Lines, changes: list[Change]) -> None:
        try:
            self._write(file, lines, changes)
        except OSError:
            if len(changes) == 1:
                raise
            for change in changes:  # there may be room for some of them
                with suppress(OSError):
                    self._write(file, lines, [change])
            raise

    def _write(self, file: int, lines: Lines, changes: list[Change]) -> None:
        """Append what the changes decide, in one write, in the order of their requests."""
        new: dict[Name, bytes] = {}
        decided: list[Change] = []
        for change in sorted(changes, key=lambda change: self._asked.get(change.name, inf)):
            name = change.name
            change.line = present = new.get(name, lines.get(name))
            try:
                line = change.decide(present)
            except Exception as error:
                change.error = error
            else:
                if line is not None and line != present:
                    change.line = new[name] = line
            decided.append(change)
        if new:
            replaced = lines.keys() & new.keys()
            self._content.append(file, new)
            self._note(new, replaced)
        for change in decided:
            change.made = True

    def _note(self, new: Iterable[Name], replaced: Container[Name | int]) -> None:
        """Take note of the order of lines that were appended."""
        for name in new:
            if name in replaced:
                self._untidy = True
                continue
            number = self._asked.pop(name, None)
            number = next(self._numbers) if number is None else number
            self._untidy |= number < self._last
            self._last = max(number, self._last)
            self._new[name] = number
        if self._untidy:
            _untidy.add(self)

    def remove(self, goes: Callable[[Name], bool]) -> int:
        """Remove the lines of names; how many there were. A file without lines is removed."""
        if not files.exists(self.path):
            return 0
        with self._writing() as file, self._lock:
            lines = self._content.load(file, whole=True)
            gone = {name for name in lines if isinstance(name, tuple) and goes(name)}
            left = {name: line for name, line in lines.items() if name not in gone}
            if gone:
                self._content.write_all(file, left)
            for name in gone:
                self._new.pop(name, None)
        if gone and not left and not systems.REPLACES_OPEN:
            self._content.remove_empty()
        return len(gone)

    def tidy(self) -> None:
        """Bring the lines into their order, and forget what was read of them."""
        with self._file:
            if self._untidy and files.exists(self.path):
                self._put_in_order()
            with self._lock:
                self._untidy = False
                _untidy.discard(self)
                self._content.forget()
                self._asked.clear()
                self._new.clear()
                self._last = -1

    def _put_in_order(self) -> None:
        """Write the file anew, while others append to it as long as that is possible."""
        content, draft, size = self._content, None, 0
        if systems.REPLACES_OPEN:
            lines = self.read_before()
            if lines is None or not content.is_sure():
                lines, content = self._read_anew(), self._content
            with self._lock:  # others read on meanwhile
                ordered = self._in_order(lines) if lines and lines is content.lines else {}
                size = content.size
            if ordered:
                try:
                    draft = content.draft(ordered)
                except (OSError, MemoryError) as error:
                    raise self._failed("write", error) from error
        try:
            with self._writing() as file, self._lock:
                if draft and content is self._content and content.complete(draft, file, size):
                    content.put(draft)
                else:
                    lines = self._content.load(file, whole=True)
                    self._content.write_all(file, self._in_order(lines))
        finally:
            if draft:
                with suppress(FileNotFoundError):  # it is in its place
                    files.unlink(draft)

    def _in_order(self, lines: Lines) -> Lines:
        """The new lines change places among each other alone."""
        new = iter(sorted((name for name in self._new if name in lines), key=self._new.__getitem__))
        names = [next(new) if name in self._new else name for name in lines]
        return {name: lines[name] for name in names}

    @contextmanager
    def _writing(self) -> Iterator[int]:
        """The file, open and locked; it is made where it is missing."""
        with self._file:
            try:
                with self._watched(self._writes, "write"):
                    files.make_folders(os.path.dirname(self.path), 0o700)
                    with open_alone(
                        self.path, _WRITING, 0o600, self.store_seconds, follows=False
                    ) as file:
                        self.found[:] = [self.path]
                        yield file
            except (OSError, MemoryError) as error:
                raise self._failed("write", error) from error

    def _begin_anew(self) -> None:
        """In a forked child: another thread may have held the lock, in the midst of a change."""
        self._file = threading.RLock()  # of who uses the file's lock, or waits for it
        self._reading = threading.RLock()
        self._lock = threading.Lock()  # of the content; nobody waits for the file who has it
        self._renew_queue()
        self._content.forget()


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
