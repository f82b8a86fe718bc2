"""An evaluation: many different prompts, some of them at a time, all misses and then all hits."""

from __future__ import annotations

import asyncio
import importlib
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Final

import openai

from benchmarks.harness import Result
from benchmarks.requests import text
from cachewrap import Cache, llm_cached, no_cache, patch_openai, unpatch_openai
from cachewrap.testing.servers import redis_server

PROMPTS: Final = 2_000
AT_ONCE: Final = 200
UPSTREAM_SECONDS: Final = 0.2

Ask = Callable[[int], Awaitable[Any]]
"""Asks one of the prompts."""

# How many times as long as without a cache the misses may take, and how many hits a second there
# are at least.
_GOALS: Final[dict[str, tuple[float | None, int | None]]] = {
    "none": (None, None),
    "memory": (None, None),
    "disk": (1.08, None),
    "JSONL": (1.15, 10_000),
    "Redis": (1.2, 10_000),
}


@cache
def _prompts() -> list[str]:
    return [text(1_000, index) for index in range(PROMPTS)]


@cache
def _answers() -> list[str]:
    return [text(1_200, -index - 1) for index in range(PROMPTS)]


@contextmanager
def _coroutine() -> Iterator[Ask]:
    """A decorated coroutine that answers with a text."""
    prompts, answers = _prompts(), iter(_answers())

    @llm_cached(version=1)
    async def complete(prompt: str) -> str:
        await asyncio.sleep(UPSTREAM_SECONDS)
        return next(answers)

    yield lambda index: complete(prompts[index])


@contextmanager
def _chat() -> Iterator[Ask]:
    """`chat.completions.create` of the patched SDK, on a transport that costs nothing."""
    family = "httpx2" if int(openai.__version__.split(".")[0]) >= 3 else "httpx"
    httpx: Any = importlib.import_module(family)
    prompts = _prompts()
    bodies = iter([_body(index, answer) for index, answer in enumerate(_answers())])

    async def respond(request: Any) -> Any:
        await asyncio.sleep(UPSTREAM_SECONDS)
        headers = {"content-type": "application/json"}
        return httpx.Response(200, content=next(bodies), headers=headers)

    http_client = httpx.AsyncClient(transport=httpx.MockTransport(respond))
    client = openai.AsyncOpenAI(api_key="none", max_retries=0, http_client=http_client)
    patch_openai()
    try:
        yield lambda index: client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": prompts[index]}]
        )
    finally:
        unpatch_openai()


def _body(index: int, answer: str) -> bytes:
    message = {"role": "assistant", "content": answer, "refusal": None}
    return json.dumps(
        {
            "id": f"chatcmpl-{index}",
            "object": "chat.completion",
            "created": 1_790_000_000 + index,
            "model": "gpt-4o-mini-2024-07-18",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 200, "completion_tokens": 240, "total_tokens": 440},
        }
    ).encode()


SHAPES: Final = {"a coroutine": _coroutine, "openai chat": _chat}


@contextmanager
def stores(names: Sequence[str]) -> Iterator[dict[str, Cache | None]]:
    """An empty cache in each of the stores that are named; None for no cache."""
    with ExitStack() as stack:
        made: dict[str, Cache | None] = {}
        for name in names:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            if name == "none":
                made[name] = None
            elif name == "memory":
                made[name] = Cache.memory()
            elif name == "disk":
                made[name] = Cache.disk(cache_path_root=folder)
            elif name == "JSONL":
                made[name] = Cache.jsonl(Path(folder, "answers.jsonl"))
            else:
                url = stack.enter_context(redis_server()).url
                made[name] = Cache.redis(redis_url=url, namespace="evaluation")
        yield made
        for one in made.values():
            if one is not None:
                one.close()


@dataclass(frozen=True)
class Took:
    """What it took to ask: seconds of the clock, and of this process's processors."""

    clock: float
    cpu: float


async def evaluate(ask: Ask, number: int = PROMPTS, at_once: int = AT_ONCE) -> Took:
    """Ask so many prompts, so many of them at a time."""
    numbers = iter(range(number))

    async def work() -> None:
        for index in numbers:
            await ask(index)

    started, busy = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return Took(time.perf_counter() - started, time.process_time() - busy)


_PARTS: Final = ("misses", "hits after them", "hits again")


async def _measured(ask: Ask, own: Cache | None) -> list[Took]:
    """What each of the parts took; the misses alone where there is no cache."""
    parts = []
    for _ in _PARTS if own else _PARTS[:1]:
        with own or no_cache():  # to leave it closes the store
            parts.append(await evaluate(ask))
    assert own is None or (own.stats.hits, own.stats.misses) == (2 * PROMPTS, PROMPTS)
    return parts


async def _warmed(ask: Ask) -> None:
    with no_cache():
        await evaluate(ask, 1, 1)


def evaluation(rounds: int, names: Sequence[str] = tuple(_GOALS)) -> Iterator[list[Result]]:
    """The misses beside those without a cache, then the hits beside those in memory.

    All in microseconds a prompt, by the clock and, as a busy machine does not change that, of the
    processor. Hits begin with opening the store.
    """
    for shape, opened in SHAPES.items():
        with opened() as ask:  # what is imported at the first call is imported
            asyncio.run(_warmed(ask))
        taken: dict[str, list[list[Took]]] = {name: [] for name in names}
        for _ in range(rounds):
            with stores(names) as made:
                for name, own in made.items():
                    with opened() as ask:
                        taken[name].append(asyncio.run(_measured(ask, own)))
        for part, title in enumerate(_PARTS):
            some = {name: [one[part] for one in taken[name] if len(one) > part] for name in names}
            yield _results(f"evaluation, {shape}: {title}", bool(part), some)
            yield _results(f"evaluation, {shape}: {title}, CPU", None, some)


def _results(group: str, hits: bool | None, taken: dict[str, list[Took]]) -> list[Result]:
    """The rows of a group, of which the first is the floor; ``hits`` is None for the processor."""
    each = {
        name: [(took.cpu if hits is None else took.clock) / PROMPTS for took in some]
        for name, some in taken.items()
        if some
    }
    floor = next(iter(each.values()))
    results = []
    for name, times in each.items():
        target, rate = _GOALS[name]
        if hits:
            target = 1 / rate / min(floor) if rate else None
        ratio = median(own / other for own, other in zip(times, floor, strict=True))
        target = None if hits is None else target
        best = min(times) / min(floor)
        results.append(Result(group, name, median(times) * 1e6, ratio, target, best))
    return results
