"""Calling the Anthropic SDK in both colours, and noting everything that a caller can see."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
from standin import Upstream

from sdk.anthropic.shapes import Shape
from sdk.openai import asking
from sdk.openai.asking import Call, Seen, anatomy, http, sent

SECRETS = {
    "anthropic": {"api_key": "top-secret-key"},
    "bedrock": {
        "aws_access_key": "AKIATOPSECRETACCESS",
        "aws_secret_key": "top-secret-key",
        "aws_session_token": "top-secret-session",
        "aws_region": "eu-west-1",
    },
    "vertex": {"access_token": "top-secret-token", "region": "europe-west1", "project_id": "p1"},
}
"""The credentials of each kind of client, and what else it must be told."""

CLASSES = {
    "anthropic": (anthropic.Anthropic, anthropic.AsyncAnthropic),
    "bedrock": (anthropic.AnthropicBedrock, anthropic.AsyncAnthropicBedrock),
    "vertex": (anthropic.AnthropicVertex, anthropic.AsyncAnthropicVertex),
}


def take_raw(call: Call) -> Seen:
    raw = call()
    return {"value": anatomy(raw.parse()), "body": raw.http_response.content} | sent(raw)


def take_helper(call: Call) -> Seen:
    with call() as stream:
        events = [anatomy(item) for item in stream]
        return {"events": events, "final": anatomy(stream.get_final_message())} | http(
            stream.response
        )


def take_text(call: Call) -> Seen:
    with call() as stream:
        return {"text": list(stream.text_stream)} | http(stream.response)


def take_runner(call: Call) -> Seen:
    return {"final": anatomy(call().until_done())}


async def parsed(response: Any) -> Any:
    """What a raw response holds: only some versions have to be awaited."""
    value = response.parse()
    return await value if inspect.isawaitable(value) else value


async def atake_raw(call: Call) -> Seen:
    raw = await call()
    value = anatomy(await parsed(raw))
    return {"value": value, "body": raw.http_response.content} | sent(raw)


async def atake_raw_events(call: Call) -> Seen:
    raw = await call()
    return {"events": [anatomy(item) async for item in await parsed(raw)]} | sent(raw)


async def atake_helper(call: Call) -> Seen:
    async with call() as stream:
        events = [anatomy(item) async for item in stream]
        final = anatomy(await stream.get_final_message())
        return {"events": events, "final": final} | http(stream.response)


async def atake_text(call: Call) -> Seen:
    async with call() as stream:
        return {"text": [text async for text in stream.text_stream]} | http(stream.response)


async def atake_runner(call: Call) -> Seen:
    return {"final": anatomy(await call().until_done())}


TAKES: dict[str, tuple[Callable[[Call], Seen], Callable[[Call], Awaitable[Seen]]]] = {
    **asking.TAKES,
    "raw": (take_raw, atake_raw),
    "raw events": (asking.take_raw_events, atake_raw_events),
    "helper": (take_helper, atake_helper),
    "text": (take_text, atake_text),
    "runner": (take_runner, atake_runner),
}


class Colour(asking.Colour):
    """Sync or async callers of the Anthropic SDK."""

    def client(self, upstream: Upstream, kind: str = "anthropic", **options: Any) -> Any:
        """A client of this colour and kind, pointed at the stand-in."""
        base_url = upstream.base_url if kind == "vertex" else upstream.root_url
        make = CLASSES[kind][self.name == "async"]
        client = make(**{"base_url": base_url, **SECRETS[kind], **options})
        self._clients.append(client)
        return client

    def ask(self, client: Any, shape: Any, n: int = 1, **more: Any) -> Seen:
        """Make the n-th variant of a shape's call, consume its result, and say what was seen."""
        assert isinstance(shape, Shape)
        take, atake = TAKES[shape.take]

        def call() -> Any:
            method = client
            for name in shape.method.split("."):
                method = getattr(method, name)
            return method(**shape.ask(n, self.name), **more)

        return take(call) if self.name == "sync" else self.wait(atake(call))
