"""`llm_cached`: any completion function of one's own, served from the active cache."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection
from copy import deepcopy
from functools import lru_cache, partial
from importlib import import_module
from operator import attrgetter
from types import FrameType, FunctionType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

import wrapt

from cachewrap.blocks import blocks
from cachewrap.cache import Cache
from cachewrap.errors import ConfigurationError
from cachewrap.function.calls import (
    Decorated,
    Known,
    Settings,
    When,
    serve_specially,
)
from cachewrap.function.each import asking, elements_of, exchanges_of
from cachewrap.function.fast_hit import Answer, fast_hit
from cachewrap.function.typing import Cached, CachedClassMethod, CachedStaticMethod, Decorator
from cachewrap.options import NONE, CallOptions, choose_cache, take_options
from cachewrap.policy import UNSET, Seed, Ttl, Unset
from cachewrap.request.key import sample_key
from cachewrap.retry import Retry, portable, unported

if TYPE_CHECKING:
    from cachewrap.explain import Explanation

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")


@lru_cache(maxsize=1)
def _exact() -> Cache:
    """A cache without rules, for what only needs a key."""
    return Cache.memory()


def _with_instance(instance: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return args if instance is None else (instance, *args)


def _pickles_by_value(function: Any, frame: FrameType) -> bool:
    """Whether cloudpickle, of which this is a frame, takes the function with its code."""
    by_reference = frame.f_globals.get("_should_pickle_by_reference")
    if by_reference is None:
        return False
    return not (isinstance(function, FunctionType) and by_reference(function))


def _itself(function: CachedFunction) -> CachedFunction:
    return function


def _named(module: str, qualname: str) -> Any:
    return attrgetter(qualname)(import_module(module))


def _blank() -> CachedFunction:
    return CachedFunction.__new__(CachedFunction)


def _fill(blank: CachedFunction, state: tuple[Any, Settings, Known]) -> None:
    function, settings, known = state
    settings["retry"] = unported(settings["retry"])
    blank.__init__(function, Decorated(function, settings, known))  # type: ignore[misc]


class _Calls:
    """The part that a decorated function and its bound form share."""

    # It must bring no `__dict__` of its own: wrapt's, which is the function's, stands behind it.
    __slots__ = ()

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Of a function cloudpickle would take the code alone, so to it this is none. It asks in
        # the frame that is looked for here, in all the copies of it that libraries bring.
        frame = sys._getframe(1)
        if frame.f_code.co_name == "reducer_override" and _pickles_by_value(self, frame):
            return type(self)
        return self.__wrapped__.__class__  # type: ignore[attr-defined]

    def cache_key(self, *args: Any, **kwargs: Any) -> str:
        """The key of a call with these arguments; ``sample=`` counts.

        It is the same for every cache, but for one with rules of equality: then it is the key that
        the cache which would serve the call here and now has for it. With ``each=`` it is the key
        of the element of a list of one.
        """
        decorated, instance = self._decorated_and_instance()  # type: ignore[attr-defined]
        kwargs, own = take_options(kwargs, decorated.options)
        cache = choose_cache(own.cache, own.cache_seed, decorated.default, counted=False)
        given = _with_instance(instance, args)
        exchanges = exchanges_of(decorated, cache or _exact(), given, kwargs)
        if len(exchanges) != 1:
            raise ConfigurationError(
                f"{decorated.source}: each element of {decorated.each}= has a key of its own: ask"
                f" for that of a list of one, got {len(exchanges)}"
            )
        return sample_key(exchanges[0].key, own.sample or 0)

    def invalidate(self, *args: Any, **kwargs: Any) -> bool:
        """Remove the stored answer of a call with these arguments; whether there was one.

        With ``each=`` those of all elements of the list are removed.
        It is removed from the cache that would serve the call here and now. Raises `StoreError`.
        """
        decorated, instance = self._decorated_and_instance()  # type: ignore[attr-defined]
        kwargs, own = take_options(kwargs, decorated.options)
        cache = choose_cache(own.cache, own.cache_seed, decorated.default, counted=False)
        if decorated.off or cache is None:
            return False
        exchanges = exchanges_of(decorated, cache, _with_instance(instance, args), kwargs)
        keys = {sample_key(exchange.key, own.sample or 0) for exchange in exchanges}
        return sum(cache.discard(key) for key in keys) > 0

    def explain(self, *args: Any, **kwargs: Any) -> Explanation:
        """Why a call with these arguments is a hit or a miss, see `Cache.explain`.

        With ``each=`` it tells of the first element that is not stored, if there is one.
        It is asked of the cache that would serve the call here and now. Raises `StoreError`, and
        `ConfigurationError` where no cache would serve it.
        """
        decorated, instance = self._decorated_and_instance()  # type: ignore[attr-defined]
        kwargs, own = take_options(kwargs, decorated.options)
        cache = choose_cache(own.cache, own.cache_seed, decorated.default, counted=False)
        if decorated.off or cache is None:
            raise ConfigurationError(
                f"{decorated.source}: no cache serves this call: {decorated.unserved}"
            )
        explained = None
        for exchange in exchanges_of(decorated, cache, _with_instance(instance, args), kwargs):
            exchange.key = sample_key(exchange.key, own.sample or 0)
            explained = cache.explain_exchange(exchange)
            if not explained.stored:
                break
        if explained is None:
            raise ConfigurationError(f"{decorated.source}: an empty list asks for nothing")
        return explained

    def __dir__(self) -> list[str]:
        names = {"cache_key", "explain", "invalidate", "uncached"}
        return sorted(names.union(dir(self.__wrapped__)))  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        decorated, instance = self._decorated_and_instance()  # type: ignore[attr-defined]
        of = "" if instance is None else f" of {instance!r}"
        return f"<llm_cached {decorated.source}{of}>"

    @property
    def uncached(self) -> Any:
        """The function itself: what it returns is neither looked up nor stored."""
        return self.__wrapped__  # type: ignore[attr-defined]


class BoundCachedFunction(_Calls, wrapt.BoundFunctionWrapper):  # type: ignore[type-arg]
    """A decorated method of one instance or class."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # As a plain method is: by its owner and its name.
        _, instance = self._decorated_and_instance()
        function = self.__wrapped__
        if instance is not None:
            return getattr, (instance, function.__name__)
        if _pickles_by_value(self, sys._getframe(1)):
            return _itself, (self._self_parent,)
        return _named, (function.__module__, function.__qualname__)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        # A copied object's method is that of the copy.
        _, instance = self._decorated_and_instance()
        if instance is None or isinstance(instance, type):
            return self
        return self._self_parent.__get__(deepcopy(instance, memo), type(instance))

    def _decorated_and_instance(self) -> tuple[Decorated, Any]:
        # Whom a call is given as its first argument, as wrapt decides it.
        if self._self_binding == "staticmethod":
            instance = None
        elif self._self_binding == "classmethod":
            instance = getattr(self.__wrapped__, "__self__", None)
        else:
            instance = self._self_instance
        return self._self_parent._self_plan.renewed(), instance


class CachedFunction(_Calls, wrapt.FunctionWrapper):  # type: ignore[type-arg]
    """A decorated function: calls, looks, pickles and types as the function that it wraps."""

    __slots__ = ("_self_answer",)
    __bound_function_wrapper__ = BoundCachedFunction

    def __init__(self, function: Callable[..., Any], decorated: Decorated) -> None:
        answer = fast_hit(decorated, function, _general(decorated, function))

        def bound(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
            return answer(args, kwargs, instance, wrapped)

        super().__init__(function, bound)
        self._self_plan = decorated
        # A plain function has no instance, which wrapt would look for at every call.
        self._self_answer = answer if type(function) is FunctionType else None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        answer = self._self_answer
        if answer is None:
            return super().__call__(*args, **kwargs)
        return answer(args, kwargs)

    def __reduce_ex__(self, protocol: Any) -> str | tuple[Any, ...]:
        # Pickled and copied by name, as a plain function is, but by cloudpickle with its code where
        # a plain function would be. It is made first and filled then: it may refer to itself.
        if _pickles_by_value(self, sys._getframe(1)):
            decorated = self._self_plan.renewed()
            settings = {**decorated.settings, "retry": portable(decorated.settings["retry"])}
            state = (self.__wrapped__, settings, decorated.known())
            return _blank, (), state, None, None, _fill
        name: str = self.__wrapped__.__qualname__
        return name

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def _decorated_and_instance(self) -> tuple[Decorated, Any]:
        # A method that was bound before it was decorated is called with its object.
        bound = self.__wrapped__.__self__ if inspect.ismethod(self.__wrapped__) else None
        return self._self_plan.renewed(), bound


def _general(decorated: Decorated, function: Callable[..., Any]) -> Answer:
    """The general path of a function's calls."""

    def answer(
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        instance: Any = None,
        wrapped: Callable[..., Any] = function,
        /,
    ) -> Any:
        own: CallOptions = NONE
        if decorated.inner.__code__ is not decorated.code:
            decorated.renewed()
        if kwargs and not decorated.options.isdisjoint(kwargs):
            kwargs, own = take_options(kwargs, decorated.options)
        if decorated.off:
            return wrapped(*args, **kwargs)
        cache = choose_cache(own.cache, own.cache_seed, decorated.default, own.mode)
        if cache is None:
            return wrapped(*args, **kwargs)
        given = args if instance is None else (instance, *args)
        if decorated.each is not None:
            elements = elements_of(decorated, cache, given, kwargs)
            if elements is not None:
                ask = asking(decorated, wrapped, args, kwargs, len(given) - len(args))
                return elements.serve(cache, own, ask)
        exchange = decorated.exchange(cache, given, kwargs)
        call = partial(wrapped, *args, **kwargs)
        if (
            own is NONE
            and not decorated.samples
            and not cache.policy.samples
            and not blocks.get().salt
        ):
            return decorated.serve(exchange, call)
        return serve_specially(exchange, call, own)

    return answer


@overload
def llm_cached(  # type: ignore[overload-overlap]
    function: staticmethod[P, R], /
) -> CachedStaticMethod[P, R]: ...


@overload
def llm_cached(function: classmethod[C, P, R], /) -> CachedClassMethod[P, R]: ...


@overload
def llm_cached(function: Callable[P, R], /) -> Cached[P, R]: ...


@overload
def llm_cached(
    *,
    seed: Seed | None = 41,
    cache: Cache | Literal["blocks"] | None = None,
    ttl: Ttl | None | Unset = UNSET,
    samples: bool = False,
    ignore: str | Collection[str] = (),
    key: Callable[..., Any] | None = None,
    when: When | None = None,
    retry: Retry | None = None,
    version: str | int | None = None,
    each: str | None = None,
) -> Decorator: ...


def llm_cached(
    function: Any = None,
    /,
    *,
    seed: Seed | None = 41,
    cache: Cache | Literal["blocks"] | None = None,
    ttl: Ttl | None | Unset = UNSET,
    samples: bool = False,
    ignore: str | Collection[str] = (),
    key: Callable[..., Any] | None = None,
    when: When | None = None,
    retry: Retry | None = None,
    version: str | int | None = None,
    each: str | None = None,
) -> Any:
    """Cache a function that asks a model: sync or async, generator or async generator, or a method.

    Put it above ``@classmethod``, so that ``cache_key`` and its like know the class as well.
    Inside a cache's block its answers are kept in that cache; outside, in ``cache``, by default
    ``Cache.disk(cache_seed=seed)``, opened at the first call. A library writes ``cache="blocks"``:
    then it is cached in its users' blocks alone, and outside of them called as if it were not
    decorated. A call may bring ``cache=``, ``cache_seed=``, ``mode=``, ``ttl=`` and ``sample=`` of
    its own, unless the function has parameters of these names. ``mode`` and ``sample`` also hold
    for what the function calls.

    Two calls are the same request when the function, its ``seed`` and its bound arguments are the
    same. A function is told by its module and qualified name, by its own code (without comments,
    formatting, docstring, annotations, decorators and defaults), and by the constants that it reads
    from its closure and its module's globals, as they are at the call: text, bytes, numbers,
    booleans, None, tuples and frozensets of these. Functions that it closes over count by their
    code. What it rebinds itself does not count, nor do other objects, the helpers that it calls by
    the names of its module, and credentials. Where no source can be had, its code
    is the bytecode, which differs from one Python to the next.

    >>> @llm_cached(cache=Cache.memory())
    ... def complete(prompt: str, *, temperature: float = 0.0) -> str:
    ...     print("going upstream")
    ...     return prompt.upper()
    >>> complete("hello"), complete(prompt="hello", temperature=0.0)
    going upstream
    ('HELLO', 'HELLO')

    Args:
        function: what is decorated, where the decorator is used bare.
        seed: names an independent draw of answers; None switches caching off for this function.
        cache: serves the calls made outside any block; ``"blocks"`` leaves them uncached.
        ttl: how long an answer stays fresh, in seconds or as a `timedelta`; None is for ever; the
            cache's own by default.
        samples: whether the n-th occurrence of a call is a sample of its own, as in a block of
            `Cache.samples`: counted in the innermost block, and outside any block from the
            decoration on; default False.
        ignore: parameters that are no part of the request, such as a client or a logger.
        key: takes the call's arguments and returns what identifies it, in the arguments' place.
        when: takes an answer (of a generator: the list of its items) and says whether to store it.
        retry: tries a failed upstream call again: a count of retries, with exponential waits, or
            a tenacity ``Retrying`` or ``AsyncRetrying``. A generator is tried again until its
            first item.
        version: takes the place of the function's code and constants: answers are then outdated
            when it is changed, and only then.
        each: the parameter that takes a list, each element of which has an answer of its own: the
            function is called for those that nobody has asked for yet, with a list or tuple of
            them, and returns one with a result for each. A call with something else there is one
            request, and an empty list gives an empty list.

    Raises `ConfigurationError` for arguments that cannot be. A call raises `UnkeyableError` for an
    argument without a canonical form, and whatever the function raises; that is never stored.
    """

    settings: Settings = {
        "seed": seed,
        "cache": cache,
        "ttl": ttl,
        "samples": samples,
        "ignore": ignore,
        "key": key,
        "when": when,
        "retry": retry,
        "version": version,
        "each": each,
    }

    def decorate(bare: Callable[..., Any]) -> CachedFunction:
        return CachedFunction(bare, Decorated(bare, settings))

    return decorate if function is None else decorate(function)
