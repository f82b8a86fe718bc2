"""Cache URLs: which store, where, and the options of the cache in the query; and paths in them."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from cachewrap import plugins
from cachewrap.encryption import VARIABLE
from cachewrap.errors import ConfigurationError


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


REDIS_SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+cluster",
    "rediss+cluster",
    "redis+sentinel",
    "rediss+sentinel",
)

_COMMON = {
    "cache_seed": str,
    "ttl": float,
    "mode": str,
    "samples": None,
    "store_requests": None,
    "single_flight": None,
    "lease_seconds": float,
    "on_error": str,
    "keyed": lambda text: text.split(","),
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "memory": _COMMON,
    "disk": {**_COMMON, "max_bytes": int},
    "jsonl": _COMMON,
    "redis": {**_COMMON, "namespace": str, "breaker_seconds": float},
}
_NAMED = {"disk": "folder", "jsonl": "file"}


def parse_url(url: str) -> tuple[str, str, dict[str, Any]]:
    """Split a cache URL into the kind of store, its place, and keyword arguments for it.

    >>> parse_url("disk:///srv/answers?cache_seed=7")
    ('disk', '/srv/answers', {'cache_seed': '7'})
    >>> parse_url("redis://localhost/0?namespace=ci&socket_timeout=2")
    ('redis', 'redis://localhost/0?socket_timeout=2', {'namespace': 'ci'})
    >>> parse_url("redis+sentinel://one:26379,two:26379/answers/0?namespace=ci")
    ('redis', 'redis+sentinel://one:26379,two:26379/answers/0', {'namespace': 'ci'})
    >>> parse_url("unix:///run/redis.sock?db=1&cache_seed=7")
    ('redis', 'unix:///run/redis.sock?db=1', {'cache_seed': '7'})

    Raises `ConfigurationError` for another scheme, an unknown option or a value that does not fit.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"the URL of a cache is text, got {url!r}")
    try:
        parts = urlsplit(url)
    except ValueError as error:  # without the URL, which may hold a password
        raise ConfigurationError(f"this is no URL of a cache: {error}") from None
    scheme = parts.scheme
    if "encryption_key=" in unquote(parts.query):
        raise ConfigurationError(
            "an encryption key has no place in a URL, which ends up in logs: "
            f"set {VARIABLE} in the environment"
        )
    path = unquote(parts.netloc + parts.path)
    if os.name == "nt" and re.match("/[A-Za-z]:", path):
        path = path[1:]
    kind = "redis" if scheme in REDIS_SCHEMES else scheme
    if kind not in _OPTIONS and kind not in plugins.store_schemes():
        schemes = ["disk", *REDIS_SCHEMES, "jsonl", "memory", *plugins.store_schemes()]
        raise ConfigurationError(
            f"no store for the scheme {scheme!r}: write one of {', '.join(schemes)} in front, or "
            f"install a package that plugs one in by the entry point group {plugins.STORES}"
        )
    known = _OPTIONS.get(kind, _COMMON)
    options, rest = _take(url, parts.query, known)
    if thing := _NAMED.get(kind):
        place = path
        if not place:
            raise ConfigurationError(
                f"{url!r} names no {thing}: write {kind}:///absolute/{thing} or "
                f"{kind}:relative/{thing}"
            )
    elif kind == "memory":
        place = ""
    else:
        place = url.partition("#")[0].partition("?")[0]
        if kind == "redis":
            # `urlunsplit` leaves the slashes out before an empty host, which a Unix socket has.
            slashes = "//" if not parts.path or parts.path.startswith("/") else ""
            place = f"{scheme}:{slashes}{parts.netloc}{parts.path}"
        place += f"?{urlencode(rest)}" if rest else ""
        rest = []
    if rest:
        raise ConfigurationError(
            f"unknown option {rest[0][0]!r} in a {scheme}: URL; known: {', '.join(known)}"
        )
    return kind, place, options


def _take(
    url: str, query: str, known: dict[str, Any]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    options: dict[str, Any] = {}
    rest: list[tuple[str, str]] = []
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            rest.append((name, text))
            continue
        try:
            options[name] = _flag(text) if known[name] is None else known[name](text)
        except ValueError as error:
            raise ConfigurationError(f"{name}={text!r} in a cache URL: {error}") from None
    return options, rest


def _flag(text: str) -> bool:
    if text.lower() in {"1", "true", "yes"}:
        return True
    if text.lower() in {"0", "false", "no"}:
        return False
    raise ValueError("write true or false")
