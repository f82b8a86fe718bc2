"""Cells of Jupyter and runs of Streamlit's scripts."""

from __future__ import annotations

import socket

import pytest

from beside.runtimes.running import Programs


def test_the_cells_of_a_notebook(programs: Programs) -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    seen = "activated, in a thread, awaited, in a block | None | None None"
    seen += " | offered: True False True False"
    assert programs.asked("notebook.py") == (4, seen)
    assert programs.asked("notebook.py") == (0, seen)


def test_the_runs_of_a_script_of_streamlit(programs: Programs) -> None:
    pytest.importorskip("streamlit")
    assert programs.asked("streamlit_runs.py") == (2, "2")
    assert programs.asked("streamlit_runs.py") == (0, "2")


def test_the_sessions_of_a_server_of_streamlit(programs: Programs) -> None:
    pytest.importorskip("streamlit")
    pytest.importorskip("websockets")
    for calls in (1, 0):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        assert programs.asked("streamlit_sessions.py", port) == (calls, "1 True")
