"""What a function is, beside its name: what was bound to it before it was decorated."""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Callable
from typing import Any, Final

from cachewrap.errors import ConfigurationError
from cachewrap.plain import function_name

_CONSTANTS: Final = frozenset({str, bytes, int, float, bool, type(None)})


def source_of(function: Callable[..., Any]) -> str:
    """``module:qualname`` of a function, of what a partial calls, or of an object's class."""
    while isinstance(function, functools.partial):
        function = function.func
    return function_name(function)


def check_name(function: Callable[..., Any]) -> None:
    """Raise `ConfigurationError` for a lambda: nothing tells two of them in one place apart."""
    while isinstance(function, functools.partial):
        function = function.func
    if getattr(function, "__name__", "") == "<lambda>":
        raise ConfigurationError(
            "a lambda has no name of its own to be told apart by: "
            "define a function, or give the decorator a version= or a key="
        )


def bound_to(function: Callable[..., Any]) -> Callable[[], dict[str, Any]] | None:
    """What tells this function from others of its name, read at each call; None for most.

    It is a partial's arguments, the object whose ``__call__`` is decorated, and of the variables
    that an inner function closes over those that hold text, bytes, numbers or None, unless the
    function itself changes them. Other variables are left out: they are no arguments. The functions
    that a decorator has wrapped, with `functools.wraps`, count as well.
    """
    if isinstance(function, functools.partial):
        inner = bound_to(function.func)
        given = {"partial": [list(function.args), function.keywords]}
        return lambda: {**given, **(inner() if inner else {})}
    if not inspect.isroutine(function):
        return lambda: {"object": function}
    named = _closed_over(function)
    wrapped: Any = getattr(function, "__wrapped__", None)
    known = inspect.isroutine(wrapped) or isinstance(wrapped, functools.partial)
    below = bound_to(wrapped) if known else None
    if not named and below is None:
        return None

    def read() -> dict[str, Any]:
        held = {}
        for name, cell in named:
            try:
                value = cell.cell_contents
            except ValueError:  # not bound yet
                continue
            if type(value) in _CONSTANTS:
                held[name] = value
        found: dict[str, Any] = {"closure": held} if held else {}
        deeper = below() if below else None
        # What stands for the function itself, like a wrapper of wrapt's, adds nothing to it.
        return {**found, "wrapped": deeper} if deeper and deeper != found else found

    return read


def _closed_over(function: Any) -> list[tuple[str, Any]]:
    """The variables that a function closes over and does not change itself."""
    code = getattr(function, "__code__", None)
    cells = getattr(function, "__closure__", None)
    if code is None or not cells:
        return []
    changed = {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_DEREF"}
    return [
        (name, cell)
        for name, cell in zip(code.co_freevars, cells, strict=True)
        if name not in changed
    ]
