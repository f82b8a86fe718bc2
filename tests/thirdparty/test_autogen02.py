"""AutoGen 0.2 with our `Cache` passed as its `cache=`, and patched underneath."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

autogen = pytest.importorskip("autogen", reason="runs in the tox environment `autogen02`")

from cachewrap import Cache, patch_openai
from cachewrap.testing.upstream import Upstream

MESSAGES = [{"role": "user", "content": "hi"}]


def wrapper(upstream: Upstream) -> Any:
    return autogen.OpenAIWrapper(
        config_list=[
            {
                "model": "gpt-4o-mini",
                "api_key": "sk-test",
                "base_url": upstream.base_url,
                "price": [0.001, 0.002],
            }
        ]
    )


def text(response: Any) -> str:
    content: str = response.choices[0].message.content
    return content


@pytest.mark.parametrize("block", [False, True], ids=["passed alone", "inside its own block"])
def test_our_cache_as_its_cache_argument(upstream: Upstream, tmp_path: Path, block: bool) -> None:
    cache = Cache.disk(cache_path_root=tmp_path)

    def ask() -> Any:
        return wrapper(upstream).create(messages=MESSAGES, cache=cache)

    if block:
        with cache:
            first, second = ask(), ask()
    else:
        first, second = ask(), ask()
    assert upstream.calls == 1
    assert text(first) == text(second)
    assert second.cost == first.cost > 0
    assert type(second) is type(first)
    assert cache.stats.errors == 0


def test_usage_summaries_count_a_hit_as_cached(upstream: Upstream, tmp_path: Path) -> None:
    cache = Cache.disk(cache_path_root=tmp_path)
    wrapper(upstream).create(messages=MESSAGES, cache=cache)
    client = wrapper(upstream)
    client.create(messages=MESSAGES, cache=cache)
    assert client.actual_usage_summary is None
    assert client.total_usage_summary["total_cost"] > 0


def test_two_agents_talk_from_our_cache(upstream: Upstream, tmp_path: Path) -> None:
    def talk() -> list[Any]:
        config = {
            "config_list": [
                {"model": "gpt-4o-mini", "api_key": "sk-test", "base_url": upstream.base_url}
            ]
        }
        asker = autogen.AssistantAgent("asker", llm_config=config, max_consecutive_auto_reply=2)
        teller = autogen.AssistantAgent("teller", llm_config=config, max_consecutive_auto_reply=2)
        with Cache.disk(cache_path_root=tmp_path) as cache:
            result = asker.initiate_chat(teller, message="hi", max_turns=2, cache=cache)
        return [message["content"] for message in result.chat_history]

    first = talk()
    made = upstream.calls
    assert made > 0
    assert talk() == first
    assert upstream.calls == made


def test_patched_underneath_with_its_own_cache_off(upstream: Upstream) -> None:
    with patch_openai(), Cache.memory() as cache:
        answers = {
            text(wrapper(upstream).create(messages=MESSAGES, cache_seed=None)) for _ in range(2)
        }
    assert (len(answers), upstream.calls, cache.stats.hits) == (1, 1, 1)
