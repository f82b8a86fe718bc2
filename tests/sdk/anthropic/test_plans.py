"""The plans by which models are built: what they make is what the SDK makes."""

from __future__ import annotations

import importlib
from typing import Any

import anthropic._models
import pytest

from cachewrap.format.plans import Models
from sdk.drawing import Drawing, differing, drawn, left_to_the_sdk

RESULTS = {
    "Message": 2,  # with a container, which has a date
    "RawMessageStreamEvent": 2,
    "MessageTokensCount": 0,
    "Completion": 0,
    "beta.BetaMessage": 2,
    "beta.BetaRawMessageStreamEvent": 2,
}
"""What the endpoints answer, and how many of sixty hold something that is left to the SDK."""


def named(path: str) -> Any:
    module, _, name = f"anthropic.types.{path}".rpartition(".")
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        pytest.skip("this version has none")
    if not Models(anthropic._models)._known:
        pytest.skip("this version's models are left to the SDK")
    return found


@pytest.mark.parametrize("path", RESULTS)
def test_whatever_comes_is_made_as_the_sdk_makes_it(path: str) -> None:
    cls = named(path)
    assert differing(anthropic._models, cls, drawn(cls, 90)) == []


@pytest.mark.parametrize(("path", "most"), RESULTS.items(), ids=RESULTS.keys())
def test_what_an_endpoint_answers_has_a_plan(path: str, most: int) -> None:
    cls = named(path)
    values = [Drawing(seed, 0).value(cls) for seed in range(60)]
    assert len(left_to_the_sdk(anthropic._models, cls, values)) <= most
