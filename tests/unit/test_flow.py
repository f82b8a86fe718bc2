"""The flow's decisions, driven by hand: what it asks for, and what each answer leads to."""

from __future__ import annotations

import time

import pytest

from cachewrap import codec
from cachewrap.entry import Entry, Facts, Outcome
from cachewrap.envelope import seal
from cachewrap.errors import (
    CachewrapError,
    CorruptEntryError,
    MissingTypeError,
    StoreError,
    UnsupportedTypeError,
)
from cachewrap.flow import Call, Effect, Flow, Lookup, Reply, Save, Terms, fetch

KEY = "ab" * 32


def sealed(value: object, expires: float = 0.0) -> bytes:
    facts = Facts(created=1.0, seconds=2.0, expires=expires)
    return seal(*codec.encode(value), b"", facts)


class TextExchange:
    """Stores text; refuses to store where told, and fails to read where told."""

    key = KEY
    source = "tests:complete"
    asked = b"\x80"

    def __init__(self, *, store: bool = True, unreadable: tuple[str, ...] = ()) -> None:
        self.store = store
        self.unreadable = unreadable

    def load(self, entry: Entry) -> str:
        value = codec.decode(entry.kind, entry.answer)
        assert isinstance(value, str)
        if value in self.unreadable:
            raise MissingTypeError(value)
        return value

    def dump(self, result: str, seconds: float) -> tuple[bytes, float] | None:
        if result == "unsupported":
            raise UnsupportedTypeError(result)
        return (sealed(result), 0.0) if self.store else None


class Drive:
    """One flow, and what it reported."""

    def __init__(self, exchange: TextExchange | None = None) -> None:
        self.reports: list[CachewrapError] = []
        terms = Terms(
            place="here",
            report=lambda error, source: self.reports.append(error),
            single_flight=False,
        )
        self.flow: Flow[Reply[str]] = fetch(exchange or TextExchange(), terms)
        self.first: Effect[object] = next(self.flow)

    def send(self, value: object) -> Effect[object]:
        return self.flow.send(value)

    def throw(self, error: BaseException) -> Effect[object]:
        return self.flow.throw(error)

    def end(self, step: object, value: object) -> Reply[str]:
        with pytest.raises(StopIteration) as stop:
            step(value)  # type: ignore[operator]
        reply = stop.value.value
        assert isinstance(reply, Reply)
        return reply


def test_looks_up_the_key_first() -> None:
    assert Drive().first == Lookup(KEY)


def test_a_stored_answer_ends_the_flow_as_a_hit() -> None:
    drive = Drive()
    reply = drive.end(drive.send, sealed("stored"))
    assert (reply.outcome, reply.value) == (Outcome.HIT, "stored")
    assert reply.entry is not None and reply.entry.seconds == 2.0


def test_an_absent_answer_leads_upstream() -> None:
    assert Drive().send(None) == Call()


def test_what_upstream_answers_is_added() -> None:
    drive = Drive()
    drive.send(None)
    effect = drive.send("answer")
    assert effect == Save(KEY, sealed("answer"), 0.0, None)


def test_a_miss_returns_its_own_answer_where_it_was_added() -> None:
    drive = Drive()
    drive.send(None)
    save = drive.send("answer")
    assert isinstance(save, Save)
    reply = drive.end(drive.send, save.value)
    assert (reply.outcome, reply.value, reply.own) == (Outcome.MISS, "answer", True)


def test_a_miss_returns_the_answer_that_was_there_first() -> None:
    drive = Drive()
    drive.send(None)
    drive.send("answer")
    reply = drive.end(drive.send, sealed("earlier"))
    assert (reply.outcome, reply.value, reply.own) == (Outcome.MISS, "earlier", False)


def test_upstreams_error_passes_through_and_nothing_is_saved() -> None:
    drive = Drive()
    drive.send(None)
    with pytest.raises(ZeroDivisionError):
        drive.throw(ZeroDivisionError())
    assert drive.reports == []


def test_a_store_that_cannot_be_read_is_reported_and_counts_as_absent() -> None:
    drive = Drive()
    error = StoreError("down")
    assert drive.throw(error) == Call()
    assert drive.reports == [error]


def test_a_store_that_cannot_be_written_is_reported_and_the_answer_returned() -> None:
    drive = Drive()
    drive.send(None)
    drive.send("answer")
    error = StoreError("full")
    reply = drive.end(drive.throw, error)
    assert (reply.value, reply.entry, drive.reports) == ("answer", None, [error])


def test_a_damaged_entry_is_reported_and_replaced() -> None:
    drive = Drive()
    damaged = sealed("stored")[:-1]
    assert drive.send(damaged) == Call()
    assert drive.send("answer") == Save(KEY, sealed("answer"), 0.0, damaged)
    assert [type(report) for report in drive.reports] == [CorruptEntryError]


def test_an_expired_entry_is_replaced_without_a_word() -> None:
    drive = Drive()
    expired = sealed("old", expires=time.time() - 1)
    assert drive.send(expired) == Call()
    assert drive.send("answer") == Save(KEY, sealed("answer"), 0.0, expired)
    assert drive.reports == []


def test_an_entry_that_expires_later_is_a_hit() -> None:
    drive = Drive()
    reply = drive.end(drive.send, sealed("fresh", expires=time.time() + 60))
    assert reply.outcome is Outcome.HIT


def test_an_entry_of_a_type_that_is_missing_here_is_not_replaced() -> None:
    drive = Drive(TextExchange(unreadable=("foreign",)))
    assert drive.send(sealed("foreign")) == Call()
    assert drive.send("answer") == Save(KEY, sealed("answer"), 0.0, None)


def test_a_winner_that_cannot_be_read_gives_way_to_the_callers_own_answer() -> None:
    drive = Drive(TextExchange(unreadable=("foreign",)))
    drive.send(None)
    drive.send("answer")
    reply = drive.end(drive.send, sealed("foreign"))
    assert (reply.value, reply.entry) == ("answer", None)
    assert [type(report) for report in drive.reports] == [MissingTypeError]


def test_an_answer_that_is_not_wanted_is_returned_and_not_saved() -> None:
    drive = Drive(TextExchange(store=False))
    drive.send(None)
    reply = drive.end(drive.send, "answer")
    assert (reply.value, reply.entry, drive.reports) == ("answer", None, [])


def test_an_answer_that_no_codec_takes_is_reported_and_returned() -> None:
    drive = Drive()
    drive.send(None)
    reply = drive.end(drive.send, "unsupported")
    assert (reply.value, reply.entry) == ("unsupported", None)
    assert [type(report) for report in drive.reports] == [UnsupportedTypeError]
