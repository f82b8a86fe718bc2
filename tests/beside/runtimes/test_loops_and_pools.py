"""Event loops of other makes, and pools of workers."""

from __future__ import annotations

import pytest

from beside.runtimes.running import Programs


@pytest.mark.parametrize("make", ["uvloop", "trio"])
def test_an_event_loop(programs: Programs, make: str) -> None:
    pytest.importorskip(make)
    assert programs.asked("event_loops.py", make) == (2, "2")
    assert programs.asked("event_loops.py", make) == (0, "2")


@pytest.mark.parametrize(
    "way", ["joblib, threads", "joblib, processes", "dask, threads", "dask, processes"]
)
def test_a_pool(programs: Programs, way: str) -> None:
    pytest.importorskip("joblib" if "joblib" in way else "distributed")
    assert programs.asked("pools.py", way) == (3, "3")
    assert programs.asked("pools.py", way) == (0, "3")
