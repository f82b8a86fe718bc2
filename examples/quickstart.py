"""Ask the OpenAI SDK the same question twice: the second answer comes from the disk."""

from __future__ import annotations

import time

from _service import service
from openai import OpenAI

from cachewrap import Cache, patch_openai

QUESTION = "Why is the sky blue? One sentence."


def main() -> None:
    patch_openai()
    with service() as target, Cache.disk() as cache:
        client = OpenAI(**target.client)
        for name in ("First", "Second"):
            calls, hits = target.calls(cache.stats.misses), cache.stats.hits
            start = time.perf_counter()
            answer = client.chat.completions.create(
                model=target.model, messages=[{"role": "user", "content": QUESTION}]
            )
            took = 1000 * (time.perf_counter() - start)
            calls = target.calls(cache.stats.misses) - calls
            source = "from the cache" if cache.stats.hits > hits else "from the service"
            print(f"{name} call: {took:.1f} ms, {source}, upstream calls: {calls}")
            if name == "First" and cache.stats.hits > hits:
                print("  (an earlier run left this answer in .cache/; remove it to start afresh)")
            print(f"  {answer.choices[0].message.content}")
        print(f"cache.stats: {cache.stats}")


if __name__ == "__main__":
    main()
