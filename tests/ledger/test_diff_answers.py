"""The answers of runs: which say the same, how others differ, and where they are kept."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cachewrap import Cache, encryption
from cachewrap.entry import HttpAnswer, Items
from cachewrap.format import codec
from cachewrap.ledger import answers
from cachewrap.ledger.answers import Answers, sweep
from cachewrap.ledger.diff import Change
from cachewrap.ledger.runs import remove, rename, runs_of
from cachewrap.stores.base import Logs
from ledger.comparing import STARTED, asked, call, keep, said, streamed
from ledger.making import ended, write_run


def body(value: Any) -> HttpAnswer:
    return HttpAnswer(200, [], [json.dumps(value).encode()], [])


def items(*values: Any) -> Items:
    return Items([codec.encode(value) for value in values], [0.0] * len(values), codec.encode(None))


def tool(name: str, arguments: str, number: str = "1") -> HttpAnswer:
    function = {"name": name, "arguments": arguments}
    return said(
        None, tool_calls=[{"id": f"call_{number}", "type": "function", "function": function}]
    )


def vectors(*numbers: list[float]) -> HttpAnswer:
    return body({"data": [{"embedding": one, "index": 0} for one in numbers], "usage": {}})


@dataclass
class Weather:
    city: str
    degrees: int


def changes(old: Any, new: Any) -> list[Change]:
    cache = Cache.memory()
    rows = call(cache, asked("a"), old, 1, seed="1"), call(cache, asked("a"), new, 2, seed="2")
    baseline, candidate = (
        write_run(cache, name, [row]) for name, row in zip("ab", rows, strict=True)
    )
    return list(baseline.diff(candidate).changes)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(said("Yes.", 1), said("Yes.", 2), id="ids, times, usage, headers"),
        pytest.param(streamed("Ye", "s."), streamed("Y", "e", "s."), id="chunks of a stream"),
        pytest.param(said("Yes."), streamed("Yes", "."), id="a stream and a whole answer"),
        pytest.param(said('{"a": 1, "b": 2}'), said('{"b": 2,  "a": 1}'), id="JSON in a text"),
        pytest.param(said('{"a": 1}'), said('```json\n{"a": 1}\n```'), id="JSON in a fence"),
        pytest.param(tool("f", '{"a": 1}', "1"), tool("f", '{ "a": 1 }', "2"), id="a tool's call"),
        pytest.param(vectors([0.1, 0.2]), vectors([0.1, 0.2]), id="vectors"),
        pytest.param(body({"id": 1, "n": [1]}), body({"id": 2, "n": [1]}), id="unknown JSON"),
        pytest.param(items("a", "bc"), items("ab", "c"), id="a generator's texts"),
        pytest.param({"a": float("nan")}, {"a": float("nan")}, id="no number"),
        pytest.param({"a": 1, "b": 2}, {"b": 2, "a": 1}, id="the order of fields"),
        pytest.param(b"\0\1", b"\0\1", id="bytes"),
        pytest.param(Weather("Paris", 1), Weather("Paris", 1), id="objects"),
    ],
)
def test_they_say_the_same(old: Any, new: Any) -> None:
    assert changes(old, new) == []


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        pytest.param("yes", "no", ["'yes' → 'no'"], id="text"),
        pytest.param(said("yes"), said("no"), ["'yes' → 'no'"], id="an answer"),
        pytest.param(
            "The rain in Spain stays mainly in the plain, and so it has for years and years.",
            "The snow in Spain stays mainly in the plain, and so it has for weeks and years.",
            [
                "'The rain in Spain…' → 'The snow in Spain…'",
                "'…so it has for years and years.' → '…so it has for weeks and years.'",
            ],
            id="a line for each part",
        ),
        pytest.param(said('{"a": 1}'), said('{"a": 2}'), ["a: 1 → 2"], id="JSON by field"),
        pytest.param(said("[1, 2]"), said("[1, 3]"), ["answer[1]: 2 → 3"], id="a list"),
        pytest.param({"a": 1}, {"a": True}, ["a: 1 → True"], id="a value"),
        pytest.param(
            tool("f", '{"city": "Rome"}'),
            tool("f", '{"city": "Oslo"}'),
            ["call of f: city: 'Rome' → 'Oslo'"],
            id="a tool's arguments",
        ),
        pytest.param(
            tool("f", "{}"),
            tool("g", "{}"),
            ["call of f removed: '{}'", "call of g added: '{}'"],
            id="another tool",
        ),
        pytest.param(
            said("Let me see."),
            tool("f", "{}"),
            ["text removed: 'Let me see.'", "call of f added: '{}'"],
            id="a tool instead of a text",
        ),
        pytest.param(
            vectors([0.1, 0.2]),
            vectors([0.1, 0.20001]),
            ["embedding: 1 of 2 numbers differ"],
            id="a vector",
        ),
        pytest.param(
            vectors([0.1]),
            vectors([0.1, 0.2]),
            ["embedding: 1 numbers → 2 numbers"],
            id="a longer one",
        ),
        pytest.param(
            vectors([0.1], [0.2]),
            vectors([0.1], [0.3]),
            ["embedding 2: 1 of 1 numbers differ"],
            id="the second",
        ),
        pytest.param(items(1, 2), items(1, 3), ["answer[1]: 2 → 3"], id="items"),
        pytest.param(Weather("Rome", 1), Weather("Rome", 2), ["degrees: 1 → 2"], id="an object"),
        pytest.param(
            HttpAnswer(200, [], [b"\xff\0"], []),
            HttpAnswer(200, [], [b"\xff\1"], []),
            ["bytes: other bytes"],
            id="bytes",
        ),
    ],
)
def test_how_they_differ(old: Any, new: Any, lines: list[str]) -> None:
    (change,) = changes(old, new)
    assert list(change.answer) == lines


def test_bytes_of_a_value_differ() -> None:
    (change,) = changes({"a": b"\0\1"}, {"a": b"\0\2"})
    assert change.answer


def test_a_secret_of_an_answer_is_not_shown() -> None:
    (change,) = changes({"api_key": "sk-0123456789abcdef0123"}, {"api_key": "other"})
    assert "sk-0123456789" not in " ".join(change.answer)


# -- where they are -----------------------------------------------------------------------------


@pytest.fixture(params=["memory", "disk", "jsonl", "encrypted"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    kind = request.param
    if kind == "memory":
        return Cache.memory()
    if kind == "jsonl":
        return Cache.jsonl(tmp_path / "a.jsonl")
    if kind == "encrypted":
        pytest.importorskip("cryptography")
        return Cache.disk(41, tmp_path, encryption_key=encryption.generate_key())
    return Cache.disk(41, tmp_path)


def refreshed(cache: Cache) -> None:
    """A baseline, and a candidate in which its answer was replaced."""
    write_run(cache, "baseline", [call(cache, asked("a"), "yes", 1)])
    candidate = write_run(cache, "candidate", [call(cache, asked("a"), "no", 2)])
    keep(cache, candidate, asked("a"), "yes", 1)


def test_an_answer_that_was_replaced_is_found(cache: Cache) -> None:
    refreshed(cache)
    runs = runs_of(cache)
    (change,) = runs["baseline"].diff(runs["candidate"]).changes
    assert (change.old_answer, change.new_answer) == ("yes", "no")
    raw = runs["baseline"].raw_answer(runs["baseline"].calls()[0])
    assert raw is not None
    assert raw != runs["candidate"].raw_answer(runs["candidate"].calls()[0])
    cache.close()


def test_an_answer_that_is_gone_counts_as_changed() -> None:
    cache = Cache.memory()
    old = write_run(cache, "old", [call(cache, asked("a"), "yes", 1)])
    new = write_run(cache, "new", [call(cache, asked("a"), "no", 2)])
    (change,) = old.diff(new).changes
    assert change.answer == ("the answer of the baseline is no longer stored",)
    assert (change.old_answer, change.new_answer) == (None, "no")
    cache.clear()
    (change,) = old.diff(new).changes
    assert len(change.answer) == 2
    assert old.diff(old).equal


def test_an_answer_that_cannot_be_read_tells_why(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    cache = Cache.disk(41, tmp_path, encryption_key=encryption.generate_key())
    write_run(cache, "old", [call(cache, asked("a"), "yes", 1)])
    write_run(cache, "new", [call(cache, asked("a"), "no", 2)])
    cache.close()
    lacking = Cache.disk(41, tmp_path)
    (change,) = runs_of(lacking)["old"].diff(runs_of(lacking)["new"]).changes
    encrypted = "is encrypted, with a key that is not here"
    assert change.answer == tuple(
        f"the answer of the {one} {encrypted}" for one in ("baseline", "candidate")
    )
    lacking.store.set(change.call.key, b"damaged")
    (change,) = runs_of(lacking)["old"].diff(runs_of(lacking)["new"]).changes
    assert change.answer[0] == "the answer of the baseline cannot be read"
    lacking.close()


@pytest.mark.parametrize("kept", ["baseline", "candidate"])
def test_what_no_run_has_any_more_is_swept(kept: str) -> None:
    cache = Cache.memory()
    refreshed(cache)
    store = cache.store
    assert isinstance(store, Logs)
    other = "candidate" if kept == "baseline" else "baseline"
    remove(runs_of(cache)[other])
    left = [facts.name for facts in store.logs() if facts.name.startswith("a-")]
    assert bool(left) == (kept == "baseline")


def test_what_was_replaced_just_now_waits_for_runs_that_go_on() -> None:
    cache = Cache.memory()
    candidate = write_run(cache, "candidate", [call(cache, asked("a"), "no", 2)])
    keep(cache, candidate, asked("a"), "yes", 1)
    store: Any = cache.store
    pieces = list(store.read_log(candidate.log))
    store.remove_log(candidate.log)
    store.append_to_log(candidate.log, pieces[:-1])  # it has not ended
    sweep(cache)
    assert any(facts.name.startswith("a-") for facts in store.logs())
    store._logs[f"a-{candidate.log}"][1][0] = time.time() - 60
    sweep(cache)
    assert not any(facts.name.startswith("a-") for facts in store.logs())


def test_a_renamed_run_keeps_what_it_replaced() -> None:
    cache = Cache.memory()
    refreshed(cache)
    rename(runs_of(cache)["candidate"], "baseline")
    runs = runs_of(cache)
    (change,) = runs["baseline~1"].diff(runs["baseline"]).changes
    assert (change.old_answer, change.new_answer) == ("yes", "no")


def test_many_that_were_replaced_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_IN_MEMORY", 500)
    cache = Cache.memory()
    old = [call(cache, asked(f"number {n}"), f"yes {n}", n) for n in range(30)]
    baseline = write_run(cache, "old", old)
    candidate = write_run(
        cache, "new", [call(cache, asked(f"number {n}"), f"no {n}", 50 + n) for n in range(30)]
    )
    for n in range(30):
        keep(cache, candidate, asked(f"number {n}"), f"yes {n}", n)
    diff = baseline.diff(candidate)
    assert [change.old_answer for change in diff.changed] == [f"yes {n}" for n in range(30)]


def test_a_call_that_another_place_served(tmp_path: Path) -> None:
    cache, other = Cache.memory(), Cache.disk(41, tmp_path)
    row = call(other, asked("a"), "elsewhere", 1, place=other.url)
    run = write_run(cache, "run", [row])
    other.close()
    found = Answers.of(cache)
    assert found.raw(run.calls()[0]) is not None
    found.close()
    gone = write_run(cache, "gone", [call(cache, asked("b"), place="redis://nowhere:1/0")])
    assert Answers.of(cache).raw(gone.calls()[0]) is None


@pytest.mark.parametrize("what", ["a file", "a damaged database"])
def test_another_place_that_cannot_be_read_has_no_answers(tmp_path: Path, what: str) -> None:
    cache = Cache.disk(cache_path_root=tmp_path / "here")
    place = tmp_path / "there"
    if what == "a file":
        place.write_text("notes")
    else:
        (place / "41").mkdir(parents=True)
        (place / "41" / "cache.db").write_text("notes" * 1000)
    rows = [ended(n * 64, place=f"disk://{place}", answered=STARTED) for n in "ab"]
    old, new = (write_run(cache, name, [row]) for name, row in zip("ab", rows, strict=True))
    diff = old.diff(new)
    assert [(change.kind, change.old_answer) for change in diff.changes] == [
        ("new", None),
        ("missing", None),
    ]
    assert old.prefix().conversations == 0


def test_an_answer_that_cannot_be_read_is_gone() -> None:
    cache = Cache.memory()
    run = write_run(cache, "run", [call(cache, asked("a"), "yes", 1)])
    (made,) = run.calls()
    cache.store.set(made.key, b"damaged")
    assert Answers.of(cache).raw(made) is None
    assert Answers.of(cache).request(made) == b""
    assert made.answered == STARTED + 1
