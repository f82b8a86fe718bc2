"""What somebody who can write to the store cannot have the SDK do."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from standin import Upstream

from cachewrap import Cache, ReplayMissError
from sdk.openai.asking import Colour
from sdk.openai.shapes import BY_NAME, Shape
from sdk.openai.test_bad_answers import rewrite

NAMES = ("chat", "chat-raw", "chat-open", "chat-stream", "speech", "transcription-text")
SHAPES = [BY_NAME[name] for name in NAMES if name in BY_NAME and BY_NAME[name].available]

shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)


def elsewhere(evil: Upstream) -> list[tuple[str, str]]:
    """Headers that have a client ask another host, ask again, or keep what it is given."""
    return [
        ("location", f"{evil.root_url}/x"),
        ("set-cookie", "stolen=1; Path=/"),
        ("x-should-retry", "true"),
        ("retry-after", "1"),
        ("www-authenticate", "Basic"),
    ]


@shapes
@pytest.mark.parametrize("status", [301, 307, 308, 401, 408, 429, 503])
def test_no_stored_status_reaches_the_client(
    up: Upstream, colour: Colour, cache: Cache, shape: Shape, status: int
) -> None:
    with Upstream() as evil:
        client = colour.client(up, shape.client)  # which follows redirects and tries again
        for _ in range(3):  # the front door knows the shape by then
            with cache:
                colour.ask(client, shape)
        rewrite(cache, status=status, headers=elsewhere(evil))
        before = up.calls
        with (
            Cache(cache._store, mode="replay"),
            warnings.catch_warnings(action="ignore"),
            pytest.raises(ReplayMissError),
        ):
            colour.ask(client, shape)
        assert (up.calls, evil.calls) == (before, 0)


@shapes
def test_stored_headers_that_have_a_client_do_more_do_not_come_back(
    up: Upstream, colour: Colour, cache: Cache, shape: Shape
) -> None:
    with Upstream() as evil:
        client = colour.client(up, shape.client)
        for _ in range(3):
            with cache:
                colour.ask(client, shape)
        (_key,) = cache._store.keys()
        kind = "text/event-stream" if "stream" in shape.name else "application/json"
        kind = {"speech": "audio/mpeg", "transcription-text": "text/plain"}.get(shape.name, kind)
        rewrite(cache, headers=[*elsewhere(evil), ("content-type", kind), ("x-request-id", "r-1")])
        before = up.calls
        with Cache(cache._store, mode="replay"):
            for _ in range(2):
                given = colour.ask(client, shape)
        assert (up.calls, evil.calls) == (before, 0)
        assert not {"location", "set-cookie", "x-should-retry", "retry-after"} & {
            name.lower() for name, _ in given.get("headers", ())
        }
        assert list(client._client.cookies.jar) == []


@pytest.mark.parametrize("given", ["r\n1", "r\0", "\x1b]0;x\x07", "r" * 9000])
def test_a_request_id_that_no_response_has_is_not_given(
    up: Upstream, colour: Colour, cache: Cache, given: str
) -> None:
    client: Any = colour.client(up)
    shape = BY_NAME["chat"]
    for _ in range(3):
        with cache:
            colour.ask(client, shape)
    rewrite(cache, headers=[("content-type", "application/json"), ("x-request-id", given)])
    with (
        Cache(cache._store, mode="replay"),
        warnings.catch_warnings(action="ignore"),
        pytest.raises(ReplayMissError, match="header"),
    ):
        colour.ask(client, shape)
