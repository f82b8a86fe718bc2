"""How much work a hit of the SDK is, counted in Python calls: the door's, and the long way's."""

from __future__ import annotations

import operator
from types import MappingProxyType
from typing import Any

import openai
import pytest
from standin import Upstream
from working import SLACK, count, work_of

from cachewrap import Cache
from cachewrap.http import capture
from cachewrap.request import states
from cachewrap.sdk.front import keywords
from sdk.openai.asking import Colour
from sdk.openai.shapes import INSTALLED, City, Shape, also, chat

pytestmark = pytest.mark.skipif(
    INSTALLED < (1, 109), reason="this version's models are left to the SDK"
)

LONG: dict[str, Any] = {"extra_query": MappingProxyType({})}
"""What sends a call the long way, and changes nothing else about it."""


@pytest.fixture
def client(up: Upstream) -> openai.OpenAI:
    return openai.OpenAI(api_key="k", base_url=up.base_url)


def test_a_hit_at_the_door_makes_few_calls(client: openai.OpenAI, cache: Cache) -> None:
    with cache:
        assert count(lambda: client.chat.completions.create(**chat(1))) <= 76 + SLACK


@pytest.mark.parametrize(
    ("method", "ask", "most"),
    [
        pytest.param("responses.create", {"model": "m", "input": "a"}, 93, id="a response"),
        pytest.param("embeddings.create", {"model": "m", "input": "a"}, 78, id="an embedding"),
        pytest.param("moderations.create", {"input": "a"}, 74, id="a moderation"),
    ],
)
def test_a_hit_of_another_endpoint_makes_few_calls(
    client: openai.OpenAI, cache: Cache, method: str, ask: dict[str, Any], most: int
) -> None:
    call: Any = operator.attrgetter(method)(client)
    with cache:
        assert count(lambda: call(**ask)) <= most + SLACK


def test_a_hit_with_a_message_object_or_headers_makes_hardly_more(
    client: openai.OpenAI, cache: Cache
) -> None:
    with cache:
        answer = client.chat.completions.create(**chat(1))
        ask: Any = {**chat(1), "messages": [answer.choices[0].message]}
        assert count(lambda: client.chat.completions.create(**ask)) <= 80 + SLACK
        more: Any = {"extra_headers": {"x-title": "a"}, "cache": cache}
        assert count(lambda: client.chat.completions.create(**chat(1), **more)) <= 90 + SLACK


@pytest.mark.parametrize(
    ("more", "most"),
    [
        pytest.param({"extra_headers": {"traceparent": "00-1-2-00"}}, 83, id="a trace"),
        pytest.param({"extra_query": {"a": "b"}}, 83, id="a query"),
        pytest.param({"extra_body": {"top_k": 3}}, 81, id="more of a body"),
        pytest.param({"timeout": openai.Timeout(3)}, 81, id="a timeout"),
    ],
)
def test_a_hit_with_more_beside_its_body_makes_hardly_more(
    client: openai.OpenAI, cache: Cache, more: Any, most: int
) -> None:
    with cache:
        assert count(lambda: client.chat.completions.create(**chat(1), **more)) <= most + SLACK


def test_a_raw_hit_makes_few_calls(client: openai.OpenAI, cache: Cache) -> None:
    raw = client.chat.completions.with_raw_response
    with cache:
        assert count(lambda: raw.create(**chat(1)).parse()) <= 102 + SLACK


def test_a_parsed_hit_makes_few_calls_of_ours(client: openai.OpenAI, cache: Cache) -> None:
    parse: Any = client.chat.completions.parse
    with cache:
        assert count(lambda: parse(**chat(1), response_format=City), "cachewrap.") <= 74 + SLACK


def test_a_hit_with_a_seed_of_its_own_makes_hardly_more(
    client: openai.OpenAI, cache: Cache
) -> None:
    more: Any = {"cache_seed": 3}
    with cache:
        assert count(lambda: client.chat.completions.create(**chat(1), **more)) <= 81 + SLACK


def test_a_long_conversation_makes_no_more_calls(client: openai.OpenAI, cache: Cache) -> None:
    long: Any = {"model": "m", "messages": [{"role": "user", "content": str(n)} for n in range(60)]}
    short: Any = {"model": "m", "messages": long["messages"][:1]}
    with cache:
        few = count(lambda: client.chat.completions.create(**short))
        many = count(lambda: client.chat.completions.create(**long))
    assert many == few


def tool(number: int) -> dict[str, Any]:
    fields = {name: {"type": "string", "description": name * 9} for name in ("text", "language")}
    schema = {"type": "object", "properties": fields}
    return {"type": "function", "function": {"name": f"f{number}", "parameters": schema}}


def test_tools_that_are_sent_again_make_no_more_calls_the_more_they_are(
    client: openai.OpenAI, cache: Cache
) -> None:
    def asked(tools: int) -> int:
        ask: Any = {**chat(1), "tools": [tool(number) for number in range(tools)]}
        return count(lambda: client.chat.completions.create(**ask))

    with cache:
        assert asked(20) <= asked(1) + 1 <= 86 + SLACK  # one looks for what is kept


def test_a_large_request_that_is_asked_again_is_neither_walked_through_nor_hashed(
    client: openai.OpenAI, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    large: Any = {"model": "m", "messages": [{"role": "user", "content": "x" * 900}] * 40}
    with cache:
        few = count(lambda: client.chat.completions.create(**large))
        monkeypatch.setattr(states, "_hexdigest", None)  # hashes all that is new, and keeps it
        monkeypatch.setattr(keywords, "plain_body", None)
        assert count(lambda: client.chat.completions.create(**large)) == few


def test_the_door_saves_nine_tenths_of_the_calls(client: openai.OpenAI, cache: Cache) -> None:
    with cache:
        door = count(lambda: client.chat.completions.create(**chat(1)))
        long = count(lambda: client.chat.completions.create(**chat(1), **LONG))
    assert door * 10 <= long


def test_an_event_of_a_stream_makes_few_calls(
    client: openai.OpenAI, cache: Cache, up: Upstream
) -> None:
    ask: Any = chat(1, stream=True)
    with cache:
        events = len(list(client.chat.completions.create(**ask)))
        whole = count(lambda: list(client.chat.completions.create(**ask)))
        opened = count(lambda: client.chat.completions.create(**ask).response)
    assert (whole - opened) / events <= (12 if SLACK else 9)


@pytest.mark.parametrize(
    "shape",
    [
        Shape("the door", "chat.completions.create", chat),
        Shape("the door, a stream", "chat.completions.create", also(chat, stream=True), "events"),
        Shape("the long way", "chat.completions.create", also(chat, **LONG)),
        Shape(
            "the long way, a stream",
            "chat.completions.create",
            also(chat, stream=True, **LONG),
            "events",
        ),
    ],
    ids=lambda shape: shape.name,
)
def test_a_miss_reads_its_store_twice_and_encodes_its_request_once(
    up: Upstream, cache: Cache, colour: Colour, shape: Shape
) -> None:
    client = colour.client(up)
    with cache:
        for n in range(3):
            colour.ask(client, shape, n)
        assert work_of(cache, lambda: colour.ask(client, shape, 3)) == (2, 1)
    assert up.calls == 4


@pytest.mark.parametrize(
    ("options", "most"),
    [
        pytest.param(LONG, 113, id="the long way"),
        pytest.param({"stream": True, **LONG}, 132, id="the long way, a stream"),
        pytest.param({"stream": True}, 152 + 2 * SLACK, id="a stream"),
    ],
)
def test_a_hit_that_builds_a_response_makes_few_calls_of_ours(
    client: openai.OpenAI, cache: Cache, options: dict[str, Any], most: int
) -> None:
    ask: Any = chat(1, **options)

    def call() -> None:
        answer = client.chat.completions.create(**ask)
        if "stream" in options:
            assert list(answer)

    with cache:
        made = count(call, "cachewrap.")
    assert made <= most + SLACK


def test_outside_a_block_a_call_costs_a_handful_of_calls_more(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "_watched", False)  # as where no transport was patched
    assert count(lambda: client.chat.completions.create(**chat(1)), "cachewrap.", "wrapt.") <= 10
