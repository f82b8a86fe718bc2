"""Predicates of answers worth keeping: for the ``when=`` of `patch_openai` and `llm_cached`.

Each of them takes an answer and says whether to store it: what an SDK returns for chat completions,
completions, responses or messages, the same as dictionaries, plain text, or a list of the items or
events of a stream. What an answer does not tell is not held against it: text cannot be truncated,
and an object of one's own is whole.

>>> complete({"choices": [{"finish_reason": "length", "message": {"content": "Once upon a"}}]})
False
>>> usable("It is sunny.")
True
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Predicate: TypeAlias = Callable[[Any], bool]
"""Takes an answer and says whether to store it."""

_TRUNCATED: Final = frozenset(
    {"length", "max_tokens", "max_output_tokens", "max_messages", "model_context_window_exceeded"}
)
_FILTERED: Final = frozenset(
    {"content_filter", "refusal", "safety", "recitation", "blocklist", "prohibited_content"}
)
_TOOL_FAILED: Final = frozenset({"malformed_function_call", "unexpected_tool_call"})
_FINAL_EVENTS: Final = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled"}
)
_BLOCKS: Final = ("content", "output")
_RESULTS: Final = ("data", "results")


def complete(answer: Any) -> bool:
    """Whether the model came to its own end, rather than to a limit of tokens."""
    told = _told(answer)
    return told.reasons.isdisjoint(_TRUNCATED) and "incomplete" not in told.reasons


def not_filtered(answer: Any) -> bool:
    """Whether no content filter stepped in, and the model did not refuse."""
    told = _told(answer)
    return told.reasons.isdisjoint(_FILTERED) and not told.refused


def not_empty(answer: Any) -> bool:
    """Whether something was answered (text, a tool call, sound, data): in every choice, if several.

    What a model only thought is no answer.
    """
    return all(_told(answer).parts.values())


def no_tool_error(answer: Any) -> bool:
    """Whether no tool failed, and what a tool is called with is JSON."""
    told = _told(answer)
    return (
        not told.failed
        and told.reasons.isdisjoint(_TOOL_FAILED)
        and all(map(_is_json, told.arguments.values()))
    )


def all_of(*predicates: Predicate) -> Predicate:
    """A predicate that wants what all of these want, asked in this order.

    >>> short = all_of(not_empty, lambda answer: len(answer) < 100)
    >>> short("Yes."), short("")
    (True, False)
    """
    return lambda answer: all(predicate(answer) for predicate in predicates)


usable: Final = all_of(complete, not_filtered, not_empty, no_tool_error)
"""Refuses what is truncated, filtered, refused or empty, and what a failed tool is part of."""


@dataclass(slots=True)
class _Told:
    """The tale of an answer: ``parts`` by choice, ``arguments`` by choice and call."""

    reasons: set[str] = field(default_factory=set)
    refused: bool = False
    failed: bool = False
    parts: dict[Any, bool] = field(default_factory=dict)
    arguments: dict[Any, str] = field(default_factory=dict)

    def end(self, *reasons: Any) -> None:
        self.reasons.update(reason.lower() for reason in reasons if isinstance(reason, str))

    def part(self, choice: Any, *contents: Any) -> None:
        held = any(map(_holds, contents))
        self.parts[choice] = self.parts.get(choice, False) or held

    def call(self, name: Any, arguments: Any) -> None:
        if isinstance(arguments, str):
            self.arguments[name] = self.arguments.get(name, "") + arguments


def _told(answer: Any) -> _Told:
    told = _Told()
    if isinstance(answer, (list, tuple)):
        _read_items(told, answer)
    else:
        _read(told, answer)
    return told


def _read_items(told: _Told, items: Iterable[Any]) -> None:
    items = list(items)
    final = [item for item in items if _get(item, "type") in _FINAL_EVENTS]
    if final:
        _read(told, _get(final[-1], "response"))
        return
    for item in items:
        # Some events of a stream have no choice in them: usage, or what a filter found.
        if _get(item, "choices") != [] and not _read_event(told, item):
            _read(told, item)
    if not told.parts:
        told.part(None)


def _read_event(told: _Told, event: Any) -> bool:
    """Read one event of a stream of messages, which tells little by itself."""
    kind, index = _get(event, "type"), _get(event, "index")
    delta, block = _get(event, "delta"), _get(event, "content_block")
    if kind == "content_block_start":
        _read_block(told, block, (index,))
    elif kind == "content_block_delta":
        told.part(None, _get(delta, "text"))
        told.call((index,), _get(delta, "partial_json"))
    elif kind == "message_delta":
        told.end(_get(delta, "stop_reason"))
    else:
        return kind in ("message_start", "content_block_stop", "message_stop", "ping")
    return True


def _read(told: _Told, answer: Any) -> None:
    choices = _get(answer, "choices")
    if isinstance(choices, (list, tuple)):
        if not choices:
            told.part(None)
        for choice in choices:
            _read_choice(told, choice)
        return
    told.end(_get(answer, "status"), _get(answer, "stop_reason"))
    told.end(_get(_get(answer, "incomplete_details"), "reason"))
    told.failed = told.failed or _get(answer, "status") == "failed" or bool(_get(answer, "error"))
    for name in _BLOCKS:
        blocks = _get(answer, name)
        if isinstance(blocks, (list, tuple)):
            told.part(None)
            for at, block in enumerate(blocks):
                _read_block(told, block, (at,))
            return
    for name in _RESULTS:
        results = _get(answer, name)
        if isinstance(results, (list, tuple)):
            told.part(None, results)
            return
    texts = [_get(answer, "text"), _get(answer, "content")]
    told.part(None, *([text for text in texts if isinstance(text, str)] or [answer]))


def _read_choice(told: _Told, choice: Any) -> None:
    index = _get(choice, "index")
    told.end(_get(choice, "finish_reason"))
    message = _get(choice, "message") or _get(choice, "delta")
    calls = _get(message, "tool_calls") or ()
    legacy = _get(message, "function_call")
    audio = _get(message, "audio")
    told.refused = told.refused or bool(_get(message, "refusal"))
    told.part(index, _get(choice, "text"), _get(message, "content"), list(calls), legacy, audio)
    for at, call in enumerate(calls):
        place = _get(call, "index")
        told.call((index, at if place is None else place), _arguments(call))
    told.call((index, "function"), _get(legacy, "arguments"))


def _arguments(call: Any) -> Any:
    return _get(_get(call, "function"), "arguments")


def _read_block(told: _Told, block: Any, name: Any) -> None:
    """A block of a message's content, or an item of a response's output."""
    kind = _get(block, "type")
    if kind in ("reasoning", "thinking", "redacted_thinking"):
        return
    if kind == "refusal":
        told.refused = True
    told.end("incomplete" if _get(block, "status") == "incomplete" else None)
    inner = _get(block, "content")
    told.failed = told.failed or bool(
        _get(block, "status") == "failed"
        or _get(block, "error")
        or _get(block, "is_error")
        or str(_get(inner, "type") or "").endswith("_error")
    )
    if kind == "message":
        for at, part in enumerate(inner if isinstance(inner, (list, tuple)) else ()):
            _read_block(told, part, (*name, at))
        return
    text = _get(block, "text")
    told.part(None, text if isinstance(text, str) else kind not in ("text", "output_text"))
    told.call(name, _get(block, "arguments"))


def _holds(content: Any) -> bool:
    if isinstance(content, str):
        return bool(content.strip())
    if isinstance(content, (bytes, bytearray, list, tuple, Mapping)):
        return bool(content)
    return content is not None and content is not False


def _is_json(text: str) -> bool:
    try:
        json.loads(text or "{}")
    except (ValueError, RecursionError):
        return False
    return True


def _get(holder: Any, name: str) -> Any:
    if isinstance(holder, Mapping):
        return holder.get(name)
    if holder is None or isinstance(holder, (str, bytes, int, float, list, tuple)):
        return None
    return getattr(holder, name, None)
