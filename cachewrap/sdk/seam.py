"""The way of one SDK call: from its request options to a hit, or to upstream and the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from cachewrap import blocks
from cachewrap.cache import Cache
from cachewrap.call.terms import Seen
from cachewrap.entry import HttpAnswer
from cachewrap.errors import UnkeyableError
from cachewrap.http.asked import UNBUILT, at_once, unbuilt
from cachewrap.http.capture import (
    asend,
    aserve_open,
    aserve_read,
    is_idle,
    send,
    serve_open,
    serve_read,
    under_way,
)
from cachewrap.http.exchange import (
    Bypass,
    CallersParser,
    Endpoint,
    SdkExchange,
    When,
    classify,
)
from cachewrap.http.request import RAW_RESPONSE, canonical_request, header, is_given, merged_body
from cachewrap.http.response import build, family_of, fill
from cachewrap.http.routes import reaches_model
from cachewrap.http.shared_body import BodyReader
from cachewrap.http.split import ListCall
from cachewrap.options import NONE, Default, Sampled, choose_cache, take_sample
from cachewrap.sdk.carried import OPTIONS_HEADER, STRAYS, expected, take_carried
from cachewrap.sdk.lists import aasking, asking, elements_in
from cachewrap.sdk.request_options import (
    aas_sent,
    argument,
    as_sent,
    copied,
    is_hooked,
    timeout_of,
)
from cachewrap.telemetry import events, hints

_LIBRARY: Final = "x-stainless-async"

Request = Callable[..., Any]
_stack_here: Final = blocks.blocks.get
_hints: Final = hints.seen


@dataclass(slots=True)
class SdkCall:
    """A call that a cache serves.

    Args:
        cache: the cache.
        exchange: the call's exchange.
        open: whether the caller gets a response that is still to be consumed.
        options: the request options.
        headers: their headers, before the SDK takes its own out of them.
        sampled: which sample of its request the call is; None where nothing is sampled.
        seen: what the cache's store gave for the key, where it has just been asked.
        sent: the request options as the client's own hook changed them; None where it has none.
        listed: the same call, where each element of its list is served by itself.
    """

    cache: Cache
    exchange: SdkExchange
    open: bool
    options: Any
    headers: Any
    sampled: Sampled | None
    seen: tuple[Seen, ...] = ()
    sent: Any = None
    listed: ListCall | None = None

    def failed(self) -> None:
        """The call raised."""
        if self.sampled is not None:
            self.sampled.failed()


@dataclass(frozen=True, slots=True)
class Uncached:
    """A call that is not cached.

    Args:
        left: whether it is left alone by its own choice or for what it asks, so that no cached
            transport below is to serve it either.
    """

    left: bool


_UNSERVED: Final = Uncached(left=False)
_LEFT_ALONE: Final = Uncached(left=True)


class Seam:
    """The wrappers of ``request`` for one SDK.

    Args:
        endpoints: what may be cached, by path.
        path: gives the path of a request, of its client, options and body.
        default: gives the cache of calls outside any block.
        active: whether the SDK is to be patched. What somebody else wrapped around our wrappers
            can outlive that.
        when: gives what decides whether an answer is stored, or None.
        prepare: gets the options of a request ready that a cache is to serve.
        refuse: says why a client's request of this body is not cached, None where it may be.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        path: Callable[[Any, Any, Any], str],
        default: Default,
        active: Callable[[], bool],
        when: Callable[[], When | None] = lambda: None,
        *,
        prepare: Callable[[Any], None] = lambda options: None,
        refuse: Callable[[Any, Any], str | None] = lambda client, body: None,
    ) -> None:
        self._endpoints = endpoints
        self._prepare = prepare
        self._refuse = refuse
        self._path = path
        self._default = default
        self._active = active
        self._when = when

    def request(
        self, wrapped: Request, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Wraps the sync ``request``."""
        if not _stack_here() and self._is_uncached(client, args, kwargs):
            return wrapped(*args, **kwargs)
        sent = None
        if is_hooked(client) and self._may_serve(args, kwargs):
            sent = as_sent(client, argument(1, "options", args, kwargs))
        sdk_call = self._sdk_call(client, args, kwargs, sent)
        if isinstance(sdk_call, SdkCall):
            return _serve(sdk_call, wrapped, client, args, kwargs)
        if under_way() or self._active():
            return send(None, lambda: wrapped(*args, **kwargs), left=sdk_call.left)
        return wrapped(*args, **kwargs)

    def arequest(
        self, wrapped: Request, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Awaitable[Any]:
        """Wraps the async ``request``."""
        if not _stack_here() and self._is_uncached(client, args, kwargs):
            uncached: Awaitable[Any] = wrapped(*args, **kwargs)
            return uncached
        if is_hooked(client) and self._may_serve(args, kwargs):
            return self._arequest_hooked(wrapped, client, args, kwargs)
        return self._arequest(wrapped, client, args, kwargs)

    async def _arequest_hooked(
        self, wrapped: Request, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        sent = await aas_sent(client, argument(1, "options", args, kwargs))
        return await self._arequest(wrapped, client, args, kwargs, sent)

    def _arequest(
        self,
        wrapped: Request,
        client: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        sent: Any = None,
    ) -> Awaitable[Any]:
        sdk_call = self._sdk_call(client, args, kwargs, sent)
        if isinstance(sdk_call, SdkCall):
            return _aserve(sdk_call, wrapped, client, args, kwargs)
        if under_way() or self._active():
            return asend(None, lambda: wrapped(*args, **kwargs), left=sdk_call.left)
        uncached: Awaitable[Any] = wrapped(*args, **kwargs)
        return uncached

    def _is_uncached(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a call is none of the cache's business, as most are outside every block."""
        if self._default.cache is not None or blocks.program is not None or not is_idle():
            return False
        options = argument(1, "options", args, kwargs)
        if options.headers and OPTIONS_HEADER in options.headers:
            return False
        if _hints.listening:
            _hints.uncached(client, options)
        return True

    def _may_serve(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether it is worth while to find out what a client makes of its options."""
        options = argument(1, "options", args, kwargs)
        chosen = OPTIONS_HEADER in (options.headers or ())
        return self._active() and (
            chosen or choose_cache(default=self._default, counted=False) is not None
        )

    def _sdk_call(
        self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any], sent: Any = None
    ) -> SdkCall | Uncached:
        """How the call is served, or that it is not cached.

        Args:
            client: the SDK's client.
            args: of ``request``.
            kwargs: of ``request``.
            sent: what the client's own hook makes of the options; None where it has none.
        """
        awaited = expected.get()
        if awaited is not None:
            expected.set(None)  # requests that are made inside this one are others
            awaited.arrived = True
            if awaited.client is not client:
                awaited = None
        if awaited is None:
            STRAYS.add(client)
        options = argument(1, "options", args, kwargs)
        own = take_carried(options) or NONE
        cache = choose_cache(own.cache, own.cache_seed, self._default, own.mode)
        if cache is None:
            if own is NONE and _hints.listening:
                _hints.uncached(client, options)
            return _LEFT_ALONE if own.cache_seed is None or own.mode == "off" else _UNSERVED
        _hints.used = True
        if not self._active():
            return _UNSERVED
        stream = bool(kwargs.get("stream", False))
        source = options.url
        try:
            self._prepare(options)
            asked = options if sent is None else sent
            body = merged_body(asked)
            endpoint = classify(self._endpoints, client, asked, body)
            if isinstance(endpoint, Bypass):
                cache.bypass(endpoint.source, endpoint.reason, asks_model=endpoint.asks_model)
                return _LEFT_ALONE
            if reason := self._refuse(client, body):
                cache.bypass(endpoint.source, reason)
                return _LEFT_ALONE
            source = endpoint.source
            path = self._path(client, asked, body)
            taken: list[str] = []
            policy = own.policy(cache.policy)
            request = canonical_request(
                client,
                asked,
                path,
                body,
                stream=stream,
                keyed=policy.keyed,
                unkeyed=policy.unkeyed,
                taken=taken,
            )
            foreseen = None if awaited is None else awaited.foreseen
            exchange = SdkExchange(endpoint, request, policy, self._when(), foreseen, taken=taken)
            exchange.timeout = partial(timeout_of, client, options)
        except UnkeyableError as error:
            # What is wrong with the request is for the SDK to say; here it only has no key.
            asks = reaches_model(options.method, options.url)
            cache.bypass(source, "unkeyable", asks_model=asks, fault=error)
            events.warn_once((UnkeyableError, source), f"{source}: the call is not cached: {error}")
            return _LEFT_ALONE
        seen: tuple[Seen, ...] = ()
        if awaited is not None:
            seen = awaited.compare(options, args, kwargs, cache, exchange)
        opened = stream or header(options.headers, RAW_RESPONSE) == "stream"
        split = self._default.split if policy.split is None else policy.split
        if split and not opened and (elements := elements_in(exchange, options, sent)):
            listed = ListCall(cache, exchange, elements, own)
            return SdkCall(cache, exchange, False, options, options.headers, None, (), sent, listed)
        sampled = take_sample(cache, exchange, own)
        return SdkCall(cache, exchange, opened, options, options.headers, sampled, seen, sent)


def _serve(
    sdk_call: SdkCall,
    wrapped: Request,
    client: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    def upstream() -> Any:
        return wrapped(*args, **kwargs)

    def build(answer: HttpAnswer | None, reader: BodyReader | None) -> Any:
        return rebuild(sdk_call, answer, client, args, kwargs, reader)

    if sdk_call.listed is not None:
        ask = asking(sdk_call.listed, wrapped, args, kwargs)
        return sdk_call.listed.serve(ask, partial(build, reader=None))
    serve = serve_open if sdk_call.open else serve_read
    try:
        return serve(sdk_call.cache, sdk_call.exchange, upstream, build, *sdk_call.seen)
    except BaseException:
        sdk_call.failed()
        raise


async def _aserve(
    sdk_call: SdkCall,
    wrapped: Request,
    client: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    def upstream() -> Any:
        return wrapped(*args, **kwargs)

    def build(answer: HttpAnswer | None, reader: BodyReader | None) -> Any:
        return arebuild(sdk_call, answer, client, args, kwargs, reader)

    if sdk_call.listed is not None:
        ask = aasking(sdk_call.listed, wrapped, args, kwargs)
        return await sdk_call.listed.aserve(ask, partial(build, reader=None))
    serve = aserve_open if sdk_call.open else aserve_read
    try:
        return await serve(sdk_call.cache, sdk_call.exchange, upstream, build, *sdk_call.seen)
    except BaseException:
        sdk_call.failed()
        raise


def _processed(
    sdk_call: SdkCall,
    answer: HttpAnswer,
    client: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    reader: BodyReader | None,
) -> tuple[Any, dict[str, Any]]:
    """The response of an answer, and what the client's ``_process_response`` takes."""
    if reader is not None:
        reader.library = family_of(client._client)
    options = sdk_call.options
    if options.headers is not sdk_call.headers:
        options.headers = sdk_call.headers
    parse = getattr(options, "post_parser", None)
    if parse is not None and is_given(parse) and not isinstance(parse, CallersParser):
        options.post_parser = sdk_call.exchange.parser = CallersParser(parse)
    raw = header(sdk_call.headers, RAW_RESPONSE)
    family = family_of(client._client)
    request = unbuilt(
        family.request,
        request_later(sdk_call, client),
        family.headers({RAW_RESPONSE: raw} if raw else {}),
    )
    response = build(client._client, family, answer, request, reader)
    if reader is None and not sdk_call.open:
        fill(family, response, answer)
    return response, {
        "cast_to": client._maybe_override_cast_to(args[0] if args else kwargs["cast_to"], options),
        "options": options,
        "response": response,
        "stream": kwargs.get("stream", False),
        "stream_cls": kwargs.get("stream_cls"),
    }


def request_later(sdk_call: SdkCall, client: Any) -> Callable[[], Any]:
    """What builds the request of a hit when somebody looks."""
    on_asyncio = asyncio._get_running_loop() is not None
    return partial(_request, sdk_call, client, sdk_call.options, on_asyncio)


def _request(sdk_call: SdkCall, client: Any, options: Any, on_asyncio: bool) -> Any:
    """The request of a hit, as the client would have sent it."""
    try:
        return _as_built(sdk_call, client, options, on_asyncio)
    except Exception:  # the caller looks at a request that was answered
        request = sdk_call.exchange.request
        query = request.get("query")
        url = f"{request['url']}?{client.qs.stringify(query)}" if query else request["url"]
        headers = request.get("headers", {})
        return family_of(client._client).request(request["method"], url, headers=headers)


def _as_built(sdk_call: SdkCall, client: Any, options: Any, on_asyncio: bool) -> Any:
    sent = sdk_call.sent
    if sent is None:
        own = copied(options)
        sent = at_once(client._prepare_options(own)) or own
    if sent.idempotency_key is None:
        sent.idempotency_key = client._idempotency_key()
    request = client._build_request(sent)
    # The SDK tells of the library that runs whoever looks.
    if on_asyncio and request.headers.get(_LIBRARY) in ("async:false", "async:unknown"):
        request.headers[_LIBRARY] = "async:asyncio"
    with suppress(Exception):
        at_once(client._prepare_request(request))
    return request


def rebuild(
    sdk_call: SdkCall,
    answer: HttpAnswer | None,
    client: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    reader: BodyReader | None = None,
) -> Any:
    """What ``request`` returns for a stored answer, or one under way (``reader``)."""
    assert answer is not None
    response, given = _processed(sdk_call, answer, client, args, kwargs, reader)
    if not (sdk_call.open or response.is_closed):
        response.read()
    try:
        result = send(None, lambda: client._process_response(**given))
    finally:
        if UNBUILT in vars(response.request):  # from here on the caller may ask for the headers
            del response.request.headers
    return result if sdk_call.open else _tried(result, client)


async def arebuild(
    sdk_call: SdkCall,
    answer: HttpAnswer | None,
    client: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    reader: BodyReader | None = None,
) -> Any:
    """`rebuild` for async callers."""
    assert answer is not None
    response, given = _processed(sdk_call, answer, client, args, kwargs, reader)
    if not (sdk_call.open or response.is_closed):
        await response.aread()
    try:
        result = await asend(None, lambda: client._process_response(**given))
    finally:
        if UNBUILT in vars(response.request):  # from here on the caller may ask for the headers
            del response.request.headers
    return result if sdk_call.open else _tried(result, client)


def _tried(result: Any, client: Any) -> Any:
    """The result; a raw one that will be validated raises now what it would raise then."""
    if client._strict_response_validation and type(result).__name__ == "LegacyAPIResponse":
        result.parse()
    return result
