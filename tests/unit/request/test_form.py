"""The encoded form of requests: what comes first is hashed once, and a conversation can grow."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from examples_tried import many
from hypothesis import given, settings, strategies as st

from cachewrap.errors import UnkeyableError
from cachewrap.request.canonical import canonical
from cachewrap.request.key import (
    decode_request,
    encode,
    hashed,
    key_of,
    make_keyer,
    salted,
)

NAMES = st.sampled_from(["messages", "input", "contents", "history", "conversation", "model", "!x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=30,
)
PARTS = st.dictionaries(NAMES, JSON, max_size=4)
HEADS = st.dictionaries(st.sampled_from(["function", "url", "body", "arguments", "z"]), JSON)


def requests() -> st.SearchStrategy[Any]:
    named = st.sampled_from(["arguments", "body"])
    return HEADS | st.builds(lambda head, name, part: {**head, name: part}, HEADS, named, PARTS)


@given(requests())
@settings(max_examples=many(300), deadline=None)
def test_a_request_comes_back_from_its_bytes(request: Any) -> None:
    request = canonical(request)
    assert decode_request(encode(request)) == request


@given(requests(), requests())
@settings(max_examples=many(300), deadline=None)
def test_two_requests_are_one_only_if_their_bytes_are(one: Any, other: Any) -> None:
    one, other = canonical(one), canonical(other)
    assert (encode(one) == encode(other)) is (repr_of(one) == repr_of(other))


def repr_of(value: Any) -> Any:
    """A value that tells True from 1, whatever the order of its members."""
    if isinstance(value, dict):
        return {"": sorted((name, repr(repr_of(inner))) for name, inner in value.items())}
    return [repr_of(inner) for inner in value] if isinstance(value, list) else repr(value)


SWAPPED: list[tuple[Any, Any]] = [
    ({"arguments": {"messages": []}}, {"arguments": {"messages": None}}),
    ({"arguments": {"messages": []}}, {"arguments": {}}),
    ({"arguments": {"messages": [[]]}}, {"arguments": {"messages": []}}),
    ({"arguments": {"messages": [1, 2]}}, {"arguments": {"messages": [[1, 2]]}}),
    ({"arguments": {"messages": [1]}}, {"arguments": {"input": [1]}}),
    ({"arguments": {"messages": [1]}}, {"body": {"messages": [1]}}),
    (
        {"arguments": {"messages": [1], "input": []}},
        {"arguments": {"messages": [], "input": [1]}},
    ),
    ({"arguments": {"messages": []}, "body": None}, {"arguments": "messages", "body": {}}),
    ({"arguments": {}}, ["arguments", None, {}]),
    ({"arguments": {"a": 1}}, {"arguments": {}, "a": 1}),
]


@pytest.mark.parametrize(("one", "other"), SWAPPED)
def test_parts_cannot_be_taken_for_one_another(one: Any, other: Any) -> None:
    assert encode(one) != encode(other)
    assert decode_request(encode(one)) == one
    assert decode_request(encode(other)) == other


@pytest.mark.parametrize("name", ["messages", "input", "contents", "history", "conversation"])
@pytest.mark.parametrize("part", ["arguments", "body"])
@pytest.mark.parametrize("length", [0, 1, 15, 16, 17])
def test_a_conversation_that_grew_goes_on_from_the_shorter_one(
    part: str, name: str, length: int
) -> None:
    message = {"role": "user", "content": "hi"}

    def request(count: int) -> dict[str, Any]:
        return {"url": "u", part: {"model": "m", name: [message] * count}}

    prefix = salted()
    shorter, longer = encode(request(length)), encode(request(length + 1))
    assert longer.startswith(shorter[:-4])
    state = hashlib.sha256(prefix + shorter[:-4])
    state.update(longer[len(shorter) - 4 :])
    assert state.hexdigest() == hashed(prefix, request(length + 1))[0]
    assert decode_request(longer) == request(length + 1)


@pytest.mark.parametrize("length", [65535, 65536])
def test_a_long_conversation_grows_too(length: int) -> None:
    test_a_conversation_that_grew_goes_on_from_the_shorter_one("body", "messages", length)


@given(st.dictionaries(st.sampled_from(["function", "version", "a", "z"]), JSON), PARTS)
@settings(max_examples=many(200), deadline=None)
def test_what_calls_have_in_common_is_hashed_once(head: Any, part: Any) -> None:
    head, part = canonical(head), canonical(part)
    if set(head) == {"!dict"} or set(part) == {"!dict"}:
        return
    prefix = salted("41")
    request = {**head, "arguments": part}
    keyed = make_keyer(prefix, head, "arguments")(dict(part))
    assert keyed is not None
    assert keyed[0] == key_of(prefix, encode(request))
    assert b"".join(keyed[1]) == encode(request)


@pytest.mark.parametrize("value", [2**64, "\ud800", -(2**63) - 1])
def test_what_messagepack_cannot_have_is_left_to_the_general_way(value: Any) -> None:
    keyer = make_keyer(salted(), {}, "arguments")
    assert keyer({"x": value}) is None
    assert keyer({"messages": [value]}) is None
    request = encode({"arguments": {"messages": [value], "x": value}})
    assert (
        decode_request(request)
        == {"arguments": {"messages": [canonical([value])[0]], "x": canonical({"x": value})["x"]}}
        or b"!" in request
    )


def test_a_name_that_is_no_text_is_mended_in_a_part_too() -> None:
    request = {"arguments": {"\ud800": 1, "messages": [1]}}
    again = decode_request(encode(request))
    assert set(again["arguments"]) == {"!dict"}
    assert encode(again) == encode(request)


@pytest.mark.parametrize(
    "bytes_",
    [
        b"\xc1",
        b"\xc1\x00\x00\x00\x00",
        b"\xc1\x90\x80\xff\xff\xff\xff",
        b"\xc1\x93\xa4body\xc0\x80\x80\x00\x00\x00\x01",
        b"\xc1\x93\xa4body\xc0\x80\x80\x00\x00\x00\x00\x00",
        b"\xc1\x93\xa4body\xa1m\x80\x90\x01\x00\x00\x00\x01",
        b"\xc1\xc0\x80\x00\x00\x00\x00",
    ],
)
def test_bytes_that_are_no_request_are_refused(bytes_: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_request(bytes_)


def test_a_request_in_itself_is_refused() -> None:
    ring: dict[str, Any] = {}
    ring["messages"] = [ring]
    with pytest.raises(UnkeyableError, match="refers to itself"):
        encode({"arguments": ring})
    assert make_keyer(salted(), {}, "arguments")({"messages": [ring]}) is None


def test_rules_have_key_space_of_their_own() -> None:
    request = encode({"body": {"model": "m"}})
    prefixes = [
        salted(),
        salted("41"),
        salted("41", "digest"),
        salted("41", rules="digest"),
        salted("41", rules="other"),
        salted("41", "", rules="digest"),
        salted(rules="digest"),
    ]
    assert len({key_of(prefix, request) for prefix in prefixes}) == len(prefixes)
    assert salted("41", rules="") == salted("41")
    assert salted("41") == b"cachewrap:2:\x91\xa241"


def test_long_bytes_are_kept_as_their_digest() -> None:
    short, long = b"x" * 1024, b"x" * 1025
    assert canonical(short) == {"!bytes": "eHh4" * 341 + "eA=="}
    assert canonical(long) == {"!bytes": [1025, hashlib.sha256(long).hexdigest()]}
    assert canonical(bytearray(long)) == {"!bytearray": [1025, hashlib.sha256(long).hexdigest()]}
    assert encode(canonical(long)) != encode(canonical(long[1:] + b"y"))
