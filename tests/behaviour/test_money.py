"""Money from the answer to what is shown: stored with an entry, counted, copied, and told."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion
from reported import REPORTED, Reported, streamed
from standin import Upstream

from cachewrap import Cache, Event, llm_cached, patch_httpx, patch_openai
from cachewrap.call.stats import Stats, summary
from cachewrap.entry import Facts
from cachewrap.format import codec
from cachewrap.format.envelope import seal, unseal
from cachewrap.telemetry.reading import usage_of
from cachewrap.telemetry.usage import Usage, cost_of, provider_saved

pytest.importorskip("genai_prices")
Response: Any = pytest.importorskip("openai.types.responses").Response
httpx: Any = importlib.import_module("httpx" if importlib.util.find_spec("httpx") else "httpx2")

OPENAI = REPORTED["OpenAI chat"]
ANTHROPIC = REPORTED["Anthropic, read and written for both"]
GEMINI = REPORTED["Gemini"]
STREAMED = ("chat/completions", "responses", "messages")
CASES = [
    pytest.param(one, stream, id=f"{name}{', a stream' if stream else ''}")
    for name in (
        *("OpenAI chat", "OpenAI reasoning", "OpenAI audio", "OpenAI responses"),
        *("OpenAI embeddings", "Anthropic, read and written for both", "Gemini", "Groq, cached"),
        *("Mistral", "DeepSeek", "xAI", "Bedrock Converse"),
    )
    for one in [REPORTED[name]]
    for stream in (False, True)
    if not stream or one.path in STREAMED
]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as up, patch_httpx(hosts=["127.0.0.1:*"], paths=["*"]):
        yield up


def ask(up: Upstream, one: Reported, stream: bool = False) -> None:
    """Ask for an answer over plain HTTP, and be given this one."""
    if stream:
        up.behave(body=streamed(one).encode(), content_type="text/event-stream")
    else:
        up.behave(body=json.dumps(one.body).encode())
    url = f"{up.base_url.removesuffix('/v1')}/v1/{one.path}"
    body = {"model": one.body.get("model", "?"), "stream": True} if stream else {"messages": []}
    if one.path in STREAMED:
        body["model"] = one.body["model"]
    httpx.post(url, json=body).raise_for_status()


@pytest.mark.parametrize(("one", "stream"), CASES)
def test_what_a_call_cost_is_what_a_hit_saves(
    upstream: Upstream, one: Reported, stream: bool
) -> None:
    with Cache.memory() as cache:
        for _ in range(3):
            ask(upstream, one, stream)
    usage = usage_of(one.body)
    [entry] = cache.entries()
    known = entry.usage
    assert (known.tokens_in, known.tokens_out) == (usage.tokens_in, usage.tokens_out)
    assert known.details == usage.details
    cost, money = cost_of(usage), cache.stats.money()
    assert (cache.stats.misses, cache.stats.hits) == (1, 2)
    assert cost is not None and money is not None
    assert (money.spent, money.saved) == (cost, 2 * cost)
    assert money.provider_saved == provider_saved(usage)


def test_gemini_is_counted_by_its_model(upstream: Upstream) -> None:
    with Cache.memory() as cache:
        ask(upstream, GEMINI)
    assert list(cache.stats.by_model) == ["gemini-2.5-pro"]


@llm_cached
def complete(prompt: str) -> Any:
    if prompt.startswith("plain"):
        return OPENAI.body
    if prompt.startswith("response"):
        return Response.construct(
            **{
                **REPORTED["OpenAI responses"].body,
                "created_at": 1,
                "parallel_tool_calls": False,
                "tool_choice": "auto",
                "tools": [],
                "output": [],
            }
        )
    if prompt.startswith("deepseek"):
        body = json.loads(json.dumps(REPORTED["DeepSeek"].body))
        del body["usage"]["prompt_tokens_details"]  # as it is told beside them as well
        return ChatCompletion.model_validate(body)
    return ChatCompletion.model_validate(OPENAI.body)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        pytest.param("an object", "OpenAI chat", id="an object of an SDK's"),
        pytest.param("plain", "OpenAI chat", id="plain JSON"),
        pytest.param("response", "OpenAI responses", id="a response"),
        pytest.param("deepseek", "DeepSeek", id="members that the SDK does not know"),
    ],
)
def test_a_functions_answer_is_priced_as_such(prompt: str, name: str) -> None:
    usage = usage_of(REPORTED[name].body)
    with Cache.memory() as cache:
        for _ in range(2):
            complete(prompt)
    money = cache.stats.money()
    assert money is not None
    assert money.spent == money.saved == cost_of(usage)
    assert money.provider_saved == provider_saved(usage) > 0


def test_an_answer_that_is_replaced_is_counted_as_it_is_now() -> None:
    told: list[Any] = [OPENAI.body, ANTHROPIC.body]

    @llm_cached
    def answer() -> Any:
        return told[0]

    with Cache.memory() as cache:
        for _ in range(2):
            answer()
        del told[0]
        with cache.mode("refresh"):
            answer()
        answer()
    costs = [cost_of(usage_of(one.body)) or 0 for one in (OPENAI, ANTHROPIC)]
    money = cache.stats.money()
    assert money is not None and money.saved == money.spent == sum(costs)


def test_details_are_those_that_a_run_is_told() -> None:
    usage, stats = usage_of(ANTHROPIC.body), Stats()
    with Cache.memory() as cache:
        complete("plain")
    [raw] = [raw for _, raw in cache.store.scan()]
    entry = unseal(raw)
    for _ in range(2):
        counted = entry.tokens_in, entry.tokens_out, entry.seconds, entry.details
        assert stats.count_hit(entry, "f", None, "k") == (OPENAI.body["model"], counted)
        assert stats.count_hit(entry, "f", "asked", "k") == ("asked", counted)
    facts = Facts(1.0, 1.0, 0.0, "f", usage.model, usage.tokens_in, usage.tokens_out, usage.details)
    other = unseal(seal(*codec.encode("x"), b"", facts))
    model, counted = stats.count_hit(other, "f", None, "k")
    assert (model, counted[3]) == (usage.model, usage.details)


def test_an_entry_of_an_earlier_version_is_read_again(upstream: Upstream) -> None:
    with Cache.memory() as cache:
        for one in (OPENAI, ANTHROPIC, GEMINI, REPORTED["OpenAI chat, nothing cached"]):
            ask(upstream, one)
        ask(upstream, ANTHROPIC, stream=True)
        complete("an object")
    before = Cache.memory()
    for key, raw in cache.store.scan():
        entry, record = unseal(raw), unseal(raw).read_record()
        of = usage_of(ANTHROPIC.body)
        # Anthropic's prompt was counted without what its cache had, Gemini's not at all.
        tokens_in = 2048 if entry.tokens_in == of.tokens_in else entry.tokens_in
        tokens = (tokens_in, entry.tokens_out) if "gemini" not in record["model"] else (0, 0)
        facts = Facts(entry.created, 1.0, 0.0, record["source"], record["model"], *tokens)
        before.store.set(key, seal(entry.kind, entry.answer, record["request"], facts))
    usages = {entry.key: entry.usage for entry in cache.entries()}
    assert len(usages) == 6
    assert {entry.key: entry.usage for entry in before.entries()} == usages


def test_details_are_copied_exported_and_imported(
    upstream: Upstream, tmp_path: Path, run: Any
) -> None:
    with Cache.disk(cache_path_root=tmp_path / "a") as cache:
        for one in (OPENAI, ANTHROPIC):
            ask(upstream, one)
    usages = sorted(entry.usage.details for entry in cache.entries())
    run("copy", tmp_path / "a", tmp_path / "b.jsonl")
    run("copy", tmp_path / "b.jsonl", tmp_path / "c")
    run("verify", tmp_path / "c")
    for place in (f"jsonl://{tmp_path / 'b.jsonl'}", f"disk://{tmp_path / 'c'}"):
        assert sorted(entry.usage.details for entry in Cache.from_url(place).entries()) == usages


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    from cachewrap.cli.main import main

    def run(*words: object) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(word) for word in words])
        assert stopped.value.code == 0
        return capsys.readouterr().out

    return run


def test_stats_of_a_store_are_exact(upstream: Upstream, tmp_path: Path, run: Any) -> None:
    with Cache.disk(cache_path_root=tmp_path):
        for one in (OPENAI, ANTHROPIC):
            ask(upstream, one)
    usages = [usage_of(one.body) for one in (OPENAI, ANTHROPIC)]
    total = json.loads(run("stats", tmp_path, "--json"))["total"]
    assert total["money"] == float(sum(cost_of(one) or 0 for one in usages))
    assert total["provider_saved"] == float(sum(provider_saved(one) for one in usages))
    assert "the provider's own cache took $0.0" in run("stats", tmp_path)


def test_show_tells_what_the_tokens_were(upstream: Upstream, tmp_path: Path, run: Any) -> None:
    with Cache.disk(cache_path_root=tmp_path) as cache:
        ask(upstream, ANTHROPIC)
    [key] = cache.keys()
    told = "tokens   4404 in, 503 out (1800 read from the provider's cache, 556 written to it)\n"
    assert told in run("show", tmp_path, key)


def test_the_line_at_the_end_tells_whose_cache_saved_what(upstream: Upstream) -> None:
    with Cache.memory() as cache:
        ask(upstream, OPENAI)
    line = summary(cache.stats, "memory:")
    assert line.endswith("1 stored; the provider's own cache took $0.0024 off what was spent")


def test_an_event_tells_what_the_tokens_were(upstream: Upstream) -> None:
    events: list[Event] = []
    with Cache.memory(on_event=events.append):
        ask(upstream, ANTHROPIC)
        ask(upstream, REPORTED["OpenAI chat, nothing cached"])
    assert [one.details for one in events] == [
        {"cache_read_tokens": 1800, "cache_write_tokens": 556, "cache_write_1h_tokens": 100},
        {},
    ]


def test_counts_of_another_process_cost_the_same() -> None:
    both = Stats()
    with Cache.memory() as cache:
        for _ in range(3):
            complete("an object")
    for _ in range(2):
        both.add(json.loads(json.dumps(cache.stats.as_dict())))
    money, twice = cache.stats.money(), both.money()
    assert money is not None and twice == money + money


def test_an_sdk_call_is_priced_by_what_its_answer_reports() -> None:
    with Upstream() as up, patch_openai():
        up.behave(body=json.dumps(OPENAI.body).encode())
        client = openai.OpenAI(base_url=up.base_url, api_key="none", max_retries=0)
        with Cache.memory() as cache:
            for _ in range(3):
                client.chat.completions.create(
                    model="gpt-4o", messages=[{"role": "user", "content": "Hi"}]
                )
    money = cache.stats.money()
    assert money is not None
    assert money.saved == 2 * money.spent == 2 * (cost_of(usage_of(OPENAI.body)) or 0)
    assert list(cache.stats.by_model) == ["gpt-4o"]


@pytest.mark.parametrize(
    ("usage", "tokens", "details"),
    [
        pytest.param({"prompt_tokens": True}, (0, 0), {}, id="no numbers"),
        pytest.param({"prompt_tokens": -1, "completion_tokens": 2**40}, (0, 0), {}, id="too much"),
        pytest.param({"prompt_tokens": "7"}, (0, 0), {}, id="texts"),
        pytest.param(
            {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9}},
            (5, 0),
            {"cache_read_tokens": 5},
            id="more cached than asked",
        ),
        pytest.param(
            {"prompt_tokens": 5, "prompt_tokens_details": [1], "completion_tokens_details": 7},
            (5, 0),
            {},
            id="details that are none",
        ),
        pytest.param({"total_tokens": 9}, (9, 0), {}, id="a total alone"),
        pytest.param(
            {"type": "duration", "seconds": 8.3}, (0, 0), {"audio_seconds": 9}, id="seconds"
        ),
        pytest.param(
            {
                "type": "tokens",
                "input_tokens": 14,
                "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
                "output_tokens": 45,
            },
            (14, 45),
            {"input_audio_tokens": 10},
            id="a transcription",
        ),
        pytest.param(
            {
                "input_tokens": 50,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
                "output_tokens": 4160,
            },
            (50, 4160),
            {"input_image_tokens": 40},
            id="a picture",
        ),
        pytest.param(
            {"billed_units": {"input_tokens": 5, "output_tokens": 418}, "cached_tokens": 3},
            (5, 418),
            {"cache_read_tokens": 3},
            id="Cohere",
        ),
        pytest.param(
            {
                "prompt_tokens": 2404,
                "completion_tokens": 10,
                "prompt_tokens_details": {"cached_tokens": 1800},
                "cache_read_input_tokens": 1800,
                "cache_creation_input_tokens": 556,
            },
            (2404, 10),
            {"cache_read_tokens": 1800, "cache_write_tokens": 556},
            id="LiteLLM, of Anthropic",
        ),
    ],
)
def test_usage_of_every_form(usage: Any, tokens: tuple[int, int], details: dict[str, int]) -> None:
    found = usage_of({"model": "m", "usage": usage})
    assert (found.tokens_in, found.tokens_out) == tokens
    assert {name: count for name, count in found.detailed().items() if count} == details


def test_thoughts_that_are_in_the_total_alone_are_counted() -> None:
    told = {"prompt_tokens": 9, "completion_tokens": 20, "total_tokens": 529}
    found = usage_of({"model": "gemini-2.5-pro", "usage": told})
    assert (found.tokens_out, found.detailed()["reasoning_tokens"]) == (520, 500)
    assert usage_of({"model": "gpt-4o", "usage": told}) == Usage("gpt-4o", 9, 20)


def test_money_has_no_rounding_inside() -> None:
    with Cache.memory() as cache:
        for _ in range(1001):
            complete("an object")
    money = cache.stats.money()
    assert money is not None
    assert isinstance(money.saved, Decimal)
    assert money.saved == 1000 * money.spent
