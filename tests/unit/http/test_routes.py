"""The requests that ask a model, by host, path and, where that does not tell, body."""

from __future__ import annotations

from typing import Any

import pytest

from cachewrap import ConfigurationError
from cachewrap.http.routes import Routes, is_private, is_stream, known, name_of

MODEL = {"model": "m", "messages": [], "text_1": "a"}


def is_known(host: str, path: str, body: Any, *, port: int = 8000, **given: Any) -> bool:
    return known(given.pop("paths", None), **given).match(host, port, path, lambda: body)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255"),
        *("192.168.178.20", "169.254.7.7", "100.64.0.1", "100.127.1.1"),
        *("::1", "[::1]", "::", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "::ffff:10.0.0.1"),
        *("localhost", "LOCALHOST", "localhost.", "models.localhost", "vllm", "my-host"),
        *("host.docker.internal", "model-runner.docker.internal", "host.containers.internal"),
    ],
)
def test_hosts_of_ones_own(host: str) -> None:
    assert is_private(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", "8.8.8.8", "172.32.0.1", "172.15.0.1", "192.169.0.1", "100.128.0.1", "11.0.0.1"),
        *("2001:db8::1", "2606:4700::1", "::ffff:8.8.8.8", "fec0::1"),
        *("model.internal", "docker.internal.example", "localhost.example.org", "127.0.0.1.nip.io"),
        *("notlocalhost.org", "evil-docker.internal", "api.example.org", "10.0.0.1.example.org"),
    ],
)
def test_hosts_of_anybody(host: str) -> None:
    assert not is_private(host)


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/chat/completions", "/chat/completions", "/api/v0/chat/completions"),
        *("/engines/v1/chat/completions", "/v1/fim/completions"),
        "/v1beta/models/gemini-pro:generateContent",
    ],
)
@pytest.mark.parametrize("body", [{}, [], None, MODEL], ids=str)
def test_a_path_that_no_other_api_has_tells_it_alone(path: str, body: Any) -> None:
    assert is_known("localhost", path, body)


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/messages", "/v1/messages/count_tokens", "/v1/responses", "/v1/embeddings"),
        *("/v1/completions", "/rerank", "/v2/rerank", "/v1/moderations", "/classify", "/v1/ocr"),
        *("/classifications", "/api/chat", "/api/generate", "/v1/chat", "/generate", "/tokenize"),
        *("/v1/score", "/score", "/pooling", "/detokenize", "/api/v1/chat", "/completion"),
        *("/v1/images/generations", "/v1/audio/speech", "/v1/models/m:predict"),
        *("/api/v0/completions", "/api/v0/embeddings", "/infill", "/embedding", "/reranking"),
    ],
)
def test_a_path_that_others_have_needs_a_model_in_the_body(path: str) -> None:
    assert is_known("localhost", path, MODEL)
    for body in ({}, {"text": "model"}, ["model"], "model", None):
        assert not is_known("localhost", path, body)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/completion", {"prompt": "hi"}),
        ("/completions", {"prompt": "hi", "stream": True}),
        ("/infill", {"input_prefix": "a", "input_suffix": "b"}),
        ("/embedding", {"content": "hi"}),
        ("/v1/embeddings", {"input": "hi"}),
        ("/embed", {"inputs": "hi"}),
        ("/rerank", {"query": "hi", "texts": ["a"]}),
        ("/generate", {"inputs": "hi", "parameters": {"max_new_tokens": 5}}),
        ("/generate_stream", {"inputs": "hi"}),
        ("/generate", {"text": "hi", "sampling_params": {}}),
    ],
    ids=str,
)
def test_servers_of_one_model_are_told_by_what_they_are_asked(path: str, body: Any) -> None:
    assert is_known("10.0.0.7", path, body)
    assert not is_known("10.0.0.7", f"{path}/more", body)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"inputs": "of a form"}),
        ("/rerank", {"query": "hi"}),
        ("/messages", {"model": "golf", "text": "sold"}),
        ("/score", {"model": "trees", "data": [1]}),
        ("/v1/models", MODEL),
        ("/v1/models/load", MODEL),
        ("/v1/files", MODEL),
        ("/", MODEL),
    ],
    ids=str,
)
def test_what_an_app_could_have_is_left_alone(path: str, body: Any) -> None:
    assert not is_known("localhost", path, body)


def test_a_body_that_is_no_json_tells_nothing() -> None:
    def broken() -> object:
        raise ValueError("no JSON")

    assert not known(None).match("localhost", 80, "/v1/messages", broken)
    assert known(None).match("localhost", 80, "/v1/chat/completions", broken)


@pytest.mark.parametrize("host", ["api.openai.com", "x.openai.azure.com", "api.mistral.ai"])
def test_on_a_host_that_is_named_the_path_tells_it(host: str) -> None:
    assert is_known(host, "/v1/messages", {}, port=443)


@pytest.mark.parametrize(
    "pattern",
    [
        *("model.internal", "MODEL.internal", "model.internal:8000", "*.internal", "*:8000"),
        *("*.internal:8000", " model.internal ", "mo[de]el.internal"),
    ],
)
def test_what_is_named_is_known(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_known("model.internal", "/v1/messages", MODEL)
    assert is_known("model.internal", "/v1/messages", {}, hosts=[pattern])
    assert is_known("model.internal", "/v1/messages", {}, hosts=pattern)
    monkeypatch.setenv("CACHEWRAP_HOSTS", f"other.internal, {pattern},")
    assert is_known("model.internal", "/v1/messages", {})
    assert is_known("localhost", "/v1/messages", MODEL)


def test_paths_of_servers_of_ones_own_need_a_telling_body_on_every_host() -> None:
    everywhere = Routes(None, None)
    assert everywhere.match("model.internal", 80, "/v1/score", lambda: MODEL)
    assert everywhere.match("model.internal", 80, "/v1/messages", dict)
    assert not everywhere.match("model.internal", 80, "/v1/score", dict)


@pytest.mark.parametrize("pattern", ["other.internal", "model.internal:80", "internal", "*.intern"])
def test_what_is_not_named_is_not_known(pattern: str) -> None:
    assert not is_known("model.internal", "/v1/chat/completions", MODEL, hosts=[pattern])


@pytest.mark.parametrize("pattern", ["[2606::1]:8000", "[2606::1]", "2606::1", "2606::*"])
def test_addresses_of_ipv6(pattern: str) -> None:
    assert is_known("2606::1", "/v1/chat/completions", MODEL, hosts=[pattern])
    assert not is_known("2607::1", "/v1/chat/completions", MODEL, hosts=[pattern])


@pytest.mark.parametrize(("host", "port"), [("model.internal", 8000), ("2606::1", 443)])
def test_a_host_is_told_as_a_pattern_that_matches_it(host: str, port: int) -> None:
    name = name_of(host, port)
    assert is_known(host, "/v1/chat/completions", MODEL, port=port, hosts=[name])
    assert not is_known(host, "/v1/chat/completions", MODEL, port=1, hosts=[name])


def test_a_dot_that_ends_the_name_of_a_host_does_not_count() -> None:
    assert is_known("api.openai.com.", "/v1/responses", {}, port=443)


def test_what_keeps_a_message_in_a_thread_is_no_question() -> None:
    body = {"role": "user", "content": "hi"}
    assert not is_known("api.openai.com", "/v1/threads/t/messages", body, port=443)


def test_a_slash_at_the_end_of_paths_of_the_users_own_does_not_count() -> None:
    assert Routes(["localhost"], ["/ask/"]).match("localhost", 80, "/ask", dict)
    assert Routes(["localhost"], "/ask/").match("localhost", 80, "/ask", dict)


@pytest.mark.parametrize(
    "pattern",
    [
        *("http://model.internal:8000/v1", "model/v1", "", "a,b"),
        *("me@model.internal:8000", "a.internal b.internal"),
    ],
)
def test_what_is_no_host_is_an_error_that_says_how_one_is_named(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match=r"model\.internal:8000"):
        Routes([pattern], None)


def test_what_is_no_host_in_the_environment_is_told_by_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CACHEWRAP_HOSTS", "a.internal,https://b.internal/v1")
    with pytest.raises(ConfigurationError, match=r"CACHEWRAP_HOSTS: .*b\.internal/v1"):
        known(None)


def test_no_password_is_shown_of_what_is_no_host() -> None:
    with pytest.raises(ConfigurationError, match="https://…@model") as raised:
        Routes(["https://me:secret@model.internal"], None)
    assert "secret" not in str(raised.value)


def test_paths_of_the_users_own_need_a_model_on_hosts_that_nobody_named() -> None:
    assert is_known("localhost", "/ask", MODEL, paths=["/ask"])
    assert not is_known("localhost", "/ask", {}, paths=["*"])
    assert not is_known("localhost", "/generate_stream", {"inputs": "hi"}, paths=["/ask"])
    assert Routes(["localhost"], ["/ask"]).match("localhost", 80, "/ask", dict)


@pytest.mark.parametrize(
    ("path", "body", "streamed"),
    [
        ("/generate_stream", {"inputs": "hi"}, True),
        ("/generate", {"inputs": "hi"}, False),
        ("/completion", {"prompt": "hi"}, False),
        ("/completion", {"prompt": "hi", "stream": True}, True),
        ("/infill", {"input_prefix": "hi", "stream": True}, True),
        ("/api/chat", MODEL, True),
        ("/api/chat", {**MODEL, "stream": False}, False),
        ("/api/v1/chat", MODEL, False),
    ],
    ids=str,
)
def test_streams(path: str, body: Any, streamed: bool) -> None:
    assert is_stream(path, body, "") is streamed
