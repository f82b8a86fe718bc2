"""`report` and runs: which are on the page, what it tells of each, and the difference of two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger.making import ended, write_run

from cachewrap import Cache
from cachewrap.cli import report as report_command, report_runs, survey
from cachewrap.ledger.calls import OUTCOMES, Call, Rows
from cachewrap.ledger.diff import Change, Diff
from cachewrap.ledger.runs import Run, runs_of
from cli.filling import CommandLine, chat, put
from cli.test_reporting import Page

START = 1_800_000_000.0
SECRETS = (
    "secret-run",
    "secret-lane",
    "secret-path",
    "SecretError",
    "secret.py",
    "a secret prompt",
)


@pytest.fixture
def url(make_url: Callable[[str], str]) -> str:
    """The URL of a cache with one entry."""
    url = make_url("disk")
    put(url, *chat("first", "one"))
    return url


@pytest.fixture
def cache(url: str) -> Iterator[Cache]:
    with Cache.from_url(url) as cache:
        yield cache


@pytest.fixture
def report(run: CommandLine, url: str, tmp_path: Path) -> Callable[..., Page]:
    """Writes the page of the cache and reads it."""

    def write(*options: str) -> Page:
        done = run("report", "--url", url, "-o", str(tmp_path / "r.html"), *options)
        assert done.status == 0, done.err
        return Page(tmp_path / "r.html")

    return write


def asked(number: int, outcome: str = "miss", **given: Any) -> Any:
    return ended(f"{number:064x}", outcome, **{"started": START + number, "seconds": 0.5, **given})


def stored_at(cache: Cache, key: str) -> float:
    raw = cache.store.get(key)
    assert raw is not None
    return cache._guard.unseal(key, raw).created


def names(page: Page) -> list[str]:
    return [row["name"] for row in page.facts["runs"]["rows"]]


def block(page: Page, name: str) -> Any:
    (row,) = (row for row in page.facts["runs"]["rows"] if row["name"] == name)
    return page.of("run")[row["block"]]


def test_runs_stand_newest_first_under_the_names_that_they_are_asked_for_by(
    cache: Cache, report: Any
) -> None:
    for number, name in enumerate(("baseline", "candidate", "baseline", "baseline")):
        write_run(cache, name, [asked(1, started=START + number)])
    page = report()
    assert names(page) == ["baseline", "baseline~1", "candidate", "baseline~2"]
    for row in page.facts["runs"]["rows"]:
        found = runs_of(cache)[row["name"]]
        assert row["started"] == found.started.timestamp()


def test_a_run_tells_what_it_saved_and_spent(cache: Cache, report: Any) -> None:
    tokens: Any = {"tokens_in": 100, "tokens_out": 10}
    write_run(
        cache,
        "a",
        [
            asked(1, **tokens),
            asked(2, "hit", upstream=2.0, **tokens),
            asked(3, "joined", upstream=3.0, **tokens),
            asked(4, "bypassed", reason="a file"),
            asked(5, "failed", reason="RateLimitError"),
        ],
    )
    page = report()
    (row,) = page.facts["runs"]["rows"]
    counted = ("calls", "hits", "misses", "joined", "bypassed", "failed")
    assert [row[name] for name in counted] == [5, 1, 1, 1, 1, 1]
    assert (row["saved"][:2], row["spent"][0]) == ([220, 5.0], 110)
    calls = {call.outcome: call.money for call in runs_of(cache)["a"].calls()}
    if page.facts["priced"]:
        assert row["spent"][2] == pytest.approx(float(calls["miss"] or 0))
        assert row["saved"][2] == pytest.approx(2 * float(calls["hit"] or 0))
    assert (row["named"], row["processes"], row["lost"], row["program"]) == (True, 1, 0, "eval.py")
    assert row["state"] == "ended"
    assert block(page, "a")["reasons"] == [
        ["bypassed", "POST /chat/completions", "a file", 1],
        ["failed", "POST /chat/completions", "RateLimitError", 1],
    ]


def test_every_call_is_on_the_page(cache: Cache, report: Any) -> None:
    rows = [
        asked(
            number,
            OUTCOMES[number % 5],
            source=f"m:f{number % 3}",
            model=f"model-{number % 2}",
            lane=f"Task-{number % 4}",
            path="a/b" if number % 2 else "",
            sample=number % 2,
            rules=('ignore("user")',) if OUTCOMES[number % 5] == "hit" else (),
            seconds=number / 8,
            upstream=number / 4,
            tokens_in=number,
            tokens_out=2 * number,
        )
        for number in range(40)
    ]
    write_run(cache, "a", rows, process=7)
    told = block(report(), "a")
    assert (told["whole"], told["numbers"]) == (True, list(range(40)))
    for at, call in enumerate(runs_of(cache)["a"].calls()):
        outcome, *common = told["of_common"][told["common"][at]]
        assert OUTCOMES[outcome] == call.outcome
        assert common == [call.source, call.model, call.path, call.reason, list(call.rules)]
        assert told["of_lanes"][told["lanes"][at]] == [7, call.lane]
        assert told["base"] + told["started"][at] / 10_000 == pytest.approx(call.started, abs=1e-3)
        assert told["seconds"][at] == round(call.seconds * 10_000)
        assert told["upstream"][at] == round(call.upstream_seconds * 10_000)
        assert (told["asked"][at], told["told"][at]) == (call.tokens_in, call.tokens_out)
        assert told["samples"].get(str(at), 0) == call.sample
    assert [told["numbers"][at] for at in told["slowest"]] == list(range(39, 29, -1))


def test_a_call_leads_to_its_conversation(cache: Cache, url: str, report: Any) -> None:
    key = put(url, *chat("hello", "hi"))
    created = stored_at(cache, key)
    rows = [
        ended(key, "hit", started=START, answered=created),
        ended(key, "hit", started=START + 1, answered=created - 60),
        ended("f" * 64, "hit", started=START + 2),
        ended("", "bypassed", started=START + 3),
    ]
    write_run(cache, "a", rows)
    page = report()
    told = block(page, "a")
    line = page.keys.index(key)
    shown = [told["of_keys"][at] if at >= 0 else None for at in told["keys"]]
    assert shown == [line, line, "f" * 12, None]
    assert told["replaced"] == [1]  # another answer stands there now


def test_the_run_that_the_page_opens_with_brings_its_conversations(
    cache: Cache, url: str, report: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "TOP", 0)
    old = put(url, *chat("long ago", "so"), age=9e6)
    write_run(cache, "a", [ended(old, "hit")])
    assert old not in report("--limit", "1").keys
    assert old in report("--limit", "1", "--run", "a").keys


def test_the_run_that_is_asked_for_is_whole_and_others_as_far_as_there_is_room(
    cache: Cache, report: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_runs, "WHOLE", 30)
    for number, name in enumerate(("old", "middle", "new")):
        rows = [asked(n, seconds=n / 10, started=START + 60 * number + n) for n in range(20)]
        write_run(cache, name, rows)
    page = report("--run", "middle")
    assert page.facts["runs"]["opened"] == names(page).index("middle")
    told = {name: block(page, name) for name in names(page)}
    assert {name: one["whole"] for name, one in told.items()} == {
        "new": False,
        "middle": True,
        "old": False,
    }
    for one in told.values():  # coarse or not, each says when it asked, and what took long
        assert [sum(counts) for counts in zip(*one["steps"], strict=True)] == [0, 20, 0, 0, 0]
        assert [one["numbers"][at] for at in one["slowest"]] == list(range(19, 9, -1))
    assert len(told["old"]["started"]) == 10


def test_older_runs_are_counted_and_not_listed(
    cache: Cache, report: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_runs, "LISTED", 2)
    for number in range(5):
        write_run(cache, f"run {number}", [asked(1, "hit", started=START + number)])
    page = report("--run", "run 1")
    assert (names(page), page.facts["runs"]["older"]) == (["run 4", "run 1"], 3)
    assert page.facts["calls"]["hits"] == 5


def test_a_page_that_is_full_has_the_totals_alone(
    cache: Cache, report: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(cache, "a", [asked(1)])
    monkeypatch.setattr(report_command, "PAGE_BYTES", 0)
    page = report()
    (row,) = page.facts["runs"]["rows"]
    assert (row["calls"], row["block"], page.of("run")) == (1, None, [])


def test_hits_and_misses_over_time_are_those_of_the_runs(cache: Cache, report: Any) -> None:
    tokens: Any = {"tokens_in": 5, "tokens_out": 1}
    write_run(cache, "a", [asked(1, **tokens), asked(2, "hit", upstream=4.0, **tokens)])
    write_run(cache, "b", [asked(3600, "joined", **tokens), asked(3601, "failed")])
    calls = report().facts["calls"]
    told = ("hits", "misses", "errors", "bypassed", "tokens_in", "tokens_out", "seconds")
    assert [calls[name] for name in told] == [2, 1, 1, 0, 10, 2, 4.0]
    steps = [step for step in calls["timeline"]["steps"] if step[1] or step[2]]
    assert [step[1:] for step in steps] == [[1, 1], [1, 0]]


def test_a_cache_without_runs_has_none_on_its_page(report: Any) -> None:
    facts = report().facts
    assert (facts["runs"]["rows"], facts["calls"], facts["diff"]) == ([], None, None)


FILTERS = [
    pytest.param(["--model", "gpt-4*"], {"a": 2}, id="model"),
    pytest.param(["--source", "f"], {"a": 1, "b": 1}, id="source"),
    pytest.param(["--older-than", "2027-01-15T08:00:10Z"], {"a": 2}, id="time"),
    pytest.param(["--model", "none"], {}, id="nothing"),
]


@pytest.mark.parametrize(("options", "calls"), FILTERS)
def test_filters_choose_calls(
    cache: Cache, report: Any, options: list[str], calls: dict[str, int]
) -> None:
    write_run(cache, "a", [asked(1, model="gpt-4o"), asked(2, model="gpt-4.1", source="m:f")])
    write_run(cache, "b", [asked(30, model="o1", source="m:f")])
    page = report(*options)
    assert {row["name"]: row["calls"] for row in page.facts["runs"]["rows"]} == calls
    assert (page.facts["calls"] or {}).get("misses", 0) == sum(calls.values())


def test_numbers_only(cache: Cache, report: Any) -> None:
    rows = [
        asked(1, lane="secret-lane", path="secret-path", reason="SecretError", seconds=1.5),
        asked(2, "hit", lane="another secret-lane", tokens_in=7),
    ]
    write_run(cache, "secret-run", rows)
    page = report("--no-content")
    (row,) = page.facts["runs"]["rows"]
    assert (row["name"], row["program"], row["calls"], row["hits"]) == ("", "", 2, 1)
    (told,) = page.of("run")
    assert (told["of_lanes"], told["of_keys"], told["seconds"]) == (2, 2, [15_000, 5000])
    assert (told["lanes"], told["asked"]) == ([0, 1], [0, 7])
    held = str([page.facts, told])
    assert [one for one in (*SECRETS, f"'{'0' * 11}") if one in held] == []


def test_a_block_of_a_run_is_asked_for(cache: Cache, report: Any) -> None:
    write_run(cache, "a", [asked(1, path="plan"), asked(2), asked(3, "hit", path="plan/check")])
    page = report("--run", "a/plan")
    first, second = page.facts["runs"]["rows"]
    assert [(row["name"], row["calls"]) for row in (first, second)] == [("a/plan", 2), ("a", 3)]
    assert page.facts["runs"]["opened"] == 0
    assert (page.facts["calls"]["hits"], page.facts["calls"]["misses"]) == (1, 2)


MISTAKES = [
    pytest.param(["--run", "baselin"], "did you mean 'baseline'", id="run"),
    pytest.param(["--run", "baseline", "--against", "x"], "no run 'x'", id="against"),
    pytest.param(["--against", "baseline"], "give --run too", id="against-alone"),
    pytest.param(["--run", "baseline~3"], "no run 'baseline~3'", id="too-far-back"),
    pytest.param(["--run", "baseline/x"], "no block 'x' in baseline", id="block"),
    pytest.param(["--run", "x.jsonl#a"], "there is no cache at x.jsonl", id="place"),
]


@pytest.mark.parametrize(("options", "said"), MISTAKES)
def test_a_run_that_is_not_there(
    cache: Cache, url: str, run: CommandLine, tmp_path: Path, options: list[str], said: str
) -> None:
    write_run(cache, "baseline", [asked(1)])
    done = run("report", "--url", url, "-o", str(tmp_path / "r.html"), *options)
    assert (done.status in (1, 2, 3), said in done.err) == (True, True), done.err
    assert not (tmp_path / "r.html").exists()


def call_of(number: int, **given: Any) -> Call:
    return Call(number, f"{number:064x}", "miss", "m:f", "gpt-4o", "41", 0, START, 1.0, **given)


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Two runs are found to differ in four ways; which runs were compared."""
    changes = Rows(
        [
            Change(
                *("changed", call_of(1), call_of(1, tokens_out=3)),
                *((), ("a line",), 1, 2, "old", "new", SECRETS[-1]),
            ),
            Change("changed", call_of(2), call_of(3), ("model: 'a' → 'b'",), (), 1, 1),
            Change("new", None, call_of(4), new_answer="x" * 60_000),
            Change("missing", call_of(5), None),
        ]
    )
    asked_for: list[Any] = []

    def compare(baseline: Run, candidate: Run) -> Diff:
        asked_for.append((baseline, candidate))
        return Diff(baseline, candidate, changes, 9)

    monkeypatch.setattr(report_runs, "compare", compare)
    return asked_for


def test_the_difference_of_two_runs(cache: Cache, report: Any, compared: list[Any]) -> None:
    write_run(cache, "a", [asked(1), asked(2)])
    write_run(cache, "b", [asked(1, "hit")])
    page = report("--run", "b", "--against", "a")
    ((baseline, candidate),) = compared
    assert (baseline.name, candidate.name) == ("a", "b")
    diff = page.facts["diff"]
    assert diff["names"] == ["a", "b"]
    assert diff["counts"] == {"same": 9, "changed": 2, "new": 1, "missing": 1}
    assert [one[:3] for one in diff["sums"]] == [[2, 0, 0], [1, 1, 0]]
    (changes,) = page.of("diff")
    kinds = [(kind, old is None, new is None) for kind, *_, old, new in changes]
    assert kinds == [
        ("changed", False, False),
        ("changed", False, False),
        ("new", True, False),
        ("missing", False, True),
    ]
    _, prompt, request, answer, old, new = changes[0]
    assert (prompt, request, answer) == (SECRETS[-1], [], ["a line"])
    assert (old[0], old[-2:], new[0], new[6], new[-2:]) == (1, ["old", 0], 2, 3, ["new", 0])
    assert changes[1][2] == ["model: 'a' → 'b'"]
    assert (len(changes[2][-1][-2]), changes[2][-1][-1]) == (50_000, 10_000)


def test_a_difference_in_numbers_only(cache: Cache, report: Any, compared: list[Any]) -> None:
    write_run(cache, "a", [asked(1)])
    write_run(cache, "secret-run", [asked(1)])
    page = report("--run", "secret-run", "--against", "a", "--no-content")
    assert page.facts["diff"]["counts"]["changed"] == 2
    (changes,) = page.of("diff")
    assert [len(one) for one in changes] == [6] * 4
    held = str([page.facts, changes])
    assert [
        one for one in (*SECRETS, "old", "a line", "x" * 50_000, "0" * 12) if f"'{one}'" in held
    ] == []


def test_a_run_is_compared_with_one_of_another_cache(
    cache: Cache, make_url: Callable[[str], str], report: Any, compared: list[Any]
) -> None:
    other = make_url("jsonl")
    put(other, *chat("a", "b"))
    with Cache.from_url(other) as there:
        write_run(there, "nightly", [asked(1)])
    write_run(cache, "now", [asked(1)])
    path = other.partition(":")[2]
    page = report("--run", "now", "--against", f"{path}#nightly")
    assert page.facts["diff"]["names"] == [f"{path}#nightly", "now"]
    assert compared[0][0].cache.store.url == Cache.from_url(other).store.url


def test_changes_are_bounded(
    cache: Cache, report: Any, compared: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_runs, "CHANGES", 3)
    monkeypatch.setattr(report_runs, "_LINES", 2)
    write_run(cache, "a", [asked(1)])
    write_run(cache, "b", [asked(1)])
    page = report("--run", "b", "--against", "a")
    assert [len(block) for block in page.of("diff")] == [2, 1]
    assert sum(page.facts["diff"]["counts"].values()) == 13


def test_runs_of_several_places_are_told_apart(
    make_url: Callable[[str], str], run: CommandLine, tmp_path: Path
) -> None:
    paths = []
    for number in range(2):
        url = make_url("jsonl")
        put(url, *chat(f"{number}", "b"))
        with Cache.from_url(url) as cache:
            write_run(cache, "same", [asked(number)])
        paths.append(url.partition(":")[2])
    done = run("report", *paths, "-o", str(tmp_path / "r.html"), "--run", f"{paths[0]}#same")
    assert done.status == 0, done.err
    page = Page(tmp_path / "r.html")
    assert names(page) == [f"{path}#same" for path in reversed(paths)]
    assert page.facts["runs"]["opened"] == 1


def test_the_difference_is_that_of_the_command(
    cache: Cache, url: str, run: CommandLine, report: Any
) -> None:
    key = put(url, *chat("Which month?", "June."))
    other = f"{url}?cache_seed=42"
    assert put(other, *chat("Which month?", "May."), under=key) == key
    for name, seed in (("a", "41"), ("b", "42")):
        with cache.reseed(seed) as one:
            write_run(cache, name, [ended(key, seed=seed, answered=stored_at(one, key))])
    page = report("--run", "b", "--against", "a")
    ((change,),) = page.of("diff")
    kind, prompt, request, answer, old, new = change
    assert (kind, prompt, request) == ("changed", "Which month?", [])
    assert (old[-2], new[-2]) == ("June.", "May.")
    told = run("runs", "diff", "a", "b", "--url", url, "--json").lines[0]
    assert answer == told["changes"][0]["answer"]
