"""The breaker: who may ask a place that could not be reached, and when."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from cachewrap.stores.breaker import Breaker, LeftAlone, breaker_of, forget

LONG = 60.0


class Lost(Exception):
    """What a client library might raise."""


@pytest.fixture
def opened() -> Breaker:
    breaker = Breaker()
    breaker.failed(Lost("no answer"), LONG)
    return breaker


def due(breaker: Breaker) -> Breaker:
    """The same breaker at the time when one caller may try."""
    breaker.failed(Lost("no answer"), 0.0)
    return breaker


def test_a_new_one_admits_everybody() -> None:
    breaker = Breaker()
    assert [breaker.admit(LONG) for _ in range(3)] == [False] * 3


def test_an_open_one_says_until_when_and_why(opened: Breaker) -> None:
    with pytest.raises(LeftAlone) as caught:
        opened.admit(LONG)
    assert caught.value.until - time.time() == pytest.approx(LONG, abs=1)
    assert repr(caught.value.error) == "Lost('no answer')"


def test_it_shows_an_error_that_has_attributes() -> None:
    class Told(Exception):
        def __init__(self, text: str) -> None:
            super().__init__(text)
            self.kind = "network"

        def __str__(self) -> str:
            return f"{self.kind}: {self.args[0]}"

    breaker = Breaker()
    breaker.failed(Told("no answer"), LONG)
    with pytest.raises(LeftAlone) as caught:
        breaker.admit(LONG)
    assert str(caught.value.error) == "network: no answer"


def test_when_it_is_time_one_caller_tries_and_the_others_wait_again(opened: Breaker) -> None:
    due(opened)
    start = threading.Barrier(16)

    def ask(_: int) -> bool:
        start.wait()
        try:
            return opened.admit(LONG)
        except LeftAlone:
            return False

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(ask, range(16))).count(True) == 1


def test_a_success_closes_it(opened: Breaker) -> None:
    due(opened).admit(LONG)
    opened.worked()
    assert opened.admit(LONG) is False


def test_a_failure_opens_it_again(opened: Breaker) -> None:
    due(opened).admit(LONG)
    opened.failed(Lost("still none"), LONG)
    with pytest.raises(LeftAlone, match="still none"):
        opened.admit(LONG)


def test_a_caller_that_gives_up_lets_the_next_one_try(opened: Breaker) -> None:
    due(opened).admit(LONG)
    opened.undecided()
    assert opened.admit(LONG) is True


def test_it_keeps_nothing_alive_that_the_failed_call_held() -> None:
    class Held:
        pass

    def fail(breaker: Breaker) -> weakref.ref[Held]:
        held = Held()
        try:
            raise Lost("no answer")
        except Lost as error:
            breaker.failed(error, LONG)
        return weakref.ref(held)

    held = fail(breaker := Breaker())
    gc.collect()
    assert held() is None
    with pytest.raises(LeftAlone):
        breaker.admit(LONG)


def test_there_is_one_for_each_place() -> None:
    assert breaker_of("redis://one") is breaker_of("redis://one")
    assert breaker_of("redis://one") is not breaker_of("redis://other")


def test_forget_closes_all() -> None:
    breaker_of("redis://one").failed(Lost(), LONG)
    forget()
    assert breaker_of("redis://one").admit(LONG) is False
