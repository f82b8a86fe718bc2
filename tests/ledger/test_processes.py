"""Runs of several processes: what each of them asked is in one run, once, whatever befell it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from cachewrap import Cache
from cachewrap.ledger.runs import Run
from cachewrap.stores.base import Store
from ledger import asking

LASTING = [
    pytest.param(kind, marks=pytest.mark.stores(kind)) for kind in ("disk", "redis", "jsonl")
]
THOROUGH = int(os.environ.get("CACHEWRAP_TEST_KILLS") or 0) > 10
"""Whether each is tried over every store: else what is the same for all is over one."""

METHODS = ["fork", "spawn", "forkserver"] if hasattr(os, "fork") else ["spawn"]

EVERYWHERE = """
import multiprocessing, os, subprocess, sys, time
from ledger.asking import complete

if __name__ == "__main__":
    complete("main")
    for manner in multiprocessing.get_all_start_methods():
        process = multiprocessing.get_context(manner).Process(target=complete, args=(manner,))
        process.start()
        process.join()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(complete, ("pool",))
        pool.close()
        pool.join()
    if hasattr(os, "fork"):
        if not (child := os.fork()):
            complete("os.fork")
            sys.exit()
        os.waitpid(child, 0)
    child = "from ledger.asking import complete; complete('child')"
    subprocess.run([sys.executable, "-c", child], check=True)
    complete("main")
"""


@pytest.fixture(params=LASTING)
def cache(request: pytest.FixtureRequest, make_store: Callable[[str], Store]) -> Cache:
    """A cache that other processes reach."""
    return Cache(make_store(request.param))


@pytest.fixture(params=LASTING if THOROUGH else LASTING[:1])
def one_cache(request: pytest.FixtureRequest, make_store: Callable[[str], Store]) -> Cache:
    """A cache that other processes reach, on disk unless every store is tried."""
    return Cache(make_store(request.param))


def start(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with the helpers of the tests importable."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("CACHEWRAP_")}
    tests = str(Path(__file__).parents[1])
    path = os.pathsep.join([tests, *filter(None, [clean.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**clean, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


def asked_in(run: Run) -> Counter[str]:
    """How often each request is in a run."""
    return Counter(call.key for call in run.calls())


def keys_of(*prompts: str) -> Counter[str]:
    """The keys of calls of `asking.complete`."""
    return Counter(asking.complete.cache_key(prompt) for prompt in prompts)


def test_all_processes_of_a_program_make_one_run(one_cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "everywhere.py").write_text(EVERYWHERE, "utf-8")
    options = ("--name", "trial", "--url", one_cache.url)
    start(tmp_path, "-m", "cachewrap", "run", *options, "everywhere.py")
    prompts = ["main", *multiprocessing.get_all_start_methods(), "pool", "child", "main"]
    if hasattr(os, "fork"):
        prompts.append("os.fork")
    (run,) = one_cache.runs()
    assert run.name == "trial"
    assert asked_in(run) == keys_of(*prompts)
    assert len({call.process for call in run.calls()}) == len(prompts) - 1
    assert run.lost == 0


def test_a_variable_names_the_run_of_a_program(one_cache: Cache, tmp_path: Path) -> None:
    program = f"""
from cachewrap import Cache
from ledger.asking import complete
with Cache.from_url({one_cache.url!r}):
    complete("a")
"""
    (tmp_path / "program.py").write_text(program, "utf-8")
    start(tmp_path, "program.py", CACHEWRAP_RUN="trial")
    (run,) = one_cache.runs()
    assert (run.name, asked_in(run)) == ("trial", keys_of("a"))


def test_what_is_asked_at_the_very_end_is_in_the_run(one_cache: Cache, tmp_path: Path) -> None:
    program = f"""
import atexit

@atexit.register
def last():  # it runs after all that was registered later, by what is imported below
    with cache:
        complete("last")

from cachewrap import Cache
from ledger.asking import complete
cache = Cache.from_url({one_cache.url!r})
with cache:
    complete("first")
"""
    (tmp_path / "program.py").write_text(program, "utf-8")
    start(tmp_path, "program.py")
    (run,) = one_cache.runs()
    assert (run.state, asked_in(run)) == ("ended", keys_of("first", "last"))


@pytest.mark.parametrize("method", METHODS)
def test_processes_join_the_run_that_goes_on(one_cache: Cache, method: str) -> None:
    context = multiprocessing.get_context(method)
    with one_cache.run("trial"):
        asking.complete("first")
        process = context.Process(target=asking.ask_some, args=(one_cache, "trial", 1, 3))  # type: ignore[attr-defined]
        process.start()
        process.join()
        asking.complete("last")
    assert process.exitcode == 0
    (run,) = one_cache.runs()
    own = [f"{who} {number}" for who in ("1", "all") for number in range(3)]
    assert asked_in(run) == keys_of("first", *own, "last")


def test_a_block_that_has_asked_nothing_yet_goes_on(one_cache: Cache, tmp_path: Path) -> None:
    program = f"""
from cachewrap import Cache
from ledger.asking import complete
with Cache.from_url({one_cache.url!r}).run("trial"):
    complete("child")
"""
    with one_cache.run("trial"):
        start(tmp_path, "-c", program)
        asking.complete("last")
    (run,) = one_cache.runs()
    assert asked_in(run) == keys_of("child", "last")


@pytest.mark.posix("os.fork")
def test_a_forked_process_goes_on_with_the_run(cache: Cache) -> None:
    context = multiprocessing.get_context("fork")
    with cache.run("trial"):
        asking.complete("first")
        process = context.Process(target=asking.ask_in_the_block, args=(1, 3))
        process.start()
        process.join()
        asking.complete("last")
    (run,) = cache.runs()
    assert asked_in(run) == keys_of("first", "1 0", "1 1", "1 2", "last")
    assert len({call.process for call in run.calls()}) == 2


@pytest.mark.posix("os.fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_waits_for_nobody(tmp_path: Path) -> None:
    taken = []
    with Cache.disk(cache_path_root=tmp_path):
        for number in range(3):
            asking.complete(f"{number}")
            began = time.monotonic()
            if not (child := os.fork()):
                os._exit(0)
            taken.append(time.monotonic() - began)
            os.waitpid(child, 0)
    assert min(taken) < 0.5


def test_writers_at_once_lose_nothing(cache: Cache) -> None:
    context = multiprocessing.get_context("spawn")
    with cache.run("trial"):
        writers = [
            context.Process(target=asking.ask_some, args=(cache, "trial", one, 150))
            for one in range(3)
        ]
        for writer in writers:
            writer.start()
        asking.ask_in_the_block(3, 150)
        for writer in writers:
            writer.join()
    (run,) = cache.runs()
    own = [f"{who} {number}" for who in range(4) for number in range(150)]
    shared = [f"all {number}" for number in range(150)] * 3
    assert asked_in(run) == keys_of(*own, *shared)
    assert (len(run.processes), run.lost) == (4, 0)
    assert [call.started for call in run.calls()] == sorted(call.started for call in run.calls())


@pytest.mark.posix("SIGKILL")
@pytest.mark.parametrize("name", ["trial", ""], ids=["named", "unnamed"])
def test_a_kill_loses_the_last_second_at_most(cache: Cache, tmp_path: Path, name: str) -> None:
    told = tmp_path / "told"
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=asking.ask_for_ever, args=(cache, name, told))
    process.start()
    while not told.exists() or not told.read_bytes():
        time.sleep(0.01)
    time.sleep(2.5)
    process.kill()
    killed = time.time()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    ended = [line.split() for line in told.read_text("utf-8").splitlines() if " " in line]
    whole = [number for number, at in ended if float(at) < killed - 1.1]
    (run,) = cache.runs()
    asked = asked_in(run)
    assert len(whole) > 10
    assert [number for number in whole if asked[_key(number)] != 1] == []
    assert set(asked.values()) == {1}
    assert run.ended is None


def _key(number: str) -> str:
    return asking.complete.cache_key(f"for ever {number}")
