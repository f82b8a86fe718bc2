"""``cachewrap suggest --meaning``: pairs that may mean the same, and a judge who approves them."""

from __future__ import annotations

import json
import logging
import re
import shlex
import socket
from pathlib import Path
from typing import Any

import pytest

from cachewrap import Cache, ConfigurationError
from cachewrap.suggest import alike, embedding
from cli.filling import CommandLine, chat, put
from cli.test_suggest import Body, called, told

pytest.importorskip("wordllama", reason="the extra `meaning`")
pytest.importorskip("usearch", reason="the extra `meaning`")

ON, OFF = "Turn on the kitchen light", "Turn off the kitchen light"
CAPITAL = ("What is the capital of France?", "Which city is the capital of France?")


@pytest.fixture
def cassette(tmp_path: Path) -> str:
    return f"jsonl:{tmp_path / 'answers.jsonl'}"


def store(url: str, answers: dict[str, str], system: str = "Be brief.") -> dict[str, str]:
    """The keys of questions with their answers, the newest first."""
    return {
        question: put(url, told(system, question), chat("", answer)[1], age=float(at))
        for at, (question, answer) in enumerate(answers.items())
    }


def pairs_of(run: CommandLine, url: str, *words: str) -> list[Body]:
    result = run("suggest", "--meaning", "--url", url, "--json", *words)
    assert result.status == 0, result.err
    found: list[Body] = result.lines[0]["pairs"]
    return found


def judges(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a judge in a module of its own."""
    name = f"judges_{folder.name.replace('-', '_')}"
    (folder / f"{name}.py").write_text(code, "utf-8")
    monkeypatch.syspath_prepend(folder)
    return f"{name}:judge"


def test_what_means_the_same_is_proposed_and_what_does_not_is_marked(
    run: CommandLine, cassette: str
) -> None:
    keys = store(
        cassette,
        {
            CAPITAL[0]: "Paris",
            CAPITAL[1]: "Paris",
            ON: "It is on.",
            OFF: "It is off.",
            "How do I bake bread?": "Slowly.",
        },
    )
    pairs = {tuple(pair["texts"]): pair for pair in pairs_of(run, cassette)}
    assert set(pairs) == {CAPITAL, (ON, OFF)}
    same, other = pairs[CAPITAL], pairs[ON, OFF]
    assert other["likeness"] > same["likeness"] > 0.85  # so that no bar could decide
    assert (same["turns"], same["answers_differ"]) == ("", False)
    assert (other["turns"], other["answers_differ"]) == ("on / off", True)
    assert same["keys"] == [keys[CAPITAL[0]], keys[CAPITAL[1]]]
    assert same["approved"] is None


def test_nothing_is_written_without_a_judge(run: CommandLine, cassette: str) -> None:
    store(cassette, dict.fromkeys(CAPITAL, "Paris"))
    path = Path(cassette.partition(":")[2])
    before = path.read_bytes()
    text = run("suggest", "--meaning", "--url", cassette).out
    assert path.read_bytes() == before
    assert "read both before you approve" in text


@pytest.mark.parametrize("given", ["url", "word", "seed"])
def test_the_command_that_it_prints_approves_the_pair(
    run: CommandLine, tmp_path: Path, given: str
) -> None:
    url = f"disk:{tmp_path / 'a cache'}" + "?cache_seed=7" * (given == "seed")
    keys = store(url, dict.fromkeys(CAPITAL, "Paris"))
    where = {"url": ("--url", url), "word": (str(tmp_path / "a cache"),)}
    where["seed"] = (*where["word"], "--seed", "7")
    text = run("suggest", "--meaning", *where[given]).out
    (line,) = (line for line in text.splitlines() if "alias add" in line)
    result = run(*shlex.split(line)[1:])
    assert result.status == 0, result.err
    cache = Cache.from_url(url)
    (alias,) = cache.aliases()
    assert (alias.key, alias.alias_of) == (keys[CAPITAL[0]], keys[CAPITAL[1]])
    cache.close()
    assert "no pairs" in run("suggest", "--meaning", *where[given]).out


def test_pairs_differ_in_their_last_words_alone(run: CommandLine, cassette: str) -> None:
    put(cassette, told("Be brief.", CAPITAL[0]), chat("", "Paris")[1])
    for at, request in enumerate(
        (
            told("Be kind.", CAPITAL[1]),
            told("Be brief.", CAPITAL[1], temperature=1),
            told("Be brief.", CAPITAL[1], tools=[{"name": "a"}]),
            {**told("Be brief.", CAPITAL[1]), "url": "http://other/v1/chat/completions"},
            called(question=CAPITAL[1]),
        )
    ):
        put(cassette, request, chat("", "Paris")[1], age=float(at))
    assert pairs_of(run, cassette) == []


@pytest.mark.parametrize(
    ("name", "field", "wrap"),
    [
        ("embeddings", "input", str),
        ("moderations", "input", str),
        ("completions", "prompt", str),
        ("responses", "input", lambda text: [{"role": "user", "content": [{"text": text}]}]),
    ],
)
def test_only_what_is_answered_in_words_is_compared(
    run: CommandLine, cassette: str, name: str, field: str, wrap: Any
) -> None:
    for text in CAPITAL:
        body = {"model": "a", field: wrap(text)}
        request = {"method": "POST", "url": f"http://up/v1/{name}", "body": body}
        put(cassette, request, chat("", "Paris")[1])
    assert len(pairs_of(run, cassette)) == (name not in ("embeddings", "moderations"))


def test_functions_are_compared_by_what_they_are_asked(run: CommandLine, cassette: str) -> None:
    for text in CAPITAL:
        put(cassette, called(question=text, top=3), chat("", "Paris")[1], source="agents:ask")
    put(cassette, called(question=CAPITAL[0], top=4), chat("", "Paris")[1], source="agents:ask")
    assert len(pairs_of(run, cassette)) == 1


YES = "lambda one, other: True"
JUDGES: list[tuple[str, str, int, str]] = [
    ("texts", 'def judge(one, other): return "France" in one and "France" in other', 1, ""),
    ("no one", "def judge(one, other): return None", 0, ""),
    ("async", "async def judge(one, other): return 'France' in one", 1, ""),
    (
        "entries",
        "from cachewrap.entries import StoredEntry\n"
        "def judge(one: StoredEntry, other: StoredEntry): return one.answer == other.answer",
        1,
        "",
    ),
    ("errors", "def judge(one, other): raise ValueError('not today')", 0, "ValueError: not today"),
    ("words", "def judge(one, other): return 'no'", 0, "it gave 'no', and not True or False"),
]


@pytest.mark.parametrize(
    ("code", "count", "told_of"),
    [pytest.param(code, count, why, id=name) for name, code, count, why in JUDGES],
)
def test_a_judge_approves(
    run: CommandLine,
    cassette: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    count: int,
    told_of: str,
) -> None:
    keys = store(
        cassette, {CAPITAL[0]: "Paris", CAPITAL[1]: "Paris", ON: "It is on.", OFF: "It is off."}
    )
    judge = judges(tmp_path, code, monkeypatch)
    result = run("suggest", "--meaning", "--url", cassette, "--judge", judge)
    assert (result.status, f"{count} of 2 were made aliases" in result.out) == (0, True)
    assert told_of in result.out
    cache = Cache.from_url(cassette)
    expected = [(keys[CAPITAL[0]], keys[CAPITAL[1]])] if count else []
    assert [(alias.key, alias.alias_of) for alias in cache.aliases()] == expected
    cache.close()


def test_no_alias_leads_to_another_one(
    run: CommandLine, cassette: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = "What is the capital city of France?"
    store(cassette, dict.fromkeys((*CAPITAL, third), "Paris"))
    judge = judges(tmp_path, f"judge = {YES}", monkeypatch)
    for _ in range(2):
        assert run("suggest", "--meaning", "--url", cassette, "--judge", judge).status == 0
    cache = Cache.from_url(cassette)
    aliases = {alias.key: alias.alias_of for alias in cache.aliases()}
    cache.close()
    assert aliases
    assert aliases.keys().isdisjoint(aliases.values())


def test_an_encrypted_cache_has_encrypted_aliases(
    run: CommandLine, cassette: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEWRAP_ENCRYPTION_KEY", "00" * 32)
    store(cassette, dict.fromkeys(CAPITAL, "Paris"))
    judge = judges(tmp_path, f"judge = {YES}", monkeypatch)
    (pair,) = pairs_of(run, cassette, "--judge", judge)
    assert pair["approved"] is True
    assert b"France" not in Path(cassette.partition(":")[2]).read_bytes()
    assert run("alias", "ls", "--url", cassette).status == 0


def test_credentials_are_hidden(run: CommandLine, cassette: str) -> None:
    secret = "sk-abcdefghij0123456789abcdefghij0123456789"
    store(cassette, {f"{text} {secret}": f"Paris, {secret}" for text in CAPITAL})
    for words in ((), ("--json",)):
        result = run("suggest", "--meaning", "--url", cassette, *words)
        assert "France" in result.out
        assert secret not in result.out + result.err


HOSTILE = "</script><script>alert(1)</script> <!-- <b> \u2028\u202e "


def page_of(run: CommandLine, url: str, path: Path, *words: str) -> tuple[list[Body], Body]:
    """The pairs and the figures that a page was given."""
    result = run("suggest", "--meaning", "--url", url, "--page", str(path), *words)
    assert result.status == 0, result.err
    found: dict[str, list[Body]] = {"pair": [], "facts": []}
    for name, data in re.findall(r'data-of="(\w+)">(.*?)</script>', path.read_text("utf-8"), re.S):
        found[name].append(json.loads(data))
    return found["pair"], found["facts"][0]


def test_the_page_has_the_pairs_and_the_commands(
    run: CommandLine, cassette: str, tmp_path: Path
) -> None:
    third = "What is the capital city of France?"
    keys = store(cassette, dict.fromkeys((*CAPITAL, third), "Paris") | {ON: "on", OFF: "off"})
    assert run("alias", "add", keys[CAPITAL[0]], keys[CAPITAL[1]], "--url", cassette).status == 0
    before = Path(cassette.partition(":")[2]).read_bytes()
    pairs, facts = page_of(run, cassette, tmp_path / "pairs.html")
    assert Path(cassette.partition(":")[2]).read_bytes() == before
    capitals, lights = pairs
    assert (lights["texts"], lights["turns"]) == ([ON, OFF], "on / off")
    assert (lights["answers"], lights["answers_differ"]) == (["on", "off"], True)
    assert (lights["cuts"], lights["taken"]) == ([0, 0], False)
    assert capitals["taken"]  # it answers for the first
    assert len({*lights["ends"], *capitals["ends"]}) == 4
    assert (facts["entries"], facts["found"], facts["password"]) == (4, 2, False)
    command = shlex.split(lights["approve"])
    assert command[-2:] == ["--url", cassette]
    assert run(*command[1:]).status == 0
    cache = Cache.from_url(cassette)
    aliases = {alias.key: alias.alias_of for alias in cache.aliases()}
    cache.close()
    assert aliases[keys[ON]] == keys[OFF]


def test_no_text_is_code_on_the_page(run: CommandLine, cassette: str, tmp_path: Path) -> None:
    secret = "sk-abcdefghij0123456789abcdefghij0123456789"
    path = tmp_path / "pairs.html"
    plain = tmp_path / "plain.html"
    store(cassette, dict.fromkeys(CAPITAL, "Paris"))
    page_of(run, cassette, plain)
    other = f"jsonl:{tmp_path / 'other.jsonl'}"
    store(other, {f"{HOSTILE}{text}": f"{HOSTILE}Paris {secret}" for text in CAPITAL})
    (pair,), _ = page_of(run, other, path)
    assert pair["texts"] == [f"{HOSTILE}{text}" for text in CAPITAL]
    assert pair["answers"] == [f"{HOSTILE}Paris (hidden)"] * 2
    text = path.read_text("utf-8")
    assert secret not in text
    assert text.count("<script") == plain.read_text("utf-8").count("<script")
    assert not set(text) & set("\u2028\u202e")


@pytest.mark.stores("redis")
def test_no_password_is_on_the_page(run: CommandLine, redis_url: str, tmp_path: Path) -> None:
    url = redis_url.replace("://", "://default:sesame@", 1) + f"?namespace={tmp_path.name}"
    store(url, dict.fromkeys(CAPITAL, "Paris"))
    (pair,), facts = page_of(run, url, tmp_path / "pairs.html")
    assert len(shlex.split(pair["approve"])) == 5  # CACHEWRAP_URL says the place
    assert facts["password"]
    assert "sesame" not in (tmp_path / "pairs.html").read_text("utf-8")
    shown = run("suggest", "--meaning", "--url", url).out
    assert ("set CACHEWRAP_URL" in shown, "sesame" in shown) == (True, False)


REFUSED = [
    pytest.param(["--page", "new.html"], "give it with --meaning", id="of-rules"),
    pytest.param(["--meaning", "--page", "new.html", "--json"], "not both", id="and-json"),
    pytest.param(["--meaning", "--page", "new.html", "--judge", "a:b"], "not both", id="and-judge"),
    pytest.param(["--meaning", "--page", "own.html"], "Replace it?", id="somebody's-own"),
]


@pytest.mark.parametrize(("words", "why"), REFUSED)
def test_a_page_that_cannot_be_is_refused(
    run: CommandLine,
    cassette: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    why: str,
) -> None:
    store(cassette, dict.fromkeys(CAPITAL, "Paris"))
    monkeypatch.chdir(tmp_path)
    Path("own.html").write_text("<p>My own</p>", "utf-8")
    done = run("suggest", "--url", cassette, *words)
    assert (done.status, why in done.err, Path("new.html").exists()) == (2, True, False)
    assert Path("own.html").read_text("utf-8") == "<p>My own</p>"


def test_a_page_is_replaced(run: CommandLine, cassette: str, tmp_path: Path) -> None:
    store(cassette, dict.fromkeys(CAPITAL, "Paris"))
    path = tmp_path / "pairs.html"
    path.write_text("<p>My own</p>", "utf-8")
    assert len(page_of(run, cassette, path, "--force")[0]) == 1
    assert page_of(run, cassette, path, "--alike", "1")[0] == []


def test_pairs_are_objects_in_python(tmp_path: Path) -> None:
    url = f"disk:{tmp_path}"
    keys = store(url, {CAPITAL[0]: "Paris", CAPITAL[1]: "Paris", ON: "on", OFF: "off"})
    cache = Cache.from_url(url)
    first, second = alike(cache.entries())
    assert (first.texts, first.turns) == ((ON, OFF), "on / off")
    assert (second.one, second.other) == (keys[CAPITAL[0]], keys[CAPITAL[1]])
    assert alike(cache.entries(), 0.99) == []
    cache.close()


def test_many_go_through_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"How do I bake {word}?" for word in "bread cake pizza pie toast".split()]
    texts += [*CAPITAL, ON, OFF]
    exact = {pair[:2]: pair[2] for pair in embedding.alike(texts, 0.85, 5)}
    monkeypatch.setattr(embedding, "_FEW", 2)
    assert {pair[:2]: pair[2] for pair in embedding.alike(texts, 0.85, 5)} == pytest.approx(exact)


def test_the_model_comes_from_its_package_and_changes_no_logging(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    handlers = list(logging.getLogger().handlers)
    assert embedding.Model().vectors(["a light", ""]).shape == (2, 256)
    assert logging.getLogger().handlers == handlers


def test_it_says_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'cachewrap\[meaning\]'"):
        embedding.Model()
