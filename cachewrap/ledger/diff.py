"""The difference of two runs: what both asked and was answered otherwise, and what only one asked.

Calls are paired by their keys; of what is left, those that are near each other (a prompt that was
edited, another model), see `ledger.pairs`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cachewrap.entries.conversation import prompt_of, request_turns
from cachewrap.entries.stored import shown_request
from cachewrap.entry import Entry
from cachewrap.errors import ConfigurationError, CorruptEntryError, printable
from cachewrap.explain.differences import differences
from cachewrap.ledger.answers import CLOSE, Answers, EntriesRun, answers_of
from cachewrap.ledger.asked import Ignored
from cachewrap.ledger.calls import BYPASSED, FAILED, Call, Rows
from cachewrap.ledger.pairs import Pair, pairs
from cachewrap.ledger.said import Said, differing, said_in
from cachewrap.telemetry.usage import can_price, money_text

if TYPE_CHECKING:
    from cachewrap.ledger.runs import Run

SAME: Final = "same"
CHANGED: Final = "changed"
MISSING: Final = "missing"
NEW: Final = "new"

KINDS: Final = (SAME, CHANGED, NEW, MISSING)


@dataclass(slots=True)
class Change:
    """A request that one or both of two runs made.

    Attributes:
        kind: ``"same"``: both asked, and were answered the same; ``"changed"``: both asked, and
            the request, the answer or both differ; ``"new"``: only the candidate asked;
            ``"missing"``: only the baseline asked.
        old: a call of the baseline; None of what is new.
        new: a call of the candidate; None of what is missing.
        request: how the requests differ, a line for each field; empty where they are equal.
        answer: how the answers differ, a line for each field, of text a line for each part.
        old_count: how often the baseline asked.
        new_count: how often the candidate asked.
        old_answer: the answer as text; None where there is none, or it is no longer stored.
        new_answer: the same of the candidate.
        prompt: the last thing that a person said in the request.
    """

    kind: str
    old: Call | None
    new: Call | None
    request: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()
    old_count: int = 1
    new_count: int = 1
    old_answer: str | None = None
    new_answer: str | None = None
    prompt: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The change as plain values: a row of a table."""
        row: dict[str, Any] = {
            "kind": self.kind,
            "source": self.call.source,
            "prompt": self.prompt,
            "request": list(self.request),
            "answer": list(self.answer),
            "old_answer": self.old_answer,
            "new_answer": self.new_answer,
        }
        for side, call, count in (
            ("old", self.old, self.old_count),
            ("new", self.new, self.new_count),
        ):
            row[f"{side}_count"] = count if call else 0
            for name in _TOLD:
                row[f"{side}_{name}"] = getattr(call, name) if call else None
        return row

    @property
    def call(self) -> Call:
        """The call of the candidate; of what is missing, that of the baseline."""
        call = self.new or self.old
        assert call is not None
        return call


_TOLD: Final = (
    "number",
    "key",
    "seed",
    "sample",
    "model",
    "outcome",
    "reason",
    "upstream_seconds",
    "tokens_in",
    "tokens_out",
    "money",
)


@dataclass(slots=True)
class Sums:
    """The sums of the calls of one side.

    Attributes:
        calls: how many there are.
        hits: how many of them asked nothing upstream.
        tokens_in: prompt tokens of all answers, of those that were served from the cache as well.
        tokens_out: completion tokens of the same.
        seconds: what upstream took for them.
        money: what they cost upstream, in US dollars; None where no price is known.
        unpriced: answers with tokens of which no price is known.
    """

    calls: int = 0
    hits: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    money: Decimal | None = None
    unpriced: int = 0

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.tokens_in + self.tokens_out


def sums_of(calls: Iterable[Call]) -> Sums:
    """What some calls come to."""
    sums = Sums()
    for call in calls:
        sums.calls += 1
        sums.hits += call.served
        sums.tokens_in += call.tokens_in
        sums.tokens_out += call.tokens_out
        sums.seconds += call.upstream_seconds or (0.0 if call.served else call.seconds)
        if not (call.tokens_in or call.tokens_out):
            continue
        if (money := call.money) is None:
            sums.unpriced += 1
        else:
            sums.money = money + (sums.money or 0)
    return sums


@dataclass(slots=True)
class Diff:
    """The difference of a candidate from a baseline.

    Attributes:
        baseline: the run that is compared with.
        candidate: the run that is compared.
        changes: what is not the same: changed, new and missing, in the order of the candidate's
            calls and, of what is missing, of the baseline's.
        same: how many requests both made and were answered the same.
        unmet: what was to be ignored, and no request has that differs.
    """

    baseline: Run
    candidate: Run
    changes: Rows[Change] = field(default_factory=Rows)
    same: int = 0
    unmet: list[str] = field(default_factory=list)
    _sums: dict[str, Sums] = field(default_factory=dict, init=False, repr=False)

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(getattr(self, kind))} {kind}" for kind in KINDS[1:])
        return f"<Diff {self.baseline.label} → {self.candidate.label}: {self.same} same, {counts}>"

    @property
    def equal(self) -> bool:
        """Whether nothing is different."""
        return not self.changes

    @property
    def changed(self) -> Rows[Change]:
        """What both asked, and where the request, the answer or both differ."""
        return self._of(CHANGED)

    @property
    def new(self) -> Rows[Change]:
        """What only the candidate asked."""
        return self._of(NEW)

    @property
    def missing(self) -> Rows[Change]:
        """What only the baseline asked."""
        return self._of(MISSING)

    @property
    def old_sums(self) -> Sums:
        """What the calls of the baseline come to."""
        return self._summed("old", self.baseline)

    @property
    def new_sums(self) -> Sums:
        """What the calls of the candidate come to."""
        return self._summed("new", self.candidate)

    def _summed(self, side: str, run: Run) -> Sums:
        if side not in self._sums:
            self._sums[side] = sums_of(run.calls())
        return self._sums[side]

    def _of(self, kind: str) -> Rows[Change]:
        return Rows(change for change in self.changes if change.kind == kind)

    def failing(self, conditions: Iterable[str]) -> list[str]:
        """Which conditions for a failure hold, and by what: a line for each; none where none does.

        Args:
            conditions: ``"changed"``, ``"new"``, ``"missing"``, each also as ``"changed>5"``; and
                ``"cost>5%"``, ``"tokens>10%"``, ``"time>20%"``, ``"calls>0%"``: the candidate takes
                so much more than the baseline.

        Raises `ConfigurationError` for another one, and for a cost that is not known.
        """
        lines = [self._failing(check_condition(condition)) for condition in conditions]
        return [line for line in lines if line]

    def _failing(self, condition: re.Match[str]) -> str:
        kind, most = condition["kind"], condition["most"]
        if kind:
            count = len(self._of(kind))
            more = f", more than {most}" if most else ""
            return f"{count:,} {kind}{more}" if count > int(most or 0) else ""
        name, percent = condition["sum"], float(condition["percent"])
        old, new = self._two(name)
        if new <= old or (old and (new - old) / old * 100 <= percent):
            return ""
        rise = f"{(new - old) / old * 100:.1f}%" if old else "all"
        shown = _SUMS[name][1]
        return f"{name}: {shown(old)} → {shown(new)}, {rise} more (at most {percent:g}%)"

    def _two(self, name: str) -> tuple[float, float]:
        both = self.old_sums, self.new_sums
        if name == "cost" and any(sums.unpriced for sums in both):
            why = "there is no price of some of their models"
            why = why if can_price() else "pip install 'cachewrap[prices]'"
            raise ConfigurationError(f"what the answers cost is not known: {why}")
        old, new = (float(getattr(sums, _SUMS[name][0]) or 0) for sums in both)
        return old, new

    def to_dicts(self) -> list[dict[str, Any]]:
        """The changes, each as a dictionary of plain values."""
        return self.changes.to_dicts()

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "baseline": self.baseline.label,
            "candidate": self.candidate.label,
            "equal": self.equal,
            "same": self.same,
            **{kind: len(self._of(kind)) for kind in KINDS[1:]},
            "totals": {"baseline": asdict(self.old_sums), "candidate": asdict(self.new_sums)},
            "changes": self.to_dicts(),
        }


_CONDITION: Final = re.compile(
    r"(?P<kind>new|changed|missing)(?:\s*>\s*(?P<most>\d+))?"
    r"|(?P<sum>cost|tokens|time|calls)\s*>\s*(?P<percent>\d+(?:\.\d+)?)\s*%"
)
_SUMS: Final[dict[str, tuple[str, Any]]] = {
    "cost": ("money", money_text),
    "tokens": ("tokens", lambda count: f"{count:,.0f}"),
    "time": ("seconds", lambda seconds: f"{seconds:,.2f}s"),
    "calls": ("calls", lambda count: f"{count:,.0f}"),
}


def check_condition(condition: str) -> re.Match[str]:
    """A condition of `Diff.failing`. Raises `ConfigurationError` for what is none."""
    found = _CONDITION.fullmatch(condition.strip())
    if found is None:
        raise ConfigurationError(
            f"{printable(condition)!r} is no condition: write new, changed, missing, changed>5,"
            " cost>5%, tokens>10%, time>20% or calls>0%"
        )
    return found


def compare(baseline: Run, candidate: Run, *, ignore: Iterable[str] = ()) -> Diff:
    """What is different in a candidate, beside a baseline.

    Answers are compared by what they say, exactly: a text as a text, JSON and the arguments of
    tools by their fields, vectors number by number; ids, times, usage and headers are no part.

    Args:
        baseline: the run that is compared with.
        candidate: the run that is compared; of the same cache or of another one.
        ignore: fields of requests that make no difference, as paths: ``model``,
            ``messages[0].content``, ``metadata.*``.

    Raises `ConfigurationError` for what is no path, and `StoreError`.
    """
    skip = Ignored([ignore] if isinstance(ignore, str) else ignore)
    old, new = baseline.calls(), candidate.calls()
    diff = Diff(baseline, candidate)
    with closing(answers_of(baseline)) as one, closing(answers_of(candidate)) as other:
        comparing = _Comparing(one, other, skip, beside=_are_beside(baseline, candidate))
        changes: list[tuple[bool, int, Change]] = []
        for pair in pairs(old, new, one.request, other.request, skip):
            if (change := comparing.change(pair)) is None:
                diff.same += 1
                continue
            changes.append((pair.new is None, pair.asked.first, change))
    diff.unmet = skip.unmet
    changes.sort(key=lambda row: row[:2])
    diff.changes = Rows(change for _, _, change in changes)
    return diff


def _are_beside(one: Run, other: Run) -> bool:
    """Whether two are runs of one place; whole caches may have been edited by hand."""
    if isinstance(one, EntriesRun) or isinstance(other, EntriesRun):
        return False
    stores: list[Any] = [one.cache.store, other.cache.store]
    return bool(stores[0].logs_url == stores[1].logs_url)


class _Comparing:
    """The comparison of pairs.

    Args:
        old: the answers of the baseline.
        new: the answers of the candidate.
        skip: fields of requests that make no difference.
        beside: whether both are runs of one place, where a time tells one answer from another.
    """

    def __init__(self, old: Answers, new: Answers, skip: Ignored, *, beside: bool) -> None:
        self._old, self._new, self._skip, self._beside = old, new, skip, beside

    def change(self, pair: Pair) -> Change | None:
        """How two requests, or their answers, differ; None where they do not."""
        old, new = (asked.call if asked else None for asked in pair[:2])
        if old is None or new is None:
            return self._alone(pair, old, new)
        if self._beside and is_same_answer(old, new):
            return None
        was, now = self._old.entry(old), self._new.entry(new)
        if was and now and not pair.near and (was.kind, was.answer) == (now.kind, now.answer):
            return None
        request = self._requests(old, new) if pair.near else ()
        one, other = _said(was), _said(now)
        answer = self._answers(old, new, one, other)
        if not request and not answer:
            return None
        return Change(
            CHANGED,
            old,
            new,
            request,
            answer,
            pair.old.count if pair.old else 0,
            pair.new.count if pair.new else 0,
            one.text if one else None,
            other.text if other else None,
            self._prompt(self._new, new) or self._prompt(self._old, old),
        )

    def _answers(
        self, old: Call, new: Call, one: Said | None, other: Said | None
    ) -> tuple[str, ...]:
        """How the answers of two calls differ; nothing where they do not."""
        if one is not None and other is not None:
            return differing(one, other)
        ended, otherwise = ending(old), ending(new)
        if not old.answered or not new.answered:
            return () if ended == otherwise else (f"{ended} → {otherwise}",)
        lines = []
        if one is None:
            lines.append(f"the answer of the baseline {self._old.lack(old)}")
        if other is None:
            lines.append(f"the answer of the candidate {self._new.lack(new)}")
        return tuple(lines)

    def _alone(self, pair: Pair, old: Call | None, new: Call | None) -> Change:
        asked = pair.asked
        answers = self._old if new is None else self._new
        said = _said(answers.entry(asked.call))
        text, prompt = said.text if said else None, self._prompt(answers, asked.call)
        if new is None:
            return Change(MISSING, old, None, (), (), asked.count, 0, text, None, prompt)
        return Change(NEW, None, new, (), (), 0, asked.count, None, text, prompt)

    def _requests(self, old: Call, new: Call) -> tuple[str, ...]:
        one = self._skip.read(self._old.request(old))
        other = self._skip.read(self._new.request(new))
        try:
            found = differences(one, other)
        except (ValueError, TypeError, RecursionError):
            return ("the requests differ",)
        return tuple(printable(difference.line, 400) for difference in found)

    @staticmethod
    def _prompt(answers: Answers, call: Call) -> str:
        if raw := answers.request(call):
            with suppress(msgspec.MsgspecError, ValueError, TypeError, RecursionError):
                request = shown_request(raw)
                return prompt_of(request, request_turns(request))
        return ""


def is_same_answer(old: Call, new: Call) -> bool:
    """Whether two calls were given the very same stored answer, which tells it unread."""
    apart = abs(old.answered - new.answered)
    same = (old.key, old.seed, old.place) == (new.key, new.seed, new.place)
    return same and old.answered > 0 and apart < CLOSE


def _said(entry: Entry | None) -> Said | None:
    try:
        return None if entry is None else said_in(entry)
    except CorruptEntryError:
        return None


def ending(call: Call) -> str:
    """How a call ended, for people."""
    why = f" ({call.reason})" if call.reason else ""
    if call.answered:
        return "answered"
    return f"{call.outcome if call.outcome in (BYPASSED, FAILED) else 'not stored'}{why}"
