"""Every test runs somewhere: a folder of tests is named in tox.ini, and what it needs is there."""

from __future__ import annotations

import re
from configparser import RawConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
FOLDERS = sorted(
    {path.parent.relative_to(ROOT).as_posix() for path in TESTS.rglob("test_*.py")} - {"tests"}
)


def commands() -> dict[str, list[str]]:
    """The commands of every environment, line by line, and those that look for what it needs."""
    tox = RawConfigParser()
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    lines: dict[str, list[str]] = {"commands": [], "commands_pre": []}
    for section in tox.values():
        for name, found in lines.items():
            found += section.get(name, "").splitlines()
    return lines


def runs(line: str, folder: str) -> bool:
    """Whether a command runs the tests of a folder: it names that or one above, or none at all."""
    if "pytest" not in line:
        return False
    words = line.split()
    left_out = [word.removeprefix("--ignore=") for word in words if word.startswith("--ignore=")]
    named = [word for word in words if word.startswith("tests/")] or ["tests"]
    within = f"{folder}/".startswith
    return any(within(f"{name}/") for name in named) and not any(
        within(f"{name}/") for name in left_out
    )


def test_no_test_is_beside_the_folders() -> None:
    assert list(TESTS.glob("test_*.py")) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_of_tests_is_run_by_an_environment(folder: str) -> None:
    whole = [line for line in commands()["commands"] if " -k " not in line and " -m " not in line]
    assert any(runs(line, folder) for line in whole)


@pytest.mark.parametrize("folder", [name for name in FOLDERS if "/integrations/" in name])
def test_an_environment_makes_sure_of_what_an_integration_needs(folder: str) -> None:
    needed = {
        module
        for path in (ROOT / folder).glob("test_*.py")
        for module in re.findall(r"importorskip\(\s*\"([\w.]+)\"", path.read_text("utf-8"))
    }
    sure = {word for line in commands()["commands_pre"] for word in line.split()}
    # What comes with another that is made sure of, or is a part of it.
    sure |= {"pytest_asyncio", *(name.partition(".")[0] for name in sure)}
    missing = {name for name in needed if name not in sure and name.partition(".")[0] not in sure}
    assert missing == set()
