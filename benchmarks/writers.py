"""Many at once on one place: processes that write, threads and processes that read, many tasks."""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from unittest.mock import patch

from benchmarks.harness import Result
from benchmarks.requests import SMALL, text
from cachewrap import Cache, llm_cached
from cachewrap.stores.disk import DiskStore
from cachewrap.stores.disk.folder import ADD, DATABASE, GET, PRAGMAS
from cachewrap.testing.servers import redis_server

_PROCESSES = 6
_MISSES = 1_000
_AT_ONCE = 100
_SECONDS = 0.5
_TASKS = 10_000

_context = multiprocessing.get_context("spawn")


@contextmanager
def _started(work: Callable[..., Any], calls: list[tuple[Any, ...]]) -> Iterator[Any]:
    """Processes that have begun, one for each call, and go on at once; gives where they tell."""
    ready, go, told = _context.Semaphore(0), _context.Event(), _context.Queue()
    processes = [_context.Process(target=work, args=(*call, ready, go, told)) for call in calls]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    go.set()
    try:
        yield told
    finally:
        for process in processes:
            process.join()


# -- those who write ------------------------------------------------------------------------------


def _misses(url: str, number: int, ready: Any, go: Any, told: Any) -> None:
    @llm_cached
    async def complete(messages: Any, *, model: str, n: int) -> str:
        return answers[n]

    answers = [text(1_200, n) for n in range(50)] * (_MISSES // 50 + 1)
    conversation = SMALL.conversation()
    waited: list[float] = []

    async def ask(numbers: Iterator[int]) -> None:
        for n in numbers:
            start = time.perf_counter()
            asked = [*conversation, {"role": "user", "content": f"{number} {n}"}]
            await complete(asked, model="m", n=n)
            waited.append(time.perf_counter() - start)

    async def main() -> None:
        async with Cache.from_url(url):
            await complete(conversation, model="m", n=0)
            ready.release()
            go.wait()
            worked = time.process_time()
            numbers = iter(range(_MISSES))
            await asyncio.gather(*(ask(numbers) for _ in range(_AT_ONCE)))
            told.put((time.time(), time.process_time() - worked, waited))

    asyncio.run(main())


def _written_by_all(url: str) -> tuple[float, float, list[float]]:
    """Seconds until the last of all misses has returned, of work, and what each of them took."""
    with _started(_misses, [(url, number) for number in range(_PROCESSES)]) as told:
        start = time.time()
        answers = [told.get() for _ in range(_PROCESSES)]
    waited = [one for _, _, some in answers for one in some]
    total = max(end for end, _, _ in answers) - start
    return total, sum(work for _, work, _ in answers), waited


def _rows_in_turn(folder: str, number: int, ready: Any, go: Any, told: Any) -> None:
    """The same number of rows, which a thread writes one after the other."""
    con = _open(folder)
    value = text(1_200, 1).encode()
    ready.release()
    go.wait()
    for n in range(_MISSES):
        name = (number * _MISSES + n).to_bytes(32, "little")
        while True:
            try:
                con.execute(ADD, (name, 0, None, 0, value))
                break
            except sqlite3.OperationalError:
                time.sleep(0.001)
    told.put(time.time())


def _open(folder: str) -> sqlite3.Connection:
    con = sqlite3.connect(Path(folder, "41", DATABASE), isolation_level=None, timeout=10)
    con.executescript(PRAGMAS)
    return con


def six_writers(times: int = 3) -> list[Result]:
    """Six processes with 1,000 different misses each, 100 of them at a time, in one place.

    A miss takes what all of them together need for a tenth of their misses: 600 are under way.
    The ratios of a store's totals are to those on disk; those of a miss's time to 100 ms.
    """
    title = "misses of six processes"
    found: dict[str, list[tuple[float, float, list[float]]]] = {
        "disk": [],
        "redis": [],
        "jsonl": [],
    }
    floors = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            store = DiskStore(folder, "41")
            store.set("0" * 64, b"")
            store.close()
            calls = [(folder, number) for number in range(_PROCESSES)]
            with _started(_rows_in_turn, calls) as told:
                start = time.time()
                floors.append(max([told.get() for _ in calls]) - start)
        with tempfile.TemporaryDirectory() as folder:
            found["disk"].append(_written_by_all(f"disk://{folder}"))
        with tempfile.TemporaryDirectory() as folder:
            found["jsonl"].append(_written_by_all(f"jsonl://{folder}/answers.jsonl"))
        with redis_server() as server:
            found["redis"].append(_written_by_all(server.url))
    floor = min(floors)
    disk = min(total for total, _, _ in found["disk"])
    least = min(work for _, work, _ in found["disk"])
    results = [Result(title, "rows alone, one by one", floor * 1e6, floor / disk, None)]
    for name, runs in found.items():
        total = min(total for total, _, _ in runs)
        work = min(work for _, work, _ in runs)
        target = 3.0 if name == "jsonl" else None
        results.append(Result(title, f"{name}, in all", total * 1e6, total / disk, target))
        each = work / _PROCESSES / _MISSES
        results.append(Result(title, f"{name}, work of a miss", each * 1e6, work / least, None))
    allowed = 0.1
    for name, runs in found.items():
        _, _, waited = min(runs)
        cuts = quantiles(waited, n=100)
        for which, seconds in (("p50", cuts[49]), ("p99", cuts[98]), ("longest", max(waited))):
            target = 1.0 if (name, which) == ("disk", "p99") else None
            row = f"{name}, {which} of a miss"
            results.append(Result(title, row, seconds * 1e6, seconds / allowed, target))
    return results


# -- those who read -------------------------------------------------------------------------------


def _hitting(folder: str) -> tuple[Callable[[], object], Callable[[], object]]:
    """A hit in the folder, and a raw read of the same row, for the calling thread."""
    decorated = _complete
    messages = SMALL.conversation()
    decorated(messages, model="m")
    name = bytes.fromhex(decorated.cache_key(messages, model="m"))
    con = _open(folder)
    return (
        lambda: decorated(messages, model="m"),
        lambda: con.execute(GET, (name,)).fetchall()[0],
    )


@llm_cached
def _complete(messages: Any, *, model: str) -> str:
    return SMALL.answer()


def _for_a_while(call: Callable[[], object]) -> int:
    number, end = 0, time.perf_counter() + _SECONDS
    while time.perf_counter() < end:
        call()
        number += 1
    return number


def _reading(folder: str, which: int, ready: Any, go: Any, told: Any) -> None:
    with Cache.disk(cache_path_root=folder):
        call = _hitting(folder)[which]
        ready.release()
        go.wait()
        told.put(_for_a_while(call))


def _in_threads(folder: str, number: int, which: int) -> float:
    """Calls in a second of so many threads together."""
    counts: list[int] = []
    barrier = threading.Barrier(number)

    def work() -> None:
        with Cache.disk(cache_path_root=folder):
            call = _hitting(folder)[which]
            barrier.wait()
            counts.append(_for_a_while(call))

    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / _SECONDS


def _in_processes(folder: str, number: int, which: int) -> float:
    with _started(_reading, [(folder, which)] * number) as told:
        counts: list[int] = [told.get() for _ in range(number)]
    return sum(counts) / _SECONDS


def readers(times: int = 3) -> list[Result]:
    """Hits of one entry on disk by several at once, beside raw reads of its row by as many."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, by, number in (
            ("1 thread", _in_threads, 1),
            ("8 threads", _in_threads, 8),
            ("4 processes", _in_processes, 4),
        ):
            raw, hits = (
                max(rates)
                for rates in zip(
                    *((by(folder, number, 1), by(folder, number, 0)) for _ in range(times)),
                    strict=True,
                )
            )
            title = "hits by several at once"
            found += [
                Result(title, f"raw reads, {name}", 1e6 / raw, 1.0, None),
                Result(title, f"hits, {name}", 1e6 / hits, raw / hits, None),
            ]
    return found


@contextmanager
def _steps() -> Iterator[list[float]]:
    """The seconds of work that each step of an event loop takes, in the block."""
    seconds: list[float] = []
    run: Any = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        start = time.thread_time()
        run(handle)
        seconds.append(time.thread_time() - start)

    with patch.object(asyncio.Handle, "_run", timed):
        yield seconds


@llm_cached
async def _acomplete(messages: Any, *, model: str, n: int) -> str:
    return SMALL.answer()


async def _nothing(messages: Any, *, model: str, n: int) -> str:
    return ""


def tasks(times: int = 3) -> list[Result]:
    """10,000 async hits at once on disk, of 1,000 entries, and the longest step of the loop.

    A step is what the loop does without looking at anything else: one hit, as it waits for nothing.
    The step that starts all of the calls is the caller's own, and left out.
    """
    messages = SMALL.conversation()

    async def each(call: Callable[..., Any]) -> tuple[float, list[float]]:
        calls = [call(messages, model="m", n=n % 1_000) for n in range(_TASKS)]
        made = [asyncio.ensure_future(one) for one in calls]
        with _steps() as steps:
            start = time.perf_counter()
            await asyncio.gather(*made)
            return time.perf_counter() - start, steps

    async def main(folder: str) -> list[Result]:
        async with Cache.disk(cache_path_root=folder):
            for n in range(1_000):
                await _acomplete(messages, model="m", n=n)
            floor, _ = min([await each(_nothing) for _ in range(times)])
            runs = [await each(_acomplete) for _ in range(times)]
        total, steps = min(runs)
        title = f"{_TASKS:,} async hits at once"
        middle, longest = median(steps), min(max(some) for _, some in runs)
        return [
            Result(title, "calls of nothing, each", floor / _TASKS * 1e6, floor / total, None),
            Result(title, "hits, each", total / _TASKS * 1e6, 1.0, None),
            Result(title, "a step of the loop", middle * 1e6, 1.0, None),
            Result(title, "the longest step", longest * 1e6, longest / middle, None),
        ]

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(main(folder))
