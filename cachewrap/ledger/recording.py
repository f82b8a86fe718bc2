"""The writing of runs: calls that have ended wait in memory, and a thread writes them down.

What waits is written twice a second, when a run's last block ends, and when the process ends. A
process that is killed loses what has not been written by then.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from cachewrap import systems
from cachewrap.errors import CachewrapError
from cachewrap.ledger import names
from cachewrap.ledger.joining import choose, own_writers, prune
from cachewrap.ledger.pieces import Begin, End, Replaced, Writer, encode
from cachewrap.stores.base import MOST_PIECE, Logs
from cachewrap.systems import clock
from cachewrap.telemetry.events import log, warn_once

NAME_VARIABLE: Final = "CACHEWRAP_RUN"
"""The environment variable with the name of the run of every cache of the process."""

FAMILY_VARIABLE: Final = "CACHEWRAP_RUN_ID"
"""The environment variable that all processes of one program have in common."""

_PAUSE: Final = 0.5
_IDLE: Final = 2.0
_AGAIN: Final = 5.0
_PATIENCE: Final = 300.0
_AT_ONCE: Final = 5000
_WAITING: Final = 100_000
_WAITING_UNNAMED: Final = 20_000
_LONGEST: Final = 100_000
_LONGEST_SECONDS: Final = 86_400.0

_writers = itertools.count(1)


class Recording:
    """One run as this process writes it.

    Args:
        store: has the logs.
        place: the URL of the cache that the run began with.
        name: its name; ``""`` of a run without one.
        family: what all processes of one program have in common, or ``""``.

    Attributes:
        rows: calls that are to be written.
        asleep: whether nobody was told that there are some.
        users: blocks of this process that are in it.
        goes_on: whether this process takes part.
        since: when this process began to, in seconds since the epoch.
    """

    def __init__(self, store: Logs, place: str, name: str, family: str) -> None:
        self.rows: deque[tuple[Any, ...]] = deque()
        self.asleep = True
        self.users = 0
        self.goes_on = True
        self.name = name
        self.place = place
        self._store = store.logs_alone()
        self._family = family
        self._keeps = bool(name)
        self._log = "" if name else names.unnamed_log(_unnamed(family))
        self.renew()

    def renew(self) -> None:
        """Begin anew to write, in the same run: as another process."""
        self.rows.clear()
        self.asleep = True
        self._replaced: deque[Replaced] = deque()
        self._ends = False
        self._ended = 0.0
        self.since = time.time()
        self._lock = threading.Lock()
        self._lost = 0
        self._not_before = 0.0
        self._anew()

    def _anew(self) -> None:
        self._writer = Writer(_new_writer(), os.getpid())
        own_writers.add(self._writer.number)
        self._pieces: deque[tuple[int, bytes]] = deque()
        self._begun = self._started = 0.0
        self._written = 0

    @property
    def log(self) -> str:
        """The name of its log; ``""`` while that is not decided."""
        return self._log

    @property
    def store(self) -> Logs:
        """The store that has its log."""
        return self._store

    def replaced(self, key: str, seed: str, created: float, value: bytes) -> None:
        """Keep an answer that is replaced now, for the runs that had it."""
        self._replaced.append(Replaced(key, seed, created, value))
        if self.asleep:
            wake(self)

    def write(self, *, ends: bool = False) -> None:
        """Write what waits, and where the run ends here, that it does.

        Raises `StoreError` where that cannot be; what could not be written waits on.
        """
        with self._lock:
            self._ends |= ends
            announces = bool(self.name) and not self._begun and self.goes_on
            if not (self.waits() or announces):
                return
            if self._begun and self._is_gone():
                if not (self.rows or self._pieces):
                    self._ends = False
                    return
                self._begun = 0.0
                self._writer.forget()
            self._encode()
            self._write(self._ends)
            self._ends = False

    def _is_gone(self) -> bool:
        """Whether somebody has removed the log, or all of the place."""
        return all(facts.name != self._log for facts in self._store.logs())

    def _encode(self) -> None:
        """Make pieces of what waits: one that was sent in vain is sent again as it was.

        It may have been stored all the same, and is then told by its bytes.
        """
        waiting = sum(count for count, _ in self._pieces)
        while self.rows:
            some = min(len(self.rows), _AT_ONCE)
            rows = [self.rows.popleft() for _ in range(some)]
            if not self._started:
                self._started = min(row[3] for row in rows)
            if self._pieces:
                self._writer.forget()  # what waits before it may be lost
            self._pieces.append((some, self._writer.calls(rows)))
            waiting += some
        while waiting > (_WAITING if self.name else _WAITING_UNNAMED):
            count, _ = self._pieces.popleft()
            waiting -= count
            self._lost += count

    def _write(self, ends: bool) -> None:
        if not self._log:
            self._log = choose(self._store, self.name, self._family)
        now = time.time()
        pieces = [] if self._begun else [self._begin(self._started or now)]
        pieces += [piece for _, piece in self._pieces]
        if ends:
            pieces.append(encode(End(self._writer.number, now, self._lost)))
        elif self._lost:
            pieces.append(encode(End(self._writer.number, 0.0, self._lost)))
        if pieces:
            self._store.append_to_log(self._log, pieces)
            self._lost = 0
            self._written += sum(count for count, _ in self._pieces)
            self._pieces.clear()
        begins, self._begun = not self._begun, self._begun or now
        if begins and not self.name:
            prune(self._store, self._log)
        self._keep()
        if self.name or ends:
            return
        if self._written >= _LONGEST or now - self._begun > _LONGEST_SECONDS:
            # A service goes on for ever: a run of it does not.
            self._store.append_to_log(self._log, [encode(End(self._writer.number, now))])
            self._log = names.unnamed_log(names.new_unnamed())
            self.forget()
            self._anew()

    def _begin(self, started: float) -> bytes:
        argv = getattr(sys, "argv", None) or [""]
        program = "python -c" if argv[0] == "-c" else os.path.basename(str(argv[0]))
        return encode(
            Begin(
                self._writer.number,
                self.name,
                started,
                os.getpid(),
                socket.gethostname(),
                program or "python",
                self._family,
                self.place,
            )
        )

    def _keep(self) -> None:
        """Write the answers that were replaced, if some run with a name may have had them."""
        if not self._replaced:
            return
        if not self._keeps:
            logs = (names.parsed(facts.name) for facts in self._store.logs())
            self._keeps = any(name is not None and name.number for name in logs)
        log = f"{names.REPLACED}{self._log}"
        while self._replaced:
            piece = encode(self._replaced[0])
            if self._keeps and len(piece) <= MOST_PIECE:
                self._store.append_to_log(log, [piece])
            self._replaced.popleft()

    def try_to_write(self, *, ends: bool = False) -> None:
        """`write`, where a store that does not work costs a warning at most."""
        if not ends and clock.now() < self._not_before:
            self.asleep = True
            wake(self)
            return
        try:
            self.write(ends=ends)
        except CachewrapError as error:
            self._tell(error)
            self._give_up()
            if self.goes_on or self.waits():
                wake(self)
        except Exception as error:  # a store of others may raise anything
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        self._not_before = clock.now() + _AGAIN
        if self.name:
            warn_once(
                ("ledger", self.place, self.name),
                f"the run {self.name} at {self.place} could not be written down: {error}",
            )
        elif log.isEnabledFor(logging.DEBUG):
            log.debug("the calls at %s could not be written down: %s", self.place, error)

    def is_begun(self) -> bool:
        """Whether this process has taken part, or is about to, and has not ended."""
        return self.waits() or (self.goes_on and self._begun > 0)

    def end(self) -> None:
        """The run ends: whoever is to write that may be cancelled, and then it is written soon."""
        self.goes_on, self._ends = False, True
        self._ended = clock.now()
        self.forget()
        wake(self)

    def _give_up(self) -> None:
        """Let go of what waits, where the run has ended and its store is down for long."""
        if not self.goes_on and clock.now() - self._ended > _PATIENCE:
            self._ends = False
            self.rows.clear()
            self._pieces.clear()
            self._replaced.clear()

    def forget(self) -> None:
        """This process takes part no more."""
        own_writers.discard(self._writer.number)

    def waits(self) -> bool:
        """Whether something is to be written."""
        return bool(self.rows or self._pieces or self._replaced or self._ends)


def _new_writer() -> int:
    return int.from_bytes(os.urandom(3)) << 24 | next(_writers)


def _unnamed(family: str) -> str:
    return family if names.is_unnamed(family) else names.new_unnamed()


# -- those of this process ------------------------------------------------------------------------

_known: dict[tuple[str, str], Recording] = {}
"""By the URL of the logs and the name."""

_lock = threading.RLock()
_changed = threading.Condition(_lock)
_made_by: object = threading.Lock
_thread: threading.Thread | None = None
_waiting: dict[int, Recording] = {}
_hurries = False
_forks = False
_over = False


def _watch_end() -> None:
    """See that what waits is written when a worker of multiprocessing ends: it does otherwise."""
    if (util := sys.modules.get("multiprocessing.util")) is None:
        return
    util.register_after_fork(_ends, lambda _: util.Finalize(None, finish, exitpriority=-100))
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        util.Finalize(None, finish, exitpriority=-100)


class _Ends:
    """The name by which workers of multiprocessing know this module."""


_ends: Final = _Ends()


def entered(store: Logs, place: str, name: str) -> Recording:
    """The run of that name, in which a block is from now on, until `left`."""
    with _current_lock():
        known = _known.get((store.logs_url, name))
        if known is None:
            _watch_end()
            known = _known[store.logs_url, name] = Recording(store, place, name, "")
        known.users += 1
    if known.users == 1:
        wake(known, soon=True)  # for processes that are started in the block
    return known


def entered_inside(recording: Recording) -> None:
    """A block in that run is entered, until `left`."""
    with _current_lock():
        recording.users += 1


def left(recording: Recording) -> Callable[[], None]:
    """A block has ended, and with the last one the run. What is returned writes what is to be."""
    with _current_lock():
        recording.users -= 1
        last = recording.users == 0
        if last:
            for name, known in list(_known.items()):
                if known is recording:
                    del _known[name]
            recording.end()
    return partial(recording.try_to_write, ends=last)


def standing(store: Logs, place: str) -> Recording | None:
    """The run of a whole process: that of the environment's name, else one without a name.

    None where the logs do not outlive this process, and no name was given.
    """
    name, family = os.environ.get(NAME_VARIABLE, ""), os.environ.get(FAMILY_VARIABLE, "")
    if name:
        try:
            names.check_name(name)
        except CachewrapError as error:
            warn_once(("ledger", name), f"{NAME_VARIABLE} names no run: {error}")
            name = ""
    if not name and not store.logs_last:
        return None
    with _current_lock():
        known = _known.get((store.logs_url, name))
        if known is None:
            _watch_end()
            known = _known[store.logs_url, name] = Recording(store, place, name, family)
            known.users += 1  # until the process ends
            if name:
                wake(known, soon=True)
        return known


def of_environment(store: Logs, place: str) -> Recording | None:
    """The run that the environment has named, at that store; None where it names none."""
    run = standing(store, place) if os.environ.get(NAME_VARIABLE) else None
    return run if run is not None and run.name else None


def flush(store: Logs | None = None) -> None:
    """Write what waits, of one place or of all."""
    place = None if store is None else store.logs_url
    for recording in _all():
        if place is None or recording.store.logs_url == place:
            recording.try_to_write()


def _all() -> list[Recording]:
    """Those that go on, and those that have ended and could not be written."""
    with _current_lock():
        return list({id(one): one for one in (*_known.values(), *_waiting.values())}.values())


def wake(recording: Recording, *, soon: bool = False) -> None:
    """Have what waits written in half a second, or at once."""
    global _thread, _hurries
    if _over:  # it is asked by what runs at the very end
        recording.try_to_write(ends=True)
        return
    with _current_lock():
        recording.asleep = False
        _hurries = _hurries or soon
        _waiting[id(recording)] = recording
        if _thread is None:
            thread = threading.Thread(target=_write_on, name="cachewrap-ledger", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter ends: what waits is written at its end
                return
            _thread = thread
        else:
            _changed.notify()


def _write_on() -> None:
    while (due := _next()) is not None:
        for recording in due:
            recording.asleep = True  # before it is emptied: what comes meanwhile wakes again
            recording.try_to_write()


def _next() -> list[Recording] | None:
    """Wait for something to write, and a moment longer; None where nothing comes."""
    global _thread, _waiting, _hurries
    with _lock:
        if not (_waiting or _forks):
            _changed.wait(_IDLE)
        if not _waiting or _forks:
            _thread = None
            return None
        until = clock.now() + _PAUSE
        while not (_hurries or _forks) and (left := until - clock.now()) > 0:
            _changed.wait(left)
        due, _waiting, _hurries = list(_waiting.values()), {}, False
        return due


def _current_lock() -> Any:
    if _made_by is not threading.Lock:
        _make_anew()
    return _lock


def _make_anew() -> None:
    """Begin with a lock of the kind that there is by now, see `call.lease`."""
    global _lock, _changed, _made_by, _thread, _hurries, _forks
    _made_by = threading.Lock
    _lock = threading.RLock()
    _changed = threading.Condition(_lock)
    _thread, _hurries, _forks = None, False, False


def _end_thread() -> None:
    """Before a fork: a process of one thread is forked as one, and all waiting is written."""
    global _forks
    with _lock:
        thread, _forks = _thread, True
        _changed.notify_all()
    if thread is not None:
        thread.join(1.0)
    flush()


def _go_on() -> None:
    global _forks
    _forks = False
    with _lock:
        waiting = list(_waiting.values())
        _waiting.clear()
    for recording in waiting:
        recording.asleep = True
        if recording.waits():
            wake(recording)


def _renew() -> None:
    """In a forked child: it takes part in the same runs for itself."""
    _make_anew()
    _watch_end()
    _waiting.clear()
    own_writers.clear()
    for recording in _known.values():
        recording.renew()


systems.around_fork(_end_thread, _go_on, _renew)


@atexit.register
def _finish_all() -> None:
    global _over
    _over = True
    finish()


def finish() -> None:
    """Write what waits, and that all runs of this process end."""
    for recording in _all():
        if recording.is_begun():
            recording.try_to_write(ends=True)
        recording.goes_on = False
        recording.asleep = True
        recording.forget()
    _known.clear()
    _waiting.clear()
