"""Which cache serves a call of the SDK, and when none does."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from standin import Upstream

import cachewrap
from cachewrap import Cache, no_cache
from sdk.openai.asking import Colour
from sdk.openai.shapes import BY_NAME

CHAT = BY_NAME["chat"]
STREAM = BY_NAME["chat-stream"]


@pytest.mark.parametrize("shape", [CHAT, STREAM], ids=lambda shape: shape.name)
class TestNothingIsCached:
    def test_outside_any_block(self, up: Upstream, client: Any, colour: Colour, shape: Any) -> None:
        colour.ask(client, shape)
        colour.ask(client, shape)
        assert up.calls == 2

    def test_after_the_block(
        self, up: Upstream, client: Any, colour: Colour, shape: Any, cache: Cache
    ) -> None:
        with cache:
            colour.ask(client, shape)
        colour.ask(client, shape)
        assert up.calls == 2

    def test_in_a_no_cache_block(
        self, up: Upstream, client: Any, colour: Colour, shape: Any, cache: Cache
    ) -> None:
        with cache:
            colour.ask(client, shape)
            with no_cache():
                colour.ask(client, shape)
        assert up.calls == 2

    def test_in_a_no_cache_block_by_a_cache_of_its_own(
        self, up: Upstream, client: Any, colour: Colour, shape: Any, cache: Cache
    ) -> None:
        with no_cache():
            colour.ask(client, shape, cache=cache)
            colour.ask(client, shape, cache=cache)
        assert up.calls == 2

    def test_in_the_block_of_a_cache_without_a_seed(
        self, up: Upstream, client: Any, colour: Colour, shape: Any
    ) -> None:
        with Cache.memory(cache_seed=None):
            colour.ask(client, shape)
            colour.ask(client, shape)
        assert up.calls == 2


@pytest.mark.parametrize("shape", [CHAT, STREAM], ids=lambda shape: shape.name)
class TestWhichCache:
    def test_the_innermost_block_wins(
        self, up: Upstream, client: Any, colour: Colour, shape: Any, cache: Cache
    ) -> None:
        with cache:
            with Cache.memory():
                colour.ask(client, shape)
            colour.ask(client, shape)
            colour.ask(client, shape)
        assert up.calls == 2

    def test_the_own_cache_of_a_call_beats_the_block(
        self, up: Upstream, client: Any, colour: Colour, shape: Any, cache: Cache
    ) -> None:
        with Cache.memory() as block:
            colour.ask(client, shape, cache=cache)
        assert (block.stats.misses, cache.stats.misses) == (0, 1)

    def test_the_cache_given_to_the_patch_is_the_last_resort(
        self, up: Upstream, client: Any, colour: Colour, shape: Any, cache: Cache
    ) -> None:
        cachewrap.unpatch_openai()
        with cachewrap.patch_openai(cache=cache), Cache.memory() as block:
            colour.ask(client, shape)
            assert (block.stats.misses, cache.stats.misses) == (1, 0)
        with cachewrap.patch_openai(cache=cache):
            colour.ask(client, shape)
            colour.ask(client, shape)
        assert (cache.stats.misses, cache.stats.hits) == (1, 1)

    def test_a_block_entered_again_still_has_its_answers(
        self, up: Upstream, client: Any, colour: Colour, shape: Any, cache: Cache
    ) -> None:
        for _ in range(2):
            with cache:
                colour.ask(client, shape)
        assert up.calls == 1


SEEDS = [
    (41, 41, 1),
    (41, "41", 1),
    (41, 7, 2),
    ("a", "b", 2),
    (None, None, 2),
]


@pytest.mark.parametrize("shape", [CHAT, STREAM], ids=lambda shape: shape.name)
@pytest.mark.parametrize(("one", "other", "calls"), SEEDS)
class TestSeeds:
    def test_of_two_calls_in_one_block(
        self,
        up: Upstream,
        client: Any,
        colour: Colour,
        shape: Any,
        cache: Cache,
        one: Any,
        other: Any,
        calls: int,
    ) -> None:
        with cache:
            colour.ask(client, shape, cache_seed=one)
            colour.ask(client, shape, cache_seed=other)
        assert up.calls == calls

    def test_of_two_blocks_on_one_store(
        self,
        up: Upstream,
        client: Any,
        colour: Colour,
        shape: Any,
        cache: Cache,
        one: Any,
        other: Any,
        calls: int,
    ) -> None:
        for seed in (one, other):
            with cache.reseed(seed):
                colour.ask(client, shape)
        assert up.calls == calls


def test_a_lazy_helper_keeps_the_cache_of_its_call(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    shape = BY_NAME.get("chat-helper") or BY_NAME.get("chat-helper-beta")
    if shape is None:
        pytest.skip("this SDK has no stream helper")
    for _ in range(2):
        manager = shape_method(client, shape.method)(**shape.ask(1), cache=cache)
        colour.wait(consume(manager) if colour.name == "sync" else aconsume(manager))
    assert up.calls == 1


def shape_method(client: Any, path: str) -> Callable[..., Any]:
    for name in path.split("."):
        client = getattr(client, name)
    return client  # type: ignore[no-any-return]


def consume(manager: Any) -> None:
    with manager as stream:
        stream.until_done()


async def aconsume(manager: Any) -> None:
    async with manager as stream:
        await stream.until_done()


def in_a_thread(work: Callable[[], Any]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def in_a_pool(work: Callable[[], Any]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def in_a_mapped_pool(work: Callable[[], Any]) -> None:
    with ThreadPoolExecutor(1) as pool:
        list(pool.map(lambda _: work(), [None]))


def in_an_executor(work: Callable[[], Any]) -> None:
    async def run() -> None:
        await asyncio.get_running_loop().run_in_executor(None, work)

    asyncio.run(run())


def in_to_thread(work: Callable[[], Any]) -> None:
    async def run() -> None:
        await asyncio.to_thread(work)

    asyncio.run(run())


@pytest.mark.parametrize(
    "elsewhere", [in_a_thread, in_a_pool, in_a_mapped_pool, in_an_executor, in_to_thread]
)
@pytest.mark.parametrize("colour", ["sync"], indirect=True)
def test_a_block_reaches_worker_threads(
    up: Upstream, client: Any, colour: Colour, cache: Cache, elsewhere: Callable[[Any], None]
) -> None:
    with cache:
        elsewhere(lambda: colour.ask(client, CHAT))
        elsewhere(lambda: colour.ask(client, CHAT))
    assert up.calls == 1


@pytest.mark.parametrize("colour", ["sync"], indirect=True)
def test_threads_that_ask_at_the_same_time_get_one_answer(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    gate = threading.Event()
    up.behave(gate=gate)
    with cache, ThreadPoolExecutor(8) as pool:
        contexts = [contextvars.copy_context() for _ in range(8)]
        asked = [pool.submit(context.run, colour.ask, client, CHAT) for context in contexts]
        up.wait_for(1)
        gate.set()
        answers = [future.result(20) for future in asked]
    assert all(answer == answers[0] for answer in answers)
    assert up.calls == 1


def test_tasks_that_ask_at_the_same_time_get_one_answer(up: Upstream, cache: Cache) -> None:
    async def run() -> set[str]:
        async with AsyncOpenAI(base_url=up.base_url, api_key="k") as client:
            asked = (client.chat.completions.create(**CHAT.ask(1)) for _ in range(8))
            return {answer.id for answer in await asyncio.gather(*asked)}

    with cache:
        assert len(asyncio.run(run())) == 1
    assert up.calls == 1


PROGRAM = """
import sys
from openai import OpenAI
from cachewrap import Cache, patch_openai

patch_openai()
with Cache.disk(cache_path_root=sys.argv[2]) as cache:
    client = OpenAI(base_url=sys.argv[1], api_key="k")
    ask = dict(model="m", messages=[dict(role="user", content="hi")])
    print(client.chat.completions.create(**ask).model_dump_json())
    for chunk in client.chat.completions.create(**ask, stream=True):
        print(chunk.model_dump_json())
"""


def test_another_process_finds_the_answers_on_disk(up: Upstream, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, up.base_url, str(tmp_path)]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert (up.calls, second) == (2, first)
