"""Async calls under a guard that raises where an event loop is blocked: blockbuster itself."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockingError, blockbuster_ctx

import cachewrap
from cachewrap import Cache, CacheWarning, llm_cached
from cachewrap.format import envelope
from cachewrap.http.request import fingerprints
from cachewrap.stores.base import Claim, Leases, Store
from cachewrap.testing.stores import key_of

httpx: Any = importlib.import_module("httpx" if importlib.util.find_spec("httpx") else "httpx2")

MESSAGE = {"role": "assistant", "content": "text " * 100}
LONG = {"choices": [{"index": 0, "finish_reason": "stop", "message": MESSAGE}]}
LARGE = "x" * 2**21  # a file of its own beside the database

pytestmark = pytest.mark.filterwarnings("error::cachewrap.CacheWarning")


class Upstream:
    """Answers, and counts its calls."""

    def __init__(self, answer: Any = LONG) -> None:
        self.calls = 0
        self.answer = answer

    def ask(self, question: str) -> Any:
        self.calls += 1
        return self.answer


def run_guarded(work: Callable[[], Any]) -> Any:
    """What async work gives on an event loop that is guarded."""

    async def main() -> Any:
        with pytest.raises(BlockingError):  # the guard is awake
            Path(__file__).read_bytes()
        return await work()

    with blockbuster_ctx():
        return asyncio.run(main())


@pytest.mark.parametrize("answer", ["short", LONG, LARGE], ids=["short", "compressed", "large"])
def test_an_async_function_is_a_miss_and_then_a_hit(store: Store, answer: Any) -> None:
    up = Upstream(answer)

    @llm_cached(cache=Cache(store))
    async def complete(question: str) -> Any:
        return up.ask(question)

    async def work() -> list[Any]:
        return [await complete("q") for _ in range(3)]

    assert run_guarded(work) == [answer] * 3
    assert up.calls == 1


def test_an_async_generator_is_a_miss_and_then_a_hit(store: Store) -> None:
    up = Upstream()

    @llm_cached(cache=Cache(store))
    async def stream(question: str) -> AsyncIterator[Any]:
        yield up.ask(question)
        yield "end"

    async def work() -> list[Any]:
        return [[item async for item in stream("q")] for _ in range(3)]

    assert run_guarded(work) == [[LONG, "end"]] * 3
    assert up.calls == 1


def test_fifty_at_once_ask_once(store: Store) -> None:
    up = Upstream()

    @llm_cached(cache=Cache(store))
    async def complete(question: str) -> Any:
        await asyncio.sleep(0.01)
        return up.ask(question)

    async def work() -> list[Any]:
        return await asyncio.gather(*(complete("q") for _ in range(50)))

    assert run_guarded(work) == [LONG] * 50
    assert up.calls == 1


def test_what_fails_is_asked_anew(store: Store) -> None:
    up = Upstream()

    @llm_cached(cache=Cache(store))
    async def complete(question: str) -> Any:
        answer = up.ask(question)
        if up.calls == 1:
            raise ConnectionError
        return answer

    async def work() -> Any:
        with pytest.raises(ConnectionError):
            await complete("q")
        return [await complete("q") for _ in range(2)]

    assert run_guarded(work) == [LONG] * 2
    assert up.calls == 2


@pytest.mark.parametrize("mode", ["normal", "refresh", "read_only", "replay"])
def test_every_mode(store: Store, mode: Any) -> None:
    up = Upstream()
    cache = Cache(store)

    @llm_cached(cache=cache)
    async def complete(question: str) -> Any:
        return up.ask(question)

    async def work() -> Any:
        await complete("q")
        with cache.mode(mode):
            return await complete("q")

    assert run_guarded(work) == LONG
    assert up.calls == (2 if mode == "refresh" else 1)


def test_a_retry_and_an_encrypted_entry(store: Store) -> None:
    up = Upstream()
    cache = Cache(store, encryption_key=b"0" * 32)

    @llm_cached(cache=cache, retry=2)
    async def complete(question: str) -> Any:
        return up.ask(question)

    async def work() -> list[Any]:
        return [await complete("q") for _ in range(2)]

    assert run_guarded(work) == [LONG] * 2
    assert up.calls == 1


def test_blocks_enter_and_leave(store: Store) -> None:
    up = Upstream()

    @llm_cached
    async def complete(question: str) -> Any:
        return up.ask(question)

    async def work() -> None:
        cache = Cache(store)
        for question in ("b", "a", "b", "a"):
            async with cache:
                await complete(question)
            with cache:
                await complete(question)
        await cache.aclose()
        cache.close()

    run_guarded(work)
    assert up.calls == 2


def test_an_http_client(store: Store) -> None:
    up = Upstream()

    def answer(request: Any) -> Any:
        return httpx.Response(200, json=up.ask(request.url.path))

    transport: Any = cachewrap.AsyncCachedTransport(httpx.MockTransport(answer), cache=Cache(store))

    async def work() -> list[Any]:
        async with httpx.AsyncClient(transport=transport) as client:
            ask = partial(client.post, "http://up/v1/chat/completions", json={"model": "m"})
            return [(await ask()).json() for _ in range(3)]

    assert run_guarded(work) == [LONG] * 3
    assert up.calls == 1


def test_the_async_methods_of_a_store(store: Store) -> None:
    key = key_of(1)

    async def work() -> None:
        assert await store.aget(key) is None
        assert await store.aadd(key, entry("one")) == entry("one")
        await store.aset(key, entry("two"))
        assert await store.aget(key) == entry("two")
        assert [found async for found in store.akeys()] == [key]
        assert await store.adelete(key)
        await store.aadd(key, entry("three"))
        assert await store.aclear() == 1
        await store.aclose()

    run_guarded(work)


def test_leases_are_taken_and_given_back(store: Store) -> None:
    if not isinstance(store, Leases):
        pytest.skip("this store has none")

    async def work() -> list[Claim]:
        took = [await store.aacquire(key_of(1), owner, 60) for owner in ("one", "two")]
        assert await store.arenew(key_of(1), "one", 60)
        await store.arelease(key_of(1), "one")
        return [*took, await store.aacquire(key_of(1), "two", 60)]

    assert run_guarded(work) == [Claim.TAKEN, Claim.HELD, Claim.TAKEN]


@pytest.mark.parametrize("kind", ["disk", "jsonl"])
def test_sync_methods_on_a_loop_work_as_well(kind: str, make_store: Any) -> None:
    store: Store = make_store(kind)
    cache = Cache(store)
    up = Upstream()

    @llm_cached(cache=cache)
    def complete(question: str) -> Any:
        return up.ask(question)

    async def work() -> None:
        assert [complete("q") for _ in range(3)] == [LONG] * 3
        cache.set("key", "value")
        assert cache.get("key") == "value"
        assert cache.delete("key")
        assert len(list(cache.keys())) == 1
        cache.check()
        assert cache.clear() == 1
        cache.close()

    run_guarded(work)
    assert up.calls == 1


def test_a_size_limit(tmp_path: Path) -> None:
    up = Upstream()
    cache = Cache.disk(41, tmp_path, max_bytes=2**20)

    @llm_cached(cache=cache)
    async def complete(question: str) -> Any:
        return up.ask(question)

    async def work() -> None:
        for _ in range(2):
            with cache:
                await complete("q")

    run_guarded(work)
    assert up.calls == 1


def test_an_upload_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "speech.mp3"
    file.write_bytes(b"sound" * 10_000)
    plain = fingerprints({"file": file})

    async def work() -> list[Any]:
        with file.open("rb") as opened:
            return [fingerprints({"file": file}), fingerprints({"file": opened})]

    assert run_guarded(work) == [plain, plain]


def test_the_guard_sees_that_there_are_no_plugins(make_store: Any) -> None:
    from cachewrap import plugins

    class Strange:
        pass

    async def work() -> Any:
        plugins._declared.cache_clear()
        return plugins.codec_of(Strange)

    assert run_guarded(work) is None


def test_nothing_hops_once_the_guard_is_gone(tmp_path: Path, monkeypatch: Any) -> None:
    cache = Cache.disk(41, tmp_path)

    @llm_cached(cache=cache)
    async def complete(question: str) -> Any:
        return "answer"

    run_guarded(partial(complete, "q"))
    monkeypatch.setattr("cachewrap.loops.Workers.do", None)
    assert asyncio.run(complete("q")) == "answer"


BY_AUDIT = """
import asyncio, sys, warnings
from cachewrap import Cache, llm_cached
warnings.simplefilter("ignore")  # no lease can be taken
calls = []

@llm_cached
async def complete(question):
    calls.append(question)
    return question

def hook(event, args):
    if event in ("open", "sqlite3.connect"):
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise RuntimeError(f"{event} blocks the event loop")

async def main():
    assert [await complete(q) for q in "aabbcc"] == list("aabbcc")

with Cache.disk(41, "answers") as cache:
    asyncio.run(complete("a"))
    cache.close()
    sys.addaudithook(hook)  # which cannot be taken out
    asyncio.run(main())
    print(len(calls))
"""


def test_a_guard_that_nothing_shows_costs_a_thread_and_no_answer(tmp_path: Path) -> None:
    assert run_elsewhere(tmp_path, BY_AUDIT) == "3\n"


IMPORTED_LATER = """
import asyncio, sys, warnings
from blockbuster import BlockBuster
warnings.simplefilter("error")
BlockBuster().activate()
kind, place = sys.argv[1:]

async def main():
    from cachewrap import Cache, llm_cached
    calls = []
    cache = {
        "memory": lambda: Cache.memory(),
        "disk": lambda: Cache.disk(41, "answers"),
        "jsonl": lambda: Cache.jsonl("answers.jsonl"),
        "redis": lambda: Cache.redis(redis_url=place),
    }[kind]()

    @llm_cached
    async def complete(question):
        calls.append(question)
        return {"answer": "text " * 200, "list": [question] * 20}

    @llm_cached
    async def stream(question):
        calls.append(question)
        yield {"answer": "text " * 200, "list": [question] * 20}

    for _ in range(3):
        async with cache:
            await complete("q")
            [item async for item in stream("q")]
    with cache:
        await complete("q")
    print(len(calls))

asyncio.run(main())
"""


def test_a_guard_that_was_there_before_us(
    store_kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = request.getfixturevalue("redis_url") if store_kind == "redis" else ""
    assert run_elsewhere(tmp_path, IMPORTED_LATER, store_kind, place) == "2\n"


def run_elsewhere(folder: Path, program: str, *words: str) -> str:
    """What a program prints that has nothing to complain of."""
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("fails", [False, True], ids=["answers", "fails"])
def test_who_is_cancelled_leaves_nothing_behind(store: Store, fails: bool) -> None:
    asked = 0

    @llm_cached(cache=Cache(store))
    async def complete(question: str) -> Any:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.001)
        if fails and asked % 2:
            raise ConnectionError
        return LONG

    async def work() -> None:
        for number in range(40):
            task = asyncio.create_task(complete(f"q{number}"))
            await asyncio.sleep(number / 10_000)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            again = (complete(f"q{number}") for _ in range(3))
            given = await asyncio.wait_for(asyncio.gather(*again, return_exceptions=True), 5)
            assert all(answer == LONG or isinstance(answer, ConnectionError) for answer in given)
            assert LONG in given or fails

    run_guarded(work)


def test_lines_that_others_add_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    up = Upstream()

    @llm_cached
    async def complete(question: str) -> Any:
        return up.ask(question)

    async def record() -> list[str]:
        async with Cache.jsonl(path):
            for question in "cab":
                await complete(question)
            return []

    async def work() -> None:
        async with Cache.jsonl(path):
            text = path_text.pop()
            path.write_text("")
            assert await complete("c") == LONG
            path.write_text(text)
            for question in "cab":
                await complete(question)

    asyncio.run(record())
    path_text = [path.read_text()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        asyncio.run(work())
    assert up.calls == 4


def test_lines_stand_in_the_order_in_which_they_were_asked(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    order = [f"q{number:02}" for number in range(40)]

    @llm_cached
    async def complete(question: str) -> Any:
        await asyncio.sleep((40 - int(question[1:])) / 2000)
        return question

    async def work() -> None:
        async with Cache.jsonl(path):
            await asyncio.gather(*map(complete, order))

    run_guarded(work)
    lines = path.read_text().splitlines()[1:]
    assert [question for line in lines for question in order if f'"{question}"' in line] == [
        question for question in order for _ in range(lines[0].count('"q00"') and 1)
    ]


def entry(text: str) -> bytes:
    """What a cache stores."""
    from cachewrap.entry import Facts
    from cachewrap.format import codec

    return envelope.seal(*codec.encode(text), b"", Facts(created=0.0, seconds=0.0))
