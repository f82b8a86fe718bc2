"""The leases of the disk store: byte locks on one file, and the traps of POSIX record locks."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import diskcache
import pytest
from elsewhere import take_and_give

from cachewrap import systems
from cachewrap.errors import StoreError
from cachewrap.stores.base import Claim, new_token
from cachewrap.stores.disk import DiskStore, leases
from cachewrap.testing.stores import key_of

pytestmark = [
    pytest.mark.stores("disk"),
    pytest.mark.skipif(not leases.SUPPORTED, reason="this platform has no record locks"),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskStore]:
    store = DiskStore(tmp_path)
    yield store
    store.close()


@pytest.fixture(scope="module")
def other_process() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def file_of(disk: DiskStore) -> Path:
    (found,) = Path(disk.url.removeprefix("disk://").partition("?")[0]).glob("*/*-leases")
    return found


def is_open(path: Path) -> bool:
    """Whether this process holds a descriptor of the file."""
    wanted = path.stat()
    return any(_same(int(name), wanted) for name in os.listdir("/dev/fd"))


def _same(descriptor: int, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), wanted)
    except OSError:
        return False


class TestTraps:
    def test_other_stores_of_the_folder_open_and_close_it(
        self, disk: DiskStore, other_process: ProcessPoolExecutor, tmp_path: Path
    ) -> None:
        (tmp_path / "link").symlink_to(tmp_path)
        disk.acquire(key_of(1), "one", 60)
        for root in (tmp_path, tmp_path / "link"):
            other = DiskStore(root)
            assert other.acquire(key_of(1), "other", 60) is Claim.HELD
            assert other.acquire(key_of(2), "other", 60) is Claim.TAKEN
            other.release(key_of(2), "other")
            other.close()
        assert other_process.submit(take_and_give, disk, key_of(1)).result(60) is Claim.HELD
        disk.release(key_of(1), "one")
        assert other_process.submit(take_and_give, disk, key_of(1)).result(60) is Claim.TAKEN

    def test_many_folders_do_not_use_up_the_descriptors(
        self, disk: DiskStore, other_process: ProcessPoolExecutor, tmp_path: Path
    ) -> None:
        disk.acquire(key_of(1), "one", 60)
        before = len(os.listdir("/dev/fd"))
        for seed in map(str, range(100, 300)):
            Path(tmp_path, seed).mkdir()
            take_and_give(disk.reseed(seed), key_of(1))
        assert len(os.listdir("/dev/fd")) - before < 100
        assert other_process.submit(take_and_give, disk, key_of(1)).result(60) is Claim.HELD
        disk.release(key_of(1), "one")

    def test_close_keeps_the_file_open_while_a_lease_is_held(self, disk: DiskStore) -> None:
        disk.acquire(key_of(1), "one", 60)
        disk.close()
        assert is_open(file_of(disk))
        disk.release(key_of(1), "one")
        disk.close()
        assert not is_open(file_of(disk))

    @pytest.mark.posix("forks")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_a_forked_child_keeps_no_descriptor(self, disk: DiskStore) -> None:
        disk.acquire(key_of(1), "one", 60)
        child = os.fork()
        if child == 0:
            os._exit(int(is_open(file_of(disk))))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert is_open(file_of(disk))
        disk.release(key_of(1), "one")


class TestFile:
    def test_the_folder_is_made_as_a_write_makes_it(self, disk: DiskStore) -> None:
        disk.acquire(key_of(1), "one", 60)
        disk.release(key_of(1), "one")
        folder = file_of(disk).parent
        assert (folder / ".gitignore").read_text() == "*\n"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert file_of(disk).stat().st_mode & 0o777 == 0o600

    @pytest.mark.posix("removes a folder whose files are open")
    def test_a_folder_that_was_deleted_is_made_anew(
        self, disk: DiskStore, other_process: ProcessPoolExecutor, tmp_path: Path
    ) -> None:
        disk.acquire(key_of(1), "one", 60)
        shutil.rmtree(tmp_path)
        assert disk.acquire(key_of(2), "other", 60) is Claim.TAKEN
        assert other_process.submit(take_and_give, disk, key_of(2)).result(60) is Claim.HELD
        disk.release(key_of(1), "one")
        disk.release(key_of(2), "other")

    def test_it_stays_small_whatever_the_keys(self, disk: DiskStore) -> None:
        for number in range(200):
            disk.acquire(key_of(number), "one", 60)
            disk.release(key_of(number), "one", failed=True)
        assert 0 < file_of(disk).stat().st_size <= 2**16

    @pytest.mark.parametrize("content", [b"x" * 2**16, b"x", b"\xff" * 2**16])
    def test_whatever_it_holds_is_no_failure(self, disk: DiskStore, content: bytes) -> None:
        take_and_give(disk, key_of(1))
        file_of(disk).write_bytes(content)
        assert take_and_give(disk, key_of(1)) is Claim.TAKEN

    def test_diskcache_finds_nothing_unknown_in_it(self, disk: DiskStore) -> None:
        take_and_give(disk, key_of(1))
        with diskcache.Cache(str(file_of(disk).parent)) as plain, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = [str(warning.message) for warning in plain.check()]
        assert not [message for message in found if "leases" in message]

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes all")
    def test_a_folder_that_cannot_be_written(self, disk: DiskStore, tmp_path: Path) -> None:
        disk.set(key_of(1), b"value")
        disk.close()
        (tmp_path / "41").chmod(0o500)
        try:
            with pytest.raises(StoreError, match="lease") as caught:
                disk.acquire(key_of(1), "one", 60)
            assert isinstance(caught.value.__cause__, PermissionError)
        finally:
            (tmp_path / "41").chmod(0o700)


class TestStamps:
    """A lease whose owner lives, and does not renew it, is waited for no longer than it says."""

    def claims(self, disk: DiskStore, token: str, seconds: float) -> list[Claim]:
        return [disk.acquire(key_of(1), token, seconds) for _ in range(3)]

    def test_what_is_not_renewed_has_failed_after_its_time(self, disk: DiskStore) -> None:
        disk.acquire(key_of(1), "one", 60)
        assert self.claims(disk, "other", 0.2) == [Claim.HELD] * 3
        time.sleep(0.25)
        assert self.claims(disk, "other", 0.2)[0] is Claim.FAILED
        assert self.claims(disk, "third", 0.2) == [Claim.HELD] * 3
        disk.release(key_of(1), "one")
        assert disk.acquire(key_of(1), "other", 60) is Claim.TAKEN
        disk.release(key_of(1), "other")

    def test_what_is_renewed_is_held(self, disk: DiskStore) -> None:
        disk.acquire(key_of(1), "one", 60)
        for _ in range(10):
            assert disk.acquire(key_of(1), "other", 0.2) is Claim.HELD
            assert disk.renew(key_of(1), "one", 60) is True
            time.sleep(0.05)
        assert disk.renew(key_of(1), "other", 60) is False
        disk.release(key_of(1), "one")

    def test_the_stamps_of_another_key_in_its_place_are_none(self, disk: DiskStore) -> None:
        number = int(key_of(1)[:16], 16)
        same = f"{number ^ leases._STAMPS:016x}" + "0" * 48
        disk.acquire(key_of(1), "one", 60)
        disk.acquire(same, "its-neighbour", 60)
        for _ in range(5):
            assert disk.acquire(key_of(1), "other", 1.0) is Claim.HELD
            disk.renew(same, "its-neighbour", 60)
            time.sleep(0.05)
        time.sleep(0.8)
        assert disk.acquire(key_of(1), "other", 1.0) is Claim.FAILED
        disk.release(key_of(1), "one")
        disk.release(same, "its-neighbour")

    def test_many_who_came_and_went_are_forgotten(
        self, disk: DiskStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leases, "_WATCHED", 10)
        disk.acquire(key_of(1), "one", 60)
        for number in range(100):
            disk.acquire(key_of(1), f"who goes {number}", 60)
            assert disk.acquire(key_of(1), "who stays", 0.2) is Claim.HELD
        assert max(len(file.watched) for file in leases._process.files.values()) == 10
        time.sleep(0.25)
        assert disk.acquire(key_of(1), "who stays", 0.2) is Claim.FAILED
        disk.release(key_of(1), "one")

    def test_a_lease_that_this_process_left_over_is_waited_for_by_nobody_in_it(
        self, disk: DiskStore
    ) -> None:
        left, now = new_token(), new_token()
        disk.acquire(key_of(1), left, 60)
        assert disk.acquire(key_of(1), now, 60) is Claim.FAILED
        disk.release(key_of(1), left)

    @pytest.mark.parametrize("content", [b"\xff" * 2**18, b"x" * (2**16 + 5), b""])
    def test_whatever_the_file_holds_nobody_waits_longer(
        self, disk: DiskStore, content: bytes
    ) -> None:
        disk.acquire(key_of(1), "one", 60)
        file_of(disk).write_bytes(content)
        assert disk.acquire(key_of(1), "other", 0.1) is Claim.HELD
        time.sleep(0.15)
        assert disk.acquire(key_of(1), "other", 0.1) is Claim.FAILED
        disk.release(key_of(1), "one")

    def test_one_that_cannot_be_written_is_owned_still(
        self, disk: DiskStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, "no space left on device")

        disk.acquire(key_of(1), "one", 60)
        monkeypatch.setattr(systems, "write_at", full)
        assert disk.renew(key_of(1), "one", 60) is True
        disk.release(key_of(1), "one")
