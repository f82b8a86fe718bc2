"""Rows, keys and lines of other types: each is one damaged entry, and the others are served."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from cachewrap import Cache, CacheWarning, llm_cached
from cachewrap.cli.main import main
from cachewrap.entry import Facts, Kind
from cachewrap.errors import StoreError
from cachewrap.format.envelope import seal
from cachewrap.stores.base import Scans, Store, Uses
from cachewrap.stores.disk import DiskStore
from cachewrap.stores.jsonl import JsonlStore
from cachewrap.stores.redis import RedisStore
from cachewrap.testing.stores import key_of

VALUE = seal(Kind.TEXT, b"good", b"", Facts(1.0, 2.0, source="f"))
NEW = seal(Kind.TEXT, b"new", b"", Facts(1.0, 2.0, source="f"))
BAD, GOOD = key_of("bad"), key_of("good")

COMMANDS: list[list[str]] = [
    ["ls"],
    ["ls", "--json"],
    ["ls", "--sort", "slowest"],
    ["stats"],
    ["stats", "--json"],
    ["show", GOOD],
    ["show", GOOD[:8]],
    ["verify"],
    ["prune", "--older-than", "100000d"],
    ["prune", "--max-bytes", "10M"],
    ["prune", "--damaged"],
    ["export", "{folder}/export.jsonl"],
    ["copy", "disk:{folder}/copy"],
    ["copy", "jsonl:{folder}/copy.jsonl"],
    ["report", "-o", "{folder}/page.html"],
    ["report", "-o", "{folder}/page.html", "--no-content"],
    ["explain", "{folder}/asked.json"],
    ["clear", "--yes"],
]


def run(command: list[str], url: str, folder: Path) -> int:
    """The status of a command; no error may escape from it."""
    (folder / "asked.json").write_text('{"model": "m"}')
    words = [word.format(folder=folder) for word in command]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--url", url])
    return int(ended.value.code or 0)


def check_store(store: Store, *, listed: bool = True, replaced: bool = True) -> None:
    """The good entry is found by every way that there is, and the damaged one in none of them."""
    assert isinstance(store, Scans)
    assert store.get(GOOD) == VALUE
    assert asyncio.run(store.aget(GOOD)) == VALUE
    assert GOOD in list(store.keys())
    assert (GOOD, VALUE) in list(store.scan())
    if isinstance(store, Uses):
        for key in (BAD, GOOD):
            store.last_used(key)
    if replaced:
        assert store.get(BAD) in (b"", None)
        assert asyncio.run(store.aget(BAD)) in (b"", None)
        assert store.add(BAD, NEW, over=b"") == NEW
        assert store.get(BAD) == NEW
    assert store.add(GOOD, NEW) == VALUE


def check_calls(cache: Cache, spoil: Callable[[str], object]) -> None:
    """A call whose entry is damaged is told once, and its next answer takes the place."""
    asked: list[str] = []

    @llm_cached(version=1, cache=cache)
    def ask(prompt: str) -> str:
        asked.append(prompt)
        return prompt

    ask("a")
    spoil(ask.cache_key("a"))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert [ask("a") for _ in range(3)] == ["a"] * 3
    assert len(asked) == 2
    assert [one.category for one in warned] in ([CacheWarning], [])


# -- disk ----------------------------------------------------------------------------------------

ROWS: dict[str, tuple[str, Any]] = {
    "expire_time text": ("expire_time", "abc"),
    "expire_time blob": ("expire_time", b"\xff"),
    "filename blob": ("filename", b"\xff/x"),
    "filename number": ("filename", 7),
    "filename elsewhere": ("filename", "../../secret"),
    "filename with a NUL": ("filename", "ab/cd/\0"),
    "value text": ("value", "text"),
    "value number": ("value", 7),
    "value null": ("value", None),
    "value real": ("value", 1e999),
    "value empty": ("value", b""),
    "mode text": ("mode", "abc"),
    "mode null": ("mode", None),
    "mode of a file": ("mode", 2),
    "mode pickled": ("mode", 4),
    "mode huge": ("mode", 2**62),
    "access_time null": ("access_time", None),
    "access_time text": ("access_time", "abc"),
    "access_time blob": ("access_time", b"\xff"),
    "access_time infinite": ("access_time", 9e999),
    "store_time text": ("store_time", "abc"),
    "store_time null": ("store_time", None),
    "access_count text": ("access_count", "abc"),
    "size negative": ("size", -(2**62)),
    "size text": ("size", "abc"),
    "size null": ("size", None),
    "size huge": ("size", 9e999),
    "tag blob": ("tag", b"\xff"),
}
KEYS: dict[str, Any] = {
    "short": b"abc",
    "long": b"a" * 1000,
    "empty": b"",
    "text": "a" * 64,
    "number": 7,
    "real": 1.5,
    "null": None,
}


def sql(folder: Path, *statements: tuple[str, tuple[Any, ...]]) -> None:
    with closing(sqlite3.connect(folder / "cache.db", isolation_level=None)) as con:
        for statement, values in statements:
            con.execute(statement, values)


@pytest.mark.stores("disk")
class TestRows:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        with closing(DiskStore(tmp_path / "cache")) as store:
            store.set(BAD, VALUE)
            store.set(GOOD, VALUE)
        return tmp_path / "cache"

    @pytest.fixture(params=ROWS)
    def spoilt(self, request: pytest.FixtureRequest, root: Path) -> Path:
        column, value = ROWS[request.param]
        self.spoil(root, bytes.fromhex(BAD), column, value)
        return root

    def spoil(self, root: Path, key: bytes, column: str, value: Any) -> None:
        if column == "filename":
            sql(root / "41", ("UPDATE Cache SET mode = 2 WHERE key = ?", (key,)))
        sql(root / "41", (f"UPDATE Cache SET {column} = ? WHERE key = ?", (value, key)))

    def test_the_store_goes_on(self, spoilt: Path) -> None:
        for max_bytes in (None, 2**24):
            with closing(DiskStore(spoilt, max_bytes=max_bytes)) as store:
                harmless = store.get(BAD) == VALUE
                check_store(store, replaced=not harmless and max_bytes is None)
                assert store.clear() >= 1
                store.set(GOOD, VALUE)
                store.set(BAD, VALUE)

    @pytest.mark.parametrize("method", ["set", "delete", "clear", "add", "evict"])
    def test_it_can_be_written_over_and_removed(self, spoilt: Path, method: str) -> None:
        with closing(DiskStore(spoilt, max_bytes=30_000 if method == "evict" else None)) as store:
            if method == "set":
                store.set(BAD, NEW)
                assert store.get(BAD) == NEW
            elif method == "delete":
                assert store.delete(BAD)
                assert store.get(BAD) is None
            elif method == "clear":
                store.clear()
                assert list(store.keys()) == []
            elif method == "add":
                store.add(BAD, NEW)
            else:
                for number in range(200):
                    store.set(key_of(number), VALUE * 50)
                assert store.get(key_of(199)) == VALUE * 50
                assert len(list(store.keys())) < 200

    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_commands_go_on(self, spoilt: Path, tmp_path: Path, command: list[str]) -> None:
        assert run(command, f"disk:{spoilt}", tmp_path) in (0, 1)

    @pytest.mark.parametrize("column", ROWS)
    def test_a_call_is_told_once(self, tmp_path: Path, column: str) -> None:
        cache = Cache.disk(41, tmp_path / "cache")
        spoil = lambda key: self.spoil(tmp_path / "cache", bytes.fromhex(key), *ROWS[column])  # noqa: E731
        if column.startswith(("access", "store", "size", "tag")):
            pytest.skip("its entry is served as it is")
        check_calls(cache, spoil)

    @pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
    @pytest.mark.parametrize("raw", [0, 1, "abc", None])
    def test_keys_of_other_kinds_are_passed_over(
        self, root: Path, tmp_path: Path, key: Any, raw: Any
    ) -> None:
        insert = "INSERT INTO Cache (key, raw, mode, value) VALUES (?, ?, 1, ?)"
        sql(root / "41", (insert, (key, raw, b"theirs")))
        with closing(DiskStore(root)) as store:
            check_store(store, replaced=False)
            assert sorted(store.keys()) == sorted([BAD, GOOD])
            assert store.clear() == 2
        assert run(["ls"], f"disk:{root}", tmp_path) == 0

    @pytest.mark.parametrize(
        "change",
        [
            "DELETE FROM Settings",
            "DELETE FROM Settings WHERE key = 'size'",
            "UPDATE Settings SET value = 'abc'",
            "UPDATE Settings SET value = NULL",
            "UPDATE Settings SET value = x'ff'",
            "UPDATE Settings SET value = -9e999",
            "UPDATE Settings SET value = CAST(x'ff' AS TEXT)",
            "UPDATE Cache SET filename = CAST(x'ff' AS TEXT), value = CAST(x'ff' AS TEXT)"
            " WHERE key = (SELECT min(key) FROM Cache)",
        ],
    )
    def test_settings_and_text_that_are_damaged(
        self, root: Path, tmp_path: Path, change: str
    ) -> None:
        sql(root / "41", (change, ()))
        with closing(DiskStore(root, max_bytes=2**20)) as store:
            store.set(key_of("new"), VALUE)
            assert len(list(store.scan())) == 3
            assert store.get(key_of("new")) == VALUE
        for command in COMMANDS:
            assert run(command, f"disk:{root}", tmp_path) in (0, 1)

    def test_names_of_folders_that_are_none_of_a_seed(self, root: Path, tmp_path: Path) -> None:
        for name in (b"\xff\xfe", b"%FF", b"%", b"\xc3\x28", b"%%x"):
            other = bytes(root) + b"/" + name
            other_folder = Path(other.decode(errors="surrogateescape"))
            other_folder.mkdir()
            (other_folder / "cache.db").touch()
        assert DiskStore(root).seeds() == ["41"]
        for command in COMMANDS[:8]:
            assert run([*command, "--all-seeds"], f"disk:{root}", tmp_path) in (0, 1)


# -- Redis ---------------------------------------------------------------------------------------

OTHERS: dict[str, Callable[[redis.Redis, bytes], object]] = {
    "list": lambda server, name: server.rpush(name, "a"),
    "set": lambda server, name: server.sadd(name, "a"),
    "sorted set": lambda server, name: server.zadd(name, {"a": 1}),
    "hash": lambda server, name: server.hset(name, "a", "b"),
    "stream": lambda server, name: server.xadd(name, {"a": "b"}),
    "empty text": lambda server, name: server.set(name, b""),
}


@pytest.mark.stores("redis")
class TestRedis:
    @pytest.fixture
    def namespace(self) -> str:
        return f"test-{uuid.uuid4()}"

    @pytest.fixture
    def remote(self, redis_url: str, namespace: str) -> Iterator[RedisStore]:
        store = RedisStore(redis_url, namespace=namespace)
        store.set(GOOD, VALUE)
        yield store
        store.clear()
        store.close()

    @pytest.fixture
    def server(self, redis_url: str) -> Iterator[redis.Redis]:
        with redis.Redis.from_url(redis_url) as client:
            yield client

    @pytest.mark.parametrize("plant", OTHERS.values(), ids=OTHERS)
    def test_the_store_goes_on(
        self, remote: RedisStore, server: redis.Redis, plant: Callable[..., object]
    ) -> None:
        plant(server, remote._name(BAD))
        assert dict(remote.scan()) == {GOOD: VALUE, BAD: b""}
        assert remote.add(BAD, NEW) == b""
        assert asyncio.run(remote.aadd(BAD, NEW)) == b""
        check_store(remote)
        for method in (remote.set, lambda *args: asyncio.run(remote.aset(*args))):
            server.delete(remote._name(BAD))
            plant(server, remote._name(BAD))
            method(BAD, NEW)
            assert remote.get(BAD) == NEW
        server.delete(remote._name(BAD))
        plant(server, remote._name(BAD))
        assert asyncio.run(remote.aadd(BAD, NEW, over=b"")) == NEW
        server.delete(remote._name(BAD))
        plant(server, remote._name(BAD))
        assert remote.delete(BAD)
        plant(server, remote._name(BAD))
        assert remote.clear() == 2

    @pytest.mark.parametrize("plant", OTHERS.values(), ids=OTHERS)
    def test_commands_go_on(
        self,
        remote: RedisStore,
        server: redis.Redis,
        plant: Callable[..., object],
        redis_url: str,
        namespace: str,
        tmp_path: Path,
    ) -> None:
        for command in COMMANDS:
            server.delete(remote._name(BAD))
            plant(server, remote._name(BAD))
            remote.set(GOOD, VALUE)
            assert run(command, f"{redis_url}?namespace={namespace}", tmp_path) in (0, 1), command

    @pytest.mark.parametrize("plant", OTHERS.values(), ids=OTHERS)
    def test_a_call_is_told_once(
        self, remote: RedisStore, server: redis.Redis, plant: Callable[..., object]
    ) -> None:
        def spoil(key: str) -> None:
            server.delete(remote._name(key))
            plant(server, remote._name(key))

        check_calls(Cache(remote), spoil)

    def test_names_that_are_no_keys(
        self,
        remote: RedisStore,
        server: redis.Redis,
        redis_url: str,
        namespace: str,
        tmp_path: Path,
    ) -> None:
        prefix = remote._prefix
        names = [
            prefix + b"\xff" * 64 + b"}",
            prefix + b"G" * 64 + b"}",
            prefix + b"a" * 63 + b"\n}",
            prefix + GOOD.encode() + b"}x",
            prefix + b"a" * 63 + b"}",
            f"cachewrap:{namespace}:".encode() + b"\xff:{" + GOOD.encode() + b"}",
            f"cachewrap:{namespace}:".encode() + b"%FF:{" + GOOD.encode() + b"}",
        ]
        for name in names:
            server.set(name, b"theirs")
        try:
            check_store(remote, replaced=False)
            assert (list(remote.keys()), remote.seeds()) == ([GOOD], ["41"])

            async def listed() -> list[str]:
                return [key async for key in remote.akeys()]

            assert asyncio.run(listed()) == [GOOD]
            url = f"{redis_url}?namespace={namespace}"
            for command in COMMANDS[:-1]:
                given = command if command[0] == "show" else [*command, "--all-seeds"]
                assert run(given, url, tmp_path) in (0, 1)
            assert remote.clear() == 1
        finally:
            assert server.delete(*names) == len(names)

    @pytest.mark.parametrize("expires", [float("inf"), float("nan"), -1.0, 1e300, 1e15])
    def test_times_that_no_server_knows(self, remote: RedisStore, expires: float) -> None:
        remote.set(BAD, VALUE, expires=expires)
        remote.add(key_of("other"), VALUE, expires=expires)
        assert remote.get(BAD) == (VALUE if expires > time.time() else None)


# -- cassettes -----------------------------------------------------------------------------------

LINE: dict[str, Any] = {
    "key": BAD,
    "seed": "41",
    "source": "f",
    "model": "m",
    "kind": "text",
    "answer": "bad",
    "tokens": [1, 2],
    "seconds": 1.0,
    "created": "2026-01-31T12:00:00.0Z",
}
FIELDS: dict[str, Any] = {
    "key": [7, None, [], {}, "", "abc", "A" * 64, "g" * 64, "a" * 65, 1.5],
    "seed": [7, None, [], {}, True],
    "source": [7, None, [], {}],
    "model": [7, [], {}],
    "kind": [7, None, [], {}, "", "nothing"],
    "answer": [7, None, [], {}, {"base64": 7}, {"base64": "?"}],
    "tokens": [7, None, [], {}, [1], [1, 2, 3], ["a", "b"], [-1, 2], [1.5, 2], [2**70, 1], "ab"],
    "seconds": ["a", None, [], -1, 1e300],
    "created": [7e300, None, [], {}, "abc", "2026-99-99T00:00:00.0Z", True, -1e300],
    "expires": [None, [], "abc", -1],
    "request": [7, None, [], "abc", {"$bytes": 7}, {"$": 1}, {"$float": "x"}],
}
LINES = {
    f"{name} {value!r}"[:40]: json.dumps({**LINE, name: value}).encode()
    for name, values in FIELDS.items()
    for value in values
} | {
    "created 1e999": json.dumps({**LINE, "created": 0}).encode()[:-2] + b"1e999}",
    "seconds 1e999": json.dumps({**LINE, "seconds": 0, "x": 1})
    .encode()
    .replace(b'"seconds": 0', b'"seconds": 1e999'),
    "created NaN": json.dumps({**LINE, "created": 0}).encode()[:-2] + b"NaN}",
    "not UTF-8": b'{"key":"' + BAD.encode() + b'","seed":"\xff"}',
    "the answer is not UTF-8": json.dumps({**LINE, "answer": "?"})
    .encode()
    .replace(b'"?"', b'"\xff"'),
    "a list": b"[1]",
    "a number": b"7",
    "null": b"null",
    "half a line": b'{"key":"',
    "NULs": b"\0\0\0",
}


@pytest.mark.stores("jsonl")
class TestLines:
    @pytest.fixture(params=LINES)
    def path(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        path = tmp_path / "answers.jsonl"
        JsonlStore(path).set(GOOD, VALUE)
        with open(path, "ab") as file:
            file.write(LINES[request.param] + b"\n")
        return path

    @pytest.mark.filterwarnings("ignore::cachewrap.CacheWarning")
    def test_the_store_goes_on(self, path: Path) -> None:
        store = JsonlStore(path)
        check_store(store, replaced=False)
        assert "41" in store.seeds()
        with suppress(StoreError):  # which names the line
            store.get(BAD)
        store.set(BAD, NEW)
        assert store.get(BAD) == NEW
        assert store.clear() >= 1

    @pytest.mark.filterwarnings("ignore::cachewrap.CacheWarning")
    def test_commands_go_on(self, path: Path, tmp_path: Path) -> None:
        before = path.read_bytes()
        for command in COMMANDS:
            path.write_bytes(before)
            assert run(command, f"jsonl:{path}", tmp_path) in (0, 1), command
        other = f"disk:{tmp_path / 'imported'}"
        path.write_bytes(before)
        assert run(["import", str(path)], other, tmp_path) in (0, 1)

    def test_keys_are_keys(self, path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheWarning)
            keys = list(JsonlStore(path).keys())
        assert set(keys) <= {BAD, GOOD}


# -- entries -------------------------------------------------------------------------------------

FACTS: dict[str, Facts] = {
    "seconds NaN": Facts(1.0, float("nan")),
    "seconds infinite": Facts(1.0, float("inf")),
    "seconds negative": Facts(1.0, -5.0),
    "created NaN": Facts(float("nan"), 1.0),
    "created infinite": Facts(float("inf"), 1.0),
    "created in the year 99999": Facts(3_093_527_980_800.0, 1.0),
    "created long ago": Facts(-1e18, 1.0),
    "created past every year": Facts(1e300, 1.0),
    "expires NaN": Facts(1.0, 1.0, float("nan")),
    "expires infinite": Facts(1.0, 1.0, float("inf")),
    "expires past every year": Facts(1.0, 1.0, 1e300),
    "expires negative": Facts(1.0, 1.0, -1e300),
    "tokens": Facts(1.0, 1.0, tokens_in=2**40, tokens_out=2**40),
}


@pytest.mark.parametrize("facts", FACTS.values(), ids=FACTS)
class TestFacts:
    def test_commands_go_on(self, store: Store, tmp_path: Path, facts: Facts) -> None:
        if store.url.startswith("memory"):
            pytest.skip("no command reads a memory")
        raw = seal(Kind.TEXT, b"odd", b"", facts)
        for command in COMMANDS:
            store.set(BAD, raw)
            store.set(GOOD, VALUE)
            status = run(command, store.url, tmp_path)
            assert status in (0, 1), command

    def test_json_stays_json(
        self, tmp_path: Path, facts: Facts, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with closing(DiskStore(tmp_path / "cache")) as store:
            store.set(BAD, seal(Kind.TEXT, b"odd", b"", facts))
            store.set(GOOD, VALUE)
        for command in (["ls", "--json"], ["stats", "--json"], ["show", GOOD, "--json"]):
            capsys.readouterr()
            run(command, f"disk:{tmp_path / 'cache'}", tmp_path)
            for line in capsys.readouterr().out.splitlines():
                json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

    def test_sums_of_a_cache_stay_numbers(self, cache: Cache, facts: Facts) -> None:
        raw = seal(Kind.TEXT, b"odd", b"", facts)
        ask = llm_cached(version=1, cache=cache)(lambda prompt: prompt)
        cache.store.set(ask.cache_key("a"), raw)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheWarning)
            ask("a")
        assert 0 <= cache.stats.seconds_saved < 10
