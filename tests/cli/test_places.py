"""Places as people type them: a folder, a file, a folder of files, a URL; and what is none."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cachewrap import Cache
from cli.filling import CommandLine, chat, put

DEEPER = "tests/cassettes/test_a/test_b.jsonl"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a project, which is the current one: a cache, cassettes, and other files."""
    monkeypatch.chdir(tmp_path)
    put("disk:.cache", *chat("In .cache?", "Yes."))
    put("jsonl:answers.jsonl", *chat("In a file?", "Yes."))
    put("jsonl:tests/cassettes/test_it.jsonl", *chat("In a cassette?", "Yes."))
    put(f"jsonl:{DEEPER}", *chat("In one further down?", "Yes."))
    (tmp_path / "answers.jsonl.gz").write_bytes(
        gzip.compress((tmp_path / "answers.jsonl").read_bytes())
    )
    (tmp_path / "train.jsonl").write_text('{"messages": []}\n')
    return tmp_path


def asked(run: CommandLine, *words: str) -> list[str]:
    """The texts of the prompts that a command lists."""
    done = run("ls", *words)
    assert done.status == 0, done.err
    return sorted(line.split("  ")[-1] for line in done.out.splitlines()[1:])


READ = [
    pytest.param([], ["In .cache?"], id="none"),
    pytest.param([".cache"], ["In .cache?"], id="cache"),
    pytest.param(["./.cache/"], ["In .cache?"], id="slash"),
    pytest.param([".cache/41"], ["In .cache?"], id="seed"),
    pytest.param([".cache/41/cache.db"], ["In .cache?"], id="database"),
    pytest.param(["."], ["In .cache?"], id="project"),
    pytest.param(["disk:.cache"], ["In .cache?"], id="url"),
    pytest.param(["answers.jsonl"], ["In a file?"], id="file"),
    pytest.param(["jsonl:answers.jsonl"], ["In a file?"], id="url-of-file"),
    pytest.param(["answers.jsonl.gz"], ["In a file?"], id="compressed"),
    pytest.param(["tests/cassettes/test_it.jsonl"], ["In a cassette?"], id="cassette"),
    pytest.param(["tests/cassettes"], ["In a cassette?", "In one further down?"], id="cassettes"),
    pytest.param(["tests"], ["In a cassette?", "In one further down?"], id="above-cassettes"),
    pytest.param([".cache", "answers.jsonl"], ["In .cache?", "In a file?"], id="several"),
    pytest.param([".cache", ".cache"], ["In .cache?"], id="twice"),
]


@pytest.mark.parametrize(("words", "prompts"), READ)
def test_a_place_is_read(
    run: CommandLine, project: Path, words: list[str], prompts: list[str]
) -> None:
    assert asked(run, *words) == prompts


NONE = [
    pytest.param("answers.json", "no such file or folder; there is", id="absent"),
    pytest.param("answer.jsonl", "no such file; there is answers.jsonl", id="typo"),
    pytest.param(".cach", "there is .cache", id="typo-of-folder"),
    pytest.param("train.jsonl", "whose lines are no entries", id="lines"),
    pytest.param("note.txt", "not a file of entries", id="text"),
    pytest.param("body.json", "cachewrap explain body.json", id="json"),
    pytest.param("lc.db", "cachewrap import lc.db reads it", id="sqlite"),
    pytest.param("page.html", "a page of HTML", id="html"),
    pytest.param("vcr.yaml", "a cassette of VCR.py", id="vcr"),
    pytest.param("x.zip", "a zip archive", id="zip"),
    pytest.param("agent.py", "cachewrap run agent.py", id="program"),
    pytest.param("empty", "neither folders of seeds nor files", id="empty-folder"),
    pytest.param("data", "data.jsonl, without an entry", id="folder-of-others"),
]


@pytest.mark.parametrize(("word", "told"), NONE)
def test_what_is_no_place_is_told(run: CommandLine, project: Path, word: str, told: str) -> None:
    (project / "note.txt").write_text("Buy milk.")
    (project / "body.json").write_text('{"model": "gpt-4o"}')
    (project / "page.html").write_text("<!DOCTYPE html><title>x</title>")
    (project / "vcr.yaml").write_text("interactions:\n- request:\n")
    (project / "x.zip").write_bytes(b"PK\x03\x04 and more")
    (project / "agent.py").write_text("print()")
    (project / "empty").mkdir()
    (project / "data").mkdir()
    (project / "data" / "data.jsonl").write_text('{"prompt": "x"}\n')
    with closing(sqlite3.connect(project / "lc.db")) as rows:
        rows.execute("CREATE TABLE full_llm_cache (prompt, llm, idx, response)")
    done = run("ls", word)
    assert (done.status, done.out) == (3, "")
    assert told in done.err
    assert len(done.err.splitlines()) == 1


NEAR = [
    pytest.param((), "a program that is cached makes one: cachewrap run PROGRAM", id="nothing"),
    pytest.param(("tests/cassettes/test_it",), "there is tests/cassettes", id="a-cassette"),
    pytest.param(
        ("tests/cassettes/test_a/test_b", "tests/cassettes/test_c/test_d"),
        "there is tests/cassettes",
        id="cassettes-of-modules",
    ),
]


@pytest.mark.parametrize(("held", "told"), NEAR)
def test_where_there_is_no_cache_what_is_near_is_named(
    run: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    held: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in held:
        put(f"jsonl:{name}.jsonl", *chat("a", "b"))
    done = run("ls")
    assert (done.status, f"no such folder; {told}\n" in done.err) == (3, True), done.err


@pytest.mark.parametrize("command", ["ls", "clear --yes", "prune --older-than 0s", "copy .cache"])
def test_an_empty_word_is_not_the_folder_one_is_in(
    run: CommandLine, project: Path, command: str
) -> None:
    done = run(*command.split(), "")
    assert (done.status, '"" names no cache' in done.err) == (3, True)
    assert asked(run) == ["In .cache?"]


def test_no_key_begins_with_nothing(run: CommandLine, project: Path) -> None:
    done = run("rm", "")
    assert (done.status, asked(run)) == (1, ["In .cache?"])


@pytest.mark.parametrize("option", [["--url", "disk:x"], ["--disk", "x"], ["--redis", "redis://h"]])
def test_a_word_and_an_option_are_too_many(
    run: CommandLine, project: Path, option: list[str]
) -> None:
    done = run("ls", ".cache", *option)
    assert (done.status, "give .cache or --url, --disk, --redis, not both" in done.err) == (2, True)


def test_a_word_goes_before_the_environment(
    run: CommandLine, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEWRAP_URL", "redis://127.0.0.1:1/0")
    assert asked(run, ".cache") == ["In .cache?"]


WRONG_SEED = ["ls", "stats", "verify", "export -", "prune --older-than 1d", "copy other", "report"]


@pytest.mark.parametrize("command", WRONG_SEED)
def test_the_wrong_seed_is_no_empty_cache(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for prompt in "ab":
        put("disk:.cache?cache_seed=7", *chat(prompt, "c"))
    done = run(*command.split(), *(["-o", "x.html"] if command == "report" else []))
    assert (done.status, done.out) == (1, "")
    assert "no entries in seed 41; seeds here: 7 (2 entries)" in done.err


def test_of_many_seeds_some_are_named(run: CommandLine, make_url: Callable[[str], str]) -> None:
    url = make_url("jsonl")
    for seed in range(10):
        put(f"{url}?cache_seed={seed}", *chat("a", "b"))
    told = run("ls", url).err
    assert "seeds here: 0 (1 entry), 1 (1 entry), 2 (1 entry), 3 (1 entry) and 6 more" in told


def test_an_empty_cache_is_one(run: CommandLine, tmp_path: Path) -> None:
    cache = Cache.disk(7, tmp_path / "a")
    cache.set("a", 1)
    cache.delete("a")
    cache.close()
    assert (run("ls", str(tmp_path / "a"))).status == 0


def test_entries_are_copied_from_a_place_to_another(run: CommandLine, project: Path) -> None:
    assert run("copy", ".cache", "copied.jsonl").out == "copied 1 entry\n"
    assert run("copy", "copied.jsonl", "tests/cassettes", "all").out == "copied 3 entries\n"
    assert len(asked(run, "all")) == 3


def test_entries_are_imported_into_a_place(run: CommandLine, project: Path) -> None:
    assert run("import", "answers.jsonl", "new.jsonl").out == "imported 1 entry\n"
    assert run("import", "answers.jsonl", ".cache").out == "imported 1 entry\n"
    assert asked(run) == ["In .cache?", "In a file?"]


def test_entries_are_not_written_into_another_file(run: CommandLine, project: Path) -> None:
    before = (project / "train.jsonl").read_bytes()
    for words in (["import", "answers.jsonl", "train.jsonl"], ["copy", ".cache", "train.jsonl"]):
        assert run(*words).status == 3
    assert (project / "train.jsonl").read_bytes() == before


def test_a_compressed_file_is_not_changed(run: CommandLine, project: Path) -> None:
    before = (project / "answers.jsonl.gz").read_bytes()
    done = run("clear", "answers.jsonl.gz", "--yes")
    assert (done.status, "unpack it first" in done.err) == (3, True)
    assert (project / "answers.jsonl.gz").read_bytes() == before


def test_files_that_are_no_cassettes_are_told(run: CommandLine, project: Path) -> None:
    (project / "tests" / "data.jsonl").write_text('{"prompt": "x"}\n')
    done = run("stats", "--json", "tests")
    assert json.loads(done.out)["total"]["entries"] == 2
    assert done.err == "left out data.jsonl, without an entry of cachewrap's\n"


# -- compressed files -----------------------------------------------------------------------------


@pytest.fixture
def packed(project: Path) -> bytes:
    """Twenty entries, compressed."""
    for number in range(20):
        put("jsonl:many.jsonl", *chat(f"{number}", "x" * 20))
    return gzip.compress((project / "many.jsonl").read_bytes())


def test_a_compressed_file_is_imported(run: CommandLine, project: Path, packed: bytes) -> None:
    (project / "many.jsonl.gz").write_bytes(packed)
    assert run("import", "many.jsonl.gz", "all").out == "imported 20 entries\n"


def test_a_compressed_file_is_known_by_its_content(
    run: CommandLine, project: Path, packed: bytes
) -> None:
    (project / "many").write_bytes(packed)
    assert run("import", "many", "all").out == "imported 20 entries\n"


def test_files_that_were_compressed_one_by_one_are_one(
    run: CommandLine, project: Path, packed: bytes
) -> None:
    answers = (project / "answers.jsonl.gz").read_bytes()
    (project / "two.jsonl.gz").write_bytes(packed + answers)
    assert run("import", "two.jsonl.gz", "all").out == "imported 21 entries\n"


def test_of_a_file_that_is_cut_off_what_is_whole_is_imported(
    run: CommandLine, project: Path, packed: bytes
) -> None:
    (project / "cut.jsonl.gz").write_bytes(packed[:-60])
    done = run("import", "cut.jsonl.gz", "all")
    assert (done.status, "cut.jsonl.gz is cut off: the " in done.err) == (3, True)
    assert done.out.startswith("imported ")
    (project / "cut.jsonl.gz").write_bytes(packed)
    assert run("import", "cut.jsonl.gz", "all").status == 0
    assert len(asked(run, "all")) == 20


def test_a_file_that_is_damaged_is_told(run: CommandLine, project: Path, packed: bytes) -> None:
    (project / "bad.jsonl.gz").write_bytes(packed[:12] + bytes(40) + packed[52:])
    for words in (["import", "bad.jsonl.gz", "all"], ["ls", "bad.jsonl.gz"]):
        done = run(*words)
        assert (done.status, "bad.jsonl.gz is " in done.err) == (3, True)
        assert "Traceback" not in done.err


def test_a_compressed_file_is_written(run: CommandLine, project: Path) -> None:
    assert run("export", ".cache", "out.jsonl.gz").out == "exported 1 entry\n"
    assert (project / "out.jsonl.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert asked(run, "out.jsonl.gz") == ["In .cache?"]
    put("disk:.cache", *chat("One more?", "Yes."))
    assert run("export", ".cache", "out.jsonl.gz").out == "exported 1 entry; 1 there already\n"
    assert asked(run, "out.jsonl.gz") == ["In .cache?", "One more?"]
    assert run("import", "out.jsonl.gz", "all").out == "imported 2 entries\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(b"something else\n", "out.jsonl.gz is not compressed", id="plain"),
        pytest.param(gzip.compress(b"x" * 99)[:-9], "out.jsonl.gz is cut off", id="cut"),
        pytest.param(gzip.compress(b"{}\n"), "it has no key and seed", id="no-entries"),
    ],
)
def test_a_compressed_file_that_is_something_else_is_left_alone(
    run: CommandLine, project: Path, content: bytes, told: str
) -> None:
    (project / "out.jsonl.gz").write_bytes(content)
    done = run("export", ".cache", "out.jsonl.gz")
    assert (done.status, told in done.err, "--overwrite" in done.err) == (2, True, True)
    assert (project / "out.jsonl.gz").read_bytes() == content
    assert run("export", ".cache", "out.jsonl.gz", "--overwrite").status == 0
    assert asked(run, "out.jsonl.gz") == ["In .cache?"]


# -- words beside a place -------------------------------------------------------------------------


def test_a_key_and_a_place_stand_in_any_order(run: CommandLine, project: Path) -> None:
    key = run("ls", "--json", ".cache").lines[0]["key"]
    shown = run("show", key[:8])
    assert shown.status == 0
    for words in ([key[:8], ".cache"], [".cache", key[:8]], [key, "."]):
        assert run("show", *words).out == shown.out


def test_a_folder_of_the_name_of_a_key_is_a_key(run: CommandLine, project: Path) -> None:
    (project / "cafe").mkdir()
    assert "no entry under 'cafe'" in run("show", "cafe").err


def test_a_place_without_a_key_is_told(run: CommandLine, project: Path) -> None:
    done = run("show", ".cache")
    assert (done.status, "give a key as well: cachewrap ls .cache" in done.err) == (2, True)


EXPORTS = [
    pytest.param([".cache", "new.jsonl"], "new.jsonl", id="from-to"),
    pytest.param(["new.jsonl", ".cache"], "new.jsonl", id="to-from"),
    pytest.param(["new.jsonl"], "new.jsonl", id="to"),
    pytest.param(["answers.jsonl", "new.jsonl"], "new.jsonl", id="files"),
    pytest.param(["new.jsonl", "answers.jsonl"], "new.jsonl", id="files-turned"),
    pytest.param(["tests", "answers.jsonl", "new.jsonl"], "new.jsonl", id="several"),
]


@pytest.mark.parametrize(("words", "file"), EXPORTS)
def test_the_file_of_an_export_is_told_from_the_place(
    run: CommandLine, project: Path, words: list[str], file: str
) -> None:
    assert run("export", *words).status == 0
    assert (project / file).exists()


UNCLEAR = [
    pytest.param([".cache"], "give the file as well", id="a-place-alone"),
    pytest.param(["answers.jsonl", "tests/cassettes/test_it.jsonl"], "which one is", id="both"),
    pytest.param([".cache", "tests"], "which one is the file", id="neither"),
]


@pytest.mark.parametrize(("words", "told"), UNCLEAR)
def test_an_export_that_can_be_misread_is_refused(
    run: CommandLine, project: Path, words: list[str], told: str
) -> None:
    done = run("export", *words)
    assert (done.status, told in done.err) == (2, True)


def test_what_is_asked_before_a_folder_is_cleared_names_it(run: CommandLine, project: Path) -> None:
    assert "Remove 2 entries of seed 41 in 2 files in tests?" in run("clear", "tests").err
    assert run("clear", "tests", "--yes").out == "removed 2 entries\n"


def test_a_cache_that_is_imported_is_told_to_be_copied(run: CommandLine, project: Path) -> None:
    assert "cachewrap copy .cache TARGET" in run("import", ".cache", "other").err
    assert "by cachewrap copy" in run("import", "tests", "other").err
