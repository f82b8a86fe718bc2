"""Options that several commands have, for those too that open no cache themselves."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import quote

import click

DEFAULT_URL: Final = "disk:.cache"

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
