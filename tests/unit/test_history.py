"""Hits and misses over time: what is counted, when it is written, and what is read."""

from __future__ import annotations

import json
import pickle
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cachewrap import Cache, llm_cached
from cachewrap.entry import Outcome
from cachewrap.errors import ConfigurationError, StoreError
from cachewrap.history import History, Minute, read_history
from cachewrap.telemetry.events import Event

EVENT = Event(
    Outcome.HIT,
    "m:f",
    "gpt-4o",
    "gpt-4o-2024",
    "k",
    "41",
    "disk:///x",
    started=1_200_000.5,
    seconds=0.1,
    upstream_seconds=2.0,
    tokens_in=10,
    tokens_out=5,
)
NAME = (1_200_000, "disk:///x", "m:f", "gpt-4o-2024")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


OUTCOMES = [
    ("a hit", Outcome.HIT, Minute(*NAME, hits=1, tokens_in=10, tokens_out=5, seconds=2.0)),
    (
        "a joined call",
        Outcome.JOINED,
        Minute(*NAME, joined=1, tokens_in=10, tokens_out=5, seconds=2.0),
    ),
    ("a miss", Outcome.MISS, Minute(*NAME, misses=1)),
    ("an error", None, Minute(*NAME, errors=1)),
    ("a call that goes past", Outcome.BYPASSED, Minute(*NAME, bypassed=1)),
]


@pytest.mark.parametrize(
    ("outcome", "counted"), [o[1:] for o in OUTCOMES], ids=[o[0] for o in OUTCOMES]
)
def test_what_is_counted(path: Path, outcome: Outcome | None, counted: Minute) -> None:
    history = History(path)
    history(replace(EVENT, outcome=outcome))
    history.flush()
    assert list(read_history(path)) == [counted]


def test_a_minute_is_written_once_for_each_function_and_model(path: Path) -> None:
    history = History(path)
    for model in ("a", "b", "a"):
        history(replace(EVENT, answered_by=model))
    history.flush()
    history.flush()
    assert [(m.model, m.hits) for m in read_history(path)] == [("a", 2), ("b", 1)]


def test_nothing_is_written_before_the_minute_is_over(path: Path) -> None:
    history = History(path)
    for second in (0, 30, 59):
        history(replace(EVENT, started=1_200_000.0 + second))
    assert not path.exists()
    history(replace(EVENT, started=1_200_060.0))
    assert [m.hits for m in read_history(path)] == [3]


def test_the_file_is_its_owners_alone(path: Path) -> None:
    history = History(path)
    history(EVENT)
    history.flush()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_copy_in_another_process_counts_to_the_same_file(path: Path) -> None:
    history = pickle.loads(pickle.dumps(History(path)))
    history(EVENT)
    history.flush()
    assert len(list(read_history(path))) == 1


def test_a_cache_tells_it(path: Path) -> None:
    history = History(path)
    calls: list[str] = []

    @llm_cached
    def ask(prompt: str) -> str:
        calls.append(prompt)
        return prompt

    with Cache.memory().telling(history) as cache:
        for prompt in ("a", "b", "a"):
            ask(prompt)
    history.flush()
    (minute,) = list(read_history(path))[-1:]
    assert (calls, cache.stats.hits, minute.place) == (["a", "b"], 1, cache.url)
    assert sum(m.misses for m in read_history(path)) == 2


PROGRAM = """
import os, sys
from cachewrap import Cache, llm_cached
from cachewrap.history import History

@llm_cached
def ask(prompt):
    return prompt

def work():
    ask("a")
    ask("a")

with Cache.memory(on_event=History(sys.argv[1])):
    work()
    {more}
"""

PROCESSES = [
    ("alone", "", 1),
    ("after a fork", "pid = os.fork()\n    work()\n    pid and os.waitpid(pid, 0)", 5),
    (
        "with a worker",
        "import multiprocessing as m; p = m.get_context('fork').Process(target=work);"
        " p.start(); p.join()",
        3,
    ),
]


@pytest.mark.parametrize(
    ("more", "hits"),
    [
        pytest.param(*p, id=name, marks=[pytest.mark.posix("forks")] if "fork" in p[0] else ())
        for name, *p in PROCESSES
    ],
)
def test_what_is_left_is_written_when_a_process_ends(path: Path, more: str, hits: int) -> None:
    code = PROGRAM.format(more=more)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    counted = list(read_history(path))
    assert (sum(m.misses for m in counted), sum(m.hits for m in counted)) == (1, hits)


def test_a_file_that_cannot_be_written_costs_a_warning(tmp_path: Path) -> None:
    code = PROGRAM.format(more="")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "no" / "such" / "folder")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, "the history of calls was not written" in done.stderr) == (0, True)


def test_a_line_that_was_cut_short_is_left_out(path: Path) -> None:
    history = History(path)
    history(EVENT)
    history.flush()
    with path.open("a") as file:
        file.write('{"start": 12')
    assert len(list(read_history(path))) == 1


GOOD: dict[str, Any] = {"start": 60, "place": "", "source": "", "model": ""}
WRONG = [
    ("no JSON", b"hello\n"),
    ("another thing", b"[1]\n"),
    ("another field", json.dumps({**GOOD, "colour": 1}).encode() + b"\n"),
    ("a field missing", b'{"start": 60}\n'),
    ("a text for a number", json.dumps({**GOOD, "hits": "1"}).encode() + b"\n"),
    ("a number for a text", json.dumps({**GOOD, "model": 1}).encode() + b"\n"),
    ("less than nothing", json.dumps({**GOOD, "hits": -1}).encode() + b"\n"),
    ("not a number", json.dumps({**GOOD, "seconds": float("nan")}).encode() + b"\n"),
]


@pytest.mark.parametrize("line", [w[1] for w in WRONG], ids=[w[0] for w in WRONG])
def test_a_file_of_something_else_is_refused(path: Path, line: bytes) -> None:
    path.write_bytes(line)
    with pytest.raises(ConfigurationError, match="line 1"):
        list(read_history(path))


def test_a_file_that_is_not_there(path: Path) -> None:
    with pytest.raises(StoreError, match="cannot read"):
        list(read_history(path))
