"""Samples: the n-th occurrence of a request is an answer of its own, and stays it."""

from __future__ import annotations

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from colours import COLOURS, Function, Upstream

from cachewrap import Cache, ConfigurationError, llm_cached, no_cache, patch_threads

WAIT = 20.0


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def complete(colour: str, upstream: Upstream) -> Function:
    return Function(colour, upstream.answer)


def ask(complete: Function, times: int, prompt: str = "hi") -> list[str]:
    return [complete(prompt) for _ in range(times)]


@pytest.mark.store
class TestABlock:
    def test_every_occurrence_goes_upstream_once(
        self, cache: Cache, complete: Function, upstream: Upstream
    ) -> None:
        with cache.samples():
            assert ask(complete, 3) == ["hi #1", "hi #2", "hi #3"]

    def test_the_next_run_gets_the_same_answers(
        self, cache: Cache, complete: Function, upstream: Upstream
    ) -> None:
        with cache.samples():
            first = ask(complete, 3)
        with cache.samples():
            assert (ask(complete, 3), upstream.calls) == (first, 3)

    def test_a_longer_run_only_asks_for_what_is_new(
        self, cache: Cache, complete: Function, upstream: Upstream
    ) -> None:
        with cache.samples():
            first = ask(complete, 2)
        with cache.samples():
            assert ask(complete, 4) == [*first, "hi #3", "hi #4"]

    def test_the_first_sample_is_what_is_stored_without_samples(
        self, cache: Cache, complete: Function
    ) -> None:
        with cache:
            plain = complete("hi")
            with cache.samples():
                assert ask(complete, 2) == [plain, "hi #2"]
            assert complete("hi") == plain


class TestWhatIsCounted:
    def test_each_request_by_itself(self, complete: Function) -> None:
        with Cache.memory().samples():
            assert [complete("a"), complete("b"), complete("a")] == ["a #1", "b #2", "a #3"]
        assert complete.decorated.cache_key("a") != complete.decorated.cache_key("b")

    def test_each_seed_by_itself(self, complete: Function, upstream: Upstream) -> None:
        with Cache.memory() as cache:
            complete("hi", cache_seed=7)
            with cache.samples():
                complete("hi")
                assert complete("hi", cache_seed=7) == "hi #1"
                assert complete("hi", cache_seed=7) == "hi #3"

    def test_another_seed_gives_other_samples(self, complete: Function) -> None:
        cache = Cache.memory()
        with cache.samples():
            first = ask(complete, 2)
        with cache.reseed(7).samples():
            assert set(first).isdisjoint(ask(complete, 2))

    def test_an_inner_block_counts_for_itself(self, complete: Function) -> None:
        cache = Cache.memory()
        with cache.samples():
            outer = complete("hi")
            with cache.samples():
                assert complete("hi") == outer
            assert complete("hi") != outer

    def test_a_call_outside_the_cache_is_not_counted(self, complete: Function) -> None:
        with Cache.memory().samples():
            with no_cache():
                complete("hi")
            complete("hi", mode="off")
            complete("hi", cache_seed=None)
            complete("hi")
            assert complete.decorated.invalidate("hi")

    @pytest.mark.parametrize("colour", ["sync", "async"])
    def test_a_call_that_failed_leaves_its_number(
        self, complete: Function, upstream: Upstream
    ) -> None:
        cache = Cache.memory()
        with cache.samples():
            upstream.failing = 1
            with pytest.raises(ConnectionError):
                complete("hi")
            answers = ask(complete, 2)
        assert [complete("hi", cache=cache, sample=number) for number in range(2)] == answers

    def test_a_retry_takes_no_number(self, colour: str, upstream: Upstream) -> None:
        complete = Function(colour, upstream.answer, retry=1)
        cache = Cache.memory()
        upstream.failing = 0 if "generator" in colour else 1
        with cache.samples():
            first = ask(complete, 2)
        with cache.samples():
            assert ask(complete, 2) == first

    def test_refreshing_samples_replaces_each_of_them(self, complete: Function) -> None:
        cache = Cache.memory()
        with cache.samples():
            first = ask(complete, 2)
        with cache.samples().mode("refresh"):
            second = ask(complete, 2)
        with cache.samples():
            assert ask(complete, 2) == second
        assert set(first).isdisjoint(second)


class TestTheOptionOfACache:
    def test_each_entering_counts_anew(self, complete: Function) -> None:
        cache = Cache.memory(samples=True)
        with cache:
            first = ask(complete, 2)
        with cache:
            assert ask(complete, 2) == first
        assert len(set(first)) == 2

    def test_in_a_url(self, complete: Function) -> None:
        with Cache.from_url("memory://?samples=true"):
            assert len(set(ask(complete, 2))) == 2

    def test_as_the_cache_of_a_call_inside_its_own_block(self, complete: Function) -> None:
        cache = Cache.memory(samples=True)
        with cache:
            assert complete("hi") != complete("hi", cache=cache)
        with cache:
            assert complete("hi", cache=cache) == "hi #1"

    def test_that_was_not_entered_counts_from_its_making_on(self, complete: Function) -> None:
        cache = Cache.memory(samples=True)
        assert complete("hi", cache=cache) != complete("hi", cache=cache)
        with cache:
            assert complete("hi") == "hi #1"


class TestTheOptionOfADecorator:
    def test_counts_in_the_innermost_block(self, colour: str, upstream: Upstream) -> None:
        complete = Function(colour, upstream.answer, samples=True)
        cache = Cache.memory()
        for _ in range(2):
            with cache:
                assert ask(complete, 2) == ["hi #1", "hi #2"]

    def test_counts_outside_any_block_from_the_decoration_on(
        self, colour: str, upstream: Upstream
    ) -> None:
        cache = Cache.memory()
        for _ in range(2):
            complete = Function(colour, upstream.answer, samples=True, cache=cache)
            assert ask(complete, 2) == ["hi #1", "hi #2"]


class TestOneCallsOwnSample:
    def test_is_an_answer_of_its_own_that_stays(self, complete: Function) -> None:
        with Cache.memory():
            first = [complete("hi", sample=number) for number in range(3)]
            assert [complete("hi", sample=number) for number in range(3)] == first
        assert len(set(first)) == 3

    def test_zero_is_the_request_itself(self, complete: Function) -> None:
        with Cache.memory():
            assert complete("hi", sample=0) == complete("hi")

    def test_is_the_sample_of_that_number_in_a_block(self, complete: Function) -> None:
        cache = Cache.memory()
        with cache.samples():
            first = ask(complete, 2)
        with cache:
            assert [complete("hi", sample=1), complete("hi", sample=0)] == first[::-1]

    def test_is_not_counted(self, complete: Function) -> None:
        with Cache.memory().samples():
            complete("hi", sample=5)
            complete("hi", sample=0)
            assert complete("hi") == "hi #2"

    def test_seed_and_sample_are_orthogonal(self, complete: Function) -> None:
        with Cache.memory():
            answers = [
                complete("hi", sample=sample, cache_seed=seed)
                for sample in range(2)
                for seed in range(2)
            ]
        assert len(set(answers)) == 4

    @pytest.mark.parametrize("sample", [-1, 1.0, "1", True])
    def test_must_be_a_number_from_0_on(self, complete: Function, sample: Any) -> None:
        with Cache.memory(), pytest.raises(ConfigurationError, match="sample"):
            complete("hi", sample=sample)

    def test_has_a_key(self, complete: Function) -> None:
        decorated = complete.decorated
        keys = [decorated.cache_key("hi", sample=number) for number in range(3)]
        assert len({*keys, decorated.cache_key("hi")}) == 3

    def test_can_be_invalidated(self, complete: Function) -> None:
        with Cache.memory():
            complete("hi", sample=1)
            assert not complete.decorated.invalidate("hi")
            assert complete.decorated.invalidate("hi", sample=1)


class TestCallsInsideASample:
    """What a sampled function asks belongs to its sample: samples never fall into one."""

    @pytest.fixture
    def inner(self, upstream: Upstream) -> Function:
        return Function("sync", upstream.answer, version="inner")

    @pytest.fixture
    def outer(self, colour: str, inner: Function) -> Function:
        return Function(colour, lambda prompt: inner(prompt).upper())

    def test_a_longer_run_gets_new_answers(self, outer: Function) -> None:
        cache = Cache.memory()
        with cache.samples():
            first = outer("hi")
        with cache.samples():
            answers = ask(outer, 3)
        assert (answers[0], len(set(answers))) == (first, 3)

    def test_samples_by_number_are_different(self, outer: Function) -> None:
        with Cache.memory():
            assert len({outer("hi", sample=number) for number in range(3)}) == 3

    def test_outside_any_block(self, colour: str, upstream: Upstream) -> None:
        inner = Function("sync", upstream.answer, version="inner", cache=Cache.memory())
        outer = Function(colour, lambda prompt: inner(prompt), cache=Cache.memory())
        assert len({outer("hi", sample=number) for number in range(3)}) == 3

    def test_a_call_that_asks_twice_gets_two_answers(
        self, colour: str, inner: Function, upstream: Upstream
    ) -> None:
        twice = Function(colour, lambda prompt: [inner(prompt), inner(prompt)])
        cache = Cache.memory()
        with cache.samples():
            first, second = twice("hi"), twice("hi")
        assert len({*first, *second}) == 4
        with cache.samples():
            assert [twice("hi"), twice("hi")] == [first, second]

    def test_what_only_differs_in_what_is_not_passed_on_differs(
        self, colour: str, inner: Function
    ) -> None:
        outer = Function(colour, lambda prompt: inner(prompt.partition(" ")[0]))
        with Cache.memory().samples():
            assert outer("hi 1") != outer("hi 2")

    def test_the_consumer_of_a_sampled_generator_stays_outside(self, inner: Function) -> None:
        @llm_cached
        def numbers() -> Any:
            yield 1
            yield 2

        with Cache.memory():
            plain = inner("hi")
            for _ in numbers(sample=1):  # type: ignore[call-arg]
                assert inner("hi") == plain


class TestAtOneTime:
    """Whatever order tasks and threads run in, n occurrences are the same n answers."""

    def run_tasks(self, cache: Cache, upstream: Upstream, seed: int) -> list[str]:
        order = random.Random(seed)

        @llm_cached
        async def complete(prompt: str) -> str:
            for _ in range(order.randrange(5)):
                await asyncio.sleep(0)
            return upstream.answer(prompt)

        async def later(prompt: str) -> str:
            for _ in range(order.randrange(5)):
                await asyncio.sleep(0)
            return await complete(prompt)

        async def all_of_them() -> list[str]:
            async with cache.samples():
                return await asyncio.gather(*(later("hi") for _ in range(20)))

        return asyncio.run(all_of_them())

    def test_tasks(self, upstream: Upstream) -> None:
        cache = Cache.memory()
        first = self.run_tasks(cache, upstream, 1)
        second = self.run_tasks(cache, upstream, 2)
        assert (sorted(first), upstream.calls) == (sorted(second), 20)
        assert len(set(first)) == 20

    def test_coroutines_have_their_numbers_when_they_are_made(self, upstream: Upstream) -> None:
        @llm_cached
        async def complete(prompt: str) -> str:
            return upstream.answer(prompt)

        async def backwards() -> list[str]:
            async with Cache.memory() as cache:
                with cache.samples():
                    calls = [complete("hi") for _ in range(3)]
                answers = [await call for call in reversed(calls)]
                with cache.samples():
                    assert [await complete("hi") for _ in range(3)] == answers[::-1]
                return answers

        assert asyncio.run(backwards()) == ["hi #1", "hi #2", "hi #3"]

    def test_threads(self, upstream: Upstream) -> None:
        lock = threading.Lock()

        @llm_cached
        def complete(prompt: str) -> str:
            with lock:
                return upstream.answer(prompt)

        def run(cache: Cache) -> list[str]:
            barrier = threading.Barrier(8)

            def caller() -> str:
                barrier.wait(WAIT)
                return complete("hi")

            with patch_threads(), cache.samples(), ThreadPoolExecutor(8) as pool:
                asked = [pool.submit(caller) for _ in range(8)]
                return sorted(future.result(WAIT) for future in asked)

        cache = Cache.memory()
        first = run(cache)
        assert (run(cache), upstream.calls, len(set(first))) == (first, 8, 8)

    def test_two_blocks_at_once_share_the_call_of_each_sample(self, upstream: Upstream) -> None:
        @llm_cached
        async def complete(prompt: str) -> str:
            await asyncio.sleep(0.01)
            return upstream.answer(prompt)

        async def run(cache: Cache) -> list[str]:
            async with cache.samples():
                return await asyncio.gather(*(complete("hi") for _ in range(3)))

        async def both() -> list[list[str]]:
            cache = Cache.memory()
            return await asyncio.gather(run(cache), run(cache))

        one, other = asyncio.run(both())
        assert (one == other, upstream.calls) == (True, 3)
