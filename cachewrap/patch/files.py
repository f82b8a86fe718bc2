"""Uploads as they enter a key: field, name, type and the hash of the content."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from cachewrap.errors import UnkeyableError

_BLOCK: Final = 1 << 20


def fingerprints(files: Any) -> list[dict[str, str]]:
    """One plain dictionary for each upload, in the order in which they are sent.

    Args:
        files: uploads as an SDK holds them: a mapping or pairs of a field's name and bytes, a
            path, a seekable binary file, or a tuple of name, content, type and headers.

    A file is read from its start, because that is what is sent, and left where it was.
    Raises `UnkeyableError` for content that cannot be read twice.
    """
    pairs: Iterable[Any] = files.items() if isinstance(files, Mapping) else files
    return [_fingerprint(str(field), upload) for field, upload in pairs]


def _fingerprint(field: str, upload: Any) -> dict[str, str]:
    found = {"field": field}
    if isinstance(upload, tuple):
        name, content, *more = upload
        if name is not None:
            found["name"] = str(name)
        if more and more[0] is not None:
            found["type"] = str(more[0])
        if len(more) > 1 and more[1]:
            found["headers"] = "\n".join(sorted(f"{k}: {v}" for k, v in dict(more[1]).items()))
    else:
        content = upload
        name = upload if isinstance(upload, os.PathLike) else getattr(upload, "name", None)
        if name is not None:
            found["name"] = Path(os.fsdecode(name) if not isinstance(name, int) else str(name)).name
    found["sha256"] = _hash(field, content)
    return found


def _hash(field: str, content: Any) -> str:
    if isinstance(content, str):
        return hashlib.sha256(content.encode()).hexdigest()
    if isinstance(content, (bytes, bytearray, memoryview)):
        return hashlib.sha256(content).hexdigest()
    if isinstance(content, os.PathLike):
        with open(content, "rb") as file:
            return _hash_file(field, file)
    return _hash_file(field, content)


def _hash_file(field: str, file: Any) -> str:
    digest = hashlib.sha256()
    try:
        position = file.tell()
        file.seek(0)
        try:
            while block := file.read(_BLOCK):
                digest.update(block)
        finally:
            file.seek(position)
    except (AttributeError, TypeError, ValueError, io.UnsupportedOperation, OSError) as error:
        raise UnkeyableError(
            f"the upload {field!r} ({type(file).__name__}) cannot be read twice, so it has no key; "
            "pass bytes, a path, or a seekable file opened in binary mode"
        ) from error
    return digest.hexdigest()
