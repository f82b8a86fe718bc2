"""One key space: what the patch of another SDK stores serves plain HTTP, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from standin import Upstream

import cachewrap
from sdk.openai.asking import Ask, Colour, Seen
from sdk.others.test_others import SHAPES, Shape, ask, make
from sdk.parity import Parity, Ways, both_ways, by_turns, forms

__all__ = ["forms"]


@contextmanager
def asking(shape: Shape, up: Upstream, name: str) -> Iterator[Ask]:
    """Calls of a shape in a colour, with one client."""
    colour = Colour(name)
    client = make(colour, shape.package, up)

    def seen(n: int = 1, /, **more: Any) -> Seen:
        return {"seen": ask(colour, client, shape, n, **more)}

    try:
        yield seen
    finally:
        colour.close()


@pytest.fixture(scope="module")
def ways(request: pytest.FixtureRequest, forms: None) -> Ways:
    """A call of one shape in both ways."""
    shape, name = request.param
    return both_ways(name, partial(asking, shape), partial(cachewrap.patch, shape.package))


@by_turns(SHAPES)
class TestParity(Parity):
    """Chat, streams and what else they have."""
