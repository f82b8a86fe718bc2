"""``cachewrap runs diff``: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ledger.comparing import asked, call, said
from ledger.making import ended, write_run

from cachewrap import Cache
from cachewrap.ledger.runs import runs_of
from cli.filling import CommandLine, Result

LONG = "\n".join(f"line {number} of an answer that is long" for number in range(30))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return str(tmp_path / ".cache")


@pytest.fixture
def diff(run: CommandLine, folder: str) -> CommandLine:
    """The command, where a baseline and a candidate are that differ in three calls."""
    with Cache.disk(41, folder) as cache:
        same = call(cache, asked("the same"), "yes", 1)
        old = [
            same,
            call(cache, asked("a question"), "It is five.", 2),
            call(cache, asked("only old"), said("gone"), 3),
        ]
        new = [
            same,
            call(cache, asked("a question"), "It is seven.", 4, seed="42", path="part"),
            call(cache, asked("something entirely new"), LONG, 5),
        ]
        write_run(cache, "baseline", old)
        write_run(cache, "candidate", new)
        cache.reseed("42").close()
    return run


def compare(diff: CommandLine, *words: str) -> Result:
    return diff("runs", "diff", *words)


def test_it_prints_what_changed_and_ends_with_1(diff: CommandLine) -> None:
    result = compare(diff, "baseline", "candidate")
    assert result.status == 1
    lines = result.out.splitlines()
    assert lines[0].startswith("CHANGED POST /chat/completions gpt-4o ")
    assert lines[0].endswith("seed 41 → 42")
    assert lines[1:5] == [
        "  asked     a question",
        "  answer    'It is five.' → 'It is seven.'",
        "    - It is five.",
        "    + It is seven.",
    ]
    assert "NEW POST" in result.out
    assert "MISSING POST" in result.out
    assert lines[-1] == "different: 1 changed, 1 new, 1 missing; 1 the same"


def test_answers_stand_side_by_side_where_there_is_room(
    diff: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    result = compare(diff, "baseline", "candidate")
    assert f"    {'It is five.':66} │ It is seven." in result.out.splitlines()


def test_no_line_is_longer_than_the_terminal(
    diff: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for width in (60, 80, 140):
        monkeypatch.setenv("COLUMNS", str(width))
        result = compare(diff, "baseline", "candidate")
        assert max(map(len, result.out.splitlines())) <= width


def test_a_long_answer_is_cut_unless_all_is_wanted(diff: CommandLine) -> None:
    assert "line 29" not in compare(diff, "baseline", "candidate").out
    assert "line 29" in compare(diff, "baseline", "candidate", "--full").out


@pytest.mark.parametrize(
    ("words", "status"),
    [
        pytest.param(("baseline", "baseline"), 0, id="equal"),
        pytest.param(("baseline", "candidate"), 1, id="different"),
        pytest.param(("baseline", "@"), 1, id="the newest"),
        pytest.param(("baseline", "candidate/part"), 1, id="a block"),
        pytest.param(("baseline", "candidate", ".cache"), 1, id="a place behind"),
        pytest.param((".cache", "baseline", "baseline"), 0, id="a place before"),
        pytest.param((".cache#baseline", ".cache#baseline"), 0, id="runs in places"),
        pytest.param((".cache", ".cache"), 0, id="whole caches"),
        pytest.param(("baseline", ".cache"), 1, id="a run and a cache"),
        pytest.param(("baseline", "candidate", "--fail-on", "changed>1"), 0, id="no condition"),
        pytest.param(("baseline", "candidate", "--fail-on", "missing,new"), 1, id="a condition"),
        pytest.param(("baseline", "candidate", "--fail-on", "tokens>5%"), 0, id="not more"),
        pytest.param(("baseline", "baselin"), 2, id="no such run"),
        pytest.param(("baseline", "candidate/no"), 2, id="no such block"),
        pytest.param(("baseline",), 2, id="one run"),
        pytest.param(("a", "b", "c", "d"), 2, id="too many"),
        pytest.param(("baseline", "candidate", "--fail-on", "cost"), 2, id="a wrong condition"),
        pytest.param(("baseline", "candidate", "--ignore", "["), 2, id="a wrong path"),
        pytest.param((".cache", "./nowhere"), 3, id="no such cache"),
        pytest.param(("baseline", "nowhere#candidate"), 3, id="a run in no cache"),
    ],
)
def test_how_it_ends(diff: CommandLine, words: tuple[str, ...], status: int) -> None:
    assert compare(diff, *words).status == status


def test_a_run_that_is_not_there_is_explained(diff: CommandLine) -> None:
    assert "no run 'baselin': did you mean 'baseline'?" in compare(diff, "baselin", "candidate").err
    told = compare(diff, "baseline", "candidate/no").err
    assert "no block 'no' in candidate: there are part" in told


def test_a_run_comes_before_a_folder_of_its_name(diff: CommandLine) -> None:
    os.mkdir("baseline")
    assert compare(diff, "baseline", "candidate").status == 1


def test_what_failed_is_told(diff: CommandLine) -> None:
    result = compare(diff, "baseline", "candidate", "--fail-on", "new,tokens>900%")
    assert result.err == "failed: 1 new\n"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        pytest.param("messages[0].content", "", id="a field"),
        pytest.param("body.model", "", id="from the top"),
        pytest.param("message[0]", "--ignore message[0]: no request that differs", id="a slip"),
        pytest.param("messages.0.content", "--ignore messages.0.content: no", id="another form"),
    ],
)
def test_a_field_that_no_request_has_is_told(diff: CommandLine, path: str, told: str) -> None:
    result = compare(diff, "baseline", "candidate", "--ignore", path, "--ignore", "messages[*]")
    assert result.err.startswith(told)
    assert bool(result.err) == bool(told)


def test_a_field_of_which_nothing_is_known_is_not_told(diff: CommandLine) -> None:
    assert not compare(diff, "baseline", "baseline", "--ignore", "message[0]").err


def test_runs_of_one_name_are_told_with_their_places(diff: CommandLine, tmp_path: Path) -> None:
    with Cache.disk(41, tmp_path / "other") as cache:
        write_run(cache, "baseline", [call(cache, asked("a"))])
    result = compare(diff, "baseline", "other#baseline", "--limit", "0")
    assert "baseline  other#baseline" in result.out


def test_it_is_one_document_for_machines(diff: CommandLine) -> None:
    result = compare(diff, "baseline", "candidate", "--json", "--fail-on", "new")
    told = json.loads(result.out)
    assert (told["baseline"], told["candidate"], told["equal"]) == ("baseline", "candidate", False)
    assert [change["kind"] for change in told["changes"]] == ["changed", "new", "missing"]
    assert told["failing"] == ["1 new"]
    assert told["totals"]["candidate"]["calls"] == 3
    few = compare(diff, "baseline", "candidate", "--json", "--only", "new", "--only", "missing")
    assert [change["kind"] for change in json.loads(few.out)["changes"]] == ["new", "missing"]


def test_so_many_are_shown(diff: CommandLine) -> None:
    result = compare(diff, "baseline", "candidate", "--limit", "1")
    assert "… and 2 more: --limit 3 shows all" in result.out
    assert "NEW POST" not in result.out
    assert (
        len(
            json.loads(compare(diff, "baseline", "candidate", "--json", "--limit", "1").out)[
                "changes"
            ]
        )
        == 1
    )


def test_the_candidate_is_accepted(diff: CommandLine, folder: str) -> None:
    result = compare(diff, "baseline", "candidate", "--accept")
    assert result.status == 0
    assert result.out.splitlines()[-1] == (
        "candidate is the newest baseline now, number 2; baseline~1 is the one before"
    )
    with Cache.disk(41, folder) as cache:
        assert [(one.name, one.number) for one in runs_of(cache)] == [
            ("baseline", 1),
            ("baseline", 2),
        ]
    assert compare(diff, "baseline~1", "baseline").status == 1
    for word in ("baseline", "@"):
        again = compare(diff, "baseline~1", word, "--accept")
        assert (again.status, again.out.splitlines()[-1]) == (
            0,
            "baseline is the newest of its name already",
        )
    assert "already" in compare(diff, "baseline", "@", "--accept").out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(("baseline", ".cache"), "a whole cache cannot be accepted", id="a cache"),
        pytest.param(("baseline", "candidate/part"), "a block of a run cannot be", id="a block"),
        pytest.param(("baseline", "other#candidate"), "in different places", id="elsewhere"),
    ],
)
def test_what_cannot_be_accepted(
    diff: CommandLine, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    with Cache.disk(41, tmp_path / "other") as cache:
        write_run(cache, "candidate", [call(cache, asked("a"))])
    result = compare(diff, *words, "--accept")
    assert (result.status, told in result.err) == (2, True)


def test_cassettes_are_compared(run: CommandLine, tmp_path: Path) -> None:
    for name, answer in (("one", "yes"), ("other", "no")):
        with Cache.jsonl(tmp_path / f"{name}.jsonl") as cache:
            call(cache, asked("a"), answer)
    result = run("runs", "diff", str(tmp_path / "one.jsonl"), str(tmp_path / "other.jsonl"))
    assert (result.status, "'yes' → 'no'" in result.out) == (1, True)


def test_seeds_are_chosen(diff: CommandLine) -> None:
    first = compare(diff, ".cache", ".cache", "--seed", "42", "--json")
    assert json.loads(first.out)["same"] == 1
    every = compare(diff, ".cache", ".cache", "--all-seeds", "--json")
    assert json.loads(every.out)["same"] == 5


def test_what_a_model_says_cannot_move_the_cursor(run: CommandLine, folder: str) -> None:
    with Cache.disk(41, folder) as cache:
        write_run(cache, "old", [])
        write_run(cache, "new", [call(cache, asked("a\x1b[2J"), "\x1b[31mred")])
    result = run("runs", "diff", "old", "new")
    assert "\x1b" not in result.out


def test_calls_without_answers_tell_how_they_ended(run: CommandLine, folder: str) -> None:
    with Cache.disk(41, folder) as cache:
        write_run(cache, "old", [ended(outcome="failed", reason="Timeout", source="a:f")])
        write_run(cache, "new", [ended(outcome="bypassed", reason="background", source="a:g")])
    result = run("runs", "diff", "old", "new")
    assert "  answer    bypassed (background)" in result.out
    assert "  answer    failed (Timeout)" in result.out
