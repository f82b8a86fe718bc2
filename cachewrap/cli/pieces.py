"""Where each API keeps what is said: in messages, in answers, and in the events of streams."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

_TEXTS: Final = ("text", "refusal", "thinking", "input_text", "output_text", "transcript")
_INSIDE: Final = ("content", "parts", "output")
_DELTAS: Final = frozenset(
    {
        "response.output_text.delta",
        "response.refusal.delta",
        "response.function_call_arguments.delta",
        "response.reasoning_summary_text.delta",
        "transcript.text.delta",
    }
)


def content_text(content: Any) -> str:
    """The text of a message, of its content, or of one part of it; other parts are named."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(filter(None, map(content_text, content)))
    if not isinstance(content, Mapping):
        return "" if content is None else json.dumps(content)
    for name in _TEXTS:
        if isinstance(content.get(name), str):
            return str(content[name])
    said = [content_text(content[n]) for n in _INSIDE if n in content]
    calls = content.get("tool_calls")
    said += [_call(call) for call in calls] if isinstance(calls, list) else []
    if _is_call(content):
        said.append(_call(content))
    if said:
        return "\n".join(filter(None, said))
    kind = str(content.get("type") or next(iter(content), "part"))
    if kind.endswith("_call") or kind == "reasoning":
        return f"[{kind}]"
    return f"[{kind}, {len(json.dumps(content, default=str))} bytes]"


def call_texts(content: Any) -> Iterator[str]:
    """The calls of tools in what `content_text` is given, as they stand in its text, in order."""
    if isinstance(content, list):
        for part in content:
            yield from call_texts(part)
    if not isinstance(content, Mapping) or any(isinstance(content.get(n), str) for n in _TEXTS):
        return
    for name in _INSIDE:
        yield from call_texts(content.get(name))
    calls = content.get("tool_calls")
    yield from filter(None, map(_call, calls if isinstance(calls, list) else ()))
    if _is_call(content):
        yield from filter(None, [_call(content)])


def body_pieces(body: Any) -> Iterator[tuple[str, str]]:
    """Role and text of each part of a whole answer; none for a shape that is not known."""
    for role, part in body_parts(body):
        yield role, content_text(part)


def body_parts(body: Any) -> Iterator[tuple[str, Any]]:
    """Role and content of each part of a whole answer, as `body_pieces` tells them."""
    if not isinstance(body, Mapping):
        return
    for choice in _list(body, "choices"):
        message = choice.get("message")
        if isinstance(message, Mapping):
            yield str(message.get("role") or "assistant"), message
        elif isinstance(choice.get("text"), str):
            yield "assistant", choice["text"]
    for item in _list(body, "output"):
        yield str(item.get("role") or item.get("type") or "assistant"), item
    if isinstance(body.get("content"), list):
        yield str(body.get("role") or "assistant"), body["content"]
    for candidate in _list(body, "candidates"):
        yield "assistant", candidate.get("content")
    for item in _list(body, "data"):
        if "embedding" in item:
            vector = item["embedding"]
            size = f"{len(vector)} numbers" if isinstance(vector, list) else "encoded"
            yield "embedding", f"[{size}]"
        elif "url" in item:
            yield "image", str(item["url"])
        elif "b64_json" in item:
            yield "image", f"[{len(str(item['b64_json'])) * 3 // 4} bytes]"
    if isinstance(body.get("text"), str):
        yield "transcript", body["text"]


def event_piece(event: Mapping[str, Any]) -> str:
    """What one event of a stream adds to what is said; ``""`` for most."""
    if event.get("type") in _DELTAS:
        return str(event.get("delta") or "")
    said = []
    for choice in _list(event, "choices"):
        delta = choice.get("delta")
        if isinstance(delta, Mapping):
            said += [str(delta[n]) for n in ("content", "refusal") if delta.get(n)]
            for call in _list(delta, "tool_calls"):
                function = call.get("function")
                if isinstance(function, Mapping):
                    said += [f"{function['name']} "] if function.get("name") else []
                    said.append(str(function.get("arguments") or ""))
        elif isinstance(choice.get("text"), str):
            said.append(choice["text"])
    delta = event.get("delta")
    if event.get("type") == "content_block_delta" and isinstance(delta, Mapping):
        said += [str(delta[n]) for n in ("text", "thinking", "partial_json") if delta.get(n)]
    block = event.get("content_block")
    if isinstance(block, Mapping) and block.get("type") == "tool_use":
        said.append(f"{block.get('name')} ")
    for candidate in _list(event, "candidates"):
        said.append(content_text(candidate.get("content")))
    return "".join(said)


def _list(holder: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = holder.get(name)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def _is_call(content: Mapping[str, Any]) -> bool:
    return "arguments" in content or "functionCall" in content or content.get("type") == "tool_use"


def _call(call: Any) -> str:
    if not isinstance(call, Mapping):
        return ""
    given = next((call[n] for n in ("function", "functionCall", "custom") if n in call), call)
    if not isinstance(given, Mapping):
        return ""
    arguments = next((given[n] for n in ("arguments", "args", "input") if n in given), "")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f"{given.get('name', 'call')}({text})"
