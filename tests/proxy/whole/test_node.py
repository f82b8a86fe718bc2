"""The real SDKs for Node through the proxy: as without it, and once only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from standin import Upstream as Standin

from proxy.conftest import Serve, url_of
from proxy.node import Call, Node, Outcome
from proxy.upstream import Upstream, answer, completion, events, stream

SAY = {"model": "m", "messages": [{"role": "user", "content": "Say: Grüße 世界"}]}
MESSAGE = {**SAY, "max_tokens": 9}


def openai(method: str, params: Any, **more: Any) -> Call:
    return Call("openai", "{proxy}/openai/v1", method, params, **more)


def anthropic(method: str, params: Any, **more: Any) -> Call:
    return Call("anthropic", "{proxy}/anthropic", method, params, **more)


CACHED = {
    "chat": openai("chat.completions.create", SAY),
    "chat stream": openai("chat.completions.create", {**SAY, "stream": True}),
    "responses": openai("responses.create", {"model": "m", "input": "hi"}),
    "responses stream": openai("responses.create", {"model": "m", "input": "hi", "stream": True}),
    "completions": openai("completions.create", {"model": "m", "prompt": "hi"}),
    "embeddings": openai("embeddings.create", {"model": "m", "input": ["a", "b"]}),
    "embeddings of floats": openai(
        "embeddings.create", {"model": "m", "input": "a", "encoding_format": "float"}
    ),
    "moderations": openai("moderations.create", {"input": "hi"}),
    "speech": openai("audio.speech.create", {"model": "m", "input": "hi", "voice": "a"}),
    "messages": anthropic("messages.create", MESSAGE),
    "messages stream": anthropic("messages.create", {**MESSAGE, "stream": True}),
    "transcription": openai("audio.transcriptions.create", {"model": "m"}, file="RIFF"),
    "tokens": anthropic("messages.countTokens", SAY),
}
PASSED = {
    "models": openai("models.list", None),
    "upload": openai("files.create", {"purpose": "batch"}, file="some\nlines\n" * 1000),
    "retrieve": openai("files.retrieve", ["file-1"]),
    "content": openai("files.content", ["file-1"]),
    "delete": openai("files.delete", ["file-1"]),
}


def at(root: str, call: Call, **more: Any) -> Call:
    """The call of a proxy at this address."""
    return replace(call, **{"url": call.url.format(proxy=root), **more})


def test_what_is_cached(serve: Serve, standin: Standin, node: Node) -> None:
    proxy = serve(upstreams=url_of(standin))
    calls = [at(proxy.url, call) for call in CACHED.values()]
    told = node.run(*(call for call in calls for _ in range(2)))
    pairs = dict(zip(CACHED, zip(told[::2], told[1::2], strict=True), strict=True))
    for name, (first, second) in pairs.items():
        assert first.error is second.error is None, (name, first.error, second.error)
        assert (first.mark, second.mark) == ("miss", "hit"), name
        assert first.value == second.value, name
    assert standin.calls == len(CACHED)


def test_what_passes(serve: Serve, standin: Standin, node: Node) -> None:
    proxy = serve(upstreams=url_of(standin))
    told = node.run(*(at(proxy.url, call) for call in PASSED.values()))
    for name, outcome in zip(PASSED, told, strict=True):
        assert outcome.error is None, (name, outcome.error)
        assert outcome.mark == "bypass", name
    uploaded = next(request for request in standin.requests if request.path == "/v1/files")
    (file,) = (part for part in uploaded.parts() if part.filename)
    assert file.content == b"some\nlines\n" * 1000


ERRORS = {
    400: {"BadRequestError"},
    401: {"AuthenticationError"},
    404: {"NotFoundError"},
    429: {"RateLimitError"},
    500: {"InternalServerError"},
    529: {"InternalServerError", "OverloadedError"},
}


def test_errors_are_those_of_the_sdk(serve: Serve, standin: Standin, node: Node) -> None:
    """Those of the upstream as they came, and nothing of them is stored."""
    proxy = serve(upstreams=url_of(standin))
    for status in ERRORS:
        standin.fail(status, status)
    calls = [CACHED["chat"], CACHED["messages stream"]]
    told = node.run(*(at(proxy.url, call) for _ in ERRORS for call in calls))
    for index, (status, names) in enumerate(ERRORS.items()):
        for outcome in told[2 * index : 2 * index + 2]:
            assert outcome.status == status
            assert outcome.error["name"] in names
            assert "Failure" in outcome.error["message"]
            assert outcome.mark == "miss"
    again = node.run(*(at(proxy.url, call) for call in calls))
    assert [one.mark for one in again] == ["miss", "miss"]


def test_errors_of_ours_are_those_of_the_sdk(serve: Serve, standin: Standin, node: Node) -> None:
    proxy = serve(upstreams={**url_of(standin), "down": "http://127.0.0.1:1"})
    replay = {"x-cachewrap-mode": "replay"}
    stored = at(proxy.url, CACHED["chat"])
    other = {**SAY, "messages": [{"role": "user", "content": "Say: Gruß 世界"}]}
    told = node.run(
        stored,
        at(proxy.url, openai("chat.completions.create", other), headers=replay),
        at(proxy.url, CACHED["messages"], headers=replay),
        at(proxy.url, CACHED["chat stream"], headers={"x-cachewrap-mode": "wrong"}),
        at(proxy.url, CACHED["chat"], url=f"{proxy.url}/nowhere/v1"),
        at(proxy.url, CACHED["chat"], url=f"{proxy.url}/down/v1"),
    )
    _, near, far, control, nowhere, down = told
    assert (near.status, near.error["name"], near.mark) == (404, "NotFoundError", "miss")
    assert "Grüße" in near.error["message"]
    assert near.error["body"]
    assert (far.status, far.error["name"], far.mark) == (404, "NotFoundError", "miss")
    assert far.error["body"]["type"] == "error"
    assert (control.status, control.error["name"]) == (400, "BadRequestError")
    assert (nowhere.status, nowhere.error["name"]) == (404, "NotFoundError")
    assert (down.status, down.error["name"]) == (502, "InternalServerError")
    assert standin.calls == 1


def test_controls(serve: Serve, standin: Standin, node: Node) -> None:
    """Modes, seeds and samples of one call, as headers that go no further."""
    proxy = serve(upstreams=url_of(standin))
    wanted: list[tuple[dict[str, str], str]] = [
        ({}, "miss"),
        ({}, "hit"),
        ({"x-cachewrap-sample": "1"}, "miss"),
        ({"x-cachewrap-sample": "1"}, "hit"),
        ({"x-cachewrap-seed": "7"}, "miss"),
        ({"x-cachewrap-seed": "7"}, "hit"),
        ({"x-cachewrap-refresh": "true"}, "miss"),
        ({"x-cachewrap-mode": "off"}, "bypass"),
        ({"x-cachewrap-seed": "none"}, "bypass"),
        ({"x-cachewrap-ttl": "3600"}, "hit"),
        ({}, "hit"),
    ]
    calls = [at(proxy.url, CACHED["chat"], headers=headers) for headers, _ in wanted]
    told = node.run(*calls)
    assert [one.error for one in told] == [None] * len(wanted)
    assert [one.mark for one in told] == [mark for _, mark in wanted]
    for request in standin.requests:
        assert not [name for name in request.headers if name.startswith("x-cachewrap")]
    assert told[-1].value == told[6].value, "refreshed"


def test_many_at_once(serve: Serve, standin: Standin, node: Node) -> None:
    proxy = serve(upstreams=url_of(standin))
    standin.behave(gap=0.005, delay=0.05)
    stream_of = CACHED["chat stream"]
    told: list[Outcome] = node.run(*[at(proxy.url, stream_of)] * 16, together=True)
    assert [one.error for one in told] == [None] * 16
    assert all(one.value == told[0].value for one in told)
    assert standin.calls == 1
    assert sorted({one.mark or "" for one in told} - {"hit"}) == ["joined", "miss"]


def test_a_stream_that_is_left(serve: Serve, standin: Standin, node: Node) -> None:
    """The SDK aborts it: the next one gets all of it, and the proxy is none the worse."""
    proxy = serve(upstreams=url_of(standin))
    standin.behave(gap=0.01)
    left = at(proxy.url, CACHED["messages stream"], leave_after=2)
    whole = at(proxy.url, CACHED["messages stream"])
    first, second, third = node.run(left, whole, whole)
    assert len(first.value) == 2
    assert second.error is third.error is None
    assert second.value == third.value
    assert second.value[-1]["type"] == "message_stop"


@pytest.mark.parametrize("coding", ["gzip", "br", None])
def test_streams_of_every_coding(
    serve: Serve, upstream: Upstream, node: Node, coding: str | None
) -> None:
    from proxy.whole.test_streams import packed

    proxy = serve(upstreams={"openai": upstream.url})
    pieces = events("Grüße", " 世界", end="\r\n", comment=": hi")
    if coding is None:
        upstream.usual = stream(*pieces)
    else:
        upstream.usual = stream(*packed(coding, pieces), headers=(f"Content-Encoding: {coding}",))
    told = node.run(*[at(proxy.url, CACHED["chat stream"])] * 2)
    for one, mark in zip(told, ("miss", "hit"), strict=True):
        assert one.error is None
        assert one.mark == mark
        said = [piece["choices"][0]["delta"].get("content") for piece in one.value]
        assert said == ["Grüße", " 世界", ""]


def test_a_key_is_neither_told_nor_kept(serve: Serve, upstream: Upstream, node: Node) -> None:
    proxy = serve(upstreams={"openai": upstream.url})
    upstream.usual = answer(completion())
    told = node.run(*(at(proxy.url, CACHED["chat"], key=f"sk-{name}") for name in "ab"))
    assert [one.mark for one in told] == ["miss", "hit"]
    assert upstream.last.get("authorization") == "Bearer sk-a"
