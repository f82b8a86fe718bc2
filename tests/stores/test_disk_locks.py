"""The disk store and locks of other processes: how long a read and a write may wait for one."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cachewrap.errors import StoreError
from cachewrap.stores import breaker
from cachewrap.stores.disk import DiskStore
from cachewrap.testing.stores import key_of

pytestmark = pytest.mark.stores("disk")

VALUE = b"answer"
SLACK = 1.0
"""Seconds by which a busy machine may be late."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskStore]:
    store = DiskStore(tmp_path)
    store.set(key_of(1), VALUE)
    yield store
    store.close()


@contextmanager
def another_process(database: Path, *statements: str) -> Iterator[subprocess.Popen[str]]:
    """Another program that runs the statements on the database, and then keeps it open."""
    code = """
        import sqlite3, sys
        con = sqlite3.connect(sys.argv[1], isolation_level=None)
        for statement in sys.argv[2:]:
            con.execute(statement).fetchall()
        print("ready", flush=True)
        sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(database), *statements],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


WRITES = (
    ("BEGIN IMMEDIATE",),
    ("BEGIN EXCLUSIVE",),
    ("BEGIN EXCLUSIVE", "UPDATE Cache SET tag = 'x'"),
)


@pytest.mark.parametrize("statements", WRITES)
@pytest.mark.parametrize("opened", [True, False])
def test_a_read_does_not_wait_for_another_s_write(
    tmp_path: Path, disk: DiskStore, statements: tuple[str, ...], opened: bool
) -> None:
    if not opened:
        disk.close()
    with another_process(tmp_path / "41" / "cache.db", *statements):
        start = time.monotonic()
        assert disk.get(key_of(1)) == VALUE
        assert asyncio.run(disk.aget(key_of(1))) == VALUE
        assert list(disk.keys()) == [key_of(1)]
        assert time.monotonic() - start < SLACK


def test_a_read_does_not_wait_for_a_checkpoint_that_waits_for_readers(
    tmp_path: Path, disk: DiskStore
) -> None:
    database = tmp_path / "41" / "cache.db"
    with (
        another_process(database, "BEGIN", "SELECT * FROM Cache"),
        subprocess.Popen(
            [sys.executable, "-c", "import sqlite3, sys\n"
             "con = sqlite3.connect(sys.argv[1], timeout=3)\n"
             "con.execute('PRAGMA wal_checkpoint(TRUNCATE)')", str(database)]
        ) as checkpoint,
    ):  # fmt: skip
        disk.set(key_of(2), VALUE)
        while checkpoint.poll() is None:
            start = time.monotonic()
            assert disk.get(key_of(1)) == VALUE
            assert time.monotonic() - start < SLACK


@pytest.mark.parametrize(
    "statements",
    [
        ("PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE", "UPDATE Cache SET tag = 'x'"),
        ("PRAGMA journal_mode = DELETE", "BEGIN EXCLUSIVE"),
    ],
)
def test_a_read_waits_one_second_for_a_lock_that_keeps_readers_out(
    tmp_path: Path, disk: DiskStore, statements: tuple[str, ...]
) -> None:
    disk.close()
    with another_process(tmp_path / "41" / "cache.db", *statements):
        uses: tuple[Callable[[], object], ...] = (
            lambda: disk.get(key_of(1)),
            lambda: asyncio.run(disk.aget(key_of(1))),
        )
        for use in uses:
            start = time.monotonic()
            with pytest.raises(StoreError, match="kept it locked") as caught:
                use()
            assert time.monotonic() - start < 1 + SLACK
            assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
            breaker.forget()
    assert disk.get(key_of(1)) == VALUE


def test_a_write_waits_for_another_s_write(tmp_path: Path, disk: DiskStore) -> None:
    with another_process(tmp_path / "41" / "cache.db", "BEGIN EXCLUSIVE") as process:
        start = time.monotonic()
        threading.Timer(1.5, process.kill).start()  # later than a read would give up
        assert disk.add(key_of(2), VALUE) == VALUE
        assert time.monotonic() - start > 1


@pytest.mark.parametrize("adds", [True, False])
def test_a_write_waits_for_readers_where_there_is_no_log(
    tmp_path: Path, disk: DiskStore, adds: bool
) -> None:
    disk.close()
    log = "PRAGMA journal_mode = DELETE"
    with another_process(
        tmp_path / "41" / "cache.db", log, "BEGIN", "SELECT * FROM Cache"
    ) as process:
        threading.Timer(0.2, process.kill).start()
        (disk.add if adds else disk.set)(key_of(2), VALUE)
    assert disk.get(key_of(2)) == VALUE


def test_a_write_gives_up_after_two_seconds(tmp_path: Path, disk: DiskStore) -> None:
    with another_process(tmp_path / "41" / "cache.db", "BEGIN EXCLUSIVE"):
        start = time.monotonic()
        with pytest.raises(StoreError, match="kept it locked"):
            disk.set(key_of(2), VALUE)
        assert time.monotonic() - start < 2 + SLACK
        start = time.monotonic()
        assert disk.get(key_of(1)) == VALUE
        assert time.monotonic() - start < SLACK


def test_leaving_an_async_block_does_not_block_the_loop_while_a_write_waits(
    tmp_path: Path, disk: DiskStore
) -> None:
    async def main() -> float:
        longest = 0.0

        async def beat() -> None:
            nonlocal longest
            while True:
                start = time.monotonic()
                await asyncio.sleep(0.01)
                longest = max(longest, time.monotonic() - start)

        with another_process(tmp_path / "41" / "cache.db", "BEGIN IMMEDIATE"):
            beating = asyncio.create_task(beat())
            writing = asyncio.create_task(disk.aset(key_of(2), VALUE))
            await asyncio.sleep(0.1)
            closing = asyncio.create_task(disk.aclose())
            done, _ = await asyncio.wait([closing], timeout=1.5)
            assert not done  # it waits for the write
        await asyncio.gather(writing, closing)
        beating.cancel()
        return longest

    assert asyncio.run(main()) < SLACK
    assert disk.get(key_of(2)) == VALUE


def test_the_lock_of_a_killed_process_is_gone(tmp_path: Path, disk: DiskStore) -> None:
    with another_process(
        tmp_path / "41" / "cache.db", "BEGIN EXCLUSIVE", "DELETE FROM Cache"
    ) as process:
        process.kill()
        process.wait()
        start = time.monotonic()
        assert disk.get(key_of(1)) == VALUE
        assert disk.add(key_of(2), VALUE) == VALUE
        assert time.monotonic() - start < SLACK
