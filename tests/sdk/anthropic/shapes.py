"""The shapes of calls to the Anthropic SDK that the cache must serve: one row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import anthropic
from pydantic import BaseModel

INSTALLED = tuple(int(part) for part in anthropic.__version__.split(".")[:2])


class City(BaseModel):
    """What the parsed shapes ask for."""

    name: str
    people: int


@dataclass(frozen=True)
class Shape:
    """One way to call the SDK.

    Args:
        name: what it is called in test ids.
        method: the path of the method from the client.
        asks: the arguments of its n-th variant; different variants are different requests.
        take: how the result is consumed, a name in `asking.TAKES`.
        client: the kind of client: ``anthropic``, ``bedrock`` or ``vertex``.
    """

    name: str
    method: str
    asks: Callable[..., dict[str, Any]]
    take: str = "value"
    client: str = "anthropic"
    colours: ClassVar[tuple[str, ...]] = ("sync", "async")

    def ask(self, n: int, colour: str = "sync") -> dict[str, Any]:
        """The arguments of the n-th variant; a tool's function has a colour of its own."""
        if self.take == "runner":
            return {**self.asks(n), "tools": [TIME_TOOLS[colour]]}
        return self.asks(n)


def message(n: int, /, **more: Any) -> dict[str, Any]:
    """A request for a message."""
    question = {"role": "user", "content": f"Question {n}"}
    return {"model": "claude-x", "max_tokens": 100, "messages": [question], **more}


def count(n: int, /, **more: Any) -> dict[str, Any]:
    """A request to count tokens."""
    return {"model": "claude-x", "messages": [{"role": "user", "content": f"Words {n}"}], **more}


def also(ask: Callable[..., dict[str, Any]], **more: Any) -> Callable[..., dict[str, Any]]:
    """The same request with more arguments."""
    return lambda n, **rest: ask(n, **more, **rest)


def once_only(n: int) -> dict[str, Any]:
    """A request whose messages can be read once."""
    return {**message(n), "messages": iter(message(n)["messages"])}


@anthropic.beta_tool
def time(town: str) -> str:
    """The time in a town.

    Args:
        town: which town.
    """
    return f"noon in {town}"


@anthropic.beta_async_tool(name="time")
async def atime(town: str) -> str:
    """The time in a town.

    Args:
        town: which town.
    """
    return f"noon in {town}"


TIME_TOOLS: dict[str, Any] = {"sync": time, "async": atime}
WEATHER = {
    "name": "weather",
    "description": "The weather in a town.",
    "input_schema": {
        "type": "object",
        "properties": {"town": {"type": "string"}},
        "required": ["town"],
    },
}
TOOLS = {"tools": [WEATHER], "tool_choice": {"type": "any"}}
BETAS = {"betas": ["a-2025-01-01", "b-2025-01-01"]}
RAW = "with_raw_response"
OPEN = "with_streaming_response"


def family(
    prefix: str, method: str, ask: Callable[..., dict[str, Any]], client: str = "anthropic"
) -> tuple[Shape, ...]:
    """The shapes that every family of messages has."""
    streamed = also(ask, stream=True)
    return (
        Shape(prefix, f"{method}.create", ask, client=client),
        Shape(f"{prefix}-stream", f"{method}.create", streamed, "events", client),
        Shape(f"{prefix}-helper", f"{method}.stream", ask, "helper", client),
        Shape(f"{prefix}-raw", f"{method}.{RAW}.create", ask, "raw", client),
    )


SHAPES = (
    *family("messages", "messages", message),
    Shape("tools", "messages.create", also(message, **TOOLS)),
    Shape("tools-stream", "messages.create", also(message, stream=True, **TOOLS), "events"),
    Shape("tools-helper", "messages.stream", also(message, **TOOLS), "helper"),
    Shape("iterator", "messages.create", once_only),
    Shape("text", "messages.stream", message, "text"),
    Shape("parsed", "messages.parse", also(message, output_format=City)),
    Shape("parsed-helper", "messages.stream", also(message, output_format=City), "helper"),
    Shape("raw-stream", f"messages.{RAW}.create", also(message, stream=True), "raw events"),
    Shape("open", f"messages.{OPEN}.create", message, "open"),
    Shape("open-chunks", f"messages.{OPEN}.create", also(message, stream=True), "open chunks"),
    Shape("open-stream", f"messages.{OPEN}.create", also(message, stream=True), "open events"),
    Shape("extra-body", "messages.create", lambda n: message(0, extra_body={"tier": n})),
    Shape("extra-query", "messages.create", lambda n: message(0, extra_query={"tier": n})),
    Shape(
        "extra-headers", "messages.create", lambda n: message(0, extra_headers={"x-tier": str(n)})
    ),
    Shape("count", "messages.count_tokens", count),
    Shape("count-raw", f"messages.{RAW}.count_tokens", count, "raw"),
    *family("beta", "beta.messages", also(message, **BETAS)),
    Shape("beta-betas", "beta.messages.create", lambda n: message(0, betas=[f"b-{n}"])),
    Shape("beta-parsed", "beta.messages.parse", also(message, output_format=City)),
    Shape("beta-count", "beta.messages.count_tokens", also(count, **BETAS)),
    Shape("beta-runner", "beta.messages.tool_runner", message, "runner"),
    *family("bedrock", "messages", message, "bedrock"),
    *family("bedrock-beta", "beta.messages", also(message, **BETAS), "bedrock"),
    Shape("bedrock-tools", "messages.create", also(message, **TOOLS), client="bedrock"),
    Shape(
        "bedrock-open",
        f"messages.{OPEN}.create",
        also(message, stream=True),
        "open chunks",
        "bedrock",
    ),
    *family("vertex", "messages", message, "vertex"),
    *family("vertex-beta", "beta.messages", also(message, **BETAS), "vertex"),
    Shape("vertex-count", "messages.count_tokens", count, client="vertex"),
)

BY_NAME = {shape.name: shape for shape in SHAPES}
