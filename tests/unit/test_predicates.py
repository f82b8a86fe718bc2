"""Ready-made predicates for ``when=``: a table of answers, and who refuses each of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cachewrap.predicates import (
    all_of,
    complete,
    no_tool_error,
    not_empty,
    not_filtered,
    usable,
)

PREDICATES = {
    "complete": complete,
    "not_filtered": not_filtered,
    "not_empty": not_empty,
    "no_tool_error": no_tool_error,
}


def chat(reason: str = "stop", **message: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Sunny.", **message}
    return {
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": reason, "message": message}],
    }


def call(arguments: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "1",
        "type": "function",
        "function": {"name": "go", "arguments": arguments},
    } | more


def chunk(reason: str | None = None, index: int = 0, **delta: Any) -> dict[str, Any]:
    choice = {"index": index, "finish_reason": reason, "delta": delta}
    return {"object": "chat.completion.chunk", "choices": [choice]}


def respond(*output: dict[str, Any], status: str = "completed", why: str = "") -> dict[str, Any]:
    details = {"reason": why} if why else None
    return {
        "object": "response",
        "status": status,
        "incomplete_details": details,
        "error": None,
        "output": list(output),
    }


def message(**part: Any) -> dict[str, Any]:
    content = {"type": "output_text", "text": "Sunny.", **part}
    return {"type": "message", "status": "completed", "content": [content]}


def anthropic(*content: dict[str, Any], stop: str = "end_turn") -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(content), "stop_reason": stop}


TEXT = {"type": "text", "text": "Sunny."}
THINKING = {"type": "thinking", "thinking": "Hm."}
NO_TEXT = {"type": "refusal", "refusal": "I cannot.", "text": None}

ANSWERS: dict[str, tuple[Any, str]] = {
    # What people return themselves.
    "text": ("Sunny.", ""),
    "empty text": ("", "not_empty"),
    "blank text": (" \n", "not_empty"),
    "None": (None, "not_empty"),
    "bytes": (b"RIFF", ""),
    "no bytes": (b"", "not_empty"),
    "a number": (0, ""),
    "False": (False, "not_empty"),
    "an empty dictionary": ({}, "not_empty"),
    "a dictionary of one's own": ({"town": "Rome"}, ""),
    "a dictionary with text": ({"text": ""}, "not_empty"),
    "an object of one's own": (SimpleNamespace(town="Rome"), ""),
    "no items": ([], "not_empty"),
    "items of text": (["", "Sunny"], ""),
    "blank items": (["", " "], "not_empty"),
    # Chat completions.
    "chat": (chat(), ""),
    "chat, truncated": (chat("length"), "complete"),
    "chat, filtered": (chat("content_filter"), "not_filtered"),
    "chat, filtered and empty": (chat("content_filter", content=None), "not_filtered not_empty"),
    "chat, refused": (chat(content=None, refusal="No."), "not_filtered not_empty"),
    "chat, empty": (chat(content=""), "not_empty"),
    "chat, no choices": ({"object": "chat.completion", "choices": []}, "not_empty"),
    "chat, tool call": (chat("tool_calls", content=None, tool_calls=[call("{}")]), ""),
    "chat, tool call without arguments": (chat(content=None, tool_calls=[call("")]), ""),
    "chat, broken tool call": (chat(tool_calls=[call('{"a": ')]), "no_tool_error"),
    "chat, malformed call": (chat("malformed_function_call", content="x"), "no_tool_error"),
    "chat, legacy call": (chat(content=None, function_call={"arguments": "{}"}), ""),
    "chat, broken legacy call": (
        chat(content=None, function_call={"arguments": "{"}),
        "no_tool_error",
    ),
    "chat, sound": (chat(content=None, audio={"data": "aGk="}), ""),
    "chat, one of two empty": (
        {"choices": [*chat()["choices"], {"index": 1, "message": {"content": ""}}]},
        "not_empty",
    ),
    "chat, the reason in capitals": (chat("MAX_TOKENS"), "complete"),
    # Completions.
    "completion": ({"choices": [{"text": "Sunny.", "finish_reason": "stop"}]}, ""),
    "completion, truncated": (
        {"choices": [{"text": "Sun", "finish_reason": "length"}]},
        "complete",
    ),
    "completion, empty": ({"choices": [{"text": "", "finish_reason": "stop"}]}, "not_empty"),
    # Responses.
    "response": (respond(message()), ""),
    "response, truncated": (
        respond(message(), status="incomplete", why="max_output_tokens"),
        "complete",
    ),
    "response, filtered": (
        respond(message(), status="incomplete", why="content_filter"),
        "complete not_filtered",
    ),
    "response, refused": (respond(message(**NO_TEXT)), "not_filtered"),
    "response, empty": (respond(message(text="")), "not_empty"),
    "response, nothing in it": (respond(), "not_empty"),
    "response, thought alone": (respond({"type": "reasoning", "summary": []}), "not_empty"),
    "response, call": (respond({"type": "function_call", "arguments": "{}"}), ""),
    "response, broken call": (
        respond({"type": "function_call", "arguments": "{"}),
        "no_tool_error",
    ),
    "response, failed tool": (
        respond(message(), {"type": "web_search_call", "status": "failed"}),
        "no_tool_error",
    ),
    "response, failed remote tool": (
        respond(message(), {"type": "mcp_call", "arguments": "{}", "error": "timeout"}),
        "no_tool_error",
    ),
    # Messages.
    "message": (anthropic(TEXT), ""),
    "message, truncated": (anthropic(TEXT, stop="max_tokens"), "complete"),
    "message, refused": (anthropic(TEXT, stop="refusal"), "not_filtered"),
    "message, empty": (anthropic(), "not_empty"),
    "message, thought alone": (anthropic(THINKING), "not_empty"),
    "message, tool": (anthropic({"type": "tool_use", "input": {}}, stop="tool_use"), ""),
    "message, failed tool": (
        anthropic(
            TEXT,
            {
                "type": "web_search_tool_result",
                "content": {"type": "web_search_tool_result_error", "error_code": "unavailable"},
            },
        ),
        "no_tool_error",
    ),
    # Others.
    "embeddings": ({"object": "list", "data": [{"embedding": [0.1]}]}, ""),
    "no embeddings": ({"object": "list", "data": []}, "not_empty"),
    "moderation": ({"results": [{"flagged": True}]}, ""),
    "transcription": ({"text": "Hello."}, ""),
    # Streams.
    "chunks": ([chunk(role="assistant"), chunk(content="Sun"), chunk("stop")], ""),
    "chunks, truncated": ([chunk(content="Sun"), chunk("length")], "complete"),
    "chunks, empty": ([chunk(content=""), chunk("stop")], "not_empty"),
    "chunks, and usage": ([chunk(content="Sun"), chunk("stop"), {"choices": []}], ""),
    "chunks, and a filter's first": ([{"choices": []}, chunk(content="Sun"), chunk("stop")], ""),
    "chunks of a call": (
        [
            chunk(tool_calls=[call('{"a"', index=0)]),
            chunk(tool_calls=[call(": 1}", index=0)]),
            chunk("tool_calls"),
        ],
        "",
    ),
    "chunks of a broken call": (
        [chunk(tool_calls=[call('{"a"', index=0)]), chunk("tool_calls")],
        "no_tool_error",
    ),
    "chunks of two choices, one empty": (
        [chunk(content="a"), chunk(index=1, content=""), chunk("stop"), chunk("stop", index=1)],
        "not_empty",
    ),
    "response events": (
        [
            {"type": "response.output_text.delta", "delta": "Sunny."},
            {"type": "response.completed", "response": respond(message())},
        ],
        "",
    ),
    "response events, truncated": (
        [
            {
                "type": "response.incomplete",
                "response": respond(message(), status="incomplete", why="max_output_tokens"),
            }
        ],
        "complete",
    ),
    "message events": (
        [
            {"type": "message_start", "message": anthropic(stop="")},
            {"type": "content_block_start", "index": 0, "content_block": {**TEXT, "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"text": "Sunny."}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
            {"type": "message_stop"},
        ],
        "",
    ),
    "message events, truncated": (
        [
            {"type": "content_block_delta", "index": 0, "delta": {"text": "Sun"}},
            {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}},
        ],
        "complete",
    ),
    "message events of a broken call": (
        [
            {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use"}},
            {"type": "content_block_delta", "index": 0, "delta": {"partial_json": '{"a'}},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
        ],
        "no_tool_error",
    ),
}


def as_object(answer: Any) -> Any:
    """A dictionary as an SDK's object, with attributes for keys."""
    if isinstance(answer, dict):
        return SimpleNamespace(**{name: as_object(value) for name, value in answer.items()})
    return [as_object(item) for item in answer] if isinstance(answer, list) else answer


ROWS = [pytest.param(answer, refused, id=name) for name, (answer, refused) in ANSWERS.items()]


@pytest.mark.parametrize(("answer", "refused"), ROWS)
def test_who_refuses_what(answer: Any, refused: str) -> None:
    assert {name for name, wants in PREDICATES.items() if not wants(answer)} == {*refused.split()}


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        row
        for row in ROWS
        if not isinstance(row.values[0], dict)
        or {"choices", "output", "content", "data", "results"} & row.values[0].keys()
    ],
)
def test_objects_are_read_as_dictionaries_are(answer: Any, refused: str) -> None:
    given = as_object(answer)
    assert {name for name, wants in PREDICATES.items() if not wants(given)} == {*refused.split()}


@pytest.mark.parametrize(("answer", "refused"), ROWS)
def test_usable_refuses_what_one_of_them_refuses(answer: Any, refused: str) -> None:
    assert usable(answer) is (refused == "")


def test_all_of_asks_in_order_and_stops_at_the_first_refusal() -> None:
    asked = []

    def first(answer: Any) -> bool:
        asked.append("first")
        return False

    def second(answer: Any) -> bool:
        asked.append("second")
        return True

    assert not all_of(second, first, second)("x")
    assert asked == ["second", "first"]


def test_the_sdks_own_objects() -> None:
    from openai.types.chat import ChatCompletion

    body = chat("length") | {"id": "1", "created": 1, "model": "m"}
    assert not complete(ChatCompletion.model_validate(body))
    assert complete(ChatCompletion.model_validate(body | chat()))
