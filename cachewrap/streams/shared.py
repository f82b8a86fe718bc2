"""Shared streams: upstream streams under way, each read by every caller of its request at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from math import inf
from types import TracebackType
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar
from weakref import WeakSet, WeakValueDictionary

from cachewrap import systems
from cachewrap.call import flight as flights
from cachewrap.call.flight import Flight, leading
from cachewrap.call.terms import Exchange
from cachewrap.entry import By, Entry
from cachewrap.loops import running
from cachewrap.streams.recording import StreamCache

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
S = TypeVar("S", bound="Stream[Any]")

Name: TypeAlias = tuple[str, str, object]
"""Partition and key of a request, and what runs the tasks of async callers, see `running`."""

_SLICE: Final = 1.0
"""Seconds after which one who waits for another thread looks by himself what has come."""

_IDLE: Final = 5.0
"""Seconds that a thread without work is kept for the next reader."""


class Alone(Exception):
    """The reader cannot go on with the shared stream: it goes upstream by itself."""


class Late(Exception):
    """The reader, who was given something before, has waited for as long as he may."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"nothing came for {seconds:g} seconds of a stream that another caller began "
            "(wait_seconds= of the cache, or a timeout of your own)"
        )


def patience(exchange: Exchange[Any]) -> float:
    """How many seconds the caller of an exchange waits at most for anything new of a stream."""
    own, most = exchange.patience(), exchange.policy.wait_seconds
    return most if own is None else min(own, most)


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

    def is_broken(self) -> bool:
        """Whether what came, though it ended without an error, is no answer to another caller."""
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

    def goes_on(self) -> bool:
        """Whether upstream may have more of it."""
        return self._outcome is None

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

    def _is_there(self, index: int, new: bool) -> bool | None:
        """Whether an item is there; None if it must be pulled. Raises what upstream raised.

        To who joined and has had nothing yet, a stream that broke gives nothing either.
        """
        outcome = self._outcome
        if index < len(self.items) and (not new or outcome is None or outcome is StopIteration):
            if new and outcome is not None and self.source.is_broken():
                raise Alone
            return True
        if outcome is None:
            if self.flight in leading.get():
                raise Alone
            return None
        if outcome is StopIteration and not (new and self.source.is_broken()):
            return False
        # Before the first item an error is that of the first caller alone, as with other calls.
        if new or not isinstance(outcome, BaseException):
            raise Alone
        raise outcome.with_traceback(self._trace)

    def _give_up(self, new: bool, seconds: float) -> Exception:
        """What a reader raises who has waited for too long. Nobody comes to wait here after him."""
        self.withdraw()
        return Alone() if new else Late(seconds)

    @contextmanager
    def _waited_for(self) -> Iterator[None]:
        """While a caller waits, what he is made inside of waits for this stream.

        Raises `Alone` where the stream waits for that: it would never come.
        """
        inside = leading.get()
        if not self.flight._announce(inside):
            raise Alone
        try:
            yield
        finally:
            if inside:
                with flights._lock:
                    for flight in inside:
                        flight.waits_for.remove(self.flight)

    def drop(self) -> bool:
        """One reader less, of whom nothing is closed; whether it was the last."""
        with _lock:
            self._readers -= 1
            if self._readers:
                return False
            self.withdraw()
            return True


class SharedStream(Stream[T]):
    """A stream that threads share. Whoever needs the next item has it pulled; others wait for it.

    The first reader pulls by himself: how long that may take is for his own client to say. For
    those who joined a thread of ours pulls, so that they can give up.
    """

    def __init__(self, name: Name, source: Source[T]) -> None:
        super().__init__(name)
        self.source = source
        self._pulling = threading.Lock()
        self._waiting: list[threading.Event] = []
        self._puller = 0
        self._hired = 0
        self._forsaken = False

    def has(self, index: int, *, leads: bool, new: bool, seconds: float = inf) -> bool:
        """Whether the stream has an item, which is pulled if need be; False at its end.

        Args:
            index: of the item; every earlier one is there.
            leads: whether the caller is the first.
            new: whether he is not, and was given nothing yet.
            seconds: how long one who is not waits at most.

        Raises what upstream raised, `Alone` where the caller is to go upstream by himself, and
        `Late` for one who was given something before, and then waited for too long.
        """
        while (there := self._is_there(index, new)) is None:
            if leads and not self._pulling.locked():
                self._pull_at(index)
            else:
                self._wait(index, new, inf if leads else seconds)
        return there

    def _pull_at(self, index: int) -> None:
        try:
            with self._pulling:
                if index < len(self.items) or self._outcome is not None:
                    return
                self._puller = threading.get_ident()
                try:
                    self.items.append(self._context.run(self.source.pull))
                except StopIteration:
                    self._settle(StopIteration)
                except Exception as error:
                    self._settle(error)
                except BaseException:
                    # Meant for this thread, such as KeyboardInterrupt; but the source is gone for
                    # all.
                    self._settle(Alone)
                    raise
        finally:
            waiting, self._waiting = self._waiting, []
            for came in waiting:
                came.set()

    def _wait(self, index: int, new: bool, seconds: float) -> None:
        """Wait until something has come, by the hand of whoever pulls."""
        if self._pulling.locked() and self._puller == threading.get_ident():
            raise Alone  # another greenlet of this thread, which stands still while this one does
        with self._waited_for():
            errand = None if self._pulling.locked() else self._hire(index)
            left = seconds
            while not self._is_over(index):
                came = threading.Event()
                self._waiting.append(came)
                # Whoever pulled may have been done before he could see it.
                if self._is_over(index) or not (self._hired or self._pulling.locked()):
                    break
                if left <= 0:
                    raise self._give_up(new, seconds)
                came.wait(min(left, _SLICE))
                left -= 0 if came.is_set() else _SLICE
        if errand is not None and errand.error is not None:
            raise errand.error

    def _is_over(self, index: int) -> bool:
        return index < len(self.items) or self._outcome is not None

    def _hire(self, index: int) -> _Errand:
        errand = _Errand(self, index)
        with _lock:
            self._hired += 1
        hands.do(errand)
        return errand

    def read_on(self, has_enough: Callable[[], bool]) -> T | None:
        """The next item, for somebody who has left; None at the end, or where there is enough."""
        if self._context.copy().run(has_enough):
            return None
        self._pull_at(len(self.items))
        return self.items[-1] if self.goes_on() else None

    def dismiss(self) -> None:
        """A thread of ours has pulled. If nobody reads any more, it closes the source."""
        with _lock:
            self._hired -= 1
            if self._hired or not self._forsaken:
                return
        with suppress(Exception):
            self._context.run(self.source.close)

    def leave(self) -> None:
        """One reader less; the last one closes the source, if no thread of ours is at it."""
        if not self.drop():
            return
        with _lock:
            self._forsaken = True
            if self._hired:
                return
        self._context.run(self.source.close)

    def _land_in_child(self) -> None:
        if self._pulling.locked():
            self._outcome = Alone
        self._pulling = threading.Lock()
        self._waiting = []
        self._hired = 0
        self.source.land_in_child()


class _Errand:
    """One pull for a reader who waits for it in another thread.

    Attributes:
        error: what was raised that is meant for whoever pulls.
    """

    def __init__(self, stream: SharedStream[Any], index: int) -> None:
        self._stream = stream
        self._index = index
        self.error: BaseException | None = None

    def __call__(self) -> None:
        try:
            self._stream._pull_at(self._index)
        except BaseException as error:
            self.error = error
        finally:
            self._stream.dismiss()


class _Hands:
    """Threads that pull for readers who do not wait for ever."""

    def __init__(self) -> None:
        self._idle: list[queue.SimpleQueue[Callable[[], None]]] = []

    def do(self, work: Callable[[], None]) -> None:
        """Have it done; where no thread can be had, it is done here."""
        if not self.offer(work):
            work()

    def offer(self, work: Callable[[], None]) -> bool:
        """Have it done; False where no thread can be had. A finaliser may ask for it as well."""
        try:
            errands = self._idle.pop()
        except IndexError:
            errands = queue.SimpleQueue()  # of the kind that there is now, in greenlets too
            thread = threading.Thread(
                target=self._work, args=(errands,), name="cachewrap-stream", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                return False
        errands.put(work)
        return True

    def _work(self, errands: queue.SimpleQueue[Callable[[], None]]) -> None:
        while True:
            try:
                work = errands.get(timeout=_IDLE)
            except queue.Empty:
                try:
                    self._idle.remove(errands)
                except ValueError:  # somebody has just taken it
                    continue
                return
            work()
            del work
            self._idle.append(errands)

    def land_in_child(self) -> None:
        """In a forked child there are none of them."""
        self._idle = []


class StreamReader:
    """One caller of a shared stream, for either colour.

    Args:
        cache: the cache that serves the call.
        stream: a `SharedStream` or an `AsyncSharedStream`; None for a caller who goes alone.
        leads: whether he is its first reader.
        seconds: how long one who is not waits at most for anything new.

    Attributes:
        source: the upstream end of what it reads.
        begun: what watches the caller's call from its beginning, if anything does.
        by: the rules of equality that changed its request.
    """

    begun: Any = None
    by: By = ()

    def __init__(
        self, cache: StreamCache, stream: Any, leads: bool = True, seconds: float = inf
    ) -> None:
        self.source: Any = None if stream is None else stream.source
        self._cache = cache
        self._stream: Any = stream
        self._leads = leads
        self._seconds = seconds
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
            self._cache.count_joined(self.source.entry, self.begun, self.by)


# An abandoned reader is finalised wherever the collector runs, perhaps under this very lock.
_lock = threading.RLock()
_under_way: WeakValueDictionary[Name, Stream[Any]] = WeakValueDictionary()
_live: WeakSet[Stream[Any]] = WeakSet()
hands: Final = _Hands()
"""Threads of the package's own that read streams."""


def join(
    place: str, key: str, start: Callable[[Name], S], *, is_async: bool
) -> tuple[S, bool] | None:
    """The stream of a request, and whether the caller is its first reader; None for one on his own.

    That is a caller inside the stream; a sync one on an event loop's thread, who must not wait for
    a thread that may be waiting for that loop; and an async one of neither asyncio nor trio.

    Args:
        place: the partition, as its store's URL.
        key: the key of the request.
        start: makes the stream if there is none. What is made for one place and key is of one type.
        is_async: whether the caller is, who shares with those of his event loop.
    """
    loop = running()
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
    hands.land_in_child()
    for stream in list(_live):
        stream._land_in_child()
