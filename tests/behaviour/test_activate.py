"""`activate` is the whole process: every thread, context and event loop, now and later."""

from __future__ import annotations

import _thread
import asyncio
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import Context, copy_context
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from cachewrap import (
    Cache,
    ConfigurationError,
    activate,
    blocks,
    deactivate,
    llm_cached,
    no_cache,
    patch_openai,
    patch_threads,
)
from cachewrap.http.httpx import HTTPX
from cachewrap.options import active_cache
from cachewrap.run import program
from cachewrap.sdk.openai import OPENAI


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is activated or patched for other tests."""
    monkeypatch.setattr(program, "_patch_all", lambda: None)
    monkeypatch.setattr(program, "_activation", None)
    monkeypatch.setattr(program, "_by_name", None)
    yield
    blocks.serve_program(None)


class Thread:
    """A thread that was started before anything was activated."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._done: SimpleQueue[Any] = SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            self._done.put(work())

    def do(self, work: Callable[[], Any]) -> Any:
        self._work.put(work)
        return self._done.get(timeout=10)

    def end(self) -> None:
        self._work.put(None)
        self._thread.join(10)


@pytest.fixture
def other() -> Iterator[Thread]:
    thread = Thread()
    yield thread
    thread.end()


def by_start_new_thread(work: Callable[[], Any]) -> Any:
    done: SimpleQueue[Any] = SimpleQueue()
    _thread.start_new_thread(lambda: done.put(work()), ())
    return done.get(timeout=10)


def in_a_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(10)


def in_a_task(work: Callable[[], Any]) -> Any:
    async def main() -> Any:
        async def task() -> Any:
            return work()

        return await asyncio.create_task(task())

    return asyncio.run(main())


def in_a_task_of_another_thread(work: Callable[[], Any]) -> Any:
    return in_a_thread(lambda: in_a_task(work))


def in_an_empty_context(work: Callable[[], Any]) -> Any:
    return Context().run(work)


def here(work: Callable[[], Any]) -> Any:
    return work()


PLACES = pytest.mark.parametrize(
    "place",
    [
        *(here, in_an_empty_context, in_a_thread, by_start_new_thread),
        *(in_a_task, in_a_task_of_another_thread),
    ],
)
CALLERS = pytest.mark.parametrize(
    "caller", [here, in_an_empty_context, in_a_thread, by_start_new_thread, in_a_task]
)


@CALLERS
@PLACES
def test_it_reaches_every_place_from_every_place(
    caller: Callable[..., Any], place: Callable[..., Any]
) -> None:
    cache = Cache.memory()
    caller(lambda: activate(cache))
    assert place(active_cache) is cache


@CALLERS
def test_it_reaches_what_runs_already(caller: Callable[..., Any], other: Thread) -> None:
    cache = Cache.memory()
    assert other.do(active_cache) is None
    caller(lambda: activate(cache))
    assert other.do(active_cache) is cache


def test_it_reaches_a_loop_that_runs_already() -> None:
    cache = Cache.memory()

    async def main() -> Any:
        there, go = asyncio.Event(), asyncio.Event()

        async def waits() -> Any:
            there.set()
            await go.wait()
            return active_cache()

        task = asyncio.create_task(waits())
        await there.wait()
        activate(cache)
        go.set()
        return await task

    assert asyncio.run(main()) is cache


def test_the_newest_decides_everywhere(other: Thread) -> None:
    one, two = Cache.memory(), Cache.memory()
    activate(one)
    other.do(lambda: activate(two))
    assert [active_cache(), other.do(active_cache), Context().run(active_cache)] == [two] * 3


def test_a_block_inside_it_comes_first(other: Thread) -> None:
    cache, block = Cache.memory(), Cache.memory()
    activate(cache)
    with block:
        assert active_cache() is block
        assert other.do(active_cache) is cache
        with no_cache():
            assert active_cache() is None
    assert active_cache() is cache


def test_a_block_of_another_context_comes_first_there(other: Thread) -> None:
    cache, block = Cache.memory(), Cache.memory()
    other.do(block.__enter__)
    activate(cache)
    assert other.do(active_cache) is block
    other.do(lambda: block.__exit__(None, None, None))
    assert other.do(active_cache) is cache


@pytest.mark.parametrize("around", [Cache.memory, no_cache])
def test_in_the_calling_context_it_stands_inside_what_was_entered(around: Any) -> None:
    cache = Cache.memory()
    with around():
        activate(cache)
        assert active_cache() is cache
        with Cache.memory() as inner:
            assert active_cache() is inner
        assert active_cache() is cache
    assert active_cache() is cache


def test_it_stands_inside_what_stands_around_the_program(other: Thread) -> None:
    outer, cache = Cache.memory(), Cache.memory()
    stack = blocks.OUTSIDE.entered(outer)
    blocks.serve_program(lambda: stack)
    assert other.do(active_cache) is outer
    activate(cache)
    assert [tuple(blocks.active()), tuple(other.do(blocks.active))] == [(outer, cache)] * 2


def test_again_and_again_is_as_once() -> None:
    stacks = []
    for _ in range(50):
        activate(Cache.memory())
        stacks.append((len(blocks.active()), len(blocks.blocks.get())))
    assert set(stacks) == {(1, 0)}


def test_the_same_url_is_the_same_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[Cache | None] = []
    for url in ("memory:", "memory:", "disk:here", "disk:here"):
        activate(url)
        seen.append(active_cache())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    activate("disk:here")
    seen.append(active_cache())
    monkeypatch.setenv("CACHEWRAP_MODE", "replay")
    activate("disk:here")
    seen.append(active_cache())
    assert [seen.index(cache) for cache in seen] == [0, 0, 2, 2, 4, 5]
    assert seen[-1] is not None
    assert seen[-1].policy.mode == "replay"


def test_what_is_active_stays_open_while_a_block_of_it_is_left(tmp_path: Path) -> None:
    cache = Cache.disk(cache_path_root=tmp_path)
    closed: list[Cache] = []
    cache.close = lambda: closed.append(cache)  # type: ignore[method-assign]
    activate(cache)
    with cache:
        pass
    activate(cache)
    assert not closed
    activate(Cache.memory())
    assert closed == [cache]


@llm_cached(samples=True)
def roll(prompt: str) -> str:
    return f"{prompt} {os.urandom(8).hex()}"


def test_samples_are_counted_over_all_threads(other: Thread) -> None:
    activate(Cache.memory())
    assert len({roll("a"), other.do(lambda: roll("a")), in_a_thread(lambda: roll("a"))}) == 3


def test_activating_again_counts_samples_anew() -> None:
    cache = Cache.memory()
    activate(cache)
    first = [roll("a"), roll("a")]
    activate(cache)
    assert [roll("a"), roll("a")] == first


def test_a_block_inside_a_sampled_call_still_belongs_to_it() -> None:
    cache = Cache.memory()

    @llm_cached(samples=True)
    def outer(prompt: str) -> str:
        activate(cache)
        return roll(prompt) + roll(prompt)

    with Cache.memory():
        one, two = outer("a"), outer("a")
    assert one != two


def test_pools_of_threads_made_inside_a_block_do_not_keep_it_from_them() -> None:
    cache = Cache.memory()
    with patch_threads(), ThreadPoolExecutor(1) as pool:
        with Cache.memory() as block:
            assert pool.submit(active_cache).result(10) is block
        activate(cache)
        assert pool.submit(active_cache).result(10) is cache


def active_url() -> str | None:
    cache = active_cache()
    return None if cache is None else cache.url


def active_everywhere() -> list[str | None]:
    return [active_url(), in_a_thread(active_url), Context().run(active_url)]


@pytest.mark.posix("forks")
def test_a_forked_child_is_inside_it(tmp_path: Path) -> None:
    activate(f"disk:{tmp_path}")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        assert pool.submit(active_everywhere).result(30) == [active_url()] * 3


@pytest.mark.posix("forks")
def test_a_worker_forked_inside_a_block_serves_what_it_activates(tmp_path: Path) -> None:
    with (
        Cache.memory(),
        ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("fork"),
            initializer=activate,
            initargs=(f"disk:{tmp_path}",),
        ) as pool,
    ):
        found = pool.submit(active_everywhere).result(30)
    assert found == [Cache.from_url(f"disk:{tmp_path}").url] * 3


def test_a_context_that_was_copied_before_is_reached() -> None:
    copied = copy_context()
    cache = Cache.memory()
    activate(cache)
    assert copied.run(active_cache) is cache


# -- and its opposite ------------------------------------------------------------------------------


@CALLERS
@PLACES
def test_deactivate_reaches_every_place_from_every_place(
    caller: Callable[..., Any], place: Callable[..., Any]
) -> None:
    activate(Cache.memory())
    caller(deactivate)
    assert place(active_cache) is None
    assert active_cache() is None


@CALLERS
def test_it_reaches_what_runs_already_and_was_inside(
    caller: Callable[..., Any], other: Thread
) -> None:
    cache = Cache.memory()
    activate(cache)
    assert other.do(active_cache) is cache
    caller(deactivate)
    assert other.do(active_cache) is None


def test_where_nothing_is_active_it_does_nothing() -> None:
    deactivate()
    activate(Cache.memory())
    deactivate()
    deactivate()
    assert active_cache() is None


def closings(cache: Cache) -> list[Cache]:
    closed: list[Cache] = []
    cache.close = lambda: closed.append(cache)  # type: ignore[method-assign]
    return closed


def test_it_closes_the_cache_once() -> None:
    cache = Cache.memory()
    closed = closings(cache)
    for _ in range(3):  # a cell that is run again
        activate(cache)
    assert not closed
    deactivate()
    deactivate()
    assert closed == [cache]


def test_a_cache_that_is_used_in_a_block_stays_open() -> None:
    cache = Cache.memory()
    closed = closings(cache)
    with cache:
        activate(cache)
        deactivate()
        assert active_cache() is cache
        assert not closed
    assert closed == [cache]


def test_blocks_are_left_alone(other: Thread) -> None:
    block, cache = Cache.memory(), Cache.memory()
    other.do(block.__enter__)
    activate(cache)
    with block, cache:
        deactivate()
        assert active_cache() is cache
        assert other.do(active_cache) is block
    assert active_cache() is None
    other.do(lambda: block.__exit__(None, None, None))


@pytest.mark.parametrize("around", [Cache.memory, no_cache])
def test_the_caller_is_back_in_the_blocks_that_activate_was_called_in(around: Any) -> None:
    with around() as outer:
        for _ in range(2):
            activate(Cache.memory())
            deactivate()
            assert active_cache() is outer
        activate(Cache.memory())
        activate(Cache.memory())
        with Cache.memory() as inner:
            deactivate()
            assert active_cache() is inner
            assert len(blocks.active()) == 2
        assert active_cache() is outer
    assert active_cache() is None
    assert tuple(blocks.active()) == ()


def test_blocks_that_were_left_meanwhile_do_not_come_back() -> None:
    with Cache.memory():
        cache = Cache.memory()
        activate(cache)
    assert active_cache() is cache
    deactivate()
    assert active_cache() is None


def test_what_stands_around_the_program_stays(other: Thread) -> None:
    outer = Cache.memory()
    stack = blocks.OUTSIDE.entered(outer)
    blocks.serve_program(lambda: stack)
    activate(Cache.memory())
    deactivate()
    assert [active_cache(), other.do(active_cache)] == [outer, outer]


def test_the_handle_undoes_its_own_activation_alone() -> None:
    one, two = Cache.memory(), Cache.memory()
    first = activate(one)
    assert (first.cache, first.active) == (one, True)
    second = activate(two)
    assert (first.active, second.active) == (False, True)
    first.undo()
    assert active_cache() is two
    second.undo()
    second.undo()
    assert (active_cache(), second.active) == (None, False)


def test_the_handle_is_a_block() -> None:
    with activate(Cache.memory()) as handle:
        assert active_cache() is handle.cache
    assert active_cache() is None


def test_the_handle_travels_without_being_active_elsewhere() -> None:
    handle = activate("memory://")
    copied = pickle.loads(pickle.dumps(handle))  # as what a worker's function returns does
    assert (copied.cache.seed, copied.active) == ("41", False)
    copied.undo()
    assert active_cache() is handle.cache


def test_it_is_active_again_with_what_it_counted() -> None:
    activate("memory://?cache_seed=8")
    roll("a")
    deactivate()
    handle = activate("memory://?cache_seed=8")
    assert handle.cache.stats.calls == 1


def test_another_place_is_closed_when_the_next_is_there() -> None:
    one, two = Cache.memory(), Cache.memory()
    closed = closings(one)
    activate(one)
    activate(two)
    assert closed == [one]
    deactivate()
    assert closed == [one]


def test_a_url_that_is_wrong_changes_nothing() -> None:
    cache = Cache.memory()
    activate(cache)
    with pytest.raises(ConfigurationError):
        activate("nowhere://")
    assert active_cache() is cache


def test_many_threads_that_activate_and_deactivate_leave_nothing() -> None:
    caches = [Cache.memory() for _ in range(4)]
    closed = [closings(cache) for cache in caches]

    def toggle(cache: Cache) -> None:
        for _ in range(50):
            activate(cache)
            deactivate()

    threads = [threading.Thread(target=toggle, args=(cache,)) for cache in caches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert active_cache() is None
    assert [cache._entered for cache in caches] == [[0]] * 4
    assert all(closed)


def test_the_patches_of_activate_are_undone_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    monkeypatch.undo()
    for _ in range(2):
        activate(Cache.memory())
        activate(Cache.memory())
        assert OPENAI.patches
        own = patch_openai()
        deactivate()
        assert own.active
        own.undo()
        assert not OPENAI.patches
        assert not HTTPX.patches
