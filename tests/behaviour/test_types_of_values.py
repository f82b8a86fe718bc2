"""The types that a decorated function may take and return: each is paid for once."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
import subprocess
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import kinds
import pydantic
import pytest

from cachewrap import Cache, CacheWarning, UnkeyableError, llm_cached, no_cache

VALUES: dict[str, Callable[[], Any]] = {
    "model of a URL": lambda: kinds.Server(url="https://a.b/c"),  # type: ignore[arg-type]
    "URL": lambda: pydantic.HttpUrl("https://a.b/c"),
    "address": lambda: ipaddress.ip_address("::1"),
    "pattern": lambda: re.compile("a+", re.IGNORECASE),
    "deque": lambda: deque([1, 2], 3),
    "defaultdict": lambda: defaultdict(list, a=[1]),
    "counter": lambda: Counter("aab"),
    "range": lambda: range(3),
    "mapping proxy": lambda: MappingProxyType({"a": 1}),
    "root model": lambda: pydantic.RootModel[list[int]]([1]),
    "generic of a list": lambda: kinds.Box[list[kinds.Twin]](content=[kinds.Twin()]),
    "generic of what may be none": lambda: kinds.Box[int | None](content=None),
    "generic of a literal": lambda: kinds.Box[Literal["a", "b"]](content="a"),
    "generic of generics": lambda: kinds.Box[kinds.Box[int]](content=kinds.Box[int](content=1)),
    "subclass of a list": lambda: kinds.Labels(["a"]),
    "subclass of text": lambda: kinds.noted(kinds.Name("Ada L."), given="Ada"),
    "named tuple with more in it": lambda: kinds.noted(kinds.NotedCity("a", 1), note="n"),
    "pydantic dataclass": lambda: kinds.Checked(1),
    "enum": lambda: kinds.Planet.EARTH,
    "attrs": lambda: kinds.Ticket("a"),
    "struct": lambda: kinds.Cost(1, 2.5),
}


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES)
class TestValues:
    def test_an_answer_is_paid_for_once(self, make: Callable[[], Any]) -> None:
        calls: list[str] = []

        @llm_cached
        def ask(prompt: str) -> Any:
            calls.append(prompt)
            return make()

        with Cache.memory():
            first, second = ask("hi"), ask("hi")
        assert calls == ["hi"]
        assert kinds.same(first, make())
        assert kinds.same(second, make())

    def test_an_argument_is_told_by_its_value(self, make: Callable[[], Any]) -> None:
        calls: list[Any] = []

        @llm_cached
        def ask(given: Any) -> int:
            calls.append(given)
            return len(calls)

        with Cache.memory():
            assert [ask(make()), ask(make()), ask([make()])] == [1, 1, 2]


class Login(pydantic.BaseModel):
    name: str
    token: pydantic.SecretStr


def test_an_answer_with_a_secret_is_returned_and_not_stored_with_what_to_do() -> None:
    calls: list[str] = []

    @llm_cached
    def ask(prompt: str) -> Login:
        calls.append(prompt)
        return Login(name=prompt, token=pydantic.SecretStr("hush"))

    with Cache.memory() as cache:
        with pytest.warns(CacheWarning, match="a secret is never stored: return what") as told:
            assert ask("hi").token.get_secret_value() == "hush"
        assert ask("hi").name == "hi"
        assert cache.stats.stored == 0
    assert len(calls) == 2
    assert len(told) == 1
    assert "hush" not in str(told[0].message)


def test_a_secret_as_an_argument_is_refused_with_what_to_do() -> None:
    @llm_cached
    def ask(prompt: str, token: pydantic.SecretStr) -> str:
        return prompt

    @llm_cached(ignore="token")
    def asked(prompt: str, token: pydantic.SecretStr) -> str:
        return prompt

    with Cache.memory():
        with pytest.raises(UnkeyableError, match=r"token is a SecretStr.*ignore="):
            ask("hi", pydantic.SecretStr("hush"))
        assert asked("hi", pydantic.SecretStr("hush")) == "hi"
        with no_cache():
            assert ask("hi", pydantic.SecretStr("hush")) == "hi"


@pytest.mark.parametrize(
    ("clock", "name"), [("freezegun", "freeze_time"), ("time_machine", "travel")]
)
def test_under_a_stopped_clock_today_is_a_date(clock: str, name: str) -> None:
    stop = getattr(pytest.importorskip(clock), name)
    calls: list[Any] = []

    @llm_cached
    def ask(day: dt.date) -> list[dt.date]:
        calls.append(day)
        return [day, dt.datetime.now(dt.UTC)]

    with Cache.memory():
        with stop("2024-02-29 12:00"):
            ask(dt.date.today())
        day, moment = ask(dt.date(2024, 2, 29))
    assert (type(day), type(moment), len(calls)) == (dt.date, dt.datetime, 1)


PROGRAM = """
{future}
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

import pydantic
from cachewrap import Cache, llm_cached

if TYPE_CHECKING:
    from nowhere import Never

T = TypeVar("T")

class Item(pydantic.BaseModel):
    name: str

class Page(pydantic.BaseModel, Generic[T]):
    items: T

def made(names):
    print("paid")
    return Page[list[Item]](items=[Item(name=name) for name in names])

{function}

with Cache.disk(cache_path_root=sys.argv[1]):
    found = {call}
    print(type(found).__name__, found)
"""

FUNCTIONS = {
    "function": ("@llm_cached\ndef ask(a){returns}:\n    return made(a)", "ask('a')"),
    "method": (
        "class Agent:\n    @classmethod\n    @llm_cached\n    def ask(cls, a){returns}:\n"
        "        return made(a)",
        "Agent.ask('a')",
    ),
    "coroutine function": (
        "import asyncio\n@llm_cached\nasync def ask(a){returns}:\n    return made(a)",
        "asyncio.run(ask('a'))",
    ),
    "generator": (
        "@llm_cached\ndef ask(a){returns}:\n    yield made(a)",
        "next(iter(list(ask('a'))))",
    ),
}


POSTPONED = "from __future__ import annotations"


@pytest.mark.parametrize(
    ("function", "future", "returns", "paid"),
    [
        pytest.param("function", "", "Page[list[Item]]", 1, id="annotation"),
        pytest.param("function", "", "'Page[list[Item]]'", 1, id="text"),
        pytest.param("function", "", "'Page[list[Item]] | None'", 1, id="text in more"),
        pytest.param("function", "", "Page", 2, id="another class"),
        pytest.param("function", "", None, 2, id="none"),
        *(
            pytest.param(function, POSTPONED, told, paid, id=f"{name} of a {function}")
            for function in FUNCTIONS
            for name, told, paid in [("postponed", "Page[list[Item]]", 1), ("unknown", "Never", 2)]
        ),
    ],
)
def test_a_generic_answer_is_read_where_the_function_says_what_it_returns(
    function: str, future: str, returns: str | None, paid: int, tmp_path: Path
) -> None:
    source, call = FUNCTIONS[function]
    if function == "generator":
        returns = f"Iterator[{returns}]"
    told = f" -> {returns}" if returns else ""
    program = tmp_path / "program.py"
    program.write_text(
        PROGRAM.format(future=future, function=source.format(returns=told), call=call)
    )
    printed = "".join(
        subprocess.run(
            [sys.executable, program, tmp_path / "cache"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    )
    assert printed.count("paid") == paid
    assert printed.count("Page[list[Item]] items=[Item(name='a')]") == 2
