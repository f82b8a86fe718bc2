"""Entries as the commands see them, and the options that choose among them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

import click

from cachewrap.cli.places import Place, handed, seeds_text
from cachewrap.cli.text import count_text, one_line
from cachewrap.entries.filters import Filter, Moment, read_moment, read_rules, read_size
from cachewrap.entries.stored import Samples, StoredEntry, read_entries
from cachewrap.entry import Entry
from cachewrap.errors import ConfigurationError, CorruptEntryError, printable
from cachewrap.explain.texts import common_prefix
from cachewrap.request.canonical import canonical
from cachewrap.request.key import encode, key_of, salted
from cachewrap.stores.base import Seeds
from cachewrap.stores.jsonl import lines
from cachewrap.stores.jsonl.shown import show_answer

T = TypeVar("T")


class Row(StoredEntry):
    """One entry, and the place it is in.

    Args:
        place: the partition it is in.
        key: its key.
        size: bytes as they are stored.
        entry: what it holds.
        samples: knows which sample it is.
    """

    __slots__ = ("place",)

    def __init__(self, place: Place, key: str, size: int, entry: Entry, samples: Samples) -> None:
        super().__init__(key, place.seed, size, entry, samples)
        self.place = place

    @property
    def entry(self) -> Entry:
        """What it holds."""
        return self._entry

    @property
    def raw_request(self) -> bytes:
        """The encoded request; empty where it was left out."""
        return self._raw_request

    def facts(self) -> dict[str, Any]:
        """What is known of the entry beside request and answer, for machines.

        Times and seconds are in the form that `export` writes.
        """
        entry = self._entry
        return {
            **self._facts(),
            "created": lines.show_time(entry.created),
            "expires": lines.show_time(entry.expires) if entry.expires else None,
            "seconds": lines.show_seconds(entry.seconds),
        }


def facts_and_texts(row: Row) -> dict[str, Any]:
    """The facts of an entry with what was asked and answered, for machines.

    ``answer`` is in the form that `export` writes, ``answer_text`` what it says. None stands for
    what cannot be read.
    """
    answer = row.entry.kind, row.entry.answer
    return {
        **row.facts(),
        "prompt": _readable(lambda: row.prompt),
        "answer": {"of": target} if (target := row.alias_of) else show_answer(*answer),
        "answer_text": _readable(lambda: row.answer),
    }


def _readable(text: Callable[[], str]) -> str | None:
    try:
        return text()
    except CorruptEntryError:
        return None


def read_row(place: Place, key: str, raw: bytes, samples: Samples | None = None) -> Row:
    """Open one entry. Raises `CorruptEntryError`."""
    return Row(place, key, len(raw), place.unseal(key, raw), samples or Samples())


_HEX: Final = re.compile("[0-9a-f]{1,64}")
_NAMED: Final = 8
"""Candidates, at most, that a message names."""


def find_one(places: list[Place], given: str) -> tuple[Place, str]:
    """The one entry that is meant, read or not: its place and key.

    Args:
        places: where it may be.
        given: a key, or as many of its first characters as no other has, or what was given to
            `cache.set`.

    Raises `click.ClickException` where there is none, or more than one.
    """
    found = [(place, key) for place in places for key in _found(place, given)]
    if not found:
        raise click.ClickException(_no_entry(places, given))
    if len(found) > 1:
        raise click.ClickException(_several(found, given))
    return found[0]


def _found(place: Place, given: str) -> list[str]:
    set_by_hand = key_of(salted("key"), encode({"key": canonical(given)}))
    for whole in (given, set_by_hand):
        if len(whole) == 64 and _HEX.fullmatch(whole) and place.get(whole) is not None:
            return [whole]
    if _HEX.fullmatch(given) is None:
        return []
    return [key for key in place.store.keys() if key.startswith(given)]


def _several(found: list[tuple[Place, str]], given: str) -> str:
    """What to say where several entries may be meant: as much of each key as it takes."""
    keys = {key for _, key in found}
    if len(keys) == 1:
        if len(seeds := {printable(place.seed): "" for place, _ in found}) > 1:
            return f"{given!r} is stored in several seeds: give --seed, one of {', '.join(seeds)}"
        return f"{given!r} is in {', '.join(printable(place.name) for place, _ in found)}: name one"
    lines = [f"{given!r} is the beginning of {count_text(len(found))} keys:"]
    least = _least(keys)
    for place, key in found[:_NAMED]:
        try:
            row = read_row(place, key, place.get(key) or b"")
            told = one_line(f"{row.model or row.source}  {row.prompt}", 60)
        except CorruptEntryError:
            told = "(it cannot be read)"
        seed = f"seed {printable(place.seed)}  " if len({p.seed for p, _ in found}) > 1 else ""
        lines.append(f"  {key[:least]}  {seed}{told}")
    return "\n".join(lines + ["  …"] * (len(found) > _NAMED))


def _least(keys: Iterable[str]) -> int:
    """How many characters tell keys apart."""
    ordered = sorted(keys)
    return max(8, 1 + max(itertools.starmap(common_prefix, itertools.pairwise(ordered)), default=0))


def _no_entry(places: list[Place], given: str) -> str:
    """What to say where no entry is meant: in which other seed there is one, or what is near."""
    seeds = seeds_text(places)
    told = f"no entry under {given!r} in seed {seeds}"
    for place in _other_seeds(places):
        if _found(place, given):
            seed = printable(place.seed)
            return f"{told}, but there is one in seed {seed}: --seed {seed}"
    near = _near(places, given) if _HEX.fullmatch(given) else []
    if near:
        return f"{told}: the nearest keys are {', '.join(near)}"
    return f"{told}: cachewrap ls lists the keys"


def _other_seeds(places: list[Place]) -> Iterator[Place]:
    store = places[0].store if places else None
    if not isinstance(store, Seeds):
        return
    known = {place.seed for place in places}
    for seed in store.seeds():
        if seed not in known:
            place = Place(store.reseed(seed), seed)
            yield place
            place.rest()


def _near(places: list[Place], given: str) -> list[str]:
    """The beginnings of the keys that share most of their first characters with what was given."""
    best: list[str] = []
    most = max(2, len(given) // 2)
    for key in itertools.chain.from_iterable(place.store.keys() for place in places):
        shared = common_prefix(key, given)
        if shared > most:
            best, most = [], shared
        if shared == most and len(best) < 3:
            best.append(key[: max(8, shared + 2)])
    return best


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


def wanted_rows(places: Iterable[Place], wanted: Filter, skipped: Skipped) -> Iterator[Row]:
    """The entries that fit a filter; those that cannot be read are counted."""
    for place in places:
        read = partial(read_row, place, samples=Samples())
        yield from read_entries(place.store, read, wanted, skipped.add)
        place.rest()


def _read(read: Callable[[str], T]) -> Callable[[str], T]:
    """A way to read the text of an option, which says what is wrong with it as click does."""

    def convert(text: str) -> T:
        try:
            return read(text)
        except ConfigurationError as error:
            raise click.BadParameter(str(error).removeprefix("it: ")) from None

    return convert


moment: Final = _read(read_moment)
size: Final = _read(read_size)

_narrowing: Final = (
    click.option("--model", metavar="PATTERN", help="The model, with * and ? as in a shell."),
    click.option(
        "--source",
        metavar="PATTERN",
        help="The endpoint (chat/completions) or function that was called.",
    ),
    click.option("--function", metavar="PATTERN", help="The function (module:name, or its name)."),
    click.option(
        "--newer-than",
        type=moment,
        metavar="WHEN",
        help="Stored within 90s, 12h, 30d; or since 2026-11-01, or 2026-11-01T12:00Z.",
    ),
    click.option("--min-size", type=size, metavar="SIZE", help="At least as large: 10k, 2M."),
    click.option("--max-size", type=size, metavar="SIZE", help="At most as large."),
    click.option("--text", metavar="TEXT", help="Text in the prompt or the answer, in any case."),
    click.option(
        "--rules",
        type=_read(read_rules),
        metavar="WHICH",
        help="Stored under rules of equality: any, none, or the beginning of their digest.",
    ),
)
older_option: Final = click.option(
    "--older-than", type=moment, metavar="WHEN", help="Stored longer ago than that, or before it."
)
filter_options: Final = handed("wanted", Filter, *_narrowing[:4], older_option, *_narrowing[4:])
dry_run_option: Final = click.option(
    "--dry-run", is_flag=True, help="Do nothing; tell what would be done."
)


def _narrowing_filter(
    model: str | None,
    source: str | None,
    function: str | None,
    newer_than: Moment | None,
    min_size: int | None,
    max_size: int | None,
    text: str | None,
    rules: str | None,
) -> Filter:
    return Filter(model, source, function, newer_than, None, min_size, max_size, text, rules)


narrowing_options: Final = handed("wanted", _narrowing_filter, *_narrowing)
