"""The front door: what it serves, that it serves the same, and what it leaves to the long way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import FrameType, MappingProxyType
from typing import Any, Self

import openai
import openai._models
import pydantic
import pytest
from standin import Upstream

from cachewrap import Cache
from cachewrap.entry import Outcome
from cachewrap.errors import ConfigurationError
from cachewrap.sdk.openai import OPENAI, patch_openai, unpatch_openai
from cachewrap.telemetry.events import Event
from sdk.matrix import Ask, each
from sdk.openai.asking import Colour, Seen, anatomy, asking
from sdk.openai.shapes import BY_NAME, INSTALLED, SHAPES, chat

QUICK = INSTALLED >= (2, 0) or INSTALLED >= (1, 109)
"""Whether this version makes its models in the way that the door follows."""

SERVED = {
    name
    for name in (
        "chat chat-extra-headers chat-n chat-tools chat-json"
        " chat-stream chat-stream-tools chat-stream-usage"
        " chat-raw chat-raw-stream chat-open chat-open-chunks chat-open-lines chat-open-stream"
        " chat-extra-body chat-extra-query"
        " chat-azure chat-azure-stream chat-module chat-module-stream"
        " responses responses-tools responses-stream responses-azure"
        " responses-raw responses-raw-stream responses-open responses-open-chunks"
        " completions completions-stream moderations"
        " embeddings embeddings-float embeddings-raw embeddings-module"
        " chat-parsed chat-parsed-raw chat-parsed-beta responses-parsed"
    ).split()
    if name in BY_NAME
}
LONG: dict[str, Any] = {"extra_query": MappingProxyType({})}
"""What sends a call the long way, and changes nothing else about it."""
LONG_BESIDE_A_QUERY: dict[str, Any] = {"extra_headers": MappingProxyType({})}
"""The same for a call with a query of its own."""


@pytest.fixture(autouse=True)
def unknowing(patched: None) -> None:
    """The door has not seen a call yet."""
    forget()


def forget() -> None:
    for door in OPENAI._doors.values():
        door._shapes.clear()
        door._added.clear()


class Watch:
    """Whether the SDK went as far as building a request."""

    def __init__(self) -> None:
        self.long = False

    def _look(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_name == "post" and "_base_client" in code.co_filename:
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
        heard_long: whether the hit of which a hook was told went the long way.
    """

    name: str
    seen: Seen
    long: bool
    other: Seen = field(default_factory=dict)
    counts: list[dict[str, Any]] = field(default_factory=list)
    heard: list[Event] = field(default_factory=list)
    heard_long: bool = True


def knock_on(ask: Ask, name: str) -> Knock:
    """Ask until the door knows the shape, then look at hits, without a hook and with one."""

    def hit() -> tuple[Seen, bool]:
        ask(1)
        ask(2)
        with Watch() as watch:
            seen = ask(1)
        return seen, watch.long

    with Cache.memory() as cache:
        seen, long = hit()
        if name not in SERVED:
            return Knock(name, seen, long)
        counts = [cache.stats.as_dict()]
        ask(1)
        counts.append(cache.stats.as_dict())
        long_way = LONG_BESIDE_A_QUERY if name == "chat-extra-query" else LONG
        other = ask(1, **long_way)
        counts.append(cache.stats.as_dict())
    forget()
    heard: list[Event] = []
    with Cache.memory(on_event=heard.append):
        _, heard_long = hit()
        ask(1, **long_way)
    return Knock(name, seen, long, other, counts, heard, heard_long)


@pytest.fixture(scope="module")
def knock(request: pytest.FixtureRequest) -> Knock:
    shape, name = request.param
    with Upstream() as up, asking(shape, up, name) as ask, patch_openai():
        forget()
        return knock_on(ask, shape.name)


served = each([BY_NAME[name] for name in sorted(SERVED)], "knock")


@pytest.mark.skipif(not QUICK, reason="this version's models are left to the SDK")
@each((shape for shape in SHAPES if "helper" not in shape.take), "knock")  # made of other calls
def test_these_shapes_are_served_at_the_door(knock: Knock) -> None:
    assert knock.long == (knock.name not in SERVED)


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
    assert not (QUICK and knock.heard_long)
    at_the_door, other = (replace(event, started=0.0, seconds=0.0) for event in knock.heard[-2:])
    assert (len(knock.heard), at_the_door.outcome, at_the_door) == (4, Outcome.HIT, other)


# -- calls that go the long way -------------------------------------------------------------------


def ask(client: Any, colour: Colour, **more: Any) -> Any:
    return colour.wait(client.chat.completions.create(**chat(1, **more)))


class Message(pydantic.BaseModel):
    role: str
    content: str


UNUSUAL: dict[str, Callable[[Any], dict[str, Any]]] = {
    "headers that are no dictionary": lambda _: {"extra_headers": MappingProxyType({"x-a": "b"})},
    "a header that is left out": lambda _: {"extra_headers": {"x-a": openai.NOT_GIVEN}},
    "another type of content": lambda _: {"extra_headers": {"Content-Type": "application/x"}},
    "a query that is no dictionary": lambda _: {"extra_query": MappingProxyType({"a": "b"})},
    "more of a body, in no dictionary": lambda _: {"extra_body": MappingProxyType({"a": "b"})},
    "a body that is given twice": lambda _: {"user": "a", "extra_body": {"user": "b"}},
    "an object of another's": lambda _: {"messages": [Message(role="user", content="a")]},
    "a tuple of messages": lambda _: {"messages": ({"role": "user", "content": "a"},)},
    "a stream that is neither": lambda _: {"stream": None, "stop": ("a",)},
}


@pytest.mark.parametrize("unusual", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_an_unusual_call_goes_the_long_way(
    client: Any, colour: Colour, cache: Cache, unusual: Callable[[Any], dict[str, Any]]
) -> None:
    with cache:
        more = unusual(ask(client, colour))
        ask(client, colour, **({} if "messages" in more else more))
        request = {**chat(1), **more}
        results = [colour.wait(client.chat.completions.create(**request)) for _ in range(2)]
        assert went_long(lambda: colour.wait(client.chat.completions.create(**request)))
    assert anatomy(results[0]) == anatomy(results[1])


MORE: dict[str, Callable[[int], dict[str, Any]]] = {
    "a credential": lambda n: {"extra_headers": {"x-api-key": str(n)}},
    "a trace": lambda n: {"extra_headers": {"traceparent": f"00-{n}-2-00", "User-Agent": "me"}},
    "a header that counts": lambda n: {"extra_headers": {"X-Tier": str(n)}},
    "a header of JSON": lambda n: {
        "extra_headers": {"x-config": f'{{"api_key": "{n}", "n": {n}}}'}
    },
    "an own number of the program's": lambda n: {"extra_headers": {"x-title": f"title {n}"}},
    "no headers": lambda n: {"extra_headers": {}},
    "a query": lambda n: {"extra_query": {"region": "eu", "n": n}},
    "a query of lists": lambda n: {"extra_query": {"many": ["a", n]}},
    "a query with a credential": lambda n: {"extra_query": {"sig": str(n), "a": "b"}},
    "an empty query": lambda n: {"extra_query": {}},
    "more of a body": lambda n: {"extra_body": {"top_k": n, "provider": {"order": ["a"]}}},
    "a body with a credential": lambda n: {"extra_body": {"api_key": str(n)}},
    "an empty body": lambda n: {"extra_body": {}},
    "seconds to wait": lambda n: {"timeout": n + 1},
    "no end of waiting": lambda n: {"timeout": None},
    "a timeout": lambda n: {"timeout": openai.Timeout(n + 1.5, connect=2)},
    "all of it": lambda n: {
        "extra_headers": {"x-a": str(n)},
        "extra_query": {"b": n},
        "extra_body": {"c": n},
        "timeout": 3.0,
    },
}


@pytest.mark.skipif(not QUICK, reason="this version's models are left to the SDK")
@pytest.mark.parametrize("name", ["chat", "chat-stream", "chat-raw", "chat-raw-stream"])
@pytest.mark.parametrize("more", MORE.values(), ids=MORE.keys())
def test_what_a_call_brings_beside_its_body_is_served_at_the_door(
    up: Upstream,
    client: Any,
    colour: Colour,
    cache: Cache,
    more: Callable[[int], dict[str, Any]],
    name: str,
) -> None:
    shape = BY_NAME[name]

    def go(n: int) -> Seen:
        return colour.ask(client, shape, 1, **more(n))

    with cache:
        for n in (1, 2):
            go(n)
        asked = up.calls
        hits = [go(n) for n in (1, 2)]
        assert not went_long(lambda: go(2))
        for n in (1, 2):
            forget()
            assert went_long(lambda n=n: hits.append(go(n)))  # type: ignore[misc]
    assert hits[:2] == hits[2:]
    assert up.calls == asked == len([*cache.store.keys()])


TOOLS: Any = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def said(answer: Any) -> Any:
    return answer.choices[0].message


OBJECTS: dict[str, Callable[[Any], list[Any]]] = {
    "an answer's message": lambda answer: [*chat(1)["messages"], said(answer)],
    "a message that was changed": lambda answer: [
        said(answer).model_copy(update={"content": "another"})
    ],
    "two messages": lambda answer: [said(answer), {"role": "user", "content": "a"}, said(answer)],
    "an answer's tool calls": lambda answer: [
        {"role": "assistant", "content": None, "tool_calls": said(answer).tool_calls}
    ],
}


@pytest.mark.skipif(not QUICK, reason="this version's models are left to the SDK")
@pytest.mark.parametrize("messages", OBJECTS.values(), ids=OBJECTS.keys())
def test_the_sdks_own_objects_are_asked_about_as_they_are_sent(
    up: Upstream, client: Any, colour: Colour, cache: Cache, messages: Callable[[Any], list[Any]]
) -> None:
    def go(request: dict[str, Any], **more: Any) -> Any:
        return colour.wait(client.chat.completions.create(**request, **more))

    with cache:
        answer = go({**chat(1), "tools": TOOLS})
        request = {**chat(1), "messages": messages(answer)}
        long = go(request, **LONG)
        go(request)
        assert not went_long(lambda: go(request))
        assert anatomy(go(request)) == anatomy(long)
    assert (up.calls, len([*cache.store.keys()]), cache.stats.hits) == (2, 2, 3)


@pytest.mark.skipif(not QUICK, reason="this version's models are left to the SDK")
def test_an_object_that_changes_is_another_request(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        answer = ask(client, colour)
        request = {**chat(1), "messages": [said(answer)]}
        for _ in range(3):
            colour.wait(client.chat.completions.create(**request))
        said(answer).content = "another"
        for _ in range(3):
            colour.wait(client.chat.completions.create(**request))
    assert (up.calls, cache.stats.hits) == (3, 4)


@pytest.mark.skipif(not QUICK, reason="this version's models are left to the SDK")
def test_calls_with_other_headers_are_other_requests(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        for _ in range(3):
            for tier in ("a", "b"):
                answer = ask(client, colour, extra_headers={"x-tier": tier, "X-Title": "t"})
                long = ask(client, colour, extra_headers={"x-title": "t", "X-Tier": tier}, **LONG)
                assert anatomy(answer) == anatomy(long)
        assert not went_long(
            lambda: ask(client, colour, extra_headers={"x-tier": "a", "X-Title": "t"})
        )
    assert up.calls == 2


@pytest.mark.skipif(not QUICK, reason="this version's models are left to the SDK")
def test_calls_that_differ_in_what_is_left_out_are_one_request_at_the_door_too(
    up: Upstream, colour: Colour
) -> None:
    clients = [colour.client(up, default_headers={"X-Tenant": value}) for value in "ab"]
    with Cache.memory(unkeyed=["user", "x-tenant"]):
        for _ in range(3):
            for client, user in zip(clients, "ab", strict=True):
                answer = ask(client, colour, user=user)
                assert anatomy(answer) == anatomy(ask(client, colour, user=user, **LONG))
        assert not went_long(lambda: ask(clients[0], colour, user="c"))
        for value in "cd":
            ask(clients[0], colour, extra_headers={"X-Tenant": value})
        assert not went_long(lambda: ask(clients[0], colour, extra_headers={"X-Tenant": "e"}))
    assert up.calls == 1


@pytest.mark.skipif(not QUICK, reason="this version's models are left to the SDK")
def test_calls_whose_tools_have_their_properties_in_another_order_are_other_requests(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    def asked(*names: str, **more: Any) -> Any:
        schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
        tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
        return ask(client, colour, tools=tools, **more)

    with cache:
        for _ in range(3):
            asked("reasoning", "answer")
        assert not went_long(lambda: asked("reasoning", "answer"))
        assert up.calls == 1
        for _ in range(3):
            asked("answer", "reasoning")
        assert not went_long(lambda: asked("answer", "reasoning"))
        assert up.calls == 2
        asked("answer", "reasoning", extra_body={"prompt_cache_key": "k"})
    assert (up.calls, cache.stats.hits) == (2, 7)


@pytest.mark.skipif(not QUICK, reason="this version's models are left to the SDK")
def test_a_call_with_a_cache_of_its_own_is_served_from_it(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    other = Cache.memory()
    with other:
        for _ in range(3):
            ask(client, colour, cache=cache)
        assert not went_long(lambda: ask(client, colour, cache=cache))
        assert went_long(lambda: ask(client, colour, cache=cache.samples()))
    assert (cache.stats.hits, cache.stats.misses, other.stats.calls) == (4, 1, 0)


OWN: dict[str, dict[str, Any]] = {
    "a seed": {"cache_seed": 7},
    "a seed and a lifetime": {"cache_seed": 7, "ttl": 60},
    "a lifetime": {"ttl": None},
    "the usual mode": {"mode": "normal"},
}


@pytest.mark.skipif(not QUICK, reason="this version's models are left to the SDK")
@pytest.mark.parametrize("own", OWN.values(), ids=OWN.keys())
def test_a_call_with_options_of_its_own_is_served_at_the_door(
    up: Upstream, client: Any, colour: Colour, cache: Cache, own: dict[str, Any]
) -> None:
    served = cache.sibling(7) if "cache_seed" in own else cache
    with cache:
        for _ in range(3):
            answer = ask(client, colour, **own)
        assert not went_long(lambda: ask(client, colour, **own))
        assert anatomy(answer) == anatomy(ask(client, colour, **own, **LONG))
    assert (up.calls, served.stats.hits, served.stats.misses) == (1, 4, 1)


@pytest.mark.skipif(not QUICK, reason="this version's models are left to the SDK")
@pytest.mark.parametrize(
    "own",
    [
        pytest.param({"sample": 0}, id="the first sample"),
        pytest.param({"mode": "read_only"}, id="another mode"),
        pytest.param({"mode": "off"}, id="off"),
        pytest.param({"cache_seed": None}, id="no seed"),
    ],
)
def test_a_call_with_other_options_goes_the_long_way(
    client: Any, colour: Colour, cache: Cache, own: dict[str, Any]
) -> None:
    with cache:
        for _ in range(3):
            ask(client, colour)
            ask(client, colour, **own)
        assert went_long(lambda: ask(client, colour, **own))


@pytest.mark.parametrize(
    "own",
    [
        pytest.param({"mode": "sideways"}, id="mode"),
        pytest.param({"ttl": -1}, id="ttl"),
        pytest.param({"sample": -1}, id="sample"),
        pytest.param({"cache": "here"}, id="cache"),
    ],
)
def test_an_option_that_cannot_be_is_told_of(
    client: Any, colour: Colour, cache: Cache, own: dict[str, Any]
) -> None:
    with cache:
        for _ in range(3):
            ask(client, colour)
        with pytest.raises(ConfigurationError):
            ask(client, colour, **own)


def test_marks_for_what_is_not_given_do_not_matter(
    client: Any, colour: Colour, cache: Cache, up: Upstream
) -> None:
    with cache:
        ask(client, colour)
        ask(client, colour, temperature=openai.NOT_GIVEN, timeout=openai.NOT_GIVEN)
    assert up.calls == 1


@pytest.mark.skipif(not QUICK, reason="this version's models are left to the SDK")
def test_a_client_of_ones_own_kind_is_asked(up: Upstream, cache: Cache) -> None:
    class Own(openai.OpenAI):
        def post(self, *args: Any, **kwargs: Any) -> Any:
            asked.append(args)
            return super().post(*args, **kwargs)

    asked: list[Any] = []
    client = Own(api_key="k", base_url=up.base_url)
    with cache:
        for _ in range(3):
            client.chat.completions.create(**chat(1))
    assert (len(asked), up.calls) == (3, 1)


@pytest.mark.parametrize("name", ["request", "post", "_process_response", "_prepare_url"])
def test_a_client_that_was_tampered_with_is_asked(up: Upstream, cache: Cache, name: str) -> None:
    client = openai.OpenAI(api_key="k", base_url=up.base_url)
    with cache:
        for _ in range(3):
            client.chat.completions.create(**chat(1))
        setattr(client, name, getattr(client, name))
        assert went_long(lambda: client.chat.completions.create(**chat(1)))
    assert up.calls == 1


def test_a_client_that_validates_is_asked(up: Upstream, cache: Cache) -> None:
    client = openai.OpenAI(api_key="k", base_url=up.base_url, _strict_response_validation=True)
    with cache:
        client.chat.completions.create(**chat(1))
        assert went_long(lambda: client.chat.completions.create(**chat(1)))


def test_what_another_tool_wrapped_before_us_is_called(
    up: Upstream, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpatch_openai()
    calls: list[Any] = []
    owner = type(openai.OpenAI(api_key="k").chat.completions)
    original = owner.create

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, "create", counted)
    patch_openai()
    try:
        client = openai.OpenAI(api_key="k", base_url=up.base_url)
        with cache:
            for _ in range(3):
                client.chat.completions.create(**chat(1))
    finally:
        unpatch_openai()
    assert (len(calls), up.calls) == (3, 1)


# -- what a client brings is part of the request --------------------------------------------------


def elsewhere(client: Any) -> None:
    client.base_url = str(client.base_url).replace("127.0.0.1", "localhost")


CHANGES: dict[str, Callable[[Any], Any]] = {
    "base URL": elsewhere,
    "default header": lambda c: c._custom_headers.update({"x-tier": "1"}),
    "default headers": lambda c: setattr(c, "_custom_headers", {"x-a": "c"}),
    "default query": lambda c: c._custom_query.update({"tier": 1}),
    "default query, another type": lambda c: c._custom_query.update({"flag": 1}),
    "transport header": lambda c: c._client.headers.update({"x-tier": "1"}),
    "transport query": lambda c: setattr(c._client, "params", {"tier": "1"}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_client_that_changes_asks_another_thing(
    up: Upstream, colour: Colour, cache: Cache, change: Callable[[Any], Any]
) -> None:
    client = colour.client(
        up, default_headers={"x-a": "b"}, default_query={"flag": True}, max_retries=0
    )
    with cache:
        ask(client, colour)
        ask(client, colour)
        change(client)
        ask(client, colour)
        ask(client, colour)
    assert (up.calls, cache.stats.hits) == (2, 2)


@pytest.mark.parametrize("where", ["in the SDK", "in a class of the program's", "in the client"])
def test_headers_that_are_made_at_each_call_are_part_of_it(
    up: Upstream, colour: Colour, cache: Cache, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    client = colour.client(up, max_retries=0)
    kind = type(client)
    own, tiers = kind.default_headers, []

    def made(client: Any) -> Any:
        return {**own.fget(client), "x-tier": str(len(tiers))}

    with cache:
        for _ in range(3):
            ask(client, colour)
        if where == "in the SDK":
            monkeypatch.setattr(kind, "default_headers", property(made))
        elif where == "in the client":
            client._custom_headers = {"x-tier": "0"}
        else:
            client.__class__ = type("Own", (kind,), {"default_headers": property(made)})
        for _ in range(3):
            ask(client, colour)
        tiers.append("another")
        if where == "in the client":
            client._custom_headers["x-tier"] = "1"
        for _ in range(3):
            ask(client, colour)
    assert up.calls == 3


def test_clients_of_one_class_keep_their_answers_apart(cache: Cache) -> None:
    with Upstream() as one, Upstream() as two, cache:
        clients = [openai.OpenAI(api_key="k", base_url=up.base_url) for up in (one, two)]
        answers = [client.chat.completions.create(**chat(1)).id for client in clients * 3]
    assert answers == answers[:2] * 3
    assert (one.calls, two.calls) == (1, 1)


@pytest.mark.parametrize("key", ["x-api-key", "authorization"])
def test_credentials_are_no_part_of_it(up: Upstream, cache: Cache, key: str) -> None:
    with cache:
        for secret in ("one", "two"):
            client = openai.OpenAI(
                api_key=secret, base_url=up.base_url, default_headers={key: secret}
            )
            client.chat.completions.create(**chat(1))
    assert up.calls == 1


# -- a wrong guess --------------------------------------------------------------------------------


def transforming(monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], Any]) -> None:
    """Let the SDK send something else than what it is given."""
    client = openai.OpenAI(api_key="k")
    module = sys.modules[type(client.chat.completions).__module__]
    create = vars(type(client.chat.completions))["create"].__wrapped__
    module = sys.modules.get("openai.resources.chat.completions.completions", module)
    transform = module.maybe_transform  # type: ignore[attr-defined]
    assert create

    def changed(data: Any, *more: Any) -> Any:
        body = dict(transform(data, *more))
        change(body)
        return body

    monkeypatch.setattr(module, "maybe_transform", changed)


@pytest.mark.parametrize(
    "change",
    [lambda body: body.pop("user"), lambda body: body.update(user="somebody else")],
    ids=["leaves one out", "changes one"],
)
def test_where_the_sdk_changes_the_keywords_the_door_stays_shut(
    up: Upstream, cache: Cache, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], Any]
) -> None:
    transforming(monkeypatch, change)
    client = openai.OpenAI(api_key="k", base_url=up.base_url)
    with cache:
        for _ in range(3):
            client.chat.completions.create(**chat(1, user="a"))
        assert went_long(lambda: client.chat.completions.create(**chat(1, user="a")))
    assert (up.calls, cache.stats.hits) == (1, 3)


def test_what_the_sdk_adds_must_be_the_same_twice(
    up: Upstream, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = iter(range(100))
    transforming(monkeypatch, lambda body: body.update(turn=next(turns)))
    client = openai.OpenAI(api_key="k", base_url=up.base_url)
    with cache:
        answers = {client.chat.completions.create(**chat(1)).id for _ in range(5)}
    assert (len(answers), up.calls) == (5, 5)


def test_a_shape_that_once_came_out_differently_is_never_served_again(
    up: Upstream, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = openai.OpenAI(api_key="k", base_url=up.base_url)
    with cache:
        for _ in range(2):
            client.chat.completions.create(**chat(1, user="a"))
        with monkeypatch.context() as changed:
            transforming(changed, lambda body: body.update(user="b"))
            client.chat.completions.create(**chat(2, user="a"))
        assert went_long(lambda: client.chat.completions.create(**chat(1, user="a")))
