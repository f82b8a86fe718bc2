"""Runs as the page of a report shows them: a list, each as columns of its calls, one difference."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias

from cachewrap.cli.kept_runs import Kept, program_of
from cachewrap.cli.survey import Timeline
from cachewrap.cli.talk import NAME, TEXT
from cachewrap.entries.filters import Filter
from cachewrap.ledger.calls import BYPASSED, FAILED, MISS, OUTCOMES, Call
from cachewrap.ledger.diff import KINDS, SAME, Change, compare, sums_of
from cachewrap.ledger.runs import Run
from cachewrap.ledger.totals import Group, Sum, by_rule, most, reasons, repeated, totals

LISTED: Final = 200
"""Runs, at most, that are listed on a page: the newest."""

WHOLE: Final = 100_000
"""Calls, at most, that are on a page one by one: of the run that it opens with, then the newest."""

CHANGES: Final = 10_000
"""Differences, at most, that are on a page one by one."""

Put: TypeAlias = Callable[[str, Any], bool]
"""Puts data of a kind on the page; False where that is full."""

_TOP: Final = 10
_GROUPS: Final = 24
_STEPS: Final = 240
_LINES: Final = 100
_UNIT: Final = 10_000  # parts of a second, in which times are told
_NANO: Final = 10**9
_SAME: Final = 0.001  # seconds by which times of one answer differ, at most


@dataclass(slots=True)
class Shown:
    """A run as the page names it.

    Args:
        run: the run.
        name: what it is asked for by: its name, ``name~1`` of the one before, with its place in
            front where several are shown.
    """

    run: Run
    name: str

    def calls(self, wanted: Filter) -> list[Call]:
        """Its calls that fit."""
        found = self.run.calls()
        if not wanted:
            return found
        return [one for one in found if wanted.fits(one.model, one.source, one.started)]


def shown_runs(kept: Iterable[Kept]) -> list[Shown]:
    """The runs of some places, the newest first."""
    found: list[Shown] = []
    for place in kept:
        for run in place.runs:
            name = f"{place.name}#{run.label}" if place.name else run.label
            found.append(Shown(run, name))
    found.sort(key=lambda one: one.run.order, reverse=True)  # no call is read for it
    return found


def shown_as(which: str, run: Run, shown: Iterable[Shown]) -> Shown:
    """A run as the page names it; as somebody named it where it is a block, or of another place."""
    store: Any = run.cache.store
    for one in shown:
        other: Any = one.run.cache.store
        if one.run.log == run.log and other.logs_url == store.logs_url and not run.section:
            return one
    return Shown(run, which)


class _OverTime:
    """The sum of what runs asked: how many calls were answered from where, and what that saved."""

    def __init__(self) -> None:
        self._timeline = Timeline(2)
        self._sum = Sum()

    def add(self, calls: Iterable[Call], sums: Sum) -> None:
        """Count some calls, which add up to the sums."""
        for call in calls:
            if call.served:
                self._timeline.add(call.started, 1, 0)
            elif call.outcome == MISS:
                self._timeline.add(call.started, 0, 1)
        self._sum.merge(sums)

    def figures(self) -> dict[str, Any] | None:
        """What was counted, as the page reads it; None where nothing was."""
        one = self._sum
        if not one.calls:
            return None
        length, steps = self._timeline.steps()
        return {
            "hits": one.hits + one.joined,
            "misses": one.misses,
            "errors": one.failed,
            "bypassed": one.bypassed,
            "by_rule": one.hits_by_rule,
            "tokens_in": one.tokens_in_saved,
            "tokens_out": one.tokens_out_saved,
            "seconds": one.seconds_saved,
            "money": _dollars(one.saved),
            "timeline": {"step": length, "steps": steps, "undated": 0},
        }


@dataclass(frozen=True, slots=True)
class OnPage:
    """The choice of what a page may hold.

    Args:
        wanted: the calls that count.
        content: whether names, keys and what was said may be told.
        lines: of each entry that the page has, by seed and key, its line and when it was stored.
    """

    wanted: Filter
    content: bool
    lines: Mapping[tuple[str, str], tuple[int, float]]

    def name(self, text: str) -> str:
        """A name that may hold anything."""
        return text[:NAME] if self.content else ""

    def entry(self, seed: str, key: str) -> int | str:
        """The line of an entry; where the page has none, the beginning of its key."""
        line = self.lines.get((seed, key))
        return key[:12] if line is None else line[0]

    def is_replaced(self, call: Call) -> bool:
        """Whether the entry that the page has is a later answer than a call was given."""
        line = self.lines.get((call.seed, call.key))
        return bool(line and call.answered and abs(line[1] - call.answered) > _SAME)


def write_runs(
    shown: Sequence[Shown], opened: Shown | None, on_page: OnPage, put: Put
) -> dict[str, Any]:
    """Write the runs to a page, and tell what is known of all of them.

    Args:
        shown: the runs, the newest first.
        opened: the one that the page opens with.
        on_page: what the page may hold.
        put: puts data on the page.
    """
    listed = list(shown)
    if opened is not None and opened not in listed:
        listed.insert(0, opened)
    writer, over_time = _Writer(on_page), _OverTime()
    rows: dict[int, dict[str, Any]] = {}
    older = 0
    for at in sorted(range(len(listed)), key=lambda at: listed[at] is not opened):
        one = listed[at]
        calls = one.calls(on_page.wanted)
        if calls or not on_page.wanted:
            told = totals(calls)
            if one in shown:  # a block counts in its run, and a run elsewhere does not
                over_time.add(calls, told.sum)
            if len(rows) < LISTED:
                rows[at] = writer.row(one, calls, told.sum)
                written = put("run", writer.block(calls, told.groups))
                rows[at]["block"] = writer.next_block() if written else None
            else:
                older += 1
        one.run.reload()  # of many runs only one is held
    numbers = sorted(rows)
    first = None if opened is None else listed.index(opened)
    runs = {
        "rows": [rows[at] for at in numbers],
        "older": older,
        "opened": numbers.index(first) if first in rows else None,
        "outcomes": OUTCOMES,
    }
    return {"runs": runs, "calls": over_time.figures()}


class _Writer:
    def __init__(self, on_page: OnPage) -> None:
        self._on_page = on_page
        self._content = on_page.content
        self._room = WHOLE
        self._blocks = itertools.count()

    def next_block(self) -> int:
        return next(self._blocks)

    def row(self, shown: Shown, calls: Sequence[Call], sums: Sum) -> dict[str, Any]:
        run = shown.run
        first = calls[0].started if calls else 0.0
        last = max((call.started + call.seconds for call in calls), default=0.0)
        return {
            "name": self._on_page.name(shown.name),
            "named": run.named,
            "started": run.started.timestamp(),
            "state": run.state,
            "seconds": last - first,
            "processes": len(run.processes),
            "program": self._on_page.name(program_of(run)),
            "lost": run.lost,
            **_sums(sums),
        }

    def block(self, calls: Sequence[Call], groups: Sequence[Group]) -> dict[str, Any]:
        slowest = most(calls, "seconds", _TOP)
        often = repeated(calls)[:_TOP]
        whole = len(calls) <= self._room
        if whole:
            self._room -= len(calls)
            columns = list(calls)
        else:
            listed = {one.number: one for one in (*slowest, *(repeat.call for repeat in often))}
            columns = [listed[number] for number in sorted(listed)]
        at = {call.number: number for number, call in enumerate(columns)}
        return {
            "whole": whole,
            **self._columns(columns),
            "sources": _folded(groups, lambda group: group.source),
            "models": _folded(groups, lambda group: group.model),
            "slowest": [at[call.number] for call in slowest],
            "often": [
                [at[one.call.number], one.count, one.hits + one.joined, one.in_a_row, one.polls]
                for one in often
            ],
            "rules": [[rule[:NAME], times] for rule, times in by_rule(calls).items()][:_TOP]
            if self._content
            else [],
            "reasons": [
                [one.outcome, one.source[:NAME], one.reason[:NAME], one.count]
                for one in reasons(calls, BYPASSED, FAILED)[:_TOP]
            ]
            if self._content
            else [],
            "steps": _steps(calls),
        }

    def _columns(self, calls: Sequence[Call]) -> dict[str, Any]:
        common: dict[tuple[Any, ...], int] = {}
        lanes: dict[tuple[int, str], int] = {}
        keys: dict[tuple[str, str], int] = {}
        base = calls[0].started if calls else 0.0
        content = self._content
        return {
            "base": base,
            "numbers": [call.number for call in calls],
            "common": [common.setdefault(self._common(call), len(common)) for call in calls],
            "lanes": [lanes.setdefault((call.process, call.lane), len(lanes)) for call in calls],
            "keys": [
                keys.setdefault((call.seed, call.key), len(keys)) if call.key else -1
                for call in calls
            ],
            "started": [round((call.started - base) * _UNIT) for call in calls],
            "seconds": [round(call.seconds * _UNIT) for call in calls],
            "upstream": [round(call.upstream_seconds * _UNIT) for call in calls],
            "asked": [call.tokens_in for call in calls],
            "told": [call.tokens_out for call in calls],
            "replaced": [at for at, call in enumerate(calls) if self._on_page.is_replaced(call)],
            "samples": {at: call.sample for at, call in enumerate(calls) if call.sample},
            "money": [_nano(call.money) for call in calls],
            "of_common": list(common),
            "of_lanes": [[process, lane[:NAME]] for process, lane in lanes]
            if content
            else len(lanes),
            "of_keys": [self._on_page.entry(*name) for name in keys] if content else len(keys),
        }

    def _common(self, call: Call) -> tuple[Any, ...]:
        path, reason = map(self._on_page.name, (call.path, call.reason))
        told = OUTCOMES.index(call.outcome), call.source[:NAME], call.model[:NAME], path, reason
        return *told, (tuple(r[:NAME] for r in call.rules) if self._content else len(call.rules))


def write_diff(
    baseline: Shown, candidate: Shown | None, on_page: OnPage, put: Put
) -> dict[str, Any]:
    """Write what is different in a run, and tell what is known of all of it.

    Args:
        baseline: the run that is compared with.
        candidate: the run that is compared.
        on_page: what the page may hold.
        put: puts data on the page.
    """
    assert candidate is not None
    found = compare(baseline.run, candidate.run)
    counts = dict.fromkeys(KINDS, 0) | {SAME: found.same}
    waiting: list[list[Any]] = []
    told = 0
    for change in found.changes:
        if not _fits(change, on_page.wanted):
            continue
        counts[change.kind] += 1
        if told + len(waiting) < CHANGES:
            waiting.append(_change(change, on_page))
        if len(waiting) == _LINES:
            told += len(waiting) if put("diff", waiting) else CHANGES
            waiting = []
    if waiting and put("diff", waiting):
        told += len(waiting)
    sums = [sums_of(one.calls(on_page.wanted)) for one in (baseline, candidate)]
    return {
        "names": [on_page.name(baseline.name), on_page.name(candidate.name)],
        "counts": counts,
        "sums": [
            [one.calls, one.hits, one.tokens, one.seconds, _dollars(one.money)] for one in sums
        ],
    }


def _fits(change: Change, wanted: Filter) -> bool:
    if not wanted:
        return True
    calls = (change.old, change.new)
    return any(one and wanted.fits(one.model, one.source, one.started) for one in calls)


def _change(change: Change, on_page: OnPage) -> list[Any]:
    """A change as the page reads it: its kind, what was asked, how it differs, and both sides."""
    sides = (
        _side(change.old, change.old_count, change.old_answer, on_page),
        _side(change.new, change.new_count, change.new_answer, on_page),
    )
    differs = [
        [line[:TEXT] for line in lines[:_LINES]] if on_page.content else len(lines)
        for lines in (change.request, change.answer)
    ]
    return [change.kind, on_page.name(change.prompt), *differs, *sides]


def _side(call: Call | None, count: int, answer: str | None, on_page: OnPage) -> list[Any] | None:
    if call is None:
        return None
    content = on_page.content
    return [
        count,
        call.source[:NAME],
        call.model[:NAME],
        call.sample,
        call.upstream_seconds or call.seconds,
        call.tokens_in,
        call.tokens_out,
        _dollars(call.money),
        on_page.entry(call.seed, call.key) if content and call.key else "",
        None if answer is None or not content else answer[:TEXT],
        max(0, len(answer or "") - TEXT),
    ]


def _sums(one: Sum) -> dict[str, Any]:
    return {
        "calls": one.calls,
        "hits": one.hits,
        "misses": one.misses,
        "joined": one.joined,
        "bypassed": one.bypassed,
        "failed": one.failed,
        "by_rule": one.hits_by_rule,
        "saved": [one.tokens_saved, one.seconds_saved, _dollars(one.saved)],
        "spent": [one.tokens_spent, one.seconds, _dollars(one.spent)],
        "provider": _dollars(one.provider_saved),
    }


def _folded(groups: Iterable[Group], name_of: Callable[[Group], str]) -> dict[str, Any]:
    """Sums by one part of a group's name: the largest groups, and what the others add up to."""
    found: dict[str, Sum] = {}
    for group in groups:
        found.setdefault(name_of(group), Sum()).merge(group.sum)
    ranked = sorted(found.items(), key=lambda item: -item[1].calls)
    rest = Sum()
    for _, one in ranked[_GROUPS:]:
        rest.merge(one)
    return {
        "groups": [[name[:NAME], _sums(one)] for name, one in ranked[:_GROUPS]],
        "others": max(0, len(ranked) - _GROUPS),
        "rest": _sums(rest),
    }


def _steps(calls: Sequence[Call]) -> list[list[int]]:
    """How many calls of each outcome began in each of so many equal parts of the run."""
    steps = [[0] * len(OUTCOMES) for _ in range(_STEPS)]
    if calls:
        first = calls[0].started
        length = max(call.started + call.seconds for call in calls) - first
        for call in calls:
            at = int((call.started - first) / length * _STEPS) if length > 0 else 0
            steps[min(at, _STEPS - 1)][OUTCOMES.index(call.outcome)] += 1
    return steps


def _dollars(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)


def _nano(amount: Decimal | None) -> int | None:
    return None if amount is None else round(amount * _NANO)
