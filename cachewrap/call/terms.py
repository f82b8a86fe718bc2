"""The terms of a flow: the exchange that it is given, its cache's terms, the reply it gives."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, TypeAlias, TypeVar

from cachewrap.call.flight import AGAIN, Landing
from cachewrap.call.lease import OpenLease
from cachewrap.entry import By, Declared, Entry, Facts, Kind, Outcome
from cachewrap.errors import (
    CachewrapError,
    CodecError,
    CorruptEntryError,
    MissingTypeError,
    StoreError,
    UnsupportedTypeError,
)
from cachewrap.format import codec
from cachewrap.format.aliases import Alias, AliasedError, unpacked
from cachewrap.format.codec import decode
from cachewrap.format.envelope import sealed, unseal
from cachewrap.format.sealing import UNSEALED, Guard, admit
from cachewrap.format.sizes import SMALL, SURE
from cachewrap.policy import Mode, Policy
from cachewrap.request.key import decode_request, encode, key_of, salted, stored
from cachewrap.telemetry.events import warn_once
from cachewrap.telemetry.usage import NO_USAGE, Usage

R = TypeVar("R")
F = TypeVar("F", bound=CachewrapError)

_TEXT: Final = Kind.TEXT
_VALUE: Final = Kind.VALUE

VALUES: Final = (_TEXT, _VALUE)
"""The kinds of entries that hold what a function returned."""

ITEMS: Final = (Kind.ITEMS,)
"""The kinds of entries that hold what a generator yielded."""

_HELD: Final = {
    Kind.TEXT: "a value",
    Kind.VALUE: "a value",
    Kind.HTTP: "an HTTP answer",
    Kind.ITEMS: "the items of a generator",
    Kind.ALIAS: "an alias",
}


def wrong_kind(entry: Entry, *wanted: Kind) -> CorruptEntryError:
    """The error for an entry of another kind than is asked for; of an alias it says of what."""
    if entry.kind is Kind.ALIAS:
        return AliasedError(entry.answer)
    return CorruptEntryError(f"it holds {_HELD[entry.kind]} in place of {_HELD[wanted[0]]}")


class Exchange(Generic[R]):
    """One request, and how its result becomes an entry and an entry its result.

    A kind of request says what it is called and asked, and how a result of it is packed.

    Attributes:
        key: the key of the request.
        kinds: the kinds of entries that hold an answer to it.
        sample: which sample of its request it is; not set where it is the first.
        begun: what watches it from its beginning; not set where nobody does.
        by: the rules of equality that changed it.
        element: whether it is one element of a list that is asked element by element.
    """

    __slots__ = ("begun", "sample")

    sample: int
    begun: Any

    key: str
    kinds: tuple[Kind, ...] = VALUES
    by: By = ()
    element: bool = False

    @property
    def source(self) -> str:
        """What is called, for messages: a function's name or an endpoint."""
        raise NotImplementedError

    @property
    def model(self) -> str | None:
        """The model that is asked, for counting; None where only the answer tells."""
        return None

    @property
    def asked(self) -> bytes:
        """The canonical request, encoded."""
        raise NotImplementedError

    @property
    def policy(self) -> Policy:
        """Of the cache that serves the request, as this one call has it."""
        raise NotImplementedError

    def patience(self) -> float | None:
        """How many seconds the caller waits for an answer, as he says himself; None if he does not.

        It is asked where somebody else's answer is waited for.
        """
        return None

    def load(self, entry: Entry) -> R:
        """The result that the entry holds.

        Raises `CodecError` if it cannot be read, or is of another kind than `kinds`.
        """
        if entry.kind not in self.kinds:
            raise wrong_kind(entry, *self.kinds)
        return codec.decode(entry.kind, entry.answer)  # type: ignore[no-any-return]

    def pack(self, result: R) -> tuple[Kind, bytes, Usage] | None:
        """The result, encoded, and what it reports; None where it is not to be stored.

        Raises `UnsupportedTypeError` where no codec takes it.
        """
        raise NotImplementedError

    def compared(self) -> bytes:
        """The canonical request as it is compared with those that are stored, encoded."""
        if self.policy.scrub is None:
            return self.asked
        from cachewrap.call.scrub import scrubbed_request

        return scrubbed_request(self.policy.scrub, self.asked)

    def why_unstored(self, result: R) -> str:
        """Why `pack` gave None for a result, in a few words, for counting."""
        return "when"

    def dump(self, result: R, seconds: float) -> tuple[bytes, Entry] | None:
        """The result's envelope and what is in it, or None where it is not to be stored.

        Raises as `pack` does. ``seconds`` is how long upstream took.
        """
        packed = self.pack(result)
        if packed is None:
            return None
        kind, answer, usage = packed
        policy, now, model = self.policy, time.time(), usage.model
        asked = stored(self.asked) if policy.store_requests else b""
        if policy.scrub is not None:
            from cachewrap.call.scrub import scrubbed, scrubbed_text

            answer, asked = scrubbed(policy.scrub, kind, answer, asked)
            model = scrubbed_text(policy.scrub, model)
        if len(answer) > SMALL or policy.types is not None or policy.max_entry_bytes < SURE:
            try:
                admit(kind, answer, policy.max_entry_bytes, policy.types)
            except CorruptEntryError as error:
                raise UnsupportedTypeError(str(error)) from None
        rules, declared = policy.same, None
        if rules is not None or self.element:
            by = self.by
            if policy.scrub is not None or not policy.store_requests:
                # What was taken out is short: whoever has its digest could try what it was.
                by = tuple((rule, b"") for rule, _ in by)
            declared = Declared("" if rules is None else rules.digest, by, self.element)
        facts = Facts(
            created=now,
            seconds=seconds,
            expires=policy.expires(now),
            source=self.source,
            model=model,
            tokens_in=usage.tokens_in,
            tokens_out=usage.tokens_out,
            details=usage.details,
            declared=declared,
        )
        try:
            return sealed(kind, answer, asked, facts)
        except UnicodeEncodeError:  # half a surrogate in the name of the model
            model = model.encode(errors="replace").decode()
            return sealed(kind, answer, asked, replace(facts, model=model))


class ValueExchange(Exchange[Any]):
    """A request in canonical form, whose answer is any value that the codec takes.

    Args:
        policy: of the cache that serves it.
        source: what is called.
        asked: the canonical request, encoded.
        key: its key, where that does not follow from the other two.
        usage: reads model and tokens from an answer.
    """

    __slots__ = ("_usage", "asked", "by", "key", "policy", "source")

    policy: Policy
    source: str
    asked: bytes

    def __init__(
        self,
        policy: Policy,
        source: str,
        asked: bytes,
        key: str = "",
        usage: Callable[[Any], Usage] = lambda answer: NO_USAGE,
    ) -> None:
        self.policy = policy  # pyright: ignore[reportIncompatibleMethodOverride]
        self.source = source  # pyright: ignore[reportIncompatibleMethodOverride]
        self.asked = asked  # pyright: ignore[reportIncompatibleMethodOverride]
        if policy.same is None or key:
            self.key, self.by = key or key_of(salted(source), asked), ()
        else:
            counted, self.by = policy.same.apply(decode_request(asked))
            self.key = key_of(policy.same.prefix(source), encode(counted))
        self._usage = usage

    def pack(self, result: Any) -> tuple[Kind, bytes, Usage]:
        kind, answer = codec.encode(result)
        try:
            return kind, answer, self._usage(result)
        except Exception:  # an answer of another form than is known: it counts no tokens
            return kind, answer, NO_USAGE


Report: TypeAlias = Callable[[CachewrapError, str], None]
"""Told of every fault that a call survives, with the source of the call."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms that all calls of one cache share.

    Args:
        place: the partition, as its store's URL, apart for each mode.
        report: told of every fault that a call survives.
        mode: what is done with a call, see `CacheOptions`; ``"off"`` never comes here.
        single_flight: whether callers of one request at one time share one upstream call.
        lease_seconds: how long a lease may outlive its last renewal; None where the store is
            reached by this process alone.
        wait_seconds: how long a caller waits for the answers of others at most.
        stopped_seconds: how long the event loop of a call may be stopped, while others wait for it.
        give_up: releases a lease, given its key and token, where the flow cannot any more.
        guard: stands between envelopes and the store.
        refused: told of every call that mode replay refuses, since nothing is stored.
        replaced: told of a call, and of what was stored for it before its answer was.
        pairs: whether the store takes two steps of a miss at once, see `Pairs`.
        stream_leases: whether a response that stays open is asked for under a lease too.
        compares: whether a miss that is logged says what is nearest to it: a walk through all
            entries, that is made for one of a list.
    """

    place: str
    report: Report
    mode: Mode = "normal"
    single_flight: bool = True
    lease_seconds: float | None = None
    wait_seconds: float = 600.0
    stopped_seconds: float = 10.0
    give_up: Callable[[str, str], None] = lambda key, token: None
    guard: Guard = UNSEALED
    refused: Callable[[], None] = lambda: None
    replaced: Callable[[Exchange[Any], bytes], None] | None = None
    pairs: bool = False
    stream_leases: bool = False
    compares: bool = True


@dataclass(slots=True)
class Reply(Generic[R]):
    """The reply to a call.

    Args:
        outcome: hit, miss, joined or bypassed.
        value: the result.
        entry: the entry it was read from; None where nothing is stored.
        own: on a miss, whether the stored answer is this call's own (False: an earlier one won).
        opened: whether it is a response that stays open, of which nothing can be said yet.
        reason: on a miss, why its answer is none to be stored; else "".
        unkept: on a miss, what would be its entry where it could not be stored, or was not to be.
        by: of an answer to another request, the rules that made the two equal.
        alias: the key of the entry that an alias led to; "" for a request's own.
    """

    outcome: Outcome
    value: R
    entry: Entry | None = None
    own: bool = False
    opened: bool = False
    reason: str = ""
    unkept: Entry | None = None
    by: tuple[str, ...] = ()
    alias: str = ""


@dataclass(slots=True)
class Absent:
    """The absence of anything to serve under the key.

    Args:
        stale: the bytes that a new entry may replace.
        why: in mode replay, what kept the entry from being served.
        lease: under which an open response is asked for; it is given back when that is kept.
        alias: what is stored there instead, of which it is not known yet where it leads: whoever
            reads its target asks `found_by`.
        stays: whether an alias is there that leads to what cannot be read now, and stays.
    """

    stale: bytes | None = None
    why: CachewrapError | None = None
    lease: OpenLease | None = field(default=None, compare=False)
    alias: Alias | None = None
    stays: bool = field(default=False, compare=False)


ABSENT: Final = Absent()
"""The absence of anything at all."""

Seen: TypeAlias = bytes | StoreError | None
"""What a store gave for a key: its bytes, None, or the fault that it raised."""


def frameless(fault: F) -> F:
    """The fault, and what led to it, without the frames that they passed.

    A caller who holds it would be held by it, with all callers of his and what they hold, until a
    collection. What the caller is handling himself keeps its frames.
    """
    outside = sys.exception()
    ahead: list[BaseException | None] = [fault]
    while ahead:
        error = ahead.pop()
        if error is not None and error is not outside and error.__traceback__ is not None:
            error.__traceback__ = None
            ahead += (error.__cause__, error.__context__)
    return fault


def peek(
    key: str,
    raw: bytes,
    guard: Guard,
    load: Callable[[Entry], Any] | None = None,
    late: bool = False,
) -> tuple[Any, Entry] | None:
    """The result that a store's bytes hold, and its entry; None where it is no longer fresh.

    Args:
        key: under which they are stored.
        raw: the bytes.
        guard: opens the entry.
        load: makes the result of an entry; None decodes the value in it, which it must hold.
        late: whether what has expired is served.

    Raises `CodecError` for an entry that cannot be read, which is told to nobody.
    """
    try:
        entry = unseal(raw) if guard is UNSEALED else guard.unseal(key, raw)
        if entry.expires and not late and not entry.fresh(time.time()):
            return None
        if load is not None:
            return load(entry), entry
        kind, answer = entry.kind, entry.answer
        if kind is _TEXT:
            return answer.decode(), entry
        if kind is not _VALUE:
            raise wrong_kind(entry, *VALUES)
        return decode(kind, answer), entry
    except (UnicodeDecodeError, MemoryError, RecursionError) as error:
        raise CorruptEntryError(f"the answer cannot be read: {error!r}") from error


def found_in(exchange: Exchange[R], seen: Seen, terms: Terms) -> Reply[R] | Absent:
    """What a store gave comes to. A store or an entry that cannot be read is reported, and absent.

    In mode replay what has expired is served.
    """
    if seen is None:
        return ABSENT
    stale: bytes | None = None
    wrong: CachewrapError
    if isinstance(seen, StoreError):
        wrong = seen
    else:
        key, guard, load = exchange.key, terms.guard, exchange.load
        try:
            found = peek(key, seen, guard, load)
            if found is None and serves_expired(exchange, terms):
                found = peek(key, seen, guard, load, late=True)
            return Absent(seen) if found is None else Reply(Outcome.HIT, *found)
        except AliasedError as there:
            try:
                return Absent(seen, alias=unpacked(there.answer))
            except CorruptEntryError as error:
                wrong, stale = error, seen
        except CodecError as error:
            wrong = error
            stale = None if isinstance(error, MissingTypeError) else seen
    terms.report(wrong, exchange.source)
    frameless(wrong)
    return Absent(stale, wrong if terms.mode == "replay" else None)


def joined_in(exchange: Exchange[R], raw: bytes, terms: Terms) -> Reply[R] | None:
    """The answer of another caller; None where it cannot be read, which is reported."""
    try:
        found = peek(exchange.key, raw, terms.guard, exchange.load, late=True)
    except AliasedError:  # approved just now
        return None
    except CodecError as error:
        terms.report(error, exchange.source)
        return None
    return None if found is None else Reply(Outcome.JOINED, *found)


def found_since(
    exchange: Exchange[R],
    seen: bytes | StoreError,
    before: bytes | None,
    terms: Terms,
    outcome: Outcome,
) -> tuple[Reply[R], Landing] | Absent:
    """What came since the call began: is not what was there ``before``, and did not serve."""
    if seen == before:
        return Absent(before)
    if terms.mode != "refresh" or isinstance(seen, StoreError):
        found = found_in(exchange, seen, terms)
        if not isinstance(found, Reply):
            return found
        found.outcome = outcome
        return found, AGAIN
    joined = joined_in(exchange, seen, terms)
    return ABSENT if joined is None else (joined, Landing(seen))


def serves_expired(exchange: Exchange[R], terms: Terms) -> bool:
    """Whether what has expired is served, of which a warning tells once: in mode replay."""
    if terms.mode != "replay":
        return False
    warn_once(
        ("expired", exchange.source, terms.place),
        f"{exchange.source}: mode replay serves an answer that has expired",
    )
    return True
