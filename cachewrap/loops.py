"""Waits of async code: on an event loop of asyncio, or in a task of trio."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from types import MethodDescriptorType
from typing import Any, TypeVar

T = TypeVar("T")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop of asyncio that runs in this thread, if any."""
    loop = asyncio._get_running_loop()  # which raises nothing: a miss asks it
    # Trio can be a guest of such a loop, whose futures mean nothing to it.
    return None if loop is None or running_trio() is not None else loop


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
    """What runs the caller's tasks: a loop of asyncio, or the token of a run of trio; else None.

    Unlike for `host`, trio as a guest of a loop is not that loop, whose tasks it cannot wait for.
    """
    loop = asyncio._get_running_loop()
    trio = running_trio() if "trio" in sys.modules else None
    return loop if trio is None else trio.lowlevel.current_trio_token()


def host() -> Any:
    """What runs the tasks of this thread, for `runs`; None in code of threads alone.

    Trio as a guest of a loop of asyncio runs as long as that does.
    """
    loop = asyncio._get_running_loop()
    if loop is not None or "trio" not in sys.modules:
        return loop
    trio = running_trio()
    return None if trio is None else trio.lowlevel.current_trio_token()


def runs(given: Any) -> bool:
    """Whether what `host` gave still runs tasks: a loop may be stopped, and kept."""
    if given is None:
        return True
    if isinstance(given, asyncio.AbstractEventLoop):
        return given.is_running()
    try:
        given.run_sync_soon(int, idempotent=True)
    except RuntimeError:  # trio's `RunFinishedError`
        return False
    return True


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


def is_watched() -> bool:
    """Whether the caller is on an event loop, and a guard raises where files are read on one.

    A guard as blockbuster puts functions of its own in the place of what blocks, methods of C too.
    """
    return type(io.BufferedReader.read) is not MethodDescriptorType and is_on_loop()


def is_on_loop() -> bool:
    """Whether an event loop of asyncio runs in this thread."""
    return asyncio._get_running_loop() is not None


def aside(work: Callable[[], T]) -> T:
    """Do work of a sync caller in a thread, and wait for it: there no guard of the loop raises."""
    # A future is waited for with what such a guard watches.
    done = threading.Lock()
    future: Future[T] = Future()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
        finally:
            done.release()

    done.acquire()
    threading.Thread(target=do, name="cachewrap-aside", daemon=True).start()
    with done:
        return future.result()


def signal() -> tuple[Callable[[], None], Callable[[float], Awaitable[bool]]]:
    """How another thread wakes an async caller: what it calls, and what the caller awaits.

    The latter takes the seconds to wait at most, and tells whether the caller was woken.
    """
    trio = running_trio()
    if trio is not None:
        event, token = trio.Event(), trio.lowlevel.current_trio_token()

        def wake_trio() -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(event.set)

        async def wait_in_trio(seconds: float) -> bool:
            with trio.move_on_after(max(seconds, 0.0)):
                await event.wait()
            return bool(event.is_set())

        return wake_trio, wait_in_trio
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        # A caller whose loop has ended waits no more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_finish, woken)

    async def wait(seconds: float) -> bool:
        # It leaves the future as it is, also where the caller is cancelled.
        await asyncio.wait((woken,), timeout=max(seconds, 0.0))
        return woken.done()

    return wake, wait


def _finish(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
