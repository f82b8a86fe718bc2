"""Element by element: of a list of which most is known, the rest alone goes upstream."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cachewrap import (
    Cache,
    CacheWarning,
    ConfigurationError,
    ReplayMissError,
    ResultsError,
    UnkeyableError,
    llm_cached,
    no_cache,
)
from cachewrap.call.flight import _flights
from cachewrap.same import ignore

WAIT = 20.0


@pytest.fixture(autouse=True)
def all_flights_land() -> Iterator[None]:
    yield
    assert _flights == {}


class Embed:
    """A function over a list, sync or async, called from a test without a loop.

    Attributes:
        asked: the lists that upstream was asked for.
        decorated: the function.
    """

    def __init__(self, colour: str = "sync", **options: Any) -> None:
        self.colour = colour
        self.asked: list[Any] = []
        self.gives: Callable[[Any], Any] = lambda texts: [[t, len(t)] for t in texts]
        decorate = llm_cached(each="texts", version=1, **options)

        def answer(texts: Any) -> Any:
            self.asked.append(texts)
            return self.gives(texts)

        if colour == "sync":

            @decorate
            def embed(texts: Any, size: int = 0) -> Any:
                return answer(texts)

        else:

            @decorate
            async def embed(texts: Any, size: int = 0) -> Any:
                await asyncio.sleep(0)
                return answer(texts)

        self.decorated = embed

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        called = self.decorated(*args, **kwargs)
        return called if self.colour == "sync" else asyncio.run(_awaited(called))


async def _awaited(called: Any) -> Any:
    return await called


@pytest.fixture(params=["sync", "async"])
def embed(request: pytest.FixtureRequest) -> Embed:
    return Embed(request.param)


def answers(*texts: str) -> list[list[Any]]:
    return [[text, len(text)] for text in texts]


@pytest.mark.store
class TestAList:
    def test_is_asked_for_what_is_not_known(self, cache: Cache, embed: Embed) -> None:
        with cache:
            assert embed(["a", "bb", "c"]) == answers("a", "bb", "c")
            assert embed(["dd", "c", "a", "e"]) == answers("dd", "c", "a", "e")
            assert embed(["e", "bb"]) == answers("e", "bb")
        assert embed.asked == [["a", "bb", "c"], ["dd", "e"]]
        assert (cache.stats.misses, cache.stats.hits, cache.stats.stored) == (5, 4, 5)

    def test_equal_elements_are_asked_once_and_have_answers_of_their_own(
        self, cache: Cache, embed: Embed
    ) -> None:
        with cache:
            first = embed(["a", "b", "a", "a"])
            assert first == answers("a", "b", "a", "a")
            first[0].append("changed")
            assert first[2] == ["a", 1]
            again = embed(["a", "a"])
            again[0].append("changed")
            assert again[1] == ["a", 1]
        assert embed.asked == [["a", "b"]]
        assert (cache.stats.misses, cache.stats.joined, cache.stats.hits) == (2, 2, 2)

    def test_one_that_fails_stores_nothing_and_is_asked_anew(
        self, cache: Cache, embed: Embed
    ) -> None:
        gives = embed.gives
        with cache:
            embed(["a"])
            embed.gives = lambda texts: 1 / 0
            with pytest.raises(ZeroDivisionError):
                embed(["a", "b", "c"])
            embed.gives = gives
            assert embed(["c", "a"]) == answers("c", "a")
        assert embed.asked == [["a"], ["b", "c"], ["c"]]

    def test_of_many_is_stored_whole(self, cache: Cache, embed: Embed) -> None:
        texts = [f"text {number}" for number in range(250)]
        with cache:
            assert embed(texts) == answers(*texts)
            assert embed(texts[::-1]) == answers(*texts[::-1])
        assert embed.asked == [texts]

    def test_that_is_refreshed_is_asked_whole(self, cache: Cache, embed: Embed) -> None:
        with cache:
            embed(["a", "b"])
            embed.gives = lambda texts: [f"new {text}" for text in texts]
            assert embed(["b", "c"], mode="refresh") == ["new b", "new c"]
            assert embed(["a", "b"]) == [["a", 1], "new b"]
        assert embed.asked == [["a", "b"], ["b", "c"]]

    def test_each_is_a_call_of_its_run_and_an_event(self, store: Any, embed: Embed) -> None:
        events: list[Any] = []
        cache = Cache(store, on_event=events.append)
        with cache.run("lists"):
            embed(["a"])
            embed(["a", "b", "b"])
        (run,) = cache.runs()
        told = sorted((call.key, call.outcome) for call in run.calls())
        first, second = (embed.decorated.cache_key([text]) for text in ("a", "b"))
        expected = [(first, "hit"), (first, "miss"), (second, "joined"), (second, "miss")]
        assert told == sorted(expected)
        assert sorted((one.key, one.outcome.value) for one in events) == sorted(expected)

    def test_in_mode_replay_says_what_is_missing(self, cache: Cache, embed: Embed) -> None:
        with cache:
            embed(["a", "b"])
            with cache.mode("replay"):
                assert embed(["b", "a"]) == answers("b", "a")
                with pytest.raises(ReplayMissError, match="2 of 4 elements, at 1, 3") as caught:
                    embed(["a", "x", "b", "y"])
        assert caught.value.elements == (1, 3)
        assert embed.asked == [["a", "b"]]
        assert cache.stats.absent == 2

    def test_read_only_stores_nothing(self, cache: Cache, embed: Embed) -> None:
        with cache.mode("read_only"):
            assert embed(["a"]) == embed(["a"])
        assert embed.asked == [["a"], ["a"]]

    def test_occurrences_are_samples_in_a_block_of_them(self, cache: Cache, embed: Embed) -> None:
        for _ in range(2):
            with cache.samples():
                embed(["a", "a"])
                embed(["b", "a"])
        assert embed.asked == [["a", "a"], ["b", "a"]]

    def test_lists_in_threads_share_what_they_have_in_common(self, cache: Cache) -> None:
        embed, gate = Embed(), threading.Event()
        gives, came = embed.gives, threading.Semaphore(0)

        def slow(texts: Any) -> Any:
            came.release()
            assert gate.wait(WAIT)
            return gives(texts)

        embed.gives = slow
        lists = [["a", "b", "c"], ["c", "d", "a"], ["d", "c", "b", "e"], ["e", "a"]]
        with cache, ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(embed, texts, cache=cache) for texts in lists]
            assert came.acquire(timeout=WAIT)
            gate.set()
            for texts, future in zip(lists, asked, strict=True):
                assert future.result(WAIT) == answers(*texts)
        assert sorted(text for texts in embed.asked for text in texts) == list("abcde")

    def test_lists_in_tasks_share_what_they_have_in_common(self, cache: Cache) -> None:
        embed = Embed("async")
        lists = [["a", "b", "c"], ["c", "d", "a"], ["d", "c", "b", "e"], ["e", "a"]]

        async def ask() -> list[Any]:
            async with cache:
                return await asyncio.gather(*[embed.decorated(texts) for texts in lists])

        assert asyncio.run(ask()) == [answers(*texts) for texts in lists]
        assert sorted(text for texts in embed.asked for text in texts) == list("abcde")

    def test_one_that_is_cancelled_leaves_its_elements_to_others(self, cache: Cache) -> None:
        embed = Embed("async")

        async def ask() -> list[Any]:
            gate, came = asyncio.Event(), asyncio.Event()

            @llm_cached(each="texts")
            async def slow(texts: list[str]) -> list[str]:
                embed.asked.append(texts)
                came.set()
                await gate.wait()
                return texts

            async with cache:
                first = asyncio.create_task(slow(["a", "b"]))
                await came.wait()
                second = asyncio.create_task(slow(["b", "c", "a"]))
                while len(embed.asked) < 2:
                    await asyncio.sleep(0)
                first.cancel()
                gate.set()
                with pytest.raises(asyncio.CancelledError):
                    await first
                return await second

        assert asyncio.run(ask()) == ["b", "c", "a"]
        assert embed.asked == [["a", "b"], ["c"], ["b", "a"]]


class TestResults:
    """What a function gives, and what is made of it."""

    @pytest.mark.parametrize("kind", [list, tuple])
    def test_come_in_what_it_gives_them_in(self, embed: Embed, kind: type) -> None:
        embed.gives = lambda texts: kind(("x", t) for t in texts)
        with Cache.memory():
            missed, hit = embed(["a", "b"]), embed(["a", "b"])
        assert missed == hit == kind([("x", "a"), ("x", "b")])
        assert type(missed) is type(hit) is kind

    def test_an_empty_list_asks_nothing(self, embed: Embed) -> None:
        with Cache.memory():
            assert (embed([]), embed(())) == ([], [])
        assert embed.asked == []

    def test_the_function_is_given_the_kind_of_list_that_the_caller_has(self, embed: Embed) -> None:
        with Cache.memory():
            embed(("a", "b"))
            embed(("b", "c"))
        assert embed.asked == [("a", "b"), ("c",)]

    def test_what_is_no_list_is_one_request(self, embed: Embed) -> None:
        embed.gives = lambda texts: f"one {texts}"
        with Cache.memory():
            assert embed("text") == embed("text") == "one text"
        assert embed.asked == ["text"]

    @pytest.mark.parametrize("came", [[1], [1, 2, 3], {"a": 1, "b": 2}, None, "ab"])
    def test_of_another_number_are_returned_and_not_stored(self, embed: Embed, came: Any) -> None:
        embed.gives = lambda texts: came
        with Cache.memory() as cache:
            with pytest.warns(CacheWarning, match="texts= had 2 elements"):
                assert embed(["a", "b"]) == came
            assert embed(["a", "b"]) == came
            assert list(cache.entries()) == []

    def test_of_another_number_for_a_part_are_in_the_error(self, embed: Embed) -> None:
        with Cache.memory():
            embed(["a"])
            embed.gives = lambda texts: ["paid for"]
            with pytest.raises(ResultsError, match="embed: texts= had 2 elements") as caught:
                embed(["a", "b", "c"])
        assert caught.value.results == ["paid for"]

    def test_what_no_codec_takes_is_returned_and_the_rest_stored(self, embed: Embed) -> None:
        odd = object()
        embed.gives = lambda texts: [odd if text == "odd" else text for text in texts]
        with Cache.memory():
            with pytest.warns(CacheWarning, match="returned but not stored"):
                assert embed(["a", "odd"]) == ["a", odd]
            assert embed(["a", "odd"]) == ["a", odd]
        assert embed.asked == [["a", "odd"], ["odd"]]

    def test_when_decides_on_each(self) -> None:
        embed = Embed(when=lambda answer: answer != ["bad", 3])
        with Cache.memory():
            embed(["bad", "good"])
            embed(["bad", "good"])
        assert embed.asked == [["bad", "good"], ["bad"]]

    def test_a_retry_asks_for_all_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)
        embed = Embed(retry=1)
        gives = embed.gives

        def once(texts: Any) -> Any:
            embed.gives = gives
            raise ConnectionError

        embed.gives = once
        with Cache.memory():
            assert embed(["a", "b"]) == answers("a", "b")
        assert embed.asked == [["a", "b"]] * 2


class TestRequests:
    """What an element's request is."""

    def test_other_arguments_count(self, embed: Embed) -> None:
        with Cache.memory():
            embed(["a"], 1)
            embed(["a", "b"], size=1)
            embed(["a"], size=2)
        assert embed.asked == [["a"], ["b"], ["a"]]

    def test_an_element_and_a_call_with_it_alone_are_no_one_request(self) -> None:
        @llm_cached(version=1)
        def embed(texts: list[str]) -> list[str]:
            return ["whole"]

        whole = embed

        @llm_cached(version=1, each="texts")  # type: ignore[no-redef]
        def embed(texts: list[str]) -> list[str]:
            return ["element"]

        with Cache.memory():
            assert (whole(["a"]), embed(["a"])) == (["whole"], ["element"])

    def test_it_can_be_seen(self) -> None:
        embed = Embed()
        with Cache.memory() as cache:
            embed(["a", "b"])
            (first, second) = cache.entries()
        for entry, text in ((first, "a"), (second, "b")):
            assert entry.request["arguments"] == {"size": 0, "texts": [text]}
            assert entry.request["each"] == "texts"
            assert entry.element is True
            assert entry.value() == answers(text)

    def test_an_element_without_a_canonical_form_is_named(self, embed: Embed) -> None:
        with Cache.memory(), pytest.raises(UnkeyableError, match="element 1"):
            embed(["a", object()])
        assert embed.asked == []

    def test_rules_of_equality_hold_for_each(self, embed: Embed) -> None:
        with Cache.memory(same=[ignore("size")]) as cache:
            embed(["a"], 1)
            embed(["a", "b"], 2)
        assert embed.asked == [["a"], ["b"]]
        assert cache.stats.hits_by_rule == 1

    def test_its_key_is_that_of_a_list_of_it_alone(self, embed: Embed) -> None:
        with Cache.memory() as cache:
            embed(["a", "b"])
            keys = {embed.decorated.cache_key([text]) for text in ("a", "b")}
            assert {entry.key for entry in cache.entries()} == keys
        with pytest.raises(ConfigurationError, match="key of its own"):
            embed.decorated.cache_key(["a", "b"])

    def test_explain_tells_of_the_first_that_is_not_stored(self, embed: Embed) -> None:
        with Cache.memory():
            embed(["a", "b"])
            assert embed.decorated.explain(["b", "a"]).stored
            explained = embed.decorated.explain(["a", "b", "c"])
        assert explained.key == embed.decorated.cache_key(["c"])

    def test_invalidate_removes_each(self, embed: Embed) -> None:
        with Cache.memory():
            embed(["a", "b", "c"])
            assert embed.decorated.invalidate(["a", "b", "x"]) is True
            assert embed.decorated.invalidate(["a"]) is False
            embed(["a", "b", "c"])
        assert embed.asked == [["a", "b", "c"], ["a", "b"]]

    def test_without_a_cache_the_function_is_called_as_it_is(self) -> None:
        embed = Embed()
        with Cache.memory():
            with no_cache():
                embed(["a", "a"])
            embed(["a", "a"], cache_seed=None)
            embed.decorated.uncached(["a", "a"])
        assert embed.asked == [["a", "a"]] * 3

    def test_a_sample_is_asked_by_its_number(self, embed: Embed) -> None:
        with Cache.memory():
            embed(["a"])
            embed(["a", "b"], sample=1)
            embed(["b", "a"], sample=1)
        assert embed.asked == [["a"], ["a", "b"]]

    def test_a_call_has_options_of_its_own(self, embed: Embed) -> None:
        cache = Cache.memory()
        embed(["a"], cache=cache, ttl=60)
        (entry,) = cache.entries()
        assert entry.expires is not None
        embed(["a"], cache=cache, cache_seed=7)
        assert embed.asked == [["a"], ["a"]]


def test_lists_that_ask_for_each_others_elements_inside_their_calls_end() -> None:
    async def ask() -> list[Any]:
        @llm_cached(each="texts")
        async def embed(texts: list[str]) -> list[str]:
            await asyncio.sleep(0)
            inner = {"ab": ["c"], "cd": ["a", "b"]}.get("".join(texts))
            if inner is not None:
                await embed(inner)
            return texts

        with Cache.memory():
            async with asyncio.timeout(WAIT):
                return await asyncio.gather(embed(["a", "b"]), embed(["c", "d"]))

    assert asyncio.run(ask()) == [["a", "b"], ["c", "d"]]


class TestErrors:
    def test_what_was_asked_is_not_kept_alive(self) -> None:
        embed = Embed()
        embed.gives = lambda texts: 1 / 0
        cache = Cache.memory()

        def ask() -> None:
            with pytest.raises(ZeroDivisionError):
                embed(["a", "b"], cache=cache)

        ask()
        gc.collect()
        gc.disable()
        try:
            called = self.refused(embed, cache)
            assert called() is None
        finally:
            gc.enable()

    def refused(self, embed: Embed, cache: Cache) -> weakref.ref[Any]:
        class Text(str):
            """A text that can be referred to."""

        text = Text("a")
        with contextlib.suppress(ZeroDivisionError):
            embed(["b", text], cache=cache)
        embed.asked.clear()
        return weakref.ref(text)

    def test_one_of_the_misses_is_compared_for_the_log(
        self, embed: Embed, caplog: pytest.LogCaptureFixture
    ) -> None:
        with Cache.memory(), caplog.at_level(logging.DEBUG, "cachewrap"):
            embed(["a", "b", "c"])
        told = [one.getMessage() for one in caplog.records if one.name == "cachewrap"]
        assert len([text for text in told if "is not stored" in text]) == 1


class TestMethods:
    def test_of_each_kind(self) -> None:
        asked: list[Any] = []

        class Model:
            def __init__(self, name: str) -> None:
                self.name = name

            def __cache_key__(self) -> str:
                return self.name

            @llm_cached(each="texts")
            def embed(self, prefix: str, texts: list[str]) -> list[str]:
                asked.append((self.name, texts))
                return [f"{self.name} {prefix}{text}" for text in texts]

            @llm_cached(each="texts")
            @classmethod
            def of_class(cls, texts: list[str]) -> list[str]:
                asked.append((cls.__name__, texts))
                return texts

            @llm_cached(each="texts")
            @staticmethod
            def static(*, texts: list[str]) -> list[str]:
                asked.append(("static", texts))
                return texts

        with Cache.memory():
            one = Model("one")
            assert one.embed("p", ["a", "b"]) == ["one pa", "one pb"]
            assert one.embed(texts=["b", "c"], prefix="p") == ["one pb", "one pc"]
            assert Model("two").embed("p", ["a"]) == ["two pa"]
            assert Model.of_class(["a"]) + Model.of_class(["a", "b"]) == ["a", "a", "b"]
            assert Model.static(texts=["a"]) + one.static(texts=["b", "a"]) == ["a", "b", "a"]
        assert asked == [
            *(("one", ["a", "b"]), ("one", ["c"]), ("two", ["a"])),
            *(("Model", ["a"]), ("Model", ["b"]), ("static", ["a"]), ("static", ["b"])),
        ]

    def test_a_default_is_a_list_too(self) -> None:
        asked: list[list[str]] = []

        @llm_cached(each="texts")
        def embed(texts: list[str] = ["a", "b"]) -> list[str]:  # noqa: B006
            asked.append(texts)
            return texts

        with Cache.memory():
            embed(["b"])
            assert embed() == ["a", "b"]
        assert asked == [["b"], ["a"]]


class TestDecorating:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"each": "texs"}, "each='texs'.* it has more, prompt, texts"),
            ({"each": "more"}, "each='more'"),
            ({"each": "texts", "ignore": "texts"}, "each='texts'.*counts; it has more, prompt"),
            ({"each": "texts", "key": len}, "each= goes neither"),
        ],
    )
    def test_what_cannot_be_is_refused(self, options: dict[str, Any], said: str) -> None:
        def embed(texts: list[str], prompt: str, *more: str) -> list[str]:
            return texts

        with pytest.raises(ConfigurationError, match=said):
            llm_cached(**options)(embed)

    def test_a_generator_is_refused(self) -> None:
        def embed(texts: list[str]) -> Iterator[str]:
            yield from texts

        with pytest.raises(ConfigurationError, match="each= goes neither"):
            llm_cached(each="texts")(embed)
