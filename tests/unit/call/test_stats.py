"""Counts of calls, by what was called and which model answered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from cachewrap.call.stats import Stats
from cachewrap.call.terms import Exchange, Reply
from cachewrap.entry import Outcome


def test_names_that_callers_choose_take_no_more_and_more_memory() -> None:
    stats = Stats()
    for number in range(5_000):
        asked = SimpleNamespace(source="POST /v1/chat/completions", model=f"m{number}", key="")
        stats.count(Reply(Outcome.MISS, None), cast("Exchange[Any]", asked))
    counted = stats.as_dict()["groups"]
    assert len(counted) == 1_001
    assert sum(group["misses"] for group in counted) == stats.misses == 5_000
    assert max(counted, key=lambda group: int(group["misses"]))["source"] == "others"
