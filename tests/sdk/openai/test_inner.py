"""The inner door of the OpenAI SDK: those who post by themselves, and helpers that stream."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from types import FrameType
from typing import Any

import openai
import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from standin import Upstream
from working import work_of

from cachewrap import Cache
from sdk.openai.asking import Colour, anatomy
from sdk.openai.shapes import BY_NAME, INSTALLED, chat

pytestmark = pytest.mark.skipif(
    INSTALLED < (1, 109), reason="this version's models are left to the SDK"
)

RAW = {"headers": {"X-Stainless-Raw-Response": "true"}}
LONG: dict[str, Any] = {"params": {}}
"""An option that sends a post the long way, and changes nothing else about it."""


def went_long(ask: Callable[[], Any]) -> bool:
    """Whether a call came to the seam at the SDK's ``request``."""
    came: list[str] = []

    def look(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name == "_sdk_call":
            came.append(event)

    sys.setprofile(look)
    try:
        ask()
    finally:
        sys.setprofile(None)
    return bool(came)


class Own(openai.Stream[ChatCompletionChunk]):
    """A program's own class of streams."""


def post(client: Any, colour: Colour, body: Any = None, **more: Any) -> Any:
    given = {"body": body or chat(1), "cast_to": ChatCompletion, **more}
    return colour.wait(client.post("/chat/completions", **given))


@pytest.mark.parametrize(
    ("more", "options"),
    [
        pytest.param({}, {}, id="plain"),
        pytest.param({}, RAW, id="raw"),
        pytest.param({}, {"timeout": 5.0}, id="a timeout"),
        pytest.param({}, {"extra_json": {"top_k": 3}}, id="more of a body"),
        pytest.param({}, {"headers": {"x-tier": "1"}}, id="headers"),
    ],
)
def test_who_posts_by_himself_is_answered_before_a_request_is_built(
    up: Upstream, client: Any, colour: Colour, cache: Cache, more: Any, options: Any
) -> None:
    def ask(**rest: Any) -> Any:
        result = post(client, colour, options={**options, **rest}, **more)
        return result.parse() if options is RAW else result

    with cache:
        miss, _, hit, long = ask(), ask(), ask(), ask(**LONG)
        assert not went_long(ask)
        assert went_long(lambda: ask(**LONG))
    assert anatomy(miss) == anatomy(hit) == anatomy(long)
    assert (up.calls, cache.stats.misses, cache.stats.hits) == (1, 1, 5)


def test_an_answer_is_of_the_class_that_was_asked_for(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        for _ in range(3):
            kinds = [type(post(client, colour, cast_to=k)) for k in (ChatCompletion, Completion)]
    assert (kinds, up.calls) == ([ChatCompletion, Completion], 1)


def test_a_stream_is_of_the_class_that_was_asked_for(up: Upstream, cache: Cache) -> None:
    client, colour = openai.OpenAI(api_key="k", base_url=up.base_url), Colour("sync")
    body = chat(1, stream=True)

    def ask(kind: Any) -> Any:
        stream = post(client, colour, body, stream=True, stream_cls=kind)
        return type(stream), [anatomy(event) for event in stream]

    with cache:
        asked = [ask(kind) for _ in range(3) for kind in (openai.Stream[ChatCompletionChunk], Own)]
    assert [kind for kind, _ in asked] == [openai.Stream, Own] * 3
    assert all(events == asked[0][1] for _, events in asked)
    assert up.calls == 1


@pytest.mark.parametrize("name", ["request", "post", "_process_response"])
def test_a_tool_sees_every_post(
    up: Upstream, cache: Cache, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    calls: list[Any] = []
    owner = openai._base_client.SyncAPIClient
    original = getattr(owner, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)
    client, colour = openai.OpenAI(api_key="k", base_url=up.base_url), Colour("sync")
    with cache:
        for _ in range(3):
            post(client, colour)
    assert (len(calls), up.calls) == (3, 1)


def test_a_miss_by_a_post_reads_its_store_twice_and_encodes_its_request_once(
    client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        for n in range(3):
            post(client, colour, chat(n))
        assert work_of(cache, lambda: post(client, colour, chat(3))) == (2, 1)


HELPERS = [name for name in ("chat-helper", "responses-helper") if name in BY_NAME]


@pytest.mark.parametrize("name", HELPERS)
def test_what_a_helper_asks_for_is_answered_at_the_door(
    up: Upstream, client: Any, colour: Colour, cache: Cache, name: str
) -> None:
    shape = BY_NAME[name]
    with cache:
        miss, _, hit = (colour.ask(client, shape) for _ in range(3))
        assert not went_long(lambda: colour.ask(client, shape))
    assert (hit["events"], up.calls) == (miss["events"], 1)


class Role(StrEnum):
    """A role, as some libraries have it."""

    USER = "user"


def test_a_role_from_an_enumeration_is_asked_about_as_it_is_sent(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    question = chat(1)["messages"][0]["content"]

    def ask(role: str, **more: Any) -> Any:
        messages: Any = [{"role": role, "content": question}]
        request = {**chat(1), "messages": messages, **more}
        return colour.wait(client.chat.completions.create(**request))

    with cache:
        ask("user")
        for _ in range(3):
            hit = ask(Role.USER)
            assert anatomy(hit) == anatomy(ask("user"))
        assert not went_long(lambda: ask(Role.USER))
    assert up.calls == 1
