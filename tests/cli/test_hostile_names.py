"""Entries whose every name is hostile: no message, table or log line does what they say."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cachewrap import Cache, CacheWarning, MissingTypeError, ReplayMissError, llm_cached
from cachewrap.cli.text import json_line
from cachewrap.entry import Facts, HttpAnswer, Kind
from cachewrap.errors import CorruptEntryError, printable
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.request import key
from cachewrap.stores.jsonl import JsonlStore
from cli.filling import CommandLine

pytestmark = pytest.mark.stores("jsonl")

NAMES = {
    "title of the terminal": "\x1b]0;gotcha\x07",
    "colours": "\x1b[31m\x9b31m",
    "another line": "a\r\nerror: b",
    "line separators": "a\u2028b\u2029c\x85d",
    "turned round": "\u202egpt\u202c\u2066x\u2069\u200f",
    "hidden": "a\u200b\ufeff\u00ad\U000e0041",
    "half of a pair": "a\udc1b",
    "long": "x" * 200_000,
    "NUL": "a\0b",
}
names = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)

_BAD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200c\u200e-\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
_MOST = 4_000


def assert_harmless(text: str, lines: int | None = None) -> None:
    found = _BAD.search(text)
    assert found is None, repr(text[max(0, found.start() - 40) : found.end() + 40])
    assert all(len(line) < _MOST for line in text.split("\n"))
    assert lines is None or text.count("\n") < lines
    assert "\nerror: b" not in text


def stored_as(name: str) -> str:
    """A name as an envelope can hold it."""
    return name.encode("utf-8", "replace").decode()


def tagged(tag: str, *parts: Any) -> bytes:
    return b"\x01" + key.encode({tag: list(parts)})


def entries(name: str) -> Iterator[tuple[str, bytes]]:
    """Entries that name something hostile, each in another place."""
    name = stored_as(name)
    facts = Facts(1.0, 0.1, source=name, model=name, tokens_in=1)
    body = {"model": name, name: name, "messages": [{"role": name, "content": "hi"}], "tools": name}
    request = key.encode({"method": name, "url": name, "headers": {name: name}, "body": body})
    event = {"type": name, "delta": name}
    yield "text", seal(Kind.TEXT, b"hi", request, facts)
    yield (
        "http",
        seal(
            *codec.encode(
                HttpAnswer(200, [(name, name)], [json.dumps({"output": [event]}).encode()], [])
            ),
            request,
            facts,
        ),
    )
    yield (
        "stream",
        seal(
            *codec.encode(
                HttpAnswer(200, [], [b"data: " + json.dumps(event).encode()], [float("nan")], True)
            ),
            request,
            facts,
        ),
    )
    for tag in ("!dataclass", "!pydantic", "!enum", "!plugin", "!array", "!" + name[:1000]):
        yield tag, seal(Kind.VALUE, tagged(tag, name, {name: name}), request, facts)


def fill(store: Any, name: str) -> None:
    for number, (_, envelope) in enumerate(entries(name)):
        store.set(f"{number:064x}", envelope)


COMMANDS = [
    ("ls",),
    ("ls", "--json"),
    ("stats",),
    ("stats", "--json"),
    ("verify",),
    ("verify", "--json"),
    ("show", f"{0:064x}"),
    ("show", f"{1:064x}"),
    ("show", f"{2:064x}", "--timing"),
    ("show", f"{3:064x}"),
    ("show", "0000"),
    ("explain", "BODY"),
    ("export", "OUT"),
    ("copy", "disk:COPY"),
    ("report", "-o", "PAGE"),
    ("prune", "--damaged", "--dry-run"),
]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(kind, name, id=f"{kind}-{title}")
        for kind in ("disk", "jsonl")
        for title, name in NAMES.items()
        if (kind, title) != ("jsonl", "long")  # which takes ten seconds to look through
    ],
)
def test_no_command_prints_it(
    run: CommandLine, tmp_path: Path, make_url: Any, kind: str, name: str
) -> None:
    url = make_url(kind)
    cache = Cache.from_url(url)
    fill(cache.store, name)
    cache.store.close()
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}))
    for words in COMMANDS:
        named = [
            word.replace("BODY", str(body))
            .replace("OUT", str(tmp_path / "out.jsonl"))
            .replace("COPY", str(tmp_path / "copy"))
            .replace("PAGE", str(tmp_path / "page.html"))
            for word in words
        ]
        result = run(*named, "--url", url)
        assert "Traceback" not in result.err
        assert_harmless(result.err)
        if words[0] == "show" or "--json" in words:
            assert _BAD.search(result.out) is None, words
        else:
            assert_harmless(result.out)


@names
def test_lines_of_hostile_names(run: CommandLine, tmp_path: Path, name: str) -> None:
    """Seeds, keys and fields of a file that somebody else wrote."""
    path = tmp_path / "a.jsonl"
    Cache.jsonl(path).set("k", "v")
    good = json.loads(path.read_text().splitlines()[1])
    hostile = [
        {**good, "seed": name},
        {**good, "key": name},
        {**good, "kind": name},
        {**good, "created": name},
        {**good, "answer": {name: name}},
        {**good, "source": name, "model": name},
        {**good, "seed": [name]},
        {name: name},
    ]
    path.write_text(
        "\n".join([json.dumps(line) for line in [good, *hostile]]) + "\nno JSON" + stored_as(name)
    )
    for words in (
        ["ls", "--all-seeds"],
        ["stats", "--all-seeds"],
        ["verify", "--all-seeds"],
        ["copy", f"disk:{tmp_path / 'copy'}", "--all-seeds"],
    ):
        result = run(*words, "--url", f"jsonl:{path}")
        assert "Traceback" not in result.err
        assert_harmless(result.err)
        assert_harmless(result.out)
    result = run("import", str(path), "--url", f"disk:{tmp_path / 'into'}")
    assert result.status == 1
    assert_harmless(result.err)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        store = JsonlStore(path)
        for seed, named in store.names():
            try:
                store.reseed(seed).get(named)
            except Exception as error:
                assert_harmless(str(error), 1)
    for warning in told:
        assert_harmless(str(warning.message), 1)


@names
def test_no_error_warning_or_log_line_of_a_call_has_it(
    caplog: pytest.LogCaptureFixture, name: str
) -> None:
    @llm_cached
    def ask(prompt: str) -> str:
        return "fresh"

    caplog.set_level(logging.DEBUG, "cachewrap")
    cache = Cache.memory()
    with cache:
        ask("x")
    (own,) = cache.store.keys()
    for _, envelope in entries(name):
        cache.store.set(own, envelope)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with cache:
                ask("x")
            cache.store.set(own, envelope)
            with Cache(cache.store, mode="replay"):
                try:
                    ask("x")
                except ReplayMissError as error:
                    assert_harmless(str(error))
                    assert_harmless(str(error.__cause__), 1)
            try:
                Cache(cache.store).get(own)
            except MissingTypeError as error:
                assert_harmless(str(error), 1)
        for warning in told:
            assert issubclass(warning.category, CacheWarning)
            assert_harmless(str(warning.message))
    for record in caplog.records:
        assert_harmless(record.getMessage())


@names
def test_what_differs_is_told_harmlessly(name: str) -> None:
    cache = Cache.memory()
    fill(cache.store, name)
    cache.store.set("a" * 64, next(entries(name))[1])
    explanation = cache.explain({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
    assert_harmless(str(explanation))
    for near in explanation.nearest:
        for line in near.diff:
            assert_harmless(line, 1)


@names
def test_what_is_printable(name: str) -> None:
    assert_harmless(printable(name), 1)
    assert len(printable(name)) <= 200 * 10
    assert_harmless(str(CorruptEntryError(name)), 1)
    assert json.loads(json_line({name: [name]})) == {name: [name]}
    assert _BAD.search(json_line({name: [name]})) is None


def test_honest_text_stays_as_it_is() -> None:
    for text in ("gpt-4o", "prog:Answer.Inner", "é 日本語 🎉", "a" * 200):
        assert printable(text) == text
