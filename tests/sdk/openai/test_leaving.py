"""A reader who leaves a stream at the reason to stop: what is left is read on, and stored."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from standin import Upstream

from cachewrap import Cache
from cachewrap.http import body, shared_body
from sdk.openai.asking import Colour, unmarked
from sdk.openai.shapes import BY_NAME, INSTALLED, RESPONSES, chat
from sdk.openai.test_shared_streams import WAIT, auntil, pieces_of_a_stream, until

QUESTION = chat(1, stream=True)


def stopped(item: Any) -> bool:
    """Whether an item tells the reason to stop."""
    return bool(getattr(item, "choices", None) and item.choices[0].finish_reason)


def read_until_stop(colour: Colour, stream: Any) -> None:
    """Read on until the reason to stop has come; the iterator is dropped then."""

    def read() -> None:
        for item in stream:
            if stopped(item):
                return

    async def aread() -> None:
        async for item in stream:
            if stopped(item):
                return

    colour.wait(read() if colour.name == "sync" else aread())


def patience(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Read on for as long."""
    for module in (body, shared_body):
        monkeypatch.setattr(module, "SECONDS", seconds)


def stalls(up: Upstream, colour: Colour) -> threading.Event:
    """The next stream stops behind its reason to stop, until this is set."""
    pause = threading.Event()
    up.once(pause=pause, pause_after=pieces_of_a_stream(up, colour) - 1)
    return pause


LEAVES: dict[str, Callable[[Colour, Any], object]] = {
    "closed": lambda colour, stream: colour.wait(stream.close()),
    "response closed": lambda colour, stream: colour.wait(
        stream.response.close() if colour.name == "sync" else stream.response.aclose()
    ),
}


@pytest.mark.parametrize("leave", LEAVES.values(), ids=LEAVES)
@pytest.mark.parametrize("single_flight", [True, False], ids=["shared", "alone"])
def test_it_is_stored_whole(
    up: Upstream,
    client: Any,
    colour: Colour,
    leave: Callable[[Colour, Any], object],
    single_flight: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patience(monkeypatch, WAIT)
    with Cache.memory(single_flight=single_flight) as cache:
        stream = colour.wait(client.chat.completions.create(**QUESTION))
        read_until_stop(colour, stream)
        leave(colour, stream)
        assert cache.stats.stored == 1
        whole = colour.ask(client, BY_NAME["chat-stream"])
    assert (up.calls, cache.stats.stored, cache.stats.misses) == (1, 1, 1)
    assert whole["events"]
    assert unmarked(whole) == unmarked(colour.ask(client, BY_NAME["chat-stream"], cache=cache))


@pytest.mark.skipif(INSTALLED < RESPONSES, reason="this version has no responses")
def test_the_last_event_of_responses_is_the_reason(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    def read() -> None:
        with client.responses.create(**BY_NAME["responses-stream"].ask(1)) as stream:
            for event in stream:
                if event.type == "response.completed":
                    return

    async def aread() -> None:
        async with await client.responses.create(**BY_NAME["responses-stream"].ask(1)) as stream:
            async for event in stream:
                if event.type == "response.completed":
                    return

    with cache:
        colour.wait(read() if colour.name == "sync" else aread())
        colour.ask(client, BY_NAME["responses-stream"])
    assert (up.calls, cache.stats.stored) == (1, 1)


@pytest.mark.parametrize("way", LEAVES)
def test_a_stall_costs_a_moment_and_stores_nothing(
    up: Upstream,
    client: Any,
    colour: Colour,
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    pause = stalls(up, colour)
    patience(monkeypatch, 0.02)
    before = up.calls
    with cache:
        stream = colour.wait(client.chat.completions.create(**QUESTION))
        read_until_stop(colour, stream)
        LEAVES[way](colour, stream)
        colour.ask(client, BY_NAME["chat-stream"])
        assert cache.stats.stored == 1
        pause.set()
    assert up.calls - before == 2


def test_who_asks_meanwhile_waits_for_the_rest(
    up: Upstream, client: Any, colour: Colour, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = stalls(up, colour)
    patience(monkeypatch, WAIT)
    before = up.calls
    with cache:
        stream = colour.wait(client.chat.completions.create(**QUESTION))
        read_until_stop(colour, stream)
        if colour.name == "sync":
            leaving = threading.Thread(target=stream.close)
            leaving.start()
            until(lambda: bool(body._under_way))
            threading.Timer(0.01, pause.set).start()
            colour.ask(client, BY_NAME["chat-stream"])
            leaving.join(WAIT)
        else:

            async def ask() -> None:
                leaving = asyncio.create_task(stream.close())
                source = stream.response.stream._self_reader.source
                await auntil(lambda: source.rest is not None)
                asyncio.get_running_loop().call_later(0.01, pause.set)
                again = await client.chat.completions.create(**QUESTION)
                assert [item async for item in again]
                await leaving

            colour.wait(ask())
    assert (up.calls - before, cache.stats.stored, cache.stats.joined) == (1, 1, 1)


@pytest.mark.parametrize("colour", ["async"], indirect=True)
def test_who_is_cancelled_waits_for_nothing(
    up: Upstream, client: Any, colour: Colour, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = stalls(up, colour)
    patience(monkeypatch, WAIT)
    before = up.calls

    async def leave() -> None:
        came = asyncio.Event()

        async def read() -> None:
            async for item in await client.chat.completions.create(**QUESTION):
                if stopped(item):
                    came.set()

        reading = asyncio.create_task(read())
        await came.wait()
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert cache.stats.stored == 0
        pause.set()
        await auntil(lambda: cache.stats.stored == 1)

    with cache:
        colour.wait(leave())
        colour.ask(client, BY_NAME["chat-stream"])
    assert up.calls - before == 1


@pytest.mark.parametrize("colour", ["sync"], indirect=True)
def test_who_is_interrupted_waits_for_nothing(
    up: Upstream, client: Any, colour: Colour, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = stalls(up, colour)
    patience(monkeypatch, WAIT)
    with cache:

        def leave() -> None:
            with client.chat.completions.create(**QUESTION) as stream:
                read_until_stop(colour, stream)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            leave()
        assert cache.stats.stored == 0
        pause.set()
        until(lambda: cache.stats.stored == 1)


def test_a_break_behind_the_reason_is_told_to_nobody(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    up.once(cut_after=pieces_of_a_stream(up, colour) - 1)
    before = up.calls
    with cache:
        stream = colour.wait(client.chat.completions.create(**QUESTION))
        read_until_stop(colour, stream)
        colour.wait(stream.close())
        assert cache.stats.stored == 0
        colour.ask(client, BY_NAME["chat-stream"])
    assert (up.calls - before, cache.stats.stored) == (2, 1)


def test_a_sync_stream_on_an_event_loops_thread(up: Upstream, cache: Cache) -> None:
    colour = Colour("sync")
    client = colour.client(up, max_retries=0)

    async def ask() -> None:
        stream = client.chat.completions.create(**QUESTION)
        read_until_stop(colour, stream)
        stream.close()
        assert client.chat.completions.create(**QUESTION).response.headers["x-cachewrap"] == "hit"

    with cache:
        asyncio.run(ask())
    assert (up.calls, cache.stats.stored) == (1, 1)
    colour.close()


@pytest.mark.skipif(INSTALLED < RESPONSES, reason="earlier SDKs run on asyncio alone")
def test_in_tasks_of_trio(up: Upstream, cache: Cache) -> None:
    trio = pytest.importorskip("trio")
    import openai

    async def ask() -> None:
        async with openai.AsyncOpenAI(api_key="sk-test", base_url=up.base_url) as client, cache:
            stream = await client.chat.completions.create(**QUESTION)
            async for item in stream:
                if stopped(item):
                    break
            await stream.close()
            assert cache.stats.stored == 1
            again = await client.chat.completions.create(**QUESTION)
            assert [item async for item in again]

    trio.run(ask)
    assert (up.calls, cache.stats.stored) == (1, 1)
