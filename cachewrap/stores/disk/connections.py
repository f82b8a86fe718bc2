"""The connections to one database: one for each thread, and none that crosses a fork."""

from __future__ import annotations

import functools
import os
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from diskcache import Timeout

from cachewrap import systems
from cachewrap.errors import StoreError
from cachewrap.loops import aside, is_on_loop
from cachewrap.stores.base import begin_in_thread
from cachewrap.stores.breaker import Breaker, LeftAlone, breaker_of, left_alone
from cachewrap.stores.disk.folder import connect, execute, lay_out
from cachewrap.stores.seed_folders import NO_DATABASE, check_files, check_name, check_owners
from cachewrap.systems import files

if TYPE_CHECKING:
    import asyncio

P = ParamSpec("P")
T = TypeVar("T")

METHOD: Final[Any] = type(str.join)
"""What a method of C is: ``type(Connection.execute)``, unless a guard of event loops is awake."""

_TRUST = 0.05
"""Seconds for which a database that is there is taken for the one that was opened."""

_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL)
"""What SQLite says when a lock did not come."""

_AT_ONCE = 100
_SIZE_AT_ONCE = 2**22
"""Additions, and bytes of them, that one transaction has at most: others wait for it."""


def off_loop(work: Callable[P, T]) -> Callable[P, T]:
    """Work with a database, which is done in a thread where it would be refused.

    A guard as blockbuster puts its own methods in the place of SQLite's, and they raise on an event
    loop.
    """

    @functools.wraps(work)
    def do(*args: P.args, **options: P.kwargs) -> T:
        if type(sqlite3.Connection.execute) is not METHOD and is_on_loop():
            return aside(functools.partial(work, *args, **options))
        return work(*args, **options)

    return do


class Link:
    """The connection of one thread. Its lock keeps `close` away while the thread uses it."""

    __slots__ = ("__weakref__", "con", "inode", "lock", "trusted")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.con: sqlite3.Connection | None = None
        self.inode = -1
        self.trusted = 0.0

    def close(self) -> None:
        con, self.con = self.con, None
        if con is not None:
            con.close()

    __del__ = close  # a thread that ends leaves no open connection behind


class Addition:
    """An entry that an async caller adds, and what he is told of it.

    Args:
        loop: where he waits.
        key: its key.
        value: its bytes.
        options: those of `Store.add`.

    Attributes:
        result: what is there afterwards.
        error: what went wrong.
    """

    __slots__ = ("error", "key", "loop", "options", "result", "told", "value")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, key: str, value: bytes, **options: Any
    ) -> None:
        self.key = key
        self.value = value
        self.options = options
        self.result: bytes | None = None
        self.error: BaseException | None = None
        self.loop = loop
        self.told: asyncio.Future[bytes] = loop.create_future()

    def columns(self, now: int) -> tuple[bytes, int, float | None, int, bytes]:
        """What `folder.ADD` stores."""
        return bytes.fromhex(self.key), now, self.options["expires"] or None, now, self.value


class Additions:
    """The additions of async callers: a thread writes at once those that came meanwhile.

    Each caller is told when his own is stored, and only then. That of one who is cancelled, as all
    are when a loop ends, is stored as well: it was paid for.
    """

    def __init__(self) -> None:
        self.begin_anew()
        _queues.add(self)

    def begin_anew(self) -> None:
        """Forget what waits: in a forked child it is the parent's."""
        self._waiting: deque[Addition] = deque()
        self._at_work = False
        # Loops that are about to have a thread begin. One that stops or ends may never do so.
        self._begun: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()

    async def add(self, addition: Addition, write: Callable[[list[Addition]], None]) -> bytes:
        """Have it written; what is there afterwards.

        Args:
            addition: what is added.
            write: writes several, and gives each a ``result`` or an ``error``.
        """
        self._waiting.append(addition)
        loop = addition.loop
        if not self._at_work and loop not in self._begun:
            self._begun.add(loop)
            # Behind those tasks that the loop goes on with anyway: they may add something too.
            loop.call_soon(begin_in_thread, loop, functools.partial(self._work, loop, write))
        return await addition.told

    def _work(
        self, loop: asyncio.AbstractEventLoop, write: Callable[[list[Addition]], None]
    ) -> None:
        self._at_work = True
        self._begun.discard(loop)
        while True:
            if some := self._next():
                _write(some, write)
                continue
            self._at_work = False
            if not self._waiting:
                return
            self._at_work = True  # one came who found a thread at work

    def _next(self) -> list[Addition]:
        some: list[Addition] = []
        size = 0
        while self._waiting and len(some) < _AT_ONCE and size < _SIZE_AT_ONCE:
            with suppress(IndexError):  # another thread took the last one
                some.append(self._waiting.popleft())
                size += len(some[-1].value)
        return some


def _write(some: list[Addition], write: Callable[[list[Addition]], None]) -> None:
    """Write them, and tell all callers of one event loop at once."""
    try:
        write(some)
    except BaseException as error:
        for addition in some:
            addition.error = addition.error or error
    of_loops: dict[asyncio.AbstractEventLoop, list[Addition]] = {}
    for addition in some:
        of_loops.setdefault(addition.loop, []).append(addition)
    for loop, added in of_loops.items():
        with suppress(RuntimeError):  # it has ended: nobody waits any more
            loop.call_soon_threadsafe(_tell, added)


def _tell(additions: list[Addition]) -> None:
    for addition in additions:
        if addition.told.done():
            continue
        if addition.result is not None:
            addition.told.set_result(addition.result)
        elif addition.error is not None:
            addition.told.set_exception(addition.error)


class Connections:
    """The connections of one store.

    Args:
        root: the folder that is made where it is missing.
        path: the database, in a folder in it.
        wait: seconds that a write waits for a lock that another program has; a read, which may be
            in the way of an event loop, half of it.
        breaker_seconds: for how long reads, or writes, are left alone after such a wait in vain.
        found: is told the path when the database is there.

    Attributes:
        writes: the breaker of those who write.
        local: has the calling thread's `Link` as ``link``, if it has one.
    """

    def __init__(
        self, root: str, path: str, wait: float, breaker_seconds: float, found: list[str]
    ) -> None:
        self._root = root
        self._path = path
        self.wait = wait
        self.breaker_seconds = breaker_seconds
        self._found = found
        # Those who write seldom keep out those who read: each has a breaker of its own.
        self._reads = breaker_of(f"read {path}")
        self.writes = breaker_of(f"write {path}")
        self._start()
        _all.add(self)

    def _start(self) -> None:
        self.local = threading.local()
        self._lock = threading.Lock()
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()
        self._paused: list[Link] = []

    def new_link(self) -> Link:
        """Make the calling thread's, where ``local`` has none."""
        link: Link
        link = self.local.link = Link()
        with self._lock:
            self._links.add(link)
        return link

    def connected(self, link: Link) -> sqlite3.Connection | None:
        """The thread's connection, unless the database was deleted since: there is none now.

        That another one has taken its place is seen within `_TRUST` seconds.
        """
        con = link.con
        if con is None:
            return None
        now = time.monotonic()
        if now < link.trusted and files.access(self._path, os.F_OK):  # half of what a `stat` costs
            return con
        try:
            if files.stat(self._path).st_ino == link.inode:
                link.trusted = now + _TRUST
                return con
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError:  # it cannot be told
            return con
        link.close()
        return None

    def connect(self, link: Link, make: bool = False) -> sqlite3.Connection | None:
        """Open the thread's connection; None if there is no database and none is to be made."""
        folder = os.path.dirname(self._path)
        try:
            check_owners(self._root, folder)
            if make and not files.exists(self._path, follows=False):
                lay_out(self._root, folder, self.wait)
            if files.exists(self._path, follows=False):
                check_name(self._root, folder)
                check_files(self._path)
                self._found[:] = [self._path]
                link.inode = files.stat(self._path).st_ino
                link.con = connect(self._path, self.wait if make else self.wait / 2)
                if link.con is None and make:  # a database that is being made, or has no tables
                    lay_out(self._root, folder, self.wait)
                    link.con = connect(self._path, self.wait)
        except (sqlite3.Error, Timeout, OSError) as error:
            raise self.failed("open", error, writes=make) from error
        return link.con

    def readable(self, link: Link) -> sqlite3.Connection | None:
        """The thread's connection, opened where there is a database; None where there is none.

        Raises:
            StoreError: it cannot be opened, or those who read leave it alone.
        """
        trying = self._reads.error is not None and self._admit(self._reads, "read")
        con = self.connected(link) or self.connect(link)
        if trying:
            if con is not None:
                try:
                    execute(con, self.wait / 2, "SELECT 1 FROM Cache LIMIT 1").fetchall()
                except sqlite3.Error as error:
                    raise self.failed("read", error) from error
            self._reads.worked()
        return con

    def _admit(self, breaker: Breaker, doing: str) -> bool:
        try:
            return breaker.admit(self.breaker_seconds)
        except LeftAlone as left:
            why = "another program kept it locked"
            raise left_alone(f"cannot {doing} {self._path}: it is", left, why) from left.error

    def writable(self, link: Link) -> sqlite3.Connection:
        """The thread's connection to a database that exists, or is made now."""
        if self.writes.error is not None:
            self._admit(self.writes, "write")
        link.trusted = 0.0  # what is written must not be lost in a file that is deleted
        con = self.connected(link) or self.connect(link, make=True)
        if con is None:
            raise StoreError(f"cannot write {self._path}: it went away while it was opened")
        return con

    @off_loop
    def read(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        """The rows that a statement finds; none where there is no database."""
        link = getattr(self.local, "link", None) or self.new_link()
        with link.lock:
            con = self.readable(link)
            try:
                return execute(con, self.wait / 2, sql, values).fetchall() if con else []
            except sqlite3.Error as error:
                raise self.failed("read", error) from error

    def close(self) -> None:
        """Close those of every thread; one that is at work finishes first."""
        with self._lock:
            links = list(self._links)
        for link in links:
            with link.lock:
                link.close()

    def failed(self, doing: str, error: Exception, writes: bool = False) -> StoreError:
        """What to raise where SQLite or the system raised an error.

        Args:
            doing: what was done.
            error: what was raised.
            writes: whether it was done to write.
        """
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _LOCKED or isinstance(error, Timeout):
            (self.writes if writes else self._reads).failed(error, self.breaker_seconds)
            waited = self.wait if writes else self.wait / 2
            return StoreError(
                f"cannot {doing} {self._path}: another program kept it locked for longer than"
                f" {waited:g} s ({error})"
            )
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return StoreError(f"{self._path} {NO_DATABASE} ({error})")
        why = systems.NO_DIRECTORY if systems.is_nowhere(self._path) else error
        return StoreError(f"cannot {doing} {self._path}: {why}")

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


_queues: weakref.WeakSet[Additions] = weakref.WeakSet()
_all: weakref.WeakSet[Connections] = weakref.WeakSet()
_paused: list[Connections] = []
_forking = threading.Lock()


def _before_fork() -> None:
    """Close every connection: SQLite allows none to cross a fork, not even to be closed there."""
    _forking.acquire()  # threads that fork at the same time do so one after the other
    _paused[:] = list(_all)
    for connections in _paused:
        connections._pause()


def _after_fork_in_parent() -> None:
    for connections in _paused:
        connections._resume()
    _paused.clear()
    _forking.release()


def _after_fork_in_child() -> None:
    for connections in _paused:
        connections._start()
    for queue in list(_queues):
        queue.begin_anew()
    _paused.clear()
    _forking.release()


systems.around_fork(_before_fork, _after_fork_in_parent, _after_fork_in_child)
