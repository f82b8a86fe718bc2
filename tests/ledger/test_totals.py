"""The totals of runs: what calls come to, and what stands out among them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from cachewrap.ledger.calls import Call
from cachewrap.ledger.totals import Sum, most, reasons, repeated, totals

A, B = "a" * 64, "b" * 64


def call(outcome: str = "miss", key: str = A, **given: Any) -> Call:
    """A call; what is not given is as of a usual one."""
    values: dict[str, Any] = {
        "number": 0,
        "source": "POST /chat/completions",
        "model": "gpt-4o",
        "seed": "41",
        "sample": 0,
        "started": 1_800_000_000.0,
        "seconds": 0.5,
        "upstream_seconds": 2.0,
        "tokens_in": 1000,
        "tokens_out": 100,
        "lane": "MainThread",
        "process": 1,
    }
    return Call(key=key, outcome=outcome, **{**values, **given})


@pytest.fixture(autouse=True)
def prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of gpt-4o costs a thousandth of a dollar; nothing is known of other models."""

    def cost(usage: Any, when: float | None = None) -> Decimal | None:
        tokens = usage.tokens_in + usage.tokens_out
        return Decimal(tokens) / 1000 if tokens and usage.model == "gpt-4o" else None

    monkeypatch.setattr("cachewrap.ledger.calls.cost_of", cost)


ONE = Sum(calls=1, seconds=0.5)
TOKENS_SAVED = {"tokens_in_saved": 1000, "tokens_out_saved": 100, "seconds_saved": 2.0}
TOKENS_SPENT = {"tokens_in_spent": 1000, "tokens_out_spent": 100}
MONEY = Decimal("1.1")


@pytest.mark.parametrize(
    ("one", "counted"),
    [
        pytest.param(call("hit"), {"hits": 1, "saved": MONEY, **TOKENS_SAVED}, id="hit"),
        pytest.param(call("joined"), {"joined": 1, "saved": MONEY, **TOKENS_SAVED}, id="joined"),
        pytest.param(call("miss"), {"misses": 1, "spent": MONEY, **TOKENS_SPENT}, id="miss"),
        pytest.param(call("bypassed", ""), {"bypassed": 1}, id="bypassed"),
        pytest.param(call("failed"), {"failed": 1}, id="failed"),
        pytest.param(
            call("miss", model="own"),
            {"misses": 1, "unpriced": 1, **TOKENS_SPENT},
            id="a model without a price",
        ),
        pytest.param(
            call("miss", tokens_in=0, tokens_out=0), {"misses": 1}, id="an answer without tokens"
        ),
    ],
)
def test_each_outcome_is_counted_as_what_it_is(one: Call, counted: dict[str, Any]) -> None:
    assert totals([one]).sum == replace(ONE, **counted)


def test_no_calls_come_to_nothing() -> None:
    found = totals([])
    assert (found.sum, list(found.groups), list(found.blocks)) == (Sum(), [], [])


def test_what_the_providers_own_cache_took_off_is_told_of_misses_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "cachewrap.ledger.totals.provider_saved",
        lambda usage, when=None: Decimal(usage.details[0]),
    )
    calls = [call("hit", details=(3,)), call("miss", details=(5,)), call("miss")]
    assert totals(calls).sum.provider_saved == 5


def test_groups_are_by_source_and_model_and_the_largest_is_first() -> None:
    calls = [call(model="own"), *[call("hit")] * 2, call("hit", source="app:f")]
    groups = totals(calls).groups
    assert [(one.source, one.model, one.sum.calls) for one in groups] == [
        ("POST /chat/completions", "gpt-4o", 2),
        ("POST /chat/completions", "own", 1),
        ("app:f", "gpt-4o", 1),
    ]
    row = groups.to_dicts()[0]
    assert (row["source"], row["model"], row["hits"], row["saved"]) == (
        *("POST /chat/completions", "gpt-4o", 2),
        Decimal("2.2"),
    )


def test_blocks_are_in_the_order_of_the_run() -> None:
    calls = [call(path="z"), call(path="z/a"), call(), call(path="z")]
    found = totals(calls)
    assert [(one.path, one.sum.calls) for one in found.blocks] == [("z", 2), ("z/a", 1), ("", 1)]
    assert found.sum.calls == 4
    assert found.blocks.to_dicts()[1]["path"] == "z/a"


def test_sums_are_exact() -> None:
    assert totals([call(tokens_in=1, tokens_out=0)] * 3).sum.spent == Decimal("0.003")


@pytest.mark.parametrize(
    ("order", "numbers"), [("seconds", [2, 0]), ("tokens", [0, 1])], ids=["seconds", "tokens"]
)
def test_the_most_are_found(order: str, numbers: list[int]) -> None:
    calls = [
        call(number=0, seconds=1.0, tokens_in=50),
        call(number=1, seconds=0.0, tokens_in=20),
        call(number=2, seconds=9.0, tokens_in=0, tokens_out=0),
    ]
    assert [one.number for one in most(calls, order, 2)] == numbers


def test_what_took_no_time_is_not_slow() -> None:
    assert not most([call(seconds=0.0)])


LANES = [call("hit", lane=f"Task-{n}") for n in range(6)]


@pytest.mark.parametrize(
    ("calls", "told"),
    [
        pytest.param([call()] * 5, [], id="five times is not more than five"),
        pytest.param([call()] + [call("hit")] * 5, [(A, 6, 6)], id="in a row"),
        pytest.param([call("hit"), call("hit", B)] * 6, [(A, 6, 1), (B, 6, 1)], id="by turns"),
        pytest.param(LANES, [(A, 6, 1)], id="each from another task"),
        pytest.param([call("hit", seed=str(n)) for n in range(6)], [], id="of other seeds"),
        pytest.param([call("hit", place=str(n)) for n in range(6)], [], id="of other caches"),
        pytest.param([call("bypassed", "")] * 9, [], id="past the cache"),
        pytest.param([call("failed")] * 9, [], id="tried again"),
        pytest.param([call("hit"), call("failed")] * 6, [(A, 6, 6)], id="failures in between"),
        pytest.param(
            [call("hit"), call("bypassed", "")] * 6, [(A, 6, 1)], id="other calls in between"
        ),
        pytest.param([call("hit", "")] * 9, [], id="without a key"),
        pytest.param(
            [call("hit")] * 6 + [call("hit", B)] * 9, [(B, 9, 9), (A, 6, 6)], id="the most is first"
        ),
    ],
)
def test_what_is_asked_more_than_five_times(calls: list[Call], told: list[Any]) -> None:
    assert [(one.call.key, one.count, one.in_a_row) for one in repeated(calls)] == told


def test_a_repeated_request_is_told_with_its_outcomes() -> None:
    calls = [call("miss"), call("joined", lane="other"), *[call("hit", lane="other")] * 4]
    (one,) = repeated(calls, 5)
    assert one.as_dict() == {
        "key": A,
        "seed": "41",
        "source": "POST /chat/completions",
        "model": "gpt-4o",
        "count": 6,
        "hits": 4,
        "joined": 1,
        "misses": 1,
        "in_a_row": 5,
        "lane": "other",
        "process": 1,
        "polls": False,
    }


@pytest.mark.parametrize(("count", "polls"), [(9, False), (10, True)], ids=["nine", "ten"])
def test_a_loop_polls_that_asks_the_same_ten_times_in_a_row(count: int, polls: bool) -> None:
    assert [one.polls for one in repeated([call("hit")] * count)] == [polls]


def test_reasons_are_told_by_how_often_they_came() -> None:
    calls = [
        call("failed", number=0, reason="TimeoutError"),
        call("bypassed", "", number=1, reason="host not known"),
        call("bypassed", "", number=2, reason="host not known"),
        call("bypassed", "", number=3, source="app:f"),
        call("miss", number=4, reason="refused"),
        call("miss", number=5),
        call("hit", number=6),
    ]
    assert reasons(calls, "bypassed").to_dicts() == [
        {
            "outcome": "bypassed",
            "source": "POST /chat/completions",
            "reason": "host not known",
            "count": 2,
            "first": 1,
        },
        {"outcome": "bypassed", "source": "app:f", "reason": "", "count": 1, "first": 3},
    ]
    assert [(one.reason, one.count) for one in reasons(calls, "failed")] == [("TimeoutError", 1)]
    assert [one.reason for one in reasons(calls, "miss")] == ["refused"]
