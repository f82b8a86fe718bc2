"""`@llm_cached(cache="blocks")`: a library's function, cached inside its user's blocks alone."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from cachewrap import (
    Cache,
    ConfigurationError,
    activate,
    blocks,
    llm_cached,
    no_cache,
)
from cachewrap.run import program
from cachewrap.telemetry.hints import Seen

calls: list[str] = []


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing was called, and the working folder is empty."""
    monkeypatch.setattr(program, "_patch_all", lambda: None)
    monkeypatch.setattr(program, "_activation", None)
    monkeypatch.chdir(tmp_path)
    calls.clear()
    yield
    blocks.serve_program(None)


@llm_cached(cache="blocks")
def ask(prompt: str) -> str:
    """Ask a model."""
    calls.append(prompt)
    return prompt.upper()


@llm_cached(cache="blocks")
async def aask(prompt: str) -> str:
    calls.append(prompt)
    return prompt.upper()


@llm_cached(cache="blocks")
def stream(prompt: str) -> Iterator[str]:
    calls.append(prompt)
    yield from prompt.upper()


@llm_cached(cache="blocks")
async def astream(prompt: str) -> AsyncIterator[str]:
    calls.append(prompt)
    for letter in prompt.upper():
        yield letter


class Client:
    def __cache_key__(self) -> str:
        return "client"

    @llm_cached(cache="blocks", ignore="self")
    def ask(self, prompt: str) -> str:
        calls.append(prompt)
        return prompt.upper()

    @llm_cached(cache="blocks")
    @classmethod
    def of_class(cls, prompt: str) -> str:
        calls.append(prompt)
        return prompt.upper()

    @llm_cached(cache="blocks")
    @staticmethod
    def static(prompt: str) -> str:
        calls.append(prompt)
        return prompt.upper()


@llm_cached(cache="blocks", seed=7, version=2, samples=True, retry=1, ttl=60)
def with_all(prompt: str) -> str:
    calls.append(prompt)
    return prompt.upper()


def run_async(prompt: str) -> str:
    return asyncio.run(aask(prompt))


def run_astream(prompt: str) -> str:
    async def main() -> str:
        return "".join([letter async for letter in astream(prompt)])

    return asyncio.run(main())


KINDS = pytest.mark.parametrize(
    "call",
    [
        pytest.param(ask, id="function"),
        pytest.param(run_async, id="coroutine"),
        pytest.param(lambda prompt: "".join(stream(prompt)), id="generator"),
        pytest.param(run_astream, id="async generator"),
        pytest.param(lambda prompt: Client().ask(prompt), id="method"),
        pytest.param(lambda prompt: Client.of_class(prompt), id="classmethod"),
        pytest.param(lambda prompt: Client.static(prompt), id="staticmethod"),
        pytest.param(with_all, id="with every other option"),
    ],
)


@KINDS
def test_outside_a_block_it_is_the_function_itself(call: Any, tmp_path: Path) -> None:
    assert [call("hi"), call("hi")] == ["HI", "HI"]
    assert calls == ["hi", "hi"]
    assert list(tmp_path.iterdir()) == []


@KINDS
def test_inside_a_block_it_is_served_from_that(call: Any) -> None:
    cache = Cache.memory()
    for _ in range(2):
        with cache:
            assert call("hi") == "HI"
    assert calls == ["hi"]
    assert (cache.stats.hits, cache.stats.misses) == (1, 1)


def test_it_has_the_keys_that_it_would_have_had() -> None:
    def made(**options: Any) -> Any:
        @llm_cached(**options)
        def complete(prompt: str) -> str:
            return prompt

        return complete

    assert made(cache="blocks").cache_key("hi") == made().cache_key("hi")
    assert made(cache="blocks", seed=7).cache_key("hi") == made(seed=7).cache_key("hi")


def test_an_activated_cache_is_a_block() -> None:
    cache = Cache.memory()
    activate(cache)
    assert [ask("hi"), ask("hi")] == ["HI", "HI"]
    assert calls == ["hi"]
    assert cache.stats.hits == 1


def test_in_a_block_of_no_cache_it_is_not_cached() -> None:
    with Cache.memory() as cache, no_cache():
        assert [ask("hi"), ask("hi")] == ["HI", "HI"]
    assert calls == ["hi", "hi"]
    assert cache.stats.calls == 0


def test_a_call_with_a_cache_of_its_own_is_cached_everywhere() -> None:
    cache = Cache.memory()
    assert [ask("hi", cache=cache), ask("hi", cache=cache)] == ["HI", "HI"]
    assert calls == ["hi"]


@pytest.mark.parametrize(
    "own", [{"cache_seed": 7}, {"mode": "replay"}, {"sample": 3}, {"ttl": 60}], ids=str
)
def test_what_a_call_says_of_its_caching_is_for_blocks_too(own: Any) -> None:
    assert [ask("hi", **own), ask("hi", **own)] == ["HI", "HI"]
    assert calls == ["hi", "hi"]


def test_a_seed_of_none_switches_it_off_in_blocks_too() -> None:
    @llm_cached(cache="blocks", seed=None)
    def complete(prompt: str) -> str:
        calls.append(prompt)
        return prompt

    with Cache.memory():
        complete("hi"), complete("hi")
    assert calls == ["hi", "hi"]


def test_outside_a_block_any_argument_will_do() -> None:
    assert ask.uncached("hi") == "HI"
    assert "".join(stream(prompt="a")) == "A"
    with pytest.raises(AttributeError):
        ask(object())  # type: ignore[arg-type]  # the function's own error: no key is made


def test_it_is_looked_at_outside_a_block() -> None:
    key = ask.cache_key("hi")
    assert ask.invalidate("hi") is False
    with pytest.raises(ConfigurationError, match=r"cached in a block alone.*with Cache\.disk\(\):"):
        ask.explain("hi")
    with Cache.memory() as cache:
        ask("hi")
        assert ask.explain("hi").key == key
    assert cache.explain(ask, "hi").stored
    with cache:
        assert ask.invalidate("hi") is True


def test_one_that_is_off_says_why_it_cannot_be_explained() -> None:
    @llm_cached(seed=None)
    def complete(prompt: str) -> str:
        return prompt

    with pytest.raises(ConfigurationError, match="no cache serves this call: it has seed=None"):
        complete.explain("hi")
    with no_cache(), pytest.raises(ConfigurationError, match=r"no_cache\(\)"):
        ask.explain("hi")


def test_it_looks_and_pickles_as_the_function() -> None:
    assert (ask.__name__, ask.__doc__) == ("ask", "Ask a model.")
    assert list(inspect.signature(ask).parameters) == ["prompt"]
    assert pickle.loads(pickle.dumps(ask)) is ask


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param("block", r'did you mean "blocks"\?', id="a typo"),
        pytest.param("Blocks", r'did you mean "blocks"\?', id="a capital"),
        pytest.param("none", r'a Cache, "blocks" or None, got \'none\'', id="another word"),
        pytest.param("disk:/x", r'write Cache\.from_url\("disk:/x"\)', id="a URL"),
        pytest.param(".cache", r'write Cache\.disk\(cache_path_root="\.cache"\)', id="a folder"),
        pytest.param("a.jsonl", r'write Cache\.jsonl\("a\.jsonl"\)', id="a file"),
        pytest.param("", r'a Cache, "blocks" or None, got \'\'', id="nothing"),
        pytest.param(True, r'a Cache, "blocks" or None, got bool', id="a flag"),
        pytest.param(7, r"write Cache\.disk\(cache_seed=7\)", id="a seed"),
    ],
)
def test_anything_else_is_told_what_there_is(given: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        llm_cached(cache=given)(lambda prompt: prompt)


def test_the_call_itself_takes_no_such_word() -> None:
    with pytest.raises(ConfigurationError, match="cache= takes a cachewrap Cache or None"):
        ask("hi", cache="blocks")  # type: ignore[call-overload]


def test_a_program_whose_libraries_alone_decorate_is_told_of_a_missing_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A function that waits for a block is no sign that calls outside of one are meant."""
    from cachewrap.function import calls as decorated

    for options, used in (({"cache": "blocks"}, False), ({"seed": None}, False), ({}, True)):
        seen = Seen()
        monkeypatch.setattr(decorated.hints, "seen", seen)
        llm_cached(**options)(lambda prompt: prompt)  # type: ignore[call-overload]
        assert seen.used is used


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param(41, r"write @llm_cached\(seed=41\)", id="a seed without its name"),
        pytest.param("draw 2", r"write @llm_cached\(seed='draw 2'\)", id="a seed that is text"),
        pytest.param(Cache.memory(), r"write @llm_cached\(cache=…\)", id="a cache"),
        pytest.param(property(lambda self: 1), "got <property object", id="a property"),
    ],
)
def test_what_is_no_function_is_told_what_was_meant(given: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        llm_cached(given)


@pytest.mark.parametrize("option", ["key", "when"])
def test_an_option_that_takes_a_function_says_so(option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{option}= takes a function, got 'model'"):
        llm_cached(**{option: "model"})(lambda model: model)  # type: ignore[call-overload]
