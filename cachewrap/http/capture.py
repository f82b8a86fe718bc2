"""The capture of a call's response under way, after the SDK's retries and authentication."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from math import inf
from typing import Any, Final, TypeAlias

from cachewrap.blocks import active
from cachewrap.cache import Cache
from cachewrap.call.flight import OPENED
from cachewrap.call.terms import Absent, Reply, Seen
from cachewrap.entry import HttpAnswer, Outcome
from cachewrap.http.answers import kept_headers
from cachewrap.http.body import Look, stopped, waker
from cachewrap.http.encodings import FRAMES
from cachewrap.http.events import shows_error
from cachewrap.http.exchange import Answered, SdkExchange, judged
from cachewrap.http.response import decode, is_framed, library_of
from cachewrap.http.shared_body import (
    BodyReader,
    GoAlone,
    OwnBody,
    TeedStream,
    ashare,
    only_reader,
    share,
)
from cachewrap.streams.recording import Recorder, Recording
from cachewrap.streams.shared import join, patience


class Slot:
    """The slot in which the response of one call is put.

    Args:
        cache: the cache that serves the call.
        exchange: the call's exchange.
        absent: for a call whose response stays open, what `Cache.look` gave; else None.
        reader: the call's own place in an open response that other calls read too, if they may.

    Attributes:
        answered: the answer of a response that was read.
        response: a response that stays open, which the call reads alone.
    """

    __slots__ = ("_cache", "_exchange", "_reader", "_started", "absent", "answered", "response")

    def __init__(
        self,
        cache: Cache,
        exchange: SdkExchange,
        absent: Absent | None = None,
        reader: BodyReader | None = None,
    ) -> None:
        self._cache = cache
        self._exchange = exchange
        self._started = time.perf_counter()
        self._reader = reader
        self.absent = absent
        self.answered = Answered(None)
        self.response: Any = None

    @property
    def stream(self) -> bool:
        """Whether the request asks for a stream."""
        return self._exchange.stream

    def take_read(self, response: Any, result: Any) -> None:
        """Take a response that was read, and what the SDK made of it."""
        body = response.content
        answer = HttpAnswer(
            status=response.status_code,
            headers=kept_headers(response),
            chunks=[body] if body else [],
            delays=[],
        )
        framed = is_framed(response)
        self.answered = judged(self._exchange, answer, ended=True, framed=framed, result=result)

    def kept(self) -> Answered | None:
        """What can be kept at once, where a response was expected open but came read.

        Transports that hold the whole body (mocks, for one) answer like that.
        """
        return None if self.answered.answer is None else self.answered

    def take_open(self, response: Any, *, is_async: bool) -> None:
        """Record a response that its reader will consume, and store it when it was whole."""
        started, exchange, absent = self._started, self._exchange, self.absent
        assert absent is not None
        judge = self._judge(response)
        cache_keep = self._cache.akeep if is_async else self._cache.keep

        def keep(answered: Answered) -> Any:
            return cache_keep(exchange, answered, time.perf_counter() - started, absent)

        recording: Recording[bytes] = Recording(started)
        reader = self._reader
        if reader is None:
            self.response = response
            reader = only_reader(self._cache, exchange.key, is_async=is_async)
        if reader is None:
            response.stream = Recorder(response.stream, recording, lambda told: keep(judge(told)))
            return
        head = HttpAnswer(response.status_code, kept_headers(response), [], [])
        looks = self._looks(response)
        reader.source.arrive(head, response.stream, recording, judge, keep, *looks, absent.lease)
        if not is_async:
            reader.source.wake = waker(response)
        reader.library = library_of(response)
        response.stream = TeedStream(response.stream, reader)
        reader.flight.land(OPENED)

    def seconds(self) -> float:
        """How long ago the call began."""
        return time.perf_counter() - self._started

    def own_body(self, reader: BodyReader, result: object) -> OwnBody:
        """The body that came, for one who had joined another call.

        Args:
            reader: his place in that call's response.
            result: what the request gave.
        """
        response, answer = self.response, self.answered.answer
        if response is None:
            return OwnBody(reader, None if answer is None else answer.chunks)
        encoding = response.headers.get("content-encoding")
        return OwnBody(reader, response.stream, encoding, (result, response))

    # What follows takes the response apart, so that the recorder does not lead back to it.

    def _judge(self, response: Any) -> Callable[[Recording[bytes]], Answered]:
        status, headers = response.status_code, kept_headers(response)
        encoding = response.headers.get("content-encoding")
        framed, library = is_framed(response), library_of(response)
        exchange = self._exchange

        def judge(recording: Recording[bytes]) -> Answered:
            try:
                chunks, delays = decode(library, encoding, recording.items, recording.delays)
            except library.decoding_error:
                return Answered(None, reason="encoding")
            answer = HttpAnswer(status, headers, chunks, delays, streamed=True)
            return judged(exchange, answer, ended=recording.ended, framed=framed)

        return judge

    def _looks(self, response: Any) -> tuple[Look, Look]:
        library, encoding = library_of(response), response.headers.get("content-encoding")
        kind, results = response.headers.get("content-type", ""), self._exchange.results

        def body(recording: Recording[bytes]) -> bytes | None:
            try:
                chunks, _ = decode(library, encoding, recording.items, recording.delays)
            except library.decoding_error:
                return None
            return b"".join(chunks)

        def fails(recording: Recording[bytes]) -> bool:
            passed = body(recording)
            return passed is None or shows_error(passed, frames=kind.startswith(FRAMES))

        def stops(recording: Recording[bytes]) -> bool:
            passed = body(recording)
            return passed is not None and stopped(passed, kind, results)

        return fails, stops


# One slot for each call under way. Every request of the SDK sets it, also those that are not
# cached: what an authentication hook or a nested call fetches is never taken for the call's own.
_slot: Final[ContextVar[Slot | None]] = ContextVar("cachewrap_sdk_call", default=None)


# Whether a request below is one of a patched SDK, which has decided on it already: None outside,
# else whether its seam leaves the request alone, by the call's own choice or for what it asks. It
# is only kept up while something below, such as a cached transport, may ask.
_left: Final[ContextVar[bool | None]] = ContextVar("cachewrap_sdk_request", default=None)
_watched = False


def watch() -> None:
    """From now on keep up whether a request is one of a patched SDK, see `decided`."""
    global _watched
    _watched = True


def decided() -> bool:
    """Whether a patched SDK makes the request of this context, and has chosen a cache or none."""
    left = _left.get()
    return left is not None and (left or _slot.get() is not None or bool(active()))


def take_open(response: Any, *, is_async: bool) -> None:
    """Record an open response for the call of this context, if it has a slot."""
    slot = _slot.get()
    if slot is not None:
        slot.take_open(response, is_async=is_async)


def under_way() -> bool:
    """Whether this context is inside a call whose response is awaited."""
    return _slot.get() is not None


def is_idle() -> bool:
    """Whether nothing here has to know what becomes of a request."""
    return not _watched and _slot.get() is None


def send(slot: Slot | None, request: Callable[[], Any], *, left: bool = False) -> Any:
    """Make a request whose response goes to the slot.

    Args:
        slot: where the response goes; None for a call that no cache of the seam serves.
        request: makes the request.
        left: whether no cached transport below is to serve it either.
    """
    outer, outer_left = _slot.get(), _left.get()
    _slot.set(slot)
    _left.set(left)
    try:
        return request()
    finally:
        _slot.set(outer)
        _left.set(outer_left)


async def asend(
    slot: Slot | None, request: Callable[[], Awaitable[Any]], *, left: bool = False
) -> Any:
    """`send` for async callers."""
    outer, outer_left = _slot.get(), _left.get()
    _slot.set(slot)
    _left.set(left)
    try:
        return await request()
    finally:
        _slot.set(outer)
        _left.set(outer_left)


def process_response(
    wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Wraps the sync ``_process_response``."""
    slot = _slot.get()
    if slot is None:
        return wrapped(*args, **kwargs)
    response = kwargs["response"]
    if response.is_closed:
        result = wrapped(*args, **kwargs)
        slot.take_read(response, result)
        return result
    if slot.absent is not None:
        slot.take_open(response, is_async=False)
    return wrapped(*args, **kwargs)


def aprocess_response(
    wrapped: Callable[..., Awaitable[Any]],
    client: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Awaitable[Any]:
    """Wraps the async ``_process_response``."""
    slot = _slot.get()
    return wrapped(*args, **kwargs) if slot is None else _aprocess(slot, wrapped, args, kwargs)


async def _aprocess(
    slot: Slot,
    wrapped: Callable[..., Awaitable[Any]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    response = kwargs["response"]
    if response.is_closed:
        result = await wrapped(*args, **kwargs)
        slot.take_read(response, result)
        return result
    if slot.absent is not None:
        slot.take_open(response, is_async=True)
    return await wrapped(*args, **kwargs)


# -- the way of a call ----------------------------------------------------------------------------


Rebuild: TypeAlias = Callable[[HttpAnswer | None, BodyReader | None], Any]
"""Makes the SDK's result of a stored answer, or of the head of one under way and its reader."""


def serve_read(
    cache: Cache,
    exchange: SdkExchange,
    upstream: Callable[[], Any],
    rebuild: Rebuild,
    *seen: Seen,
) -> Any:
    """Serve a sync call whose response is read. A hit of which the SDK makes nothing is a miss."""
    slot, scrubs = Slot(cache, exchange), cache.policy.scrub is not None
    results: list[Any] = []

    def call() -> Answered:
        send(slot, upstream)
        return slot.answered

    def use(reply: Reply[Answered]) -> bool:
        if (reply.own and not scrubs) or reply.value is slot.answered:
            results.append(slot.answered.result)
            return True
        try:
            results.append(rebuild(reply.value.answer, None))
        except Exception as error:
            if not exchange.refuse(reply, error):
                raise
            if slot.answered.result is not None:  # an earlier answer won over that of upstream
                results.append(slot.answered.result)
        return bool(results)

    cache.serve(exchange, call, *seen, use=use)
    return results[-1]


async def aserve_read(
    cache: Cache,
    exchange: SdkExchange,
    upstream: Callable[[], Awaitable[Any]],
    rebuild: Rebuild,
    *seen: Seen,
) -> Any:
    """`serve_read` for async calls."""
    slot, scrubs = Slot(cache, exchange), cache.policy.scrub is not None
    results: list[Any] = []

    async def call() -> Answered:
        await asend(slot, upstream)
        return slot.answered

    async def use(reply: Reply[Answered]) -> bool:
        if (reply.own and not scrubs) or reply.value is slot.answered:
            results.append(slot.answered.result)
            return True
        try:
            results.append(await rebuild(reply.value.answer, None))
        except Exception as error:
            if not exchange.refuse(reply, error):
                raise
            if slot.answered.result is not None:
                results.append(slot.answered.result)
        return bool(results)

    await cache.aserve(exchange, call, *seen, use=use)
    return results[-1]


def serve_open(
    cache: Cache,
    exchange: SdkExchange,
    upstream: Callable[[], Any],
    rebuild: Rebuild,
    *seen: Seen,
    alone: Callable[[], Any] | None = None,
) -> Any:
    """Serve a sync call whose response stays open: a hit, a share of one under way, or upstream.

    Whoever asks while the same request is under way waits for its response, not for its body, and
    then reads that body at his own pace. If the first caller's request fails, everybody else goes
    upstream at once; if it was cancelled, one of them takes its place. If its body breaks or
    stalls, whoever was given nothing of it yet goes upstream too. That holds for every open
    response, of events and of other bodies.

    Args:
        cache: the cache.
        exchange: the request.
        upstream: makes the request.
        rebuild: see `Rebuild`.
        seen: what the store gave, if it was asked.
        alone: makes the request where its body alone is wanted; None is ``upstream``.
    """
    results: list[Any] = []

    def call(absent: Absent, reader: BodyReader | None) -> Answered | None:
        slot = Slot(cache, exchange, absent, reader)
        results.append(send(slot, upstream))
        return slot.kept()

    def use(reply: Reply[Any]) -> bool:
        if results:
            return True
        if reply.opened:
            results.append(rebuild(reply.value.source.head, reply.value))
            return True
        exchange.waited = reply.outcome is Outcome.JOINED
        try:
            results.append(rebuild(reply.value.answer, None))
        except Exception as error:
            if not exchange.refuse(reply, error):
                raise
        return bool(results)

    def board(place: str, key: str) -> tuple[BodyReader, bool] | None:
        return _board(cache, exchange, place, key, go_alone, is_async=False)

    def go_alone(reader: BodyReader) -> OwnBody:
        found = cache.look(exchange)
        if isinstance(found, Reply):
            assert found.value.answer is not None
            return OwnBody(reader, found.value.answer.chunks)
        slot = Slot(cache, exchange, found)
        result = send(slot, alone or upstream)
        if (answered := slot.kept()) is not None:
            cache.keep(exchange, answered, slot.seconds(), found)
        elif slot.response is None and alone is not None:
            result[1].stream.close()
        return slot.own_body(reader, result)

    cache.open(exchange, call, board, *seen, use=use)
    return results[-1]


async def aserve_open(
    cache: Cache,
    exchange: SdkExchange,
    upstream: Callable[[], Awaitable[Any]],
    rebuild: Rebuild,
    *seen: Seen,
    alone: Callable[[], Awaitable[Any]] | None = None,
    elsewhere: Callable[[str], Awaitable[Any]] | None = None,
) -> Any:
    """`serve_open` for async calls, which share with those of the same event loop.

    What is not stored ``elsewhere`` may answer, of which nothing is counted here.
    """
    results: list[Any] = []

    async def call(absent: Absent, reader: BodyReader | None) -> Answered | None:
        slot = Slot(cache, exchange, absent, reader)
        results.append(await asend(slot, upstream))
        return slot.kept()

    async def use(reply: Reply[Any]) -> bool:
        if results:
            return True
        if reply.opened:
            results.append(await rebuild(reply.value.source.head, reply.value))
            return True
        exchange.waited = reply.outcome is Outcome.JOINED
        try:
            results.append(await rebuild(reply.value.answer, None))
        except Exception as error:
            if not exchange.refuse(reply, error):
                raise
        return bool(results)

    def board(place: str, key: str) -> tuple[BodyReader, bool] | None:
        return _board(cache, exchange, place, key, go_alone, is_async=True)

    async def go_alone(reader: BodyReader) -> OwnBody:
        found = await cache.alook(exchange)
        if isinstance(found, Reply):
            assert found.value.answer is not None
            return OwnBody(reader, found.value.answer.chunks)
        slot = Slot(cache, exchange, found)
        result = await asend(slot, alone or upstream)
        if (answered := slot.kept()) is not None:
            await cache.akeep(exchange, answered, slot.seconds(), found)
        elif slot.response is None and alone is not None:
            await result[1].stream.aclose()
        return slot.own_body(reader, result)

    async def away() -> bool:
        if elsewhere is not None and (result := await elsewhere(exchange.key)) is not None:
            results.append(result)
        return bool(results)

    await cache.aopen(exchange, call, board, *seen, use=use, away=away if elsewhere else None)
    return results[-1]


def _board(
    cache: Cache,
    exchange: SdkExchange,
    place: str,
    key: str,
    go_alone: GoAlone,
    *,
    is_async: bool,
) -> tuple[BodyReader, bool] | None:
    joined = join(place, key, ashare if is_async else share, is_async=is_async)
    if joined is None:
        return None
    stream, leads = joined
    seconds = inf if leads else patience(exchange)
    return BodyReader(cache, stream, leads, seconds, go_alone), leads
