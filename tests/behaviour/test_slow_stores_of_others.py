"""A store of another package that is slow: it is left alone for a while, and no answer is lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import anyio
import pytest

from cachewrap import Cache, CacheWarning, llm_cached
from cachewrap.errors import StoreError
from cachewrap.stores.base import Claim, Leases, Store

SECONDS = 0.2


class Slow(Store):
    """A dictionary whose operations take a while, and fail where they are told to.

    Args:
        slow: the operations that are slow.
        fails: whether they fail as well.
    """

    def __init__(self, slow: set[str], fails: bool) -> None:
        self._entries: dict[str, bytes] = {}
        self._slow = slow
        self._fails = fails
        self.waited = 0

    def _wait(self, operation: str) -> None:
        if operation in self._slow:
            self.waited += 1
            time.sleep(2 * SECONDS)
            if self._fails:
                raise StoreError("no answer came")

    @property
    def url(self) -> str:
        return f"slow://{id(self)}"

    def reseed(self, seed: str) -> Self:
        return self

    def get(self, key: str) -> bytes | None:
        self._wait("get")
        return self._entries.get(key)

    def add(
        self, key: str, value: bytes, *, expires: float = 0.0, over: bytes | None = None
    ) -> bytes:
        self._wait("add")
        return self._entries.setdefault(key, value)

    def set(self, key: str, value: bytes, *, expires: float = 0.0) -> None:
        self._wait("set")
        self._entries[key] = value

    def delete(self, key: str) -> bool:
        return self._entries.pop(key, None) is not None

    def keys(self) -> Iterator[str]:
        return iter(list(self._entries))

    def clear(self) -> int:
        count = len(self._entries)
        self._entries.clear()
        return count

    def close(self) -> None:
        """Nothing to release."""


def ask_of(colour: str) -> Callable[[int], int]:
    """A decorated function in each colour."""
    if colour == "sync":

        @llm_cached
        def ask(number: int) -> int:
            return number

        return ask

    @llm_cached
    async def aask(number: int) -> int:
        return number

    def run(number: int) -> int:
        async def call() -> Any:
            return await aask(number)

        return int(asyncio.run(call()))

    return run


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("slow", [{"get"}, {"add"}, {"get", "add"}], ids=["reads", "writes", "all"])
def test_one_that_fails_slowly_is_waited_for_once(colour: str, slow: set[str]) -> None:
    store = Slow(slow, fails=True)
    ask = ask_of(colour)
    with pytest.warns(CacheWarning), Cache(store, store_seconds=SECONDS):
        assert [ask(number) for number in range(20)] == list(range(20))
    assert store.waited == len(slow)


@pytest.mark.parametrize("slow", [{"get"}, {"add"}, {"get", "add"}], ids=["reads", "writes", "all"])
def test_one_that_answers_slowly_is_waited_for_once(slow: set[str]) -> None:
    store = Slow(slow, fails=False)
    ask = ask_of("sync")
    with pytest.warns(CacheWarning, match="it was slow"), Cache(store, store_seconds=SECONDS):
        assert [ask(number) for number in range(20)] == list(range(20))
    assert store.waited == len(slow)
    assert len(store._entries) == (20 if slow == {"get"} else 1)


def test_it_is_asked_again_after_a_while() -> None:
    store = Slow({"get"}, fails=True)
    ask = ask_of("sync")
    cache = Cache(store, store_seconds=SECONDS, breaker_seconds=0.1)
    with cache:
        with pytest.warns(CacheWarning):
            ask(1)
        store._slow = set()
        time.sleep(0.2)  # no event tells that the time has come
        assert [ask(1), ask(1)] == [1, 1]
    assert cache.stats.hits == 2


def test_one_that_fails_at_once_is_asked_each_time() -> None:
    store = Slow(set(), fails=True)
    store._slow = {"get"}
    store._wait = lambda operation: fail(operation, store)  # type: ignore[method-assign]
    ask = ask_of("sync")
    with pytest.warns(CacheWarning), Cache(store, store_seconds=SECONDS):
        assert [ask(number) for number in range(5)] == [0, 1, 2, 3, 4]
    assert store.waited >= 5


def fail(operation: str, store: Slow) -> None:
    if operation == "get":
        store.waited += 1
        raise StoreError("no")


def test_the_store_of_a_cache_is_the_one_that_was_given() -> None:
    store = Slow(set(), fails=False)
    assert Cache(store).store is store


class Leasing(Slow, Leases):
    """The same, with leases."""

    def acquire(self, key: str, token: str, seconds: float) -> Claim:
        self._wait("acquire")
        return Claim.TAKEN

    def renew(self, key: str, token: str, seconds: float) -> bool:
        return True

    def release(self, key: str, token: str, *, failed: bool = False) -> None:
        self._wait("release")


@pytest.mark.filterwarnings("ignore::cachewrap.CacheWarning")
@pytest.mark.parametrize("operation", ["acquire", "release"])
@pytest.mark.parametrize("fails", [False, True], ids=["slow", "fails"])
def test_leases_are_waited_for_once(operation: str, fails: bool) -> None:
    store = Leasing({operation}, fails)
    cache, ask = Cache(store, store_seconds=SECONDS), ask_of("sync")
    with cache, pytest.warns(CacheWarning, match="left alone"):
        assert [ask(number) for number in range(5)] == list(range(5))
    assert store.waited == 1
    with cache:
        assert [ask(number) for number in range(5)] == list(range(5))
    assert cache.stats.hits == 5


class Hanging(Slow):
    """A store whose writes do not end until a test is over."""

    def __init__(self) -> None:
        super().__init__(set(), fails=False)
        self.over = threading.Event()
        self.writes = 0

    def add(self, *args: Any, **options: Any) -> bytes:
        self.writes += 1
        self.over.wait()
        return super().add(*args, **options)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    store = Hanging()
    yield store
    store.over.set()


def test_writes_that_hang_keep_no_other_store_back(hanging: Hanging, tmp_path: Path) -> None:
    """Nor each other: whoever writes something else to the same place is not behind them."""
    other = Cache.disk(cache_path_root=tmp_path)

    @llm_cached
    async def ask(number: int) -> int:
        return number

    async def main() -> float:
        with Cache(hanging):
            hang = [asyncio.create_task(ask(number)) for number in range(20)]
            while hanging.writes < 8:
                await asyncio.sleep(0.01)
        began = time.monotonic()
        with other:
            assert await ask(1) == 1
        taken = time.monotonic() - began
        async with asyncio.timeout(10):
            while hanging.writes < 20:
                await asyncio.sleep(0.01)
        hanging.over.set()
        assert await asyncio.gather(*hang) == list(range(20))
        return taken

    assert asyncio.run(main()) < 15  # those that hang do so until they are let go
    assert len(list(other._store.keys())) == 1


@pytest.mark.parametrize("kind", ["asyncio", "trio"])
def test_a_timeout_of_the_caller_ends_the_wait_for_a_write(hanging: Hanging, kind: str) -> None:
    @llm_cached
    async def ask(number: int) -> int:
        return number

    async def main() -> float:
        began = anyio.current_time()
        with Cache(hanging), anyio.move_on_after(0.2):
            await ask(1)
        return anyio.current_time() - began

    assert anyio.run(main, backend=kind) < 5


def test_a_write_that_hangs_does_not_keep_a_program_from_its_end(tmp_path: Path) -> None:
    program = """if True:
        import asyncio, time
        from cachewrap.stores import base
        base._AT_THE_END = 0.2

        async def main():
            for _ in range(20):
                asyncio.ensure_future(base.in_thread(time.sleep, 1000))
            await asyncio.sleep(0.1)

        asyncio.run(main())
    """
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert time.monotonic() - began < 30


def test_the_end_waits_for_what_is_written(tmp_path: Path) -> None:
    """Also where its caller is cancelled."""
    program = """if True:
        import asyncio, sys, time
        from cachewrap.stores import base

        def write():
            time.sleep(0.5)
            open(sys.argv[1], "w").close()

        async def main():
            task = asyncio.ensure_future(base.in_thread(write))
            await asyncio.sleep(0.1)
            task.cancel()

        asyncio.run(main())
    """
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a")], check=True, timeout=60)
    assert (tmp_path / "a").exists()
