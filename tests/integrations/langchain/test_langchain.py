"""LangChain's `ChatOpenAI` inside a block: the second run makes no upstream call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

pytest.importorskip("langchain_openai", reason="runs in `libraries` and `holding`")

from integrations.ways import Embed, check_the_missing_one_is_asked
from langchain_core.messages import HumanMessage
from langchain_core.utils.function_calling import tool_example_to_messages
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel
from standin import Upstream

from cachewrap import Cache, ReplayMissError, patch_openai
from cachewrap.same import AGENTS


class City(BaseModel):
    name: str
    population: int


_LOOP = asyncio.new_event_loop()


@pytest.fixture(scope="module", autouse=True)
def loop() -> Iterator[None]:
    yield
    _LOOP.run_until_complete(_LOOP.shutdown_asyncgens())
    _LOOP.close()


@pytest.fixture(autouse=True)
def patched() -> Iterator[None]:
    with patch_openai():
        yield


def chat(upstream: Upstream, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(model="gpt-4o-mini", base_url=upstream.base_url, api_key="test", **options)


def _run(asked: Coroutine[Any, Any, object]) -> object:
    # LangChain keeps its HTTP clients, so every call must come from one event loop.
    return _LOOP.run_until_complete(asked)


def _invoke(up: Upstream) -> object:
    return chat(up).invoke("hi").content


def _stream(up: Upstream) -> object:
    return [chunk.content for chunk in chat(up).stream("hi")]


def _stream_with_usage(up: Upstream) -> object:
    return [chunk.usage_metadata for chunk in chat(up, stream_usage=True).stream("hi")]


def _batch(up: Upstream) -> object:
    return [message.content for message in chat(up).batch(["one", "two", "three"])]


def _ainvoke(up: Upstream) -> object:
    async def ask() -> object:
        return (await chat(up).ainvoke("hi")).content

    return _run(ask())


def _astream(up: Upstream) -> object:
    async def ask() -> object:
        return [chunk.content async for chunk in chat(up).astream("hi")]

    return _run(ask())


def _abatch(up: Upstream) -> object:
    async def ask() -> object:
        return [message.content for message in await chat(up).abatch(["one", "two"])]

    return _run(ask())


def _structured(up: Upstream) -> object:
    return chat(up).with_structured_output(City).invoke("a city")


def _responses(up: Upstream) -> object:
    return chat(up, use_responses_api=True).invoke("hi").content


def _embeddings(up: Upstream) -> object:
    model = OpenAIEmbeddings(base_url=up.base_url, api_key="test", check_embedding_ctx_length=False)
    return model.embed_query("hi")


def _embed(up: Upstream, texts: list[str]) -> Any:
    model = OpenAIEmbeddings(base_url=up.base_url, api_key="test", check_embedding_ctx_length=False)
    return model.embed_documents(texts)


def _aembed(up: Upstream, texts: list[str]) -> Any:
    model = OpenAIEmbeddings(base_url=up.base_url, api_key="test", check_embedding_ctx_length=False)
    return model.aembed_documents(texts)


def _embed_tokens(up: Upstream, texts: list[str]) -> Any:
    return OpenAIEmbeddings(base_url=up.base_url, api_key="test").embed_documents(texts)


@pytest.mark.parametrize("way", [_embed, _aembed, _embed_tokens])
def test_of_a_list_what_is_missing_is_asked(
    upstream: Upstream, way: Embed, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tiktoken  # which langchain_openai brings

    ranks = {bytes([byte]): byte for byte in range(256)}
    tokens = tiktoken.Encoding("bytes", pat_str=r".+", mergeable_ranks=ranks, special_tokens={})
    for name in ("encoding_for_model", "get_encoding"):  # which would ask the network
        monkeypatch.setattr(tiktoken, name, lambda name: tokens)
    check_the_missing_one_is_asked(upstream, way)


WAYS: list[tuple[Callable[[Upstream], object], int]] = [
    (_invoke, 1),
    (_stream, 1),
    (_stream_with_usage, 1),
    (_batch, 3),
    (_ainvoke, 1),
    (_astream, 1),
    (_abatch, 2),
    (_structured, 1),
    (_responses, 1),
    (_embeddings, 1),
]


@pytest.mark.parametrize(("ask", "calls"), WAYS, ids=[way.__name__ for way, _ in WAYS])
def test_the_second_run_makes_no_upstream_call(
    upstream: Upstream, ask: Callable[[Upstream], object], calls: int
) -> None:
    with Cache.memory():
        first = ask(upstream)
        assert upstream.calls == calls
        assert (ask(upstream), upstream.calls) == (first, calls)


@pytest.mark.parametrize(("ask", "calls"), WAYS, ids=[way.__name__ for way, _ in WAYS])
def test_outside_a_block_every_run_goes_upstream(
    upstream: Upstream, ask: Callable[[Upstream], object], calls: int
) -> None:
    first = ask(upstream)
    assert ask(upstream) != first or ask is _stream_with_usage
    assert upstream.calls == 2 * calls


class TestExamplesWhoseIdsAreNewEveryTime:
    """`tool_example_to_messages` gives each example's call a UUID for its id."""

    def ask(self, up: Upstream) -> object:
        texts = [("Oslo has 700,000 people.", 700_000), ("Rome has 2.8 million.", 2_800_000)]
        examples = [
            message
            for text, population in texts
            for message in tool_example_to_messages(text, [City(name="x", population=population)])
        ]
        return chat(up).invoke([*examples, HumanMessage("Bern has 140,000.")]).content

    def test_are_asked_again_and_the_error_names_the_rule(self, upstream: Upstream) -> None:
        with Cache.memory() as cache:
            self.ask(upstream)
            with cache.mode("replay"), pytest.raises(ReplayMissError) as raised:
                self.ask(upstream)
        assert raised.value.rules == ("renumber()",)
        assert "same=[*AGENTS] (from cachewrap.same) would have made it equal" in str(raised.value)

    def test_are_asked_once_with_rules(self, upstream: Upstream) -> None:
        with Cache.memory(same=AGENTS) as cache:
            assert self.ask(upstream) == self.ask(upstream)
        assert (upstream.calls, cache.stats.by_rule) == (1, {"renumber()": 1})
