"""How requests differ, in words."""

from __future__ import annotations

from typing import Any

import pytest

from cachewrap.explain import covered, differences

LONG = "The quick brown fox jumps over the lazy dog. " * 10


def lines(old: Any, new: Any) -> list[str]:
    return [found.line for found in differences(old, new)]


CASES: dict[str, tuple[Any, Any, list[str]]] = {
    "nothing": ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}, []),
    "a number": ({"temperature": 0.2}, {"temperature": 0.7}, ["temperature: 0.2 → 0.7"]),
    "a word": ({"model": "m-1"}, {"model": "m-2"}, ["model: 'm-1' → 'm-2'"]),
    "a number and its like": ({"n": 1}, {"n": True}, ["n: 1 → True"]),
    "a whole and a broken number": ({"n": 1}, {"n": 1.0}, ["n: 1 → 1.0"]),
    "a number inside a list and its like": ({"n": [1]}, {"n": [True]}, ["n[0]: 1 → True"]),
    "null": ({"stop": None}, {"stop": "x"}, ["stop: None → 'x'"]),
    "another kind": ({"stop": ["x", "y"]}, {"stop": {}}, ["stop: a list of 2 → an object"]),
    "long text": (
        {"prompt": LONG},
        {"prompt": LONG[:240] + "----" + LONG[243:]},
        [f"prompt: 4 characters differ at 240: {LONG[240:243]!r} → '----'"],
    ),
    "one character": (
        {"prompt": LONG + "a"},
        {"prompt": LONG + "b"},
        [f"prompt: 1 character differs at {len(LONG)}: 'a' → 'b'"],
    ),
    "text that went on": (
        {"prompt": LONG},
        {"prompt": LONG + "More."},
        [f"prompt: 5 characters differ at {len(LONG)}: '' → 'More.'"],
    ),
    "a long excerpt": (
        {"prompt": "a b"},
        {"prompt": "x" * 50},
        [f"prompt: 50 characters differ at 0: 'a b' → '{'x' * 39}…'"],
    ),
    "a field that came": ({}, {"seed": 7}, ["seed added (7)"]),
    "a field that went": ({"seed": 7}, {}, ["seed removed (7)"]),
    "a field inside": (
        {"tools": [{}, {"x": 1}]},
        {"tools": [{}, {"x": 1, "name": "go"}]},
        ["tools[1].name added ('go')"],
    ),
    "an element that came": (
        {"tools": [{"name": "a"}]},
        {"tools": [{"name": "b"}, {"name": "a"}]},
        ["tools[0] added (name 'b')"],
    ),
    "an element that went": (
        {"messages": [{"role": "user"}, {"role": "system"}]},
        {"messages": [{"role": "user"}]},
        ["messages[1] removed (role 'system')"],
    ),
    "a tool by its function's name": (
        {"tools": []},
        {"tools": [{"type": "function", "function": {"name": "weather"}}]},
        ["tools[0] added (name 'weather')"],
    ),
    "an element that changed behind one that came": (
        {"messages": ["a", "b", "c"]},
        {"messages": ["x", "a", "b", "d"]},
        ["messages[0] added ('x')", "messages[3]: 'c' → 'd'"],
    ),
    "a body": ({"body": {"n": 1}}, {"body": {"n": 2}}, ["n: 1 → 2"]),
    "arguments": ({"arguments": {"n": [1]}}, {"arguments": {"n": [2]}}, ["n[0]: 1 → 2"]),
    "headers": ({"headers": {"x": "1"}}, {"headers": {"x": "2"}}, ["headers.x: '1' → '2'"]),
    "a tuple": ({"a": {"!tuple": [1, 2]}}, {"a": {"!tuple": [1, 3]}}, ["a[1]: 2 → 3"]),
    "an object of a class": (
        {"a": {"!pydantic": ["m:C", {"x": 1}]}},
        {"a": {"!pydantic": ["m:C", {"x": 2}]}},
        ["a.x: 1 → 2"],
    ),
    "an object of another class": (
        {"a": {"!pydantic": ["m:C", {}]}},
        {"a": {"!pydantic": ["m:D", {}]}},
        ["a[0]: 'm:C' → 'm:D'"],
    ),
    "lists too long to be aligned": (
        {"input": list(range(2000))},
        {"input": [*range(500), -1, *range(501, 2001)]},
        ["input: 2 elements differ from [500] on"],
    ),
    "nothing in common": ([1], {"a": 1}, ["the request: a list of 1 → an object"]),
}


@pytest.mark.parametrize(("old", "new", "expected"), CASES.values(), ids=CASES.keys())
def test_a_line_for_each_difference(old: Any, new: Any, expected: list[str]) -> None:
    assert lines(old, new) == expected


HUSH = "hush-hush-0123456789"


@pytest.mark.parametrize(
    "name",
    "api_key apikey OPENAI_API_KEY signing_key token access_token authorization password "
    "client_secret X-Api-Key helicone-auth cookie credentials".split(),
)
@pytest.mark.parametrize(
    ("old", "new"),
    [("x", HUSH), (HUSH, "x"), (None, HUSH), (LONG, LONG + HUSH), (["x"], [HUSH])],
)
def test_what_is_named_like_a_credential_is_not_shown(name: str, old: Any, new: Any) -> None:
    told = lines({name: old}, {name: new})
    assert len(told) == 1
    assert "hush" not in told[0]


@pytest.mark.parametrize("name", ["password", "api_key"])
def test_a_credential_that_came_is_not_shown(name: str) -> None:
    assert lines({}, {name: HUSH}) == [f"{name} added (hidden)"]


@pytest.mark.parametrize(
    "value",
    [
        "sk-proj-0123456789abcdef",
        "Bearer abcdefgh01234567",
        "ghp_0123456789abcdef",
        "https://user:pass@host/x",
        "AKIA0123456789ABCDEF",
        "eyJhbGciOiJIUzI1NiJ9.e30.x",
    ],
)
def test_what_looks_like_a_credential_is_not_shown(value: str) -> None:
    told = lines({"prompt": "x"}, {"prompt": value}) + lines({}, {"prompt": value})
    assert [line for line in told if value in line or value[4:] in line] == []


def test_what_is_inside_a_credential_is_not_shown() -> None:
    old, new = (
        {"credentials": {"user": name, "pin": pin}} for name, pin in [("a", 1), (HUSH, 4711)]
    )
    told = " ".join(lines(old, new))
    assert ("hush" in told, "4711" in told) == (False, False)


def test_a_request_without_what_looks_like_a_credential() -> None:
    request = {"arguments": {"prompt": "hi", "api_key": HUSH, "client": [{"token": HUSH}], "n": 1}}
    assert covered(request) == {
        "arguments": {
            "prompt": "hi",
            "api_key": "(hidden)",
            "client": [{"token": "(hidden)"}],
            "n": 1,
        }
    }


@pytest.mark.parametrize("name", ["key", "max_tokens", "keywords", "author", "tokens", "model"])
def test_other_names_are_shown(name: str) -> None:
    assert lines({name: 1}, {name: 2}) == [f"{name}: 1 → 2"]


@pytest.mark.parametrize(
    ("near", "far"),
    [
        ({"t": 0.3, "p": LONG}, {"t": 0.2, "p": "Something else."}),
        ({"t": 0.2, "p": "A" + LONG[:-1]}, {"t": 0.2, "p": "Something else."}),
        ({"t": 0.3, "p": LONG[:-3]}, {"t": 0.2, "p": LONG[::-1]}),
    ],
)
def test_a_small_difference_weighs_less(near: Any, far: Any) -> None:
    asked = {"t": 0.2, "p": LONG}
    weights = [sum(d.weight for d in differences(old, asked)) for old in (near, far)]
    assert weights[0] < weights[1]
