"""What is done with each entry that goes from one place to another, and what became of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from cachewrap.cli.entries import Filter, Row, Skipped, read_row
from cachewrap.cli.places import Place, is_encrypted
from cachewrap.cli.text import count_text
from cachewrap.entry import Facts
from cachewrap.errors import ConfigurationError, CorruptEntryError
from cachewrap.format.envelope import seal
from cachewrap.policy import kept_until

F = TypeVar("F", bound=Callable[..., Any])


def cover_options(command: F) -> F:
    """The options ``--encrypt`` and ``--decrypt``."""
    for option in (
        click.option("--decrypt", "cover", flag_value="decrypt", help="Store as plain text."),
        click.option(
            "--encrypt", "cover", flag_value="encrypt", help="Encrypt, with the first key."
        ),
    ):
        command = option(command)
    return command


class Mover:
    """Moves entries, one at a time, and counts them.

    Args:
        wanted: the entries that are moved.
        cover: ``"encrypt"``, ``"decrypt"``, or None to leave them as they are.
    """

    def __init__(self, wanted: Filter, cover: str | None) -> None:
        self._wanted = wanted
        self._cover = cover
        self._now = time.time()
        self.moved = self.there_already = self.expired = 0
        self.skipped = Skipped()

    def put(
        self,
        place: Place,
        key: str,
        raw: bytes,
        there: Place,
        overwrite: bool = False,
        put: Callable[[Place, Row, bytes], None] | None = None,
    ) -> None:
        """Move one entry, if it is wanted.

        Args:
            place: where it comes from.
            key: its key.
            raw: what is stored.
            there: where it goes.
            overwrite: whether it replaces what is there.
            put: stores it; by default in the store of that place.
        """
        if self._cover == "encrypt" and not there.has_key:
            raise ConfigurationError("--encrypt needs a key in CACHEWRAP_ENCRYPTION_KEY")
        try:
            row = read_row(place, key, raw)
            if not row.entry.fresh(self._now):
                self.expired += 1
                return
            if not self._wanted(row, self._now):
                return
        except CorruptEntryError as error:
            self.skipped.add(error)
            return
        (put or _store(overwrite))(there, row, self._covered(row, raw, there))
        self.moved += 1

    def _covered(self, row: Row, raw: bytes, there: Place) -> bytes:
        """The entry as it is to be stored there."""
        plain = not is_encrypted(raw)
        if plain and self._cover != "encrypt":
            return raw
        if not plain and self._cover is None and there.seed == row.place.seed:
            return raw
        sealed = raw if plain else _resealed(row)
        return sealed if self._cover == "decrypt" else there.encrypt(row.key, sealed)

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
            noun = "entry" if self.moved == 1 else "entries"
            others = {
                "there already": self.there_already,
                "expired": self.expired,
                "unreadable": self.skipped.count,
            }
            more = (f"; {count_text(count)} {what}" for what, count in others.items() if count)
            click.echo(f"{verb} {count_text(self.moved)} {noun}{''.join(more)}")
        return 1 if self.skipped.count else 0


def _store(overwrite: bool) -> Callable[[Place, Row, bytes], None]:
    def put(there: Place, row: Row, raw: bytes) -> None:
        until = kept_until(row.entry.expires, row.entry.created)
        write = there.store.set if overwrite else there.store.add
        write(row.key, raw, expires=until)

    return put


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
