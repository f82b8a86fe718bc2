"""The shapes of SDK calls that the cache must serve: one row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openai
from pydantic import BaseModel

INSTALLED = tuple(int(part) for part in openai.__version__.split(".")[:2])


class City(BaseModel):
    """What the parsed shapes ask for."""

    name: str
    people: int
    rivers: list[str]


@dataclass(frozen=True)
class Shape:
    """One way to call the SDK.

    Args:
        name: what it is called in test ids.
        method: the path of the method from the client.
        ask: the arguments of its n-th variant; different variants are different requests.
        take: how the result is consumed, a name in `asking.TAKES`.
        since: the first SDK version that has it.
        before: the first SDK version that has it no more.
        client: the kind of client: ``openai``, ``azure`` or ``module``.
    """

    name: str
    method: str
    ask: Callable[[int], dict[str, Any]]
    take: str = "value"
    since: tuple[int, int] = (1, 0)
    before: tuple[int, int] = (99, 0)
    client: str = "openai"

    @property
    def available(self) -> bool:
        """Whether the installed SDK has it."""
        return self.since <= INSTALLED < self.before

    @property
    def colours(self) -> tuple[str, ...]:
        """The module-level client has no async twin."""
        return ("sync",) if self.client == "module" else ("sync", "async")


def chat(n: int, /, **more: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": "gpt-x", "messages": [{"role": "user", "content": f"Question {n}"}], **more}


def respond(n: int, /, **more: Any) -> dict[str, Any]:
    """A request to the Responses API."""
    return {"model": "gpt-x", "input": f"Question {n}", **more}


def also(ask: Callable[..., dict[str, Any]], **more: Any) -> Callable[[int], dict[str, Any]]:
    """The same request with more arguments."""
    return lambda n: ask(n, **more)


def picture(n: int) -> tuple[str, bytes, str]:
    """A file to upload, given as a tuple."""
    return ("a.png", b"\x89PNG\r\n\x1a\n" + bytes([n, 0, 13, 10, 255]), "image/png")


def transcribe(n: int, /, **more: Any) -> dict[str, Any]:
    """A request for a transcription."""
    return {"model": "whisper-x", "file": ("a.wav", b"RIFF" + bytes([n])), **more}


def speak(n: int) -> dict[str, Any]:
    """A request for speech."""
    return {"model": "tts-x", "voice": "alloy", "input": f"Say {n}"}


def embed(n: int) -> dict[str, Any]:
    """A request for one embedding as floats."""
    return {"model": "m", "input": f"a{n}", "encoding_format": "float"}


USAGE = {"include_usage": True}
WEATHER = {
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"town": {"type": "string"}},
        "required": ["town"],
        "additionalProperties": False,
    },
    "strict": True,
}
TOOLS = [{"type": "function", "function": WEATHER}]
CHAT = "chat.completions"
BETA = "beta.chat.completions"
RAW = "with_raw_response"
OPEN = "with_streaming_response"
PARSED = (1, 92)
RESPONSES = (1, 66)

TABLE = (
    Shape("chat", f"{CHAT}.create", chat),
    Shape("chat-n", f"{CHAT}.create", also(chat, n=3, temperature=0.5)),
    Shape("chat-tools", f"{CHAT}.create", also(chat, tools=TOOLS, tool_choice="required")),
    Shape("chat-json", f"{CHAT}.create", also(chat, response_format={"type": "json_object"})),
    Shape("chat-stream", f"{CHAT}.create", also(chat, stream=True), "events"),
    Shape(
        "chat-stream-tools",
        f"{CHAT}.create",
        also(chat, stream=True, tools=TOOLS, tool_choice="required"),
        "events",
    ),
    Shape(
        "chat-stream-usage",
        f"{CHAT}.create",
        also(chat, stream=True, stream_options=USAGE),
        "events",
        since=(1, 26),
    ),
    Shape("chat-raw", f"{CHAT}.{RAW}.create", chat, "raw"),
    Shape("chat-raw-stream", f"{CHAT}.{RAW}.create", also(chat, stream=True), "raw events"),
    Shape("chat-open", f"{CHAT}.{OPEN}.create", chat, "open"),
    Shape("chat-open-chunks", f"{CHAT}.{OPEN}.create", also(chat, stream=True), "open chunks"),
    Shape("chat-open-lines", f"{CHAT}.{OPEN}.create", also(chat, stream=True), "open lines"),
    Shape("chat-open-stream", f"{CHAT}.{OPEN}.create", also(chat, stream=True), "open events"),
    Shape(
        "chat-parsed-beta",
        f"{BETA}.parse",
        also(chat, response_format=City),
        since=(1, 40),
        before=PARSED,
    ),
    Shape("chat-helper-beta", f"{BETA}.stream", chat, "chat helper", since=(1, 40), before=PARSED),
    Shape("chat-parsed", f"{CHAT}.parse", also(chat, response_format=City), since=PARSED),
    Shape(
        "chat-parsed-raw",
        f"{CHAT}.{RAW}.parse",
        also(chat, response_format=City),
        "raw",
        since=PARSED,
    ),
    Shape("chat-helper", f"{CHAT}.stream", chat, "chat helper", since=PARSED),
    Shape(
        "chat-helper-parsed",
        f"{CHAT}.stream",
        also(chat, response_format=City),
        "chat helper",
        since=PARSED,
    ),
    Shape("chat-extra-body", f"{CHAT}.create", lambda n: chat(0, extra_body={"tier": n})),
    Shape("chat-extra-query", f"{CHAT}.create", lambda n: chat(0, extra_query={"tier": n})),
    Shape(
        "chat-extra-headers",
        f"{CHAT}.create",
        lambda n: chat(0, extra_headers={"x-tier": str(n)}),
    ),
    Shape("chat-azure", f"{CHAT}.create", chat, client="azure"),
    Shape("chat-azure-stream", f"{CHAT}.create", also(chat, stream=True), "events", client="azure"),
    Shape("chat-module", f"{CHAT}.create", chat, client="module"),
    Shape(
        "chat-module-stream", f"{CHAT}.create", also(chat, stream=True), "events", client="module"
    ),
    Shape("responses", "responses.create", respond, since=RESPONSES),
    Shape(
        "responses-tools",
        "responses.create",
        also(respond, tools=[{"type": "function", **WEATHER}], tool_choice="required"),
        since=RESPONSES,
    ),
    Shape(
        "responses-stream",
        "responses.create",
        also(respond, stream=True),
        "events",
        since=RESPONSES,
    ),
    Shape("responses-raw", f"responses.{RAW}.create", respond, "raw", since=RESPONSES),
    Shape(
        "responses-raw-stream",
        f"responses.{RAW}.create",
        also(respond, stream=True),
        "raw events",
        since=RESPONSES,
    ),
    Shape("responses-open", f"responses.{OPEN}.create", respond, "open", since=RESPONSES),
    Shape(
        "responses-open-chunks",
        f"responses.{OPEN}.create",
        also(respond, stream=True),
        "open chunks",
        since=RESPONSES,
    ),
    Shape("responses-parsed", "responses.parse", also(respond, text_format=City), since=RESPONSES),
    Shape("responses-helper", "responses.stream", respond, "response helper", since=RESPONSES),
    Shape(
        "responses-helper-parsed",
        "responses.stream",
        also(respond, text_format=City),
        "response helper",
        since=RESPONSES,
    ),
    Shape("responses-azure", "responses.create", respond, since=RESPONSES, client="azure"),
    Shape("completions", "completions.create", lambda n: {"model": "m", "prompt": f"Go {n}"}),
    Shape(
        "completions-stream",
        "completions.create",
        lambda n: {"model": "m", "prompt": f"Go {n}", "stream": True},
        "events",
    ),
    Shape("embeddings", "embeddings.create", lambda n: {"model": "m", "input": [f"a{n}", "b"]}),
    Shape(
        "embeddings-float",
        "embeddings.create",
        lambda n: {"model": "m", "input": f"a{n}", "encoding_format": "float"},
    ),
    Shape("embeddings-raw", f"embeddings.{RAW}.create", embed, "raw"),
    Shape("embeddings-module", "embeddings.create", embed, client="module"),
    Shape("moderations", "moderations.create", lambda n: {"input": f"text {n}"}),
    Shape("images", "images.generate", lambda n: {"model": "m", "prompt": f"A cat {n}"}),
    Shape(
        "images-stream",
        "images.generate",
        lambda n: {"model": "m", "prompt": f"A cat {n}", "stream": True},
        "events",
        since=(1, 98),
    ),
    Shape("image-edit", "images.edit", lambda n: {"prompt": "A hat", "image": picture(n)}),
    Shape(
        "image-edit-prompt",
        "images.edit",
        lambda n: {"prompt": f"Hat {n}", "image": picture(0), "mask": picture(1)},
    ),
    Shape("speech", "audio.speech.create", speak, "binary"),
    Shape("speech-raw", f"audio.speech.{RAW}.create", speak, "raw binary"),
    Shape("speech-open-chunks", f"audio.speech.{OPEN}.create", speak, "open chunks"),
    Shape("transcription", "audio.transcriptions.create", transcribe),
    Shape(
        "transcription-text",
        "audio.transcriptions.create",
        also(transcribe, response_format="text"),
    ),
    Shape(
        "transcription-stream",
        "audio.transcriptions.create",
        also(transcribe, stream=True),
        "events",
        since=(1, 68),
    ),
    Shape("translation", "audio.translations.create", transcribe),
    Shape("transcription-azure", "audio.transcriptions.create", transcribe, client="azure"),
)


SHAPES = tuple(shape for shape in TABLE if shape.available)
"""The rows that the installed SDK has."""

BY_NAME = {shape.name: shape for shape in SHAPES}
