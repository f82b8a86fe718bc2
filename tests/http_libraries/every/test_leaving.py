"""A reader who leaves at the reason to stop has all of the answer: the rest is read, and stored."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cachewrap import Cache
from cachewrap.http import body, shared_body
from http_libraries.web import CHAT, LOOPBACK, STREAM, Reading, Web

WAIT = 5.0
MESSAGES = "/v1/messages"
MESSAGE = {**STREAM, "max_tokens": 50}
CHAT_STOP = b'"finish_reason":"stop"'
MESSAGE_STOP = b'"stop_reason":"end_turn"'

apis = pytest.mark.parametrize(
    ("path", "question", "stop"),
    [
        ("/v1/chat/completions", STREAM, CHAT_STOP),
        (
            "/v1/chat/completions",
            {**STREAM, "stream_options": {"include_usage": True}},
            CHAT_STOP,
        ),
        (MESSAGES, MESSAGE, MESSAGE_STOP),
    ],
    ids=["chat", "usage", "message"],
)


def patience(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Read on for as long."""
    for module in (body, shared_body):
        monkeypatch.setattr(module, "SECONDS", seconds)


def pieces_until(web: Web, path: str, question: dict[str, Any], stop: bytes) -> int:
    """How many pieces the stand-in sends of a stream until it tells its reason to stop."""
    told = web.ask(question, path, reading=Reading()).body
    events = [event for event in told.split(b"\n\n") if event]
    return next(count for count, event in enumerate(events, 1) if stop in event)


@apis
@pytest.mark.parametrize("coding", [{}, {"gzip": True}], ids=["plain", "gzip"])
def test_it_is_stored_whole(
    web: Web,
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    question: dict[str, Any],
    stop: bytes,
    coding: dict[str, Any],
) -> None:
    patience(monkeypatch, 20.0)
    web.up.behave(**coding)
    web.patch(hosts=LOOPBACK)
    with cache:
        web.ask(question, path, reading=Reading(until=stop))
        again = web.ask(question, path, reading=Reading())
    last = b"message_stop" if path == MESSAGES else b"[DONE]"
    assert (web.up.calls, cache.stats.stored, last in again.body) == (1, 1, True)
    if "stream_options" in question:
        assert b'"total_tokens"' in again.body


@apis
def test_a_server_that_stalls_there_costs_a_moment_and_stores_nothing(
    web: Web,
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    question: dict[str, Any],
    stop: bytes,
) -> None:
    patience(monkeypatch, 0.02)
    pause = threading.Event()
    count = pieces_until(web, path, question, stop)
    web.up.once(pause=pause, pause_after=count)
    web.patch(hosts=LOOPBACK)
    with cache:
        web.ask(question, path, reading=Reading(until=stop))
        assert cache.stats.stored == 0
        # No thread waits on for what may never come.
        assert all(rest._over.wait(WAIT) for rest in list(body._under_way))
        web.ask(question, path)
        pause.set()
    assert (web.up.calls, cache.stats.stored) == (3, 1)


def test_what_comes_without_an_end_is_not_read_on_for_ever(
    web: Web, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (body, shared_body):
        monkeypatch.setattr(module, "BYTES", 1)
    patience(monkeypatch, 3600.0)
    question = {**STREAM, "stream_options": {"include_usage": True}}
    pause = threading.Event()
    count = pieces_until(web, "/v1/chat/completions", question, CHAT_STOP)
    web.up.once(pause=pause, pause_after=count + 1)
    web.patch(hosts=LOOPBACK)
    with cache:
        web.ask(question, reading=Reading(until=CHAT_STOP))
        pause.set()
        assert cache.stats.stored == 0


def test_of_two_choices_both_must_have_stopped(
    web: Web, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience(monkeypatch, 3600.0)
    question = {**CHAT, "stream": True, "n": 2}
    pause = threading.Event()
    count = pieces_until(web, "/v1/chat/completions", question, CHAT_STOP)
    web.up.once(pause=pause, pause_after=count)
    web.patch(hosts=LOOPBACK)
    with cache:
        web.ask(question, reading=Reading(until=CHAT_STOP))
        pause.set()
        assert cache.stats.stored == 0
