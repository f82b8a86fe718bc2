"""The way of one request through the proxy: who asks, where it goes, cached or passed on."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Final, TypeAlias
from urllib.parse import unquote, urlsplit

from cachewrap.cache import Cache
from cachewrap.entry import Outcome
from cachewrap.errors import CachewrapError, ConfigurationError, ReplayMissError
from cachewrap.http.response import MARK, Wire
from cachewrap.http.routes import Routes, is_private
from cachewrap.http.serve import Caching
from cachewrap.http.tracking import OF_ONE_REQUEST
from cachewrap.proxy.controls import Controls, read_controls
from cachewrap.proxy.messages import (
    OVERDUE,
    BadBody,
    ClientGone,
    Pairs,
    Raw,
    Request,
    Response,
    Senders,
    UpstreamError,
)
from cachewrap.proxy.metrics import front
from cachewrap.proxy.providers import Found, NoUpstream, Upstreams
from cachewrap.proxy.settings import Served, Settings
from cachewrap.proxy.shapes import error_body, replay_miss
from cachewrap.proxy.siblings import Handed, Siblings, fault_header
from cachewrap.proxy.wire import (
    LIBRARY,
    REASONS,
    Answer,
    Passed,
    ProxyWire,
    asked_once,
    asked_upstream,
    paced,
    passed_on,
    with_known_codings,
)

log: Final = logging.getLogger("cachewrap.proxy")

Page: TypeAlias = Callable[[], tuple[int, str, bytes]]
"""Makes a page of the proxy's own: status, content type, body."""

_MARK: Final = MARK.encode()
_MARKS: Final = {
    Outcome.HIT: "hit",
    Outcome.MISS: "miss",
    Outcome.JOINED: "joined",
    Outcome.BYPASSED: "bypass",
}
_OF_THE_FIRST: Final = frozenset({b"content-encoding", *(name.encode() for name in OF_ONE_REQUEST)})
"""Headers of a request that another one with a part of its list does not have."""

_SMALL: Final = 1024 * 1024
"""Bytes of a body of which any number is held at a time."""

_BODIES: Final = 8
"""Larger bodies that are held at a time, if each is as large as may be; others pass."""

_OPEN_TO_ALL: Final = frozenset({"/healthz"})


class NotAllowed(Exception):
    """A request of one who may not ask.

    Args:
        status: that tells the client so.
        message: the same in words.
        code: the same in a word, for programs.
    """

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Gateway:
    """The proxy, as a handler of requests.

    Args:
        settings: what it was told.
        upstreams: where requests may go.
        senders: the way there.
        cache: serves them.
        observe: is told of each request when it is over.
        pages: the proxy's own, by path.
        siblings: the other workers; None where there are none.
    """

    def __init__(
        self,
        settings: Settings,
        upstreams: Upstreams,
        senders: Senders,
        cache: Cache,
        observe: Callable[[Served], None],
        pages: Mapping[str, Page],
        siblings: Siblings | None = None,
    ) -> None:
        self._settings = settings
        self._upstreams = upstreams
        self._senders = senders
        self._cache = cache
        self._observe = observe
        self._pages = pages
        self._siblings = siblings
        self._token = settings.token.encode()
        self._held = 0
        self._routes = Routes(None, None)
        self._caching = Caching(self._routes, cache, whole=True)

    async def __call__(self, request: Request, response: Response) -> None:
        """Answer one request."""
        passage = _Passage(request, response)
        try:
            await self._answer(passage)
        finally:
            passage.served.seconds = time.perf_counter() - passage.started
            self._observe(passage.served)

    async def from_sibling(self, request: Request, response: Response) -> None:
        """Answer a request that another worker hands over, who has let its client in."""
        await self._answer(_Passage(request, response, is_handed=True))

    async def _answer(self, passage: _Passage) -> None:
        request, served = passage.request, passage.served
        shape = "openai"
        try:
            target = self._admitted(request, passage)
            path = target.partition("?")[0]
            if page := self._pages.get(path):
                served.path = path
                await passage.own(*page(), "")
                return
            if path == "/":
                served.path = path
                await passage.own(*front(self._root(request), self._upstreams.places), "")
                return
            found = self._upstreams.find(target)
            shape, served.upstream = found.upstream.shape, found.upstream.name
            served.path = found.path
            if request.upgrade == "websocket":
                await self._tunnel(found, passage)
            elif request.method != "POST":
                await self._pass(found, passage, "method")
            elif self._may_serve(found):
                await self._serve(found, target, passage)
            else:
                await self._pass(found, passage, "endpoint")
        except ClientGone:
            served.error = "client left"
        except asyncio.CancelledError as error:
            served.error = OVERDUE if OVERDUE in error.args else "client left"
            raise
        except Exception as error:
            await self._fail(error, shape, passage)

    # -- who may ask ---------------------------------------------------------------------------

    def _admitted(self, request: Request, passage: _Passage) -> str:
        """The target of a request of one who may ask, without its token. Raises `NotAllowed`."""
        controls = passage.controls = read_controls(request.headers)
        target = request.target
        if passage.is_handed:
            return target
        if not self._token:
            _check_browser(request)
            return target
        first, slash, rest = target[1:].partition("/")
        in_path = slash and hmac.compare_digest(unquote(first).encode(), self._token)
        if in_path:
            return f"/{rest}"
        in_header = hmac.compare_digest(controls.token.encode(), self._token)
        if not in_header and target.partition("?")[0] not in _OPEN_TO_ALL:
            raise NotAllowed(
                401,
                "this proxy asks for its token: as the header x-cachewrap-token, or as the first "
                "part of the path, as in /TOKEN/openai/v1",
                "no_token",
            )
        return target

    def _root(self, request: Request) -> str:
        """The address by which a client that may ask has found the proxy, with the token."""
        hosts = [
            value.decode("latin-1") for name, value in request.headers if name.lower() == b"host"
        ]
        root = f"http://{hosts[0] if hosts else 'HOST:PORT'}"
        return f"{root}/TOKEN" if self._token else root

    def _may_serve(self, found: Found) -> bool:
        path = found.path.rstrip("/")
        return self._routes.has_path(path) or self._routes.takes_files("", 0, path)

    # -- the ways ------------------------------------------------------------------------------

    async def _serve(self, found: Found, target: str, passage: _Passage) -> None:
        """Answer a request that may be cached."""
        request, most = passage.request, self._settings.limits.held_bytes
        body = await request.read(min(_SMALL, most))
        if body is not None:
            await self._serve_body(found, target, passage, body)
            return
        length = next((v for name, v in request.headers if name.lower() == b"content-length"), b"")
        size = min(int(length or most), most)
        if self._held + size > _BODIES * most:
            await self._pass(found, passage, "busy")
            return
        self._held += size
        try:
            body = await request.read(most)
            if body is not None:
                await self._serve_body(found, target, passage, body)
                return
        finally:
            self._held -= size
        await self._pass(found, passage, "too large")

    async def _serve_body(self, found: Found, target: str, passage: _Passage, body: bytes) -> None:
        request, served = passage.request, passage.served
        served.received = len(body)
        headers, origin = asked_upstream(request.headers), found.upstream.origin

        async def send(other: bytes | None = None) -> Passed:
            known = with_known_codings(asked_once(headers))
            if other is not None:
                known = [pair for pair in known if pair[0].lower() not in _OF_THE_FIRST]
            asked = body if other is None else other
            return Passed(
                await self._senders.send(origin, request.method, found.target, known, asked)
            )

        siblings = None if passage.is_handed else self._siblings

        async def elsewhere(key: str) -> Handed | None:
            assert siblings is not None
            return await siblings.ask(key, target, request, body)

        controls = passage.controls
        pace = self._settings.pace if controls.pace is None else controls.pace
        wire = ProxyWire(request.method, headers, body, found.url, origin, found.path, pace=pace)
        try:
            result = await self._caching.ahandle(
                wire, send, controls.options, elsewhere if siblings else None
            )
        finally:
            served.reason = wire.reason or ""
            if wire.exchange is not None:
                served.key, served.model = wire.exchange.key, wire.exchange.model or ""
                wire.exchange = None  # each of them knows the other, and both the body
        mark = _MARKS[wire.outcome]
        if isinstance(result, Handed):
            mark, served.error = result.mark, result.fault
        await passage.relay(result.answer() if isinstance(result, Passed) else result, mark)

    async def _pass(self, found: Found, passage: _Passage, reason: str) -> None:
        """Pass on a request that is not cached, without holding any of it."""
        request, served = passage.request, passage.served
        served.reason = reason
        self._caching.bypass(_unread(found, passage), reason, passage.controls.options)
        incoming = await self._senders.send(
            found.upstream.origin,
            request.method,
            found.target,
            asked_upstream(request.headers, expects=request.expects),
            passage.pieces() if _has_body(request.headers) else None,
            trailers=lambda: request.trailers,
            inform=passage.response.inform,
        )
        await passage.relay(Passed(incoming).answer(), "bypass")

    async def _tunnel(self, found: Found, passage: _Passage) -> None:
        """Connect a client that speaks no HTTP from now on."""
        request, response, served = passage.request, passage.response, passage.served
        own = passage.controls.options
        served.reason = "websocket"
        self._caching.bypass(_unread(found, passage), "websocket", own, asks_model=True)
        incoming = await self._senders.send(
            found.upstream.origin,
            request.method,
            found.target,
            asked_upstream(request.headers),
            None,
            upgrade=request.upgrade,
        )
        if incoming.status != 101:
            await passage.relay(Passed(incoming).answer(), "bypass")
            return
        served.status, served.outcome = 101, "bypass"
        upstream = incoming.raw()
        try:
            headers = _marked(passed_on(incoming.headers), "bypass")
            client = await response.upgraded(incoming.reason, headers)
            await _pump(client, upstream, served)
        finally:
            upstream.close()

    # -- what went wrong -----------------------------------------------------------------------

    async def _fail(self, error: Exception, shape: str, passage: _Passage) -> None:
        """Tell a client what went wrong, as its provider would."""
        served, response = passage.served, passage.response
        status, code, mark = 500, "proxy_error", "bypass"
        message = str(error)
        body: tuple[str, bytes] | None = None
        if isinstance(error, ReplayMissError):
            status, mark, served.error = 404, "miss", "not stored"
            body = replay_miss(shape, error, self._settings.command)
        elif isinstance(error, NotAllowed):
            status, code, served.error = error.status, error.code, error.code
        elif isinstance(error, NoUpstream):
            status, code, served.error = error.status, "unknown_upstream", "unknown upstream"
        elif isinstance(error, BadBody):
            status, code, served.error = error.status, "bad_body", "bad body"
        elif isinstance(error, UpstreamError):
            status, code, served.error = error.status, "upstream_error", str(error)
        elif isinstance(error, ConfigurationError):
            status, code, served.error = 400, "bad_control", "bad control"
        else:
            served.error = type(error).__name__
            if not isinstance(error, CachewrapError):
                message = f"the proxy failed ({type(error).__name__})"
                log.error("%s %s", served.method, served.path, exc_info=error)
        if response.started:
            response.abort()
            return
        kind, content = body or error_body(shape, status, message, code)
        with suppress(ClientGone):
            await passage.own(status, kind, content, mark)


class _Passage:
    """One request on its way through the proxy.

    Args:
        request: the request.
        response: its answer.
        is_handed: whether another worker has the client.
    """

    def __init__(self, request: Request, response: Response, *, is_handed: bool = False) -> None:
        self.request = request
        self.is_handed = is_handed
        self.response = response
        self.started = time.perf_counter()
        self.controls = Controls()
        self.served = Served(peer=request.peer, method=request.method)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body of the request as it comes, counted."""
        async for piece in self.request:
            self.served.received += len(piece)
            yield piece

    async def relay(self, answer: Answer, mark: str) -> None:
        """Send an answer, as it comes."""
        served, response = self.served, self.response
        served.status, served.outcome = answer.status, mark
        headers = _marked(answer.headers, mark)
        served.first_seconds = time.perf_counter() - self.started
        if answer.stream is None and len(answer.body) <= 1 and not answer.trailers:
            body = answer.body[0] if answer.body else b""
            served.sent = len(body)
            await response.whole(answer.status, answer.reason, headers, body)
            return
        if answer.stream is None and not answer.delays:
            served.sent = sum(map(len, answer.body))
            pieces, trailers = answer.body, answer.trailers
            await response.pieces(answer.status, answer.reason, headers, pieces, trailers)
            return
        try:
            await response.start(answer.status, answer.reason, headers)
            if answer.stream is not None:
                async for piece in answer.stream:
                    served.sent += len(piece)
                    await response.send(piece)
            else:
                await paced(answer.body, answer.delays, self._send)
            await response.finish(answer.trailers)
        finally:
            await answer.aclose()

    async def _send(self, piece: bytes) -> None:
        self.served.sent += len(piece)
        await self.response.send(piece)

    async def own(self, status: int, kind: str, body: bytes, mark: str) -> None:
        """Send an answer of the proxy's own."""
        served = self.served
        served.status, served.outcome, served.sent = status, mark, len(body)
        served.first_seconds = time.perf_counter() - self.started
        headers: Pairs = [(b"content-type", kind.encode()), (b"cache-control", b"no-store")]
        if mark:
            headers.append((_MARK, mark.encode()))
        if self.is_handed:
            headers.append(fault_header(served.error))
        await self.response.whole(status, REASONS.get(status, b""), headers, body)


def _unread(found: Found, passage: _Passage) -> Wire:
    """A request that is not read, for who counts it."""
    origin, method = found.upstream.origin, passage.request.method
    return Wire(LIBRARY, method, found.url, origin.host, origin.port, found.path)


def _marked(headers: Pairs, mark: str) -> Pairs:
    """An upstream's headers, with what the answer is in place of what another proxy said of it."""
    kept = [pair for pair in headers if pair[0].lower() != _MARK]
    kept.append((_MARK, mark.encode()))
    return kept


def _has_body(headers: Pairs) -> bool:
    names = {name.lower() for name, _ in headers}
    return b"transfer-encoding" in names or b"content-length" in names


def _check_browser(request: Request) -> None:
    """Raise `NotAllowed` for what a page of another site makes a browser on this machine ask.

    It shows by the ``Origin`` that a browser tells, or by the name under which it has found the
    proxy (https://en.wikipedia.org/wiki/DNS_rebinding). Origins of other schemes are programs. Of
    an image or a script that a page wants there is no origin, but where it is from.
    """
    given = {name.lower(): value for name, value in request.headers}
    for name, before in ((b"host", "http://"), (b"origin", "")):
        value = given.get(name, b"").decode("latin-1")
        if name in given and not _is_ours(f"{before}{value}"):
            raise _foreign(
                f"{name.decode()} {value!r} is no address of this machine or its network"
            )
    if given.get(b"sec-fetch-site", b"").lower() == b"cross-site" and b"origin" not in given:
        raise _foreign("a page of another site wants it for a part of itself")


def _foreign(what: str) -> NotAllowed:
    message = f"{what}: without a token the proxy answers no pages of other sites"
    return NotAllowed(403, message, "foreign_site")


def _is_ours(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return is_private(host) or parts.scheme not in ("", "http", "https")


async def _pump(client: Raw, upstream: Raw, served: Served) -> None:
    """Hand on what comes, both ways, until one side ends or is gone."""

    async def hand(source: Raw, target: Raw, *, back: bool) -> None:
        while data := await source.read():
            if back:
                served.sent += len(data)
            else:
                served.received += len(data)
            await target.write(data)

    tasks = {
        asyncio.ensure_future(hand(client, upstream, back=False)),
        asyncio.ensure_future(hand(upstream, client, back=True)),
    }
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            with suppress(OSError, UpstreamError):
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        client.close()
