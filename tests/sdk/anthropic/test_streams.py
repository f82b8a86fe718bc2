"""A stream is handed on as it comes, and stored only when it has come to its end."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pytest
from standin import Upstream

from cachewrap import Cache
from cachewrap.http import body, shared_body
from sdk.anthropic.asking import Colour
from sdk.anthropic.shapes import BY_NAME, Shape, message
from sdk.openai.asking import unmarked

NAMES = [
    *("messages-stream", "messages-helper", "beta-stream", "bedrock-stream", "bedrock-helper"),
    *("vertex-stream", "tools-stream"),
]
streams = pytest.mark.parametrize("shape", [BY_NAME[name] for name in NAMES], ids=lambda s: s.name)


@pytest.fixture
def client(up: Upstream, colour: Colour, shape: Shape) -> Any:
    return colour.client(up, shape.client, max_retries=0)


WIRES = [{}, {"awkward": True}, {"gzip": True}, {"gzip": True, "awkward": True}]


@pytest.mark.parametrize("manner", WIRES, ids=lambda manner: "-".join(manner) or "plain")
@streams
def test_a_replayed_stream_equals_the_recorded_one(
    up: Upstream,
    client: Any,
    colour: Colour,
    cache: Cache,
    shape: Shape,
    manner: dict[str, Any],
) -> None:
    up.behave(**manner)
    with cache:
        first, second = colour.ask(client, shape), colour.ask(client, shape)
    assert (up.calls, unmarked(second)) == (1, unmarked(first))


BROKEN = {
    "cut at once": {"cut_after": 0},
    "cut": {"cut_after": 3},
    "cut while compressed": {"cut_after": 3, "gzip": True},
    "error event": {"error_after": 3},
    "error at once": {"error_after": 0},
}


@pytest.mark.parametrize("manner", BROKEN.values(), ids=BROKEN)
@streams
def test_a_stream_that_breaks_is_raised_and_not_stored(
    up: Upstream,
    client: Any,
    colour: Colour,
    cache: Cache,
    shape: Shape,
    manner: dict[str, Any],
) -> None:
    up.once(**manner)
    with cache:
        with pytest.raises(Exception, match=r"broke|incomplete|peer|connection|Connection"):
            colour.ask(client, shape)
        colour.ask(client, shape)
    assert (up.calls, cache.stats.stored) == (2, 1)


@streams
def test_a_stream_without_its_closing_event_is_not_stored(
    up: Upstream, client: Any, colour: Colour, cache: Cache, shape: Shape
) -> None:
    up.once(finish=False)
    with cache:
        # Newer helpers miss the event as well.
        with contextlib.suppress(RuntimeError):
            colour.ask(client, shape)
        assert cache.stats.stored == 0
        colour.ask(client, shape)
    assert (up.calls, cache.stats.stored) == (2, 1)


@pytest.mark.parametrize("shape", [BY_NAME["messages-stream"]], ids=lambda s: s.name)
def test_a_stream_left_early_is_not_stored(
    up: Upstream, client: Any, colour: Colour, cache: Cache, shape: Shape
) -> None:
    pause = threading.Event()
    up.once(pause=pause, pause_after=4)

    def leave() -> None:
        stream = client.messages.create(**message(1, stream=True))
        next(iter(stream))
        stream.close()

    async def aleave() -> None:
        stream = await client.messages.create(**message(1, stream=True))
        await anext(aiter(stream))
        await stream.close()

    with cache:
        colour.wait(leave() if colour.name == "sync" else aleave())
        pause.set()
        colour.ask(client, shape)
    assert (up.calls, cache.stats.stored) == (2, 1)


@pytest.mark.parametrize("shape", [BY_NAME["messages-stream"]], ids=lambda s: s.name)
def test_a_stream_left_at_its_stop_reason_is_stored(
    up: Upstream,
    client: Any,
    colour: Colour,
    cache: Cache,
    shape: Shape,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(body, "SECONDS", 20.0)
    monkeypatch.setattr(shared_body, "SECONDS", 20.0)

    def leave() -> None:
        with client.messages.create(**message(1, stream=True)) as stream:
            assert any(event.type == "message_delta" for event in stream)

    async def aleave() -> None:
        async with await client.messages.create(**message(1, stream=True)) as stream:
            async for event in stream:
                if event.type == "message_delta":
                    return

    with cache:
        colour.wait(leave() if colour.name == "sync" else aleave())
        assert cache.stats.stored == 1
        assert colour.ask(client, shape)["events"][-1]["fields"]["type"][1] == "message_stop"
    assert up.calls == 1


@pytest.mark.parametrize("shape", [BY_NAME["messages-stream"]], ids=lambda s: s.name)
def test_the_tokens_of_a_stream_are_counted(
    client: Any, colour: Colour, cache: Cache, shape: Shape
) -> None:
    with cache:
        colour.ask(client, shape)
        told = [event["dump"].get("usage") for event in colour.ask(client, shape)["events"]]
    assert cache.stats.tokens_saved > max(usage["output_tokens"] for usage in told if usage)
