"""Spans of time and sizes as people write and read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

import click

_SPANS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SIZES: Final = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_NUMBER: Final = r"(\d+(?:\.\d+)?)"


def span(text: str) -> float:
    """``90s``, ``15m``, ``12h``, ``30d``, ``2w``: as seconds. Raises `click.BadParameter`."""
    match = re.fullmatch(rf"{_NUMBER}\s*([smhdw])", text.strip().lower())
    if match is None:
        raise click.BadParameter(f"{text!r} is no span: write 90s, 15m, 12h, 30d or 2w")
    return float(match[1]) * _SPANS[match[2]]


def size(text: str) -> int:
    """``500``, ``10k``, ``2G``: as bytes, in steps of 1024. Raises `click.BadParameter`."""
    match = re.fullmatch(rf"{_NUMBER}\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if match is None:
        raise click.BadParameter(f"{text!r} is no size: write 500, 10k, 500M or 2G")
    return int(float(match[1]) * _SIZES[match[2]])


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
