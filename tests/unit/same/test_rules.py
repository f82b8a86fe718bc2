"""Rules of equality: what each makes equal, and that nothing else ever is."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from enum import StrEnum
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from examples_tried import many
from hypothesis import given, settings, strategies as st

from cachewrap.entry import rules_between
from cachewrap.errors import ConfigurationError, UnkeyableError
from cachewrap.request.canonical import canonical_body, plain_body
from cachewrap.request.key import encode, key_of
from cachewrap.same import (
    AGENTS,
    STEERING,
    ignore,
    in_call_order,
    renumber,
    replace,
    sorted_by_name,
)
from cachewrap.same.applied import Rules, check_rules

GOLDEN = Path(__file__).parents[2] / "golden" / "rules.json"


def http(body: Any = None, **more: Any) -> dict[str, Any]:
    return {"method": "POST", "url": "https://api/v1/x", "body": body, **more}


def call(**arguments: Any) -> dict[str, Any]:
    return {"function": "m:f", "arguments": arguments}


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return http({"model": "m", "messages": list(messages), **more})


def rules(given: Any) -> Rules:
    found = check_rules(given)
    assert found is not None
    return found


def key(given: Any, request: dict[str, Any]) -> str:
    found = rules(given)
    return key_of(found.prefix(), encode(found.apply(request).request))


def calls(*ids: str) -> dict[str, Any]:
    made = [{"id": one, "type": "function", "function": {"name": "f"}} for one in ids]
    return {"role": "assistant", "content": None, "tool_calls": made}


def result(of: str, says: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": of, "content": says}


def used(*ids: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "tool_use", "id": i} for i in ids]}


def results(*pairs: tuple[str, str], name: str = "tool_use_id") -> dict[str, Any]:
    blocks = [{"type": "tool_result", name: of, "content": says} for of, says in pairs]
    return {"role": "user", "content": blocks}


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


CALLED = [{"type": "function_call", "call_id": one} for one in "ab"]
PUT = [{"type": "function_call_output", "call_id": one, "output": one} for one in "ab"]
TWICE = [result("b", "3"), result("a", "4")]
SHELLS = [{"type": "local_shell_call", "id": one} for one in "ab"]
SYSTEM = {"role": "system", "content": "Today is 2026-11-29."}
LATER = {"role": "system", "content": "Today is 2026-11-30."}
DATE = replace(r"\d{4}-\d\d-\d\d", "…", where="messages[role=system].content")
MODEL = {"!pydantic": ["m:A:1", {"id": "a", "text": "t"}]}

EQUAL: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "a field": (ignore("metadata"), chat(metadata={"run": 1}), chat(metadata={"run": 2})),
    "a field that is absent": (ignore("metadata"), chat(metadata={"run": 1}), chat()),
    "a field of a field": (
        ignore("metadata.run"),
        chat(metadata={"run": 1, "a": 1}),
        chat(metadata={"a": 1}),
    ),
    "a quoted name": (ignore('m["a.b[0]"]'), chat(m={"a.b[0]": 1}), chat(m={})),
    "fields of some items": (
        ignore("messages[role=user|tool].name"),
        chat({"role": "user", "name": "a"}, {"role": "system"}),
        chat({"role": "user"}, {"role": "system"}),
    ),
    "fields of all others": (
        ignore("messages[role!=system].name"),
        chat({"role": "user", "name": "a"}),
        chat({"role": "user", "name": "b"}),
    ),
    "every member, whatever it is called": (
        ignore("m.*", "n.*"),
        call(m={"": 1, "!b": 2}, n={"$": 1}),
        call(m={}, n={"!dict": [["!tuple", 1]]}),
    ),
    "items, each at its place before another is left out": (
        ignore("l[0]", "l[1]", "l[-1]", "l[1]"),
        call(l=[1, 2, 3, 4]),
        call(l=[5, 6, 3, 7]),
    ),
    "fields, one of which is the condition for another": (
        ignore("l[n=1].n", "l[n=1].x", "l[n=2]"),
        call(l=[{"n": 1, "x": {"y": 1}}, {"n": 2}]),
        call(l=[{"x": 2, "n": 1}]),
    ),
    "an object, and what is in it": (
        ignore("o[n=1]", "o.text", "o[n=2].n"),
        call(o={"n": 1, "text": "\ud800", "!more": {"x": 2**70}}),
        call(o={"n": 1}),
    ),
    "texts of an object, and one of them": (
        replace(r"\d", "0", where=["o.a", "o[n=1]", "o[n=1].b", "o"]),
        call(o={"n": 1, "a": "1", "b": ["2"], "!c": "\ud8003"}),
        call(o={"n": 1, "a": "4", "b": ["5"], "!c": "\ud8006"}),
    ),
    "texts at places of several paths": (
        replace("ab", "", where=["l[1].x", "l[*]", "l[n=1]", "l[n=1].x", "l[1].y"]),
        call(l=["1ab", {"x": "1ab", "y": ["ab"], "n": 1}]),
        call(l=["1", {"x": "1", "y": [""], "n": 1}]),
    ),
    "texts beside names that are no text": (
        replace("b.?", "b"),
        call(t={"!dict": [[{"!tuple": [1, 2]}, "b1"], [{"!bytes": "YQ=="}, "b2"]]}),
        call(t={"!dict": [[{"!tuple": [1, 2]}, "b3"], [{"!bytes": "YQ=="}, "b4"]]}),
    ),
    "an item from the back": (ignore("tags[-1]"), chat(tags=[1, 2]), chat(tags=[1, 3])),
    "a number, a truth and nothing": (
        ignore("l[n=1].x", "l[n=true].x", "l[n=null].x"),
        chat(l=[{"n": 1, "x": 1}, {"n": True, "x": 1}, {"n": None, "x": 1}]),
        chat(l=[{"n": 1}, {"n": True}, {"n": None}]),
    ),
    "a header": (
        ignore("headers.X-Build"),
        http({}, headers={"x-build": "1"}),
        http({}),
    ),
    "a parameter of the query": (ignore("$.query.v"), http({}, query={"v": "1"}), http({})),
    "an argument": (ignore("run"), call(run=1, prompt="a"), call(run=2, prompt="a")),
    "an argument that is called as a part of requests is": (
        ignore("headers.x", "body.y"),
        call(headers={"x": 1}, body={"y": 1}),
        call(headers={}, body={}),
    ),
    "a field of a model": (
        ignore("m.id"),
        call(m=MODEL),
        call(m={"!pydantic": ["m:A:1", {"id": "b", "text": "t"}]}),
    ),
    "a field of models in a tuple": (
        ignore("ms[*].id"),
        call(ms={"!tuple": [MODEL]}),
        call(ms={"!tuple": [{"!pydantic": ["m:A:1", {"text": "t"}]}]}),
    ),
    "a property of a tool": (
        ignore("tools[*].function.parameters.properties.session"),
        chat(
            tools=[tool("a", parameters={"properties": {"!members": [["session", 1], ["q", 2]]}})]
        ),
        chat(tools=[tool("a", parameters={"properties": {"q": 2}})]),
    ),
    "a date in a system prompt": (DATE, chat(SYSTEM), chat(LATER)),
    "dates in blocks of text": (
        DATE,
        chat({"role": "system", "content": [{"type": "text", "text": "on 2026-11-29"}]}),
        chat({"role": "system", "content": [{"type": "text", "text": "on 2026-11-30"}]}),
    ),
    "any text": (
        replace(r"0x[0-9a-f]+", "0x…"),
        chat({"role": "user", "content": "<f at 0x7f>"}),
        chat({"role": "user", "content": "<f at 0x8e>"}),
    ),
    "a text of an argument": (replace(r"/tmp/\w+", "/tmp/…"), call(p="/tmp/a"), call(p="/tmp/b")),
    "texts in objects": (
        replace("t.?", "t"),
        call(m=MODEL, n={"!namedtuple": ["m:P", ["ta"]]}, o={"!tuple": ["tb"]}),
        call(m=MODEL, n={"!namedtuple": ["m:P", ["tc"]]}, o={"!tuple": ["td"]}),
    ),
    "a group of the match": (
        replace(r"(\w+)-\d+", r"\1-N"),
        call(p="run-1 of job-2"),
        call(p="run-3 of job-4"),
    ),
    "texts that are told apart by numbers": (
        replace("0x[0-9a-f]+", "0x", numbered=True),
        call(b="0x7f 0x8e", a="0x7f"),
        call(a="0xaa", b="0xaa 0xbb"),
    ),
    "ids of calls": (
        renumber(),
        chat(calls("a", "b"), result("a", "1"), result("b", "2")),
        chat(calls("c", "d"), result("c", "1"), result("d", "2")),
    ),
    "ids of calls of Anthropic's": (
        renumber(),
        chat(used("a", "b"), results(("a", "1"), ("b", "2"))),
        chat(used("b", "a"), results(("b", "1"), ("a", "2"))),
    ),
    "ids of calls of OpenAI's responses": (
        renumber(),
        http(
            {"input": [{"type": "function_call", "call_id": "a"}, {"call_id": "a", "output": ""}]}
        ),
        http(
            {"input": [{"type": "function_call", "call_id": "b"}, {"call_id": "b", "output": ""}]}
        ),
    ),
    "ids of calls of Bedrock's": (
        renumber(),
        chat({"content": [{"toolUse": {"toolUseId": "a"}}, {"toolResult": {"toolUseId": "a"}}]}),
        chat({"content": [{"toolUse": {"toolUseId": "b"}}, {"toolResult": {"toolUseId": "b"}}]}),
    ),
    "ids of calls of Gemini's": (
        renumber(),
        http({"contents": [{"parts": [{"functionCall": {"id": "a"}}]}]}),
        http({"contents": [{"parts": [{"functionCall": {"id": "b"}}]}]}),
    ),
    "ids of messages that are objects": (
        renumber("messages[*].id"),
        call(messages=[{"!object": ["lc:Human", {"id": "a", "content": "x"}]}]),
        call(messages=[{"!object": ["lc:Human", {"id": "b", "content": "x"}]}]),
    ),
    "results as they finish": (
        in_call_order,
        chat(calls("a", "b"), result("a", "1"), result("b", "2")),
        chat(calls("a", "b"), result("b", "2"), result("a", "1")),
    ),
    "results of calls that have the ids of calls before": (
        in_call_order,
        chat(calls("a", "b"), result("a", "1"), result("b", "2"), calls("b", "a"), *TWICE),
        chat(calls("a", "b"), result("b", "2"), result("a", "1"), calls("b", "a"), *TWICE[::-1]),
    ),
    "results in one message": (
        in_call_order,
        chat(used("a", "b"), results(("a", "1"), ("b", "2"))),
        chat(used("a", "b"), results(("b", "2"), ("a", "1"))),
    ),
    "results of OpenAI's responses": (
        in_call_order,
        http({"input": [*CALLED, *PUT]}),
        http({"input": [*CALLED, *reversed(PUT)]}),
    ),
    "results by ids that are random, too": (
        [in_call_order, renumber()],
        chat(calls("a", "b"), result("b", "2"), result("a", "1")),
        chat(calls("c", "d"), result("c", "1"), result("d", "2")),
    ),
    "tools": (
        sorted_by_name,
        chat(tools=[tool("a"), tool("b")]),
        chat(tools=[tool("b"), tool("a")]),
    ),
    "tools of Gemini's": (
        sorted_by_name,
        http({"tools": [{"functionDeclarations": [{"name": "a"}, {"name": "b"}]}]}),
        http({"tools": [{"functionDeclarations": [{"name": "b"}, {"name": "a"}]}]}),
    ),
    "tools of Bedrock's": (
        sorted_by_name,
        http({"toolConfig": {"tools": [{"toolSpec": {"name": n}} for n in "ab"]}}),
        http({"toolConfig": {"tools": [{"toolSpec": {"name": n}} for n in "ba"]}}),
    ),
    "a list of one's own": (sorted_by_name("box"), call(box=["b", "a"]), call(box=["a", "b"])),
}


@pytest.mark.parametrize("name", EQUAL)
def test_it_is_equal(name: str) -> None:
    same, one, other = EQUAL[name]
    before = copy.deepcopy((one, other))
    assert key(same, one) == key(same, other)
    assert (one, other) == before  # what was asked stays as it was
    first, second = (rules(same).apply(request).by for request in (one, other))
    assert first != second  # so that it is told from an exact hit


APART: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "another field": (ignore("metadata"), chat(user="a"), chat(user="b")),
    "the same name further in": (ignore("id"), chat(x={"id": 1}), chat(x={"id": 2})),
    "an item that the condition leaves": (
        ignore("messages[role=user].name"),
        chat({"role": "tool", "name": "a"}),
        chat({"role": "tool", "name": "b"}),
    ),
    "a number as text": (
        ignore("l[n=1].x"),
        chat(l=[{"n": 1, "x": 1}]),
        chat(l=[{"n": "1", "x": 1}]),
    ),
    "an index beyond the list": (ignore("l[5]", "l[-5]"), chat(l=[1]), chat(l=[2])),
    "an item that is in the place of one that is left out": (
        ignore("l[0]", "l[1]"),
        call(l=["a", "b", "c"]),
        call(l=["x", "b", "y"]),
    ),
    "an index in a text": (ignore("t[0]"), chat(t="ab"), chat(t="cb")),
    "a header of that name is no field": (
        ignore("x-build"),
        http({}, headers={"x-build": "1"}),
        http({}, headers={"x-build": "2"}),
    ),
    "a request without fields": (
        ignore("url", "files", "method"),
        {"method": "POST", "url": "https://a", "files": [["f", "1"]]},
        {"method": "POST", "url": "https://b", "files": [["f", "2"]]},
    ),
    "the class of a model": (
        ignore("m.id"),
        call(m=MODEL),
        call(m={"!pydantic": ["m:B:1", {"id": "a", "text": "t"}]}),
    ),
    "a tuple and a list": (ignore("m[0]"), call(m={"!tuple": [1, 2]}), call(m=[1, 2])),
    "what is left looks like a tuple": (
        ignore("m.x"),
        call(m={"!tuple": [1], "x": 2}),
        call(m={"!tuple": [1]}),
    ),
    "another date than the rule's": (DATE, chat(SYSTEM), chat({**SYSTEM, "content": "on 1 May"})),
    "a date of somebody else": (
        DATE,
        chat({"role": "user", "content": "2026-11-29"}),
        chat({"role": "user", "content": "2026-11-30"}),
    ),
    "what is found in a text that was replaced": (
        replace("ab", "", where=["l[*]", "l", "l[0].x", "l[0]"]),
        call(l=["aabb", {"x": "aabb"}]),
        call(l=["", {"x": ""}]),
    ),
    "a model": (replace(r"\d+", "N"), chat(model="m-1"), chat(model="m-2")),
    "a number": (replace(r"\d+", "N"), chat(n=1), chat(n=2)),
    "the name of a field": (replace(r"\d+", "N"), chat(x1=1), chat(x2=1)),
    "an address": (replace(r"\d+", "N"), http({}), {**http({}), "url": "https://api/v2/x"}),
    "links between texts": (
        replace("0x[0-9a-f]+", "0x", numbered=True),
        call(t=["0x7f", "0x8e", "0x7f"]),
        call(t=["0x7f", "0x8e", "0x8e"]),
    ),
    "links between ids": (
        renumber(),
        chat(calls("a", "b"), result("a", "1"), result("b", "2")),
        chat(calls("c", "d"), result("d", "1"), result("c", "2")),
    ),
    "an id that looks like a number of ours": (
        renumber("l[*]"),
        call(l=["a", "#1"]),
        call(l=["a", "a"]),
    ),
    "ids in a place of two paths": (
        renumber("l[*]", "l[-1]", "l[1]"),
        call(l=["#2", "#2"]),
        call(l=["#2", "#3"]),
    ),
    "a truth is no id": (renumber("l[*]"), call(l=[True, 1]), call(l=[1, 1])),
    "what results say": (
        in_call_order,
        chat(calls("a", "b"), result("a", "1"), result("b", "2")),
        chat(calls("a", "b"), result("a", "2"), result("b", "1")),
    ),
    "results with something between": (
        in_call_order,
        chat(calls("a", "b"), result("a", "1"), {"role": "user"}, result("b", "2")),
        chat(calls("a", "b"), result("b", "2"), {"role": "user"}, result("a", "1")),
    ),
    "blocks that are no results": (
        in_call_order,
        chat(used("a", "b"), {"role": "user", "content": [{"text": "1"}, {"text": "2"}]}),
        chat(used("a", "b"), {"role": "user", "content": [{"text": "2"}, {"text": "1"}]}),
    ),
    "results of calls that nobody made": (
        in_call_order,
        chat(result("a", "1"), result("b", "2")),
        chat(result("b", "2"), result("a", "1")),
    ),
    "results in front of their calls": (
        in_call_order,
        chat(result("a", "1"), result("b", "2"), calls("a", "b")),
        chat(result("b", "2"), result("a", "1"), calls("a", "b")),
    ),
    "what people say to calls": (
        in_call_order,
        chat(calls("a", "b"), *({**result(one, "1"), "role": "user"} for one in "ab")),
        chat(calls("a", "b"), *({**result(one, "1"), "role": "user"} for one in "ba")),
    ),
    "results that are named by another id than their call's": (
        in_call_order,
        http({"input": [*SHELLS, *(one | {"type": "local_shell_call_output"} for one in SHELLS)]}),
        http(
            {
                "input": [
                    *SHELLS,
                    *(one | {"type": "local_shell_call_output"} for one in SHELLS[::-1]),
                ]
            }
        ),
    ),
    "results of calls that have one id": (
        in_call_order,
        chat(calls("a", "a"), result("a", "1"), result("a", "2")),
        chat(calls("a", "a"), result("a", "2"), result("a", "1")),
    ),
    "messages": (
        in_call_order,
        chat({"role": "a"}, {"role": "b"}),
        chat({"role": "b"}, {"role": "a"}),
    ),
    "tools of one name": (
        sorted_by_name,
        chat(tools=[tool("a", strict=True), tool("a")]),
        chat(tools=[tool("a"), tool("a", strict=True)]),
    ),
}


@pytest.mark.parametrize("name", APART)
def test_it_is_not_equal(name: str) -> None:
    same, one, other = APART[name]
    assert key(same, one) != key(same, other)


# What a rule took must say from where, or a hit that needed it would pass for an exact one.
@pytest.mark.parametrize(
    ("same", "one", "other"),
    [
        (ignore("l[*].x"), call(l=[{"x": 1}, {}]), call(l=[{}, {"x": 1}])),
        (ignore("a.*"), call(a={"x": 1}), call(a={"y": 1})),
        (replace(r"\d+", "N"), call(l=["1", "N"]), call(l=["N", "1"])),
        (
            sorted_by_name("l[*]"),
            call(l=[["b", "a"], ["a", "b"]]),
            call(l=[["a", "b"], ["b", "a"]]),
        ),
        (renumber("l[*]"), call(l=["a", "b"]), call(l=["b", "a"])),
        (
            replace("[ab]", "x", where="l[k=a|x].k"),
            call(l=[{"k": "a"}, {"k": "x"}, {"k": "b"}]),
            call(l=[{"k": "x"}, {"k": "a"}, {"k": "b"}]),
        ),
        (
            replace("[ab]", "x", where="l[k=a|b].k"),
            call(l=[{"k": "a"}, {"k": "x"}]),
            call(l=[{"k": "x"}, {"k": "a"}]),
        ),
        (
            replace("[ab]", "x", where="l[k=a].c"),
            call(l=[{"k": "a", "c": "x"}, {"k": "b", "c": "a"}, {"k": "a", "c": ["x", "b"]}]),
            call(l=[{"k": "a", "c": "a"}, {"k": "b", "c": "a"}, {"k": "a", "c": ["x", "x"]}]),
        ),
        (
            replace("[ab]", "x", where="l[k=a].c"),
            call(l=[{"k": "a", "c": "x"}, {"k": "a", "c": "a"}, {"k": 1, "c": "a"}]),
            call(l=[{"k": "a", "c": "a"}, {"k": "a", "c": "x"}, {"k": 1, "c": "a"}]),
        ),
    ],
)
def test_what_was_taken_says_from_where(same: Any, one: Any, other: Any) -> None:
    found = [rules(same).apply(request) for request in (one, other)]
    assert found[0].request == found[1].request
    assert found[0].by != found[1].by


def test_a_rule_that_is_there_twice_is_told_as_well() -> None:
    twice = rules([replace("ab", "b"), replace("ab", "b")])
    one, two, three = (twice.apply(call(t=text)).by for text in ("aab", "ab", "b"))
    assert len(one) == 2
    for first, second in ((one, two), (two, three), (one, three), (three, one)):
        assert rules_between(first, second) == ('replace("ab", "b")',)
    assert rules_between(one, one) == ()


# -- what a declaration says -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["", "a..b", ".a", "a.", "a[", "a[]", "a[x]", "a[x=1", "a b", "a]b", "[role=system", 3, None],
)
def test_a_path_that_cannot_be_read_is_refused(path: Any) -> None:
    with pytest.raises(ConfigurationError, match="path"):
        ignore(path)


@pytest.mark.parametrize(
    "path",
    [
        *("messages", "messages[*]", "messages.*", "messages[*].content", '["messages"]', "*"),
        *("[*]", "input", "prompt", "stream", "$", "$.url", "$.body", "$.body.messages"),
        *("$.body.*", "$.arguments", "$[*]", "contents[*].parts[*].text"),
    ],
)
def test_what_is_asked_cannot_be_ignored(path: str) -> None:
    with pytest.raises(ConfigurationError, match="what is asked"):
        ignore(path)


@pytest.mark.parametrize(
    "made",
    [
        *(
            lambda: ignore(),
            lambda: replace("(", ""),
            lambda: replace(b"a", ""),
            lambda: replace(1, ""),
        ),
        *(lambda: replace("a", 1), lambda: replace("a", r"\1"), lambda: replace("a", "", where=[])),
        *(lambda: check_rules("metadata"), lambda: check_rules([3]), lambda: check_rules({"a": 1})),
        *(lambda: check_rules(ignore), lambda: check_rules([lambda request: request])),
    ],
)
def test_what_is_no_rule_is_refused(made: Any) -> None:
    with pytest.raises(ConfigurationError):
        made()


def test_no_rules_are_none() -> None:
    assert check_rules([]) is None
    assert check_rules([(), []]) is None


DIGESTS: dict[str, Any] = {
    "ignore": ignore("metadata", "headers.x-build"),
    "replace": replace(r"on \d+", "on …"),
    "replace somewhere": replace(r"on \d+", "on …", where="messages[role=system].content"),
    "replace, whatever its case": replace(r"(?i)on \d+", "on …"),
    "renumber": renumber(),
    "renumber somewhere": renumber("a[*].id", "b.id"),
    "in_call_order": in_call_order,
    "in_call_order somewhere": in_call_order("history"),
    "sorted_by_name": sorted_by_name,
    "sorted_by_name somewhere": sorted_by_name("box"),
    "two": [ignore("a"), ignore("b")],
    "two, the other way": [ignore("b"), ignore("a")],
    "both in one": ignore("a", "b"),
    "replace with numbers": replace(r"on \d+", "on …", numbered=True),
}


def made() -> dict[str, dict[str, str]]:
    """What is promised for ever: digests of rules, and keys of requests under some."""
    return {
        "digests": {name: rules(given).digest for name, given in DIGESTS.items()},
        "keys": {name: key(same, request) for name, (same, request, _) in EQUAL.items()},
    }


def test_digests_and_keys_are_those_of_every_python() -> None:
    assert made() == json.loads(GOLDEN.read_text("utf-8"))
    assert len({*made()["digests"].values()}) == len(DIGESTS)


def test_digests_and_keys_are_those_of_another_process() -> None:
    code = f"import sys, json; sys.path[:] = {[*sys.path, str(Path(__file__).parent)]!r}"
    code += "; from test_rules import made; print(json.dumps(made()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    assert json.loads(done.stdout) == made()


@pytest.mark.parametrize("name", EQUAL)
def test_a_copy_makes_the_same_of_a_request(name: str) -> None:
    same, *requests = EQUAL[name]
    copied = pickle.loads(pickle.dumps(rules(same)))
    assert [copied.apply(one) for one in requests] == [rules(same).apply(one) for one in requests]
    assert (copied, copied.labels) == (rules(same), rules(same).labels)


def test_the_order_of_fields_and_their_repetition_say_nothing() -> None:
    assert rules(ignore("a", "b")).digest == rules(ignore("b", "a", "b")).digest


def test_fields_are_left_out_in_any_order() -> None:
    """Of rules that have one digest, each makes of a request what the others do."""
    paths = ["l[0]", "l[1]", "l[n=1].n", "l[n=1].x.y", "l[n=1].x", "l[0]"]
    asked = call(l=[1, 2, {"n": 1, "x": {"y": "\ud800", "z": 1}, "w": 1}, {"n": "\ud800"}])
    applied = rules(ignore(*paths)).apply(asked)
    assert applied.request == call(l=[{"w": 1}, {"n": "\ud800"}])
    for others in permutations(paths, 6):
        found = rules(ignore(*others))
        assert (found.digest, found.apply(asked)) == (rules(ignore(*paths)).digest, applied)


class Field(StrEnum):
    RUN = "l"


def test_paths_and_texts_may_be_members_of_an_enum() -> None:
    for named, plain in (
        (ignore(Field.RUN), ignore("l")),
        (replace(Field.RUN, Field.RUN, where=Field.RUN), replace("l", "l", where="l")),
        (renumber(Field.RUN), renumber("l")),
        (sorted_by_name(Field.RUN), sorted_by_name("l")),
    ):
        assert rules(named).digest == rules(plain).digest
        assert rules(named).labels == rules(plain).labels


class Text(str):
    __slots__ = ()


def test_texts_may_be_of_a_class_of_their_own() -> None:
    named, plain = replace(Text("l"), Text("k"), where=Text("l")), replace("l", "k", where="l")
    assert rules(named).digest == rules(plain).digest


def test_rules_are_shown_as_they_are_written() -> None:
    names = {"ignore": ignore, "replace": replace, "renumber": renumber}
    names |= {"in_call_order": in_call_order, "sorted_by_name": sorted_by_name}
    found = rules([*DIGESTS.values(), *AGENTS, *STEERING])
    assert [eval(label, {}, names) for label in found.labels] == [*found._rules]


def test_rules_behind_others_are_not_there_twice() -> None:
    both = rules([ignore("a"), renumber()]).followed_by(rules([renumber(), ignore("b")]))
    assert both == rules([ignore("a"), renumber(), ignore("b")])


def test_what_is_nested_without_end_has_no_key() -> None:
    nested: Any = "a"
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(UnkeyableError, match="nested"):
        rules(replace("a", "b")).apply(call(x=nested))
    while type(nested) is list:  # which Python would take apart in one go, and fall
        nested = nested.pop()


# -- what the front door makes ---------------------------------------------------------------------

PROPERTIES = {"z": {"type": "string"}, "a": {"type": "string"}}
BODY = {
    "model": "m",
    "metadata": {"run": "1"},
    "messages": [SYSTEM, calls("a", "b"), result("b", "2"), result("a", "1")],
    "tools": [
        tool("z", parameters={"type": "object", "properties": PROPERTIES}),
        tool(
            "a", parameters={"type": "object", "properties": PROPERTIES, "title": "on 2026-11-29"}
        ),
    ],
}
ALL = [
    *AGENTS,
    *STEERING,
    DATE,
    replace(r"\d{4}-\d\d-\d\d", "…"),
    ignore("tools[*].function.strict"),
]


def test_what_is_encoded_already_counts_as_it_would() -> None:
    plain, encoded = canonical_body(BODY), plain_body(BODY)
    assert "Raw" in repr(encoded)  # or there is nothing to see here
    assert key(ALL, http(encoded)) == key(ALL, http(plain))
    assert rules(ALL).apply(http(encoded)).by == rules(ALL).apply(http(plain)).by


# -- anything --------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "id", "c.d", "!tuple", "metadata", "ü"])
LEAVES = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b1", "#1", "7"])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
BODIES = st.dictionaries(NAMES, VALUES, max_size=4)

Way = tuple[str | int, ...]


def ways(value: Any, way: Way = ()) -> list[Way]:
    """The ways to all values in a value."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = [*value.items()]
    elif isinstance(value, list):
        inner = [*enumerate(value)]
    return [way, *(one for name, held in inner for one in ways(held, (*way, name)))]


def at(value: Any, way: Way) -> Any:
    for step in way:
        value = value[step]
    return value


def changed(body: Any, way: Way, new: Any) -> Any:
    body = copy.deepcopy(body)
    at(body, way[:-1])[way[-1]] = new
    return body


def path_of(way: Way) -> str:
    return "".join(
        f"[{json.dumps(s, ensure_ascii=False)}]" if isinstance(s, str) else f"[{s}]" for s in way
    )


def form(body: Any) -> dict[str, Any]:
    return http(canonical_body(body))


@settings(max_examples=many(600), deadline=None)
@given(data=st.data())
def test_what_no_rule_covers_always_misses(data: st.DataObject) -> None:
    body = data.draw(BODIES.filter(bool))
    places = [way for way in ways(body) if way]
    covered, other = (data.draw(st.sampled_from(places)) for _ in range(2))
    new = data.draw(
        VALUES.filter(
            lambda value: value != at(body, other) or type(value) is not type(at(body, other))
        )
    )
    given_rules = ignore(path_of(covered))
    one, two = form(body), form(changed(body, other, new))
    if encode(one) == encode(two):  # `1` and `True` as values of Python
        return
    if other[: len(covered)] == covered:
        assert key(given_rules, one) == key(given_rules, two)
    elif covered[: len(other)] != other:
        assert key(given_rules, one) != key(given_rules, two)


def turned(value: Any) -> Any:
    """The same, whose members are in another order."""
    if isinstance(value, dict):
        return {name: turned(held) for name, held in reversed(value.items())}
    return [turned(one) for one in value] if isinstance(value, list) else value


@settings(max_examples=many(600), deadline=None)
@given(first=BODIES, second=BODIES, data=st.data())
def test_what_is_equal_is_equal_before_or_told_apart(first: Any, second: Any, data: Any) -> None:
    """A key and what rules took out of a request say all of it: nothing is lost unseen."""
    drawn = st.sampled_from(
        [
            *(
                ignore("a"),
                ignore("metadata.*"),
                ignore("b[*].id"),
                ignore("*.id"),
                ignore("a[-1]"),
            ),
            *(
                replace(r"\d", "N"),
                replace("[ab]1?", "x", numbered=True),
                replace("a|b1", "", where="a"),
                replace("a|b1", "b", where="a[id=a|b].id"),
                replace("a|b1", "b", where="a[*].b"),
                ignore("a[0]", "a[-1]", "a[id=a].id", "b.*"),
                ignore("*.id", "a[*]", "a[id=null]"),
                replace("a|b1", "aa", where=["a[id=null]", "a[*].b", "a", "b", "a[id=null].b"]),
                replace("[ab]", "7"),
            ),
            *(renumber("*.id", "a[*]", "b"), renumber("a"), sorted_by_name("a"), in_call_order),
        ]
    )
    same = rules(data.draw(st.lists(drawn, min_size=1, max_size=3)))
    one, two = form(first), form(second)
    counted = [same.apply(request) for request in (one, two)]
    if encode(counted[0].request) == encode(counted[1].request) and counted[0].by == counted[1].by:
        assert encode(one) == encode(two)
    again = same.apply(turned(one))
    assert (encode(again.request), again.by) == (encode(counted[0].request), counted[0].by)


@settings(max_examples=many(300), deadline=None)
@given(ids=st.lists(st.sampled_from(["a", "b", "c", "#1", "#2"]), max_size=5), data=st.data())
def test_ids_are_equal_if_they_link_the_same(ids: list[str], data: Any) -> None:
    others = data.draw(
        st.lists(st.sampled_from(["x", "y", "#1", "#2"]), min_size=len(ids), max_size=len(ids))
    )
    pattern = [ids.index(one) for one in ids] == [others.index(one) for one in others]
    same = renumber("ids[*]")
    assert (key(same, call(ids=ids)) == key(same, call(ids=others))) == pattern


@settings(max_examples=many(300), deadline=None)
@given(
    items=st.lists(st.sampled_from("ab"), max_size=4),
    indices=st.lists(st.integers(-3, 3), min_size=1),
)
def test_indices_name_items_of_the_list_as_it_was(items: list[str], indices: list[int]) -> None:
    gone = {at % len(items) for at in indices if items and -len(items) <= at < len(items)}
    left = rules(ignore(*(f"l[{at}]" for at in indices))).apply(call(l=items)).request
    assert left == call(l=[item for at, item in enumerate(items) if at not in gone])


@settings(max_examples=many(300), deadline=None)
@given(data=st.data())
def test_ids_at_places_of_several_paths_are_numbered_once(data: Any) -> None:
    ids = st.lists(st.sampled_from(["a", "#1", "#2", "#3"]), max_size=4)
    one, other = data.draw(ids), data.draw(ids)
    drawn = st.sampled_from(["l[*]", "l[0]", "l[1]", "l[-1]"])
    same = renumber("l[*]", *data.draw(st.lists(drawn)), "l[*]")
    linked = [[ids.index(held) for held in ids] for ids in (one, other)]
    assert (key(same, call(l=one)) == key(same, call(l=other))) == (linked[0] == linked[1])
