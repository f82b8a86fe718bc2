"""The Redis store on a cluster and behind sentinels: every master is seen, and one may die."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import redis

from cachewrap import Cache
from cachewrap.errors import StoreError
from cachewrap.stores.redis import RedisStore
from cachewrap.testing.servers import RedisNodes, redis_cluster, redis_sentinel
from cachewrap.testing.stores import key_of

VALUE = b"\xff answer"
KEYS = [key_of(number) for number in range(300)]

BOUND = 6.0
"""Seconds that one call may take at worst while a master is dead."""


class TestCluster:
    pytestmark = pytest.mark.stores("cluster")

    @pytest.fixture
    def store(self, cluster_url: str) -> Iterator[RedisStore]:
        store = RedisStore(cluster_url, namespace=str(uuid.uuid4()))
        yield store
        store.clear()
        store.close()

    def test_entries_lie_on_every_master_and_all_are_found(
        self, store: RedisStore, cluster_url: str
    ) -> None:
        for key in KEYS:
            store.add(key, VALUE)
        sizes = []
        for host in cluster_url.removeprefix("redis+cluster://").split(","):
            with redis.Redis.from_url(f"redis://{host}") as node:
                sizes.append(node.dbsize())
        assert all(sizes)
        assert sorted(store.keys()) == sorted(KEYS)
        assert asyncio.run(store.aclear()) == len(KEYS)

    def test_an_entry_and_its_lease_share_a_slot(self, store: RedisStore, cluster_url: str) -> None:
        names = [store._name(KEYS[0]), store._lease(KEYS[0])]
        with redis.RedisCluster.from_url(cluster_url.replace("+cluster", "").split(",")[0]) as any_:
            assert len({any_.keyslot(name) for name in names}) == 1

    def test_one_node_that_lives_is_enough_to_find_the_others(self, cluster_url: str) -> None:
        with closing(RedisStore(cluster_url.replace("//", "//127.0.0.1:1,"))) as store:
            assert store.get(KEYS[0]) is None

    def test_a_store_that_is_unused_asks_nothing(self) -> None:
        Cache(RedisStore("redis+cluster://127.0.0.1:1")).check()


class TestSentinel:
    pytestmark = pytest.mark.stores("sentinel")

    def test_a_service_that_they_do_not_watch(self, sentinel_url: str) -> None:
        with closing(RedisStore(sentinel_url.replace("/cachewrap", "/other"))) as store:
            with pytest.raises(StoreError, match="No master found for 'other'") as caught:
                store.get(KEYS[0])
            assert isinstance(caught.value.__cause__, redis.ConnectionError)

    def test_one_sentinel_that_lives_is_enough(self, sentinel_url: str) -> None:
        with closing(RedisStore(sentinel_url.replace("//", "//127.0.0.1:1,"))) as store:
            assert store.get(KEYS[0]) is None

    def test_what_tls_is_asked_of_must_speak_it(self, sentinel_url: str) -> None:
        store = RedisStore(sentinel_url.replace("redis+", "rediss+"))
        with closing(store), pytest.raises(StoreError):
            store.get(KEYS[0])


@pytest.fixture(
    params=[
        pytest.param(lambda: redis_cluster(replicas=1), marks=pytest.mark.stores("cluster")),
        pytest.param(redis_sentinel, marks=pytest.mark.stores("sentinel")),
    ],
    ids=["cluster", "sentinel"],
)
def nodes(request: pytest.FixtureRequest) -> Iterator[RedisNodes]:
    """Servers of this test's own, whose first master may be killed."""
    with request.param() as nodes:
        yield nodes


class Load:
    """Callers that add and read all the time, and what they saw.

    Attributes:
        longest: the seconds of the slowest call.
        faults: how often a call failed with `StoreError`; any other error is raised.
        wrong: keys that read as something that nobody wrote.
    """

    def __init__(self, store: RedisStore) -> None:
        self.store = store
        self.longest = 0.0
        self.faults = 0
        self.wrong: list[str] = []
        self.worked_since: dict[str, float] = {}
        self.ends = False

    def note(self, key: str, start: float, answer: bytes | None) -> None:
        self.longest = max(self.longest, time.monotonic() - start)
        if answer is not None and answer != key.encode():
            self.wrong.append(key)

    def in_thread(self, number: int) -> None:
        turn = 0
        while not self.ends:
            turn += 1
            key, start = key_of((number, turn % 50)), time.monotonic()
            try:
                answer = self.store.add(key, key.encode()) and self.store.get(key)
            except StoreError:
                self.faults += 1
                answer = None
                time.sleep(0.005)  # what a caller does instead
            else:
                self.worked_since[key] = start
            self.note(key, start, answer)

    async def in_task(self, number: int) -> None:
        turn = 0
        while not self.ends:
            turn += 1
            key, start = key_of((number, turn % 50)), time.monotonic()
            try:
                answer = await self.store.aadd(key, key.encode()) and await self.store.aget(key)
            except StoreError:
                self.faults += 1
                answer = None
                await asyncio.sleep(0.005)
            else:
                self.worked_since[key] = start
            self.note(key, start, answer)

    def in_tasks(self, _: int) -> None:
        async def all_tasks() -> None:
            await asyncio.gather(*(self.in_task(number) for number in range(8)))
            await self.store.aclose()

        asyncio.run(all_tasks())


@pytest.mark.parametrize("colour", [Load.in_thread, Load.in_tasks], ids=["threads", "tasks"])
def test_a_master_is_killed_and_replaced_under_load(
    nodes: RedisNodes, colour: Callable[[Load, int], None]
) -> None:
    store = RedisStore(nodes.url, breaker_seconds=0.5)
    load = Load(store)
    everywhere = [key_of(("checked", number)) for number in range(30)]
    for key in everywhere:
        store.set(key, VALUE)
    with ThreadPoolExecutor(4) as threads:
        callers = [threads.submit(colour, load, number) for number in range(4)]
        try:
            time.sleep(0.5)  # load runs, and replicas hold what was written above
            assert load.faults == 0
            nodes.nodes[0].stop()
            killed = time.monotonic()
            while time.monotonic() - killed < 30:
                try:
                    assert [store.get(key) for key in everywhere] == [VALUE] * len(everywhere)
                    break
                except StoreError:
                    time.sleep(0.05)  # nothing tells when another master has taken over
            replaced = time.monotonic()
            time.sleep(1.5)
        finally:
            load.ends = True
        for caller in callers:
            caller.result()
    assert max(load.worked_since.values()) > replaced
    assert load.longest < BOUND
    assert load.wrong == []
    store.close()
