"""``cachewrap runs``: the runs that a place keeps, listed, removed, renamed and exported."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from importlib import import_module
from typing import Any, Final, NoReturn

import click

from cachewrap.cli.entries import dry_run_option
from cachewrap.cli.export import Table, opened_anew
from cachewrap.cli.guess import (
    meant_command,
    places_alone,
    run_file_and_places,
    runs_and_places,
)
from cachewrap.cli.kept_runs import (
    NONE,
    Kept,
    chosen,
    facts_of,
    money_cell,
    opened,
    plain,
    program_of,
    short,
    state_text,
)
from cachewrap.cli.places import Where, json_option, where_beside
from cachewrap.cli.prune import is_meant, yes_option
from cachewrap.cli.text import (
    calls_text,
    clean,
    count_text,
    is_terminal,
    json_line,
    moment_text,
    span_text,
    table,
    terminal_width,
)
from cachewrap.errors import ConfigurationError, StoreError
from cachewrap.ledger import names
from cachewrap.ledger.calls import Call
from cachewrap.ledger.runs import (
    RUNNING,
    Run,
    remove,
    rename,
)
from cachewrap.ledger.totals import Sum, totals

_COMMANDS: Final = {
    "diff": "runs_diff",
    "export": "runs",
    "ls": "runs",
    "rename": "runs",
    "rm": "runs",
    "show": "runs_show",
}
"""Each with its module, in which it has its name, or one with a ``_`` behind it."""

_ALIKE: Final[dict[str, str]] = {
    **dict.fromkeys(("list", "all", "history", "log"), "ls"),
    **dict.fromkeys(("cat", "get", "info", "inspect", "view", "stats", "last", "open"), "show"),
    **dict.fromkeys(("compare", "cmp", "against", "changes", "accept"), "diff"),
    **dict.fromkeys(("delete", "del", "remove", "drop", "forget"), "rm"),
    **dict.fromkeys(("prune", "clean", "gc", "clear", "purge"), "rm --unnamed"),
    **dict.fromkeys(("mv", "move", "name", "tag", "label"), "rename"),
    **dict.fromkeys(("dump", "save", "csv", "json", "download"), "export"),
    **dict.fromkeys(("report", "html", "page"), "cachewrap report --run NAME"),
}
"""What is typed by those who know other tools."""


class _Runs(click.Group):
    """The commands for runs, each imported when it is asked for; without one it is `ls`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (home := _COMMANDS.get(cmd_name)) is None:
            return None
        module = import_module(f"cachewrap.cli.{home}")
        command: click.Command = getattr(module, cmd_name + "_" * (home == "runs"))
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = args[0] if args else ""
        own = first in ("-h", "--help") or first in _COMMANDS or first in _ALIKE
        if not own and (not first or first.startswith("-") or runs_and_places([first], False)[0]):
            args = ["ls", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if word not in _COMMANDS and not word.startswith("-"):
            meant = meant_command(word, _COMMANDS, _ALIKE) or f"show {' '.join(args)}"
            meant = meant if meant.startswith("cachewrap") else f"cachewrap runs {meant}"
            ctx.fail(f"No such command {word!r}: did you mean {meant}?")
        return super().resolve_command(ctx, args)


@click.group(
    "runs",
    cls=_Runs,
    short_help="Look at runs, and compare them.",
    epilog="""\b
A run is what was asked under one name, or by one program:
  cachewrap run --name baseline eval.py
  with cache.run("baseline"):

\b
NAME of a run:
  baseline            the newest of that name
  baseline~1          the one before it
  baseline/judge      what it asked in the block `judge`
  20261129-0412       one without a name: when it began, in UTC
  @, @~1              the newest of all, and the one before it
  .other#baseline     one that another place keeps

\b
Examples:
  cachewrap runs
  cachewrap runs show baseline
  cachewrap runs diff baseline candidate""",
)
def command() -> None:
    """List the runs that a place keeps, look at one, and compare two.

    Without a command it is `ls`. The last 20 runs without a name are kept; those with one until
    `rm` removes them.
    """


# -- the list -----------------------------------------------------------------------------------


@click.command(
    "ls",
    short_help="List the runs, the newest first.",
    epilog="""\b
Examples:
  cachewrap runs
  cachewrap runs redis://localhost/0 --limit 5
  cachewrap runs --json | jq 'select(.named) | .name'""",
)
@where_beside("", "[PLACE]...", places_alone, seeds=False)
@click.option("--named", is_flag=True, help="Only those that were given a name.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many.")
@json_option
def ls_(where: Where, named: bool, limit: int | None, as_json: bool) -> None:
    """List the runs that PLACE keeps, the newest first: what each asked, saved and spent.

    A run that is not said to have ended goes on, or was killed: what it asked until a second before
    is there. Calls that were joined count as hits. Tokens and money are what the answers from the
    store would have cost, and what upstream was asked for. Money needs: pip install
    'cachewrap[prices]'.
    """
    width = terminal_width()
    with opened(where) as found:
        kept = [(one, run) for one in found for run in one.runs if run.named or not named]
        kept.sort(key=lambda one: one[1].order, reverse=True)
        rows = []
        for one, run in kept[:limit]:
            sums = totals(run.calls()).sum
            if as_json:
                click.echo(json_line(facts_of(one, run, sums)))
            else:
                rows.append(_cells(one, run, sums, width >= _DATES))
            run.reload()
    if as_json:
        return
    if not rows:
        click.echo(NONE)
        return
    shown = _columns(rows, width)
    cut = [[row[name] for name in shown] for row in rows]
    right = [at for at, name in enumerate(shown) if name not in _TEXTS]
    click.echo("\n".join(table(shown, cut, right=right, width=width)))
    if len(kept) > len(rows):
        click.echo(f"and {count_text(len(kept) - len(rows))} more")


_DATES: Final = 110
"""Columns of the terminal from which on there is room for dates, and for tokens."""

_TEXTS: Final = frozenset(("RUN", "PLACE", "WHEN", "PROGRAM"))
_WIDE: Final = ("TOKENS SAVED", "TOKENS SPENT")
_OPTIONAL: Final = (*_WIDE, "PROGRAM", "BY RULE", "FAILED", "SAVED", "SPENT", "TOOK")
"""Columns that are left out where there is no room, the first ones first."""


def _cells(kept: Kept, run: Run, sums: Sum, dates: bool) -> dict[str, str]:
    state = state_text(run)
    begun = moment_text(run.started.timestamp())[:16]
    age = max(0.0, time.time() - run.started.timestamp())
    return {
        "RUN": run.label,
        "PLACE": kept.name,
        "WHEN": begun if dates else f"{span_text(age) if age >= 60 else f'{int(age)}s'} ago",
        "TOOK": state or span_text(run.seconds),
        "PROGRAM": program_of(run) or "-",
        "CALLS": count_text(sums.calls),
        "HITS": count_text(sums.hits + sums.joined),
        "BY RULE": count_text(sums.hits_by_rule),
        "MISSES": count_text(sums.misses),
        "FAILED": count_text(sums.failed),
        "TOKENS SAVED": short(sums.tokens_saved),
        "TOKENS SPENT": short(sums.tokens_spent),
        "SAVED": money_cell(sums.saved),
        "SPENT": money_cell(sums.spent),
    }


def _columns(rows: list[dict[str, str]], width: int) -> list[str]:
    shown = [name for name in rows[0] if name != "PLACE" or any(row["PLACE"] for row in rows)]
    for name, nothing in (("BY RULE", "0"), ("FAILED", "0"), ("SAVED", "-"), ("SPENT", "-")):
        if all(row[name] == nothing for row in rows):
            shown.remove(name)
    shown = [name for name in shown if width >= _DATES or name not in _WIDE]
    for name in _OPTIONAL:
        widths = [max(len(one), *(len(row[one]) for row in rows)) for one in shown]
        if sum(widths) + 2 * len(widths) - 2 <= width:
            break
        shown = [one for one in shown if one != name]
    return shown


# -- removal and names --------------------------------------------------------------------------


@click.command(
    "rm",
    short_help="Remove runs.",
    epilog="""\b
Examples:
  cachewrap runs rm candidate
  cachewrap runs rm nightly --all --dry-run
  cachewrap runs rm --unnamed --yes""",
)
@where_beside("wanted", "[PLACE]... [NAME]...", runs_and_places, seeds=False)
@click.option("--all", "every", is_flag=True, help="The earlier runs of each NAME as well.")
@click.option("--unnamed", is_flag=True, help="Every run that was given no name.")
@yes_option
@dry_run_option
def rm_(
    wanted: list[str], where: Where, every: bool, unnamed: bool, yes: bool, dry_run: bool
) -> None:
    """Remove the run of each NAME: the record of what it asked. The answers stay.

    Where a NAME has no run, nothing is removed, and the exit status is 1. Several are removed after
    asking on a terminal. A run that goes on cannot be removed.
    """
    if not wanted and not unnamed:
        raise click.UsageError("give the names of runs: cachewrap runs lists them; or --unnamed")
    with ExitStack() as places:
        found = [one for one in places.enter_context(chosen(where, wanted)) if not one[1].section]
        if len(found) < len(wanted):
            raise click.UsageError("a block is a part of its run: give the name without /")
        if every:
            found = [
                (kept, run) for kept, one in found for run in kept.runs if run.name == one.name
            ]
        if unnamed:
            every_kept = places.enter_context(opened(where))
            found += [(kept, run) for kept in every_kept for run in kept.runs if not run.named]
            found = [one for one in found if one[1].named or one[1].state != RUNNING]
        once = {(kept.url, run.log): run for kept, run in found}
        for run in once.values():
            if run.state == RUNNING:
                _refuse(f"{run.label} goes on: end it first")
        count = "1 run" if len(once) == 1 else f"{count_text(len(once))} runs"
        several = len(once) > 1 and not (yes or dry_run) and is_terminal(sys.stdin)
        if several and not is_meant(f"Remove {count}?"):
            return
        told = {
            log: f"{run.label}  {moment_text(run.started.timestamp())} UTC,"
            f" {calls_text(len(run.calls()))}"
            for log, run in once.items()
        }
        for log, run in once.items():
            if not dry_run:
                remove(run)
            click.echo(f"{'would remove' if dry_run else 'removed'} {clean(told[log])}")
        if not once:
            click.echo("no run was given no name")


def _refuse(why: str) -> NoReturn:
    click.echo("nothing was changed", err=True)
    raise click.ClickException(clean(why))


@click.command(
    "rename",
    short_help="Give a run another name, or one at all.",
    epilog="""\b
Examples:
  cachewrap runs rename candidate baseline
  cachewrap runs rename @ before-the-new-prompt
  cachewrap runs rename redis://localhost/0 20261129-0412 nightly""",
)
@where_beside("words", "[PLACE]... OLD NEW", runs_and_places, seeds=False)
def rename_(words: list[str], where: Where) -> None:
    """Give the run OLD the name NEW, of which it is the newest then.

    A run that had the name before is NEW~1. A run without a name is kept from then on.
    """
    if len(words) != 2:
        raise click.UsageError("give two names: cachewrap runs rename OLD NEW")
    old, new = words
    try:
        names.check_name(new)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    with chosen(where, [old]) as ((_, run),):
        if run.section:
            raise click.UsageError("a block is a part of its run: give the name without /")
        if run.state == RUNNING:
            _refuse(f"{run.label} goes on: end it first")
        label = run.label
        rename(run, new)
    click.echo(f"{clean(label)} is {clean(new)} now")


# -- a file of calls ----------------------------------------------------------------------------


class _Calls(Table):
    """A table with a row for each call."""

    COLUMNS = tuple(Call(0, "", "", "", "", "", 0, 0.0, 0.0).as_dict())


@click.command(
    "export",
    short_help="Write the calls of a run to a file, as lines of JSON or as CSV.",
    epilog="""\b
Examples:
  cachewrap runs export baseline calls.csv
  cachewrap runs export @ | jq 'select(.outcome == "failed")'
  cachewrap runs export redis://localhost/0 nightly calls.jsonl --overwrite""",
)
@where_beside("words", "[PLACE]... NAME [FILE]", run_file_and_places, seeds=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(("jsonl", "csv")),
    help="By default that of the file's name, else jsonl.",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
@click.option(
    "--exact",
    is_flag=True,
    help="Of CSV: no ' before a text that a spreadsheet would run as a formula.",
)
def export_(
    words: tuple[list[str], str | None],
    where: Where,
    form: str | None,
    overwrite: bool,
    exact: bool,
) -> None:
    """Write every call of a run to FILE, in the order in which they began; - is the output.

    A row has the key of the request, so `cachewrap show KEY` has what was asked and answered, and
    the outcome, function or endpoint, model, times, tokens, money, thread or task, and block.
    """
    wanted, file = words
    if len(wanted) != 1:
        raise click.UsageError("give one run: cachewrap runs lists them")
    file = file or "-"
    as_csv = (form or ("csv" if file.lower().endswith(".csv") else "jsonl")) == "csv"
    with chosen(where, wanted) as ((_, run),):
        calls = run.calls()
        rows = (plain(call.as_dict()) for call in calls)
        if as_csv:
            with _Calls.to(file, overwrite, exact) as output:
                for row in rows:
                    output.put({**row, "rules": "; ".join(row["rules"])})
        elif file == "-":
            for row in rows:
                click.echo(json_line(row))
        else:
            _write_lines(file, overwrite, rows)
    if file != "-":
        click.echo(f"exported {calls_text(len(calls))} to {clean(file)}")


def _write_lines(path: str, overwrite: bool, rows: Iterable[dict[str, Any]]) -> None:
    try:
        with opened_anew(path, overwrite) as file:
            for row in rows:
                file.write(json_line(row).encode("utf-8", "backslashreplace") + b"\n")
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error}") from error
