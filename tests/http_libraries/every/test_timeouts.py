"""A request's own timeout is how long it waits for another one's answer at most."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from standin import Upstream

from cachewrap import Cache
from http_libraries.web import CHAT, LOOPBACK, STREAM, WEBS, Aiohttp, OnLoop, Web

WAIT = 20.0
SHORT = 0.3

Way = Callable[[Web], object]


def patched(web: Web) -> None:
    web.patch(hosts=LOOPBACK)


def injected(web: Web) -> None:
    web.inject()


def timeouts(web: Web) -> list[Any]:
    """The timeouts of a library that let a caller wait so long for a response."""
    name = web.library.__name__
    if name == "aiohttp":
        return [web.library.ClientTimeout(sock_read=SHORT)]
    parts = (WAIT, SHORT) if name == "requests" else web.library.Timeout(WAIT, read=SHORT)
    return [SHORT, parts]


@pytest.mark.parametrize("way", [patched, injected])
@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
def test_a_request_waits_for_another_one_as_long_as_its_timeout(
    web: Web, way: Way, body: dict[str, Any]
) -> None:
    cache = Cache.memory(wait_seconds=WAIT)
    if isinstance(web, OnLoop) and body is STREAM:
        pytest.skip("tasks of one event loop alone share a stream")
    if isinstance(web, Aiohttp) and way is injected:
        pytest.skip("a middleware is told of the session's timeout alone")
    gates = []
    name = next(name for name, make in WEBS.items() if _is_of(make, web))
    first = WEBS[name](web.up)
    way(web)
    if way is injected:
        way(first)
    for number, timeout in enumerate(timeouts(web), start=1):
        gates.append(threading.Event())
        web.up.once(gate=gates[-1])
        asked = {**body, "user": str(number)}
        with cache, ThreadPoolExecutor(1) as pool:
            leader = pool.submit(_inside, cache, partial(first.ask, asked))
            web.up.wait_for(2 * number - 1, WAIT)
            began = time.monotonic()
            try:
                assert web.ask(asked, timeout=timeout).status == 200
                taken = time.monotonic() - began
            finally:
                gates[-1].set()
            leader.result(WAIT)
        assert SHORT <= taken < WAIT / 2
        assert web.up.calls == 2 * number
    first.end()


def test_a_middleware_of_aiohttp_reads_the_timeout_of_its_session(up: Upstream) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    web = WEBS["aiohttp"](up)
    assert isinstance(web, Aiohttp)
    gate = threading.Event()
    up.once(gate=gate)
    middlewares = [web.ours(cache=Cache.memory(wait_seconds=WAIT))]
    web.remake(middlewares=middlewares, timeout=aiohttp.ClientTimeout(sock_read=SHORT))
    other = WEBS["aiohttp"](up)
    assert isinstance(other, Aiohttp)
    other.remake(middlewares=middlewares)
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(other.ask)
        up.wait_for(1, WAIT)
        began = time.monotonic()
        assert web.ask().status == 200
        assert SHORT <= time.monotonic() - began < WAIT / 2
        gate.set()
        leader.result(WAIT)
    web.end()
    other.end()


def _is_of(make: Any, web: Web) -> bool:
    return make.func is type(web) and make.keywords["library"] is web.library


def _inside(cache: Cache, ask: Callable[[], Any]) -> Any:
    with cache:
        return ask()
