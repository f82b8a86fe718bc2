"""Blocks in greenlets: gevent and eventlet start each of theirs with an empty context."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any

from cachewrap.blocks import Stack, blocks
from cachewrap.call.flight import Flight, leading


def carry(greenlet: Any) -> None:
    """Let a greenlet that was not started yet see the active blocks, and nothing else.

    What has a context already, because somebody gave it one, keeps it.
    """
    stack, flights = blocks.get(), leading.get()
    if (stack or flights) and greenlet.gr_context is None:
        context = Context()
        context.run(_enter, stack, flights)
        greenlet.gr_context = context


def _enter(stack: Stack, flights: tuple[Flight, ...]) -> None:
    blocks.set(stack)
    leading.set(flights)


def make(
    wrapped: Callable[..., Any], greenlet: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """The constructor of eventlet's `GreenThread`."""
    wrapped(*args, **kwargs)
    carry(greenlet)


def spawn(
    wrapped: Callable[..., Any], module: None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """What eventlet's `spawn_n` comes down to, which gives a timer and a plain greenlet."""
    spawned = wrapped(*args, **kwargs)
    carry(spawned[1])
    return spawned
