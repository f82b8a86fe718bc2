"""The promises that every store makes, as tests, sync and async."""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from cachewrap.stores.base import Store
from cachewrap.testing.stores.calls import (
    FORK,
    VALUES,
    AsyncCalls,
    Calls,
    SyncCalls,
    at_once,
    in_forked_child,
    key_of,
    partition,
)
from cachewrap.testing.stores.logs import LogsSuite
from cachewrap.testing.stores.segments import (
    SEGMENTS,
    ChecksSuite,
    LeasesSuite,
    ManySuite,
    PairsSuite,
    ScansSuite,
    SeedsSuite,
    UsesSuite,
)


class StoreSuite(
    LeasesSuite,
    ManySuite,
    PairsSuite,
    ScansSuite,
    SeedsSuite,
    UsesSuite,
    LogsSuite,
    ChecksSuite,
):
    """The promises of `cachewrap.stores.base.Store`, and of each segment that a store has.

    The tests of a segment that the store does not have are skipped.

    A subclass provides the fixture ``store``: a store whose partition is empty and stays this
    test's own. For readable failures, call
    ``pytest.register_assert_rewrite("cachewrap.testing.stores")`` in ``conftest.py``.

    Attributes:
        persistent: entries can be reached from other processes and through unpickled copies.
        drops_expired: the store lets go of an expired entry by itself.
    """

    persistent = True
    drops_expired = True

    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError("a subclass of StoreSuite provides the fixture `store`")

    @pytest.fixture(params=["sync", "async"])
    def calls(self, request: pytest.FixtureRequest, store: Store) -> Iterator[Calls]:
        """The operations of the store, sync and async."""
        if request.param == "sync":
            yield SyncCalls(store)
        else:
            with asyncio.Runner() as runner:
                yield AsyncCalls(store, runner)
                runner.run(store.aclose())

    @pytest.fixture(autouse=True)
    def closing(self, store: Store) -> Iterator[None]:
        """Close the store behind each test."""
        yield
        store.close()

    # One entry

    def test_an_absent_key_reads_as_none(self, calls: Calls) -> None:
        assert calls.get(key_of("absent")) is None

    @pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
    def test_add_keeps_the_bytes(self, calls: Calls, value: bytes) -> None:
        calls.add(key_of(1), value)
        assert calls.get(key_of(1)) == value

    @pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
    def test_set_keeps_the_bytes(self, calls: Calls, value: bytes) -> None:
        calls.set(key_of(1), value)
        assert calls.get(key_of(1)) == value

    @pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
    def test_set_replaces(self, calls: Calls, value: bytes) -> None:
        calls.set(key_of(1), value)
        calls.set(key_of(1), b"second")
        assert calls.get(key_of(1)) == b"second"

    def test_what_is_read_is_bytes(self, calls: Calls) -> None:
        calls.set(key_of(1), b"value")
        assert type(calls.get(key_of(1))) is bytes

    def test_delete_removes(self, calls: Calls) -> None:
        calls.set(key_of(1), b"value")
        calls.delete(key_of(1))
        assert calls.get(key_of(1)) is None

    def test_delete_says_that_the_key_was_there(self, calls: Calls) -> None:
        calls.set(key_of(1), b"")
        assert calls.delete(key_of(1)) is True

    def test_delete_says_that_the_key_was_not_there(self, calls: Calls) -> None:
        assert calls.delete(key_of(1)) is False

    # First stored wins

    def test_add_returns_what_it_stored(self, calls: Calls) -> None:
        assert calls.add(key_of(1), b"first") == b"first"

    @pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
    def test_a_second_add_returns_the_first(self, calls: Calls, value: bytes) -> None:
        calls.add(key_of(1), value)
        assert calls.add(key_of(1), b"second") == value

    def test_a_second_add_changes_nothing(self, calls: Calls) -> None:
        calls.add(key_of(1), b"first")
        calls.add(key_of(1), b"second")
        assert calls.get(key_of(1)) == b"first"

    def test_add_after_delete_stores_again(self, calls: Calls) -> None:
        calls.add(key_of(1), b"first")
        calls.delete(key_of(1))
        assert calls.add(key_of(1), b"second") == b"second"

    @pytest.mark.parametrize("damaged", [b"", b"\xff\0damaged", b"x" * 2**21])
    def test_add_over_what_is_there_replaces_it(self, calls: Calls, damaged: bytes) -> None:
        calls.set(key_of(1), damaged)
        calls.add(key_of(1), b"whole", over=damaged)
        assert calls.get(key_of(1)) == b"whole"

    def test_add_over_something_else_returns_what_is_there(self, calls: Calls) -> None:
        calls.set(key_of(1), b"another's")
        assert calls.add(key_of(1), b"mine", over=b"damaged") == b"another's"

    def test_add_over_something_else_changes_nothing(self, calls: Calls) -> None:
        calls.set(key_of(1), b"another's")
        calls.add(key_of(1), b"mine", over=b"damaged")
        assert calls.get(key_of(1)) == b"another's"

    def test_add_over_an_absent_key_stores(self, calls: Calls) -> None:
        assert calls.add(key_of(1), b"mine", over=b"gone since") == b"mine"
        assert calls.get(key_of(1)) == b"mine"

    # Time

    def test_an_entry_with_time_left_is_there(self, calls: Calls) -> None:
        calls.add(key_of(1), b"added", expires=time.time() + 60)
        calls.set(key_of(2), b"set", expires=time.time() + 60)
        assert (calls.get(key_of(1)), calls.get(key_of(2))) == (b"added", b"set")

    def test_an_expired_entry_does_not_stand_in_the_way(self, calls: Calls) -> None:
        if not self.drops_expired:
            pytest.skip("this store leaves expiry to its callers")
        calls.set(key_of(1), b"old", expires=time.time() - 1)
        assert calls.get(key_of(1)) is None
        assert calls.add(key_of(1), b"new") == b"new"

    def test_replacing_an_entry_forgets_its_expiry(self, calls: Calls) -> None:
        calls.set(key_of(1), b"short", expires=time.time() + 0.05)
        calls.set(key_of(1), b"long")
        time.sleep(0.1)  # nothing tells when a server's clock has passed a time
        assert calls.get(key_of(1)) == b"long"

    # Many entries

    def test_an_empty_partition_has_no_keys(self, calls: Calls) -> None:
        assert calls.keys() == []

    def test_keys_lists_every_key_once(self, calls: Calls) -> None:
        expected = [key_of(number) for number in range(1500)]
        for key in expected:
            calls.set(key, b"value")
        assert sorted(calls.keys()) == sorted(expected)

    def test_keys_come_before_all_are_read(self, store: Store) -> None:
        for number in range(3):
            store.set(key_of(number), b"value")
        assert next(iter(store.keys())) in {key_of(number) for number in range(3)}

    def test_clear_says_how_many_there_were(self, calls: Calls) -> None:
        for number in range(1234):
            calls.set(key_of(number), b"value")
        assert calls.clear() == 1234

    def test_clear_leaves_nothing(self, calls: Calls) -> None:
        calls.set(key_of(1), b"small")
        calls.set(key_of(2), b"x" * 2**21)
        calls.clear()
        assert calls.keys() == []

    def test_clearing_an_empty_partition(self, calls: Calls) -> None:
        assert calls.clear() == 0

    # Partitions

    SEEDS = ("42", "4", "a b", "a/b", "../41", ".hidden", "x:*{}[a]?", "ü" * 200, "%2F", "")

    @pytest.mark.parametrize("seed", SEEDS)
    def test_partitions_are_apart(self, calls: Calls, seed: str) -> None:
        with partition(calls, seed) as other:
            calls.set(key_of(1), b"mine")
            other.set(key_of(1), b"other's")
            assert (calls.get(key_of(1)), other.get(key_of(1))) == (b"mine", b"other's")

    @pytest.mark.parametrize("seed", SEEDS)
    def test_clear_leaves_other_partitions(self, calls: Calls, seed: str) -> None:
        with partition(calls, seed) as other:
            calls.set(key_of(1), b"mine")
            other.set(key_of(1), b"other's")
            other.clear()
            assert (calls.get(key_of(1)), other.get(key_of(1))) == (b"mine", None)

    def test_the_same_seed_is_the_same_partition(self, calls: Calls) -> None:
        with partition(calls, "7") as one, partition(calls, "7") as other:
            one.set(key_of(1), b"value")
            assert (other.get(key_of(1)), other.store.url) == (b"value", one.store.url)

    def test_partitions_have_urls_of_their_own(self, store: Store) -> None:
        urls = {store.url} | {store.reseed(seed).url for seed in self.SEEDS}
        assert len(urls) == 1 + len(self.SEEDS)

    # More than that

    @pytest.mark.parametrize("segment", SEGMENTS)
    def test_a_segment_is_there_whole_or_not_at_all(self, store: Store, segment: type) -> None:
        names = [name for name in vars(segment) if not name.startswith("_")]
        assert [name for name in names if hasattr(store, name)] in ([], names)

    # Life

    def test_close_keeps_the_entries(self, calls: Calls) -> None:
        calls.set(key_of(1), b"value")
        calls.close()
        assert calls.get(key_of(1)) == b"value"

    def test_close_can_be_repeated(self, calls: Calls) -> None:
        calls.close()
        calls.close()
        calls.set(key_of(1), b"value")

    def test_colours_share_the_entries(self, store: Store) -> None:
        async def read_and_write() -> bytes | None:
            await store.aset(key_of(2), b"async")
            return await store.aget(key_of(1))

        store.set(key_of(1), b"sync")
        assert asyncio.run(read_and_write()) == b"sync"
        assert store.get(key_of(2)) == b"async"

    def test_several_event_loops_in_a_row(self, store: Store) -> None:
        read = [asyncio.run(_read_after_write(store, n)) for n in range(4)]
        assert read == [b"0", b"1", b"2", b"3"]

    def test_a_loop_in_each_of_several_threads(self, store: Store) -> None:
        with ThreadPoolExecutor(4) as threads:
            read = list(threads.map(lambda n: asyncio.run(_read_after_write(store, n)), range(8)))
        assert read == [b"%d" % number for number in range(8)]

    # Many callers

    def test_threads_that_race_to_add_all_get_the_winner(self, store: Store) -> None:
        for key in map(key_of, range(20)):
            answers = at_once(16, partial(_add_own, store, key))
            assert set(answers) == {store.get(key)}

    def test_tasks_that_race_to_add_all_get_the_winner(self, store: Store) -> None:
        async def race() -> tuple[set[bytes], bytes | None]:
            adds = (store.aadd(key_of(1), b"from task %d" % number) for number in range(200))
            answers = set(await asyncio.gather(*adds))
            return answers, await store.aget(key_of(1))

        answers, stored = asyncio.run(race())
        assert answers == {stored}

    def test_only_one_of_many_repairs_a_damaged_entry(self, store: Store) -> None:
        store.set(key_of(1), b"damaged")
        answers = at_once(16, lambda n: store.add(key_of(1), b"from %d" % n, over=b"damaged"))
        assert set(answers) == {store.get(key_of(1))}

    def test_threads_may_open_use_and_close_at_once(self, store: Store) -> None:
        def work(number: int) -> bytes | None:
            for turn in range(20):
                key = key_of((number, turn))
                store.add(key, b"value")
                assert store.get(key) == b"value"
                store.close()
            return store.get(key_of((number, 0)))

        assert at_once(16, work) == [b"value"] * 16

    # Other processes

    def test_an_unpickled_copy_works(self, store: Store) -> None:
        copy: Store = pickle.loads(pickle.dumps(store))
        copy.set(key_of(1), b"value")
        assert copy.get(key_of(1)) == b"value"
        copy.close()

    def test_an_unpickled_copy_reaches_the_same_entries(self, calls: Calls) -> None:
        if not self.persistent:
            pytest.skip("this store's entries stay in one process")
        calls.set(key_of(1), b"value")
        copy = calls.of(pickle.loads(pickle.dumps(calls.store)))
        assert (copy.get(key_of(1)), copy.store.url) == (b"value", calls.store.url)
        copy.close()

    @pytest.mark.skipif(FORK is None, reason="this platform cannot fork")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_a_forked_child_reads_and_writes(self, calls: Calls) -> None:
        calls.set(key_of("parent"), b"parent's")
        in_forked_child(partial(_read_and_write, calls.store))
        assert calls.get(key_of("parent")) == b"parent's"
        if self.persistent:
            assert calls.get(key_of("child")) == b"child's"

    def test_a_spawned_process_reaches_the_same_entries(self, store: Store) -> None:
        if not self.persistent:
            pytest.skip("this store's entries stay in one process")
        store.set(key_of(1), b"value")
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            assert pool.apply(store.get, (key_of(1),)) == b"value"

    def test_processes_that_race_to_add_all_get_the_winner(self, store: Store) -> None:
        if not self.persistent:
            pytest.skip("this store's entries stay in one process")
        context = multiprocessing.get_context("spawn")
        with context.Pool(3) as pool:
            for key in map(key_of, range(10)):
                adds = [pool.apply_async(_add_own, (store, key, n)) for n in range(6)]
                assert {add.get(60) for add in adds} == {store.get(key)}


def _read_and_write(store: Store) -> None:
    with asyncio.Runner() as runner:
        assert store.get(key_of("parent")) == b"parent's"
        assert AsyncCalls(store, runner).get(key_of("parent")) == b"parent's"
        store.set(key_of("child"), b"child's")


async def _read_after_write(store: Store, number: int) -> bytes | None:
    await store.aadd(key_of(number), b"%d" % number)
    return await store.aget(key_of(number))


def _add_own(store: Store, key: str, number: int) -> bytes:
    return store.add(key, b"from caller %d" % number)
