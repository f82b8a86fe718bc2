"""The fast hit: a plain hit of a decorated function, without what only a miss needs.

It takes the same steps as the general path, for calls with nothing unusual about them: no options,
a cache whose hits depend on the request alone, nobody who watches, an entry that is whole and
fresh. Everything else takes the general path, with what the store gave if it was asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from time import time
from typing import Any, Final, Protocol, TypeAlias

from cachewrap.blocks import OFF, active, blocks
from cachewrap.cache import Cache
from cachewrap.call.terms import Seen, peek
from cachewrap.entry import By
from cachewrap.errors import CodecError, StoreError, UnkeyableError
from cachewrap.function.calls import Decorated, FunctionExchange, aserve, serve
from cachewrap.request.canonical import canonical
from cachewrap.request.key import Pieces
from cachewrap.request.values import are_plain
from cachewrap.telemetry.events import remembered

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]


class Answer(Protocol):
    """A function that answers a call, given its arguments, its instance or None, and its target."""

    def __call__(
        self, args: Args, kwargs: Kwargs, instance: Any = ..., wrapped: Callable[..., Any] = ..., /
    ) -> Any: ...


_DEBUG: Final = logging.DEBUG
_UNSEEN: Final = object()


def fast_hit(decorated: Decorated, function: Callable[..., Any], general: Answer) -> Answer:
    """The general path with a fast hit in front, if the function's calls may take it.

    Args:
        decorated: of the function.
        function: what is decorated.
        general: answers every call.
    """
    inner, stack_here = decorated.inner, blocks.get
    code: Any = _UNSEEN
    fast = awaited = False
    bind, bound, options = decorated.bind, decorated.bound, decorated.options
    default: Callable[[], Cache] | None = None
    source = decorated.source

    def take() -> None:
        """Take the function as it is now."""
        nonlocal fast, awaited, bind, bound, options, default, source, code
        decorated.renewed()
        awaited = decorated.serve is aserve
        bind, bound, options = decorated.bind, decorated.bound, decorated.options
        source = decorated.source
        fast = decorated.is_simple and (awaited or decorated.serve is serve)
        if fast:
            default = decorated.default
        code = decorated.code

    def answer(
        args: Args, kwargs: Kwargs, instance: Any = None, wrapped: Callable[..., Any] = function, /
    ) -> Any:
        if inner.__code__ is not code:
            take()
        if not fast:
            return general(args, kwargs, instance, wrapped)
        if kwargs and not options.isdisjoint(kwargs):
            return general(args, kwargs, instance, wrapped)
        stack = stack_here() or active()
        cache: Any = stack[-1] if stack else OFF if default is None else default()
        if cache is OFF:
            return wrapped(*args, **kwargs)
        if not cache._unheard or stack.salt or remembered(_DEBUG) is not False:
            return general(args, kwargs, instance, wrapped)
        started, rules = time(), cache.policy.same
        arguments = bind(*args, **kwargs) if instance is None else bind(instance, *args, **kwargs)
        if bound is not None and bound():
            return general(args, kwargs, instance, wrapped)
        if not are_plain(arguments):
            try:
                arguments = canonical(arguments)
            except UnkeyableError:  # the general path says of what
                return general(args, kwargs, instance, wrapped)
        same, _, keyer = decorated.told
        if same is not None and not same():
            keyer = decorated.tell().keyer
        asked: Pieces | dict[str, Any]
        by: By = ()
        if rules is None:
            keyed = keyer(arguments)  # type: ignore[misc]
            if keyed is None:
                return general(args, kwargs, instance, wrapped)
            key, asked = keyed
        else:
            asked = {**decorated.told.head, "arguments": arguments}
            key, by = decorated.keyed_under(rules, asked)
        if awaited:
            return later(cache, key, asked, partial(wrapped, *args, **kwargs), started, by)
        seen: Seen = None
        found = None
        try:
            seen = raw = cache._watched.get(key)
            if raw is not None:
                found = peek(key, raw, cache._guard)
        except CodecError:
            pass  # whoever looks again, in what was seen, tells of it
        except StoreError as error:
            seen = error
        if found is not None:
            value, entry = found
            model, told = cache.stats.count_hit(entry, source, None, key)
            needed = () if rules is None else cache.count_rules(entry, by)
            if (recorder := cache._recorder) is not None:
                recorder.hit(entry, source, model, told, key, started, needed)
            return value
        exchange = FunctionExchange(decorated, cache, asked, key, by)
        return serve(exchange, partial(wrapped, *args, **kwargs), seen)

    async def later(
        cache: Any,
        key: str,
        asked: Pieces | dict[str, Any],
        call: Callable[[], Any],
        started: float,
        by: By,
    ) -> Any:
        seen: Seen = None
        found = None
        try:
            seen = raw = await cache._watched.aget(key)
            if raw is not None:
                found = peek(key, raw, cache._guard)
        except CodecError:
            pass  # whoever looks again, in what was seen, tells of it
        except StoreError as error:
            seen = error
        if found is not None:
            value, entry = found
            model, told = cache.stats.count_hit(entry, source, None, key)
            needed = () if cache.policy.same is None else cache.count_rules(entry, by)
            if (recorder := cache._recorder) is not None:
                recorder.hit(entry, source, model, told, key, started, needed)
            return value
        exchange = FunctionExchange(decorated, cache, asked, key, by)
        return await aserve(exchange, call, seen)

    return answer
