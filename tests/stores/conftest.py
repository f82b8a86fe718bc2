"""What several tests of stores use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from cachewrap.stores.base import Store
from cachewrap.testing.stores import AsyncCalls, Calls, SyncCalls


@pytest.fixture(params=["sync", "async"])
def calls_of(request: pytest.FixtureRequest) -> Iterator[Callable[[Store], Calls]]:
    """Makes the operations of a store in each colour."""
    if request.param == "sync":
        yield SyncCalls
    else:
        with asyncio.Runner() as runner:
            yield lambda store: AsyncCalls(store, runner)
