"""The promises of a store as tests, for any store in both colours: subclass `StoreSuite`."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import pickle
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Protocol, Self, TypeVar

import pytest

from cachewrap.stores.base import Claim, Store

_T = TypeVar("_T")

_fork: Any = getattr(os, "fork", None)  # which Windows has not

VALUES = {
    "empty": b"",
    "one zero byte": b"\0",
    "not text": bytes(range(256)),
    "8 KB": os.urandom(2**13),
    "1 MiB and around": b"x" * 2**20,
    "5 MB": os.urandom(5_000_000),
}
"""Values that a store must hand back as they were."""


def key_of(name: object) -> str:
    """A store's key for anything: 64 hexadecimal characters."""
    return hashlib.sha256(str(name).encode()).hexdigest()


class Calls(Protocol):
    """A store's operations in one colour, called as if they were sync."""

    store: Store

    def of(self, store: Store) -> Calls:
        """The same colour on another store."""
        ...

    def get(self, key: str) -> bytes | None: ...
    def add(
        self, key: str, value: bytes, *, expires: float = 0.0, over: bytes | None = None
    ) -> bytes: ...
    def set(self, key: str, value: bytes, *, expires: float = 0.0) -> None: ...
    def delete(self, key: str) -> bool: ...
    def keys(self) -> list[str]: ...
    def clear(self) -> int: ...
    def acquire(self, key: str, token: str, seconds: float) -> Claim: ...
    def renew(self, key: str, token: str, seconds: float) -> bool: ...
    def release(self, key: str, token: str, *, failed: bool = False) -> None: ...
    def close(self) -> None: ...


class SyncCalls:
    """The sync operations."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.get = store.get
        self.add = store.add
        self.set = store.set
        self.delete = store.delete
        self.clear = store.clear
        self.acquire = store.acquire
        self.renew = store.renew
        self.release = store.release
        self.close = store.close

    def of(self, store: Store) -> SyncCalls:
        return SyncCalls(store)

    def keys(self) -> list[str]:
        return list(self.store.keys())


class AsyncCalls:
    """The async operations, each run to its end on one event loop."""

    def __init__(self, store: Store, runner: asyncio.Runner) -> None:
        self.store = store
        self._runner = runner
        self.get = self._run(store.aget)
        self.add = self._run(store.aadd)
        self.set = self._run(store.aset)
        self.delete = self._run(store.adelete)
        self.clear = self._run(store.aclear)
        self.acquire = self._run(store.aacquire)
        self.renew = self._run(store.arenew)
        self.release = self._run(store.arelease)
        self.close = self._run(store.aclose)

    def of(self, store: Store) -> AsyncCalls:
        return AsyncCalls(store, self._runner)

    def keys(self) -> list[str]:
        return self._runner.run(_listed(self.store.akeys()))

    def _run(self, operation: Callable[..., Coroutine[Any, Any, _T]]) -> Callable[..., _T]:
        return lambda *values, **options: self._runner.run(operation(*values, **options))


async def _listed(keys: AsyncIterator[str]) -> list[str]:
    return [key async for key in keys]


class StoreSuite:
    """What `cachewrap.stores.base.Store` promises.

    A subclass provides the fixture ``store``: a store whose partition is empty and stays this
    test's own. For readable failures, call
    ``pytest.register_assert_rewrite("cachewrap.testing.stores")`` in ``conftest.py``.

    Attributes:
        persistent: entries can be reached from other processes and through unpickled copies.
        drops_expired: the store lets go of an expired entry by itself.
        leases: other processes respect a lease; a store without them grants every attempt.
    """

    persistent = True
    drops_expired = True
    leases = True

    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError("a subclass of StoreSuite provides the fixture `store`")

    @pytest.fixture(params=["sync", "async"])
    def calls(self, request: pytest.FixtureRequest, store: Store) -> Iterator[Calls]:
        """The operations of the store in each colour."""
        if request.param == "sync":
            yield SyncCalls(store)
        else:
            with asyncio.Runner() as runner:
                yield AsyncCalls(store, runner)
                runner.run(store.aclose())
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

    def test_scan_gives_every_key_with_its_value(self, store: Store) -> None:
        values = {"small": b"value", "empty": b"", "large": b"x" * 2**21}
        values.update((str(number), str(number).encode()) for number in range(1234))
        for name, value in values.items():
            store.set(key_of(name), value)
        assert dict(store.scan()) == {key_of(name): value for name, value in values.items()}

    def test_scan_leaves_out_what_goes_away_meanwhile(self, store: Store) -> None:
        for number in range(3):
            store.set(key_of(number), b"value")
        scanned = []
        for key, _ in store.scan():
            scanned.append(key)
            store.clear()
        assert set(scanned) <= {key_of(number) for number in range(3)}

    def test_scan_of_an_empty_partition(self, store: Store) -> None:
        assert list(store.scan()) == []

    def test_scan_leaves_out_other_partitions(self, store: Store) -> None:
        other = store.reseed("42")
        other.set(key_of(1), b"other's")
        assert list(store.scan()) == []
        other.clear()
        other.close()

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
        other = calls.of(calls.store.reseed(seed))
        try:
            calls.set(key_of(1), b"mine")
            other.set(key_of(1), b"other's")
            assert (calls.get(key_of(1)), other.get(key_of(1))) == (b"mine", b"other's")
        finally:
            other.clear()
            other.close()

    @pytest.mark.parametrize("seed", SEEDS)
    def test_clear_leaves_other_partitions(self, calls: Calls, seed: str) -> None:
        other = calls.of(calls.store.reseed(seed))
        try:
            calls.set(key_of(1), b"mine")
            other.set(key_of(1), b"other's")
            other.clear()
            assert (calls.get(key_of(1)), other.get(key_of(1))) == (b"mine", None)
        finally:
            other.close()

    def test_the_same_seed_is_the_same_partition(self, calls: Calls) -> None:
        one, other = calls.of(calls.store.reseed("7")), calls.of(calls.store.reseed("7"))
        try:
            one.set(key_of(1), b"value")
            assert (other.get(key_of(1)), other.store.url) == (b"value", one.store.url)
        finally:
            one.clear()
            one.close()
            other.close()

    def test_partitions_have_urls_of_their_own(self, store: Store) -> None:
        urls = {store.url} | {store.reseed(seed).url for seed in self.SEEDS}
        assert len(urls) == 1 + len(self.SEEDS)

    # Leases

    @pytest.fixture
    def leasing(self, calls: Calls) -> Calls:
        """The operations of a store whose leases keep others out."""
        if not self.leases:
            pytest.skip("this store needs no leases")
        return calls

    def test_a_free_lease_is_taken_and_given_back(self, calls: Calls) -> None:
        for token in ("one", "other"):
            assert calls.acquire(key_of(1), token, 60) is Claim.TAKEN
            assert calls.renew(key_of(1), token, 60) is True
            calls.release(key_of(1), token)

    def test_a_taken_lease_is_held(self, leasing: Calls) -> None:
        leasing.acquire(key_of(1), "one", 60)
        try:
            assert leasing.acquire(key_of(1), "other", 60) is Claim.HELD
        finally:
            leasing.release(key_of(1), "one")

    def test_leases_of_other_keys_and_partitions_are_free(self, leasing: Calls) -> None:
        other = leasing.of(leasing.store.reseed("42"))
        try:
            assert leasing.acquire(key_of(1), "one", 60) is Claim.TAKEN
            assert leasing.acquire(key_of(2), "other", 60) is Claim.TAKEN
            assert other.acquire(key_of(1), "third", 60) is Claim.TAKEN
        finally:
            leasing.release(key_of(1), "one")
            leasing.release(key_of(2), "other")
            other.release(key_of(1), "third")
            other.close()

    def test_a_lease_is_renewed_by_its_owner_alone(self, leasing: Calls) -> None:
        leasing.acquire(key_of(1), "one", 60)
        assert leasing.renew(key_of(1), "one", 60) is True
        assert leasing.renew(key_of(1), "other", 60) is False
        leasing.release(key_of(1), "one")
        assert leasing.renew(key_of(1), "one", 60) is False

    @pytest.mark.parametrize("failed", [False, True])
    def test_a_lease_is_released_by_its_owner_alone(self, leasing: Calls, failed: bool) -> None:
        leasing.acquire(key_of(1), "one", 60)
        leasing.release(key_of(1), "other", failed=failed)
        try:
            assert leasing.acquire(key_of(1), "third", 60) is Claim.HELD
        finally:
            leasing.release(key_of(1), "one")

    @pytest.mark.parametrize("failed", [False, True])
    def test_releasing_what_nobody_holds_does_nothing(self, calls: Calls, failed: bool) -> None:
        calls.release(key_of(1), "one", failed=failed)
        assert calls.acquire(key_of(1), "other", 60) is Claim.TAKEN
        calls.release(key_of(1), "other")

    def test_a_failure_is_told_to_everybody_else(self, leasing: Calls) -> None:
        leasing.acquire(key_of(1), "one", 60)
        leasing.release(key_of(1), "one", failed=True)
        claims = {leasing.acquire(key_of(1), token, 60) for token in ("other", "third")}
        assert claims == {Claim.FAILED}
        assert leasing.acquire(key_of(2), "other", 60) is Claim.TAKEN
        leasing.release(key_of(2), "other")

    def test_a_failure_is_told_for_two_seconds(self, leasing: Calls) -> None:
        leasing.acquire(key_of(1), "one", 60)
        start = time.monotonic()
        leasing.release(key_of(1), "one", failed=True)
        assert _await_lease(leasing, key_of(1), Claim.FAILED) is Claim.TAKEN
        assert 1.5 < time.monotonic() - start < 6
        leasing.release(key_of(1), "later")

    def test_a_lease_is_no_entry(self, calls: Calls) -> None:
        calls.set(key_of(1), b"value")
        calls.acquire(key_of(1), "one", 60)
        calls.acquire(key_of(2), "other", 60)
        try:
            assert (calls.get(key_of(2)), calls.keys()) == (None, [key_of(1)])
            assert calls.clear() == 1
            assert calls.add(key_of(2), b"value") == b"value"
        finally:
            calls.release(key_of(1), "one")
            calls.release(key_of(2), "other")

    def test_a_lease_holds_for_the_other_colour(self, store: Store) -> None:
        if not self.leases:
            pytest.skip("this store needs no leases")
        store.acquire(key_of(1), "one", 60)
        try:
            assert asyncio.run(store.aacquire(key_of(1), "other", 60)) is Claim.HELD
            assert asyncio.run(store.arenew(key_of(1), "one", 60)) is True
        finally:
            store.release(key_of(1), "one")
            store.close()

    def test_closing_the_store_keeps_the_lease(self, leasing: Calls) -> None:
        leasing.acquire(key_of(1), "one", 60)
        leasing.close()
        try:
            assert leasing.acquire(key_of(1), "other", 60) is Claim.HELD
        finally:
            leasing.release(key_of(1), "one")

    def test_threads_that_race_for_a_lease(self, leasing: Calls) -> None:
        store = leasing.store
        for key in map(key_of, range(10)):
            claims = _at_once(16, partial(_take, store, key))
            assert sorted(claim.name for claim in claims) == ["HELD"] * 15 + ["TAKEN"]
            store.release(key, f"caller {claims.index(Claim.TAKEN)}")

    def test_processes_that_race_for_a_lease(self, store: Store) -> None:
        if not self.leases:
            pytest.skip("this store needs no leases")
        with multiprocessing.get_context("spawn").Pool(3) as pool:
            for key in map(key_of, range(10)):
                races = [pool.apply_async(_take, (store, key, n)) for n in range(3)]
                assert [race.get(60) for race in races].count(Claim.TAKEN) == 1
        store.close()

    def test_a_lease_that_another_process_holds(self, leasing: Calls) -> None:
        with _Holder(leasing.store, key_of(1)) as holder:
            assert leasing.acquire(key_of(1), "mine", 60) is Claim.HELD
            leasing.release(key_of(1), "mine", failed=True)
            assert leasing.acquire(key_of(1), "mine", 60) is Claim.HELD
            holder.tell("release")
            assert leasing.acquire(key_of(1), "mine", 60) is Claim.TAKEN
            leasing.release(key_of(1), "mine")

    def test_the_failure_of_another_process(self, leasing: Calls) -> None:
        with _Holder(leasing.store, key_of(1)) as holder:
            holder.tell("fail")
            assert leasing.acquire(key_of(1), "mine", 60) is Claim.FAILED

    def test_the_lease_of_a_killed_process_is_free_in_time(self, leasing: Calls) -> None:
        with _Holder(leasing.store, key_of(1), seconds=3) as holder:
            assert leasing.acquire(key_of(1), "mine", 60) is Claim.HELD
            holder.process.kill()
            holder.process.join()
            start = time.monotonic()
            assert _await_lease(leasing, key_of(1), Claim.HELD) is Claim.TAKEN
            assert time.monotonic() - start < 6
            leasing.release(key_of(1), "later")

    @pytest.mark.skipif(_fork is None, reason="this platform cannot fork")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_a_forked_child_does_not_inherit_a_lease(self, leasing: Calls) -> None:
        leasing.acquire(key_of(1), "parent's", 60)
        child = _fork()
        if child == 0:
            status = 1
            try:
                assert leasing.store.acquire(key_of(1), "child's", 60) is Claim.HELD
                assert leasing.store.acquire(key_of(2), "child's", 60) is Claim.TAKEN
                leasing.store.release(key_of(2), "child's")
                leasing.store.close()
                status = 0
            except BaseException:
                traceback.print_exc(file=sys.stderr)
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(_take, (leasing.store, key_of(1), 3)) is Claim.HELD
        assert leasing.renew(key_of(1), "parent's", 60) is True
        leasing.release(key_of(1), "parent's")

    # Life

    def test_close_keeps_the_entries(self, calls: Calls) -> None:
        calls.set(key_of(1), b"value")
        calls.close()
        assert calls.get(key_of(1)) == b"value"

    def test_close_can_be_repeated(self, calls: Calls) -> None:
        calls.close()
        calls.close()
        calls.set(key_of(1), b"value")

    def test_a_store_that_works_passes_its_check(self, store: Store) -> None:
        store.check()
        store.set(key_of(1), b"value")
        store.check()

    def test_colours_share_the_entries(self, store: Store) -> None:
        async def read_and_write() -> bytes | None:
            await store.aset(key_of(2), b"async")
            return await store.aget(key_of(1))

        store.set(key_of(1), b"sync")
        assert asyncio.run(read_and_write()) == b"sync"
        assert store.get(key_of(2)) == b"async"
        store.close()

    def test_several_event_loops_in_a_row(self, store: Store) -> None:
        async def read_after_write(number: int) -> bytes | None:
            await store.aadd(key_of(number), b"%d" % number)
            return await store.aget(key_of(number))

        assert [asyncio.run(read_after_write(n)) for n in range(4)] == [b"0", b"1", b"2", b"3"]
        store.close()

    def test_a_loop_in_each_of_several_threads(self, store: Store) -> None:
        async def read_after_write(number: int) -> bytes | None:
            await store.aadd(key_of(number), b"%d" % number)
            return await store.aget(key_of(number))

        with ThreadPoolExecutor(4) as threads:
            read = list(threads.map(lambda n: asyncio.run(read_after_write(n)), range(8)))
        assert read == [b"%d" % number for number in range(8)]
        store.close()

    # Many callers

    def test_threads_that_race_to_add_all_get_the_winner(self, store: Store) -> None:
        for key in map(key_of, range(20)):
            answers = _at_once(16, partial(_add_own, store, key))
            assert set(answers) == {store.get(key)}
        store.close()

    def test_tasks_that_race_to_add_all_get_the_winner(self, store: Store) -> None:
        async def race() -> tuple[set[bytes], bytes | None]:
            adds = (store.aadd(key_of(1), b"from task %d" % number) for number in range(200))
            answers = set(await asyncio.gather(*adds))
            return answers, await store.aget(key_of(1))

        answers, stored = asyncio.run(race())
        assert answers == {stored}
        store.close()

    def test_only_one_of_many_repairs_a_damaged_entry(self, store: Store) -> None:
        store.set(key_of(1), b"damaged")
        answers = _at_once(16, lambda n: store.add(key_of(1), b"from %d" % n, over=b"damaged"))
        assert set(answers) == {store.get(key_of(1))}
        store.close()

    def test_threads_may_open_use_and_close_at_once(self, store: Store) -> None:
        def work(number: int) -> bytes | None:
            for turn in range(20):
                key = key_of((number, turn))
                store.add(key, b"value")
                assert store.get(key) == b"value"
                store.close()
            return store.get(key_of((number, 0)))

        assert _at_once(16, work) == [b"value"] * 16
        store.close()

    # Other processes

    def test_an_unpickled_copy_works(self, store: Store) -> None:
        copy: Store = pickle.loads(pickle.dumps(store))
        copy.set(key_of(1), b"value")
        assert copy.get(key_of(1)) == b"value"
        copy.close()
        store.close()

    def test_an_unpickled_copy_reaches_the_same_entries(self, calls: Calls) -> None:
        if not self.persistent:
            pytest.skip("this store's entries stay in one process")
        calls.set(key_of(1), b"value")
        copy = calls.of(pickle.loads(pickle.dumps(calls.store)))
        assert (copy.get(key_of(1)), copy.store.url) == (b"value", calls.store.url)
        copy.close()

    @pytest.mark.skipif(_fork is None, reason="this platform cannot fork")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_a_forked_child_reads_and_writes(self, calls: Calls) -> None:
        calls.set(key_of("parent"), b"parent's")
        child = _fork()
        if child == 0:
            status = 1
            try:
                with asyncio.Runner() as runner:
                    here = AsyncCalls(calls.store, runner)
                    assert calls.store.get(key_of("parent")) == b"parent's"
                    assert here.get(key_of("parent")) == b"parent's"
                    calls.store.set(key_of("child"), b"child's")
                status = 0
            except BaseException:
                traceback.print_exc(file=sys.stderr)
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
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
        store.close()

    def test_processes_that_race_to_add_all_get_the_winner(self, store: Store) -> None:
        if not self.persistent:
            pytest.skip("this store's entries stay in one process")
        context = multiprocessing.get_context("spawn")
        with context.Pool(3) as pool:
            for key in map(key_of, range(10)):
                adds = [pool.apply_async(_add_own, (store, key, n)) for n in range(6)]
                assert {add.get(60) for add in adds} == {store.get(key)}
        store.close()


def _add_own(store: Store, key: str, number: int) -> bytes:
    return store.add(key, b"from caller %d" % number)


def _take(store: Store, key: str, number: int) -> Claim:
    return store.acquire(key, f"caller {number}", 60)


def _await_lease(calls: Calls, key: str, past: Claim) -> Claim:
    """What an attempt to take the lease says once it no longer says what it said; 10 s at most."""
    deadline = time.monotonic() + 10
    while (claim := calls.acquire(key, "later", 60)) is past and time.monotonic() < deadline:
        time.sleep(0.02)  # a lease ends unannounced
    return claim


class _Holder:
    """Another process that holds the lease of a key until it is told what to do with it."""

    def __init__(self, store: Store, key: str, seconds: float = 60) -> None:
        context = multiprocessing.get_context("spawn")
        self._orders, orders = context.Pipe()
        self.process = context.Process(target=_hold, args=(store, key, seconds, orders))

    def __enter__(self) -> Self:
        self.process.start()
        assert self._orders.poll(60)
        assert self._orders.recv() is Claim.TAKEN
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.join()

    def tell(self, order: str) -> None:
        self._orders.send(order)
        assert self._orders.poll(60)
        assert self._orders.recv() == order


def _hold(store: Store, key: str, seconds: float, orders: Connection) -> None:
    orders.send(store.acquire(key, "holder's", seconds))
    while order := orders.recv():
        store.release(key, "holder's", failed=order == "fail")
        orders.send(order)


def _at_once(count: int, work: Callable[[int], _T]) -> list[_T]:
    """Run the work in so many threads that start together; what each returned."""
    start = threading.Barrier(count)

    def run(number: int) -> _T:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))
