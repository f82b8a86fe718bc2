"""`scrub=`: what is stored is without what a function of the user's takes out of every text."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from cachewrap import Cache, ConfigurationError, ReplayMissError, llm_cached
from cachewrap.call.scrub import scrubbed, scrubbed_request
from cachewrap.entry import HttpAnswer, Items, Kind
from cachewrap.format import codec
from cachewrap.request.key import decode_request, encode

NAME = "Anna Meier"


def nameless(text: str) -> str:
    return re.sub(r"Anna Meier|C-\d{4}", "(name)", text)


@dataclasses.dataclass
class Order:
    customer: str
    lines: list[str]
    on: date = date(2026, 1, 2)


class Mood(Enum):
    GOOD = NAME


# -- functions -------------------------------------------------------------------------------------

ANSWERS: dict[str, tuple[Any, Any]] = {
    "text": (f"Dear {NAME},", "Dear (name),"),
    "JSON": ({"to": NAME, "n": [1, None]}, {"to": "(name)", "n": [1, None]}),
    "a name in a dictionary": ({NAME: 1}, {"(name)": 1}),
    "a tuple": ((NAME, 2), ("(name)", 2)),
    "keys that are no text": ({1: NAME, 2: "x"}, {1: "(name)", 2: "x"}),
    "an object": (Order(NAME, ["C-1234"]), Order("(name)", ["(name)"])),
    "a path": (Path("/home") / NAME, Path("/home/(name)")),
    "half a surrogate": (f"{NAME}\udcff", "(name)\udcff"),
    "what holds no text": ([date(2026, 1, 2), 1.5, b"Anna Meier"],) * 2,
    "a member of an enum": (Mood.GOOD, Mood.GOOD),
}


@pytest.mark.parametrize(("answer", "clean"), ANSWERS.values(), ids=ANSWERS)
def test_a_miss_returns_what_a_hit_returns(tmp_path: Path, answer: Any, clean: Any) -> None:
    path = tmp_path / "a.jsonl"

    @llm_cached(version=1)
    def ask(prompt: str) -> Any:
        assert prompt == f"Who is {NAME}?"
        return answer

    with Cache.jsonl(path, scrub=nameless) as cache:
        assert [ask(f"Who is {NAME}?"), ask(f"Who is {NAME}?")] == [clean, clean]
        assert (cache.stats.misses, cache.stats.hits) == (1, 1)
    if answer is not Mood.GOOD:  # a member is a name of the program's
        assert NAME not in path.read_text()
    assert "Who is (name)?" in path.read_text()


def test_the_key_is_that_of_the_request_as_it_was_asked(tmp_path: Path) -> None:
    @llm_cached(version=1)
    def ask(prompt: str) -> str:
        return prompt.upper()

    with Cache.jsonl(tmp_path / "a.jsonl", scrub=nameless) as cache:
        ask("C-1111")
        ask("C-2222")
        assert cache.stats.misses == 2
    with Cache.jsonl(tmp_path / "a.jsonl", mode="replay"):
        assert ask("C-1111") == "(name)"


def test_items_of_a_generator_are_scrubbed_over_their_ends(tmp_path: Path) -> None:
    @llm_cached(version=1)
    def words() -> Iterator[Any]:
        yield from ("Dear An", "na Mei", "er!")
        yield {"to": NAME}

    path = tmp_path / "a.jsonl"
    with Cache.jsonl(path, scrub=nameless):
        assert "".join(list(words())[:3]) == f"Dear {NAME}!"  # it comes as it is
        again = list(words())
    assert ("".join(again[:3]), again[3]) == ("Dear (name)!", {"to": "(name)"})
    assert "na Mei" not in path.read_text()


def test_values_that_people_store_are_scrubbed() -> None:
    with Cache.memory(scrub=nameless) as cache:
        cache.set("k", {"to": NAME})
        assert cache.get("k") == {"to": "(name)"}


def test_a_miss_is_compared_as_it_would_be_stored() -> None:
    @llm_cached(version=1)
    def ask(prompt: str, temperature: float = 0.0) -> str:
        return prompt

    with Cache.memory(scrub=nameless) as cache:
        ask(NAME)
        with cache.mode("replay"), pytest.raises(ReplayMissError) as miss:
            ask(NAME, temperature=1.0)
        near = cache.explain(ask, NAME, temperature=2.0).nearest[0]
    assert miss.value.diff == ("temperature: 0.0 → 1.0",)
    assert near.diff == ("temperature: 0.0 → 2.0",)


def test_what_is_the_same_once_it_is_scrubbed_is_told_to_be() -> None:
    with Cache.memory(scrub=nameless) as cache:

        @llm_cached(version=1)
        def ask(prompt: str) -> str:
            return prompt

        ask("C-1111")
        told = str(cache.explain(ask, "C-2222"))
    assert "or it differs in what scrub= takes out" in told


def test_a_key_that_is_scrubbed_is_no_key() -> None:
    with Cache.memory(scrub=nameless) as cache:
        cache.set(NAME, 1)
        cache.set("plain", 2)
        keys = set(cache.keys())
        assert "plain" in keys
        assert "(name)" not in keys
        assert cache.get(NAME) == 1


def boom(text: str) -> str:
    raise LookupError(text)


WRONG = {
    "raises": (boom, "scrub= of the cache raised LookupError"),
    "returns nothing": (lambda text: None, "gave NoneType in place of a text"),
    "returns bytes": (str.encode, "gave bytes in place of a text"),
    "makes two names one": (lambda text: re.sub("a|b", "x", text), "the same text"),
}


@pytest.mark.parametrize(("scrub", "told"), WRONG.values(), ids=WRONG)
def test_nothing_is_stored_where_the_function_is_wrong(scrub: Any, told: str) -> None:
    @llm_cached(version=1)
    def ask() -> dict[str, int]:
        return {"a": 1, "b": 2}

    with Cache.memory(scrub=scrub) as cache:
        with pytest.raises(ConfigurationError, match=told):
            ask()
        assert list(cache.keys()) == []


def test_an_option_that_is_no_function_is_told() -> None:
    with pytest.raises(ConfigurationError, match="scrub takes a function of one text"):
        Cache.memory(scrub="names")  # type: ignore[arg-type]


def test_a_plain_hit_asks_the_function_nothing() -> None:
    asked: list[str] = []

    def noted(text: str) -> str:
        asked.append(text)
        return text

    @llm_cached(version=1)
    def ask() -> str:
        return "yes"

    with Cache.memory(scrub=noted):
        ask()
        asked.clear()
        ask()
    assert asked == []


# -- HTTP answers ----------------------------------------------------------------------------------

JSON = [("content-type", "application/json")]
EVENTS = [("content-type", "text/event-stream; charset=utf-8")]


def clean(headers: list[tuple[str, str]], *chunks: bytes) -> HttpAnswer:
    delays = [0.1 * n for n, _ in enumerate(chunks)] if len(chunks) > 1 else []
    answer = HttpAnswer(200, headers, list(chunks), delays, len(chunks) > 1)
    return codec.decode(Kind.HTTP, scrubbed(nameless, *codec.encode(answer), b"")[0])


def event(**choice: Any) -> bytes:
    return b"data: " + json.dumps({"id": "c-1", "choices": [choice]}).encode() + b"\n\n"


def said(answer: HttpAnswer) -> str:
    lines = b"".join(answer.chunks).decode().splitlines()
    events = [json.loads(line[5:]) for line in lines if line and "[DONE]" not in line]
    return "".join(each["choices"][0]["delta"]["content"] for each in events)


@pytest.mark.parametrize("indent", [None, 2, 3], ids=["one line", "indented", "an odd style"])
def test_json_keeps_its_style_where_a_cassette_knows_it(indent: int | None) -> None:
    text = json.dumps({"choices": [{"message": {"content": f"Dear {NAME}"}}]}, indent=indent)
    body = clean(JSON, text.encode()).chunks[0]
    expected = text.replace(NAME, "(name)")
    assert json.loads(body) == json.loads(expected)
    assert body.decode() == expected or indent == 3


def test_a_stream_is_scrubbed_over_its_events() -> None:
    parts = ["Dear ", "Anna", " Mei", "er, C-", "12", "34 is yours"]
    answer = clean(
        EVENTS, *[event(index=0, delta={"content": part}) for part in parts], b"data: [DONE]\n\n"
    )
    assert said(answer) == "Dear (name), (name) is yours"
    assert answer.chunks[-1] == b"data: [DONE]\n\n"
    assert len(answer.delays) == len(answer.chunks) == 7
    assert answer.delays == sorted(answer.delays)


def test_choices_of_a_stream_are_kept_apart() -> None:
    chunks = [
        event(index=n, delta={"content": part}) for part in ("Anna", " Meier") for n in (0, 1)
    ]
    body = b"".join(clean(EVENTS, *chunks).chunks)
    assert (b"Anna" in body, body.count(b"(nam"), body.count(b'"id": "c-1"')) == (False, 2, 4)


def test_a_stream_that_is_cut_within_an_event() -> None:
    whole = event(index=0, delta={"content": "Anna Meier ü"}) + b"data: [DONE]\n\n"
    answer = clean(EVENTS, whole[:50], whole[50:])
    assert said(answer) == "(name) ü"


def test_lines_of_json_are_scrubbed_over_their_ends() -> None:
    lines = [json.dumps({"message": {"content": c}}).encode() + b"\n" for c in ("An", "na Meier")]
    body = b"".join(clean([("content-type", "application/x-ndjson")], *lines).chunks)
    assert [json.loads(line)["message"]["content"] for line in body.splitlines()] == ["(n", "ame)"]


def test_what_is_unchanged_stays_as_it_came() -> None:
    chunks = [b'data: {"a" :1}\n', b"\ndata: x\n\n"]
    assert clean(EVENTS, *chunks).chunks == chunks


def test_bytes_that_are_no_text_stay() -> None:
    assert clean([("content-type", "audio/mpeg")], b"\xff\x00Anna Meier").chunks[0][:1] == b"\xff"


def test_headers_are_scrubbed() -> None:
    assert clean([*JSON, ("x-for", NAME)], b"{}").headers == [*JSON, ("x-for", "(name)")]


def test_a_stream_that_cannot_be_looked_into_is_not_stored() -> None:
    frames = [("content-type", "application/vnd.amazon.eventstream")]
    with pytest.raises(ConfigurationError, match="cannot see into a stream"):
        clean(frames, b"\x00\x00")


def test_an_answer_that_would_be_none_is_not_stored() -> None:
    items = codec.encode(Items([codec.encode({"a": "x"})], [0.0], codec.encode(None)))
    with pytest.raises(ConfigurationError):
        scrubbed(lambda text: 1, *items, b"")  # type: ignore[arg-type, return-value]


# -- what hides ------------------------------------------------------------------------------------

HIDES: dict[str, tuple[str, bytes]] = {
    "another encoding": ("text/plain; charset=latin-1", "Anna Meier é".encode("latin-1")),
    "another encoding that is not told": ("text/plain", "Anna Meier é".encode("latin-1")),
    "UTF-16": ("application/json", '{"a": "Anna Meier"}'.encode("utf-16")),
    "an unknown encoding": ("text/plain; charset=nope", "Anna Meier é".encode("latin-1")),
    "escapes behind white space": ("application/json", b'\n {"a": "\\u0041nna Meier"}'),
    "escapes behind a byte order mark": ("text/json", b'\xef\xbb\xbf{"a": "\\u0041nna Meier"}'),
    "escapes in JSON in a text": ("application/json", rb'{"a": "{\"n\": \"\\u0041nna Meier\"}"}'),
    "escapes in a text alone": ("application/json", b'"\\u0041nna Meier"'),
    "a comment of a stream": ("text/event-stream", b": Anna Meier\n\ndata: {}\n\n"),
    "a name that no API has": ("application/json", b'{"result": {"Anna Meier": 1}}'),
    "a name of a tool's": ("application/json", b'{"input": {"C-1234": 1}}'),
    "a name with $": ("application/json", b'{"input": {"$x": "Anna Meier"}}'),
    "a name with !": ("application/json", b'{"input": {"!str": "Anna Meier"}}'),
    "a name twice": ("application/json", b'{"a": "Anna Meier", "a": "x"}'),
    "half a surrogate": ("application/json", b'{"a":  "Anna Meier\\ud800"}'),
    "what is no number": ("application/json", b'{"a":  "Anna Meier", "b": NaN}'),
    "a list of parts": ("application/json", b'[{"text": "Anna"}, {"text": " Meier"}]'),
}


@pytest.mark.parametrize(("kind", "body"), HIDES.values(), ids=HIDES)
def test_nothing_hides_in_an_answer(kind: str, body: bytes) -> None:
    told = b"".join(clean([("content-type", kind)], body).chunks)
    left = told.replace(b"\x00", b"").replace(b"\\u0041", b"A").replace(b"\\\\u0041", b"A")
    assert not any(name in left for name in (b"Anna", b"Meier", b"C-1234"))
    assert b"(na" in left or b'"x"' in left


VALUES: dict[str, tuple[Any, Any]] = {
    "a name with $": ({"$x": NAME}, {"$x": "(name)"}),
    "a name that is a mark": ([{"$bytes": NAME}], [{"$bytes": "(name)"}]),
    "a name with $ that is scrubbed": ({f"${NAME}": 1}, {"$(name)": 1}),
    "a name with !": ({"!str": NAME}, {"!str": "(name)"}),
    "a pattern": (re.compile(NAME), re.compile("(name)")),
    "JSON in a text": ('{"to": "\\u0041nna Meier"}', '{"to":"(name)"}'),
    "JSON in JSON in a text": (
        json.dumps({"a": json.dumps(["\u00fc", NAME])}),
        json.dumps({"a": json.dumps(["\u00fc", "(name)"])}),
    ),
}


@pytest.mark.parametrize(("answer", "clean"), VALUES.values(), ids=VALUES)
def test_nothing_hides_in_a_value(answer: Any, clean: Any) -> None:
    encoded = codec.encode(answer)
    assert codec.decode(encoded[0], scrubbed(nameless, *encoded, b"")[0]) == clean


def test_json_in_a_text_stays_json() -> None:
    def greedy(text: str) -> str:
        return re.sub(r"Anna.*|\b4\d{15}\b", '"it"', text)

    text = json.dumps({"to": f"{NAME}, Ulm", "card": 4111111111111111, "n": 2})
    kind, answer = codec.encode(text)
    assert json.loads(scrubbed(greedy, kind, answer, b"")[0]) == {
        "to": '"it"',
        "card": '"it"',
        "n": 2,
    }


def test_objects_in_a_request_are_scrubbed(tmp_path: Path) -> None:
    @llm_cached(version=1)
    def ask(*things: Any) -> str:
        return "yes"

    path = tmp_path / "a.jsonl"
    with Cache.jsonl(path, scrub=nameless):
        ask({"$ref": NAME}, {"!x": NAME}, re.compile(NAME), Order(NAME, []), [NAME])
    assert "(name)" in path.read_text()
    assert "Anna" not in path.read_text()


def test_the_state_of_an_object_in_a_request_is_scrubbed() -> None:
    tagged = {"!object": ["shop:Desk", {"clerk": NAME, "orders": {NAME: 1}}]}
    request = encode({"function": "f", "arguments": {"self": tagged}})
    told = decode_request(scrubbed_request(nameless, request))
    assert told["arguments"]["self"] == {
        "!object": ["shop:Desk", {"clerk": "(name)", "orders": {"(name)": 1}}]
    }


def test_a_part_of_a_text_is_not_taken_for_all_of_it() -> None:
    def addresses(text: str) -> str:
        return re.sub(r"[\w.]+@\w+(?:\.\w+)+", "(address)", text)

    parts = ["Ask anna.meier@firm.co", "m.uk now"]
    stream = HttpAnswer(
        200, EVENTS, [event(index=0, delta={"content": part}) for part in parts], [0.0, 0.1], True
    )
    stored = scrubbed(addresses, *codec.encode(stream), b"")[0]
    assert said(codec.decode(Kind.HTTP, stored)) == "Ask (address) now"


def test_names_of_files_and_models_are_scrubbed() -> None:
    named = ("content-disposition", f"attachment; filename={NAME}.pdf")
    assert NAME not in str(clean([*JSON, named], b"{}").headers)
