"""Spans, sizes, and what is said in the requests and answers of each API."""

from __future__ import annotations

from typing import Any

import pytest

from cachewrap.cli.text import clean, columns, one_line, size_text, span_text, table
from cachewrap.entries.conversation import body_parts, content_text, event_piece


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.123, "0.12s"), (42.0, "42s"), (60.0, "1m"), (7200.0, "2h"), (40 * 86_400.0, "40d")],
)
def test_a_span_for_people(seconds: float, text: str) -> None:
    assert span_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1536, "1.5 KB"), (3 * 2**40, "3.0 TB")]
)
def test_a_size_for_people(count: int, text: str) -> None:
    assert size_text(count) == text


@pytest.mark.parametrize(
    ("stored", "printed"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x7f\x9b", "\\x7f\\x9b"),
        ("a\rb", "a\\x0db"),
        ("\u202e", "\\u202e"),
        ("\ud800", "\\ud800"),
    ],
)
def test_stored_text_is_safe_to_print(stored: str, printed: str) -> None:
    assert clean(stored) == printed


@pytest.mark.parametrize("text", ["short", "a much longer text than that", "世界世界世界世界世界"])
def test_a_line_fits(text: str) -> None:
    assert columns(one_line(text, 10)) <= 10


def test_columns_line_up() -> None:
    assert table(["A", "N"], [["世界", "1"], ["b", "10"]], right=[1]) == [
        "A      N",
        "世界   1",
        "b     10",
    ]


def test_a_table_fits_and_cuts_no_figures() -> None:
    rows = [["POST /chat/completions", "gpt-4o-mini", "1,234,567"]]
    lines = table(["SOURCE", "MODEL", "N"], rows, right=[2], width=35)
    assert [columns(line) for line in lines] == [35, 35]
    assert lines[1].startswith("POST /chat") and lines[1].endswith("…  gpt-4o-mini  1,234,567")


CONTENT: list[tuple[str, Any, str]] = [
    ("text", "hi", "hi"),
    ("parts", [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}], "a\nb"),
    ("an image", {"type": "image_url", "image_url": {"url": "x"}}, "[image_url, 48 bytes]"),
    ("a refusal", {"content": None, "refusal": "no"}, "no"),
    (
        "a tool call",
        {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": '{"a":1}'}}]},
        'f({"a":1})',
    ),
    ("a tool's use", {"type": "tool_use", "name": "f", "input": {"a": 1}}, 'f({"a": 1})'),
    ("a tool's result", {"type": "tool_result", "content": "42"}, "42"),
    ("a function's output", {"type": "function_call_output", "output": "42"}, "42"),
    ("parts of Gemini", {"parts": [{"text": "a"}, {"text": "b"}]}, "a\nb"),
    ("nothing", None, ""),
]


@pytest.mark.parametrize(("content", "text"), [c[1:] for c in CONTENT], ids=[c[0] for c in CONTENT])
def test_content(content: Any, text: str) -> None:
    assert content_text(content) == text


BODIES: list[tuple[str, Any, list[tuple[str, str]]]] = [
    (
        "a chat",
        {"choices": [{"message": {"role": "assistant", "content": "x"}}]},
        [("assistant", "x")],
    ),
    (
        "two choices",
        {"choices": [{"text": "a"}, {"text": "b"}]},
        [("assistant", "a"), ("assistant", "b")],
    ),
    (
        "a response",
        {
            "output": [
                {"type": "reasoning", "summary": []},
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "x"}],
                },
                {"type": "function_call", "name": "f", "arguments": "{}"},
            ]
        },
        [("reasoning", "[reasoning]"), ("assistant", "x"), ("function_call", "f({})")],
    ),
    (
        "a message",
        {"role": "assistant", "content": [{"type": "text", "text": "x"}]},
        [("assistant", "x")],
    ),
    ("candidates", {"candidates": [{"content": {"parts": [{"text": "x"}]}}]}, [("assistant", "x")]),
    ("embeddings", {"data": [{"embedding": [0.1, 0.2]}]}, [("embedding", "[2 numbers]")]),
    ("an image", {"data": [{"b64_json": "AAAA"}]}, [("image", "[3 bytes]")]),
    ("a transcript", {"text": "x"}, [("transcript", "x")]),
    ("something else", {"verdict": 1}, []),
    ("a list", [1, 2], []),
    ("a hostile shape", {"choices": 5, "output": {"a": 1}, "data": [1], "content": 3}, []),
]


@pytest.mark.parametrize(("body", "pieces"), [b[1:] for b in BODIES], ids=[b[0] for b in BODIES])
def test_a_whole_answer(body: Any, pieces: list[tuple[str, str]]) -> None:
    assert [(role, content_text(part)) for role, part in body_parts(body)] == pieces


EVENTS: list[tuple[str, Any, str]] = [
    ("of a chat", {"choices": [{"delta": {"content": "x"}}]}, "x"),
    ("of a completion", {"choices": [{"text": "x"}]}, "x"),
    (
        "of a tool call",
        {"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}}]},
        "f {",
    ),
    ("of a response", {"type": "response.output_text.delta", "delta": "x"}, "x"),
    ("of a message", {"type": "content_block_delta", "delta": {"text": "x"}}, "x"),
    ("of Gemini", {"candidates": [{"content": {"parts": [{"text": "x"}]}}]}, "x"),
    ("that says nothing", {"type": "response.created", "response": {"delta": "x"}}, ""),
    ("with usage alone", {"choices": [], "usage": {"prompt_tokens": 1}}, ""),
]


@pytest.mark.parametrize(("event", "text"), [e[1:] for e in EVENTS], ids=[e[0] for e in EVENTS])
def test_an_event(event: Any, text: str) -> None:
    assert event_piece(event) == text


_CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_USE = {"type": "tool_use", "name": "g", "input": {}}
CALLS: list[tuple[str, Any, list[str]]] = [
    ("none", "hi f(1)", []),
    ("of a message", {"content": "so", "tool_calls": [_CALL, _CALL]}, ["f({})", "f({})"]),
    (
        "among texts",
        [{"type": "text", "text": "a"}, _USE, {"type": "text", "text": "b"}],
        ["g({})"],
    ),
    ("of an item", {"type": "function_call", "name": "h", "arguments": "{}"}, ["h({})"]),
    ("of no known shape", {"tool_calls": [1, {"function": 2}]}, []),
]


@pytest.mark.parametrize(("content", "calls"), [c[1:] for c in CALLS], ids=[c[0] for c in CALLS])
def test_calls_of_tools_stand_in_the_text(content: Any, calls: list[str]) -> None:
    text = content_text(content)
    for call in calls:
        _, found, text = text.partition(call)
        assert found == call
