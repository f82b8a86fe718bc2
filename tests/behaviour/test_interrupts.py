"""An interrupt (Ctrl-C, an alarm) at any instant of a call harms no later one."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cachewrap import Cache, llm_cached
from cachewrap.call import lease
from cachewrap.call.flight import AGAIN, _flights, leading
from cachewrap.stores.base import Leases

WAIT = 20.0
ROUNDS = 200

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarms on this platform"),
    # An alarm in a finalizer is told and forgotten; connections are left to the collector.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(autouse=True)
def nothing_is_left_to_other_tests() -> Iterator[None]:
    """Of thousands of interrupts one may come as a call begins to end its flight."""
    yield
    for flight in list(_flights.values()):
        flight.land(AGAIN)
    leading.set(())
    for token in list(lease._held):
        lease.drop(token)


class Alarm(BaseException):
    """What the program's own handler raises, as `KeyboardInterrupt` would be."""


@llm_cached
def complete(prompt: str) -> str:
    return f"answer to {prompt}"


def interrupt(call: Callable[[], Any], most: float) -> int:
    """Call over and over, and interrupt that at random; how often it was."""
    armed, count = False, 0

    def ring(*_: object) -> None:
        if armed:
            raise Alarm

    chance = random.Random(0)
    before = signal.signal(signal.SIGALRM, ring)
    try:
        for _ in range(ROUNDS):
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(20e-6, most))
                for _ in range(1000):
                    call()
                armed = False
            except Alarm:
                armed = False
                count += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return count


def in_another_thread(work: Callable[[], object]) -> bool:
    """Whether the work comes to its end in a thread that holds none of the locks of this one."""
    ended = threading.Event()

    def run() -> None:
        work()
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    return ended.wait(WAIT)


@pytest.mark.store
def test_hits_keep_no_lock_and_get_no_answer_of_another(cache: Cache) -> None:
    prompts = [str(number) for number in range(20)]

    def ask_all() -> None:
        assert [complete(prompt) for prompt in prompts] == [f"answer to {p}" for p in prompts]

    def finish() -> None:
        cache.close()
        complete("0", cache=cache)  # type: ignore[call-arg]
        complete("new", cache=cache)  # type: ignore[call-arg]
        assert cache.stats.hits and cache.stats.misses

    with cache:
        ask_all()
        assert interrupt(ask_all, 400e-6) > ROUNDS / 2
        ask_all()
    assert in_another_thread(finish)


@pytest.mark.store
def test_misses_leave_the_leases_to_be_renewed(cache: Cache) -> None:
    numbers = iter(range(10**9))
    with cache:
        assert interrupt(lambda: complete(f"new {next(numbers)}"), 2e-3) > ROUNDS / 2

    def hold() -> None:
        if isinstance(cache.store, Leases):
            lease.hold(cache.store, "0" * 64, "another-1", 1.0)
            lease.drop("another-1")
        complete("another", cache=cache)  # type: ignore[call-arg]
        assert cache.stats.misses

    assert in_another_thread(hold)


@pytest.mark.shared
def test_lists_leave_no_lease_and_no_flight_behind(cache: Cache) -> None:
    numbers = iter(range(10**9))

    @llm_cached(each="prompts")
    def complete_all(prompts: list[str]) -> list[str]:
        return [f"answer to {prompt}" for prompt in prompts]

    with cache:
        assert interrupt(lambda: complete_all([str(next(numbers)), "known"]), 2e-3) > ROUNDS / 2
        assert complete_all(["known", "0"]) == ["answer to known", "answer to 0"]

    def finish() -> None:
        complete_all(["another"], cache=cache)  # type: ignore[call-arg]
        assert cache.stats.misses

    assert in_another_thread(finish)
