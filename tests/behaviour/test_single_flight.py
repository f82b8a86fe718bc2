"""Once: however many callers ask at the same time, one goes upstream."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cachewrap import Cache, llm_cached
from cachewrap.call.flight import _flights
from cachewrap.errors import CacheWarning, StoreError

WAIT = 20.0


class Upstream:
    """Answers when it is let; tells when a call has come."""

    def __init__(self) -> None:
        self.calls = 0
        self.came = threading.Semaphore(0)
        self.gate = threading.Event()
        self.failures: list[BaseException] = []
        self._lock = threading.Lock()

    def answer(self, prompt: str) -> str:
        number = self._count()
        assert self.gate.wait(WAIT)
        return self._end(prompt, number)

    async def aanswer(self, prompt: str) -> str:
        number = self._count()
        while not self.gate.is_set():
            await asyncio.sleep(0.001)
        return self._end(prompt, number)

    def _count(self) -> int:
        with self._lock:
            self.calls += 1
            number = self.calls
        self.came.release()
        return number

    def _end(self, prompt: str, number: int) -> str:
        if self.failures:
            with self._lock:
                if self.failures:
                    raise self.failures.pop()
        return f"{prompt} #{number}"


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture(autouse=True)
def all_flights_land() -> Any:
    yield
    assert _flights == {}


def functions(upstream: Upstream) -> tuple[Callable[[str], str], Callable[[str], Any]]:
    """A sync and an async function of one name and version, whose calls are the same requests."""

    @llm_cached(version=1)
    def complete(prompt: str) -> str:
        return upstream.answer(prompt)

    sync = complete

    @llm_cached(version=1)
    async def complete(prompt: str) -> str:  # type: ignore[no-redef]
        return await upstream.aanswer(prompt)

    return sync, complete  # type: ignore[return-value]


def waiting(count: int) -> bool:
    """Whether that many callers wait for the one flight."""
    return sum(len(f._callbacks) for f in list(_flights.values())) >= count


async def until(condition: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + WAIT
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.001)


@pytest.mark.store
def test_sixteen_threads_make_one_call(cache: Cache, upstream: Upstream) -> None:
    complete, _ = functions(upstream)
    started = threading.Barrier(17)

    def ask() -> str:
        started.wait(WAIT)
        return complete("hi", cache=cache)  # type: ignore[call-arg]

    with cache, ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(ask) for _ in range(16)]
        started.wait(WAIT)
        assert upstream.came.acquire(timeout=WAIT)
        upstream.gate.set()
        answers = {future.result(WAIT) for future in asked}
    assert (answers, upstream.calls) == ({"hi #1"}, 1)
    assert cache.stats.misses == 1
    assert cache.stats.joined + cache.stats.hits == 15


@pytest.mark.store
def test_two_hundred_tasks_make_one_call(cache: Cache, upstream: Upstream) -> None:
    _, acomplete = functions(upstream)

    async def ask_all() -> list[str]:
        async with cache:
            tasks = [asyncio.create_task(acomplete("hi")) for _ in range(200)]
            await until(lambda: waiting(199))
            upstream.gate.set()
            return await asyncio.gather(*tasks)

    assert (set(asyncio.run(ask_all())), upstream.calls) == ({"hi #1"}, 1)
    assert (cache.stats.misses, cache.stats.joined) == (1, 199)


def test_tasks_of_several_loops_and_threads_make_one_call(upstream: Upstream) -> None:
    complete, acomplete = functions(upstream)
    cache = Cache.memory()
    started = threading.Barrier(9)

    def in_thread() -> set[str]:
        started.wait(WAIT)
        return {complete("hi", cache=cache)}  # type: ignore[call-arg]

    def in_loop() -> set[str]:
        async def ask() -> set[str]:
            started.wait(WAIT)
            return set(
                await asyncio.gather(*(acomplete("hi", cache=cache) for _ in range(5)))  # type: ignore[call-arg]
            )

        return asyncio.run(ask())

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(work) for work in [in_thread, in_loop] * 4]
        started.wait(WAIT)
        assert upstream.came.acquire(timeout=WAIT)
        upstream.gate.set()
        answers = set().union(*(future.result(WAIT) for future in asked))
    assert (answers, upstream.calls) == ({"hi #1"}, 1)


def test_every_caller_has_an_object_of_its_own() -> None:
    gate = threading.Event()
    came = threading.Event()

    @llm_cached
    def complete(prompt: str) -> list[str]:
        came.set()
        gate.wait(WAIT)
        return ["answer"]

    cache = Cache.memory()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(complete, "hi", cache=cache) for _ in range(4)]  # type: ignore[call-arg]
        came.wait(WAIT)
        gate.set()
        answers = [future.result(WAIT) for future in asked]
    answers[0].append("mine")
    assert [len(answer) for answer in answers] == [2, 1, 1, 1]


def test_when_the_leader_fails_every_waiter_goes_upstream_at_once(upstream: Upstream) -> None:
    _, acomplete = functions(upstream)
    upstream.failures = [ZeroDivisionError()]

    async def ask_all() -> list[Any]:
        with Cache.memory():
            leader = asyncio.create_task(acomplete("hi"))
            await until(lambda: upstream.calls == 1)
            waiters = [asyncio.create_task(acomplete("hi")) for _ in range(5)]
            await until(lambda: waiting(5))
            upstream.gate.set()
            with pytest.raises(ZeroDivisionError):
                await leader
            upstream.gate.clear()
            # None of them waits for another: all five are upstream before one has an answer.
            await until(lambda: upstream.calls == 6)
            upstream.gate.set()
            return await asyncio.gather(*waiters)

    # The first stored answer wins, for all of them.
    assert len(set(asyncio.run(ask_all()))) == 1


def test_a_cancelled_leader_leaves_its_place_to_one_waiter(upstream: Upstream) -> None:
    _, acomplete = functions(upstream)

    async def ask_all() -> list[str]:
        with Cache.memory():
            leader = asyncio.create_task(acomplete("hi"))
            await until(lambda: upstream.calls == 1)
            waiters = [asyncio.create_task(acomplete("hi")) for _ in range(5)]
            await until(lambda: waiting(5))
            leader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leader
            await until(lambda: upstream.calls == 2)
            upstream.gate.set()
            return await asyncio.gather(*waiters)

    assert (set(asyncio.run(ask_all())), upstream.calls) == ({"hi #2"}, 2)


def test_a_cancelled_waiter_harms_nobody(upstream: Upstream) -> None:
    _, acomplete = functions(upstream)

    async def ask_all() -> list[str]:
        with Cache.memory():
            tasks = [asyncio.create_task(acomplete("hi")) for _ in range(5)]
            await until(lambda: waiting(4))
            tasks[2].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[2]
            upstream.gate.set()
            return await asyncio.gather(*tasks[:2], *tasks[3:])

    assert (set(asyncio.run(ask_all())), upstream.calls) == ({"hi #1"}, 1)


def test_an_answer_that_is_not_to_be_stored_is_asked_for_by_each(upstream: Upstream) -> None:
    @llm_cached(when=lambda answer: False)
    async def acomplete(prompt: str) -> str:
        return await upstream.aanswer(prompt)

    async def ask_all() -> list[str]:
        with Cache.memory():
            tasks = [asyncio.create_task(acomplete("hi")) for _ in range(3)]
            await until(lambda: waiting(2))
            upstream.gate.set()
            return await asyncio.gather(*tasks)

    assert sorted(asyncio.run(ask_all())) == ["hi #1", "hi #2", "hi #3"]


class TestACallInsideItsOwnCall:
    """To wait for the leader would be to wait for itself."""

    def test_sync(self) -> None:
        depth: list[int] = []

        @llm_cached
        def complete(prompt: str) -> str:
            depth.append(1)
            return complete(prompt) if len(depth) == 1 else "bottom"

        with Cache.memory():
            assert complete("hi") == "bottom"

    def test_async_and_in_a_child_task(self) -> None:
        depth: list[int] = []

        @llm_cached
        async def complete(prompt: str) -> str:
            depth.append(1)
            if len(depth) > 1:
                return "bottom"
            return await asyncio.create_task(complete(prompt))  # type: ignore[arg-type]

        async def ask() -> str:
            with Cache.memory():
                return await asyncio.wait_for(complete("hi"), WAIT)

        assert asyncio.run(ask()) == "bottom"

    def test_a_sync_call_on_the_event_loops_own_thread(self, upstream: Upstream) -> None:
        complete, acomplete = functions(upstream)

        async def ask() -> tuple[str, str]:
            with Cache.memory():
                leader = asyncio.create_task(acomplete("hi"))
                await until(lambda: upstream.calls == 1)
                upstream.gate.set()
                return complete("hi"), await leader

        own, led = asyncio.run(ask())
        assert (own, led, upstream.calls) == ("hi #2", "hi #2", 2)

    def test_an_event_loop_inside_a_sync_call(self) -> None:
        @llm_cached
        async def complete(prompt: str) -> str:
            return "bottom"

        inner = complete

        @llm_cached
        def complete(prompt: str) -> str:  # type: ignore[no-redef]
            return asyncio.run(inner(prompt))  # type: ignore[arg-type]

        with Cache.memory():
            assert complete("hi") == "bottom"


class TestCallsThatWaitForEachOther:
    """A calls B and B calls A, each the leader of its own: one of them goes alone."""

    def test_tasks(self) -> None:
        async def body(mine: str, other: str, depth: int) -> str:
            arrived.add(mine)
            if depth:
                await until(lambda: len(arrived) == 2)
                return await ask(other, mine, 0)
            return "bottom"

        @llm_cached(ignore=["other", "depth"])
        async def ask(mine: str, other: str, depth: int) -> str:
            return await body(mine, other, depth)

        arrived: set[str] = set()

        async def both() -> list[str]:
            with Cache.memory():
                calls = asyncio.gather(ask("a", "b", 1), ask("b", "a", 1))
                return await asyncio.wait_for(calls, WAIT)

        assert set(asyncio.run(both())) == {"bottom"}

    def test_one_that_waits_for_several_at_once(self) -> None:
        first = {"a": True, "b": True}
        third = asyncio.Event()

        @llm_cached
        async def ask(name: str) -> str:
            if name == "c":
                await third.wait()
            elif first.pop(name, False):
                if name == "a":
                    await asyncio.gather(ask("b"), ask("c"))
                else:
                    await until(lambda: waiting(2))  # for "b" itself, and then for "c"
                    await ask("a")
                    third.set()
            return "bottom"

        async def all_three() -> list[str]:
            with Cache.memory():
                calls = [ask(name) for name in "cba"]
                return await asyncio.wait_for(asyncio.gather(*calls), WAIT)

        assert asyncio.run(all_three()) == ["bottom"] * 3

    def test_threads(self) -> None:
        both_lead = threading.Barrier(2)

        @llm_cached(ignore=["other", "depth"])
        def ask(mine: str, other: str, depth: int) -> str:
            if depth:
                both_lead.wait(WAIT)
                return ask(other, mine, 0)
            return "bottom"

        cache = Cache.memory()
        with ThreadPoolExecutor(2) as pool:
            calls = [
                pool.submit(ask, "a", "b", 1, cache=cache),  # type: ignore[call-arg]
                pool.submit(ask, "b", "a", 1, cache=cache),  # type: ignore[call-arg]
            ]
            with cache:
                assert {call.result(WAIT) for call in calls} == {"bottom"}


def test_waiters_that_fill_the_default_executor_do_not_block_the_leaders_write(
    tmp_path: Path, upstream: Upstream
) -> None:
    complete, acomplete = functions(upstream)

    async def ask_all() -> set[str]:
        with Cache.disk(cache_path_root=tmp_path):
            leader = asyncio.create_task(acomplete("hi"))
            await until(lambda: upstream.calls == 1)
            waiters = [asyncio.create_task(asyncio.to_thread(complete, "hi")) for _ in range(40)]
            await asyncio.sleep(0)
            upstream.gate.set()
            return {await asyncio.wait_for(task, WAIT) for task in [leader, *waiters]}

    assert asyncio.run(ask_all()) == {"hi #1"}


def test_a_task_that_its_loop_abandoned_lands_its_flight(upstream: Upstream) -> None:
    _, acomplete = functions(upstream)
    cache = Cache.memory()
    loop = asyncio.new_event_loop()
    task = loop.create_task(acomplete("hi", cache=cache))  # type: ignore[call-arg]
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    assert len(_flights) == 1
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    del task
    gc.collect()
    assert _flights == {}


def test_an_error_of_the_call_leaves_no_cycle(upstream: Upstream) -> None:
    class Argument:
        def __cache_key__(self) -> str:
            return "key"

    @llm_cached
    def complete(argument: Argument) -> str:
        raise ZeroDivisionError

    gc.disable()
    try:
        argument = Argument()
        seen = weakref.ref(argument)
        with Cache.memory(), contextlib.suppress(ZeroDivisionError):
            complete(argument)
        del argument
        assert seen() is None
    finally:
        gc.enable()


def _is_down(store: object, key: str) -> bytes:
    try:
        raise ConnectionRefusedError("down")
    except ConnectionRefusedError as error:
        raise StoreError("down") from error


async def _ais_down(store: object, key: str) -> bytes:
    return _is_down(store, key)


def _is_damaged(store: object, key: str) -> bytes:
    return b"rubbish"


async def _ais_damaged(store: object, key: str) -> bytes:
    return b"rubbish"


@pytest.mark.filterwarnings("ignore::cachewrap.errors.CacheWarning")
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("reads", [(_is_down, _ais_down), (_is_damaged, _ais_damaged)])
@pytest.mark.parametrize("kind", ["function", "coroutine function", "generator", "key"])
def test_a_fault_of_the_store_holds_nothing_that_the_caller_has(
    monkeypatch: pytest.MonkeyPatch, kind: str, reads: tuple[Any, Any], watched: bool
) -> None:
    @llm_cached
    def complete(prompt: str) -> str:
        return prompt

    @llm_cached
    async def acomplete(prompt: str) -> str:
        return prompt

    @llm_cached
    def stream(prompt: str) -> Iterator[str]:
        yield prompt

    cache = Cache.memory(on_event=(lambda event: None) if watched else None)
    monkeypatch.setattr(type(cache.store), "get", reads[0])
    monkeypatch.setattr(type(cache.store), "aget", reads[1])
    calls: dict[str, Callable[[], object]] = {
        "function": lambda: complete("hi"),
        "coroutine function": lambda: asyncio.run(acomplete("hi")),
        "generator": lambda: list(stream("hi")),
        "key": lambda: cache.get("hi"),
    }

    def ask() -> weakref.ref[threading.Event]:
        held = threading.Event()
        with cache:
            calls[kind]()
        return weakref.ref(held)

    ask()  # warned once
    gc.disable()
    try:
        assert ask()() is None
    finally:
        gc.enable()


def test_a_fault_leaves_the_error_that_its_caller_handles_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = Cache.memory()
    monkeypatch.setattr(type(cache.store), "get", _is_down)

    def fail() -> None:
        raise ZeroDivisionError

    def recover() -> None:
        try:
            fail()
        except ZeroDivisionError:
            with pytest.warns(CacheWarning):
                cache.get("hi")
            raise

    with pytest.raises(ZeroDivisionError) as caught:
        recover()
    assert caught.traceback[-1].name == "fail"


@pytest.mark.parametrize("watched", [False, True])
def test_a_fault_that_is_raised_tells_where_it_came_from(
    monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    @llm_cached
    def complete(prompt: str) -> str:
        return prompt

    cache = Cache.memory(on_error="raise", on_event=(lambda event: None) if watched else None)
    monkeypatch.setattr(type(cache.store), "get", _is_down)
    with cache, pytest.raises(StoreError) as caught:
        complete("hi")
    assert caught.value.__cause__ is not None
    assert caught.value.__cause__.__traceback__ is not None


def test_single_flight_can_be_switched_off(upstream: Upstream) -> None:
    complete, _ = functions(upstream)
    cache = Cache.memory(single_flight=False)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(complete, "hi", cache=cache) for _ in range(4)]  # type: ignore[call-arg]
        for _ in range(4):
            assert upstream.came.acquire(timeout=WAIT)
        upstream.gate.set()
        answers = {future.result(WAIT) for future in asked}
    # Each goes upstream; the first stored answer wins all the same.
    assert (upstream.calls, len(answers)) == (4, 1)


def test_a_stop_iteration_of_the_call_comes_out_as_it_is() -> None:
    @llm_cached
    def complete(prompt: str) -> str:
        raise StopIteration("odd")

    with Cache.memory(), pytest.raises(StopIteration, match="odd"):
        complete("hi")


def test_another_seed_is_another_flight(upstream: Upstream) -> None:
    complete, _ = functions(upstream)
    cache = Cache.memory()
    with ThreadPoolExecutor(2) as pool:
        asked = [
            pool.submit(complete, "hi", cache=cache, cache_seed=seed)  # type: ignore[call-arg]
            for seed in (1, 2)
        ]
        for _ in range(2):
            assert upstream.came.acquire(timeout=WAIT)
        upstream.gate.set()
        assert {future.result(WAIT) for future in asked} == {"hi #1", "hi #2"}
