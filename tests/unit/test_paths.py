"""The paths of stores in files, as the systems write them."""

from __future__ import annotations

import ntpath
import posixpath
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cachewrap import urls
from cachewrap.errors import StoreError
from cachewrap.stores import seed_folders
from cachewrap.stores.disk import DiskStore

WINDOWS: Any = SimpleNamespace(name="nt", path=ntpath, sep="\\")
POSIX: Any = SimpleNamespace(name="posix", path=posixpath, sep="/")

URLS = [
    (POSIX, "/srv/a b", "disk:///srv/a%20b", "/srv/a b"),
    (POSIX, "/C:/a", "disk:///C%3A/a", "/C:/a"),
    (WINDOWS, r"C:\Users\a b", "disk:///C:/Users/a%20b", "C:/Users/a b"),
    (WINDOWS, r"\\server\share\a", "disk:////server/share/a", "//server/share/a"),
]


@pytest.mark.parametrize(("system", "path", "url", "place"), URLS, ids=[row[2] for row in URLS])
def test_a_path_becomes_a_url_and_back(
    monkeypatch: pytest.MonkeyPatch, system: Any, path: str, url: str, place: str
) -> None:
    monkeypatch.setattr(urls, "os", system)
    assert urls.url_of_path("disk", path) == url
    assert urls.parse_url(url)[:2] == ("disk", place)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (r"disk:C:\srv\a", r"C:\srv\a"),
        ("disk:C:/srv/a", "C:/srv/a"),
        ("disk://C:/srv/a", "C:/srv/a"),
        ("jsonl:///c%3A/srv/a.jsonl", "c:/srv/a.jsonl"),
        ("disk:srv/a", "srv/a"),
    ],
)
def test_a_drive_in_a_url(monkeypatch: pytest.MonkeyPatch, url: str, place: str) -> None:
    monkeypatch.setattr(urls, "os", WINDOWS)
    assert urls.parse_url(url)[1] == place


@pytest.mark.parametrize(
    ("seed", "name"),
    [
        ("con", "%63on"),
        ("NUL.txt", "%4EUL.txt"),
        ("lpt1", "%6Cpt1"),
        ("console", "console"),
        ("41", "41"),
    ],
)
def test_a_seed_that_windows_takes_for_a_device(
    monkeypatch: pytest.MonkeyPatch, seed: str, name: str
) -> None:
    assert seed_folders.folder_name(seed) == seed
    monkeypatch.setattr(seed_folders, "os", WINDOWS)
    assert (seed_folders.folder_name(seed), seed_folders.seed_of(name)) == (name, seed)


def test_the_folder_of_a_seed_is_not_taken_for_that_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file system does not tell capital letters from small ones."""
    key = "0" * 64
    for seed in ("run", "41"):
        store = DiskStore(tmp_path, seed)
        store.set(key, b"value")
        store.close()
    monkeypatch.setattr(seed_folders, "_FOLDS", True)
    assert DiskStore(tmp_path, "run").get(key) == b"value"
    monkeypatch.setattr(seed_folders.files, "listdir", lambda path: ["41", "Run"])
    with pytest.raises(StoreError, match="the folder of another seed, Run"):
        DiskStore(tmp_path, "run").get(key)
    assert DiskStore(tmp_path, "41").get(key) == b"value"
