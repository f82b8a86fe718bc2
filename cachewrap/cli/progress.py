"""A progress bar on a terminal, and nothing elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import BinaryIO, TypeVar

import click

from cachewrap.cli._open import Place
from cachewrap.cli.tables import is_terminal

T = TypeVar("T")


def progress(items: Iterable[T], places: Iterable[Place], doing: str) -> Iterator[T]:
    """The items, with a bar on stderr while they pass if that is a terminal.

    Args:
        items: one for each entry.
        places: where they come from: their keys are counted first.
        doing: what is being done.
    """
    if not is_terminal(sys.stderr):
        yield from items
        return
    length = sum(1 for place in places for _ in place.store.keys())
    with click.progressbar(items, length=length, label=doing, file=sys.stderr) as bar:
        yield from bar


def progress_of_file(file: BinaryIO, doing: str) -> Iterator[bytes]:
    """The lines of a file, with a bar on stderr while they pass if that is a terminal."""
    if not is_terminal(sys.stderr):
        yield from file
        return
    size = os.fstat(file.fileno()).st_size
    with click.progressbar(length=size, label=doing, file=sys.stderr) as bar:
        for line in file:
            yield line
            bar.update(len(line))
