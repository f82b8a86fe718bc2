"""Ray: tasks, actors with threads, actors with a loop."""

from __future__ import annotations

import tempfile

import pytest

from beside.runtimes.conftest import Programs


def test_tasks_and_actors(programs: Programs) -> None:
    pytest.importorskip("ray")
    # It starts half a dozen processes first, tells its makers of it, and wants a token for each call.
    programs.environment |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    programs.seconds *= 4
    with tempfile.TemporaryDirectory(prefix="r") as short:  # a socket's path takes few letters
        assert programs.asked("actors.py", short) == (4, "4")
        assert programs.asked("actors.py", short) == (0, "4")
