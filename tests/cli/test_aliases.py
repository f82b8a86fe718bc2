"""`alias`: pairs that people approve, and what every other command makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cachewrap import Cache, llm_cached
from cachewrap.format.aliases import Alias
from cachewrap.format.envelope import unseal
from cli.filling import DAY, CommandLine, chat, put
from cli.test_reporting import Page

ONE, TWO, THREE = ("a1".ljust(64, "0"), "a2".ljust(64, "0"), "b".ljust(64, "0"))
UNSEEN = "c".ljust(64, "0")


def fill(url: str) -> None:
    for key, prompt, days in (
        (ONE, "lights on", 40.0),
        (TWO, "please, light", 1.0),
        (THREE, "off", 1.0),
    ):
        put(url, *chat(prompt, f"answer to {prompt}"), age=days * DAY, under=key)


@pytest.fixture
def filled(make_url: Callable[[str], str]) -> str:
    url = make_url("disk")
    fill(url)
    return url


def aliases(url: str) -> dict[str, str]:
    return {alias.key: alias.alias_of for alias in Cache.from_url(url).aliases()}


# -- add, ls, rm -----------------------------------------------------------------------------------


@pytest.mark.shared
def test_an_alias_is_made_listed_and_taken_back(run: CommandLine, url: str) -> None:
    fill(url)
    before = Cache.from_url(url).store.get(TWO)
    made = run("alias", "add", "a2", "a1", "--url", url)
    assert (made.status, made.err) == (0, "")
    assert made.out == f"{TWO[:12]}  please, light\n  is answered by {ONE[:12]}  lights on\n"
    assert run("alias", "add", UNSEEN, "a1", "--url", url).status == 0
    assert aliases(url) == {TWO: ONE, UNSEEN: ONE}
    (line, other) = sorted(
        run("alias", "ls", "--json", "--url", url).lines, key=lambda one: one["key"]
    )
    assert line == {
        "key": TWO,
        "seed": "41",
        "alias_of": ONE,
        "gone": False,
        "created": line["created"],
        "source": line["source"],
        "prompt": "please, light",
        "target_prompt": "lights on",
    }
    assert (other["key"], other["prompt"]) == (UNSEEN, "")
    listed = run("alias", "--url", url).out.splitlines()
    assert listed[0].split() == ["KEY", "PROMPT", "ALIAS", "OF", "PROMPT", "THERE"]
    assert f"{TWO[:12]}  please, light  {ONE[:12]}  lights on" in listed
    assert (
        run("alias", "rm", "a2", "c0", "--dry-run", "--url", url).out.count("would take back") == 2
    )
    assert run("alias", "rm", "a2", "c0", "--url", url).out.count("took back") == 2
    assert (aliases(url), Cache.from_url(url).store.get(TWO)) == ({}, before)
    assert Cache.from_url(url).store.get(UNSEEN) is None
    assert run("alias", "ls", "--url", url).out == "no aliases\n"


def test_places_and_keys_are_told_apart(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(f"jsonl:{tmp_path / 'answers.jsonl'}")
    assert run("alias", "add", "a2", "a1", "answers.jsonl").status == 0
    assert run("alias", "ls", "answers.jsonl").out.count(ONE[:12]) == 1
    assert run("alias", "rm", "answers.jsonl", "a2").status == 0


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["add", "a2"], 2, "give two keys: cachewrap alias add KEY TARGET"),
        (["add"], 2, "give two keys: cachewrap alias add KEY TARGET"),
        (["rm"], 2, "cachewrap alias ls lists them"),
        (["add", "a2", "dddd"], 1, "no entry under 'dddd'"),
        (["add", "dddd", "a1"], 1, "given whole, 64 characters"),
        (["add", "a", "b"], 1, "is the beginning of 2 keys"),
        (["add", UNSEEN, "d" * 64], 1, "no entry under"),
        (["add", ONE, ONE], 2, "an alias of itself"),
        (["rm", "a1"], 1, "is no alias: cachewrap rm removes entries"),
        (["rm", "dddd", "a1"], 1, "nothing was done"),
        (["list"], 2, "did you mean cachewrap alias ls?"),
        (["remove", "a1"], 2, "did you mean cachewrap alias rm?"),
        (["a2", "a1"], 2, "did you mean cachewrap alias add a2 a1?"),
    ],
)
def test_what_cannot_be_done_says_why(
    run: CommandLine, filled: str, words: list[str], status: int, told: str
) -> None:
    before = {entry.key for entry in Cache.from_url(filled).entries()}
    options = ["--url", filled] if len(words) > 1 and words[0] in ("add", "rm") else []
    result = run("alias", *words, *options)
    assert (result.status, told in result.err) == (status, True), result.err
    assert {entry.key for entry in Cache.from_url(filled).entries()} == before
    assert aliases(filled) == {}


def test_an_encrypted_cache_is_given_encrypted_aliases(
    run: CommandLine, make_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_url("disk")
    monkeypatch.setenv("CACHEWRAP_ENCRYPTION_KEY", "k" * 43 + "=")
    cache = Cache.from_url(url)
    cache.set("one", "1")
    cache.set("two", "2")
    assert run("alias", "add", "two", "one", "--url", url).status == 0
    assert (cache.get("two"), [raw[:3] for raw in map(cache.store.get, cache.store.keys())]) == (
        "1",
        [b"cwe", b"cwe"],
    )
    assert run("verify", "--url", url).out == "2 good\n"
    assert run("alias", "rm", "two", "--url", url).status == 0
    assert cache.get("two") == "2"


# -- what other commands make of them --------------------------------------------------------------


@pytest.fixture
def approved(run: CommandLine, filled: str) -> str:
    """A cache with an alias that keeps an answer, and one without."""
    for key in (TWO, UNSEEN):
        assert run("alias", "add", key, "a1", "--url", filled).status == 0
    return filled


def test_they_are_shown_as_such(run: CommandLine, approved: str) -> None:
    listed = run("ls", "--url", approved).out
    assert "(alias of a1000000) please, light" in listed
    lines = {line["key"]: line for line in run("ls", "--json", "--url", approved).lines}
    assert (lines[TWO]["kind"], lines[TWO]["alias_of"], lines[TWO]["answer"]) == (
        *("alias", ONE),
        {"of": ONE},
    )
    assert "alias_of" not in lines[ONE]
    shown = run("show", "a2", "--url", approved).out
    assert f"alias of {ONE}" in shown
    assert "please, light" in shown and "answer to lights on" in shown
    assert "answer to please" not in shown
    assert f"the answer under {ONE}" in run("show", "a2", "--json", "--url", approved).out


def test_they_are_no_answers_where_those_are_counted(run: CommandLine, approved: str) -> None:
    counted = run("stats", "--json", "--url", approved).lines[0]
    assert (counted["total"]["entries"], counted["aliases"]) == (2, 2)
    assert "2 aliases, which cachewrap alias ls lists" in run("stats", "--url", approved).out


def page(run: CommandLine, url: str, file: Path, *options: str) -> Page:
    assert run("report", str(file), "--url", url, *options).status == 0
    return Page(file)


def test_a_page_lists_them_apart(run: CommandLine, approved: str, tmp_path: Path) -> None:
    shown = page(run, approved, tmp_path / "1.html")
    assert (shown.facts["total"][0], shown.facts["aliases"][0]) == (2, 2)
    pairs = sorted(shown.facts["aliases"][1])
    assert pairs == [[UNSEEN[:12], "lights on"], ["please, light", "lights on"]]
    assert TWO not in shown.keys
    numbers = page(run, approved, tmp_path / "2.html", "--no-content")
    assert numbers.facts["aliases"] == [2, []]
    run("rm", "a1", "--url", approved)
    gone = page(run, approved, tmp_path / "3.html").facts["aliases"][1]
    assert sorted(gone) == [[UNSEEN[:12], ""], ["please, light", ""]]


def test_verify_tells_of_those_that_lead_nowhere(run: CommandLine, approved: str) -> None:
    assert run("verify", "--url", approved).status == 1  # keys of the test's own
    assert "alias" not in run("verify", "--url", approved).out
    run("rm", "a1", "--url", approved)
    told = run("verify", "--url", approved).out
    assert told.count("an alias of a10000000000…, which is no longer stored") == 2
    gone = run("alias", "ls", "--json", "--url", approved).lines
    assert [line["gone"] for line in gone] == [True, True]
    assert run("alias", "ls", "--url", approved).out.count("(nothing is stored there)") == 2


@pytest.mark.parametrize("dry", [True, False])
def test_prune_takes_back_what_leads_nowhere(run: CommandLine, approved: str, dry: bool) -> None:
    run("rm", "a1", "--url", approved)
    options = ["--dry-run"] if dry else []
    told = run("prune", "--damaged", "--json", *options, "--url", approved).lines[0]
    assert (told["removed"], told["aliases"]) == (0, 2)
    left = {entry.key: entry.alias_of for entry in Cache.from_url(approved).entries()}
    assert left == ({TWO: ONE, UNSEEN: ONE, THREE: ""} if dry else {TWO: "", THREE: ""})


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize(
    "condition", [["--older-than", "30d"], ["--max-bytes", "1"]], ids=["age", "size"]
)
def test_an_alias_goes_with_the_entry_that_it_leads_to(
    run: CommandLine, approved: str, condition: list[str], dry: bool
) -> None:
    options = [*condition, *["--dry-run"] * dry]
    told = run("prune", *options, "--url", approved)
    verb = "would remove" if dry else "removed"
    gone = 1 if "30d" in condition else 2
    assert (
        told.out.startswith(f"{verb} {gone} entr") and "and 2 aliases of what is gone" in told.out
    )
    left = {entry.key for entry in Cache.from_url(approved).entries()}
    assert left == ({ONE, TWO, THREE, UNSEEN} if dry else {TWO, THREE} if gone == 1 else {TWO})
    assert aliases(approved) == ({TWO: ONE, UNSEEN: ONE} if dry else {})


def test_an_alias_outlives_what_is_pruned_beside_it(run: CommandLine, approved: str) -> None:
    run("prune", "--older-than", "12h", "--text", "off", "--url", approved)
    assert aliases(approved) == {TWO: ONE, UNSEEN: ONE}


def test_rm_and_clear_remove_an_alias_and_what_it_keeps(run: CommandLine, approved: str) -> None:
    told = run("rm", "a2", "--url", approved).out
    assert told == f"removed {TWO[:12]}  (alias of {ONE[:8]}) please, light\n"
    assert {entry.key for entry in Cache.from_url(approved).entries()} == {ONE, THREE, UNSEEN}
    assert run("clear", "--yes", "--url", approved).out == "removed 3 entries\n"


def test_they_are_copied_exported_and_imported(
    run: CommandLine, approved: str, make_url: Callable[[str], str], tmp_path: Path
) -> None:
    copied, read, file = make_url("jsonl"), make_url("disk"), str(tmp_path / "out.jsonl")
    assert run("copy", copied, "--url", approved).status == 0
    assert run("export", file, "--url", copied).status == 0
    assert run("import", file, "--url", read).status == 0
    for url in (copied, read):
        assert aliases(url) == {TWO: ONE, UNSEEN: ONE}
        assert Cache.from_url(url).unalias(TWO)
        assert "answer to please, light" in run("show", "a2", "--url", url).out
    assert run("export", "-", "--format", "csv", "--url", approved).out.count("alias") >= 2


def test_a_credential_in_what_an_alias_keeps_is_found(run: CommandLine, filled: str) -> None:
    secret = "sk-proj-" + "Ab3" * 14
    put(filled, *chat("say it", secret), under=TWO)
    run("alias", "add", "a2", "a1", "--url", filled)
    found = run("verify", "--secrets", "--url", filled)
    assert (found.status, TWO[:12] in found.out) == (1, True)


def test_explain_says_by_which_alias(run: CommandLine, filled: str, tmp_path: Path) -> None:
    @llm_cached
    def ask(prompt: str) -> str:
        return prompt

    cache = Cache.from_url(filled)
    with cache:
        ask("on"), ask("off")
        one, two = ask.cache_key("on"), ask.cache_key("off")
        cache.alias(two, one)
        cache.alias(ask.cache_key("unseen"), one)
        for prompt in ("off", "unseen"):
            told = cache.explain(ask, prompt)
            assert (told.stored, told.alias) == (True, one)
            assert str(told).endswith(f", as an alias of {one[:12]}…")
        assert (cache.explain(ask, "on").stored, cache.explain(ask, "on").alias) == (True, "")
        request = next(entry for entry in cache.entries() if entry.key == two).request
        file = tmp_path / "body.json"
        file.write_text(json.dumps(request))
        explained = run("explain", str(file), "--url", filled)
        assert (explained.status, f"an alias of {one[:12]}" in explained.out) == (0, True)
        cache.delete(one)
        assert cache.explain(ask, "off").stored  # its own, which the alias keeps
        assert not cache.explain(ask, "unseen").stored


def test_a_cassette_is_read_as_text_with_its_aliases(run: CommandLine, tmp_path: Path) -> None:
    url = f"jsonl:{tmp_path / 'answers.jsonl'}"
    fill(url)
    run("alias", "add", "a2", "a1", "--url", url)
    raw = Cache.from_url(url).store.get(TWO) or b""
    assert unseal(raw).answer.startswith(Alias(ONE).packed()[:20])
    assert f"the answer under {ONE}" in run("textconv", str(tmp_path / "answers.jsonl")).out
