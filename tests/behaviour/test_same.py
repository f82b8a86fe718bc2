"""Rules of equality in a cache: its own key space, what it keeps, and functions of one's own."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import pytest
from colours import COLOURS, Function, Upstream
from pydantic import BaseModel

from cachewrap import Cache, CacheWarning, ConfigurationError, ReplayMissError, llm_cached
from cachewrap.same import AGENTS, STEERING, ignore, renumber, replace, sorted_by_name
from cachewrap.stores.base import Store

DAY = replace(r"day \d+", "day …")


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture(params=[COLOURS[0], COLOURS[-1]])
def complete(request: pytest.FixtureRequest, upstream: Upstream) -> Function:
    return Function(str(request.param), upstream.answer)


def under(store: Store, same: Any, **options: Any) -> Cache:
    return Cache(store, same=same, **options)


@pytest.mark.store
class TestAnyStore:
    def test_what_a_rule_makes_equal_is_asked_once(self, store: Store, complete: Function) -> None:
        with under(store, [DAY]) as cache:
            assert [complete(f"day {n}") for n in (1, 2, 1)] == ["day 1 #1"] * 3
            assert complete("month 1") == "month 1 #2"
        assert (cache.stats.hits, cache.stats.hits_by_rule, cache.stats.misses) == (2, 1, 2)
        assert cache.stats.by_rule == {DAY.label: 1}

    def test_caches_of_other_rules_see_nothing_of_it(
        self, store: Store, complete: Function, upstream: Upstream
    ) -> None:
        several: list[Any] = [None, [DAY], [DAY, ignore("run")], [ignore("run"), DAY], []]
        for same in several:
            with under(store, same):
                complete("day 1")
        assert upstream.calls == 4  # no rules are none
        for same in several:
            with under(store, same, mode="replay"):
                assert complete("day 1")

    def test_an_entry_keeps_the_request_as_it_was_asked(
        self, store: Store, complete: Function
    ) -> None:
        with under(store, [DAY]) as cache:
            complete("day 1")
            complete("day 2")
            (entry,) = cache.entries()
        assert entry.request["arguments"] == {"prompt": "day 1"}

    def test_modes_samples_and_seeds_hold(
        self, store: Store, complete: Function, upstream: Upstream
    ) -> None:
        cache = under(store, [DAY])
        with cache.samples():
            first = [complete(f"day {n}") for n in range(3)]
        assert first == ["day 0 #1", "day 1 #2", "day 2 #3"]
        with cache.samples():
            assert [complete(f"day {n}") for n in range(7, 10)] == first
        with cache:
            assert complete("day 8", cache_seed=9) == "day 8 #4"
            assert complete("day 9", cache_seed=9) == "day 8 #4"
        with cache.mode("refresh"):
            assert complete("day 5") == "day 5 #5"
        with cache.mode("replay"):
            assert complete("day 6") == "day 5 #5"
            with pytest.raises(ReplayMissError):
                complete("month 6")

    def test_a_copy_has_the_rules(self, store: Store, complete: Function) -> None:
        with under(store, [DAY]) as cache:
            complete("day 1")
            with pickle.loads(pickle.dumps(cache)) as copy:
                assert copy.policy.same == cache.policy.same
                assert complete("day 2").startswith("day 2" if "memory" in cache.url else "day 1")


class Asked(BaseModel):
    prompt: str
    run: int = 0


@dataclass
class Turn:
    id: str
    text: str


@llm_cached(version=1)
def converse(messages: list[str], texts: tuple[str, ...] = ("a",)) -> str:
    messages.append("an answer")
    return "an answer"


@llm_cached(version=1)
def stream(messages: list[str], texts: tuple[str, ...] = ("a",)) -> Any:
    messages.append("an answer")
    yield "an answer"


@llm_cached(version=1, each="texts")
def converse_each(messages: list[str], texts: tuple[str, ...] = ("a",)) -> list[str]:
    messages.append("an answer")
    return [*texts]


@pytest.mark.parametrize("options", [{}, {"ttl": 60}], ids=["plain", "its own options"])
@pytest.mark.parametrize("function", [converse, stream, converse_each])
def test_what_a_call_does_to_its_arguments_is_no_part_of_what_is_kept(
    function: Any, options: dict[str, Any]
) -> None:
    with Cache.memory(same=[DAY]) as cache:
        messages = ["day 1"]
        [*function(messages, **options)]
        (entry,) = cache.entries()
        [*function(["day 2"], **options)]
    assert messages == ["day 1", "an answer"]
    assert entry.request["arguments"]["messages"] == ["day 1"]
    assert cache.stats.misses == 1


def test_arguments_of_any_form_are_reached() -> None:
    asked = []

    @llm_cached
    def ask(what: Asked, turns: tuple[Turn, ...], trace: list[Any]) -> str:
        asked.append(what.prompt)
        return what.prompt

    rules = [ignore("what.run", "trace[-1]"), renumber("turns[*].id")]
    with Cache.memory(same=rules):
        for n in range(3):
            ask(Asked(prompt="a", run=n), (Turn(f"x{n}", "t"), Turn(f"y{n}", "t")), [1, n])
        assert asked == ["a"]
        ask(Asked(prompt="b"), (Turn("x", "t"), Turn("y", "t")), [1, 2])
        ask(Asked(prompt="a"), (Turn("x", "t"), Turn("x", "t")), [1, 2])
        ask(Asked(prompt="a"), (Turn("x", "t"), Turn("y", "u")), [1, 2])
        ask(Asked(prompt="a"), (Turn("x", "t"), Turn("y", "t")), [2, 2])
    assert asked == ["a", "b", "a", "a", "a"]


# -- a function of one's own -----------------------------------------------------------------------

LAST = 2


def lower(request: dict[str, Any]) -> dict[str, Any]:
    arguments = request["arguments"]
    arguments["prompt"] = arguments["prompt"].lower()[:LAST]
    return request


def test_a_function_says_what_counts(upstream: Upstream) -> None:
    complete = Function("sync", upstream.answer)
    with Cache.memory(same=[lower]) as cache:
        assert complete("ABc") == complete("abX") == "ABc #1"
        (entry,) = cache.entries()
        assert entry.request["arguments"] == {"prompt": "ABc"}
        assert complete("acX") == "acX #2"
    assert cache.stats.by_rule == {f"{__name__}:lower": 1}


def test_its_name_its_code_and_what_it_reads_are_in_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def digest(function: Any) -> str:
        rules = Cache.memory(same=[function]).policy.same
        assert rules is not None
        return rules.digest

    def of(code: str, name: str = "rule") -> Any:
        names: dict[str, Any] = {"__name__": "rules"}
        exec(code, names)
        return names[name]

    plain = digest(lower)
    monkeypatch.setitem(globals(), "LAST", 3)
    changed = digest(lower)
    codes = ("def rule(r): return r", "def rule(r): return {**r}", "def other(r): return r")
    others = [digest(of(codes[0])), digest(of(codes[1])), digest(of(codes[2], "other"))]
    assert len({plain, changed, *others}) == 5


def test_a_function_needs_a_name() -> None:
    for given in (lambda request: request, partial(lower), object()):
        with pytest.raises(ConfigurationError, match=r"no name|list of rules"):
            Cache.memory(same=[given])  # type: ignore[list-item]


def test_a_function_stands_as_it_is_written() -> None:
    @wraps(lower)
    def wrapper(request: dict[str, Any]) -> dict[str, Any]:
        return {**lower(request), "model": "any"}

    with pytest.raises(ConfigurationError, match="a decorator wraps"):
        Cache.memory(same=[wrapper])


class Rulebook:
    def rule(self, request: dict[str, Any]) -> dict[str, Any]:
        return request

    @classmethod
    def common(cls, request: dict[str, Any]) -> dict[str, Any]:
        return request


async def later(request: dict[str, Any]) -> dict[str, Any]:
    return request


def one_by_one(request: dict[str, Any]) -> Any:
    yield request


def with_default(least: int) -> Any:
    def rule(request: dict[str, Any], least: int = least, *, most: int = 3) -> dict[str, Any]:
        return {**request, "least": least, "most": most}

    return rule


def test_what_is_not_in_the_key_is_refused() -> None:
    for given in (Rulebook().rule, Rulebook.common, later, one_by_one):
        with pytest.raises(ConfigurationError, match=r"a method|gives no request"):
            Cache.memory(same=[given])  # type: ignore[list-item]
    two = [Cache.memory(same=[with_default(least)]).policy.same for least in (1, 2)]
    assert two[0] != two[1]


def test_a_function_that_reads_something_else_now_makes_nothing_equal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = Cache.memory(same=[lower]).policy.same
    assert rules is not None
    asked = {"function": "f", "arguments": {"prompt": "ABC"}}
    rules = pickle.loads(pickle.dumps(rules))
    assert rules.apply(asked).request["arguments"] == {"prompt": "ab"}
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "LAST", 3)
        with pytest.warns(CacheWarning, match="other values than when"):
            assert rules.apply(asked).request is asked
    assert rules.apply(asked).request["arguments"] == {"prompt": "ab"}


def raises(request: dict[str, Any]) -> dict[str, Any]:
    raise KeyError("prompt")


def gives_nothing(request: dict[str, Any]) -> dict[str, Any]:
    request.clear()
    return None  # type: ignore[return-value]


def gives_nonsense(request: dict[str, Any]) -> dict[str, Any]:
    return {"a": object()}


def gives_an_empty_one(request: dict[str, Any]) -> dict[str, Any]:
    request.clear()
    return request


@pytest.mark.parametrize("function", [raises, gives_nothing, gives_nonsense, gives_an_empty_one])
def test_one_that_fails_costs_a_miss_and_one_warning(function: Any, upstream: Upstream) -> None:
    complete = Function("sync", upstream.answer)
    with Cache.memory(same=[function]), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [complete(prompt) for prompt in "aab"] == ["a #1", "a #1", "b #2"]
    told = [str(one.message) for one in caught if issubclass(one.category, CacheWarning)]
    assert len(told) == 1
    assert f"{function.__name__} cannot be applied" in told[0]


# -- one key, whatever way a call takes ------------------------------------------------------------


def more(request: dict[str, Any]) -> dict[str, Any]:
    return {**request, "more": len(request["arguments"])}


ANY_RULES: list[Any] = [
    *(ignore("what.q"), ignore("$.code"), replace("a", "b"), renumber("what[*]"), more),
    *(replace("a", "b", where="what"), sorted_by_name("what"), [*AGENTS, *STEERING]),
]
ANYTHING: list[Any] = [
    *("a", "\ud800a", b"a", 2**70, [2**70, 5, 5], 1e300, ("a", "b"), {"": "a", "$": "a"}),
    *({(1, 2): "a"}, {"!x": "a"}, {"q": 1, "!tuple": ["a"]}, {"\ud800": "a", "q": 1}),
    *({"q": {"properties": {"z": "a", "b": 1}}}, {"properties": {"q": 1, "!tuple": ["a"]}}),
    [{"role": "user", "content": "a" * 5000}, {"role": "tool", "tool_call_id": "a"}],
]


@pytest.mark.parametrize("rule", ANY_RULES, ids=str)
def test_a_call_has_the_key_that_is_told_of_it(rule: Any) -> None:
    @llm_cached
    def ask(what: Any = None, messages: Any = ()) -> str:
        return "answer"

    with Cache.memory(same=rule) as cache:
        for given in ANYTHING:
            for call in ({"what": given}, {"messages": [given]}):
                ask(**call)
                assert ask.cache_key(**call) in [entry.key for entry in cache.entries()]


@pytest.mark.parametrize("options", [{"scrub": str}, {"store_requests": False}], ids=str)
def test_what_is_not_to_be_stored_leaves_no_digest(options: dict[str, Any]) -> None:
    complete = Function("sync", Upstream().answer)
    with Cache.memory(same=[DAY], **options) as cache:
        assert complete("day 1") == complete("day 1")
    (entry,) = cache.entries()
    assert entry.by == (DAY.label,)
    assert [rest for _, rest in entry._entry.declared.by] == [b""]  # type: ignore[union-attr]
    assert cache.stats.hits_by_rule == 1  # it cannot be told that none was needed
