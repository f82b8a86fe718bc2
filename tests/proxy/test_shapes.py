"""Errors of the proxy's own, as the SDKs of the providers read them."""

from __future__ import annotations

import importlib
import json
import re
from typing import Any

import pytest

from cachewrap import Cache, CachedTransport, ReplayMissError
from cachewrap.errors import refusal
from cachewrap.proxy.known import PROVIDERS
from cachewrap.proxy.shapes import error_body, replay_miss
from proxy.asking import CALLS, answered

httpx = pytest.importorskip("httpx")

MESSAGE = 'no answer is stored: "temperature" is 0.2 → 0.7'
STATUSES = (401, 404, 413, 429, 501, 502, 504)

SDKS = {
    # the SDK, its module with errors, and the names of those that it raises by status
    "openai": (
        "openai",
        {401: "AuthenticationError", 404: "NotFoundError", 502: "InternalServerError"},
    ),
    "azure": (
        "openai",
        {401: "AuthenticationError", 404: "NotFoundError", 504: "InternalServerError"},
    ),
    "anthropic": ("anthropic", {401: "AuthenticationError", 404: "NotFoundError"}),
    "anthropic-vertex": ("anthropic", {401: "AuthenticationError", 404: "NotFoundError"}),
    "groq": (
        "groq",
        {401: "AuthenticationError", 404: "NotFoundError", 502: "InternalServerError"},
    ),
    "together": ("together", {401: "AuthenticationError", 404: "NotFoundError"}),
    "cerebras": ("cerebras.cloud.sdk", {401: "AuthenticationError", 404: "NotFoundError"}),
    "mistral": ("mistralai.client.errors", {404: "SDKError"}),
    "gemini": ("google.genai.errors", {404: "ClientError", 413: "ClientError", 502: "ServerError"}),
    "vertex": ("google.genai.errors", {404: "ClientError", 502: "ServerError"}),
    "cohere": (
        "cohere.errors",
        {401: "UnauthorizedError", 404: "NotFoundError", 504: "GatewayTimeoutError"},
    ),
    "ollama": ("ollama", {404: "ResponseError", 502: "ResponseError"}),
}
FAMILY = ("openai", "anthropic", "groq", "together", "cerebras.cloud.sdk")


def shape_of(call: str) -> str:
    return PROVIDERS["vertex" if call == "anthropic-vertex" else call].shape


def raised(monkeypatch: pytest.MonkeyPatch, call: str, status: int, kind: str, body: bytes) -> Any:
    """What an SDK raises for an answer."""
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com")
    answered(monkeypatch, status, kind, body)
    with pytest.raises(Exception) as caught:
        CALLS[call]()
    return caught.value


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("call", CALLS)
def test_an_sdk_raises_its_own_error_with_the_message(
    monkeypatch: pytest.MonkeyPatch, call: str, status: int
) -> None:
    kind, body = error_body(shape_of(call), status, MESSAGE, "replay_miss", {"key": "k"})
    error = raised(monkeypatch, call, status, kind, body)
    name, named = SDKS[call]
    module = importlib.import_module(name)
    assert type(error).__module__.partition(".")[0] == name.partition(".")[0]
    if status in named:
        assert type(error) is getattr(module, named[status])
    elif name in FAMILY:
        assert isinstance(error, module.APIStatusError)
    assert MESSAGE in str(error).replace('\\"', '"').replace("\\u2192", "→")
    assert getattr(error, "status_code", getattr(error, "code", None)) == status


@pytest.mark.parametrize("shape", ["openai", "ollama", "cohere", "mistral", "google", "anthropic"])
def test_the_sdk_of_openai_reads_those_of_providers_that_it_can_ask(
    monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    from openai import NotFoundError

    shape = "openai" if shape == "ollama" else shape  # below /v1/ (test_providers.py)
    error = raised(monkeypatch, "openai", 404, *error_body(shape, 404, MESSAGE, "replay_miss"))
    assert isinstance(error, NotFoundError)
    assert str(error).endswith(MESSAGE)


@pytest.mark.parametrize(
    ("shape", "status", "body"),
    [
        (
            "openai",
            404,
            {
                "error": {
                    "message": "m",
                    "type": "invalid_request_error",
                    "param": None,
                    "code": "c",
                }
            },
        ),
        (
            "openai",
            502,
            {"error": {"message": "m", "type": "server_error", "param": None, "code": "c"}},
        ),
        (
            "unheard of",
            404,
            {
                "error": {
                    "message": "m",
                    "type": "invalid_request_error",
                    "param": None,
                    "code": "c",
                }
            },
        ),
        ("azure", 404, {"error": {"code": "c", "message": "m"}}),
        ("anthropic", 404, {"type": "error", "error": {"type": "not_found_error", "message": "m"}}),
        (
            "anthropic",
            413,
            {"type": "error", "error": {"type": "request_too_large", "message": "m"}},
        ),
        (
            "anthropic",
            431,
            {"type": "error", "error": {"type": "invalid_request_error", "message": "m"}},
        ),
        ("anthropic", 502, {"type": "error", "error": {"type": "api_error", "message": "m"}}),
        ("anthropic", 504, {"type": "error", "error": {"type": "timeout_error", "message": "m"}}),
        ("google", 404, {"error": {"code": 404, "message": "m", "status": "NOT_FOUND"}}),
        ("google", 413, {"error": {"code": 413, "message": "m", "status": "INVALID_ARGUMENT"}}),
        ("google", 504, {"error": {"code": 504, "message": "m", "status": "DEADLINE_EXCEEDED"}}),
        ("google", 599, {"error": {"code": 599, "message": "m", "status": "INTERNAL"}}),
        (
            "mistral",
            404,
            {
                "object": "error",
                "message": "m",
                "type": "invalid_request_error",
                "param": None,
                "code": "c",
            },
        ),
        ("cohere", 404, {"message": "m"}),
        ("ollama", 404, {"error": "m"}),
    ],
)
def test_a_body_has_the_shape_of_its_provider(shape: str, status: int, body: Any) -> None:
    kind, content = error_body(shape, status, "m", "c")
    assert kind == "application/json"
    assert json.loads(content) == {**body, "cachewrap": {"code": "c"}}


def test_every_provider_has_a_shape_that_is_known() -> None:
    known = {"openai", "anthropic", "azure", "google", "mistral", "cohere", "ollama"}
    assert {provider.shape for provider in PROVIDERS.values()} == known


def test_what_else_is_known_stands_beside() -> None:
    _, content = error_body("openai", 404, "m", "c", {"key": "k", "odd": object})
    told = json.loads(content)["cachewrap"]
    assert (told["key"], told["code"]) == ("k", "c")


@pytest.mark.parametrize("text", ["\ud800", "\0", 'a"b\\c\n', "→ ü 漢"], ids=ascii)
def test_any_text_is_json(text: str) -> None:
    body = json.loads(error_body("openai", 404, text, "c", {"source": text})[1])
    assert body["error"]["message"] == text.replace("\ud800", "?")


# -- a miss in mode replay ---------------------------------------------------------------------

URL = "https://api.openai.com/v1/chat/completions"
SECRET = "sk-proj-" + "Zq8x3Lw0Kd7Rt2Vb" * 3


def ask(content: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **more}


def missed(stored: dict[str, Any] | None, asked: dict[str, Any]) -> ReplayMissError:
    """The error for a request, where a cache has another one, or none."""
    choice = {"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    inner = httpx.MockTransport(lambda _: httpx.Response(200, json={"choices": [choice]}))
    transport: Any = CachedTransport(inner)
    headers = {"authorization": f"Bearer {SECRET}"}
    with (
        Cache.memory() as cache,
        httpx.Client(transport=transport, headers=headers) as client,
    ):
        if stored is not None:
            client.post(URL, json=stored)
        with cache.mode("replay"), pytest.raises(ReplayMissError) as caught:
            client.post(URL, json=asked)
    return caught.value


def told(error: ReplayMissError, shape: str = "openai") -> Any:
    kind, content = replay_miss(shape, error)
    assert kind == "application/json"
    return json.loads(content)


def test_a_miss_tells_the_nearest_stored_request_and_what_is_different() -> None:
    error = missed(ask("Name a lake.", temperature=0.2), ask("Name a lake.", temperature=0.7))
    body = told(error)
    assert body["error"]["code"] == "replay_miss"
    assert "temperature: 0.2 → 0.7" in body["error"]["message"]
    found = body["cachewrap"]
    assert found["code"] == "replay_miss"
    assert found["key"] == error.key
    assert found["source"] == error.source
    assert found["differences"] == ["temperature: 0.2 → 0.7"]
    assert found["nearest"]["key"] == error.explanation.nearest[0].key
    assert found["nearest"]["request"] == error.nearest
    assert found["nearest"]["request"]["body"]["temperature"] == 0.2
    assert found["remedy"] == "normal"


def test_its_message_says_what_a_client_can_do() -> None:
    message = told(missed(None, ask("Name a lake.")))["error"]["message"]
    assert "send it once with the header x-cachewrap-mode: normal" in message
    assert "or run cachewrap serve --mode normal" in message
    assert "cachewrap run" not in message
    error = missed(None, ask("Name a lake."))
    alone = json.loads(replay_miss("openai", error, "cachewrap run --serve")[1])
    assert "or run cachewrap run --serve --mode normal" in alone["error"]["message"]
    refused = told(refusal("POST /batches", "endpoint"))["error"]["message"]
    assert "x-cachewrap-mode: off" in refused
    assert "no_cache" not in refused


def test_where_nothing_is_stored_there_is_no_nearest() -> None:
    found = told(missed(None, ask("Name a lake.")))["cachewrap"]
    assert (found["nearest"], found["differences"]) == (None, [])


def test_one_that_is_never_stored_has_neither() -> None:
    found = told(refusal("POST /batches", "endpoint"))["cachewrap"]
    assert found == {
        "code": "replay_miss",
        "key": "",
        "source": "POST /batches",
        "nearest": None,
        "differences": [],
        "rules": [],
        "remedy": "",
    }


@pytest.mark.parametrize("shape", ["openai", "anthropic", "google", "cohere", "ollama"])
def test_nothing_secret_is_told(shape: str) -> None:
    stored = ask(f"My key is {SECRET}.", api_key=SECRET, tools=[{"headers": {"x-api-key": SECRET}}])
    body = told(missed(stored, ask(f"My other key is {SECRET[:-3]}abc.")), shape)
    assert SECRET[:20] not in json.dumps(body)
    assert body["cachewrap"]["nearest"] is not None


def test_long_texts_are_cut() -> None:
    found = told(missed(ask("lake " * 10_000), ask("river " * 10_000)))["cachewrap"]
    [message] = found["nearest"]["request"]["body"]["messages"]
    assert len(message["content"]) < 500
    assert "…" in message["content"]


def test_long_requests_are_left_out() -> None:
    many = [{"role": "user", "content": f"{n} " * 100} for n in range(300)]
    error = missed({"model": "m", "messages": many}, ask("Name a lake."))
    content = replay_miss("openai", error)[1]
    assert json.loads(content)["cachewrap"]["nearest"]["request"] is None
    assert json.loads(content)["cachewrap"]["nearest"]["key"]
    assert len(content) < 40_000


def test_long_lists_are_cut() -> None:
    error = missed(ask("a", logit=list(range(1000))), ask("b"))
    found = told(error)["cachewrap"]["nearest"]["request"]["body"]["logit"]
    assert (len(found), found[-1]) == (401, "… and 600 more")


@pytest.mark.parametrize("call", CALLS)
def test_its_sdk_shows_it(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    error = missed(ask("Name a lake.", temperature=0.2), ask("Name a lake.", temperature=0.7))
    shown = str(raised(monkeypatch, call, 404, *replay_miss(shape_of(call), error)))
    assert re.search(r"temperature: 0\.2 (→|\\u2192) 0\.7", shown)
