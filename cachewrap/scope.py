"""The blocks inside an upstream call of its own, of every colour, step by step."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from cachewrap.blocks import Stack, active, blocks

Enter: TypeAlias = Callable[[Stack], Stack]
"""Makes the blocks inside a call of those around it. Every attempt of a call enters anew."""


class Scope:
    """The blocks inside one attempt of a call, kept from one step of it to the next."""

    def __init__(self, enter: Enter) -> None:
        self._inside = enter(active())

    @contextmanager
    def step(self) -> Iterator[None]:
        """Run one step of the call inside; what it enters or leaves is there at its next step."""
        outside = blocks.get()
        blocks.set(self._inside)
        try:
            yield
        finally:
            self._inside = blocks.get()
            # Set back, not reset: a loop may close its tasks from another context.
            blocks.set(outside)


def scoped(enter: Enter, call: Callable[[], Any]) -> Callable[[], Any]:
    """The call of a function."""

    def run() -> Any:
        with Scope(enter).step():
            return call()

    return run


def ascoped(enter: Enter, call: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    """The call of a coroutine function."""

    async def run() -> Any:
        with Scope(enter).step():
            return await call()

    return run


def scoped_generator(
    enter: Enter, start: Callable[[], Generator[Any, Any, Any]]
) -> Callable[[], Generator[Any, Any, Any]]:
    """The call of a generator function: its consumer's own calls stay outside."""

    def run() -> Generator[Any, Any, Any]:
        scope = Scope(enter)
        generator, sent, error = start(), None, None
        while True:
            try:
                with scope.step():
                    item = generator.send(sent) if error is None else generator.throw(error)
            except StopIteration as stop:
                return stop.value
            sent, error = None, None
            try:
                sent = yield item
            except GeneratorExit:
                with scope.step():
                    generator.close()
                raise
            except BaseException as thrown:
                error = thrown

    return run


def scoped_async_generator(
    enter: Enter, start: Callable[[], AsyncGenerator[Any, Any]]
) -> Callable[[], AsyncGenerator[Any, Any]]:
    """The call of an async generator function."""

    async def run() -> AsyncGenerator[Any, Any]:
        scope = Scope(enter)
        generator, sent, error = start(), None, None
        while True:
            try:
                with scope.step():
                    item = await (
                        generator.asend(sent) if error is None else generator.athrow(error)
                    )
            except StopAsyncIteration:
                return
            sent, error = None, None
            try:
                sent = yield item
            except GeneratorExit:
                with scope.step():
                    await generator.aclose()
                raise
            except BaseException as thrown:
                error = thrown

    return run
