"""Logs in files: their folder, and what is left of them when writers, disks or others do harm."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from examples_tried import many
from hypothesis import given, settings, strategies as st

from cachewrap import Cache, systems
from cachewrap.cli.guess import holds_seeds
from cachewrap.cli.main import main
from cachewrap.errors import StoreError
from cachewrap.stores.base import Logs
from cachewrap.stores.disk import DiskStore
from cachewrap.stores.jsonl import JsonlStore
from cachewrap.stores.log_files import MAGIC, MOST, pieces_of, record
from cachewrap.systems import files

NAME = "n-baseline-1"
KINDS = ("disk", "jsonl")

FileStore: TypeAlias = DiskStore | JsonlStore


def read(data: bytes) -> list[bytes]:
    return list(pieces_of(io.BytesIO(data).read))


class TestRecords:
    PIECES = st.binary(min_size=1, max_size=40)

    @given(st.lists(PIECES))
    @settings(deadline=None)
    def test_what_was_added_is_read(self, pieces: list[bytes]) -> None:
        assert read(b"".join(map(record, pieces))) == pieces

    @given(st.lists(st.tuples(PIECES, st.integers(0, 60)), max_size=8))
    @settings(max_examples=many(300), deadline=None)
    def test_what_was_cut_is_lost_and_nothing_else(self, given: list[tuple[bytes, int]]) -> None:
        """Each record is cut to so many bytes, as it is where its writer is killed."""
        data = b"".join(record(piece)[:size] for piece, size in given)
        assert read(data) == [piece for piece, size in given if size >= len(record(piece))]

    # Bytes of the format in the wrong places, more often than chance has it.
    GARBAGE = st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.just(MAGIC),
            st.just(MAGIC[:2]),
            st.builds(lambda size: MAGIC + size.to_bytes(4, "little"), st.integers(0, 2**25)),
        ),
        max_size=3,
    ).map(b"".join)

    @given(st.lists(st.tuples(PIECES, GARBAGE), max_size=8), GARBAGE)
    @settings(max_examples=many(300), deadline=None)
    def test_what_lies_between_is_passed_over(
        self, given: list[tuple[bytes, bytes]], before: bytes
    ) -> None:
        data = before + b"".join(record(piece) + garbage for piece, garbage in given)
        assert read(data) == [piece for piece, _ in given]

    @given(st.lists(PIECES, min_size=1, max_size=6), st.data())
    @settings(max_examples=many(300), deadline=None)
    def test_a_changed_byte_costs_one_piece(self, pieces: list[bytes], data: st.DataObject) -> None:
        whole = bytearray(b"".join(map(record, pieces)))
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
        found = read(bytes(whole))
        assert len(found) == len(pieces) - 1
        assert any(found == pieces[:at] + pieces[at + 1 :] for at in range(len(pieces)))

    @pytest.mark.parametrize("piece", [b"", bytes(MOST + 1)], ids=["empty", "too large"])
    def test_a_piece_that_no_log_takes(self, piece: bytes) -> None:
        with pytest.raises(StoreError, match="1 to 16,777,216 bytes"):
            record(piece)

    def test_little_is_held_of_a_large_file(self) -> None:
        file = io.BytesIO(record(os.urandom(5000)) * 4000)
        tracemalloc.start()
        count = sum(1 for _ in pieces_of(file.read))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (count, peak < 2**21) == (4000, True)

    def test_records_that_are_none_are_not_looked_for_without_end(self) -> None:
        forged = (MAGIC + (2**23).to_bytes(4, "little") + bytes(4)) * 2**21
        asked = io.BytesIO(forged)
        assert list(pieces_of(asked.read)) == []
        assert asked.tell() < len(forged)


class Place:
    """A place of one kind: how it is made, and where its logs are."""

    def __init__(self, kind: str, root: Path) -> None:
        self.root = root
        self.path = root if kind == "disk" else root / "answers.jsonl"
        self.folder = root / (".runs" if kind == "disk" else ".answers.jsonl.runs")
        self.kind = DiskStore if kind == "disk" else JsonlStore

    def store(self, seed: str = "41", root: Path | None = None, **options: Any) -> FileStore:
        path = (root or self.root) / self.path.relative_to(self.root)
        return self.kind(path, seed, **options)


@pytest.fixture(params=[pytest.param(kind, marks=pytest.mark.stores(kind)) for kind in KINDS])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(request.param, tmp_path / "place")


@pytest.fixture
def store(place: Place) -> Iterator[FileStore]:
    store = place.store()
    yield store
    store.close()


@pytest.fixture
def logs(store: FileStore) -> Logs:
    return store


@pytest.fixture
def folder(place: Place) -> Path:
    return place.folder


def only(folder: Path) -> Path:
    (file,) = folder.glob("log-*")
    return file


class TestFolder:
    @pytest.mark.parametrize(
        "use",
        [
            pytest.param(lambda logs: logs.logs(), id="logs"),
            pytest.param(lambda logs: list(logs.read_log(NAME)), id="read"),
            pytest.param(lambda logs: logs.remove_log(NAME), id="remove"),
            pytest.param(lambda logs: logs.logs_url, id="url"),
            pytest.param(lambda logs: logs.append_to_log(NAME, []), id="add nothing"),
        ],
    )
    def test_nothing_is_made_before_the_first_write(
        self, logs: Logs, tmp_path: Path, use: Callable[[Logs], object]
    ) -> None:
        use(logs)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.posix("permissions")
    def test_it_is_for_its_owner_alone(self, logs: Logs, folder: Path) -> None:
        logs.append_to_log(NAME, [b"piece"])
        modes = [stat.S_IMODE(one.stat().st_mode) for one in (folder, only(folder))]
        assert modes == [0o700, 0o600]

    def test_git_ignores_it(self, logs: Logs, folder: Path) -> None:
        logs.append_to_log(NAME, [b"piece"])
        assert (folder / ".gitignore").read_text() == "*\n"

    def test_it_is_made_again_where_it_was_removed(self, logs: Logs, folder: Path) -> None:
        for _ in range(2):
            logs.append_to_log(NAME, [b"piece"])
            only(folder).unlink()
            (folder / ".gitignore").unlink()
            folder.rmdir()
        logs.append_to_log(NAME, [b"piece"])
        assert list(logs.read_log(NAME)) == [b"piece"]

    @pytest.mark.parametrize("before", ["an entry", "a log"])
    def test_a_place_that_was_removed_is_not_made_again(
        self, store: FileStore, logs: Logs, place: Place, before: str
    ) -> None:
        if before == "a log":
            logs.append_to_log(NAME, [b"piece"])
        else:
            store.set("0" * 64, b"value")
        store.close()
        shutil.rmtree(place.root)
        logs.append_to_log(NAME, [b"piece"])
        assert not place.root.exists()
        store.set("0" * 64, b"value")
        logs.append_to_log(NAME, [b"piece"])
        assert list(logs.read_log(NAME)) == [b"piece"]

    def test_what_else_lies_in_it_is_no_log(self, logs: Logs, folder: Path) -> None:
        logs.append_to_log(NAME, [b"piece"])
        for name in ("notes.txt", "log-.bin", "log-A.bin", "log-b", "c.bin"):
            (folder / name).write_bytes(b"another's")
        (folder / "log-folder.bin").mkdir()
        assert [facts.name for facts in logs.logs()] == [NAME]

    @pytest.mark.parametrize("name", ["", "1", "../a", "a/b", "A", "a" * 201, "a\n", "é"])
    def test_what_is_no_name_of_a_log(self, logs: Logs, name: str) -> None:
        with pytest.raises(StoreError, match="no name of a log"):
            logs.append_to_log(name, [b"piece"])

    @pytest.mark.posix("links")
    def test_another_way_to_the_place_leads_to_the_same_logs(
        self, logs: Logs, place: Place, tmp_path: Path
    ) -> None:
        logs.append_to_log(NAME, [b"piece"])
        (tmp_path / "link").symlink_to(tmp_path / "place")
        other = place.store("42", tmp_path / "link")
        assert (list(other.read_log(NAME)), other.logs_url) == ([b"piece"], logs.logs_url)


@pytest.mark.posix("links, owners and pipes")
class TestHostile:
    """What somebody else has put there is neither followed nor waited for."""

    @pytest.mark.parametrize("use", ["append", "read", "logs", "remove"])
    def test_a_folder_that_is_a_link(
        self, logs: Logs, folder: Path, tmp_path: Path, use: str
    ) -> None:
        folder.parent.mkdir()
        folder.symlink_to(tmp_path)
        self.fails(logs, use, "a link, which is not followed")

    @pytest.mark.parametrize("use", ["append", "read", "logs", "remove"])
    def test_a_folder_of_another_user(
        self, logs: Logs, folder: Path, use: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        logs.append_to_log(NAME, [b"piece"])
        real = systems.stranger
        monkeypatch.setattr(
            "cachewrap.stores.seed_folders.stranger",
            lambda status: 7 if status.st_ino == folder.stat().st_ino else real(status),
        )
        self.fails(logs, use, r"belongs to another user \(7\)")

    @pytest.mark.parametrize("use", ["append", "read"])
    @pytest.mark.parametrize("sort", ["link", "FIFO", "folder"])
    def test_no_file_in_the_place_of_a_log(
        self, logs: Logs, folder: Path, tmp_path: Path, sort: str, use: str
    ) -> None:
        logs.append_to_log(NAME, [b"piece"])
        place = only(folder)
        place.unlink()
        if sort == "link":
            (tmp_path / "target").write_bytes(b"")
            place.symlink_to(tmp_path / "target")
        elif sort == "FIFO":
            os.mkfifo(place)
        else:
            place.mkdir()
        self.fails(logs, use, f"it is a {sort}")
        assert [facts.name for facts in logs.logs()] == []

    def fails(self, logs: Logs, use: str, why: str) -> None:
        uses: dict[str, Callable[[], object]] = {
            "append": lambda: logs.append_to_log(NAME, [b"piece"]),
            "read": lambda: list(logs.read_log(NAME)),
            "logs": logs.logs,
            "remove": lambda: logs.remove_log(NAME),
        }
        with pytest.raises(StoreError, match=why):
            uses[use]()


class TestHarm:
    def test_a_full_disk_leaves_what_was_there(
        self, logs: Logs, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        logs.append_to_log(NAME, [b"before"])
        size, write = only(folder).stat().st_size, files.write

        def little(file: int, data: memoryview) -> int:
            if len(data) < 5000:
                raise OSError(28, "No space left on device")
            return write(file, data[:1000])

        monkeypatch.setattr(files, "write", little)
        with pytest.raises(StoreError, match=r"cannot write the runs in .*No space left"):
            logs.append_to_log(NAME, [b"x" * 9000])
        monkeypatch.undo()
        assert only(folder).stat().st_size == size
        logs.append_to_log(NAME, [b"after"])
        assert list(logs.read_log(NAME)) == [b"before", b"after"]

    def test_a_short_write_is_taken_up(self, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
        write = files.write
        monkeypatch.setattr(files, "write", lambda file, data: write(file, data[:100]))
        logs.append_to_log(NAME, [b"x" * 999, b"y"])
        assert list(logs.read_log(NAME)) == [b"x" * 999, b"y"]

    @pytest.mark.posix("limits of processes")
    def test_a_file_that_may_not_grow(self, logs: Logs) -> None:
        logs.append_to_log(NAME, [b"before"])
        script = f"""
            import pickle, resource
            logs = pickle.loads({__import__("pickle").dumps(logs)!r})
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
            try:
                logs.append_to_log({NAME!r}, [b"x" * 20_000])
            except Exception as error:
                print(type(error).__name__, error)
            logs.append_to_log({NAME!r}, [b"after"])
        """
        ran = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, check=True
        )
        assert ran.stdout.startswith(b"StoreError cannot write")
        assert list(logs.read_log(NAME)) == [b"before", b"after"]

    def test_a_log_that_was_cut_goes_on(self, logs: Logs, folder: Path) -> None:
        logs.append_to_log(NAME, [b"before", b"torn" * 100])
        file = only(folder)
        file.write_bytes(file.read_bytes()[:-7])
        assert list(logs.read_log(NAME)) == [b"before"]
        logs.append_to_log(NAME, [b"after"])
        assert list(logs.read_log(NAME)) == [b"before", b"after"]

    def test_another_process_that_keeps_it_locked(
        self, logs: Logs, folder: Path, place: Place
    ) -> None:
        logs.append_to_log(NAME, [b"before"])
        impatient = place.store(store_seconds=0.05)
        file = os.open(only(folder), os.O_RDWR)
        with systems.locked(file, alone=True):
            with pytest.raises(StoreError, match="another process kept it locked"):
                impatient.append_to_log(NAME, [b"during"])
            assert list(logs.read_log(NAME)) == [b"before"]
        os.close(file)
        impatient.append_to_log(NAME, [b"after"])
        assert list(logs.read_log(NAME)) == [b"before", b"after"]

    @pytest.mark.posix("files that are removed while they are open")
    def test_a_log_that_is_removed_while_somebody_adds(
        self, logs: Logs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        logs.append_to_log(NAME, [b"old"])
        locked = systems.locked

        def removed(*args: object, **options: object) -> object:
            monkeypatch.undo()
            logs.remove_log(NAME)
            return locked(*args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(systems, "locked", removed)
        logs.append_to_log(NAME, [b"new"])
        assert list(logs.read_log(NAME)) == [b"new"]


class TestNeighbours:
    """Whatever lists, reads or removes entries leaves logs alone."""

    def test_logs_are_no_seed(self, logs: Logs, store: FileStore, place: Place) -> None:
        logs.append_to_log(NAME, [b"piece"])
        (place.folder / "cache.db").write_bytes(b"")
        assert not holds_seeds(str(place.root))
        assert store.seeds() == []

    def test_a_folder_with_logs_alone_has_no_entries(
        self, logs: Logs, place: Place, capsys: pytest.CaptureFixture[str]
    ) -> None:
        logs.append_to_log(NAME, [b"piece"])
        with pytest.raises(SystemExit) as stopped:
            main(["ls", str(place.root)])
        told = capsys.readouterr()
        if place.kind is DiskStore:
            assert (stopped.value.code, told.out) == (0, "no entries\n")
        else:
            assert stopped.value.code == 3
            assert "neither folders of seeds nor files of entries" in told.err

    @pytest.mark.parametrize(
        "words",
        [
            pytest.param(["clear", "--all-seeds", "--yes"], id="clear"),
            pytest.param(["prune", "--older-than", "0s"], id="prune"),
            pytest.param(["copy", "TARGET"], id="copy"),
            pytest.param(["export", "TARGET.jsonl"], id="export"),
        ],
    )
    def test_commands_leave_logs_alone(
        self, logs: Logs, store: FileStore, place: Place, tmp_path: Path, words: list[str]
    ) -> None:
        logs.append_to_log(NAME, [b"piece"])
        Cache(store).set("key", "value")
        target = tmp_path / "target"
        words = [word.replace("TARGET", str(target)) for word in words]
        with pytest.raises(SystemExit) as stopped:
            main([words[0], str(place.path), *words[1:]])
        assert stopped.value.code in (0, None)
        assert list(logs.read_log(NAME)) == [b"piece"]
        assert not list(tmp_path.glob("target*/.*runs")) + list(tmp_path.glob(".target*"))
