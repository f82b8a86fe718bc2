"""The patch of DSPy: its default engine, which speaks HTTP by itself, is served by the cache."""

from __future__ import annotations

import http
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from cachewrap.cache import Cache
from cachewrap.entry import HttpAnswer
from cachewrap.http.answers import value_of
from cachewrap.http.encodings import decoded, encoded
from cachewrap.http.exchange import When
from cachewrap.http.patcher import HttpPatch, HttpPatcher, stepping_in
from cachewrap.http.response import Head, Headers, Replay, Wire, marked, raising
from cachewrap.http.shared_body import BodyReader
from cachewrap.policy import Same

_TRANSPORTS: Final = "dspy._vendor.lm15.transports"


class Lm15Wire(Wire):
    """A request of lm15, the engine in DSPy, and its responses.

    Args:
        request: the request.
    """

    def __init__(self, request: Any) -> None:
        parts = urlsplit(request.url)
        library = raising(sys.modules[_TRANSPORTS].ReadError)
        super().__init__(
            library, request.method, request.url, parts.hostname, parts.port, parts.path
        )
        self._request = request
        self._body = b""  # of the response that was read, as it came

    def headers(self) -> Iterable[tuple[str, str]]:
        pairs: list[tuple[str, str]] = self._request.headers
        return pairs

    def content(self) -> bytes:
        content: bytes = self._request.body
        return content

    def head(self, response: Any) -> Head:
        return Head(response.status, Headers(response.headers), self.library, response)

    def read(self, response: Any) -> bytes:
        with response:
            return self._keep(response, response.read())

    async def aread(self, response: Any) -> bytes:
        async with response:
            return self._keep(response, await response.read())

    def _keep(self, response: Any, body: bytes) -> bytes:
        self._body = body
        return decoded(response.header("content-encoding"), body)

    def whole(self, response: Any, content: bytes) -> Any:
        return self._sync(response.headers, [self._body], response)

    async def awhole(self, response: Any, content: bytes) -> Any:
        return self._async(response.headers, [self._body], response)

    def recorded(self, response: Any, stream: Any) -> Any:
        return self._sync(response.headers, stream, response, stream.close)

    async def arecorded(self, response: Any, stream: Any) -> Any:
        return self._async(response.headers, stream, response, stream.aclose)

    def build(self, answer: HttpAnswer, reader: BodyReader | None) -> Any:
        pairs = marked(answer, reader)
        if reader:
            return self._sync(pairs, reader, closing=reader.close)
        return self._sync(pairs, _coded(answer))

    async def abuild(self, answer: HttpAnswer, reader: BodyReader | None) -> Any:
        pairs = marked(answer, reader)
        if reader:
            return self._async(pairs, reader, closing=reader.aclose)
        return self._async(pairs, _coded(answer))

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
            chunks=aiter(chunks) if closing is not None else aiter(Replay(chunks)),
            release=release,
        )


def _line(upstream: Any) -> dict[str, Any]:
    """What the first line of a response tells."""
    return {
        "status": 200,
        "reason": upstream.reason if upstream else http.HTTPStatus.OK.phrase,
        "http_version": upstream.http_version if upstream else "HTTP/1.1",
    }


def _coded(answer: HttpAnswer) -> Iterable[bytes]:
    return encoded(value_of(answer.headers, "content-encoding"), answer.chunks)


def _wire(transport: Any, request: Any, *rest: Any, **options: Any) -> Lm15Wire:
    return Lm15Wire(request)


DSPY: Final = HttpPatcher(
    {
        _TRANSPORTS: (
            ("StdlibTransport", "stream", stepping_in(_wire)),
            ("StdlibAsyncTransport", "_do_stream", stepping_in(_wire, is_async=True)),
        )
    }
)


def patch_dspy(
    cache: Cache | None = None,
    *,
    hosts: Iterable[str] | None = None,
    paths: Iterable[str] | None = None,
    when: When | None = None,
    same: Same = None,
    threads: bool = True,
) -> HttpPatch:
    """Make DSPy's default engine cacheable (3.4 and later), which speaks HTTP without any library.

    Inside a cache's block the requests that ``dspy.LM`` makes of these hosts and paths are served
    by that cache, sync and async, streamed or not, whether it is imported before or after. DSPy's
    own cache answers first: ``dspy.LM(..., cache=False)``. Earlier versions, and
    ``engine="litellm"``, go through LiteLLM, see `patch_openai`.

    Args:
        cache, hosts, paths, when, same, threads: as `patch_httpx` takes them.

    Returns a handle as `patch_httpx` does.

    Raises `ConfigurationError` if the engine lacks what is to be wrapped; where ``dspy`` is
    imported later, a `CacheWarning` says so.
    """
    return DSPY.patch(cache, when, hosts, paths, same=same, carry=threads)


def unpatch_dspy() -> None:
    """Undo every `patch_dspy`. Without one it does nothing."""
    DSPY.undo()
