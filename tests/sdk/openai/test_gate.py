"""The last place before the wire: what came by no seam, and what it must not take along."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import openai
import pytest
from standin import Upstream

import cachewrap
from cachewrap import Cache, ReplayMissError, no_cache
from sdk.openai.asking import Colour
from sdk.openai.shapes import chat

LIBRARY = importlib.import_module(
    next(
        c for c in type(openai.OpenAI(api_key="a")._client).__mro__ if c.__name__ == "Client"
    ).__module__.partition(".")[0]
)
PRIVATE = "x-cachewrap"


class Own(openai.OpenAI):
    """A client that sends by a way of its own, which knows of no `request`."""

    def request(self, cast_to: Any, options: Any, **more: Any) -> Any:
        request = self._build_request(options)
        self.sent = request
        return self._client.send(request).json()


class AsyncOwn(openai.AsyncOpenAI):
    """`Own` for async callers."""

    async def request(self, cast_to: Any, options: Any, **more: Any) -> Any:
        request = self._build_request(options)
        self.sent = request
        return (await self._client.send(request)).json()


@pytest.fixture
def own(up: Upstream, colour: Colour) -> Any:
    kind = Own if colour.name == "sync" else AsyncOwn
    return kind(api_key="sk-test", base_url=up.base_url, max_retries=0)


def ask(colour: Colour, client: Any, **more: Any) -> Any:
    return colour.wait(client.chat.completions.create(**chat(1), **more))


def private(up: Upstream) -> list[str]:
    return [name for name in up.last.headers if name.lower().startswith(PRIVATE)]


@pytest.mark.parametrize(
    "more", [{}, {"cache_seed": 7}, {"mode": "refresh", "ttl": 5}, {"cache_seed": None}]
)
@pytest.mark.parametrize("inside", [True, False], ids=["in a block", "outside"])
def test_no_header_of_ours_leaves(
    up: Upstream, own: Any, colour: Colour, cache: Cache, more: dict[str, Any], inside: bool
) -> None:
    with cache if inside else no_cache():
        ask(colour, own, **more)
    assert up.calls == 1
    assert private(up) == []


def test_none_leaves_by_a_client_of_another_library_s_either(
    up: Upstream, own: Any, colour: Colour
) -> None:
    if colour.name != "sync":
        pytest.skip("one colour is enough")
    with LIBRARY.Client() as client:
        client.post(f"{up.base_url}/x", headers={"X-Cachewrap-Options": "12"}, json={})
    assert private(up) == []


@pytest.mark.parametrize("more", [{}, {"cache_seed": 7}])
def test_in_replay_nothing_leaves_that_came_by_no_seam(
    up: Upstream, own: Any, colour: Colour, more: dict[str, Any]
) -> None:
    cache = Cache.memory(mode="replay")
    with cache, pytest.raises(ReplayMissError, match=r"^POST /v1/chat/completions \(own request\)"):
        ask(colour, own, **more)
    assert up.calls == 0


def test_one_call_in_replay_does_not_leave(
    up: Upstream, own: Any, colour: Colour, cache: Cache
) -> None:
    with cache, pytest.raises(ReplayMissError, match="own request"):
        ask(colour, own, mode="replay")
    assert up.calls == 0


def test_outside_any_block_the_default_cache_of_the_patch_counts(
    up: Upstream, own: Any, colour: Colour
) -> None:
    with (
        cachewrap.patch_openai(Cache.memory(mode="replay")),
        pytest.raises(ReplayMissError, match="own request"),
    ):
        ask(colour, own)
    assert up.calls == 0


class Bare(openai.OpenAI):
    """A client that makes its requests by hand, of which no header tells whose they are."""

    asks_before: str | None = None

    def request(self, cast_to: Any, options: Any, **more: Any) -> Any:
        if self.asks_before is not None:
            self._client.post(self.asks_before, json={})
        url = f"{self.base_url}{options.url.lstrip('/')}"
        return self._client.post(url, json=options.json_data).json()


class AsyncBare(openai.AsyncOpenAI):
    """`Bare` for async callers."""

    asks_before: str | None = None

    async def request(self, cast_to: Any, options: Any, **more: Any) -> Any:
        if self.asks_before is not None:
            await self._client.post(self.asks_before, json={})
        url = f"{self.base_url}{options.url.lstrip('/')}"
        return (await self._client.post(url, json=options.json_data)).json()


@pytest.fixture
def bare(up: Upstream, colour: Colour) -> Any:
    kind = Bare if colour.name == "sync" else AsyncBare
    return kind(api_key="sk-test", base_url=up.base_url, max_retries=0)


@pytest.mark.parametrize(
    ("around", "more"),
    [
        pytest.param("replay", {}, id="in a block"),
        pytest.param("normal", {"mode": "replay"}, id="by its mode"),
        pytest.param("nothing", {"cache": Cache.memory(mode="replay")}, id="by its cache"),
        pytest.param("default", {}, id="by default"),
    ],
)
def test_in_replay_what_tells_nothing_of_itself_does_not_leave(
    up: Upstream, bare: Any, colour: Colour, around: str, more: dict[str, Any]
) -> None:
    blocks: dict[str, Callable[[], Any]] = {
        "replay": lambda: Cache.memory(mode="replay"),
        "normal": Cache.memory,
        "nothing": nullcontext,
        "default": lambda: cachewrap.patch_openai(Cache.memory(mode="replay")),
    }
    with blocks[around](), pytest.raises(ReplayMissError, match="own request"):
        ask(colour, bare, **more)
    assert up.calls == 0


def test_in_replay_what_a_client_asks_elsewhere_before_it_asks_leaves(
    up: Upstream, bare: Any, colour: Colour
) -> None:
    bare.asks_before = f"{up.root_url}/oauth/token"
    with Cache.memory(mode="replay"), pytest.raises(ReplayMissError, match="own request"):
        ask(colour, bare)
    assert [sent.path for sent in up.requests] == ["/oauth/token"]


@pytest.mark.parametrize("more", [{"cache_seed": None}, {"cache": Cache.memory()}])
def test_what_the_call_chooses_itself_leaves(
    up: Upstream, client: Any, own: Any, colour: Colour, more: dict[str, Any]
) -> None:
    with Cache.memory(mode="replay"):
        for one in (client, own):
            ask(colour, one, **more)
    assert up.calls == 2


def test_what_asks_no_model_leaves_unless_the_cache_is_strict(
    up: Upstream, own: Any, colour: Colour
) -> None:
    with Cache.memory(mode="replay") as cache:
        colour.wait(own.files.delete("file-1"))
    assert (up.calls, cache.stats.bypass_reasons) == (1, {"own request": 1})
    with Cache.memory(mode="replay", replay="strict"), pytest.raises(ReplayMissError):
        colour.wait(own.files.delete("file-1"))
    assert up.calls == 1


def test_the_request_of_an_sdk_that_is_not_patched_leaves(up: Upstream, colour: Colour) -> None:
    headers = {"x-stainless-lang": "python", "x-stainless-package-version": "0.0.1"}
    with Cache.memory(mode="replay"), LIBRARY.Client() as client:
        client.post(f"{up.base_url}/chat/completions", headers=headers, json=chat(1))
    assert up.calls == 1


def test_other_modes_let_it_leave(up: Upstream, own: Any, colour: Colour, cache: Cache) -> None:
    with cache:
        ask(colour, own)
    assert up.calls == 1


def test_the_library_is_as_it_was_when_no_sdk_is_patched() -> None:
    patched = LIBRARY.Client.send.__code__, LIBRARY.AsyncClient.send.__code__
    cachewrap.unpatch_openai()
    before = LIBRARY.Client.send.__code__, LIBRARY.AsyncClient.send.__code__
    assert not set(patched) & set(before)
    with cachewrap.patch_openai(), cachewrap.patch_openai():
        assert LIBRARY.Client.send.__code__ is not before[0]
    assert (LIBRARY.Client.send.__code__, LIBRARY.AsyncClient.send.__code__) == before


def test_one_sdk_that_is_still_patched_keeps_the_gate() -> None:
    if importlib.util.find_spec("groq") is None:
        pytest.skip("groq is not installed")
    with cachewrap.patch_groq():
        inside = LIBRARY.Client.send.__code__
        cachewrap.unpatch_openai()
        assert LIBRARY.Client.send.__code__ is inside
    assert LIBRARY.Client.send.__code__ is not inside
