"""Keys that were given once, and stay: of values, of classes, of whole requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kinds import CLASSES, VALUES

from cachewrap.http.request import canonical_headers, without_secrets
from cachewrap.keyed import Keyed
from cachewrap.request.canonical import canonical, canonical_body
from cachewrap.request.key import (
    encode,
    hashed,
    inside_key,
    key_of,
    make_keyer,
    refresh_name,
    salted,
    sample_key,
)

FOLDER = Path(__file__).parents[2] / "golden"


def key(value: object) -> str:
    """The key of a value by itself."""
    return key_of(salted("41"), encode(canonical(value)))


SAID: list[Any] = [
    {"role": "system", "content": "You are kind."},
    {"role": "user", "content": "Grüße!"},
]
TEXT = {"type": "string"}
SCHEMA = {
    "type": "object",
    "properties": {"reasoning": TEXT, "answer": {**TEXT, "default": "none"}},
    "required": ["reasoning", "answer"],
}
CALLED = [
    {"role": "user", "content": "What is the weather?"},
    {
        "role": "assistant",
        "content": [
            {"type": "tool_use", "id": "t", "name": "f", "input": {"town": "Ulm", "days": 2}}
        ],
    },
]


def sent(body: Any, **more: Any) -> dict[str, Any]:
    """A request of an SDK or over HTTP."""
    url = "https://api.openai.com/v1/chat/completions"
    return {"method": "POST", "url": url, **more, "body": canonical_body(body)}


def counted(body: Any) -> Any:
    """A body of which a cache counts what steers, and leaves out who asks."""
    keyed = Keyed({"prompt_cache_key"})
    return canonical_body(without_secrets({**body, "user": "u"}, keyed), keyed, frozenset({"user"}))


def called(arguments: Any, **more: Any) -> dict[str, Any]:
    """A call of a decorated function."""
    return {"function": "agents:ask", **more, "arguments": canonical(arguments)}


# The prefix and the request.
REQUESTS: dict[str, tuple[bytes, Any]] = {
    "chat": (salted(), sent({"model": "m", "messages": SAID})),
    "chat with parameters": (
        salted(),
        sent({"model": "m", "messages": SAID, "temperature": 0.5, "n": 2.0, "stop": None}),
    ),
    "chat of no messages": (salted(), sent({"model": "m", "messages": []})),
    "chat of many messages": (salted(), sent({"model": "m", "messages": SAID * 20})),
    "chat as a stream": (salted(), sent({"model": "m", "messages": SAID}, stream=True)),
    "chat as a stream, as the SDKs and plain HTTP ask for it": (
        salted(),
        sent({"model": "m", "messages": SAID, "stream": True}, stream=True),
    ),
    "a transcription as a stream": (
        salted(),
        {
            "method": "POST",
            "url": "https://api.openai.com/v1/audio/transcriptions",
            "headers": {"content-type": "multipart/form-data"},
            "body": {"model": "m", "stream": True, "temperature": 0.5, "include": ["logprobs"]},
            "files": [{"field": "file", "name": "a.wav", "sha256": "00" * 32}],
            "stream": True,
        },
    ),
    "chat with headers and a query": (
        salted(),
        sent(
            {"model": "m", "messages": SAID},
            headers={"openai-beta": "v2"},
            query={"api-version": "1"},
        ),
    ),
    "chat with tools": (
        salted(),
        sent(
            {
                "model": "m",
                "messages": SAID,
                "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
            }
        ),
    ),
    "chat with a schema": (
        salted(),
        sent(
            {
                "model": "m",
                "messages": SAID,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": SCHEMA},
                },
            }
        ),
    ),
    "what a tool was called with": (salted(), sent({"model": "m", "messages": CALLED})),
    "documents": (
        salted(),
        sent({"model": "m", "messages": SAID, "documents": [{"title": "t", "text": "x"}]}),
    ),
    "responses of a text": (salted(), sent({"model": "m", "input": "hi"})),
    "responses of a list": (salted(), sent({"model": "m", "input": SAID})),
    "contents": (salted(), sent({"contents": [{"parts": [{"text": "hi"}]}]})),
    "what steers": (
        salted(),
        sent(
            {
                "model": "m",
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}
                        ],
                    }
                ],
                "prompt_cache_key": "k",
            }
        ),
    ),
    "what steers, and is counted": (
        salted(),
        {
            **sent({"model": "m"}),
            "headers": canonical_headers([("x-irid", "1")], Keyed({"x-irid"})),
            "body": counted({"model": "m", "messages": SAID, "prompt_cache_key": "k"}),
        },
    ),
    "an upload": (
        salted(),
        {
            "method": "POST",
            "url": "https://api.openai.com/v1/audio/transcriptions",
            "body": {"model": "m"},
            "files": [{"field": "file", "name": "a.wav", "sha256": "00" * 32}],
        },
    ),
    "no body": (salted(), {"method": "POST", "url": "https://api.openai.com/v1/x"}),
    "a call": (salted("41"), called({"prompt": "hi", "temperature": 0.0})),
    "a call with a conversation": (salted("41"), called({"messages": SAID, "model": "m"})),
    "a call with its code and constants": (
        salted("41"),
        called({"prompt": "hi"}, code="return PROMPT", constants={"PROMPT": "Be kind."}),
    ),
    "a call with a version": (salted("41"), called({"prompt": "hi"}, version=3)),
    "a call with a seed of its own": (salted("7"), called({"prompt": "hi"})),
    "a call with what is bound": (
        salted("41"),
        called({"prompt": "hi"}, bound=canonical({"partial": [[1], {"a": (2,)}]})),
    ),
    "a call by a key": (salted("41"), {"function": "agents:ask", "key": canonical(("a", 1))}),
    "a call with a schema": (salted("41"), called({"prompt": "hi", "tools": [SCHEMA]})),
    "a call with long bytes": (salted("41"), called({"image": b"x" * 5000})),
    "a call with what is no text": (salted("41"), called({"prompt": "\ud800", "n": 2**70})),
    "a call under rules": (salted("41", rules="ab" * 32), called({"prompt": "hi"})),
    "a plain key": (salted("key"), {"key": canonical(("a", 1))}),
}

DERIVED = {
    "sample 1": sample_key("ab" * 32, 1),
    "sample 2": sample_key("ab" * 32, 2),
    "inside": inside_key("ab" * 32, "cd" * 32),
    "refresh": refresh_name("ab" * 32),
}


def golden(name: str) -> dict[str, str]:
    """The keys of one table, as they were given."""
    found: dict[str, str] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return found


def made() -> dict[str, dict[str, str]]:
    """The keys of each table, as they are now."""
    whole = {name: hashed(prefix, request)[0] for name, (prefix, request) in REQUESTS.items()}
    return {
        "keys": {name: key(value) for name, value in VALUES.items()},
        "classes": {name: key(value) for name, value in CLASSES.items()},
        "requests": {**whole, **DERIVED},
    }


@pytest.mark.parametrize("name", VALUES)
def test_a_value_has_the_key_that_it_had(name: str) -> None:
    assert key(VALUES[name]) == golden("keys")[name]


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_has_the_key_that_it_had(name: str) -> None:
    assert key(CLASSES[name]) == golden("classes")[name]


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_has_the_key_that_it_had(name: str) -> None:
    prefix, request = REQUESTS[name]
    expected = golden("requests")[name]
    assert hashed(prefix, request)[0] == key_of(prefix, encode(request)) == expected
    if "arguments" in request:
        head = {part: value for part, value in request.items() if part != "arguments"}
        keyed = make_keyer(prefix, head, "arguments")(dict(request["arguments"]))
        assert keyed is None or keyed[0] == expected


def test_a_request_has_the_key_that_it_has_without_what_is_left_out() -> None:
    unkeyed = frozenset({"user", "x-run", "run"})
    headers = [("X-Run", "1"), ("openai-beta", "v2")]
    request = {
        **sent({}),
        "headers": canonical_headers(headers, unkeyed=unkeyed),
        "query": {"api-version": "1"},
        "body": canonical_body({"model": "m", "messages": SAID, "user": "u"}, unkeyed=unkeyed),
    }
    assert hashed(salted(), request)[0] == golden("requests")["chat with headers and a query"]


def test_what_follows_from_a_key_is_what_it_was() -> None:
    known = golden("requests")
    assert {name: known[name] for name in DERIVED} == DERIVED


@pytest.mark.parametrize("table", ["keys", "classes", "requests"])
def test_nothing_is_without_its_golden_key(table: str) -> None:
    assert made()[table].keys() == golden(table).keys()


def test_no_two_requests_share_a_key() -> None:
    known = [*golden("requests").values(), *golden("keys").values(), *golden("classes").values()]
    assert len(set(known)) == len(known)
