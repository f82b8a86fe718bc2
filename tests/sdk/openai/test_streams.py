"""A stream is handed on as it comes, and stored only when it has come to its end."""

from __future__ import annotations

import importlib
import threading
from typing import Any

import openai
import pytest
from standin import Upstream

from cachewrap import Cache
from sdk.openai.asking import Colour, unmarked
from sdk.openai.shapes import BY_NAME, INSTALLED, RESPONSES, chat


def transport() -> Any:
    """The HTTP library of openai 1.x and 2.x."""
    return importlib.import_module("httpx")


NAMES = ["chat-stream", "completions-stream"]
NAMES += ["responses-stream"] if INSTALLED >= RESPONSES else []
CHUNKS = ["chat-open-chunks", "chat-open-lines", "chat-open-stream", "speech-open-chunks"]
CHUNKS += ["responses-open-chunks"] if INSTALLED >= RESPONSES else []

WIRES = [
    {},
    {"awkward": True},
    {"gzip": True},
    {"gzip": True, "awkward": True},
    {"gap": 0.002},
    {"done": False},
]


# Openai 1.x and 2.x let the transport's own error through where 3.x wraps it.
BROKEN = (openai.APIError, *(() if INSTALLED >= (3, 0) else (transport().TransportError,)))


def wire_id(manner: dict[str, Any]) -> str:
    return "-".join(manner) or "plain"


@pytest.mark.parametrize("manner", WIRES, ids=wire_id)
@pytest.mark.parametrize("name", [*NAMES, *CHUNKS])
def test_a_replayed_stream_equals_the_recorded_one(
    up: Upstream, client: Any, colour: Colour, cache: Cache, name: str, manner: dict[str, Any]
) -> None:
    up.behave(**manner)
    with cache:
        first = colour.ask(client, BY_NAME[name])
        second = colour.ask(client, BY_NAME[name])
    assert (up.calls, unmarked(second)) == (1, unmarked(first))


@pytest.mark.parametrize(
    "manner",
    [
        {"cut_after": 0},
        {"cut_after": 3},
        {"cut_after": 3, "gzip": True},
        {"error_after": 3},
    ],
    ids=["cut at once", "cut", "cut while compressed", "error event"],
)
@pytest.mark.parametrize("name", NAMES)
def test_a_stream_that_breaks_is_raised_and_not_stored(
    up: Upstream, client: Any, colour: Colour, cache: Cache, name: str, manner: dict[str, Any]
) -> None:
    up.once(**manner)
    with cache:
        with pytest.raises(BROKEN):
            colour.ask(client, BY_NAME[name])
        colour.ask(client, BY_NAME[name])
    assert (up.calls, cache.stats.stored) == (2, 1)


@pytest.mark.parametrize("done", [True, False], ids=["with done", "without done"])
@pytest.mark.parametrize("name", NAMES)
def test_a_stream_that_does_not_say_that_it_is_finished_is_not_stored(
    up: Upstream, client: Any, colour: Colour, cache: Cache, name: str, done: bool
) -> None:
    up.once(finish=False, done=done)
    with cache:
        colour.ask(client, BY_NAME[name])
        colour.ask(client, BY_NAME[name])
    assert (up.calls, cache.stats.stored) == (2, 1)


async def take_async(stream: Any, count: int) -> list[Any]:
    taken = []
    async for item in stream:
        taken.append(item)
        if len(taken) == count:
            break
    return taken


def take(colour: Colour, stream: Any, count: int) -> list[Any]:
    if colour.name == "async":
        return colour.wait(take_async(stream, count))  # type: ignore[no-any-return]
    return [item for item, _ in zip(stream, range(count), strict=False)]


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_left_early_is_not_stored(
    up: Upstream, client: Any, colour: Colour, cache: Cache, name: str
) -> None:
    shape = BY_NAME[name]
    pause = threading.Event()
    up.once(pause=pause, pause_after=4)
    method = client.chat.completions if name.startswith("chat") else None
    method = method or getattr(client, name.partition("-")[0])
    with cache:
        stream = colour.wait(method.create(**shape.ask(1)))
        assert len(take(colour, stream, 2)) == 2
        colour.wait(stream.close())
        pause.set()
        colour.ask(client, shape)
        assert (up.calls, cache.stats.stored) == (2, 1)
        colour.ask(client, shape)
    assert up.calls == 2


def test_pieces_are_handed_on_before_the_stream_ends(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    pause = threading.Event()
    up.once(pause=pause, pause_after=3)
    with cache:
        stream = colour.wait(client.chat.completions.create(**chat(1, stream=True)))
        assert len(take(colour, stream, 2)) == 2
        pause.set()
        colour.wait(stream.close())


def test_two_open_streams_of_one_request_do_not_wait_for_each_other(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        streams = [
            colour.wait(client.chat.completions.create(**chat(1, stream=True))) for _ in range(2)
        ]
        taken = [len(take(colour, stream, 2)) for stream in streams]
        for stream in streams:
            colour.wait(stream.close())
    assert taken == [2, 2]


def test_a_replayed_stream_can_be_left_early_and_asked_again(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    shape = BY_NAME["chat-stream"]
    with cache:
        first = colour.ask(client, shape)
        stream = colour.wait(client.chat.completions.create(**shape.ask(1)))
        take(colour, stream, 2)
        colour.wait(stream.close())
        again = colour.ask(client, shape)
    assert (up.calls, again["events"]) == (1, first["events"])


def test_a_stream_may_end_after_its_block(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    shape = BY_NAME["chat-stream"]
    with cache:
        stream = colour.wait(client.chat.completions.create(**shape.ask(1)))
    assert take(colour, stream, 1000)
    with cache:
        colour.ask(client, shape)
    assert up.calls == 1


def test_plain_json_in_place_of_a_stream_is_no_stream(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    up.once(stream=False)
    with cache:
        colour.wait(drain(colour, client))
        again = colour.ask(client, BY_NAME["chat-stream"])
    assert up.calls == 2
    assert len(again["events"]) > 2


def drain(colour: Colour, client: Any) -> Any:
    """Read a stream to its end, whatever the SDK makes of it."""
    if colour.name == "sync":
        return list(client.chat.completions.create(**chat(1, stream=True)))

    async def read() -> list[Any]:
        stream = await client.chat.completions.create(**chat(1, stream=True))
        return [item async for item in stream]

    return read()


@pytest.mark.parametrize("read", ["all at once", "in part"])
def test_an_open_response_is_stored_when_it_was_read_whole(
    up: Upstream, client: Any, colour: Colour, cache: Cache, read: str
) -> None:
    opened = client.audio.speech.with_streaming_response.create

    def once() -> None:
        with opened(**BY_NAME["speech"].ask(1)) as response:
            if read == "all at once":
                response.read()
            else:
                next(response.iter_bytes())

    async def aonce() -> None:
        async with opened(**BY_NAME["speech"].ask(1)) as response:
            if read == "all at once":
                await response.read()
            else:
                await anext(response.iter_bytes())

    with cache:
        for _ in range(2):
            colour.wait(once() if colour.name == "sync" else aonce())
    assert up.calls == (1 if read == "all at once" else 2)


def test_an_error_event_says_what_upstream_said(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    up.once(error_after=1)
    with cache, pytest.raises(openai.APIError, match=r"It broke\."):
        colour.ask(client, BY_NAME["chat-stream"])
