"""What every library of plain HTTP has in common: `when=`, blocks, keys, and `patch_all`."""

from __future__ import annotations

import asyncio
import contextvars
import json
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import cachewrap
from cachewrap import Cache, CacheWarning, predicates
from cachewrap.testing.upstream import Upstream

LOOPBACK = ["127.0.0.1:*"]
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Question 1"}]}
STREAM = {**CHAT, "stream": True}


def by_httpx(name: str) -> Callable[..., bytes]:
    def ask(url: str, body: Any, transport: Any = None, **headers: str) -> bytes:
        httpx = pytest.importorskip(name)
        with httpx.Client(transport=transport) as client:
            return bytes(client.post(url, json=body, headers=headers).content)

    return ask


def by_requests(url: str, body: Any, adapter: Any = None, **headers: str) -> bytes:
    requests = pytest.importorskip("requests")
    with requests.Session() as session:
        if adapter is not None:
            session.mount("http://", adapter)
        return bytes(session.post(url, json=body, headers=headers).content)


def by_aiohttp(url: str, body: Any, middleware: Any = None, **headers: str) -> bytes:
    aiohttp = pytest.importorskip("aiohttp")

    async def ask() -> bytes:
        inner = [middleware] if middleware is not None else []
        async with (
            aiohttp.ClientSession(middlewares=inner) as session,
            session.post(url, json=body, headers=headers) as response,
        ):
            return bytes(await response.read())

    with asyncio.Runner() as runner:
        return runner.run(ask(), context=contextvars.copy_context())


WAYS = {
    "httpx": SimpleNamespace(
        ask=by_httpx("httpx"), patch=cachewrap.patch_httpx, inject=cachewrap.CachedTransport
    ),
    "httpx2": SimpleNamespace(
        ask=by_httpx("httpx2"), patch=cachewrap.patch_httpx, inject=cachewrap.CachedTransport
    ),
    "requests": SimpleNamespace(
        ask=by_requests, patch=cachewrap.patch_requests, inject=cachewrap.CachedAdapter
    ),
    "aiohttp": SimpleNamespace(
        ask=by_aiohttp, patch=cachewrap.patch_aiohttp, inject=cachewrap.CachedMiddleware
    ),
}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def way(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=[True, False], ids=["patched", "injected"])
def ask(request: pytest.FixtureRequest, way: Any, up: Upstream) -> Callable[..., bytes]:
    """Asks once, of a library that is patched or has ours injected, with this ``when``."""

    def ask(when: Any, body: Any = CHAT) -> bytes:
        url = f"{up.base_url}/chat/completions"
        if not request.param:
            return bytes(way.ask(url, body, way.inject(when=when)))
        with way.patch(hosts=LOOPBACK, when=when):
            return bytes(way.ask(url, body))

    return ask


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize("stores", [True, False])
def test_it_says_what_is_stored(
    ask: Any, up: Upstream, cache: Cache, body: dict[str, Any], stores: bool
) -> None:
    with cache:
        first, second = (ask(lambda answer: stores, body) for _ in range(2))
    assert (up.calls, first == second) == ((1, True) if stores else (2, False))


def test_it_is_given_the_json_or_the_events(ask: Any, up: Upstream, cache: Cache) -> None:
    given: list[Any] = []

    def when(answer: Any) -> bool:
        given.append(answer)
        return True

    with cache:
        whole = ask(when)
        ask(when, STREAM)
    assert given[0] == json.loads(whole)
    assert given[1][0]["object"] == "chat.completion.chunk"


def test_predicates_understand_it(ask: Any, up: Upstream, cache: Cache) -> None:
    up.once(body=b'{"choices": [{"message": {"content": "Cut"}, "finish_reason": "length"}]}')
    with cache:
        for _ in range(2):
            ask(predicates.usable)
    assert (up.calls, cache.stats.stored) == (2, 1)


def test_one_that_raises_costs_a_warning(ask: Any, up: Upstream, cache: Cache) -> None:
    def when(answer: Any) -> bool:
        raise ZeroDivisionError

    with cache, pytest.warns(CacheWarning, match="ZeroDivision"):
        assert ask(when)
    assert cache.stats.stored == 0


def test_a_block_gives_one_request_a_cache_of_its_own(way: Any, up: Upstream, cache: Cache) -> None:
    url, own = f"{up.base_url}/chat/completions", Cache.memory()
    with way.patch(hosts=LOOPBACK), cache:
        first = way.ask(url, CHAT)
        with own:
            other = way.ask(url, CHAT)
        with cache.mode("refresh"):
            refreshed = way.ask(url, CHAT)
        assert way.ask(url, CHAT) == refreshed
    assert (up.calls, len({first, other, refreshed})) == (3, 3)


def test_an_answer_asked_for_as_events_is_another_than_one_asked_for_as_json(
    way: Any, up: Upstream, cache: Cache
) -> None:
    with way.patch(hosts=LOOPBACK), cache:
        for accept in ("application/json", "text/event-stream", "*/*"):
            way.ask(f"{up.base_url}/chat/completions", CHAT, accept=accept)
    assert up.calls == 2


@pytest.mark.parametrize(("keyed", "calls"), [("x-tenant-key", 2), ((), 1)], ids=str)
def test_a_header_like_a_credentials_counts_where_the_cache_is_told_so(
    way: Any, up: Upstream, keyed: Any, calls: int
) -> None:
    with way.patch(hosts=LOOPBACK), Cache.memory(keyed=keyed):
        for tenant in ("blue", "red", "blue"):
            way.ask(f"{up.base_url}/chat/completions", CHAT, **{"x-tenant-key": tenant})
    assert up.calls == calls


# -- patch_all ------------------------------------------------------------------------------------


def test_patch_all_serves_plain_http_to_known_hosts(
    way: Any, up: Upstream, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cachewrap.patch.patching.HOSTS", LOOPBACK)
    url = f"{up.base_url}/chat/completions"
    with cachewrap.patch_all() as handle:
        with cache:
            assert way.ask(url, CHAT) == way.ask(url, CHAT)
        assert (handle.active, up.calls) == (True, 1)
    with cache:
        way.ask(url, CHAT)
    assert (handle.active, up.calls) == (False, 2)


def test_patch_all_takes_when_and_a_default_cache(
    way: Any, up: Upstream, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cachewrap.patch.patching.HOSTS", LOOPBACK)
    with cachewrap.patch_all(cache, when=lambda answer: False):
        way.ask(f"{up.base_url}/chat/completions", CHAT)
    assert (cache.stats.misses, cache.stats.stored) == (1, 0)


def test_patch_all_leaves_out_an_aiohttp_without_middlewares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    monkeypatch.delattr(aiohttp.client, "build_client_middlewares")
    before = vars(aiohttp.ClientSession)["_request"]
    with pytest.warns(CacheWarning, match="its requests are not cached"), cachewrap.patch_all():
        assert vars(aiohttp.ClientSession)["_request"] is before


LAZY = """
import importlib, sys, types, cachewrap
cachewrap.patch_all()
libraries = "httpx", "httpx2", "requests", "aiohttp", "urllib3", "openai"
assert not set(libraries) & sys.modules.keys(), sys.modules.keys()
name, module, owner, method = sys.argv[1:]
importlib.import_module(name)
wrapped = vars(getattr(sys.modules[module], owner))
assert type(wrapped[method]) is not types.FunctionType
cachewrap.unpatch_all()
assert type(wrapped[method]) is types.FunctionType
"""


@pytest.mark.parametrize(
    "target",
    [
        ("httpx", "httpx", "HTTPTransport", "handle_request"),
        ("httpx2", "httpx2", "AsyncHTTPTransport", "handle_async_request"),
        ("requests", "requests.adapters", "HTTPAdapter", "send"),
        ("aiohttp", "aiohttp.client", "ClientSession", "_request"),
    ],
    ids=lambda target: target[0],
)
def test_patch_all_imports_nothing_and_waits_for_each_import(target: tuple[str, ...]) -> None:
    pytest.importorskip(target[0])
    done = subprocess.run(
        [sys.executable, "-c", LAZY, *target], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
