"""Fixtures of the tests of other SDKs: the stand-in upstream and both colours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sdk.asking import Colour

import cachewrap
from cachewrap.testing.upstream import Upstream


@pytest.fixture
def up() -> Iterator[Upstream]:
    """A stand-in upstream of the test's own."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Iterator[Colour]:
    """Sync and async callers."""
    colour = Colour(request.param)
    yield colour
    colour.close()


@pytest.fixture
def cache() -> cachewrap.Cache:
    """An empty cache in memory, not entered."""
    return cachewrap.Cache.memory()


@pytest.fixture(autouse=True)
def unpatched() -> Iterator[None]:
    """Whatever a test patches is as it was afterwards."""
    yield
    cachewrap.unpatch_all()
