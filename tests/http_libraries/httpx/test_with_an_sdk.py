"""The OpenAI SDK above a patched httpx: patched itself, or cached by its transport alone."""

from __future__ import annotations

from typing import Any

import pytest
from sdk.openai.asking import Colour
from standin import Upstream

from cachewrap import Cache, patch_httpx, patch_openai
from http_libraries.web import CHAT, LOOPBACK


def sdk_chat(colour: Colour, client: Any, **more: Any) -> Any:
    return colour.wait(client.chat.completions.create(**{**CHAT, **more}))


@pytest.mark.parametrize("more", [{}, {"stream": True}, {"extra_body": {"background": True}}])
def test_what_a_patched_sdk_has_decided_on_is_counted_there_whatever_the_host(
    up: Upstream, colour: Colour, cache: Cache, more: dict[str, Any]
) -> None:
    client = colour.client(up)
    with patch_openai(), patch_httpx(hosts=["model.internal"]), cache:
        answer = sdk_chat(colour, client, **more)
        if "stream" in more:
            colour.wait(answer.close())
    assert "host not known" not in cache.stats.bypass_reasons
    assert cache.stats.unknown_hosts == {}


@pytest.mark.parametrize("order", ["sdk first", "httpx first"])
def test_a_patched_sdk_is_not_cached_twice(
    up: Upstream, colour: Colour, cache: Cache, order: str
) -> None:
    client = colour.client(up)
    patches = [patch_openai, lambda: patch_httpx(hosts=LOOPBACK)]
    for patch in patches if order == "sdk first" else reversed(patches):
        patch()
    with cache:
        for _ in range(2):
            sdk_chat(colour, client)
    assert (up.calls, len(list(cache.keys()))) == (1, 1)
    assert (cache.stats.misses, cache.stats.hits, cache.stats.stored) == (1, 1, 1)


@pytest.mark.parametrize(
    "more",
    [{"cache_seed": None}, {"extra_body": {"background": True}}],
    ids=["not cached by choice", "not cached by kind"],
)
def test_what_a_patched_sdk_leaves_alone_is_left_alone(
    up: Upstream, colour: Colour, cache: Cache, more: dict[str, Any]
) -> None:
    client = colour.client(up)
    with patch_openai(), patch_httpx(hosts=LOOPBACK), cache:
        for _ in range(2):
            sdk_chat(colour, client, **more)
    assert (up.calls, cache.stats.stored) == (2, 0)


@pytest.mark.parametrize(
    "more",
    [
        {"cache_seed": None},
        {"mode": "off"},
        {"cache_seed": None, "cache": Cache.memory()},
        {"extra_body": {"background": True}},
    ],
    ids=["no seed", "mode off", "no seed for its cache", "not cached by kind"],
)
def test_what_a_patched_sdk_leaves_alone_is_no_matter_for_the_default_below(
    up: Upstream, colour: Colour, cache: Cache, more: dict[str, Any]
) -> None:
    client = colour.client(up)
    with patch_openai(cache), patch_httpx(cache, hosts=LOOPBACK):
        for _ in range(2):
            sdk_chat(colour, client, **more)
    assert (up.calls, cache.stats.stored) == (2, 0)


def test_a_call_that_no_cache_of_the_sdk_serves_is_served_by_the_default_below(
    up: Upstream, colour: Colour, cache: Cache
) -> None:
    client = colour.client(up)
    with patch_openai(), patch_httpx(cache, hosts=LOOPBACK):
        for _ in range(2):
            sdk_chat(colour, client)
    assert (up.calls, cache.stats.stored) == (1, 1)


def test_an_sdk_that_is_not_patched_is_cached_by_its_transport(
    up: Upstream, colour: Colour, cache: Cache
) -> None:
    client = colour.client(up)
    with patch_httpx(hosts=LOOPBACK), cache:
        first, second = sdk_chat(colour, client), sdk_chat(colour, client)
        assert first == second
        events = []
        for _ in range(2):
            stream = sdk_chat(colour, client, stream=True)
            if colour.name == "sync":
                events.append(list(stream))
            else:
                events.append(colour.wait(drain(stream)))
    assert (up.calls, events[0]) == (2, events[1])


async def drain(stream: Any) -> list[Any]:
    return [item async for item in stream]
