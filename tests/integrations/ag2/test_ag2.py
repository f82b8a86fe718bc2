"""AG2 1.0 and later, patched underneath: the second run makes no upstream call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("ag2", reason="runs in `libraries`")

from ag2 import Agent, tool
from ag2.config import OpenAIConfig, OpenAIResponsesConfig
from integrations.ways import Way, check_second_run_is_free, check_uncached_runs_differ, each
from pydantic import BaseModel
from standin import Upstream


class City(BaseModel):
    name: str
    population: int


@tool
def look(city: str) -> str:
    """Look a city up."""
    return f"found {city}"


def agent(up: Upstream, config: Any = OpenAIConfig, *, stream: bool = False, **options: Any) -> Any:
    given = config(model="gpt-4o-mini", base_url=up.base_url, api_key="sk-test", streaming=stream)
    return Agent("assistant", prompt="Be brief.", config=given, **options)


async def ask(up: Upstream) -> Any:
    return (await agent(up).ask("hi")).body


async def stream(up: Upstream) -> Any:
    return (await agent(up, stream=True).ask("hi")).body


async def responses(up: Upstream) -> Any:
    return (await agent(up, OpenAIResponsesConfig).ask("hi")).body


async def responses_stream(up: Upstream) -> Any:
    return (await agent(up, OpenAIResponsesConfig, stream=True).ask("hi")).body


async def tools(up: Upstream) -> Any:
    return (await agent(up, tools=[look]).ask("please look")).body


async def structured(up: Upstream) -> Any:
    return await (await agent(up, response_schema=City).ask("hi")).content()


async def turns(up: Upstream) -> Any:
    reply = await agent(up).ask("hi")
    return (await reply.ask("and then?")).body


async def at_once(up: Upstream) -> Any:
    return [reply.body for reply in await asyncio.gather(*(agent(up).ask(x) for x in "abc"))]


WAYS: list[tuple[Way, int]] = [
    (ask, 1),
    (stream, 1),
    (responses, 1),
    (responses_stream, 1),
    (tools, 2),
    (structured, 1),
    (turns, 2),
    (at_once, 3),
]


@each(WAYS)
def test_the_second_run_makes_no_upstream_call(upstream: Upstream, ask: Way, calls: int) -> None:
    check_second_run_is_free(upstream, ask, calls)


def test_outside_a_block_every_run_goes_upstream(upstream: Upstream) -> None:
    check_uncached_runs_differ(upstream, ask)
