"""Lineage: which earlier call each call of a run goes on with, and where they differ first."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeVar

from cachewrap.ledger.prefixes import causes
from cachewrap.ledger.prefixes.causes import Cause
from cachewrap.ledger.prefixes.prompts import (
    MESSAGES,
    RULES,
    SYSTEM,
    TOLD,
    TOOLS,
    ZONES,
    Head,
    Parts,
    Prompt,
)

K = TypeVar("K")

_RECENT: Final = 8
_TAIL: Final = 3
_BACK: Final = 8
_TELLING: Final = 80
"""Characters from which on a message is not said in every second conversation."""


class Numbered:
    """A call's prompt as the numbers of its parts.

    Attributes:
        at: the number of the call.
        head: what stands before its messages.
        ids: its parts.
        ends: where each zone ends in them.
        rules: how many of its first messages are its system prompt.
        rolled: a hash of all parts.
        chain: the number of the conversation.
        parent: the call that it goes on with.
        exact: whether it begins with all of that call's prompt.
        children: some calls that begin with all of its prompt.
        kept: how many of its parts the call has sent that was longest the same.
        turn: how many messages stand before what a model said last; 0 where none did.
    """

    __slots__ = (
        "at",
        "chain",
        "children",
        "ends",
        "exact",
        "head",
        "ids",
        "kept",
        "parent",
        "rolled",
        "rules",
        "turn",
    )

    def __init__(self, at: int, head: Head, ids: array[int], ends: tuple[int, ...], rules: int):
        self.at = at
        self.head = head
        self.ids = ids
        self.ends = ends
        self.rules = rules
        self.rolled = 0
        self.chain = -1
        self.parent: Numbered | None = None
        self.exact = False
        self.children: list[Numbered] = []
        self.kept = 0
        self.turn = 0

    @property
    def messages(self) -> array[int]:
        """The parts of its messages."""
        return self.ids[self.ends[MESSAGES - 1] :]

    def zone(self, zone: int) -> array[int]:
        """The parts of a zone."""
        return self.ids[self.ends[zone - 1] if zone else 0 : self.ends[zone]]


class Difference(NamedTuple):
    """The place in which a prompt differs first from that which it should begin with."""

    zone: int
    at: int


def first_difference(old: Numbered, new: Numbered, last: int = MESSAGES) -> Difference | None:
    """Where a prompt differs first from an older one, which it should begin with.

    Args:
        old: the older one.
        new: the prompt.
        last: the zone up to which they are compared.
    """
    if old.ids == new.ids[: len(old.ids)] and old.ends[:-1] == new.ends[:-1]:
        return None
    for zone in ZONES[: last + 1]:
        one, other = old.zone(zone), new.zone(zone)
        if one == other or (zone == MESSAGES and one == other[: len(one)]):
            continue
        at = 0
        for at, (a, b) in enumerate(zip(one, other, strict=False)):
            if a != b:
                return Difference(zone, at)
        return Difference(zone, min(len(one), len(other)))
    return None


class Lineage:
    """The calls of a run so far, found by what they have in common."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._heads: dict[int, tuple[Head, list[int], tuple[int, ...]]] = {}
        self._whole: dict[int, Numbered] = {}
        self._tails: dict[tuple[int, ...], list[Numbered]] = {}
        self._lengths: dict[tuple[str, int], list[Numbered]] = {}
        self._alike: dict[tuple[int, ...], list[Numbered]] = {}
        self.chains = 0

    def asked(self, at: int, prompt: Prompt, before: Numbered | None, mark: int) -> Numbered:
        """A prompt as the numbers of its parts.

        Args:
            at: the number of its call.
            prompt: the prompt.
            before: the call whose answer it goes on with by that answer's id.
            mark: the part that stands for that answer.
        """
        head = prompt.head
        known = self._heads.get(id(head))
        if known is None:
            numbers = [self._parts.number(slot.raw) for slot in head.slots]
            zones = [slot.zone for slot in head.slots]
            ends = tuple(sum(zone <= one for zone in zones) for one in ZONES)
            known = self._heads[id(head)] = head, numbers, ends
        _, numbers, ends = known
        number, teller = self._parts.number, self._parts.teller
        messages = [number(raw) for raw in prompt.messages]
        rules = 0
        while rules < len(messages) and teller[messages[rules]] == RULES:
            rules += 1
        said = messages[:rules]
        del messages[:rules]
        if before is not None:
            messages = [*before.messages, mark, *messages]
            said = [*before.zone(SYSTEM)[len(before.zone(SYSTEM)) - before.rules :], *said]
        cut, own = ends[SYSTEM], len(said)
        ids = array("L", numbers[:cut] + said + numbers[cut:] + messages)
        ends = tuple(
            len(ids) if zone == MESSAGES else end + own if zone >= SYSTEM else end
            for zone, end in enumerate(ends)
        )
        return Numbered(at, head, ids, ends, rules)

    def join(self, new: Numbered, old: Numbered) -> None:
        """Let a prompt that was taken for the first of a conversation go on with a call."""
        new.parent, new.chain = old, old.chain
        self.chains -= 1

    def place(self, new: Numbered, before: Numbered | None) -> Numbered | None:
        """Find the call that a prompt goes on with, and remember the prompt.

        Of a prompt that goes on with a call, ``parent`` and ``exact`` are set. What is given is
        the same prompt of an earlier call.
        """
        turns, rolled = self._rolled(new)
        new.rolled = rolled
        new.turn = turns[-1][0] if turns else 0
        same = self._whole.get(rolled)
        self._whole[rolled] = new
        if same is not None:
            new.parent, new.exact, new.chain = same.parent, same.exact, same.chain
            new.children = same.children
            return same
        exact, reached = None, -1
        for reached, before_it in reversed(turns):  # noqa: B007  # it is where the loop ends
            if (exact := self._whole.get(before_it)) is not None:
                break
        found = exact
        new.kept = len(found.ids) if found else 0
        if before is not None:
            found = before
        elif turns and (exact is None or reached != new.turn):
            other = self._likely(new, new.turn)
            if other is not None and (exact is None or len(other.ids) > len(exact.ids)):
                found = other
        if found is not None:
            new.parent, new.chain = found, found.chain
            new.exact = found is exact or first_difference(found, new) is None
            if new.exact and len(found.children) < 4:
                found.children.append(new)
        else:
            new.chain, self.chains = self.chains, self.chains + 1
        self._remember(new)
        return None

    def _rolled(self, new: Numbered) -> tuple[list[tuple[int, int]], int]:
        """Where a model spoke in a prompt, with a hash of all before; and a hash of all."""
        teller = self._parts.teller
        ids, begin = new.ids, new.ends[MESSAGES - 1]
        last = len(ids) - 1
        while last >= begin and teller[ids[last]] == TOLD:
            last -= 1
        turns = []
        rolled, told = 0, False
        for at, number in enumerate(ids):
            if at >= begin:
                tells = teller[number] == TOLD
                if tells and not told and begin < at < last:
                    turns.append((at - begin, rolled))
                told = tells
            rolled = hash((rolled, number))
        return turns, rolled

    def _remember(self, new: Numbered) -> None:
        messages = new.messages
        for number in messages[-_TAIL:]:
            for told in {(0, number), (1, self._parts.shape[number])}:
                self._add(self._tails, told, new)
        self._add(self._lengths, (new.head.api + new.head.place, len(messages)), new)

    @staticmethod
    def _add(holder: dict[K, list[Numbered]], told: K, new: Numbered) -> None:
        known = holder.get(told)
        if known is None:
            holder[told] = [new]
        else:
            known.append(new)
            if len(known) > _RECENT:
                del known[0]

    # -- conversations whose beginning has changed -------------------------------------------------

    def _likely(self, new: Numbered, turn: int) -> Numbered | None:
        """The call that a prompt goes on with, though it does not begin with its prompt."""
        messages, shape = new.messages, self._parts.shape
        found: dict[int, Numbered] = {}
        for number in reversed(messages[max(0, turn - _BACK) : turn]):
            for told in ((0, number), (1, shape[number])):
                for one in self._tails.get(told, ()):
                    found[one.at] = one
            if len(found) >= 2 * _RECENT:
                break
        places: dict[int, int] = {}
        shapes: dict[int, int] = {}
        for at, number in enumerate(messages):
            places[number] = at
            if shape[number]:
                shapes[shape[number]] = at
        best: tuple[tuple[int, int, int, int], Numbered] | None = None
        for one in found.values():
            if one.head.api != new.head.api:
                continue
            rank = self._rank(one, new, places, shapes)
            if rank and (best is None or rank > best[0]):
                best = rank, one
        return best[1] if best else None

    def _rank(
        self, old: Numbered, new: Numbered, places: dict[int, int], shapes: dict[int, int]
    ) -> tuple[int, int, int, int] | None:
        """How much speaks for it that a prompt goes on with an older one; None for nothing."""
        size, shape = self._parts.size, self._parts.shape
        messages = old.messages
        if not messages:
            return None
        at = [
            places[number] if number in places else shapes.get(shape[number], -1)
            for number in messages
        ]
        last = len(new.messages) - 1
        common = [number for number, where in zip(messages, at, strict=True) if where >= 0]
        chars, whole = sum(size[n] for n in common), sum(size[n] for n in messages)
        ends = 0 <= at[-1] < last
        if not ends:
            # The last message was edited after it was sent, and is still the next to be answered.
            if at[-1] >= 0 or len(messages) > last or len(common) + 1 < len(messages):
                return None
            spoken = [n for n in common if self._parts.teller[n] == TOLD]
            here = len(messages) - 1
            if not spoken or self._parts.teller[new.messages[here]] == TOLD:
                return None
            if self._parts.teller[new.messages[here + 1]] != TOLD:
                return None
        elif chars * 2 < whole and (
            len(common) * 2 < len(messages) or not self._telling(messages[-1])
        ):
            # What was left out stands in front, and what was said last is still there.
            tail = next(
                (n for n, one in enumerate(reversed(messages)) if one not in places), len(messages)
            )
            if tail < 2 and not (tail and self._telling(messages[-1])):
                return None
        exact = sum(number in places for number in common)
        if not exact and any(where >= 0 and where != here for here, where in enumerate(at)):
            return None
        return exact, len(common), self._common(old, new), old.at

    def _telling(self, number: int) -> bool:
        """Whether a message is not one that is said in every second conversation."""
        known = self._tails.get((0, number), ())
        return self._parts.size[number] >= _TELLING or len({one.chain for one in known}) < 2

    @staticmethod
    def _common(old: Numbered, new: Numbered) -> int:
        count = 0
        for one, other in zip(old.ids, new.ids, strict=False):
            if one != other:
                break
            count += 1
        return count

    def neighbours(self, new: Numbered, turn: int) -> Iterator[Numbered]:
        """The latest calls of as many messages as a prompt has before its last answer."""
        known = self._lengths.get((new.head.api + new.head.place, turn), ())
        yield from [one for one in reversed(known) if one is not new][:3]

    # -- calls that share their tools and their system prompt --------------------------------------

    def relatives(self, new: Numbered) -> tuple[str, list[Numbered]]:
        """Calls that began a conversation as a prompt does, and what they have in common with it.

        ``"head"``: all before the messages; ``"system"``: the system prompt alone; ``"tools"``:
        the tools alone.
        """
        ids, ends = new.ids, new.ends
        model = ids[0]
        head = (0, *ids[: ends[MESSAGES - 1]])
        system = (1, model, *new.zone(SYSTEM))
        tools = (2, model, *new.zone(TOOLS))
        found: tuple[str, list[Numbered]] = "", []
        if known := self._alike.get(head):
            found = "head", known[::-1][:2]
        elif new.zone(SYSTEM) and (known := self._alike.get(system)):
            found = "system", known[::-1][:2]
        elif new.zone(SYSTEM) and (known := self._alike.get(tools)):
            found = "tools", known[::-1]
        for told in (head, system) if found[0] == "head" else (head, system, tools):
            self._add(self._alike, told, new)
        return found


# -- histories that have moved -------------------------------------------------------------------


def is_shorter(old: Numbered, new: Numbered) -> bool:
    """Whether the history before the last message of an older prompt became shorter."""
    one, other = old.messages, new.messages
    return len(one) > 3 and one[-1] in other and other.index(one[-1]) + 2 < len(one)


def shift(old: Numbered, new: Numbered, at: int, label: str) -> Cause | None:
    """What was dropped, put in, moved or summed up in a history; None where it was edited."""
    one, other = old.messages, new.messages
    name, base = label.partition("[")[0], int(label.partition("[")[2].rstrip("]") or 0) - at
    if at >= len(other):
        return None
    now_in_old = next((k for k in range(at + 1, len(one)) if one[k] == other[at]), -1)
    was_in_new = next((k for k in range(at + 1, len(other)) if other[k] == one[at]), -1)

    def several(count: int) -> str:
        last = f"..{at + base + count - 1}" if count > 1 else ""
        return f"{name}[{at + base}{last}]"

    if now_in_old > 0 and was_in_new > 0:
        text = f"{label} and {name}[{was_in_new + base}] have changed places"
        if Counter(one[:-1]) == Counter(other[: len(one) - 1]):
            text = f"the same {name} in another order, from {label} on"
        return Cause(causes.ORDER, label, text)
    if now_in_old > 0:
        were = "was" if now_in_old - at == 1 else "were"
        text = f"{several(now_in_old - at)} {were} dropped from the history, as by a window"
        return Cause(causes.WINDOW, label, f"{text} that moves on")
    if was_in_new > 0:
        were = "was" if was_in_new - at == 1 else "were"
        text = f"{several(was_in_new - at)} {were} put in before what had been sent"
        return Cause(causes.ADDED, label, text)
    for k in range(at + 1, len(one)):
        where = next((j for j in range(at + 1, len(other)) if other[j] == one[k]), -1)
        if where > 0:
            if where < k:
                text = f"{several(k - at)} were replaced, as by a summary of the history"
                return Cause(causes.SUMMARY, label, f"{text} (compaction)")
            break
    return None
