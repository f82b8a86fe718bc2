"""Modes, samples, ttl and `when=` for calls of the SDK, whole and streamed, in both colours."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from standin import Upstream

import cachewrap
from cachewrap import Cache, CacheWarning, ConfigurationError, ReplayMissError, llm_cached
from cachewrap.predicates import complete, usable
from sdk.openai.asking import Colour, Seen, unmarked
from sdk.openai.shapes import BY_NAME, Shape
from sdk.openai.test_streams import BROKEN

NAMES = (
    "chat chat-stream chat-raw chat-raw-stream chat-open chat-open-stream chat-helper"
    " chat-helper-beta responses responses-stream responses-helper embeddings speech-open-chunks"
).split()
SHAPES = [BY_NAME[name] for name in NAMES if name in BY_NAME]
STREAM = BY_NAME["chat-stream"]
CHAT = BY_NAME["chat"]
WAIT = 20.0


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.name)
def shape(request: pytest.FixtureRequest) -> Shape:
    found: Shape = request.param
    return found


def ask(colour: Colour, client: Any, shape: Shape, n: int = 1, **more: Any) -> Seen:
    return unmarked(colour.ask(client, shape, n, **more))


class TestModes:
    def test_replay_serves_what_is_stored(
        self, up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
    ) -> None:
        with cache:
            first = ask(colour, client, shape)
        with cache.mode("replay"):
            assert (ask(colour, client, shape), up.calls) == (first, 1)

    def test_replay_raises_at_a_miss_and_nothing_goes_upstream(
        self, up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
    ) -> None:
        with cache.mode("replay"), pytest.raises(ReplayMissError, match="POST /"):
            ask(colour, client, shape)
        assert up.calls == 0

    def test_replay_serves_what_has_expired_with_a_warning(
        self, up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
    ) -> None:
        with cache:
            first = ask(colour, client, shape, ttl=0.001)
            time.sleep(0.01)
            with cache.mode("replay"), pytest.warns(CacheWarning, match="expired"):
                assert ask(colour, client, shape) == first

    def test_what_has_expired_is_a_miss(
        self, up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
    ) -> None:
        with cache:
            ask(colour, client, shape, ttl=0.001)
            time.sleep(0.01)
            second = ask(colour, client, shape)
            assert (ask(colour, client, shape), up.calls) == (second, 2)

    def test_refresh_goes_upstream_and_replaces(
        self,
        up: Upstream,
        client: Any,
        colour: Colour,
        shape: Shape,
        cache: Cache,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with cache, caplog.at_level(logging.INFO, "cachewrap"):
            first = ask(colour, client, shape)
            second = ask(colour, client, shape, mode="refresh")
            assert [record.levelno for record in caplog.records] == [logging.INFO]
            assert (ask(colour, client, shape), up.calls) == (second, 2)
        assert first != second
        assert (cache.stats.misses, cache.stats.stored, cache.stats.hits) == (2, 2, 1)

    def test_read_only_serves_what_is_stored_and_stores_nothing(
        self, up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
    ) -> None:
        with cache:
            first = ask(colour, client, shape, 1)
        with cache.mode("read_only"):
            assert ask(colour, client, shape, 1) == first
            ask(colour, client, shape, 2)
            ask(colour, client, shape, 2)
        assert (up.calls, len(list(cache.keys()))) == (3, 1)
        assert (cache.stats.misses, cache.stats.stored) == (3, 1)

    def test_off_is_past_the_cache(
        self, up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
    ) -> None:
        with cache:
            ask(colour, client, shape)
            ask(colour, client, shape, mode="off")
        assert (up.calls, cache.stats.bypass_reasons) == (2, {"mode off": 1})

    def test_an_unknown_mode_is_an_error_before_the_call(
        self, up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
    ) -> None:
        with cache, pytest.raises(ConfigurationError, match="refresh"):
            ask(colour, client, shape, mode="again")
        assert up.calls == 0


class TestSamples:
    def test_every_occurrence_is_an_answer_of_its_own_that_stays(
        self, up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
    ) -> None:
        with cache.samples():
            first = [ask(colour, client, shape) for _ in range(3)]
        with cache.samples():
            assert [ask(colour, client, shape) for _ in range(3)] == first
        assert up.calls == 3

    def test_the_first_one_is_what_is_stored_without_samples(
        self, up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
    ) -> None:
        with cache:
            first = ask(colour, client, shape)
            with cache.samples():
                assert ask(colour, client, shape) == first
        assert up.calls == 1

    def test_sample_on_one_call(
        self, up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
    ) -> None:
        with cache:
            first = [ask(colour, client, shape, sample=number) for number in range(3)]
            assert [ask(colour, client, shape, sample=number) for number in range(3)] == first
            assert ask(colour, client, shape) == first[0]
        assert up.calls == 3

    def test_several_choices_stay_one_request(
        self, up: Upstream, client: Any, colour: Colour, cache: Cache
    ) -> None:
        with cache.samples():
            ask(colour, client, BY_NAME["chat-n"])
        assert (up.calls, len(list(cache.keys()))) == (1, 1)

    def test_what_failed_leaves_its_number(
        self, up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
    ) -> None:
        with cache.samples():
            up.fail(400)
            with pytest.raises(openai.BadRequestError):
                ask(colour, client, shape)
            answer = ask(colour, client, shape)
        with cache:
            assert ask(colour, client, shape) == answer

    def test_the_sdks_own_retries_take_no_number(
        self, up: Upstream, colour: Colour, cache: Cache
    ) -> None:
        client = colour.client(up, max_retries=2)
        up.fail(500)
        with cache.samples():
            first = [ask(colour, client, CHAT) for _ in range(2)]
        with cache.samples():
            assert [ask(colour, client, CHAT) for _ in range(2)] == first

    def test_samples_of_a_function_do_not_fall_into_one_stored_answer(
        self, up: Upstream, cache: Cache
    ) -> None:
        client = Colour("sync").client(up)

        @llm_cached
        def complete(prompt: str) -> str:
            answer = client.chat.completions.create(**CHAT.ask(1))
            return str(answer.choices[0].message.content)

        with cache:
            by_number = [complete("hi", sample=number) for number in range(3)]  # type: ignore[call-arg]
            with cache.samples():
                assert [complete("hi") for _ in range(3)] == by_number
        assert len(set(by_number)) == 3

    def test_tasks_at_one_time(self, up: Upstream, cache: Cache) -> None:
        colour = Colour("async")
        client = colour.client(up)

        async def ask_five() -> list[str]:
            async with cache.samples():
                answers = await asyncio.gather(
                    *(client.chat.completions.create(**CHAT.ask(1)) for _ in range(5))
                )
                return [answer.id for answer in answers]

        first = colour.wait(ask_five())
        assert (colour.wait(ask_five()), len(set(first)), up.calls) == (first, 5, 5)
        colour.close()

    def test_threads_at_one_time(self, up: Upstream, cache: Cache) -> None:
        client = Colour("sync").client(up)

        def run() -> list[str]:
            with cache.samples(), ThreadPoolExecutor(5) as pool:
                asked = [
                    pool.submit(client.chat.completions.create, **CHAT.ask(1)) for _ in range(5)
                ]
                return sorted(future.result(WAIT).id for future in asked)

        first = run()
        assert (run(), len(set(first)), up.calls) == (first, 5, 5)


class TestStreamsAtOneTime:
    """Who wants something else done with a stream does not read along."""

    @pytest.mark.parametrize(("one", "other"), [("normal", "refresh"), ("read_only", "normal")])
    def test_callers_in_two_modes_make_two_calls(
        self, up: Upstream, client: Any, colour: Colour, cache: Cache, one: Any, other: Any
    ) -> None:
        def begin(mode: Any) -> Any:
            return colour.wait(client.chat.completions.create(**STREAM.ask(1), mode=mode))

        with cache:
            streams = [begin(one), begin(other)]
        for stream in streams:
            colour.wait(stream.close())
        assert up.calls == 2

    def test_callers_who_refresh_share_one_stream(
        self, up: Upstream, client: Any, colour: Colour, cache: Cache
    ) -> None:
        def begin() -> Any:
            return colour.wait(client.chat.completions.create(**STREAM.ask(1)))

        with cache.mode("refresh"):
            streams = [begin(), begin()]
        for stream in streams:
            colour.wait(stream.close())
        assert up.calls == 1

    def test_a_refreshed_stream_that_was_cut_off_leaves_what_is_stored(
        self, up: Upstream, client: Any, colour: Colour, cache: Cache
    ) -> None:
        with cache:
            first = ask(colour, client, STREAM)
            up.once(cut_after=2)
            with pytest.raises(BROKEN):
                ask(colour, client, STREAM, mode="refresh")
            assert ask(colour, client, STREAM) == first


class TestWhen:
    @pytest.fixture(autouse=True)
    def patched(self) -> Any:
        """Each test applies a patch of its own."""
        yield
        cachewrap.unpatch_openai()

    def test_what_it_refuses_is_returned_and_not_stored(
        self, up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
    ) -> None:
        with cachewrap.patch_openai(when=lambda answer: False), cache:
            assert ask(colour, client, shape) != ask(colour, client, shape)
        assert (up.calls, cache.stats.misses, cache.stats.stored) == (2, 2, 0)

    def test_what_it_takes_is_stored(
        self, up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
    ) -> None:
        with cachewrap.patch_openai(when=lambda answer: True), cache:
            assert ask(colour, client, shape) == ask(colour, client, shape)
        assert up.calls == 1

    @pytest.mark.parametrize(
        ("name", "sees"),
        [
            ("chat", lambda answer: answer.choices[0].message.content),
            ("chat-raw", lambda answer: answer.choices[0].message.content),
            ("chat-open", lambda answer: answer["choices"][0]["message"]["content"]),
            ("chat-stream", lambda events: events[0]["choices"][0]["delta"]),
            ("chat-raw-stream", lambda events: events[0]["choices"][0]["delta"]),
            ("embeddings", lambda answer: answer.data[0].embedding),
            ("speech-open-chunks", lambda answer: answer.startswith(b"")),
        ],
    )
    def test_what_it_is_given(
        self, up: Upstream, client: Any, colour: Colour, cache: Cache, name: str, sees: Any
    ) -> None:
        with cachewrap.patch_openai(when=lambda answer: bool(sees(answer))), cache:
            ask(colour, client, BY_NAME[name])
        assert cache.stats.stored == 1

    def test_one_that_raises_costs_a_warning_and_stores_nothing(
        self, up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
    ) -> None:
        def when(answer: Any) -> bool:
            raise ZeroDivisionError

        with (
            cachewrap.patch_openai(when=when),
            cache,
            pytest.warns(CacheWarning, match="ZeroDivision"),
        ):
            ask(colour, client, shape)
        assert cache.stats.stored == 0

    def test_of_several_patches_the_newest_that_has_one_decides(
        self, up: Upstream, client: Any, colour: Colour, cache: Cache
    ) -> None:
        with (
            cachewrap.patch_openai(when=lambda answer: False),
            cachewrap.patch_openai(when=lambda answer: True),
            cachewrap.patch_openai(),
            cache,
        ):
            ask(colour, client, CHAT)
        assert cache.stats.stored == 1

    def test_a_hit_is_not_asked_about(
        self, up: Upstream, client: Any, colour: Colour, cache: Cache
    ) -> None:
        asked = []

        def when(answer: Any) -> bool:
            asked.append(answer)
            return True

        with cachewrap.patch_openai(when=when), cache:
            ask(colour, client, CHAT)
            ask(colour, client, CHAT)
        assert len(asked) == 1

    def test_what_is_no_function_is_an_error(self) -> None:
        with pytest.raises(ConfigurationError, match="when="):
            cachewrap.patch_openai(when="complete")  # type: ignore[arg-type]

    @pytest.mark.parametrize("name", [s.name for s in SHAPES if "speech" not in s.name])
    def test_the_ready_made_ones_take_what_is_whole(
        self, up: Upstream, client: Any, colour: Colour, cache: Cache, name: str
    ) -> None:
        with cachewrap.patch_openai(when=usable), cache:
            ask(colour, client, BY_NAME[name])
        assert cache.stats.stored == 1

    @pytest.mark.skipif("responses" not in BY_NAME, reason="this SDK has no Responses")
    @pytest.mark.parametrize("name", ["responses", "responses-stream"])
    def test_the_ready_made_ones_refuse_what_is_incomplete(
        self, up: Upstream, client: Any, colour: Colour, cache: Cache, name: str
    ) -> None:
        up.behave(response_status="incomplete")
        with cachewrap.patch_openai(when=complete), cache:
            ask(colour, client, BY_NAME[name])
        assert cache.stats.stored == 0


class TestExplain:
    def test_a_replay_error_names_what_differs(
        self, up: Upstream, client: Any, colour: Colour, cache: Cache
    ) -> None:
        with cache:
            ask(colour, client, CHAT, 1, temperature=0.2)
            with cache.mode("replay"), pytest.raises(ReplayMissError) as raised:
                ask(colour, client, CHAT, 2, temperature=0.7)
        error = raised.value
        assert error.diff == (
            "messages[0].content: a number differs at 9: 'Question 1' → 'Question 2'",
            "temperature: 0.2 → 0.7",
        )
        assert error.source == "POST /chat/completions"
        assert error.nearest is not None
        assert error.nearest["body"]["temperature"] == 0.2
        assert error.key not in list(cache.keys())

    def test_a_method_of_the_sdk(
        self, up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
    ) -> None:
        with cache:
            ask(colour, client, CHAT)
        found = cache.explain(client.chat.completions.create, **CHAT.ask(2))
        assert (found.stored, found.nearest[0].diff) == (
            False,
            ("messages[0].content: a number differs at 9: 'Question 1' → 'Question 2'",),
        )
        assert cache.explain(client.chat.completions.create, **CHAT.ask(1)).stored
        assert up.calls == 1

    def test_a_body(self, up: Upstream, client: Any, colour: Colour, cache: Cache) -> None:
        with cache:
            ask(colour, client, CHAT)
        assert cache.explain(CHAT.ask(1)).stored
        found = cache.explain(CHAT.ask(1) | {"temperature": 0.5})
        assert found.nearest[0].diff == ("temperature added (0.5)",)

    def test_credentials_appear_nowhere(self, up: Upstream, colour: Colour, cache: Cache) -> None:
        client = colour.client(up, api_key="sk-very-secret-0123456789")
        secrets = {"extra_headers": {"x-api-key": "hush-hush"}}
        with cache:
            ask(colour, client, CHAT, 1, **secrets)
            with cache.mode("replay"), pytest.raises(ReplayMissError) as raised:
                ask(colour, client, CHAT, 2, **secrets)
        told = f"{raised.value} {raised.value.nearest} {raised.value.diff}"
        assert ("very-secret" in told, "hush" in told) == (False, False)


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_a_miss_is_explained_in_the_log_for_those_who_debug(
    up: Upstream,
    client: Any,
    colour: Colour,
    shape: Shape,
    cache: Cache,
    level: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with cache:
        ask(colour, client, shape, 1)
        with caplog.at_level(level, "cachewrap"):
            ask(colour, client, shape, 2)
    explained = [r.getMessage() for r in caplog.records if "nearest" in r.getMessage()]
    assert len(explained) == (1 if level == logging.DEBUG else 0)
