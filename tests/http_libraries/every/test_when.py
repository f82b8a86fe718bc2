"""What every library of plain HTTP has in common: `when=`, blocks, keys, and `patch_all`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import cachewrap
from cachewrap import Cache, CacheWarning, predicates
from http_libraries.web import CHAT, LOOPBACK, PATH, STREAM, Web, bodies


@pytest.fixture(params=[True, False], ids=["patched", "injected"])
def ask(request: pytest.FixtureRequest, web: Web) -> Callable[..., bytes]:
    """Asks once, of a library that is patched or has ours put in, with this ``when``."""

    def ask(when: Any, body: Any = CHAT) -> bytes:
        if not request.param:
            web.inject(when=when)
            return web.ask(body).body
        with web.patch(hosts=LOOPBACK, when=when):
            return web.ask(body).body

    return ask


@bodies
@pytest.mark.parametrize("stores", [True, False])
def test_it_says_what_is_stored(
    ask: Any, web: Web, cache: Cache, body: dict[str, Any], stores: bool
) -> None:
    with cache:
        first, second = (ask(lambda answer: stores, body) for _ in range(2))
    assert (web.up.calls, first == second) == ((1, True) if stores else (2, False))


def test_it_is_given_the_json_or_the_events(ask: Any, web: Web, cache: Cache) -> None:
    given: list[Any] = []

    def when(answer: Any) -> bool:
        given.append(answer)
        return True

    with cache:
        whole = ask(when)
        ask(when, STREAM)
    assert given[0] == json.loads(whole)
    assert given[1][0]["object"] == "chat.completion.chunk"


def test_predicates_understand_it(ask: Any, web: Web, cache: Cache) -> None:
    web.up.once(body=b'{"choices": [{"message": {"content": "Cut"}, "finish_reason": "length"}]}')
    with cache:
        for _ in range(2):
            ask(predicates.usable)
    assert (web.up.calls, cache.stats.stored) == (2, 1)


def test_one_that_raises_costs_a_warning(ask: Any, web: Web, cache: Cache) -> None:
    def when(answer: Any) -> bool:
        raise ZeroDivisionError

    with cache, pytest.warns(CacheWarning, match="ZeroDivision"):
        assert ask(when)
    assert cache.stats.stored == 0


def test_a_block_gives_one_request_a_cache_of_its_own(web: Web, cache: Cache) -> None:
    own = Cache.memory()
    with web.patch(hosts=LOOPBACK), cache:
        first = web.ask().body
        with own:
            other = web.ask().body
        with cache.mode("refresh"):
            refreshed = web.ask().body
        assert web.ask().body == refreshed
    assert (web.up.calls, len({first, other, refreshed})) == (3, 3)


def test_an_answer_asked_for_as_events_is_another_than_one_asked_for_as_json(
    web: Web, cache: Cache
) -> None:
    with web.patch(hosts=LOOPBACK), cache:
        for accept in ("application/json", "text/event-stream", "*/*"):
            web.ask(headers={"accept": accept})
    assert web.up.calls == 2


@pytest.mark.parametrize(("keyed", "calls"), [("x-tenant-key", 2), ((), 1)], ids=str)
def test_a_header_like_a_credentials_counts_where_the_cache_is_told_so(
    web: Web, keyed: Any, calls: int
) -> None:
    with web.patch(hosts=LOOPBACK), Cache.memory(keyed=keyed):
        for tenant in ("blue", "red", "blue"):
            web.ask(headers={"x-tenant-key": tenant})
    assert web.up.calls == calls


TRACED: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "header": ("X-Tenant-Trace", [{"headers": {"x-tenant-trace": value}} for value in "ab"]),
    "query": ("run", [{"path": f"{PATH}?run={value}"} for value in "ab"]),
    "field": ("user", [{"body": {**CHAT, "user": value}} for value in "ab"]),
}


@pytest.mark.parametrize(("name", "calls"), TRACED.values(), ids=list(TRACED))
@pytest.mark.parametrize("unkeyed", [True, False], ids=["named", "not named"])
def test_what_only_tracks_counts_unless_the_cache_is_told_so(
    web: Web, unkeyed: bool, name: str, calls: list[dict[str, Any]]
) -> None:
    with web.patch(hosts=LOOPBACK), Cache.memory(unkeyed=[name] if unkeyed else []):
        for more in calls * 2:
            web.ask(**more)
    assert web.up.calls == (1 if unkeyed else 2)


# -- patch_all ------------------------------------------------------------------------------------


def test_patch_all_serves_plain_http_to_known_hosts(web: Web, cache: Cache) -> None:
    with cachewrap.patch_all() as handle:
        with cache:
            assert web.ask().body == web.ask().body
        assert (handle.active, web.up.calls) == (True, 1)
    with cache:
        web.ask()
    assert (handle.active, web.up.calls) == (False, 2)


def test_patch_all_takes_when_and_a_default_cache(web: Web, cache: Cache) -> None:
    with cachewrap.patch_all(cache, when=lambda answer: False):
        web.ask()
    assert (cache.stats.misses, cache.stats.stored) == (1, 0)


def test_patch_all_leaves_out_an_aiohttp_without_middlewares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    monkeypatch.delattr(aiohttp.client, "build_client_middlewares")
    before = vars(aiohttp.ClientSession)["_request"].__code__
    with pytest.warns(CacheWarning, match="its requests are not cached"), cachewrap.patch_all():
        assert vars(aiohttp.ClientSession)["_request"].__code__ is before


LAZY = """
import importlib, sys, cachewrap
cachewrap.patch_all()
libraries = "httpx", "httpx2", "requests", "aiohttp", "urllib3", "openai"
assert not set(libraries) & sys.modules.keys(), sys.modules.keys()
name, module, owner, method = sys.argv[1:]
importlib.import_module(name)
code = vars(getattr(sys.modules[module], owner))[method].__code__
assert any("cachewrap" in type(held).__module__ for held in code.co_consts)
cachewrap.unpatch_all()
assert vars(getattr(sys.modules[module], owner))[method].__code__ is not code
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


ANEW = """
import importlib, sys, cachewrap
name, module, owner, method = sys.argv[1:]
importlib.import_module(module)
cachewrap.patch_all()
for one in [one for one in sys.modules if one.partition(".")[0] == name]:
    del sys.modules[one]
code = vars(getattr(importlib.import_module(module), owner))[method].__code__
cachewrap.patch_all()
assert vars(getattr(sys.modules[module], owner))[method].__code__ is not code
cachewrap.unpatch_all()
assert vars(getattr(sys.modules[module], owner))[method].__code__ is code
"""


@pytest.mark.parametrize(
    "target",
    [
        ("httpx", "httpx", "HTTPTransport", "handle_request"),
        ("requests", "requests.adapters", "HTTPAdapter", "send"),
        ("aiohttp", "aiohttp.client", "ClientSession", "_request"),
    ],
    ids=lambda target: target[0],
)
def test_patching_again_reaches_a_library_that_was_imported_anew(target: tuple[str, ...]) -> None:
    pytest.importorskip(target[0])
    done = subprocess.run(
        [sys.executable, "-c", ANEW, *target], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
