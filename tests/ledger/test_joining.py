"""Whether a process still takes part in a run, by what its part tells of it."""

from __future__ import annotations

import os
import socket
import sys
import time

import pytest

from cachewrap.ledger.joining import lives, own_writers
from cachewrap.ledger.pieces import Begin

HERE = socket.gethostname()
NOW = time.time()
POSIX = pytest.mark.skipif(os.name == "nt", reason="no process is asked")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="when it began is not told")


@pytest.mark.parametrize(
    ("host", "process", "started", "changed", "living"),
    [
        pytest.param(HERE, os.getppid(), NOW, 0.0, True, id="it is there", marks=POSIX),
        pytest.param(HERE, 2**22 + 1, NOW, NOW, False, id="it is gone", marks=POSIX),
        pytest.param(HERE, os.getppid(), 1e9, NOW, False, id="another of its number", marks=LINUX),
        pytest.param(HERE, os.getpid(), NOW, NOW, False, id="before a fork", marks=POSIX),
        pytest.param("elsewhere", 1, NOW - 60, 0.0, True, id="begun lately elsewhere"),
        pytest.param("elsewhere", 1, NOW - 9e5, NOW - 60, True, id="written lately elsewhere"),
        pytest.param("elsewhere", 1, NOW - 9e5, NOW - 7e3, False, id="long silent elsewhere"),
    ],
)
def test_a_process_takes_part(
    host: str, process: int, started: float, changed: float, living: bool
) -> None:
    begin = Begin(7, "a", started, process, host, "eval.py", "", "disk:.cache")
    assert lives(begin, changed) is living


@POSIX
def test_this_process_takes_part_while_it_writes() -> None:
    begin = Begin(7, "a", NOW, os.getpid(), HERE, "eval.py", "", "disk:.cache")
    own_writers.add(7)
    try:
        assert lives(begin)
    finally:
        own_writers.discard(7)
