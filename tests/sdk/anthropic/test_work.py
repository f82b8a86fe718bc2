"""How much work a hit of the SDK is, counted in Python calls."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from standin import Upstream
from working import SLACK, count

from cachewrap import Cache
from sdk.anthropic.shapes import INSTALLED, message

pytestmark = pytest.mark.skipif(
    INSTALLED < (1, 0), reason="this version's models are left to the SDK"
)


@pytest.fixture
def client(up: Upstream) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key="k", base_url=up.root_url)


def test_a_hit_makes_few_calls_of_ours(client: anthropic.Anthropic, cache: Cache) -> None:
    ask: Any = message(1)
    with cache:
        assert count(lambda: client.messages.create(**ask), "cachewrap.") <= 70 + SLACK


def test_an_event_of_a_stream_makes_few_calls(client: anthropic.Anthropic, cache: Cache) -> None:
    ask: Any = message(1, stream=True)
    with cache:
        events = len(list(client.messages.create(**ask)))
        whole = count(lambda: list(client.messages.create(**ask)))
        opened = count(lambda: client.messages.create(**ask).response)
    assert (whole - opened) / events <= 12
