"""The list of the seeds of a place, on each kind of store."""

from __future__ import annotations

import time
from pathlib import Path

import diskcache
import pytest

from cli.filling import DAY, CommandLine, chat, put


def test_each_seed_is_listed_with_its_entries(run: CommandLine, url: str) -> None:
    sep = "&" if "?" in url else "?"
    now = time.time()
    for seed, age in (("7", 3 * DAY), ("7", DAY), ("10", 0), ("draft", 0)):
        put(f"{url}{sep}cache_seed={seed}", *chat(f"{age}", "b"), age=age)
    told = run("seeds", "--url", url, "--json").lines
    assert [(one["seed"], one["entries"]) for one in told] == [("7", 2), ("10", 1), ("draft", 1)]
    assert told[0]["bytes"] > told[1]["bytes"] > 0
    shown = run("seeds", url).out.splitlines()
    assert [line.split()[:2] for line in shown[1:]] == [
        ["SEED", "ENTRIES"],
        ["7", "2"],
        ["10", "1"],
        ["draft", "1"],
    ]
    first = time.strftime("%Y-%m-%d", time.gmtime(now - 3 * DAY))
    assert first in shown[2]


def test_a_place_without_seeds_has_none(run: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    done = run("seeds", str(tmp_path / "a.jsonl"))
    assert (done.status, done.out.splitlines()[-1]) == (0, "no seeds")
    assert run("seeds", str(tmp_path / "a.jsonl"), "--json").out == ""


def test_the_seeds_of_each_cassette_are_listed(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put("jsonl:t/a.jsonl", *chat("a", "b"))
    put("jsonl:t/b.jsonl?cache_seed=7", *chat("a", "b"))
    told = run("seeds", "t", "--json").lines
    assert [(one["place"], one["seed"]) for one in told] == [
        ("t/a.jsonl", "41"),
        ("t/b.jsonl", "7"),
    ]
    assert run("seeds", "t").out.splitlines()[:2][0] == "2 files in t"


def test_a_folder_of_autogen_is_told(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with diskcache.Cache(".cache/42") as theirs:
        theirs["key"] = "answer"
    told = "no entries in seed 41, but 1 answer of AutoGen 0.2 in seed 42: cachewrap import"
    done = run("ls")
    assert (done.status, told in done.err) == (1, True)
    done = run("seeds")
    assert "42          0   0 B  -" in done.out
    assert done.err == "and 1 answer of AutoGen 0.2: cachewrap import reads them\n"


def test_an_option_for_a_seed_is_none_of_it(run: CommandLine) -> None:
    assert "No such option '--all-seeds'" in run("seeds", "--all-seeds").err
