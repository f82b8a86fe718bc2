"""SQLite caches of LangChain: read without unpickling, or building anything but messages.

LangChain keeps the prompt, a text of the model's settings, and each answer as JSON. Where it works
with `LangChainCache`, that is asked with the same two texts, so the entries are found again.
"""

from __future__ import annotations

import json
import os
import sqlite3
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from cachewrap.entry import Facts
from cachewrap.errors import CodecError, StoreError, UnkeyableError
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.integrations._langchain import MODEL_CALL, call_request, reviver, usage_of_messages
from cachewrap.request.key import encode, key_of, salted

_BEGINS: Final = b"SQLite format 3\0"
# Those of `SQLiteCache` and of `SQLAlchemyMd5Cache`.
_TABLES: Final = ("full_llm_cache", "full_md5_llm_cache")
_TAKEN: Final = frozenset(
    f"{name}{chunk}"
    for name in ("Generation", "ChatGeneration", "AIMessage", "HumanMessage", "SystemMessage")
    for chunk in ("", "Chunk")
) | {"ChatMessage", "ToolMessage", "FunctionMessage"}
_HOMES: Final = ("langchain", "langchain_core")


def is_langchain(path: str) -> bool:
    """Whether a file is a database of SQLite's, as LangChain's cache is one."""
    try:
        with open(path, "rb") as file:
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
            for table in _tables(database, path):
                sql = f"SELECT prompt, llm, response FROM {table} ORDER BY prompt, llm, idx"
                for (prompt, llm), rows in groupby(database.execute(sql), itemgetter(0, 1)):
                    try:
                        yield _entry(prompt, llm, [row[2] for row in rows], created, revive)
                    except ValueError as error:
                        yield error
    except sqlite3.Error as error:
        raise StoreError(f"cannot read {path}: {error}") from error


def _tables(database: sqlite3.Connection, path: str) -> list[str]:
    there = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    found = [table for table in _TABLES if table in there]
    if not found:
        raise StoreError(f"{path} is no cache of LangChain's: it has no table {_TABLES[0]}")
    return found


def _entry(
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
    facts = Facts(
        created=created,
        seconds=0.0,
        source=MODEL_CALL,
        model=usage.model,
        tokens_in=usage.tokens_in,
        tokens_out=usage.tokens_out,
    )
    return key_of(salted(MODEL_CALL), request), seal(kind, answer, request, facts)


def _generation(response: Any, revive: Callable[[str], Any]) -> Any:
    """An answer, built by LangChain's own classes once it is known that it names no others."""
    try:
        plain = json.loads(response)
    except (ValueError, TypeError, RecursionError):
        raise ValueError(
            "its answer is not JSON: LangChain of 2023 kept texts, without what the model was"
        ) from None
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
        inner: Iterable[Any] = ()
        if isinstance(node, list):
            inner = node
        elif isinstance(node, dict):
            inner = node.values()
            if node.get("lc") == 1:
                path = node.get("id")
                named = [str(part) for part in path] if isinstance(path, list) else ["nothing"]
                if (
                    node.get("type") != "constructor"
                    or named[0] not in _HOMES
                    or named[-1] not in _TAKEN
                ):
                    raise ValueError(f"its answer holds {'.'.join(named)}, which is not taken")
        waiting.extend(inner)
