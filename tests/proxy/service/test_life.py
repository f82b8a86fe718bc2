"""The life of a service: where it listens, what it answers itself, and how it ends."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cachewrap import Cache
from cachewrap.errors import ConfigurationError, StoreError
from cachewrap.proxy.metrics import health
from cachewrap.proxy.service import Service, address_of, bound, opened, serving
from cachewrap.proxy.settings import Limits, Settings
from cachewrap.stores.breaker import breaker_of
from proxy.service.plain import PIECES, Client, Slow

Connect = Callable[[str], Client]


def settings(upstream: Slow | None = None, **more: object) -> Settings:
    given = {"url": "memory:", "port": 0, "log": "off"}
    if upstream is not None:
        given["upstreams"] = (f"local={upstream.url}",)
    return Settings(**{**given, **more})  # type: ignore[arg-type]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")

# -- where it listens ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "front"),
    [
        pytest.param("127.0.0.1", "http://127.0.0.1:", id="loopback"),
        pytest.param("localhost", "http://localhost:", id="by-name"),
        pytest.param("::1", "http://[::1]:", id="ipv6", marks=ipv6),
    ],
)
def test_the_address_is_where_it_answers(host: str, front: str, connect: Connect) -> None:
    with serving(settings(host=host)) as proxy:
        assert proxy.address.startswith(front)
        assert connect(proxy.address).get("/healthz") == (200, '{"status": "ok"}')


def test_who_looks_at_it_is_told_what_it_is(connect: Connect) -> None:
    with serving(settings(upstreams=("local=http://127.0.0.1:8000/v1",))) as proxy:
        status, text = connect(proxy.address).get("/")
    assert status == 200
    assert f"\n  OPENAI_BASE_URL={proxy.address}/openai/v1\n" in text
    assert re.search(r"^  /local +http://127\.0\.0\.1:8000/v1$", text, re.M)
    assert re.search(r"^  /anthropic +https://api\.anthropic\.com$", text, re.M)
    assert "https://cachewrap.readthedocs.io/" in text
    assert max(map(len, text.splitlines())) <= 80


@ipv6
def test_a_name_of_two_addresses_has_one_port() -> None:
    known = {one[4][0] for one in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    sockets = bound(settings(host="localhost"))
    assert {one.getsockname()[0] for one in sockets} == known
    assert len({one.getsockname()[1] for one in sockets}) == 1
    for one in sockets:
        one.close()


def test_a_port_that_is_taken_raises() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        bound(settings(port=taken.getsockname()[1]))


def test_a_port_that_was_used_is_free_at_once(connect: Connect) -> None:
    with serving(settings()) as proxy:
        port = int(proxy.address.rpartition(":")[2])
        connect(proxy.address).get("/healthz")
    with serving(settings(port=port)) as proxy:
        assert connect(proxy.address).get("/healthz")[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", pytest.param("::", marks=ipv6)])
def test_what_others_reach_needs_a_token(host: str) -> None:
    with pytest.raises(ConfigurationError, match="CACHEWRAP_TOKEN, --token-file or --token"):
        bound(settings(host=host))
    for one in bound(settings(host=host, token="sesame")):
        one.close()


def test_no_address_is_not_every_address() -> None:
    with pytest.raises(ConfigurationError, match="is no address to listen on"):
        bound(settings(host="", token="sesame"))


def port_of(sockets: list[socket.socket]) -> int:
    return int(address_of("x", sockets).rpartition(":")[2])


@pytest.mark.parametrize(
    ("host", "url", "refused"),
    [
        pytest.param("127.0.0.1", "http://127.0.0.1:{}", True, id="same"),
        pytest.param("127.0.0.1", "http://localhost:{}/x", True, id="by-name"),
        pytest.param("0.0.0.0", "http://127.0.0.1:{}", True, id="all-addresses"),
        pytest.param("127.0.0.1", "http://127.0.0.1:1", False, id="another-port"),
        pytest.param("127.0.0.1", "http://127.0.0.2:{}", False, id="another-address"),
        pytest.param("127.0.0.1", "no-url", False, id="told-elsewhere"),
    ],
)
def test_an_upstream_that_is_the_proxy_itself_is_refused(
    host: str, url: str, refused: bool
) -> None:
    free = bound(settings())
    port = port_of(free)
    free[0].close()
    told = settings(host=host, port=port, token="t", upstreams=(f"me={url.format(port)}",))
    if refused:
        with pytest.raises(ConfigurationError, match="me is this proxy itself"):
            bound(told)
    else:
        bound(told)[0].close()


def test_a_cache_that_cannot_be_is_told_to_whoever_starts_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = settings(url="nowhere:")
    with pytest.raises(ConfigurationError, match="no store for the scheme"), serving(told):
        pass
    with (
        pytest.raises(StoreError, match="is not a folder"),
        serving(settings(url=f"disk:{tmp_path}/file/x")),
    ):
        pass


@pytest.mark.parametrize(
    ("url", "leases"),
    [
        pytest.param("memory:", True, id="plain"),
        pytest.param("memory:?cache_seed=7", True, id="with-options"),
        pytest.param("memory:?stream_leases=false", False, id="not-wanted"),
    ],
)
def test_streams_are_asked_for_once_everywhere(url: str, leases: bool) -> None:
    assert opened(url).policy.stream_leases is leases


# -- its own pages ---------------------------------------------------------------------------------


def test_health_while_it_ends() -> None:
    status, kind, body = health(ending=True)
    assert (status, kind, json.loads(body)) == (503, "application/json", {"status": "ending"})


def test_a_store_that_is_down_is_told_and_in_nobodys_way() -> None:
    breaker_of("read a place").failed(OSError("down"), 30)
    status, _, body = health(ending=False)
    assert (status, json.loads(body)) == (200, {"status": "ok", "store": "down"})


# -- requests --------------------------------------------------------------------------------------


def test_the_second_answer_is_a_hit_and_told(upstream: Slow, connect: Connect) -> None:
    with serving(settings(upstream)) as proxy:
        client = connect(proxy.address)
        marks = []
        for _ in range(2):
            response = client.ask("hello")
            marks.append((response.status, response.headers["x-cachewrap"]))
            response.read()
        assert marks == [(200, "miss"), (200, "hit")]
        assert upstream.asked == 1
        assert (proxy.cache.stats.hits, proxy.cache.stats.misses) == (1, 1)
        page = client.get("/metrics")[1]
    counted = 'cachewrap_requests_total{outcome="hit",status="200",upstream="local"} 1.0'
    assert counted in page
    assert 'cachewrap_tokens_saved_total{kind="in",model="gpt-4o"} 5.0' in page
    assert "cachewrap_requests_under_way 1.0" in page


def test_no_block_of_the_program_serves_its_requests(upstream: Slow, connect: Connect) -> None:
    with Cache.memory() as around, serving(settings(upstream)) as proxy:
        connect(proxy.address).ask("hello").read()
        assert (around.stats.calls, proxy.cache.stats.calls) == (0, 1)


# -- the end ---------------------------------------------------------------------------------------


def test_at_the_end_idle_connections_close_and_streams_finish(
    upstream: Slow, connect: Connect
) -> None:
    upstream.go_on.clear()

    async def main() -> None:
        service = Service(settings(upstream))
        await service.start()
        root = service.address
        idle, busy = connect(root), connect(root)
        assert (await asyncio.to_thread(idle.get, "/healthz"))[0] == 200
        response = await asyncio.to_thread(busy.ask, "slowly", stream=True)
        closing = asyncio.ensure_future(service.close())
        assert await asyncio.to_thread(idle.is_closed)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(connect(root).get, "/healthz")
        assert not closing.done()
        upstream.go_on.set()
        content = await asyncio.to_thread(response.read)
        assert content.count(b"piece") == PIECES
        assert content.endswith(b"data: [DONE]\n\n")
        await closing

    asyncio.run(main())


@pytest.mark.parametrize(
    ("limit", "given"),
    [pytest.param(0.1, None, id="after-the-limit"), pytest.param(30.0, 0.0, id="at-once")],
)
def test_what_does_not_end_is_cut(
    upstream: Slow, connect: Connect, limit: float, given: float | None
) -> None:
    upstream.go_on.clear()

    async def main() -> None:
        service = Service(settings(upstream, limits=Limits(end_seconds=limit)))
        await service.start()
        response = await asyncio.to_thread(connect(service.address).ask, "slowly", stream=True)
        began = asyncio.get_running_loop().time()
        await service.close(given)
        assert asyncio.get_running_loop().time() - began < 2
        with pytest.raises((ConnectionError, OSError, Exception)):
            await asyncio.to_thread(response.read)

    asyncio.run(main())


def test_nothing_is_left_of_it(upstream: Slow, connect: Connect) -> None:
    before = set(threading.enumerate())
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> set[asyncio.Task[object]]:
        loops.append(asyncio.get_running_loop())
        async with Service(settings(upstream, log="json")) as service:
            client = connect(service.address)
            response = await asyncio.to_thread(client.ask, "hello", stream=True)
            await asyncio.to_thread(response.read)
        await asyncio.sleep(0)
        return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[return-value]

    assert asyncio.run(main()) == set()
    assert {one.name for one in set(threading.enumerate()) - before if "cachewrap" in one.name} == (
        set()
    )
