"""The flows of several requests of one caller, taken together, with one call for what is missing.

Each flow goes on until it wants to ask upstream, or would wait for somebody else. What they want of
the store on their way is done for all of them at once. Then one call asks for all that are to be
asked, and what it gives is stored; only then are others waited for. Nobody who holds a lease, or
leads a flight that others wait for, ever waits for somebody else's flight: two lists that overlap
never wait for each other, in one process or in several.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar

from cachewrap.call.effects import Call, Effect, Flow, Sleep, Together, Wait, WaitForAny
from cachewrap.call.flight import LATE, Flight
from cachewrap.errors import ResultsError
from cachewrap.systems import clock

R = TypeVar("R")

_AT_ONCE: Final = 0.005
"""Seconds by which a look at a lease may come early, for several to go together."""

_PARKED: Final = (Call, Wait, Sleep)
"""What a flow waits for by itself."""


class _Failed(Exception):
    """The call for all has failed, or gave nothing that can be told apart."""


class _Left(BaseException):
    """The caller goes on no more: somebody else may take his place."""


class _Member(Generic[R]):
    """One flow of several.

    Attributes:
        effect: what it waits for; None once it has ended.
        due: when it has waited for long enough.
        looked: whether its wait has begun.
        result: what it gave.
    """

    __slots__ = ("due", "effect", "flow", "index", "looked", "result")

    result: R

    def __init__(self, index: int, flow: Flow[R]) -> None:
        self.index = index
        self.flow = flow
        self.effect: Effect[Any] | None = None
        self.due = 0.0
        self.looked = False

    def go_on(self, result: Any, error: BaseException | None) -> bool:
        """Go on with what was waited for; whether it now wants something of the store."""
        self.effect = None
        try:
            effect = self.flow.send(result) if error is None else self.flow.throw(error)
        except StopIteration as stop:
            self.result = stop.value
            return False
        finally:
            error = None  # its traceback holds this frame
        self.effect = effect
        if not isinstance(effect, _PARKED):
            return True
        if isinstance(effect, (Wait, Sleep)):
            self.due = clock.now() + effect.seconds
            self.looked = False
        return False


_Sent = tuple[_Member[R], Any, BaseException | None]


def together(flows: Sequence[Flow[R]]) -> Flow[list[R]]:
    """What flows of different requests give, in their order.

    The call upstream is told the numbers of the flows that it is for, and gives a result for each.
    What it raises is raised once, when all that wait for these requests have been told. So is
    what a flow raises, when the others have stored what was paid for.

    Raises `ResultsError` for another number of results.
    """
    members = [_Member(index, flow) for index, flow in enumerate(flows)]
    try:
        yield from _on([(one, None, None) for one in members])
        while True:
            waiting = [one for one in members if type(one.effect) is Wait]
            new = [one for one in waiting if not one.looked]
            if new:  # some can never be waited for, and are asked with the others
                yield from _wait(new, [], 0.0)
            elif any(type(one.effect) is Call for one in members):
                yield from _call(members)
            else:
                sleeping = [one for one in members if type(one.effect) is Sleep]
                if not (waiting or sleeping):
                    return [one.result for one in members]
                due = min(one.due for one in (*waiting, *sleeping))
                yield from _wait(waiting, sleeping, due - clock.now())
    except GeneratorExit:
        raise
    except BaseException:
        yield from _leave([one for one in members if one.effect is not None], _Left)
        raise
    finally:
        for one in members:
            one.flow.close()


def _on(sent: list[_Sent[R]]) -> Flow[None]:
    """Have flows go on until each of them waits or has ended.

    The first error of one is raised when all others have come as far.
    """
    failure: Exception | None = None
    while sent:
        wanting = []
        for member, result, error in sent:
            try:
                if member.go_on(result, error):
                    wanting.append(member)
            except Exception as raised:
                failure = failure or raised
        sent = []
        if wanting:
            done = yield from Together([one.effect for one in wanting if one.effect is not None])
            sent = [(one, *end) for one, end in zip(wanting, done, strict=True)]
            del done
    result = error = None  # the traceback of an error holds this frame
    if failure is not None:
        try:
            raise failure
        finally:
            failure = None


def _call(members: list[_Member[R]]) -> Flow[None]:
    """Ask upstream for all that are to be asked, and have them go on."""
    asked: list[_Member[R]] = []
    flights: list[Flight] = []
    for one in members:
        effect = one.effect
        if isinstance(effect, Call):
            asked.append(one)
        if isinstance(effect, (Call, Sleep)) and effect.flight is not None:
            flights.append(effect.flight)
    numbers = [one.index for one in asked]
    try:
        results = yield from Call(None, (numbers,), tuple(flights))
        if len(results) != len(asked):
            raise ResultsError(
                f"{len(results)} results came for {len(asked)} elements: nothing is stored", results
            )
    except GeneratorExit:
        raise
    except BaseException as error:
        yield from _leave(asked, _Failed if isinstance(error, Exception) else _Left)
        raise
    for one in asked:
        effect = one.effect
        assert isinstance(effect, Call)
        effect.among = len(asked)
    yield from _on([(one, result, None) for one, result in zip(asked, results, strict=True)])


def _wait(waiting: list[_Member[R]], sleeping: list[_Member[R]], seconds: float) -> Flow[None]:
    """Wait until one of those who are waited for is done, or for so long."""
    sent: list[_Sent[R]] = []
    if waiting:
        waits = [one.effect for one in waiting if isinstance(one.effect, Wait)]
        stopped = min(wait.stopped_seconds for wait in waits)
        landings = yield from WaitForAny([wait.flight for wait in waits], seconds, stopped)
        now = clock.now()
        for one, landing in zip(waiting, landings, strict=True):
            one.looked = True
            if landing is not None:
                sent.append((one, landing, None))
            elif one.due <= now:
                sent.append((one, LATE, None))
    elif seconds > 0:
        yield Sleep(seconds)
    soon = clock.now() + _AT_ONCE
    sent += [(one, None, None) for one in sleeping if one.due <= soon]
    yield from _on(sent)


def _leave(members: list[_Member[R]], kind: type[BaseException]) -> Flow[None]:
    """End flows that are under way: what they lead lands, and their leases are given back."""
    sent: list[_Sent[R]] = [(one, None, kind()) for one in members]
    while sent:
        wanting = []
        while sent:  # the traceback of an error in it holds this frame
            member = sent[-1][0]
            if _goes_on(*sent.pop()):
                wanting.append(member)
        if wanting:
            done = yield from Together([one.effect for one in wanting if one.effect is not None])
            sent += [(one, *end) for one, end in zip(wanting, done, strict=True)]
            del done


def _goes_on(member: _Member[R], result: Any, error: BaseException | None) -> bool:
    """Whether a flow that is to end wants something of the store for that."""
    try:
        return member.go_on(result, error)
    except (Exception, _Left):
        return False  # its own, in most cases: the caller is told why
    finally:
        error = None
