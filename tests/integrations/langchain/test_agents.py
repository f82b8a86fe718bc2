"""Our middleware under the agents of LangChain's `create_agent`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("langchain.agents.middleware", reason="runs in `libraries`")

from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from standin import Upstream

from cachewrap import Cache, CacheWarning, no_cache
from cachewrap.integrations.langchain import CacheMiddleware


class City(BaseModel):
    """A city."""

    name: str
    population: int


@dataclass
class Town:
    """A town."""

    name: str
    population: int


@tool
def lookup_weather(city: str) -> str:
    """Look the weather up."""
    return f"rain in {city}"


@tool
def search(query: str) -> str:
    """Search."""
    return query


def agent(upstream: Upstream, cache: Cache | None = None, **options: Any) -> Any:
    given = {"model": "gpt-4o-mini", "base_url": upstream.base_url, "api_key": "sk-test"}
    model = ChatOpenAI(**{**given, **options.pop("chat", {})})
    return create_agent(model, middleware=[CacheMiddleware(cache)], **options)


def run(agent: Any, text: str = "hi", colour: str = "sync") -> dict[str, Any]:
    asked = {"messages": [HumanMessage(text)]}
    result: dict[str, Any] = (
        agent.invoke(asked) if colour == "sync" else asyncio.run(agent.ainvoke(asked))
    )
    return result


def answers(result: dict[str, Any]) -> list[BaseMessage]:
    return [message for message in result["messages"] if isinstance(message, AIMessage)]


COLOURS = pytest.mark.parametrize("colour", ["sync", "async"])


@COLOURS
def test_a_hit_is_its_miss(upstream: Upstream, colour: str) -> None:
    with Cache.memory() as cache:
        miss = answers(run(agent(upstream), colour=colour))
        hit = answers(run(agent(upstream), colour=colour))
    assert upstream.calls == 1
    assert [message.model_dump() for message in hit] == [m.model_dump() for m in miss]
    assert hit[0].usage_metadata is not None
    assert (cache.stats.hits, cache.stats.misses) == (1, 1)
    assert cache.stats.tokens_saved > 0


@COLOURS
def test_samples_are_answers_of_their_own(upstream: Upstream, colour: str) -> None:
    asked = {"messages": [HumanMessage("hi")]}

    async def ask_three() -> list[dict[str, Any]]:
        ours = agent(upstream)
        return [await ours.ainvoke(asked) for _ in "123"]

    def work() -> list[str]:
        with cache.samples():
            if colour == "async":
                results = asyncio.run(ask_three())
            else:
                results = [agent(upstream).invoke(asked) for _ in "123"]
        return [str(answers(result)[0].content) for result in results]

    cache = Cache.memory()
    first, again = work(), work()
    assert upstream.calls == 3
    assert first == again
    assert len(set(first)) == 3


@COLOURS
def test_a_run_with_a_tool_is_repeated_from_the_cache(upstream: Upstream, colour: str) -> None:
    def work(cache: Cache) -> list[dict[str, Any]]:
        found = run(agent(upstream, cache, tools=[lookup_weather]), "lookup_weather", colour)
        return [message.model_dump(exclude={"id"}) for message in found["messages"]]

    cache = Cache.memory()
    first = work(cache)
    assert [message["type"] for message in first] == ["human", "ai", "tool", "ai"]
    made = upstream.calls
    assert work(cache) == first
    assert upstream.calls == made == 2


FORMATS: dict[str, tuple[Any, Any]] = {
    "a model by a tool": (ToolStrategy(City), City),
    "a model by the provider": (ProviderStrategy(City), City),
    "a model either way": (City, City),
    "a dataclass": (ToolStrategy(Town), Town),
}


@COLOURS
@pytest.mark.parametrize("name", FORMATS)
def test_a_structured_response_comes_back(upstream: Upstream, name: str, colour: str) -> None:
    form, kind = FORMATS[name]
    with Cache.memory():
        miss = run(agent(upstream, response_format=form), colour=colour)["structured_response"]
        hit = run(agent(upstream, response_format=form), colour=colour)["structured_response"]
    assert upstream.calls == 1
    assert type(hit) is kind
    assert hit == miss


Ask = Callable[[Upstream], object]

SAME: dict[str, tuple[Ask, Ask]] = {
    "message ids": (
        lambda up: agent(up).invoke({"messages": [HumanMessage("hi", id="1")]}),
        lambda up: agent(up).invoke({"messages": [HumanMessage("hi", id="2")]}),
    ),
    "threads": (
        lambda up: agent(up).invoke({"messages": "hi"}, {"configurable": {"thread_id": "1"}}),
        lambda up: agent(up).invoke({"messages": "hi"}, {"configurable": {"thread_id": "2"}}),
    ),
    "keys": (
        lambda up: run(agent(up, chat={"api_key": "sk-one"})),
        lambda up: run(agent(up, chat={"api_key": "sk-two"})),
    ),
}

OTHER: dict[str, tuple[Ask, Ask]] = {
    "text": (lambda up: run(agent(up), "hi"), lambda up: run(agent(up), "ho")),
    "model": (lambda up: run(agent(up)), lambda up: run(agent(up, chat={"model": "gpt-4o"}))),
    "system prompt": (
        lambda up: run(agent(up, system_prompt="a")),
        lambda up: run(agent(up, system_prompt="b")),
    ),
    "tools": (
        lambda up: run(agent(up, tools=[lookup_weather])),
        lambda up: run(agent(up, tools=[lookup_weather, search])),
    ),
    "class of the response": (
        lambda up: run(agent(up, response_format=ToolStrategy(City))),
        lambda up: run(agent(up, response_format=ToolStrategy(Town))),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_one_request(upstream: Upstream, name: str) -> None:
    with Cache.memory():
        for ask in SAME[name]:
            ask(upstream)
    assert upstream.calls == 1


@pytest.mark.parametrize("name", OTHER)
def test_another_request(upstream: Upstream, name: str) -> None:
    with Cache.memory():
        for ask in OTHER[name]:
            ask(upstream)
    assert upstream.calls == 2


def test_outside_any_block_its_own_cache_serves(upstream: Upstream) -> None:
    cache = Cache.memory()
    for _ in range(2):
        run(agent(upstream, cache))
    assert upstream.calls == 1


def test_without_a_cache_nothing_is_cached(upstream: Upstream) -> None:
    for _ in range(2):
        run(agent(upstream))
    assert upstream.calls == 2


def test_nothing_is_cached_in_no_cache(upstream: Upstream) -> None:
    cache = Cache.memory()
    with no_cache():
        for _ in range(2):
            run(agent(upstream, cache))
    assert upstream.calls == 2


def test_agents_that_ask_the_same_at_once_ask_once(upstream: Upstream) -> None:
    async def ask() -> list[Any]:
        asked = [agent(upstream).ainvoke({"messages": "hi"}) for _ in range(5)]
        return list(await asyncio.gather(*asked))

    with Cache.memory():
        found = asyncio.run(ask())
    assert upstream.calls == 1
    assert len({answers(result)[0].text for result in found}) == 1


def test_an_answer_served_twice_in_one_conversation_stands_there_twice(upstream: Upstream) -> None:
    with Cache.memory():
        first = run(agent(upstream))["messages"]
        # A conversation that was cut back asks what was asked before.
        shown = AIMessage(first[-1].content, id=first[-1].id)

        class Cut(CacheMiddleware):
            def wrap_model_call(self, request: Any, handler: Any) -> Any:
                request = request.override(messages=request.messages[-1:])
                return super().wrap_model_call(request, handler)

        model = ChatOpenAI(model="gpt-4o-mini", base_url=upstream.base_url, api_key="sk-test")
        cut = create_agent(model, middleware=[Cut()])
        found = cut.invoke({"messages": [HumanMessage("a"), shown, HumanMessage("hi")]})
    assert upstream.calls == 1
    assert [message.content for message in answers(found)] == [first[-1].content] * 2


def test_a_request_without_a_canonical_form_is_not_cached(upstream: Upstream) -> None:
    class Odd(CacheMiddleware):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            odd = request.override(model_settings={"user": object()})
            return super().wrap_model_call(odd, lambda _: handler(request))

    model = ChatOpenAI(model="gpt-4o-mini", base_url=upstream.base_url, api_key="sk-test")
    odd = create_agent(model, middleware=[Odd()])
    with Cache.memory() as cache:
        with pytest.warns(CacheWarning, match=r"settings.user is a object"):
            odd.invoke({"messages": "hi"})
        odd.invoke({"messages": "hi"})
    assert upstream.calls == 2
    assert cache.stats.bypass_reasons == {"unkeyable": 2}
