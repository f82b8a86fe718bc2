"""Plots of what was measured, as SVG that can be read on a light page and on a dark one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from benchmarks.harness import Result

WIDTH = 760
_SDKS = ("chat", "responses", "embeddings", "anthropic")
_STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 } .small { font-size: 11px }
.ours { fill: #1a7f37 } .other { fill: #8c959f } .line { stroke: #1a7f37; fill: none }
.grid { stroke: #d1d9e0 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .ours { fill: #3fb950 } .other { fill: #6e7681 }
  .line { stroke: #3fb950 } .grid { stroke: #3d444d }
}
</style>"""


def bars(title: str, rows: Sequence[tuple[str, float, bool]], unit: str) -> str:
    """Horizontal bars on a logarithmic scale.

    Args:
        title: above them.
        rows: the label of each, its value, and whether it is ours.
        unit: behind each value.
    """
    low = min(value for _, value, _ in rows) / 2
    span = math.log(max(value for _, value, _ in rows) / low)
    left, right = 260, 90
    lines = [f'<text class="title" x="8" y="22">{escape(title)}</text>']
    for index, (label, value, ours) in enumerate(rows):
        y = 40 + 26 * index
        length = (WIDTH - left - right) * math.log(value / low) / span
        kind = "ours" if ours else "other"
        lines += [
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(label)}</text>',
            f'<rect class="{kind}" x="{left}" y="{y}" width="{length:.1f}" height="18" rx="2"/>',
            f'<text class="small" x="{left + length + 6:.1f}" y="{y + 13}">'
            f"{_short(value)} {escape(unit)}</text>",
        ]
    return _svg(50 + 26 * len(rows), lines)


def line(title: str, points: Sequence[tuple[str, float]], unit: str) -> str:
    """A line through points at equal distances, on a logarithmic scale of values."""
    height, left, bottom, top = 300, 70, 36, 40
    low = min(value for _, value in points) / 1.5
    high = max(value for _, value in points) * 1.5
    span = math.log(high / low)

    def place(index: int, value: float) -> tuple[float, float]:
        x = left + 40 + (WIDTH - left - 100) * index / max(1, len(points) - 1)
        return x, height - bottom - (height - bottom - top) * math.log(value / low) / span

    lines = [f'<text class="title" x="8" y="22">{escape(title)}</text>']
    power = math.ceil(math.log10(low))
    while 10**power <= high:
        _, y = place(0, 10**power)
        lines += [
            f'<line class="grid" x1="{left}" x2="{WIDTH - 20}" y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<text class="small" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">'
            f"{_short(10**power)} {escape(unit)}</text>",
        ]
        power += 1
    placed = [place(index, value) for index, (_, value) in enumerate(points)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    lines.append(f'<polyline class="line" stroke-width="2" points="{path}"/>')
    for (label, value), (x, y) in zip(points, placed, strict=True):
        lines += [
            f'<circle class="ours" cx="{x:.1f}" cy="{y:.1f}" r="4"/>',
            f'<text class="small" x="{x:.1f}" y="{y - 9:.1f}" text-anchor="middle">'
            f"{_short(value)}</text>",
            f'<text class="small" x="{x:.1f}" y="{height - 12}" text-anchor="middle">'
            f"{escape(label)}</text>",
        ]
    return _svg(height, lines)


def plots(results: Sequence[Result]) -> dict[str, str]:
    """Every plot that the results suffice for, by the name of its file."""
    found: dict[str, str] = {}
    for group, file, title in (
        ("hits by messages", "messages", "A hit on disk, by the messages of the conversation"),
        ("hits by size of the answer", "entries", "A hit on disk, by the size of the answer"),
        ("size of the store", "stores", "A hit on disk, by the entries in the store"),
    ):
        points = [
            (one.row.removeprefix("hit among "), one.microseconds)
            for one in results
            if one.group == group
        ]
        if points:
            found[f"{file}.svg"] = line(title, points, "µs")
    rates = [
        (one.row, one.microseconds, True) for one in results if one.group == "hits in a second"
    ]
    if rates:
        found["throughput.svg"] = bars("Hits on disk in a second", rates, "")
    shares = [
        (one.group, 100 * one.ratio, True)
        for one in results
        if (one.group.partition(",")[0] in _SDKS and one.row == "hit on disk")
    ]
    if shares:
        title = "A hit on disk, as a share of the SDK's own work for the same call"
        found["shapes.svg"] = bars(title, shares, "%")
    hits = [
        (label, one.microseconds, ours)
        for group, row, label, ours in (
            ("function on disk, small", "diskcache get", "a raw diskcache read", False),
            ("function in memory, small", "hit", "cachewrap, function, memory", True),
            ("function on disk, small", "hit", "cachewrap, function, disk", True),
            ("openai chat, small", "hit on disk", "cachewrap, OpenAI SDK, disk", True),
        )
        for one in results
        if (one.group, one.row) == (group, row)
    ]
    peers = {one.row: one for one in results if one.group == "peers, small"}
    hits += [(row, one.microseconds, False) for row, one in peers.items()]
    hits += [
        ("the OpenAI SDK's own work", one.microseconds, False)
        for one in results
        if (one.group, one.row) == ("openai chat, small", "SDK alone")
    ]
    if hits:
        found["hits.svg"] = bars("A hit of one small chat request", hits, "µs")
    return found


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _svg(height: int, lines: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
    return "\n".join([head, _STYLE, *lines, "</svg>", ""])
