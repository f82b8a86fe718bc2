"""Give an agent of LangChain's `create_agent` a cache by middleware: nothing is patched."""

from __future__ import annotations

from _service import Service, service
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from cachewrap import Cache
from cachewrap.integrations.langchain import CacheMiddleware


@tool
def lookup_height(tree: str) -> str:
    """Look up how high a tree grows."""
    return f"{tree}: 30 metres"


def ask(target: Service, cache: Cache) -> list[str]:
    """What the agent says, and what its tool finds for it, in order."""
    model = ChatOpenAI(model=target.model, **target.client)
    agent = create_agent(model, tools=[lookup_height], middleware=[CacheMiddleware(cache)])
    question = "How high does an oak grow? Call lookup_height."
    found = agent.invoke({"messages": [{"role": "user", "content": question}]})
    answers = found["messages"][1:]
    return [
        f"{answer.type}: {answer.text or [call['name'] for call in answer.tool_calls]}"
        for answer in answers
    ]


def main() -> None:
    cache = Cache.disk(cache_seed="agent")
    with service() as target:
        for turn in ("first", "second"):
            calls = target.calls(cache.stats.misses)
            said = ask(target, cache)
            calls = target.calls(cache.stats.misses) - calls
            print(f"The {turn} time: upstream calls: {calls}")
            for line in said:
                print(f"  {line}")
    print(f"cache.stats: {cache.stats}")


if __name__ == "__main__":
    main()
