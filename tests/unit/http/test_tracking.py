"""What only steers or tracks a request, and names that a cache counts or leaves out."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cachewrap.http.request import canonical_headers, canonical_query, without_secrets
from cachewrap.http.tracking import SOURCES, is_idle
from cachewrap.keyed import NONE_KEYED, Keyed
from cachewrap.policy import make_policy
from cachewrap.request.canonical import NEUTRAL, NO_NAMES, canonical_body, plain_body
from cachewrap.request.key import encode, hashed, salted

TRACKED = """
    x-irid x-session-affinity x-session-id x-grok-conv-id x-client-request-id x-request-id
    traceparent tracestate baggage b3 x-b3-traceid x-b3-spanid x-amzn-trace-id x-datadog-trace-id
    x-datadog-parent-id sentry-trace langsmith-trace uber-trace-id uberctx-user ot-tracer-traceid
    ot-baggage-a sw8 x-instana-t x-dynatrace helicone-request-id helicone-session-id
    helicone-property-app x-portkey-trace-id x-portkey-span-id x-litellm-session-id
    x-litellm-trace-id x-litellm-call-id
    sec-fetch-mode sec-fetch-site sec-ch-ua sec-ch-ua-platform referer dnt sec-gpc priority
    forwarded x-forwarded-for x-forwarded-proto x-forwarded-host x-real-ip via cdn-loop max-forwards
    cf-ray cf-connecting-ip cf-visitor true-client-ip x-request-start x-envoy-attempt-count
    x-azure-ref fly-region cache-control pragma expect content-encoding content-digest
    http2-settings proxy-connection alt-used anthropic-dangerous-direct-browser-access
    x-claude-code-session-id x-claude-code-agent-id postman-token x-ms-return-client-request-id
""".split()
MAY_CHANGE_AN_ANSWER = """
    anthropic-beta anthropic-version openai-beta helicone-cache-enabled helicone-fallbacks
    helicone-user-id helicone-model-override x-portkey-metadata x-portkey-config x-litellm-tags
    x-multi-turn-session-id x-tenant x-amzn-bedrock-trace accept-language origin cf-aig-metadata
    cf-aig-custom-cost sec-websocket-protocol x-app
""".split()


@pytest.mark.parametrize("name", TRACKED)
def test_what_only_tracks_or_steers_is_in_no_key(name: str) -> None:
    assert canonical_headers([(name.title(), "a"), ("x-tenant", "t")]) == {"x-tenant": "t"}


@pytest.mark.parametrize("name", MAY_CHANGE_AN_ANSWER)
def test_what_may_change_an_answer_is_in_the_key(name: str) -> None:
    assert canonical_headers([(name, "a")]) == {name: "a"}


@pytest.mark.parametrize(
    ("betas", "counted"),
    [
        ("prompt-caching-2024-07-31", None),
        ("extended-cache-ttl-2025-04-11, prompt-caching-2024-07-31", None),
        ("prompt-caching-2024-07-31,context-1m-2025-08-07", "context-1m-2025-08-07"),
        ("b, extended-cache-ttl-2025-04-11 ,a", "b,a"),
        ("b, a", "b, a"),
        ("prompt-caching-2024-07-32", "prompt-caching-2024-07-32"),
        ("", ""),
    ],
)
def test_a_beta_that_only_lets_a_prompt_be_cached_does_not_count(
    betas: str, counted: str | None
) -> None:
    expected = {} if counted is None else {"anthropic-beta": counted}
    assert canonical_headers([("Anthropic-Beta", betas)]) == expected
    assert canonical_headers([("anthropic-beta", "a"), ("anthropic-beta", betas)]) == expected


@pytest.mark.parametrize("language", ["de", "de, *", "*;q=0.1, de", ""])
def test_a_language_counts_unless_it_is_any(language: str) -> None:
    assert canonical_headers([("Accept-Language", language)]) == {"accept-language": language}
    assert canonical_headers([("accept-language", language), ("accept-language", "*")]) == {}


@pytest.mark.parametrize(
    ("name", "usual", "other"),
    [
        pytest.param("accept", "*/*", "application/xml", id="form"),
        pytest.param("accept", "text/event-stream; charset=utf-8", "text/csv", id="events"),
        pytest.param("accept", "application/json, */*", "*/*, text/xml", id="list"),
        pytest.param("accept", "audio/wav", "audio/mpeg", id="sound"),
        pytest.param(
            "accept",
            "application/json, text/plain, */*",
            "text/plain, application/json",
            id="axios",
        ),
        pytest.param("accept", "application/octet-stream", "*/*;q=0.1", id="weight"),
        pytest.param("accept-charset", "utf-8, *;q=0.1", "utf-16, utf-8", id="charset"),
        pytest.param("content-type", 'application/json;charset="UTF8"', "text/plain", id="type"),
        pytest.param("content-type", "application/json ;", "application/json5", id="end"),
        pytest.param(
            "content-type", "application/json", "application/json; charset=cp037", id="letters"
        ),
    ],
)
def test_what_is_said_nearly_always_is_in_no_key(name: str, usual: str, other: str) -> None:
    """What else is wanted, or said of the body, may make another answer."""
    assert canonical_headers([(name, usual)]) == {}
    assert canonical_headers([(name, other)]) == {name: other}
    assert canonical_headers([(name, other), (name, usual)]) == {}


@pytest.mark.parametrize("name", ["accept", "accept-charset", "accept-language", "content-type"])
def test_what_is_not_usual_shows_soon(name: str) -> None:
    start = time.perf_counter()
    for text in ("application/json" + "; " * 20_000 + "x", "*/*," * 20_000 + "x", " ;" * 20_000):
        canonical_headers([(name, text)])
    assert time.perf_counter() - start < 1


# As they were sent to a server on loopback, by version 6 and 1 of the SDKs and Node 20.
NODE = """
    host: 127.0.0.1:8141
    connection: keep-alive
    Accept: application/json
    User-Agent: OpenAI/JS 6.49.0
    X-Stainless-Retry-Count: 0
    X-Stainless-Timeout: 600
    x-stainless-helper-method: stream
    authorization: Bearer sk-x
    content-type: application/json
    accept-language: *
    sec-fetch-mode: cors
    accept-encoding: gzip, deflate
    content-length: 124
"""
CURL = """
    Host: 127.0.0.1:8141
    User-Agent: curl/7.88.1
    Accept: */*
    Content-Type: application/json
    Expect: 100-continue
    Content-Length: 2000000
"""
JAVA = """
    Connection: Upgrade, HTTP2-Settings
    Content-Length: 13
    Host: 127.0.0.1:8141
    HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA
    Upgrade: h2c
    User-Agent: Java-http-client/21.0.2
    Content-Type: application/json
"""
BROWSER = """
    sec-ch-ua-platform: "Linux"
    sec-ch-ua: "Chromium";v="140"
    sec-ch-ua-mobile: ?0
    DNT: 1
    Sec-Fetch-Site: cross-site
    Sec-Fetch-Mode: cors
    Sec-Fetch-Dest: empty
    Referer: http://localhost:3000/
    Priority: u=1, i
    Cache-Control: no-cache
    Pragma: no-cache
    anthropic-dangerous-direct-browser-access: true
"""


@pytest.mark.parametrize(
    "sent", [NODE, CURL, JAVA, BROWSER], ids=["Node", "curl", "Java", "Chrome"]
)
def test_what_a_client_adds_by_itself_is_in_no_key(sent: str) -> None:
    pairs = [tuple(line.strip().split(": ", 1)) for line in sent.strip().splitlines()]
    assert canonical_headers([(name, value) for name, value in pairs]) == {}


@pytest.mark.parametrize("name", sorted(NEUTRAL))
def test_a_field_that_only_steers_is_in_no_key(name: str) -> None:
    body = {"model": "m", name: "a"}
    assert canonical_body(body) == plain_body(body) == {"model": "m"}


@pytest.mark.parametrize("name", ["user", "metadata", "store", "service_tier", "session_id"])
def test_a_field_that_may_do_more_is_in_the_key(name: str) -> None:
    assert canonical_body({"model": "m", name: "a"}) == {"model": "m", name: "a"}


def test_each_name_has_its_source() -> None:
    for source, names in SOURCES.items():
        assert source.startswith(("https://", "cachewrap."))
        assert names == names.lower()
        assert names.split()
        assert all(is_idle(name.rstrip("*")) for name in names.split())


@pytest.mark.parametrize("name", ["x-irid", "x-session-id", "x-datadog-trace-id"])
def test_a_name_that_is_keyed_counts_although_it_tracks(name: str) -> None:
    keyed = Keyed({name})
    one, other = (canonical_headers([(name, value)], keyed) for value in "ab")
    assert one != other
    assert one[name].startswith("(keyed ")


@pytest.mark.parametrize("name", sorted(NEUTRAL))
def test_a_field_that_is_keyed_counts_although_it_steers(name: str) -> None:
    keyed = Keyed({name})
    one, other = (
        canonical_body(without_secrets({"model": "m", name: value}, keyed), keyed) for value in "ab"
    )
    assert one != other
    assert one[name].startswith("(keyed ")


# -- names that a cache leaves out ---------------------------------------------------------------


NAMES = st.sampled_from(["X-Tenant-Trace", "run_id", "Batch", "traceId", "x-irid"])
TEXTS = st.text('ab1 -{}"ä', max_size=20)
VALUES = st.one_of(TEXTS, st.integers(), st.lists(TEXTS, max_size=2))
LEFT_OUT = st.dictionaries(NAMES, VALUES, max_size=4)
KEPT = st.dictionaries(st.sampled_from(["user", "x-tenant", "temperature", "n"]), VALUES)


def key(parts: dict[str, Any], keyed: Keyed, unkeyed: frozenset[str]) -> str:
    """The key of a request that has these in its headers, its query and its body."""
    texts = [(name, str(value)) for name, value in parts.items()]
    body = without_secrets({"model": "m", "messages": [], **parts}, keyed)
    request = {
        "method": "POST",
        "url": "https://api.openai.com/v1/chat/completions",
        "headers": canonical_headers(texts, keyed, None, unkeyed),
        "query": canonical_query(texts, keyed, unkeyed),
        "body": canonical_body(body, keyed, unkeyed),
    }
    return hashed(salted(), request)[0]


@given(KEPT, LEFT_OUT, LEFT_OUT)
def test_names_that_are_left_out_never_change_a_key(
    kept: dict[str, Any], one: dict[str, Any], other: dict[str, Any]
) -> None:
    unkeyed = frozenset(name.lower() for name in (*one, *other))
    assert (
        key({**kept, **one}, NONE_KEYED, unkeyed)
        == key({**kept, **other}, NONE_KEYED, unkeyed)
        == key(kept, NONE_KEYED, unkeyed)
        == key(kept, NONE_KEYED, NO_NAMES)
    )


@given(KEPT, st.sampled_from(["x-irid", "prompt_cache_key"]), TEXTS, TEXTS)
def test_names_that_are_keyed_always_do(
    kept: dict[str, Any], name: str, one: str, other: str
) -> None:
    keyed, unkeyed = Keyed({name}), frozenset({"x-tenant-trace"})
    keys = {key({**kept, name: value}, keyed, unkeyed) for value in (one, other)}
    assert len(keys) == len({one, other})


@given(st.dictionaries(TEXTS, VALUES, max_size=4), LEFT_OUT)
def test_a_plain_body_is_left_the_same_on_both_ways(
    kept: dict[str, Any], one: dict[str, Any]
) -> None:
    unkeyed = frozenset(map(str.lower, one))
    body = {**kept, **one}
    assert encode(plain_body(body, unkeyed)) == encode(canonical_body(body, NO_NAMES, unkeyed))


def test_only_fields_at_the_top_of_a_body_are_left_out() -> None:
    body = {"messages": [{"role": "user", "content": "hi", "user": "a"}], "user": "a"}
    assert canonical_body(body, NO_NAMES, frozenset({"user"})) == {"messages": body["messages"]}


def test_a_credential_that_is_left_out_by_name_is_still_taken_out_of_the_answer() -> None:
    taken: list[str] = []
    canonical_headers([("x-trace", "Bearer abc")], NONE_KEYED, taken, frozenset({"x-trace"}))
    assert taken == ["Bearer abc"]


def test_a_cache_leaves_hits_alone_that_leaves_out_a_name() -> None:
    assert make_policy({"unkeyed": ["x-tenant-trace"], "mode": "normal"}).hits_by_key
