"""What one system has and another lacks: forks, and locks on files."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cachewrap import systems

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


def in_child(check: Callable[[], bool]) -> bool:
    """Whether something holds in a child forked now."""
    child = os.fork()
    if child == 0:
        os._exit(0 if check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.posix("forks")
def test_a_lock_that_was_held_at_the_fork_is_free_in_the_child() -> None:
    module: dict[str, Any] = {"_lock": threading.Lock(), "other": 1}
    systems.renew_in_child(module, _lock=threading.Lock)
    held = module["_lock"]
    with held:
        assert in_child(lambda: not module["_lock"].locked() and module["other"] == 1)
    assert module["_lock"] is held


@pytest.mark.posix("forks")
def test_the_lock_that_the_forking_code_is_inside_of_is_left_as_usual() -> None:
    module: dict[str, Any] = {"_lock": threading.RLock()}
    systems.renew_in_child(module, _lock=threading.RLock)
    child, left = -1, 0
    try:
        with module["_lock"]:
            child = os.fork()
        left = 1
    finally:
        if child == 0:
            os._exit(1 - left)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.posix("forks")
def test_a_function_is_called_in_the_child_alone() -> None:
    called: list[int] = []

    @systems.in_forked_child
    def note() -> None:
        called.append(os.getpid())

    assert in_child(lambda: called == [os.getpid()])
    assert called == []


@pytest.mark.posix("forks")
def test_functions_are_called_around_a_fork() -> None:
    called: list[str] = []
    systems.around_fork(
        lambda: called.append("before"),
        lambda: called.append("parent"),
        lambda: called.append("child"),
    )
    assert in_child(lambda: called == ["before", "child"])
    assert called == ["before", "parent"]


def test_nothing_is_registered_where_processes_cannot_be_forked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(systems, "_register", None)
    called: list[str] = []
    note = systems.in_forked_child(lambda: called.append("child"))
    systems.around_fork(note, note, note)
    systems.renew_in_child({}, _lock=threading.Lock)
    assert called == []


def test_what_is_appended_stands_at_the_end_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    systems.append(str(path), b"one\n")
    systems.append(str(path), b"two\r\n")
    assert path.read_bytes() == b"one\ntwo\r\n"


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="this system follows every link")
def test_a_link_is_not_followed_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(OSError, match="a link, which is not followed"):
        systems.append(str(tmp_path / "link"), b"one\n", follows=False)


def test_who_locks_a_file_waits_for_the_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    passed: list[str] = []

    def write(name: str, entered: threading.Event | None = None) -> None:
        file = systems.open_file(str(path), os.O_RDWR | os.O_CREAT, 0o600)
        with systems.locked(file, alone=True):
            passed.append(f"{name} in")
            if entered is not None:
                entered.set()
                time.sleep(0.1)
            passed.append(f"{name} out")
        os.close(file)

    entered = threading.Event()
    first = threading.Thread(target=write, args=("first", entered))
    first.start()
    entered.wait()
    write("second")
    first.join()
    assert passed == ["first in", "first out", "second in", "second out"]


@pytest.mark.parametrize(
    ("read", "write"),
    [(systems.read_at, systems.write_at), (systems._read_at, systems._write_at)],
    ids=["as the system does", "as others do"],
)
def test_bytes_are_read_and_written_at_a_position(tmp_path: Path, read: Any, write: Any) -> None:
    file = systems.open_file(str(tmp_path / "file"), os.O_RDWR | os.O_CREAT, 0o600)
    os.write(file, b"0123456789")
    os.lseek(file, 2, os.SEEK_SET)
    write(file, b"ab", 5)
    assert (read(file, 4, 4), read(file, 4, 9)) == (b"4ab7", b"9")
    assert os.lseek(file, 0, os.SEEK_CUR) == 2
    os.close(file)


def test_a_system_without_locks_goes_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems, "_fcntl", None)
    monkeypatch.setattr(systems, "_msvcrt", None)
    monkeypatch.setattr(systems, "lock_bytes", systems._lock_bytes)
    path = str(tmp_path / "file")
    files = [systems.open_file(path, os.O_RDWR | os.O_CREAT, 0o600) for _ in range(2)]
    with systems.locked(files[0], alone=True), systems.locked(files[1], alone=True):
        systems.append(path, b"one\n")
    for file in files:
        os.close(file)
    assert (tmp_path / "file").read_bytes() == b"one\n"


@pytest.mark.parametrize(
    "path",
    ["a/b/c", "a/link/c", "out/c", "round/c", "up/d", "./a//b/../x", "missing/../a", "/", "//a"],
)
def test_a_path_without_links_is_that_of_python(tmp_path: Path, path: str) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/link").symlink_to("b")
    (tmp_path / "out").symlink_to(tmp_path / "a/link")
    (tmp_path / "up").symlink_to("a/../a/link/..")
    (tmp_path / "round").symlink_to("a/round")
    (tmp_path / "a/round").symlink_to("../a/b")
    whole = os.path.join(tmp_path, path)
    assert systems.files.real_path(whole) == os.path.realpath(whole).replace("//", "/")


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert systems.files.real_path(str(tmp_path / "a/c")).startswith(str(tmp_path))


def test_folders_are_made_where_they_are_missing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for _ in range(2):
        systems.files.make_folders(str(tmp_path / "a/b/c"))
    assert (tmp_path / "a/b/c").is_dir()
    with pytest.raises(FileExistsError):
        systems.files.make_folders(str(tmp_path / "file"))
    with pytest.raises(NotADirectoryError):
        systems.files.make_folders(str(tmp_path / "file/a/b"))
