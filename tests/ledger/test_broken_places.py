"""Places that cannot be written: they cost the record of a run, and never a call."""

from __future__ import annotations

import errno
import threading
import time
import warnings
from collections.abc import Sequence

import pytest

from cachewrap import Cache, CacheWarning, StoreError
from cachewrap.ledger import recording
from cachewrap.stores.memory import MemoryStore
from cachewrap.testing.servers import redis_server
from ledger import asking


class Broken(MemoryStore):
    """A store whose logs cannot be written for a while."""

    error: Exception | None = StoreError("no space is left")
    logs_last = True

    def append_to_log(self, name: str, pieces: Sequence[bytes]) -> None:
        if self.error is not None:
            raise self.error
        super().append_to_log(name, pieces)


ERRORS = [
    StoreError("no space is left"),
    OSError(errno.ENOSPC, "No space left on device"),
    RuntimeError("a fault of a store of others"),
]


def asked(count: int) -> None:
    """So many calls, each of which is answered."""
    for number in range(count):
        assert asking.complete(f"{number}") == f"{number}!"


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", ["trial", ""], ids=["named", "unnamed"])
def test_calls_go_on(error: Exception, name: str) -> None:
    store = Broken()
    store.error = error
    cache = Cache(store)
    name = name and type(error).__name__  # each is told once
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(3):
            with cache.run(name) if name else cache:
                asked(5)
            recording.flush()
    assert cache.stats.errors == 0
    assert (cache.stats.hits, cache.stats.misses) == (10, 5)
    assert [one.category for one in told] == [CacheWarning] * bool(name)


def test_what_could_not_be_written_is_written_later() -> None:
    store = Broken()
    cache = Cache(store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with cache.run("trial"):
            asked(5)
            recording.flush()
            store.error = None
            asked(5)
    (run,) = cache.runs()
    assert len(run.calls()) == 10


def test_what_waits_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is lost is counted, and what is not is as it was."""
    monkeypatch.setattr(recording, "_WAITING", 10)
    monkeypatch.setattr(recording, "_AT_ONCE", 1)
    monkeypatch.setattr(recording, "_AGAIN", -1.0)
    store = Broken()
    cache = Cache(store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with cache.run("trial"):
            for _ in range(3):
                asked(5)
                recording.flush()
            store.error = None
    (run,) = cache.runs()
    assert (len(run.calls()), run.lost) == (10, 5)
    told = {(call.source, call.lane) for call in run.calls()}
    assert told == {("ledger.asking:complete", threading.current_thread().name)}


def test_a_block_that_ends_meanwhile_is_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_AGAIN", -1.0)
    store = Broken()
    cache = Cache(store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with cache.run("trial") as run:
            asked(5)
        assert list(run.calls()) == []
    store.error = None
    (kept,) = cache.runs()
    assert [len(one.calls()) for one in (kept, run)] == [5, 5]
    assert (kept.state, run.state, len(kept.processes)) == ("ended", "ended", 1)


def test_what_waits_is_let_go_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_AGAIN", -1.0)
    monkeypatch.setattr(recording, "_PATIENCE", -1.0)
    cache = Cache(Broken())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with cache.run("trial") as run:
            asked(5)
        run.calls()
    until = time.monotonic() + 30.0  # the thread that writes looks once more
    while [one for one in recording._all() if one.store is cache.store]:
        assert time.monotonic() < until
        time.sleep(0.05)


class Unheard(Broken):
    """A store that adds to a log, and then fails to say so."""

    def append_to_log(self, name: str, pieces: Sequence[bytes]) -> None:
        MemoryStore.append_to_log(self, name, pieces)
        super().append_to_log(name, pieces)


def test_what_was_written_unheard_is_there_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_AGAIN", -1.0)
    store = Unheard()
    cache = Cache(store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with cache.run("trial"):
            asked(5)
            recording.flush()
            store.error = None
    (run,) = cache.runs()
    assert (len(run.calls()), len(run.processes), run.state) == (5, 1, "ended")


@pytest.mark.stores("redis")
@pytest.mark.parametrize("name", ["trial", ""], ids=["named", "unnamed"])
def test_a_server_that_is_gone(name: str) -> None:
    with redis_server() as server:
        cache = Cache.redis(redis_url=server.url, store_seconds=0.2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with cache.run(name) if name else cache:
                asked(5)
                server.stop()
                began = time.monotonic()
                asked(5)
        assert time.monotonic() - began < 5
        recording.finish()
        cache.close()
