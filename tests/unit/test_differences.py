"""How requests differ, in words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import text

from cachewrap.explain.differences import covered, differences

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
        [
            "prompt: 4 characters differ at 240: '…The quick brown fox jumps over…'"
            " → '…The quick brown----x jumps over…'"
        ],
    ),
    "one character": (
        {"prompt": LONG + "a"},
        {"prompt": LONG + "b"},
        ["prompt: 1 character differs at 450: '…the lazy dog. a' → '…the lazy dog. b'"],
    ),
    "text that went on": (
        {"prompt": LONG},
        {"prompt": LONG + "More."},
        ["prompt: 5 characters differ at 450: '…the lazy dog. ' → '…the lazy dog. More.'"],
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
    "places far apart": (
        {"prompt": f"Go to Oslo. {LONG}Then to Rome."},
        {"prompt": f"Go to Bern. {LONG}Then to Paris."},
        [
            "prompt: 9 characters differ in 2 places, the first at 6: 'Go to Oslo. The quick…'"
            " → 'Go to Bern. The quick…', '…dog. Then to Rome.' → '…dog. Then to Paris.'"
        ],
    ),
    "an address in a long text": (
        {"prompt": f"{LONG}<function f at 0x7f83a4c0> {LONG}"},
        {"prompt": f"{LONG}<function f at 0x7f11b2d8> {LONG}"},
        [
            "prompt: an address differs at 469: '…<function f at 0x7f83a4c0> The quick…'"
            " → '…<function f at 0x7f11b2d8> The quick…'"
        ],
    ),
    "many addresses": (
        {"prompt": f"a 0x7f83a4c0 {LONG} 0x7f83a4c1 {LONG} 0x7f83a4c2"},
        {"prompt": f"a 0x7f11b2d0 {LONG} 0x7f11b2d1 {LONG} 0x7f11b2d2"},
        [
            "prompt: 3 addresses differ, the first at 6: 'a 0x7f83a4c0 The quick…' →"
            " 'a 0x7f11b2d0 The quick…', '…the lazy dog.  0x7f83a4c1 The quick…' →"
            " '…the lazy dog.  0x7f11b2d1 The quick…', and 1 more"
        ],
    ),
    "a uuid, whole": (
        {"run": "0b5c7a52-9f0e-4b86-9a3f-1d2c3b4a5f60"},
        {"run": "7a3e1f90-52c4-4d0b-8c1e-aa17c02b9e41"},
        [
            "run: a uuid differs: '0b5c7a52-9f0e-4b86-9a3f-1d2c3b4a5f60' →"
            " '7a3e1f90-52c4-4d0b-8c1e-aa17c02b9e41'"
        ],
    ),
    "a date in a text": (
        {"prompt": "Today is 2026-11-28. Answer shortly."},
        {"prompt": "Today is 2026-12-01. Answer shortly."},
        [
            "prompt: a date differs at 15: 'Today is 2026-11-28. Answer…' →"
            " 'Today is 2026-12-01. Answer…'"
        ],
    ),
    "a date in words": (
        {"prompt": "Today is 9 November 2026."},
        {"prompt": "Today is 28 November 2026."},
        ["prompt: a date differs at 9: 'Today is 9 November 2026.' → 'Today is 28 November 2026.'"],
    ),
    "a date and an address": (
        {"prompt": f"On Nov 9, 2026 {LONG}0x7f83a4c0"},
        {"prompt": f"On Dec 9, 2026 {LONG}0x7f11b2d0"},
        [
            "prompt: a date and an address differ, the first at 3: 'On Nov 9, 2026 The quick…' →"
            " 'On Dec 9, 2026 The quick…', '…the lazy dog. 0x7f83a4c0' →"
            " '…the lazy dog. 0x7f11b2d0'"
        ],
    ),
    "a moment": (
        {"prompt": "It is 2026-11-28T03:59:06Z now"},
        {"prompt": "It is 2026-11-29T13:04:17Z now"},
        [
            "prompt: a date and time differs at 15: 'It is 2026-11-28T03:59:06Z now' →"
            " 'It is 2026-11-29T13:04:17Z now'"
        ],
    ),
    "a temporary path": (
        {"prompt": "Read /tmp/tmpa1b2/in.txt now"},
        {"prompt": "Read /tmp/tmpz9y8/in.txt now"},
        [
            "prompt: a temporary path differs at 13: 'Read /tmp/tmpa1b2/in.txt now' →"
            " 'Read /tmp/tmpz9y8/in.txt now'"
        ],
    ),
    "the id of a tool's call": (
        {"tool_call_id": "call_a1B2c3D4e5"},
        {"tool_call_id": "call_z9Y8x7W6v5"},
        ["tool_call_id: an id differs: 'call_a1B2c3D4e5' → 'call_z9Y8x7W6v5'"],
    ),
    "white space": (
        {"prompt": "One two.\nThree."},
        {"prompt": "One two. Three."},
        [
            "prompt: white space differs at 8: 'One two.\\nThree.' → 'One two. Three.'",
        ],
    ),
    "upper and lower case": (
        {"prompt": "Name a River."},
        {"prompt": "Name a river."},
        ["prompt: upper and lower case differ at 7: 'Name a River.' → 'Name a river.'"],
    ),
    "letters that look alike": (
        {"prompt": "In the cafe\u0301 today"},
        {"prompt": "In the caf\u00e9 today"},
        [
            "prompt: letters that look alike differ at 10: 'In the cafe\u0301 today' →"
            " 'In the caf\u00e9 today'"
        ],
    ),
    "what is written without spaces": (
        {"prompt": "今天天气怎么样" * 20 + "北京"},
        {"prompt": "今天天气怎么样" * 20 + "上海"},
        [
            "prompt: 2 characters differ at 140: '…气怎么样今天天气怎么样今天天气怎么样北京'"
            " → '…气怎么样今天天气怎么样今天天气怎么样上海'"
        ],
    ),
    "a long word": (
        {"prompt": "QUJD" * 60 + "x" + "REVG" * 60},
        {"prompt": "QUJD" * 60 + "y" + "REVG" * 60},
        [
            "prompt: 1 character differs at 240: '…JDQUJDQUJDQUJDQUJDxREVGREVGREVG…' →"
            " '…JDQUJDQUJDQUJDQUJDyREVGREVGREVG…'"
        ],
    ),
    "a message that moved": (
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "7"}]},
        {"messages": [{"role": "tool", "content": "7"}, {"role": "user", "content": "Hi"}]},
        ["messages[1] moved to [0] (role 'tool', '7')"],
    ),
    "messages that moved and one that changed": (
        {
            "messages": [
                "s",
                {"role": "tool", "content": "7"},
                {"role": "tool", "content": "8"},
                "q",
            ]
        },
        {
            "messages": [
                "s",
                {"role": "tool", "content": "8"},
                {"role": "tool", "content": "7"},
                "r",
            ]
        },
        ["messages[2] moved to [1] (role 'tool', '8')", "messages[3]: 'q' → 'r'"],
    ),
    "a message that came before one that changed": (
        {"messages": [{"role": "user", "content": "a b"}]},
        {
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "a c"},
            ]
        },
        [
            "messages[0] added (role 'system', 'Be kind.')",
            "messages[1].content: 1 character differs at 2: 'a b' → 'a c'",
        ],
    ),
    "what a tool was called with": (
        {"messages": [{"function": {"name": "f", "arguments": '{"city": "Oslo", "n": 1}'}}]},
        {"messages": [{"function": {"name": "f", "arguments": '{"city": "Rome", "n": 1}'}}]},
        ["messages[0].function.arguments.city: 'Oslo' → 'Rome'"],
    ),
    "JSON in another form": (
        {"arguments": {"data": '{"a": 1}'}},
        {"arguments": {"data": '{"a":1}'}},
        ["""data: white space differs at 5: '{"a": 1}' → '{"a":1}'"""],
    ),
    "a stream, once": (
        {"body": {"n": 1}},
        {"body": {"n": 1, "stream": True}, "stream": True},
        ["stream added (True)"],
    ),
    "lists of what is said over and over": (
        {"input": ["x", "y"] * 500},
        {"input": ["y", "x"] * 500},
        ["input: 1000 elements differ from [0] on"],
    ),
    "nothing in common": ([1], {"a": 1}, ["the request: a list of 1 → an object"]),
}


@pytest.mark.parametrize(("old", "new", "expected"), CASES.values(), ids=CASES.keys())
def test_a_line_for_each_difference(old: Any, new: Any, expected: list[str]) -> None:
    assert lines(old, new) == expected


def test_long_texts_are_compared_line_by_line() -> None:
    old = [f"Line {number} says {number * 7919} and no more." for number in range(3000)]
    new = list(old)
    new[1500] = "Line 1500 says nothing and no more."
    new[100] = "Line 100 says nothing and no more."
    assert lines({"prompt": "\n".join(old)}, {"prompt": "\n".join(new)}) == [
        "prompt: 15 characters differ in 2 places, the first at 3286: '…100 says 791900 and no…' →"
        " '…100 says nothing and no…', '…1500 says 11878500 and no…' → '…1500 says nothing and no…'"
    ]


@given(text(), text())
def test_what_differs_is_shown(old: str, new: str) -> None:
    told = lines({"prompt": f"x {old}"}, {"prompt": f"x {new}"})
    assert len(told) == (old != new)
    for line in told:
        before, _, behind = line.partition(" → ")
        assert before[-1:] != behind[-1:] or before[: len(behind)] != behind


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


def test_names_are_shown_safely() -> None:
    secret = "sk-proj-aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3z"
    old = {"body": {"!members": [["a\x1b[2J", 1], [secret, 1], ["b", 1]]}}
    new = {"body": {"!members": [["b", 1], ["a\x1b[2J", 2]]}}
    lines = [found.line for found in differences(old, new)]
    assert lines[:2] == ["a\\x1b[2J: 1 → 2", "(hidden) removed (1)"]
    assert not any("\x1b" in line for line in lines)


def test_a_long_text_that_looks_like_paths_takes_no_long_time() -> None:
    text = "C:\\" * 20_000
    assert "differ" in differences({"body": text + "a b"}, {"body": text + "c d"})[0].line
