"""Transfers of entries: where each goes, and what is told of them; and ``cachewrap copy``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import click

from cachewrap.cli.entries import Row, Skipped, filter_options, read_row
from cachewrap.cli.guess import places_and_target, target_url
from cachewrap.cli.options import together
from cachewrap.cli.places import (
    Place,
    Where,
    allow_many_files,
    is_encrypted,
    json_option,
    open_store,
    progress,
    where_beside,
)
from cachewrap.cli.text import count_text, entries_text
from cachewrap.entries.filters import Filter
from cachewrap.entry import Facts, kept_until
from cachewrap.errors import ConfigurationError, CorruptEntryError
from cachewrap.format.envelope import seal
from cachewrap.format.sealing import UNSEALED
from cachewrap.policy import seed_text
from cachewrap.stores.base import Checks, Store

cover_options: Final = together(
    click.option("--encrypt", "cover", flag_value="encrypt", help="Encrypt, with the first key."),
    click.option("--decrypt", "cover", flag_value="decrypt", help="Store as plain text."),
)
_MOST_OPEN: Final = 8
"""Seeds, at most, whose files are open at a time."""

overwrite_option: Final = click.option(
    "--overwrite", is_flag=True, help="Replace what is there; by default it stays."
)


class Targets:
    """The partitions of the store that is written to, one for each seed."""

    def __init__(self, store: Store, named: str, seed: str | None) -> None:
        self._store = store
        self._named = named
        self._seed = seed
        self._places: dict[str, Place] = {}

    def of(self, seed: str | None = None) -> Place:
        """Where an entry of a seed goes, or one without.

        Raises `ValueError` for a seed that no cache can have.
        """
        seed = self._seed or (self._named if seed is None else seed)
        place = self._places.pop(seed, None)
        if place is None:
            place = Place(self._store.reseed(seed_text(seed)), seed)
        self._places[seed] = place
        if len(self._places) > _MOST_OPEN:
            oldest = next(iter(self._places))
            self._places.pop(oldest).rest()
        return place


@contextmanager
def open_targets(url: str, seed: str | None) -> Iterator[Targets]:
    """The store at a URL, to be written to: under a seed that is given, by it or by the URL."""
    store, named = open_store(url, seed)
    try:
        if isinstance(store, Checks):
            store.check()
        allow_many_files()
        yield Targets(store, named, named if seed is not None or "cache_seed=" in url else None)
    finally:
        store.close()


class Mover:
    """A mover of entries, one at a time, which counts them.

    Args:
        wanted: the entries that are moved.
        cover: ``"encrypt"``, ``"decrypt"``, or None to leave them as they are.
        overwrite: whether they replace what is there.
    """

    def __init__(self, wanted: Filter, cover: str | None, overwrite: bool = False) -> None:
        self._wanted = wanted
        self._cover = cover
        self._overwrite = overwrite
        self._now = time.time()
        self.moved = self.there_already = self.expired = 0
        self.skipped = Skipped()

    def stays(self, there: Place, key: str) -> bool:
        """Whether an entry is there already, and stays; it is counted."""
        stays = not self._overwrite and there.store.get(key) is not None
        self.there_already += stays
        return stays

    def put(
        self,
        place: Place,
        key: str,
        raw: bytes,
        there: Place,
        *,
        again: bool = False,
        write: Callable[[Row, bytes], None] | None = None,
    ) -> None:
        """Move one entry, if it is wanted.

        Args:
            place: where it comes from.
            key: its key.
            raw: what is stored.
            there: where it goes.
            again: whether it replaces what is there in any case.
            write: stores it; by default in the store of that place.
        """
        if self._cover == "encrypt" and there.guard is UNSEALED:
            raise ConfigurationError("--encrypt needs a key in CACHEWRAP_ENCRYPTION_KEY")
        try:
            row = read_row(place, key, raw)
            if not row.entry.fresh(self._now):
                self.expired += 1
                return
            if not self._wanted(row):
                return
        except CorruptEntryError as error:
            self.skipped.add(error)
            return
        covered = self._covered(row, raw, there)
        if write is not None:
            write(row, covered)
        else:
            store = there.store.set if again or self._overwrite else there.store.add
            store(key, covered, expires=kept_until(row.entry.expires, row.entry.created))
        self.moved += 1

    def _covered(self, row: Row, raw: bytes, there: Place) -> bytes:
        """The entry as it is to be stored there."""
        plain = not is_encrypted(raw)
        if plain and self._cover != "encrypt":
            return raw
        if not plain and self._cover is None and there.seed == row.place.seed:
            return raw
        sealed = raw if plain else _resealed(row)
        return sealed if self._cover == "decrypt" else there.guard.close(row.key, sealed)

    def tell(self, verb: str, as_json: bool, quiet: bool = False) -> int:
        """Say what became of the entries; the exit status.

        Args:
            verb: what was done with them.
            as_json: for machines.
            quiet: the output holds the entries: say it on stderr, and only what went wrong.
        """
        self.skipped.tell()
        facts = {
            "moved": self.moved,
            "there_already": self.there_already,
            "expired": self.expired,
            "unreadable": self.skipped.count,
        }
        if as_json:
            click.echo(json.dumps(facts), err=quiet)
        elif not quiet:
            moved = entries_text(facts.pop("moved"))
            more = (f"; {count_text(n)} {what.replace('_', ' ')}" for what, n in facts.items() if n)
            click.echo(f"{verb} {moved}{''.join(more)}")
        return 1 if self.skipped.count else 0


def _resealed(row: Row) -> bytes:
    """The envelope of an entry that was encrypted."""
    entry, called = row.entry, (row.source, row.model)
    times = entry.created, entry.seconds, entry.expires
    facts = Facts(*times, *called, entry.tokens_in, entry.tokens_out, entry.details)
    facts.declared = entry.declared
    return seal(entry.kind, entry.answer, row.raw_request, facts)


# -- cachewrap copy ---------------------------------------------------------------------------


@click.command(
    "copy",
    short_help="Copy entries into another cache.",
    epilog="""\b
Examples:
  cachewrap copy .cache redis://localhost/0
  cachewrap copy redis://localhost/0 /srv/answers --all-seeds
  cachewrap copy .cache tests/answers.jsonl --model 'gpt-4*' --newer-than 30d
  cachewrap copy sealed --encrypt""",
)
@where_beside("target", "[PLACE]... TARGET", places_and_target)
@filter_options
@click.option("--to-seed", metavar="SEED", help="Another seed than that of the entries.")
@overwrite_option
@cover_options
@json_option
def copy(
    target: str,
    where: Where,
    wanted: Filter,
    to_seed: str | None,
    overwrite: bool,
    cover: str | None,
    as_json: bool,
) -> None:
    """Copy the entries that fit every filter into another cache, as they are.

    The last place is the TARGET: a URL, a .jsonl file or a folder, which is made where it is not
    there. Without another one, the entries come from the usual cache.

    What is stored there already stays, so that a copy that was interrupted goes on where it was.
    An encrypted entry is bound to its key and its seed: it is encrypted again where the seed is
    another, and always with --encrypt. The keys are in CACHEWRAP_ENCRYPTION_KEY.
    """
    if where.all_seeds and to_seed is not None:
        raise click.UsageError("give --all-seeds or --to-seed, not both")
    mover = Mover(wanted, cover, overwrite)
    with where.opened() as places, open_targets(target_url(target), to_seed) as targets:
        for place in places:
            try:
                there = targets.of(place.seed)
            except ConfigurationError as error:
                mover.skipped.add(error)
                continue
            if there.store.url == place.store.url:
                here = f"{place.store.url} would be copied into itself"
                raise ConfigurationError(f"{here}: give the place to copy to as well, behind it")
            for key in progress(place.store.keys(), [place], f"copying seed {place.seed}"):
                if not mover.stays(there, key) and (raw := place.get(key)) is not None:
                    mover.put(place, key, raw, there)
            place.rest()
    sys.exit(mover.tell("copied", as_json))
