"""The watch over one call: for those who hear of events, and for the run that it is in."""

from __future__ import annotations

from typing import Any, Protocol

from cachewrap.call.terms import Exchange, Reply
from cachewrap.entry import Outcome
from cachewrap.ledger.recorder import Began
from cachewrap.telemetry.events import Watch
from cachewrap.telemetry.usage import NO_DETAILS, Details


class Watching(Protocol):
    """A watch over one call: a block around what asks for it, which is told how it ended."""

    def __enter__(self) -> object: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None: ...

    def finished(self, reply: Reply[Any], model: str, details: Details) -> None:
        """Be told how the call was answered, for which model, and what is special about that."""


class Both:
    """The watch over a call for those who hear of events, and for its run."""

    def __init__(self, watch: Watch, began: Began) -> None:
        self._watch = watch
        self.began = began

    def __enter__(self) -> None:
        """Nothing is done."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.began.__exit__(kind, error, trace)
        self._watch.__exit__(kind, error, trace)

    def finished(self, reply: Reply[Any], model: str, details: Details) -> None:
        self.began.finished(reply, model, details)
        self._watch.finished(reply, model, details)


def began_of(watch: Watching | None) -> Began | None:
    """What tells the run of a call; None where it is in none."""
    found = watch.began if isinstance(watch, Both) else watch
    return found if isinstance(found, Began) else None


def forget(watch: Watching | None) -> None:
    """Tell the run nothing of a call: somebody else does."""
    if (began := began_of(watch)) is not None:
        began.told = True


def raised(watch: Watching | None, error: BaseException) -> None:
    """Tell the run that a call has raised."""
    if (began := began_of(watch)) is not None:
        began.__exit__(type(error), error, None)


def unkept(exchange: Exchange[Any]) -> None:
    """Tell the run of a stream that has come to its end, and is not kept."""
    if (began := began_of(getattr(exchange, "begun", None))) is not None:
        began.ended(Outcome.MISS, None, exchange.model or "", NO_DETAILS)
