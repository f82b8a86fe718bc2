"""Changes of a file that callers wait for: those who come while others write go together."""

from __future__ import annotations

import threading
import types
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

from cachewrap.errors import StoreError
from cachewrap.loops import running_loop, sleep
from cachewrap.stores.base import in_thread
from cachewrap.stores.jsonl.lines import Name
from cachewrap.systems import clock

if TYPE_CHECKING:
    import asyncio

_PAUSES: Final = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
"""Seconds between attempts to change a file on an event loop that somebody else uses."""

_LONG: Final = 0.002
_SLOW: Final = 3
_ASIDE: Final = 5.0
"""Seconds that changes which are made on an event loop may take, how many times in a row they may
take more, and for how long threads make them then."""


class Change(ABC):
    """A change of one line, which is made together with those of others who come meanwhile.

    Attributes:
        name: of the line.
        short: whether it takes no time.
        line: what is there when the change is made.
    """

    line: bytes | None = None

    def __init__(self, name: Name, *, short: bool) -> None:
        self.name = name
        self.short = short
        self.made = False
        self.error: BaseException | None = None
        self.woken: asyncio.Future[None] | None = None  # of who waits on an event loop

    @abstractmethod
    def prepare(self) -> None:
        """Do what takes long and needs nothing of the file, which is not locked yet."""

    @abstractmethod
    def decide(self, present: bytes | None) -> bytes | None:
        """The line for the one that is there; None, or the same one, where that stays."""


class Changes(ABC):
    """The changes of one file: who wants some, and who makes them.

    Of those who wait one makes the changes of all. Tasks do so on their event loop where it takes
    no time: a thread that has the file locked gives others the interpreter at each step, and keeps
    the file from all other processes until it has it back.
    """

    def __init__(self) -> None:
        self._slow = 0  # how many times in a row it took long on an event loop
        self._quick_from = 0.0
        self._renew_queue()

    def _renew_queue(self) -> None:
        """In a forked child: those who wait are the parent's."""
        self._queue = threading.Lock()
        self._wanted: list[Change] = []
        # Event loops of which a task is on its way to make them; one may stop meanwhile.
        self._led: set[asyncio.AbstractEventLoop] = set()

    @abstractmethod
    def make_changes(self) -> None:
        """Make the changes that are `taken`, however long that takes."""

    @abstractmethod
    def make_at_once(self) -> bool | None:
        """Make the changes that are `taken`, where that takes no time.

        False where it takes some, and None where somebody else uses the file.
        """

    @abstractmethod
    async def catch_up(self) -> None:
        """Read what others have written."""

    def change(self, change: Change) -> None:
        """Make a change, together with those that others wait for."""
        with self._queue:
            self._wanted.append(change)
        self.make_changes()
        _raise(change)

    async def achange(self, change: Change) -> None:
        """`change` for async callers, with those of the other tasks that are ready now.

        A short line is appended at once, where nobody has to be waited for; else a thread does it.
        """
        loop = running_loop()
        if loop is None:  # in a task of trio
            await in_thread(self.change, change)
            return
        change.woken = loop.create_future()
        if change.short and self._is_quick():
            with suppress(OSError):  # it is met again
                change.prepare()
        with self._queue:
            self._wanted.append(change)
            leads = loop not in self._led
            self._led.add(loop)
        if leads:
            try:
                await _turn()  # of the others
                if not await self._make_soon(change):
                    await in_thread(self.make_changes)
            except BaseException:  # cancelled, perhaps before a thread began
                if not change.made:
                    self._make_aside()
                raise
        else:
            await change.woken
        _raise(change)

    async def _make_soon(self, change: Change) -> bool:
        """Whether a change was made on the event loop, perhaps once others have done with the file.

        A thread that has the file locked would keep it for longer: it waits for the loop at each
        step.
        """
        for pause in _PAUSES:
            if change.made:
                return True
            if not self._is_quick() or not change.short:
                return False
            try:
                await self.catch_up()
            except StoreError:  # who writes is told
                return False
            began = clock.now()
            made = self.make_at_once()
            if made is not None:
                self._judge(clock.now() - began)
                return made
            await sleep(pause)
        return change.made

    def _judge(self, seconds: float) -> None:
        """Leave a file that is far away, or on a disk that is busy, to threads for a while."""
        self._slow = self._slow + 1 if seconds > _LONG else 0
        if self._slow >= _SLOW:
            self._quick_from = clock.now() + _ASIDE

    def are_short(self) -> bool:
        """Whether it takes no time to make those that wait."""
        return all(change.short for change in self._wanted)

    def _is_quick(self) -> bool:
        return clock.now() >= self._quick_from

    @contextmanager
    def taken(self) -> Iterator[list[Change]]:
        """The changes that wait, to be made now; those who wait for them are woken then."""
        with self._queue:
            changes, self._wanted, self._led = self._wanted, [], set()
        try:
            yield changes
        except Exception as error:
            fail(changes, error, error.__cause__)
        except BaseException:  # an interrupt: others make them
            with self._queue:
                self._wanted[:0] = [change for change in changes if not change.made]
            self._make_aside()
            raise
        finally:
            _wake(changes)

    def _make_aside(self) -> None:
        thread = threading.Thread(target=self.make_changes, name="cachewrap", daemon=True)
        try:
            Context().run(thread.start)
        except RuntimeError:  # the interpreter ends
            self.make_changes()


@types.coroutine
def _turn() -> Generator[None, None, None]:
    """Let the other tasks of the event loop go on that are ready."""
    yield


def fail(changes: Iterable[Change], error: Exception, cause: BaseException | None) -> None:
    """Tell those whose changes were not made."""
    for change in changes:
        if not change.made:
            change.error = type(error)(*error.args)  # with a traceback for each caller
            change.error.__cause__ = cause
            change.made = True


def _raise(change: Change) -> None:
    if change.error is not None:
        raise change.error


def _wake(changes: Iterable[Change]) -> None:
    """Wake those who wait on event loops, each of which is told once."""
    waiting: dict[Any, list[asyncio.Future[None]]] = {}
    for change in changes:
        if change.made and change.woken is not None:
            waiting.setdefault(change.woken.get_loop(), []).append(change.woken)
    for loop, futures in waiting.items():
        with suppress(RuntimeError):  # it has ended
            loop.call_soon_threadsafe(_finish, futures)


def _finish(futures: list[asyncio.Future[None]]) -> None:
    for woken in futures:
        if not woken.done():
            woken.set_result(None)
