"""``cachewrap copy``: entries from one cache into another."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass

import click

from cachewrap.cli._open import Place, is_encrypted, json_option, open_store, opened, url_options
from cachewrap.cli.progress import progress
from cachewrap.cli.rows import Filter, Row, Skipped, filter_options, read_row
from cachewrap.cli.units import count_text
from cachewrap.entry import Facts
from cachewrap.envelope import seal
from cachewrap.errors import ConfigurationError, CorruptEntryError
from cachewrap.policy import kept_until, seed_text


@dataclass(slots=True)
class Moved:
    """What became of the entries."""

    stored: int = 0
    there_already: int = 0
    left_out: int = 0
    expired: int = 0

    def tell(self, verb: str, as_json: bool) -> None:
        """Say it on stdout."""
        if as_json:
            click.echo(
                json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__})
            )
            return
        noun = "entry" if self.stored == 1 else "entries"
        others = {
            "were there already": self.there_already,
            "could not be read": self.left_out,
            "had expired": self.expired,
        }
        more = (f"; {count_text(count)} {what}" for what, count in others.items() if count)
        click.echo(f"{verb} {count_text(self.stored)} {noun}{''.join(more)}")


@click.command(
    "copy",
    short_help="Copy entries into another cache.",
    epilog="""\b
Examples:
  cachewrap copy redis://localhost/0
  cachewrap copy disk:/srv/answers --url redis://localhost/0 --all-seeds
  cachewrap copy disk:backup --model 'gpt-4*' --newer-than 30d
  cachewrap copy disk:sealed --encrypt""",
)
@click.argument("target", metavar="URL")
@url_options
@filter_options
@click.option("--to-seed", metavar="SEED", help="Another seed in the target than in the source.")
@click.option("--overwrite", is_flag=True, help="Replace what is there; by default it stays.")
@click.option("--encrypt", "cover", flag_value="encrypt", help="Encrypt, with the first key.")
@click.option("--decrypt", "cover", flag_value="decrypt", help="Store as plain text.")
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
    moved, skipped = Moved(), Skipped()
    with opened(url, seed, all_seeds) as places:
        store, named = open_store(target, to_seed)
        keep_seed = to_seed is None and "cache_seed=" not in target
        try:
            for place in places:
                into = seed_text(place.seed if keep_seed else named)
                there = Place(store.reseed(into), into)
                if there.store.url == place.store.url:
                    raise ConfigurationError(f"{place.store.url} would be copied into itself")
                _copy(place, there, wanted, overwrite, cover, moved, skipped)
        finally:
            store.close()
    moved.left_out = skipped.count
    skipped.tell()
    moved.tell("copied", as_json)
    sys.exit(1 if skipped.count else 0)


def _copy(
    place: Place,
    there: Place,
    wanted: Filter,
    overwrite: bool,
    cover: str | None,
    moved: Moved,
    skipped: Skipped,
) -> None:
    if cover == "encrypt" and not there.has_key:
        raise ConfigurationError("--encrypt needs a key in CACHEWRAP_ENCRYPTION_KEY")
    now = time.time()
    for key in progress(place.store.keys(), [place], f"copying seed {place.seed}"):
        if not overwrite and there.store.get(key) is not None:
            moved.there_already += 1
            continue
        raw = place.store.get(key)
        if raw is None:
            continue
        try:
            row = read_row(place, key, raw)
            fits = wanted(row, now)
        except CorruptEntryError as error:
            skipped.add(error)
            continue
        if not row.entry.fresh(now):
            moved.expired += 1
        elif fits:
            raw = _covered(row, raw, there, cover)
            until = kept_until(row.entry.expires, row.entry.created)
            put = there.store.set if overwrite else there.store.add
            put(key, raw, expires=until)
            moved.stored += 1


def _covered(row: Row, raw: bytes, there: Place, cover: str | None) -> bytes:
    """The entry as it is to be stored there."""
    plain = not is_encrypted(raw)
    if plain and cover != "encrypt":
        return raw
    if not plain and cover is None and there.seed == row.place.seed:
        return raw
    sealed = raw if plain else _resealed(row)
    return sealed if cover == "decrypt" else there.encrypt(row.key, sealed)


def _resealed(row: Row) -> bytes:
    """The envelope of an entry that was encrypted."""
    entry = row.entry
    facts = Facts(
        created=entry.created,
        seconds=entry.seconds,
        expires=entry.expires,
        source=row.source,
        model=row.model,
        tokens_in=entry.tokens_in,
        tokens_out=entry.tokens_out,
    )
    return seal(entry.kind, entry.answer, row.raw_request, facts)
