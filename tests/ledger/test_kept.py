"""Which runs are kept, and what keeps none: nothing is written that was not asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from cachewrap import Cache, CacheWarning, ConfigurationError, ReplayMissError
from cachewrap.ledger import joining, recording
from cachewrap.ledger.runs import Run, remove, rename
from cachewrap.stores.base import Logs, Store
from ledger import asking
from ledger.test_processes import LASTING, start

MODES = ["normal", "refresh", "read_only", "replay", "off"]
KEEP = {"normal", "refresh"}
"""Modes in which a run without a name is kept."""


def logs_of(cache: Cache) -> list[str]:
    """The logs of a cache's place, by their names, when all is written."""
    recording.flush()
    store: Any = cache.store
    assert isinstance(store, Logs)
    return sorted(facts.name for facts in store.logs())


def ask(block: AbstractContextManager[Any]) -> None:
    """One call of each colour in a block."""
    with block, suppress(ReplayMissError):
        asking.complete("a")
        asyncio.run(asking.acomplete("a"))


@pytest.fixture(params=LASTING)
def lasting(request: pytest.FixtureRequest, make_store: Callable[[str], Store]) -> Store:
    """A store that outlives this process."""
    return make_store(request.param)


@pytest.fixture
def disk(tmp_path: Path) -> Callable[..., Cache]:
    """Makes a cache on disk."""
    return lambda **options: Cache.disk(cache_path_root=tmp_path, **options)


def test_what_was_given_no_name_is_kept(lasting: Store) -> None:
    cache = Cache(lasting)
    ask(cache)
    (log,) = logs_of(cache)
    assert log.startswith("u-")
    (run,) = cache.runs()
    assert not run.named
    assert len(run.calls()) == 2
    assert cache.runs()["@"].calls() == run.calls()
    assert cache.runs()[run.name[:8]].name == run.name


@pytest.mark.parametrize("mode", MODES)
def test_the_mode_says_what_is_kept_without_a_name(disk: Callable[..., Cache], mode: Any) -> None:
    cache = disk(mode=mode)
    ask(cache)
    assert len(logs_of(cache)) == (mode in KEEP)


@pytest.mark.parametrize("mode", MODES)
def test_a_run_with_a_name_is_kept_in_every_mode(disk: Callable[..., Cache], mode: Any) -> None:
    cache = disk(mode=mode)
    ask(cache.run("trial"))
    assert [run.name for run in cache.runs()] == ["trial"]
    assert cache.runs()["trial"].calls()


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"ledger": False}, id="an option"),
        pytest.param({"CACHEWRAP_LEDGER": "0"}, id="the environment"),
    ],
)
def test_a_ledger_can_be_turned_off(
    disk: Callable[..., Cache], monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    for name, text in given.items():
        if name.isupper():
            monkeypatch.setenv(name, text)
    cache = disk(**{name: value for name, value in given.items() if name.islower()})
    ask(cache)
    with cache.run("baseline") as run:
        ask(cache)
        assert run.calls() == []
    assert (run.label, run.calls()) == ("baseline", [])
    assert logs_of(cache) == []


def test_a_run_of_a_cache_without_a_ledger_is_none(disk: Callable[..., Cache]) -> None:
    with disk(ledger=False).run("baseline"), disk().run("inside"):
        pass
    ask(disk(ledger=False).run("candidate"))
    assert [run.name for run in disk().runs()] == ["inside"]


def test_a_url_turns_it_off(tmp_path: Path) -> None:
    cache = Cache.from_url(f"disk:{tmp_path}?ledger=false")
    ask(cache)
    assert logs_of(cache) == []


def test_a_cache_in_memory_keeps_what_has_a_name_alone() -> None:
    cache = Cache.memory()
    ask(cache)
    assert logs_of(cache) == []
    ask(cache.run("trial"))
    assert len(logs_of(cache)) == 1


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("import cachewrap, ledger.asking", id="importing and decorating"),
        pytest.param("from cachewrap import Cache; Cache.disk()", id="a cache"),
        pytest.param("from cachewrap import Cache\nwith Cache.disk(): pass", id="a block"),
        pytest.param(
            "from cachewrap import Cache\nwith Cache.disk(): Cache.disk().runs()", id="looking"
        ),
        pytest.param(
            "from cachewrap import Cache\nwith Cache.disk() as cache: cache.get(1)", id="plain keys"
        ),
    ],
)
def test_nothing_is_written_where_nothing_is_asked(tmp_path: Path, program: str) -> None:
    start(tmp_path, "-c", program)
    assert [cache for cache in tmp_path.iterdir() if cache.suffix] == []
    assert logs_of(Cache.disk(cache_path_root=tmp_path / ".cache")) == []


def test_a_log_that_was_removed_meanwhile_is_begun_anew(lasting: Store) -> None:
    cache, store = Cache(lasting), cast("Any", lasting)
    for asks, logs in ((True, ["n-trial-1"]), (False, [])):
        with cache.run("trial"):
            ask(cache)
            (log,) = logs_of(cache)
            store.remove_log(log)
            if asks:
                ask(cache)
        assert logs_of(cache) == logs
        if asks:
            (run,) = cache.runs()
            assert [call.outcome for call in run.calls()] == ["hit", "hit"]
            assert (len(run.processes), run.state) == (1, "ended")
            store.remove_log(run.log)


def test_an_answer_is_kept_for_a_run_that_came_later(disk: Callable[..., Cache]) -> None:
    """A process that has replaced something before there was any run with a name."""
    cache, anew = disk(), disk(mode="refresh")
    for block in (cache, anew, cache.run("trial"), anew):
        ask(block)
        logs_of(cache)
    (call, *_) = cache.runs()["trial"].calls()
    assert cache.runs()["trial"].raw_answer(call) is not None


def test_a_variable_that_names_no_run_is_no_run_around(
    disk: Callable[..., Cache], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEWRAP_RUN", "a/b")
    cache = disk()
    with pytest.warns(CacheWarning, match="CACHEWRAP_RUN names no run"):
        ask(cache.run("trial"))
    assert [run.name for run in cache.runs()] == ["trial"]


def test_a_run_is_the_newest_of_the_name_that_it_is_given(disk: Callable[..., Cache]) -> None:
    cache = disk()
    for name in ("candidate", "baseline", "baseline"):
        ask(cache.run(name))
    assert rename(cache.runs()["candidate"], "baseline").number == 3
    runs = cache.runs()
    assert [run.label for run in runs] == ["baseline", "baseline~2", "baseline~1"]
    assert [runs[run.label].log for run in runs] == [run.log for run in runs]
    assert repr(runs["baseline~1/none"]) == "<Run baseline~1/none: 0 calls>"


@pytest.mark.parametrize("change", [remove, lambda run: rename(run, "other")])
def test_a_run_that_goes_on_is_left_alone(
    disk: Callable[..., Cache], change: Callable[[Run], object]
) -> None:
    cache = disk()
    with cache.run("trial") as run:
        ask(cache)
        with pytest.raises(ConfigurationError, match="the run trial goes on: end it first"):
            change(run)
    change(run)
    assert [run.name for run in cache.runs()] in ([], ["other"])


def test_the_last_ones_without_a_name_stay(lasting: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(lasting)
    ask(cache.run("trial"))
    began = iter(range(10, 99))
    monkeypatch.setattr(
        "cachewrap.ledger.names.new_unnamed", lambda: f"20260101-0000{next(began)}-abcdef"
    )
    for _ in range(joining.UNNAMED_KEPT + 5):
        ask(Cache(lasting))
        recording.finish()  # as at the end of a process
        recording._waiting.clear()
    kept = [run.name for run in cache.runs() if not run.named]
    assert kept == [f"20260101-0000{number}-abcdef" for number in range(15, 35)]
    assert cache.runs().find("trial") is not None


def test_the_last_programs_stay(tmp_path: Path) -> None:
    program = "from ledger.asking import complete\ncomplete('a')"
    for _ in range(3):
        start(tmp_path, "-c", program)
    runs = Cache.disk(cache_path_root=tmp_path / ".cache").runs()
    assert [[call.outcome for call in run.calls()] for run in runs] == [["miss"], ["hit"], ["hit"]]
    assert all(run.ended for run in runs)
