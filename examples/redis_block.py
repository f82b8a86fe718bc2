"""Share answers through Redis: what one cache object stored, another one finds, on any host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from _service import service
from openai import OpenAI

from cachewrap import Cache, patch_openai
from cachewrap.testing.servers import redis_server


@contextmanager
def redis_url() -> Iterator[str]:
    """The server named by REDIS_URL, or one that runs as long as the block."""
    if url := os.environ.get("REDIS_URL"):
        yield url
    else:
        with redis_server() as server:
            yield server.url


def main() -> None:
    patch_openai()
    with service() as target, redis_url() as url:
        client = OpenAI(**target.client)
        for name in ("First", "Second"):
            # Each turn stands for another process: the URL is all that it shares with the other.
            with Cache.redis(cache_seed="redis-block", redis_url=url) as cache:
                calls = target.calls(cache.stats.misses)
                answer = client.chat.completions.create(
                    model=target.model,
                    messages=[{"role": "user", "content": "What is a cache? One sentence."}],
                )
                calls = target.calls(cache.stats.misses) - calls
                print(f"{name} block: upstream calls: {calls}, {cache.stats}")
                print(f"  {answer.choices[0].message.content}")


if __name__ == "__main__":
    main()
