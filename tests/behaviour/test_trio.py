"""Async callers in tasks of trio: what holds on an event loop of asyncio holds there."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import openai._utils._sync
import pytest
from standin import Upstream

from cachewrap import Cache, llm_cached, patch_httpx, patch_openai
from cachewrap.call.flight import _flights
from cachewrap.stores.base import Claim, Store
from cachewrap.streams.shared import _under_way

trio = pytest.importorskip("trio")
pytest.importorskip("trio.testing")


@pytest.fixture
def cache(store: Store) -> Cache:
    return Cache(store, on_error="raise")


class Asked:
    """Decorated functions that note when they are really called."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.called = threading.Event()
        self.go = threading.Event()
        self.go.set()

        @llm_cached
        async def complete(prompt: str) -> str:
            self.prompts.append(prompt)
            self.called.set()
            await trio.to_thread.run_sync(self.go.wait, abandon_on_cancel=True)
            return f"{prompt} {len(self.prompts)}"

        @llm_cached
        async def spell(prompt: str) -> AsyncIterator[str]:
            self.prompts.append(prompt)
            for letter in prompt:
                await trio.sleep(0)
                yield letter

        self.complete = complete
        self.spell = spell


@pytest.fixture
def asked() -> Asked:
    return Asked()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():
            await trio.sleep(0.001)


def waiting(count: int) -> bool:
    """Whether that many callers wait for the flights under way."""
    return sum(len(flight._callbacks) for flight in list(_flights.values())) == count


def test_the_second_call_is_a_hit(cache: Cache, asked: Asked) -> None:
    async def main() -> Any:
        async with cache:
            return [await asked.complete("hi") for _ in range(2)]

    assert trio.run(main) == ["hi 1", "hi 1"]
    assert trio.run(main) == ["hi 1", "hi 1"]
    assert cache.stats.errors == 0


def test_a_stream_is_replayed(cache: Cache, asked: Asked) -> None:
    async def main() -> Any:
        async with cache:
            return [[letter async for letter in asked.spell("hi")] for _ in range(2)]

    assert trio.run(main) == [["h", "i"], ["h", "i"]]
    assert asked.prompts == ["hi"]


def test_tasks_that_ask_at_the_same_time_make_one_call(cache: Cache, asked: Asked) -> None:
    asked.go.clear()
    answers = []

    async def ask() -> None:
        answers.append(await asked.complete("hi"))

    async def main() -> None:
        async with cache, trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
            await until(lambda: waiting(2))
            asked.go.set()

    trio.run(main)
    assert answers == ["hi 1"] * 3
    assert cache.stats.joined == 2


def test_lists_share_what_they_have_in_common(cache: Cache) -> None:
    asked: list[str] = []

    @llm_cached(each="texts")
    async def embed(texts: list[str]) -> list[str]:
        asked.extend(texts)
        await trio.lowlevel.checkpoint()
        return [text.upper() for text in texts]

    async def ask(texts: str) -> None:
        assert await embed(list(texts)) == list(texts.upper())

    async def main() -> None:
        async with cache, trio.open_nursery() as nursery:
            for texts in ("abc", "cda", "dcbe"):
                nursery.start_soon(ask, texts)

    trio.run(main)
    assert sorted(asked) == list("abcde")


def test_a_cancelled_leader_leaves_its_place_to_another_task(cache: Cache, asked: Asked) -> None:
    asked.go.clear()
    answers = []

    async def ask(scope: Any) -> None:
        with scope:
            answers.append(await asked.complete("hi"))

    async def main() -> None:
        first, other = trio.CancelScope(), trio.CancelScope()
        async with cache, trio.open_nursery() as nursery:
            nursery.start_soon(ask, first)
            await until(asked.called.is_set)
            nursery.start_soon(ask, other)
            await until(lambda: waiting(1))
            first.cancel()
            asked.go.set()

    trio.run(main)
    assert answers == ["hi 2"]


@pytest.mark.shared
def test_a_cancelled_leader_leaves_its_place_to_another_process(cache: Cache, asked: Asked) -> None:
    asked.go.clear()
    cache = Cache(cache.store, lease_seconds=60)  # longer than `until` waits
    key = asked.complete.cache_key("hi")

    async def ask(scope: Any) -> None:
        with scope:
            await asked.complete("hi")

    async def main() -> None:
        scope = trio.CancelScope()
        async with cache:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, scope)
                await until(asked.called.is_set)
                scope.cancel()
                asked.go.set()
            await until(lambda: cache.store.acquire(key, "another-1", 1) is Claim.TAKEN)
            cache.store.release(key, "another-1")

    trio.run(main)


def test_a_task_waits_for_the_call_of_another_thread(cache: Cache, asked: Asked) -> None:
    asked.go.clear()
    answers = []

    async def ask() -> None:
        answers.append(await asked.complete("hi"))

    async def follow() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await until(lambda: waiting(1))
            asked.go.set()

    def run(main: Callable[[], Any]) -> None:
        with cache:
            trio.run(main)

    leader = threading.Thread(target=run, args=(ask,))
    leader.start()
    asked.called.wait()
    run(follow)
    leader.join()
    assert answers == ["hi 1"] * 2


@pytest.fixture
def up() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.mark.skipif(
    not hasattr(openai._utils._sync, "sniffio"), reason="this SDK itself needs asyncio"
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_the_patched_sdk_is_cached(cache: Cache, up: Upstream, stream: bool) -> None:
    openai = pytest.importorskip("openai")

    async def ask(client: Any) -> Any:
        answer = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=stream
        )
        return [chunk.model_dump() async for chunk in answer] if stream else answer.model_dump()

    async def main() -> Any:
        async with cache, openai.AsyncOpenAI(base_url=up.base_url, api_key="k") as client:
            return [await ask(client) for _ in range(3)]

    with patch_openai():
        first, *later = trio.run(main)
    assert later == [first, first]
    assert up.calls == 1


EIGHT = range(8)


class TestSharing:
    """Eight callers of one request at one time."""

    def test_a_generator(self, cache: Cache, asked: Asked) -> None:
        answers = []

        async def ask() -> None:
            answers.append([letter async for letter in asked.spell("hi")])

        async def main() -> None:
            async with cache, trio.open_nursery() as nursery:
                for _ in EIGHT:
                    nursery.start_soon(ask)

        trio.run(main)
        assert answers == [["h", "i"]] * 8
        stats = cache.stats  # who looks late finds it stored
        assert (asked.prompts, stats.misses, stats.joined + stats.hits) == (["hi"], 1, 7)

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_a_generator_under_anyio(self, asked: Asked, backend: str) -> None:
        prompts, answers = [], []

        @llm_cached
        async def spell(prompt: str) -> AsyncIterator[str]:
            prompts.append(prompt)
            with anyio.fail_after(20):
                for letter in prompt:
                    await anyio.sleep(0.001)
                    yield letter

        async def ask() -> None:
            answers.append([letter async for letter in spell("hi")])

        async def main() -> None:
            async with Cache.memory(), anyio.create_task_group() as group:
                for _ in EIGHT:
                    group.start_soon(ask)

        anyio.run(main, backend=backend)
        assert (answers, prompts) == ([["h", "i"]] * 8, ["hi"])

    @pytest.mark.parametrize("patched", [False, True], ids=["httpx", "openai"])
    def test_a_response(self, cache: Cache, patched: bool) -> None:
        httpx = pytest.importorskip("httpx")
        if patched and not hasattr(openai._utils._sync, "sniffio"):
            pytest.skip("this SDK itself needs asyncio")
        answers = []
        body: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}

        async def ask(up: Upstream) -> None:
            if patched:
                async with openai.AsyncOpenAI(base_url=up.base_url, api_key="k") as client:
                    stream = await client.chat.completions.create(**body)
                    answers.append([chunk.model_dump() async for chunk in stream])
                return
            async with (
                httpx.AsyncClient() as client,
                client.stream("POST", f"{up.base_url}/chat/completions", json=body) as response,
            ):
                answers.append(await response.aread())

        async def main(up: Upstream) -> None:
            async with cache, trio.open_nursery() as nursery:
                for _ in EIGHT:
                    nursery.start_soon(ask, up)

        patch = patch_openai() if patched else patch_httpx(hosts=["127.0.0.1:*"])
        with Upstream(delay=0.05, gap=0.005) as up, patch:
            trio.run(main, up)
            assert up.calls == 1
        assert answers == [answers[0]] * 8
        stats = cache.stats
        assert (stats.misses, stats.joined + stats.hits, stats.stored) == (1, 7, 1)

    @pytest.mark.parametrize("cancelled", [0, 1, 4], ids=["the first", "a second", "the last"])
    def test_a_cancelled_reader_harms_nobody(self, cache: Cache, cancelled: int) -> None:
        go, starts, answers = trio.Event(), [], []

        @llm_cached
        async def spell(prompt: str) -> AsyncIterator[str]:
            starts.append(prompt)
            yield "h"
            await go.wait()
            yield "i"

        async def ask(scope: Any) -> None:
            with scope:
                answers.append([letter async for letter in spell("hi")])

        async def main() -> None:
            scopes = [trio.CancelScope() for _ in range(5)]
            async with cache, trio.open_nursery() as nursery:
                for scope in scopes:
                    nursery.start_soon(ask, scope)
                await until(lambda: readers() == 5 and bool(starts))
                await trio.testing.wait_all_tasks_blocked()
                scopes[cancelled].cancel()
                await until(lambda: readers() == 4)
                go.set()

        trio.run(main)
        assert (answers, starts) == ([["h", "i"]] * 4, ["hi"])
        assert cache.stats.stored == 1

    def test_when_all_are_cancelled_upstream_is_closed_before_they_are_done(
        self, cache: Cache
    ) -> None:
        begun, closed = [], []

        @llm_cached
        async def spell(prompt: str) -> AsyncIterator[str]:
            begun.append(True)
            try:
                yield "h"
                await trio.sleep_forever()
            finally:
                closed.append(True)

        async def main() -> None:
            async with cache:
                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(collect, spell("hi"))
                    # All tasks may be blocked before the first has begun: a store has threads.
                    await until(lambda: readers() == 3 and bool(begun))
                    await trio.testing.wait_all_tasks_blocked()
                    nursery.cancel_scope.cancel()
                assert closed == [True]

        trio.run(main)
        assert cache.stats.stored == 0

    def test_a_reader_of_what_is_there_can_be_cancelled(self, cache: Cache) -> None:
        @llm_cached
        async def count(prompt: str) -> AsyncIterator[int]:
            for number in range(3):
                yield number
            await trio.sleep_forever()

        async def main() -> None:
            async with cache:
                first, second = count("hi"), count("hi")
                for _ in range(3):
                    await anext(first)
                assert await anext(second) == 0
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await anext(second)
                assert scope.cancelled_caught
                await first.aclose()
                await second.aclose()

        trio.run(main)

    def test_runs_do_not_share(self, asked: Asked) -> None:
        cache = Cache.memory()

        async def begin(depth: int) -> None:
            stream = asked.spell("hi")
            assert await anext(stream) == "h"
            if depth:
                await trio.to_thread.run_sync(run, depth - 1)
            await stream.aclose()

        def run(depth: int) -> None:
            with cache:
                trio.run(begin, depth)

        run(1)
        assert asked.prompts == ["hi", "hi"]

    def test_a_run_that_ends_amid_a_stream_ends(self, asked: Asked) -> None:
        async def main() -> Any:
            stream = asked.spell("hi", cache=Cache.memory())
            await anext(stream)
            return stream

        stream = trio.run(main)
        del stream

    def test_a_sync_caller_in_a_task_goes_alone(self) -> None:
        starts = []

        @llm_cached
        def spell(prompt: str) -> Iterator[str]:
            starts.append(prompt)
            yield from prompt

        async def main() -> None:
            assert list(spell("hi")) == ["h", "i"]

        with Cache.memory():
            first = spell("hi")
            assert next(first) == "h"
            trio.run(main)
            assert list(first) == ["i"]
        assert len(starts) == 2

    def test_a_stalled_stream_is_given_up(self) -> None:
        starts = []

        @llm_cached
        async def spell(prompt: str) -> AsyncIterator[str]:
            starts.append(prompt)
            if len(starts) == 1:
                await trio.sleep_forever()
            yield "h"

        async def main() -> list[str]:
            async with Cache.memory(wait_seconds=0.05), trio.open_nursery() as nursery:
                nursery.start_soon(collect, spell("hi"))
                await until(lambda: readers() == 1)
                answer = await collect(spell("hi"))
                nursery.cancel_scope.cancel()
            return answer

        assert trio.run(main) == ["h"]


async def collect(stream: Any) -> list[Any]:
    return [item async for item in stream]


def readers() -> int:
    return sum(stream.readers for stream in list(_under_way.values()))
