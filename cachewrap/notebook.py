"""HTML of what a cell of a notebook ends with: caches, counts, explanations, handles.

Nothing of it is trusted: all text is escaped, as names and prompts come from elsewhere. There are
no scripts, no pictures and no style sheets, and no colour of its own, so that it fits in light and
in dark notebooks.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Final

from cachewrap import blocks
from cachewrap.errors import SPELT_OUT, CachewrapError

_ROWS: Final = 12
"""Functions and models that a table shows."""

_LONGEST: Final = 20_000
"""Characters that are shown of a text."""

_COUNTED: Final = 1_000
"""Entries that are counted, in places where that takes no time."""

_LEAST: Final = 0.05
"""Seconds saved that are worth a word."""

_QUICK: Final = ("memory:", "disk:", "jsonl:")

_CELL: Final = ' style="text-align:left;padding:.1em 1em .1em 0"'
_BOX: Final = (
    '<div style="border:1px solid;border-color:color-mix(in srgb, currentColor 30%, transparent);'
    'border-radius:4px;padding:.4em .8em;max-width:60em;overflow-wrap:anywhere">{}</div>'
)


def of_cache(cache: Any) -> str:
    """A cache: where it is, what it does, what is there, and what it has counted."""
    seed = "caches nothing, as its seed is None" if cache.seed is None else f"seed {cache.seed}"
    mode = cache.policy.mode
    facts = [seed, *([f"mode {mode}"] if mode != "normal" else []), *_stored(cache)]
    stack = blocks.active()
    serves = bool(stack) and getattr(stack[-1], "url", None) == cache.url
    if serves:
        facts.append("serves the calls that are made here")
    elif cache.seed is not None and not cache.stats.calls:
        facts.append("serves calls inside `with cache:`, or from `cachewrap.activate(cache)` on")
    place = cache.url.partition("?")[0]
    head = f"<b>Cache</b> <code>{_text(place)}</code><br>{_text(' · '.join(facts))}"
    return _BOX.format(f"{head}<br>{_counted(cache.stats)}")


def of_stats(stats: Any) -> str:
    """What was counted: in a line, and by function and model."""
    return _BOX.format(_counted(stats))


def of_counts(counts: Any) -> str:
    """The counts of one function or model."""
    return _BOX.format(_line(counts.__class__.__name__, _counts(counts)))


def of_money(money: Any) -> str:
    """What was saved and spent."""
    return _BOX.format(_line("Money", _money(money)))


def of_text(text: str) -> str:
    """A message of several lines."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}…"
    lines = "\n".join(map(_text, text.split("\n")))
    return _BOX.format(f'<pre style="white-space:pre-wrap;margin:0">{lines}</pre>')


def of_line(text: str) -> str:
    """What an object says of itself, in angle brackets."""
    return _BOX.format(_text(text.removeprefix("<").removesuffix(">")))


def _text(text: object) -> str:
    return html.escape(str(text)[:_LONGEST].translate(SPELT_OUT))


def _line(name: str, text: str) -> str:
    return f"<b>{_text(name)}</b> {_text(text)}"


def _stored(cache: Any) -> list[str]:
    if cache.seed is None or not cache.url.startswith(_QUICK):
        return []  # who asks a server may wait
    try:
        found = sum(1 for _ in itertools.islice(cache.store.keys(), _COUNTED + 1))
    except CachewrapError as error:
        return [f"cannot be read: {error}"]
    if found > _COUNTED:
        return [f"more than {_COUNTED:,} entries"]
    return [_number(found, "entry", "entries")]


def _counted(stats: Any) -> str:
    facts = stats.as_dict()
    notes = [
        *_reasons("by rule", facts["by_rule"], facts["hits_by_rule"]),
        *_reasons("not stored", facts["unstored_reasons"]),
        *_reasons("not cacheable", facts["bypass_reasons"]),
        *_reasons("to hosts that are not known", facts["unknown_hosts"]),
    ]
    if facts["hits_by_alias"]:
        notes.append(f"{facts['hits_by_alias']:,} by alias")
    if facts["absent"]:
        notes.append(f"{facts['absent']:,} not stored, in mode replay")
    if facts["errors"]:
        notes.append(f"{_number(facts['errors'], 'fault', 'faults')} of the cache")
    if not stats.calls:
        return "<br>".join([_line("Stats", "no calls yet"), *map(_text, notes)])
    line = _counts(stats.total)
    if (money := stats.money()) is not None:
        line += f"; {_money(money)}"
    return "<br>".join([_line("Stats", line), *map(_text, notes)]) + _table(facts["groups"])


def _counts(counts: Any) -> str:
    served = counts.hits + counts.joined
    tokens = counts.tokens_in_saved + counts.tokens_out_saved
    saved = [f"{tokens:,} tokens"] if tokens else []
    if served and counts.seconds_saved >= _LEAST:
        saved.append(f"{counts.seconds_saved:,.1f} s")
    parts = [
        f"{_number(counts.calls, 'call', 'calls')}: {served:,} from the cache",
        *([f"{counts.misses:,} asked upstream"] if counts.misses else []),
        *([f"saved {', '.join(saved)}"] if saved else []),
    ]
    return "; ".join(parts)


def _money(money: Any) -> str:
    line = f"${money.saved:,.4f} saved, ${money.spent:,.4f} spent"
    return f"{line}; {told}" if (told := money.provider_text()) else line


def _number(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"


def _reasons(what: str, counted: Mapping[str, int], total: int | None = None) -> list[str]:
    """What was counted by its reason; of the total, where one thing may have several reasons."""
    if not counted:
        return []
    named = ", ".join(f"{name} ({count:,})" for name, count in itertools.islice(counted.items(), 5))
    return [f"{sum(counted.values()) if total is None else total:,} {what}: {named}"]


def _table(groups: list[dict[str, Any]]) -> str:
    groups = sorted(groups, key=lambda g: -(g["hits"] + g["joined"] + g["misses"]))
    rows = [
        ("function or endpoint", "model", "from the cache", "asked", "tokens saved"),
        *(
            (
                group["source"],
                group["reported"] or group["model"],
                f"{group['hits'] + group['joined']:,}",
                f"{group['misses']:,}",
                f"{group['tokens_in_saved'] + group['tokens_out_saved']:,}",
            )
            for group in groups[:_ROWS]
        ),
    ]
    told = [any(text not in ("", "0") for text in column[1:]) for column in zip(*rows, strict=True)]
    shown = "".join(
        _row("td" if number else "th", itertools.compress(row, told))
        for number, row in enumerate(rows)
    )
    more = f"… and {len(groups) - _ROWS:,} more" if len(groups) > _ROWS else ""
    return f'<table style="margin-top:.4em;color:inherit;font-size:inherit">{shown}</table>{more}'


def _row(cell: str, texts: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{cell}{_CELL}>{_text(text)}</{cell}>' for text in texts)}</tr>"
