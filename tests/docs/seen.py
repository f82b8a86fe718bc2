"""What a page says is seen, compared with what is seen, apart from what differs from run to run."""

from __future__ import annotations

import difflib
import re

HOME = "/home/me"
"""How pages call the folder that their reader works in."""

_NUMBER = r"\d[\d,]*(?:\.\d+)?"
_UNITS = (
    r"ns|µs|us|ms|s|secs?|seconds?|m|min|mins|minutes?|h|hours?|d|days?|w|weeks?|y|years?|months?"
)
_VARYING = [
    (r"\x1b\[[0-9;?]*[A-Za-z]", ""),
    (r"[^\n]*\r(?!\n)", ""),  # of a line that is written over and over, the last
    (r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z| ?[+-]\d\d:?\d\d)?)?", "<date>"),
    (r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<key>"),
    (r"\b(?:[0-9a-f]{64}|[0-9a-f]{12})\b", "<key>"),
    (r"\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{7,64}\b", "<key>"),
    (r"(?<![^ \n])[0-9a-f]{8}(?![^ \n])", "<key>"),  # in a cell, digits alone too
    (r"\b(?:127\.0\.0\.1|localhost)(?::\d+)?", "<host>"),
    (rf"<?\$ ?{_NUMBER}", "<money>"),
    (rf"{_NUMBER} ?%", "<share>"),
    (rf"{_NUMBER} ?(?:calls?|entries|lines|files|items)?/s\b", "<rate>"),
    (rf"\b{_NUMBER} ?(?:[kKMGT]i?B|B|bytes)\b", "<size>"),
    (r"\b\d+:\d\d(?::\d\d)?(?:\.\d+)?\b", "<time>"),
    (rf"(?<![\w.-]){_NUMBER} ?(?:{_UNITS})(?:(?: ?)\d+ ?(?:{_UNITS}))*(?![\w=-])", "<time>"),
    (r"(?<=seconds_saved=)\d+(?:\.\d+)?", "<time>"),
    (r"[ \t]+", " "),
    (r" ?\n ?", "\n"),
]
_KEY = re.compile(r"\b[0-9a-f]{8,64}\b")
_COMPILED = [(re.compile(pattern), instead) for pattern, instead in _VARYING]


def normal(text: str, folder: str = "") -> str:
    """The text without what differs from run to run, and without the width of its columns."""
    if folder:
        text = text.replace(folder, HOME)
    for pattern, instead in _COMPILED:
        text = pattern.sub(instead, text)
    return text.strip()


def keys(page: str, seen: str) -> dict[str, str]:
    """The keys that a page shows, and what is seen in the place of each."""
    shown, there = _KEY.findall(page), _KEY.findall(seen)
    return dict(zip(shown, there, strict=True)) if len(shown) == len(there) else {}


def differences(expected: str, seen: str, folder: str = "") -> str:
    """Nothing if the page tells what is seen; else both, and a diff of their normal forms.

    ``…`` in the page stands for anything in its line; alone on a line, for lines of any number.
    """
    wanted, shown = normal(expected), normal(seen, folder)
    if _pattern(wanted).fullmatch(f"{shown}\n"):
        return ""
    lines = _filled(wanted.splitlines(), shown.splitlines())
    diff = difflib.unified_diff(
        lines, shown.splitlines(), "what the page says", "what is seen", n=99, lineterm=""
    )
    return "\n".join([*diff, "", "Seen, as it was:", seen.rstrip().replace(folder or "\0", HOME)])


def _pattern(text: str) -> re.Pattern[str]:
    parts = []
    for line in text.splitlines() or [""]:
        parts.append(r"(?:[^\n]*\n)*?" if line == "…" else f"{_line(line)}\n")
    return re.compile("".join(parts))


def _line(line: str) -> str:
    return r"[^\n]*".join(re.escape(part) for part in line.split("…"))


def _filled(wanted: list[str], shown: list[str]) -> list[str]:
    """The lines of a page with ``…`` in them as the line seen that they fit."""
    filled = []
    for line in wanted:
        fits = (one for one in shown if "…" in line and re.fullmatch(_line(line), one))
        filled.append(line if line == "…" else next(fits, line))
    return filled
