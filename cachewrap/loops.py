"""Waits of async code: on an event loop of asyncio, or in a task of trio."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop of asyncio that runs in this thread, if any."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    # Trio can be a guest of such a loop, whose futures mean nothing to it.
    return None if running_trio() is not None else loop


def running_trio() -> Any:
    """The module trio where the caller is in one of its tasks, else None."""
    trio: Any = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        trio.lowlevel.current_task()
    except (AttributeError, RuntimeError):  # it is being imported, or runs none here
        return None
    return trio


def running() -> object:
    """What runs the caller's tasks: a loop of asyncio, or the token of a run of trio; else None."""
    trio = running_trio()
    return running_loop() if trio is None else trio.lowlevel.current_trio_token()


async def sleep(seconds: float) -> None:
    """Let time pass."""
    trio = running_trio()
    await (asyncio if trio is None else trio).sleep(seconds)


async def in_thread(executor: Executor, work: Callable[[], T]) -> T:
    """Do blocking work in a thread: of the executor, or for trio one of its own.

    While the interpreter ends, and threads take no work any more, it is done here.
    """
    trio = running_trio()
    if trio is not None:
        result: T = await trio.to_thread.run_sync(work)
        return result
    try:
        done = asyncio.get_running_loop().run_in_executor(executor, work)
    except RuntimeError:
        return work()
    return await done


def signal() -> tuple[Callable[[], None], Callable[[], Awaitable[object]]]:
    """How another thread wakes an async caller: what it calls, and what the caller awaits."""
    trio = running_trio()
    if trio is not None:
        event, token = trio.Event(), trio.lowlevel.current_trio_token()

        def wake_trio() -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(event.set)

        return wake_trio, event.wait
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        # A caller whose loop has ended waits no more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_finish, woken)

    async def wait() -> None:
        await woken

    return wake, wait


def _finish(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
