"""``cachewrap runs diff``: what is different in one run, or one cache, beside another."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from decimal import Decimal
from itertools import zip_longest
from typing import Any, Final

import click

from cachewrap.cache import Cache
from cachewrap.cli.guess import CASSETTE, PACKED, is_place, is_url, runs_and_places
from cachewrap.cli.kept_runs import chosen
from cachewrap.cli.places import NoEntries, Where, where_beside
from cachewrap.cli.text import (
    clean,
    columns,
    count_text,
    json_line,
    one_line,
    span_text,
    table,
    terminal_width,
)
from cachewrap.errors import ConfigurationError, StoreError, printable
from cachewrap.ledger.answers import EntriesRun
from cachewrap.ledger.asked import Ignored
from cachewrap.ledger.diff import (
    CHANGED,
    KINDS,
    Change,
    Diff,
    check_condition,
    compare,
    ending,
)
from cachewrap.ledger.runs import Run, rename
from cachewrap.telemetry.usage import money_text

_SHOWN: Final = 20
_LINES: Final = 8
"""Lines of an answer that are shown, unless all of it is wanted."""

_WIDE: Final = 120
"""Columns from which on two answers stand side by side."""


def _runs_and_places(words: Sequence[str], named: bool) -> tuple[Sequence[str], Sequence[str]]:
    """The place and the two runs among some words; of two words each is a run or a whole cache."""
    places, names = runs_and_places(words, named)
    if len(words) == 2:
        return [], words
    if len(words) == 3 and len(names) != 2:
        places, names = list(words[2:]), list(words[:2])
    if len(names) != 2 or len(places) > 1 or (places and named):
        raise click.UsageError("give two runs, or two caches: cachewrap runs diff old new")
    return places, names


def _paths(context: click.Context, option: click.Parameter, given: Sequence[str]) -> list[str]:
    try:
        Ignored(given)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from None
    return list(given)


def _conditions(context: click.Context, option: click.Parameter, given: Sequence[str]) -> list[str]:
    found = [part.strip() for text in given for part in text.split(",") if part.strip()]
    try:
        for condition in found:
            check_condition(condition)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from None
    return found


@click.command(
    "diff",
    short_help="Compare two runs, or two caches.",
    epilog="""\b
Examples:
  cachewrap runs diff baseline candidate
  cachewrap runs diff baseline @ --ignore 'metadata.*' --fail-on 'changed,cost>5%'
  cachewrap runs diff baseline~1 baseline/retrieval --json | jq '.changes[].prompt'
  cachewrap runs diff baseline candidate --accept
  cachewrap runs diff .cache ../other/.cache
  cachewrap runs diff redis://host/0#nightly today

\b
Exit statuses:
  0  equal; or no condition of --fail-on holds; or accepted
  1  different; or a condition holds
  2  a wrong option, or no such run
  3  a cache cannot be used""",
)
@where_beside("runs", "BASELINE CANDIDATE [PLACE]", _runs_and_places)
@click.option(
    "--ignore",
    multiple=True,
    metavar="PATH",
    callback=_paths,
    help="A field of requests that makes no difference: model, messages[0].content, metadata.*",
)
@click.option(
    "--fail-on",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    callback=_conditions,
    help="Exit with 1 for these alone: new, changed, missing, changed>5, cost>5%, tokens>10%,"
    " time>20%, calls>0%. Several with commas.",
)
@click.option("--accept", is_flag=True, help="The candidate becomes the baseline.")
@click.option(
    "--only",
    type=click.Choice(KINDS[1:]),
    multiple=True,
    help="Show these alone.",
)
@click.option(
    "--limit",
    type=click.IntRange(0),
    metavar="N",
    help=f"Show so many differences, at most. By default {_SHOWN}; all with --json.",
)
@click.option("--full", is_flag=True, help="Whole answers, however long.")
@click.option("--json", "as_json", is_flag=True, help="For machines: one JSON document.")
def diff(
    runs: Sequence[str],
    where: Where,
    ignore: list[str],
    conditions: list[str],
    accept: bool,
    only: tuple[str, ...],
    limit: int | None,
    full: bool,
    as_json: bool,
) -> None:
    """Compare what CANDIDATE asked, and what it was answered, with BASELINE.

    Each is the name of a run: NAME, NAME~1 for the one before it, NAME/BLOCK for a block inside,
    @ for the newest of all. PLACE#NAME is a run in another place. A place alone, as a folder, a
    file of entries or a URL, is all that is stored there.

    Requests are paired by their keys; then those that are equal but for what is ignored, or for the
    model; then those that are near each other. Answers are the same if they say the same: ids,
    times and token counts are no part of that. Vectors are compared exactly. Tokens, time and cost
    are those of all answers, also of those that came from the cache.
    """
    with ExitStack() as opened:
        (baseline, old), (candidate, new) = (_side(word, where, opened) for word in runs)
        called = (runs[0], runs[1]) if old == new else (old, new)
        if accept:
            _check_accepted(baseline, candidate)
        compared = compare(baseline, candidate, ignore=ignore)
        failing = compared.failing(conditions)
        shown = [change for change in compared.changes if not only or change.kind in only]
        if as_json:
            whole = {**compared.as_dict(), "baseline": called[0], "candidate": called[1]}
            changes = shown if limit is None else shown[:limit]
            whole["changes"] = [change.as_dict() for change in changes]
            click.echo(json_line(_plain(whole | {"failing": failing})))
        else:
            most = _SHOWN if limit is None else limit
            for line in _text(compared, called, shown, most, full=full):
                click.echo(line)
        for path in compared.unmet:
            click.echo(f"--ignore {path}: no request that differs has this field", err=True)
        for line in failing:
            click.echo(f"failed: {line}", err=True)
        if accept:
            click.echo(clean(_accepted(baseline, candidate, new)), err=as_json)
            return
    sys.exit(1 if failing or not (conditions or compared.equal) else 0)


# -- what is meant ------------------------------------------------------------------------------


def _side(word: str, where: Where, opened: ExitStack) -> tuple[Run, str]:
    """The run, or the whole cache, that a word means, and what it is called."""
    is_run = "#" in word and not os.path.exists(word)
    if not is_run and (is_url(word) or _begins_a_path(word)):
        return _entries(word, where, opened), word
    try:
        ((_, run),) = opened.enter_context(chosen(where, [word]))
    except (click.ClickException, StoreError) as error:
        if not is_run and is_place(word):
            return _entries(word, where, opened), word
        if isinstance(error, StoreError):
            raise
        raise click.UsageError(error.message) from None  # the status of which is not 1
    return run, run.label


def _begins_a_path(word: str) -> bool:
    """Whether a word is a path for sure, and not the block of a run."""
    return word.startswith((".", "~", os.sep)) or word.endswith((CASSETTE, PACKED))


def _entries(word: str, where: Where, opened: ExitStack) -> Run:
    try:
        places = opened.enter_context(where.elsewhere(word).opened())
    except NoEntries as error:
        raise StoreError(error.message) from None
    if not places:
        raise StoreError(f"there is nothing in {word}")
    return EntriesRun(*(Cache(one.store, cache_seed=one.seed) for one in places), label=word)


# -- accepting ----------------------------------------------------------------------------------


def _check_accepted(baseline: Run, candidate: Run) -> None:
    if isinstance(candidate, EntriesRun) or isinstance(baseline, EntriesRun):
        raise click.UsageError("a whole cache cannot be accepted: give two runs")
    if not baseline.named:
        raise click.UsageError(f"{baseline.label} has no name that could be taken: rename it first")
    if candidate.section or baseline.section:
        raise click.UsageError("a block of a run cannot be accepted: give the whole run")
    stores: list[Any] = [baseline.cache.store, candidate.cache.store]
    if stores[0].logs_url != stores[1].logs_url:
        raise click.UsageError("the two are in different places: only a run beside it is accepted")


def _accepted(baseline: Run, candidate: Run, called: str) -> str:
    name = baseline.name
    if candidate.name == name and called == name:
        return f"{name} is the newest of its name already"
    run = rename(candidate, name)
    return f"{called} is the newest {name} now, number {run.number}; {name}~1 is the one before"


# -- for machines -------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


# -- for people ---------------------------------------------------------------------------------


def _text(
    diff: Diff, called: tuple[str, str], shown: Sequence[Change], most: int, *, full: bool
) -> Iterator[str]:
    width = terminal_width()
    for change in shown[:most]:
        yield from _change(change, width, full=full)
        yield ""
    if len(shown) > most:
        yield f"… and {count_text(len(shown) - most)} more: --limit {len(shown)} shows all"
        yield ""
    yield from _totals(diff, called, width)
    yield ""
    yield _counts(diff)


def _counts(diff: Diff) -> str:
    if diff.equal:
        return f"equal: {count_text(diff.same)} requests, and the same answers to them"
    found = [
        f"{count_text(sum(c.kind == kind for c in diff.changes))} {kind}" for kind in KINDS[1:]
    ]
    return f"different: {', '.join(found)}; {count_text(diff.same)} the same"


def _totals(diff: Diff, called: tuple[str, str], width: int) -> list[str]:
    old, new = diff.old_sums, diff.new_sums
    rows = [
        _row("calls", old.calls, new.calls, count_text),
        _row("from the cache", old.hits, new.hits, count_text),
        _row("tokens in", old.tokens_in, new.tokens_in, count_text),
        _row("tokens out", old.tokens_out, new.tokens_out, count_text),
        _row("time", old.seconds, new.seconds, span_text),
    ]
    if old.money is not None or new.money is not None:
        rows.append(_row("cost", old.money or 0, new.money or 0, lambda one: money_text(one)))
    head = ["", *(printable(name, 40) for name in called), ""]
    return table(head, rows, right=(1, 2, 3), width=width)


def _row(name: str, old: Any, new: Any, shown: Any) -> list[str]:
    apart = float(new - old)
    change = f"{apart / float(old):+.1%}" if old and apart else ""
    return [name, shown(old), shown(new), change]


def _change(change: Change, width: int, *, full: bool) -> Iterator[str]:
    """One difference: what was asked, how it differs, and what was answered."""
    call = change.call
    called = call.source if not call.model else f"{call.source}  {_models(change)}"
    count = max(change.old_count, change.new_count)
    times = f"  {count_text(count)} times" if count > 1 else ""
    key = f"  {call.key[:8]}" if call.key else ""
    yield one_line(f"{change.kind.upper():8} {called}{key}{_drawn(change)}{times}", width)
    if change.prompt:
        yield from _told("asked", one_line(change.prompt, 2 * width), width)
    for line in change.request:
        yield from _told("request", line, width)
    same = change.kind == CHANGED and not change.answer
    for line in change.answer[: None if full else _LINES]:
        yield from _told("answer", line, width)
    if same:
        yield from _told("answer", "the same", width)
    if change.kind == CHANGED and not same:
        yield from _both(change, width, full=full)
        return
    text = change.old_answer if change.new_answer is None else change.new_answer
    if text:
        yield from (f"    {line}".rstrip() for line in _cut(text, width - 4, full=full))
    elif not call.answered:
        yield from _told("answer", ending(call), width)


def _told(name: str, text: str, width: int) -> Iterator[str]:
    """A line of what is known, on as many lines of the terminal as it takes."""
    for line in _wrapped(clean(text), max(20, width - 12)):
        yield f"  {name:10}{line}"
        name = ""


def _models(change: Change) -> str:
    models = [call.model for call in (change.old, change.new) if call is not None]
    return " → ".join(dict.fromkeys(models))


def _drawn(change: Change) -> str:
    """The sample, and the seeds where they differ."""
    call = change.call
    sample = f"  #{call.sample}" if call.sample else ""
    seeds = list(dict.fromkeys(one.seed for one in (change.old, change.new) if one is not None))
    return f"{sample}  seed {' → '.join(seeds)}" if len(seeds) > 1 else sample


def _both(change: Change, width: int, *, full: bool) -> Iterator[str]:
    gone = "(none)"
    old = gone if change.old_answer is None else change.old_answer
    new = gone if change.new_answer is None else change.new_answer
    if change.old_answer is None and change.new_answer is None:
        return
    if width >= _WIDE:
        room = (width - 7) // 2
        left, right = _cut(old, room, full=full), _cut(new, room, full=full)
        for one, other in zip_longest(left, right, fillvalue=""):
            yield f"    {one}{' ' * (room - columns(one))} │ {other}".rstrip()
        return
    for sign, text in (("-", old), ("+", new)):
        for line in _cut(text, width - 6, full=full):
            yield f"    {sign} {line}".rstrip()


def _cut(text: str, width: int, *, full: bool) -> list[str]:
    """A text in lines of so many columns; only the first of them unless all of it is wanted."""
    lines: list[str] = []
    for line in clean(text).expandtabs(4).splitlines() or [""]:
        lines += _wrapped(line, max(20, width))
        if not full and len(lines) > _LINES:
            break
    if full or len(lines) <= _LINES:
        return lines
    return [*lines[: _LINES - 1], "…"]


def _wrapped(line: str, width: int) -> list[str]:
    if line.isascii():
        return textwrap.wrap(line, width, break_on_hyphens=False) or [""]
    found, room = [""], width
    for character in line:
        size = columns(character)
        if size > room:
            found.append("")
            room = width
        found[-1] += character
        room -= size
    return found
