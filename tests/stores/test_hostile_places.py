"""Folders and cassettes that somebody else has prepared: a call goes on, and takes little."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import tracemalloc
import warnings
from contextlib import closing
from pathlib import Path

import diskcache
import pytest

from cachewrap import Cache, CacheWarning, Event, llm_cached
from cachewrap.entry import Facts, Kind
from cachewrap.errors import StoreError
from cachewrap.format.envelope import seal
from cachewrap.stores.disk import DiskStore
from cachewrap.stores.disk.folder import LARGEST_ROW
from cachewrap.stores.jsonl import JsonlStore
from cachewrap.systems import Files
from cachewrap.testing.stores import key_of

pytestmark = pytest.mark.stores("disk")

KEY, OTHER = key_of(1), key_of(2)


def change(root: Path, sql: str) -> None:
    with closing(sqlite3.connect(root / "41" / "cache.db")) as database:
        database.executescript(sql)


# -- databases -----------------------------------------------------------------------------------

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
COLUMNS = (
    "rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER, store_time REAL, expire_time REAL,"
    " access_time REAL, access_count INTEGER, tag BLOB, size INTEGER, mode INTEGER, filename TEXT"
)
SCHEMAS = {
    "view": "ALTER TABLE Cache RENAME TO Old;"
    f" CREATE VIEW Cache AS {ENDLESS} SELECT x AS rowid, CAST(x AS BLOB) AS key, 1 AS raw,"
    " 1 AS store_time, NULL AS expire_time, 1 AS access_time, 0 AS access_count, NULL AS tag,"
    " 0 AS size, 1 AS mode, NULL AS filename, x'00' AS value FROM n",
    "view of the settings": "ALTER TABLE Settings RENAME TO Old;"
    f" CREATE VIEW settings AS {ENDLESS} SELECT 'size' || x AS key, 1 AS value FROM n",
    "trigger": "CREATE TRIGGER more AFTER INSERT ON Cache BEGIN INSERT INTO Settings SELECT x, x"
    f" FROM ({ENDLESS} SELECT x FROM n WHERE x < 0); END",
    "trigger of a known name": "DROP TRIGGER Settings_count_insert;"
    " CREATE TRIGGER Settings_count_insert AFTER INSERT ON cache BEGIN INSERT INTO Settings"
    f" SELECT x, x FROM ({ENDLESS} SELECT x FROM n WHERE x < 0); END",
    "trigger that fills": "CREATE TRIGGER more AFTER INSERT ON Cache BEGIN UPDATE Cache"
    " SET value = randomblob(900000000) WHERE rowid = new.rowid; END",
    "computed column": "ALTER TABLE Cache RENAME TO Old;"
    f" CREATE TABLE Cache ({COLUMNS}, value BLOB AS (hex(zeroblob(400000000))))",
    "computed default": "ALTER TABLE Cache RENAME TO Old;"
    f" CREATE TABLE Cache ({COLUMNS}, value BLOB, more DEFAULT (randomblob(900000000)))",
    "check": "ALTER TABLE Cache RENAME TO Old;"
    f" CREATE TABLE Cache ({COLUMNS}, value BLOB CHECK (length(hex(zeroblob(400000000))) > 1))",
    "computed index": "CREATE INDEX more ON Cache (length(hex(zeroblob(400000000))))",
    "virtual table": "ALTER TABLE Cache RENAME TO Old; CREATE VIRTUAL TABLE Cache USING fts5(key)",
    "not laid out": "DROP TRIGGER Settings_size_delete; CREATE TRIGGER more BEFORE INSERT ON"
    f" Settings BEGIN INSERT INTO Cache (key) {ENDLESS} SELECT x FROM n; END",
}


@pytest.mark.stores("disk")
@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_a_database_that_computes_is_not_used(tmp_path: Path, schema: str) -> None:
    with closing(DiskStore(tmp_path)) as store:
        store.set(KEY, b"a")
    try:
        change(tmp_path, schema)
    except sqlite3.OperationalError as error:  # this SQLite has no such tables
        pytest.skip(str(error))
    start = time.monotonic()
    with closing(DiskStore(tmp_path)) as store:
        for use in (
            lambda: store.get(KEY),
            lambda: store.add(OTHER, b"b"),
            lambda: store.set(KEY, b"b"),
            lambda: store.delete(KEY),
            lambda: list(store.keys()),
            lambda: list(store.scan()),
            store.clear,
        ):
            with pytest.raises(StoreError, match="which is none of a cache's"):
                use()
    with Cache(DiskStore(tmp_path), cache_seed=41) as cache, pytest.warns(CacheWarning):
        assert llm_cached(cache=cache)(str)(1) == "1"
    assert time.monotonic() - start < 5


@pytest.mark.stores("disk")
@pytest.mark.parametrize(
    "policy", ["none", "least-recently-stored", "least-recently-used", "least-frequently-used"]
)
@pytest.mark.parametrize("version", ["as it is", "quoted", "in capitals"])
def test_what_diskcache_lays_out_is_used(tmp_path: Path, policy: str, version: str) -> None:
    folder = str(tmp_path / "41")
    diskcache.Cache(folder, eviction_policy=policy, statistics=1, tag_index=True).close()
    if version == "quoted":
        change(tmp_path, "ALTER TABLE Cache RENAME TO O; ALTER TABLE O RENAME TO Cache")
    elif version == "in capitals":
        change(tmp_path, "DROP INDEX Cache_key_raw; create unique index K on CACHE (key,raw)")
    with closing(DiskStore(tmp_path, max_bytes=2**20)) as store:
        store.add(KEY, b"a")
        assert store.get(KEY) == b"a"


@pytest.mark.stores("disk")
@pytest.mark.parametrize(
    ("size", "read"), [(LARGEST_ROW, False), (LARGEST_ROW // 2, True)], ids=["large", "small"]
)
def test_a_row_that_is_too_large_is_damaged(tmp_path: Path, size: int, read: bool) -> None:
    with closing(DiskStore(tmp_path)) as store:
        store.set(KEY, b"a")
        store.set(OTHER, b"b")
    change(tmp_path, f"UPDATE Cache SET value = zeroblob({size + 1}) WHERE value = x'61'")
    with closing(DiskStore(tmp_path)) as store:
        held = bytes(size + 1) if read else b""
        assert store.get(KEY) == held
        assert dict(store.scan()) == {KEY: held, OTHER: b"b"}
        assert store.add(KEY, b"new", over=held) == b"new"
        assert store.get(KEY) == b"new"
        assert dict(store.scan()) == {KEY: b"new", OTHER: b"b"}


@pytest.mark.stores("disk")
@pytest.mark.skipif(sys.platform == "win32", reason="it has no sparse files without more ado")
def test_a_file_that_is_too_large_is_damaged(tmp_path: Path) -> None:
    with closing(DiskStore(tmp_path)) as store:
        store.set(KEY, bytes(2**20))
        (value,) = tmp_path.rglob("*.val")
        os.truncate(value, 2**40)
        tracemalloc.start()
        assert store.get(KEY) == b""
        assert tracemalloc.get_traced_memory()[1] < 2**20
        tracemalloc.stop()
        assert store.add(KEY, b"new", over=b"") == b"new"
        assert store.get(KEY) == b"new"


# -- cassettes -----------------------------------------------------------------------------------


@pytest.mark.stores("jsonl")
def test_lines_that_cannot_be_read_are_told_of_in_few_words(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"key": "{number}"}}\n' for number in range(10_000)))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        store = JsonlStore(path)
        store.set(KEY, b"a")
        assert store.get(KEY) == b"a"
    told = [str(one.message) for one in warned]
    assert len(told) == 11
    assert told[-1] == (f"{store.path}: 9990 more lines are no entries of a cassette, and skipped")
    assert len(path.read_text().splitlines()) == 10_002 - 1


@pytest.mark.stores("jsonl")
def test_a_cassette_for_which_there_is_no_memory_is_no_error_of_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lack(*_: object) -> bytes:
        raise MemoryError

    path = tmp_path / "a.jsonl"
    JsonlStore(path).set(KEY, b"a")
    monkeypatch.setattr(Files, "read_all", lack)
    path.touch()
    with (
        Cache.from_url(f"jsonl:{path}") as cache,
        pytest.warns(CacheWarning, match="there is no memory for all of it"),
    ):
        assert llm_cached(cache=cache)(str)(1) == "1"


# -- events --------------------------------------------------------------------------------------


@pytest.mark.stores("disk")
def test_an_event_names_a_stored_model_on_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    with Cache.disk(cache_path_root=tmp_path, on_event=events.append) as cache:
        complete = llm_cached(cache=cache, version=1)(str)
        hostile = "m\x1b[2J\r\nERROR root: x\u202e" + "z" * 5000
        facts = Facts(1.0, 0.1, source=hostile, model=hostile)
        cache._store.set(complete.cache_key(1), seal(Kind.TEXT, b"a", b"", facts))
        with caplog.at_level(logging.DEBUG, "cachewrap"):
            assert complete(1) == "a"
    told = [events[0].model, events[0].answered_by, *(line.message for line in caplog.records)]
    told += [str(line.__dict__.get("cachewrap")) for line in caplog.records]
    assert all(text.isprintable() and len(text) < 1200 for text in told)
    assert events[0].model.startswith("m\\x1b[2J\\x0d\\x0aERROR root: x\\u202ezz")


# -- many seeds ----------------------------------------------------------------------------------

SEEDS = 60
LOOKING = [
    "ls",
    "stats",
    "verify",
    "report -o {folder}/page.html",
    "export {folder}/all.jsonl",
    "copy jsonl:{folder}/copy.jsonl",
    "copy disk:{folder}/copy",
    "prune --unused-since 1d",
    "prune --older-than 1d",
    "prune --max-bytes 1k",
    "clear --yes",
]


@pytest.mark.stores("disk")
@pytest.mark.skipif(sys.platform == "win32", reason="it has no such limit")
@pytest.mark.parametrize("command", LOOKING)
def test_a_command_opens_few_seeds_at_a_time(tmp_path: Path, command: str) -> None:
    root = tmp_path / "cache"
    with closing(DiskStore(root, "0", max_bytes=2**24)) as store:
        store.set(KEY, b"a")
        store.get(KEY)
    for seed in range(1, SEEDS):
        shutil.copytree(root / "0", root / str(seed))
    words = command.format(folder=tmp_path).split()
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (56, 56));"
        " from cachewrap.cli.main import main; main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, *words, "--url", f"disk:{root}", "--all-seeds"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, 1, 2), done.stderr
    assert "unable to open" not in done.stderr
