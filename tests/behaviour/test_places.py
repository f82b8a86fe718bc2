"""The place of a cache is not taken for its seed: the call that was meant is told."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import pytest

from cachewrap import (
    Cache,
    CacheWarning,
    ConfigurationError,
    activate,
    llm_cached,
    patch_openai,
)
from cachewrap.http.httpx import CachedTransport
from cachewrap.policy import seed_text
from cachewrap.stores.memory import MemoryStore

SEEDS = [
    pytest.param("redis://", 'Cache.redis(redis_url="redis://")', id="the scheme alone"),
    pytest.param("redis://h:1/2", 'Cache.redis(redis_url="redis://h:1/2")', id="a server"),
    pytest.param("rediss://h", 'Cache.redis(redis_url="rediss://h")', id="over TLS"),
    pytest.param("unix:///run/r.sock", 'Cache.redis(redis_url="unix:///run/r.sock")', id="socket"),
    pytest.param(
        "redis+cluster://a,b", 'Cache.redis(redis_url="redis+cluster://a,b")', id="a cluster"
    ),
    pytest.param("REDIS://h", 'Cache.redis(redis_url="REDIS://h")', id="in capitals"),
    pytest.param(
        "redis://me:sesame@h/0", 'Cache.redis(redis_url="redis://***@h/0")', id="a password"
    ),
    pytest.param(
        "redis://h/0?password=sesame", 'Cache.redis(redis_url="redis://h/0")', id="in the query"
    ),
    pytest.param(
        "localhost:6379/0", 'Cache.redis(redis_url="redis://localhost:6379/0")', id="host"
    ),
    pytest.param("disk:///srv/a", 'Cache.from_url("disk:///srv/a")', id="a URL of a folder"),
    pytest.param("disk:srv/a", 'Cache.from_url("disk:srv/a")', id="a relative URL"),
    pytest.param("memory://", 'Cache.from_url("memory://")', id="a URL of no place"),
    pytest.param("https://h/a", 'Cache.from_url("https://h/a")', id="a URL of something else"),
    pytest.param("/srv/answers", 'Cache.disk(cache_path_root="/srv/answers")', id="a folder"),
    pytest.param("./answers", 'Cache.disk(cache_path_root="./answers")', id="a relative folder"),
    pytest.param("a/b", 'Cache.disk(cache_path_root="a/b")', id="two parts"),
    pytest.param("answers/", 'Cache.disk(cache_path_root="answers/")', id="a separator at the end"),
    pytest.param("..\\a", 'Cache.disk(cache_path_root="..\\\\a")', id="as Windows has it"),
    pytest.param("C:\\a", 'Cache.disk(cache_path_root="C:\\\\a")', id="with a drive"),
    pytest.param("~/a.jsonl", 'Cache.jsonl("~/a.jsonl")', id="a file"),
    pytest.param(Path(".cache"), 'Cache.disk(cache_path_root=".cache")', id="a path"),
    pytest.param(Path("a.jsonl"), 'Cache.jsonl("a.jsonl")', id="the path of a file"),
    pytest.param(
        PureWindowsPath("a\\b"), 'Cache.disk(cache_path_root="a\\\\b")', id="a path of Windows"
    ),
]


@llm_cached
def plain(prompt: str) -> str:
    return prompt


WAYS: dict[str, Callable[[Any], Any]] = {
    "Cache": lambda seed: Cache(MemoryStore(), cache_seed=seed),
    "disk": lambda seed: Cache.disk(seed),
    "redis": lambda seed: Cache.redis(seed),
    "memory": lambda seed: Cache.memory(seed),
    "jsonl": lambda seed: Cache.jsonl("a.jsonl", seed),
    "reseed": lambda seed: Cache.memory().reseed(seed),
    "a call": lambda seed: plain("hi", cache=Cache.memory(), cache_seed=seed),
    "llm_cached": lambda seed: llm_cached(seed=seed)(print),
}


@pytest.mark.parametrize(("seed", "call"), SEEDS)
def test_a_place_is_no_seed(seed: Any, call: str) -> None:
    with pytest.raises(ConfigurationError, match=f"write {re.escape(call)}$") as refused:
        Cache.disk(seed)
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize("make", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("seed", ["redis://h:1/2", "/srv/answers", "a\\b", Path("a")], ids=repr)
def test_wherever_a_seed_is_given(
    make: Callable[[Any], Any], seed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"a seed names a draw.*write Cache\.(disk|redis)"):
        make(seed)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("make", WAYS.values(), ids=WAYS)
def test_a_seed_holds_no_nul(make: Callable[[Any], Any]) -> None:
    with pytest.raises(ConfigurationError, match="a seed holds no NUL"):
        make("a\0b")


@pytest.mark.parametrize("seed", ["a/b", "redis://h", "%2Fsrv%2Fanswers", "a%5Cb", "a%00b"])
@pytest.mark.parametrize("url", ["disk:answers", "memory://", "jsonl:a.jsonl", "redis://h"])
def test_in_a_url(url: str, seed: str) -> None:
    with pytest.raises(ConfigurationError, match=r"a seed (names a draw|holds no NUL)"):
        Cache.from_url(f"{url}?cache_seed={seed}")


@pytest.mark.parametrize(
    "seed", [0, -1, "41", ".cache", "a.jsonl", "a:b", "..", "~", "a b", "ü", "redis", "%2F", "C:"]
)
def test_what_else_there_is_can_be_a_seed(seed: Any) -> None:
    assert seed_text(seed) == str(seed)


LIKE_PLACES = [
    pytest.param("disk", ".cache", 'Cache.disk(cache_path_root=".cache")', id="hidden"),
    pytest.param("disk", "my_cache", 'Cache.disk(cache_path_root="my_cache")', id="my-cache"),
    pytest.param("disk", "cache", 'Cache.disk(cache_path_root="cache")', id="cache"),
    pytest.param("disk", "a.jsonl", 'Cache.jsonl("a.jsonl")', id="file"),
    pytest.param("redis", "h:6379", 'Cache.redis(redis_url="redis://h:6379")', id="server"),
]


@pytest.mark.parametrize(("method", "seed", "call"), LIKE_PLACES)
def test_a_seed_that_looks_like_a_place_is_hinted_at(
    monkeypatch: pytest.MonkeyPatch, method: str, seed: str, call: str
) -> None:
    monkeypatch.delenv("CACHEWRAP_HINTS")
    with pytest.warns(CacheWarning, match=f"for a seed, .* write {re.escape(call)} ") as told:
        made = getattr(Cache, method)(seed)
    assert (made.seed, told[0].filename) == (seed, __file__)


@pytest.mark.parametrize("seed", [41, "monday", "caches", "precached", "v1.2", "gpt-4o", None])
def test_other_seeds_are_silent(
    monkeypatch: pytest.MonkeyPatch, seed: Any, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.delenv("CACHEWRAP_HINTS")
    Cache.disk(seed)
    assert not recwarn.list


def test_hints_at_seeds_can_be_turned_off(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setenv("CACHEWRAP_HINTS", "0")
    Cache.disk(".cache")
    assert not recwarn.list


MEANT: dict[str, tuple[Callable[[], Any], str]] = {
    "a folder that is a URL": (
        lambda: Cache.disk(41, "redis://h:1/2"),
        'a URL: write Cache.redis(redis_url="redis://h:1/2")',
    ),
    "a folder with a scheme": (
        lambda: Cache.disk(cache_path_root="disk:.cache"),
        'a URL: write Cache.from_url("disk:.cache")',
    ),
    "a folder that is a number": (
        lambda: Cache.disk(".cache", 41),  # type: ignore[arg-type]
        'got 41: write Cache.disk(cache_path_root=".cache")',
    ),
    "a folder without a name": (
        lambda: Cache.disk(cache_path_root=""),
        """got '': write Cache.disk(cache_path_root=".cache")""",
    ),
    "a file without a name": (
        lambda: Cache.jsonl(""),
        """got '': write Cache.jsonl("answers.jsonl", cache_seed=41)""",
    ),
    "a folder with a NUL": (lambda: Cache.disk(41, "a\0b"), "holds no NUL"),
    "a server without a scheme": (
        lambda: Cache.redis(41, "localhost"),
        'write Cache.redis(redis_url="redis://localhost:6379/0")',
    ),
    "a server with a port": (
        lambda: Cache.redis(41, "localhost:7000"),
        'write Cache.redis(redis_url="redis://localhost:7000")',
    ),
    "a server that is a folder": (
        lambda: Cache.redis(41, "/srv/answers"),
        'write Cache.disk(cache_path_root="/srv/answers")',
    ),
    "a server that is another URL": (
        lambda: Cache.redis(41, "disk:answers"),
        'write Cache.from_url("disk:answers")',
    ),
    "a file that is a URL": (
        lambda: Cache.jsonl("redis://h"),
        'a URL: write Cache.redis(redis_url="redis://h")',
    ),
    "a file behind the seed": (
        lambda: Cache.jsonl(41, "a.jsonl"),  # type: ignore[arg-type]
        'path is a path, got 41: write Cache.jsonl("answers.jsonl", cache_seed=41)',
    ),
    "a URL that is a folder": (lambda: Cache.from_url("/srv/answers"), "write disk:/srv/answers"),
    "a URL that is a file": (lambda: Cache.from_url("a.jsonl"), "write jsonl:a.jsonl"),
    "a URL that is a server": (lambda: Cache.from_url("h:6379"), "write redis://h:6379"),
    "a URL with a seed": (lambda: Cache.from_url("disk:a?seed=3"), "did you mean cache_seed?"),
    "a server with a seed": (lambda: Cache.from_url("redis://h?seed=3"), "cache_seed="),
    "an active folder": (lambda: activate("/srv/answers"), "write disk:/srv/answers"),
    "a URL that is a kind": (lambda: activate("disk"), "write disk:.cache"),
    "a URL that is memory": (lambda: Cache.from_url("memory"), "write memory:"),
    "a span with a unit": (
        lambda: Cache.from_url("disk:a?ttl=1h"),
        "ttl='1h' in a cache URL: give a number of seconds, such as 3600",
    ),
    "a size with a unit": (
        lambda: Cache.from_url("disk:a?max_bytes=2G"),
        "max_bytes='2G' in a cache URL: give a number of bytes, such as 2000000000",
    ),
    "a size that is text": (
        lambda: Cache.disk(max_bytes="2G"),  # type: ignore[arg-type]
        "max_bytes is '2G': give a positive number, or None",
    ),
    "the class of caches": (
        lambda: activate(Cache),  # type: ignore[arg-type]
        "got the class Cache: write Cache.disk(), ",
    ),
    "an answer in place of a function": (
        lambda: Cache.memory().explain("Answer."),  # type: ignore[arg-type]
        'as in `cache.explain(ask, "What is a cache?")`, or a request as a dict; got str',
    ),
    "an active path": (
        lambda: activate(Path("answers")),  # type: ignore[arg-type]
        'write Cache.disk(cache_path_root="answers")',
    ),
    "the cache of an SDK": (
        lambda: patch_openai(cache="redis://h"),  # type: ignore[arg-type]
        'got str: write Cache.redis(redis_url="redis://h")',
    ),
    "the cache of a transport": (
        lambda: CachedTransport(cache="disk:a"),  # type: ignore[arg-type]
        'got str: write Cache.from_url("disk:a")',
    ),
    "the cache of a function": (
        lambda: llm_cached(cache="/srv/a")(print),  # type: ignore[call-overload]
        'got str: write Cache.disk(cache_path_root="/srv/a")',
    ),
    "the cache of a call": (
        lambda: plain("hi", cache=41),
        "got int: write Cache.disk(cache_seed=41)",
    ),
}


@pytest.mark.parametrize(("make", "message"), MEANT.values(), ids=MEANT)
def test_the_call_that_was_meant_is_told(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        make()


NO_STORES: dict[str, tuple[Any, str]] = {
    "None": (None, "Cache.disk(), Cache.redis(), Cache.memory(), Cache.jsonl(path)"),
    "an object": (object(), 'or Cache.from_url("disk:.cache")'),
    "a URL": ("disk:answers", 'write Cache.from_url("disk:answers")'),
    "a server": ("redis://u:sesame@h", 'write Cache.redis(redis_url="redis://***@h")'),
    "a folder": ("/srv/a", 'write Cache.disk(cache_path_root="/srv/a")'),
    "a path": (Path("a"), 'write Cache.disk(cache_path_root="a")'),
    "a file": ("a.jsonl", 'write Cache.jsonl("a.jsonl")'),
    "a seed": (41, "write Cache.disk(cache_seed=41)"),
    "no configuration": ({}, "write Cache.disk()"),
    "AutoGen's for a disk": (
        {"cache_seed": 7, "cache_path_root": ".cache"},
        'write Cache.disk(cache_seed=7, cache_path_root=".cache")',
    ),
    "AutoGen's of a text": ({"cache_seed": "a"}, 'write Cache.disk(cache_seed="a")'),
    "AutoGen's for a server": (
        {"cache_seed": 7, "redis_url": "redis://u:sesame@h"},
        'write Cache.redis(cache_seed=7, redis_url="redis://***@h")',
    ),
    "AutoGen's for Cosmos DB": (
        {"cache_seed": 7, "cosmos_db_config": {"container_id": "a"}},
        "write Cache.disk(cache_seed=7)",
    ),
    "a cache": (Cache.memory(), "that is one already"),
    "a client": (
        type("Redis", (), {"__module__": "redis.client"})(),
        'write Cache.redis(redis_url="redis://…")',
    ),
    "a folder of diskcache": (
        type("Cache", (SimpleNamespace,), {"__module__": "diskcache.core"})(directory="/srv/a"),
        'write Cache.disk(cache_path_root="/srv/a")',
    ),
}


@pytest.mark.parametrize(("given", "message"), NO_STORES.values(), ids=NO_STORES)
def test_what_is_no_store_names_the_constructors(given: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)) as refused:
        Cache(given)
    assert "sesame" not in str(refused.value)


def test_no_store_at_all_names_them_too() -> None:
    with pytest.raises(ConfigurationError, match=r"Cache\.disk\(\), Cache\.redis\(\)"):
        Cache()


OPTIONS = [
    (Cache.disk, "seed", "did you mean cache_seed?"),
    (Cache.redis, "seed", "did you mean cache_seed?"),
    (Cache.memory, "seed", "did you mean cache_seed?"),
    (lambda **given: Cache.jsonl("a.jsonl", **given), "seed", "did you mean cache_seed?"),
    (lambda **given: Cache(MemoryStore(), **given), "seed", "did you mean cache_seed?"),
    *((Cache.disk, name, "mean cache_path_root?") for name in ("path", "root", "dir", "directory")),
    *((Cache.disk, name, "mean cache_path_root?") for name in ("folder", "cache_dir", "db")),
    (Cache.disk, "cache_path_rot", "did you mean"),
    (Cache.disk, "url", "Cache.from_url"),
    (Cache.disk, "redis_url", "Cache.redis takes it"),
    (Cache.redis, "url", 'mean redis_url="redis://host:port/db"?'),
    *((Cache.redis, name, "mean redis_url=") for name in ("host", "port", "db", "redis")),
    (Cache.redis, "cache_path_root", "Cache.disk takes it"),
    (Cache.memory, "cache_path_root", "Cache.disk takes it"),
    (Cache.memory, "tll", "did you mean ttl?"),
    (lambda **given: Cache.jsonl("a.jsonl", **given), "file", "did you mean path?"),
    (Cache.memory, "colour", "a cache has no option 'colour'"),
]


@pytest.mark.parametrize(("make", "name", "message"), OPTIONS)
def test_an_option_of_another_name_is_told_its_own(
    make: Callable[..., Any], name: str, message: str
) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        make(**{name: 3})
