"""Which answers are worth keeping: functions for ``when=``, of `patch_openai` and `llm_cached`.

Each of them takes an answer and says whether to store it: an object of an SDK (chat completions,
completions, responses, messages), the same as a dictionary, plain text, or a list of the items or
events of a stream. What an answer does not tell, nothing is held against: text cannot be truncated.

>>> complete({"choices": [{"finish_reason": "length", "message": {"content": "Once upon"}}]})
False
>>> not_empty("  ")
False
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

Predicate: TypeAlias = Callable[[Any], bool]

_TRUNCATED: Final = frozenset({"length", "max_tokens", "max_output_tokens", "incomplete"})
_FILTERED: Final = frozenset({"content_filter", "refusal", "safety", "recitation", "blocklist"})
_TOOL_ERROR: Final = frozenset({"error", "malformed_function_call", "failed"})


def complete(answer: Any) -> bool:
    """Whether the model came to its own end: not cut off by a limit of tokens."""
    return not any(reason in _TRUNCATED for reason in _reasons(answer))


def not_filtered(answer: Any) -> bool:
    """Whether no content filter stepped in and the model did not refuse."""
    if any(reason in _FILTERED for reason in _reasons(answer)):
        return False
    return not any(_get(part, "refusal") for part in _parts(answer))


def not_empty(answer: Any) -> bool:
    """Whether there is anything in the answer: text, a tool call, sound, a picture, numbers."""
    if isinstance(answer, (str, bytes, bytearray)):
        return bool(answer.strip())
    if answer is None or (isinstance(answer, (list, tuple, Mapping)) and not answer):
        return False
    if isinstance(answer, (list, tuple)) and not _is_stream(answer):
        return any(not_empty(item) for item in answer)
    found = [_has_content(part) for part in _parts(answer)]
    return any(found) if found else True
