"""Sessions of requests, patched or with an adapter of ours."""

from __future__ import annotations

import gc
import gzip
import pickle
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

requests = pytest.importorskip("requests")
urllib3 = pytest.importorskip("urllib3")

from standin import Upstream

from cachewrap import Cache
from http_libraries.web import LOOPBACK, STREAM, WEBS, Requests, bodies, manners, outline

Take = Callable[[Any], Any]


@pytest.fixture
def web(up: Upstream) -> Iterator[Requests]:
    web = Requests(up, requests)
    yield web
    web.end()


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


@manners
@bodies
@pytest.mark.parametrize("stream", [False, True], ids=["read", "open"])
def test_a_hit_shows_what_its_miss_showed(
    web: Requests, cache: Cache, manner: dict[str, Any], body: dict[str, Any], stream: bool
) -> None:
    web.up.behave(**manner)
    web.patch(hosts=LOOPBACK)
    with cache:
        first = web.post(body, stream=stream)
        before = seen(first)
        first.content  # noqa: B018 - an open stream is stored once it has been read
        second = web.post(body, stream=stream)
    assert (web.up.calls, seen(second), mark(second)) == (1, before, "hit")
    second.raise_for_status()


@takes
@manners
@bodies
def test_an_open_hit_is_read_as_its_miss(
    web: Requests, cache: Cache, take: Take, manner: dict[str, Any], body: dict[str, Any]
) -> None:
    web.up.behave(**manner)
    web.patch(hosts=LOOPBACK)
    with cache:
        if take is closed:
            web.post(body)  # a stream that its reader breaks off is not stored
        first = take(web.post(body, stream=True))
        second = take(web.post(body, stream=True))
    assert (web.up.calls, second) == (1, first)


@takes
@manners
@bodies
def test_a_miss_is_read_as_without_the_patch(
    web: Requests, cache: Cache, take: Take, manner: dict[str, Any], body: dict[str, Any]
) -> None:
    web.up.behave(**manner)
    plain = outline(take(web.post(body, stream=True)))
    web.patch(hosts=LOOPBACK)
    with cache:
        assert outline(take(web.post(body, stream=True))) == plain


# -- what a session does around a request ---------------------------------------------------------


def test_hooks_run_on_hits_as_well(web: Requests, cache: Cache) -> None:
    web.patch(hosts=LOOPBACK)
    found: list[Any] = []
    web.session.hooks["response"].append(lambda response, **_: found.append(mark(response)))
    with cache:
        web.post()
        web.post()
    assert found == [None, "hit"]


def test_a_hit_sets_no_cookie_of_its_session(web: Requests, cache: Cache) -> None:
    web.up.behave(headers=(("set-cookie", "a=1"),))
    web.patch(hosts=LOOPBACK)
    with cache:
        for cookies in ({"a": "1"}, {}):
            web.post()
            assert web.session.cookies.get_dict() == cookies
            web.session.cookies.clear()


def test_urllib3_retries_below_the_cache(web: Requests, cache: Cache) -> None:
    retries = urllib3.Retry(2, status_forcelist=[503], allowed_methods=None, backoff_factor=0)
    web.session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retries))
    web.patch(hosts=LOOPBACK)
    web.up.once(status=503)
    with cache:
        assert web.post().status_code == 200
        assert mark(web.post()) == "hit"
    assert (web.up.calls, cache.stats.stored) == (2, 1)


def test_a_pickled_session_is_served(web: Requests, cache: Cache) -> None:
    web.patch(hosts=LOOPBACK)
    with cache:
        web.post()
        web.session = pickle.loads(pickle.dumps(web.session))
        assert mark(web.post()) == "hit"


# -- what is not stored ---------------------------------------------------------------------------


def test_an_abandoned_stream_is_dropped(web: Requests, cache: Cache) -> None:
    web.patch(hosts=LOOPBACK)
    with cache:
        for take in (lambda r: None, lambda r: next(r.iter_content(1))):
            take(web.post(STREAM, stream=True))
            gc.collect()
        assert cache.stats.stored == 0
        web.post(STREAM)
    assert (web.up.calls, cache.stats.stored) == (3, 1)


@pytest.mark.parametrize("other", [name for name in WEBS if name != "requests"])
def test_what_another_library_stored_is_read_whatever_its_headers(
    web: Requests, cache: Cache, other: str
) -> None:
    web.up.behave(headers=(("x-name", "日本".encode().decode("latin-1")),))
    first = WEBS[other](web.up)
    for each in (first, web):
        each.patch(hosts=LOOPBACK)
    with cache:
        assert [each.ask().mark for each in (first, web)] == [None, "hit"]
    first.end()
