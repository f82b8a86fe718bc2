"""Fixtures of the safety tests: what a store holds, byte for byte, and a patched SDK."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sdk.openai.asking import Colour
from standin import Upstream

import cachewrap
from cachewrap.ledger import recording
from cachewrap.stores.base import Store

Dump = Callable[[], dict[str, bytes]]


@pytest.fixture
def dump(request: pytest.FixtureRequest, store_kind: str, store: Store, tmp_path: Path) -> Dump:
    """All that the store of this test leaves behind, by name: files, or keys of the server."""

    def of_memory() -> dict[str, bytes]:
        return {key: store.get(key) or b"" for key in list(store.keys())}

    def of_files() -> dict[str, bytes]:
        # The names of files tell as much as their content.
        folders = tmp_path / "cache", tmp_path / "cassettes"
        files = [path for folder in folders for path in _files(folder)]
        return {str(path.relative_to(tmp_path)): path.read_bytes() for path in files}

    def of_redis() -> dict[str, bytes]:
        import redis

        with redis.Redis.from_url(request.getfixturevalue("redis_url")) as server:
            found = {name: server.dump(name) or b"" for name in server.scan_iter(count=500)}
            plain = {name: _plain(server, name) for name in found}
        return {name.decode(): plain[name] + found[name] for name in found}

    of_kind = {"memory": of_memory, "redis": of_redis}.get(store_kind, of_files)

    def of_all() -> dict[str, bytes]:
        recording.flush()  # what runs are told of is looked through as well
        return of_kind()

    return of_all


def _plain(server: Any, name: bytes) -> bytes:
    """What a key of the server holds; of a log its pieces, and of their list its names."""
    kind = server.type(name)
    if kind == b"list":
        return b"".join(server.lrange(name, 0, -1))
    if kind == b"hash":
        return b"".join(part for pair in server.hgetall(name).items() for part in pair)
    return server.get(name) or b""


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Iterator[Colour]:
    """Sync and async callers."""
    colour = Colour(request.param)
    yield colour
    colour.close()


@pytest.fixture
def up() -> Iterator[Upstream]:
    """A stand-in upstream of the test's own, with the SDK patched."""
    cachewrap.patch_openai()
    with Upstream() as upstream:
        yield upstream
    cachewrap.unpatch_openai()
