"""The way of a call through the seam, against the real SDK and a real server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from standin import SECRET_HEADERS, Upstream

from cachewrap.blocks import no_cache
from cachewrap.cache import Cache
from cachewrap.errors import CacheWarning

LIBRARY: Any = importlib.import_module("httpx2" if openai.__version__ >= "3" else "httpx")
MESSAGES: Any = [{"role": "user", "content": "hello"}]
Ask = Callable[[OpenAI], Any]


def chat(client: OpenAI, **more: Any) -> Any:
    create: Any = client.chat.completions.create
    return create(**{"model": "m", "messages": MESSAGES, **more})


def stream(client: OpenAI, **more: Any) -> Any:
    return chat(client, stream=True, **more)


def entries(cache: Cache) -> list[bytes]:
    store = cache._store
    return [raw for raw in map(store.get, store.keys()) if raw is not None]


# -- outside -------------------------------------------------------------------------------------


def test_outside_a_block_calls_go_straight_through(up: Upstream, client: OpenAI) -> None:
    assert chat(client).id != chat(client).id


def test_no_cache_is_outside(up: Upstream, client: OpenAI, cache: Cache) -> None:
    with cache, no_cache():
        chat(client)
    assert (up.calls, cache.stats.as_dict()["misses"]) == (1, 0)


# -- what is left alone --------------------------------------------------------------------------

LEFT_ALONE: dict[str, tuple[str, Ask]] = {
    "reading": ("method", lambda c: c.models.list()),
    "deleting": ("method", lambda c: c.files.delete("f")),
    "another endpoint": (
        "endpoint",
        lambda c: c.files.create(file=("a", b"1"), purpose="assistants"),
    ),
    "background": ("background", lambda c: chat(c, extra_body={"background": True})),
    "conversation": ("conversation", lambda c: chat(c, extra_body={"conversation": "c"})),
}


@pytest.mark.parametrize(("reason", "ask"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(up: Upstream, client: OpenAI, cache: Cache, reason: str, ask: Ask) -> None:
    with cache:
        for _ in range(2):
            # The stand-in does not know every endpoint.
            with contextlib.suppress(openai.APIStatusError):
                ask(client)
    assert up.calls == 2
    assert cache.stats.bypass_reasons == {reason: 2}
    assert entries(cache) == []


def test_an_upload_that_cannot_be_read_twice_is_sent_once(
    up: Upstream, client: OpenAI, cache: Cache
) -> None:
    class Pipe(io.RawIOBase):
        """Readable once."""

        def __init__(self) -> None:
            self.name = "a.wav"
            self._rest = [b"RIFF"]

        def read(self, size: int = -1) -> bytes:
            return self._rest.pop() if self._rest else b""

        def readable(self) -> bool:
            return True

    with cache, pytest.warns(CacheWarning, match="audio/transcriptions: the call is not cached"):
        client.audio.transcriptions.create(model="m", file=Pipe())  # type: ignore[arg-type]
    assert b"RIFF" in up.last.body
    assert cache.stats.bypass_reasons == {"unkeyable": 1}


# -- what is not stored --------------------------------------------------------------------------


def responses(client: OpenAI) -> Any:
    return client.responses.create(model="m", input="x")


def read(ask: Ask) -> Ask:
    return lambda client: list(ask(client))


def early(client: OpenAI) -> None:
    with stream(client) as events:
        next(iter(events))


def usage(client: OpenAI) -> Any:
    return list(stream(client, stream_options={"include_usage": True}))


NOT_STORED: dict[str, tuple[Ask, dict[str, Any]]] = {
    "an error": (chat, {"status": 400}),
    "an error with 200": (chat, {"body": b'{"error": {"message": "no"}}'}),
    "no JSON": (chat, {"body": b"{cut"}),
    "a cut stream": (read(stream), {"cut_after": 3}),
    "a stream without an end": (read(stream), {"done": False, "finish": False}),
    "a stream without a finish reason": (read(stream), {"finish": False}),
    "a stream left early": (early, {}),
    "JSON for a stream": (read(stream), {"stream": False}),
}
if hasattr(OpenAI, "responses"):
    NOT_STORED |= {
        "failed": (responses, {"response_status": "failed"}),
        "in progress": (responses, {"response_status": "in_progress"}),
    }


@pytest.mark.parametrize(("ask", "manner"), NOT_STORED.values(), ids=NOT_STORED)
def test_not_stored(
    up: Upstream, client: OpenAI, cache: Cache, ask: Ask, manner: dict[str, Any]
) -> None:
    up.behave(**manner)
    with cache:
        for _ in range(2):
            # Some versions let the errors of their HTTP library out.
            with contextlib.suppress(openai.OpenAIError, ValueError, LIBRARY.TransportError):
                ask(client)
    assert up.calls == 2
    assert entries(cache) == []


def test_an_answer_that_cannot_be_parsed_is_not_stored(up: Upstream, cache: Cache) -> None:
    up.behave(body=b'{"id": 7}')
    strict = OpenAI(
        api_key="k", base_url=up.base_url, max_retries=0, _strict_response_validation=True
    )
    with strict, cache, pytest.raises(openai.APIResponseValidationError):
        chat(strict)
    assert entries(cache) == []


STORED: dict[str, tuple[Ask, dict[str, Any]]] = {
    "without [DONE]": (read(stream), {"done": False}),
    "broken up and gzipped": (usage, {"awkward": True, "gzip": True}),
}


@pytest.mark.parametrize(("ask", "manner"), STORED.values(), ids=STORED)
def test_stored(
    up: Upstream, client: OpenAI, cache: Cache, ask: Ask, manner: dict[str, Any]
) -> None:
    up.behave(**manner)
    with cache:
        assert ask(client) == ask(client)
    assert (up.calls, cache.stats.hits) == (1, 1)


def test_an_answer_is_stored_after_the_sdks_own_retries(
    up: Upstream, client: OpenAI, cache: Cache
) -> None:
    up.fail(500, 429)
    retrying = client.with_options(max_retries=2)
    with cache:
        assert chat(retrying).id == chat(retrying).id
    assert (up.calls, cache.stats.stored) == (3, 1)


def test_secret_headers_are_not_stored(up: Upstream, client: OpenAI, cache: Cache) -> None:
    up.behave(headers=SECRET_HEADERS)
    with cache:
        chat(client)
        list(stream(client))
    for raw in entries(cache):
        assert b"upstream-secret" not in raw
        assert b"sk-secret" not in raw


# -- streams -------------------------------------------------------------------------------------


def test_a_stream_is_stored_when_it_is_consumed_not_before(
    up: Upstream, client: OpenAI, cache: Cache
) -> None:
    with cache:
        events = stream(client)
        assert entries(cache) == []
        list(events)
        assert len(entries(cache)) == 1


def test_two_streams_of_one_request_do_not_wait_for_each_other(
    up: Upstream, client: OpenAI, cache: Cache
) -> None:
    with cache:
        one, two = stream(client), stream(client)
        first, second = list(one), list(two)
        assert first == second
        assert list(stream(client)) == first
    assert up.calls == 1


def test_an_abandoned_stream_is_dropped_by_the_collector(
    up: Upstream, client: OpenAI, cache: Cache
) -> None:
    def abandon() -> None:
        next(iter(stream(client)))

    with cache:
        abandon()
        gc.collect()
        chat(client)
    assert (up.calls, len(entries(cache))) == (2, 1)


def test_chunks_of_an_open_response_come_as_they_came(
    up: Upstream, client: OpenAI, cache: Cache
) -> None:
    up.behave(gzip=True, gap=0.01)

    def chunks() -> list[bytes]:
        create: Any = client.chat.completions.with_streaming_response.create
        with create(model="m", messages=MESSAGES, stream=True) as response:
            return list(response.iter_bytes())

    with cache:
        first = chunks()
        assert len(first) > 1
        assert chunks() == first
    assert up.calls == 1


def test_a_transport_that_answers_with_a_whole_body(cache: Cache) -> None:
    body = (
        b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":'
        b'[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    )
    calls: list[Any] = []

    def answer(request: Any) -> Any:
        calls.append(request)
        return LIBRARY.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    transport = LIBRARY.Client(transport=LIBRARY.MockTransport(answer))
    client = OpenAI(api_key="k", base_url="http://h/v1", http_client=transport)
    with client, cache:
        assert list(stream(client)) == list(stream(client))
    assert len(calls) == 1


# -- one answer for all --------------------------------------------------------------------------


def test_the_answer_that_was_stored_first_wins(up: Upstream, client: OpenAI) -> None:
    cache = Cache.memory(single_flight=False)
    gate = threading.Event()
    up.once(gate=gate)
    late: list[Any] = []

    def ask_late() -> None:
        with cache:
            late.append(chat(client))

    thread = threading.Thread(target=ask_late)
    thread.start()
    up.wait_for(1)
    with cache:
        first = chat(client)
    gate.set()
    thread.join()
    assert up.calls == 2
    assert late[0].id == first.id


def test_a_raw_answer_that_lost_is_built_from_the_first(up: Upstream, client: OpenAI) -> None:
    cache = Cache.memory(single_flight=False)
    gate = threading.Event()
    up.once(gate=gate)
    late: list[Any] = []

    def ask_late() -> None:
        with cache:
            raw: Any = client.chat.completions.with_raw_response
            late.append(raw.create(model="m", messages=MESSAGES))

    thread = threading.Thread(target=ask_late)
    thread.start()
    up.wait_for(1)
    with cache:
        first = chat(client)
    gate.set()
    thread.join()
    assert late[0].parse().id == first.id


def test_a_damaged_entry_is_a_miss_and_is_replaced(
    up: Upstream, client: OpenAI, cache: Cache
) -> None:
    with cache:
        chat(client)
        (name,) = cache._store.keys()
        raw = cache._store.get(name) or b""
        cache._store.set(name, raw[: len(raw) // 3])
        with pytest.warns(CacheWarning):
            second = chat(client)
        assert chat(client).id == second.id
    assert up.calls == 2


def test_every_hit_is_built_afresh(up: Upstream, client: OpenAI, cache: Cache) -> None:
    with cache:
        chat(client).choices.clear()
        chat(client).choices.clear()
        assert len(chat(client).choices) == 1


def test_one_header_tells_a_hit(up: Upstream, client: OpenAI, cache: Cache) -> None:
    create: Any = client.chat.completions.with_raw_response.create
    with cache:
        miss, hit = (create(model="m", messages=MESSAGES) for _ in range(2))
    assert "x-cachewrap" not in miss.headers
    assert hit.headers["x-cachewrap"] == "hit"


def test_the_usage_of_an_answer_is_counted_as_saved(
    up: Upstream, client: OpenAI, cache: Cache
) -> None:
    with cache:
        told = chat(client).usage
        chat(client)
    assert cache.stats.tokens_saved == told.total_tokens


# -- calls inside calls --------------------------------------------------------------------------


def nesting(up: Upstream, inner: Callable[[], Any]) -> OpenAI:
    """A client that makes another call while it prepares its request."""

    class Nesting(OpenAI):
        def _prepare_options(self, options: Any) -> Any:
            inner()
            return super()._prepare_options(options)

    return Nesting(api_key="k", base_url=up.base_url, max_retries=0)


def other(client: OpenAI) -> Any:
    return chat(client, messages=[{"role": "user", "content": "other"}])


INNER: dict[str, Ask] = {
    "cached": other,
    "not cacheable": lambda client: client.models.list(),
    "a stream": lambda client: list(stream(client)),
}


@pytest.mark.parametrize("inner", INNER.values(), ids=INNER)
def test_a_call_inside_a_call_does_not_mix_with_it(
    up: Upstream, client: OpenAI, cache: Cache, inner: Ask
) -> None:
    outer = nesting(up, lambda: inner(client))
    with outer, cache:
        answer = chat(outer)
        assert chat(client).id == answer.id
        assert other(client).id != answer.id


def test_an_uncached_call_inside_a_call_does_not_mix_with_it(
    up: Upstream, client: OpenAI, cache: Cache
) -> None:
    def inner() -> None:
        with no_cache():
            chat(client)

    outer = nesting(up, inner)
    with outer, cache:
        answer = chat(outer)
        assert chat(client).id == answer.id


def test_tasks_side_by_side_do_not_mix(up: Upstream, cache: Cache) -> None:
    async def ask(client: AsyncOpenAI, n: int) -> tuple[int, str]:
        create: Any = client.chat.completions.create
        message = {"role": "user", "content": f"question {n}"}
        answer = await create(model="m", messages=[message])
        return n, answer.id

    async def all_of_them() -> list[tuple[int, str]]:
        async with AsyncOpenAI(api_key="k", base_url=up.base_url) as client:
            return await asyncio.gather(*(ask(client, n) for n in range(12)))

    up.behave(delay=0.02)
    with cache:
        first = asyncio.run(all_of_them())
        assert asyncio.run(all_of_them()) == first
    assert len({answer for _, answer in first}) == up.calls == 12


def test_a_task_that_is_cancelled_stores_nothing(up: Upstream, cache: Cache) -> None:
    gate = threading.Event()

    async def leave() -> None:
        async with AsyncOpenAI(api_key="k", base_url=up.base_url, max_retries=0) as client:
            create: Any = client.chat.completions.create
            task = asyncio.create_task(create(model="m", messages=MESSAGES))
            await asyncio.to_thread(up.wait_for, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    up.behave(gate=gate)
    with cache:
        asyncio.run(leave())
    gate.set()
    assert entries(cache) == []


@pytest.fixture
def legacy(up: Upstream) -> Iterator[OpenAI]:
    """A client of the SDK's third major version that speaks through httpx."""
    if openai.__version__ < "3":
        pytest.skip("httpx is what this version speaks through anyway")
    httpx = pytest.importorskip("httpx")
    with OpenAI(api_key="k", base_url=up.base_url, http_client=httpx.Client()) as client:
        yield client


def test_a_legacy_client_gets_responses_of_its_own_library(
    up: Upstream, legacy: OpenAI, client: OpenAI, cache: Cache
) -> None:
    create: Any = legacy.chat.completions.with_raw_response.create
    with cache:
        chat(client)
        hit = create(model="m", messages=MESSAGES)
        list(stream(client))
        assert list(stream(legacy)) == list(stream(client))
    assert type(hit.http_response).__module__.partition(".")[0] == "httpx"
    assert up.calls == 2
