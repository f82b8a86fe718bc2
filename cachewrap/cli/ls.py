"""``cachewrap ls``: the entries, one line each, as they are found."""

from __future__ import annotations

import heapq
import itertools
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import click

from cachewrap.cli.entries import Row, Skipped, facts_and_texts, filter_options, wanted_rows
from cachewrap.cli.places import Where, json_option, where_options
from cachewrap.cli.text import (
    columns,
    is_terminal,
    json_line,
    line_end,
    moment_text,
    one_line,
    rule_names,
    size_text,
    span_text,
    terminal_width,
)
from cachewrap.entries.conversation import KEY_ALONE
from cachewrap.entries.filters import Filter, is_endpoint, short_source
from cachewrap.errors import CorruptEntryError, printable

_ORDERS: Final[dict[str, tuple[Callable[..., list[Row]], Callable[[Row], Any]]]] = {
    "newest": (heapq.nlargest, lambda row: row.entry.created),
    "oldest": (heapq.nsmallest, lambda row: row.entry.created),
    "largest": (heapq.nlargest, lambda row: row.size),
    "slowest": (heapq.nlargest, lambda row: row.entry.seconds),
    "tokens": (heapq.nlargest, lambda row: row.entry.tokens_in + row.entry.tokens_out),
}
_SORTED: Final = 50
_MEASURED: Final = 40
"""Entries, at most, by which the widths of the columns are measured."""
_MEASURED_SECONDS: Final = 0.3
_KEY: Final = 8
_LANGCHAIN: Final = "langchain"
_DATE: Final = re.compile(r"-\d{4}-\d\d-\d\d$|-20\d{6}$")


@click.command(
    "ls",
    short_help="List the entries, filtered.",
    epilog="""\b
Examples:
  cachewrap ls --newer-than 1h
  cachewrap ls --model 'gpt-4*' --text 'refund' --json | jq .prompt
  cachewrap ls --function summarise --sort slowest --limit 10
  cachewrap ls --newer-than 2026-11-01 --answers
  cachewrap ls --url redis://localhost/0 --all-seeds --min-size 1M""",
)
@where_options
@filter_options
@click.option("--sort", type=click.Choice(list(_ORDERS)), help="Read all, and show the first.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help=f"At most so many. By default all of them; {_SORTED} with --sort.",
)
@click.option("--offset", type=click.IntRange(0), default=0, metavar="N", help="Skip so many.")
@click.option("--answers", is_flag=True, help="The beginning of each answer as well.")
@click.option("--dates", is_flag=True, help="When each was stored, in UTC, instead of its age.")
@json_option
def command(
    where: Where,
    wanted: Filter,
    sort: str | None,
    limit: int | None,
    offset: int,
    answers: bool,
    dates: bool,
    as_json: bool,
) -> None:
    """List the entries that fit every filter, one line each.

    They are shown as they are found, in the store's own order; a cache of any size is never held
    in memory. On a terminal what is longer than the screen goes through a pager. `#2` before a
    prompt is the number of a sample, `(alias of 91aa…)` says whose answer it has, `≈` an entry
    that is stored under rules of equality, and `[…]` one element of a list. A line of --json has
    prompt and answer as well.
    """
    with where.opened() as places:
        skipped = Skipped()
        rows: Iterable[Row] = wanted_rows(places, wanted, skipped)
        if sort is None:
            rows = itertools.islice(rows, offset, None if limit is None else offset + limit)
        else:
            best, value = _ORDERS[sort]
            rows = best(offset + (limit or _SORTED), rows, key=value)[offset:]
        if as_json:
            for row in rows:
                click.echo(json_line(facts_and_texts(row)))
        else:
            several = len({place.seed for place in places}) > 1, any(place.name for place in places)
            lines = _lines(rows, several, answers=answers, dates=dates)
            _page(lines) if is_terminal(sys.stdout) else _print(lines)
        skipped.tell()


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line, nl=False)


def _page(lines: Iterator[str]) -> None:
    """Print lines, through the user's pager where they are more than the screen has."""
    first = list(itertools.islice(lines, shutil.get_terminal_size().lines - 1))
    more = next(lines, None)
    if more is None:
        _print(first)
        return
    os.environ.setdefault("LESS", "FRX")  # what is seen stays on the screen
    click.echo_via_pager(itertools.chain(first, [more], lines))


# -- the table --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the table.

    Args:
        head: its name.
        text: its text for an entry, and a time that is now.
        most: columns of the terminal, at most.
        right: whether it is set to the right, as figures are.
        tail: whether its end is what tells it from others.
    """

    head: str
    text: Callable[[Row, float], str]
    most: int
    right: bool = False
    tail: bool = False


def _lines(
    rows: Iterable[Row], several: tuple[bool, bool], *, answers: bool, dates: bool
) -> Iterator[str]:
    width, now, rest = terminal_width(), time.time(), iter(rows)
    first = list(_measured(rest))
    if not first:
        yield "no entries\n"
        return
    ruled = any(row.by for row in first)
    shown = _columns(width, several, dates, ruled)
    widths = [_width_of(column, first, now) for column in shown]
    yield _line([column.head for column in shown], shown, widths, "PROMPT", width)
    for row in itertools.chain(first, rest):
        cells = [column.text(row, now) for column in shown]
        prompt = _prompt(row)
        yield _line(cells, shown, widths, _marks(row) + (prompt or f"→ {_answer(row)}"), width)
        if answers and prompt:
            yield _below(f"→ {_answer(row)}", width)


def _measured(rows: Iterator[Row]) -> Iterator[Row]:
    """The first entries: as many as it takes to measure columns, and as come soon."""
    end = time.monotonic() + _MEASURED_SECONDS
    for row in itertools.islice(rows, _MEASURED):
        yield row
        if time.monotonic() > end:
            return


def _columns(width: int, several: tuple[bool, bool], dates: bool, ruled: bool) -> list[_Column]:
    """The columns that there is room for beside the prompt.

    Args:
        width: of the terminal.
        several: whether there are several seeds, and several places.
        dates: whether dates are wanted instead of ages.
        ruled: whether rules changed some of the requests.
    """
    seeds, places = several
    age = _Column("STORED", _stored, 16) if dates else _Column("AGE", _age, 4, right=True)
    called = max(14, min(32, (width - 8) // 4))
    shown = [_Column("KEY", lambda row, now: row.key[:_KEY], _KEY)]
    shown += [_Column("SEED", lambda row, now: row.seed, 12)] if seeds else []
    shown += [_Column("PLACE", lambda row, now: row.place.name, 24, tail=True)] if places else []
    shown += [age]
    if width >= 110:
        shown += [_Column("SIZE", lambda row, now: size_text(row.size), 8, right=True)]
    if width >= 100:
        shown += [_Column("TOOK", _took, 5, right=True)]
    if width >= 72:
        shown += [_Column("TOKENS", _tokens, 11, right=True)]
    if width >= 140:
        shown += [_Column("CALLED", _source, 20)]
        shown += [_Column("MODEL", lambda row, now: row.model, called)]
    elif width >= 50:
        shown += [_Column("MODEL/FUNCTION", _called, called)]
    if ruled and width >= 90:
        shown += [_Column("BY RULE", _by, 24)]
    return shown


def _width_of(column: _Column, rows: list[Row], now: float) -> int:
    longest = max(columns(printable(column.text(row, now), 200)) for row in rows)
    return min(column.most, max(len(column.head), longest))


def _line(
    cells: list[str], shown: list[_Column], widths: list[int], prompt: str, width: int
) -> str:
    line = ""
    for cell, column, room in zip(cells, shown, widths, strict=True):
        if column.right:  # a figure, which is ours
            line += f"{cell:>{room}}  "
        else:
            text = line_end(cell, room) if column.tail else one_line(cell, room)
            line += text + " " * (room - columns(text) + 2)
    left = width - columns(line)
    return (line + one_line(prompt, left) if left > 1 else line[:width]).rstrip() + "\n"


def _below(text: str, width: int) -> str:
    return " " * (_KEY + 2) + one_line(text, max(2, width - _KEY - 2)) + "\n"


def _age(row: Row, now: float) -> str:
    if not row.entry.created:
        return "-"
    age = max(0.0, now - row.entry.created)
    return span_text(age) if age >= 60 else f"{int(age)}s"


def _stored(row: Row, now: float) -> str:
    return moment_text(row.entry.created)[:16]


def _took(row: Row, now: float) -> str:
    return span_text(row.seconds) if row.seconds else "-"


def _tokens(row: Row, now: float) -> str:
    asked, said = row.tokens_in, row.tokens_out
    return f"{_count(asked)}+{_count(said)}" if asked or said else "-"


def _count(number: int) -> str:
    if number < 10_000:
        return str(number)
    return f"{number / 1e3:.0f}k" if number < 999_500 else f"{number / 1e6:.1f}M"


def _by(row: Row, now: float) -> str:
    return rule_names(row.by) or "-"


def _called(row: Row, now: float) -> str:
    """What tells entries apart at a glance: the function, the model, else the endpoint."""
    source = _source(row, now)
    if row.model and (is_endpoint(row.source) or source == _LANGCHAIN):
        return _short_model(row.model)
    return source


@lru_cache(maxsize=256)
def _short_model(model: str) -> str:
    """A model's name without its provider and its date."""
    return _DATE.sub("", model.rpartition("/")[2])


def _source(row: Row, now: float) -> str:
    if row.source.startswith(_LANGCHAIN + ":"):
        return _LANGCHAIN
    if row.source == "cache.set":
        with suppress(CorruptEntryError):
            if row.messages and row.messages[-1].role == KEY_ALONE:
                return KEY_ALONE
    return short_source(row.source)


_UNDER_RULES: Final = "≈ "
_ELEMENT: Final = "[…] "


def _marks(row: Row) -> str:
    return f"{_UNDER_RULES * bool(row.rules)}{_ELEMENT * row.element}"


def _prompt(row: Row) -> str:
    try:
        sample = row.sample
        prompt = row.prompt
    except CorruptEntryError as error:
        return f"({error})"
    if row.alias_of:
        prompt = f"(alias of {row.alias_of[:_KEY]}) {prompt}"
    return f"#{sample} {prompt}" if sample else prompt


def _answer(row: Row) -> str:
    with suppress(CorruptEntryError):
        return row.answer
    return "(the answer cannot be read)"
