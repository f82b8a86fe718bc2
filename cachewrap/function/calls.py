"""A decorated function as all its calls share it, and the exchange of one of them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    NamedTuple,
    TypeAlias,
    TypedDict,
    get_type_hints,
)

from cachewrap import blocks
from cachewrap.blocks import (
    Enter,
    ascoped,
    scoped,
    scoped_async_generator,
    scoped_generator,
)
from cachewrap.cache import Cache
from cachewrap.call.terms import ITEMS, VALUES, Exchange, Seen
from cachewrap.entry import By, Entry, Items, Kind
from cachewrap.errors import ConfigurationError, MissingTypeError, UnkeyableError
from cachewrap.format import codec
from cachewrap.function.defaults import default_cache
from cachewrap.function.signature import bound_to, make_binder, parameters_of, place_of, takes
from cachewrap.options import NAMES, NONE, CallOptions, Sampled
from cachewrap.policy import Policy, Seed, Ttl, Unset, check_flag, seed_text
from cachewrap.request.canonical import canonical
from cachewrap.request.code import ByCode, fingerprint, layers
from cachewrap.request.constants import (
    Constants,
    Same,
    constants_among,
    form_of,
    remember,
    source_of,
)
from cachewrap.request.key import Keyer, Pieces, encode, hashed, key_of, make_keyer, salted
from cachewrap.retry import Retry, check_retry, with_async_retry, with_retry
from cachewrap.telemetry import hints
from cachewrap.telemetry.events import wanted
from cachewrap.telemetry.reading import usage_of
from cachewrap.telemetry.usage import Usage
from cachewrap.urls import wrong_cache_of_function

if TYPE_CHECKING:
    from cachewrap.same.applied import Rules

When: TypeAlias = Callable[[Any], bool]
"""Decides whether an answer is stored; a stream's answer is the list of its items."""

Where: TypeAlias = Cache | Literal["blocks"] | None
"""What serves the calls outside any block; ``"blocks"`` for nothing."""

BLOCKS: Final = "blocks"


Known: TypeAlias = tuple[str, Any, list[Any]]


class Told(NamedTuple):
    """The part of requests that tells of a function, as it was when it was last looked at."""

    same: Same | None
    """Whether all on which it depends is still the same; None where it depends on nothing."""
    head: dict[str, Any]
    """What all its requests have in common, in canonical form."""
    keyer: Keyer | None
    """Of plain arguments, where nothing else comes in; None where ``key=`` makes the key."""


_UNTOLD: Final = Told(lambda: False, {}, None)


class Settings(TypedDict):
    """The options that the decorator was given."""

    seed: Seed | None
    cache: Where
    ttl: Ttl | None | Unset
    samples: bool
    ignore: str | Collection[str]
    key: Callable[..., Any] | None
    when: When | None
    retry: Retry | None
    version: str | int | None
    each: str | None


class _Codeless:
    """A stand-in for the function, where there is none in Python."""

    __code__: Any = None


class Decorated:
    """A decorated function: what its calls have in common, worked out once.

    Args:
        function: what is decorated.
        settings: what the decorator was given.
        known: its name, the fingerprint of its code, and the forms of the functions that it closes
            over, where another process worked them out.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        settings: Settings,
        known: Known | None = None,
    ) -> None:
        self.plain = getattr(function, "__func__", function)  # of a classmethod or staticmethod
        if not callable(self.plain):
            raise ConfigurationError(_undecorated(function))
        chain = layers(self.plain)
        self.inner: Any = chain[-1] if chain else _Codeless
        self.source = source_of(self.plain) if known is None else known[0]
        self.numbering = blocks.Numbering()
        self._known = known
        self._set(settings)
        if self.code is not None:
            _settings.set(self.code, settings)

    def _set(self, settings: Settings) -> None:
        plain, seed, cache, key = self.plain, settings["seed"], settings["cache"], settings["key"]
        if not (cache is None or cache == BLOCKS or isinstance(cache, Cache)):
            raise ConfigurationError(wrong_cache_of_function(cache))
        for name, given in (("key", key), ("when", settings["when"])):
            if not (given is None or callable(given)):
                raise ConfigurationError(f"{name}= takes a function, got {given!r}")
        self.settings = settings
        self.code = self.inner.__code__
        self.bound = bound_to(plain)
        self.off = seed is None
        self.default: Callable[[], Cache] | None = None
        if seed is not None and cache != BLOCKS:
            hints.seen.used = True  # so that calls outside every block are as they should be
            self.default = (
                partial(default_cache, seed_text(seed)) if cache is None else lambda: cache
            )
        ttl = settings["ttl"]
        self.own = NONE if isinstance(ttl, Unset) else CallOptions(ttl=ttl)
        self.when = settings["when"]
        self.retry = settings["retry"]
        self.serve = _serving(plain)
        check_retry(self.retry, colour="async" if self.serve in (aserve, _astream) else "sync")
        self.options = frozenset(name for name in NAMES if not takes(plain, name))
        self.samples = check_flag("samples", settings["samples"])
        ignored, self.each = _names(settings["ignore"]), settings["each"]
        self.bind = make_binder(plain, ignored)
        self.at = -1
        if self.each is not None:
            if key is not None or self.serve not in (serve, aserve):
                raise ConfigurationError("each= goes neither with generators nor with key=")
            self.at = place_of(plain, self.each, ignored)
        self._key = key
        self.salt = "" if seed is None else seed_text(seed)
        self.prefix = salted(self.salt)
        self._version = settings["version"]
        if self._version is not None:
            self._version = canonical(self._version, where="version")
        self._fingerprint: Any = _UNTOLD
        self._constants: Constants | None = None
        self.told = _UNTOLD
        self._ruled: tuple[Rules, Told, Keyer] | None = None

    @property
    def is_simple(self) -> bool:
        """Whether a call depends on its arguments alone, and on the cache that serves it."""
        return self._key is None and not self.off and not self.samples and self.each is None

    @property
    def unserved(self) -> str:
        """Why no cache serves a call here and now."""
        if self.off:
            return "it has seed=None"
        if self.settings["cache"] == BLOCKS and not blocks.active():
            return 'it is cached in a block alone (cache="blocks"): write `with Cache.disk():`'
        return "it stands in a block of no_cache(), or has cache_seed=None"

    def renewed(self) -> Decorated:
        """Itself, with the function as it is now.

        IPython's autoreload gives a function the code of its successor. Then it is decorated as
        that is.
        """
        code = self.inner.__code__
        if code is not self.code:
            self._known = None
            self._set(_settings.get(code) or self.settings)
        return self

    def tell(self) -> Told:
        """Look again at what requests say of the function."""
        head: dict[str, Any] = {"function": self.source}
        same: Same | None = None
        if self._version is not None:
            head["version"] = self._version
        else:
            reads = self._surveyed()
            if (code := self.fingerprint()) is not None:
                head["code"] = code
            same, values = reads.survey()
            if constants := constants_among(values):
                head["constants"] = constants
        keyer = None
        if self._key is None:
            keyer = make_keyer(self.prefix, head, "arguments", parameters_of(self.plain))
        self.told = Told(same, head, keyer)
        return self.told

    def _surveyed(self) -> Constants:
        if self._constants is None:
            self._constants = Constants(layers(self.plain))
            if self._known is not None:
                for function, told in zip(
                    self._constants.functions(), self._known[2], strict=False
                ):
                    remember(function, told)
        return self._constants

    def known(self) -> Known:
        """What another process is told, which may not have the source."""
        closed_over = [] if self._version is not None else self._surveyed().functions()
        return self.source, self.fingerprint(), [form_of(one) for one in closed_over]

    def fingerprint(self) -> Any:
        """What requests say of the function's code."""
        if self._fingerprint is _UNTOLD:
            self._fingerprint = fingerprint(self.plain) if self._known is None else self._known[1]
        return self._fingerprint

    def exchange(
        self, cache: Cache, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> FunctionExchange:
        """The exchange of a call that a cache serves.

        Raises `TypeError` for arguments that do not fit, and `UnkeyableError`.
        """
        try:
            head = self.head()
            if self._key is not None:
                request = {**head, "key": canonical(self._key(*args, **kwargs), where="key")}
            else:
                request = {**head, "arguments": canonical(self.bind(*args, **kwargs))}
        except UnkeyableError as error:
            raise UnkeyableError(f"{self.source}: {error}") from None
        rules = cache.policy.same
        if rules is None:
            return FunctionExchange(self, cache, encode(request))
        key, by = self.keyed_under(rules, request)
        return FunctionExchange(self, cache, request, key, by)

    def keyed_under(self, rules: Rules, request: dict[str, Any]) -> tuple[str, By]:
        """The key of a canonical request under rules of equality, and what changed it.

        Raises `UnkeyableError`.
        """
        try:
            counted, by = rules.apply(request)
            key = self._quickly_keyed(rules, counted)
            return hashed(rules.prefix(self.salt), counted)[0] if key is None else key, by
        except UnkeyableError as error:
            raise UnkeyableError(f"{self.source}: {error}") from None

    def _quickly_keyed(self, rules: Rules, counted: dict[str, Any]) -> str | None:
        """The key of a request as it counts, if nothing but its arguments is its own."""
        told, part = self.told, counted.get("arguments")
        if type(part) is not dict or len(counted) != len(told.head) + 1:
            return None
        for name, value in told.head.items():
            if counted.get(name) is not value:
                return None
        ruled = self._ruled
        if ruled is None or ruled[0] is not rules or ruled[1] is not told:
            prefix, names = rules.prefix(self.salt), parameters_of(self.plain)
            ruled = rules, told, make_keyer(prefix, told.head, "arguments", names)
            self._ruled = ruled
        keyed = ruled[2](part.copy())
        return None if keyed is None else keyed[0]

    def head(self) -> dict[str, Any]:
        """What all requests of the function say now. Raises `UnkeyableError`."""
        told = self.told
        if told.same is not None and not told.same():
            told = self.tell()
        if self.bound is not None and (bound := self.bound()):
            return {**told.head, "bound": canonical(bound)}
        return told.head


def _undecorated(given: object) -> str:
    """What to say where something else than a function is decorated: an option without its name."""
    told = f"llm_cached decorates functions, got {given!r}"
    if isinstance(given, Cache):
        return f"{told}: write @llm_cached(cache=…)"
    if isinstance(given, (int, str)) and not isinstance(given, bool):
        return f"{told}: write @llm_cached(seed={given!r})"
    return told


_settings: Final[ByCode[Settings]] = ByCode()
"""What the newest decoration of each code object was given."""


class FunctionExchange(Exchange[Any]):
    """One call of a decorated function.

    Args:
        decorated: of the function.
        cache: serves the call.
        asked: the canonical request, encoded; where its key is known it may still be to be encoded,
            which is done at once: a call may change what it was given.
        key: its key, where that is known.
        by: the rules of equality that changed it.

    Attributes:
        options: the call's own.
    """

    __slots__ = ("asked", "by", "cache", "decorated", "key", "kinds", "options", "source")

    asked: bytes
    source: str

    def __init__(
        self,
        decorated: Decorated,
        cache: Cache,
        asked: bytes | Pieces | dict[str, Any],
        key: str = "",
        by: By = (),
    ) -> None:
        self.decorated = decorated
        self.cache = cache
        self.source = decorated.source  # pyright: ignore[reportIncompatibleMethodOverride]
        told: Any = asked
        if type(asked) is not bytes:
            told = encode(asked) if type(asked) is dict else b"".join(told)
        self.asked = told  # pyright: ignore[reportIncompatibleMethodOverride]
        self.key = key or key_of(decorated.prefix, told)
        self.by = by
        self.options = NONE
        self.kinds = ITEMS if decorated.serve is _stream or decorated.serve is _astream else VALUES

    @property
    def policy(self) -> Policy:
        policy = self.cache.policy
        for own in (self.decorated.own, self.options):
            if own is not NONE:
                policy = own.policy(policy)
        return policy

    def load(self, entry: Entry) -> Any:
        try:
            return _readable(super().load(entry))
        except MissingTypeError:
            # The class of a generic model may be named by an annotation that is text so far.
            if not _read_annotation(self.decorated.plain):
                raise
        return _readable(super().load(entry))

    def pack(self, result: Any) -> tuple[Kind, bytes, Usage] | None:
        decorated = self.decorated
        if decorated.when is not None and not wanted(
            decorated.when, _listed(result), decorated.source
        ):
            return None
        return (*codec.encode(result), usage_of(result))


def _readable(found: Any) -> Any:
    if isinstance(found, Items) and found.values:
        codec.decode(*found.values[0])  # what cannot be read is a miss while nothing was given yet
    return found


def _read_annotation(function: Any) -> bool:
    """Evaluate what a function says that it returns; whether that could be done."""
    try:
        told = function.__annotations__["return"]
        if not isinstance(told, str):
            return True  # newer versions of Python evaluate it when it is asked for
        get_type_hints(SimpleNamespace(__annotations__={"return": told}), function.__globals__)
    except Exception:  # it is the program's own text, and can do anything
        return False
    return True


def _listed(result: Any) -> Any:
    if isinstance(result, Items):
        return [codec.decode(*encoded) for encoded in result.values]
    return result


def serve_specially(exchange: FunctionExchange, call: Any, options: CallOptions) -> Any:
    """Serve a call that is sampled, or has options of its own, or is made inside such a call.

    What it asks inside belongs to its sample and its mode: otherwise another sample, or an answer
    that is to be refreshed, would come from what is stored of the calls inside.
    """
    decorated = exchange.decorated
    sampled = Sampled(exchange.cache, exchange.key, options, decorated.samples, decorated.numbering)
    exchange.key, exchange.sample = sampled.key, sampled.number
    exchange.options = options
    if sampled.counted or options.mode is not None:
        call = SCOPED[decorated.serve](partial(inside, sampled, options), call)
    if decorated.serve is aserve:
        return _aserve_sampled(exchange, call, sampled)
    try:
        return decorated.serve(exchange, call)
    except BaseException:
        sampled.failed()
        raise


async def _aserve_sampled(
    exchange: FunctionExchange, call: Callable[[], Awaitable[Any]], sampled: Sampled
) -> Any:
    try:
        return await aserve(exchange, call)
    except BaseException:
        sampled.failed()
        raise


def inside(sampled: Any, options: CallOptions, stack: blocks.Stack) -> blocks.Stack:
    """The blocks inside a call that is sampled (its ``key``, ``counted``) or has its own mode."""
    if sampled.counted:
        stack = stack.within(sampled.key)
    if options.mode is not None and stack and isinstance(active := stack[-1], Cache):
        stack = stack.entered(active.mode(options.mode))
    return stack


def serve(exchange: FunctionExchange, call: Callable[[], Any], *seen: Seen) -> Any:
    """Serve a call of a plain function; ``seen`` is what the store gave, if it was asked."""
    retry = exchange.decorated.retry
    upstream = call if retry is None else with_retry(retry, call)
    return exchange.cache.serve(exchange, upstream, *seen).value


async def aserve(
    exchange: FunctionExchange, call: Callable[[], Awaitable[Any]], *seen: Seen
) -> Any:
    """Serve a call of a coroutine function."""
    retry = exchange.decorated.retry
    upstream = call if retry is None else with_async_retry(retry, call)
    return (await exchange.cache.aserve(exchange, upstream, *seen)).value


_generators: Any = None
"""The module that serves them, from the first one on that is decorated."""


def _stream(exchange: FunctionExchange, call: Callable[[], Any]) -> Any:
    return _generators.stream(exchange.cache, exchange, call, exchange.decorated.retry)


def _astream(exchange: FunctionExchange, call: Callable[[], Any]) -> Any:
    return _generators.astream(exchange.cache, exchange, call, exchange.decorated.retry)


SCOPED: Final[dict[Callable[..., Any], Callable[[Enter, Any], Any]]] = {
    serve: scoped,
    aserve: ascoped,
    _stream: scoped_generator,
    _astream: scoped_async_generator,
}


def _serving(function: Callable[..., Any]) -> Callable[[FunctionExchange, Any], Any]:
    global _generators
    generates_async = inspect.isasyncgenfunction(function)
    if generates_async or inspect.isgeneratorfunction(function):
        # Not at the first call, when no file may be left to be opened.
        _generators = import_module("cachewrap.streams.generator")
        return _astream if generates_async else _stream
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        type(function).__call__
    ):
        return aserve
    return serve


def _names(ignore: str | Collection[str]) -> frozenset[str]:
    return frozenset([ignore] if isinstance(ignore, str) else ignore)
