"""Stores that are slow, locked or hostile, and forks while locks are held: the longest wait."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from stalling import Line, Listener
from standin import Upstream

from cachewrap import Cache, llm_cached, systems
from cachewrap.stores import breaker
from cachewrap.stores.base import Store
from cachewrap.testing.stores import key_of
from stress import actors
from stress.conftest import Figures

STORE_SECONDS = 0.5
BOUND = 5 * STORE_SECONDS + 1.0
"""A call looks twice, takes a lease and writes. Of each one waits, and then all are left alone."""


def hold_database(path: str, held: Any, done: Any) -> None:
    con = sqlite3.connect(path, isolation_level=None)
    con.execute("PRAGMA locking_mode = EXCLUSIVE")
    con.execute("BEGIN EXCLUSIVE")
    con.execute("CREATE TABLE IF NOT EXISTS other (a)")
    held.set()
    done.wait()


def hold_cassette(path: str, held: Any, done: Any) -> None:
    file = systems.open_file(path, os.O_RDWR | os.O_CREAT, 0o600)
    with systems.locked(file, alone=True):
        held.set()
        done.wait()


@contextmanager
def locked(hold: Callable[..., None], path: Path) -> Iterator[None]:
    """Another process that keeps the lock."""
    spawn = multiprocessing.get_context("spawn")
    held, done = spawn.Event(), spawn.Event()
    path.parent.mkdir(parents=True, exist_ok=True)
    process = spawn.Process(target=hold, args=(str(path), held, done))
    process.start()
    assert held.wait(60)
    try:
        yield
    finally:
        done.set()
        process.join()


def trickle(one: socket.socket) -> None:
    """Greet, and then answer byte by byte, for ever."""
    while data := one.recv(2**16):
        if b"SETINFO" in data or b"SELECT" in data:
            one.sendall(b"+OK\r\n" * data.count(b"*"))
            continue
        one.sendall(b"$100000\r\n")
        while True:
            one.sendall(b"x")
            time.sleep(0.05)


@contextmanager
def slow(kind: str, folder: Path) -> Iterator[Cache]:
    """A cache whose store keeps everybody waiting."""
    if kind == "disk":
        with locked(hold_database, folder / "41" / "cache.db"):
            yield Cache.disk(cache_path_root=folder, store_seconds=STORE_SECONDS)
    elif kind == "cassette":
        with locked(hold_cassette, folder / "answers.jsonl"):
            yield Cache.jsonl(folder / "answers.jsonl", store_seconds=STORE_SECONDS)
    else:
        with Listener(trickle) as server:
            url = f"redis://127.0.0.1:{server.port}/0"
            yield Cache.redis(redis_url=url, store_seconds=STORE_SECONDS)


@pytest.mark.parametrize("kind", ["disk", "cassette", "redis that trickles"])
@pytest.mark.filterwarnings("ignore::cachewrap.CacheWarning")
def test_a_store_that_keeps_everybody_waiting(
    kind: str, tmp_path: Path, up: Upstream, rounds: int, figures: Figures
) -> None:
    """Every caller has his answer, soon; after the first ones nobody waits."""
    waits: list[float] = []
    with slow(kind, tmp_path) as cache:

        def call(number: int) -> None:
            began = time.monotonic()
            with cache:
                assert actors.complete(f"prompt {number}", up.base_url)
            waits.append(time.monotonic() - began)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(4 * rounds)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        later = len(waits)
        for number in range(4 * rounds):
            call(1000 + number)
    figures.add(calls=len(waits))
    figures.most(longest_call_in_seconds=max(waits), longest_later_call=max(waits[later:]))
    assert len(waits) == 8 * rounds
    assert max(waits) < BOUND
    assert max(waits[later:]) < 1.0


@pytest.mark.stores("redis")
@pytest.mark.filterwarnings("ignore::cachewrap.CacheWarning")
@pytest.mark.parametrize("pace", [0.5, 0.1], ids=["in time", "too slow"])
def test_large_values_over_a_slow_line(
    redis_url: str, up: Upstream, rounds: int, figures: Figures, pace: float
) -> None:
    """They have the time that they take, or are left alone; what is small is served meanwhile."""
    large = 2**22
    answers: list[str] = []
    with Line(redis_url, float("inf")) as line:
        cache = Cache.redis(redis_url=line.url, namespace="slow line", store_seconds=2.0)

        @llm_cached
        def ask(number: int) -> str:
            return os.urandom(large // 2).hex()

        def write(number: int) -> None:
            with cache:
                answers.append(ask(number))

        small = timed(lambda: actors.ask(cache, "small", up.base_url))
        line.pace = large * pace
        writing = threading.Thread(target=lambda: [write(number) for number in range(2 * rounds)])
        hits: list[float] = []
        began = time.monotonic()
        writing.start()
        while writing.is_alive():
            hits.append(timed(lambda: actors.ask(cache, "small", up.base_url)))
            time.sleep(0.05)
        line.pace = float("inf")
        breaker.forget()
        stored = len(list(cache._store.keys()))
        cache.clear()
        cache.close()
    figures.add(large_values=len(answers), stored=stored - 1, hits=len(hits))
    figures.most(longest_hit_meanwhile=max(hits), longest_of_all_writes=time.monotonic() - began)
    assert up.calls == 1
    assert max(hits) < small + 5
    assert len(answers) == 2 * rounds
    assert stored - 1 == (len(answers) if pace == 0.5 else 0)


def timed(call: Callable[[], object]) -> float:
    """The seconds that it takes."""
    began = time.monotonic()
    call()
    return time.monotonic() - began


@pytest.mark.posix("forks")
@pytest.mark.store
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forks_of_a_busy_process(store: Store, rounds: int, figures: Figures) -> None:
    """A child works at once, whatever lock a thread of its parent had."""
    store.set(key_of(1), b"answer")
    stops = threading.Event()

    def work(number: int) -> None:
        while not stops.is_set():
            store.set(key_of(number), b"answer")
            store.get(key_of(number))
            store.delete(key_of(number))
            store.close()

    def child() -> None:
        assert store.get(key_of(1)) == b"answer"
        store.set(key_of(os.getpid()), b"answer")
        store.delete(key_of(os.getpid()))
        store.close()

    fork = multiprocessing.get_context("fork")
    threads = [threading.Thread(target=work, args=(number,)) for number in (100, 200, 300)]
    for thread in threads:
        thread.start()
    longest = 0.0
    try:
        for _ in range(20 * rounds):
            began = time.monotonic()
            process = fork.Process(target=child)
            process.start()
            process.join(30)
            longest = max(longest, time.monotonic() - began)
            if process.exitcode is None:
                process.kill()
            assert process.exitcode == 0
    finally:
        stops.set()
        for thread in threads:
            thread.join()
    figures.add(forks=20 * rounds)
    figures.most(longest_child_in_seconds=longest)
