"""Parts of messages, of answers and of streams of every API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cachewrap.entries.parts import Part, Stream, parts_of
from cli.filling import stream_of

HELLO = Part("text", "hello")
CALL = Part("call", '{"a": 1}', "f", "c1")
FUNCTION = {"name": "f", "arguments": '{"a": 1}'}
URL = "data:image/png;base64,AAAA"


def texts(*texts: str) -> list[Part]:
    return [Part("text", text) for text in texts]


MESSAGES: dict[str, tuple[Any, list[Part]]] = {
    "text": ("hello", [HELLO]),
    "nothing": (None, []),
    "an empty text": ("", []),
    "a number": (3, texts("3")),
    "chat": ({"role": "user", "content": "hello"}, [HELLO]),
    "chat, in parts": (
        {
            "role": "user",
            "content": [{"type": "text", "text": "hello"}, {"type": "text", "text": "b"}],
        },
        [HELLO, *texts("b")],
    ),
    "chat, a call": (
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": FUNCTION}]},
        [CALL],
    ),
    "chat, text and a call": (
        {
            "role": "assistant",
            "content": "hello",
            "tool_calls": [{"id": "c1", "function": FUNCTION}],
        },
        [HELLO, CALL],
    ),
    "chat, an old call": (
        {"role": "assistant", "content": None, "function_call": FUNCTION},
        [Part("call", '{"a": 1}', "f")],
    ),
    "chat, a result": (
        {"role": "tool", "tool_call_id": "c1", "content": "hello"},
        [Part("result", "hello", id="c1")],
    ),
    "chat, an old result": (
        {"role": "function", "name": "f", "content": "hello"},
        [Part("result", "hello", "f", "f")],
    ),
    "chat, a refusal": ({"role": "assistant", "refusal": "hello", "content": None}, [HELLO]),
    "chat, thoughts": (
        {"role": "assistant", "reasoning_content": "hm", "content": "hello"},
        [Part("thinking", "hm"), HELLO],
    ),
    "chat, a picture": (
        [{"type": "image_url", "image_url": {"url": URL}}],
        [Part("picture", "[image_url, 73 bytes]", data=URL)],
    ),
    "chat, a picture elsewhere": (
        [{"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}],
        texts("https://a.example/b.png"),
    ),
    "Anthropic, a call": (
        [{"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}],
        [CALL],
    ),
    "Anthropic, a result": (
        [
            {
                "type": "tool_result",
                "tool_use_id": "c1",
                "content": [{"type": "text", "text": "hello"}],
            }
        ],
        [Part("result", "hello", id="c1")],
    ),
    "Anthropic, thoughts": (
        [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "hello"},
        ],
        [Part("thinking", "hm"), HELLO],
    ),
    "Anthropic, a picture": (
        [
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
            }
        ],
        [Part("picture", "[image, 90 bytes]", data="AAAA")],
    ),
    "Anthropic, a picture elsewhere": (
        [{"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}],
        texts("https://a.example/b.png"),
    ),
    "Responses, a picture elsewhere": (
        [{"type": "input_image", "image_url": "https://a.example/b.png"}],
        texts("https://a.example/b.png"),
    ),
    "a picture in a script": (
        [{"type": "input_image", "image_url": "javascript:x"}],
        texts("[input_image, 52 bytes]"),
    ),
    "Responses, a message": (
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]},
        [HELLO],
    ),
    "Responses, a call": (
        {"type": "function_call", "call_id": "c1", "id": "x", **FUNCTION},
        [CALL],
    ),
    "Responses, a call of another kind": (
        {"type": "custom_tool_call", "call_id": "c1", "name": "f", "input": "hello"},
        [Part("call", "hello", "f", "c1")],
    ),
    "Responses, a result": (
        {"type": "function_call_output", "call_id": "c1", "output": "hello"},
        [Part("result", "hello", id="c1")],
    ),
    "Responses, thoughts": (
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        [Part("thinking", "hm")],
    ),
    "Responses, a picture that was made": (
        {"type": "image_generation_call", "result": "AAAA"},
        [Part("picture", "[image_generation_call]", data="AAAA")],
    ),
    "Gemini, a call": (
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"a": 1}}}]},
        [Part("call", '{"a": 1}', "f")],
    ),
    "Gemini, a result": (
        {"parts": [{"functionResponse": {"name": "f", "response": {"b": 2}}}]},
        [Part("result", '{"b": 2}', "f", "f")],
    ),
    "Gemini, a thought": ({"parts": [{"text": "hm", "thought": True}]}, [Part("thinking", "hm")]),
    "Gemini, a picture": (
        {"parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]},
        [Part("picture", "[inlineData, 57 bytes]", data="AAAA")],
    ),
    "Gemini, a sound": (
        {"parts": [{"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}]},
        texts("[inlineData, 57 bytes]"),
    ),
    "LangChain, a call": (
        {"content": "hello", "tool_calls": [{"name": "f", "args": {"a": 1}, "id": "c1"}]},
        [HELLO, CALL],
    ),
    "a file": ([{"type": "file", "file": {"file_id": "x"}}], texts("[file, 42 bytes]")),
    "no text, no call": ({"role": "assistant", "content": None}, []),
    "a role that is none": ({"role": 3, "content": {"text": "hello"}}, [HELLO]),
    "calls that are none": ({"role": "assistant", "content": "hello", "tool_calls": [3]}, [HELLO]),
}


@pytest.mark.parametrize(("content", "parts"), MESSAGES.values(), ids=MESSAGES.keys())
def test_a_message_has_parts(content: Any, parts: list[Part]) -> None:
    assert parts_of(content) == parts


def test_what_is_nested_very_deeply_is_named() -> None:
    content: Any = "x"
    for _ in range(300):
        content = [content]
    assert all(part.kind == "text" for part in parts_of(content))


def chat(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta}]}


def chat_call(index: int, **call: Any) -> dict[str, Any]:
    return chat(tool_calls=[{"index": index, **call}])


STREAMS: dict[str, tuple[list[dict[str, Any]], list[Part]]] = {
    "chat": ([chat(role="assistant"), chat(content="hel"), chat(content="lo")], [HELLO]),
    "chat, thoughts": (
        [chat(reasoning_content="h"), chat(reasoning_content="m"), chat(content="hello")],
        [Part("thinking", "hm"), HELLO],
    ),
    "chat, calls that are mixed": (
        [
            chat(content="hello"),
            chat_call(0, id="c1", function={"name": "f", "arguments": ""}),
            chat_call(1, id="c2", function={"name": "g", "arguments": "{}"}),
            chat_call(0, function={"arguments": '{"a": 1}'}),
        ],
        [HELLO, CALL, Part("call", "{}", "g", "c2")],
    ),
    "chat, an old call": (
        [chat(function_call={"name": "f"}), chat(function_call={"arguments": "{}"})],
        [Part("call", "{}", "f")],
    ),
    "completions": ([{"choices": [{"text": "hel"}]}, {"choices": [{"text": "lo"}]}], [HELLO]),
    "Anthropic": (
        [
            {"type": "content_block_delta", "index": 0, "delta": {"thinking": "hm"}},
            {"type": "content_block_delta", "index": 1, "delta": {"text": "hello"}},
            {
                "type": "content_block_start",
                "index": 2,
                "content_block": {"type": "tool_use", "id": "c1", "name": "f", "input": {}},
            },
            {"type": "content_block_delta", "index": 2, "delta": {"partial_json": '{"a": 1}'}},
        ],
        [Part("thinking", "hm"), HELLO, CALL],
    ),
    "Responses": (
        [
            {"type": "response.reasoning_summary_text.delta", "delta": "hm"},
            {"type": "response.output_text.delta", "delta": "hello"},
            {
                "type": "response.output_item.added",
                "output_index": 1,
                "item": {"type": "function_call", "call_id": "c1", "name": "f"},
            },
            {
                "type": "response.function_call_arguments.delta",
                "output_index": 1,
                "delta": '{"a": 1}',
            },
        ],
        [Part("thinking", "hm"), HELLO, CALL],
    ),
    "Gemini": (
        [
            {"candidates": [{"content": {"parts": [{"text": "hello"}]}}]},
            {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": {}}}]}}]},
        ],
        [HELLO, Part("call", "{}", "f")],
    ),
    "a transcript": ([{"type": "transcript.text.delta", "delta": "hello"}], [HELLO]),
    "said, thought, said": (
        [chat(content="a"), chat(reasoning="b"), chat(content="c")],
        [Part("text", "a"), Part("thinking", "b"), Part("text", "c")],
    ),
    "shapes that are none": (
        [
            {"choices": 3},
            {"choices": [3, {"delta": 3}, {"delta": {"tool_calls": 3, "function_call": 3}}]},
            {"type": "content_block_delta", "delta": 3},
            {"type": "response.output_text.delta", "delta": 3},
            {"candidates": [{"content": None}]},
        ],
        [],
    ),
}


@pytest.mark.parametrize(("events", "parts"), STREAMS.values(), ids=STREAMS.keys())
def test_a_stream_has_parts(events: list[dict[str, Any]], parts: list[Part]) -> None:
    stream = Stream(stream_of([(0.1 * number, event) for number, event in enumerate(events)]))
    assert stream.parts() == parts
    assert json.dumps([[piece.delay, piece.text] for piece in stream.pieces])
