"""Hits of the patched OpenAI SDK, beside the SDK itself on a network that costs nothing."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai

from benchmarks.harness import Row
from benchmarks.requests import Size
from cachewrap import Cache, patch_openai, unpatch_openai


def client(size: Size, *, answers: int | None = None) -> openai.OpenAI:
    """A client whose transport answers at once; after ``answers`` of them it fails."""
    family = "httpx2" if int(openai.__version__.split(".")[0]) >= 3 else "httpx"
    httpx: Any = importlib.import_module(family)
    body = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4o-mini",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": size.answer()},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18},
        }
    ).encode()
    left = answers

    def answer(request: Any) -> Any:
        nonlocal left
        if left is not None:
            if left == 0:
                raise RuntimeError("this call was to be a hit")
            left -= 1
        return httpx.Response(200, content=body, headers={"content-type": "application/json"})

    http_client = httpx.Client(transport=httpx.MockTransport(answer))
    return openai.OpenAI(api_key="none", max_retries=0, http_client=http_client)


@contextmanager
def patched(cache: Cache | None) -> Iterator[None]:
    """The SDK patched, inside a block if a cache is given."""
    patch_openai()
    try:
        if cache is None:
            yield
        else:
            with cache:
                yield
    finally:
        unpatch_openai()


@contextmanager
def chat(size: Size) -> Iterator[list[Row]]:
    """`chat.completions.create`, beside the SDK as it is."""
    messages: Any = size.conversation()
    upstream = client(size)

    def ask(one: openai.OpenAI) -> Any:
        return one.chat.completions.create(model="gpt-4o-mini", messages=messages)

    with tempfile.TemporaryDirectory() as folder:
        rows = [
            Row("SDK alone", lambda: ask(upstream)),
            Row("patched, outside any block", lambda: ask(upstream), lambda: patched(None)),
        ]
        for name, cache in [
            ("hit on disk", Cache.disk(cache_path_root=folder)),
            ("hit in memory", Cache.memory()),
        ]:
            once = client(size, answers=1)
            with patched(cache):
                ask(once)
            rows.append(
                Row(name, lambda once=once: ask(once), lambda cache=cache: patched(cache))  # type: ignore[misc]
            )
        yield rows
