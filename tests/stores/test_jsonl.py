"""The JSONL store: what a line says, what comes back of it, and what happens to the file."""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
import os
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import elsewhere
import kinds
import msgspec
import pytest
from examples_tried import many
from hypothesis import given, settings, strategies as st
from unit.format.test_envelope import HTTP, ITEMS, LONG, REQUEST
from unit.test_properties import HOSTILE, JSON, VALUES as ANY_VALUES

from cachewrap import Cache, CacheWarning, ConfigurationError, StoreError, llm_cached, systems
from cachewrap.entry import Facts, HttpAnswer, Items, Kind
from cachewrap.format import codec
from cachewrap.format.aliases import Alias
from cachewrap.format.envelope import seal, unseal
from cachewrap.request import key
from cachewrap.request.canonical import canonical_json
from cachewrap.stores.jsonl import JsonlStore, lines
from cachewrap.stores.jsonl.lines import Parts
from cachewrap.testing.stores import key_of

pytestmark = pytest.mark.stores("jsonl")

FACTS = Facts(1763868384.1234567, 0.25, 0.0, "m:f", "gpt", 7, 9)
KEY = key_of(1)
GOLDEN = Path(__file__).parents[1] / "golden" / "cassette-1.jsonl"


def sealed(value: object, facts: Facts = FACTS, request: bytes = REQUEST) -> bytes:
    return seal(*codec.encode(value), request, facts)


def http(body: bytes, **headers: str) -> HttpAnswer:
    return HttpAnswer(200, list(headers.items()), [body], [])


def line_of(envelope: bytes) -> dict[str, Any]:
    return dict(json.loads(lines.write(KEY, "41", envelope)))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()[1:]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cassettes" / "answers.jsonl"


@pytest.fixture
def jsonl(path: Path) -> JsonlStore:
    return JsonlStore(path)


# -- what comes back is what was written -----------------------------------------------------------


@pytest.mark.parametrize("name", kinds.VALUES)
def test_a_value_of_every_kind_comes_back(name: str) -> None:
    envelope = sealed(kinds.VALUES[name])
    assert lines.read(lines.write(KEY, "41", envelope)) == envelope


CHUNKS = st.lists(st.binary(max_size=20) | JSON.map(lambda value: json.dumps(value).encode()))
DELAYS = st.lists(st.floats(0, 100).map(lambda delay: round(delay, 4)), max_size=4)
HEADERS = st.lists(st.tuples(st.text(st.characters(codec="utf-8"), max_size=5), st.just("x")))
PACKED = ANY_VALUES.map(codec.encode)
BODIES = st.one_of(
    st.binary(max_size=50),
    st.tuples(JSON, st.sampled_from([None, 2]), st.sampled_from(["", "\n", " "])).map(
        lambda given: (json.dumps(given[0], indent=given[1]) + given[2]).encode()
    ),
    st.lists(JSON.map(lambda value: f"data: {json.dumps(value)}\n\n")).map(
        lambda events: "".join([*events, "data: [DONE]\n\n"]).encode()
    ),
)
ANSWERS = st.one_of(
    ANY_VALUES,
    st.builds(HttpAnswer, st.integers(0, 999), HEADERS, CHUNKS, DELAYS, st.booleans()),
    BODIES.map(http),
    st.builds(Items, st.lists(PACKED, max_size=4), DELAYS, PACKED),
).map(codec.encode)
# Bytes that no codec has given are kept as well: judging them is for whoever opens the entry.
RAW = st.tuples(st.sampled_from(Kind), st.binary(max_size=60)) | HOSTILE.map(
    lambda tree: (Kind.VALUE, b"\x01" + msgspec.msgpack.encode(tree))
)
FLOATS = st.floats(0, 4e9) | st.sampled_from([0.0, math.inf, 1e300, 253402300800.0])
FACTS_OF_ANY_KIND = st.builds(
    Facts,
    created=FLOATS,
    seconds=st.floats(0, 1e6, width=32),
    expires=FLOATS,
    source=st.text(st.characters(codec="utf-8"), max_size=5),
    model=st.text(st.characters(codec="utf-8"), max_size=5),
    tokens_in=st.integers(0, 2**32 - 1),
    tokens_out=st.integers(0, 2**32 - 1),
)
REQUESTS = JSON.map(canonical_json).map(key.encode) | st.just(b"") | st.binary(max_size=40)


@given(ANSWERS | RAW, REQUESTS, FACTS_OF_ANY_KIND)
@settings(max_examples=many(600), deadline=None)
def test_every_envelope_comes_back(answer: Any, request: bytes, facts: Facts) -> None:
    envelope = seal(*answer, request, facts)
    line = lines.write(KEY, "41", envelope)
    assert b"\n" not in line
    back = lines.read(line)
    assert Parts.of(back) == Parts.of(envelope) or back == envelope


@given(st.binary(max_size=200))
@settings(max_examples=many(300), deadline=None)
def test_what_is_no_envelope_comes_back_as_well(raw: bytes) -> None:
    assert lines.read(lines.write(KEY, "41", raw)) == raw


@given(BODIES)
@settings(max_examples=many(400), deadline=None)
def test_a_body_comes_back_byte_for_byte(body: bytes) -> None:
    answer = codec.decode(*_kind_and_answer(lines.read(lines.write(KEY, "", sealed(http(body))))))
    assert b"".join(answer.chunks) == body


def _kind_and_answer(envelope: bytes) -> tuple[Kind, bytes]:
    entry = unseal(envelope)
    return entry.kind, entry.answer


# -- what a line says ------------------------------------------------------------------------------


def test_a_line_names_its_facts() -> None:
    line = line_of(sealed("because"))
    assert list(line.items()) == [
        ("key", KEY),
        ("seed", "41"),
        ("source", "m:f"),
        ("model", "gpt"),
        ("request", {"prompt": "why?" * 100}),
        ("kind", "text"),
        ("answer", "because"),
        ("tokens", [7, 9]),
        ("seconds", 0.25),
        ("created", "2025-11-23T03:26:24.1234567Z"),
    ]


def test_an_expiry_is_named() -> None:
    assert line_of(sealed("", Facts(1.0, 1.0, 2.5)))["expires"] == "1970-01-01T00:00:02.5Z"


BODIES_SHOWN: dict[bytes, dict[str, Any]] = {
    b'{"id":1,"text":"\xc3\xbc"}': {"json": {"id": 1, "text": "ü"}},
    b'{"id": 1}': {"json": {"id": 1}, "style": "spaced"},
    b'{\n  "id": "\\u00fc"\n}\n': {"json": {"id": "ü"}, "style": "indented ascii", "end": "\n"},
    b'{"a":1.0,"b":1.50}': {"text": '{"a":1.0,"b":1.50}'},
    b'{"a":1,"a":2}': {"text": '{"a":1,"a":2}'},
    b'{"a":NaN}': {"text": '{"a":NaN}'},
    b"plain": {"text": "plain"},
    b"\xff\xfe": {"base64": "//4="},
    b'data: {"a":1}\n\ndata: [DONE]\n\n': {"events": [{"data": {"a": 1}}, {"data": "[DONE]"}]},
    b'event: done\ndata: {"a": 1}\n\n': {
        "events": [{"event": "done", "data": {"a": 1}}],
        "style": "spaced",
    },
    b'data: {"a":1}\n': {"text": 'data: {"a":1}\n'},
}


@pytest.mark.parametrize("body", BODIES_SHOWN)
def test_a_body_is_shown_as_json_where_that_gives_its_bytes_back(body: bytes) -> None:
    answer = line_of(sealed(http(body)))["answer"]
    assert answer == {"status": 200, "headers": {}, **BODIES_SHOWN[body]}


def test_a_stream_is_shown_with_its_timing() -> None:
    assert line_of(sealed(HTTP))["answer"] == {
        "status": 200,
        "headers": {"content-type": "text/event-stream"},
        "streamed": True,
        "chunks": [{"events": [{"data": "1"}]}, {"text": ""}],
        "delays": [0.1, 0.2],
    }


def test_headers_of_one_name_are_pairs() -> None:
    answer = HttpAnswer(200, [("via", "a"), ("via", "b")], [], [])
    assert line_of(sealed(answer))["answer"]["headers"] == [["via", "a"], ["via", "b"]]


VALUES_SHOWN: list[tuple[object, Any]] = [
    ({"a": [1, None]}, {"value": {"a": [1, None]}}),
    ((1, 2), {"tagged": {"!tuple": [1, 2]}}),
    (b"\0", {"value": {"$bytes": "AA=="}}),
    ([math.inf], {"tagged": [{"!float": "inf"}]}),
    ({"$bytes": "x"}, {"value": {"$dict": {"$bytes": "x"}}}),
    ("text", "text"),
    (
        ITEMS,
        {
            "items": ["a", {"tagged": {"!tuple": [1, 2.5]}}],
            "returned": {"value": None},
            "delays": [0.0, 0.5],
        },
    ),
]


@pytest.mark.parametrize(("value", "shown"), VALUES_SHOWN)
def test_a_value_is_shown_as_its_tree(value: object, shown: Any) -> None:
    assert line_of(sealed(value))["answer"] == shown


def test_text_that_is_no_unicode_is_ascii_in_its_line() -> None:
    line = lines.write(KEY, "41", sealed({"a": "\ud800"}))
    assert line.isascii()


def test_an_encrypted_entry_is_opaque(path: Path) -> None:
    with Cache.jsonl(path, encryption_key=b"k" * 32) as cache:
        cache.set("greeting", "hello")
        assert cache.get("greeting") == "hello"
    (line,) = lines_of(path)
    assert list(line) == ["key", "seed", "kind", "answer"]
    assert line["kind"] == "sealed"


# -- the order of lines ----------------------------------------------------------------------------


def order_of(path: Path) -> list[str]:
    return [line["answer"] for line in lines_of(path)]


def test_nothing_is_written_before_the_first_answer(jsonl: JsonlStore, path: Path) -> None:
    jsonl.check()
    jsonl.get(KEY)
    jsonl.close()
    assert not path.parent.exists()


def test_new_lines_stand_behind(jsonl: JsonlStore, path: Path) -> None:
    for name in "bca":
        jsonl.add(key_of(name), sealed(name))
    jsonl.close()
    assert order_of(path) == ["b", "c", "a"]


def test_a_replaced_line_stays_in_its_place(jsonl: JsonlStore, path: Path) -> None:
    for name in "abc":
        jsonl.add(key_of(name), sealed(name))
    jsonl.set(key_of("b"), sealed("new b"))
    jsonl.close()
    assert order_of(path) == ["a", "new b", "c"]


def test_a_replacement_is_in_the_file_before_it_is_closed(jsonl: JsonlStore, path: Path) -> None:
    jsonl.add(KEY, sealed("old"))
    jsonl.set(KEY, sealed("new"))
    assert order_of(path) == ["old", "new"]
    assert JsonlStore(path).get(KEY) == sealed("new")


def test_new_lines_stand_in_the_order_in_which_they_were_looked_up(
    jsonl: JsonlStore, path: Path
) -> None:
    jsonl.add(key_of("first"), sealed("first"))
    for name in "abc":
        jsonl.get(key_of(name))
    for name in "cab":
        jsonl.add(key_of(name), sealed(name))
    jsonl.close()
    assert order_of(path) == ["first", "a", "b", "c"]


@pytest.mark.parametrize("turn", range(3))
def test_answers_that_come_in_any_order_are_recorded_in_the_order_of_the_calls(
    path: Path, turn: int
) -> None:
    @llm_cached(version=1)
    async def ask(number: int) -> str:
        await asyncio.sleep((number + turn) % 3 / 100)
        return str(number)

    async def main() -> None:
        async with Cache.jsonl(path):
            await asyncio.gather(*(ask(number) for number in range(6)))

    asyncio.run(main())
    assert order_of(path) == [str(number) for number in range(6)]


# -- recording anew --------------------------------------------------------------------------------

BODY = b'{"id":"x"}'
RECORDINGS: dict[str, tuple[object, object, Facts, bool]] = {
    "the same": ("a", "a", FACTS, True),
    "later, and slower": ("a", "a", Facts(9.0, 9.0, 0.0, "m:f", "gpt", 7, 9), True),
    "another answer": ("a", "b", FACTS, False),
    "other tokens": ("a", "a", Facts(9.0, 9.0, 0.0, "m:f", "gpt", 7, 8), False),
    "another model": ("a", "a", Facts(9.0, 9.0, 0.0, "m:f", "gpt-2", 7, 9), False),
    "an expiry": ("a", "a", Facts(9.0, 9.0, 99.0, "m:f", "gpt", 7, 9), False),
    "another date": (http(BODY, date="monday"), http(BODY, date="tuesday"), FACTS, True),
    "another request id": (
        http(BODY, **{"x-request-id": "1", "cf-ray": "1", "x-ratelimit-remaining-tokens": "1"}),
        http(BODY, **{"x-request-id": "2", "cf-ray": "2", "x-ratelimit-remaining-tokens": "2"}),
        FACTS,
        True,
    ),
    "another header": (http(BODY, via="a"), http(BODY, via="b"), FACTS, False),
    "another id in the body": (http(BODY), http(b'{"id":"y"}'), FACTS, False),
    "another timing": (
        HTTP,
        HttpAnswer(200, HTTP.headers, [b"data: ", b"1\n\n"], [1.0, 2.0], True),
        FACTS,
        True,
    ),
    "another timing of items": (
        ITEMS,
        Items(ITEMS.values, [5.0, 6.0], ITEMS.returned),
        FACTS,
        True,
    ),
}


@pytest.mark.parametrize(("old", "new", "facts", "stays"), RECORDINGS.values(), ids=RECORDINGS)
def test_a_new_recording_that_says_the_same_changes_nothing(
    jsonl: JsonlStore, path: Path, old: object, new: object, facts: Facts, stays: bool
) -> None:
    jsonl.set(KEY, sealed(old))
    before = path.read_bytes()
    jsonl.set(KEY, sealed(new, facts))
    jsonl.close()
    assert (path.read_bytes() == before) is stays


# -- files that people and programs have touched ---------------------------------------------------


def test_an_edited_answer_is_served(path: Path) -> None:
    with Cache.jsonl(path) as cache:
        cache.set("greeting", "hello")
    path.write_text(path.read_text().replace('"answer": "hello"', '"answer": "good day"'))
    assert Cache.jsonl(path).get("greeting") == "good day"


@pytest.mark.parametrize(
    "bad", ["{", "[]", "<<<<<<< HEAD", '{"key": 5, "seed": "41"}', "{}", "\x80", '{"answer": "x"}']
)
def test_a_line_that_is_no_entry_is_named_and_kept(path: Path, bad: str) -> None:
    store = JsonlStore(path)
    store.add(key_of("a"), sealed("a"))
    with path.open("a", encoding="latin-1") as file:
        file.write(bad + "\n")
    with pytest.warns(CacheWarning, match=r"answers\.jsonl, line 3: not an entry"):
        assert store.get(key_of("a")) == sealed("a")
    store.add(key_of("b"), sealed("b"))
    store.set(key_of("a"), sealed("c"))
    store.close()
    assert path.read_bytes().splitlines()[2] == bad.encode("latin-1")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"kind": "poem"}, "no 'poem'"),
        ({"answer": 5}, "of the kind text is text"),
        ({"created": "yesterday"}, "not a time"),
        ({"request": {"$bytes": "?"}}, ""),
        ({"kind": "http", "answer": {"status": 200}}, "no 'headers'"),
        ({"kind": "value", "answer": {"value": {"$nonsense": 1}}}, "the unknown mark"),
        ({"tokens": [1]}, ""),
        ({"tokens": ["many", 1]}, ""),
    ],
)
def test_an_entry_that_cannot_be_read_is_named_and_the_others_are_served(
    path: Path, wrong: dict[str, Any], why: str
) -> None:
    store = JsonlStore(path)
    store.add(KEY, sealed("good"))
    store.add(key_of("bad"), sealed("bad"))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], json.dumps({**json.loads(lines[2]), **wrong})]))
    with pytest.raises(StoreError, match=rf"answers\.jsonl, line 3: the entry cannot be.*{why}"):
        store.get(key_of("bad"))
    assert store.get(KEY) == sealed("good")


@pytest.mark.parametrize("behind", ["", "\n", "<<<<<<< HEAD\n"])
@pytest.mark.filterwarnings("ignore::cachewrap.CacheWarning")
def test_an_entry_that_cannot_be_read_is_named_whatever_stands_behind_it(
    path: Path, behind: str
) -> None:
    store = JsonlStore(path)
    store.add(KEY, sealed("good"))
    path.write_text(path.read_text().replace('"kind": "text"', '"kind": "a poem"') + behind)
    with pytest.raises(StoreError, match=r"answers\.jsonl, line 2: the entry cannot be read"):
        store.get(KEY)


def test_an_entry_that_cannot_be_read_is_replaced_by_set_alone(path: Path) -> None:
    store = JsonlStore(path)
    store.add(KEY, sealed("good"))
    # Of another length: some file systems take two writes within a few ms for one moment.
    path.write_text(path.read_text().replace('"kind": "text"', '"kind": "a poem"'))
    with pytest.raises(StoreError, match="Mend the line"):
        store.add(KEY, sealed("new"))
    store.set(KEY, sealed("new"))
    assert store.get(KEY) == sealed("new")


@pytest.mark.parametrize("ending", ["\r\n", "\n\n", "\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_breaks_and_byte_order_marks_of_editors_are_read(
    path: Path, ending: str, mark: str
) -> None:
    store = JsonlStore(path)
    store.add(KEY, sealed("a"))
    text = path.read_text()
    path.write_bytes((mark + text.replace("\n", ending)).encode())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.get(KEY) == sealed("a")


def test_a_file_without_its_last_line_break_is_continued(path: Path) -> None:
    store = JsonlStore(path)
    store.add(key_of("a"), sealed("a"))
    path.write_text(path.read_text().rstrip())
    store.add(key_of("b"), sealed("b"))
    assert order_of(path) == ["a", "b"]


def test_the_last_of_two_lines_counts(path: Path) -> None:
    store = JsonlStore(path)
    store.add(KEY, sealed("old"))
    store.close()
    path.write_text(path.read_text() + lines.write(KEY, "41", sealed("new")).decode())
    assert store.get(KEY) == sealed("new")


def test_a_deleted_line_is_absent_at_once(path: Path) -> None:
    store = JsonlStore(path)
    store.add(key_of("a"), sealed("a"))
    store.add(key_of("b"), sealed("b"))
    path.write_text("\n".join(path.read_text().splitlines()[:2]) + "\n")
    assert (store.get(key_of("a")), store.get(key_of("b"))) == (sealed("a"), None)


def test_a_deleted_file_is_empty_and_made_anew(jsonl: JsonlStore, path: Path) -> None:
    jsonl.add(KEY, sealed("old"))
    path.unlink()
    assert jsonl.get(KEY) is None
    jsonl.add(KEY, sealed("new"))
    assert order_of(path) == ["new"]


def test_a_cassette_of_a_newer_version_is_refused(jsonl: JsonlStore, path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"cachewrap":"cassette","version":2}\n')
    with pytest.raises(StoreError, match=r"a cassette of version 2; this cachewrap reads"):
        jsonl.get(KEY)
    with pytest.raises(StoreError, match=r"a cassette of version 2"):
        jsonl.set(KEY, sealed("x"))


def test_a_cleared_file_is_removed_when_no_seed_has_lines(jsonl: JsonlStore, path: Path) -> None:
    jsonl.add(KEY, sealed("a"))
    other = jsonl.reseed("7")
    other.add(KEY, sealed("b"))
    assert jsonl.clear() == 1
    assert order_of(path) == ["b"]
    other.clear()
    assert not path.exists()


def test_a_folder_in_its_place_fails_the_check(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a file"):
        JsonlStore(tmp_path).check()


def test_a_file_in_the_way_fails_the_check(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="is not a folder"):
        JsonlStore(tmp_path / "file" / "answers.jsonl").check()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write everywhere"
)
def test_a_file_that_is_read_only_can_be_replayed(jsonl: JsonlStore, path: Path) -> None:
    jsonl.add(KEY, sealed("a"))
    path.chmod(0o400)
    with pytest.raises(StoreError, match="cannot be read and written"):
        jsonl.check()
    assert jsonl.get(KEY) == sealed("a")
    with pytest.raises(StoreError, match="cannot write"):
        jsonl.set(KEY, sealed("b"))


def test_permissions_and_links_are_kept(tmp_path: Path) -> None:
    real, link = tmp_path / "real.jsonl", tmp_path / "link.jsonl"
    store = JsonlStore(real)
    store.add(KEY, sealed("a"))
    real.chmod(0o640)
    link.symlink_to(real)
    other = JsonlStore(link)
    other.set(KEY, sealed("b"))
    other.close()
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert other.url == store.url
    assert order_of(real) == ["b"]


# -- several writers -------------------------------------------------------------------------------


def test_processes_that_write_one_file_lose_nothing(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=elsewhere.record, args=(path, writer, 30)) for writer in range(3)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    expected = {key_of((writer, number)) for writer in range(3) for number in range(30)}
    assert set(JsonlStore(path).keys()) == expected | {key_of("shared")}
    assert {path.name} == set(os.listdir(path.parent))


def test_a_writer_that_is_killed_leaves_every_answer_readable(path: Path) -> None:
    code = (
        "import sys; from stores.test_jsonl import *; "
        "store = JsonlStore(sys.argv[1])\n"
        "for number in range(10**6):\n"
        "    store.set(key_of(number % 7), sealed(str(number))); print(number, flush=True)\n"
        "    if number % 3 == 2: store.close()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 40:
            break
    child.kill()
    told = 40 + len(child.stdout.read().split())
    child.wait()
    child.stdout.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = JsonlStore(path)
        answers = [unseal(store.get(name) or b"").answer for name in store.keys()]
    assert len(answers) == 7
    assert max(int(answer) for answer in answers) >= told


def test_a_disk_that_is_full_leaves_the_file_as_it_was(
    jsonl: JsonlStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jsonl.add(key_of("a"), sealed("a"))
    before = path.read_bytes()
    real = os.write
    written: list[int] = []

    def write(file: int, data: bytes) -> int:
        if written:
            raise OSError(28, "No space left on device")
        written.append(real(file, data[:10]))
        return written[0]

    with monkeypatch.context() as patched:
        patched.setattr(systems.files, "write", write)
        with pytest.raises(StoreError, match="No space left"):
            jsonl.add(key_of("b"), sealed("b"))
    assert path.read_bytes() == before
    jsonl.add(key_of("b"), sealed("b"))
    assert order_of(path) == ["a", "b"]


def test_threads_that_replace_and_close_at_once_lose_nothing(path: Path) -> None:
    store = JsonlStore(path)

    def work(writer: int) -> None:
        for number in range(20):
            store.add(key_of((writer, number)), sealed(str(number)))
            store.set(key_of(writer), sealed(str(number)))
            store.close()

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(store.keys())) == 84


# -- as a cache ------------------------------------------------------------------------------------


def test_seeds_share_the_file(path: Path) -> None:
    with Cache.jsonl(path) as cache:
        cache.set("x", 1)
        cache.reseed(7).set("x", 2)
    assert [(line["seed"], line["answer"]) for line in lines_of(path)] == [
        ("41", {"value": 1}),
        ("7", {"value": 2}),
    ]


@pytest.mark.parametrize("url", ["jsonl:{}", "jsonl://{}"])
def test_a_url_of_a_cassette(path: Path, url: str) -> None:
    cache = Cache.from_url(url.format(path) + "?cache_seed=7&mode=replay")
    assert cache.url == f"jsonl://{path}?cache_seed=7"


@pytest.mark.parametrize("url", ["jsonl:", "jsonl:file?max_bytes=1"])
def test_a_url_that_cannot_be(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Cache.from_url(url)


# -- cassettes that were written once must be read for ever ----------------------------------------


def test_a_golden_cassette_is_read() -> None:
    store = JsonlStore(GOLDEN)
    names = [*kinds.VALUES, "http answer", "items", "long text"]
    values = {**kinds.VALUES, "http answer": HTTP, "items": ITEMS, "long text": LONG}
    for name in names:
        envelope = store.get(key_of(name))
        if envelope is None:
            continue  # a kind that is younger than the file
        assert kinds.same(codec.decode(*_kind_and_answer(envelope)), values[name])
        assert unseal(envelope).read_record() == {
            "request": REQUEST,
            "source": "m:f",
            "model": "gpt",
        }
    assert len(list(store.keys())) == 145


def test_a_golden_cassette_with_details_is_read() -> None:
    store = JsonlStore(GOLDEN.with_name("cassette-1-with-details.jsonl"))
    envelope = store.get(key_of("with details"))
    assert envelope is not None
    entry = unseal(envelope)
    assert (entry.tokens_in, entry.details) == (7, (5, 0, 0, 0, 0, 0, 2))


def test_a_golden_cassette_with_an_alias_is_read() -> None:
    store = JsonlStore(GOLDEN.with_name("cassette-1-with-alias.jsonl"))
    raw = store.get(key_of("alias"))
    assert raw == GOLDEN.with_name("alias.entry").read_bytes()


KEPT = [
    pytest.param(b"", None, id="nothing"),
    pytest.param(sealed("kept"), ("text", "kept"), id="an answer"),
    pytest.param(sealed("kept", request=b"\x01"), None, id="of another request"),
    pytest.param(b"no entry", None, id="no entry"),
]


@pytest.mark.parametrize(("kept", "told"), KEPT)
def test_an_alias_is_a_line_that_says_of_what(kept: bytes, told: tuple[str, str] | None) -> None:
    envelope = seal(Kind.ALIAS, Alias("a" * 64, kept).packed(), REQUEST, FACTS)
    line = line_of(envelope)
    assert (line["kind"], line["answer"]["of"]) == ("alias", "a" * 64)
    shown = line["answer"].get("kept", {})
    assert (shown.get("kind"), shown.get("answer")) == (told or (None, None))
    assert set(shown) & {"key", "seed", "request"} == set()
    assert lines.read(json.dumps(line).encode()) == envelope


@pytest.mark.parametrize(
    "answer",
    ["of", 1, {"of": 1}, {"of": "a", "kept": 1}, {"of": "a", "kept": {"base64": 1}}, {"kept": {}}],
)
def test_a_line_that_is_no_alias_is_refused(answer: Any) -> None:
    line = line_of(seal(Kind.ALIAS, Alias("a" * 64).packed(), REQUEST, FACTS))
    with pytest.raises(ValueError):  # of any message
        lines.read(json.dumps({**line, "answer": answer}).encode())


def test_details_of_tokens_are_a_member_of_the_line() -> None:
    facts = replace(FACTS, details=(5, 0, 0, 0, 0, 0, 2))
    line = line_of(sealed("", facts))
    assert line["details"] == {"cache_read_tokens": 5, "reasoning_tokens": 2}
    assert "details" not in line_of(sealed("", FACTS))


@pytest.mark.parametrize(
    "details",
    [
        pytest.param({"cache_read_tokens": -1}, id="less than nothing"),
        pytest.param({"cache_read_tokens": 1.5}, id="half a token"),
        pytest.param({"cache_read_tokens": True}, id="no number"),
        pytest.param({"cache_read_tokens": 2**32}, id="too many"),
        pytest.param([1], id="a list"),
        pytest.param(None, id="nothing"),
    ],
)
def test_details_that_are_none_are_refused(details: Any) -> None:
    line = line_of(sealed("", replace(FACTS, details=(5,))))
    with pytest.raises(ValueError):
        lines.read(json.dumps({**line, "details": details}).encode())


def test_details_of_a_later_version_are_left_out() -> None:
    line = line_of(sealed("", replace(FACTS, details=(5,))))
    line["details"]["tokens_of_tomorrow"] = 3
    assert unseal(lines.read(json.dumps(line).encode())).details == (5,)


def test_more_details_than_are_known_are_kept_as_they_are() -> None:
    envelope = sealed("", replace(FACTS, details=(1,) * 40))
    line = lines.write("0" * 64, "41", envelope)
    assert json.loads(line)["kind"] == "sealed"
    assert lines.read(line) == envelope


# -- times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "seconds"),
    [
        pytest.param("1970-01-01T00:00:00.0Z", 0.0, id="the epoch"),
        pytest.param("2000-02-29T23:59:59.25Z", 951868799.25, id="a leap day"),
        pytest.param("9999-12-31T23:59:59.0Z", 253402300799.0, id="the last year"),
        pytest.param("1969-12-31T23:59:59.0Z", -1.0, id="before the epoch"),
        pytest.param("2016-12-31T23:59:60.0Z", 1483228800.0, id="a leap second"),
        pytest.param("2026-02-30T00:00:00.0Z", None, id="no day"),
        pytest.param("2026-13-01T00:00:00.0Z", None, id="no month"),
        pytest.param("2026-01-01T24:00:00.0Z", None, id="no hour"),
        pytest.param("2026-01-01T00:60:00.0Z", None, id="no minute"),
        pytest.param("2026-01-01T00:00:62.0Z", None, id="no second"),
        pytest.param("0000-01-01T00:00:00.0Z", None, id="no year"),
        pytest.param("2026-01-01T00:00:00Z", None, id="no fraction"),
    ],
)
def test_a_time_that_somebody_wrote(shown: str, seconds: float | None) -> None:
    line = json.dumps({**line_of(sealed("a")), "created": shown}).encode()
    if seconds is None:
        with pytest.raises(ValueError, match=r"time|day|month|year"):
            lines.read(line)
    else:
        assert unseal(lines.read(line)).created == seconds
