"""Disk caches of AutoGen 0.2, whose answers are pickled: read without running what they hold.

AutoGen keeps a JSON text of the request as the key, and the answer as a pickled model of the OpenAI
SDK. `cache.set` is given the same key and answer where AutoGen works with a `Cache` as its
``cache=``, so that is where the entries are found again.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from cachewrap.entry import Facts
from cachewrap.errors import CodecError, StoreError
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.request.key import canonical, encode, key_of, salted
from cachewrap.stores.disk.folder import DATABASE, WRITE_WAIT, connect, seed_of
from cachewrap.telemetry.usage import usage_of

_MODULE: Final = re.compile(r"openai\.types(\.[a-z_]+)*")
_CLASSES: Final[dict[tuple[str, str], type]] = {
    ("builtins", "set"): set,
    ("types", "SimpleNamespace"): SimpleNamespace,
}
_TEXT, _PICKLED = 3, 4  # diskcache's modes
_RAW: Final = 1
_FILE: Final = re.compile(r"[0-9a-f]{2}[/\\][0-9a-f]{2}[/\\][0-9a-f]{28}\.val")
_ROWS: Final = (
    "SELECT key, raw, store_time, mode, filename, value FROM Cache"
    " WHERE NOT (raw = 1 AND typeof(key) = 'blob' AND length(key) = 32)"
)


class _Unpickler(pickle.Unpickler):
    """Builds data models of the OpenAI SDK, sets and namespaces; no other class or function.

    A model is made without its constructor, and given its fields.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _CLASSES:
            return _CLASSES[module, name]
        if _MODULE.fullmatch(module):
            base = import_module("openai").BaseModel
            try:
                found = vars(import_module(module)).get(name)
            except ImportError:
                found = None
            if isinstance(found, type) and issubclass(found, base):
                return found
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not taken")


def folders(path: str) -> list[tuple[str, str]]:
    """The folders of AutoGen's seeds at or below a path, each with its seed.

    Raises `StoreError` where there is none.
    """
    there = Path(path).resolve()
    found = [there] if (there / DATABASE).is_file() else sorted(there.iterdir())
    named = [(str(f), seed_of(f.name) or f.name) for f in found if (f / DATABASE).is_file()]
    if not named:
        raise StoreError(f"{path} holds no disk cache of AutoGen's: no {DATABASE} in it or below")
    return named


def read_folder(folder: str) -> Iterator[tuple[str, bytes] | ValueError]:
    """The entries of one seed: key and envelope, or why an entry is not taken.

    Raises `StoreError`.
    """
    try:
        found = connect(os.path.join(folder, DATABASE), WRITE_WAIT)
        if found is None:
            return
        with closing(found) as database:
            for key, raw, stored, mode, filename, value in database.execute(_ROWS):
                try:
                    yield _entry(folder, key, raw, stored, mode, filename, value)
                except ValueError as error:
                    yield error
    except sqlite3.Error as error:
        raise StoreError(f"cannot read {folder}: {error}") from error


def _entry(
    folder: str, key: Any, raw: int, stored: float, mode: int, filename: str | None, value: Any
) -> tuple[str, bytes]:
    if raw != _RAW or not isinstance(key, str):
        raise ValueError("its key is not text, so it is not of AutoGen 0.2")
    answer = _answer(folder, mode, filename, value)
    try:
        kind, data = codec.encode(answer)
        usage = usage_of(answer)
    except CodecError as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # a model whose fields are not what its class says
        raise ValueError(f"its answer cannot be read: {error!r}") from error
    request = encode({"key": canonical(key)})
    facts = Facts(
        created=stored,
        seconds=0.0,
        source="cache.set",
        model=usage.model,
        tokens_in=usage.tokens_in,
        tokens_out=usage.tokens_out,
    )
    return key_of(salted("key"), request), seal(kind, data, request, facts)


def _answer(folder: str, mode: int, filename: str | None, value: Any) -> Any:
    if mode not in (_RAW, _TEXT, _PICKLED):
        raise ValueError("its answer is not pickled, so it is not of AutoGen 0.2")
    if filename is not None:
        if not _FILE.fullmatch(filename):
            raise ValueError("its answer is in a file that is not diskcache's")
        try:
            value = Path(folder, filename).read_bytes()
        except OSError as error:
            raise ValueError(f"its answer cannot be read: {error.strerror}") from error
        if mode == _TEXT:
            return value.decode(errors="replace")
    if mode != _PICKLED:
        return value
    try:
        return _Unpickler(io.BytesIO(value)).load()
    except pickle.UnpicklingError as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # what an unpickler raises for damaged bytes is any of a dozen
        raise ValueError(f"its answer cannot be unpickled: {error!r}") from error
