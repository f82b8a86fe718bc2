"""``cachewrap stats``: what is stored, by model and by function, and what every hit of it saves."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import click

from cachewrap.cli.entries import Row, Skipped, filter_options, wanted_rows
from cachewrap.cli.places import Where, json_option, where_options
from cachewrap.cli.text import (
    aliases_text,
    count_text,
    json_line,
    moment_text,
    size_text,
    span_text,
    table,
    terminal_width,
)
from cachewrap.entries.filters import Filter
from cachewrap.entry import Kind
from cachewrap.errors import printable
from cachewrap.telemetry.usage import can_price, cost_of, money_text, provider_saved, provider_text


@dataclass(slots=True)
class Sum:
    """The sum of a group of entries."""

    entries: int = 0
    bytes: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    money: Decimal | None = None
    provider_saved: Decimal = Decimal(0)

    def merge(self, other: Sum) -> None:
        """Add what another group adds up to."""
        for name in ("entries", "bytes", "tokens_in", "tokens_out", "seconds", "provider_saved"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.money is not None:
            self.money = (self.money or Decimal(0)) + other.money

    def facts(self) -> dict[str, Any]:
        """The sums, for machines."""
        facts = {name: getattr(self, name) for name in Sum.__dataclass_fields__}
        money = {name: facts[name] for name in ("money", "provider_saved")}
        return {
            **facts,
            **{name: None if one is None else float(one) for name, one in money.items()},
        }


@dataclass(slots=True)
class Total(Sum):
    """The sum of all of them.

    Args:
        aliases: how many keys are answered by another's entry, which are no entries themselves.
    """

    aliases: int = 0
    oldest: float = 0.0
    newest: float = 0.0
    under_rules: int = 0
    by_rule: int = 0
    elements: int = 0
    groups: dict[tuple[str, str], Sum] = field(default_factory=dict)

    def add(self, row: Row) -> Decimal | None:
        """Count an entry; what it cost, where that is known."""
        entry = row.entry
        if entry.kind is Kind.ALIAS:
            self.aliases += 1
            return None
        usage = row.usage
        money, off = cost_of(usage), provider_saved(usage)
        one = Sum(1, row.size, usage.tokens_in, usage.tokens_out, entry.seconds, money, off)
        self.merge(one)
        self.groups.setdefault((row.source, row.model), Sum()).merge(one)
        self.under_rules += bool(row.rules)
        self.by_rule += bool(row.by)
        self.elements += row.element
        self.oldest = min(self.oldest or entry.created, entry.created)
        self.newest = max(self.newest, entry.created)
        return money


@click.command(
    "stats",
    short_help="Count what is stored, by function and model.",
    epilog="""\b
Examples:
  cachewrap stats
  cachewrap stats --newer-than 7d --url redis://localhost/0 --all-seeds
  cachewrap stats --json | jq .total.tokens_out""",
)
@where_options
@filter_options
@json_option
def command(where: Where, wanted: Filter, as_json: bool) -> None:
    """Count the stored answers by function (or endpoint) and model.

    Tokens, seconds and money are what upstream took for them: what is saved each time when every
    one of them is served again. How often they were served is counted where they are served, in
    `cache.stats`, and told by `cachewrap run`. Money needs: pip install 'cachewrap[prices]'.
    """
    total, skipped = Total(), Skipped()
    with where.opened() as places:
        for row in wanted_rows(places, wanted, skipped):
            total.add(row)
        seeds = list(dict.fromkeys(place.seed for place in places))
        name = where.text(places)
    click.echo(_for_machines(total, seeds, skipped) if as_json else _text(total, name, seeds))
    skipped.tell()


def _declared(total: Total) -> str:
    """How many entries no exact cache sees, and why; ``""`` where there are none."""
    told = []
    if total.under_rules:
        ruled = f"{count_text(total.under_rules)} under rules of equality"
        changed = f" ({count_text(total.by_rule)} changed by them)" if total.by_rule else ""
        told.append(ruled + changed)
    if total.elements:
        be = "an element of a list" if total.elements == 1 else "elements of lists"
        told.append(f"{count_text(total.elements)} {be}")
    return ", ".join(told)


def _for_machines(total: Total, seeds: list[str], skipped: Skipped) -> str:
    groups = [
        {"source": source, "model": model, **group.facts()}
        for (source, model), group in sorted(total.groups.items())
    ]
    span = {"oldest": total.oldest or None, "newest": total.newest or None}
    declared = {name: getattr(total, name) for name in ("under_rules", "by_rule", "elements")}
    facts = {**total.facts(), **span, **declared}
    whole = {"seeds": seeds, "unreadable": skipped.count, "total": facts}
    return json_line({**whole, "groups": groups, "aliases": total.aliases})


def _text(total: Total, name: str, seeds: list[str]) -> str:
    lines = [f"{name}  seed {printable(', '.join(seeds))}" if seeds else f"{name}  no seeds"]
    if not total.entries:
        return "\n".join([*lines, "no entries"])
    lines += [f"stored from {moment_text(total.oldest)} to {moment_text(total.newest)} UTC", ""]
    head = ["SOURCE", "MODEL", "ENTRIES", "SIZE", "TOKENS IN", "OUT", "TIME"]
    head += ["MONEY"] if total.money is not None else []
    groups = sorted(total.groups.items(), key=lambda item: -item[1].entries)
    rows = [[source or "-", model or "-", *_cells(s, total)] for (source, model), s in groups]
    rows.append(["total", "", *_cells(total, total)])
    lines += table(head, rows, right=range(2, len(head)), width=terminal_width())
    if total.aliases:
        lines += ["", f"{aliases_text(total.aliases)}, which cachewrap alias ls lists"]
    if declared := _declared(total):
        lines += ["", declared]
    if total.provider_saved:
        lines += ["", provider_text(total.provider_saved)]
    if total.money is None and not can_price() and total.tokens_in:
        lines += ["", "For what this cost: pip install 'cachewrap[prices]'"]
    return "\n".join(lines)


def _cells(one: Sum, total: Sum) -> list[str]:
    cells = [
        count_text(one.entries),
        size_text(one.bytes),
        count_text(one.tokens_in),
        count_text(one.tokens_out),
        span_text(one.seconds),
    ]
    if total.money is not None:
        cells.append("-" if one.money is None else money_text(one.money))
    return cells
