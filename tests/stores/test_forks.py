"""Forks in the midst of things: a child works, whatever lock a thread of the parent had."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from cachewrap.stores.base import Store
from cachewrap.stores.redis import RedisStore
from cachewrap.testing.stores import key_of

pytestmark = [pytest.mark.posix("forks"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]

VALUE = b"answer"
SECONDS = 10.0
"""Seconds after which a child hangs."""


def in_child(work: Callable[[], object]) -> str:
    """What a forked child comes to, which does the work and ends as interpreters do not."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "worked" if status == 0 else "failed"
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hangs"


@contextmanager
def held(*locks: Any) -> Iterator[None]:
    """Locks that another thread has meanwhile."""
    has, done = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            has.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    has.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()


def use(store: Store) -> None:
    """Read and write, in each colour."""
    key = key_of(os.getpid())
    assert store.get(key_of(1)) == VALUE
    assert store.add(key, VALUE) == VALUE
    store.delete(key)

    async def ause() -> None:
        assert await store.aget(key_of(1)) == VALUE
        assert await store.aadd(key, VALUE) == VALUE
        await store.adelete(key)
        await store.aclose()

    asyncio.run(ause())
    store.close()


def locks_of(store: RedisStore) -> list[Any]:
    """Every lock of the client, its pools and what finds the nodes."""
    connections = store._connections
    client = connections.client()
    found = [connections._making, connections._breaker._lock, getattr(client, "_lock", None)]
    found += [getattr(getattr(client, "nodes_manager", None), "_lock", None)]
    for pool in connections.server.pools(client):
        found += [getattr(pool, name, None) for name in ("_lock", "_fork_lock")]
    return [lock for lock in {id(lock): lock for lock in found}.values() if lock is not None]


KINDS = ["redis", "cluster", "sentinel"]


@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.stores(k)) for k in KINDS])
class TestRedis:
    def test_a_child_works_whatever_lock_was_held(
        self, kind: str, make_store: Callable[[str], Store]
    ) -> None:
        store: Any = make_store(kind)
        store.set(key_of(1), VALUE)
        assert store.get(key_of(1)) == VALUE
        with held(*locks_of(store)):
            assert in_child(lambda: use(store)) == "worked"
        use(store)

    def test_a_child_leaves_the_connections_of_the_parent_alone(
        self, kind: str, make_store: Callable[[str], Store]
    ) -> None:
        store: Any = make_store(kind)
        store.set(key_of(1), VALUE)
        stops = threading.Event()
        wrong: list[object] = []

        def read() -> None:
            while not stops.is_set():
                try:
                    if store.get(key_of(1)) != VALUE:
                        wrong.append("another answer")
                except Exception as error:
                    wrong.append(error)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            found = {in_child(lambda: use(store)) for _ in range(10)}
        finally:
            stops.set()
            for thread in threads:
                thread.join()
        assert (found, wrong) == ({"worked"}, [])

    def test_a_child_of_a_running_loop_leaves_its_connections_alone(
        self, kind: str, make_store: Callable[[str], Store]
    ) -> None:
        store: Any = make_store(kind)
        store.set(key_of(1), VALUE)

        def work() -> None:
            import gc

            gc.collect()
            assert store.get(key_of(1)) == VALUE

        async def main() -> None:
            for _ in range(3):
                assert await store.aget(key_of(1)) == VALUE
                assert in_child(work) == "worked"
                assert await store.aget(key_of(1)) == VALUE
            await store.aclose()

        asyncio.run(main())


@pytest.mark.store
def test_a_child_of_a_busy_parent_works(
    store: Store, store_kind: str, request: pytest.FixtureRequest
) -> None:
    store.set(key_of(1), VALUE)
    stops = threading.Event()

    def work(number: int) -> None:
        while not stops.is_set():
            key = key_of(number)
            store.set(key, VALUE)
            store.get(key)
            store.delete(key)

    threads = [threading.Thread(target=work, args=(number,)) for number in (100, 200, 300)]
    for thread in threads:
        thread.start()
    try:
        found = {in_child(lambda: use(store)) for _ in range(15)}
    finally:
        stops.set()
        for thread in threads:
            thread.join()
    assert found == {"worked"}
