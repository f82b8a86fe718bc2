"""HTTP libraries: their requests, their responses, and the responses that stored answers are."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from types import ModuleType
from typing import Any, Final

from cachewrap.call.terms import Exchange
from cachewrap.entry import HttpAnswer, Outcome
from cachewrap.http.answers import value_of
from cachewrap.http.encodings import DECODING_ERRORS, Coder, coder_of, codings, decoder
from cachewrap.http.multipart import Form

MARK: Final = "x-cachewrap"
"""The one response header that tells a miss from a ``hit``, and from one that ``joined`` it."""

_FAMILIES: Final = ("httpx", "httpx2")
_UNREAD: Final = object()
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """One HTTP library, as far as it is needed to read its responses.

    Args:
        read_error: what it raises for a body that cannot be read on.
        decoding_error: what `decoded` raises for a body that is not what its encoding says.
        is_decoded: whether it has decoded what it hands on.
        read_timeout: what it raises for a body of which nothing comes any more.
    """

    read_error: Callable[[str], Exception]
    read_timeout: Callable[[str], Exception] | None = None
    decoding_error: type[Exception] | tuple[type[Exception], ...] = (*DECODING_ERRORS, LookupError)
    is_decoded: bool = False

    def decoded(self, encoding: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces of a body, decoded."""
        return pieces if self.is_decoded else decoder(codings(encoding)).over(pieces)

    def coder(self, encoding: str | None) -> Coder:
        """Looks into a body as it comes; what cannot be decoded is nothing."""
        return coder_of(None if self.is_decoded else encoding)


@lru_cache(maxsize=8)
def raising(
    read_error: Callable[[str], Exception],
    *,
    read_timeout: Callable[[str], Exception] | None = None,
    is_decoded: bool = False,
) -> Library:
    """The library that raises these for a body that cannot be read on."""
    return Library(read_error=read_error, read_timeout=read_timeout, is_decoded=is_decoded)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family(Library):
    """One library of the family of httpx, as far as it is needed to make its responses.

    Args:
        response: its response class.
        request: its request class.
        headers: its class of headers.
        held: its stream class of a body in memory.
        replay: a stream class of ours that its responses take, for sync and async readers.
        shared_stream: one that reads what another call was given.
        plain: its content decoder that changes nothing; it keeps no state.
    """

    response: Any
    request: Any
    headers: Any
    held: Any
    replay: Any
    shared_stream: Any
    plain: Any

    def decoded(self, encoding: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces of a body, as a reader of the library's own response sees them."""
        headers = {"content-encoding": encoding}
        found: Iterator[bytes] = self.response(
            200, headers=headers, stream=self.replay(pieces)
        ).iter_bytes()
        return found


class Fresh(HttpAnswer):
    """An answer that was made of what upstream has just said: it has no mark of a hit."""

    __slots__ = ()


class Headers:
    """The headers of a response, in the way of httpx."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs = list(pairs)

    def multi_items(self) -> list[tuple[str, str]]:
        """Every header, in the order received."""
        return self._pairs

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a header, whose name is given in lower case."""
        value = value_of(self._pairs, name)
        return default if value is None else value

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None


@dataclass(slots=True, eq=False)
class Head:
    """A response as the seam reads it: what came before its body, and the stream of that.

    Args:
        status_code: its status.
        headers: its headers.
        library: the library that it belongs to.
        stream: its body piece by piece as it is sent on, with ``close`` or ``aclose``.
        http_version: as in ``HTTP/1.1``.
    """

    status_code: int
    headers: Headers
    library: Library
    stream: Any
    http_version: str = "HTTP/1.1"


class Wire:
    """One request of a library, and what the library makes of an answer to it.

    Args:
        library: the library.
        method: the request's method.
        url: its URL, with the query.
        host: the host in it.
        port: the port in it; None is that of the scheme.
        path: the path; a slash at its end does not count.

    Attributes:
        exchange: that of the request, once a cache is to serve it; None where none does.
        outcome: how it was answered, as far as it is.
        reason: why no cache serves it, or why its answer was not stored, where that is known.
        uploaded: what `form` gave, where it was asked.
        takes_body: whether `with_body` makes another request of it.
        opens: whether its answer is handed on as it comes, though it asks for no stream.
    """

    exchange: Exchange[Any] | None = None
    outcome = Outcome.BYPASSED
    reason = ""
    opens = False
    takes_body = False
    uploaded: Form | None = None

    def __init__(
        self, library: Library, method: str, url: str, host: str | None, port: int | None, path: str
    ) -> None:
        self.library = library
        self.method = method
        self.url = url
        self.host = host or ""
        self.port = port or _PORTS.get(url.partition(":")[0].lower(), 0)
        self.path = path.rstrip("/")
        self._body_read: Any = _UNREAD

    def headers(self) -> Iterable[tuple[str, str]]:
        """The headers of the request."""
        raise NotImplementedError

    def content(self) -> bytes | str:
        """Its body. Raises `ValueError` or `RuntimeError` for one that is read while it is sent."""
        raise NotImplementedError

    def body(self) -> Any:
        """The JSON in its body, which is read once. Raises as `content`."""
        if self._body_read is _UNREAD:
            self._body_read = json.loads(self.content())
        return self._body_read

    def form(self) -> Form | None:
        """The form in its body, as `parse_multipart` reads it; None where it has none.

        It is asked once, where SDKs upload. Raises as `content`.
        """
        return None

    def with_body(self, content: bytes) -> Any:
        """Another request of the library, with this body, for who sends this one on."""
        raise NotImplementedError

    async def awith_body(self, content: bytes) -> Any:
        """`with_body` for async requests."""
        return self.with_body(content)

    def timeout(self) -> object:
        """The timeout that its caller has set, as the library takes it; None for none."""
        return None

    def head(self, response: Any) -> Any:
        """A response, as `Head` or as one of httpx."""
        raise NotImplementedError

    def read(self, response: Any) -> bytes:
        """Read a response to its end and close it: its body, decoded.

        What cannot be decoded is nothing, and not stored.
        """
        raise NotImplementedError

    async def aread(self, response: Any) -> bytes:
        """`read` for async responses."""
        raise NotImplementedError

    def recorded(self, response: Any, stream: Any) -> Any:
        """What the caller gets of a response whose body is to be read from this stream."""
        raise NotImplementedError

    async def arecorded(self, response: Any, stream: Any) -> Any:
        """`recorded` for async responses."""
        return self.recorded(response, stream)

    def whole(self, response: Any, content: bytes) -> Any:
        """What the caller gets of a response that was read, as a hit would be but for its mark."""
        raise NotImplementedError

    async def awhole(self, response: Any, content: bytes) -> Any:
        """`whole` for async responses."""
        return self.whole(response, content)

    def build(self, answer: HttpAnswer, reader: Any) -> Any:
        """What the caller gets of a stored answer, or of one under way, of which it is the head.

        Of the latter the ``reader`` gives the body, as of a `BodyReader`; else it is None.
        """
        raise NotImplementedError

    async def abuild(self, answer: HttpAnswer, reader: Any) -> Any:
        """`build` for async responses."""
        return self.build(answer, reader)


def read_seconds(timeout: Any) -> float | None:
    """How long a timeout lets a caller wait for a response; None for ever.

    Args:
        timeout: seconds; those of connecting and of reading; or an object or a dictionary of such
            parts, as httpx and urllib3 have them.
    """
    if isinstance(timeout, (tuple, list)):
        timeout = timeout[-1] if timeout else None
    elif isinstance(timeout, dict):
        timeout = timeout.get("read")
    else:
        for part in ("read", "read_timeout"):
            timeout = getattr(timeout, part, timeout)
    if type(timeout) not in (int, float) or timeout != timeout:
        return None
    return max(float(timeout), 0.0)


def library_of(response: object) -> Library:
    """The library that a response belongs to.

    Raises `TypeError` for an object of no known library.
    """
    library = getattr(response, "library", None)
    return library if isinstance(library, Library) else family_of(response)


def family_of(transport: object) -> Family:
    """The library that a client (or a response) belongs to, through whatever subclass.

    Raises `TypeError` for an object of neither httpx nor httpx2.
    """
    cls = type(transport)
    for base in cls.__mro__:
        root = base.__module__.partition(".")[0]
        if root in _FAMILIES:
            return _family(sys.modules[root])
    raise TypeError(f"{cls.__module__}.{cls.__qualname__} is of neither httpx nor httpx2")


@lru_cache(maxsize=4)
def _family(library: ModuleType) -> Family:
    streams = (library.SyncByteStream, library.AsyncByteStream)
    return Family(
        response=library.Response,
        request=library.Request,
        headers=library.Headers,
        held=library.ByteStream,
        replay=type("ReplayStream", (Replay, *streams), {}),
        shared_stream=type("SharedStream", (_SharedStream, *streams), {}),
        plain=library.Response(200)._get_content_decoder(),
        decoding_error=library.DecodingError,
        read_error=library.ReadError,
        read_timeout=library.ReadTimeout,
    )


class Replay:
    """A body that was stored, chunk by chunk. What one reader took another does not see again."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk

    def close(self) -> None:
        """There is nothing to close."""


class _SharedStream:
    """A body that is read, chunk by chunk, by a reader that is told when it is closed."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._reader)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._reader)

    def close(self) -> None:
        self._reader.close()

    def aclose(self) -> Awaitable[None]:
        awaitable: Awaitable[None] = self._reader.aclose()
        return awaitable


def build(
    transport: object,
    family: Family,
    answer: HttpAnswer,
    request: Any,
    reader: Any = None,
) -> Any:
    """The response that a stored answer is, unread, of the library of the client's transport.

    Args:
        transport: the HTTP client that would have sent the request.
        family: its library.
        answer: what is stored.
        request: the request, which the response carries.
        reader: for an answer under way, what reads the body, still encoded, in place of its chunks.
    """
    pairs = [(name.encode(), value.encode()) for name, value in marked(answer, reader)]
    response = family.response(
        answer.status,
        headers=pairs,
        stream=family.shared_stream(reader) if reader else family.replay(answer.chunks),
        request=request,
        default_encoding=getattr(transport, "_default_encoding", "utf-8"),
    )
    if not reader:
        # The headers stay as they came, so the decoder that they ask for is put out of action.
        response._decoder = family.plain
    response.elapsed = timedelta(0)
    return response


def fill(family: Family, response: Any, answer: HttpAnswer) -> None:
    """Read a response that `build` made of an answer at one go, where that is not left to it."""
    if _is_filled_alike(family):
        _fill(response, b"".join(answer.chunks))


def _fill(response: Any, content: bytes) -> None:
    response._content = content
    response._num_bytes_downloaded = len(content)
    response.is_stream_consumed = response.is_closed = True


@lru_cache(maxsize=4)
def _is_filled_alike(family: Family) -> bool:
    """Whether this version of the library leaves no more behind when it reads a response."""
    states = []
    for read in (lambda response: response.read(), lambda response: _fill(response, b"a")):
        response = family.response(200, stream=family.replay([b"a"]))
        response._decoder = family.plain
        read(response)
        state = vars(response)
        states.append({name: state[name] for name in state if name not in ("headers", "stream")})
    return states[0] == states[1]


def marked(answer: HttpAnswer, reader: object) -> list[tuple[str, str]]:
    """The headers of an answer that is served, or that its reader joined, with their mark.

    A stream is given in chunks again, by which some libraries tell its pieces apart.
    """
    if reader:
        return [*answer.headers, (MARK, "joined")]
    if type(answer) is Fresh:
        return answer.headers
    in_chunks = answer.streamed and value_of(answer.headers, "content-length") is None
    framing = [("transfer-encoding", "chunked")] if in_chunks else []
    return [*answer.headers, *framing, (MARK, "hit")]


def is_framed(response: Any) -> bool:
    """Whether a body cut off on its way would have been an error, not just a short body."""
    headers = response.headers
    return (
        "content-length" in headers
        or "chunked" in headers.get("transfer-encoding", "").lower()
        or response.http_version.startswith("HTTP/2")
    )


def decode(
    library: Library, encoding: str | None, raw: list[bytes], delays: list[float]
) -> tuple[list[bytes], list[float]]:
    """Raw chunks as the reader of the response saw them, with the delay of each.

    Raises the library's decoding error for bytes that are not what the encoding says.
    """
    if not encoding or encoding == "identity":
        kept = [(chunk, delay) for chunk, delay in zip(raw, delays, strict=True) if chunk]
        return [chunk for chunk, _ in kept], [delay for _, delay in kept]
    clock = iter(delays)
    now = 0.0

    def feed() -> Iterator[bytes]:
        nonlocal now
        for chunk in raw:
            now = next(clock)
            yield chunk

    chunks: list[bytes] = []
    seen: list[float] = []
    for chunk in library.decoded(encoding, feed()):
        chunks.append(chunk)
        seen.append(now)
    return chunks, seen
