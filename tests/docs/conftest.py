"""The stand-in upstream and the Redis server that the pages talk to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from standin import Upstream

from cachewrap.testing.servers import redis_server

# What this folder needs, the tox environment `docs` installs.
collect_ignore_glob = [] if find_spec("sybil") else ["test_*.py"]


@pytest.fixture(scope="session")
def redis_address() -> Iterator[Callable[[], str]]:
    """The address of a server, which starts where a page asks for it."""
    with ExitStack() as stack:

        @cache
        def started() -> str:
            server = stack.enter_context(redis_server())
            return server.url.removeprefix("redis://").partition("/")[0]

        yield started


@pytest.fixture(scope="session")
def answering() -> Iterator[tuple[Upstream, list[Callable[[str], str | None]]]]:
    """The upstream, and the one whose answers it gives now."""
    current: list[Callable[[str], str | None]] = [lambda subject: None]
    with Upstream(says=lambda subject: current[0](subject)) as upstream:
        yield upstream, current


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A new folder by the name of a page."""
    return lambda name: tmp_path_factory.mktemp(name.replace("/", "-").removesuffix(".md"))
