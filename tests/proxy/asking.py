"""Real SDKs that ask a model once, and answers in place of the net's."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def _openai() -> None:
    from openai import OpenAI

    OpenAI(api_key="k", max_retries=0).chat.completions.create(**ASK)


def _azure() -> None:
    from openai import AzureOpenAI

    AzureOpenAI(api_key="k", api_version="2024-10-21", max_retries=0).chat.completions.create(**ASK)


def _anthropic() -> None:
    from anthropic import Anthropic

    Anthropic(api_key="k", max_retries=0).messages.create(**ASK, max_tokens=1)


def _anthropic_vertex() -> None:
    from anthropic import AnthropicVertex

    client = AnthropicVertex(region="us-east5", project_id="p", access_token="t", max_retries=0)
    client.messages.create(**ASK, max_tokens=1)


def _groq() -> None:
    sdk = pytest.importorskip("groq")
    sdk.Groq(api_key="k", max_retries=0).chat.completions.create(**ASK)


def _together() -> None:
    sdk = pytest.importorskip("together")
    sdk.Together(api_key="k", max_retries=0).chat.completions.create(**ASK)


def _cerebras() -> None:
    sdk = pytest.importorskip("cerebras.cloud.sdk")
    sdk.Cerebras(api_key="k", warm_tcp_connection=False, max_retries=0).chat.completions.create(
        **ASK
    )


def _mistral() -> None:
    sdk = pytest.importorskip("mistralai.client", reason="no mistralai")
    url = os.environ.get("MISTRAL_BASE_URL")
    sdk.Mistral(api_key="k", server_url=url).chat.complete(**ASK)


def _gemini() -> None:
    genai = pytest.importorskip("google.genai")
    client = genai.Client(api_key="k")
    client.models.generate_content(model="m", contents="hi")


def _vertex() -> None:
    genai = pytest.importorskip("google.genai")
    from google.oauth2.credentials import Credentials

    token: Any = Credentials("token")  # type: ignore[no-untyped-call]
    client = genai.Client(vertexai=True, project="p", location="us-central1", credentials=token)
    client.models.generate_content(model="m", contents="hi")


def _cohere() -> None:
    sdk = pytest.importorskip("cohere")
    # It reads the variable when it is imported.
    sdk.ClientV2(api_key="k", base_url=os.environ.get("CO_API_URL")).chat(
        **ASK, request_options={"max_retries": 0}
    )


def _ollama() -> None:
    pytest.importorskip("ollama").Client().chat(**ASK)


CALLS: dict[str, Callable[[], None]] = {
    "openai": _openai,
    "azure": _azure,
    "anthropic": _anthropic,
    "anthropic-vertex": _anthropic_vertex,
    "groq": _groq,
    "together": _together,
    "cerebras": _cerebras,
    "mistral": _mistral,
    "gemini": _gemini,
    "vertex": _vertex,
    "cohere": _cohere,
    "ollama": _ollama,
}
"""Each SDK's call, by a client that takes its base URL from the environment."""


def answered(monkeypatch: pytest.MonkeyPatch, status: int, kind: str, body: bytes) -> list[Any]:
    """The requests that httpx and httpx2 are asked to send from now on; none goes out."""
    seen: list[Any] = []

    def answer(library: Any) -> Callable[[Any, Any], Any]:
        def handle(_: object, request: Any) -> Any:
            seen.append(request)
            return library.Response(status, headers={"content-type": kind}, content=body)

        return handle

    for name in ("httpx", "httpx2"):
        library = pytest.importorskip(name)
        monkeypatch.setattr(library.HTTPTransport, "handle_request", answer(library))
    return seen
