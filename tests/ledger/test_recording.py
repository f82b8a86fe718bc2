"""Recording: every call of a run is in it once, as it was, whoever made it."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trio
from openai import OpenAI
from standin import Upstream

from cachewrap import Cache, no_cache, patch_openai
from cachewrap.ledger.calls import Call
from ledger import asking


def calls_of(cache: Cache, name: str = "trial") -> list[Call]:
    """The calls of the newest run of that name."""
    return cache.runs()[name].calls()


@pytest.mark.parametrize("kind", asking.FUNCTIONS)
def test_a_run_has_what_was_asked_in_its_order(cache: Cache, kind: str) -> None:
    name, ask = asking.FUNCTIONS[kind]
    with cache.run("trial"):
        asking.one_after_the_other(ask, ["a", "a", "b", "a"])
    calls = calls_of(cache)
    assert [call.outcome for call in calls] == ["miss", "hit", "miss", "hit"]
    assert [call.number for call in calls] == [0, 1, 2, 3]
    first, second = calls[0].key, calls[2].key
    assert [call.key for call in calls] == [first, first, second, first]
    assert {first, second} == set(cache.keys())
    assert {call.source for call in calls} == {f"ledger.asking:{name}"}
    assert {(call.seed, call.sample, call.process, call.path) for call in calls} == {
        (cache.seed, 0, os.getpid(), "")
    }
    assert [call.started for call in calls] == sorted(call.started for call in calls)


@pytest.mark.parametrize(
    ("way", "kind"),
    [
        pytest.param(way, kind, id=f"{kind} {way}")
        for way in asking.WAYS
        for kind in asking.FUNCTIONS
        if way != "in tasks" or kind.startswith("async")  # the others ask one after the other
    ],
)
def test_a_call_is_in_the_run_once(cache: Cache, way: str, kind: str) -> None:
    _, ask = asking.FUNCTIONS[kind]
    prompts = [f"prompt {number % 6}" for number in range(12)]
    with cache.run("trial"):
        assert asking.WAYS[way](ask, prompts) == [f"{prompt}!" for prompt in prompts]
    calls = calls_of(cache)
    ended = Counter(call.outcome for call in calls)
    stats = cache.stats
    assert (ended["hit"], ended["miss"], ended["joined"]) == (
        stats.hits,
        stats.misses,
        stats.joined,
    )
    assert sorted(Counter(call.key for call in calls).values()) == [2] * 6


@pytest.mark.parametrize("way", ["in threads", "in tasks"])
def test_a_lane_is_a_thread_or_a_task(cache: Cache, way: str) -> None:
    kind = "function" if way == "in threads" else "async function"
    with cache.run("trial"):
        asking.WAYS[way](asking.FUNCTIONS[kind][1], [f"prompt {number}" for number in range(5)])
    assert len({call.lane for call in calls_of(cache)}) == 5


def test_a_run_has_how_calls_ended(cache: Cache) -> None:
    with cache.run("trial"):
        asking.complete("a")
        with pytest.raises(ConnectionError):
            asking.complete("fails")
        asking.complete("a", cache_seed=None)  # type: ignore[call-arg]
        with no_cache():
            asking.complete("a")
    told = [(call.outcome, call.reason) for call in calls_of(cache)]
    assert told[:2] == [("miss", ""), ("failed", "ConnectionError")]
    assert [outcome for outcome, _ in told[2:]] == ["bypassed"] * (len(told) - 2)


def test_samples_have_their_numbers(cache: Cache) -> None:
    with cache.run("trial"), cache.samples():
        for _ in range(3):
            asking.complete("a")
    assert [(call.outcome, call.sample) for call in calls_of(cache)] == [
        ("miss", 0),
        ("miss", 1),
        ("miss", 2),
    ]


def test_blocks_inside_have_their_paths(cache: Cache) -> None:
    with cache.run("trial"):
        asking.complete("a")
        with cache.run("judge"):
            asking.complete("a")
            with cache.run("again"):
                asking.complete("a")
        asking.complete("a")
    assert [call.path for call in calls_of(cache)] == ["", "judge", "judge/again", ""]
    assert [run.name for run in cache.runs()] == ["trial"]
    assert len(calls_of(cache, "trial/judge")) == 2
    assert len(calls_of(cache, "trial/judge/again")) == 1


def test_a_name_again_is_another_run(cache: Cache) -> None:
    for prompt in ("a", "b"):
        with cache.run("trial"):
            asking.complete(prompt)
    assert [run.name for run in cache.runs()] == ["trial", "trial"]
    assert str(cache.runs()) == "[<Run trial~1: 1 call>, <Run trial: 1 call>]"
    assert calls_of(cache)[0].key != calls_of(cache, "trial~1")[0].key
    assert [one.kind for one in cache.runs()["trial~1"].diff("trial").changes] == ["changed"]


def test_how_many_more_there_are_is_told_of_a_name_that_is_none(cache: Cache) -> None:
    for number in range(7):
        with cache.run(f"trial {number}"):
            pass
    with pytest.raises(KeyError, match=r"there are trial 2, .*, trial 6 and 2 more"):
        cache.runs()["other"]


async def _ask(cache: Cache) -> None:
    async with cache.run("trial"):
        await asking.acomplete("a")


def test_a_block_is_entered_by_many_threads_at_once() -> None:
    cache, threads = Cache.memory(), 8
    block, together = cache.run("trial"), threading.Barrier(threads)

    def enter() -> int:
        together.wait()
        for _ in range(3000):
            with block:
                pass
        return 1

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with cache.run("trial"), ThreadPoolExecutor(threads) as pool:
            assert sum(pool.map(lambda _: enter(), range(threads))) == threads
    finally:
        sys.setswitchinterval(before)
    (run,) = cache.runs()
    assert (run.name, run.state) == ("trial", "ended")


def test_a_run_is_a_block_of_async_callers_too(cache: Cache) -> None:
    import asyncio

    asyncio.run(_ask(cache))
    assert [call.outcome for call in calls_of(cache)] == ["miss"]


def test_a_block_that_is_cancelled_ends(tmp_path: Path) -> None:
    cache = Cache.disk(cache_path_root=tmp_path)

    async def main() -> None:
        for _ in range(2):
            with trio.move_on_after(0.1):
                async with cache.run("trial"):
                    asking.complete("a")
                    await trio.sleep(10)

    trio.run(main)
    assert [(len(run.calls()), run.state) for run in cache.runs()] == [(1, "ended")] * 2


def test_calls_of_an_sdk_have_their_usage(cache: Cache) -> None:
    with Upstream() as up, patch_openai(), cache.run("trial"):
        client = OpenAI(api_key="sk", base_url=up.base_url, max_retries=0)
        asked: list[Any] = [{"role": "user", "content": "hi"}]
        told = [client.chat.completions.create(model="gpt-4o", messages=asked) for _ in range(2)]
        with client.chat.completions.create(model="gpt-4o", messages=asked, stream=True) as stream:
            list(stream)
        client.models.list()
        client.close()
    calls = calls_of(cache)
    assert [call.outcome for call in calls] == ["miss", "hit", "miss", "bypassed"]
    assert {call.model for call in calls[:3]} == {"gpt-4o"}
    assert [call.source for call in calls[:3]] == ["POST /chat/completions"] * 3
    usage = told[0].usage
    assert usage is not None
    spent = (usage.prompt_tokens, usage.completion_tokens)
    assert [(call.tokens_in, call.tokens_out) for call in calls[:2]] == [spent, spent]


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_that_is_not_stored_has_been_paid(tmp_path: Path, streamed: bool) -> None:
    """In mode read_only, for one."""
    asked: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    if streamed:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}

    def ask(cache: Cache) -> tuple[Call, Any]:
        with cache.run("trial"), OpenAI(api_key="sk", base_url=up.base_url) as client:
            answer = client.chat.completions.create(**asked)
            list(answer) if streamed else None
        (call,) = calls_of(cache)
        money = cache.stats.money()
        return call, money and money.spent

    with Upstream() as up, patch_openai():
        kept, spent = ask(Cache.memory())
        unkept, unkept_spent = ask(Cache.disk(cache_path_root=tmp_path, mode="read_only"))
    assert kept.tokens_in > 0
    assert (unkept.outcome, unkept.answered) == ("miss", 0.0)
    assert (unkept.usage, unkept.money) == (kept.usage, kept.money)
    assert spent == unkept_spent == kept.money


def test_many_calls_take_little(tmp_path: Path) -> None:
    """100,000 calls at most 10 MB."""
    cache = Cache.disk(cache_path_root=tmp_path)
    with cache.run("trial"):
        for number in range(10_000):
            asking.complete(f"prompt {number // 2}")
    run = cache.runs()["trial"]
    assert len(run.calls()) == 10_000
    assert run.size <= 1_000_000
