"""Raw responses of hits at the door: what is made of them only when somebody asks for it."""

from __future__ import annotations

import copy
import gc
import json
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import openai
import pytest
from openai import _legacy_response, _response
from openai._legacy_response import LegacyAPIResponse
from openai._models import BaseModel
from openai.types.chat import ChatCompletion
from standin import Upstream

from cachewrap import Cache
from sdk.openai.asking import Colour, anatomy
from sdk.openai.shapes import INSTALLED, chat

pytestmark = pytest.mark.skipif(
    INSTALLED < (1, 109), reason="this version's models are left to the SDK"
)


def ask(client: Any, colour: Colour, **more: Any) -> Any:
    return colour.wait(client.chat.completions.with_raw_response.create(**chat(1, **more)))


@pytest.fixture
def hit(up: Upstream, client: Any, colour: Colour, cache: Cache) -> Any:
    with cache:
        ask(client, colour)
        posts: list[str] = []

        def look(frame: FrameType, event: str, _: Any) -> None:
            if event == "call" and frame.f_code.co_name == "post":
                posts.append("post")

        sys.setprofile(look)
        try:
            found = ask(client, colour)
        finally:
            sys.setprofile(None)
    assert posts == []
    return found


class Head(BaseModel):
    id: str


def test_it_is_the_sdks_own_wrapper(hit: Any) -> None:
    assert type(hit) is LegacyAPIResponse
    assert repr(hit).startswith("<APIResponse [200 OK]")


def test_it_is_parsed_once(hit: Any) -> None:
    assert hit.parse() is hit.parse()
    assert hit.parse(to=ChatCompletion) is hit.parse()


def test_it_is_parsed_to_another_class_by_the_sdk(hit: Any) -> None:
    other = hit.parse(to=Head)
    assert (type(other), other.id) == (Head, hit.parse().id)
    assert other._request_id == hit.parse()._request_id


def test_it_is_parsed_to_the_class_that_it_was_given_later(hit: Any) -> None:
    hit._cast_to = Head
    assert type(hit.parse()) is Head


@pytest.mark.parametrize("first", ["parse", "headers", "content", "request_id", "elapsed"])
def test_whatever_is_asked_first(hit: Any, first: str) -> None:
    found = getattr(hit, first)
    assert found() if first == "parse" else found is not None
    assert json.loads(hit.content) == json.loads(hit.text)
    assert json.loads(hit.content)["id"] == hit.parse().id
    assert (hit.status_code, hit.is_closed, hit.http_version) == (200, True, "HTTP/1.1")
    assert hit.headers["x-cachewrap"] == "hit"
    assert hit.request_id == hit.headers.get("x-request-id") == hit.parse()._request_id
    assert json.loads(hit.http_request.content) == chat(1)
    assert hit.http_response.json()["id"] == hit.parse().id
    assert hit.http_response.read() == hit.content
    assert type(hit.http_response).__name__ == "Response"


@pytest.mark.parametrize("stream", [False, True], ids=["read", "a stream"])
def test_it_goes_when_nobody_holds_it(
    client: Any, colour: Colour, cache: Cache, stream: bool
) -> None:
    with cache:
        for _ in range(2):
            ask(client, colour, stream=stream).parse()
        gc.collect()
        gc.disable()
        try:
            raw = weakref.ref(ask(client, colour, stream=stream))
            assert raw() is None
        finally:
            gc.enable()


def test_the_response_can_be_copied(hit: Any) -> None:
    assert copy.copy(hit.http_response).content == hit.content


def test_by_several_threads(hit: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: anatomy(hit.parse()), range(32)))
    assert all(one == found[0] for one in found)


def test_what_is_said_later_is_not_in_its_request(
    client: Any, colour: Colour, cache: Cache
) -> None:
    request = chat(1)
    with cache:
        for _ in range(3):
            raw = colour.wait(client.chat.completions.with_raw_response.create(**request))
    request["messages"].append({"role": "user", "content": "more"})
    assert json.loads(raw.http_request.content) == chat(1)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (_legacy_response.LegacyAPIResponse, "_parse"),
        (_legacy_response.LegacyAPIResponse, "parse"),
        (openai._models, "construct_type"),
    ],
    ids=["_parse", "parse", "construct_type"],
)
@pytest.mark.parametrize("order", ["before", "after some calls"])
def test_a_tool_that_wraps_how_it_is_read_sees_every_call(
    client: Any,
    colour: Colour,
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    order: str,
) -> None:
    own, seen = getattr(owner, name), []

    def counted(*args: Any, **kwargs: Any) -> Any:
        seen.append(name)
        return own(*args, **kwargs)

    with cache:
        if order != "before":
            for _ in range(3):
                ask(client, colour).parse()
        monkeypatch.setattr(owner, name, counted)
        counts = []
        for _ in range(4):
            seen.clear()
            ask(client, colour).parse()
            counts.append(len(seen))
    assert counts[0]
    assert counts == [counts[0]] * 4


@pytest.mark.parametrize("name", ["_parse", "parse"])
def test_a_tool_that_wraps_how_answers_are_read_sees_those_of_plain_calls(
    client: Any, colour: Colour, cache: Cache, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    owner: Any = _response.AsyncAPIResponse if colour.name == "async" else _response.APIResponse
    own, seen = getattr(owner, name), []

    def counted(*args: Any, **kwargs: Any) -> Any:
        seen.append(name)
        return own(*args, **kwargs)

    with cache:
        for _ in range(3):
            colour.wait(client.chat.completions.create(**chat(1)))
        monkeypatch.setattr(owner, name, counted)
        for _ in range(3):
            colour.wait(client.chat.completions.create(**chat(1)))
    assert len(seen) == 3
