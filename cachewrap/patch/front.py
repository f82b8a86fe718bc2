"""The front door: a hit of a plain ``create`` call, served before the SDK builds its request.

Half of what a call costs inside an SDK lies above its ``request``. The front door works the key out
of the call's keywords, asks the cache, and builds the result of the stored bytes. It knows no
SDK's parameters. It learns how one goes from keywords to request by watching: the first call of
each shape (method, client class, names of the keywords) takes the long way, and only where the door
would have come to the same request is it used for that shape from then on. Every later miss takes
the long way too, and is compared again; a shape that once came out differently is never used again.

What it computes holds every keyword as it was given, and all that the client brings to a request.
A wrong guess therefore names a request that nobody sends, which is a miss.
"""

from __future__ import annotations

import functools
import json
import sys
import types
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cachewrap.cache import Cache, choose_plain_cache
from cachewrap.entry import HttpAnswer
from cachewrap.errors import UnkeyableError
from cachewrap.flow import Reply
from cachewrap.key import encode, plain_json
from cachewrap.options import NAMES
from cachewrap.patch.endpoints import Endpoint
from cachewrap.patch.exchange import Answered, SdkExchange
from cachewrap.patch.models import Models
from cachewrap.patch.quick import aquicken, quicken
from cachewrap.patch.request import RAW_RESPONSE, header, is_given
from cachewrap.patch.rest import Rest
from cachewrap.patch.seam import Plan, arebuild, expected, rebuild
from cachewrap.patch.secrets import without_secrets

Wrapped: TypeAlias = Callable[..., Any]
Shape: TypeAlias = tuple[Any, ...]

NOTHING: Final = object()
"""Stands for a result that only the long way can build."""

# Keywords that are no part of the body. Only their absence is plain; a time-out changes no answer.
_EXTRAS: Final = frozenset({"extra_headers", "extra_query", "extra_body"})
# What a client's subclass or owner may have put something of its own in place of.
_WORKS: Final = (
    "_build_headers",
    "_build_request",
    "_custom_auth",
    "_make_sse_decoder",
    "_maybe_override_cast_to",
    "_post",
    "_prepare_options",
    "_prepare_request",
    "_prepare_url",
    "_process_response",
    "_process_response_data",
    "_request",
    "_send_request",
    "post",
    "request",
)
_MOST_SHAPES: Final = 1000


@dataclass(slots=True)
class Known:
    """How the calls of one shape are answered, as it was seen on the long way.

    Args:
        endpoint: what is called.
        rest: gives all of the canonical request but the body.
        path: gives the path of a request, of its client, options and body.
        constants: what the SDK adds to the body.
        options: the request options, without a body.
        cast_to: the class of the result.
        stream_cls: the class of a streamed one; None for a result that is read at once.
        build: makes the result of JSON; None for a streamed one.
        parse: what the SDK does to the result at the end.
        add_request_id: the SDK's own.
    """

    endpoint: Endpoint
    rest: Rest
    path: Callable[[Any, Any, Any], str]
    constants: dict[str, Any]
    options: Any
    cast_to: Any
    stream_cls: Any
    build: Callable[[Any], Any] | None
    parse: Callable[[Any], Any] | None
    add_request_id: Callable[[Any, str | None], None]

    def request(self, client: Any, body: dict[str, Any]) -> dict[str, Any]:
        """The canonical request of a call with this body."""
        if self.constants:
            body = {**body, **self.constants}
        path = self.path(client, self.options, body)
        return {**self.rest.of(client, self.options, path), "body": body}

    def value(self, answer: HttpAnswer) -> Any:
        """The result of an answer that was read at once, or `NOTHING`."""
        content_type = request_id = None
        for name, value in answer.headers:
            name = name.lower()
            if name == "content-type" or name == "x-request-id":
                if (content_type if name == "content-type" else request_id) is not None:
                    return NOTHING
                if name == "content-type":
                    content_type = value
                else:
                    request_id = value
        if answer.status != 200 or not (content_type or "").partition(";")[0].endswith("json"):
            return NOTHING
        try:
            data = json.loads(b"".join(answer.chunks))
        except ValueError:
            return NOTHING
        if type(data) is not dict or self.build is None:
            return NOTHING
        result = self.build(data)
        if self.parse is not None:
            result = self.parse(result)
        self.add_request_id(result, request_id)
        return result


@dataclass(slots=True)
class Asked:
    """One call at the front door.

    Args:
        door: the door.
        shape: the shape of the call.
        client: the SDK's client.
        body: its keywords as a canonical body.
        known: how calls of this shape are answered, None before that was seen.
        foreseen: the canonical request that the door came to.
    """

    door: Door
    shape: Shape
    client: Any
    body: dict[str, Any]
    known: Known | None
    foreseen: dict[str, Any] | None = None

    def compare(
        self,
        options: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        exchange: SdkExchange,
    ) -> None:
        """Told of what the long way made of the call: learn from it."""
        if self.known is None:
            self.door.learn(self, options, args, kwargs, exchange)
        elif self.foreseen is not None and encode(self.foreseen) != encode(exchange.request):
            self.door.forget(self.shape)


class Door:
    """The front door of one SDK: wraps its plain ``create`` methods.

    Args:
        name: the SDK's top-level module.
        path: gives the path of a request, of its client, options and body.
        default: gives the cache of calls outside any block, or None.
        active: whether the SDK is to be patched.
        long: wraps the same methods where the door does not serve.
    """

    def __init__(
        self,
        name: str,
        path: Callable[[Any, Any, Any], str],
        default: Callable[[], Cache | None],
        active: Callable[[], bool],
        long: Callable[..., Any],
    ) -> None:
        self._name = name
        self._path = path
        self._default = default
        self._active = active
        self._long = long
        self._shapes: dict[Shape, Known | None] = {}
        self._added: dict[Shape, dict[str, Any]] = {}
        self._models: Models | None = None

    def create(
        self, wrapped: Wrapped, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Wraps a sync ``create``."""
        cache = self._cache(args, kwargs)
        asked = None if cache is None else self._ask(instance, kwargs)
        if cache is None or asked is None:
            return self._long(wrapped, instance, args, kwargs)
        if asked.known is not None and (exchange := _exchange(asked, asked.known, cache)):
            watch = cache.watch(exchange)
            reply = cache.glance(exchange)
            if reply is not None:
                result = self._result(asked, asked.known, reply, cache, exchange)
                if result is not NOTHING:
                    cache.told(reply, exchange, watch)
                    return result
        before = expected.get()
        expected.set(asked)
        try:
            return self._long(wrapped, instance, args, kwargs)
        finally:
            expected.set(before)

    def acreate(
        self, wrapped: Wrapped, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Wraps an async ``create``."""
        if self._cache(args, kwargs) is None:
            return self._long(wrapped, instance, args, kwargs)
        return self._acreate(wrapped, instance, args, kwargs)

    async def _acreate(
        self, wrapped: Wrapped, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        # As on the long way, the cache is that of the block in which the call is awaited.
        cache = self._cache(args, kwargs)
        asked = None if cache is None else self._ask(instance, kwargs)
        if cache is None or asked is None:
            return await self._long(wrapped, instance, args, kwargs)
        if asked.known is not None and (exchange := _exchange(asked, asked.known, cache)):
            watch = cache.watch(exchange)
            reply = await cache.aglance(exchange)
            if reply is not None:
                result = await self._aresult(asked, asked.known, reply, cache, exchange)
                if result is not NOTHING:
                    cache.told(reply, exchange, watch)
                    return result
        before = expected.get()
        expected.set(asked)
        try:
            return await self._long(wrapped, instance, args, kwargs)
        finally:
            expected.set(before)

    def learn(
        self,
        asked: Asked,
        options: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        exchange: SdkExchange,
    ) -> None:
        """Use the door for a shape, or never, by what the long way made of its first call."""
        known = self._seen(asked, options, args, kwargs, exchange)
        if known is not None:
            foreseen = known.request(asked.client, asked.body)
            if encode(foreseen) != encode(exchange.request):
                known = None
            elif known.constants and self._added.get(asked.shape) != known.constants:
                # What the SDK adds by itself may change from call to call: once more.
                self._added[asked.shape] = known.constants
                return
        if len(self._shapes) >= _MOST_SHAPES:
            self._shapes.clear()
            self._added.clear()
        self._shapes[asked.shape] = known

    def forget(self, shape: Shape) -> None:
        """Never use the door for a shape again."""
        self._shapes[shape] = None

    def _cache(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Cache | None:
        if args or not self._active() or not NAMES.isdisjoint(kwargs):
            return None
        return choose_plain_cache(self._default)

    def _ask(self, instance: Any, kwargs: dict[str, Any]) -> Asked | None:
        """The call as the door sees it; None for one that it does not serve."""
        client = instance._client
        if client._strict_response_validation or not _UNTOUCHED.isdisjoint(vars(client)):
            return None
        body: dict[str, Any] = {}
        for name, value in kwargs.items():
            if name in _EXTRAS:
                if value is not None:
                    return None
            elif name == "timeout":
                if value is not None and type(value) not in (int, float) and is_given(value):
                    return None
            elif is_given(value):
                body[name] = value
        stream = body.get("stream") or False
        if type(stream) is not bool:
            return None
        shape = (type(instance), type(client), stream, *body)
        known = self._shapes.get(shape, NOTHING)
        if known is None:
            return None
        clean = plain_json(without_secrets(body))
        if clean is None:
            return None
        return Asked(self, shape, client, clean, None if known is NOTHING else known)  # type: ignore[arg-type]

    def _seen(
        self,
        asked: Asked,
        options: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        exchange: SdkExchange,
    ) -> Known | None:
        module = sys.modules.get(f"{self._name}._models")
        sent = exchange.request.get("body")
        if module is None or not isinstance(sent, dict) or not self._is_usual(asked):
            return None
        if (
            header(options.headers, RAW_RESPONSE) is not None
            or not asked.body.keys() <= sent.keys()
        ):
            return None
        constants = {name: value for name, value in sent.items() if name not in asked.body}
        parse = getattr(options, "post_parser", None)
        parse = parse if parse is not None and is_given(parse) else None
        if not all(map(_is_constant, constants.values())) or not _is_fixed(parse):
            return None
        if self._models is None:
            self._models = Models(module)
        stream = bool(kwargs.get("stream", False))
        cast_to = args[0] if args else kwargs["cast_to"]
        build = None if stream else self._models.builder(cast_to)
        if build is None and not stream:
            return None
        kept = copy(options)
        kept.json_data = None
        return Known(
            exchange.endpoint,
            Rest(stream),
            self._path,
            constants,
            kept,
            cast_to,
            kwargs.get("stream_cls") if stream else None,
            build,
            parse,
            module.add_request_id,
        )

    def _is_usual(self, asked: Asked) -> bool:
        """Whether the SDK's own code alone makes these calls."""
        resource, client, *_ = asked.shape
        if not self._is_own(resource):
            return False
        return not any(
            _UNTOUCHED.intersection(vars(cls)) for cls in client.__mro__ if not self._is_own(cls)
        )

    def _is_own(self, cls: type) -> bool:
        return cls.__module__.partition(".")[0] == self._name

    def _result(
        self,
        asked: Asked,
        known: Known,
        reply: Reply[Answered],
        cache: Cache,
        exchange: SdkExchange,
    ) -> Any:
        answer = reply.value.answer
        assert answer is not None
        if known.build is not None:
            return known.value(answer)
        plan, args, kwargs = _as_at_request(asked, known, cache, exchange)
        stream = rebuild(plan, answer, asked.client, args, kwargs)
        assert self._models is not None
        quicken(stream, answer, self._name, self._models.builder)
        return stream

    async def _aresult(
        self,
        asked: Asked,
        known: Known,
        reply: Reply[Answered],
        cache: Cache,
        exchange: SdkExchange,
    ) -> Any:
        answer = reply.value.answer
        assert answer is not None
        if known.build is not None:
            return known.value(answer)
        plan, args, kwargs = _as_at_request(asked, known, cache, exchange)
        stream = await arebuild(plan, answer, asked.client, args, kwargs)
        assert self._models is not None
        aquicken(stream, answer, self._name, self._models.builder)
        return stream


_UNTOUCHED: Final = frozenset(_WORKS)


def is_own_function(method: Any, name: str) -> bool:
    """Whether a method is the SDK's own code, not something that another tool wrapped around it.

    Args:
        method: as it stands in its class.
        name: the SDK's top-level module.
    """
    file = getattr(sys.modules.get(name), "__file__", None)
    if not isinstance(method, types.FunctionType) or not file:
        return False
    folder = file.removesuffix("__init__.py")
    return method.__code__.co_filename.startswith(folder)


def _exchange(asked: Asked, known: Known, cache: Cache) -> SdkExchange | None:
    """The exchange that the door foresees, or None where the long way has to tell what is wrong."""
    try:
        request = known.request(asked.client, asked.body)
        exchange = SdkExchange(known.endpoint, request, cache.policy)
    except UnkeyableError:
        return None
    asked.foreseen = request
    return exchange


def _as_at_request(
    asked: Asked, known: Known, cache: Cache, exchange: SdkExchange
) -> tuple[Plan, tuple[Any, ...], dict[str, Any]]:
    """The plan of a streamed call, and the arguments that its ``request`` would have been given."""
    options = copy(known.options)
    options.json_data = exchange.request["body"]
    plan = Plan(cache, exchange, True, options.headers, sampled=None)
    return plan, (known.cast_to, options), {"stream": True, "stream_cls": known.stream_cls}


def _is_constant(value: object) -> bool:
    return value is None or type(value) in (str, int, float, bool)


def _is_fixed(parser: Any) -> bool:
    """Whether a parser holds nothing of the call that it was made for."""
    held: list[Any] = []
    if isinstance(parser, functools.partial):
        held += [*parser.args, *parser.keywords.values()]
        parser = parser.func
    if isinstance(parser, types.FunctionType):
        held += [cell.cell_contents for cell in parser.__closure__ or ()]
    elif parser is not None:
        return False
    return all(_is_constant(value) or not is_given(value) for value in held)
