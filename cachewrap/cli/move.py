"""``cachewrap copy``, ``export`` and ``import``: entries between caches and files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import BinaryIO

import click

from cachewrap.cli.entries import Filter, Row, filter_options
from cachewrap.cli.export_file import Export, Names, check_apart, check_head, names_of, open_import
from cachewrap.cli.foreign import folders, read_folder
from cachewrap.cli.langchain import is_langchain, read_database
from cachewrap.cli.mover import Mover, cover_options
from cachewrap.cli.places import (
    Place,
    allow_many_files,
    json_option,
    open_store,
    opened,
    url_option,
    url_options,
)
from cachewrap.cli.text import progress, progress_of_file
from cachewrap.encryption import keys_from_environment
from cachewrap.errors import ConfigurationError
from cachewrap.policy import seed_text
from cachewrap.stores.base import Checks, Store
from cachewrap.stores.jsonl import lines

_overwrite = click.option(
    "--overwrite", is_flag=True, help="Replace what is there; by default it stays."
)
_to_seed = click.option("--to-seed", metavar="SEED", help="Another seed than that of the entries.")


class _Targets:
    """The partitions of the store that is written to, one for each seed."""

    def __init__(self, store: Store, named: str, seed: str | None) -> None:
        self._store = store
        self._named = named
        self._seed = seed
        self._places: dict[str, Place] = {}

    @property
    def own(self) -> Place:
        """Where an entry without a seed goes."""
        return self.of(self._named)

    def of(self, seed: str) -> Place:
        """Where an entry of a seed goes."""
        seed = self._seed or seed
        if seed not in self._places:
            self._places[seed] = Place(self._store.reseed(seed), seed)
        return self._places[seed]


@contextmanager
def _targets(url: str, seed: str | None) -> Iterator[_Targets]:
    store, named = open_store(url, seed)
    try:
        if isinstance(store, Checks):
            store.check()
        allow_many_files()
        yield _Targets(store, named, named if seed is not None or "cache_seed=" in url else None)
    finally:
        store.close()


@click.command(
    "copy",
    short_help="Copy entries into another cache.",
    epilog="""\b
Examples:
  cachewrap copy redis://localhost/0
  cachewrap copy disk:/srv/answers --url redis://localhost/0 --all-seeds
  cachewrap copy jsonl:tests/answers.jsonl --model 'gpt-4*' --newer-than 30d
  cachewrap copy disk:sealed --encrypt""",
)
@click.argument("target", metavar="URL")
@url_options
@filter_options
@_to_seed
@_overwrite
@cover_options
@json_option
def copy_command(
    target: str,
    url: str,
    seed: str | None,
    all_seeds: bool,
    wanted: Filter,
    to_seed: str | None,
    overwrite: bool,
    cover: str | None,
    as_json: bool,
) -> None:
    """Copy the entries that fit every filter into the cache at URL, as they are.

    What is stored there already stays, so that a copy that was interrupted goes on where it was.
    An encrypted entry is bound to its key and its seed: it is encrypted again where the seed is
    another, and always with --encrypt. The keys are in CACHEWRAP_ENCRYPTION_KEY.
    """
    if all_seeds and to_seed is not None:
        raise click.UsageError("give --all-seeds or --to-seed, not both")
    mover = Mover(wanted, cover)
    with opened(url, seed, all_seeds) as places, _targets(target, to_seed) as targets:
        for place in places:
            there = targets.of(place.seed)
            if there.store.url == place.store.url:
                raise ConfigurationError(f"{place.store.url} would be copied into itself")
            for key in progress(place.store.keys(), [place], f"copying seed {place.seed}"):
                if not overwrite and there.store.get(key) is not None:
                    mover.there_already += 1
                elif (raw := place.get(key)) is not None:
                    mover.put(place, key, raw, there, overwrite)
    sys.exit(mover.tell("copied", as_json))


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
@url_options
@filter_options
@click.option("--overwrite", is_flag=True, help="Begin the file anew; by default it goes on.")
@cover_options
@json_option
def export_command(
    file: str,
    url: str,
    seed: str | None,
    all_seeds: bool,
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
    with opened(url, seed, all_seeds) as places:
        for place in places:
            check_apart(file, place.store)  # or --overwrite would empty it before it is read
        with Export.to(file, overwrite) as export:
            _export(places, export, mover)
    sys.exit(mover.tell("exported", as_json, quiet=file == "-"))


def _export(places: list[Place], export: Export, mover: Mover) -> None:
    def write(place: Place, row: Row, raw: bytes) -> None:
        export.write(lines.write(row.key, place.seed, raw))

    for place in places:
        doing = f"exporting seed {place.seed}"
        for key, raw in progress(place.entries(), [place], doing):
            if export.has(place.seed, key):
                mover.there_already += 1
            else:
                mover.put(place, key, raw, place, put=write)


@click.command(
    "import",
    short_help="Read entries from a file.",
    epilog="""\b
Examples:
  cachewrap import answers.jsonl
  cachewrap import .cache --url disk:.cache
  cachewrap import .langchain.db
  zcat answers.jsonl.gz | cachewrap import - --url redis://localhost/0""",
)
@click.argument("file", type=click.Path(exists=True, allow_dash=True))
@url_option
@click.option("--seed", metavar="SEED", help="The seed; by default that of each entry.")
@filter_options
@_overwrite
@cover_options
@json_option
def import_command(
    file: str,
    url: str,
    seed: str | None,
    wanted: Filter,
    overwrite: bool,
    cover: str | None,
    as_json: bool,
) -> None:
    """Store the entries that FILE (- is the input) holds, as `export` and `Cache.jsonl` write them.

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
    if os.path.isdir(file) or is_langchain(file):
        mover = Mover(wanted, cover or ("encrypt" if keys_from_environment() else None))
        with _targets(url, seed) as targets:
            if os.path.isdir(file):
                for folder, named in folders(file):
                    _import_foreign(read_folder(folder), targets.of(named), mover, overwrite)
            else:
                _import_foreign(read_database(file), targets.own, mover, overwrite)
    else:
        mover = Mover(wanted, cover)
        with open_import(file) as source, _targets(url, seed) as targets:
            check_apart(file, targets.own.store)  # or it would read on in what it writes
            _import(source, targets, mover, overwrite)
    sys.exit(mover.tell("imported", as_json))


def _import_foreign(
    entries: Iterator[tuple[str, bytes] | ValueError], there: Place, mover: Mover, overwrite: bool
) -> None:
    for entry in entries:
        if isinstance(entry, ValueError):
            mover.skipped.add(entry)
        elif not overwrite and there.store.get(entry[0]) is not None:
            mover.there_already += 1
        else:
            mover.put(Place(there.store, there.seed), *entry, there, overwrite)


def _import(source: BinaryIO, targets: _Targets, mover: Mover, overwrite: bool) -> None:
    with closing(Names()) as stored:
        _import_lines(source, targets, mover, overwrite, stored)


def _import_lines(
    source: BinaryIO, targets: _Targets, mover: Mover, overwrite: bool, stored: Names
) -> None:
    for number, line in enumerate(progress_of_file(source, "importing"), 1):
        if not line.strip():
            continue
        try:
            name = names_of(line)
            if name is None:
                check_head(line)
                continue
            seed, key = name
            there = targets.of(seed_text(seed))
            again = stored.has(seed, key)  # the last of two lines of one name counts
            if not overwrite and not again and there.store.get(key) is not None:
                mover.there_already += 1
                continue
            raw = lines.read(line)
        except ConfigurationError:
            raise
        except ValueError as error:
            mover.skipped.add(ValueError(f"line {number}: {error}"))
            continue
        before = mover.moved
        mover.put(Place(there.store, seed), key, raw, there, overwrite or again)
        if again:
            mover.moved = before
        elif mover.moved > before:
            stored.add(seed, key)
