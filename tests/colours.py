"""The four kinds of function that can be decorated, written and called as if they were one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from cachewrap import llm_cached

COLOURS = ("sync", "async", "generator", "async generator")


class Function:
    """A decorated function of one colour around a plain one, called from a test without a loop.

    Args:
        colour: one of `COLOURS`.
        answer: what it does.
        options: for the decorator.
    """

    def __init__(self, colour: str, answer: Callable[[str], Any], **options: Any) -> None:
        self._colour = colour
        decorate = llm_cached(**options)
        if colour == "sync":

            @decorate
            def complete(prompt: str) -> Any:
                return answer(prompt)

        elif colour == "async":

            @decorate
            async def complete(prompt: str) -> Any:
                await asyncio.sleep(0)
                return answer(prompt)

        elif colour == "generator":

            @decorate
            def complete(prompt: str) -> Iterator[Any]:
                yield "item"
                yield answer(prompt)

        else:

            @decorate
            async def complete(prompt: str) -> AsyncIterator[Any]:
                yield "item"
                yield answer(prompt)

        self.decorated = complete

    def __call__(self, prompt: str, **options: Any) -> Any:
        """The answer to one call; of a stream its last item."""
        called = self.decorated(prompt, **options)
        if self._colour == "sync":
            return called
        if self._colour == "generator":
            return list(called)[-1]
        return asyncio.run(_last(called))


async def _last(called: Any) -> Any:
    if hasattr(called, "__aiter__"):
        return [item async for item in called][-1]
    return await called


class Upstream:
    """Answers every call differently, and counts them."""

    def __init__(self) -> None:
        self.calls = 0
        self.failing = 0

    def answer(self, prompt: str) -> str:
        self.calls += 1
        if self.failing:
            self.failing -= 1
            raise ConnectionError(prompt)
        return f"{prompt} #{self.calls}"
