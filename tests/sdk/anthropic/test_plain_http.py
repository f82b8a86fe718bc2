"""One key space: what `patch_anthropic` stores serves plain HTTP of the same request, and back."""

from __future__ import annotations

from functools import partial

import pytest

from cachewrap import patch_anthropic
from sdk.anthropic.shapes import SHAPES, TOOLS, Shape, also, count, message
from sdk.anthropic.test_matrix import asking
from sdk.parity import Parity, Ways, both_ways, by_turns

IMAGE = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
}
MORE = (
    Shape(
        "and-more",
        "messages.create",
        also(
            message,
            system=[{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
            stop_sequences=["a"],
            metadata={"user_id": "u"},
            extra_body={
                "temperature": 1.0,
                "service_tier": "auto",
                "thinking": {"type": "enabled", "budget_tokens": 1024},
                "thing": [1.0, None],
            },
            extra_headers={"anthropic-version": "2023-06-01", "anthropic-beta": "a,b"},
            extra_query={"tier": "a"},
        ),
    ),
    Shape(
        "image",
        "messages.create",
        lambda n: message(n) | {"messages": [{"role": "user", "content": [IMAGE]}]},
    ),
    Shape("count-more", "messages.count_tokens", also(count, system="Be kind.", **TOOLS)),
)
# Those of Bedrock are signed as they are, and those of Vertex have their model in the path: over
# HTTP they are requests of their own. A number in a query is a text there.
SHARED = [shape for shape in SHAPES if shape.client == "anthropic" and shape.name != "extra-query"]


@pytest.fixture(scope="module")
def ways(request: pytest.FixtureRequest) -> Ways:
    """A call of one shape in both ways."""
    shape, name = request.param
    return both_ways(name, partial(asking, shape), patch_anthropic)


@by_turns([*SHARED, *MORE])
class TestParity(Parity):
    """Every endpoint, in many shapes."""
