"""What claims success and is no answer: returned and not stored, and not served where it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pydantic
import pytest
from standin import Upstream

from cachewrap import Cache, CacheWarning, ReplayMissError
from cachewrap.entry import Facts, Kind
from cachewrap.format import codec
from cachewrap.format.envelope import seal, unseal
from cachewrap.telemetry.events import Event
from sdk.openai.asking import Colour
from sdk.openai.shapes import BY_NAME, INSTALLED, Shape

CHAT = BY_NAME["chat"]
CHATS = [BY_NAME[name] for name in ("chat", "chat-raw", "chat-open", "chat-azure")]
MESSAGE = {"role": "assistant", "content": "hi"}

chats = pytest.mark.parametrize("shape", CHATS, ids=lambda shape: shape.name)


def choice(**more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": MESSAGE, **more}]}


BAD = [
    pytest.param({"object": "error"}, "error", id="object error"),
    pytest.param({"code": 500, "msg": "busy"}, "error", id="code and message"),
    pytest.param({"detail": "Not Found"}, "error", id="detail"),
    pytest.param({}, "no choices", id="nothing"),
    pytest.param({"choices": None}, "no choices", id="choices null"),
    pytest.param({"choices": []}, "no choices", id="choices empty"),
    pytest.param(choice(finish_reason=None), "no finish reason", id="finish reason null"),
    pytest.param(choice(), "no finish reason", id="no finish reason"),
]


def rewrite(cache: Cache, body: Any = None, **changes: Any) -> None:
    """Put another answer in the place of the one that is stored, as an older version may have."""
    (key,) = cache._store.keys()
    entry = unseal(cache._store.get(key) or b"")
    answer = codec.decode(entry.kind, entry.answer)
    if body is not None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = replace(answer, chunks=[raw], delays=answer.delays[:1])
    store(cache, key, *codec.encode(replace(answer, **changes)))


def store(cache: Cache, key: str, kind: Kind, data: bytes) -> None:
    record = unseal(cache._store.get(key) or b"").read_record()
    cache._store.set(key, seal(kind, data, record["request"], Facts(1.0, 0.1, source="s")))


def one_line(*events: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


# -- what comes from upstream ---------------------------------------------------------------------


def test_a_model_with_half_a_surrogate_in_its_name_is_stored(
    up: Upstream, colour: Colour, cache: Cache
) -> None:
    whole = {**choice(finish_reason="stop"), "id": "a", "object": "chat.completion", "created": 1}
    up.once(body=json.dumps({**whole, "model": "\ud800"}).encode())
    client = colour.client(up, CHAT.client)
    with cache:
        models = [colour.ask(client, CHAT)["value"]["dump"]["model"] for _ in range(2)]
    assert models == ["\ud800"] * 2
    assert (cache.stats.stored, cache.stats.hits) == (1, 1)


@chats
@pytest.mark.parametrize(("body", "reason"), BAD)
def test_it_is_returned_and_not_stored(
    up: Upstream,
    colour: Colour,
    cache: Cache,
    shape: Shape,
    body: dict[str, Any],
    reason: str,
) -> None:
    up.once(body=json.dumps(body).encode())
    client = colour.client(up, shape.client)
    with cache:
        first = colour.ask(client, shape)
        second, third = colour.ask(client, shape), colour.ask(client, shape)
    given = first["value"]["dump"]
    assert {name: given[name] for name in body if name != "choices"} == {
        name: value for name, value in body.items() if name != "choices"
    }
    assert (up.calls, cache.stats.misses, cache.stats.stored, cache.stats.hits) == (2, 2, 1, 1)
    assert cache.stats.unstored_reasons == {reason: 1}
    assert second["value"] == third["value"]


def test_an_event_and_the_summary_tell_the_reason(
    up: Upstream, client: Any, colour: Colour
) -> None:
    up.behave(body=b'{"choices": []}')
    heard: list[Event] = []
    with Cache.memory(on_event=heard.append) as cache:
        colour.ask(client, CHAT)
    assert [(event.stored, event.reason) for event in heard] == [(False, "no choices")]
    assert cache.stats.as_dict()["unstored_reasons"] == {"no choices": 1}
    assert "unstored_reasons={'no choices': 1}" in repr(cache.stats)


OTHERS = [
    ("completions", {"choices": [{"index": 0, "text": "hi"}]}, "no finish reason"),
    ("responses", {"object": "response", "status": "completed"}, "no output"),
    ("responses", {}, "not completed"),
    ("embeddings", {"object": "list", "data": []}, "no embeddings"),
    ("moderations", {"results": []}, "no results"),
    ("images", {"created": 1, "data": []}, "no data"),
    ("transcription", {}, "no text"),
]


@pytest.mark.parametrize(
    ("name", "body", "reason"), [row for row in OTHERS if row[0] in BY_NAME], ids=str
)
def test_every_endpoint_says_what_its_answer_has(
    up: Upstream, client: Any, colour: Colour, cache: Cache, name: str, body: Any, reason: str
) -> None:
    up.once(body=json.dumps(body).encode())
    with cache:
        if name == "embeddings":  # as floats: the SDK itself refuses an empty list of others
            for _ in range(2):
                ask = client.embeddings.with_raw_response.create
                colour.wait(ask(model="m", input="a", encoding_format="float"))
        else:
            for _ in range(2):
                colour.ask(client, BY_NAME[name])
    assert (up.calls, cache.stats.stored) == (2, 1)
    assert cache.stats.unstored_reasons == {reason: 1}


@pytest.mark.parametrize(
    ("manner", "reason"),
    [({"finish": False}, "no finish reason"), ({"stream": False}, "no stream")],
    ids=["no finish reason", "plain JSON"],
)
def test_a_stream_that_is_no_answer_is_not_stored(
    up: Upstream, client: Any, colour: Colour, cache: Cache, manner: dict[str, Any], reason: str
) -> None:
    up.once(**manner)
    with cache:
        for _ in range(2):
            colour.ask(client, BY_NAME["chat-stream"])
    assert (up.calls, cache.stats.unstored_reasons) == (2, {reason: 1})


# -- what is stored already -----------------------------------------------------------------------

SPOILT: list[Any] = [
    *(pytest.param({"body": case.values[0]}, id=str(case.id)) for case in BAD),
    pytest.param({"body": b"{cut"}, id="no JSON"),
    pytest.param({"body": b""}, id="no body"),
    pytest.param({"body": [1]}, id="a list"),
    pytest.param({"headers": [("content-type", "text/html")]}, id="another content type"),
    pytest.param({"headers": []}, id="no content type"),
    pytest.param({"status": 500}, id="another status"),
]


@pytest.mark.parametrize(
    "name",
    ["chat", "chat-raw", "chat-open", "chat-parsed"] if "chat-parsed" in BY_NAME else ["chat"],
)
@pytest.mark.parametrize("spoil", SPOILT)
def test_a_stored_answer_that_is_none_is_a_miss_and_is_replaced(
    up: Upstream, client: Any, colour: Colour, cache: Cache, name: str, spoil: dict[str, Any]
) -> None:
    shape = BY_NAME[name]
    with cache:
        for _ in range(3):  # so that the front door knows the shape
            first = colour.ask(client, shape)
        rewrite(cache, **spoil)
        with pytest.warns(CacheWarning, match="holds no answer to POST"):
            again = colour.ask(client, shape)
        hit = colour.ask(client, shape)
    assert (up.calls, cache.stats.misses, cache.stats.errors) == (2, 2, 1)
    assert again["value"] == hit["value"] != first["value"]


@pytest.mark.parametrize("spoil", SPOILT[:4])
def test_replay_says_that_what_is_stored_is_no_answer(
    up: Upstream, client: Any, colour: Colour, cache: Cache, spoil: dict[str, Any]
) -> None:
    with cache:
        for _ in range(3):
            colour.ask(client, CHAT)
        rewrite(cache, **spoil)
        with (
            cache.mode("replay"),
            pytest.warns(CacheWarning),
            pytest.raises(ReplayMissError, match="holds no answer to POST /chat/completions"),
        ):
            colour.ask(client, CHAT)
    assert up.calls == 1


SPOILT_STREAMS = [
    pytest.param(b"\x00\x01", id="no events"),
    pytest.param(b"", id="nothing"),
    pytest.param(b"data: {not json\n\n", id="no JSON"),
    pytest.param(one_line({"error": {"message": "busy"}}), id="an error"),
]


@pytest.mark.parametrize("name", ["chat-stream", "chat-raw-stream", "chat-open-stream"])
@pytest.mark.parametrize("body", SPOILT_STREAMS)
def test_a_stored_stream_that_cannot_be_read_is_a_miss_and_is_replaced(
    up: Upstream, client: Any, colour: Colour, cache: Cache, name: str, body: bytes
) -> None:
    shape = BY_NAME[name]
    with cache:
        for _ in range(3):
            colour.ask(client, shape)
        rewrite(cache, body)
        with pytest.warns(CacheWarning, match="holds no answer to POST"):
            again = colour.ask(client, shape)
        hit = colour.ask(client, shape)
    assert (up.calls, cache.stats.errors) == (2, 1)
    assert again["events"] == hit["events"]


INVALID = {**choice(finish_reason="stop"), "id": "c", "model": "m", "created": "never"}


@pytest.mark.skipif(INSTALLED < (1, 40), reason="validated in another way")
@pytest.mark.parametrize("name", ["chat", "chat-raw"])
def test_a_stored_answer_that_does_not_validate_is_a_miss(
    up: Upstream, colour: Colour, cache: Cache, name: str
) -> None:
    shape = BY_NAME[name]
    client = colour.client(up, _strict_response_validation=True)
    with cache:
        first = colour.ask(client, shape)
        rewrite(cache, INVALID)
        with pytest.warns(CacheWarning, match="the SDK cannot read it"):
            again = colour.ask(client, shape)
        hit = colour.ask(client, shape)
        with cache.mode("replay"):
            assert colour.ask(client, shape)["value"] == hit["value"]
    assert (up.calls, cache.stats.misses, cache.stats.hits) == (2, 2, 2)
    assert again["value"] == hit["value"] != first["value"]


@pytest.mark.skipif(INSTALLED < (1, 40), reason="validated in another way")
def test_replay_of_a_stored_answer_that_does_not_validate_says_so(
    up: Upstream, colour: Colour, cache: Cache
) -> None:
    client = colour.client(up, _strict_response_validation=True)
    with cache:
        colour.ask(client, CHAT)
        rewrite(cache, INVALID)
        with (
            cache.mode("replay"),
            pytest.warns(CacheWarning),
            pytest.raises(ReplayMissError, match="the SDK cannot read it"),
        ):
            colour.ask(client, CHAT)
    assert up.calls == 1


@pytest.mark.parametrize("name", ["chat", "chat-stream", "chat-open"])
def test_a_hit_that_the_client_itself_refuses_goes_upstream(
    up: Upstream, colour: Colour, cache: Cache, name: str
) -> None:
    client = colour.client(up)
    process: Callable[..., Any] = client._process_response

    def refuse(**given: Any) -> Any:
        if "x-cachewrap" in given["response"].headers:
            raise RuntimeError("no hits here")
        return process(**given)

    client._process_response = refuse
    with cache:
        colour.ask(client, BY_NAME[name])
        with pytest.warns(CacheWarning, match="the SDK cannot read it"):
            colour.ask(client, BY_NAME[name])
        colour.ask(client, BY_NAME[name])
    assert (up.calls, cache.stats.hits, cache.stats.misses) == (3, 0, 3)


@pytest.mark.skipif("chat-parsed" not in BY_NAME, reason="this SDK parses in another way")
def test_what_the_caller_makes_of_an_answer_is_his_own(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    shape = BY_NAME["chat-parsed"]
    with cache:
        colour.ask(client, shape)
        body = {**choice(finish_reason="stop"), "id": "c", "model": "m", "created": 1}
        rewrite(cache, {**body, "object": "chat.completion"})
        for _ in range(2):
            with pytest.raises(pydantic.ValidationError):
                colour.ask(client, shape)
    assert (up.calls, cache.stats.errors) == (1, 0)


# -- entries of another kind ----------------------------------------------------------------------

KINDS = [
    pytest.param("a text", id="text"),
    pytest.param({"choices": []}, id="value"),
]


@pytest.mark.parametrize("value", KINDS)
@pytest.mark.parametrize("name", ["chat", "chat-stream", "chat-raw"])
def test_an_entry_of_another_kind_is_a_miss(
    up: Upstream, client: Any, colour: Colour, cache: Cache, name: str, value: Any
) -> None:
    with cache:
        for _ in range(3):
            colour.ask(client, BY_NAME[name])
        (key,) = cache._store.keys()
        cache.set(key, value)
        with pytest.warns(CacheWarning, match="a value in place of an HTTP answer"):
            colour.ask(client, BY_NAME[name])
        colour.ask(client, BY_NAME[name])
    assert (up.calls, cache.stats.errors) == (2, 1)


def test_the_cache_gives_the_content_of_an_http_answer(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        colour.ask(client, CHAT)
        (key,) = cache.keys()
        assert cache.get(key)["choices"][0]["finish_reason"] == "stop"
        rewrite(cache, b"words")
        assert cache.get(key) == "words"
        rewrite(cache, b"\xff\x00")
        assert cache.get(key) == b"\xff\x00"
