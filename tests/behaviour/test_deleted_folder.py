"""A working directory that was deleted: one warning and a miss, and no error of the call."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cachewrap import Cache, CacheWarning, StoreError, llm_cached, systems

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows deletes no working directory")

MAKE: dict[str, Callable[[], Cache]] = {
    "the default": Cache.disk,
    "disk": lambda: Cache.disk(41, "answers"),
    "disk that evicts": lambda: Cache.disk(41, "answers", max_bytes=2**20),
    "a folder above": lambda: Cache.disk(41, ".."),
    "jsonl": lambda: Cache.jsonl("answers.jsonl"),
    "a URL": lambda: Cache.from_url("disk:answers"),
    "a URL of a file": lambda: Cache.from_url("jsonl:answers.jsonl"),
}


@pytest.fixture(autouse=True)
def gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_call_goes_on_with_one_warning(make: Callable[[], Cache], tmp_path: Path) -> None:
    @llm_cached(version=1)
    def ask(prompt: str) -> str:
        return prompt

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        cache = make()
        assert [ask(prompt, cache=cache) for prompt in "aba"] == ["a", "b", "a"]
        cache.close()
    assert [warning.category for warning in told] == [CacheWarning]
    assert systems.NO_DIRECTORY in str(told[0].message)
    assert os.listdir(tmp_path) == []


def test_a_function_outside_any_block_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    @llm_cached(version=1, seed="a working directory that was deleted")
    def ask(prompt: str) -> str:
        return prompt

    with pytest.warns(CacheWarning, match="the working directory was deleted"):
        assert ask("a") == "a"


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_block_says_so_when_it_is_entered(make: Callable[[], Cache]) -> None:
    cache = make()
    with pytest.raises(StoreError, match="the working directory was deleted"):
        cache.__enter__()


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_it_is_not_taken_for_the_one_that_is_changed_to(
    make: Callable[[], Cache], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make()
    monkeypatch.chdir(tmp_path)
    with pytest.warns(CacheWarning, match="the working directory was deleted"):
        cache.set("key", "value")
    assert os.listdir(tmp_path) == []


def test_an_absolute_path_works(tmp_path: Path) -> None:
    with Cache.disk(41, tmp_path / "answers") as cache:
        cache.set("key", "value")
        assert cache.get("key") == "value"


COMMANDS: dict[str, tuple[list[str], int]] = {
    "ls": (["ls"], 3),
    "a file": (["ls", "--url", "jsonl:a.jsonl"], 3),
    "stats": (["stats", "--disk", "answers"], 3),
    "run": (["run", "-c", "pass"], 3),
    "export": (["export", "-"], 3),
    "env": (["env"], 3),
}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "cachewrap", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("words", "status"), COMMANDS.values(), ids=COMMANDS)
def test_a_command_says_so_in_one_line(words: list[str], status: int) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (status, "", 1)
    assert systems.NO_DIRECTORY in done.stderr


def test_a_program_runs_with_a_cache_elsewhere(tmp_path: Path) -> None:
    told: Any = "from cachewrap import llm_cached; print(llm_cached(version=1)(str)(5))"
    for _ in range(2):
        done = run("run", "--disk", str(tmp_path / "answers"), "-c", told)
        assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr
    assert "1 of 1 call answered" in done.stderr
