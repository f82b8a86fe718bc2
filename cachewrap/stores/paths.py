"""The paths of stores in files: from what a user wrote, into a URL, and whether they can be."""

from __future__ import annotations

import os
from urllib.parse import quote


def absolute(path: str | os.PathLike[str]) -> str:
    """The path that a user means, who may begin it with ``~`` and name variables of his system."""
    return os.path.abspath(os.path.expandvars(os.path.expanduser(path)))


def url_of_path(scheme: str, path: str) -> str:
    """The URL of an absolute path, without options: ``disk:///srv/a``, ``disk:///C:/srv/a``."""
    drive, rest = os.path.splitdrive(path)
    place = quote(drive.replace(os.sep, "/"), safe="/:") + quote(rest.replace(os.sep, "/"))
    return f"{scheme}://{'' if place.startswith('/') else '/'}{place}"


def url_of(scheme: str, path: str, seed: str) -> str:
    """The URL of a partition, which a cache can be made from."""
    seed = quote(seed, safe="", errors="surrogatepass")
    return f"{url_of_path(scheme, path)}?cache_seed={seed}"


def obstacle(folder: str) -> str | None:
    """Why nothing can be made in a folder that may have to be made itself; None if it can.

    It is the nearest folder above that counts, of those that are there.
    """
    while not os.path.lexists(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        return f"{folder} is not a folder"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder} cannot be written by this user"
    return None
