"""The model and the tokens that an answer reports, wherever its kind of answer keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_IN = ("prompt_tokens", "input_tokens")
_OUT = ("completion_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer says of itself; empty where it says nothing.

    Args:
        model: the model's name.
        tokens_in: prompt tokens.
        tokens_out: completion tokens.
    """

    model: str = ""
    tokens_in: int = 0
    tokens_out: int = 0


_NONE = Usage()


def usage_of(answer: object) -> Usage:
    """Read the usage of an SDK's answer object, or of the same as plain JSON."""
    if isinstance(answer, str):
        return _NONE
    model = _field(answer, "model")
    usage = _field(answer, "usage")
    return Usage(
        model=model if isinstance(model, str) else "",
        tokens_in=_count(usage, _IN),
        tokens_out=_count(usage, _OUT),
    )


def _field(holder: object, name: str) -> Any:
    if isinstance(holder, Mapping):
        return holder.get(name)
    state = getattr(holder, "__dict__", None)
    return state.get(name) if isinstance(state, dict) else None


def _count(usage: object, names: tuple[str, ...]) -> int:
    for name in names:
        value = _field(usage, name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32:
            return value
    return 0
