"""Forks: what a child process makes anew, as other threads do not exist in it.

Another thread may have held a lock at the fork, and in the child nobody would release it. A lock is
replaced and not freed: the code that forks may be inside it. Where processes cannot be forked, as
on Windows, nothing of this is ever called.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

F = TypeVar("F", bound=Callable[[], object])

_register: Final[Any] = getattr(os, "register_at_fork", None)


def in_child(work: F) -> F:
    """Call a function first of all in every forked child; also a decorator."""
    if _register is not None:
        _register(after_in_child=work)
    return work


def around(
    before: Callable[[], object], in_parent: Callable[[], object], in_child: Callable[[], object]
) -> None:
    """Call one function before every fork, in the thread that forks, and one on each side after."""
    if _register is not None:
        _register(before=before, after_in_parent=in_parent, after_in_child=in_child)


def renew(module: dict[str, Any], **makers: Callable[[], object]) -> None:
    """Make globals of a module anew in every forked child.

    They stay plain globals, and cost what these cost.

    Args:
        module: the ``globals()`` of the module.
        makers: what makes each of them, by its name.
    """
    in_child(lambda: module.update({name: make() for name, make in makers.items()}))
