"""Classes by their names: looked for once, and seen at each use to be where they were found."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from cachewrap.errors import CorruptEntryError, MissingTypeError
from cachewrap.request.values import dict_of, main_name, namespace

_Step: TypeAlias = tuple[Mapping[str, Any], str, Any]
"""A look into a namespace: for which name, and what is there."""


class Found:
    """A class, and where it was found.

    Attributes:
        cls: the class.
        own: what it has itself, as it is now.
        model: how an instance of a model is made, where one was.
        data: how one of a dataclass is.
    """

    __slots__ = ("_module", "_name", "_steps", "cls", "data", "model", "own")

    def __init__(self, cls: type, name: str, module: Any, steps: list[_Step]) -> None:
        self.cls = cls
        self.own: Mapping[str, Any] = dict_of(cls)
        self.model: Any = None
        self.data: Any = None
        self._name = name
        self._module = module
        self._steps = steps

    def holds(self) -> bool:
        """Whether the class is still found there, where the program's own module is the same."""
        if sys.modules.get(self._name) is not self._module:
            return False
        # One step, mostly: a generator would cost as much again.
        for space, part, held in self._steps:  # noqa: SIM110
            if space.get(part) is not held:
                return False
        return True


found: Final[dict[str, Found]] = {}
"""The classes that were found, by their names in entries: `settle` first, and see that it holds."""

_MOST_KEPT: Final = 1024


# The program's own module, what it holds, and what tells how others would call it.
_main: tuple[Any, Mapping[str, Any], Any, Any] = (None, {}, None, None)


def settle() -> object:
    """Forget what was found where the program's own module is another, or is called otherwise.

    Gives the same object as long as nothing was forgotten.
    """
    global _main
    main, space, spec, file = _main
    if (
        sys.modules.get("__main__") is main
        and space.get("__spec__") is spec
        and space.get("__file__") is file
    ):
        return _main
    found.clear()
    main, space = sys.modules.get("__main__"), namespace("__main__")
    _main = main, space, space.get("__spec__"), space.get("__file__")
    return _main


def find(name: str) -> type:
    """The class of a name, by looks into namespaces alone: nothing is imported or run.

    Raises `MissingTypeError` where the program has none, `CorruptEntryError` for what is no class.
    """
    return place(name).cls


def place(name: str) -> Found:
    """The class of a name, and where it was found. Raises as `find` does."""
    settle()
    known = found.get(name)
    return known if known is not None and known.holds() else _look(name)


def _look(name: str) -> Found:
    module, _, path = name.partition(":")
    home = "__main__" if module == main_name() else module
    origin = sys.modules.get(home)
    space: Any = namespace(home)
    held: Any = None
    steps: list[_Step] = []
    for part in path.split("."):
        if space is None or part not in space:
            raise MissingTypeError(
                f"the stored value is a {name.replace(':', '.')}, which this program has not "
                f"imported: import {module} before the call"
            )
        held = space[part]
        steps.append((space, part, held))
        space = dict_of(held) if issubclass(type(held), type) else None
    if space is None:
        raise CorruptEntryError(f"{name} is not a class")
    if len(found) >= _MOST_KEPT:
        found.clear()
    found[name] = known = Found(held, home, origin, steps)
    return known
