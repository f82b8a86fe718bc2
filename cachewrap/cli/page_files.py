"""Files that pages are written to: replaced by whole ones, and other people's only if asked to."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final

import click

from cachewrap import systems
from cachewrap.cli.text import is_terminal
from cachewrap.errors import StoreError
from cachewrap.report import is_report

PAGE_BYTES: Final = 100 * 2**20
"""From there on what is long is left out: a browser has to hold all of it."""


def check_replaceable(path: str, force: bool) -> None:
    """Ask, or refuse, before a file that is not a page of ours is replaced. Raises `StoreError`."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a device is not to be replaced
            raise StoreError(f"cannot write {path}: no regular file; - is the output")
        with open(path, "rb") as file:
            beginning = file.read(1024)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
    if force or not beginning or is_report(beginning):
        return
    question = f"{path} is not a page of cachewrap's. Replace it?"
    if not is_terminal(sys.stdin):
        raise click.UsageError(f"{question} There is no terminal to ask on: give --force")
    click.confirm(question, abort=True)


@contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """A new file for its owner alone, which takes the place of another when it is whole."""
    if systems.is_strange_link(path):
        raise StoreError(
            f"cannot write {path}: it is a link of another user, which is not followed"
        )
    path = os.path.realpath(path)
    try:
        handle, made = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".cachewrap-")
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
    try:
        with open(handle, "wb") as file:
            yield file
        os.replace(made, path)
    except BaseException as error:
        with suppress(FileNotFoundError):
            os.unlink(made)
        if isinstance(error, OSError):
            raise StoreError(f"cannot write {path}: {error.strerror}") from error
        raise
