"""The patch of httpx and httpx2: SDKs that speak them are served by the active cache."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final, Self

from cachewrap.cache import Cache
from cachewrap.entry import HttpAnswer
from cachewrap.http.exchange import When
from cachewrap.http.patcher import HttpPatch, HttpPatcher, stepping_in
from cachewrap.http.response import Wire, build, family_of
from cachewrap.http.routes import Routes
from cachewrap.http.serve import Caching
from cachewrap.http.shared_body import BodyReader
from cachewrap.http.tracking import OF_ONE_REQUEST
from cachewrap.policy import Same


class HttpxWire(Wire):
    """A request of httpx or httpx2, and its responses.

    Args:
        request: the request.
    """

    takes_body = True

    def __init__(self, request: Any) -> None:
        url, family = request.url, family_of(request)
        super().__init__(family, request.method, str(url), url.host, url.port, url.path)
        self._request, self._family = request, family

    def headers(self) -> Iterable[tuple[str, str]]:
        pairs: list[tuple[str, str]] = self._request.headers.multi_items()
        return pairs

    def content(self) -> bytes:
        request = self._request
        # A redirected request has the stream of the first one, but not its content.
        if isinstance(request.stream, self._family.held):
            request.read()
        content: bytes = request.content
        return content

    def with_body(self, content: bytes) -> Any:
        request = self._request
        headers = request.headers.copy()
        for name in ("content-length", "transfer-encoding", *OF_ONE_REQUEST):
            headers.pop(name, None)
        return self._family.request(
            request.method,
            request.url,
            headers=headers,
            content=content,
            extensions=request.extensions,
        )

    def timeout(self) -> object:
        return self._request.extensions.get("timeout")

    def head(self, response: Any) -> Any:
        return response

    def read(self, response: Any) -> bytes:
        try:
            content: bytes = response.read()
        finally:
            response.close()
        return content

    async def aread(self, response: Any) -> bytes:
        try:
            content: bytes = await response.aread()
        finally:
            await response.aclose()
        return content

    def recorded(self, response: Any, stream: Any) -> Any:
        response.stream = stream
        return response

    def whole(self, response: Any, content: bytes) -> Any:
        pairs = response.headers.multi_items()
        chunks = [content] if content else []
        whole = self._response(HttpAnswer(response.status_code, pairs, chunks, []), None)
        del whole.headers["x-cachewrap"]
        return whole

    def build(self, answer: HttpAnswer, reader: BodyReader | None) -> Any:
        return self._response(answer, reader)

    def _response(self, answer: HttpAnswer, reader: BodyReader | None) -> Any:
        return build(self._request, self._family, answer, self._request, reader)


class _Transport:
    """The part that the transports of both colours have in common."""

    _kind = ""

    def __init__(
        self,
        transport: Any = None,
        *,
        cache: Cache | None = None,
        hosts: Iterable[str] | None = None,
        paths: Iterable[str] | None = None,
        when: When | None = None,
    ) -> None:
        self._inner = transport
        self._caching = Caching(Routes(hosts, paths), cache, when)

    def _transport(self, request: Any) -> Any:
        if self._inner is None:
            # Made with the first request, which tells whether it is of httpx or httpx2.
            root = next(c for c in type(request).__mro__ if c.__name__ == "Request").__module__
            self._inner = getattr(sys.modules[root.partition(".")[0]], self._kind)()
        return self._inner


class CachedTransport(_Transport):
    """A transport for ``httpx.Client`` and ``httpx2.Client`` that serves from the active cache.

    For those who would rather inject than patch: ``httpx.Client(transport=CachedTransport())``.
    Only POST requests with a JSON body are cached, and of their answers those with status 200 that
    came whole and tell of no error. What a patched SDK sends through it is left to the SDK's patch.

    Args:
        transport: sends what is not cached; None is the library's own `HTTPTransport`.
        cache, paths, when: as `patch_httpx` takes them.
        hosts: patterns (``"api.mistral.ai"``, ``"127.0.0.1:*"``); None is every host.
    """

    _kind = "HTTPTransport"

    def handle_request(self, request: Any) -> Any:
        """Answer one request. See ``httpx.BaseTransport``."""
        inner = self._transport(request)
        return self._caching.handle(
            HttpxWire(request), lambda asked=request: inner.handle_request(asked)
        )

    def close(self) -> None:
        """Close the inner transport."""
        if self._inner is not None:
            self._inner.close()

    def __enter__(self) -> Self:
        if self._inner is not None:
            self._inner.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class AsyncCachedTransport(_Transport):
    """`CachedTransport` for ``httpx.AsyncClient`` and ``httpx2.AsyncClient``."""

    _kind = "AsyncHTTPTransport"

    async def handle_async_request(self, request: Any) -> Any:
        """Answer one request. See ``httpx.AsyncBaseTransport``."""
        inner = self._transport(request)
        return await self._caching.ahandle(
            HttpxWire(request), lambda asked=request: inner.handle_async_request(asked)
        )

    async def aclose(self) -> None:
        """Close the inner transport."""
        if self._inner is not None:
            await self._inner.aclose()

    async def __aenter__(self) -> Self:
        if self._inner is not None:
            await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


def _wire(transport: Any, request: Any) -> HttpxWire:
    return HttpxWire(request)


_TARGETS: Final = (
    ("HTTPTransport", "handle_request", stepping_in(_wire)),
    ("AsyncHTTPTransport", "handle_async_request", stepping_in(_wire, is_async=True)),
)
HTTPX: Final = HttpPatcher({"httpx": _TARGETS, "httpx2": _TARGETS})


def patch_httpx(
    cache: Cache | None = None,
    *,
    hosts: Iterable[str] | None = None,
    paths: Iterable[str] | None = None,
    when: When | None = None,
    split: bool = False,
    same: Same = None,
    threads: bool = True,
) -> HttpPatch:
    """Make the SDKs cacheable that speak plain httpx or httpx2: mistralai, google-genai, ollama, …

    Inside a cache's block the requests to these hosts and paths are served by that cache, sync and
    async, streamed or not, of clients that exist already as well. Only POST requests with a JSON
    body are cached, and of their answers those with status 200 that came whole and tell of no
    error. A request of an SDK that is patched by itself (`patch_openai` and its like) is left to
    that patch.

    Args:
        cache: serves the requests outside any block. Without it they are not cached.
        hosts: patterns (``"api.mistral.ai"``, ``"127.0.0.1:*"``) in place of what is known else:
            the known providers, servers for models of one's own on loopback and private hosts,
            and what ``CACHEWRAP_HOSTS`` names.
        paths: patterns of whole paths (``"*/chat/completions"``); None are those of the known
            providers, and of servers of one's own.
        when: takes an answer and says whether to store it: `cachewrap.predicates` has some. It is
            given the JSON of a plain answer, or its bytes; of a stream the list of its events.
        split: whether requests for embeddings or moderations of several texts are served text by
            text, see `CacheOptions`, of every cache that does not say ``split=False`` itself.
        same: rules of equality for these requests, see `CacheOptions`, behind the rules of whatever
            cache serves them.
        threads: False leaves threads alone, see `patch_threads`.

    Returns a handle with `undo`, which also works as a block. It may be applied several times; the
    newest application that knows a request serves it. What asks a model on a host that none of them
    knows is counted, in ``stats.unknown_hosts`` of the cache.

    Raises `ConfigurationError` for a pattern that names no host.
    """
    return HTTPX.patch(cache, when, hosts, paths, split=split, same=same, carry=threads)


def unpatch_httpx() -> None:
    """Undo every `patch_httpx`. Without one it does nothing."""
    HTTPX.undo()
