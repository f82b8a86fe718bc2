"""What claims success over plain HTTP and is no answer: given as it came, and not stored."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cachewrap import Cache, CacheWarning, ReplayMissError
from cachewrap.entry import Facts
from cachewrap.format import codec
from cachewrap.format.envelope import seal, unseal
from http_libraries.web import CHAT, LOOPBACK, Reading, Web

readings = pytest.mark.parametrize("reading", [None, Reading()], ids=["read", "open"])
MESSAGE = {"role": "assistant", "content": "hi"}
CHOICE = {"index": 0, "message": MESSAGE}

BAD = [
    pytest.param("/v1/chat/completions", {"object": "error"}, "error", id="object error"),
    pytest.param("/v1/chat/completions", {"code": 500, "msg": "busy"}, "error", id="code"),
    pytest.param("/v1/chat/completions", {"detail": "Not Found"}, "error", id="detail"),
    pytest.param("/v1/chat/completions", {}, "no choices", id="nothing"),
    pytest.param("/v1/chat/completions", {"choices": None}, "no choices", id="choices null"),
    pytest.param("/v1/chat/completions", {"choices": []}, "no choices", id="choices empty"),
    pytest.param(
        "/v1/chat/completions", {"choices": [CHOICE]}, "no finish reason", id="no finish reason"
    ),
    pytest.param("/v1/messages", {"type": "message"}, "no content", id="messages"),
    pytest.param("/v1/responses", {"status": "in_progress"}, "not completed", id="responses"),
    pytest.param("/v1/embeddings", {"data": []}, "no embeddings", id="embeddings"),
    pytest.param(
        "/v1beta/models/g:generateContent", {"candidates": []}, "no candidates", id="candidates"
    ),
    pytest.param("/api/chat", {"message": MESSAGE, "done": False}, "no finish reason", id="ollama"),
    pytest.param("/ask", {}, "empty answer", id="nothing from an unknown API"),
    pytest.param("/ask", {"status": "error"}, "error", id="error of an unknown API"),
]
PATHS = ["*"]


@readings
@pytest.mark.parametrize(("path", "body", "reason"), BAD)
def test_it_is_given_and_not_stored(
    web: Web, cache: Cache, path: str, body: dict[str, Any], reason: str, reading: Reading | None
) -> None:
    raw = json.dumps(body).encode()
    web.up.behave(body=raw)
    web.patch(hosts=LOOPBACK, paths=PATHS)
    with cache:
        told = [web.ask({**CHAT, "stream": False}, path=path, reading=reading) for _ in range(2)]
    assert [(one.body, one.mark) for one in told] == [(raw, None)] * 2
    assert (web.up.calls, cache.stats.stored) == (2, 0)
    assert cache.stats.unstored_reasons == {reason: 2}


@pytest.mark.parametrize("body", [b'{"choices": []}', b"{}", b'{"detail": "x"}', b"{cut"])
def test_where_it_is_stored_it_is_a_miss_and_is_replaced(
    web: Web, cache: Cache, body: bytes
) -> None:
    web.patch(hosts=LOOPBACK)
    with cache:
        first = web.ask()
        (key,) = cache.store.keys()
        entry = unseal(cache.store.get(key) or b"")
        answer = replace(codec.decode(entry.kind, entry.answer), chunks=[body])
        request = entry.read_record()["request"]
        cache.store.set(key, seal(*codec.encode(answer), request, Facts(1.0, 0.1, source="s")))
        with (
            cache.mode("replay"),
            pytest.warns(CacheWarning),
            pytest.raises(ReplayMissError, match="holds no answer to POST"),
        ):
            web.ask()
        again, hit = web.ask(), web.ask()
    assert (web.up.calls, again.mark, hit.mark) == (2, None, "hit")
    assert again.body == hit.body != first.body


def test_an_entry_of_another_kind_is_a_miss(web: Web, cache: Cache) -> None:
    web.patch(hosts=LOOPBACK)
    with cache:
        web.ask()
        (key,) = cache.keys()
        cache.set(key, "words")
        with pytest.warns(CacheWarning, match="a value in place of an HTTP answer"):
            web.ask()
        assert web.ask().mark == "hit"
    assert web.up.calls == 2
