"""Hits by rule: calls that were given what was stored for another request, and by which rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openai import OpenAI
from standin import Upstream

from cachewrap import Cache, llm_cached, patch_openai
from cachewrap.call.stats import summary
from cachewrap.ledger.pieces import Writer, read
from cachewrap.ledger.totals import by_rule, totals
from cachewrap.same import ignore, replace
from cachewrap.testing.stores import key_of
from ledger import asking
from ledger.making import ended

SAME = [replace(r"\d+", "…"), ignore("model", "user")]
DAYS, FIELDS = (rule.label for rule in SAME)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache.disk(cache_path_root=tmp_path, same=SAME) as cache:
        yield cache


def told(cache: Cache) -> list[tuple[str, tuple[str, ...]]]:
    return [(call.outcome, call.rules) for call in cache.runs()["trial"].calls()]


@pytest.mark.parametrize("kind", asking.FUNCTIONS)
def test_a_run_has_the_rules_that_each_hit_needed(cache: Cache, kind: str) -> None:
    _, ask = asking.FUNCTIONS[kind]
    with cache.run("trial"):
        asking.one_after_the_other(ask, ["day 1", "day 2", "day 1", "plain", "plain"])
    assert told(cache) == [("miss", ()), ("hit", (DAYS,)), ("hit", ()), ("miss", ()), ("hit", ())]
    assert (cache.stats.hits, cache.stats.hits_by_rule) == (3, 1)
    assert cache.stats.by_rule == {DAYS: 1}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_so_has_a_run_of_an_sdk(cache: Cache, stream: bool) -> None:
    with Upstream() as upstream, patch_openai(), cache.run("trial"):
        client = OpenAI(base_url=upstream.base_url, api_key="none", max_retries=0)
        for said, user in (("day 1", "a"), ("day 1", "b"), ("day 2", "c"), ("day 1", "a")):
            messages: Any = [{"role": "user", "content": said}]
            answer: Any = client.chat.completions.create(
                model="m", messages=messages, user=user, stream=stream
            )
            list(answer)
    assert told(cache) == [
        ("miss", ()),
        ("hit", (FIELDS,)),
        ("hit", (DAYS, FIELDS)),
        ("hit", ()),
    ]


# -- joined ----------------------------------------------------------------------------------------


@llm_cached(version=1)
async def slowly(prompt: str) -> str:
    await GATES[-1].wait()
    return prompt


@llm_cached(version=1)
async def slow_words(prompt: str) -> AsyncIterator[str]:
    yield prompt
    await GATES[-1].wait()
    yield "!"


async def _list(prompt: str) -> list[str]:
    return [word async for word in slow_words(prompt)]


GATES: list[asyncio.Event] = []


@pytest.mark.parametrize("ask", [slowly, _list], ids=["a call", "a stream"])
def test_who_joined_the_call_of_another_request_is_among_them(ask: Any) -> None:
    async def main() -> list[Any]:
        GATES.append(asyncio.Event())
        tasks = [asyncio.create_task(ask(prompt)) for prompt in ("day 1", "day 2")]
        for _ in range(20):  # memory waits for nothing: both are under way by then
            await asyncio.sleep(0)
        GATES[-1].set()
        return await asyncio.gather(*tasks)

    cache = Cache.memory(same=SAME)
    with cache.run("trial"):
        first, second = asyncio.run(main())
    assert first == second
    assert told(cache) == [("miss", ()), ("joined", (DAYS,))]
    assert (cache.stats.joined, cache.stats.hits_by_rule) == (1, 1)


def test_a_hit_that_an_alias_led_to_is_none_by_rule(cache: Cache) -> None:
    with cache.run("trial"):
        asking.complete("on")
        asked = [asking.complete.cache_key(prompt) for prompt in ("lights on", "on")]
        cache.alias(*asked)
        assert asking.complete("lights on", model="another") == "on!"
    (_, hit) = cache.runs()["trial"].calls()
    assert (hit.outcome, hit.reason, hit.rules, hit.key) == ("hit", "alias", (), asked[0])
    assert (cache.stats.hits_by_alias, cache.stats.hits_by_rule) == (1, 0)
    assert "1 of 2 calls answered from here, 1 of them by alias," in summary(cache.stats, "here")
    assert "1 by alias" in cache.stats._repr_html_()


# -- how it is kept, and added up ------------------------------------------------------------------


def test_of_other_calls_nothing_more_is_written() -> None:
    told = [ended(key_of(0), "hit"), ended(key_of(1), "hit", rules=(DAYS,))]
    plain, ruled = ([*_common(row)] for row in told)
    assert ruled == [*plain, [DAYS]]


def _common(row: Any) -> list[Any]:
    piece = msgspec.msgpack.decode(Writer(1, 1).calls([row])[2:])
    (common,) = piece[3]
    return list(common)


def test_they_are_added_up_by_rule() -> None:
    rows = [
        ended(key_of(0), "miss"),
        ended(key_of(0), "hit"),
        ended(key_of(0), "hit", rules=(DAYS,), path="judge"),
        ended(key_of(0), "joined", rules=(FIELDS, DAYS)),
    ]
    (calls,) = read([Writer(1, 1).calls(rows)])
    assert isinstance(calls, list)
    added = totals(calls)
    assert (added.sum.hits, added.sum.joined, added.sum.hits_by_rule) == (2, 1, 2)
    assert [(one.path, one.sum.hits_by_rule) for one in added.blocks] == [("", 1), ("judge", 1)]
    assert list(by_rule(calls).items()) == [(DAYS, 2), (FIELDS, 1)]
    assert [call.as_dict()["rules"] for call in calls] == [[], [], [DAYS], [FIELDS, DAYS]]
