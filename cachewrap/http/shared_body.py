"""Open responses that several calls of one request read: one connection, each at its own pace."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from math import inf
from typing import Any, Final, TypeAlias
from weakref import ref

from cachewrap.cache import Cache
from cachewrap.call.flight import Flight, Landing
from cachewrap.http.answers import value_of
from cachewrap.http.body import (
    BYTES,
    SECONDS,
    AsyncBody,
    Rest,
    SyncBody,
    is_interrupted,
)
from cachewrap.http.encodings import BLANK, Coder, codings, encoded
from cachewrap.http.response import Library, Replay
from cachewrap.loops import is_ending, running, running_trio
from cachewrap.streams.recording import Proxy
from cachewrap.streams.shared import Alone, Late, Name, SharedStream, StreamReader
from cachewrap.streams.shared_async import AsyncSharedStream, Task, begin, finish
from cachewrap.systems import clock

GoAlone: TypeAlias = Callable[["BodyReader"], Any]
"""Asks upstream anew for one who joined: an `OwnBody`, or an awaitable of it."""


_REFUSED: Final = "the stream that another caller began broke, and asked anew upstream refused"
_CUT_OFF: Final = "the stream was cut off by another of its readers"


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
        self._rest: Rest | None = None
        # The collector clears what has a callback before it calls any finaliser.
        self._is_sound = ref(self.source, bool)
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
            if self._new and (rest := self.source.rest) is not None:
                rest.is_over()
                self._check_rest()
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
            if self._new and (rest := self.source.rest) is not None:
                await rest.wait()
                self._check_rest()
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

    def _check_rest(self) -> None:
        if self._stream.goes_on() and self.source.entry is None:
            raise Alone

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
            elif self._rest is not None:
                self._rest.finish()
            return
        self._left = True
        try:
            if self._has_all():
                self.source.store(whole=True)
            if self._rests():
                self._rest = self.source.rest = Rest(self._read_on, self._go, self._give_up)
        finally:
            if self._rest is None or not self._rest.begin():
                self._rest = None
                self._go()
        if self._rest is not None:
            self._rest.finish()

    def _go(self) -> None:
        try:
            self._stream.leave()
        finally:
            self._count()

    def _rests(self) -> bool:
        """Whether the reader is the last one, and leaves at the reason to stop.

        If the collector has found them all, it has closed what the stream is read from, or will.
        """
        if self._is_sound() is None or self._stream.readers > 1 or not self._stream.goes_on():
            return False
        return bool(self.source.rests())

    def _read_on(self) -> int | None:
        piece = self._stream.read_on(self._is_stored)
        return None if piece is None else len(piece)

    def _is_stored(self) -> bool:
        source = self.source
        source.abandoned = False  # what reads on is no finaliser
        source.store(whole=True)
        return bool(source.is_kept)

    def _give_up(self) -> None:
        self._stream.withdraw()
        self.source.give_up()

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
        aside = is_interrupted() and self._stream.is_here() and self._rests()
        if isinstance(sys.exception(), GeneratorExit) and (not aside or is_ending()):
            if first:  # where the loop may not run any more
                await self._leave(self._has_all())
            return
        if first:
            self._leaving = begin(partial(self._leave, self._has_all()), ended=bool)
        if self._leaving is not None and not aside:
            await finish(self._leaving, mine=first)

    async def _leave(self, has_all: bool) -> None:
        try:
            if has_all:
                await self.source.store(whole=True)
            if self._stream.is_here() and not is_ending() and self._rests():
                await self._aread_on()
        finally:
            await self._stream.leave()
            self._count()

    async def _aread_on(self) -> None:
        source, stream = self.source, self._stream
        source.abandoned = False
        source.rest = rest = (running_trio() or asyncio).Event()
        index, read, end = len(stream.items), 0, clock.now() + SECONDS
        try:
            while read < BYTES and (left := end - clock.now()) > 0:
                await source.store(whole=True)
                if source.is_kept:
                    return
                try:
                    if not await stream.has(index, leads=False, new=False, seconds=left):
                        return
                except Exception:  # he who would be told has left
                    return
                read += len(stream.items[index])
                index += 1
        finally:
            rest.set()

    def settle(self) -> Any:
        """Have what has passed stored, if it is whole; of an async stream an awaitable."""
        return self._stream.source.store(whole=True)

    def _has_all(self) -> bool:
        """Whether the reader has read all that came, and was not abandoned then."""
        source = self.source
        source.abandoned = isinstance(sys.exception(), GeneratorExit)
        return not source.abandoned and self._passed == len(self._stream.items)


def only_reader(cache: Cache, key: str, *, is_async: bool) -> BodyReader | None:
    """A reader of a body that nobody else joins; None for an async one of neither asyncio nor trio.

    Args:
        cache: the cache that serves the call.
        key: the key of its request.
        is_async: whether the call is.
    """
    loop = running() if is_async else None
    if is_async and loop is None:
        return None
    stream = (ashare if is_async else share)(("", key, loop))
    return BodyReader(cache, stream, True, inf, _refuse)


def _refuse(reader: BodyReader) -> OwnBody:
    raise RuntimeError("who has joined nobody asks upstream once")


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
