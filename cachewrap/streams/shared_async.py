"""Shared streams of async callers: the tasks of one event loop read one upstream stream."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import Context
from math import inf
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from cachewrap.entry import Entry
from cachewrap.loops import running, running_loop, running_trio
from cachewrap.streams.shared import Alone, Name, Stream

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]

_CLOSING: Final = 10.0
"""Seconds that closing a source may take in a task of trio that is cancelled."""


class AsyncSource(Protocol[T_co]):
    """`Source` of an async stream; its ``pull`` raises `StopAsyncIteration` at the end."""

    @property
    def spoiled(self) -> bool: ...

    @property
    def entry(self) -> Entry | None: ...

    @property
    def exhausted(self) -> bool:
        """Whether everything has passed, though it may not be kept yet."""
        ...

    def is_broken(self) -> bool: ...

    async def pull(self) -> T_co: ...

    async def close(self) -> None: ...


class AsyncSharedStream(Stream[T]):
    """A stream that the tasks of one event loop share.

    The source runs in one task of its own, from its first item to its close: cancelling a reader
    touches nobody else, and what belongs to a task (a time-out, a cancel scope) finds it again.
    """

    def __init__(self, name: Name, source: AsyncSource[T]) -> None:
        super().__init__(name)
        self.source = source
        # An item is wanted while `_came` is not set.
        self._wanted: Any = None
        self._came: Any = None
        self._task: Task | None = None

    def is_here(self) -> bool:
        """Whether what runs its tasks runs the caller."""
        return running() is self._name[2]

    async def has(self, index: int, *, leads: bool, new: bool, seconds: float = inf) -> bool:
        """See `SharedStream.has`."""
        trio = running_trio()
        if trio is not None:
            await trio.lowlevel.checkpoint()
        while (there := self._is_there(index, new)) is None:
            if self._came is None or self._came.is_set():
                self._came = (trio or asyncio).Event()
                if self._wanted is not None:
                    self._wanted.set()
            if self._task is None:
                self._task = begin(self._work, self._context, self._ended)
            with self._waited_for():
                if not await _comes(self._came, inf if leads else seconds):
                    raise self._give_up(new, seconds)
        return there

    async def _work(self) -> None:
        event = (running_trio() or asyncio).Event
        try:
            while self._outcome is None:
                if self._came.is_set():
                    self._wanted = event()
                    await self._wanted.wait()
                    self._wanted = None
                await self._pull()
                self._came.set()
        except GeneratorExit:
            # Destroyed with all that read: nothing can be awaited any more. What the source holds
            # is finalised as that of any abandoned stream.
            raise
        except BaseException as error:
            self._break(error)
            with shielded():
                await self.source.close()
            raise
        with shielded():
            await self.source.close()

    async def _pull(self) -> None:
        try:
            self.items.append(await self.source.pull())
        except StopAsyncIteration:
            self._settle(StopIteration)
        except BaseException as error:
            self._break(error)
            if not isinstance(error, Exception):
                raise

    def _break(self, error: BaseException) -> None:
        # Where trio cancels a task is for that task alone.
        trio = sys.modules.get("trio")
        foreign = trio is not None and isinstance(error, trio.Cancelled)
        self._settle(Alone if foreign else error)

    def _ended(self) -> None:
        if self._outcome is None:
            self._settle(Alone)
        self._came.set()

    async def leave(self) -> None:
        """One reader less; the last one closes the source.

        Not so while a source that is exhausted is being kept: he waits for that. A reader that was
        abandoned may be finalised outside the loop, which then closes the source when it runs
        again, if it does.
        """
        if not self.drop():
            return
        if self.source.exhausted:
            await self.kept()
            return
        task = self._task
        if task is None:
            with shielded():
                await self.source.close()
            return
        task.cancel()
        if task.is_here():
            with shielded():
                await task.wait()
            if error := task.error():
                raise error

    async def kept(self) -> None:
        """Wait until a source that is exhausted is kept; being cancelled meanwhile harms nobody."""
        task = self._task
        if self.source.exhausted and task is not None and task.is_here():
            await task.wait()

    def _land_in_child(self) -> None:
        self._outcome = self._outcome or Alone


async def _comes(came: Any, seconds: float) -> bool:
    """Wait for an event; whether it came in time."""
    trio = running_trio()
    if trio is not None:
        with trio.move_on_after(seconds):
            await came.wait()
    elif seconds == inf:
        await came.wait()
    else:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await came.wait()
    return came.is_set()  # type: ignore[no-any-return]


def shielded() -> AbstractContextManager[Any]:
    """A block for closing: in trio, a task that is cancelled goes through it for a while."""
    trio = running_trio()
    if trio is None:
        return nullcontext()
    end = trio.current_time() + _CLOSING
    scope: AbstractContextManager[Any] = trio.CancelScope(deadline=end, shield=True)
    return scope


class Task(Protocol):
    """A task of its own, which goes on when those who wait for it are cancelled."""

    def is_here(self) -> bool:
        """Whether the caller's own loop runs it. Nobody can wait for a task of another loop."""
        ...

    def done(self) -> bool: ...

    def cancel(self) -> None:
        """Cancel it, from wherever."""
        ...

    async def wait(self) -> None: ...

    def error(self) -> BaseException | None:
        """What it raised in the end; None where it was cancelled."""
        ...


def begin(
    work: Work, context: Context | None = None, ended: Callable[[], object] | None = None
) -> Task:
    """A task that does the work, in a context of the caller's or in this one.

    Args:
        work: makes what it does.
        context: where it does it.
        ended: called at its end, whatever that is. Such a task may rest while nobody reads.
    """
    trio = running_trio()
    kind = _AsyncioTask if trio is None else _TrioTask
    return kind(work, context, ended)


class _AsyncioTask:
    """A task of asyncio."""

    def __init__(
        self, work: Work, context: Context | None, ended: Callable[[], object] | None
    ) -> None:
        self._task = asyncio.get_running_loop().create_task(work(), context=context)
        if ended is not None:
            # While nobody reads, the task rests like a generator that nobody reads: a loop that
            # ends without a word about the one need not complain of the other.
            self._task._log_destroy_pending = False  # type: ignore[attr-defined]
            self._task.add_done_callback(lambda task: ended())

    def is_here(self) -> bool:
        return running_loop() is self._task.get_loop()

    def done(self) -> bool:
        return self._task.done()

    def cancel(self) -> None:
        if self.is_here():
            self._task.cancel()
            return
        with suppress(RuntimeError):
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    async def wait(self) -> None:
        await asyncio.wait((self._task,))

    def error(self) -> BaseException | None:
        return None if self._task.cancelled() else self._task.exception()


class _TrioTask:
    """A system task of trio."""

    def __init__(
        self, work: Work, context: Context | None, ended: Callable[[], object] | None
    ) -> None:
        self._trio = trio = running_trio()
        self._token = running()
        self._scope = trio.CancelScope()
        self._over = trio.Event()
        self._ended = ended
        self._error: BaseException | None = None
        trio.lowlevel.spawn_system_task(self._run, work, context=context)

    async def _run(self, work: Work) -> None:
        try:
            with self._scope:
                await work()
        except (self._trio.Cancelled, GeneratorExit):
            raise  # with all of its run
        except BaseException as error:
            self._error = error
        finally:
            if self._ended is not None:
                self._ended()
            self._over.set()

    def is_here(self) -> bool:
        return running() is self._token

    def done(self) -> bool:
        return bool(self._over.is_set())

    def cancel(self) -> None:
        if self.is_here():
            self._scope.cancel()
            return
        token: Any = self._token
        with suppress(RuntimeError):
            token.run_sync_soon(self._scope.cancel)

    async def wait(self) -> None:
        await self._over.wait()

    def error(self) -> BaseException | None:
        return self._error


async def finish(task: Task, *, mine: bool) -> None:
    """Wait for a task that goes on when the caller is cancelled.

    Its error is raised for the caller whose own it is (``mine``) and for those who found it at
    work. Nobody can wait for a task of another loop.
    """
    mine = mine or not task.done()
    if not task.done():
        if not task.is_here():
            return
        await task.wait()
    if mine and (error := task.error()):
        raise error
