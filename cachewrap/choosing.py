"""Which cache serves a call: its own, that of the innermost block, or a default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cachewrap import blocks
from cachewrap.cache import Cache
from cachewrap.policy import UNSET, Mode, Seed, Unset


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
        default: gives the cache of a call outside any block.
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
    return cache


class Default:
    """Gives the cache that serves calls outside any block.

    Attributes:
        cache: it, or None.
    """

    __slots__ = ("cache",)

    def __init__(self) -> None:
        self.cache: Cache | None = None

    def __call__(self) -> Cache | None:
        return self.cache


def choose_plain_cache(
    default: Callable[[], Cache | None], own: Cache | None = None
) -> Cache | None:
    """The cache that serves a call without other options, if hits are all that matters there.

    None where no cache serves it, and where anything but its request decides how it is answered.

    Args:
        default: gives the cache of a call outside any block.
        own: the call's own cache.
    """
    if blocks.blocks.get().salt:
        return None
    cache = choose_cache(own, default=default, counted=False)
    return cache if cache is not None and cache._plain else None


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
