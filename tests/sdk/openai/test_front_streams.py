"""A recorded event stream read quickly: items, errors and state as the SDK itself has them."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable
from typing import Any

import openai
import openai._models
import pytest
from openai.types.chat import ChatCompletionChunk

from cachewrap.entry import HttpAnswer
from cachewrap.format.plans import Convert, Models
from cachewrap.sdk.front.events import aquicken, quicken
from sdk.openai.asking import anatomy
from sdk.openai.shapes import INSTALLED

pytestmark = pytest.mark.skipif(
    INSTALLED < (1, 109), reason="this version's models are left to the SDK"
)

httpx: Any = importlib.import_module("httpx2" if INSTALLED >= (3, 0) else "httpx")


def event(text: str, **more: Any) -> str:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more})


A, B, C = (f"data: {event(text)}\n\n" for text in "abc")
DONE = "data: [DONE]\n\n"

# What is read, and how many events of it need no look by the SDK.
BODIES: dict[str, tuple[str, int]] = {
    "plain": (A + B + C + DONE, 3),
    "named": (f"event: message\n{A}{B}{DONE}", 2),
    "named as the data is": (f"event: response.created\n{A}event: done\n{B}", 2),
    "no number": (A.replace('"c"', '"c", "n": NaN') + B + DONE, 2),
    "half of a letter": (A.replace('"c"', '"\\ud83d"') + B + DONE, 2),
    "unicode": ("data: " + event("é\u2028😀") + f"\n\n{B}{DONE}", 2),
    "nothing": ("", 0),
    "no more than the end": (DONE, 0),
    "no end": (A + B, 2),
    "cut off": (A + B + C[:-20], 2),
    "cut off before the blank line": (A + B.rstrip("\n"), 1),
    "more behind the end": (A + DONE + B, 1),
    "a comment": (f"{A}: ping\n\n{B}{C}{DONE}", 1),
    "a comment inside": (f"{A}: ping\n{B}{C}{DONE}", 1),
    "carriage returns": (A + (B + C).replace("\n", "\r\n") + DONE, 1),
    "data in two lines": (f'{A}data: {{"id": "c",\ndata: "choices": []}}\n\n{C}{DONE}', 1),
    "no space": (A + B.replace("data: ", "data:") + C + DONE, 1),
    "an id": (f"{A}id: 7\n{B}{C}{DONE}", 1),
    "a time to wait": (f"{A}retry: 10\n\n{B}{DONE}", 1),
    "an empty event": (f"{A}\n\n{B}{DONE}", 1),
    "an event of a thread": (f"{A}event: thread.created\n{B}{C}{DONE}", 1),
    "an error": (f'{A}data: {{"error": {{"message": "no"}}}}\n\n{B}{DONE}', 1),
    "no JSON": (f"{A}data: {{no\n\n{B}{DONE}", 1),
    "no object": (f"{A}data: [1]\n\n{B}{DONE}", 1),
}


def response(body: str) -> tuple[Any, HttpAnswer]:
    headers = [("content-type", "text/event-stream; charset=utf-8")]
    asked = httpx.Request("POST", "http://localhost/v1/chat/completions")
    chunks = [body.encode()[:50], body.encode()[50:]]
    answered = httpx.Response(200, headers=headers, stream=Chunks(chunks), request=asked)
    return answered, HttpAnswer(200, headers, chunks, [], streamed=True)


class Chunks(httpx.SyncByteStream, httpx.AsyncByteStream):  # type: ignore[misc]
    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Any:
        return iter(self._chunks)

    async def __aiter__(self) -> Any:
        for chunk in self._chunks:
            yield chunk


class Built:
    """Gives what builds models, and counts what it built."""

    def __init__(self) -> None:
        self.count = 0
        self._models = Models(openai._models)

    def __call__(self, cls: Any) -> Convert | None:
        build = self._models.builder(cls)
        assert build is not None

        def counted(value: Any) -> Any:
            self.count += 1
            return build(value)

        return counted


def read(body: str, builder: Callable[[Any], Any] | None, most: int = 99) -> Any:
    """The items of a stream, the error at its end, and what becomes of its response."""
    answered, answer = response(body)
    client = openai.OpenAI(api_key="k")
    stream: Any = openai.Stream(cast_to=ChatCompletionChunk, response=answered, client=client)
    if builder is not None:
        quicken(stream, answer, "openai", builder)
    items, error = [], None
    try:
        for item in stream:
            items.append(anatomy(item))
            if len(items) == most:
                break
    except Exception as raised:
        error = type(raised), str(raised)
    if most < 99:
        stream.close()
    return items, error, answered.is_closed


def aread(body: str, builder: Callable[[Any], Any] | None, most: int = 99) -> Any:
    async def main() -> Any:
        answered, answer = response(body)
        client = openai.AsyncOpenAI(api_key="k")
        stream: Any = openai.AsyncStream(
            cast_to=ChatCompletionChunk, response=answered, client=client
        )
        if builder is not None:
            aquicken(stream, answer, "openai", builder)
        items, error = [], None
        try:
            async for item in stream:
                items.append(anatomy(item))
                if len(items) == most:
                    break
        except Exception as raised:
            error = type(raised), str(raised)
        if most < 99:
            await stream.close()
        return items, error, answered.is_closed

    return asyncio.run(main())


@pytest.mark.parametrize("reading", [read, aread])
@pytest.mark.parametrize(("body", "quick"), BODIES.values(), ids=BODIES.keys())
def test_the_sdk_takes_over_at_the_first_event_that_is_not_plain(
    reading: Callable[..., Any], body: str, quick: int
) -> None:
    built = Built()
    (*read, closed), (*expected, closed_by_the_sdk) = reading(body, built), reading(body, None)
    assert read == expected
    assert closed or not closed_by_the_sdk  # earlier versions leave it open at an error
    assert built.count == quick


@pytest.mark.parametrize("reading", [read, aread])
@pytest.mark.parametrize("body", [A + B + C + DONE, f"{A}: ping\n\n{B}{C}{DONE}"])
def test_a_stream_can_be_left_at_any_item(reading: Callable[..., Any], body: str) -> None:
    for most in (1, 2, 3):
        assert reading(body, Built(), most) == reading(body, None, most)
