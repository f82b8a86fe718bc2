"""llama-index inside a block: the second run makes no upstream call."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("llama_index.core", reason="runs in `holding`")

from integrations.ways import (
    Embed,
    Turns,
    Way,
    ask_twice,
    calls_of,
    check_rules_are_named,
    check_second_run_is_free,
    check_the_missing_one_is_asked,
    check_uncached_runs_differ,
    each,
)
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI, OpenAIResponses
from pydantic import BaseModel
from standin import Upstream

from cachewrap.same import AGENTS

MESSAGES = [ChatMessage(role="user", content="hi")]


class City(BaseModel):
    name: str
    population: int


def look(city: str) -> str:
    """Look a city up."""
    return f"found {city}"


def model(up: Upstream, kind: Any = OpenAI) -> Any:
    return kind(model="gpt-4o-mini", api_base=up.base_url, api_key="sk-test")


def embedder(up: Upstream) -> Any:
    return OpenAIEmbedding(api_base=up.base_url, api_key="sk-test")


def complete(up: Upstream) -> Any:
    return model(up).complete("hi").text


def chat(up: Upstream) -> Any:
    return model(up).chat(MESSAGES).message.content


async def achat(up: Upstream) -> Any:
    return (await model(up).achat(MESSAGES)).message.content


def stream_chat(up: Upstream) -> Any:
    return [part.delta for part in model(up).stream_chat(MESSAGES)]


async def astream_chat(up: Upstream) -> Any:
    return [part.delta async for part in await model(up).astream_chat(MESSAGES)]


def structured(up: Upstream) -> Any:
    return model(up).as_structured_llm(City).chat(MESSAGES).raw


def responses(up: Upstream) -> Any:
    return model(up, OpenAIResponses).chat(MESSAGES).message.content


def responses_stream(up: Upstream) -> Any:
    return [part.delta for part in model(up, OpenAIResponses).stream_chat(MESSAGES)]


def embeddings(up: Upstream) -> Any:
    return embedder(up).get_text_embedding_batch(["a", "b"])


async def aembeddings(up: Upstream) -> Any:
    return await embedder(up).aget_text_embedding_batch(["a", "b"])


def embed(up: Upstream, texts: list[str]) -> Any:
    return embedder(up).get_text_embedding_batch(texts)


async def aembed(up: Upstream, texts: list[str]) -> Any:
    return await embedder(up).aget_text_embedding_batch(texts)


@pytest.mark.parametrize("way", [embed, aembed])
def test_of_a_list_what_is_missing_is_asked(upstream: Upstream, way: Embed) -> None:
    check_the_missing_one_is_asked(upstream, way)


async def agent(up: Upstream) -> Any:
    asked = FunctionAgent(tools=[FunctionTool.from_defaults(look)], llm=model(up))
    return str(await asked.run("please look"))


def index(up: Upstream) -> Any:
    documents = [Document(text=word, id_=word) for word in ("one", "two")]
    made = VectorStoreIndex.from_documents(documents, embed_model=embedder(up))
    return str(made.as_query_engine(llm=model(up)).query("hi"))


WAYS: list[tuple[Way, int]] = [
    (complete, 1),
    (chat, 1),
    (achat, 1),
    (stream_chat, 1),
    (astream_chat, 1),
    (structured, 1),
    (responses, 1),
    (responses_stream, 1),
    (embeddings, 1),
    (aembeddings, 1),
    (agent, 2),
    (index, 3),
]


@each(WAYS)
def test_the_second_run_makes_no_upstream_call(upstream: Upstream, ask: Way, calls: int) -> None:
    check_second_run_is_free(upstream, ask, calls)


def test_outside_a_block_every_run_goes_upstream(upstream: Upstream) -> None:
    check_uncached_runs_differ(upstream, chat)


class InOrder(FunctionAgent):
    """An agent that hands results on in one order, whichever tool has ended first."""

    async def handle_tool_call_results(self, ctx: Any, results: Any, memory: Any) -> None:
        results = sorted(results, key=lambda result: result.tool_id)
        await super().handle_tool_call_results(ctx, results, memory)


def both_tools(kind: Any = FunctionAgent) -> Way:
    """Asks an agent for two tools at once, which end in another order every time."""
    turns = Turns()
    turns.first = "two"

    async def one() -> str:
        """Look here."""
        return await turns.wait("one")

    async def two() -> str:
        """Look there."""
        return await turns.wait("two")

    async def both(up: Upstream) -> Any:
        turns.first = "one" if turns.first == "two" else "two"
        tools = [FunctionTool.from_defaults(async_fn=tool) for tool in (one, two)]
        asked = kind(tools=tools, llm=model(up), streaming=False)
        return str(await asked.run("please look"))

    return both


@pytest.mark.parametrize(
    ("kind", "same", "more"),
    [(FunctionAgent, None, 1), (InOrder, None, 0), (FunctionAgent, AGENTS, 0)],
    ids=["in the order of their ends", "in one order", "with rules"],
)
def test_results_in_the_order_of_their_ends_ask_again(
    upstream: Upstream, kind: Any, same: Any, more: int
) -> None:
    upstream.once(body=calls_of("one", "two"))
    _, made, _, after, cache = ask_twice(upstream, both_tools(kind), same)
    assert made == 2
    assert after == 2 + more
    assert cache.stats.by_rule == ({"in_call_order": 1} if same else {})


def test_a_miss_names_the_rules_that_would_have_put_them_in_order(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.once(body=calls_of("one", "two"))
    check_rules_are_named(upstream, both_tools(), caplog, "in_call_order")
