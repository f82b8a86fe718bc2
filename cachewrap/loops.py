"""Waits of async code: on an event loop of asyncio, or in a task of trio."""

from __future__ import annotations

import io
import queue
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import Context
from types import MethodDescriptorType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cachewrap.systems import clock

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


def _asyncio_loop() -> Any:
    """The event loop of asyncio in this thread: none where nobody has imported asyncio so far."""
    try:
        return sys.modules["asyncio"]._get_running_loop()  # which raises nothing: a miss asks it
    except (KeyError, AttributeError):  # it is not imported, or is being so
        return None


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop of asyncio that runs in this thread, if any."""
    loop: asyncio.AbstractEventLoop | None = _asyncio_loop()
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
    try:  # as above, in line, since each miss asks
        loop = sys.modules["asyncio"]._get_running_loop()
    except (KeyError, AttributeError):
        loop = None
    trio = running_trio() if "trio" in sys.modules else None
    return loop if trio is None else trio.lowlevel.current_trio_token()


def host() -> Any:
    """What runs the tasks of this thread, for `runs`; None in code of threads alone.

    Trio as a guest of a loop of asyncio runs as long as that does.
    """
    try:  # as above
        loop = sys.modules["asyncio"]._get_running_loop()
    except (KeyError, AttributeError):
        loop = None
    if loop is not None or "trio" not in sys.modules:
        return loop
    trio = running_trio()
    return None if trio is None else trio.lowlevel.current_trio_token()


def is_ending() -> bool:
    """Whether the caller's event loop ends, and closes the generators that nobody has closed."""
    return bool(getattr(_asyncio_loop(), "_asyncgens_shutdown_called", False))


def runs(given: Any) -> bool:
    """Whether what `host` gave still runs tasks: a loop may be stopped, and kept."""
    if given is None:
        return True
    run_soon = getattr(given, "run_sync_soon", None)
    if run_soon is None:
        return bool(given.is_running())
    try:
        run_soon(int, idempotent=True)
    except RuntimeError:  # trio's `RunFinishedError`
        return False
    return True


async def sleep(seconds: float) -> None:
    """Let time pass."""
    await (running_trio() or sys.modules["asyncio"]).sleep(seconds)


async def gathered(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """What several coroutines give, at once where tasks of asyncio can do them."""
    if len(works) < 2 or running_loop() is None:
        try:
            return [await work for work in works]
        finally:
            for work in works:  # of one who is cancelled some have not begun
                work.close()
    return list(await sys.modules["asyncio"].gather(*works))


class _Job:
    """Blocking work. Of the threads that would do it one does, unless nobody wants it any more.

    Args:
        work: what is to be done.
        then: is given the job when it is done, in the thread that did it.
    """

    def __init__(self, work: Callable[[], Any], then: Callable[[_Job], object]) -> None:
        self._work = [work]
        self._then = then
        self._result: Any = None
        self._error: BaseException | None = None

    def is_waiting(self) -> bool:
        """Whether no thread has begun."""
        return bool(self._work)

    def drop(self) -> None:
        """Let no thread begin."""
        self._work.clear()

    def do(self) -> None:
        """Do it, if nobody did."""
        try:
            work = self._work.pop()
        except IndexError:
            return
        try:
            self._result = work()
        except BaseException as error:
            self._error = error
        finally:
            self._then(self)

    def result(self) -> Any:
        """What was done gave, or raised. It has been done."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error, self  # the traceback holds this frame
        return self._result


class Workers:
    """Threads that do blocking work, and keep no interpreter from its end.

    Work that hangs keeps back what is behind it for `_STUCK` seconds: then that has a thread of its
    own.

    Attributes:
        made_by: what made their locks. In greenlets they are of no use to whoever patched it since.
    """

    def __init__(self) -> None:
        self.made_by: object = threading.Lock
        self._lock = threading.Lock()
        # Of the kind that there is now, which gevent may have put there.
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads = 0
        self._more = 0
        self._began = clock.now()
        self._under_way: set[_Job] = set()

    async def do(self, work: Callable[[], T]) -> T:
        """Do the work in a thread; an async caller who is cancelled waits no more."""
        wake, woken = signal()

        def done(job: _Job) -> None:
            self._under_way.discard(job)
            wake()

        job = _Job(work, done)
        self._under_way.add(job)
        try:
            self._give(job)
            while not await woken(_STUCK):
                if job.is_waiting() and clock.now() - self._began >= _STUCK:
                    self._overtake(job)
            result: T = job.result()
            return result
        finally:
            if job.is_waiting():
                job.drop()
                self._under_way.discard(job)
            del job  # the traceback of an error of its own holds this frame

    def begin(self, loop: asyncio.AbstractEventLoop, work: Callable[[], object]) -> None:
        """Have work of callers on a loop done, which tells them itself."""
        job = _Job(work, self._under_way.discard)
        self._under_way.add(job)
        self._give(job)
        if job.is_waiting():
            self._watch(loop, job)

    def _watch(self, loop: asyncio.AbstractEventLoop, job: _Job, seconds: float = 0.0) -> None:
        if seconds and job.is_waiting() and clock.now() - self._began >= _STUCK:
            self._overtake(job)
        if job.is_waiting():
            loop.call_later(_STUCK, self._watch, loop, job, _STUCK)

    def finish(self, seconds: float) -> None:
        """Wait for what is under way."""
        end = clock.now() + seconds
        while self._under_way and clock.now() < end:
            time.sleep(0.005)

    def _give(self, job: _Job) -> None:
        self._jobs.put(job)
        if self._idle.acquire(blocking=False):
            return
        with self._lock:
            if self._threads < _THREADS:
                self._threads += 1
                if not _start(self._work):  # the interpreter ends, and threads take no work
                    self._threads -= 1
                    job.do()

    def _overtake(self, job: _Job) -> None:
        with self._lock:
            if self._more >= _MORE_THREADS:
                return
            self._more += 1

        def alone() -> None:
            try:
                job.do()
            finally:
                with self._lock:
                    self._more -= 1

        if not _start(alone):
            alone()

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                self._idle.release()
                job = self._jobs.get()
            self._began = clock.now()
            job.do()
            del job  # what it holds is not kept until the next one


def _start(work: Callable[[], object]) -> bool:
    thread = threading.Thread(target=work, name="cachewrap", daemon=True)
    try:
        Context().run(thread.start)  # outside of every block: it outlives them
    except RuntimeError:
        return False
    return True


_THREADS: Final = 8
_MORE_THREADS: Final = 256
_STUCK: Final = 2.0


def is_watched() -> bool:
    """Whether the caller is on an event loop, and a guard raises where files are read on one.

    A guard as blockbuster puts functions of its own in the place of what blocks, methods of C too.
    """
    return type(io.BufferedReader.read) is not MethodDescriptorType and is_on_loop()


def is_on_loop() -> bool:
    """Whether an event loop of asyncio runs in this thread."""
    return _asyncio_loop() is not None


def aside(work: Callable[[], T]) -> T:
    """Do work of a sync caller in a thread, and wait for it: there no guard of the loop raises."""
    # A future is waited for with what such a guard watches.
    done = threading.Lock()
    job = _Job(work, lambda _: done.release())
    done.acquire()
    threading.Thread(target=job.do, name="cachewrap-aside", daemon=True).start()
    with done:
        result: T = job.result()
        return result


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
    import asyncio

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
