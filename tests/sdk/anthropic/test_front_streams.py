"""A recorded event stream read quickly: items, errors and state as the SDK itself has them."""

from __future__ import annotations

import asyncio
import importlib
import json
from typing import Any

import anthropic
import anthropic._models
import anthropic.types
import pytest

from cachewrap.entry import HttpAnswer
from cachewrap.format.plans import Convert, Models
from cachewrap.sdk.front.events import aquicken, quicken
from sdk.openai.asking import anatomy

MODELS = Models(anthropic._models)
pytestmark = pytest.mark.skipif(
    not MODELS._known, reason="this version's models are left to the SDK"
)

family = importlib.import_module(anthropic.Anthropic.__mro__[1].__module__)
httpx: Any = getattr(family, "httpx2", None) or family.httpx
EVENT: Any = anthropic.types.RawMessageStreamEvent


def event(name: str, **more: Any) -> str:
    return f"event: {name}\ndata: {json.dumps({'type': name, **more})}\n\n"


MESSAGE = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
START = event("message_start", message=MESSAGE)
BLOCK = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
A, B = (
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
    for text in "ab"
)
TOOL = event(
    "content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": "{"}
)
NEW = event("content_block_delta", index=1, delta={"type": "brand_new_delta", "what": 1})
DELTA = event(
    "message_delta",
    delta={"stop_reason": "end_turn", "stop_sequence": None},
    usage={"output_tokens": 5},
)
STOP = event("message_stop")
PING = event("ping")
ERROR = event("error", error={"type": "overloaded_error", "message": "no"})

# What is read, and how many events of it need no look by the SDK.
BODIES: dict[str, tuple[str, int]] = {
    "plain": (START + BLOCK + A + B + TOOL + NEW + DELTA + STOP, 8),
    "pings": (START + PING + A + PING + PING + STOP + PING, 3),
    "an error": (START + A + ERROR + B, 2),
    "an unknown event": (START + event("brand_new") + A + STOP, 1),
    "no name": (START + A.partition("\n")[2] + B + STOP, 1),
    "the end of another API": (START + A + "data: [DONE]\n\n" + B, 2),
    "an error in the data": (START + A.replace('"index"', '"error": 1, "index"') + STOP, 1),
    "cut off": (START + A + B[:-20], 2),
    "a comment": (f"{START}: ping\n\n{A}{STOP}", 1),
    "carriage returns": (START + (A + B).replace("\n", "\r\n") + STOP, 1),
    "no JSON": (f"{START}event: message_delta\ndata: {{no\n\n{B}", 1),
    "nothing": ("", 0),
}


class Chunks(httpx.SyncByteStream, httpx.AsyncByteStream):  # type: ignore[misc]
    def __init__(self, body: str) -> None:
        self._chunks = [body.encode()[:50], body.encode()[50:]]

    def __iter__(self) -> Any:
        return iter(self._chunks)

    async def __aiter__(self) -> Any:
        for chunk in self._chunks:
            yield chunk


def read(body: str, colour: str, built: list[Any] | None, most: int = 99) -> Any:
    """The items of a stream, the error at its end, and what becomes of its response."""
    headers = [("content-type", "text/event-stream; charset=utf-8")]
    asked = httpx.Request("POST", "http://localhost/v1/messages")
    response = httpx.Response(200, headers=headers, stream=Chunks(body), request=asked)
    answer = HttpAnswer(200, headers, [body.encode()], [], streamed=True)

    def builder(cls: Any) -> Convert:
        build = MODELS.builder(cls)
        assert build is not None
        assert built is not None

        def counted(value: Any) -> Any:
            built.append(value)
            return build(value)

        return counted

    def opened() -> Any:
        owner: Any = anthropic.Anthropic if colour == "sync" else anthropic.AsyncAnthropic
        kind: Any = anthropic.Stream if colour == "sync" else anthropic.AsyncStream
        stream = kind(cast_to=EVENT, response=response, client=owner(api_key="k"))
        if built is not None:
            (quicken if colour == "sync" else aquicken)(stream, answer, "anthropic", builder)
        return stream

    async def main() -> Any:
        stream = opened()
        items, error = [], None
        try:
            if colour == "sync":
                for item in stream:
                    items.append(anatomy(item))
                    if len(items) == most:
                        break
            else:
                async for item in stream:
                    items.append(anatomy(item))
                    if len(items) == most:
                        break
        except Exception as raised:
            error = type(raised), str(raised)
        if most < 99:
            await stream.close() if colour == "async" else stream.close()
        return items, error, response.is_closed

    return asyncio.run(main())


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize(("body", "quick"), BODIES.values(), ids=BODIES.keys())
def test_the_sdk_takes_over_at_the_first_event_that_is_not_plain(
    colour: str, body: str, quick: int
) -> None:
    built: list[Any] = []
    (*seen, closed), (*expected, closed_by_the_sdk) = (
        read(body, colour, built),
        read(body, colour, None),
    )
    assert seen == expected
    assert closed or not closed_by_the_sdk
    assert len(built) == quick


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_stream_can_be_left_at_any_item(colour: str) -> None:
    body = BODIES["plain"][0]
    for most in (1, 2, 3):
        assert read(body, colour, [], most) == read(body, colour, None, most)
