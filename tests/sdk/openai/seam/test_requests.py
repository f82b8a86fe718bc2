"""What of a request is in its key, and what is not, seen at the SDK's own clients."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai import AzureOpenAI, OpenAI
from openai._types import Omit
from standin import Upstream

from cachewrap.cache import Cache
from cachewrap.format.envelope import unseal
from cachewrap.request import key

Call = Callable[[Upstream], Any]
MESSAGES: Any = [{"role": "user", "content": "hello"}]


def chat(client: dict[str, Any] | None = None, **more: Any) -> Call:
    """One chat call by a client made for it."""

    def call(up: Upstream) -> Any:
        options: dict[str, Any] = {"api_key": "a", "base_url": up.base_url, **(client or {})}
        with OpenAI(**options) as made:
            create: Any = made.chat.completions.create
            result = create(**{"model": "m", "messages": MESSAGES, **more})
            return list(result) if more.get("stream") else result

    return call


def azure(**options: Any) -> Call:
    def call(up: Upstream) -> Any:
        given: dict[str, Any] = {"api_key": "a", "api_version": "1", "azure_endpoint": up.root_url}
        with AzureOpenAI(**{**given, **options}) as made:
            return made.chat.completions.create(model="m", messages=MESSAGES)

    return call


def transcribe(file: Any, **more: Any) -> Call:
    def call(up: Upstream) -> Any:
        with OpenAI(api_key="a", base_url=up.base_url) as made:
            upload = file() if callable(file) else file
            return made.audio.transcriptions.create(**{"model": "m", "file": upload, **more})

    return call


def named(name: str, content: bytes) -> Callable[[], io.BytesIO]:
    def make() -> io.BytesIO:
        file = io.BytesIO(content)
        file.name = name
        return file

    return make


def tools(*names: str, **more: Any) -> Any:
    """A tool that takes arguments of these names, in this order."""
    properties = {name: {"type": "string"} for name in names}
    parameters = {"type": "object", "properties": properties, "required": sorted(names)}
    return [{"type": "function", "function": {"name": "f", "parameters": parameters, **more}}]


def marked(**more: Any) -> Any:
    """A message whose one block bears a mark."""
    return [{"role": "user", "content": [{"type": "text", "text": "hello", **more}]}]


SAME: dict[str, tuple[Call, Call]] = {
    "the same": (chat(), chat()),
    "api key": (chat(), chat({"api_key": "b"})),
    "organisation": (chat(), chat({"organization": "o"})),
    "project": (chat({"project": "p"}), chat({"project": "q"})),
    "timeout": (chat(), chat(timeout=3)),
    "retries": (chat(), chat({"max_retries": 5})),
    "tracing": (chat(), chat(extra_headers={"traceparent": "00-1", "X-Request-ID": "r"})),
    "idempotency": (chat(), chat(extra_headers={"Idempotency-Key": "i"})),
    "credentials in headers": (chat(), chat(extra_headers={"X-Api-Key": "s", "X-Me": "Bearer s"})),
    "credentials in the query": (chat(), chat(extra_query={"api-key": "s"})),
    "user agent": (chat(), chat({"default_headers": {"User-Agent": "mine"}})),
    "header of the client or the call": (
        chat({"default_headers": {"X-Tenant": "t"}}),
        chat(extra_headers={"x-tenant": "t"}),
    ),
    "extra body or keyword": (chat(temperature=0), chat(extra_body={"temperature": 0})),
    "number": (chat(temperature=1), chat(temperature=1.0)),
    "order of the body": (chat(top_p=1, seed=2), chat(seed=2, top_p=1)),
    "a header left out": (
        chat(),
        chat({"default_headers": {"X-A": "1"}}, extra_headers={"X-A": Omit()}),
    ),
    "trailing slash": (azure(), azure()),
    "tracking": (chat(), chat(extra_headers={"x-irid": "1", "X-Session-Affinity": "2"})),
    "signing": (
        chat({"default_headers": {"X-Amz-Date": "20260101T000000Z", "date": "now"}}),
        chat(extra_headers={"x-amz-date": "20260102T000000Z", "x-amz-content-sha256": "ab"}),
    ),
    "the prompt cache": (
        chat(),
        chat(extra_body={"prompt_cache_key": "k", "prompt_cache_retention": "24h"}),
    ),
    "the caller's identifier": (
        chat(extra_body={"safety_identifier": "a"}),
        chat(extra_body={"safety_identifier": "b"}),
    ),
    "a mark of the prompt cache": (
        chat(messages=marked()),
        chat(messages=marked(cache_control={"type": "ephemeral"})),
    ),
    "order of a tool's keywords": (
        chat(tools=tools("a", "b", strict=True, description="d")),
        chat(tools=tools("a", "b", description="d", strict=True)),
    ),
    "upload by bytes or file": (
        transcribe(("a.wav", b"1")),
        transcribe(named("a.wav", b"1")),
    ),
}
DIFFERENT: dict[str, tuple[Call, Call]] = {
    "model": (chat(), chat(model="n")),
    "unknown header": (chat(), chat(extra_headers={"X-New": "1"})),
    "header of the client": (chat(), chat({"default_headers": {"X-Tenant": "t"}})),
    "beta header": (chat(), chat(extra_headers={"OpenAI-Beta": "v2"})),
    "query": (chat(), chat(extra_query={"q": "1"})),
    "query of the client": (chat(), chat({"default_query": {"q": "1"}})),
    "extra body": (chat(), chat(extra_body={"x": 1})),
    "tools": (chat(), chat(tools=[{"type": "function", "function": {"name": "f"}}])),
    "order of a tool's properties": (chat(tools=tools("a", "b")), chat(tools=tools("b", "a"))),
    "stream": (chat(), chat(stream=True)),
    "azure or not": (chat(), azure()),
    "api version": (azure(), azure(api_version="2")),
    "deployment": (azure(azure_deployment="d"), azure(azure_deployment="e")),
    "upload's content": (transcribe(("a", b"1")), transcribe(("a", b"2"))),
    "upload's name": (transcribe(("a", b"1")), transcribe(("b", b"1"))),
    "upload's type": (transcribe(("a", b"1", "x/y")), transcribe(("a", b"1", "x/z"))),
    "form field": (transcribe(("a", b"1")), transcribe(("a", b"1"), language="de")),
}


@pytest.mark.parametrize("pair", SAME.values(), ids=SAME)
def test_one_request(up: Upstream, pair: tuple[Call, Call]) -> None:
    with Cache.memory():
        for call in pair:
            call(up)
    assert up.calls == 1


@pytest.mark.parametrize("pair", DIFFERENT.values(), ids=DIFFERENT)
def test_two_requests(up: Upstream, pair: tuple[Call, Call]) -> None:
    with Cache.memory():
        for call in pair:
            call(up)
    assert up.calls == 2


def test_the_base_url_is_in_the_key(up: Upstream) -> None:
    with Cache.memory():
        chat()(up)
        chat({"base_url": up.base_url.replace("127.0.0.1", "localhost")})(up)
    assert up.calls == 2


def test_credentials_in_the_base_url_are_not(up: Upstream) -> None:
    with Cache.memory():
        chat()(up)
        chat({"base_url": up.base_url.replace("http://", "http://user:pass@")})(up)
    assert up.calls == 1


def test_a_header_of_the_http_client_is_in_the_key(up: Upstream) -> None:
    library = pytest.importorskip("httpx2" if openai.__version__ >= "3" else "httpx")
    with Cache.memory():
        chat()(up)
        chat({"http_client": library.Client(headers={"X-Tenant": "t"})})(up)
    assert up.calls == 2


def test_sync_and_async_callers_share_an_answer(up: Upstream) -> None:
    import asyncio

    async def ask() -> str:
        async with openai.AsyncOpenAI(api_key="a", base_url=up.base_url) as client:
            answer = await client.chat.completions.create(model="m", messages=MESSAGES)
            return answer.id

    with Cache.memory():
        assert chat()(up).id == asyncio.run(ask())
    assert up.calls == 1


def test_the_canonical_request(up: Upstream, client: OpenAI) -> None:
    cache = Cache.memory()
    with cache:
        client.chat.completions.create(
            model="m",
            messages=MESSAGES,
            extra_query={"q": "1"},
            extra_headers={"X-Tenant": "t"},
        )
    (name,) = cache._store.keys()
    raw = cache._store.get(name)
    assert raw is not None
    record = unseal(raw).read_record()
    assert key.decode_request(record["request"]) == {
        "method": "POST",
        "url": f"{up.base_url}/chat/completions",
        "query": {"q": "1"},
        "headers": {"x-tenant": "t"},
        "body": {"model": "m", "messages": MESSAGES},
    }
    assert record["source"] == "POST /chat/completions"
    assert b"sk-secret" not in raw
