"""What goes wrong: one clear line, a documented status, and no traceback."""

from __future__ import annotations

import io
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import click
import pytest

from cachewrap.cli.main import _COMMANDS, _write_utf_8, cli
from cli.filling import CommandLine

WRONG: list[tuple[str, list[str], int, str]] = [
    ("no such folder", ["ls", "--url", "disk:/no/such/folder"], 3, "no such folder"),
    ("a file", ["ls", "--url", f"disk:{__file__}"], 3, "it is not a folder"),
    ("no cache", ["stats", "--url", f"disk:{os.path.dirname(__file__)}"], 3, "is not a cache"),
    ("no cassette", ["ls", "--url", f"jsonl:{__file__}"], 3, "none of its lines is an entry"),
    ("no server", ["ls", "--url", "redis://127.0.0.1:1/0"], 3, "Redis at redis://127.0.0.1:1/0"),
    ("a scheme", ["ls", "--url", "ftp://host/x"], 2, "no store for the scheme 'ftp'"),
    ("no scheme", ["ls", "--url", "folder"], 2, "write disk:folder"),
    ("an option", ["ls", "--url", "disk:x?colour=red"], 2, "unknown option 'colour'"),
    ("half an address", ["ls", "--url", "redis://:secret@[::1/0"], 2, "no URL of a cache: Invalid"),
    ("memory", ["ls", "--url", "memory://"], 2, "a cache in memory ends with its process"),
    ("a span", ["ls", "--newer-than", "soon"], 2, "'soon' is neither an age nor a date"),
    ("a size", ["ls", "--min-size", "big"], 2, "'big' is no size"),
    ("two seeds", ["ls", "--seed", "1", "--all-seeds"], 2, "not both"),
    ("an empty seed", ["clear", "--disk", "a", "--seed", "", "--yes"], 2, "a non-empty str"),
    ("a seed of a place", ["ls", "--seed", "/srv/a"], 2, "a seed names a draw of answers"),
    ("a seed in a URL", ["ls", "--url", "disk:x?cache_seed=a%2Fb"], 2, 'cache_path_root="a/b"'),
    ("a seed to run with", ["run", "--seed", "redis://h", "p.py"], 2, 'redis_url="redis://h"'),
    ("a seed to clear", ["clear", "--disk", "a", "--seed", "a/b", "--yes"], 2, "a seed names"),
    ("a misnamed seed", ["ls", "--url", "disk:x?seed=3"], 2, "did you mean cache_seed?"),
    ("a command", ["lst"], 2, "No such command 'lst'"),
    ("a program", ["run", "no-such-program"], 127, "cannot run 'no-such-program'"),
    ("two caches", ["run", "--disk", "a", "--redis", "redis://h", "p.py"], 2, "give one of"),
    ("two places", ["ls", "--disk", "a", "--url", "disk:b"], 2, "give one of"),
    ("no folder", ["ls", "--disk", "/no/such/folder"], 3, "no such folder"),
    ("no server there", ["ls", "--redis", "redis://127.0.0.1:1/0"], 3, "Redis at redis://127"),
    ("a run that is not kept", ["run", "--name", "a", "--no-ledger", "p.py"], 2, "not both"),
    ("a mode", ["run", "--mode", "fast", "p.py"], 2, "'fast' is not one of"),
]


def test_what_models_say_is_written_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe, "cp1252", newline=""))
    _write_utf_8()
    print("語", end="", flush=True)
    assert pipe.getvalue() == "語".encode()


@pytest.mark.parametrize(
    ("words", "status", "told"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG]
)
def test_a_mistake(run: CommandLine, words: list[str], status: int, told: str) -> None:
    done = run(*words)
    assert (done.status, done.out) == (status, "")
    assert told in done.err
    assert "Traceback" not in done.err


def test_the_folder_of_a_seed_is_told_from_a_cache(run: CommandLine, tmp_path: Path) -> None:
    from cachewrap import Cache

    Cache.disk(7, tmp_path).set("a", 1)
    done = run("ls", "--url", f"disk:{tmp_path / '7'}")
    assert (done.status, "give the folder that it is in" in done.err) == (3, True)


def test_a_folder_that_is_no_database(run: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "41").mkdir()
    (tmp_path / "41" / "cache.db").write_text("something else, and rather longer than that")
    done = run("ls", "--url", f"disk:{tmp_path}")
    assert (done.status, len(done.err.splitlines())) == (3, 1)
    assert "no database at all" in done.err


def test_a_cache_of_langchain_is_read_with_its_own_classes(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "langchain.db"
    with closing(sqlite3.connect(database)) as rows:
        rows.execute("CREATE TABLE full_llm_cache (prompt, llm, idx, response)")
    monkeypatch.setitem(sys.modules, "langchain_core.load", None)
    done = run("import", str(database), "--url", f"disk:{tmp_path / 'ours'}")
    assert (done.status, done.err.strip().endswith("pip install langchain-core")) == (2, True)


def test_a_password_is_never_told(run: CommandLine) -> None:
    done = run("ls", "--url", "redis://user:sesame@127.0.0.1:1/0")
    assert (done.status, "sesame" in done.err) == (3, False)


@pytest.mark.stores("redis")
@pytest.mark.parametrize("command", ["stats", "report"])
def test_no_password_is_told_of_a_cache_without_entries(
    run: CommandLine, redis_url: str, command: str
) -> None:
    url = redis_url.replace("://", "://default:sesame@", 1) + "?namespace=nothing-here"
    words = ["-o", "-"] if command == "report" else []
    done = run(command, *words, "--all-seeds", "--url", url)
    assert (done.status, "redis://" in done.out) == (0, True)
    assert "sesame" not in done.out + done.err


@pytest.mark.parametrize("name", sorted(_COMMANDS))
def test_every_command_has_help_with_examples(run: CommandLine, name: str) -> None:
    told = run(name, "--help")
    assert (told.status, told.err) == (0, "")
    assert "Examples:" in told.out


@pytest.mark.parametrize("name", sorted(_COMMANDS))
def test_the_examples_name_options_that_there_are(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("body.json", "answers.jsonl", "answers.jsonl.gz", ".langchain.db", ".cache"):
        (tmp_path / file).touch()
    command = cli.get_command(click.Context(cli), name)
    assert command is not None and command.epilog is not None
    examples = re.findall(r"\bcachewrap (\S+) ?([^|>\n]*)", command.epilog)
    given = [shlex.split(words.rstrip(')"')) for one, words in examples if one == name]
    assert given
    for words in given:
        command.make_context(name, words)  # reads them, and runs nothing


def test_the_help_documents_the_statuses(run: CommandLine) -> None:
    told = run("--help").out.partition("Exit statuses:")[2]
    assert all(f"\n    {status}  " in told for status in (0, 1, 2, 3, 130))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete(run: CommandLine, shell: str) -> None:
    assert "_CACHEWRAP_COMPLETE" in run("completion", shell).out


@pytest.mark.parametrize(
    ("begun", "word"), [("prune --unu", "--unused-since"), ("help text", "textconv")]
)
def test_completion_knows_commands_and_options(begun: str, word: str) -> None:
    asked = {"COMP_WORDS": f"cachewrap {begun}", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", "from cachewrap.cli.main import main; main()"],
        env={**os.environ, **asked, "_CACHEWRAP_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == [f"plain,{word}"]


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    from cachewrap import Cache

    cache = Cache.disk(41, tmp_path)
    for i in range(300):
        cache.set(f"key {i} {'x' * 300}", i)
    done = subprocess.run(
        [
            "bash",
            "-c",
            f"{sys.executable} -m cachewrap ls --json --url disk:{tmp_path} | head -1; "
            "exit ${PIPESTATUS[0]}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 1)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("command", ["ls", "stats", "verify", "export -"])
def test_output_that_cannot_be_written(tmp_path: Path, command: str) -> None:
    from cachewrap import Cache

    Cache.disk(41, tmp_path).set("a", 1)
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cachewrap", *command.split(), "--url", f"disk:{tmp_path}"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    told = [line for line in done.stderr.splitlines() if "cachewrap: " in line]
    assert (done.returncode, told) == (3, ["cachewrap: [Errno 28] No space left on device"])
    assert "Traceback" not in done.stderr


def test_an_export_to_what_is_no_file(run: CommandLine, tmp_path: Path) -> None:
    from cachewrap import Cache

    Cache.disk(41, tmp_path / "cache").set("a", 1)
    done = run("export", os.devnull, "--url", f"disk:{tmp_path / 'cache'}")
    told = f"cachewrap: cannot write {os.devnull}: no regular file; - is the output\n"
    assert (done.status, done.out, done.err) == (3, "", told)
