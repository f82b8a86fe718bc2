"""Tables and stored text on a terminal, which no stored character can take over."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final, TextIO

_SHOWN: Final = {0x0A: None, 0x09: None}
_CONTROL: Final = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in _SHOWN
} | {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}

_LEAST: Final = 8


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a standard stream, which a service may be started without, is a terminal."""
    return stream is not None and stream.isatty()


def clean(text: str) -> str:
    """Stored text that is safe to print: control characters, bar new lines and tabs, are spelt out.

    A lone surrogate, which has no bytes to print, is replaced.
    """
    return text.translate(_CONTROL).encode(errors="replace").decode()


def one_line(text: str, width: int) -> str:
    """Stored text on one line of at most ``width`` columns."""
    line = clean(" ".join(text[: 4 * width].split()))
    if columns(line) <= width and len(text) <= 4 * width:
        return line
    while columns(line) > width - 1:
        line = line[:-1]
    return line + "…"


def columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def terminal_width() -> int:
    """Columns of the terminal, or 100 where there is none."""
    return shutil.get_terminal_size((100, 24)).columns


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[int] = (),
    width: int | None = None,
) -> list[str]:
    """The lines of a small table.

    Args:
        head: the columns' names.
        rows: their texts.
        right: the columns that are set to the right, by index: figures, which are never cut.
        width: how many columns of the terminal there are; the longest of the other texts are cut
            to fit, to no less than `_LEAST`.
    """
    cells = [list(head), *(list(map(clean, row)) for row in rows)]
    widths = [max(columns(row[i]) for row in cells) for i in range(len(head))]
    texts = [i for i in range(len(head)) if i not in right]
    while width is not None and sum(widths) + 2 * len(widths) - 2 > width:
        longest = max(texts, key=lambda i: widths[i])
        if widths[longest] <= _LEAST:
            break
        widths[longest] -= 1
    cells = [[one_line(row[i], widths[i]) for i in range(len(head))] for row in cells]
    lines = []
    for row in cells:
        padded = [
            " " * (width - columns(cell)) + cell
            if i in right
            else cell + " " * (width - columns(cell))
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return lines
