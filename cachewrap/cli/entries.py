"""Entries as the commands see them, and the filters that choose among them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

import click
import msgspec

from cachewrap.cli.conversation import answer_turns, request_turns, turns_text
from cachewrap.cli.places import Place, every_entry, handed
from cachewrap.cli.text import size, span
from cachewrap.entry import Entry
from cachewrap.errors import CorruptEntryError, printable
from cachewrap.request.key import decode_request, may_tell_secrets, readable
from cachewrap.secrets import hidden


@dataclass(slots=True)
class Row:
    """One entry.

    Args:
        place: the partition it is in.
        key: its key.
        size: bytes as they are stored.
        entry: what it holds.
        source: the function or endpoint that was called.
        model: the model, or ``""``.
        request: the canonical request, or None where it was left out.
    """

    place: Place
    key: str
    size: int
    entry: Entry
    source: str
    model: str
    raw_request: bytes

    @property
    def request(self) -> Any:
        """The canonical request, readable and without credentials; None where it was left out."""
        raw = self.raw_request
        if not raw:
            return None
        try:
            shown = readable(decode_request(raw))
            return hidden(shown) if may_tell_secrets(raw) else shown
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
            raise CorruptEntryError(f"its request cannot be read: {error}") from None

    def facts(self) -> dict[str, Any]:
        """What is known of the entry beside request and answer, for machines."""
        entry = self.entry
        return {
            "key": self.key,
            "seed": self.place.seed,
            "source": self.source,
            "model": self.model,
            "kind": entry.kind.name.lower(),
            "created": entry.created,
            "expires": entry.expires or None,
            "seconds": round(entry.seconds, 6),
            "tokens_in": entry.tokens_in,
            "tokens_out": entry.tokens_out,
            "bytes": self.size,
        }


def read_row(place: Place, key: str, raw: bytes) -> Row:
    """Open one entry. Raises `CorruptEntryError`."""
    entry = place.unseal(key, raw)
    entry.created, entry.expires = _number(entry.created), _number(entry.expires)
    entry.seconds = max(0.0, _number(entry.seconds))
    record = entry.read_record()
    return Row(place, key, len(raw), entry, record["source"], record["model"], record["request"])


def _number(fact: float) -> float:
    return fact if math.isfinite(fact) else 0.0  # a sum, or JSON, has no room for others


class Skipped:
    """The count of entries that could not be read, which keeps why for the first of each kind."""

    def __init__(self) -> None:
        self.count = 0
        self.reasons: dict[str, int] = {}

    def add(self, error: Exception) -> None:
        """Count one."""
        self.count += 1
        reason = printable(str(error), 400)
        if reason in self.reasons or len(self.reasons) < 20:
            self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def tell(self) -> None:
        """Say on stderr what was left out."""
        for reason, count in self.reasons.items():
            click.echo(f"left out {count}: {reason}", err=True)


@dataclass(frozen=True, slots=True)
class Filter:
    """A choice of entries: those that fit every field that is given."""

    model: str | None = None
    source: str | None = None
    newer_than: float | None = None
    older_than: float | None = None
    min_size: int | None = None
    max_size: int | None = None
    text: str | None = None

    def __call__(self, row: Row, now: float) -> bool:
        return (
            self.fits(row.model, row.source, row.entry.created, now)
            and (self.min_size is None or row.size >= self.min_size)
            and (self.max_size is None or row.size <= self.max_size)
            and (self.text is None or self._has_text(row, self.text.casefold()))
        )

    def fits(self, model: str, source: str, when: float, now: float) -> bool:
        """Whether model, source and time fit: what is known of calls as well as of entries."""
        return (
            (self.model is None or fnmatchcase(model, self.model))
            and (self.source is None or _fits_source(source, self.source))
            and (self.newer_than is None or when >= now - self.newer_than)
            and (self.older_than is None or when < now - self.older_than)
        )

    def _has_text(self, row: Row, text: str) -> bool:
        return (
            text in turns_text(request_turns(row.request)).casefold()
            or text in turns_text(answer_turns(row.entry)).casefold()
        )


def _fits_source(source: str, wanted: str) -> bool:
    """Whether a function or endpoint fits a pattern: whole, by its last part, or by its path."""
    parts = {source, source.rpartition(":")[2], source.rpartition(" ")[2].lstrip("/")}
    return any(fnmatchcase(part, wanted) for part in parts)


def wanted_rows(places: Iterable[Place], wanted: Filter, skipped: Skipped) -> Iterator[Row]:
    """The entries that fit a filter; those that cannot be read are counted."""
    now = time.time()
    for place, key, raw in every_entry(places):
        try:
            row = read_row(place, key, raw)
            fits = wanted(row, now)
        except CorruptEntryError as error:
            skipped.add(error)
            continue
        if fits:
            yield row


filter_options: Final = handed(
    "wanted",
    Filter,
    click.option("--model", metavar="PATTERN", help="The model, with * and ? as in a shell."),
    click.option(
        "--source",
        "--function",
        metavar="PATTERN",
        help="The function (module:name, or its name) or endpoint (chat/completions).",
    ),
    click.option("--newer-than", type=span, metavar="SPAN", help="Stored within: 90s, 12h, 30d."),
    click.option("--older-than", type=span, metavar="SPAN", help="Stored longer ago than."),
    click.option("--min-size", type=size, metavar="SIZE", help="At least as large: 10k, 2M."),
    click.option("--max-size", type=size, metavar="SIZE", help="At most as large."),
    click.option("--text", metavar="TEXT", help="Text in the prompt or the answer, in any case."),
)
