"""Mode replay stays at home: what would reach a model is refused before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anthropic
import pytest
from standin import Upstream

from cachewrap import Cache, ReplayMissError
from cachewrap.http.routes import reaches_model
from sdk.anthropic.asking import Colour
from sdk.anthropic.shapes import message
from sdk.resources import posts

Use = Callable[[Any], Any]

REFUSED: list[tuple[str, str, Use]] = [
    ("batch", "endpoint", lambda c: c.messages.batches.create(requests=[])),
    ("batch of the beta", "endpoint", lambda c: c.beta.messages.batches.create(requests=[])),
    (
        "container",
        "container",
        lambda c: c.messages.create(**message(1), extra_body={"container": "container_1"}),
    ),
    ("unknown endpoint", "endpoint", lambda c: c.post("/v1/dreams", cast_to=object, body={})),
]
THROUGH: list[tuple[str, str, Use]] = [
    ("models", "method", lambda c: c.models.list()),
    ("batches", "method", lambda c: c.messages.batches.list()),
    ("end of a batch", "endpoint", lambda c: c.messages.batches.cancel("batch_1")),
    ("upload", "endpoint", lambda c: c.beta.files.upload(file=("a.txt", b"a"))),
    ("removal", "method", lambda c: c.delete("/v1/files/file_1", cast_to=object)),
]


def rows(table: list[tuple[str, str, Use]]) -> list[Any]:
    return [pytest.param(reason, use, id=name) for name, reason, use in table]


@pytest.mark.parametrize(("reason", "use"), rows(REFUSED))
def test_what_reaches_a_model_is_refused(
    up: Upstream, client: Any, colour: Colour, reason: str, use: Use
) -> None:
    cache = Cache.memory(mode="replay")
    with cache, pytest.raises(ReplayMissError, match=rf"^POST /v1/.* \({reason}\) is not sent"):
        colour.wait(use(client))
    assert (up.calls, cache.stats.bypassed) == (0, 0)


def test_a_client_with_a_middleware_is_refused(up: Upstream, colour: Colour) -> None:
    client = colour.client(up, max_retries=0)
    client._middleware = [object()]
    with (
        Cache.memory(mode="replay"),
        pytest.raises(ReplayMissError, match="middleware decides the answer"),
    ):
        colour.wait(client.messages.create(**message(1)))
    assert up.calls == 0


@pytest.mark.parametrize(("reason", "use"), rows(THROUGH))
def test_what_reaches_none_goes_through_and_is_counted(
    up: Upstream, client: Any, colour: Colour, reason: str, use: Use
) -> None:
    with Cache.memory(mode="replay") as cache, suppress(anthropic.APIError):
        colour.wait(use(client))
    assert (up.calls, cache.stats.bypass_reasons) == (1, {reason: 1})


@pytest.mark.parametrize(("reason", "use"), rows(THROUGH))
def test_a_strict_cache_refuses_that_too(
    up: Upstream, client: Any, colour: Colour, reason: str, use: Use
) -> None:
    with (
        Cache.memory(mode="replay", replay="strict"),
        pytest.raises(ReplayMissError, match=rf"\({reason}\).*\n?.*strict"),
    ):
        colour.wait(use(client))
    assert up.calls == 0


# Every POST request of the SDK's own resources, in the versions that are tested; `x` is an id. A
# path that a newer version has is to be put where it belongs.
ASKS = """
    v1/agents v1/agents/x v1/compliance/review/cases/x/respond v1/deployments v1/deployments/x
    v1/deployments/x/run v1/deployments/x/unpause v1/dreams v1/environments v1/environments/x
    v1/environments/x/work/x v1/environments/x/work/x/ack v1/environments/x/work/x/heartbeat
    v1/messages v1/messages/batches v1/messages/count_tokens v1/sessions v1/sessions/x
    v1/sessions/x/events v1/sessions/x/resources v1/sessions/x/resources/x v1/tunnels
    v1/tunnels/x/certificates v1/tunnels/x/reveal_token v1/tunnels/x/rotate_token
""".split()
KEEPS = """
    v1/agents/x/archive v1/deployments/x/archive v1/deployments/x/pause v1/dreams/x/archive
    v1/dreams/x/cancel v1/environments/x/archive v1/environments/x/work/x/stop v1/files
    v1/memory_stores v1/memory_stores/x v1/memory_stores/x/archive v1/memory_stores/x/memories
    v1/memory_stores/x/memories/x v1/memory_stores/x/memory_versions/x/redact
    v1/messages/batches/x/cancel v1/sessions/x/archive v1/sessions/x/threads/x/archive v1/skills
    v1/skills/x/versions v1/tunnels/x/archive v1/tunnels/x/certificates/x/archive
    v1/user_profiles v1/user_profiles/x v1/user_profiles/x/action_urls
    v1/user_profiles/x/enrollment_url v1/user_profiles/x/providers/google/data_controls
    v1/vaults v1/vaults/x v1/vaults/x/archive v1/vaults/x/credentials v1/vaults/x/credentials/x
    v1/vaults/x/credentials/x/archive v1/vaults/x/credentials/x/mcp_oauth_validate
""".split()
ADMINISTERS = "v1/organizations/"


def test_every_request_of_the_sdk_is_known() -> None:
    found = {path for path in posts("anthropic") if not path.startswith(ADMINISTERS)}
    assert found - {*ASKS, *KEEPS} == set()


def test_the_rule_tells_what_asks_a_model() -> None:
    assert [path for path in ASKS if not reaches_model("POST", f"/{path}")] == []
    kept = [*KEEPS, f"{ADMINISTERS}x"]
    assert [path for path in kept if reaches_model("POST", f"/{path}")] == []
