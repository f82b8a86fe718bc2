"""A fast hit does what the general path does, and leaves it what is unusual."""

from __future__ import annotations

import asyncio
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import kinds
import pytest

from cachewrap import (
    Cache,
    CacheWarning,
    UnkeyableError,
    active_cache,
    blocks,
    llm_cached,
    no_cache,
)
from cachewrap.entry import Facts
from cachewrap.format.envelope import seal, unseal
from cachewrap.function import fast_hit
from cachewrap.function.calls import FunctionExchange

WHOLE: Any = [{"role": "user", "content": "a"}, {"role": "user", "content": "b", "n": 1}]

ARGUMENTS: list[Any] = [
    "text",
    "\ud800",
    2**64,
    1,
    1.0,
    True,
    None,
    float("nan"),
    float("inf"),
    b"bytes",
    ("a", "b"),
    ["a", "b"],
    [],
    {},
    {"!tuple": ["a"]},
    [{"!tuple": ["a"]}],
    [{"a": ("b",), "c": 1}],
    [{1: "a", 2: "b"}],
    [{kinds.Shade.RED: "a", "b": "c"}],
    list(kinds.Shade),
    [{"a": shade, "b": 1} for shade in kinds.Shade],
    WHOLE,
    [*WHOLE, ["deep", {"er": [{"a": 1, "b": [2.5]}]}]],
    {"a": {"b": {"c": ["d"]}}},
    kinds.Frozen(1),
    object(),
]
ANSWERS: list[Any] = [
    "text",
    "",
    None,
    {"a": [1, 2.5, "b"]},
    ("a", {1, 2}),
    b"bytes",
    kinds.Frozen(1),
    SimpleNamespace(model="m", usage=SimpleNamespace(prompt_tokens=3, completion_tokens=2)),
]


class Asked:
    """Decorated functions of every kind that gives one answer."""

    def __init__(self, answer: Any = "an answer") -> None:
        self.calls = 0
        self.answer = answer

        def ask(prompt: Any, *, more: Any = 0.5, **rest: Any) -> Any:
            self.calls += 1
            return self.answer

        async def later(prompt: Any, *, more: Any = 0.5, **rest: Any) -> Any:
            self.calls += 1
            return self.answer

        class Owner:
            @llm_cached(ignore="self")
            def method(self, prompt: Any, *, more: Any = 0.5, **rest: Any) -> Any:
                return ask(prompt)

            @llm_cached
            @staticmethod
            def static(prompt: Any, *, more: Any = 0.5, **rest: Any) -> Any:
                return ask(prompt)

        awaited = llm_cached(later)
        self.sync: Any = llm_cached(ask)
        self.by: dict[str, Callable[..., Any]] = {
            "sync": self.sync,
            "async": lambda *args, **kwargs: asyncio.run(awaited(*args, **kwargs)),
            "method": Owner().method,
            "static": Owner.static,
        }


@pytest.fixture
def general(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Makes a block in which no call is a fast hit."""

    @contextmanager
    def only() -> Iterator[None]:
        with monkeypatch.context() as patched:
            patched.setattr(fast_hit, "are_plain", lambda arguments: False)
            yield

    return only


@pytest.fixture
def exchanges(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The exchanges that are made: none of them by a fast hit."""
    made: list[Any] = []
    real = FunctionExchange.__init__

    def noted(self: Any, *args: Any) -> None:
        made.append(self)
        real(self, *args)

    monkeypatch.setattr(FunctionExchange, "__init__", noted)
    return made


def outcome(ask: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        value = ask(*args, **kwargs)
    except Exception as error:
        return type(error), str(error)
    return type(value), repr(value)


def history(cache: Cache, asked: Asked, kind: str, /, *args: Any, **kwargs: Any) -> Any:
    """What three calls come to: their results, counts and entries."""
    with cache, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("ignore")  # what other tests left to the garbage collector
        warnings.simplefilter("always", CacheWarning)
        results = [outcome(asked.by[kind], *args, **kwargs) for _ in range(3)]
        entries = {key: unseal(raw).read_record() for key, raw in cache.store.scan()}
    counts = cache.stats.as_dict()
    for group in (counts, *counts["groups"]):
        for name in ("seconds_saved", "seconds_spent"):
            group.pop(name)
    told = [str(one.message).replace(cache.url, "here") for one in warned]
    return results, asked.calls, counts, entries, told


@pytest.mark.parametrize("kind", ["sync", "async", "method", "static"])
@pytest.mark.parametrize("argument", ARGUMENTS, ids=map(repr, range(len(ARGUMENTS))))
def test_arguments_make_the_same_request_on_both_paths(
    argument: Any, kind: str, general: Any
) -> None:
    here = history(Cache.memory(), Asked(), kind, argument, more=argument, x=argument)
    with general():
        assert history(Cache.memory(), Asked(), kind, argument, more=argument, x=argument) == here


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("answer", ANSWERS, ids=map(repr, range(len(ANSWERS))))
def test_answers_are_served_and_counted_the_same_on_both_paths(
    answer: Any, kind: str, general: Any
) -> None:
    here = history(Cache.memory(), Asked(answer), kind, WHOLE)
    with general():
        assert history(Cache.memory(), Asked(answer), kind, WHOLE) == here


WRONG: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    (("a", "b"), {}),
    (("a",), {"prompt": "b"}),
    (("a",), {"mode": "no mode"}),
    (("a",), {"cache": "no cache"}),
]


@pytest.mark.parametrize(("args", "kwargs"), WRONG)
def test_wrong_calls_raise_the_same_on_both_paths(args: Any, kwargs: Any, general: Any) -> None:
    here = history(Cache.memory(), Asked(), "sync", *args, **kwargs)
    with general():
        assert history(Cache.memory(), Asked(), "sync", *args, **kwargs) == here


@pytest.mark.parametrize("kind", ["sync", "async", "method", "static"])
def test_a_plain_hit_makes_no_exchange(kind: str, exchanges: list[Any]) -> None:
    asked = Asked()
    with Cache.memory():
        asked.by[kind](WHOLE)
        exchanges.clear()
        asked.by[kind](WHOLE)
    assert (asked.calls, exchanges) == (1, [])


OPTIONS: dict[str, dict[str, Any]] = {
    "samples": {"samples": True},
    "refresh": {"mode": "refresh"},
    "replay": {"mode": "replay"},
    "read-only": {"mode": "read_only"},
    "a hook": {"on_event": lambda event: None},
}


def test_a_cache_without_a_seed_serves_nothing() -> None:
    asked = Asked()
    with Cache.memory(cache_seed=None) as cache:
        asked.sync("a")
        asked.sync("a")
    assert (asked.calls, cache.stats.calls) == (2, 0)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_a_cache_whose_hits_depend_on_more_takes_the_general_path(
    options: Any, exchanges: list[Any]
) -> None:
    asked = Asked()
    cache = Cache.memory()
    with cache:
        asked.sync("a")
    exchanges.clear()
    other = Cache(cache.store, **options)
    with other:
        asked.sync("a")
    assert len(exchanges) == 1


@pytest.mark.parametrize(
    "options",
    [{"ttl": 60}, {"mode": "normal"}, {"cache_seed": 41}, {"sample": 0}, {"sample": 1}],
    ids=str,
)
def test_a_call_with_options_takes_the_general_path(options: Any, exchanges: list[Any]) -> None:
    asked = Asked()
    with Cache.memory():
        asked.sync("a")
        exchanges.clear()
        asked.sync("a", **options)
    assert len(exchanges) == 1


def test_inside_a_sampled_call_nothing_is_taken_from_outside() -> None:
    asked = Asked()

    def sample() -> None:
        blocks.blocks.set(blocks.blocks.get().within("a sample"))
        asked.sync("a")

    with Cache.memory():
        asked.sync("a")
        copy_context().run(sample)
    assert asked.calls == 2


def test_what_is_logged_takes_the_general_path(
    exchanges: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    asked = Asked()
    with Cache.memory():
        for _ in range(2):
            asked.sync("a")
        exchanges.clear()
        with caplog.at_level(logging.DEBUG, "cachewrap.calls"):
            asked.sync("a")
    assert [vars(one)["cachewrap"]["outcome"] for one in caplog.records] == ["hit"]


def test_nothing_is_cached_inside_no_cache() -> None:
    asked = Asked()
    with Cache.memory(), no_cache():
        assert active_cache() is None
        asked.sync("a")
        asked.sync("a")
    assert asked.calls == 2


def test_an_encrypted_hit_is_one_too(exchanges: list[Any]) -> None:
    pytest.importorskip("cryptography")
    asked = Asked()
    with Cache.memory(encryption_key=bytes(32)) as cache:
        asked.sync("a")
        exchanges.clear()
        assert asked.sync("a") == "an answer"
    assert (cache.stats.hits, exchanges) == (1, [])


def test_every_hit_is_an_object_of_its_own() -> None:
    asked = Asked({"a": []})
    with Cache.memory():
        for _ in range(3):
            answer = asked.sync("a")
            assert answer == {"a": []}
            answer["a"].append("changed")


def damaged(raw: bytes) -> bytes:
    return raw[:50] + bytes([raw[50] ^ 1]) + raw[51:]


def expired(raw: bytes) -> bytes:
    entry = unseal(raw)
    record = entry.read_record()
    facts = Facts(created=entry.created, seconds=0.0, source=record["source"])
    old = replace(facts, expires=time.time() - 1)
    return seal(entry.kind, entry.answer, record["request"], old)


@pytest.mark.parametrize("spoil", [damaged, expired, lambda raw: b"foreign"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_entry_that_cannot_be_served_is_replaced(
    spoil: Callable[[bytes], bytes], kind: str, general: Any
) -> None:
    def spoilt() -> Any:
        asked, cache = Asked(), Cache.memory()
        with cache:
            asked.by[kind](WHOLE)
            ((key, raw),) = cache.store.scan()
            cache.store.set(key, spoil(raw))
        return history(cache, asked, kind, WHOLE)

    here = spoilt()
    with general():
        assert spoilt() == here


def test_an_argument_without_a_canonical_form_is_named() -> None:
    with Cache.memory(), pytest.raises(UnkeyableError, match="prompt"):
        Asked().sync(object())


def test_a_cleared_entry_is_asked_anew() -> None:
    asked = Asked()
    with Cache.memory() as cache:
        asked.sync("a")
        asked.sync("a")
        cache.clear()
        asked.sync("a")
    assert asked.calls == 2
