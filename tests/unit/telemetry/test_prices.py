"""What calls cost, one by one and many at once, and what the provider's own cache took off it."""

from __future__ import annotations

import decimal
import random
from decimal import Decimal
from typing import Any

import pytest
from reported import prices_are_new

from cachewrap.telemetry import usage as usages
from cachewrap.telemetry.reading import usage_at, usage_of
from cachewrap.telemetry.usage import (
    DETAILS,
    Money,
    Usage,
    Usages,
    cost_of,
    details_of,
    money_text,
    provider_saved,
)

if not prices_are_new():
    pytest.skip("genai-prices 0.2 knows all kinds of tokens", allow_module_level=True)
genai_prices = pytest.importorskip("genai_prices")
types = pytest.importorskip("genai_prices.types")
providers = pytest.importorskip("genai_prices.data_snapshot").get_snapshot().providers

SONNET = "claude-sonnet-4-20250514"


def used(model: str, tokens_in: int, tokens_out: int, **details: int) -> Usage:
    return Usage(model, tokens_in, tokens_out, details_of(details))


# -- one answer ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "text", "before"),
    [
        pytest.param(
            {
                "model": SONNET,
                "usage": {
                    "input_tokens": 500,
                    "cache_creation_input_tokens": 10_000,
                    "output_tokens": 400,
                },
            },
            "$0.0450",
            "0.0075",
            id="Anthropic, written to its cache",
        ),
        pytest.param(
            {
                "model": "gpt-5-2025-08-07",
                "usage": {
                    "prompt_tokens": 100_000,
                    "completion_tokens": 500,
                    "prompt_tokens_details": {"cached_tokens": 98_000},
                },
            },
            "$0.0198",
            "0.130",
            id="OpenAI, read from its cache",
        ),
    ],
)
def test_an_answer_costs_what_was_paid_for_it(body: Any, text: str, before: str) -> None:
    found = usage_of(body)
    cost = cost_of(found)
    assert cost is not None and money_text(cost) == text
    told = body["usage"]
    plain = told.get("input_tokens", found.tokens_in)
    assert cost_of(Usage(found.model, plain, found.tokens_out)) == Decimal(before)


@pytest.mark.parametrize("seed", range(4))
def test_every_model_costs_what_genai_prices_says(seed: int) -> None:
    chance = random.Random(seed)
    names = [(one.id, model.id) for one in providers for model in one.models]
    compared = 0
    for _, name in chance.sample(names, 60):
        model = usages._model(name, "")
        tokens_in = chance.choice([0, 7, 16_000, 16_001, 199_999, 200_000, 200_001, 272_001])
        read = chance.randint(0, tokens_in)
        written = chance.randint(0, tokens_in - read)
        details = {
            "cache_read_tokens": read,
            "cache_write_tokens": written,
            "cache_write_1h_tokens": chance.randint(0, written),
            "web_searches": chance.randint(0, 3),
        }
        found = used(name, tokens_in, chance.randint(1, 999), **details)
        if model is None:
            continue
        told = genai_prices.Usage(input_tokens=tokens_in, output_tokens=found.tokens_out, **details)
        where = {"provider_id": model._provider} if model._provider else {}
        price = genai_prices.calc_price(told, model_ref=model._name, **where).total_price
        assert cost_of(found) == price, name
        compared += 1
    assert compared > 50


def test_every_step_of_a_price_is_known() -> None:
    starts = {
        tier.start
        for provider in providers
        for model in provider.models
        for prices in (model.prices if isinstance(model.prices, list) else [model])
        for price in vars(prices.prices).values()
        if isinstance(price, types.TieredPrices)
        for tier in price.tiers
    }
    assert starts and starts <= set(usages._STEPS)


@pytest.mark.parametrize(
    ("name", "same"),
    [
        pytest.param("gpt-4o-2024-08-06", "gpt-4o", id="dated"),
        pytest.param("openai/gpt-4o", "gpt-4o", id="a provider before it"),
        pytest.param("openrouter/openai/gpt-4o", "gpt-4o", id="two of them"),
        pytest.param("azure/gpt-4o", "gpt-4o", id="Azure"),
        pytest.param("models/gemini-2.5-flash", "gemini-2.5-flash", id="Gemini's own name"),
        pytest.param("gemini/gemini-2.5-flash", "gemini-2.5-flash", id="LiteLLM's name"),
        pytest.param("anthropic/claude-sonnet-4", SONNET, id="OpenRouter's name"),
        pytest.param("us.anthropic.claude-3-5-haiku-20241022-v1:0", "", id="Bedrock"),
        pytest.param("llama-3.3-70b-versatile", "", id="one that Groq alone has"),
        pytest.param("text-embedding-3-small", "", id="one whose name tells of nobody"),
    ],
)
def test_a_model_is_found_by_its_names(name: str, same: str) -> None:
    cost = cost_of(Usage(name, 1000, 100))
    assert cost is not None and cost > 0
    assert not same or cost == cost_of(Usage(same, 1000, 100))


@pytest.mark.parametrize("name", ["", "no-such-model", "no/such/model", "ft:mine"])
def test_a_model_that_is_not_known_has_no_cost(name: str) -> None:
    assert cost_of(Usage(name, 5, 5)) is None
    assert provider_saved(Usage(name, 5, 5, (3,))) == 0


def test_a_reseller_has_prices_of_its_own() -> None:
    name = "openai/gpt-oss-120b"
    bodies = {"model": name, "usage": {"prompt_tokens": 4641, "completion_tokens": 1817}}
    for url, provider in (
        ("https://api.groq.com/openai/v1/chat/completions", "groq"),
        ("https://openrouter.ai/api/v1/chat/completions", "openrouter"),
        ("https://api.together.xyz/v1/chat/completions", "together"),
    ):
        found = usage_at(url, usage_of(bodies))
        told = genai_prices.Usage(input_tokens=4641, output_tokens=1817)
        price = genai_prices.calc_price(told, model_ref=name, provider_id=provider)
        assert found.provider == provider
        assert cost_of(found) == price.total_price
        assert not any(found.detailed().values())


def test_a_price_is_that_of_the_time() -> None:
    # DeepSeek's price has changed; genai-prices knows when.
    found, moments = Usage("deepseek-chat", 1_000_000, 0), (1.74e9, 1.79e9)
    for when in moments:
        moment = usages._moment(when)
        told = genai_prices.Usage(input_tokens=1_000_000)
        price = genai_prices.calc_price(
            told, model_ref="deepseek-chat", genai_request_timestamp=moment
        )
        assert cost_of(found, when) == price.total_price


@pytest.mark.parametrize("when", [0.0, 1e300, float("nan"), -1e18])
def test_a_time_that_is_none_is_today(when: float) -> None:
    assert cost_of(Usage("gpt-4o", 1000, 100), when) == cost_of(Usage("gpt-4o", 1000, 100))


def test_the_programs_own_precision_does_not_matter() -> None:
    found = used("gpt-4o", 123_457, 7919, cache_read_tokens=99_991)
    exact = cost_of(found)
    usages._model.cache_clear()
    with decimal.localcontext(decimal.Context(prec=3)):
        assert cost_of(found) == exact


def test_details_that_cannot_be_are_survived() -> None:
    assert cost_of(Usage(SONNET, 10, 10, (5_000,))) is not None
    assert cost_of(Usage(SONNET, 10, 10, (0,) * 40 + (7,))) == cost_of(Usage(SONNET, 10, 10))


@pytest.mark.parametrize(
    ("found", "saved"),
    [
        pytest.param(used(SONNET, 10_000, 5, cache_read_tokens=10_000), "0.027", id="read"),
        pytest.param(used(SONNET, 10_000, 5, cache_write_tokens=10_000), "-0.0075", id="written"),
        pytest.param(
            used(SONNET, 9, 5, cache_write_tokens=9, cache_write_1h_tokens=9),
            "-0.000027",
            id="written for an hour",
        ),
        pytest.param(used(SONNET, 10_000, 5), "0", id="neither"),
        pytest.param(used("o3-mini", 10, 900, reasoning_tokens=800), "0", id="thoughts"),
    ],
)
def test_what_the_providers_cache_saved(found: Usage, saved: str) -> None:
    assert provider_saved(found) == Decimal(saved)


# -- many answers ----------------------------------------------------------------------------------


def test_many_calls_cost_what_each_of_them_does() -> None:
    chance = random.Random(1)
    many, one_by_one, off = Usages(), Decimal(0), Decimal(0)
    for _ in range(500):
        tokens_in = chance.choice([chance.randint(0, 9_000), chance.randint(190_000, 210_000)])
        read = chance.randint(0, tokens_in)
        found = used("gemini-2.5-pro", tokens_in, chance.randint(1, 900), cache_read_tokens=read)
        many.add(found.tokens_in, found.tokens_out, found.details)
        one_by_one += cost_of(found) or 0
        off += provider_saved(found)
    assert many.cost("gemini-2.5-pro") == (one_by_one, off)
    assert many.cost("no-such-model", "gemini-2.5-pro") == (one_by_one, off)
    assert many.cost("no-such-model") is None
    assert len(many.sums) < 30


def test_a_fee_for_each_call_is_counted_for_each() -> None:
    many = Usages()
    for _ in range(3):
        many.add(100, 10, ())
    one = cost_of(Usage("sonar-pro", 100, 10))
    assert one is not None and many.cost("sonar-pro") == (3 * one, 0)


def test_resellers_are_added_up_apart() -> None:
    many, name, total = Usages(), "openai/gpt-oss-120b", Decimal(0)
    for url in ("https://api.groq.com/v1", "https://openrouter.ai/api/v1", "https://me.test"):
        found = usage_at(url, Usage(name, 1000, 100))
        many.add(found.tokens_in, found.tokens_out, found.details)
        total += cost_of(found) or 0
    assert many.cost(name) == (total, 0)


def test_sums_of_another_process_are_added() -> None:
    one, both = Usages(), Usages()
    one.add(10, 5, (3,))
    one.add(300_000, 5, ())
    for _ in range(2):
        both.merge(one.shown())
    (cost, off), (twice, twice_off) = one.cost(SONNET) or (0, 0), both.cost(SONNET) or (0, 0)
    assert (twice, twice_off) == (2 * cost, 2 * off)
    taken = {step: [-count for count in row] for step, row in both.shown().items()}
    both.merge(taken)
    assert both.cost(SONNET) is None


def test_money_is_added_up() -> None:
    one = Money(Decimal("0.1"), Decimal("0.2"), Decimal("-0.3"))
    assert one + one == Money(Decimal("0.2"), Decimal("0.4"), Decimal("-0.6"))
    assert one.provider_text() == "the provider's own cache added $0.3000 to what was spent"


def test_names_of_details_keep_their_places() -> None:
    assert DETAILS == (
        "cache_read_tokens",
        "cache_write_tokens",
        "cache_write_1h_tokens",
        "input_audio_tokens",
        "cache_audio_read_tokens",
        "output_audio_tokens",
        "reasoning_tokens",
        "input_image_tokens",
        "cache_image_read_tokens",
        "output_image_tokens",
        "input_video_tokens",
        "citation_tokens",
        "web_searches",
        "audio_seconds",
        "provider",
    )
    assert usages.PROVIDERS[:8] == (
        *("", "groq", "openrouter", "together", "fireworks", "novita", "aws", "azure"),
    )
