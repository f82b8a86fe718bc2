"""`activate` is the whole process: every thread, context and event loop, now and later."""

from __future__ import annotations

import _thread
import asyncio
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import Context, copy_context
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from cachewrap import Cache, activate, blocks, llm_cached, no_cache, patch_threads
from cachewrap.options import active_cache
from cachewrap.run import program


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is activated or patched for other tests."""
    monkeypatch.setattr(program, "_patch_all", lambda: None)
    monkeypatch.setattr(program, "_activated", None)
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
