"""Conversations and values for people: what a person said, and objects without their tags."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pytest

from cachewrap.entries.conversation import (
    answer_turns,
    last_said,
    prompt_of,
    request_settings,
    request_turns,
)
from cachewrap.entries.values import bare
from cachewrap.entry import Entry
from cachewrap.format import codec


class Colour(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    a: int
    b: int


@dataclasses.dataclass
class Point:
    x: int
    at: dt.date


def plain(value: Any) -> Any:
    return bare(codec.plain_form(*codec.encode(value)))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param("text", "text", id="text"),
        pytest.param({"a": [1, None]}, {"a": [1, None]}, id="JSON"),
        pytest.param((1, {2}), [1, [2]], id="a tuple and a set"),
        pytest.param({1: "a", (2, 3): "b"}, {"1": "a", "[2, 3]": "b"}, id="keys that are no text"),
        pytest.param(OrderedDict(a=1), {"a": 1}, id="an ordered dictionary"),
        pytest.param(defaultdict(list, a=[1]), {"a": [1]}, id="a default dictionary"),
        pytest.param(Counter("aa"), {"a": 2}, id="a counter"),
        pytest.param(deque([1], 3), [1], id="a deque"),
        pytest.param(Point(1, dt.date(2026, 11, 1)), {"x": 1, "at": "2026-11-01"}, id="an object"),
        pytest.param(Pair(1, 2), [1, 2], id="a named tuple"),
        pytest.param(Colour.RED, "red", id="a member of an enum"),
        pytest.param(b"\x00\x01", "[2 bytes]", id="bytes"),
        pytest.param([b"\x00"], ["[1 bytes]"], id="bytes inside"),
        pytest.param(Decimal("1.50"), "1.50", id="a decimal"),
        pytest.param(uuid.UUID(int=1), str(uuid.UUID(int=1)), id="a UUID"),
        pytest.param(PurePosixPath("a/b"), "a/b", id="a path"),
        pytest.param(float("inf"), "inf", id="infinity"),
        pytest.param({"!tuple": [1]}, {"!tuple": [1]}, id="what looks like a tag"),
        pytest.param("\ud83d", "\ud83d", id="half of a pair"),
    ],
)
def test_a_value_without_its_tags(value: Any, shown: Any) -> None:
    assert plain(value) == shown


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param({"!date": "no date"}, id="a leaf"),
        pytest.param({"!dataclass": []}, id="no class"),
        pytest.param({"!pydantic": ["m:C", 5, 6]}, id="no fields"),
        pytest.param({"!dict": 5}, id="no pairs"),
        pytest.param({"!path": [["x"]]}, id="no path"),
    ],
)
def test_a_tag_that_is_forged_is_shown_as_it_is(forged: Any) -> None:
    assert bare(forged) == forged


def test_what_is_nested_deeply_ends() -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    assert "…" in json.dumps(bare(deep), ensure_ascii=False)


# -- what a person said -----------------------------------------------------------------------


def chat(*messages: Any) -> dict[str, Any]:
    return {"method": "POST", "url": "http://up", "body": {"messages": list(messages)}}


USER = {"role": "user", "content": "Why?"}
RESULT = {"type": "tool_result", "tool_use_id": "1", "content": "42"}
FUNCTION = {"function": "m:f"}
LANGCHAIN = [
    {"id": ["lc", "SystemMessage"], "kwargs": {"content": "Be brief.", "type": "system"}},
    {"id": ["lc", "HumanMessage"], "kwargs": {"content": "Why?", "type": "human"}},
    {
        "id": ["lc", "AIMessage"],
        "kwargs": {
            "content": "",
            "type": "ai",
            "tool_calls": [{"name": "look", "args": {"a": 1}, "id": "1", "type": "tool_call"}],
        },
    },
    {"id": ["lc", "ToolMessage"], "kwargs": {"content": "42", "type": "tool"}},
]
MODEL = {"id": ["lc", "ChatOpenAI"], "kwargs": {"model_name": "gpt-4o", "temperature": 0}}


@pytest.mark.parametrize(
    ("request_", "prompt"),
    [
        pytest.param(chat(USER), "Why?", id="a chat"),
        pytest.param(chat(USER, {"role": "assistant", "content": "So."}), "Why?", id="an answer"),
        pytest.param(chat(USER, {"role": "tool", "content": "42"}), "Why?", id="a tool's result"),
        pytest.param(
            chat(USER, {"role": "user", "content": [RESULT]}), "Why?", id="Anthropic's results"
        ),
        pytest.param(
            chat({"role": "user", "content": [RESULT, {"type": "text", "text": "And?"}]}),
            "42\nAnd?",
            id="results and a text",
        ),
        pytest.param(
            {"body": {"input": [USER, {"type": "function_call_output", "output": "42"}]}},
            "Why?",
            id="a function's output",
        ),
        pytest.param(
            {
                "body": {
                    "contents": [
                        {"role": "user", "parts": [{"text": "Why?"}]},
                        {"role": "user", "parts": [{"functionResponse": {"name": "f"}}]},
                    ]
                }
            },
            "Why?",
            id="Gemini's results",
        ),
        pytest.param(chat({"role": "system", "content": "Be."}), "Be.", id="nobody asked"),
        pytest.param({**FUNCTION, "arguments": {"prompt": "Why?", "n": 1}}, "Why?", id="named"),
        pytest.param({**FUNCTION, "arguments": {"a": "Why?", "n": 1}}, "Why?", id="one text"),
        pytest.param(
            {**FUNCTION, "arguments": {"a": "x", "b": "y"}}, "a = x\nb = y", id="two texts"
        ),
        pytest.param(
            {**FUNCTION, "arguments": {"model": "gpt", "messages": [USER]}},
            "Why?",
            id="messages of a function",
        ),
        pytest.param({"llm": {"params": {}}, "prompt": LANGCHAIN}, "Why?", id="LangChain"),
        pytest.param({"llm": {"params": {}}, "prompt": "A joke"}, "A joke", id="LangChain's text"),
        pytest.param(
            {
                "messages": LANGCHAIN[1:],
                "system": LANGCHAIN[0],
                "model": {"model": MODEL, "params": {}},
                "settings": {},
                "response_format": None,
            },
            "Why?",
            id="LangChain's agents",
        ),
        pytest.param({"key": ["autogen", "gpt", "ab" * 32]}, "", id="AutoGen"),
        pytest.param({"key": json.dumps({"messages": [USER]})}, "Why?", id="AutoGen 0.2"),
        pytest.param({"key": '{"a": 1}'}, '{"a": 1}', id="a key that is JSON"),
        pytest.param({"key": "{no JSON"}, "{no JSON", id="a key that is none"),
        pytest.param({"key": "greeting"}, "greeting", id="set by hand"),
        pytest.param(None, "", id="nothing"),
    ],
)
def test_the_last_thing_that_a_person_said(request_: Any, prompt: str) -> None:
    assert prompt_of(request_, request_turns(request_)) == prompt


def test_a_turn_without_a_text_is_passed_over() -> None:
    turns = request_turns(chat(USER, {"role": "user", "content": ""}))
    assert last_said(turns) == "Why?"


def test_langchain_speaks_in_turns() -> None:
    turns = request_turns({"llm": {"params": {}}, "prompt": LANGCHAIN})
    assert [(turn.role, turn.text) for turn in turns] == [
        ("system", "Be brief."),
        ("user", "Why?"),
        ("assistant", 'look({"a": 1})'),
        ("tool", "42"),
    ]


def test_langchains_settings() -> None:
    asked = {"llm": {"model": MODEL, "params": {"stop": None, "seed": 7}}, "prompt": "x"}
    assert request_settings(asked) == {"model": "gpt-4o", "temperature": 0, "seed": 7}


# -- answers of libraries ---------------------------------------------------------------------


def answered(value: Any) -> list[tuple[str, str]]:
    kind, data = codec.encode(value)
    entry = Entry(kind, data, 0.0, 0.0, 0.0, 0, 0, lambda raw: {}, b"")
    return [(turn.role, turn.text) for turn in answer_turns(entry)]


def test_an_answer_of_langchain() -> None:
    messages = pytest.importorskip("langchain_core.messages")
    outputs = pytest.importorskip("langchain_core.outputs")
    call = {"name": "look", "args": {"a": 1}, "id": "1"}
    said = [
        outputs.ChatGeneration(message=messages.AIMessage("So.")),
        outputs.ChatGeneration(message=messages.AIMessage("", tool_calls=[call])),
        outputs.Generation(text="bare"),
    ]
    assert answered(said) == [
        ("assistant", "So."),
        ("assistant", 'look({"a": 1})'),
        ("assistant", "bare"),
    ]


def test_a_call_that_stands_in_the_content_is_told_once() -> None:
    messages = pytest.importorskip("langchain_core.messages")
    outputs = pytest.importorskip("langchain_core.outputs")
    use = {"type": "tool_use", "name": "look", "input": {"a": 1}, "id": "1"}
    call = {"name": "look", "args": {"a": 1}, "id": "1"}
    message = messages.AIMessage([use], tool_calls=[call])
    said = [outputs.ChatGeneration(message=message)]
    assert answered(said) == [("assistant", 'look({"a": 1})')]


def test_an_answer_of_autogen() -> None:
    models = pytest.importorskip("autogen_core.models")
    usage = models.RequestUsage(prompt_tokens=1, completion_tokens=1)
    whole = models.CreateResult(finish_reason="stop", content="So.", usage=usage, cached=False)
    assert answered(whole) == [("assistant", "So.")]
    assert answered(["S", "o.", whole]) == [("assistant", "So.")]


def test_an_answer_of_an_sdk() -> None:
    chat_types = pytest.importorskip("openai.types.chat")
    message = {"role": "assistant", "content": "So."}
    body = {
        "id": "a",
        "created": 1,
        "model": "m",
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
    }
    said = chat_types.ChatCompletion.model_validate(body)
    assert answered(said) == [("assistant", "So.")]


def test_an_object_of_ones_own_is_its_fields() -> None:
    (turn,) = answered(Point(1, dt.date(2026, 11, 1)))
    assert (turn[0], json.loads(turn[1])) == ("returns", {"x": 1, "at": "2026-11-01"})


def test_a_list_of_texts_is_no_stream_of_autogen() -> None:
    assert answered(["a", "b"])[0][0] == "returns"
