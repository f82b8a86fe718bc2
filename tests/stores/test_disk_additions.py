"""Additions of async callers to the disk store, which are written together."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cachewrap import loops
from cachewrap.errors import StoreError
from cachewrap.stores import base
from cachewrap.stores.disk import DiskStore
from cachewrap.testing.stores import key_of

pytestmark = pytest.mark.stores("disk")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Any]:
    store = DiskStore(tmp_path, store_seconds=0.4)
    yield store
    store.close()


def groups(store: Any) -> list[list[str]]:
    """The keys of each group that the store writes from now on."""
    seen: list[list[str]] = []
    write = store._add_all

    def noted(additions: list[Any]) -> None:
        seen.append([addition.key for addition in additions])
        write(additions)

    store._add_all = noted
    return seen


def test_what_comes_together_is_written_together(store: Any) -> None:
    keys = [key_of(n) for n in range(50)]
    seen = groups(store)

    async def main() -> list[bytes]:
        return await asyncio.gather(*(store.aadd(key, key.encode()) for key in keys))

    assert asyncio.run(main()) == [key.encode() for key in keys]
    assert seen == [keys]
    assert sorted(store.keys()) == sorted(keys)


def test_what_comes_while_others_are_written_waits_for_the_next_time(store: Any) -> None:
    begun, go = threading.Event(), threading.Event()
    sizes: list[int] = []
    write = store._add_all

    def held(additions: list[Any]) -> None:
        sizes.append(len(additions))
        begun.set()
        assert go.wait(10)
        write(additions)

    store._add_all = held

    async def main() -> None:
        first = asyncio.ensure_future(store.aadd(key_of(0), b"0"))
        await asyncio.to_thread(begun.wait)
        rest = [asyncio.ensure_future(store.aadd(key_of(n), b"n")) for n in range(1, 20)]
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(first, *rest)

    asyncio.run(main())
    assert sizes == [1, 19]


def test_no_group_is_so_large_that_others_wait_long(store: Any) -> None:
    seen = groups(store)

    async def main(number: int, value: bytes) -> None:
        await asyncio.gather(*(store.aadd(key_of(n), value) for n in range(number)))

    asyncio.run(main(250, b"small"))
    assert [len(keys) for keys in seen] == [100, 100, 50]
    seen.clear()
    store.clear()
    asyncio.run(main(9, bytes(900_000)))
    assert [len(keys) for keys in seen] == [5, 4]


def test_each_caller_is_told_what_is_there_afterwards(store: Any) -> None:
    store.add(key_of(1), b"there before")
    store.add(key_of(2), b"damaged")
    asked = [
        (key_of(0), b"new", None),
        (key_of(1), b"too late", None),
        (key_of(2), b"instead", b"damaged"),
        (key_of(0), b"too late as well", None),
        (key_of(3), bytes(2**20), None),
    ]

    async def main() -> list[bytes]:
        return await asyncio.gather(
            *(store.aadd(key, value, over=over) for key, value, over in asked)
        )

    expected = [b"new", b"there before", b"instead", b"new", bytes(2**20)]
    assert asyncio.run(main()) == expected
    assert [store.get(key) for key, *_ in asked] == expected


def test_an_error_is_told_to_whom_it_belongs(store: Any) -> None:
    store.add(key_of(9), b"opens the database")
    unknown: Any = object()  # SQLite takes none: the transaction fails, and each is tried alone

    async def main() -> list[Any]:
        return await asyncio.gather(
            store.aadd(key_of(0), b"0"),
            store.aadd(key_of(1), b"1", expires=unknown),
            store.aadd(key_of(2), b"2"),
            return_exceptions=True,
        )

    first, wrong, last = asyncio.run(main())
    assert (first, last) == (b"0", b"2")
    assert type(wrong) is StoreError
    assert sorted(store.keys()) == sorted([key_of(0), key_of(2), key_of(9)])


def test_all_wait_once_for_a_lock_that_does_not_come(store: Any, tmp_path: Path) -> None:
    store.add(key_of(9), b"opens the database")
    other = sqlite3.connect(tmp_path / "41" / "cache.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def main() -> list[Any]:
        adding = (store.aadd(key_of(n), b"value") for n in range(20))
        return await asyncio.gather(*adding, return_exceptions=True)

    began = time.monotonic()
    found = asyncio.run(main())
    assert {type(one) for one in found} == {StoreError}
    assert time.monotonic() - began < 4 * 0.4
    other.close()


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_what_was_paid_for_is_stored_where_all_are_cancelled_as_their_loop_ends(
    store: Any, turns: int
) -> None:
    async def main() -> None:
        for n in range(50):
            tasks.append(asyncio.ensure_future(store.aadd(key_of(n), b"paid for")))
        for _ in range(turns):
            await asyncio.sleep(0)

    tasks: list[asyncio.Future[bytes]] = []
    asyncio.run(main())
    base._workers.finish(5)
    assert sorted(store.keys()) == sorted(key_of(n) for n in range(50))


def test_callers_of_several_loops_are_each_told(store: Any) -> None:
    found: list[bytes] = []

    def loop(number: int) -> None:
        async def main() -> None:
            adding = (store.aadd(key_of(n), b"%d" % number) for n in range(30))
            found.extend(await asyncio.gather(*adding))

        asyncio.run(main())

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = {store.get(key_of(n)) for n in range(30)}
    assert len(found) == 120
    assert set(found) == stored


def test_a_loop_that_has_ended_is_told_nothing(store: Any) -> None:
    begun, go = threading.Event(), threading.Event()
    write = store._add_all

    def held(additions: list[Any]) -> None:
        begun.set()
        assert go.wait(10)
        write(additions)

    store._add_all = held

    async def leave() -> None:
        task = asyncio.ensure_future(store.aadd(key_of(0), b"left behind"))
        await asyncio.to_thread(begun.wait)
        task.cancel()

    asyncio.run(leave())
    go.set()
    asyncio.run(store.aadd(key_of(1), b"later"))
    assert store.get(key_of(0)) == b"left behind"


@pytest.mark.posix("forks")
def test_a_forked_child_writes_nothing_of_its_parent_s(store: Any) -> None:
    async def main() -> int:
        task = asyncio.ensure_future(store.aadd(key_of(0), b"the parent's"))
        await asyncio.sleep(0)  # it waits, and nobody has begun
        child = os.fork()
        if not child:
            os._exit(len(store._waiting._waiting) + store._waiting._at_work)
        await task
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert asyncio.run(main()) == 0


def test_threads_that_hang_keep_nobody_back(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "_STUCK", 0.1)
    monkeypatch.setattr(loops, "_THREADS", 1)
    monkeypatch.setattr(base, "_workers", loops.Workers())
    go = threading.Event()

    async def main() -> bytes:
        hanging = asyncio.ensure_future(base.in_thread(go.wait, 10))
        await asyncio.sleep(0.05)
        found: bytes = await asyncio.wait_for(store.aadd(key_of(0), b"value"), 5)
        go.set()
        await hanging
        return found

    assert asyncio.run(main()) == b"value"
