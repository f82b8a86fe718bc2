"""Tables and stored text on a terminal, which no stored character can take over."""

from __future__ import annotations

import json
import math
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final, TextIO, TypeVar

from cachewrap.errors import SPELT_OUT

_SPANS: Final = {"m": 60, "h": 3600, "d": 86_400}


def size_text(count: float) -> str:
    """A size for people: ``512 B``, ``1.4 KB``."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("KB", "MB", "GB"):
        count /= 1024
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TB"


def span_text(seconds: float) -> str:
    """A span for people, in its largest unit: ``0.42s``, ``12m``, ``30d``."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 60:
        return f"{seconds:.2f}s" if seconds < 10 else f"{seconds:.0f}s"
    unit = max((u for u in "mhd" if seconds >= _SPANS[u]), key=_SPANS.__getitem__)
    return f"{seconds / _SPANS[unit]:.0f}{unit}"


def moment_text(moment: float) -> str:
    """A time for people, in UTC; ``-`` for none."""
    if not moment:
        return "-"
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "?"


def count_text(count: int) -> str:
    """A number for people: ``12,345``."""
    return f"{count:,}"


def entries_text(count: int) -> str:
    """How many entries, for people: ``1 entry``, ``12,345 entries``."""
    return f"{count_text(count)} {'entry' if count == 1 else 'entries'}"


def aliases_text(count: int) -> str:
    """How many aliases, for people: ``1 alias``, ``12,345 aliases``."""
    return f"{count_text(count)} {'alias' if count == 1 else 'aliases'}"


def calls_text(count: int) -> str:
    """How many calls, for people: ``1 call``, ``12,345 calls``."""
    return f"{count_text(count)} {'call' if count == 1 else 'calls'}"


def answers_text(count: int) -> str:
    """How many answers, for people: ``1 answer``, ``12,345 answers``."""
    return f"{count_text(count)} {'answer' if count == 1 else 'answers'}"


def rule_names(rules: Iterable[str]) -> str:
    """The names of rules of equality, for where there is no room for all of each."""
    return ", ".join(dict.fromkeys(rule.partition("(")[0] for rule in rules))


_CONTROL: Final = {
    code: spelt for code, spelt in SPELT_OUT.items() if code not in (0x0A, 0x09, 0x200D)
}
_IN_JSON: Final = {code: json.dumps(chr(code))[1:-1] for code in SPELT_OUT if code >= 128} | {
    127: "\\u007f"
}

_LEAST: Final = 8
_SILENT: Final = 1.0
"""Seconds of work of which nothing is told."""

_STEP: Final = 0.2

T = TypeVar("T")


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a standard stream, which a service may be started without, is a terminal."""
    return stream is not None and stream.isatty()


class Meter:
    """A line on stderr, while work of more than a second goes on before a terminal.

    It tells what is done and what is left, how fast it goes, and when it ends at that speed.

    Args:
        doing: what is being done.
        total: how much there is to do, asked once it takes that long; 0 where it is not known.
        shown: writes an amount.
        done: how much was done, where that is not the number of items.
    """

    def __init__(
        self,
        doing: str,
        total: Callable[[], float],
        *,
        shown: Callable[[int], str] = lambda count: count_text(count),
        done: Callable[[], int] | None = None,
    ) -> None:
        self._doing = doing
        self._total = total
        self._shown = shown
        self._done = done

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """The items, as they pass."""
        if not is_terminal(sys.stderr):
            yield from items
            return
        began = monotonic()
        next_at, total, width = began + _SILENT, -1.0, 0
        try:
            for passed, item in enumerate(items, 1):
                yield item
                if (now := monotonic()) >= next_at:
                    total = self._total() if total < 0 else total
                    done = passed if self._done is None else self._done()
                    line = self._line(done, total, now - began)
                    width = self._draw(line, width)
                    next_at = now + _STEP
        finally:
            if width:
                self._draw("", width)

    def _line(self, done: int, total: float, seconds: float) -> str:
        if not done:
            return self._doing
        rate = done / seconds
        speed = (
            f"{self._shown(round(rate))}/s" if rate >= 1 else f"{span_text(seconds / done)} each"
        )
        if not total:
            return f"{self._doing}: {self._shown(done)}, {speed}"
        left = max(1.0, (total - done) / rate)
        percent = min(100, int(100 * done / total))
        end = f"{left:.0f}s" if left < 60 else span_text(left)
        whole = f"{self._shown(done)} of {self._shown(int(total))} ({percent}%)"
        return f"{self._doing}: {whole}, {speed}, {end} left"

    def _draw(self, line: str, width: int) -> int:
        """Put a line in the place of another; what is written next stands there as well."""
        line = line[: terminal_width() - 1]
        sys.stderr.write(f"\r{line.ljust(width)}\r")
        sys.stderr.flush()
        return len(line)


def clean(text: str) -> str:
    """Stored text that is safe to print: control characters, bar new lines and tabs, are spelt out.

    A lone surrogate, which has no bytes to print, is spelt out as well.
    """
    return text.translate(_CONTROL)


def json_line(value: Any) -> str:
    """JSON on one line that is safe to print: what moves or hides text is escaped."""
    return json.dumps(value, ensure_ascii=False).translate(_IN_JSON)


def one_line(text: str, width: int) -> str:
    """Stored text on one line of at most ``width`` columns."""
    line = clean(" ".join(text[: 4 * width].split()))
    if columns(line) <= width and len(text) <= 4 * width:
        return line
    if line.isascii():
        return line[: width - 1] + "…"
    while columns(line) > width - 1:
        line = line[:-1]
    return line + "…"


def line_end(text: str, width: int) -> str:
    """The end of a stored text on one line of at most ``width`` columns."""
    line = one_line(text, 4 * len(text))
    if columns(line) <= width:
        return line
    while columns(line) > width - 1:
        line = line[1:]
    return "…" + line


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
        padded = []
        for i, (cell, room) in enumerate(zip(row, widths, strict=True)):
            gap = " " * (room - columns(cell))
            padded.append(gap + cell if i in right else cell + gap)
        lines.append("  ".join(padded).rstrip())
    return lines
