"""Every warning that the package can give stands on the page for those who have got one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs.pages import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
GIVING = {"warn_once": 1, "_tell": 0}
"""What gives a warning, and which of its arguments is the text."""

ELSEWHERE = {"str(error)": "which the cache needs to step in; its requests are not cached"}
"""Texts that are written elsewhere."""

_BESIDE = " :;,()"


def warnings() -> Iterator[tuple[str, str]]:
    """The place of each warning in the package, and the longest piece of its text."""
    for file in sorted(Path(ROOT, "cachewrap").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = (
                node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
            )
            if name not in GIVING or (name == "_tell" and file.name != "hints.py"):
                continue
            text = node.args[GIVING[name]]
            if name == "_tell" and isinstance(text, ast.Name):
                continue  # tells itself of a name
            place = f"{file.relative_to(ROOT).as_posix()}:{node.lineno}"
            yield place, max(_pieces(text), key=len, default=ELSEWHERE.get(ast.unparse(text), ""))


def _pieces(text: ast.expr) -> list[str]:
    parts = text.values if isinstance(text, ast.JoinedStr) else [text]
    said = [part.value for part in parts if isinstance(part, ast.Constant)]
    return [piece for piece in map(str, said) if piece.strip(_BESIDE)]


@pytest.mark.parametrize("piece", [pytest.param(piece, id=place) for place, piece in warnings()])
def test_a_warning_is_explained(piece: str) -> None:
    assert piece
    assert piece.strip(_BESIDE)[:40].rstrip() in PAGE


def test_warnings_are_found() -> None:
    assert len(list(warnings())) >= 17
