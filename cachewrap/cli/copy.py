"""``cachewrap copy``: entries of one cache put into another."""

from __future__ import annotations

import sys

import click

from cachewrap.cli.entries import Filter, filter_options
from cachewrap.cli.places import Where, json_option, progress, where_options
from cachewrap.cli.transfer import Mover, cover_options, open_targets, overwrite_option
from cachewrap.errors import ConfigurationError


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
@where_options
@filter_options
@click.option("--to-seed", metavar="SEED", help="Another seed than that of the entries.")
@overwrite_option
@cover_options
@json_option
def command(
    target: str,
    where: Where,
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
    if where.all_seeds and to_seed is not None:
        raise click.UsageError("give --all-seeds or --to-seed, not both")
    mover = Mover(wanted, cover, overwrite)
    with where.opened() as places, open_targets(target, to_seed) as targets:
        for place in places:
            try:
                there = targets.of(place.seed)
            except ConfigurationError as error:
                mover.skipped.add(error)
                continue
            if there.store.url == place.store.url:
                raise ConfigurationError(f"{place.store.url} would be copied into itself")
            for key in progress(place.store.keys(), [place], f"copying seed {place.seed}"):
                if not mover.stays(there, key) and (raw := place.get(key)) is not None:
                    mover.put(place, key, raw, there)
            place.rest()
    sys.exit(mover.tell("copied", as_json))
