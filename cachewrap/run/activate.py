"""`activate`: a cache for the whole of a worker process, as the initializer of a pool."""

from __future__ import annotations

import os

from cachewrap.cache import Cache
from cachewrap.errors import ConfigurationError
from cachewrap.sdk.others import patch_all

URL = "CACHEWRAP_URL"
"""The environment variable that names the cache where `activate` is given none."""


def activate(cache: Cache | str | None = None) -> None:
    """Serve this process from a cache from now on: a block that is entered and never left.

    It is the initializer for pools of processes, whose workers begin outside every block:
    ``ProcessPoolExecutor(initializer=activate, initargs=(cache,))``. The known SDKs are patched as
    well (see `patch_all`), since a fresh interpreter does not know of the patches of its parent.

    Args:
        cache: a cache, which travels to the worker and opens its store there anew (one in memory
            starts empty), or a URL for `Cache.from_url`. None takes the URL from the environment
            variable ``CACHEWRAP_URL``.

    Raises `ConfigurationError` if there is neither, or for a URL that names no cache.
    """
    if cache is None:
        cache = os.environ.get(URL)
        if not cache:
            raise ConfigurationError(f"no cache to activate: give one, or its URL in {URL}")
    if isinstance(cache, str):
        cache = Cache.from_url(cache)
    if not isinstance(cache, Cache):
        raise ConfigurationError(
            f"activate takes a cachewrap Cache or a URL, got {type(cache).__name__}"
        )
    patch_all()
    cache.__enter__()
