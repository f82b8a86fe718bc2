"""Blocks reach greenlets, and what greenlets ask at once is asked once."""

from __future__ import annotations

import pytest

from beside.runtimes.running import Programs

PATCHED = pytest.mark.parametrize("patched", ["first", "late", "none"])


@PATCHED
def test_gevent(programs: Programs, patched: str) -> None:
    pytest.importorskip("gevent")
    assert programs.asked("greenlets_of_gevent.py", patched) == (14, "14")
    assert programs.asked("greenlets_of_gevent.py", patched) == (0, "14")


@PATCHED
def test_eventlet(programs: Programs, patched: str) -> None:
    pytest.importorskip("eventlet")
    assert programs.asked("greenlets_of_eventlet.py", patched) == (10, "10")
    assert programs.asked("greenlets_of_eventlet.py", patched) == (0, "10")
