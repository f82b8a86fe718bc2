"""Properties of what is proposed: it joins a family, and no requests that ask other things."""

from __future__ import annotations

import uuid
from typing import Any

from examples_tried import many
from hypothesis import given, settings, strategies as st

from cachewrap.entries.stored import Samples, StoredEntry
from cachewrap.entry import Declared, Facts, Kind
from cachewrap.format.envelope import seal
from cachewrap.format.sealing import UNSEALED
from cachewrap.request import key
from cachewrap.same.applied import Rules
from cachewrap.suggest.families import Families
from cachewrap.suggest.wording import combined, made

WHOLE = {"method": "POST", "url": "http://up/v1/chat/completions"}
NOISE = st.fixed_dictionaries(
    {
        "day": st.dates().map(lambda day: f"{day:%Y-%m-%d}".rjust(10, "0")),
        "clock": st.times().map(lambda clock: f"{clock:%H:%M:%S}"),
        "id": st.integers(0, 2**32).map(lambda number: str(uuid.UUID(int=number << 80 | 1 << 62))),
        "call": st.text("0123456789abcdef", min_size=6, max_size=8).map("call_".__add__),
        "turned": st.booleans(),
        "mixed": st.booleans(),
        "user": st.sampled_from(["ann", "bob", None]),
        "metadata": st.none() | st.dictionaries(st.sampled_from("abc"), st.text(max_size=3)),
    }
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "year": st.integers(2015, 2020),
    "words": st.sampled_from([50, 100]),
    "person": st.sampled_from(["kind", "brief", "2026-11-29"]),
    "result": st.sampled_from(["1", "2", "on 2026-01-01", "0x7fffffff00"]),
    "temperature": st.sampled_from([0, 1]),
    "asked": st.sampled_from(["Who won in {}?", "What is {} + 1?", "List {} on 2026-11-{}."]),
    "form": st.sampled_from(["dated", "plain", "function"]),
}
MEANING = st.fixed_dictionaries(VALUES)
FIELDS = sorted(VALUES)


def request_of(noise: dict[str, Any], meaning: dict[str, Any]) -> dict[str, Any]:
    """A request that says something, with what does not matter around it."""
    year = meaning["year"]
    question = meaning["asked"].format(year, year % 28 + 1)
    if meaning["form"] == "function":
        asked = {"question": question, "top": meaning["temperature"], "request_id": noise["id"]}
        return {"function": "agents:ask", "arguments": {**asked, "style": meaning["person"]}}
    system = f"Answer in {meaning['words']} words."
    if meaning["form"] == "dated":
        system += f" Today is {noise['day']}, it is {noise['clock']}.\nSession {noise['id']}"
    first, second = f"{noise['call']}1", f"{noise['call']}2"
    calls = [
        {"id": one, "type": "function", "function": {"name": name, "arguments": "{}"}}
        for one, name in ((first, "a"), (second, "b"))
    ]
    results = [
        {"role": "tool", "tool_call_id": first, "content": meaning["result"]},
        {"role": "tool", "tool_call_id": second, "content": "2"},
    ]
    tools = [{"type": "function", "function": {"name": name}} for name in "abc"]
    body: dict[str, Any] = {
        "model": "gpt-4o",
        "temperature": meaning["temperature"],
        "tools": tools[::-1] if noise["mixed"] else tools,
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": f"Be {meaning['person']}."},
            {"role": "assistant", "content": None, "tool_calls": calls},
            *(results[::-1] if noise["turned"] else results),
            {"role": "user", "content": question},
        ],
    }
    for name in ("user", "metadata"):
        if noise[name] is not None:
            body[name] = noise[name]
    return {**WHOLE, "body": body}


def told(meaning: dict[str, Any]) -> tuple[Any, ...]:
    """What a request says, in full."""
    if meaning["form"] == "function":
        names = "form year asked temperature person"
    else:
        names = "form year asked temperature person words result"
    return tuple(meaning[name] for name in names.split())


def entry_of(request: dict[str, Any], declared: Declared | None = None) -> StoredEntry:
    asked = key.encode(request)
    name = key.key_of(key.salted(rules=declared.rules if declared else ""), asked)
    facts = Facts(1.0, 0.5, source="POST /chat/completions", declared=declared)
    raw = seal(Kind.TEXT, b"yes", asked, facts)
    return StoredEntry(name, "41", len(raw), UNSEALED.unseal(name, raw), Samples())


@st.composite
def asked_of_two(draw: st.DrawFn) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Requests that say one of two things, which differ in one field, with noise around each."""
    one = draw(MEANING)
    field = draw(st.sampled_from(FIELDS))
    value = draw(VALUES[field].filter(lambda value: value != one[field]))
    turns = draw(st.lists(st.tuples(NOISE, st.booleans()), min_size=2, max_size=8))
    return [(noise, {**one, field: value} if other else one) for noise, other in turns]


@settings(max_examples=many(200))
@given(asked_of_two())
def test_rules_join_what_says_the_same_and_nothing_else(
    pairs: list[tuple[dict[str, Any], dict[str, Any]]],
) -> None:
    requests = [(request_of(*pair), told(pair[1])) for pair in pairs]
    entries = {entry.key: entry for entry in (entry_of(request) for request, _ in requests)}
    families = Families()
    for entry in entries.values():
        families.add("place", entry)
    assert families.unknown == 0
    proposals = families.proposals(lambda place, name: entries.get(name))
    rules = Rules([made(one) for one in combined(r for p in proposals for r in p.rules)])
    joined: dict[bytes, set[tuple[Any, ...]]] = {}
    by_meaning: dict[tuple[Any, ...], set[bytes]] = {}
    for request, meaning in requests:
        result = key.encode(rules.apply(request).request)
        joined.setdefault(result, set()).add(meaning)
        by_meaning.setdefault(meaning, set()).add(result)
    assert all(len(meanings) == 1 for meanings in joined.values())
    assert all(len(results) == 1 for results in by_meaning.values())
    distinct: dict[tuple[Any, ...], set[bytes]] = {meaning: set() for meaning in by_meaning}
    for request, meaning in requests:
        distinct[meaning].add(key.encode(request))
    assert sum(p.saved.calls for p in proposals) == sum(len(one) - 1 for one in distinct.values())


def test_entries_of_caches_with_other_rules_are_no_family() -> None:
    meaning = {"form": "plain", "year": 2015, "words": 50, "person": "kind"}
    meaning |= {"result": "1", "temperature": 0, "asked": "Who won in {}?"}
    quiet = {"call": "call_1", "turned": False, "mixed": False, "metadata": None}
    users = [request_of({**quiet, "user": user}, meaning) for user in ("ann", "bob")]
    declared = [None, Declared("a" * 32), Declared("b" * 32), Declared(element=True)]
    for first in declared:
        for second in declared:
            entries = {
                entry.key: entry
                for entry in (entry_of(users[0], first), entry_of(users[1], second))
            }
            families = Families()
            for entry in entries.values():
                families.add("place", entry)
            found = families.proposals(lambda place, name, known=entries: known.get(name))
            assert bool(found) is (first is second)
