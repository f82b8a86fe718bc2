"""What tests run in other processes, where test modules cannot be imported."""

from __future__ import annotations

from typing import Any

from cachewrap import Cache


def swap(cache: Cache) -> Any:
    """Give the value of "key", and put another one in its place."""
    value = cache.get("key")
    cache.set("key", {"from": "child"})
    return value
