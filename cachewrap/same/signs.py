"""Signs of a pattern: what is quickly looked for, and missing from most texts that do not match.

Most texts hold nothing that a rule replaces. A pattern that begins with a class of characters is
tried at every place of them; the text that each match has in it, or the end of the pattern from
its first text on, is found much faster.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

try:
    from re import _compiler, _parser  # type: ignore[attr-defined]

    _parse: Callable[[str, int], Any] | None = _parser.parse
    _compile: Callable[[Any, int], re.Pattern[str]] | None = _compiler.compile
except (ImportError, AttributeError):  # of a Python that has them elsewhere
    _parse = _compile = None

Sign: TypeAlias = Callable[[str], object]
"""Whether a text may have a match: what is false for it has none."""


def sign_of(pattern: re.Pattern[str], is_cheap: Callable[[Any, int], bool]) -> Sign | None:
    """The sign of a pattern; None where there is none that would be faster.

    Args:
        pattern: the pattern.
        is_cheap: whether some parsed parts, under flags, are quickly looked for in any text.
    """
    if _parse is None or _compile is None:
        return None
    parsed = _parse(pattern.pattern, pattern.flags)
    held, at = _text_in(parsed, parsed.state.flags)
    if not held:
        return None
    end = None
    cheap = at and is_cheap(parsed[at:], parsed.state.flags)
    if cheap and parsed.state.groups == 1:  # else the end might refer to what is in front of it
        end = _compile(parsed[at:], parsed.state.flags).search
    if end is None:
        return lambda text: held in text
    return lambda text: held in text and end(text)


def _text_in(parsed: Any, flags: int) -> tuple[str, int]:
    """The first text that every match has, and how many parts are in front of it."""
    found, begin = "", 0
    for at, (name, of) in enumerate(parsed):
        if str(name) == "LITERAL" and (not flags & re.IGNORECASE or not chr(of).isalpha()):
            begin = begin if found else at
            found += chr(of)
        elif found:
            break
    # What is only about places is no part to be spared.
    spared = any(str(name) != "AT" for name, _ in list(parsed)[:begin])
    return found, begin if spared else 0
