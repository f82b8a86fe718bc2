"""The stored requests of a run's calls, and what is known of those that cannot be read."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Final

from cachewrap.entries.conversation import Turn, answer_turns
from cachewrap.entry import HttpAnswer, Kind
from cachewrap.errors import CorruptEntryError
from cachewrap.format import codec
from cachewrap.ledger.answers import answers_of
from cachewrap.ledger.calls import BYPASSED, FAILED, Call
from cachewrap.patterns import later

if TYPE_CHECKING:
    from cachewrap.ledger.runs import Run

_KEPT: Final = 32
_ID: Final = later(rb'"id"\s*:\s*"([^"]{1,200})"')


class Requests:
    """The requests of a run's calls; the latest are kept.

    Attributes:
        left_out: how many calls have none that can be read, by the reason.
    """

    def __init__(self, run: Run) -> None:
        self.left_out: Counter[str] = Counter()
        self._answers = answers_of(run)
        self._recent: OrderedDict[int, bytes] = OrderedDict()

    def close(self) -> None:
        """Let go of other places."""
        self._answers.close()

    def leave_out(self, reason: str) -> None:
        """Count a call whose request is of no use."""
        self.left_out[reason] += 1

    def read(self, call: Call, *, again: bool = False) -> bytes:
        """The encoded request of a call; ``b""`` where there is none that can be read.

        Args:
            call: the call.
            again: it was read before: it is not counted.
        """
        found = self._recent.get(call.number)
        if found is None:
            found, reason = self._read(call)
            if reason and not again:
                self.leave_out(reason)
            self._recent[call.number] = found
            if len(self._recent) > _KEPT:
                self._recent.popitem(last=False)
        return found

    def _read(self, call: Call) -> tuple[bytes, str]:
        if not call.key or call.outcome in (BYPASSED, FAILED):
            return b"", "were not stored"
        request = self._answers.request(call)
        return request, "" if request else self._reason(call)

    def _reason(self, call: Call) -> str:
        if call.place:
            return "lie in another place"
        found = self._answers.partition(call)
        raw = None if found is None else found.store.get(call.key)
        if found is None or raw is None:
            return "are no longer stored"
        if found.guard.lacks_key(raw):
            return "are encrypted with a key that is not here"
        if found.opened(call.key, raw) is None:
            return "cannot be read"
        return "were stored without their requests"

    def answer(self, call: Call) -> list[Turn]:
        """What a call was answered; nothing where it cannot be read."""
        try:
            entry = self._answers.entry(call)
            return answer_turns(entry) if entry else []
        except CorruptEntryError:
            return []

    def answer_id(self, call: Call) -> str:
        """The id that an answer over HTTP has; ``""`` for none."""
        try:
            entry = self._answers.entry(call)
            if entry is None or entry.kind is not Kind.HTTP:
                return ""
            answer: HttpAnswer = codec.decode(Kind.HTTP, entry.answer)
        except CorruptEntryError:
            return ""
        found = _ID.search(b"".join(answer.chunks)[:4000])
        return found[1].decode(errors="replace") if found else ""
