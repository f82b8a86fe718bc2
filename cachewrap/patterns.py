"""Patterns that are compiled when they are first asked: a program that starts asks few of them."""

from __future__ import annotations

import re
from typing import Any, AnyStr, cast


class _Later:
    """A pattern that is text so far. What it was asked once, it has from then on."""

    def __init__(self, text: Any, flags: int) -> None:
        self._given = text, flags

    def __getattr__(self, name: str) -> Any:
        found = getattr(re.compile(*self._given), name)
        setattr(self, name, found)
        return found


def later(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """The pattern of a text, as `re.compile` gives it, compiled at its first use."""
    return cast("re.Pattern[AnyStr]", _Later(text, flags))
