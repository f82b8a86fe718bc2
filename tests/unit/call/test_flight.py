"""Flights: how long one waits for them, and what becomes of one whose event loop is stopped."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio

from cachewrap.call.flight import (
    AGAIN,
    FAILED,
    LATE,
    Flight,
    Landing,
    _flights,
    await_any,
    board,
    leading,
    wait_for_any,
)

WAIT = 20.0
ANSWER = Landing(b"answer")


def any_of(flight: Flight, *given: float) -> Landing:
    """Wait for a flight as for one of several, of which the other never lands."""
    return wait_for_any([other(), flight], *given)[1] or LATE


async def aany_of(flight: Flight, *given: float) -> Landing:
    return (await await_any([other(), flight], *given))[1] or LATE


elsewhere = ThreadPoolExecutor(1)
"""A thread that stays: the number of one that has ended may be another one's soon."""


def led_elsewhere(*keys: str) -> list[Any]:
    return elsewhere.submit(lambda: [(board("here", key) or [])[0] for key in keys]).result(WAIT)


def other() -> Flight:
    (flight,) = led_elsewhere("other")
    assert isinstance(flight, Flight)
    return flight


WAYS = [
    pytest.param(lambda flight, *given: flight.wait(*given), id="threads"),
    pytest.param(lambda flight, *given: asyncio.run(flight.await_landing(*given)), id="asyncio"),
    pytest.param(lambda flight, *given: trio.run(flight.await_landing, *given), id="trio"),
    pytest.param(any_of, id="threads, of several"),
    pytest.param(lambda *given: asyncio.run(aany_of(*given)), id="asyncio, of several"),
]
Way = Callable[..., Landing]


@pytest.fixture(autouse=True)
def all_flights_land() -> Iterator[None]:
    yield
    for flight in list(_flights.values()):
        flight.land(AGAIN)


def boarded() -> Flight:
    flight, leads = board("here", "key") or (None, False)
    assert flight is not None and leads
    return flight


def in_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(WAIT)


def led_in(loop: asyncio.AbstractEventLoop) -> Flight:
    """A flight of a task of a loop that was stopped then, and kept."""
    flights: list[Flight] = []

    async def lead() -> None:
        flights.append(boarded())
        loop.stop()
        await asyncio.sleep(WAIT)

    task = loop.create_task(lead())
    loop.run_forever()
    task.add_done_callback(lambda _: None)
    kept.append(task)
    return flights[0]


kept: list[asyncio.Task[None]] = []


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    if not loop.is_closed():
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    kept.clear()


@pytest.mark.parametrize("way", WAYS)
class TestTime:
    @pytest.mark.parametrize("seconds", [0.0, -1.0, 0.1])
    def test_who_has_waited_long_enough_is_late(self, way: Way, seconds: float) -> None:
        flight, began = boarded(), time.monotonic()
        assert in_thread(lambda: way(flight, seconds)) == LATE
        assert max(seconds, 0.0) <= time.monotonic() - began < 5.0

    def test_who_is_late_leaves_nothing_behind(self, way: Way) -> None:
        flight = boarded()
        in_thread(lambda: way(flight, 0.01))
        assert len(flight._callbacks) == 0

    def test_others_wait_on(self, way: Way) -> None:
        flight = boarded()
        with ThreadPoolExecutor(2) as pool:
            patient = pool.submit(way, flight, WAIT)
            assert pool.submit(way, flight, 0.01).result(WAIT) == LATE
            flight.land(ANSWER)
            assert patient.result(WAIT) == ANSWER

    def test_what_has_landed_is_no_more_waited_for(self, way: Way) -> None:
        flight = boarded()
        flight.land(ANSWER)
        assert in_thread(lambda: way(flight, 0.0)) == ANSWER

    def test_a_time_beyond_what_systems_take_is_one(self, way: Way) -> None:
        flight = boarded()
        threading.Timer(0.1, flight.land, (ANSWER,)).start()
        assert in_thread(lambda: way(flight, 1e300)) == ANSWER


@pytest.mark.parametrize("way", WAYS)
class TestStoppedLoops:
    """The leader runs on an event loop; `stopped_seconds` is 0.2 here."""

    def test_one_who_waits_takes_the_place_of_a_leader_whose_loop_is_stopped(
        self, way: Way, loop: asyncio.AbstractEventLoop
    ) -> None:
        flight, began = led_in(loop), time.monotonic()
        assert in_thread(lambda: way(flight, WAIT, 0.2)) == AGAIN
        assert 0.2 <= time.monotonic() - began < 5.0
        assert board("here", "key") != (flight, False)

    def test_so_it_is_where_the_loop_was_closed_and_its_tasks_were_not(
        self, way: Way, loop: asyncio.AbstractEventLoop
    ) -> None:
        flight = led_in(loop)
        loop.close()
        assert in_thread(lambda: way(flight, WAIT, 0.2)) == AGAIN

    def test_all_who_wait_go_on_together(self, way: Way, loop: asyncio.AbstractEventLoop) -> None:
        flight = led_in(loop)
        with ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(way, flight, WAIT, 0.2) for _ in range(8)]
            assert {one.result(WAIT) for one in waiting} == {AGAIN}

    def test_a_loop_that_runs_is_waited_for(
        self, way: Way, loop: asyncio.AbstractEventLoop
    ) -> None:
        flight = led_in(loop)
        running = threading.Thread(target=loop.run_forever)
        running.start()
        assert in_thread(lambda: way(flight, 0.6, 0.2)) == LATE
        loop.call_soon_threadsafe(loop.stop)
        running.join(WAIT)

    def test_a_loop_that_is_stopped_for_a_moment_is_waited_for(
        self, way: Way, loop: asyncio.AbstractEventLoop
    ) -> None:
        flight = led_in(loop)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(way, flight, 2.0, 1.5)
            while not waiting.done():
                time.sleep(0.1)
                loop.run_until_complete(asyncio.sleep(0.1))
            assert waiting.result(WAIT) == LATE


class TestSeveral:
    """What a list waits for."""

    def test_the_first_that_lands_ends_the_wait(self) -> None:
        first, second = led_elsewhere("a", "b")
        threading.Timer(0.02, lambda: second.land(ANSWER)).start()
        assert wait_for_any([first, second], WAIT) == [None, ANSWER]
        assert (first._callbacks, first.waits_for, second._callbacks) == ({}, [], {})

    def test_one_that_can_never_be_waited_for_ends_it_too(self) -> None:
        """In no time: it is looked at before anything is asked."""
        mine, (led,) = boarded(), led_elsewhere("a")
        assert wait_for_any([led, mine], 0.0) == [None, FAILED]
        assert wait_for_any([led, mine], WAIT) == [None, FAILED]

    def test_nobody_waits_for_whom_others_wait_in_turn(self) -> None:
        inside, (waited, free) = boarded(), led_elsewhere("a", "b")
        waited.waits_for.append(inside)
        leading.set((inside,))
        try:
            assert wait_for_any([free, waited], WAIT) == [None, FAILED]
            assert asyncio.run(await_any([free, waited], WAIT)) == [None, FAILED]
        finally:
            leading.set(())
            waited.waits_for.clear()
        assert inside.waits_for == []

    def test_all_of_a_stopped_loop_land_at_once(self, loop: asyncio.AbstractEventLoop) -> None:
        flights: list[Flight] = []

        async def lead() -> None:
            flights.extend((board("here", key) or [])[0] for key in "ab")
            loop.stop()
            await asyncio.sleep(WAIT)

        kept.append(loop.create_task(lead()))
        loop.run_forever()
        assert in_thread(lambda: wait_for_any(flights, WAIT, 0.2)) == [AGAIN, AGAIN]


class TestSameThread:
    """While one event loop of a thread runs, no other does."""

    @pytest.mark.parametrize("way", [way for way in WAYS if "threads" not in str(way.id)])
    def test_a_new_loop_takes_the_place_of_a_stopped_one_at_once(
        self, way: Way, loop: asyncio.AbstractEventLoop
    ) -> None:
        flight, began = led_in(loop), time.monotonic()
        assert way(flight, WAIT, WAIT) == AGAIN
        assert time.monotonic() - began < 5.0
        assert board("here", "key") != (flight, False)

    def test_a_sync_caller_goes_alone(self, loop: asyncio.AbstractEventLoop) -> None:
        assert led_in(loop).wait(WAIT, WAIT) == FAILED

    def test_an_async_caller_inside_a_sync_leader_goes_alone(self) -> None:
        flight = boarded()
        assert asyncio.run(flight.await_landing(WAIT, WAIT)) == FAILED

    def test_tasks_of_one_loop_wait_for_each_other(self) -> None:
        async def main() -> Landing:
            flight = boarded()
            waiting = asyncio.create_task(flight.await_landing(WAIT, 0.1))
            await asyncio.sleep(0.3)
            flight.land(ANSWER)
            return await waiting

        assert asyncio.run(main()) == ANSWER

    def test_tasks_of_trio_wait_for_each_other(self) -> None:
        async def main() -> None:
            flight = boarded()

            async def wait() -> None:
                assert await flight.await_landing(WAIT, 0.1) == ANSWER

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.sleep(0.3)
                flight.land(ANSWER)

        trio.run(main)


class TestTrio:
    def test_a_run_that_is_over_is_waited_for_no_more(self) -> None:
        flights: list[Flight] = []

        async def lead() -> None:
            flights.append(boarded())

        in_thread(lambda: trio.run(lead))
        assert flights[0].wait(WAIT, 0.2) == AGAIN

    def test_cancelling_one_who_waits_touches_nobody(self) -> None:
        flight = boarded()

        async def main() -> None:
            with trio.move_on_after(0.05):
                await flight.await_landing(WAIT)

        in_thread(lambda: trio.run(main))
        assert len(flight._callbacks) == 0
        threading.Timer(0.1, flight.land, (ANSWER,)).start()
        assert in_thread(lambda: flight.wait(WAIT)) == ANSWER


def test_cancelling_one_who_waits_touches_nobody() -> None:
    flight = boarded()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await flight.await_landing(WAIT)

    in_thread(lambda: asyncio.run(main()))
    assert len(flight._callbacks) == 0
    threading.Timer(0.1, flight.land, (ANSWER,)).start()
    assert in_thread(lambda: flight.wait(WAIT)) == ANSWER


@pytest.mark.parametrize("way", WAYS[:1])
def test_a_time_that_is_frozen_does_not_lengthen_it(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    flight = boarded()
    with monkeypatch.context() as frozen:
        for name in ("time", "monotonic", "perf_counter"):
            frozen.setattr(time, name, lambda: 1.0)
        assert in_thread(lambda: way(flight, 0.1)) == LATE
