"""A store for the cache that AutoGen 0.4 and later puts around a model's client."""

from __future__ import annotations

from typing import Any, Self, TypeVar

from autogen_core import CacheStore, Component
from pydantic import BaseModel

from cachewrap.cache import Cache
from cachewrap.errors import ConfigurationError
from cachewrap.options import choose_cache, is_sampling
from cachewrap.urls import wrong_cache

T = TypeVar("T")

__all__ = ["AutoGenCacheStore", "AutoGenCacheStoreConfig"]


class AutoGenCacheStoreConfig(BaseModel):
    """The parts of an `AutoGenCacheStore`: a cache's URL, if it has one, and the scope."""

    url: str | None = None
    scope: str = ""


class AutoGenCacheStore(CacheStore[T], Component[AutoGenCacheStoreConfig]):
    """A store of the answers of ``ChatCompletionCache(client, store)``, plain and streamed.

    Inside a block they are kept in the block's cache; outside, in ``cache``. AutoGen's own key has
    the messages, the tools, the output format and the extra arguments, but neither the model nor
    ``tool_choice``: give each client a scope of its own, or a cache with a seed of its own.
    `patch_openai` underneath has neither limit.

    Args:
        cache: serves the calls made outside any block: a `Cache`, or the URL of one; without it
            they are not cached.
        scope: a name that keeps the answers of one client apart from those of others.

    Raises `ConfigurationError` for a URL that cannot be.
    """

    component_config_schema = AutoGenCacheStoreConfig
    component_provider_override = "cachewrap.integrations.autogen.AutoGenCacheStore"

    def __init__(self, cache: Cache | str | None = None, *, scope: str = "") -> None:
        if cache is not None and not isinstance(cache, (Cache, str)):
            raise ConfigurationError(wrong_cache(cache))
        self._url = cache if isinstance(cache, str) else None
        self._cache = Cache.from_url(cache) if isinstance(cache, str) else cache
        self._scope = scope

    def get(self, key: str, default: Any = None) -> Any:
        """The value under the key, or the default."""
        cache = self._serving()
        return default if cache is None else cache.get(self._key(key), default)

    def set(self, key: str, value: object) -> None:
        """Store a value. One that no codec takes costs a `CacheWarning`."""
        cache = self._serving()
        if cache is not None:
            cache.set(self._key(key), value)

    def _serving(self) -> Cache | None:
        cache = choose_cache(default=lambda: self._cache)
        # AutoGen asks twice for one answer, so that nobody could say which sample it asks for.
        return None if cache is None or is_sampling(cache) else cache

    def _key(self, key: str) -> list[str]:
        return ["autogen", self._scope, key]

    def _to_config(self) -> AutoGenCacheStoreConfig:
        if self._cache is not None and self._url is None:
            raise ConfigurationError(
                "a store made of a Cache object cannot be written down: "
                "give AutoGenCacheStore the URL of the cache"
            )
        return AutoGenCacheStoreConfig(url=self._url, scope=self._scope)

    @classmethod
    def _from_config(cls, config: AutoGenCacheStoreConfig) -> Self:
        return cls(config.url, scope=config.scope)
