"""A cache for LangChain's `set_llm_cache`, and a middleware for the agents of `create_agent`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from langchain_core.caches import BaseCache
from langchain_core.outputs import Generation

from cachewrap.cache import Cache
from cachewrap.call.terms import Absent, ValueExchange
from cachewrap.entry import Entry
from cachewrap.errors import ConfigurationError, CorruptEntryError
from cachewrap.integrations._langchain import MODEL_CALL, call_request, usage_of_messages
from cachewrap.options import choose_cache, is_sampling
from cachewrap.request.key import encode
from cachewrap.telemetry import hints
from cachewrap.telemetry.usage import Usage
from cachewrap.urls import wrong_cache

if TYPE_CHECKING:
    from cachewrap.integrations._langchain_agents import CacheMiddleware

__all__ = ["CacheMiddleware", "LangChainCache"]

_MOST_ASKED: Final = 1024


def __getattr__(name: str) -> Any:
    # Agents need the package `langchain`, models only `langchain-core`.
    if name != "CacheMiddleware":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cachewrap.integrations._langchain_agents import CacheMiddleware

    globals()[name] = CacheMiddleware
    return CacheMiddleware


class LangChainCache(BaseCache):
    """A cache for ``set_llm_cache``, or for the ``cache=`` of one model.

    Inside a block the answers are kept in the block's cache; outside, in ``cache``. LangChain asks
    its cache for models of every provider, but not for streams or embeddings, and it never waits
    for a call that is under way. Message ids, credentials, timeouts and retries are no part of the
    request. A hit is what was stored, to the type of every field; LangChain itself then adds
    ``total_cost: 0`` to its ``usage_metadata``. Inside ``cache.samples()`` it stands aside: there
    `CacheMiddleware` and the patched SDKs serve.

    Args:
        cache: serves the calls made outside any block; without it they are not cached.
    """

    def __init__(self, cache: Cache | None = None) -> None:
        if cache is not None and not isinstance(cache, Cache):
            raise ConfigurationError(wrong_cache(cache))
        self._cache = cache
        # What a lookup found out and the update after it needs.
        self._asked: dict[str, tuple[Absent, float]] = {}

    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """What is stored for a prompt and the settings of a model, or None."""
        cache = self._serving()
        if cache is None:
            return None
        exchange = _exchange(cache, prompt, llm_string)
        return self._found(exchange, cache.look(exchange))

    async def alookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """`lookup` for async callers."""
        cache = self._serving()
        if cache is None:
            return None
        exchange = _exchange(cache, prompt, llm_string)
        return self._found(exchange, await cache.alook(exchange))

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Store an answer, unless there is one: the first stored one wins."""
        cache = self._serving()
        if cache is not None:
            exchange = _exchange(cache, prompt, llm_string)
            absent, seconds = self._take(exchange)
            cache.keep(exchange, list(return_val), seconds, absent)

    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """`update` for async callers."""
        cache = self._serving()
        if cache is not None:
            exchange = _exchange(cache, prompt, llm_string)
            absent, seconds = self._take(exchange)
            await cache.akeep(exchange, list(return_val), seconds, absent)

    def clear(self, **kwargs: Any) -> None:
        """Remove every entry of the cache's seed, also those that are not LangChain's.

        Raises `StoreError`.
        """
        cache = choose_cache(default=lambda: self._cache)
        if cache is not None:
            cache.clear()

    async def aclear(self, **kwargs: Any) -> None:
        """`clear` for async callers."""
        self.clear(**kwargs)

    def _serving(self) -> Cache | None:
        """The cache of a call; None where samples are taken, as LangChain asks twice for one."""
        hints.seen.by_hand = True
        cache = choose_cache(default=lambda: self._cache)
        return None if cache is None or is_sampling(cache) else cache

    def _found(self, exchange: ValueExchange, found: Any) -> list[Generation] | None:
        if not isinstance(found, Absent):
            generations: list[Generation] = found.value
            return generations
        self._asked[exchange.key] = found, time.perf_counter()
        if len(self._asked) > _MOST_ASKED:  # of calls that failed nobody tells
            self._asked.pop(next(iter(self._asked)), None)
        return None

    def _take(self, exchange: ValueExchange) -> tuple[Absent, float]:
        """What the lookup before found, and the seconds since then."""
        absent, began = self._asked.pop(exchange.key, (Absent(), 0.0))
        return absent, time.perf_counter() - began if began else 0.0


class _ModelExchange(ValueExchange):
    """A request to LangChain's cache, whose answer is a list of generations."""

    __slots__ = ()

    def load(self, entry: Entry) -> list[Generation]:
        found = super().load(entry)
        if not isinstance(found, list) or not all(isinstance(one, Generation) for one in found):
            raise CorruptEntryError("it holds no list of LangChain's generations")
        return found


def _exchange(cache: Cache, prompt: str, llm_string: str) -> ValueExchange:
    asked = encode(call_request(prompt, llm_string))
    return _ModelExchange(cache.policy, MODEL_CALL, asked, usage=_usage)


def _usage(generations: Sequence[Generation]) -> Usage:
    return usage_of_messages(getattr(generation, "message", None) for generation in generations)
