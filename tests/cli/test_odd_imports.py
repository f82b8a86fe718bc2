"""`import` and `copy` of what nobody wrote in good faith: told in one line each."""

from __future__ import annotations

import io
import json
import os
import pickle
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diskcache
import pytest

from cachewrap import Cache
from cachewrap.cli import foreign
from cachewrap.stores.disk import DiskStore
from cachewrap.stores.jsonl import lines
from cli.filling import CommandLine
from cli.test_autogen import KEY, completion

pytestmark = pytest.mark.stores("disk")


def laughs(levels: int = 30) -> bytes:
    """A list of ten references to a list of ten references, and so on."""
    value: Any = ["ha"] * 10
    for _ in range(levels):
        value = [value] * 10
    return pickle.dumps(value, protocol=5)


def shared(size: int = 1_000_000) -> bytes:
    """A long text, a million times."""
    return pickle.dumps(["x" * size] * 1_000_000, protocol=5)


def cycle() -> bytes:
    value: list[Any] = []
    value += [value] * 10
    return pickle.dumps(value, protocol=5)


def colliding(begin: bytes, end: bytes, value: bytes = b"") -> bytes:
    """A pickle of numbers of one hash."""
    raw = (pickle.encode_long(n * (2**61 - 1)) for n in range(1, 60_000))
    numbers = b"".join(b"\x8a" + bytes([len(number)]) + number + value for number in raw)
    return b"\x80\x05" + begin + numbers + end + b"."


def tuples() -> bytes:
    return pickle.dumps({(n, 0.5): n for n in range(10)}, protocol=5)


def deep() -> bytes:
    return b"\x80\x05" + b"]" * 50_000 + b"a" * 49_999 + b"."


BOMBS = {
    "billion laughs": laughs,
    "in a namespace": lambda: pickle.dumps(SimpleNamespace(a=pickle.loads(laughs(12)))),
    "a shared text": shared,
    "a cycle": cycle,
    "colliding set": lambda: colliding(b"\x8f(", b"\x90"),
    "colliding frozenset": lambda: colliding(b"(", b"\x91"),
    "colliding old set": lambda: colliding(b"cbuiltins\nset\n(](", b"etR"),
    "colliding keys": lambda: colliding(b"}(", b"u", b"N"),
    "colliding old keys": lambda: colliding(b"(", b"d", b"N"),
    "colliding keys one by one": lambda: colliding(b"}", b"", b"Ns"),
    "tuples as keys": tuples,
    "deep": deep,
    "cut": lambda: laughs()[:-2],
    "nothing": lambda: b"",
    "a memo that is not there": lambda: b"\x80\x05h\x07.",
    "no mark": lambda: b"\x80\x05e.",
}


def their_cache(folder: Path) -> None:
    with diskcache.Cache(str(folder)) as cache:
        cache.set(KEY, completion())


def change(folder: Path, sql: str, *values: Any) -> None:
    with sqlite3.connect(folder / "cache.db") as database:
        database.execute(sql, values)
    database.close()


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_left_out_soon(run: CommandLine, tmp_path: Path, bomb: Any) -> None:
    their_cache(tmp_path / "theirs" / "41")
    insert = (
        "INSERT INTO Cache (key, raw, store_time, access_time, mode, value)"
        " VALUES (?, 1, 1, 1, 4, ?)"
    )
    change(tmp_path / "theirs" / "41", insert, "bomb", bomb())
    start = time.monotonic()
    result = run("import", str(tmp_path / "theirs"), "--url", f"disk:{tmp_path / 'ours'}")
    assert time.monotonic() - start < 20
    assert result.status == 1
    assert result.out == "imported 1 entry; 1 unreadable\n"
    (told,) = result.err.splitlines()
    assert told.startswith("left out 1: ") and len(told) < 400


def test_no_memory_is_taken_for_bytes_that_are_not_there(run: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "theirs" / "41"
    their_cache(folder)
    bomb = b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"."
    change(folder, "UPDATE Cache SET value = ?, filename = NULL, mode = 4", bomb)
    result = run("import", str(tmp_path / "theirs"), "--url", f"disk:{tmp_path / 'ours'}")
    assert result.err == "left out 1: it holds a bytearray, which is not taken\n"


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(
            f"VIEW full_llm_cache AS {ENDLESS} SELECT 'p' || x AS prompt, 'm' AS llm, 0 AS idx,"
            " '' AS response FROM n",
            id="view",
        ),
        pytest.param(
            "TABLE full_llm_cache (prompt, llm, idx,"
            " response AS (hex(hex(hex(zeroblob(100000000))))))",
            id="computed column",
        ),
    ],
)
def test_a_database_that_computes_is_no_cache(run: CommandLine, tmp_path: Path, made: str) -> None:
    pytest.importorskip("langchain_core")
    with sqlite3.connect(tmp_path / "theirs.db") as database:
        database.execute(f"CREATE {made}")
    database.close()
    result = run("import", str(tmp_path / "theirs.db"), "--url", f"disk:{tmp_path / 'ours'}")
    assert result.status == 3
    assert "full_llm_cache is computed, and may take for ever" in result.err


def test_a_disk_cache_that_computes_is_left_out(run: CommandLine, tmp_path: Path) -> None:
    for seed in ("41", "42"):
        their_cache(tmp_path / "theirs" / seed)
    change(tmp_path / "theirs" / "41", "ALTER TABLE Cache RENAME TO Other")
    change(
        tmp_path / "theirs" / "41",
        f"CREATE VIEW Cache AS {ENDLESS} SELECT CAST(x AS TEXT) AS key, 2 AS raw, 1 AS store_time,"
        " 1 AS mode, NULL AS filename, NULL AS value FROM n",
    )
    result = run("import", str(tmp_path / "theirs"), "--url", f"disk:{tmp_path / 'ours'}")
    assert (result.status, result.out) == (1, "imported 1 entry; 1 unreadable\n")
    assert "holds the view Cache, which is none of a cache's" in result.err


ROWS = {
    "time that is text": ("store_time", "abc"),
    "no time": ("store_time", None),
    "endless time": ("store_time", 1e999),
    "mode that is text": ("mode", "x"),
    "file that is bytes": ("filename", b"\xff"),
    "file elsewhere": ("filename", "../../../etc/passwd"),
    "file that is not there": ("filename", "aa/bb/0123456789abcdef0123456789ab.val"),
    "key that is bytes": ("key", b"\xff"),
    "key that is a number": ("key", 7),
    "answer that is text": ("value", "x"),
    "answer that is a number": ("value", 7),
    "no answer": ("value", None),
}


@pytest.mark.parametrize(("column", "value"), ROWS.values(), ids=ROWS)
def test_a_row_of_other_types_is_left_out(
    run: CommandLine, tmp_path: Path, column: str, value: Any
) -> None:
    for seed in ("41", "42"):
        their_cache(tmp_path / "theirs" / seed)
    change(tmp_path / "theirs" / "41", f"UPDATE Cache SET {column} = ?", value)
    result = run("import", str(tmp_path / "theirs"), "--url", f"disk:{tmp_path / 'ours'}")
    if column == "store_time" and value == 1e999:
        assert result.status in (0, 1)
        return
    assert (result.status, result.out) == (1, "imported 1 entry; 1 unreadable\n")
    assert len(result.err.splitlines()) == 1


def test_a_key_that_is_no_text_of_utf_8_is_left_out(run: CommandLine, tmp_path: Path) -> None:
    for seed in ("41", "42"):
        their_cache(tmp_path / "theirs" / seed)
    change(tmp_path / "theirs" / "41", "UPDATE Cache SET key = CAST(? AS TEXT)", b"a\xff")
    result = run("import", str(tmp_path / "theirs"), "--url", f"disk:{tmp_path / 'ours'}")
    assert (result.status, result.out) == (1, "imported 1 entry; 1 unreadable\n")


@pytest.mark.posix("mkfifo")
def test_an_answer_in_a_pipe_is_left_out(run: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "theirs" / "41"
    their_cache(folder)
    name = "aa/bb/0123456789abcdef0123456789ab.val"
    (folder / "aa" / "bb").mkdir(parents=True)
    os.mkfifo(folder / name)
    change(folder, "UPDATE Cache SET filename = ?", name)
    result = run("import", str(folder), "--url", f"disk:{tmp_path / 'ours'}")
    assert (result.status, result.out) == (1, "imported 0 entries; 1 unreadable\n")


def test_one_folder_of_many_that_is_no_database_is_left_out(
    run: CommandLine, tmp_path: Path
) -> None:
    for seed in ("41", "42"):
        their_cache(tmp_path / "theirs" / seed)
    (tmp_path / "theirs" / "41" / "cache.db").write_bytes(b"x" * 5000)
    result = run("import", str(tmp_path / "theirs"), "--url", f"disk:{tmp_path / 'ours'}")
    assert (result.status, result.out) == (1, "imported 1 entry; 1 unreadable\n")


NAMES = ["a b", "a\nb", "a\x1b[31m", "%2F..%2F..", "%FF", "%00", "\udcff", "..x", "x" * 200, "é"]


@pytest.mark.posix("names of any bytes")
def test_folders_of_odd_names(run: CommandLine, tmp_path: Path) -> None:
    their_cache(tmp_path / "theirs" / "41")
    for name in NAMES:
        folder = tmp_path / "theirs" / os.fsencode(name).decode("utf-8", "surrogateescape")
        their_cache(tmp_path / "one")
        os.rename(tmp_path / "one", folder)
    ours = tmp_path / "ours"
    result = run("import", str(tmp_path / "theirs"), "--url", f"disk:{ours}")
    assert result.status in (0, 1)
    assert "\x1b" not in result.err and "Traceback" not in result.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ours", "theirs"]
    assert "41" in DiskStore(ours).seeds()


def line_of(seed: Any, number: int = 0) -> str:
    """A line of a cassette."""
    envelope = _envelope()
    shown = json.loads(lines.write(f"{number:064x}", "41", envelope))
    return json.dumps({**shown, "seed": seed})


def _envelope() -> bytes:
    cache = Cache.memory()
    cache.set("k", "v")
    (key,) = cache.store.keys()
    found = cache.store.get(key)
    assert found is not None
    return found


SEEDS = [
    "",
    "a/b",
    "..",
    "/etc/x",
    "a\\b",
    "a\0b",
    "\ud800",
    "x" * 100_000,
    "\x1b]0;x\x07",
    "a\r\nb",
]


@pytest.mark.parametrize("target", ["disk", "jsonl"])
def test_lines_of_odd_seeds(run: CommandLine, tmp_path: Path, target: str) -> None:
    file = tmp_path / "in.jsonl"
    told = [line_of(seed, number) for number, seed in enumerate([*SEEDS, 7, None, ["a"], "41"])]
    file.write_text("\n".join(told))
    ours = tmp_path / "ours"
    result = run("import", str(file), "--url", f"{target}:{ours}", "--json")
    assert result.status == 1
    facts = json.loads(result.out)
    assert facts["moved"] + facts["unreadable"] == len(told)
    assert facts["moved"] >= 2
    assert all(len(line) < 500 for line in result.err.splitlines())
    assert "\x1b" not in result.err and "\r" not in result.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "ours"]
    again = run("copy", f"{target}:{tmp_path / 'copy'}", "--url", f"{target}:{ours}", "--all-seeds")
    assert again.status in (0, 1) and "Traceback" not in again.err


KEYS = ["", "..", "../x", "a" * 64 + "/", "A" * 64, "\x1b" * 64, "é" * 64, "0" * 1_000_000]


def test_lines_of_odd_keys(run: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    good = json.loads(line_of("41"))
    file.write_text("\n".join(json.dumps({**good, "key": key}) for key in [*KEYS, "0" * 64]))
    result = run("import", str(file), "--url", f"disk:{tmp_path / 'ours'}")
    assert (result.status, result.out) == (1, f"imported 1 entry; {len(KEYS)} unreadable\n")
    assert all(len(line) < 500 for line in result.err.splitlines())


FEW = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from cachewrap.cli.main import main
main(sys.argv[1:])
"""


def with_few_files(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FEW, *words], capture_output=True, text=True, timeout=300
    )


@pytest.mark.posix("resource limits")
def test_many_seeds_with_few_files(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    told = [line_of(f"seed-{n % 50}", n) for n in range(50)]
    file.write_text("\n".join(told))
    ours = f"disk:{tmp_path / 'ours'}"
    done = with_few_files("import", str(file), "--url", ours)
    assert (done.returncode, done.stdout) == (0, "imported 50 entries\n"), done.stderr
    done = with_few_files("copy", f"disk:{tmp_path / 'copy'}", "--url", ours, "--all-seeds")
    assert (done.returncode, done.stdout) == (0, "copied 50 entries\n"), done.stderr
    for words in (["stats"], ["export", str(tmp_path / "out.jsonl")]):
        done = with_few_files(*words, "--url", ours, "--all-seeds")
        assert done.returncode == 0, done.stderr


def test_what_is_honest_is_taken_as_before(tmp_path: Path) -> None:
    answer = completion("x" * 1_000)
    again = foreign._Unpickler(io.BytesIO(pickle.dumps(answer, protocol=5))).load()
    assert again == answer and again.model_fields_set == answer.model_fields_set
