"""The telling of calls: each is counted, and told to its run and to those who listen."""

from __future__ import annotations

import logging
from abc import ABCMeta
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cachewrap.call.stats import Stats
from cachewrap.call.terms import Exchange, Reply
from cachewrap.call.watching import Both, Watching, began_of
from cachewrap.entry import By, Entry, Outcome, rules_between
from cachewrap.errors import CachewrapError, CodecError, CorruptEntryError, StoreError, refusal
from cachewrap.format.sealing import Guard, answer_under
from cachewrap.ledger.recorder import Recorder
from cachewrap.policy import Policy
from cachewrap.telemetry import events
from cachewrap.telemetry.events import Watch, survive, tell_bypass

R = TypeVar("R")


if TYPE_CHECKING:
    _Protocols = ABCMeta
else:
    _Protocols = type(Protocol)  # so that a cache may derive from protocols and abstract classes


class Offering(_Protocols):
    """The class of caches, which offers at TAB what is for users.

    What decorators, patches and integrations need has no underscore, and is left out.
    """

    _is_protocol = False  # which Python 3.11 asks of each class of its own kind

    def __dir__(cls) -> list[str]:
        return [name for name in super().__dir__() if name not in FOR_OTHERS]


FOR_OTHERS: set[str] = {"explain_exchange", "hold", "numbering", "release", "sibling"}
"""The names of caches that are for decorators, patches and integrations, and not offered."""


class Telling(metaclass=Offering):
    """The calls of one cache, as they are counted and told of."""

    _guard: Guard
    _recorder: Recorder | None
    _seed: str | None
    _url: str
    policy: Policy
    stats: Stats

    def listen(self, exchange: Exchange[Any], seconds: float = 0.0) -> Watch | None:
        """Time one call, ``seconds`` of which are over; None where nobody hears of it."""
        hook = self.policy.on_event
        if hook is None and (
            events.remembered(logging.DEBUG) is False
            or not events.call_log.isEnabledFor(logging.DEBUG)
        ):
            return None
        seed, place = self._seed or "", self._url
        return Watch(hook, exchange.source, exchange.model, exchange.key, seed, place, seconds)

    def watch(self, exchange: Exchange[Any], seconds: float = 0.0) -> Watching | None:
        """`listen`, and have the call told to its run, however it ends."""
        watch, recorder = self.listen(exchange, seconds), self._recorder
        began = None if recorder is None else recorder.begin(exchange, seconds)
        return began if watch is None else watch if began is None else Both(watch, began)

    def _begun(self, exchange: Exchange[Any], seconds: float) -> Watching | None:
        """What watches a call from its beginning, in the block that it was made in."""
        watch: Watching | None = getattr(exchange, "begun", None)
        return watch or self.watch(exchange, seconds)

    def finish(self, reply: Reply[R], exchange: Exchange[R], watch: Watching | None) -> Reply[R]:
        """The reply, counted, and told to those who hear of it."""
        model, details = self.stats.count(reply, exchange)
        if self.policy.same is not None:
            self._count_rules(reply, exchange.by)
        if watch is not None:
            watch.finished(reply, model, details)
        return reply

    def _count_rules(self, reply: Reply[Any], by: By) -> None:
        """Count an answer that was stored for another request, if rules have made the two equal."""
        if reply.entry is not None and reply.outcome is not Outcome.MISS and not reply.alias:
            reply.by = self.count_rules(reply.entry, by)

    def count_rules(self, entry: Entry, by: By) -> tuple[str, ...]:
        """The rules without which a request would not have had an answer, counted.

        Args:
            entry: the answer.
            by: the rules that changed the request.
        """
        declared = entry.declared
        needed = rules_between(by, () if declared is None else declared.by)
        if needed:
            self.stats.count_rules(needed)
        return needed

    def finish_hit(
        self, reply: Reply[R], exchange: Exchange[R], watch: Watch | None, started: float
    ) -> None:
        """`finish` for a hit that `peek` has found, of a call that began at a time."""
        entry: Any = reply.entry
        source, key = exchange.source, exchange.key
        model, told = self.stats.count_hit(entry, source, exchange.model, key)
        if self.policy.same is not None:
            self._count_rules(reply, exchange.by)
        if (recorder := self._recorder) is not None:
            recorder.hit(entry, source, model, told, key, started, reply.by)
        if watch is not None:
            watch.finished(reply, model, told[3])

    def bypass(
        self,
        source: str,
        reason: str,
        *,
        asks_model: bool = True,
        fault: CachewrapError | None = None,
        host: str = "",
    ) -> None:
        """Count a call that goes past the cache, and tell those who hear of it why.

        Args:
            source: what is called.
            reason: why it goes past, in a word or two.
            asks_model: whether it makes a model work.
            fault: what is wrong with the call, where that is why.
            host: where it goes, if that is why.

        Raises `ReplayMissError` in mode replay, if a model is asked or the cache is strict.
        """
        policy = self.policy
        if policy.mode == "replay" and (asks_model or policy.replay == "strict"):
            self.refused()
            if self._recorder is not None:
                self._recorder.refused(source)
            raise refusal(source, reason, fault, asks_model=asks_model, host=host) from fault
        self.stats.count_bypass(reason, host)
        if self._recorder is not None:
            self._recorder.bypassed(source, reason)
        tell_bypass(self.policy.on_event, source, self._seed or "", self._url, reason)

    def refused(self) -> None:
        """Count a call that mode replay refuses."""
        self.stats.count_absent()

    def count_joined(self, entry: Entry | None, begun: Watching | None = None, by: By = ()) -> None:
        """Count a call that read another caller's stream.

        Args:
            entry: what was stored of it.
            begun: what watches the call from its beginning, if anything does.
            by: the rules of equality that changed its request.
        """
        reply = Reply(Outcome.JOINED, None, entry)
        model, details = self.stats.count(reply)
        if self.policy.same is not None:
            self._count_rules(reply, by)
        if (began := began_of(begun)) is not None:
            began.finished(reply, model, details)

    def _replaced(self, exchange: Exchange[Any], raw: bytes) -> None:
        """What was stored for a call is replaced: it is kept for the runs that had it."""
        began = began_of(getattr(exchange, "begun", None))
        if began is not None:
            with suppress(CodecError):
                raw, entry = answer_under(exchange.key, raw, self._guard)
                began.replaced(raw, entry.created)

    def survive(self, error: CachewrapError, source: str) -> None:
        """Count a fault that does not stop the call of ``source``, and warn of it once.

        A cache with ``on_error="raise"`` raises faults of the store and of entries.
        """
        self.stats.count_error()
        if self.policy.raise_errors and isinstance(error, (StoreError, CorruptEntryError)):
            raise error
        survive(error, source, self._url)
