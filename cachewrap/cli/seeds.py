"""``cachewrap seeds``: the seeds of a place, with their entries, size and times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import click

from cachewrap.cli.places import (
    Place,
    Where,
    foreign_answers,
    in_order,
    json_option,
    place_options,
)
from cachewrap.cli.text import (
    answers_text,
    count_text,
    json_line,
    moment_text,
    size_text,
    table,
    terminal_width,
)
from cachewrap.errors import CorruptEntryError
from cachewrap.stores.base import Seeds
from cachewrap.stores.jsonl import JsonlStore


@runtime_checkable
class SideBySide(Protocol):
    """A store that goes through all seeds of its place in the time of one."""

    def scan_seeds(self) -> Iterator[tuple[str, str, bytes]]:
        """Seed, key and value of every entry."""
        ...


@dataclass(slots=True)
class Partition:
    """The sum of one seed of one place.

    Args:
        place: the place, by name where there are several.
        seed: the seed.
        foreign: answers of AutoGen 0.2 that are kept there as well.
        oldest: when the first entry was stored, in seconds since the epoch; 0.0 without any.
        newest: when the last one was.
    """

    place: str
    seed: str
    foreign: int = 0
    entries: int = 0
    size: int = 0
    oldest: float = 0.0
    newest: float = 0.0

    def add(self, place: Place, key: str, raw: bytes) -> None:
        """Count an entry; of one that cannot be read it is not known when it was stored."""
        self.entries += 1
        self.size += len(raw)
        try:
            created = place.unseal(key, raw).created
        except CorruptEntryError:
            return
        self.oldest = min(self.oldest or created, created)
        self.newest = max(self.newest, created)


@click.command(
    "seeds",
    short_help="List the seeds, with their entries.",
    epilog="""\b
Examples:
  cachewrap seeds
  cachewrap seeds tests/cassettes
  cachewrap seeds redis://localhost/0 --json | jq .seed""",
)
@place_options
@json_option
def command(where: Where, as_json: bool) -> None:
    """List the seeds that PLACE holds: entries, size, when the first and the last was stored.

    A seed is a draw of answers: the same request has one answer in each. Programs name theirs with
    cache_seed=; without one it is 41.
    """
    with where.opened(empty=True) as places:
        found = [one for place in places for one in _partitions(place)]
        name = where.text(places)
    if as_json:
        for one in found:
            click.echo(json_line(_facts(one)))
        return
    click.echo(name)
    if not found:
        click.echo("no seeds")
        return
    several = any(one.place for one in found)
    head = [*["PLACE"] * several, "SEED", "ENTRIES", "SIZE", "FIRST", "LAST"]
    rows = [[*[one.place] * several, *_cells(one)] for one in found]
    right = (1 + several, 2 + several)
    click.echo("\n".join(table(head, rows, right=right, width=terminal_width())))
    if foreign := sum(one.foreign for one in found):
        click.echo(
            f"and {answers_text(foreign)} of AutoGen 0.2: cachewrap import reads them", err=True
        )


def _partitions(place: Place) -> Iterator[Partition]:
    """The sums of all seeds of a place."""
    store = place.store
    if isinstance(store, JsonlStore):
        yield from _sums(place, _lines(store))
    elif isinstance(store, SideBySide):
        yield from _sums(place, store.scan_seeds())
    elif not isinstance(store, Seeds):
        raise click.UsageError("this kind of store cannot tell its seeds")
    else:
        for seed in in_order(store.seeds()):
            here = Place(store.reseed(seed), seed)
            one = Partition(place.name, seed, foreign_answers(here.store))
            for key, raw in here.entries():
                one.add(here, key, raw)
            here.rest()
            yield one


def _sums(place: Place, entries: Iterable[tuple[str, str, bytes]]) -> Iterator[Partition]:
    found: dict[str, tuple[Place, Partition]] = {}
    for seed, key, raw in entries:
        if seed not in found:
            found[seed] = Place(place.store, seed), Partition(place.name, seed)
        here, one = found[seed]
        one.add(here, key, raw)
    yield from (found[seed][1] for seed in in_order(found))


def _lines(store: JsonlStore) -> Iterator[tuple[str, str, bytes]]:
    places: dict[str, Place] = {}
    for seed, key in store.names():
        place = places.get(seed)
        if place is None:
            place = places[seed] = Place(store.reseed(seed), seed)
        yield seed, key, place.get(key) or b""


def _cells(one: Partition) -> list[str]:
    return [
        one.seed,
        count_text(one.entries),
        size_text(one.size),
        moment_text(one.oldest),
        moment_text(one.newest),
    ]


def _facts(one: Partition) -> dict[str, Any]:
    return {
        **({"place": one.place} if one.place else {}),
        "seed": one.seed,
        "entries": one.entries,
        "bytes": one.size,
        "oldest": one.oldest or None,
        "newest": one.newest or None,
    }
