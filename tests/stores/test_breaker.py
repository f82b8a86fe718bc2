"""A Redis that does not answer costs one wait, and is then left alone for a while."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cachewrap import Cache, CacheWarning, StoreError, llm_cached
from cachewrap.stores.redis import RedisStore
from cachewrap.testing.servers import redis_server
from cachewrap.testing.stores import key_of

pytestmark = pytest.mark.stores("redis")


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


@pytest.fixture
def closed() -> str:
    """The URL of a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"redis://127.0.0.1:{server.getsockname()[1]}/0"


def fails(store: RedisStore) -> float:
    """Seconds that a failing read takes."""
    began = time.monotonic()
    with pytest.raises(StoreError):
        store.get(key_of(1))
    return time.monotonic() - began


@pytest.mark.parametrize("url", ["silent", "closed"])
def test_fifty_calls_wait_for_a_broken_server_once(
    url: str, request: pytest.FixtureRequest
) -> None:
    calls: list[int] = []

    @llm_cached
    def complete(number: int) -> int:
        calls.append(number)
        return number

    began = time.monotonic()
    with (
        pytest.warns(CacheWarning, match="went on without the cache"),
        Cache.redis(redis_url=request.getfixturevalue(url)),
    ):
        assert [complete(number) for number in range(50)] == list(range(50))
    assert len(calls) == 50
    assert time.monotonic() - began < 4.0


def test_fifty_async_calls_wait_for_a_broken_server_once(silent: str) -> None:
    @llm_cached
    async def complete(number: int) -> int:
        return number

    async def ask() -> list[int]:
        async with Cache.redis(redis_url=silent):
            return [await complete(number) for number in range(50)]

    began = time.monotonic()
    with pytest.warns(CacheWarning, match="went on without the cache"):
        assert asyncio.run(ask()) == list(range(50))
    assert time.monotonic() - began < 4.0


def test_while_it_is_open_nothing_is_tried(silent: str) -> None:
    store = RedisStore(silent)
    fails(store)
    with pytest.raises(StoreError, match="left alone for 30 seconds"):
        store.get(key_of(1))
    assert fails(store) < 0.1


def test_it_serves_every_store_of_the_server(silent: str) -> None:
    fails(RedisStore(silent))
    assert fails(RedisStore(silent, "another")) < 0.1
    assert fails(RedisStore(silent).reseed("a third")) < 0.1


def test_it_closes_by_itself_when_the_server_is_back() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/socket"
        with redis_server(unixsocket=path) as server:
            store = RedisStore(server.url, breaker_seconds=0.2)
            store.set(key_of(1), b"before")
        fails(store)
        with redis_server(unixsocket=path):
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                try:
                    store.set(key_of(1), b"after")
                    break
                except StoreError:
                    time.sleep(0.05)
            assert store.get(key_of(1)) == b"after"
        store.close()


def test_an_error_that_the_server_answers_with_does_not_open_it(redis_url: str) -> None:
    store = RedisStore(redis_url, namespace="wrong-type")
    client: Any = store._connections.sync
    name = store._name(key_of(1))
    client.lpush(name, "not a string")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        store.get(key_of(1))
    with pytest.raises(StoreError, match="WRONGTYPE"):
        store.get(key_of(1))
    client.delete(name)


def test_on_error_raise_raises(closed: str) -> None:
    @llm_cached
    def complete(prompt: str) -> str:
        return prompt

    with Cache.redis(redis_url=closed, on_error="raise"), pytest.raises(StoreError):
        complete("hi")
