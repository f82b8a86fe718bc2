"""One request of an SDK, and how its answer becomes an entry and an entry its answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cachewrap.call.terms import Exchange
from cachewrap.entry import Entry, HttpAnswer, Kind
from cachewrap.errors import CorruptEntryError
from cachewrap.format import codec
from cachewrap.http.events import (
    CONTENT_TYPE as FRAMES,
    read_any_stream,
    read_binary_stream,
    read_events,
    read_lines,
    read_stream,
)
from cachewrap.http.response import value_of
from cachewrap.policy import Policy
from cachewrap.request import key
from cachewrap.telemetry.events import wanted
from cachewrap.telemetry.usage import NO_USAGE, Usage, usage_of

_DEPLOYMENT: Final = re.compile(r"^(?:openai/)?deployments/[^/]+/")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint whose answers may be cached.

    Args:
        path: its path below the base URL, without slashes at the ends.
        media: whether it may answer with something else than JSON or events (sound, text).
        status: the values of a JSON answer's ``status`` that may be stored; empty: it has none.
        wire: whether nothing is known of its API but what passes over the wire.
    """

    path: str
    media: bool = False
    status: frozenset[str] = frozenset()
    wire: bool = False

    @property
    def source(self) -> str:
        """How messages and facts name it."""
        return f"POST /{self.path}"


@dataclass(frozen=True, slots=True)
class Bypass:
    """A request that no cache serves: what was called, and why it is left alone."""

    source: str
    reason: str


def classify(
    endpoints: Mapping[str, Endpoint], client: Any, options: Any, body: Any
) -> Endpoint | Bypass:
    """The endpoint of a request that may be cached, else why not.

    Args:
        endpoints: those that may be cached, by path.
        client: the SDK's client.
        options: its request options.
        body: the JSON body as it will be sent.
    """
    method = options.method.upper()
    path = _path(client, options.url)
    endpoint = endpoints.get(path) if method == "POST" else None
    if endpoint is None:
        return Bypass(f"{method} /{path}", "endpoint" if method == "POST" else "method")
    # Only some versions of the SDKs know a body that is not JSON.
    if getattr(options, "content", None) is not None or not isinstance(body, (Mapping, type(None))):
        return Bypass(endpoint.source, "raw body")
    if body and body.get("background"):
        return Bypass(endpoint.source, "background")
    if body and body.get("conversation") is not None:
        return Bypass(endpoint.source, "conversation")
    return endpoint


def _path(client: Any, url: str) -> str:
    path = url.partition("?")[0]
    if "://" in path:
        base = str(client.base_url).partition("?")[0]
        if not path.startswith(base):
            return path
        path = path[len(base) :]
    return _DEPLOYMENT.sub("", path.strip("/"))


When: TypeAlias = Callable[[Any], bool]
"""Decides whether an answer is stored: takes what the SDK call returns; of a stream, its events."""

_PREFIX: Final = key.salted()


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer that a call gave.

    Args:
        answer: the HTTP answer to store or to build a result from; None if it is not to be stored.
        usage: what the answer reports.
        result: what the SDK made of it; None for an answer that was read from the store.
    """

    answer: HttpAnswer | None
    usage: Usage | None = None
    result: Any = None


class SdkExchange(Exchange[Answered]):
    """The exchange of one SDK call.

    Args:
        endpoint: what is called.
        request: the canonical request.
        policy: of the cache that serves the call.
        when: decides whether the answer is stored; None stores it.
        foreseen: what may be the same request: if it is, its key is taken.

    Raises `UnkeyableError` for a request that has no canonical form.
    """

    __slots__ = ("_hashed", "_when", "endpoint", "key", "policy", "request")

    policy: Policy
    _hashed: bytearray

    def __init__(
        self,
        endpoint: Endpoint,
        request: dict[str, Any],
        policy: Policy,
        when: When | None = None,
        foreseen: SdkExchange | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.request = request
        # `==` takes 1 for True, but no SDK makes the one of the other.
        if foreseen is not None and foreseen.request == request:
            self.key, self._hashed = foreseen.key, foreseen._hashed
        else:
            self.key, self._hashed = key.hashed(_PREFIX, request)
        self.policy = policy  # pyright: ignore[reportIncompatibleMethodOverride]
        self._when = when

    @property
    def source(self) -> str:
        """What is called, for messages."""
        return self.endpoint.source

    @property
    def model(self) -> str:
        """The model that is asked, for counting."""
        body = self.request.get("body")
        model = body.get("model") if isinstance(body, dict) else None
        return model if isinstance(model, str) else ""

    @property
    def asked(self) -> bytes:
        """The canonical request, encoded."""
        return bytes(self._hashed[len(_PREFIX) :])

    def load(self, entry: Entry) -> Answered:
        """The stored answer. Raises `CodecError` if it cannot be read."""
        if entry.kind is not Kind.HTTP:
            raise CorruptEntryError(f"an entry of kind {entry.kind.name} holds no HTTP answer")
        answer = codec.decode(Kind.HTTP, entry.answer)
        if not isinstance(answer, HttpAnswer):
            raise CorruptEntryError(f"expected an HTTP answer, found {type(answer).__name__}")
        return Answered(answer)

    def pack(self, result: Answered) -> tuple[Kind, bytes, Usage] | None:
        """The answer, encoded, and what it reports; None where it is not to be stored."""
        answer = result.answer
        if answer is None:
            return None
        if self._when is not None:
            shown = _content(answer) if self.endpoint.wire else _shown(result, answer)
            if not wanted(self._when, shown, self.source):
                return None
        return (*codec.encode(answer), result.usage or NO_USAGE)


def _shown(answered: Answered, answer: HttpAnswer) -> Any:
    """What a call returned, for `When`: of a raw response what it is parsed to."""
    result = answered.result
    kind = type(result).__name__
    if kind == "LegacyAPIResponse":
        return result.parse()
    if result is not None and not kind.endswith("APIResponse"):
        return result
    return _content(answer)


def _content(answer: HttpAnswer) -> Any:
    """The events of an answer, or the JSON in it, or its bytes."""
    body = b"".join(answer.chunks)
    if answer.streamed and (events := read_events(body)):
        return events
    try:
        return json.loads(body)
    except ValueError:
        return body


# -- answers that may be stored ----------------------------------------------------------------


_EVENTS: Final = "text/event-stream"
_LINES: Final = frozenset({"application/x-ndjson", "application/stream+json", "application/jsonl"})
_PAGE: Final = frozenset({"text/html", "application/xhtml+xml"})


def read_answer(
    endpoint: Endpoint, answer: HttpAnswer, *, stream: bool, ended: bool, framed: bool
) -> Usage | None:
    """What an answer that may be stored reports, None for one that may not.

    Args:
        endpoint: what was called.
        answer: what upstream answered, decoded.
        stream: whether a stream was asked for.
        ended: whether the body came to its own end, rather than being closed by its reader.
        framed: whether the transport would have noticed a body that was cut off.
    """
    try:
        if endpoint.wire:
            return _read_wire(endpoint, answer, ended, framed)
        return _read(endpoint, answer, stream, ended, framed)
    except (AttributeError, TypeError, ValueError):
        # The SDK made something of it, but it is not of a shape that any API documents.
        return None


def _read(
    endpoint: Endpoint, answer: HttpAnswer, stream: bool, ended: bool, framed: bool
) -> Usage | None:
    if answer.status != 200:
        return None
    body = b"".join(answer.chunks)
    kind = _content_type(answer)
    if kind == _EVENTS:
        return read_stream(body, ended=ended) if stream else None
    if kind == FRAMES:
        return read_binary_stream(body) if stream else None
    if not ended:
        return None
    if kind.endswith("json"):
        # A stream that was answered with plain JSON is read as an empty stream by the SDK.
        return None if stream else _read_json(endpoint, body)
    if endpoint.media and framed and body and kind not in _PAGE:
        return Usage()
    return None


def _read_wire(endpoint: Endpoint, answer: HttpAnswer, ended: bool, framed: bool) -> Usage | None:
    """The same for an API of which only the wire is known: what came to its end is whole."""
    body = b"".join(answer.chunks)
    if answer.status != 200 or not body:
        return None
    kind = _content_type(answer)
    if kind == _EVENTS:
        return read_any_stream(body, ended=ended and framed)
    if not (ended and framed):
        return None
    if kind in _LINES:
        return read_lines(body)
    if kind.endswith("json"):
        value = json.loads(body)
        parts = value if isinstance(value, list) else [value]
        if any(isinstance(part, Mapping) and part.get("error") for part in parts):
            return None
        return usage_of(value)
    return None if kind in _PAGE else Usage()


def _read_json(endpoint: Endpoint, body: bytes) -> Usage | None:
    try:
        value = json.loads(body)
    except ValueError:
        return None
    if not isinstance(value, Mapping):
        # A transcription asked for as text is a JSON string for some servers.
        return Usage() if endpoint.media else None
    if value.get("error") or (endpoint.status and value.get("status") not in endpoint.status):
        return None
    choices = value.get("choices")
    if isinstance(choices, list) and any(
        isinstance(choice, Mapping) and choice.get("error") for choice in choices
    ):
        return None
    return usage_of(value)


def _content_type(answer: HttpAnswer) -> str:
    kind = value_of(answer.headers, "content-type") or ""
    return kind.partition(";")[0].strip().lower()
