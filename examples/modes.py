"""An answer asked for anew, and a replay that asks nobody and says why a request is not there."""

from __future__ import annotations

from _service import Service, service
from openai import OpenAI

from cachewrap import Cache, ReplayMissError, patch_openai


def main() -> None:
    patch_openai()
    with service() as target, Cache.disk(cache_seed="modes") as cache:
        show(target, cache)


def show(target: Service, cache: Cache) -> None:
    """Ask one question in three modes, and another one that was never stored."""
    client = OpenAI(**target.client)

    def ask(question: str, temperature: float) -> str:
        answer = client.chat.completions.create(
            model=target.model,
            messages=[{"role": "user", "content": question}],
            temperature=temperature,
        )
        return answer.choices[0].message.content or ""

    before = target.calls(cache.stats.misses)
    first = ask("Name a river in Europe.", 0.2)
    print(f"normal, upstream calls: {target.calls(cache.stats.misses) - before}: {first}")

    with cache.mode("refresh"):
        print(f"refresh, always goes upstream: {ask('Name a river in Europe.', 0.2)}")

    before = target.calls(cache.stats.misses)
    with cache.mode("replay"):
        answer = ask("Name a river in Europe.", 0.2)
        print(f"replay, upstream calls: {target.calls(cache.stats.misses) - before}: {answer}")
        try:
            ask("Name a river in Africa.", 0.7)
        except ReplayMissError as miss:
            print(miss)


if __name__ == "__main__":
    main()
