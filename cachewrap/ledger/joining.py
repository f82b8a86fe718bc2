"""The run in which a process takes part: the newest of a name while it goes on, else another."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from cachewrap.ledger import names
from cachewrap.ledger.pieces import Begin, End, Reader
from cachewrap.stores.base import Logs

UNNAMED_KEPT: Final = 20
"""Runs without a name that are kept of each place: the last ones."""

_ELSEWHERE_SECONDS: Final = 600.0
_SLACK: Final = 2.0

own_writers: Final[set[int]] = set()
"""The numbers by which this process writes runs that go on."""


def choose(store: Logs, name: str, family: str) -> str:
    """The log of a run with a name: the newest of it while that goes on, else another one."""
    stem = names.named_log(name, 0)[:-1]
    changed = {
        int(facts.name[len(stem) :]): facts.changed
        for facts in store.logs()
        if facts.name.startswith(stem) and facts.name[len(stem) :].isdecimal()
    }
    newest = max(changed, default=0)
    if newest and _goes_on(store, f"{stem}{newest}", changed[newest], family):
        return f"{stem}{newest}"
    return f"{stem}{newest + 1}"


def prune(store: Logs, own: str) -> None:
    """Remove the oldest runs without a name, those left out that go on."""
    logs = ((names.parsed(facts.name), facts.changed) for facts in store.logs())
    unnamed = sorted((name.log, at) for name, at in logs if name is not None and not name.number)
    for oldest, changed in unnamed[:-UNNAMED_KEPT]:
        if oldest != own and not _goes_on(store, oldest, changed):
            store.remove_log(oldest)


def _goes_on(store: Logs, name: str, changed: float, family: str = "") -> bool:
    """Whether a process that takes part in a run lives, or is of the same program."""
    begun, ended = _parts(store, name)
    if family and any(one.family == family for one in begun):
        return True
    return any(lives(one, changed) for one in begun if one.writer not in ended)


def _parts(store: Logs, name: str) -> tuple[list[Begin], set[int]]:
    begun: list[Begin] = []
    ended: set[int] = set()
    reader = Reader()
    for piece in store.read_log(name):
        if piece[1:2] in (b"B", b"E"):
            part = reader.read(piece)
            if isinstance(part, Begin):
                begun.append(part)
            elif isinstance(part, End) and part.ended:
                ended.add(part.writer)
    return begun, ended


def lives(begin: Begin, changed: float = 0.0) -> bool:
    """Whether a process that has not ended its part in a run may still take part.

    Args:
        begin: how its part began.
        changed: when the log was written last: of a process on another host that is all that tells.
    """
    if begin.host != socket.gethostname() or os.name == "nt":
        return time.time() - max(begin.started, changed) < _ELSEWHERE_SECONDS
    if not 0 < begin.process < 2**31:
        return False
    if begin.process == os.getpid():
        return begin.writer in own_writers
    try:
        os.kill(begin.process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return _started(begin.process) <= begin.started + _SLACK


def _started(process: int) -> float:
    """When a process began, in seconds since the epoch; 0.0 where the system does not tell.

    One that began later than its part in a run is another, which was given the number anew.
    """
    with suppress(OSError, ValueError, IndexError, KeyError, StopIteration):
        ticks: Callable[[str], int] = vars(os)["sysconf"]
        with open(f"/proc/{process}/stat", "rb") as file:
            since = int(file.read().rpartition(b")")[2].split()[19]) / ticks("SC_CLK_TCK")
        with open("/proc/stat", "rb") as file:
            booted: Any = next(line for line in file if line.startswith(b"btime"))
        return float(booted.split()[1]) + since
    return 0.0
