"""The active block reaches the threads that are started inside it, and no others."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from multiprocessing.pool import Pool, ThreadPool
from typing import Any

import pytest

from cachewrap import threads
from cachewrap.cache import Cache
from cachewrap.options import active_cache
from cachewrap.sdk.openai import patch_openai
from cachewrap.threads import patch_threads

Work = Callable[[], Any]


def in_a_thread(work: Work) -> Any:
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(work()))
    thread.start()
    thread.join()
    return seen[0]


def in_a_subclass(work: Work) -> Any:
    class Mine(threading.Thread):
        seen: Any = None

        def run(self) -> None:
            self.seen = work()

    thread = Mine()
    thread.start()
    thread.join()
    assert "run" not in vars(thread)
    return thread.seen


def in_a_pool(work: Work) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def in_a_mapped_pool(work: Work) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return next(pool.map(lambda _: work(), [None]))


def in_a_thread_pool(work: Work) -> Any:
    with ThreadPool(1) as pool:
        return pool.apply(work)


def in_a_thread_pool_later(work: Work) -> Any:
    with ThreadPool(1) as pool:
        return pool.apply_async(func=work).get()


def mapped_in_a_thread_pool(work: Work) -> Any:
    with ThreadPool(1) as pool:
        [one] = pool.map(lambda _: work(), [None])
        [other] = pool.starmap(lambda _: work(), [(None,)])
        assert one is other
        return one


def iterated_in_a_thread_pool(work: Work) -> Any:
    with ThreadPool(1) as pool:
        one = next(pool.imap(lambda _: work(), [None]))
        other = next(pool.imap_unordered(lambda _: work(), [None]))
        assert one is other
        return one


def in_an_executor(work: Work) -> Any:
    async def run() -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, work)

    return asyncio.run(run())


def in_a_callback(work: Work) -> Any:
    """What joblib does: of many tasks, a callback gives the later ones to the pool."""
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with ThreadPool(1) as pool:
        pool.apply_async(int, callback=lambda _: pool.apply_async(work, callback=seen.put))
        return seen.get(timeout=10)


def in_an_error_callback(work: Work) -> Any:
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with ThreadPool(1) as pool:
        pool.apply_async(int, ("a",), {}, None, lambda _: seen.put(work()))
        return seen.get(timeout=10)


def in_a_callback_of_a_map(work: Work) -> Any:
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with ThreadPool(1) as pool:
        pool.map_async(int, [1], 1, lambda _: seen.put(work()))
        return seen.get(timeout=10)


WAYS = [
    *(in_a_callback, in_an_error_callback, in_a_callback_of_a_map),
    *(in_a_thread, in_a_subclass, in_a_pool, in_a_mapped_pool, in_an_executor),
    *(in_a_thread_pool, in_a_thread_pool_later),
    *(mapped_in_a_thread_pool, iterated_in_a_thread_pool),
]


@pytest.fixture
def cache() -> Cache:
    """A cache in memory: which store it has does not matter to threads."""
    return Cache.memory()


@pytest.fixture
def held() -> Iterator[None]:
    threads.hold()
    yield
    threads.release()


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("way", WAYS)
def test_the_block_is_active_there(cache: Cache, way: Callable[[Work], Any]) -> None:
    with cache:
        assert way(active_cache) is cache


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("way", WAYS)
def test_outside_a_block_none_is(way: Callable[[Work], Any]) -> None:
    assert way(active_cache) is None


@pytest.mark.usefixtures("held")
def test_a_worker_forgets_the_block_after_its_task(cache: Cache) -> None:
    with ThreadPoolExecutor(1) as pool:
        with cache:
            assert pool.submit(active_cache).result() is cache
        assert pool.submit(active_cache).result() is None


@pytest.mark.usefixtures("held")
def test_a_worker_of_a_thread_pool_forgets_the_block_in_which_it_was_made(cache: Cache) -> None:
    with cache:
        pool = ThreadPool(1)
        assert pool.apply(active_cache) is cache
    with pool:
        assert pool.apply(active_cache) is None


@pytest.mark.usefixtures("held")
def test_a_thread_pool_made_outside_sees_the_block_of_each_task(cache: Cache) -> None:
    with ThreadPool(1) as pool:
        with cache:
            assert pool.apply(active_cache) is cache
        assert pool.apply(active_cache) is None


OTHER: ContextVar[str] = ContextVar("other", default="nothing")


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python itself carries the context")
@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("way", WAYS)
def test_nothing_else_of_the_context_is_carried(cache: Cache, way: Callable[[Work], Any]) -> None:
    token = OTHER.set("something")
    try:
        with cache:
            assert way(OTHER.get) == "nothing"
    finally:
        OTHER.reset(token)


PLACES = [
    (threading.Thread, "start"),
    (ThreadPoolExecutor, "submit"),
    *((ThreadPool, name) for name in ("__init__", "apply_async", "_map_async", "imap")),
]


def test_letting_go_leaves_every_class_as_it_was() -> None:
    def now() -> list[Any]:
        methods: list[Any] = [getattr(owner, name) for owner, name in PLACES]
        return [
            thing for method in methods for thing in (method, method.__code__, dict(vars(method)))
        ]

    before = now()
    threads.hold()
    codes = now()[1::3]
    assert not any(a is b for a, b in zip(codes, before[1::3], strict=True))
    threads.release()
    assert now() == before


def test_what_another_tool_puts_back_still_carries(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as tool:
        start = vars(threading.Thread)["start"]
        tool.setattr(threading.Thread, "start", lambda thread: start(thread))
        threads.hold()
    with cache:
        assert in_a_thread(active_cache) is cache
    threads.release()


def test_what_was_taken_out_is_put_in_again(cache: Cache) -> None:
    method: Any = threading.Thread.start
    code = method.__code__
    with patch_threads():
        method.__code__ = code
        with cache:
            assert in_a_thread(active_cache) is None
            with patch_threads():
                assert in_a_thread(active_cache) is cache


class Processes(Pool):
    """A pool that only takes what is to be done."""

    def __init__(self) -> None:
        self._state, self._cache = "RUN", {}  # type: ignore[var-annotated]
        self._taskqueue: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def __del__(self) -> None:
        pass


def test_a_pool_of_processes_is_given_what_it_was_given(cache: Cache) -> None:
    pool = Processes()
    with patch_threads(), cache:
        pool.apply_async(active_cache)
    (task,), _ = pool._taskqueue.get()
    assert task[2] is active_cache


LATER = """
import sys
from cachewrap.blocks import blocks
from cachewrap.cache import Cache
from cachewrap.options import active_cache
from cachewrap.threads import patch_threads
patch_threads()
assert "multiprocessing.pool" not in sys.modules
from multiprocessing.pool import ThreadPool
with Cache.memory() as cache, ThreadPool(1) as pool:
    assert pool.apply(active_cache) is cache
"""


def test_pools_of_threads_may_be_imported_later() -> None:
    done = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("held")
def test_the_submitter_keeps_its_block(cache: Cache) -> None:
    with ThreadPoolExecutor(1) as pool, cache:
        pool.submit(active_cache).result()
        assert active_cache() is cache


@pytest.mark.usefixtures("held")
def test_arguments_and_errors_pass(cache: Cache) -> None:
    with ThreadPoolExecutor(1) as pool, cache:
        assert pool.submit(divmod, 7, 2).result() == (3, 1)
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 7, 0).result()


@pytest.mark.usefixtures("held")
def test_a_thread_that_was_started_cannot_be_started_again(cache: Cache) -> None:
    thread = threading.Thread(target=lambda: None)
    with cache:
        thread.start()
        thread.join()
        with pytest.raises(RuntimeError):
            thread.start()
    assert "run" not in vars(thread)


def test_patching_the_sdk_carries_blocks_and_unpatching_ends_it(cache: Cache) -> None:
    originals = (threading.Thread.start.__code__, ThreadPoolExecutor.submit.__code__)
    with patch_openai(), cache:
        assert in_a_thread(active_cache) is cache
    with cache:
        assert in_a_thread(active_cache) is None
    assert originals == (threading.Thread.start.__code__, ThreadPoolExecutor.submit.__code__)


def test_it_lasts_until_the_last_one_lets_go(cache: Cache) -> None:
    threads.hold()
    threads.hold()
    threads.release()
    with cache:
        assert in_a_pool(active_cache) is cache
    threads.release()
    with cache:
        assert in_a_pool(active_cache) is None


def test_patch_threads_alone_carries_a_block_and_can_be_undone() -> None:
    def active_in_a_worker() -> object:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(active_cache).result()

    with Cache.memory() as cache:
        with patch_threads() as patch:
            assert active_in_a_worker() is cache
        patch.undo()
        assert active_in_a_worker() is None
