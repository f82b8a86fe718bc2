"""The segments of a store: which store has which, and what is done for one that has none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ledger.making import ended, write_run

from cachewrap import Cache, llm_cached
from cachewrap.cli import places
from cachewrap.cli.main import main
from cachewrap.ledger.runs import runs_of
from cachewrap.stores.base import Claim, Leases, Logs, Store, scan
from cachewrap.stores.breaker import Watched, unwatched
from cachewrap.stores.disk import DiskStore, leases
from cachewrap.stores.memory import MemoryStore
from cachewrap.testing.stores import StoreSuite, key_of
from cachewrap.testing.stores.segments import SEGMENTS


class MinimalStore(Store):
    """A store that does what every store must, and nothing more."""

    def __init__(self, seed: str = "41", inner: MemoryStore | None = None) -> None:
        self._inner = (inner or MemoryStore()).reseed(seed)
        self._seed = seed

    def __reduce__(self) -> tuple[type[MinimalStore], tuple[str]]:
        return MinimalStore, (self._seed,)

    @property
    def url(self) -> str:
        return self._inner.url.replace("memory:", "minimal:")

    def reseed(self, seed: str) -> MinimalStore:
        return MinimalStore(seed, self._inner)

    def get(self, key: str) -> bytes | None:
        return self._inner.get(key)

    def add(
        self, key: str, value: bytes, *, expires: float = 0.0, over: bytes | None = None
    ) -> bytes:
        return self._inner.add(key, value, expires=expires, over=over)

    def set(self, key: str, value: bytes, *, expires: float = 0.0) -> None:
        self._inner.set(key, value, expires=expires)

    def delete(self, key: str) -> bool:
        return self._inner.delete(key)

    def keys(self) -> Iterator[str]:
        return self._inner.keys()

    def clear(self) -> int:
        return self._inner.clear()

    def close(self) -> None:
        self._inner.close()


class LeasedStore(MinimalStore):
    """A store whose leases are those of another one."""

    def __init__(self, other: Leases) -> None:
        super().__init__()
        for name in vars(Leases):
            if not name.startswith("_"):
                setattr(self, name, getattr(other, name))


class LoggingStore(MinimalStore):
    """A store whose logs are those of another one."""

    def __init__(self, other: Logs) -> None:
        super().__init__()
        for name in vars(Logs):
            if not name.startswith("_"):
                setattr(self, name, getattr(other, name))


class TestMinimalStore(StoreSuite):
    persistent = False
    drops_expired = False

    @pytest.fixture
    def store(self) -> Store:
        return MinimalStore()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        pytest.param("memory", "Scans Logs", marks=pytest.mark.stores("memory")),
        pytest.param(
            "disk",
            "Leases Scans Seeds Uses Logs Checks"
            if leases.SUPPORTED
            else "Scans Seeds Uses Logs Checks",
            marks=pytest.mark.stores("disk"),
        ),
        pytest.param(
            "redis", "Leases Pairs Many Scans Seeds Uses Logs", marks=pytest.mark.stores("redis")
        ),
        pytest.param("jsonl", "Scans Seeds Logs Checks", marks=pytest.mark.stores("jsonl")),
    ],
)
def test_what_each_store_has(make_store: Callable[[str], Store], kind: str, expected: str) -> None:
    store = make_store(kind)
    has = [segment.__name__ for segment in SEGMENTS if isinstance(store, segment)]
    assert has == expected.split()


@pytest.mark.parametrize("segment", SEGMENTS)
def test_a_store_may_have_none(segment: type) -> None:
    assert not isinstance(MinimalStore(), segment)


class TestWithoutScans:
    def test_each_entry_is_read_by_itself(self) -> None:
        store = MinimalStore()
        for number in range(3):
            store.set(key_of(number), b"%d" % number)
        assert dict(scan(store)) == {key_of(number): b"%d" % number for number in range(3)}

    def test_what_goes_away_meanwhile_is_left_out(self) -> None:
        store = MinimalStore()
        for number in range(3):
            store.set(key_of(number), b"value")
        scanned = scan(store)
        next(scanned)
        store.clear()
        assert list(scanned) == []

    def test_a_cache_lists_its_keys(self) -> None:
        cache = Cache(MinimalStore())
        cache.set("key", "value")
        assert list(cache.keys()) == ["key"]


class TestWithoutLogs:
    def test_there_are_no_runs(self) -> None:
        assert runs_of(Cache(MinimalStore())) == []

    def test_a_store_may_have_those_of_another(self) -> None:
        other = MemoryStore()
        store = LoggingStore(other)
        assert isinstance(store, Logs)
        write_run(Cache(store), "baseline", [ended(key_of(1))])
        assert [run.name for run in runs_of(Cache(store))] == ["baseline"]
        assert [facts.name for facts in other.logs()] == ["n-baseline-1"]

    def test_a_store_whose_waits_are_watched_has_its_own(self) -> None:
        watched = Watched(LoggingStore(MemoryStore()), 1.0, 1.0)
        watched.append_to_log("a", [b"piece"])
        assert list(watched.read_log("a")) == [b"piece"]
        assert isinstance(unwatched(watched), Logs)


def test_without_checks_a_block_begins_without_one() -> None:
    @llm_cached
    def complete(prompt: str) -> str:
        return f"answer to {prompt}"

    with Cache(MinimalStore()) as cache:
        assert [complete("hi"), complete("hi")] == ["answer to hi"] * 2
    assert (cache.stats.misses, cache.stats.hits) == (1, 1)


class TestCommands:
    @pytest.fixture(autouse=True)
    def opened_store(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The command line opens a store that has no segment, with one entry."""
        store = MinimalStore()
        Cache(store).set("key", "value")
        monkeypatch.setattr(places, "open_store", lambda url, seed=None: (store, "41"))

    def run(self, *words: str) -> int:
        with pytest.raises(SystemExit) as stopped:
            main([*words])
        assert isinstance(stopped.value.code, int)
        return stopped.value.code

    def test_without_seeds_all_of_them_cannot_be_asked_for(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run("ls", "--all-seeds") == 2
        assert "this kind of store cannot tell its seeds: give --seed" in capsys.readouterr().err

    def test_without_uses_nothing_is_known_to_be_unused(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run("prune", "--unused-since", "7d") == 2
        assert "does not know when its entries were used" in capsys.readouterr().err

    def test_without_uses_the_oldest_go_first(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.run("prune", "--max-bytes", "1") == 0
        assert "removed 1 entry" in capsys.readouterr().out


@pytest.mark.skipif(not leases.SUPPORTED, reason="this platform has no record locks")
class TestASegmentOfTheObject:
    """A store in front of others has the leases of theirs, if they have any."""

    @pytest.fixture
    def far(self, tmp_path: Path) -> Iterator[DiskStore]:
        store = DiskStore(tmp_path)
        yield store
        store.close()

    def test_it_counts_like_one_of_the_class(self, far: DiskStore) -> None:
        assert isinstance(far, Leases)
        assert isinstance(LeasedStore(far), Leases)

    def test_a_cache_uses_it(self, far: DiskStore) -> None:
        @llm_cached
        def complete(prompt: str) -> str:
            claims.append(far.acquire(complete.cache_key(prompt), "another-1", 1))
            return "answer"

        claims: list[Claim] = []
        with Cache(LeasedStore(far)):
            complete("hi")
        assert claims == [Claim.HELD]
