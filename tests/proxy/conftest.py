"""Upstreams, and the proxy before them over each kind of store."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from standin import Upstream as Standin

import cachewrap
from proxy.node import Node
from proxy.provide import LACKING, find
from proxy.upstream import Upstream

if TYPE_CHECKING:
    from proxy.running import Within

Serve: TypeAlias = "Callable[..., Within]"

KINDS = ("memory", "disk", "redis")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """An upstream that sends what it is told."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def standin() -> Iterator[Standin]:
    """An upstream that answers as OpenAI and Anthropic do, each time anew."""
    with Standin() as standin:
        yield standin


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Makes the URL of an empty cache of the kind."""

    def make(kind: str) -> str:
        if kind == "memory":
            return "memory:"
        if kind == "disk":
            return f"disk:{tmp_path / 'cache'}"
        server = request.getfixturevalue("redis_url")
        return f"{server}?namespace=test-{uuid.uuid4()}"

    return make


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Runs proxies in this process, to the end of the test."""
    from proxy.running import within

    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(within(*args, **kwargs))


@pytest.fixture
def proxy(serve: Serve, upstream: Upstream) -> Within:
    """A proxy over memory before the upstream, by the names ``openai`` and ``anthropic``."""
    return serve(upstreams={"openai": upstream.url, "anthropic": upstream.url})


@pytest.fixture
def node() -> Node:
    """Runs calls of the Node SDKs."""
    modules = find()
    if modules is None:
        pytest.skip(LACKING)
    return Node(modules)


@pytest.fixture(autouse=True)
def unpatched() -> Iterator[None]:
    """Whatever a test patches is as it was afterwards."""
    yield
    cachewrap.unpatch_all()


def url_of(standin: Standin) -> dict[str, Any]:
    """The upstreams of a proxy before the stand-in."""
    return {"openai": standin.root_url, "anthropic": standin.root_url}
