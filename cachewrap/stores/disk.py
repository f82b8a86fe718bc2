"""The disk store: entries live in a diskcache folder, as bytes, one folder for each seed."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sqlite3
import threading
import time
import urllib.parse
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

import diskcache

from cachewrap.errors import ConfigurationError, StoreError
from cachewrap.stores.base import Store

_TIMEOUT = 60.0
"""Seconds to wait for another process's write; SQLite lets readers through meanwhile."""

_IN_FILE = 2**20
"""Values of this many bytes and more go to files of their own beside the database."""

_BATCH = 500
"""Rows that are listed or removed in one statement, so that other writers get their turn."""

_READS_KEPT = 1000
"""Times of use that are remembered before they are written down (only with ``max_bytes``)."""

_RAW, _BINARY = 1, 2  # diskcache's modes: the value is in its row, or in a file

_OURS = "raw = 1 AND typeof(key) = 'blob' AND length(key) = 32 AND mode IN (1, 2)"
_GET = "SELECT mode, filename, value, expire_time FROM Cache WHERE key = ? AND raw = 1"
_PUT = (
    "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, access_count,"
    " tag, size, mode, filename, value)"
    " VALUES (:key, 1, :now, :expires, :now, 0, NULL, :size, :mode, :file, :value)"
    " ON CONFLICT (key, raw) DO UPDATE SET store_time = :now, expire_time = :expires,"
    " access_time = :now, access_count = 0, tag = NULL,"
    " size = :size, mode = :mode, filename = :file, value = :value"
)
_LAID_OUT = "SELECT 1 FROM sqlite_master WHERE name = 'Settings_size_delete'"  # laid out last
_VOLUME = (
    "SELECT (page_count - freelist_count) * page_size"
    " + (SELECT value FROM Settings WHERE key = 'size')"
    " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)

_BY_USE = "CREATE INDEX IF NOT EXISTS Cache_access_time ON Cache (access_time)"  # diskcache's own
_PRAGMAS = "PRAGMA synchronous = 1; PRAGMA cache_size = 8192; PRAGMA mmap_size = 67108864"
_CONNECT: dict[str, Any] = {"isolation_level": None, "check_same_thread": False}

_Row: TypeAlias = tuple[int, "str | None", Any, "float | None"]


class BytesDisk(diskcache.Disk):  # type: ignore[misc]
    """The part of diskcache that turns values into columns and files: for bytes and nothing else.

    Keys are 64 hexadecimal characters and are kept as the 32 bytes they stand for. Everything else
    is refused, pickled rows above all, which are never unpickled.
    """

    _FILE = re.compile(r"[0-9a-f]{2}[/\\][0-9a-f]{2}[/\\][0-9a-f]{28}\.val")

    def put(self, key: str) -> tuple[memoryview, bool]:
        return memoryview(bytes.fromhex(key)), True

    def get(self, key: object, raw: bool) -> str:
        if raw and isinstance(key, bytes) and len(key) == 32:
            return key.hex()
        raise StoreError(f"{self._directory} holds a key that is not cachewrap's; it was not read")

    def store(self, value: bytes, read: bool, key: object = None) -> tuple[Any, ...]:
        if type(value) is not bytes or read:
            raise StoreError(f"a cachewrap folder holds bytes only, not {type(value).__name__}")
        columns: tuple[Any, ...] = super().store(value, False)
        return columns

    def fetch(self, mode: int, filename: str | None, value: object, read: bool) -> bytes:
        if mode == _RAW and type(value) is bytes:
            return value
        if mode == _BINARY and filename is not None and self._FILE.fullmatch(filename):
            content: bytes = super().fetch(mode, filename, value, False)
            return content
        raise StoreError(
            f"{self._directory} holds a row under a key of cachewrap's that cachewrap did not write"
            " (pickled, perhaps); it was not read. Delete the key, or use another folder or seed."
        )

    def remove(self, file_path: str) -> None:
        if self._FILE.fullmatch(file_path):
            super().remove(file_path)


class _Link:
    """One thread's connection. Its lock keeps `DiskStore.close` away while the thread uses it."""

    __slots__ = ("__weakref__", "con", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.con: sqlite3.Connection | None = None

    def close(self) -> None:
        con, self.con = self.con, None
        if con is not None:
            con.close()

    __del__ = close  # a thread that ends leaves no open connection behind


def _folder_name(seed: str) -> str:
    """The seed as the name of one folder: plain names as they are, others percent-encoded."""
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}(?<!\.)", seed):
        return seed
    name = urllib.parse.quote(seed, safe="", errors="surrogatepass").replace("~", "%7E")
    name = re.sub(r"^\.|\.$", "%2E", name)
    if seed and len(name) <= 100:
        return name
    return "%%" + hashlib.sha256(seed.encode(errors="surrogatepass")).hexdigest()


class DiskStore(Store):
    """Entries in ``<path_root>/<seed>/``, a folder that plain ``diskcache.Cache`` opens as well.

    The folder and ``path_root`` are made at the first write, for their owner alone, with a
    ``.gitignore`` in the seed's folder; folders that exist are left with the permissions they have.
    Rows of other programs in the same database (AutoGen keeps pickles there) are neither read,
    listed, counted nor removed. A folder made here tells every program that opens it to evict
    nothing; in a folder made by another program, its own settings stay, and are obeyed by it alone.

    Args:
        path_root: the folder that holds one folder for each seed; ``~`` and ``$NAME`` are expanded.
        seed: the partition. Names that a file system would not take are percent-encoded.
        max_bytes: the size that the database and its files are kept to, by removing this store's
            least recently used entries after a write; None never removes an entry that has not
            expired. It is a rule of this store object, not of the folder.

    Raises:
        ConfigurationError: ``max_bytes`` is not a positive number.
    """

    def __init__(
        self, path_root: str | os.PathLike[str], seed: str = "41", *, max_bytes: int | None = None
    ) -> None:
        if max_bytes is not None and max_bytes <= 0:
            raise ConfigurationError(f"max_bytes is {max_bytes}: give a positive number, or None")
        self._root = os.path.abspath(os.path.expandvars(os.path.expanduser(path_root)))
        self._seed = seed
        self._max_bytes = max_bytes
        self._folder = os.path.join(self._root, _folder_name(seed))
        self._path = os.path.join(self._folder, diskcache.core.DBNAME)
        self._disk = BytesDisk(self._folder, min_file_size=_IN_FILE)
        self._start()
        _stores.add(self)

    def _start(self) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()
        self._links: weakref.WeakSet[_Link] = weakref.WeakSet()
        self._paused: list[_Link] = []
        self._used: dict[bytes, float] = {}

    def __reduce__(self) -> tuple[Callable[..., DiskStore], tuple[str, str]]:
        return functools.partial(type(self), max_bytes=self._max_bytes), (self._root, self._seed)

    @property
    def url(self) -> str:
        place = urllib.parse.quote(os.path.realpath(self._root).replace(os.sep, "/"))
        seed = urllib.parse.quote(self._seed, safe="", errors="surrogatepass")
        return f"disk://{'' if place.startswith('/') else '/'}{place}?cache_seed={seed}"

    def reseed(self, seed: str) -> DiskStore:
        return DiskStore(self._root, seed, max_bytes=self._max_bytes)

    def check(self) -> None:
        """Raise `StoreError` if the folder cannot be made or written; nothing is written.

        A folder that can be read but not written fails this check, and can still be read.
        """
        if os.path.exists(self._path) and not os.access(self._path, os.R_OK | os.W_OK):
            raise self._unusable(self._path, "cannot be read and written by this user")
        place = self._folder
        while not os.path.lexists(place) and place != os.path.dirname(place):
            place = os.path.dirname(place)
        if not os.path.isdir(place):
            raise self._unusable(place, "is not a folder")
        if not os.access(place, os.W_OK | os.X_OK):
            raise self._unusable(place, "cannot be written by this user")

    def get(self, key: str) -> bytes | None:
        name = bytes.fromhex(key)
        link = getattr(self._local, "link", None) or self._link()
        with link.lock:
            con = link.con or self._connect(link)
            if con is None:
                return None
            try:
                rows = con.execute(_GET, (name,)).fetchall()
            except sqlite3.Error as error:
                raise self._failed("read", error) from error
        value = self._value(rows)
        if value is not None and self._max_bytes is not None:
            self._used[name] = time.time()
            if len(self._used) >= _READS_KEPT:
                self._note_use()
        return value

    def add(
        self, key: str, value: bytes, *, expires: float = 0.0, over: bytes | None = None
    ) -> bytes:
        name = bytes.fromhex(key)
        with self._writing() as writing:
            present = self._value(writing.con.execute(_GET, (name,)).fetchall())
            if present is not None and present != over:
                return present
            writing.put(name, value, expires)
        return value

    def set(self, key: str, value: bytes, *, expires: float = 0.0) -> None:
        with self._writing() as writing:
            writing.put(bytes.fromhex(key), value, expires)

    def delete(self, key: str) -> bool:
        if not os.path.exists(self._path):
            return False
        with self._writing() as writing:
            return writing.remove("key = ? AND raw = 1", bytes.fromhex(key)) == 1

    def keys(self) -> Iterator[str]:
        sql = (
            f"SELECT rowid, key FROM Cache WHERE rowid > ? AND {_OURS}"
            " AND (expire_time IS NULL OR expire_time > ?) ORDER BY rowid LIMIT ?"
        )
        last = 0
        while rows := self._read(sql, (last, time.time(), _BATCH)):
            last = rows[-1][0]
            for _, name in rows:
                yield name.hex()

    def clear(self) -> int:
        newest = self._read("SELECT max(rowid) FROM Cache", ())
        count, removed = 0, _BATCH
        while newest and removed == _BATCH:
            with self._writing() as writing:
                removed = writing.remove(f"rowid <= ? AND {_OURS} LIMIT {_BATCH}", newest[0][0])
            count += removed
        return count

    def close(self) -> None:
        """Close the connections of every thread; one that is at work finishes first."""
        if self._used:
            self._note_use()
        for link in self._all_links():
            with link.lock:
                link.close()

    def _link(self) -> _Link:
        link: _Link
        link = self._local.link = _Link()
        with self._lock:
            self._links.add(link)
        return link

    def _all_links(self) -> list[_Link]:
        with self._lock:
            return list(self._links)

    def _pause(self) -> None:
        self._lock.acquire()
        self._paused = list(self._links)
        for link in self._paused:
            link.lock.acquire()
            link.close()

    def _resume(self) -> None:
        for link in self._paused:
            link.lock.release()
        self._paused = []
        self._lock.release()

    def _connect(self, link: _Link, make: bool = False) -> sqlite3.Connection | None:
        """Open the thread's connection; None if there is no database and none is to be made."""
        try:
            if make and not os.path.exists(self._path):
                self._make()
            if os.path.exists(self._path):
                link.con = self._open()
                if link.con is None and make:  # a database that is being made, or has no tables
                    self._make()
                    link.con = self._open()
        except (sqlite3.Error, diskcache.Timeout, OSError) as error:
            raise self._failed("open", error) from error
        return link.con

    def _make(self) -> None:
        os.makedirs(os.path.dirname(self._root), exist_ok=True)
        for folder in (self._root, self._folder):
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)
                if folder == self._folder:
                    with open(os.path.join(folder, ".gitignore"), "x", encoding="utf-8") as file:
                        file.write("*\n")
        # The settings are stored: whatever program opens the folder later evicts nothing either.
        diskcache.Cache(
            self._folder, timeout=_TIMEOUT, disk=BytesDisk, eviction_policy="none"
        ).close()

    def _open(self) -> sqlite3.Connection | None:
        """A connection that has written nothing, not even the settings that diskcache rewrites."""
        try:
            return self._ready(sqlite3.connect(self._path, _TIMEOUT, **_CONNECT))
        except sqlite3.OperationalError:
            if os.access(self._folder, os.W_OK):
                raise
            # SQLite cannot put the files of its write-ahead log into a folder that is read-only.
            place = f"file:{urllib.parse.quote(self._path)}?immutable=1"
            return self._ready(sqlite3.connect(place, _TIMEOUT, uri=True, **_CONNECT))

    @staticmethod
    def _ready(con: sqlite3.Connection) -> sqlite3.Connection | None:
        try:
            if con.execute(_LAID_OUT).fetchall():
                con.executescript(_PRAGMAS)
                return con
        except BaseException:
            con.close()
            raise
        con.close()
        return None

    def _read(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        link = getattr(self._local, "link", None) or self._link()
        with link.lock:
            con = link.con or self._connect(link)
            try:
                return con.execute(sql, values).fetchall() if con else []
            except sqlite3.Error as error:
                raise self._failed("read", error) from error

    def _value(self, rows: list[_Row]) -> bytes | None:
        if not rows:
            return None
        ((mode, filename, column, expires),) = rows
        if expires is not None and expires <= time.time():
            return None
        try:
            return self._disk.fetch(mode, filename, column, False)
        except FileNotFoundError:  # removed since the row was read
            return None
        except OSError as error:
            raise self._failed("read", error) from error

    @contextmanager
    def _writing(self) -> Iterator[_Writing]:
        """One transaction, and the files that go with it."""
        link = getattr(self._local, "link", None) or self._link()
        remove: list[str] = []
        try:
            with link.lock:
                if link.con is not None and not os.path.exists(self._path):
                    link.close()  # the folder was deleted; what is written now belongs in a new one
                con = link.con or self._connect(link, make=True)
                if con is None:
                    raise StoreError(f"cannot write {self._path}: it went away while it was opened")
                con.execute("BEGIN IMMEDIATE")
                writing = _Writing(con, self._disk)
                try:
                    yield writing
                    writing.remove(f"{_OURS} AND expire_time < ? LIMIT 10", time.time())
                    if self._max_bytes is not None:
                        used, self._used = self._used, {}
                        writing.evict(self._max_bytes, used)
                    con.execute("COMMIT")
                    remove = writing.replaced
                except BaseException:
                    remove = writing.stored
                    if con.in_transaction:
                        con.execute("ROLLBACK")
                    raise
        except (sqlite3.Error, OSError) as error:
            raise self._failed("write", error) from error
        finally:
            for filename in remove:
                self._disk.remove(filename)

    def _note_use(self) -> None:
        """Write down when entries were read; every write does so as it ends."""
        with self._writing():
            pass

    def _unusable(self, place: str, why: str) -> StoreError:
        return StoreError(
            f"the cache folder {self._folder} cannot be used: {place} {why}."
            " Choose another cache_path_root, or mend it."
        )

    def _failed(self, doing: str, error: Exception) -> StoreError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return StoreError(
                f"{self._path} is damaged, or no database at all ({error})."
                " Delete it or move it away, or choose another cache_path_root or seed."
            )
        if code == sqlite3.SQLITE_BUSY:
            return StoreError(
                f"cannot {doing} {self._path}: another program kept it locked"
                f" for more than {_TIMEOUT:.0f} seconds ({error})"
            )
        return StoreError(f"cannot {doing} {self._path}: {error}")


class _Writing:
    """What one transaction changes: rows at once, files when it has ended."""

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
        for _ in range(_BATCH):  # a folder that is far too big shrinks over several writes
            if self.con.execute(_VOLUME).fetchone()[0] <= max_bytes:
                return
            self.con.execute(_BY_USE)
            newest = f"(SELECT max(access_time) FROM Cache WHERE {_OURS})"
            where = f"{_OURS} AND access_time < {newest} ORDER BY access_time LIMIT 1"
            if not self.remove(where):
                return


_stores: weakref.WeakSet[DiskStore] = weakref.WeakSet()
_paused: list[DiskStore] = []


def _before_fork() -> None:
    """Close every connection: SQLite allows none to cross a fork, not even to be closed there."""
    _paused[:] = list(_stores)
    for store in _paused:
        store._pause()


def _after_fork_in_parent() -> None:
    for store in _paused:
        store._resume()
    _paused.clear()


def _after_fork_in_child() -> None:
    for store in _paused:
        store._start()
    _paused.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
