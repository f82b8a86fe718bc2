"""Ask many questions at once, then all of them again: the second run is free."""

from __future__ import annotations

import asyncio
import time

from _service import Service, service
from openai import AsyncOpenAI

from cachewrap import Cache, patch_openai

QUESTIONS = [f"What is {number} squared?" for number in range(50)]


async def ask(client: AsyncOpenAI, model: str, question: str) -> str:
    """One question, as code that knows nothing of the cache asks it."""
    answer = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}]
    )
    return answer.choices[0].message.content or ""


async def fan_out(target: Service) -> None:
    """Ask everything at once, twice."""
    async with Cache.disk(cache_seed="fan-out") as cache, AsyncOpenAI(**target.client) as client:
        for name in ("First", "Second"):
            calls = target.calls(cache.stats.misses)
            start = time.perf_counter()
            answers = await asyncio.gather(
                *(ask(client, target.model, question) for question in QUESTIONS)
            )
            took = 1000 * (time.perf_counter() - start)
            calls = target.calls(cache.stats.misses) - calls
            print(f"{name} run: {len(answers)} answers in {took:.0f} ms, upstream calls: {calls}")
        print(f"cache.stats: {cache.stats}")


def main() -> None:
    patch_openai()
    with service() as target:
        asyncio.run(fan_out(target))


if __name__ == "__main__":
    main()
