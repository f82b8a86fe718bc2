"""Transports for httpx and httpx2 that answer questions to models from the active cache."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Self

from cachewrap import faults, key
from cachewrap.cache import Cache
from cachewrap.choosing import choose_cache
from cachewrap.entry import HttpAnswer
from cachewrap.errors import ConfigurationError, UnkeyableError
from cachewrap.options import take_sample
from cachewrap.patch import capture, opened
from cachewrap.patch.answer import read_answer
from cachewrap.patch.endpoints import Endpoint
from cachewrap.patch.exchange import Answered, SdkExchange
from cachewrap.patch.joint import AsyncJointStream, JointStream, Reader
from cachewrap.patch.recorder import Proxy
from cachewrap.patch.request import canonical_headers, split_url
from cachewrap.patch.response import build, family_of, is_framed, snapshot
from cachewrap.patch.routes import PATHS, Routes, is_stream
from cachewrap.patch.secrets import is_secret, without_secrets

_PORTS: Final = {"http": 80, "https": 443}

_DONE: Final = re.compile(rb"[\r\n]data: ?\[DONE\](?:\r\n\r\n|\n\n|\r\r)")
_LONGEST: Final = len(b"\ndata: [DONE]\r\n\r\n") - 1

Joint = JointStream | AsyncJointStream | None


class Caching:
    """The way of one HTTP request: a hit, or upstream and the store.

    Args:
        routes: which requests may be cached.
        default: gives the cache of requests outside any block, or None.
    """

    def __init__(self, routes: Routes, default: Callable[[], Cache | None]) -> None:
        self._routes = routes
        self._default = default
        capture.watch()

    def knows(self, request: Any) -> bool:
        """Whether a request goes where questions go, and no patched SDK has decided on it."""
        url = request.url
        port = url.port or _PORTS.get(url.scheme, 0)
        return (
            request.method == "POST"
            and self._routes.match(url.host, port, url.path)
            and not capture.decided()
        )

    def handle(self, request: Any, send: Callable[[], Any]) -> Any:
        """Answer a sync request; ``send`` sends it on."""
        plan = self._plan(request)
        if plan is None:
            return send()
        sampled = take_sample(*plan[:2])
        try:
            return self._handle(request, send, *plan)
        except BaseException:
            if sampled is not None:
                sampled.failed()
            raise

    def _handle(
        self,
        request: Any,
        send: Callable[[], Any],
        cache: Cache,
        exchange: SdkExchange,
        streamed: bool,
    ) -> Any:
        rebuild = _Rebuild(request, cache)
        if streamed:

            def open_() -> Any:
                response = send()
                if response.status_code == 200:
                    capture.take_open(response, is_async=False)
                    response.stream = _Settling(response.stream)
                return response

            return opened.serve(cache, exchange, open_, rebuild)

        own: list[Answered] = []

        def call() -> Answered:
            # In its slot, so that a cached transport further in knows that this one decides.
            response = capture.send(capture.Slot(cache, exchange), send)
            if response.status_code != 200:
                own.append(Answered(None, None, response))
                return own[-1]
            try:
                response.read()
            finally:
                response.close()
            own.append(_answered(exchange, response, request))
            return own[-1]

        reply = cache.serve(exchange, call)
        if own and (reply.own or reply.value is own[-1]):
            return own[-1].result
        return rebuild(reply.value.answer, None)

    async def ahandle(self, request: Any, send: Callable[[], Awaitable[Any]]) -> Any:
        """`handle` for async requests."""
        plan = self._plan(request)
        if plan is None:
            return await send()
        sampled = take_sample(*plan[:2])
        try:
            return await self._ahandle(request, send, *plan)
        except BaseException:
            if sampled is not None:
                sampled.failed()
            raise

    async def _ahandle(
        self,
        request: Any,
        send: Callable[[], Awaitable[Any]],
        cache: Cache,
        exchange: SdkExchange,
        streamed: bool,
    ) -> Any:
        rebuild = _Rebuild(request, cache)

        async def arebuild(answer: HttpAnswer | None, stream: Joint) -> Any:
            return rebuild(answer, stream)

        if streamed:

            async def open_() -> Any:
                response = await send()
                if response.status_code == 200:
                    capture.take_open(response, is_async=True)
                    response.stream = _Settling(response.stream)
                return response

            return await opened.aserve(cache, exchange, open_, arebuild)
        own: list[Answered] = []

        async def call() -> Answered:
            response = await capture.asend(capture.Slot(cache, exchange), send)
            if response.status_code != 200:
                own.append(Answered(None, None, response))
                return own[-1]
            try:
                await response.aread()
            finally:
                await response.aclose()
            own.append(_answered(exchange, response, request))
            return own[-1]

        reply = await cache.aserve(exchange, call)
        if own and (reply.own or reply.value is own[-1]):
            return own[-1].result
        return rebuild(reply.value.answer, None)

    def _plan(self, request: Any) -> tuple[Cache, SdkExchange, bool] | None:
        """The cache, the exchange and whether a stream is read; None for what goes straight on."""
        cache = choose_cache(default=self._default)
        if cache is None or not self.knows(request):
            return None
        url = request.url
        endpoint = Endpoint(url.path.strip("/"), wire=True)
        try:
            body = json.loads(request.content)
            streamed = is_stream(url.path, body, request.headers.get("accept", ""))
            canonical = _canonical(request, body, cache.policy.keyed)
            if streamed and not is_stream(url.path, body, ""):
                canonical["stream"] = True  # what else tells it is no part of the key
            exchange = SdkExchange(endpoint, canonical, cache.policy)
        except UnkeyableError as error:
            cache.bypass(endpoint.source, "unkeyable")
            faults.warn_once(
                (UnkeyableError, endpoint.source),
                f"{endpoint.source}: the call is not cached: {error}",
            )
            return None
        except (ValueError, RuntimeError):
            # No JSON, or a body that is read while it is sent.
            cache.bypass(endpoint.source, "raw body")
            return None
        if isinstance(body, dict) and (body.get("background") or body.get("conversation")):
            reason = "background" if body.get("background") else "conversation"
            cache.bypass(endpoint.source, reason)
            return None
        return cache, exchange, streamed


def _canonical(request: Any, body: Any, keyed: Collection[str]) -> dict[str, Any]:
    url, pairs = split_url(str(request.url))
    query: dict[str, list[str]] = {}
    for name, value in pairs:
        if name.lower() in keyed or not is_secret(name):
            query.setdefault(name, []).append(value)
    canonical: dict[str, Any] = {"method": request.method, "url": url}
    if query:
        canonical["query"] = query
    if headers := canonical_headers(request.headers.multi_items(), keyed):
        canonical["headers"] = headers
    canonical["body"] = key.canonical_json(
        without_secrets(body) if isinstance(body, dict) else body
    )
    return canonical


def _answered(exchange: SdkExchange, response: Any, request: Any) -> Answered:
    """What is stored of a response that was read, and the response as a hit would be."""
    content = response.content
    answer = snapshot(response, [content] if content else [], [], streamed=False)
    usage = read_answer(
        exchange.endpoint, answer, stream=False, ended=True, framed=is_framed(response)
    )
    whole = HttpAnswer(response.status_code, response.headers.multi_items(), answer.chunks, [])
    return Answered(answer if usage else None, usage, _response(request, whole, mark=False))


def _response(request: Any, answer: HttpAnswer, reader: Any = None, *, mark: bool = True) -> Any:
    response = build(
        request,
        answer,
        method=request.method,
        url=str(request.url),
        headers={},
        reader=reader,
    )
    response.request = request
    if not mark:
        del response.headers["x-cachewrap"]
    return response


class _Rebuild:
    """Makes the response of a stored answer, or of one under way."""

    def __init__(self, request: Any, cache: Cache) -> None:
        self._request = request
        self._cache = cache

    def __call__(self, answer: HttpAnswer | None, stream: Joint) -> Any:
        assert answer is not None
        reader = None
        if stream is not None:
            broken = family_of(self._request).read_error
            reader = Reader(self._cache, stream, leads=False, broken=broken)
        return _response(self._request, answer, reader)


class _Settling(Proxy):
    """A recorded stream that is stored at its closing mark.

    Some SDKs drop the stream there, and a stream that was dropped is not stored.
    """

    def __iter__(self) -> Iterator[bytes]:
        tail = b""
        for chunk in self.__wrapped__:
            tail += chunk
            if _DONE.search(tail):
                self.__wrapped__.settle()
            tail = tail[-_LONGEST:]
            yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        tail = b""
        async for chunk in self.__wrapped__:
            tail += chunk
            if _DONE.search(tail) and (awaitable := self.__wrapped__.settle()) is not None:
                await awaitable
            tail = tail[-_LONGEST:]
            yield chunk


class _Transport:
    """What the transports of both colours have in common."""

    _kind = ""

    def __init__(
        self,
        transport: Any = None,
        *,
        cache: Cache | None = None,
        hosts: Iterable[str] | None = None,
        paths: Iterable[str] | None = None,
    ) -> None:
        if cache is not None and not isinstance(cache, Cache):
            raise ConfigurationError(
                f"cache= takes a cachewrap Cache or None, got {type(cache).__name__}"
            )
        self._inner = transport
        self._caching = Caching(Routes(hosts, PATHS if paths is None else paths), lambda: cache)

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
        cache: serves the requests outside any block. Without it they go straight through.
        hosts: patterns (``"api.mistral.ai"``, ``"127.0.0.1:*"``); None is every host.
        paths: patterns of whole paths (``"*/chat/completions"``); None are those of the known
            providers.
    """

    _kind = "HTTPTransport"

    def handle_request(self, request: Any) -> Any:
        """Answer one request. See ``httpx.BaseTransport``."""
        inner = self._transport(request)
        return self._caching.handle(request, lambda: inner.handle_request(request))

    def close(self) -> None:
        """Close the inner transport."""
        if self._inner is not None:
            self._inner.close()

    def __enter__(self) -> Self:
        if self._inner is not None:
            self._inner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self.close()


class AsyncCachedTransport(_Transport):
    """`CachedTransport` for ``httpx.AsyncClient`` and ``httpx2.AsyncClient``."""

    _kind = "AsyncHTTPTransport"

    async def handle_async_request(self, request: Any) -> Any:
        """Answer one request. See ``httpx.AsyncBaseTransport``."""
        inner = self._transport(request)
        return await self._caching.ahandle(request, lambda: inner.handle_async_request(request))

    async def aclose(self) -> None:
        """Close the inner transport."""
        if self._inner is not None:
            await self._inner.aclose()

    async def __aenter__(self) -> Self:
        if self._inner is not None:
            await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self.aclose()
