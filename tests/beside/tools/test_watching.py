"""Tools that watch calls, beside the cache: each, in both orders, and with either undone first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from multiprocessing.pool import AsyncResult
from typing import Any

import pytest
from http_libraries.web import WEBS

from beside.tools.case import FIVE, ORDERS, Facts, Table, run
from beside.tools.conftest import Start
from beside.tools.kinds import Tool
from beside.tools.watching import TOOLS, installed

INSTALLED = {name: tool for name, tool in TOOLS.items() if installed(tool)}


class Cases:
    """The facts of every case, each of a process of its own; both orders of a tool run at once."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._running: dict[tuple[str, str, str], AsyncResult[Facts]] = {}

    def facts(self, name: str, order: str, side: str) -> Facts:
        for one in ORDERS:
            case = (name, one, side)
            if case not in self._running:
                self._running[case] = self._start(run, *case)
        return self._running[name, order, side].get(timeout=150)


@pytest.fixture(scope="module")
def cases(start: Start) -> Cases:
    return Cases(start)


@dataclass
class Case:
    """One tool in one order beside the SDK or the HTTP libraries, and what is to be expected.

    Args:
        facts: what was seen.
        alone: what the tool sees without the cache.
    """

    tool: type[Tool]
    side: str
    facts: Facts
    alone: Table

    @property
    def requests(self) -> int:
        """The requests of one ask: over an HTTP library a whole one and a stream."""
        return 1 if self.side == "sdk" else 2

    def watched(self, table: Table) -> dict[str, Counter[str]]:
        """What the tool is to see in each of these ways, beside the cache."""
        return {way: self._watched(way) for way in table}

    def _watched(self, way: str) -> Counter[str]:
        seen = self.alone[way].saw
        if way.partition(" ")[2] in self.tool.once:
            return Counter({what: count // FIVE for what, count in seen.items()})
        # What stands in a request is a connection.
        of_five = {"http in outer": self.tool.http.get(way, 1) if self.side == "http" else 1}
        return Counter(
            {
                what: count * of_five.get(what, 1) // FIVE if what.startswith("http") else count
                for what, count in seen.items()
            }
        )


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest, cases: Cases) -> Case:
    name, order, side = request.param
    facts, alone = cases.facts(name, order, side), cases.facts(name, ORDERS[0], side).alone
    return Case(TOOLS[name], side, facts, alone)


def each(side: str, orders: tuple[str, ...] = ORDERS) -> pytest.MarkDecorator:
    """A test over every tool that sees something there, in each of these orders."""
    return pytest.mark.parametrize(
        "case",
        [
            pytest.param((name, order, side), id=f"{name}-{order}")
            for name, tool in INSTALLED.items()
            if (tool.ways or "httpx" in tool.http if side == "sdk" else tool.http)
            for order in orders
        ],
        indirect=True,
        scope="module",
    )


def upstream(table: Table) -> dict[str, Any]:
    """The upstream calls of each way, or what was raised."""
    return {way: seen.error or seen.upstream for way, seen in table.items()}


def saw(table: Table) -> dict[str, Counter[str]]:
    """What the tool saw in each way."""
    return {way: seen.saw for way, seen in table.items()}


class Facing:
    """What holds for a tool beside the cache, wherever the cache steps in."""

    def test_five_equal_calls_are_one_upstream_call(self, case: Case) -> None:
        assert upstream(case.facts.both) == dict.fromkeys(case.facts.both, case.requests)

    def test_their_answers_are_equal(self, case: Case) -> None:
        assert [way for way, seen in case.facts.both.items() if not seen.equal] == []

    def test_the_tool_sees_what_it_wraps_hit_or_miss(self, case: Case) -> None:
        assert saw(case.facts.both) == case.watched(case.facts.both)

    def test_replay_refuses_what_is_not_stored_and_sends_nothing(self, case: Case) -> None:
        assert case.facts.refused == dict.fromkeys(case.facts.refused, (True, 0))

    def test_nothing_that_steers_the_cache_comes_to_the_upstream(self, case: Case) -> None:
        assert case.facts.leaks == []

    def test_the_tool_alone_is_as_before_once_ours_is_undone(self, case: Case) -> None:
        five = dict.fromkeys(case.facts.ours_undone, FIVE * case.requests)
        assert upstream(case.facts.ours_undone) == five
        assert saw(case.facts.ours_undone) == {way: case.alone[way].saw for way in five}

    def test_ours_alone_serves_once_the_tool_is_undone(self, case: Case) -> None:
        undone = case.facts.tool_undone
        if case.tool.undoes:
            assert saw(undone) == {way: Counter() for way in undone}
        assert upstream(undone) == dict.fromkeys(undone, case.requests)

    def test_the_patch_once_more_repairs_what_the_undoing_took(self, case: Case) -> None:
        repaired = case.facts.repaired
        assert upstream(repaired) == dict.fromkeys(repaired, case.requests)

    def test_the_tool_switched_on_again_sees_what_it_wraps(self, case: Case) -> None:
        again = case.facts.tool_again
        assert upstream(again) == dict.fromkeys(again, case.requests)
        if case.tool.undoes:
            assert saw(again) == case.watched(again)

    def test_undone_all_is_as_before(self, case: Case) -> None:
        assert case.facts.left == {key: [] for key in case.facts.left}


@each("sdk")
class TestBesideTheSdk(Facing):
    def test_a_seed_of_its_own_is_another_call(self, case: Case) -> None:
        if case.tool.signed:
            pytest.skip("it refuses what is not in the SDK's own signature")
        assert case.facts.steered == {key: [1, 1, 0] for key in case.facts.steered}


@each("http")
class TestBesideHttpLibraries(Facing):
    pass


@each("sdk", orders=ORDERS[:1])
def test_a_tool_sees_the_calls_of_these_ways_by_itself(case: Case) -> None:
    watched = {
        way.partition(" ")[2]
        for way, seen in case.alone.items()
        if sum(count for what, count in seen.saw.items() if what.startswith("call")) >= FIVE
    }
    assert watched == case.tool.ways


@each("http", orders=ORDERS[:1])
def test_a_tool_sees_the_requests_of_these_libraries_by_itself(case: Case) -> None:
    assert case.alone.keys() == {library for library in case.tool.http if library in WEBS}
    for seen in case.alone.values():
        assert seen.saw["http in outer"] == 2 * FIVE
