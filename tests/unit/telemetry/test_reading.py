"""The usage that answers report, and what it costs: as genai-prices reads and prices the same."""

from __future__ import annotations

from decimal import Decimal

import pytest
from reported import REPORTED, Reported, prices_are_new, streamed

from cachewrap.http.events import read_any_stream, read_stream
from cachewrap.telemetry.reading import usage_of
from cachewrap.telemetry.usage import cost_of

CASES = [pytest.param(one, id=name) for name, one in REPORTED.items()]


def priced(one: Reported) -> Decimal:
    """What genai-prices itself makes of an answer."""
    if not prices_are_new():
        pytest.skip("genai-prices 0.2 knows them all")
    genai_prices = pytest.importorskip("genai_prices")
    found = genai_prices.data_snapshot.get_snapshot().extract_usage(
        one.body, provider_id=one.provider, api_flavor=one.flavor
    )
    price: Decimal = found.calc_price().total_price
    return price


@pytest.mark.parametrize("one", CASES)
def test_an_answer_costs_what_genai_prices_says(one: Reported) -> None:
    assert cost_of(usage_of(one.body)) == priced(one)


@pytest.mark.parametrize("one", CASES)
def test_a_stream_reports_what_the_answer_does(one: Reported) -> None:
    whole = usage_of(one.body)
    if one.path in ("chat/completions", "responses", "messages"):
        assert read_stream(streamed(one).encode(), ended=True) == whole
    elif "usageMetadata" in one.body:
        assert read_any_stream(streamed(one).encode(), ended=True) == whole
