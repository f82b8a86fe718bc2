"""Servers for models of one's own on loopback, in the APIs of their own, with nothing named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cachewrap import Cache
from http_libraries.web import Reading, Web


def sse(*events: Any) -> bytes:
    texts = (event if isinstance(event, str) else json.dumps(event) for event in events)
    return "".join(f"data: {text}\n\n" for text in texts).encode()


LLAMA = {"content": "Under the sink.", "stop": True}
LLAMA_STREAM = sse({"content": "Under", "stop": False}, {"content": " the sink.", "stop": True})
TGI_STREAM = sse({"token": {"text": "Under"}}, {"token": {"text": "."}, "generated_text": "Under."})
SGLANG_STREAM = sse({"text": "Under", "meta_info": {}}, "[DONE]")
PROMPT = {"prompt": "Where?"}


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        pytest.param("/completion", PROMPT, LLAMA, id="llama.cpp"),
        pytest.param("/completion", {**PROMPT, "stream": True}, LLAMA_STREAM, id="its stream"),
        pytest.param("/completions", {**PROMPT, "stream": True}, LLAMA_STREAM, id="its other path"),
        pytest.param("/infill", {"input_prefix": "a", "input_suffix": "b"}, LLAMA, id="infill"),
        pytest.param("/embedding", {"content": "a"}, [{"index": 0, "embedding": [[1.0]]}], id="v"),
        pytest.param(
            "/v1/score",
            {"model": "m", "text_1": "a", "text_2": "b"},
            {"object": "list", "data": [{"index": 0, "object": "score", "score": 0.5}]},
            id="vllm score",
        ),
        pytest.param(
            "/classify",
            {"model": "m", "input": "a"},
            {"object": "list", "data": [{"label": "sad", "probs": [0.9, 0.1]}]},
            id="vllm classify",
        ),
        pytest.param(
            "/pooling", {"model": "m", "input": "a"}, {"data": [{"data": [1.0]}]}, id="vllm pooling"
        ),
        pytest.param(
            "/generate",
            {"inputs": "a", "parameters": {}},
            {"generated_text": "Under."},
            id="tgi",
        ),
        pytest.param("/generate_stream", {"inputs": "a"}, TGI_STREAM, id="tgi stream"),
        pytest.param(
            "/generate",
            {"text": "a", "sampling_params": {}, "stream": True},
            SGLANG_STREAM,
            id="sglang stream",
        ),
        pytest.param("/embed", {"inputs": "a"}, [[0.5, 1.0]], id="tei"),
        pytest.param("/rerank", {"query": "a", "texts": ["b"]}, [{"index": 0, "score": 1}], id="r"),
        pytest.param(
            "/api/v1/chat",
            {"model": "m", "input": "a"},
            {"output": [{"type": "message"}]},
            id="lms",
        ),
    ],
)
def test_they_are_cached(web: Web, cache: Cache, path: str, body: Any, answer: Any) -> None:
    is_stream = isinstance(answer, bytes)
    kind = "text/event-stream" if is_stream else "application/json"
    raw = answer if is_stream else json.dumps(answer).encode()
    web.up.behave(body=raw, content_type=kind)
    web.patch()
    with cache:
        told = [web.ask(body, path, reading=Reading()) for _ in range(2)]
    assert [(one.mark, one.body) for one in told] == [(None, raw), ("hit", raw)]
    assert (web.up.calls, cache.stats.unstored_reasons) == (1, {})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/messages", {"text": "hello"}),
        ("/completion", {"task": 7}),
        ("/generate", {"inputs": "of a form"}),
        ("/classify", {"image": "…"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_app_at_such_a_path_is_left_alone(web: Web, cache: Cache, path: str, body: Any) -> None:
    web.up.behave(body=b'{"id": 1}')
    web.patch()
    with cache:
        for _ in range(2):
            web.ask(body, path)
    assert (web.up.calls, cache.stats.calls, cache.stats.bypassed) == (2, 0, 0)
