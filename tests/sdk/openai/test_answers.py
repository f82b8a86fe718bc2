"""Answers are values: whatever a caller does to one, the next caller gets what upstream said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest
from standin import SECRET_HEADERS, Upstream

from cachewrap import Cache
from cachewrap.stores.memory import MemoryStore
from sdk.openai.asking import Colour, anatomy
from sdk.openai.shapes import BY_NAME, chat

SPOILS: list[Callable[[Any], Any]] = [
    lambda answer: setattr(answer.choices[0].message, "content", "spoilt"),
    lambda answer: answer.choices.clear(),
    lambda answer: setattr(answer, "cost", 17),
    lambda answer: answer.model_extra.clear(),
    lambda answer: answer.model_fields_set.clear(),
]
IDS = ["content", "list", "new attribute", "extras", "fields set"]


@pytest.mark.parametrize("spoil", SPOILS, ids=IDS)
@pytest.mark.parametrize("spoilt", ["miss", "hit"])
def test_a_spoilt_answer_does_no_harm(
    client: Any, colour: Colour, cache: Cache, spoilt: str, spoil: Callable[[Any], Any]
) -> None:
    with cache:
        answer = colour.wait(client.chat.completions.create(**chat(1)))
        before = anatomy(answer)
        if spoilt == "hit":
            answer = colour.wait(client.chat.completions.create(**chat(1)))
        spoil(answer)
        after = anatomy(colour.wait(client.chat.completions.create(**chat(1))))
    assert after == before


def test_a_request_changed_after_the_call_is_another_request(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    ask = chat(1)
    with cache:
        colour.wait(client.chat.completions.create(**ask))
        ask["messages"].append({"role": "user", "content": "And?"})
        colour.wait(client.chat.completions.create(**ask))
    assert up.calls == 2


@pytest.mark.parametrize("name", ["chat-raw", "chat-stream", "embeddings-raw", "speech"])
def test_a_hit_brings_no_secret_header(
    up: Upstream, client: Any, colour: Colour, cache: Cache, name: str
) -> None:
    up.behave(headers=SECRET_HEADERS)
    with cache:
        colour.ask(client, BY_NAME[name])
        hit = colour.ask(client, BY_NAME[name])
    assert hit["mark"] == "hit"
    assert "upstream-secret" not in str(hit["headers"])


@pytest.mark.parametrize("name", ["chat", "chat-stream", "speech", "transcription"])
def test_no_secret_is_stored(up: Upstream, colour: Colour, name: str) -> None:
    up.behave(headers=SECRET_HEADERS)
    store = MemoryStore()
    client = colour.client(
        up,
        api_key="sk-client-secret",
        organization="client-secret",
        default_headers={"x-api-key": "client-secret", "cookie": "a=client-secret"},
    )
    with Cache(store):
        colour.ask(client, BY_NAME[name])
    [stored] = [store.get(key) or b"" for key in list(store.keys())]
    assert b"-secret" not in stored


def test_the_bytes_of_a_raw_hit_are_those_of_the_upstream(
    client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        miss = colour.ask(client, BY_NAME["chat-raw"])
        hit = colour.ask(client, BY_NAME["chat-raw"])
    assert hit["content"] == miss["content"]


def test_a_compressed_answer_is_served_like_any_other(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    up.behave(gzip=True)
    with cache:
        miss = colour.ask(client, BY_NAME["chat-raw"])
        hit = colour.ask(client, BY_NAME["chat-raw"])
    assert (hit["content"], hit["value"], hit["headers"]) == (
        miss["content"],
        miss["value"],
        miss["headers"],
    )


def test_a_hit_costs_no_connection(up: Upstream, colour: Colour, cache: Cache) -> None:
    with cache:
        with Upstream() as gone:
            client = colour.client(gone, max_retries=0)
            first = colour.ask(client, BY_NAME["chat"])
        assert colour.ask(client, BY_NAME["chat"]) == first
        with pytest.raises(openai.APIConnectionError):
            colour.ask(client, BY_NAME["chat"], 2)


def test_an_answer_can_be_copied_and_serialized(client: Any, colour: Colour, cache: Cache) -> None:
    with cache:
        miss = colour.wait(client.chat.completions.create(**chat(1)))
        hit = colour.wait(client.chat.completions.create(**chat(1)))
    assert hit.model_dump_json() == miss.model_dump_json()
    assert hit.model_copy(deep=True) == miss
    assert hit.to_dict() == miss.to_dict()
