"""What asks, in every way in which a program can: for tests of what is written down of it.

Processes of their own import it as well.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cachewrap import Cache, llm_cached, patch_threads


@llm_cached(version=1)
def complete(prompt: str, *, model: str = "m") -> str:
    """A decorated function."""
    if prompt == "fails":
        raise ConnectionError("upstream is down")
    return f"{prompt}!"


@llm_cached(version=1)
async def acomplete(prompt: str, *, model: str = "m") -> str:
    """The same for async callers."""
    await asyncio.sleep(0)
    return f"{prompt}!"


@llm_cached(version=1)
def words(prompt: str, *, model: str = "m") -> Iterator[str]:
    """A decorated generator."""
    yield from (prompt, "!")


@llm_cached(version=1)
async def awords(prompt: str, *, model: str = "m") -> AsyncIterator[str]:
    """The same for async callers."""
    for word in (prompt, "!"):
        yield word


class Agent:
    """One with a method."""

    @llm_cached(version=1, ignore=["self"])
    def ask(self, prompt: str, *, model: str = "m") -> str:
        """A decorated method."""
        return f"{prompt}!"


def _listed(prompt: str) -> str:
    return "".join(words(prompt))


async def _alisted(prompt: str) -> str:
    return "".join([word async for word in awords(prompt)])


FUNCTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "function": ("complete", complete),
    "async function": ("acomplete", acomplete),
    "generator": ("words", _listed),
    "async generator": ("awords", _alisted),
    "method": ("Agent.ask", Agent().ask),
}
"""Decorated functions, their names, and how each is called with a prompt."""


def one_after_the_other(ask: Callable[[str], Any], prompts: list[str]) -> list[Any]:
    """Calls of one thread, or of one task."""

    async def all_of_them() -> list[Any]:
        return [await told if isinstance(told := ask(one), Awaitable) else told for one in prompts]

    return asyncio.run(all_of_them())


def in_threads(ask: Callable[[str], Any], prompts: list[str]) -> list[Any]:
    """Each in a thread of its own, all at once."""
    meeting = threading.Barrier(len(prompts))

    def work(prompt: str) -> Any:
        meeting.wait()
        return one_after_the_other(ask, [prompt])[0]

    with patch_threads(), ThreadPoolExecutor(len(prompts)) as pool:
        return list(pool.map(work, prompts))


def in_tasks(ask: Callable[[str], Any], prompts: list[str]) -> list[Any]:
    """Each in a task of its own, all at once."""

    async def one(prompt: str) -> Any:
        told = ask(prompt)
        return await told if isinstance(told, Awaitable) else told

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*map(one, prompts))

    return asyncio.run(all_of_them())


def in_threads_of_tasks(ask: Callable[[str], Any], prompts: list[str]) -> list[Any]:
    """Each in a thread to which a task of an event loop has given it."""

    async def all_of_them() -> list[Any]:
        work = [asyncio.to_thread(one_after_the_other, ask, [prompt]) for prompt in prompts]
        return [one[0] for one in await asyncio.gather(*work)]

    return asyncio.run(all_of_them())


WAYS: dict[str, Callable[[Callable[[str], Any], list[str]], list[Any]]] = {
    "one after the other": one_after_the_other,
    "in threads": in_threads,
    "in tasks": in_tasks,
    "in threads of tasks": in_threads_of_tasks,
}


def ask_some(cache: Cache, name: str, first: int, count: int) -> None:
    """So many calls of a process that takes part in a run: what others ask too, and its own."""
    with cache.run(name) if name else cache:
        for number in range(count):
            complete(f"{first} {number}")
            complete(f"all {number}")


def ask_in_the_block(first: int, count: int) -> None:
    """So many calls of a process, in whatever block it was started in."""
    for number in range(count):
        complete(f"{first} {number}")


def ask_for_ever(cache: Cache, name: str, told: Path) -> None:
    """Calls one after the other, of which each is noted at once, with when it ended."""
    with told.open("ab", buffering=0) as file, cache.run(name) if name else cache:
        for number in range(10**9):
            complete(f"for ever {number}")
            file.write(b"%d %.6f\n" % (number, time.time()))
            time.sleep(0.002)
