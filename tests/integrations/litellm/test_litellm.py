"""LiteLLM inside a block: what goes through the OpenAI SDK is cached, what does not is not."""

from __future__ import annotations

import os
from typing import Any

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it asks the network at its import
litellm = pytest.importorskip("litellm", reason="runs in `libraries` and `earlier`")

from integrations.ways import (
    Embed,
    Way,
    ask_twice,
    check_second_run_is_free,
    check_the_missing_one_is_asked,
    check_uncached_runs_differ,
    each,
)
from standin import Upstream

from cachewrap import patch_aiohttp, patch_all, patch_httpx

MESSAGES = [{"role": "user", "content": "hi"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"x": {"type": "string"}}},
    },
}


def to(up: Upstream, model: str = "openai/gpt-4o-mini") -> dict[str, Any]:
    return {"model": model, "api_base": up.base_url, "api_key": "sk-test"}


def text(response: Any) -> Any:
    return response.choices[0].message.content


def completion(up: Upstream) -> Any:
    return text(litellm.completion(messages=MESSAGES, **to(up)))


async def acompletion(up: Upstream) -> Any:
    return text(await litellm.acompletion(messages=MESSAGES, **to(up)))


def stream(up: Upstream) -> Any:
    chunks = litellm.completion(messages=MESSAGES, stream=True, **to(up))
    return [chunk.choices[0].delta.content for chunk in chunks]


async def astream(up: Upstream) -> Any:
    chunks = await litellm.acompletion(messages=MESSAGES, stream=True, **to(up))
    return [chunk.choices[0].delta.content async for chunk in chunks]


def tools(up: Upstream) -> Any:
    response = litellm.completion(messages=MESSAGES, tools=[TOOL], tool_choice="required", **to(up))
    return response.choices[0].message.tool_calls[0].function.arguments


def batch_completion(up: Upstream) -> Any:
    several = [[{"role": "user", "content": word}] for word in ("one", "two", "three")]
    return [text(response) for response in litellm.batch_completion(messages=several, **to(up))]


def text_completion(up: Upstream) -> Any:
    to_it = to(up, "text-completion-openai/gpt-3.5-turbo-instruct")
    return litellm.text_completion(prompt="hi", **to_it).choices[0].text


def embedding(up: Upstream) -> Any:
    return litellm.embedding(input=["a", "b"], **to(up, "openai/text-embedding-3-small")).data


async def aembedding(up: Upstream) -> Any:
    to_it = to(up, "openai/text-embedding-3-small")
    return (await litellm.aembedding(input=["a", "b"], **to_it)).data


def image(up: Upstream) -> Any:
    return litellm.image_generation(prompt="a city", **to(up, "openai/dall-e-3")).data[0].url


def moderation(up: Upstream) -> Any:
    return litellm.moderation(input="hi", **to(up, "omni-moderation-latest")).id


def speech(up: Upstream) -> Any:
    return litellm.speech(input="hi", voice="alloy", **to(up, "openai/tts-1")).content


def router_of(up: Upstream) -> Any:
    return litellm.Router(model_list=[{"model_name": "any", "litellm_params": to(up)}])


def router(up: Upstream) -> Any:
    return text(router_of(up).completion(model="any", messages=MESSAGES))


async def arouter(up: Upstream) -> Any:
    return text(await router_of(up).acompletion(model="any", messages=MESSAGES))


def azure(up: Upstream) -> Any:
    to_it = {**to(up, "azure/gpt-4o-mini"), "api_base": up.root_url, "api_version": "2024-10-21"}
    return text(litellm.completion(messages=MESSAGES, **to_it))


CACHED: list[tuple[Way, int]] = [
    (completion, 1),
    (acompletion, 1),
    (stream, 1),
    (astream, 1),
    (tools, 1),
    (batch_completion, 3),
    (text_completion, 1),
    (embedding, 1),
    (aembedding, 1),
    (image, 1),
    (moderation, 1),
    (speech, 1),
    (router, 1),
    (arouter, 1),
    (azure, 1),
]


@each(CACHED)
def test_the_second_run_makes_no_upstream_call(upstream: Upstream, ask: Way, calls: int) -> None:
    check_second_run_is_free(upstream, ask, calls)


def embed(up: Upstream, texts: list[str]) -> Any:
    found = litellm.embedding(input=texts, **to(up, "openai/text-embedding-3-small"))
    return [one["embedding"] for one in found.data]


async def aembed(up: Upstream, texts: list[str]) -> Any:
    found = await litellm.aembedding(input=texts, **to(up, "openai/text-embedding-3-small"))
    return [one["embedding"] for one in found.data]


@pytest.mark.parametrize("way", [embed, aembed])
def test_of_a_list_what_is_missing_is_asked(upstream: Upstream, way: Embed) -> None:
    check_the_missing_one_is_asked(upstream, way)


def test_outside_a_block_every_run_goes_upstream(upstream: Upstream) -> None:
    check_uncached_runs_differ(upstream, completion)


def responses(up: Upstream) -> Any:
    return litellm.responses(input="hi", **to(up)).id


def anthropic(up: Upstream) -> Any:
    to_it = {**to(up, "anthropic/claude-3-5-haiku-latest"), "api_base": up.root_url}
    return text(litellm.completion(messages=MESSAGES, **to_it))


def deepseek(up: Upstream) -> Any:
    return text(litellm.completion(messages=MESSAGES, **to(up, "deepseek/deepseek-chat")))


def anthropic_stream(up: Upstream) -> Any:
    to_it = {**to(up, "anthropic/claude-3-5-haiku-latest"), "api_base": up.root_url}
    chunks = litellm.completion(messages=MESSAGES, stream=True, **to_it)
    return [chunk.choices[0].delta.content for chunk in chunks]


async def aresponses(up: Upstream) -> Any:
    return (await litellm.aresponses(input="hi", **to(up))).id


async def aanthropic(up: Upstream) -> Any:
    to_it = {**to(up, "anthropic/claude-3-5-haiku-latest"), "api_base": up.root_url}
    return text(await litellm.acompletion(messages=MESSAGES, **to_it))


async def adeepseek(up: Upstream) -> Any:
    to_it = to(up, "deepseek/deepseek-chat")
    return text(await litellm.acompletion(messages=MESSAGES, **to_it))


@pytest.mark.parametrize("ask", [responses, anthropic, deepseek], ids=lambda ask: ask.__name__)
def test_what_litellm_sends_itself_does_not_pass_the_sdk(upstream: Upstream, ask: Way) -> None:
    _, made, _, after, cache = ask_twice(upstream, ask)
    assert (made, after) == (1, 2)
    assert (cache.stats.hits, cache.stats.misses, cache.stats.bypassed) == (0, 0, 0)


@each([(responses, 1), (anthropic, 1), (anthropic_stream, 1), (deepseek, 1)])
def test_it_passes_httpx(upstream: Upstream, ask: Way, calls: int) -> None:
    with patch_httpx(hosts=["127.0.0.1:*"]):
        check_second_run_is_free(upstream, ask, calls)


@each([(aresponses, 1), (aanthropic, 1), (adeepseek, 1)])
def test_async_calls_pass_httpx_where_litellm_is_told_to_use_it(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, ask: Way, calls: int
) -> None:
    monkeypatch.setattr(litellm, "disable_aiohttp_transport", True)
    with patch_httpx(hosts=["127.0.0.1:*"]):
        check_second_run_is_free(upstream, ask, calls)


async def adeepseek_stream(up: Upstream) -> Any:
    to_it = to(up, "deepseek/deepseek-chat")
    chunks = await litellm.acompletion(messages=MESSAGES, stream=True, **to_it)
    return [chunk.choices[0].delta.content async for chunk in chunks]


@each([(aresponses, 1), (aanthropic, 1), (adeepseek, 1), (adeepseek_stream, 1)])
def test_async_calls_pass_aiohttp(upstream: Upstream, ask: Way, calls: int) -> None:
    with patch_aiohttp(hosts=["127.0.0.1:*"]):
        check_second_run_is_free(upstream, ask, calls)


async def aanthropic_stream(up: Upstream) -> Any:
    to_it = {**to(up, "anthropic/claude-3-5-haiku-latest"), "api_base": up.root_url}
    chunks = await litellm.acompletion(messages=MESSAGES, stream=True, **to_it)
    return [chunk.choices[0].delta.content async for chunk in chunks]


@pytest.mark.parametrize("disabled", [True, False], ids=["httpx", "aiohttp"])
def test_an_async_stream_that_litellm_leaves_at_its_stop_reason_is_stored(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, disabled: bool
) -> None:
    monkeypatch.setattr(litellm, "disable_aiohttp_transport", disabled)
    local = {"hosts": ["127.0.0.1:*"]}
    with patch_aiohttp(**local), patch_httpx(**local):
        check_second_run_is_free(upstream, aanthropic_stream, 1)


def hosted_vllm(up: Upstream) -> Any:
    return text(litellm.completion(messages=MESSAGES, **to(up, "hosted_vllm/llama")))


async def ahosted_vllm(up: Upstream) -> Any:
    return text(await litellm.acompletion(messages=MESSAGES, **to(up, "hosted_vllm/llama")))


def hosted_vllm_stream(up: Upstream) -> Any:
    chunks = litellm.completion(messages=MESSAGES, stream=True, **to(up, "hosted_vllm/llama"))
    return [chunk.choices[0].delta.content for chunk in chunks]


def hosted_vllm_embedding(up: Upstream) -> Any:
    return litellm.embedding(input=["hi"], **to(up, "hosted_vllm/e5")).data[0]["embedding"]


@each([(hosted_vllm, 1), (ahosted_vllm, 1), (hosted_vllm_stream, 1), (hosted_vllm_embedding, 1)])
def test_a_model_of_ones_own_on_loopback_is_cached_without_a_word(
    upstream: Upstream, ask: Way, calls: int
) -> None:
    with patch_all():
        check_second_run_is_free(upstream, ask, calls)
