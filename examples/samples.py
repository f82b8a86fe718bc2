"""Five answers to one question, and the same five at every later run."""

from __future__ import annotations

from _service import Service, service
from openai import OpenAI

from cachewrap import Cache, patch_openai


def main() -> None:
    patch_openai()
    with service() as target:
        show(target, Cache.disk(cache_seed="samples"))


def show(target: Service, cache: Cache) -> None:
    """Ask one question five times, in two blocks: each of them counts from the start."""
    client = OpenAI(**target.client)
    for turn in ("first", "second"):
        before = target.calls(cache.stats.misses)
        with cache.samples():
            answers = [ask(client, target) for _ in range(5)]
        made = target.calls(cache.stats.misses) - before
        print(f"The {turn} block, upstream calls: {made}")
        for answer in answers:
            print(f"  {answer}")


def ask(client: OpenAI, target: Service) -> str:
    answer = client.chat.completions.create(
        model=target.model,
        messages=[{"role": "user", "content": "Name a river."}],
        temperature=1.0,
    )
    return answer.choices[0].message.content or ""


if __name__ == "__main__":
    main()
