"""Our `BaseCache` in LangChain's own suites, and under its models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_openai", reason="runs in `libraries` and `holding`")
pytest.importorskip("pytest_asyncio", reason="comes with langchain-tests")
suites = pytest.importorskip("langchain_tests.integration_tests")

from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, Generation
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from standin import Upstream

from cachewrap import Cache, CacheWarning, no_cache
from cachewrap.integrations.langchain import LangChainCache

MESSAGES: list[BaseMessage] = [SystemMessage("Be brief."), HumanMessage("hi")]


class City(BaseModel):
    name: str
    population: int


def empty(kind: str, tmp_path: Path) -> LangChainCache:
    return LangChainCache(
        Cache.memory() if kind == "memory" else Cache.disk(cache_path_root=tmp_path)
    )


class TestSync(suites.SyncCacheTestSuite):  # type: ignore[name-defined,misc]
    @pytest.fixture(params=["memory", "disk"])
    def cache(self, request: pytest.FixtureRequest, tmp_path: Path) -> LangChainCache:
        return empty(request.param, tmp_path)


@pytest.mark.asyncio
class TestAsync(suites.AsyncCacheTestSuite):  # type: ignore[name-defined,misc]
    @pytest.fixture(params=["memory", "disk"])
    def cache(self, request: pytest.FixtureRequest, tmp_path: Path) -> LangChainCache:
        return empty(request.param, tmp_path)


@pytest.fixture
def cache() -> Iterator[Cache]:
    """Serves every model of the process, as `set_llm_cache` has it."""
    before = get_llm_cache()
    ours = Cache.memory()
    set_llm_cache(LangChainCache(ours))
    yield ours
    set_llm_cache(before)


def chat(upstream: Upstream, **options: Any) -> ChatOpenAI:
    given = {"model": "gpt-4o-mini", "base_url": upstream.base_url, "api_key": "sk-test"}
    return ChatOpenAI(**{**given, **options})


def without_cost(message: BaseMessage) -> dict[str, Any]:
    """A message's fields, without what LangChain adds to a hit."""
    fields = message.model_dump()
    fields["usage_metadata"].pop("total_cost", None)
    return fields


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_hit_is_its_miss(cache: Cache, upstream: Upstream, colour: str) -> None:
    def ask() -> BaseMessage:
        model = chat(upstream)
        if colour == "sync":
            return model.invoke(MESSAGES)
        return asyncio.run(model.ainvoke(MESSAGES))

    miss, hit = ask(), ask()
    assert upstream.calls == 1
    assert type(hit) is type(miss)
    assert without_cost(hit) == without_cost(miss)
    assert (cache.stats.hits, cache.stats.misses) == (1, 1)
    assert cache.stats.tokens_saved > 0


def test_a_batch_is_answered_one_by_one(cache: Cache, upstream: Upstream) -> None:
    chat(upstream).batch(["one", "two"])
    chat(upstream).batch(["two", "three", "one"])
    assert upstream.calls == 3


def test_tool_calls_come_back(cache: Cache, upstream: Upstream) -> None:
    model = chat(upstream).bind_tools([City], tool_choice="City")
    miss, hit = model.invoke("a city"), model.invoke("a city")
    assert upstream.calls == 1
    assert isinstance(hit, AIMessage)
    assert hit.tool_calls == miss.tool_calls != []


def test_structured_output_comes_back(cache: Cache, upstream: Upstream) -> None:
    model = chat(upstream).with_structured_output(City)
    miss, hit = model.invoke("a city"), model.invoke("a city")
    assert upstream.calls == 1
    assert isinstance(hit, City)
    assert hit == miss


def test_it_stands_aside_where_samples_are_taken(cache: Cache, upstream: Upstream) -> None:
    with cache.samples():
        first, second = (chat(upstream).invoke(MESSAGES).content for _ in range(2))
    assert upstream.calls == 2
    assert first != second
    assert list(cache.keys()) == []


def test_a_plain_model_is_served_as_well(cache: Cache) -> None:
    assert FakeListLLM(responses=["one", "two"]).invoke("hi") == "one"
    assert FakeListLLM(responses=["one", "two"], i=1).invoke("hi") == "one"


def logged_in(password: str) -> AIMessage:
    call = {"name": "login", "args": {"password": password}, "id": "1", "type": "tool_call"}
    return AIMessage("", tool_calls=[call])


def login(description: str) -> dict[str, Any]:
    properties = {"password": {"type": "string", "description": description}}
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": "login", "parameters": parameters}}


Ask = Callable[[Upstream], object]

SAME: dict[str, tuple[Ask, Ask]] = {
    "message ids": (
        lambda up: chat(up).invoke([HumanMessage("hi", id="1")]),
        lambda up: chat(up).invoke([HumanMessage("hi", id="2")]),
    ),
    "metadata of an earlier answer": (
        lambda up: chat(up).invoke([AIMessage("hi", id="1", response_metadata={"id": "a"})]),
        lambda up: chat(up).invoke([AIMessage("hi", id="2", response_metadata={"id": "b"})]),
    ),
    "keys": (
        lambda up: chat(up, api_key="sk-one").invoke("hi"),
        lambda up: chat(up, api_key="sk-two").invoke("hi"),
    ),
    "time-outs and retries": (
        lambda up: chat(up, timeout=10, max_retries=1).invoke("hi"),
        lambda up: chat(up, timeout=20, max_retries=2).invoke("hi"),
    ),
    "retries, beside dashes": (
        lambda up: chat(up, max_retries=1).invoke("hi", stop=["---"]),
        lambda up: chat(up, max_retries=2).invoke("hi", stop=["---"]),
    ),
}

OTHER: dict[str, tuple[Ask, Ask]] = {
    "text": (lambda up: chat(up).invoke("hi"), lambda up: chat(up).invoke("ho")),
    "role": (
        lambda up: chat(up).invoke([HumanMessage("hi")]),
        lambda up: chat(up).invoke([AIMessage("hi")]),
    ),
    "model": (
        lambda up: chat(up).invoke("hi"),
        lambda up: chat(up, model="gpt-4o").invoke("hi"),
    ),
    "temperature": (
        lambda up: chat(up, temperature=0).invoke("hi"),
        lambda up: chat(up, temperature=1).invoke("hi"),
    ),
    "stop": (
        lambda up: chat(up).invoke("hi", stop=["a"]),
        lambda up: chat(up).invoke("hi", stop=["b"]),
    ),
    "header": (
        lambda up: chat(up, default_headers={"x-variant": "a"}).invoke("hi"),
        lambda up: chat(up, default_headers={"x-variant": "b"}).invoke("hi"),
    ),
    "an argument of a tool that is called a password": (
        lambda up: chat(up).invoke([logged_in("a")]),
        lambda up: chat(up).invoke([logged_in("b")]),
    ),
    "a parameter of a tool that is called a password": (
        lambda up: chat(up).bind_tools([login("a word")]).invoke("hi"),
        lambda up: chat(up).bind_tools([login("a number")]).invoke("hi"),
    ),
    "a description with dashes": (
        lambda up: chat(up).bind_tools([login("---\nA basic word")]).invoke("hi"),
        lambda up: chat(up).bind_tools([login("---\nA basic number")]).invoke("hi"),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_one_request(cache: Cache, upstream: Upstream, name: str) -> None:
    for ask in SAME[name]:
        ask(upstream)
    assert upstream.calls == 1


@pytest.mark.parametrize("name", OTHER)
def test_another_request(cache: Cache, upstream: Upstream, name: str) -> None:
    for ask in OTHER[name]:
        ask(upstream)
    assert upstream.calls == 2


def test_a_block_stands_above_the_default(cache: Cache, upstream: Upstream) -> None:
    with Cache.memory() as block:
        chat(upstream).invoke("hi")
    assert (block.stats.stored, cache.stats.stored) == (1, 0)


def test_without_a_cache_nothing_is_cached(cache: Cache, upstream: Upstream) -> None:
    set_llm_cache(LangChainCache())
    for _ in range(2):
        chat(upstream).invoke("hi")
    assert upstream.calls == 2


def test_nothing_is_cached_in_no_cache(cache: Cache, upstream: Upstream) -> None:
    with no_cache():
        for _ in range(2):
            chat(upstream).invoke("hi")
    assert upstream.calls == 2


@pytest.mark.parametrize("stop", [None, ["---"]], ids=["plain", "dashes"])
def test_no_credential_reaches_the_store(
    upstream: Upstream, tmp_path: Path, stop: list[str] | None
) -> None:
    ours = Cache.disk(cache_path_root=tmp_path)
    model = chat(
        upstream,
        api_key="sk-leak-1",
        base_url=upstream.base_url.replace("://", "://user:sk-leak-2@"),
        default_headers={"authorization": "Bearer sk-leak-3", "x-api-key": "sk-leak-4"},
        cache=LangChainCache(ours),
    )
    model.invoke("hi", stop=stop, extra_headers={"authorization": "Bearer sk-leak-5"})
    [key] = ours.keys()
    stored = ours._store.get(key)
    assert stored is not None
    request = ours._guard.unseal(key, stored).read_record()["request"]
    assert b"sk-leak" not in request
    assert b"gpt-4o-mini" in request


def test_parameters_that_hold_a_class_keep_their_words_and_lose_credentials() -> None:
    cache = Cache.memory()
    ours = LangChainCache(cache)
    adder = "[('format', <class 'A'>), ('tools', 'A basic adder'), ('x-gateway', 'Basic czNjcjN0')]"
    ours.update("a prompt", adder, [Generation(text="sum")])
    assert ours.lookup("a prompt", adder) == [Generation(text="sum")]
    assert ours.lookup("a prompt", adder.replace("adder", "divider")) is None
    assert ours.lookup("a prompt", adder.replace("N0", "N1")) == [Generation(text="sum")]
    [key] = cache.keys()
    stored = cache._store.get(key)
    assert stored is not None
    assert b"czNjcjN0" not in cache._guard.unseal(key, stored).read_record()["request"]


def test_the_first_stored_answer_wins() -> None:
    ours = LangChainCache(Cache.memory())
    ours.update("a prompt", "a model", [Generation(text="first")])
    ours.update("a prompt", "a model", [Generation(text="second")])
    assert ours.lookup("a prompt", "a model") == [Generation(text="first")]


def test_every_field_of_a_message_comes_back() -> None:
    message = AIMessage(
        content=[{"type": "text", "text": "hi", "index": 0}],
        additional_kwargs={
            "reasoning": {"steps": [1, 2.5, None]},
            "parsed": City(name="a", population=1),
        },
        response_metadata={"model_name": "m", "logprobs": None},
        usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        id="run-1",
        name="a",
    )
    ours = LangChainCache(Cache.memory())
    stored = [ChatGeneration(message=message, generation_info={"finish_reason": "stop"})]
    ours.update("a prompt", "a model", stored)
    found = ours.lookup("a prompt", "a model")
    assert found == stored
    assert found is not None
    assert found[0].message.additional_kwargs["parsed"] == City(name="a", population=1)


@pytest.mark.parametrize(
    ("input_details", "details"),
    [
        pytest.param({"cache_read": 90}, (90,), id="OpenAI"),
        pytest.param({"cache_read": 0, "cache_creation": 80}, (0, 80), id="Anthropic"),
        pytest.param(
            {"cache_creation": 0, "ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 50},
            (0, 80, 50),
            id="Anthropic, of both lifetimes",
        ),
        pytest.param({"audio": 70}, (0, 0, 0, 70), id="audio"),
    ],
)
def test_what_tokens_were_is_kept(input_details: Any, details: tuple[int, ...]) -> None:
    message = AIMessage(
        content="hi",
        response_metadata={"model_name": "gpt-4o"},
        usage_metadata={
            "input_tokens": 100,
            "output_tokens": 20,
            "total_tokens": 120,
            "input_token_details": input_details,
            "output_token_details": {"reasoning": 8},
        },
    )
    cache = Cache.memory()
    LangChainCache(cache).update("a prompt", "a model", [ChatGeneration(message=message)] * 2)
    [usage] = [entry.usage for entry in cache.entries()]
    assert (usage.tokens_in, usage.tokens_out, usage.model) == (200, 40, "gpt-4o")
    twice = {place: 2 * count for place, count in enumerate(details)} | {6: 16}
    assert usage.details == tuple(twice.get(place, 0) for place in range(7))


def test_a_prompt_of_json_is_text() -> None:
    ours = LangChainCache(Cache.memory())
    ours.update(json.dumps([1]), "a model", [Generation(text="one")])
    assert ours.lookup(json.dumps([1.0]), "a model") is None


class Odd:
    pass


UNSTORED = [
    pytest.param([Generation(text="a", generation_info={"x": Odd()})], id="a class of one's own"),
    pytest.param([Odd()], id="no generation"),
]
STORED = [
    pytest.param(
        ChatGeneration(message=AIMessage("a", response_metadata={"model_name": "\ud800"})),
        id="half a surrogate for a model",
    ),
    pytest.param(
        ChatGeneration.model_construct(
            message=AIMessage.model_construct(content="a", response_metadata=[1])
        ),
        id="metadata of another form",
    ),
]


@pytest.mark.parametrize("answer", UNSTORED)
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_what_cannot_be_stored_is_not_in_the_way(answer: Any, colour: str) -> None:
    kept = LangChainCache(Cache.memory())

    def update() -> None:
        if colour == "sync":
            kept.update("prompt", "model", answer)
        else:
            asyncio.run(kept.aupdate("prompt", "model", answer))

    with pytest.warns(CacheWarning, match="langchain:model: the answer is returned but not stored"):
        update()
    assert kept.lookup("prompt", "model") is None


@pytest.mark.parametrize("answer", STORED)
def test_an_odd_answer_is_stored_as_it_is(answer: Any) -> None:
    kept = LangChainCache(Cache.memory())
    kept.update("prompt", "model", [answer])
    (found,) = kept.lookup("prompt", "model") or ()
    assert found.message.response_metadata == answer.message.response_metadata


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000], ids=["lists", "objects"])
def test_a_prompt_that_is_too_deep_for_json_is_text(text: str) -> None:
    kept = LangChainCache(Cache.memory())
    kept.update(text, text, [Generation(text="a")])
    assert kept.lookup(text, text) == [Generation(text="a")]
