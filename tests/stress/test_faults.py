"""Faults: a store that is full, locked, damaged or read-only costs a warning and a miss."""

from __future__ import annotations

import multiprocessing
import random
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from standin import Upstream

from cachewrap import Cache, CacheWarning
from cachewrap.stores import breaker
from cachewrap.stores.base import Store
from cachewrap.testing.servers import redis_server
from stress import actors
from stress.conftest import Figures

SPAWN = multiprocessing.get_context("spawn")
BIG = "x" * 100_000


def ask_all(cache: Cache, up: Upstream, prompts: list[str], figures: Figures) -> float:
    """Ask each prompt once, and judge the answers; the seconds of the slowest call."""
    longest, errors = 0.0, 0
    with cache:
        for prompt in prompts:
            began = time.monotonic()
            try:
                assert f"“{prompt[:20]}" in actors.complete(prompt, up.base_url)
            except Exception:
                errors += 1
            longest = max(longest, time.monotonic() - began)
    figures.add(calls=len(prompts), errors_seen_by_callers=errors)
    figures.most(longest_call_in_seconds=longest)
    assert errors == 0
    return longest


def test_damaged_entries(cache: Cache, up: Upstream, rounds: int, figures: Figures) -> None:
    """Bits that flipped, entries that were cut short, and bytes that are nobody's."""
    chance = random.Random(rounds)
    prompts = [f"prompt {number}" for number in range(20)]
    for _ in range(2 * rounds):
        ask_all(cache, up, prompts, figures)
        damaged = 0
        for key in list(cache._store.keys()):
            raw = bytearray(cache._store.get(key) or b"")
            damage = chance.randrange(4)
            if damage == 0:
                raw[chance.randrange(48)] ^= 1 << chance.randrange(8)
            elif damage == 1:
                del raw[chance.randrange(len(raw)) :]
            elif damage == 2:
                raw[:] = chance.randbytes(chance.randrange(200))
            damaged += damage < 3
            cache._store.set(key, bytes(raw))
        before = up.calls
        with pytest.warns(CacheWarning) if damaged else pytest.MonkeyPatch.context():
            _forget()
            ask_all(cache, up, prompts, figures)
        figures.add(entries_damaged=damaged, asked_again=up.calls - before)
        assert up.calls - before == damaged


@pytest.mark.stores("redis")
def test_a_full_redis(up: Upstream, figures: Figures) -> None:
    with redis_server(password="mine") as server:  # one of its own, which may be filled
        client: Any = redis.Redis.from_url(server.url)
        cache = Cache.redis(redis_url=server.url)
        ask_all(cache, up, ["before"], figures)
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", used + 1000)
        with pytest.warns(CacheWarning, match="maxmemory"):
            ask_all(cache, up, [f"{number} {BIG}" for number in range(5)], figures)
        before = up.calls
        ask_all(cache, up, ["before"], figures)
        assert up.calls == before
        client.config_set("maxmemory", 0)
        ask_all(cache, up, ["after", "after"], figures)
        assert up.calls == before + 1
        client.close()


@pytest.mark.stores("redis")
def test_a_redis_that_takes_no_writes(up: Upstream, figures: Figures) -> None:
    with redis_server(password="mine") as server:
        cache = Cache.redis(redis_url=server.url)
        ask_all(cache, up, ["before"], figures)
        client: Any = redis.Redis.from_url(server.url)
        client.replicaof("127.0.0.1", 1)  # whose master is never there
        before = up.calls
        with pytest.warns(CacheWarning, match="ReadOnlyError"):
            ask_all(cache, up, ["before", "during", "before"], figures)
        assert up.calls == before + 1
        client.close()


def _with_little_room(store: Store, base_url: str, told: Any) -> None:
    """Ask in a process whose files may not grow beyond some bytes, as on a disk that is full."""
    import resource
    import signal
    import warnings

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
    chance = random.Random(0)
    errors = 0
    with warnings.catch_warnings(record=True) as caught, Cache(store):
        warnings.simplefilter("always")
        for number in range(20):
            noise = chance.randbytes(100_000).hex()
            try:
                assert f"“{number} " in actors.complete(f"{number} {noise}", base_url)
            except Exception:
                errors += 1
        warned = sum(issubclass(one.category, CacheWarning) for one in caught)
    told.send((errors, warned))


@pytest.mark.stores("disk")
def test_a_full_disk(tmp_path: Path, up: Upstream, figures: Figures) -> None:
    cache = Cache.disk(cache_path_root=tmp_path)
    ask_all(cache, up, ["before"], figures)
    ours, theirs = SPAWN.Pipe(duplex=False)
    caller = SPAWN.Process(target=_with_little_room, args=(cache._store, up.base_url, theirs))
    caller.start()
    errors, warned = ours.recv()
    caller.join()
    figures.add(calls=20, errors_seen_by_callers=errors)
    assert (errors, caller.exitcode) == (0, 0)
    assert warned == 1
    before = up.calls
    ask_all(cache, up, ["before", "after", "after"], figures)
    assert up.calls == before + 1


@pytest.mark.stores("disk")
def test_a_locked_disk(tmp_path: Path, up: Upstream, figures: Figures) -> None:
    """Another program keeps the database to itself: reads give up after a second."""
    cache = Cache.disk(cache_path_root=tmp_path, single_flight=False)
    ask_all(cache, up, ["before"], figures)
    other = sqlite3.connect(tmp_path / "41" / "cache.db", isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    other.execute("UPDATE Cache SET tag = 'x'")
    with pytest.warns(CacheWarning, match="kept it locked"):
        ask_all(cache, up, ["before"], figures)
    other.execute("ROLLBACK")
    other.close()
    breaker.forget()
    before = up.calls
    ask_all(cache, up, ["before"], figures)
    assert up.calls == before


def _forget() -> None:
    from cachewrap.telemetry import events

    events.forget()
