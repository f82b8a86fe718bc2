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
from cachewrap.http.events import read_events
from cachewrap.policy import Policy
from cachewrap.request import key
from cachewrap.telemetry.faults import wanted
from cachewrap.telemetry.usage import NO_USAGE, Usage

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
        self.policy = policy
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
