"""Why did this miss? What a cache, a decorated function, an error and the log tell."""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from cachewrap import (
    Cache,
    ConfigurationError,
    ReplayMissError,
    StoreError,
    llm_cached,
    no_cache,
)
from cachewrap.entry import Facts
from cachewrap.explain import Explanation, nearest
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.request.key import encode
from cachewrap.stores.memory import MemoryStore


@llm_cached
def complete(prompt: str, *, temperature: float = 0.0, api_key: str = "") -> str:
    return prompt.upper()


@llm_cached
def other(prompt: str) -> str:
    return prompt


@llm_cached
async def acomplete(prompt: str) -> str:
    return prompt


@llm_cached
def stream(prompt: str) -> Iterator[str]:
    yield prompt


@llm_cached
async def astream(prompt: str) -> AsyncIterator[str]:
    yield prompt


SOURCE = f"{__name__}:complete"


class Assistant:
    name = "ann"

    def __cache_key__(self) -> str:
        return self.name

    @llm_cached
    def complete(self, prompt: str) -> str:
        return prompt


@pytest.mark.store
class TestTheNearest:
    def test_is_the_one_with_the_fewest_differences(self, cache: Cache) -> None:
        with cache:
            complete("How is the weather in Rome?")
            complete("How is the weather in Oslo?", temperature=0.5)
            complete("Write a poem.", temperature=0.5)
            found = complete.explain("How is the weather in Rome?", temperature=0.5)
        assert not found.stored
        assert [near.diff[0] for near in found.nearest[:2]] == [
            "temperature: 0.0 → 0.5",
            "prompt: 4 characters differ at 22: '…the weather in Oslo?' → '…the weather in Rome?'",
        ]
        assert len(found.nearest) == 3

    def test_is_of_the_same_function(self, cache: Cache) -> None:
        with cache:
            other("hi")
            assert complete.explain("hi").nearest == ()

    @pytest.mark.parametrize(
        ("stored", "asked", "is_found"),
        [
            pytest.param("POST /chat/completions", "POST /chat/completions", True, id="the same"),
            pytest.param(
                "POST /chat/completions", "POST /v1/chat/completions", True, id="an SDK's"
            ),
            pytest.param(
                "POST /v1/chat/completions", "POST /chat/completions", True, id="for an SDK"
            ),
            pytest.param(
                "POST /completions", "POST /v1/chat/completions", False, id="its end alone"
            ),
            pytest.param("POST /v1/embeddings", "POST /v1/responses", False, id="another"),
            pytest.param("shop:ask", "POST /ask", False, id="a function"),
        ],
    )
    def test_is_of_the_same_endpoint_whoever_asked(
        self, stored: str, asked: str, is_found: bool, cache: Cache, store: Any
    ) -> None:
        raw = seal(
            *codec.encode("x"), encode({"a": 1}), Facts(created=1.0, seconds=1.0, source=stored)
        )
        store.set("ab" * 32, raw)
        found = nearest(cache.store, cache._guard, encode({"a": 2}), source=asked)
        assert bool(found) == is_found

    def test_of_many(self, cache: Cache) -> None:
        with cache:
            for number in range(300):
                complete(f"Question {number}: how is the weather?")
            found = complete.explain("Question 217: how was the weather?")
        assert found.nearest[0].request["arguments"]["prompt"].startswith("Question 217")

    def test_without_requests_there_is_nothing_to_tell(self, store: Any) -> None:
        with Cache(store, store_requests=False):
            complete("hi")
            found = complete.explain("ho")
        assert found.nearest == ()
        assert "nothing comparable is stored" in str(found)

    @pytest.mark.parametrize(
        "raw",
        [
            b"damaged",
            *(
                seal(*codec.encode("x"), request, Facts(created=1.0, seconds=1.0, source=SOURCE))
                for request in (b"\xc1", b"\x01", b"\x91" * 100_000 + b"\x01")
            ),
        ],
        ids=["no entry", "no request", "another kind of request", "endless"],
    )
    def test_what_cannot_be_read_is_passed_over(self, cache: Cache, store: Any, raw: bytes) -> None:
        with cache:
            complete("hi")
            store.set("ab" * 32, raw)
            assert len(complete.explain("ho").nearest) == 1


class TestAFunction:
    def test_what_is_stored(self) -> None:
        with Cache.memory():
            complete("hi")
            found = complete.explain("hi")
        assert (found.stored, found.key) == (True, complete.cache_key("hi"))

    def test_what_has_expired_is_not_stored(self) -> None:
        with Cache.memory() as cache:
            complete("hi", ttl=0.001)  # type: ignore[call-arg]
            time.sleep(0.01)
            assert not complete.explain("hi").stored
            with cache.mode("replay"):
                assert complete.explain("hi").stored

    def test_is_asked_of_the_calls_own_cache(self) -> None:
        cache = Cache.memory()
        complete("hi", cache=cache)  # type: ignore[call-arg]
        with Cache.memory():
            assert complete.explain("hi", cache=cache).stored  # type: ignore[call-arg]
            assert not complete.explain("hi").stored

    def test_another_sample_is_the_very_request(self) -> None:
        with Cache.memory():
            complete("hi")
            found = complete.explain("hi", sample=1)  # type: ignore[call-arg]
        assert (found.stored, found.nearest[0].diff) == (False, ())
        assert "the very request is stored as another sample or seed" in str(found)

    def test_a_method(self) -> None:
        with Cache.memory():
            Assistant().complete("hi")
            assert Assistant().complete.explain("hi").stored
            assert Assistant().complete.explain("ho").nearest[0].diff == ("prompt: 'hi' → 'ho'",)

    def test_that_no_cache_serves(self) -> None:
        with no_cache(), pytest.raises(ConfigurationError, match="no cache serves this call"):
            complete.explain("hi")


class TestACache:
    @pytest.fixture
    def cache(self) -> Cache:
        return Cache.memory()

    @pytest.mark.parametrize("function", [complete, acomplete, stream, astream])
    def test_a_decorated_function_of_every_colour(self, cache: Cache, function: Any) -> None:
        found = cache.explain(function, "hi")
        assert (found.stored, found.key) == (False, function.cache_key("hi"))

    def test_any_function_by_its_first_request_that_is_not_stored(self, cache: Cache) -> None:
        def pipeline(prompt: str) -> str:
            return complete(complete(prompt) + "!")

        with cache:
            pipeline("a")
            complete("b")
        found = cache.explain(pipeline, "b")
        assert found.nearest[0].diff == ("prompt: 'A!' → 'B!'",)

    def test_any_function_that_is_stored_throughout(self, cache: Cache) -> None:
        with cache:
            complete("a")
        assert cache.explain(lambda: complete("a")).stored

    @pytest.mark.parametrize("call", [len, lambda text: complete(text, cache_seed=None)])
    def test_a_call_that_it_does_not_serve_is_not_called_stored(
        self, cache: Cache, call: Callable[[str], Any]
    ) -> None:
        found = cache.explain(call, "a")
        assert (found.stored, found.served, found.nearest) == (False, False, ())
        assert str(found).startswith(f"nothing was asked that {cache.url} serves")

    @pytest.mark.parametrize("running", [False, True])
    def test_coroutine_functions_whether_a_loop_is_running_or_not(
        self, cache: Cache, running: bool
    ) -> None:
        async def pipeline(prompt: str) -> str:
            await asyncio.sleep(0)
            return await acomplete(prompt)

        async def inside() -> bool:
            return cache.explain(pipeline, "a").stored

        stored = asyncio.run(inside()) if running else cache.explain(pipeline, "a").stored
        assert not stored

    def test_a_canonical_request(self, cache: Cache) -> None:
        with cache:
            complete("hi")
        near = cache.explain(complete, "ho").nearest[0].request
        assert cache.explain(near).stored
        changed = {**near, "arguments": {**near["arguments"], "temperature": 1.0}}
        assert cache.explain(changed).nearest[0].diff == ("temperature: 0.0 → 1.0",)

    def test_nothing_is_stored_and_nothing_is_counted(self, cache: Cache) -> None:
        cache.explain(complete, "hi")
        assert (list(cache.keys()), cache.stats.misses, cache.stats.hits) == ([], 0, 0)

    def test_a_store_that_cannot_be_read_is_an_error(self) -> None:
        class Broken(MemoryStore):
            def get(self, key: str) -> bytes | None:
                raise StoreError("down")

        with pytest.raises(StoreError):
            Cache(Broken()).explain(complete, "hi")

    @pytest.mark.parametrize("key", [None, "0" * 64])
    def test_encrypted_entries(self, key: str | None) -> None:
        pytest.importorskip("cryptography")
        store = MemoryStore()
        with Cache(store, encryption_key="1" * 64):
            complete("hi")
        with Cache(store, encryption_key="1" * 64):
            assert complete.explain("ho").nearest[0].diff == ("prompt: 'hi' → 'ho'",)
        with Cache(store, encryption_key=key):
            assert complete.explain("ho").nearest == ()


class Wrapping(MemoryStore):
    """A store of somebody's, which has one of his own behind it."""

    store = object()


class TestTheError:
    @pytest.mark.parametrize("bounded", [True, False])
    def test_names_the_nearest_of_a_store_with_another_one_behind_it(self, bounded: bool) -> None:
        store = Wrapping()
        store.bounded = bounded
        with Cache(store) as cache:
            complete("hi")
            with cache.mode("replay"), pytest.raises(ReplayMissError, match="'hi' → 'ho'"):
                complete("ho")

    def miss(self, *stored: str) -> ReplayMissError:
        with Cache.memory() as cache:
            for prompt in stored:
                complete(prompt, api_key="hush-hush")
            with cache.mode("replay"), pytest.raises(ReplayMissError) as raised:
                complete("ho", api_key="hush-hush too")
        return raised.value

    def test_reads_as_a_message(self) -> None:
        error = self.miss("hi")
        text = str(error)
        key = complete.cache_key("ho", api_key="hush-hush too")
        assert text.startswith(f"{error.source} (key {key[:12]}…)")
        assert "\n  prompt: 'hi' → 'ho'\n" in text
        assert "mode replay asks no model" in text

    def test_says_that_nothing_comparable_is_stored(self) -> None:
        error = self.miss()
        assert (error.nearest, error.diff) == (None, ())
        assert "nothing comparable is stored there" in str(error)

    def test_shows_no_credential(self) -> None:
        error = self.miss("hi")
        told = f"{error} {error.diff} {error.nearest} {error.explanation}"
        assert "hush" not in told
        assert error.diff == ("prompt: 'hi' → 'ho'",)  # credentials are no longer there to differ
        assert error.nearest["arguments"]["api_key"] == "(hidden)"

    def test_travels_to_another_process(self) -> None:
        error = pickle.loads(pickle.dumps(self.miss("hi")))
        assert (str(error), error.key, error.source, error.nearest, error.diff) == (
            str(error),
            error.explanation.key,
            error.explanation.source,
            error.explanation.nearest[0].request,
            error.explanation.nearest[0].diff,
        )


class TestTheLog:
    def ask(self, caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
        with Cache.memory():
            complete("hi")
            with caplog.at_level(level, "cachewrap"):
                complete("ho")
                complete("ho")
        return [r.getMessage() for r in caplog.records if r.name == "cachewrap"]

    def test_explains_a_miss_once_at_debug(self, caplog: pytest.LogCaptureFixture) -> None:
        (told,) = self.ask(caplog, logging.DEBUG)
        assert "prompt: 'hi' → 'ho'" in told

    def test_is_silent_otherwise(self, caplog: pytest.LogCaptureFixture) -> None:
        assert self.ask(caplog, logging.INFO) == []

    def test_costs_no_look_at_other_entries_otherwise(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def scan(self: MemoryStore) -> Any:
            raise AssertionError("the store was searched")

        monkeypatch.setattr(MemoryStore, "scan", scan)
        self.ask(caplog, logging.INFO)

    @pytest.mark.parametrize("function", [stream, acomplete, astream])
    def test_explains_every_colour(self, caplog: pytest.LogCaptureFixture, function: Any) -> None:
        async def drain(prompt: str) -> None:
            called = function(prompt)
            if hasattr(called, "__aiter__"):
                assert [item async for item in called]
            elif hasattr(called, "__await__"):
                await called
            else:
                assert list(called)

        with Cache.memory(), caplog.at_level(logging.DEBUG, "cachewrap"):
            asyncio.run(drain("hi"))
            asyncio.run(drain("ho"))
        told = [record.getMessage() for record in caplog.records if record.name == "cachewrap"]
        assert [text for text in told if "prompt: 'hi' → 'ho'" in text] == told[1:]


class TestSearchesOfAnEventLoop:
    """Each takes seconds and memory in a large store: many at once would be in everybody's way."""

    @pytest.fixture
    def searches(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        under_way: list[int] = []
        most = [0, 0]

        def search(*args: object, **options: object) -> Explanation:
            under_way.append(1)
            most[:] = most[0] + 1, max(most[1], len(under_way))
            time.sleep(0.02)
            under_way.pop()
            return Explanation("", "", False, (), "")

        monkeypatch.setattr("cachewrap.explain.explain_miss", search)
        return most

    def test_take_their_turns(self, searches: list[int]) -> None:
        async def main() -> list[BaseException | str]:
            asked = (acomplete(f"{number}") for number in range(6))
            return await asyncio.gather(*asked, return_exceptions=True)

        with Cache.memory(mode="replay"):
            answers = asyncio.run(main())

        assert {type(answer) for answer in answers} == {ReplayMissError}
        assert searches == [6, 1]

    def test_who_has_waited_long_enough_is_told_without_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("cachewrap.call.drivers._SEARCH_SECONDS", -1.0)
        monkeypatch.setattr("cachewrap.call.drivers._search_turn", [])
        with Cache.memory(mode="replay"), pytest.raises(ReplayMissError) as raised:
            asyncio.run(acomplete("a"))
        assert "what is stored there was not compared with it" in str(raised.value)
        assert raised.value.nearest is None

    def test_go_on_behind_one_that_nobody_waits_for(self, searches: list[int]) -> None:
        async def main() -> None:
            first = asyncio.create_task(acomplete("first"))
            while not searches[0]:
                await asyncio.sleep(0.001)
            first.cancel()
            with pytest.raises(ReplayMissError):
                await asyncio.wait_for(acomplete("second"), 5)

        with Cache.memory(mode="replay"):
            asyncio.run(main())

        assert searches == [2, 1]
