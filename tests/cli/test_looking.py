"""`ls`, `show` and `stats`: what is stored, found and told."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Any

import pytest

from cachewrap import Cache
from cachewrap.cli import stats
from cachewrap.cli.text import columns
from cachewrap.entry import Facts, HttpAnswer
from cachewrap.format.codec import encode
from cachewrap.format.envelope import seal
from cli.filling import DAY, CommandLine, answer_of, chat, put, stream_of

pytestmark = pytest.mark.shared

CALL = {"function": "agents.plan:summarise", "arguments": {"text": "a long story"}}


@pytest.fixture
def keys(url: str) -> dict[str, str]:
    """Four entries: two chats, a stream, a function's call."""
    request, answer = chat("Where is my refund?", "On its way — grüß dich.")
    old, old_answer = chat("hello", "hi " * 2000, model="gpt-3.5")
    delta: list[tuple[float, Any]] = [
        (0.25, {"choices": [{"delta": {"content": "It is "}}]}),
        (0.75, {"choices": [{"delta": {"content": "noon."}}]}),
    ]
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "time?"}]}
    return {
        "refund": put(url, request, answer, model="gpt-4o", tokens=(10, 5), seconds=1.5),
        "old": put(url, old, old_answer, model="gpt-3.5", age=40 * DAY, tokens=(1, 4000)),
        "stream": put(
            url,
            {"method": "POST", "url": "http://up/v1/chat/completions", "body": body},
            stream_of(delta),
            model="gpt-4o-mini",
        ),
        "function": put(url, CALL, "A SHORT ONE", source=CALL["function"], salt=("41",)),  # type: ignore[arg-type]
    }


FILTERS: list[tuple[str, list[str], set[str]]] = [
    ("no filter", [], {"refund", "old", "stream", "function"}),
    ("a model", ["--model", "gpt-4o"], {"refund"}),
    ("models", ["--model", "gpt-4*"], {"refund", "stream"}),
    ("an endpoint", ["--source", "chat/completions"], {"refund", "old", "stream"}),
    ("a function by its name", ["--function", "summarise"], {"function"}),
    ("a function by its module", ["--function", "agents.*"], {"function"}),
    ("text of the prompt", ["--text", "REFUND"], {"refund"}),
    ("text of the answer", ["--text", "grüß"], {"refund"}),
    ("text across a stream's pieces", ["--text", "is noon"], {"stream"}),
    ("text of a function's argument", ["--text", "long story"], {"function"}),
    ("text of a function's answer", ["--text", "short one"], {"function"}),
    ("newer", ["--newer-than", "1d"], {"refund", "stream", "function"}),
    ("older", ["--older-than", "30d"], {"old"}),
    ("small", ["--max-size", "160"], {"function"}),
    ("two filters", ["--model", "gpt-*", "--older-than", "2w"], {"old"}),
    ("nothing", ["--text", "no such words"], set()),
]


@pytest.mark.parametrize(
    ("options", "found"), [f[1:] for f in FILTERS], ids=[f[0] for f in FILTERS]
)
def test_ls_filters(
    run: CommandLine, url: str, keys: dict[str, str], options: list[str], found: set[str]
) -> None:
    listed = run("ls", "--url", url, "--json", *options)
    assert {row["key"] for row in listed.lines} == {keys[name] for name in found}


@pytest.mark.parametrize(
    ("options", "first"),
    [
        (["--sort", "oldest"], "old"),
        (["--sort", "slowest"], "refund"),
        (["--sort", "tokens"], "old"),
        (["--sort", "tokens", "--offset", "1"], "refund"),
    ],
)
def test_ls_sorts(
    run: CommandLine, url: str, keys: dict[str, str], options: list[str], first: str
) -> None:
    listed = run("ls", "--url", url, "--json", "--limit", "1", *options)
    assert [row["key"] for row in listed.lines] == [keys[first]]


def test_ls_reads_no_further_than_it_shows(
    run: CommandLine, url: str, keys: dict[str, str]
) -> None:
    put(url, {"function": "later"}, "x", source="later")
    assert len(run("ls", "--url", url, "--json", "--limit", "2").lines) == 2


def test_ls_shows_a_line_for_each_entry(run: CommandLine, url: str, keys: dict[str, str]) -> None:
    shown = run("ls", "--url", url, "--model", "gpt-4o").out.splitlines()
    assert shown[0].split()[:4] == ["KEY", "AGE", "TOOK", "TOKENS"]
    assert shown[1].startswith(keys["refund"][:8] + " ")
    assert shown[1].endswith("10+5  gpt-4o          Where is my refund?")


def test_ls_counts_what_it_cannot_read(run: CommandLine, url: str, keys: dict[str, str]) -> None:
    from cachewrap import Cache

    Cache.from_url(url).store.set("0" * 64, b"no entry")
    listed = run("ls", "--url", url, "--json")
    assert (len(listed.lines), listed.status) == (4, 0)
    assert listed.err == "left out 1: these bytes are not an entry of cachewrap's\n"


def test_ls_lists_an_entry_whose_request_cannot_be_read(run: CommandLine, url: str) -> None:
    from cachewrap import Cache

    forged = seal(*encode("an answer"), b"\xc1 no MessagePack", Facts(time.time(), 0.5, 0.0, "f"))
    Cache.from_url(url).store.set("0" * 64, forged)
    put(url, CALL, "A SHORT ONE", source=CALL["function"])  # type: ignore[arg-type]
    shown = run("ls", "--url", url)
    assert (len(shown.out.splitlines()), shown.status) == (3, 0)
    assert "f               (its request cannot be read" in shown.out


def test_a_folder_or_server_needs_no_url(
    run: CommandLine, url: str, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEWRAP_URL", "disk:/no/such/folder")
    kind, _, place = url.partition(":")
    words = ["--disk", place] if kind == "disk" else ["--redis", url]
    assert {row["key"] for row in run("ls", *words, "--json").lines} == set(keys.values())


def test_show_is_a_conversation(run: CommandLine, url: str, keys: dict[str, str]) -> None:
    shown = run("show", keys["refund"][:8], "--url", url).out
    assert "── user\nWhere is my refund?\n\n══ assistant\nOn its way — grüß dich.\n" in shown
    assert "tokens   10 in, 5 out\n" in shown


def test_show_joins_a_stream(run: CommandLine, url: str, keys: dict[str, str]) -> None:
    shown = run("show", keys["stream"], "--url", url).out
    assert "a stream: 2 pieces, the first after 0.250s, the last after 0.750s\nIt is noon." in shown


def test_show_tells_when_each_piece_came(run: CommandLine, url: str, keys: dict[str, str]) -> None:
    shown = run("show", keys["stream"], "--url", url, "--timing").out.splitlines()
    assert shown[-2:] == ['    0.250s  "It is "', '    0.750s  "noon."']


def test_show_for_machines(run: CommandLine, url: str, keys: dict[str, str]) -> None:
    (shown,) = run("show", keys["function"], "--url", url, "--json").lines
    assert (shown["request"], shown["answer"]) == (CALL, "A SHORT ONE")
    assert shown["conversation"] == [
        {"role": "summarise", "text": "text = a long story"},
        {"role": "returns", "text": "A SHORT ONE"},
    ]


def test_show_finds_what_was_set(run: CommandLine, url: str) -> None:
    from cachewrap import Cache

    Cache.from_url(url).set("greeting", (1, b"\x00"))
    (shown,) = run("show", "greeting", "--url", url, "--json").lines
    assert shown["answer"] == {"tagged": {"!tuple": [1, {"$bytes": "AA=="}]}}


@pytest.mark.parametrize("given", ["ffff", "no such thing", "0" * 64])
def test_show_finds_nothing(run: CommandLine, url: str, keys: dict[str, str], given: str) -> None:
    shown = run("show", given, "--url", url)
    assert (shown.status, shown.out) == (1, "")
    assert f"no entry under {given!r}" in shown.err


def test_nothing_that_is_stored_controls_the_terminal(run: CommandLine, url: str) -> None:
    escape = "\x1b]0;owned\x07 \x9b31m \u202eevil"
    request, answer = chat(escape, escape, model="m\x1b[2J")
    key = put(url, request, answer, model="m\x1b[2J", source="s\x1b[2J")
    shown = [run(*words, "--url", url).out for words in (("ls",), ("show", key), ("stats",))]
    assert not any(bad in out for out in shown for bad in ("\x1b", "\x07", "\x9b", "\u202e"))


def test_seeds_may_be_many(run: CommandLine, tmp_path: Path) -> None:
    for seed in range(40):
        cache = Cache.disk(seed, tmp_path)
        cache.set("a", seed)
        cache.close()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len(os.listdir("/dev/fd")) + 60
    file = str(tmp_path / "all.jsonl")
    try:
        for words in (["stats"], ["export", file]):
            resource.setrlimit(resource.RLIMIT_NOFILE, (few, limits[1]))
            assert run(*words, "--disk", str(tmp_path), "--all-seeds").status == 0
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, limits[1]))
        done = run("import", file, "--disk", str(tmp_path / "other"))
        assert (done.status, done.out) == (0, "imported 40 entries\n")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_an_entry_without_its_request(run: CommandLine, url: str) -> None:
    key = put(url, {"function": "f"}, "x", source="f", keep_request=False)
    assert "The request was left out" in run("show", key, "--url", url).out


def test_stats_add_up_by_source_and_model(
    run: CommandLine, url: str, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "cost_of", lambda usage: None)
    (told,) = run("stats", "--url", url, "--json").lines
    total = told["total"]
    assert (total["entries"], total["tokens_in"], total["tokens_out"]) == (4, 11, 4005)
    assert total["seconds"] == pytest.approx(3.0)
    assert [(g["source"], g["model"], g["entries"]) for g in told["groups"]] == [
        ("POST /chat/completions", "gpt-3.5", 1),
        ("POST /chat/completions", "gpt-4o", 1),
        ("POST /chat/completions", "gpt-4o-mini", 1),
        ("agents.plan:summarise", "", 1),
    ]


def test_stats_for_people(run: CommandLine, url: str, keys: dict[str, str]) -> None:
    head, *rows = run("stats", "--url", url).out.splitlines()[3:9]
    assert head.split()[:3] == ["SOURCE", "MODEL", "ENTRIES"]
    assert rows[-1].split()[:2] == ["total", "4"]


def test_seeds_are_looked_at_apart_or_together(run: CommandLine, url: str) -> None:
    for seed in ("41", "7", "a draft 2"):
        joint = "&" if "?" in url else "?"
        put(f"{url}{joint}cache_seed={seed}", {"function": "f"}, seed, source="f")
    assert [row["seed"] for row in run("ls", "--url", url, "--json").lines] == ["41"]
    listed = run("ls", "--url", url, "--json", "--seed", "a draft 2").lines
    assert [row["seed"] for row in listed] == ["a draft 2"]
    listed = run("ls", "--url", url, "--json", "--all-seeds").lines
    assert sorted(row["seed"] for row in listed) == ["41", "7", "a draft 2"]


def test_encrypted_entries_are_read_with_the_key(
    run: CommandLine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEWRAP_ENCRYPTION_KEY", "00" * 32)
    request, answer = chat("a secret", "kept")
    put(url, request, answer)
    assert len(run("ls", "--url", url, "--json", "--text", "a secret").lines) == 1
    monkeypatch.delenv("CACHEWRAP_ENCRYPTION_KEY")
    listed = run("ls", "--url", url, "--json")
    assert listed.err == "left out 1: an entry is encrypted, and this cache has no key\n"


def test_an_answer_of_an_unknown_shape_is_shown_as_json(run: CommandLine, url: str) -> None:
    request, _ = chat("q", "a")
    key = put(url, request, answer_of({"verdict": "guilty"}))
    assert '"verdict": "guilty"' in run("show", key, "--url", url).out


DEEP: list[tuple[str, bytes]] = [
    ("JSON that cannot be read", b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    (
        "a message",
        b'{"choices": [{"message": {"content": ' + b"[" * 3000 + b"]" * 3000 + b"}}]}",
    ),
]


@pytest.mark.parametrize("body", [d[1] for d in DEEP], ids=[d[0] for d in DEEP])
@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_that_is_nested_too_deeply_hides_no_other(
    run: CommandLine, url: str, body: bytes, streamed: bool, tmp_path: Path
) -> None:
    chunk = b"data: " + body + b"\n\n" if streamed else body
    kind = [("content-type", "application/json")]
    deep = put(url, chat("deep", "")[0], HttpAnswer(200, kind, [chunk], [0.1], streamed))
    good = put(url, *chat("good", "puffin"))
    found = run("ls", "--url", url, "--text", "puffin", "--json").lines
    assert [row["key"] for row in found] == [good]
    assert run("show", deep, "--url", url, "--json").status == 0
    assert run("report", "--url", url, "-o", str(tmp_path / "r.html")).status == 0


def test_half_a_surrogate_pair_is_shown_for_machines(run: CommandLine, url: str) -> None:
    name = put(url, *chat("q", "a \ud83d"))
    (shown,) = run("show", name, "--url", url, "--json").lines
    assert shown["conversation"][-1]["text"] == "a \ud83d"


@pytest.mark.parametrize("width", [40, 60, 72, 100])
def test_no_line_is_wider_than_the_terminal(
    run: CommandLine, url: str, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = run("ls", "--url", url).out.splitlines()
    assert len(lines) == 1 + len(keys)
    assert max(map(columns, lines)) <= width
