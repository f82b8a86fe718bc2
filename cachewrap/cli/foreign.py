"""Caches of other libraries, read without running what they hold.

AutoGen 0.2 keeps a JSON text of the request as the key, and the answer as a pickled model of the
OpenAI SDK, in a disk cache. `cache.set` is given the same key and answer where AutoGen works with a
`Cache` as its ``cache=``, so that is where the entries are found again.

LangChain keeps the prompt, a text of the model's settings, and each answer as JSON, in a database
of SQLite's. Where it works with `LangChainCache`, that is asked with the same two texts, so the
entries are found again. Nothing but messages is built of them.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import sqlite3
import stat
import struct
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import astuple
from importlib import import_module
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Final

from cachewrap.entry import Facts
from cachewrap.errors import CodecError, StoreError, UnkeyableError
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.integrations._langchain import MODEL_CALL, call_request, reviver, usage_of_messages
from cachewrap.policy import STORE_SECONDS
from cachewrap.request.canonical import canonical
from cachewrap.request.key import encode, key_of, salted, stored as as_stored
from cachewrap.stores.disk.folder import SMALL_VALUE, connect, execute
from cachewrap.stores.seed_folders import DATABASE, seed_of
from cachewrap.systems import files
from cachewrap.telemetry.reading import usage_of

_MODULE: Final = re.compile(r"openai\.types(\.[a-z_]+)*")
_LARGEST: Final = 256 * 2**20
"""Bytes of an answer, at most, that are read."""

_ODD: Final = (TypeError, OverflowError, struct.error, RecursionError, MemoryError)
"""What rows of other types than theirs may raise."""

_MORE, _TIMES = 1_000_000, 32  # what an answer may become, beside so many times its own size
_TEXT, _PICKLED = 3, 4  # diskcache's modes
_RAW: Final = 1
_FILE: Final = re.compile(r"[0-9a-f]{2}[/\\][0-9a-f]{2}[/\\][0-9a-f]{28}\.val")
_AUTOGEN_ROWS: Final = (
    f"SELECT key, raw, store_time, mode, filename, {SMALL_VALUE} FROM Cache"
    " WHERE NOT (raw = 1 AND typeof(key) = 'blob' AND length(key) = 32)"
)


def _checked(members: list[Any]) -> list[Any]:
    """Keys of a dictionary or members of a set, of types whose hashes nobody can have collide."""
    for member in members:
        if type(member) not in _HASHED and not (type(member) is int and -(2**31) <= member < 2**31):
            raise pickle.UnpicklingError(f"it has a {type(member).__name__} as a key or in a set")
    return members


_HASHED: Final = frozenset({str, bytes, bool, type(None)})


def _set(members: Any = ()) -> set[Any]:
    return set(_checked(list(members)))


_CLASSES: Final[dict[tuple[str, str], Callable[..., Any]]] = {
    ("builtins", "set"): _set,
    ("types", "SimpleNamespace"): SimpleNamespace,
}


class _Unpickler(pickle._Unpickler):
    """An unpickler of data models of the OpenAI SDK, sets and namespaces, and of no other class.

    A model is made without its constructor, and given its fields. What is done is linear in the
    bytes: no member of a set and no key of a dictionary is compared with all the others.
    """

    stack: list[Any]
    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)

    def _load_keyed(self) -> None:
        _checked(self.stack[::2])

    def _load_one(self) -> None:
        _checked(self.stack[-2:-1])

    def _load_members(self) -> None:
        _checked(self.stack)

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


def _checking(opcode: bytes, check: Callable[[Any], None]) -> None:
    load = _Unpickler.dispatch[opcode[0]]

    def checked(unpickler: Any) -> None:
        check(unpickler)
        load(unpickler)

    _Unpickler.dispatch[opcode[0]] = checked


def _refuse_bytearray(_: Any) -> None:
    # Memory would be taken for as many bytes as it says, before one of them is read.
    raise pickle.UnpicklingError("it holds a bytearray, which is not taken")


_checking(pickle.BYTEARRAY8, _refuse_bytearray)
for _opcode in (pickle.DICT, pickle.SETITEMS):
    _checking(_opcode, _Unpickler._load_keyed)
for _opcode in (pickle.ADDITEMS, pickle.FROZENSET):
    _checking(_opcode, _Unpickler._load_members)
_checking(pickle.SETITEM, _Unpickler._load_one)


def _measure(value: Any, most: int) -> None:
    """Raise `ValueError` for a value that is larger than ``most``, with all that it repeats.

    What is pickled once may stand in it a billion times.
    """
    waiting = [value]
    while waiting:
        held = waiting.pop()
        kind = type(held)
        most -= 1 + (len(held) if kind is str or kind is bytes else 0)
        if most < 0:
            raise ValueError("its answer becomes much larger than it is")
        if kind in (list, tuple, set, frozenset):
            waiting += held
        elif kind is dict:
            waiting += held
            waiting += held.values()
        elif kind not in (str, bytes, int, float, bool, type(None)):
            waiting += [getattr(held, name, None) for name in ("__dict__", *_MODEL_PARTS)]


_MODEL_PARTS: Final = ("__pydantic_extra__", "__pydantic_private__", "__pydantic_fields_set__")


def folders(path: str) -> list[tuple[str, str]]:
    """The folders of AutoGen's seeds at or below a path, each with its seed.

    Raises `StoreError` where there is none.
    """
    there = Path(path).resolve()
    found = [there] if (there / DATABASE).is_file() else sorted(there.iterdir())
    named = [(str(f), seed_of(f.name) or f.name) for f in found if (f / DATABASE).is_file()]
    if not named:
        raise StoreError(
            f"{path} holds no disk cache of AutoGen's: no {DATABASE} in it or below;"
            " what is cachewrap's own is copied, by cachewrap copy"
        )
    return named


def read_folder(folder: str) -> Iterator[tuple[str, bytes] | ValueError]:
    """The entries of one seed: key and envelope, or why an entry is not taken.

    Raises `StoreError`.
    """
    try:
        found = connect(os.path.join(folder, DATABASE), STORE_SECONDS)
        if found is None:
            return
        with closing(found) as database:
            database.text_factory = _text
            rows = execute(database, STORE_SECONDS, _AUTOGEN_ROWS)
            for key, raw, stored, mode, filename, value in rows:
                try:
                    yield _autogen_entry(folder, key, raw, stored, mode, filename, value)
                except ValueError as error:
                    yield error
                except _ODD as error:
                    yield ValueError(f"its row cannot be read: {error}")
    except sqlite3.Error as error:
        raise StoreError(f"cannot read {folder}: {error}") from error


def _text(raw: bytes) -> str | bytes:
    """A text of a database; bytes where it is none."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _autogen_entry(
    folder: str, key: Any, raw: int, stored: float, mode: int, filename: Any, value: Any
) -> tuple[str, bytes]:
    if not isinstance(filename, (str, type(None))):
        raise ValueError("its answer is in a file that is not diskcache's")
    if raw != _RAW or not isinstance(key, str):
        raise ValueError("its key is not text, so it is not of AutoGen 0.2")
    answer = _autogen_answer(folder, mode, filename, value)
    try:
        kind, data = codec.encode(answer)
        usage = usage_of(answer)
    except CodecError as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # a model whose fields are not what its class says
        raise ValueError(f"its answer cannot be read: {error!r:.200}") from error
    request = encode({"key": canonical(key)})
    facts = Facts(stored, 0.0, 0.0, "cache.set", *astuple(usage))
    return key_of(salted("key"), request), seal(kind, data, as_stored(request), facts)


def _autogen_answer(folder: str, mode: int, filename: str | None, value: Any) -> Any:
    if mode not in (_RAW, _TEXT, _PICKLED):
        raise ValueError("its answer is not pickled, so it is not of AutoGen 0.2")
    if filename is not None:
        if not _FILE.fullmatch(filename):
            raise ValueError("its answer is in a file that is not diskcache's")
        try:
            value = _content(os.path.join(folder, filename))
        except OSError as error:
            raise ValueError(f"its answer cannot be read: {error.strerror}") from error
        if mode == _TEXT:
            return value.decode(errors="replace")
    if mode != _PICKLED:
        return value
    if not isinstance(value, bytes):
        raise ValueError("its answer is not pickled, so it is not of AutoGen 0.2")
    try:
        answer = _Unpickler(io.BytesIO(value)).load()
        _measure(answer, _MORE + _TIMES * len(value))
        return answer
    except ValueError:
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # what an unpickler raises for damaged bytes is any of a dozen
        raise ValueError(f"its answer cannot be unpickled: {error!r:.200}") from error


def _content(path: str) -> bytes:
    """A file of a folder. Raises `OSError`, and `ValueError` for what is none or is too large."""
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
        raise ValueError("its answer is no file, or a very large one")
    found: bytes = files.contents(path, follows=False)
    return found


_BEGINS: Final = b"SQLite format 3\0"
# Those of `SQLiteCache` and of `SQLAlchemyMd5Cache`.
_TABLES: Final = ("full_llm_cache", "full_md5_llm_cache")
_COMPUTED: Final = re.compile(r"\bAS\b|\b(?:VIEW|VIRTUAL)\b", re.IGNORECASE)
_TAKEN: Final = frozenset(
    f"{name}{chunk}"
    for name in ("Generation", "ChatGeneration", "AIMessage", "HumanMessage", "SystemMessage")
    for chunk in ("", "Chunk")
) | {"ChatMessage", "ToolMessage", "FunctionMessage"}
_HOMES: Final = ("langchain", "langchain_core")


def is_langchain(path: str) -> bool:
    """Whether a file is a database of SQLite's, as LangChain's cache is one."""
    try:
        with files.reader(path) as file:
            return file.read(len(_BEGINS)) == _BEGINS
    except OSError:
        return False  # whoever reads it says why it cannot be read


def read_database(path: str) -> Iterator[tuple[str, bytes] | ValueError]:
    """The entries of a database: key and envelope, or why an answer is not taken.

    Raises `StoreError` for a database that is no cache of LangChain's, and `ConfigurationError`
    where langchain-core is not installed.
    """
    revive = reviver()
    created = os.stat(path).st_mtime  # LangChain does not say when
    place = f"file:{urllib.parse.quote(os.path.abspath(path))}?mode=ro"
    try:
        with closing(sqlite3.connect(place, uri=True)) as database:
            database.text_factory = _text
            there = dict(database.execute("SELECT name, sql FROM sqlite_master"))
            if not there.keys() & set(_TABLES):
                raise StoreError(f"{path} is no cache of LangChain's: it has no table {_TABLES[0]}")
            for table in (name for name in _TABLES if name in there):
                if not isinstance(there[table], str) or _COMPUTED.search(there[table]):
                    raise StoreError(
                        f"{path} is no cache of LangChain's: {table} is computed, and may take for"
                        " ever"
                    )
                sql = f"SELECT prompt, llm, response FROM {table} ORDER BY prompt, llm, idx"
                for (prompt, llm), rows in groupby(database.execute(sql), itemgetter(0, 1)):
                    try:
                        yield _langchain_entry(
                            prompt, llm, [row[2] for row in rows], created, revive
                        )
                    except ValueError as error:
                        yield error
                    except _ODD as error:
                        yield ValueError(f"its row cannot be read: {error}")
    except sqlite3.Error as error:
        raise StoreError(f"cannot read {path}: {error}") from error


def _langchain_entry(
    prompt: Any, llm: Any, responses: list[Any], created: float, revive: Callable[[str], Any]
) -> tuple[str, bytes]:
    if not isinstance(prompt, str) or not isinstance(llm, str):
        raise ValueError("its prompt and its model are not text")
    if " object at 0x" in llm:
        raise ValueError("its model's settings name an object in memory, which no later call has")
    generations = [_generation(response, revive) for response in responses]
    usage = usage_of_messages(getattr(generation, "message", None) for generation in generations)
    try:
        request = encode(call_request(prompt, llm))
        kind, answer = codec.encode(generations)
    except (CodecError, UnkeyableError) as error:
        raise ValueError(str(error)) from error
    facts = Facts(created, 0.0, 0.0, MODEL_CALL, *astuple(usage))
    return key_of(salted(MODEL_CALL), request), seal(kind, answer, as_stored(request), facts)


def _generation(response: Any, revive: Callable[[str], Any]) -> Any:
    """An answer, built by LangChain's own classes once it is known that it names no others."""
    try:
        plain = json.loads(response)
    except (ValueError, TypeError, RecursionError):
        raise ValueError(
            "its answer is not JSON: LangChain of 2023 kept texts, without what the model was"
        ) from None
    if len(response) > _LARGEST:
        raise ValueError("its answer is a very large one")
    if not isinstance(plain, dict) or plain.get("lc") != 1:
        raise ValueError("its answer is not what LangChain writes")
    _check(plain)
    try:
        return revive(response)
    except Exception as error:  # whatever its classes make of fields that they do not expect
        raise ValueError(f"its answer cannot be read: {error!r:.200}") from error


def _check(plain: Any) -> None:
    """Raise `ValueError` for JSON that names anything but answers and messages of LangChain's."""
    waiting = [plain]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            waiting += node.values()
            if node.get("lc") == 1:
                path = node.get("id")
                named = [str(part) for part in path] if isinstance(path, list) else ["nothing"]
                if (
                    node.get("type") != "constructor"
                    or named[0] not in _HOMES
                    or named[-1] not in _TAKEN
                ):
                    raise ValueError(f"its answer holds {'.'.join(named)}, which is not taken")
