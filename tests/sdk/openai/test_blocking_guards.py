"""Every async call shape under a guard that raises where an event loop is blocked."""

from __future__ import annotations

import mimetypes
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx
from standin import Upstream

from cachewrap import Cache
from sdk.openai.asking import asking, unmarked
from sdk.openai.shapes import SHAPES, Shape

ASYNC = [pytest.param(shape, id=shape.name) for shape in SHAPES if "async" in shape.colours]

mimetypes.init()  # else httpx reads the system's own types at the first upload

pytestmark = pytest.mark.filterwarnings("error::cachewrap.CacheWarning")


@pytest.mark.parametrize("shape", ASYNC)
def test_a_miss_is_stored_and_hits_on_disk(shape: Shape, up: Upstream, tmp_path: Path) -> None:
    with asking(shape, up, "async") as ask, blockbuster_ctx(), Cache.disk(41, tmp_path):
        seen = [ask() for _ in range(3)]
    assert unmarked(seen[0]) == unmarked(seen[1]) == unmarked(seen[2])
    assert len(up.requests) == 1
