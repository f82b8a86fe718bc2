"""Disk and JSONL stores whose lock another process keeps: how long a call waits, and how often."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cachewrap import Cache, CacheWarning, llm_cached, systems
from cachewrap.errors import StoreError
from cachewrap.stores.base import Store
from cachewrap.stores.disk import DiskStore
from cachewrap.stores.jsonl import JsonlStore
from cachewrap.testing.stores import key_of

pytestmark = pytest.mark.stores("disk")

VALUE = b"answer"
SECONDS = 0.4
SLACK = 1.0

HOLD = {
    "database": """
        import sqlite3
        con = sqlite3.connect(path, isolation_level=None)
        con.execute("BEGIN IMMEDIATE")
    """,
    "whole database": """
        import sqlite3
        con = sqlite3.connect(path, isolation_level=None)
        con.execute("PRAGMA locking_mode = EXCLUSIVE")
        con.execute("BEGIN EXCLUSIVE")
        con.execute("CREATE TABLE IF NOT EXISTS other (a)")
    """,
    "cassette": """
        import os
        from cachewrap import systems
        file = systems.open_file(path, os.O_RDWR | os.O_CREAT, 0o600)
        lock = systems.locked(file, alone=True)
        lock.__enter__()
    """,
}


@contextmanager
def another_process(how: str, path: Path) -> Iterator[None]:
    """Another program that has the lock, and keeps it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [line.strip() for line in HOLD[how].strip().splitlines()]
    code = "\n".join(["import sys", "path = sys.argv[1]", *lines])
    code += "\nprint('ready', flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == b"ready"
            yield
        finally:
            process.kill()


Make = Callable[[Path], tuple[Store, Path]]


def disk(folder: Path, breaker_seconds: float = 60.0) -> tuple[Store, Path]:
    store = DiskStore(folder, store_seconds=SECONDS, breaker_seconds=breaker_seconds)
    return store, folder / "41" / "cache.db"


def jsonl(folder: Path, breaker_seconds: float = 60.0) -> tuple[Store, Path]:
    path = folder / "answers.jsonl"
    return JsonlStore(path, store_seconds=SECONDS, breaker_seconds=breaker_seconds), path


def at_rest(made: tuple[Store, Path], begun: bool) -> tuple[Store, Path]:
    """A store that nobody uses yet, where there is one entry already or nothing."""
    store, path = made
    if begun:
        store.set(key_of(1), VALUE)
        store.close()
    return store, path


STORES = [
    pytest.param(disk, "database", id="disk, a writer"),
    pytest.param(disk, "whole database", id="disk, one that keeps readers out"),
    pytest.param(jsonl, "cassette", id="cassette"),
]


@pytest.mark.parametrize(("make", "how"), STORES)
@pytest.mark.parametrize("begun", [True, False], ids=["with entries", "with nothing"])
class TestLocked:
    def test_a_write_waits_once_and_then_no_more(
        self, tmp_path: Path, make: Make, how: str, begun: bool
    ) -> None:
        store, path = at_rest(make(tmp_path), begun)
        with another_process(how, path):
            waits = []
            for use in (
                lambda: store.add(key_of(2), VALUE),
                lambda: store.add(key_of(3), VALUE),
                lambda: store.set(key_of(2), VALUE),
                lambda: store.set(key_of(4), VALUE),
                lambda: asyncio.run(store.aadd(key_of(5), VALUE)),
            ):
                began = time.monotonic()
                with pytest.raises(StoreError, match=r"locked|left alone"):
                    use()
                waits.append(time.monotonic() - began)
            began = time.monotonic()
            store.close()
            waits.append(time.monotonic() - began)
        assert waits[0] < 2 * SECONDS + SLACK
        assert sum(waits[1:]) < SLACK

    def test_a_write_waits_no_longer_where_the_time_is_frozen(
        self, tmp_path: Path, make: Make, how: str, begun: bool
    ) -> None:
        freezegun = pytest.importorskip("freezegun")
        store, path = at_rest(make(tmp_path), begun)
        with (
            another_process(how, path),
            ThreadPoolExecutor(1) as pool,
            freezegun.freeze_time("2024-01-01"),
        ):
            writing = pool.submit(store.add, key_of(2), VALUE)
            error = writing.exception(timeout=2 * SECONDS + SLACK)
        assert isinstance(error, StoreError)

    def test_a_read_waits_once_and_then_no_more(
        self, tmp_path: Path, make: Make, how: str, begun: bool
    ) -> None:
        store, path = at_rest(make(tmp_path), begun)
        with another_process(how, path):
            waits = []
            for _ in range(50):
                began = time.monotonic()
                with suppress(StoreError):
                    store.get(key_of(1))
                waits.append(time.monotonic() - began)
        assert waits[0] < SECONDS + SLACK
        assert sum(waits[1:]) < SLACK

    def test_calls_go_on_and_are_told_once(
        self,
        tmp_path: Path,
        make: Make,
        how: str,
        begun: bool,
        recwarn: pytest.WarningsRecorder,
    ) -> None:
        store, path = at_rest(make(tmp_path), begun)

        @llm_cached
        def ask(number: int) -> int:
            return number

        waits = []
        with another_process(how, path):
            cache = Cache(store)
            for number in range(20):
                began = time.monotonic()
                with cache:
                    assert ask(number) == number
                waits.append(time.monotonic() - began)
        assert max(waits) < 3 * SECONDS + SLACK
        assert sum(waits[1:]) < 2 * SLACK
        told = [str(one.message) for one in recwarn if issubclass(one.category, CacheWarning)]
        assert 1 <= len(told) <= 2

    def test_it_is_used_again_after_a_while(
        self, tmp_path: Path, make: Callable[..., tuple[Store, Path]], how: str, begun: bool
    ) -> None:
        store, path = make(tmp_path, 0.2)
        if begun:
            store.set(key_of(1), VALUE)
            store.close()
        with another_process(how, path):
            with pytest.raises(StoreError):
                store.set(key_of(2), VALUE)
            with suppress(StoreError):
                store.get(key_of(1))
        time.sleep(0.3)  # no event tells that the time has come
        store.set(key_of(2), VALUE)
        assert store.get(key_of(2)) == VALUE
        assert store.get(key_of(1)) == (VALUE if begun else None)
        store.close()


def test_readers_of_a_database_go_on_while_writes_are_left_alone(tmp_path: Path) -> None:
    store, path = disk(tmp_path)
    store.set(key_of(1), VALUE)
    with another_process("database", path):
        with pytest.raises(StoreError):
            store.set(key_of(2), VALUE)
        assert [store.get(key_of(1)) for _ in range(5)] == [VALUE] * 5
    store.close()


def test_what_was_read_of_a_cassette_is_served_while_it_is_locked(tmp_path: Path) -> None:
    store, path = jsonl(tmp_path)
    store.set(key_of(1), VALUE)
    kept = store.get(key_of(1))
    with another_process("cassette", path):
        assert store.get(key_of(1)) == kept
    store.close()


def test_an_untidy_cassette_does_not_hold_up_the_end(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    code = f"""
import sys
from cachewrap.stores.jsonl import JsonlStore
store = JsonlStore({str(path)!r}, store_seconds=0.4)
store.set("a" * 64, b"one")
store.set("a" * 64, b"two")
print("written", flush=True)
sys.stdin.readline()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"written"
        with another_process("cassette", path):
            began = time.monotonic()
            process.stdin.write(b"\n")
            process.stdin.close()
            assert process.wait(30) == 0
            assert time.monotonic() - began < 0.4 + 2 * SLACK


class TestLocks:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Iterator[int]:
        file = systems.open_file(str(tmp_path / "file"), os.O_RDWR | os.O_CREAT, 0o600)
        yield file
        os.close(file)

    def test_one_that_does_not_come_is_given_up(self, tmp_path: Path, file: int) -> None:
        with another_process("cassette", tmp_path / "file"):
            for alone in (True, False):
                began = time.monotonic()
                with (
                    pytest.raises(TimeoutError, match="another process"),
                    systems.locked(file, alone=alone, seconds=0.2),
                ):
                    pass
                assert 0.2 <= time.monotonic() - began < 0.2 + SLACK

    def test_what_is_refused_for_ever_is_given_up(
        self, file: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError("no")

        monkeypatch.setattr(systems, "_fcntl", None)
        monkeypatch.setattr(systems, "lock_bytes", refuse)
        with (
            pytest.raises(TimeoutError),
            systems.locked(file, alone=True, seconds=0.1),
        ):
            pass

    def test_who_only_appends_needs_none_where_the_system_appends(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        with another_process("cassette", path):
            began = time.monotonic()
            try:
                systems.append(str(path), b"x")
            except OSError:
                assert not systems.REPLACES_OPEN
            assert time.monotonic() - began < systems.LOCK_SECONDS + SLACK


def test_a_database_without_tables_that_is_locked_is_not_tried_for_a_minute(
    tmp_path: Path,
) -> None:
    store, path = disk(tmp_path)
    path.parent.mkdir(parents=True)
    sqlite3.connect(path).close()
    with another_process("whole database", path):
        began = time.monotonic()
        with pytest.raises(StoreError, match="kept it locked"):
            store.set(key_of(1), VALUE)
        assert time.monotonic() - began < 3 * SECONDS + SLACK
