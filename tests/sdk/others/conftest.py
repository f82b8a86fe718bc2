"""Fixtures of the tests of other SDKs: the stand-in upstream and both colours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fixtures import cache, colour, up

import cachewrap

__all__ = ["cache", "colour", "up"]


@pytest.fixture(autouse=True)
def unpatched() -> Iterator[None]:
    """Whatever a test patches is as it was afterwards."""
    yield
    cachewrap.unpatch_all()
