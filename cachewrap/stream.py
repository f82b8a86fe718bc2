"""Generators: items are recorded as they pass, kept when exhausted, and replayed one by one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import closing, suppress
from functools import partial
from typing import Any, TypeAlias

from cachewrap import codec
from cachewrap.entry import Items
from cachewrap.recording import Recording, Server
from cachewrap.retry import Retry, with_async_retry, with_retry
from cachewrap.shared import Alone
from cachewrap.sharing import AsyncReader, Reader, aread, read
from cachewrap.sources import END, abegin, begin
from cachewrap.terms import Absent, Exchange

_Step: TypeAlias = Callable[[], Awaitable[Any]]


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
        if reader := read(server, exchange, start, retry):
            with suppress(Alone), closing(reader):
                return (yield from _pass_on(reader, reader.__next__, None))
        return (yield from _record(start, retry, Recording(server, exchange, found)))
    for passed, encoded in enumerate(found.value.values, start=1):
        sent = yield codec.decode(*encoded)
        if sent is not None:
            return (yield from _take_over(start(), passed, sent))
    return codec.decode(*found.value.returned)


def _record(
    start: Callable[[], Generator[Any, Any, Any]], retry: Retry | None, recording: Recording
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
    generator: Generator[Any, Any, Any] | Reader,
    step: Callable[[], Any],
    recording: Recording | None,
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
    generator: AsyncGenerator[Any, Any] | AsyncReader
    step: _Step
    found = await server.alook(exchange)
    if not isinstance(found, Absent):
        for passed, encoded in enumerate(found.value.values, start=1):
            sent = yield codec.decode(*encoded)
            if sent is not None:
                generator, step = await _catch_up(start(), passed, sent)
                break
        else:
            return
    elif reader := await _join(aread(server, exchange, start, retry)):
        generator, step = reader
    else:
        recording = Recording(server, exchange, found)
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


async def _join(reader: AsyncReader | None) -> tuple[AsyncReader, _Step] | None:
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
