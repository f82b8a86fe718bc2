"""The inner door: what it serves, that it serves the same, and what it leaves to the long way."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any, Self

import anthropic
import pytest
from anthropic.resources.messages import messages
from standin import Upstream

from cachewrap import Cache
from cachewrap.entry import Outcome
from cachewrap.sdk.anthropic import patch_anthropic
from cachewrap.telemetry.events import Event
from sdk.anthropic.asking import Colour
from sdk.anthropic.shapes import BY_NAME, SHAPES, message
from sdk.matrix import Ask, each
from sdk.openai.asking import Seen, anatomy

LONG: dict[str, Any] = {"extra_query": {}}
"""What sends a call the long way, and changes nothing else about it."""

LEFT = {"iterator", "extra-query", "beta-count"}


httpx: Any = importlib.import_module(
    next(
        cls.__module__.partition(".")[0]
        for cls in anthropic.DefaultHttpxClient.__mro__
        if cls.__name__ == "Client"
    )
)


class Watch:
    """Whether a call came to the seam at the SDK's ``request``."""

    def __init__(self) -> None:
        self.long = False

    def _look(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_name == "_sdk_call" and "seam" in code.co_filename:
            self.long = True

    def __enter__(self) -> Self:
        sys.setprofile(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


def went_long(ask: Callable[[], Any]) -> bool:
    with Watch() as watch:
        ask()
    return watch.long


@dataclass
class Knock:
    """What hits of one shape showed, that the door knows.

    Args:
        name: the shape's.
        seen: a hit.
        long: whether it went the long way. Of a shape that is not served this is all.
        other: the same hit, sent the long way.
        counts: what was counted before a hit, after it, and after another one the long way.
        heard: what a hook was told of four calls: two misses, a hit, and a hit the long way.
    """

    name: str
    seen: Seen
    long: bool
    other: Seen = field(default_factory=dict)
    counts: list[dict[str, Any]] = field(default_factory=list)
    heard: list[Event] = field(default_factory=list)


def knock_on(ask: Ask, name: str) -> Knock:
    """Ask until the door knows the shape, then look at hits, without a hook and with one."""
    heard: list[Event] = []
    with Cache.memory() as cache:
        ask(1)
        ask(2)
        with Watch() as watch:
            seen = ask(1)
        if name in LEFT:
            return Knock(name, seen, watch.long)
        counts = [cache.stats.as_dict()]
        ask(1)
        counts.append(cache.stats.as_dict())
        other = ask(1, **LONG)
        counts.append(cache.stats.as_dict())
    with Cache.memory(on_event=heard.append):
        for n in (1, 2, 1):
            ask(n)
        ask(1, **LONG)
    return Knock(name, seen, watch.long, other, counts, heard)


@pytest.fixture(scope="module")
def knock(request: pytest.FixtureRequest) -> Iterator[Knock]:
    shape, name = request.param
    colour = Colour(name)
    with Upstream() as up, patch_anthropic():
        client = colour.client(up, shape.client, max_retries=0)

        def ask(n: int = 1, **more: Any) -> Seen:
            return colour.ask(client, shape, n, **more)

        yield knock_on(ask, shape.name)
    colour.close()


served = each([shape for shape in SHAPES if shape.name not in LEFT], "knock")


@each(SHAPES, "knock")
def test_these_shapes_are_served_at_the_door(knock: Knock) -> None:
    assert knock.long == (knock.name in LEFT)


@served
def test_a_hit_at_the_door_equals_one_on_the_long_way(knock: Knock) -> None:
    assert knock.seen == knock.other


@served
def test_a_hit_at_the_door_is_counted_like_any_other(knock: Knock) -> None:
    before, at_the_door, long = knock.counts
    for name in ("hits", "misses", "stored", "errors", "bypassed", "tokens_saved"):
        assert at_the_door[name] - before[name] == long[name] - at_the_door[name]


@served
def test_a_hook_hears_of_a_hit_at_the_door_like_of_any_other(knock: Knock) -> None:
    at_the_door, other = (replace(event, started=0.0, seconds=0.0) for event in knock.heard[-2:])
    assert (len(knock.heard), at_the_door.outcome, at_the_door) == (4, Outcome.HIT, other)


# -- what the SDK says before its post ------------------------------------------------------------


def create(client: Any, colour: Colour, **more: Any) -> Any:
    return colour.wait(client.messages.create(**message(1, **more)))


DEPRECATED: str = next(iter(vars(messages)["DEPRECATED_MODELS"]))


@pytest.mark.parametrize("model", [DEPRECATED, "claude-x"], ids=["deprecated", "not deprecated"])
def test_a_hit_warns_as_the_sdk_does(client: Any, colour: Colour, cache: Cache, model: str) -> None:
    def told(**more: Any) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            create(client, colour, model=model, **more)
        return [str(one.message) for one in caught]

    with cache:
        first, _, at_the_door, long = told(), told(), told(), told(**LONG)
    assert first == at_the_door == long
    assert any("deprecated" in text for text in first) == (model == DEPRECATED)


def test_a_hit_is_refused_a_length_that_the_sdk_refuses(
    client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        for _ in range(3):
            create(client, colour, max_tokens=60_000, timeout=3600)
        with pytest.raises(ValueError, match="Streaming is required"):
            create(client, colour, max_tokens=60_000)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"betas": ["a"]}, {"betas": ["b"]}, id="betas"),
        pytest.param({"betas": ["a"]}, {}, id="a beta, and none"),
        pytest.param(
            {"extra_headers": {"x-tier": "1"}}, {"extra_headers": {"x-tier": "2"}}, id="headers"
        ),
        pytest.param({"extra_body": {"tier": 1}}, {"extra_body": {"tier": True}}, id="bodies"),
        pytest.param({"system": "a"}, {"extra_body": {"systems": "a"}}, id="names"),
        pytest.param(
            {"tools": [{"name": "f", "input_schema": {}}]},
            {"tools": [{"name": "g", "input_schema": {}}]},
            id="tools",
        ),
    ],
)
def test_calls_that_differ_are_told_apart_at_the_door(
    up: Upstream, client: Any, colour: Colour, cache: Cache, one: Any, other: Any
) -> None:
    def ask(more: Any, **also: Any) -> Any:
        return colour.wait(client.beta.messages.create(**message(1, **more), **also))

    with cache:
        for _ in range(3):
            ask(one)
            ask(other)
        assert not went_long(lambda: ask(one))
        assert not went_long(lambda: ask(other))
        for more in (one, other):
            assert anatomy(ask(more)) == anatomy(ask(more, **LONG))
    assert up.calls == 2


def test_what_only_steers_a_call_makes_no_difference_at_the_door(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    tool = {"name": "f", "input_schema": {}}
    marked = {**tool, "cache_control": {"type": "ephemeral"}}
    with cache:
        for _ in range(3):
            create(client, colour, tools=[tool])
            create(client, colour, tools=[marked], timeout=5)
        assert not went_long(lambda: create(client, colour, tools=[marked]))
    assert up.calls == 1


def test_an_answers_content_is_asked_about_as_it_is_sent(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        answer = create(client, colour)
        more = {"messages": [{"role": "assistant", "content": answer.content}]}
        request = {**message(1), **more}
        for _ in range(3):
            colour.wait(client.messages.create(**request))
        assert not went_long(lambda: colour.wait(client.messages.create(**request)))
        hit = colour.wait(client.messages.create(**request))
        assert anatomy(hit) == anatomy(colour.wait(client.messages.create(**request, **LONG)))
    assert up.calls == 2


def test_a_call_with_a_cache_of_its_own_is_served_from_it(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with Cache.memory() as other:
        for _ in range(3):
            create(client, colour, cache=cache)
        assert not went_long(lambda: create(client, colour, cache=cache))
        assert went_long(lambda: create(client, colour, cache=cache, cache_seed=1))
    for _ in range(2):
        create(client, colour, cache=cache)
    assert not went_long(lambda: create(client, colour, cache=cache))
    assert (cache.stats.hits, cache.stats.misses, other.stats.calls) == (6, 2, 0)


def test_nobody_is_told_of_a_call_that_came_to_the_door(
    client: Any, colour: Colour, cache: Cache, recwarn: pytest.WarningsRecorder
) -> None:
    with cache:
        for _ in range(4):
            create(client, colour)
    assert ([str(one.message) for one in recwarn], cache.stats.bypassed) == ([], 0)


def test_a_raw_response_is_of_the_class_that_the_client_gives(
    client: Any, colour: Colour, cache: Cache
) -> None:
    def kind() -> type:
        return type(colour.wait(client.messages.with_raw_response.create(**message(1))))

    with cache:
        miss, _, hit = kind(), kind(), kind()
        assert not went_long(kind)
    assert hit is miss


# -- clients that somebody changed ----------------------------------------------------------------


def passing(request: Any, call_next: Any) -> Any:
    return call_next(request)


async def apassing(request: Any, call_next: Any) -> Any:
    return await call_next(request)


def test_a_client_with_a_middleware_gets_no_hit(up: Upstream, colour: Colour, cache: Cache) -> None:
    client = colour.client(up)
    with cache:
        for _ in range(3):
            create(client, colour)
        middle = passing if colour.name == "sync" else apassing
        create(client.with_options(middleware=[middle]), colour)
    assert (up.calls, cache.stats.bypassed) == (2, 1)


@pytest.mark.parametrize("name", ["request", "post", "_process_response", "_prepare_url"])
def test_a_client_that_was_tampered_with_is_asked(up: Upstream, cache: Cache, name: str) -> None:
    client = anthropic.Anthropic(api_key="k", base_url=up.root_url)
    with cache:
        for _ in range(3):
            client.messages.create(**message(1))
        setattr(client, name, getattr(client, name))
        assert went_long(lambda: client.messages.create(**message(1)))
    assert up.calls == 1


@pytest.mark.parametrize("name", ["request", "post"])
def test_a_client_of_ones_own_kind_is_asked(up: Upstream, cache: Cache, name: str) -> None:
    asked: list[Any] = []

    def own(self: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(args)
        return getattr(anthropic.Anthropic, name)(self, *args, **kwargs)

    client = type("Own", (anthropic.Anthropic,), {name: own})(api_key="k", base_url=up.root_url)
    with cache:
        for _ in range(3):
            client.messages.create(**message(1))
    assert (len(asked), up.calls) == (3, 1)


def test_a_client_that_validates_is_asked(up: Upstream, cache: Cache) -> None:
    client = anthropic.Anthropic(
        api_key="k", base_url=up.root_url, _strict_response_validation=True
    )
    with cache:
        client.messages.create(**message(1))
        assert went_long(lambda: client.messages.create(**message(1)))


@pytest.mark.parametrize("name", ["request", "post", "_process_response"])
def test_what_another_tool_wraps_is_called(
    up: Upstream, cache: Cache, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    calls: list[Any] = []
    owner = anthropic._base_client.SyncAPIClient
    original = getattr(owner, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)
    client = anthropic.Anthropic(api_key="k", base_url=up.root_url)
    with cache:
        for _ in range(3):
            client.messages.create(**message(1))
    assert (len(calls), up.calls) == (3, 1)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "base URL": lambda c: setattr(c, "base_url", str(c.base_url).replace("127.0.0.1", "localhost")),
    "default header": lambda c: c._custom_headers.update({"x-tier": "1"}),
    "default query": lambda c: c._custom_query.update({"tier": 1}),
    "transport header": lambda c: c._client.headers.update({"x-tier": "1"}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_client_that_changes_asks_another_thing(
    up: Upstream, colour: Colour, cache: Cache, change: Callable[[Any], Any]
) -> None:
    client = colour.client(up, default_headers={"x-a": "b"}, default_query={"flag": True})
    with cache:
        for _ in range(3):
            create(client, colour)
        change(client)
        create(client, colour)
    assert up.calls == 2


# -- streams --------------------------------------------------------------------------------------

START = (
    'event: message_start\ndata: {"type": "message_start", "message": {"id": "m",'
    ' "type": "message", "role": "assistant", "model": "claude-x", "content": [],'
    ' "stop_reason": null, "stop_sequence": null,'
    ' "usage": {"input_tokens": 1, "output_tokens": 1}}}\n\n'
)
STOP = (
    'event: content_block_start\ndata: {"type": "content_block_start", "index": 0,'
    ' "content_block": {"type": "text", "text": "A"}}\n\n'
    'event: content_block_stop\ndata: {"type": "content_block_stop", "index": 0}\n\n'
    'event: message_delta\ndata: {"type": "message_delta", "delta": {"stop_reason": "end_turn",'
    ' "stop_sequence": null}, "usage": {"output_tokens": 1}}\n\n'
    'event: message_stop\ndata: {"type": "message_stop"}\n\n'
)


@pytest.mark.parametrize(
    "between",
    [
        pytest.param("", id="nothing"),
        pytest.param('event: ping\ndata: {"type": "ping"}\n\n', id="a ping"),
        pytest.param('data: {"type": "message_delta"}\n\n', id="no name"),
        pytest.param('event: news\ndata: {"type": "news"}\n\n', id="a name that is new"),
        pytest.param('event: message_delta\ndata: {"delta": {}}\n\n', id="no type"),
        pytest.param("event: content_block_stop\r\ndata: {}\r\n\r\n", id="other line ends"),
        pytest.param(": a comment\n\n", id="a comment"),
        pytest.param('event: error\ndata: {"type": "error"}\n\n', id="an error"),
    ],
)
def test_a_stream_gives_what_the_sdk_makes_of_it(
    colour: Colour, cache: Cache, up: Upstream, between: str
) -> None:
    body = f"{START}{between}{STOP}".encode()
    asked: list[Any] = []

    def respond(request: Any) -> Any:
        asked.append(request)
        return httpx.Response(200, content=body, headers={"content-type": "text/event-stream"})

    async def arespond(request: Any) -> Any:
        return respond(request)

    transport = httpx.MockTransport(respond if colour.name == "sync" else arespond)
    client = colour.client(up)
    client._client._transport, client._client._mounts = transport, {}

    def look() -> Any:
        try:
            return colour.ask(client, BY_NAME["messages-stream"])["events"]
        except Exception as error:
            return type(error), str(error)

    with cache:
        miss, *hits = (look() for _ in range(3))
    assert hits == [miss] * 2
    assert len(asked) == (3 if "error" in between else 1)
