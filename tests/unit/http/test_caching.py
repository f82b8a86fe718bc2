"""The way of one request through a cache: what its wire is told, its own options, what is left."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cachewrap import Cache, CacheWarning, ReplayMissError
from cachewrap.entry import HttpAnswer
from cachewrap.http.exchange import SdkExchange
from cachewrap.http.multipart import Form, parse_multipart
from cachewrap.http.response import Head, Headers, Wire, raising
from cachewrap.http.routes import Routes
from cachewrap.http.serve import Caching
from cachewrap.options import CallOptions
from cachewrap.stores.base import Claim
from cachewrap.stores.disk import DiskStore

LIBRARY = raising(OSError)
SAID = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "hi"}}]}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**CHAT, "stream": True}
EVENTS = [b'data: {"choices": [{"index": 0, "finish_reason": "stop"}]}\n\n', b"data: [DONE]\n\n"]
JSON = ("content-type", "application/json")
FORM = ("content-type", "multipart/form-data; boundary=b")
UPLOAD = (
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b\r\nContent-Disposition: '
    b'form-data; name="file"; filename="a.wav"\r\n\r\n%s\r\n--b--\r\n'
)


class Pieces:
    """A body that comes in pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = list(pieces)

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces

    def close(self) -> None:
        pass


class Sent(Wire):
    """A request in memory, whose answers are heads and bodies."""

    def __init__(
        self,
        body: Any = None,
        path: str = "/v1/chat/completions",
        *,
        method: str = "POST",
        headers: Iterable[tuple[str, str]] = (JSON,),
    ) -> None:
        url = f"https://api.openai.com{path}"
        super().__init__(LIBRARY, method, url, "api.openai.com", None, path.partition("?")[0])
        self._sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._headers = list(headers)

    def headers(self) -> Iterable[tuple[str, str]]:
        return self._headers

    def content(self) -> bytes:
        return self._sent

    def form(self) -> Form | None:
        kind = dict(self._headers).get("content-type", "")
        return parse_multipart(kind, self._sent) if kind.startswith("multipart/") else None

    def head(self, response: Any) -> Any:
        return response

    def read(self, response: Any) -> bytes:
        return b"".join(response.stream)

    async def aread(self, response: Any) -> bytes:
        return self.read(response)

    def recorded(self, response: Any, stream: Any) -> Any:
        response.stream = stream
        return response

    def whole(self, response: Any, content: bytes) -> Any:
        response.stream = Pieces([content])
        return response

    def build(self, answer: HttpAnswer, reader: Any) -> Any:
        return Head(answer.status, Headers(answer.headers), LIBRARY, reader or answer.chunks)


def said(*pieces: bytes, status: int = 200, kind: str = "application/json") -> Callable[[], Head]:
    """What sends a request, and is answered so each time."""
    content = pieces or (json.dumps(SAID).encode(),)
    length = ("content-length", str(len(b"".join(content))))
    return lambda: Head(status, Headers([("content-type", kind), length]), LIBRARY, Pieces(content))


def streamed() -> Head:
    return said(*EVENTS, kind="text/event-stream")()


def refused() -> Any:
    raise AssertionError("sent")


@pytest.fixture
def cache() -> Cache:
    return Cache.memory()


@pytest.fixture
def caching(cache: Cache) -> Caching:
    return Caching(Routes(None, None), cache, whole=True)


def told(wire: Wire) -> tuple[str, str, bool]:
    return wire.outcome.value, wire.reason, wire.exchange is not None


# -- what a wire is told ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "send"), [(CHAT, said()), (STREAM, streamed)], ids=["whole", "stream"]
)
def test_it_is_told_how_it_was_answered(caching: Caching, body: Any, send: Any) -> None:
    first, second = Sent(body), Sent(body)
    content = b"".join(caching.handle(first, send).stream)
    assert b"".join(caching.handle(second, refused).stream) == content
    assert (told(first), told(second)) == (("miss", "", True), ("hit", "", True))
    assert first.exchange is not None
    assert second.exchange is not None
    assert first.exchange.key == second.exchange.key
    assert (first.exchange.model, first.exchange.source) == ("m", "POST /v1/chat/completions")


def test_it_is_told_that_another_call_was_joined(caching: Caching) -> None:
    async def ask() -> list[tuple[str, str, bool]]:
        wires, opened = [Sent(CHAT), Sent(CHAT)], asyncio.Event()

        async def send() -> Head:
            await opened.wait()
            return said()()

        tasks = [asyncio.ensure_future(caching.ahandle(wire, send)) for wire in wires]
        for _ in range(20):
            await asyncio.sleep(0)
        opened.set()
        await asyncio.gather(*tasks)
        return [told(wire) for wire in wires]

    assert asyncio.run(ask()) == [("miss", "", True), ("joined", "", True)]


def test_it_is_told_that_an_open_answer_was_joined(caching: Caching) -> None:
    async def ask() -> list[tuple[str, str, bool]]:
        wires = [Sent(STREAM), Sent(STREAM)]

        async def send() -> Head:
            await asyncio.sleep(0.01)
            head = streamed()
            head.stream = Later(EVENTS)
            return head

        heads = await asyncio.gather(*(caching.ahandle(wire, send) for wire in wires))
        bodies = [b"".join([piece async for piece in head.stream]) for head in heads]
        assert bodies == [b"".join(EVENTS)] * 2
        return [told(wire) for wire in wires]

    assert asyncio.run(ask()) == [("miss", "", True), ("joined", "", True)]


def test_it_is_told_that_a_call_of_another_process_was_joined(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "cache")
    caching = Caching(Routes(None, None), Cache(store, stream_leases=True), whole=True)
    first, second = Sent(STREAM), Sent(STREAM)
    list(caching.handle(first, streamed).stream)
    assert first.exchange is not None
    key = first.exchange.key
    stored = store.get(key)
    assert stored is not None
    store.delete(key)
    assert store.acquire(key, "another-1", 60.0) is Claim.TAKEN

    def arrive() -> None:
        store.set(key, stored)
        store.release(key, "another-1")

    timer = threading.Timer(0.1, arrive)
    timer.start()
    assert list(caching.handle(second, refused).stream) == EVENTS
    timer.join()
    assert told(second) == ("joined", "", True)


class Later(Pieces):
    """A body that comes in pieces, on an event loop."""

    async def __aiter__(self) -> Any:
        for piece in self.pieces:
            yield piece

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize(
    ("send", "reason"),
    [(said(status=500), "status 500"), (said(b"{}"), "no choices")],
    ids=["an error", "no answer"],
)
def test_it_is_told_why_an_answer_is_not_stored(caching: Caching, send: Any, reason: str) -> None:
    wire = Sent(CHAT)
    caching.handle(wire, send)
    assert told(wire) == ("miss", reason, True)


LEFT: list[Any] = [
    pytest.param(Sent(CHAT, "/v1/models", method="GET"), "method", False, id="GET"),
    pytest.param(Sent({}, "/v1/files/f", method="DELETE"), "method", False, id="DELETE"),
    pytest.param(Sent({}, "/v1/conversations"), "endpoint", False, id="what only keeps data"),
    pytest.param(Sent(b"-", "/v1/files", headers=[FORM]), "endpoint", False, id="a file"),
    pytest.param(Sent({}, "/upload/v1beta/files"), "endpoint", False, id="a file of Google's"),
    pytest.param(Sent(CHAT, "/v1/batches"), "endpoint", True, id="a batch"),
    pytest.param(Sent({}, "/v1/videos"), "endpoint", True, id="a video"),
    pytest.param(Sent({}, "/anything/else"), "endpoint", True, id="what nobody knows"),
    pytest.param(Sent(b"no JSON"), "raw body", True, id="no JSON"),
    pytest.param(
        Sent(b"--b", "/v1/images/edits", headers=[FORM]), "raw body", True, id="a broken form"
    ),
    pytest.param(Sent({}, "/v1/images/edits"), "endpoint", True, id="no form"),
    pytest.param(Sent({**CHAT, "background": True}), "background", True, id="background"),
    pytest.param(Sent({**CHAT, "conversation": "c"}), "conversation", True, id="conversation"),
]


@pytest.mark.parametrize(("wire", "reason", "asks_model"), LEFT)
def test_what_goes_past_is_counted_and_stopped_in_replay_where_it_asks_a_model(
    cache: Cache, caching: Caching, wire: Sent, reason: str, asks_model: bool
) -> None:
    assert caching.handle(wire, lambda: "sent") == "sent"
    assert told(wire) == ("bypassed", reason, False)
    assert cache.stats.bypass_reasons == {reason: 1}
    replay = CallOptions(mode="replay")
    if asks_model:
        with pytest.raises(ReplayMissError):
            caching.handle(wire, refused, replay)
    else:
        assert caching.handle(wire, lambda: "sent", replay) == "sent"


def test_a_caller_who_knows_better_says_what_goes_past(cache: Cache, caching: Caching) -> None:
    wire = Sent(b"", "/v1/realtime", method="GET")
    caching.bypass(wire, "upgrade")
    caching.bypass(wire, "upgrade", CallOptions(mode="off"))
    assert wire.reason == "mode off"
    with pytest.raises(ReplayMissError):
        caching.bypass(wire, "upgrade", CallOptions(mode="replay"), asks_model=True)
    assert wire.reason == "upgrade"
    assert cache.stats.bypass_reasons == {"upgrade": 1, "mode off": 1}


# -- options of one call ---------------------------------------------------------------------------


def test_a_call_has_a_seed_of_its_own(caching: Caching) -> None:
    caching.handle(Sent(CHAT), said())
    other = Sent(CHAT)
    caching.handle(other, said(), CallOptions(cache_seed=7))
    assert told(other) == ("miss", "", True)
    caching.handle(Sent(CHAT), refused, CallOptions(cache_seed=7))


@pytest.mark.parametrize(
    ("own", "reason"),
    [(CallOptions(cache_seed=None), "no seed"), (CallOptions(mode="off"), "mode off")],
    ids=["no seed", "mode off"],
)
def test_a_call_may_leave_the_cache_alone(caching: Caching, own: CallOptions, reason: str) -> None:
    wire = Sent(CHAT)
    for _ in range(2):
        assert caching.handle(wire, lambda: "sent", own) == "sent"
    assert told(wire) == ("bypassed", reason, False)


def test_a_call_has_a_mode_of_its_own(caching: Caching) -> None:
    with pytest.raises(ReplayMissError):
        caching.handle(Sent(CHAT), refused, CallOptions(mode="replay"))
    caching.handle(Sent(CHAT), said())
    caching.handle(Sent(CHAT), refused, CallOptions(mode="replay"))
    again = Sent(CHAT)
    caching.handle(again, said(), CallOptions(mode="refresh"))
    assert told(again) == ("miss", "", True)


@pytest.mark.parametrize(
    ("body", "send"), [(CHAT, said()), (STREAM, streamed)], ids=["whole", "stream"]
)
def test_a_call_is_a_sample_of_its_own(caching: Caching, body: Any, send: Any) -> None:
    for sample in (0, 1, 2):
        wire = Sent(body)
        list(caching.handle(wire, send, CallOptions(sample=sample)).stream)
        assert told(wire) == ("miss", "", True)
    for own in (CallOptions(), CallOptions(sample=0), CallOptions(sample=2)):
        caching.handle(Sent(body), refused, own)


@pytest.mark.parametrize(
    ("body", "send"), [(CHAT, said()), (STREAM, streamed)], ids=["whole", "stream"]
)
def test_a_call_has_a_time_to_live_of_its_own(
    cache: Cache, caching: Caching, body: Any, send: Any
) -> None:
    list(caching.handle(Sent(body), send, CallOptions(ttl=60)).stream)
    [entry] = cache.entries()
    assert entry.expires
    assert 50 < (entry.expires - entry.created).total_seconds() < 70


def test_an_option_holds_for_async_calls_too(caching: Caching) -> None:
    async def ask() -> None:
        async def send() -> Head:
            return said()()

        wires = Sent(CHAT), Sent(CHAT)
        for wire in wires:
            await caching.ahandle(wire, send, CallOptions(cache_seed=7, sample=1))
        assert [told(wire)[0] for wire in wires] == ["miss", "hit"]
        with pytest.raises(ReplayMissError):
            await caching.ahandle(Sent(CHAT), send, CallOptions(mode="replay"))

    asyncio.run(ask())


# -- uploads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/v1/audio/transcriptions", "/v1/audio/translations", "/v1/images/edits"],
)
def test_a_form_is_cached_where_sdks_upload(caching: Caching, path: str) -> None:
    send = said(b'{"text": "hi", "data": [{"b64_json": "aGk="}]}')
    wire = Sent(UPLOAD % b"1", path, headers=[FORM])
    caching.handle(wire, send)
    assert told(wire) == ("miss", "", True)
    caching.handle(Sent(UPLOAD % b"1", path, headers=[FORM]), refused)
    other = Sent(UPLOAD % b"2", path, headers=[FORM])
    caching.handle(other, send)
    assert told(other) == ("miss", "", True)


def test_a_form_is_read_once(caching: Caching, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Sent] = []
    form = Sent.form
    monkeypatch.setattr(Sent, "form", lambda wire: read.append(wire) or form(wire))
    wire = Sent(UPLOAD % b"1", "/v1/audio/transcriptions", headers=[FORM])
    caching.handle(wire, said(b'{"text": "hi"}'))
    caching.handle(Sent(CHAT), said())
    assert read == [wire]


def test_another_boundary_is_the_same_request(caching: Caching) -> None:
    path = "/v1/audio/transcriptions"
    caching.handle(Sent(UPLOAD % b"1", path, headers=[FORM]), said(b'{"text": "hi"}'))
    body = (UPLOAD % b"1").replace(b"--b", b"--other")
    head = ("content-type", 'multipart/form-data; boundary="other"')
    caching.handle(Sent(body, path, headers=[head]), refused)


# -- the bytes of a request ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("python", "node"),
    [
        pytest.param(
            b'{"model": "m", "temperature": 1.0}', b'{"temperature":1,"model":"m"}', id="1.0"
        ),
        pytest.param(b'{"model": "m", "top_p": 1e-07}', b'{"model":"m","top_p":1e-7}', id="1e-07"),
        pytest.param(b'{"model": "m", "n": -0.0}', b'{"model":"m","n":0}', id="-0.0"),
        pytest.param(b'{"model": "m", "a": [100.0]}', b'{"model":"m","a":[1e2]}', id="100.0"),
        pytest.param(
            '{"model": "m", "user": "ü😀\u2028/"}'.encode(),
            b'{"model":"m","user":"\\u00fc\\ud83d\\ude00\\u2028\\/"}',
            id="escapes",
        ),
        pytest.param(b'{"model": "m"}', b'\n{ "model" :\t"m" }\r\n', id="spaces"),
        pytest.param(b'{"model": "m"}', b'{"model": "n", "model": "m"}', id="twice"),
    ],
)
def test_equal_values_have_equal_keys_however_they_are_written(
    caching: Caching, python: bytes, node: bytes
) -> None:
    caching.handle(Sent(python), said())
    caching.handle(Sent(node), refused)


@pytest.mark.parametrize(
    "headers",
    [
        [("content-encoding", "gzip"), ("content-length", "12")],
        [("content-encoding", "identity"), ("content-length", "40")],
        [("transfer-encoding", "chunked"), ("Expect", "100-continue")],
    ],
    ids=["gzip", "identity", "chunked"],
)
def test_how_a_body_was_sent_is_no_part_of_the_key(caching: Caching, headers: Any) -> None:
    caching.handle(Sent(CHAT), said())
    caching.handle(Sent(CHAT, headers=[JSON, *headers]), refused)


def test_a_query_has_the_form_that_the_sdks_give_it(cache: Cache, caching: Caching) -> None:
    caching.handle(Sent(CHAT, "/v1/chat/completions?api-version=1&a=1&a=2&b="), said())
    [entry] = cache.entries()
    assert entry.request["query"] == {"api-version": "1", "a": ["1", "2"], "b": ""}


@pytest.mark.parametrize(
    ("path", "body", "headers", "streams"),
    [
        pytest.param("/v1/chat/completions", STREAM, [JSON], True, id="in the body"),
        pytest.param("/v1/chat/completions", {**CHAT, "stream": False}, [JSON], False, id="false"),
        pytest.param("/v1/chat/completions", {**CHAT, "stream": None}, [JSON], False, id="null"),
        pytest.param(
            "/v1/chat/completions", CHAT, [("accept", "text/event-stream")], True, id="as a header"
        ),
        pytest.param(
            "/v1beta/models/m:streamGenerateContent", {"contents": []}, [JSON], False, id="Gemini"
        ),
        pytest.param("/api/chat", CHAT, [JSON], False, id="Ollama by default"),
        pytest.param("/api/chat", STREAM, [JSON], True, id="Ollama"),
    ],
)
def test_a_stream_is_told_as_the_sdks_tell_it(
    caching: Caching, path: str, body: Any, headers: Any, streams: bool
) -> None:
    wire = Sent(body, path, headers=headers)
    caching.handle(wire, said(status=500))
    assert isinstance(wire.exchange, SdkExchange)
    assert wire.exchange.request.get("stream", False) is streams


def test_a_request_without_a_key_says_so(caching: Caching) -> None:
    wire = Sent(b'{"model": "m", "a": NaN}')
    with pytest.warns(CacheWarning, match="not cached"):
        caching.handle(wire, lambda: "sent")
    assert told(wire) == ("bypassed", "unkeyable", False)
