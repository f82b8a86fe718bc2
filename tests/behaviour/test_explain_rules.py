"""Which rule made it equal, and which would have: what is told of hits and misses of a cache."""

from __future__ import annotations

import logging
import pickle
from typing import Any

import pytest

from cachewrap import Cache, ReplayMissError, llm_cached
from cachewrap.entry import Declared, Facts
from cachewrap.explain import Explanation
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.request.key import encode
from cachewrap.same import AGENTS, STEERING, ignore, in_call_order, renumber, replace
from cachewrap.stores.memory import MemoryStore

DATES = replace(r"Today is \d{4}-\d\d-\d\d", "Today is …")
RULES = [ignore("metadata"), DATES]


@llm_cached
def ask(
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None = None,
    metadata: dict[str, str] | None = None,
    temperature: float = 0.0,
) -> str:
    return "sunny"


def talk(
    ids: str = "ab", order: tuple[int, ...] = (0, 1), day: str = "28", text: str = "hi"
) -> list[dict[str, Any]]:
    """A conversation with two calls of tools, whose results come in an order."""
    calls = [
        {"id": one, "function": {"name": "look", "arguments": str(number)}}
        for number, one in enumerate(ids)
    ]
    results = [
        {"role": "tool", "tool_call_id": one, "content": f"Found by look {number}"}
        for number, one in enumerate(ids)
    ]
    return [
        {"role": "system", "content": f"Today is 2026-11-{day}. Be kind."},
        {"role": "user", "content": text},
        {"role": "assistant", "tool_calls": calls},
        *(results[at] for at in order),
    ]


def tools(names: str = "abc") -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": name}} for name in names]


RUN = {"run": "1"}
OTHER_RUN = {"run": "2"}

# The rules; what is stored; what is asked; whether that is a hit; what is still different; what
# each rule made equal; which rules of a ready set would have made all of it equal.
CASES: dict[str, tuple[Any, dict[str, Any], dict[str, Any], bool, list[str], Any, list[str]]] = {
    "a field that is left out": (
        RULES,
        {"metadata": RUN},
        {"metadata": OTHER_RUN},
        True,
        [],
        [('ignore("metadata")', ["metadata.run: '1' → '2'"])],
        [],
    ),
    "a text that is replaced": (
        RULES,
        {"messages": talk(day="28")},
        {"messages": talk(day="29")},
        True,
        [],
        [
            (
                DATES.label,
                [
                    "messages[0].content: a date differs at 18: 'Today is 2026-11-28. Be kind.' →"
                    " 'Today is 2026-11-29. Be kind.'"
                ],
            )
        ],
        [],
    ),
    "the very request": (RULES, {"metadata": RUN}, {"metadata": RUN}, True, [], [], []),
    "what no rule makes equal": (
        RULES,
        {"metadata": RUN},
        {"metadata": OTHER_RUN, "temperature": 1.0},
        False,
        ["temperature: 0.0 → 1.0"],
        [('ignore("metadata")', ["metadata.run: '1' → '2'"])],
        [],
    ),
    "a text of which a part is replaced": (
        RULES,
        {"messages": [{"content": "Today is 2026-11-28, Ann."}]},
        {"messages": [{"content": "Today is 2026-11-29, Bob."}]},
        False,
        ["messages[0].content: 3 characters differ at 12: 'Today is …, Ann.' → 'Today is …, Bob.'"],
        [(DATES.label, ["messages[0].content, in part"])],
        [],
    ),
    "results in another order": (
        [in_call_order],
        {"messages": talk(order=(0, 1))},
        {"messages": talk(order=(1, 0))},
        True,
        [],
        [("in_call_order", ["messages[4] moved to [3] (role 'tool', 'Found by look 1')"])],
        [],
    ),
    "ids of a client's own": (
        [renumber()],
        {"messages": talk("ab")},
        {"messages": talk("xy")},
        True,
        [],
        [
            (
                "renumber()",
                [
                    "messages[2].tool_calls[0].id: 'a' → 'x'",
                    "messages[2].tool_calls[1].id: 'b' → 'y'",
                    "messages[3].tool_call_id: 'a' → 'x'",
                    "messages[4].tool_call_id: 'b' → 'y'",
                ],
            )
        ],
        [],
    ),
    "an order, without rules": (
        None,
        {"messages": talk(order=(0, 1))},
        {"messages": talk(order=(1, 0))},
        False,
        ["messages[4] moved to [3] (role 'tool', 'Found by look 1')"],
        [],
        ["in_call_order"],
    ),
    "tools, a field and ids, without rules": (
        None,
        {"messages": talk("ab"), "tools": tools("abc"), "metadata": RUN},
        {"messages": talk("xy"), "tools": tools("bca"), "metadata": OTHER_RUN},
        False,
        [
            "messages[2].tool_calls[0].id: 'a' → 'x'",
            "messages[2].tool_calls[1].id: 'b' → 'y'",
            "messages[3].tool_call_id: 'a' → 'x'",
            "messages[4].tool_call_id: 'b' → 'y'",
            "metadata.run: '1' → '2'",
            "tools[0] moved to [2] (name 'a')",
        ],
        [],
        ["sorted_by_name", "renumber()", 'ignore("metadata")'],
    ),
    "an order, with other rules": (
        RULES,
        {"messages": talk(order=(0, 1), day="28")},
        {"messages": talk(order=(1, 0), day="29")},
        False,
        ["messages[4] moved to [3] (role 'tool', 'Found by look 1')"],
        [
            (
                DATES.label,
                [
                    "messages[0].content: a date differs at 18: 'Today is 2026-11-28. Be kind.' →"
                    " 'Today is 2026-11-29. Be kind.'"
                ],
            )
        ],
        ["in_call_order"],
    ),
    "an order and a question": (
        None,
        {"messages": talk(order=(0, 1), text="hi")},
        {"messages": talk(order=(1, 0), text="ho")},
        False,
        [
            "messages[1].content: 'hi' → 'ho'",
            "messages[4] moved to [3] (role 'tool', 'Found by look 1')",
        ],
        [],
        [],
    ),
}


@pytest.mark.parametrize(
    ("same", "stored", "asked", "hit", "diff", "by", "lacks"), CASES.values(), ids=CASES.keys()
)
def test_what_is_told(
    same: Any,
    stored: dict[str, Any],
    asked: dict[str, Any],
    hit: bool,
    diff: list[str],
    by: Any,
    lacks: list[str],
) -> None:
    stored, asked = {"messages": talk(), **stored}, {"messages": talk(), **asked}
    with Cache.memory(same=same) as cache:
        ask(**stored)
        found = ask.explain(**asked)
        near = found if hit else found.nearest[0]
        assert found.stored is hit
        assert sorted(() if hit else found.nearest[0].diff) == diff
        assert [(rule, list(lines)) for rule, lines in near.by] == by
        assert list(found.wanted.lacks if found.wanted else ()) == lacks
        for rule, lines in by:
            assert f"equal by {rule}:\n  {lines[0]}" in str(found)
        ask(**asked)
    assert (cache.stats.hits == 1) is hit
    # What is told of a hit is what is counted.
    assert list(cache.stats.by_rule) == ([rule for rule, _ in by] if hit else [])


class TestAnEntryElsewhere:
    """Stored where this cache does not look, however near it is."""

    @pytest.mark.parametrize(
        ("before", "now", "told"),
        [
            (None, RULES, "the very request is stored without rules"),
            (AGENTS, RULES, "the very request is stored with other rules"),
            (RULES, None, "the very request is stored with rules (same=)"),
        ],
        ids=["without", "others", "with"],
    )
    def test_is_told_as_such(self, before: Any, now: Any, told: str) -> None:
        store = MemoryStore()
        with Cache(store, same=before):
            ask(talk(), metadata=RUN)
        with Cache(store, same=now):
            found = ask.explain(talk(), metadata=RUN)
        key = found.nearest[0].key[:12]
        assert f"\n{told} (key {key}…), where this cache does not look" in str(found)

    def test_that_is_different_is_told_as_such(self) -> None:
        store = MemoryStore()
        with Cache(store):
            ask(talk(), metadata=RUN)
        with Cache(store, same=RULES):
            found = ask.explain(talk(text="ho"), metadata=OTHER_RUN)
        assert ", which is stored without rules, is different:\n  messages[1]" in str(found)
        assert "equal by ignore" in str(found)

    def test_stands_behind_one_that_may_be_served(self) -> None:
        store = MemoryStore()
        with Cache(store, same=RULES):
            ask(talk(), temperature=0.5)
        with Cache(store):
            ask(talk())
        with Cache(store, same=RULES):
            found = ask.explain(talk())
        assert [near.elsewhere for near in found.nearest] == ["", "without rules"]

    def test_may_be_an_element_of_a_list(self) -> None:
        store = MemoryStore()
        with Cache(store) as cache:
            ask(talk())
            request = encode(ask.explain(talk(text="ho")).nearest[0].request)
            source = ask.explain(talk()).source
            cache.clear()
            facts = Facts(created=1.0, seconds=1.0, source=source, declared=Declared(element=True))
            store.set("ab" * 32, seal(*codec.encode("x"), request, facts))
            assert "is stored as an element of a list (key abab" in str(ask.explain(talk()))


class TestAReadySet:
    def miss(self, same: Any = None, **asked: Any) -> ReplayMissError:
        with Cache.memory(same=same) as cache:
            ask(talk(), metadata=RUN)
            with cache.mode("replay"), pytest.raises(ReplayMissError) as raised:
                ask(**{"messages": talk(), "metadata": RUN, **asked})
        return raised.value

    @pytest.mark.parametrize(
        ("asked", "told", "rules"),
        [
            ({"messages": talk("xy", (1, 0))}, "*AGENTS", ("in_call_order", "renumber()")),
            ({"metadata": OTHER_RUN}, "*STEERING", ('ignore("metadata")',)),
            (
                {"messages": talk(order=(1, 0)), "metadata": OTHER_RUN},
                "*AGENTS, *STEERING",
                ("in_call_order", 'ignore("metadata")'),
            ),
        ],
        ids=["agents", "steering", "both"],
    )
    def test_that_would_have_made_a_hit_is_named(
        self, asked: dict[str, Any], told: str, rules: tuple[str, ...]
    ) -> None:
        error = self.miss(**asked)
        assert error.rules == rules
        assert f"same=[{told}] (from cachewrap.same) would have made it equal to key" in str(error)
        assert f"…: {', '.join(rules)}\n" in str(error)
        assert pickle.loads(pickle.dumps(error)).rules == rules

    @pytest.mark.parametrize("same", [AGENTS, STEERING])
    def test_does_as_it_says(self, same: Any) -> None:
        asked = {"messages": talk("xy", (1, 0))} if same is AGENTS else {"metadata": OTHER_RUN}
        assert self.miss(**asked).rules
        with Cache.memory(same=same) as cache:
            ask(talk(), metadata=RUN)
            ask(**{"messages": talk(), "metadata": RUN, **asked})
        assert cache.stats.hits_by_rule == 1

    def test_that_the_cache_has_is_not(self) -> None:
        error = self.miss(AGENTS, messages=talk("xy", (1, 0)), temperature=1.0)
        assert (error.rules, error.diff) == ((), ("temperature: 0.0 → 1.0",))

    def test_is_named_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        with Cache.memory(), caplog.at_level(logging.DEBUG, "cachewrap"):
            ask(talk())
            ask(talk("xy"))
        assert "same=[*AGENTS]" in caplog.text

    def test_is_found_among_many_whose_words_are_nearer(self) -> None:
        long = "".join(f"Tool number {number} of many. " for number in range(60))
        named = [
            {"type": "function", "function": {"name": name, "description": f"{name} {long}"}}
            for name in "abcdef"
        ]
        with Cache.memory() as cache:
            for number in range(60):
                ask(talk(text=f"Another question {number}"), named[::-1])
            ask(talk("pq", text="What about the weather?"), named)
            key = ask.cache_key(talk("pq", text="What about the weather?"), named)
            with cache.mode("replay"), pytest.raises(ReplayMissError) as raised:
                ask(talk("rs", (1, 0), text="What about the weather?"), named[::-1])
        assert raised.value.rules == ("in_call_order", "sorted_by_name", "renumber()")
        assert raised.value.explanation.wanted.key == key


class TestWhatIsSecret:
    def test_is_not_shown_by_what_rules_made_equal(self) -> None:
        with Cache.memory(same=[ignore("metadata")]):
            ask(talk(), metadata={"run": "1", "password": "hush-hush-1"})
            found = ask.explain(talk(), metadata={"run": "2", "password": "hush-hush-2"})
        assert found.stored
        assert found.by == (('ignore("metadata")', ("metadata.run: '1' → '2'",)),)
        assert "hush" not in f"{found} {found!r} {found.by}"

    def test_and_all_that_differs_leaves_the_rule_alone(self) -> None:
        with Cache.memory(same=[ignore("metadata")]):
            ask(talk(), metadata={"password": "hush-hush-1"})
            found = ask.explain(talk(), metadata={"password": "hush-hush-2"})
        assert found.by == (('ignore("metadata")', ()),)
        assert str(found).endswith('\nequal by ignore("metadata")')


class TestAHit:
    def test_of_a_request_that_was_not_stored_names_the_rules_that_changed_it(self) -> None:
        with Cache.memory(same=RULES, store_requests=False):
            ask(talk(), metadata=RUN)
            found = ask.explain(talk(), metadata=OTHER_RUN)
        assert found.stored
        assert [rule for rule, _ in found.by] == [rule.label for rule in RULES]

    def test_of_any_function_names_the_rule(self) -> None:
        with Cache.memory(same=RULES) as cache:
            ask(talk(), metadata=RUN)
        found = cache.explain(lambda: ask(talk(), metadata=OTHER_RUN))
        assert isinstance(found, Explanation)
        assert (found.stored, found.by) == (True, (('ignore("metadata")', ()),))

    def test_of_a_request_as_a_mapping_has_all_of_it(self) -> None:
        with Cache.memory(same=RULES) as cache:
            ask(talk(), metadata=RUN)
            asked = ask.explain(talk(text="ho")).nearest[0].request
        asked["arguments"]["metadata"] = OTHER_RUN
        found = cache.explain(asked)
        assert found.stored
        assert found.by == (('ignore("metadata")', ("metadata.run: '1' → '2'",)),)
