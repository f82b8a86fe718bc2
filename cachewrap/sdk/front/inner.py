"""The inner door: a hit of an SDK whose own methods do little before their ``post``.

There everything that the methods say and add by themselves is said and added: warnings, headers of
betas and helpers, timeouts, schemas. What is left below is most of the work. So this door serves
every method, helpers that open their stream late among them, and knows none of them. It learns as
the front door does, by watching what ``request`` makes of what ``post`` is given.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from time import time
from typing import Any, Final

from cachewrap import blocks
from cachewrap.cache import Cache
from cachewrap.call.terms import Reply
from cachewrap.http.exchange import Answered, SdkExchange
from cachewrap.http.request import is_given
from cachewrap.options import Default, choose_simple_cache
from cachewrap.sdk.carried import OPTIONS_HEADER, CarriedOptions, Expectation, expected
from cachewrap.sdk.front.door import UNTOUCHED, Asked, Door, Wrapped, foresee
from cachewrap.sdk.front.keywords import Beside, Keywords
from cachewrap.sdk.front.shape import NOTHING, Known

_UNSEEN: Final = object()
_stack_here: Final = blocks.blocks.get

# Beside what changes neither the request nor what the SDK makes of its answer (how long it may
# take, how the client signs in, what spans tell of it), what is read of each call anew.
_KNOWN: Final = frozenset(
    """
    extra_json follow_redirects headers max_retries post_parser qualifiers security span_attributes
    span_content_query_params span_created_id span_name span_query_params span_route timeout
    """.split()
)
_METHODS: Final = UNTOUCHED - {"_custom_auth"}  # here it is what a client signs in with
_GIVEN: Final = frozenset({"body", "cast_to", "options", "stream", "stream_cls"})


class InnerDoor(Door):
    """The door at the ``post`` of one SDK's clients.

    Args:
        name: the SDK's top-level module.
        path: gives the path of a request, of its client, options and body.
        default: gives the cache of calls outside any block.
        active: whether the SDK is to be patched.
        refuse: says why a client's request of this body is not cached, None where it may be.
    """

    def __init__(
        self,
        name: str,
        path: Callable[[Any, Any, Any], str],
        default: Default,
        active: Callable[[], bool],
        refuse: Callable[[Any, Any], str | None],
    ) -> None:
        super().__init__(name, path, default, active, lambda *_: None)
        self._refuse = refuse
        self._absent: frozenset[type] = frozenset()

    def post(
        self, wrapped: Wrapped, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Wraps the sync ``post``."""
        if not (_stack_here() or self._may_serve(kwargs)):
            return wrapped(*args, **kwargs)
        asked = self._posted(client, args, kwargs)
        if asked is None:
            return wrapped(*args, **kwargs)
        before = expected.get()
        cache = asked.cache
        if asked.known is not None and (exchange := foresee(asked, asked.known)):
            watch, started = cache.listen(exchange), time()
            asked.seen = cache.read(exchange.key)
            if (reply := cache.peek(exchange, asked.seen)) is not None:
                result = self._result_of(asked, asked.known, reply, exchange, kwargs)
                if result is not NOTHING:
                    _arrive(before, client)
                    cache.finish_hit(reply, exchange, watch, started)
                    return result
        expected.set(asked)
        try:
            return wrapped(*args, **kwargs)
        finally:
            expected.set(before)
            if asked.arrived:
                _arrive(before, client)

    def apost(
        self, wrapped: Wrapped, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Wraps the async ``post``."""
        if not (_stack_here() or self._may_serve(kwargs)) or _has_been_asked(client):
            return wrapped(*args, **kwargs)
        return self._apost(wrapped, client, args, kwargs)

    async def _apost(
        self, wrapped: Wrapped, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        asked = self._posted(client, args, kwargs)
        if asked is None:
            return await wrapped(*args, **kwargs)
        before = expected.get()
        cache = asked.cache
        if asked.known is not None and (exchange := foresee(asked, asked.known)):
            watch, started = cache.listen(exchange), time()
            asked.seen = await cache.aread(exchange.key)
            if (reply := cache.peek(exchange, asked.seen)) is not None:
                if asked.known.build is None or asked.known.wrapper is not None:
                    result = await self._aresult(asked, asked.known, reply, exchange)
                else:
                    result = self._result_of(asked, asked.known, reply, exchange, kwargs)
                if result is not NOTHING:
                    _arrive(before, client)
                    cache.finish_hit(reply, exchange, watch, started)
                    return result
        expected.set(asked)
        try:
            return await wrapped(*args, **kwargs)
        finally:
            expected.set(before)
            if asked.arrived:
                _arrive(before, client)

    def _may_serve(self, kwargs: dict[str, Any]) -> bool:
        """Whether a cache may serve a call outside every block, as none does for most."""
        if self._default.cache is not None or blocks.program is not None:
            return True
        headers = kwargs.get("options", {}).get("headers")
        return bool(headers) and OPTIONS_HEADER in headers

    def _posted(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Asked | None:
        """The call as the door sees it; None for one that it does not serve."""
        options = kwargs.get("options", {})
        if not (options.keys() <= _KNOWN and kwargs.keys() <= _GIVEN) or _has_been_asked(client):
            return None
        if len(args) != 1 or not self._active():
            return None
        if client._strict_response_validation or not _METHODS.isdisjoint(vars(client)):
            return None
        body, cast_to = kwargs.get("body"), kwargs.get("cast_to")
        cache = self._cache_of(options.get("headers") or {})
        if cache is None or type(body) is not dict or not isinstance(cast_to, type):
            return None
        absent = self._absent or self._learn_absent()
        keywords = _keywords(kwargs, options, absent, cache.policy.unkeyed)
        if keywords is None or self._refuse(client, keywords.body):
            return None
        head, names = (args[0], type(client), cast_to, keywords.stream), tuple(keywords.body)
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
        if not isinstance(known, Known):
            known = None
        elif (
            not known.works.are_alone(client)
            or (keywords.stream and known.stream_cls != kwargs.get("stream_cls"))
            or ((cache.policy.split or self._default.split) and self._splits(cache, known))
        ):
            return None
        return Asked(self, (head, names, marks), None, client, keywords, clean, known, cache)

    def _learn_absent(self) -> frozenset[type]:
        """The classes of the SDK's marks for what is not given, or to be left out."""
        types = sys.modules[f"{self._name}._types"]
        self._absent = frozenset({types.NotGiven, getattr(types, "Omit", types.NotGiven)})
        return self._absent

    def _cache_of(self, headers: Mapping[str, Any]) -> Cache | None:
        own = None
        if OPTIONS_HEADER in headers:
            carried = headers[OPTIONS_HEADER]
            # Which sample it is is counted on the long way.
            if not isinstance(carried, CarriedOptions) or carried.options.sample is not None:
                return None
            own = carried.options
        return choose_simple_cache(self._default, own)

    def _result_of(
        self,
        asked: Asked,
        known: Known,
        reply: Reply[Answered],
        exchange: SdkExchange,
        kwargs: dict[str, Any],
    ) -> Any:
        if known.build is None or known.wrapper is not None:
            return self._result(asked, known, reply, exchange)
        answer = reply.value.answer
        assert answer is not None
        parse = kwargs.get("options", {}).get("post_parser")
        found = known.read(answer)
        if found is None:
            return NOTHING
        parse = parse if parse is not None and is_given(parse) else None
        return known.made(asked.keywords, *found, parse)

    def _is_usual(self, asked: Asked) -> bool:
        return self._is_usual_client(asked.shape[0][1])

    def _parser(self, options: Any, keywords: Keywords) -> Any:
        return None  # each call brings its own


def _has_been_asked(client: Any) -> bool:
    """Whether the front door has looked at this call already."""
    awaited = expected.get()
    return type(awaited) is Asked and awaited.client is client


def _arrive(before: Expectation | None, client: Any) -> None:
    """Tell who awaits a call of this client that it came where it is cached."""
    if before is not None and before.client is client:
        before.arrived = True


def _keywords(
    kwargs: dict[str, Any],
    options: Mapping[str, Any],
    absent: frozenset[type],
    unkeyed: frozenset[str],
) -> Keywords | None:
    """The arguments of ``post`` told apart; None where there are some that the door does not know.

    Args:
        kwargs: those by name.
        options: the call's own options among them.
        absent: classes of marks for what is not given.
        unkeyed: the names that the call's cache leaves out of a request.
    """
    stream = kwargs.get("stream", False)
    if type(stream) is not bool:
        return None
    beside = Beside()
    left_out: tuple[str, ...] = ()
    if headers := options.get("headers"):
        own = {}
        for name, value in headers.items():
            if type(value) in absent:
                left_out = (*left_out, name)
            elif name != OPTIONS_HEADER:
                own[name] = value
        if own and not beside.take("extra_headers", own):
            return None
    body = {name: value for name, value in kwargs["body"].items() if type(value) not in absent}
    if extra := options.get("extra_json"):
        if not beside.take("extra_body", extra) or not body.keys().isdisjoint(extra):
            return None
        body.update(extra)
    if "timeout" in options:
        beside.timeout = (options["timeout"],)
    if (stream or beside.raw is not None) and options.get("post_parser"):
        return None
    qualifiers = options.get("qualifiers") or {}
    marks = (unkeyed, left_out, *qualifiers.items(), beside.marks())
    return Keywords(body, stream, marks, unkeyed, beside)
