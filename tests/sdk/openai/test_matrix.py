"""Every call shape in both colours: one upstream call for two identical calls, equal results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from standin import Upstream

import cachewrap
from cachewrap import Cache
from sdk.openai.asking import Colour, Seen, unmarked
from sdk.openai.shapes import SHAPES, Shape

matrix = pytest.mark.parametrize(
    ("shape", "colour"),
    [
        pytest.param(shape, name, id=f"{shape.name}-{name}")
        for shape in SHAPES
        for name in shape.colours
    ],
    indirect=["colour"],
)

SHOWS_HEADERS = frozenset(
    {"events", "raw", "raw events", "raw binary", "binary"}
    | {"open", "open chunks", "open lines", "open events"}
)


@pytest.fixture
def client(up: Upstream, colour: Colour, shape: Shape) -> Any:
    return colour.client(up, shape.client, max_retries=0)


@pytest.fixture
def twice(client: Any, colour: Colour, shape: Shape, cache: Cache) -> Iterator[list[Seen]]:
    """What two identical calls in one block showed."""
    with cache:
        yield [colour.ask(client, shape), colour.ask(client, shape)]


@matrix
def test_two_identical_calls_make_one_upstream_call(up: Upstream, twice: list[Seen]) -> None:
    assert up.calls == 1


@matrix
def test_a_hit_equals_its_miss(twice: list[Seen]) -> None:
    miss, hit = map(unmarked, twice)
    assert hit == miss


@matrix
def test_one_header_tells_the_hit(shape: Shape, twice: list[Seen]) -> None:
    marks = [seen.get("mark") for seen in twice]
    assert marks == ([None, "hit"] if shape.take in SHOWS_HEADERS else [None, None])


@matrix
def test_hit_and_miss_are_counted(cache: Cache, twice: list[Seen]) -> None:
    assert (cache.stats.misses, cache.stats.stored, cache.stats.hits) == (1, 1, 1)


@matrix
def test_two_different_calls_make_two_upstream_calls(
    up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
) -> None:
    with cache:
        colour.ask(client, shape, 1)
        colour.ask(client, shape, 2)
    assert up.calls == 2


@matrix
def test_an_answer_is_shaped_as_without_the_patch(
    client: Any, colour: Colour, shape: Shape, twice: list[Seen]
) -> None:
    cachewrap.unpatch_openai()
    plain = colour.ask(client, shape)
    assert outline(unmarked(twice[0])) == outline(unmarked(plain))


@matrix
def test_a_call_can_bring_its_own_cache(
    up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
) -> None:
    first = colour.ask(client, shape, cache=cache)
    second = colour.ask(client, shape, cache=cache)
    assert (up.calls, unmarked(second)) == (1, unmarked(first))


@matrix
def test_a_call_can_be_left_out_of_the_cache(
    up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
) -> None:
    with cache:
        colour.ask(client, shape, cache_seed=None)
        colour.ask(client, shape, cache_seed=None)
    assert up.calls == 2


@matrix
def test_what_steers_the_cache_never_reaches_the_upstream(
    up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
) -> None:
    colour.ask(client, shape, cache=cache, cache_seed=7)
    sent = [up.last.path, up.last.query, up.last.body.decode(errors="replace")]
    sent += [f"{name}: {value}" for name, value in up.last.headers.items()]
    assert not any("cache_seed" in text or "cachewrap" in text for text in sent)


@matrix
def test_the_request_is_sent_as_without_the_patch(
    up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
) -> None:
    with cache:
        colour.ask(client, shape)
    cachewrap.unpatch_openai()
    colour.ask(client, shape)
    patched, plain = up.requests
    varying = {"content-type"} if plain.multipart else set()
    assert (patched.method, patched.path, patched.query) == (plain.method, plain.path, plain.query)
    assert without(patched.headers, varying) == without(plain.headers, varying)
    assert (patched.parts() if plain.multipart else patched.body) == (
        plain.parts() if plain.multipart else plain.body
    )


@pytest.mark.parametrize("shape", [s for s in SHAPES if "async" in s.colours], ids=lambda s: s.name)
@pytest.mark.parametrize("order", [("sync", "async"), ("async", "sync")], ids="-then-".join)
def test_sync_and_async_callers_share_their_answers(
    up: Upstream, shape: Shape, order: tuple[str, str], cache: Cache
) -> None:
    with cache:
        for name in order:
            colour = Colour(name)
            colour.ask(colour.client(up, shape.client), shape)
            colour.close()
    assert up.calls == 1


def without(headers: Any, names: set[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in names}


def outline(value: Any) -> Any:
    """The same with every leaf replaced by its type, since two answers differ in their values."""
    if isinstance(value, dict):
        return {name: outline(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [outline(item) for item in value]
    return value if isinstance(value, type) else type(value)
