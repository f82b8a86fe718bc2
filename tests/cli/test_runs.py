"""`cachewrap runs`: what is told of runs, how they are named, and what becomes of them."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ledger.making import ended, write_run
from stores.test_segments import MinimalStore

from cachewrap import Cache
from cachewrap.cli import places, prune, runs
from cachewrap.ledger.names import named_log, unnamed_log
from cachewrap.ledger.pieces import Begin, Ended, Writer, encode
from cachewrap.ledger.runs import runs_of
from cachewrap.telemetry.usage import can_price
from cli.filling import CommandLine, chat, put

T = 1_700_000_000.0
KEYS = [f"{number:x}" * 64 for number in range(10)]
NOBODY = 2**22 + 1
"""The number of a process that no system has."""


def calls(start: float = T) -> list[Ended]:
    """Two misses, a hit, a joined call, one past the cache, and one that failed."""
    usual: dict[str, Any] = {"tokens_in": 1000, "tokens_out": 100, "upstream": 2.0}
    return [
        ended(KEYS[1], "miss", started=start, seconds=2.0, path="judge", **usual),
        ended(KEYS[2], "miss", started=start + 1, seconds=4.0, **usual),
        ended(KEYS[1], "hit", started=start + 3, seconds=0.001, lane="Task-1", **usual),
        ended(KEYS[1], "joined", started=start + 4, seconds=1.0, **usual),
        ended("", "bypassed", started=start + 5, model="", reason="host not known"),
        ended(KEYS[3], "failed", started=start + 6, seconds=3.0, source="app:f", reason="OSError"),
    ]


def cached(url: str) -> Cache:
    return Cache.from_url(url)


@pytest.fixture
def url(make_url: Callable[[str], str]) -> str:
    """A disk cache with one entry, without runs."""
    place = make_url("disk")
    put(place, *chat("What is a puffin?", "A bird."), under=KEYS[1])
    return place


@pytest.fixture
def kept(url: str) -> str:
    """The same with three runs: two of one name, and another."""
    write_run(cached(url), "baseline", calls(T)[:2])
    write_run(cached(url), "baseline", calls(T + 100))
    write_run(cached(url), "candidate", calls(T + 200)[:1])
    return url


def write_unended(
    url: str, log: str, rows: list[Ended], *, process: int = NOBODY, host: str = ""
) -> None:
    """A run whose process has not ended."""
    # A process that began later than its part in the run would be another one.
    started = rows[0].started if process == NOBODY else time.time()
    begin = Begin(9, "", started, process, host or socket.gethostname(), "agent.py", "f", "")
    store: Any = cached(url).store
    store.append_to_log(log, [encode(begin), Writer(9, process).calls(rows)])


def names(run: CommandLine, url: str) -> list[str]:
    return [one["name"] for one in run("runs", "--url", url, "--json").lines]


# -- ls -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["runs"], ["runs", "ls"]], ids=" ".join)
def test_runs_are_listed_the_newest_first(run: CommandLine, kept: str, words: list[str]) -> None:
    place = kept.removeprefix("disk:")
    assert run(*words, place) == run(*words, "--url", kept)
    lines = run(*words, place).out.splitlines()
    assert [line.split()[0] for line in lines] == ["RUN", "candidate", "baseline", "baseline~1"]


def test_a_run_is_told_in_numbers(run: CommandLine, kept: str) -> None:
    told = run("runs", "--url", kept, "--json").lines[1]
    assert {name: told[name] for name in told if name not in ("bytes", "saved", "spent")} == {
        "name": "baseline",
        "named": True,
        "state": "ended",
        "started": "2023-11-14T22:15:00.0Z",
        "ended": "2023-11-14T22:15:09.0Z",
        "took": 9.0,
        "program": "eval.py",
        "processes": 1,
        "lost": 0,
        "calls": 6,
        "hits": 1,
        "joined": 1,
        "misses": 2,
        "bypassed": 1,
        "failed": 1,
        "hits_by_rule": 0,
        "seconds": 10.001,
        "seconds_saved": 4.0,
        "tokens_in_saved": 2000,
        "tokens_out_saved": 200,
        "tokens_in_spent": 2000,
        "tokens_out_spent": 200,
        "provider_saved": None,
        "unpriced": 0 if can_price() else 4,
    }
    assert told["bytes"] > 0
    assert told["saved"] == told["spent"]
    assert (told["saved"] is not None) == can_price()


@pytest.mark.parametrize(
    ("process", "host", "state"),
    [
        pytest.param(os.getppid(), "", "running", id="its process lives"),
        pytest.param(NOBODY, "", "killed", id="its process is no more"),
        pytest.param(NOBODY, "elsewhere", "running", id="written just now on another host"),
    ],
)
def test_a_run_that_has_not_ended_is_told_so(
    run: CommandLine, url: str, process: int, host: str, state: str
) -> None:
    write_unended(url, named_log("a", 1), calls(), process=process, host=host)
    assert [one["state"] for one in run("runs", "--url", url, "--json").lines] == [state]
    word = {"running": "goes on", "killed": "killed"}[state]
    assert word in run("runs", "--url", url).out
    told = {"running": "it goes on", "killed": "it was killed"}
    assert told[state] in run("runs", "show", "--url", url).out


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        pytest.param(["--limit", "1"], ["20231114-000000-abcdef"], id="a limit"),
        pytest.param(["--named"], ["candidate", "baseline", "baseline~1"], id="with a name"),
    ],
)
def test_some_are_listed(run: CommandLine, kept: str, words: list[str], shown: list[str]) -> None:
    write_unended(kept, unnamed_log("20231114-000000-abcdef"), calls(T + 300))
    assert [one["name"] for one in run("runs", "--url", kept, "--json", *words).lines] == shown


def test_how_many_more_there_are_is_told(run: CommandLine, kept: str) -> None:
    assert run("runs", "--url", kept, "--limit", "1").out.endswith("and 2 more\n")


@pytest.mark.parametrize("width", [80, 110, 140])
@pytest.mark.parametrize("words", [[], ["show", "baseline"], ["show", "baseline", "--calls"]])
def test_no_line_is_wider_than_the_terminal(
    run: CommandLine, kept: str, monkeypatch: pytest.MonkeyPatch, words: list[str], width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    done = run("runs", *words, "--url", kept)
    assert done.status == 0
    assert [line for line in done.out.splitlines()[1:] if len(line) > width] == []


def test_where_there_is_none_it_is_told_how_they_come(run: CommandLine, url: str) -> None:
    told = "no runs: cachewrap run --name NAME PROGRAM keeps one\n"
    assert run("runs", "--url", url) == run("runs", "ls", "--url", url)
    assert run("runs", "--url", url).out == told
    assert run("runs", "--url", url, "--json").out == ""
    done = run("runs", "show", "--url", url)
    assert (done.status, done.err) == (
        1,
        "Error: no run '@': cachewrap run --name NAME PROGRAM keeps one\n",
    )


def test_a_place_without_entries_has_runs_all_the_same(
    run: CommandLine, make_url: Callable[[str], str]
) -> None:
    place = make_url("disk")
    write_run(cached(place), "a", calls()[4:])
    assert names(run, place) == ["a"]
    assert names(run, f"{place}?cache_seed=7") == ["a"]
    assert [one["name"] for one in run("runs", place.removeprefix("disk:"), "--json").lines] == [
        "a"
    ]


def test_several_places_are_listed_as_one(run: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "cassettes"
    for name in ("one", "two"):
        with Cache.jsonl(folder / f"{name}.jsonl") as cache:
            cache.set("a", 1)
            write_run(cache, name, calls(T + len(name)))
    listed = run("runs", str(folder), "--json").lines
    assert {one["name"] for one in listed} == {"one", "two"}
    assert run("runs", "show", f"{folder}/one.jsonl", "one").status == 0


# -- which run is meant ---------------------------------------------------------------------------

UNNAMED = ("20231114-221500-abcdef", "20231114-231500-abcdef")


@pytest.mark.parametrize(
    ("name", "shown", "count"),
    [
        pytest.param("baseline", "baseline", 6, id="the newest of a name"),
        pytest.param("baseline~1", "baseline~1", 2, id="the one before"),
        pytest.param("@~1", "candidate", 1, id="the last but one"),
        pytest.param("baseline/judge", "baseline/judge", 1, id="a block"),
        pytest.param("baseline~1/judge", "baseline~1/judge", 1, id="a block of the one before"),
        pytest.param("20231114-22", UNNAMED[0], 3, id="a beginning"),
    ],
)
def test_a_run_is_meant_by_its_name(
    run: CommandLine, kept: str, name: str, shown: str, count: int
) -> None:
    write_unended(kept, unnamed_log(UNNAMED[0]), calls(T - 500)[:3])
    write_unended(kept, unnamed_log(UNNAMED[1]), calls(T + 500)[:4])
    (told,) = run("runs", "show", name, "--url", kept, "--json").lines
    assert (told["name"], told["calls"]) == (shown, count)


def test_without_a_name_it_is_the_newest(run: CommandLine, kept: str) -> None:
    assert run("runs", "show", "--url", kept) == run("runs", "show", "candidate", "--url", kept)
    assert run("runs", "show", "--url", kept) == run("runs", "show", kept.removeprefix("disk:"))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        pytest.param("basline", "no run 'basline': did you mean 'baseline'?", id="a typo"),
        pytest.param("zzz", "no run 'zzz': there are baseline, candidate", id="another"),
        pytest.param("judge", "it is a block of candidate, candidate/judge", id="a block alone"),
        pytest.param("candidate~1", "candidate has 1 run", id="one that has none before it"),
        pytest.param("baseline~2", "baseline has 2 runs, the newest is baseline itself", id="~2"),
        pytest.param("baseline~x", "no run 'baseline~x'", id="no number"),
        pytest.param("baseline/x", "no block 'x' in baseline: there are judge", id="no block"),
        pytest.param("2023", f"'2023' begins 2 runs: {', '.join(UNNAMED)}", id="several"),
    ],
)
@pytest.mark.parametrize("command", ["show", "rm", "export"])
def test_what_names_no_run(run: CommandLine, kept: str, command: str, name: str, told: str) -> None:
    for one in UNNAMED:
        write_unended(kept, unnamed_log(one), calls(T + int(one[9:11])))
    done = run("runs", command, name, "--url", kept)
    assert (done.status, done.out) == (1, "")
    assert told in done.err


def test_a_run_of_another_place(run: CommandLine, kept: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_run(Cache.disk(41, other), "nightly", calls()[:1])
    (told,) = run("runs", "show", f"{other}#nightly", "--url", kept, "--json").lines
    assert (told["name"], told["calls"]) == ("nightly", 1)
    assert run("runs", "rm", "candidate", f"{other}#nightly", "--url", kept).status == 0
    assert (names(run, kept), names(run, f"disk:{other}")) == (["baseline", "baseline~1"], [])


def test_a_folder_of_the_name_of_a_run_is_no_place(
    run: CommandLine, kept: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CACHEWRAP_URL", kept)
    (tmp_path / "baseline").mkdir()
    assert run("runs", "show", "baseline").status == 0


# -- show -----------------------------------------------------------------------------------------


def test_a_run_is_shown(run: CommandLine, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    told = run("runs", "show", "baseline", "--url", kept).out
    lines = told.splitlines()
    assert lines[0].startswith("baseline  disk://")
    assert lines[1] == "2023-11-14 22:15:00 UTC, 9.00s, eval.py"
    assert lines[2] == "6 calls: 1 hit, 1 joined, 2 misses, 1 past the cache, 1 failed"
    assert lines[3].startswith("saved: 2,200 tokens, 4.00s")
    assert lines[4].startswith("spent: 2,200 tokens")
    for part in (
        "SOURCE            MODEL",
        "BLOCK",
        "the slowest:",
        "4.00s  miss     22222222  gpt-4o",
        "past the cache:",
        "host not known",
        "failed:\nTIMES  SOURCE  WHY\n    1  f       OSError",
        "What is a puffin?",
    ):
        assert part in told


def test_all_of_it_is_told_to_machines(run: CommandLine, kept: str) -> None:
    (told,) = run("runs", "show", "baseline", "--url", kept, "--json", "--repeats", "2").lines
    assert [(one["source"], one["model"], one["calls"]) for one in told["groups"]] == [
        ("POST /chat/completions", "gpt-4o", 4),
        ("POST /chat/completions", "", 1),
        ("app:f", "gpt-4o", 1),
    ]
    assert [(one["path"], one["calls"]) for one in told["blocks"]] == [("judge", 1), ("", 5)]
    assert [one["number"] for one in told["slowest"]] == [1, 5, 0, 3, 2]
    assert [one["prompt"] for one in told["slowest"]] == [*["", ""], *["What is a puffin?"] * 3]
    (often,) = told["repeated"]
    assert (often["key"], often["count"], often["polls"]) == (KEYS[1], 3, False)
    assert often["prompt"] == "What is a puffin?"
    assert [(one["reason"], one["count"]) for one in told["not_cached"]] == [("host not known", 1)]
    assert [(one["reason"], one["first"]) for one in told["errors"]] == [("OSError", 5)]
    assert told["not_stored"] == []
    assert "calls_list" not in told


def test_a_loop_that_polls_is_warned_of(run: CommandLine, url: str) -> None:
    rows = [ended(KEYS[1], "hit", started=T + n, lane="Task-7") for n in range(12)]
    write_run(cached(url), "a", rows)
    told = run("runs", "show", "--url", url).out
    assert "asked more than 5 times:" in told
    assert "11111111 was asked 12 times in a row by Task-7: a loop" in told
    write_run(cached(url), "b", rows[:9])
    assert "a loop" not in run("runs", "show", "b", "--url", url).out


def test_every_call_is_listed(run: CommandLine, kept: str) -> None:
    lines = run("runs", "show", "baseline", "--url", kept, "--calls").out.splitlines()
    rows = [line.split() for line in lines[lines.index("") + 2 :]]
    assert [(row[0], row[2]) for row in rows] == [
        *(("0", "miss"), ("1", "miss"), ("2", "hit"), ("3", "joined")),
        *(("4", "bypassed"), ("5", "failed")),
    ]
    some = run("runs", "show", "baseline", "--url", kept, "--calls", "--limit", "2").out
    assert some.endswith("and 4 more\n")


@pytest.mark.parametrize(("words", "count"), [([], 6), (["--limit", "2"], 2)])
def test_every_call_is_told_to_machines(
    run: CommandLine, kept: str, words: list[str], count: int
) -> None:
    (told,) = run("runs", "show", "baseline", "--url", kept, "--json", "--calls", *words).lines
    assert [one["number"] for one in told["every_call"]] == list(range(count))
    assert told["every_call"][0]["started"] == "2023-11-14T22:15:00.0Z"


def test_a_block_is_shown_by_an_option_too(run: CommandLine, kept: str) -> None:
    words = ("runs", "show", "--url", kept, "--json")
    assert run(*words, "baseline", "--block", "judge") == run(*words, "baseline/judge")


def test_what_is_stored_in_a_run_controls_no_terminal(run: CommandLine, url: str) -> None:
    evil = "\x1b]0;gotcha\x07"
    row = ended(KEYS[2], "failed", started=T, model=evil, source=evil, reason=evil, lane=evil)
    write_run(cached(url), "a", [row, *[ended(KEYS[2], "hit", lane=evil, path=evil)] * 12])
    for words in ([], ["show"], ["show", "--calls"], ["export", "a"], ["show", "--json"]):
        assert "\x1b" not in run("runs", *words, "--url", url).out


# -- rm -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "left"),
    [
        pytest.param(["candidate"], ["20231114", "baseline", "baseline~1"], id="one"),
        pytest.param(
            ["baseline"], ["20231114", "candidate", "baseline"], id="the newest of a name"
        ),
        pytest.param(["baseline~1"], ["20231114", "candidate", "baseline"], id="the one before"),
        pytest.param(["candidate", "@~1"], ["20231114", "baseline", "baseline~1"], id="one twice"),
        pytest.param(["baseline", "--all"], ["20231114", "candidate"], id="all of a name"),
        pytest.param(["--unnamed"], ["candidate", "baseline", "baseline~1"], id="without a name"),
        pytest.param(["candidate", "--unnamed"], ["baseline", "baseline~1"], id="both"),
        pytest.param(
            ["candidate", "--dry-run"],
            ["20231114", "candidate", "baseline", "baseline~1"],
            id="none, as it is told only",
        ),
    ],
)
def test_runs_are_removed(run: CommandLine, kept: str, words: list[str], left: list[str]) -> None:
    write_unended(kept, unnamed_log(UNNAMED[0]), calls(T + 500))
    done = run("runs", "rm", *words, "--url", kept)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("would remove" if "--dry-run" in words else "removed")
    assert [name.partition("-")[0] for name in names(run, kept)] == left
    assert len(list(cached(kept).store.keys())) == 1


@pytest.mark.parametrize("meant", [True, False])
def test_rm_of_several_asks_on_a_terminal(
    run: CommandLine, kept: str, monkeypatch: pytest.MonkeyPatch, meant: bool
) -> None:
    for module in (prune, runs):
        monkeypatch.setattr(module, "is_terminal", lambda stream: True)
    asked: list[str] = []
    monkeypatch.setattr("click.confirm", lambda text: asked.append(text) or meant)
    run("runs", "rm", "baseline", "candidate", "--url", kept)
    assert (asked, len(runs_of(cached(kept)))) == (["Remove 2 runs?"], 1 if meant else 3)


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        pytest.param(["candidate", "no"], 1, "no run 'no'", id="one that is not"),
        pytest.param(["candidate", "going"], 1, "going goes on: end it first", id="one goes on"),
        pytest.param(["baseline/judge"], 2, "give the name without /", id="a block"),
        pytest.param([], 2, "give the names of runs: cachewrap runs lists them", id="nothing"),
    ],
)
def test_what_cannot_be_removed(
    run: CommandLine, kept: str, words: list[str], status: int, told: str
) -> None:
    write_unended(kept, named_log("going", 1), calls(T + 500), process=os.getppid())
    done = run("runs", "rm", *words, "--url", kept)
    assert (done.status, told in done.err) == (status, True)
    assert len(runs_of(cached(kept))) == 4


def test_unnamed_runs_that_go_on_are_left(run: CommandLine, url: str) -> None:
    write_unended(url, unnamed_log(UNNAMED[0]), calls(), process=os.getppid())
    assert run("runs", "rm", "--unnamed", "--url", url).out == "no run was given no name\n"
    assert names(run, url) == [UNNAMED[0]]


# -- rename ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "left"),
    [
        pytest.param(["candidate", "new"], ["new", "baseline", "baseline~1"], id="a new name"),
        pytest.param(
            ["candidate", "baseline"], ["baseline", "baseline~1", "baseline~2"], id="a known name"
        ),
        pytest.param(["@", "new"], ["new", "baseline", "baseline~1"], id="the newest"),
    ],
)
def test_a_run_is_renamed(run: CommandLine, kept: str, words: list[str], left: list[str]) -> None:
    done = run("runs", "rename", *words, "--url", kept)
    assert (done.status, done.out) == (0, f"candidate is {words[1]} now\n")
    assert names(run, kept) == left


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        pytest.param(["candidate", "a/b"], 2, "a run's name has no / # ~ and \\", id="no name"),
        pytest.param(["candidate"], 2, "give two names: cachewrap runs rename OLD NEW", id="one"),
        pytest.param(["no", "new"], 1, "no run 'no'", id="none"),
        pytest.param(["going", "new"], 1, "going goes on: end it first", id="one that goes on"),
        pytest.param(["baseline/judge", "new"], 2, "give the name without /", id="a block"),
    ],
)
def test_what_cannot_be_renamed(
    run: CommandLine, kept: str, words: list[str], status: int, told: str
) -> None:
    write_unended(kept, named_log("going", 1), calls(T + 500), process=os.getppid())
    done = run("runs", "rename", *words, "--url", kept)
    assert (done.status, told in done.err) == (status, True)
    assert names(run, kept) == ["going", "candidate", "baseline", "baseline~1"]


# -- export ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["-"], ["calls.jsonl"], ["calls.txt"]], ids=str)
def test_the_calls_of_a_run_are_lines_of_json(
    run: CommandLine, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("runs", "export", "baseline", *words, "--url", kept)
    text = done.out
    if words and words != ["-"]:
        assert done.out == f"exported 6 calls to {words[0]}\n"
        text = (tmp_path / words[0]).read_text()
        assert (tmp_path / words[0]).stat().st_mode & 0o077 == 0
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["outcome"] for row in rows] == [
        *("miss", "miss", "hit", "joined", "bypassed", "failed"),
    ]
    assert {name: rows[0][name] for name in ("key", "started", "seconds", "path", "seed")} == {
        "key": KEYS[1],
        "started": "2023-11-14T22:15:00.0Z",
        "seconds": 2.0,
        "path": "judge",
        "seed": "41",
    }


@pytest.mark.parametrize("words", [["calls.csv"], ["-", "--format", "csv"]], ids=str)
def test_the_calls_of_a_run_are_a_table(
    run: CommandLine, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("runs", "export", kept.removeprefix("disk:"), "baseline", *words)
    text = done.out if words[0] == "-" else (tmp_path / "calls.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["outcome"] for row in rows][-1] == "failed"
    assert (rows[0]["tokens_in"], rows[0]["started"]) == ("1000", "2023-11-14T22:15:00.0Z")


def test_no_spreadsheet_runs_what_a_call_says(run: CommandLine, url: str) -> None:
    write_run(cached(url), "a", [ended(KEYS[1], source="=cmd|x")])
    words = ("runs", "export", "a", "--format", "csv", "--url", url)
    assert ("'=cmd|x" in run(*words).out, "'=cmd|x" in run(*words, "--exact").out) == (True, False)


def test_a_file_that_is_there_is_replaced_where_that_is_meant(
    run: CommandLine, kept: str, tmp_path: Path
) -> None:
    for name in ("a.jsonl", "a.csv"):
        file = tmp_path / name
        file.write_text("mine")
        words = ("runs", "export", "baseline", str(file), "--url", kept)
        done = run(*words)
        assert (done.status, "--overwrite replaces it" in done.err) == (2, True)
        assert file.read_text() == "mine"
        assert run(*words, "--overwrite").status == 0
        assert "mine" not in file.read_text()


# -- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        pytest.param("runs list", "cachewrap runs ls?", id="list"),
        pytest.param("runs lss", "cachewrap runs ls?", id="a typo"),
        pytest.param("runs delete x", "cachewrap runs rm?", id="delete"),
        pytest.param("runs compare a b", "cachewrap runs diff?", id="compare"),
        pytest.param("runs clean", "cachewrap runs rm --unnamed?", id="clean"),
        pytest.param("runs mv a b", "cachewrap runs rename?", id="mv"),
        pytest.param("runs baseline", "cachewrap runs show baseline?", id="a name"),
        pytest.param("diff a b", "did you mean runs diff?", id="diff"),
        pytest.param("history", "did you mean runs?", id="history"),
        pytest.param("help runs shwo", "cachewrap runs show?", id="help"),
        pytest.param("run --run x p.py", "did you mean --name?", id="--run"),
        pytest.param("run --no-history p.py", "did you mean --no-ledger?", id="--no-history"),
        pytest.param("runs show a b", "give one run, not a and b", id="two"),
        pytest.param("runs export", "give the run: cachewrap runs lists them", id="export"),
        pytest.param("run --name a/b p.py", "--name: a run's name has no / # ~", id="no name"),
        pytest.param("run --name a --no-ledger p.py", "not both", id="both"),
        pytest.param("run --name a --url disk:x?ledger=false p.py", "ledger=false does", id="URL"),
    ],
)
def test_what_was_meant_is_told(run: CommandLine, line: str, meant: str) -> None:
    done = run(*line.split())
    assert (done.status, meant in done.err) == (2, True), done.err


def test_a_name_of_the_environment_that_is_none_is_told_of(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEWRAP_RUN", "a/b")
    done = run("run", "p.py")
    assert (done.status, "CACHEWRAP_RUN: a run's name has no /" in done.err) == (2, True)


def test_the_environment_of_a_run(run: CommandLine) -> None:
    told = run("env", "--name", "my eval").out
    assert "export CACHEWRAP_RUN='my eval'\nexport CACHEWRAP_LEDGER=1\n" in told
    assert "export CACHEWRAP_LEDGER=0\n" in run("env", "--no-ledger").out
    assert "CACHEWRAP_RUN" not in run("env").out


@pytest.mark.parametrize(
    ("place", "status", "told"),
    [
        pytest.param("memory:", 2, "a cache in memory ends with its process", id="memory"),
        pytest.param("disk:no/such", 3, "there is no cache at", id="nothing"),
    ],
)
def test_a_place_that_keeps_no_runs(run: CommandLine, place: str, status: int, told: str) -> None:
    done = run("runs", "--url", place)
    assert (done.status, told in done.err) == (status, True)


def test_a_store_that_keeps_no_runs(run: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "open_store", lambda url, seed: (MinimalStore(), "41"))
    done = run("runs", "--url", "redis://elsewhere/0")
    assert (done.status, "this kind of store keeps no runs" in done.err) == (2, True)


@pytest.mark.parametrize("command", ["", "ls", "show", "rm", "rename", "export"])
def test_help_fits_a_terminal_of_80_columns(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words = [word for word in ("runs", command) if word]
    told = run("help", *words)
    assert told == run(*words, "--help")
    assert [line for line in told.out.splitlines() if len(line) > 80] == []
