"""A cache for LLM calls: repeatable, and free the second time, in code that never heard of it."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers take it for true; `typing` is most of what an import costs
if TYPE_CHECKING:
    from typing import Any

    from cachewrap.blocks import no_cache
    from cachewrap.cache import Cache
    from cachewrap.choosing import active_cache
    from cachewrap.decorator import llm_cached
    from cachewrap.errors import (
        CacheWarning,
        CachewrapError,
        CodecError,
        ConfigurationError,
        CorruptEntryError,
        MissingTypeError,
        ReplayMissError,
        StoreError,
        UnkeyableError,
        UnsupportedTypeError,
    )
    from cachewrap.events import Event
    from cachewrap.patch.adapter import CachedAdapter
    from cachewrap.patch.aiohttp import patch_aiohttp, unpatch_aiohttp
    from cachewrap.patch.anthropic import patch_anthropic, unpatch_anthropic
    from cachewrap.patch.dspy import patch_dspy, unpatch_dspy
    from cachewrap.patch.family import (
        patch,
        patch_all,
        patch_groq,
        patch_together,
        unpatch,
        unpatch_all,
        unpatch_groq,
        unpatch_together,
    )
    from cachewrap.patch.httpx import patch_httpx, unpatch_httpx
    from cachewrap.patch.middleware import CachedMiddleware
    from cachewrap.patch.openai import patch_openai, unpatch_openai
    from cachewrap.patch.requests import patch_requests, unpatch_requests
    from cachewrap.patch.threads import patch_threads
    from cachewrap.patch.transport import AsyncCachedTransport, CachedTransport
    from cachewrap.workers import activate

__version__ = "0.1.0"

__all__ = [
    "AsyncCachedTransport",
    "Cache",
    "CacheWarning",
    "CachedAdapter",
    "CachedMiddleware",
    "CachedTransport",
    "CachewrapError",
    "CodecError",
    "ConfigurationError",
    "CorruptEntryError",
    "Event",
    "MissingTypeError",
    "ReplayMissError",
    "StoreError",
    "UnkeyableError",
    "UnsupportedTypeError",
    "activate",
    "active_cache",
    "llm_cached",
    "no_cache",
    "patch",
    "patch_aiohttp",
    "patch_all",
    "patch_anthropic",
    "patch_dspy",
    "patch_groq",
    "patch_httpx",
    "patch_openai",
    "patch_requests",
    "patch_threads",
    "patch_together",
    "unpatch",
    "unpatch_aiohttp",
    "unpatch_all",
    "unpatch_anthropic",
    "unpatch_dspy",
    "unpatch_groq",
    "unpatch_httpx",
    "unpatch_openai",
    "unpatch_requests",
    "unpatch_together",
]

_HOMES = {
    "AsyncCachedTransport": "cachewrap.patch.transport",
    "Cache": "cachewrap.cache",
    "CachedAdapter": "cachewrap.patch.adapter",
    "CachedMiddleware": "cachewrap.patch.middleware",
    "CachedTransport": "cachewrap.patch.transport",
    "activate": "cachewrap.workers",
    "active_cache": "cachewrap.choosing",
    "llm_cached": "cachewrap.decorator",
    "no_cache": "cachewrap.blocks",
    "Event": "cachewrap.events",
    "patch_aiohttp": "cachewrap.patch.aiohttp",
    "patch_all": "cachewrap.patch.family",
    "patch_anthropic": "cachewrap.patch.anthropic",
    "patch_dspy": "cachewrap.patch.dspy",
    "patch_groq": "cachewrap.patch.family",
    "patch_httpx": "cachewrap.patch.httpx",
    "patch_openai": "cachewrap.patch.openai",
    "patch_requests": "cachewrap.patch.requests",
    "patch_threads": "cachewrap.patch.threads",
    "patch_together": "cachewrap.patch.family",
    "unpatch": "cachewrap.patch.family",
    "unpatch_aiohttp": "cachewrap.patch.aiohttp",
    "unpatch_all": "cachewrap.patch.family",
    "unpatch_anthropic": "cachewrap.patch.anthropic",
    "unpatch_dspy": "cachewrap.patch.dspy",
    "unpatch_groq": "cachewrap.patch.family",
    "unpatch_httpx": "cachewrap.patch.httpx",
    "unpatch_openai": "cachewrap.patch.openai",
    "unpatch_requests": "cachewrap.patch.requests",
    "unpatch_together": "cachewrap.patch.family",
}


def __getattr__(name: str) -> Any:
    # Imported at first use, so that `import cachewrap` stays cheap.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "patch":
        return import_module("cachewrap.patch")  # which can be called
    value = getattr(import_module(_HOMES.get(name, "cachewrap.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
