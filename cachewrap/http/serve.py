"""The way of one plain HTTP request, of whatever library: a hit, or upstream and the store."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Final

from cachewrap.cache import Cache
from cachewrap.call.stats import HOST_UNKNOWN
from cachewrap.call.watching import unkept
from cachewrap.entry import HttpAnswer, Outcome
from cachewrap.errors import ConfigurationError, UnkeyableError
from cachewrap.http import capture
from cachewrap.http.answers import kept_headers, value_of
from cachewrap.http.elements import form_of
from cachewrap.http.encodings import BLANK, Coder
from cachewrap.http.exchange import Answered, Endpoint, SdkExchange, When, judged
from cachewrap.http.request import (
    canonical_headers,
    canonical_query,
    split_url,
    without_secrets,
)
from cachewrap.http.response import Wire, is_framed
from cachewrap.http.routes import Routes, asks_model, is_stream, name_of, reaches_model
from cachewrap.http.shared_body import BodyReader
from cachewrap.http.split import ListCall, elements_of
from cachewrap.http.tracking import OF_ONE_BODY
from cachewrap.options import NONE, CallOptions, Default, choose_cache, take_sample
from cachewrap.policy import Policy, Same, rules_of
from cachewrap.request.canonical import canonical_body
from cachewrap.streams.recording import Proxy
from cachewrap.telemetry import events, hints
from cachewrap.urls import wrong_cache

# What the last event of a stream has in its name or its data: `read_any_stream` judges by the same.
_CLOSING: Final = re.compile(
    rb"[\r\n](?:data: ?\[DONE\]|event: ?(?:message_stop|response\.(?:completed|incomplete))[\r\n])"
)
_LONGEST: Final = len(b"\nevent: response.incomplete\r\n")


class Caching:
    """The rule of which requests are cached, from where, and which answers are kept.

    Args:
        routes: which requests may be cached.
        cache: serves the requests outside any block; None leaves them uncached.
        when: takes an answer and says whether to store it: of a plain one the JSON in it, or its
            bytes; of a stream its events. None stores every whole answer.
        whole: whether every request that is not cached is counted, and stopped in mode replay if it
            may reach a model: for who has nothing but requests to models.
        split: whether lists are told apart, where a cache does not say.
        same: rules of equality, which hold behind those of whatever cache serves a request.

    Raises `ConfigurationError` for a default that is no cache, a ``when`` that is no function, and
    a ``same`` that has no rules.
    """

    def __init__(
        self,
        routes: Routes,
        cache: Cache | None = None,
        when: When | None = None,
        *,
        whole: bool = False,
        split: bool = False,
        same: Same = None,
    ) -> None:
        if cache is not None and not isinstance(cache, Cache):
            raise ConfigurationError(wrong_cache(cache))
        if when is not None and not callable(when):
            raise ConfigurationError(f"when= takes a function, got {when!r}")
        self._routes = routes
        self._default = Default(cache, split=split, same=rules_of(same))
        self._when = when
        self._whole = whole
        capture.watch()
        hints.seen.used = hints.seen.used or cache is not None
        hints.seen.patched(hints.HTTP, True)

    def knows(self, wire: Wire) -> bool:
        """Whether a request goes where questions go, and no patched SDK has decided on it."""
        return (
            wire.method == "POST"
            and not capture.decided()
            and (
                self._routes.match(wire.host, wire.port, wire.path, wire.body)
                or self._is_upload(wire)
            )
        )

    def _is_upload(self, wire: Wire) -> bool:
        if not self._routes.takes_files(wire.host, wire.port, wire.path):
            return False
        try:
            wire.uploaded = wire.form()
        except (ValueError, RuntimeError):
            return True  # it is for `_plan` to say that it has no key: it is no JSON either
        return wire.uploaded is not None

    def leave(self, wire: Wire) -> None:
        """Count a question to a model that goes past the cache, if one would serve its like.

        It goes to a host that is not known, or to a path whose answers are never stored. What a
        patched SDK or a cached transport has decided on is counted there. Raises `ReplayMissError`
        in mode replay.
        """
        if wire.method != "POST":
            return
        never = self._routes.is_never_stored(wire.host, wire.port, wire.path)
        if (
            not (never or self._routes.has_path(wire.path))
            or capture.decided()
            or choose_cache(default=self._default, counted=False) is None
            or not (never or asks_model(wire.path, wire.body))
        ):
            return
        cache = choose_cache(default=self._default)
        if cache is not None:
            source = Endpoint(wire.path.strip("/"), wire=True).source
            if never:
                cache.bypass(source, "endpoint")
            else:
                cache.bypass(source, HOST_UNKNOWN, host=name_of(wire.host, wire.port))

    def bypass(
        self, wire: Wire, reason: str, own: CallOptions = NONE, *, asks_model: bool | None = None
    ) -> None:
        """Count a request that goes past the cache, whatever it is.

        Args:
            wire: the request, which is told the reason.
            reason: why, in a word or two.
            own: its own options.
            asks_model: whether it makes a model work; None leaves that to its method and path.

        Raises `ReplayMissError` in mode replay, if it makes a model work or the cache is strict.
        """
        wire.reason = reason
        cache = choose_cache(own.cache, own.cache_seed, self._default, own.mode)
        if cache is None:
            wire.reason = "mode off" if own.cache_seed is not None else "no seed"
        else:
            self._go_past(wire, cache, reason, asks_model)

    def _go_past(
        self, wire: Wire, cache: Cache, reason: str, asks_model: bool | None = None
    ) -> None:
        method = wire.method.upper()
        if asks_model is None:
            asks_model = reaches_model(method, wire.url)
        cache.bypass(f"{method} {wire.path}", reason, asks_model=asks_model)

    def handle(self, wire: Wire, send: Callable[..., Any], own: CallOptions = NONE) -> Any:
        """Answer a sync request; ``own`` are its own options.

        ``send`` sends it on, or another one that `Wire.with_body` has made of it.
        """
        plan = self._plan(wire, own)
        if plan is None:
            return send()
        cache, exchange, streamed = plan
        came: list[Answered] = []

        def rebuild(answer: HttpAnswer | None, reader: BodyReader | None) -> Any:
            assert answer is not None
            wire.outcome = Outcome.JOINED if reader or exchange.waited else Outcome.HIT
            return wire.build(answer, _named(wire, reader))

        def alone() -> tuple[Any, Any]:
            response = send()
            head = wire.head(response)
            if head.status_code == 200:
                capture.take_open(head, is_async=False)
            return response, head

        def open_() -> Any:
            response, head = alone()
            if head.status_code != 200:
                unkept(exchange, _status(head))
                return response
            return wire.recorded(response, _Settling(head.stream, _coder(wire, head)))

        def ask(send: Callable[[], Any]) -> Answered:
            # In its slot, so that a cached transport further in knows that this one decides.
            response = capture.send(capture.Slot(cache, exchange), send)
            if wire.head(response).status_code != 200:
                return _failed(wire, response)
            content = wire.read(response)
            answered = _judged(exchange, wire, response, content)
            return replace(answered, result=wire.whole(response, content))

        def call() -> Answered:
            came.append(ask(send))
            return came[-1]

        def ask_part(wanted: list[int] | None) -> Answered:
            assert listed is not None
            if wanted is None:
                return ask(send)
            return ask(partial(send, wire.with_body(_part(wire, listed, wanted))))

        listed = self._listed(wire, cache, exchange, own, streamed=streamed)
        if listed is not None:
            result = listed.serve(ask_part, lambda answer: wire.build(answer, None))
            wire.outcome, wire.reason = listed.outcome, listed.reason
            return result
        with take_sample(cache, exchange, own) or nullcontext():
            if streamed:
                return capture.serve_open(cache, exchange, open_, rebuild, alone=alone)
            reply = cache.serve(exchange, call)
            wire.outcome, wire.reason = reply.outcome, reply.reason
            as_it_came = reply.own and cache.policy.scrub is None
            if came and (as_it_came or reply.value is came[-1]):
                return came[-1].result
            assert reply.value.answer is not None
            return wire.build(reply.value.answer, None)

    async def ahandle(
        self,
        wire: Wire,
        send: Callable[..., Awaitable[Any]],
        own: CallOptions = NONE,
        elsewhere: Callable[[str], Awaitable[Any]] | None = None,
    ) -> Any:
        """`handle` for async requests.

        Args:
            wire: the request.
            send: sends it on, or another one that `Wire.with_body` has made of it.
            own: its own options.
            elsewhere: takes the key of a stream that is not stored, and gives the response of who
                answers and counts all of its requests; None where it is to be answered here.
        """
        plan = self._plan(wire, own)
        if plan is None:
            return await send()
        cache, exchange, streamed = plan
        came: list[Answered] = []

        async def rebuild(answer: HttpAnswer | None, reader: BodyReader | None) -> Any:
            assert answer is not None
            wire.outcome = Outcome.JOINED if reader or exchange.waited else Outcome.HIT
            return await wire.abuild(answer, _named(wire, reader))

        async def alone() -> tuple[Any, Any]:
            response = await send()
            head = wire.head(response)
            if head.status_code == 200:
                capture.take_open(head, is_async=True)
            return response, head

        async def open_() -> Any:
            response, head = await alone()
            if head.status_code != 200:
                unkept(exchange, _status(head))
                return response
            return await wire.arecorded(response, _Settling(head.stream, _coder(wire, head)))

        async def ask(send: Callable[[], Awaitable[Any]]) -> Answered:
            response = await capture.asend(capture.Slot(cache, exchange), send)
            if wire.head(response).status_code != 200:
                return _failed(wire, response)
            content = await wire.aread(response)
            answered = _judged(exchange, wire, response, content)
            return replace(answered, result=await wire.awhole(response, content))

        async def call() -> Answered:
            came.append(await ask(send))
            return came[-1]

        async def ask_part(wanted: list[int] | None) -> Answered:
            assert listed is not None
            if wanted is None:
                return await ask(send)
            other = await wire.awith_body(_part(wire, listed, wanted))
            return await ask(partial(send, other))

        listed = self._listed(wire, cache, exchange, own, streamed=streamed)
        if listed is not None:
            result = await listed.aserve(ask_part, lambda answer: wire.abuild(answer, None))
            wire.outcome, wire.reason = listed.outcome, listed.reason
            return result
        with take_sample(cache, exchange, own) or nullcontext():
            if streamed:
                if not cache.policy.single_flight:
                    elsewhere = None
                return await capture.aserve_open(
                    cache, exchange, open_, rebuild, alone=alone, elsewhere=elsewhere
                )
            reply = await cache.aserve(exchange, call)
            wire.outcome, wire.reason = reply.outcome, reply.reason
            as_it_came = reply.own and cache.policy.scrub is None
            if came and (as_it_came or reply.value is came[-1]):
                return came[-1].result
            assert reply.value.answer is not None
            return await wire.abuild(reply.value.answer, None)

    def _listed(
        self, wire: Wire, cache: Cache, exchange: SdkExchange, own: CallOptions, *, streamed: bool
    ) -> ListCall | None:
        """The same call, where each element of its list is served by itself."""
        split = exchange.policy.split
        if not (self._default.split if split is None else split) or streamed or not wire.takes_body:
            return None
        if form_of(exchange.endpoint.path) is None:
            return None
        if any(name.lower() in OF_ONE_BODY for name, _ in wire.headers()):
            return None
        body = wire.body() if wire.uploaded is None else None
        elements = elements_of(exchange, body.get("input") if isinstance(body, dict) else None)
        return None if elements is None else ListCall(cache, exchange, elements, own)

    def _plan(self, wire: Wire, own: CallOptions) -> tuple[Cache, SdkExchange, bool] | None:
        """The cache, the exchange and whether a stream is read; None for what is not cached."""
        cache = choose_cache(own.cache, own.cache_seed, self._default, own.mode)
        if cache is None:
            wire.reason = "mode off" if own.cache_seed is not None else "no seed"
            if hints.seen.listening and self.knows(wire):
                hints.seen.uncached_http()
            return None
        if not self.knows(wire):
            if self._whole:
                wire.reason = "endpoint" if wire.method.upper() == "POST" else "method"
                self._go_past(wire, cache, wire.reason)
            elif cache.policy.mode == "replay":
                self.leave(wire)
            return None
        endpoint = Endpoint(wire.path.strip("/"), wire=True)
        policy = own.policy(cache.policy)
        try:
            taken: list[str] = []
            form = wire.uploaded
            body = wire.body() if form is None else form[0]
            accept = value_of(wire.headers(), "accept") or ""
            streamed = is_stream(wire.path, body, accept)
            canonical = _canonical(wire, body, policy, taken)
            if form is not None and form[1]:
                canonical["files"] = form[1]
            # As the SDKs' calls have it; what else tells a stream is no part of the key, but for
            # the header where nothing else does.
            if (type(body) is dict and body.get("stream")) or (
                streamed and not is_stream(wire.path, body, "")
            ):
                canonical["stream"] = True
            exchange = SdkExchange(endpoint, canonical, policy, self._when, taken=taken)
            exchange.timeout = wire.timeout
        except UnkeyableError as error:
            wire.reason = "unkeyable"
            cache.bypass(endpoint.source, "unkeyable", fault=error)
            events.warn_once(
                (UnkeyableError, endpoint.source),
                f"{endpoint.source}: the call is not cached: {error}",
            )
            return None
        except (ValueError, RuntimeError):
            # No JSON and no form, or a body that is read while it is sent.
            wire.reason = "raw body"
            cache.bypass(endpoint.source, "raw body")
            return None
        if isinstance(body, dict) and (body.get("background") or body.get("conversation")):
            wire.reason = "background" if body.get("background") else "conversation"
            cache.bypass(endpoint.source, wire.reason)
            return None
        wire.exchange, wire.outcome = exchange, Outcome.MISS
        return cache, exchange, streamed or wire.opens


def _canonical(wire: Wire, body: Any, policy: Policy, taken: list[str]) -> dict[str, Any]:
    keyed, unkeyed = policy.keyed, policy.unkeyed
    url, pairs = split_url(wire.url)
    canonical: dict[str, Any] = {"method": wire.method, "url": url}
    if pairs and (query := canonical_query(pairs, keyed, unkeyed)):
        canonical["query"] = {
            name: values[0] if len(values) == 1 else values for name, values in query.items()
        }
    if headers := canonical_headers(wire.headers(), keyed, taken, unkeyed):
        canonical["headers"] = headers
    if isinstance(body, dict):
        body = without_secrets(body, keyed, taken)
    canonical["body"] = canonical_body(body, keyed, unkeyed)
    return canonical


def _part(wire: Wire, listed: ListCall, wanted: list[int]) -> bytes:
    """The body of a request for some of the elements of a list."""
    body = wire.body()
    return json.dumps({**body, "input": listed.elements.inputs(body["input"], wanted)}).encode()


def _judged(exchange: SdkExchange, wire: Wire, response: Any, content: bytes) -> Answered:
    """The answer of a response that was read, before the library makes anything else of it."""
    head = wire.head(response)
    chunks = [content] if content else []
    answer = HttpAnswer(head.status_code, kept_headers(head), chunks, [])
    return judged(exchange, answer, ended=True, framed=is_framed(head))


def _failed(wire: Wire, response: Any) -> Answered:
    return Answered(None, None, response, _status(wire.head(response)))


def _status(head: Any) -> str:
    return f"status {head.status_code}"


def _named(wire: Wire, reader: BodyReader | None) -> BodyReader | None:
    """The reader of a call that joined, whose errors are then those of its own library."""
    if reader is not None:
        reader.library = wire.library
    return reader


def _coder(wire: Wire, head: Any) -> Coder:
    return wire.library.coder(head.headers.get("content-encoding"))


class _Settling(Proxy):
    """A recorded stream that is stored at its closing mark.

    Some SDKs drop the stream there, and a stream that was dropped is not stored.

    Args:
        stream: the recorded stream.
        coder: takes the codings off that it still has.
    """

    def __init__(self, stream: Any, coder: Coder) -> None:
        super().__init__(stream)
        self._self_feed = coder.feed
        self._self_tail = b""
        self._self_closing = False

    def _self_closes(self, chunk: bytes) -> bool:
        """Whether the stream's last event has come with this chunk."""
        tail = self._self_tail + self._self_feed(chunk)
        self._self_tail = tail[-_LONGEST:]
        self._self_closing = self._self_closing or _CLOSING.search(tail) is not None
        return self._self_closing and tail.endswith(BLANK)

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.__wrapped__:
            if self._self_closes(chunk):
                self.__wrapped__.settle()
            yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.__wrapped__:
            if self._self_closes(chunk) and (awaitable := self.__wrapped__.settle()) is not None:
                await awaitable
            yield chunk
