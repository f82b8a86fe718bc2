"""Aliases on the way of a call: what one leads to, or what is there as if there were none."""

from __future__ import annotations

from typing import Any, TypeVar

from cachewrap.call.terms import (
    Absent,
    Exchange,
    Reply,
    Seen,
    Terms,
    frameless,
    peek,
    serves_expired,
)
from cachewrap.entry import Entry, Outcome, same_source
from cachewrap.errors import CachewrapError, CodecError, CorruptEntryError, StoreError
from cachewrap.format.aliases import AliasedError
from cachewrap.format.sealing import answer_under
from cachewrap.request.key import is_streamed

R = TypeVar("R")


def found_by(exchange: Exchange[R], absent: Absent, seen: Seen, terms: Terms) -> Reply[R] | Absent:
    """What an alias comes to, of whose target the store gave something.

    The answer there must be of the same function or endpoint, and one that this request could have
    had itself; where the target has an alias by now, it is what was stored there before. Where
    there is none, all is as if there were no alias: what was stored before it is found, if that
    serves, and a new answer may replace both.
    """
    assert absent.alias is not None
    target, held, stale = absent.alias.target, absent.alias.kept, absent.stale
    wrong: CachewrapError | None = None
    try:
        if isinstance(seen, StoreError):
            raise seen
        found = None
        if seen is not None:
            try:
                found = _peeked(exchange, target, seen, terms)
            except AliasedError:
                own, _ = answer_under(target, seen, terms.guard)
                found = _peeked(exchange, target, own, terms)
        if found is not None:
            _check_led(exchange, found[1])
            return Reply(Outcome.HIT, *found, alias=target)
    except (CodecError, StoreError) as error:
        wrong = error
        stale = stale if isinstance(error, CorruptEntryError) else None
    if wrong is not None:
        terms.report(wrong, exchange.source)
        frameless(wrong)
    if held:
        try:
            kept = terms.guard.close(exchange.key, held)
            if (found := _peeked(exchange, exchange.key, kept, terms)) is not None:
                return Reply(Outcome.HIT, *found)
        except CodecError as error:
            terms.report(error, exchange.source)
            wrong = wrong or frameless(error)
    if wrong is None:
        gone = "has expired" if seen is not None else "is no longer stored"
        wrong = CorruptEntryError(f"it is an alias of {target[:12]}…, which {gone}")
    return Absent(stale, wrong if terms.mode == "replay" else None, stays=stale is None)


def _check_led(exchange: Exchange[Any], entry: Entry) -> None:
    """Raise `CorruptEntryError` where the answer that an alias leads to is of another form."""
    record = entry.read_record()
    if not same_source(record["source"], exchange.source):
        raise CorruptEntryError(f"an alias leads to an answer of {record['source']}")
    streams = getattr(exchange, "stream", None)
    if streams is not None and record["request"] and streams != is_streamed(record["request"]):
        raise CorruptEntryError(f"an alias leads to {'no' if streams else 'a'} stream")


def _peeked(exchange: Exchange[R], key: str, raw: bytes, terms: Terms) -> tuple[R, Entry] | None:
    """`peek`; in mode replay also of what has expired."""
    found = peek(key, raw, terms.guard, exchange.load)
    if found is None and serves_expired(exchange, terms):
        found = peek(key, raw, terms.guard, exchange.load, late=True)
    return found
