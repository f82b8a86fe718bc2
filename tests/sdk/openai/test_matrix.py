"""Every call shape in both colours: one upstream call for two identical calls, equal results."""

from __future__ import annotations

from functools import partial

import pytest

from cachewrap import patch_openai
from sdk.matrix import OTHER, Matrix, Outcome, ask_all, each
from sdk.openai.asking import asking
from sdk.openai.shapes import SHAPES


@pytest.fixture(scope="module")
def outcome(request: pytest.FixtureRequest) -> Outcome:
    """What the calls of one shape showed, in one colour first."""
    shape, name = request.param
    colours = (name, OTHER[name]) if len(shape.colours) == 2 else (name,)
    return ask_all(shape.take, colours, partial(asking, shape), patch_openai)


@each(SHAPES)
class TestMatrix(Matrix):
    marked = frozenset(
        {"events", "raw", "raw events", "raw binary", "binary"}
        | {"open", "open chunks", "open lines", "open events"}
    )
