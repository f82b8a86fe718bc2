"""The table of `ls`, its JSON, and CSV: what is seen, and what machines read."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import pytest

from cachewrap import Cache, llm_cached
from cachewrap.cli import ls
from cachewrap.cli.text import columns
from cli.filling import DAY, CommandLine, chat, put, stream_of

LONG = "meta-llama/Llama-3.3-70B-Instruct-Turbo-Free"


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A cache on disk, as a word of the command line."""
    return str(tmp_path / "answers")


def fill(place: str) -> None:
    url = f"disk:{place}"
    put(url, *chat("Where can I see puffins?", "On the cliffs."), model="gpt-4o-2024-08-06")
    put(url, *chat("世界で一番高い山は何ですか?" * 4, "エベレスト"), model=LONG, age=40 * DAY)
    put(url, *chat("hi", "hello"), model="claude-sonnet-4-5", tokens=(128_000, 1_234_567))
    call = {"function": "notes:summarise", "arguments": {"text": "A wet day."}}
    put(url, call, "wet", source="notes:summarise", salt=("41",), seconds=0.0)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160])
def test_columns_are_aligned_and_fit(
    run: CommandLine, place: str, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    fill(place)
    monkeypatch.setenv("COLUMNS", str(width))
    head, *lines = run("ls", place).out.splitlines()
    at = head.index("PROMPT")
    assert max(map(columns, lines)) <= width
    assert all(line[:at].endswith("  ") for line in lines if line.isascii())
    assert any(line[at:].startswith("Where can") for line in lines)


@pytest.mark.parametrize(
    ("width", "least"),
    [pytest.param(80, 34, id="80 columns"), pytest.param(120, 40, id="120 columns")],
)
def test_the_prompt_has_room(
    run: CommandLine, place: str, monkeypatch: pytest.MonkeyPatch, width: int, least: int
) -> None:
    fill(place)
    monkeypatch.setenv("COLUMNS", str(width))
    assert width - run("ls", place).out.splitlines()[0].index("PROMPT") >= least


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        pytest.param("MODEL/FUNCTION", {"gpt-4o", "claude-sonnet-4-5", "summarise"}, id="called"),
        pytest.param("TOKENS", {"-", "128k+1.2M"}, id="tokens"),
    ],
)
def test_what_a_column_says(
    run: CommandLine,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    column: str,
    texts: set[str],
) -> None:
    fill(place)
    monkeypatch.setenv("COLUMNS", "80")
    said = run("ls", place).out
    assert column in said.splitlines()[0]
    assert all(f" {text} " in said for text in texts)


def test_an_answers_beginning(run: CommandLine, place: str) -> None:
    fill(place)
    lines = run("ls", place, "--answers", "--model", "gpt-4o*").out.splitlines()
    assert lines[2] == "          → On the cliffs."


def test_dates_instead_of_ages(run: CommandLine, place: str) -> None:
    fill(place)
    head, line = run("ls", place, "--dates", "--model", "gpt-4o*").out.splitlines()
    assert "STORED" in head
    assert line.split()[1].count("-") == 2


def test_samples_have_their_numbers(run: CommandLine, place: str) -> None:
    @llm_cached
    def roll(prompt: str) -> str:
        return "3"

    with Cache.disk(41, place).samples():
        for _ in range(3):
            roll("a die")
    said = run("ls", place).out
    assert [f"{n}a die" in said for n in ("", "#1 ", "#2 ")] == [True, True, True]
    numbers = sorted(row["sample"] for row in run("ls", place, "--json").lines)
    assert numbers == [0, 1, 2]


def test_seeds_have_a_column_where_there_are_several(run: CommandLine, place: str) -> None:
    fill(place)
    assert "SEED" not in run("ls", place).out
    Cache.disk("a draft", place).set("a", 1)
    said = run("ls", place, "--all-seeds").out
    assert "SEED" in said.splitlines()[0]
    assert "a draft" in said


def test_files_have_a_column_where_there_are_several(run: CommandLine, tmp_path: Path) -> None:
    for name in ("one", "two"):
        Cache.jsonl(tmp_path / f"{name}.jsonl").set(name, 1)
    said = run("ls", str(tmp_path)).out
    assert "PLACE" in said.splitlines()[0]


def test_of_a_file_the_end_of_its_name_is_seen(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        Cache.jsonl(f"tests/cassettes/test_reviews/test_{name}.jsonl").set(name, 1)
    said = run("ls", "tests").out
    assert [f"/test_{name}.jsonl  " in said for name in ("one", "two")] == [True, True]


def test_an_entry_without_a_prompt_shows_its_answer(run: CommandLine, place: str) -> None:
    request, answer = chat("Why?", "So.")
    put(f"disk:{place}", request, answer, keep_request=False)
    assert "→ So." in run("ls", place).out


# -- the pager --------------------------------------------------------------------------------


@pytest.fixture
def paged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What went through the pager, on a terminal of ten lines."""
    through: list[str] = []
    monkeypatch.setattr(ls, "is_terminal", lambda stream: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda *a: os.terminal_size((80, 10)))
    monkeypatch.setattr("click.echo_via_pager", through.extend)
    monkeypatch.delenv("LESS", raising=False)
    return through


@pytest.mark.parametrize(
    ("entries", "is_paged"),
    [pytest.param(8, False, id="what fits"), pytest.param(9, True, id="a line more")],
)
def test_only_what_is_longer_than_the_screen_is_paged(
    run: CommandLine, place: str, paged: list[str], entries: int, is_paged: bool
) -> None:
    cache = Cache.disk(41, place)
    for i in range(entries):
        cache.set(f"{i}", i)
    shown = run("ls", place).out.splitlines()
    assert (len(paged), len(shown)) == ((entries + 1, 0) if is_paged else (0, entries + 1))
    assert os.environ.get("LESS") == ("FRX" if is_paged else None)


def test_the_users_own_less_stays(
    run: CommandLine, place: str, paged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LESS", "S")
    cache = Cache.disk(41, place)
    for i in range(20):
        cache.set(f"{i}", i)
    run("ls", place)
    assert (len(paged), os.environ["LESS"]) == (21, "S")


# -- JSON -------------------------------------------------------------------------------------


def test_times_and_answers_have_one_form(run: CommandLine, place: str, tmp_path: Path) -> None:
    fill(place)
    Cache.disk(41, place).set("a", (1, b"\x00"))
    events: Any = [(0.25, {"choices": [{"delta": {"content": "It is "}}]})]
    put(f"disk:{place}", {"body": {"prompt": "time?"}}, stream_of(events))
    listed = {row["key"]: row for row in run("ls", place, "--json").lines}
    _, *exported = run("export", place, "-").lines
    assert len(exported) == len(listed) == 6
    for line in exported:
        (shown,) = run("show", place, line["key"], "--json").lines
        for row in (listed[line["key"]], shown):
            same = ("created", "seconds", "answer", "source", "kind", "seed")
            assert {name: row[name] for name in same} == {name: line[name] for name in same}


def test_json_has_prompt_and_answer(run: CommandLine, place: str) -> None:
    fill(place)
    (row,) = run("ls", place, "--json", "--model", "gpt-4o*").lines
    assert (row["prompt"], row["answer_text"]) == ("Where can I see puffins?", "On the cliffs.")
    assert row["answer"]["status"] == 200


def test_show_takes_several_keys(run: CommandLine, place: str) -> None:
    for one in "ab":
        put(f"disk:{place}", *chat(f"the {one}", one), under=one * 64)
    assert [row["prompt"] for row in run("show", place, "a", "b", "--json").lines] == [
        "the a",
        "the b",
    ]
    done = run("show", place, "a", "c")
    assert (done.status, "the a" in done.out, "no entry under 'c'" in done.err) == (1, True, True)


# -- CSV --------------------------------------------------------------------------------------


TEXTS = [
    pytest.param("plain", "plain", id="text"),
    pytest.param('a "quoted", text', 'a "quoted", text', id="quotes and commas"),
    pytest.param("two\nlines\r\nand\rmore", "two\nlines\r\nand\rmore", id="new lines"),
    pytest.param("世界", "世界", id="other letters"),
    pytest.param("\ud83d", "\\ud83d", id="half of a pair"),
    pytest.param("=1+1", "'=1+1", id="a formula"),
    pytest.param("+1", "'+1", id="a plus"),
    pytest.param("- a list", "'- a list", id="a list"),
    pytest.param("@SUM(A1)", "'@SUM(A1)", id="an at"),
    pytest.param("\t=1", "'\t=1", id="a tab"),
    pytest.param("\n=1", "'\n=1", id="a line before it"),
    pytest.param("'=1", "''=1", id="a quote"),
    pytest.param("＝1", "'＝1", id="a wide formula"),  # noqa: RUF001
]


@pytest.mark.parametrize(("answer", "cell"), TEXTS)
def test_a_cell(run: CommandLine, tmp_path: Path, answer: str, cell: str) -> None:
    place, file = str(tmp_path / "c"), tmp_path / "x.csv"
    put(f"disk:{place}", {"function": "m:f", "arguments": {"text": "a"}}, answer, source="m:f")
    assert run("export", place, str(file)).out == "exported 1 entry\n"
    with file.open(encoding="utf-8", newline="") as table:
        (row,) = csv.DictReader(table)
    assert (row["prompt"], row["answer"]) == ("a", cell)


def test_cells_as_they_are(run: CommandLine, tmp_path: Path) -> None:
    place, file = str(tmp_path / "c"), tmp_path / "x.csv"
    put(f"disk:{place}", {"function": "m:f"}, "=1", source="m:f")
    run("export", place, str(file), "--exact")
    assert file.read_text(encoding="utf-8").endswith(",=1\n")


def test_a_row_of_csv(run: CommandLine, place: str) -> None:
    key = put(f"disk:{place}", *chat("Why?", "So."), model="gpt-4o", tokens=(9, 3), seconds=1.5)
    out = run("export", place, "-", "--format", "csv").out
    (row,) = csv.DictReader(io.StringIO(out))
    created = run("ls", place, "--json").lines[0]["created"]
    assert row == {
        "key": key,
        "seed": "41",
        "source": "POST /chat/completions",
        "model": "gpt-4o",
        "kind": "http",
        "sample": "0",
        "created": created,
        "expires": "",
        "seconds": "1.5",
        "tokens_in": "9",
        "tokens_out": "3",
        "bytes": row["bytes"],
        "prompt": "Why?",
        "answer": "So.",
    }


def test_a_table_is_its_owners_alone(run: CommandLine, place: str, tmp_path: Path) -> None:
    fill(place)
    file = tmp_path / "x.csv"
    run("export", place, str(file))
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_table_that_is_there_stays(run: CommandLine, place: str, tmp_path: Path) -> None:
    fill(place)
    file = tmp_path / "x.csv"
    file.write_text("mine", encoding="utf-8")
    done = run("export", place, str(file))
    assert (done.status, file.read_text(encoding="utf-8")) == (2, "mine")
    assert "--overwrite replaces it" in done.err
    assert run("export", place, str(file), "--overwrite").status == 0
    assert len(list(csv.reader(file.open(encoding="utf-8", newline="")))) == 5


@pytest.mark.parametrize("option", ["--encrypt", "--decrypt"])
def test_a_table_is_plain(run: CommandLine, place: str, option: str) -> None:
    fill(place)
    assert run("export", place, "x.csv", option).status == 2


def test_what_cannot_be_read_has_no_row(run: CommandLine, place: str) -> None:
    fill(place)
    Cache.disk(41, place).store.set("0" * 64, b"no entry")
    done = run("export", place, "-", "--format", "csv")
    assert (done.status, len(list(csv.reader(io.StringIO(done.out))))) == (1, 5)
    assert "left out 1" in done.err


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_export_tells_what_it_would_do(
    run: CommandLine, place: str, tmp_path: Path, name: str
) -> None:
    fill(place)
    file = tmp_path / name
    told = run("export", place, str(file), "--dry-run", "--model", "gpt-4o*").out
    assert (told, file.exists()) == ("would export 1 entry\n", False)


def test_export_knows_what_a_file_has(run: CommandLine, place: str, tmp_path: Path) -> None:
    fill(place)
    file = tmp_path / "x.jsonl"
    run("export", place, str(file), "--model", "gpt-4o*")
    told = run("export", place, str(file), "--dry-run").out
    assert told == "would export 3 entries; 1 there already\n"
