"""A test that puts something else in the place of files: the cache keeps to the real ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from cachewrap import Cache, llm_cached
from cachewrap.format import envelope
from cachewrap.http import request
from cachewrap.systems import files

REFUSED = mock.Mock(side_effect=PermissionError("no file may be touched here"))
MOCKED: dict[str, Any] = {
    "builtins.open": mock.mock_open(read_data="theirs"),
    "io.open": mock.mock_open(read_data=b"theirs"),
    "os.access": lambda *args, **kwargs: False,
    "os.chmod": REFUSED,
    "os.close": REFUSED,
    "os.fstat": REFUSED,
    "os.fsync": REFUSED,
    "os.ftruncate": REFUSED,
    "os.getcwd": lambda: "/nowhere",
    "os.listdir": lambda *args: ["theirs"],
    "os.lseek": REFUSED,
    "os.lstat": REFUSED,
    "os.makedirs": REFUSED,
    "os.mkdir": REFUSED,
    "os.open": REFUSED,
    "os.path.abspath": lambda path: f"/nowhere/{path}",
    "os.path.exists": lambda path: False,
    "os.path.expanduser": lambda path: path.replace("~", "/nowhere"),
    "os.path.getsize": lambda path: 7,
    "os.path.isdir": lambda path: False,
    "os.path.isfile": lambda path: False,
    "os.path.lexists": lambda path: False,
    "os.path.realpath": lambda path, **kwargs: "/nowhere",
    "os.pread": REFUSED,
    "os.pwrite": REFUSED,
    "os.read": lambda *args: b"theirs",
    "os.remove": REFUSED,
    "os.rename": REFUSED,
    "os.replace": REFUSED,
    "os.rmdir": REFUSED,
    "os.scandir": REFUSED,
    "os.stat": REFUSED,
    "os.unlink": REFUSED,
    "os.write": REFUSED,
    "pathlib.Path.exists": lambda self, **kwargs: False,
    "pathlib.Path.mkdir": REFUSED,
    "pathlib.Path.open": REFUSED,
    "pathlib.Path.read_bytes": lambda self: b"theirs",
    "pathlib.Path.read_text": lambda self, *args: "theirs",
    "pathlib.Path.write_text": REFUSED,
    "shutil.rmtree": REFUSED,
    "tempfile.mkstemp": REFUSED,
}
MAKE: dict[str, Callable[..., Cache]] = {
    "disk": lambda: Cache.disk(41, "answers"),
    "disk that evicts": lambda: Cache.disk(41, "answers", max_bytes=2**24),
    "jsonl": lambda: Cache.jsonl("answers.jsonl"),
}

pytestmark = pytest.mark.filterwarnings("error::cachewrap.CacheWarning")


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
@pytest.mark.parametrize("name", MOCKED)
def test_a_mock_is_not_in_the_way(make: Callable[..., Cache], name: str, tmp_path: Path) -> None:
    calls: list[str] = []

    @llm_cached(version=1)
    def ask(prompt: str) -> str:
        calls.append(prompt)
        return prompt * 2**20

    if name in ("os.pread", "os.pwrite") and not hasattr(os, name[3:]):
        pytest.skip(f"this system has no {name}")
    make().close()  # what is imported at the first use has been
    with mock.patch(name, MOCKED[name]):
        for prompts in ("ab", "ba"):
            with make() as cache:
                assert [ask(prompt) for prompt in prompts] == [p * 2**20 for p in prompts]
        with cache.mode("refresh"):
            ask("a")
        assert (cache.clear(), len(calls)) == (2, 3)
        with make():
            ask("c")
    assert len(calls) == 4
    assert any(path.is_file() for path in tmp_path.rglob("*"))


def test_all_of_them_at_once(tmp_path: Path) -> None:
    Cache.jsonl("answers.jsonl")
    patches = [mock.patch(name, double) for name, double in MOCKED.items() if "os.p" not in name]
    with Cache.jsonl("answers.jsonl") as cache:
        for patch in patches:
            patch.start()
        try:
            cache.set("key", "value")
            cache.close()
            found = cache.get("key")
        finally:
            for patch in reversed(patches):
                patch.stop()
    assert found == "value"
    assert '"value"' in (tmp_path / "answers.jsonl").read_text()


def test_a_dictionary_of_the_package_is_read_past_a_mock() -> None:
    path = Path(envelope.__file__).with_name("dictionary_1.zstd")
    given = path.read_bytes()
    with (
        mock.patch("pathlib.Path.read_bytes", return_value=b"theirs"),
        mock.patch("builtins.open", mock.mock_open(read_data=b"theirs")),
        mock.patch("os.open", REFUSED),
    ):
        read = files.contents(str(path))
        known = envelope._dictionary(1)
    assert read == known == given


def test_what_a_program_uploads_is_what_its_test_says() -> None:
    """A file of the program's own is read as the program reads it."""
    with mock.patch("builtins.open", mock.mock_open(read_data=b"theirs")):
        read = request._hash("file", Path("a.txt"))
    assert read == hashlib.sha256(b"theirs").hexdigest()
