"""Hits of the SDKs in every shape that programs ask in, beside the SDK's own work for them.

The SDK's own work is the call on a transport that answers at once. Each shape is a group of two
rows; the target is what a hit on disk may cost of it.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
import random
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import openai
from pydantic import BaseModel

from benchmarks.harness import Row
from benchmarks.requests import BIG, SMALL, Size, text
from cachewrap import Cache, patch_all, unpatch_all

_ALONE: Final = "SDK alone"
_HIT: Final = "hit on disk"
_AT_ONCE: Final = 20
"""Calls of one turn of an async row, one after the other."""

Answer = tuple[bytes, str]
Ask = Callable[[Any], Any]


class City(BaseModel):
    """A structured answer."""

    name: str
    country: str
    people: int


@dataclass(frozen=True)
class Shape:
    """A way to call an SDK.

    Args:
        ask: makes the call with a client.
        answer: the body that comes back, and its content type.
        target: what a hit may cost of the SDK's own work.
        sdk: the SDK's module.
        is_async: whether the call is awaited.
    """

    ask: Ask
    answer: Answer
    target: float
    sdk: str = "openai"
    is_async: bool = False


# -- answers ---------------------------------------------------------------------------------


def _json(value: Any) -> Answer:
    return json.dumps(value).encode(), "application/json"


def _events(events: list[dict[str, Any]], *, named: bool = False, done: bool = True) -> Answer:
    lines = [
        (f"event: {event['type']}\n" if named else "") + f"data: {json.dumps(event)}\n\n"
        for event in events
    ]
    return "".join([*lines, "data: [DONE]\n\n" if done else ""]).encode(), "text/event-stream"


def _usage() -> dict[str, Any]:
    return {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}


def completion(content: str) -> Answer:
    """A chat completion, as it comes from upstream."""
    message = {"role": "assistant", "content": content, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini"}
    return _json({**head, "choices": [choice], "usage": _usage()})


def _chat_stream(size: Size) -> Answer:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
    deltas: list[dict[str, Any]] = [{"content": f"{word} "} for word in size.answer().split()]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    return _events([{**head, "choices": [choice]} for choice in choices])


def response(content: str) -> Answer:
    """A response, as it comes from upstream."""
    part = {"type": "output_text", "text": content, "annotations": [], "logprobs": []}
    message = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant"}
    return _json(
        {
            "id": "resp_1",
            "object": "response",
            "created_at": 1.0,
            "status": "completed",
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "model": "gpt-4o-mini",
            "output": [{**message, "content": [part]}],
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "text": {"format": {"type": "text"}},
            "usage": {
                "input_tokens": 9,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 9,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 18,
            },
            "metadata": {},
        }
    )


def _embeddings(number: int) -> Answer:
    draw = random.Random(number)

    def vector() -> str:
        numbers = [draw.uniform(-1, 1) for _ in range(1536)]
        return base64.b64encode(struct.pack("<1536f", *numbers)).decode()

    data = [{"object": "embedding", "index": n, "embedding": vector()} for n in range(number)]
    usage = {"prompt_tokens": 9, "total_tokens": 9}
    return _json(
        {"object": "list", "data": data, "model": "text-embedding-3-small", "usage": usage}
    )


def _message(content: str) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": content}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 9},
    }


def _message_stream(size: Size) -> Answer:
    start = {**_message(""), "content": [], "stop_reason": None}
    usage = {"output_tokens": 9}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    deltas = [
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": f"{word} "},
        }
        for word in size.answer().split()
    ]
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        *deltas,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ended, "usage": usage},
        {"type": "message_stop"},
    ]
    return _events(events, named=True, done=False)


# -- requests --------------------------------------------------------------------------------

_PARAMETERS: Final[dict[str, Any]] = {
    "temperature": 0.2,
    "top_p": 0.9,
    "max_tokens": 400,
    "stop": ["END"],
    "seed": 7,
    "presence_penalty": 0.1,
    "response_format": {"type": "text"},
    "user": "someone",
}


def _tools(number: int) -> list[dict[str, Any]]:
    def schema(index: int) -> dict[str, Any]:
        fields = {
            f"field_{n}": {"type": "string", "description": text(60, 100 * index + n)}
            for n in range(5)
        }
        return {"type": "object", "properties": fields, "required": ["field_0", "field_1"]}

    return [
        {
            "type": "function",
            "function": {
                "name": f"tool_{index}",
                "description": text(120, index),
                "parameters": schema(index),
            },
        }
        for index in range(number)
    ]


def _picture() -> list[dict[str, Any]]:
    data = base64.b64encode(random.Random(1).randbytes(750_000)).decode()
    url = {"url": f"data:image/png;base64,{data}"}
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": url}]
    return [{"role": "user", "content": parts}]


def _chat(size: Size, **more: Any) -> Ask:
    return _chat_of(size.conversation(), **more)


def _chat_of(messages: Any, **more: Any) -> Ask:
    return lambda one: one.chat.completions.create(model="gpt-4o-mini", messages=messages, **more)


def _chat_raw(size: Size) -> Ask:
    messages: Any = size.conversation()
    return lambda one: one.chat.completions.with_raw_response.create(
        model="gpt-4o-mini", messages=messages
    ).parse()


def _chat_parsed(size: Size) -> Ask:
    messages: Any = size.conversation()
    return lambda one: one.chat.completions.parse(
        model="gpt-4o-mini", messages=messages, response_format=City
    )


def _chat_streamed(size: Size) -> Ask:
    messages: Any = size.conversation()
    return lambda one: list(
        one.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True)
    )


def _chat_helper(size: Size) -> Ask:
    messages: Any = size.conversation()

    def ask(one: Any) -> Any:
        with one.chat.completions.stream(model="gpt-4o-mini", messages=messages) as events:
            return list(events)

    return ask


def _responses(size: Size) -> Ask:
    messages: Any = size.conversation()
    return lambda one: one.responses.create(model="gpt-4o-mini", input=messages)


def _embed(number: int) -> Ask:
    texts = [text(200, n) for n in range(number)]
    return lambda one: one.embeddings.create(model="text-embedding-3-small", input=texts)


def _messages(size: Size) -> Ask:
    messages: Any = size.conversation()
    return lambda one: one.messages.create(
        model="claude-sonnet-4-5", max_tokens=400, messages=messages
    )


def _messages_streamed(size: Size) -> Ask:
    messages: Any = size.conversation()
    return lambda one: list(
        one.messages.create(
            model="claude-sonnet-4-5", max_tokens=400, messages=messages, stream=True
        )
    )


def _messages_helper(size: Size) -> Ask:
    messages: Any = size.conversation()

    def ask(one: Any) -> Any:
        with one.messages.stream(
            model="claude-sonnet-4-5", max_tokens=400, messages=messages
        ) as events:
            return list(events)

    return ask


_CITY: Final = '{"name": "Lisbon", "country": "Portugal", "people": 567131}'


def shapes() -> dict[str, Shape]:
    """Every shape, by the title of its group."""
    small, big = completion(SMALL.answer()), completion(BIG.answer())
    said, streamed = _json(_message(SMALL.answer())), _message_stream(SMALL)
    more = {"extra_body": {"top_k": 3}}
    return {
        "chat, small, with parameters": Shape(_chat(SMALL, **_PARAMETERS), small, 0.08),
        "chat, big": Shape(_chat(BIG), big, 0.012),
        "chat, 20 tools": Shape(_chat(SMALL, tools=_tools(20)), small, 0.06),
        "chat, an image of 1 MB": Shape(_chat_of(_picture()), small, 0.05),
        "chat, async": Shape(_chat(SMALL), small, 0.10, is_async=True),
        "chat, parsed": Shape(_chat_parsed(SMALL), completion(_CITY), 0.12),
        "chat, raw": Shape(_chat_raw(SMALL), small, 0.12),
        "chat, extra_body": Shape(_chat(SMALL, **more), small, 0.10),
        "chat, streamed": Shape(_chat_streamed(SMALL), _chat_stream(SMALL), 0.10),
        "chat, stream helper": Shape(_chat_helper(SMALL), _chat_stream(SMALL), 0.40),
        "responses, small": Shape(_responses(SMALL), response(SMALL.answer()), 0.12),
        "responses, big": Shape(_responses(BIG), response(BIG.answer()), 0.015),
        "embeddings, 1 text": Shape(_embed(1), _embeddings(1), 0.12),
        "embeddings, 100 texts": Shape(_embed(100), _embeddings(100), 0.30),
        "anthropic, small": Shape(_messages(SMALL), said, 0.10, "anthropic"),
        "anthropic, streamed": Shape(_messages_streamed(SMALL), streamed, 0.12, "anthropic"),
        "anthropic, stream helper": Shape(_messages_helper(SMALL), streamed, 0.40, "anthropic"),
    }


# -- rows ------------------------------------------------------------------------------------


def groups() -> dict[str, Callable[[], AbstractContextManager[list[Row]]]]:
    """The rows of every shape, by title."""
    return {title: partial(rows, shape) for title, shape in shapes().items()}


@contextmanager
def rows(shape: Shape) -> Iterator[list[Row]]:
    """A hit on disk beside the SDK's own work."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        disk = Cache.disk(cache_path_root=folder)
        upstream, once = _client(shape), _client(shape, answers=1)

        def run(one: Any) -> Any:
            if not shape.is_async:
                return shape.ask(one)

            async def calls() -> list[Any]:
                return [await shape.ask(one) for _ in range(_AT_ONCE)]

            return runner.run(calls(), context=copy_context())

        with _patched(disk):
            run(once)
        yield [
            Row(_ALONE, lambda: run(upstream)),
            Row(_HIT, lambda: run(once), lambda: _patched(disk), target=shape.target),
        ]


@contextmanager
def _patched(cache: Cache) -> Iterator[None]:
    patch_all()
    try:
        with cache:
            yield
    finally:
        unpatch_all()


def _client(shape: Shape, *, answers: int | None = None) -> Any:
    """A client whose transport answers at once; after ``answers`` of them it fails."""
    sdk: Any = importlib.import_module(shape.sdk)
    base: Any = importlib.import_module(f"{shape.sdk}._base_client")
    httpx: Any = getattr(base, "httpx2", None) or base.httpx
    body, kind = shape.answer
    left = answers

    def respond(request: Any) -> Any:
        nonlocal left
        if left is not None:
            if left == 0:
                raise RuntimeError("this call was to be a hit")
            left -= 1
        return httpx.Response(200, content=body, headers={"content-type": kind})

    async def arespond(request: Any) -> Any:
        return respond(request)

    if shape.is_async:
        http_client = httpx.AsyncClient(transport=httpx.MockTransport(arespond))
        make = sdk.AsyncOpenAI if sdk is openai else sdk.AsyncAnthropic
    else:
        http_client = httpx.Client(transport=httpx.MockTransport(respond))
        make = sdk.OpenAI if sdk is openai else sdk.Anthropic
    return make(api_key="none", max_retries=0, http_client=http_client)
