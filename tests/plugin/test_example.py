"""The example project: its tests pass from committed cassettes, or say what was changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest.importorskip("openai")

PROJECT = Path(__file__).parents[2] / "examples" / "replayed_tests"
INSTALLED = any(point.name == "cachewrap" for point in entry_points(group="pytest11"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    ignore = shutil.ignore_patterns("__pycache__", ".pytest_cache")
    return Path(shutil.copytree(PROJECT, tmp_path / "project", ignore=ignore))


def run(project: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the project's tests as CI does, where nothing outside can be reached."""
    environment = {name: value for name, value in os.environ.items() if "OPENAI" not in name}
    environment.pop("PYTEST_ADDOPTS", None)
    nowhere = "http://127.0.0.1:9"
    named = [] if INSTALLED else ["-p", "cachewrap.pytest_plugin"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *named, *args],
        cwd=project,
        env={**environment, "CI": "true", "HTTPS_PROXY": nowhere, "HTTP_PROXY": nowhere},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_it_passes_offline_from_its_cassettes(project: Path) -> None:
    done = run(project)
    assert done.returncode == 0, done.stdout
    assert "6 replayed, 0 recorded, 0 refreshed, 0 missed in 3 tests" in done.stdout
    assert "unused" not in done.stdout


def test_a_changed_prompt_fails_with_what_differs(project: Path) -> None:
    app = project / "reviews.py"
    changed = app.read_text().replace("at most eight words", "at most six words")
    app.write_text(changed.replace("temperature=0.2", "temperature=0.9"))
    done = run(project, "-k", "summary")
    assert done.returncode == 1
    assert "ReplayMissError: POST /chat/completions" in done.stdout
    differs = (
        "5 characters differ at 29: '…up in at most eight words.' → '…up in at most six words.'"
    )
    assert f"messages[0].content: {differs}" in done.stdout
    assert "temperature: 0.2 → 0.9" in done.stdout
    command = "pytest --llm-cache=normal tests/test_reviews.py::test_a_summary_is_short"
    assert f"to record: {command}" in done.stdout
    assert "seam.py" not in done.stdout  # the traceback is the project's own
