"""The journal: what a line holds, and that nobody waits for it to be written."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import warnings
from collections.abc import Iterator

import pytest

from cachewrap.errors import CacheWarning
from cachewrap.proxy import journal as journals
from cachewrap.proxy.journal import Journal, take_over
from cachewrap.proxy.settings import Served

HIT = Served(
    peer="127.0.0.1",
    method="POST",
    upstream="openai",
    path="/v1/chat/completions",
    status=200,
    outcome="hit",
    model="gpt-4o",
    key="0123456789abcdef" * 4,
    seconds=0.0012345678,
    first_seconds=0.0011,
    received=120,
    sent=4321,
)


class Written:
    """What a journal wrote."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    @property
    def lines(self) -> list[str]:
        return b"".join(self.pieces).decode().splitlines()


def written(form: str, *lines: Served | str) -> list[str]:
    to = Written()
    journal = Journal(form, to.pieces.append)
    for line in lines:
        if isinstance(line, str):
            journal.tell(line)
        else:
            journal.add(line)
    journal.close()
    return to.lines


def test_a_line_for_machines() -> None:
    (line,) = written("json", HIT)
    facts = json.loads(line)
    ts = facts.pop("ts")
    assert ts.endswith("+00:00")
    assert ts[:10] == time.strftime("%Y-%m-%d", time.gmtime())
    assert facts == {
        "client": "127.0.0.1",
        "method": "POST",
        "upstream": "openai",
        "path": "/v1/chat/completions",
        "status": 200,
        "outcome": "hit",
        "reason": "",
        "model": "gpt-4o",
        "key": "0123456789ab",
        "seconds": 0.001235,
        "first_seconds": 0.0011,
        "received": 120,
        "bytes": 4321,
        "error": "",
    }


def test_a_line_for_people() -> None:
    lines = written("text", HIT, Served(peer="::1", method="GET", path="/x", error="client left"))
    assert [line.partition(" ")[2] for line in lines] == [
        "127.0.0.1 POST /openai/v1/chat/completions 200 hit gpt-4o 0123456789ab 1.2 ms 4,321 bytes",
        "::1 GET /x - 0.0 ms 0 bytes client left",
    ]


def test_a_message_has_a_line_of_its_own_in_every_form() -> None:
    message = "the store\nis \x1bdown"
    (line,) = written("json", message)
    assert json.loads(line)["message"] == "the store\nis \\x1bdown"
    for form in ("text", "off"):
        lines = written(form, message)
        assert [lines[0][9:], *lines[1:]] == ["the store", "    is \\x1bdown"]


def test_off_is_no_line() -> None:
    assert written("off", HIT) == []


HOSTILE = [
    pytest.param('x"\n{"status": 200}', id="a-line-of-its-own"),
    pytest.param("x\r\x1b[2J", id="a-terminal"),
    pytest.param("x\x7f\x9b31m", id="a-terminal-of-eight-bits"),
    pytest.param("x\u202egpj", id="the-other-direction"),
    pytest.param("x\u2028y", id="a-separator"),
    pytest.param("x" * 100_000, id="long"),
    pytest.param("x\ud800", id="half-a-character"),
]


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("text", HOSTILE)
def test_a_client_writes_no_lines_of_its_own(form: str, text: str) -> None:
    told = Served(method=text, path=text, model=text, error=text, peer=text, reason=text)
    (line,) = written(form, told)
    assert line.isprintable()
    assert len(line) < 8000
    if form == "json":
        assert json.loads(line)["status"] == 0


def test_lines_come_in_their_order_and_whole() -> None:
    served = [Served(path=f"/{n}", status=200) for n in range(500)]
    to = Written()
    journal = Journal("json", to.pieces.append)
    for one in served:
        journal.add(one)
    journal.close()
    assert [json.loads(line)["path"] for line in to.lines] == [one.path for one in served]
    assert all(len(piece) <= 4096 and piece.endswith(b"\n") for piece in to.pieces)


def test_a_pipe_that_nobody_reads_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "_MOST", 50)
    to, go_on, stuck = Written(), threading.Event(), threading.Event()

    def write(data: bytes) -> None:
        stuck.set()
        go_on.wait(10)
        to.pieces.append(data)

    journal = Journal("json", write)
    journal.tell("first")
    stuck.wait(10)
    began = time.perf_counter()
    for _ in range(1000):
        journal.add(HIT)
    assert time.perf_counter() - began < 1
    assert journal.dropped == 950
    go_on.set()
    journal.close()
    told = [json.loads(line).get("message") for line in to.lines]
    assert (told[0], told[-1], len(told)) == ("first", "950 lines were dropped", 52)


def test_to_close_waits_for_no_pipe_for_long() -> None:
    go_on = threading.Event()
    journal = Journal("json", lambda data: go_on.wait(10))
    journal.add(HIT)
    began = time.perf_counter()
    journal.close(0.1)
    assert time.perf_counter() - began < 2
    go_on.set()


def test_a_pipe_without_an_end_is_left_alone() -> None:
    tried: list[bytes] = []

    def write(data: bytes) -> None:
        tried.append(data)
        raise BrokenPipeError

    journal = Journal("json", write)
    journal.add(HIT)
    journal.close()
    journal.add(HIT)
    assert len(tried) == 1
    assert journal.dropped == 1


def test_a_pipe_that_wants_to_be_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[int | None] = [None, 5, None]
    to = Written()

    def write(number: int, data: bytes) -> int:
        count = answers.pop(0) if answers else len(data)
        if count is None:
            raise BlockingIOError
        to.pieces.append(data[:count])
        return count

    monkeypatch.setattr(os, "write", write)
    journal = Journal("json")
    journal.add(HIT)
    journal.close()
    assert json.loads(to.lines[0])["status"] == 200


@pytest.fixture
def quiet() -> Iterator[None]:
    """What is logged and warned of goes afterwards where it went before."""
    loggers = [logging.getLogger(name) for name in ("cachewrap", "asyncio")]
    before = [(list(one.handlers), one.propagate) for one in loggers]
    with warnings.catch_warnings():
        yield
    for one, (handlers, propagate) in zip(loggers, before, strict=True):
        one.handlers[:], one.propagate = handlers, propagate


def test_warnings_and_what_is_logged_are_told(quiet: None) -> None:
    to = Written()
    journal = Journal("json", to.pieces.append)
    take_over(journal)
    warnings.warn("the store is down", CacheWarning, stacklevel=1)
    try:
        raise ValueError("no\nline")
    except ValueError:
        logging.getLogger("cachewrap.proxy").exception("POST %s", "/x")
    logging.getLogger("cachewrap.calls").info("a call")
    journal.close()
    told = [json.loads(line)["message"] for line in to.lines]
    assert told[0] == "the store is down"
    assert told[1].startswith("POST /x\nTraceback")
    assert len(told) == 2
