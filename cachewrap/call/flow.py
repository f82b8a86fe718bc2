"""The steps of one cached call, as a generator of effects with no I/O in it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from cachewrap.call.aliases import found_by
from cachewrap.call.effects import (
    Acquire,
    Call,
    Effect,
    Flow,
    Leave,
    Lookup,
    Release,
    Save,
    Search,
    Sleep,
    Wait,
)
from cachewrap.call.flight import AGAIN, FAILED, Flight, Landing, Reader, board
from cachewrap.call.lease import Lease, OpenLease, Pulse
from cachewrap.call.terms import (
    ABSENT,
    Absent,
    Exchange,
    Reply,
    Seen,
    Terms,
    found_in,
    found_since,
    joined_in,
)
from cachewrap.entry import Outcome, kept_until
from cachewrap.errors import CodecError, StoreError
from cachewrap.format.aliases import AliasedError
from cachewrap.request.key import refresh_name
from cachewrap.stores.base import Claim, Store, new_token
from cachewrap.systems import clock
from cachewrap.telemetry.events import log

if TYPE_CHECKING:
    from cachewrap.explain import Explanation

R = TypeVar("R")
T = TypeVar("T")

Board: TypeAlias = Callable[[str, str], tuple[Any, bool] | None]
"""Boards what callers of one request share: takes place and key, gives it and whether one leads."""

_OPENED: Final[Reply[Any]] = Reply(Outcome.MISS, None, opened=True)

# Between two looks for the answer of another process: at first short, for quick models.
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.25

_LOGGED: Final = 10_000
"""Entries that are looked at for a line in the log: a part of a second, however many there are."""


def look(exchange: Exchange[R], terms: Terms, before: Absent = ABSENT) -> Flow[Reply[R] | Absent]:
    """Look the request up. A store or an entry that cannot be read is reported, and absent.

    What an earlier look found there ``before``, and to be absent, is so without another word.
    In mode refresh everything is absent; in mode replay what is absent raises `ReplayMissError`.
    """
    if terms.mode == "refresh":
        return ABSENT
    seen: Seen
    try:
        # Yielded as it is: `yield from` costs a generator more.
        seen = yield Lookup(exchange.key)
    except StoreError as error:
        seen = error
    if seen is not None and seen == before.stale:
        return before
    found = found_in(exchange, seen, terms)
    if found.alias and isinstance(found, Absent):
        found = yield from follow_alias(exchange, found, terms)
    if terms.mode == "replay" and isinstance(found, Absent):
        terms.refused()
        explanation = yield from _explain(exchange, terms)
        raise explanation.error(found.why) from found.why
    return found


def follow_alias(exchange: Exchange[R], absent: Absent, terms: Terms) -> Flow[Reply[R] | Absent]:
    """What is found under the target of an alias, see `found_by`."""
    assert absent.alias is not None
    return found_by(exchange, absent, (yield from _read(absent.alias.target)), terms)


def _explain(exchange: Exchange[R], terms: Terms, most: int | None = None) -> Flow[Explanation]:
    from cachewrap.explain import Explanation, explain_miss

    def search(store: Store) -> Explanation:
        try:
            return explain_miss(store, terms.guard, exchange, store.url, most=most)
        except StoreError:  # it was reported at the look, or others search for too long
            return Explanation(exchange.source, exchange.key, False, (), store.url, looked=False)

    return (yield from Search(search))


def _log_miss(exchange: Exchange[R], terms: Terms) -> Flow[None]:
    if terms.mode != "refresh" and terms.compares:
        explanation = yield from _explain(exchange, terms, _LOGGED)
        log.debug("%s", explanation)


def keep(
    exchange: Exchange[R], result: R, seconds: float, absent: Absent, terms: Terms
) -> Flow[tuple[Reply[R], Landing]]:
    """Store a result that came from upstream; the reply holds the answer that won.

    What was paid for is never lost: where it cannot be encoded, stored or read back, the fault is
    reported and the reply holds the result as it came.
    """
    lease = absent.lease
    flow = _keep(exchange, result, seconds, absent, terms, lease)
    kept = yield from (flow if lease is None else _give_back_after(flow, exchange, terms, lease))
    if log.isEnabledFor(logging.DEBUG):
        yield from _log_miss(exchange, terms)  # once it is stored: the next one may not wait for it
    return kept


def _give_back_after(
    flow: Flow[tuple[Reply[R], Landing]], exchange: Exchange[R], terms: Terms, lease: OpenLease
) -> Flow[tuple[Reply[R], Landing]]:
    """What a flow gives that keeps an open response; with it ends what kept others waiting."""
    failed = False
    try:
        kept = yield from flow
        failed = lease.over and kept[1] is FAILED
    except GeneratorExit:
        lease.drop()
        raise
    except Exception:
        failed = True
        raise
    finally:
        if lease.held:
            yield from _give_back(exchange, lease, terms, failed)
    return kept


def _give_back(exchange: Exchange[R], lease: Lease, terms: Terms, failed: bool) -> Flow[None]:
    lease.held = False
    try:
        yield Release(lease.key, lease.token, failed)
    except StoreError as error:
        terms.report(error, exchange.source)


def _keep(
    exchange: Exchange[R],
    result: R,
    seconds: float,
    absent: Absent,
    terms: Terms,
    lease: Lease | None = None,
) -> Flow[tuple[Reply[R], Landing]]:
    if terms.mode == "refresh":
        log.info("%s: asked anew (mode refresh)", exchange.source)
    try:
        sealed = exchange.dump(result, seconds)
    except CodecError as error:
        terms.report(error, exchange.source)
        return Reply(Outcome.MISS, result), FAILED
    if sealed is None:
        return Reply(Outcome.MISS, result, reason=exchange.why_unstored(result)), FAILED
    envelope, entry = sealed
    raw = won = terms.guard.close(exchange.key, envelope)
    stored, before = terms.mode != "read_only", absent.stale
    refresh = terms.mode == "refresh"
    if stored:
        until = kept_until(entry.expires, time.time())
        if refresh and before is None and terms.replaced is not None:
            found = yield from _read(exchange.key)
            before = found if isinstance(found, bytes) else None
        try:
            won = yield Save(exchange.key, raw, until, absent.stale, refresh, lease)
        except StoreError as error:
            terms.report(error, exchange.source)
            stored = False
    own, left = won == raw, False
    if stored and own and before is not None and terms.replaced is not None:
        # A cassette leaves an answer as it is that says the same.
        left = refresh and (yield from _read(exchange.key)) == before
        if not left:
            terms.replaced(exchange, before)
    try:
        if not own:
            entry = terms.guard.unseal(exchange.key, won)
        value = exchange.load(entry)
        if left and before is not None:
            entry = terms.guard.unseal(exchange.key, before)  # which runs find there
    except AliasedError:  # approved just now: whoever waits for this answer looks once more
        return Reply(Outcome.MISS, result), FAILED if absent.stays else AGAIN
    except CodecError as error:
        terms.report(error, exchange.source)
        return Reply(Outcome.MISS, result), FAILED
    if not stored:
        return Reply(Outcome.MISS, value, own=own, unkept=entry), Landing(won)
    return Reply(Outcome.MISS, value, entry, own), Landing(won)


def fetch(
    exchange: Exchange[R], terms: Terms, seen: Absent | None = None, join: Board | None = None
) -> Flow[Reply[R]]:
    """The one flow of a cached call. Upstream's errors pass through.

    It looks, unless the caller has just ``seen`` that nothing is there; else it joins the flight of
    the same request; else it leads one: calls, keeps, lands. A leader that fails lets every caller
    who waited go upstream at once; one that is cancelled leaves its place to one of them. Who has
    waited for as long as he may goes upstream by himself.

    With ``join``, which gives a `Reader`, the response stays open: who joins waits for its head and
    reads along. The call is told what is absent and the leader's reader, and gives what can be kept
    at once, or None. The reply of what stays open is ``opened``; its value is a follower's reader.
    """
    ask = _ask if join is None else _open
    until: float | None = None
    while True:
        found = (yield from look(exchange, terms)) if seen is None else seen
        if found.alias and isinstance(found, Absent):  # of those who look for several at once
            found = yield from follow_alias(exchange, found, terms)
        if isinstance(found, Reply):
            return found
        seen = None
        boarded = (join or board)(terms.place, exchange.key) if terms.single_flight else None
        if boarded is None:
            break
        shared: Any
        shared, leads = boarded
        if leads:
            landing = AGAIN
            try:
                reply, landing = yield from _lead(exchange, shared, terms, ask, found, until)
                return reply
            except Exception:
                landing = FAILED
                raise
            finally:
                shared.land(landing)
        until = until or _wait_until(exchange, terms)
        flight = shared if join is None else shared.flight
        wait = Wait(flight, until - clock.now(), terms.stopped_seconds)
        landing = yield from wait if join is None else _follow(shared, wait)
        if landing.again:
            continue
        if landing.opened:
            return Reply(Outcome.JOINED, shared, opened=True)
        if landing.raw is not None and (joined := joined_in(exchange, landing.raw, terms)):
            return joined
        if landing.late:
            _log_late(exchange)
        break
    reply, _ = yield from ask(exchange, None, found, terms)
    return reply


def _wait_until(exchange: Exchange[R], terms: Terms) -> float:
    """When a caller who begins to wait for others now has waited for as long as he may."""
    own, most = exchange.patience(), terms.wait_seconds
    return clock.now() + (most if own is None else min(own, most))


def _log_late(exchange: Exchange[R]) -> None:
    log.info("%s: asked upstream, as another caller's answer took too long", exchange.source)


def _follow(reader: Reader, wait: Wait) -> Flow[Landing]:
    """Wait for an open response. Who is not to read it has left."""
    landing: Landing = yield from _leaving(reader, wait)
    if landing.opened and not reader.begin():
        landing = AGAIN
    if not landing.opened:
        yield Leave(reader)
    return landing


def _leaving(reader: Reader, effect: Effect[T]) -> Flow[T]:
    """What an effect gives; whom an error meets meanwhile, or a cancellation, leaves."""
    try:
        result: T = yield effect
    except GeneratorExit:
        reader.drop()
        raise
    except BaseException:
        yield Leave(reader)
        raise
    return result


def _ask(
    exchange: Exchange[R],
    flight: Flight | None,
    absent: Absent,
    terms: Terms,
    lease: Lease | None = None,
) -> Flow[tuple[Reply[R], Landing]]:
    if log.isEnabledFor(logging.DEBUG):
        yield from _log_miss(exchange, terms)
    call, started = Call(flight), time.perf_counter()
    result: R = yield call
    seconds = (time.perf_counter() - started) / call.among
    return (yield from _keep(exchange, result, seconds, absent, terms, lease))


def _open(
    exchange: Exchange[R],
    reader: Reader | None,
    absent: Absent,
    terms: Terms,
    lease: OpenLease | None = None,
) -> Flow[tuple[Reply[R], Landing]]:
    """`_ask` for a response that stays open, unless it came whole."""
    started = time.perf_counter()
    result: Any
    if lease is not None:
        held = lease if lease.held else None
        absent = Absent(absent.stale, absent.why, held, stays=absent.stays)
    if reader is None:
        result = yield Call(None, (absent, None))
    else:
        result = yield from _leaving(reader, Call(reader.flight, (absent, reader)))
    if result is None:
        return _OPENED, FAILED
    if lease is not None:
        lease.over = True
    return (yield from keep(exchange, result, time.perf_counter() - started, absent, terms))


def _lead(
    exchange: Exchange[R],
    shared: Any,
    terms: Terms,
    ask: Callable[..., Flow[tuple[Reply[R], Landing]]],
    seen: Absent,
    until: float | None,
) -> Flow[tuple[Reply[R], Landing]]:
    """Ask upstream for everybody in this process, and under a lease for everybody elsewhere."""
    is_open = ask is _open
    if terms.lease_seconds is None or (is_open and not terms.stream_leases):
        # Between the look and the boarding another flight of this key may have landed.
        found = yield from look(exchange, terms, seen)
        if isinstance(found, Reply):
            return found, AGAIN
        return (yield from ask(exchange, shared, found, terms))
    name, before = exchange.key, seen.stale
    if terms.mode == "refresh":
        # Those who refresh wait for each other alone, and until something else is stored.
        name = refresh_name(exchange.key)
        try:
            before = yield from Lookup(exchange.key)
        except StoreError as error:
            terms.report(error, exchange.source)
            return (yield from ask(exchange, shared, ABSENT, terms))
    lease: Lease
    paired = terms.pairs and name is exchange.key
    if is_open:
        host: Any = Pulse(shared.flight.host)
        lease = OpenLease(name, new_token(), paired, give_up=terms.give_up, pulse=host)
    else:
        host, lease = shared.host, Lease(name, new_token(), paired)
    failed = False
    try:
        flight = shared.flight if is_open else shared
        since = yield from _claim(exchange, lease, before, terms, host, flight, until)
        if not isinstance(since, Absent):
            return since
        asked = yield from ask(exchange, shared, since, terms, lease)
        failed = asked[0].opened  # unless it has the lease now, nothing of it can be stored
        return asked
    except GeneratorExit:
        if lease.held and not lease.opened:
            terms.give_up(name, lease.token)
            lease.held = False
        raise
    except Exception:
        failed = True
        raise
    finally:
        if lease.held and not lease.opened:
            yield from _give_back(exchange, lease, terms, failed)


def _claim(
    exchange: Exchange[R],
    lease: Lease,
    before: bytes | None,
    terms: Terms,
    host: Any,
    flight: Flight,
    until: float | None,
) -> Flow[tuple[Reply[R], Landing] | Absent]:
    """Take the lease, or wait until its owner's answer is there, or until he failed or is gone.

    The result is what came since the call began.
    """
    pause, outcome = _FIRST_PAUSE, Outcome.HIT
    assert terms.lease_seconds is not None
    acquire = Acquire(exchange.key, lease, terms.lease_seconds, terms.wait_seconds, host)
    while True:
        seen: Seen
        try:
            claim, seen = yield acquire
        except StoreError as error:
            terms.report(error, exchange.source)
            claim, seen = Claim.FAILED, (yield from _read(exchange.key))
        lease.held = claim is Claim.TAKEN
        since: tuple[Reply[R], Landing] | Absent = ABSENT
        if seen is not None:
            since = found_since(exchange, seen, before, terms, outcome)
            if isinstance(since, Absent) and since.alias:
                led = yield from follow_alias(exchange, since, terms)
                since = led if isinstance(led, Absent) else (led, AGAIN)
        if claim is not Claim.HELD or not isinstance(since, Absent):
            return since
        until = until or _wait_until(exchange, terms)
        left = until - clock.now()
        if left <= 0:
            _log_late(exchange)
            return since
        yield Sleep(min(pause, left), flight)
        pause, outcome = min(pause * 1.5, _LONGEST_PAUSE), Outcome.JOINED


def _read(key: str) -> Flow[Seen]:
    try:
        return (yield from Lookup(key))
    except StoreError as error:
        return error
