"""A cache with types= opens and stores objects of these alone, and one with a ceiling no more."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import enum
import pickle
import warnings
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import kinds
import pydantic
import pytest

from cachewrap import Cache, CacheWarning, ConfigurationError, llm_cached

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Item:
    name: str


@dataclasses.dataclass(frozen=True)
class Other:
    name: str


class Colour(enum.Enum):
    RED = 1


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


HERE = __name__
VALUES: dict[str, tuple[Any, Any]] = {
    "class": (Item("a"), [Item]),
    "name": (Item("a"), [f"{HERE}.Item"]),
    "module": (Item("a"), [f"{HERE}.*"]),
    "package": (kinds.Point(1), ["kinds.*"]),
    "member": (Colour.RED, [Colour]),
    "generic": (Page[Item](items=[Item("a")]), [Page[Item]]),
    "generic of a list": (Page[list[Item]](items=[[Item("a")]]), [Page[list[Item]]]),
    "generic by its parts": (Page[Item](items=[Item("a")]), [Page, Item]),
    "form": ([Item("a")], [list[Item]]),
    "union": ([Item("a"), Colour.RED], [Item | Colour | None]),
    "key": ({Item("a"): 1}, [Item]),
    "factory": (defaultdict(kinds.Point, a=kinds.Point(1)), [kinds.Point]),
    "named tuple": (kinds.City("a", 1), [kinds.City]),
    "subclass": (kinds.Labels(["a"]), [kinds.Labels]),
    "struct": (kinds.Cost(1), [kinds.Cost]),
    "attrs": (kinds.Ticket("a"), [kinds.Ticket]),
}
REFUSED: dict[str, tuple[Any, Any]] = {
    "another class": (Item("a"), [Other]),
    "one within": ({"a": [(1, Item("a"))]}, [Other]),
    "one beside": ([Other("a"), Item("b")], [Other]),
    "one within one that is listed": (kinds.Point(Item("a")), [kinds.Point]),
    "argument of a generic": (Page[Item](items=[]), [Page]),
    "origin of a generic": (Page[Item](items=[Item("a")]), [Item]),
    "a key": ({Item("a"): 1}, []),
    "a member of a set": ({Item("a")}, []),
    "an enum": (Colour.RED, []),
    "a factory": (defaultdict(kinds.Point), []),
    "a module that only begins alike": (kinds.Point(1), ["kind.*", "kinds", "kinds.P.*"]),
}
PLAIN: dict[str, Any] = {
    "text": "a",
    "JSON": {"a": [1, 2.5, None, True]},
    "tuple": (1, {2}),
    "date": dt.date(2024, 1, 1),
    "counter": Counter("aab"),
    "ordered": OrderedDict(a=1),
    "default of lists": defaultdict(list, a=[1]),
    "URL": pydantic.HttpUrl("http://a.b/"),
}


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", CacheWarning)
        yield


def only(items: Iterator[Any]) -> Any:
    (one,) = items
    return one


class Asked:
    """A function that is cached, and how often it was asked."""

    def __init__(self, value: Any) -> None:
        self.count = 0

        @llm_cached
        def ask(prompt: str) -> Any:
            self.count += 1
            return value

        @llm_cached
        async def aask(prompt: str) -> Any:
            self.count += 1
            return value

        @llm_cached
        def give(prompt: str) -> Iterator[Any]:
            self.count += 1
            yield value

        self.ways: dict[str, Callable[[], Any]] = {
            "function": lambda: ask("a"),
            "coroutine": lambda: asyncio.run(aask("a")),
            "generator": lambda: only(give("a")),
        }


WAYS = pytest.mark.parametrize("way", ["function", "coroutine", "generator"])


@WAYS
@pytest.mark.parametrize("name", VALUES)
def test_an_answer_of_these_classes_is_a_hit(name: str, way: str) -> None:
    value, types = VALUES[name]
    asked = Asked(value)
    with Cache.memory(types=types) as cache:
        assert [asked.ways[way]() for _ in range(3)] == [value] * 3
    assert (asked.count, cache.stats.hits) == (1, 2)


@WAYS
@pytest.mark.parametrize("name", PLAIN)
def test_what_python_brings_is_always_a_hit(name: str, way: str) -> None:
    asked = Asked(PLAIN[name])
    with Cache.memory(types=[]):
        # URLs of pydantic 2.10.0 are equal to none.
        assert [repr(asked.ways[way]()) for _ in range(2)] == [repr(PLAIN[name])] * 2
    assert asked.count == 1


@WAYS
@pytest.mark.parametrize("name", REFUSED)
def test_an_answer_of_another_class_is_returned_and_not_stored(name: str, way: str) -> None:
    value, types = REFUSED[name]
    asked = Asked(value)
    with Cache.memory(types=types) as cache:
        with pytest.warns(CacheWarning, match="not stored: .* among the types="):
            assert asked.ways[way]() == value
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheWarning)
            assert asked.ways[way]() == value
        assert list(cache.keys()) == []
    assert asked.count == 2


@WAYS
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("encrypted", [False, True])
def test_an_entry_of_another_class_is_a_miss(
    name: str, way: str, encrypted: bool, tmp_path: Path
) -> None:
    if encrypted:
        pytest.importorskip("cryptography")
    options: dict[str, Any] = {"encryption_key": "k" * 43 + "="} if encrypted else {}
    value, types = REFUSED[name]
    asked = Asked(value)
    with Cache.disk(cache_path_root=tmp_path, **options):
        asked.ways[way]()
    with Cache.disk(cache_path_root=tmp_path, types=types, **options) as cache:
        with pytest.warns(CacheWarning, match="among the types="):
            asked.ways[way]()
        assert cache.stats.hits == 0
    assert asked.count == 2


def test_what_was_not_allowed_is_replaced_by_what_is(tmp_path: Path) -> None:
    answers: list[Any] = [Item("a"), "plain"]

    @llm_cached
    def ask(prompt: str) -> Any:
        return answers.pop(0)

    with Cache.disk(cache_path_root=tmp_path):
        ask("a")
    with Cache.disk(cache_path_root=tmp_path, types=[]):
        with pytest.warns(CacheWarning):
            assert ask("a") == "plain"
        assert ask("a") == "plain"


def test_a_value_that_one_sets_oneself() -> None:
    with Cache.memory(types=[Item]) as cache:
        cache.set("a", Item("b"))
        assert cache.get("a") == Item("b")
        with pytest.warns(CacheWarning, match=r"Other, which is not among the types="):
            cache.set("a", Other("b"))
        assert cache.get("a") == Item("b")


def test_a_value_that_was_set_elsewhere(tmp_path: Path) -> None:
    Cache.disk(cache_path_root=tmp_path).set("a", Item("b"))
    cache = Cache.disk(cache_path_root=tmp_path, types=[Other])
    with pytest.warns(CacheWarning, match="among the types="):
        assert cache.get("a", "nothing") == "nothing"


def test_views_siblings_and_pickled_caches_keep_them(tmp_path: Path) -> None:
    Cache.disk(cache_path_root=tmp_path).set("a", Item("b"))
    cache = Cache.disk(cache_path_root=tmp_path, types=[], max_entry_bytes=10_000)
    others = [
        cache.mode("read_only"),
        cache.reseed(7).reseed(41),
        pickle.loads(pickle.dumps(cache)),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        assert [other.get("a") for other in others] == [None] * 3


def test_a_url_names_them(tmp_path: Path) -> None:
    url = f"disk://{tmp_path}?types={HERE}.Item,kinds.*&max_entry_bytes=1000000"
    policy = Cache.from_url(url).policy
    assert policy.types == {f"{HERE}.Item", "kinds.*"}
    assert policy.max_entry_bytes == 1_000_000
    assert Cache.from_url(f"disk://{tmp_path}?types=").policy.types == frozenset()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"types": "a.B"}, id="one text"),
        pytest.param({"types": Item}, id="one class"),
        pytest.param({"types": [1]}, id="number"),
        pytest.param({"types": ["a:B"]}, id="no name"),
        pytest.param({"types": ["*"]}, id="all"),
        pytest.param({"types": {"a.B": 1}}, id="mapping"),
        pytest.param({"max_entry_bytes": 0}, id="nothing"),
        pytest.param({"max_entry_bytes": -1}, id="less"),
        pytest.param({"max_entry_bytes": 1.5}, id="fraction"),
        pytest.param({"max_entry_bytes": True}, id="truth"),
        pytest.param({"max_entry_bytes": None}, id="none"),
    ],
)
def test_an_option_that_cannot_be(options: Any) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Cache.memory(**options)


# -- the ceiling ----------------------------------------------------------------------------------

LARGE: dict[str, Any] = {"text": "a" * 5000, "JSON": ["a" * 5000], "tuple": ("a" * 5000,)}


@WAYS
@pytest.mark.parametrize("name", LARGE)
def test_an_answer_beyond_the_ceiling_is_returned_and_not_stored(name: str, way: str) -> None:
    asked = Asked(LARGE[name])
    with Cache.memory(max_entry_bytes=4000) as cache:
        with pytest.warns(CacheWarning, match="not stored: .* max_entry_bytes"):
            assert asked.ways[way]() == LARGE[name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheWarning)
            assert asked.ways[way]() == LARGE[name]
        assert list(cache.keys()) == []
    assert asked.count == 2


@WAYS
@pytest.mark.parametrize("name", LARGE)
def test_an_entry_beyond_the_ceiling_is_a_miss(name: str, way: str, tmp_path: Path) -> None:
    asked = Asked(LARGE[name])
    with Cache.disk(cache_path_root=tmp_path):
        asked.ways[way]()
    with (
        Cache.disk(cache_path_root=tmp_path, max_entry_bytes=4000),
        pytest.warns(CacheWarning, match="max_entry_bytes"),
    ):
        asked.ways[way]()
    with Cache.disk(cache_path_root=tmp_path, max_entry_bytes=40_000):
        asked.ways[way]()
    assert asked.count == 2


@pytest.mark.parametrize("error", [MemoryError, RecursionError])
@WAYS
def test_what_lacks_memory_when_it_is_opened_is_a_miss(
    way: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cachewrap.call import terms

    asked = Asked(("a",))
    with Cache.memory():
        asked.ways[way]()

        def lack(*args: Any) -> Any:
            raise error

        monkeypatch.setattr(terms, "unseal", lack)
        with pytest.warns(CacheWarning, match=error.__name__):
            assert asked.ways[way]() == ("a",)
    assert asked.count == 2
