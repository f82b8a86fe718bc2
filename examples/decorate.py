"""Cache functions of your own: plain, async and generators, each with one decorator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from _service import Service, service
from openai import AsyncOpenAI, OpenAI

from cachewrap import Cache, llm_cached


def main() -> None:
    with service() as target, Cache.disk(cache_seed="decorate") as cache:
        show(target, cache)


def show(target: Service, cache: Cache) -> None:
    """Call three decorated functions twice each, inside a block whose statistics can be read."""

    @llm_cached
    def complete(prompt: str, *, temperature: float = 0.0) -> str:
        answer = OpenAI(**target.client).chat.completions.create(
            model=target.model,
            messages=[{"role": "user", "content": prompt}],
            temperature=temperature,
        )
        return answer.choices[0].message.content or ""

    @llm_cached
    async def complete_async(prompt: str) -> str:
        async with AsyncOpenAI(**target.client) as client:
            answer = await client.chat.completions.create(
                model=target.model, messages=[{"role": "user", "content": prompt}]
            )
        return answer.choices[0].message.content or ""

    @llm_cached
    def words(prompt: str) -> Iterator[str]:
        stream = OpenAI(**target.client).chat.completions.create(
            model=target.model, messages=[{"role": "user", "content": prompt}], stream=True
        )
        for chunk in stream:
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""

    calls = {
        "a function": lambda: complete("Name a river."),
        # The same request, however its arguments are written.
        "... called another way": lambda: complete(prompt="Name a river.", temperature=0.0),
        "an async function": lambda: asyncio.run(complete_async("Name a lake.")),
        "a generator": lambda: "".join(words("Name a sea.")),
    }
    for turn in ("first", "second"):
        print(f"The {turn} time:")
        for name, call in calls.items():
            before = target.calls(cache.stats.misses)
            start = time.perf_counter()
            answer = call()
            took = 1000 * (time.perf_counter() - start)
            made = target.calls(cache.stats.misses) - before
            print(f"  {name}: {took:.1f} ms, upstream calls: {made}: {answer}")
    print(f"The key of a call: {complete.cache_key('Name a river.')}")
    print(f"cache.stats: {cache.stats}")


if __name__ == "__main__":
    main()
