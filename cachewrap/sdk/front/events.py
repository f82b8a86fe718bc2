"""Events of a recorded stream, made into an SDK's objects without its parsing.

The stream stays the SDK's own object, with its response and its ways to be closed; what it iterates
over is exchanged. From the first event on that is anything but one line of JSON data, with a name
or without as the SDK's events have one, the SDK reads the rest itself.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator, Set as AbstractSet
from typing import Any, Final

from msgspec import MsgspecError, json

from cachewrap.entry import HttpAnswer
from cachewrap.format.plans import Convert
from cachewrap.hooks import is_own
from cachewrap.http.events import parsed
from cachewrap.http.response import family_of

_DONE: Final = b"[DONE]"
_END: Final = b"\n\n"
_DATA: Final = b"data: "
_NAME: Final = b"event: "
_PING: Final = b"event: ping\n"
_THREAD: Final = b"event: thread."
_UNNAMED: Final = frozenset({b""})
# What stands before the data of the events that every version of an SDK hands on. Where events
# without a name are none, the end is not told by one.
_HEADS: Final = {
    "anthropic": frozenset(
        b"event: " + name + b"\n"
        for name in (
            *(b"message_start", b"message_delta", b"message_stop"),
            *(b"content_block_start", b"content_block_delta", b"content_block_stop"),
        )
    )
}


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
        stream._iterator = _replay(stream.response, answer, name, build, stream._iterator)


def aquicken(
    stream: Any, answer: HttpAnswer, name: str, builder: Callable[[Any], Convert | None]
) -> None:
    """`quicken` for an async stream."""
    build = _builder(stream, answer, name, builder)
    if build is not None:
        stream._iterator = _areplay(stream.response, answer, name, build, stream._iterator)


def _builder(
    stream: Any, answer: HttpAnswer, name: str, builder: Callable[[Any], Convert | None]
) -> Convert | None:
    options = getattr(stream, "_options", None)
    own = sys.modules.get(f"{name}._streaming")
    if (
        own is None
        or type(stream) not in (own.Stream, own.AsyncStream)
        or type(getattr(stream, "_decoder", None)) is not own.SSEDecoder
        or not _gives_them_itself(type(stream), own.SSEDecoder, name)
        or getattr(options, "synthesize_event_and_data", False)
        or getattr(options, "stream_mode", "legacy") != "legacy"
        or getattr(getattr(stream.response, "stream", None), "stream_observer", None) is not None
    ):
        return None
    for header, value in answer.headers:
        if header.lower() == "content-type" and value.startswith("text/event-stream"):
            return builder(stream._cast_to)
    return None


def _gives_them_itself(kind: Any, decoder: Any, name: str) -> bool:
    """Whether nobody else stands where a stream's events come from, who is to see them all."""
    parts = kind.__stream__, kind._iter_events, *map(decoder.__dict__.get, _READS)
    found = [*parts, *[getattr(part, "__code__", None) for part in parts]]
    if _sources.get(kind) == found:
        return True
    if not all(is_own(part, name) for part in parts):
        return False
    _sources[kind] = found
    return True


_READS: Final = ("iter_bytes", "aiter_bytes", "decode")
_sources: Final[dict[type, list[Any]]] = {}


class _Events:
    """Events of a body, one after the other, as long as they are plain, and what is behind them.

    Args:
        chunks: the body.
        name: the SDK's top-level module.
        build: makes an event of its JSON.
    """

    def __init__(self, chunks: list[bytes], name: str, build: Convert) -> None:
        body = b"".join(chunks)
        plain = body.partition(b"\r")[0]
        *self._whole, last = plain.split(_END)
        self._last = last + body[len(plain) :]
        self._read = 0
        self._name = name
        self._build = build

    @property
    def rest(self) -> bytes:
        """What the SDK is to read, from the first event on that is not plain."""
        return _END.join([*self._whole[self._read :], self._last])

    def __iter__(self) -> Iterator[Any]:
        heads: AbstractSet[bytes] = _HEADS.get(self._name, _UNNAMED)
        build, decode, read = self._build, json.decode, 0
        try:
            for event in self._whole:
                head, _, data = event.partition(_DATA)
                if head not in heads:
                    if head == _PING and _UNNAMED.isdisjoint(heads):
                        read += 1
                        continue
                    if self._name != "openai" or not _is_name(head):
                        return
                    heads = {head, *heads}
                if b"\n" in data:
                    return
                try:
                    value = decode(data)
                except (MsgspecError, ValueError, RecursionError):
                    if data == _DONE and head in _UNNAMED:
                        self._whole, self._last = [], b""
                        return
                    value = _slowly(data)
                if type(value) is not dict or (value.get("error")):
                    return
                read += 1
                yield build(value)
        finally:
            self._read = read


def _is_name(head: bytes) -> bool:
    """Whether one line with a name stands there, and one by which nothing else is meant."""
    if not head.startswith(_NAME) or head.startswith(_THREAD):
        return False
    return head.endswith(b"\n") and head.count(b"\n") == 1


def _slowly(data: bytes) -> Any:
    """JSON that msgspec does not take; None for what is none."""
    try:
        return parsed(data)
    except (ValueError, RecursionError):
        return None


def _replay(
    response: Any, answer: HttpAnswer, name: str, build: Convert, own: Iterator[Any]
) -> Iterator[Any]:
    if response.is_stream_consumed or response.is_closed:
        yield from own
        return
    events = _Events(answer.chunks, name, build)
    response.is_stream_consumed = True
    try:
        yield from events
        if (rest := events.rest) and not response.is_closed:
            response.is_stream_consumed = False
            response.stream = family_of(response).replay([rest])
            yield from own
    finally:
        response.close()


async def _areplay(
    response: Any, answer: HttpAnswer, name: str, build: Convert, own: AsyncIterator[Any]
) -> AsyncIterator[Any]:
    if response.is_stream_consumed or response.is_closed:
        async for item in own:
            yield item
        return
    events = _Events(answer.chunks, name, build)
    response.is_stream_consumed = True
    try:
        for event in events:
            yield event
        if (rest := events.rest) and not response.is_closed:
            response.is_stream_consumed = False
            response.stream = family_of(response).replay([rest])
            async for item in own:
                yield item
    finally:
        await response.aclose()
