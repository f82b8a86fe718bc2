"""Default caches of decorated functions, one on disk for each seed."""

from __future__ import annotations

import atexit

from cachewrap.cache import Cache

_defaults: dict[str, Cache] = {}


def default_cache(seed: str) -> Cache:
    """The disk cache that serves decorated functions of this seed outside any block."""
    cache = _defaults.get(seed)
    if cache is None:
        cache = _defaults.setdefault(seed, Cache.disk(seed))
    return cache


@atexit.register
def _close_defaults() -> None:
    for cache in _defaults.values():
        cache.close()
