"""Clients of httpx and httpx2, patched or with a transport of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sdk.asking import Colour

from cachewrap import (
    AsyncCachedTransport,
    Cache,
    CachedTransport,
    ConfigurationError,
    codec,
    no_cache,
    patch_httpx,
    patch_openai,
    unpatch_httpx,
)
from cachewrap.envelope import unseal
from cachewrap.stores.memory import MemoryStore
from cachewrap.testing.upstream import SECRET_HEADERS, Upstream

LOOPBACK = ["127.0.0.1:*"]
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Question 1"}]}
STREAM = {**CHAT, "stream": True}


@pytest.fixture(params=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


class Web:
    """A client of one library and colour, made before any patch unless it has a transport."""

    def __init__(self, library: Any, colour: Colour, up: Upstream) -> None:
        self.library, self.colour, self.up = library, colour, up
        self.client = self._make()

    def _make(self, **options: Any) -> Any:
        cls = self.library.Client if self.colour.name == "sync" else self.library.AsyncClient
        return cls(base_url=self.up.root_url, headers={"x-api-key": "top-secret"}, **options)

    def inject(self, **options: Any) -> None:
        """Use a transport of ours from now on."""
        self.close()
        transport = CachedTransport if self.colour.name == "sync" else AsyncCachedTransport
        self.client = self._make(transport=transport(**options))

    def post(self, body: Any = CHAT, path: str = "/v1/chat/completions", **more: Any) -> Any:
        """What a plain request gives: status, body, and the mark of a hit."""
        more = more or {"json": body}
        response = self.colour.wait(self.client.post(path, **more))
        return response.status_code, response.content, response.headers.get("x-cachewrap")

    def stream(self, body: Any = STREAM, path: str = "/v1/chat/completions") -> Any:
        """The chunks of a streamed response, and the mark of a hit."""

        def read() -> Any:
            with self.client.stream("POST", path, json=body) as response:
                return list(response.iter_bytes()), response.headers.get("x-cachewrap")

        async def aread() -> Any:
            async with self.client.stream("POST", path, json=body) as response:
                chunks = [chunk async for chunk in response.aiter_bytes()]
                return chunks, response.headers.get("x-cachewrap")

        return read() if self.colour.name == "sync" else self.colour.wait(aread())

    def close(self) -> None:
        if self.colour.name == "sync":
            self.client.close()
        else:
            self.colour.wait(self.client.aclose())


@pytest.fixture
def web(library: Any, colour: Colour, up: Upstream) -> Iterator[Web]:
    web = Web(library, colour, up)
    yield web
    web.close()


def patched(web: Web) -> None:
    patch_httpx(hosts=LOOPBACK)


def injected(web: Web) -> None:
    web.inject()


def both(web: Web) -> None:
    patched(web)
    injected(web)


ways = pytest.mark.parametrize("way", [patched, injected, both])


@ways
@pytest.mark.parametrize("manner", [{}, {"gzip": True}], ids=["plain", "gzip"])
def test_two_identical_requests_make_one_upstream_call(
    web: Web, cache: Cache, way: Callable[[Web], None], manner: dict[str, Any]
) -> None:
    web.up.behave(**manner)
    way(web)
    with cache:
        first, second = web.post(), web.post()
        web.post({**CHAT, "seed": 2})
    assert web.up.calls == 2
    assert (first[2], second[2]) == (None, "hit")
    assert first[:2] == second[:2]
    assert (cache.stats.misses, cache.stats.hits, cache.stats.stored) == (2, 1, 2)


@ways
@pytest.mark.parametrize("ask", [Web.post, Web.stream], ids=["whole", "stream"])
def test_samples_are_answers_of_their_own(
    web: Web, cache: Cache, way: Callable[[Web], None], ask: Callable[[Web], Any]
) -> None:
    way(web)
    with cache.samples():
        first = [ask(web)[-2] for _ in range(3)]
    with cache.samples():
        again = [ask(web)[-2] for _ in range(3)]
    assert web.up.calls == 3
    assert first == again
    assert len({str(answer) for answer in first}) == 3


@ways
@pytest.mark.parametrize(
    "manner",
    [{}, {"gzip": True}, {"awkward": True}, {"done": False}],
    ids=lambda manner: "-".join(manner) or "plain",
)
def test_a_replayed_stream_equals_the_recorded_one(
    web: Web, cache: Cache, way: Callable[[Web], None], manner: dict[str, Any]
) -> None:
    web.up.behave(**manner)
    way(web)
    with cache:
        first, second = web.stream(), web.stream()
    assert (web.up.calls, second) == (1, (first[0], "hit"))
    assert (cache.stats.misses, cache.stats.hits) == (1, 1)


@pytest.mark.parametrize(
    "manner",
    [{"cut_after": 3}, {"error_after": 3}, {"finish": False}, {"status": 500}],
    ids=lambda manner: next(iter(manner)),
)
def test_a_stream_that_is_not_whole_is_not_stored(
    web: Web, cache: Cache, manner: dict[str, Any]
) -> None:
    patched(web)
    web.up.once(**manner)
    with cache:
        try:
            web.stream()
        except web.library.TransportError:
            assert "cut_after" in manner
        web.stream()
    assert (web.up.calls, cache.stats.stored) == (2, 1)


@pytest.mark.parametrize(
    "manner",
    [{"status": 429}, {"body": b'{"error": {"message": "busy"}}'}, {"body": b'{"cut'}],
    ids=["status", "error body", "no JSON"],
)
def test_what_fails_is_handed_on_and_not_stored(
    web: Web, cache: Cache, manner: dict[str, Any]
) -> None:
    patched(web)
    web.up.once(**manner)
    with cache:
        status, body, _ = web.post()
        web.post()
    assert status == manner.get("status", 200)
    assert body == manner.get("body", body)
    assert (web.up.calls, cache.stats.stored) == (2, 1)


def test_unpatching_leaves_the_library_as_it_was(library: Any) -> None:
    def now() -> list[Any]:
        return [
            vars(library.HTTPTransport)["handle_request"],
            vars(library.AsyncHTTPTransport)["handle_async_request"],
        ]

    before = now()
    outer, inner = patch_httpx(), patch_httpx()
    assert not any(a is b for a, b in zip(now(), before, strict=True))
    inner.undo()
    assert (outer.active, inner.active) == (True, False)
    unpatch_httpx()
    assert all(a is b for a, b in zip(now(), before, strict=True))


@pytest.mark.parametrize("active", ["no block", "no cache"])
def test_outside_a_block_everything_goes_straight_through(web: Web, active: str) -> None:
    patched(web)
    for _ in range(2):
        if active == "no cache":
            with no_cache():
                web.post()
        else:
            web.post()
    assert web.up.calls == 2


@pytest.mark.parametrize("way", ["patch", "transport"])
def test_a_default_cache_serves_requests_outside_any_block(
    web: Web, cache: Cache, way: str
) -> None:
    if way == "patch":
        patch_httpx(cache, hosts=LOOPBACK)
    else:
        web.inject(cache=cache)
    web.post()
    web.post()
    assert web.up.calls == 1


@pytest.mark.parametrize(
    ("given", "calls"),
    [
        ({}, 2),
        ({"hosts": ["api.mistral.ai"]}, 2),
        ({"hosts": ["127.0.0.1"]}, 1),
        ({"hosts": ["127.0.0.*:*"]}, 1),
        ({"hosts": LOOPBACK, "paths": ["/v1/completions"]}, 2),
        ({"hosts": LOOPBACK, "paths": ["*/chat/*"]}, 1),
    ],
    ids=str,
)
def test_hosts_and_paths_say_what_is_cached(
    web: Web, cache: Cache, given: dict[str, Any], calls: int
) -> None:
    patch_httpx(**given)
    with cache:
        web.post()
        web.post()
    assert web.up.calls == calls


@pytest.mark.parametrize(
    ("request_of", "reason"),
    [
        ({"json": {**CHAT, "background": True}}, "background"),
        ({"json": {**CHAT, "conversation": "c"}}, "conversation"),
        ({"content": b"no json"}, "raw body"),
        ({"files": {"file": b"sound"}}, "raw body"),
    ],
    ids=["background", "conversation", "no JSON", "upload"],
)
def test_what_is_left_alone(
    web: Web, cache: Cache, request_of: dict[str, Any], reason: str
) -> None:
    patched(web)
    with cache:
        for _ in range(2):
            web.post(**request_of)
    assert (web.up.calls, cache.stats.bypass_reasons) == (2, {reason: 2})


def test_only_posts_are_cached(web: Web, cache: Cache) -> None:
    patch_httpx(hosts=LOOPBACK, paths=["*"])
    with cache:
        for _ in range(2):
            web.colour.wait(web.client.get("/v1/models"))
    assert web.up.calls == 2


def test_an_answer_asked_for_as_events_is_another_than_one_asked_for_as_json(
    web: Web, cache: Cache
) -> None:
    patched(web)
    with cache:
        for accept in ("application/json", "text/event-stream", "*/*"):
            web.post(json=CHAT, headers={"accept": accept})
    assert web.up.calls == 2


@pytest.mark.parametrize(("keyed", "calls"), [("x-tenant-key", 2), ((), 1)], ids=str)
def test_a_header_like_a_credentials_counts_where_the_cache_is_told_so(
    web: Web, keyed: Any, calls: int
) -> None:
    patched(web)
    with Cache.memory(keyed=keyed):
        for tenant in ("blue", "red", "blue"):
            web.post(json=CHAT, headers={"x-tenant-key": tenant})
    assert web.up.calls == calls


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["plain", "stream"])
def test_no_credential_is_stored_or_told_apart(web: Web, body: dict[str, Any]) -> None:
    store = MemoryStore()
    patched(web)
    web.up.behave(headers=SECRET_HEADERS)
    with Cache(store):
        for number in range(2):
            web.client.headers["authorization"] = f"Bearer top-secret-{number}"
            path = f"/v1/chat/completions?key=top-secret-{number}&tier=1"
            sent = {**body, "api_key": f"top-secret-{number}"}
            if "stream" in body:
                web.stream(sent, path)
            else:
                web.post(sent, path)
    assert web.up.calls == 1
    [key] = store.keys()
    entry = unseal(store.get(key) or b"")
    stored = f"{entry.read_record()} {codec.decode(entry.kind, entry.answer)}"
    assert "tier" in stored
    assert "top-secret" not in stored
    assert "upstream-secret" not in stored


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["plain", "stream"])
def test_tasks_that_ask_at_the_same_time_share_one_request(
    library: Any, up: Upstream, cache: Cache, body: dict[str, Any]
) -> None:
    patch_httpx(hosts=LOOPBACK)

    async def ask() -> list[bytes]:
        async with library.AsyncClient(base_url=up.root_url) as client:

            async def one() -> bytes:
                async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                    return b"".join([chunk async for chunk in response.aiter_bytes()])

            return list(await asyncio.gather(*(one() for _ in range(5))))

    with cache:
        answers = asyncio.run(ask())
    assert (up.calls, len(set(answers))) == (1, 1)


# -- together with a patched SDK ------------------------------------------------------------------


def sdk_chat(colour: Colour, client: Any, **more: Any) -> Any:
    return colour.wait(client.chat.completions.create(**{**CHAT, **more}))


@pytest.mark.parametrize("order", ["sdk first", "httpx first"])
def test_a_patched_sdk_is_not_cached_twice(
    up: Upstream, colour: Colour, cache: Cache, order: str
) -> None:
    client = colour.client(up)
    for patch in (patch_openai, patched) if order == "sdk first" else (patched, patch_openai):
        patch(None)  # type: ignore[operator]
    with cache:
        for _ in range(2):
            sdk_chat(colour, client)
    assert (up.calls, len(list(cache.keys()))) == (1, 1)
    assert (cache.stats.misses, cache.stats.hits, cache.stats.stored) == (1, 1, 1)


@pytest.mark.parametrize(
    "more",
    [{"cache_seed": None}, {"extra_body": {"background": True}}],
    ids=["not cached by choice", "not cached by kind"],
)
def test_what_a_patched_sdk_leaves_alone_is_left_alone(
    up: Upstream, colour: Colour, cache: Cache, more: dict[str, Any]
) -> None:
    client = colour.client(up)
    with patch_openai(), patch_httpx(hosts=LOOPBACK), cache:
        for _ in range(2):
            sdk_chat(colour, client, **more)
    assert (up.calls, cache.stats.stored) == (2, 0)


def test_an_sdk_that_is_not_patched_is_cached_by_its_transport(
    up: Upstream, colour: Colour, cache: Cache
) -> None:
    client = colour.client(up)
    with patch_httpx(hosts=LOOPBACK), cache:
        first, second = sdk_chat(colour, client), sdk_chat(colour, client)
        assert first == second
        events = []
        for _ in range(2):
            stream = sdk_chat(colour, client, stream=True)
            if colour.name == "sync":
                events.append(list(stream))
            else:
                events.append(colour.wait(drain(stream)))
    assert (up.calls, events[0]) == (2, events[1])


async def drain(stream: Any) -> list[Any]:
    return [item async for item in stream]


@pytest.mark.parametrize("make", [patch_httpx, CachedTransport, AsyncCachedTransport])
def test_a_default_that_is_no_cache_is_an_error(make: Any) -> None:
    with pytest.raises(ConfigurationError, match="got str"):
        make(cache="disk")
