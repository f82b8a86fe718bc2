"""Options of one call for its own caching, and the cache that serves it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakKeyDictionary, ref

from cachewrap import blocks
from cachewrap.cache import Cache
from cachewrap.errors import ConfigurationError
from cachewrap.policy import UNSET, Mode, Policy, Seed, Ttl, Unset, check_mode, ttl_seconds
from cachewrap.request.key import inside_key, sample_key
from cachewrap.urls import wrong_cache

if TYPE_CHECKING:
    from cachewrap.same.applied import Rules


def active_cache() -> Cache | None:
    """The cache of the innermost block, or None outside any block and inside `no_cache`."""
    stack = blocks.active()
    innermost = stack[-1] if stack else None
    return innermost if isinstance(innermost, Cache) else None


def choose_cache(
    cache: Cache | None = None,
    cache_seed: Seed | None | Unset = UNSET,
    default: Callable[[], Cache | None] | None = None,
    mode: Mode | None = None,
    *,
    counted: bool = True,
) -> Cache | None:
    """The cache that serves a call, or None where the call is not cached.

    It is the call's own ``cache``, else the innermost block's, else what ``default`` gives; then
    the call's ``cache_seed`` and ``mode`` override those of the cache. Inside `no_cache`, and in
    mode ``"off"``, it is None.

    Args:
        cache: the call's own cache.
        cache_seed: the call's own seed.
        default: gives the cache of a call outside any block; a `Default` its rules as well.
        mode: the call's own mode.
        counted: whether it is for a call that is made, which the mode ``"off"`` lets go past and
            counts; else the mode does not matter.
    """
    stack = blocks.active()
    if stack:
        innermost: Any = stack[-1]
        if innermost is blocks.OFF:
            return None
        if cache is None:
            cache = innermost
    elif cache is None and default is not None and cache_seed is not None:
        cache = default()
    if cache is None or cache_seed is None:
        return None
    if not isinstance(cache_seed, Unset):
        cache = cache.sibling(cache_seed)
    if mode is not None:
        cache = cache.mode(mode)
    if cache._idle:
        if cache.seed is None:
            return None
        if counted:
            cache.bypass("", "mode off")
            return None
    said: Any = default
    if type(said) is Default and said.same is not None:
        return said.served(cache)
    return cache


class Default:
    """The cache that serves calls outside any block, and what a patch says of all calls.

    Args:
        cache: it, or None.
        split: whether lists are told apart, where a cache does not say.
        same: rules of equality, which hold behind those of whatever cache serves a call.
    """

    __slots__ = ("_served", "cache", "same", "split")

    def __init__(
        self, cache: Cache | None = None, *, split: bool = False, same: Rules | None = None
    ) -> None:
        self.cache = cache
        self.declare(split=split, same=same)

    def declare(self, *, split: bool, same: Rules | None) -> None:
        """From now on this is said of all calls."""
        self.split = split
        # Each cache holds its own views: here they are only found quickly. They go with their
        # rules, since another thread may be declaring others at this moment.
        found: WeakKeyDictionary[Cache, ref[Cache]] = WeakKeyDictionary()
        self._served = same, found
        self.same = same

    def served(self, cache: Cache) -> Cache:
        """A cache as it serves the calls of the patch: under its own rules, and those of that."""
        rules, served = self._served
        if rules is None:
            return cache
        known = served.get(cache)
        view = None if known is None else known()
        if view is None:
            policy = cache.policy
            both = rules if policy.same is None else policy.same.followed_by(rules)
            view = cache._view(replace(policy, same=both))
            served[cache] = ref(view)
        return view

    def __call__(self) -> Cache | None:
        return self.cache


def choose_simple_cache(
    default: Callable[[], Cache | None], own: CallOptions | None = None
) -> Cache | None:
    """The cache that serves a call, if hits are all that matters there.

    None where no cache serves it, and where anything but its request decides how it is answered.

    Args:
        default: gives the cache of a call outside any block.
        own: the call's own options.
    """
    if blocks.blocks.get().salt:
        return None
    if own is None:
        cache = choose_cache(default=default, counted=False)
    else:
        cache = choose_cache(own.cache, own.cache_seed, default, own.mode, counted=False)
    return cache if cache is not None and cache._hits_by_key else None


def numbering_of(own: Cache | None, fallback: blocks.Numbering) -> blocks.Numbering:
    """What counts the occurrences of a request, for a call that is sampled.

    Args:
        own: the call's own cache.
        fallback: counts where no block does.
    """
    stack = blocks.active()
    if own is None:
        return stack.numberings[-1] if stack else stack.inside or fallback
    return stack.numbering(own) or stack.inside or own.numbering


NAMES: Final = frozenset({"cache", "cache_seed", "mode", "ttl", "sample"})
"""The keywords that a call may bring."""


@dataclass(frozen=True, slots=True)
class CallOptions:
    """The options of one call, checked.

    Args:
        cache: serves this call in place of the active one.
        cache_seed: in place of the cache's seed; None leaves the call uncached.
        mode: in place of the cache's mode.
        ttl: in place of every other, in seconds or as a `timedelta`; None is for ever.
        sample: which sample of the request it is, from 0; None leaves that to its block.

    Raises `ConfigurationError` for an option that cannot be.
    """

    cache: Cache | None = None
    cache_seed: Seed | None | Unset = UNSET
    mode: Mode | None = None
    ttl: Ttl | None | Unset = UNSET
    sample: int | None = None

    def __post_init__(self) -> None:
        if self.cache is not None and not isinstance(self.cache, Cache):
            raise ConfigurationError(wrong_cache(self.cache))
        if self.mode is not None:
            check_mode(self.mode)
        if not isinstance(self.ttl, Unset):
            ttl_seconds(self.ttl)
        sample = self.sample
        if sample is not None and (type(sample) is not int or sample < 0):
            raise ConfigurationError(f"sample= takes a number from 0 on, got {sample!r}")

    def policy(self, given: Policy) -> Policy:
        """A policy under this call's ``ttl``."""
        ttl = self.ttl
        return given if isinstance(ttl, Unset) else replace(given, ttl=ttl_seconds(ttl))


NONE: Final = CallOptions()
"""The options of a call that brings none."""


def take_options(
    kwargs: dict[str, Any], names: Collection[str] = NAMES
) -> tuple[dict[str, Any], CallOptions]:
    """A call's keywords without its options, and the options.

    Args:
        kwargs: the keywords, which are left as they are.
        names: those that are options, and no parameters of what is called.
    """
    kept = dict(kwargs)
    return kept, CallOptions(**{name: kept.pop(name) for name in names if name in kept})


class Sampled:
    """The number of a call among the samples of its request. It is decided when the call is made.

    Args:
        cache: the cache that serves the call.
        key: the key of its request.
        options: the call's own.
        samples: whether the function asks for samples, whatever the cache does.
        fallback: counts where no block does.

    Attributes:
        key: the key of the sample.
        number: the number.
        counted: whether it was given a number, or brought one of 1 or more.
    """

    __slots__ = ("_name", "_numbering", "counted", "key", "number")

    def __init__(
        self,
        cache: Cache,
        key: str,
        options: CallOptions,
        samples: bool,
        fallback: blocks.Numbering,
    ) -> None:
        salt = blocks.blocks.get().salt
        if salt:
            key = inside_key(key, salt)
        self._name = (cache.seed, key)
        self._numbering: blocks.Numbering | None = None
        self.number = options.sample or 0
        if options.sample is None and (samples or cache.policy.samples):
            self._numbering = numbering_of(options.cache, fallback)
            self.number = self._numbering.take(self._name)
        self.counted = self._numbering is not None or self.number > 0
        self.key = sample_key(key, self.number)

    def failed(self) -> None:
        """The call raised: the next occurrence of the request has its number."""
        if self._numbering is not None:
            self._numbering.give_back(self._name, self.number)

    def __enter__(self) -> None:
        """Make the call in this block, and `failed` is told where it raises."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self.failed()


class Keyed(Protocol):
    """An exchange whose key may still change."""

    key: str
    sample: int


def is_sampling(cache: Cache) -> bool:
    """Whether calls that bring no options are samples here."""
    return cache.policy.samples or bool(blocks.blocks.get().salt)


def take_sample(cache: Cache, exchange: Keyed, own: CallOptions = NONE) -> Sampled | None:
    """Make an exchange that of its sample; None where nothing is sampled.

    Args:
        cache: serves the call.
        exchange: of the request, whose key becomes that of the sample.
        own: the call's own options.
    """
    if own.sample is None and not is_sampling(cache):
        return None
    sampled = Sampled(cache, exchange.key, own, False, cache.numbering)
    exchange.key, exchange.sample = sampled.key, sampled.number
    return sampled
