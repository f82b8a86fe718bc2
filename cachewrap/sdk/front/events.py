"""Events of a recorded stream, made into an SDK's objects without its parsing.

The stream stays the SDK's own object, with its response and its ways to be closed; what it iterates
over is exchanged. From the first event on that is anything but one line of JSON data, with a name
or without, the SDK reads the rest itself.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from functools import lru_cache
from typing import Any, Final

from cachewrap.entry import HttpAnswer
from cachewrap.format.plans import Convert
from cachewrap.hooks import is_own
from cachewrap.http.response import family_of

_DONE: Final = b"data: [DONE]"
_END: Final = b"\n\n"


def quicken(
    stream: Any, answer: HttpAnswer, name: str, builder: Callable[[Any], Convert | None]
) -> None:
    """Let an SDK's sync stream read a recorded answer faster, where that can be done.

    Args:
        stream: the stream, not yet iterated over.
        answer: what its response will read.
        name: the SDK's top-level module.
        builder: gives what builds the models that the stream yields.
    """
    build = _builder(stream, answer, name, builder)
    if build is not None:
        events = _Events(answer.chunks, name)
        stream._iterator = _replay(stream.response, events, build, stream._iterator)


def aquicken(
    stream: Any, answer: HttpAnswer, name: str, builder: Callable[[Any], Convert | None]
) -> None:
    """`quicken` for an async stream."""
    build = _builder(stream, answer, name, builder)
    if build is not None:
        events = _Events(answer.chunks, name)
        stream._iterator = _areplay(stream.response, events, build, stream._iterator)


def _builder(
    stream: Any, answer: HttpAnswer, name: str, builder: Callable[[Any], Convert | None]
) -> Convert | None:
    options = getattr(stream, "_options", None)
    own = sys.modules.get(f"{name}._streaming")
    if (
        own is None
        or type(stream) not in (own.Stream, own.AsyncStream)
        or not _gives_them_itself(type(stream), name)
        or getattr(options, "synthesize_event_and_data", False)
        or getattr(options, "stream_mode", "legacy") != "legacy"
    ):
        return None
    for header, value in answer.headers:
        if header.lower() == "content-type" and value.startswith("text/event-stream"):
            return builder(stream._cast_to)
    return None


def _gives_them_itself(kind: Any, name: str) -> bool:
    """Whether nobody else stands where a stream's events come from, who is to see them all."""
    source = kind.__stream__
    return _is_own(source, getattr(source, "__code__", None), name)


@lru_cache(maxsize=16)
def _is_own(function: Any, code: types.CodeType | None, name: str) -> bool:
    return is_own(function, name)


class _Events:
    """The plain events of a body, one after the other, and what is left of it behind them."""

    def __init__(self, chunks: list[bytes], sdk: str) -> None:
        self._body = b"".join(chunks)
        self._next = 0
        self._names = _NAMES.get(sdk, frozenset())
        self.done = False

    @property
    def rest(self) -> bytes:
        return self._body[self._next :]

    def __iter__(self) -> Iterator[Any]:
        body, names = self._body, self._names
        while True:
            end = body.find(_END, self._next)
            if end < 0:
                self.done = self._next == len(body)
                return
            event = body[self._next : end]
            if event == _DONE:
                self.done = True
                return
            data = _data(event, names)
            if data is None:
                return
            if data is _PING:
                self._next = end + len(_END)
                continue
            try:
                value = json.loads(data)
            except (ValueError, RecursionError):
                return
            if type(value) is not dict or value.get("error"):
                return
            if names and "type" not in value:  # some versions give it the event's name
                return
            self._next = end + len(_END)
            yield value


def _data(event: bytes, names: frozenset[bytes] | None) -> bytes | None:
    """The data of a plain event, else None.

    Args:
        event: the event.
        names: the lines that name the events that the SDK yields, where it yields no others, and
            none without a name; None where it yields most; empty for one of which that is unknown.
    """
    if b"\r" in event:
        return None
    if event.startswith(b"event: "):
        head, _, event = event.partition(b"\n")
        if names is None:
            if head.startswith(b"event: thread."):
                return None
        elif head not in names:
            return _PING if names and head == b"event: ping" else None
    elif names:
        return None
    if not event.startswith(b"data: {") or b"\n" in event:
        return None
    return event[len(b"data: ") :]


_PING: Final = b"ping"
"""Stands for the data of an event that is passed over."""

_NAMES: Final[dict[str, frozenset[bytes] | None]] = {
    "openai": None,
    "anthropic": frozenset(
        b"event: " + name
        for name in (
            *(b"message_start", b"message_delta", b"message_stop"),
            *(b"content_block_start", b"content_block_delta", b"content_block_stop"),
        )
    ),
}
"""The events of each SDK, see `_data`."""


def _replay(response: Any, events: _Events, build: Convert, own: Iterator[Any]) -> Iterator[Any]:
    if response.is_stream_consumed or response.is_closed:
        yield from own
        return
    try:
        for value in events:
            response.is_stream_consumed = True
            yield build(value)
        if not events.done and not response.is_closed:
            response.is_stream_consumed = False
            response.stream = family_of(response).replay([events.rest])
            yield from own
        response.is_stream_consumed = True
    finally:
        response.close()


async def _areplay(
    response: Any, events: _Events, build: Convert, own: AsyncIterator[Any]
) -> AsyncIterator[Any]:
    if response.is_stream_consumed or response.is_closed:
        async for item in own:
            yield item
        return
    try:
        for value in events:
            response.is_stream_consumed = True
            yield build(value)
        if not events.done and not response.is_closed:
            response.is_stream_consumed = False
            response.stream = family_of(response).replay([events.rest])
            async for item in own:
                yield item
        response.is_stream_consumed = True
    finally:
        await response.aclose()
