"""smolagents inside a block: the second run makes no upstream call."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("smolagents", reason="runs in `libraries`")

from integrations.ways import Way, check_second_run_is_free, check_uncached_runs_differ, each
from smolagents import CodeAgent, OpenAIModel, ToolCallingAgent, tool
from smolagents.models import ChatMessage, MessageRole
from standin import Upstream

MESSAGES = [ChatMessage(role=MessageRole.USER, content=[{"type": "text", "text": "hi"}])]


@tool
def look(city: str) -> str:
    """Look a city up.

    Args:
        city: which one
    """
    return f"found {city}"


def model(up: Upstream) -> Any:
    return OpenAIModel(model_id="gpt-4o-mini", api_base=up.base_url, api_key="sk-test")


def agent(up: Upstream, kind: Any, **options: Any) -> Any:
    return kind(model=model(up), max_steps=2, verbosity_level=0, **options)


def generate(up: Upstream) -> Any:
    return model(up).generate(MESSAGES).content


def generate_stream(up: Upstream) -> Any:
    return [part.content for part in model(up).generate_stream(MESSAGES)]


def tool_agent(up: Upstream) -> Any:
    return str(agent(up, ToolCallingAgent, tools=[look]).run("please look"))


def tool_agent_stream(up: Upstream) -> Any:
    asked = agent(up, ToolCallingAgent, tools=[look], stream_outputs=True)
    return str(list(asked.run("please look", stream=True))[-1])


def code_agent(up: Upstream) -> Any:
    return str(agent(up, CodeAgent, tools=[]).run("hi"))


# The stand-in never gives a final answer: two steps, and the summary of what was tried.
WAYS: list[tuple[Way, int]] = [
    (generate, 1),
    (generate_stream, 1),
    (tool_agent, 3),
    (tool_agent_stream, 3),
    (code_agent, 3),
]


@each(WAYS)
def test_the_second_run_makes_no_upstream_call(upstream: Upstream, ask: Way, calls: int) -> None:
    check_second_run_is_free(upstream, ask, calls)


def test_outside_a_block_every_run_goes_upstream(upstream: Upstream) -> None:
    check_uncached_runs_differ(upstream, generate)
