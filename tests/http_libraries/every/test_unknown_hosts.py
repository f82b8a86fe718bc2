"""Questions to a model on a host that nobody has named: they go their way, and are counted."""

from __future__ import annotations

from typing import Any

import pytest

from cachewrap import Cache, Event, no_cache
from http_libraries.web import CHAT, Reading, Web, bodies

ELSEWHERE = ["model.internal:*"]


def name_of(web: Web) -> str:
    return web.up.root_url.removeprefix("http://")


@bodies
def test_they_are_counted_by_host(web: Web, cache: Cache, body: dict[str, Any]) -> None:
    web.patch(hosts=ELSEWHERE)
    with cache:
        for _ in range(2):
            assert web.ask(body, reading=Reading()).mark is None
    assert web.up.calls == 2
    assert cache.stats.bypass_reasons == {"host not known": 2}
    assert cache.stats.unknown_hosts == {name_of(web): 2}
    assert (cache.stats.calls, cache.stats.bypassed) == (0, 2)


def test_whoever_hears_of_calls_hears_why(web: Web) -> None:
    events: list[Event] = []
    web.patch(hosts=ELSEWHERE)
    with Cache.memory(on_event=events.append):
        web.ask()
    assert [(one.source, one.reason) for one in events] == [
        ("POST /v1/chat/completions", "host not known")
    ]


@pytest.mark.parametrize(
    ("body", "path", "counted"),
    [
        (CHAT, "/v1/messages", 1),
        ({"text": "hello"}, "/v1/messages", 0),
        ([], "/v1/messages", 0),
        (CHAT, "/v1/contacts", 0),
    ],
    ids=["a model", "a chat of people", "a list", "another path"],
)
def test_what_asks_no_model_is_nobodys_matter(
    web: Web, cache: Cache, body: Any, path: str, counted: int
) -> None:
    web.patch(hosts=ELSEWHERE)
    with cache:
        web.ask(body, path)
        web.get(path)
    assert cache.stats.bypassed == counted


def test_what_a_cached_part_of_the_library_serves_is_not_counted_below(
    web: Web, cache: Cache
) -> None:
    web.patch(hosts=ELSEWHERE)
    web.inject()
    with cache:
        for reading in (None, None, Reading()):
            web.ask(reading=reading)
    assert (web.up.calls, cache.stats.misses, cache.stats.bypassed) == (1, 1, 0)


def test_one_application_that_knows_the_host_is_enough(web: Web, cache: Cache) -> None:
    web.patch()
    web.patch(hosts=ELSEWHERE)
    with cache:
        web.ask()
    assert (cache.stats.misses, cache.stats.bypassed) == (1, 0)


@pytest.mark.parametrize("active", ["no block", "no cache", "mode off"])
def test_where_no_cache_would_serve_them_nothing_is_said_of_hosts(
    web: Web, cache: Cache, active: str
) -> None:
    web.patch(hosts=ELSEWHERE)
    if active == "no block":
        web.ask()
    else:
        with cache, no_cache() if active == "no cache" else cache.mode("off"):
            web.ask()
    assert cache.stats.unknown_hosts == {}
    assert cache.stats.bypass_reasons == ({"mode off": 1} if active == "mode off" else {})


def test_a_default_cache_counts_them(web: Web, cache: Cache) -> None:
    web.patch(cache, hosts=ELSEWHERE)
    web.ask()
    assert cache.stats.unknown_hosts == {name_of(web): 1}
