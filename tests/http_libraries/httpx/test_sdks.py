"""Real SDKs that speak plain httpx or httpx2: two identical calls make one upstream call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from sdk.matrix import each
from sdk.openai.asking import Colour, anatomy
from standin import Upstream

from cachewrap import AsyncCachedTransport, Cache, CachedTransport, patch_httpx

LOOPBACK = ["127.0.0.1:*"]


@dataclass(frozen=True)
class Shape:
    """One way to call one SDK.

    Args:
        package: the SDK.
        what: what is called.
        call: makes the call of a client, for the n-th variant.
        acall: the same for the async client.
        streamed: whether the result is a stream.
    """

    package: str
    what: str
    call: Callable[[Any, int], Any]
    acall: Callable[[Any, int], Any]
    streamed: bool = False
    colours: ClassVar[tuple[str, ...]] = ("sync", "async")

    @property
    def name(self) -> str:
        return f"{self.package.replace('.', '-')}-{self.what}"


def ask(n: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"Question {n}"}]


def mistral(colour: Colour, url: str) -> Any:
    module = pytest.importorskip("mistralai.client")
    return module.Mistral(api_key="top-secret", server_url=url)


def google(colour: Colour, url: str) -> Any:
    genai = pytest.importorskip("google.genai")
    # Its async client takes aiohttp where that is installed, unless it is given a transport.
    transport = pytest.importorskip("httpx").AsyncHTTPTransport()
    options = {"base_url": url, "async_client_args": {"transport": transport}}
    client = genai.Client(api_key="top-secret", http_options=options)
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
streams = pytest.mark.parametrize(
    "shape", [s for s in SHAPES if s.streamed], ids=lambda shape: shape.name
)


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


@dataclass
class Outcome:
    """What the calls of one shape in one colour showed.

    Args:
        miss: the first call in a block.
        hit: an identical one.
        other: another variant.
        stats: the counts of the block after miss and hit.
        calls: how many calls reached upstream at each step.
    """

    miss: Any
    hit: Any
    other: Any
    stats: tuple[int, int, int]
    calls: dict[str, int]


@pytest.fixture(scope="module")
def outcome(request: pytest.FixtureRequest) -> Outcome:
    """All calls of one shape, made once."""
    shape, name = request.param
    calls: dict[str, int] = {}
    with (
        Upstream() as up,
        closing(Colour(name)) as colour,
        closing(Colour("async" if name == "sync" else "sync")) as another,
        Cache.memory() as cache,
    ):
        client = CLIENTS[shape.package](colour, up.root_url)

        @contextmanager
        def counted(step: str) -> Iterator[None]:
            before = up.calls
            yield
            calls[step] = up.calls - before

        with patch_httpx(hosts=LOOPBACK):
            with counted("twice"):
                miss, hit = result_of(colour, client, shape), result_of(colour, client, shape)
            stats = cache.stats.misses, cache.stats.stored, cache.stats.hits
            with counted("another variant"):
                other = result_of(colour, client, shape, 2)
            with counted("in the other colour"):
                result_of(another, CLIENTS[shape.package](another, up.root_url), shape)
        with counted("twice without the patch"):
            for _ in range(2):
                result_of(colour, client, shape)
    return Outcome(miss, hit, other, stats, calls)


@each(SHAPES)
def test_a_hit_equals_its_miss_and_makes_no_call(outcome: Outcome) -> None:
    assert outcome.calls["twice"] == 1
    assert telling(outcome.miss) == telling(outcome.hit)
    misses, stored, hits = outcome.stats
    assert (misses, stored, hits) == (1, 1, 1)


@each(SHAPES)
def test_two_different_calls_make_two_upstream_calls(outcome: Outcome) -> None:
    assert (outcome.calls["twice"], outcome.calls["another variant"]) == (1, 1)
    assert outcome.miss != outcome.other


@each(SHAPES)
def test_without_the_patch_nothing_is_cached(outcome: Outcome) -> None:
    assert outcome.calls["twice without the patch"] == 2


@each(SHAPES)
def test_callers_of_the_other_colour_share_its_answer(outcome: Outcome) -> None:
    assert outcome.calls["in the other colour"] == 0


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


@pytest.mark.parametrize(
    "shape", [s for s in SHAPES if s.what in ("chat", "generate")], ids=lambda shape: shape.name
)
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
    options = {
        "base_url": up.root_url,
        "client_args": {"transport": CachedTransport()},
        "async_client_args": {"transport": AsyncCachedTransport()},
    }
    client = genai.Client(api_key="top-secret", http_options=options)
    client = client if colour.name == "sync" else client.aio
    [shape] = [s for s in SHAPES if s.package == "google.genai" and s.what == name]
    with cache:
        first, second = result_of(colour, client, shape), result_of(colour, client, shape)
    assert up.calls == 1
    assert telling(first) == telling(second)
