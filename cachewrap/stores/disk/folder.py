"""A diskcache folder as the disk store uses it: rows, files, and connections, in bytes only.

The tables are diskcache's own, laid out by diskcache, and the statements follow its `Cache`; they
are written out here because its constructor writes every setting at each open, its `get` updates
rows once a size limit is set, and its `add` does not hand back what it found.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import stat
import time
from contextlib import closing, suppress
from pathlib import Path
from random import random
from typing import Any, BinaryIO

import diskcache

from cachewrap.errors import StoreError, printable
from cachewrap.patterns import later
from cachewrap.stores.seed_folders import DATABASE, check_files, make
from cachewrap.systems import (
    NotAFile,
    clock,
    files,
    open_file,
)

LEASES = "cache.db-leases"
"""The file of the leases; diskcache's `check` would call one of another name unknown."""

BATCH = 500
"""Rows that are listed or removed in one statement, so that other writers get their turn."""

IN_FILE = 2**20
"""Values of this many bytes and more go to files of their own beside the database."""

_LARGEST = 2**30
"""Bytes of a value, at most, that are read from a file of its own: SQLite itself holds no more."""

LARGEST_ROW = 2**24
"""Bytes of a value in a row, at most, that are read: those of cachewrap's have `IN_FILE` bytes."""

_AGAIN = 0.001
"""Seconds until what met a lock is tried again, on average: as long as a transaction takes."""

_ATTEMPTS = 10
"""Attempts to make a file in a folder that others remove when it is empty."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL

DAMAGED = b""
"""What is read of a row or a file that is none of cachewrap's: no entry, and one to be replaced."""

RAW, _BINARY = 1, 2
"""diskcache's modes: the value is in its row, or in a file."""

OURS = "raw = 1 AND typeof(key) = 'blob' AND length(key) = 32 AND mode IN (1, 2)"
GET = "SELECT mode, filename, value, expire_time FROM Cache WHERE key = ? AND raw = 1"
_INSERT = (
    "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, access_count,"
    " tag, size, mode, filename, value)"
)
ADD = f"{_INSERT} VALUES (?, 1, ?, ?, ?, 0, NULL, 0, 1, NULL, ?) ON CONFLICT DO NOTHING"
"""Stores a value in its row, unless there is a row of that key."""

SMALL_VALUE = f"CASE WHEN length(value) <= {LARGEST_ROW} THEN value END"

STALE = f"SELECT 1 FROM Cache WHERE {OURS} AND expire_time < ? LIMIT 1"

_PUT = (
    f"{_INSERT} VALUES (:key, 1, :now, :expires, :now, 0, NULL, :size, :mode, :file, :value)"
    " ON CONFLICT (key, raw) DO UPDATE SET store_time = :now, expire_time = :expires,"
    " access_time = :now, access_count = 0, tag = NULL,"
    " size = :size, mode = :mode, filename = :file, value = :value"
)
_SCHEMA = "SELECT type, name, sql FROM sqlite_master WHERE lower(tbl_name) IN ('cache', 'settings')"
_LAST = "Settings_size_delete"  # is laid out last
# What diskcache lays out, of whatever version. Anything else may run for ever: a view, a trigger of
# another kind, or a column or an index that is computed.
_PLAIN = later(
    r'CREATE TABLE "?\w+"?\s*\([\w\s,]*\)'
    r'|CREATE (?:UNIQUE )?INDEX \w+ ON "?\w+"?\s*\([\w\s,]*\)(?:\s*WHERE \w+ IS NOT NULL)?'
    r'|CREATE TRIGGER \w+\s+(?:AFTER|BEFORE) (?:INSERT|UPDATE|DELETE) ON "?\w+"?\s+'
    r"FOR EACH ROW BEGIN\s+UPDATE Settings SET value = value"
    r"(?: [-+] (?:1|NEW\.size|OLD\.size)){1,2}\s+WHERE key = [\"']\w+[\"'];\s*END",
    re.IGNORECASE,
)
_VOLUME = (
    "SELECT (page_count - freelist_count) * page_size"
    " + max(0, coalesce((SELECT CAST(value AS INTEGER) FROM Settings WHERE key = 'size'), 0))"
    " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)

# diskcache's own, without the rows that never expire: another page to write for each of them.
_BY_EXPIRY = """
BEGIN IMMEDIATE;
DROP INDEX IF EXISTS Cache_expire_time;
CREATE INDEX Cache_expire_time ON Cache (expire_time) WHERE expire_time IS NOT NULL;
COMMIT
"""
_UNDATED = f"{OURS} AND (access_time IS NULL OR access_time >= 9e999) LIMIT 1"
_BY_USE = "CREATE INDEX IF NOT EXISTS Cache_access_time ON Cache (access_time)"  # diskcache's own
PRAGMAS = "PRAGMA synchronous = 1; PRAGMA cache_size = 8192; PRAGMA mmap_size = 67108864"
"""What each connection is told when it is opened."""

_CONNECT: dict[str, Any] = {
    "isolation_level": None,
    "check_same_thread": False,
}


class BytesDisk(diskcache.Disk):  # type: ignore[misc]
    """The part of diskcache that turns values into columns and files: for bytes and nothing else.

    Keys are 64 hexadecimal characters and are kept as the 32 bytes they stand for. Everything else
    is refused, pickled rows above all, which are never unpickled.
    """

    _FILE = later(r"[0-9a-f]{2}[/\\][0-9a-f]{2}[/\\][0-9a-f]{28}\.val")  # and nothing outside

    def __init__(self, directory: str, **settings: Any) -> None:
        super().__init__(directory, **{**settings, "min_file_size": IN_FILE})

    def put(self, key: str) -> Any:
        return memoryview(bytes.fromhex(key)), True

    def get(self, key: object, raw: bool) -> str:
        if raw and isinstance(key, bytes) and len(key) == 32:
            return key.hex()
        raise StoreError(f"{self._directory} holds a key that is not cachewrap's; it was not read")

    def store(self, value: bytes, read: bool, key: object = None) -> tuple[Any, ...]:
        if type(value) is not bytes or read:
            raise StoreError(f"a cachewrap folder holds bytes only, not {type(value).__name__}")
        if len(value) < self.min_file_size:
            return 0, RAW, None, value
        filename, path = self.filename()
        with self._made(path) as file:
            file.write(value)
        return len(value), _BINARY, filename, None

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> bytes:
        """The value of a row; `DAMAGED` for one that cachewrap did not write (pickled, perhaps)."""
        if mode == RAW and type(value) is bytes:
            return value
        if mode == _BINARY and isinstance(filename, str) and self._FILE.fullmatch(filename):
            path = os.path.join(self._directory, _native(filename))
            try:
                self._check_folders(path)
                if files.lstat(path).st_size <= _LARGEST:  # a sparse one takes no room on the disk
                    return files.contents(path, follows=False)
            except (NotAFile, NotADirectoryError, MemoryError):
                pass
        return DAMAGED

    def remove(self, file_path: object) -> None:
        if isinstance(file_path, str) and self._FILE.fullmatch(file_path):
            path = os.path.join(self._directory, _native(file_path))
            with suppress(OSError):  # somebody else removes it, or fills its folder again
                self._check_folders(path)
                files.unlink(path)
                files.rmdir(os.path.dirname(path))
                files.rmdir(os.path.dirname(os.path.dirname(path)))

    def _made(self, path: str) -> BinaryIO:
        """A new file, open to be written, in a folder that is made where it is missing."""
        for left in reversed(range(_ATTEMPTS)):
            try:
                files.make_folders(os.path.dirname(path), 0o700)
                self._check_folders(path)
                return files.stream(open_file(path, _NEW, 0o600, follows=False), "wb")
            except OSError:
                if not left:
                    raise
        raise AssertionError

    def _check_folders(self, path: str) -> None:
        """Raise `NotADirectoryError` where a link leads out of the folder."""
        for folder in (os.path.dirname(os.path.dirname(path)), os.path.dirname(path)):
            _check_folder(files.lstat(folder).st_mode, folder)


def _check_folder(mode: int, path: str) -> None:
    if not stat.S_ISDIR(mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)


def _native(filename: str) -> str:
    return filename.replace("\\", os.sep)  # as a program on Windows wrote it down


class Transaction:
    """The changes of one transaction: rows at once, files when it has ended."""

    def __init__(self, con: sqlite3.Connection, disk: BytesDisk) -> None:
        self.con = con
        self.stored: list[str] = []  # to be removed if the transaction fails
        self.replaced: list[str] = []  # to be removed once it is committed
        self._disk = disk

    def put(self, name: bytes, value: bytes, expires: float) -> None:
        sql = "SELECT filename FROM Cache WHERE key = ? AND raw = 1"
        self.replaced += [row[0] for row in self.con.execute(sql, (name,)) if row[0]]
        size, mode, filename, column = self._disk.store(value, False)
        if filename is not None:
            self.stored.append(filename)
        columns = {"size": size, "mode": mode, "file": filename, "value": column}
        times = {"now": time.time(), "expires": expires or None}
        self.con.execute(_PUT, {"key": name, **columns, **times})

    def remove(self, where: str, *values: Any) -> int:
        rows = self.con.execute(f"SELECT rowid, filename FROM Cache WHERE {where}", values)
        gone = rows.fetchall()
        if gone:
            self.con.executemany("DELETE FROM Cache WHERE rowid = ?", [row[:1] for row in gone])
            self.replaced += [row[1] for row in gone if row[1]]
        return len(gone)

    def evict(self, max_bytes: int, used: dict[bytes, float]) -> None:
        """Remove what was not used for longest until the rest fits; the newest always stays."""
        note = "UPDATE Cache SET access_time = max(access_time, ?) WHERE key = ? AND raw = 1"
        self.con.executemany(note, [(when, name) for name, when in list(used.items())])
        for _ in range(BATCH):  # a folder that is far too big shrinks over several writes
            if self.con.execute(_VOLUME).fetchone()[0] <= max_bytes:
                return
            self.con.execute(_BY_USE)
            if self.remove(_UNDATED):
                continue
            newest = f"(SELECT max(access_time) FROM Cache WHERE {OURS})"
            where = f"{OURS} AND access_time < {newest} ORDER BY access_time LIMIT 1"
            if not self.remove(where):
                return


def lay_out(root: str, folder: str, wait: float) -> None:
    """Make the folder, with an empty database in it; keep what exists.

    Args:
        root: the folder that holds the folders of all seeds.
        folder: the folder.
        wait: seconds to wait for another process's lock.
    """
    make(root, folder)
    path = os.path.join(folder, DATABASE)
    check_files(path)
    with suppress(FileExistsError):  # for its owner alone, as SQLite makes its own files then
        files.close(open_file(path, _NEW, 0o600, follows=False))
    new = not files.lstat(path).st_size
    # The settings are stored: whatever program opens the folder later evicts nothing either.
    _LaidOut(folder, wait).close()
    if new:
        with closing(sqlite3.connect(path, timeout=wait)) as con:
            con.executescript(_BY_EXPIRY)


class _LaidOut(diskcache.Cache):  # type: ignore[misc]
    """A database laid out by diskcache, which by itself tries each statement for a minute.

    Raises `diskcache.Timeout` where another program keeps it locked.
    """

    def __init__(self, folder: str, wait: float) -> None:
        self._end = clock.now() + wait
        super().__init__(folder, timeout=0, disk=BytesDisk, eviction_policy="none")

    @property
    def _sql(self) -> Any:
        execute = self._con.execute

        def sql(statement: str, *args: Any) -> Any:
            try:
                return execute(statement, *args)
            except sqlite3.OperationalError as error:
                if str(error) == "database is locked" and clock.now() > self._end:
                    raise diskcache.Timeout(str(error)) from error
                raise

        return sql


def connect(path: str, wait: float) -> sqlite3.Connection | None:
    """Open the database without writing a thing; None if it has not been laid out (yet).

    Args:
        path: the database.
        wait: seconds to wait for another process's lock.
    """
    try:
        return _ready(sqlite3.connect(path, timeout=wait, **_CONNECT), path)
    except sqlite3.OperationalError:
        if files.access(os.path.dirname(path), os.W_OK):
            raise
        # SQLite cannot put the files of its write-ahead log into a folder that is read-only.
        place = f"{Path(path).as_uri()}?immutable=1"
        return _ready(sqlite3.connect(place, timeout=wait, uri=True, **_CONNECT), path)


def execute(
    con: sqlite3.Connection, wait: float, sql: str, values: tuple[Any, ...] = ()
) -> sqlite3.Cursor:
    """Execute a statement once other processes let go of what it needs, within so many seconds.

    SQLite's own waits grow to a tenth of a second, so that who has waited long looks seldom. Here
    all look equally often, so that each gets its turn soon.
    """
    try:
        return con.execute(sql, values)
    except sqlite3.OperationalError as error:
        if not is_busy(error):
            raise
    deadline = clock.now() + wait
    while True:
        time.sleep(_AGAIN * (0.5 + random()))
        try:
            return con.execute(sql, values)
        except sqlite3.OperationalError as error:
            if not is_busy(error) or clock.now() > deadline:
                raise


def is_busy(error: Exception) -> bool:
    """Whether another process has a lock that is needed."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def is_too_large(error: Exception) -> bool:
    """Whether a row has a value that is larger than any that is stored in one."""
    code = getattr(error, "sqlite_errorcode", 0)
    return isinstance(error, MemoryError) or code == sqlite3.SQLITE_TOOBIG


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")  # one that is not UTF-8 must not hide the other rows


def _ready(con: sqlite3.Connection, path: str) -> sqlite3.Connection | None:
    try:
        con.text_factory = _text
        found = con.execute(_SCHEMA).fetchall()
        for sort, name, sql in found:
            if sql is not None and not (type(sql) is str and _PLAIN.fullmatch(sql)):
                raise StoreError(
                    f"{path} holds the {printable(f'{sort} {name}')}, which is none of a cache's"
                    " and may run for ever: delete the database or move it away, or choose another"
                    " cache_path_root or seed"
                )
        if any(name == _LAST for _, name, _ in found):
            con.executescript(PRAGMAS)
            con.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_ROW)
            con.execute("PRAGMA busy_timeout = 0")  # see `execute`
            return con
    except BaseException:
        con.close()
        raise
    con.close()
    return None
