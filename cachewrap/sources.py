"""Sources of shared generators: the real generator begins, is recorded, and is kept at its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from typing import Any, Final, TypeAlias

from cachewrap.entry import Entry, Items
from cachewrap.recording import Packed, Recording, Server, pack
from cachewrap.retry import Retry, with_async_retry, with_retry
from cachewrap.terms import Absent, Exchange

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
        self, server: Server, exchange: Exchange[Items], start: Start, retry: Retry | None
    ) -> None:
        self._recording: Recording | None = None
        self._steps = self._run(server, exchange, start, retry)
        self.generator: Generator[Any, Any, Any] | None = None
        self.returned: Packed = pack(None)
        self.entry: Entry | None = None

    @property
    def spoiled(self) -> bool:
        return self._recording is not None and self._recording.spoiled

    def _run(
        self, server: Server, exchange: Exchange[Items], start: Start, retry: Retry | None
    ) -> Generator[Packed, None, None]:
        found = server.look(exchange)
        if not isinstance(found, Absent):
            yield from found.value.values
            self.returned, self.entry = found.value.returned, found.entry
            return
        self._recording = recording = Recording(server, exchange, found)
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
        self, server: Server, exchange: Exchange[Items], start: AsyncStart, retry: Retry | None
    ) -> None:
        self._recording: Recording | None = None
        self._steps = self._run(server, exchange, start, retry)
        self.generator: AsyncGenerator[Any, Any] | None = None
        self.exhausted = False
        self.entry: Entry | None = None

    @property
    def spoiled(self) -> bool:
        return self._recording is not None and self._recording.spoiled

    async def _run(
        self, server: Server, exchange: Exchange[Items], start: AsyncStart, retry: Retry | None
    ) -> AsyncGenerator[Packed, None]:
        found = await server.alook(exchange)
        if not isinstance(found, Absent):
            for packed in found.value.values:
                yield packed
            self.entry = found.entry
            return
        self._recording = recording = Recording(server, exchange, found)
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
