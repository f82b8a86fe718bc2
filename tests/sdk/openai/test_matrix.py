"""Every call shape in both colours: one upstream call for two identical calls, equal results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import openai
import pytest

from cachewrap import patch_openai
from cachewrap.testing.upstream import Upstream
from sdk.matrix import OTHER, Ask, Matrix, Outcome, ask_all, each
from sdk.openai.asking import Colour
from sdk.openai.shapes import SHAPES, Shape


@pytest.fixture(scope="module")
def outcome(request: pytest.FixtureRequest) -> Iterator[Outcome]:
    """What the calls of one shape showed, in one colour first."""
    shape, name = request.param
    colours = (name, OTHER[name]) if len(shape.colours) == 2 else (name,)
    yield ask_all(shape.take, colours, partial(asking, shape), patch_openai)
    openai.api_key = openai.base_url = None
    openai._reset_client()


@contextmanager
def asking(shape: Shape, up: Upstream, name: str) -> Iterator[Ask]:
    """Calls of a shape in a colour, with one client."""
    colour = Colour(name)
    client: Any = colour.client(up, shape.client, max_retries=0)
    yield partial(colour.ask, client, shape)
    colour.close()


@each(SHAPES)
class TestMatrix(Matrix):
    marked = frozenset(
        {"events", "raw", "raw events", "raw binary", "binary"}
        | {"open", "open chunks", "open lines", "open events"}
    )
