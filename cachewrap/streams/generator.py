"""Generators: items are recorded as they pass, kept when exhausted, and replayed one by one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import closing
from functools import partial
from math import inf
from operator import methodcaller
from typing import Any

from cachewrap.call.terms import Absent, Exchange
from cachewrap.call.watching import raised
from cachewrap.entry import Items
from cachewrap.errors import CodecError
from cachewrap.format import codec
from cachewrap.retry import Retry
from cachewrap.streams.recording import StreamCache, unpack
from cachewrap.streams.shared import (
    Alone,
    Late,
    Name,
    SharedStream,
    StreamReader,
    join,
    patience,
)
from cachewrap.streams.shared_async import AsyncSharedStream
from cachewrap.streams.source import AsyncGeneratorSource, AsyncStart, GeneratorSource, Start


class _ItemReader(StreamReader):
    """One caller of a generator, to whom it is that generator.

    What he sends or throws in concerns him alone: if nobody else reads his stream, it is done to
    that; else he leaves it for a generator of his own, which is run up to the same item.

    Args:
        cache: the cache.
        begin: makes a source, see `GeneratorSource`.
        absent: what he has seen of the store, if he has had no item yet.
        stream: the shared stream; None for one who goes alone.
        leads: whether he is its first reader.
        seconds: how long one who is not waits at most for the next item.
        passed: how many items he has had.
    """

    def __init__(
        self,
        cache: StreamCache,
        begin: Callable[[Absent | None, int], Any],
        absent: Absent | None,
        stream: Any = None,
        leads: bool = True,
        seconds: float = inf,
        passed: int = 0,
    ) -> None:
        super().__init__(cache, stream, leads, seconds)
        self._begin = begin
        self._absent = absent
        self._new = not leads
        self._passed = passed
        if stream is None:
            self.source = begin(absent, passed)

    def _take(self) -> Any:
        """The next item of the stream, which is there."""
        self._new = False
        self._passed += 1
        return unpack(self._stream.items[self._passed - 1])

    def _owns(self) -> bool:
        """Whether what the caller does to the source touches nobody else."""
        alone: bool = self._stream is None
        return alone or (self.source.begun and self._stream.claim(self._passed))

    def _start_own(self) -> None:
        self._stream = None
        self.source = self._begin(None if self._passed else self._absent, self._passed)


class ItemReader(_ItemReader):
    """The reader of a generator."""

    def __iter__(self) -> ItemReader:
        return self

    def __next__(self) -> Any:
        if self._stream is not None:
            try:
                there = self._stream.has(
                    self._passed, leads=self._leads, new=self._new, seconds=self._seconds
                )
            except Alone:
                self._go_alone()
            except Late as late:
                self.close()
                raise TimeoutError(*late.args) from None
            else:
                self._joined = not self._leads
                if there:
                    return self._take()
                raise StopIteration(unpack(self.source.returned))
        try:
            return unpack(self.source.pull())
        except StopIteration:
            raise StopIteration(unpack(self.source.returned)) from None

    def send(self, value: Any) -> Any:
        """See `Generator.send`."""
        return next(self) if value is None else self._give(methodcaller("send", value))

    def throw(self, *error: Any) -> Any:
        """See `Generator.throw`."""
        return self._give(methodcaller("throw", *error))

    def _give(self, step: Callable[[Any], Any]) -> Any:
        if not self._owns():
            self._go_alone()
        self.source.given = step
        return next(self)

    def _go_alone(self) -> None:
        self.close()
        self._start_own()

    def close(self) -> None:
        """Leave the stream; the last reader closes the real generator."""
        if self._stream is None:
            self.source.close()
        elif not self._left:
            self._left = True
            self._count()
            self._stream.leave()


class AsyncItemReader(_ItemReader):
    """The reader of an async generator."""

    async def __anext__(self) -> Any:
        if self._stream is not None:
            try:
                there = await self._stream.has(
                    self._passed, leads=self._leads, new=self._new, seconds=self._seconds
                )
            except Alone:
                await self._go_alone()
            except Late as late:
                await self.aclose()
                raise TimeoutError(*late.args) from None
            else:
                self._joined = not self._leads
                if there:
                    return self._take()
                raise StopAsyncIteration
        return unpack(await self.source.pull())

    async def asend(self, value: Any) -> Any:
        """See `AsyncGenerator.asend`."""
        return await self._give(methodcaller("asend", value))

    async def athrow(self, error: BaseException) -> Any:
        """See `AsyncGenerator.athrow`."""
        try:
            return await self._give(methodcaller("athrow", error))
        except StopAsyncIteration:
            if self.source.given is None:
                raise
        raise error  # his own generator ended before the item that it was run up to

    async def _give(self, step: Callable[[Any], Any]) -> Any:
        if not self._owns():
            await self._go_alone()
        self.source.given = step
        return await anext(self)

    async def _go_alone(self) -> None:
        await self.aclose()
        self._start_own()

    async def aclose(self) -> None:
        """See `ItemReader.close`."""
        if self._stream is None:
            await self.source.close()
        elif not self._left:
            self._left = True
            self._count()
            await self._stream.leave()


def stream(
    cache: StreamCache, exchange: Exchange[Items], start: Start, retry: Retry | None = None
) -> Generator[Any, Any, Any]:
    """A generator that replays the stored items, or passes on and records those of ``start()``.

    Args:
        cache: the cache.
        exchange: the request.
        start: makes the real generator.
        retry: applied until the first item is there; later nothing can be taken back.

    A value sent into a replay cannot be answered from the store, nor can an item be that cannot be
    read: the real generator is then run up to the same item and takes over.
    """
    begin = partial(GeneratorSource, cache, exchange, start, retry)
    found = cache.look(exchange)
    if isinstance(found, Absent):
        joined = _join(cache, exchange, lambda name: SharedStream(name, begin()), is_async=False)
        with closing(ItemReader(cache, begin, found, *joined)) as reader:
            reader.begun, reader.by = exchange.begun, exchange.by
            try:
                return (yield from reader)
            except BaseException as error:
                raised(reader.begun, error)
                raise
    passed, sent = 0, None
    for encoded in found.value.values:
        try:
            item = codec.decode(*encoded)
        except CodecError as error:
            cache.damaged(exchange, error)
            break
        passed += 1
        if (sent := (yield item)) is not None:
            break
    else:
        try:
            return codec.decode(*found.value.returned)
        except CodecError as error:
            cache.damaged(exchange, error)
    with closing(ItemReader(cache, begin, None, passed=passed)) as reader:
        if sent is not None:
            reader.source.given = methodcaller("send", sent)
        return (yield from reader)


async def astream(
    cache: StreamCache, exchange: Exchange[Items], start: AsyncStart, retry: Retry | None = None
) -> AsyncGenerator[Any, Any]:
    """`stream` for async generators."""
    begin = partial(AsyncGeneratorSource, cache, exchange, start, retry)
    found = await cache.alook(exchange)
    if isinstance(found, Absent):
        joined = _join(
            cache, exchange, lambda name: AsyncSharedStream(name, begin()), is_async=True
        )
        reader = AsyncItemReader(cache, begin, found, *joined)
        reader.begun, reader.by = exchange.begun, exchange.by
    else:
        passed, sent = 0, None
        for encoded in found.value.values:
            try:
                item = codec.decode(*encoded)
            except CodecError as error:
                await cache.adamaged(exchange, error)
                break
            passed += 1
            if (sent := (yield item)) is not None:
                break
        else:
            return
        reader = AsyncItemReader(cache, begin, None, passed=passed)
        if sent is not None:
            reader.source.given = methodcaller("asend", sent)
    # An async generator cannot delegate.
    step: Callable[[], Awaitable[Any]] = reader.__anext__
    thrown: BaseException | None = None
    while True:
        try:
            item = await step()
        except GeneratorExit:
            raise  # the task is being destroyed: nothing can be awaited any more
        except BaseException as error:
            # Whoever is cancelled where he has an item has left, as does what closes it for him.
            left = thrown is not None and not isinstance(error, Exception)
            if not (left or isinstance(error, StopAsyncIteration)):
                raised(reader.begun, error)
            await reader.aclose()
            if isinstance(error, StopAsyncIteration):
                return
            raise
        try:
            sent = yield item
        except GeneratorExit:
            await reader.aclose()
            raise
        except BaseException as error:
            thrown = None if isinstance(error, Exception) else error
            step = partial(reader.athrow, error)
        else:
            step = reader.__anext__ if sent is None else partial(reader.asend, sent)


def _join(
    cache: StreamCache, exchange: Exchange[Items], start: Callable[[Name], Any], *, is_async: bool
) -> tuple[Any, bool, float]:
    """The request's shared stream, whether the caller leads it, and for how long he waits for it.

    There is none where he goes alone.
    """
    place = cache.shared_place
    joined = None if place is None else join(place, exchange.key, start, is_async=is_async)
    return (
        (None, True, inf) if joined is None else (*joined, inf if joined[1] else patience(exchange))
    )
