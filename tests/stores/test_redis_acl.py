"""A Redis user with the rights that the manual names, and no others, can do all that is needed."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from cachewrap.errors import StoreError
from cachewrap.stores.base import Claim
from cachewrap.stores.redis import RedisStore
from cachewrap.testing.servers import redis_cluster, redis_server
from cachewrap.testing.stores import AsyncCalls, Calls, SyncCalls, key_of

VALUE = b"\xff answer"
ONE, OTHER = key_of(1), key_of(2)


def rights() -> list[str]:
    """What the ACL line in the documentation of `RedisStore` grants, in the namespace ``mine``."""
    (line,) = re.findall(r"ACL SETUSER <user> (.*?)\n\n", RedisStore.__doc__ or "", re.DOTALL)
    words = str(line).replace("<password>", "word").replace("<namespace>", "mine")
    return words.split()


def test_the_manual_names_the_same() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "stores.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"ACL SETUSER <user> (.*)\n", manual)
    words = str(line).replace("<password>", "word").replace("<namespace>", "mine")
    assert words.split() == rights()


def grant(url: str) -> None:
    """Make the user on the server at the URL."""
    with redis.Redis.from_url(url) as admin:
        client: Any = admin
        version = tuple(map(int, client.info("server")["redis_version"].split(".")))
        given = [right for right in rights() if version >= (7, 2) or right != "+client|setinfo"]
        client.execute_command("ACL", "SETUSER", "me", *given)


@contextmanager
def single() -> Iterator[str]:
    with redis_server(password="own") as server:
        grant(server.url)
        yield f"redis://me:word@{server.url.rpartition('@')[2]}"


@contextmanager
def single_other_database() -> Iterator[str]:
    with single() as url:
        yield f"{url[:-1]}3"


@contextmanager
def cluster() -> Iterator[str]:
    with redis_cluster() as servers:
        for node in servers.nodes:
            grant(node.url)
        yield servers.url.replace("//", "//me:word@")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(single, marks=pytest.mark.stores("redis")),
        pytest.param(single_other_database, marks=pytest.mark.stores("redis")),
        pytest.param(cluster, marks=pytest.mark.stores("cluster")),
    ],
)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server, with the user in its URL."""
    with request.param() as url:
        yield url


@pytest.fixture(params=["sync", "async"])
def calls(request: pytest.FixtureRequest, url: str) -> Iterator[Calls]:
    with closing(RedisStore(url, namespace="mine")) as store, asyncio.Runner() as runner:
        yield SyncCalls(store) if request.param == "sync" else AsyncCalls(store, runner)
        runner.run(store.aclose())
        store.clear()


def test_entries(calls: Calls) -> None:
    calls.set(ONE, b"damaged", expires=time.time() + 60)
    assert calls.add(ONE, VALUE, over=b"damaged", expires=time.time() + 60) == VALUE
    assert calls.add(ONE, b"second") == VALUE
    assert calls.add(OTHER, VALUE) == calls.get(OTHER) == VALUE
    assert sorted(calls.keys()) == sorted([ONE, OTHER])
    assert calls.delete(OTHER) is True
    assert calls.clear() == 1


def test_leases(calls: Calls) -> None:
    key = key_of(calls)  # a failure outlives its test
    assert calls.acquire(key, "one", 60) is Claim.TAKEN
    assert calls.renew(key, "one", 60) is True
    assert calls.acquire(key, "other", 60) is Claim.HELD
    calls.release(key, "one")
    assert calls.acquire(key, "other", 60) is Claim.TAKEN
    calls.release(key, "other", failed=True)
    assert calls.acquire(key, "third", 60) is Claim.FAILED


def test_logs(url: str) -> None:
    with closing(RedisStore(url, namespace="mine")) as store:
        store.append_to_log("a", [VALUE, b"second"])
        assert list(store.read_log("a")) == [VALUE, b"second"]
        assert [facts.name for facts in store.logs()] == ["a"]
        assert (store.remove_log("a"), store.logs()) == (True, [])


def test_a_health_check(url: str) -> None:
    with closing(RedisStore(f"{url}?health_check_interval=1", namespace="mine")) as store:
        store.set(ONE, VALUE)
        time.sleep(1.1)  # the interval is in whole seconds
        assert store.get(ONE) == VALUE
        store.clear()


@pytest.mark.parametrize("namespace", ["theirs", "mine2", "min"])
def test_nothing_of_another_tenant_s(url: str, namespace: str) -> None:
    with closing(RedisStore(url, namespace=namespace)) as store:
        for use in (store.get, store.delete, lambda key: store.set(key, VALUE)):
            with pytest.raises(StoreError, match=r"(?i)no permissions"):
                use(ONE)


def test_no_other_command(url: str) -> None:
    with closing(RedisStore(url, namespace="mine")) as store, store._connections.using() as client:
        with pytest.raises(redis.ResponseError):
            client.execute_command("FLUSHALL")
        with pytest.raises(redis.ResponseError):
            client.execute_command("GETDEL", f"cachewrap:mine:41:{{{ONE}}}")
