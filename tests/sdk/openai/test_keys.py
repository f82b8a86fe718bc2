"""Which differences between two calls make two requests, and which do not."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from standin import Upstream

from cachewrap import Cache, ReplayMissError
from cachewrap.format.envelope import read_record
from cachewrap.request.key import decode_request
from sdk.openai.asking import Colour
from sdk.openai.shapes import BY_NAME, INSTALLED, chat

CHAT = BY_NAME["chat"]
UNSET = getattr(openai, "omit", openai.NOT_GIVEN)
PARTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]

SAME_CLIENTS: list[tuple[str, dict[str, Any]]] = [
    ("api key", {"api_key": "sk-other"}),
    ("organization", {"organization": "org-1"}),
    ("project", {"project": "proj-1"}),
    ("timeout", {"timeout": 17.0}),
    ("retries", {"max_retries": 5}),
    ("user agent", {"default_headers": {"User-Agent": "mine/1.0"}}),
    ("SDK telemetry", {"default_headers": {"X-Stainless-Lang": "tcl"}}),
    ("trace", {"default_headers": {"traceparent": "00-1-2-03", "tracestate": "a=b"}}),
    ("header credentials", {"default_headers": {"Authorization": "Bearer other"}}),
    ("gateway key", {"default_headers": {"x-api-key": "other"}}),
]

OTHER_CLIENTS: list[tuple[str, dict[str, Any]]] = [
    ("a header", {"default_headers": {"x-tenant": "blue"}}),
    ("a beta", {"default_headers": {"OpenAI-Beta": "assistants=v2"}}),
    ("a query", {"default_query": {"tenant": "blue"}}),
]

SAME_CALLS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("number", {"temperature": 1}, {"temperature": 1.0}),
    ("left out", {}, {"temperature": UNSET}),
    ("not given", {}, {"temperature": openai.NOT_GIVEN}),
    ("extra body", {"temperature": 0.5}, {"extra_body": {"temperature": 0.5}}),
    ("order", {"logit_bias": {"1": 2, "3": 4}}, {"logit_bias": {"3": 4, "1": 2}}),
    ("sequence", {"stop": ["a", "b"]}, {"stop": ("a", "b")}),
    ("timeout", {}, {"timeout": 17.0}),
    ("credentials", {}, {"extra_headers": {"Authorization": "Bearer other"}}),
    ("idempotency", {}, {"extra_headers": {"Idempotency-Key": "abc"}}),
    ("header name", {"extra_headers": {"X-Tier": "a"}}, {"extra_headers": {"x-tier": "a"}}),
]

OTHER_CALLS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("model", {}, {"model": "gpt-y"}),
    ("text", {}, {"messages": [{"role": "user", "content": "Question 1 "}]}),
    ("role", {}, {"messages": [{"role": "system", "content": "Question 1"}]}),
    ("form", {}, {"messages": [{"role": "user", "content": PARTS[:1]}]}),
    (
        "order of parts",
        {"messages": [{"role": "user", "content": PARTS}]},
        {"messages": [{"role": "user", "content": PARTS[::-1]}]},
    ),
    ("a parameter", {}, {"temperature": 1}),
    ("null", {}, {"temperature": None}),
    ("a value", {"temperature": 0.1}, {"temperature": 0.2}),
    ("truth", {"logprobs": True}, {"logprobs": False}),
    ("text of a number", {"user": "1"}, {"extra_body": {"user": 1}}),
    ("extra body", {}, {"extra_body": {"user": "a"}}),
    ("query", {}, {"extra_query": {"a": "b"}}),
    ("query value", {"extra_query": {"a": "b"}}, {"extra_query": {"a": "c"}}),
    ("header", {}, {"extra_headers": {"x-tier": "a"}}),
    ("header value", {"extra_headers": {"x-tier": "a"}}, {"extra_headers": {"x-tier": "b"}}),
    ("seed of the API", {"seed": 1}, {"seed": 2}),
]


@pytest.mark.parametrize(
    "options", [o for _, o in SAME_CLIENTS], ids=[name for name, _ in SAME_CLIENTS]
)
def test_the_same_request_from_another_client_is_a_hit(
    up: Upstream, client: Any, colour: Colour, cache: Cache, options: dict[str, Any]
) -> None:
    if "project" in options and INSTALLED < (1, 26):
        pytest.skip("this SDK knows no projects")
    with cache:
        colour.ask(client, CHAT)
        colour.ask(colour.client(up, **options), CHAT)
    assert up.calls == 1


@pytest.mark.parametrize(
    "options", [o for _, o in OTHER_CLIENTS], ids=[name for name, _ in OTHER_CLIENTS]
)
def test_what_a_client_adds_to_the_request_counts(
    up: Upstream, client: Any, colour: Colour, cache: Cache, options: dict[str, Any]
) -> None:
    with cache:
        colour.ask(client, CHAT)
        colour.ask(colour.client(up, **options), CHAT)
    assert up.calls == 2


@pytest.mark.parametrize(
    ("one", "other"), [case[1:] for case in SAME_CALLS], ids=[case[0] for case in SAME_CALLS]
)
def test_one_request_said_in_two_ways(
    up: Upstream,
    client: Any,
    colour: Colour,
    cache: Cache,
    one: dict[str, Any],
    other: dict[str, Any],
) -> None:
    with cache:
        for more in (one, other):
            colour.wait(client.chat.completions.create(**{**chat(1), **more}))
    assert up.calls == 1


@pytest.mark.parametrize(
    ("one", "other"), [case[1:] for case in OTHER_CALLS], ids=[case[0] for case in OTHER_CALLS]
)
def test_two_requests(
    up: Upstream,
    client: Any,
    colour: Colour,
    cache: Cache,
    one: dict[str, Any],
    other: dict[str, Any],
) -> None:
    with cache:
        for more in (one, other):
            colour.wait(client.chat.completions.create(**{**chat(1), **more}))
    assert up.calls == 2


def test_a_stream_and_a_plain_answer_are_two_requests(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        colour.ask(client, CHAT)
        colour.ask(client, BY_NAME["chat-stream"])
    assert up.calls == 2


def test_base_urls_with_and_without_a_slash_are_one(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        colour.ask(client, CHAT)
        colour.ask(colour.client(up, base_url=f"{up.base_url}/"), CHAT)
    assert up.calls == 1


def test_another_base_url_is_another_request(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with Upstream() as elsewhere, cache:
        colour.ask(client, CHAT)
        colour.ask(colour.client(elsewhere), CHAT)
        assert (up.calls, elsewhere.calls) == (1, 1)


def test_another_path_on_one_host_is_another_request(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        colour.ask(client, CHAT)
        colour.ask(colour.client(up, base_url=f"{up.root_url}/openai/v1"), CHAT)
    assert up.calls == 2


@pytest.mark.parametrize(
    "options",
    [{"api_version": "2024-06-01"}, {"azure_deployment": "other"}],
    ids=["api version", "deployment"],
)
def test_what_azure_puts_into_the_url_counts(
    up: Upstream, colour: Colour, cache: Cache, options: dict[str, Any]
) -> None:
    with cache:
        colour.ask(colour.client(up, "azure"), CHAT)
        colour.ask(colour.client(up, "azure", **options), CHAT)
    assert up.calls == 2


def test_azure_credentials_do_not_count(up: Upstream, colour: Colour, cache: Cache) -> None:
    with cache:
        colour.ask(colour.client(up, "azure"), CHAT)
        colour.ask(colour.client(up, "azure", api_key="other"), CHAT)
        token = {"api_key": None, "azure_ad_token": "other"}
        colour.ask(colour.client(up, "azure", **token), CHAT)
    assert up.calls == 1


def test_with_options_makes_no_other_request(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        colour.ask(client, CHAT)
        colour.ask(client.with_options(timeout=3.0, max_retries=1), CHAT)
    assert up.calls == 1


KEYED = [
    ("organization", "openai-organization", {"organization": "org-1"}, {"organization": "org-2"}),
    (
        "header",
        "X-Tenant-Key",
        {"default_headers": {"x-tenant-key": "blue"}},
        {"default_headers": {"x-tenant-key": "red"}},
    ),
    (
        "query",
        "tenant-token",
        {"default_query": {"tenant-token": "blue"}},
        {"default_query": {"tenant-token": "red"}},
    ),
]


@pytest.mark.parametrize(
    ("name", "one", "other"), [row[1:] for row in KEYED], ids=[row[0] for row in KEYED]
)
@pytest.mark.parametrize("keyed", [True, False], ids=["named", "not named"])
def test_what_looks_like_a_credential_counts_where_the_cache_is_told_so(
    up: Upstream,
    colour: Colour,
    keyed: bool,
    name: str,
    one: dict[str, Any],
    other: dict[str, Any],
) -> None:
    with Cache.memory(keyed=[name] if keyed else []):
        for options in (one, other) * 3:
            colour.ask(colour.client(up, **options), CHAT)
    assert up.calls == (2 if keyed else 1)


UNKEYED: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "header of the call": (
        "X-Tenant-Trace",
        [{"extra_headers": {"x-tenant-trace": value}} for value in "ab"],
    ),
    "query of the call": ("Run", [{"extra_query": {"run": value}} for value in "ab"]),
    "field by keyword": ("user", [{"user": value} for value in "ab"]),
    "field by extra_body": ("trace", [{"extra_body": {"trace": {"id": v}}} for v in "ab"]),
    "a field or none": ("user", [{"user": "a"}, {}]),
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(("name", "calls"), UNKEYED.values(), ids=list(UNKEYED))
@pytest.mark.parametrize("unkeyed", [True, False], ids=["named", "not named"])
def test_what_only_tracks_a_call_counts_unless_the_cache_is_told_so(
    up: Upstream,
    client: Any,
    colour: Colour,
    unkeyed: bool,
    name: str,
    calls: list[dict[str, Any]],
    stream: bool,
) -> None:
    with Cache.memory(unkeyed=[name] if unkeyed else []) as cache:
        for more in calls * 4:
            colour.ask(client, BY_NAME["chat-stream" if stream else "chat"], **more)
    assert up.calls == (1 if unkeyed else 2)
    assert cache.stats.hits == 8 - up.calls


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x-tenant", [{"default_headers": {"X-Tenant": value}} for value in "ab"]),
        ("tenant", [{"default_query": {"tenant": value}} for value in "ab"]),
    ],
    ids=["header", "query"],
)
@pytest.mark.parametrize("unkeyed", [True, False], ids=["named", "not named"])
def test_what_only_tracks_a_client_counts_unless_the_cache_is_told_so(
    up: Upstream, colour: Colour, unkeyed: bool, name: str, options: list[dict[str, Any]]
) -> None:
    with Cache.memory(unkeyed=[name] if unkeyed else []):
        for given in options * 4:
            colour.ask(colour.client(up, **given), CHAT)
    assert up.calls == (1 if unkeyed else 2)


def test_what_is_left_out_is_sent_and_not_stored(up: Upstream, client: Any, colour: Colour) -> None:
    cache = Cache.memory(unkeyed=["x-tenant-trace", "run", "user"])
    with cache:
        colour.ask(
            client,
            CHAT,
            extra_headers={"x-tenant-trace": "t"},
            extra_query={"run": "r"},
            extra_body={"user": "u"},
        )
        (key,) = cache.store.keys()
    assert (up.last.headers["x-tenant-trace"], up.last.query, up.last.json()["user"]) == (
        "t",
        "run=r",
        "u",
    )
    request = decode_request(read_record(cache.store.get(key) or b"")["request"])
    assert not {"headers", "query"} & request.keys()
    assert "user" not in request["body"]


def test_a_miss_for_what_is_stored_as_hidden_names_it(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    sent = [{"extra_headers": {"x-run": n * 8}} for n in ("2b5e", "7c9d")]
    with cache:
        colour.ask(client, CHAT, **sent[0])
    with cache.mode("replay"), pytest.raises(ReplayMissError) as missed:
        colour.ask(client, CHAT, **sent[1])
    told = str(missed.value)
    assert "(or in what is stored as (hidden): x-run; what only tracks" in told
    assert "left out by unkeyed=)" in told
    assert "2b5e" not in told
    assert "7c9d" not in told


def test_a_cache_that_leaves_nothing_out_of_a_call_has_its_key(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    other = Cache(cache.store, unkeyed=["x-tenant-trace"])
    for block in (cache, other) * 4:
        with block:
            colour.ask(client, CHAT)
    assert up.calls == 1


def test_caches_that_leave_out_other_fields_do_not_share_what_the_door_knows(
    up: Upstream, client: Any, colour: Colour
) -> None:
    one, other = Cache.memory(unkeyed=["user"]), Cache.memory()
    for block, calls in ((one, 1), (other, 3), (one, 3), (other, 3)):
        with block:
            for user in "ab" * 4:
                colour.wait(client.chat.completions.create(**chat(1), user=user))
        assert up.calls == calls


def test_a_name_that_steers_counts_where_the_cache_is_told_so(
    up: Upstream, client: Any, colour: Colour
) -> None:
    with Cache.memory(keyed=["prompt_cache_key", "x-irid"]):
        for value in "ab" * 3:
            colour.ask(client, CHAT, extra_body={"prompt_cache_key": value})
            colour.ask(client, CHAT, extra_headers={"x-irid": value})
    assert up.calls == 4


def _hooked(colour: Colour, change: Any) -> type:
    """A class of clients that change the options of their requests on their way out."""
    base: Any = openai.OpenAI if colour.name == "sync" else openai.AsyncOpenAI

    class Hooked(base):  # type: ignore[misc]
        if colour.name == "sync":

            def _prepare_options(self, options: Any) -> Any:
                return change(options)

        else:

            async def _prepare_options(self, options: Any) -> Any:
                return change(options)

    return Hooked


def _say(word: str) -> Any:
    def change(options: Any) -> Any:
        options.json_data = {**options.json_data, "user": word}
        return options

    return change


def _sign(word: str) -> Any:
    def change(options: Any) -> Any:
        options.headers = {**(options.headers or {}), "Authorization": f"Bearer {word}"}
        return options

    return change


@pytest.mark.parametrize(("change", "calls"), [(_say, 2), (_sign, 1)], ids=["body", "credentials"])
def test_what_a_clients_own_hook_sends_counts(
    up: Upstream, colour: Colour, change: Any, calls: int
) -> None:
    with Cache.memory():
        for word in ("blue", "red") * 2:
            client = _hooked(colour, change(word))(base_url=up.base_url, api_key="k")
            colour.ask(client, CHAT)
    assert up.calls == calls


def test_a_hook_that_fails_does_not_keep_a_hit_away(up: Upstream, colour: Colour) -> None:
    def fail(options: Any) -> Any:
        raise ConnectionError("no token today")

    with Cache.memory():
        colour.ask(_hooked(colour, _sign("blue"))(base_url=up.base_url, api_key="k"), CHAT)
        colour.ask(_hooked(colour, fail)(base_url=up.base_url, api_key="k"), CHAT)
    assert up.calls == 1
