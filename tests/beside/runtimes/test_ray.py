"""Ray: tasks, actors with threads, actors with a loop."""

from __future__ import annotations

import tempfile

import pytest

from beside.runtimes.running import Programs


@pytest.mark.timeout(1000)
def test_tasks_and_actors(programs: Programs) -> None:
    pytest.importorskip("ray")
    # Else it tells its makers of each start, and keeps a token in the home folder.
    programs.environment |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    programs.seconds *= 4  # it starts half a dozen processes first
    with tempfile.TemporaryDirectory(prefix="r") as short:  # a socket's path takes few letters
        assert programs.asked("actors.py", short) == (4, "4")
        assert programs.asked("actors.py", short) == (0, "4")
