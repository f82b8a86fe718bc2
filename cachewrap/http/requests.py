"""The patch of requests: SDKs and programs that speak it are served by the active cache."""

from __future__ import annotations

import http.client
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from cachewrap.cache import Cache
from cachewrap.entry import HttpAnswer
from cachewrap.http.answers import value_of
from cachewrap.http.encodings import codings, encoded
from cachewrap.http.exchange import When
from cachewrap.http.patcher import HttpPatch, HttpPatcher, stepping_in
from cachewrap.http.response import Head, Headers, Replay, Wire, marked, raising
from cachewrap.http.routes import Routes
from cachewrap.http.serve import Caching
from cachewrap.http.shared_body import BodyReader
from cachewrap.http.tracking import OF_ONE_REQUEST
from cachewrap.policy import Same


class File:
    """The file that `http.client` reads a response from.

    Args:
        pieces: the bytes of the response, status line and headers included.
        stream: what is closed with it.
    """

    def __init__(self, pieces: Iterator[bytes], stream: Any) -> None:
        self._pieces = pieces
        self._stream = stream
        self._buffer = b""
        self.closed = False

    def makefile(self, mode: str) -> File:
        """The socket's file is the file itself."""
        return self

    def _more(self) -> bool:
        piece = next(self._pieces, b"")
        self._buffer += piece
        return bool(piece)

    def _take(self, size: int) -> bytes:
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes, fewer at the end; all of them for None or a negative number."""
        whole = size is None or size < 0
        while (whole or len(self._buffer) < (size or 0)) and self._more():
            continue
        return self._take(len(self._buffer) if whole else size or 0)

    def read1(self, size: int = -1) -> bytes:
        """What there is, at the most so many bytes."""
        if not self._buffer:
            self._more()
        return self._take(len(self._buffer) if size < 0 else size)

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; how many bytes that were."""
        taken = self.read(len(buffer))
        buffer[: len(taken)] = taken
        return len(taken)

    def peek(self, size: int = -1) -> bytes:
        """What there is, without taking it."""
        if not self._buffer:
            self._more()
        return self._buffer

    def readline(self, limit: int = -1) -> bytes:
        """A line, or as much of it."""
        while b"\n" not in self._buffer and (limit < 0 or len(self._buffer) < limit):
            if not self._more():
                break
        end = self._buffer.find(b"\n") + 1 or len(self._buffer)
        return self._take(end if limit < 0 else min(end, limit))

    def flush(self) -> None:
        """There is nothing to flush."""

    def close(self) -> None:
        """Close the stream."""
        if not self.closed:
            self.closed = True
            self._stream.close()

    def abandon(self) -> None:
        """Close the stream of a response that is being finalised: nothing is stored then."""
        try:
            raise GeneratorExit
        except GeneratorExit:
            self.close()


def framed(
    pairs: Iterable[tuple[str, str]], stream: Iterable[bytes], *, chunked: bool, length: str | None
) -> Iterator[bytes]:
    """The bytes of a response of status 200.

    Args:
        pairs: its headers.
        stream: the pieces of its body.
        chunked: whether the body is chunked, each piece a chunk.
        length: its length in bytes, or None for a body that ends with the connection.
    """
    lines = [b"HTTP/1.1 200 OK"]
    for name, value in pairs:
        if name.lower() not in ("content-length", "transfer-encoding", "connection"):
            lines.append(_line(f"{name}: {value}"))
    if chunked:
        lines.append(b"transfer-encoding: chunked")
    elif length is not None:
        lines.append(b"content-length: " + length.encode())
    yield b"\r\n".join([*lines, b"", b""])
    if chunked:
        for piece in stream:
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
        yield b"0\r\n\r\n"
        return
    left = None if length is None else int(length)
    pieces = iter(stream)
    for piece in pieces:
        if left is not None and (left := left - len(piece)) <= 0:
            # Whoever has the last byte reads no further, so the stream is brought to its end first.
            yield b"".join((piece, *pieces))
            return
        yield piece


def _line(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:  # stored by a library that reads headers as UTF-8
        return text.encode()


if TYPE_CHECKING:
    from requests.adapters import BaseAdapter  # pyright: ignore[reportMissingModuleSource]
else:
    BaseAdapter = object  # it is not imported here; sessions ask for `send` and `close` only

_PIECE: Final = 65_536  # bytes


class RequestsWire(Wire):
    """A prepared request of requests, and its responses.

    Args:
        adapter: what makes the library's responses.
        request: the request.
        stream: whether the caller reads the response's body himself.
        timeout: the caller's.
    """

    takes_body = True

    def __init__(self, adapter: Any, request: Any, *, stream: bool, timeout: Any = None) -> None:
        url = request.url.decode() if isinstance(request.url, bytes) else request.url
        parts = urlsplit(url)
        library = raising(
            sys.modules["urllib3"].exceptions.ProtocolError, read_timeout=_read_timeout
        )
        super().__init__(library, request.method or "", url, parts.hostname, parts.port, parts.path)
        self._adapter = adapter
        self._request = request
        self._stream = stream
        self._timeout = timeout

    def headers(self) -> Iterable[tuple[str, str]]:
        for name, value in self._request.headers.items():
            yield _text(name), _text(value)

    def content(self) -> bytes | str:
        body = self._request.body
        if not isinstance(body, (bytes, str)):
            raise ValueError("a body that is read while it is sent")
        return body

    def with_body(self, content: bytes) -> Any:
        other = self._request.copy()
        other.body = content
        for name in ("transfer-encoding", *OF_ONE_REQUEST):
            other.headers.pop(name, None)
        other.prepare_content_length(content)
        return other

    def timeout(self) -> object:
        return self._timeout

    def head(self, response: Any) -> Head:
        raw = response.raw
        pairs = _pairs(raw)
        enforced = getattr(raw, "enforce_content_length", False)
        if not (enforced or str(raw.tell()) == value_of(pairs, "content-length")):
            # Before urllib3 2 the end of a body tells nothing: it may have been cut off.
            pairs = [pair for pair in pairs if pair[0].lower() != "content-length"]
        return Head(response.status_code, Headers(pairs), self.library, _Upstream(raw))

    def read(self, response: Any) -> bytes:
        try:
            content: bytes = response.content
        finally:
            response.close()
        return content

    def recorded(self, response: Any, stream: Any) -> Any:
        upstream = response.raw
        response.raw = self._raw(_pairs(upstream), stream, upstream)
        return response

    def whole(self, response: Any, content: bytes) -> Any:
        if not self._stream:
            return response
        answer = HttpAnswer(200, _pairs(response.raw), [content] if content else [], [])
        response.raw = self._replayed(answer.headers, answer, response.raw)
        # The body is unread again.
        response._content, response._content_consumed = False, False
        return response

    def build(self, answer: HttpAnswer, reader: BodyReader | None) -> Any:
        pairs = marked(answer, reader)
        raw = self._raw(pairs, reader) if reader else self._replayed(pairs, answer)
        return self._adapter.build_response(self._request, raw)

    def _replayed(
        self, pairs: list[tuple[str, str]], answer: HttpAnswer, upstream: Any = None
    ) -> Any:
        """A raw response with a stored body, which has the codings again that its headers tell."""
        encoding = value_of(pairs, "content-encoding")
        try:
            chunks = encoded(encoding, answer.chunks)
        except LookupError:
            # What has no encoder here has no decoder in urllib3: it hands it on as it is.
            chunks = answer.chunks
        return self._raw(pairs, Replay(chunks), upstream, is_encoded=bool(codings(encoding)))

    def _raw(
        self,
        pairs: list[tuple[str, str]],
        stream: Any,
        upstream: Any = None,
        *,
        is_encoded: bool = False,
    ) -> Any:
        """A response of urllib3 that reads this body.

        Args:
            pairs: its headers.
            stream: the pieces of the body, with ``close``.
            upstream: the response in whose place it is, if there is one.
            is_encoded: whether the length in the headers is not that of the body.
        """
        length = None if is_encoded else value_of(pairs, "content-length")
        chunked = "chunked" in (value_of(pairs, "transfer-encoding") or "").lower()
        answer_class, raw_class = _classes(sys.modules["urllib3"])
        file = File(framed(pairs, stream, chunked=chunked, length=length), stream)
        answer = answer_class(file, method=self.method)
        answer.begin()
        headers = sys.modules["urllib3.response"].HTTPHeaderDict()
        for name, value in pairs:
            headers.add(name, value)
        raw = raw_class(
            body=answer,
            headers=headers,
            status=200,
            version=upstream.version if upstream is not None else 11,
            reason=upstream.reason if upstream is not None else http.client.responses[200],
            preload_content=False,
            decode_content=False,
            original_response=answer,
            msg=answer.msg,
            retries=upstream.retries if upstream is not None else None,
            enforce_content_length=length is not None,
            request_method=self.method,
            request_url=self._request.path_url,
        )
        raw.cachewrap_file = file
        return raw


class _Upstream:
    """The body of a response of urllib3 as it comes, still encoded."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def __iter__(self) -> Iterator[bytes]:
        raw = self._raw
        if raw.chunked and raw.supports_chunked_reads():
            yield from raw.read_chunked(decode_content=False)
        elif hasattr(raw, "read1"):
            while piece := raw.read1(_PIECE, decode_content=False):
                yield piece
        else:
            yield from raw.stream(_PIECE, decode_content=False)

    def wake(self) -> None:
        """End a read that waits in another thread."""
        with suppress(Exception):
            self._raw._fp.fp.raw._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the response, and give its connection back."""
        self._raw.close()
        self._raw.release_conn()


@lru_cache(maxsize=1)
def _classes(urllib3: Any) -> tuple[Any, Any]:
    """The responses of the standard library and of urllib3, which tell when they are finalised.

    Their finaliser closes them wherever the collector happens to run, perhaps under a lock of the
    store, and what is closed is stored. An abandoned response is dropped without that.
    """

    class Answer(http.client.HTTPResponse):
        def __del__(self) -> None:
            if (file := getattr(self, "fp", None)) is not None:
                file.abandon()
            super().__del__()

    class Raw(urllib3.HTTPResponse):
        cachewrap_file: File | None = None

        def __del__(self) -> None:
            if self.cachewrap_file is not None:
                self.cachewrap_file.abandon()
            super().__del__()

    Raw.__name__ = Raw.__qualname__ = "HTTPResponse"
    return Answer, Raw


def _read_timeout(message: str) -> Exception:
    error: Exception = sys.modules["urllib3"].exceptions.ReadTimeoutError(None, "", message)
    return error


def _pairs(raw: Any) -> list[tuple[str, str]]:
    headers = raw.headers
    each = headers.iteritems() if hasattr(headers, "iteritems") else headers.items()
    return [(_text(name), _text(value)) for name, value in each]


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


class CachedAdapter(BaseAdapter):
    """An adapter for sessions of requests that serves from the active cache.

    For those who would rather inject than patch: ``session.mount("https://", CachedAdapter())``.
    Only POST requests with a JSON body are cached, and of their answers those with status 200 that
    came whole and tell of no error.

    Args:
        adapter: sends what is not cached; None is an `HTTPAdapter` of requests.
        cache, paths, when: as `patch_httpx` takes them.
        hosts: patterns (``"api.mistral.ai"``, ``"127.0.0.1:*"``); None is every host.
    """

    def __init__(
        self,
        adapter: Any = None,
        *,
        cache: Cache | None = None,
        hosts: Iterable[str] | None = None,
        paths: Iterable[str] | None = None,
        when: When | None = None,
    ) -> None:
        self._caching = Caching(Routes(hosts, paths), cache, when)
        self._adapter = adapter

    def _inner(self) -> Any:
        if self._adapter is None:
            # Made with the first request, when requests has been imported by whoever makes it.
            self._adapter = sys.modules["requests"].adapters.HTTPAdapter()
        return self._adapter

    def send(
        self,
        request: Any,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> Any:
        """Answer one request. See ``requests.adapters.BaseAdapter``."""
        inner = self._inner()

        def send(asked: Any = request) -> Any:
            return inner.send(
                asked, stream=stream, timeout=timeout, verify=verify, cert=cert, proxies=proxies
            )

        wire = RequestsWire(inner, request, stream=stream, timeout=timeout)
        return self._caching.handle(wire, send)

    def close(self) -> None:
        """Close the inner adapter."""
        if self._adapter is not None:
            self._adapter.close()


def _wire(
    adapter: Any,
    request: Any,
    stream: bool = False,
    timeout: Any = None,
    *rest: Any,
    **options: Any,
) -> RequestsWire:
    return RequestsWire(adapter, request, stream=bool(stream), timeout=timeout)


REQUESTS: Final = HttpPatcher({"requests.adapters": (("HTTPAdapter", "send", stepping_in(_wire)),)})


def patch_requests(
    cache: Cache | None = None,
    *,
    hosts: Iterable[str] | None = None,
    paths: Iterable[str] | None = None,
    when: When | None = None,
    split: bool = False,
    same: Same = None,
    threads: bool = True,
) -> HttpPatch:
    """Make cacheable what speaks requests, as `patch_httpx` does for httpx.

    Inside a cache's block the requests to these hosts and paths are served by that cache, streamed
    or not, of sessions that exist already as well, below the retries of urllib3. Only POST requests
    with a JSON body are cached, and of their answers those with status 200 that came whole and tell
    of no error. A hit sets no cookies: they are credentials, and not stored. What `patch_httpx`
    has stored of the same request serves here too.

    Args:
        cache, hosts, paths, when, split, same, threads: as `patch_httpx` takes them.

    Returns a handle as `patch_httpx` does.

    Raises `ConfigurationError` if the installed version lacks what is to be wrapped (where
    ``requests`` is imported later, its import raises it).
    """
    return REQUESTS.patch(cache, when, hosts, paths, split=split, same=same, carry=threads)


def unpatch_requests() -> None:
    """Undo every `patch_requests`. Without one it does nothing."""
    REQUESTS.undo()
