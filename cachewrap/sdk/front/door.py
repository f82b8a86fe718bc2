"""The front door: a hit of ``create`` or ``parse``, served before the SDK builds its request.

Half of what a call costs inside an SDK lies above its ``request``. The front door works the key out
of the call's keywords, asks the cache, and builds the result of the stored bytes. It knows no
SDK's parameters. It learns how one goes from keywords to request by watching: the first call of
each shape (method, client class, names of the keywords, classes among them) takes the long way, and
only where the door would have come to the same request is it used for that shape from then on.
Every later miss takes the long way too, and is compared again; a shape that once came out
differently is never used again.

What it computes holds every keyword as it was given, and all that the client brings to a request.
A wrong guess therefore names a request that nobody sends, which is a miss.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import time
from typing import Any, Final, TypeAlias

from cachewrap import blocks
from cachewrap.cache import Cache
from cachewrap.call.terms import Reply, Seen
from cachewrap.entry import HttpAnswer
from cachewrap.errors import ConfigurationError, UnkeyableError
from cachewrap.format.plans import Models
from cachewrap.http.answers import served_headers
from cachewrap.http.elements import form_of
from cachewrap.http.exchange import Answered, SdkExchange
from cachewrap.http.request import is_given
from cachewrap.options import NAMES, Default, choose_simple_cache, take_options
from cachewrap.request.key import encode
from cachewrap.sdk.carried import expected
from cachewrap.sdk.front.events import aquicken, quicken
from cachewrap.sdk.front.keywords import Keywords, read_keywords
from cachewrap.sdk.front.results import (
    is_constant,
    learn_parser,
    raw_response,
    wrapper_class,
)
from cachewrap.sdk.front.shape import (
    NOTHING,
    Ids,
    Known,
    Rest,
    Works,
    are_same,
    without_own,
)
from cachewrap.sdk.seam import SdkCall, arebuild, rebuild

Wrapped: TypeAlias = Callable[..., Any]
Shape: TypeAlias = tuple[Any, ...]

_UNSEEN: Final = object()

_stack_here: Final = blocks.blocks.get

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
class Asked:
    """One call at the front door.

    Args:
        door: the door.
        shape: the shape of the call.
        resource: the SDK's object whose method was called.
        client: the SDK's client.
        keywords: its keywords.
        body: them as a canonical body.
        known: how calls of this shape are answered, None before that was seen.
        cache: serves the call, as far as the door can tell.
        foreseen: the exchange that the door came to.
        seen: what the store gave for it.
        arrived: whether the long way has come to ``request``.
    """

    door: Door
    shape: Shape
    resource: Any
    client: Any
    keywords: Keywords
    body: dict[str, Any]
    known: Known | None
    cache: Cache
    foreseen: SdkExchange | None = None
    seen: Seen = None
    arrived: bool = False

    def compare(
        self,
        options: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        cache: Cache,
        exchange: SdkExchange,
    ) -> tuple[Seen, ...]:
        """Told of what the long way made of the call: learn from it."""
        if self.known is None:
            self.door.learn(self, options, args, kwargs, exchange)
        elif self.foreseen is not None:
            if exchange.key == self.foreseen.key:
                return (self.seen,) if cache is self.cache else ()
            self.door.forget(self.shape)
        return ()


class Door:
    """The front door of one SDK: wraps its ``create`` methods, or those that parse what they get.

    Args:
        name: the SDK's top-level module.
        path: gives the path of a request, of its client, options and body.
        default: gives the cache of calls outside any block.
        active: whether the SDK is to be patched.
        long: wraps the same methods where the door does not serve.
        parses: whether they parse answers to a class that they are given.
    """

    def __init__(
        self,
        name: str,
        path: Callable[[Any, Any, Any], str],
        default: Default,
        active: Callable[[], bool],
        long: Callable[..., Any],
        *,
        parses: bool = False,
    ) -> None:
        self._name = name
        self._path = path
        self._default = default
        self._active = active
        self._long = long
        self._parses = parses
        self._shapes: dict[Shape, Known | None] = {}
        self._added: dict[Shape, dict[str, Any]] = {}
        self._models: Models | None = None

    def create(
        self, wrapped: Wrapped, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Wraps a sync ``create``."""
        if not _stack_here() and self._is_uncached(kwargs):
            return wrapped(*args, **kwargs)
        cache = self._cache(args, kwargs)
        asked = None if cache is None else self._ask(instance, kwargs, cache)
        if cache is None or asked is None:
            return self._long(wrapped, instance, args, kwargs)
        if asked.known is not None and (exchange := foresee(asked, asked.known)):
            watch, started = cache.listen(exchange), time()
            asked.seen = cache.read(exchange.key)
            if (reply := cache.peek(exchange, asked.seen)) is not None:
                result = self._result(asked, asked.known, reply, exchange)
                if result is not NOTHING:
                    cache.finish_hit(reply, exchange, watch, started)
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
        if not _stack_here() and self._is_uncached(kwargs):
            return wrapped(*args, **kwargs)
        if self._cache(args, kwargs) is None:
            return self._long(wrapped, instance, args, kwargs)
        return self._acreate(wrapped, instance, args, kwargs)

    async def _acreate(
        self, wrapped: Wrapped, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        # As on the long way, the cache is that of the block in which the call is awaited.
        cache = self._cache(args, kwargs)
        asked = None if cache is None else self._ask(instance, kwargs, cache)
        if cache is None or asked is None:
            return await self._long(wrapped, instance, args, kwargs)
        if asked.known is not None and (exchange := foresee(asked, asked.known)):
            watch, started = cache.listen(exchange), time()
            asked.seen = await cache.aread(exchange.key)
            if (reply := cache.peek(exchange, asked.seen)) is not None:
                result = await self._aresult(asked, asked.known, reply, exchange)
                if result is not NOTHING:
                    cache.finish_hit(reply, exchange, watch, started)
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
        known = None
        if len(self._shapes) >= _MOST_SHAPES or len(self._added) >= _MOST_SHAPES:
            self._shapes.clear()
            self._added.clear()
        if self._is_usual(asked):
            works = Works.of(type(asked.client), self._name)
            if works is None or not works.are_alone(asked.client, asked.resource):
                return  # another tool stands there, for now
            known = self._seen(asked, options, args, kwargs, exchange, works)
        if known is not None:
            foreseen = known.request(asked.client, asked.body, asked.keywords)
            if encode(foreseen) != exchange.asked:
                known = None
            elif known.constants and self._added.get(asked.shape) != known.constants:
                # What the SDK adds by itself may change from call to call: once more.
                self._added[asked.shape] = known.constants
                return
        self._shapes[asked.shape] = known

    def forget(self, shape: Shape) -> None:
        """Never use the door for a shape again."""
        self._shapes[shape] = None

    def _is_uncached(self, kwargs: dict[str, Any]) -> bool:
        """Whether a call outside every block is none of the cache's business, as most are."""
        return self._default.cache is None and blocks.program is None and NAMES.isdisjoint(kwargs)

    def _cache(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Cache | None:
        if args or not self._active():
            return None
        if NAMES.isdisjoint(kwargs):
            return choose_simple_cache(self._default)
        try:
            _, own = take_options(kwargs)
            # Which sample it is is counted on the long way.
            return None if own.sample is not None else choose_simple_cache(self._default, own)
        except ConfigurationError:
            return None

    def _ask(self, instance: Any, kwargs: dict[str, Any], cache: Cache) -> Asked | None:
        """The call as the door sees it; None for one that it does not serve."""
        client = instance._client
        if client._strict_response_validation or not UNTOUCHED.isdisjoint(vars(client)):
            return None
        keywords = read_keywords(kwargs, cache.policy.unkeyed, parses=self._parses)
        if keywords is None:
            return None
        head, names = (type(instance), type(client), keywords.stream), tuple(keywords.body)
        marks = keywords.marks
        if (known := self._shapes.get((head, names, marks), _UNSEEN)) is None:
            return None
        clean = keywords.body_for_key(self._name, open_=cache.policy.same is not None)
        if clean is None:
            return None
        if keywords.marks is not marks:
            marks = keywords.marks
            if (known := self._shapes.get((head, names, marks), _UNSEEN)) is None:
                return None
        shape = head, names, marks
        if not isinstance(known, Known):
            known = None
        elif not known.works.are_alone(client, instance) or (
            (cache.policy.split or self._default.split) and self._splits(cache, known)
        ):
            return None
        return Asked(self, shape, instance, client, keywords, clean, known, cache)

    def _splits(self, cache: Cache, known: Known) -> bool:
        """Whether a list is asked element by element, which is for the long way."""
        split = cache.policy.split
        on = self._default.split if split is None else split
        return on and form_of(known.endpoint.path) is not None

    def _seen(
        self,
        asked: Asked,
        options: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        exchange: SdkExchange,
        works: Works,
    ) -> Known | None:
        module = sys.modules.get(f"{self._name}._models")
        sent, given = exchange.request.get("body"), asked.keywords.body
        if module is None or not isinstance(sent, dict) or not isinstance(options.json_data, dict):
            return None
        if not asked.body.keys() <= sent.keys():
            return None
        constants = {name: value for name, value in sent.items() if name not in asked.body}
        added = {name: value for name, value in options.json_data.items() if name not in given}
        if added.keys() != constants.keys():
            return None
        # Of a class the SDK sends its schema, which is the same while the class is.
        if not (asked.keywords.classes or all(map(is_constant, constants.values()))):
            return None
        parser = self._parser(options, asked.keywords)
        if parser is NOTHING:
            return None
        if self._models is None:
            self._models = Models(module)
        stream = bool(kwargs.get("stream", False))
        cast_to = args[0] if args else kwargs["cast_to"]
        build, beside, raw = None, asked.keywords.beside, asked.keywords.raw
        wrapper = None
        if raw is not None and raw != "stream":
            wrapper = wrapper_class(self._name, raw, asked.client)
            if wrapper is None or (stream and parser is not None):
                return None
        if not stream and raw != "stream":
            build = self._models.builder(cast_to)
            if build is None:
                return None
            if parser is not None:
                parser.quicken(build)
        known = Known(
            exchange.endpoint,
            Rest(stream, asked.cache.policy.unkeyed, works.tells),
            self._path,
            constants,
            added,
            tuple(options.json_data),
            without_own(options, beside, parser),
            cast_to,
            kwargs.get("stream_cls"),
            wrapper,
            build,
            self._models.builder,
            parser,
            Ids.of(self._name),
            works,
        )
        return known if are_same(known.options_of(asked.keywords), options) else None

    def _parser(self, options: Any, keywords: Keywords) -> Any:
        """What the SDK does to the result at the end; `NOTHING` where that does not show."""
        parse = getattr(options, "post_parser", None)
        if parse is None or not is_given(parse):
            return None
        return learn_parser(parse, keywords, self._name) or NOTHING

    def _is_usual(self, asked: Asked) -> bool:
        """Whether the SDK's own code alone makes these calls."""
        resource, client, _ = asked.shape[0]
        return self._is_own(resource) and self._is_usual_client(client)

    def _is_usual_client(self, client: type) -> bool:
        return not any(
            UNTOUCHED.intersection(vars(cls)) for cls in client.__mro__ if not self._is_own(cls)
        )

    def _is_own(self, cls: type) -> bool:
        return cls.__module__.partition(".")[0] == self._name

    def _result(
        self,
        asked: Asked,
        known: Known,
        reply: Reply[Answered],
        exchange: SdkExchange,
    ) -> Any:
        answer = reply.value.answer
        assert answer is not None
        if known.build is not None and known.wrapper is None:
            found = known.read(answer)
            return NOTHING if found is None else known.made(asked.keywords, *found)
        try:
            if known.wrapper is not None:
                return self._raw(asked, known, answer, exchange, quicken)
            sdk_call, args, kwargs = _as_at_request(asked, known, exchange)
            result = rebuild(sdk_call, answer, asked.client, args, kwargs)
        except Exception:  # the long way tells what is wrong
            return NOTHING
        if asked.keywords.stream and asked.keywords.raw is None:
            quicken(result, answer, self._name, known.builder)
        return result

    async def _aresult(
        self,
        asked: Asked,
        known: Known,
        reply: Reply[Answered],
        exchange: SdkExchange,
    ) -> Any:
        answer = reply.value.answer
        assert answer is not None
        if known.build is not None and known.wrapper is None:
            found = known.read(answer)
            return NOTHING if found is None else known.made(asked.keywords, *found)
        try:
            if known.wrapper is not None:
                return self._raw(asked, known, answer, exchange, aquicken)
            sdk_call, args, kwargs = _as_at_request(asked, known, exchange)
            result = await arebuild(sdk_call, answer, asked.client, args, kwargs)
        except Exception:
            return NOTHING
        if asked.keywords.stream and asked.keywords.raw is None:
            aquicken(result, answer, self._name, known.builder)
        return result

    def _raw(
        self,
        asked: Asked,
        known: Known,
        answer: HttpAnswer,
        exchange: SdkExchange,
        quicken: Callable[..., None],
    ) -> Any:
        if known.build is None:

            def value(raw: Any) -> Any:
                stream = raw._parse()
                quicken(stream, answer, self._name, known.builder)
                return stream

        else:
            found = known.read(answer)
            if found is None:
                return NOTHING
            answer.headers = served_headers(answer)

            def value(raw: Any) -> Any:
                made = known.made(asked.keywords, *found)
                return None if made is NOTHING else made

        sdk_call, (cast_to, _), kwargs = _as_at_request(asked, known, exchange)
        return raw_response(
            known.wrapper, sdk_call, asked.client, answer, value, cast_to=cast_to, **kwargs
        )


UNTOUCHED: Final = frozenset(_WORKS)
"""The same, for looking it up."""


def foresee(asked: Asked, known: Known) -> SdkExchange | None:
    """The exchange that the door foresees, or None where the long way has to tell what is wrong."""
    try:
        request = known.request(asked.client, asked.body, asked.keywords)
        streams = known.build is None  # `Known.value` looks into other answers itself
        asked.foreseen = SdkExchange(known.endpoint, request, asked.cache.policy, looks=streams)
    except UnkeyableError:
        return None
    return asked.foreseen


def _as_at_request(
    asked: Asked, known: Known, exchange: SdkExchange
) -> tuple[SdkCall, tuple[Any, ...], dict[str, Any]]:
    """How a call is served that gets a response, and what its ``request`` would have been given."""
    options = known.options_of(asked.keywords)
    opened = known.build is None
    sdk_call = SdkCall(asked.cache, exchange, opened, options, options.headers, sampled=None)
    given = {"stream": asked.keywords.stream, "stream_cls": known.stream_cls}
    return sdk_call, (known.cast_to, options), given
