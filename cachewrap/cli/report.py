"""``cachewrap report`` and ``view``: a cache as a page to look at."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import webbrowser
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

import click

from cachewrap.cli.entries import Skipped, filter_options, wanted_rows
from cachewrap.cli.guess import page_and_places
from cachewrap.cli.kept_runs import Kept, kept_in, named, opened
from cachewrap.cli.options import together
from cachewrap.cli.page_files import PAGE_BYTES, check_replaceable, replacing
from cachewrap.cli.places import Place, Where, progress, where_beside, where_options
from cachewrap.cli.report_runs import (
    OnPage,
    Shown,
    shown_as,
    shown_runs,
    write_diff,
    write_runs,
)
from cachewrap.cli.survey import Survey, alias_pairs, line, read_again
from cachewrap.cli.talk import Conversations, Talk
from cachewrap.cli.text import count_text, size_text
from cachewrap.entries.filters import Filter
from cachewrap.report import Document
from cachewrap.telemetry.usage import can_price

_FILE: Final = "report.html"
_SHOWN: Final = 10_000
_MOST: Final = 100_000
_FILTER_TEXTS: Final[dict[str, Callable[[Any], str]]] = {
    **dict.fromkeys(("min_size", "max_size"), size_text),
}

page_options: Final = together(
    click.option("--title", metavar="TEXT", help="The title of the page."),
    click.option("--run", "run_name", metavar="NAME", help="The run that the page opens with."),
    click.option(
        "--against",
        metavar="NAME",
        help="The run that --run is compared with. [PLACE#NAME] is one of another cache.",
    ),
    click.option(
        "--limit",
        type=click.IntRange(0, _MOST),
        default=_SHOWN,
        show_default=True,
        metavar="N",
        help="Conversations on the page: the newest N, and those that are listed on it.",
    ),
    click.option(
        "--no-content", is_flag=True, help="Numbers only: no prompt, answer, key or name of a run."
    ),
)


@click.command(
    "report",
    short_help="Write a page to look at.",
    epilog="""\b
Examples:
  cachewrap report
  cachewrap report .cache week.html --newer-than 7d --title 'This week'
  cachewrap report --run candidate --against baseline
  cachewrap report -o numbers.html --no-content""",
)
@where_beside("page", "[PLACE]... [FILE.html]", page_and_places)
@filter_options
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    help=f"The file; - is the output.  [default: {_FILE}]",
)
@click.option("--force", is_flag=True, help="Replace a file that is not a page of cachewrap.")
@page_options
def command(page: str | None, output: str | None, force: bool, **given: Any) -> None:
    """Write what is stored to one page, which needs no server and no network.

    It shows totals, the runs and what they saved, when answers were stored, what was called, the
    slowest and the most expensive requests, and the conversations, to be searched and opened. All
    entries that fit the filters are counted; the conversations are those of the newest. A run
    opens as a timeline of its calls; --run A --against B shows what changed from B to A.

    A report that is there is replaced. Another file is replaced after asking on a terminal, or
    with --force. The page holds prompts and answers: it is readable by its owner alone.
    """
    if page and output:
        raise click.UsageError(f"give {page} or --output {output}, not both")
    output = page or output or _FILE
    if output == "-":
        write_page(sys.stdout.buffer, **given)
        return
    check_replaceable(output, force)
    with replacing(output) as file:
        shown = write_page(file, **given)
    size = size_text(os.stat(output).st_size)
    conversations = "1 conversation" if shown == 1 else f"{count_text(shown)} conversations"
    click.echo(f"{output}: {size}, {conversations}")


@click.command(
    "view",
    short_help="Look at a cache in the browser.",
    epilog="""\b
Examples:
  cachewrap view
  cachewrap view --model 'gpt-4*' --newer-than 1d
  cachewrap view --no-open --url redis://localhost/0""",
)
@where_options
@filter_options
@click.option("--open/--no-open", "is_opened", default=True, help="Open it in the browser.")
@page_options
def view(is_opened: bool, **given: Any) -> None:
    """Write the page of `report` to a temporary file, and open that in the browser.

    Its path is printed. The file stays until it is removed.
    """
    handle, path = tempfile.mkstemp(prefix="cachewrap-", suffix=".html")
    try:
        with open(handle, "wb") as file:
            write_page(file, **given)
    except BaseException:
        os.unlink(path)
        raise
    click.echo(path)
    if is_opened and not webbrowser.open(Path(path).as_uri()):
        click.echo("no browser could be started: open the file yourself", err=True)


def write_page(
    file: BinaryIO,
    where: Where,
    wanted: Filter,
    limit: int,
    no_content: bool,
    title: str | None,
    run_name: str | None,
    against: str | None,
) -> int:
    """Write the page; how many conversations it holds."""
    if against and not run_name:
        raise click.UsageError("--against needs the run that is compared with it: give --run too")
    skipped = Skipped()
    with where.opened() as places, ExitStack() as others:
        kept = kept_in(places)
        shown = shown_runs(kept)
        run, baseline = (_named(one, kept, shown, others) for one in (run_name, against))
        survey = Survey(0 if no_content else limit)
        rows = wanted_rows(places, wanted, skipped)
        for row in progress(rows, places, "reading"):
            survey.add(row)
        name = where.text(places)
        document = Document(file, title or "cachewrap report")
        told = 0
        lines: dict[tuple[str, str], tuple[int, float]] = {}
        conversations = Conversations()

        def picture(address: str) -> int | None:
            return document.picture(address) if document.written < PAGE_BYTES else None

        names = [] if no_content else survey.shown()
        if run is not None and not no_content and not wanted:
            names = list(dict.fromkeys([*names, *_asked(run, places, limit)]))
        for row in read_again(names):
            said = Talk(row, picture)
            fits = document.written < PAGE_BYTES
            document.add(line(row, said), said.told if fits else None)
            conversations.add(row, said if fits else None)
            told += fits
            lines[row.place.seed, row.key] = len(lines), row.entry.created

        def put(name: str, data: Any) -> bool:
            fits = document.written < PAGE_BYTES
            if fits:
                document.put(name, data)
            return fits

        on_page = OnPage(wanted, not no_content, lines)
        difference = None if baseline is None else write_diff(baseline, run, on_page, put)
        document.finish(
            {
                **survey.figures(),
                **write_runs(shown, run, on_page, put),
                "diff": difference,
                "title": title or "",
                "made": time.time(),
                "place": "" if no_content else name,
                "seeds": [] if no_content else [place.seed for place in places],
                "filters": _filters(wanted, no_content),
                "content": not no_content,
                "threads": conversations.found(),
                "told": told,
                "priced": can_price(),
                "unreadable": skipped.count,
                "reasons": [] if no_content else sorted(skipped.reasons.items()),
                "aliases": [survey.total.aliases, [] if no_content else alias_pairs(survey)],
                "slowest": _listed(survey.slowest.names(), no_content),
                "costliest": _listed(survey.costliest.names(), no_content),
            }
        )
    skipped.tell()
    return told


def _named(
    which: str | None, kept: list[Kept], shown: list[Shown], others: ExitStack
) -> Shown | None:
    """The run that an option names, in these places or in another one (``PLACE#NAME``)."""
    if which is None:
        return None
    place, _, name = which.rpartition("#")
    here = [one for one in kept if one.name == place] if place else kept
    if place and not here:
        here = others.enter_context(opened(Where(place, None, False, [place])))
    return shown_as(which, named(here, name or "@")[1], shown)


def _asked(run: Shown, places: list[Place], limit: int) -> list[tuple[Place, str]]:
    """The entries that a run was answered from, in its order: the first ones."""
    by_seed = {place.seed: place for place in places}
    found = {
        (by_seed[call.seed], call.key): None
        for call in run.run.calls()
        if call.key and call.seed in by_seed
    }
    return list(found)[:limit]


def _listed(names: list[tuple[Place, str]], no_content: bool) -> list[list[Any]]:
    """The names of entries that the page has; where it has none, their numbers."""
    if no_content:
        return [line(row, None) for row in read_again(names)]
    return [[place.seed, key] for place, key in names]


def _filters(wanted: Filter, no_content: bool) -> list[str]:
    """The filters that were given, as they are given on the command line."""
    given = []
    for name in Filter.__dataclass_fields__:
        value = getattr(wanted, name)
        if value is None or (no_content and name == "text"):
            continue
        given.append(f"--{name.replace('_', '-')} {_FILTER_TEXTS.get(name, str)(value)}")
    return given
