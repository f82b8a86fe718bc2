"""``cachewrap prune`` and ``cachewrap clear``: the removal of entries, of some and of all."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing

import click

from cachewrap.cli.entries import Row, read_row
from cachewrap.cli.places import Place, Where, json_option, where_options
from cachewrap.cli.text import count_text, entries_text, is_terminal, size, size_text, span
from cachewrap.cli.verify import read_answer
from cachewrap.errors import CodecError
from cachewrap.stores.base import Uses

_ORDER = """
CREATE TABLE entry (place INTEGER, key TEXT, used REAL, size INTEGER);
CREATE INDEX by_use ON entry (used);
"""


class _Removal:
    """The removal of entries, or the count of those that it would remove."""

    def __init__(self, dry_run: bool) -> None:
        self.dry_run = dry_run
        self.entries = self.bytes = 0

    def remove(self, place: Place, key: str, length: int) -> None:
        if self.dry_run or place.store.delete(key):
            self.entries += 1
            self.bytes += length


@click.command(
    "prune",
    short_help="Remove old, unused, damaged or too many entries.",
    epilog="""\b
Examples:
  cachewrap prune --older-than 30d --dry-run
  cachewrap prune --unused-since 7d --url redis://localhost/0
  cachewrap prune --max-bytes 2G --all-seeds""",
)
@where_options
@click.option("--older-than", type=span, metavar="SPAN", help="Stored longer ago than this.")
@click.option(
    "--unused-since",
    type=span,
    metavar="SPAN",
    help="Not read for this long. Redis knows it; a disk cache where it is used with max_bytes=.",
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
@click.option("--dry-run", is_flag=True, help="Remove nothing; tell what would be removed.")
@json_option
def command(
    where: Where,
    older_than: float | None,
    unused_since: float | None,
    max_bytes: int | None,
    damaged: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove the entries that meet any of the conditions. Without a condition nothing is removed.

    Sizes are those of the entries. The file of a disk cache does not shrink: the space is used for
    the entries that come next.
    """
    if older_than is None and unused_since is None and max_bytes is None and not damaged:
        raise click.UsageError("say what to remove: --older-than, --unused-since, --max-bytes, …")
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
            unreadable += row is None
            created = now if row is None else row.entry.created
            if (
                (row is None and damaged and not place.guard.lacks_key(raw))
                or (older_than is not None and created < now - older_than)
                or (unused_since is not None and (used or created) < now - unused_since)
            ):
                removal.remove(place, key, len(raw))
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
                kept -= length
    _tell(removal, kept, unreadable, left, as_json)


def _tell(removal: _Removal, kept: int, unreadable: int, left: int, as_json: bool) -> None:
    if as_json:
        facts = {"removed": removal.entries, "removed_bytes": removal.bytes, "kept_bytes": kept}
        click.echo(json.dumps({**facts, "unreadable": unreadable, "dry_run": removal.dry_run}))
        return
    verb = "would remove" if removal.dry_run else "removed"
    click.echo(
        f"{verb} {entries_text(removal.entries)}, {size_text(removal.bytes)};"
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


def _read(place: Place, key: str, raw: bytes, whole: bool) -> Row | None:
    """The entry, None where it cannot be read: all of it, as `verify` does, or what it is."""
    try:
        row = read_row(place, key, raw)
        if whole:
            read_answer(row)
            _ = row.request
    except CodecError:
        return None
    return row


@click.command(
    "clear",
    short_help="Remove every entry of a seed.",
    epilog="""\b
Examples:
  cachewrap clear --seed 7
  cachewrap clear --url redis://localhost/0 --all-seeds --yes""",
)
@where_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(where: Where, yes: bool) -> None:
    """Remove every entry of the seed, and nothing else. Asks first on a terminal.

    Without a terminal to ask on, --yes is needed.
    """
    with where.opened() as places:
        counts = [sum(1 for _ in place.store.keys()) for place in places]
        total, seeds = sum(counts), ", ".join(place.seed for place in places) or "none"
        question = f"Remove {count_text(total)} entries of seed {seeds}?"
        if not yes and total:
            if not is_terminal(sys.stdin):
                raise click.UsageError(f"{question} There is no terminal to ask on: give --yes")
            if not click.confirm(question):
                click.echo("nothing was removed")
                return
        removed = sum(place.store.clear() for place in places)
    click.echo(f"removed {entries_text(removed)}")
