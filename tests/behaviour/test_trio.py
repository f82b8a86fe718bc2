"""Async callers in tasks of trio: what holds on an event loop of asyncio holds there."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import openai._utils._sync
import pytest
from standin import Upstream

from cachewrap import Cache, llm_cached, patch_openai
from cachewrap.call.flight import _flights
from cachewrap.stores.base import Claim, Store

trio = pytest.importorskip("trio")


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
