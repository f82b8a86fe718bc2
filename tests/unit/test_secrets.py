"""What is never hashed and never stored."""

from __future__ import annotations

import json
import pickle
import time
from typing import Any

import pytest
from hypothesis import given, strategies as st
from shapes import JWT, NAMED, PEM, SHAPED, UNSHAPED

from cachewrap.entry import HttpAnswer
from cachewrap.http.answers import masked
from cachewrap.http.request import canonical_headers, canonical_query, without_secrets
from cachewrap.keyed import Keyed
from cachewrap.request.key import decode_request, encode, stored
from cachewrap.secrets import (
    hidden,
    is_named,
    is_placeholder,
    is_secret,
    is_secret_value,
    search,
)

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


@pytest.mark.parametrize(
    "value",
    [
        "Bearer abc",
        "bearer abc",
        "Basic dXNlcg==",
        "Digest x",
        "Token abc",
        "ApiKey a1",
        "Bot q8Zk040Vx2Lw7TbR4nM",
        "OAuth q8Zk040Vx2Lw7TbR4nM",
        "SharedKey account:q8Zk040Vx2Lw7TbR4nM",
        'Snowflake Token="abc"',
        "apikey=q8Zk040Vx2Lw7TbR4nM",
        "x ghp_" + "a1" * 18,
    ],
)
def test_a_value_with_a_scheme_is_secret(value: str) -> None:
    assert is_secret_value(value)


@pytest.mark.parametrize(
    "value",
    [
        "bearers of news",
        "basics",
        "",
        7,
        None,
        "token of thanks",
        "apikey",
        "key a1",
        "bot 7",
        "oauth flow-in-many-steps",
    ],
)
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
        {
            "mcp_servers": [{"authorization_token": None}],
            "tools": [{"type": "mcp", "authorization": None}],
        },
        {"mcp_servers": [{}], "tools": [{"type": "mcp"}]},
    ),
    (
        {"mcp_servers": {"a": {"env": {"A_KEY": "s"}}}, "metadata": {7: "a", "b": "c"}},
        {"mcp_servers": {"a": {"env": {}}}, "metadata": {7: "a", "b": "c"}},
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


NOT_NAMED = """
    key keys cache_key prompt_cache_key sort_key primary_key foreign_key public_key key_name
    langfuse_public_key idempotency_key keyword keywords monkey hotkey tokens max_tokens max_token
    token_count token_ids tokenizer tokens_per_second eos_token bos_token pad_token stop_token
    next_token next_page_token pageToken continuation_token input_cost_per_token per_token
    signature thought_signature encrypted_content author authors authority auth_type authenticated
    password_hint password_policy secretary secret_santa_prompt session session_id user_id metadata
    cookie_policy passport compass pattern patient path dispatch content prompt data id name code
    aws_region_name aws_profile_name credential_type api_key_required bearing model user url
""".split()


@pytest.mark.parametrize("name", NAMED)
def test_a_field_that_holds_a_credential(name: str) -> None:
    assert is_named(name)


@pytest.mark.parametrize("name", NOT_NAMED)
def test_a_field_that_holds_none(name: str) -> None:
    assert not is_named(name)


@pytest.mark.parametrize("value", SHAPED.values(), ids=SHAPED)
@pytest.mark.parametrize("around", ["{}", "see {} now", "({})", "a={}\n", "\u00fcber: {}"])
def test_a_shape_is_found_and_hidden_where_it_is_stored(value: str, around: str) -> None:
    text = around.format(value)
    (found,) = search(text)
    assert found.value in value
    assert found.value not in hidden(text)
    assert hidden(text).startswith(around.partition("{}")[0])
    assert stored(encode({"prompt": text})) != encode({"prompt": text})


@pytest.mark.parametrize("text", UNSHAPED.values(), ids=UNSHAPED)
def test_what_only_looks_a_little_like_one_is_left_alone(text: str) -> None:
    assert search(text) == []
    request = {"body": {"messages": [{"role": "user", "content": text}]}}
    assert stored(encode(request)) == encode(request)


HOSTILE = [
    "token=a1b2", "password: password: a1a1a1a1a1a1(", 'token=":', "key=key=", ":AA", "fc-a1",
    "sk-", "sk-a", "eyJ-", "eyJabcdefgh.", "-----BEGIN PRIVATE KEY-----\n" + "A" * 20, "://a:", "://",
    "Bearer ", "?token=A", "xoxb-1 ", "a@b:c ", "sk-" + "a" * 38, "?sig=", "://" + "x" * 300,
    "AKIA", "SG.aaaaaaaaaaaaaaaaaaaa.", "hooks.slack.com/services/", '{"key": "',
]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_the_search_takes_a_time_that_grows_as_the_text_does(unit: str) -> None:
    text = (unit * (500_000 // len(unit) + 1))[:500_000]
    began = time.perf_counter()
    search(text)
    stored(encode({"prompt": text}))
    assert time.perf_counter() - began < 5


SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "of a gateway, by name": (
        {"litellm_params": {"model": "m", "api_key": "abc", "num_retries": 2}},
        {"litellm_params": {"model": "m", "num_retries": 2}},
    ),
    "of a list of models": (
        {"model_list": [{"model_name": "m", "litellm_params": {"apiKey": "abc", "rpm": 1}}]},
        {"model_list": [{"model_name": "m", "litellm_params": {"rpm": 1}}]},
    ),
    "of fallbacks": (
        {"fallbacks": [{"model": "m", "api-key": "abc"}, "other"]},
        {"fallbacks": [{"model": "m"}, "other"]},
    ),
    "of metadata": (
        {"metadata": {"langfuse_secret_key": "abc", "langfuse_public_key": "p", "user_id": "u"}},
        {"metadata": {"langfuse_public_key": "p", "user_id": "u"}},
    ),
    "by its shape under any name": (
        {"metadata": {"note": SHAPED["GitHub"], "n": 1}, "user": SHAPED["OpenAI"]},
        {"metadata": {"n": 1}},
    ),
    "in a text": (
        {"metadata": {"note": f"as {SHAPED['GitHub']} says"}},
        {"metadata": {"note": "as (hidden) says"}},
    ),
    "of the caller's own": (
        {"byok": {"openai": {"key": "abc", "region": "eu"}}},
        {"byok": {"openai": {"region": "eu"}}},
    ),
    "of a guardrail": (
        {"guardrail_config": {"auth": {"type": "b", "value": "abc"}, "pii": {"PASSWORD": "MASK"}}},
        {"guardrail_config": {"auth": {"type": "b"}, "pii": {"PASSWORD": "MASK"}}},
    ),
    "in headers": (
        {
            "extra_headers": {
                "X-Custom": "Token abc", "X-Session-Id": "1", "X-PAT": "2", "x-honeycomb-team": "3",
                "x-tenant": "blue",
            }
        },
        {"extra_headers": {"x-tenant": "blue"}},
    ),
    "in an environment": (
        {"env": {"OPENAI_API_KEY": "a", "DB_PASSWORD": "b", "GITHUB_PAT": "c", "LANG": "de"}},
        {"env": {"LANG": "de"}},
    ),
    "in a list of variables": (
        {"env": [{"name": "API_KEY", "value": "a"}, {"name": "LANG", "value": "de"}]},
        {"env": [{"name": "API_KEY"}, {"name": "LANG", "value": "de"}]},
    ),
    "in a tool's container": (
        {
            "tools": [
                {
                    "type": "code_interpreter",
                    "container": {
                        "type": "auto",
                        "network_policy": {
                            "type": "allowlist",
                            "domain_secrets": [{"domain": "d", "name": "n", "value": "abc"}],
                        },
                    },
                }
            ]
        },
        {
            "tools": [
                {
                    "type": "code_interpreter",
                    "container": {
                        "type": "auto",
                        "network_policy": {
                            "type": "allowlist",
                            "domain_secrets": [{"domain": "d", "name": "n"}],
                        },
                    },
                }
            ]
        },
    ),
    "of Gemini's tool": (
        {"tools": [{"externalApi": {"apiAuth": {"apiKeyString": "abc"}, "endpoint": "e"}}]},
        {"tools": [{"externalApi": {"apiAuth": {}, "endpoint": "e"}}]},
    ),
    "of a server that is started": (
        {"mcp_servers": [{"args": ["--api-key", "abc", "--port", "1"], "env": {"A_KEY": "b"}}]},
        {"mcp_servers": [{"args": ["--api-key", "--port", "1"], "env": {}}]},
    ),
    "in an address": (
        {"api_base": "https://me:abc@gateway.example/v1?api_key=s&a=b"},
        {"api_base": "https://gateway.example/v1?a=b"},
    ),
    "in JSON that is text": (
        {"metadata": {"config": '{"api_key": "abc", "retry": 2}'}},
        {"metadata": {"config": '{"retry": 2}'}},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "clean"), SETTINGS.values(), ids=SETTINGS)
def test_settings_lose_their_credentials(body: dict[str, Any], clean: dict[str, Any]) -> None:
    before = json.dumps(body)
    assert without_secrets(body) == clean
    assert json.dumps(body) == before


SCHEMA = {
    "type": "object",
    "properties": {
        "password": {"type": "string", "default": "x", "description": "as in Bearer abc"},
        "credentials": {"type": "object", "title": "whose"},
        "headers": {"type": "object"},
    },
    "required": ["password"],
}
CALL = {"name": "login", "arguments": '{"password": "hunter-2", "token": "abc", "city": "Rome"}'}

UNCHANGED: dict[str, dict[str, Any]] = {
    "what is said": {"messages": [{"role": "user", "content": f"why is {SHAPED['OpenAI']} mine?"}]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": PEM}]}]},
    "an input": {"input": SHAPED["AWS"], "instructions": JWT},
    "a prompt": {"prompt": SHAPED["Slack"], "system": SHAPED["Groq"]},
    "a call": {"messages": [{"role": "assistant", "tool_calls": [{"function": CALL}]}]},
    "the input of a tool": {
        "messages": [
            {
                "role": "assistant",
                "content": [
                    {
                        "type": "tool_use",
                        "name": "fetch",
                        "input": {
                            "url": "https://u:p@h.example/a?sig=abcdefghij",
                            "api_key": "abc",
                        },
                    }
                ],
            }
        ]
    },
    "a function": {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]
    },
    "a tool of Anthropic": {"tools": [{"name": "f", "input_schema": SCHEMA}]},
    "a tool of Gemini": {
        "tools": [{"functionDeclarations": [{"name": "f", "parameters": SCHEMA}]}]
    },
    "an output": {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
    "an image": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {
                        "type": "image_url",
                        "image_url": {"url": "https://h.example/a?se=1&code=2&key=3"},
                    }
                ],
            }
        ]
    },
    "numbers": {"metadata": {"token": 1, "password": True, "api_key_required": True}},
    "settings": {"prompt_cache_key": "k" * 40, "user": "u-1", "store": True, "seed": 7, "n": 2},
    "a schema in settings": {"guardrail_config": {"schema": SCHEMA}},
    "words": {"metadata": {"token_count": "12", "max_tokens": "3", "key": "sort", "author": "a"}},
}


@pytest.mark.parametrize("body", UNCHANGED.values(), ids=UNCHANGED)
def test_what_a_model_reads_is_told_apart_as_it_is(body: dict[str, Any]) -> None:
    clean = without_secrets(body)
    assert clean == body
    assert json.dumps(clean) == json.dumps(body)


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://h.example/a.png", "https://h.example/a.png"),
        ("https://h.example/a?b=c&se=1", "https://h.example/a?b=c&se=1"),
        ("https://h.example/a?X-Amz-Date=1", "https://h.example/a?X-Amz-Date=1"),
        (
            "https://h.example/a?v=2&X-Amz-Date=1&X-Amz-Expires=2&X-Amz-Credential=c"
            "&X-Amz-Security-Token=t&X-Amz-SignedHeaders=host&X-Amz-Signature=s",
            "https://h.example/a?v=2",
        ),
        ("https://h.example/a?sv=1&st=2&se=3&sr=b&sp=r&sig=s", "https://h.example/a"),
        ("https://h.example/a?Expires=1&Signature=s&Key-Pair-Id=k", "https://h.example/a"),
        ("https://me:pass-1@h.example/a?b=c", "https://h.example/a?b=c"),
        ("https://me@h.example/a", "https://me@h.example/a"),
        ("data:image/png;base64,AAAA?sig=1", "data:image/png;base64,AAAA?sig=1"),
        ("//[?sig=1", "//[?sig=1"),
        ("https://[?sig=1", "https://[?sig=1"),
    ],
)
@pytest.mark.parametrize(
    "put",
    [
        lambda url: {"messages": [{"content": [{"type": "image_url", "image_url": {"url": url}}]}]},
        lambda url: {"input": [{"content": [{"type": "input_image", "image_url": url}]}]},
        lambda url: {"messages": [{"content": [{"type": "image", "source": {"url": url}}]}]},
        lambda url: {"contents": [{"parts": [{"fileData": {"fileUri": url}}]}]},
        lambda url: {
            "messages": [{"content": [{"type": "tool_result", "content": [{"url": url}]}]}]
        },
        lambda url: {"document": {"type": "document_url", "document_url": url}},
        lambda url: {"input": [{"type": "input_file", "file_url": url}]},
    ],
    ids=["chat", "responses", "anthropic", "gemini", "result", "ocr", "file"],
)
def test_the_address_of_what_is_seen_loses_its_signature(put: Any, url: str, clean: str) -> None:
    assert without_secrets(put(url)) == put(clean)


HIDDEN_WHERE_STORED: dict[str, tuple[Any, Any]] = {
    "arguments of a function": (
        {"arguments": {"prompt": "hi", "api_key": "abc", "tokens": 7, "password": None}},
        {"arguments": {"prompt": "hi", "api_key": "(hidden)", "tokens": 7, "password": None}},
    ),
    "bytes": (
        {"arguments": {"token": {"!bytes": "YWJj"}, "data": {"!bytes": "YWJj"}}},
        {"arguments": {"token": "(hidden)", "data": {"!bytes": "YWJj"}}},
    ),
    "a tuple": (
        {"arguments": {"secrets": {"!tuple": ["abc", "def", 7]}}},
        {"arguments": {"secrets": {"!tuple": ["(hidden)", "(hidden)", 7]}}},
    ),
    "an object": (
        {"arguments": {"login": {"!dataclass": ["m:Login", {"user": "u", "password": "abc"}]}}},
        {
            "arguments": {
                "login": {"!dataclass": ["m:Login", {"user": "u", "password": "(hidden)"}]}
            }
        },
    ),
    "an object that is a credential": (
        {"arguments": {"credentials": {"!dataclass": ["m:Login", {"pin": "abc", "n": 1}]}}},
        {"arguments": {"credentials": {"!dataclass": ["m:Login", {"pin": "(hidden)", "n": 1}]}}},
    ),
    "members in order": (
        {"body": {"x": {"!members": [["password", "abc"], ["city", "Rome"]]}}},
        {"body": {"x": {"!members": [["password", "(hidden)"], ["city", "Rome"]]}}},
    ),
    "the arguments of a call": (
        {"body": {"messages": [{"role": "assistant", "tool_calls": [{"function": CALL}]}]}},
        {
            "body": {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [
                            {
                                "function": {
                                    "name": "login",
                                    "arguments": '{"password": "(hidden)", "token": "(hidden)", '
                                    '"city": "Rome"}',
                                }
                            }
                        ],
                    }
                ]
            }
        },
    ),
    "a schema": (
        {"body": {"tools": [{"type": "function", "function": {"parameters": SCHEMA}}]}},
        {"body": {"tools": [{"type": "function", "function": {"parameters": SCHEMA}}]}},
    ),
    "headers of a function": (
        {"arguments": {"headers": {"X-PAT": "abc", "Accept": "json"}, "n": 1}},
        {"arguments": {"headers": {"X-PAT": "(hidden)", "Accept": "json"}, "n": 1}},
    ),
    "a placeholder": (
        {"arguments": {"api_key": "EMPTY", "token": "<token>", "password": ""}},
        {"arguments": {"api_key": "EMPTY", "token": "<token>", "password": ""}},
    ),
    "a key of the caller's": ({"key": SHAPED["OpenAI"]}, {"key": "(hidden)"}),
    "a hash": (
        {"headers": {"authorization": "(keyed 12)"}},
        {"headers": {"authorization": "(keyed 12)"}},
    ),
}


@pytest.mark.parametrize(
    ("request_", "clean"), HIDDEN_WHERE_STORED.values(), ids=HIDDEN_WHERE_STORED
)
def test_credentials_are_hidden_where_a_request_is_stored(request_: Any, clean: Any) -> None:
    found = stored(encode(request_))
    assert decode_request(found) == clean
    assert stored(found) == found
    assert search(clean) == []


LIKELY = "OPENAI_KEY oci_key embeddingKey wandb_key MY_KEY db_keys tokens csrf webhook_url".split()
NOT_LIKELY = "prompt_cache_key sort_key langfuse_public_key document url signature id".split()
RANDOM = "q8Zk040Vx2Lw7TbR4nM"


@pytest.mark.parametrize("put", [str, lambda one: [one], lambda one: {"!set": [one]}])
@pytest.mark.parametrize("name", [*LIKELY, "key"])
def test_what_may_be_one_counts_and_is_hidden_where_it_is_stored(name: str, put: Any) -> None:
    body = {"settings": {name: put(RANDOM)}}
    assert without_secrets(body) is body or without_secrets(body) == body
    found = stored(encode({"body": body}))
    assert RANDOM.encode() not in found
    assert stored(found) == found
    assert [one.value for one in search({"body": body}, wary=True)] == [RANDOM]
    assert search(body) == []


@pytest.mark.parametrize("name", [*LIKELY, "key"])
@pytest.mark.parametrize(
    "value", ["created_at", "2024-01-02", "gpt-4o-2024-08-06", "user-42", "a b"]
)
def test_what_may_be_one_and_looks_like_words_is_stored(name: str, value: str) -> None:
    request = encode({"body": {"settings": {name: value}}})
    assert stored(request) == request


@pytest.mark.parametrize("name", NOT_LIKELY)
def test_what_is_random_under_another_name_is_stored(name: str) -> None:
    request = encode({"body": {"settings": {name: RANDOM}}, "key": RANDOM})
    assert stored(request) == request


WARY: dict[str, Any] = {
    "a header of no known name": {"headers": {"x-zapier": RANDOM}, "url": "u"},
    "a header of a tool": {"body": {"tools": [{"type": "mcp", "headers": {"X-Figma": RANDOM}}]}},
    "the address of a server": {
        "body": {"tools": [{"type": "mcp", "server_url": f"https://h.example/s/{RANDOM}/mcp"}]}
    },
    "the address of another": {"body": {"mcp_servers": [{"url": f"https://h.example/{RANDOM}"}]}},
    "code": {"code": f'def f(x):\n return x, get("A", "{RANDOM}")\n', "function": "m:f"},
    "long code": {"code": {"begins": f'return "token {RANDOM}"', "sha256": "00"}},
    "a constant": {"constants": {"LOGIN": ["me", RANDOM]}},
    "a named tuple": {"arguments": {"login": {"!namedtuple": ["m:Login", ["me", RANDOM]]}}},
    "a cookie": {"body": {"state": {"cookies": [{"name": "sid", "value": RANDOM}]}}},
    "an environment in lines": {"body": {"env": [f"TOKEN={RANDOM}", f"MY_KEY={RANDOM}"]}},
}


@pytest.mark.parametrize("request_", WARY.values(), ids=WARY)
def test_what_looks_random_is_hidden_where_credentials_are_usual(request_: Any) -> None:
    found = stored(encode(request_))
    assert RANDOM.encode() not in found
    assert stored(found) == found


def test_a_hash_of_code_is_shown() -> None:
    request = encode({"code": {"begins": "def f(): ...", "sha256": "5f0c2a91" * 8}})
    assert stored(request) == request


PLANTED = "q7-Zt_9Lw.x8Vb"
WORDS = st.text("abcdefghij \n{[\"'\\:/?&=@é漢", max_size=12)
LEAVES = WORDS | st.integers() | st.none() | st.booleans() | st.floats(allow_nan=False)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
AROUND = st.lists(st.sampled_from("a b litellm_params model_list metadata x".split()), max_size=4)


def planted(value: Any, around: list[str], more: Any) -> Any:
    for at, name in enumerate(around):
        value = {name: value, "more": more} if at % 2 else [more, {name: value}]
    return value


@given(name=st.sampled_from(NAMED), around=AROUND, more=TREES)
def test_a_credential_in_any_setting_is_nowhere(name: str, around: list[str], more: Any) -> None:
    body = {"messages": [], "settings": planted({name: PLANTED}, around, more)}
    taken: list[str] = []
    clean = without_secrets(body, taken=taken)
    assert PLANTED not in json.dumps(clean)
    assert PLANTED in taken
    assert PLANTED.encode() not in stored(encode({"arguments": body}))


@given(shape=st.sampled_from(list(SHAPED.values())), around=AROUND, more=TREES)
def test_a_shape_in_any_setting_is_nowhere(shape: str, around: list[str], more: Any) -> None:
    body = {"settings": planted({"b": shape}, around, more)}
    (secret,) = (found.value for found in search(shape))
    assert secret not in json.dumps(without_secrets(body), ensure_ascii=False)
    assert secret.encode() not in stored(encode({"arguments": body}))


@given(text=st.text(st.characters(exclude_categories=("Cs",)), max_size=40), more=TREES)
def test_a_prompt_of_any_text_keeps_its_own_key(text: str, more: Any) -> None:
    for shape in ("", SHAPED["OpenAI"], PEM):
        body = {"messages": [{"role": "user", "content": text + shape}], "input": more}
        assert without_secrets(body) == body


@given(tree=TREES, name=st.sampled_from(NAMED), value=WORDS)
def test_what_is_stored_is_hidden_once_and_for_all(tree: Any, name: str, value: str) -> None:
    request = encode({"arguments": {"tree": tree, name: value}})
    found = stored(request)
    assert stored(found) == found
    if not is_placeholder(value):
        assert decode_request(found)["arguments"][name] != value


def test_headers_lose_what_is_a_credential_by_value() -> None:
    config = {"provider": "openai", "api_key": "abc", "override_params": {"model": "m"}}
    taken: list[str] = []
    found = canonical_headers(
        {
            "x-portkey-config": json.dumps(config),
            "x-other": '{"a": 1}',
            "X-Custom": "Token abc",
            "x-anything": SHAPED["GitHub"],
            "x-tier": "a",
        }.items(),
        taken=taken,
    )
    assert json.loads(found.pop("x-portkey-config")) == {
        "provider": "openai",
        "override_params": {"model": "m"},
    }
    assert found == {"x-other": '{"a": 1}', "x-tier": "a"}
    assert taken == ["abc", "Token abc", SHAPED["GitHub"]]


def test_a_header_loses_the_credentials_in_a_list_of_json() -> None:
    found = canonical_headers({"x-config": '[{"api_key": "abc", "provider": "p"}]'}.items())
    assert found == {"x-config": '[{"provider": "p"}]'}


def test_a_query_loses_what_is_a_credential_by_value() -> None:
    pairs = [("a", "b"), ("c", SHAPED["Google"]), ("sig", "d"), ("a", "e")]
    assert canonical_query(pairs) == {"a": ["b", "e"]}


# -- names that are counted by a hash --------------------------------------------------------------


def test_a_name_that_is_keyed_counts_by_a_hash_wherever_it_stands() -> None:
    keyed = Keyed({"authorization", "api_key", "x-trace", "key"})
    headers = [("Authorization", "Bearer abc"), ("x-trace", "t-1")]
    found = canonical_headers(headers, keyed)
    assert found.keys() == {"authorization", "x-trace"}
    body = {"api_key": "abc", "litellm_params": {"api_key": "def", "model": "m"}, "messages": []}
    clean = without_secrets(body, keyed)
    query = canonical_query([("key", "abc")], keyed)
    values = [*found.values(), clean["api_key"], clean["litellm_params"]["api_key"], *query["key"]]
    assert all(value.startswith("(keyed ") for value in values)
    assert len(set(values)) == 5
    assert found == canonical_headers(headers, keyed)
    assert search({"headers": found, "body": clean}) == []


def test_the_hash_is_under_the_key_of_the_cache() -> None:
    one, other = Keyed({"a"}), Keyed({"a"})
    other.secret = bytes(32)
    assert one.mark("A", "x") != other.mark("A", "x")
    assert one.mark("A", "x") == Keyed({"a"}).mark("a", "x") != one.mark("a", "y")
    assert one.mark("b", "x") is None
    there = pickle.loads(pickle.dumps(other))
    assert (there, there.mark("a", "x")) == (other, other.mark("a", "x"))


# -- answers ---------------------------------------------------------------------------------------

VALUE = "s3cr3t/value-1"


def answer(*chunks: bytes, headers: Any = ()) -> HttpAnswer:
    return HttpAnswer(200, list(headers), list(chunks), [])


def test_an_answer_loses_the_credentials_of_its_request_and_nothing_else() -> None:
    body = json.dumps({"echo": VALUE, "text": "as it is", "auth": f"Bearer {VALUE}"}).encode()
    found = masked(answer(body, headers=[("x-echo", VALUE), ("a", "b")]), [f"Bearer {VALUE}"])
    (clean,) = found.chunks
    assert VALUE.encode() not in clean
    assert (len(clean), json.loads(clean)["text"]) == (len(body), "as it is")
    assert json.loads(clean)["echo"] == "(hidden)******"
    assert found.headers == [("x-echo", "(hidden)******"), ("a", "b")]


def test_an_answer_without_any_is_the_very_answer() -> None:
    given = answer(b'{"text": "sk-abcdefghij1234567890ABCDEFGHIJ", "password": "abc"}')
    assert masked(given, ["assistant", "EMPTY", "short", "a-word-of-prose"]) is given


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10, 1000])
def test_a_credential_that_is_cut_between_chunks_is_found(size: int) -> None:
    body = b"".join(b'data: {"echo": "%s", "n": %d}\n\n' % (VALUE.encode(), n) for n in range(3))
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    found = masked(answer(*chunks), [VALUE])
    assert [len(chunk) for chunk in found.chunks] == [len(chunk) for chunk in chunks]
    assert VALUE.encode() not in b"".join(found.chunks)
    assert b"".join(found.chunks).count(b"(hidden)******") == 3


@pytest.mark.parametrize("value", ['a"b/ü1-234567', "üü-9876543210", "a\\b-12345678"])
def test_a_credential_that_json_writes_otherwise_is_found(value: str) -> None:
    for text in (json.dumps({"a": value}), json.dumps({"a": value}, ensure_ascii=False)):
        (clean,) = masked(answer(text.encode()), [value]).chunks
        assert json.loads(clean)["a"].startswith("(hidden)")


@pytest.mark.parametrize("form", ["{}", "data: {}\n\ndata: [DONE]\n\n"])
def test_remote_tools_of_an_answer_lose_what_is_named_like_a_credential(form: str) -> None:
    tools = [
        {"type": "mcp", "authorization": "abc", "headers": {"X-PAT": "d", "Accept": "json"}},
        {"type": "function", "name": "f", "parameters": SCHEMA, "password": "kept"},
    ]
    shown = {"response": {"tools": tools, "output": "abc", "authorization": "abc"}}
    body = form.replace("{}", json.dumps(shown)).encode()
    (clean,) = masked(answer(body), []).chunks
    found = json.loads(clean.decode().removeprefix("data:").split("\n")[0])["response"]
    assert found["tools"][0] == {
        "type": "mcp",
        "authorization": "(hi",
        "headers": {"X-PAT": "(", "Accept": "json"},
    }
    assert (found["tools"][1], found["output"], len(clean)) == (tools[1], "abc", len(body))


def test_settings_that_an_answer_tells_again_lose_what_may_be_a_credential() -> None:
    shown = {
        "prompt": {"id": "pmpt_1", "variables": {"db_password": "abc", "city": "Rome"}},
        "metadata": {"MY_KEY": RANDOM, "topic": RANDOM},
        "tools": [{"type": "mcp", "headers": {"X-Zapier": RANDOM}}],
        "output": [{"content": [{"text": "metadata", "password": "abc"}]}],
    }
    body = json.dumps(shown).encode()
    (clean,) = masked(answer(body), []).chunks
    found = json.loads(clean)
    assert len(clean) == len(body)
    assert found["prompt"]["variables"] == {"db_password": "(hi", "city": "Rome"}
    assert found["metadata"]["MY_KEY"].startswith("(hidden)")
    assert found["metadata"]["topic"] == RANDOM
    assert found["tools"][0]["headers"]["X-Zapier"].startswith("(hidden)")
    assert found["output"] == shown["output"]


def test_the_body_itself_is_left_alone() -> None:
    body = {"tools": [{"type": "mcp", "authorization": "s"}]}
    without_secrets(body)
    assert body == {"tools": [{"type": "mcp", "authorization": "s"}]}


@pytest.mark.parametrize("length", [10, 200, 1000])
def test_what_is_random_in_code_is_found_however_long_it_is(length: int) -> None:
    plain: dict[str, Any] = {
        "arguments": {"a": "b"},
        "code": "def f():\n" + " return 1\n" * length,
        "function": "m",
    }
    assert stored(encode(plain)) == encode(plain)
    planted = {**plain, "code": plain["code"] + RANDOM}
    assert RANDOM.encode() not in stored(encode(planted))
    behind = {**plain, "password": "hunter-2"}
    assert b"hunter-2" not in stored(encode(behind))
