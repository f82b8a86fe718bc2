"""What was paid for is returned, whatever it is: of ours nothing raises after the call."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NoReturn
from unittest.mock import MagicMock

import pydantic
import pytest
from colours import COLOURS, Function

from cachewrap import Cache, CacheWarning
from cachewrap.telemetry.reading import usage_of


class LookedAtError(Exception):
    pass


class Plain:
    """As a model client of one's own may return."""

    def __init__(self) -> None:
        self.content = "hi"


class Other:
    pass


class Lazy:
    """As werkzeug's proxies outside a request."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise LookedAtError(name)


class Unnamed(type):
    def __getattr__(cls, name: str) -> NoReturn:
        raise LookedAtError(name)


class OfMeta(metaclass=Unnamed):
    pass


class Row(tuple[int, ...]):
    _fields = ("only",)


class Shy(dict[str, Any]):
    def get(self, *names: Any) -> NoReturn:
        raise LookedAtError(*names)


class Model(pydantic.BaseModel):
    name: str


@dataclass
class Reply:
    content: str


UNSTORED: list[Any] = [
    pytest.param(Plain, id="a class of one's own"),
    pytest.param(threading.Lock, id="a lock"),
    pytest.param(MagicMock, id="a mock"),
    pytest.param(Lazy, id="what raises when it is looked at"),
    pytest.param(OfMeta, id="what raises when its class is looked at"),
    pytest.param(lambda: Model.__new__(Model), id="a model that nobody has filled"),
    pytest.param(lambda: Row((1, 2, 3)), id="a tuple that names other fields"),
    pytest.param(lambda: [Plain()], id="in a list"),
]

STORED: list[Any] = [
    pytest.param(lambda: SimpleNamespace(content="hi"), id="a namespace"),
    pytest.param(lambda: Reply("hi"), id="a dataclass"),
    pytest.param(lambda: {"model": "\ud800"}, id="half a surrogate for a model"),
    pytest.param(lambda: Shy(model="m"), id="a mapping that raises"),
    pytest.param(lambda: {"usage": Shy()}, id="a usage that raises"),
    pytest.param(lambda: {"usage": {"prompt_tokens": float("nan")}}, id="a usage without numbers"),
]


@pytest.mark.parametrize("make", UNSTORED)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_function_returns_what_cannot_be_stored(colour: str, make: Callable[[], Any]) -> None:
    made: list[Any] = []

    def answer(prompt: str) -> Any:
        made.append(make())
        return made[-1]

    ask = Function(colour, answer)
    with Cache.memory() as cache:
        with pytest.warns(CacheWarning, match="the answer is returned but not stored: the value"):
            assert ask("a") is made[-1]
        with warnings.catch_warnings():
            warnings.simplefilter("error", CacheWarning)  # once is enough
            assert ask("a") is made[-1]
    assert (len(made), cache.stats.errors, cache.stats.stored) == (2, 2, 0)


@pytest.mark.parametrize("make", STORED)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_function_returns_what_can_be_stored(colour: str, make: Callable[[], Any]) -> None:
    made: list[Any] = []

    def answer(prompt: str) -> Any:
        made.append(make())
        return made[-1]

    ask = Function(colour, answer)
    with Cache.memory() as cache:
        answers = [ask("a"), ask("a")]
    assert [type(one) for one in answers] == [type(made[0])] * 2
    assert (len(made), cache.stats.errors, cache.stats.hits) == (1, 0, 1)


@pytest.mark.parametrize("make", UNSTORED)
def test_a_value_that_one_sets_oneself_costs_a_warning(make: Callable[[], Any]) -> None:
    cache = Cache.memory()
    with pytest.warns(CacheWarning, match=r"cache\.set: the value is not stored: the value"):
        cache.set("key", make())
    assert cache.get("key", "nothing") == "nothing"
    assert cache.stats.errors == 1


@pytest.mark.parametrize("make", STORED)
def test_a_value_that_one_sets_oneself_is_stored(make: Callable[[], Any]) -> None:
    cache = Cache.memory()
    cache.set("key", value := make())
    assert type(cache.get("key")) is type(value)


def test_each_class_is_told_of_once() -> None:
    cache = Cache.memory()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for value in (Plain(), Other(), Plain(), Other()):
            cache.set("key", value)
    names = ["Plain" if "Plain" in str(one.message) else "Other" for one in told]
    assert names == ["Plain", "Other"]
    assert cache.stats.errors == 4


def test_the_warning_says_what_to_do() -> None:
    with pytest.warns(CacheWarning, match="instead, in a dataclass or a dict"):
        Cache.memory().set("key", Plain())


def test_what_was_there_stays_where_the_new_value_cannot_be_stored() -> None:
    cache = Cache.memory()
    cache.set("key", "old")
    with pytest.warns(CacheWarning):
        cache.set("key", Plain())
    assert cache.get("key") == "old"


def test_a_value_that_is_too_large_costs_a_warning() -> None:
    cache = Cache.memory(max_entry_bytes=1000)
    with pytest.warns(CacheWarning, match=r"cache\.set: the value is not stored"):
        cache.set("key", "x" * 2000)
    assert cache.get("key") is None


@pytest.mark.parametrize("make", [*UNSTORED, *STORED])
def test_any_answer_has_a_usage(make: Callable[[], Any]) -> None:
    assert usage_of(make()).tokens_in == 0
