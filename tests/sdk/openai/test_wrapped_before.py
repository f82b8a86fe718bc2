"""Clients that other tools wrapped before the patch: they are cached, and take its keywords."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai.resources.chat.completions import AsyncCompletions, Completions
from standin import Upstream

from cachewrap import Cache, ReplayMissError, patch_openai, unpatch_openai
from sdk.openai.asking import Colour
from sdk.openai.shapes import chat

pytestmark = pytest.mark.usefixtures("unpatched")

Create = Callable[..., Any]


@pytest.fixture
def unpatched() -> Iterator[None]:
    """Each test patches for itself, after the tool."""
    unpatch_openai()
    yield
    unpatch_openai()


# -- the ways of others ---------------------------------------------------------------------------


def as_langsmith(client: Any) -> Create:
    """A method of its own on the resource, for which the names of the arguments do not matter."""
    original = client.chat.completions.create

    @functools.wraps(original)
    def create(*args: Any, stream: bool = False, **kwargs: Any) -> Any:
        return original(*args, stream=stream, **kwargs)

    @functools.wraps(original)
    async def acreate(*args: Any, stream: bool = False, **kwargs: Any) -> Any:
        return await original(*args, stream=stream, **kwargs)

    is_async = isinstance(client, openai.AsyncOpenAI)
    client.chat.completions.create = acreate if is_async else create
    made: Create = client.chat.completions.create
    return made


class Named:
    """A proxy that passes on what it does not have."""

    def __init__(self, wrapped: Any, **own: Any) -> None:
        self._wrapped = wrapped
        vars(self).update(own)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)


def as_braintrust(client: Any) -> Create:
    """Proxies all the way down, the last of which has the raw method."""
    raw = client.chat.completions.with_raw_response.create

    def create(**kwargs: Any) -> Any:
        return raw(**kwargs).parse()

    async def acreate(**kwargs: Any) -> Any:
        return (await raw(**kwargs)).parse()

    is_async = isinstance(client, openai.AsyncOpenAI)
    completions = Named(client.chat.completions, create=acreate if is_async else create)
    wrapped = Named(client, chat=Named(client.chat, completions=completions))
    made: Create = wrapped.chat.completions.create
    return made


def as_instructor(client: Any) -> Create:
    """A function around the bound method, which it asked for its signature."""
    inner = client.chat.completions.create
    is_async = inspect.iscoroutinefunction(inspect.unwrap(inner))

    @functools.wraps(inner)
    def create(response_model: Any = None, max_retries: int = 1, *args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    @functools.wraps(inner)
    async def acreate(response_model: Any = None, *args: Any, **kwargs: Any) -> Any:
        return await inner(*args, **kwargs)

    return acreate if is_async else create


def as_saved(client: Any) -> Create:
    made: Create = client.chat.completions.create
    return made


def as_partial(client: Any) -> Create:
    return functools.partial(client.chat.completions.create, temperature=0)


def as_unbound(client: Any) -> Create:
    is_async = isinstance(client, openai.AsyncOpenAI)
    function: Any = AsyncCompletions.create if is_async else Completions.create
    resource = client.chat.completions
    return lambda **kwargs: function(resource, **kwargs)


def as_subclass(client: Any) -> Create:
    """A resource of its own, which calls the SDK's."""

    class Own(Completions):
        def create(self, **kwargs: Any) -> Any:  # type: ignore[override]
            return super().create(**kwargs)

    class AsyncOwn(AsyncCompletions):
        async def create(self, **kwargs: Any) -> Any:  # type: ignore[override]
            return await super().create(**kwargs)

    kind: Any = AsyncOwn if isinstance(client, openai.AsyncOpenAI) else Own
    made: Create = kind(client).create
    return made


TOOLS = [
    pytest.param(tool, id=tool.__name__.removeprefix("as_"))
    for tool in (
        as_langsmith,
        as_braintrust,
        as_instructor,
        as_saved,
        as_partial,
        as_unbound,
        as_subclass,
    )
]
tools = pytest.mark.parametrize("tool", TOOLS)


@tools
def test_they_are_cached(
    up: Upstream, client: Any, colour: Colour, cache: Cache, tool: Any
) -> None:
    create = tool(client)
    patch_openai()
    with cache:
        ids = {colour.wait(create(**chat(1))).id for _ in range(4)}
    assert (up.calls, len(ids), cache.stats.hits) == (1, 1, 3)


@tools
def test_they_take_a_seed(
    up: Upstream, client: Any, colour: Colour, cache: Cache, tool: Any
) -> None:
    create = tool(client)
    patch_openai()
    with cache:
        for seed in (7, 7, 8, None, None):
            colour.wait(create(**chat(1), cache_seed=seed))
    assert up.calls == 4
    assert not [name for sent in up.requests for name in sent.headers if "cachewrap" in name]


@tools
def test_they_take_a_cache(
    up: Upstream, client: Any, colour: Colour, cache: Cache, tool: Any
) -> None:
    create = tool(client)
    patch_openai()
    for _ in range(3):
        colour.wait(create(**chat(1), cache=cache))
    assert (up.calls, cache.stats.hits) == (1, 2)


@tools
def test_they_take_a_mode(
    up: Upstream, client: Any, colour: Colour, cache: Cache, tool: Any
) -> None:
    create = tool(client)
    patch_openai()
    with cache:
        with pytest.raises(ReplayMissError):
            colour.wait(create(**chat(1), mode="replay"))
        colour.wait(create(**chat(1), mode="refresh"))
        colour.wait(create(**chat(1), mode="refresh"))
        colour.wait(create(**chat(1), mode="replay"))
    assert up.calls == 2


@tools
@pytest.mark.parametrize("more", [{"ttl": 60}, {"sample": 2}], ids=["ttl", "sample"])
def test_they_take_a_time_to_live_and_the_number_of_a_sample(
    up: Upstream, client: Any, colour: Colour, cache: Cache, tool: Any, more: Any
) -> None:
    create = tool(client)
    patch_openai()
    with cache:
        for _ in range(2):
            colour.wait(create(**chat(1), **more))
    assert (up.calls, cache.stats.hits) == (1, 1)


@tools
def test_afterwards_they_take_no_more_than_the_sdk(client: Any, colour: Colour, tool: Any) -> None:
    create = tool(client)
    patch_openai()
    unpatch_openai()
    with pytest.raises(TypeError, match="cache_seed"):
        colour.wait(create(**chat(1), cache_seed=7))


# -- the SDK's own wrappers -----------------------------------------------------------------------

OWN: dict[str, Callable[[Any], Create]] = {
    "raw": lambda client: client.chat.completions.with_raw_response.create,
    "raw of the client": lambda client: client.with_raw_response.chat.completions.create,
    "a copy": lambda client: client.copy().chat.completions.create,
    "with options": lambda client: client.with_options(max_retries=0).chat.completions.create,
    "a copy of the resource": lambda client: copy.copy(client.chat.completions).create,
}


@pytest.mark.parametrize("own", OWN)
def test_what_the_sdk_made_before_takes_them_too(
    up: Upstream, client: Any, colour: Colour, cache: Cache, own: str
) -> None:
    create = OWN[own](client)
    patch_openai()
    with cache:
        for seed in (7, 7, 8):
            colour.wait(create(**chat(1), cache_seed=seed))
        for _ in range(3):
            colour.wait(create(**chat(1)))
    assert up.calls == 3


def test_a_streaming_response_made_before(up: Upstream, cache: Cache) -> None:
    client = openai.OpenAI(api_key="k", base_url=up.base_url)
    create: Any = client.chat.completions.with_streaming_response.create
    patch_openai()
    with cache:
        for seed in (7, 7, 8):
            with create(**chat(1), cache_seed=seed) as response:
                response.read()
    assert up.calls == 2


def test_clients_of_azure_made_before(up: Upstream, cache: Cache) -> None:
    client = openai.AzureOpenAI(api_key="k", azure_endpoint=up.root_url, api_version="1")
    create: Any = client.chat.completions.create
    patch_openai()
    with cache:
        for seed in (7, 7, 8):
            create(**chat(1), cache_seed=seed)
    assert up.calls == 2
