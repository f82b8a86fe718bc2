"""A call's own timeout is how long it waits for another one's answer at most."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from standin import Upstream

from cachewrap import Cache
from sdk.openai.shapes import chat

WAIT = 20.0
SHORT = 0.3


@dataclass
class Hung:
    """An upstream that answers the first request when it is let, and the others at once."""

    up: Upstream
    gate: threading.Event


@pytest.fixture
def hung(up: Upstream) -> Iterator[Hung]:
    hung = Hung(up, threading.Event())
    up.once(gate=hung.gate)
    yield hung
    hung.gate.set()


def plain(**more: Any) -> dict[str, Any]:
    return chat(1, **more)


def streamed(**more: Any) -> dict[str, Any]:
    return chat(1, stream=True, **more)


Asked = Callable[..., dict[str, Any]]
asks = pytest.mark.parametrize("asked", [plain, streamed])

TIMEOUTS = [
    pytest.param({}, {"timeout": SHORT}, id="of-the-call"),
    pytest.param({}, {"timeout": openai.Timeout(WAIT, read=SHORT)}, id="of-the-call-for-reading"),
    pytest.param({"timeout": SHORT}, {}, id="of-the-client"),
    pytest.param({"timeout": openai.Timeout(WAIT, read=SHORT)}, {}, id="of-the-client-for-reading"),
    pytest.param({"timeout": WAIT}, {"timeout": SHORT}, id="of-the-call-before-the-client's"),
]


def client(up: Upstream, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=up.base_url, api_key="sk", max_retries=0, **options)


def aclient(up: Upstream, **options: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=up.base_url, api_key="sk", max_retries=0, **options)


def read(answer: Any) -> Any:
    return list(answer) if isinstance(answer, openai.Stream) else answer


async def aread(answer: Any) -> Any:
    return [one async for one in answer] if isinstance(answer, openai.AsyncStream) else answer


def follow(hung: Hung, cache: Cache, asked: Asked, of_client: Any, of_call: Any) -> float:
    """The seconds of a sync call that is made while another one hangs."""
    up = hung.up

    def lead() -> None:
        with cache:
            assert read(client(up).chat.completions.create(**asked(timeout=WAIT)))

    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(lead)
        up.wait_for(1, WAIT)
        began = time.monotonic()
        with cache:
            assert read(client(up, **of_client).chat.completions.create(**asked(**of_call)))
        taken = time.monotonic() - began
        hung.gate.set()
        leader.result(WAIT)
    assert up.calls == 2
    return taken


def afollow(hung: Hung, cache: Cache, asked: Asked, of_client: Any, of_call: Any) -> float:
    """`follow` for a task beside another one."""
    up = hung.up

    async def lead() -> None:
        assert await aread(await aclient(up).chat.completions.create(**asked(timeout=WAIT)))

    async def main() -> float:
        async with cache:
            leader = asyncio.create_task(lead())
            while not up.calls:
                await asyncio.sleep(0.001)
            began = time.monotonic()
            asking = aclient(up, **of_client)
            assert await aread(await asking.chat.completions.create(**asked(**of_call)))
            taken = time.monotonic() - began
            hung.gate.set()
            await leader
        return taken

    taken = asyncio.run(main())
    assert up.calls == 2
    return taken


ways = pytest.mark.parametrize("way", [follow, afollow])


@ways
@asks
@pytest.mark.parametrize(("of_client", "of_call"), TIMEOUTS)
def test_a_call_waits_for_another_one_as_long_as_its_timeout(
    hung: Hung, cache: Cache, way: Any, asked: Asked, of_client: Any, of_call: Any
) -> None:
    assert SHORT <= way(hung, cache, asked, of_client, of_call) < WAIT / 2


@ways
@asks
@pytest.mark.parametrize("timeout", [None, WAIT, openai.Timeout(None)], ids=["none", "long", "no"])
def test_and_no_longer_than_its_cache_says(
    hung: Hung, way: Any, asked: Asked, timeout: Any
) -> None:
    cache = Cache.memory(wait_seconds=SHORT)
    assert SHORT <= way(hung, cache, asked, {}, {"timeout": timeout}) < WAIT / 2


def test_what_it_got_is_stored(hung: Hung, cache: Cache) -> None:
    follow(hung, cache, plain, {}, {"timeout": SHORT})
    with cache:
        client(hung.up).chat.completions.create(**plain())
    assert (hung.up.calls, cache.stats.hits, cache.stats.joined) == (2, 1, 0)


def test_a_hit_reads_no_timeout(up: Upstream, cache: Cache) -> None:
    class Unread:
        """A timeout that tells when it is read."""

        @property
        def read(self) -> float:
            raise AssertionError("it was read")

    with cache:
        client(up).chat.completions.create(**plain())
        asking = client(up, timeout=Unread())
        asking.chat.completions.create(**plain())
        asking.chat.completions.with_raw_response.create(**plain())
    assert cache.stats.hits == 2
