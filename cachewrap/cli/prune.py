"""``cachewrap prune``, ``clear`` and ``rm``: the removal of entries, of some and of all."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import click

from cachewrap.cli.entries import (
    Row,
    Skipped,
    dry_run_option,
    filter_options,
    find_one,
    moment,
    narrowing_options,
    older_option,
    read_row,
    size,
    wanted_rows,
)
from cachewrap.cli.guess import keys_and_places
from cachewrap.cli.places import (
    Place,
    Where,
    is_encrypted,
    json_option,
    seeds_text,
    where_beside,
    where_options,
)
from cachewrap.cli.text import (
    entries_text,
    is_terminal,
    one_line,
    size_text,
    terminal_width,
)
from cachewrap.cli.verify import read_answer
from cachewrap.entries.aliases import remove_alias
from cachewrap.entries.filters import Filter, Moment
from cachewrap.errors import CodecError, CorruptEntryError
from cachewrap.format.sealing import UNSEALED
from cachewrap.stores.base import Uses

_ORDER = """
CREATE TABLE entry (place INTEGER, key TEXT, used REAL, size INTEGER);
CREATE TABLE alias (place INTEGER, key TEXT, target TEXT);
CREATE TABLE gone (place INTEGER, key TEXT, PRIMARY KEY (place, key)) WITHOUT ROWID;
CREATE INDEX by_use ON entry (used);
"""

_LED_TO_GONE: Final = (
    "SELECT alias.place, alias.key FROM alias"
    " JOIN gone ON gone.place = alias.place AND gone.key = alias.target"
)

yes_option: Final = click.option("--yes", is_flag=True, help="Do not ask.")


class _Removal:
    """The removal of entries, or the count of those that it would remove."""

    def __init__(self, dry_run: bool) -> None:
        self.dry_run = dry_run
        self.entries = self.bytes = self.aliases = 0

    def remove(self, place: Place, key: str, length: int) -> None:
        if self.dry_run or place.store.delete(key):
            self.entries += 1
            self.bytes += length

    def take_back(self, place: Place, key: str, raw: bytes) -> None:
        """Remove an alias: what was stored there before it is there again."""
        guard = place.guard if is_encrypted(raw) else UNSEALED
        if self.dry_run or remove_alias(place.store, guard, key):
            self.aliases += 1


@click.command(
    "prune",
    short_help="Remove old, unused, damaged or too many entries.",
    epilog="""\b
Examples:
  cachewrap prune --older-than 30d --dry-run
  cachewrap prune --older-than 2026-11-01 --model 'gpt-3.5*'
  cachewrap prune --unused-since 7d --url redis://localhost/0
  cachewrap prune --max-bytes 2G --all-seeds""",
)
@where_options
@older_option
@click.option(
    "--unused-since",
    type=moment,
    metavar="WHEN",
    help="Not read for so long, or since a date. Redis knows it; a disk cache where it is used"
    " with max_bytes=.",
)
@click.option(
    "--max-bytes",
    type=size,
    metavar="SIZE",
    help="Keep so much; what goes first is the least recently used where that is known, else the "
    "oldest.",
)
@click.option(
    "--damaged",
    is_flag=True,
    help="What `verify` calls damaged, bar what is encrypted with a key that was not given.",
)
@narrowing_options
@dry_run_option
@json_option
def command(
    where: Where,
    wanted: Filter,
    older_than: Moment | None,
    unused_since: Moment | None,
    max_bytes: int | None,
    damaged: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove the entries that meet a condition: --older-than, --unused-since, --max-bytes, or
    --damaged; of several conditions any.

    The filters narrow that: only what fits all of them is looked at, and counted for --max-bytes.
    So `--model X --older-than 30d` removes what is of model X and older. Without a condition
    nothing is removed: `clear --model X` removes all of a model.

    An alias goes with the entry that it leads to, and with no other condition; what was stored
    under its key before is then there again.

    Sizes are those of the entries. The file of a disk cache does not shrink: the space is used for
    the entries that come next.
    """
    if older_than is None and unused_since is None and max_bytes is None and not damaged:
        raise click.UsageError(_no_condition(wanted))
    if damaged and wanted:
        raise click.UsageError(
            "of a damaged entry nothing is known that a filter could fit: give --damaged without"
        )
    removal = _Removal(dry_run)
    with where.opened() as places, closing(sqlite3.connect("")) as order:
        if unused_since is not None:
            _check_uses_known(places)
        order.executescript(_ORDER)
        now, kept, unreadable, left = time.time(), 0, 0, 0
        for number, place, key, used in _every_use(places, unused_since is not None or max_bytes):
            raw = place.get(key)
            if raw is None:
                continue
            row = _read(place, key, raw, damaged)
            if target := _target(place, key, raw) if row is None else row.alias_of:
                if row is None:
                    removal.take_back(place, key, raw)
                else:
                    order.execute("INSERT INTO alias VALUES (?, ?, ?)", (number, key, target))
                continue
            unreadable += row is None
            if wanted and not (row is not None and _fits(row, wanted)):
                left += row is None
                continue
            created = now if row is None else row.entry.created
            if (
                (row is None and damaged and not place.guard.lacks_key(raw))
                or (older_than is not None and created < older_than.at)
                or (unused_since is not None and (used or created) < unused_since.at)
            ):
                removal.remove(place, key, len(raw))
                order.execute("INSERT INTO gone VALUES (?, ?)", (number, key))
                continue
            kept += len(raw)
            left += row is None
            if max_bytes is not None:
                entry = (number, key, used or created, len(raw))
                order.execute("INSERT INTO entry VALUES (?, ?, ?, ?)", entry)
        if max_bytes is not None:
            by_use = "SELECT place, key, size FROM entry ORDER BY used"
            for number, key, length in order.execute(by_use):
                if kept <= max_bytes:
                    break
                removal.remove(places[number], key, length)
                order.execute("INSERT OR IGNORE INTO gone VALUES (?, ?)", (number, key))
                kept -= length
        for number, key in order.execute(_LED_TO_GONE).fetchall():
            if (raw := places[number].get(key)) is not None:
                removal.take_back(places[number], key, raw)
    _tell(removal, kept, unreadable, left, as_json)


def _no_condition(wanted: Filter) -> str:
    if wanted.max_size is not None or wanted.min_size is not None:
        more = "; --max-bytes bounds the cache, --max-size chooses entries by their own size"
    elif wanted:
        more = "; to remove all that fits the filters: cachewrap clear"
    else:
        more = ""
    return f"say what to remove: --older-than, --unused-since, --max-bytes or --damaged{more}"


def _fits(row: Row, wanted: Filter) -> bool:
    try:
        return wanted(row)
    except CorruptEntryError:
        return False


def _tell(removal: _Removal, kept: int, unreadable: int, left: int, as_json: bool) -> None:
    if as_json:
        facts = {"removed": removal.entries, "removed_bytes": removal.bytes, "kept_bytes": kept}
        facts["aliases"] = removal.aliases
        click.echo(json.dumps({**facts, "unreadable": unreadable, "dry_run": removal.dry_run}))
        return
    verb = "would remove" if removal.dry_run else "removed"
    aliases = (
        f", and {removal.aliases} alias{'es' * (removal.aliases > 1)} of what is gone"
        if removal.aliases
        else ""
    )
    click.echo(
        f"{verb} {entries_text(removal.entries)}, {size_text(removal.bytes)}{aliases};"
        f" {size_text(kept)} {'would stay' if removal.dry_run else 'stay'}"
    )
    if left:
        click.echo(f"{left} cannot be read: see cachewrap verify", err=True)


def _every_use(
    places: list[Place], wanted: object
) -> Iterator[tuple[int, Place, str, float | None]]:
    """Every key, and when it was last read: asked before it is read by us."""
    for number, place in enumerate(places):
        uses = place.store if wanted and isinstance(place.store, Uses) else None
        for key in place.store.keys():
            yield number, place, key, uses.last_used(key) if uses is not None else None


def _check_uses_known(places: list[Place]) -> None:
    for place in places:
        store = place.store
        if isinstance(store, Uses) and any(
            store.last_used(key) is not None for key in store.keys()
        ):
            continue
        if any(True for _ in store.keys()):
            raise click.UsageError(
                f"{store.url} does not know when its entries were used, so --unused-since"
                " cannot tell: a disk cache notes it where it is opened with max_bytes=, a Redis"
                " server unless it evicts by frequency. --older-than goes by when they were stored."
            )


def _target(place: Place, key: str, raw: bytes) -> str:
    """The key that an alias leads to, be it damaged otherwise; "" for what is none."""
    try:
        return read_row(place, key, raw).alias_of
    except CodecError:
        return ""


def _read(place: Place, key: str, raw: bytes, whole: bool) -> Row | None:
    """The entry, None where it cannot be read: all of it, as `verify` does, or what it is."""
    try:
        row = read_row(place, key, raw)
        if whole:
            read_answer(row)
            _ = row.request
        _ = row.alias_of
    except CodecError:
        return None
    return row


@click.command(
    "clear",
    short_help="Remove every entry of a seed, or those that fit filters.",
    epilog="""\b
Examples:
  cachewrap clear --seed 7
  cachewrap clear --model 'gpt-3.5*' --dry-run
  cachewrap clear --newer-than 1h --function summarise
  cachewrap clear --url redis://localhost/0 --all-seeds --yes""",
)
@where_options
@filter_options
@yes_option
@dry_run_option
def clear(where: Where, wanted: Filter, yes: bool, dry_run: bool) -> None:
    """Remove the entries of the seed that fit every filter; without a filter all of them.

    Asks first on a terminal. Without a terminal to ask on, --yes is needed.
    """
    with where.opened() as places:
        skipped = Skipped()
        seeds = seeds_text(places) or "none"
        if any(place.name for place in places):
            seeds += f" in {where.text(places)}"
        if wanted:
            rows = wanted_rows(places, wanted, skipped)
            found = [(row.place, row.key) for row in rows]
            total, fitting = len(found), " that fit"
        else:
            found, fitting = [], ""
            total = sum(1 for place in places for _ in place.store.keys())
        if dry_run:
            click.echo(f"would remove {entries_text(total)} of seed {seeds}")
        elif (
            yes or not total or is_meant(f"Remove {entries_text(total)} of seed {seeds}{fitting}?")
        ):
            if wanted:
                removed = sum(place.store.delete(key) for place, key in found)
            else:
                removed = sum(place.store.clear() for place in places)
            click.echo(f"removed {entries_text(removed)}")
        skipped.tell()


@click.command(
    "rm",
    short_help="Remove entries by their keys.",
    epilog="""\b
Examples:
  cachewrap rm 5f0c
  cachewrap rm .cache 5f0c e1 greeting --dry-run
  cachewrap rm greeting --url redis://localhost/0 --seed 7""",
)
@where_beside("keys", "[PLACE]... KEY...", keys_and_places)
@yes_option
@dry_run_option
def rm(keys: list[str], where: Where, yes: bool, dry_run: bool) -> None:
    """Remove the entry under each KEY, also one that is damaged.

    KEY is a key as `ls` gives it, or as many of its first characters as no other key begins with,
    or what was given to `cache.set`. Where one has no entry, or several, nothing is removed, and
    the exit status is 1. Several entries are removed after asking on a terminal. An alias goes with
    what was stored under its key before: `alias rm` takes one back.
    """
    with where.opened() as places:
        found, failed = {}, 0
        for key in keys:
            try:
                place, name = find_one(places, key)
                found[id(place), name] = place
            except click.ClickException as error:
                failed += 1
                click.echo(f"Error: {error.message}", err=True)
        if failed:
            click.echo("nothing was removed", err=True)
            sys.exit(1)
        several = len(found) > 1 and not (yes or dry_run) and is_terminal(sys.stdin)
        if several and not is_meant(f"Remove {entries_text(len(found))}?"):
            return
        for (_, name), place in found.items():
            told = _named(place, name)
            if dry_run or place.store.delete(name):
                click.echo(f"{'would remove' if dry_run else 'removed'} {told}")


def _named(place: Place, key: str) -> str:
    """An entry for people: the beginning of its key, and what was asked."""
    try:
        row = read_row(place, key, place.get(key) or b"")
        asked = f"(alias of {row.alias_of[:8]}) {row.prompt}" if row.alias_of else row.prompt
    except CodecError:
        asked = "(it cannot be read)"
    return f"{key[:12]}  {one_line(asked, terminal_width() - 28)}".rstrip()


def is_meant(question: str) -> bool:
    """Ask on the terminal. Raises `click.UsageError` where there is none."""
    if not is_terminal(sys.stdin):
        raise click.UsageError(f"{question} There is no terminal to ask on: give --yes")
    if click.confirm(question):
        return True
    click.echo("nothing was removed")
    return False
