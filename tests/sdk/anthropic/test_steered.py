"""What turns a provider's prompt cache on makes no other request, at every door of the SDK."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from standin import Upstream

from cachewrap import Cache, patch_httpx, unpatch_anthropic
from sdk.anthropic.asking import Colour
from sdk.anthropic.test_front import LONG, went_long
from sdk.parity import plain
from sdk.steered import (
    AT_ANTHROPIC,
    GOLDEN,
    MESSAGES,
    OF_MESSAGES,
    Change,
    ask,
    steered,
)

cases = pytest.mark.parametrize("change", OF_MESSAGES.values(), ids=list(OF_MESSAGES))


@cases
def test_a_cassette_that_was_recorded_before_still_hits(
    up: Upstream, colour: Colour, tmp_path: Path, change: Change
) -> None:
    path = Path(shutil.copy(GOLDEN, tmp_path))
    client = colour.client(up, **AT_ANTHROPIC)
    asked = steered(MESSAGES, change)

    def call(**more: Any) -> str:
        answer = colour.wait(ask(client.messages.create, {**asked, **more}))
        return answer.id

    with Cache.jsonl(path) as cache:
        with cache.mode("replay"):
            said = {call(**LONG), call()}
        said |= {call() for _ in range(2)}
        assert not went_long(call)
        unpatch_anthropic()
        with patch_httpx(), cache.mode("replay"):
            said.add(call())
    assert said == {"msg_1"}
    assert cache.stats.hits == 6


@cases
def test_what_was_recorded_with_it_serves_who_asks_without(
    up: Upstream, client: Any, colour: Colour, change: Change
) -> None:
    with Cache.memory() as cache:
        colour.wait(ask(client.messages.create, steered(MESSAGES, change)))
        for _ in range(3):
            colour.wait(client.messages.create(**MESSAGES))
        colour.wait(client.messages.create(**MESSAGES, **LONG))
        unpatch_anthropic()
        with plain():
            colour.wait(client.messages.create(**MESSAGES))
    assert up.calls == 1
    assert cache.stats.hits == 5
