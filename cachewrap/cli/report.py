"""``cachewrap report`` and ``view``: a cache as a page to look at."""

from __future__ import annotations

import itertools
import os
import stat
import sys
import tempfile
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

import click

from cachewrap import systems
from cachewrap.cli.entries import Skipped, filter_options, wanted_rows
from cachewrap.cli.guess import page_and_places
from cachewrap.cli.options import together
from cachewrap.cli.places import Place, Where, progress, where_beside, where_options
from cachewrap.cli.survey import Calls, Survey, line, read_again
from cachewrap.cli.talk import Talk, Threads
from cachewrap.cli.text import clean, count_text, is_terminal, size_text
from cachewrap.entries.filters import Filter
from cachewrap.errors import ConfigurationError, StoreError
from cachewrap.history import NAME, Minute, read_history
from cachewrap.report import Document, is_report
from cachewrap.stores.base import Files
from cachewrap.telemetry.usage import can_price

_FILE: Final = "report.html"
_SHOWN: Final = 10_000
_MOST: Final = 100_000
_FILTER_TEXTS: Final[dict[str, Callable[[Any], str]]] = {
    **dict.fromkeys(("min_size", "max_size"), size_text),
}
_PAGE_BYTES: Final = 100 * 2**20
"""From there on conversations are left out: a browser has to hold all of it."""


page_options: Final = together(
    click.option("--title", metavar="TEXT", help="The title of the page."),
    click.option(
        "--history",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False),
        help="Hits and misses as cachewrap.history.History wrote them. By default those that"
        " `cachewrap run` kept in a disk cache.",
    ),
    click.option(
        "--limit",
        type=click.IntRange(0, _MOST),
        default=_SHOWN,
        show_default=True,
        metavar="N",
        help="Conversations on the page: the newest N, and those that are listed on it.",
    ),
    click.option("--no-content", is_flag=True, help="Numbers only: no prompt, answer or key."),
)


@click.command(
    "report",
    short_help="Write a page to look at.",
    epilog="""\b
Examples:
  cachewrap report
  cachewrap report .cache week.html --newer-than 7d --title 'This week'
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
@click.option("--force", is_flag=True, help="Replace a file that is not a report.")
@page_options
def command(page: str | None, output: str | None, force: bool, **given: Any) -> None:
    """Write what is stored to one page, which needs no server and no network.

    It shows totals, when answers were stored, what was called, the slowest and the most expensive
    requests, and the conversations, to be searched and opened. All entries that fit the filters
    are counted; the conversations are those of the newest.

    A report that is there is replaced. Another file is replaced after asking on a terminal, or
    with --force. The page holds prompts and answers: it is readable by its owner alone.
    """
    if page and output:
        raise click.UsageError(f"give {page} or --output {output}, not both")
    output = page or output or _FILE
    if output == "-":
        write_page(sys.stdout.buffer, **given)
        return
    _check_replaceable(output, force)
    with _replacing(output) as file:
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
    history: str | None,
) -> int:
    """Write the page; how many conversations it holds."""
    skipped = Skipped()
    with where.opened() as places:
        minutes = read_history(history, _tell_left_out) if history else _kept(places)
        calls = None if minutes is None else Calls(minutes, places, wanted).figures()
        survey = Survey(0 if no_content else limit)
        rows = wanted_rows(places, wanted, skipped)
        for row in progress(rows, places, "reading"):
            survey.add(row)
        name = where.text(places)
        document = Document(file, title or "cachewrap report")
        told = 0
        threads = Threads()

        def picture(address: str) -> int | None:
            return document.picture(address) if document.written < _PAGE_BYTES else None

        for row in read_again([] if no_content else survey.shown()):
            said = Talk(row, picture)
            fits = document.written < _PAGE_BYTES
            document.add(line(row, said), said.told if fits else None)
            threads.add(row, said if fits else None)
            told += fits
        document.finish(
            {
                **survey.figures(),
                "calls": calls,
                "title": title or "",
                "made": time.time(),
                "place": "" if no_content else name,
                "seeds": [] if no_content else [place.seed for place in places],
                "filters": _filters(wanted, no_content),
                "content": not no_content,
                "threads": threads.found(),
                "told": told,
                "priced": can_price(),
                "unreadable": skipped.count,
                "reasons": [] if no_content else sorted(skipped.reasons.items()),
                "slowest": _listed(survey.slowest.names(), no_content),
                "costliest": _listed(survey.costliest.names(), no_content),
            }
        )
    skipped.tell()
    return told


def _kept(places: list[Place]) -> Iterator[Minute] | None:
    """What `cachewrap run` kept in the folders of disk caches; None where it kept nothing."""
    paths = [place.store.beside(NAME) for place in places if isinstance(place.store, Files)]
    kept = [path for path in paths if os.path.lexists(path)]
    return itertools.chain.from_iterable(map(_readable, kept)) if kept else None


def _readable(path: str) -> Iterator[Minute]:
    try:
        yield from read_history(path, _tell_left_out, follows=False)
    except (StoreError, ConfigurationError) as error:
        click.echo(f"left out what follows in the history: {error}", err=True)


def _tell_left_out(why: str) -> None:
    click.echo(f"left out of the history: {clean(why)}", err=True)


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


def _check_replaceable(path: str, force: bool) -> None:
    """Ask, or refuse, before a file that is not a report is replaced. Raises `StoreError`."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a device is not to be replaced
            raise StoreError(f"cannot write {path}: no regular file; - is the output")
        with open(path, "rb") as file:
            beginning = file.read(1024)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
    if force or not beginning or is_report(beginning):
        return
    question = f"{path} is not a report. Replace it?"
    if not is_terminal(sys.stdin):
        raise click.UsageError(f"{question} There is no terminal to ask on: give --force")
    click.confirm(question, abort=True)


@contextmanager
def _replacing(path: str) -> Iterator[BinaryIO]:
    """A new file for its owner alone, which takes the place of another when it is whole."""
    if systems.is_strange_link(path):
        raise StoreError(
            f"cannot write {path}: it is a link of another user, which is not followed"
        )
    path = os.path.realpath(path)
    try:
        handle, made = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".cachewrap-")
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
    try:
        with open(handle, "wb") as file:
            yield file
        os.replace(made, path)
    except BaseException as error:
        with suppress(FileNotFoundError):
            os.unlink(made)
        if isinstance(error, OSError):
            raise StoreError(f"cannot write {path}: {error.strerror}") from error
        raise
