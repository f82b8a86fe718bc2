"""What somebody who can write to the store cannot have a reader do, with any library."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from standin import Upstream

from cachewrap import Cache, CacheWarning, ReplayMissError
from cachewrap.entry import Facts, HttpAnswer
from cachewrap.format import codec
from cachewrap.format.envelope import seal, unseal
from cachewrap.http.answers import served_headers
from cachewrap.stores.base import Store
from cachewrap.stores.memory import MemoryStore
from cachewrap.telemetry import events
from http_libraries.web import CHAT, LOOPBACK, Reading, Web, bodies

readings = pytest.mark.parametrize("reading", [None, Reading()], ids=["read", "open"])
statuses = pytest.mark.parametrize(
    "status", [201, 204, 206, 301, 302, 303, 307, 308, 401, 407, 408, 429, 500, 503, 0, -1, 2**40]
)
Change = Callable[[HttpAnswer], HttpAnswer]


@pytest.fixture
def store() -> Store:
    """One store for all: bytes are judged where they are opened, whatever holds them."""
    return MemoryStore()


@pytest.fixture
def cache(store: Store) -> Cache:
    return Cache(store)


@pytest.fixture
def evil() -> Iterator[Upstream]:
    """A server that no request may reach."""
    with Upstream() as server:
        yield server


def poison(store: Store, change: Change) -> None:
    """Put another answer in the place of the one that is stored."""
    (key,) = store.keys()
    entry = unseal(store.get(key) or b"")
    record = entry.read_record()
    kind, data = codec.encode(change(codec.decode(entry.kind, entry.answer)))
    store.set(key, seal(kind, data, record["request"], Facts(1.0, 0.1, source=record["source"])))


def plant(web: Web, cache: Cache, body: Any, reading: Reading | None, change: Change) -> None:
    web.patch(hosts=LOOPBACK)
    with cache:
        web.ask(body, reading=reading)
    poison(cache._store, change)
    web.up.requests.clear()


def hostile(evil: Upstream) -> list[tuple[str, str]]:
    """Headers that have clients, browsers and proxies do more than read."""
    return [
        *[(name, f"{evil.root_url}/x") for name in ("location", "Location", "content-location")],
        ("refresh", f"0; url={evil.root_url}/x"),
        ("link", f"<{evil.root_url}/x>; rel=next"),
        ("set-cookie", "stolen=1; Path=/"),
        ("Set-Cookie2", "stolen=2; Path=/"),
        *[(name, "Basic realm=x") for name in ("www-authenticate", "proxy-authenticate")],
        *[(name, "x") for name in ("proxy-authorization", "authorization", "x-api-key")],
        *[("connection", "upgrade"), ("keep-alive", "timeout=99"), ("upgrade", "h2c")],
        *[("trailer", "x-a"), ("te", "trailers"), ("proxy-connection", "keep-alive")],
        *[("alt-svc", f'h3="{evil.root_url}"'), ("strict-transport-security", "max-age=1")],
        *[("clear-site-data", '"*"'), ("access-control-allow-origin", "*")],
        *[("x-should-retry", "true"), ("retry-after", "1"), ("retry-after-ms", "1")],
        *[("x-accel-redirect", "/etc/passwd"), ("x-sendfile", "/etc/passwd")],
        *[("sourcemap", evil.root_url), ("x-sourcemap", evil.root_url), ("x-cachewrap", "miss")],
        *[(f"x-goog-upload-{name}", evil.root_url) for name in ("url", "control-url", "status")],
        *[("x-callback-url", evil.root_url), ("openai-uri", evil.root_url)],
        *[("etag", '"1"'), ("cache-control", "max-age=1"), ("vary", "*")],
    ]


@statuses
@readings
@bodies
def test_another_status_than_200_is_a_miss(
    web: Web,
    evil: Upstream,
    store: Store,
    status: int,
    body: dict[str, Any],
    reading: Reading | None,
) -> None:
    plant(
        web,
        Cache(store),
        body,
        reading,
        lambda answer: replace(answer, status=status, headers=[*answer.headers, *hostile(evil)]),
    )
    with (
        Cache(store, mode="replay"),
        warnings.catch_warnings(action="ignore"),
        pytest.raises(ReplayMissError, match=f"status {status}"),
    ):
        web.ask(body, reading=reading)
    assert (web.up.calls, evil.calls) == (0, 0)
    events.forget()
    with Cache(store), pytest.warns(CacheWarning, match=f"status {status}"):
        told = web.ask(body, reading=reading)
    assert (told.status, told.mark, told.history) == (200, None, [])
    assert (web.up.calls, evil.calls) == (1, 0)


@readings
@bodies
@pytest.mark.parametrize("mode", ["normal", "replay", "read_only"])
def test_headers_that_have_a_client_do_more_do_not_come_back(
    web: Web,
    evil: Upstream,
    store: Store,
    mode: Any,
    body: dict[str, Any],
    reading: Reading | None,
) -> None:
    plant(
        web,
        Cache(store),
        body,
        reading,
        lambda answer: replace(answer, headers=[*hostile(evil), *answer.headers]),
    )
    with Cache(store, mode=mode):
        told = web.ask(body, reading=reading)
        again = web.ask(body, reading=reading)
    assert (told.status, told.mark, again.mark, told.history) == (200, "hit", "hit", [])
    assert told.cookies == again.cookies == {}
    assert (web.up.calls, evil.calls) == (0, 0)
    web.ask({**body, "n": 2}, reading=reading)
    assert web.up.last.headers.get("cookie") is None


def _with(*pairs: tuple[str, str]) -> Change:
    return lambda answer: replace(answer, headers=[*answer.headers, *pairs])


DAMAGED: dict[str, Change] = {
    "line feed": _with(("x-a", "1\nset-cookie: stolen=1")),
    "carriage return": _with(("x-a", "1\r\nlocation: http://evil")),
    "NUL": _with(("x-a", "\0")),
    "not of Latin-1": _with(("x-a", "\u2028")),
    "long": _with(("x-a", "a" * 8193)),
    "many": _with(*[("x-a", "1")] * 300),
}


@readings
@pytest.mark.parametrize("change", DAMAGED.values(), ids=DAMAGED)
def test_headers_that_no_response_has_are_a_miss(
    web: Web, cache: Cache, change: Change, reading: Reading | None
) -> None:
    plant(web, cache, CHAT, reading, change)
    with (
        Cache(cache._store, mode="replay"),
        warnings.catch_warnings(action="ignore"),
        pytest.raises(ReplayMissError, match="header"),
    ):
        web.ask(CHAT, reading=reading)
    events.forget()
    with cache, pytest.warns(CacheWarning, match="header"):
        assert web.ask(CHAT, reading=reading).mark is None


HARMLESS: dict[str, Change] = {
    "a name with a line feed": _with(("x-a\r\nset-cookie", "stolen=1")),
    "a long name": _with(("x-" + "a" * 1_000_000, "1")),
    "a length that is no number": _with(("content-length", "-1")),
    "another length": _with(("content-length", "1")),
    "a length of thousands of digits": _with(("content-length", "9" * 8000)),
    "a coding": _with(("content-encoding", "gzip, gzip, gzip")),
    "a coding twice": _with(("content-encoding", "gzip"), ("content-encoding", "gzip")),
    "a coding that it had not": _with(("content-encoding", "gzip")),
    "lengths that contradict": _with(("content-length", "1"), ("content-length", "2")),
    "another type": _with(("content-type", "multipart/mixed; boundary=x")),
    "a coding that nobody knows": _with(("content-encoding", "rot13")),
    "chunks of a transfer": _with(("transfer-encoding", "gzip, chunked")),
}


@readings
@bodies
@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_what_headers_tell_of_the_body_is_not_believed(
    web: Web, cache: Cache, change: Change, body: dict[str, Any], reading: Reading | None
) -> None:
    web.patch(hosts=LOOPBACK)
    with cache:
        miss = web.ask(body, reading=reading)
    poison(
        cache._store,
        lambda answer: change(replace(answer, headers=[("content-type", _type(answer))])),
    )
    with cache:
        hit = web.ask(body, reading=reading)
    assert (hit.mark, hit.body, hit.cookies) == ("hit", miss.body, {})


def _type(answer: HttpAnswer) -> str:
    return next(value for name, value in answer.headers if name.lower() == "content-type")


@pytest.mark.parametrize("delay", [float("nan"), float("inf"), -1.0, 1e308])
def test_a_stored_delay_has_nobody_wait(web: Web, cache: Cache, delay: float) -> None:
    reading = Reading()
    body = {**CHAT, "stream": True}
    plant(
        web,
        cache,
        body,
        reading,
        lambda answer: replace(answer, delays=[delay] * len(answer.chunks)),
    )
    with cache:
        assert web.ask(body, reading=reading).mark == "hit"


def test_what_a_stream_tells_of_coming_back_is_the_callers_own(
    web: Web, evil: Upstream, cache: Cache
) -> None:
    body = {**CHAT, "stream": True}
    ahead = f"retry: 1\nid: 7\n: {evil.root_url}\n\n".encode()
    plant(
        web,
        cache,
        body,
        Reading(),
        lambda answer: replace(answer, chunks=[ahead, *answer.chunks], delays=[]),
    )
    with cache:
        assert web.ask(body, reading=Reading()).body.startswith(ahead)
    assert (web.up.calls, evil.calls) == (0, 0)


def test_what_the_cache_itself_finds_has_status_200(web: Web, evil: Upstream, cache: Cache) -> None:
    plant(web, cache, CHAT, None, lambda answer: replace(answer, status=307))
    (key,) = cache._store.keys()
    with pytest.warns(CacheWarning, match="status 307"):
        assert cache.get(key) is None


def test_facts_of_an_answer_come_back(web: Web, cache: Cache) -> None:
    """What people look up: limits, times, ids, what it cost."""
    facts = [
        ("x-ratelimit-remaining-requests", "9"),
        ("anthropic-ratelimit-tokens-remaining", "8"),
        ("openai-version", "2020-10-01"),
        ("apim-request-id", "a-1"),
        ("x-litellm-response-cost", "0.1"),
        ("x-amzn-requestid", "b-1"),
        ("cf-ray", "c-1"),
        ("server-timing", "d;dur=1"),
    ]
    web.up.behave(headers=tuple(facts))
    web.patch(hosts=LOOPBACK)
    with cache:
        web.ask()
        assert web.ask().mark == "hit"
    (raw,) = (cache._store.get(key) for key in cache._store.keys())
    entry = unseal(raw or b"")
    stored = {name.lower(): value for name, value in codec.decode(entry.kind, entry.answer).headers}
    assert {name: stored.get(name) for name, _ in facts} == dict(facts)


def test_what_upstream_sends_besides_is_the_first_callers_alone(web: Web, cache: Cache) -> None:
    web.up.behave(headers=(("location", "/elsewhere"), ("set-cookie", "a=1"), ("refresh", "1")))
    web.patch(hosts=LOOPBACK)
    with cache, warnings.catch_warnings():
        warnings.simplefilter("error")
        miss, hit = web.ask(), web.ask()
    assert (miss.mark, hit.mark) == (None, "hit")
    assert (miss.cookies, hit.cookies) == ({"a": "1"}, {})
    (raw,) = (cache._store.get(key) for key in cache._store.keys())
    stored = json.dumps(codec.decode(unseal(raw or b"").kind, unseal(raw or b"").answer).headers)
    assert "elsewhere" not in stored and "refresh" not in stored


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("application/json; charset=utf-8", "application/json; charset=utf-8"),
        ('application/json; charset="ISO-8859-1"', 'application/json; charset="ISO-8859-1"'),
        ("application/json; charset=idna", "application/json"),
        ("application/json; charset=zlib", "application/json"),
        ("application/json; charset=../x", "application/json"),
    ],
)
def test_a_charset_is_one_of_text(cache: Cache, given: str, wanted: str) -> None:
    answer = HttpAnswer(200, [("Content-Type", given)], [b"{}"], [])
    assert served_headers(answer) == [("Content-Type", wanted)]


DEEP = b"[" * 100_000 + b"]" * 100_000


@bodies
def test_an_answer_that_is_nested_too_deeply_is_a_miss(
    web: Web, cache: Cache, body: dict[str, Any]
) -> None:
    deep = b"data: " + DEEP + b"\n\n" if "stream" in body else DEEP[50_000:-50_000][:30_000]
    reading = Reading()
    plant(web, cache, body, reading, lambda answer: replace(answer, chunks=[deep], delays=[]))
    with cache, pytest.warns(CacheWarning):
        assert web.ask(body, reading=reading).mark is None


@bodies
def test_an_answer_of_upstream_that_is_nested_too_deeply_is_given(
    web: Web, cache: Cache, body: dict[str, Any]
) -> None:
    deep = b"data: " + DEEP + b"\n\n" if "stream" in body else DEEP
    web.up.behave(body=deep)
    web.patch(hosts=LOOPBACK, when=lambda answer: True)
    with cache:
        assert web.ask({**body, "stream": False}).body == deep
    assert cache.stats.stored == 0
