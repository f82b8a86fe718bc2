"""What one call says of its own caching: cache, seed, mode, ttl, and which sample it is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from cachewrap import blocks
from cachewrap.cache import Cache
from cachewrap.choosing import numbering_of
from cachewrap.errors import ConfigurationError
from cachewrap.key import inside_key, sample_key
from cachewrap.policy import UNSET, Mode, Policy, Seed, Ttl, Unset, check_mode, ttl_seconds

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
            raise ConfigurationError(
                f"cache= takes a cachewrap Cache or None, got {type(self.cache).__name__}"
            )
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
    """Which sample of its request a call is. It is decided when the call is made.

    Args:
        cache: the cache that serves the call.
        key: the key of its request.
        options: the call's own.
        samples: whether the function asks for samples, whatever the cache does.
        fallback: counts where no block does.

    Attributes:
        key: the key of the sample.
        counted: whether it was given a number, or brought one of 1 or more.
    """

    __slots__ = ("_name", "_number", "_numbering", "counted", "key")

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
        self._number = options.sample or 0
        if options.sample is None and (samples or cache.policy.samples):
            self._numbering = numbering_of(options.cache, fallback)
            self._number = self._numbering.take(self._name)
        self.counted = self._numbering is not None or self._number > 0
        self.key = sample_key(key, self._number)

    def failed(self) -> None:
        """The call raised: the next occurrence of the request has its number."""
        if self._numbering is not None:
            self._numbering.give_back(self._name, self._number)


class Keyed(Protocol):
    """An exchange whose key may still change."""

    key: str


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
    exchange.key = sampled.key
    return sampled
