"""The disk store: its folder, its neighbours in it, and what it does when the disk does not."""

from __future__ import annotations

import gc
import os
import pickle
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import diskcache
import pytest

from cachewrap.errors import ConfigurationError, StoreError
from cachewrap.stores.disk import DiskStore
from cachewrap.stores.disk.folder import BytesDisk
from cachewrap.testing.stores import key_of

pytestmark = pytest.mark.stores("disk")

Use: TypeAlias = Callable[[DiskStore], object]

VALUE = b"answer"
BIG = b"x" * 2**21  # kept in a file of its own


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / ".cache"


@pytest.fixture
def disk(root: Path) -> Iterator[DiskStore]:
    store = DiskStore(root)
    yield store
    store.close()


def settings_of(folder: Path) -> dict[str, object]:
    con = sqlite3.connect(folder / "cache.db")
    try:
        return dict(con.execute("SELECT key, value FROM Settings").fetchall())
    finally:
        con.close()


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.val"))


class TestFolder:
    def test_it_is_laid_out_as_autogen_does(self, root: Path, disk: DiskStore) -> None:
        disk.set(key_of(1), VALUE)
        assert (root / "41" / "cache.db").is_file()

    @pytest.mark.parametrize(
        "use",
        [
            lambda store: None,
            lambda store: store.check(),
            lambda store: store.url,
            lambda store: store.reseed("42"),
            lambda store: pickle.dumps(store),
            lambda store: store.get(key_of(1)),
            lambda store: list(store.keys()),
            lambda store: store.delete(key_of(1)),
            lambda store: store.clear(),
            lambda store: store.close(),
        ],
        ids=["make", "check", "url", "reseed", "pickle", "get", "keys", "delete", "clear", "close"],
    )
    def test_nothing_is_written_before_the_first_write(self, root: Path, use: Use) -> None:
        use(DiskStore(root))
        assert not root.exists()

    def test_it_is_for_its_owner_alone(self, root: Path, disk: DiskStore) -> None:
        disk.set(key_of(1), BIG)
        modes = [stat.S_IMODE(folder.stat().st_mode) for folder in (root, root / "41")]
        assert modes == [0o700, 0o700]

    def test_a_folder_that_was_there_keeps_its_permissions(self, root: Path) -> None:
        (root / "41").mkdir(parents=True)
        for folder in (root, root / "41"):
            folder.chmod(0o755)
        store = DiskStore(root)
        store.set(key_of(1), VALUE)
        store.close()
        modes = [stat.S_IMODE(folder.stat().st_mode) for folder in (root, root / "41")]
        assert modes == [0o755, 0o755]

    def test_git_ignores_it(self, root: Path, disk: DiskStore) -> None:
        disk.set(key_of(1), VALUE)
        assert (root / "41" / ".gitignore").read_text() == "*\n"

    def test_git_still_sees_the_neighbours(self, root: Path, disk: DiskStore) -> None:
        disk.set(key_of(1), VALUE)
        assert not (root / ".gitignore").exists()

    def test_home_and_variables_are_expanded(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(root))
        monkeypatch.setenv("PLACE", "here")
        assert DiskStore("~/$PLACE").url == DiskStore(root / "here").url

    def test_changing_directory_does_not_move_the_store(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        store = DiskStore("cache")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        store.set(key_of(1), VALUE)
        store.close()
        assert (tmp_path / "cache" / "41" / "cache.db").is_file()

    def test_what_is_written_after_the_folder_was_deleted_is_in_a_new_one(
        self, root: Path, disk: DiskStore
    ) -> None:
        disk.set(key_of(1), VALUE)
        shutil.rmtree(root)
        disk.set(key_of(2), VALUE)
        with_new_eyes = DiskStore(root)
        assert list(with_new_eyes.keys()) == [key_of(2)]
        with_new_eyes.close()

    def test_what_was_in_a_folder_that_was_deleted_is_not_found(
        self, root: Path, disk: DiskStore
    ) -> None:
        disk.set(key_of(1), VALUE)
        shutil.rmtree(root)
        assert disk.get(key_of(1)) is None
        assert list(disk.keys()) == []

    def test_what_another_program_put_in_its_place_is_found_in_every_thread(
        self, root: Path, disk: DiskStore
    ) -> None:
        disk.set(key_of(1), VALUE)
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(disk.get, key_of(1)).result() == VALUE
            shutil.rmtree(root)
            other = DiskStore(root)
            other.set(key_of(2), VALUE)
            for get in (disk.get, lambda key: thread.submit(disk.get, key).result()):
                assert (get(key_of(1)), get(key_of(2))) == (None, VALUE)
            other.close()

    def test_a_store_whose_folder_was_taken_away_can_be_closed(
        self, root: Path, disk: DiskStore
    ) -> None:
        disk.set(key_of(1), VALUE)
        shutil.rmtree(root)
        root.write_text("a file")
        disk.close()

    @pytest.mark.parametrize("seed", ["41", "7", "experiment-1_b", "v1.2", "0", "-1", "A" * 100])
    def test_a_plain_seed_names_its_folder(self, root: Path, seed: str) -> None:
        store = DiskStore(root, seed)
        store.set(key_of(1), VALUE)
        store.close()
        assert [folder.name for folder in root.iterdir()] == [seed]

    @pytest.mark.parametrize(
        "seed",
        ["", ".", "..", "../x", "a/b", "/etc", "a\\b", "a\0b", ".hidden", "dot.", "~", "a b",
         "C:x", "$HOME", "%2E", "\ud800", "ü" * 90, "x" * 101, "x" * 5000],
    )  # fmt: skip
    def test_any_seed_has_one_folder_in_the_root(self, root: Path, seed: str) -> None:
        store = DiskStore(root, seed)
        store.set(key_of(1), VALUE)
        store.close()
        (folder,) = root.iterdir()
        assert (folder / "cache.db").is_file()
        assert folder.name not in {seed, "41"}
        assert len(folder.name) <= 100


class TestValues:
    def test_a_large_value_has_a_file_of_its_own(self, root: Path, disk: DiskStore) -> None:
        disk.set(key_of(1), BIG)
        assert [file.stat().st_size for file in files_in(root)] == [len(BIG)]

    def test_a_file_that_was_written_on_windows_is_read(self, root: Path, disk: DiskStore) -> None:
        disk.set(key_of(1), BIG)
        with closing(sqlite3.connect(root / "41" / "cache.db")) as con, con:
            con.execute("UPDATE Cache SET filename = replace(filename, '/', '\\')")
        assert disk.get(key_of(1)) == BIG
        disk.delete(key_of(1))
        assert files_in(root) == []

    def test_a_value_below_1_mib_has_none(self, root: Path, disk: DiskStore) -> None:
        disk.set(key_of(1), b"x" * (2**20 - 1))
        assert files_in(root) == []

    @pytest.mark.parametrize(
        "end",
        [
            lambda store: store.set(key_of(1), VALUE),
            lambda store: store.set(key_of(1), BIG[:-1]),
            lambda store: store.add(key_of(1), VALUE, over=BIG),
            lambda store: store.delete(key_of(1)),
            lambda store: store.clear(),
        ],
        ids=["set", "set-large", "add-over", "delete", "clear"],
    )
    def test_the_file_goes_with_its_entry(self, root: Path, disk: DiskStore, end: Use) -> None:
        disk.set(key_of(1), BIG)
        (before,) = files_in(root)
        end(disk)
        assert before not in files_in(root)

    def test_the_loser_of_an_add_leaves_no_file(self, root: Path, disk: DiskStore) -> None:
        disk.add(key_of(1), VALUE)
        disk.add(key_of(1), BIG)
        assert files_in(root) == []

    def test_an_entry_whose_file_is_gone_is_absent(self, root: Path, disk: DiskStore) -> None:
        disk.set(key_of(1), BIG)
        files_in(root)[0].unlink()
        assert disk.get(key_of(1)) is None
        assert disk.add(key_of(1), VALUE) == VALUE

    def test_a_failed_write_leaves_no_file(self, root: Path, disk: DiskStore) -> None:
        disk.set(key_of(1), VALUE)
        con = sqlite3.connect(root / "41" / "cache.db")
        con.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON Cache BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
        con.close()
        with pytest.raises(StoreError, match="full"):
            disk.set(key_of(2), BIG)
        assert files_in(root) == []

    def test_expired_entries_are_removed_by_later_writes(self, root: Path, disk: DiskStore) -> None:
        disk.set(key_of(1), BIG, expires=time.time() + 0.01)
        time.sleep(0.02)
        disk.set(key_of(2), VALUE)
        assert files_in(root) == []

    def test_some_later_addition_removes_expired_entries(self, root: Path, disk: DiskStore) -> None:
        disk.set(key_of(1), BIG, expires=time.time() + 0.01)
        time.sleep(0.02)
        for n in range(2, 12):
            disk.add(key_of(n), VALUE)
        assert files_in(root) == []

    def test_diskcache_finds_expired_entries_in_the_index_that_names_no_others(
        self, root: Path, disk: DiskStore
    ) -> None:
        disk.set(key_of(1), VALUE, expires=time.time() + 60)
        disk.add(key_of(2), VALUE)
        with diskcache.Cache(str(root / "41"), disk=BytesDisk) as cache:
            (sql,) = cache._sql("SELECT sql FROM sqlite_master WHERE name = 'Cache_expire_time'")
            assert sql[0].endswith("WHERE expire_time IS NOT NULL")
            assert (cache.expire(time.time() + 61), len(cache)) == (1, 1)


class Mine:
    """Unpickling this makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.trace),)


class TestNeighbours:
    """AutoGen keeps pickles under text keys in the very same folder."""

    @pytest.fixture
    def autogen(self, root: Path) -> Iterator[Any]:
        with diskcache.Cache(str(root / "41")) as cache:
            cache["a long text"] = {"answer": 1}
            cache["another"] = "text"
            yield cache

    def test_its_rows_are_not_listed(self, disk: DiskStore, autogen: Any) -> None:
        disk.set(key_of(1), VALUE)
        assert list(disk.keys()) == [key_of(1)]

    def test_its_rows_are_not_cleared(self, disk: DiskStore, autogen: Any) -> None:
        disk.set(key_of(1), VALUE)
        assert disk.clear() == 1
        assert (autogen["a long text"], autogen["another"]) == ({"answer": 1}, "text")

    def test_its_rows_are_not_evicted(self, root: Path, autogen: Any) -> None:
        store = DiskStore(root, max_bytes=1)
        for number in range(10):
            store.set(key_of(number), VALUE)
        store.close()
        assert (autogen["a long text"], autogen["another"]) == ({"answer": 1}, "text")

    def test_its_settings_stay(self, root: Path, disk: DiskStore, autogen: Any) -> None:
        before = settings_of(root / "41")
        disk.set(key_of(1), VALUE)
        disk.get(key_of(1))
        disk.close()
        assert settings_of(root / "41") == {**before, "count": 3}

    def test_it_works_on_in_a_folder_made_here(self, root: Path, disk: DiskStore) -> None:
        disk.set(key_of(1), VALUE)
        with diskcache.Cache(str(root / "41")) as autogen:
            autogen.set("key", {"answer": 1})
            assert autogen.get("key") == {"answer": 1}
        assert disk.get(key_of(1)) == VALUE

    @pytest.mark.parametrize("value", [VALUE, BIG], ids=["in the row", "in a file"])
    def test_plain_diskcache_reads_our_entries(
        self, root: Path, disk: DiskStore, value: bytes
    ) -> None:
        disk.set(key_of(1), value)
        with diskcache.Cache(str(root / "41")) as plain:
            assert plain[bytes.fromhex(key_of(1))] == value

    def test_plain_diskcache_finds_the_folder_in_order(self, root: Path, disk: DiskStore) -> None:
        disk.set(key_of(1), VALUE)
        disk.set(key_of(2), BIG)
        with diskcache.Cache(str(root / "41")) as plain, warnings.catch_warnings():
            warnings.simplefilter("always")
            found = [str(warning.message) for warning in plain.check()]
        assert found == [f"unknown file: {root / '41' / '.gitignore'}"]

    def test_a_folder_made_here_is_culled_by_nobody(self, root: Path, disk: DiskStore) -> None:
        disk.set(key_of(1), VALUE)
        with diskcache.Cache(str(root / "41"), size_limit=1) as plain:
            for number in range(50):
                plain[number] = "x" * 1000
        assert disk.get(key_of(1)) == VALUE

    def test_a_pickled_row_under_our_key_is_no_entry_and_is_replaced(
        self, root: Path, tmp_path: Path, disk: DiskStore, autogen: Any
    ) -> None:
        autogen[bytes.fromhex(key_of(1))] = Mine(tmp_path / "unpickled")
        assert (disk.get(key_of(1)), disk.add(key_of(1), VALUE)) == (b"", b"")
        assert disk.add(key_of(1), VALUE, over=b"") == VALUE
        assert not (tmp_path / "unpickled").exists()

    def test_listing_and_clearing_unpickle_nothing(
        self, root: Path, tmp_path: Path, disk: DiskStore, autogen: Any
    ) -> None:
        autogen[("pickled", "key")] = Mine(tmp_path / "unpickled")
        autogen[bytes.fromhex(key_of(1))] = Mine(tmp_path / "unpickled")
        assert list(disk.keys()) == []
        assert disk.clear() == 0
        assert not (tmp_path / "unpickled").exists()

    def test_deleting_a_refused_row_mends_the_key(self, disk: DiskStore, autogen: Any) -> None:
        autogen[bytes.fromhex(key_of(1))] = {"pickled": 1}
        assert disk.delete(key_of(1)) is True
        assert disk.add(key_of(1), VALUE) == VALUE

    def test_a_row_cannot_name_a_file_outside_the_folder(
        self, root: Path, tmp_path: Path, disk: DiskStore
    ) -> None:
        secret = tmp_path / "secret"
        secret.write_bytes(b"secret")
        disk.set(key_of(1), BIG)
        con = sqlite3.connect(root / "41" / "cache.db", isolation_level=None)
        con.execute("UPDATE Cache SET filename = '../../secret'")
        con.close()
        assert disk.get(key_of(1)) == b""
        disk.clear()
        assert secret.read_bytes() == b"secret"


class TestBytesDisk:
    """Our part of diskcache, in diskcache's own hands."""

    def test_keys_round_trip(self, tmp_path: Path) -> None:
        with diskcache.Cache(str(tmp_path), disk=BytesDisk) as cache:
            cache[key_of(1)] = VALUE
            assert (list(cache), cache[key_of(1)]) == ([key_of(1)], VALUE)

    @pytest.mark.parametrize("value", ["text", 1, None, {"a": 1}, bytearray(b"x")])
    def test_anything_but_bytes_is_refused(self, tmp_path: Path, value: object) -> None:
        with diskcache.Cache(str(tmp_path), disk=BytesDisk) as cache, pytest.raises(StoreError):
            cache[key_of(1)] = value

    def test_a_pickled_key_is_refused(self, tmp_path: Path) -> None:
        with diskcache.Cache(str(tmp_path / "c")) as plain:
            plain[Mine(tmp_path / "unpickled")] = 1
        with (
            diskcache.Cache(str(tmp_path / "c"), disk=BytesDisk) as cache,
            pytest.raises(StoreError),
        ):
            list(cache)
        assert not (tmp_path / "unpickled").exists()


class TestSize:
    def test_nothing_is_evicted_by_default(self, root: Path, disk: DiskStore) -> None:
        with diskcache.Cache(str(root / "41"), size_limit=1, cull_limit=100):
            pass  # a program that culls at one byte made the folder
        for number in range(50):
            disk.set(key_of(number), b"x" * 10_000)
        assert len(list(disk.keys())) == 50

    def test_what_was_not_used_for_longest_goes_first(self, root: Path) -> None:
        store = DiskStore(root, max_bytes=400_000)
        for number in range(3):
            store.set(key_of(number), b"x" * 100_000)
        store.get(key_of(0))
        store.set(key_of(3), b"x" * 100_000)
        kept = {number for number in range(4) if store.get(key_of(number)) is not None}
        store.close()
        assert kept == {0, 2, 3}

    def test_use_is_remembered_across_a_close(self, root: Path) -> None:
        store = DiskStore(root, max_bytes=400_000)
        for number in range(3):
            store.set(key_of(number), b"x" * 100_000)
        store.get(key_of(0))
        store.close()
        other = DiskStore(root, max_bytes=400_000)
        other.set(key_of(3), b"x" * 100_000)
        assert (other.get(key_of(0)) is None, other.get(key_of(1)) is None) == (False, True)
        other.close()

    def test_files_count(self, root: Path) -> None:
        store = DiskStore(root, max_bytes=2 * len(BIG) + 100_000)
        for number in range(5):
            store.set(key_of(number), BIG)
        assert sorted(store.keys()) == sorted([key_of(3), key_of(4)])
        assert len(files_in(root)) == 2
        store.close()

    def test_the_folder_stays_below_the_size(self, root: Path) -> None:
        store = DiskStore(root, max_bytes=500_000)
        for number in range(500):
            store.add(key_of(number), os.urandom(3000))
        store.close()
        used = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
        assert 250_000 < used <= 500_000

    def test_the_entry_just_stored_stays_however_large(self, root: Path) -> None:
        store = DiskStore(root, max_bytes=1)
        store.set(key_of(1), VALUE)
        store.set(key_of(2), BIG)
        assert list(store.keys()) == [key_of(2)]
        store.close()

    def test_the_size_is_no_setting_of_the_folder(self, root: Path, disk: DiskStore) -> None:
        small = DiskStore(root, max_bytes=1)
        small.set(key_of(1), VALUE)
        small.close()
        for number in range(3):
            disk.set(key_of(number), VALUE)
        assert len(list(disk.keys())) == 3

    def test_it_survives_pickling_and_reseeding(self, root: Path) -> None:
        for store in (
            pickle.loads(pickle.dumps(DiskStore(root, max_bytes=1))),
            DiskStore(root, max_bytes=1).reseed("42"),
        ):
            store.set(key_of(1), VALUE)
            store.set(key_of(2), VALUE)
            assert list(store.keys()) == [key_of(2)]
            store.close()

    @pytest.mark.parametrize("size", [0, -1])
    def test_a_size_that_cannot_be_is_refused(self, root: Path, size: int) -> None:
        with pytest.raises(ConfigurationError, match="max_bytes"):
            DiskStore(root, max_bytes=size)


def as_somebody_else(code: str, *arguments: object) -> str:
    """Run the code as a user whom permissions bind, which the superuser is not."""
    preamble = "import os, sys\n"
    preamble += "from cachewrap.errors import StoreError\n"
    preamble += "from cachewrap.stores.disk import DiskStore\n"
    preamble += "if os.getuid() == 0: os.setuid(65534)\n"
    done = subprocess.run(
        [sys.executable, "-c", preamble + textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that another user reaches."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)
        for place in [Path(folder), *Path(folder).rglob("*")]:
            if place.is_dir():
                place.chmod(0o755)


class TestFaults:
    REPORT = """
        store = DiskStore(sys.argv[1])
        for use in (store.check, lambda: store.set("0" * 64, b"")):
            try:
                use()
            except StoreError as error:
                print(error)
    """

    def test_a_root_that_is_a_file(self, root: Path) -> None:
        root.write_text("not a folder")
        for use in (DiskStore(root).check, lambda: DiskStore(root).set(key_of(1), VALUE)):
            with pytest.raises(StoreError, match=str(root)):
                use()

    def test_a_root_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("not a folder")
        with pytest.raises(StoreError, match=r"file is not a folder.*cache_path_root"):
            DiskStore(tmp_path / "file" / "a" / "b").check()

    @pytest.mark.posix("users")
    def test_a_folder_that_cannot_be_written(self, open_path: Path) -> None:
        said = as_somebody_else(self.REPORT, open_path / ".cache").splitlines()
        assert len(said) == 2
        assert f"{open_path} cannot be written by this user" in said[0]
        assert "Permission denied" in said[1]

    @pytest.mark.posix("users")
    def test_a_store_that_cannot_be_written(self, open_path: Path) -> None:
        store = DiskStore(open_path)
        store.set(key_of(1), VALUE)
        store.close()
        (open_path / "41").chmod(0o555)
        said = as_somebody_else(self.REPORT, open_path).splitlines()
        assert len(said) == 2
        assert "cannot be read and written by this user" in said[0]

    @pytest.mark.posix("users")
    def test_a_store_that_cannot_be_written_can_be_read(self, open_path: Path) -> None:
        store = DiskStore(open_path)
        store.set(key_of(1), VALUE)
        store.set(key_of(2), BIG)
        store.close()
        for place in [open_path / "41", *(open_path / "41").rglob("*")]:
            place.chmod(0o555 if place.is_dir() else 0o444)
        code = """
            store = DiskStore(sys.argv[1], max_bytes=10**9)
            print(*[len(store.get(key)) for key in sys.argv[2:]], len(list(store.keys())))
            store.close()
        """
        said = as_somebody_else(code, open_path, key_of(1), key_of(2))
        assert said.split() == [str(len(VALUE)), str(len(BIG)), "2"]

    @pytest.mark.parametrize("content", [b"not a database at all" * 100, b"\0" * 4096])
    def test_a_file_that_is_no_database(self, root: Path, content: bytes) -> None:
        (root / "41").mkdir(parents=True)
        (root / "41" / "cache.db").write_bytes(content)
        store = DiskStore(root)
        reason = r"no database at all.*Delete it or move it away"
        with pytest.raises(StoreError, match=reason):
            store.get(key_of(1))
        with pytest.raises(StoreError, match=reason):
            store.add(key_of(1), VALUE)
        with pytest.raises(StoreError, match=reason):
            store.check()

    def test_a_database_that_is_being_made(self, root: Path) -> None:
        (root / "41").mkdir(parents=True)
        (root / "41" / "cache.db").touch()
        DiskStore(root).check()

    def test_a_damaged_database(self, root: Path) -> None:
        store = DiskStore(root)
        for number in range(200):
            store.set(key_of(number), b"x" * 1000)
        store.close()
        database = root / "41" / "cache.db"
        content = bytearray(database.read_bytes())
        content[4096:] = os.urandom(len(content) - 4096)
        database.write_bytes(content)
        with pytest.raises(StoreError, match="is damaged") as caught:
            deque((store.get(key_of(number)) for number in range(200)), maxlen=0)
        assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)
        store.close()

    def test_an_empty_file_becomes_a_database(self, root: Path, disk: DiskStore) -> None:
        (root / "41").mkdir(parents=True)
        (root / "41" / "cache.db").touch()
        assert disk.get(key_of(1)) is None
        assert disk.add(key_of(1), VALUE) == VALUE

    def test_readers_do_not_wait_for_a_writer(self, root: Path, disk: DiskStore) -> None:
        disk.set(key_of(1), VALUE)
        con = sqlite3.connect(root / "41" / "cache.db", isolation_level=None)
        con.execute("BEGIN IMMEDIATE")
        try:
            assert disk.get(key_of(1)) == VALUE
        finally:
            con.close()

    def test_a_writer_waits_for_another(self, root: Path, disk: DiskStore) -> None:
        disk.set(key_of(1), VALUE)
        con = sqlite3.connect(
            root / "41" / "cache.db", isolation_level=None, check_same_thread=False
        )
        con.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.2, con.rollback)
        release.start()
        assert disk.add(key_of(2), VALUE) == VALUE
        release.join()
        con.close()

    def test_returned_writes_survive_kill_9(self, root: Path) -> None:
        code = """
            import sys
            from cachewrap.stores.disk import DiskStore
            from cachewrap.testing.stores import key_of
            store = DiskStore(sys.argv[1])
            number = 0
            while True:
                store.add(key_of(number), b"%d" % number * (200_000 if number % 7 == 0 else 1))
                print(number, flush=True)
                number += 1
        """
        for _ in range(3):
            with subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(code), str(root)], stdout=subprocess.PIPE
            ) as writer:
                assert writer.stdout is not None
                for _ in range(60):
                    writer.stdout.readline()
                writer.kill()
                rest = writer.stdout.read().split(b"\n")
            returned = max([60, *(int(line) for line in rest[:-1] if line)])
            store = DiskStore(root)
            for number in range(returned):
                times = 200_000 if number % 7 == 0 else 1
                assert store.get(key_of(number)) == b"%d" % number * times
            store.close()


class TestConnections:
    def test_close_closes_those_of_every_thread(self, disk: DiskStore, root: Path) -> None:
        with ThreadPoolExecutor(4) as threads:
            start = threading.Barrier(4)

            def write(number: int) -> None:
                start.wait()
                disk.set(key_of(number), VALUE)

            list(threads.map(write, range(4)))
            disk.close()
            # SQLite removes its log when the last connection is closed.
            assert not (root / "41" / "cache.db-wal").exists()

    def test_a_thread_that_ends_closes_its_own(self, disk: DiskStore, root: Path) -> None:
        thread = threading.Thread(target=disk.set, args=(key_of(1), VALUE))
        thread.start()
        thread.join()
        assert not (root / "41" / "cache.db-wal").exists()

    def test_a_store_that_is_dropped_closes_them(self, root: Path) -> None:
        DiskStore(root).set(key_of(1), VALUE)
        assert not (root / "41" / "cache.db-wal").exists()

    def test_opening_what_exists_writes_nothing(self, root: Path, disk: DiskStore) -> None:
        disk.set(key_of(1), VALUE)
        disk.close()
        before = (root / "41" / "cache.db").read_bytes()
        other = DiskStore(root)
        assert other.get(key_of(1)) == VALUE
        log = root / "41" / "cache.db-wal"
        assert log.stat().st_size == 0
        other.close()
        assert (root / "41" / "cache.db").read_bytes() == before

    @pytest.mark.posix("forks")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_no_connection_crosses_a_fork(self, disk: DiskStore, root: Path) -> None:
        gc.collect()  # connections of diskcache's own, which are dropped
        disk.set(key_of(1), VALUE)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            held = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                    if os.path.lexists(f"/proc/self/fd/{fd}")]  # fmt: skip
            os.write(writing, b"%d" % sum(name.startswith(f"{root}/") for name in held))
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        with open(reading, "rb") as pipe:
            assert pipe.read() == b"0"

    @pytest.mark.posix("forks")
    def test_threads_that_fork_at_once_hold_up_nobody(self, root: Path) -> None:
        code = """
            import os, sys, threading
            from cachewrap.stores.disk import DiskStore
            stores = [DiskStore(sys.argv[1], str(seed)) for seed in range(4)]
            def fork():
                for _ in range(50):
                    child = os.fork()
                    if not child:
                        os._exit(0)
                    os.waitpid(child, 0)
            threads = [threading.Thread(target=fork, daemon=True) for _ in range(4)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                for store in stores:
                    store.set("0" * 64, b"answer")
        """
        run = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), str(root)]
        assert subprocess.run(run, timeout=60, check=False).returncode == 0

    def test_many_processes_open_a_new_folder_at_once(self, root: Path) -> None:
        code = """
            import sys
            from cachewrap.stores.disk import DiskStore
            store = DiskStore(sys.argv[1])
            sys.stdin.readline()
            sys.stdout.write(store.add("0" * 64, sys.argv[2].encode()).decode())
            store.close()
        """
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(code), str(root), f"writer {number}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(6)
        ]
        answers = {writer.communicate("go\n", timeout=60)[0] for writer in writers}
        assert [writer.returncode for writer in writers] == [0] * 6
        store = DiskStore(root)
        assert answers == {(store.get("0" * 64) or b"").decode()}
        store.close()
