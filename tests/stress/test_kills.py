"""Kills: what a killed caller, writer or server costs everybody else."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from standin import Upstream

from cachewrap import Cache, StoreError
from cachewrap.stores.base import Store
from cachewrap.testing.servers import RedisNodes, redis_cluster, redis_sentinel, redis_server
from stress import actors
from stress.conftest import Figures

SPAWN = multiprocessing.get_context("spawn")


def started(*args: Any) -> Any:
    process = SPAWN.Process(target=actors.ask, args=args)
    process.start()
    return process


@pytest.mark.shared
def test_killed_leaders(store: Store, rounds: int, figures: Figures) -> None:
    """Those who waited for a process that was killed are answered by one call more."""
    cache = Cache(store, lease_seconds=1.0)
    never = threading.Event()
    for number in range(rounds):
        with Upstream() as up, ThreadPoolExecutor(4) as waiting:
            up.once(gate=never)
            prompt = f"leader {number}"
            leader = started(cache, prompt, up.base_url)
            up.wait_for(1, 60)
            asked = [waiting.submit(actors.ask, cache, prompt, up.base_url) for _ in range(4)]
            time.sleep(0.2)  # they wait for the lease
            leader.kill()
            killed = time.monotonic()
            answers = {one.result(60) for one in asked}
            leader.join()
            figures.add(kills=1, upstream_calls=up.calls, answers=len(answers))
            figures.most(longest_take_over_in_seconds=time.monotonic() - killed)
            assert (up.calls, len(answers)) == (2, 1)


@pytest.mark.shared
def test_killed_writers(store: Store, rounds: int, figures: Figures) -> None:
    """A write that has returned is there after its process was killed at any instant."""
    chance = random.Random(rounds)
    told = 0
    for _ in range(4 * rounds):
        ours, theirs = SPAWN.Pipe(duplex=False)
        writer = SPAWN.Process(target=actors.write, args=(store, told, theirs))
        writer.start()
        theirs.close()
        told = ours.recv() + 1
        killing = threading.Timer(chance.random() * 0.3, writer.kill)
        killing.start()
        with suppress(EOFError):  # it is gone
            while True:
                told = ours.recv() + 1
        killing.join()
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
        figures.add(kills=1)
    cache = Cache(store, on_error="raise")
    lost = [
        number for number in range(told) if cache.get(f"number {number}") != actors.value_of(number)
    ]
    figures.add(writes_returned=told, entries_lost=len(lost))
    assert lost == []


class Load:
    """Callers of both colours who ask all the time, of whom none may see an error.

    Attributes:
        calls: how many calls have returned.
        errors: what came out of calls.
        longest: the seconds of the slowest call.
        kept: the answers of each prompt, in their order.
    """

    def __init__(self, cache: Cache, up: Upstream) -> None:
        self.cache = cache
        self.up = up
        self.calls = 0
        self.errors: list[BaseException] = []
        self.longest = 0.0
        self._ends = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        callers = [threading.Thread(target=self._ask, args=(number,)) for number in range(4)]
        callers.append(threading.Thread(target=self._ask_async))
        for caller in callers:
            caller.start()
        try:
            yield
        finally:
            self._ends.set()
            for caller in callers:
                caller.join()

    def _prompt(self, number: int, turn: int) -> str:
        return f"load {number} {turn % 40}"

    def _note(self, prompt: str, answer: str, began: float) -> None:
        self.longest = max(self.longest, time.monotonic() - began)
        self.calls += 1
        if f"“{prompt}”" not in answer:
            self.errors.append(AssertionError(f"{prompt} was answered with {answer}"))

    def _ask(self, number: int) -> None:
        turn = 0
        with self.cache:
            while not self._ends.is_set():
                turn, began = turn + 1, time.monotonic()
                prompt = self._prompt(number, turn)
                try:
                    self._note(prompt, actors.complete(prompt, self.up.base_url), began)
                except BaseException as error:
                    self.errors.append(error)

    def _ask_async(self) -> None:
        async def one(number: int) -> None:
            turn = 0
            while not self._ends.is_set():
                turn, began = turn + 1, time.monotonic()
                prompt = self._prompt(number, turn)
                try:
                    self._note(prompt, await actors.acomplete(prompt, self.up.base_url), began)
                except BaseException as error:
                    self.errors.append(error)

        async def all_tasks() -> None:
            async with self.cache:
                await asyncio.gather(*(one(number) for number in range(100, 104)))

        asyncio.run(all_tasks())


@pytest.mark.stores("redis")
@pytest.mark.filterwarnings("ignore::cachewrap.CacheWarning")
def test_killed_redis_servers(rounds: int, figures: Figures) -> None:
    """A server that dies and comes back empty, under load."""
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder, Upstream(delay=0.005) as up:
            path = f"{folder}/socket"
            with redis_server(unixsocket=path) as server:
                cache = Cache.redis(redis_url=server.url, breaker_seconds=0.3)
                load = Load(cache, up)
                with load.running():
                    time.sleep(0.5)
                    server.stop()
                    time.sleep(0.5)
                    with redis_server(unixsocket=path):
                        _until_it_stores(cache)
                        time.sleep(0.5)
            figures.add(kills=1, calls=load.calls, errors_seen_by_callers=len(load.errors))
            figures.most(longest_call_in_seconds=load.longest)
            assert load.errors == []
            assert load.calls > 100


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: redis_cluster(replicas=1), marks=pytest.mark.stores("cluster")),
        pytest.param(redis_sentinel, marks=pytest.mark.stores("sentinel")),
    ],
    ids=["cluster", "sentinel"],
)
@pytest.mark.filterwarnings("ignore::cachewrap.CacheWarning")
def test_killed_masters(make: Callable[[], Any], rounds: int, figures: Figures) -> None:
    """A master that is killed and replaced, under load."""
    for _ in range(rounds):
        with make() as nodes, Upstream(delay=0.005) as up:
            _kill_a_master(nodes, up, figures)


def _kill_a_master(nodes: RedisNodes, up: Upstream, figures: Figures) -> None:
    cache = Cache.redis(redis_url=nodes.url, breaker_seconds=0.3)
    before = {f"before {number}": number for number in range(200)}
    for key, value in before.items():
        cache.set(key, value)
    load = Load(cache, up)
    with load.running():
        time.sleep(0.7)  # replicas hold what was written above
        nodes.nodes[0].stop()
        killed = time.monotonic()
        _until_it_stores(cache)
        replaced = time.monotonic() - killed
        time.sleep(1.0)
    lost = [key for key, value in before.items() if cache.get(key) != value]
    figures.add(
        kills=1,
        calls=load.calls,
        errors_seen_by_callers=len(load.errors),
        entries=len(before),
        entries_lost=len(lost),
    )
    figures.most(longest_call_in_seconds=load.longest, replaced_after_seconds=replaced)
    assert load.errors == []
    assert lost == []


def _until_it_stores(cache: Cache) -> None:
    """Wait until every part of the server takes writes again; nothing tells of it."""
    other = cache.reseed("probe")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            for number in range(50):
                other._store.set(f"{number:064x}", b"probe")
            return
        except StoreError:
            time.sleep(0.05)
    raise AssertionError("the server did not come back")
