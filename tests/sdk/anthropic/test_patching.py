"""Putting the seam into the Anthropic SDK and taking it out again."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import anthropic
import pytest
from anthropic._base_client import AsyncAPIClient, SyncAPIClient
from anthropic.lib.bedrock._beta_messages import Messages as BedrockBeta
from anthropic.lib.vertex._beta_messages import Messages as VertexBeta
from standin import Upstream

from cachewrap import Cache, patch_anthropic, unpatch_anthropic
from sdk.anthropic.asking import Colour
from sdk.anthropic.shapes import BY_NAME

MESSAGE = BY_NAME["messages"]
TARGETS: list[tuple[type, str]] = [
    (SyncAPIClient, "request"),
    (SyncAPIClient, "_process_response"),
    (AsyncAPIClient, "request"),
    (anthropic.resources.messages.Messages, "create"),
    (anthropic.resources.messages.AsyncMessages, "stream"),
    (anthropic.resources.beta.messages.Messages, "create"),
    (BedrockBeta, "create"),
    (VertexBeta, "create"),
]


def places() -> list[Any]:
    return [vars(owner)[name].__code__ for owner, name in TARGETS]


def same(one: list[Any], other: list[Any]) -> bool:
    return all(a is b for a, b in zip(one, other, strict=True))


@pytest.fixture(autouse=True)
def patched() -> None:
    """These tests patch for themselves."""
    unpatch_anthropic()


def test_unpatching_gives_the_very_originals_back() -> None:
    before = places()
    handle = patch_anthropic()
    assert not any(now is then for now, then in zip(places(), before, strict=True))
    once = places()
    patch_anthropic()
    assert same(places(), once)
    unpatch_anthropic()
    assert same(places(), before)
    assert not handle.active


def test_a_default_cache_serves_calls_outside_any_block(
    up: Upstream, client: Any, colour: Colour
) -> None:
    with patch_anthropic(Cache.memory()):
        assert colour.ask(client, MESSAGE) == colour.ask(client, MESSAGE)
    colour.ask(client, MESSAGE)
    assert up.calls == 2


def test_without_the_patch_nothing_is_cached(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        colour.ask(client, MESSAGE)
        colour.ask(client, MESSAGE)
    assert up.calls == 2


EARLY = """
import sys
import cachewrap
cachewrap.patch_anthropic()
assert "anthropic" not in sys.modules
import anthropic
from anthropic.lib.bedrock._beta_messages import Messages
args = dict(model="claude-x", max_tokens=5, messages=[])
with cachewrap.Cache.memory() as cache:
    client = anthropic.Anthropic(base_url=sys.argv[1], api_key="k")
    for _ in range(2):
        client.messages.create(**args, cache_seed=7)
    bedrock = anthropic.AnthropicBedrock(
        base_url=sys.argv[1], aws_region="r", aws_access_key="a", aws_secret_key="s"
    )
    for _ in range(2):
        bedrock.beta.messages.create(**args, cache=cache)
cachewrap.unpatch_anthropic()
for owner in (anthropic.resources.messages.Messages, Messages):
    held = vars(owner)["create"].__code__.co_consts
    assert not any("cachewrap" in type(one).__module__ for one in held), owner
"""


def test_the_patch_may_come_before_the_import_of_the_sdk(up: Upstream) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EARLY, up.root_url], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, up.calls) == (0, 2), done.stderr


@pytest.mark.parametrize("shape", [MESSAGE, BY_NAME["messages-stream"]], ids=lambda s: s.name)
@pytest.mark.parametrize("stores", [True, False])
def test_when_says_what_is_stored(
    up: Upstream, client: Any, colour: Colour, cache: Cache, shape: Any, stores: bool
) -> None:
    with patch_anthropic(when=lambda answer: stores), cache:
        for _ in range(2):
            colour.ask(client, shape)
    assert (up.calls, cache.stats.stored) == ((1, 1) if stores else (2, 0))
