"""Blocks reach greenlets, and what greenlets ask at once is asked once."""

from __future__ import annotations

import sys

import pytest

from beside.runtimes.running import Programs

PATCHED = pytest.mark.parametrize("patched", ["first", "late", "none"])


@PATCHED
def test_gevent(programs: Programs, patched: str) -> None:
    pytest.importorskip("gevent")
    assert programs.asked("greenlets_of_gevent.py", patched) == (14, "14")
    assert programs.asked("greenlets_of_gevent.py", patched) == (0, "14")


def test_gevent_in_a_program_that_was_not_changed(programs: Programs) -> None:
    pytest.importorskip("gevent")
    command = ("-m", "cachewrap", "run", "--", sys.executable, "unchanged.py")
    assert programs.asked(*command) == (3, "3")
    assert programs.asked(*command) == (0, "3")


@PATCHED
def test_eventlet(programs: Programs, patched: str) -> None:
    pytest.importorskip("eventlet")
    assert programs.asked("greenlets_of_eventlet.py", patched) == (10, "10")
    assert programs.asked("greenlets_of_eventlet.py", patched) == (0, "10")


@pytest.mark.parametrize(
    ("patched", "calls"),
    [
        ("first", 2),
        ("late", 2),
        # Who waited would keep the one who is waited for from going on.
        pytest.param("none", 8, id="not patched, each asks by itself"),
    ],
)
def test_what_greenlets_ask_at_once(programs: Programs, patched: str, calls: int) -> None:
    pytest.importorskip("gevent")
    assert programs.run("greenlets_at_once.py", patched) == f"{calls} ABC def"
    assert programs.run("greenlets_at_once.py", patched) == "0 ABC def"
