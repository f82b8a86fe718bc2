"""Flows that are taken together: what is done for all at once, and in what order, step by step."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from examples_tried import many
from hypothesis import given, settings, strategies as st

from cachewrap import systems
from cachewrap.call import flow
from cachewrap.call.effects import (
    Acquire,
    Call,
    Effect,
    Flow,
    Lookup,
    Release,
    Save,
    Sleep,
    Together,
    WaitForAny,
)
from cachewrap.call.flight import AGAIN, FAILED, Landing, _flights, board
from cachewrap.call.flow import fetch
from cachewrap.call.terms import Absent, Reply, Terms, ValueExchange
from cachewrap.call.together import together
from cachewrap.entry import Outcome
from cachewrap.errors import CachewrapError, ResultsError, StoreError
from cachewrap.format import codec
from cachewrap.format.envelope import unseal
from cachewrap.policy import Policy
from cachewrap.request.key import encode
from cachewrap.stores.base import Claim


def exchange(name: str) -> ValueExchange:
    return ValueExchange(Policy(), "tests:embed", encode({"arguments": {"text": name}}), name)


def value_in(raw: bytes) -> Any:
    entry = unseal(raw)
    return codec.decode(entry.kind, entry.answer)


@pytest.fixture(autouse=True)
def all_flights_land() -> Iterator[None]:
    yield
    assert _flights == {}


class Drive:
    """A list's flows, and what was reported of them."""

    def __init__(self, names: str, **terms: Any) -> None:
        self.reports: list[CachewrapError] = []
        self.given_up: list[str] = []
        agreed = Terms(
            **{
                "place": "here",
                "report": lambda error, source: self.reports.append(error),
                "lease_seconds": 10.0,
                "pairs": True,
                "give_up": lambda key, token: self.given_up.append(key),
                **terms,
            }
        )
        self.flow: Flow[list[Reply[Any]]] = together(
            [fetch(exchange(name), agreed, Absent()) for name in names]
        )
        self.effect: Any = next(self.flow)

    def send(self, value: object) -> Any:
        self.effect = self.flow.send(value)
        return self.effect

    def throw(self, error: BaseException) -> Any:
        self.effect = self.flow.throw(error)
        return self.effect

    def claim(self, *claims: Claim, stored: bytes | None = None) -> Any:
        """Answer the claims of leases."""
        assert isinstance(self.effect, Together)
        for effect, claim in zip(self.effect.effects, claims, strict=True):
            assert isinstance(effect, Acquire)
            effect.lease.held = claim is Claim.TAKEN
        return self.send([((claim, stored), None) for claim in claims])

    def save(self) -> Any:
        """Store what is to be stored, and give the leases back."""
        assert isinstance(self.effect, Together)
        won = []
        for effect in self.effect.effects:
            assert isinstance(effect, Save)
            if effect.lease is not None:
                effect.lease.held = False
            won.append((effect.value, None))
        return self.send(won)

    def end(self, step: Callable[..., object], *values: object) -> list[Reply[Any]]:
        with pytest.raises(StopIteration) as stop:
            step(*values)
        replies = stop.value.value
        assert isinstance(replies, list)
        return replies


def taken(names: str) -> Drive:
    """A list that has the lease of each of its elements, and asks upstream."""
    drive = Drive(names)
    assert isinstance(drive.claim(*[Claim.TAKEN] * len(names)), Call)
    return drive


def kinds(effect: Any) -> list[type]:
    assert isinstance(effect, Together)
    return [type(one) for one in effect.effects]


class TestTheCall:
    def test_all_leases_are_taken_at_once(self) -> None:
        drive = Drive("abc")
        assert kinds(drive.effect) == [Acquire] * 3
        drive.flow.close()

    def test_one_call_is_told_who_is_asked(self) -> None:
        drive = taken("abc")
        assert drive.effect.given == ([0, 1, 2],)
        assert len(drive.effect.others) == 3  # it leads the flights of all
        drive.flow.close()

    def test_what_it_gives_is_stored_at_once(self) -> None:
        drive = taken("ab")
        assert kinds(drive.send(["A", "B"])) == [Save, Save]
        assert [value_in(one.value) for one in drive.effect.effects] == ["A", "B"]
        replies = drive.end(drive.save)
        assert [(one.value, one.outcome, one.own) for one in replies] == [
            ("A", Outcome.MISS, True),
            ("B", Outcome.MISS, True),
        ]

    def test_each_took_its_share_of_the_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ticks = iter([0.0, 0.0, 6.0, 6.0])
        monkeypatch.setattr("cachewrap.call.flow.time.perf_counter", lambda: next(ticks))
        drive = taken("ab")
        drive.send(["A", "B"])
        assert [unseal(one.value).seconds for one in drive.effect.effects] == [3.0, 3.0]
        drive.end(drive.save)

    def test_what_is_there_by_now_is_not_asked(self) -> None:
        first = taken("a")
        first.send(["A"])
        stored = first.effect.effects[0].value
        first.end(first.save)
        drive = Drive("ab")
        for effect in drive.effect.effects:
            effect.lease.held = True
        drive.send([((Claim.TAKEN, stored), None), ((Claim.TAKEN, None), None)])
        assert kinds(drive.effect) == [Release]
        assert drive.send([(None, None)]).given == ([1],)
        drive.send(["B"])
        assert [one.outcome for one in drive.end(drive.save)] == [Outcome.HIT, Outcome.MISS]

    @pytest.mark.parametrize("results", [[], ["A"], ["A", "B", "C"]])
    def test_another_number_of_results_loses_nothing(self, results: list[str]) -> None:
        drive = taken("ab")
        drive.send(results)
        assert [(type(one), one.failed) for one in drive.effect.effects] == [(Release, True)] * 2
        with pytest.raises(ResultsError, match=f"{len(results)} results .* 2 elements") as caught:
            drive.send([(None, None)] * 2)
        assert caught.value.results == results

    def test_nothing_is_asked_of_an_empty_list(self) -> None:
        with pytest.raises(StopIteration) as stop:
            next(together([]))
        assert stop.value.value == []


class TestOthers:
    """Who is waited for, and when."""

    def test_what_another_list_asks_is_waited_for_behind_the_call(self) -> None:
        other = taken("bc")
        drive = Drive("ab")
        assert kinds(drive.effect) == [Acquire]
        assert drive.claim(Claim.TAKEN) == WaitForAny(drive.effect.flights, 0.0)  # a look
        assert drive.send([None]).given == ([0],)
        assert kinds(drive.send(["A"])) == [Save]
        wait = drive.save()
        assert isinstance(wait, WaitForAny)
        assert 0 < wait.seconds <= 600
        other.send(["B", "C"])
        other.end(other.save)
        replies = drive.end(drive.send, [one.landing for one in wait.flights])
        assert [(one.value, one.outcome) for one in replies] == [
            ("A", Outcome.MISS),
            ("B", Outcome.JOINED),
        ]

    def test_what_can_never_be_waited_for_is_asked_in_the_same_call(self) -> None:
        other = taken("b")
        drive = Drive("ab")
        drive.claim(Claim.TAKEN)
        assert drive.send([FAILED]).given == ([0, 1],)
        drive.send(["A", "B"])
        drive.end(drive.save)
        other.flow.close()

    def test_whose_leader_failed_is_asked_in_a_further_call(self) -> None:
        other = taken("bc")
        drive = Drive("abc")
        drive.claim(Claim.TAKEN)
        drive.send([None, None])
        drive.send(["A"])
        drive.save()
        other.throw(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            other.send([(None, None)] * 2)
        assert drive.send([one.landing for one in drive.effect.flights]).given == ([1, 2],)
        drive.send(["B", "C"])
        assert [one.value for one in drive.end(drive.save)] == ["A", "B", "C"]

    def test_who_has_waited_for_long_enough_asks_alone(self) -> None:
        other = taken("b")
        drive = Drive("b", wait_seconds=0.0)
        assert isinstance(drive.effect, WaitForAny)
        call = drive.send([None])
        assert (call.given, call.flight, call.others) == (([0],), None, ())
        drive.send(["B"])
        drive.end(drive.save)
        other.flow.close()

    def test_a_lease_of_another_process_is_polled_behind_the_call(self) -> None:
        drive = Drive("ab")
        call = drive.claim(Claim.TAKEN, Claim.HELD)
        assert call.given == ([0],)
        assert len(call.others) == 2  # of the second the flight is led as well
        drive.send(["A"])
        assert isinstance(drive.save(), Sleep)
        drive.flow.close()

    def test_while_a_lease_is_polled_flights_are_watched(self) -> None:
        """Two lists of one process that each lead what the other waits for."""
        one = Drive("ab")
        assert isinstance(one.claim(Claim.HELD, Claim.HELD), Sleep)
        other = Drive("ca")
        assert isinstance(other.claim(Claim.HELD), WaitForAny)
        wait = other.send([None])
        assert isinstance(wait, WaitForAny)
        assert wait.seconds < 1
        one.flow.close()
        other.flow.close()


class TestEndings:
    def test_upstreams_error_is_raised_once_when_all_are_told(self) -> None:
        drive, error = taken("ab"), ZeroDivisionError()
        flights = drive.effect.others
        assert [(type(one), one.failed) for one in drive.throw(error).effects] == [
            (Release, True)
        ] * 2
        with pytest.raises(ZeroDivisionError) as caught:
            drive.send([(None, None)] * 2)
        assert caught.value is error
        assert [one.landing for one in flights] == [FAILED, FAILED]

    @pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt()])
    def test_who_is_cancelled_leaves_his_places_to_others(self, error: BaseException) -> None:
        drive = taken("ab")
        flights = drive.effect.others
        assert [(type(one), one.failed) for one in drive.throw(error).effects] == [
            (Release, False)
        ] * 2
        with pytest.raises(type(error)):
            drive.send([(None, None)] * 2)
        assert [one.landing for one in flights] == [AGAIN, AGAIN]

    def test_who_is_cancelled_as_he_takes_leases_gives_those_back_that_he_has(self) -> None:
        drive = Drive("ab")
        drive.effect.effects[1].lease.held = True
        assert kinds(drive.throw(asyncio.CancelledError())) == [Release]
        with pytest.raises(asyncio.CancelledError):
            drive.send([(None, None)])

    def test_who_is_cancelled_while_he_waits_leaves_all(self) -> None:
        other = taken("a")
        drive = Drive("ab")
        drive.claim(Claim.HELD)
        drive.send([None])
        with pytest.raises(asyncio.CancelledError):
            drive.throw(asyncio.CancelledError())
        other.flow.close()

    def test_one_who_is_interrupted_as_he_gives_back_lands_all_the_same(self) -> None:
        drive = taken("ab")
        flights = drive.effect.others
        drive.throw(ZeroDivisionError())
        with pytest.raises(KeyboardInterrupt):
            drive.throw(KeyboardInterrupt())
        assert all(one.landing in (FAILED, AGAIN) for one in flights)

    def test_one_that_is_dropped_gives_its_leases_up(self) -> None:
        drive = taken("ab")
        flights = drive.effect.others
        drive.flow.close()
        assert drive.given_up == ["a", "b"]
        assert [one.landing for one in flights] == [AGAIN, AGAIN]

    def test_a_store_that_is_down_is_survived(self) -> None:
        drive = Drive("ab")
        down = StoreError("down")
        assert kinds(drive.send([(None, down), (None, down)])) == [Lookup, Lookup]
        assert isinstance(drive.send([(None, down), (None, down)]), Call)
        assert kinds(drive.send(["A", "B"])) == [Save, Save]
        replies = drive.end(drive.send, [(None, down), (None, down)])
        assert [(one.value, one.entry) for one in replies] == [("A", None), ("B", None)]
        assert len(drive.reports) == 6

    def test_what_one_raises_waits_until_the_others_are_stored(self) -> None:
        def report(error: CachewrapError, source: str) -> None:
            raise error

        drive = Drive("ab", report=report)
        drive.claim(Claim.TAKEN, Claim.TAKEN)
        drive.send(["A", "B"])
        full = StoreError("full")
        saves = drive.effect.effects
        saves[1].lease.held = False
        assert kinds(drive.send([(None, full), (saves[1].value, None)])) == [Release]
        with pytest.raises(StoreError) as caught:
            drive.send([(None, None)])
        assert caught.value is full

    def test_an_error_keeps_nothing_alive(self) -> None:
        gc.collect()
        gc.disable()
        try:
            for error in (ZeroDivisionError(), KeyboardInterrupt()):
                drive = taken("ab")
                drive.throw(error)
                with pytest.raises(type(error)):
                    drive.send([(None, None)] * 2)
                del drive
            error = ZeroDivisionError()
            assert gc.collect() == 0
        finally:
            gc.enable()


# -- interleavings -------------------------------------------------------------------------------


class World:
    """A store, what upstream was asked, and the time: all that lists of several processes share."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.leases: dict[str, str] = {}
        self.failures: dict[str, float] = {}
        self.asked: list[str] = []
        self.now = 0.0

    def perform(self, effect: Effect[Any]) -> Any:
        if isinstance(effect, Lookup):
            return self.entries.get(effect.key)
        if isinstance(effect, Acquire):
            mine = effect.lease
            claim = Claim.TAKEN
            if mine.key in self.leases:
                claim = Claim.HELD
            elif self.failures.get(mine.key, -9.0) + 2 > self.now:
                claim = Claim.FAILED
            else:
                self.leases[mine.key] = mine.token
            mine.held = claim is Claim.TAKEN
            return claim, self.entries.get(effect.key)
        if isinstance(effect, Save):
            won = self.entries.setdefault(effect.key, effect.value)
            if effect.lease is not None and effect.lease.held:
                self.release(effect.lease.key, effect.lease.token)
                effect.lease.held = False
            return won
        assert isinstance(effect, Release)
        if effect.failed:
            self.failures[effect.key] = self.now
        return self.release(effect.key, effect.token)

    def release(self, key: str, token: str) -> None:
        if self.leases.get(key) == token:
            del self.leases[key]


class Caller:
    """One list of a process, whose steps are taken one at a time."""

    def __init__(self, world: World, process: str, names: Sequence[str], ends: str) -> None:
        self.world = world
        self.names = names
        self.ends = ends
        terms = Terms(place=process, report=self.report, lease_seconds=10.0, pairs=True)
        self.flow: Any = together([fetch(exchange(name), terms) for name in names])
        self.replies: list[Reply[Any]] | None = None
        self.error: BaseException | None = None
        self.calls = 0
        self.asked: list[str] = []
        self.begin(None)

    def report(self, error: CachewrapError, source: str) -> None:
        raise AssertionError("the store is well") from error

    def begin(self, result: Any, error: BaseException | None = None) -> None:
        """Take what the flow wants next."""
        self.done: list[Any] = []
        self.under_way = False
        self.runs = True
        try:
            self.effect = self.flow.send(result) if error is None else self.flow.throw(error)
        except StopIteration as stop:
            self.replies, self.effect = stop.value, None
        except (ZeroDivisionError, asyncio.CancelledError) as raised:
            self.error, self.effect = raised, None
        self.runs = False
        if isinstance(self.effect, (Sleep, WaitForAny)):
            self.until = self.world.now + max(self.effect.seconds, 0.0)

    def step(self) -> bool:
        """Take one step; False where there is nothing but to wait."""
        effect = self.effect
        if effect is None:
            return False
        if isinstance(effect, Together):
            self.done.append((self.world.perform(effect.effects[len(self.done)]), None))
            if len(self.done) == len(effect.effects):
                self.begin(self.done)
        elif isinstance(effect, Call):
            if not self.under_way:
                self.under_way = True
                self.asked = [self.names[number] for number in effect.given[0]]
                self.world.asked += self.asked
            else:
                self.calls += 1
                failed = ZeroDivisionError() if self.ends == "fails" and self.calls == 1 else None
                self.begin([f"answer to {name}" for name in self.asked], failed)
        elif isinstance(effect, WaitForAny):
            landings: list[Landing | None] = [
                one.landing if one._landed else None for one in effect.flights
            ]
            if landings == [None] * len(landings) and self.world.now < self.until:
                return False
            self.begin(landings)
        else:
            assert isinstance(effect, Sleep)
            if self.world.now < self.until:
                return False
            self.begin(None)
        return True

    def cancel(self) -> None:
        if self.effect is not None and self.ends == "is cancelled":
            self.ends = "was cancelled"
            self.begin(None, asyncio.CancelledError())


class Turns:
    """The order in which the steps of all are taken. A thread may lose its turn as it boards."""

    def __init__(self, turns: list[int]) -> None:
        self.world = World()
        self.callers: list[Caller] = []
        self._turns = iter(turns)

    def board(self, place: str, key: str) -> Any:
        turn = next(self._turns, 0)
        others = [one for one in self.callers if not one.runs and one.effect is not None]
        if others and turn % 2:
            others[turn // 2 % len(others)].step()
        return board(place, key)

    def run(self, asked: list[tuple[str, list[str], str]]) -> None:
        """Take the steps of all, until all have ended."""
        world = self.world
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(systems.clock, "now", lambda: world.now)
            patch.setattr(flow, "board", self.board)
            self.callers += [Caller(world, *one) for one in asked]
            while going := [one for one in self.callers if one.effect is not None]:
                turn = next(self._turns, None)
                if turn is not None:
                    one = going[turn % len(going)]
                    if turn // 7 % 5 == 0:
                        one.cancel()
                    if one.effect is None or one.step():
                        continue
                if not sum(one.step() for one in going):  # each takes one
                    world.now = min(one.until for one in going)
                # Nobody needs to give up: who waits for others is not waited for by them.
                assert world.now < 60
        assert (world.leases, _flights) == ({}, {})
        for one in self.callers:
            if one.replies is not None:
                answers = [reply.value for reply in one.replies]
                assert answers == [f"answer to {name}" for name in one.names]


turns = st.lists(st.integers(0, 1000), max_size=100)


def lists(*ends: str) -> st.SearchStrategy[list[tuple[str, list[str], str]]]:
    names = st.lists(st.sampled_from("abcde"), min_size=1, max_size=5, unique=True)
    process = st.sampled_from(["one process", "other process"])
    return st.lists(st.tuples(process, names, st.sampled_from(ends)), min_size=2, max_size=4)


@settings(max_examples=many(1000), deadline=None)
@given(asked=lists("well"), turns=turns)
def test_each_element_is_asked_once(
    asked: list[tuple[str, list[str], str]], turns: list[int]
) -> None:
    taken = Turns(turns)
    taken.run(asked)
    assert sorted(taken.world.asked) == sorted({name for _, names, _ in asked for name in names})
    assert all(one.replies is not None for one in taken.callers)


@settings(max_examples=many(1000), deadline=None)
@given(asked=lists("well", "fails", "is cancelled"), turns=turns)
def test_whoever_fails_or_leaves_keeps_nobody_back(
    asked: list[tuple[str, list[str], str]], turns: list[int]
) -> None:
    taken = Turns(turns)
    taken.run(asked)
    for one in taken.callers:
        assert (one.replies is None) is (one.error is not None)
        assert one.error is None or one.ends != "well"


def test_the_flights_are_those_of_single_requests() -> None:
    """A list and a call of one of its elements share what is asked."""
    drive = taken("a")
    boarded = board("here", "a")
    assert boarded is not None
    assert boarded[1] is False
    drive.flow.close()
