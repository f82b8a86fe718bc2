"""What holds for every library of plain HTTP, patched or with a part of ours put in."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from standin import SECRET_HEADERS, Upstream

from cachewrap import Cache, ConfigurationError, no_cache
from cachewrap.format import codec
from cachewrap.format.envelope import unseal
from cachewrap.stores.memory import MemoryStore
from http_libraries.web import CHAT, LOOPBACK, PATH, STREAM, WEBS, Reading, Web, bodies

Way = Callable[[Web], object]


def patched(web: Web) -> None:
    web.patch(hosts=LOOPBACK)


def injected(web: Web) -> None:
    web.inject()


def both(web: Web) -> None:
    patched(web)
    injected(web)


ways = pytest.mark.parametrize("way", [patched, injected, both])
readings = pytest.mark.parametrize("reading", [None, Reading()], ids=["read", "open"])
codings = pytest.mark.parametrize("coding", [{}, {"gzip": True}], ids=["plain", "gzip"])
failures = pytest.mark.parametrize(
    "manner",
    [{"status": 429}, {"body": b'{"error": {"message": "busy"}}'}, {"body": b'{"cut'}],
    ids=["status", "error body", "no JSON"],
)
interruptions = pytest.mark.parametrize(
    "manner",
    [{"cut_after": 3}, {"error_after": 3}, {"finish": False}, {"status": 500}],
    ids=lambda manner: next(iter(manner)),
)


# -- two identical requests -----------------------------------------------------------------------


@ways
@bodies
@readings
@codings
def test_two_identical_requests_make_one_upstream_call(
    web: Web,
    cache: Cache,
    way: Way,
    body: dict[str, Any],
    reading: Reading | None,
    coding: dict[str, Any],
) -> None:
    web.up.behave(**coding)
    way(web)
    with cache:
        first, second = (web.ask(body, reading=reading) for _ in range(2))
        web.ask({**body, "seed": 2}, reading=reading)
    assert web.up.calls == 2
    assert (first.mark, second.mark) == (None, "hit")
    assert (first.status, first.body) == (second.status, second.body)
    assert (cache.stats.misses, cache.stats.hits, cache.stats.stored) == (2, 1, 2)


@ways
@pytest.mark.parametrize(
    "manner",
    [{}, {"gzip": True}, {"awkward": True}, {"done": False}],
    ids=lambda manner: "-".join(manner) or "plain",
)
def test_a_replayed_stream_equals_the_recorded_one(
    web: Web, cache: Cache, way: Way, manner: dict[str, Any]
) -> None:
    web.up.behave(**manner)
    way(web)
    with cache:
        first, second = (web.ask(STREAM, reading=Reading()) for _ in range(2))
    assert (web.up.calls, second.chunks, second.mark) == (1, first.chunks, "hit")
    assert (cache.stats.misses, cache.stats.hits) == (1, 1)


@ways
@bodies
def test_samples_are_answers_of_their_own(
    web: Web, cache: Cache, way: Way, body: dict[str, Any]
) -> None:
    way(web)
    with cache.samples():
        first = [web.ask(body).body for _ in range(3)]
    with cache.samples():
        again = [web.ask(body).body for _ in range(3)]
    assert (web.up.calls, first) == (3, again)
    assert len(set(first)) == 3


@bodies
def test_requests_at_the_same_time_share_one_upstream_call(
    web: Web, cache: Cache, body: dict[str, Any]
) -> None:
    patched(web)
    gate = threading.Event()
    web.up.behave(gate=gate)

    def admit() -> None:
        web.up.wait_for(1)
        gate.set()

    opener = threading.Thread(target=admit)
    opener.start()
    with cache:
        answers = web.at_once(5, body)
    opener.join()
    assert (web.up.calls, len(set(answers))) == (1, 1)


@pytest.mark.parametrize("name", WEBS)
@bodies
@codings
def test_libraries_share_their_answers(
    web: Web, up: Upstream, cache: Cache, name: str, body: dict[str, Any], coding: dict[str, Any]
) -> None:
    other = WEBS[name](up)
    up.behave(**coding)
    for each in (web, other):
        patched(each)
    with cache:
        first, second = web.ask(body), other.ask(body)
    other.end()
    assert (up.calls, second.body, second.mark) == (1, first.body, "hit")


# -- what passes ----------------------------------------------------------------------------------


@readings
@failures
def test_what_fails_is_handed_on_and_not_stored(
    web: Web, cache: Cache, manner: dict[str, Any], reading: Reading | None
) -> None:
    patched(web)
    web.up.once(**manner)
    with cache:
        first = web.ask(reading=reading)
        web.ask()
    assert first.status == manner.get("status", 200)
    assert first.body == manner.get("body", first.body)
    assert (web.up.calls, cache.stats.stored) == (2, 1)


def test_a_connection_that_fails_raises_what_it_raised(web: Web, cache: Cache) -> None:
    patched(web)
    web.up.behave(drop=True)
    with cache, pytest.raises(web.refused):
        web.ask()
    assert cache.stats.stored == 0


@interruptions
def test_a_stream_that_is_not_whole_is_not_stored(
    web: Web, cache: Cache, manner: dict[str, Any]
) -> None:
    patched(web)
    web.up.once(**manner)
    with cache:
        if "cut_after" in manner:
            with pytest.raises(web.broken):
                web.ask(STREAM, reading=Reading())
        else:
            web.ask(STREAM, reading=Reading())
        web.ask(STREAM, reading=Reading())
    assert (web.up.calls, cache.stats.stored) == (2, 1)


def test_events_pass_as_they_come(web: Web, cache: Cache) -> None:
    patched(web)
    pause = threading.Event()
    web.up.behave(pause=pause, pause_after=2)
    with cache:
        first = web.ask(STREAM, reading=Reading(then=pause.set))
        assert web.ask(STREAM, reading=Reading()).chunks == first.chunks
    assert web.up.calls == 1


@codings
def test_a_stream_is_stored_at_its_mark_even_if_it_is_left_there(
    web: Web, cache: Cache, coding: dict[str, Any]
) -> None:
    web.up.behave(**coding)
    patched(web)
    with cache:
        web.ask(STREAM, reading=Reading(until=b"data: [DONE]"))
        assert web.ask(STREAM).mark == "hit"


def test_a_stream_that_is_left_before_its_mark_is_not_stored(web: Web, cache: Cache) -> None:
    patched(web)
    pause = threading.Event()
    web.up.once(pause=pause, pause_after=2)
    with cache:
        web.ask(STREAM, reading=Reading(until=b"data: "))
        pause.set()
        assert cache.stats.stored == 0
        assert web.ask(STREAM).mark is None
    assert (web.up.calls, cache.stats.stored) == (2, 1)


def test_a_redirected_question_is_stored_where_it_is_answered(web: Web, cache: Cache) -> None:
    patched(web)
    with cache:
        for mark in (None, "hit"):
            web.up.once(status=307, headers=(("location", PATH),))
            told = web.ask(path="/v1/completions")
            assert (told.history, told.mark, told.url) == ([307], mark, web.up.root_url + PATH)
    assert web.up.calls == 3  # the redirection is asked each time


def test_a_hit_sets_no_cookie(web: Web, cache: Cache) -> None:
    web.up.behave(headers=(("set-cookie", "a=1"),))
    patched(web)
    with cache:
        assert [web.ask().cookies for _ in range(2)] == [{"a": "1"}, {}]


@bodies
@pytest.mark.parametrize("name", ["ÿþ", "日本".encode().decode("latin-1")], ids=["bytes", "UTF-8"])
def test_a_header_of_any_bytes_loses_no_answer(
    web: Web, cache: Cache, body: dict[str, Any], name: str
) -> None:
    web.up.behave(headers=(("x-name", name),))
    patched(web)
    reading = Reading() if body is STREAM else None
    with cache:
        assert [web.ask(body, reading=reading).mark for _ in range(2)] == [None, "hit"]


# -- what is left alone ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "reason"),
    [({"background": True}, "background"), ({"conversation": "c"}, "conversation")],
    ids=["background", "conversation"],
)
def test_what_belongs_to_a_state_upstream_is_left_alone(
    web: Web, cache: Cache, more: dict[str, Any], reason: str
) -> None:
    patched(web)
    with cache:
        for _ in range(2):
            web.ask({**CHAT, **more})
    assert (web.up.calls, cache.stats.bypass_reasons) == (2, {reason: 2})


@pytest.mark.parametrize("raw", ["no JSON", "generator", "upload"])
def test_what_is_not_sent_as_json_is_left_alone(web: Web, cache: Cache, raw: str) -> None:
    patched(web)
    with cache:
        for _ in range(2):
            web.ask(**web.raw[raw]())
    assert (web.up.calls, cache.stats.bypass_reasons) == (2, {"raw body": 2})


def test_only_posts_are_cached(web: Web, cache: Cache) -> None:
    web.patch(hosts=LOOPBACK, paths=["*"])
    with cache:
        for _ in range(2):
            web.get("/v1/models")
    assert web.up.calls == 2


@bodies
def test_no_credential_is_stored_or_told_apart(web: Web, body: dict[str, Any]) -> None:
    store = MemoryStore()
    patched(web)
    web.up.behave(headers=SECRET_HEADERS)
    reading = Reading() if body is STREAM else None
    with Cache(store):
        for number in range(2):
            path = f"{PATH}?key=top-secret-{number}&tier=1"
            asked = {**body, "api_key": f"top-secret-{number}"}
            bearer = {"authorization": f"Bearer top-secret-{number}"}
            web.ask(asked, path, reading=reading, headers=bearer)
    assert web.up.calls == 1
    [key] = store.keys()
    entry = unseal(store.get(key) or b"")
    stored = f"{entry.read_record()} {codec.decode(entry.kind, entry.answer)}"
    assert "tier" in stored
    assert "top-secret" not in stored
    assert "upstream-secret" not in stored


# -- where it is active ---------------------------------------------------------------------------


def test_unpatching_leaves_the_library_as_it_was(web: Web) -> None:
    before = web.seams()
    outer, inner = web.patch(), web.patch()
    assert not any(now is then for now, then in zip(web.seams(), before, strict=True))
    inner.undo()
    assert (outer.active, inner.active) == (True, False)
    web.unpatch()
    assert all(now is then for now, then in zip(web.seams(), before, strict=True))


def test_patching_again_repairs_what_another_tool_put_back(web: Web, cache: Cache) -> None:
    before = web.seams()
    patched(web)
    for function, code in zip(web.functions(), before, strict=True):
        function.__code__ = code
    patched(web)
    assert not any(now is then for now, then in zip(web.seams(), before, strict=True))
    with cache:
        web.ask()
        web.ask()
    assert web.up.calls == 1


def test_handles_that_are_dropped_cost_nothing(web: Web) -> None:
    patcher = web.patch(hosts=LOOPBACK)._patcher
    for _ in range(3):
        patched(web)
        web.patch()
    many = len(patcher.patches)
    for _ in range(50):
        patched(web)
        web.patch(hosts=iter(LOOPBACK))
        web.patch()
    assert len(patcher.patches) <= many
    assert len(patcher._serving) == 2


def test_a_dropped_handle_holds_for_the_hosts_that_newer_ones_do_not_know(
    web: Web, cache: Cache
) -> None:
    patched(web)
    for _ in range(5):
        web.patch(hosts=["example.com"])
    with cache:
        web.ask()
        web.ask()
    assert web.up.calls == 1


@pytest.mark.parametrize("active", ["no block", "no cache"])
def test_outside_a_block_everything_goes_straight_through(web: Web, active: str) -> None:
    patched(web)
    for _ in range(2):
        if active == "no cache":
            with no_cache():
                web.ask()
        else:
            web.ask()
    assert web.up.calls == 2


@pytest.mark.parametrize("way", ["patch", "ours"])
def test_a_default_cache_serves_requests_outside_any_block(
    web: Web, cache: Cache, way: str
) -> None:
    if way == "patch":
        web.patch(cache, hosts=LOOPBACK)
    else:
        web.inject(cache=cache)
    web.ask()
    web.ask()
    assert web.up.calls == 1


@pytest.mark.parametrize(
    ("given", "calls"),
    [
        ({}, 1),
        ({"hosts": ["api.mistral.ai"]}, 2),
        ({"hosts": []}, 2),
        ({"paths": ["*/chat/*"]}, 1),
        ({"hosts": ["127.0.0.1"]}, 1),
        ({"hosts": ["127.0.0.*:*"]}, 1),
        ({"hosts": LOOPBACK, "paths": ["/v1/completions"]}, 2),
        ({"hosts": LOOPBACK, "paths": ["*/chat/*"]}, 1),
    ],
    ids=str,
)
def test_hosts_and_paths_say_what_is_cached(
    web: Web, cache: Cache, given: dict[str, Any], calls: int
) -> None:
    web.patch(**given)
    with cache:
        web.ask()
        web.ask()
    assert web.up.calls == calls


@pytest.mark.parametrize("make", ["patch", "ours"])
@pytest.mark.parametrize("given", [{"cache": "disk"}, {"when": "always"}], ids=str)
def test_what_is_no_cache_or_no_function_is_an_error(
    web: Web, make: str, given: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match="got"):
        getattr(web, make)(**given)


@readings
@pytest.mark.parametrize("size", [100_000, 300_000, 3_000_000])
def test_a_large_answer_is_given_whole(
    web: Web, cache: Cache, size: int, reading: Reading | None
) -> None:
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": "x" * size}}
    raw = json.dumps({"choices": [choice]}).encode()
    web.up.behave(body=raw)
    patched(web)
    with cache:
        told = [web.ask(reading=reading) for _ in range(2)]
    assert [(one.mark, one.body == raw) for one in told] == [(None, True), ("hit", True)]
