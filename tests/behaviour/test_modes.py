"""Modes: what a cache does with a call, over every store and every colour of function."""

from __future__ import annotations

import asyncio
import logging
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from colours import COLOURS, Function, Upstream

from cachewrap import (
    Cache,
    CacheWarning,
    ConfigurationError,
    ReplayMissError,
    StoreError,
    active_cache,
    llm_cached,
    no_cache,
)
from cachewrap.stores.memory import MemoryStore

WAIT = 20.0


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def complete(colour: str, upstream: Upstream) -> Function:
    return Function(colour, upstream.answer)


@pytest.fixture(autouse=True)
def no_mode_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CACHEWRAP_MODE", raising=False)


@pytest.mark.store
class TestReplay:
    def test_serves_what_is_stored(
        self, cache: Cache, complete: Function, upstream: Upstream
    ) -> None:
        with cache:
            first = complete("hi")
            with cache.mode("replay"):
                assert (complete("hi"), upstream.calls) == (first, 1)

    def test_a_miss_raises_and_nothing_goes_upstream(
        self, cache: Cache, complete: Function, upstream: Upstream
    ) -> None:
        with cache.mode("replay"), pytest.raises(ReplayMissError):
            complete("hi")
        assert upstream.calls == 0

    def test_an_expired_entry_is_served_with_a_warning(
        self, cache: Cache, complete: Function, upstream: Upstream
    ) -> None:
        with cache:
            first = complete("hi", ttl=0.001)
            time.sleep(0.05)  # a store's own clock has to pass it as well
            with cache.mode("replay"), pytest.warns(CacheWarning, match="expired"):
                assert complete("hi") == first
        assert upstream.calls == 1

    def test_elsewhere_an_expired_entry_is_a_miss_and_is_replaced(
        self, cache: Cache, complete: Function
    ) -> None:
        with cache:
            first = complete("hi", ttl=0.001)
            time.sleep(0.05)
            second = complete("hi")
            assert (second != first, complete("hi")) == (True, second)

    def test_a_hit_is_counted(self, cache: Cache, complete: Function) -> None:
        with cache:
            complete("hi")
            with cache.mode("replay"):
                complete("hi")
        assert (cache.stats.hits, cache.stats.misses) == (1, 1)


@pytest.mark.store
class TestRefresh:
    def test_goes_upstream_and_replaces(
        self, cache: Cache, complete: Function, upstream: Upstream
    ) -> None:
        with cache:
            complete("hi")
            with cache.mode("refresh"):
                second = complete("hi")
            assert (complete("hi"), second, upstream.calls) == ("hi #2", "hi #2", 2)

    def test_each_call_goes_upstream(
        self, cache: Cache, complete: Function, upstream: Upstream
    ) -> None:
        with cache.mode("refresh"):
            assert [complete("hi"), complete("hi")] == ["hi #1", "hi #2"]

    def test_is_logged_once_for_each_call(
        self, cache: Cache, complete: Function, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, "cachewrap"), cache.mode("refresh"):
            complete("hi")
            complete("hi")
        assert [record.levelno for record in caplog.records] == [logging.INFO] * 2

    def test_is_counted_as_missed_and_stored(self, cache: Cache, complete: Function) -> None:
        with cache:
            complete("hi")
            with cache.mode("refresh"):
                complete("hi")
        stats = cache.stats
        assert (stats.misses, stats.stored, stats.hits) == (2, 2, 0)

    def test_what_is_not_wanted_leaves_what_is_stored(
        self, cache: Cache, colour: str, upstream: Upstream
    ) -> None:
        complete = Function(colour, upstream.answer, when=lambda answer: "#1" in str(answer))
        with cache:
            complete("hi")
            assert complete("hi", mode="refresh") == "hi #2"
            assert complete("hi") == "hi #1"

    def test_upstreams_error_leaves_what_is_stored(
        self, cache: Cache, complete: Function, upstream: Upstream
    ) -> None:
        with cache:
            complete("hi")
            upstream.failing = 1
            with pytest.raises(ConnectionError):
                complete("hi", mode="refresh")
            assert complete("hi") == "hi #1"


@pytest.mark.store
class TestReadOnly:
    def test_serves_what_is_stored(self, cache: Cache, complete: Function) -> None:
        with cache:
            first = complete("hi")
            with cache.mode("read_only"):
                assert complete("hi") == first

    def test_stores_nothing(self, cache: Cache, complete: Function) -> None:
        with cache.mode("read_only"):
            assert [complete("hi"), complete("hi")] == ["hi #1", "hi #2"]
        assert (list(cache.keys()), cache.stats.misses, cache.stats.stored) == ([], 2, 0)

    def test_leaves_an_expired_entry(self, cache: Cache, complete: Function) -> None:
        with cache:
            first = complete("hi", ttl=0.001)
            time.sleep(0.05)
            assert complete("hi", mode="read_only") != first
            with pytest.warns(CacheWarning):
                assert complete("hi", mode="replay") == first

    def test_a_miss_returns_what_a_hit_would(self, cache: Cache) -> None:
        given = [1, 2]

        @llm_cached
        def numbers() -> list[int]:
            return given

        with cache.mode("read_only"):
            numbers().append(3)
        assert given == [1, 2]


@pytest.mark.store
class TestOff:
    def test_neither_looks_up_nor_stores(self, cache: Cache, complete: Function) -> None:
        with cache:
            complete("hi")
            with cache.mode("off"):
                assert [complete("hi"), complete("new")] == ["hi #2", "new #3"]
            assert complete("hi") == "hi #1"
            assert complete("new") == "new #4"

    def test_is_counted_as_bypassed(self, cache: Cache, complete: Function) -> None:
        with cache.mode("off"):
            complete("hi")
        assert cache.stats.bypass_reasons == {"mode off": 1}


class TestWhereAModeIsSaid:
    def test_on_the_cache(self, complete: Function) -> None:
        with Cache.memory(mode="replay"), pytest.raises(ReplayMissError):
            complete("hi")

    def test_in_a_url(self, complete: Function) -> None:
        with Cache.from_url("memory://?mode=replay"), pytest.raises(ReplayMissError):
            complete("hi")

    def test_on_one_call(self, complete: Function) -> None:
        with Cache.memory(), pytest.raises(ReplayMissError):
            complete("hi", mode="replay")

    def test_as_the_cache_of_one_call(self, complete: Function) -> None:
        with pytest.raises(ReplayMissError):
            complete("hi", cache=Cache.memory().mode("replay"))

    def test_the_calls_own_wins_over_the_blocks(self, complete: Function) -> None:
        with Cache.memory(mode="replay"):
            assert complete("hi", mode="normal") == "hi #1"

    def test_the_innermost_block_wins(self, complete: Function) -> None:
        cache = Cache.memory()
        with cache.mode("replay"), cache:
            assert complete("hi") == "hi #1"

    def test_no_cache_wins_over_every_mode(self, complete: Function) -> None:
        with Cache.memory() as cache, cache.mode("replay"), no_cache():
            assert complete("hi", mode="replay") == "hi #1"

    def test_another_seed_keeps_the_mode(self, complete: Function) -> None:
        with Cache.memory(mode="replay"), pytest.raises(ReplayMissError):
            complete("hi", cache_seed=7)
        with pytest.raises(ReplayMissError):
            complete("hi", cache=Cache.memory(mode="replay").reseed(7))

    def test_a_function_may_have_a_parameter_of_the_name(self) -> None:
        @llm_cached
        def paint(mode: str, ttl: int, sample: str) -> list[Any]:
            return [mode, ttl, sample]

        with Cache.memory():
            assert paint(mode="dark", ttl=3, sample="a") == ["dark", 3, "a"]

    @pytest.mark.parametrize(
        "make",
        [
            lambda: Cache.memory(mode="record"),  # type: ignore[arg-type]
            lambda: Cache.from_url("memory://?mode=record"),
            lambda: Cache.memory().mode("record"),  # type: ignore[arg-type]
            lambda: llm_cached(lambda: 1, version=1)(mode="record"),  # type: ignore[call-arg]
        ],
    )
    def test_another_word_is_an_error_that_names_the_choices(self, make: Any) -> None:
        with pytest.raises(ConfigurationError, match="normal, replay, refresh, read_only, off"):
            make()


class TestTheEnvironment:
    @pytest.fixture(autouse=True)
    def replay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CACHEWRAP_MODE", "replay")

    def test_is_the_mode_of_a_cache_that_is_told_none(self) -> None:
        assert Cache.memory().policy.mode == "replay"

    def test_what_the_program_says_wins(self) -> None:
        assert Cache.memory(mode="normal").policy.mode == "normal"
        assert Cache.from_url("memory://?mode=off").policy.mode == "off"
        assert Cache.memory().mode("refresh").policy.mode == "refresh"

    def test_an_empty_variable_says_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CACHEWRAP_MODE", "")
        assert Cache.memory().policy.mode == "normal"

    def test_another_word_is_an_error_that_names_the_variable(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CACHEWRAP_MODE", "record")
        with pytest.raises(ConfigurationError, match=r"CACHEWRAP_MODE must be one of normal, "):
            Cache.memory()

    def test_reaches_the_default_cache_of_a_program_that_says_nothing(self, tmp_path: Path) -> None:
        program = tmp_path / "program.py"
        program.write_text(
            "from cachewrap import llm_cached\n"
            "@llm_cached\n"
            "def ask(prompt):\n"
            "    print('upstream')\n"
            "    return prompt\n"
            "ask('hi')\n"
        )
        done = subprocess.run(
            [sys.executable, program], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert (done.stdout, "ReplayMissError" in done.stderr) == ("", True)


class TestTheViewThatAModeGives:
    def test_shares_entries_seed_and_counters(self) -> None:
        cache = Cache.memory(7)
        view = cache.mode("refresh")
        view.set("key", "value")
        assert (cache.get("key"), view.seed, view.stats) == ("value", "7", cache.stats)

    def test_is_the_cache_itself_where_nothing_changes(self) -> None:
        cache = Cache.memory(mode="replay")
        assert cache.mode("replay") is cache

    def test_is_the_active_cache_in_its_block(self) -> None:
        cache = Cache.memory()
        with cache.mode("refresh") as view:
            assert active_cache() is view
        assert active_cache() is None

    def test_keeps_its_mode_in_another_process(self) -> None:
        view = Cache.disk().mode("replay")
        assert pickle.loads(pickle.dumps(view)).policy.mode == "replay"

    def test_leaving_it_does_not_close_the_store_of_the_block_around_it(self) -> None:
        closed = []

        class Telling(MemoryStore):
            def close(self) -> None:
                closed.append(self)

        with Cache(Telling()) as cache:
            with cache.mode("refresh"):
                pass
            assert closed == []
        assert len(closed) == 1


@pytest.mark.store
class TestAPlainCache:
    @pytest.mark.parametrize(
        ("mode", "expected"),
        [
            ("normal", "value"),
            ("replay", "value"),
            ("read_only", "value"),
            ("refresh", None),
            ("off", None),
        ],
    )
    def test_what_get_finds(self, cache: Cache, mode: Any, expected: str | None) -> None:
        cache.set("key", "value")
        assert cache.mode(mode).get("key") == expected

    @pytest.mark.parametrize(
        ("mode", "expected"),
        [
            ("normal", "new"),
            ("refresh", "new"),
            ("replay", "old"),
            ("read_only", "old"),
            ("off", "old"),
        ],
    )
    def test_what_set_stores(self, cache: Cache, mode: Any, expected: str) -> None:
        cache.set("key", "old")
        cache.mode(mode).set("key", "new")
        assert cache.get("key") == expected

    def test_what_has_expired(self, cache: Cache) -> None:
        cache.set("key", "value", ttl=0.001)
        time.sleep(0.05)
        assert (cache.get("key"), cache.mode("replay").get("key")) == (None, "value")
        assert list(cache.keys()) == []


class TestWhatACallsModeHoldsFor:
    """An answer is not refreshed by what is stored of the calls that make it."""

    def test_refreshing_a_function_refreshes_what_it_calls(
        self, colour: str, upstream: Upstream
    ) -> None:
        inner = Function("sync", upstream.answer, version="inner")
        outer = Function(colour, lambda prompt: inner(prompt).upper())
        with Cache.memory():
            outer("hi")
            assert outer("hi", mode="refresh") == "HI #2"
            assert inner("hi") == "hi #2"

    def test_the_caller_of_a_generator_stays_outside(self, upstream: Upstream) -> None:
        inner = Function("sync", upstream.answer, version="inner")

        @llm_cached
        def outer(prompt: str) -> Iterator[str]:
            yield "item"
            yield inner(prompt)

        with Cache.memory():
            inner("hi")
            for item in outer("hi", mode="refresh"):  # type: ignore[call-arg]
                if item == "item":
                    assert inner("hi") == "hi #1"
            assert inner("hi") == "hi #2"


class TestTtlOfOneCall:
    @pytest.mark.parametrize("ttl", [0.001, timedelta(milliseconds=1)])
    def test_wins_over_the_decorators_and_the_caches(
        self, colour: str, upstream: Upstream, ttl: Any
    ) -> None:
        complete = Function(colour, upstream.answer, ttl=1000)
        with Cache.memory(ttl=1000):
            complete("hi", ttl=ttl)
            time.sleep(0.01)
            assert complete("hi") == "hi #2"

    def test_none_is_for_ever(self, colour: str, upstream: Upstream) -> None:
        complete = Function(colour, upstream.answer, ttl=0.001)
        with Cache.memory():
            complete("hi", ttl=None)
            time.sleep(0.01)
            assert complete("hi") == "hi #1"

    @pytest.mark.parametrize("ttl", [0, -1, "1", float("inf"), True])
    def test_what_is_no_span_is_an_error(self, complete: Function, ttl: Any) -> None:
        with Cache.memory(), pytest.raises(ConfigurationError, match="ttl"):
            complete("hi", ttl=ttl)


class Gate:
    """An upstream that answers when it is let, and tells when a call has come."""

    def __init__(self) -> None:
        self.calls = 0
        self.came = threading.Semaphore(0)
        self.gate = threading.Event()
        self._lock = threading.Lock()

    def answer(self, prompt: str) -> str:
        with self._lock:
            self.calls += 1
            number = self.calls
        self.came.release()
        assert self.gate.wait(WAIT)
        return f"{prompt} #{number}"


@pytest.mark.store
class TestCallersAtOneTime:
    def ask(self, cache: Cache, gate: Gate, modes: list[str]) -> list[str]:
        """What callers in these modes get, who all ask before the first one is answered."""

        @llm_cached
        def complete(prompt: str) -> str:
            return gate.answer(prompt)

        def caller(mode: str) -> str:
            return complete("hi", cache=cache, mode=mode)  # type: ignore[call-arg]

        with ThreadPoolExecutor(len(modes)) as pool:
            asked = []
            for mode in dict.fromkeys(modes):
                asked.append(pool.submit(caller, mode))
                assert gate.came.acquire(timeout=WAIT)
                asked += [pool.submit(caller, mode) for _ in range(modes.count(mode) - 1)]
            gate.gate.set()
            return sorted(future.result(WAIT) for future in asked)

    def test_two_who_refresh_share_one_call(self, cache: Cache) -> None:
        gate = Gate()

        @llm_cached
        async def complete(prompt: str) -> str:
            gate.calls += 1
            await asyncio.sleep(0.01)
            return f"{prompt} #{gate.calls}"

        async def both() -> list[str]:
            async with cache.mode("refresh"):
                return await asyncio.gather(complete("hi"), complete("hi"))

        async def all_of_it() -> list[str]:
            await complete("hi", cache=cache)  # type: ignore[call-arg]
            return await both()

        assert (asyncio.run(all_of_it()), gate.calls) == (["hi #2", "hi #2"], 2)

    def test_who_refreshes_does_not_share_the_call_of_a_miss(self, cache: Cache) -> None:
        gate = Gate()
        self.ask(cache, gate, ["normal", "refresh"])
        assert gate.calls == 2

    def test_who_only_reads_does_not_share_a_call_that_will_be_stored(self, cache: Cache) -> None:
        gate = Gate()
        assert self.ask(cache, gate, ["read_only", "normal"]) == ["hi #1", "hi #2"]
        assert cache.stats.stored == 1

    def test_refreshing_inside_the_call_that_leads_does_not_wait_for_itself(
        self, cache: Cache
    ) -> None:
        depth = []

        @llm_cached
        def complete(prompt: str) -> str:
            depth.append(prompt)
            if len(depth) < 3:
                return complete(prompt, mode=["refresh", "normal"][len(depth) - 1])  # type: ignore[call-arg, no-any-return]
            return f"{prompt} #{len(depth)}"

        with cache:
            assert complete("hi") == "hi #3"


class Broken(MemoryStore):
    """A store that cannot be read."""

    def get(self, key: str) -> bytes | None:
        raise StoreError("down")


class Unwritable(MemoryStore):
    """A store that says it cannot be written."""

    def check(self) -> None:
        raise StoreError("read-only")


class TestFaults:
    @pytest.mark.parametrize("mode", ["replay", "read_only", "off"])
    def test_a_store_that_cannot_be_written_suits_a_mode_that_does_not_write(
        self, mode: Any
    ) -> None:
        with Cache(Unwritable(), mode=mode) as cache:
            assert cache.policy.mode == mode

    @pytest.mark.parametrize("mode", ["normal", "refresh"])
    def test_a_store_that_cannot_be_written_is_an_error_for_the_others(self, mode: Any) -> None:
        with pytest.raises(StoreError, match="read-only"):
            Cache(Unwritable(), mode=mode).__enter__()

    def test_replay_from_a_store_that_cannot_be_read_says_why(self, complete: Function) -> None:
        with (
            Cache(Broken(), mode="replay"),
            pytest.warns(CacheWarning),
            pytest.raises(ReplayMissError, match="down") as raised,
        ):
            complete("hi")
        assert isinstance(raised.value.__cause__, StoreError)

    def test_refresh_on_a_store_that_cannot_be_read_works(self, complete: Function) -> None:
        with Cache(Broken(), mode="refresh"):
            assert complete("hi") == "hi #1"

    def test_replay_of_a_damaged_entry_says_why(self, complete: Function) -> None:
        store = MemoryStore()
        with Cache(store) as cache:
            complete("hi")
            for key in store.keys():
                store.set(key, b"damaged")
            with (
                cache.mode("replay"),
                pytest.warns(CacheWarning),
                pytest.raises(ReplayMissError, match="not an entry"),
            ):
                complete("hi")
