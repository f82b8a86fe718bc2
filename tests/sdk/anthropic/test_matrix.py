"""Every call shape in both colours: one upstream call for two identical calls, equal results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from standin import Upstream

from cachewrap import patch_anthropic
from sdk.anthropic.asking import Colour
from sdk.anthropic.shapes import SHAPES, Shape
from sdk.matrix import OTHER, Matrix, Outcome, ask_all, each
from sdk.openai.asking import Ask


@pytest.fixture(scope="module")
def outcome(request: pytest.FixtureRequest) -> Outcome:
    """What the calls of one shape showed, in one colour first."""
    shape, name = request.param
    return ask_all(shape.take, (name, OTHER[name]), partial(asking, shape), patch_anthropic)


@contextmanager
def asking(shape: Shape, up: Upstream, name: str) -> Iterator[Ask]:
    """Calls of a shape in a colour, with one client."""
    colour = Colour(name)
    client: Any = colour.client(up, shape.client, max_retries=0)
    try:
        yield partial(colour.ask, client, shape)
    finally:
        colour.close()


@each(SHAPES)
class TestMatrix(Matrix):
    marked = frozenset(
        {"events", "raw", "raw events", "open", "open chunks", "open events", "helper", "text"}
    )
    varying = frozenset(
        {"x-amz-date", "authorization", "x-amz-content-sha256", "x-stainless-retry-count"}
    )
