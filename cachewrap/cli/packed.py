"""Files of entries that are compressed with gzip: read as they are, and never written over."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from tempfile import TemporaryDirectory
from typing import BinaryIO, Final, NoReturn, cast

from cachewrap.errors import StoreError
from cachewrap.stores.jsonl import JsonlStore
from cachewrap.systems import files
from cachewrap.urls import absolute, url_of

_BEGINS: Final = b"\x1f\x8b"
_DAMAGED: Final = (EOFError, gzip.BadGzipFile, zlib.error)


def plain_lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    """The lines of a file, which may be compressed, whatever its name.

    Args:
        file: the file, open for reading, at its beginning.
        name: what people call it.

    Raises `StoreError`, behind the last line that is whole, where it is damaged or cut off.
    """
    if _is_packed(file):
        yield from packed_lines(file, name)
    else:
        yield from file


def packed_lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    """The same of a file that is compressed, or empty. Raises `ValueError` for any other one."""
    number = 0
    try:
        if not _is_packed(file) and file.read(1):
            raise ValueError(f"{name} is not compressed")
        for line in cast(BinaryIO, gzip.GzipFile(fileobj=file)):
            yield line
            number += 1
    except _DAMAGED as error:
        raise damaged(name, error, number) from error


def _is_packed(file: BinaryIO) -> bool:
    peek = getattr(file, "peek", None)
    return peek is not None and peek(len(_BEGINS)).startswith(_BEGINS)


def damaged(name: str, error: Exception, number: int) -> StoreError:
    """What to say of a compressed file that cannot be read to its end."""
    how = "cut off" if isinstance(error, EOFError) else f"damaged ({error})"
    read = f"the {number:,} lines before were read" if number else "nothing of it was read"
    return StoreError(f"{name} is {how}: {read}. Get the file again, whole")


class PackedStore(JsonlStore):
    """The entries of a compressed file, to be read: they are unpacked to a temporary one.

    Args:
        path: the file.
        seed: the partition.
        folder: where it was unpacked already.
    """

    def __init__(self, path: str, seed: str, folder: TemporaryDirectory[str] | None = None) -> None:
        self._packed = absolute(path)
        name = os.path.basename(self._packed).removesuffix(".gz")
        if folder is None:
            folder = TemporaryDirectory(prefix="cachewrap-")
            _unpack(self._packed, os.path.join(folder.name, name))
        self._folder = folder
        super().__init__(os.path.join(folder.name, name), seed)

    @property
    def url(self) -> str:
        return url_of("jsonl", os.path.realpath(self._packed), self._seed)

    @property
    def path(self) -> str:
        return self._packed

    def reseed(self, seed: str) -> PackedStore:
        return PackedStore(self._packed, seed, self._folder)

    def close(self) -> None:
        """Remove what was unpacked."""
        self._folder.cleanup()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise StoreError(f"{self._packed} is compressed: unpack it first to change it")

    add = set = delete = clear = prune = _refuse


def _unpack(path: str, to: str) -> None:
    try:
        with files.reader(path) as packed, open(to, "xb") as file:
            for line in plain_lines(packed, path):
                file.write(line)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error}") from error
