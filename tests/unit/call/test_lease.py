"""Leases that are renewed: for whom, for how long, and by which thread."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cachewrap.call import lease
from cachewrap.call.drivers import arun
from cachewrap.call.flow import Acquire

WAIT = 20.0


class Renewed:
    """A store of which only the renewals count."""

    renews = True

    def __init__(self) -> None:
        self.renewals = 0
        self.lost = False

    def renew(self, key: str, token: str, seconds: float) -> bool:
        self.renewals += 1
        return not self.lost


@pytest.fixture
def store() -> Any:
    return Renewed()


@pytest.fixture(autouse=True)
def nothing_is_held() -> Iterator[None]:
    yield
    for token in list(lease._held):
        lease.drop(token)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_it_is_renewed_while_it_is_held(store: Any) -> None:
    lease.hold(store, "key", "one", 0.06)
    until(lambda: store.renewals > 3)
    lease.drop("one")
    time.sleep(0.05)
    before = store.renewals
    time.sleep(0.1)
    assert store.renewals == before


def test_it_is_renewed_no_longer_than_others_wait_at_most(store: Any) -> None:
    began = time.monotonic()
    lease.hold(store, "key", "one", 0.06, most=0.3)
    until(lambda: not lease._held)
    assert 0.3 <= time.monotonic() - began < 5.0
    assert store.renewals


def test_it_is_not_renewed_while_the_loop_of_its_owner_is_stopped(store: Any) -> None:
    loop = asyncio.new_event_loop()
    try:
        lease.hold(store, "key", "one", 0.06, host=loop)
        time.sleep(0.2)
        assert store.renewals == 0
        loop.run_until_complete(asyncio.sleep(0.2))
        assert store.renewals
    finally:
        loop.close()
    time.sleep(0.05)
    before = store.renewals
    time.sleep(0.1)
    assert store.renewals == before


def test_what_ended_meanwhile_is_held_no_more(store: Any) -> None:
    store.lost = True
    lease.hold(store, "key", "one", 0.06)
    until(lambda: not lease._held)
    assert store.renewals == 1


def test_a_shorter_lease_is_renewed_in_time(store: Any) -> None:
    lease.hold(Renewed(), "other", "other", 1e12)  # type: ignore[arg-type]
    until(lambda: lease._wakes)
    lease.hold(store, "key", "one", 0.06)
    until(lambda: store.renewals > 1)


def test_calls_of_a_moment_share_one_thread(store: Any) -> None:
    lease.hold(store, "key", "0", 10.0)
    thread = lease._thread
    for number in range(1, 100):
        lease.drop(str(number - 1))
        lease.hold(store, "key", str(number), 10.0)
        assert lease._thread is thread
    assert store.renewals == 0


@pytest.mark.parametrize("paired", [True, False])
def test_who_is_cancelled_while_he_asks_for_one_gives_it_back(store: Any, paired: bool) -> None:
    asked, given_back = [], []

    async def take(key: str, token: str, seconds: float) -> None:
        asked.append(token)
        await asyncio.sleep(WAIT)  # it is taken, and the answer is on its way

    store.aacquire = store.aacquire_and_get = take
    store.release = lambda key, token: given_back.append((token, threading.current_thread().name))

    async def work() -> None:
        acquire = Acquire("key", lease.Lease("key", "one", paired), 10.0)
        task = asyncio.ensure_future(arun(iter(acquire), store))
        while not asked:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(work())
    until(lambda: given_back)
    assert given_back == [("one", "cachewrap-leases")]
    until(lambda: not lease._held)


@pytest.mark.posix("forks")
def test_a_process_whose_calls_are_over_forks_as_one_of_one_thread(store: Any) -> None:
    lease.hold(store, "key", "one", 10.0)
    lease.drop("one")
    assert "cachewrap-leases" in [thread.name for thread in threading.enumerate()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
        if not child:
            os._exit(0)
    os.waitpid(child, 0)
    assert "cachewrap-leases" not in [thread.name for thread in threading.enumerate()]
    lease.hold(store, "key", "other", 0.06)
    until(lambda: store.renewals)
