"""Runs as the commands find them, by their names in open places, and what is told of one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import click

from cachewrap.cache import Cache
from cachewrap.cli.places import Place, Where
from cachewrap.cli.text import clean
from cachewrap.ledger.runs import ENDED, KILLED, RUNNING, UNKNOWN, Run, Runs, runs_of
from cachewrap.ledger.totals import Sum
from cachewrap.stores.base import Logs
from cachewrap.stores.jsonl import lines
from cachewrap.telemetry.usage import money_text

NONE: Final = "no runs: cachewrap run --name NAME PROGRAM keeps one"
"""What is said of a place without runs."""


class Kept:
    """The runs of one place.

    Args:
        name: what people call the place, where several are read; else ``""``.
        url: where they are kept.
        runs: the runs, the oldest first.
    """

    def __init__(self, name: str, url: str, runs: Runs) -> None:
        self.name = name
        self.url = url
        self.runs = runs


@contextmanager
def opened(where: Where) -> Iterator[list[Kept]]:
    """The runs of the places that a command is to read, which are closed afterwards.

    Raises `click.UsageError` where none of them can keep runs, and what `Where.opened` does.
    """
    with where.opened(empty=True) as places:
        found = kept_in(places)
        if places and not found:
            raise click.UsageError(f"{where.text(places)}: this kind of store keeps no runs")
        yield found


def kept_in(places: Iterable[Place]) -> list[Kept]:
    """The runs of places that are open; none of those that cannot keep runs."""
    found: dict[str, Kept] = {}
    for place in places:
        store = place.store
        if isinstance(store, Logs) and store.logs_url not in found:
            cache = Cache(store, cache_seed=place.seed)
            found[store.logs_url] = Kept(place.name, store.logs_url, runs_of(cache))
    return list(found.values())


@contextmanager
def chosen(where: Where, wanted: Sequence[str]) -> Iterator[list[tuple[Kept, Run]]]:
    """The runs that are meant by names, in their order, in open places.

    Args:
        where: the place of those that name none.
        wanted: names, or ``PLACE#NAME``.

    Raises `click.ClickException` where there is none, and what `opened` does.
    """
    with ExitStack() as places:
        known: dict[str, list[Kept]] = {}
        found = []
        for word in wanted:
            place, _, name = word.rpartition("#")
            if place not in known:
                at = Where(place, None, False, [place]) if place else where
                known[place] = places.enter_context(opened(at))
            found.append(named(known[place], name or "@"))
        yield found


def named(kept: list[Kept], name: str) -> tuple[Kept, Run]:
    """The run that is meant by a name. Raises `click.ClickException` where there is none."""
    found = [(one, run) for one in kept if (run := one.runs.find(name)) is not None]
    if len(found) > 1 and name.startswith("@"):
        back = name[1:].partition("/")[0]
        found = [] if back else [max(found, key=lambda one: one[1].started)]
    if len(found) > 1:
        told = ", ".join(f"{one.name}#{name}" for one, _ in found)
        raise click.ClickException(f"{name!r} is in several places: {told}")
    if not found:
        raise click.ClickException(clean(_missing(kept, name)))
    if "/" in name and not found[0][1].calls():
        raise click.ClickException(clean(_no_block(*found[0], name)))
    return found[0]


def _missing(kept: list[Kept], name: str) -> str:
    whole = Runs(run for one in kept for run in one.runs)
    if not whole:
        return f"no run {name!r}: {NONE.removeprefix('no runs: ')}"
    bare = name.partition("/")[0].partition("~")[0]
    alike = [run for run in whole if not run.named and len(bare) >= 4 and run.name.startswith(bare)]
    if len(alike) > 1:
        return f"{bare!r} begins {len(alike)} runs: {', '.join(run.name for run in alike[-5:])}"
    if earlier := sum(run.name == bare for run in whole):
        runs = "1 run" if earlier == 1 else f"{earlier} runs"
        return f"no run {name!r}: {bare} has {runs}, the newest is {bare} itself"
    return whole.missing(name)


def _no_block(kept: Kept, run: Run, name: str) -> str:
    whole = kept.runs.find(name.partition("/")[0])
    paths = dict.fromkeys(call.path for call in whole.calls() if call.path) if whole else {}
    told = f"there are {', '.join(list(paths)[:8])}" if paths else "it has no blocks"
    return f"no block {name.partition('/')[2]!r} in {run.name}: {told}"


_STATES: Final = {RUNNING: "goes on", KILLED: "killed", UNKNOWN: "no end", ENDED: ""}


def state_text(run: Run) -> str:
    """How a run ended, for people; ``""`` of one that ended as it should."""
    return _STATES[run.state]


def program_of(run: Run) -> str:
    """The file name of the program that made a run."""
    return run.processes[0].program if run.processes else ""


def money_cell(amount: Decimal | None) -> str:
    """US dollars in a table; ``-`` where no price is known."""
    return "-" if amount is None else money_text(amount)


def short(count: int) -> str:
    """A large number in few characters: ``9,500``, ``12k``, ``3.4M``."""
    if count < 10_000:
        return f"{count:,}"
    return f"{count / 1e3:.0f}k" if count < 999_500 else f"{count / 1e6:.1f}M"


def facts_of(kept: Kept, run: Run, sums: Sum) -> dict[str, Any]:
    """What is known of a run, for machines."""
    return plain(
        {
            **({"place": kept.name} if kept.name else {}),
            "name": run.label,
            "named": run.named,
            "state": run.state,
            "started": run.started,
            "ended": run.ended,
            "took": round(run.seconds, 6),
            "program": program_of(run),
            "processes": len(run.processes),
            "lost": run.lost,
            "bytes": run.size,
            **sums.as_dict(),
        }
    )


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row in the values of JSON: times in the form that `export` writes, money as a number."""
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return lines.show_time(value.timestamp())
    if isinstance(value, Decimal):
        return float(value)
    return round(value, 6) if isinstance(value, float) else value
