"""What is never hashed and never stored."""

from __future__ import annotations

from typing import Any

import pytest

from cachewrap.http.request import without_secrets
from cachewrap.secrets import is_secret, is_secret_value

SECRET = [
    "authorization",
    "Authorization",
    "proxy-authorization",
    "api-key",
    "x-api-key",
    "X-Goog-Api-Key",
    "apikey",
    "helicone-auth",
    "x-amz-security-token",
    "x-auth-token",
    "cookie",
    "set-cookie",
    "Set-Cookie2",
    "x-client-secret",
    "sig",
    "signature",
    "x-amz-signature",
    "key",
    "access_token",
    "code-key",
    "ocp-apim-subscription-key",
    "www-authenticate",
    "cf-access-jwt-assertion",
    "openai-organization",
    "OpenAI-Project",
    "password",
    "x-authtoken",
    "secretkey",
    "AWSAccessKeyId",
    "bearer",
    "x-passphrase",
    "pwd",
    "x-hub-signature-256",
    "x-hmac-sha256",
    "client_assertion",
    "x-forwarded-client-cert",
    "x-amzn-oidc-data",
    "code",
    "X-Session-Id",
    "X-PAT",
    "x-honeycomb-team",
]

PLAIN = [
    "content-type",
    "x-request-id",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-limit-tokens",
    "openai-version",
    "openai-processing-ms",
    "api-version",
    "model",
    "x-tenant",
    "openai-beta",
    "x-keyboard",
    "tokenizer",
    "x-author",
    "x-status-code",
    "x-signatures",
    "date",
]


@pytest.mark.parametrize("name", SECRET)
def test_a_secret_name(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_name(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize("value", ["Bearer abc", "bearer abc", "Basic dXNlcg==", "Digest x"])
def test_a_value_with_a_scheme_is_secret(value: str) -> None:
    assert is_secret_value(value)


@pytest.mark.parametrize("value", ["bearers of news", "basics", "", 7, None])
def test_other_values_are_not(value: object) -> None:
    assert not is_secret_value(value)


BODIES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {
            "tools": [
                {"type": "mcp", "server_url": "u", "authorization": "s", "headers": {"A": "1"}}
            ]
        },
        {"tools": [{"type": "mcp", "server_url": "u", "headers": {"A": "1"}}]},
    ),
    (
        {
            "tools": [
                {"type": "mcp", "headers": {"X-Api-Key": "s", "Auth": "Bearer s", "B": "Basic s"}}
            ]
        },
        {"tools": [{"type": "mcp", "headers": {}}]},
    ),
    (
        {"tools": [{"type": "mcp", "server_url": "https://me:s@mcp.example/a?api%5Fkey=s&of=b&b"}]},
        {"tools": [{"type": "mcp", "server_url": "https://mcp.example/a?of=b&b"}]},
    ),
    (
        {"mcp_servers": [{"url": "https://mcp.example/sse?token=s", "authorization_token": "s"}]},
        {"mcp_servers": [{"url": "https://mcp.example/sse"}]},
    ),
    (
        {"mcp_servers": [{"url": "https://mcp.example?"}, {"url": None}, {"url": "//["}, 7]},
        {"mcp_servers": [{"url": "https://mcp.example?"}, {"url": None}, {"url": "//["}, 7]},
    ),
    (
        {"tools": [{"type": "function", "authorization": "part of the schema"}]},
        {"tools": [{"type": "function", "authorization": "part of the schema"}]},
    ),
    (
        {
            "data_sources": [
                {"parameters": {"index": "i", "authentication": {"type": "api_key", "key": "s"}}}
            ]
        },
        {"data_sources": [{"parameters": {"index": "i", "authentication": {"type": "api_key"}}}]},
    ),
    (
        {"api_key": "s", "aws_secret_access_key": "s", "azure_ad_token": "s", "user": "u", 7: 7},
        {"user": "u", 7: 7},
    ),
    (
        {"prompt_cache_key": "k", "max_tokens": 1, "password_hint": "h", "token": "t"},
        {"prompt_cache_key": "k", "max_tokens": 1, "password_hint": "h"},
    ),
    ({"tools": None, "authorization": "x"}, {"tools": None, "authorization": "x"}),
]


@pytest.mark.parametrize(("body", "clean"), BODIES)
def test_bodies_lose_their_credentials(body: dict[str, Any], clean: dict[str, Any]) -> None:
    assert without_secrets(body) == clean


def test_the_body_itself_is_left_alone() -> None:
    body = {"tools": [{"type": "mcp", "authorization": "s"}]}
    without_secrets(body)
    assert body == {"tools": [{"type": "mcp", "authorization": "s"}]}
