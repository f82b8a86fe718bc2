"""``cachewrap export``: a file of JSON lines, in the format of `Cache.jsonl`, or a table as CSV."""

from __future__ import annotations

import csv
import os
import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from gzip import GzipFile
from io import TextIOWrapper
from typing import Any, BinaryIO, ClassVar, Final, Self, TextIO, cast

import click

from cachewrap.cli.entries import Row, dry_run_option, filter_options, wanted_rows
from cachewrap.cli.guess import file_and_places
from cachewrap.cli.packed import packed_lines
from cachewrap.cli.places import Place, Where, json_option, progress, where_beside
from cachewrap.cli.text import clean, is_terminal
from cachewrap.cli.transfer import Mover, cover_options
from cachewrap.entries.filters import Filter
from cachewrap.errors import ConfigurationError, CorruptEntryError, StoreError
from cachewrap.stores.base import Store
from cachewrap.stores.jsonl import JsonlStore, lines
from cachewrap.stores.jsonl.content import open_alone
from cachewrap.stores.jsonl.lines import HEAD, VERSION, head_of, name_of
from cachewrap.systems import NotAFile, files

_KEY: Final = re.compile("[0-9a-f]{64}")
_FLUSH_AT: Final = 1 << 20


@click.command(
    "export",
    short_help="Write entries to a file, as lines of JSON or as CSV.",
    epilog="""\b
Examples:
  cachewrap export answers.jsonl
  cachewrap export .cache answers.jsonl.gz
  cachewrap export .cache answers.csv --newer-than 7d
  cachewrap export - --function summarise | jq .answer
  cachewrap export all.jsonl --url redis://localhost/0 --all-seeds""",
)
@where_beside("file", "[PLACE]... FILE", file_and_places)
@filter_options
@click.option(
    "--format",
    "form",
    type=click.Choice(("jsonl", "csv")),
    help="By default that of the file's name, else jsonl.",
)
@click.option("--overwrite", is_flag=True, help="Begin the file anew; by default it goes on.")
@cover_options
@click.option(
    "--exact",
    is_flag=True,
    help="Of CSV: no ' before a text that a spreadsheet would run as a formula.",
)
@dry_run_option
@json_option
def command(
    file: str,
    where: Where,
    wanted: Filter,
    form: str | None,
    overwrite: bool,
    cover: str | None,
    dry_run: bool,
    exact: bool,
    as_json: bool,
) -> None:
    """Write the entries that fit every filter to FILE (- is the output).

    JSON lines are in the format of `Cache.jsonl`: `import` reads them, and a cache at jsonl:FILE
    does. A file that is there already is gone on with: entries that it has are left as they are.
    Encrypted entries stay so, unless --decrypt is given.

    CSV is a table for people and data frames, a row for each entry: prompt and answer are text,
    encrypted or not. A text that begins with = + - @ ' a tab or a new line has a ' in front, or a
    spreadsheet would run what a model wrote; --exact leaves it out. A file that is there is
    replaced with --overwrite alone.
    """
    mover = Mover(wanted, cover)
    as_csv = (form or ("csv" if file.lower().endswith(".csv") else "jsonl")) == "csv"
    if as_csv and cover is not None:
        raise click.UsageError("CSV is plain text: --encrypt and --decrypt are for jsonl")
    with where.opened() as places:
        for place in places:
            check_apart(file, place.store)  # or --overwrite would empty it before it is read
        if dry_run:
            _count(places, wanted, mover, None if overwrite or as_csv else file)
        elif as_csv:
            with Table.to(file, overwrite, exact) as table:
                _each(places, wanted, mover, table.write, "exporting")
        else:
            with Export.to(file, overwrite) as export:
                for place in places:
                    _export(place, export, mover)
                    place.rest()
    verb = "would export" if dry_run else "exported"
    sys.exit(mover.tell(verb, as_json, quiet=file == "-" and not dry_run))


def _each(
    places: list[Place],
    wanted: Filter,
    mover: Mover,
    put: Callable[[Row], object],
    doing: str,
) -> None:
    """Do something with each entry that fits and is fresh; what became of it is counted."""
    now = time.time()
    for row in progress(wanted_rows(places, wanted, mover.skipped), places, doing):
        if not row.entry.fresh(now):
            mover.expired += 1
            continue
        try:
            mover.moved += put(row) is not False
        except CorruptEntryError as error:
            mover.skipped.add(error)


def _count(places: list[Place], wanted: Filter, mover: Mover, file: str | None) -> None:
    """Count what would be written to a file that may have some of it."""
    with closing(Names()) as known:
        if file is not None and file != "-" and os.path.exists(file):
            with files.reader(file) as source:
                for line in source:
                    with suppress(ValueError):
                        known.add(*(names_of(line) or ("", "")))

        def count(row: Row) -> bool:
            there = known.has(row.seed, row.key)
            mover.there_already += there
            return not there

        _each(places, wanted, mover, count, "counting")


def _export(place: Place, export: Export, mover: Mover) -> None:
    def write(row: Row, raw: bytes) -> None:
        export.write(lines.write(row.key, place.seed, raw))

    for key, raw in progress(place.entries(), [place], f"exporting seed {place.seed}"):
        if export.has(place.seed, key):
            mover.there_already += 1
        else:
            mover.put(place, key, raw, place, write=write)


_RUN: Final = tuple("=+-@\t\r\n'\uff1d\uff0b\uff0d\uff20")
"""What a spreadsheet runs as a formula, or takes away, at the beginning of a cell."""


class Table:
    """A file of comma-separated values, a row for each entry, which no spreadsheet runs.

    Args:
        file: the open file.
        exact: leave out what keeps spreadsheets from running a text as a formula.
        shown: it is a terminal, which no stored text may take over.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = (
        *("key", "seed", "source", "model", "kind", "sample", "created", "expires", "seconds"),
        *("tokens_in", "tokens_out", "bytes", "prompt", "answer"),
    )

    def __init__(self, file: TextIO, exact: bool, shown: bool) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._exact = exact
        self._shown = shown
        self._writer.writerow(self.COLUMNS)

    @classmethod
    @contextmanager
    def to(cls, path: str, overwrite: bool, exact: bool) -> Iterator[Self]:
        """A table to write to, in UTF-8; ``-`` is the output of this process.

        Raises `StoreError` where it cannot be written, `ConfigurationError` where there is a file.
        """
        if path == "-":
            yield cls(sys.stdout, exact, is_terminal(sys.stdout))
            return
        try:
            with opened_anew(path, overwrite) as file:
                text = TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
                yield cls(text, exact, False)
                text.flush()
                text.detach()
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error}") from error

    def write(self, row: Row) -> None:
        """Add the row of an entry. Raises `CorruptEntryError` for one that cannot be read."""
        self.put({**row.facts(), "prompt": row.prompt, "answer": row.answer})

    def put(self, facts: Mapping[str, Any]) -> None:
        """Add a row: of each column what has its name."""
        self._writer.writerow([self._cell(facts[name]) for name in self.COLUMNS])

    def _cell(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        text = clean(value) if self._shown else value
        return f"'{text}" if text.startswith(_RUN) and not self._exact else text


class Names:
    """Seeds and keys of lines, in a database that SQLite moves to the disk when it grows."""

    def __init__(self) -> None:
        self._names = sqlite3.connect("")
        self._names.execute("CREATE TABLE name (seed, key, PRIMARY KEY (seed, key)) WITHOUT ROWID")

    def add(self, seed: str, key: str) -> None:
        """Remember a line."""
        self._names.execute("INSERT OR IGNORE INTO name VALUES (?, ?)", (_bytes(seed), key))

    def has(self, seed: str, key: str) -> bool:
        """Whether a line was remembered."""
        sql = "SELECT 1 FROM name WHERE seed = ? AND key = ?"
        return bool(self._names.execute(sql, (_bytes(seed), key)).fetchall())

    def close(self) -> None:
        """Forget them."""
        self._names.close()


def _bytes(seed: str) -> bytes:
    return seed.encode("utf-8", "surrogatepass")  # SQLite takes no half of a pair as text


class Export:
    """A file that lines are added to, and the entries that it has already.

    Args:
        file: the open file.
        known: those entries.
    """

    def __init__(self, file: BinaryIO, known: Names) -> None:
        self._file = file
        self._known = known

    @classmethod
    @contextmanager
    def to(cls, path: str, overwrite: bool) -> Iterator[Export]:
        """A file to write to: the one that is there, to its last whole line, or a new one.

        Args:
            path: the file; ``-`` is the output of this process.
            overwrite: begin anew.

        Raises `StoreError` where it cannot be written, `ConfigurationError` where it is something
        else.
        """
        with closing(Names()) as known:
            if path == "-":
                export = cls(sys.stdout.buffer, known)
                export._begin()
                yield export
                sys.stdout.buffer.flush()
                return
            try:
                with _open_alone(path) as file:
                    if overwrite:
                        file.truncate(0)
                    export = cls(file, known)
                    if path.endswith(".gz"):
                        with export._packed(path):
                            yield export
                    else:
                        export._go_on(path)
                        yield export
            except OSError as error:
                raise StoreError(f"cannot write {path}: {error}") from error

    def _begin(self) -> None:
        self._file.write(HEAD + b"\n")

    def _go_on(self, path: str) -> None:
        end, ours, ends = 0, False, True
        for line in self._file:
            ends = line.endswith(b"\n")
            if not line.strip():
                end += len(line)
                continue
            try:
                name = names_of(line)
            except ValueError as error:
                if not ends and (ours or (not end and HEAD.startswith(line))):
                    ends = True
                    break  # an export was interrupted in it
                raise ConfigurationError(
                    f"{path} is not a file of entries ({error}): --overwrite begins it anew"
                ) from None
            ours, end = True, end + len(line)
            if name is None:
                check_head(line)
            else:
                self._known.add(*name)
        self._file.seek(end)
        self._file.truncate()
        if not end:
            self._begin()
        elif not ends:  # a line that is whole: somebody's editor left it so
            self._file.write(b"\n")

    @contextmanager
    def _packed(self, path: str) -> Iterator[None]:
        """Go on in a compressed file, in which what is added is a part of its own."""
        anew, last = "--overwrite begins it anew", b"\n"
        try:
            for last in packed_lines(self._file, path):
                if name := names_of(last) if last.strip() else None:
                    self._known.add(*name)
        except (ValueError, StoreError) as error:
            raise ConfigurationError(f"{error}: {anew}") from None
        file = self._file
        empty = file.seek(0, os.SEEK_END) == 0
        with GzipFile(fileobj=file, filename="", mode="wb") as added:
            self._file = cast(BinaryIO, added)
            if empty:
                self._begin()
            elif not last.endswith(b"\n"):
                self._file.write(b"\n")
            yield

    def has(self, seed: str, key: str) -> bool:
        """Whether the file had the entry when it was opened."""
        return self._known.has(seed, key)

    def write(self, line: bytes) -> None:
        """Add a line."""
        self._file.write(line + b"\n")


@contextmanager
def _open_alone(path: str) -> Iterator[BinaryIO]:
    """A file to write to, which no program that has its cache in it writes to meanwhile."""
    try:
        with (
            open_alone(path, os.O_RDWR | os.O_CREAT, 0o600) as made,
            open(made, "r+b", buffering=_FLUSH_AT, closefd=False) as file,
        ):
            yield file
    except NotAFile as error:
        raise StoreError(f"cannot write {path}: no regular file; - is the output") from error


@contextmanager
def opened_anew(path: str, overwrite: bool) -> Iterator[BinaryIO]:
    """A file to write to from its beginning.

    Raises `ConfigurationError` where it holds something and is not to be overwritten.
    """
    with _open_alone(path) as file:
        if file.read(1) and not overwrite:
            raise ConfigurationError(f"{path} is there: --overwrite replaces it")
        file.seek(0)
        file.truncate()
        yield file


def check_apart(file: str, store: Store) -> None:
    """Raise `ConfigurationError` where a file of lines is the very file that a store keeps."""
    if not isinstance(store, JsonlStore) or not os.path.exists(file):
        return
    if os.path.exists(store.path) and os.path.samefile(file, store.path):
        raise ConfigurationError(f"{file} is the cache itself: give another file or cache")


def names_of(line: bytes) -> tuple[str, str] | None:
    """The seed and key of a line; None for a head. Raises `ValueError` for anything else."""
    name = name_of(line)
    if name is not None and _KEY.fullmatch(name[1]) is None:
        raise ValueError(f"{name[1]!r} is no key")
    return name


def check_head(line: bytes) -> None:
    """Raise `ConfigurationError` for the head of a file that this version cannot read."""
    version = head_of(line).version
    if version != VERSION:
        raise ConfigurationError(
            f"a file of version {version}; this cachewrap reads version {VERSION}"
        )
