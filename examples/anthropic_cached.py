"""Ask Claude in three ways, twice: the second time every answer comes from the disk."""

from __future__ import annotations

from typing import Any

from _service import ANTHROPIC, service
from anthropic import Anthropic

from cachewrap import Cache, patch_anthropic


def ask(client: Anthropic, model: str) -> dict[str, str]:
    """A message, a streamed one, and the number of tokens of a question."""
    question: Any = {"model": model, "messages": [{"role": "user", "content": "Name a tree."}]}
    message = client.messages.create(max_tokens=100, **question)
    with client.messages.stream(max_tokens=200, **question) as stream:
        streamed = stream.get_final_text()
    tokens = client.messages.count_tokens(**question).input_tokens
    text = next(block.text for block in message.content if block.type == "text")
    return {"message": text, "streamed": streamed, "tokens": str(tokens)}


def main() -> None:
    patch_anthropic()
    with service(ANTHROPIC) as target, Cache.disk(cache_seed="anthropic") as cache:
        client = Anthropic(**target.client)
        answers = []
        for turn in ("first", "second"):
            calls = target.calls(cache.stats.misses)
            answers.append(ask(client, target.model))
            calls = target.calls(cache.stats.misses) - calls
            print(f"The {turn} time: upstream calls: {calls}")
            for name, answer in answers[-1].items():
                print(f"  {name}: {answer}")
        print(f"The same answers: {answers[0] == answers[1]}")
        print(f"cache.stats: {cache.stats}")


if __name__ == "__main__":
    main()
