"""Shared streams of async callers: the tasks of one event loop read one upstream stream."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol, TypeVar

from cachewrap.entry import Entry
from cachewrap.loops import running_loop
from cachewrap.streams.shared import Alone, Name, Stream

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


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
        self._wanted: asyncio.Future[None] | None = None
        self._pulling: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def has(self, index: int, *, leads: bool) -> bool:
        """See `SharedStream.has`."""
        while (there := self._is_there(index, leads)) is None:
            loop = asyncio.get_running_loop()
            if self._pulling is None or self._pulling.done():
                self._pulling = loop.create_future()
                if self._wanted is not None and not self._wanted.done():
                    self._wanted.set_result(None)
            if self._task is None:
                self._task = loop.create_task(self._work(), context=self._context)
                # While nobody reads, the task rests like a generator that nobody reads: a loop that
                # ends without a word about the one need not complain of the other.
                self._task._log_destroy_pending = False  # type: ignore[attr-defined]
            await asyncio.wait((self._pulling, self._task), return_when=asyncio.FIRST_COMPLETED)
        return there

    async def _work(self) -> None:
        try:
            while self._outcome is None:
                if self._pulling is None or self._pulling.done():
                    self._wanted = asyncio.get_running_loop().create_future()
                    await self._wanted
                    self._wanted = None
                await self._pull()
                if self._pulling is not None:
                    self._pulling.set_result(None)
        except GeneratorExit:
            # Destroyed with all that read: nothing can be awaited any more. What the source holds
            # is finalised as that of any abandoned stream.
            raise
        except BaseException as error:
            self._settle(error)
            await self.source.close()
            raise
        await self.source.close()

    async def _pull(self) -> None:
        try:
            self.items.append(await self.source.pull())
        except StopAsyncIteration:
            self._settle(StopIteration)
        except BaseException as error:
            self._settle(error)
            if not isinstance(error, Exception):
                raise

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
            await self.source.close()
            return
        loop = task.get_loop()
        if running_loop() is not loop:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)
            return
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled() and (error := task.exception()):
            raise error

    async def kept(self) -> None:
        """Wait until a source that is exhausted is kept; being cancelled meanwhile harms nobody."""
        task = self._task
        if self.source.exhausted and task is not None and running_loop() is task.get_loop():
            await asyncio.wait((task,))

    def _land_in_child(self) -> None:
        self._outcome = self._outcome or Alone


async def finish(task: asyncio.Task[None], *, mine: bool) -> None:
    """Wait for a task that goes on when the caller is cancelled.

    Its error is raised for the caller whose own it is (``mine``) and for those who found it at
    work. Nobody can wait for a task of another loop.
    """
    mine = mine or not task.done()
    if not task.done():
        if task.get_loop() is not asyncio.get_running_loop():
            return
        await asyncio.wait((task,))
    if mine:
        task.result()
