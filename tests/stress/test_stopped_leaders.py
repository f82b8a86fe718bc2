"""Leaders that live and do not go on: how long everybody else waits for them."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import pytest
from standin import Upstream

from cachewrap import Cache
from cachewrap.stores.base import Store
from stress import actors
from stress.conftest import Figures

SPAWN = multiprocessing.get_context("spawn")
LEASE = 1.0
"""Seconds that a lease outlives its last renewal, and an event loop may be stopped."""
LATEST = 20.0
"""Seconds within which all are answered, on a machine that has other things to do."""
WAIT = 60.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What an upstream waits for; it is open afterwards."""
    gate = threading.Event()
    yield gate
    gate.set()


@contextmanager
def leading(work: Callable[..., None], *args: Any) -> Iterator[tuple[Any, Connection]]:
    """Another process that makes a call, and what it tells; it is killed at the end."""
    told, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=work, args=(*args, theirs))
    process.start()
    theirs.close()
    try:
        yield process, told
    finally:
        process.kill()
        process.join()


async def called(up: Upstream, calls: int) -> None:
    """Let tasks go on until so many calls have come."""
    async with asyncio.timeout(WAIT):
        while up.calls < calls:
            await asyncio.sleep(0.001)


def threads(cache: Cache, prompt: str, up: Upstream) -> set[str]:
    """What eight threads get who ask now."""
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(actors.ask, cache, prompt, up.base_url) for _ in range(8)]
        return {one.result(WAIT) for one in asked}


def loops(cache: Cache, prompt: str, up: Upstream) -> set[str]:
    """What the tasks of four event loops get who ask now, two in each."""
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(actors.ask_many, 2, cache, prompt, up.base_url) for _ in range(4)]
        return {answer for one in asked for answer in one.result(WAIT)}


def followed(
    by: Callable[[Cache, str, Upstream], set[str]],
    cache: Cache,
    prompt: str,
    up: Upstream,
    figures: Figures,
) -> str:
    """The one answer that all get who ask now; how long that took is noted."""
    began = time.monotonic()
    (answer,) = by(cache, prompt, up)
    taken = time.monotonic() - began
    figures.add(times=1)
    figures.most(longest_wait_in_seconds=taken)
    assert taken < LATEST
    return answer


@pytest.mark.shared
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no process can be stopped here")
def test_stopped_processes(
    store: Store, up: Upstream, gate: threading.Event, rounds: int, figures: Figures
) -> None:
    """A process is stopped, and goes on when others have been answered: it gets their answer."""
    cache = Cache(store, lease_seconds=LEASE)
    for number in range(rounds):
        up.once(gate=gate)
        prompt, before = f"stopped process {number}", up.calls
        with leading(actors.ask_and_tell, cache, prompt, up.base_url) as (leader, told):
            up.wait_for(before + 1, WAIT)
            os.kill(leader.pid, signal.SIGSTOP)
            answer = followed(threads, cache, prompt, up, figures)
            assert up.calls == before + 2
            os.kill(leader.pid, signal.SIGCONT)
            gate.set()
            assert told.poll(WAIT)
            assert told.recv() == answer
        gate.clear()


@pytest.mark.shared
def test_stopped_event_loops(
    store: Store, up: Upstream, gate: threading.Event, rounds: int, figures: Figures
) -> None:
    """The event loop of another process is stopped and kept, and runs again later."""
    cache = Cache(store, lease_seconds=LEASE)
    for number in range(rounds):
        up.once(gate=gate)
        prompt, before = f"stopped loop {number}", up.calls
        with leading(actors.ask_and_stop_the_loop, cache, prompt, up.base_url) as (_, told):
            up.wait_for(before + 1, WAIT)
            told.send("stop")
            assert told.poll(WAIT)
            told.recv()
            answer = followed(loops, cache, prompt, up, figures)
            assert up.calls == before + 2
            gate.set()
            told.send("go on")
            assert told.poll(WAIT)
            assert told.recv() == answer
        gate.clear()


@pytest.mark.store
@pytest.mark.parametrize("closed", [False, True], ids=["kept", "closed"])
def test_stopped_event_loops_of_this_process(
    store: Store, up: Upstream, gate: threading.Event, rounds: int, figures: Figures, closed: bool
) -> None:
    """An event loop of this process is stopped with a call under way, or closed without a word."""
    cache = Cache(store, lease_seconds=LEASE)
    for number in range(rounds):
        up.once(gate=gate)
        prompt, before = f"stopped loop here {number}", up.calls
        loop = asyncio.new_event_loop()
        pool = ThreadPoolExecutor(1)
        loop.set_default_executor(pool)
        task = loop.create_task(actors._ask(cache, prompt, up.base_url))
        loop.run_until_complete(called(up, before + 1))
        if closed:
            loop._default_executor = None  # type: ignore[attr-defined]  # its thread goes on
            loop.close()
        answer = followed(loops, cache, prompt, up, figures)
        assert up.calls == before + 2
        gate.set()
        if not closed:
            assert loop.run_until_complete(task) == answer
            loop.close()
        else:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        pool.shutdown()
        gate.clear()


@pytest.mark.store
def test_a_new_event_loop_of_the_same_thread(
    store: Store, up: Upstream, gate: threading.Event, figures: Figures
) -> None:
    """Whoever runs while another loop of his thread is stopped waits for nothing of that."""
    cache = Cache(store, lease_seconds=WAIT)
    up.once(gate=gate)
    loop = asyncio.new_event_loop()
    task = loop.create_task(actors._ask(cache, "same thread", up.base_url))
    loop.run_until_complete(called(up, 1))
    began = time.monotonic()
    (answer,) = set(actors.ask_many(4, cache, "same thread", up.base_url))
    taken = time.monotonic() - began
    figures.most(longest_wait_in_seconds=taken)
    assert taken < LATEST
    gate.set()
    assert loop.run_until_complete(task) == answer
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert up.calls == 2


@pytest.mark.store
def test_calls_that_do_not_end(
    store: Store, up: Upstream, gate: threading.Event, figures: Figures
) -> None:
    """A call that lives and never ends is waited for as long as the cache says: `wait_seconds`."""
    cache = Cache(store, lease_seconds=LEASE, wait_seconds=LEASE)
    up.once(gate=gate)
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(actors.ask, cache, "never", up.base_url)
        up.wait_for(1, WAIT)
        answer = followed(threads, cache, "never", up, figures)
        gate.set()
        assert leader.result(WAIT) == answer


@pytest.mark.shared
def test_calls_of_other_processes_that_do_not_end(
    store: Store, up: Upstream, gate: threading.Event, figures: Figures
) -> None:
    """So it is for other processes, under a lease that is renewed all the time."""
    cache = Cache(store, lease_seconds=LEASE, wait_seconds=2 * LEASE)
    up.once(gate=gate)
    with leading(actors.ask_and_tell, cache, "never", up.base_url) as (_, told):
        up.wait_for(1, WAIT)
        answer = followed(threads, cache, "never", up, figures)
        gate.set()
        assert told.poll(WAIT)
        assert told.recv() == answer


@pytest.mark.shared
@pytest.mark.parametrize("shape", ["sync", "async"])
def test_timeouts_of_the_sdk(
    store: Store, up: Upstream, gate: threading.Event, figures: Figures, shape: str
) -> None:
    """A caller of the SDK waits for another process as long as his own timeout."""
    from openai import AsyncOpenAI, OpenAI

    from cachewrap import patch_openai

    cache = Cache(store)
    up.once(gate=gate)
    options: dict[str, Any] = {"base_url": up.base_url, "api_key": "sk", "max_retries": 0}
    with (
        patch_openai(),
        leading(actors.chat_and_tell, cache, "timeout", up.base_url) as (_, told),
    ):
        up.wait_for(1, WAIT)
        began = time.monotonic()
        with cache:
            if shape == "sync":
                answer = actors.chat(OpenAI(**options, timeout=LEASE), "timeout")
            else:
                answer = asyncio.run(actors.achat(AsyncOpenAI(**options, timeout=LEASE), "timeout"))
        taken = time.monotonic() - began
        figures.most(longest_wait_in_seconds=taken)
        assert LEASE <= taken < LATEST
        gate.set()
        assert told.poll(WAIT)
        assert told.recv() == answer
    assert up.calls == 2
