"""Streams under leases, by every library: however one ends, its lease is free then."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from standin import Upstream

from cachewrap import Cache
from cachewrap.call import lease
from cachewrap.stores.base import Claim
from cachewrap.stores.disk import DiskStore
from http_libraries.web import LOOPBACK, STREAM, Reading, Web


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(DiskStore(tmp_path / "cache"), stream_leases=True, lease_seconds=60.0)


class Seen:
    """The lease that another process would meet.

    Attributes:
        key: of the stream under way; "" before there is one.
        amid: what he gets while it is read.
    """

    def __init__(self, store: Any) -> None:
        self.store = store
        self.key = ""
        self.amid: Claim | None = None

    def look(self) -> None:
        """Look while a stream is read."""
        (held,) = [one for one in lease._open.values() if one.held]
        self.key = held.key
        self.amid = self.claim()

    def claim(self) -> Claim:
        """What he gets."""
        claim: Claim = self.store.acquire(self.key, "another-1", 60.0)
        if claim is Claim.TAKEN:
            self.store.release(self.key, "another-1")
        return claim

    def becomes(self, wanted: Claim) -> bool:
        """Whether he gets that soon."""
        end = time.monotonic() + 10.0
        while (claim := self.claim()) is Claim.HELD and time.monotonic() < end:
            time.sleep(0.001)
        return claim is wanted


@pytest.mark.parametrize(
    ("manner", "until", "after", "stored"),
    [
        pytest.param({}, None, Claim.TAKEN, 1, id="read-whole"),
        pytest.param({"gzip": True}, None, Claim.TAKEN, 1, id="read-whole-gzip"),
        pytest.param({"gap": 0.01}, b"data", Claim.TAKEN, 0, id="left"),
        pytest.param({"cut_after": 3}, None, Claim.FAILED, 0, id="cut"),
        pytest.param({"error_after": 3}, None, Claim.FAILED, 0, id="an-error-in-it"),
    ],
)
def test_it_is_free_then(
    web: Web,
    up: Upstream,
    cache: Cache,
    manner: dict[str, Any],
    until: bytes | None,
    after: Claim,
    stored: int,
) -> None:
    seen = Seen(cache.store)
    gate = threading.Event()
    up.once(pause=gate, pause_after=2, **manner)

    def look() -> None:
        seen.look()
        gate.set()

    with web.patch(cache, hosts=LOOPBACK):
        if "cut_after" in manner:
            with pytest.raises(web.broken):
                web.ask(STREAM, reading=Reading(then=look))
        else:
            web.ask(STREAM, reading=Reading(then=look, until=until))
    assert seen.amid is Claim.HELD
    assert seen.becomes(after)
    assert (cache.stats.stored, up.calls) == (stored, 1)


def test_what_is_refused_gives_it_back(web: Web, up: Upstream, cache: Cache) -> None:
    up.once(status=500)
    with web.patch(cache, hosts=LOOPBACK):
        assert web.ask(STREAM, reading=Reading()).status == 500
        assert not [one for one in lease._open.values() if one.held]
        assert web.ask(STREAM, reading=Reading()).status == 200
    assert cache.stats.stored == 1


def test_many_at_once_are_one(web: Web, up: Upstream, cache: Cache) -> None:
    up.behave(delay=0.05, gap=0.001)
    with web.patch(cache, hosts=LOOPBACK):
        bodies = web.at_once(8, STREAM)
    assert (len(set(bodies)), up.calls, cache.stats.stored) == (1, 1, 1)
    assert not [one for one in lease._open.values() if one.held]
