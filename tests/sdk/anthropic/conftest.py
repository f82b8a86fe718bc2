"""Fixtures of the Anthropic tests: the stand-in upstream, both colours, the patch, a cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("anthropic", reason="the tests of another environment")

from fixtures import cache, up
from standin import Upstream

import cachewrap
from sdk.anthropic.asking import Colour

__all__ = ["cache", "up"]


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Iterator[Colour]:
    """Sync and async callers."""
    colour = Colour(request.param)
    yield colour
    colour.close()


@pytest.fixture
def client(up: Upstream, colour: Colour) -> Any:
    """A client of the colour, pointed at the stand-in, that does not retry."""
    return colour.client(up, max_retries=0)


@pytest.fixture(autouse=True)
def patched() -> Iterator[None]:
    """The SDK is patched in every test of this folder, and as it was afterwards."""
    cachewrap.patch_anthropic()
    yield
    cachewrap.unpatch_anthropic()
