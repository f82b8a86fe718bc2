"""Plain HTTP under a guard that raises where an event loop is blocked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from cachewrap import Cache
from http_libraries.every.test_every_library import Way, ways
from http_libraries.web import OnLoop, Reading, Web, bodies

pytestmark = pytest.mark.filterwarnings("error::cachewrap.CacheWarning")


@ways
@bodies
@pytest.mark.parametrize("reading", [None, Reading()], ids=["read", "open"])
def test_a_miss_is_stored_and_hits_on_disk(
    web: Web, way: Way, body: dict[str, Any], reading: Reading | None, tmp_path: Path
) -> None:
    if not isinstance(web, OnLoop):
        pytest.skip("it waits on no loop")
    way(web)
    with blockbuster_ctx(), Cache.disk(41, tmp_path):
        first, second, third = (web.ask(body, reading=reading) for _ in range(3))
    assert web.up.calls == 1
    assert (first.mark, second.mark, third.mark) == (None, "hit", "hit")
    assert first.body == second.body == third.body
