"""Aliases of requests of the SDK: each shape of a call has the answer of the other one."""

from __future__ import annotations

from typing import Any

import pytest
from standin import Upstream

from cachewrap import Cache, CacheWarning, ConfigurationError, ReplayMissError
from sdk.openai.asking import Colour, Seen, unmarked
from sdk.openai.shapes import BY_NAME, Shape

NAMES = (
    "chat chat-stream chat-raw chat-raw-stream chat-open chat-open-lines chat-open-stream"
    " chat-helper chat-parsed responses responses-stream embeddings speech-open-chunks"
).split()
SHAPES = [BY_NAME[name] for name in NAMES if name in BY_NAME]


def told(seen: Seen) -> Seen:
    """What was seen of the answer alone."""
    return {name: value for name, value in unmarked(seen).items() if name != "request"}


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.name)
def shape(request: pytest.FixtureRequest) -> Shape:
    found: Shape = request.param
    return found


def keys_of(cache: Cache, *asked: Any) -> list[str]:
    """The keys that some calls store under, one after the other."""
    found: list[str] = []
    for ask in asked:
        ask()
        found += set(cache.store.keys()) - set(found)
    return found


def test_a_request_is_answered_by_the_entry_of_another_one(
    up: Upstream, client: Any, colour: Colour, shape: Shape, cache: Cache
) -> None:
    def ask(n: int) -> Seen:
        return told(colour.ask(client, shape, n))

    with cache:
        one, two = keys_of(cache, lambda: ask(1), lambda: ask(2))
        first, second = ask(1), ask(2)
        assert first != second
        cache.alias(two, one)
        assert [ask(2) for _ in range(3)] == [first] * 3
        assert (ask(1), up.calls) == (first, 2)
        assert (cache.stats.hits_by_alias, cache.stats.misses) == (3, 2)
        with cache.mode("replay"):
            assert ask(2) == first
        cache.unalias(two)
        assert (ask(2), up.calls) == (second, 2)


@pytest.mark.parametrize("name", ["chat", "chat-stream"])
def test_one_that_leads_nowhere_is_asked_anew(
    up: Upstream, client: Any, colour: Colour, name: str, cache: Cache
) -> None:
    shape = BY_NAME[name]
    with cache:
        one, two = keys_of(cache, *(lambda n=n: colour.ask(client, shape, n) for n in (1, 2)))
        cache.delete(two)
        cache.alias(two, one)
        cache.delete(one)
        with cache.mode("replay"), pytest.raises(ReplayMissError, match="no longer stored"):
            colour.ask(client, shape, 2)
        assert up.calls == 2
        answers = [told(colour.ask(client, shape, 2)) for _ in range(2)]
    assert (answers[0], up.calls) == (answers[1], 3)
    assert list(cache.aliases()) == []


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("chat", "chat-stream", "no stream"),
        ("chat-stream", "chat", "a stream"),
        ("embeddings", "chat", "no choices"),
    ],
)
def test_an_answer_of_another_form_is_none(
    up: Upstream, client: Any, colour: Colour, cache: Cache, one: str, other: str, why: str
) -> None:
    """Of a request of which nothing is stored, no more is known than its key."""
    with cache:
        target, key = keys_of(
            cache, *(lambda name=name: colour.ask(client, BY_NAME[name]) for name in (one, other))
        )
        with pytest.raises(ConfigurationError):
            cache.alias(key, target)
        cache.delete(key)
        cache.alias(key, target)
        with pytest.warns(CacheWarning, match=why):
            colour.ask(client, BY_NAME[other])
    assert (up.calls, cache.stats.hits_by_alias) == (3, 0)
