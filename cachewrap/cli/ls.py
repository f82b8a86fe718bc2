"""``cachewrap ls``: the entries, one line each, as they are found."""

from __future__ import annotations

import heapq
import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import click

from cachewrap.cli.conversation import request_turns
from cachewrap.cli.entries import Filter, Row, Skipped, filter_options, wanted_rows
from cachewrap.cli.places import Where, json_option, where_options
from cachewrap.cli.text import (
    columns,
    is_terminal,
    json_line,
    one_line,
    size_text,
    span_text,
    terminal_width,
)
from cachewrap.errors import CorruptEntryError

_ORDERS: Final[dict[str, tuple[Callable[..., list[Row]], Callable[[Row], Any]]]] = {
    "newest": (heapq.nlargest, lambda row: row.entry.created),
    "oldest": (heapq.nsmallest, lambda row: row.entry.created),
    "largest": (heapq.nlargest, lambda row: row.size),
    "slowest": (heapq.nlargest, lambda row: row.entry.seconds),
    "tokens": (heapq.nlargest, lambda row: row.entry.tokens_in + row.entry.tokens_out),
}
_SORTED: Final = 50
_HEAD: Final = (
    f"{'KEY':12}  {'AGE':>5}  {'SIZE':>8}  {'TOOK':>6}  {'TOKENS':>8}  MODEL, SOURCE, PROMPT"
)
_NARROW_HEAD: Final = f"{'KEY':12}  {'AGE':>5}  MODEL, SOURCE, PROMPT"
_WIDE: Final = 72
"""Columns of a terminal, below which size, time and tokens are left to ``show``."""


@click.command(
    "ls",
    short_help="List the entries, filtered.",
    epilog="""\b
Examples:
  cachewrap ls --newer-than 1h
  cachewrap ls --model 'gpt-4*' --text 'refund' --json | jq .key
  cachewrap ls --function summarise --sort slowest --limit 10
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
@json_option
def command(
    where: Where,
    wanted: Filter,
    sort: str | None,
    limit: int | None,
    offset: int,
    as_json: bool,
) -> None:
    """List the entries that fit every filter, one line each.

    They are shown as they are found, in the store's own order, on a terminal through a pager; a
    cache of any size is never held in memory.
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
                click.echo(json_line(row.facts()))
        elif is_terminal(sys.stdout):
            click.echo_via_pager(_lines(rows))
        else:
            for line in _lines(rows):
                click.echo(line, nl=False)
        skipped.tell()


def _lines(rows: Iterable[Row]) -> Iterator[str]:
    width, now = terminal_width(), time.time()
    narrow = width < _WIDE
    found = False
    for row in rows:
        if not found:
            yield f"{_NARROW_HEAD[:width] if narrow else _HEAD}\n"
        found = True
        entry = row.entry
        tokens = f"{entry.tokens_in}+{entry.tokens_out}" if entry.tokens_in else "-"
        facts = f"{row.key[:12]}  {span_text(max(0.0, now - entry.created)):>5}  "
        if not narrow:
            facts += f"{size_text(row.size):>8}  {span_text(entry.seconds):>6}  {tokens:>8}  "
        left = width - columns(facts)
        for text in (row.model, _short(row.source), _last_said(row)):
            if text and left > 1:
                shown = one_line(text, left)
                facts += f"{shown}  "
                left -= columns(shown) + 2
        yield facts.rstrip() + "\n"
    if not found:
        yield "no entries\n"


def _short(source: str) -> str:
    """The path of an endpoint, or the name of a function without its module."""
    return source.rpartition(" /")[2] if " /" in source else source.rpartition(":")[2]


def _last_said(row: Row) -> str:
    try:
        turns = request_turns(row.request)
    except CorruptEntryError as error:
        return f"({error})"
    return turns[-1].text if turns else ""
