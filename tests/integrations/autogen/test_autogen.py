"""AutoGen 0.4 and later: our `CacheStore`, and patched underneath."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("autogen_ext", reason="runs in `libraries`")

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import CacheStore
from autogen_core.models import CreateResult, SystemMessage, UserMessage
from autogen_ext.models.cache import ChatCompletionCache
from autogen_ext.models.openai import OpenAIChatCompletionClient
from pydantic import BaseModel
from standin import Upstream

from cachewrap import Cache, patch_openai
from cachewrap.errors import ConfigurationError
from cachewrap.integrations.autogen import AutoGenCacheStore

INFO = {
    "vision": False,
    "function_calling": True,
    "json_output": True,
    "structured_output": True,
    "family": "gpt-4o",
}


class City(BaseModel):
    name: str
    population: int


def client(upstream: Upstream, model: str = "gpt-4o-mini") -> Any:
    return OpenAIChatCompletionClient(
        model=model, base_url=upstream.base_url, api_key="sk-test", model_info=INFO
    )


def cached(upstream: Upstream, cache: Cache | str | None, **options: Any) -> Any:
    scope = options.pop("scope", "")
    return ChatCompletionCache(client(upstream, **options), AutoGenCacheStore(cache, scope=scope))


MESSAGES = [SystemMessage(content="Be brief."), UserMessage(content="hi", source="user")]


def look(city: str) -> str:
    """Look a city up."""
    return f"found {city}"


async def create(model: Any) -> Any:
    return await model.create(MESSAGES)


async def structured(model: Any) -> Any:
    return await model.create(MESSAGES, json_output=City)


async def stream(model: Any) -> Any:
    return [item async for item in model.create_stream(MESSAGES)]


async def agent(model: Any) -> Any:
    assistant = AssistantAgent("one", model, tools=[look], reflect_on_tool_use=True)
    result = await assistant.run(task="please look")
    return [message.to_text() for message in result.messages]


async def team(model: Any) -> Any:
    members = [AssistantAgent(name, model, system_message="") for name in ("one", "two")]
    chat = RoundRobinGroupChat(members, termination_condition=MaxMessageTermination(4))
    return [message.to_text() for message in (await chat.run(task="hi")).messages]


Way = Callable[[Any], Awaitable[Any]]
WAYS: list[tuple[Way, int]] = [(create, 1), (structured, 1), (stream, 1), (agent, 2), (team, 3)]
EACH_WAY = pytest.mark.parametrize(("ask", "calls"), WAYS, ids=[w.__name__ for w, _ in WAYS])


def plain(answer: Any) -> Any:
    """An answer without the mark that AutoGen gives its hits."""
    if isinstance(answer, CreateResult):
        return answer.model_dump(exclude={"cached"})
    return [plain(item) for item in answer] if isinstance(answer, list) else answer


@EACH_WAY
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_our_store_in_their_cache(
    upstream: Upstream, tmp_path: Path, kind: str, ask: Way, calls: int
) -> None:
    cache = Cache.memory() if kind == "memory" else Cache.disk(cache_path_root=tmp_path)

    async def both() -> tuple[Any, Any]:
        return await ask(cached(upstream, cache)), await ask(cached(upstream, cache))

    first, second = asyncio.run(both())
    assert upstream.calls == calls
    assert plain(second) == plain(first)
    assert cache.stats.errors == 0


@EACH_WAY
def test_patched_underneath(upstream: Upstream, ask: Way, calls: int) -> None:
    async def both() -> tuple[Any, Any]:
        return await ask(client(upstream)), await ask(client(upstream))

    with patch_openai(), Cache.memory():
        first, second = asyncio.run(both())
    assert upstream.calls == calls
    assert second == first


def test_a_hit_says_that_it_is_one(upstream: Upstream) -> None:
    cache = Cache.memory()

    async def both() -> tuple[Any, Any]:
        return await create(cached(upstream, cache)), await create(cached(upstream, cache))

    first, second = asyncio.run(both())
    assert (first.cached, second.cached) == (False, True)


def test_a_block_stands_above_the_stores_own_cache(upstream: Upstream) -> None:
    own = Cache.memory()

    async def inside() -> list[str]:
        with Cache.memory() as block:
            await create(cached(upstream, own))
            return list(block.keys())

    assert len(asyncio.run(inside())) == 1
    assert list(own.keys()) == []


def test_without_a_cache_nothing_is_cached(upstream: Upstream) -> None:
    async def both() -> None:
        for _ in range(2):
            await create(cached(upstream, None))

    asyncio.run(both())
    assert upstream.calls == 2


def test_a_scope_keeps_two_models_apart(upstream: Upstream) -> None:
    """Their key does not hold the model."""
    cache = Cache.memory()

    async def ask() -> None:
        for model in ("gpt-4o", "gpt-4o-mini"):
            await create(cached(upstream, cache, model=model, scope=model))

    asyncio.run(ask())
    assert upstream.calls == 2


def test_it_is_written_down_and_made_again(tmp_path: Path) -> None:
    url = f"disk://{tmp_path}?cache_seed=7"
    store = AutoGenCacheStore[str](url, scope="a")
    store.set("key", "value")
    made: Any = CacheStore.load_component(store.dump_component())
    assert isinstance(made, AutoGenCacheStore)
    assert made.get("key") == "value"


def test_one_made_of_a_cache_object_cannot_be_written_down() -> None:
    with pytest.raises(ConfigurationError, match="URL"):
        AutoGenCacheStore(Cache.memory()).dump_component()


def test_what_no_codec_takes_is_not_stored() -> None:
    store = AutoGenCacheStore[object](Cache.memory())
    with pytest.warns(UserWarning, match="not stored"):
        store.set("key", object())
    assert store.get("key", "default") == "default"
