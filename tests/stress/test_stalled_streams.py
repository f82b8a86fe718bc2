"""Streams whose upstream hangs up or stalls, while their first reader keeps them unread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import anyio
import pytest
from stalling import BREAKS, GENERATORS, RESPONSES, STALLS, Caller, Upstream, asking

from cachewrap import Cache
from cachewrap.streams.shared import _under_way
from stress.conftest import ROUNDS, Figures

WAIT = 20.0
PATIENCE = 0.2
SECOND = ["a2", "b2", "c2"]
# One of each way in which streams are shared; all of them in a longer run.
SOME = RESPONSES if ROUNDS > 1 else [name for name in RESPONSES if name[:4] in ("http", "requ")]
SLOWEST = PATIENCE + 3.0  # on a busy machine


@contextmanager
def timed(figures: Figures) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds = time.monotonic() - began
    figures.most(longest_wait_in_seconds=seconds)
    assert seconds < SLOWEST


def until_readers(count: int) -> None:
    end = time.monotonic() + WAIT
    while sum(stream.readers for stream in list(_under_way.values())) < count:
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture
def cache() -> Cache:
    return Cache.memory(wait_seconds=PATIENCE)


@pytest.mark.parametrize("fault", BREAKS + STALLS)
@pytest.mark.parametrize("name", RESPONSES)
def test_who_was_given_nothing_goes_upstream_alone(
    cache: Cache, figures: Figures, name: str, fault: str
) -> None:
    with cache, asking(name, Upstream(fault)) as caller:
        first, *joined = [caller.open() for _ in range(4)]
        assert caller.up.calls == 1
        for stream in joined:
            with timed(figures):
                assert stream.read() == SECOND
        assert caller.up.calls == 2  # what the one was given is stored, and the others find it
        assert (cache.stats.stored, cache.stats.joined) == (1, 0)
        with timed(figures):
            assert caller.open().read() == SECOND
        first.close()


@pytest.mark.parametrize("fault", BREAKS + STALLS)
@pytest.mark.parametrize("name", SOME)
def test_who_was_given_a_part_is_told(
    cache: Cache, figures: Figures, name: str, fault: str
) -> None:
    with cache, asking(name, Upstream(fault, after=2, held=True)) as caller:
        first, joined = caller.open(), caller.open()
        assert joined.read(2) == ["a1", "b1"]
        caller.up.go.set()
        with timed(figures):
            if fault == "ends early":  # the library takes that for its end
                joined.read()
            else:
                with pytest.raises(caller.errors):
                    joined.read()
        assert joined.seen == ["a1", "b1"]
        with timed(figures):
            assert caller.open().read() == SECOND
        assert cache.stats.stored == 1
        first.close()


@pytest.mark.parametrize("fault", BREAKS)
@pytest.mark.parametrize("name", SOME)
def test_what_was_there_of_a_stream_that_broke_is_given_to_nobody_else(
    cache: Cache, figures: Figures, name: str, fault: str
) -> None:
    with cache, asking(name, Upstream(fault, after=2)) as caller:
        first, joined = caller.open(), caller.open()
        if fault == "ends early":
            assert first.read() == ["a1", "b1"]
        else:
            with pytest.raises(caller.errors):
                first.read()
        with timed(figures):
            assert joined.read() == SECOND


@pytest.mark.parametrize("fault", STALLS)
@pytest.mark.parametrize("name", SOME + GENERATORS)
def test_who_waits_for_a_reader_that_is_stuck_goes_upstream_alone(
    cache: Cache, figures: Figures, name: str, fault: str
) -> None:
    with cache, asking(name, Upstream(fault)) as caller:
        if caller.is_async:
            with timed(figures):
                assert caller.run(_read_behind, caller) == [SECOND] * 3
            return
        with ThreadPoolExecutor(4) as pool:
            first = caller.open()
            stuck = pool.submit(first.read)
            until_readers(1)
            with timed(figures):
                others = [pool.submit(caller.open().read) for _ in range(3)]
                answers = [other.result(WAIT) for other in others]
            assert [len(answer) for answer in answers] == [3] * 3
            assert not stuck.done()
            caller.up.end()
            with pytest.raises(caller.errors):
                stuck.result(WAIT)


async def _read_behind(caller: Caller) -> list[list[str]]:
    """Three readers behind one that is stuck, one after the other."""
    answers = []
    async with anyio.create_task_group() as group:
        first = await caller.aopen()
        group.start_soon(first.aread)
        await anyio.sleep(0.05)
        for _ in range(3):
            stream = await caller.aopen()
            await stream.aread()
            answers.append(stream.seen)
        group.cancel_scope.cancel()
    return answers


@pytest.mark.parametrize("name", GENERATORS)
def test_who_was_given_items_of_a_generator_that_stalls_is_told(
    cache: Cache, figures: Figures, name: str
) -> None:
    with cache, asking(name, Upstream("stalls", after=1)) as caller:
        first, joined = caller.open(), caller.open()
        assert first.read(1) == joined.read(1) == ["a1"]
        with timed(figures), pytest.raises(TimeoutError, match="wait_seconds="):
            joined.read(2)
        assert caller.open().read() == SECOND
        threading.Timer(0.1, caller.up.end).start()
        with pytest.raises(caller.errors):
            first.read(2)


@pytest.mark.parametrize("name", SOME)
def test_a_first_reader_that_left_leaves_a_bounded_wait(
    cache: Cache, figures: Figures, name: str
) -> None:
    with cache, asking(name, Upstream("stalls", after=1)) as caller:
        first, joined = caller.open(), caller.open()
        assert joined.read(1) == ["a1"]
        first.close()
        with timed(figures), pytest.raises(caller.errors):
            joined.read()


@pytest.mark.parametrize("name", [name for name in RESPONSES if "httpx" in name or "req" in name])
def test_a_timeout_of_his_own_counts(figures: Figures, name: str) -> None:
    with Cache.memory(), asking(name, Upstream("stalls")) as caller:
        caller.open()
        joined = caller.open(timeout=PATIENCE)
        with timed(figures):
            assert joined.read() == SECOND
