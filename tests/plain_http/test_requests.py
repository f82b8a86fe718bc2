"""Sessions of requests, patched or with an adapter of ours."""

from __future__ import annotations

import gc
import gzip
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

requests = pytest.importorskip("requests")
urllib3 = pytest.importorskip("urllib3")

from cachewrap import (
    Cache,
    CachedAdapter,
    ConfigurationError,
    codec,
    no_cache,
    patch_httpx,
    patch_requests,
    unpatch_requests,
)
from cachewrap.envelope import unseal
from cachewrap.stores.memory import MemoryStore
from cachewrap.testing.upstream import SECRET_HEADERS, Upstream

LOOPBACK = ["127.0.0.1:*"]
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Question 1"}]}
STREAM = {**CHAT, "stream": True}

Take = Callable[[Any], Any]


class Web:
    """A session of requests, made before any patch."""

    def __init__(self, up: Upstream) -> None:
        self.up = up
        self.session = requests.Session()
        self.session.headers["x-api-key"] = "top-secret"

    def inject(self, **options: Any) -> None:
        """Use an adapter of ours from now on."""
        self.session.mount("http://", CachedAdapter(**options))

    def post(self, body: Any = CHAT, path: str = "/v1/chat/completions", **more: Any) -> Any:
        given = more if {"data", "files"} & more.keys() else {"json": body, **more}
        return self.session.post(self.up.root_url + path, **given)


@pytest.fixture
def web(up: Upstream) -> Iterator[Web]:
    web = Web(up)
    yield web
    web.session.close()


def patched(web: Web) -> None:
    patch_requests(hosts=LOOPBACK)


def injected(web: Web) -> None:
    web.inject()


def both(web: Web) -> None:
    patched(web)
    injected(web)


ways = pytest.mark.parametrize("way", [patched, injected, both])
manners = pytest.mark.parametrize(
    "manner",
    [{}, {"gzip": True}, {"awkward": True}],
    ids=lambda manner: "-".join(manner) or "plain",
)


def mark(response: Any) -> Any:
    return response.headers.get("x-cachewrap")


def seen(response: Any) -> dict[str, Any]:
    """What can be seen of a response before its body is read, but for the mark of a hit."""
    headers = [pair for pair in response.headers.items() if pair[0] != "x-cachewrap"]
    raw = [pair for pair in response.raw.headers.items() if pair[0] != "x-cachewrap"]
    return {
        "type": type(response),
        "status": (response.status_code, response.ok, response.reason, bool(response)),
        "headers": (sorted(headers), sorted(raw)),
        "url": response.url,
        "request": (response.request.method, response.request.url, response.request.body),
        "history": response.history,
        "redirect": (response.is_redirect, response.next, response.links),
        "encoding": response.encoding,
        "elapsed": type(response.elapsed) is timedelta and response.elapsed >= timedelta(0),
        "adapter": type(response.connection),
        "raw": (type(response.raw).__name__, response.raw.status, response.raw.version),
        "is raw": isinstance(response.raw, urllib3.HTTPResponse),
    }


def content(response: Any) -> Any:
    return response.content, response.text, response.apparent_encoding, response.raw.read()


def chunks(response: Any) -> Any:
    return list(response.iter_content(None)), response.raw.closed, response._content_consumed


def pieces(response: Any) -> Any:
    return unless_coded(response, response.iter_content(7))


def unless_coded(response: Any, found: Iterator[bytes]) -> Any:
    """How much seven compressed bytes are is for their compressor."""
    return b"".join(found) if "content-encoding" in response.headers else list(found)


def texts(response: Any) -> Any:
    response.encoding = "utf-8"
    return "".join(response.iter_content(16, decode_unicode=True))


def lines(response: Any) -> Any:
    return list(response.iter_lines(chunk_size=16))


def every(response: Any) -> Any:
    return unless_coded(response, iter(response))


def raw_stream(response: Any) -> Any:
    return unless_coded(response, response.raw.stream(64, decode_content=True))


def raw_read(response: Any) -> Any:
    first = response.raw.read(9, decode_content=True)
    rest = response.raw.read(decode_content=True)
    return first, rest, response.raw.read(), response.raw.closed


def raw_decoded(response: Any) -> Any:
    """The body as it was sent, decoded by its reader."""
    coded = b"".join(response.raw.stream(64, decode_content=False))
    if response.headers.get("content-encoding") == "gzip":
        return gzip.decompress(coded)
    return coded


def block(response: Any) -> Any:
    with response:
        found = response.content
    return found, response.raw.closed


def closed(response: Any) -> Any:
    first = next(response.iter_content(5))
    response.close()
    return first, response.raw.closed


def pickled(response: Any) -> Any:
    copy = pickle.loads(pickle.dumps(response))
    return copy.content, copy.status_code, copy.url, copy.encoding, copy.history, copy.reason


TAKES = [
    *(content, chunks, pieces, texts, lines, every),
    *(raw_stream, raw_read, raw_decoded, block, closed, pickled),
]
takes = pytest.mark.parametrize("take", TAKES, ids=lambda take: take.__name__)


# -- two identical requests -----------------------------------------------------------------------


@ways
@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
def test_two_identical_requests_make_one_upstream_call(
    web: Web, cache: Cache, way: Callable[[Web], None], body: dict[str, Any]
) -> None:
    way(web)
    with cache:
        first, second = web.post(body), web.post(body)
        web.post({**body, "seed": 2})
    assert web.up.calls == 2
    assert (mark(first), mark(second)) == (None, "hit")
    assert first.content == second.content
    assert (cache.stats.misses, cache.stats.hits, cache.stats.stored) == (2, 1, 2)


@manners
@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize("stream", [False, True], ids=["read", "open"])
def test_a_hit_shows_what_its_miss_showed(
    web: Web, cache: Cache, manner: dict[str, Any], body: dict[str, Any], stream: bool
) -> None:
    web.up.behave(**manner)
    patched(web)
    with cache:
        first = web.post(body, stream=stream)
        before = seen(first)
        first.content  # noqa: B018 - an open stream is stored once it has been read
        second = web.post(body, stream=stream)
    assert (web.up.calls, seen(second), mark(second)) == (1, before, "hit")
    second.raise_for_status()


@takes
@manners
@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
def test_an_open_hit_is_read_as_its_miss(
    web: Web, cache: Cache, take: Take, manner: dict[str, Any], body: dict[str, Any]
) -> None:
    web.up.behave(**manner)
    patched(web)
    with cache:
        if take is closed:
            web.post(body)  # a stream that its reader breaks off is not stored
        first = take(web.post(body, stream=True))
        second = take(web.post(body, stream=True))
    assert (web.up.calls, second) == (1, first)


@takes
@manners
@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
def test_a_miss_is_read_as_without_the_patch(
    web: Web, cache: Cache, take: Take, manner: dict[str, Any], body: dict[str, Any]
) -> None:
    web.up.behave(**manner)
    plain = outline(take(web.post(body, stream=True)))
    patched(web)
    with cache:
        assert outline(take(web.post(body, stream=True))) == plain


def outline(value: Any) -> Any:
    """What was read, without what differs between two answers."""
    if isinstance(value, bytes | str):
        return type(value), bool(value)
    if isinstance(value, list | tuple):
        return [outline(item) for item in value] if len(value) < 5 else [outline(value[0]), "more"]
    return value


def test_events_pass_as_they_come(web: Web, cache: Cache) -> None:
    patched(web)
    pause = threading.Event()
    web.up.behave(pause=pause, pause_after=2)
    with cache:
        response = web.post(STREAM, stream=True)
        first = next(response.iter_lines())
        assert first.startswith(b"data: ")
        pause.set()
        response.close()


def test_requests_and_httpx_share_their_answers(web: Web, cache: Cache) -> None:
    httpx = pytest.importorskip("httpx2")
    for body in (CHAT, STREAM):
        for manner in ({}, {"gzip": True}):
            web.up.behave(**manner)
            asked = {**body, "seed": len(manner)}
            with patch_requests(hosts=LOOPBACK), patch_httpx(hosts=LOOPBACK), cache:
                first = web.post(asked).content
                second = httpx.post(f"{web.up.base_url}/chat/completions", json=asked).content
            assert second == first
    assert (web.up.calls, cache.stats.hits) == (4, 4)


# -- what a session does around a request ---------------------------------------------------------


def test_hooks_run_on_hits_as_well(web: Web, cache: Cache) -> None:
    patched(web)
    found: list[Any] = []
    web.session.hooks["response"].append(lambda response, **_: found.append(mark(response)))
    with cache:
        web.post()
        web.post()
    assert found == [None, "hit"]


def test_a_hit_sets_no_cookie(web: Web, cache: Cache) -> None:
    web.up.behave(headers=(("set-cookie", "a=1"),))
    patched(web)
    with cache:
        assert web.post().cookies.get_dict() == {"a": "1"}
        assert web.session.cookies.get_dict() == {"a": "1"}
        web.session.cookies.clear()
        hit = web.post()
    assert (mark(hit), hit.cookies.get_dict()) == ("hit", {})


def test_urllib3_retries_below_the_cache(web: Web, cache: Cache) -> None:
    retries = urllib3.Retry(2, status_forcelist=[503], allowed_methods=None, backoff_factor=0)
    web.session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retries))
    patched(web)
    web.up.once(status=503)
    with cache:
        assert web.post().status_code == 200
        assert mark(web.post()) == "hit"
    assert (web.up.calls, cache.stats.stored) == (2, 1)


def test_a_redirected_question_is_stored_where_it_is_answered(web: Web, cache: Cache) -> None:
    patched(web)
    to = (("location", "/v1/chat/completions"),)
    with cache:
        for _ in range(2):
            web.up.once(status=307, headers=to)
            response = web.post(path="/v1/completions")
    assert [r.status_code for r in response.history] == [307]
    assert (mark(response), response.url) == ("hit", f"{web.up.base_url}/chat/completions")
    assert web.up.calls == 3  # the redirection is asked each time


def test_a_pickled_session_is_served(web: Web, cache: Cache) -> None:
    patched(web)
    with cache:
        web.post()
        web.session = pickle.loads(pickle.dumps(web.session))
        assert mark(web.post()) == "hit"


# -- what is not stored ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "manner",
    [{"cut_after": 3}, {"error_after": 3}, {"finish": False}, {"status": 500}],
    ids=lambda manner: next(iter(manner)),
)
def test_a_stream_that_is_not_whole_is_not_stored(
    web: Web, cache: Cache, manner: dict[str, Any]
) -> None:
    patched(web)
    web.up.once(**manner)
    with cache:
        response = web.post(STREAM, stream=True)
        if "cut_after" in manner:
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                list(response.iter_lines())
        else:
            list(response.iter_lines())
        list(web.post(STREAM, stream=True).iter_lines())
    assert (web.up.calls, cache.stats.stored) == (2, 1)


@pytest.mark.parametrize("manner", [{}, {"gzip": True}], ids=["plain", "gzip"])
def test_a_stream_is_stored_at_its_mark_even_if_it_is_left_there(
    web: Web, cache: Cache, manner: dict[str, Any]
) -> None:
    patched(web)
    web.up.behave(**manner)
    with cache:
        for line in web.post(STREAM, stream=True).iter_lines():
            if line == b"data: [DONE]":
                break
        assert mark(web.post(STREAM)) == "hit"


def test_an_abandoned_stream_is_dropped(web: Web, cache: Cache) -> None:
    patched(web)
    with cache:
        for take in (lambda r: None, lambda r: next(r.iter_content(1))):
            take(web.post(STREAM, stream=True))
            gc.collect()
        assert cache.stats.stored == 0
        web.post(STREAM)
    assert (web.up.calls, cache.stats.stored) == (3, 1)


@pytest.mark.parametrize(
    "manner",
    [{"status": 429}, {"body": b'{"error": {"message": "busy"}}'}, {"body": b'{"cut'}],
    ids=["status", "error body", "no JSON"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["read", "open"])
def test_what_fails_is_handed_on_and_not_stored(
    web: Web, cache: Cache, manner: dict[str, Any], stream: bool
) -> None:
    patched(web)
    web.up.once(**manner)
    with cache:
        response = web.post(stream=stream)
        body = response.content
        web.post()
    assert response.status_code == manner.get("status", 200)
    assert body == manner.get("body", body)
    assert (web.up.calls, cache.stats.stored) == (2, 1)


def test_a_connection_that_fails_raises_what_it_raised(web: Web, cache: Cache) -> None:
    patched(web)
    web.up.behave(drop=True)
    with cache, pytest.raises(requests.ConnectionError):
        web.post()
    assert cache.stats.stored == 0


def upload() -> Iterator[bytes]:
    yield b'{"model": "m"}'


@pytest.mark.parametrize(
    ("request_of", "reason"),
    [
        (lambda: {"body": {**CHAT, "background": True}}, "background"),
        (lambda: {"body": {**CHAT, "conversation": "c"}}, "conversation"),
        (lambda: {"data": b"no json"}, "raw body"),
        (lambda: {"data": upload()}, "raw body"),
        (lambda: {"files": {"file": b"sound"}}, "raw body"),
    ],
    ids=["background", "conversation", "no JSON", "generator", "upload"],
)
def test_what_is_left_alone(web: Web, cache: Cache, request_of: Any, reason: str) -> None:
    patched(web)
    with cache:
        for _ in range(2):
            web.post(**request_of())
    assert (web.up.calls, cache.stats.bypass_reasons) == (2, {reason: 2})


def test_only_posts_are_cached(web: Web, cache: Cache) -> None:
    patch_requests(hosts=LOOPBACK, paths=["*"])
    with cache:
        for _ in range(2):
            web.session.get(f"{web.up.base_url}/models")
    assert web.up.calls == 2


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["plain", "stream"])
def test_no_credential_is_stored_or_told_apart(web: Web, body: dict[str, Any]) -> None:
    store = MemoryStore()
    patched(web)
    web.up.behave(headers=SECRET_HEADERS)
    with Cache(store):
        for number in range(2):
            web.session.headers["authorization"] = f"Bearer top-secret-{number}"
            path = f"/v1/chat/completions?key=top-secret-{number}&tier=1"
            web.post({**body, "api_key": f"top-secret-{number}"}, path)
    assert web.up.calls == 1
    [key] = store.keys()
    entry = unseal(store.get(key) or b"")
    stored = f"{entry.read_record()} {codec.decode(entry.kind, entry.answer)}"
    assert "tier" in stored
    assert "top-secret" not in stored
    assert "upstream-secret" not in stored


# -- where it is active ---------------------------------------------------------------------------


def test_unpatching_leaves_the_library_as_it_was() -> None:
    before = vars(requests.adapters.HTTPAdapter)["send"]
    outer, inner = patch_requests(), patch_requests()
    assert vars(requests.adapters.HTTPAdapter)["send"] is not before
    inner.undo()
    assert (outer.active, inner.active) == (True, False)
    unpatch_requests()
    assert vars(requests.adapters.HTTPAdapter)["send"] is before


@pytest.mark.parametrize("active", ["no block", "no cache"])
def test_outside_a_block_everything_goes_straight_through(web: Web, active: str) -> None:
    patched(web)
    for _ in range(2):
        if active == "no cache":
            with no_cache():
                web.post()
        else:
            web.post()
    assert web.up.calls == 2


@pytest.mark.parametrize("way", ["patch", "adapter"])
def test_a_default_cache_serves_requests_outside_any_block(
    web: Web, cache: Cache, way: str
) -> None:
    if way == "patch":
        patch_requests(cache, hosts=LOOPBACK)
    else:
        web.inject(cache=cache)
    web.post()
    web.post()
    assert web.up.calls == 1


@pytest.mark.parametrize(
    ("given", "calls"),
    [
        ({}, 2),
        ({"hosts": ["api.mistral.ai"]}, 2),
        ({"hosts": ["127.0.0.1"]}, 1),
        ({"hosts": LOOPBACK, "paths": ["/v1/completions"]}, 2),
        ({"hosts": LOOPBACK, "paths": ["*/chat/*"]}, 1),
    ],
    ids=str,
)
def test_hosts_and_paths_say_what_is_cached(
    web: Web, cache: Cache, given: dict[str, Any], calls: int
) -> None:
    patch_requests(**given)
    with cache:
        web.post()
        web.post()
    assert web.up.calls == calls


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["plain", "stream"])
def test_threads_that_ask_at_the_same_time_share_one_request(
    web: Web, cache: Cache, body: dict[str, Any]
) -> None:
    patched(web)
    gate = threading.Event()
    web.up.behave(gate=gate)

    def ask(_: int) -> bytes:
        response = requests.post(f"{web.up.base_url}/chat/completions", json=body, stream=True)
        return b"".join(response.iter_content(64))

    with cache, ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(ask, number) for number in range(4)]
        while web.up.calls == 0:
            threading.Event().wait(0.005)
        gate.set()
        answers = {future.result() for future in waiting}
    assert (web.up.calls, len(answers)) == (1, 1)


@pytest.mark.parametrize("make", [patch_requests, CachedAdapter])
@pytest.mark.parametrize("given", [{"cache": "disk"}, {"when": "always"}], ids=str)
def test_what_is_no_cache_or_no_function_is_an_error(make: Any, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="got"):
        make(**given)
