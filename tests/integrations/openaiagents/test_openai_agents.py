"""The OpenAI Agents SDK inside a block: the second run makes no upstream call."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("agents", reason="runs in `libraries`")

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from integrations.ways import Way, check_second_run_is_free, check_uncached_runs_differ, each
from openai import AsyncOpenAI
from pydantic import BaseModel
from standin import Upstream

set_tracing_disabled(True)  # it would send its traces to the real service

MODELS = {"responses": OpenAIResponsesModel, "chat": OpenAIChatCompletionsModel}


class City(BaseModel):
    name: str
    population: int


@function_tool
def look(city: str) -> str:
    """Look a city up."""
    return f"found {city}"


def agent(client: AsyncOpenAI, model: Any, **options: Any) -> Agent[Any]:
    return Agent(
        **{"name": "assistant", **options}, model=model(model="gpt-4o-mini", openai_client=client)
    )


def to(up: Upstream) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=up.base_url, api_key="sk-test")


def run_sync(up: Upstream) -> Any:
    return Runner.run_sync(agent(to(up), OpenAIResponsesModel), "hi").final_output


def ways(name: str, model: Any) -> list[tuple[Way, int]]:
    """The ways of asking through one of the two APIs."""

    async def run(up: Upstream) -> Any:
        async with to(up) as client:
            return (await Runner.run(agent(client, model), "hi")).final_output

    async def streamed(up: Upstream) -> Any:
        async with to(up) as client:
            result = Runner.run_streamed(agent(client, model), "hi")
            kinds = [event.type async for event in result.stream_events()]
            return kinds, result.final_output

    async def tools(up: Upstream) -> Any:
        async with to(up) as client:
            asked = agent(client, model, tools=[look])
            return (await Runner.run(asked, "please look")).final_output

    async def structured(up: Upstream) -> Any:
        async with to(up) as client:
            return (await Runner.run(agent(client, model, output_type=City), "hi")).final_output

    async def handoff(up: Upstream) -> Any:
        async with to(up) as client:
            other = agent(client, model, name="other")
            asked = agent(client, model, handoffs=[other])
            return (await Runner.run(asked, "transfer_to_other")).final_output

    counts = {run: 1, streamed: 1, tools: 2, structured: 1, handoff: 2}
    for way in counts:
        way.__name__ = f"{name}_{way.__name__}"
    return list(counts.items())


WAYS: list[tuple[Way, int]] = [
    (run_sync, 1),
    *(way for name, model in MODELS.items() for way in ways(name, model)),
]


@each(WAYS)
def test_the_second_run_makes_no_upstream_call(upstream: Upstream, ask: Way, calls: int) -> None:
    check_second_run_is_free(upstream, ask, calls)


def test_outside_a_block_every_run_goes_upstream(upstream: Upstream) -> None:
    check_uncached_runs_differ(upstream, WAYS[1][0])
