"""Logs on a server: their keys, what is sent again, and how they are read and listed."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest
import redis

from cachewrap import Cache
from cachewrap.cli.main import main
from cachewrap.errors import StoreError
from cachewrap.stores.redis import RedisStore
from cachewrap.testing.servers import redis_server
from cachewrap.testing.stores import key_of

pytestmark = pytest.mark.stores("redis")

NAME = "n-baseline-1"


@pytest.fixture
def namespace() -> str:
    return f"test-{uuid.uuid4()}"


@pytest.fixture
def logs(redis_url: str, namespace: str) -> Iterator[RedisStore]:
    with closing(RedisStore(redis_url, namespace=namespace)) as store:
        yield store
        store.clear()


@pytest.fixture
def raw(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def test_the_layout(logs: RedisStore, raw: redis.Redis, namespace: str) -> None:
    logs.append_to_log(NAME, [b"first", b"second"])
    place = f"cachewrap:{namespace}:{{{namespace}}}"
    assert raw.lrange(f"{place}:log:{NAME}", 0, -1) == [b"first", b"second"]
    (facts,) = logs.logs()
    assert raw.hgetall(f"{place}:logs") == {NAME.encode(): b"11 %.3f" % facts.changed}


def test_the_mark_of_what_was_added_goes_by_itself(
    logs: RedisStore, raw: redis.Redis, namespace: str
) -> None:
    logs.append_to_log(NAME, [b"piece"])
    (mark,) = raw.scan_iter(f"cachewrap:{namespace}:*:added:*", count=10_000)
    assert 0 < raw.ttl(mark) <= 60


@pytest.mark.parametrize("name", ["a:b", "a{b}", "*", "é", "%"])
def test_a_namespace_with_characters_that_have_a_meaning(redis_url: str, name: str) -> None:
    namespace = f"{uuid.uuid4()}{name}"
    with closing(RedisStore(redis_url, namespace=namespace)) as store:
        store.append_to_log(NAME, [b"piece"])
        assert list(store.read_log(NAME)) == [b"piece"]
        assert (store.remove_log(NAME), store.logs(), store.seeds()) == (True, [], [])


def test_namespaces_have_logs_of_their_own(logs: RedisStore, redis_url: str) -> None:
    logs.append_to_log(NAME, [b"piece"])
    with closing(RedisStore(redis_url, namespace=f"test-{uuid.uuid4()}")) as other:
        assert (list(other.read_log(NAME)), other.logs()) == ([], [])
        assert other.logs_url != logs.logs_url


@contextmanager
def deaf(url: str) -> Iterator[str]:
    """A way to the server on which the answer to the first script is lost, once it has run."""
    host, _, port = url.removeprefix("redis://").partition("/")[0].rpartition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    lost = threading.Event()

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection((host, int(port))) as server, suppress(OSError):
            while data := client.recv(2**20):
                server.sendall(data)
                answer = server.recv(2**16)
                if b"EVAL" in data and not lost.is_set():
                    lost.set()
                    return
                client.sendall(answer)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    with listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        assert lost.is_set()


def test_what_is_sent_again_is_added_once(redis_url: str, logs: RedisStore, namespace: str) -> None:
    with deaf(redis_url) as url, closing(RedisStore(url, namespace=namespace)) as store:
        store.append_to_log(NAME, [b"first", b"second"])
    assert list(logs.read_log(NAME)) == [b"first", b"second"]
    assert [facts.size for facts in logs.logs()] == [11]


def test_small_and_large_pieces_are_read_together(logs: RedisStore) -> None:
    large = [os.urandom(2**24) for _ in range(3)]
    pieces = [b"%d" % number for number in range(3000)]
    pieces[10:10], pieces[2000:2000], pieces[3000:3000] = large[:1], large[1:2], large[2:]
    logs.append_to_log(NAME, pieces)
    assert list(logs.read_log(NAME)) == pieces
    assert [facts.size for facts in logs.logs()] == [sum(map(len, pieces))]


def test_more_than_one_answer_may_have_is_read_in_parts(
    logs: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [b"%d" % number for number in range(2000)] + [b"x" * 3000] * 100
    logs.append_to_log(NAME, pieces)
    monkeypatch.setattr("cachewrap.stores.redis.budget.MOST_BYTES", 50_000)
    assert list(logs.read_log(NAME)) == pieces


def test_a_log_that_the_server_has_evicted_begins_anew(
    logs: RedisStore, raw: redis.Redis, namespace: str
) -> None:
    logs.append_to_log(NAME, [b"x" * 1000])
    raw.delete(f"cachewrap:{namespace}:{{{namespace}}}:log:{NAME}")
    assert list(logs.read_log(NAME)) == []
    logs.append_to_log(NAME, [b"piece"])
    assert [facts.size for facts in logs.logs()] == [5]
    raw.delete(f"cachewrap:{namespace}:{{{namespace}}}:log:{NAME}")
    assert (logs.remove_log(NAME), logs.logs()) == (True, [])


def test_what_another_program_put_there(logs: RedisStore, raw: redis.Redis, namespace: str) -> None:
    place = f"cachewrap:{namespace}:{{{namespace}}}"
    raw.hset(f"{place}:logs", "a", b"\xff")
    assert [(facts.name, facts.size) for facts in logs.logs()] == [("a", 0)]
    raw.set(f"{place}:log:{NAME}", b"text")
    for use in (lambda: list(logs.read_log(NAME)), lambda: logs.append_to_log(NAME, [b"piece"])):
        with pytest.raises(StoreError, match="WRONGTYPE"):
            use()


def test_nothing_is_looked_for_in_the_whole_database() -> None:
    with redis_server() as server, redis.Redis.from_url(server.url) as admin:
        with closing(RedisStore(server.url)) as store:
            store.append_to_log(NAME, [b"piece"])
            assert list(store.read_log(NAME)) == [b"piece"]
            assert len(store.logs()) == 1
            store.remove_log(NAME)
        asked = {name.partition("|")[0] for name in admin.info("commandstats")}
        assert not asked & {"cmdstat_scan", "cmdstat_keys"}


def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with closing(RedisStore(f"redis://127.0.0.1:{port}/0", store_seconds=0.5)) as store:
        for use in (lambda: store.append_to_log(NAME, [b"piece"]), store.logs):
            with pytest.raises(StoreError):
                use()
        with pytest.raises(StoreError, match="left alone until"):
            store.get(key_of(1))


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["clear", "--all-seeds", "--yes"], id="clear"),
        pytest.param(["prune", "--older-than", "0s"], id="prune"),
    ],
)
def test_commands_leave_logs_alone(
    logs: RedisStore, redis_url: str, namespace: str, words: list[str]
) -> None:
    logs.append_to_log(NAME, [b"piece"])
    Cache(logs).set("key", "value")
    with pytest.raises(SystemExit) as stopped:
        main([words[0], f"{redis_url}?namespace={namespace}", *words[1:]])
    assert stopped.value.code in (0, None)
    assert list(logs.read_log(NAME)) == [b"piece"]
