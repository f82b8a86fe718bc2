"""``cachewrap import``: entries from a file of JSON lines, or a cache of AutoGen or LangChain."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import BinaryIO

import click

from cachewrap.cli.entries import filter_options
from cachewrap.cli.export import Names, check_apart, check_head, names_of
from cachewrap.cli.foreign import folders, is_langchain, read_database, read_folder
from cachewrap.cli.guess import places_alone, target_url
from cachewrap.cli.packed import plain_lines
from cachewrap.cli.places import Place, handed, json_option, named_url, url_options
from cachewrap.cli.text import Meter, is_terminal, size_text
from cachewrap.cli.transfer import Mover, Targets, cover_options, open_targets, overwrite_option
from cachewrap.encryption import keys_from_environment
from cachewrap.entries.filters import Filter
from cachewrap.errors import ConfigurationError, StoreError
from cachewrap.stores.jsonl import lines
from cachewrap.systems import NotAFile, files


def _target(place: str | None, url: str, disk: str | None, redis: str | None) -> str:
    named = named_url(url, disk, redis)
    if place is None:
        return named or url
    places_alone([place], named is not None)
    return target_url(place)


@click.command(
    "import",
    short_help="Read entries from a file.",
    epilog="""\b
Examples:
  cachewrap import answers.jsonl
  cachewrap import answers.jsonl.gz redis://localhost/0
  cachewrap import .cache .cache
  cachewrap import .langchain.db
  zcat answers.jsonl.gz | cachewrap import - /srv/answers""",
)
@click.argument("file", type=click.Path(exists=True, allow_dash=True))
@handed(
    "url",
    _target,
    click.argument("place", required=False, metavar="[PLACE]", type=click.Path()),
    *url_options,
)
@click.option("--seed", metavar="SEED", help="The seed; by default that of each entry.")
@filter_options
@overwrite_option
@cover_options
@json_option
def command(
    file: str,
    url: str,
    seed: str | None,
    wanted: Filter,
    overwrite: bool,
    cover: str | None,
    as_json: bool,
) -> None:
    """Store the entries that FILE (- is the input) holds, as `export` and `Cache.jsonl` write them.

    They go to PLACE, a URL, a .jsonl file or a folder, which is made where it is not there.

    They keep their seeds, unless --seed gives them another. What is stored already stays, so that
    an import that was interrupted goes on where it was.

    Where FILE is a folder, it is a disk cache of AutoGen 0.2, or of one of its seeds. Its answers
    serve AutoGen again when it is given cachewrap's `Cache` as its `cache=`. They are pickled: only
    the OpenAI SDK's models are taken from them, and nothing that they hold is run.

    Where FILE is a SQLite database, it is a cache of LangChain's (SQLiteCache). Its answers serve
    LangChain again through LangChainCache, where the model has the settings that it had; messages
    are all that is taken from them. It has no seeds: they go to that of the URL, or to --seed.

    What comes from AutoGen and LangChain is encrypted where there is a key, unless --decrypt is
    given.
    """
    if file.endswith(".csv"):
        raise click.UsageError(
            f"{file} is a table, which cannot be read back: cachewrap export answers.jsonl writes"
            " what can"
        )
    if os.path.isdir(file) or is_langchain(file):
        cover = cover or ("encrypt" if keys_from_environment() else None)
        mover = Mover(wanted, cover, overwrite)
        with open_targets(url, seed) as targets:
            if os.path.isdir(file):
                found = folders(file)
                for folder, named in found:
                    try:
                        there = targets.of(named)
                    except ConfigurationError as error:
                        mover.skipped.add(ValueError(f"{folder}: {error}"))
                        continue
                    entries = read_folder(folder)
                    _import_foreign(entries if len(found) == 1 else _told(entries), there, mover)
            else:
                _import_foreign(read_database(file), targets.of(), mover)
    else:
        mover = Mover(wanted, cover, overwrite)
        with _open(file) as source, open_targets(url, seed) as targets, closing(Names()) as stored:
            check_apart(file, targets.of().store)  # or it would read on in what it writes
            try:
                _import_lines(source, file, targets, mover, stored)
            except StoreError:  # a compressed file that is cut off, or a full disk
                mover.tell("imported", as_json)
                raise
    status = mover.tell("imported", as_json)
    if os.path.isdir(file) and not (mover.moved or mover.there_already or mover.skipped.count):
        told = (
            f"{file} holds no answer of AutoGen 0.2 to import; entries of cachewrap's are copied:"
        )
        click.echo(f"{told} cachewrap copy {file} TARGET", err=True)
    sys.exit(status)


def _told(
    entries: Iterator[tuple[str, bytes] | ValueError],
) -> Iterator[tuple[str, bytes] | ValueError]:
    """The entries of one folder of several, none of which is missed for what another one holds."""
    try:
        yield from entries
    except StoreError as error:
        yield ValueError(str(error))


def _import_foreign(
    entries: Iterator[tuple[str, bytes] | ValueError], there: Place, mover: Mover
) -> None:
    for entry in entries:
        if isinstance(entry, ValueError):
            mover.skipped.add(entry)
        elif not mover.stays(there, entry[0]):
            mover.put(there, *entry, there)


def _import_lines(
    source: BinaryIO, file: str, targets: Targets, mover: Mover, stored: Names
) -> None:
    for number, line in enumerate(_progress(source, file), 1):
        if not line.strip():
            continue
        try:
            name = names_of(line)
            if name is None:
                check_head(line)
                continue
            seed, key = name
            try:
                there = targets.of(seed)
            except ConfigurationError as error:
                raise ValueError(f"its seed: {error}") from None
            again = stored.has(seed, key)  # the last of two lines of one name counts
            if not again and mover.stays(there, key):
                continue
            raw = lines.read(line)
        except ConfigurationError:
            raise
        except ValueError as error:
            mover.skipped.add(ValueError(f"line {number}: {error}"))
            continue
        before = mover.moved
        mover.put(Place(there.store, seed), key, raw, there, again=again)
        if again:
            mover.moved = before
        elif mover.moved > before:
            stored.add(seed, key)


def _open(path: str) -> AbstractContextManager[BinaryIO]:
    """A file to read; ``-`` is the input of this process. Raises `StoreError`."""
    try:
        return nullcontext(sys.stdin.buffer) if path == "-" else files.reader(path)
    except NotAFile as error:
        raise StoreError(f"cannot read {path}: no regular file; - is the input") from error
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error}") from error


def _progress(source: BinaryIO, name: str) -> Iterator[bytes]:
    """The lines of a file, with a line on a terminal that tells how much of it was read."""
    lines = plain_lines(source, "the input" if name == "-" else name)
    size = os.fstat(source.fileno()).st_size if is_terminal(sys.stderr) else 0
    if size:
        meter = Meter("importing", lambda: size, shown=size_text, done=source.tell)
    else:
        meter = Meter("importing", lambda: 0)
    yield from meter.over(lines)
