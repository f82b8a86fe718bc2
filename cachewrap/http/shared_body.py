"""Open responses that several calls of one request read: one connection, each at its own pace."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Final, TypeAlias

from cachewrap.cache import Cache
from cachewrap.call.flight import Flight, Landing
from cachewrap.entry import Entry, HttpAnswer
from cachewrap.http.answers import value_of
from cachewrap.http.encodings import BLANK, Coder, codings, encoded
from cachewrap.http.events import BROKEN_OFF
from cachewrap.http.exchange import Answered
from cachewrap.http.response import Library, Replay
from cachewrap.streams.recording import Proxy, Recording
from cachewrap.streams.shared import Alone, Late, Name, SharedStream, StreamReader
from cachewrap.streams.shared_async import AsyncSharedStream, Task, begin, finish

Judge: TypeAlias = Callable[[Recording[bytes]], Answered]
Keep: TypeAlias = Callable[[Answered], Any]
GoAlone: TypeAlias = Callable[["BodyReader"], Any]
"""Asks upstream anew for one who joined: an `OwnBody`, or an awaitable of it."""


_REFUSED: Final = "the stream that another caller began broke, and asked anew upstream refused"
_CUT_OFF: Final = "the stream was cut off by another of its readers"


class Body:
    """The upstream end: the stream of the response that the first caller was given.

    Attributes:
        head: status and headers of the response, once it has arrived.
        entry: what is stored of it, once it is.
        abandoned: whether the last reader was finalised in place of closing his response: that may
            happen under any lock, so nothing is stored then.
    """

    spoiled = False

    def __init__(self) -> None:
        self.head: HttpAnswer | None = None
        self.entry: Entry | None = None
        self.abandoned = False
        self._recording: Recording[bytes] = Recording(time.perf_counter())
        self._stream: Any = None
        self._chunks: Any = None
        self._judge: Judge | None = None
        self._keep: Keep | None = None
        self._fails: Callable[[Recording[bytes]], bool] | None = None
        self._broken_off = False

    @property
    def exhausted(self) -> bool:
        """Whether the stream came to its own end."""
        return self._recording.ended

    def arrive(
        self,
        head: HttpAnswer,
        stream: Any,
        recording: Recording[bytes],
        judge: Judge,
        keep: Keep,
        fails: Callable[[Recording[bytes]], bool],
    ) -> None:
        """The response has come.

        Args:
            head: its status and headers.
            stream: its own stream.
            recording: where its chunks go.
            judge: says what is to be stored of a recording.
            keep: stores that; what it gives is a `Reply`, or an awaitable of one for an async
                stream.
            fails: whether a recording tells of an error.
        """
        self._recording = recording
        self._stream = stream
        self._judge, self._keep, self._fails = judge, keep, fails
        self.head = head

    def fails(self) -> bool:
        """Whether what has passed tells of an error, so that a new caller does better to ask anew.

        A reader that raised such an error may not have closed its response.
        """
        return self._fails is not None and self._fails(self._recording.passed())

    def is_broken(self) -> bool:
        """See `Source`."""
        return self.entry is None and (self._broken_off or self.fails())

    def _take(self, *, whole: bool) -> Callable[[], Any] | None:
        """What stores the recording; None if that is done, or if it is not whole but must be."""
        if self._judge is None or self._keep is None:
            return None
        passed = self._recording.passed()
        answered = self._judge(passed)
        self._broken_off = answered.reason in BROKEN_OFF or not passed.items
        if whole and answered.answer is None:
            return None
        keep, self._keep = self._keep, None
        return partial(keep, answered)


class SyncBody(Body):
    """`Body` of a sync response."""

    def __init__(self) -> None:
        super().__init__()
        self.land_in_child()

    def land_in_child(self) -> None:
        """In a forked child the thread that stores, and would release the lock, does not exist."""
        # An abandoned reader is finalised wherever the collector runs, perhaps in what stores.
        self._storing = threading.RLock()

    def pull(self) -> bytes:
        if self._chunks is None:
            self._chunks = iter(self._stream)
        try:
            chunk: bytes = next(self._chunks)
        except StopIteration:
            self._recording.ended = True
            self.close()
            raise
        self._recording.add(chunk)
        return chunk

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            if not self.abandoned:
                self.store(whole=False)

    def store(self, *, whole: bool) -> None:
        """Store what has passed; with ``whole`` only if nothing of it is missing.

        Whoever comes while it is being stored waits until that is done.
        """
        with self._storing:
            if keep := self._take(whole=whole):
                self.entry = keep().entry


class AsyncBody(Body):
    """`Body` of an async response."""

    def __init__(self) -> None:
        super().__init__()
        self._storing: Task | None = None

    async def pull(self) -> bytes:
        if self._chunks is None:
            self._chunks = aiter(self._stream)
        try:
            chunk: bytes = await anext(self._chunks)
        except StopAsyncIteration:
            self._recording.ended = True
            await self.close()
            raise
        self._recording.add(chunk)
        return chunk

    async def close(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()
            if not self.abandoned:
                await self.store(whole=False)

    async def store(self, *, whole: bool) -> None:
        """See `SyncBody.store`. Whoever is cancelled meanwhile does not cut it short."""
        if keep := self._take(whole=whole):
            self._storing = begin(partial(self._store, keep))
        if self._storing is not None:
            await finish(self._storing, mine=keep is not None)

    async def _store(self, keep: Callable[[], Any]) -> None:
        self.entry = (await keep()).entry


def share(name: Name) -> SharedStream[bytes]:
    """A response that threads share. Who joins before it has come waits for the ``flight``."""
    return SharedStream(name, SyncBody())


def ashare(name: Name) -> AsyncSharedStream[bytes]:
    """A response that the tasks of one event loop of asyncio, or of one run of trio, share."""
    return AsyncSharedStream(name, AsyncBody())


class BodyReader(StreamReader):
    """One call's place in a shared body, for either colour: a `Reader`.

    Args:
        cache: the cache that serves the call.
        stream: what `share` or `ashare` made.
        leads: whether the call is its first.
        seconds: how long one that is not waits at most for anything new.
        go_alone: asks upstream for the body of one that was given nothing yet.

    Attributes:
        source: the body.
        library: whose errors the call raises.
    """

    def __init__(
        self, cache: Cache, stream: Any, leads: bool, seconds: float, go_alone: GoAlone
    ) -> None:
        super().__init__(cache, stream, leads, seconds)
        self.library: Library | None = None
        self._leaving: Task | None = None
        self._go_alone = go_alone
        self._own: Any = None
        self._new = not leads
        self._look: Coder | None = None
        self._seen = b""

    @property
    def flight(self) -> Flight:
        """See `Reader`."""
        flight: Flight = self._stream.flight
        return flight

    def land(self, landing: Landing) -> None:
        """See `Reader`."""
        if self.source.head is None:
            self._stream.withdraw()
            self.flight.land(landing)
            self.drop()

    def begin(self) -> bool:
        """See `Reader`."""
        if self.source.fails():
            self._stream.withdraw()
            return False
        self._joined = True
        return True

    def __iter__(self) -> Iterator[bytes]:
        stream, leads, seconds = self._stream, self._leads, self._seconds
        try:
            while stream.has(self._passed, leads=leads, new=self._new, seconds=seconds):
                self._passed += 1
                if self._new:
                    for chunk in self._begun():
                        yield chunk
                else:
                    yield stream.items[self._passed - 1]
            for chunk in stream.items if self._new else ():
                yield chunk
            return
        except (Alone, Late) as given_up:
            alone = self._leaves_for_upstream(given_up)
            self.close()
            if not alone:
                raise self._error(given_up) from None
        except BaseException:
            self.close()
            raise
        self._own = own = self._go_alone(self)
        yield from own

    async def __aiter__(self) -> AsyncIterator[bytes]:
        stream, leads, seconds = self._stream, self._leads, self._seconds
        try:
            while await stream.has(self._passed, leads=leads, new=self._new, seconds=seconds):
                self._passed += 1
                if self._new:
                    for chunk in self._begun():
                        yield chunk
                else:
                    yield stream.items[self._passed - 1]
            for chunk in stream.items if self._new else ():
                yield chunk
            return
        except (Alone, Late) as given_up:
            alone = self._leaves_for_upstream(given_up)
            await self.aclose()
            if not alone:
                raise self._error(given_up) from None
        except BaseException:
            await self.aclose()
            raise
        self._own = own = await self._go_alone(self)
        async for chunk in own:
            yield chunk

    def _begun(self) -> list[bytes]:
        """What there is, for one who joined; of events nothing before the first is whole.

        Until then he may go upstream by himself, as his caller was given nothing.
        """
        head = self.source.head
        items: list[bytes] = self._stream.items[: self._passed]
        if (value_of(head.headers, "content-type") or "").startswith("text/event-stream"):
            if self._look is None:
                encoding = value_of(head.headers, "content-encoding")
                self._look = Coder(bytes) if self.library is None else self.library.coder(encoding)
            self._seen += self._look.feed(items[-1])
            if not any(blank in self._seen for blank in BLANK):
                return []
        self._new = False
        self._seen = b""
        return items

    def _leaves_for_upstream(self, given_up: Exception) -> bool:
        """Whether it was given nothing, and asks by itself; then it has joined nobody."""
        if not self._new or isinstance(given_up, Late):
            return False
        self._joined = False
        return True

    def _error(self, given_up: Exception) -> Exception:
        library = self.library
        if library is None:
            return OSError(_CUT_OFF)
        if isinstance(given_up, Late):
            return (library.read_timeout or library.read_error)(str(given_up))
        return library.read_error(_CUT_OFF)

    def close(self) -> None:
        """Leave; the last reader closes the response. Who has read it all finds it stored then."""
        if self._left:
            if self._own is not None:
                self._own.close()
            return
        self._left = True
        try:
            if self._has_all():
                self._stream.source.store(whole=True)
        finally:
            self._stream.leave()
            self._count()

    async def aclose(self) -> None:
        """`close` for async callers.

        Cancelling the caller does not cut it short, and who closes again waits for it again: an SDK
        may give up waiting for the end of a stream of which it has all, and then close it.
        """
        if self.source.head is None:
            self.drop()
            return
        first, self._left = not self._left, True
        if self._own is not None:
            await self._own.aclose()
            return
        if isinstance(sys.exception(), GeneratorExit):
            if first:  # where the loop may not run any more
                await self._leave(self._has_all())
            return
        if first:
            self._leaving = begin(partial(self._leave, self._has_all()))
        if self._leaving is not None:
            await finish(self._leaving, mine=first)

    async def _leave(self, has_all: bool) -> None:
        try:
            if has_all:
                await self._stream.source.store(whole=True)
        finally:
            await self._stream.leave()
            self._count()

    def settle(self) -> Any:
        """Have what has passed stored, if it is whole; of an async stream an awaitable."""
        return self._stream.source.store(whole=True)

    def _has_all(self) -> bool:
        """Whether the reader has read all that came, and was not abandoned then."""
        source = self.source
        source.abandoned = isinstance(sys.exception(), GeneratorExit)
        return not source.abandoned and self._passed == len(self._stream.items)


class OwnBody:
    """A body that a call asked for by itself, in place of one that it had joined in vain.

    Args:
        reader: of the response that the caller has.
        stream: the new body; one that was read is there in chunks, decoded.
        encoding: the content encoding of the stream; None for chunks.
        held: what is not to be finalised while the body is read.

    Raises the error of the caller's library where he could not read it in that response.
    """

    def __init__(
        self, reader: BodyReader, stream: Any, encoding: str | None = None, held: object = None
    ) -> None:
        head, library = reader.source.head, reader.library
        assert head is not None
        assert library is not None
        wanted = value_of(head.headers, "content-encoding")
        self._held = held
        self._stream: Any = stream
        if stream is None:
            raise library.read_error(_REFUSED)
        if isinstance(stream, list):
            chunks = stream if library.is_decoded else encoded(wanted, stream)
            self._stream = Replay(chunks)
        elif codings(wanted) != codings(encoding):
            raise library.read_error(_REFUSED)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._stream
        self.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk
        await self.aclose()

    def close(self) -> None:
        """Close it; what came whole is stored."""
        self._stream.close()

    async def aclose(self) -> None:
        """`close` for async callers."""
        if isinstance(self._stream, Replay):
            self._stream.close()
        else:
            await self._stream.aclose()


class TeedStream(Proxy):
    """The first caller's stream, in whose place a reader of the shared body reads and closes."""

    def __init__(self, stream: Any, reader: BodyReader) -> None:
        super().__init__(stream)
        self._self_reader = reader

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._self_reader)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._self_reader)

    def settle(self) -> Any:
        """See `BodyReader.settle`."""
        return self._self_reader.settle()

    def close(self) -> None:
        """Leave the stream."""
        self._self_reader.close()

    def aclose(self) -> Awaitable[None]:
        """`close` for async callers."""
        return self._self_reader.aclose()
