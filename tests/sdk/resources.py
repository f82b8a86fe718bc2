"""The POST requests that an installed SDK can make, read from the source of its resources."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path


def posts(package: str) -> set[str]:
    """The paths of an SDK's POST requests, with ``x`` for what is put in, without the query."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    found: set[str] = set()
    for file in (Path(spec.origin).parent / "resources").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and _is_post(node):
                found.add(_path(node.args[0]))
    return found


def _is_post(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute):
        return False
    if call.func.attr == "_post":
        return True
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    method = given.get("method")
    return (
        call.func.attr == "_get_api_list"
        and isinstance(method, ast.Constant)
        and method.value == "post"
    )


def _path(node: ast.expr) -> str:
    """The path that an expression gives: a text, an f-string, or ``path_template(...)``."""
    if isinstance(node, ast.Call):
        node = node.args[0]
    text = next(n.value for n in ast.walk(node) if isinstance(n, ast.Constant))
    if isinstance(node, ast.JoinedStr):
        text = "".join(
            str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values
        )
    return re.sub(r"\{\w+\}", "x", str(text)).partition("?")[0].strip("/")
