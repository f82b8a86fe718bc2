"""Streams under leases: crowds of processes, and what befalls the one that asks for all."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import elsewhere
import pytest
from standin import Upstream

from cachewrap import Cache
from cachewrap.stores.base import Claim, Store
from stress.conftest import Figures

SPAWN = multiprocessing.get_context("spawn")
WAIT = 120.0

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(4, mp_context=SPAWN) as running:
        yield running


class Watch:
    """The leases of a store, as a process of its own meets them."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self._asked = 0

    def are_free(self) -> bool:
        """Whether no key of the store has one, soon."""
        end = time.monotonic() + WAIT
        for key in self.store.keys():
            while (claim := self._claim(key)) is not Claim.TAKEN:
                if time.monotonic() > end:
                    return False
                time.sleep(0.01 if claim is Claim.HELD else 0.1)
        return True

    def _claim(self, key: str) -> Claim:
        self._asked += 1
        token = f"watch-{self._asked}"
        claim: Claim = self.store.acquire(key, token, 60.0)
        if claim is Claim.TAKEN:
            self.store.release(key, token)
        return claim


def crowd(pool: ProcessPoolExecutor, cache: Cache, up: Upstream, prompt: str) -> list[Future[Any]]:
    return [pool.submit(elsewhere.stream_four, cache, up.base_url, prompt) for _ in range(4)]


def test_streams_of_four_processes(
    store: Store, up: Upstream, pool: ProcessPoolExecutor, rounds: int, figures: Figures
) -> None:
    """Sixteen tasks in four processes that ask for one stream make one call."""
    cache = Cache(store, stream_leases=True)
    up.behave(gap=0.001)
    for number in range(5 * rounds):
        before = up.calls
        asked = crowd(pool, cache, up, f"crowd {number}")
        answers = {answer for one in asked for answer in one.result(WAIT)}
        figures.add(rounds=1, upstream_calls=up.calls - before)
        assert (len(answers), up.calls - before) == (1, 1)
    assert Watch(store).are_free()


def kill(leader: Any, stage: elsewhere.Stage, pause: threading.Event) -> None:
    leader.kill()


def leave(leader: Any, stage: elsewhere.Stage, pause: threading.Event) -> None:
    stage.note("leave")


def cut(leader: Any, stage: elsewhere.Stage, pause: threading.Event) -> None:
    pause.set()


def test_what_befalls_a_leader(
    store: Store,
    up: Upstream,
    pool: ProcessPoolExecutor,
    rounds: int,
    figures: Figures,
    tmp_path: Path,
) -> None:
    """He is killed, leaves, or his upstream breaks: the others are answered, and no lease stays."""
    chance = random.Random(rounds)
    cache = Cache(store, stream_leases=True, lease_seconds=1.0)
    ends: list[Callable[..., None]] = [kill, leave, cut]
    for number in range(3 * rounds):
        end, prompt = ends[number % 3], f"leader {number}"
        stage = elsewhere.Stage(tmp_path / str(number))
        stage.folder.mkdir()
        pause, before = threading.Event(), up.calls
        up.once(pause=pause, pause_after=2, **({"cut_after": 3} if end is cut else {}))
        args = cache, up.base_url, prompt, stage
        reads_on = end is cut  # who reads nothing sees no end
        leader = SPAWN.Process(target=elsewhere.stream_and_leave, args=(*args, reads_on))
        leader.start()
        up.wait_for(before + 1, WAIT)
        asked = crowd(pool, cache, up, prompt)
        time.sleep(chance.random())
        end(leader, stage, pause)
        ended = time.monotonic()
        answers = {answer for one in asked for answer in one.result(WAIT)}
        took = time.monotonic() - ended
        stage.note("leave")
        leader.join()
        pause.set()
        calls = up.calls - before - 1
        figures.add(leaders=1, calls_more=calls)
        figures.most(longest_wait_in_seconds=took)
        assert took < 15.0  # of which the processes took some to start
        assert 1 <= calls <= (16 if end is cut else 1)
        assert 1 <= len(answers) <= calls
    assert Watch(store).are_free()
