"""Once across processes: a lease in the store lets one of them go upstream for all."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import elsewhere
import pytest
from elsewhere import Stage

from cachewrap import Cache
from cachewrap.stores.base import Store

SPAWN = multiprocessing.get_context("spawn")

pytestmark = pytest.mark.shared


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage of the test's own; what still waits on it afterwards is let go."""
    folder = tmp_path / "stage"
    folder.mkdir()
    stage = Stage(folder)
    yield stage
    stage.note("answer")


@pytest.fixture
def shared(store: Store) -> Cache:
    """A cache that other processes reach; what a killed one held is taken over after a second."""
    return Cache(store, lease_seconds=1.0)


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Eight processes, started once: each takes one of eight calls that wait for each other."""
    with ProcessPoolExecutor(8, mp_context=SPAWN) as running:
        yield running


def test_eight_processes_make_one_call(
    shared: Cache, stage: Stage, pool: ProcessPoolExecutor
) -> None:
    asked = [pool.submit(elsewhere.ask, shared, "hi", stage) for _ in range(8)]
    stage.until("asked", 8)
    stage.until("call")
    stage.note("answer")
    assert len({future.result(60) for future in asked}) == 1
    assert stage.count("call") == 1


def test_fifty_tasks_in_each_of_four_processes_make_one_call(
    shared: Cache, stage: Stage, pool: ProcessPoolExecutor
) -> None:
    asked = [pool.submit(elsewhere.ask_fifty, shared, "hi", stage) for _ in range(4)]
    stage.until("asked", 4)
    stage.until("call")
    stage.note("answer")
    answers = [answer for future in asked for answer in future.result(60)]
    assert (len(answers), len(set(answers)), stage.count("call")) == (200, 1, 1)


def test_lists_that_overlap_ask_for_each_element_once(
    shared: Cache, stage: Stage, pool: ProcessPoolExecutor
) -> None:
    """None of them waits for what another has before its own call is made."""
    lists = [["a", "b", "c"], ["c", "d", "a"], ["d", "c", "b", "e"], ["e", "a", "f"]]
    asked = [pool.submit(elsewhere.ask_list, shared, texts, stage) for texts in lists]
    stage.until("asked", 4)
    stage.until("call")
    stage.note("answer")
    for texts, future in zip(lists, asked, strict=True):
        assert future.result(60) == [f"answer to {text}" for text in texts]
    assert {text: stage.count(f"call {text}") for text in "abcdef"} == dict.fromkeys("abcdef", 1)


def test_when_the_leader_fails_the_others_go_upstream_at_once(
    shared: Cache, stage: Stage, pool: ProcessPoolExecutor
) -> None:
    leader = pool.submit(elsewhere.ask, shared, "fails", stage)
    stage.until("call")
    waiters = [pool.submit(elsewhere.ask, shared, "fails", stage) for _ in range(3)]
    stage.until("asked", 4)
    stage.note("fail")
    with pytest.raises(ConnectionError):
        leader.result(60)
    # None of them waits for another: all three are upstream before one has an answer.
    stage.until("call", 4)
    stage.note("answer")
    assert len({future.result(60) for future in waiters}) == 1


def _run(*args: Any) -> BaseProcess:
    process = SPAWN.Process(target=elsewhere.ask, args=args)
    process.start()
    return process


def test_the_call_of_a_killed_process_is_taken_over(shared: Cache, stage: Stage) -> None:
    leader = _run(shared, "hi", stage)
    stage.until("call")
    waiter = _run(shared, "hi", stage)
    stage.until("asked", 2)
    assert leader.pid is not None
    leader.kill()
    leader.join()
    stage.until("call", 2, seconds=15)
    stage.note("answer")
    waiter.join(60)
    assert waiter.exitcode == 0
    assert shared.get(elsewhere.complete.cache_key("hi", stage)) == f"hi {waiter.pid}"


def test_a_lease_outlives_its_seconds_while_its_owner_lives(shared: Cache, stage: Stage) -> None:
    leader = _run(shared, "hi", stage)
    stage.until("call")
    waiter = _run(shared, "hi", stage)
    stage.until("asked", 2)
    with pytest.raises(AssertionError, match="1 of 2 call"):
        stage.until("call", 2, seconds=3 * shared.policy.lease_seconds)
    stage.note("answer")
    for process in (leader, waiter):
        process.join(60)
        assert process.exitcode == 0
    assert stage.count("call") == 1


@pytest.mark.posix("forks")
def test_a_forked_child_does_not_hold_its_parents_lease(shared: Cache, stage: Stage) -> None:
    """The child lives on when the parent, which leads, is killed."""
    leader = SPAWN.Process(target=elsewhere.ask_and_fork, args=(shared, "hi", stage))
    leader.start()
    stage.until("forked")
    waiter = _run(shared, "hi", stage)
    stage.until("asked", 2)
    assert leader.pid is not None
    leader.kill()
    leader.join()
    stage.until("call", 2, seconds=15)
    stage.note("answer")
    waiter.join(60)
    assert waiter.exitcode == 0


AT_EXIT = """
import asyncio, atexit, pickle, sys
from cachewrap import llm_cached

with open(sys.argv[1], "rb") as file:
    cache = pickle.load(file)

@llm_cached(cache=cache)
def ask(prompt):
    return prompt.upper()

@llm_cached(cache=cache)
async def aask(prompt):
    return prompt.upper()

@atexit.register
def last():
    print(ask("hi"), ask("hi"), asyncio.run(aask("ho")), asyncio.run(aask("ho")), cache.stats.hits)
"""


def test_calls_are_answered_and_stored_while_the_interpreter_ends(
    shared: Cache, tmp_path: Path
) -> None:
    (tmp_path / "pickled").write_bytes(pickle.dumps(shared))
    program = [sys.executable, "-c", AT_EXIT, str(tmp_path / "pickled")]
    run = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.split() == ["HI", "HI", "HO", "HO", "2"], run.stderr
