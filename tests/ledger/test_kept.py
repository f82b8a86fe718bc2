"""Which runs are kept, for how long, and what keeps none: nothing is written that was not asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cachewrap
from cachewrap import Cache, CacheWarning, StoreError
from cachewrap.stores.base import Logs, Store
from ledger import asking
from ledger.test_processes import start

NO_NAME = ["read_only", "replay", "off"]
"""Modes in which a run without a name is not kept."""


def logs_of(cache: Cache) -> list[str]:
    """The logs of a cache's place, by their names."""
    store: Any = cache.store
    assert isinstance(store, Logs)
    return sorted(facts.name for facts in store.logs())


def begin(cache: Cache, count: int, name: str = "") -> None:
    """So many programs, each of which asks once, and ends."""
    program = f"""
from ledger.asking import complete
from cachewrap import Cache
with Cache.from_url({cache.url!r}):
    complete("a")
"""
    for _ in range(count):
        start(Path.cwd(), "-c", program, CACHEWRAP_RUN=name)
