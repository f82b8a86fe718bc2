"""How the cost of a hit grows: with the messages, the entry, the store, and those who ask."""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.decorated import Completion
from benchmarks.harness import Row
from benchmarks.requests import SMALL, Size, text
from cachewrap import Cache, llm_cached
from cachewrap.entry import Facts
from cachewrap.format.codec import encode
from cachewrap.format.envelope import seal
from cachewrap.stores.disk import DiskStore


@contextmanager
def messages() -> Iterator[list[Row]]:
    """Hits on disk of conversations of 1 to 160 messages of 1,000 characters."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache.disk(cache_path_root=folder)
        yield [
            Row(
                f"{number} messages",
                Completion(Size("", number, 1000 * number, 1200), cache).hit,
                lambda: cache,
            )
            for number in (1, 5, 20, 40, 80, 160)
        ]
        cache.close()


@contextmanager
def entries() -> Iterator[list[Row]]:
    """Hits on disk of answers of 1 KB to 10 MB."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache.disk(cache_path_root=folder)
        yield [
            Row(
                name,
                Completion(Size("", 2, 1000 + 10 * index, number), cache).hit,
                lambda: cache,
            )
            for index, (name, number) in enumerate(
                {
                    "1 KB": 1_000,
                    "10 KB": 10_000,
                    "100 KB": 100_000,
                    "1 MB": 1_000_000,
                    "10 MB": 10_000_000,
                }.items()
            )
        ]
        cache.close()


def fill(folder: Path, number: int) -> None:
    """Put that many entries of 1,200 characters into a store, past its own single writes."""
    store: Any = DiskStore(folder, "41")
    kind, answer = encode(text(1200, 1))
    sealed = seal(kind, answer, b"", Facts(time.time(), 1.0))
    with store._writing() as writing:
        writing.con.executemany(
            "INSERT INTO Cache (key, raw, store_time, access_time, size, mode, value)"
            " VALUES (?, 1, 0, 0, 0, 1, ?)",
            ((index.to_bytes(32, "big"), sealed) for index in range(number)),
        )
    store.close()


@contextmanager
def stores(number: int) -> Iterator[list[Row]]:
    """Hits in stores of 1,000 entries, of ten times as many, and so on to ``number``."""
    sizes = [size for size in (1_000, 10_000, 100_000) if size < number] + [number]
    with ExitStack() as stack:
        rows: list[Row] = []
        for size in sizes:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            fill(Path(folder), size)
            cache = Cache.disk(cache_path_root=folder)
            hit = Completion(SMALL, cache).hit
            target = 1.5 if rows and size == number else None
            rows.append(Row(f"hit among {size:,}", hit, lambda cache=cache: cache, target))  # type: ignore[misc]
        yield rows


@contextmanager
def openings(number: int) -> Iterator[list[Row]]:
    """The first hit after a store was opened, with 1,000 entries and with many more."""
    with tempfile.TemporaryDirectory() as small, tempfile.TemporaryDirectory() as large:
        rows = []
        for name, folder, count in (("1,000", small, 1_000), (f"{number:,}", large, number)):
            fill(Path(folder), count)
            cache = Cache.disk(cache_path_root=folder)
            completion = Completion(SMALL, cache)

            def call(cache: Cache = cache, completion: Completion = completion) -> str:
                with cache:  # leaving the block closes the store
                    return completion.hit()

            rows.append(Row(f"open and hit among {name}", call, target=None if not rows else 2.0))
        yield rows


@contextmanager
def listings(number: int) -> Iterator[list[Row]]:
    """The keys that a pager shows at first, of 1,000 entries and of many more."""
    with tempfile.TemporaryDirectory() as small, tempfile.TemporaryDirectory() as large:
        rows: list[Row] = []
        for name, folder, count in (("1,000", small, 1_000), (f"{number:,}", large, number)):
            fill(Path(folder), count)
            store = DiskStore(folder, "41")
            rows.append(
                Row(
                    f"500 keys among {name}",
                    lambda store=store: list(islice(store.keys(), 500)),  # type: ignore[misc]
                    target=None if not rows else 1.5,
                )
            )
        yield rows


# -- many at once ---------------------------------------------------------------------------------


def _hits(folder: str, ready: Any, go: Any, seconds: float, counted: Any) -> None:
    cache = Cache.disk(cache_path_root=folder)
    completion = Completion(SMALL, cache)
    with cache:
        completion.hit()
        ready.release()
        go.wait()
        number, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            completion.hit()
            number += 1
    counted.put(number / seconds)


def throughput(seconds: float = 0.5) -> dict[str, float]:
    """Hits on disk in a second: 1, 2 and 8 threads, 2 processes, and 10,000 async calls at once."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache.disk(cache_path_root=folder)
        completion = Completion(SMALL, cache)
        for number in (1, 2, 8):
            counts = [0] * number
            end = time.perf_counter() + seconds

            def work(index: int, counts: list[int] = counts, end: float = end) -> None:
                with cache:
                    while time.perf_counter() < end:
                        completion.hit()
                        counts[index] += 1

            threads = [threading.Thread(target=work, args=(index,)) for index in range(number)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            found[f"{number} thread{'s' * (number > 1)}"] = sum(counts) / seconds
        context = multiprocessing.get_context("spawn")
        ready, go, counted = context.Semaphore(0), context.Event(), context.Queue()
        processes = [
            context.Process(target=_hits, args=(folder, ready, go, seconds, counted))
            for _ in range(2)
        ]
        for process in processes:
            process.start()
        for _ in processes:
            ready.acquire()
        go.set()
        found["2 processes"] = sum(counted.get() for _ in processes)
        for process in processes:
            process.join()
        found["10,000 async at once"] = _fan_out(cache)
        cache.close()
    return found


def _fan_out(cache: Cache) -> float:
    answer = SMALL.answer()

    @llm_cached
    async def complete(messages: Any, *, model: str) -> str:
        return answer

    conversation = SMALL.conversation()

    async def main() -> float:
        async with cache:
            await complete(conversation, model="m")
            times = []
            for _ in range(3):
                start = time.perf_counter()
                await asyncio.gather(*(complete(conversation, model="m") for _ in range(10_000)))
                times.append(time.perf_counter() - start)
            return 10_000 / median(times)

    return asyncio.run(main())
