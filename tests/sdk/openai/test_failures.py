"""What upstream does wrong is raised as it is and never stored."""

from __future__ import annotations

from typing import Any

import openai
import pydantic
import pytest
from standin import Upstream

import cachewrap
from cachewrap import Cache
from sdk.openai.asking import Colour
from sdk.openai.shapes import BY_NAME, INSTALLED, RESPONSES, Shape

CHAT = BY_NAME["chat"]
PLAIN_AND_STREAM = [CHAT, BY_NAME["chat-stream"]]
has_responses = pytest.mark.skipif(INSTALLED < RESPONSES, reason="this SDK has no Responses API")

STATUSES = [
    (400, openai.BadRequestError),
    (401, openai.AuthenticationError),
    (403, openai.PermissionDeniedError),
    (404, openai.NotFoundError),
    (422, openai.UnprocessableEntityError),
    (429, openai.RateLimitError),
    (500, openai.InternalServerError),
    (503, openai.InternalServerError),
]


@pytest.mark.parametrize("shape", PLAIN_AND_STREAM, ids=lambda shape: shape.name)
@pytest.mark.parametrize(("status", "error"), STATUSES)
def test_an_error_is_raised_as_it_is_and_the_next_call_goes_upstream(
    up: Upstream,
    client: Any,
    colour: Colour,
    cache: Cache,
    shape: Shape,
    status: int,
    error: type[openai.APIStatusError],
) -> None:
    up.fail(status)
    with cache:
        with pytest.raises(error) as caught:
            colour.ask(client, shape)
        assert caught.value.status_code == status
        assert caught.value.response.headers["x-request-id"].startswith("req_")
        colour.ask(client, shape)
    assert (up.calls, cache.stats.stored) == (2, 1)


@pytest.mark.parametrize("shape", PLAIN_AND_STREAM, ids=lambda shape: shape.name)
@pytest.mark.parametrize(
    ("manner", "options", "error"),
    [
        ({"drop": True}, {}, openai.APIConnectionError),
        ({"delay": 0.5}, {"timeout": 0.05}, openai.APITimeoutError),
    ],
    ids=["dropped", "timed out"],
)
def test_a_lost_connection_is_raised_as_it_is(
    up: Upstream,
    colour: Colour,
    cache: Cache,
    shape: Shape,
    manner: dict[str, Any],
    options: dict[str, Any],
    error: type[openai.APIConnectionError],
) -> None:
    up.once(**manner)
    with cache:
        with pytest.raises(error):
            colour.ask(colour.client(up, max_retries=0, **options), shape)
        colour.ask(colour.client(up), shape)
    assert (up.calls, cache.stats.stored) == (2, 1)


@pytest.mark.parametrize("shape", PLAIN_AND_STREAM, ids=lambda shape: shape.name)
@pytest.mark.parametrize("statuses", [(429,), (500,), (429, 503)], ids=str)
def test_what_succeeds_after_retries_is_stored_once(
    up: Upstream, colour: Colour, cache: Cache, shape: Shape, statuses: tuple[int, ...]
) -> None:
    up.fail(*statuses)
    client = colour.client(up, max_retries=2)
    with cache:
        first = colour.ask(client, shape)
        assert up.calls == len(statuses) + 1
        second = colour.ask(client, shape)
    assert up.calls == len(statuses) + 1
    assert cache.stats.stored == 1
    assert first.get("events", first.get("value")) == second.get("events", second.get("value"))


def test_every_caller_of_a_failing_request_gets_the_error(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    up.behave(status=500)
    with cache:
        for _ in range(3):
            with pytest.raises(openai.InternalServerError):
                colour.ask(client, CHAT)
    assert (up.calls, cache.stats.stored) == (3, 0)


@pytest.mark.parametrize(
    "body",
    [b'{"error":{"message":"overloaded","type":"server_error"}}', b'{"error":"overloaded"}'],
    ids=["object", "text"],
)
def test_an_error_that_claims_success_is_not_stored(
    up: Upstream, client: Any, colour: Colour, cache: Cache, body: bytes
) -> None:
    up.once(body=body)
    with cache:
        colour.ask(client, CHAT)
        answer = colour.ask(client, CHAT)
    assert (up.calls, cache.stats.stored) == (2, 1)
    assert answer["value"]["dump"]["choices"]


def test_an_answer_that_cannot_be_parsed_is_not_stored(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    up.once(body=b'{"id": "chatcmpl-1", "choices": [')
    with cache:
        with pytest.raises((ValueError, openai.APIError)):
            colour.ask(client, CHAT)
        colour.ask(client, CHAT)
    assert (up.calls, cache.stats.stored) == (2, 1)


@pytest.mark.skipif(INSTALLED < (1, 52), reason="this SDK parses after the call, not within it")
def test_a_parsed_answer_that_does_not_fit_is_not_stored(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    shape = BY_NAME.get("chat-parsed") or BY_NAME["chat-parsed-beta"]
    body = (
        b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index"'
        b':0,"finish_reason":"stop","message":{"role":"assistant","content":"not a city"}}]}'
    )
    up.once(body=body)
    with cache:
        with pytest.raises(pydantic.ValidationError):
            colour.ask(client, shape)
        colour.ask(client, shape)
    assert (up.calls, cache.stats.stored) == (2, 1)


@has_responses
@pytest.mark.parametrize(
    ("status", "calls"),
    [("completed", 1), ("incomplete", 1), ("failed", 2), ("queued", 2), ("in_progress", 2)],
)
@pytest.mark.parametrize("name", ["responses", "responses-stream"])
def test_a_response_is_stored_when_it_is_completed_or_incomplete(
    up: Upstream,
    client: Any,
    colour: Colour,
    cache: Cache,
    name: str,
    status: str,
    calls: int,
) -> None:
    up.behave(response_status=status)
    with cache:
        colour.ask(client, BY_NAME[name])
        colour.ask(client, BY_NAME[name])
    assert up.calls == calls


@pytest.mark.parametrize("shape", PLAIN_AND_STREAM, ids=lambda shape: shape.name)
def test_an_error_looks_as_without_the_patch(
    up: Upstream, client: Any, colour: Colour, cache: Cache, shape: Shape
) -> None:
    seen = []
    up.behave(status=429, retry_after=3)
    for _ in range(2):
        with cache, pytest.raises(openai.RateLimitError) as caught:
            colour.ask(client, shape)
        error = caught.value
        body = error.body if isinstance(error.body, dict) else {}
        seen.append((type(error), error.code, sorted(body), error.response.headers["retry-after"]))
        cachewrap.unpatch_openai()
    assert seen[0] == seen[1]
