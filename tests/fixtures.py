"""Fixtures of all tests that talk to the stand-in upstream: a server, both colours, a cache."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sdk.openai.asking import Colour
from standin import Upstream

import cachewrap


@pytest.fixture
def up() -> Iterator[Upstream]:
    """A stand-in upstream of the test's own."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def cache() -> cachewrap.Cache:
    """An empty cache in memory, not entered."""
    return cachewrap.Cache.memory()


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Iterator[Colour]:
    """Sync and async callers; a table may name the colours of its rows itself."""
    colour = Colour(request.param)
    yield colour
    colour.close()
