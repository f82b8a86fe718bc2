"""What every library of plain HTTP has in common: lists of embeddings, asked element by element."""

from __future__ import annotations

import json
from typing import Any

import pytest
from standin import Upstream

import cachewrap
from cachewrap import Cache
from http_libraries.web import LOOPBACK, Reading, Told, Web

PATH = "/v1/embeddings"


@pytest.fixture
def up(up: Upstream) -> Upstream:
    """An upstream that answers each element alike, whatever list it is in."""
    up._usual = up._manner = type(up._usual)(steady=True)
    return up


@pytest.fixture(params=[True, False], ids=["patched", "injected"])
def ask(request: pytest.FixtureRequest, web: Web) -> Any:
    """Asks for a list's embeddings, of a library that is patched or has ours put in."""
    if not request.param:
        web.inject()

    def ask(value: Any, **more: Any) -> Told:
        if not request.param:
            return web.ask({"model": "m", "input": value}, PATH, **more)
        with web.patch(hosts=LOOPBACK):
            return web.ask({"model": "m", "input": value}, PATH, **more)

    return ask


def vectors(told: Told) -> list[Any]:
    data = json.loads(told.body)["data"]
    assert [one["index"] for one in data] == list(range(len(data)))
    return [one["embedding"] for one in data]


@pytest.mark.parametrize(
    ("manner", "reading"),
    [({}, None), ({"gzip": True}, None), ({"shuffled": True}, Reading())],
    ids=["plain", "gzip", "shuffled, open"],
)
def test_only_what_is_missing_is_asked(ask: Any, up: Upstream, manner: Any, reading: Any) -> None:
    up.behave(steady=True, **manner)
    with Cache.memory(split=True):
        ask(["a", "b"], reading=reading)
        miss, hit = (ask(["c", "b", "a", "c"], reading=reading) for _ in range(2))
        alone = ask("b", reading=reading)
    assert up.elements == ["a", "b", "c"]
    assert (miss.body, miss.mark, hit.mark) == (hit.body, None, "hit")
    assert vectors(alone) == vectors(hit)[1:2]
    up.behave()
    assert vectors(hit) == vectors(ask(["c", "b", "a", "c"]))


def test_a_part_is_never_taken_for_the_request_sent_again(ask: Any, up: Upstream) -> None:
    with Cache.memory(split=True):
        ask(["a"], headers={"Idempotency-Key": "k"})
        ask(["a", "b"], headers={"Idempotency-Key": "k"})
        ask(["c", "a"], headers={"Content-MD5": "of this body"})
    keys = [request.headers.get("idempotency-key") for request in up.requests]
    assert (keys, up.elements) == (["k", None, None], ["a", "b", "c", "a"])


def test_an_error_is_what_upstream_says(ask: Any, up: Upstream) -> None:
    with Cache.memory(split=True) as cache:
        ask(["a"])
        up.fail(429)
        told = ask(["a", "b"])
        assert (told.status, json.loads(told.body)["error"]["code"]) == (429, "stand_in_failure")
        assert cache.stats.stored == 1
        assert len(vectors(ask(["a", "b"]))) == 2
    assert up.elements == ["a", "b", "b"]


def test_an_answer_of_another_form_is_never_taken_for_a_part(ask: Any, up: Upstream) -> None:
    broken = b'{"object": "list", "data": [{"index": 1, "embedding": [1]}], "model": "m"}'
    with Cache.memory(split=True) as cache:
        up.once(body=broken)
        assert ask(["a"]).body == broken
        ask(["b"])
        up.once(body=broken)
        assert len(vectors(ask(["a", "b"]))) == 2
        assert cache.stats.stored == 1
    assert up.elements == ["a", "b", "a", "a", "b"]


def test_without_a_word_lists_are_whole(ask: Any, up: Upstream) -> None:
    with Cache.memory():
        for value in (["a", "b"], ["b"], ["b"]):
            ask(value)
    assert up.elements == ["a", "b", "b"]


@pytest.mark.parametrize("everything", [True, False])
def test_a_patch_says_it_for_all_caches(web: Web, up: Upstream, everything: bool) -> None:
    patch = cachewrap.patch_all if everything else web.patch
    with patch(hosts=LOOPBACK, split=True):
        for cache in (Cache.memory(), Cache.memory(split=False)):
            with cache:
                web.ask({"model": "m", "input": ["a", "b"]}, PATH)
                web.ask({"model": "m", "input": ["b"]}, PATH)
    assert up.elements == ["a", "b", "a", "b", "b"]
