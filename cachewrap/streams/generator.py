"""Generators: items are recorded as they pass, kept when exhausted, and replayed one by one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import closing, suppress
from functools import partial
from typing import Any, TypeAlias

from cachewrap.call.terms import Absent, Exchange
from cachewrap.entry import Items
from cachewrap.format import codec
from cachewrap.retry import Retry, with_async_retry, with_retry
from cachewrap.streams.recording import (
    END,
    AsyncGeneratorSource,
    AsyncStart,
    GeneratorSource,
    ItemRecording,
    Packed,
    Start,
    StreamCache,
    abegin,
    begin,
    unpack,
)
from cachewrap.streams.shared import Alone, Name, SharedStream, join
from cachewrap.streams.shared_async import AsyncSharedStream


class GeneratorStream(SharedStream[Packed]):
    """A generator that threads share."""

    source: GeneratorSource


class AsyncGeneratorStream(AsyncSharedStream[Packed]):
    """An async generator that tasks share."""

    source: AsyncGeneratorSource


class ItemReader:
    """One caller of a shared generator, to whom it is a generator.

    A value sent in, or an error thrown, concerns its caller alone. If he is all that reads, the
    real generator becomes his own; else one of his own takes over, and an error comes out again.
    """

    def __init__(
        self, cache: StreamCache, start: Start, stream: GeneratorStream, leads: bool
    ) -> None:
        self._cache = cache
        self._start = start
        self._stream = stream
        self._leads = leads
        self._passed = 0
        self._served = False
        self._left = False
        self._own: Generator[Any, Any, Any] | None = None
        self._step: Callable[[Callable[[], Any]], Any] = _call

    def __next__(self) -> Any:
        """The next item. Raises `Alone` before the first one, where the caller is to go alone."""
        if self._own is None:
            try:
                return self._read()
            except Alone:
                if not self._passed:
                    raise
            self._take_over()
        return self.send(None)

    def _read(self) -> Any:
        there = self._stream.has(self._passed, leads=self._leads)
        self._served = True
        if not there:
            raise StopIteration(unpack(self._stream.source.returned))
        self._passed += 1
        return unpack(self._stream.items[self._passed - 1])

    def send(self, value: Any) -> Any:
        """See `Generator.send`."""
        if self._own is None and not self._seize():
            self._take_over()
        assert self._own is not None
        return self._step(partial(self._own.send, value))

    def throw(self, error: BaseException) -> Any:
        """See `Generator.throw`."""
        if self._own is None and not self._seize():
            raise error
        assert self._own is not None
        return self._step(partial(self._own.throw, error))

    def close(self) -> None:
        """Leave the stream; the last reader closes the real generator."""
        if self._own is not None and self._step is _call:
            self._own.close()
        if not self._left:
            self._left = True
            if self._served and not self._leads:
                self._cache.count_joined(self._stream.source.entry)
            self._stream.leave()

    def _seize(self) -> bool:
        generator = self._stream.source.generator
        if generator is None or not self._stream.seize(self._passed):
            return False
        self._own, self._step = generator, self._stream.run
        return True

    def _take_over(self) -> None:
        self.close()
        self._own = self._start()
        for _ in range(self._passed):
            next(self._own)


class AsyncItemReader:
    """`ItemReader` of a shared async generator."""

    def __init__(
        self, cache: StreamCache, start: AsyncStart, stream: AsyncGeneratorStream, leads: bool
    ) -> None:
        self._cache = cache
        self._start = start
        self._stream = stream
        self._leads = leads
        self._passed = 0
        self._served = False
        self._left = False
        self._own: AsyncGenerator[Any, Any] | None = None
        self._step: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]] = _acall

    async def __anext__(self) -> Any:
        """See `ItemReader.__next__`."""
        return await self._leaving(self._next)

    async def asend(self, value: Any) -> Any:
        """See `AsyncGenerator.asend`."""
        if self._own is None and not self._seize():
            await self._leaving(self._take_over)
        assert self._own is not None
        return await self._leaving(partial(self._step, partial(self._own.asend, value)))

    async def athrow(self, error: BaseException) -> Any:
        """See `AsyncGenerator.athrow`."""
        if self._own is None and not self._seize():
            await self.aclose()
            raise error
        assert self._own is not None
        return await self._leaving(partial(self._step, partial(self._own.athrow, error)))

    async def _next(self) -> Any:
        if self._own is None:
            try:
                return await self._read()
            except Alone:
                if not self._passed:
                    raise
            await self._take_over()
        return await self.asend(None)

    async def _read(self) -> Any:
        there = await self._stream.has(self._passed, leads=self._leads)
        self._served = True
        if not there:
            raise StopAsyncIteration
        self._passed += 1
        return unpack(self._stream.items[self._passed - 1])

    async def _leaving(self, step: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await step()
        except GeneratorExit:
            raise  # the task is being destroyed: nothing can be awaited any more
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """See `ItemReader.close`."""
        if self._own is not None and self._step is _acall:
            await self._own.aclose()
        if not self._left:
            self._left = True
            if self._served and not self._leads:
                self._cache.count_joined(self._stream.source.entry)
            await self._stream.leave()

    def _seize(self) -> bool:
        generator = self._stream.source.generator
        if generator is None or not self._stream.seize(self._passed):
            return False
        self._own, self._step = generator, self._stream.run
        return True

    async def _take_over(self) -> None:
        await self.aclose()
        self._own = self._start()
        for _ in range(self._passed):
            await anext(self._own)


def _call(step: Callable[[], Any]) -> Any:
    return step()


async def _acall(step: Callable[[], Awaitable[Any]]) -> Any:
    return await step()


def read(
    cache: StreamCache, exchange: Exchange[Items], start: Start, retry: Retry | None
) -> ItemReader | None:
    """A reader of the request's shared stream; None where the caller is to go upstream alone."""
    place = cache.shared_place
    if place is None:
        return None

    def share(name: Name) -> GeneratorStream:
        return GeneratorStream(name, GeneratorSource(cache, exchange, start, retry))

    found = join(place, exchange.key, share, is_async=False)
    return None if found is None else ItemReader(cache, start, *found)


def aread(
    cache: StreamCache, exchange: Exchange[Items], start: AsyncStart, retry: Retry | None
) -> AsyncItemReader | None:
    """`read` for async callers."""
    place = cache.shared_place
    if place is None:
        return None

    def share(name: Name) -> AsyncGeneratorStream:
        return AsyncGeneratorStream(name, AsyncGeneratorSource(cache, exchange, start, retry))

    found = join(place, exchange.key, share, is_async=True)
    return None if found is None else AsyncItemReader(cache, start, *found)


_Step: TypeAlias = Callable[[], Awaitable[Any]]


def stream(
    cache: StreamCache,
    exchange: Exchange[Items],
    start: Callable[[], Generator[Any, Any, Any]],
    retry: Retry | None = None,
) -> Generator[Any, Any, Any]:
    """A generator that replays the stored items, or passes on and records those of ``start()``.

    Args:
        cache: the cache.
        exchange: the request.
        start: makes the real generator.
        retry: applied until the first item is there; later nothing can be taken back.

    A value sent into a replay cannot be answered from the store: the real generator is then run up
    to the same item and takes over.
    """
    found = cache.look(exchange)
    if isinstance(found, Absent):
        if reader := read(cache, exchange, start, retry):
            with suppress(Alone), closing(reader):
                return (yield from _pass_on(reader, reader.__next__, None))
        return (yield from _record(start, retry, ItemRecording(cache, exchange, found)))
    for passed, encoded in enumerate(found.value.values, start=1):
        sent = yield codec.decode(*encoded)
        if sent is not None:
            return (yield from _take_over(start(), passed, sent))
    return codec.decode(*found.value.returned)


def _record(
    start: Callable[[], Generator[Any, Any, Any]], retry: Retry | None, recording: ItemRecording
) -> Generator[Any, Any, Any]:
    generator, first, returned = with_retry(retry, partial(begin, start))()
    if first is not END:
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
    generator: Generator[Any, Any, Any] | ItemReader,
    step: Callable[[], Any],
    recording: ItemRecording | None,
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
    cache: StreamCache,
    exchange: Exchange[Items],
    start: Callable[[], AsyncGenerator[Any, Any]],
    retry: Retry | None = None,
) -> AsyncGenerator[Any, Any]:
    """`stream` for async generators."""
    recording: ItemRecording | None = None
    generator: AsyncGenerator[Any, Any] | AsyncItemReader
    step: _Step
    found = await cache.alook(exchange)
    if not isinstance(found, Absent):
        for passed, encoded in enumerate(found.value.values, start=1):
            sent = yield codec.decode(*encoded)
            if sent is not None:
                generator, step = await _catch_up(start(), passed, sent)
                break
        else:
            return
    elif reader := await _join(aread(cache, exchange, start, retry)):
        generator, step = reader
    else:
        recording = ItemRecording(cache, exchange, found)
        generator, item = await with_async_retry(retry, partial(abegin, start))()
        step = partial(_give, item)
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


async def _join(reader: AsyncItemReader | None) -> tuple[AsyncItemReader, _Step] | None:
    if reader is not None:
        with suppress(Alone):
            return reader, partial(_give, await anext(reader, END))
    return None


async def _catch_up(
    generator: AsyncGenerator[Any, Any], passed: int, sent: Any
) -> tuple[AsyncGenerator[Any, Any], _Step]:
    for _ in range(passed):
        if await anext(generator, END) is END:
            return generator, partial(_give, END)
    return generator, partial(generator.asend, sent)


async def _give(item: Any) -> Any:
    if item is END:
        raise StopAsyncIteration
    return item
