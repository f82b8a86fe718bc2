"""The way of a call whose response stays open: a hit, a share of a response under way, or upstream.

Whoever asks while the same request is under way waits for its response, not for its body, and then
reads that body at his own pace. If the first caller's request fails, everybody else goes upstream
at once; if it was cancelled, one of them takes its place. That holds for every open response, of
events and of other bodies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from cachewrap.cache import Cache
from cachewrap.call.flight import AGAIN, FAILED
from cachewrap.call.flow import Seen
from cachewrap.call.terms import Reply
from cachewrap.entry import HttpAnswer
from cachewrap.http.capture import Slot, asend, send
from cachewrap.http.exchange import SdkExchange
from cachewrap.http.shared_body import AsyncSharedBody, SharedBody
from cachewrap.loops import running_loop
from cachewrap.streams.shared import join

Rebuild: TypeAlias = Callable[[HttpAnswer | None, SharedBody | AsyncSharedBody | None], Any]
"""Makes the SDK's result of a stored answer, or of the head and the stream of one under way."""


def serve(
    cache: Cache,
    exchange: SdkExchange,
    upstream: Callable[[], Any],
    rebuild: Rebuild,
    *seen: Seen,
) -> Any:
    """Serve a sync call. One on an event loop's thread goes alone: it must not wait there."""
    while True:
        found = cache.look(exchange, *seen)
        seen = ()
        if isinstance(found, Reply):
            return rebuild(found.value.answer, None)
        place = cache.shared_place
        if place is None or running_loop() is not None:
            break
        joined = join(place, exchange.key, None, SharedBody)
        if joined is None:
            break
        stream, leads = joined
        if leads:
            return _lead(cache, exchange, stream, upstream, rebuild)
        landing = stream.flight.wait()
        head, fails = stream.source.head, stream.source.fails()
        if head is not None and not fails:
            return rebuild(head, stream)
        if fails:
            stream.withdraw()
        stream.leave()
        if not (fails or landing.again):
            break
    return _ask(cache, Slot(cache, exchange, found), upstream)


def _ask(cache: Cache, slot: Slot, upstream: Callable[[], Any]) -> Any:
    result = send(slot, upstream)
    if kept := slot.keep_read():
        cache.keep(*kept)
    return result


def _lead(
    cache: Cache,
    exchange: SdkExchange,
    stream: SharedBody,
    upstream: Callable[[], Any],
    rebuild: Rebuild,
) -> Any:
    landing = AGAIN
    slot = None
    try:
        # Between the look and the joining another response to this request may have been stored.
        found = cache.look(exchange)
        if isinstance(found, Reply):
            return rebuild(found.value.answer, None)
        slot = Slot(cache, exchange, found, stream)
        with stream.mark():
            result = _ask(cache, slot, upstream)
        if slot.answered.answer is None:
            landing = FAILED
        return result
    except BaseException as error:
        if isinstance(error, Exception):
            landing = FAILED
        if slot is not None and slot.reader is not None:
            slot.reader.close()
        raise
    finally:
        if stream.source.head is None:
            stream.withdraw()
            stream.flight.land(landing)
            stream.leave()


async def aserve(
    cache: Cache,
    exchange: SdkExchange,
    upstream: Callable[[], Awaitable[Any]],
    rebuild: Rebuild,
    *seen: Seen,
) -> Any:
    """`serve` for async calls, which share with those of the same event loop."""
    while True:
        found = await cache.alook(exchange, *seen)
        seen = ()
        if isinstance(found, Reply):
            return await rebuild(found.value.answer, None)
        place, loop = cache.shared_place, running_loop()
        if place is None or loop is None:
            break
        joined = join(place, exchange.key, loop, AsyncSharedBody)
        if joined is None:
            break
        stream, leads = joined
        if leads:
            return await _alead(cache, exchange, stream, upstream, rebuild)
        try:
            landing = await stream.flight.await_landing()
        except BaseException:
            await stream.leave()
            raise
        head, fails = stream.source.head, stream.source.fails()
        if head is not None and not fails:
            return await rebuild(head, stream)
        if fails:
            stream.withdraw()
        await stream.leave()
        if not (fails or landing.again):
            break
    return await _aask(cache, Slot(cache, exchange, found), upstream)


async def _aask(cache: Cache, slot: Slot, upstream: Callable[[], Awaitable[Any]]) -> Any:
    result = await asend(slot, upstream)
    if kept := slot.keep_read():
        await cache.akeep(*kept)
    return result


async def _alead(
    cache: Cache,
    exchange: SdkExchange,
    stream: AsyncSharedBody,
    upstream: Callable[[], Awaitable[Any]],
    rebuild: Rebuild,
) -> Any:
    landing = AGAIN
    slot = None
    try:
        found = await cache.alook(exchange)
        if isinstance(found, Reply):
            return await rebuild(found.value.answer, None)
        slot = Slot(cache, exchange, found, stream)
        with stream.mark():
            result = await _aask(cache, slot, upstream)
        if slot.answered.answer is None:
            landing = FAILED
        return result
    except BaseException as error:
        if isinstance(error, Exception):
            landing = FAILED
        if slot is not None and slot.reader is not None:
            await slot.reader.aclose()
        raise
    finally:
        if stream.source.head is None:
            stream.withdraw()
            stream.flight.land(landing)
            await stream.leave()
