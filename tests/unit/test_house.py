"""The house of the package: how large it is, and that what is in it is named for what it holds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import cachewrap

ROOM = Path(cachewrap.__file__).parent
MAP = Path(__file__).parents[2] / "docs" / "architecture.md"
MODULES = sorted(file for file in ROOM.rglob("*.py") if file.name != "__init__.py")

# Where a first line begins so, it tells what is done or asked, and not what is held.
NO_NOUNS = """
    Add Adds Between Builds Carries Encrypts Finds From Gives Give Go Goes How Keeps Let
    Makes Moves Nothing Puts Reads Remembers Removes Serves Something Takes Tells Try Wait What
    When Where Whether Which Who Why
""".split()


def lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def described(file: Path) -> Iterator[tuple[str, str]]:
    """The name and the docstring of a module and of each class in it."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    yield file.stem, ast.get_docstring(tree) or ""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and (text := ast.get_docstring(node)):
            yield node.name, text


def test_few_modules_stand_at_the_top() -> None:
    assert len(list(ROOM.glob("*.py"))) <= 23


def test_there_are_few_modules() -> None:
    assert len(MODULES) <= 260


def test_a_module_is_read_in_one_sitting() -> None:
    assert {file.name: lines(file) for file in MODULES if lines(file) > 500} == {}


@pytest.mark.parametrize(
    "file", [pytest.param(file, id=file.relative_to(ROOM).as_posix()) for file in MODULES]
)
def test_it_is_named_for_what_it_holds(file: Path) -> None:
    for name, text in described(file):
        assert text, f"{name} has no docstring"
        first = text.split()[0].strip("`:,")
        assert first not in NO_NOUNS, f"{name} begins with {first}"


def test_what_the_map_names_is_there() -> None:
    named = re.findall(r"`([a-z_]+/[a-z_/]+[.]py)`", MAP.read_text(encoding="utf-8"))
    missing = {
        name for name in named if not name.startswith("tests/") and not (ROOM / name).exists()
    }
    assert named
    assert missing - {"cachewrap/__init__.py"} == set()
