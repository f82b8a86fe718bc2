"""The prefixes of a run's prompts, and why a provider's own cache missed them.

A provider reads a prompt from its cache as far as it begins with the very bytes of one before it.
Calls that continue a conversation should therefore begin as the call did that they continue, and
calls that share tools and a system prompt with both. Where they do not, the first difference is
named, with what could have been read behind it. What is meant to differ is left alone: agents of
their own, branches, other questions. What differs by itself (a time, a random id, an order) is
named wherever it stands in front.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cachewrap.entries.conversation import content_text, turns_text
from cachewrap.ledger.calls import MISS, Call, Rows
from cachewrap.ledger.prefixes import causes
from cachewrap.ledger.prefixes.causes import BY_ITSELF, Cause
from cachewrap.ledger.prefixes.lineage import (
    Difference,
    Lineage,
    Numbered,
    first_difference,
    is_shorter,
    shift,
)
from cachewrap.ledger.prefixes.loss import Break, Loss, Prefixes, lost
from cachewrap.ledger.prefixes.prompts import (
    ANTHROPIC,
    FORMAT,
    MESSAGES,
    MODEL,
    RESPONSES,
    SETTINGS,
    SYSTEM,
    TOOLS,
    Parts,
    Prompts,
    values,
)
from cachewrap.ledger.prefixes.requests import Requests
from cachewrap.patterns import later

if TYPE_CHECKING:
    from cachewrap.ledger.runs import Run


def prefixes_of(run: Run) -> Prefixes:
    """What the prompts of a run begin with, and why the provider's cache missed.

    Raises `StoreError`.
    """
    reading = _Reading(run)
    try:
        return reading.result()
    finally:
        reading.close()


@dataclass(slots=True)
class _Struck:
    """A call whose prompt does not begin as it should."""

    call: Call
    new: Numbered
    old: Numbered
    cause: Cause
    loss: Loss
    tender: bool = False
    begins: bool = False


_MADE: Final = frozenset({causes.TEXT, causes.ADDED, causes.REMOVED, causes.WINDOW})
"""Kinds of edits that may be meant, and cost nothing at the end of a prompt."""

_SHORT_PAUSE, _LONG_PAUSE, _LONGEST_PAUSE = 300.0, 3600.0, 86400.0
"""Seconds that a prompt is kept without being read: "5 minutes", or "1 hour" where that is asked
for (Anthropic, "Prompt caching"); "up to one hour" (OpenAI, "Prompt caching"), longer by wish."""

_LOOKBACK: Final = 20
"""Blocks before a breakpoint in which an earlier prompt is looked for (Anthropic)."""


class _Reading:
    """The reading of a run, call by call."""

    def __init__(self, run: Run) -> None:
        self._calls = run.calls()
        self._requests = Requests(run)
        self._parts = Parts()
        self._lineage = Lineage(self._parts)
        self._struck: list[_Struck] = []
        self._answers: dict[str, Numbered] = {}
        self._went_on: set[int] = set()
        self._turns: Counter[int] = Counter()
        self._used: dict[int, float] = {}
        self._long = False
        self._found = Prefixes()

    def close(self) -> None:
        self._requests.close()

    def result(self) -> Prefixes:
        prompts = Prompts()
        for call in self._calls:
            request = self._requests.read(call)
            if not request:
                continue
            try:
                prompt = prompts.read(request)
            except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
                self._requests.leave_out("cannot be read")
                continue
            if prompt is None:
                self._requests.leave_out("hold no conversation with a model")
                continue
            previous = prompt.head.previous
            before = self._answers.get(previous) if previous else None
            mark = self._parts.number(_MARK.encode({"id": previous, "role": "assistant"}))
            new = self._lineage.asked(call.number, prompt, before, mark)
            self._found.calls += 1
            self._found.read_tokens += call.details[0] if call.details else 0
            if prompt.head.api == RESPONSES and (name := self._requests.answer_id(call)):
                self._answers[name] = new
            self._look(call, new, before)
        return self._finish()

    def _look(self, call: Call, new: Numbered, before: Numbered | None) -> None:
        same = self._lineage.place(new, before)
        self._turns[new.chain] += 1
        when = self._when(call)
        self._long = self._long or bool(len(call.details) > 2 and call.details[2])
        if same is not None:
            self._found.shared += 1
            self._use(call, new, new, when)
            return
        old = new.parent or self._answered(new)
        if old is None:
            self._begin(call, new)
            self._used[new.rolled] = when
            return
        self._went_on.add(old.at)
        self._found.shared += 1
        if new.exact:
            self._use(call, new, old, when)
        elif (place := first_difference(old, new)) is not None:
            self._strike(call, new, old, place)
        self._used[new.rolled] = when

    def _answered(self, new: Numbered) -> Numbered | None:
        """The call that a prompt goes on with whose only message was edited."""
        if not new.turn:
            return None
        found = []
        for old in self._lineage.neighbours(new, new.turn):
            if old.head.api != new.head.api:
                continue
            one, (other, next_one) = (
                self._values(old, MESSAGES, new.turn - 1),
                (self._values(new, MESSAGES, number) for number in (new.turn - 1, new.turn)),
            )
            if not one or not other or not next_one:
                continue
            (label, was), (_, now) = one[0], other[0]
            said = content_text(next_one[0][1])
            told = turns_text(self._requests.answer(self._calls[old.at]))
            if len(said) >= 24 and said == told:
                found.append(old)
            elif causes.alike(was, now):
                cause = causes.of_values(label, was, now)
                if cause.kind in BY_ITSELF | {causes.PICTURE, causes.ADDRESS}:
                    found.append(old)
        if len(found) != 1:
            return None
        self._lineage.join(new, found[0])
        return found[0]

    # -- a prompt that goes on ---------------------------------------------------------------------

    def _when(self, call: Call) -> float:
        if call.outcome == MISS or not call.answered:
            return call.started
        return call.answered - call.upstream_seconds

    def _use(self, call: Call, new: Numbered, old: Numbered, when: float) -> None:
        """A prompt that begins as it should: whether it could still be read."""
        last = self._used.get(old.rolled)
        self._used[old.rolled] = when
        reads = call.details[0] if call.details else 0
        if last is None or reads or self._calls[old.at].outcome != call.outcome:
            self._found.kept += 1
            return
        pause = when - last
        api = new.head.api
        kept = _SHORT_PAUSE if api == ANTHROPIC and not self._long else _LONG_PAUSE
        cause = None
        if kept < pause < _LONGEST_PAUSE:
            text = f"the pause before it was too long: {_span(pause)}, and a prompt is kept for"
            text += f" {_span(kept)}" + (" unless more is asked for" if kept < 3600 else " at most")
            cause = Cause(causes.PAUSE, "", text)
        elif api == ANTHROPIC and old is not new:
            more = new.ids[len(old.ids) :]
            blocks = sum(self._parts.blocks[number] for number in more)
            if blocks > _LOOKBACK:
                text = f"messages: {blocks} blocks were added at once, and an earlier prompt is"
                text += f" looked for in {_LOOKBACK} before a breakpoint"
                cause = Cause(causes.LOOKBACK, "messages", text)
        if cause is None and api == ANTHROPIC and self._was_cached(call, self._calls[old.at]):
            text = "nothing was read, though a call before it had put its beginning into the cache:"
            text += " cache_control stands elsewhere, or was left out"
            cause = Cause(causes.UNREAD, "cache_control", text)
        if cause is None:
            self._found.kept += 1
            return
        loss = lost(call, new, old, self._parts, 0, 0.0, 0.0, len(old.ids), nothing_kept=True)
        self._struck.append(_Struck(call, new, old, cause, loss))

    @staticmethod
    def _was_cached(call: Call, old: Call) -> bool:
        """Whether a provider had told that it cached what a later call begins with."""
        told = old.details[:2]
        before = old.started + old.seconds <= call.started
        return any(told) and before and call.outcome == MISS and bool(call.tokens_in)

    def _strike(self, call: Call, new: Numbered, old: Numbered, place: Difference) -> None:
        """A prompt that does not begin as the one that it goes on with."""
        if place.zone <= SYSTEM and self._is_another(old, new):
            self._found.kept += 1  # another agent was given the conversation
            return
        last = len(old.messages) - 1
        if place == (MESSAGES, last) and not self._is_edited(old, new, last):
            self._found.kept += 1  # another question to the same conversation
            return
        cause, before, behind = self._cause(old, new, place)
        start = (new.ends[place.zone - 1] if place.zone else 0) + place.at
        common = set(old.messages)
        begin = new.ends[MESSAGES - 1]
        end = 1 + max(
            (at for at in range(begin, len(new.ids)) if new.ids[at] in common), default=start
        )
        end = max(end, begin + min(len(old.messages), new.turn or len(new.messages)))
        loss = lost(call, new, old, self._parts, start, before, behind, end)
        tender = place.zone != MESSAGES and cause.kind not in BY_ITSELF
        self._struck.append(_Struck(call, new, old, cause, loss, tender))

    def _is_another(self, old: Numbered, new: Numbered) -> bool:
        """Whether the system prompt is of another agent altogether."""
        if old.zone(SYSTEM) == new.zone(SYSTEM):
            return False
        one, other = _only(self._values(old, SYSTEM)), _only(self._values(new, SYSTEM))
        return bool(one and other) and not causes.alike(one, other)

    def _is_edited(self, old: Numbered, new: Numbered, at: int) -> bool:
        """Whether what stands in the place of a call's last message was made of that."""
        if old.messages[at] in new.messages:
            return True
        was, now, next_one = (
            _only(self._values(of, MESSAGES, number))
            for of, number in ((old, at), (new, at), (new, at + 1))
        )
        if not was or not next_one:
            return False
        if causes.alike(was, now):
            return True
        said = content_text(next_one[0])
        told = turns_text(self._requests.answer(self._calls[old.at]))
        return len(said) >= 24 and said == told

    def _values(self, asked: Numbered, zone: int, only: int | None = None) -> list[tuple[str, Any]]:
        request = self._requests.read(self._calls[asked.at], again=True)
        return values(request, zone, asked.rules, only) if request else []

    def _cause(self, old: Numbered, new: Numbered, place: Difference) -> tuple[Cause, float, float]:
        """The cause of a difference, and which share of the part is the same before and behind."""
        zone, at = place
        if zone == TOOLS:
            return causes.of_tools(self._values(old, zone), self._values(new, zone)), 0.0, 0.0
        one, other = self._values(old, zone, at), self._values(new, zone, at)
        if zone == MESSAGES and other and (cause := shift(old, new, at, other[0][0])):
            return cause, 0.0, 0.0
        if not one or not other:
            added = bool(other)
            label, value = (other or one or [("messages", "")])[0]
            what = "came in" if added else "was left out"
            kind = causes.ADDED if added else causes.REMOVED
            label = causes.labelled(label, value)
            return Cause(kind, label, f"{label} {what}"), 0.0, 0.0
        (_, was), (label, now) = one[0], other[0]
        if zone == MODEL:
            told = "model" if was[0] == now[0] else "provider"
            text = f"the {told} changed: {causes.shown_pair(was, now)}"
            return Cause(causes.MODEL, "model", text), 0.0, 0.0
        if zone in (FORMAT, SETTINGS):
            cause = causes.of_values(label, was, now)
            if cause.kind not in BY_ITSELF:
                cause = Cause(causes.SETTING, label, causes.changed(label, was, now))
            return cause, 0.0, 0.0
        before, behind = causes.shares(was, now)
        if zone == MESSAGES:
            return causes.of_message(label, was, now), before, behind
        cause = causes.of_values(causes.labelled(label, now), was, now)
        if is_shorter(old, new):
            text = f"{cause.where}: a summary took the place of the history (compaction)"
            cause = Cause(causes.SUMMARY, cause.where, text)
        return cause, before, behind

    # -- a prompt that begins ----------------------------------------------------------------------

    def _begin(self, call: Call, new: Numbered) -> None:
        """A prompt that begins a conversation: it may share tools and a system prompt."""
        common, relatives = self._lineage.relatives(new)
        if common == "head":
            self._found.shared += 1
            self._found.kept += 1
            for old in relatives:
                if self._begins_alike(call, new, old):
                    return
            return
        for old in relatives:
            place = first_difference(old, new, SYSTEM)
            if place is None or place.zone < TOOLS:
                continue
            cause, before, behind = self._cause(old, new, place)
            if cause.kind not in BY_ITSELF | {causes.COUNTER}:
                continue
            if cause.kind == causes.TIME and not causes.is_clock(cause, alone=True):
                continue
            if cause.kind == causes.ID and causes.is_of_task(cause):
                continue
            if common == "tools" and not self._is_near(old, new):
                continue
            start = new.ends[place.zone - 1] + place.at
            end = new.ends[MESSAGES - 1]
            loss = lost(call, new, old, self._parts, start, before, behind, end)
            self._found.shared += 1
            self._struck.append(_Struck(call, new, old, cause, loss, begins=True))
            return

    def _is_near(self, old: Numbered, new: Numbered) -> bool:
        one, other = old.zone(SYSTEM), new.zone(SYSTEM)
        if len(one) != len(other):
            return False
        shape = self._parts.shape
        if all(shape[a] == shape[b] for a, b in zip(one, other, strict=True)):
            return True
        was = causes.said(_only(self._values(old, SYSTEM)))
        now = causes.said(_only(self._values(new, SYSTEM)))
        return causes.alike(was, now) or causes.is_moved(was, now)

    def _begins_alike(self, call: Call, new: Numbered, old: Numbered) -> bool:
        """Whether first messages go on alike behind a difference that makes itself."""
        one, other = old.messages, new.messages
        place = first_difference(old, new)
        if len(one) == len(other) >= 4 and place is not None and one[:-1] != other[:-1]:
            moved = Counter(one[:-1]) == Counter(other[:-1])
            if moved:
                self._found.kept -= 1
                self._strike(call, new, old, place)
                return True
        pairs = zip(one, other, strict=False)
        at = next((at for at, (a, b) in enumerate(pairs) if a != b), -1)
        if at < 0 or min(self._parts.size[one[at]], self._parts.size[other[at]]) < 300:
            return False
        if self._parts.front[one[at]] != self._parts.front[other[at]]:
            return False
        (_, was), (label, now) = (self._values(of, MESSAGES, at)[0] for of in (old, new))
        found = causes.volatile_head(causes.said(was), causes.said(now))
        if found is None or found[1] < 200:
            return False
        cause = causes.of_values(label, was, now)
        if cause.kind not in (causes.TIME, causes.ID):
            return False
        if cause.kind == causes.TIME and not causes.is_clock(cause, alone=False):
            return False
        before, _ = causes.shares(was, now)
        behind = found[1] / max(1, len(causes.said(now)))
        start = new.ends[MESSAGES - 1] + at
        loss = lost(call, new, old, self._parts, start, before, behind, start + 1)
        self._found.kept -= 1
        self._struck.append(_Struck(call, new, old, cause, loss, begins=True))
        return True

    # -- all of them -------------------------------------------------------------------------------

    def _finish(self) -> Prefixes:
        found = self._found
        found.conversations = self._lineage.chains
        breaks: dict[tuple[str, str], Break] = {}
        notes: dict[tuple[str, str], Break] = {}
        shifts = Counter((one.new.chain, one.cause.kind) for one in self._struck)
        began = [one.cause for one in self._struck if one.begins]
        counted = causes.count_calls([one for one in began if one.kind == causes.COUNTER])
        meant = {
            (one.cause.kind, one.cause.where)
            for one in self._struck
            if one.tender and self._forked(one.old, one.new)
        }
        for one in self._struck:
            kind = one.cause.kind
            if one.begins and kind == causes.COUNTER and not counted:
                found.shared -= 1
                continue
            if one.loss.read:
                found.kept += 1
                continue
            minor = (
                (one.tender and (kind, one.cause.where) in meant)
                or self._is_seldom(kind, one.new.chain, shifts)
                or (kind == causes.MODEL and one.new.at not in self._went_on)
                or (not one.loss.chars and kind in _MADE)
            )
            holder = notes if minor else breaks
            told = kind, _general(one.cause.where)
            if told not in holder:
                holder[told] = Break(kind, one.cause.where, one.cause.text, one.old.at)
            holder[told].add(one.call, one.loss)
            found.kept += minor
        found.breaks = Rows(sorted(breaks.values(), key=_weight, reverse=True))
        found.notes = Rows(notes.values())
        found.unread = dict(self._requests.left_out)
        return found

    def _is_seldom(self, kind: str, chain: int, shifts: Counter[tuple[int, str]]) -> bool:
        """Whether a history is shortened now and then, which is well done."""
        times, calls = shifts[chain, kind], self._turns[chain]
        if kind == causes.SUMMARY:
            return times < 3 or times * 4 < calls
        return kind == causes.WINDOW and times * 8 <= calls

    @staticmethod
    def _forked(old: Numbered, new: Numbered) -> bool:
        """Whether the conversation went on as it was, beside a prompt that took another way."""
        messages = new.messages
        return any(
            child is not new and child.messages[: len(messages)] != messages
            for child in old.children
        )


def _general(where: str) -> str:
    """A field without the numbers of its messages, which move on with every turn."""
    return (
        _NUMBERS.sub("[]", where) if where.startswith(("messages", "input", "contents")) else where
    )


_NUMBERS: Final = later(r"\[\d+\]")
_MARK: Final = msgspec.msgpack.Encoder(order="deterministic")


def _only(labelled: list[tuple[str, Any]]) -> list[Any]:
    return [value for _, value in labelled]


def _weight(one: Break) -> tuple[Decimal, int, int]:
    return one.money or Decimal(0), one.tokens, len(one.calls)


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes" if seconds < 3600 else _hours(seconds)
    return _hours(seconds)


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return "1 hour" if hours == 1 else f"{hours:.1f} hours"
