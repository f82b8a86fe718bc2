"""The promises of the segments that a store may have beside what every store has, as tests."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Final, Self

import pytest

from cachewrap.stores.base import (
    Checks,
    Claim,
    Leases,
    Logs,
    Many,
    Operation,
    Pairs,
    Scans,
    Seeds,
    Store,
    Uses,
)
from cachewrap.testing.stores.calls import (
    FORK,
    Calls,
    at_once,
    in_forked_child,
    key_of,
    partition,
)

SEGMENTS: Final = (Leases, Pairs, Many, Scans, Seeds, Uses, Logs, Checks)
"""What a store may have beside what every store has."""


def having(segment: type) -> Any:
    """A fixture: the store, as one that has a segment."""

    @pytest.fixture
    def one(self: object, store: Store) -> Store:
        if not isinstance(store, segment):
            pytest.skip(f"this store has no segment {segment.__name__}")
        return store

    return one


class LeasesSuite:
    """The promises of `cachewrap.stores.base.Leases`."""

    leases = having(Leases)

    @pytest.fixture
    def leasing(self, leases: Leases, calls: Calls) -> Calls:
        """The operations of a store with leases."""
        return calls

    def test_a_free_lease_is_taken_and_given_back(self, leasing: Calls) -> None:
        for token in ("one", "other"):
            assert leasing.acquire(key_of(1), token, 60) is Claim.TAKEN
            assert leasing.renew(key_of(1), token, 60) is True
            leasing.release(key_of(1), token)

    def test_a_taken_lease_is_held(self, leasing: Calls) -> None:
        with _held(leasing, key_of(1)):
            assert leasing.acquire(key_of(1), "other", 60) is Claim.HELD

    def test_leases_of_other_keys_and_partitions_are_free(self, leasing: Calls) -> None:
        with partition(leasing, "42") as other:
            assert leasing.acquire(key_of(1), "one", 60) is Claim.TAKEN
            assert leasing.acquire(key_of(2), "other", 60) is Claim.TAKEN
            assert other.acquire(key_of(1), "third", 60) is Claim.TAKEN
            leasing.release(key_of(1), "one")
            leasing.release(key_of(2), "other")
            other.release(key_of(1), "third")

    def test_a_lease_is_renewed_by_its_owner_alone(self, leasing: Calls) -> None:
        leasing.acquire(key_of(1), "one", 60)
        assert leasing.renew(key_of(1), "one", 60) is True
        assert leasing.renew(key_of(1), "other", 60) is False
        leasing.release(key_of(1), "one")
        assert leasing.renew(key_of(1), "one", 60) is False

    @pytest.mark.parametrize("failed", [False, True])
    def test_a_lease_is_released_by_its_owner_alone(self, leasing: Calls, failed: bool) -> None:
        with _held(leasing, key_of(1)):
            leasing.release(key_of(1), "other", failed=failed)
            assert leasing.acquire(key_of(1), "third", 60) is Claim.HELD

    @pytest.mark.parametrize("failed", [False, True])
    def test_releasing_what_nobody_holds_does_nothing(self, leasing: Calls, failed: bool) -> None:
        leasing.release(key_of(1), "one", failed=failed)
        assert leasing.acquire(key_of(1), "other", 60) is Claim.TAKEN
        leasing.release(key_of(1), "other")

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

    def test_a_lease_is_no_entry(self, leasing: Calls) -> None:
        leasing.set(key_of(1), b"value")
        with _held(leasing, key_of(1)), _held(leasing, key_of(2)):
            assert (leasing.get(key_of(2)), leasing.keys()) == (None, [key_of(1)])
            assert leasing.clear() == 1
            assert leasing.add(key_of(2), b"value") == b"value"

    def test_a_lease_holds_for_the_other_colour(self, leases: Leases) -> None:
        with _held(leases, key_of(1)):
            assert asyncio.run(leases.aacquire(key_of(1), "other", 60)) is Claim.HELD
            assert asyncio.run(leases.arenew(key_of(1), "one", 60)) is True

    def test_closing_the_store_keeps_the_lease(self, leasing: Calls) -> None:
        with _held(leasing, key_of(1)):
            leasing.close()
            assert leasing.acquire(key_of(1), "other", 60) is Claim.HELD

    def test_threads_that_race_for_a_lease(self, leases: Leases) -> None:
        for key in map(key_of, range(10)):
            claims = at_once(16, partial(_take, leases, key))
            assert sorted(claim.name for claim in claims) == ["HELD"] * 15 + ["TAKEN"]
            leases.release(key, f"caller {claims.index(Claim.TAKEN)}")

    def test_processes_that_race_for_a_lease(self, leases: Leases) -> None:
        with multiprocessing.get_context("spawn").Pool(3) as pool:
            for key in map(key_of, range(10)):
                races = [pool.apply_async(_take, (leases, key, n)) for n in range(3)]
                assert [race.get(60) for race in races].count(Claim.TAKEN) == 1

    def test_a_lease_that_another_process_holds(self, leases: Leases, leasing: Calls) -> None:
        with _Holder(leases, key_of(1)) as holder:
            assert leasing.acquire(key_of(1), "mine", 60) is Claim.HELD
            leasing.release(key_of(1), "mine", failed=True)
            assert leasing.acquire(key_of(1), "mine", 60) is Claim.HELD
            holder.tell("release")
            assert leasing.acquire(key_of(1), "mine", 60) is Claim.TAKEN
            leasing.release(key_of(1), "mine")

    def test_the_failure_of_another_process(self, leases: Leases, leasing: Calls) -> None:
        with _Holder(leases, key_of(1)) as holder:
            holder.tell("fail")
            assert leasing.acquire(key_of(1), "mine", 60) is Claim.FAILED

    def test_the_lease_of_a_killed_process_is_free_in_time(
        self, leases: Leases, leasing: Calls
    ) -> None:
        with _Holder(leases, key_of(1), seconds=3) as holder:
            assert leasing.acquire(key_of(1), "mine", 60) is Claim.HELD
            holder.process.kill()
            holder.process.join()
            start = time.monotonic()
            assert _await_lease(leasing, key_of(1), Claim.HELD) is Claim.TAKEN
            assert time.monotonic() - start < 6
            leasing.release(key_of(1), "later")

    @pytest.mark.skipif(FORK is None, reason="this platform cannot fork")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_a_forked_child_does_not_inherit_a_lease(self, leases: Leases, leasing: Calls) -> None:
        leasing.acquire(key_of(1), "parent's", 60)
        in_forked_child(partial(_take_and_close, leases, leasing.store))
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(_take, (leases, key_of(1), 3)) is Claim.HELD
        assert leasing.renew(key_of(1), "parent's", 60) is True
        leasing.release(key_of(1), "parent's")


class PairsSuite:
    """The promises of `cachewrap.stores.base.Pairs`."""

    pairs = having(Pairs)

    @pytest.fixture
    def paired(self, pairs: Pairs, calls: Calls) -> Calls:
        """The operations of a store with pairs."""
        return calls

    @pytest.mark.parametrize("present", [None, b"value", b""])
    def test_a_free_lease_is_taken_and_what_is_there_is_told(
        self, paired: Calls, present: bytes | None
    ) -> None:
        if present is not None:
            paired.set(key_of(1), present)
        assert paired.acquire_and_get(key_of(1), "one", 60) == (Claim.TAKEN, present)
        assert paired.acquire(key_of(1), "other", 60) is Claim.HELD
        paired.release(key_of(1), "one")

    def test_what_is_there_is_told_also_where_the_lease_is_held(self, paired: Calls) -> None:
        paired.set(key_of(1), b"value")
        with _held(paired, key_of(1)):
            assert paired.acquire_and_get(key_of(1), "other", 60) == (Claim.HELD, b"value")
            assert paired.renew(key_of(1), "one", 60) is True

    def test_a_failure_is_told(self, paired: Calls) -> None:
        key = key_of(paired)  # it outlives its test
        paired.acquire(key, "one", 60)
        paired.release(key, "one", failed=True)
        assert paired.acquire_and_get(key, "other", 60) == (Claim.FAILED, None)

    @pytest.mark.parametrize(
        ("present", "over", "stands"),
        [
            pytest.param(None, None, b"value", id="nothing is there"),
            pytest.param(b"first", None, b"first", id="an answer is there"),
            pytest.param(b"", None, b"", id="an empty one is there"),
            pytest.param(b"damaged", b"damaged", b"value", id="what is to be replaced"),
            pytest.param(b"first", b"damaged", b"first", id="something else than that"),
            pytest.param(None, b"damaged", b"value", id="nothing any more"),
        ],
    )
    def test_the_first_stands_and_the_lease_is_given_back(
        self, paired: Calls, present: bytes | None, over: bytes | None, stands: bytes
    ) -> None:
        if present is not None:
            paired.set(key_of(1), present)
        paired.acquire(key_of(1), "one", 60)
        found = paired.add_and_release(key_of(1), "one", b"value", over=over)
        assert found == (stands, True)
        assert paired.get(key_of(1)) == stands
        assert paired.acquire(key_of(1), "other", 60) is Claim.TAKEN
        paired.release(key_of(1), "other")

    def test_a_large_value(self, paired: Calls) -> None:
        value = b"x" * 2**21
        paired.acquire(key_of(1), "one", 60)
        assert paired.add_and_release(key_of(1), "one", value)[0] == value
        assert paired.acquire_and_get(key_of(1), "other", 60) == (Claim.TAKEN, value)
        paired.release(key_of(1), "other")

    def test_the_lease_of_another_owner_stays(self, paired: Calls) -> None:
        with _held(paired, key_of(1)):
            assert paired.add_and_release(key_of(1), "other", b"value")[0] == b"value"
            assert paired.acquire(key_of(1), "third", 60) is Claim.HELD


class ManySuite:
    """The promises of `cachewrap.stores.base.Many`."""

    several = having(Many)

    @pytest.fixture
    def joint(self, several: Many, calls: Calls) -> Calls:
        """The operations of a store that does several at once."""
        return calls

    def test_each_operation_gives_what_it_gives_alone(self, joint: Calls) -> None:
        joint.set(key_of(1), b"first")
        operations: list[Operation] = [
            ("get", (key_of(1),), {}),
            ("get", (key_of(2),), {}),
            ("add", (key_of(3), b"third"), {}),
            ("set", (key_of(4), b"fourth"), {"expires": 0.0}),
        ]
        assert joint.do_many(operations) == [b"first", None, b"third", None]
        added: list[Operation] = [
            ("add", (key_of(1), b"later"), {"expires": 0.0, "over": None}),
            ("add", (key_of(3), b"later"), {"over": b"third"}),
        ]
        assert joint.do_many(added) == [b"first", b"later"]
        read: list[Operation] = [("get", (key_of(number),), {}) for number in range(1, 5)]
        assert joint.do_many(read) == [b"first", None, b"later", b"fourth"]

    def test_of_none_there_is_nothing(self, joint: Calls) -> None:
        assert joint.do_many([]) == []

    def test_many_keep_their_order(self, joint: Calls) -> None:
        values = {key_of(number): b"%d" % number * 100 for number in range(300)}
        added: list[Operation] = [("add", one, {}) for one in values.items()]
        assert joint.do_many(added) == list(values.values())
        read: list[Operation] = [("get", (key,), {}) for key in values]
        assert joint.do_many(read) == list(values.values())

    def test_large_ones_are_among_them(self, joint: Calls) -> None:
        values = {key_of(number): bytes([number]) * 700_000 for number in range(4)}
        values[key_of("large")] = b"x" * 3_000_000
        added: list[Operation] = [("add", one, {}) for one in values.items()]
        assert joint.do_many(added) == list(values.values())
        read: list[Operation] = [("get", (key,), {}) for key in values]
        assert joint.do_many(read) == list(values.values())

    def test_leases_are_taken_and_given_back(self, joint: Calls) -> None:
        if not isinstance(joint.store, Leases):
            pytest.skip("this store has no leases")
        taken: list[Operation] = [("acquire", (key_of(at), f"t{at}", 60), {}) for at in range(3)]
        assert joint.do_many(taken) == [Claim.TAKEN] * 3
        again: list[Operation] = [("acquire", (key_of(at), "other", 60), {}) for at in range(3)]
        assert joint.do_many(again) == [Claim.HELD] * 3
        left: list[Operation] = [
            ("release", (key_of(at), f"t{at}"), {"failed": at == 1}) for at in range(3)
        ]
        assert joint.do_many(left) == [None] * 3
        claims = joint.do_many(again)
        assert claims == [Claim.TAKEN, Claim.FAILED, Claim.TAKEN]
        joint.do_many([("release", (key_of(at), "other"), {}) for at in range(3)])

    def test_pairs_are_done_too(self, joint: Calls) -> None:
        if not isinstance(joint.store, Pairs):
            pytest.skip("this store has no pairs")
        joint.set(key_of(1), b"stored")
        begun: list[Operation] = [
            ("acquire_and_get", (key_of(at), f"t{at}", 60), {}) for at in range(3)
        ]
        assert joint.do_many(begun) == [
            (Claim.TAKEN, None),
            (Claim.TAKEN, b"stored"),
            (Claim.TAKEN, None),
        ]
        ended: list[Operation] = [
            ("add_and_release", (key_of(at), f"t{at}", b"new"), {"over": None}) for at in range(3)
        ]
        assert joint.do_many(ended) == [(b"new", True), (b"stored", True), (b"new", True)]
        assert joint.acquire(key_of(2), "other", 60) is Claim.TAKEN
        joint.release(key_of(2), "other")

    def test_threads_that_race_agree(self, several: Any) -> None:
        keys = [key_of(number) for number in range(20)]

        def add(number: int) -> list[Any]:
            order = keys if number % 2 else keys[::-1]
            won = several.do_many([("add", (key, b"%d" % number), {}) for key in order])
            return won if number % 2 else list(won[::-1])

        assert len({tuple(won) for won in at_once(8, add)}) == 1


class ScansSuite:
    """The promises of `cachewrap.stores.base.Scans`."""

    scans = having(Scans)

    def test_scan_gives_every_key_with_its_value(self, store: Store, scans: Scans) -> None:
        values = {"small": b"value", "empty": b"", "large": b"x" * 2**21}
        values.update((str(number), str(number).encode()) for number in range(1234))
        for name, value in values.items():
            store.set(key_of(name), value)
        assert dict(scans.scan()) == {key_of(name): value for name, value in values.items()}

    def test_scan_leaves_out_what_goes_away_meanwhile(self, store: Store, scans: Scans) -> None:
        for number in range(3):
            store.set(key_of(number), b"value")
        scanned = []
        for key, _ in scans.scan():
            scanned.append(key)
            store.clear()
        assert set(scanned) <= {key_of(number) for number in range(3)}

    def test_scan_of_an_empty_partition(self, scans: Scans) -> None:
        assert list(scans.scan()) == []

    def test_scan_leaves_out_other_partitions(self, store: Store, scans: Scans) -> None:
        other = store.reseed("42")
        other.set(key_of(1), b"other's")
        assert list(scans.scan()) == []
        other.clear()
        other.close()


class SeedsSuite:
    """The promises of `cachewrap.stores.base.Seeds`."""

    seeds = having(Seeds)

    def test_seeds_are_those_with_entries(self, calls: Calls, seeds: Seeds) -> None:
        with partition(calls, "42") as one, partition(calls, "a/b") as other:
            calls.store.reseed("empty").get(key_of(1))
            one.set(key_of(1), b"one's")
            one.set(key_of(2), b"one's")
            other.set(key_of(1), b"other's")
            assert seeds.seeds() == ["42", "a/b"]


class UsesSuite:
    """The promises of `cachewrap.stores.base.Uses`."""

    uses = having(Uses)

    def test_nobody_read_an_absent_key(self, uses: Uses) -> None:
        assert uses.last_used(key_of(1)) is None

    def test_what_was_just_read_was_used_just_now_if_that_is_known(
        self, calls: Calls, uses: Uses
    ) -> None:
        start = time.time()
        calls.set(key_of(1), b"value")
        calls.get(key_of(1))
        used = uses.last_used(key_of(1))
        assert used is None or start - 2 < used < time.time() + 2  # a server may count in seconds


class ChecksSuite:
    """The promises of `cachewrap.stores.base.Checks`."""

    checks = having(Checks)

    def test_a_store_that_works_passes_its_check(self, store: Store, checks: Checks) -> None:
        checks.check()
        store.set(key_of(1), b"value")
        checks.check()


@contextmanager
def _held(leases: Leases | Calls, key: str) -> Iterator[None]:
    """The lease of a key is held inside by ``one``."""
    leases.acquire(key, "one", 60)
    try:
        yield
    finally:
        leases.release(key, "one")


def _take_and_close(leases: Leases, store: Store) -> None:
    assert leases.acquire(key_of(1), "child's", 60) is Claim.HELD
    assert leases.acquire(key_of(2), "child's", 60) is Claim.TAKEN
    leases.release(key_of(2), "child's")
    store.close()


def _take(leases: Leases, key: str, number: int) -> Claim:
    return leases.acquire(key, f"caller {number}", 60)


def _await_lease(calls: Calls, key: str, past: Claim) -> Claim:
    """What an attempt to take the lease says once it no longer says what it said; 10 s at most."""
    deadline = time.monotonic() + 10
    while (claim := calls.acquire(key, "later", 60)) is past and time.monotonic() < deadline:
        time.sleep(0.02)  # a lease ends unannounced
    return claim


class _Holder:
    """Another process that holds the lease of a key until it is told what to do with it."""

    def __init__(self, leases: Leases, key: str, seconds: float = 60) -> None:
        context = multiprocessing.get_context("spawn")
        self._orders, orders = context.Pipe()
        self.process = context.Process(target=_hold, args=(leases, key, seconds, orders))

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


def _hold(leases: Leases, key: str, seconds: float, orders: Connection) -> None:
    orders.send(leases.acquire(key, "holder's", seconds))
    while order := orders.recv():
        leases.release(key, "holder's", failed=order == "fail")
        orders.send(order)
