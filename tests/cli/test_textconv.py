"""`cachewrap textconv`: a cassette as lines of text that git compares."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cachewrap import Cache, llm_cached
from cachewrap.cli.textconv import command
from cachewrap.entry import Facts, HttpAnswer
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.request.key import encode
from cachewrap.same import ignore


def shown(path: Path) -> list[str]:
    done = CliRunner().invoke(command, [str(path)])
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


@pytest.fixture
def cassette(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


@llm_cached(version=1)
def ask(prompt: str, answer: object) -> object:
    return answer


def without_heads(lines: list[str]) -> list[str]:
    return [line for line in lines if not line.startswith("══")]


def test_a_text_is_shown_line_by_line(cassette: Path) -> None:
    with Cache.jsonl(cassette) as cache:
        ask("Hi", "Dear customer,\n\nit comes on Monday.")
        key = ask.cache_key("Hi", "Dear customer,\n\nit comes on Monday.")
        assert cache.get(key)
    lines = shown(cassette)
    assert lines[0].startswith("══ ")
    assert lines[0].endswith(key[:12])
    assert lines[-4:] == ["Dear customer,", "", "it comes on Monday.", ""]


def test_the_rules_that_changed_a_request_are_named(cassette: Path) -> None:
    with Cache.jsonl(cassette, same=[ignore("answer"), ignore("none")]):
        ask("Hi", "Ho")
    lines = shown(cassette)
    assert lines[1] == "version: 1"
    assert lines[2] == 'by rule: ignore("answer")'


def test_json_has_a_line_for_each_value(cassette: Path) -> None:
    with Cache.jsonl(cassette, 7):
        ask("Hi", {"a": "x", "b": [1]})
        ask("Ho", '{"c":1}')
    lines = shown(cassette)
    assert '  "a": "x",' in lines
    assert '  "c": 1' in lines
    assert "seed 7" in lines[0]


def test_a_stream_is_joined_and_says_nothing_of_times_and_ids(cassette: Path) -> None:
    def recorded(*words: str, number: int = 1) -> list[str]:
        events = [
            {"id": str(number), "choices": [{"index": 0, "delta": {"content": word}}]}
            for word in words
        ]
        chunks = [f"data: {json.dumps(event)}\n\n" for event in events]
        headers = [("content-type", "text/event-stream"), ("x-request-id", str(number))]
        body = [chunk.encode() for chunk in chunks]
        answer = HttpAnswer(200, headers, body, [0.1 * number] * len(body), True)
        said = [{"role": "user", "content": "Hi"}]
        request = {"method": "POST", "url": "https://a/v1/chat", "body": {"messages": said}}
        facts = Facts(created=number, seconds=number, source="POST /chat", model="m")
        with Cache.jsonl(cassette) as cache:
            cache.store.set("0" * 64, seal(*codec.encode(answer), encode(request), facts))
        return shown(cassette)

    first = recorded("Grüß", " dich")
    assert without_heads(first) == ["── user", "Hi", "── assistant", "Grüß dich", ""]
    assert recorded("Grüß d", "ich", number=2) == first


def test_what_is_no_entry_is_shown_as_it_is(cassette: Path) -> None:
    with Cache.jsonl(cassette):
        ask("Hi", "yes")
    cassette.write_text(cassette.read_text() + '{"key": 1}\n<<<<<<< ours\n\x1b[31m\n')
    lines = shown(cassette)
    assert lines[-3:-1] == ['{"key": 1}', "<<<<<<< ours"]
    assert "\x1b" not in lines[-1]


def test_a_file_that_is_empty_or_not_there(cassette: Path) -> None:
    cassette.write_text("")
    assert shown(cassette) == []
    assert CliRunner().invoke(command, ["nowhere.jsonl"]).exit_code == 2
