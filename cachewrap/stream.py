"""Generators: items are recorded as they pass, kept when exhausted, and replayed one by one."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from functools import partial
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from cachewrap import codec
from cachewrap.entry import Items
from cachewrap.errors import CachewrapError, CodecError
from cachewrap.flow import Absent, Exchange, Reply
from cachewrap.retry import Retry, with_async_retry, with_retry

R = TypeVar("R")

_END: Final = object()
_Running: TypeAlias = tuple[AsyncGenerator[Any, Any], Callable[[], Awaitable[Any]]]


class Server(Protocol):
    """What a stream needs of a cache."""

    def look(self, exchange: Exchange[R]) -> Reply[R] | Absent: ...

    async def alook(self, exchange: Exchange[R]) -> Reply[R] | Absent: ...

    def keep(
        self, exchange: Exchange[R], result: R, seconds: float, absent: Absent
    ) -> Reply[R]: ...

    async def akeep(
        self, exchange: Exchange[R], result: R, seconds: float, absent: Absent
    ) -> Reply[R]: ...

    def survive(self, error: CachewrapError, source: str) -> None: ...


class Recording:
    """A generator's items, encoded as they pass, so that what a caller does to one stays his.

    It is spoiled, and will not be kept, by an item that no codec takes and by whatever a caller
    sends or throws into the generator: from there on the items are an answer to that caller alone.
    """

    def __init__(self, server: Server, exchange: Exchange[Items], absent: Absent) -> None:
        self._server = server
        self._exchange = exchange
        self._absent = absent
        self._started = time.perf_counter()
        self._items: Items | None = Items([], [], codec.encode(None))

    def take(self, item: object) -> object:
        """Record an item; what comes back is what a replay will give."""
        items = self._items
        if items is None:
            return item
        try:
            encoded = codec.encode(item)
        except CodecError as error:
            self._server.survive(error, self._exchange.source)
            self.spoil()
            return item
        items.values.append(encoded)
        items.delays.append(time.perf_counter() - self._started)
        return codec.decode(*encoded)

    def spoil(self) -> None:
        """Keep nothing of this stream."""
        self._items = None

    def _finished(self, returned: object) -> tuple[Items, float] | None:
        items = self._items
        if items is None:
            return None
        try:
            items.returned = codec.encode(returned)
        except CodecError as error:
            self._server.survive(error, self._exchange.source)
            return None
        return items, time.perf_counter() - self._started

    def finish(self, returned: object) -> None:
        """The generator is exhausted: keep what was recorded."""
        if finished := self._finished(returned):
            self._server.keep(self._exchange, *finished, self._absent)

    async def afinish(self) -> None:
        """`finish` for async generators, which return nothing."""
        if finished := self._finished(None):
            await self._server.akeep(self._exchange, *finished, self._absent)


def stream(
    server: Server,
    exchange: Exchange[Items],
    start: Callable[[], Generator[Any, Any, Any]],
    retry: Retry | None = None,
) -> Generator[Any, Any, Any]:
    """A generator that replays the stored items, or passes on and records those of ``start()``.

    Args:
        server: the cache.
        exchange: the request.
        start: makes the real generator.
        retry: applied until the first item is there; later nothing can be taken back.

    A value sent into a replay cannot be answered from the store: the real generator is then run up
    to the same item and takes over.
    """
    found = server.look(exchange)
    if isinstance(found, Absent):
        return (yield from _record(start, retry, Recording(server, exchange, found)))
    for passed, encoded in enumerate(found.value.values, start=1):
        sent = yield codec.decode(*encoded)
        if sent is not None:
            return (yield from _take_over(start(), passed, sent))
    return codec.decode(*found.value.returned)


def _record(
    start: Callable[[], Generator[Any, Any, Any]], retry: Retry | None, recording: Recording
) -> Generator[Any, Any, Any]:
    def begin() -> tuple[Generator[Any, Any, Any], Any, Any]:
        generator = start()
        try:
            return generator, next(generator), None
        except StopIteration as stop:
            return generator, _END, stop.value

    generator, first, returned = with_retry(retry, begin)()
    if first is not _END:
        returned = yield from _pass_on(generator, lambda: first, recording)
    recording.finish(returned)
    return returned


def _take_over(
    generator: Generator[Any, Any, Any], passed: int, sent: Any
) -> Generator[Any, Any, Any]:
    for _ in range(passed):
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value
    return (yield from _pass_on(generator, partial(generator.send, sent), None))


def _pass_on(
    generator: Generator[Any, Any, Any], step: Callable[[], Any], recording: Recording | None
) -> Generator[Any, Any, Any]:
    while True:
        try:
            item = step()
        except StopIteration as stop:
            return stop.value
        try:
            sent = yield recording.take(item) if recording else item
        except GeneratorExit:
            generator.close()
            raise
        except BaseException as error:
            step = partial(generator.throw, error)
        else:
            if sent is None:
                step = generator.__next__
                continue
            step = partial(generator.send, sent)
        if recording:
            recording.spoil()


async def astream(
    server: Server,
    exchange: Exchange[Items],
    start: Callable[[], AsyncGenerator[Any, Any]],
    retry: Retry | None = None,
) -> AsyncGenerator[Any, Any]:
    """`stream` for async generators."""
    recording: Recording | None = None
    found = await server.alook(exchange)
    if isinstance(found, Absent):
        recording = Recording(server, exchange, found)
        generator, step = await with_async_retry(retry, partial(_begin, start))()
    else:
        for passed, encoded in enumerate(found.value.values, start=1):
            sent = yield codec.decode(*encoded)
            if sent is not None:
                generator, step = await _catch_up(start(), passed, sent)
                break
        else:
            return
    # An async generator cannot delegate: this loop is `_pass_on` with `await`.
    while True:
        try:
            item = await step()
        except StopAsyncIteration:
            break
        try:
            sent = yield recording.take(item) if recording else item
        except GeneratorExit:
            await generator.aclose()
            raise
        except BaseException as error:
            step = partial(generator.athrow, error)
        else:
            if sent is None:
                step = generator.__anext__
                continue
            step = partial(generator.asend, sent)
        if recording:
            recording.spoil()
    if recording:
        await recording.afinish()


async def _begin(start: Callable[[], AsyncGenerator[Any, Any]]) -> _Running:
    generator = start()
    return generator, partial(_give, await anext(generator, _END))


async def _catch_up(generator: AsyncGenerator[Any, Any], passed: int, sent: Any) -> _Running:
    for _ in range(passed):
        if await anext(generator, _END) is _END:
            return generator, partial(_give, _END)
    return generator, partial(generator.asend, sent)


async def _give(item: Any) -> Any:
    if item is _END:
        raise StopAsyncIteration
    return item
