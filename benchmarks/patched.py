"""Hits of the patched OpenAI SDK, beside the SDK itself on a network that costs nothing."""

from __future__ import annotations

import asyncio
import importlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from types import MappingProxyType
from typing import Any

import openai
import wrapt
from openai._base_client import SyncAPIClient
from openai.resources.chat.completions import Completions

from benchmarks.harness import Row
from benchmarks.requests import SMALL, Size
from cachewrap import Cache, patch_openai, unpatch_openai


def client(size: Size, *, answers: int | None = None, stream: bool = False) -> openai.OpenAI:
    """A client whose transport answers at once; after ``answers`` of them it fails."""
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
    kind = "application/json"
    if stream:
        body, kind = _events(size), "text/event-stream"
    left = answers

    def answer() -> tuple[bytes, str]:
        nonlocal left
        if left is not None:
            if left == 0:
                raise RuntimeError("this call was to be a hit")
            left -= 1
        return body, kind

    return client_of(answer)


def client_of(answer: Callable[[], tuple[bytes, str]]) -> openai.OpenAI:
    """A client whose transport answers at once, with a body and its content type."""
    family = "httpx2" if int(openai.__version__.split(".")[0]) >= 3 else "httpx"
    httpx: Any = importlib.import_module(family)

    def respond(request: Any) -> Any:
        body, kind = answer()
        return httpx.Response(200, content=body, headers={"content-type": kind})

    http_client = httpx.Client(transport=httpx.MockTransport(respond))
    return openai.OpenAI(api_key="none", max_retries=0, http_client=http_client)


def _events(size: Size) -> bytes:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None}
        for word in size.answer().split()
    ]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    events = [json.dumps({**head, "choices": [choice]}) for choice in choices]
    return "".join(f"data: {event}\n\n" for event in (*events, "[DONE]")).encode()


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
def wrapped() -> Iterator[None]:
    """Three of the SDK's methods in wrappers of wrapt's that do nothing: the floor of a patch."""

    def nothing(function: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        return function(*args, **kwargs)

    owners = [
        (Completions, "create"),
        (SyncAPIClient, "request"),
        (SyncAPIClient, "_process_response"),
    ]
    before = [(owner, name, vars(owner)[name]) for owner, name in owners]
    for owner, name, function in before:
        setattr(owner, name, wrapt.FunctionWrapper(function, nothing))
    try:
        yield
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


@contextmanager
def chat(size: Size) -> Iterator[list[Row]]:
    """`chat.completions.create`, beside the SDK as it is."""
    messages: Any = size.conversation()
    upstream = client(size)

    def ask(one: openai.OpenAI) -> Any:
        return one.chat.completions.create(model="gpt-4o-mini", messages=messages)

    def ask_long(one: openai.OpenAI) -> Any:
        return one.chat.completions.create(
            model="gpt-4o-mini", messages=messages, extra_query=MappingProxyType({})
        )

    with tempfile.TemporaryDirectory() as folder:
        disk = Cache.disk(cache_path_root=folder)
        once = client(size, answers=1)
        with patched(disk):
            ask(once)
        yield [
            Row("SDK alone", lambda: ask(upstream)),
            Row("in wrappers that do nothing", lambda: ask(upstream), wrapped),
            Row(
                "patched, outside any block",
                lambda: ask(upstream),
                lambda: patched(None),
                target=1.01,
            ),
            Row(
                "hit on disk",
                lambda: ask(once),
                lambda: patched(disk),
                target=0.10 if size is SMALL else 0.02,
            ),
            Row("hit on disk, the long way", lambda: ask_long(once), lambda: patched(disk)),
        ]


@contextmanager
def stream(size: Size) -> Iterator[list[Row]]:
    """A stream of one event for each word, read to its end, beside the SDK as it is."""
    messages: Any = size.conversation()
    upstream = client(size, stream=True)

    def ask(one: openai.OpenAI) -> Any:
        return list(
            one.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True)
        )

    with tempfile.TemporaryDirectory() as folder:
        disk = Cache.disk(cache_path_root=folder)
        once = client(size, answers=1, stream=True)
        with patched(disk):
            ask(once)
        yield [
            Row("SDK alone", lambda: ask(upstream)),
            Row("hit on disk", lambda: ask(once), lambda: patched(disk), target=0.5),
        ]


@contextmanager
def concurrent(size: Size) -> Iterator[list[Row]]:
    """200 async hits at once, beside 200 one after the other."""
    messages: Any = size.conversation()
    once = client(size, answers=1)
    own = openai.AsyncOpenAI(api_key="none", base_url=once.base_url, max_retries=0)

    async def one() -> Any:
        return await own.chat.completions.create(model="gpt-4o-mini", messages=messages)

    async def sequential() -> Any:
        return [await one() for _ in range(200)]

    async def at_once() -> Any:
        return await asyncio.gather(*(one() for _ in range(200)))

    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        disk = Cache.disk(cache_path_root=folder)
        with patched(disk):
            once.chat.completions.create(model="gpt-4o-mini", messages=messages)
            once.chat.completions.create(model="gpt-4o-mini", messages=messages)
        yield [
            Row(
                "200 sequential hits",
                lambda: runner.run(sequential(), context=copy_context()),
                lambda: patched(disk),
            ),
            Row(
                "200 concurrent hits",
                lambda: runner.run(at_once(), context=copy_context()),
                lambda: patched(disk),
                target=1.3,
            ),
        ]
