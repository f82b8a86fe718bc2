"""``cachewrap suggest``: the rules that would join what is stored, and what it never proposes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cachewrap import Cache
from cachewrap.cli import suggest
from cachewrap.cli.places import Place
from cachewrap.entries import StoredEntry
from cachewrap.same.applied import check_rules
from cachewrap.same.files import read_rules
from cachewrap.suggest import outlines
from cli.filling import CommandLine, answer_of, chat, put

Body = dict[str, Any]


def asked(*messages: Body, **more: Any) -> Body:
    """A chat request with these messages, and other fields."""
    body = {"model": "gpt-4o", "messages": list(messages), **more}
    return {"method": "POST", "url": "http://up/v1/chat/completions", "body": body}


def says(role: str, content: Any, **more: Any) -> Body:
    return {"role": role, "content": content, **more}


def told(system: str, question: str = "What is a cache?", **more: Any) -> Body:
    return asked(says("system", system), says("user", question), **more)


def called(function: str = "agents:ask", **arguments: Any) -> Body:
    return {"function": function, "arguments": arguments}


def tools(*names: str, said: str = "does it") -> list[Body]:
    return [
        {"type": "function", "function": {"name": name, "description": f"{name} {said}"}}
        for name in names
    ]


def turn_of_tools(ids: tuple[str, str], order: tuple[int, int] = (0, 1)) -> list[Body]:
    """A call of two tools, and their results in an order."""
    calls = [
        {"id": one, "type": "function", "function": {"name": name, "arguments": "{}"}}
        for one, name in zip(ids, "ab", strict=True)
    ]
    results = [
        {"role": "tool", "tool_call_id": one, "content": text}
        for one, text in zip(ids, ("1", "2"), strict=True)
    ]
    return [
        says("user", "go"),
        {"role": "assistant", "content": None, "tool_calls": calls},
        *(results[at] for at in order),
    ]


def used(first: str, time: str) -> Body:
    """A request to Anthropic's API, with a tool's result."""
    use = {"type": "tool_use", "id": first, "name": "a", "input": {}}
    result = {"type": "tool_result", "tool_use_id": first, "content": "1"}
    messages = [says("user", "go"), says("assistant", [use]), says("user", [result])]
    body = {"model": "claude", "system": f"Now: {time}", "messages": messages}
    return {"method": "POST", "url": "http://up/v1/messages", "body": body}


IDS = [str(uuid.UUID(int=n * 7919 + 5)) for n in range(6)]
DAYS = [f"2026-11-{day}" for day in (27, 28, 29)]
SYSTEM = 'where="messages[role=system].content"'
USER = 'where="messages[role=user].content"'
UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

FOUND: list[tuple[str, list[Body], list[str]]] = [
    (
        "dates",
        [told(f"Be brief. Today is {day}. Be kind.") for day in DAYS],
        [rf'replace(r"Today is \d{{4}}-\d\d-\d\d", "Today is …", {SYSTEM})'],
    ),
    (
        "dates as people write them",
        [told(f"Current date: {day}, 2026") for day in ("Sunday, November 29", "Monday, June 1")],
        [
            r'replace(r"Current date: [A-Z][a-z]+, [A-Z][a-z]+ \d{1,2}, \d{4}",'
            f' "Current date: …", {SYSTEM})'
        ],
    ),
    (
        "moments, in parts of a message",
        [
            asked(
                says("system", [{"type": "text", "text": f"now={day}T10:00:0{at}.25Z"}]),
                says("user", "Why?"),
            )
            for at, day in enumerate(DAYS)
        ],
        [rf'replace(r"now=\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "now=…", {SYSTEM})'],
    ),
    (
        "a day of the week and a clock",
        [told("Today is Sunday, it is 10:15."), told("Today is Monday, it is 09:30.")],
        [
            f'replace("Today is [A-Z][a-z]+", "Today is …", {SYSTEM})',
            rf'replace(r"it is \d\d:\d\d", "it is …", {SYSTEM})',
        ],
    ),
    (
        "a field of metadata",
        [told("Be brief.", metadata={"request_id": one, "team": "a"}) for one in IDS],
        ['ignore("metadata.request_id")'],
    ),
    (
        "a field of metadata whose name has dots",
        [told("Be brief.", metadata={"run.id": one, "team": "a"}) for one in IDS],
        ['ignore("metadata[\\"run.id\\"]")'],
    ),
    (
        "metadata with many fields",
        [told("Be brief.", metadata=dict.fromkeys("abc", one)) for one in IDS],
        ['ignore("metadata")'],
    ),
    (
        "metadata here and not there",
        [told("."), told(".", metadata={"a": "b"})],
        ['ignore("metadata")'],
    ),
    ("users", [told("Be brief.", user=one) for one in "abc"], ['ignore("user")']),
    ("request ids", [told("Be brief.", request_id=n) for n in range(3)], ['ignore("request_id")']),
    (
        "UUIDs, ids and counters of a system prompt",
        [told(f"Session {one}.\nrun #{at}, req_0a1b2c3d4e{at}") for at, one in enumerate(IDS)],
        [
            f'replace("Session {UUID}", "Session …", {SYSTEM})',
            f'replace("req_[A-Za-z0-9]{{8,}}$", "…", {SYSTEM})',
            rf'replace(r"run #\d+", "run #…", {SYSTEM})',
        ],
    ),
    (
        "seconds since 1970",
        [told(f"timestamp: {1764424242 + n}.5 UTC") for n in range(3)],
        [rf'replace(r"timestamp: 1\d{{9}}\.\d+", "timestamp: …", {SYSTEM})'],
    ),
    (
        "addresses of objects that Python prints",
        [asked(says("user", f"Plan: <function f at 0x7f00{n}a10>")) for n in range(1000, 1003)],
        [rf'replace(r"\bat 0x[0-9a-fA-F]+(?=>)", "at 0x…", {USER})'],
    ),
    (
        "temporary paths in the description of a tool",
        [told("Be brief.", tools=tools("a", said=f"reads /tmp/tmp{n}abc_12/x")) for n in "1234"],
        [
            r'replace(r"a reads /tmp/tmp\w{6,}", "a reads …",'
            ' where="tools[*].function.description")'
        ],
    ),
    (
        "ids of tool calls",
        [asked(*turn_of_tools((f"call_{n}a", f"call_{n}b"))) for n in range(3)],
        ['renumber("messages[*].tool_calls[*].id", "messages[*].tool_call_id")'],
    ),
    (
        "ids of tool calls, and moments, of Anthropic's API",
        [used(f"toolu_{n}", f"2026-11-29 10:0{n}") for n in range(3)],
        [
            'renumber("messages[*].content[type=tool_use].id",'
            ' "messages[*].content[type=tool_result].tool_use_id")',
            r'replace(r"Now: \d{4}-\d\d-\d\d \d\d:\d\d", "Now: …", where="system")',
        ],
    ),
    (
        "the order of results",
        [asked(*turn_of_tools(("x", "y"), order)) for order in ((0, 1), (1, 0))],
        ["in_call_order"],
    ),
    (
        "the order of tools",
        [told("Be brief.", tools=tools(*names)) for names in ("abc", "cab")],
        ["sorted_by_name"],
    ),
    (
        "arguments of a function that track it",
        [called(question="Why?", request_id=one, sent_at=n) for n, one in enumerate(IDS)],
        ['ignore("request_id", "sent_at")'],
    ),
    (
        "an argument inside another one",
        [called(question="Why?", context={"trace_id": one, "shop": 7}) for one in IDS],
        ['ignore("context.trace_id")'],
    ),
    (
        "a function's system prompt",
        [called(system=f"Today is {day}.", question="Why?") for day in DAYS],
        [r'replace(r"Today is \d{4}-\d\d-\d\d", "Today is …", where="system")'],
    ),
    (
        "a header",
        [{**told("Be brief."), "headers": {"x-run-id": one}} for one in IDS],
        ['ignore("headers.x-run-id")'],
    ),
    (
        "several things at once",
        [told(f"Today is {day}.", user=one) for day, one in zip(DAYS, IDS, strict=False)],
        [
            'ignore("user")',
            rf'replace(r"Today is \d{{4}}-\d\d-\d\d", "Today is …", {SYSTEM})',
        ],
    ),
]


def fill(url: str, requests: list[Body], answers: str = "yes") -> list[str]:
    """Store requests; with several answers they take turns."""
    return [
        put(
            url,
            request,
            chat("", answers[at % len(answers) :][:1] if len(answers) < 4 else answers)[1],
            age=float(at),
            tokens=(10, 5),
        )
        for at, request in enumerate(requests)
    ]


def proposals(run: CommandLine, url: str, *words: str) -> list[Body]:
    result = run("suggest", "--url", url, "--json", *words)
    assert result.status == 0, result.err
    (whole,) = result.lines
    found: list[Body] = whole["proposals"]
    return found


@pytest.fixture
def cassette(tmp_path: Path) -> str:
    return f"jsonl:{tmp_path / 'answers.jsonl'}"


@pytest.mark.parametrize(
    ("requests", "rules"),
    [pytest.param(requests, rules, id=name) for name, requests, rules in FOUND],
)
def test_a_family_is_found_and_its_rules_join_it(
    run: CommandLine, cassette: str, requests: list[Body], rules: list[str]
) -> None:
    fill(cassette, requests)
    (proposal,) = proposals(run, cassette)
    assert [rule["python"] for rule in proposal["rules"]] == rules
    assert proposal["requests"] == len(requests)
    assert proposal["families"] == 1
    assert proposal["calls_saved"] == len(requests) - 1
    assert proposal["tokens_in_saved"] == 10 * (len(requests) - 1)
    assert 1 <= len(proposal["examples"]) <= 3


NOT_FOUND: list[tuple[str, list[Body]]] = [
    ("questions", [told("Be brief.", q) for q in ("What is a cache?", "What is a key?")]),
    ("years in questions", [told("Be brief.", f"Who won in {n}?") for n in range(2015, 2022)]),
    ("days in questions", [told("Be brief.", f"What was on {day}?") for day in DAYS]),
    ("numbers in questions", [told("Be brief.", f"What is {n} + 1?") for n in range(9)]),
    ("limits in a system prompt", [told(f"At most {n} words.") for n in (50, 100)]),
    ("models", [told("."), {**told("."), "body": {**told(".")["body"], "model": "o3"}}]),
    ("settings", [told("Be brief.", temperature=n) for n in (0, 1)]),
    ("seeds of the provider's", [told("Be brief.", seed=n) for n in (1, 2)]),
    ("schemas", [told(".", tools=[{"name": "a", "default": day}]) for day in DAYS]),
    ("names of tools", [told("Be brief.", tools=tools(one)) for one in ("a1", "a2")]),
    ("arguments of a function", [called(question="Why?", top=n) for n in (1, 2)]),
    ("questions of a function", [called(question=f"Who won in {n}?") for n in (2019, 2020)]),
    (
        "days in a system prompt that is all there is",
        [asked(says("system", f"What was on {day}?")) for day in DAYS],
    ),
    ("functions", [called("a:ask", question="Why?"), called("b:ask", question="Why?")]),
    (
        "what tools gave",
        [
            asked(*turn_of_tools(("x", "y"))[:-1], says("tool", f"{n} on {day}", tool_call_id="y"))
            for n, day in enumerate(DAYS)
        ],
    ),
    (
        "what is linked to what",
        [
            asked(*turn_of_tools(("x", "y"))[:2], says("tool", "1", tool_call_id=one))
            for one in ("x", "y")
        ],
    ),
    (
        "texts to embed",
        [
            {"method": "POST", "url": "http://up/v1/embeddings", "body": {"input": f"on {day}"}}
            for day in DAYS
        ],
    ),
]


@pytest.mark.parametrize(
    "requests", [pytest.param(requests, id=name) for name, requests in NOT_FOUND]
)
def test_what_is_asked_is_never_left_out(
    run: CommandLine, cassette: str, requests: list[Body]
) -> None:
    fill(cassette, requests)
    assert proposals(run, cassette, "--doubtful") == []


DOUBTFUL: list[tuple[str, list[Body], str]] = [
    (
        "UUIDs",
        [told("Be brief.", f"Where is order {one}?") for one in IDS],
        f'replace("Where is order {UUID}", "Where is order …", {USER})',
    ),
    (
        "addresses of which somebody asks",
        [asked(says("user", f"Why did it crash at 0x7f00{n}a10?")) for n in range(1000, 1003)],
        rf'replace(r"\bat 0x[0-9a-fA-F]+", "at 0x…", {USER})',
    ),
    (
        "today's date",
        [told("Be brief.", f"Today is {day}. Who plays?") for day in DAYS],
        rf'replace(r"Today is \d{{4}}-\d\d-\d\d", "Today is …", {USER})',
    ),
    (
        "paths of a system prompt",
        [told(f"You work in /home/{one}/app") for one in ("ann", "bob")],
        rf'replace(r"work in /home/[\w./-]+", "work in …", {SYSTEM})'.replace(
            "work in", "You work in"
        ),
    ),
    (
        "today's date in a system prompt that is all there is",
        [asked(says("system", f"Today is {day}. Who plays?")) for day in DAYS],
        rf'replace(r"Today is \d{{4}}-\d\d-\d\d", "Today is …", {SYSTEM})',
    ),
    (
        "an id that is all a function is asked",
        [called(request_id=one, style="brief") for one in IDS],
        'ignore("request_id")',
    ),
    (
        "an id by which a function may look up what is asked",
        [called(question="Why did it fail?", run_id=one) for one in IDS],
        'ignore("run_id")',
    ),
    (
        "a moment of which a function is asked",
        [called(question="Who won?", timestamp=n) for n in range(3)],
        'ignore("timestamp")',
    ),
    (
        "a day that is an argument",
        [called(question="Why?", today=day) for day in DAYS],
        'ignore("today")',
    ),
]


@pytest.mark.parametrize(
    ("requests", "rule"),
    [pytest.param(requests, rule, id=name) for name, requests, rule in DOUBTFUL],
)
def test_what_is_in_doubt_is_proposed_apart(
    run: CommandLine, cassette: str, requests: list[Body], rule: str
) -> None:
    fill(cassette, requests)
    assert proposals(run, cassette) == []
    (doubt,) = proposals(run, cassette, "--doubtful")
    assert ([rule["python"] for rule in doubt["rules"]], doubt["doubtful"]) == ([rule], True)
    told_of = run("suggest", "--url", cassette).out
    assert f"{len(requests) - 1} more requests may be equal" in told_of
    assert "replace(" not in told_of
    file = run("suggest", "--url", cassette, "--toml", "--doubtful").out
    assert all(line.startswith("#") for line in file.splitlines() if line)


def test_samples_and_seeds_of_one_request_are_no_family(run: CommandLine, tmp_path: Path) -> None:
    url = f"disk:{tmp_path}"
    request = called(question="Why?")
    for salt in ("1", "2", "3"):
        put(url, request, chat("", salt)[1], salt=(salt,))
        put(f"{url}?cache_seed={salt}", told("Be brief.", user=salt), chat("", salt)[1])
    assert proposals(run, url, "--all-seeds") == []


def test_samples_are_not_saved(run: CommandLine, cassette: str) -> None:
    """Two requests with three and two samples are one request with three."""
    for user, samples in (("a", 3), ("b", 2)):
        for number in range(samples):
            put(cassette, told("Be brief.", user=user), chat("", "yes")[1], salt=(str(number),))
    (proposal,) = proposals(run, cassette)
    assert (proposal["requests"], proposal["calls_saved"]) == (2, 2)


def test_it_says_where_the_answers_differ(run: CommandLine, cassette: str) -> None:
    fill(cassette, [told("Be brief.", user=one) for one in "ab"], "yes!")
    fill(cassette, [told("Be kind.", user=one) for one in "ab"], "yn")
    (proposal,) = proposals(run, cassette)
    assert (proposal["families"], proposal["families_with_different_answers"]) == (2, 1)
    assert "answers: different ones in 1 of 2" in run("suggest", "--url", cassette).out


def test_what_saves_most_comes_first(run: CommandLine, cassette: str) -> None:
    fill(cassette, [told("Be brief.", metadata={"a": one}) for one in "ab"])
    fill(cassette, [told("Be kind.", user=one) for one in "abcd"])
    assert [one["rules"][0]["python"] for one in proposals(run, cassette)] == [
        'ignore("user")',
        'ignore("metadata.a")',
    ]


def test_its_python_and_its_file_are_the_rules(
    run: CommandLine, cassette: str, tmp_path: Path
) -> None:
    for _, requests, _ in FOUND:
        fill(cassette, requests)
    text = run("suggest", "--url", cassette).out
    code = text[text.index("from cachewrap.same import") :]
    made: dict[str, Any] = {}
    exec(code, {"Cache": type("Cache", (), {"disk": staticmethod(dict)})}, made)
    pasted = check_rules(made["cache"]["same"])
    file = tmp_path / "same.toml"
    file.write_text(run("suggest", "--url", cassette, "--toml").out, "utf-8")
    assert pasted is not None
    assert read_rules(file) == pasted


def test_credentials_are_hidden(run: CommandLine, cassette: str) -> None:
    secret = "sk-abcdefghij0123456789abcdefghij0123456789"
    fill(
        cassette,
        [
            told(f"Today is {day}. Use {secret} for it.", metadata={"api_key": secret + day[-1]})
            for day in DAYS
        ],
    )
    for words in ((), ("--json",), ("--toml",), ("--doubtful",)):
        result = run("suggest", "--url", cassette, *words)
        assert "Today is" in result.out
        assert secret not in result.out + result.err


def test_what_is_stored_takes_over_no_terminal(run: CommandLine, cassette: str) -> None:
    fill(cassette, [told(f"\x1b[2J today is {day} \x1b]0;x\x07", user="\x1b[1m") for day in DAYS])
    for words in ((), ("--json",), ("--toml",), ("--doubtful",)):
        assert "\x1b" not in run("suggest", "--url", cassette, *words).out


@pytest.mark.parametrize("width", ["60", "100"])
def test_examples_fit_the_terminal(
    run: CommandLine, cassette: str, width: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cassette, [told(f"今日 {'是' * 90} today is {day} {'x' * 90}") for day in DAYS])
    monkeypatch.setenv("COLUMNS", width)
    shown = [line for line in run("suggest", "--url", cassette).out.splitlines() if "2026" in line]
    assert len(shown) == 4
    assert all(len(line) <= int(width) for line in shown)


@pytest.mark.parametrize("kind", ["disk", "jsonl", "redis"])
def test_it_changes_nothing(run: CommandLine, make_url: Callable[[str], str], kind: str) -> None:
    url = make_url(kind)
    fill(url, [told(f"Today is {day}.", user=day) for day in DAYS])
    cache = Cache.from_url(url)
    before = {key: cache.store.get(key) for key in cache.store.keys()}
    (proposal,) = proposals(run, url)
    assert proposal["calls_saved"] == 2
    assert {key: cache.store.get(key) for key in cache.store.keys()} == before
    cache.close()


def test_an_encrypted_cache_is_read_with_its_key(
    run: CommandLine, cassette: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEWRAP_ENCRYPTION_KEY", "00" * 32)
    fill(cassette, [told(f"Today is {day}.") for day in DAYS])
    assert len(proposals(run, cassette)) == 1
    monkeypatch.delenv("CACHEWRAP_ENCRYPTION_KEY")
    result = run("suggest", "--url", cassette)
    assert (result.status, "left out 3" in result.err) == (0, True)
    assert "nothing is stored that rules would join" in result.out


def test_a_folder_of_cassettes_joins_within_each_of_them(run: CommandLine, tmp_path: Path) -> None:
    for name, days in (("one", DAYS), ("two", DAYS[:2]), ("three", DAYS[:1])):
        fill(f"jsonl:{tmp_path / name}.jsonl", [told(f"Today is {day}.") for day in days])
    (whole,) = run("suggest", str(tmp_path), "--json").lines
    (proposal,) = whole["proposals"]
    assert (proposal["families"], proposal["calls_saved"]) == (2, 3)


def test_what_cannot_be_read_is_left_out(run: CommandLine, tmp_path: Path) -> None:
    url = f"disk:{tmp_path}"
    keys = fill(url, [told(f"Today is {day}.") for day in DAYS])
    put(url, told("Be brief."), chat("", "yes")[1], keep_request=False)
    cache = Cache.from_url(url)
    cache.store.set(keys[0], (cache.store.get(keys[0]) or b"")[:-9])
    cache.close()
    (whole,) = run("suggest", "--url", url, "--json").lines
    assert (whole["entries"], whole["without_request"], whole["unreadable"]) == (3, 1, 1)
    assert whole["proposals"][0]["calls_saved"] == 1


def test_an_empty_place_is_no_mistake(run: CommandLine, cassette: str, tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").touch()
    assert "nothing is stored that rules would join" in run("suggest", "--url", cassette).out
    assert run("suggest", "--url", cassette, "--toml").out.startswith("#")
    assert run("suggest", str(tmp_path / "nowhere")).status == 3


def test_an_entry_is_looked_at_once_and_those_of_families_again(
    run: CommandLine, cassette: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it takes grows as what is stored does: no request is compared with all others."""
    looked: list[str] = []
    loaded: list[str] = []
    digest, load = outlines._digest, suggest._load

    def counting(told: list[Any]) -> bytes:
        looked.append("one")
        return digest(told)

    def loading(place: Place, key: str) -> StoredEntry | None:
        loaded.append(key)
        return load(place, key)

    monkeypatch.setattr(outlines, "_digest", counting)
    monkeypatch.setattr(suggest, "_load", loading)
    fill(cassette, [told("Be brief.", f"Question {one}") for one in "abcdefghijklmnop"])
    fill(cassette, [told(f"Today is {day}.") for day in DAYS])
    proposals(run, cassette)
    assert len(looked) == 19
    assert len(loaded) == 2 * len(DAYS) + 2  # compared, and counted; and shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--toml", "--json"), "give --toml or --json"),
        (("--judge", "a:b"), "give it with --meaning"),
        (("--meaning", "--toml"), "without --meaning"),
        (("--meaning", "--judge", "nothing"), "module:function"),
        (("--meaning", "--judge", "no_such:judge"), "no_such"),
    ],
)
def test_what_does_not_fit_is_refused(
    run: CommandLine, cassette: str, words: tuple[str, ...], said: str
) -> None:
    fill(cassette, [told("Be brief.")])
    result = run("suggest", "--url", cassette, *words)
    assert (result.status, said in result.err) == (2, True)


def test_a_stored_stream_and_a_text_are_compared_by_what_they_say(
    run: CommandLine, cassette: str
) -> None:
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}}]}
    put(cassette, told("Be brief.", user="a"), answer_of(body))
    put(cassette, told("Be brief.", user="b"), answer_of({**body, "id": "other"}))
    (proposal,) = proposals(run, cassette)
    assert proposal["families_with_different_answers"] == 0
    assert json.dumps(proposal["examples"]).count("user") >= 1
