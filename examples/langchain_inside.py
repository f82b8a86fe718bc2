"""Run LangChain inside a block: code that has never heard of cachewrap is cached all the same."""

from __future__ import annotations

import asyncio

from _service import service
from langchain_openai import ChatOpenAI

from cachewrap import Cache, patch_openai


def main() -> None:
    patch_openai()
    with service() as target, Cache.disk(cache_seed="langchain") as cache:
        llm = ChatOpenAI(model=target.model, **target.client)
        uses = {
            "invoke": lambda: llm.invoke("Name a tree.").text,
            "ainvoke": lambda: asyncio.run(llm.ainvoke("Name a bush.")).text,
            "stream": lambda: "".join(chunk.text for chunk in llm.stream("Name a fern.")),
            "batch": lambda: [one.text for one in llm.batch(["Name a moss.", "Name a palm."])],
        }
        for turn in ("first", "second"):
            print(f"The {turn} time:")
            for name, use in uses.items():
                calls = target.calls(cache.stats.misses)
                answer = use()
                calls = target.calls(cache.stats.misses) - calls
                print(f"  {name}: upstream calls: {calls}: {answer}")
        print(f"cache.stats: {cache.stats}")


if __name__ == "__main__":
    main()
