"""`Cache` and `llm_cached` beside other decorators, above them and below."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import tenacity
import wrapt

from cachewrap import Cache, llm_cached

Log = list[str]


def logging(log: Log) -> Any:
    """A decorator of somebody else, made with wrapt."""

    @wrapt.decorator
    def note(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        log.append("seen")
        return wrapped(*args, **kwargs)

    return note


def upper(log: Log) -> Callable[[str], str]:
    def ask(prompt: str) -> str:
        """Ask."""
        log.append("upstream")
        return prompt.upper()

    return ask


def upper_async(log: Log) -> Callable[[str], Any]:
    async def ask(prompt: str) -> str:
        """Ask."""
        log.append("upstream")
        return prompt.upper()

    return ask


def cached(function: Any) -> Any:
    return llm_cached(version=1)(function)


ORDERS: dict[str, tuple[Callable[[Any, Log], Any], Log]] = {
    "above": (lambda ask, log: logging(log)(cached(ask)), ["seen", "upstream", "seen"]),
    "below": (lambda ask, log: cached(logging(log)(ask)), ["seen", "upstream"]),
}


@pytest.mark.parametrize("order", ORDERS)
class TestWithAnotherWraptDecorator:
    def test_a_function(self, order: str) -> None:
        log: Log = []
        decorate, expected = ORDERS[order]
        ask = decorate(upper(log), log)
        with Cache.memory():
            assert [ask("hi"), ask(prompt="hi")] == ["HI", "HI"]
        assert log == expected

    def test_a_coroutine_function(self, order: str) -> None:
        log: Log = []
        decorate, expected = ORDERS[order]
        ask = decorate(upper_async(log), log)

        async def twice() -> list[str]:
            with Cache.memory():
                return [await ask("hi"), await ask("hi")]

        assert asyncio.run(twice()) == ["HI", "HI"]
        assert log == expected

    def test_a_method(self, order: str) -> None:
        log: Log = []
        decorate, expected = ORDERS[order]

        def ask(self: Any, prompt: str) -> str:
            log.append("upstream")
            return f"{self.name}: {prompt}"

        def key(self: Any) -> str:
            return str(self.name)

        def start(self: Any, name: str) -> None:
            self.name = name

        members = {"__init__": start, "__cache_key__": key, "ask": decorate(ask, log)}
        kind: Any = type("Asker", (), members)
        with Cache.memory():
            assert [kind("a").ask("hi"), kind("a").ask("hi")] == ["a: hi", "a: hi"]
            assert log == expected
            assert kind("b").ask("hi") == "b: hi"

    def test_name_and_signature_are_kept(self, order: str) -> None:
        log: Log = []
        ask = ORDERS[order][0](upper(log), log)
        assert (ask.__name__, ask.__doc__) == ("ask", "Ask.")
        assert str(inspect.signature(ask)) == "(prompt: 'str') -> 'str'"

    def test_its_own_methods_are_there(self, order: str) -> None:
        log: Log = []
        ask = ORDERS[order][0](upper(log), log)
        with Cache.memory() as cache:
            ask("hi")
            assert cache.get(ask.cache_key("hi")) == "HI"
            assert ask.invalidate("hi")


def failing(log: Log, times: int) -> Callable[[str], str]:
    def ask(prompt: str) -> str:
        log.append("upstream")
        if len(log) <= times:
            raise OSError("not yet")
        return prompt.upper()

    return ask


def patient(function: Any) -> Any:
    return tenacity.retry(stop=tenacity.stop_after_attempt(5), wait=tenacity.wait_none())(function)


TENACITY: dict[str, Callable[[Any], Any]] = {
    "above": lambda ask: patient(cached(ask)),
    "below": lambda ask: cached(patient(ask)),
}


@pytest.mark.parametrize("order", TENACITY)
class TestWithTenacity:
    def test_a_failed_call_is_tried_again_and_its_answer_kept(self, order: str) -> None:
        log: Log = []
        ask = TENACITY[order](failing(log, times=2))
        with Cache.memory() as cache:
            assert [ask("hi"), ask("hi")] == ["HI", "HI"]
        assert len(log) == 3
        assert (cache.stats.hits, cache.stats.stored) == (1, 1)

    def test_what_fails_for_good_is_not_kept(self, order: str) -> None:
        log: Log = []
        ask = TENACITY[order](failing(log, times=5))
        with Cache.memory() as cache:
            with pytest.raises(tenacity.RetryError):
                ask("hi")
            assert ask("hi") == "HI"
        assert cache.stats.stored == 1

    def test_a_coroutine_function(self, order: str) -> None:
        log: Log = []

        async def ask(prompt: str) -> str:
            log.append("upstream")
            if len(log) == 1:
                raise OSError("not yet")
            return prompt.upper()

        decorated = TENACITY[order](ask)

        async def twice() -> list[str]:
            with Cache.memory():
                return [await decorated("hi"), await decorated("hi")]

        assert asyncio.run(twice()) == ["HI", "HI"]
        assert len(log) == 2


@pytest.mark.parametrize("order", ["above", "below"])
def test_a_decorator_that_opens_a_block(order: str) -> None:
    """A block serves what is called inside it, so only one that stands above is seen."""
    log: Log = []
    inner, outer = Cache.memory(), Cache.memory()

    @wrapt.decorator
    def in_block(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        with inner:
            return wrapped(*args, **kwargs)

    ask = in_block(cached(upper(log))) if order == "above" else cached(in_block(upper(log)))
    with outer:
        for _ in range(2):
            assert ask("hi") == "HI"
    assert log == ["upstream"]
    assert (inner if order == "above" else outer).stats.stored == 1
    assert (outer if order == "above" else inner).stats.stored == 0
