"""Events: what happened to one call, for a hook of the cache's and for the log; and its faults."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from types import FrameType
from typing import Any, Final, Self, TypeAlias

from cachewrap.entry import Entry, Outcome
from cachewrap.errors import (
    CacheWarning,
    CachewrapError,
    CorruptEntryError,
    UnsupportedTypeError,
    printable,
)
from cachewrap.telemetry.usage import NO_DETAILS, Details, named_details

call_log: Final = logging.getLogger("cachewrap.calls")

# What `Logger.isEnabledFor` remembers of a level, and forgets when one is set: False where nothing
# is logged; None where it is to be asked.
remembered: Final[Callable[[int], bool | None]] = getattr(call_log, "_cache", {}).get


@dataclass(frozen=True, slots=True)
class Event:
    """One call that a cache served or let go past it, or whose upstream call failed.

    Of a call that goes past a cache, with the outcome `Outcome.BYPASSED`, only ``source``,
    ``seed``, ``place``, ``started`` and ``reason`` are known: it is told before it is made.

    Attributes:
        outcome: how it was answered; None for a call that raised.
        source: the function (``module:qualname``) or the endpoint (``POST /chat/completions``).
        model: the model that was asked; of a function's call, the one that answered; or ``""``.
        answered_by: the model as upstream reported it, or ``""``.
        key: the key of the request.
        seed: the seed of the cache.
        place: the store's URL, without credentials.
        started: when the call began, in seconds since the epoch.
        seconds: how long its caller waited; of a stream that was asked upstream, until its end.
        upstream_seconds: how long upstream took for the answer, now or when it was stored.
        tokens_in: prompt tokens of the answer, as upstream reported them.
        tokens_out: completion tokens of the answer.
        stored: whether the answer of this call was stored.
        error: what the call raised, or None.
        reason: why a call is not cached, as in ``stats.bypass_reasons``, or why its answer is none
            to be stored, as in ``stats.unstored_reasons``; of other calls ``""``. In mode ``"off"``
            the source is not known.
        details: how many of the tokens were what, by name, such as ``cache_read_tokens``; those
            that are none are left out.
        by: of an answer that was stored for another request, the rules of equality without which
            it were not this one's.
        alias: of an answer that an alias led to, the key that it is stored under; else ``""``.
    """

    outcome: Outcome | None
    source: str
    model: str
    answered_by: str
    key: str
    seed: str
    place: str
    started: float
    seconds: float
    upstream_seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    stored: bool = False
    error: BaseException | None = None
    reason: str = ""
    details: dict[str, int] = field(default_factory=dict)
    by: tuple[str, ...] = ()
    alias: str = ""

    @property
    def hit(self) -> bool:
        """Whether nothing was asked upstream for this call."""
        return self.outcome in (Outcome.HIT, Outcome.JOINED)

    def as_dict(self) -> dict[str, Any]:
        """The event as plain values; an error is its type's name."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        values["outcome"] = "error" if self.outcome is None else self.outcome.value
        values["error"] = None if self.error is None else type(self.error).__qualname__
        return values


Hook: TypeAlias = Callable[[Event], None]
"""Is given every event, in the thread or task of the call. What it raises costs a warning."""


class Watch:
    """The time of one call, and the event at its end.

    Args:
        hook: is given the event; None logs it only.
        source: what is called.
        model: the model that is asked; None where only the answer tells.
        key: the key of the request.
        seed: the seed of the cache.
        place: the store's URL.
        seconds: how long the call has taken before.
    """

    def __init__(
        self,
        hook: Hook | None,
        source: str,
        model: str | None,
        key: str,
        seed: str,
        place: str,
        seconds: float = 0.0,
    ) -> None:
        self._hook = hook
        self._what = (source, model, key, seed, place)
        self._began = time.perf_counter() - seconds
        self._started = time.time() - seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self.tell(None, None, error=error)

    def finished(self, reply: Any, model: str, details: object) -> None:
        """Say how it was answered, as a `Reply` has it."""
        stored = reply.own and reply.entry is not None
        told = {"reason": reply.reason, "by": reply.by, "alias": reply.alias}
        self.tell(reply.outcome, reply.entry, stored=stored, **told)

    def tell(
        self,
        outcome: Outcome | None,
        entry: Entry | None,
        *,
        stored: bool = False,
        error: BaseException | None = None,
        reason: str = "",
        by: tuple[str, ...] = (),
        alias: str = "",
    ) -> None:
        """Say how the call ended."""
        source, model, key, seed, place = self._what
        answered_by, details = reported_of(entry)
        event = Event(
            outcome,
            source,
            answered_by if model is None else model,
            answered_by,
            key,
            seed,
            place,
            self._started,
            time.perf_counter() - self._began,
            entry.seconds if entry else 0.0,
            entry.tokens_in if entry else 0,
            entry.tokens_out if entry else 0,
            stored,
            error,
            reason,
            named_details(details) if details else {},
            by,
            alias,
        )
        model = printable(event.model, 100)
        name = f"{'error' if outcome is None else outcome.value} {source} {model}".rstrip()
        why = f", not stored ({reason})" if reason else ""
        if led := ("alias",) if alias else by:
            why += f", by {', '.join(led)}"
        _tell(self._hook, event, f"{name} in {event.seconds:.4f} s{why}")


def tell_bypass(hook: Hook | None, source: str, seed: str, place: str, reason: str) -> None:
    """Say that a call goes past the cache, and why."""
    if hook is None and not call_log.isEnabledFor(logging.DEBUG):
        return
    event = Event(
        Outcome.BYPASSED, source, "", "", "", seed, place, time.time(), 0.0, reason=reason
    )
    _tell(hook, event, f"bypassed {source} ({reason})")


def _tell(hook: Hook | None, event: Event, text: str) -> None:
    if call_log.isEnabledFor(logging.DEBUG):
        call_log.debug("%s", text, extra={"cachewrap": event.as_dict()})
    if hook is not None:
        try:
            hook(event)
        except Exception as fault:  # the call has its answer, whatever becomes of the telling
            warn_once(("on_event", type(fault)), f"on_event= raised {fault!r}")


def model_of(entry: Entry | None) -> str:
    """The model as upstream reported it, for one line; ``""`` where none is known."""
    return reported_of(entry)[0]


def reported_of(entry: Entry | None) -> tuple[str, Details]:
    """The model, as `model_of` gives it, and how many of the tokens were what."""
    if entry is None:
        return "", NO_DETAILS
    try:
        record = entry.read_record()
    except CorruptEntryError:  # the record is damaged, the answer that was served is not
        return "", NO_DETAILS
    return printable(str(record["model"])), record.get("details", NO_DETAILS)


# -- faults that a call survives ---------------------------------------------------------------


log: Final = logging.getLogger("cachewrap")

_told: set[tuple[object, ...]] = set()

Place: TypeAlias = tuple[str, int, str]
"""A file, a line in it, and the module's name."""

NOWHERE: Final[Place] = ("cachewrap", 1, "cachewrap")

_INSTALLED: Final = (f"{os.path.dirname(os.__file__)}{os.sep}", "<frozen ")
_PACKAGES: Final = tuple(f"{os.sep}{name}-packages{os.sep}" for name in ("site", "dist"))


def calling_line() -> Place:
    """The line of the program that has called us, however many libraries are between."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code.co_filename
        module = str(frame.f_globals.get("__name__"))
        if module.partition(".")[0] != "cachewrap" and not _is_installed(code):
            return code, frame.f_lineno, module
        frame = frame.f_back
    return NOWHERE


def _is_installed(file: str) -> bool:
    return file.startswith(_INSTALLED) or any(folder in file for folder in _PACKAGES)


def warn_once(cause: tuple[object, ...], message: str) -> None:
    """Warn with a `CacheWarning` unless this process was already warned of the same cause."""
    log.debug(message)
    if cause not in _told:
        _told.add(cause)
        warnings.warn_explicit(message, CacheWarning, *calling_line())


def survive(error: CachewrapError, source: str, place: str) -> None:
    """Tell of a fault that does not stop the call.

    Args:
        error: what happened.
        source: the function or endpoint that was called.
        place: the store's URL.
    """
    if isinstance(error, UnsupportedTypeError):
        warn_once(
            (UnsupportedTypeError, source),
            f"{source}: the answer is returned but not stored: {error}",
        )
    elif isinstance(error, CorruptEntryError):
        warn_once(
            (CorruptEntryError, place),
            f"{source}: an entry in {place} cannot be read and counts as absent: {error}",
        )
    else:
        warn_once(
            (type(error), type(error.__cause__), place),
            f"{source}: went on without the cache at {place}: {error}",
        )


def wanted(when: Callable[[Any], bool], answer: Any, source: str) -> bool:
    """Whether an answer is to be stored. One on which ``when`` raises is not, with a warning.

    Args:
        when: decides.
        answer: what came from upstream.
        source: the function or endpoint that was called.
    """
    try:
        return bool(when(answer))
    except Exception as error:  # what was paid for is returned all the same
        warn_once(("when", source), f"{source}: the answer is not stored: when= raised {error!r}")
        return False


def forget() -> None:
    """Forget which causes were already told."""
    _told.clear()
