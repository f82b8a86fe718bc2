"""Tools that carry their context into threads, beside ours that carries blocks, in one process."""

from __future__ import annotations

import asyncio
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from multiprocessing.pool import ThreadPool
from typing import Any, ClassVar, TypeAlias

import cachewrap
from beside.tools.watching import Datadog, Instrumented, Sentry
from cachewrap import Cache
from cachewrap.options import active_cache

Work: TypeAlias = Callable[[], Any]
Seen: TypeAlias = dict[str, Any]
"""For each way into a thread whether our block and the tool's context were there, or an error."""


class Carrier(ABC):
    """A tool whose context reaches threads."""

    @abstractmethod
    def on(self) -> None:
        """Switch it on."""

    @abstractmethod
    def off(self) -> None:
        """Undo that."""

    @abstractmethod
    def outer(self) -> AbstractContextManager[object]:
        """A context of the tool's."""

    @abstractmethod
    def here(self) -> Any:
        """What of that context is here, None for nothing."""


class SentryThreads(Sentry, Carrier):
    def here(self) -> Any:
        import sentry_sdk

        return sentry_sdk.get_current_span()


class OpenTelemetryThreads(Instrumented, Carrier):
    needs = ("opentelemetry.instrumentation.threading",)
    classes = ("opentelemetry.instrumentation.threading.ThreadingInstrumentor",)

    def here(self) -> Any:
        from opentelemetry import trace

        span = trace.get_current_span()
        return span if span.is_recording() else None


class DatadogThreads(Datadog, Carrier):
    _LIBRARIES: ClassVar = ("futures",)

    def here(self) -> Any:
        span = self._tracer.current_span()
        return span and span.trace_id


class Nobody(Carrier):
    """No tool at all."""

    needs = ()

    def on(self) -> None:
        """There is nothing to switch on."""

    def off(self) -> None:
        """There is nothing to undo."""

    def outer(self) -> AbstractContextManager[object]:
        return nullcontext()

    def here(self) -> Any:
        return None


CARRIERS: dict[str, Any] = {
    "nobody": Nobody,
    "sentry": SentryThreads,
    "opentelemetry threading": OpenTelemetryThreads,
    "ddtrace futures": DatadogThreads,
}


# -- ways into a thread ---------------------------------------------------------------------------


def _joined(thread: threading.Thread) -> None:
    thread.start()
    thread.join()


def in_a_thread(work: Work) -> Any:
    seen: list[Any] = []
    _joined(threading.Thread(target=lambda *given, **named: seen.append(work()), args=(1,)))
    return seen[0]


def in_a_subclass(work: Work) -> Any:
    seen: list[Any] = []

    class Own(threading.Thread):
        def run(self) -> None:
            seen.append((self, work()))

    thread = Own()
    _joined(thread)
    [(found, result)] = seen
    assert found is thread
    return result


def in_a_run_of_its_own(work: Work) -> Any:
    """A function as `run` of one thread, as Sentry and others put it there."""
    seen: list[Any] = []
    thread = threading.Thread()
    thread.run = lambda *given: seen.append(work())  # type: ignore[method-assign]
    _joined(thread)
    return seen[0]


def in_a_timer(work: Work) -> Any:
    seen: list[Any] = []
    _joined(threading.Timer(0, lambda: seen.append(work())))
    return seen[0]


def in_an_executor(work: Work) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def mapped_in_an_executor(work: Work) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return next(pool.map(lambda _: work(), [None]))


def in_a_thread_pool(work: Work) -> Any:
    with ThreadPool(1) as pool:
        return pool.apply(work)


def on_a_loop(work: Work) -> Any:
    async def ask() -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, work)

    return asyncio.run(ask())


def to_a_thread(work: Work) -> Any:
    async def ask() -> Any:
        return await asyncio.to_thread(work)

    return asyncio.run(ask())


WAYS: dict[str, Callable[[Work], Any]] = {
    way.__name__: way
    for way in (
        in_a_thread,
        in_a_subclass,
        in_a_run_of_its_own,
        in_a_timer,
        in_an_executor,
        mapped_in_an_executor,
        in_a_thread_pool,
        on_a_loop,
        to_a_thread,
    )
}


def _see(carrier: Carrier) -> Seen:
    """What is there in a thread, in each way of coming into one."""
    return {name: _see_one(carrier, way) for name, way in WAYS.items()}


def _see_one(carrier: Carrier, way: Callable[[Work], Any]) -> Any:
    try:
        with carrier.outer(), Cache.memory() as cache:
            here = carrier.here()
            block, there = way(lambda: (active_cache() is cache, carrier.here()))
            theirs = here is not None and there is not None
            return block, theirs
    except Exception:
        return traceback.format_exc()


def run(name: str, order: str) -> dict[str, Seen]:
    """What is seen at each moment of a case."""
    carrier = CARRIERS[name]()
    seen: dict[str, Seen] = {}
    handles = ExitStack()

    def patch() -> None:
        handles.enter_context(cachewrap.patch_threads())

    def apply() -> None:
        if order == "tool first":
            carrier.on()
            seen.setdefault("the tool alone", _see(carrier))
            patch()
        else:
            patch()
            carrier.on()

    apply()
    seen["both"] = _see(carrier)
    handles.close()
    seen["ours undone"] = _see(carrier)
    carrier.off()

    apply()
    carrier.off()
    seen["the tool undone"] = _see(carrier)
    patch()
    seen["ours once more"] = _see(carrier)
    carrier.on()
    seen["the tool once more"] = _see(carrier)
    handles.close()
    return seen
