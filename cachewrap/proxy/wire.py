"""A client's request as the cache sees it, and the answers that go back to the client."""

from __future__ import annotations

import asyncio
import http
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from cachewrap.entry import HttpAnswer
from cachewrap.http.answers import value_of
from cachewrap.http.encodings import Coder, codings, decoded_within, decoder
from cachewrap.http.multipart import Form, parse_multipart
from cachewrap.http.response import MARK, Head, Headers, Wire, marked, raising
from cachewrap.proxy.messages import Incoming, Origin, Pairs, UpstreamError

LIBRARY: Final = raising(UpstreamError, read_timeout=UpstreamError)

# Of each connection, and never passed on: RFC 9110, 7.6.1, and what was usual before it.
_HOPS: Final = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"te"),
        *(b"transfer-encoding", b"upgrade", b"proxy-authenticate", b"proxy-authorization"),
    }
)
# Decided anew for what is asked upstream.
_OURS: Final = frozenset({b"host", b"expect", b"http2-settings"})
_TOLD: Final = f"{MARK}-".encode()
_TOKEN: Final = _TOLD + b"token"
REASONS: Final = {status.value: status.phrase.encode() for status in http.HTTPStatus}


def passed_on(headers: Pairs) -> Pairs:
    """Headers without those of one connection."""
    named = {
        word.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for word in value.split(b",")
    }
    dropped = _HOPS | (named - {b"content-length", b"authorization"})
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def asked_upstream(headers: Pairs, *, expects: bool = False) -> Pairs:
    """A client's headers as an upstream gets them: none of ours, none of the connection.

    Args:
        headers: the client's.
        expects: whether the upstream is to say that it takes the body: RFC 9110, 10.1.1.
    """
    dropped = _OURS - {b"expect"} if expects else _OURS
    return [
        (name, value)
        for name, value in passed_on(headers)
        if (lower := name.lower()) not in dropped and not lower.startswith(_TOLD)
    ]


def handed_on(headers: Pairs) -> Pairs:
    """A client's headers as another worker gets them, who does what they tell the proxy."""
    kept = {_TOKEN, *_OURS}
    return [pair for pair in passed_on(headers) if pair[0].lower() not in kept]


def with_known_codings(headers: Pairs) -> Pairs:
    """Headers that ask for an answer which can be read here: what is stored is decoded."""
    return [
        (name, _known_codings(value) if name.lower() == b"accept-encoding" else value)
        for name, value in headers
    ]


@lru_cache(maxsize=256)
def _known_codings(accepted: bytes) -> bytes:
    known = (coding.strip() for coding in accepted.split(b",") if _is_known_coding(coding))
    return b", ".join(known) or b"identity"


def _is_known_coding(coding: bytes) -> bool:
    name = coding.partition(b";")[0].strip().decode("latin-1")
    try:
        decoder(codings(name))
    except LookupError:
        return False
    return True


_MOST: Final = 64 * 1024 * 1024
"""Bytes of a body, at most, that is held, and taken out of its coding."""

_MOST_PARTS: Final = 1_000_000
"""Names and values, about, in the JSON of a body that is looked at."""


def asked_once(headers: Pairs) -> Pairs:
    """Headers of a request whose answer others are given: without what says how it came here.

    Of that some servers make the addresses in their answers, and others choose who answers.
    """
    return [pair for pair in headers if not _WAY_HERE.fullmatch(pair[0])]


_WAY_HERE: Final = re.compile(
    rb"forwarded|x-forwarded-(?!for$).*|x-envoy-original-.*", re.IGNORECASE | re.DOTALL
)


def _in_one(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers by their names; the values of one that is there twice are told apart from a list."""
    found: dict[str, tuple[str, str]] = {}
    for name, value in pairs:
        given = found.get(lower := name.lower())
        found[lower] = (name, value) if given is None else (given[0], f"{given[1]}\n{value}")
    return [*found.values()]


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises `ValueError` for a name twice: who knows which of them counts."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name is there twice")
    return members


def in_text(pairs: Pairs) -> list[tuple[str, str]]:
    """Headers as text, in the way of httpx."""
    return [(name.decode("ascii", "replace"), _text(value)) for name, value in pairs]


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _in_bytes(pairs: Iterable[tuple[str, str]]) -> Pairs:
    return [
        (name.encode("ascii", "replace"), value.encode("latin-1", "replace"))
        for name, value in pairs
    ]


class Answer:
    """An answer to a client, whose body may still be on its way.

    Args:
        status: its status.
        reason: what is said about it.
        headers: without those of the connection.
        body: the pieces of it that are there.
        delays: seconds from the start to each piece, for a stream that comes at its own pace.
        stream: gives the body instead, with ``aclose``.
        incoming: whose trailers are those of the answer.
    """

    __slots__ = ("body", "delays", "headers", "incoming", "reason", "status", "stream")

    def __init__(
        self,
        status: int,
        reason: bytes,
        headers: Pairs,
        *,
        body: Sequence[bytes] = (),
        delays: Sequence[float] = (),
        stream: Any = None,
        incoming: Incoming | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body
        self.delays = delays
        self.stream = stream
        self.incoming = incoming

    @property
    def trailers(self) -> Pairs:
        """Those behind the body, once it was sent."""
        return [] if self.incoming is None else self.incoming.trailers

    async def aclose(self) -> None:
        """Be done with it, whatever of it was sent."""
        if self.stream is not None:
            await self.stream.aclose()


class Passed:
    """An upstream's answer, unread or read.

    Args:
        incoming: the answer.
    """

    __slots__ = ("head", "incoming", "raw")

    def __init__(self, incoming: Incoming) -> None:
        self.incoming = incoming
        self.raw: bytes | None = None
        self.head = Head(
            incoming.status,
            Headers(in_text(incoming.headers)),
            LIBRARY,
            incoming,
            f"HTTP/{incoming.version}",
        )

    def answer(self, stream: Any = None) -> Answer:
        """It, for the client: as it came."""
        incoming = self.incoming
        body = () if self.raw is None else (self.raw,)
        if stream is None and self.raw is None:
            stream = self.head.stream
        headers = passed_on(incoming.headers)
        return Answer(
            incoming.status,
            incoming.reason,
            headers,
            body=body,
            stream=stream,
            incoming=incoming,
        )


class Resumed:
    """The body of an answer of which some was read before it proved too long to be held."""

    def __init__(self, pieces: list[bytes], rest: AsyncIterator[bytes], incoming: Incoming) -> None:
        self._pieces = deque(pieces)
        self._rest = rest
        self._incoming = incoming

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._pieces:
            yield self._pieces.popleft()
        async for piece in self._rest:
            yield piece

    def aclose(self) -> Awaitable[None]:
        """Be done with it."""
        return self._incoming.aclose()


_HEARD: Final = "/audio/speech"
"""The end of a path whose answer is played while it comes."""


class ProxyWire(Wire):
    """A request of a client, as the cache sees it.

    Args:
        method: the request's.
        headers: as the upstream gets them.
        body: as it came.
        url: of the upstream, as a program in its place would have it.
        origin: where the upstream is.
        path: the path in the URL.
        pace: whether a stored stream comes at the pace at which it was recorded.
    """

    takes_body = True

    def __init__(
        self,
        method: str,
        headers: Pairs,
        body: bytes,
        url: str,
        origin: Origin,
        path: str,
        *,
        pace: bool,
    ) -> None:
        super().__init__(LIBRARY, method, url, origin.host, origin.port, path)
        self.opens = path.rstrip("/").endswith(_HEARD)
        self._headers = _in_one(in_text(headers))
        self._content = body
        self._read: tuple[Any] | None = None
        self._pace = pace
        encoding = value_of(self._headers, "content-encoding")
        if encoding and codings(encoding):
            self._headers = [
                (name, value)
                for name, value in self._headers
                if name.lower() not in ("content-encoding", "content-length")
            ]
            try:
                self._content = decoded_within(encoding, body, _MOST)
            except ValueError:
                self._content = b""  # which is no JSON, and so passes
        self._accepts = value_of(self._headers, "accept-encoding") or ""

    def headers(self) -> Iterable[tuple[str, str]]:
        return self._headers

    def content(self) -> bytes:
        return self._content

    def body(self) -> Any:
        """The JSON in its body, if all servers read the same in it. Raises `ValueError`."""
        if self._read is None:
            # One that makes a long work would keep all others waiting.
            if len(self._content) > _MOST_PARTS and (
                sum(map(self._content.count, (b",", b":", b"{", b"["))) > _MOST_PARTS
            ):
                raise ValueError("JSON of more parts than anybody asks with")
            text = self._content.decode()
            self._read = (json.loads(text, object_pairs_hook=_members),)
        return self._read[0]

    def with_body(self, content: bytes) -> bytes:
        return content

    def form(self) -> Form | None:
        kind = value_of(self._headers, "content-type") or ""
        is_form = kind.lower().startswith("multipart/form-data")
        return parse_multipart(kind, self._content) if is_form else None

    def head(self, response: Passed) -> Head:
        return response.head

    async def aread(self, response: Passed) -> bytes:
        pieces: list[bytes] = []
        size, rest = 0, aiter(response.incoming)
        try:
            async for piece in rest:
                pieces.append(piece)
                size += len(piece)
                if size > _MOST:
                    response.head.stream = Resumed(pieces, rest, response.incoming)
                    return b""  # which is not stored
        except BaseException:
            await response.incoming.aclose()
            raise
        await response.incoming.aclose()
        response.raw = b"".join(pieces)
        encoding = response.head.headers.get("content-encoding")
        if not codings(encoding):
            return response.raw
        try:
            return decoded_within(encoding, response.raw, _MOST)
        except ValueError:
            return b""

    async def awhole(self, response: Passed, content: bytes) -> Answer:
        return response.answer()

    async def arecorded(self, response: Passed, stream: Any) -> Answer:
        return response.answer(stream)

    async def abuild(self, answer: HttpAnswer, reader: Any) -> Answer:
        pairs = [pair for pair in marked(answer, reader) if pair[0].lower() not in _OF_HITS]
        reason = REASONS.get(answer.status, b"")
        if reader is None:
            # It is stored decoded, and given so: nobody who has asked needs to be able to undo it.
            pairs = [pair for pair in pairs if pair[0].lower() not in _CODED]
            delays = answer.delays if self._pace else ()
            return Answer(
                answer.status, reason, _in_bytes(pairs), body=answer.chunks, delays=delays
            )
        stream = reader
        encoding = value_of(pairs, "content-encoding")
        if (names := codings(encoding)) and not all(name in self._accepts for name in names):
            pairs = [pair for pair in pairs if pair[0].lower() not in _CODED]
            stream = _Decoded(reader, decoder(names))
        return Answer(answer.status, reason, _in_bytes(pairs), stream=stream)


_OF_HITS: Final = frozenset({"transfer-encoding", MARK})
_CODED: Final = frozenset({"content-encoding", "content-length"})


class _Decoded:
    """A body that another asked for in a coding that this client does not take."""

    def __init__(self, reader: Any, coder: Coder) -> None:
        self._reader = reader
        self._coder = coder

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._reader:
            if plain := self._coder.feed(piece):
                yield plain
        if plain := self._coder.end():
            yield plain

    def aclose(self) -> Awaitable[None]:
        awaitable: Awaitable[None] = self._reader.aclose()
        return awaitable


async def paced(
    pieces: Sequence[bytes], delays: Sequence[float], send: Callable[[bytes], Awaitable[None]]
) -> None:
    """Send pieces, each when it came after the start of its call, as it was recorded."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    for piece, delay in zip(pieces, delays, strict=True):
        if (left := start + delay - loop.time()) > 0:
            await asyncio.sleep(left)
        await send(piece)
