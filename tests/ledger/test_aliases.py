"""Runs whose calls were answered by an alias: the answer that they were given is found."""

from __future__ import annotations

from contextlib import closing

import pytest

from cachewrap import Cache
from cachewrap.ledger.answers import Answers, EntriesRun
from cachewrap.ledger.runs import Run
from cachewrap.stores.base import Store
from ledger import asking

ONE, TWO = asking.complete.cache_key("one"), asking.complete.cache_key("two")


def told(cache: Cache, run: Run | str) -> list[str | None]:
    """What each call of a run was answered."""
    run = cache.runs()[run] if isinstance(run, str) else run
    with closing(Answers.of(run.cache)) as answers:
        found = [answers.entry(call) for call in run.calls()]
    return [None if entry is None else entry.answer.decode() for entry in found]


@pytest.fixture
def cache(store: Store) -> Cache:
    cache = Cache(store)
    with cache.run("before"):
        asking.complete("one"), asking.complete("two")
    cache.alias(TWO, ONE)
    with cache.run("by alias"):
        assert asking.complete("two") == "one!"
    return cache


def test_a_run_finds_what_it_was_given(cache: Cache) -> None:
    (call,) = cache.runs()["by alias"].calls()
    assert (call.outcome, call.key, call.reason) == ("hit", TWO, "alias")
    assert [call.rules for call in cache.runs()["before"].calls()] == [(), ()]
    assert told(cache, "by alias") == ["one!"]


def test_an_earlier_run_finds_what_it_had(cache: Cache) -> None:
    assert told(cache, "before") == ["one!", "two!"]
    cache.unalias(TWO)
    assert told(cache, "before") == ["one!", "two!"]


def test_what_an_alias_kept_is_kept_for_runs_when_it_is_stored_over(cache: Cache) -> None:
    with cache.run("anew"), cache.mode("refresh"):
        asking.complete("two")
    assert list(cache.aliases()) == []
    assert told(cache, "before") == ["one!", "two!"]
    assert told(cache, "anew") == ["two!"]


def test_a_whole_cache_has_the_answer_that_an_alias_leads_to(cache: Cache) -> None:
    assert told(cache, EntriesRun(cache)) == ["one!", "one!"]


def test_two_runs_differ_by_what_they_were_given(cache: Cache) -> None:
    diff = cache.runs()["before"].diff("by alias")
    assert [change.kind for change in diff.changes if change.answer] == ["changed"]
