"""What is in a key, what is stored, and what is left alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anthropic
import pytest
from standin import SECRET_HEADERS, Upstream

from cachewrap import Cache
from cachewrap.format import codec
from cachewrap.format.envelope import unseal
from cachewrap.stores.memory import MemoryStore
from sdk.anthropic.asking import SECRETS, Colour
from sdk.anthropic.shapes import BY_NAME, INSTALLED, count, message
from sdk.openai.asking import unmarked

MESSAGE = BY_NAME["messages"]
STREAM = BY_NAME["messages-stream"]


@pytest.mark.parametrize("shape", [MESSAGE, STREAM], ids=lambda shape: shape.name)
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (529, anthropic.APIStatusError),
    ],
)
def test_an_error_is_raised_as_it_is_and_not_stored(
    up: Upstream,
    client: Any,
    colour: Colour,
    cache: Cache,
    shape: Any,
    status: int,
    error: type[Exception],
) -> None:
    up.fail(status)
    with cache:
        with pytest.raises(error):
            colour.ask(client, shape)
        colour.ask(client, shape)
    assert (up.calls, cache.stats.stored) == (2, 1)


def test_what_succeeds_after_retries_is_stored_once(
    up: Upstream, colour: Colour, cache: Cache
) -> None:
    up.fail(429, 529)
    client = colour.client(up, max_retries=2)
    with cache:
        first, second = colour.ask(client, MESSAGE), colour.ask(client, MESSAGE)
    assert (up.calls, cache.stats.stored, second) == (3, 1, first)


@pytest.mark.parametrize(
    "body",
    [b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}', b'{"id": "msg_'],
    ids=["error", "cut off"],
)
def test_an_error_that_claims_success_is_not_stored(
    up: Upstream, client: Any, colour: Colour, cache: Cache, body: bytes
) -> None:
    up.behave(body=body)
    with cache:
        for _ in range(2):
            try:
                colour.ask(client, MESSAGE)
            except (ValueError, anthropic.APIError):
                continue
    assert (up.calls, cache.stats.stored) == (2, 0)


@pytest.mark.parametrize("kind", list(SECRETS))
@pytest.mark.parametrize("name", ["messages", "messages-stream", "beta"])
def test_no_credential_is_stored(up: Upstream, colour: Colour, kind: str, name: str) -> None:
    up.behave(headers=(*SECRET_HEADERS, ("anthropic-organization-id", "upstream-secret")))
    server = {"type": "url", "name": "s", "url": "http://x", "authorization_token": "top-secret-1"}
    client = colour.client(up, kind)
    store = MemoryStore()
    with Cache(store):
        colour.ask(client, BY_NAME[name], extra_body={"mcp_servers": [server]})
    [key] = store.keys()
    entry = unseal(store.get(key) or b"")
    stored = f"{entry.read_record()} {codec.decode(entry.kind, entry.answer)}"
    assert "top-secret-1" in up.last.body.decode()
    assert "claude-x" in stored
    assert not re.search("top-?secret|upstream-secret", stored, re.IGNORECASE)


@pytest.mark.parametrize("kind", list(SECRETS))
def test_callers_with_other_credentials_share_their_answers(
    up: Upstream, colour: Colour, cache: Cache, kind: str
) -> None:
    others = {
        name: f"{value}-other"
        for name, value in SECRETS[kind].items()
        if name not in ("aws_region", "region", "project_id")
    }
    with cache:
        colour.ask(colour.client(up, kind), MESSAGE)
        colour.ask(colour.client(up, kind, **others), MESSAGE)
    assert up.calls == 1


@pytest.mark.parametrize("kind", ["bedrock", "vertex"])
def test_the_models_of_a_platform_are_told_apart_by_their_path(
    up: Upstream, colour: Colour, cache: Cache, kind: str
) -> None:
    client = colour.client(up, kind)
    with cache:
        for model in ("claude-a", "claude-b@1", "claude-a"):
            colour.wait(client.messages.create(**{**message(1), "model": model}))
    assert [request.path.count("claude-") for request in up.requests] == [1, 1]


def test_a_stored_answer_serves_a_stream_only_to_those_who_stream(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        colour.ask(client, MESSAGE)
        colour.ask(client, STREAM)
        colour.ask(client, BY_NAME["messages-helper"])
    assert up.calls == 2


def test_the_betas_of_a_call_are_in_its_key(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        for _ in range(2):
            for betas in (["one"], ["one", "two"], []):
                colour.wait(client.beta.messages.create(**message(1, betas=betas)))
    assert up.calls == 3


@pytest.mark.parametrize(
    ("container", "calls"),
    [("container_1", 2), ({"id": "container_1"}, 2), ({"skills": []}, 1), (None, 1)],
    ids=["by name", "by id", "a new one", "none"],
)
def test_a_call_that_goes_on_with_a_container_is_left_alone(
    up: Upstream, client: Any, colour: Colour, cache: Cache, container: Any, calls: int
) -> None:
    with cache:
        for _ in range(2):
            colour.wait(client.messages.create(**message(1), extra_body={"container": container}))
    assert up.calls == calls


@pytest.mark.skipif(INSTALLED < (1, 0), reason="this SDK has no middleware")
def test_a_client_with_a_middleware_is_left_alone(
    up: Upstream, colour: Colour, cache: Cache
) -> None:
    def passing(request: Any, call_next: Any) -> Any:
        return call_next(request)

    async def apassing(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    middleware = [passing if colour.name == "sync" else apassing]
    client = colour.client(up, middleware=middleware)
    with cache:
        first, second = colour.ask(client, MESSAGE), colour.ask(client, MESSAGE)
    assert first != second
    assert (up.calls, cache.stats.bypass_reasons) == (2, {"middleware": 2})


@pytest.mark.parametrize("way", ["batches", "models"])
def test_what_is_no_question_goes_straight_through(
    up: Upstream, client: Any, colour: Colour, cache: Cache, way: str
) -> None:
    def ask() -> Any:
        if way == "batches":
            return client.messages.batches.create(requests=[])
        return client.models.retrieve("claude-x")

    with cache:
        for _ in range(2):
            try:
                colour.wait(ask())
            except anthropic.NotFoundError:
                continue
    assert (up.calls, cache.stats.stored) == (2, 0)


def test_a_run_with_tools_is_answered_again_turn_by_turn(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    shape = BY_NAME["beta-runner"]
    question = [{"role": "user", "content": "What time is it in Rome?"}]
    runs = []
    with cache:
        for _ in range(2):
            arguments = {**shape.ask(1, colour.name), "messages": question}
            runner = client.beta.messages.tool_runner(**arguments)
            runs.append(colour.wait(runner.until_done()))
    assert runs[0].stop_reason == "end_turn"
    assert (up.calls, runs[1]) == (2, runs[0])


def test_the_tokens_counted_differ_from_the_message(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        for _ in range(2):
            colour.wait(client.messages.count_tokens(**count(1)))
            colour.wait(client.messages.create(**message(1)))
    assert up.by_path == {"/v1/messages/count_tokens": 1, "/v1/messages": 1}


def test_a_lazy_helper_keeps_the_cache_that_nobody_else_holds(
    up: Upstream, client: Any, colour: Colour, tmp_path: Path
) -> None:
    seen = []
    for n, method in enumerate([client.messages.stream, client.beta.messages.stream]):
        for _ in range(2):
            manager = method(**message(n), cache=Cache.disk(cache_path_root=tmp_path))
            seen.append(colour.wait(final(manager) if colour.name == "sync" else afinal(manager)))
    assert up.calls == 2
    assert seen[0] == seen[1] != seen[2] == seen[3]


def final(manager: Any) -> Any:
    with manager as stream:
        return stream.get_final_message().model_dump()


async def afinal(manager: Any) -> Any:
    async with manager as stream:
        return (await stream.get_final_message()).model_dump()


def test_a_hit_of_a_raw_call_shows_the_request_as_it_was_sent(
    up: Upstream, colour: Colour, cache: Cache
) -> None:
    for kind in ("bedrock", "vertex"):
        client = colour.client(up, kind)
        shape = BY_NAME[f"{kind}-raw"]
        with cache:
            first, second = colour.ask(client, shape), colour.ask(client, shape)
        assert unmarked(second) == unmarked(first)
        assert up.last.path in second["url"]
