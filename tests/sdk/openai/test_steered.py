"""What turns a provider's prompt cache on makes no other request, at every door of the SDK."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from standin import Upstream

from cachewrap import Cache, patch_httpx, unpatch_openai
from sdk.openai.asking import Colour
from sdk.openai.shapes import INSTALLED, RESPONSES
from sdk.openai.test_front import LONG, QUICK, went_long
from sdk.parity import plain
from sdk.steered import (
    AT_OPENAI,
    CHAT,
    GOLDEN,
    OF_CHAT,
    OF_RESPONSES,
    RESPONSES as RESPOND,
    Change,
    ask,
    steered,
)

CASES = [("chat.completions", CHAT, name, change) for name, change in OF_CHAT.items()]
if INSTALLED >= RESPONSES:
    CASES += [("responses", RESPOND, name, change) for name, change in OF_RESPONSES.items()]
cases = pytest.mark.parametrize(
    ("api", "body", "change"),
    [(api, body, change) for api, body, _, change in CASES],
    ids=[f"{api}-{name}" for api, _, name, _ in CASES],
)


def create(client: Any, api: str) -> Any:
    for name in api.split("."):
        client = getattr(client, name)
    return client.create


@cases
def test_a_cassette_that_was_recorded_before_still_hits(
    up: Upstream, colour: Colour, tmp_path: Path, api: str, body: dict[str, Any], change: Change
) -> None:
    path = Path(shutil.copy(GOLDEN, tmp_path))
    client = colour.client(up, **AT_OPENAI)
    asked = steered(body, change)

    def call(**more: Any) -> str:
        answer = colour.wait(ask(create(client, api), {**asked, **more}))
        return answer.id

    with Cache.jsonl(path) as cache:
        with cache.mode("replay"):
            said = {call(**LONG), call()}
        said |= {call() for _ in range(2)}
        assert went_long(call) is not QUICK
        unpatch_openai()
        with patch_httpx(), cache.mode("replay"):
            said.add(call())
    assert said == {"chatcmpl-1" if body is CHAT else "resp_1"}
    assert cache.stats.hits == 6


@cases
def test_what_was_recorded_with_it_serves_who_asks_without(
    up: Upstream, client: Any, colour: Colour, api: str, body: dict[str, Any], change: Change
) -> None:
    with Cache.memory() as cache:
        colour.wait(ask(create(client, api), steered(body, change)))
        for _ in range(3):
            colour.wait(create(client, api)(**body))
        colour.wait(create(client, api)(**body, **LONG))
        unpatch_openai()
        with plain():
            colour.wait(create(client, api)(**body))
    assert up.calls == 1
    assert cache.stats.hits == 5
