"""What the page makes of entries: titles, pictures, and requests of one conversation that grows."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cachewrap import Cache
from cachewrap.entry import HttpAnswer
from cachewrap.request import key
from cli.filling import CommandLine, answer_of, chat, put, stream_of
from cli.test_reporting import Page

PICTURE = b"GIF89a" + struct.pack("<HH", 4, 2) + bytes(10)
ENCODED = base64.b64encode(PICTURE).decode()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"jsonl:{tmp_path / 'c.jsonl'}"


@pytest.fixture
def report(run: CommandLine, url: str, tmp_path: Path) -> Callable[[], Page]:
    """Writes the page of the cache and reads it."""

    def write() -> Page:
        out = tmp_path / "report.html"
        done = run("report", "--url", url, "-o", str(out))
        assert done.status == 0, done.err
        return Page(out)

    return write


def post(path: str, **body: Any) -> dict[str, Any]:
    return {"method": "POST", "url": f"http://up/v1/{path}", "body": {"model": "m", **body}}


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def ask(*messages: Any, **more: Any) -> dict[str, Any]:
    return post("chat/completions", messages=list(messages), **more)


def choice(message: Any) -> HttpAnswer:
    return answer_of({"choices": [{"message": message}]})


HI, BYE = said("user", "hi"), said("user", "bye")
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1,"b":2}'}}
CALLED = said("assistant", None, tool_calls=[CALL])
AGAIN = said(
    "assistant",
    "",
    tool_calls=[CALL | {"function": {"name": "f", "arguments": '{"b": 2, "a": 1}'}}],
)
GIVEN = said("tool", "x", tool_call_id="c")
USE = {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}
USED = said("assistant", [THOUGHT, USE])
DONE = {"type": "tool_result", "tool_use_id": "c", "content": "x"}
ITEM = {"type": "function_call", "call_id": "c", "id": "i", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "x"}
REASONED = {"type": "reasoning", "id": "r", "summary": []}
DELTAS = [(0.1, {"choices": [{"delta": {"content": text}}]}) for text in ("he", "llo")]
OLD = said("assistant", "hello")
GONE_ON = ask(HI, OLD, BYE)

Steps = list[tuple[dict[str, Any], HttpAnswer]]
GROWING: dict[str, tuple[Steps, list[int]]] = {
    "chat": ([(ask(HI), choice(OLD)), (GONE_ON, choice(BYE))], [0, 2]),
    "chat, a call that was written anew": (
        [
            (ask(HI), choice(CALLED)),
            (ask(HI, AGAIN, GIVEN), choice(OLD)),
        ],
        [0, 2],
    ),
    "chat, three times": (
        [
            (ask(HI), choice(OLD)),
            (GONE_ON, choice(said("assistant", "ok"))),
            (ask(HI, OLD, BYE, said("assistant", "ok"), HI), choice(OLD)),
        ],
        [0, 2, 4],
    ),
    "a stream": (
        [(ask(HI, stream=True), stream_of(DELTAS)), (GONE_ON, choice(BYE))],
        [0, 2],
    ),
    "Anthropic": (
        [
            (post("messages", system="s", messages=[HI]), answer_of(USED)),
            (
                post("messages", system="s", messages=[HI, USED, said("user", [DONE])]),
                answer_of(said("assistant", [{"type": "text", "text": "x"}])),
            ),
        ],
        [0, 3],
    ),
    "Responses": (
        [
            (post("responses", input="hi"), answer_of({"output": [REASONED, ITEM]})),
            (post("responses", input=[HI, REASONED, ITEM, OUTPUT]), answer_of({"output": []})),
        ],
        [0, 3],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("steps", "known"), GROWING.values(), ids=GROWING.keys())
def test_requests_of_a_conversation_that_grows_are_one_thread(
    url: str, report: Callable[[], Page], steps: Steps, known: list[int]
) -> None:
    keys = [put(url, request, answer) for request, answer in steps]
    put(url, *chat("another", "hello"))
    page = report()
    (thread,) = page.facts["threads"]
    assert [page.keys[at] for at, _, _ in thread] == keys
    assert [turns for _, turns, _ in thread] == known


APART: dict[str, Steps] = {
    "another answer": [
        (ask(HI), choice(said("assistant", "other"))),
        (GONE_ON, choice(BYE)),
    ],
    "another beginning": [
        (ask(BYE), choice(OLD)),
        (GONE_ON, choice(BYE)),
    ],
    "the same request": [(ask(HI, n=number), choice(OLD)) for number in range(2)],
    "no answer": [
        (ask(HI), answer_of({"choices": []})),
        (ask(HI, BYE), choice(OLD)),
    ],
}


@pytest.mark.parametrize("steps", APART.values(), ids=APART.keys())
def test_other_requests_stand_alone(url: str, report: Callable[[], Page], steps: Steps) -> None:
    for request, answer in steps:
        put(url, request, answer)
    assert report().facts["threads"] == []


def test_a_thread_may_fork(url: str, report: Callable[[], Page]) -> None:
    put(url, ask(HI), choice(OLD))
    for text in ("a", "b"):
        messages = [HI, OLD, said("user", text)]
        put(url, post("chat/completions", messages=messages), choice(said("assistant", text)))
    (thread,) = report().facts["threads"]
    assert [known for _, known, _ in thread] == [0, 2, 2]
    assert thread[0][2] == "hello"


def test_another_seed_is_another_conversation(run: CommandLine, tmp_path: Path) -> None:
    for seed, (request, answer) in enumerate(GROWING["chat"][0]):
        with Cache.disk(seed, tmp_path / "c") as cache:
            put(cache.store.url, request, answer)
    out = tmp_path / "report.html"
    run("report", "--url", f"disk:{tmp_path / 'c'}", "--all-seeds", "-o", str(out))
    page = Page(out)
    assert (len(page.lines), page.facts["threads"]) == (2, [])


TITLES: dict[str, tuple[dict[str, Any], str]] = {
    "the last of a person": (GONE_ON, "bye"),
    "not what a tool gave": (ask(HI, CALLED, GIVEN), "hi"),
    "not what a tool gave to Anthropic": (
        post("messages", messages=[HI, said("assistant", [USE]), said("user", [DONE])]),
        "hi",
    ),
    "not what a system says": (
        ask(HI, said("system", "be nice")),
        "hi",
    ),
    "the text beside a result": (
        post("messages", messages=[said("user", [DONE, {"type": "text", "text": "and now?"}])]),
        "and now?",
    ),
    "the text beside a picture": (
        ask(said("user", [{"type": "text", "text": "what?"}, {"type": "image"}])),
        "what? [image, 17 bytes]",
    ),
    "of what nobody said the last": (ask(said("system", "x")), "x"),
    "on one line": (ask(said("user", "a\n\n  b")), "a b"),
    "an embedding": (post("embeddings", input=["a", "b"]), "a b"),
    "an image": (post("images/generations", prompt="a cat"), "a cat"),
}  # fmt: skip


@pytest.mark.parametrize(("request_", "title"), TITLES.values(), ids=TITLES.keys())
def test_a_row_is_titled_by_what_a_person_said_last(
    url: str, report: Callable[[], Page], request_: dict[str, Any], title: str
) -> None:
    put(url, request_, choice(OLD))
    assert report().lines[0][11] == title


def test_a_row_tells_which_sample_it_is(url: str, report: Callable[[], Page]) -> None:
    name = put(url, ask(HI), choice(OLD), age=9.0)
    put(url, ask(HI), choice(BYE), under=key.sample_key(name, 2))
    assert [line[12] for line in report().lines] == [2, 0]


def test_what_nobody_said_is_titled_by_its_answer(url: str, report: Callable[[], Page]) -> None:
    put(url, ask(HI), choice(OLD), keep_request=False, age=9.0)
    put(url, {"key": ["autogen", "", "abc"]}, "## The **answer**", source="cache.set")
    assert [line[11] for line in report().lines] == ["→ The answer", "→ hello"]


def langchain(*messages: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    path = ["langchain", "schema", "messages"]
    prompt = [{"id": [*path, name], "kwargs": kwargs} for name, kwargs in messages]
    return {"prompt": prompt, "llm": {"params": {"model": "m"}}}


def test_what_langchain_asks_is_shown_as_messages(url: str, report: Callable[[], Page]) -> None:
    call = {"name": "f", "args": {"a": 1}, "id": "c", "type": "tool_call"}
    asked = langchain(
        ("HumanMessage", {"content": "hi", "type": "human"}),
        ("AIMessage", {"content": "", "type": "ai", "tool_calls": [call]}),
        ("ToolMessage", {"content": "x", "type": "tool", "tool_call_id": "c"}),
    )
    put(url, asked, "hello", source="langchain:model")
    page = report()
    assert page.talks[0]["asked"] == [
        ["user", "hi", 0],
        ["assistant", [["call", "f", '{"a": 1}', "c"]], 0],
        ["tool", [["result", "c", "x"]], 0],
    ]
    assert page.lines[0][11] == "hi"


IMAGE = ["image", 0, "image/gif", 4, 2, len(PICTURE)]


def test_a_picture_is_on_the_page_once_however_often_it_is_asked(url: str, report: Any) -> None:
    shown = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{ENCODED}"}}
    for number in range(3):
        put(url, ask(said("user", [shown]), n=number), choice(OLD))
    page = report()
    assert page.images == [f"data:image/gif;base64,{ENCODED}"]
    assert [talk["asked"] for talk in page.talks] == [[["user", [IMAGE], 0]]] * 3


ANSWERS = {
    "in an answer": answer_of({"data": [{"b64_json": ENCODED}]}),
    "as an answer": HttpAnswer(
        200, [("content-type", "image/gif")], [PICTURE[:9], PICTURE[9:]], []
    ),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_a_picture_that_was_made_is_shown(url: str, report: Any, answer: HttpAnswer) -> None:
    put(url, post("images/generations", prompt="x"), answer)
    assert report().talks[0]["answered"] == [["image", [IMAGE], 0]]


def test_embeddings_are_told_shortly(url: str, report: Any) -> None:
    vectors = [{"embedding": [0.5] * 8}] * 3
    put(url, post("embeddings", input=["a", "b", "c"]), answer_of({"data": vectors}))
    assert report().talks[0]["answered"] == [["embedding", "3 embeddings, each [8 numbers]", 0]]


def test_a_long_conversation_leaves_room_for_its_answer(
    url: str, report: Callable[[], Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cachewrap.cli.talk._TALK", 10)
    put(url, ask(said("user", "x" * 8), said("user", "y" * 8)), choice(OLD))
    (talk,) = report().talks
    assert talk["asked"] == [["user", "x" * 8, 0], ["user", "yy", 6]]
    assert talk["answered"] == [["assistant", "hello", 0]]


def test_the_arguments_of_a_function_have_their_names(url: str, report: Any) -> None:
    asked = {"text": "a\nb", "n": 3, "messages": [HI]}
    put(url, {"function": "m:f", "arguments": asked}, "x", source="m:f")
    given = [["messages", "[1 message]"], ["n", "3"], ["text", "a\nb"]]
    assert report().talks[0]["asked"] == [["f", [["given", given]], 0], ["user", "hi", 0]]


def test_numbers_only_hold_no_picture_and_no_thread(
    url: str, run: CommandLine, tmp_path: Path
) -> None:
    for request, answer in GROWING["chat"][0]:
        put(url, request, answer)
    put(url, post("images/generations", prompt="x"), answer_of({"data": [{"b64_json": ENCODED}]}))
    out = tmp_path / "report.html"
    run("report", "--url", url, "-o", str(out), "--no-content")
    page = Page(out)
    assert (page.facts["threads"], page.images) == ([], [])
    assert b"hello" not in page.source
