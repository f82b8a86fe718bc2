"""Options that several commands have, for those too that open no cache themselves."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, quote, urlencode

import click

from cachewrap.errors import ConfigurationError
from cachewrap.keyed import UNKEYED_VARIABLE, listed
from cachewrap.urls import absolute, parse_url, url_of_path

DEFAULT_URL: Final = "disk:.cache"

_COUNTS: Final = "PROMETHEUS_MULTIPROC_DIR"
_SERVE_NEEDS: Final = ("h11", "prometheus_client")

F = TypeVar("F", bound=Callable[..., Any])


def together(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Several options of a command as one decorator, in the order of its help."""
    return lambda command: functools.reduce(lambda c, option: option(c), options[::-1], command)


def one_url(disk: str | None, redis: str | None, url: str | None) -> str | None:
    """The URL that one of three options names. Raises `UsageError` where several do."""
    if sum(given is not None for given in (disk, redis, url)) > 1:
        raise click.UsageError("give one of --disk, --redis and --url")
    if disk is not None and not os.path.isdir(disk):
        if "://" in disk or disk.startswith(("disk:", "jsonl:")):
            raise click.UsageError(f"--disk takes a folder: give --url {disk}")
        if disk.endswith(".jsonl"):
            raise click.UsageError(f"--disk takes a folder: give --url jsonl:{disk}")
    if redis and "://" not in redis and not redis.startswith("unix:"):
        redis = f"redis://{redis}"
    return f"disk:{quote(disk)}" if disk is not None else redis or url


def left_out(url: str, given: Sequence[str]) -> str:
    """The names that are left out of keys: those that are given, and those that are already."""
    known = parse_url(url)[2].get("unkeyed")
    if known is None:
        known = listed(os.environ.get(UNKEYED_VARIABLE, ""))
    return ",".join(dict.fromkeys([*known, *(name for text in given for name in listed(text))]))


def whole_url(url: str, given: Mapping[str, str | None]) -> str:
    """The URL with the options that are given, and a path as it is seen from everywhere."""
    kind, place, _ = parse_url(url)
    front, _, query = url.partition("?")
    if kind in ("disk", "jsonl"):
        place = absolute(place)
        front = url_of_path(kind, place)
    options = [
        (n, absolute(v) if n == "same" else v) for n, v in parse_qsl(query, keep_blank_values=True)
    ]
    for name, value in given.items():
        if value is not None:
            options = [(n, v) for n, v in options if n != name] + [(name, value)]
    return f"{front}?{urlencode(options)}" if options else front


@contextmanager
def importing_proxy(who: str) -> Iterator[None]:
    """Import what the proxy needs. Raises `ConfigurationError` where the extra is not installed.

    Args:
        who: needs it.
    """
    os.environ.pop(_COUNTS, None)  # where another program has its own
    try:
        yield
    except ImportError as error:
        if error.name not in _SERVE_NEEDS:
            raise
        raise ConfigurationError(
            f"{who} needs {error.name}, which is not installed: pip install 'cachewrap[serve]'"
        ) from None
