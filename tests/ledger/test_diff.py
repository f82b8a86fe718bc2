"""The difference of two runs: what is paired with what, and what counts as the same."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from cachewrap import Cache
from cachewrap.errors import ConfigurationError
from cachewrap.ledger.answers import EntriesRun
from cachewrap.ledger.calls import Call
from cachewrap.ledger.diff import Diff, check_condition
from cachewrap.ledger.pieces import Ended
from cachewrap.telemetry import usage
from ledger.comparing import asked, call, said
from ledger.making import ended, write_run

SYSTEM = {"role": "system", "content": "You are a helpful assistant of a shop for bicycles. " * 20}
OTHER = {"role": "system", "content": "You answer as a pirate would, in verse. " * 20}

_numbers = itertools.count()


def diff_of(cache: Cache, old: list[Ended], new: list[Ended], **given: Any) -> Diff:
    number = next(_numbers)
    baseline = write_run(cache, f"old {number}", old)
    return baseline.diff(write_run(cache, f"new {number}", new), **given)


def counts(diff: Diff) -> tuple[int, int, int, int]:
    return diff.same, len(diff.changed), len(diff.new), len(diff.missing)


Side = Callable[[Cache], list[Ended]]


def one(*args: Any, **given: Any) -> Side:
    return lambda cache: [call(cache, *args, **given)]


def two(*sides: Side) -> Side:
    return lambda cache: [row for side in sides for row in side(cache)]


def bare(**given: Any) -> Side:
    return lambda cache: [ended(**given)]


QUESTION = "How do I get a refund for order 4711?"
EDITED = "How do I get a refund for the order 4711, and when?"
SEA = "Write a poem about the sea"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(bare(), bare(), (1, 0, 0, 0), id="not stored, both"),
        pytest.param(one(asked("a")), one(asked("a")), (1, 0, 0, 0), id="the same"),
        pytest.param(one(asked("a")), lambda cache: [], (0, 0, 0, 1), id="missing"),
        pytest.param(lambda cache: [], one(asked("a")), (0, 0, 1, 0), id="new"),
        pytest.param(
            one(asked("a"), "yes", seed="1"),
            one(asked("a"), "no", seed="2"),
            (0, 1, 0, 0),
            id="another seed, another answer",
        ),
        pytest.param(
            one(asked("a"), "yes", 1, seed="1"),
            one(asked("a"), "yes", 2, seed="2"),
            (1, 0, 0, 0),
            id="another seed, the same answer",
        ),
        pytest.param(
            two(one(asked("a"), "1", seed="1"), one(asked("a"), "2", seed="2")),
            two(one(asked("a"), "2", seed="2"), one(asked("a"), "1", seed="1")),
            (2, 0, 0, 0),
            id="seeds are paired with themselves",
        ),
        pytest.param(
            one(asked("a", model="gpt-4o")),
            one(asked("a", model="gpt-4o-mini")),
            (0, 1, 0, 0),
            id="another model",
        ),
        pytest.param(
            one(asked("a", temperature=0.1)),
            one(asked("a", temperature=0.2)),
            (0, 1, 0, 0),
            id="another setting",
        ),
        pytest.param(one(asked(QUESTION)), one(asked(EDITED)), (0, 1, 0, 0), id="an edited prompt"),
        pytest.param(one(asked(QUESTION)), one(asked(SEA)), (0, 0, 1, 1), id="another prompt"),
        pytest.param(
            one(asked(QUESTION, SYSTEM)),
            one(asked(SEA, SYSTEM)),
            (0, 0, 1, 1),
            id="another prompt behind the same instructions",
        ),
        pytest.param(
            one(asked(QUESTION, SYSTEM)),
            one(asked(QUESTION, OTHER)),
            (0, 1, 0, 0),
            id="the same prompt behind other instructions",
        ),
        pytest.param(
            one(asked("退款需要多长时间才能到账呢")),
            one(asked("退款一般需要多长时间才能到账")),
            (0, 1, 0, 0),
            id="an edited prompt without spaces",
        ),
        pytest.param(
            one(asked("a"), keep_request=False),
            one(asked("a", temperature=0.2), keep_request=False),
            (0, 0, 1, 1),
            id="requests that were not stored are not near",
        ),
        pytest.param(
            one(asked(QUESTION), source="POST /chat/completions"),
            one(asked(EDITED), source="POST /v1/chat/completions"),
            (0, 1, 0, 0),
            id="an endpoint with its version",
        ),
        pytest.param(
            one(asked(QUESTION), source="POST /chat/completions"),
            one(asked(EDITED), source="POST /responses"),
            (0, 0, 1, 1),
            id="another endpoint",
        ),
        pytest.param(
            one(asked(QUESTION), sample=0),
            one(asked(EDITED), sample=1),
            (0, 0, 1, 1),
            id="another sample",
        ),
        pytest.param(
            bare(outcome="bypassed", reason="background"),
            bare(outcome="bypassed", reason="background"),
            (1, 0, 0, 0),
            id="bypassed, both",
        ),
        pytest.param(
            bare(outcome="bypassed", reason="background"),
            bare(outcome="failed", reason="Timeout"),
            (0, 1, 0, 0),
            id="bypassed, then failed",
        ),
        pytest.param(
            two(bare(outcome="failed", source="a:f"), bare(outcome="failed", source="a:g")),
            two(bare(outcome="failed", source="a:g")),
            (1, 0, 0, 1),
            id="those without a key are paired by source",
        ),
        pytest.param(
            one(asked("a")),
            one(asked("a"), answered=0.0, outcome="failed", reason="Timeout"),
            (0, 1, 0, 0),
            id="answered, then failed",
        ),
    ],
)
def test_pairs(old: Side, new: Side, expected: tuple[int, int, int, int]) -> None:
    cache = Cache.memory()
    assert counts(diff_of(cache, old(cache), new(cache))) == expected


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        pytest.param("temperature", {"temperature": 0.1}, {"temperature": 0.2}, id="a setting"),
        pytest.param(
            "body.temperature", {"temperature": 1}, {"temperature": 2}, id="with its part"
        ),
        pytest.param("user", {"user": "a"}, {}, id="one that only one has"),
        pytest.param(
            "metadata.*",
            {"metadata": {"run": "1"}},
            {"metadata": {"at": "2"}},
            id="all of an object",
        ),
        pytest.param(
            "metadata.x-*",
            {"metadata": {"x-a": 1, "b": 2}},
            {"metadata": {"b": 2}},
            id="some of it",
        ),
        pytest.param(
            "tools[0].name", {"tools": [{"name": "a"}]}, {"tools": [{"name": "b"}]}, id="in a list"
        ),
        pytest.param(
            "tools[*].name",
            {"tools": [{"t": 1}, {"name": "a"}]},
            {"tools": [{"t": 1}, {"name": "b"}]},
            id="anywhere in a list",
        ),
        pytest.param("stop[1]", {"stop": ["a", "b"]}, {"stop": ["a", "c"]}, id="an element"),
        pytest.param(
            "extra.id", {"extra": '{"id": 1}'}, {"extra": '{"id": 2}'}, id="JSON in a text"
        ),
        pytest.param(
            "o.id",
            {"o": {"!members": [["id", 1]]}},
            {"o": {"!members": [["id", 2]]}},
            id="in order",
        ),
        pytest.param(
            "o.id",
            {"o": {"!pydantic": ["m:C", {"id": 1}, None]}},
            {"o": {"!pydantic": ["m:C", {"id": 2}, None]}},
            id="an object's field",
        ),
    ],
)
def test_what_is_ignored_makes_no_difference(path: str, old: Any, new: Any) -> None:
    cache = Cache.memory()
    sides = [call(cache, asked("Hello there", **old))], [call(cache, asked("Hello there", **new))]
    assert not diff_of(cache, *sides).equal
    assert diff_of(cache, *sides, ignore=[path]).equal
    assert diff_of(cache, *sides, ignore=path).equal


def test_an_answer_differs_also_where_the_request_is_ignored() -> None:
    cache = Cache.memory()
    old = call(cache, asked("Hello", user="a"), "yes")
    new = call(cache, asked("Hello", user="b"), "no")
    (change,) = diff_of(cache, [old], [new], ignore=["user"]).changed
    assert (change.request, change.answer) == ((), ("'yes' → 'no'",))


@pytest.mark.parametrize("path", ["", "[", "a..b", "a[x]", "a]"])
def test_what_is_no_path_is_refused(path: str) -> None:
    cache = Cache.memory()
    with pytest.raises(ConfigurationError, match="is no path of a field: write model"):
        diff_of(cache, [], [], ignore=[path])


def test_a_change_tells_how_the_request_differs() -> None:
    cache = Cache.memory()
    old, new = (
        call(cache, asked(QUESTION, SYSTEM), "old"),
        call(cache, asked(EDITED, SYSTEM), "new"),
    )
    (change,) = diff_of(cache, [old], [new]).changes
    assert change.kind == "changed"
    assert len(change.request) == 1
    assert change.request[0].startswith("messages[1].content: ")
    assert change.answer == ("'old' → 'new'",)
    assert (change.old_answer, change.new_answer) == ("old", "new")
    assert change.prompt == EDITED


def test_another_model_is_told() -> None:
    cache = Cache.memory()
    old, new = call(cache, asked("a")), call(cache, asked("a", model="gpt-4o-mini"))
    (change,) = diff_of(cache, [old], [new]).changes
    assert change.request == ("model: 'gpt-4o' → 'gpt-4o-mini'",)
    assert change.answer == ()


def test_occurrences_of_a_key_are_counted() -> None:
    cache = Cache.memory()
    old, new = call(cache, asked("a"), "yes", seed="1"), call(cache, asked("a"), "no", seed="2")
    diff = diff_of(cache, [old] * 3, [new] * 2)
    assert [(change.old_count, change.new_count) for change in diff.changes] == [(3, 2)]


def test_changes_are_in_the_order_of_the_candidate() -> None:
    cache = Cache.memory()
    words = ("apple", "river", "stone", "cloud")
    old = [call(cache, asked(f"Only {word} here"), at=at) for at, word in enumerate(words)]
    new = [call(cache, asked(word), at=9 - at) for at, word in enumerate(("x", "y", "z"))]
    diff = diff_of(cache, old, new)
    assert [change.prompt for change in diff.new] == ["z", "y", "x"]
    assert [change.prompt for change in diff.missing] == [f"Only {word} here" for word in words]
    assert [change.kind for change in diff.changes] == ["new"] * 3 + ["missing"] * 4


def test_a_turn_is_paired_with_the_same_turn_of_an_edited_conversation() -> None:
    cache = Cache.memory()
    turns = [
        [{"role": role, "content": f"{role} says {number} about topic {number}"} for role in roles]
        for number, roles in enumerate([("user", "assistant")] * 5)
    ]
    flat = [message for turn in turns for message in turn]
    edited = [{"role": "user", "content": "user says 0 about the topic 0, in short"}, *flat[1:]]
    old = [call(cache, asked("go on", *flat[: 2 * number])) for number in range(1, 5)]
    new = [call(cache, asked("go on", *edited[: 2 * number])) for number in range(1, 5)]
    diff = diff_of(cache, old, new)
    assert counts(diff) == (0, 4, 0, 0)
    assert {len(change.request) for change in diff.changes} == {1}


def test_of_many_alike_each_finds_its_own() -> None:
    cache = Cache.memory()
    old = [call(cache, asked(f"What is {n} + {n * 7}?", SYSTEM)) for n in range(120)]
    new = [call(cache, asked(f"What is {n} + {n * 7}? Be brief.", SYSTEM)) for n in range(120)]
    diff = diff_of(cache, old, new)
    assert counts(diff) == (0, 120, 0, 0)
    assert all(len(change.request) == 1 and "Be brief" in change.prompt for change in diff.changes)
    olds = {change.old.key: change.new.key for change in diff.changes if change.old and change.new}
    assert olds == {was.key: now.key for was, now in zip(old, new, strict=True)}


PROMPTS = st.lists(
    st.tuples(st.sampled_from(["refund", "weather", "poem", "total"]), st.integers(0, 3)),
    max_size=6,
)


@given(PROMPTS, PROMPTS, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_pairing_is_one_to_one_and_knows_no_direction_nor_order(
    old: list[tuple[str, int]], new: list[tuple[str, int]], source: random.Random
) -> None:
    cache = Cache.memory()

    def rows(prompts: list[tuple[str, int]]) -> list[Ended]:
        return [call(cache, asked(f"Tell me of the {w} number {n}")) for w, n in prompts]

    one, other = rows(old), rows(new)
    diff = diff_of(cache, one, other)
    for side in ("old", "new"):
        sides: list[Call | None] = [getattr(change, side) for change in diff.changes]
        keys = [made.key for made in sides if made is not None]
        assert len(keys) == len(set(keys))
    same, changed, added, missing = counts(diff)
    assert same + changed + missing == len({row.key for row in one})
    assert same + changed + added == len({row.key for row in other})
    assert counts(diff_of(cache, other, one)) == (same, changed, missing, added)
    source.shuffle(one)
    source.shuffle(other)
    again = diff_of(cache, one, other)
    assert counts(again) == counts(diff)
    assert pairs_in(again) == pairs_in(diff)
    assert diff_of(cache, one, one).equal


def pairs_in(diff: Diff) -> set[tuple[str, str]]:
    return {
        (change.old.key, change.new.key) for change in diff.changes if change.old and change.new
    }


# -- sums and conditions ------------------------------------------------------------------------


def test_both_sides_are_summed() -> None:
    cache = Cache.memory()
    miss = call(cache, asked("a"), tokens_in=100, tokens_out=20, upstream=1.5)
    hit = call(cache, asked("b"), outcome="hit", tokens_in=10, tokens_out=2, upstream=0.5)
    failed = ended(outcome="failed", seconds=2.0)
    sums = diff_of(cache, [miss, hit, failed], []).old_sums
    assert (sums.calls, sums.hits, sums.tokens, sums.seconds) == (3, 1, 132, 4.0)


def priced(monkeypatch: pytest.MonkeyPatch, **prices: str) -> None:
    def cost(asked: usage.Usage, when: float | None = None) -> Decimal | None:
        price = prices.get(asked.model)
        return None if price is None else Decimal(price) * (asked.tokens_in + asked.tokens_out)

    monkeypatch.setattr("cachewrap.ledger.calls.cost_of", cost)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("changed", ["1 changed"]),
        ("changed>1", []),
        ("new", ["2 new"]),
        ("new > 1", ["2 new, more than 1"]),
        ("missing", []),
        ("tokens>100%", ["tokens: 120 → 360, 200.0% more (at most 100%)"]),
        ("tokens>200%", []),
        ("calls>0%", ["calls: 1 → 3, 200.0% more (at most 0%)"]),
        ("time>150.5%", ["time: 1.50s → 4.50s, 200.0% more (at most 150.5%)"]),
        ("cost>5%", ["cost: $0.1200 → $0.3600, 200.0% more (at most 5%)"]),
    ],
)
def test_a_condition_fails(
    condition: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    priced(monkeypatch, **{"gpt-4o": "0.001"})
    cache = Cache.memory()
    old = [call(cache, asked("a"), "yes", seed="1")]
    new = [
        call(cache, asked("a"), "no", seed="2"),
        call(cache, asked("b")),
        call(cache, asked("c")),
    ]
    assert diff_of(cache, old, new).failing([condition]) == expected


def test_more_than_nothing_is_more_than_any_share() -> None:
    cache = Cache.memory()
    diff = diff_of(cache, [], [call(cache, asked("a"))])
    assert diff.failing(["tokens>900%"]) == ["tokens: 0 → 120, all more (at most 900%)"]


def test_a_cost_that_is_not_known_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    priced(monkeypatch)
    cache = Cache.memory()
    diff = diff_of(cache, [call(cache, asked("a"))], [])
    with pytest.raises(ConfigurationError, match="what the answers cost is not known"):
        diff.failing(["cost>5%"])


@pytest.mark.parametrize(
    "condition", ["", "old", "cost", "cost>5", "new>5%", "cost>x%", "time>-1%"]
)
def test_what_is_no_condition_is_refused(condition: str) -> None:
    with pytest.raises(ConfigurationError, match="is no condition: write new, changed"):
        check_condition(condition)


# -- as plain values, and whole caches ----------------------------------------------------------


def test_it_is_plain_values() -> None:
    cache = Cache.memory()
    old, new = call(cache, asked("a"), "yes", seed="1"), call(cache, asked("a"), "no", seed="2")
    diff = diff_of(cache, [old], [new, call(cache, asked("b"), "more", 5)])
    whole = diff.as_dict()
    assert [whole[name] for name in ("equal", "same", "changed", "new", "missing")] == [
        *(False, 0, 1, 1, 0),
    ]
    assert whole["changes"] == diff.to_dicts()
    first, second = diff.to_dicts()
    assert (first["kind"], first["old_seed"], first["new_seed"]) == ("changed", "1", "2")
    assert (second["kind"], second["old_key"], second["old_count"]) == ("new", None, 0)
    assert second["new_answer"] == "more"
    assert whole["totals"]["candidate"]["calls"] == 2
    assert "0 same, 1 changed, 1 new, 0 missing" in repr(diff)


def test_whole_caches_are_compared() -> None:
    one, other = Cache.memory(), Cache.memory()
    for cache, answer in ((one, "yes"), (other, "no")):
        call(cache, asked("both"), "the same")
        call(cache, asked("a question"), answer)
    call(other, asked("more of it"))
    diff = EntriesRun(one).diff(EntriesRun(other))
    assert counts(diff) == (1, 1, 1, 0)
    assert (diff.old_sums.calls, diff.old_sums.tokens, diff.old_sums.seconds) == (2, 240, 3.0)


def test_several_caches_are_compared_as_one() -> None:
    one, other, both = Cache.memory(), Cache.memory(), Cache.memory()
    for cache in (one, both):
        call(cache, asked("a"), "yes")
    for cache in (other, both):
        call(cache, asked("b"), said("no"))
    assert EntriesRun(one, other).diff(EntriesRun(both)).equal
    other.clear()
    call(other, asked("b"), said("maybe"), 1)
    (change,) = EntriesRun(one, other).diff(EntriesRun(both)).changes
    assert (change.old_answer, change.new_answer) == ("maybe", "no")


def test_an_entry_that_is_a_sample_is_known_as_one() -> None:
    cache = Cache.memory()
    calls = EntriesRun(cache).calls()
    assert calls == []
    call(cache, asked("a"))
    run = EntriesRun(cache)
    (made,) = run.calls()
    assert (made.sample, made.outcome, made.model) == (0, "miss", "gpt-4o")
    assert run.raw_answer(made) == cache.store.get(made.key)
