"""The difference of two runs: what both asked and was answered otherwise, and what only one asked.

Calls are paired by their keys; of what is left, those that are near each other (a prompt that was
edited, another model), see `ledger.pairs`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cachewrap.ledger.calls import Call, Rows

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
        raise NotImplementedError


@dataclass(slots=True)
class Diff:
    """The difference of a candidate from a baseline.

    Attributes:
        baseline: the run that is compared with.
        candidate: the run that is compared.
        changes: what is not the same: changed, new and missing, in the order of the candidate's
            calls and, of what is missing, of the baseline's.
        same: how many requests both made and were answered the same.
    """

    baseline: Run
    candidate: Run
    changes: Rows[Change] = field(default_factory=Rows)
    same: int = 0

    @property
    def equal(self) -> bool:
        """Whether nothing is different."""
        return not self.changes

    def to_dicts(self) -> list[dict[str, Any]]:
        """The changes, each as a dictionary of plain values."""
        return self.changes.to_dicts()


def compare(baseline: Run, candidate: Run, *, ignore: Iterable[str] = ()) -> Diff:
    """What is different in a candidate, beside a baseline.

    Args:
        baseline: the run that is compared with.
        candidate: the run that is compared; of the same cache or of another one.
        ignore: fields of requests that make no difference, as paths: ``model``,
            ``messages[0].content``, ``metadata.*``.
    """
    raise NotImplementedError
