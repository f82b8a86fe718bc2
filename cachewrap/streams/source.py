"""The generator at the upstream end of a stream: recorded as it passes, and kept at its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias

from cachewrap.call.terms import Absent, Exchange
from cachewrap.call.watching import unkept
from cachewrap.entry import Entry, Items
from cachewrap.retry import Retry, with_async_retry, with_retry
from cachewrap.streams.recording import Bare, ItemRecording, Packed, StreamCache, pack

Start: TypeAlias = Callable[[], Generator[Any, Any, Any]]
AsyncStart: TypeAlias = Callable[[], AsyncGenerator[Any, Any]]

_END: Final = object()
"""Stands for the item of a generator that has none left."""

_NOTHING: Final = pack(None)


class _GeneratorSource:
    """A generator that is recorded and kept; or what is stored, if it came since the caller looked.

    Args:
        cache: the cache.
        exchange: the request.
        start: makes the real generator.
        retry: applied until the first item is there; later nothing can be taken back.
        absent: what a caller who goes alone has seen of the store; None to look.
        skip: how many items the caller has had already; then nothing is kept.

    Attributes:
        given: what is done to the generator in place of the next step, which ends the recording:
            from there on the items are an answer to one caller alone.
        exhausted: whether everything has passed, though it may not be kept yet.
        returned: what it returned, at the end.
        entry: what is stored of it, at the end.
    """

    _NEXT = "__next__"

    def __init__(
        self,
        cache: StreamCache,
        exchange: Exchange[Items],
        start: Any,
        retry: Retry | None,
        absent: Absent | None = None,
        skip: int = 0,
    ) -> None:
        self._cache = cache
        self._exchange = exchange
        self._recording: ItemRecording | None = None
        self._generator: Any = None
        self._steps = steps = self._run(start, retry, absent, skip)
        # See `Source`. The generator's own step: a method around it would cost every item a call.
        self.pull: Callable[[], Any] = getattr(steps, self._NEXT)
        self.given: Callable[[Any], Any] | None = None
        self.exhausted = False
        self.returned: Packed = _NOTHING
        self.entry: Entry | None = None

    def land_in_child(self) -> None:
        """See `Source`."""

    def is_broken(self) -> bool:
        """See `Source`."""
        return False

    def _run(self, start: Any, retry: Retry | None, absent: Absent | None, skip: int) -> Any:
        raise NotImplementedError

    @property
    def begun(self) -> bool:
        """Whether the real generator has begun."""
        return self._generator is not None

    @property
    def spoiled(self) -> bool:
        """See `Source`."""
        return self._recording is not None and self._recording.spoiled


class GeneratorSource(_GeneratorSource):
    """The source of a generator."""

    def _run(
        self, start: Start, retry: Retry | None, absent: Absent | None, skip: int
    ) -> Generator[Packed, None, None]:
        if not skip:
            found = self._cache.look(self._exchange) if absent is None else absent
            if not isinstance(found, Absent):
                yield from found.value.values
                self.returned, self.entry = found.value.returned, found.entry
                return
            self._recording = ItemRecording(self._cache, self._exchange, found)
        generator, item, returned = with_retry(retry, partial(_begin, start))()
        self._generator = generator
        while item is not _END:
            if skip:
                skip -= 1
            else:
                yield Bare(item) if self._recording is None else self._recording.pack(item)
            try:
                if skip or self.given is None:
                    item = next(generator)
                else:
                    given, self.given, self._recording = self.given, None, None
                    item = given(generator)
            except StopIteration as stop:
                item, returned = _END, stop.value
        if self.given is not None:  # the generator ended before the item that it was run up to
            with suppress(StopIteration):
                self.given(generator)
        if returned is not None:
            self.returned = pack(returned)
        if self._recording is not None:
            self.entry = self._recording.finish(returned)
        if self.entry is None:
            unkept(self._exchange)

    def close(self) -> None:
        """See `Source`."""
        self._steps.close()
        if self._generator is not None:
            self._generator.close()


def _begin(start: Start) -> tuple[Generator[Any, Any, Any], Any, Any]:
    """Start a generator: it, its first item (or `_END`), and what it returned."""
    generator = start()
    try:
        return generator, next(generator), None
    except StopIteration as stop:
        return generator, _END, stop.value


class AsyncGeneratorSource(_GeneratorSource):
    """The source of an async generator."""

    _NEXT = "__anext__"

    async def _run(
        self, start: AsyncStart, retry: Retry | None, absent: Absent | None, skip: int
    ) -> AsyncGenerator[Packed, None]:
        if not skip:
            found = await self._cache.alook(self._exchange) if absent is None else absent
            if not isinstance(found, Absent):
                for packed in found.value.values:
                    yield packed
                self.entry = found.entry
                return
            self._recording = ItemRecording(self._cache, self._exchange, found)
        generator, item = await with_async_retry(retry, partial(_abegin, start))()
        self._generator = generator
        while item is not _END:
            if skip:
                skip -= 1
            else:
                yield Bare(item) if self._recording is None else self._recording.pack(item)
            try:
                if skip or self.given is None:
                    item = await anext(generator)
                else:
                    given, self.given, self._recording = self.given, None, None
                    item = await given(generator)
            except StopAsyncIteration:
                item = _END
        self.exhausted = True
        if self._recording is not None:
            self.entry = await self._recording.afinish()
        if self.entry is None:
            unkept(self._exchange)

    async def close(self) -> None:
        """See `Source`."""
        await self._steps.aclose()
        if self._generator is not None:
            await self._generator.aclose()


async def _abegin(start: AsyncStart) -> tuple[AsyncGenerator[Any, Any], Any]:
    """Start an async generator: it, and its first item (or `_END`)."""
    generator = start()
    return generator, await anext(generator, _END)
