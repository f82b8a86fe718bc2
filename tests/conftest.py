"""One store fixture over every backend, chosen with --stores."""

from __future__ import annotations

import gc
import os
import ssl
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from examples_tried import many

from cachewrap import Cache
from cachewrap.stores import breaker
from cachewrap.stores.base import Store
from cachewrap.telemetry import events
from cachewrap.testing.servers import redis_cluster, redis_sentinel, redis_server

pytest.register_assert_rewrite("cachewrap.testing.stores", "sdk.matrix")

STORES = ("memory", "disk", "redis", "cluster", "sentinel", "jsonl")


def _try_fewer_examples() -> None:
    """A property is tried with a quarter of the usual examples, unless all of them are wanted."""
    try:
        from hypothesis import settings
    except ImportError:
        return
    settings.register_profile("few", max_examples=many(100), deadline=None)
    settings.load_profile("few")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stores",
        default="memory,disk,redis,jsonl",
        help="the stores to test, separated by commas (default: %(default)s)",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Tests call SDKs in blocks and out of them, patched and not, as no program would.
    os.environ["CACHEWRAP_HINTS"] = "0"
    _try_fewer_examples()
    _trust_one_authority(config)
    config.addinivalue_line(
        "markers", "shared: runs over the stores with leases that other processes respect"
    )
    config.addinivalue_line(
        "markers", "posix(what): needs what Windows has not: skipped where no process can be forked"
    )
    config.addinivalue_line("markers", "stores(name): only where --stores has the name")
    unknown = set(_chosen(config)) - set(STORES)
    if unknown:
        raise pytest.UsageError(f"--stores knows {', '.join(STORES)}, not {', '.join(unknown)}")


def _trust_one_authority(config: pytest.Config) -> None:
    """Spare each client of each test 18 milliseconds, in which it would read all that there are.

    What the tests talk to over TLS has an authority of its own.
    """
    trusted = ssl.create_default_context()
    with suppress(ImportError):
        from certifi import where

        trusted = ssl.create_default_context(cafile=where())
    known = trusted.get_ca_certs(binary_form=True)
    if not known:
        return
    folder = tempfile.TemporaryDirectory(prefix="cachewrap-tests-")
    config.add_cleanup(folder.cleanup)
    file = Path(folder.name, "authority.pem")
    file.write_text(ssl.DER_cert_to_PEM_cert(known[0]), encoding="utf-8")
    patched = pytest.MonkeyPatch()
    patched.setenv("SSL_CERT_FILE", str(file))
    config.add_cleanup(patched.undo)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store_kind" in metafunc.fixturenames:
        shared = metafunc.definition.get_closest_marker("shared")
        alone = ("memory", "jsonl") if shared else ()
        kinds = [kind for kind in _chosen(metafunc.config) if kind not in alone]
        metafunc.parametrize("store_kind", kinds)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of stores that are not chosen, and mark those that run over stores."""
    kept, left_out = [], []
    for item in items:
        stores = {marker.args[0] for marker in item.iter_markers("stores")}
        if stores or "store_kind" in getattr(item, "fixturenames", ()):
            item.add_marker("store")
        lacking = [marker.args[0] for marker in item.iter_markers("posix")]
        if lacking and not hasattr(os, "fork"):
            item.add_marker(pytest.mark.skip(reason=f"this system has not: {', '.join(lacking)}"))
        (kept if stores <= set(_chosen(config)) else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def pytest_collection_finish() -> None:
    """Spare each collection of garbage the modules and tests, which stay to the end."""
    gc.collect()
    gc.freeze()


def _chosen(config: pytest.Config) -> list[str]:
    return [name for name in config.getoption("--stores").split(",") if name]


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis-compatible server for the whole run."""
    with redis_server() as server:
        yield server.url


@pytest.fixture(scope="session")
def cluster_url() -> Iterator[str]:
    """A cluster of three masters for the whole run."""
    with redis_cluster() as cluster:
        yield cluster.url


@pytest.fixture(scope="session")
def sentinel_url() -> Iterator[str]:
    """A master, a replica and their sentinel for the whole run."""
    with redis_sentinel() as sentinel:
        yield sentinel.url


@pytest.fixture
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Store]]:
    """Makes a store of the kind named, in a place of this test's own."""
    made: list[Store] = []

    def make(kind: str) -> Store:
        if kind == "memory":
            from cachewrap.stores.memory import MemoryStore

            made.append(MemoryStore())
        elif kind == "disk":
            from cachewrap.stores.disk import DiskStore

            made.append(DiskStore(tmp_path / "cache"))
        elif kind == "jsonl":
            from cachewrap.stores.jsonl import JsonlStore

            made.append(JsonlStore(tmp_path / "cassettes" / "answers.jsonl"))
        else:
            from cachewrap.stores.redis import RedisStore

            url = request.getfixturevalue(f"{kind}_url")
            made.append(RedisStore(url, namespace=f"test-{uuid.uuid4()}"))
        return made[-1]

    yield make
    for store in made:
        store.clear()
        store.close()


@pytest.fixture
def store(store_kind: str, make_store: Callable[[str], Store]) -> Store:
    """A store of each kind, empty and this test's own."""
    return make_store(store_kind)


@pytest.fixture
def cache(store: Store) -> Cache:
    """A cache on a store of each kind."""
    return Cache(store)


@pytest.fixture(autouse=True)
def untold() -> None:
    """What a process remembers of faults, each test learns anew."""
    events.forget()
    breaker.forget()
