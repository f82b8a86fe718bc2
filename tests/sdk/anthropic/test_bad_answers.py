"""What claims success and is no message: returned and not stored, and not served where it was."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from standin import Upstream

from cachewrap import Cache, CacheWarning, ReplayMissError
from cachewrap.entry import Facts
from cachewrap.format import codec
from cachewrap.format.envelope import seal, unseal
from sdk.anthropic.asking import Colour
from sdk.anthropic.shapes import BY_NAME

MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}

BAD = [
    pytest.param({}, "no content", id="nothing"),
    pytest.param({"type": "error", "error": {"type": "overloaded_error"}}, "error", id="error"),
    pytest.param({"detail": "Not Found"}, "error", id="detail"),
    pytest.param({"code": 500, "msg": "busy"}, "error", id="code and message"),
    pytest.param({**MESSAGE, "stop_reason": "end_turn"}, "no content", id="no content"),
    pytest.param({**MESSAGE, "content": []}, "no finish reason", id="no stop reason"),
    pytest.param(
        {**MESSAGE, "content": [], "stop_reason": None}, "no finish reason", id="stop reason null"
    ),
]
NAMES = [name for name in ("messages", "messages-raw", "messages-beta") if name in BY_NAME]


def rewrite(cache: Cache, body: bytes) -> None:
    """Put another body in the place of the one that is stored."""
    (key,) = cache.store.keys()
    entry = unseal(cache.store.get(key) or b"")
    answer = codec.decode(entry.kind, entry.answer)
    kind, data = codec.encode(replace(answer, chunks=[body], delays=answer.delays[:1]))
    request = entry.read_record()["request"]
    cache.store.set(key, seal(kind, data, request, Facts(1.0, 0.1, source="s")))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("body", "reason"), BAD)
def test_it_is_returned_and_not_stored(
    up: Upstream,
    client: Any,
    colour: Colour,
    cache: Cache,
    name: str,
    body: dict[str, Any],
    reason: str,
) -> None:
    up.once(body=json.dumps(body).encode())
    with cache:
        for _ in range(3):
            colour.ask(client, BY_NAME[name])
    assert (up.calls, cache.stats.stored, cache.stats.hits) == (2, 1, 1)
    assert cache.stats.unstored_reasons == {reason: 1}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("body", [case.values[0] for case in BAD], ids=[case.id for case in BAD])
def test_where_it_is_stored_it_is_a_miss_and_is_replaced(
    up: Upstream, client: Any, colour: Colour, cache: Cache, name: str, body: dict[str, Any]
) -> None:
    shape = BY_NAME[name]
    with cache:
        colour.ask(client, shape)
        rewrite(cache, json.dumps(body).encode())
        with (
            cache.mode("replay"),
            pytest.warns(CacheWarning, match="holds no answer to POST"),
            pytest.raises(ReplayMissError, match="holds no answer to POST"),
        ):
            colour.ask(client, shape)
        for _ in range(2):
            colour.ask(client, shape)
    assert (up.calls, cache.stats.stored) == (2, 2)


@pytest.mark.parametrize(
    ("manner", "reason"),
    [({"error_after": 2}, "error"), ({"finish": False}, "cut off")],
    ids=["an error event", "no last event"],
)
def test_a_stream_that_breaks_off_is_not_stored(
    up: Upstream, client: Any, colour: Colour, cache: Cache, manner: dict[str, Any], reason: str
) -> None:
    up.once(**manner)
    with cache:
        try:
            colour.ask(client, BY_NAME["messages-stream"])
        except Exception:
            assert reason == "error"
        colour.ask(client, BY_NAME["messages-stream"])
    assert (up.calls, cache.stats.unstored_reasons) == (2, {reason: 1})
