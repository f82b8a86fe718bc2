"""The blocks that are active in the current context, and the context variable that holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

OFF: Final = object()
"""Stands in the stack of blocks for `no_cache`."""

# A tuple, never a token: the same cache is entered from many threads and left in other contexts.
blocks: ContextVar[tuple[object, ...]] = ContextVar("cachewrap", default=())

_program: Callable[[], tuple[object, ...]] | None = None


def serve_program(outermost: Callable[[], tuple[object, ...]] | None) -> None:
    """Let blocks stand around the whole program: in every context of this process.

    Args:
        outermost: gives them whenever a context has no block of its own; None for none.
    """
    global _program
    _program = outermost


def active() -> tuple[object, ...]:
    """The blocks of this context, the innermost last; outside any, those of the whole program."""
    stack = blocks.get()
    return stack if stack or _program is None else _program()


def push(block: object) -> None:
    """Make the block the innermost one of this context."""
    blocks.set((*blocks.get(), block))


def pop(block: object) -> None:
    """Leave the block: its innermost occurrence goes; a context without it stays as it is."""
    stack = blocks.get()
    for index in range(len(stack) - 1, -1, -1):
        if stack[index] is block:
            blocks.set(stack[:index] + stack[index + 1 :])
            return


@contextmanager
def no_cache() -> Iterator[None]:
    """A block in which nothing is cached, not even a call with a ``cache=`` of its own.

    A cache's block inside it is the innermost again, and caches.
    """
    push(OFF)
    try:
        yield
    finally:
        pop(OFF)
