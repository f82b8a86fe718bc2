"""Files of the cache's own: links are not followed, what is no file is not read, owners count."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from cachewrap import Cache, CacheWarning, llm_cached, systems
from cachewrap.cli.main import main
from cachewrap.errors import StoreError
from cachewrap.stores.disk import DiskStore
from cachewrap.stores.jsonl import JsonlStore
from cachewrap.testing.stores import key_of

pytestmark = pytest.mark.stores("disk")

posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no such files")

BIG = b"x" * 2**20
PRECIOUS = b"precious"
PATIENCE = 20.0
"""Seconds until something is taken to hang."""

Plant = Callable[[Path], object]


def link(path: Path) -> None:
    path.symlink_to(path.parent.parent.parent / "elsewhere")


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def unix_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the address of a socket has room for a short path alone
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


PLANTS: dict[str, Plant] = {
    "link": link,
    "FIFO": lambda path: os.mkfifo(path),
    "folder": lambda path: path.mkdir(),
    "link to a device": device,
    "socket": unix_socket,
}
NAMES = [
    "cache.db",
    "cache.db-wal",
    "cache.db-shm",
    "cache.db-journal",
    "cache.db-leases",
    ".gitignore",
]


def within(work: Callable[[], object]) -> None:
    """Do something that must come to an end."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "it hangs"
    if failed:
        raise failed[0]


def call_twice(make: Callable[[], Cache]) -> list[str]:
    """The answers to two calls of a program, whatever is wrong with its cache."""
    answers = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        for prompt in ("a", "b"):
            cache = make()
            ask = llm_cached(version=1, cache=cache)(lambda prompt: f"{prompt}!" * 2**20)
            answers.append(ask(prompt)[:2])
            with suppress(StoreError):  # a block says so before its first call
                cache.check()
            cache.close()
    return answers


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere"
    path.write_bytes(PRECIOUS)
    return path


@posix
@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("filled", [False, True], ids=["an empty folder", "a folder in use"])
def test_what_is_planted_in_a_folder_is_left_alone(
    tmp_path: Path, elsewhere: Path, name: str, plant: Plant, filled: bool
) -> None:
    root = tmp_path / "root"
    (root / "41").mkdir(parents=True)
    if filled:
        call_twice(lambda: Cache.disk(41, root))
        (root / "41" / name).unlink(missing_ok=True)
    plant(root / "41" / name)
    before = sorted(path.name for path in tmp_path.iterdir())

    def use() -> None:
        assert call_twice(lambda: Cache.disk(41, root)) == ["a!", "b!"]

    within(use)
    assert elsewhere.read_bytes() == PRECIOUS
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@posix
@pytest.mark.parametrize("name", NAMES[:5])
@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
@pytest.mark.parametrize(
    "words", [("ls",), ("stats",), ("verify",), ("clear", "--yes"), ("prune", "--older-than", "1d")]
)
def test_commands_end_and_say_why(
    tmp_path: Path,
    elsewhere: Path,
    name: str,
    plant: Plant,
    words: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "root"
    with closing(DiskStore(root)) as store:
        store.set(key_of(1), BIG)
    (root / "41" / name).unlink(missing_ok=True)
    plant(root / "41" / name)
    stopped: list[object] = []

    def run() -> None:
        with pytest.raises(SystemExit) as ended:
            main([words[0], "--disk", str(root), *words[1:]])
        stopped.append(ended.value.code)

    within(run)
    err = capsys.readouterr().err
    if name == "cache.db-leases":
        assert stopped[0] == (1 if words == ("verify",) else 0)  # as it holds no entry
    else:
        assert (stopped[0] != 0, "Traceback" in err, len(err.splitlines())) == (True, False, 1)
    assert elsewhere.read_bytes() == PRECIOUS


@posix
@pytest.mark.parametrize("plant", list(PLANTS.values())[1:3] + [unix_socket])
def test_a_cassette_that_is_no_file(tmp_path: Path, plant: Plant) -> None:
    path = tmp_path / "answers.jsonl"
    plant(path)
    within(lambda: call_twice(lambda: Cache.jsonl(path)))
    store = JsonlStore(path)
    for use in (
        store.check,
        lambda: store.get(key_of(1)),
        lambda: store.set(key_of(1), b"value"),
        lambda: list(store.keys()),
        store.clear,
        store.seeds,
    ):
        with pytest.raises(StoreError, match=r"it is a |is not a file"):
            within(use)


@posix
def test_a_link_that_takes_the_place_of_a_cassette_is_not_followed(
    tmp_path: Path, elsewhere: Path
) -> None:
    path = tmp_path / "answers.jsonl"
    store = JsonlStore(path)
    path.symlink_to(elsewhere)
    with pytest.raises(StoreError, match="a link, which is not followed"):
        store.set(key_of(1), b"value")
    assert elsewhere.read_bytes() == PRECIOUS


@posix
@pytest.mark.parametrize("deep", [0, 1, 2], ids=["the first folder", "the second", "the file"])
def test_a_link_among_the_value_files_is_not_followed(tmp_path: Path, deep: int) -> None:
    store = DiskStore(tmp_path / "root")
    store.set(key_of(1), BIG)
    (value,) = (tmp_path / "root").rglob("*.val")
    place = (value.parent.parent, value.parent, value)[deep]
    there = tmp_path / "there"
    shutil.move(place, there)
    place.symlink_to(there)
    assert store.get(key_of(1)) == b""
    assert store.add(key_of(1), BIG, over=b"") == BIG
    assert store.get(key_of(1)) == BIG
    assert there.exists()
    if deep < 2:
        assert list(there.rglob("*.val"))
    store.close()


@posix
def test_the_folder_of_a_seed_may_not_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "41").symlink_to(tmp_path / "there")
    store = DiskStore(tmp_path / "root")
    for use in (store.check, lambda: store.set(key_of(1), b"value")):
        with pytest.raises(StoreError, match="a link, which is not followed"):
            use()
    with pytest.raises(StoreError, match="a link, which is not followed"):
        store.acquire(key_of(1), "token", 1.0)
    assert list((tmp_path / "there").iterdir()) == []


@posix
def test_links_that_the_user_names_are_followed(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / ".cache").symlink_to(tmp_path / "scratch")
    with closing(DiskStore(tmp_path / ".cache")) as store:
        store.check()
        store.set(key_of(1), BIG)
        assert store.get(key_of(1)) == BIG


def test_a_seed_that_is_a_link_does_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    for seed in ("41", "42"):
        with closing(DiskStore(root, seed)) as store:
            store.set(key_of(1), b"value")
    shutil.move(root / "42", tmp_path / "there")
    (root / "42").symlink_to(tmp_path / "there")
    with pytest.warns(CacheWarning, match="left out the seed"):
        assert DiskStore(root).seeds() == ["41"]


# -- who may use whose ---------------------------------------------------------------------------


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, int]:
    """A root with a cache in it, and its owner, who is not the user."""
    root = tmp_path / "root"
    with closing(DiskStore(root)) as store:
        store.set(key_of(1), b"value")
    owner = os.getuid() or 1234
    for path in (root, root / "41"):
        os.chown(path, owner, -1)
    monkeypatch.setattr(systems.files, "user", lambda: owner + 1)
    return root, owner


@posix
class TestOwners:
    @pytest.mark.parametrize(
        "use",
        [
            lambda store: store.check(),
            lambda store: store.get(key_of(1)),
            lambda store: store.add(key_of(1), b"other"),
            lambda store: store.set(key_of(1), b"other"),
            lambda store: store.delete(key_of(1)),
            lambda store: store.clear(),
            lambda store: list(store.keys()),
            lambda store: store.acquire(key_of(1), "token", 1.0),
        ],
        ids=["check", "get", "add", "set", "delete", "clear", "keys", "acquire"],
    )
    def test_a_folder_of_another_user_is_refused(
        self, strange: tuple[Path, int], use: Callable[[DiskStore], object]
    ) -> None:
        root, owner = strange
        before = sorted(path.name for path in (root / "41").iterdir())
        with pytest.raises(StoreError, match=f"another user \\({owner}\\).*{systems.OWNERS}"):
            use(DiskStore(root))
        assert sorted(path.name for path in (root / "41").iterdir()) == before

    def test_it_costs_a_call_one_warning(self, strange: tuple[Path, int]) -> None:
        ask = llm_cached(version=1, cache=Cache.disk(41, strange[0]))(lambda prompt: prompt)
        with pytest.warns(CacheWarning, match="belongs to another user") as warned:
            answers = [ask("a"), ask("b")]
        assert answers == ["a", "b"]
        assert len(warned) == 1

    @pytest.mark.parametrize("trusted", ["{owner}", "any", "7, {owner}"])
    def test_an_owner_who_is_trusted(
        self, strange: tuple[Path, int], trusted: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(systems.OWNERS, trusted.format(owner=strange[1]))
        store = DiskStore(strange[0])
        store.check()
        assert store.get(key_of(1)) == b"value"

    def test_root_uses_all(
        self, strange: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(systems.files, "user", lambda: 0)
        assert DiskStore(strange[0]).get(key_of(1)) == b"value"

    def test_a_system_without_owners(
        self, strange: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(systems.files, "user", None)
        assert DiskStore(strange[0]).get(key_of(1)) == b"value"

    def test_the_folder_of_a_seed_counts_as_well(
        self, strange: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root, owner = strange
        if os.getuid():
            pytest.skip("it takes root to give a folder away")
        os.chown(root, owner + 1, -1)
        with pytest.raises(StoreError, match=r"41 belongs to another user"):
            DiskStore(root).get(key_of(1))

    @pytest.fixture(params=["a file", "nothing"])
    def link(self, strange: tuple[Path, int], request: pytest.FixtureRequest) -> Iterator[Path]:
        """A link that is another user's, to a file that is not written."""
        root, owner = strange
        there = root.parent / "there"
        if request.param == "a file":
            there.write_bytes(b"")
        link = root.parent / "link"
        link.symlink_to(there)
        os.chown(link, owner, -1, follow_symlinks=False)
        yield link
        assert (there.read_bytes() if there.exists() else b"") == b""

    def test_a_cassette_is_no_link_of_another_user(self, link: Path) -> None:
        store = JsonlStore(link)
        for use in (store.check, lambda: store.set(key_of(1), b"value")):
            with pytest.raises(StoreError, match="a link"):
                use()

    @pytest.mark.parametrize("words", [["report", "--force", "--output"], ["export"]])
    def test_no_command_writes_to_a_link_of_another_user(
        self, link: Path, words: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        store = JsonlStore(link.parent / "own.jsonl")
        store.set(key_of(1), b"value")
        with pytest.raises(SystemExit) as ended:
            main([*words, str(link), "--url", store.url])
        assert ended.value.code == 3
        assert "cannot write" in capsys.readouterr().err

    @pytest.mark.parametrize(("mode", "told"), [(0o777, True), (0o1777, False), (0o775, False)])
    def test_a_folder_that_all_may_change_is_told(
        self, tmp_path: Path, mode: int, told: bool
    ) -> None:
        root = tmp_path / "root"
        root.mkdir()
        root.chmod(mode)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            for _ in range(2):
                with closing(DiskStore(root)) as store:
                    store.set(key_of(1), b"value")
                    assert store.get(key_of(1)) == b"value"
        assert len(warned) == told

    @pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="it takes root")
    def test_a_real_other_user(self) -> None:
        with ExitStack() as stack:
            top = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            top.chmod(0o755)
            with closing(DiskStore(top / "root")) as store:
                store.set(key_of(1), b"value")
            for path in (top / "root", *(top / "root").rglob("*")):
                os.chown(path, 1234, -1)
                path.chmod(0o777)
            program = (
                "import os, sys; from cachewrap.stores.disk import DiskStore\n"
                "os.setuid(4321)\n"
                "try: DiskStore(sys.argv[1]).get('0' * 64)\n"
                "except Exception as error: print(type(error).__name__, error)"
            )
            words = [sys.executable, "-c", program, str(top / "root")]
            done = subprocess.run(words, capture_output=True, text=True)
        assert done.stdout.startswith("StoreError"), done.stderr
        assert "another user (1234)" in done.stdout


# -- who may read what is made -------------------------------------------------------------------


@pytest.fixture
def open_mask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes_of(folder: Path) -> set[tuple[str, int]]:
    """The permissions of all that is in a folder: of folders, and of files."""
    found = set()
    for path in folder.rglob("*"):
        kind = "folder" if path.is_dir() else "file"
        found.add((kind, stat.S_IMODE(path.stat().st_mode)))
    return found


@posix
@pytest.mark.usefixtures("open_mask")
class TestModes:
    def test_of_a_folder_that_was_open_to_all_readers(self, tmp_path: Path) -> None:
        (tmp_path / "root" / "41").mkdir(parents=True)
        for path in (tmp_path / "root", tmp_path / "root" / "41"):
            path.chmod(0o755)
        with closing(DiskStore(tmp_path / "root")) as store:
            store.set(key_of(1), BIG)
            store.acquire(key_of(2), "token", 1.0)
            store.release(key_of(2), "token")
            inside = modes_of(tmp_path / "root" / "41")
        assert inside == {("file", 0o600), ("folder", 0o700)}

    def test_of_what_is_new(self, tmp_path: Path) -> None:
        with closing(DiskStore(tmp_path / "root")) as store:
            store.set(key_of(1), BIG)
            assert modes_of(tmp_path) == {("file", 0o600), ("folder", 0o700)}

    def test_of_folders_above_it_that_are_new(self, tmp_path: Path) -> None:
        with closing(DiskStore(tmp_path / "a" / "b" / "root")) as store:
            store.set(key_of(1), BIG)
        above = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")]
        assert above == [0o755, 0o755]

    def test_of_a_cassette(self, tmp_path: Path) -> None:
        store = JsonlStore(tmp_path / "new" / "answers.jsonl")
        store.set(key_of(1), b"value")
        assert modes_of(tmp_path) == {("file", 0o600), ("folder", 0o700)}

    @pytest.mark.parametrize("mode", [0o644, 0o664, 0o755, 0o600])
    def test_of_a_cassette_that_git_has_checked_out(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "answers.jsonl"
        store = JsonlStore(path)
        store.set(key_of(1), b"value")
        path.chmod(mode)
        for number in (2, 1):
            store.set(key_of(number), b"other")
        store.close()
        store.delete(key_of(2))
        assert stat.S_IMODE(path.stat().st_mode) == mode

    def test_of_an_export(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with closing(DiskStore(tmp_path / "root")) as store:
            store.set(key_of(1), b"value")
        (tmp_path / "old.jsonl").touch()
        (tmp_path / "old.jsonl").chmod(0o640)
        for name in ("new.jsonl", "old.jsonl", "page.html"):
            command = ["report", "-o"] if name == "page.html" else ["export"]
            with pytest.raises(SystemExit):
                main([*command, str(tmp_path / name), "--disk", str(tmp_path / "root")])
        names = ("new.jsonl", "old.jsonl", "page.html")
        modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names]
        assert modes == [0o600, 0o640, 0o600]


# -- files that commands are given ---------------------------------------------------------------


@posix
@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("import", "{fifo}"), 3),
        (("export", "{fifo}"), 3),
        (("report", "-o", "{fifo}"), 3),
        (("ls", "--url", "jsonl:{fifo}"), 3),
        (("copy", "jsonl:{fifo}"), 3),
        (("run", "--url", "jsonl:{fifo}", "-c", "pass"), 3),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_fifo_is_not_waited_for(tmp_path: Path, words: tuple[str, ...], status: int) -> None:
    with closing(DiskStore(tmp_path / ".cache")) as store:
        store.set(key_of(1), b"value")
    os.mkfifo(tmp_path / "fifo")
    given = [word.format(fifo=tmp_path / "fifo") for word in words]
    command = [sys.executable, "-m", "cachewrap", *given]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
    assert len(done.stderr.strip().splitlines()) <= 4
