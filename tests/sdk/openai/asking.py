"""Calling the SDK in both colours, and noting everything that a caller can see of the result."""

from __future__ import annotations

import asyncio
import contextvars
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

import openai
from pydantic import BaseModel
from standin import Upstream

from sdk.openai.shapes import Shape

HIT = "x-cachewrap"
SENT = "transfer-encoding"
"""The one header that tells a hit from its miss."""

Seen = dict[str, Any]
Call = Callable[[], Any]


class Ask(Protocol):
    """Makes the n-th variant of one shape's call, and says what was seen."""

    def __call__(self, n: int = 1, /, **more: Any) -> Seen: ...


def anatomy(value: Any) -> Any:
    """A value taken apart down to plain data: types, fields, which of them were set, extras."""
    if isinstance(value, BaseModel):
        return {
            "type": type(value),
            "set": sorted(value.model_fields_set),
            "fields": {name: anatomy(item) for name, item in vars(value).items()},
            "extra": anatomy(value.model_extra),
            "request id": getattr(value, "_request_id", None),
            "dump": value.model_dump(warnings=False),
        }
    if isinstance(value, dict):
        return {name: anatomy(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [type(value), *map(anatomy, value)]
    return [type(value), value]


def http(response: Any) -> Seen:
    """What a response object tells, but for its mark and for how its body was sent."""
    headers = response.headers.multi_items()
    return {
        "response type": type(response),
        "status": response.status_code,
        "version": response.http_version,
        "headers": sorted(pair for pair in headers if pair[0] not in (HIT, SENT)),
        "mark": response.headers.get(HIT),
    }


_BOUNDARY = re.compile("[0-9a-f]{32}")


def asked(request: Any) -> Seen:
    """What a request holds, but for what is drawn anew each time, and the signature of Amazon.

    Of async clients that needs a thread, and nobody waits who only looks at a request.
    """
    headers = [
        (name, _BOUNDARY.sub("", value))
        for name, value in request.headers.multi_items()
        if not (name.startswith("x-amz-") or value.startswith("AWS4-"))
    ]
    body = b"".join(request.stream)
    return {
        "headers": sorted(headers),
        "body": _BOUNDARY.sub("", body.decode("latin-1")),
        "extensions": request.extensions,
        "type": type(request),
    }


def sent(response: Any) -> Seen:
    """What a raw or open response of the SDK tells of its request."""
    return http(response) | {
        "url": str(response.url),
        "method": response.method,
        "request url": str(response.http_request.url),
        "request": asked(response.http_request),
        "request id": response.headers.get("x-request-id"),
        "elapsed": isinstance(response.elapsed, timedelta),
    }


# -- sync -----------------------------------------------------------------------------------------


def take_value(call: Call) -> Seen:
    return {"value": anatomy(call())}


def take_events(call: Call) -> Seen:
    stream = call()
    return {"type": type(stream), "events": [anatomy(item) for item in stream]} | http(
        stream.response
    )


def take_raw(call: Call) -> Seen:
    raw = call()
    return {"value": anatomy(raw.parse()), "content": raw.content, "text": raw.text} | sent(raw)


def take_raw_events(call: Call) -> Seen:
    raw = call()
    events = [anatomy(item) for item in raw.parse()]
    return {"events": events} | sent(raw)


def take_raw_binary(call: Call) -> Seen:
    raw = call()
    return {"content": raw.content, "parsed": raw.parse().content} | sent(raw)


def take_binary(call: Call) -> Seen:
    result = call()
    content = {"type": type(result), "content": result.content, "read": result.read()}
    return content | http(result.response)


def take_open(call: Call) -> Seen:
    with call() as response:
        return {"body": response.read(), "value": anatomy(response.parse())} | sent(response)


def take_open_chunks(call: Call) -> Seen:
    with call() as response:
        return {"chunks": list(response.iter_bytes())} | sent(response)


def take_open_lines(call: Call) -> Seen:
    with call() as response:
        return {"lines": list(response.iter_lines())} | sent(response)


def take_open_events(call: Call) -> Seen:
    with call() as response:
        return {"events": [anatomy(item) for item in response.parse()]} | sent(response)


def take_chat_helper(call: Call) -> Seen:
    with call() as stream:
        events = [anatomy(item) for item in stream]
        return {"events": events, "final": anatomy(stream.get_final_completion())}


def take_response_helper(call: Call) -> Seen:
    with call() as stream:
        events = [anatomy(item) for item in stream]
        return {"events": events, "final": anatomy(stream.get_final_response())}


# -- async ----------------------------------------------------------------------------------------


async def atake_value(call: Call) -> Seen:
    return {"value": anatomy(await call())}


async def atake_events(call: Call) -> Seen:
    stream = await call()
    events = [anatomy(item) async for item in stream]
    return {"type": type(stream), "events": events} | http(stream.response)


async def atake_raw(call: Call) -> Seen:
    raw = await call()
    return {"value": anatomy(raw.parse()), "content": raw.content, "text": raw.text} | sent(raw)


async def atake_raw_events(call: Call) -> Seen:
    raw = await call()
    events = [anatomy(item) async for item in raw.parse()]
    return {"events": events} | sent(raw)


async def atake_raw_binary(call: Call) -> Seen:
    raw = await call()
    return {"content": raw.content, "parsed": raw.parse().content} | sent(raw)


async def atake_binary(call: Call) -> Seen:
    result = await call()
    content = {"type": type(result), "content": result.content, "read": await result.aread()}
    return content | http(result.response)


async def atake_open(call: Call) -> Seen:
    async with call() as response:
        body = await response.read()
        return {"body": body, "value": anatomy(await response.parse())} | sent(response)


async def atake_open_chunks(call: Call) -> Seen:
    async with call() as response:
        return {"chunks": [chunk async for chunk in response.iter_bytes()]} | sent(response)


async def atake_open_lines(call: Call) -> Seen:
    async with call() as response:
        return {"lines": [line async for line in response.iter_lines()]} | sent(response)


async def atake_open_events(call: Call) -> Seen:
    async with call() as response:
        events = [anatomy(item) async for item in await response.parse()]
        return {"events": events} | sent(response)


async def atake_chat_helper(call: Call) -> Seen:
    async with call() as stream:
        events = [anatomy(item) async for item in stream]
        return {"events": events, "final": anatomy(await stream.get_final_completion())}


async def atake_response_helper(call: Call) -> Seen:
    async with call() as stream:
        events = [anatomy(item) async for item in stream]
        return {"events": events, "final": anatomy(await stream.get_final_response())}


TAKES: dict[str, tuple[Callable[[Call], Seen], Callable[[Call], Awaitable[Seen]]]] = {
    "value": (take_value, atake_value),
    "events": (take_events, atake_events),
    "raw": (take_raw, atake_raw),
    "raw events": (take_raw_events, atake_raw_events),
    "raw binary": (take_raw_binary, atake_raw_binary),
    "binary": (take_binary, atake_binary),
    "open": (take_open, atake_open),
    "open chunks": (take_open_chunks, atake_open_chunks),
    "open lines": (take_open_lines, atake_open_lines),
    "open events": (take_open_events, atake_open_events),
    "chat helper": (take_chat_helper, atake_chat_helper),
    "response helper": (take_response_helper, atake_response_helper),
}


class Colour:
    """Sync or async callers: the same questions, asked from tests that know no difference.

    Args:
        name: ``sync`` or ``async``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._runner = asyncio.Runner()
        self._clients: list[Any] = []

    def __repr__(self) -> str:
        return self.name

    def wait(self, awaitable: Any) -> Any:
        """The result of an SDK call of this colour, in the caller's own context."""
        if self.name == "sync":
            return awaitable

        async def until_done() -> Any:
            return await awaitable

        return self._runner.run(until_done(), context=contextvars.copy_context())

    def client(self, upstream: Upstream, kind: str = "openai", **options: Any) -> Any:
        """A client of this colour; for ``module`` the SDK's own module, pointed at the stand-in."""
        if kind == "module":
            openai.api_key, openai.base_url = "sk-test", f"{upstream.base_url}/"
            return openai
        options = {"api_key": "sk-test", **options}
        if kind == "azure":
            make = openai.AzureOpenAI if self.name == "sync" else openai.AsyncAzureOpenAI
            options = {"azure_endpoint": upstream.root_url, "api_version": "2025-01-01", **options}
        else:
            make = openai.OpenAI if self.name == "sync" else openai.AsyncOpenAI
            options = {"base_url": upstream.base_url, **options}
        client = make(**options)
        self._clients.append(client)
        return client

    def ask(self, client: Any, shape: Shape, n: int = 1, **more: Any) -> Seen:
        """Make the n-th variant of a shape's call, consume its result, and say what was seen."""
        take, atake = TAKES[shape.take]

        def call() -> Any:
            method = client
            for name in shape.method.split("."):
                method = getattr(method, name)
            return method(**shape.ask(n), **more)

        return take(call) if self.name == "sync" else self.wait(atake(call))

    def close(self) -> None:
        """Close the clients that were made, and the event loop."""
        for client in self._clients:
            self.wait(client.close())
        self._runner.close()


@contextmanager
def asking(shape: Shape, up: Upstream, name: str) -> Iterator[Ask]:
    """Calls of one shape in a colour, all by one client."""
    colour = Colour(name)
    try:
        yield partial(colour.ask, colour.client(up, shape.client, max_retries=0), shape)
    finally:
        colour.close()
        openai.api_key = openai.base_url = None
        openai._reset_client()


def unmarked(seen: Seen) -> Seen:
    """What was seen, without the mark of a hit."""
    return {name: value for name, value in seen.items() if name != "mark"}
