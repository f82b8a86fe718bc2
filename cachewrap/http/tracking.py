"""The headers that only steer or track an HTTP request, so that no key has them, by their sources.

Fields of a body that do so stand in `cachewrap.request.canonical`. What may change an answer is
none of it, however often it changes: tags and metadata that a gateway may route by, betas, accounts
(which `cachewrap.secrets` leaves out, and with them `x-session-id`, by which OpenRouter finds the
machine that has a conversation in its prompt cache).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from cachewrap.patterns import later

SOURCES: Final = {
    # How an answer is sent, and when it may be asked for again.
    "https://www.rfc-editor.org/rfc/rfc9110": "accept-encoding connection content-encoding"
    " content-length date expect host max-forwards te trailer upgrade user-agent via",
    "https://www.rfc-editor.org/rfc/rfc9111": "cache-control pragma",
    "https://www.rfc-editor.org/rfc/rfc9112": "keep-alive transfer-encoding",
    "https://www.rfc-editor.org/rfc/rfc9218": "priority",
    "https://www.rfc-editor.org/rfc/rfc9530": "content-digest repr-digest",
    "https://www.rfc-editor.org/rfc/rfc7540": "http2-settings",
    "https://www.rfc-editor.org/rfc/rfc7838": "alt-used",
    "https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/": "idempotency-key"
    " x-idempotency-key",
    # Through which servers a request came, and from where.
    "https://www.rfc-editor.org/rfc/rfc7239": "forwarded",
    "https://www.rfc-editor.org/rfc/rfc8586": "cdn-loop",
    "https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers": "proxy-connection"
    " x-forwarded-*",
    "https://nginx.org/en/docs/http/ngx_http_proxy_module.html": "x-real-ip",
    "https://devcenter.heroku.com/articles/http-routing": "x-request-start",
    "https://developers.cloudflare.com/fundamentals/reference/http-headers/": "cf-connecting-ip"
    " cf-connecting-ipv6 cf-connecting-o2o cf-ew-via cf-ipcountry cf-pseudo-ipv4 cf-ray cf-visitor"
    " cf-worker true-client-ip",
    "https://learn.microsoft.com/azure/frontdoor/front-door-http-headers-protocol": ""
    "x-azure-clientip x-azure-fdid x-azure-ref x-azure-requestchain x-azure-socketip",
    "https://fly.io/docs/networking/request-headers/": "fly-client-ip fly-forwarded-port"
    " fly-forwarded-proto fly-forwarded-ssl fly-region",
    # What a browser, or its fetch in other runtimes, says of itself and of where it asks from.
    "https://www.w3.org/TR/fetch-metadata/": "sec-fetch-*",
    "https://wicg.github.io/ua-client-hints/": "sec-ch-ua*",
    "https://www.w3.org/TR/tracking-dnt/": "dnt",
    "https://www.w3.org/TR/gpc/": "sec-gpc",
    "https://fetch.spec.whatwg.org/": "referer",
    "https://github.com/anthropics/anthropic-sdk-typescript": ""
    "anthropic-dangerous-direct-browser-access",
    # When a request was signed and of what, beside its signature; which attempt it is.
    "https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html": ""
    "x-amz-content-sha256 x-amz-date",
    "https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html": ""
    "amz-sdk-invocation-id amz-sdk-request",
    # The SDK, its language and its system.
    "https://github.com/openai/openai-python/blob/main/src/openai/_base_client.py": ""
    "x-stainless-* ____stainless*",
    "https://buildwithfern.com/learn/sdks": "x-client-name x-fern-*",
    "https://cloud.google.com/apis/docs/system-parameters": "x-goog-api-client",
    "cachewrap.sdk.carried": "x-cachewrap*",
    # The numbers of a request, of its trace and of those that belong together.
    "https://www.w3.org/TR/trace-context/": "traceparent tracestate",
    "https://www.w3.org/TR/baggage/": "baggage",
    "https://github.com/openzipkin/b3-propagation": "b3 x-b3-*",
    "https://www.jaegertracing.io/docs/1.21/client-libraries/#propagation-format": ""
    "uber-trace-id uberctx-*",
    "https://github.com/opentracing/basictracer-python": "ot-tracer-* ot-baggage-*",
    "https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers": ""
    "x-envoy-* x-ot-span-context x-request-id",
    "https://en.wikipedia.org/wiki/List_of_HTTP_header_fields": "correlation-id request-id"
    " x-correlation-id x-span-id x-trace-id",
    "https://docs.datadoghq.com/tracing/trace_collection/trace_context_propagation/": "x-datadog-*",
    "https://docs.newrelic.com/docs/distributed-tracing/concepts/": "newrelic x-newrelic-id"
    " x-newrelic-transaction",
    "https://www.elastic.co/guide/en/apm/agent/python/current/": "elastic-apm-traceparent",
    "https://develop.sentry.dev/sdk/telemetry/traces/": "sentry-trace",
    "https://docs.langchain.com/langsmith/distributed-tracing": "langsmith-trace",
    "https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html": "x-amzn-trace-id",
    "https://cloud.google.com/trace/docs/trace-context": "x-cloud-trace-context",
    "https://github.com/Dynatrace/OneAgent-SDK-for-Python": "x-dynatrace",
    "https://github.com/instana/python-sensor": "x-instana-l x-instana-s x-instana-t",
    "https://skywalking.apache.org/docs/main/latest/en/api/x-process-propagation-headers-v3/": ""
    "sw8 sw8-correlation sw8-x",
    "https://platform.openai.com/docs/api-reference/debugging-requests": "x-client-request-id",
    "https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits": ""
    "x-ms-client-request-id x-ms-return-client-request-id",
    "https://code.claude.com/docs/en/llm-gateway-protocol": "x-claude-code-*",
    "https://learning.postman.com/docs/sending-requests/create-requests/headers/": "postman-token",
    "https://docs.helicone.ai/helicone-headers/header-directory": "helicone-property-*"
    " helicone-request-id helicone-session-id helicone-session-name helicone-session-path",
    "https://portkey.ai/docs/product/observability/traces": "x-portkey-parent-span-id"
    " x-portkey-span-id x-portkey-span-name x-portkey-trace-id",
    "https://docs.litellm.ai/docs/proxy/request_headers": "x-litellm-call-id x-litellm-session-id"
    " x-litellm-spend-logs-metadata x-litellm-trace-id",
    # inspect_ai tells retries by it in its log (`HttpHooks`).
    "https://github.com/UKGovernmentBEIS/inspect_ai": "x-irid",
    # Which machine has a conversation in its prompt cache already.
    "https://docs.fireworks.ai/guides/prompt-caching": "x-session-affinity",
    "https://developers.cloudflare.com/workers-ai/features/prompt-caching": "x-session-affinity",
    "https://docs.x.ai/developers/advanced-api-usage/prompt-caching": "x-grok-conv-id",
}
"""Who says of which headers that they change no answer; a ``*`` stands for any end of a name."""

_NAMES: Final = frozenset(name for names in SOURCES.values() for name in names.split())
_PREFIXES: Final = tuple(sorted(name[:-1] for name in _NAMES if name.endswith("*")))


OF_ONE_REQUEST: Final = frozenset({"idempotency-key", "x-idempotency-key"})
"""Headers that name a request: another one with them may be answered as the first one was."""

OF_ONE_BODY: Final = frozenset(
    {"content-digest", "content-md5", "digest", "repr-digest", "x-amz-content-sha256"}
)
"""Headers that vouch for the body of a request: with another one it may be refused."""


@lru_cache(maxsize=1024)
def is_idle(name: str) -> bool:
    """Whether a header of this name (in lower case) only steers or tracks."""
    return name in _NAMES or name.startswith(_PREFIXES)


_PARAMETERS: Final = r"[ \t]*(?:;[ \t]*(?:charset=\"?utf-?8\"?[ \t]*)?)*"
_FORMS: Final = (
    r"(?:\*/\*|application/(?:\*|json|octet-stream|binary)|audio/(?:\*|wav)|text/event-stream)"
)
_USUAL: Final = {
    # As Node and Deno say it in every fetch.
    "accept-language": later(r"\*"),
    # As SDKs and commands do. The last is what axios says; more is a choice between answers.
    "accept": later(
        rf"{_FORMS}{_PARAMETERS}(?:,[ \t]*{_FORMS}{_PARAMETERS})*"
        r"|application/json, text/plain, \*/\*",
        re.IGNORECASE,
    ),
    "accept-charset": later(r"\*|utf-8(?:[ \t]*[,;].*)?", re.IGNORECASE),
    # Another charset, or another kind of JSON, makes another text of the same bytes.
    "content-type": later(rf"application/json{_PARAMETERS}", re.IGNORECASE),
}


@lru_cache(maxsize=256)
def is_usual(name: str, value: str) -> bool:
    """Whether such a header (its name in lower case) says what it says nearly always."""
    return _USUAL[name].fullmatch(value.strip()) is not None


BETAS: Final = "anthropic-beta"
"""The header of Anthropic's that names what is tried out, one after the other."""

# What lets a request have `cache_control`, and a time in it, by "Prompt caching" of Anthropic's
# documentation: alone they do nothing, and what they allow is in no key.
_IDLE_BETAS: Final = frozenset({"extended-cache-ttl-2025-04-11", "prompt-caching-2024-07-31"})


def counted_betas(value: str) -> str:
    """The betas without those that only let a prompt be cached; as they are if there is none."""
    names = [name.strip() for name in value.split(",")]
    if _IDLE_BETAS.isdisjoint(names):
        return value
    return ",".join(name for name in names if name not in _IDLE_BETAS)
