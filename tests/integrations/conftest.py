"""A stand-in upstream for code that has never heard of cachewrap."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from standin import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running
