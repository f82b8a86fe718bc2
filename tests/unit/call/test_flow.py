"""The flow's decisions, driven by hand: what it asks for, and what each answer leads to."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cachewrap.call.flight import AGAIN, FAILED, LATE, OPENED, Flight, Landing, _flights, board
from cachewrap.call.flow import (
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
    fetch,
    keep,
)
from cachewrap.call.lease import Pulse
from cachewrap.call.terms import Absent, Exchange, Reply, Terms, wrong_kind
from cachewrap.entry import Entry, Facts, Kind, Outcome
from cachewrap.errors import (
    CacheWarning,
    CachewrapError,
    CorruptEntryError,
    MissingTypeError,
    ReplayMissError,
    StoreError,
    UnsupportedTypeError,
)
from cachewrap.format import codec
from cachewrap.format.aliases import Alias
from cachewrap.format.envelope import seal, unseal
from cachewrap.policy import Policy
from cachewrap.request.key import encode, refresh_name
from cachewrap.stores.base import Claim
from cachewrap.stores.memory import MemoryStore

KEY = "ab" * 32


def sealed(value: object, expires: float = 0.0) -> bytes:
    facts = Facts(created=1.0, seconds=2.0, expires=expires)
    return seal(*codec.encode(value), b"", facts)


class TextExchange(Exchange[str]):
    """Stores text; refuses to store where told, and fails to read where told."""

    key = KEY
    source = "tests:complete"
    asked = encode({"arguments": {"prompt": "hi"}})
    policy = Policy()

    def __init__(
        self,
        *,
        store: bool = True,
        unreadable: tuple[str, ...] = (),
        ttl: float = 0.0,
        patience: float | None = None,
    ) -> None:
        self.store = store
        self.ttl = ttl
        self.unreadable = unreadable
        self.timeout = patience

    def patience(self) -> float | None:
        return self.timeout

    def load(self, entry: Entry) -> str:
        value = codec.decode(entry.kind, entry.answer)
        assert isinstance(value, str)
        if value in self.unreadable:
            raise MissingTypeError(value)
        return value

    def dump(self, result: str, seconds: float) -> tuple[bytes, Entry] | None:
        if result == "unsupported":
            raise UnsupportedTypeError(result)
        entry = unseal(sealed(result, time.time() + self.ttl if self.ttl else 0.0))
        return (sealed(result), entry) if self.store else None


class Drive:
    """One flow, and what it reported."""

    def __init__(
        self,
        exchange: TextExchange | None = None,
        join: Callable[[str, str], tuple[Any, bool] | None] | None = None,
        **terms: Any,
    ) -> None:
        self.reports: list[CachewrapError] = []
        terms = {"single_flight": False, **terms}
        agreed = Terms(
            place="here", report=lambda error, source: self.reports.append(error), **terms
        )
        self.flow: Flow[Reply[str]] = fetch(exchange or TextExchange(), agreed, join=join)
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


class LedExchange(TextExchange):
    """`TextExchange` of a key that may have an alias."""

    def load(self, entry: Entry) -> str:
        if entry.kind is Kind.ALIAS:
            raise wrong_kind(entry, Kind.TEXT)
        return super().load(entry)


@pytest.mark.parametrize("meanwhile", [False, True], ids=["before", "meanwhile"])
def test_followers_go_upstream_at_once_where_an_alias_leads_to_what_cannot_be_read(
    meanwhile: bool,
) -> None:
    """Where it was approved meanwhile they look at where it leads."""
    target = "cd" * 32
    facts = Facts(1.0, 2.0, source="tests:complete")
    alias = seal(Kind.ALIAS, Alias(target).packed(), b"", facts)
    drive = Drive(LedExchange(unreadable=("there",)), single_flight=True)
    for _ in range(2):  # once more behind the boarding
        if meanwhile:
            effect = drive.send(None)
        else:
            assert drive.send(alias) == Lookup(target)
            effect = drive.send(sealed("there"))
    assert isinstance(effect, Call)
    boarded = board("here", KEY)
    assert boarded is not None
    flight, leads = boarded
    assert not leads
    assert isinstance(drive.send("answer"), Save)
    assert drive.end(drive.send, alias).value == "answer"
    assert flight.landing is (AGAIN if meanwhile else FAILED)


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


# -- modes ---------------------------------------------------------------------------------------


def test_replay_serves_what_is_stored() -> None:
    drive = Drive(mode="replay")
    assert drive.end(drive.send, sealed("stored")).outcome is Outcome.HIT


def test_replay_serves_what_has_expired_with_a_warning() -> None:
    drive = Drive(mode="replay")
    expired = sealed("old", expires=time.time() - 1)
    with pytest.warns(CacheWarning, match="expired"):
        assert drive.end(drive.send, expired).value == "old"


def test_replay_searches_for_the_nearest_request_and_raises() -> None:
    drive = Drive(mode="replay")
    search = drive.send(None)
    assert isinstance(search, Search)
    store = MemoryStore()
    facts = Facts(created=1.0, seconds=2.0, source=TextExchange.source)
    request = encode({"arguments": {"prompt": "ho"}})
    store.set("cd" * 32, seal(*codec.encode("near"), request, facts))
    with pytest.raises(ReplayMissError) as raised:
        drive.send(search.search(store))
    assert (raised.value.key, raised.value.source) == (KEY, TextExchange.source)
    assert raised.value.nearest == {"arguments": {"prompt": "ho"}}
    assert raised.value.diff == ("prompt: 'ho' → 'hi'",)


@pytest.mark.parametrize(
    "step", [lambda d: d.throw(StoreError("down")), lambda d: d.send(b"damaged")]
)
def test_replay_raises_where_the_store_or_the_entry_cannot_be_read(step: Any) -> None:
    drive = Drive(mode="replay")
    search = step(drive)
    with pytest.raises(ReplayMissError) as raised:
        drive.send(search.search(MemoryStore()))
    assert [raised.value.__cause__] == drive.reports


def test_refresh_calls_without_a_look_and_replaces() -> None:
    drive = Drive(mode="refresh")
    assert drive.first == Call()
    save = drive.send("answer")
    assert save == Save(KEY, sealed("answer"), 0.0, None, replace=True)
    assert drive.end(drive.send, sealed("answer")).own is True


def test_read_only_saves_nothing() -> None:
    drive = Drive(mode="read_only")
    assert drive.send(None) == Call()
    reply = drive.end(drive.send, "answer")
    assert (reply.outcome, reply.value, reply.entry) == (Outcome.MISS, "answer", None)


def test_what_expires_stays_in_the_store_for_a_day_more() -> None:
    drive = Drive(TextExchange(ttl=60.0))
    drive.send(None)
    save = drive.send("answer")
    assert isinstance(save, Save)
    assert save.expires == pytest.approx(time.time() + 60 + 86400, abs=5)


def test_what_is_fresh_for_long_stays_for_as_long_again() -> None:
    drive = Drive(TextExchange(ttl=1e6))
    drive.send(None)
    save = drive.send("answer")
    assert isinstance(save, Save)
    assert save.expires == pytest.approx(time.time() + 2e6, abs=5)


class TestUnderALease:
    """A lease comes with a look, and goes with the answer."""

    @pytest.fixture
    def drive(self) -> Drive:
        drive = Drive(single_flight=True, lease_seconds=10.0)
        assert drive.first == Lookup(KEY)
        return drive

    def begun(self, drive: Drive, *given: tuple[Claim, object]) -> Effect[object]:
        effect = drive.send(None)
        for one in given:
            assert isinstance(effect, Acquire)
            assert (effect.key, effect.lease.key) == (KEY, KEY)
            effect = drive.send(one)
        return effect

    def saved(self, drive: Drive, given_back: bool = True) -> Save:
        save = drive.send("answer")
        assert isinstance(save, Save)
        assert save.lease is not None
        assert save.lease.held is True
        save.lease.held = not given_back
        return save

    def test_a_miss_is_three_steps(self, drive: Drive) -> None:
        assert isinstance(self.begun(drive, (Claim.TAKEN, None)), Call)
        save = self.saved(drive)
        assert save == Save(KEY, sealed("answer"), 0.0, None)
        reply = drive.end(drive.send, save.value)
        assert (reply.outcome, reply.value, reply.own) == (Outcome.MISS, "answer", True)

    def test_the_answer_that_was_there_first_wins(self, drive: Drive) -> None:
        self.begun(drive, (Claim.TAKEN, None))
        self.saved(drive)
        reply = drive.end(drive.send, sealed("earlier"))
        assert (reply.value, reply.own) == ("earlier", False)

    def test_what_came_meanwhile_is_a_hit_and_the_lease_given_back(self, drive: Drive) -> None:
        release = self.begun(drive, (Claim.TAKEN, sealed("stored")))
        assert isinstance(release, Release)
        assert release.failed is False
        assert drive.end(drive.send, None).outcome is Outcome.HIT

    @pytest.mark.parametrize("claim", [Claim.HELD, Claim.TAKEN])
    def test_who_waited_has_joined(self, drive: Drive, claim: Claim) -> None:
        assert isinstance(self.begun(drive, (Claim.HELD, None)), Sleep)
        assert isinstance(drive.send(None), Acquire)
        if claim is Claim.TAKEN:
            assert isinstance(drive.send((claim, sealed("stored"))), Release)
            reply = drive.end(drive.send, None)
        else:
            reply = drive.end(drive.send, (claim, sealed("stored")))
        assert (reply.outcome, reply.value) == (Outcome.JOINED, "stored")

    def test_who_is_told_of_a_failure_asks_without_a_lease(self, drive: Drive) -> None:
        assert isinstance(self.begun(drive, (Claim.FAILED, None)), Call)
        save = drive.send("answer")
        assert isinstance(save, Save)
        assert save.lease is not None
        assert save.lease.held is False
        drive.end(drive.send, sealed("answer"))

    def test_a_lease_that_stayed_is_given_back_by_itself(self, drive: Drive) -> None:
        self.begun(drive, (Claim.TAKEN, None))
        save = self.saved(drive, given_back=False)
        assert isinstance(drive.send(save.value), Release)
        error = StoreError("no scripts")
        assert drive.end(drive.throw, error).value == "answer"
        assert drive.reports == [error]

    def test_what_cannot_be_saved_gives_the_lease_back(self, drive: Drive) -> None:
        self.begun(drive, (Claim.TAKEN, None))
        self.saved(drive, given_back=False)
        error = StoreError("full")
        release = drive.throw(error)
        assert isinstance(release, Release)
        assert release.failed is False
        reply = drive.end(drive.send, None)
        assert (reply.value, reply.entry, drive.reports) == ("answer", None, [error])

    def test_a_call_that_fails_gives_the_lease_back_as_failed(self, drive: Drive) -> None:
        self.begun(drive, (Claim.TAKEN, None))
        release = drive.throw(ZeroDivisionError())
        assert isinstance(release, Release)
        assert release.failed is True
        with pytest.raises(ZeroDivisionError):
            drive.send(None)

    def test_a_flow_that_is_dropped_gives_the_lease_up(self) -> None:
        given_up: list[str] = []
        drive = Drive(
            single_flight=True,
            lease_seconds=10.0,
            give_up=lambda key, token: given_up.append(key),
        )
        self.begun(drive, (Claim.TAKEN, None))
        drive.flow.close()
        assert given_up == [KEY]

    def test_a_store_that_gives_none_is_reported_and_looked_at_again(self, drive: Drive) -> None:
        drive.send(None)
        error = StoreError("down")
        assert drive.throw(error) == Lookup(KEY)
        assert isinstance(drive.send(None), Call)
        assert drive.reports == [error]
        drive.flow.close()

    def test_one_that_cannot_be_read_then_is_reported(self, drive: Drive) -> None:
        error = StoreError("down")
        assert isinstance(self.begun(drive, (Claim.TAKEN, error)), Call)
        assert drive.reports == [error]
        drive.flow.close()

    def test_what_did_not_serve_is_replaced(self, drive: Drive) -> None:
        damaged = sealed("stored")[:-1]
        assert isinstance(drive.send(damaged), Acquire)
        assert isinstance(drive.send((Claim.TAKEN, damaged)), Call)
        assert self.saved(drive).over == damaged
        assert len(drive.reports) == 1
        drive.flow.close()

    def test_who_may_wait_no_longer_asks_without_a_lease(self) -> None:
        drive = Drive(single_flight=True, lease_seconds=10.0, wait_seconds=0.0)
        assert isinstance(self.begun(drive, (Claim.HELD, None)), Call)
        drive.flow.close()

    @pytest.mark.parametrize("pairs", [False, True])
    @pytest.mark.parametrize("mode", ["normal", "refresh"])
    def test_a_lease_of_the_key_itself_may_be_paired(self, pairs: bool, mode: str) -> None:
        drive = Drive(mode=mode, single_flight=True, lease_seconds=10.0, pairs=pairs)
        acquire = drive.send(None)
        assert isinstance(acquire, Acquire)
        assert acquire.lease.paired is (pairs and mode == "normal")
        drive.flow.close()


class TestRefreshingUnderALease:
    """A refresh waits for another host's refresh, and for nothing else that may be stored."""

    @pytest.fixture
    def drive(self) -> Drive:
        return Drive(mode="refresh", single_flight=True, lease_seconds=10.0)

    def test_notes_what_is_there_and_takes_a_lease_of_its_own(self, drive: Drive) -> None:
        assert drive.first == Lookup(KEY)
        acquire = drive.send(sealed("old"))
        assert isinstance(acquire, Acquire)
        assert acquire.lease.key == refresh_name(KEY) != KEY
        drive.flow.close()

    def test_the_owner_calls_where_nothing_else_came(self, drive: Drive) -> None:
        drive.send(sealed("old"))
        assert isinstance(drive.send((Claim.TAKEN, sealed("old"))), Call)
        save = drive.send("new")
        assert isinstance(save, Save)
        assert save.replace is True
        assert isinstance(drive.send(sealed("new")), Release)
        assert drive.end(drive.send, None).outcome is Outcome.MISS

    def test_who_waits_is_given_what_the_owner_has_stored(self, drive: Drive) -> None:
        drive.send(sealed("old"))
        assert isinstance(drive.send((Claim.HELD, sealed("old"))), Sleep)
        assert isinstance(drive.send(None), Acquire)
        reply = drive.end(drive.send, (Claim.HELD, sealed("new")))
        assert (reply.outcome, reply.value) == (Outcome.JOINED, "new")

    def test_who_takes_the_lease_after_the_owner_is_given_it_as_well(self, drive: Drive) -> None:
        drive.send(sealed("old"))
        assert isinstance(drive.send((Claim.TAKEN, sealed("new"))), Release)
        reply = drive.end(drive.send, None)
        assert (reply.outcome, reply.value) == (Outcome.JOINED, "new")

    def test_a_store_that_cannot_be_read_is_reported_and_not_waited_for(self, drive: Drive) -> None:
        error = StoreError("down")
        assert isinstance(drive.throw(error), Call)
        assert drive.reports == [error]
        drive.flow.close()


class OpenReader:
    """A caller's place in an open response; notes what the flow does to it."""

    def __init__(self, fails: bool = False) -> None:
        self.flight = Flight(("here", KEY))
        self.fails = fails
        self.notes: list[object] = []

    def land(self, landing: Landing) -> None:
        self.notes.append(landing)

    def begin(self) -> bool:
        self.notes.append("begin")
        return not self.fails

    def drop(self) -> None:
        self.notes.append("drop")

    def close(self) -> None:
        raise AssertionError("a driver closes, on Leave")

    async def aclose(self) -> None:
        raise AssertionError("a driver closes, on Leave")


class TestOpenResponses:
    """The leader is told what is absent and where others read; they wait for the head alone."""

    @pytest.fixture
    def reader(self) -> OpenReader:
        return OpenReader()

    def drive(self, *joined: tuple[OpenReader, bool] | None, **terms: Any) -> Drive:
        boarding = iter(joined)
        drive = Drive(join=lambda place, key: next(boarding), **{"single_flight": True, **terms})
        assert drive.first == Lookup(KEY)
        return drive

    def test_a_stored_answer_is_a_hit_before_anybody_joins(self) -> None:
        drive = self.drive()
        reply = drive.end(drive.send, sealed("stored"))
        assert (reply.outcome, reply.value, reply.opened) == (Outcome.HIT, "stored", False)

    def test_who_may_not_share_goes_upstream_alone(self) -> None:
        drive = self.drive(None)
        assert drive.send(None) == Call(None, (Absent(), None))
        reply = drive.end(drive.send, None)
        assert (reply.outcome, reply.opened) == (Outcome.MISS, True)

    def test_without_single_flight_nobody_joins(self) -> None:
        drive = self.drive(single_flight=False)
        assert drive.send(None) == Call(None, (Absent(), None))

    def test_the_leader_looks_again_and_calls(self, reader: OpenReader) -> None:
        drive = self.drive((reader, True))
        assert drive.send(None) == Lookup(KEY)
        assert drive.send(b"damaged") == Call(reader.flight, (Absent(b"damaged"), reader))
        reply = drive.end(drive.send, None)
        assert (reply.outcome, reply.opened, reader.notes) == (Outcome.MISS, True, [FAILED])

    def test_a_leader_who_finds_it_stored_lets_the_others_look(self, reader: OpenReader) -> None:
        drive = self.drive((reader, True))
        drive.send(None)
        assert drive.end(drive.send, sealed("stored")).outcome is Outcome.HIT
        assert reader.notes == [AGAIN]

    def test_no_lease_is_waited_for(self, reader: OpenReader) -> None:
        drive = self.drive((reader, True), lease_seconds=10.0)
        assert drive.send(None) == Lookup(KEY)
        assert isinstance(drive.send(None), Call)

    def test_what_came_whole_is_kept_and_answers_everybody(self, reader: OpenReader) -> None:
        drive = self.drive((reader, True))
        drive.send(None)
        drive.send(None)
        save = drive.send("answer")
        assert save == Save(KEY, sealed("answer"), 0.0, None)
        reply = drive.end(drive.send, sealed("answer"))
        assert (reply.value, reply.own, reply.opened) == ("answer", True, False)
        assert reader.notes == [Landing(sealed("answer"))]

    @pytest.mark.parametrize(
        ("error", "landing"), [(OSError("cut"), FAILED), (KeyboardInterrupt(), AGAIN)]
    )
    def test_a_leader_that_fails_leaves_and_lands(
        self, reader: OpenReader, error: BaseException, landing: Landing
    ) -> None:
        drive = self.drive((reader, True))
        drive.send(None)
        drive.send(None)
        assert drive.throw(error) == Leave(reader)
        assert reader.notes == []
        with pytest.raises(type(error)):
            drive.send(None)
        assert reader.notes == [landing]

    def test_a_leader_that_is_destroyed_waits_for_nothing(self, reader: OpenReader) -> None:
        drive = self.drive((reader, True))
        drive.send(None)
        drive.send(None)
        drive.flow.close()
        assert reader.notes == ["drop", AGAIN]

    def test_who_joins_waits_for_the_head_and_reads(self, reader: OpenReader) -> None:
        drive = self.drive((reader, False))
        assert drive.send(None) == Wait(reader.flight)
        reply = drive.end(drive.send, OPENED)
        assert (reply.outcome, reply.value, reply.opened) == (Outcome.JOINED, reader, True)
        assert reader.notes == ["begin"]

    def test_who_would_join_what_has_failed_asks_anew(self) -> None:
        failing, other = OpenReader(fails=True), OpenReader()
        drive = self.drive((failing, False), (other, True))
        drive.send(None)
        assert drive.send(OPENED) == Leave(failing)
        assert drive.send(None) == Lookup(KEY)
        drive.send(None)
        assert drive.send(None) == Call(other.flight, (Absent(), other))

    def test_where_the_leader_fails_a_follower_goes_alone(self, reader: OpenReader) -> None:
        drive = self.drive((reader, False))
        drive.send(None)
        assert drive.send(FAILED) == Leave(reader)
        assert drive.send(None) == Call(None, (Absent(), None))

    def test_where_the_leader_was_cancelled_a_follower_looks_and_leads(self) -> None:
        reader, own = OpenReader(), OpenReader()
        drive = self.drive((reader, False), (own, True))
        drive.send(None)
        assert drive.send(AGAIN) == Leave(reader)
        assert drive.send(None) == Lookup(KEY)
        assert drive.send(None) == Lookup(KEY)
        assert drive.send(None) == Call(own.flight, (Absent(), own))

    def test_what_came_whole_is_given_to_who_waited(self, reader: OpenReader) -> None:
        drive = self.drive((reader, False))
        drive.send(None)
        assert drive.send(Landing(sealed("answer"))) == Leave(reader)
        reply = drive.end(drive.send, None)
        assert (reply.outcome, reply.value, reply.opened) == (Outcome.JOINED, "answer", False)

    def test_who_is_interrupted_while_he_waits_leaves(self, reader: OpenReader) -> None:
        drive = self.drive((reader, False))
        drive.send(None)
        assert drive.throw(KeyboardInterrupt()) == Leave(reader)
        with pytest.raises(KeyboardInterrupt):
            drive.send(None)


class TestOpenResponsesUnderALease:
    """With ``stream_leases`` the leader of an open response has a lease, which goes with that."""

    @pytest.fixture
    def reader(self) -> OpenReader:
        return OpenReader()

    @pytest.fixture
    def given_up(self) -> list[str]:
        return []

    @pytest.fixture
    def drive(self, reader: OpenReader, given_up: list[str]) -> Drive:
        return self.driven(reader, given_up)

    def driven(self, reader: OpenReader, given_up: list[str], **terms: Any) -> Drive:
        return Drive(
            join=lambda place, key: (reader, True),
            give_up=lambda key, token: given_up.append(key),
            **{"single_flight": True, "lease_seconds": 10.0, "stream_leases": True, **terms},
        )

    def led(self, drive: Drive, claim: Claim = Claim.TAKEN) -> Call:
        acquire = drive.send(None)
        assert isinstance(acquire, Acquire)
        assert (acquire.key, acquire.lease.key) == (KEY, KEY)
        call = drive.send((claim, None))
        assert isinstance(call, Call)
        return call

    def opened(self, drive: Drive) -> Absent:
        """What the leader of a response that has come was told."""
        absent, _ = self.led(drive).given
        assert isinstance(absent, Absent)
        assert absent.lease is not None
        absent.lease.opened = True
        reply = drive.end(drive.send, None)
        assert (reply.outcome, reply.opened) == (Outcome.MISS, True)
        return absent

    def test_without_a_lease_of_the_store_it_is_as_ever(self, reader: OpenReader) -> None:
        drive = self.driven(reader, [], lease_seconds=None)
        assert drive.send(None) == Lookup(KEY)
        assert drive.send(None) == Call(reader.flight, (Absent(), reader))

    def test_the_leader_takes_it_and_looks_behind_it(
        self, drive: Drive, reader: OpenReader
    ) -> None:
        call = self.led(drive)
        assert call == Call(reader.flight, (Absent(), reader))
        assert call.given[0].lease.held is True
        drive.flow.close()

    def test_what_came_meanwhile_is_a_hit_and_it_is_given_back(
        self, drive: Drive, reader: OpenReader
    ) -> None:
        drive.send(None)
        release = drive.send((Claim.TAKEN, sealed("stored")))
        assert isinstance(release, Release)
        assert release.failed is False
        assert drive.end(drive.send, None).outcome is Outcome.HIT
        assert reader.notes == [AGAIN]

    def test_who_meets_that_of_another_process_waits_for_the_answer(
        self, drive: Drive, reader: OpenReader
    ) -> None:
        drive.send(None)
        assert isinstance(drive.send((Claim.HELD, None)), Sleep)
        assert isinstance(drive.send(None), Acquire)
        reply = drive.end(drive.send, (Claim.HELD, sealed("stored")))
        assert (reply.outcome, reply.value, reply.opened) == (Outcome.JOINED, "stored", False)
        assert reader.notes == [AGAIN]

    @pytest.mark.parametrize("claim", [Claim.FAILED, Claim.HELD])
    def test_who_gets_none_asks_without(self, reader: OpenReader, claim: Claim) -> None:
        drive = self.driven(reader, [], wait_seconds=0.0)
        call = self.led(drive, claim)
        assert call.given[0].lease is None
        assert drive.end(drive.send, None).opened is True

    def test_what_stays_open_keeps_it(self, drive: Drive, given_up: list[str]) -> None:
        absent = self.opened(drive)
        assert absent.lease is not None
        assert (absent.lease.held, given_up) == (True, [])

    def test_what_nobody_took_gives_it_back_as_failed(self, drive: Drive) -> None:
        self.led(drive)
        release = drive.send(None)  # a status that is none to keep, for one
        assert isinstance(release, Release)
        assert release.failed is True
        assert drive.end(drive.send, None).opened is True

    @pytest.mark.parametrize(
        ("error", "failed"), [(OSError("cut"), True), (KeyboardInterrupt(), False)]
    )
    def test_a_leader_that_fails_gives_it_back_before_others_go_on(
        self, drive: Drive, reader: OpenReader, error: BaseException, failed: bool
    ) -> None:
        self.led(drive)
        assert drive.throw(error) == Leave(reader)
        release = drive.send(None)
        assert isinstance(release, Release)
        assert release.failed is failed
        assert reader.notes == []
        with pytest.raises(type(error)):
            drive.send(None)
        assert reader.notes == [AGAIN if not failed else FAILED]

    def test_a_leader_that_is_cancelled_while_he_waits_has_none(
        self, drive: Drive, reader: OpenReader, given_up: list[str]
    ) -> None:
        drive.send(None)
        drive.send((Claim.HELD, None))
        with pytest.raises(KeyboardInterrupt):
            drive.throw(KeyboardInterrupt())
        assert (reader.notes, given_up) == ([AGAIN], [])

    def test_a_leader_that_is_destroyed_gives_it_up(
        self, drive: Drive, reader: OpenReader, given_up: list[str]
    ) -> None:
        self.led(drive)
        drive.flow.close()
        assert (reader.notes, given_up) == (["drop", AGAIN], [KEY])

    def test_one_that_is_destroyed_behind_the_head_leaves_it_to_the_response(
        self, drive: Drive, given_up: list[str]
    ) -> None:
        absent, _ = self.led(drive).given
        absent.lease.opened = True
        drive.flow.close()
        assert (absent.lease.held, given_up) == (True, [])

    def test_a_response_that_vanishes_gives_it_up(self, drive: Drive, given_up: list[str]) -> None:
        absent: Absent | None = self.opened(drive)
        assert given_up == []
        del absent
        gc.collect()  # what `pytest.raises` has caught
        assert given_up == [KEY]

    def test_what_came_whole_is_saved_with_it(self, drive: Drive, reader: OpenReader) -> None:
        self.led(drive)
        save = drive.send("answer")
        assert isinstance(save, Save)
        assert save.lease is not None
        save.lease.held = False
        reply = drive.end(drive.send, save.value)
        assert (reply.value, reply.own, reply.opened) == ("answer", True, False)
        assert reader.notes == [Landing(sealed("answer"))]

    def test_what_came_whole_and_is_none_to_keep_gives_it_back_as_failed(
        self, drive: Drive
    ) -> None:
        self.led(drive)
        release = drive.send("unsupported")
        assert isinstance(release, Release)
        assert release.failed is True
        drive.end(drive.send, None)

    def test_what_was_read_is_saved_with_it(self, drive: Drive) -> None:
        kept = Keeping(self.opened(drive))
        assert isinstance(kept.first, Save)
        assert kept.first.lease is not None
        kept.first.lease.held = False
        reply = kept.end(kept.flow.send, kept.first.value)
        assert (reply.value, reply.own) == ("answer", True)

    def test_one_that_stayed_is_given_back_by_itself(self, drive: Drive) -> None:
        kept = Keeping(self.opened(drive))
        assert isinstance(kept.first, Save)
        release = kept.flow.send(kept.first.value)
        assert isinstance(release, Release)
        assert (release.key, release.failed) == (KEY, False)
        assert kept.end(kept.flow.send, None).own is True

    @pytest.mark.parametrize("over", [True, False])
    def test_what_is_not_stored_gives_it_back(self, drive: Drive, over: bool) -> None:
        absent = self.opened(drive)
        assert absent.lease is not None
        absent.lease.over = over
        kept = Keeping(absent, store=False)
        assert isinstance(kept.first, Release)
        assert kept.first.failed is over
        error = StoreError("down")
        assert kept.end(kept.flow.throw, error).value == "answer"
        assert kept.reports == [error]

    def test_what_cannot_be_saved_gives_it_back(self, drive: Drive) -> None:
        kept = Keeping(self.opened(drive))
        release = kept.flow.throw(StoreError("full"))
        assert isinstance(release, Release)
        assert release.failed is False
        assert kept.end(kept.flow.send, None).entry is None

    def test_an_error_on_the_way_gives_it_back(self, drive: Drive) -> None:
        kept = Keeping(self.opened(drive))
        release = kept.flow.throw(ZeroDivisionError())
        assert isinstance(release, Release)
        assert release.failed is True
        with pytest.raises(ZeroDivisionError):
            kept.flow.send(None)

    def test_one_that_is_destroyed_while_it_is_saved_gives_it_up(
        self, drive: Drive, given_up: list[str]
    ) -> None:
        kept = Keeping(self.opened(drive))
        kept.flow.close()
        assert given_up == [KEY]

    def test_a_refresh_has_one_of_its_own(self, reader: OpenReader) -> None:
        drive = self.driven(reader, [], mode="refresh", pairs=True)
        assert drive.first == Lookup(KEY)
        acquire = drive.send(sealed("old"))
        assert isinstance(acquire, Acquire)
        assert (acquire.lease.key, acquire.lease.paired) == (refresh_name(KEY), False)
        call = drive.send((Claim.TAKEN, sealed("old")))
        assert isinstance(call, Call)
        call.given[0].lease.opened = True
        drive.end(drive.send, None)
        kept = Keeping(call.given[0], mode="refresh")
        assert isinstance(kept.first, Save)
        assert kept.first.replace is True
        assert isinstance(kept.flow.send(kept.first.value), Release)

    def test_it_is_renewed_while_its_event_loop_runs(self, drive: Drive) -> None:
        acquire = drive.send(None)
        assert isinstance(acquire, Acquire)
        assert (acquire.seconds, acquire.most) == (10.0, 600.0)
        assert isinstance(acquire.host, Pulse)
        assert acquire.host.is_running() is True
        drive.flow.close()


class Keeping(Drive):
    """The keeping of an open response that was read."""

    def __init__(self, absent: Absent, *, store: bool = True, mode: Any = "normal") -> None:
        self.reports: list[CachewrapError] = []
        terms = Terms("here", lambda error, source: self.reports.append(error), mode)
        kept = keep(TextExchange(store=store), "answer", 1.0, absent, terms)
        self.flow = self._replied(kept)
        self.first = next(self.flow)

    def _replied(self, kept: Flow[tuple[Reply[str], Landing]]) -> Flow[Reply[str]]:
        reply, _ = yield from kept
        return reply


class TestHowLongOneWaits:
    """A caller waits for others as long as the cache and he himself allow; then he goes alone."""

    @pytest.fixture(autouse=True)
    def no_flight_is_left(self) -> Iterator[None]:
        """Flows that are left half-way keep theirs until they are collected."""
        _flights.clear()
        yield
        _flights.clear()

    @pytest.fixture
    def led(self) -> Iterator[Flight]:
        """The flight of the request, led by somebody else."""
        flight, leads = board("here", KEY) or (None, False)
        assert flight is not None and leads
        yield flight
        flight.land(AGAIN)

    def drive(self, patience: float | None = None, **terms: Any) -> Drive:
        return Drive(TextExchange(patience=patience), **{"single_flight": True, **terms})

    @pytest.mark.parametrize(
        ("patience", "expected"),
        [
            pytest.param(None, 30.0, id="the-cache's"),
            pytest.param(2.0, 2.0, id="his-own"),
            pytest.param(90.0, 30.0, id="his-own-is-longer"),
            pytest.param(0.0, 0.0, id="none-at-all"),
        ],
    )
    def test_it_is_the_shorter_of_two_times(
        self, led: Flight, patience: float | None, expected: float
    ) -> None:
        wait = self.drive(patience, wait_seconds=30.0, stopped_seconds=3.0).send(None)
        assert isinstance(wait, Wait)
        assert (wait.flight, wait.stopped_seconds) == (led, 3.0)
        assert expected - 1 < wait.seconds <= expected

    def test_who_is_late_goes_upstream_alone_and_stores_as_usual(self, led: Flight) -> None:
        drive = self.drive()
        assert drive.send(None) == Wait(led)
        assert drive.send(LATE) == Call()
        assert drive.send("answer") == Save(KEY, sealed("answer"), 0.0, None)
        assert drive.end(drive.send, sealed("earlier")).value == "earlier"

    def test_who_waits_twice_waits_no_longer(self, led: Flight) -> None:
        drive = self.drive(wait_seconds=0.0)
        drive.send(None)
        assert drive.send(AGAIN) == Lookup(KEY)
        again = drive.send(None)
        assert isinstance(again, Wait)
        assert again.seconds <= 0.0

    def test_one_who_waits_for_an_open_response_leaves_it(self) -> None:
        reader = OpenReader()
        drive = self.drive(2.0, join=lambda place, key: (reader, False))
        wait = drive.send(None)
        assert isinstance(wait, Wait)
        assert 1.0 < wait.seconds <= 2.0
        assert drive.send(LATE) == Leave(reader)
        assert drive.send(None) == Call(None, (Absent(), None))

    def test_a_lease_that_is_held_too_long_is_waited_for_no_more(self) -> None:
        drive = self.drive(lease_seconds=10.0, wait_seconds=0.03)
        effect, pauses, began = drive.send(None), [], time.monotonic()
        while isinstance(effect, Acquire):
            effect = drive.send((Claim.HELD, None))
            if isinstance(effect, Sleep):
                pauses.append(effect.seconds)
                time.sleep(effect.seconds)
                effect = drive.send(None)
        assert isinstance(effect, Call)
        assert 0 < sum(pauses) <= 0.03
        assert time.monotonic() - began < 1.0
        save = drive.send("answer")
        assert isinstance(save, Save)
        drive.end(drive.send, save.value)  # what was not taken is not given back

    def test_it_is_told_in_the_log(self, led: Flight, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", "cachewrap")
        drive = self.drive()
        drive.send(None)
        drive.send(LATE)
        told = "tests:complete: asked upstream, as another caller's answer took too long"
        assert told in caplog.messages
        drive.flow.close()

    def acquire(self) -> Acquire:
        drive = self.drive(lease_seconds=10.0, wait_seconds=30.0)
        acquire = drive.send(None)
        assert isinstance(acquire, Acquire)
        drive.flow.close()
        return acquire

    def test_a_lease_is_renewed_for_as_long_as_others_wait(self) -> None:
        acquire = self.acquire()
        assert (acquire.seconds, acquire.most, acquire.host) == (10.0, 30.0, None)

    def test_a_lease_is_renewed_while_its_event_loop_runs(self) -> None:
        async def acquire() -> bool:
            return self.acquire().host is asyncio.get_running_loop()

        assert asyncio.run(acquire())
