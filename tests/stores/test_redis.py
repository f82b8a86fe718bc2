"""The Redis store: ways to connect, the layout of keys, and what it does without a server."""

from __future__ import annotations

import asyncio
import gc
import pickle
import socket
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from typing import Self

import pytest
import redis

from cachewrap import Cache, llm_cached
from cachewrap.errors import ConfigurationError, StoreError
from cachewrap.stores.base import Claim, new_token
from cachewrap.stores.redis import RedisStore
from cachewrap.testing.servers import RedisServer, redis_server
from cachewrap.testing.stores import AsyncCalls, SyncCalls, key_of

pytestmark = pytest.mark.stores("redis")

VALUE = b"\xff answer"
SECRET = "p@ss/w:rd#?"


@pytest.fixture
def namespace() -> str:
    return f"test-{uuid.uuid4()}"


@pytest.fixture
def remote(redis_url: str, namespace: str) -> Iterator[RedisStore]:
    store = RedisStore(redis_url, namespace=namespace)
    yield store
    store.clear()
    store.close()


@pytest.fixture
def raw(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def own_server() -> AbstractContextManager[RedisServer]:
    """A server that nobody else talks to, even where the environment names one for the tests."""
    return redis_server(password=SECRET)


def works(store: RedisStore) -> bool:
    """Whether both colours store and read."""

    async def read_and_write() -> bytes | None:
        assert await store.aget(key_of("nothing")) is None
        await store.aset(key_of("async"), VALUE)
        return await store.aget(key_of("sync"))

    store.set(key_of("sync"), VALUE)
    try:
        return asyncio.run(read_and_write()) == store.get(key_of("async")) == VALUE
    finally:
        store.clear()
        store.close()


class TestConnecting:
    def test_tls(self) -> None:
        with redis_server(tls=True) as server:
            assert server.url.startswith("rediss://")
            assert works(RedisStore(server.url))

    def test_tls_with_an_authority_that_is_not_known(self) -> None:
        with redis_server(tls=True) as server:
            store = RedisStore(server.url.partition("?")[0])
            with pytest.raises(StoreError, match="certificate"):
                store.get(key_of(1))
            store.close()

    def test_no_unix_sockets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(socket, "AF_UNIX")
        with pytest.raises(ConfigurationError, match="this system has no Unix sockets"):
            Cache.from_url("unix:///run/redis.sock")

    def test_unix_socket(self) -> None:
        with (
            tempfile.TemporaryDirectory() as folder,
            redis_server(unixsocket=f"{folder}/socket") as server,
        ):
            assert server.url.startswith("unix://")
            assert works(RedisStore(server.url))

    def test_password(self) -> None:
        with redis_server(password=SECRET) as server:
            assert works(RedisStore(server.url))

    def test_password_on_a_unix_socket(self) -> None:
        with (
            tempfile.TemporaryDirectory() as folder,
            redis_server(unixsocket=f"{folder}/socket", password=SECRET) as server,
        ):
            assert works(RedisStore(server.url))

    def test_user_with_rights_to_our_keys_alone(self) -> None:
        with redis_server(password=SECRET) as server:
            with redis.Redis.from_url(server.url) as admin:
                admin.execute_command(
                    "ACL", "SETUSER", "me", "on", ">word", "~cachewrap:*", "+@all", "-@dangerous"
                )
            url = f"redis://me:word@{server.url.rpartition('@')[2]}"
            assert works(RedisStore(url))

    def test_wrong_password(self) -> None:
        with redis_server(password=SECRET) as server:
            store = RedisStore(server.url.replace("redis://:", "redis://:not-"))
            with pytest.raises(StoreError) as caught:
                store.get(key_of(1))
            assert isinstance(caught.value.__cause__, redis.RedisError)
            store.close()

    def test_a_server_that_comes_back_is_used_again(self) -> None:
        with own_server() as server, redis.Redis.from_url(server.url) as admin:
            store = RedisStore(server.url)
            store.set(key_of(1), VALUE)
            admin.client_kill_filter(skipme=True, _type="normal")
            assert store.get(key_of(1)) == VALUE
            store.clear()
            store.close()

    def test_a_server_that_hung_up_between_two_reads_is_asked_again(self) -> None:
        with own_server() as server, redis.Redis.from_url(server.url) as admin:
            store = RedisStore(server.url)
            store.set(key_of(1), VALUE)
            store.get(key_of(1))
            admin.client_kill_filter(skipme=True, _type="normal")
            assert store.get(key_of(1)) == VALUE
            store.close()


class TestUrl:
    @pytest.mark.parametrize(
        "options",
        [
            "decode_responses=True",
            "decode_responses=True&encoding=utf-16",
            "protocol=3",
            "protocol=2",
            "socket_timeout=5&socket_connect_timeout=5",
            "health_check_interval=30",
            "max_connections=2",
            "client_name=somebody",
            "db=0",
        ],
    )
    def test_options_are_obeyed_or_do_no_harm(self, redis_url: str, options: str) -> None:
        assert works(RedisStore(f"{redis_url}?{options}", namespace=str(uuid.uuid4())))

    def test_databases_are_apart(self, redis_url: str, namespace: str) -> None:
        place = redis_url.rpartition("/")[0]
        one, other = (RedisStore(f"{place}/{db}", namespace=namespace) for db in (0, 1))
        one.set(key_of(1), VALUE)
        assert other.get(key_of(1)) is None
        one.clear()
        one.close()
        other.close()

    @pytest.mark.parametrize(
        ("given", "shown"),
        [
            ("redis://localhost", "redis://localhost:6379/0"),
            ("redis://localhost:6379/0", "redis://localhost:6379/0"),
            ("redis://user:secret@localhost/2", "redis://localhost:6379/2"),
            ("redis://localhost?db=2&password=secret", "redis://localhost:6379/2"),
            ("rediss://:secret@localhost/0?ssl_cert_reqs=none", "rediss://localhost:6379/0"),
            ("redis://:secret@[::1]:7000/0", "redis://[::1]:7000/0"),
            ("redis+cluster://u:secret@a:7000,b", "redis+cluster://a:7000,b:6379"),
            ("rediss+cluster://a/0?ssl_cert_reqs=none", "rediss+cluster://a:6379"),
            (
                "redis+sentinel://:secret@a:1,[::1],c:3/serv%20ice/2?sentinel_password=secret",
                "redis+sentinel://a:1,[::1]:26379,c:3/serv%20ice/2",
            ),
            ("rediss+sentinel://a/service", "rediss+sentinel://a:26379/service/0"),
        ],
    )
    def test_it_shows_the_place_alone(self, given: str, shown: str) -> None:
        assert RedisStore(given).url == f"{shown}?namespace=default&cache_seed=41"

    def test_it_shows_a_socket(self) -> None:
        url = RedisStore("unix://user:secret@/run/redis.sock?db=3").url
        assert url == "unix:///run/redis.sock?db=3&namespace=default&cache_seed=41"

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "localhost:6379",
            "http://localhost",
            "redis://localhost:port/0",
            "redis://:secret/word@localhost/0",
            "redis://localhost?db=secret",
            "redis://localhost?unheard_of=secret",
            "redis://localhost?socket_timeout=secret",
            "redis+cluster://a:port,b",
            "redis+cluster://a:1,b:port",
            "redis+cluster://a?unheard_of=secret",
            "redis+sentinel://a:1,b:port/service",
            "redis+sentinel://:secret/word@localhost/service/0",
            "redis+sentinel://a/service?unheard_of=secret",
            "redis+other://a",
        ],
    )
    def test_one_that_cannot_work_is_refused_at_once(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match=r"redis://\[user:password@\]host") as caught:
            RedisStore(url)
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None

    def test_a_cluster_has_no_other_database(self) -> None:
        with pytest.raises(ConfigurationError, match="database"):
            RedisStore("redis+cluster://localhost/1")

    @pytest.mark.parametrize("url", ["redis+sentinel://localhost", "redis+sentinel://a,b/"])
    def test_sentinels_watch_a_service(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="service"):
            RedisStore(url)

    def test_an_empty_namespace_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="namespace"):
            RedisStore(namespace="")


class TestKeys:
    def test_the_layout(self, remote: RedisStore, raw: redis.Redis, namespace: str) -> None:
        remote.set(key_of(1), VALUE)
        assert raw.get(f"cachewrap:{namespace}:41:{{{key_of(1)}}}") == VALUE

    @pytest.mark.parametrize("name", ["a:b", "a{b}", "*", "a?[b]\\", "é", "a b", "%"])
    def test_characters_with_a_meaning_are_encoded(self, name: str, raw: redis.Redis) -> None:
        store = RedisStore(_url_of(raw), seed=name, namespace=f"{uuid.uuid4()}{name}")
        store.set(key_of(1), VALUE)
        (stored,) = raw.scan_iter(f"*{{{key_of(1)}}}", count=10_000)
        parts = stored.decode().split(":")
        assert (len(parts), stored.count(b"{")) == (4, 1)
        assert list(store.keys()) == [key_of(1)]
        assert store.clear() == 1
        store.close()

    def test_what_else_lies_beside_an_entry_is_not_ours(
        self, remote: RedisStore, raw: redis.Redis, namespace: str
    ) -> None:
        beside = f"cachewrap:{namespace}:41:{{{key_of(1)}}}:lease"
        raw.set(beside, "token")
        assert (list(remote.keys()), remote.clear(), raw.exists(beside)) == ([], 0, 1)
        raw.delete(beside)

    def test_clear_takes_one_partition_among_many_entries(
        self, remote: RedisStore, raw: redis.Redis, namespace: str
    ) -> None:
        others = [f"cachewrap:{namespace}:{seed}:{{{key_of(1)}}}" for seed in ("4", "411", "42")]
        others += [f"cachewrap:{namespace}-2:41:{{{key_of(1)}}}", f"{namespace}:foreign"]
        with raw.pipeline(transaction=False) as pipeline:
            for name in others:
                pipeline.set(name, VALUE)
            for number in range(10_000):
                pipeline.set(f"cachewrap:{namespace}:41:{{{key_of(number)}}}", VALUE)
            pipeline.execute()
        assert remote.clear() == 10_000
        assert raw.exists(*others) == len(others)
        raw.delete(*others)

    def test_keys_and_flushes_are_never_asked_for(self) -> None:
        with own_server() as server, redis.Redis.from_url(server.url) as admin:
            store = RedisStore(server.url)
            store.set(key_of(1), VALUE)
            list(store.keys())
            store.clear()
            asked = {name.partition("|")[0] for name in admin.info("commandstats")}
            assert "cmdstat_scan" in asked
            assert not asked & {"cmdstat_keys", "cmdstat_flushdb", "cmdstat_flushall"}
            store.close()


class TestExpiry:
    def test_the_server_knows_it(
        self, remote: RedisStore, raw: redis.Redis, namespace: str
    ) -> None:
        at = time.time() + 1000
        remote.set(key_of("set"), VALUE, expires=at)
        remote.add(key_of("add"), VALUE, expires=at)
        remote.set(key_of("over"), b"damaged")
        remote.add(key_of("over"), VALUE, expires=at, over=b"damaged")
        for key in map(key_of, ("set", "add", "over")):
            left = raw.pttl(f"cachewrap:{namespace}:41:{{{key}}}")
            assert 990_000 < left <= 1_000_000

    def test_without_one_an_entry_stays(
        self, remote: RedisStore, raw: redis.Redis, namespace: str
    ) -> None:
        remote.add(key_of(1), VALUE)
        remote.add(key_of(1), b"mended", over=VALUE)
        assert raw.pttl(f"cachewrap:{namespace}:41:{{{key_of(1)}}}") == -1


class TestRoundTrips:
    def test_add_takes_one(self, redis_url: str, namespace: str) -> None:
        with _Counted(redis_url) as front:
            store = RedisStore(front.url, namespace=namespace)
            store.get(key_of(0))
            front.turns = 0
            store.add(key_of(1), VALUE)
            store.add(key_of(1), b"second")
            assert front.turns == 2
            store.clear()
            store.close()

    def test_each_step_of_a_lease_takes_one(self, redis_url: str, namespace: str) -> None:
        with _Counted(redis_url) as front:
            store = RedisStore(front.url, namespace=namespace)
            store.get(key_of(0))
            for use in (
                lambda: store.acquire(key_of(1), "one", 60),
                lambda: store.acquire(key_of(1), "other", 60),
                lambda: store.renew(key_of(1), "one", 60),
                lambda: store.release(key_of(1), "one", failed=True),
                lambda: store.acquire(key_of(1), "other", 60),
                lambda: store.release(key_of(1), "other"),
            ):
                front.turns = 0
                use()
                assert front.turns == 1
            store.close()

    @pytest.mark.parametrize("colour", ["sync", "async"])
    def test_each_pair_takes_one(self, redis_url: str, namespace: str, colour: str) -> None:
        with _Counted(redis_url) as front, asyncio.Runner() as runner:
            store = RedisStore(front.url, namespace=namespace)
            calls = SyncCalls(store) if colour == "sync" else AsyncCalls(store, runner)
            calls.get(key_of(0))
            for use in (
                lambda: calls.acquire_and_get(key_of(1), "one", 60),
                lambda: calls.add_and_release(key_of(1), "one", VALUE),
                lambda: calls.add_and_release(key_of(1), "one", b"mended", over=VALUE),
            ):
                front.turns = 0
                use()
                assert front.turns == 1
            calls.clear()
            calls.close()
            store.close()

    @pytest.mark.parametrize(
        ("prompt", "turns"), [("miss", 3), ("hit", 1), ("fails", 3), ("not stored", 3)]
    )
    def test_a_call_takes_few(
        self, redis_url: str, namespace: str, prompt: str, turns: int
    ) -> None:
        @llm_cached(when=lambda answer: answer != "not stored")
        def ask(prompt: str) -> str:
            if prompt == "fails":
                raise ZeroDivisionError
            return prompt

        with (
            _Counted(redis_url) as front,
            Cache(RedisStore(front.url, namespace=namespace)) as cache,
        ):
            ask("hit")
            front.turns = 0
            with suppress(ZeroDivisionError):
                ask(prompt)
            assert front.turns == turns
            cache.clear()


class TestLeftOver:
    """Leases that this process could not give back, because the server was away."""

    def test_one_keeps_nobody_of_this_process_out(self, redis_url: str, namespace: str) -> None:
        store = RedisStore(redis_url, namespace=namespace)
        left, mine = new_token(), new_token()
        assert store.acquire(key_of(1), left, 60) is Claim.TAKEN
        assert store.acquire(key_of(1), mine, 60) is Claim.FAILED
        assert store.acquire(key_of(1), "another-process", 60) is Claim.HELD
        assert asyncio.run(store.aacquire(key_of(1), mine, 60)) is Claim.FAILED
        store.release(key_of(1), left)
        store.close()

    def test_a_call_does_not_wait_for_it(self, redis_url: str, namespace: str) -> None:
        @llm_cached
        def complete(prompt: str) -> str:
            return prompt

        store = RedisStore(redis_url, namespace=namespace)
        store.acquire(complete.cache_key("hi"), new_token(), 60)
        with Cache(store) as cache:
            began = time.monotonic()
            assert complete("hi") == "hi"
            assert time.monotonic() - began < 5
            assert cache.stats.stored == 1


class TestFaults:
    def test_a_server_that_is_not_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        store = RedisStore(f"redis://me:secret@127.0.0.1:{port}/0", breaker_seconds=1e-9)
        Cache(store).check()
        for use in _uses(store):
            start = time.monotonic()
            with pytest.raises(StoreError, match=f"127.0.0.1:{port}") as caught:
                use()
            assert time.monotonic() - start < 2
            assert isinstance(caught.value.__cause__, redis.RedisError | OSError)
            assert "secret" not in str(caught.value)
        store.close()

    def test_a_server_that_does_not_answer(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            store = RedisStore(f"redis://127.0.0.1:{port}/0?socket_timeout=0.1")
            for use in _uses(store)[:2]:
                start = time.monotonic()
                with pytest.raises(StoreError):
                    use()
                assert time.monotonic() - start < 3
            store.close()

    def test_a_server_that_is_stopped(self) -> None:
        with own_server() as server:
            store = RedisStore(server.url)
            store.set(key_of(1), VALUE)
            server.stop()
            with pytest.raises(StoreError):
                store.get(key_of(1))
            store.close()

    def test_a_server_that_refuses_writes(self) -> None:
        with redis_server(password=SECRET) as server:
            with redis.Redis.from_url(server.url) as admin:
                admin.config_set("maxmemory", 1)
            store = RedisStore(server.url)
            for write in (store.set, store.add):
                with pytest.raises(StoreError, match="maxmemory"):
                    write(key_of(1), VALUE)
            assert store.get(key_of(1)) is None
            store.close()


class TestClients:
    def test_16_threads_enter_and_use_one_store_at_once(self, remote: RedisStore) -> None:
        start = threading.Barrier(16)

        def work(number: int) -> None:
            start.wait()
            for turn in range(30):
                key = key_of((number, turn))
                assert remote.add(key, VALUE) == VALUE
                assert remote.get(key) == VALUE
                remote.close()

        with ThreadPoolExecutor(16) as threads:
            list(threads.map(work, range(16)))

    def test_200_tasks_at_once(self, remote: RedisStore) -> None:
        async def work() -> list[bytes | None]:
            return await asyncio.gather(*(remote.aget(key_of(1)) for _ in range(200)))

        remote.set(key_of(1), VALUE)
        assert asyncio.run(work()) == [VALUE] * 200

    def test_loops_that_end_leave_nothing_open(self) -> None:
        async def work(store: RedisStore) -> None:
            await store.aset(key_of(1), VALUE)
            await store.reseed("42").aget(key_of(1))

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()  # what tests before this one left to the collector is not at issue here
        with own_server() as server, redis.Redis.from_url(server.url) as raw:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                store = RedisStore(server.url)
                for _ in range(3):
                    asyncio.run(work(store))
                gc.collect()
            assert _settles(lambda: len(raw.client_list()), 1)

    def test_a_store_that_is_dropped_in_a_running_loop_closes_its_connections(self) -> None:
        async def work(url: str, raw: redis.Redis) -> bool:
            store = RedisStore(url)
            await store.aget(key_of(1))
            del store
            for _ in range(200):
                if len(raw.client_list()) == 1:
                    return True
                gc.collect()  # what a server refused, an old one CLIENT SETINFO, is kept by a cycle
                await asyncio.sleep(0.01)
            return False

        with own_server() as server, redis.Redis.from_url(server.url) as raw:
            assert asyncio.run(work(server.url, raw))

    def test_aclose_closes_the_loop_s_connections_and_the_next_call_opens_them(
        self, remote: RedisStore
    ) -> None:
        async def work() -> bytes | None:
            await remote.aset(key_of(1), VALUE)
            await remote.aclose()
            await remote.aclose()
            return await remote.aget(key_of(1))

        assert asyncio.run(work()) == VALUE

    def test_reads_and_writes_share_a_connection(self) -> None:
        with own_server() as server, redis.Redis.from_url(server.url) as raw:
            store = RedisStore(server.url)
            for n in range(3):
                store.get(key_of(n))
                store.get(key_of(n))
                store.set(key_of(n), VALUE)
            assert len(raw.client_list()) == 2
            store.close()

    def test_close_closes_the_connection_of_reads_and_the_next_one_opens_it(self) -> None:
        with own_server() as server, redis.Redis.from_url(server.url) as raw:
            store = RedisStore(server.url)
            store.set(key_of(1), VALUE)
            store.get(key_of(1))
            store.close()
            assert _settles(lambda: len(raw.client_list()), 1)
            assert store.get(key_of(1)) == VALUE
            store.close()

    def test_partitions_share_connections(self) -> None:
        with own_server() as server, redis.Redis.from_url(server.url) as raw:
            store = RedisStore(server.url)
            for seed in range(10):
                store.reseed(str(seed)).get(key_of(1))
            assert len(raw.client_list()) == 2
            store.close()

    def test_a_pickled_copy_keeps_namespace_and_credentials(self) -> None:
        store = RedisStore("redis://me:word@host/3", "7", namespace="mine")
        copy = pickle.loads(pickle.dumps(store))
        assert copy.url == store.url
        assert copy._connections.url == "redis://me:word@host/3"

    def test_a_cancelled_call_does_not_spoil_the_next(self, remote: RedisStore) -> None:
        async def work() -> list[bytes | None]:
            for number in range(20):
                await remote.aset(key_of(number), b"%d" % number)
            for number in range(20):
                task = asyncio.create_task(remote.aget(key_of(number)))
                for _ in range(number % 5):
                    await asyncio.sleep(0)
                task.cancel()
            return [await remote.aget(key_of(number)) for number in range(20)]

        assert asyncio.run(work()) == [b"%d" % number for number in range(20)]


def _uses(store: RedisStore) -> list[Callable[[], object]]:
    key = key_of(1)
    return [
        lambda: store.get(key),
        lambda: asyncio.run(store.aget(key)),
        lambda: store.add(key, VALUE),
        lambda: asyncio.run(store.aadd(key, VALUE)),
        lambda: store.add(key, VALUE, over=b"damaged"),
        lambda: asyncio.run(store.aadd(key, VALUE, over=b"damaged")),
        lambda: store.set(key, VALUE),
        lambda: asyncio.run(store.aset(key, VALUE)),
        lambda: store.delete(key),
        lambda: asyncio.run(store.adelete(key)),
        lambda: list(store.keys()),
        lambda: store.clear(),
        lambda: asyncio.run(store.aclear()),
    ]


def _settles(read: Callable[[], int], expected: int) -> bool:
    """Whether the server's count reaches what is expected; it notices a closed socket later."""
    for _ in range(200):
        if read() == expected:
            return True
        time.sleep(0.01)
    return False


def _url_of(client: redis.Redis) -> str:
    options = client.connection_pool.connection_kwargs
    return f"redis://{options['host']}:{options['port']}/{options.get('db', 0)}"


class _Counted:
    """A port in front of a server that counts how often the talk turns from client to server."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("redis://").partition("/")[0].rpartition(":")
        self._backend = socket.create_connection((host.rpartition("@")[2], int(port)))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.turns = 0
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(10)
        self._listener.close()
        self._backend.close()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client:
            while asked := client.recv(2**16):
                self.turns += 1
                self._backend.sendall(asked)
                client.sendall(self._backend.recv(2**16))
