"""Requests as they were recorded before a prompt cache was turned on, and all that turns it on.

`RECORDED` are the answers of `tests/golden/before-prompt-caching.jsonl`, one for each API; the
table of an API has what a program sends once its prompts are cached, or once it says who asks.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "golden" / "before-prompt-caching.jsonl"

# What a client is told, of any version of its SDK.
AT_OPENAI: dict[str, Any] = {"api_key": "k", "base_url": "https://api.openai.com/v1"}
AT_ANTHROPIC: dict[str, Any] = {
    "api_key": "k",
    "base_url": "https://api.anthropic.com",
    "default_headers": {"anthropic-version": "2023-06-01"},
}

TOWN = {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}
TEXT = {"type": "text", "text": "Name a river."}
EPHEMERAL = {"type": "ephemeral"}
AN_HOUR = {"type": "ephemeral", "ttl": "1h"}
EXPLICIT = {"mode": "explicit"}

CHAT: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [TEXT]},
    ],
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": TOWN}}],
}
RESPONSES: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "instructions": "Be brief.",
    "input": [{"role": "user", "content": [{"type": "input_text", "text": "Name a river."}]}],
}
MESSAGES: dict[str, Any] = {
    "model": "claude-x",
    "max_tokens": 100,
    "system": [{"type": "text", "text": "Be brief."}],
    "messages": [
        {"role": "user", "content": [TEXT]},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"town": "Ulm"}}
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [{"type": "text", "text": "Rain."}],
                }
            ],
        },
    ],
    "tools": [{"name": "weather", "input_schema": TOWN}],
}

Change = Callable[[dict[str, Any]], object]


def fields(**more: Any) -> Change:
    """Fields beside the conversation."""
    return lambda body: body.update(more)


def mark(*path: Any, **more: Any) -> Change:
    """A mark on what stands at this path."""

    def change(body: Any) -> None:
        for step in path:
            body = body[step]
        body.update(more)

    return change


FIELDS: dict[str, Change] = {
    "key": fields(prompt_cache_key="run-7"),
    "retention": fields(prompt_cache_retention="24h"),
    "options": fields(prompt_cache_options={"mode": "explicit", "ttl": "30m"}),
    "who asks": fields(safety_identifier="user-7"),
    "nothing": fields(prompt_cache_key=None, safety_identifier=None),
    "all": fields(
        prompt_cache_key="run-7", prompt_cache_retention="24h", safety_identifier="user-7"
    ),
}
OF_CHAT: dict[str, Change] = {
    **FIELDS,
    "cache_control": fields(cache_control=EPHEMERAL),
    "a message": mark("messages", 1, cache_control=EPHEMERAL),
    "a block": mark("messages", 1, "content", 0, cache_control=AN_HOUR),
    "a block of the system prompt": mark("messages", 0, "content", 0, cache_control=EPHEMERAL),
    "a block without": mark("messages", 0, "content", 0, cache_control=None),
    "a breakpoint": mark("messages", 0, "content", 0, prompt_cache_breakpoint=EXPLICIT),
    "a tool": mark("tools", 0, cache_control=EPHEMERAL),
}
OF_RESPONSES: dict[str, Change] = {
    **FIELDS,
    "a breakpoint": mark("input", 0, "content", 0, prompt_cache_breakpoint=EXPLICIT),
    "no breakpoint": mark("input", 0, "content", 0, prompt_cache_breakpoint=None),
    "a block": mark("input", 0, "content", 0, cache_control=EPHEMERAL),
}
OF_MESSAGES: dict[str, Change] = {
    "cache_control": fields(cache_control=EPHEMERAL),
    "no cache_control": fields(cache_control=None),
    "system": mark("system", 0, cache_control=AN_HOUR),
    "a block": mark("messages", 0, "content", 0, cache_control=EPHEMERAL),
    "a block without": mark("messages", 0, "content", 0, cache_control=None),
    "a call of a tool": mark("messages", 1, "content", 0, cache_control=EPHEMERAL),
    "a tool's result": mark("messages", 2, "content", 0, cache_control=EPHEMERAL),
    "in a tool's result": mark("messages", 2, "content", 0, "content", 0, cache_control=EPHEMERAL),
    "a tool": mark("tools", 0, cache_control=AN_HOUR),
    "by header": fields(
        cache_control=AN_HOUR,
        extra_headers={"anthropic-beta": "prompt-caching-2024-07-31,extended-cache-ttl-2025-04-11"},
    ),
}


def steered(body: dict[str, Any], change: Change) -> dict[str, Any]:
    """The arguments of a call, with what steers in them."""
    body = copy.deepcopy(body)
    change(body)
    return body


def ask(create: Any, body: dict[str, Any]) -> Any:
    """Call a method of an SDK; what it has no keyword for goes as an extra body."""
    names = inspect.signature(create).parameters
    known = {name: value for name, value in body.items() if name in names}
    more = {name: value for name, value in body.items() if name not in names}
    return create(**known, **({"extra_body": more} if more else {}))


ANSWERS: dict[str, dict[str, Any]] = {
    "chat/completions": {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "The Rhine."},
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
    },
    "responses": {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "gpt-4o-mini",
        "status": "completed",
        "output": [
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "The Rhine.", "annotations": []}],
            }
        ],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 9,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 4,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 13,
        },
    },
    "messages": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [{"type": "text", "text": "The Rhine."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 4},
    },
}


def record() -> None:
    """Write the golden cassette, as the SDKs recorded it before."""
    import anthropic
    import httpx2
    import openai

    import cachewrap

    def answer(request: Any) -> Any:
        path = request.url.path.partition("/v1/")[2]
        return httpx2.Response(200, json=ANSWERS[path])

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    with cachewrap.patch_openai(), cachewrap.patch_anthropic(), cachewrap.Cache.jsonl(GOLDEN):
        client = openai.OpenAI(**AT_OPENAI, http_client=http)
        client.chat.completions.create(**CHAT)
        client.responses.create(**RESPONSES)
        other = anthropic.Anthropic(**AT_ANTHROPIC, http_client=http)
        other.messages.create(**MESSAGES)
