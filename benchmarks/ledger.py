"""What the ledger of runs costs: a hit, beside the same without it; its bytes; to read it."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import openai

from benchmarks.harness import Result
from benchmarks.patched import client
from benchmarks.requests import SMALL
from cachewrap import Cache, llm_cached, patch_openai, unpatch_openai
from cachewrap.ledger.names import named_log
from cachewrap.ledger.pieces import Begin, End, Ended, Manner, Writer, encode
from cachewrap.stores.base import Logs
from cachewrap.testing.servers import redis_server

_MOST = 1.0
"""Microseconds that a hit may take longer, all in all."""

_MOST_BYTES = 10e6
_MOST_SECONDS = 1.0
_HITS = 10_000
_BATCH = 2_000
"""Calls of a piece, where a program asks as fast as it can."""

Opened = AbstractContextManager[Callable[[Cache], float]]


def hits(rounds: int) -> list[Result]:
    """Processor time that a hit takes, with what is written of it meanwhile and at the end.

    Targets are microseconds beyond the same hit of a cache that keeps no ledger.
    """
    kinds: dict[str, Callable[[], Opened]] = {
        "function": _function,
        "async function": _async_function,
        "openai create": _create,
        "async openai create": _async_create,
    }
    found = []
    for kind, opened in kinds.items():
        for place in ("disk", "memory"):
            with tempfile.TemporaryDirectory() as folder, opened() as ask:
                rows = {
                    "no ledger": lambda cache: cache,
                    "a run without a name": lambda cache: cache,
                    "a run with a name": lambda cache: cache.run("benchmark"),
                }
                if place == "memory":  # keeps runs that have a name, and those alone
                    del rows["a run without a name"]
                caches = {
                    name: _cache(place, Path(folder, name), ledger=name != "no ledger")
                    for name in rows
                }
                seconds: dict[str, list[float]] = {name: [] for name in rows}
                for turn in range(rounds + 1):
                    for name in rows if turn % 2 else reversed(rows):
                        seconds[name].append(_timed(rows[name](caches[name]), ask))
                found += _results(f"hit of {kind}, {place}", seconds)
                for cache in caches.values():
                    cache.close()
    return found


def _cache(place: str, folder: Path, *, ledger: bool) -> Cache:
    if place == "memory":
        return Cache.memory(ledger=ledger)
    return Cache.disk(cache_path_root=folder, ledger=ledger)


def _timed(block: AbstractContextManager[Any], ask: Callable[[int], None]) -> float:
    with block:
        ask(1)  # the answer is stored
    gc.collect()
    gc.disable()
    try:
        start = time.process_time()
        with block:
            ask(_HITS)
        return (time.process_time() - start) / _HITS
    finally:
        gc.enable()


def _results(group: str, seconds: dict[str, list[float]]) -> list[Result]:
    floors = seconds["no ledger"][1:]
    floor = median(floors)
    found = []
    for name, taken in seconds.items():
        own = taken[1:]  # the first turn stores the answer
        target = None if own is floors or name == "no ledger" else (floor + _MOST / 1e6) / floor
        ratio = median(mine / other for mine, other in zip(own, floors, strict=True))
        found.append(Result(group, name, median(own) * 1e6, ratio, target, min(own) / min(floors)))
    return found


@contextmanager
def _function() -> Iterator[Callable[[int], None]]:
    messages, answer = SMALL.conversation(), SMALL.answer()

    @llm_cached(version=1)
    def complete(messages: Any, *, model: str) -> str:
        return answer

    def ask(number: int) -> None:
        for _ in range(number):
            complete(messages, model="gpt-4o-mini")

    yield ask


@contextmanager
def _async_function() -> Iterator[Callable[[int], None]]:
    messages, answer = SMALL.conversation(), SMALL.answer()

    @llm_cached(version=1)
    async def complete(messages: Any, *, model: str) -> str:
        return answer

    with _running(lambda: complete(messages, model="gpt-4o-mini")) as ask:
        yield ask


@contextmanager
def _create() -> Iterator[Callable[[int], None]]:
    messages: Any = SMALL.conversation()
    one = client(SMALL)

    def ask(number: int) -> None:
        for _ in range(number):
            one.chat.completions.create(model="gpt-4o-mini", messages=messages)

    patch_openai()
    try:
        yield ask
    finally:
        unpatch_openai()


@contextmanager
def _async_create() -> Iterator[Callable[[int], None]]:
    messages: Any = SMALL.conversation()
    with _create() as stored:
        own = openai.AsyncOpenAI(api_key="none", base_url=client(SMALL).base_url, max_retries=0)

        def one() -> Awaitable[Any]:
            return own.chat.completions.create(model="gpt-4o-mini", messages=messages)

        with _running(one) as awaited:

            def ask(number: int) -> None:
                stored(1)
                awaited(number)

            yield ask


@contextmanager
def _running(one: Callable[[], Awaitable[Any]]) -> Iterator[Callable[[int], None]]:
    """Awaits so many, one after the other, in the context of whoever asks."""

    async def some(number: int) -> None:
        for _ in range(number):
            await one()

    yield lambda number: asyncio.run(some(number))


def sizes(number: int) -> list[Result]:
    """Bytes that so many calls take, and the seconds until they are read; targets are for 100,000.

    Half of them are hits; they are of twelve lanes, of ten functions and three models.
    """
    group = f"ledger of {number:,} calls"
    found = []
    with tempfile.TemporaryDirectory() as folder, redis_server() as server:
        caches = {
            "disk": Cache.disk(cache_path_root=folder),
            "redis": Cache.redis(redis_url=server.url, namespace="ledger"),
            "JSONL": Cache.jsonl(Path(folder, "answers.jsonl")),
        }
        for place, cache in caches.items():
            store: Any = cache.store
            assert isinstance(store, Logs)
            log = named_log("benchmark", 1)
            for piece in _pieces(number):
                store.append_to_log(log, [piece])
            start = time.perf_counter()
            run = cache.runs()["benchmark"]
            assert len(run.calls()) == number
            seconds = time.perf_counter() - start
            size, share = float(run.size), number / 100_000
            found += [
                Result(group, f"{place}, bytes", size, size / (_MOST_BYTES * share), 1.0),
                Result(
                    group,
                    f"{place}, microseconds to read",
                    seconds * 1e6,
                    seconds / (_MOST_SECONDS * share),
                    1.0,
                ),
            ]
            cache.close()
    return found


def _pieces(number: int) -> Iterator[bytes]:

    draw = random.Random(1)
    writer, manners = Writer(1, 4711), (Manner(0, "41", "", ""), Manner(1, "41", "", ""))
    yield encode(Begin(1, "benchmark", 1.8e9, 4711, "host", "eval.py", "family", "disk:.cache"))
    rows = []
    for index in range(number):
        took = draw.random() * 2
        what = (
            f"evaluation:step_{draw.randrange(10)}",
            f"gpt-{draw.randrange(3)}",
            manners[index % 2],
        )
        details = (draw.randrange(1, 4_000),) if index % 5 == 0 else ()
        rows.append(
            Ended(
                what,
                hashlib.sha256(b"%d" % (index // 2)).hexdigest(),
                0,
                1.8e9 + index / 100 + draw.random(),
                took if index % 2 else took / 10_000,
                (draw.randrange(100, 4_000), draw.randrange(10, 800), took, details),
                1.8e9 + index / 100 - 10_000,
                f"ThreadPoolExecutor-0_{draw.randrange(12)}",
            )
        )
        if len(rows) == _BATCH:
            yield writer.calls(rows)
            rows = []
    if rows:
        yield writer.calls(rows)
    yield encode(End(1, 1.9e9))
