"""Aliases of requests over plain HTTP, whole and streamed, by every library."""

from __future__ import annotations

from typing import Any

import pytest

from cachewrap import Cache, CacheWarning
from http_libraries.web import CHAT, LOOPBACK, STREAM, Web, bodies


def other(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "messages": [{"role": "user", "content": "Question one, please"}]}


def key_of(web: Web, cache: Cache, body: dict[str, Any]) -> str:
    """The key that a request is stored under."""
    before = set(cache.store.keys())
    web.ask(body)
    (key,) = set(cache.store.keys()) - before
    return key


@bodies
def test_a_request_is_answered_by_the_entry_of_another_one(
    web: Web, cache: Cache, body: dict[str, Any]
) -> None:
    with web.patch(hosts=LOOPBACK), cache:
        one, two = key_of(web, cache, body), key_of(web, cache, other(body))
        first = web.ask(body).body
        cache.delete(two)
        cache.alias(two, one)
        assert [web.ask(other(body)).body for _ in range(2)] == [first, first]
        with cache.mode("replay"):
            assert web.ask(other(body)).body == first
    assert (web.up.calls, cache.stats.hits_by_alias) == (2, 3)


def test_whole_answers_are_none_to_who_asks_for_a_stream(web: Web, cache: Cache) -> None:
    with web.patch(hosts=LOOPBACK), cache:
        one, two = key_of(web, cache, CHAT), key_of(web, cache, STREAM)
        first = web.ask(STREAM).body
        cache.delete(two)
        cache.alias(two, one)
        with pytest.warns(CacheWarning, match="leads to no stream"):
            assert web.ask(STREAM).body != first
    assert (web.up.calls, cache.stats.hits_by_alias) == (3, 0)
