"""Stream an answer twice: the second time every chunk comes from the disk, chunk by chunk."""

from __future__ import annotations

import time

from _service import service
from openai import OpenAI

from cachewrap import Cache, patch_openai

QUESTION = "Count from one to five."


def main() -> None:
    patch_openai()
    with service() as target, Cache.disk(cache_seed="streaming") as cache:
        client = OpenAI(**target.client)
        texts = []
        for name in ("First", "Second"):
            calls = target.calls(cache.stats.misses)
            start = time.perf_counter()
            pieces = []
            print(f"{name} stream: ", end="", flush=True)
            for chunk in client.chat.completions.create(
                model=target.model,
                messages=[{"role": "user", "content": QUESTION}],
                stream=True,
            ):
                if chunk.choices and (piece := chunk.choices[0].delta.content):
                    pieces.append(piece)
                    print(piece, end="|", flush=True)
            took = 1000 * (time.perf_counter() - start)
            calls = target.calls(cache.stats.misses) - calls
            print(f"\n  {len(pieces)} pieces in {took:.1f} ms, upstream calls: {calls}")
            texts.append(pieces)
        print(f"Piece for piece the same: {texts[0] == texts[1]}")
        print(f"cache.stats: {cache.stats}")


if __name__ == "__main__":
    main()
