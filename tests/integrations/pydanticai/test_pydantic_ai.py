"""pydantic-ai inside a block: the second run makes no upstream call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("pydantic_ai", reason="runs in `libraries` and `earlier`")

from integrations.ways import Way, check_second_run_is_free, check_uncached_runs_differ, each
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from standin import Upstream


class City(BaseModel):
    name: str
    population: int


def agent(up: Upstream, model: Any = OpenAIChatModel, **options: Any) -> Any:
    provider = OpenAIProvider(base_url=up.base_url, api_key="sk-test")
    return Agent(model("gpt-4o-mini", provider=provider), **options)


def look(city: str) -> str:
    """Look a city up."""
    return f"found {city}"


def run_sync(up: Upstream) -> Any:
    return agent(up).run_sync("hi").output


async def run(up: Upstream) -> Any:
    return (await agent(up).run("hi")).output


async def stream(up: Upstream) -> Any:
    async with agent(up).run_stream("hi") as result:
        return [text async for text in result.stream_text(debounce_by=None)]


async def structured(up: Upstream) -> Any:
    return (await agent(up, output_type=City).run("hi")).output


async def tools(up: Upstream) -> Any:
    return (await agent(up, tools=[look]).run("please look")).output


async def responses(up: Upstream) -> Any:
    return (await agent(up, OpenAIResponsesModel).run("hi")).output


async def responses_stream(up: Upstream) -> Any:
    async with agent(up, OpenAIResponsesModel).run_stream("hi") as result:
        return [text async for text in result.stream_text(debounce_by=None)]


async def responses_tools(up: Upstream) -> Any:
    return (await agent(up, OpenAIResponsesModel, tools=[look]).run("please look")).output


async def turns(up: Upstream) -> Any:
    first = await agent(up).run("hi")
    return (await agent(up).run("and then?", message_history=first.all_messages())).output


async def at_once(up: Upstream) -> Any:
    return [result.output for result in await asyncio.gather(*(agent(up).run(x) for x in "abc"))]


WAYS: list[tuple[Way, int]] = [
    (run_sync, 1),
    (run, 1),
    (stream, 1),
    (structured, 1),
    (tools, 2),
    (responses, 1),
    (responses_stream, 1),
    (responses_tools, 2),
    (turns, 2),
    (at_once, 3),
]


@each(WAYS)
def test_the_second_run_makes_no_upstream_call(upstream: Upstream, ask: Way, calls: int) -> None:
    check_second_run_is_free(upstream, ask, calls)


def test_outside_a_block_every_run_goes_upstream(upstream: Upstream) -> None:
    check_uncached_runs_differ(upstream, run)
