"""URLs of caches: which store, where, the options in the query, the paths; and bare addresses.

What was written where something else belongs is told by the call that was meant.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, unquote_plus, urlencode, urlsplit

from cachewrap import plugins, systems
from cachewrap.encryption import VARIABLE
from cachewrap.errors import ConfigurationError
from cachewrap.patterns import later
from cachewrap.secrets import SIGNATURES, is_secret
from cachewrap.systems import files


def absolute(path: str | os.PathLike[str]) -> str:
    """The path that a user means, who may begin it with ``~`` and name variables of his system."""
    return systems.absolute(files.expandvars(files.expanduser(path)))


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
    if systems.is_nowhere(folder):
        return systems.NO_DIRECTORY
    while not files.exists(folder, follows=False) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    if not files.is_folder(folder):
        return f"{folder} is not a folder"
    if not files.access(folder, os.W_OK | os.X_OK):
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


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("give a number of seconds, such as 3600") from None


def _size(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("give a number of bytes, such as 2000000000") from None


_COMMON = {
    "cache_seed": str,
    "ttl": _number,
    "mode": str,
    "replay": str,
    "samples": None,
    "split": None,
    "store_requests": None,
    "single_flight": None,
    "lease_seconds": _number,
    "stream_leases": None,
    "ledger": None,
    "store_seconds": _number,
    "breaker_seconds": _number,
    "wait_seconds": _number,
    "on_error": str,
    "keyed": lambda text: text.split(","),
    "unkeyed": lambda text: text.split(",") if text else [],
    "same": str,
    "max_entry_bytes": _size,
    "types": lambda text: text.split(",") if text else [],
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "memory": {**_COMMON, "max_bytes": _size},
    "disk": {**_COMMON, "max_bytes": _size},
    "jsonl": _COMMON,
    "redis": {**_COMMON, "namespace": str},
}
_EXAMPLES = {
    "memory": "memory:",
    "disk": "disk:.cache",
    "jsonl": "jsonl:answers.jsonl",
    "redis": "redis://localhost:6379/0",
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
        if url and (not scheme or len(scheme) == 1 or _SERVER.fullmatch(url)):
            raise ConfigurationError(
                f"{url!r} has no scheme of a cache in front: write {_url_for(url)}"
            )
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
            if any(name in _SEEDS for name, _ in rest):
                raise ConfigurationError(f"a {scheme}: URL names its seed with cache_seed=")
            # `urlunsplit` leaves the slashes out before an empty host, which a Unix socket has.
            slashes = "//" if not parts.path or parts.path.startswith("/") else ""
            place = f"{scheme}:{slashes}{parts.netloc}{parts.path}"
        place += f"?{urlencode(rest)}" if rest else ""
        rest = []
    if rest:
        raise ConfigurationError(
            f"unknown option {rest[0][0]!r} in a {scheme}: URL{hint(rest[0][0], known)};"
            f" known: {', '.join(known)}"
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


# -- what was meant --------------------------------------------------------------------------

_SERVER: Final = later(r"[\w.-]+:\d{1,5}(?:/\d*)?")
_SEEDS: Final = frozenset({"seed", "cacheseed", "random_seed"})
_PLACES: Final = frozenset(
    """
    cache_dir cache_directory cache_folder cache_path cache_root connection db dir directory file
    filename folder host location path path_root place port redis redis_uri root uri url
    """.split()
)
_CONSTRUCTORS: Final = {"cache_path_root": "disk", "redis_url": "redis"}


def _url_for(place: str) -> str:
    """The URL of a place that was written without a scheme."""
    if _SERVER.fullmatch(place):
        return f"redis://{place}"
    if place in _OPTIONS:
        return _EXAMPLES[place]
    return f"jsonl:{place}" if place.endswith(".jsonl") else f"disk:{place}"


def call_for(place: str) -> str:
    """The call that makes a cache in a place, as a program would write it.

    >>> call_for("/srv/answers")
    'Cache.disk(cache_path_root="/srv/answers")'
    >>> call_for("redis://user:secret@localhost/0?socket_timeout=2")
    'Cache.redis(redis_url="redis://***@localhost/0")'
    """
    scheme = _scheme(place)
    front, slashes, rest = place.partition("://")
    if slashes:  # without what may be a password
        user, at, host = rest.partition("?")[0].rpartition("@")
        place = f"{front}://{'***@' if user and at else ''}{host}"
    if scheme in REDIS_SCHEMES:
        return f"Cache.redis(redis_url={_quoted(place)})"
    if slashes or scheme in (*_OPTIONS, *plugins.store_schemes()):
        return f"Cache.from_url({_quoted(place)})"
    if _SERVER.fullmatch(place):
        return f"Cache.redis(redis_url={_quoted(f'redis://{place}')})"
    if place.endswith(".jsonl"):
        return f"Cache.jsonl({_quoted(place)})"
    return f"Cache.disk(cache_path_root={_quoted(place)})"


def call_meant(given: object) -> str:
    """The call that makes the cache for which something else was given, or the constructors.

    Args:
        given: a place, a seed, a connection, or the dictionary from which AutoGen makes a cache.
    """
    if isinstance(given, os.PathLike):
        given = os.fsdecode(given)
    if isinstance(given, str) and given:
        return call_for(given)
    if isinstance(given, int) and not isinstance(given, bool):
        return f"Cache.disk(cache_seed={given})"
    if isinstance(given, Mapping):
        return _call_of_config(given)
    made_by = type(given).__module__.partition(".")[0]
    if made_by == "diskcache" and isinstance(folder := getattr(given, "directory", None), str):
        return f"Cache.disk(cache_path_root={_quoted(folder)})"
    if made_by in ("redis", "valkey"):
        return 'Cache.redis(redis_url="redis://…")'
    return (
        "Cache.disk(), Cache.redis(), Cache.memory(), Cache.jsonl(path)"
        ' or Cache.from_url("disk:.cache")'
    )


def wrong_cache(given: object, name: str = "cache= takes") -> str:
    """What to say where something else was given for a cache."""
    kind = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
    return f"{name} a cachewrap Cache or None, got {kind}: write {call_meant(given)}"


def wrong_cache_of_function(given: object) -> str:
    """`wrong_cache`, for what ``@llm_cached(cache=)`` was given."""
    takes = '@llm_cached(cache=) takes a Cache, "blocks" or None'
    if isinstance(given, str) and (not given or given.isidentifier()):
        meant = difflib.get_close_matches(given.lower(), ["blocks"], 1)
        where = ' did you mean "blocks"?' if meant else ""
        return f"{takes}, got {given!r}{':' if where else ''}{where}"
    return f"{takes}, got {type(given).__name__}: write {call_meant(given)}"


def _call_of_config(config: Mapping[Any, Any]) -> str:
    kind = "redis" if config.get("redis_url") else "disk"
    shown = []
    for name in ("cache_seed", "redis_url" if kind == "redis" else "cache_path_root"):
        value = config.get(name)
        if isinstance(value, (str, os.PathLike)) and name != "cache_seed":
            shown.append(re.findall(r"\w+=.*(?=\))", call_for(os.fsdecode(value)))[0])
        elif isinstance(value, (int, str)):
            shown.append(f"{name}={_quoted(value)}")
    return f"Cache.{kind}({', '.join(shown)})"


def check_folder(name: str, given: object, meant: str) -> None:
    """Raise `ConfigurationError` unless a path is given, and no URL.

    Args:
        name: the keyword.
        given: its value.
        meant: how the call is written.
    """
    if not isinstance(given, (str, os.PathLike)) or given == "":
        raise ConfigurationError(f"{name} is a path, got {given!r}: write {meant}")
    path = os.fsdecode(given)
    scheme = _scheme(path)
    if "://" in path or scheme in (*_OPTIONS, *REDIS_SCHEMES):
        raise ConfigurationError(f"{name} is a path, got a URL: write {call_for(path)}")
    if "\0" in path:
        raise ConfigurationError(f"{name} is a path, which holds no NUL; got {path!r}")


def check_server(given: object) -> None:
    """Raise `ConfigurationError` unless the URL of a Redis server is given, or what may be one."""
    if not isinstance(given, str) or not given:
        raise ConfigurationError(
            f"the URL of a Redis server is text, got {type(given).__name__}: write"
            ' Cache.redis(redis_url="redis://localhost:6379/0")'
        )
    if "://" in given or _scheme(given) in REDIS_SCHEMES:
        return
    bare = re.fullmatch(r"[\w.-]+", given)
    meant = call_for(f"redis://{given}:6379/0" if bare else given)
    raise ConfigurationError(f"redis_url begins with redis://, got {given!r}: write {meant}")


def hint(name: str, known: Iterable[str], place: str | None = None) -> str:
    """Which option may have been meant by a name that is none, as the end of a message.

    Args:
        name: what was given.
        known: the names of all options.
        place: the option that says where the cache is; None where none does.
    """
    if name in _CONSTRUCTORS:
        return f": Cache.{_CONSTRUCTORS[name]} takes it"
    if name in _SEEDS:
        return ": did you mean cache_seed?"
    if name in ("url", "uri") and place != "redis_url":
        return ": Cache.from_url takes it"
    if name in _PLACES and place is not None:
        form = '="redis://host:port/db"' if place == "redis_url" else ""
        return f": did you mean {place}{form}?"
    close = difflib.get_close_matches(name, [*known, *filter(None, [place])], 1)
    return f": did you mean {close[0]}?" if close else ""


def _scheme(text: str) -> str:
    return text.partition(":")[0].lower() if ":" in text else ""


def _quoted(value: str | int) -> str:
    return json.dumps(value, ensure_ascii=False)


# -- addresses in requests -----------------------------------------------------------------------


def bare(url: str) -> str:
    """An address without its user, and without the parameters that are credentials."""
    try:
        parts = urlsplit(url)
        query = "&".join(pair for pair in parts.query.split("&") if not is_secret(_name(pair)))
        clean = parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query)
    except ValueError:  # what the API will refuse
        return url
    return url if clean == parts else clean.geturl()


_SIGNED: Final = later(
    r"(?:x-amz|x-goog|x-oss|q)-[a-z-]+|signature|sig|expires|key-pair-id|policy|awsaccesskeyid"
    r"|ossaccesskeyid|googleaccessid|s[ertvp]|spr|sip|sk[eosvt]|sktid|skoid",
    re.IGNORECASE,
)


def unsigned(url: str) -> str:
    """An address without user and password, and without its signature and what was signed."""
    if "://" not in url or not ("?" in url or "@" in url):
        return url
    try:
        parts = urlsplit(url)
        pairs = parts.query.split("&")
        signed = any(SIGNATURES.fullmatch(_name(pair)) for pair in pairs)
        query = "&".join(p for p in pairs if not (signed and _SIGNED.fullmatch(_name(p))))
        user, _, host = parts.netloc.rpartition("@")
        clean = parts._replace(netloc=host if ":" in user else parts.netloc, query=query)
    except ValueError:
        return url
    return url if clean == parts else clean.geturl()


def _name(pair: str) -> str:
    return unquote_plus(pair.partition("=")[0])
