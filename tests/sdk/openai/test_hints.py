"""The hint at a block around an SDK that is not patched, and at a patch without a block."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import openai
import pytest
from standin import Upstream

import cachewrap
from cachewrap import Cache, CacheWarning, llm_cached, no_cache
from cachewrap.telemetry import hints
from sdk.openai.asking import Colour
from sdk.openai.shapes import BY_NAME, chat

CHAT = BY_NAME["chat"]
UNPATCHED = (
    "calls of openai inside a block were not cached, because openai is not patched: write "
    "`cachewrap.patch_openai()` before the block (CACHEWRAP_HINTS=0 turns this hint off)"
)
NO_BLOCK = (
    "calls of openai were not cached: openai is patched, but no cache was active. Write "
    "`with Cache.disk():` around the calls, or `cachewrap.activate('disk:.cache')` before them "
    "(CACHEWRAP_HINTS=0 turns this hint off)"
)


@pytest.fixture(autouse=True)
def on(patched: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has seen nothing: the SDK is not patched, and no test is under way."""
    cachewrap.unpatch_openai()
    monkeypatch.delenv(hints.SETTING)
    monkeypatch.setattr(hints, "_WITHOUT_BLOCKS", ())
    hints.seen.forget()
    yield
    hints.seen.forget()


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What was told of it, and not of the sockets that earlier tests have left."""
    texts: list[str] = []

    def show(message: Warning | str, category: type[Warning], *rest: object) -> None:
        if issubclass(category, CacheWarning):
            texts.append(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield texts


def sync_client(up: Upstream) -> openai.OpenAI:
    return openai.OpenAI(base_url=up.base_url, api_key="sk-test", max_retries=0)


def async_client(up: Upstream) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=up.base_url, api_key="sk-test", max_retries=0)


def ask(up: Upstream, **more: Any) -> Any:
    with sync_client(up) as client:
        return client.chat.completions.create(**chat(1), **more)


async def aask(up: Upstream, **more: Any) -> Any:
    async with async_client(up) as client:
        return await client.chat.completions.create(**chat(1), **more)


# -- a block without a patch ----------------------------------------------------------------------


def test_it_is_told_at_the_end_of_the_block(up: Upstream, colour: Colour, told: list[str]) -> None:
    with Cache.memory() as cache:
        colour.ask(colour.client(up), CHAT)
        assert told == []
    assert told == [UNPATCHED]
    assert (cache.stats.misses, up.calls) == (0, 1)


def test_it_is_told_once(up: Upstream, told: list[str]) -> None:
    for _ in range(2):
        with Cache.memory():
            ask(up)
            ask(up)
    hints.seen.end()
    assert told == [UNPATCHED]


def test_the_sdk_is_what_it_was_once_it_was_noted(up: Upstream) -> None:
    before = openai.OpenAI.request.__code__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Cache.memory():
            ask(up)
            assert openai.OpenAI.request.__code__ is before


def test_it_tells_the_line_of_the_block(up: Upstream) -> None:
    with pytest.warns(CacheWarning) as warned, Cache.memory():
        ask(up)
    (one,) = [one for one in warned if one.category is CacheWarning]
    assert one.filename == __file__
    text = Path(__file__).read_text(encoding="utf-8").splitlines()[one.lineno - 1]
    assert text.strip().endswith("Cache.memory():")


def in_a_nested_block(up: Upstream) -> None:
    with Cache.memory(), Cache.memory(cache_seed=7):
        ask(up)


def in_an_async_block(up: Upstream) -> None:
    async def run() -> None:
        async with Cache.memory():
            await aask(up)

    asyncio.run(run())


def in_a_task(up: Upstream) -> None:
    async def run() -> None:
        async with Cache.memory():
            await asyncio.gather(aask(up), aask(up))

    asyncio.run(run())


def in_a_thread_that_has_the_block(up: Upstream) -> None:
    with cachewrap.patch_threads(), Cache.memory(), ThreadPoolExecutor() as pool:
        pool.submit(ask, up).result()


def in_a_thread_with_a_block(up: Upstream) -> None:
    def run() -> None:
        with Cache.memory():
            ask(up)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def in_a_stack_of_exits(up: Upstream) -> None:
    with ExitStack() as stack:
        stack.enter_context(Cache.memory())
        ask(up)


def as_a_stream(up: Upstream) -> None:
    with Cache.memory(), sync_client(up) as client:
        list(client.chat.completions.create(**chat(1), stream=True))


def after_the_patch_was_undone(up: Upstream) -> None:
    with cachewrap.patch_openai():
        pass
    with Cache.memory():
        ask(up)


def by_embeddings(up: Upstream) -> None:
    with Cache.memory(), sync_client(up) as client:
        client.embeddings.create(model="m", input="text")


def beside_a_decorated_function(up: Upstream) -> None:
    @llm_cached
    def decorated(prompt: str) -> str:
        return prompt

    with Cache.memory():
        decorated("a")
        ask(up)


def under_replay(up: Upstream) -> None:
    with Cache.memory(mode="replay"):
        ask(up)


@pytest.mark.parametrize(
    "run",
    [
        in_a_nested_block,
        in_an_async_block,
        in_a_task,
        in_a_thread_that_has_the_block,
        in_a_thread_with_a_block,
        in_a_stack_of_exits,
        as_a_stream,
        after_the_patch_was_undone,
        by_embeddings,
        beside_a_decorated_function,
        under_replay,
    ],
)
def test_a_call_in_a_block_that_is_not_patched(
    up: Upstream, told: list[str], run: Callable[[Upstream], None]
) -> None:
    run(up)
    assert told == [UNPATCHED]


def outside_the_block(up: Upstream) -> None:
    with Cache.memory():
        pass
    ask(up)


def that_is_patched(up: Upstream) -> None:
    with cachewrap.patch_openai(), Cache.memory():
        ask(up)


def that_is_patched_inside(up: Upstream) -> None:
    with Cache.memory(), cachewrap.patch_openai():
        ask(up)


def that_goes_through_cached_http(up: Upstream) -> None:
    with cachewrap.patch_httpx(hosts=["127.0.0.1"]), Cache.memory():
        ask(up)


def where_nothing_is_to_be_cached(up: Upstream) -> None:
    with Cache.memory(), no_cache():
        ask(up)


def without_a_seed(up: Upstream) -> None:
    with Cache.memory(cache_seed=None):
        ask(up)


def in_mode_off(up: Upstream) -> None:
    with Cache.memory(mode="off"):
        ask(up)


def that_asks_no_model(up: Upstream) -> None:
    with Cache.memory(), sync_client(up) as client, suppress(openai.OpenAIError):
        client.models.list()


def whose_answers_are_kept_by_hand(up: Upstream) -> None:
    """As AutoGen 0.2 does with the cache that it is given."""
    with Cache.memory() as cache:
        if cache.get("key") is None:
            cache.set("key", ask(up).model_dump())


def in_a_thread_without_the_block(up: Upstream) -> None:
    with Cache.memory(), ThreadPoolExecutor() as pool:
        pool.submit(ask, up).result()


def in_a_decorated_function(up: Upstream) -> None:
    with Cache.memory():
        llm_cached(lambda prompt: ask(up).id)("a")


def in_a_decorated_coroutine(up: Upstream) -> None:
    @llm_cached
    async def decorated(prompt: str) -> str:
        return str((await aask(up)).id)

    with Cache.memory():
        asyncio.run(decorated("a"))


def in_a_decorated_generator(up: Upstream) -> None:
    @llm_cached
    def decorated(prompt: str) -> Iterator[str]:
        for _ in range(2):
            yield ask(up).id

    with Cache.memory():
        list(decorated("a"))


def in_a_decorated_async_generator(up: Upstream) -> None:
    @llm_cached
    async def decorated(prompt: str) -> AsyncIterator[str]:
        for _ in range(2):
            yield (await aask(up)).id

    async def run() -> list[str]:
        return [item async for item in decorated("a")]

    with Cache.memory():
        asyncio.run(run())


def in_a_task_of_a_decorated_coroutine(up: Upstream) -> None:
    @llm_cached
    async def decorated(prompt: str) -> list[str]:
        return [answer.id for answer in await asyncio.gather(aask(up), aask(up))]

    with Cache.memory():
        asyncio.run(decorated("a"))


def in_a_decorated_function_alone(up: Upstream) -> None:
    with Cache.memory(single_flight=False):
        llm_cached(lambda prompt: ask(up).id)("a")


def in_a_decorated_function_with_threads(up: Upstream) -> None:
    @llm_cached
    def decorated(prompt: str) -> list[str]:
        with ThreadPoolExecutor() as pool:
            return [answer.id for answer in pool.map(ask, [up, up])]

    with cachewrap.patch_threads(), Cache.memory():
        decorated("a")


def in_a_sampled_call(up: Upstream) -> None:
    with Cache.memory().samples():
        llm_cached(lambda prompt: ask(up).id)("a")


def in_a_decorated_function_that_is_not_cached(up: Upstream) -> None:
    with Cache.memory():
        llm_cached(seed=None)(lambda prompt: ask(up).id)("a")


@pytest.mark.parametrize(
    "run",
    [
        outside_the_block,
        that_is_patched,
        that_is_patched_inside,
        that_goes_through_cached_http,
        where_nothing_is_to_be_cached,
        without_a_seed,
        in_mode_off,
        that_asks_no_model,
        whose_answers_are_kept_by_hand,
        in_a_thread_without_the_block,
        in_a_decorated_function,
        in_a_decorated_coroutine,
        in_a_decorated_generator,
        in_a_decorated_async_generator,
        in_a_task_of_a_decorated_coroutine,
        in_a_decorated_function_alone,
        in_a_decorated_function_with_threads,
        in_a_sampled_call,
        in_a_decorated_function_that_is_not_cached,
    ],
)
def test_a_call_that_is_no_fault(
    up: Upstream, told: list[str], run: Callable[[Upstream], None]
) -> None:
    run(up)
    hints.seen.end()
    assert told == []
    assert up.calls > 0


def test_an_error_in_the_block_is_seen_first(up: Upstream, told: list[str]) -> None:
    def fail() -> None:
        with Cache.memory():
            ask(up)
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert told == []
    hints.seen.end()
    assert told == [UNPATCHED]


def test_where_warnings_are_errors_it_is_one_after_the_block(up: Upstream) -> None:
    cache = Cache.memory()

    def run() -> None:
        with cache:
            ask(up)

    with warnings.catch_warnings():
        warnings.simplefilter("error", CacheWarning)
        with pytest.raises(CacheWarning):
            run()
    assert cachewrap.active_cache() is None


@pytest.mark.parametrize("stand_in", [mock.MagicMock(), None], ids=["a mock", "nothing"])
def test_an_sdk_that_is_stubbed_is_left_alone(told: list[str], stand_in: Any) -> None:
    with mock.patch.dict(sys.modules, {"openai._base_client": stand_in}), Cache.memory():
        pass
    assert told == []


@pytest.mark.parametrize("run", [in_a_nested_block, in_a_task])
def test_it_can_be_turned_off(
    up: Upstream, told: list[str], monkeypatch: pytest.MonkeyPatch, run: Callable[[Upstream], None]
) -> None:
    monkeypatch.setenv("CACHEWRAP_HINTS", "0")
    before = openai.OpenAI.request.__code__
    with Cache.memory():
        assert openai.OpenAI.request.__code__ is before
    run(up)
    hints.seen.end()
    assert told == []


# -- a patch without a block ----------------------------------------------------------------------


@pytest.mark.parametrize("colour", ["sync", "async"], indirect=True)
def test_it_is_told_at_the_end_of_the_process(
    up: Upstream, colour: Colour, told: list[str]
) -> None:
    with cachewrap.patch_openai():
        colour.ask(colour.client(up), CHAT)
    assert told == []
    hints.seen.end()
    hints.seen.end()
    assert told == [NO_BLOCK]


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_filters_turn_it_off_at_the_end_of_the_process(
    up: Upstream, capsys: pytest.CaptureFixture[str], action: Any
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(action, CacheWarning)
        with cachewrap.patch_openai():
            ask(up)
        hints.seen.end()
    assert capsys.readouterr().err == ""


def test_everything_is_patched(up: Upstream, told: list[str]) -> None:
    with cachewrap.patch_all():
        ask(up)
    hints.seen.end()
    assert told == [NO_BLOCK]


def test_only_plain_http_is_patched(up: Upstream, told: list[str]) -> None:
    with cachewrap.patch_httpx(hosts=["127.0.0.1"]):
        ask(up)
    hints.seen.end()
    assert told == [NO_BLOCK.replace("openai", "plain HTTP")]


def by_default(up: Upstream) -> None:
    with cachewrap.patch_openai(Cache.memory()):
        ask(up)
    with cachewrap.patch_openai():
        ask(up)


def by_default_of_http(up: Upstream) -> None:
    with cachewrap.patch_httpx(Cache.memory(), hosts=["127.0.0.1"]):
        ask(up)
    with cachewrap.patch_openai():
        ask(up)


def before_a_block(up: Upstream) -> None:
    with cachewrap.patch_openai():
        ask(up)
        with Cache.memory():
            pass


def after_a_block(up: Upstream) -> None:
    with Cache.memory():
        pass
    with cachewrap.patch_openai():
        ask(up)


def with_a_cache_of_its_own(up: Upstream) -> None:
    with cachewrap.patch_openai():
        ask(up)
        ask(up, cache=Cache.memory())


def uncached_by_choice(up: Upstream) -> None:
    with cachewrap.patch_openai():
        ask(up, cache_seed=None)
        ask(up, mode="off")


def beside_values_kept_by_hand(up: Upstream) -> None:
    with cachewrap.patch_openai():
        ask(up)
        Cache.memory().set("key", "value")


def in_no_cache(up: Upstream) -> None:
    with cachewrap.patch_openai(), no_cache():
        ask(up)


def that_asks_for_models(up: Upstream) -> None:
    with cachewrap.patch_openai():
        that_asks_no_model(up)


def before_the_patch(up: Upstream) -> None:
    ask(up)
    cachewrap.patch_openai()


@pytest.mark.parametrize(
    "run",
    [
        by_default,
        by_default_of_http,
        before_a_block,
        after_a_block,
        with_a_cache_of_its_own,
        uncached_by_choice,
        beside_values_kept_by_hand,
        in_no_cache,
        that_asks_for_models,
        before_the_patch,
    ],
)
def test_a_call_outside_a_block_that_is_no_fault(
    up: Upstream, told: list[str], run: Callable[[Upstream], None]
) -> None:
    run(up)
    hints.seen.end()
    assert told == []
    assert up.calls > 0


def test_it_is_not_told_beside_a_decorator_or_in_tests(
    up: Upstream, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.delenv(hints.SETTING)
    with cachewrap.patch_openai():
        ask(up)
    hints.seen.end()
    assert told == []


# -- what a user sees -----------------------------------------------------------------------------

HEAD = """
import asyncio, os, sys, threading
import openai
import cachewrap
from cachewrap import Cache, patch_openai

def ask():
    with openai.OpenAI(base_url=sys.argv[1], api_key="sk-test", max_retries=0) as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])

async def aask():
    async with openai.AsyncOpenAI(base_url=sys.argv[1], api_key="sk-test") as client:
        await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}]
        )
"""
HEIGHT = HEAD.count("\n")
IN_BLOCK = """
with Cache.memory():
    ask()
    asyncio.run(aask())
print("end")
sys.exit(3)
"""
PATCHED = """
patch_openai()
threads = [threading.Thread(target=ask) for _ in range(2)]
for thread in threads: thread.start()
asyncio.run(aask())
for thread in threads: thread.join()
sys.exit("failed")
"""


def run(up: Upstream, folder: Path, program: str, **env: str) -> tuple[int, str]:
    """The exit status of a program, and what it writes to stderr, its file called ``app.py``."""
    (folder / "app.py").write_text(HEAD + program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "app.py", up.base_url],
        cwd=folder,
        env={**os.environ, **env},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr.replace(f"{folder}{os.sep}", "")


def shown(line: int, text: str, code: str) -> str:
    return f"app.py:{HEIGHT + line}: CacheWarning: {text}\n  {code}\n"


@pytest.mark.parametrize(
    ("program", "status", "lines"),
    [
        pytest.param(IN_BLOCK, 3, [(2, UNPATCHED, "with Cache.memory():")], id="no patch"),
        pytest.param(PATCHED, 1, ["failed\n", (2, NO_BLOCK, "patch_openai()")], id="no block"),
        pytest.param(
            "\npatch_openai()\nask()\nos._exit(4)\n", 4, [], id="it ends without any ending"
        ),
        pytest.param(
            """
patch_openai()
if child := os.fork():
    ask()
    os.waitpid(child, 0)
    os.dup2(1, 2)
else:
    ask()
""",
            0,
            [],
            id="a forked child",
            marks=pytest.mark.posix("forks"),
        ),
    ],
)
def test_a_program_shows(
    up: Upstream, tmp_path: Path, program: str, status: int, lines: list[Any]
) -> None:
    expected = "".join(line if isinstance(line, str) else shown(*line) for line in lines)
    assert run(up, tmp_path, program) == (status, expected)
    assert up.calls > 0


def test_a_program_shows_nothing_where_it_is_turned_off(up: Upstream, tmp_path: Path) -> None:
    assert run(up, tmp_path, PATCHED, CACHEWRAP_HINTS="0") == (1, "failed\n")


def test_a_program_under_the_command_is_told_by_the_command(up: Upstream, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(f"{HEAD}ask()\n", encoding="utf-8")
    command = [sys.executable, "-m", "cachewrap", "run", sys.executable, "app.py", up.base_url]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "CacheWarning" not in done.stderr
    assert done.returncode == 0


# -- an SDK that is first imported inside a block --------------------------------------------------

IMPORTS_LATE = """
import sys
import cachewrap
from cachewrap import Cache, patch_openai

def ask():
    import openai
    with openai.OpenAI(base_url=sys.argv[1], api_key="sk-test", max_retries=0) as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])

"""
LATE = [
    pytest.param("with Cache.memory():\n    ask()\n", True, id="in a block"),
    pytest.param(
        "with Cache.memory(): pass\nwith Cache.memory():\n    ask()\n    ask()\n",
        True,
        id="in a later one",
    ),
    pytest.param("with Cache.memory(): pass\nask()\n", False, id="after the block"),
    pytest.param("with Cache.memory():\n    import openai\n", False, id="and not asked"),
    pytest.param("patch_openai()\nwith Cache.memory():\n    ask()\n", False, id="patched before"),
    pytest.param(
        "with Cache.memory():\n    patch_openai()\n    ask()\n", False, id="patched inside"
    ),
    pytest.param(
        "with Cache.memory():\n    import openai\n    patch_openai()\n    ask()\n",
        False,
        id="patched after the import",
    ),
    pytest.param("cachewrap.activate(Cache.memory())\nask()\n", False, id="activated"),
]


@pytest.mark.parametrize(("program", "told"), LATE)
def test_an_sdk_that_is_first_imported_inside(
    up: Upstream, tmp_path: Path, program: str, told: bool
) -> None:
    (tmp_path / "app.py").write_text(IMPORTS_LATE + program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "app.py", up.base_url],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != hints.SETTING},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (UNPATCHED in done.stderr) is told, done.stderr


def test_where_hints_are_off_nobody_waits_for_an_import(monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(sys.meta_path)
    monkeypatch.setitem(hints._CLIENTS, "not_there", "not_there._base_client")
    monkeypatch.setenv(hints.SETTING, "0")
    with Cache.memory():
        assert sys.meta_path == before
    monkeypatch.delenv(hints.SETTING)
    with Cache.memory(), Cache.memory():
        assert len(sys.meta_path) == len(before) + 1
    hints.seen.forget()
    assert sys.meta_path == before
