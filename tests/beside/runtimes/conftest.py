"""An upstream for each test, and programs that ask it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from standin import Upstream

from beside.runtimes.running import Programs


@pytest.fixture
def up() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def programs(up: Upstream, tmp_path: Path) -> Programs:
    return Programs(up, tmp_path)
