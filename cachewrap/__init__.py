"""A cache for LLM calls: repeatable, and free the second time, in code that never heard of it."""

from __future__ import annotations

from importlib import import_module
from sys import modules

TYPE_CHECKING = False  # type checkers take it for true; `typing` is most of what an import costs
if TYPE_CHECKING:
    from typing import Any

    from cachewrap.blocks import no_cache as no_cache
    from cachewrap.cache import Cache as Cache
    from cachewrap.errors import (
        CacheWarning as CacheWarning,
        CachewrapError as CachewrapError,
        CodecError as CodecError,
        ConfigurationError as ConfigurationError,
        CorruptEntryError as CorruptEntryError,
        MissingTypeError as MissingTypeError,
        ReplayMissError as ReplayMissError,
        ResultsError as ResultsError,
        StoreError as StoreError,
        UnkeyableError as UnkeyableError,
        UnsupportedTypeError as UnsupportedTypeError,
    )
    from cachewrap.function.decorator import llm_cached as llm_cached
    from cachewrap.http.aiohttp import (
        CachedMiddleware as CachedMiddleware,
        patch_aiohttp as patch_aiohttp,
        unpatch_aiohttp as unpatch_aiohttp,
    )
    from cachewrap.http.dspy import patch_dspy as patch_dspy, unpatch_dspy as unpatch_dspy
    from cachewrap.http.httpx import (
        AsyncCachedTransport as AsyncCachedTransport,
        CachedTransport as CachedTransport,
        patch_httpx as patch_httpx,
        unpatch_httpx as unpatch_httpx,
    )
    from cachewrap.http.requests import (
        CachedAdapter as CachedAdapter,
        patch_requests as patch_requests,
        unpatch_requests as unpatch_requests,
    )
    from cachewrap.options import active_cache as active_cache
    from cachewrap.run.program import activate as activate, deactivate as deactivate
    from cachewrap.sdk.anthropic import (
        patch_anthropic as patch_anthropic,
        unpatch_anthropic as unpatch_anthropic,
    )
    from cachewrap.sdk.openai import patch_openai as patch_openai, unpatch_openai as unpatch_openai
    from cachewrap.sdk.others import (
        patch as patch,
        patch_all as patch_all,
        patch_groq as patch_groq,
        patch_together as patch_together,
        unpatch as unpatch,
        unpatch_all as unpatch_all,
        unpatch_groq as unpatch_groq,
        unpatch_together as unpatch_together,
    )
    from cachewrap.telemetry.events import Event as Event
    from cachewrap.threads import patch_threads as patch_threads

__version__ = "0.1.0"

_NAMES = {
    "cachewrap.blocks": "no_cache",
    "cachewrap.cache": "Cache",
    "cachewrap.errors": """
        CacheWarning CachewrapError CodecError ConfigurationError CorruptEntryError
        MissingTypeError ReplayMissError ResultsError StoreError UnkeyableError UnsupportedTypeError
    """,
    "cachewrap.function.decorator": "llm_cached",
    "cachewrap.http.aiohttp": "CachedMiddleware patch_aiohttp unpatch_aiohttp",
    "cachewrap.http.dspy": "patch_dspy unpatch_dspy",
    "cachewrap.http.httpx": "AsyncCachedTransport CachedTransport patch_httpx unpatch_httpx",
    "cachewrap.http.requests": "CachedAdapter patch_requests unpatch_requests",
    "cachewrap.options": "active_cache",
    "cachewrap.run.program": "activate deactivate",
    "cachewrap.sdk.anthropic": "patch_anthropic unpatch_anthropic",
    "cachewrap.sdk.openai": "patch_openai unpatch_openai",
    "cachewrap.sdk.others": """
        patch patch_all patch_groq patch_together unpatch unpatch_all unpatch_groq
        unpatch_together
    """,
    "cachewrap.telemetry.events": "Event",
    "cachewrap.threads": "patch_threads",
}
"""The public names by the module where they are, which is imported at their first use."""

_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    # Imported at first use, so that `import cachewrap` stays cheap.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_imported(_HOMES[name]), name)
    globals()[name] = value
    return value


def _imported(module: str) -> Any:
    if "asyncio" in modules:
        from cachewrap import loops

        if loops.is_watched():  # the first use is on an event loop, where no file may be read
            return loops.aside(lambda: import_module(module))
    return import_module(module)


_ROOMS = "integrations predicates testing"
"""What there is for users beside the names, once it was imported."""


def __dir__() -> list[str]:
    names = (name for name in globals() if name.startswith("__") or name in _ROOMS.split())
    return sorted({*names, *__all__})
