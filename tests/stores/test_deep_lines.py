"""Cassettes with lines that are nested so deeply that no Python reads them, and what is written."""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import run
from cli.filling import CommandLine

from cachewrap import Cache, CacheWarning, ReplayMissError, StoreError, llm_cached
from cachewrap.entry import Facts, HttpAnswer, Items
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.request import key
from cachewrap.stores.jsonl import JsonlStore, lines
from cachewrap.stores.jsonl.lines import head_of
from cachewrap.stores.jsonl.shown import is_deep
from cachewrap.testing.stores import key_of

__all__ = ["run"]

pytestmark = pytest.mark.stores("jsonl")

KEY, OTHER = key_of(1), key_of(2)
DEPTHS = [99, 150, 400, 900, 3_000, 100_000]
FACTS = Facts(1.0, 0.1, source="m:f", model="gpt")


def deep(depth: int) -> str:
    return "[" * depth + "]" * depth


def depth_of(line: bytes) -> int:
    deepest = depth = 0
    quoted = escaped = False
    for byte in line.decode():
        if quoted:
            quoted = escaped or byte != '"'
            escaped = not escaped and byte == "\\"
        elif byte == '"':
            quoted = True
        elif byte in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in "]}":
            depth -= 1
    return deepest


def poisoned(where: str, depth: int) -> str:
    """A line whose one field is nested."""
    fields: dict[str, Any] = {"key": OTHER, "seed": "41", "source": "m:f", "kind": "text"}
    answer = '"a"'
    if where == "answer":
        answer = deep(depth)
    head = json.dumps(fields)[:-1]
    more = f', "{where}": {deep(depth)}' if where != "answer" else ""
    return f'{head}, "answer": {answer}{more}}}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A cassette with one good entry in its last line."""

    @llm_cached
    def ask(prompt: str) -> str:
        return "the answer"

    path = tmp_path / "answers.jsonl"
    with Cache.jsonl(path):
        ask("x")
    return path


def insert(path: Path, line: str) -> None:
    """Put a line in the second place, before the entries."""
    head, *rest = path.read_text().splitlines()
    path.write_text("\n".join([head, line, *rest, ""]))


wheres = pytest.mark.parametrize("where", ["answer", "request", "key2", "seed", "kind", "tokens"])
depths = pytest.mark.parametrize("depth", DEPTHS)


@wheres
@depths
def test_the_other_lines_serve(path: Path, where: str, depth: int) -> None:
    (name,) = JsonlStore(path).names()
    insert(path, poisoned(where, depth))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        store = JsonlStore(path)
        assert store.get(name[1]) is not None
        assert name in store.names()
        refused = ""
        try:
            store.get(OTHER)
        except StoreError as error:
            refused = str(error)
        assert f"{path}, line 2" in (refused or f"{path}, line 2")
        assert "RecursionError" not in refused
        JsonlStore(path)._cassette._read()
    texts = [str(one.message) for one in told]
    assert len(texts) <= 1
    assert all(text.startswith(f"{path}, line 2: ") and len(text) < 400 for text in texts)


COMMANDS = [
    ("ls",),
    ("stats",),
    ("verify",),
    ("verify", "--json"),
    ("show", OTHER),
    ("export", "-"),
    ("report", "-o", "REPORT"),
    ("copy", "disk:COPY"),
    ("prune", "--older-than", "1d", "--dry-run"),
    ("prune", "--damaged"),
    ("clear", "--yes"),
]


@pytest.mark.parametrize("depth", [150, 3_000, 100_000])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.filterwarnings("ignore::cachewrap.CacheWarning")
def test_every_command_goes_on(
    run: CommandLine, path: Path, tmp_path: Path, words: tuple[str, ...], depth: int
) -> None:
    for where in ("answer", "request", "other"):
        insert(path, poisoned(where, depth))
    named = [
        word.replace("COPY", str(tmp_path / "copy")).replace(
            "REPORT", str(tmp_path / "report.html")
        )
        for word in words
    ]
    result = run(*named, "--url", f"jsonl:{path}")
    assert result.status in ((0, 1, 3) if words[0] == "show" else (0, 1))
    assert "Traceback" not in result.err and "recursion" not in result.err.lower()


@pytest.mark.parametrize("depth", [150, 3_000, 100_000])
def test_an_import_leaves_it_out(run: CommandLine, path: Path, tmp_path: Path, depth: int) -> None:
    insert(path, poisoned("answer", depth))
    result = run("import", str(path), "--url", f"disk:{tmp_path / 'into'}", "--json")
    assert (result.status, result.lines[0]["moved"]) == (1, 1)
    assert "line 2" in result.err or "left out 1" in result.err


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


WRITTEN = {
    "body": lambda depth: seal(
        *codec.encode(HttpAnswer(200, [], [deep(depth).encode()], [])), b"", FACTS
    ),
    "events": lambda depth: seal(
        *codec.encode(HttpAnswer(200, [], [f"data: {deep(depth)}\n\n".encode()], [])), b"", FACTS
    ),
    "chunks": lambda depth: seal(
        *codec.encode(HttpAnswer(200, [], [b"a", deep(depth).encode()], [0.0, 0.1], True)),
        b"",
        FACTS,
    ),
    "value": lambda depth: seal(*codec.encode(nested(depth)), b"", FACTS),
    "items": lambda depth: seal(
        *codec.encode(Items([codec.encode(nested(depth))], [0.0], codec.encode(None))), b"", FACTS
    ),
    "request": lambda depth: seal(*codec.encode("a"), key.encode({"body": nested(depth)}), FACTS),
}


@pytest.mark.parametrize("make", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("depth", [10, 90, 101, 300, 480, 900])
def test_what_is_written_can_be_read_with_little_room(make: Any, depth: int) -> None:
    try:
        envelope = make(depth)
    except (codec.UnsupportedTypeError, RecursionError):
        pytest.skip("it is not stored at all")
    line = lines.write(KEY, "41", envelope)
    assert depth_of(line) < 120
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 1000))
    try:
        assert _from(600, lambda: lines.read(line)) == envelope
    finally:
        sys.setrecursionlimit(limit)


def _from(frames: int, call: Any) -> Any:
    return call() if not frames else _from(frames - 1, call)


def test_a_call_without_room_does_not_take_lines_for_damaged(path: Path) -> None:
    """The fault is the caller's own then, and nothing is remembered of it."""
    store = JsonlStore(path)
    (name,) = store.names()
    with warnings.catch_warnings():
        warnings.simplefilter("error", CacheWarning)
        for room in range(1, 60, 3):
            fresh = JsonlStore(path)
            fresh._cassette._content.forget()
            try:
                _until(room, lambda fresh=fresh: fresh.get(name[1]))
            except (RecursionError, StoreError):
                continue
    assert JsonlStore(path).get(name[1]) is not None


def _until(room: int, call: Any) -> Any:
    """Call where so many frames are left."""
    depth = 0
    frame = sys._getframe()
    while frame is not None:
        depth += 1
        frame = frame.f_back  # type: ignore[assignment]
    return _from(max(0, sys.getrecursionlimit() - depth - room), call)


def test_a_replayed_call_tells_of_its_own_line_alone(path: Path) -> None:
    (_name,) = JsonlStore(path).names()
    line = json.loads(path.read_text().splitlines()[1])
    line["answer"] = "DEEP"
    text = json.dumps(line).replace('"DEEP"', deep(100_000))
    path.write_text(path.read_text().splitlines()[0] + "\n" + text + "\n")

    @llm_cached
    def ask(prompt: str) -> str:
        return "new"

    with warnings.catch_warnings(action="ignore"):
        with Cache.jsonl(path, mode="replay"), pytest.raises(ReplayMissError):
            ask("x")
        with Cache.jsonl(path):
            assert ask("x") == "new"


QUOTED = {
    "escaped quotes without an end": b'"' + b'\\"' * 500_000,
    "text without an end": b'"' + b"a" * 5_000_000,
    "backslashes without an end": b'"' + b"\\" * 1_000_001,
    "many texts": b'"a"' * 500_000,
}


@pytest.mark.parametrize("quoted", QUOTED.values(), ids=QUOTED)
def test_a_deep_line_is_looked_at_once(quoted: bytes) -> None:
    start = time.process_time()
    with pytest.raises(ValueError, match="nested too deeply"):
        head_of(b'{"x":' + b"[" * 100_000 + quoted)
    assert not is_deep(b'{"x":' + quoted)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("line", "deep"),
    [
        (b"[" * 200, False),
        (b"[" * 201, True),
        (b"{" * 201, True),
        (b'"' + b"[" * 1000 + b'"', False),
        (b'"\\"' + b"[" * 1000 + b'"', False),
        (b'"\\\\"' + b"[" * 1000, True),
        (b"[]" * 1000, False),
        (b'["[",' * 201, True),
    ],
)
def test_brackets_in_texts_are_not_counted(line: bytes, deep: bool) -> None:
    assert is_deep(line) == deep
