"""Real SDKs that speak plain httpx or httpx2: two identical calls make one upstream call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sdk.openai.asking import Colour, anatomy
from standin import Upstream

from cachewrap import AsyncCachedTransport, Cache, CachedTransport, patch_httpx

LOOPBACK = ["127.0.0.1:*"]


@dataclass(frozen=True)
class Shape:
    """One way to call one SDK.

    Args:
        package: the SDK.
        name: what is called.
        call: makes the call of a client, for the n-th variant.
        acall: the same for the async client.
        streamed: whether the result is a stream.
    """

    package: str
    name: str
    call: Callable[[Any, int], Any]
    acall: Callable[[Any, int], Any]
    streamed: bool = False

    def __str__(self) -> str:
        return f"{self.package.replace('.', '-')}-{self.name}"


def ask(n: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"Question {n}"}]


def mistral(colour: Colour, url: str) -> Any:
    module = pytest.importorskip("mistralai.client")
    return module.Mistral(api_key="top-secret", server_url=url)


def google(colour: Colour, url: str) -> Any:
    genai = pytest.importorskip("google.genai")
    client = genai.Client(api_key="top-secret", http_options={"base_url": url})
    return client if colour.name == "sync" else client.aio


def ollama(colour: Colour, url: str) -> Any:
    module = pytest.importorskip("ollama")
    return (module.Client if colour.name == "sync" else module.AsyncClient)(host=url)


def cohere(colour: Colour, url: str) -> Any:
    module = pytest.importorskip("cohere")
    make = module.ClientV2 if colour.name == "sync" else module.AsyncClientV2
    return make(api_key="top-secret", base_url=url)


CLIENTS = {"mistralai": mistral, "google.genai": google, "ollama": ollama, "cohere": cohere}


def alike(
    package: str, name: str, call: Callable[[Any, int], Any], *, streamed: bool = False
) -> Shape:
    """A call that is written alike for both colours."""
    return Shape(package, name, call, call, streamed)


SHAPES = (
    Shape(
        "mistralai",
        "chat",
        lambda c, n: c.chat.complete(model="m", messages=ask(n)),
        lambda c, n: c.chat.complete_async(model="m", messages=ask(n)),
    ),
    Shape(
        "mistralai",
        "stream",
        lambda c, n: c.chat.stream(model="m", messages=ask(n)),
        lambda c, n: c.chat.stream_async(model="m", messages=ask(n)),
        streamed=True,
    ),
    Shape(
        "mistralai",
        "embeddings",
        lambda c, n: c.embeddings.create(model="m", inputs=[f"text {n}"]),
        lambda c, n: c.embeddings.create_async(model="m", inputs=[f"text {n}"]),
    ),
    alike(
        "google.genai",
        "generate",
        lambda c, n: c.models.generate_content(model="gemini-x", contents=f"Question {n}"),
    ),
    alike(
        "google.genai",
        "stream",
        lambda c, n: c.models.generate_content_stream(model="gemini-x", contents=f"Question {n}"),
        streamed=True,
    ),
    alike(
        "google.genai",
        "count",
        lambda c, n: c.models.count_tokens(model="gemini-x", contents=f"Question {n}"),
    ),
    alike("ollama", "chat", lambda c, n: c.chat(model="m", messages=ask(n))),
    alike(
        "ollama",
        "stream",
        lambda c, n: c.chat(model="m", messages=ask(n), stream=True),
        streamed=True,
    ),
    alike("ollama", "generate", lambda c, n: c.generate(model="m", prompt=f"Question {n}")),
    alike("ollama", "embed", lambda c, n: c.embed(model="m", input=f"text {n}")),
    alike("cohere", "chat", lambda c, n: c.chat(model="m", messages=ask(n))),
    alike(
        "cohere",
        "stream",
        lambda c, n: c.chat_stream(model="m", messages=ask(n)),
        streamed=True,
    ),
    alike(
        "cohere",
        "rerank",
        lambda c, n: c.rerank(model="m", query=f"Question {n}", documents=["a", "b"]),
    ),
)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
streams = pytest.mark.parametrize("shape", [s for s in SHAPES if s.streamed], ids=str)


async def aresult(made: Any, shape: Shape) -> Any:
    result = await made if hasattr(made, "__await__") else made
    if shape.streamed:
        return [anatomy(item) async for item in result]
    return anatomy(result)


def result_of(colour: Colour, client: Any, shape: Shape, n: int = 1) -> Any:
    """What a call gives, taken apart."""
    if colour.name == "async":
        return colour.wait(aresult(shape.acall(client, n), shape))
    result = shape.call(client, n)
    return [anatomy(item) for item in result] if shape.streamed else anatomy(result)


def telling(result: Any) -> Any:
    """A result without what the SDK notes of the one HTTP response: its headers, and of them the
    mark of a hit."""
    if isinstance(result, dict):
        return {
            name: telling(item)
            for name, item in result.items()
            if name not in ("sdk_http_response", "dump", "headers", "x-cachewrap")
        }
    return [telling(item) for item in result] if isinstance(result, list) else result


@pytest.fixture
def client(up: Upstream, colour: Colour, shape: Shape) -> Any:
    return CLIENTS[shape.package](colour, up.root_url)


@shapes
def test_a_hit_equals_its_miss_and_makes_no_call(
    up: Upstream, client: Any, colour: Colour, cache: Cache, shape: Shape
) -> None:
    with patch_httpx(hosts=LOOPBACK), cache:
        first, second = result_of(colour, client, shape), result_of(colour, client, shape)
    assert up.calls == 1
    assert telling(first) == telling(second)
    assert (cache.stats.misses, cache.stats.stored, cache.stats.hits) == (1, 1, 1)


@shapes
def test_two_different_calls_make_two_upstream_calls(
    up: Upstream, client: Any, colour: Colour, cache: Cache, shape: Shape
) -> None:
    with patch_httpx(hosts=LOOPBACK), cache:
        first, second = (result_of(colour, client, shape, n) for n in (1, 2))
    assert up.calls == 2
    assert first != second


@shapes
def test_without_the_patch_nothing_is_cached(
    up: Upstream, client: Any, colour: Colour, cache: Cache, shape: Shape
) -> None:
    with cache:
        result_of(colour, client, shape)
        result_of(colour, client, shape)
    assert up.calls == 2


@shapes
def test_sync_and_async_callers_share_their_answers(
    up: Upstream, cache: Cache, shape: Shape
) -> None:
    with patch_httpx(hosts=LOOPBACK), cache:
        for name in ("sync", "async"):
            colour = Colour(name)
            result_of(colour, CLIENTS[shape.package](colour, up.root_url), shape)
            colour.close()
    assert up.calls == 1


@streams
@pytest.mark.parametrize("manner", [{"cut_after": 2}, {"cut_after": 0}], ids=["cut", "cut at once"])
def test_a_stream_that_is_cut_off_is_not_stored(
    up: Upstream,
    client: Any,
    colour: Colour,
    cache: Cache,
    shape: Shape,
    manner: dict[str, Any],
) -> None:
    up.behave(**manner)
    broken = pytest.raises(Exception, match=r"incomplete|closed|peer|Server|EOF|payload")
    with patch_httpx(hosts=LOOPBACK), cache, broken:
        result_of(colour, client, shape)
    assert cache.stats.stored == 0


@streams
def test_a_stream_without_its_ending_is_not_stored(
    up: Upstream, client: Any, colour: Colour, cache: Cache, shape: Shape
) -> None:
    if shape.package == "cohere":
        pytest.skip("its stream ends with the response: nothing in it tells that more was to come")
    up.behave(finish=False)
    with patch_httpx(hosts=LOOPBACK), cache:
        result_of(colour, client, shape)
    assert cache.stats.stored == 0


@pytest.mark.parametrize("shape", [s for s in SHAPES if s.name in ("chat", "generate")], ids=str)
def test_an_error_is_raised_and_not_stored(
    up: Upstream, client: Any, colour: Colour, cache: Cache, shape: Shape
) -> None:
    up.behave(status=400)
    with patch_httpx(hosts=LOOPBACK), cache:
        with pytest.raises(Exception, match="Failure"):
            result_of(colour, client, shape)
        assert cache.stats.stored == 0
        up.behave(status=200)
        result_of(colour, client, shape)
    assert cache.stats.stored == 1


@pytest.mark.parametrize("name", ["generate", "stream"])
def test_a_transport_can_be_given_to_an_sdk(
    up: Upstream, colour: Colour, cache: Cache, name: str
) -> None:
    genai = pytest.importorskip("google.genai")
    # The async client takes aiohttp where that is installed, unless it is given a transport.
    options = {
        "base_url": up.root_url,
        "client_args": {"transport": CachedTransport()},
        "async_client_args": {"transport": AsyncCachedTransport()},
    }
    client = genai.Client(api_key="top-secret", http_options=options)
    client = client if colour.name == "sync" else client.aio
    [shape] = [s for s in SHAPES if s.package == "google.genai" and s.name == name]
    with cache:
        first, second = result_of(colour, client, shape), result_of(colour, client, shape)
    assert up.calls == 1
    assert telling(first) == telling(second)
