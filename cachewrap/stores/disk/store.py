"""The disk store: entries live in a diskcache folder, as bytes, one folder for each seed."""

from __future__ import annotations

import functools
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

from cachewrap.errors import ConfigurationError, StoreError
from cachewrap.loops import aside, is_on_loop, running_loop
from cachewrap.policy import BREAKER_SECONDS, STORE_SECONDS
from cachewrap.stores.base import (
    Checks,
    Claim,
    Leases,
    Scans,
    Seeds,
    Store,
    Uses,
    in_thread,
)
from cachewrap.stores.disk import leases
from cachewrap.stores.disk.connections import METHOD, Addition, Additions, Connections, off_loop
from cachewrap.stores.disk.folder import (
    ADD,
    BATCH,
    DAMAGED,
    GET,
    IN_FILE,
    LEASES,
    OURS,
    RAW,
    SMALL_VALUE,
    STALE,
    BytesDisk,
    Transaction,
    execute,
    is_busy,
    is_too_large,
)
from cachewrap.stores.log_files import FileLogs, LogFiles
from cachewrap.stores.seed_folders import (
    DATABASE,
    check,
    check_files,
    check_owners,
    folder_name,
    make,
    seed_of,
)
from cachewrap.systems import NotAFile, files
from cachewrap.telemetry.events import warn_once
from cachewrap.urls import absolute, url_of, url_of_path

_READS_KEPT = 1000
"""Times of use that are remembered before they are written down (only with ``max_bytes``)."""

_SWEEP = 10
"""The first of so many additions also looks for what has expired, and removes it."""

_EXPIRED = 100
"""Expired entries that one write removes at most: it makes others wait meanwhile."""

_SCANNED = 100
"""Values that are read in one statement: few enough to be held at once, however large."""

LOGS = ".runs"
"""The folder of the logs: no seed's, as those of the seeds have no dot in front."""


class DiskStore(Store, Scans, Seeds, Uses, FileLogs, Checks):
    """Entries in ``<path_root>/<seed>/``, a folder that plain ``diskcache.Cache`` opens as well.

    The folder and ``path_root`` are made at the first write, for their owner alone, with a
    ``.gitignore`` in the seed's folder; folders that exist are left with the permissions they have.
    Folders of another user are refused, unless the environment variable CACHEWRAP_TRUSTED_OWNERS
    has his number, or is ``any``; root uses all, as does a system without owners. ``path_root`` may
    be a link; a link or anything but a file inside of it is neither followed nor read.
    A row that cachewrap did not write is read as no bytes, and replaced by the next answer.
    Rows of other programs in the same database (AutoGen keeps pickles there) are neither read,
    listed, counted nor removed. A folder made here tells every program that opens it to evict
    nothing; in a folder made by another program, its own settings stay, and are obeyed by it alone.
    A folder that this user cannot write is read as it is: nobody else may write to it meanwhile.
    Logs are files in ``<path_root>/.runs/``, a folder that is made and checked in the same way.

    A read waits for nobody who writes. For a lock that keeps readers out too (another program's; a
    database that is being made or recovered) it waits half of ``store_seconds`` at most, and then
    fails; a write waits ``store_seconds`` at most for those of other processes. After that reads,
    or writes, of every store of the folder in this process fail at once for ``breaker_seconds``.
    Then one of them tries again.

    Leases are byte locks on a file beside the database. They end when they are released or when the
    process ends, however it ends. One that is not renewed, as its owner is stopped, is his still,
    and nobody waits for it. Where a system has no locks on files, every process takes every lease.

    Args:
        path_root: the folder that holds one folder for each seed; ``~`` and ``$NAME`` are expanded.
        seed: the partition. Names that a file system would not take are percent-encoded.
        max_bytes: the size that the database and its files are kept to, by removing this store's
            least recently used entries after a write; None never removes an entry that has not
            expired. It is a rule of this store object, not of the folder.
        store_seconds: how long a write waits for a lock that another program has; a read waits half
            of it.
        breaker_seconds: for how long the database is left alone after such a wait in vain.

    Raises:
        ConfigurationError: ``max_bytes`` is not a positive number.
    """

    bounded = True

    def __init__(
        self,
        path_root: str | os.PathLike[str],
        seed: str = "41",
        *,
        max_bytes: int | None = None,
        store_seconds: float = STORE_SECONDS,
        breaker_seconds: float = BREAKER_SECONDS,
    ) -> None:
        if max_bytes is not None and (type(max_bytes) is not int or max_bytes <= 0):
            raise ConfigurationError(f"max_bytes is {max_bytes!r}: give a positive number, or None")
        self._root = absolute(path_root)
        self._seed = seed
        self._max_bytes = max_bytes
        self._folder = os.path.join(self._root, folder_name(seed))
        self._path = os.path.join(self._folder, DATABASE)
        self._leases = os.path.join(self._folder, LEASES)
        self._disk = BytesDisk(self._folder)
        self._options: dict[str, Any] = {
            "max_bytes": max_bytes,
            "store_seconds": store_seconds,
            "breaker_seconds": breaker_seconds,
        }
        found: list[str] = []
        self._connections = Connections(
            self._root, self._path, store_seconds, breaker_seconds, found
        )
        self._log_files = LogFiles(self._root, LOGS, store_seconds, found=found)
        self._used: dict[bytes, float] = {}
        self._additions = 0
        self._leases_checked = False
        self._waiting = Additions()

    def __reduce__(self) -> tuple[Callable[..., DiskStore], tuple[str, str]]:
        return functools.partial(type(self), **self._options), (self._root, self._seed)

    @property
    def url(self) -> str:
        return url_of("disk", files.real_path(self._root), self._seed)

    @property
    def logs_url(self) -> str:
        return url_of_path("disk", files.real_path(self._root))

    def reseed(self, seed: str) -> DiskStore:
        return DiskStore(self._root, seed, **self._options)

    def beside(self, name: str) -> str:
        """The path of a file in the partition's folder, which may not exist yet."""
        return os.path.join(self._folder, name)

    def check(self) -> None:
        """Raise `StoreError` if the folder cannot be made or written; nothing is written.

        A folder that can be read but not written fails this check, and can still be read.
        """
        check(self._root, self._folder)

    def get(self, key: str) -> bytes | None:
        if type(sqlite3.Connection.execute) is not METHOD and is_on_loop():
            return aside(functools.partial(self.get, key))
        name = bytes.fromhex(key)
        connections = self._connections
        link = getattr(connections.local, "link", None) or connections.new_link()
        try:
            # Not `acquire` and `try`, though that is quicker: an interrupt may come between them.
            with link.lock:
                con = link.con
                # The first half of `Connections.connected`.
                if (
                    con is None
                    or monotonic() >= link.trusted
                    or not files.access(self._path, os.F_OK)
                ):
                    con = connections.readable(link)
                    if con is None:
                        return None
                rows = con.execute(GET, (name,)).fetchall()
        except (sqlite3.Error, MemoryError) as error:
            if is_too_large(error):
                return DAMAGED
            if not is_busy(error):
                raise self._connections.failed("read", error) from error
            rows = connections.read(GET, (name,))  # which waits
        if not rows:
            return None
        mode, _, column, expires = rows[0]
        plain = mode == RAW and expires is None and type(column) is bytes  # most of them are
        value = column if plain else self._value(rows)
        if value is not None and self._max_bytes is not None:
            self._used[name] = time.time()
            if len(self._used) >= _READS_KEPT:
                self._note_use()
        return value

    async def aget(self, key: str) -> bytes | None:
        # A thread costs ten times what a read does: only where it is watched.
        if type(sqlite3.Connection.execute) is not METHOD:
            return await in_thread(self.get, key)
        try:
            return self.get(key)
        except StoreError:
            raise
        except Exception:  # a guard of event loops that was not known by its methods
            return await in_thread(self.get, key)

    def add(
        self, key: str, value: bytes, *, expires: float = 0.0, over: bytes | None = None
    ) -> bytes:
        if type(sqlite3.Connection.execute) is not METHOD and is_on_loop():
            return aside(functools.partial(self.add, key, value, expires=expires, over=over))
        name = bytes.fromhex(key)
        if self._added(name, value, expires):
            return value
        with self._writing() as writing:
            try:
                present = self._value(writing.con.execute(GET, (name,)).fetchall())
            except (sqlite3.Error, MemoryError) as error:
                if not is_too_large(error):
                    raise
                present = DAMAGED
            if present is not None and present != over:
                return present
            writing.put(name, value, expires)
        return value

    async def aadd(
        self, key: str, value: bytes, *, expires: float = 0.0, over: bytes | None = None
    ) -> bytes:
        loop = running_loop()
        if loop is None or self._max_bytes is not None or len(value) >= IN_FILE:
            return await in_thread(self.add, key, value, expires=expires, over=over)
        addition = Addition(loop, key, value, expires=expires, over=over)
        return await self._waiting.add(addition, self._add_all)

    def _add_all(self, additions: list[Addition]) -> None:
        """Add several in one transaction, and by itself what that does not add."""
        if len(additions) > 1:
            now = int(time.time())
            with suppress(StoreError):  # each of them meets it again, if it is to be told
                with self._writing() as writing:
                    add = writing.con.execute
                    new = [one for one in additions if add(ADD, one.columns(now)).rowcount == 1]
                for one in new:
                    one.result = one.value
        for one in additions:
            if one.result is None:
                try:
                    one.result = self.add(one.key, one.value, **one.options)
                except StoreError as error:
                    one.error = error

    @off_loop
    def set(self, key: str, value: bytes, *, expires: float = 0.0) -> None:
        with self._writing() as writing:
            writing.put(bytes.fromhex(key), value, expires)

    @off_loop
    def delete(self, key: str) -> bool:
        if not files.exists(self._path):
            return False
        with self._writing() as writing:
            return writing.remove("key = ? AND raw = 1", bytes.fromhex(key)) == 1

    def keys(self) -> Iterator[str]:
        sql = (
            f"SELECT rowid, key FROM Cache WHERE rowid > ? AND {OURS}"
            " AND (expire_time IS NULL OR expire_time > ?) ORDER BY rowid LIMIT ?"
        )
        last = 0
        while rows := self._connections.read(sql, (last, time.time(), BATCH)):
            last = rows[-1][0]
            for _, name in rows:
                yield name.hex()

    def seeds(self) -> list[str]:
        """The seeds with a database below the same root.

        A seed whose folder has a name of its hash cannot be told from it, and is left out.
        """
        try:
            folders = files.listdir(self._root)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._connections.failed("list", error) from error
        held = [f for f in folders if self._holds_database(f)]
        return sorted(seed for seed in map(seed_of, held) if seed is not None)

    def _holds_database(self, name: str) -> bool:
        folder = os.path.join(self._root, name)
        try:
            if not files.exists(os.path.join(folder, DATABASE)):
                return False
            check_owners(self._root, folder)
            check_files(os.path.join(folder, DATABASE))
        except (StoreError, NotAFile) as error:
            if name == os.path.basename(self._folder):
                return True  # whoever reads it is told why it cannot be
            warn_once(("seed", folder), f"left out the seed in {folder}: {error}")
            return False
        return True

    def last_used(self, key: str) -> float | None:
        """When the entry was last read: only caches with ``max_bytes`` note that here.

        None for an entry that was not read since it was stored, by a cache that notes it.
        """
        sql = f"SELECT store_time, access_time FROM Cache WHERE key = ? AND {OURS}"
        for times in self._connections.read(sql, (bytes.fromhex(key),)):
            if all(isinstance(when, (int, float)) for when in times):
                stored, used = times
                return float(used) if used > stored else None
        return None

    def scan(self) -> Iterator[tuple[str, bytes]]:
        sql = (
            f"SELECT rowid, key, mode, filename, {SMALL_VALUE}, expire_time FROM Cache"
            f" WHERE rowid > ? AND {OURS} ORDER BY rowid LIMIT {_SCANNED}"
        )
        last = 0
        while rows := self._connections.read(sql, (last,)):
            last = rows[-1][0]
            for _, name, *columns in rows:
                value = self._value([columns])
                if value is not None:
                    yield name.hex(), value

    @off_loop
    def clear(self) -> int:
        newest = self._connections.read("SELECT max(rowid) FROM Cache", ())
        count, removed = 0, BATCH
        while newest and removed == BATCH:
            with self._writing() as writing:
                removed = writing.remove(f"rowid <= ? AND {OURS} LIMIT {BATCH}", newest[0][0])
            count += removed
        return count

    if leases.SUPPORTED:  # the segment `Leases`
        renews = True

        def acquire(self, key: str, token: str, seconds: float) -> Claim:
            if not self._leases_checked:
                check_owners(self._root, self._folder)
                self._leases_checked = True
            try:
                try:
                    return leases.take(self._leases, key, token, seconds)
                except FileNotFoundError:
                    make(self._root, self._folder)
                    return leases.take(self._leases, key, token, seconds)
            except StoreError:
                raise
            except Exception as error:  # of the system, or of a guard of event loops
                raise self._connections.failed("take a lease beside", error) from error

        def renew(self, key: str, token: str, seconds: float) -> bool:
            return leases.renew(self._leases, key, token)

        def release(self, key: str, token: str, *, failed: bool = False) -> None:
            try:
                leases.give(self._leases, key, token, failed=failed)
            except OSError as error:
                raise self._connections.failed("give back a lease beside", error) from error

        async def aacquire(self, key: str, token: str, seconds: float) -> Claim:
            if not files.exists(self._folder):
                # In a thread: but not to take a lease, which who is cancelled would leave behind.
                with suppress(OSError, StoreError):  # which the store meets again
                    await in_thread(make, self._root, self._folder)
            return self.acquire(key, token, seconds)

        arenew, arelease = Leases.arenew, Leases.arelease

    @off_loop
    def close(self) -> None:
        """Close the connections of every thread; one that is at work finishes first."""
        if leases.SUPPORTED:
            leases.close(self._leases)
        if self._used:
            self._note_use()
        self._connections.close()

    def _value(self, rows: list[Any]) -> bytes | None:
        if not rows:
            return None
        mode, filename, column, expires = rows[0]
        if expires is not None:
            if not isinstance(expires, (int, float)):
                return DAMAGED
            if expires <= time.time():
                return None
        if mode == RAW and type(column) is bytes:
            return column
        try:
            return self._disk.fetch(mode, filename, column, False)
        except FileNotFoundError:  # removed since the row was read
            return None
        except OSError as error:
            raise self._connections.failed("read", error) from error

    def _added(self, name: bytes, value: bytes, expires: float) -> bool:
        """Add an entry in one statement, which is a transaction of its own.

        False where it is not added, and takes more: something is there, or there is more to do.
        """
        if self._max_bytes is not None or len(value) >= IN_FILE:
            return False
        connections = self._connections
        link = getattr(connections.local, "link", None) or connections.new_link()
        sweeps, self._additions = not self._additions % _SWEEP, self._additions + 1
        try:
            with link.lock:
                con, now = connections.writable(link), int(time.time())  # takes half the room
                columns = (name, now, expires or None, now, value)
                added = execute(con, connections.wait, ADD, columns).rowcount == 1
                stale = sweeps and execute(con, connections.wait, STALE, (time.time(),)).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise self._connections.failed("write", error, writes=True) from error
        if connections.writes.error is not None:
            connections.writes.worked()
        if stale:
            with suppress(StoreError), self._writing():
                pass  # removes what has expired, when it ends
        return added

    @contextmanager
    def _writing(self) -> Iterator[Transaction]:
        """One transaction, and the files that go with it."""
        connections = self._connections
        link = getattr(connections.local, "link", None) or connections.new_link()
        remove: list[str] = []
        try:
            with link.lock:
                con = connections.writable(link)
                execute(con, connections.wait, "BEGIN IMMEDIATE")
                writing = Transaction(con, self._disk)
                try:
                    yield writing
                    writing.remove(f"{OURS} AND expire_time < ? LIMIT {_EXPIRED}", time.time())
                    if self._max_bytes is not None:
                        used, self._used = self._used, {}
                        writing.evict(self._max_bytes, used)
                    execute(con, connections.wait, "COMMIT")  # readers may be in its way
                    if connections.writes.error is not None:
                        connections.writes.worked()
                    remove = writing.replaced
                except BaseException:
                    remove = writing.stored
                    if con.in_transaction:
                        con.execute("ROLLBACK")
                    raise
        except (sqlite3.Error, OSError) as error:
            raise self._connections.failed("write", error, writes=True) from error
        finally:
            for filename in remove:
                self._disk.remove(filename)

    def _note_use(self) -> None:
        """Write down when entries were read, as every write does when it ends.

        What was read is good even where nothing can be written, so a failure is left to the next
        write to report.
        """
        try:
            if files.exists(self._path):
                with self._writing():
                    pass
        except StoreError:
            self._used.clear()
