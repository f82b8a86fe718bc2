"""Lists of embeddings through the proxy, of which only what is missing is asked upstream."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from standin import Upstream as Standin

import cachewrap
from proxy.conftest import Serve, url_of
from proxy.raw import Message, ask, request
from proxy.running import Within

TARGET = "/openai/v1/embeddings"


@pytest.fixture
def proxy(serve: Serve, standin: Standin) -> Within:
    """A proxy over a cache that serves lists element by element."""
    standin.behave(steady=True)
    return serve("memory:?split=true", upstreams=url_of(standin))


def embed(proxy: Within, value: Any, *lines: str, packed: bool = False) -> Message:
    body = json.dumps({"model": "m", "input": value}).encode()
    if packed:
        body, lines = gzip.compress(body), (*lines, "content-encoding: gzip")
    return ask(proxy.port, request(TARGET, body, *lines))


def vectors(told: Message) -> list[Any]:
    return [one["embedding"] for one in json.loads(told.body)["data"]]


@pytest.mark.parametrize("packed", [False, True])
def test_only_what_is_missing_is_asked(proxy: Within, standin: Standin, packed: bool) -> None:
    first = embed(proxy, ["a", "b"])
    miss, hit = (embed(proxy, ["b", "c", "a"], packed=packed) for _ in range(2))
    assert standin.elements == ["a", "b", "c"]
    assert [told.mark for told in (first, miss, hit)] == ["miss", "miss", "hit"]
    assert miss.body == hit.body
    assert vectors(hit)[::2] == vectors(first)[::-1]


def test_a_part_is_never_taken_for_the_request_sent_again(proxy: Within, standin: Standin) -> None:
    for value in (["a"], ["a", "b"]):
        embed(proxy, value, "idempotency-key: k")
    keys = [request.headers.get("idempotency-key") for request in standin.requests]
    assert (keys, standin.elements) == (["k", None], ["a", "b"])


def test_an_error_comes_as_it_was_said(proxy: Within, standin: Standin) -> None:
    embed(proxy, ["a"])
    standin.once(status=429, steady=True)
    told = embed(proxy, ["a", "b"])
    assert (told.status, json.loads(told.body)["error"]["code"]) == (429, "stand_in_failure")
    assert len(vectors(embed(proxy, ["a", "b"]))) == 2
    assert standin.elements == ["a", "b", "b"]


def test_a_program_shares_the_elements(serve: Serve, standin: Standin, tmp_path: Any) -> None:
    httpx = pytest.importorskip("httpx")
    url = f"disk:{tmp_path}?split=true"
    embed(serve(url, upstreams=url_of(standin)), ["a", "b"])
    with cachewrap.patch_httpx(hosts=["127.0.0.1:*"]), cachewrap.Cache.from_url(url):
        body = {"model": "m", "input": ["b", "c"]}
        httpx.post(f"{standin.base_url}/embeddings", json=body)
    assert standin.elements == ["a", "b", "c"]
