"""What a type checker sees of the public API: checked by mypy and pyright, never run."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar, assert_type

import tenacity

from cachewrap import (
    Cache,
    activate,
    active_cache,
    deactivate,
    llm_cached,
    no_cache,
    patch_aiohttp,
    patch_all,
    patch_anthropic,
    patch_dspy,
    patch_groq,
    patch_httpx,
    patch_openai,
    patch_requests,
    patch_together,
    predicates,
    unpatch_openai,
)

P = ParamSpec("P")
R = TypeVar("R")


@llm_cached
def bare(prompt: str, *, temperature: float = 0.0) -> str:
    return prompt


@llm_cached()
def empty(prompt: str, *, temperature: float = 0.0) -> str:
    return prompt


@llm_cached(
    seed=7,
    cache=Cache.memory(),
    ttl=dt.timedelta(days=1),
    ignore=["temperature"],
    samples=True,
    when=predicates.usable,
    retry=2,
    version="2",
)
def full(prompt: str, *, temperature: float = 0.0) -> str:
    return prompt


assert_type(bare("hi"), str)
assert_type(bare("hi", temperature=1.0), str)
assert_type(empty("hi", temperature=1.0), str)
assert_type(full("hi", temperature=1.0), str)
bare(1)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
bare()  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
bare("hi", 1.0)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
bare("hi", heat=1.0)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
full(1)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]

# A call may bring options of its own; then the other arguments are not checked.
assert_type(bare("hi", sample=3), str)
assert_type(bare("hi", mode="refresh"), str)
assert_type(bare("hi", ttl=60.0, temperature=1.0), str)
assert_type(bare("hi", ttl=dt.timedelta(days=1)), str)
assert_type(bare("hi", ttl=None), str)
assert_type(bare("hi", cache=Cache.memory()), str)
assert_type(bare("hi", cache_seed=7), str)
assert_type(bare("hi", cache_seed=None, sample=1, mode="off", ttl=1), str)
assert_type(full("hi", temperature=1.0, cache_seed="draw 2"), str)
assert_type(bare.cache_key("hi", sample=3), str)
assert_type(bare.invalidate("hi", sample=3, cache=Cache.memory()), bool)
assert_type(bare.explain("hi", cache_seed=7).stored, bool)
bare("hi", sample="3")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
assert_type(bare("hi", sample=None), str)
bare("hi", mode="record")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
bare("hi", ttl="1d")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
bare("hi", cache="disk:.cache")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
bare("hi", cache_seed=1.5)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
bare("hi", seed=7)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]


# A function that has a parameter of that name keeps it, with its own type.
@llm_cached
def own(prompt: str, *, mode: int, sample: str = "") -> str:
    return prompt


assert_type(own("hi", mode=3, sample="a"), str)
assert_type(own("hi", mode=3, ttl=60), str)
own("hi", mode=3.5)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType, reportCallIssue]


# As a value it is a function of its own arguments.
with ThreadPoolExecutor() as pool:
    assert_type(pool.submit(bare, "hi").result(), str)
    assert_type(list(pool.map(bare, ["hi"])), list[str])
    assert_type(pool.submit(bare, "hi", sample=3).result(), str)
    pool.submit(bare, 1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
assert_type(list(map(bare, ["hi"])), list[str])
assert_type(partial(bare, "hi")(), str)
assert_type(partial(bare, "hi", sample=3)(), str)


def retried(function: Callable[P, R]) -> Callable[P, R]:
    return function


assert_type(retried(bare)("hi"), str)
retried(bare)(1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


# A function of a library.
@llm_cached(cache="blocks", seed=7, version=1)
def of_a_library(prompt: str) -> str:
    return prompt


assert_type(of_a_library("hi"), str)


@llm_cached(each="texts", version=1)
async def embed(texts: list[str], size: int = 8) -> list[list[float]]:
    return [[0.5] for _ in texts]


async def lists() -> None:
    assert_type(await embed(["a", "b"]), list[list[float]])
    assert_type(await embed(["a"], mode="refresh"), list[list[float]])
    assert_type(embed.cache_key(["a"]), str)
    assert_type(embed.invalidate(["a", "b"], size=4), bool)
    await embed("a")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]


llm_cached(each=3)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
llm_cached(cache="block")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]

# The names beside the call have its signature.
assert_type(bare.cache_key("hi", temperature=1.0), str)
assert_type(bare.invalidate("hi"), bool)
assert_type(bare.uncached("hi"), str)
assert_type(bare.explain("hi").stored, bool)
bare.explain(1)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
assert_type(bare.__wrapped__("hi"), str)
assert_type(bare.__name__, str)
bare.cache_key(1)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
bare.invalidate()  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
bare.uncached(1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
bare.cache_clear()  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]

# A decorated function is a callable like the one that it wraps.
as_callable: Callable[[str], str] = bare
as_other: Callable[[int], str] = bare  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]


@llm_cached
async def coroutine(prompt: str) -> int:
    return len(prompt)


@llm_cached(seed="draw 2", retry=tenacity.AsyncRetrying())
async def coroutine_full(prompt: str) -> int:
    return len(prompt)


async def awaits() -> None:
    assert_type(await coroutine("hi"), int)
    assert_type(await coroutine_full("hi"), int)
    assert_type(await coroutine.uncached("hi"), int)
    assert_type(coroutine.cache_key("hi"), str)
    assert_type(await coroutine("hi", sample=3), int)
    assert_type(await coroutine_full("hi", mode="replay"), int)
    assert_type(await asyncio.gather(coroutine("a"), coroutine("b", ttl=1)), tuple[int, int])
    assert_type(await asyncio.to_thread(bare, "hi"), str)
    await coroutine(1)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]


@llm_cached
def generator(prompt: str) -> Iterator[str]:
    yield prompt


@llm_cached(version=2)
async def async_generator(prompt: str) -> AsyncIterator[bytes]:
    yield prompt.encode()


assert_type(generator("hi"), Iterator[str])
assert_type(generator("hi", sample=3), Iterator[str])
for piece in generator("hi"):
    assert_type(piece, str)


async def iterates() -> None:
    assert_type(async_generator("hi"), AsyncIterator[bytes])
    assert_type(async_generator("hi", cache_seed=7), AsyncIterator[bytes])
    async for piece in async_generator("hi"):
        assert_type(piece, bytes)


class Client:
    @llm_cached
    def method(self, prompt: str) -> str:
        return prompt

    @llm_cached(ignore="self")
    async def async_method(self, prompt: str) -> str:
        return prompt

    @llm_cached
    @classmethod
    def of_class(cls, prompt: str) -> str:
        return prompt

    @llm_cached(version=1)
    @classmethod
    def of_class_full(cls, prompt: str) -> str:
        return prompt

    @llm_cached
    @staticmethod
    def static(prompt: str) -> str:
        return prompt

    @llm_cached(version=1)
    @staticmethod
    def static_full(prompt: str) -> str:
        return prompt


client = Client()
assert_type(client.method("hi"), str)
assert_type(client.method("hi", sample=3), str)
assert_type(client.method.cache_key("hi", sample=3), str)
assert_type(client.of_class("hi", cache=Cache.memory()), str)
assert_type(Client.of_class("hi", mode="refresh"), str)
assert_type(Client.static("hi", ttl=60), str)
client.method("hi", sample="3")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
assert_type(Client.method(client, "hi"), str)
assert_type(client.method.cache_key("hi"), str)
assert_type(client.method.uncached("hi"), str)
client.method(1)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
client.method()  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]

# mypy chooses among the overloads of `__get__` without a look at `self`, and so takes a classmethod
# that is reached through its class for a function that is to be given the class.
assert_type(client.of_class("hi"), str)
assert_type(client.of_class_full("hi"), str)
assert_type(Client.of_class("hi"), str)  # type: ignore[call-overload, assert-type]
assert_type(Client.of_class.invalidate("hi"), bool)  # type: ignore[call-overload, assert-type]
Client.of_class(1)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]

assert_type(Client.static("hi"), str)
assert_type(Client.static_full("hi"), str)
Client.static(1)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]


async def awaits_method() -> None:
    assert_type(await client.async_method("hi"), str)
    assert_type(await client.async_method("hi", sample=3), str)


# Options.
llm_cached(seed=None)
llm_cached(seed=1.5)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
llm_cached(cold=True)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
llm_cached(1)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]

# Caches and blocks.
assert_type(Cache.disk(), Cache)
assert_type(Cache.disk(7, "answers", ttl=60.0, max_bytes=1_000_000), Cache)
assert_type(Cache.jsonl("answers.jsonl", 7, mode="replay"), Cache)
assert_type(Cache.redis("draw 2", "redis://localhost:6379/0", namespace="app"), Cache)
assert_type(Cache.memory(None), Cache)
assert_type(Cache.memory(7, max_bytes=1_000_000, ttl=60), Cache)
assert_type(Cache.from_url("memory://"), Cache)
assert_type(Cache.memory().reseed(7), Cache)
assert_type(Cache.memory().mode("refresh"), Cache)
assert_type(Cache.memory(mode="read_only", samples=True).samples(), Cache)
assert_type(Cache.memory().explain(bare, "hi").nearest[0].diff, tuple[str, ...])
assert_type(active_cache(), Cache | None)
Cache.memory(mode="record")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Cache.memory().mode("record")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Cache.disk(1.5)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]

with Cache.memory() as cache:
    assert_type(cache, Cache)
    assert_type(cache.stats.hits, int)
    assert_type(cache.stats.unknown_hosts, dict[str, int])
    assert_type(cache.delete("key"), bool)
    assert_type(cache.keys(), Iterator[str])
    cache.set("key", {"any": ["value"]})
with no_cache():
    pass


async def enters() -> None:
    async with Cache.memory() as cache:
        assert_type(cache, Cache)


# The whole process.
with activate(Cache.memory()) as activation:
    assert_type(activation.cache, Cache)
assert_type(activate("disk:.cache").active, bool)
deactivate()

# The patch.
patch_openai()
assert_type(patch_openai().libraries, tuple[str, ...])
with patch_openai(cache=Cache.memory(), when=predicates.all_of(predicates.complete)):
    pass
unpatch_openai()

# Every patch takes a predicate.
with patch_anthropic(when=predicates.usable), patch_groq(when=predicates.usable):
    pass
with patch_together(when=predicates.usable), patch_all(hosts=["x"], when=predicates.usable):
    pass
for patch_plain in (patch_httpx, patch_requests, patch_aiohttp, patch_dspy):
    with patch_plain(Cache.memory(), hosts=["llm.intern:*"], when=predicates.usable):
        pass
