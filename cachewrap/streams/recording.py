"""Recordings: a generator's items kept aside, encoded, while its callers consume them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from cachewrap.call.terms import Absent, Exchange, Reply
from cachewrap.entry import Entry, Items, Kind
from cachewrap.errors import CachewrapError, CodecError
from cachewrap.format import codec
from cachewrap.retry import Retry, with_async_retry, with_retry

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Bare:
    """An item that no codec takes: every reader gets the very object."""

    item: Any


Packed: TypeAlias = tuple[Kind, bytes] | Bare
"""An item that can be given to several readers."""


def pack(item: object) -> Packed:
    """The item, for several readers."""
    try:
        return codec.encode(item)
    except CodecError:
        return Bare(item)


def unpack(packed: Packed) -> Any:
    """The item, as one reader's own where a codec takes it."""
    return packed.item if isinstance(packed, Bare) else codec.decode(*packed)


class StreamCache(Protocol):
    """What a stream needs of a cache."""

    @property
    def shared_place(self) -> str | None:
        """Where callers of one request at one time share its stream; None if they do not."""

    def look(self, exchange: Exchange[R]) -> Reply[R] | Absent: ...

    async def alook(self, exchange: Exchange[R]) -> Reply[R] | Absent: ...

    def keep(
        self, exchange: Exchange[R], result: R, seconds: float, absent: Absent
    ) -> Reply[R]: ...

    async def akeep(
        self, exchange: Exchange[R], result: R, seconds: float, absent: Absent
    ) -> Reply[R]: ...

    def count_joined(self, entry: Entry | None) -> None: ...

    def survive(self, error: CachewrapError, source: str) -> None: ...


class ItemRecording:
    """A generator's items, encoded as they pass, so that what a caller does to one stays his.

    It is spoiled, and will not be kept, by an item that no codec takes and by whatever a caller
    sends or throws into the generator: from there on the items are an answer to that caller alone.
    """

    def __init__(self, cache: StreamCache, exchange: Exchange[Items], absent: Absent) -> None:
        self._cache = cache
        self._exchange = exchange
        self._absent = absent
        self._started = time.perf_counter()
        self._items: Items | None = Items([], [], codec.encode(None))

    def take(self, item: object) -> object:
        """Record an item; what comes back is what a replay will give."""
        return item if self._items is None else unpack(self.pack(item))

    def pack(self, item: object) -> Packed:
        """Record an item; what comes back gives each reader a copy of its own."""
        items = self._items
        try:
            encoded = codec.encode(item)
        except CodecError as error:
            if items is not None:
                self._cache.survive(error, self._exchange.source)
                self.spoil()
            return Bare(item)
        if items is not None:
            items.values.append(encoded)
            items.delays.append(time.perf_counter() - self._started)
        return encoded

    @property
    def spoiled(self) -> bool:
        """Whether nothing of this stream will be kept."""
        return self._items is None

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
            self._cache.survive(error, self._exchange.source)
            return None
        return items, time.perf_counter() - self._started

    def finish(self, returned: object) -> Entry | None:
        """The generator is exhausted: keep what was recorded. What comes back is what is stored."""
        finished = self._finished(returned)
        if finished is None:
            return None
        return self._cache.keep(self._exchange, *finished, self._absent).entry

    async def afinish(self) -> Entry | None:
        """`finish` for async generators, which return nothing."""
        finished = self._finished(None)
        if finished is None:
            return None
        return (await self._cache.akeep(self._exchange, *finished, self._absent)).entry


Start: TypeAlias = Callable[[], Generator[Any, Any, Any]]
AsyncStart: TypeAlias = Callable[[], AsyncGenerator[Any, Any]]

END: Final = object()
"""Stands for the item of a generator that has none left."""


class GeneratorSource:
    """A generator that is recorded and kept; or what is stored, if it came since the caller looked.

    Attributes:
        generator: the real generator, once it has begun.
        returned: what it returned, at the end.
        entry: what is stored of it, at the end.
    """

    def __init__(
        self, cache: StreamCache, exchange: Exchange[Items], start: Start, retry: Retry | None
    ) -> None:
        self._recording: ItemRecording | None = None
        self._steps = self._run(cache, exchange, start, retry)
        self.generator: Generator[Any, Any, Any] | None = None
        self.returned: Packed = pack(None)
        self.entry: Entry | None = None

    @property
    def spoiled(self) -> bool:
        return self._recording is not None and self._recording.spoiled

    def _run(
        self, cache: StreamCache, exchange: Exchange[Items], start: Start, retry: Retry | None
    ) -> Generator[Packed, None, None]:
        found = cache.look(exchange)
        if not isinstance(found, Absent):
            yield from found.value.values
            self.returned, self.entry = found.value.returned, found.entry
            return
        self._recording = recording = ItemRecording(cache, exchange, found)
        self.generator, item, returned = with_retry(retry, partial(begin, start))()
        while item is not END:
            yield recording.pack(item)
            try:
                item = next(self.generator)
            except StopIteration as stop:
                item, returned = END, stop.value
        self.returned = pack(returned)
        self.entry = recording.finish(returned)

    def pull(self) -> Packed:
        return next(self._steps)

    def close(self) -> None:
        self._steps.close()
        if self.generator is not None:
            self.generator.close()


def begin(start: Start) -> tuple[Generator[Any, Any, Any], Any, Any]:
    """Start a generator: it, its first item (or `END`), and what it returned."""
    generator = start()
    try:
        return generator, next(generator), None
    except StopIteration as stop:
        return generator, END, stop.value


class AsyncGeneratorSource:
    """`GeneratorSource` of an async generator."""

    def __init__(
        self, cache: StreamCache, exchange: Exchange[Items], start: AsyncStart, retry: Retry | None
    ) -> None:
        self._recording: ItemRecording | None = None
        self._steps = self._run(cache, exchange, start, retry)
        self.generator: AsyncGenerator[Any, Any] | None = None
        self.exhausted = False
        self.entry: Entry | None = None

    @property
    def spoiled(self) -> bool:
        return self._recording is not None and self._recording.spoiled

    async def _run(
        self, cache: StreamCache, exchange: Exchange[Items], start: AsyncStart, retry: Retry | None
    ) -> AsyncGenerator[Packed, None]:
        found = await cache.alook(exchange)
        if not isinstance(found, Absent):
            for packed in found.value.values:
                yield packed
            self.entry = found.entry
            return
        self._recording = recording = ItemRecording(cache, exchange, found)
        self.generator, item = await with_async_retry(retry, partial(abegin, start))()
        while item is not END:
            yield recording.pack(item)
            item = await anext(self.generator, END)
        self.exhausted = True
        self.entry = await recording.afinish()

    async def pull(self) -> Packed:
        return await anext(self._steps)

    async def close(self) -> None:
        await self._steps.aclose()
        if self.generator is not None:
            await self.generator.aclose()


async def abegin(start: AsyncStart) -> tuple[AsyncGenerator[Any, Any], Any]:
    """Start an async generator: it, and its first item (or `END`)."""
    generator = start()
    return generator, await anext(generator, END)
