"""The ready set `STEERING`: what is in it makes no difference, and everything else does."""

from __future__ import annotations

from typing import Any

import pytest
from examples_tried import many
from hypothesis import given, settings, strategies as st

from cachewrap.request.canonical import canonical_body
from cachewrap.request.key import encode
from cachewrap.same import STEERING
from cachewrap.same.applied import check_rules

RULES = check_rules(STEERING)
assert RULES is not None

SPOKEN = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def asked(headers: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """A request over HTTP."""
    found: dict[str, Any] = {"method": "POST", "url": "https://api.openai.com/v1/chat/completions"}
    if headers:
        found["headers"] = headers
    return {**found, "body": canonical_body({**SPOKEN, **more})}


def called(**more: Any) -> dict[str, Any]:
    """A call of a decorated function."""
    return {"function": "m:ask", "arguments": {"question": "hi", **more}}


def counted(request: dict[str, Any]) -> bytes:
    assert RULES is not None
    return encode(RULES.apply(request).request)


STEERED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "user": (asked(user="a"), asked(user="b")),
    "a user or none": (asked(user="a"), asked()),
    "OpenAI's metadata": (asked(metadata={"team": "a"}), asked(metadata={"team": "b"})),
    "Anthropic's metadata": (asked(metadata={"user_id": "a"}), asked(metadata=None)),
    "store": (asked(store=True), asked(store=False)),
    "service tier": (asked(service_tier="flex"), asked(service_tier="auto")),
    "Converse's service tier": (asked(serviceTier={"type": "flex"}), asked()),
    "Converse's metadata": (asked(requestMetadata={"a": "1"}), asked(requestMetadata={"a": "2"})),
    "InvokeModel's headers": (
        asked({"x-amzn-bedrock-service-tier": "flex", "x-amzn-bedrock-request-metadata": "{}"}),
        asked({"x-amzn-bedrock-service-tier": "priority"}),
    ),
    "all": (
        asked(user="a", metadata={"a": "1"}, store=True, service_tier="flex"),
        asked(),
    ),
    "of a function": (
        called(user="a", prompt_cache_key="k", cache_control={"type": "ephemeral"}),
        called(safety_identifier="s", prompt_cache_retention="24h", prompt_cache_options=None),
    ),
}
COUNTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "text": (asked(messages=[{"role": "user", "content": "a"}]), asked()),
    "a user in a message": (
        asked(messages=[{"role": "user", "content": "hi", "user": "a"}]),
        asked(),
    ),
    "labels": (asked(labels=["good", "bad"]), asked(labels=["bad", "good"])),
    "a session": (asked(session_id="a"), asked(session_id="b")),
    "Bedrock's trace": (asked(trace="enabled"), asked()),
    "Bedrock's headers": (asked({"x-amzn-bedrock-trace": "ENABLED"}), asked()),
    "another way to infer": (asked(speed="fast"), asked()),
    "calls of tools at once": (asked(parallel_tool_calls=False), asked()),
    "what a stream has": (asked(stream_options={"include_usage": True}), asked()),
    "verbosity": (asked(verbosity="low"), asked()),
    "a seed": (asked(seed=1), asked(seed=2)),
    "an argument": (called(question="hi there"), called()),
}


@pytest.mark.parametrize("case", STEERED)
def test_what_steers_makes_no_difference_by_the_set_and_one_without(case: str) -> None:
    one, other = STEERED[case]
    assert counted(one) == counted(other)
    assert encode(one) != encode(other)


@pytest.mark.parametrize("case", COUNTED)
def test_what_is_not_in_the_set_counts(case: str) -> None:
    one, other = COUNTED[case]
    assert counted(one) != counted(other)


IN_THE_SET = frozenset(
    "user metadata requestMetadata store service_tier serviceTier cache_control prompt_cache_key"
    " prompt_cache_options prompt_cache_retention safety_identifier".split()
)
JSON = st.none() | st.booleans() | st.integers(0, 3) | st.text(max_size=3) | st.just([])


@given(
    st.text(max_size=12)
    | st.sampled_from(["users", "User", "meta", "metadata2", "stored", "service", *IN_THE_SET]),
    JSON,
)
@settings(max_examples=many(400), deadline=None)
def test_a_field_more_makes_a_difference_unless_it_is_in_the_set(name: str, value: Any) -> None:
    one, other = called(**{name: value}), called()
    same = name in IN_THE_SET or one == other
    assert (counted(one) == counted(other)) is same
