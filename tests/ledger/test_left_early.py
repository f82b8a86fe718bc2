"""Calls without an end of their own: broken off, abandoned, failed on the way. A run has them."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI, OpenAI
from standin import Upstream

from cachewrap import Cache, llm_cached, patch_httpx, patch_openai

httpx: Any = importlib.import_module("httpx" if importlib.util.find_spec("httpx") else "httpx2")


@llm_cached(version=1)
def count(prompt: str, *, model: str = "m") -> Iterator[int]:
    """A generator that may break."""
    for number in range(5):
        if number == 3 and prompt == "breaks":
            raise ConnectionError("upstream is gone")
        yield number


@llm_cached(version=1)
async def acount(prompt: str, *, model: str = "m") -> AsyncIterator[int]:
    """The same for async callers."""
    for number in range(5):
        if number == 3 and prompt == "breaks":
            raise ConnectionError("upstream is gone")
        yield number


@llm_cached(version=1)
def odd(prompt: str, *, model: str = "m") -> Iterator[Any]:
    """A generator of what is not stored."""
    yield gc.get_objects
    yield asyncio.Lock


def leaves() -> None:
    for _ in count("a"):
        break


def closes() -> None:
    numbers: Any = count("a")
    next(numbers)
    numbers.close()


def breaks() -> None:
    with suppress(ConnectionError):
        list(count("breaks"))


def throws() -> None:
    numbers: Any = count("a")
    next(numbers)
    with suppress(KeyError):
        numbers.throw(KeyError("a"))


def leaves_another() -> None:
    numbers: Any = count("a")
    next(numbers)
    others = count("a")
    next(others)
    numbers.close()
    list(others)


def leaves_a_hit() -> None:
    list(count("a"))
    leaves()


async def leaves_async() -> None:
    async for _ in acount("a"):
        break


async def breaks_async() -> None:
    with suppress(ConnectionError):
        [number async for number in acount("breaks")]


async def is_cancelled() -> None:
    has_one = asyncio.Event()

    async def reads() -> None:
        async for _ in acount("a"):
            has_one.set()
            await asyncio.sleep(10)

    task = asyncio.create_task(reads())
    await has_one.wait()
    task.cancel()
    await asyncio.wait([task])


CUT_OFF = ("miss", "cut off")


@pytest.mark.parametrize(
    ("program", "told"),
    [
        pytest.param(leaves, [CUT_OFF], id="left"),
        pytest.param(closes, [CUT_OFF], id="closed"),
        pytest.param(breaks, [("failed", "ConnectionError")], id="broken"),
        pytest.param(throws, [("failed", "KeyError")], id="thrown into"),
        pytest.param(leaves_another, [("miss", ""), ("joined", "")], id="left to another"),
        pytest.param(leaves_a_hit, [("miss", ""), ("hit", "")], id="a hit"),
        pytest.param(lambda: list(odd("a")), [("miss", "")], id="not stored"),
        pytest.param(lambda: count("a"), [], id="never begun"),
        pytest.param(leaves_async, [CUT_OFF], id="async left"),
        pytest.param(breaks_async, [("failed", "ConnectionError")], id="async broken"),
        pytest.param(is_cancelled, [CUT_OFF], id="async cancelled"),
    ],
)
@pytest.mark.filterwarnings("ignore:ledger.test_left_early")
def test_a_generator_is_in_the_run(program: Callable[[], Any], told: list[tuple[str, str]]) -> None:
    cache = Cache.memory()
    with cache.run("trial"):
        made = program()
        if isinstance(made, Awaitable):
            asyncio.run(made)  # type: ignore[arg-type]
        gc.collect()
    calls = cache.runs()["trial"].calls()
    assert [(call.outcome, call.reason) for call in calls] == told


ASKED: Any = {
    "model": "m",
    "messages": [{"role": "user", "content": "hi"}],
    "stream": True,
}


def abandons(client: Any) -> None:
    for _ in client.chat.completions.create(**ASKED):
        break


def never_reads(client: Any) -> None:
    client.chat.completions.create(**ASKED)


def joins_and_abandons(client: Any) -> None:
    first = client.chat.completions.create(**ASKED)
    client.chat.completions.create(**ASKED)
    list(first)


def fails(client: Any) -> None:
    with suppress(APIStatusError):
        client.chat.completions.create(**ASKED)


def is_refused(client: Any) -> None:
    with suppress(Exception):
        client.with_options(base_url="http://127.0.0.1:9/v1").chat.completions.create(**ASKED)


async def fails_async(client: Any) -> None:
    with suppress(APIStatusError):
        await client.chat.completions.create(**ASKED)


def test_a_stream_that_upstream_refuses_over_http_tells_why() -> None:
    cache = Cache.memory()
    with Upstream() as up:
        host = up.root_url.removeprefix("http://")
        with patch_httpx(hosts=[host]), cache.run("trial"):
            up.fail(500)
            with httpx.stream("POST", f"{up.base_url}/chat/completions", json=ASKED) as answer:
                answer.read()
    (call,) = cache.runs()["trial"].calls()
    assert (call.outcome, call.reason) == ("miss", "status 500")


@pytest.mark.parametrize(
    ("program", "status", "told"),
    [
        pytest.param(abandons, 0, CUT_OFF, id="abandoned"),
        pytest.param(never_reads, 0, CUT_OFF, id="never read"),
        pytest.param(joins_and_abandons, 0, ("joined", "cut off"), id="joined and abandoned"),
        pytest.param(fails, 400, ("failed", "BadRequestError"), id="refused by upstream"),
        pytest.param(is_refused, 0, ("failed", "APIConnectionError"), id="nobody there"),
        pytest.param(fails_async, 500, ("failed", "InternalServerError"), id="async refused"),
    ],
)
def test_a_stream_is_in_the_run(
    program: Callable[[Any], Any], status: int, told: tuple[str, str]
) -> None:
    kind = AsyncOpenAI if inspect.iscoroutinefunction(program) else OpenAI
    cache = Cache.memory()
    with Upstream() as up, patch_openai(), cache.run("trial"):
        client = kind(api_key="sk", base_url=up.base_url, max_retries=0)
        if status:
            up.fail(status)
        made = program(client)
        if isinstance(made, Awaitable):
            asyncio.run(made)  # type: ignore[arg-type]
        gc.collect()
    calls = cache.runs()["trial"].calls()
    assert (calls[-1].outcome, calls[-1].reason, calls[-1].model) == (*told, "m")
    assert len(calls) == 1 + (program is joins_and_abandons)
