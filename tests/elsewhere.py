"""What tests run in other processes, where test modules cannot be imported."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cachewrap import Cache, llm_cached
from cachewrap.entry import Facts
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.stores.base import Claim, Store
from cachewrap.testing.stores import key_of

WAIT = 60.0


def swap(cache: Cache) -> Any:
    """Give the value of "key", and put another one in its place."""
    value = cache.get("key")
    cache.set("key", {"from": "child"})
    return value


def take_and_give(store: Store, key: str) -> Claim:
    """Try to take a lease, and give it back."""
    claim = store.acquire(key, "elsewhere", 60)
    if claim is Claim.TAKEN:
        store.release(key, "elsewhere")
    return claim


def record(path: Path, writer: int, count: int) -> None:
    """Write so many entries of this writer's to a cassette, and one that all write."""
    from cachewrap.stores.jsonl import JsonlStore

    store = JsonlStore(path)
    for number in range(count):
        entry = seal(*codec.encode(f"{writer}-{number}"), b"", Facts(created=0.0, seconds=0.0))
        store.add(key_of((writer, number)), entry)
        store.set(key_of("shared"), entry)
        if number % 10 == 9:
            store.close()


def record_at_once(path: Path, writer: int, count: int) -> None:
    """Write so many entries of this writer's to a cassette, thirty tasks at a time."""
    from cachewrap.stores.jsonl import JsonlStore

    store = JsonlStore(path)
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            key = key_of((writer, number))
            assert await store.aget(key) is None
            await asyncio.sleep(number * 7 % 5 / 1000)
            entry = seal(*codec.encode(f"{writer}-{number}"), b"", Facts(0.0, 0.0))
            assert await store.aadd(key, entry) == entry

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(30)))
        await store.aclose()

    asyncio.run(main())


class Stage:
    """A folder in which processes tell each other what they do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def note(self, what: str) -> None:
        """Say that this process has come to something."""
        (self.folder / f"{what} {os.getpid()} {time.monotonic_ns()}").touch()

    def count(self, what: str) -> int:
        """How often processes said so."""
        return len(list(self.folder.glob(f"{what} *")))

    def until(self, what: str, count: int = 1, seconds: float = WAIT) -> None:
        """Wait until processes have said so that often."""
        deadline = time.monotonic() + seconds
        while self.count(what) < count:
            assert time.monotonic() < deadline, f"{self.count(what)} of {count} {what}"
            time.sleep(0.002)


def _upstream(prompt: str, stage: Stage) -> str:
    stage.note("call")
    while not stage.count("answer"):
        if stage.count("fail") and prompt == "fails" and stage.count("call") == 1:
            raise ConnectionError("upstream is down")
        time.sleep(0.002)
    return f"{prompt} {os.getpid()}"


@llm_cached(ignore=["stage"])
def complete(prompt: str, stage: Stage) -> str:
    """Answers when it is let."""
    return _upstream(prompt, stage)


@llm_cached(ignore=["stage"])
async def acomplete(prompt: str, stage: Stage) -> str:
    """Answers when it is let, in a thread."""
    return await asyncio.to_thread(_upstream, prompt, stage)


def ask(cache: Cache, prompt: str, stage: Stage) -> str:
    """One question, from one process."""
    stage.note("asked")
    with cache:
        return complete(prompt, stage)


def ask_fifty(cache: Cache, prompt: str, stage: Stage) -> list[str]:
    """One question, from fifty tasks of one process."""

    async def all_at_once() -> list[str]:
        async with cache:
            return await asyncio.gather(*(acomplete(prompt, stage) for _ in range(50)))

    stage.note("asked")
    return asyncio.run(all_at_once())


@llm_cached(each="texts", ignore=["stage"])
def embed(texts: list[str], stage: Stage) -> list[str]:
    """Answers for all when it is let."""
    for text in texts:
        stage.note(f"call {text}")
    stage.note("call")
    while not stage.count("answer"):
        time.sleep(0.002)
    return [f"answer to {text}" for text in texts]


def ask_list(cache: Cache, texts: list[str], stage: Stage) -> list[str]:
    """A list, from one process."""
    stage.note("asked")
    with cache:
        return embed(texts, stage)


class ForkingStage(Stage):
    """A stage on which the first process that calls upstream forks, and its child waits."""

    def note(self, what: str) -> None:
        super().note(what)
        if what == "call" and not self.count("forked"):
            if not os.fork():
                while not self.count("answer"):
                    time.sleep(0.002)
                os._exit(0)
            super().note("forked")


def ask_and_fork(cache: Cache, prompt: str, stage: Stage) -> None:
    """One question from a process that forks while it is upstream."""
    ask(cache, prompt, ForkingStage(stage.folder))


def stream(cache: Cache, base_url: str, prompt: str) -> str:
    """One stream of the patched SDK, from one process."""
    with _picklable():
        return asyncio.run(_stream(cache, base_url, prompt, 1))[0]


def stream_four(cache: Cache, base_url: str, prompt: str) -> list[str]:
    """One stream, from four tasks of one process."""
    with _picklable():
        return asyncio.run(_stream(cache, base_url, prompt, 4))


def stream_in_four_threads(cache: Cache, base_url: str, prompt: str) -> list[str]:
    """One stream, from four threads of one process."""
    import openai

    import cachewrap

    def read(_: int) -> str:
        stream = client.chat.completions.create(**_asked(prompt), cache=cache)
        return "".join([piece.model_dump_json() for piece in stream])

    cachewrap.patch_openai()
    with (
        openai.OpenAI(api_key="sk", base_url=base_url, max_retries=0) as client,
        ThreadPoolExecutor(4) as pool,
        _picklable(),
    ):
        return list(pool.map(read, range(4)))


@contextmanager
def _picklable() -> Iterator[None]:
    """A block whose errors, those of the SDK, come as one that another process can be told."""
    try:
        yield
    except Exception as error:
        raise ConnectionError(f"the stream broke: {error!r}") from None


async def _stream(cache: Cache, base_url: str, prompt: str, count: int) -> list[str]:
    async with _client(base_url) as client:

        async def read() -> str:
            stream = await client.chat.completions.create(**_asked(prompt), cache=cache)
            return "".join([piece.model_dump_json() async for piece in stream])

        return await asyncio.gather(*(read() for _ in range(count)))


def stream_and_leave(
    cache: Cache, base_url: str, prompt: str, stage: Stage, reads_on: bool = False
) -> None:
    """One stream whose reader leaves when he is told to; meanwhile he reads on, or does not."""

    async def main() -> None:
        async with _client(base_url) as client:
            stream = await client.chat.completions.create(**_asked(prompt), cache=cache)
            await anext(stream)
            with suppress(Exception):
                while reads_on:
                    await anext(stream)
            await asyncio.to_thread(stage.until, "leave")
            await stream.close()

    asyncio.run(main())


def _client(base_url: str) -> Any:
    import openai

    import cachewrap

    cachewrap.patch_openai()
    return openai.AsyncOpenAI(api_key="sk", base_url=base_url, max_retries=0)


def _asked(prompt: str) -> dict[str, Any]:
    asked = {"role": "user", "content": prompt}
    return {"model": "m", "messages": [asked], "stream": True}
