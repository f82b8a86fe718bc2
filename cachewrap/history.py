"""Hits and misses over time: the totals of each minute, in a file, as a hook for `on_event=`."""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, Final

from cachewrap import systems
from cachewrap.entry import Outcome
from cachewrap.errors import ConfigurationError, StoreError
from cachewrap.systems import files
from cachewrap.telemetry.events import Event, warn_once

NAME: Final = "history.jsonl"
"""The file of a program's history in the folder of a disk cache."""

_MINUTE: Final = 60


@dataclass(slots=True)
class Minute:
    """The calls of one minute, of one function or endpoint and one model, on one cache.

    Args:
        start: when the minute began, in seconds since the epoch.
        place: the store's URL, without credentials.
        source: the function or endpoint.
        model: the model that answered, or ``""``.
        hits: calls answered from the store.
        joined: calls that were given the answer of another caller's call under way.
        misses: calls that went upstream and came back.
        errors: calls that raised.
        bypassed: calls that a cache does not serve, and let go past it.
        tokens_in: prompt tokens of the answers that hits and joined calls were given.
        tokens_out: completion tokens of them.
        seconds: what upstream had taken for them.
    """

    start: int
    place: str
    source: str
    model: str
    hits: int = 0
    joined: int = 0
    misses: int = 0
    errors: int = 0
    bypassed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0


_FIELDS: Final = tuple(field.name for field in fields(Minute))
_TEXTS: Final = ("place", "source", "model")


class History:
    """A count of calls by the minute, which adds the totals of each minute to a file.

    >>> import tempfile
    >>> from cachewrap import Cache
    >>> cache = Cache.memory(on_event=History(tempfile.mktemp()))

    A call is counted in memory. The file is written when the first call of another minute comes,
    and when the process ends: a process that is killed loses its last minute. Processes may share
    one file, and forked and pickled ones do. `cachewrap report --history` draws it.

    Args:
        path: the file, which is made at the first write, for its owner alone; ``~`` is expanded.
    """

    _follows = True  # a link is the choice of whoever named the file

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = systems.absolute(files.expanduser(path))
        self._begin()

    def __reduce__(self) -> tuple[Callable[..., History], tuple[str]]:
        return type(self), (self._path,)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._start = 0
        self._minutes: dict[tuple[str, str, str], Minute] = {}
        atexit.register(self._finish)
        # Workers of multiprocessing end without the functions that atexit was given, and forget
        # when they start what they were told before.
        if (workers := sys.modules.get("multiprocessing.util")) is not None:
            workers.register_after_fork(self, _finish_with_worker)
            _finish_with_worker(self)

    def __call__(self, event: Event) -> None:
        """Count one call. Raises `OSError` once a minute where the file cannot be written."""
        if self._pid != os.getpid():
            self._begin()  # what was counted before the fork is the parent's
        start = int(event.started) // _MINUTE * _MINUTE
        name = (event.place, event.source, event.answered_by or event.model)
        with self._lock:
            before = self._take() if start != self._start else []
            self._start = start
            minute = self._minutes.get(name)
            if minute is None:
                minute = self._minutes[name] = Minute(start, *name)
            _count(minute, event)
        self._write(before)

    def flush(self) -> None:
        """Write what was counted so far. Raises `OSError`."""
        with self._lock:
            taken = self._take()
        self._write(taken)

    def _take(self) -> list[Minute]:
        taken, self._minutes = list(self._minutes.values()), {}
        return taken

    def _write(self, minutes: list[Minute]) -> None:
        if not minutes:
            return
        lines = [json.dumps({name: getattr(m, name) for name in _FIELDS}) for m in minutes]
        added = "".join(f"{line}\n" for line in lines).encode()
        systems.append(self._path, added, follows=self._follows)

    def _finish(self) -> None:
        if self._pid != os.getpid():
            return  # nothing was counted since the fork
        try:
            self.flush()
        except OSError as error:
            warn_once(("history", self._path), f"the history of calls was not written: {error}")


class KeptBeside(History):
    """The history that `cachewrap run` keeps in a disk cache's folder, if it can.

    Args:
        path: `Files.beside` of `NAME`.
    """

    _follows = False

    def _write(self, minutes: list[Minute]) -> None:
        with suppress(OSError):
            super()._write(minutes)


def _finish_with_worker(history: History) -> None:
    sys.modules["multiprocessing.util"].Finalize(None, history._finish, exitpriority=-100)


def _count(minute: Minute, event: Event) -> None:
    if event.outcome is None:
        minute.errors += 1
    elif event.outcome is Outcome.MISS:
        minute.misses += 1
    elif event.outcome is Outcome.BYPASSED:
        minute.bypassed += 1
    elif event.hit:
        minute.hits += event.outcome is Outcome.HIT
        minute.joined += event.outcome is Outcome.JOINED
        minute.tokens_in += event.tokens_in
        minute.tokens_out += event.tokens_out
        minute.seconds += event.upstream_seconds


def read_history(
    path: str | os.PathLike[str],
    left_out: Callable[[str], object] | None = None,
    *,
    follows: bool = True,
) -> Iterator[Minute]:
    """The minutes in a file that `History` wrote, one after the other.

    A last line that was cut short is left out.

    Args:
        path: the file.
        left_out: is told of each other line that cannot be read, which is left out then.
        follows: whether the file may be a link to another.

    Raises `StoreError` for a file that cannot be read, and `ConfigurationError` for a line that
    `History` did not write, unless there is ``left_out`` and a line before it could be read.
    """
    known = False
    try:
        with files.reader(os.fspath(path), follows=follows) as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    minute = _read(line, f"{os.fspath(path)}, line {number}")
                except ConfigurationError as error:
                    if left_out is None or not known:
                        raise
                    left_out(str(error))
                    continue
                known = True
                yield minute
    except OSError as error:
        raise StoreError(f"cannot read {os.fspath(path)}: {error.strerror}") from error


def _read(line: bytes, where: str) -> Minute:
    try:
        values: Any = json.loads(line)
        minute = Minute(**values)
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError(f"{where}: not written by cachewrap's History ({error})") from None
    for name in _FIELDS:
        value = getattr(minute, name)
        fits = isinstance(value, str) if name in _TEXTS else _is_count(value)
        if not fits:
            raise ConfigurationError(f"{where}: {name} is {value!r}")
    return minute


def _is_count(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**63
