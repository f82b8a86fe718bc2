"""The Redis store and a server that cannot be reached: how long callers wait, and until when."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any, Self

import pytest
import redis

from cachewrap.errors import StoreError
from cachewrap.stores.base import Store
from cachewrap.stores.redis import RedisStore
from cachewrap.testing.servers import redis_server
from cachewrap.testing.stores import Calls, key_of

pytestmark = pytest.mark.stores("redis")

VALUE = b"\xff answer"
KEY = key_of(1)

REFUSED = 1.0
"""Seconds that 50 calls may take in all where the port is closed."""

SILENT = 3.5
"""Seconds that they may take where the server never answers: two attempts of 1 second each."""


class Gate:
    """A port in front of a server, or of nothing; closed, it accepts and never answers."""

    def __init__(self, backend: str = "") -> None:
        self._backend = backend
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends = False
        self._open: list[tuple[socket.socket, socket.socket | None]] = []
        self.answers = bool(backend)
        self.accepted = 0
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends = True
        self._thread.join()
        self._listener.close()
        for pair in self._open:
            self._shut(pair)

    def _shut(self, pair: tuple[socket.socket, socket.socket | None]) -> None:
        for one in pair:
            if one is not None:
                one.close()

    def _serve(self) -> None:
        while not self._ends:
            pairs = {one: pair for pair in self._open for one in pair if one is not None}
            for ready in select.select([self._listener, *pairs], [], [], 0.02)[0]:
                if ready is self._listener:
                    self.accepted += 1
                    client, _ = self._listener.accept()
                    server = self._connect() if self.answers else None
                    self._open.append((client, server))
                elif ready.fileno() >= 0:
                    self._pass_on(ready, pairs[ready])

    def _connect(self) -> socket.socket:
        host, _, port = self._backend.removeprefix("redis://").partition("/")[0].rpartition(":")
        return socket.create_connection((host.rpartition("@")[2], int(port)))

    def _pass_on(
        self, ready: socket.socket, pair: tuple[socket.socket, socket.socket | None]
    ) -> None:
        data = b""
        with suppress(OSError):
            data = ready.recv(2**16)
        other = pair[1] if ready is pair[0] else pair[0]
        if not data:
            self._open.remove(pair)
            self._shut(pair)
        elif self.answers and other is not None:
            other.sendall(data)


@pytest.fixture
def silent() -> Iterator[Gate]:
    with Gate() as gate:
        yield gate


@pytest.fixture
def gate(redis_url: str) -> Iterator[Gate]:
    with Gate(redis_url) as gate:
        yield gate


@pytest.fixture
def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"redis://me:secret@127.0.0.1:{server.getsockname()[1]}/0"


def message(use: Callable[[], object]) -> str:
    """What the operation says when it fails."""
    with pytest.raises(StoreError) as caught:
        use()
    return str(caught.value)


def fifty(store: RedisStore) -> float:
    """The seconds that 50 calls take of which each fails."""
    start = time.monotonic()
    for number in range(50):
        with pytest.raises(StoreError):
            store.get(key_of(number))
    return time.monotonic() - start


def fifty_in_threads(store: RedisStore) -> float:
    start = time.monotonic()
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda number: message(lambda: store.get(key_of(number))), range(50)))
    return time.monotonic() - start


def fifty_in_tasks(store: RedisStore) -> float:
    async def work() -> list[bytes | BaseException | None]:
        tasks = [store.aget(key_of(number)) for number in range(50)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    start = time.monotonic()
    assert {type(answer) for answer in asyncio.run(work())} == {StoreError}
    return time.monotonic() - start


def two_hundred_with_few_connections(store: RedisStore) -> float:
    few = RedisStore(f"{store._connections.url}?max_connections=5")

    async def work() -> list[bytes | BaseException | None]:
        tasks = [few.aget(key_of(number)) for number in range(200)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    start = time.monotonic()
    assert {type(answer) for answer in asyncio.run(work())} == {StoreError}
    return time.monotonic() - start


@pytest.mark.parametrize(
    "many", [fifty, fifty_in_threads, fifty_in_tasks, two_hundred_with_few_connections]
)
class TestTime:
    def test_a_server_that_never_answers(
        self, silent: Gate, many: Callable[[RedisStore], float]
    ) -> None:
        assert many(RedisStore(silent.url)) < SILENT

    def test_a_closed_port(self, closed_port: str, many: Callable[[RedisStore], float]) -> None:
        assert many(RedisStore(closed_port)) < REFUSED

    def test_a_server_that_dies(self, many: Callable[[RedisStore], float]) -> None:
        with redis_server(password="own") as server, closing(RedisStore(server.url)) as store:
            store.set(KEY, VALUE)
            server.stop()
            assert many(store) < REFUSED

    def test_a_server_that_falls_silent(
        self, gate: Gate, many: Callable[[RedisStore], float]
    ) -> None:
        with closing(RedisStore(gate.url, namespace=str(uuid.uuid4()))) as store:
            store.get(KEY)
            gate.answers = False
            assert many(store) < SILENT


class TestLeftAlone:
    def test_it_says_until_when_and_why(self, closed_port: str) -> None:
        store = RedisStore(closed_port, breaker_seconds=3600)
        before = time.time()
        first, second = message(lambda: store.get(KEY)), message(lambda: store.get(KEY))
        hours = {time.strftime("%H", time.localtime(at + 3600)) for at in (before, time.time())}
        assert "left alone" not in first
        assert second.partition("left alone until ")[2][:2] in hours
        assert "refused" in second
        assert "secret" not in second

    def test_the_network_is_not_touched(
        self, silent: Gate, calls_of: Callable[[Store], Calls]
    ) -> None:
        store = RedisStore(f"{silent.url}?socket_timeout=0.1")
        with pytest.raises(StoreError):
            store.get(KEY)
        before, calls = silent.accepted, calls_of(store)
        for use in (
            lambda: calls.get(KEY),
            lambda: calls.add(KEY, VALUE),
            lambda: calls.add(KEY, VALUE, over=b"damaged"),
            lambda: calls.set(KEY, VALUE),
            lambda: calls.delete(KEY),
            lambda: calls.keys(),
            lambda: calls.clear(),
            lambda: calls.acquire(KEY, "token", 1),
            lambda: calls.renew(KEY, "token", 1),
            lambda: calls.release(KEY, "token"),
        ):
            assert "left alone" in message(use)
        assert silent.accepted == before

    def test_every_store_of_the_server_shares_it(
        self, closed_port: str, calls_of: Callable[[Store], Calls]
    ) -> None:
        first = RedisStore(closed_port)
        message(lambda: first.get(KEY))
        for other in (first.reseed("42"), RedisStore(closed_port, namespace="other")):
            assert "left alone" in message(lambda: calls_of(other).get(KEY))

    def test_both_causes_are_of_one_kind(self, closed_port: str) -> None:
        store = RedisStore(closed_port)
        causes = []
        for _ in range(2):
            with pytest.raises(StoreError) as caught:
                store.get(KEY)
            causes.append(caught.value.__cause__)
        assert isinstance(causes[0], redis.ConnectionError)
        assert type(causes[0]) is type(causes[1])

    def test_closing_works_all_the_same(
        self, closed_port: str, calls_of: Callable[[Store], Calls]
    ) -> None:
        calls = calls_of(RedisStore(closed_port))
        message(lambda: calls.get(KEY))
        calls.close()


class TestRecovery:
    def test_it_is_used_again_after_the_time(
        self, gate: Gate, calls_of: Callable[[Store], Calls]
    ) -> None:
        url = f"{gate.url}?socket_timeout=0.2"
        store = RedisStore(url, namespace=str(uuid.uuid4()), breaker_seconds=0.5)
        calls = calls_of(store)
        calls.set(KEY, VALUE)
        gate.answers = False
        asked = time.monotonic()
        message(lambda: calls.get(KEY))
        gate.answers = True
        while time.monotonic() - asked < 10:
            with suppress(StoreError):
                assert calls.get(KEY) == VALUE
                break
        assert 0.5 <= time.monotonic() - asked < 10
        assert [calls.get(KEY) for _ in range(3)] == [VALUE] * 3
        calls.clear()
        calls.close()
        store.close()

    def test_one_caller_tries_for_all(self, silent: Gate) -> None:
        store = RedisStore(f"{silent.url}?socket_timeout=0.1", breaker_seconds=0.2)
        message(lambda: store.get(KEY))
        before = silent.accepted
        patient = RedisStore(f"{silent.url}?socket_timeout=0.1", breaker_seconds=3600)
        time.sleep(0.3)  # no event tells that the time has come
        fifty_in_threads(patient)
        assert 1 <= silent.accepted - before <= 2

    def test_a_cancelled_attempt_leaves_it_to_the_next(self, silent: Gate) -> None:
        store = RedisStore(silent.url, breaker_seconds=0.0)

        async def work() -> None:
            with pytest.raises(StoreError):
                await store.aget(KEY)
            patient = RedisStore(silent.url, breaker_seconds=3600)
            attempt = asyncio.ensure_future(patient.aget(KEY))
            before = silent.accepted
            while silent.accepted == before:
                await asyncio.sleep(0.01)
            attempt.cancel()
            with pytest.raises(asyncio.CancelledError):
                await attempt
            with pytest.raises(StoreError, match="did not do its work"):
                await patient.aget(KEY)

        asyncio.run(work())


def full(admin: Any) -> None:
    admin.config_set("maxmemory", 1)


def replica(admin: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        admin.execute_command("REPLICAOF", "127.0.0.1", server.getsockname()[1])


def no_rights(admin: Any) -> None:
    admin.execute_command("ACL", "SETUSER", "default", "-@all")


def other_password(admin: Any) -> None:
    admin.config_set("requirepass", "other")
    admin.execute_command("CLIENT", "KILL", "TYPE", "normal")


class TestAnswers:
    @pytest.mark.parametrize("spoil", [full, replica, no_rights, other_password])
    def test_an_error_that_the_server_answers_is_no_reason(
        self, spoil: Callable[[Any], None], calls_of: Callable[[Store], Calls]
    ) -> None:
        with redis_server(password="own") as server, redis.Redis.from_url(server.url) as admin:
            store = RedisStore(server.url)
            calls = calls_of(store)
            calls.get(KEY)
            spoil(admin)
            for _ in range(3):
                said = message(lambda: calls.add(KEY, VALUE, over=b"damaged"))
                assert "did not do its work" in said
            calls.close()
            store.close()

    def test_a_server_that_is_loading_is_left_alone(self) -> None:
        with _Answering(b"-LOADING the dataset in memory\r\n") as url:
            store = RedisStore(url)
            assert "loading" in message(lambda: store.get(KEY)).lower()
            assert "left alone" in message(lambda: store.get(KEY))


class _Answering:
    """A port that answers the same to everything."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> str:
        self._thread.start()
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, suppress(OSError):
                    while client.recv(2**16):
                        client.sendall(self._answer * 3)
