"""Files of JSON lines, written and read one line at a time: in the format of `Cache.jsonl`."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

from cachewrap.errors import ConfigurationError, StoreError
from cachewrap.stores._cassette import head_of, is_at, locked, name_of
from cachewrap.stores._lines import HEAD, VERSION
from cachewrap.stores.base import Store
from cachewrap.stores.jsonl import JsonlStore

_KEY: Final = re.compile("[0-9a-f]{64}")
_FLUSH_AT: Final = 1 << 20


class Export:
    """A file that lines are added to, and the entries that it has already.

    What it has is kept in a database that SQLite moves to the disk when it grows.

    Args:
        file: the open file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._known: sqlite3.Connection | None = None

    @classmethod
    @contextmanager
    def to(cls, path: str, overwrite: bool) -> Iterator[Export]:
        """A file to write to: the one that is there, to its last whole line, or a new one.

        Args:
            path: the file; ``-`` is the output of this process.
            overwrite: begin anew.

        Raises `StoreError` where it cannot be written, `ConfigurationError` where it is something
        else.
        """
        if path == "-":
            export = cls(sys.stdout.buffer)
            export._begin()
            yield export
            sys.stdout.buffer.flush()
            return
        try:
            with _open_alone(path) as file:
                if overwrite:
                    file.truncate(0)
                export = cls(file)
                export._go_on(path)
                yield export
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error}") from error

    def _begin(self) -> None:
        self._file.write(HEAD + b"\n")

    def _go_on(self, path: str) -> None:
        end, ours, ends = 0, False, True
        for line in self._file:
            ends = line.endswith(b"\n")
            if not line.strip():
                end += len(line)
                continue
            try:
                name = names_of(line)
            except ValueError as error:
                if not ends and (ours or (not end and HEAD.startswith(line))):
                    ends = True
                    break  # an export was interrupted in it
                raise ConfigurationError(
                    f"{path} is not a file of entries ({error}): --overwrite begins it anew"
                ) from None
            ours, end = True, end + len(line)
            if name is None:
                check_head(line)
            else:
                self._know(*name)
        self._file.seek(end)
        self._file.truncate()
        if not end:
            self._begin()
        elif not ends:  # a line that is whole: somebody's editor left it so
            self._file.write(b"\n")

    def _know(self, seed: str, key: str) -> None:
        if self._known is None:
            self._known = sqlite3.connect("")
            self._known.execute(
                "CREATE TABLE name (seed, key, PRIMARY KEY (seed, key)) WITHOUT ROWID"
            )
        self._known.execute("INSERT OR IGNORE INTO name VALUES (?, ?)", (seed, key))

    def has(self, seed: str, key: str) -> bool:
        """Whether the file had the entry when it was opened."""
        if self._known is None:
            return False
        sql = "SELECT 1 FROM name WHERE seed = ? AND key = ?"
        return bool(self._known.execute(sql, (seed, key)).fetchall())

    def write(self, line: bytes) -> None:
        """Add a line."""
        self._file.write(line + b"\n")


@contextmanager
def _open_alone(path: str) -> Iterator[BinaryIO]:
    """A file to write to, which no program that has its cache in it writes to meanwhile."""
    while True:
        made = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        with open(made, "r+b", buffering=_FLUSH_AT) as file:
            if not stat.S_ISREG(os.fstat(made).st_mode):  # a device may have no end
                raise StoreError(f"cannot write {path}: no regular file; - is the output")
            with locked(made, True):
                if is_at(made, path):
                    try:
                        yield file
                    finally:
                        file.flush()
                    return


@contextmanager
def open_import(path: str) -> Iterator[BinaryIO]:
    """A file to read; ``-`` is the input of this process. Raises `StoreError`."""
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    with file:
        yield file


def check_apart(file: str, store: Store) -> None:
    """Raise `ConfigurationError` where a file of lines is the very file that a store keeps."""
    if not isinstance(store, JsonlStore) or not os.path.exists(file):
        return
    if os.path.exists(store.path) and os.path.samefile(file, store.path):
        raise ConfigurationError(f"{file} is the cache itself: give another file or cache")


def names_of(line: bytes) -> tuple[str, str] | None:
    """The seed and key of a line; None for a head. Raises `ValueError` for anything else."""
    name = name_of(line)
    if name is not None and _KEY.fullmatch(name[1]) is None:
        raise ValueError(f"{name[1]!r} is no key")
    return name


def check_head(line: bytes) -> None:
    """Raise `ConfigurationError` for the head of a file that this version cannot read."""
    version = head_of(line).version
    if version != VERSION:
        raise ConfigurationError(
            f"a file of version {version}; this cachewrap reads version {VERSION}"
        )
