"""One request of an SDK, and how its answer becomes an entry and an entry its answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cachewrap.call.terms import Exchange, Reply, wrong_kind
from cachewrap.entry import Entry, HttpAnswer, Kind
from cachewrap.errors import CorruptEntryError
from cachewrap.format import codec
from cachewrap.http.answers import masked, served_headers, value_of
from cachewrap.http.encodings import FRAMES
from cachewrap.http.events import (
    Judged,
    is_error,
    is_whole_by_events,
    lacking,
    lacking_in_parts,
    parsed,
    read_any_stream,
    read_binary_stream,
    read_events,
    read_lines,
    read_stream,
    why_unreadable,
)
from cachewrap.http.request import split_url
from cachewrap.http.response import read_seconds
from cachewrap.http.routes import reaches_model
from cachewrap.ledger.recorder import CUT_OFF
from cachewrap.policy import Policy
from cachewrap.request import key
from cachewrap.telemetry.events import wanted
from cachewrap.telemetry.reading import model_in, usage_at, usage_of, usage_of_parts
from cachewrap.telemetry.usage import NO_USAGE, Usage

_DEPLOYMENT: Final = re.compile(r"^(?:openai/)?deployments/[^/]+/")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint whose answers may be cached.

    Args:
        path: its path below the base URL, without slashes at the ends.
        media: whether it may answer with something else than JSON or events (sound, text).
        wire: whether nothing is known of its API but what passes over the wire.
    """

    path: str
    media: bool = False
    wire: bool = False

    @property
    def source(self) -> str:
        """How messages and facts name it."""
        return f"POST /{self.path}"


@dataclass(frozen=True, slots=True)
class Bypass:
    """A request that no cache serves: what was called, and why it is left alone.

    Args:
        source: how messages name what was called.
        reason: why, in a word or two, for counting.
        asks_model: whether it makes a model work, so that mode replay lets it go nowhere.
    """

    source: str
    reason: str
    asks_model: bool = True


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
        reason = "endpoint" if method == "POST" else "method"
        place = path if "://" in path else f"/{path}"
        return Bypass(f"{method} {place}", reason, reaches_model(method, path))
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
            return split_url(path)[0]
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
        reason: why it is not to be stored; "" where it is.
    """

    answer: HttpAnswer | None
    usage: Usage | None = None
    result: Any = None
    reason: str = ""


class CallersParser:
    """A parser of the SDK's for what the caller wants of an answer: what it raises is his."""

    def __init__(self, parse: Callable[[Any], Any]) -> None:
        self._parse = parse
        self.failed = False

    def __call__(self, result: Any) -> Any:
        try:
            return self._parse(result)
        except BaseException:
            self.failed = True
            raise


class SdkExchange(Exchange[Answered]):
    """The exchange of one SDK call.

    Args:
        endpoint: what is called.
        request: the canonical request.
        policy: of the cache that serves the call.
        when: decides whether the answer is stored; None stores it.
        foreseen: what may be the same request: if it is, its key is taken.
        looks: whether `load` looks into an answer; else who reads it does.
        taken: the credentials that were left out of the request, and are of its answer.

    Attributes:
        parser: what the SDK puts the caller's own reading of an answer in, where he has one.
        timeout: gives the timeout that the caller has set, as his library takes it, if he has one.
        waited: whether an open answer was stored by another call, for which this one waited.

    Raises `UnkeyableError` for a request that has no canonical form.
    """

    __slots__ = (
        *("_hashed", "_looks", "_packed", "_refused", "_when"),
        *("by", "endpoint", "key", "parser", "policy", "request", "taken", "timeout", "waited"),
    )

    policy: Policy
    kinds = (Kind.HTTP,)
    _hashed: bytearray | None  # None where it is not what was asked

    def __init__(
        self,
        endpoint: Endpoint,
        request: dict[str, Any],
        policy: Policy,
        when: When | None = None,
        foreseen: SdkExchange | None = None,
        *,
        looks: bool = True,
        taken: Collection[str] = (),
    ) -> None:
        self.endpoint = endpoint
        self.request = request
        rules = policy.same
        # `==` takes 1 for True, but no SDK makes the one of the other.
        if foreseen is not None and foreseen.request == request and foreseen.policy.same == rules:
            self.key, self._hashed, self.by = foreseen.key, foreseen._hashed, foreseen.by
        elif rules is None:
            self.key, self._hashed = key.hashed(_PREFIX, request)
            self.by = ()
        else:
            counted, self.by = rules.apply(request)
            self.key, self._hashed = key.hashed(rules.prefix(), counted)[0], None
        self.policy = policy  # pyright: ignore[reportIncompatibleMethodOverride]
        self._when = when
        self._looks = looks
        self.taken = taken
        self._packed = b""  # what came for this call, and was judged then
        self._refused: dict[bytes, str] = {}
        self.parser: CallersParser | None = None
        self.timeout: Callable[[], object] | None = None
        self.waited = False

    @property
    def source(self) -> str:
        """What is called, for messages."""
        return self.endpoint.source

    @property
    def model(self) -> str:
        """The model that is asked, for counting."""
        body = self.request.get("body")
        model = body.get("model") if isinstance(body, dict) else None
        return model if isinstance(model, str) else model_in(self.endpoint.path)

    @property
    def asked(self) -> bytes:
        """The canonical request, encoded."""
        hashed = self._hashed
        return key.encode(self.request) if hashed is None else bytes(hashed[len(_PREFIX) :])

    @property
    def results(self) -> int:
        """How many results are asked for, as far as that is said."""
        body = self.request.get("body")
        asked = body.get("n") if isinstance(body, dict) else None
        return asked if isinstance(asked, int) else 1

    @property
    def stream(self) -> bool:
        """Whether the request asks for a stream."""
        return "stream" in self.request

    def patience(self) -> float | None:
        """See `Exchange`."""
        return None if self.timeout is None else read_seconds(self.timeout())

    def load(self, entry: Entry) -> Answered:
        """The stored answer.

        Raises `CodecError` if it cannot be read, or is none that would be stored.
        """
        if entry.kind is not Kind.HTTP:
            raise wrong_kind(entry, Kind.HTTP)
        answer: HttpAnswer = codec.decode(Kind.HTTP, entry.answer)
        reason = self._refused.get(entry.answer, "") if self._refused else ""
        if answer.status != 200:
            reason = f"status {answer.status}"
        elif self._looks and not reason:
            answer.headers = served_headers(answer)
            if entry.answer is not self._packed:
                reason = _why_unfit(self, answer)
        if reason:
            raise CorruptEntryError(f"it holds no answer to {self.source}: {reason}")
        return Answered(answer)

    def refuse(self, reply: Reply[Any], error: Exception) -> bool:
        """Have `load` raise for a stored answer of which the SDK makes nothing but an error.

        False for an error that is none of the answer's, but of what the caller has made of it.
        """
        if reply.entry is None or (self.parser is not None and self.parser.failed):
            return False
        self._refused[reply.entry.answer] = f"the SDK cannot read it ({type(error).__name__})"
        return True

    def why_unstored(self, result: Answered) -> str:
        """See `Exchange`."""
        return result.reason or "when"

    def wants(self, result: Answered) -> bool:
        """Whether an answer is one that is to be stored, as far as the caller decides on that."""
        if self._when is None or (answer := result.answer) is None:
            return True
        shown = _content(answer) if self.endpoint.wire else _shown(result, answer)
        return wanted(self._when, shown, self.source)

    def pack(self, result: Answered) -> tuple[Kind, bytes, Usage] | None:
        """The answer, encoded, and what it reports; None where it is not to be stored."""
        answer = result.answer
        if answer is None or not self.wants(result):
            return None
        kind, self._packed = codec.encode(masked(answer, self.taken))
        return kind, self._packed, usage_at(self.request["url"], result.usage or NO_USAGE)


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
    except (ValueError, RecursionError):
        return body


# -- answers that may be stored ----------------------------------------------------------------


_EVENTS: Final = "text/event-stream"
LINES: Final = frozenset({"application/x-ndjson", "application/stream+json", "application/jsonl"})
"""Content types of bodies that are JSON line by line."""

_STREAMS: Final = (b"data:", b"event:", b":")
"""How a stream of events begins, whatever type its server gives it."""
_PAGE: Final = frozenset({"text/html", "application/xhtml+xml"})


_ERROR: Final = "error"
_NO_JSON: Final = "no JSON"
_EMPTY: Final = "empty answer"
_UNKNOWN: Final = "unknown form"
_UNFRAMED: Final = "no length"  # of a body, so that it might have been cut off

_LOOKED_INTO: Final = 65_536
"""Bytes of a stored answer, at most, that is looked into before it is served."""


def judged(
    exchange: SdkExchange, answer: HttpAnswer, *, ended: bool, framed: bool, result: Any = None
) -> Answered:
    """An answer that came, and whether it is to be stored. The arguments are those below."""
    found = read_answer(
        exchange.endpoint, answer, stream=exchange.stream, ended=ended, framed=framed
    )
    if isinstance(found, str):
        return Answered(None, None, result, found)
    return Answered(answer, found, result)


def read_answer(
    endpoint: Endpoint, answer: HttpAnswer, *, stream: bool, ended: bool, framed: bool
) -> Judged:
    """What an answer that may be stored reports, else why it may not.

    Args:
        endpoint: what was called.
        answer: what upstream answered, decoded.
        stream: whether a stream was asked for.
        ended: whether the body came to its own end, rather than being closed by its reader.
        framed: whether the transport would have noticed a body that was cut off.
    """
    if answer.status != 200:
        return f"status {answer.status}"
    try:
        if endpoint.wire:
            return _read_wire(endpoint, answer, ended, framed)
        return _read(endpoint, answer, stream, ended, framed)
    except (AttributeError, TypeError, ValueError, RecursionError):
        # The SDK made something of it, but it is not of a shape that any API documents.
        return _UNKNOWN


def _why_unfit(exchange: SdkExchange, answer: HttpAnswer) -> str:
    """Why a stored answer is not served, as far as that shows at little cost; else ""."""
    endpoint, kind, body = exchange.endpoint, _content_type(answer), b"".join(answer.chunks)
    if kind == _EVENTS:
        if "stream" not in exchange.request and not endpoint.wire:
            return "a stream"
        try:
            return why_unreadable(body)
        except RecursionError:
            return _UNKNOWN
    if kind == FRAMES or kind in LINES:
        return ""
    if not kind.endswith("json"):
        return "" if (endpoint.media or endpoint.wire) and kind not in _PAGE else _NO_JSON
    if len(body) > _LOOKED_INTO:
        return ""
    if not endpoint.wire and exchange.stream:
        return "no stream"
    try:
        return _lacking(endpoint, parsed(body))
    except (AttributeError, TypeError, ValueError, RecursionError):
        return _UNKNOWN


def _read(
    endpoint: Endpoint, answer: HttpAnswer, stream: bool, ended: bool, framed: bool
) -> Judged:
    body = b"".join(answer.chunks)
    kind = _content_type(answer)
    if kind == _EVENTS:
        return read_stream(body, ended=ended) if stream else "a stream"
    if kind == FRAMES:
        return read_binary_stream(body) if stream else "a stream"
    if not ended:
        return CUT_OFF
    if kind.endswith("json"):
        # A stream that was answered with plain JSON is read as an empty stream by the SDK.
        return "no stream" if stream else _read_json(endpoint, body)
    if not endpoint.media or kind in _PAGE:
        return _NO_JSON
    if not body:
        return _EMPTY
    if _tells_error(body):
        return _ERROR
    return Usage() if framed else _UNFRAMED


def _read_wire(endpoint: Endpoint, answer: HttpAnswer, ended: bool, framed: bool) -> Judged:
    """The same for an API of which only the wire is known: what came to its end is whole."""
    body = b"".join(answer.chunks)
    if not body:
        return _EMPTY
    kind = _content_type(answer)
    known = is_whole_by_events(endpoint.path)
    plain = known and not kind.endswith("json") and kind not in LINES and kind not in _PAGE
    if kind == _EVENTS or (plain and body.lstrip().startswith(_STREAMS)):
        whole = ended and framed
        found = (read_stream if known else read_any_stream)(body, ended=whole)
        return found if known or isinstance(found, str) else _told(endpoint, body) or found
    if not (ended and framed):
        return _UNFRAMED if ended else CUT_OFF
    if kind in LINES:
        return read_lines(body)
    if kind.endswith("json") or plain:
        return _read_json(endpoint, body)
    if _tells_error(body):
        return _ERROR
    return _NO_JSON if kind in _PAGE else Usage()


def _told(endpoint: Endpoint, body: bytes) -> str:
    return lacking_in_parts(endpoint.path, read_events(body))


def _read_json(endpoint: Endpoint, body: bytes) -> Judged:
    if not body:
        return _EMPTY
    try:
        value = parsed(body)
    except ValueError:
        return _NO_JSON
    told = usage_of_parts if isinstance(value, list) else usage_of
    return _lacking(endpoint, value) or told(value)


def _tells_error(body: bytes) -> bool:
    """Whether what claims to be text or sound is the JSON of an error."""
    if not body.lstrip().startswith(b"{"):
        return False
    try:
        value = parsed(body)
    except ValueError:
        return False
    return isinstance(value, dict) and is_error(value)


def _lacking(endpoint: Endpoint, value: Any) -> str:
    if isinstance(value, Mapping):
        return lacking(endpoint.path, value)
    if endpoint.wire:
        if value is None or value in ("", []):
            return _EMPTY
        if is_whole_by_events(endpoint.path):
            return _UNKNOWN
        return lacking_in_parts(endpoint.path, value) if isinstance(value, list) else ""
    # A transcription asked for as text is a JSON string for some servers.
    return "" if endpoint.media else _UNKNOWN


def _content_type(answer: HttpAnswer) -> str:
    kind = value_of(answer.headers, "content-type") or ""
    return kind.partition(";")[0].strip().lower()
