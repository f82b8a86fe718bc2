"""Recordings: what passes of a stream is kept aside, while its callers consume it."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

import wrapt

from cachewrap.call.terms import Absent, Exchange, Reply
from cachewrap.entry import By, Entry, Items, Kind
from cachewrap.errors import CachewrapError, CodecError
from cachewrap.format import codec

if TYPE_CHECKING:
    Proxy = wrapt.ObjectProxy[Any]
else:
    Proxy = wrapt.ObjectProxy

R = TypeVar("R")
T = TypeVar("T")


@dataclass(slots=True)
class Recording(Generic[T]):
    """The recording of what passed of a stream, and how it came to its end.

    Args:
        started: when the call began, by `time.perf_counter`.
        items: what passed.
        delays: seconds from the start of the call to each item.
        ended: whether the stream came to its own end.
    """

    started: float
    items: list[T] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    ended: bool = False

    def add(self, item: T) -> None:
        """Keep one item."""
        self.items.append(item)
        self.delays.append(time.perf_counter() - self.started)

    def passed(self) -> Recording[T]:
        """What has passed, while another thread may be adding to it."""
        count = len(self.delays)
        return Recording(self.started, self.items[:count], self.delays[:count], self.ended)


@dataclass(frozen=True, slots=True)
class Bare:
    """An item that is not copied: every reader gets the very object."""

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
    """The part of a cache that a stream needs."""

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

    def count_joined(self, entry: Entry | None, begun: Any = None, by: By = ()) -> None: ...

    def survive(self, error: CachewrapError, source: str) -> None: ...

    def damaged(self, exchange: Exchange[Any], error: CodecError) -> None: ...

    async def adamaged(self, exchange: Exchange[Any], error: CodecError) -> None: ...


class ItemRecording(Recording[tuple[Kind, bytes]]):
    """A generator's items, encoded as they pass, so that what a caller does to one stays his.

    Attributes:
        spoiled: whether nothing of it will be kept, as no codec takes one of its items.
    """

    __slots__ = ("_absent", "_cache", "_exchange", "spoiled")

    def __init__(self, cache: StreamCache, exchange: Exchange[Items], absent: Absent) -> None:
        super().__init__(time.perf_counter())
        self._cache = cache
        self._exchange = exchange
        self._absent = absent
        self.spoiled = False

    def pack(self, item: object) -> Packed:
        """Record an item; what comes back gives each reader a copy of its own."""
        try:
            encoded = codec.encode(item)
        except CodecError as error:
            self._spoil(error)
            return Bare(item)
        self.items.append(encoded)
        self.delays.append(time.perf_counter() - self.started)
        return encoded

    def _spoil(self, error: CodecError) -> None:
        if not self.spoiled:
            self._cache.survive(error, self._exchange.source)
            self.spoiled = True

    def _finished(self, returned: object) -> tuple[Items, float] | None:
        if self.spoiled:
            return None
        try:
            items = Items(self.items, self.delays, codec.encode(returned))
        except CodecError as error:
            self._spoil(error)
            return None
        return items, time.perf_counter() - self.started

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


Done: TypeAlias = Callable[[Recording[bytes]], Any]


class Recorder(Proxy):
    """A stream in whose place a response reads, closes and asks as if nothing had been changed.

    It knows nothing of its response: a reference would make a cycle, and the collector would then
    close abandoned streams wherever it happens to run, also under the lock of the connection pool.

    Args:
        stream: the response's own stream.
        recording: where the chunks go.
        done: told once, after the stream was closed; of an async stream it returns an awaitable.
    """

    def __init__(
        self,
        stream: Any,
        recording: Recording[bytes],
        done: Done,
    ) -> None:
        super().__init__(stream)
        self._self_recording = recording
        self._self_done: Done | None = done

    def __iter__(self) -> Iterator[bytes]:
        recording = self._self_recording
        for chunk in self.__wrapped__:
            recording.add(chunk)
            yield chunk
        recording.ended = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        recording = self._self_recording
        async for chunk in self.__wrapped__:
            recording.add(chunk)
            yield chunk
        recording.ended = True

    def close(self) -> None:
        """Close the stream, then hand over what was recorded."""
        self.__wrapped__.close()
        if done := self._self_take():
            done(self._self_recording)

    async def aclose(self) -> None:
        """`close` for async readers."""
        await self.__wrapped__.aclose()
        if done := self._self_take():
            await done(self._self_recording)

    def settle(self) -> Any:
        """Hand over what was recorded before the stream is closed: nothing will be missing."""
        done, self._self_done = self._self_done, None
        return done(self._self_recording) if done else None

    def _self_take(self) -> Done | None:
        done, self._self_done = self._self_done, None
        # A generator that is being finalised closes its stream wherever the collector happened to
        # run, which may be under any lock: an abandoned stream is dropped without another step.
        return None if isinstance(sys.exception(), GeneratorExit) else done
