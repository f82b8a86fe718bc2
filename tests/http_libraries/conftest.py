"""Fixtures of the tests of plain HTTP: the stand-in upstream, a cache, and the patch undone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fixtures import cache, colour, up
from standin import Upstream

import cachewrap
from http_libraries.web import WEBS, Web

__all__ = ["cache", "colour", "up"]


@pytest.fixture(autouse=True)
def unpatched() -> Iterator[None]:
    """Whatever a test patches is as it was afterwards."""
    yield
    cachewrap.unpatch_all()


@pytest.fixture(params=WEBS)
def web(request: pytest.FixtureRequest, up: Upstream) -> Iterator[Web]:
    """A client or session of every library that is installed, made before any patch."""
    web = WEBS[request.param](up)
    yield web
    web.end()
