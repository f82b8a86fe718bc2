"""haystack inside a block: the second run makes no upstream call."""

from __future__ import annotations

from typing import Any

import pytest

haystack = pytest.importorskip("haystack", reason="runs in `libraries` and `earlier`")

from haystack.components.agents import Agent
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage, Document
from haystack.tools import tool
from haystack.utils import Secret
from integrations.ways import Way, check_second_run_is_free, check_uncached_runs_differ, each
from standin import Upstream

KEY = Secret.from_token("sk-test")
MESSAGES = [ChatMessage.from_user("hi")]


@tool
def look(city: str) -> str:
    """Look a city up."""
    return f"found {city}"


def generator(up: Upstream, kind: Any = OpenAIChatGenerator, **options: Any) -> Any:
    return kind(api_key=KEY, model="gpt-4o-mini", api_base_url=up.base_url, **options)


def run(up: Upstream) -> Any:
    return generator(up).run(MESSAGES)["replies"]


async def run_async(up: Upstream) -> Any:
    return (await generator(up).run_async(MESSAGES))["replies"]


def stream(up: Upstream) -> Any:
    parts: list[Any] = []
    generator(up, streaming_callback=lambda chunk: parts.append(chunk.content)).run(MESSAGES)
    return parts


def responses(up: Upstream) -> Any:
    return generator(up, OpenAIResponsesChatGenerator).run(MESSAGES)["replies"]


def text_embedding(up: Upstream) -> Any:
    return OpenAITextEmbedder(api_key=KEY, api_base_url=up.base_url).run("a")["embedding"]


def document_embeddings(up: Upstream) -> Any:
    embedder = OpenAIDocumentEmbedder(api_key=KEY, api_base_url=up.base_url, progress_bar=False)
    found = embedder.run([Document(content="a"), Document(content="b")])
    return [document.embedding for document in found["documents"]]


def agent(up: Upstream) -> Any:
    asked = Agent(chat_generator=generator(up), tools=[look])
    found = asked.run(messages=[ChatMessage.from_user("please look")])
    return [message.text for message in found["messages"]]


def pipeline(up: Upstream) -> Any:
    line = haystack.Pipeline()
    line.add_component("model", generator(up))
    return line.run({"model": {"messages": MESSAGES}})["model"]["replies"]


WAYS: list[tuple[Way, int]] = [
    (run, 1),
    (run_async, 1),
    (stream, 1),
    (responses, 1),
    (text_embedding, 1),
    (document_embeddings, 1),
    (agent, 2),
    (pipeline, 1),
]


@each(WAYS)
def test_the_second_run_makes_no_upstream_call(upstream: Upstream, ask: Way, calls: int) -> None:
    check_second_run_is_free(upstream, ask, calls)


def test_outside_a_block_every_run_goes_upstream(upstream: Upstream) -> None:
    check_uncached_runs_differ(upstream, run)
