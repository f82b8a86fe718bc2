"""A cache on each kind of store that outlives its process, named by its URL."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cachewrap import Cache
from cachewrap.stores.base import Seeds
from cli.filling import CommandLine


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line in this process, with none of its variables set, and no width."""
    monkeypatch.delenv("COLUMNS", raising=False)
    for name in ("URL", "MODE", "QUIET", "TALLY", "UNKEYED", "ENCRYPTION_KEY"):
        monkeypatch.delenv(f"CACHEWRAP_{name}", raising=False)
    return CommandLine(capsys)


@pytest.fixture
def make_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Makes the URL of an empty cache on a store of the kind named."""
    made: list[str] = []

    def make(kind: str) -> str:
        name = f"cli-{uuid.uuid4()}"
        if kind in ("disk", "jsonl"):
            return f"{kind}:{tmp_path / name}"
        made.append(f"{request.getfixturevalue('redis_url')}?namespace={name}")
        return made[-1]

    yield make
    for url in made:
        store = Cache.from_url(url).store
        assert isinstance(store, Seeds)
        for seed in store.seeds():
            store.reseed(seed).clear()
        store.close()


@pytest.fixture
def url(store_kind: str, make_url: Callable[[str], str]) -> str:
    """The URL of an empty cache on each kind of store that outlives its process."""
    return make_url(store_kind)
