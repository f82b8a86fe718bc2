"""The patch of DSPy: its default engine, which speaks HTTP by itself, is served by the cache."""

from __future__ import annotations

import http
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from cachewrap.cache import Cache
from cachewrap.entry import HttpAnswer
from cachewrap.http.encodings import DECODING_ERRORS, codings, decoder, encoder
from cachewrap.http.exchange import When
from cachewrap.http.library import Head, Wire
from cachewrap.http.patcher import HttpPatch, HttpPatcher
from cachewrap.http.response import MARK, Library
from cachewrap.http.shared_body import BodyReader

_PORTS: Final = {"http": 80, "https": 443}
_TRANSPORTS: Final = "dspy._vendor.lm15.transports"


class Lm15Wire(Wire):
    """A request of lm15, the engine in DSPy, and its responses.

    Args:
        request: the request.
    """

    def __init__(self, request: Any) -> None:
        parts = urlsplit(request.url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
        host = parts.hostname or ""
        super().__init__(_library(), request.method, request.url, host, port, parts.path)
        self._request = request
        self._body = b""  # of the response that was read, as it came

    def headers(self) -> Iterable[tuple[str, str]]:
        """See `Wire`."""
        pairs: list[tuple[str, str]] = self._request.headers
        return pairs

    def content(self) -> bytes:
        """See `Wire`."""
        content: bytes = self._request.body
        return content

    def head(self, response: Any) -> Head:
        """See `Wire`."""
        return Head(response.status, response.headers, self.library, _Upstream(response))

    def read(self, response: Any) -> bytes:
        """See `Wire`. What cannot be decoded is nothing, and not stored."""
        with response:
            return self._keep(response, response.read())

    async def aread(self, response: Any) -> bytes:
        """See `Wire`."""
        async with response:
            return self._keep(response, await response.read())

    def _keep(self, response: Any, body: bytes) -> bytes:
        self._body = body
        try:
            names = codings(response.header("content-encoding"))
            return b"".join(decoder(names).over([body]))
        except (LookupError, *DECODING_ERRORS):
            return b""

    def whole(self, response: Any, content: bytes) -> Any:
        """See `Wire`."""
        return self._sync(response.headers, [self._body], response)

    async def awhole(self, response: Any, content: bytes) -> Any:
        """See `Wire`."""
        return self._async(response.headers, [self._body], response)

    def recorded(self, response: Any, stream: Any) -> Any:
        """See `Wire`."""
        return self._sync(response.headers, stream, response, stream.close)

    async def arecorded(self, response: Any, stream: Any) -> Any:
        """See `Wire`."""
        return self._async(response.headers, stream, response, stream.aclose)

    def build(self, answer: HttpAnswer, reader: BodyReader | None) -> Any:
        """See `Wire`."""
        if reader:
            return self._sync(_marked(answer, "joined"), reader, closing=reader.close)
        return self._sync(_marked(answer, "hit"), _coded(answer))

    async def abuild(self, answer: HttpAnswer, reader: BodyReader | None) -> Any:
        """See `Wire`."""
        if reader:
            return self._async(_marked(answer, "joined"), reader, closing=reader.aclose)
        return self._async(_marked(answer, "hit"), _coded(answer))

    def _sync(
        self,
        pairs: list[tuple[str, str]],
        chunks: Iterable[bytes],
        upstream: Any = None,
        closing: Callable[[], None] = lambda: None,
    ) -> Any:
        return sys.modules[_TRANSPORTS].TransportResponse(
            **_line(upstream),
            headers=list(pairs),
            chunks=iter(chunks),
            release=lambda body_consumed: closing(),
        )

    def _async(
        self,
        pairs: list[tuple[str, str]],
        chunks: Any,
        upstream: Any = None,
        closing: Callable[[], Awaitable[None]] | None = None,
    ) -> Any:
        async def release(body_consumed: bool) -> None:
            if closing is not None:
                await closing()

        return sys.modules[_TRANSPORTS].AsyncTransportResponse(
            **_line(upstream),
            headers=list(pairs),
            chunks=aiter(chunks) if closing is not None else _each(chunks),
            release=release,
        )


class _Upstream:
    """The body of a response as it comes, in either colour."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._response)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._response)

    def close(self) -> None:
        """Give the connection back, or close it."""
        self._response.close()

    async def aclose(self) -> None:
        """`close` for async responses."""
        await self._response.aclose()


async def _each(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def _line(upstream: Any) -> dict[str, Any]:
    """What the first line of a response tells."""
    return {
        "status": 200,
        "reason": upstream.reason if upstream else http.HTTPStatus.OK.phrase,
        "http_version": upstream.http_version if upstream else "HTTP/1.1",
    }


def _marked(answer: HttpAnswer, mark: str) -> list[tuple[str, str]]:
    return [*answer.headers, (MARK, mark)]


def _coded(answer: HttpAnswer) -> Iterable[bytes]:
    """The pieces of a stored answer, with the codings again that its headers tell."""
    encoding = next((v for n, v in answer.headers if n.lower() == "content-encoding"), None)
    names = codings(encoding)
    return encoder(names).over(answer.chunks) if names else answer.chunks


def _library() -> Library:
    return _library_of(sys.modules[_TRANSPORTS])


@lru_cache(maxsize=1)
def _library_of(transports: Any) -> Library:
    return Library(read_error=transports.ReadError)


def _stream(
    wrapped: Callable[..., Any], transport: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    wire = Lm15Wire(args[0] if args else kwargs["request"])
    return DSPY.serve(wire, lambda: wrapped(*args, **kwargs))


def _astream(
    wrapped: Callable[..., Awaitable[Any]],
    transport: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Awaitable[Any]:
    wire = Lm15Wire(args[0] if args else kwargs["request"])
    return DSPY.aserve(wire, lambda: wrapped(*args, **kwargs))


DSPY: Final = HttpPatcher(
    {
        _TRANSPORTS: (
            ("StdlibTransport", "stream", _stream),
            ("StdlibAsyncTransport", "_do_stream", _astream),
        )
    }
)


def patch_dspy(
    cache: Cache | None = None,
    *,
    hosts: Iterable[str] | None = None,
    paths: Iterable[str] | None = None,
    when: When | None = None,
    threads: bool = True,
) -> HttpPatch:
    """Make DSPy's default engine cacheable (3.4 and later), which speaks HTTP without any library.

    Inside a cache's block the requests that ``dspy.LM`` makes of these hosts and paths are served
    by that cache, sync and async, streamed or not, whether it is imported before or after. DSPy's
    own cache answers first: ``dspy.LM(..., cache=False)``. Earlier versions, and
    ``engine="litellm"``, go through LiteLLM, see `patch_openai`.

    Args:
        cache: serves the requests outside any block. Without it they are not cached.
        hosts: patterns (``"api.mistral.ai"``, ``"127.0.0.1:*"``); None are those of the known
            providers.
        paths: patterns of whole paths (``"*/chat/completions"``); None are those of the known
            providers.
        when: takes an answer and says whether to store it, see `patch_httpx`.
        threads: False leaves threads alone, see `patch_threads`.

    Returns a handle with `undo`, which also works as a block; see `patch_httpx`.

    Raises `ConfigurationError` if the engine lacks what is to be wrapped; where ``dspy`` is
    imported later, a `CacheWarning` says so.
    """
    return DSPY.patch(cache, when, hosts, paths, carry=threads)


def unpatch_dspy() -> None:
    """Undo every `patch_dspy`. Without one it does nothing."""
    DSPY.undo()
