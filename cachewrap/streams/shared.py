"""Shared streams: upstream streams under way, each read by every caller of its request at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import copy_context
from types import TracebackType
from typing import Any, Generic, Protocol, TypeAlias, TypeVar
from weakref import WeakSet, WeakValueDictionary

from cachewrap import systems
from cachewrap.call.flight import Flight, leading
from cachewrap.entry import Entry
from cachewrap.loops import running_loop
from cachewrap.streams.recording import StreamCache

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
S = TypeVar("S", bound="Stream[Any]")

Name: TypeAlias = tuple[str, str, asyncio.AbstractEventLoop | None]
"""Partition and key of a request, and the event loop of async callers."""


class Alone(Exception):
    """The reader cannot go on with the shared stream: it goes upstream by itself."""


class Source(Protocol[T_co]):
    """The upstream end of a sync stream."""

    @property
    def spoiled(self) -> bool:
        """Whether nobody may join any more, as it will not be kept."""
        ...

    @property
    def entry(self) -> Entry | None:
        """What is stored of it, once it is."""
        ...

    def pull(self) -> T_co:
        """The next item; raises `StopIteration` when everything has passed and is kept."""
        ...

    def close(self) -> None:
        """Nobody reads any more."""

    def land_in_child(self) -> None:
        """The process was forked, and this is the child: other threads do not exist here."""


class Stream(Generic[T]):
    """One upstream stream: what has come of it, and how many callers read it.

    Items are only ever added. The source runs in one context, a copy of the first caller's,
    whoever needs the next item: what it sets there it finds there again.

    Attributes:
        items: what has come so far, for every reader.
        flight: the call that the stream is, for those made inside it; it does not lead back here,
            so no cycle keeps what is abandoned until a collection.
    """

    source: Any

    def __init__(self, name: Name) -> None:
        self.items: list[T] = []
        self.flight = Flight(name[:2])
        self._name = name
        self._readers = 1
        self._outcome: type[Exception] | BaseException | None = None
        self._trace: TracebackType | None = None
        self._context = copy_context()
        self._context.run(leading.set, (*leading.get(), self.flight))
        _live.add(self)

    @property
    def readers(self) -> int:
        """How many callers read the stream."""
        return self._readers

    def claim(self, passed: int) -> bool:
        """Make the stream its only reader's own, if the caller is that and has read all there is.

        Args:
            passed: how many items the caller has read.
        """
        with _lock:
            if self._readers > 1 or self._outcome is not None or passed < len(self.items):
                return False
            self.withdraw()
            return True

    def withdraw(self) -> None:
        """From now on nobody joins."""
        with _lock:
            if _under_way.get(self._name) is self:
                del _under_way[self._name]

    def _land_in_child(self) -> None:
        raise NotImplementedError

    def _settle(self, outcome: type[Exception] | BaseException) -> None:
        with _lock:
            if self._outcome is None:
                self._outcome = outcome
                if isinstance(outcome, BaseException):
                    self._trace = outcome.__traceback__
            self.withdraw()

    def _is_there(self, index: int, leads: bool) -> bool | None:
        """Whether an item is there; None if it must be pulled. Raises what upstream raised."""
        if index < len(self.items):
            return True
        outcome = self._outcome
        if outcome is None:
            if self.flight in leading.get():
                raise Alone
            return None
        if outcome is StopIteration:
            return False
        # Before the first item an error is that of the first caller alone, as with other calls.
        if not isinstance(outcome, BaseException) or not (index or leads):
            raise Alone
        raise outcome.with_traceback(self._trace)

    def drop(self) -> bool:
        """One reader less, of whom nothing is closed; whether it was the last."""
        with _lock:
            self._readers -= 1
            if self._readers:
                return False
            self.withdraw()
            return True


class SharedStream(Stream[T]):
    """A stream that threads share. Whoever needs the next item pulls it; the others wait for it."""

    def __init__(self, name: Name, source: Source[T]) -> None:
        super().__init__(name)
        self.source = source
        self._pulling = threading.Lock()

    def has(self, index: int, *, leads: bool) -> bool:
        """Whether the stream has an item, which is pulled if need be; False at its end.

        Args:
            index: of the item; every earlier one is there.
            leads: whether the caller is the first.

        Raises what upstream raised, and `Alone` where the caller is to go upstream by itself.
        """
        while (there := self._is_there(index, leads)) is None:
            with self._pulling:
                if index == len(self.items) and self._outcome is None:
                    self._pull()
        return there

    def _pull(self) -> None:
        try:
            self.items.append(self._context.run(self.source.pull))
        except StopIteration:
            self._settle(StopIteration)
        except Exception as error:
            self._settle(error)
        except BaseException:
            # Meant for this thread, such as KeyboardInterrupt; but the source is gone for all.
            self._settle(Alone)
            raise

    def leave(self) -> None:
        """One reader less; the last one closes the source."""
        if self.drop():
            self._context.run(self.source.close)

    def _land_in_child(self) -> None:
        if self._pulling.locked():
            self._outcome = Alone
        self._pulling = threading.Lock()
        self.source.land_in_child()


class StreamReader:
    """One caller of a shared stream, for either colour.

    Args:
        cache: the cache that serves the call.
        stream: a `SharedStream` or an `AsyncSharedStream`; None for a caller who goes alone.

    Attributes:
        source: the upstream end of what it reads.
    """

    def __init__(self, cache: StreamCache, stream: Any) -> None:
        self.source: Any = None if stream is None else stream.source
        self._cache = cache
        self._stream: Any = stream
        self._joined = False
        self._passed = 0
        self._left = False

    def drop(self) -> None:
        """Leave without closing anything, where nothing can be waited for any more."""
        if not self._left:
            self._left = True
            self._stream.drop()

    def _count(self) -> None:
        if self._joined:
            self._cache.count_joined(self.source.entry)


# An abandoned reader is finalised wherever the collector runs, perhaps under this very lock.
_lock = threading.RLock()
_under_way: WeakValueDictionary[Name, Stream[Any]] = WeakValueDictionary()
_live: WeakSet[Stream[Any]] = WeakSet()


def join(
    place: str, key: str, start: Callable[[Name], S], *, is_async: bool
) -> tuple[S, bool] | None:
    """The stream of a request, and whether the caller is its first reader; None for one on his own.

    That is a caller inside the stream; a sync one on an event loop's thread, who must not wait for
    a thread that may be waiting for that loop; and an async one without a loop of asyncio.

    Args:
        place: the partition, as its store's URL.
        key: the key of the request.
        start: makes the stream if there is none. What is made for one place and key is of one type.
        is_async: whether the caller is, who shares with those of his event loop.
    """
    loop = running_loop()
    if (loop is not None) is not is_async:
        return None
    name = (place, key, loop)
    with _lock:
        stream = _under_way.get(name)
        if stream is None or stream.source.spoiled:
            stream = _under_way[name] = start(name)
            return stream, True
        if stream.flight.is_led_here():
            return None
        stream._readers += 1
        return stream, False  # type: ignore[return-value]


@systems.in_forked_child
def _land_in_child() -> None:
    """In a forked child other threads do not exist: what they were pulling never comes."""
    global _lock
    _lock = threading.RLock()
    _under_way.clear()
    for stream in list(_live):
        stream._land_in_child()
