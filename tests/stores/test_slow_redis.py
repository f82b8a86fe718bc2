"""The Redis store and a server that is ill or hostile: how long an operation takes at most."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import redis
from stalling import Line, Listener

from cachewrap import Cache
from cachewrap.errors import StoreError
from cachewrap.stores import breaker
from cachewrap.stores.base import Claim, Store
from cachewrap.stores.redis import RedisStore, budget
from cachewrap.testing.stores import Calls, key_of

pytestmark = pytest.mark.stores("redis")

KEY = key_of(1)
SECONDS = 0.6
"""What an operation may take here."""

SLACK = 1.0


class Server(Listener):
    """Answers ``+OK`` to whatever connects, and to each other command what a test says.

    Args:
        answer: is given a connection and what came on it.
    """

    def __init__(self, answer: Callable[[socket.socket, bytes], object]) -> None:
        super().__init__(self._listen)
        self._answer = answer
        self.asked = 0

    def _listen(self, one: socket.socket) -> None:
        while data := one.recv(2**16):
            if b"SETINFO" in data or b"SELECT" in data:
                one.sendall(b"+OK\r\n" * data.count(b"*"))
            else:
                self.asked += 1
                self._answer(one, data)


def trickle(one: socket.socket, _: bytes) -> None:
    """An answer that comes byte by byte, each of them in time, for half a minute."""
    one.sendall(b"$600\r\n")
    for _byte in range(600):
        one.sendall(b"x")
        time.sleep(0.05)


def trickle_head(one: socket.socket, _: bytes) -> None:
    """An answer whose length does not end."""
    one.sendall(b"$")
    for _digit in range(600):
        one.sendall(b"0")
        time.sleep(0.05)


def pour(one: socket.socket, _: bytes) -> None:
    """An answer that promises ten gigabytes, and brings them."""
    one.sendall(b"$10000000000\r\n")
    piece = b"x" * 2**20
    while True:
        one.sendall(piece)


def pour_head(one: socket.socket, _: bytes) -> None:
    """A line without an end."""
    piece = b"+" + b"x" * 2**20
    while True:
        one.sendall(piece)


def promise(one: socket.socket, _: bytes) -> None:
    """An answer that promises ten gigabytes, and brings none."""
    one.sendall(b"$10000000000\r\n")


def nothing(one: socket.socket, _: bytes) -> None:
    """No answer."""


def seconds_of(use: Callable[[], object]) -> float:
    """How long an operation takes that fails."""
    began = time.monotonic()
    with pytest.raises(StoreError):
        use()
    return time.monotonic() - began


@pytest.mark.parametrize(
    "answer", [trickle, trickle_head, pour, pour_head, promise, nothing], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("operation", ["get", "add", "set", "delete"])
def test_an_operation_ends_whatever_the_server_does(
    answer: Callable[[socket.socket, bytes], object],
    operation: str,
    calls_of: Callable[[Store], Calls],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budget, "MOST_BYTES", 2**24)
    with Server(answer) as server:
        store = RedisStore(f"redis://127.0.0.1:{server.port}/0", store_seconds=SECONDS)
        calls = calls_of(store)
        args = {"get": (), "delete": ()}.get(operation, (b"x",))
        assert seconds_of(lambda: getattr(calls, operation)(KEY, *args)) < 5 * SECONDS + SLACK
        calls.close()
        store.close()


@pytest.mark.parametrize("answer", [trickle, trickle_head, nothing], ids=lambda f: f.__name__)
def test_a_server_that_was_slow_is_left_alone(
    answer: Callable[[socket.socket, bytes], object], calls_of: Callable[[Store], Calls]
) -> None:
    with Server(answer) as server:
        store = RedisStore(f"redis://127.0.0.1:{server.port}/0", store_seconds=SECONDS)
        calls = calls_of(store)
        seconds_of(lambda: calls.get(KEY))
        asked = server.asked
        assert seconds_of(lambda: [calls.get(KEY) for _ in range(50)]) < SLACK
        assert server.asked == asked
        calls.close()
        store.close()


def test_connecting_ends_where_the_greeting_trickles(calls_of: Callable[[Store], Calls]) -> None:
    def greet(one: socket.socket) -> None:
        while True:
            one.sendall(b"+")
            time.sleep(0.05)

    with Listener(greet) as server:
        store = RedisStore(f"redis://127.0.0.1:{server.port}/0", store_seconds=SECONDS)
        assert seconds_of(lambda: calls_of(store).get(KEY)) < 2 * SECONDS + SLACK
        store.close()


LARGE = b"x" * 2**22
SMALL_KEY = key_of(2)
PATIENCE = 1.0
"""What an operation may take there: five times as long for a large value."""


@pytest.fixture
def line(redis_url: str) -> Iterator[Line]:
    """One on which a large value takes twice as long as an operation on another may."""
    with Line(redis_url, len(LARGE) / (2 * PATIENCE)) as line:
        yield line


@pytest.fixture
def slow(line: Line) -> Iterator[RedisStore]:
    """A store at its end, with a small entry."""
    store = RedisStore(line.url, namespace=str(uuid.uuid4()), store_seconds=PATIENCE)
    store.set(SMALL_KEY, b"small")
    yield store
    line.pace = float("inf")
    breaker.forget()
    store.clear()
    store.close()


class TestLargeValues:
    def test_an_answer_has_the_time_that_it_takes(
        self, slow: RedisStore, redis_url: str, calls_of: Callable[[Store], Calls]
    ) -> None:
        near = RedisStore(redis_url, namespace=slow._namespace)
        near.set(KEY, LARGE)
        calls = calls_of(slow)
        assert calls.get(KEY) == LARGE
        assert calls.get(SMALL_KEY) == b"small"
        calls.close()
        near.close()

    @pytest.mark.parametrize("operation", ["add", "set"])
    def test_a_write_has_the_time_that_it_takes(
        self, slow: RedisStore, line: Line, operation: str, calls_of: Callable[[Store], Calls]
    ) -> None:
        calls = calls_of(slow)
        getattr(calls, operation)(KEY, LARGE)
        line.pace = float("inf")
        assert calls.get(KEY) == LARGE
        calls.close()

    def test_one_that_cannot_be_written_in_time_keeps_nothing_else_back(
        self, slow: RedisStore, line: Line, calls_of: Callable[[Store], Calls]
    ) -> None:
        calls = calls_of(slow)
        line.pace = len(LARGE) / (20 * PATIENCE)
        assert seconds_of(lambda: calls.set(KEY, LARGE)) < 5 * PATIENCE + SLACK
        assert calls.get(SMALL_KEY) == b"small"
        with pytest.raises(StoreError, match="large values are not written"):
            calls.set(KEY, LARGE)
        calls.add(key_of(3), b"small")
        assert calls.get(key_of(3)) == b"small"
        calls.close()

    def test_one_is_written_again_after_a_while(
        self, slow: RedisStore, line: Line, calls_of: Callable[[Store], Calls]
    ) -> None:
        calls = calls_of(slow)
        slow._connections.breaker_seconds = 0.3
        line.pace = len(LARGE) / (20 * PATIENCE)
        seconds_of(lambda: calls.set(KEY, LARGE))
        line.pace = float("inf")
        time.sleep(0.4)
        calls.set(KEY, LARGE)
        assert calls.get(KEY) == LARGE
        calls.close()

    def test_a_line_that_carries_nothing_is_given_up_soon(
        self, slow: RedisStore, line: Line, calls_of: Callable[[Store], Calls]
    ) -> None:
        calls = calls_of(slow)
        assert calls.get(SMALL_KEY) == b"small"
        line.pace = 0
        assert seconds_of(lambda: calls.set(KEY, 8 * LARGE)) < 4 * PATIENCE + SLACK
        calls.close()

    def test_who_is_cancelled_leaves_no_half_of_one_behind(
        self, slow: RedisStore, line: Line
    ) -> None:
        async def main() -> None:
            await slow.aget(SMALL_KEY)
            writing = asyncio.create_task(slow.aset(KEY, LARGE))
            await asyncio.sleep(0.5)
            writing.cancel()
            with suppress(asyncio.CancelledError):
                await writing
            assert await slow.aget(SMALL_KEY) == b"small"
            assert await slow.aget(KEY) is None
            await slow.aclose()

        asyncio.run(main())

    def test_many_are_scanned(self, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Together they are more than one operation may bring, and one is by itself."""
        monkeypatch.setattr(budget, "MOST_BYTES", 2**20)
        store = RedisStore(redis_url, namespace=str(uuid.uuid4()))
        values = {key_of(number): b"x" * (2**17 + number) for number in range(20)}
        values |= {key_of(number): b"x" for number in range(20, 250)}
        for key, value in values.items():
            store.set(key, value)
        store.set(key_of(999), b"x" * 2**21)
        assert dict(store.scan()) == {**values, key_of(999): b""}
        store.clear()
        store.close()


def dead_port() -> int:
    """A port that accepts no connection, and refuses none: its queue is full."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    port: int = listener.getsockname()[1]
    _kept.append(listener)
    for _ in range(3):
        one = socket.socket()
        one.setblocking(False)
        with suppress(BlockingIOError):
            one.connect(("127.0.0.1", port))
        _kept.append(one)
    return port


_kept: list[socket.socket] = []


@pytest.mark.posix("full queues that drop what comes")
class TestManyNodes:
    def test_a_cluster_of_nodes_that_do_not_answer(
        self, calls_of: Callable[[Store], Calls]
    ) -> None:
        hosts = ",".join(f"127.0.0.1:{dead_port()}" for _ in range(8))
        store = RedisStore(f"redis+cluster://{hosts}", store_seconds=SECONDS)
        assert seconds_of(lambda: calls_of(store).get(KEY)) < 2 * SECONDS + SLACK

    def test_a_cluster_that_names_nodes_that_do_not_answer(
        self, calls_of: Callable[[Store], Calls]
    ) -> None:
        dead = [dead_port() for _ in range(8)]
        width = 16384 // len(dead)

        def answer(one: socket.socket, data: bytes) -> None:
            if b"SLOTS" in data or b"SHARDS" in data:
                slots = b"*%d\r\n" % len(dead)
                for number, port in enumerate(dead):
                    slots += b"*3\r\n:%d\r\n:%d\r\n" % (number * width, (number + 1) * width - 1)
                    slots += b"*3\r\n$9\r\n127.0.0.1\r\n:%d\r\n$40\r\n%040d\r\n" % (port, port)
                one.sendall(slots)
            elif b"COMMAND" in data:
                one.sendall(b"*0\r\n")
            elif b"INFO" in data:
                one.sendall(b"$17\r\ncluster_enabled:1\r\n")
            else:
                one.sendall(b"+OK\r\n")

        with Server(answer) as server:
            url = f"redis+cluster://127.0.0.1:{server.port}"
            store = RedisStore(url, store_seconds=SECONDS)
            assert seconds_of(lambda: calls_of(store).get(KEY)) < 3 * SECONDS + 2 * SLACK

    def test_a_cluster_that_redirects_for_ever(self, calls_of: Callable[[Store], Calls]) -> None:
        def answer(one: socket.socket, data: bytes) -> None:
            if b"SLOTS" in data:
                node = b"*3\r\n$9\r\n127.0.0.1\r\n:%d\r\n$40\r\n%040d\r\n" % (server.port, 1)
                one.sendall(b"*1\r\n*3\r\n:0\r\n:16383\r\n" + node)
            elif b"COMMAND" in data:
                one.sendall(b"*0\r\n")
            elif b"INFO" in data:
                one.sendall(b"$17\r\ncluster_enabled:1\r\n")
            else:
                time.sleep(0.1)
                one.sendall(b"-MOVED 5 127.0.0.1:%d\r\n" % server.port)

        with Server(answer) as server:
            url = f"redis+cluster://127.0.0.1:{server.port}"
            store = RedisStore(url, store_seconds=SECONDS)
            assert seconds_of(lambda: calls_of(store).get(KEY)) < 2 * SECONDS + SLACK

    def test_sentinels_that_name_a_master_that_does_not_answer(
        self, calls_of: Callable[[Store], Calls]
    ) -> None:
        dead = dead_port()

        def answer(one: socket.socket, _: bytes) -> None:
            fields = {"name": "service", "ip": "127.0.0.1", "port": str(dead), "flags": "master"}
            fields |= {"num-slaves": "0", "num-other-sentinels": "0", "quorum": "1"}
            flat = [word for pair in fields.items() for word in pair]
            master = b"*%d\r\n" % len(flat)
            master += b"".join(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in flat)
            one.sendall(b"*1\r\n" + master)

        with Server(answer) as server:
            url = f"redis+sentinel://127.0.0.1:{server.port}/service/0"
            store = RedisStore(url, store_seconds=SECONDS)
            assert seconds_of(lambda: calls_of(store).get(KEY)) < 3 * SECONDS + SLACK


def test_a_server_is_waited_for_as_long_as_any_system_counts(
    redis_url: str, calls_of: Callable[[Store], Calls]
) -> None:
    cache = Cache.redis(redis_url=redis_url, store_seconds=1e308, lease_seconds=1e308)
    calls, seconds = calls_of(cache._store), cache.policy.lease_seconds
    assert calls.get(KEY) is None
    assert calls.acquire(KEY, "one-1", seconds) is Claim.TAKEN
    calls.release(KEY, "one-1")
    calls.close()
    cache.close()


class TestLeasesThatDoNotEnd:
    @pytest.fixture
    def store(self, redis_url: str) -> Iterator[RedisStore]:
        store = RedisStore(redis_url, namespace=str(uuid.uuid4()))
        yield store
        redis.Redis.from_url(redis_url).delete(store._lease(KEY))
        store.close()

    def test_one_without_an_end_gets_one(
        self, store: RedisStore, redis_url: str, calls_of: Callable[[Store], Calls]
    ) -> None:
        redis.Redis.from_url(redis_url).set(store._lease(KEY), "somebody-1")
        calls = calls_of(store)
        assert calls.acquire(KEY, "other-1", 0.2) is Claim.HELD
        end = time.monotonic() + 5
        while calls.acquire(KEY, "other-1", 0.2) is not Claim.TAKEN:
            assert time.monotonic() < end
            time.sleep(0.02)
        calls.close()

    @pytest.mark.parametrize("kind", ["list", "hash", "set"])
    def test_one_of_another_type_is_a_leftover(
        self, store: RedisStore, redis_url: str, calls_of: Callable[[Store], Calls], kind: str
    ) -> None:
        server = redis.Redis.from_url(redis_url)
        name = store._lease(KEY)
        {
            "list": lambda: server.rpush(name, "a"),
            "hash": lambda: server.hset(name, "a", "b"),
            "set": lambda: server.sadd(name, "a"),
        }[kind]()
        calls = calls_of(store)
        assert calls.acquire(KEY, "other-1", 60) is Claim.FAILED
        assert 0 < int(server.pttl(name)) <= 60_000  # type: ignore[arg-type]
        calls.close()

    @pytest.mark.parametrize("far", [3_600_000, 2**52], ids=["an hour", "absurd"])
    def test_one_whose_end_is_far_off_gets_a_near_one(
        self, store: RedisStore, redis_url: str, calls_of: Callable[[Store], Calls], far: int
    ) -> None:
        redis.Redis.from_url(redis_url).set(store._lease(KEY), "somebody-1", px=far)
        calls = calls_of(store)
        assert calls.acquire(KEY, "other-1", 0.2) is Claim.HELD
        end = time.monotonic() + 5
        while calls.acquire(KEY, "other-1", 0.2) is not Claim.TAKEN:
            assert time.monotonic() < end
            time.sleep(0.02)
        calls.close()

    def test_one_that_is_held_keeps_its_end(self, store: RedisStore, redis_url: str) -> None:
        assert store.acquire(KEY, "one-1", 5) is Claim.TAKEN
        assert store.acquire(KEY, "other-1", 600) is Claim.HELD
        assert int(redis.Redis.from_url(redis_url).pttl(store._lease(KEY))) <= 5000  # type: ignore[arg-type]
