"""The service of a cache for several requests of one caller: what is missing is asked at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

from cachewrap.call.drivers import arun, run
from cachewrap.call.effects import Flow, Lookup, Together
from cachewrap.call.flow import fetch, look
from cachewrap.call.terms import ABSENT, Absent, Exchange, Reply, Seen, Terms, found_in
from cachewrap.call.together import together
from cachewrap.call.watching import Watching
from cachewrap.entry import Outcome
from cachewrap.errors import CodecError, ReplayMissError, StoreError
from cachewrap.stores.base import Store
from cachewrap.telemetry.events import Watch, log

R = TypeVar("R")


class Serves(Protocol):
    """The part of `Serving` that serves several requests at once."""

    _terms: Terms
    _watched: Store

    def watch(self, exchange: Exchange[Any], seconds: float = ..., /) -> Watching | None: ...

    def listen(self, exchange: Exchange[Any], seconds: float = ..., /) -> Watch | None: ...

    def finish(
        self, reply: Reply[R], exchange: Exchange[R], watch: Watching | None, /
    ) -> Reply[R]: ...

    def finish_hit(
        self, reply: Reply[R], exchange: Exchange[R], watch: Watch | None, started: float, /
    ) -> None: ...

    def refused(self) -> None: ...


def serve_many(
    cache: Serves,
    exchanges: Sequence[Exchange[R]],
    call: Callable[[list[int]], Sequence[R]],
) -> list[Reply[R]]:
    """Answer several requests of one caller, each as `Serving.serve` answers it alone.

    What others ask for at this time is waited for, and what nobody has is asked for in one call.
    Equal requests are asked for once: each has an answer of its own, and of a miss all but the
    first are counted as joined. Only errors of ``call`` come out, and then the requests that were
    missing are told as failed, and the others not at all; faults of the store and of entries are
    survived.

    Args:
        cache: serves them.
        exchanges: the requests, in the caller's order.
        call: asks upstream; it is given the numbers of the requests that are to be asked, in
            ascending order, and gives a result for each. It is called again for those for which
            others were waited for in vain.

    Raises:
        ResultsError: ``call`` gave another number of results; it has them.
        ReplayMissError: in mode replay, before any call; it tells which are missing.
    """
    listed = _Listed(cache, exchanges)
    with listed:
        listed.find(run(listed.reading(), cache._watched))
        if listed.missing:
            listed.take(
                run(listed.asking(), cache._watched, lambda asked: call(listed.numbers(asked)))
            )
    return listed.finish()


async def aserve_many(
    cache: Serves,
    exchanges: Sequence[Exchange[R]],
    call: Callable[[list[int]], Awaitable[Sequence[R]]],
) -> list[Reply[R]]:
    """`serve_many` for async callers."""
    listed = _Listed(cache, exchanges)
    with listed:
        listed.find(await arun(listed.reading(), cache._watched))
        if listed.missing:
            listed.take(
                await arun(
                    listed.asking(), cache._watched, lambda asked: call(listed.numbers(asked))
                )
            )
    return listed.finish()


class _Listed(Generic[R]):
    """The requests of one list: a block, in which they are answered, and counted behind it.

    Attributes:
        missing: the numbers of those that are not stored, each request once.
    """

    def __init__(self, cache: Serves, exchanges: Sequence[Exchange[R]]) -> None:
        self._cache = cache
        self._exchanges = exchanges
        first: dict[str, int] = {}
        self._first = [first.setdefault(one.key, at) for at, one in enumerate(exchanges)]
        self._different = list(first.values())
        self._replies: dict[int, Reply[R]] = {}
        self._absent: list[Absent] = []
        self._watches: dict[int, Watching | None] = {}
        self._started = time.time()
        self.missing: list[int] = []

    def reading(self) -> Flow[list[Seen]]:
        """What the store has for each request."""
        if self._cache._terms.mode == "refresh":
            return [None] * len(self._different)
        keys = [self._exchanges[at].key for at in self._different]
        done = yield from Together([Lookup(key) for key in keys])
        seen: list[Seen] = []
        for raw, error in done:
            if error is not None and not isinstance(error, StoreError):
                raise error
            seen.append(raw if error is None else error)
        return seen

    def find(self, seen: list[Seen]) -> None:
        """Take what is stored. Whatever else comes is watched from here on."""
        cache, exchanges, terms = self._cache, self._exchanges, self._cache._terms
        for at, raw in zip(self._different, seen, strict=True):
            exchange = exchanges[at]
            found = ABSENT if raw is None else found_in(exchange, raw, terms)
            if isinstance(found, Reply):
                self._replies[at] = found
            else:
                self.missing.append(at)
                self._absent.append(found)
        spent = time.time() - self._started
        for at in self.missing:
            watch = exchanges[at].begun = cache.watch(exchanges[at], spent)
            self._watches[at] = watch

    def asking(self) -> Flow[list[Reply[R]]]:
        """The replies to those that are missing."""
        terms = self._cache._terms
        if terms.mode == "replay":
            return self._refusing()
        flows = []
        for at, absent in zip(self.missing, self._absent, strict=True):
            flows.append(fetch(self._exchanges[at], terms, absent))
            if terms.compares and log.isEnabledFor(logging.DEBUG):
                terms = replace(terms, compares=False)
        return together(flows)

    def _refusing(self) -> Flow[list[Reply[R]]]:
        replies: list[Reply[R]] = []
        for at in self.missing:
            try:
                found = yield from look(self._exchanges[at], self._cache._terms)
            except ReplayMissError as error:
                missing = {*self.missing[len(replies) :]}
                for _ in range(len(missing) - 1):
                    self._cache.refused()
                error.tell_missing(
                    [at for at, first in enumerate(self._first) if first in missing],
                    len(self._first),
                )
                raise
            assert isinstance(found, Reply)  # it was stored meanwhile
            replies.append(found)
        return replies

    def numbers(self, asked: list[int]) -> list[int]:
        """The numbers of the requests that the flows with these numbers are for."""
        return [self.missing[number] for number in asked]

    def take(self, replies: list[Reply[R]]) -> None:
        """Take the replies to those that were missing."""
        self._replies.update(zip(self.missing, replies, strict=True))

    def __enter__(self) -> None:
        """The requests are answered in this block."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            for watch in self._watches.values():
                if watch is not None:
                    watch.__exit__(kind, error, trace)

    def finish(self) -> list[Reply[R]]:
        """The replies, in the order of the requests, counted and told to those who hear of them."""
        cache, replies, started = self._cache, self._replies, self._started
        spent = time.time() - started
        answered = []
        for at, (first, exchange) in enumerate(zip(self._first, self._exchanges, strict=True)):
            reply = replies[first]
            if at != first:
                reply = _again(reply, exchange)
            if at in self._watches:
                cache.finish(reply, exchange, self._watches[at])
            elif reply.outcome is Outcome.HIT and not reply.alias:
                cache.finish_hit(reply, exchange, cache.listen(exchange, spent), started)
            else:
                cache.finish(reply, exchange, cache.watch(exchange, spent))
            answered.append(reply)
        return answered


def _again(reply: Reply[R], exchange: Exchange[R]) -> Reply[R]:
    """The reply to an equal request of the same list, with a value of its own where one is kept."""
    outcome = Outcome.HIT if reply.outcome is Outcome.HIT else Outcome.JOINED
    entry, value = reply.entry or reply.unkept, reply.value
    if entry is not None:
        with suppress(CodecError):  # it could be read a moment ago
            value = exchange.load(entry)
    return Reply(outcome, value, entry, alias=reply.alias)
