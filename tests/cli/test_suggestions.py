"""What is said to those who type what they know from other tools, or mistype."""

from __future__ import annotations

from pathlib import Path

import pytest

from cachewrap import Cache
from cachewrap.cli.main import _COMMANDS
from cli.filling import CommandLine

MEANT = [
    pytest.param("list", "ls", id="list"),
    pytest.param("delete", "rm", id="delete"),
    pytest.param("info", "stats", id="info"),
    pytest.param("status", "stats", id="status"),
    pytest.param("search", "ls --text TEXT", id="search"),
    pytest.param("find refund", "ls --text TEXT", id="find"),
    pytest.param("stat", "stats", id="stat"),
    pytest.param("lss", "ls", id="lss"),
    pytest.param("lst", "ls", id="lst"),
    pytest.param("exprot", "export", id="exprot"),
    pytest.param("STATS", "stats", id="capitals"),
    pytest.param("deleet", "rm", id="a-typo-of-another-word"),
    pytest.param("version", "--version", id="version"),
    pytest.param("agent.py --verbose", "cachewrap run agent.py --verbose", id="a-program"),
    pytest.param("python3 agent.py", "cachewrap run python3 agent.py", id="a-command"),
    pytest.param("store", "cachewrap ls store", id="a-folder"),
    pytest.param("redis://h/0", "cachewrap ls redis://h/0", id="a-url"),
    pytest.param("help lss", "ls", id="help"),
]


@pytest.mark.parametrize(("line", "meant"), MEANT)
def test_a_command_that_there_is_not(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    done = run(*line.split())
    assert (done.status, done.out) == (2, "")
    word = line.split()[line.startswith("help")]
    assert done.err.endswith(f"No such command {word!r}: did you mean {meant}?\n")


def test_what_is_like_nothing_is_told_without_a_guess(run: CommandLine) -> None:
    assert run("qqqqqq").err.endswith("Error: No such command 'qqqqqq'\n")


OPTIONS = [
    pytest.param("ls --since 2d", "--newer-than", id="since"),
    pytest.param("ls --grep x", "--text", id="grep"),
    pytest.param("ls --all", "--all-seeds", id="all"),
    pytest.param("ls -n 3", "--limit", id="n"),
    pytest.param("ls --dir .cache", "A place needs none: cachewrap ls .cache", id="dir"),
    pytest.param("ls --newer 2d", "--newer-than", id="half-an-option"),
]


@pytest.mark.parametrize(("line", "meant"), OPTIONS)
def test_an_option_that_there_is_not(run: CommandLine, line: str, meant: str) -> None:
    done = run(*line.split())
    assert (done.status, meant in done.err) == (2, True)


LACKS = [
    pytest.param("run", "give the program: cachewrap run agent.py", id="run"),
    pytest.param("show", "give a key, or its beginning: cachewrap ls lists them", id="show"),
    pytest.param("rm", "give a key, or its beginning: cachewrap ls lists them", id="rm"),
    pytest.param("export", "give the file: cachewrap export answers.jsonl", id="export"),
    pytest.param("import", "give the file: cachewrap import answers.jsonl", id="import"),
    pytest.param("copy", "cachewrap copy .cache redis://localhost/0", id="copy"),
    pytest.param("explain", "cachewrap explain body.json", id="explain"),
    pytest.param("completion", "bash, zsh or fish", id="completion"),
    pytest.param("explain {}", "or - and it as the input", id="explain-text"),
    pytest.param("import t.csv", "cachewrap export answers.jsonl writes what can", id="import-csv"),
]


@pytest.mark.parametrize(("line", "told"), LACKS)
def test_a_word_that_is_missing_or_of_another_kind(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("key,seed\n")
    done = run(*line.split())
    assert (done.status, told in done.err) == (2, True), done.err


@pytest.mark.parametrize("name", sorted(_COMMANDS))
def test_help_fits_a_terminal_of_80_columns(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("help", name).out.splitlines()
    assert [line for line in lines if len(line) > 80] == []


@pytest.mark.parametrize("name", ["ls", "import", "help"])
def test_help_is_a_command(run: CommandLine, name: str) -> None:
    assert run("help", name) == run(name, "--help")


def test_help_without_a_command_is_that_of_all(run: CommandLine) -> None:
    assert run("help").out == run("--help").out


def test_nothing_at_all_begins_with_what_is_done_first(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = run()
    told = (done.out + done.err).splitlines()
    assert "cachewrap run agent.py" in told[5]
    assert all(len(line) <= 80 for line in told)


def test_a_seed_of_a_store_is_no_command(run: CommandLine, tmp_path: Path) -> None:
    Cache.disk(41, tmp_path).set("a", 1)
    assert f"did you mean cachewrap ls {tmp_path}?" in run(str(tmp_path)).err


# -- programs -------------------------------------------------------------------------------------

PROGRAMS = [
    pytest.param("nb.ipynb", 'cachewrap.activate("disk:.cache")', id="a-notebook"),
    pytest.param("plain", "a folder without __main__.py is no program", id="a-folder"),
    pytest.param("pack", "Name a module in it: -m pack.…", id="a-package"),
    pytest.param("store x.py", "it is a cache: cachewrap run --disk store x.py", id="a-cache"),
    pytest.param("redis://h x.py", "cachewrap run --url redis://h x.py", id="a-url"),
    pytest.param("a.jsonl x.py", "cachewrap run --url jsonl:a.jsonl x.py", id="a-cassette"),
    pytest.param("go.sh", "cachewrap run sh go.sh", id="a-shell-script"),
    pytest.param("FOO=1 x.py", "A variable stands in front: FOO=1 cachewrap run x.py", id="env"),
    pytest.param("agnet.py", "did you mean agent.py?", id="a-typo"),
    pytest.param("agent", "The file is agent.py", id="without-py"),
    pytest.param("pack.tool", "As a module: cachewrap run -m pack.tool", id="a-module"),
    pytest.param("no-such-thing", "no such file, and no such command", id="nothing"),
]


@pytest.mark.parametrize(("line", "told"), PROGRAMS)
def test_what_is_no_program(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("nb.ipynb", "agent.py", "pack/__init__.py", "pack/tool.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "plain").mkdir()
    (tmp_path / "go.sh").write_text("#!/bin/sh\n")
    for cache in (Cache.disk(41, tmp_path / "store"), Cache.jsonl(tmp_path / "a.jsonl")):
        cache.set("a", 1)
        cache.close()
    done = run("run", *line.split())
    assert (done.status, told in done.err) == (127, True), done.err


def test_a_command_in_quotes_is_told(run: CommandLine) -> None:
    assert "Without quotes: cachewrap run python agent.py" in run("run", "python agent.py").err


RUN_OPTIONS = [
    pytest.param("--verbose x.py", "those of a program stand behind it", id="of-the-program"),
    pytest.param("--server npm test", "did you mean --serve?", id="serve"),
    pytest.param("--replay x.py", "did you mean --mode?", id="a-mode"),
    pytest.param("--dir x x.py", "did you mean --disk or --url?", id="dir"),
    pytest.param("--disk redis://h x.py", "give --url redis://h", id="a-url-as-folder"),
    pytest.param("--disk disk:x x.py", "give --url disk:x", id="a-disk-url-as-folder"),
    pytest.param("--disk a.jsonl x.py", "give --url jsonl:a.jsonl", id="a-file-as-folder"),
]


@pytest.mark.parametrize(("line", "told"), RUN_OPTIONS)
def test_an_option_of_a_run_that_is_none(run: CommandLine, line: str, told: str) -> None:
    done = run("run", *line.split())
    assert (done.status, told in done.err) == (2, True), done.err


def test_a_server_needs_no_scheme_where_it_is_called_one(run: CommandLine) -> None:
    done = run("ls", "--redis", "127.0.0.1:1")
    assert (done.status, "Redis at redis://127.0.0.1:1" in done.err) == (3, True)
