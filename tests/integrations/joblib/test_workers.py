"""Pools of processes, of every start method: one upstream call for what all of them ask."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from integrations.joblib.asking import ask, ask_in_a_thread, ask_with
from standin import Upstream

from cachewrap import Cache, ConfigurationError, activate

START = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
HERE = str(Path(__file__).parents[2])


@pytest.fixture
def up() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache.disk(cache_path_root=tmp_path / "cache")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spawned worker finds this folder as the tests do."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, *filter(None, sys.path)]))


@START
@pytest.mark.parametrize("work", [ask, ask_in_a_thread])
def test_an_executor_with_the_initializer(
    up: Upstream, cache: Cache, method: str, work: Callable[..., tuple[int, str]]
) -> None:
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(
        2, mp_context=context, initializer=activate, initargs=(cache,)
    ) as pool:
        asked = [pool.submit(work, up.base_url, "same").result(60) for _ in range(4)]
    assert up.calls == 1
    assert len({answer for _, answer in asked}) == 1
    assert os.getpid() not in {pid for pid, _ in asked}


@START
def test_a_pool_with_the_initializer(up: Upstream, cache: Cache, method: str) -> None:
    context = multiprocessing.get_context(method)
    with context.Pool(2, initializer=activate, initargs=(cache,)) as pool:
        answers = pool.starmap(ask, [(up.base_url, "same")] * 4)
    assert (up.calls, len({answer for _, answer in answers})) == (1, 1)


@START
def test_a_process_that_is_given_the_cache(up: Upstream, cache: Cache, method: str) -> None:
    context = multiprocessing.get_context(method)
    results = context.SimpleQueue()
    for _ in range(2):
        process = context.Process(target=ask_with, args=(cache, up.base_url, "same", results))
        process.start()
        process.join(60)
        assert process.exitcode == 0
    one, other = results.get(), results.get()
    assert (up.calls, one[1]) == (1, other[1])
    assert one[0] != other[0]


FORKED = """
import multiprocessing, sys
from cachewrap import Cache, patch_openai
from integrations.joblib.asking import ask
patch_openai()
with Cache.disk(cache_path_root=sys.argv[2]):
    first = ask(sys.argv[1], "same")[1]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        answers = pool.starmap(ask, [(sys.argv[1], "same")] * 3)
assert {answer for _, answer in answers} == {first}
"""

BY_VARIABLE = """
import sys
from cachewrap import activate
activate()
from integrations.joblib.asking import ask
ask(sys.argv[1], "same")
"""


def run(program: str, *arguments: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_a_forked_pool_begins_inside_the_block(up: Upstream, tmp_path: Path) -> None:
    run(FORKED, up.base_url, str(tmp_path))
    assert up.calls == 1


def test_a_program_finds_its_cache_by_the_environment(up: Upstream, tmp_path: Path) -> None:
    for _ in range(2):
        run(BY_VARIABLE, up.base_url, CACHEWRAP_URL=f"disk://{tmp_path}?cache_seed=7")
    assert up.calls == 1
    assert (tmp_path / "7").is_dir()


def test_joblib_with_the_initializer(up: Upstream, cache: Cache) -> None:
    joblib = pytest.importorskip("joblib")
    parallel = joblib.Parallel(n_jobs=2, initializer=activate, initargs=(cache,))
    answers = parallel(joblib.delayed(ask)(up.base_url, "same") for _ in range(4))
    assert (up.calls, len({answer for _, answer in answers})) == (1, 1)


@pytest.mark.usefixtures("patched")
def test_joblib_with_threads_needs_nothing(up: Upstream, cache: Cache) -> None:
    joblib = pytest.importorskip("joblib")
    with cache:
        parallel = joblib.Parallel(n_jobs=2, backend="threading")
        answers = parallel(joblib.delayed(ask)(up.base_url, "same") for _ in range(4))
    assert (up.calls, len({answer for _, answer in answers})) == (1, 1)


@pytest.fixture
def patched() -> Iterator[None]:
    from cachewrap import patch_openai

    with patch_openai():
        yield


@pytest.mark.parametrize(("given", "reason"), [(None, "CACHEWRAP_URL"), (7, "got int")])
def test_what_is_no_cache_is_an_error(
    monkeypatch: pytest.MonkeyPatch, given: object, reason: str
) -> None:
    monkeypatch.delenv("CACHEWRAP_URL", raising=False)
    with pytest.raises(ConfigurationError, match=reason):
        activate(given)  # type: ignore[arg-type]
