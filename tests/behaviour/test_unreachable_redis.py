"""Calls through a Redis that cannot be reached wait for it once, and go on without it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from cachewrap import Cache, CacheWarning, StoreError, llm_cached

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


def test_on_error_raise_raises(closed: str) -> None:
    @llm_cached
    def complete(prompt: str) -> str:
        return prompt

    with Cache.redis(redis_url=closed, on_error="raise"), pytest.raises(StoreError):
        complete("hi")
