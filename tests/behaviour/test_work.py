"""How much work a hit is, counted: Python calls, SQLite statements, Redis commands. No times."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import itertools
import sqlite3
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pydantic
import pytest
import redis
from colours import COLOURS, Function
from pydantic import BaseModel
from working import work_of

from cachewrap import Cache, blocks, llm_cached, no_cache
from cachewrap.format import envelope
from cachewrap.request import states
from cachewrap.stores.redis import RedisStore

MESSAGES = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
LONG = MESSAGES * 20
IO = Path("/proc/self/io")
SLACK = 0 if sys.version_info >= (3, 12) else 2
"""Before Python 3.12 a comprehension is a function that is called."""


class Counter:
    """Counts the calls of Python functions, and of those of C."""

    def __init__(self) -> None:
        self.python = self.c = 0

    def _count(self, frame: Any, event: str, what: Any) -> None:
        if event == "call":
            self.python += 1
        elif event == "c_call":
            self.c += 1


def count(call: Callable[[], Any]) -> tuple[int, int]:
    """The calls of Python functions and of C functions that a call makes, itself left out."""
    call()
    call()
    counter = Counter()
    gc.disable()  # what other tests left behind tells of its end by calls of its own
    sys.setprofile(counter._count)
    try:
        call()
    finally:
        sys.setprofile(None)
        gc.enable()
    return counter.python - 1, counter.c - 1  # the call itself, and setprofile


@llm_cached(cache=Cache.memory())
def complete(messages: list[dict[str, Any]], *, model: str, temperature: float = 0.0) -> str:
    return "an answer"


@llm_cached(cache=Cache.memory())
async def acomplete(messages: list[dict[str, Any]], *, model: str) -> str:
    return "an answer"


def test_a_hit_in_memory_makes_few_calls() -> None:
    with Cache.memory():
        python, c = count(lambda: complete(MESSAGES, model="m"))
    assert (python <= 11, c <= 33) == (True, True), (python, c)


def test_a_hit_of_an_activated_cache_makes_two_more() -> None:
    blocks.activate(Cache.memory())
    try:
        python, c = count(lambda: complete(MESSAGES, model="m"))
    finally:
        blocks.serve_program(None)
    assert (python <= 14, c <= 35) == (True, True), (python, c)


def test_a_hit_on_disk_makes_few_calls(tmp_path: Any) -> None:
    with Cache.disk(cache_path_root=tmp_path):
        python, c = count(lambda: complete(MESSAGES, model="m"))
    assert (python <= 14, c <= 47) == (True, True), (python, c)


def test_a_long_conversation_makes_no_more_python_calls() -> None:
    with Cache.memory():
        short, _ = count(lambda: complete(MESSAGES, model="m"))
        long, _ = count(lambda: complete(LONG, model="m"))
    assert long == short


class Message(BaseModel):
    role: str
    content: str


def test_a_hit_makes_one_call_for_each_model_in_a_list() -> None:
    short, long = ([Message(**one) for one in messages] for messages in (MESSAGES, LONG))
    with Cache.memory():
        few, _ = count(lambda: complete(short, model="m"))
        many, _ = count(lambda: complete(long, model="m"))
    assert (few <= 50, many - few) == (True, len(LONG) - len(MESSAGES)), (few, many)


LARGE = [{**one, "content": one["content"] * 1000} for one in LONG]
AGAIN = [
    pytest.param(LARGE, LARGE, 12, id="a conversation again"),
    pytest.param(LARGE, [*LARGE, *MESSAGES], 12, id="a turn more"),
    pytest.param([*LARGE, LARGE[0]], [*LARGE, MESSAGES[0]], 12, id="another last message"),
    pytest.param(b"x" * 1_000_000, bytes([120]) * 1_000_000, 29, id="bytes"),
]


@pytest.mark.parametrize(("before", "after", "most"), AGAIN)
def test_what_goes_on_from_a_large_request_is_not_hashed_anew(
    before: Any, after: Any, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Cache.memory():
        complete(MESSAGES, model="m")  # the first call of a function looks at the function
        complete(before, model="m")
        monkeypatch.setattr(states, "_hexdigest", None)  # hashes all that is new, and keeps it
        python, _ = count(lambda: complete(after, model="m"))
    assert python <= most


def test_an_async_hit_makes_hardly_more_calls_than_a_sync_one() -> None:
    async def main() -> int:
        await acomplete(MESSAGES, model="m")
        counter = Counter()
        sys.setprofile(counter._count)
        try:
            await acomplete(MESSAGES, model="m")
        finally:
            sys.setprofile(None)
        return counter.python

    with Cache.memory():
        python, _ = count(lambda: complete(MESSAGES, model="m"))
        assert asyncio.run(main()) <= python + 3


@dataclasses.dataclass
class Place:
    name: str
    people: int
    rivers: list[str]


class Part(pydantic.BaseModel):
    text: str
    number: int | None = None


class Whole(pydantic.BaseModel):
    name: str
    part: Part
    parts: list[Part]
    numbers: list[float]


def whole(parts: int, numbers: int) -> Whole:
    part = Part(text="a")
    return Whole(name="a", part=part, parts=[part] * parts, numbers=[0.5] * numbers)


ANSWERS: dict[str, tuple[Any, int]] = {
    "list of numbers": ([0.5] * 1536, 3),
    "tuple": (("a", 1, 0.5), 6),
    "tuple of numbers": ((0.5,) * 1536, 9),
    "dataclass": (Place("a", 1, ["b"]), 8),
    "dataclasses in a list": ([Place("a", 1, ["b"]), Place("c", 2, [])], 13),
    "model": (Whole(name="a", part=Part(text="a"), parts=[], numbers=[]), 10),
    "model with ten in a list": (whole(10, 0), 20),
    "model with many numbers": (whole(0, 1536), 10),
}


def calls_of_a_hit(answer: Any) -> int:
    held = iter([answer])

    @llm_cached
    def ask(prompt: str) -> Any:
        return next(held)

    name = repr(answer)
    for _ in range(2):
        ask(name)
    return count(lambda: ask(name))[0]


@pytest.mark.parametrize("name", ANSWERS)
def test_a_hit_that_is_no_text_makes_few_calls_more(name: str) -> None:
    """Of Python functions: none for a number, a text or a field, and one for a model inside."""
    answer, more = ANSWERS[name]
    with Cache.memory():
        text = calls_of_a_hit("a text")
        python = calls_of_a_hit(answer)
    assert python - text <= more + SLACK, python - text


@llm_cached(cache=Cache.memory())
def generate(number: int) -> Generator[str, None, None]:
    for part in range(5):
        yield f"{number} {part}"


def test_a_generator_makes_few_calls() -> None:
    numbers = itertools.count()
    with Cache.memory():
        hit, _ = count(lambda: list(generate(-1)))
        miss, _ = count(lambda: list(generate(next(numbers))))
    assert (hit <= 73, miss <= 239) == (True, True), (hit, miss)


def test_a_call_that_is_not_cached_makes_next_to_none() -> None:
    with no_cache():
        python, _ = count(lambda: complete(MESSAGES, model="m"))
    assert python <= 3


def test_a_function_for_blocks_makes_next_to_no_call_outside_of_them() -> None:
    @llm_cached(cache="blocks")
    def ask(messages: list[dict[str, Any]], *, model: str) -> str:
        return "an answer"

    python, _ = count(lambda: ask(MESSAGES, model="m"))
    assert python <= 4
    with Cache.memory():
        python, c = count(lambda: ask(MESSAGES, model="m"))
    assert (python <= 11, c <= 33) == (True, True), (python, c)


class Statements:
    """What a disk cache has SQLite do."""

    def __init__(self, cache: Cache) -> None:
        self._store: Any = cache._store

    def of(self, call: Callable[[], Any]) -> list[str]:
        connection: sqlite3.Connection = self._store._connections.local.link.con
        seen: list[str] = []
        connection.set_trace_callback(seen.append)
        try:
            call()
        finally:
            connection.set_trace_callback(None)
        # What inserts or deletes is told once more for each of its triggers.
        again = ("INSERT", "DELETE")
        told = [sql for n, sql in enumerate(seen) if sql != seen[n - 1] or sql[:6] not in again]
        return [sql.split()[0] for sql in told]


def test_a_hit_on_disk_is_one_select(tmp_path: Any) -> None:
    with Cache.disk(cache_path_root=tmp_path) as cache:
        complete(MESSAGES, model="m")
        assert Statements(cache).of(lambda: complete(MESSAGES, model="m")) == ["SELECT"]


def test_a_miss_on_disk_is_two_looks_and_one_statement(tmp_path: Any) -> None:
    with Cache.disk(cache_path_root=tmp_path) as cache:
        complete(MESSAGES, model="m")
        assert Statements(cache).of(lambda: complete(MESSAGES, model="n")) == [
            *("SELECT", "SELECT"),  # the second when nobody else can begin the same call any more
            "INSERT",
        ]


@pytest.mark.parametrize("expired", [False, True])
def test_the_tenth_miss_on_disk_removes_what_has_expired(tmp_path: Any, expired: bool) -> None:
    with Cache.disk(cache_path_root=tmp_path) as cache:
        for n in range(10):
            complete(MESSAGES, model=f"m{n}")
        if expired:
            cache.store.set("0" * 64, b"an entry", expires=time.time() + 0.01)
            time.sleep(0.02)
        removes = ["BEGIN", "SELECT", "DELETE", "COMMIT"] if expired else []
        assert Statements(cache).of(lambda: complete(MESSAGES, model="n")) == [
            *("SELECT", "SELECT", "INSERT"),
            *("SELECT", *removes),
        ]
        assert len(list(cache.store.keys())) == 11


@pytest.mark.posix("locks in one call")
def test_a_miss_on_disk_makes_few_calls(tmp_path: Any) -> None:
    models = itertools.count()
    with Cache.disk(cache_path_root=tmp_path):
        python, c = count(lambda: complete(MESSAGES, model=f"m{next(models)}"))
    assert (python <= 110, c <= 137) == (True, True), (python, c)


def test_a_miss_opens_nothing_that_it_has_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    @llm_cached
    def ask(prompt: str) -> dict[str, Any]:
        return {"model": "gpt-4o", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}

    opened: list[bytes] = []
    monkeypatch.setattr(envelope, "_read_record", lambda raw, *args: opened.append(raw))
    monkeypatch.setattr(envelope, "_unpack", lambda section, *args: opened.append(section))
    with Cache.memory() as cache:
        ask("why? " * 1000)
    assert (opened, list(cache.stats.by_model)) == ([], ["gpt-4o"])


def test_misses_of_many_tasks_share_transactions_and_threads(tmp_path: Any) -> None:
    @llm_cached
    async def ask(prompt: str) -> str:
        return "an answer"

    async def main(cache: Cache) -> list[int]:
        store: Any = cache._store
        sizes: list[int] = []
        write = store._add_all

        def counted(additions: list[Any]) -> None:
            sizes.append(len(additions))
            write(additions)

        store._add_all = counted
        async with cache:
            await asyncio.gather(*(ask(f"question {n}") for n in range(200)))
        return sizes

    sizes = asyncio.run(main(Cache.disk(cache_path_root=tmp_path)))
    assert (sum(sizes), len(sizes) <= 10) == (200, True), sizes


@pytest.mark.store
@pytest.mark.parametrize("prompt", ["plain", ("no", "JSON")])
@pytest.mark.parametrize("colour", COLOURS)
def test_a_miss_reads_its_store_twice_and_encodes_its_request_once(
    cache: Cache, colour: str, prompt: Any
) -> None:
    function = Function(colour, lambda prompt: ["an answer"])
    function.decorated.cache_key("what all its requests say is encoded once")
    with cache:
        assert work_of(cache, lambda: function(prompt)) == (2, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="what a process writes is counted by Linux")
def test_a_miss_on_disk_writes_few_pages(tmp_path: Any) -> None:
    models = itertools.count()

    def writes() -> int:
        told = dict(line.split(": ") for line in IO.read_text(encoding="ascii").splitlines())
        return int(told["syscw"])

    with Cache.disk(cache_path_root=tmp_path):
        for _ in range(20):
            complete(MESSAGES, model=f"m{next(models)}")
        before = writes()
        for _ in range(50):
            complete(MESSAGES, model=f"m{next(models)}")
        # The counts, the key and the entry: a page each, and its head; and now and then a new one.
        assert (writes() - before) / 50 <= 7


@pytest.mark.stores("redis")
def test_a_hit_on_redis_is_one_get(redis_url: str) -> None:
    with (
        Cache(RedisStore(redis_url, namespace="work")) as cache,
        redis.Redis.from_url(redis_url) as other,
    ):
        cache.clear()
        complete(MESSAGES, model="m")
        assert commands(other, lambda: complete(MESSAGES, model="m")) == {"get": 1}


@pytest.mark.stores("redis")
def test_a_miss_on_redis_is_five_commands(redis_url: str) -> None:
    with (
        Cache(RedisStore(redis_url, namespace="work")) as cache,
        redis.Redis.from_url(redis_url) as other,
    ):
        cache.clear()
        complete(MESSAGES, model="m")
        found = commands(other, lambda: complete(MESSAGES, model="n"))
        cache.clear()
    # A look; the lease (set) with a look; the answer (set) with the lease's script and its two.
    assert found == {"get": 3, "set": 2, "del": 1, "eval": 1}


def commands(server: Any, call: Callable[[], Any]) -> dict[str, int]:
    """The commands that a server ran during a call, without those that asked."""
    before = _stats(server)
    call()
    after = _stats(server)
    changed = {name: number - before.get(name, 0) for name, number in after.items()}
    return {name: number for name, number in changed.items() if number and name != "info"}


def _stats(server: Any) -> dict[str, int]:
    stats = server.info("commandstats")
    return {name.removeprefix("cmdstat_"): value["calls"] for name, value in stats.items()}
