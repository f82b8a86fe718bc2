"""``cachewrap runs show``: one run, what it came to, and what stands out in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from importlib import import_module
from typing import Any, Final

import click

from cachewrap.cli.entries import read_row
from cachewrap.cli.guess import runs_and_places
from cachewrap.cli.kept_runs import (
    Kept,
    chosen,
    facts_of,
    money_cell,
    plain,
    program_of,
    short,
    state_text,
)
from cachewrap.cli.places import Place, Where, json_option, where_beside
from cachewrap.cli.text import (
    answers_text,
    calls_text,
    clean,
    count_text,
    json_line,
    moment_text,
    rule_names,
    span_text,
    table,
    terminal_width,
)
from cachewrap.entries.filters import short_source
from cachewrap.errors import CodecError, StoreError
from cachewrap.ledger.calls import BYPASSED, FAILED, MISS, Call
from cachewrap.ledger.runs import Run
from cachewrap.ledger.totals import (
    REPEATED,
    Reason,
    Repeat,
    Sum,
    Totals,
    by_rule,
    most,
    reasons,
    repeated,
    totals,
)
from cachewrap.telemetry.usage import can_price, money_text, provider_text

_SLOWEST: Final = 5
_SLOW_SECONDS: Final = 0.1
_LISTED: Final = 10
_KEY: Final = 8
_WIDE: Final = 110


@click.command(
    "show",
    short_help="Show what a run asked, and what it came to.",
    epilog="""\b
Examples:
  cachewrap runs show
  cachewrap runs show baseline --calls --limit 20
  cachewrap runs show baseline/judge
  cachewrap runs show baseline --prefix
  cachewrap runs show .other#nightly --json | jq .groups""",
)
@where_beside("names", "[PLACE]... [NAME]", runs_and_places, seeds=False)
@click.option("--block", metavar="PATH", help="Only what was asked in this block: judge, a/b.")
@click.option("--calls", "listed", is_flag=True, help="Every call, in order.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Of --calls, at most so many.")
@click.option(
    "--repeats",
    type=click.IntRange(1),
    default=REPEATED,
    show_default=True,
    metavar="N",
    help="Tell what was asked more than so many times.",
)
@click.option(
    "--prefix",
    is_flag=True,
    help="Where requests that continue a conversation stop being the same, so that the provider's"
    " own cache did not help.",
)
@json_option
def show(
    names: list[str],
    where: Where,
    block: str | None,
    listed: bool,
    limit: int | None,
    repeats: int,
    prefix: bool,
    as_json: bool,
) -> None:
    """Show the run NAME, by default the newest: totals, by function and model, the slowest calls,
    what was asked again and again, and why calls were not cached or failed.

    `cachewrap help runs` tells what a NAME can be. --json gives one object with all of it.
    """
    if len(names) > 1:
        raise click.UsageError(f"give one run, not {' and '.join(names)}")
    name = names[0] if names else "@"
    with chosen(where, [f"{name}/{block}" if block else name]) as ((kept, run),):
        shown = _Shown(kept, run, repeats)
        if as_json:
            facts = shown.facts()
            if listed:
                facts["every_call"] = [plain(call.as_dict()) for call in run.calls()[:limit]]
            if prefix:
                facts["prefix"] = import_module("cachewrap.cli.runs_prefix").facts(run)
            click.echo(json_line(facts))
        elif prefix:
            lines = import_module("cachewrap.cli.runs_prefix").lines(run, terminal_width())
            click.echo("\n".join([*shown.head(), "", *lines]))
        elif listed:
            click.echo("\n".join([*shown.head(), "", *_list(run, limit)]))
        else:
            click.echo("\n".join(shown.lines()))


class _Shown:
    """A run as it is shown.

    Args:
        kept: where it is.
        run: the run.
        repeats: how often a request is asked, at most, of which nothing is said.
    """

    def __init__(self, kept: Kept, run: Run, repeats: int) -> None:
        calls = run.calls()
        self._kept = kept
        self._run = run
        self._repeats = repeats
        self._width = terminal_width()
        self._totals: Totals = totals(calls)
        self._often = repeated(calls, repeats)
        self._rules = by_rule(calls)
        self._slowest = most(calls, count=_SLOWEST)
        self._past = reasons(calls, BYPASSED)
        self._unkept = reasons(calls, MISS)
        self._failed = reasons(calls, FAILED)
        self._prompts = _Prompts(run)

    def facts(self) -> dict[str, Any]:
        """All of it, for machines."""
        return {
            **facts_of(self._kept, self._run, self._totals.sum),
            "groups": [plain(one.as_dict()) for one in self._totals.groups],
            "blocks": [plain(one.as_dict()) for one in self._totals.blocks],
            "slowest": [
                {**plain(one.as_dict()), "prompt": self._prompts.of(one)} for one in self._slowest
            ],
            "repeated": [
                {**plain(one.as_dict()), "prompt": self._prompts.of(one.call)}
                for one in self._often
            ],
            "by_rule": self._rules,
            "not_cached": [one.as_dict() for one in self._past],
            "not_stored": [one.as_dict() for one in self._unkept],
            "errors": [one.as_dict() for one in self._failed],
        }

    def head(self) -> list[str]:
        """What is said before all else."""
        run, sums = self._run, self._totals.sum
        begun = f"{moment_text(run.started.timestamp())} UTC"
        state = {"goes on": "it goes on", "killed": "it was killed", "no end": "it has not ended"}
        processes = f"{len(run.processes)} processes" if len(run.processes) > 1 else ""
        what = [begun, span_text(run.seconds), program_of(run), processes]
        what.append(state.get(state_text(run), ""))
        lines = [
            f"{clean(self._run.label)}  {self._kept.url}",
            clean(", ".join(filter(None, what))),
        ]
        lines.append(_counted(sums))
        lines += [line for line in (_saved(sums), _spent(sums)) if line]
        if sums.unpriced and can_price():
            lines.append(f"{answers_text(sums.unpriced)} of models without a known price")
        if run.lost:
            why = "the store could not be written for too long"
            lines.append(f"{calls_text(run.lost)} not written down: {why}")
        return lines

    def lines(self) -> list[str]:
        """All of it, for people."""
        sums, lines = self._totals.sum, self.head()
        if not sums.calls:
            return lines
        groups = [([short_source(one.source), one.model], one.sum) for one in self._totals.groups]
        lines += ["", *_sums(["SOURCE", "MODEL"], groups, sums, self._width)]
        if len(self._totals.blocks) > 1:
            blocks = [([one.path or "-"], one.sum) for one in self._totals.blocks]
            lines += ["", *_sums(["BLOCK"], blocks, sums, self._width)]
        lines += self._part("hits by rule:", _RULES, list(self._rules.items()), _rule_cells)
        slow = [call for call in self._slowest if call.seconds >= _SLOW_SECONDS]
        lines += self._part("the slowest:", _SLOW, slow, self._slow_cells)
        lines += self._often_lines()
        for told, found in (
            ("past the cache:", self._past),
            ("not stored:", self._unkept),
            ("failed:", self._failed),
        ):
            lines += self._part(told, _REASONS, found, _reason_cells)
        if sums.saved is None and sums.spent is None and not can_price() and sums.unpriced:
            lines += ["", "For what this cost: pip install 'cachewrap[prices]'"]
        return lines

    def _part(
        self,
        told: str,
        head: Sequence[str],
        found: Sequence[Any],
        cells: Callable[[Any], list[str]],
    ) -> list[str]:
        """A table with what is said above it; nothing where there is nothing."""
        if not found:
            return []
        rows = [cells(one) for one in found[:_LISTED]]
        right = [at for at, name in enumerate(head) if name in _FIGURES]
        lines = ["", told, *table(head, rows, right=right, width=self._width)]
        return lines + [f"and {count_text(len(found) - _LISTED)} more"] * (len(found) > _LISTED)

    def _slow_cells(self, call: Call) -> list[str]:
        what = call.model or short_source(call.source)
        cells = [span_text(call.seconds), call.outcome, call.key[:_KEY] or "-", what]
        return [*cells, self._prompts.of(call) or "-"]

    def _often_lines(self) -> list[str]:
        told = f"asked more than {self._repeats} times:"
        lines = self._part(told, _OFTEN, self._often, self._often_cells)
        for one in self._often:
            if one.polls:
                lines.append(_polls(one))
        return lines

    def _often_cells(self, one: Repeat) -> list[str]:
        what = one.call.model or short_source(one.call.source)
        counts = [count_text(one.count), count_text(one.misses), count_text(one.in_a_row)]
        return [*counts, one.call.key[:_KEY], what, self._prompts.of(one.call) or "-"]


_FIGURES: Final = frozenset(("HITS", "TOOK", "TIMES", "MISSES", "IN A ROW", "#", "AT", "TOKENS"))
_SLOW: Final = ("TOOK", "OUTCOME", "KEY", "MODEL/FUNCTION", "PROMPT")
_OFTEN: Final = ("TIMES", "MISSES", "IN A ROW", "KEY", "MODEL/FUNCTION", "PROMPT")
_REASONS: Final = ("TIMES", "SOURCE", "WHY")
_RULES: Final = ("HITS", "RULE")


def _rule_cells(rule: tuple[str, int]) -> list[str]:
    return [count_text(rule[1]), rule[0]]


def _reason_cells(one: Reason) -> list[str]:
    return [count_text(one.count), short_source(one.source), one.reason or "-"]


def _polls(one: Repeat) -> str:
    return clean(
        f"{one.call.key[:_KEY]} was asked {count_text(one.in_a_row)} times in a row by {one.lane}:"
        " a loop that waits for another answer is given the stored one each time"
        " (ask in `with cache.samples():`, or past the cache)"
    )


def _counted(sums: Sum) -> str:
    ruled = f" ({count_text(sums.hits_by_rule)} by rule)" if sums.hits_by_rule else ""
    hits = "hits" if sums.hits != 1 else "hit"
    parts = [
        (sums.hits, hits if sums.joined else hits + ruled),
        (sums.joined, f"joined{ruled}"),
        (sums.misses, "misses" if sums.misses != 1 else "miss"),
        (sums.bypassed, "past the cache"),
        (sums.failed, "failed"),
    ]
    told = ", ".join(f"{count_text(count)} {name}" for count, name in parts if count)
    calls = calls_text(sums.calls)
    return f"{calls}: {told}" if told else calls


def _saved(sums: Sum) -> str:
    if not sums.hits + sums.joined:
        return ""
    told = [
        f"{count_text(sums.tokens_saved)} tokens" if sums.tokens_saved else "",
        span_text(sums.seconds_saved) if sums.seconds_saved else "",
        money_text(sums.saved) if sums.saved is not None else "",
    ]
    return f"saved: {', '.join(filter(None, told))}" if any(told) else ""


def _spent(sums: Sum) -> str:
    if not sums.misses:
        return ""
    told = [
        f"{count_text(sums.tokens_spent)} tokens" if sums.tokens_spent else "",
        money_text(sums.spent) if sums.spent is not None else "",
    ]
    if not any(told):
        return ""
    less = provider_text(sums.provider_saved or Decimal())
    return f"spent: {', '.join(filter(None, told))}{f'; {less}' if less else ''}"


def _sums(
    names: list[str], groups: Iterable[tuple[list[str], Sum]], whole: Sum, width: int
) -> list[str]:
    """A table of sums, with the whole below them; columns that have nothing are left out."""
    rows = list(groups)
    rows.append((["total", *[""] * (len(names) - 1)], whole))
    columns: list[tuple[str, Callable[[Sum], str], object]] = [
        ("CALLS", lambda one: count_text(one.calls), True),
        ("HITS", lambda one: count_text(one.hits), True),
        ("JOINED", lambda one: count_text(one.joined), whole.joined),
        ("BY RULE", lambda one: count_text(one.hits_by_rule), whole.hits_by_rule),
        ("MISSES", lambda one: count_text(one.misses), True),
        ("PAST", lambda one: count_text(one.bypassed), whole.bypassed),
        ("FAILED", lambda one: count_text(one.failed), whole.failed),
        ("TIME", lambda one: span_text(one.seconds), width >= 90),
        ("TOKENS SAVED", lambda one: short(one.tokens_saved), width >= 120),
        ("TOKENS SPENT", lambda one: short(one.tokens_spent), width >= 120),
        ("SAVED", lambda one: money_cell(one.saved), whole.saved is not None),
        ("SPENT", lambda one: money_cell(one.spent), whole.spent is not None),
    ]
    shown = [(name, text) for name, text, wanted in columns if wanted]
    head = [*names, *(name for name, _ in shown)]
    cells = [
        [*(name or "-" for name in labels), *(text(s) for _, text in shown)] for labels, s in rows
    ]
    cells[-1][1 : len(names)] = [""] * (len(names) - 1)
    return table(head, cells, right=range(len(names), len(head)), width=width)


class _Prompts:
    """The prompts of the calls of a run, of what is still stored.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._places: dict[str, Place] = {}

    def of(self, call: Call) -> str:
        """The last thing that was said in the request of a call; ``""`` where it is not known."""
        if not call.key:
            return ""
        try:
            place = self._places.get(call.seed)
            if place is None:
                store = self._run.cache.reseed(call.seed).store
                place = self._places[call.seed] = Place(store, call.seed)
            # Whatever was answered since, the key is that of one request.
            raw = place.get(call.key) or self._run.raw_answer(call)
            return read_row(place, call.key, raw).prompt if raw else ""
        except (CodecError, StoreError):
            return ""


def _rules(call: Call, width: int) -> str:
    told = ", ".join(call.rules) if width >= _WIDE else rule_names(call.rules)
    return f"by {told}" if told else ""


# -- every call ---------------------------------------------------------------------------------


def _list(run: Run, limit: int | None) -> Iterator[str]:
    """A table of calls, in the order in which they began."""
    calls, width = run.calls(), terminal_width()
    began = calls[0].started if calls else 0.0
    blocks = any(call.path for call in calls)
    lanes = len({(call.process, call.lane) for call in calls}) > 1 and width >= 100
    head = ["#", "AT", "OUTCOME", "KEY", "MODEL/FUNCTION", "TOOK"]
    head += [*["TOKENS"] * (width >= 80), *["BLOCK"] * blocks, *["LANE"] * lanes]
    head += ["WHY"] * any(call.reason or call.rules for call in calls)
    rows = []
    for call in calls[:limit]:
        tokens = f"{short(call.tokens_in)}+{short(call.tokens_out)}"
        what = call.model or short_source(call.source)
        cells = {
            "#": str(call.number),
            "AT": f"{call.started - began:.2f}s",
            "OUTCOME": call.outcome,
            "KEY": (call.key[:_KEY] or "-") + (f" #{call.sample}" if call.sample else ""),
            "MODEL/FUNCTION": what or "-",
            "TOOK": span_text(call.seconds),
            "TOKENS": tokens if call.tokens_in or call.tokens_out else "-",
            "BLOCK": call.path or "-",
            "LANE": call.lane,
            "WHY": call.reason or _rules(call, width),
        }
        rows.append([cells[name] for name in head])
    right = [at for at, name in enumerate(head) if name in _FIGURES]
    yield from table(head, rows, right=right, width=width)
    if len(rows) < len(calls):
        yield f"and {count_text(len(calls) - len(rows))} more"
