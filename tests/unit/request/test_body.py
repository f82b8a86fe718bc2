"""Bodies of requests: what a model reads in order counts in order, and what steers does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from examples_tried import many
from hypothesis import given, settings, strategies as st
from pydantic import BaseModel

import cachewrap.request.canonical as canonical_module
from cachewrap.request.canonical import canonical, canonical_body, plain_body
from cachewrap.request.key import decode_request, encode, hashed

TEXT = {"type": "string"}
FORWARD = {"answer": TEXT, "reasoning": TEXT}
BACKWARD = {"reasoning": TEXT, "answer": TEXT}


def unpacked(body: dict[str, Any]) -> dict[str, Any]:
    """A plain body with nothing encoded in it."""
    return {
        name: msgspec.msgpack.decode(value) if type(value) is msgspec.Raw else value
        for name, value in body.items()
    }


def key(body: Any) -> bytes:
    return encode(canonical_body(body))


def schema(properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": ["answer", "reasoning"]}


def tool(properties: Any) -> dict[str, Any]:
    function = {"name": "f", "description": "d", "parameters": schema(properties)}
    return {"type": "function", "function": function}


def spoken(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}


def called(given: Any) -> dict[str, Any]:
    use = {"type": "tool_use", "id": "t", "name": "f", "input": given}
    return spoken(messages=[{"role": "assistant", "content": [use]}])


AB, BA = {"a": 1, "b": 2}, {"b": 2, "a": 1}

# Where an object stands whose members a model reads, or writes, in their order.
READ_IN_ORDER: dict[str, Callable[[Any], Any]] = {
    "tools": lambda p: spoken(tools=[tool(p)]),
    "the second tool": lambda p: spoken(tools=[tool({}), tool(p)]),
    "functions": lambda p: spoken(functions=[{"name": "f", "parameters": schema(p)}]),
    "response_format": lambda p: spoken(
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema(p)}}
    ),
    "text.format": lambda p: {
        "input": "hi",
        "text": {"format": {"type": "json_schema", "name": "n", "schema": schema(p)}},
    },
    "tools of responses": lambda p: {
        "input": [],
        "tools": [{"type": "function", "name": "f", "parameters": schema(p), "strict": True}],
    },
    "Anthropic's tools": lambda p: spoken(tools=[{"name": "f", "input_schema": schema(p)}]),
    "Anthropic's output format": lambda p: spoken(
        output_config={"format": {"type": "json_schema", "schema": schema(p)}}
    ),
    "Gemini's declarations": lambda p: {
        "contents": [],
        "tools": [{"functionDeclarations": [{"name": "f", "parameters": schema(p)}]}],
    },
    "Gemini's response schema": lambda p: {
        "contents": [],
        "generationConfig": {"responseSchema": schema(p)},
    },
    "an object in an object": lambda p: spoken(tools=[tool({"inner": schema(p)})]),
    "a list in an object": lambda p: spoken(
        tools=[tool({"inner": {"type": "array", "items": schema(p)}})]
    ),
    "one of several": lambda p: spoken(tools=[tool({"x": {"anyOf": [TEXT, schema(p)]}})]),
    "definitions": lambda p: spoken(tools=[tool({"x": {"$defs": {"inner": schema(p)}}})]),
    "the order of definitions": lambda p: spoken(
        response_format={"json_schema": {"schema": {"$ref": "#/$defs/answer", "$defs": p}}}
    ),
    "Cohere's parameters": lambda p: {
        "message": "hi",
        "tools": [{"name": "f", "parameter_definitions": p}],
    },
    "tools listed in a conversation": lambda p: {
        "input": [{"type": "mcp_list_tools", "tools": [{"name": "f", "input_schema": schema(p)}]}]
    },
    "a property called properties": lambda p: spoken(tools=[tool({"properties": schema(p)})]),
}


@pytest.mark.parametrize("place", READ_IN_ORDER)
def test_a_model_writes_in_the_order_of_properties(place: str) -> None:
    body = READ_IN_ORDER[place]
    assert key(body(FORWARD)) != key(body(BACKWARD))
    assert key(body(FORWARD)) == key(body(dict(FORWARD)))


GIVEN: dict[str, Callable[[Any], Any]] = {
    "tool_use": called,
    "an object in tool_use": lambda d: called({"filter": d}),
    "a list in tool_use": lambda d: called({"filters": [d]}),
    "Gemini's call": lambda d: {
        "contents": [{"parts": [{"functionCall": {"name": "f", "args": d}}]}]
    },
    "Gemini's answer of a function": lambda d: {
        "contents": [{"parts": [{"functionResponse": {"name": "f", "response": d}}]}]
    },
    "Bedrock's call": lambda d: spoken(
        messages=[{"role": "assistant", "content": [{"toolUse": {"name": "f", "input": d}}]}]
    ),
    "Bedrock's result": lambda d: spoken(
        messages=[{"role": "user", "content": [{"toolResult": {"content": [{"json": d}]}}]}]
    ),
    "Ollama's call": lambda d: spoken(
        messages=[{"role": "assistant", "tool_calls": [{"function": {"arguments": d}}]}]
    ),
    "Cohere's documents": lambda d: spoken(documents=[{"id": "1", "data": d}]),
    "documents that are objects": lambda d: spoken(documents=[d]),
    "a default": lambda d: spoken(tools=[tool({"x": {"type": "object", "default": d}})]),
    "examples": lambda d: spoken(tools=[tool({"x": {"type": "object", "examples": [d]}})]),
}


@pytest.mark.parametrize("place", GIVEN)
def test_a_model_reads_in_order_what_a_tool_was_called_with(place: str) -> None:
    assert key(GIVEN[place](AB)) != key(GIVEN[place](BA))
    assert key(GIVEN[place](AB)) == key(GIVEN[place](dict(AB)))


def turned(value: Any) -> Any:
    """A value whose objects have their members the other way round."""
    if isinstance(value, dict):
        return {name: turned(inner) for name, inner in reversed(value.items())}
    return [turned(inner) for inner in value] if isinstance(value, list) else value


UNORDERED: list[Any] = [
    spoken(temperature=0.5, metadata={"b": "1", "a": "2"}, logit_bias={"20": 1, "10": 2}),
    spoken(tools=[tool({"answer": {"type": "string", "description": "d"}})]),
    spoken(messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}]),
    spoken(response_format={"type": "json_schema", "json_schema": {"name": "n", "strict": True}}),
    spoken(tools=[tool({"x": {"type": "object", "additionalProperties": {"b": 1, "a": 2}}})]),
    {"input": "hi", "prompt": {"id": "p", "variables": {"b": "1", "a": "2"}}},
    {"input": {"prompt": "hi", "steps": 5}},
    {"contents": [{"parts": [{"text": "hi"}], "role": "user"}], "generationConfig": {"topK": 1}},
]


@pytest.mark.parametrize("body", UNORDERED, ids=range(len(UNORDERED)))
def test_the_order_of_other_objects_makes_no_difference(body: Any) -> None:
    assert json.dumps(turned(body)) != json.dumps(body)
    assert key(turned(body)) == key(body)


class Schema(BaseModel):
    """A schema as Google's and Ollama's SDKs have it."""

    type: str = "string"
    properties: dict[str, Schema] | None = None


def test_so_it_does_in_a_schema_that_is_an_object() -> None:
    one, other = Schema(), Schema(type="number")
    keys = [
        encode(canonical({"schema": Schema(type="object", properties=properties)}))
        for properties in ({"a": one, "b": other}, {"b": other, "a": one}, {"a": one, "b": one})
    ]
    assert len(set(keys)) == 3


def test_what_is_in_order_is_not_what_looks_like_it() -> None:
    pairs = {"!members": [["answer", TEXT], ["reasoning", TEXT]]}
    assert key(spoken(tools=[tool(FORWARD)])) != key(spoken(tools=[tool(pairs)]))


@pytest.mark.parametrize("properties", [{}, {"answer": TEXT}])
def test_a_single_property_has_no_order(properties: Any) -> None:
    assert canonical_body(spoken(tools=[tool(properties)])) == spoken(tools=[tool(properties)])


NAMES = st.sampled_from(["a", "b", "c", "properties", "type", "default", "input", "cache_control"])
SCHEMA = st.recursive(
    st.just(TEXT) | st.just({}) | st.just({"type": "array", "items": {"type": "number"}}),
    lambda inner: st.builds(schema, st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=6,
)


def ordered(value: Any) -> str:
    """A schema as text that tells apart what its canonical form has to: the order of properties."""

    def walk(value: Any, *, names: bool) -> Any:
        if isinstance(value, dict):
            items = [(k, walk(v, names=not names and k == "properties")) for k, v in value.items()]
            return ["object", items if names else sorted(items, key=lambda item: item[0])]
        return [walk(v, names=False) for v in value] if isinstance(value, list) else value

    return repr(walk(value, names=False))


@given(SCHEMA, SCHEMA)
@settings(max_examples=many(500), deadline=None)
def test_two_schemas_have_one_key_if_they_are_the_same_but_for_keywords(a: Any, b: Any) -> None:
    for other in (b, turned(a), dict(reversed(a.items()))):
        same = ordered(a) == ordered(other)
        assert (key({"tools": [a]}) == key({"tools": [other]})) is same
        assert (encode(canonical({"x": [a]})) == encode(canonical({"x": [other]}))) is same


@pytest.mark.parametrize("place", [*READ_IN_ORDER, *GIVEN])
def test_it_makes_no_difference_whether_a_body_was_seen_before(place: str) -> None:
    body = READ_IN_ORDER[place](FORWARD) if place in READ_IN_ORDER else GIVEN[place](AB)
    first = canonical_body(body)
    assert canonical_body(body) == first == canonical_body(json.loads(json.dumps(body)))
    assert decode_request(encode({"body": first})) == {"body": first}
    for _ in range(2):
        assert encode({"body": plain_body(body)}) == encode({"body": first})
        assert unpacked(plain_body(body)) == first
    assert canonical_body(MappingProxyType(body)) == first


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 70_000])
@pytest.mark.parametrize("name", ["messages", "input", "contents", "history", "conversation"])
def test_a_conversation_with_schemas_in_it_has_one_key_on_both_ways(name: str, count: int) -> None:
    spoken = ["a"] * count
    for more in ([], [tool(FORWARD)]):
        body = {"model": "m", name: [*spoken, *more], "tools": [tool(FORWARD)]}
        request = encode({"body": plain_body(body)})
        assert request == encode({"body": canonical_body(body)})
        assert hashed(b"", {"body": plain_body(body)})[1] == request


# -- what steers -------------------------------------------------------------------------------

EPHEMERAL = {"type": "ephemeral"}


def block(**more: Any) -> dict[str, Any]:
    return {"type": "text", "text": "hi", **more}


def result(mark: Any = None) -> dict[str, Any]:
    """What a tool gave, whose one block may bear a mark."""
    marked = {} if mark is None else {"cache_control": mark}
    return {"type": "tool_result", "tool_use_id": "t", "content": [block(**marked)]}


STEERED: dict[str, tuple[Any, Any]] = {
    "prompt_cache_key": (spoken(), spoken(prompt_cache_key="k")),
    "prompt_cache_retention": (spoken(), spoken(prompt_cache_retention="24h")),
    "prompt_cache_options": (spoken(), spoken(prompt_cache_options={"mode": "explicit"})),
    "safety_identifier": (spoken(), spoken(safety_identifier="user-1")),
    "cache_control at the top": (spoken(), spoken(cache_control=EPHEMERAL)),
    "cache_salt": (spoken(), spoken(cache_salt="Zm9v")),
    "several": (spoken(), spoken(prompt_cache_key="k", safety_identifier=None)),
    "cache_control of a block": (
        spoken(messages=[{"role": "user", "content": [block()]}]),
        spoken(messages=[{"role": "user", "content": [block(cache_control=EPHEMERAL)]}]),
    ),
    "cache_control with a time": (
        spoken(messages=[{"role": "user", "content": [block()]}]),
        spoken(
            messages=[
                {"role": "user", "content": [block(cache_control={**EPHEMERAL, "ttl": "1h"})]}
            ]
        ),
    ),
    "cache_control of a message": (
        spoken(),
        spoken(messages=[{"role": "user", "content": "hi", "cache_control": EPHEMERAL}]),
    ),
    "no cache_control": (
        spoken(messages=[{"role": "user", "content": [block()]}]),
        spoken(messages=[{"role": "user", "content": [block(cache_control=None)]}]),
    ),
    "no cache_control of a message": (
        spoken(),
        spoken(messages=[{"role": "user", "content": "hi", "cache_control": None}]),
    ),
    "no cache_control of a tool": (
        spoken(tools=[tool(FORWARD)]),
        spoken(tools=[{**tool(FORWARD), "cache_control": None}]),
    ),
    "no breakpoint": (
        spoken(messages=[{"role": "user", "content": [block()]}]),
        spoken(messages=[{"role": "user", "content": [block(prompt_cache_breakpoint=None)]}]),
    ),
    "cache_control of a tool's result": (
        spoken(messages=[{"role": "user", "content": [result()]}]),
        spoken(
            messages=[
                {"role": "user", "content": [{**result(EPHEMERAL), "cache_control": EPHEMERAL}]}
            ]
        ),
    ),
    "cache_control of system": (
        spoken(system=[block()]),
        spoken(system=[block(cache_control=EPHEMERAL)]),
    ),
    "cache_control of a tool": (
        spoken(tools=[tool(FORWARD)]),
        spoken(tools=[{**tool(FORWARD), "cache_control": EPHEMERAL}]),
    ),
    "a breakpoint": (
        spoken(messages=[{"role": "user", "content": [block()]}]),
        spoken(
            messages=[
                {"role": "user", "content": [block(prompt_cache_breakpoint={"mode": "explicit"})]}
            ]
        ),
    ),
    "Bedrock's cache point of tools": (
        spoken(toolConfig={"tools": [{"toolSpec": {"name": "f"}}]}),
        spoken(
            toolConfig={
                "tools": [
                    {"toolSpec": {"name": "f"}},
                    {"cachePoint": {"type": "default", "ttl": "1h"}},
                ]
            }
        ),
    ),
    "Bedrock's cache point in a message": (
        spoken(messages=[{"role": "user", "content": [{"text": "hi"}]}]),
        spoken(
            messages=[
                {"role": "user", "content": [{"text": "hi"}, {"cachePoint": {"type": "default"}}]}
            ]
        ),
    ),
    "Bedrock's cache point": (
        spoken(system=[{"text": "hi"}]),
        spoken(system=[{"text": "hi"}, {"cachePoint": {"type": "default"}}]),
    ),
}


@pytest.mark.parametrize("case", STEERED)
def test_what_steers_a_prompt_cache_or_names_the_caller_does_not_count(case: str) -> None:
    without, with_it = STEERED[case]
    assert key(without) == key(with_it)
    assert unpacked(plain_body(with_it)) == canonical_body(with_it)
    assert canonical_body(json.loads(json.dumps(with_it))) == canonical_body(without)


COUNTED: dict[str, tuple[Any, Any]] = {
    "user": (spoken(), spoken(user="u")),
    "metadata": (spoken(), spoken(metadata={"a": "1"})),
    "store": (spoken(), spoken(store=True)),
    "service tier": (spoken(), spoken(service_tier="flex")),
    "a property of a tool": (
        spoken(tools=[tool(FORWARD)]),
        spoken(tools=[tool({**FORWARD, "cache_control": EPHEMERAL})]),
    ),
    "what a tool was called with": (called({}), called({"cache_control": EPHEMERAL})),
    "no mark in what a tool was called with": (called({}), called({"cache_control": None})),
    "a property without a schema": (
        spoken(tools=[tool(FORWARD)]),
        spoken(tools=[tool({**FORWARD, "cache_control": None})]),
    ),
    "another's cache_control": (
        spoken(messages=[{"role": "user", "content": [block()]}]),
        spoken(messages=[{"role": "user", "content": [block(cache_control={"mode": "off"})]}]),
    ),
    "in a text": (
        spoken(messages=[{"role": "user", "content": "hi"}]),
        spoken(messages=[{"role": "user", "content": 'hi {"cache_control": null}'}]),
    ),
}


@pytest.mark.parametrize("case", COUNTED)
def test_everything_else_counts(case: str) -> None:
    without, with_it = COUNTED[case]
    assert key(without) != key(with_it)


# Names of fields that may be added: any, and such as look like those that do not count.
ADDED = st.text(max_size=12) | st.sampled_from(
    "user metadata store service_tier labels requestMetadata serviceTier session_id cacheControl"
    " cache_control cachePoint cache_point prompt_cache prompt_cache_breakpoint promptCacheKey"
    " prompt_cache_key safety_identifier safety_identifiers input properties documents".split()
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "ttl", "mode", "cachePoint", "a"]), inner)
    ),
    max_leaves=4,
)
# Where a field may be added, by what makes the object that bears it into a body.
BEARERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "the body": lambda more: {**more, **spoken()},
    "a message": lambda more: spoken(messages=[{**more, "role": "user", "content": "hi"}]),
    "a block": lambda more: spoken(messages=[{"role": "user", "content": [{**more, **block()}]}]),
    "a block of system": lambda more: spoken(system=[{**more, **block()}]),
    "a tool": lambda more: spoken(tools=[{**more, **tool(FORWARD)}]),
    "a tool's result": lambda more: spoken(
        messages=[{"role": "user", "content": [{**more, **result()}]}]
    ),
}
IDLE = {"the body": canonical_module.NEUTRAL}


def is_mark(name: str, value: Any) -> bool:
    marks = {"cache_control": {"type", "ttl", "scope"}, "prompt_cache_breakpoint": {"mode", "ttl"}}
    return name in marks and (
        value is None or (isinstance(value, dict) and value.keys() <= marks[name])
    )


@given(st.sampled_from(list(BEARERS)), ADDED, JSON)
@settings(max_examples=many(2000), deadline=None)
def test_a_field_more_makes_another_request_unless_it_is_known_to_steer(
    place: str, name: str, value: Any
) -> None:
    body = BEARERS[place]({name: value})
    idle = body == BEARERS[place]({}) or name in IDLE.get(place, ()) or is_mark(name, value)
    assert (key(body) == key(BEARERS[place]({}))) is idle
    plain = plain_body(body)
    assert plain is None or encode({"body": plain}) == encode({"body": canonical_body(body)})


def test_a_deep_body_is_walked_a_few_times_and_not_at_every_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0
    is_json = canonical_module._is_json

    def counted(value: object) -> bool:
        nonlocal looks
        looks += 1
        return is_json(value)

    monkeypatch.setattr(canonical_module, "_is_json", counted)
    deep: Any = {"properties": {"answer": TEXT}}
    for _ in range(100):
        deep = {"a": deep}
    key(spoken(metadata=deep, tools=[deep]))
    assert looks < 20


def test_a_body_is_left_as_it_is() -> None:
    body = spoken(
        tools=[{**tool(FORWARD), "cache_control": EPHEMERAL}],
        prompt_cache_key="k",
        system=[block(cache_control=EPHEMERAL)],
    )
    before = json.dumps(body)
    canonical_body(body)
    plain_body(body)
    assert json.dumps(body) == before
