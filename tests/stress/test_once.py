"""Once: however many callers ask the same at one time, one request reaches the upstream."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import pytest
from openai import AsyncOpenAI, OpenAI
from standin import Upstream

from cachewrap import Cache, patch_openai
from stress import actors
from stress.conftest import Figures

T = TypeVar("T")

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(8, mp_context=SPAWN) as pool:
        list(pool.map(abs, range(8)))
        yield pool


def judge(figures: Figures, up: Upstream, answers: list[str], rounds: int) -> None:
    """Every caller of a round got the one answer of the one request."""
    figures.add(rounds=rounds, callers=len(answers), upstream_calls=up.calls)
    assert len(set(answers)) == rounds
    assert up.calls == rounds


def at_once(count: int, work: Callable[[int], T]) -> list[T]:
    """What the work returns in each of some threads that begin together."""
    start = threading.Barrier(count)

    def one(number: int) -> T:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


def test_16_threads(cache: Cache, up: Upstream, rounds: int, figures: Figures) -> None:
    answers = []
    for number in range(10 * rounds):
        answers += at_once(16, lambda _: actors.ask(cache, f"threads {number}", up.base_url))
    judge(figures, up, answers, 10 * rounds)


def test_200_tasks(cache: Cache, up: Upstream, rounds: int, figures: Figures) -> None:
    answers = []
    for number in range(5 * rounds):
        answers += actors.ask_many(200, cache, f"tasks {number}", up.base_url)
    judge(figures, up, answers, 5 * rounds)


def test_16_threads_of_a_patched_sdk(
    cache: Cache, up: Upstream, rounds: int, figures: Figures
) -> None:
    client = OpenAI(api_key="none", base_url=up.base_url)
    answers = []
    with patch_openai(), cache, client:
        for number in range(5 * rounds):
            chat = partial(actors.chat, client, f"sdk {number}")
            answers += at_once(16, lambda _: chat())
    judge(figures, up, answers, 5 * rounds)


def test_200_tasks_of_a_patched_sdk(
    cache: Cache, up: Upstream, rounds: int, figures: Figures
) -> None:
    async def crowds() -> list[str]:
        answers = []
        async with cache, AsyncOpenAI(api_key="none", base_url=up.base_url) as client:
            for number in range(2 * rounds):
                asked = (actors.achat(client, f"sdk {number}") for _ in range(200))
                answers += await asyncio.gather(*asked)
        return answers

    with patch_openai():
        judge(figures, up, asyncio.run(crowds()), 2 * rounds)


def test_8_threads_and_4_loops_of_25_tasks_of_a_patched_sdk(
    cache: Cache, up: Upstream, rounds: int, figures: Figures
) -> None:
    async def tasks(prompt: str) -> list[str]:
        async with cache, AsyncOpenAI(api_key="none", base_url=up.base_url) as client:
            return await asyncio.gather(*(actors.achat(client, prompt) for _ in range(25)))

    def work(caller: int) -> list[str]:
        if caller < 8:
            with cache:
                return [actors.chat(threads_client, prompt)]
        return asyncio.run(tasks(prompt))

    answers = []
    with patch_openai(), OpenAI(api_key="none", base_url=up.base_url) as threads_client:
        for number in range(2 * rounds):
            prompt = f"mixed {number}"
            answers += [answer for some in at_once(12, work) for answer in some]
    judge(figures, up, answers, 2 * rounds)


@pytest.mark.shared
def test_8_processes(
    cache: Cache, up: Upstream, rounds: int, figures: Figures, processes: ProcessPoolExecutor
) -> None:
    answers: list[str] = []
    for number in range(5 * rounds):
        asked = [
            processes.submit(actors.ask, cache, f"processes {number}", up.base_url)
            for _ in range(8)
        ]
        answers += [future.result(60) for future in asked]
    judge(figures, up, answers, 5 * rounds)


@pytest.mark.shared
def test_4_processes_of_50_tasks(
    cache: Cache, up: Upstream, rounds: int, figures: Figures, processes: ProcessPoolExecutor
) -> None:
    answers: list[str] = []
    for number in range(3 * rounds):
        asked = [
            processes.submit(actors.ask_many, 50, cache, f"both {number}", up.base_url)
            for _ in range(4)
        ]
        answers += [answer for future in asked for answer in future.result(60)]
    judge(figures, up, answers, 3 * rounds)
