"""Operations of an event loop's tasks, which a Redis store sends together: whose is what."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import redis

from cachewrap.errors import StoreError
from cachewrap.stores.base import Claim
from cachewrap.stores.redis import RedisStore, budget, commands
from cachewrap.testing.stores import key_of

pytestmark = pytest.mark.stores("redis")

KEYS = [key_of(n) for n in range(50)]


class Front:
    """A port in front of a server, or in place of one, which does what a test says.

    Args:
        url: the server; with None what comes is answered by ``answer`` alone.
    """

    def __init__(self, url: str = "", answer: Callable[[int, bytes], bytes] | None = None) -> None:
        self.pieces: list[bytes] = []
        self.accepted = 0
        self.hang_up_at = -1
        self._answer = answer
        self._backend = url.removeprefix("redis://").partition("/")[0].rpartition("@")[2]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def say(self, data: bytes) -> None:
        """Send what nobody has asked for."""
        self._last.sendall(data)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._last = client
                self.accepted += 1
                work = self._play if self._answer else self._pass_on
                threading.Thread(target=work, args=(client, self.accepted), daemon=True).start()

    def _play(self, client: socket.socket, number: int) -> None:
        assert self._answer is not None
        with client, suppress(OSError):
            while asked := client.recv(2**16):
                if b"SETINFO" in asked:
                    client.sendall(b"+OK\r\n" * asked.count(b"SETINFO"))
                else:
                    client.sendall(self._answer(number, asked))

    def _pass_on(self, client: socket.socket, number: int) -> None:
        host, _, port = self._backend.rpartition(":")
        with client, socket.create_connection((host, int(port))) as server, suppress(OSError):
            while asked := client.recv(2**18):
                self.pieces.append(asked)
                if len(self.pieces) == self.hang_up_at:
                    return
                server.sendall(asked)
                expected = asked.count(b"\r\nGET\r\n") or 1
                answer = b""
                while not answer or answer.count(b"$") + answer.count(b"+") < expected:
                    answer += server.recv(2**18)
                client.sendall(answer)


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisStore]:
    store = RedisStore(redis_url, namespace=f"test-{uuid.uuid4()}")
    yield store
    store.clear()
    store.close()


@pytest.fixture
def front(redis_url: str, store: RedisStore) -> Iterator[Front]:
    front = Front(redis_url)
    yield front
    front.close()


def behind(front: Front, store: RedisStore, **options: Any) -> RedisStore:
    """The same entries by another port."""
    return RedisStore(front.url, namespace=store._namespace, **options)


@asynccontextmanager
async def opened(store: RedisStore) -> AsyncIterator[RedisStore]:
    """The store with a connection of this loop's."""
    await store.aget(key_of("another"))
    yield store
    await store.aclose()


async def gets(store: RedisStore, keys: list[str]) -> list[bytes | BaseException | None]:
    return await asyncio.gather(*map(store.aget, keys), return_exceptions=True)


def filled(store: RedisStore) -> list[bytes | None]:
    """Different values under half of the keys, and what all of them give."""
    for n, key in enumerate(KEYS[::2]):
        store.set(key, b"%d" % n * (n * 10))
    return [store.get(key) for key in KEYS]


def test_what_tasks_ask_at_once_goes_in_one_piece(store: RedisStore, front: Front) -> None:
    expected = filled(store)

    async def work() -> None:
        async with opened(behind(front, store)) as other:
            front.pieces.clear()
            assert await gets(other, KEYS) == expected
            assert len(front.pieces) == 1

    asyncio.run(work())
    assert front.accepted == 1


def test_each_operation_has_its_own_answers(store: RedisStore) -> None:
    async def all_of(*operations: Any) -> list[Any]:
        return await asyncio.gather(*operations)

    async def work() -> None:
        some, rest = KEYS[:25], KEYS[25:]
        begun = (store.aacquire_and_get(key, "one", 60) for key in some)
        written = (store.aset(key, key.encode()) for key in rest)
        assert await all_of(*begun, *written) == [(Claim.TAKEN, None)] * 25 + [None] * 25
        read = (store.aget(key) for key in rest)
        ended = (store.aadd_and_release(key, "one", key.encode()) for key in some)
        answers = await all_of(*read, *ended)
        assert answers[:25] == [key.encode() for key in rest]
        assert answers[25:] == [(key.encode(), True) for key in some]

    asyncio.run(work())


def test_an_error_that_the_server_answers_is_told_to_whoever_asked(
    store: RedisStore, redis_url: str
) -> None:
    other = RedisStore(redis_url, namespace=f"{store._namespace}-2")

    async def work() -> None:
        with redis.Redis.from_url(redis_url) as raw:
            raw.rpush(store._name(KEYS[0]), "a list")
        await other.aset(KEYS[1], b"value")
        script = store._one("EVAL", "return redis.error_reply('no')", 1, "key")
        answers = await asyncio.gather(
            *(store.aget(KEYS[0]), store._ado(script), store.aget(KEYS[2])), return_exceptions=True
        )
        assert answers[::2] == [b"", None]
        assert isinstance(answers[1], StoreError)
        assert isinstance(answers[1].__cause__, redis.ResponseError)
        assert await store.aget(KEYS[2]) is None  # the server is not left alone

    asyncio.run(work())
    other.clear()
    other.close()


@pytest.mark.parametrize("turns", range(6))
def test_who_is_cancelled_disturbs_nobody(store: RedisStore, turns: int) -> None:
    expected = filled(store)

    async def work() -> None:
        async with opened(store):
            tasks = [asyncio.create_task(store.aget(key)) for key in KEYS]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in tasks[::3]:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            for n, answer in enumerate(found):
                cancelled = isinstance(answer, asyncio.CancelledError)
                assert answer == expected[n] or (cancelled and n % 3 == 0)
            assert await gets(store, KEYS) == expected

    asyncio.run(work())


def test_the_last_one_who_is_cancelled_ends_what_is_under_way() -> None:
    front = Front(answer=lambda number, asked: b"" if number == 1 else b"$2\r\nhi\r\n")

    async def work() -> None:
        store = RedisStore(front.url)
        tasks = [asyncio.create_task(store.aget(key)) for key in KEYS]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        began = time.monotonic()
        assert all(
            isinstance(one, asyncio.CancelledError)
            for one in await asyncio.gather(*tasks, return_exceptions=True)
        )
        assert len(asyncio.all_tasks()) == 1  # this one
        assert await store.aget(KEYS[0]) == b"hi"
        assert time.monotonic() - began < 0.5
        await store.aclose()

    asyncio.run(work())
    assert front.accepted == 2
    front.close()


def test_what_nobody_waits_for_any_more_is_not_sent_once_there_is_a_connection(
    store: RedisStore, front: Front
) -> None:
    async def work() -> None:
        other = behind(front, store)
        tasks = [asyncio.create_task(other.aget(key)) for key in KEYS[:2]]
        while not front.accepted:
            await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.wait(tasks)
        await other.aclose()

    asyncio.run(work())
    sent = b"".join(front.pieces)
    assert [key.encode() in sent for key in KEYS[:2]] == [False, True]


def test_a_task_of_others_that_is_cancelled_with_all_is_begun_again(store: RedisStore) -> None:
    filled(store)

    async def work() -> None:
        async with opened(store):
            asked = asyncio.create_task(store.aget(KEYS[2]))
            await asyncio.sleep(0)
            for task in asyncio.all_tasks() - {asked, asyncio.current_task()}:
                task.cancel()
            assert await asked == b"1" * 10

    asyncio.run(work())


def test_an_interrupt_between_two_answers_leaves_none_to_another_thread(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets: list[object] = []

    class Idle(list[Any]):
        """Connections that another thread may take as soon as they are here."""

        def append(self, one: Any) -> None:
            sockets.append(one[0]._sock)
            super().append(one)

    store.set(KEYS[0], b"there")
    idle = store._connections.idle = Idle(store._connections.idle)
    read = idle[0][0].read_response

    def read_one() -> None:
        monkeypatch.undo()
        read()
        raise KeyboardInterrupt

    monkeypatch.setattr(idle[0][0], "read_response", read_one)
    with pytest.raises(KeyboardInterrupt):
        store.add(KEYS[0], b"new")
    assert sockets == [None]
    assert store.get(KEYS[0]) == b"there"


@pytest.mark.parametrize("late", [False, True])
def test_what_nobody_has_asked_for_is_nobody_s_answer(late: bool) -> None:
    def answer(number: int, asked: bytes) -> bytes:
        value = b"$1\r\n%d\r\n" % number
        return value * (1 if late else 2)

    front = Front(answer=answer)

    async def work() -> None:
        store = RedisStore(front.url)
        for number in range(1, 4):
            assert await store.aget(KEYS[0]) == b"%d" % number
            if late:
                front.say(b"$1\r\n?\r\n")
                await asyncio.sleep(0.02)
        await store.aclose()

    asyncio.run(work())
    front.close()


def test_a_connection_that_is_lost_is_made_anew_once_for_all(
    store: RedisStore, front: Front
) -> None:
    expected = filled(store)

    async def work() -> None:
        async with opened(behind(front, store)) as other:
            front.hang_up_at = len(front.pieces) + 1
            assert await gets(other, KEYS) == expected

    asyncio.run(work())
    assert front.accepted == 2


def test_what_befalls_the_server_is_told_to_all_by_errors_of_their_own() -> None:
    front = Front(answer=lambda number, asked: b"")

    async def work() -> None:
        store = RedisStore(f"{front.url}?socket_timeout=0.2")
        began = time.monotonic()
        found = await gets(store, KEYS)
        assert time.monotonic() - began < 1.5
        assert all(isinstance(one, StoreError) for one in found)
        assert len(set(map(id, found))) == len(found)
        again = await gets(store, KEYS)
        assert all("left alone" in str(one) for one in again)
        assert len(set(map(id, again))) == len(again)

    asyncio.run(work())
    front.close()


def test_one_of_many_tries_a_server_that_was_left_alone() -> None:
    front = Front(answer=lambda number, asked: b"")

    async def work() -> None:
        url = f"{front.url}?socket_timeout=0.3"
        await gets(RedisStore(url, breaker_seconds=0.05), KEYS[:1])
        await asyncio.sleep(0.1)
        began = time.monotonic()

        async def timed(store: RedisStore) -> float:
            with pytest.raises(StoreError):
                await store.aget(KEYS[0])
            return time.monotonic() - began

        store = RedisStore(url, breaker_seconds=3600)
        waits = await asyncio.gather(*(timed(store) for _ in range(50)))
        assert sorted(wait > 0.25 for wait in waits) == [False] * 49 + [True]

    asyncio.run(work())
    front.close()


def test_batches_that_take_long_keep_nobody_back() -> None:
    """Some connections stall, as where a large answer comes over a slow line."""
    front = Front(answer=lambda number, asked: b"" if number <= 4 else b"$2\r\nhi\r\n")

    async def work() -> None:
        store = RedisStore(f"{front.url}?socket_timeout=1.5", store_seconds=4.0)
        stalled = []
        for key in KEYS[:4]:
            stalled.append(asyncio.create_task(store.aget(key)))
            await asyncio.sleep(0.02)
        began = time.monotonic()
        assert await store.aget(KEYS[4]) == b"hi"
        assert time.monotonic() - began < 1
        for task in stalled:
            task.cancel()
        await asyncio.gather(*stalled, return_exceptions=True)
        await store.aclose()

    asyncio.run(work())
    front.close()


@pytest.mark.parametrize("turns", [1, 2, 3, 4, 5])
def test_a_loop_that_was_kept_busy_says_nothing_about_the_server(
    store: RedisStore, redis_url: str, turns: int
) -> None:
    other = RedisStore(
        f"{redis_url}?socket_timeout=0.1", namespace=store._namespace, store_seconds=0.2
    )
    expected = filled(store)

    async def work() -> None:
        async with opened(other):
            asked = asyncio.ensure_future(gets(other, KEYS))
            for _ in range(turns):
                await asyncio.sleep(0)
            time.sleep(0.4)
            assert await asked == expected

    asyncio.run(work())


def test_large_and_small_ones_together(store: RedisStore) -> None:
    values = [b"%d" % n * (2**n) for n in range(22)]

    async def work() -> None:
        async with opened(store):
            await asyncio.gather(*map(store.aset, KEYS, values))
            assert await gets(store, KEYS[:22]) == values

    asyncio.run(work())


@pytest.mark.parametrize(("largest", "fails"), [(60_000, False), (150_000, True)])
def test_answers_that_are_too_large_together_are_asked_for_one_by_one(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch, largest: int, fails: bool
) -> None:
    sizes = [60_000, 10, largest, 60_000, 10]
    for key, size in zip(KEYS, sizes, strict=False):
        store.set(key, b"x" * size)

    async def work() -> None:
        async with opened(store):
            monkeypatch.setattr(budget, "MOST_BYTES", 100_000)
            found = await gets(store, KEYS[:5])
            told = [len(one) if isinstance(one, bytes) else type(one) for one in found]
            assert told == [StoreError if fails and n == 2 else s for n, s in enumerate(sizes)]

    asyncio.run(work())


def test_blocks_of_whoever_asks_first_are_not_kept(store: RedisStore) -> None:
    """What a task serves for others has a context of its own."""
    seen = []

    async def work() -> None:
        async with opened(store):
            asked = asyncio.create_task(store.aget(KEYS[0]))
            await asyncio.sleep(0)
            (other,) = asyncio.all_tasks() - {asked, asyncio.current_task()}
            seen.extend(other.get_context() if hasattr(other, "get_context") else ())
            await asked

    from cachewrap import Cache

    with Cache.memory():
        asyncio.run(work())
    assert seen == []


def refused(text: str) -> Exception:
    return redis.ResponseError(text)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 1),
        (b"$", 1),
        (b"$5\r", 1),
        (b"$5\r\n", 7),
        (b"$5\r\nhel", 4),
        (b"$5\r\nhello\r", 1),
        (b"$5\r\nhello\r\n", (b"hello", 11)),
        (b"$0\r\n\r\n", (b"", 6)),
        (b"$-1\r\n", (None, 5)),
        (b"+OK\r\n$", (b"OK", 5)),
        (b":-12\r\n", (-12, 6)),
    ],
)
def test_an_answer_is_read_or_what_is_missing_told(data: bytes, expected: object) -> None:
    assert commands._read(data, 0, refused) == expected


def test_an_error_is_an_answer() -> None:
    answer, end = commands._read(b"-ERR no\r\n", 0, refused)  # type: ignore[misc]
    assert (type(answer), str(answer), end) == (redis.ResponseError, "ERR no", 9)


@pytest.mark.parametrize("data", [b"*1\r\n", b"$x\r\n", b"HTTP/1.1 400\r\n", b"\r\n"])
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(redis.RedisError):
        commands._read(data, 0, refused)


def test_commands_are_packed() -> None:
    packed = commands.pack([("GET", b"\xff"), ("SET", "é", 12)])
    assert (
        packed
        == b"*2\r\n$3\r\nGET\r\n$1\r\n\xff\r\n*3\r\n$3\r\nSET\r\n$2\r\n\xc3\xa9\r\n$2\r\n12\r\n"
    )
