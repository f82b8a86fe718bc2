"""The stores keep the promises of every store; Redis does in each of its forms."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cachewrap.stores.base import Store
from cachewrap.testing.stores import StoreSuite


@pytest.mark.stores("memory")
class TestMemoryStore(StoreSuite):
    persistent = False
    drops_expired = False

    @pytest.fixture
    def store(self, make_store: Callable[[str], Store]) -> Store:
        return make_store("memory")


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
