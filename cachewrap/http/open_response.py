"""The way of a call whose response stays open: a hit, a share of a response under way, or upstream.

Whoever asks while the same request is under way waits for its response, not for its body, and then
reads that body at his own pace. If the first caller's request fails, everybody else goes upstream
at once; if it was cancelled, one of them takes its place. That holds for every open response, of
events and of other bodies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

from cachewrap.cache import Cache
from cachewrap.call.terms import Absent, Seen
from cachewrap.entry import HttpAnswer
from cachewrap.http.capture import Slot, asend, send
from cachewrap.http.exchange import Answered, SdkExchange
from cachewrap.http.shared_body import BodyReader, ashare, share
from cachewrap.streams.shared import join

Rebuild: TypeAlias = Callable[[HttpAnswer | None, BodyReader | None], Any]
"""Makes the SDK's result of a stored answer, or of the head of one under way and its reader."""


def serve(
    cache: Cache,
    exchange: SdkExchange,
    upstream: Callable[[], Any],
    rebuild: Rebuild,
    *seen: Seen,
) -> Any:
    """Serve a sync call."""
    own: list[Any] = []

    def call(absent: Absent, reader: BodyReader | None) -> Answered | None:
        slot = Slot(cache, exchange, absent, reader)
        own.append(send(slot, upstream))
        return slot.kept()

    reply = cache.open(exchange, call, partial(_board, cache, False), *seen)
    if own:
        return own[-1]
    if reply.opened:
        return rebuild(reply.value.source.head, reply.value)
    return rebuild(reply.value.answer, None)


async def aserve(
    cache: Cache,
    exchange: SdkExchange,
    upstream: Callable[[], Awaitable[Any]],
    rebuild: Rebuild,
    *seen: Seen,
) -> Any:
    """`serve` for async calls, which share with those of the same event loop."""
    own: list[Any] = []

    async def call(absent: Absent, reader: BodyReader | None) -> Answered | None:
        slot = Slot(cache, exchange, absent, reader)
        own.append(await asend(slot, upstream))
        return slot.kept()

    reply = await cache.aopen(exchange, call, partial(_board, cache, True), *seen)
    if own:
        return own[-1]
    if reply.opened:
        return await rebuild(reply.value.source.head, reply.value)
    return await rebuild(reply.value.answer, None)


def _board(cache: Cache, is_async: bool, place: str, key: str) -> tuple[BodyReader, bool] | None:
    joined = join(place, key, ashare if is_async else share, is_async=is_async)
    return None if joined is None else (BodyReader(cache, joined[0]), joined[1])
