"""``cachewrap export``: a file of JSON lines, in the format of `Cache.jsonl`."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import BinaryIO, Final

import click

from cachewrap.cli.entries import Row, filter_options
from cachewrap.cli.places import Place, Where, json_option, progress, where_options
from cachewrap.cli.transfer import Mover, cover_options
from cachewrap.entries.filters import Filter
from cachewrap.errors import ConfigurationError, StoreError
from cachewrap.stores.base import Store
from cachewrap.stores.jsonl import JsonlStore, lines
from cachewrap.stores.jsonl.content import open_alone
from cachewrap.stores.jsonl.lines import HEAD, VERSION, head_of, name_of
from cachewrap.systems import NotAFile

_KEY: Final = re.compile("[0-9a-f]{64}")
_FLUSH_AT: Final = 1 << 20


@click.command(
    "export",
    short_help="Write entries to a file, one line of JSON each.",
    epilog="""\b
Examples:
  cachewrap export answers.jsonl
  cachewrap export - --function summarise | jq .answer
  cachewrap export all.jsonl --url redis://localhost/0 --all-seeds""",
)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@where_options
@filter_options
@click.option("--overwrite", is_flag=True, help="Begin the file anew; by default it goes on.")
@cover_options
@json_option
def command(
    file: str,
    where: Where,
    wanted: Filter,
    overwrite: bool,
    cover: str | None,
    as_json: bool,
) -> None:
    """Write the entries that fit every filter to FILE (- is the output) as JSON lines.

    It is the format of `Cache.jsonl`: `import` reads it, and a cache at jsonl:FILE does. A file
    that is there already is gone on with: entries that it has are left as they are. Encrypted
    entries stay so, unless --decrypt is given.
    """
    mover = Mover(wanted, cover)
    with where.opened() as places:
        for place in places:
            check_apart(file, place.store)  # or --overwrite would empty it before it is read
        with Export.to(file, overwrite) as export:
            for place in places:
                _export(place, export, mover)
                place.rest()
    sys.exit(mover.tell("exported", as_json, quiet=file == "-"))


def _export(place: Place, export: Export, mover: Mover) -> None:
    def write(row: Row, raw: bytes) -> None:
        export.write(lines.write(row.key, place.seed, raw))

    for key, raw in progress(place.entries(), [place], f"exporting seed {place.seed}"):
        if export.has(place.seed, key):
            mover.there_already += 1
        else:
            mover.put(place, key, raw, place, write=write)


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
