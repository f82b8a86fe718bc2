"""Entries under rules, and elements of lists, as the commands show, check and move them."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from ledger.making import ended, write_run

from cachewrap import Cache, llm_cached
from cachewrap.encryption import generate_key
from cachewrap.entry import Declared, Facts
from cachewrap.errors import ConfigurationError
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.request.key import element_key, encode, key_of, salted
from cachewrap.same import ignore, replace
from cachewrap.same.applied import check_rules
from cli.filling import CommandLine, answer_of

pytestmark = pytest.mark.shared

SAME = [ignore("user"), replace(r"\d+", "…")]
FIELDS, DAYS = (rule.label for rule in SAME)
FILE = """
[[rule]]
ignore = ["user"]

[[rule]]
replace = '''\\d+'''
with = "…"
"""


@llm_cached(version=1)
def ask(prompt: str, user: str = "a") -> str:
    return prompt.upper()


@pytest.fixture
def real(url: str) -> str:
    """What calls leave behind: exact ones, under rules that changed them or not, and an element."""
    with Cache.from_url(url):
        ask("exact")
    rules = check_rules([replace("no such text", "…")])
    assert rules is not None
    with _under_rules(url) as cache:
        ask("on day 1")
        cache.set("by hand", 1)
    with Cache.from_url(url) as cache:
        request = {"method": "POST", "url": "http://up/v1/embeddings", "body": {"input": "hello"}}
        asked = encode(request)
        _put(cache, element_key(key_of(salted(), asked)), asked, Declared(element=True))
        unchanged = {**request, "body": {"input": "under rules"}}
        key = key_of(salted(rules=rules.digest), encode(unchanged))
        _put(cache, key, encode(unchanged), Declared(rules.digest))
    return url


def _under_rules(url: str) -> Cache:
    cache = Cache.from_url(url)
    return Cache(cache.store, same=SAME)


def _put(cache: Cache, key: str, asked: bytes, declared: Declared) -> None:
    facts = Facts(time.time(), 0.5, source="POST /embeddings", declared=declared)
    cache.store.set(key, seal(*codec.encode(answer_of({"data": []})), asked, facts))


def rows(run: CommandLine, url: str, *options: str) -> dict[str, dict[str, Any]]:
    return {row["prompt"]: row for row in run("ls", "--url", url, "--json", *options).lines}


def test_what_was_declared_of_an_entry_is_listed(run: CommandLine, real: str) -> None:
    found = rows(run, real)
    rules = check_rules(SAME)
    assert rules is not None
    told = {name: (bool(row["rules"]), row["by"], row["element"]) for name, row in found.items()}
    assert told == {
        "exact": (False, [], False),
        "on day 1": (True, [FIELDS, DAYS], False),
        "by hand": (False, [], False),
        "hello": (False, [], True),
        "under rules": (True, [], False),
    }
    assert found["on day 1"]["rules"] == rules.digest
    lines = run("ls", "--url", real).out.splitlines()
    shown = {line.rpartition("  ")[2] for line in lines[1:]}
    assert shown == {"exact", "≈ on day 1", "by hand", "[…] hello", "≈ under rules"}


@pytest.mark.parametrize("width", [80, 120])
def test_there_is_a_column_of_rules_where_there_is_room(
    run: CommandLine, real: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = run("ls", "--url", real).out.splitlines()
    assert ("BY RULE" in lines[0]) is (width > 80)
    assert any("ignore, replace" in line for line in lines) is (width > 80)
    assert max(map(len, lines)) <= width


def test_they_are_chosen_by_their_rules(run: CommandLine, real: str) -> None:
    rules = check_rules(SAME)
    assert rules is not None
    assert set(rows(run, real, "--rules", "any")) == {"on day 1", "under rules"}
    assert set(rows(run, real, "--rules", "none")) == {"exact", "by hand", "hello"}
    assert set(rows(run, real, "--rules", rules.digest[:8])) == {"on day 1"}
    assert run("ls", "--url", real, "--rules", "others").status == 2
    with Cache.from_url(real) as cache:
        assert {one.prompt for one in cache.entries(rules="any")} == {"on day 1", "under rules"}
        with pytest.raises(ConfigurationError, match="write any, none"):
            cache.entries(rules="others")


def test_an_entry_shows_the_rules_and_what_was_asked(run: CommandLine, real: str) -> None:
    found = rows(run, real)
    shown = run("show", "--url", real, found["on day 1"]["key"]).out
    assert f"by rule  {FIELDS}\nby rule  {DAYS}\n" in shown
    assert "shown as it was asked, before these rules changed it" in shown
    assert "user = a" in shown
    assert "element  of a list" in run("show", "--url", real, found["hello"]["key"]).out
    exact = run("show", "--url", real, found["exact"]["key"]).out
    assert not [line for line in exact.splitlines() if line.startswith(("rule", "by ", "element"))]


def test_they_are_counted(run: CommandLine, real: str) -> None:
    told = run("stats", "--url", real, "--json").lines[0]["total"]
    assert (told["under_rules"], told["by_rule"], told["elements"]) == (2, 1, 1)
    last = run("stats", "--url", real).out.splitlines()[-1]
    assert last == "2 under rules of equality (1 changed by one), 1 an element of a list"


# -- keys ------------------------------------------------------------------------------------------


def verdicts(run: CommandLine, url: str, *options: str) -> tuple[int, dict[str, int]]:
    done = run("verify", "--url", url, "--json", *options)
    return done.status, {name: count for name, count in done.lines[-1].items() if count}


def test_a_key_that_needs_rules_is_checked_with_them(
    run: CommandLine, real: str, tmp_path: Path
) -> None:
    file, others = tmp_path / "same.toml", tmp_path / "others.toml"
    file.write_text(FILE, encoding="utf-8")
    others.write_text('[[rule]]\nignore = ["metadata"]\n', encoding="utf-8")
    unchecked = (0, {"good": 4, "key_not_checkable": 1})
    assert verdicts(run, real) == unchecked
    assert verdicts(run, real, "--same", str(others)) == unchecked
    assert verdicts(run, real, "--same", str(file)) == (0, {"good": 5})
    named = f"{real}{'&' if '?' in real else '?'}same={quote(str(file))}"
    assert verdicts(run, named) == (0, {"good": 5})


@pytest.mark.parametrize(
    "declared", [Declared(element=True), Declared("00" * 16), Declared()], ids=repr
)
def test_an_entry_is_under_a_wrong_key_whatever_it_says(
    run: CommandLine, url: str, declared: Declared
) -> None:
    asked = encode({"method": "POST", "url": "http://up/v1/embeddings", "body": {}})
    with Cache.from_url(url) as cache:
        _put(cache, key_of(salted("another"), asked), asked, declared)
    assert verdicts(run, url) == (1, {"under_a_wrong_key": 1})


# -- moving them -----------------------------------------------------------------------------------

WAYS = {
    "copy": [["copy", "{to}", "--url", "{url}"]],
    "copy, encrypted": [["copy", "{to}", "--url", "{url}", "--encrypt"]],
    "export and import": [
        ["export", "{file}", "--url", "{url}"],
        ["import", "{file}", "--url", "{to}"],
    ],
    "a cassette": [
        ["copy", "jsonl:{file}", "--url", "{url}"],
        ["copy", "{to}", "--url", "jsonl:{file}"],
    ],
}


@pytest.mark.parametrize("way", WAYS)
def test_what_was_moved_serves_the_same_requests_by_the_same_rules(
    run: CommandLine,
    real: str,
    make_url: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    to, file = make_url("disk"), tmp_path / "moved.jsonl"
    if "encrypted" in way:
        monkeypatch.setenv("CACHEWRAP_ENCRYPTION_KEY", generate_key())
    before = rows(run, real)
    for words in WAYS[way]:
        done = run(*(word.format(url=real, to=to, file=file) for word in words))
        assert done.status == 0, done.err
    after = rows(run, to)
    names = ("key", "rules", "by", "element", "prompt", "answer")
    assert {name: [row[one] for one in names] for name, row in after.items()} == {
        name: [row[one] for one in names] for name, row in before.items()
    }
    with _under_rules(to) as cache:
        assert ask("on day 2", user="b") == "ON DAY 1"
        assert cache.stats.by_rule == {FIELDS: 1, DAYS: 1}


# -- runs ------------------------------------------------------------------------------------------


@pytest.fixture
def kept(url: str) -> str:
    """The same with a run: two hits of three needed rules, and one call that joined another."""
    key, rules = "ab" * 32, (FIELDS, DAYS)
    rows = [
        ended(key, "miss", source="m:ask"),
        ended(key, "hit", source="m:ask"),
        ended(key, "hit", source="m:ask", rules=rules),
        ended(key, "hit", source="m:ask", rules=rules[:1]),
        ended(key, "joined", source="m:judge", rules=rules[:1]),
    ]
    with Cache.from_url(url) as cache:
        write_run(cache, "nightly", rows)
    return url


@pytest.mark.parametrize("width", [80, 130])
def test_a_run_tells_its_hits_by_rule(
    run: CommandLine, kept: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = run("runs", "show", "--url", kept, "nightly").out.splitlines()
    assert shown[2] == "5 calls: 3 hits, 1 joined (3 by rule), 1 miss"
    part = shown.index("hits by rule:")
    assert shown[part + 2 : part + 4] == [f"   3  {FIELDS}", f"   1  {DAYS}"]
    head = next(line.split("  ") for line in shown if line.startswith("SOURCE"))
    assert "BY RULE" in [name.strip() for name in head]
    calls = run("runs", "show", "--url", kept, "nightly", "--calls").out.splitlines()
    told = ", ".join((FIELDS, DAYS)) if width > 80 else "ignore, replace"
    assert [line.partition("  by ")[2] for line in calls[-3:]] == [
        told,
        FIELDS if width > 80 else "ignore",
        FIELDS if width > 80 else "ignore",
    ]
    listed = run("runs", "--url", kept).out.splitlines()
    assert "BY RULE" in listed[0]
    assert max(map(len, [*shown[1:], *calls[1:], *listed])) <= width


def test_a_run_tells_programs_of_its_rules(run: CommandLine, kept: str) -> None:
    told = run("runs", "show", "--url", kept, "nightly", "--json", "--calls").lines[0]
    assert (told["hits_by_rule"], told["by_rule"]) == (3, {FIELDS: 3, DAYS: 1})
    assert [len(call["rules"]) for call in told["every_call"]] == [0, 0, 2, 1, 1]
    table = run("runs", "export", "--url", kept, "nightly", "--format", "csv").out
    rows = list(csv.DictReader(table.splitlines()))
    assert [row["rules"] for row in rows[1:3]] == ["", f"{FIELDS}; {DAYS}"]


def test_runs_without_rules_say_nothing_of_them(run: CommandLine, url: str) -> None:
    with Cache.from_url(url) as cache:
        write_run(cache, "nightly", [ended("ab" * 32, "hit")])
    for words in (["runs"], ["runs", "show", "nightly"], ["runs", "show", "nightly", "--calls"]):
        assert "by rule" not in run(*words, "--url", url).out.lower()
