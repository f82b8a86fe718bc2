"""The patch of aiohttp: SDKs and programs that speak it are served by the active cache."""

from __future__ import annotations

import asyncio
import http
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable
from copy import copy
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

from cachewrap.cache import Cache
from cachewrap.entry import HttpAnswer
from cachewrap.http.answers import value_of
from cachewrap.http.encodings import decoded, encoded
from cachewrap.http.exchange import When
from cachewrap.http.patcher import HttpPatch, HttpPatcher
from cachewrap.http.response import Head, Headers, Wire, marked, raising
from cachewrap.http.routes import Routes
from cachewrap.http.serve import Caching
from cachewrap.http.shared_body import BodyReader
from cachewrap.http.tracking import OF_ONE_REQUEST
from cachewrap.policy import Same

Next: TypeAlias = Callable[[], Awaitable[bytes]]
"""Gives the next piece of a body, b"" at its end."""

_LIMIT: Final = 65_536  # bytes that a stream holds before it asks its sender to wait

_leaving: Final[set[asyncio.Task[None]]] = set()


class AiohttpWire(Wire):
    """A request of aiohttp, and its responses.

    Args:
        request: the request.
        decompressed: whether aiohttp takes the codings off the bodies.
        timeout: the caller's, of which aiohttp itself keeps the total.
    """

    takes_body = True

    def __init__(self, request: Any, *, decompressed: bool, timeout: Any = None) -> None:
        url = request.url
        aiohttp = sys.modules["aiohttp"]
        library = raising(
            aiohttp.ClientPayloadError,
            read_timeout=aiohttp.ServerTimeoutError,
            is_decoded=decompressed,
        )
        super().__init__(library, request.method, str(url), url.host, url.port, url.raw_path)
        self._request = request
        self._decompressed = decompressed
        self._timeout = timeout

    def headers(self) -> Iterable[tuple[str, str]]:
        return [(str(name), str(value)) for name, value in self._request.headers.items()]

    def content(self) -> bytes | str:
        body = self._request.body
        if isinstance(body, bytes):
            return body
        if not isinstance(body, sys.modules["aiohttp"].payload.BytesPayload):
            raise ValueError("a body that is read while it is sent")
        text: str = body.decode()
        return text

    async def awith_body(self, content: bytes) -> Any:
        other = copy(self._request)
        other.headers = self._request.headers.copy()
        for name in OF_ONE_REQUEST:
            other.headers.popall(name, None)
        other._body = None  # which is the first one's, to be closed with that
        await other.update_body(content)
        return other

    def timeout(self) -> object:
        return getattr(self._timeout, "sock_read", None)

    def head(self, response: Any) -> Head:
        pairs = [(_storable(name), _storable(value)) for name, value in _pairs(response)]
        return Head(response.status, Headers(pairs), self.library, _Upstream(response))

    async def aread(self, response: Any) -> bytes:
        body: bytes = await response.read()
        if self._decompressed:
            return body
        return decoded(response.headers.get("content-encoding"), body)

    async def arecorded(self, response: Any, stream: Any) -> Any:
        return await self._pulled(_pairs(response), stream, response)

    async def awhole(self, response: Any, content: bytes) -> Any:
        return await self._respond(_pairs(response), [await response.read()], response)

    async def abuild(self, answer: HttpAnswer, reader: BodyReader | None) -> Any:
        pairs = marked(answer, reader)
        if reader:
            return await self._pulled(pairs, reader)
        chunks: Iterable[bytes] = answer.chunks
        if not self._decompressed:
            try:
                chunks = encoded(value_of(pairs, "content-encoding"), chunks)
            except LookupError:
                # It is stored decoded, and cannot be given as it came: then without that coding.
                pairs = [pair for pair in pairs if pair[0].lower() != "content-encoding"]
        return await self._respond(pairs, chunks, streamed=answer.streamed)

    async def _respond(
        self,
        pairs: list[tuple[str, str]],
        chunks: Iterable[bytes],
        upstream: Any = None,
        *,
        streamed: bool = False,
    ) -> Any:
        """A response whose body is there; that of a stream is read piece by piece."""
        pieces = iter(chunks)

        async def take() -> bytes:
            return next(pieces, b"")

        content = self._stream(take, pairs)
        if not streamed:
            for piece in pieces:
                content.feed_piece(piece)
            content.feed_eof()
        return await self._start(pairs, content, _Connection(None), upstream)

    async def _pulled(self, pairs: list[tuple[str, str]], stream: Any, upstream: Any = None) -> Any:
        """A response whose body is read from a stream."""
        pulling = _Pulling(stream)
        content = self._stream(pulling.take, pairs)
        return await self._start(pairs, content, _Connection(pulling), upstream)

    def _stream(self, take: Next, pairs: list[tuple[str, str]]) -> Any:
        chunked = "chunked" in (value_of(pairs, "transfer-encoding") or "").lower()
        return _reader_class(sys.modules["aiohttp"])(take, self._request.loop, chunked)

    async def _start(
        self, pairs: list[tuple[str, str]], content: Any, connection: _Connection, upstream: Any
    ) -> Any:
        """The library's own response, which takes this head and body from its connection."""
        aiohttp, request = sys.modules["aiohttp"], self._request
        given = {
            "writer": None,
            "continue100": None,
            "timer": request._timer,
            "request_info": request.request_info,
            "traces": request._traces,
            "loop": request.loop,
            "session": request.session,
        }
        if _takes_writer(aiohttp.ClientResponse):
            given["stream_writer"] = SimpleNamespace(output_size=0)
        response = request.response_class(request.method, request.original_url, **given)
        multidict = sys.modules["multidict"]
        message = aiohttp.http.RawResponseMessage(
            version=upstream.version if upstream else aiohttp.HttpVersion11,
            code=200,
            reason=upstream.reason if upstream else http.HTTPStatus.OK.phrase,
            headers=multidict.CIMultiDictProxy(multidict.CIMultiDict(pairs)),
            raw_headers=tuple(
                (name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape"))
                for name, value in pairs
            ),
            should_close=False,
            compression=None,
            upgrade=False,
            chunked=value_of(pairs, "transfer-encoding") is not None,
        )
        connection.protocol.message = message, content
        return await response.start(connection)


class _Upstream:
    """The body of a response as it comes."""

    def __init__(self, response: Any) -> None:
        self._response = response

    async def __aiter__(self) -> Any:
        content = self._response.content
        while True:
            piece, ends_chunk = await content.readchunk()
            if piece:
                yield piece
            elif not ends_chunk:
                return

    async def aclose(self) -> None:
        """Close the response, whose connection goes back if all of it was read."""
        self._response.release()


class _Pulling:
    """A reader of a recorded stream, so that whoever is cancelled while it waits loses nothing."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._pieces = aiter(stream)
        self._pull: asyncio.Task[bytes] | None = None

    async def take(self) -> bytes:
        if self._pull is None:
            self._pull = asyncio.create_task(self._next())
        pull = self._pull
        try:
            return await asyncio.shield(pull)
        finally:
            if pull.done():
                self._pull = None

    async def _next(self) -> bytes:
        # A task of its own would change the blocks of nobody: nothing is entered in it.
        piece: bytes = await anext(self._pieces, b"")
        if not piece:
            await self._stream.aclose()
        return piece

    async def aclose(self) -> None:
        """Give up what is being read, and close the stream."""
        if self._pull is not None:
            self._pull.cancel()
            await asyncio.wait([self._pull])
        await self._stream.aclose()


class _Protocol:
    """The part of a connection's protocol that a response asks."""

    upgraded = False
    message: tuple[Any, Any]

    async def read(self) -> tuple[Any, Any]:
        return self.message


class _Connection:
    """The part of a connection that a response asks: a body of ours, to give up or to have read."""

    transport = None

    def __init__(self, pulling: _Pulling | None) -> None:
        self.protocol = _Protocol()
        self._pulling = pulling
        self._callbacks: list[Callable[[], None]] = []
        self._loop = asyncio.get_running_loop()

    def add_callback(self, callback: Callable[[], None]) -> None:
        """Call this when the response gives the connection up."""
        self._callbacks.append(callback)

    def release(self) -> None:
        """The response is not read on. Its finaliser may say so, in any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._leave)

    close = release

    def _leave(self) -> None:
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
        pulling, self._pulling = self._pulling, None
        if pulling is not None:
            task = asyncio.create_task(pulling.aclose())
            _leaving.add(task)
            task.add_done_callback(_leaving.discard)


@lru_cache(maxsize=1)
def _takes_writer(response_class: type) -> bool:
    """Whether responses are given what sent their request, as from aiohttp 3.14 on."""
    return "stream_writer" in inspect.signature(response_class).parameters


@lru_cache(maxsize=1)
def _reader_class(aiohttp: Any) -> Any:
    class Protocol(sys.modules["aiohttp.base_protocol"].BaseProtocol):  # type: ignore[misc]
        """The protocol of a body that nobody sends: there is nobody who could be asked to wait."""

        def pause_reading(self) -> None:
            pass

        def resume_reading(self, *args: Any, **kwargs: Any) -> None:
            pass

    class Reader(aiohttp.StreamReader):
        """A stream that asks for its next piece when its reader has had the last."""

        def __init__(self, take: Next, loop: Any, chunked: bool) -> None:
            super().__init__(Protocol(loop), _LIMIT, loop=loop)
            self._take = take
            self._chunked = chunked

        def feed_piece(self, piece: bytes) -> None:
            if self._chunked:
                self.begin_http_chunk_receiving()
            self.feed_data(piece, len(piece))
            if self._chunked:
                self.end_http_chunk_receiving()

        async def _wait(self, func_name: str) -> None:
            try:
                piece = await self._take()
            except Exception as error:
                self.set_exception(error)
                raise
            if piece:
                self.feed_piece(piece)
            else:
                self.feed_eof()

    Reader.__name__ = Reader.__qualname__ = "StreamReader"
    return Reader


def _pairs(response: Any) -> list[tuple[str, str]]:
    # Those in `headers` are of a subclass of text.
    return [
        (name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))
        for name, value in response.raw_headers
    ]


def _storable(text: str) -> str:
    """A header as text that can be stored: what is not UTF-8 is read as Latin-1, as by httpx."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("latin-1")
    return text


class CachedMiddleware:
    """A client middleware for sessions of aiohttp (3.12 and later) that serves from the cache.

    To inject rather than patch: ``aiohttp.ClientSession(middlewares=[CachedMiddleware()])``.
    Put it last, so that others see what it answers. Only POST requests with a JSON body are cached,
    and of their answers those with status 200 that came whole and tell of no error. A request with
    an ``auto_decompress=`` of its own is for `patch_aiohttp`: a middleware is told of neither it
    nor a ``timeout=`` of its own.

    Args:
        cache, paths, when: as `patch_httpx` takes them.
        hosts: patterns (``"api.mistral.ai"``, ``"127.0.0.1:*"``); None is every host.
    """

    def __init__(
        self,
        *,
        cache: Cache | None = None,
        hosts: Iterable[str] | None = None,
        paths: Iterable[str] | None = None,
        when: When | None = None,
    ) -> None:
        self._caching = Caching(Routes(hosts, paths), cache, when)

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Answer one request. See ``aiohttp.ClientMiddlewareType``."""
        session = request.session
        wire = AiohttpWire(request, decompressed=session.auto_decompress, timeout=session.timeout)
        return await self._caching.ahandle(wire, lambda asked=request: handler(asked))


def _request(
    patcher: HttpPatcher,
    wrapped: Callable[..., Awaitable[Any]],
    session: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Awaitable[Any]:
    method = args[0] if args else kwargs["method"]
    if not patcher.patches or method.upper() != "POST":
        return wrapped(*args, **kwargs)
    given, decompressed = kwargs.get("middlewares"), kwargs.get("auto_decompress")
    if decompressed is None:
        decompressed = session.auto_decompress
    # The last one, next to the connection: whatever else is there sees hits and misses alike.
    timeout = kwargs.get("timeout")
    timeout = timeout if hasattr(timeout, "sock_read") else session.timeout
    ours = partial(_serve, patcher, decompressed, timeout)
    outer = session._middlewares if given is None else given
    return wrapped(*args, **{**kwargs, "middlewares": (*outer, ours)})


async def _serve(
    patcher: HttpPatcher,
    decompressed: bool,
    timeout: Any,
    request: Any,
    handler: Callable[[Any], Awaitable[Any]],
) -> Any:
    wire = AiohttpWire(request, decompressed=decompressed, timeout=timeout)
    caching = patcher.serving(wire)

    def send(asked: Any = request) -> Awaitable[Any]:
        return handler(asked)

    return await (send() if caching is None else caching.ahandle(wire, send))


AIOHTTP: Final = HttpPatcher(
    {"aiohttp.client": (("ClientSession", "_request", _request),)},
    needs={"aiohttp.client": "build_client_middlewares"},
)


def patch_aiohttp(
    cache: Cache | None = None,
    *,
    hosts: Iterable[str] | None = None,
    paths: Iterable[str] | None = None,
    when: When | None = None,
    split: bool = False,
    same: Same = None,
    threads: bool = True,
) -> HttpPatch:
    """Make cacheable what speaks aiohttp (3.12 and later), as `patch_httpx` does for httpx.

    Inside a cache's block the requests to these hosts and paths are served by that cache, streamed
    or not, of sessions that exist already as well, below their other middlewares. Only POST
    requests with a JSON body are cached, and of their answers those with status 200 that came whole
    and tell of no error. A hit sets no cookies: they are credentials, and not stored. What
    `patch_httpx` has stored of the same request serves here too.

    Args:
        cache, hosts, paths, when, split, same, threads: as `patch_httpx` takes them.

    Returns a handle as `patch_httpx` does.

    Raises `ConfigurationError` if the installed version has no middlewares; where ``aiohttp`` is
    imported later, a `CacheWarning` says so.
    """
    return AIOHTTP.patch(cache, when, hosts, paths, split=split, same=same, carry=threads)


def unpatch_aiohttp() -> None:
    """Undo every `patch_aiohttp`. Without one it does nothing."""
    AIOHTTP.undo()
