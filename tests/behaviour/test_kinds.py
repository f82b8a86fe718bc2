"""What an entry must be: another kind is a miss, told once and replaced, and never handed out."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from colours import COLOURS, Function, Upstream

from cachewrap import Cache, CacheWarning, ReplayMissError, llm_cached
from cachewrap.entry import Facts, HttpAnswer, Items
from cachewrap.format import codec
from cachewrap.format.envelope import seal, unseal
from cachewrap.stores.memory import MemoryStore

STREAMS = ("generator", "async generator")
ANSWER = HttpAnswer(200, [("content-type", "application/json")], [b'{"a": [1]}'], [])
ITEMS = Items([codec.encode("x"), codec.encode({"y": 1})], [0.0, 0.1], codec.encode(None))

HELD: dict[str, Any] = {
    "text": "words",
    "value": {"a": 1},
    "items": ITEMS,
    "an HTTP answer": ANSWER,
}


class Named:
    """Functions of every colour that are one function to the cache, as after an edit of it."""

    def __init__(self) -> None:
        self.calls = 0

    def answer(self, prompt: str) -> str:
        self.calls += 1
        return f"{prompt} #{self.calls}"

    def of(self, colour: str) -> Function:
        return Function(colour, self.answer, version=1, key=lambda prompt: prompt)


@pytest.fixture
def named() -> Named:
    return Named()


def put(cache: Cache, held: Any) -> None:
    """Store something else under the one key that is there."""
    (key,) = cache.store.keys()
    entry = unseal(cache.store.get(key) or b"")
    kind, answer = codec.encode(held)
    request = entry.read_record()["request"]
    cache.store.set(key, seal(kind, answer, request, Facts(1.0, 0.1, source="s")))


@pytest.mark.parametrize("after", COLOURS)
@pytest.mark.parametrize("before", COLOURS)
def test_a_function_that_changed_its_colour_reads_no_entry_of_another_kind(
    named: Named, before: str, after: str, recwarn: pytest.WarningsRecorder
) -> None:
    with Cache.memory() as cache:
        first = named.of(before)("hi")
        changed = named.of(after)
        answers = [changed("hi") for _ in range(3)]
        same = (before in STREAMS) is (after in STREAMS)
        assert answers == ([first] * 3 if same else ["hi #2"] * 3)
        assert named.calls == (1 if same else 2)
        assert (cache.stats.stored, len(list(cache.keys()))) == (named.calls, 1)
    told = [str(w.message) for w in recwarn if issubclass(w.category, CacheWarning)]
    assert len(told) == (0 if same else 1)
    if not same:
        assert "in place of" in told[0]


@pytest.mark.parametrize("after", ["sync", "async"])
@pytest.mark.parametrize("before", STREAMS)
def test_on_disk_too(named: Named, tmp_path: Path, before: str, after: str) -> None:
    with Cache.disk(cache_path_root=tmp_path):
        named.of(before)("hi")
    with Cache.disk(cache_path_root=tmp_path), pytest.warns(CacheWarning, match="the items of"):
        assert [named.of(after)("hi") for _ in range(2)] == ["hi #2"] * 2


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("colour", COLOURS)
def test_every_kind_under_the_key_of_every_colour(colour: str, held: str) -> None:
    upstream = Upstream()
    complete = Function(colour, upstream.answer)
    fits = held == "items" if colour in STREAMS else held in ("text", "value")
    with Cache.memory() as cache:
        complete("hi")
        put(cache, HELD[held])
        if fits:
            expected = {"y": 1} if colour in STREAMS else HELD[held]
            assert complete("hi") == expected
            return
        with pytest.warns(CacheWarning, match="counts as absent: it holds"):
            assert complete("hi") == "hi #2"
        assert complete("hi") == "hi #2"


@pytest.mark.parametrize("colour", COLOURS)
def test_replay_misses_it_and_says_why(colour: str) -> None:
    complete = Function(colour, Upstream().answer)
    with Cache.memory() as cache:
        complete("hi")
        put(cache, ANSWER)
        with (
            cache.mode("replay"),
            pytest.warns(CacheWarning),
            pytest.raises(ReplayMissError, match="it holds an HTTP answer in place of"),
        ):
            complete("hi")


@pytest.mark.parametrize("colour", COLOURS)
def test_read_only_asks_upstream_and_leaves_it(colour: str) -> None:
    complete = Function(colour, Upstream().answer)
    with Cache.memory() as cache:
        complete("hi")
        put(cache, ANSWER)
        with cache.mode("read_only"), pytest.warns(CacheWarning):
            assert [complete("hi"), complete("hi")] == ["hi #2", "hi #3"]
        (key,) = cache.keys()
        assert cache.get(key) == {"a": [1]}


@pytest.mark.filterwarnings("ignore::cachewrap.CacheWarning")
def test_callers_at_once_share_one_call_in_its_place() -> None:
    upstream = Upstream()
    gate, begun = threading.Event(), threading.Event()

    @llm_cached(version=1)
    def complete(prompt: str) -> str:
        begun.set()
        gate.wait(10)
        return upstream.answer(prompt)

    with Cache.memory() as cache:
        gate.set()
        complete("hi")
        gate.clear()
        put(cache, ITEMS)
        answers: list[str] = []

        def ask() -> None:
            with cache:
                answers.append(complete("hi"))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        begun.clear()
        for thread in threads:
            thread.start()
        begun.wait(10)
        gate.set()
        for thread in threads:
            thread.join()
    assert (answers, upstream.calls) == (["hi #2"] * 3, 2)


GIVEN = [
    pytest.param("words", "words", id="text"),
    pytest.param({"a": (1,)}, {"a": (1,)}, id="value"),
    pytest.param(ITEMS, ["x", {"y": 1}], id="items"),
    pytest.param(ANSWER, {"a": [1]}, id="JSON"),
    pytest.param(HttpAnswer(200, [], [b"a", b"b"], []), "ab", id="text of a response"),
    pytest.param(HttpAnswer(200, [], [b"\xff"], []), b"\xff", id="bytes of a response"),
    pytest.param(HttpAnswer(200, [], [], []), "", id="an empty response"),
    pytest.param(
        HttpAnswer(200, [], [b'data: {"a": 1}\n\n'], [0.0], streamed=True),
        'data: {"a": 1}\n\n',
        id="events",
    ),
]


@pytest.mark.parametrize(("held", "given"), GIVEN)
def test_the_cache_gives_values_of_every_kind(held: Any, given: Any) -> None:
    cache = Cache.memory()
    key = "a" * 64
    cache.set(key, "first")
    put(cache, held)
    assert cache.get(key) == given
    assert type(cache.get(key)) is type(given)


def test_on_error_raise_raises_it() -> None:
    complete = Function("sync", Upstream().answer)
    with Cache(MemoryStore(), on_error="raise") as cache:
        complete("hi")
        put(cache, ITEMS)
        with pytest.raises(ValueError, match="the items of a generator in place of a value"):
            complete("hi")
