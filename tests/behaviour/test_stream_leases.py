"""Streams under leases: in all processes one of them asks, and the lease goes with its answer."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import elsewhere
import openai
import pytest
from fixtures import colour, up
from sdk.openai.asking import Colour
from sdk.openai.test_streams import BROKEN
from standin import Upstream

import cachewrap
from cachewrap import Cache
from cachewrap.call import lease
from cachewrap.stores.base import Claim, Leases, Store

__all__ = ["colour", "up"]

WAIT = 20.0
ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
THEIRS = "another process-1"

pytestmark = pytest.mark.shared


@pytest.fixture(autouse=True)
def patched() -> Iterator[None]:
    cachewrap.patch_openai()
    yield
    cachewrap.unpatch_openai()


@pytest.fixture(autouse=True)
def nothing_is_held() -> Iterator[None]:
    """Afterwards nothing is renewed."""
    yield
    gc.collect()
    until(lambda: not lease._held)
    assert not [one for one in lease._open.values() if one.held]


@pytest.fixture
def client(up: Upstream, colour: Colour) -> Any:
    return colour.client(up, max_retries=0)


@pytest.fixture
def cache(store: Store) -> Cache:
    return Cache(store, stream_leases=True, lease_seconds=1.0)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.001)


def claim(store: Any, key: str, token: str = THEIRS, seconds: float = 60.0) -> Claim:
    """What another process gets that asks for the lease of a key."""
    assert isinstance(store, Leases)
    found = store.acquire(key, token, seconds)
    if found is Claim.TAKEN:
        store.release(key, token)
    return found


def watched(store: Any) -> list[str]:
    """The keys of the leases that are taken in it from now on."""
    keys: list[str] = []
    for name in ("acquire", "aacquire", "acquire_and_get", "aacquire_and_get"):
        if (taking := getattr(store, name, None)) is not None:
            vars(store)[name] = partial(_watch, taking, keys)
    return keys


def _watch(taking: Any, keys: list[str], key: str, token: str, seconds: float) -> Any:
    if token != THEIRS and key not in keys:
        keys.append(key)
    return taking(key, token, seconds)


def held() -> str:
    """The key of the one stream under way."""
    (one,) = [one for one in lease._open.values() if one.held]
    return one.key


def open_stream(colour: Colour, client: Any, **more: Any) -> Any:
    return colour.wait(client.chat.completions.create(**ASKED, stream=True, **more))


def take(colour: Colour, stream: Any) -> Any:
    return next(stream) if colour.name == "sync" else colour.wait(anext(stream))


def rest(colour: Colour, stream: Any) -> list[Any]:
    if colour.name == "sync":
        return list(stream)

    async def arest() -> list[Any]:
        return [item async for item in stream]

    return colour.wait(arest())  # type: ignore[no-any-return]


def test_a_url_can_ask_for_them() -> None:
    cache = Cache.from_url("memory:?stream_leases=true")
    assert cache.policy.stream_leases is True
    assert Cache.memory().policy.stream_leases is False
    assert cache.policy.hits_by_key is True


# -- how a stream ends, and what becomes of its lease ---------------------------------------------


def read_whole(colour: Colour, stream: Any) -> None:
    assert rest(colour, stream)


def close_early(colour: Colour, stream: Any) -> None:
    take(colour, stream)
    colour.wait(stream.close())


def close_unread(colour: Colour, stream: Any) -> None:
    colour.wait(stream.close())


def leave_it(colour: Colour, stream: Any) -> None:
    """The caller drops it."""


def leave_it_amid(colour: Colour, stream: Any) -> None:
    take(colour, stream)


def break_off(colour: Colour, stream: Any) -> None:
    with pytest.raises(BROKEN):
        rest(colour, stream)


def see_an_error(colour: Colour, stream: Any) -> None:
    with pytest.raises(openai.APIError):
        rest(colour, stream)
    colour.wait(stream.close())


Ends = Callable[[Colour, Any], None]


@pytest.mark.parametrize(
    ("manner", "options", "ends", "after"),
    [
        pytest.param({}, {}, read_whole, Claim.TAKEN, id="read-whole"),
        pytest.param({"gzip": True}, {}, read_whole, Claim.TAKEN, id="read-whole-gzip"),
        pytest.param({}, {}, close_early, Claim.TAKEN, id="closed-early"),
        pytest.param({}, {}, close_unread, Claim.TAKEN, id="closed-unread"),
        pytest.param({}, {}, leave_it, Claim.TAKEN, id="dropped"),
        pytest.param({}, {}, leave_it_amid, Claim.TAKEN, id="dropped-amid"),
        pytest.param({"cut_after": 3}, {}, break_off, Claim.FAILED, id="cut"),
        pytest.param({"error_after": 2}, {}, see_an_error, Claim.FAILED, id="an-error-in-it"),
        pytest.param(
            {"finish": False, "done": False}, {}, read_whole, Claim.FAILED, id="no-end-in-it"
        ),
        pytest.param({}, {"max_entry_bytes": 40}, read_whole, Claim.FAILED, id="too-large"),
        pytest.param({}, {"scrub": lambda text: 1 / 0}, read_whole, Claim.FAILED, id="scrub-fails"),
        pytest.param({"stream": False}, {}, leave_it, Claim.TAKEN, id="no-stream"),
    ],
)
@pytest.mark.filterwarnings("ignore::cachewrap.CacheWarning")
def test_it_is_given_back_at_once(
    up: Upstream,
    client: Any,
    colour: Colour,
    store: Store,
    manner: dict[str, Any],
    options: dict[str, Any],
    ends: Ends,
    after: Claim,
) -> None:
    gate = threading.Event()
    up.once(pause=gate, **manner)
    with Cache(store, stream_leases=True, lease_seconds=60.0, **options) as cache:
        stream = open_stream(colour, client)
        key = held()
        assert claim(store, key) is Claim.HELD
        gate.set()
        try:
            ends(colour, stream)
        except (ZeroDivisionError, cachewrap.ConfigurationError):
            assert "scrub" in options
        del stream
        gc.collect()
        until(lambda: claim(store, key) is not Claim.HELD)
        assert claim(store, key) is after
        assert cache.stats.stored == (ends is read_whole and after is Claim.TAKEN)
    assert up.calls == 1


@pytest.mark.parametrize(
    "manner", [{"status": 500}, {"drop": True}], ids=lambda one: next(iter(one))
)
def test_a_request_that_fails_lets_everybody_ask(
    up: Upstream, client: Any, colour: Colour, cache: Cache, manner: dict[str, Any]
) -> None:
    keys = watched(cache.store)
    up.once(**manner)
    with cache, pytest.raises(openai.APIError):
        open_stream(colour, client)
    assert [claim(cache.store, key) for key in keys] == [Claim.FAILED]


def test_what_is_not_wanted_is_given_back(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    keys = watched(cache.store)
    with cachewrap.patch_openai(when=lambda result: False), cache:
        assert rest(colour, open_stream(colour, client))
    assert [claim(cache.store, key) for key in keys] == [Claim.FAILED]
    assert cache.stats.stored == 0


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="by-default"),
        pytest.param({"stream_leases": True, "single_flight": False}, id="without-single-flight"),
        pytest.param({"stream_leases": True, "mode": "read_only"}, id="read-only"),
    ],
)
def test_none_is_taken(
    up: Upstream, client: Any, colour: Colour, store: Store, options: dict[str, Any]
) -> None:
    keys = watched(store)
    with Cache(store, **options):
        assert rest(colour, open_stream(colour, client))
    assert keys == []


@pytest.mark.parametrize("colour", ["async"], indirect=True)
@pytest.mark.parametrize("begun", [False, True], ids=["before-the-head", "amid"])
def test_who_is_cancelled_gives_it_back(
    up: Upstream, client: Any, colour: Colour, cache: Cache, begun: bool
) -> None:
    gate = threading.Event()
    up.once(**({"pause": gate} if begun else {"gate": gate}))

    async def cancelled() -> None:
        reading = asyncio.Event()

        async def read() -> None:
            async for _ in await client.chat.completions.create(**ASKED, stream=True):
                reading.set()

        task = asyncio.create_task(read())
        await (reading.wait() if begun else asyncio.to_thread(up.wait_for, 1))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    keys = watched(cache.store)
    with cache:
        colour.wait(cancelled())
    gate.set()
    until(lambda: claim(cache.store, keys[0]) is Claim.TAKEN)


@pytest.mark.parametrize("colour", ["async"], indirect=True)
def test_when_the_leader_is_cancelled_another_task_does_not_wait_for_his(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    gate = threading.Event()
    up.once(gate=gate)

    async def both() -> list[Any]:
        async def read() -> list[Any]:
            return [one async for one in await client.chat.completions.create(**ASKED, stream=True)]

        first = asyncio.create_task(read())
        await asyncio.to_thread(up.wait_for, 1)
        second = asyncio.create_task(read())
        await asyncio.sleep(0.05)
        first.cancel()
        return await asyncio.wait_for(second, 5.0)

    keys = watched(cache.store)
    with cache:
        assert colour.wait(both())
    gate.set()
    assert (up.calls, cache.stats.stored) == (2, 1)
    assert claim(cache.store, keys[0]) is Claim.TAKEN


def test_it_goes_with_a_loop_that_is_closed(up: Upstream, cache: Cache) -> None:
    gate = threading.Event()
    up.once(pause=gate)

    async def begin() -> None:
        client = openai.AsyncOpenAI(api_key="sk", base_url=up.base_url, max_retries=0)
        stream = await client.chat.completions.create(**ASKED, stream=True)
        await anext(stream)

    keys = watched(cache.store)
    with cache:
        asyncio.run(begin())
    gate.set()
    gc.collect()
    until(lambda: claim(cache.store, keys[0]) is Claim.TAKEN)


def test_a_reader_who_reads_nothing_is_not_waited_for(
    up: Upstream, client: Any, colour: Colour, store: Store
) -> None:
    with Cache(store, stream_leases=True, lease_seconds=0.2) as cache:
        stream = open_stream(colour, client)
        take(colour, stream)
        key = held()
        until(lambda: claim(store, key) is Claim.TAKEN)
        assert rest(colour, stream)
        assert cache.stats.stored == 1


def test_it_is_kept_while_upstream_is_awaited(
    up: Upstream, colour: Colour, client: Any, store: Store
) -> None:
    gate = threading.Event()
    up.once(pause=gate)
    keys = watched(store)
    with Cache(store, stream_leases=True, lease_seconds=0.2) as cache, ThreadPoolExecutor() as pool:
        reading = pool.submit(lambda: rest(colour, open_stream(colour, client, cache=cache)))
        until(lambda: keys and claim(store, keys[0]) is Claim.HELD)
        for _ in range(30):
            time.sleep(0.02)
            assert claim(store, keys[0], seconds=0.2) is Claim.HELD
        gate.set()
        assert reading.result(WAIT)


# -- who meets the lease of another process -------------------------------------------------------


class Others:
    """Another process that has the lease of the stream, and what it may do."""

    def __init__(self, store: Any, key: str) -> None:
        self.store, self.key = store, key
        assert store.acquire(key, THEIRS, 60.0) is Claim.TAKEN

    def give_back(self, failed: bool = False) -> None:
        self.store.release(self.key, THEIRS, failed=failed)


@pytest.fixture
def recorded(up: Upstream, colour: Colour, client: Any, store: Store) -> tuple[str, bytes]:
    """The key of the stream, and its entry."""
    with Cache(store):
        assert rest(colour, open_stream(colour, client))
    (key,) = store.keys()
    value = store.get(key)
    assert value is not None
    store.clear()
    up.reset()
    return key, value


def waiting(
    up: Upstream, colour: Colour, client: Any, cache: Cache, key: str, count: int = 1
) -> Any:
    """Callers who wait, in a pool of one thread."""

    async def acrowd() -> list[Any]:
        return await asyncio.gather(*(aread() for _ in range(count)))

    async def aread() -> list[Any]:
        stream = await client.chat.completions.create(**ASKED, stream=True, cache=cache)
        return [item async for item in stream]

    pool = ThreadPoolExecutor(count)
    if colour.name == "sync":
        read = [
            pool.submit(lambda: list(open_stream(colour, client, cache=cache)))
            for _ in range(count)
        ]
        return lambda: [one.result(WAIT) for one in read]
    asked = pool.submit(lambda: colour.wait(acrowd()))
    return lambda: asked.result(WAIT)


def test_its_answer_is_waited_for(
    up: Upstream, client: Any, colour: Colour, cache: Cache, recorded: tuple[str, bytes]
) -> None:
    key, value = recorded
    others = Others(cache.store, key)
    answers = waiting(up, colour, client, cache, key, 4)
    time.sleep(0.3)
    cache.store.add(key, value)
    others.give_back()
    assert len(answers()) == 4
    assert (up.calls, cache.stats.misses, cache.stats.stored) == (0, 0, 0)
    assert (cache.stats.joined, cache.stats.hits) == (1, 3)


def test_where_it_failed_everybody_asks_at_once(
    up: Upstream, client: Any, colour: Colour, cache: Cache, recorded: tuple[str, bytes]
) -> None:
    key, _ = recorded
    others = Others(cache.store, key)
    answers = waiting(up, colour, client, cache, key, 2)
    time.sleep(0.3)
    others.give_back(failed=True)
    assert len(answers()) == 2
    assert (up.calls, cache.stats.stored) == (1, 1)


def test_where_it_left_one_takes_its_place(
    up: Upstream, client: Any, colour: Colour, cache: Cache, recorded: tuple[str, bytes]
) -> None:
    key, _ = recorded
    others = Others(cache.store, key)
    gate = threading.Event()
    up.once(pause=gate)
    answers = waiting(up, colour, client, cache, key)
    time.sleep(0.3)
    others.give_back()
    up.wait_for(1)
    until(lambda: claim(cache.store, key) is Claim.HELD)
    gate.set()
    assert answers()


def test_one_that_is_not_renewed_is_not_waited_for(
    up: Upstream, client: Any, colour: Colour, cache: Cache, recorded: tuple[str, bytes]
) -> None:
    key, _ = recorded
    others = Others(cache.store, key)  # of Redis it ends by itself, as if its process were gone
    began = time.monotonic()
    assert waiting(up, colour, client, cache, key)()
    assert time.monotonic() - began < 5.0
    assert up.calls == 1
    others.give_back()


def test_who_may_wait_no_longer_asks_himself(
    up: Upstream, client: Any, colour: Colour, store: Store, recorded: tuple[str, bytes]
) -> None:
    key, _ = recorded
    others = Others(store, key)
    cache = Cache(store, stream_leases=True, lease_seconds=60.0, wait_seconds=0.2)
    assert waiting(up, colour, client, cache, key)()
    assert (up.calls, cache.stats.stored) == (1, 1)
    others.give_back()


def test_a_refresh_waits_for_a_refresh(
    up: Upstream, client: Any, colour: Colour, store: Store, recorded: tuple[str, bytes]
) -> None:
    key, value = recorded
    store.set(key, value)
    keys = watched(store)
    with Cache(store, stream_leases=True, lease_seconds=60.0, mode="refresh") as cache:
        assert rest(colour, open_stream(colour, client))
    assert (up.calls, cache.stats.stored) == (1, 1)
    assert store.get(key) != value
    assert keys[0] != key
    assert claim(store, keys[0]) is Claim.TAKEN


# -- in processes ---------------------------------------------------------------------------------

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Four processes, started once."""
    with ProcessPoolExecutor(4, mp_context=SPAWN) as running:
        yield running


def crowd(
    pool: ProcessPoolExecutor,
    cache: Cache,
    up: Upstream,
    prompt: str = "Hi",
    four: Callable[[Cache, str, str], list[str]] = elsewhere.stream_four,
) -> list[Future[list[str]]]:
    return [pool.submit(four, cache, up.base_url, prompt) for _ in range(4)]


def told(asked: list[Future[list[str]]]) -> set[str]:
    answers = [answer for future in asked for answer in future.result(60)]
    assert len(answers) == 16
    return set(answers)


@pytest.mark.parametrize(
    "four",
    [
        pytest.param(elsewhere.stream_four, id="tasks"),
        pytest.param(elsewhere.stream_in_four_threads, id="threads"),
    ],
)
def test_four_processes_of_four_callers_make_one_call(
    up: Upstream, cache: Cache, pool: ProcessPoolExecutor, four: Any
) -> None:
    gate = threading.Event()
    up.once(gap=0.005, gate=gate)
    asked = crowd(pool, cache, up, four=four)
    up.wait_for(1, 60)
    gate.set()
    assert len(told(asked)) == 1
    assert up.calls == 1


def test_where_the_upstream_of_the_first_breaks_the_others_ask_at_once(
    up: Upstream, store: Store, pool: ProcessPoolExecutor
) -> None:
    cache = Cache(store, stream_leases=True, lease_seconds=120.0)
    pause = threading.Event()
    up.once(pause=pause, pause_after=2, cut_after=3)
    leader = pool.submit(elsewhere.stream, cache, up.base_url, "Hi")
    up.wait_for(1, 60)
    asked = [pool.submit(elsewhere.stream, cache, up.base_url, "Hi") for _ in range(3)]
    time.sleep(0.5)
    pause.set()
    began = time.monotonic()
    with pytest.raises(ConnectionError):
        leader.result(60)
    assert len({one.result(60) for one in asked}) <= 3
    assert time.monotonic() - began < 60.0  # in which processes may have had to start
    assert 2 <= up.calls <= 4


def test_where_the_client_of_the_first_leaves_one_of_the_others_asks(
    up: Upstream, cache: Cache, pool: ProcessPoolExecutor, tmp_path: Path
) -> None:
    stage = elsewhere.Stage(tmp_path)
    up.once(pause=threading.Event(), pause_after=2)
    leader = pool.submit(elsewhere.stream_and_leave, cache, up.base_url, "Hi", stage)
    up.wait_for(1, 60)
    up.behave(gap=0.01)
    asked = [pool.submit(elsewhere.stream, cache, up.base_url, "Hi") for _ in range(3)]
    time.sleep(0.5)
    stage.note("leave")
    leader.result(60)
    assert len({one.result(60) for one in asked}) == 1
    assert up.calls == 2


def test_the_stream_of_a_killed_process_is_asked_for_anew(
    up: Upstream, cache: Cache, pool: ProcessPoolExecutor
) -> None:
    up.once(pause=threading.Event(), pause_after=2)
    leader = SPAWN.Process(target=elsewhere.stream, args=(cache, up.base_url, "Hi"))
    leader.start()
    up.wait_for(1, 60)
    up.behave(gap=0.01)
    asked = crowd(pool, cache, up)
    time.sleep(0.5)
    leader.kill()
    killed = time.monotonic()
    leader.join()
    assert len(told(asked)) == 1
    assert time.monotonic() - killed < 60.0  # of `wait_seconds=600`
    assert up.calls == 2


def test_no_lease_is_left_by_round_after_round(
    up: Upstream, cache: Cache, pool: ProcessPoolExecutor
) -> None:
    keys = watched(cache.store)
    for number in range(10):
        before = up.calls
        answers = told(crowd(pool, cache, up, f"Question {number}"))
        assert (len(answers), up.calls - before) == (1, 1)
    assert keys == []
    taken = [
        claim(cache.store, key, f"{THEIRS}-{number}")
        for number, key in enumerate(cache.store.keys())
    ]
    assert taken == [Claim.TAKEN] * 10


AT_EXIT = """
import atexit, os, pickle, sys

atexit.register(os._exit, 0)  # as the last one: Python 3.13.0 would crash behind it
import openai
import cachewrap

with open(sys.argv[1], "rb") as file:
    cache = pickle.load(file)
cachewrap.patch_openai()
client = openai.OpenAI(api_key="sk", base_url=sys.argv[2], max_retries=0)
asked = [{"role": "user", "content": "Hi"}]
stream = client.chat.completions.create(model="m", messages=asked, stream=True, cache=cache)
next(stream)
"""


def test_who_exits_amid_a_stream_leaves_none(up: Upstream, store: Store, tmp_path: Path) -> None:
    up.once(pause=threading.Event(), pause_after=2)
    cache = Cache(store, stream_leases=True, lease_seconds=60.0)
    file = tmp_path / "cache.pickle"
    file.write_bytes(pickle.dumps(cache))
    subprocess.run([sys.executable, "-c", AT_EXIT, file, up.base_url], check=True, timeout=60)
    assert up.calls == 1
    client = openai.OpenAI(api_key="sk", base_url=up.base_url, max_retries=0)
    keys = watched(store)
    began = time.monotonic()
    with cache:
        assert list(client.chat.completions.create(**ASKED, stream=True))
    assert time.monotonic() - began < 5.0
    assert claim(store, keys[0]) is Claim.TAKEN


@pytest.mark.posix("forks")
@pytest.mark.parametrize("colour", ["sync"], indirect=True)
def test_a_forked_child_leaves_that_of_its_parent(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        stream = open_stream(colour, client)
        key = held()
        child = os.fork()
        if not child:
            try:
                del stream
                gc.collect()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert claim(cache.store, key) is Claim.HELD
        assert rest(colour, stream)
