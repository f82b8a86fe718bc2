"""Fixtures of the SDK tests: the stand-in upstream, both colours, the patch, a cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from fixtures import cache, colour, up
from standin import Upstream

import cachewrap
from sdk.openai.asking import Colour

__all__ = ["cache", "colour", "up"]


@pytest.fixture
def client(up: Upstream, colour: Colour) -> Any:
    """A client of the colour, pointed at the stand-in, that does not retry."""
    return colour.client(up, max_retries=0)


@pytest.fixture(autouse=True)
def patched() -> Iterator[None]:
    """The SDK is patched in every test of this folder, and as it was afterwards."""
    cachewrap.patch_openai()
    yield
    cachewrap.unpatch_openai()
    openai.api_key = openai.base_url = None
    openai._reset_client()
