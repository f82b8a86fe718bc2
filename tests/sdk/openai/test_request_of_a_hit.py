"""The request that a hit tells of: in full, as the client would have sent it."""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import openai
import pytest
from pydantic import BaseModel
from standin import Upstream

from cachewrap import Cache
from sdk.openai.asking import Colour
from sdk.openai.shapes import INSTALLED, RESPONSES, chat

QUESTION = chat(1)
BOUNDARY = re.compile(rb"[0-9a-f]{32}")


class Answer(BaseModel):
    text: str


def sound() -> Any:
    return ("a.wav", BytesIO(b"RIFF sound"), "audio/wav")


def more() -> dict[str, Any]:
    return {
        "extra_headers": {"x-extra": "1"},
        "extra_query": {"region": "eu", "many": ["a", "b"]},
        "extra_body": {"top_k": 3},
        "timeout": 7.0,
    }


WAYS: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "chat": ("chat.completions.{}.create", lambda: QUESTION),
    "more": ("chat.completions.{}.create", lambda: {**QUESTION, **more()}),
    "parse": (
        "chat.completions.{}.parse" if INSTALLED >= (1, 92) else "beta.chat.completions.{}.parse",
        lambda: {**QUESTION, "response_format": Answer},
    ),
    "stream": ("chat.completions.{}.create", lambda: {**QUESTION, "stream": True}),
    "embeddings": ("embeddings.{}.create", lambda: {"model": "m", "input": ["a", "b"]}),
    "transcription": (
        "audio.transcriptions.{}.create",
        lambda: {"model": "whisper-1", "file": sound()},
    ),
    "speech": ("audio.speech.{}.create", lambda: {"model": "m", "input": "hi", "voice": "alloy"}),
    # Earlier ones take one picture alone.
    "edit": (
        "images.{}.edit",
        lambda: {"image": [sound(), sound()] if INSTALLED >= (1, 76) else sound(), "prompt": "a"},
    ),
}
if INSTALLED >= RESPONSES:
    WAYS["responses"] = ("responses.{}.create", lambda: {"model": "m", "input": "hi"})


def ask(colour: Colour, client: Any, way: str, raw: str = "with_raw_response") -> Any:
    """A raw response, whose stream is read."""
    path, keywords = WAYS[way]
    method = client
    for name in path.format(raw).split("."):
        method = getattr(method, name)
    response = colour.wait(method(**keywords()))
    if way == "stream":
        stream = response.parse()

        async def read() -> None:
            async for _ in stream:
                pass

        colour.wait(list(stream) if colour.name == "sync" else read())
    return response


def told(request: Any) -> dict[str, Any]:
    """Everything that a request tells, but for the boundary of its parts, which is drawn."""
    content = b"".join(request.stream)
    headers = [(name, BOUNDARY.sub(b"", value.encode())) for name, value in request.headers.items()]
    return {
        "method": request.method,
        "url": str(request.url),
        "headers": headers,
        "content": BOUNDARY.sub(b"", content),
        "extensions": request.extensions,
        "repr": repr(request),
        "type": type(request),
    }


@pytest.mark.parametrize("kind", ["openai", "azure"])
@pytest.mark.parametrize("way", WAYS)
def test_it_is_that_of_its_miss(
    up: Upstream, colour: Colour, cache: Cache, kind: str, way: str
) -> None:
    client = colour.client(up, kind, default_headers={"x-of-the-client": "1"})
    with cache:
        miss, hit = (ask(colour, client, way) for _ in range(2))
    assert (up.calls, hit.headers["x-cachewrap"]) == (1, "hit")
    assert told(hit.http_request) == told(miss.http_request)
    assert told(hit.http_response.request) == told(miss.http_response.request)
    assert (hit.url, hit.method) == (miss.url, miss.method)


def test_what_the_suites_of_the_sdks_ask(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        for _ in range(2):
            response = ask(colour, client, "chat")
            assert response.is_closed is True
            assert response.http_request.headers.get("X-Stainless-Lang") == "python"
            assert response.http_request.headers["x-stainless-retry-count"] == "0"
            assert response.http_request.headers["content-type"] == "application/json"
            assert response.http_request.headers["authorization"] == "Bearer sk-test"
            assert json.loads(response.http_request.content) == QUESTION
            assert response.retries_taken == 0
    assert up.calls == 1


def test_of_an_open_response(up: Upstream, client: Any, colour: Colour, cache: Cache) -> None:
    def open_() -> dict[str, Any]:
        with client.chat.completions.with_streaming_response.create(**QUESTION) as response:
            response.read()
            return told(response.http_request)

    async def aopen() -> dict[str, Any]:
        async with client.chat.completions.with_streaming_response.create(**QUESTION) as response:
            await response.read()
            return told(response.http_request)

    with cache:
        miss, hit = (colour.wait(open_() if colour.name == "sync" else aopen()) for _ in range(2))
    assert (up.calls, hit) == (1, miss)


def test_of_a_stream_at_the_front_door(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    def request() -> dict[str, Any]:
        stream = colour.wait(client.chat.completions.create(**QUESTION, stream=True))

        async def read() -> None:
            async for _ in stream:
                pass

        colour.wait(list(stream) if colour.name == "sync" else read())
        found = told(stream.response.request)
        return found | {"content": json.loads(found["content"])}

    with cache:
        miss, *hits = (request() for _ in range(4))
    for hit in hits:
        assert hit == miss
    assert up.calls == 1


@pytest.mark.parametrize("colour", ["sync"], indirect=True)
def test_it_carries_no_header_of_ours(up: Upstream, client: Any, colour: Colour) -> None:
    cache = Cache.memory()
    for _ in range(2):
        raw = client.chat.completions.with_raw_response.create(
            **QUESTION, cache=cache, cache_seed=3
        )
    names = [name for name in raw.http_request.headers if "cachewrap" in name]
    assert (raw.headers["x-cachewrap"], names, up.calls) == ("hit", [], 1)


class TestHowItIsBuilt:
    @pytest.fixture
    def colour(self) -> Colour:
        return Colour("sync")

    @pytest.fixture
    def hit(self, up: Upstream, client: Any, colour: Colour, cache: Cache) -> Any:
        with cache:
            ask(colour, client, "chat")
            return ask(colour, client, "chat").http_request

    def library(self, client: Any) -> Any:
        return type(client._client.build_request("GET", "http://h/"))

    def test_only_when_somebody_looks(self, hit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        built: list[Any] = []
        build = openai.OpenAI._build_request

        def counted(client: Any, *args: Any, **kwargs: Any) -> Any:
            built.append(args)
            return build(client, *args, **kwargs)

        monkeypatch.setattr(openai.OpenAI, "_build_request", counted)
        assert (built, isinstance(hit, object)) == ([], True)
        assert hit.method
        assert hit.url
        assert hit.content
        assert len(built) == 1

    def test_its_type(self, client: Any, hit: Any) -> None:
        assert isinstance(hit, self.library(client))
        assert type(hit).__name__ == "Request"
        assert hit.headers
        assert type(hit) is self.library(client)

    @pytest.mark.parametrize(
        "copied",
        [copy.copy, copy.deepcopy, lambda hit: pickle.loads(pickle.dumps(hit))],
        ids=["copy", "deepcopy", "pickle"],
    )
    def test_it_can_be_copied(self, hit: Any, copied: Callable[[Any], Any]) -> None:
        made = copied(hit)
        assert (made.content, made.headers, made.url) == (hit.content, hit.headers, hit.url)

    def test_what_is_set_before_stays(self, hit: Any) -> None:
        hit.extensions = {"mine": 1}
        assert hit.content
        assert hit.extensions == {"mine": 1}

    def test_a_client_that_looks_while_it_reads_the_answer(
        self, up: Upstream, client: Any, cache: Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        process = openai.OpenAI._process_response

        def looks(client: Any, **given: Any) -> Any:
            assert given["response"].request.method == "POST"
            return process(client, **given)

        monkeypatch.setattr(openai.OpenAI, "_process_response", looks)
        with cache:
            miss, hit = (
                client.chat.completions.with_raw_response.create(**QUESTION) for _ in range(2)
            )
        assert (up.calls, told(hit.http_request)) == (1, told(miss.http_request))

    def test_what_it_does_not_have(self, hit: Any) -> None:
        with pytest.raises(AttributeError, match="no_such"):
            _ = hit.no_such

    def test_by_several_threads(self, hit: Any) -> None:
        with ThreadPoolExecutor(8) as pool:
            seen = set(pool.map(lambda _: (hit.content, hit.method, str(hit.url)), range(64)))
        assert len(seen) == 1

    def test_of_a_client_that_is_closed(self, client: Any, hit: Any) -> None:
        client.close()
        assert json.loads(hit.content) == QUESTION

    def test_where_the_client_cannot_build_it(
        self, hit: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("not today")

        monkeypatch.setattr(openai.OpenAI, "_build_request", broken)
        assert (hit.method, hit.url.path) == ("POST", "/v1/chat/completions")


def test_a_hook_of_the_programs_own_runs_once(up: Upstream, colour: Colour, cache: Cache) -> None:
    client = colour.client(up)
    ran: list[Any] = []

    def hook(options: Any) -> Any:
        ran.append(options)
        options.headers = {**(options.headers or {}), "x-hooked": "1"}
        return options

    async def ahook(options: Any) -> Any:
        return hook(options)

    client._prepare_options = hook if colour.name == "sync" else ahook
    with cache:
        miss, hit = (ask(colour, client, "chat") for _ in range(2))
    before = len(ran)
    assert told(hit.http_request) == told(miss.http_request)
    assert (hit.http_request.headers["x-hooked"], len(ran), up.calls) == ("1", before, 1)


@pytest.mark.parametrize("colour", ["sync"], indirect=True)
def test_a_file_that_is_closed_by_then(up: Upstream, client: Any, cache: Cache) -> None:
    with cache:
        for _ in range(2):
            file = BytesIO(b"RIFF sound")
            raw = client.audio.transcriptions.with_raw_response.create(
                model="whisper-1", file=("a.wav", file)
            )
            file.close()
    assert raw.headers["x-cachewrap"] == "hit"
    request = raw.http_request
    assert (request.method, request.url.path) == ("POST", "/v1/audio/transcriptions")
