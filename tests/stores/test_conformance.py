"""The stores keep the promises of every store; Redis does in each of its forms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cachewrap.stores.base import Store
from cachewrap.stores.memory import BoundedMemoryStore
from cachewrap.testing.stores import StoreSuite, key_of


@pytest.mark.stores("memory")
class TestMemoryStore(StoreSuite):
    persistent = False
    drops_expired = False

    @pytest.fixture
    def store(self, make_store: Callable[[str], Store]) -> Store:
        return make_store("memory")


@pytest.mark.stores("memory")
class TestBoundedMemoryStore(StoreSuite):
    persistent = False
    drops_expired = False

    @pytest.fixture
    def store(self) -> Store:
        return BoundedMemoryStore(max_bytes=1 << 30)


@pytest.mark.stores("disk")
class TestDiskStore(StoreSuite):
    @pytest.fixture
    def store(self, make_store: Callable[[str], Store]) -> Store:
        return make_store("disk")


@pytest.mark.stores("redis")
class TestRedisStore(StoreSuite):
    @pytest.fixture
    def store(self, make_store: Callable[[str], Store]) -> Store:
        return make_store("redis")


@pytest.mark.stores("cluster")
class TestRedisCluster(StoreSuite):
    @pytest.fixture
    def store(self, make_store: Callable[[str], Store]) -> Store:
        return make_store("cluster")


@pytest.mark.stores("sentinel")
class TestRedisSentinel(StoreSuite):
    @pytest.fixture
    def store(self, make_store: Callable[[str], Store]) -> Store:
        return make_store("sentinel")


@pytest.mark.stores("jsonl")
class TestJsonlStore(StoreSuite):
    drops_expired = False

    @pytest.fixture
    def store(self, make_store: Callable[[str], Store]) -> Store:
        return make_store("jsonl")


@pytest.mark.parametrize("turns", range(3))
@pytest.mark.parametrize("closed", [True, False])
def test_a_loop_that_stops_while_it_adds_keeps_no_other_waiting(
    store: Store, turns: int, closed: bool
) -> None:
    async def leave() -> asyncio.Task[bytes]:
        task = asyncio.ensure_future(store.aadd(key_of(0), b"left behind"))
        for _ in range(turns):
            await asyncio.sleep(0)
        return task

    async def add() -> bytes:
        return await asyncio.wait_for(store.aadd(key_of(1), b"added"), 5)

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(leave())
    if closed:
        loop.close()
    assert asyncio.run(add()) == b"added"
    if not closed:
        assert loop.run_until_complete(task) == b"left behind"
        loop.close()
