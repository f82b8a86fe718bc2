"""Folders of seeds below a root: their names, who may change them, and how they are made."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
import urllib.parse
from contextlib import suppress

from cachewrap.errors import StoreError
from cachewrap.patterns import later
from cachewrap.systems import OWNERS, NotAFile, check_file, files, open_file, open_to_all, stranger
from cachewrap.telemetry.events import warn_once
from cachewrap.urls import obstacle

DATABASE = "cache.db"
"""diskcache's name for the database in its folder."""

_BESIDE = ("", "-wal", "-shm", "-journal")
"""Names of the database and of SQLite's files beside it, behind the database's."""

_START = b"SQLite format 3\x00"

NO_DATABASE = (
    "is damaged, or no database at all. Delete it or move it away, or choose another"
    " cache_path_root or seed."
)

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL

_DEVICE = later(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.[A-Za-z0-9_.-]*)?", re.IGNORECASE)
"""What Windows takes for a device, in every folder."""

_FOLDS = sys.platform in ("win32", "darwin")
"""Whether file systems do not tell ``Run`` from ``run``, as they are mostly made here."""


def folder_name(seed: str) -> str:
    """The seed as the name of one folder: plain names as they are, others percent-encoded."""
    if os.name == "nt" and _DEVICE.fullmatch(seed):
        return f"%{ord(seed[0]):02X}{seed[1:]}"
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}(?<!\.)", seed):
        return seed
    name = urllib.parse.quote(seed, safe="", errors="surrogatepass").replace("~", "%7E")
    name = re.sub(r"^\.|\.$", "%2E", name)
    if seed and len(name) <= 100:
        return name
    return "%%" + hashlib.sha256(seed.encode(errors="surrogatepass")).hexdigest()


def seed_of(name: str) -> str | None:
    """The seed of a folder with that name; None for a name that `folder_name` gives to no seed."""
    try:
        seed = urllib.parse.unquote(name, errors="surrogatepass")
        return seed if folder_name(seed) == name else None
    except UnicodeError:  # a folder of somebody else's
        return None


def check_owners(root: str | None, folder: str) -> None:
    """Raise `StoreError` where somebody else could put what he likes into the folder.

    The root may be a link: it is the user's own choice. What is in it may not. Without a root the
    folder goes with a file beside it.
    """
    instead = "path of the file" if root is None else "cache_path_root"
    for place, look in ((root, files.stat), (folder, files.lstat)):
        if place is None:
            continue
        try:
            status = look(place)
        except OSError:  # it is not there yet, or whoever opens it is told why it cannot be
            return
        if not stat.S_ISDIR(status.st_mode):
            sort = "a link, which is not followed" if stat.S_ISLNK(status.st_mode) else "no folder"
            give = "" if root is None else "give the folder itself as cache_path_root, or "
            raise StoreError(f"{place} is {sort}: {give}move it away")
        owner = stranger(status)
        if owner is not None:
            raise StoreError(
                f"{place} belongs to another user ({owner}), who could change what is stored, and"
                f" read it. Choose another {instead}, or make it yours; if you trust its"
                f" owner, set {OWNERS}={owner}"
            )
        if open_to_all(status):
            warn_once(
                ("open to all", place),
                f"{place} can be changed by every user: chmod go-w, or choose another {instead}",
            )


def check_files(path: str) -> None:
    """Raise `NotAFile` where the database, or a file that SQLite keeps beside it, is a link."""
    for end in _BESIDE:
        check_file(path + end)


def check_name(root: str, folder: str) -> None:
    """Raise `StoreError` where a folder of another seed is found: one of ``Run`` for ``run``."""
    name = os.path.basename(folder)
    if _FOLDS and name.upper() != name.lower():
        with suppress(OSError):  # what cannot be listed may still be read
            there = [other for other in files.listdir(root) if other.lower() == name.lower()]
            if there and name not in there:
                raise StoreError(
                    f"{folder} is the folder of another seed, {there[0]}: this file system does not"
                    " tell capital letters from small ones. Choose another cache_seed."
                )


def make(root: str, folder: str) -> None:
    """Make the folder for its owner alone; keep what exists."""
    files.make_folders(os.path.dirname(root))
    for place in (root, folder):
        with suppress(FileExistsError):
            files.mkdir(place, 0o700)
            if place == folder:
                path = os.path.join(folder, ".gitignore")
                ignored = open_file(path, _NEW, 0o600, follows=False)
                try:
                    files.write(ignored, b"*\n")
                finally:
                    files.close(ignored)


def check(root: str, folder: str) -> None:
    """Raise `StoreError` if the folder cannot be made or written; nothing is written."""
    check_owners(root, folder)
    path = os.path.join(folder, DATABASE)
    if files.exists(path, follows=False):
        try:
            check_files(path)
        except NotAFile as error:
            raise _unusable(folder, f"{path}: {error.strerror}") from error
        if not files.access(path, os.R_OK | os.W_OK):
            raise _unusable(folder, f"{path} cannot be read and written by this user")
        start = files.contents(path, len(_START), follows=False)
        if start not in (b"", _START):
            raise StoreError(f"{path} {NO_DATABASE}")
    wrong = obstacle(folder)
    if wrong is not None:
        raise _unusable(folder, wrong)


def _unusable(folder: str, why: str) -> StoreError:
    return StoreError(
        f"the cache folder {folder} cannot be used: {why}."
        " Choose another cache_path_root, or mend it."
    )
